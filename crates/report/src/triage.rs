//! `identmap triage`: what it was likely to be, and how to see it the next time.

use std::fmt::Write;

use identmap_audit::{Audit, Cause, Likelihood, Way};
use identmap_machine::Machine;
use serde::Serialize;

use crate::hex::Hex;
use crate::text::{Style, Tone};
use crate::wrap::wrapped;

/// The schema `identmap.triage/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TriageReport {
    schema: &'static str,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    saw: String,
    verdict: String,
    causes: Vec<CauseRow>,
    ways: Vec<WayRow>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct CauseRow {
    id: &'static str,
    likelihood: String,
    what: String,
    why: String,
    confirm: String,
    findings: Vec<FindingRow>,
    #[serde(skip)]
    tone: Tone,
}

/// A finding of `identmap check` that a cause rests on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct FindingRow {
    id: &'static str,
    what: String,
    confidence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Hex>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct WayRow {
    id: &'static str,
    shows: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    then: String,
    why: String,
}

impl TriageReport {
    /// Puts causes and ways together.
    #[must_use]
    pub fn new(
        saw: &str,
        machine: &Machine,
        audit: &Audit,
        causes: Vec<Cause>,
        ways: Vec<Way>,
    ) -> TriageReport {
        TriageReport {
            schema: "identmap.triage/1",
            source: machine.source.clone(),
            machine: machine.hardware.clone(),
            saw: saw.to_owned(),
            verdict: audit.verdict.to_string(),
            causes: causes.into_iter().map(|cause| cause_row(cause, audit)).collect(),
            ways: ways
                .into_iter()
                .map(|Way { id, shows, before, after, then, why }| WayRow {
                    id,
                    shows,
                    before,
                    after,
                    then,
                    why,
                })
                .collect(),
        }
    }

    /// As text: the causes, then the lines to add.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "machine   {}", self.machine.as_ref().unwrap_or(&self.source));
        let _ = writeln!(out, "seen      {}", self.saw);
        let _ = writeln!(out, "check     {}, by what was known before\n", self.verdict);
        for cause in &self.causes {
            let word = style.paint(cause.tone, &format!("{:<11}", cause.likelihood));
            let _ = writeln!(out, "{word}  {} ({})", cause.what, cause.id);
            out.push_str(&wrapped(&cause.why, 13, ""));
            if !cause.confirm.is_empty() {
                out.push_str(&wrapped(&format!("to be sure: {}", cause.confirm), 13, "  "));
            }
        }
        let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "To see it the next time"));
        for way in &self.ways {
            out.push_str(&wrapped(&format!("{}: shows {}", way.id, way.shows), 2, "  "));
            // Whole lines: they are there to be copied.
            if way.before.is_some() && way.before == way.after {
                let _ = writeln!(out, "    both kernels: {}", way.before.as_deref().unwrap_or(""));
            } else {
                for (which, line) in [("old kernel", &way.before), ("new kernel", &way.after)] {
                    if let Some(line) = line {
                        let _ = writeln!(out, "    {which}: {line}");
                    }
                }
            }
            out.push_str(&wrapped(&way.then, 4, ""));
            out.push_str(&wrapped(&format!("({})", way.why), 4, ""));
        }
        out
    }
}

fn cause_row(cause: Cause, audit: &Audit) -> CauseRow {
    let findings = cause.findings.iter().filter_map(|&index| audit.findings.get(index));
    CauseRow {
        id: cause.id,
        likelihood: cause.likelihood.to_string(),
        findings: findings
            .map(|finding| FindingRow {
                id: finding.id,
                what: finding.what.clone(),
                confidence: finding.confidence.to_string(),
                start: finding.range.map(|range| range.start().into()),
                end: finding.range.map(|range| range.last().into()),
            })
            .collect(),
        what: cause.what,
        why: cause.why,
        confirm: cause.confirm,
        tone: match cause.likelihood {
            Likelihood::Likely => Tone::Bad,
            Likelihood::Possible => Tone::Doubt,
            Likelihood::CannotTell | Likelihood::Unlikely => Tone::Faint,
        },
    }
}
