//! `identmap fleet`: one row a machine, the rows summed up by hardware, firmware and cause.

mod formats;
mod summary;

use std::collections::BTreeMap;

use identmap_audit::{Audit, Severity, Verdict};
use identmap_machine::Machine;
use serde::Serialize;

use crate::text::Style;
use summary::Summary;

/// How a machine fared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetVerdict {
    /// Safe.
    Safe,
    /// It cannot be told.
    Unknown,
    /// What was given cannot be read.
    Unreadable,
    /// Unsafe.
    Unsafe,
}

impl FleetVerdict {
    /// All, worst first.
    pub const ALL: [FleetVerdict; 4] =
        [FleetVerdict::Unsafe, FleetVerdict::Unreadable, FleetVerdict::Unknown, FleetVerdict::Safe];

    /// `safe`, `unknown`, `unreadable` or `unsafe`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            FleetVerdict::Safe => "safe",
            FleetVerdict::Unknown => "unknown",
            FleetVerdict::Unreadable => "unreadable",
            FleetVerdict::Unsafe => "unsafe",
        }
    }

    /// The exit status that `identmap check` ends with on such a machine.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            FleetVerdict::Safe => 0,
            FleetVerdict::Unsafe => 1,
            FleetVerdict::Unreadable => 2,
            FleetVerdict::Unknown => 3,
        }
    }
}

/// One machine. Schema `identmap.fleet/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FleetRow {
    schema: &'static str,
    source: String,
    verdict: FleetVerdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    /// Ids of the findings that make the verdict; of a safe machine, of its warnings. Sorted.
    causes: Vec<&'static str>,
    /// The first of them in words; why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How many findings there are, by id.
    findings: BTreeMap<&'static str, u64>,
}

impl FleetRow {
    /// Of a machine that was judged.
    #[must_use]
    pub fn judged(machine: &Machine, audit: &Audit) -> FleetRow {
        let decides = |verdict: Verdict| {
            move |f: &&identmap_audit::Finding| {
                if verdict == Verdict::Safe {
                    f.severity == Severity::Warning
                } else {
                    f.verdict() == verdict
                }
            }
        };
        let deciding = || audit.findings.iter().filter(decides(audit.verdict));
        let mut causes: Vec<&'static str> = deciding().map(|finding| finding.id).collect();
        causes.sort_unstable();
        causes.dedup();
        let mut findings = BTreeMap::new();
        for finding in &audit.findings {
            *findings.entry(finding.id).or_default() += 1;
        }
        FleetRow {
            schema: SCHEMA,
            source: machine.source.clone(),
            verdict: match audit.verdict {
                Verdict::Safe => FleetVerdict::Safe,
                Verdict::Unknown => FleetVerdict::Unknown,
                Verdict::Unsafe => FleetVerdict::Unsafe,
            },
            hardware: machine.hardware.as_deref().map(one_line),
            firmware: machine.firmware.as_deref().map(one_line),
            kernel: machine.kernel.as_deref().map(one_line),
            causes,
            reason: deciding().next().map(|finding| one_line(&finding.what)),
            findings,
        }
    }

    /// Of a file that cannot be read.
    #[must_use]
    pub fn unreadable(source: &str, error: &str) -> FleetRow {
        // The lines after the first show the place with a caret.
        let first = error.lines().next().unwrap_or_default();
        let why = first.strip_prefix(source).map_or(first, |rest| rest.trim_start_matches(':'));
        FleetRow {
            schema: SCHEMA,
            source: source.to_owned(),
            verdict: FleetVerdict::Unreadable,
            hardware: None,
            firmware: None,
            kernel: None,
            causes: Vec::new(),
            reason: Some(one_line(why.trim_start())),
            findings: BTreeMap::new(),
        }
    }

    /// Where it was read.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How it fared.
    #[must_use]
    pub fn verdict(&self) -> FleetVerdict {
        self.verdict
    }
}

const SCHEMA: &str = "identmap.fleet/1";

/// Texts of machines are theirs: no control character of theirs breaks a line or a terminal.
fn one_line(text: &str) -> String {
    const MOST: usize = 240;
    printable(text).chars().take(MOST).collect()
}

/// Names of files are whoever's: the same for them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FleetFormat {
    /// A summary for people.
    Text,
    /// A line of JSON for each machine.
    Json,
    /// Metrics in the text format of Prometheus.
    Prometheus,
    /// `JUnit`'s XML.
    Junit,
    /// The Test Anything Protocol, version 13.
    Tap,
}

impl FleetFormat {
    /// Whether everything is printed when the last machine is done.
    #[must_use]
    pub fn is_at_end(self) -> bool {
        matches!(self, FleetFormat::Text | FleetFormat::Prometheus | FleetFormat::Junit)
    }
}

/// Rows in, text out: a piece with each row, where the format allows it, the rest at the end.
#[derive(Debug)]
pub struct FleetReport {
    format: FleetFormat,
    style: Style,
    total: usize,
    number: usize,
    summary: Summary,
    /// What a format prints of single machines at the end.
    kept: String,
}

impl FleetReport {
    /// For `total` machines.
    #[must_use]
    pub fn new(format: FleetFormat, style: Style, total: usize) -> FleetReport {
        FleetReport {
            format,
            style,
            total,
            number: 0,
            summary: Summary::default(),
            kept: String::new(),
        }
    }

    /// What comes first.
    #[must_use]
    pub fn start(&self) -> String {
        match self.format {
            FleetFormat::Tap => formats::tap_plan(self.total),
            _ => String::new(),
        }
    }

    /// Takes up the next machine; what can be printed by now. The order of rows is that of the output.
    pub fn row(&mut self, row: &FleetRow) -> String {
        self.number += 1;
        match self.format {
            FleetFormat::Json => return formats::json_line(row),
            FleetFormat::Tap => return formats::tap_line(self.number, row),
            FleetFormat::Text => {}
            FleetFormat::Prometheus => self.kept.push_str(&formats::prometheus_line(row)),
            FleetFormat::Junit => self.kept.push_str(&formats::junit_case(row)),
        }
        self.summary.add(row);
        String::new()
    }

    /// What comes last.
    #[must_use]
    pub fn end(self) -> String {
        match self.format {
            FleetFormat::Json | FleetFormat::Tap => String::new(),
            FleetFormat::Text => self.summary.text(self.style),
            FleetFormat::Prometheus => formats::prometheus(&self.summary, &self.kept),
            FleetFormat::Junit => formats::junit(&self.summary, &self.kept),
        }
    }
}
