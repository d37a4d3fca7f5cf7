//! Words of a command line, as the kernel reads them (`next_arg()` in `lib/cmdline.c`, `parse_args()` in
//! `kernel/params.c`): spaces part them, but not between quotes; those behind a `--` are init's, and no parameter is
//! looked for among them.

/// The line without parameters of these names. What is behind a `--` stays as it is.
#[must_use]
pub fn without(line: &str, names: &[&str]) -> String {
    let (own, init) = split(line);
    let kept = own.into_iter().filter(|word| !names.iter().any(|name| is(word, name)));
    kept.chain(init).collect::<Vec<_>>().join(" ")
}

/// The line with more parameters behind its own: before a `--`.
#[must_use]
pub fn with(line: &str, more: &str) -> String {
    let (own, init) = split(line);
    let more = Some(more.trim()).filter(|more| !more.is_empty());
    own.into_iter().chain(more).chain(init).collect::<Vec<_>>().join(" ")
}

/// The kernel's words, and init's with the `--` before them.
fn split(line: &str) -> (Vec<&str>, Vec<&str>) {
    let mut quoted = false;
    let between = |c: char| {
        quoted ^= c == '"';
        !quoted && matches!(c, ' ' | '\t'..='\r')
    };
    let mut words: Vec<&str> = line.split(between).filter(|word| !word.is_empty()).collect();
    let end = words.iter().position(|word| matches!(*word, "--" | "\"--\""));
    let init = words.split_off(end.unwrap_or(words.len()));
    (words, init)
}

/// Whether a word sets this parameter; the whole word may be in quotes.
fn is(word: &str, name: &str) -> bool {
    let word = word.strip_prefix('"').unwrap_or(word);
    word.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_from_what_is_quoted_and_from_init_s() {
        for (line, expected) in [
            ("", ""),
            ("quiet", "quiet"),
            ("elfcorehdr=1", ""),
            (" a  elfcorehdr=1 elfcorehdr=2\tb ", "a b"),
            ("a \"elfcorehdr=1\" b", "a b"),
            ("a xelfcorehdr=1 elfcorehdrx=1", "a xelfcorehdr=1 elfcorehdrx=1"),
            ("dyndbg=\"file a.c +p elfcorehdr=1 \" b", "dyndbg=\"file a.c +p elfcorehdr=1 \" b"),
            ("a -- elfcorehdr=1", "a -- elfcorehdr=1"),
            ("a \"-- elfcorehdr=1", "a \"-- elfcorehdr=1"),
            ("ä=ö elfcorehdr=1 ü", "ä=ö ü"),
        ] {
            assert_eq!(without(line, &["elfcorehdr"]), expected, "{line:?}");
        }
    }

    #[test]
    fn more_parameters_are_parameters() {
        for (line, more, expected) in [
            ("", "", ""),
            ("a b", " c  d ", "a b c  d"),
            ("", "c", "c"),
            ("a -- single", "c=1", "a c=1 -- single"),
            ("a \"--\" single", "c", "a c \"--\" single"),
            ("a", "-- single", "a -- single"),
            ("a --x", "c", "a --x c"),
        ] {
            assert_eq!(with(line, more), expected, "{line:?} {more:?}");
        }
    }
}
