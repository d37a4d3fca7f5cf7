//! Small pieces of text: aligned tables, sizes, words.

use std::fmt::Write;

pub use identmap_machine::human_size;

/// Colours for a terminal, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether escape sequences may be written.
    pub colour: bool,
    /// Whether sizes are given in bytes, exactly.
    pub bytes: bool,
}

/// What a piece of text stands for; the colour follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Not known, or a warning.
    Doubt,
    /// What stands back.
    Faint,
    /// A heading.
    Strong,
}

impl Style {
    /// `text` in the colour of `tone`.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        // Bold as well as coloured: told apart without seeing red and green.
        let code = match tone {
            Tone::Good => "1;32",
            Tone::Bad => "1;31",
            Tone::Doubt => "1;33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A size: exact where `bytes` is set, else as a person says it.
    #[must_use]
    pub fn size(self, bytes: u64) -> String {
        if self.bytes { bytes.to_string() } else { human_size(bytes) }
    }
}

/// A table with a heading; columns are as wide as their widest cell.
#[derive(Debug, Default)]
pub struct Columns {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Columns by name; a name that begins with `>` is set to the right.
    #[must_use]
    pub fn new(names: &[&str]) -> Columns {
        let right = names.iter().map(|name| name.starts_with('>')).collect();
        let heading = names.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Columns { right, rows: vec![heading] }
    }

    /// Adds a row; missing cells stay empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, each line behind `indent`, without spaces at line ends.
    #[must_use]
    pub fn render(&self, indent: &str, style: Style) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = indent.to_owned();
            for (column, cell) in row.iter().enumerate() {
                let pad = widths.get(column).map_or(0, |w| w - cell.chars().count());
                let right = self.right.get(column).copied().unwrap_or(false);
                let (before, after) = if right { (pad, 0) } else { (0, pad) };
                let gap = if column == 0 { 0 } else { 2 };
                let _ = write!(line, "{:gap$}{:before$}{cell}{:after$}", "", "", "");
            }
            let line = line.trim_end();
            let tone = if number == 0 { Some(Tone::Strong) } else { None };
            out.push_str(&tone.map_or(line.to_owned(), |tone| style.paint(tone, line)));
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_spaces() {
        let mut table = Columns::new(&["name", ">size", "note"]);
        table.row(vec!["a".into(), "10".into(), String::new()]);
        table.row(vec!["long".into(), "9".into(), "x".into()]);
        assert_eq!(
            table.render("  ", Style::default()),
            "  name  size  note\n  a       10\n  long     9  x\n"
        );
    }
}
