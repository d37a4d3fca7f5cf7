//! `identmap diagnose`: which missing ranges are necessary, and the rule behind them.

use std::fmt::Write;

use identmap::PhysRange;
use identmap_audit::{Diagnosis, Ended, Generalised, Trial};
use serde::Serialize;

use crate::hex::HexRange;
use crate::map::range_text;
use crate::text::{Style, Tone};
use crate::wrap::wrapped;

/// The schema `identmap.diagnose/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DiagnoseReport {
    schema: &'static str,
    answer: &'static str,
    source: String,
    producer: String,
    consumer: String,
    /// `preflight` or `rules`.
    by: &'static str,
    producers: Vec<ProducerRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assumptions: Vec<String>,
}

/// One producer that is possible, diagnosed.
#[derive(Clone, Debug)]
pub struct Diagnosed {
    /// What it does, in a few words.
    pub label: String,
    /// What is missing.
    pub diagnosis: Diagnosis,
    /// The rules behind that.
    pub general: Generalised,
    /// What lies on each entry's page, by entry.
    pub what: Vec<String>,
    /// Which releases of Linux request what each rule does, by rule; empty where none does.
    pub linux: Vec<String>,
}

/// What a diagnosis comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Missing {
    /// Nothing is missing.
    Nothing,
    /// It cannot be told.
    Unknown,
    /// Entries are missing, or no entry helps.
    Something,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ProducerRow {
    producer: String,
    answer: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    trials: u32,
    proved: bool,
    entries: Vec<EntryRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<ConflictRow>,
    rules: Vec<RuleRow>,
    /// Whether all that the rules request makes it safe, in place of the entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_make_it_safe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_conflict: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct EntryRow {
    #[serde(flatten)]
    range: HexRange,
    what: String,
    /// How it ends with the other entries and without this one.
    without: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ConflictRow {
    #[serde(flatten)]
    range: HexRange,
    reaches: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct RuleRow {
    id: &'static str,
    rule: &'static str,
    ranges: Vec<HexRange>,
    #[serde(skip_serializing_if = "String::is_empty")]
    linux: String,
}

impl DiagnoseReport {
    /// Sums up the diagnoses of every producer that is possible.
    #[must_use]
    pub fn new(
        source: &str,
        producer: String,
        consumer: String,
        by_runs: bool,
        all: &[Diagnosed],
        assumptions: Vec<String>,
    ) -> DiagnoseReport {
        DiagnoseReport {
            schema: "identmap.diagnose/1",
            answer: match missing(all) {
                Missing::Nothing => "nothing-missing",
                Missing::Unknown => "unknown",
                Missing::Something => "missing",
            },
            source: source.to_owned(),
            producer,
            consumer,
            by: if by_runs { "preflight" } else { "rules" },
            producers: all.iter().map(row).collect(),
            assumptions,
        }
    }

    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "machine   {}", self.source);
        let _ = writeln!(out, "producer  {}", self.producer);
        let _ = writeln!(out, "consumer  {}", self.consumer);
        let by = if self.by == "preflight" {
            "runs of the consumer's first instructions"
        } else {
            "rules about kernels; with a KERNEL its first instructions are run instead"
        };
        let _ = writeln!(out, "by        {by}");
        let mut shown: Vec<(&ProducerRow, Vec<&str>)> = Vec::new();
        for row in &self.producers {
            match shown.iter_mut().find(|(first, _)| first.says_the_same(row)) {
                Some((_, labels)) => labels.push(&row.producer),
                None => shown.push((row, vec![&row.producer])),
            }
        }
        for (row, labels) in shown {
            out.push('\n');
            row.text(&labels, &mut out, style);
        }
        if !self.assumptions.is_empty() {
            out.push('\n');
        }
        for assumption in &self.assumptions {
            let _ = writeln!(out, "supposed  {assumption}");
        }
        out
    }
}

/// The worst over all producers that are possible.
#[must_use]
pub fn missing(all: &[Diagnosed]) -> Missing {
    let of = |d: &Diagnosed| match (&d.diagnosis.ended, d.diagnosis.entries.is_empty()) {
        (Ended::Safe, true) => Missing::Nothing,
        (Ended::Unknown(_), true) => Missing::Unknown,
        (Ended::Safe | Ended::Unknown(_), false)
        | (Ended::Fails(_) | Ended::Conflict { .. }, _) => Missing::Something,
    };
    all.iter().map(of).max().unwrap_or(Missing::Unknown)
}

