//! `identmap check`: the verdict, its reasons, what to do, and the policies side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use identmap_audit::{Audit, Confidence, Finding, PolicyRow, Severity, TablesUsed, Verdict};
use identmap_linux::{Consumer, Known, Producer};
use identmap_machine::{CpuVendor, Machine, MemType, Uv};
use serde::Serialize;

use crate::hex::{Hex, HexRange};
use crate::leaf_count::LeafCount;
use crate::text::{Columns, Style, Tone};
use crate::wrap::wrapped;

/// The schema `identmap.check/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CheckReport {
    schema: &'static str,
    verdict: String,
    machine: MachineRow,
    producer: String,
    consumer: String,
    /// Whether the map is the loaded image's own, or modelled and why.
    tables: String,
    /// One for each producer that is possible, if the consumer's first instructions were run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    preflight: Vec<RunRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assumptions: Vec<String>,
    findings: Vec<FindingRow>,
    policies: BTreeMap<&'static str, PolicyJson>,
    #[serde(skip)]
    answer: Verdict,
    #[serde(skip)]
    rows: Vec<(&'static str, Option<PolicyJson>)>,
}

/// A run of the consumer's first instructions.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RunRow {
    /// Under which producer's map.
    pub producer: String,
    /// `reached`, `fault`, `halted` or `unknown`.
    pub outcome: &'static str,
    /// The same in a sentence.
    pub sentence: String,
    /// Instructions run.
    pub instructions: u64,
    /// Pages touched outside of the image's segments, those behind a mended fault included.
    pub touched: Vec<TouchedRow>,
}

