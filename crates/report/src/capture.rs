//! `identmap capture`: what a bundle holds, and what was left out of it.

use std::fmt::Write;

use identmap_machine::bundle::{Bundle, Part, PartState};
use serde::Serialize;

use crate::text::{Style, Tone};

/// The schema `identmap.capture/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CaptureReport {
    schema: &'static str,
    source: String,
    redacted: bool,
    bundle_bytes: usize,
    parts: Vec<PartRow>,
    left_out: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct PartRow {
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl CaptureReport {
    /// Sums up a bundle whose file has `bundle_bytes` bytes.
    #[must_use]
    pub fn new(source: &str, bundle: &Bundle, bundle_bytes: usize) -> CaptureReport {
        let row = |part: Part| {
            let (state, bytes, why) = match part.state {
                PartState::Held { bytes } => ("held", Some(bytes), None),
                PartState::Absent => ("absent", None, None),
                PartState::Unreadable { why } => ("unreadable", None, Some(why)),
            };
            PartRow { name: part.name, state, bytes, why }
        };
        CaptureReport {
            schema: "identmap.capture/1",
            source: source.to_owned(),
            redacted: bundle.redacted,
            bundle_bytes,
            parts: bundle.parts().into_iter().map(row).collect(),
            left_out: bundle.left_out.clone(),
        }
    }

    /// As text: a line for each thing held, not there, not readable, left out.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let size = style.size(self.bundle_bytes as u64);
        let kind = if self.redacted { "redacted" } else { "NOT redacted: not for public places" };
        let tone = if self.redacted { Tone::Strong } else { Tone::Doubt };
        let heading = format!("bundle of {}: {size}, {kind}", self.source);
        let _ = writeln!(out, "{}", style.paint(tone, &heading));
        let of = |state: &'static str| self.parts.iter().filter(move |part| part.state == state);
        section(&mut out, "holds", rows(of("held").map(|part| part.name.as_str())));
        section(&mut out, "not there", rows(of("absent").map(|part| part.name.as_str())));
        let unreadable = of("unreadable")
            .map(|part| format!("{} ({})", part.name, part.why.as_deref().unwrap_or_default()))
            .collect();
        section(&mut out, "not readable", unreadable);
        section(&mut out, "left out", self.left_out.clone());
        out
    }
}

/// Names side by side.
fn rows<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const WIDTH: usize = 84;
    let mut rows: Vec<String> = Vec::new();
    for name in names {
        match rows.last_mut().filter(|row| row.len() + name.len() + 2 <= WIDTH) {
            Some(row) => {
                row.push_str(", ");
                row.push_str(name);
            }
            None => rows.push(name.to_owned()),
        }
    }
    rows
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    for (number, line) in lines.into_iter().enumerate() {
        let title = if number == 0 { title } else { "" };
        let _ = writeln!(out, "  {title:<12} {line}");
    }
}
