//! Text for people: wrapped lines.

/// Widest line that is written.
const WIDTH: usize = 100;

/// `text` in lines of at most 100 columns behind `indent` spaces; lines after the first
/// begin with `hang` too. Words longer than a line stay whole.
pub(crate) fn wrapped(text: &str, indent: usize, hang: &str) -> String {
    wrapped_to(text, indent, hang, WIDTH)
}

/// The same, to another width.
pub(crate) fn wrapped_to(text: &str, indent: usize, hang: &str, width: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            out.push_str(&line);
            out.push('\n');
            line = format!("{}{hang}", " ".repeat(indent));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    if !empty {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_the_width_and_words_stay_whole() {
        let text = "word ".repeat(60) + &"x".repeat(150);
        let out = wrapped(&text, 4, "  ");
        assert!(out.lines().count() > 3);
        for line in out.lines().filter(|line| !line.contains('x')) {
            assert!(line.len() <= WIDTH && line.starts_with("    "), "{line:?}");
        }
        assert!(out.contains(&"x".repeat(150)));
        assert_eq!(wrapped("", 4, ""), "");
    }
}
