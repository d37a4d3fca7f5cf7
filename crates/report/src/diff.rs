//! `identmap diff`: what differs between two machines, or between the maps of one.

use std::fmt::Write;

use identmap_machine::{Diff, MapDiff, MemType};
use serde::Serialize;

use crate::hex::HexRange;
use crate::map::range_text;
use crate::text::{Columns, Style};

/// The schema `identmap.diff/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DiffReport {
    schema: &'static str,
    /// What was compared: two machines, or the maps of one.
    sources: Vec<String>,
    same: bool,
    /// Facts that differ.
    facts: Vec<FactRow>,
    /// Ranges whose type differs, one word for each source; null where it does not describe them.
    ranges: Vec<RangeRow>,
    /// Facts that only one of the two knows.
    one_sided: Vec<String>,
    /// Whether memory could be compared at all.
    memory_known: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct FactRow {
    name: String,
    before: String,
    after: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct RangeRow {
    #[serde(flatten)]
    range: HexRange,
    types: Vec<Option<String>>,
}

impl DiffReport {
    /// Two machines.
    #[must_use]
    pub fn of_machines(a: &str, b: &str, diff: &Diff) -> DiffReport {
        let facts = diff.facts.iter().map(|fact| FactRow {
            name: fact.name.clone(),
            before: fact.before.clone(),
            after: fact.after.clone(),
        });
        let ranges = diff.layout.iter().flatten().map(|change| RangeRow {
            range: change.range.into(),
            types: vec![word(change.before), word(change.after)],
        });
        DiffReport {
            schema: "identmap.diff/1",
            sources: vec![a.to_owned(), b.to_owned()],
            same: diff.is_same(),
            facts: facts.collect(),
            ranges: ranges.collect(),
            one_sided: diff.one_sided.clone(),
            memory_known: diff.layout.is_some(),
        }
    }

    /// The maps of one machine.
    #[must_use]
    pub fn of_maps(diff: &MapDiff) -> DiffReport {
        let ranges = diff.rows.iter().map(|row| RangeRow {
            range: row.range.into(),
            types: row.kinds.iter().map(|kind| word(*kind)).collect(),
        });
        DiffReport {
            schema: "identmap.diff/1",
            sources: diff.sources.iter().map(ToString::to_string).collect(),
            same: diff.rows.is_empty(),
            facts: Vec::new(),
            ranges: ranges.collect(),
            one_sided: Vec::new(),
            memory_known: !diff.sources.is_empty(),
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.same
    }

    /// Whether memory could be compared.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.memory_known
    }

    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        if !self.facts.is_empty() {
            let mut table = Columns::new(&["fact", "before", "after"]);
            for fact in &self.facts {
                table.row(vec![fact.name.clone(), fact.before.clone(), fact.after.clone()]);
            }
            out.push_str(&table.render("", style));
            out.push('\n');
        }
        if !self.ranges.is_empty() {
            let mut names = vec!["range", ">size"];
            names.extend(self.sources.iter().map(String::as_str));
            let mut table = Columns::new(&names);
            for row in &self.ranges {
                let bytes = row.range.end.0 - row.range.start.0 + 1;
                let mut cells = vec![range_text(&row.range), style.size(bytes)];
                cells.extend(row.types.iter().map(|t| t.clone().unwrap_or_else(|| "-".to_owned())));
                table.row(cells);
            }
            out.push_str(&table.render("", style));
        }
        if !self.memory_known {
            out.push_str("memory: cannot be compared, one of the two has no memory map\n");
        } else if self.same {
            let _ = match &self.sources[..] {
                [one] => writeln!(out, "one map only: {one}"),
                several => writeln!(out, "no difference: {}", several.join(", ")),
            };
        }
        if !self.one_sided.is_empty() {
            let _ = writeln!(out, "known on one side only: {}", self.one_sided.join(", "));
        }
        out
    }
}

fn word(kind: Option<MemType>) -> Option<String> {
    kind.map(|kind| kind.to_string())
}
