//! `identmap explain ADDR`: one address, level by level.

use std::fmt::Write;

use identmap::{Flags, PhysAddr, PhysRange, VirtAddr, WalkEnd, walk};
use identmap_audit::{Coverage, Planned};
use serde::Serialize;

use crate::hex::{Hex, HexRange};
use crate::text::{Style, Tone};

/// The schema `identmap.explain/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExplainReport {
    schema: &'static str,
    address: Hex,
    policy: &'static str,
    /// Whether a leaf maps the address.
    mapped: bool,
    /// `requested`, `over-reach`, or `not-mapped`.
    why: &'static str,
    /// What memory this is, in the words of the machine's map.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    /// Under which producers it is mapped and under which it is not, if that is not certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<String>,
    steps: Vec<StepRow>,
    /// The leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<LeafRow>,
    /// The first request that touches the leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<RequestRow>,
    /// The nearest mapped range below, if the address is not mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_below: Option<HexRange>,
    /// The nearest mapped range above, if the address is not mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_above: Option<HexRange>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct StepRow {
    level: String,
    index: usize,
    present: bool,
    flags: Hex,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct LeafRow {
    #[serde(flatten)]
    range: HexRange,
    page: &'static str,
    rights: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct RequestRow {
    index: usize,
    #[serde(flatten)]
    range: HexRange,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

impl ExplainReport {
    /// With what speaks against it being the answer: producers that are possible too.
    #[must_use]
    pub fn doubted(self, doubt: Option<String>) -> ExplainReport {
        ExplainReport { doubt, ..self }
    }

    /// Walks the planned map. `requests` in their order, each with what it is for, where known.
    #[must_use]
    pub fn new(
        coverage: &Coverage,
        addr: PhysAddr,
        requests: &[(PhysRange, Option<String>)],
        memory: Option<String>,
    ) -> ExplainReport {
        let planned = Planned(coverage);
        let virt: VirtAddr = coverage.config.virt(addr);
        let walked = walk(&planned, planned.root(), &planned.paging(), virt);
        let steps = walked.steps().map(|step| StepRow {
            level: step.level.to_string(),
            index: step.index,
            present: step.entry.is_present(),
            flags: Hex(step.entry.bits() & !0x000f_ffff_ffff_f000),
        });
        let leaf = match walked.end() {
            WalkEnd::Mapped { size, rights, .. } => {
                let range = PhysRange::from_len(addr.align_down(size).get(), size.bytes());
                range.ok().map(|range| LeafRow {
                    range: range.into(),
                    page: size.name(),
                    rights: rights.to_string(),
                })
            }
            _ => None,
        };
        let ranges: Vec<PhysRange> = requests.iter().map(|(range, _)| *range).collect();
        let made_by = coverage.made_by(addr, &ranges).map(|index| RequestRow {
            index,
            range: ranges[index].into(),
            what: requests[index].1.clone(),
        });
        let requested = ranges.iter().any(|range| range.contains(addr));
        let (below, above) = if leaf.is_none() { coverage.neighbours(addr) } else { (None, None) };
        ExplainReport {
            schema: "identmap.explain/1",
            address: addr.into(),
            policy: coverage.policy.name(),
            mapped: leaf.is_some(),
            why: match (&leaf, requested) {
                (None, _) => "not-mapped",
                (Some(_), true) => "requested",
                (Some(_), false) => "over-reach",
            },
            memory,
            doubt: None,
            steps: steps.collect(),
            leaf,
            made_by,
            nearest_below: below.map(HexRange::from),
            nearest_above: above.map(HexRange::from),
        }
    }

    /// Whether a leaf maps the address.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let memory = self.memory.as_deref().map_or(String::new(), |kind| format!("  ({kind})"));
        let _ = writeln!(out, "{:#018x}{memory}, policy {}", self.address.0, self.policy);
        for (depth, step) in self.steps.iter().enumerate() {
            let flags = Flags::from_bits(step.flags.0);
            let end = if step.present {
                flags.to_string()
            } else {
                style.paint(Tone::Bad, "not present <- here")
            };
            let _ = writeln!(
                out,
                "{:indent$}{:<4} [{:>3}]  {end}",
                "",
                step.level,
                step.index,
                indent = 2 + 2 * depth
            );
        }
        if let Some(leaf) = &self.leaf {
            let _ = writeln!(
                out,
                "{} leaf {:#018x}-{:#018x} {}",
                leaf.page, leaf.range.start.0, leaf.range.end.0, leaf.rights
            );
        }
        if let Some(request) = &self.made_by {
            let what = request.what.as_deref().map_or(String::new(), |what| format!(" ({what})"));
            let text = format!(
                "request {} {:#018x}-{:#018x}{what}",
                request.index, request.range.start.0, request.range.end.0
            );
            let _ = if self.why == "requested" {
                writeln!(out, "made by {text}")
            } else {
                let luck = style.paint(Tone::Doubt, "mapped by over-reach only");
                writeln!(out, "{luck}: the leaf was made for {text}")
            };
        }
        if let Some(doubt) = &self.doubt {
            let _ = writeln!(out, "{}", style.paint(Tone::Doubt, "cannot be told:"));
            for line in doubt.lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
        let ends = [("below", &self.nearest_below), ("above", &self.nearest_above)];
        for (side, range) in ends.into_iter().filter_map(|(s, r)| r.as_ref().map(|r| (s, r))) {
            let _ = writeln!(
                out,
                "nearest mapped {side}: {:#018x}-{:#018x}",
                range.start.0, range.end.0
            );
        }
        out
    }
}
