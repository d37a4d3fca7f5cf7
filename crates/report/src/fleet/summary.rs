//! Machines that are alike, counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{FleetRow, FleetVerdict, printable};
use crate::text::{Columns, Style, Tone};

/// Most groups, and most unreadable files, that the text lists; JSON has every machine.
const MOST_GROUPS: usize = 60;
const MOST_FILES: usize = 20;

/// Counts, and groups of machines with the same hardware, firmware and causes. Grows with the kinds of
/// machines, not with their number.
#[derive(Debug, Default)]
pub(super) struct Summary {
    counts: BTreeMap<FleetVerdict, u64>,
    /// Machines by deciding finding and verdict.
    pub(super) causes: BTreeMap<(&'static str, FleetVerdict), u64>,
    groups: BTreeMap<Key, Group>,
    unreadable: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    verdict: FleetVerdict,
    hardware: Option<String>,
    firmware: Option<String>,
    causes: Vec<&'static str>,
}

#[derive(Debug)]
struct Group {
    machines: u64,
    example: String,
}

impl Summary {
    pub(super) fn add(&mut self, row: &FleetRow) {
        *self.counts.entry(row.verdict).or_default() += 1;
        for &cause in &row.causes {
            *self.causes.entry((cause, row.verdict)).or_default() += 1;
        }
        if row.verdict == FleetVerdict::Unreadable {
            if self.unreadable.len() < MOST_FILES {
                self.unreadable
                    .push((printable(&row.source), row.reason.clone().unwrap_or_default()));
            }
            return;
        }
        let key = Key {
            verdict: row.verdict,
            hardware: row.hardware.clone(),
            firmware: row.firmware.clone(),
            causes: row.causes.clone(),
        };
        let new = || Group { machines: 0, example: printable(&row.source) };
        self.groups.entry(key).or_insert_with(new).machines += 1;
    }

    /// Machines with this verdict.
    pub(super) fn count(&self, verdict: FleetVerdict) -> u64 {
        self.counts.get(&verdict).copied().unwrap_or(0)
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn text(&self, style: Style) -> String {
        let mut out = format!("machines  {}\n", self.total());
        for verdict in FleetVerdict::ALL {
            let count = self.count(verdict);
            let tone = match verdict {
                _ if count == 0 => Tone::Faint,
                FleetVerdict::Safe => Tone::Good,
                FleetVerdict::Unsafe => Tone::Bad,
                FleetVerdict::Unknown | FleetVerdict::Unreadable => Tone::Doubt,
            };
            let word = style.paint(tone, &format!("{:<10}", verdict.word()));
            let _ = writeln!(out, "  {word}  {count:>7}");
        }
        out.push('\n');
        out.push_str(&self.causes_table(style));
        out.push_str(&self.groups_table(style));
        let count = self.count(FleetVerdict::Unreadable);
        if count > 0 {
            let _ = writeln!(out, "\nunreadable");
            for (source, why) in &self.unreadable {
                let _ = writeln!(out, "  {source}: {why}");
            }
            if count > MOST_FILES as u64 {
                let _ = writeln!(out, "  and {} more", count - MOST_FILES as u64);
            }
        }
        out
    }

    fn causes_table(&self, style: Style) -> String {
        if self.causes.is_empty() {
            return String::new();
        }
        let mut causes: Vec<_> = self.causes.iter().collect();
        causes.sort_by_key(|((id, verdict), count)| {
            (std::cmp::Reverse(*verdict), std::cmp::Reverse(**count), *id)
        });
        let mut table = Columns::new(&["cause", "verdict", ">machines"]);
        for ((id, verdict), count) in causes {
            table.row(vec![(*id).to_owned(), verdict.word().to_owned(), count.to_string()]);
        }
        table.render("", style) + "\n"
    }

    fn groups_table(&self, style: Style) -> String {
        let mut groups: Vec<(&Key, &Group)> = self.groups.iter().collect();
        // Worst first, then the most machines, then by name.
        groups.sort_by(|(a, a_group), (b, b_group)| {
            let verdict = b.verdict.cmp(&a.verdict);
            verdict.then(b_group.machines.cmp(&a_group.machines)).then_with(|| a.cmp(b))
        });
        let mut table =
            Columns::new(&["verdict", ">machines", "hardware", "firmware", "cause", "for example"]);
        let text = |text: &Option<String>| {
            text.as_deref().map_or_else(|| "-".to_owned(), |text| shortened(text, 40))
        };
        for (key, group) in groups.iter().take(MOST_GROUPS) {
            let causes = if key.causes.is_empty() { "-".to_owned() } else { key.causes.join(",") };
            table.row(vec![
                key.verdict.word().to_owned(),
                group.machines.to_string(),
                text(&key.hardware),
                text(&key.firmware),
                causes,
                group.example.clone(),
            ]);
        }
        let mut out = if groups.is_empty() { String::new() } else { table.render("", style) };
        if let Some(more @ 1..) = groups.len().checked_sub(MOST_GROUPS) {
            let _ = writeln!(out, "and {more} more groups; --json has a line for every machine");
        }
        out
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
