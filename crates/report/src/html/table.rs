//! Tables.

use identmap::PhysRange;

use super::Markup;

/// A column: its heading, and how its cells are set.
#[derive(Clone, Copy)]
pub(super) enum Head<'a> {
    Text(&'a str),
    Number(&'a str),
    /// Addresses: all digits of one width, never broken.
    Address(&'a str),
}

/// A cell, with the class that gives it its colour.
pub(super) type Cell = (String, Option<&'static str>);

/// Writes a table that scrolls by itself where it is too wide.
pub(super) fn write(out: &mut Markup, caption: &str, heads: &[Head<'_>], rows: &[Vec<Cell>]) {
    out.open("div", &[("class", "scroll"), ("tabindex", "0")]);
    out.open("table", &[]);
    out.open("caption", &[]);
    out.leaf("span", &[], caption);
    out.close();
    out.open("thead", &[]);
    out.open("tr", &[]);
    for head in heads {
        let (name, class) = match *head {
            Head::Text(name) => (name, "x"),
            Head::Number(name) => (name, "r"),
            Head::Address(name) => (name, "a"),
        };
        out.leaf("th", &[("scope", "col"), ("class", class)], name);
    }
    out.close();
    out.close();
    out.open("tbody", &[]);
    for row in rows {
        out.open("tr", &[]);
        for (index, (text, tone)) in row.iter().enumerate() {
            let class = match heads.get(index) {
                Some(Head::Number(_)) => "r",
                Some(Head::Address(_)) => "a",
                _ => "x",
            };
            let class = tone.map_or_else(|| class.to_owned(), |tone| format!("{class} {tone}"));
            out.leaf("td", &[("class", &class)], text);
        }
        out.close();
    }
    out.close();
    out.close();
    out.close();
}

pub(super) fn plain(text: impl Into<String>) -> Cell {
    (text.into(), None)
}

/// A range as dmesg writes it.
pub(super) fn range(range: PhysRange) -> Cell {
    plain(format!("{:#018x}-{:#018x}", range.start().get(), range.last().get()))
}