/// A range that was touched.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TouchedRow {
    /// Where.
    #[serde(flatten)]
    pub range: HexRange,
    /// What it is.
    pub what: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct MachineRow {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sev: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gbpages: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    levels: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    efi: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uv: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ram_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct FindingRow {
    id: &'static str,
    severity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Hex>,
    what: String,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    confidence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// The combination that is known to fail, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<&'static str>,
    /// Producers under which it holds, if not under all that are possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    under: Vec<String>,
    #[serde(skip)]
    tone: Tone,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct PolicyJson {
    mapped_bytes: u64,
    tables: u64,
    leaves: LeafCount,
    gap_bytes: u64,
    /// Not mapped, and a need of unknown address may lie there.
    gap_if_bytes: u64,
    luck_bytes: u64,
    exposure_bytes: u64,
    reserved_bytes: u64,
}

impl CheckReport {
    /// Sums up an audit.
    #[must_use]
    pub fn new(
        machine: &Machine,
        producer: &Producer,
        consumer: &Consumer,
        audit: &Audit,
    ) -> CheckReport {
        let rows: Vec<_> =
            audit.policies.iter().map(|row| (row.policy.name(), policy_json(row))).collect();
        CheckReport {
            schema: "identmap.check/1",
            verdict: audit.verdict.to_string(),
            machine: machine_row(machine, audit),
            producer: producer_text(producer),
            consumer: consumer_text(consumer),
            tables: tables_text(&audit.tables),
            preflight: Vec::new(),
            assumptions: Vec::new(),
            findings: audit.findings.iter().map(finding_row).collect(),
            policies: rows.iter().filter_map(|(name, row)| Some((*name, row.clone()?))).collect(),
            answer: audit.verdict,
            rows,
        }
    }

    /// With what runs of the consumer showed, and what was supposed for them.
    #[must_use]
    pub fn with_runs(
        mut self,
        kernel: &str,
        runs: Vec<RunRow>,
        assumptions: Vec<String>,
    ) -> CheckReport {
        self.consumer = format!("{} ({kernel})", self.consumer);
        self.preflight = runs;
        self.assumptions = assumptions;
        self
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.answer
    }

    /// As text: the machine, the verdict, the findings, the policies.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "machine   {}", self.machine.line(style));
        let _ = writeln!(out, "producer  {}", self.producer);
        let _ = writeln!(out, "consumer  {}", self.consumer);
        let _ = writeln!(out, "tables    {}", self.tables);
        for run in &self.preflight {
            out.push_str(&run.text());
        }
        for assumption in &self.assumptions {
            let _ = writeln!(out, "supposed  {assumption}");
        }
        out.push('\n');
        let (word, tone, sentence) = match self.answer {
            Verdict::Safe => {
                ("SAFE", Tone::Good, "what the next kernel needs is mapped, nothing forbidden is")
            }
            Verdict::Unknown => {
                ("UNKNOWN", Tone::Doubt, "it cannot be told; see what to supply below")
            }
            Verdict::Unsafe => ("UNSAFE", Tone::Bad, "do not kexec as things are"),
        };
        let _ = writeln!(out, "{}  {sentence}", style.paint(tone, word));
        let mut last_id = "";
        for group in self.findings.chunk_by(FindingRow::says_the_same) {
            let first = &group[0];
            if first.id != last_id && first.tone != Tone::Faint {
                out.push('\n');
                last_id = first.id;
            }
            out.push_str(&first.text(group, style));
        }
        out.push('\n');
        out.push_str(&self.policy_table(style));
        out
    }

    /// One line: the verdict and the first reason.
    #[must_use]
    pub fn line(&self) -> String {
        let first = self.findings.iter().find(|f| f.tone != Tone::Faint);
        match first {
            Some(finding) if self.answer != Verdict::Safe => {
                format!("{}: {} ({})", self.verdict, finding.what, finding.id)
            }
            _ => self.verdict.clone(),
        }
    }

    fn policy_table(&self, style: Style) -> String {
        let mut table = Columns::new(&[
            "policy",
            ">tables",
            ">4K",
            ">2M",
            ">1G",
            ">mapped",
            ">gap",
            ">luck",
            ">reserved",
            ">exposed",
        ]);
        for (name, row) in &self.rows {
            let Some(row) = row else {
                table.row(vec![(*name).to_owned(), "no map".to_owned()]);
                continue;
            };
            let count = |n: u64| if n == 0 { "-".to_owned() } else { n.to_string() };
            let size = |n: u64| if n == 0 { "-".to_owned() } else { style.size(n) };
            let gap = match (row.gap_bytes, row.gap_if_bytes) {
                (0, 0) => "-".to_owned(),
                (0, _) => "?".to_owned(),
                (bytes, _) => style.size(bytes),
            };
            table.row(vec![
                (*name).to_owned(),
                row.tables.to_string(),
                count(row.leaves.small),
                count(row.leaves.large),
                count(row.leaves.huge),
                style.size(row.mapped_bytes),
                gap,
                size(row.luck_bytes),
                size(row.reserved_bytes),
                size(row.exposure_bytes),
            ]);
        }
        table.render("", style)
    }
}

impl MachineRow {
    fn line(&self, style: Style) -> String {
        let machine = self;
        let efi = machine.efi.map(|efi| if efi { "UEFI" } else { "BIOS" }.to_owned());
        let levels = machine.levels.map(|levels| format!("{levels}-level"));
        let pages =
            machine.gbpages.map(|on| if on { "1G pages" } else { "no 1G pages" }.to_owned());
        let uv = machine.uv.filter(|&uv| uv).map(|_| "UV".to_owned());
        let sev =
            machine.sev.map(|on| if on { "SEV in CPUID" } else { "no SEV in CPUID" }.to_owned());
        let parts = [
            machine.hardware.clone().or_else(|| Some(machine.source.clone())),
            machine.cpu.clone(),
            machine.ram_bytes.map(|bytes| style.size(bytes)),
            efi,
            uv,
            levels,
            pages,
            sev,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

impl RunRow {
    fn text(&self) -> String {
        let end = match self.outcome {
            "reached" => "reached its own page tables",
            "fault" => "stopped by an exception",
            "halted" => "halted",
            _ => "cannot tell",
        };
        let mut names: Vec<&str> = self.touched.iter().map(|t| t.what.as_str()).collect();
        names.dedup();
        let touched = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let text = format!(
            "preflight {end} after {} instructions; outside its segments it touches: {touched} ({})",
            self.instructions, self.producer
        );
        wrapped(&text, 0, "          ")
    }
}

/// Most ranges of one finding that the text lists; JSON has them all.
const MOST_RANGES: usize = 12;

impl FindingRow {
    /// Whether two findings differ in their place only.
    fn says_the_same(&self, other: &FindingRow) -> bool {
        let key = |f: &FindingRow| {
            (f.id, f.tone, f.what.clone(), f.why.clone(), f.remedy.clone(), f.under.clone())
        };
        self.start.is_some() && other.start.is_some() && key(self) == key(other)
    }

    /// A group of findings that differ in their place only, this being the first.
    fn text(&self, group: &[FindingRow], style: Style) -> String {
        let mut out = String::new();
        let id = style.paint(self.tone, &format!("{:<8}", self.id));
        let doubt = match (self.tone, self.confidence.as_str()) {
            (Tone::Faint, _) | (_, "certain") => String::new(),
            (_, confidence) => format!(" ({confidence})"),
        };
        let places: Vec<(Hex, Hex)> =
            group.iter().filter_map(|row| Some((row.start?, row.end?))).collect();
        match places[..] {
            [] => {
                let _ = writeln!(out, "  {id}  {}{doubt}", self.what);
            }
            [(start, end)] => {
                let place = format!("{:#018x}-{:#018x}", start.0, end.0);
                let _ = writeln!(out, "  {id}  {place}  {}{doubt}", self.what);
            }
            _ => {
                let bytes: u64 = places.iter().map(|(start, end)| end.0 - start.0 + 1).sum();
                let count = places.len();
                let size = style.size(bytes);
                let _ = writeln!(out, "  {id}  {}{doubt}: {size} in {count} ranges", self.what);
                for (start, end) in places.iter().take(MOST_RANGES) {
                    let size = style.size(end.0 - start.0 + 1);
                    let _ = writeln!(out, "            {:#018x}-{:#018x}  {size}", start.0, end.0);
                }
                if count > MOST_RANGES {
                    let _ = writeln!(out, "            and {} more", count - MOST_RANGES);
                }
            }
        }
        for part in self.why.lines() {
            out.push_str(&wrapped(part, 12, ""));
        }
        if self.tone == Tone::Faint {
            return out;
        }
        if !self.under.is_empty() {
            out.push_str(&wrapped(
                &format!("if the producer is {}", self.under.join("; or ")),
                12,
                "",
            ));
        }
        if let Some(known) = self.known {
            let text = format!("known: {known} (identmap known tells what was reported)");
            out.push_str(&wrapped(&text, 12, "    "));
        }
        if let Some(remedy) = &self.remedy {
            for (index, way) in remedy.lines().enumerate() {
                let word = if index == 0 { "do: " } else { "or: " };
                out.push_str(&wrapped(&format!("{word} {way}"), 12, "    "));
            }
        }
        out
    }
}

fn finding_row(finding: &Finding) -> FindingRow {
    let tone = match (finding.severity, finding.confidence) {
        (Severity::Info, _) => Tone::Faint,
        (Severity::Error, Confidence::Certain | Confidence::Likely) => Tone::Bad,
        (_, _) => Tone::Doubt,
    };
    FindingRow {
        id: finding.id,
        severity: finding.severity.to_string(),
        start: finding.range.map(|range| range.start().into()),
        end: finding.range.map(|range| range.last().into()),
        what: finding.what.clone(),
        why: finding.why.clone(),
        remedy: finding.remedy.clone(),
        confidence: finding.confidence.to_string(),
        link: finding.link.clone(),
        known: finding.known,
        under: finding.under.clone(),
        tone,
    }
}

fn policy_json(row: &PolicyRow) -> Option<PolicyJson> {
    let figures = row.map.as_ref().ok()?;
    Some(PolicyJson {
        mapped_bytes: figures.coverage.mapped_bytes(),
        tables: figures.tables.total(),
        leaves: LeafCount::of(|size| figures.coverage.leaves(size)),
        gap_bytes: figures.gap_bytes,
        gap_if_bytes: figures.gap_if_bytes,
        luck_bytes: figures.luck_bytes,
        exposure_bytes: figures.exposure_bytes,
        reserved_bytes: figures.reserved_bytes,
    })
}

fn machine_row(machine: &Machine, audit: &Audit) -> MachineRow {
    let vendor = machine.cpu.vendor.map(|vendor| match vendor {
        CpuVendor::Amd => "AMD",
        CpuVendor::Hygon => "Hygon",
        CpuVendor::Intel => "Intel",
        CpuVendor::Other => "other CPU",
    });
    let likely_uv = identmap_audit::is_uv(machine, &audit.hazards).then_some(true);
    MachineRow {
        source: machine.source.clone(),
        hardware: machine.hardware.clone(),
        firmware: machine.firmware.clone(),
        cpu: machine.cpu.model.clone().or_else(|| vendor.map(str::to_owned)),
        sev: machine.cpu.sev,
        gbpages: identmap_linux::gbpages(machine).certain().copied(),
        levels: machine.cpu.la57_active.map(|five| if five { 5 } else { 4 }),
        efi: identmap_linux::firmware::efi_booted(machine),
        uv: machine.uv.map(|uv| uv == Uv::Hubbed).or(likely_uv),
        ram_bytes: audit.layout.as_ref().map(|layout| layout.total(MemType::Usable)),
    }
}

pub(crate) fn tables_text(tables: &TablesUsed) -> String {
    match tables {
        TablesUsed::Read { as_modelled: true } => "read from the loaded image".to_owned(),
        TablesUsed::Read { as_modelled: false } => {
            "read from the loaded image; not as modelled".to_owned()
        }
        TablesUsed::Modelled(why) => format!("modelled ({why})"),
    }
}

pub(crate) fn consumer_text(consumer: &Consumer) -> String {
    consumer.version.as_ref().map_or_else(
        || "any supported kernel (5.10 or later)".to_owned(),
        |version| format!("Linux {version}"),
    )
}

/// The machine in one line.
pub(crate) fn machine_line(machine: &Machine, audit: &Audit, style: Style) -> String {
    machine_row(machine, audit).line(style)
}

/// A producer in a line: its version, and what that says.
#[must_use]
pub fn producer_text(producer: &Producer) -> String {
    let version = producer
        .version()
        .map_or_else(|| "unknown kernel".to_owned(), |version| format!("Linux {version}"));
    match producer.traits() {
        Known::Certain(traits) => {
            let table = if traits.config_table { "requested" } else { "not requested" };
            format!("{version}: {}, configuration table {table}", traits.policy)
        }
        Known::Uncertain { candidates, .. } => {
            let mut classes: Vec<String> =
                candidates.iter().map(|traits| traits.class().to_string()).collect();
            classes.sort();
            classes.dedup();
            format!("{version}: class {} is possible", classes.join(" or "))
        }
    }
}
