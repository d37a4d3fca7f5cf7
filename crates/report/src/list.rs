//! Lists with columns that the user chooses, in the ways of util-linux (`lsblk`, `lsmem`): aligned, raw,
//! or as pairs for a shell.

use std::fmt::{self, Write};

use crate::text::{Columns, Style, human_size};

/// A column of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListColumn {
    /// As it is asked for, in capitals.
    pub name: &'static str,
    /// What it holds, in a few words.
    pub help: &'static str,
    /// Set to the right where columns are aligned.
    pub right: bool,
    /// Printed when nothing is asked for.
    pub usual: bool,
}

/// One value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cell {
    /// Anything.
    Text(String),
    /// A count.
    Number(u64),
    /// Bytes.
    Size(u64),
    /// An address, 16 digits.
    Address(u64),
}

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// In columns.
    Aligned,
    /// One space between cells, unsafe characters as `\xHH`.
    Raw,
    /// `NAME="value"`, as a shell reads it.
    Pairs,
}

/// A list: columns, rows, and which columns are printed in which order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    columns: &'static [ListColumn],
    rows: Vec<Vec<Cell>>,
    chosen: Vec<usize>,
}

/// There is no such column; prints those that there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownColumn {
    name: String,
    columns: &'static [ListColumn],
}

impl fmt::Display for UnknownColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown column {:?}; there are", self.name)?;
        self.columns.iter().try_for_each(|c| write!(f, "\n  {:<12} {}", c.name, c.help))
    }
}

impl core::error::Error for UnknownColumn {}

impl List {
    /// A list of rows that have a cell for each column.
    #[must_use]
    pub fn new(columns: &'static [ListColumn], rows: Vec<Vec<Cell>>) -> List {
        let usual = columns.iter().enumerate().filter(|(_, column)| column.usual);
        List { columns, rows, chosen: usual.map(|(index, _)| index).collect() }
    }

    /// Chooses columns: names in any case, separated by commas; with a `+` before the first, in
    /// addition to the usual ones.
    ///
    /// # Errors
    /// [`UnknownColumn`] for a name that is none.
    pub fn choose(&mut self, names: &str) -> Result<(), UnknownColumn> {
        let (added, names) = match names.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, names),
        };
        let find = |name: &str| {
            let is = |column: &ListColumn| column.name.eq_ignore_ascii_case(name.trim());
            let unknown = || UnknownColumn { name: name.to_owned(), columns: self.columns };
            self.columns.iter().position(is).ok_or_else(unknown)
        };
        let chosen = names.split(',').map(find).collect::<Result<Vec<usize>, UnknownColumn>>()?;
        if !added {
            self.chosen.clear();
        }
        self.chosen.extend(chosen);
        Ok(())
    }

    /// The text; without `headings` the first line is left out, and pairs have none.
    #[must_use]
    pub fn text(&self, form: Form, headings: bool, style: Style) -> String {
        match form {
            Form::Aligned => self.aligned(headings, style),
            Form::Raw => self.raw(headings, style),
            Form::Pairs => self.pairs(style),
        }
    }

    fn aligned(&self, headings: bool, style: Style) -> String {
        let names: Vec<String> = self
            .chosen()
            .map(|(_, column)| format!("{}{}", if column.right { ">" } else { "" }, column.name))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut table = Columns::new(&names);
        for row in &self.rows {
            let cells = self.chosen().map(|(index, _)| {
                let cell = row.get(index).map(|cell| cell.text(style, " ")).unwrap_or_default();
                escaped(&cell, char::is_control)
            });
            table.row(cells.collect());
        }
        let out = table.render("", style);
        if headings { out } else { out.split_once('\n').map_or("", |(_, rest)| rest).to_owned() }
    }

    fn raw(&self, headings: bool, style: Style) -> String {
        let mut out = String::new();
        if headings {
            let names: Vec<&str> = self.chosen().map(|(_, column)| column.name).collect();
            let _ = writeln!(out, "{}", names.join(" "));
        }
        for row in &self.rows {
            let cells = self.chosen().map(|(index, _)| {
                let cell = row.get(index).map(|cell| cell.text(style, "")).unwrap_or_default();
                escaped(&cell, |c| c.is_control() || c.is_whitespace() || c == '\\')
            });
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join(" "));
        }
        out
    }

    fn pairs(&self, style: Style) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let cells = self.chosen().map(|(index, column)| {
                let cell = row.get(index).map(|cell| cell.text(style, "")).unwrap_or_default();
                let unsafe_in_shell = |c: char| c.is_control() || "\"\\$`!".contains(c);
                format!("{}=\"{}\"", column.name.replace('-', "_"), escaped(&cell, unsafe_in_shell))
            });
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join(" "));
        }
        out
    }

    fn chosen(&self) -> impl Iterator<Item = (usize, &ListColumn)> {
        self.chosen.iter().filter_map(|&index| Some((index, self.columns.get(index)?)))
    }
}

