//! What went wrong while a text was read: where, what stands there, what was expected.

use core::fmt;

/// Longest excerpt of an offending line that is kept, in characters.
const EXCERPT_CHARS: usize = 120;

/// An input that cannot be read as a machine.
///
/// Printed as `source:line:column: message`, then the line and a caret below
/// the characters meant. Where the input is not text, or nothing in it was
/// recognised, [`line`](Self::line) is 0 and only the message is printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Name of the input, as given by the caller, without control characters.
    pub source: String,
    /// Line, counted from 1; 0 if no line is to blame.
    pub line: usize,
    /// First character meant, counted from 1 in the line as it stands in the input, without
    /// terminal escapes and NULs; 0 if no line is to blame.
    pub column: usize,
    /// The line or, if it is long, the part of it around the column: at most 120 characters and two ellipses.
    pub excerpt: String,
    /// Characters of [`excerpt`](Self::excerpt) before the caret.
    pub caret: usize,
    /// Number of characters meant, at least 1 where a line is to blame.
    pub width: usize,
    /// What was expected, and what was found.
    pub message: String,
}

impl ParseError {
    /// An error of the input as a whole.
    pub(crate) fn whole(source: &str, message: impl Into<String>) -> ParseError {
        ParseError {
            source: source.chars().map(printable).collect(),
            line: 0,
            column: 0,
            excerpt: String::new(),
            caret: 0,
            width: 0,
            message: message.into(),
        }
    }

    /// An error at byte `at` (length `len`) of the text `line`.
    pub(crate) fn at_line(source: &str, number: usize, line: &str, bad: &Bad) -> ParseError {
        let at = floor_boundary(line, bad.at);
        let end = floor_boundary(line, at.saturating_add(bad.len)).max(at);
        let before = line[..at].chars().count();
        let width = line[at..end].chars().count().clamp(1, EXCERPT_CHARS / 2);
        let total = before + line[at..].chars().count();
        // The window starts so that the caret has room on both sides.
        let start = if total <= EXCERPT_CHARS || before < EXCERPT_CHARS / 2 {
            0
        } else {
            before.saturating_sub(EXCERPT_CHARS / 2).min(total.saturating_sub(EXCERPT_CHARS))
        };
        let mut excerpt = String::new();
        if start > 0 {
            excerpt.push('…');
        }
        excerpt.extend(line.chars().skip(start).take(EXCERPT_CHARS).map(printable));
        if total > start + EXCERPT_CHARS {
            excerpt.push('…');
        }
        ParseError {
            source: source.chars().map(printable).collect(),
            line: number,
            column: before + 1,
            excerpt,
            caret: before - start + usize::from(start > 0),
            width,
            message: bad.expected.clone(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.source, self.message);
        }
        let number = self.line.to_string();
        let gutter = number.len();
        writeln!(f, "{}:{}:{}: {}", self.source, self.line, self.column, self.message)?;
        writeln!(f, " {number} | {}", self.excerpt)?;
        write!(f, " {:gutter$} | {:caret$}", "", "", caret = self.caret)?;
        f.write_str(&"^".repeat(self.width))
    }
}

impl core::error::Error for ParseError {}

/// What a parser of one line complains about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bad {
    /// First byte meant.
    pub(crate) at: usize,
    /// Number of bytes meant.
    pub(crate) len: usize,
    /// What was expected.
    pub(crate) expected: String,
    /// The line ended too early: it may be cut, or wrapped by a mail program.
    pub(crate) ended: bool,
}

impl Bad {
    /// Whether the complaint is about the end of a line of `len` bytes: it may have been cut there.
    pub(super) fn reaches(&self, len: usize) -> bool {
        self.ended || self.at.saturating_add(self.len) >= len
    }
}

/// One character as it may be shown: controls would move the caret or the terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(at: usize, len: usize) -> Bad {
        Bad { at, len, expected: "expected a hexadecimal address".to_owned(), ended: false }
    }

    #[test]
    fn the_caret_stands_below_the_characters_meant() {
        let line = "BIOS-e820: [mem 0xzz-0xff] usable";
        let shown = ParseError::at_line("boot.txt", 12, line, &bad(16, 4)).to_string();
        let expected = "boot.txt:12:17: expected a hexadecimal address\n \
                        12 | BIOS-e820: [mem 0xzz-0xff] usable\n    \
                        |                 ^^^^";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret_and_bounded() {
        let line = format!("{}0xzz{}", "x".repeat(5000), "y".repeat(1 << 20));
        let error = ParseError::at_line("f", 1, &line, &bad(5000, 4));
        assert!(error.excerpt.chars().count() <= EXCERPT_CHARS + 2);
        let under: String = error.excerpt.chars().skip(error.caret).take(4).collect();
        assert_eq!(under, "0xzz");
        assert_eq!(error.column, 5001);
    }

    #[test]
    fn spans_outside_the_line_or_inside_a_character_do_not_panic() {
        for (at, len) in [(0, 0), (3, 1), (4, 1), (100, usize::MAX), (usize::MAX, 5)] {
            let error = ParseError::at_line("f", 1, "ab\u{e9}\u{1b}", &bad(at, len));
            assert!(error.width >= 1);
            let _ = error.to_string();
        }
    }
}
