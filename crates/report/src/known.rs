//! `identmap known`: combinations that are known to fail.

use std::fmt::Write;

use identmap_audit::{KnownBad, Stretch};
use identmap_linux::history::Proof;
use serde::Serialize;

use crate::list::{Cell, List, ListColumn, left};
use crate::text::{Style, Tone};
use crate::wrap::wrapped;

/// The schema `identmap.known/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KnownReport {
    schema: &'static str,
    known: Vec<KnownRow>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct KnownRow {
    id: &'static str,
    what: &'static str,
    ends: &'static str,
    machine: &'static str,
    producers: Vec<StretchRow>,
    /// Empty where it does not matter which kernel follows.
    consumers: Vec<ConsumersRow>,
    /// The finding that `check` has of it.
    finding: &'static str,
    remedy: &'static str,
    evidence: Vec<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct ConsumersRow {
    /// Under which condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    releases: Vec<StretchRow>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct StretchRow {
    /// First release.
    from: String,
    /// First release after them; missing if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// Whether the bounds were read, or follow from others.
    read: bool,
    #[serde(skip)]
    words: String,
}

const COLUMNS: &[ListColumn] = &[
    left("ID", "by which findings name it", true),
    left("ENDS", "how the jump ends", true),
    left("FINDING", "the finding that check has of it", true),
    left("MACHINE", "on which machines", true),
    left("WHAT", "what goes wrong", false),
    left("PRODUCERS", "the kernels that do so; ? for what is not verified", false),
    left("CONSUMERS", "the kernels that suffer", false),
    left("REMEDY", "what to do", false),
    left("EVIDENCE", "reports, commits, cells of the lab", false),
];

impl KnownReport {
    /// Lists them.
    pub fn new<'a>(known: impl Iterator<Item = &'a KnownBad>) -> KnownReport {
        KnownReport { schema: "identmap.known/1", known: known.map(row).collect() }
    }

    /// One line each.
    #[must_use]
    pub fn list(&self) -> List {
        let row = |row: &KnownRow| {
            let text = |text: &str| Cell::Text(text.to_owned());
            vec![
                text(row.id),
                text(row.ends),
                text(row.finding),
                text(row.machine),
                text(row.what),
                Cell::Text(words(&row.producers)),
                Cell::Text(row.consumers_in_words().join("; ")),
                text(row.remedy),
                Cell::Text(row.evidence.join(" ")),
            ]
        };
        List::new(COLUMNS, self.known.iter().map(row).collect())
    }

    /// A block for each.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut blocks = Vec::new();
        for row in &self.known {
            let mut out = String::new();
            let _ = writeln!(out, "{}", style.paint(Tone::Strong, row.id));
            let mut line = |name: &str, text: &str| {
                let text = wrapped(text, 13, "");
                let _ = write!(out, "  {name:<11}{}", text.trim_start());
            };
            line("what", row.what);
            line("ends", row.ends);
            line("machine", row.machine);
            line("from", &words(&row.producers));
            for (index, to) in row.consumers_in_words().iter().enumerate() {
                line(if index == 0 { "to" } else { "" }, to);
            }
            line("check says", row.finding);
            line("do", row.remedy);
            for (index, evidence) in row.evidence.iter().enumerate() {
                line(if index == 0 { "evidence" } else { "" }, evidence);
            }
            blocks.push(out);
        }
        blocks.join("\n")
    }
}

impl KnownRow {
    fn consumers_in_words(&self) -> Vec<String> {
        if self.consumers.is_empty() {
            return vec!["any kernel".to_owned()];
        }
        let of = |consumers: &ConsumersRow| match &consumers.condition {
            Some(condition) => format!("if {condition}: {}", words(&consumers.releases)),
            None => words(&consumers.releases),
        };
        self.consumers.iter().map(of).collect()
    }
}

fn words(stretches: &[StretchRow]) -> String {
    let of = |row: &StretchRow| format!("{}{}", row.words, if row.read { "" } else { " (?)" });
    stretches.iter().map(of).collect::<Vec<_>>().join(", ")
}

fn row(known: &KnownBad) -> KnownRow {
    let consumers = known.consumers().into_iter().map(|(condition, stretches)| ConsumersRow {
        condition,
        releases: stretches.iter().map(stretch_row).collect(),
    });
    KnownRow {
        id: known.id,
        what: known.what,
        ends: known.ends,
        machine: known.machine,
        producers: known.producers().iter().map(stretch_row).collect(),
        consumers: consumers.collect(),
        finding: known.finding,
        remedy: known.remedy,
        evidence: known.evidence.to_vec(),
    }
}

fn stretch_row(stretch: &Stretch) -> StretchRow {
    StretchRow {
        from: stretch.releases.from.to_string(),
        before: stretch.releases.before.map(|before| before.to_string()),
        read: stretch.proof == Proof::Read,
        words: stretch.releases.to_string(),
    }
}
