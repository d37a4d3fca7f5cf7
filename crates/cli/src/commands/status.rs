//! `identmap status`.

use std::fmt::Write as _;

use identmap_linux::Kind;
use identmap_report::{Hex, HexRange, Style, Tone};
use serde::Serialize;

use crate::args::Output;
use crate::output::{Failure, Status};
use crate::record::{self, State};

pub(crate) fn run(output: &Output) -> Result<Status, Failure> {
    let kexec = Slot::of(record::state(Kind::Kexec));
    let crash = Slot::of(record::state(Kind::Kdump));
    let unclear = [&kexec, &crash].iter().any(|slot| slot.state == "unclear");
    let report = StatusReport { schema: "identmap.status/1", kexec, crash };
    output.print(&report, |style| report.text(style))?;
    Ok(if unclear { Status::Unknown } else { Status::Safe })
}

#[derive(Serialize)]
struct StatusReport {
    schema: &'static str,
    kexec: Slot,
    crash: Slot,
}

#[derive(Serialize)]
struct Slot {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    segments: Vec<HexRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Slot {
    fn of(state: State) -> Slot {
        let empty = Slot {
            state: "nothing",
            call: None,
            kernel: None,
            command_line: None,
            verdict: None,
            segments: Vec::new(),
            why: None,
        };
        match state {
            State::Nothing => empty,
            State::Foreign => Slot { state: "foreign", ..empty },
            State::Unclear(why) => Slot { state: "unclear", why: Some(why), ..empty },
            State::Ours(record) => Slot {
                state: "ours",
                call: Some(record.call),
                kernel: Some(record.kernel),
                command_line: Some(record.command_line),
                verdict: Some(record.verdict),
                segments: record
                    .segments
                    .iter()
                    .map(|&(start, len)| HexRange {
                        start: Hex(start),
                        end: Hex(start.saturating_add(len).saturating_sub(1)),
                    })
                    .collect(),
                why: None,
            },
        }
    }

    fn text(&self, name: &str, style: Style, text: &mut String) {
        let (tone, what) = match self.state {
            "nothing" => (Tone::Faint, "nothing is loaded".to_owned()),
            "foreign" => (Tone::Doubt, "an image that another program loaded".to_owned()),
            "unclear" => {
                let why = self.why.as_deref().unwrap_or_default();
                (Tone::Doubt, format!("what is loaded cannot be told: {why}"))
            }
            _ => (Tone::Strong, self.kernel.clone().unwrap_or_default()),
        };
        let _ = writeln!(text, "{name:<9} {}", style.paint(tone, &what));
        if let (Some(call), Some(verdict)) = (&self.call, &self.verdict) {
            let _ = writeln!(text, "          loaded with {call}, verdict {verdict}");
        }
        if let Some(line) = self.command_line.as_deref().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "          {line}");
        }
    }
}

impl StatusReport {
    fn text(&self, style: Style) -> String {
        let mut text = String::new();
        self.kexec.text("kexec", style, &mut text);
        self.crash.text("crash", style, &mut text);
        text
    }
}