impl Cell {
    fn text(&self, style: Style, space: &str) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => number.to_string(),
            Cell::Size(bytes) if style.bytes => bytes.to_string(),
            Cell::Size(bytes) => human_size(*bytes).replace(' ', space),
            Cell::Address(addr) => format!("{addr:#018x}"),
        }
    }
}

/// The bytes of characters that are `bad` as `\xHH`.
fn escaped(text: &str, bad: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if bad(c) {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A column that is set to the left.
pub(crate) const fn left(name: &'static str, help: &'static str, usual: bool) -> ListColumn {
    ListColumn { name, help, right: false, usual }
}

/// A column that is set to the right.
pub(crate) const fn right(name: &'static str, help: &'static str, usual: bool) -> ListColumn {
    ListColumn { name, help, right: true, usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[ListColumn] = &[
        left("NAME", "what", true),
        right("SIZE", "bytes", true),
        left("AT", "where", false),
        left("GB-PAGES", "whether", false),
    ];

    fn list() -> List {
        let row = |name: &str, size, at| {
            let text = Cell::Text("on".to_owned());
            vec![Cell::Text(name.to_owned()), Cell::Size(size), Cell::Address(at), text]
        };
        List::new(COLUMNS, vec![row("a b", 1536 << 20, 0x1000), row("$(x)\n\"é", 360, 0)])
    }

    #[test]
    fn aligned_as_people_read_it() {
        let style = Style::default();
        let text = list().text(Form::Aligned, true, style);
        assert_eq!(text, "NAME           SIZE\na b         1.5 GiB\n$(x)\\x0a\"é    360 B\n");
        let text = list().text(Form::Aligned, false, Style { bytes: true, ..style });
        assert_eq!(text, "a b         1610612736\n$(x)\\x0a\"é         360\n");
    }

    #[test]
    fn raw_and_pairs_as_programs_read_them() {
        let mut list = list();
        list.choose("at,NAME,size,gb-pages").unwrap();
        let style = Style::default();
        assert_eq!(
            list.text(Form::Raw, true, style),
            "AT NAME SIZE GB-PAGES\n0x0000000000001000 a\\x20b 1.5GiB on\n\
             0x0000000000000000 $(x)\\x0a\"é 360B on\n"
        );
        assert_eq!(
            list.text(Form::Pairs, true, style).lines().nth(1),
            Some(
                "AT=\"0x0000000000000000\" NAME=\"\\x24(x)\\x0a\\x22é\" SIZE=\"360B\" GB_PAGES=\"on\""
            )
        );
    }

    #[test]
    fn columns_are_chosen_added_or_refused() {
        let mut list = list();
        list.choose("+at").unwrap();
        assert!(list.text(Form::Raw, true, Style::default()).starts_with("NAME SIZE AT\n"));
        let error = list.choose("at,nope").unwrap_err();
        assert!(error.to_string().contains("\"nope\"") && error.to_string().contains("GB-PAGES"));
        assert!(list.choose("").is_err());
        assert!(list.choose("+").is_err());
    }
}