fn row(diagnosed: &Diagnosed) -> ProducerRow {
    let Diagnosis { entries, ended, trials } = &diagnosed.diagnosis;
    let (answer, why, conflict) = match ended {
        Ended::Safe if entries.is_empty() => ("nothing-missing", None, None),
        Ended::Safe => ("safe-with-entries", None, None),
        Ended::Fails(why) => ("no-entry-helps", Some(why.clone()), None),
        Ended::Unknown(why) => ("unknown", Some(why.clone()), None),
        Ended::Conflict { page, why } => {
            ("conflict", None, Some(ConflictRow { range: (*page).into(), reaches: why.clone() }))
        }
    };
    let entry = |(index, entry): (usize, &identmap_audit::Entry)| EntryRow {
        range: entry.page.into(),
        what: diagnosed.what.get(index).cloned().unwrap_or_default(),
        without: trial_text(&entry.without),
    };
    let general = &diagnosed.general;
    let mended = *ended == Ended::Safe && !general.rules.is_empty();
    let rule = |(index, rule): (usize, &identmap_audit::General)| RuleRow {
        id: rule.id,
        rule: rule.rule,
        ranges: rule.ranges.iter().map(|&range: &PhysRange| range.into()).collect(),
        linux: diagnosed.linux.get(index).cloned().unwrap_or_default(),
    };
    ProducerRow {
        producer: diagnosed.label.clone(),
        answer,
        why,
        trials: *trials,
        proved: diagnosed.diagnosis.is_proved(),
        entries: entries.iter().enumerate().map(entry).collect(),
        conflict,
        rules: general.rules.iter().enumerate().map(rule).collect(),
        rules_make_it_safe: mended
            .then(|| general.trial == Trial::Safe && general.conflict.is_none()),
        rules_conflict: general.conflict.clone().filter(|_| mended),
    }
}

fn trial_text(trial: &Trial) -> String {
    match trial {
        Trial::Safe => "safe".to_owned(),
        Trial::Missing(addr) => format!("stops at {addr}, which is not mapped"),
        Trial::Fails(why) => format!("fails: {why}"),
        Trial::Unknown(why) => format!("cannot be told: {why}"),
    }
}

impl ProducerRow {
    /// Whether two answers differ in the producer alone.
    fn says_the_same(&self, other: &ProducerRow) -> bool {
        *self == ProducerRow { producer: self.producer.clone(), ..other.clone() }
    }

    fn text(&self, labels: &[&str], out: &mut String, style: Style) {
        let (tone, word) = match self.answer {
            "nothing-missing" => (Tone::Good, "NOTHING IS MISSING"),
            "safe-with-entries" if self.entries.len() == 1 => (Tone::Bad, "ONE ENTRY IS MISSING"),
            "safe-with-entries" => (Tone::Bad, "ENTRIES ARE MISSING"),
            "conflict" => (Tone::Bad, "WHAT IS MISSING MUST NOT BE MAPPED"),
            "no-entry-helps" => (Tone::Bad, "NO ENTRY HELPS"),
            _ => (Tone::Doubt, "UNKNOWN"),
        };
        let _ = writeln!(out, "{}", style.paint(tone, word));
        for label in labels {
            let _ = writeln!(out, "  if  the producer is {label}");
        }
        if let Some(why) = &self.why {
            out.push_str(&wrapped(why, 2, ""));
        }
        for entry in &self.entries {
            let _ = writeln!(out, "  add  {}  {}", range_text(&entry.range), entry.what);
            out.push_str(&wrapped(&format!("without it: {}", entry.without), 7, ""));
        }
        if let Some(conflict) = &self.conflict {
            let _ = writeln!(out, "  not  {}", range_text(&conflict.range));
            let text = format!("with it the map reaches {}", conflict.reaches);
            out.push_str(&wrapped(&text, 7, ""));
        }
        for rule in &self.rules {
            let ranges: Vec<String> = rule.ranges.iter().map(range_text).collect();
            let shown = match &ranges[..] {
                [one] => one.clone(),
                many => format!("{} ranges", many.len()),
            };
            let _ = writeln!(out, "  rule {}: {shown}", rule.rule);
            if !rule.linux.is_empty() {
                out.push_str(&wrapped(&format!("Linux does so in {}", rule.linux), 7, ""));
            }
        }
        match (self.rules_make_it_safe, &self.rules_conflict) {
            (Some(true), _) => out.push_str("       tried: that makes it safe too\n"),
            (Some(false), Some(reached)) => {
                let text = format!("tried: the map then reaches {reached}");
                out.push_str(&wrapped(&text, 7, ""));
            }
            (Some(false), None) => out.push_str("       tried: that does not make it safe\n"),
            (None, _) => {}
        }
        if self.answer == "safe-with-entries" {
            let proof = if self.proved {
                "the least set: safe with it, and not without any one of them"
            } else {
                "safe with it; whether less would do cannot be told"
            };
            let _ = writeln!(out, "  {proof} ({} trials)", self.trials);
        }
    }
}
