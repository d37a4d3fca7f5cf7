//! `identmap tables`: what real tables map, and what of them could not be read.

use std::fmt::Write;

use identmap::{Flags, LeafRun, Level, PhysAddr, Walk, WalkEnd};
use identmap_linux::Kind;
use identmap_linux::kimage::{LoadedImage, RootPlace};
use identmap_linux::tables::{Oddity, Tables};
use serde::Serialize;

use crate::hex::{Hex, HexRange};
use crate::leaf_count::LeafCount;
use crate::list::{Cell, List, ListColumn, left, right};
use crate::map::range_text;
use crate::text::{Columns, Style, Tone};

/// Where tables come from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TablesSource {
    /// A file, or `live`.
    pub name: String,
    /// What it is, in a few words.
    pub what: String,
    /// How it is known where the root lies.
    pub root_from: String,
    /// How the number of levels is known.
    pub levels_from: String,
    /// The image whose tables they are.
    pub image: Option<LoadedImage>,
    /// What else had better be known, a sentence each.
    pub notes: Vec<String>,
}

/// The schema `identmap.tables/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TablesReport {
    schema: &'static str,
    source: String,
    what: String,
    /// Everything under the root was read: what has no leaf is not mapped.
    complete: bool,
    /// What could not be read before the first table, if that ended it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageRow>,
    #[serde(flatten)]
    read: Option<Read>,
    #[serde(skip_serializing_if = "Option::is_none")]
    walk: Option<WalkRow>,
}

/// What was decoded.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Read {
    root: Hex,
    root_from: String,
    levels: u8,
    levels_from: String,
    maxphyaddr: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_bit: Option<u32>,
    tables: CountRow,
    mapped_bytes: u64,
    identity_bytes: u64,
    leaves: LeafCount,
    runs: Vec<RunRow>,
    shared: Vec<SharedRow>,
    unreadable: Vec<UnreadableRow>,
    reserved: Vec<ReservedRow>,
    /// The lists end before the tables do.
    cut: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ImageRow {
    kind: &'static str,
    kimage: Hex,
    control_page: Hex,
    root_in: &'static str,
    start: Hex,
    head: Hex,
    segments: Vec<HexRange>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct CountRow {
    total: u64,
    #[serde(rename = "PML5")]
    pml5: u64,
    #[serde(rename = "PML4")]
    pml4: u64,
    #[serde(rename = "PDPT")]
    pdpt: u64,
    #[serde(rename = "PD")]
    pd: u64,
    #[serde(rename = "PT")]
    pt: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct RunRow {
    /// Virtual, inclusive.
    #[serde(flatten)]
    range: HexRange,
    /// Where the first byte leads.
    phys: Hex,
    identity: bool,
    page: &'static str,
    count: u64,
    flags: Hex,
    rights: String,
    #[serde(skip)]
    bytes: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct SharedRow {
    virt: Hex,
    level: String,
    table: Hex,
    first: Hex,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct UnreadableRow {
    virt: Hex,
    level: String,
    table: Hex,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ReservedRow {
    virt: Hex,
    level: String,
    bits: Hex,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct WalkRow {
    address: Hex,
    steps: Vec<StepRow>,
    /// `mapped`, `not-present`, `reserved`, `unreadable` or `not-canonical`.
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rights: Option<String>,
    #[serde(skip)]
    sentence: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct StepRow {
    level: String,
    table: Hex,
    index: usize,
    entry: Hex,
}

const COLUMNS: &[ListColumn] = &[
    left("VIRTUAL", "first and last byte, virtual", true),
    left("PHYSICAL", "where the first byte leads", true),
    right("PAGE", "size of the leaves: 4K, 2M or 1G", true),
    right("COUNT", "number of leaves", true),
    right("SIZE", "bytes", true),
    left("RIGHTS", "what may be done there", true),
    left("FLAGS", "flags of each leaf", true),
    left("START", "first byte, virtual", false),
    left("END", "last byte, virtual", false),
    left("IDENTITY", "whether virtual and physical address are equal", false),
];

impl TablesReport {
    /// Sums up decoded tables, with one address walked if there is one to walk.
    #[must_use]
    pub fn new(source: &TablesSource, tables: &Tables, walked: Option<&Walk>) -> TablesReport {
        TablesReport {
            complete: tables.is_whole(),
            image: source.image.as_ref().map(image_row),
            read: Some(Read::new(source, tables)),
            walk: walked.map(walk_row),
            ..TablesReport::lost(source, Vec::new())
        }
    }

    /// Nothing could be decoded; `lost` tells what was in the way.
    #[must_use]
    pub fn lost(source: &TablesSource, lost: Vec<String>) -> TablesReport {
        TablesReport {
            schema: "identmap.tables/1",
            source: source.name.clone(),
            what: source.what.clone(),
            complete: false,
            lost,
            notes: source.notes.clone(),
            image: None,
            read: None,
            walk: None,
        }
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The leaves; none if nothing could be decoded.
    #[must_use]
    pub fn list(&self) -> List {
        let row = |run: &RunRow| {
            vec![
                Cell::Text(range_text(&run.range)),
                Cell::Address(run.phys.0),
                Cell::Text(run.page.to_owned()),
                Cell::Number(run.count),
                Cell::Size(run.bytes),
                Cell::Text(run.rights.clone()),
                Cell::Text(Flags::from_bits(run.flags.0).to_string()),
                Cell::Address(run.range.start.0),
                Cell::Address(run.range.end.0),
                Cell::Text(if run.identity { "yes" } else { "no" }.to_owned()),
            ]
        };
        let runs = self.read.iter().flat_map(|read| &read.runs);
        List::new(COLUMNS, runs.map(row).collect())
    }

    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "source    {}: {}", self.source, self.what);
        if let Some(image) = &self.image {
            image.write(&mut out);
        }
        if let Some(read) = &self.read {
            read.write_head(&mut out);
        }
        for note in &self.notes {
            let _ = writeln!(out, "note      {note}");
        }
        if let Some(read) = &self.read {
            read.write_runs(&mut out, style);
        }
        if let Some(walk) = &self.walk {
            walk.write(&mut out);
        }
        if !self.lost.is_empty() {
            let line = "\nthe tables cannot be read:";
            let _ = writeln!(out, "{}", style.paint(Tone::Doubt, line));
            for lost in &self.lost {
                let _ = writeln!(out, "  {lost}");
            }
        } else if !self.complete {
            let line = "\nnot everything was read: what is not listed may be mapped all the same";
            let _ = writeln!(out, "{}", style.paint(Tone::Doubt, line));
        }
        out
    }
}

impl Read {
    fn new(source: &TablesSource, tables: &Tables) -> Read {
        let of = |level| tables.count.of(level);
        let (mut shared, mut unreadable, mut reserved) = (Vec::new(), Vec::new(), Vec::new());
        for oddity in &tables.oddities {
            match *oddity {
                Oddity::Shared { virt, level, table, first } => shared.push(SharedRow {
                    virt: Hex(virt.get()),
                    level: level.to_string(),
                    table: table.into(),
                    first: Hex(first.get()),
                }),
                Oddity::Unreadable { virt, level, table } => unreadable.push(UnreadableRow {
                    virt: Hex(virt.get()),
                    level: level.to_string(),
                    table: table.into(),
                }),
                Oddity::Reserved { virt, level, bits } => reserved.push(ReservedRow {
                    virt: Hex(virt.get()),
                    level: level.to_string(),
                    bits: Hex(bits),
                }),
            }
        }
        let runs: Vec<RunRow> = tables.runs.iter().map(run_row).collect();
        let mask = tables.paging.encryption_mask;
        Read {
            root: tables.root.into(),
            root_from: source.root_from.clone(),
            levels: tables.paging.levels.count(),
            levels_from: source.levels_from.clone(),
            maxphyaddr: tables.paging.maxphyaddr,
            encryption_bit: (mask != 0).then(|| mask.trailing_zeros()),
            tables: CountRow {
                total: tables.count.total(),
                pml5: of(Level::Pml5),
                pml4: of(Level::Pml4),
                pdpt: of(Level::Pdpt),
                pd: of(Level::Pd),
                pt: of(Level::Pt),
            },
            mapped_bytes: tables.mapped_bytes(),
            identity_bytes: runs.iter().filter(|run| run.identity).map(|run| run.bytes).sum(),
            leaves: LeafCount::of(|size| tables.leaves(size)),
            runs,
            shared,
            unreadable,
            reserved,
            cut: tables.cut,
        }
    }

    fn write_head(&self, out: &mut String) {
        let Read { root, root_from, levels, levels_from, .. } = self;
        let _ = writeln!(out, "root      {:#018x} ({root_from})", root.0);
        let _ = write!(out, "paging    {levels}-level ({levels_from})");
        let _ = write!(out, ", {} address bits", self.maxphyaddr);
        if let Some(bit) = self.encryption_bit {
            let _ = write!(out, ", encryption bit {bit}");
        }
        out.push('\n');
    }

    fn write_runs(&self, out: &mut String, style: Style) {
        let mut table =
            Columns::new(&["virtual", "physical", ">page", ">count", ">size", "rights", "flags"]);
        for run in &self.runs {
            let phys = if run.identity { "identity".to_owned() } else { address(run.phys) };
            table.row(vec![
                range_text(&run.range),
                phys,
                run.page.to_owned(),
                run.count.to_string(),
                style.size(run.bytes),
                run.rights.clone(),
                Flags::from_bits(run.flags.0).to_string(),
            ]);
        }
        let _ = write!(out, "\n{}", table.render("", style));
        let count = &self.tables;
        let levels = [
            ("PML5", count.pml5),
            ("PML4", count.pml4),
            ("PDPT", count.pdpt),
            ("PD", count.pd),
            ("PT", count.pt),
        ];
        let levels: Vec<String> = levels
            .iter()
            .filter(|(_, count)| *count != 0)
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        let _ = writeln!(
            out,
            "\n{} tables ({}), {} mapped, {} of it identity",
            count.total,
            levels.join(", "),
            style.size(self.mapped_bytes),
            style.size(self.identity_bytes),
        );
        for row in &self.shared {
            let SharedRow { virt, level, table, first } = row;
            let _ = writeln!(
                out,
                "shared      {} repeats {}: the {level} at {}",
                address(*virt),
                address(*first),
                address(*table)
            );
        }
        for row in &self.reserved {
            let what = format!(
                "reserved    {}: reserved bits {:#x} in a {} entry: every access faults",
                address(row.virt),
                row.bits.0,
                row.level
            );
            let _ = writeln!(out, "{}", style.paint(Tone::Bad, &what));
        }
        for row in &self.unreadable {
            let what = format!(
                "unreadable  {}: the {} at {}",
                address(row.virt),
                row.level,
                address(row.table)
            );
            let _ = writeln!(out, "{}", style.paint(Tone::Doubt, &what));
        }
        if self.cut {
            let line = "cut         there is more than is listed here";
            let _ = writeln!(out, "{}", style.paint(Tone::Doubt, line));
        }
    }
}

impl ImageRow {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "image     {}, struct kimage at {}", self.kind, address(self.kimage));
        let _ = writeln!(
            out,
            "          {} segments, entry at {}, control page {}",
            self.segments.len(),
            address(self.start),
            address(self.control_page)
        );
    }
}

impl WalkRow {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "\nwalk of {}", address(self.address));
        for step in &self.steps {
            let _ = writeln!(
                out,
                "  {:<4} at {}  entry {:>3}: {}",
                step.level,
                address(step.table),
                step.index,
                address(step.entry)
            );
        }
        let _ = writeln!(out, "  {}", self.sentence);
    }
}

fn address(hex: Hex) -> String {
    format!("{:#018x}", hex.0)
}

fn run_row(run: &LeafRun) -> RunRow {
    let first = run.virt.get();
    RunRow {
        range: HexRange { start: Hex(first), end: Hex(first.wrapping_add(run.bytes() - 1)) },
        phys: run.phys.into(),
        identity: run.phys.get() == first,
        page: run.size.name(),
        count: run.count,
        flags: Hex(run.flags.bits()),
        rights: run.rights.to_string(),
        bytes: run.bytes(),
    }
}

fn image_row(image: &LoadedImage) -> ImageRow {
    ImageRow {
        kind: match image.kind {
            Kind::Kexec => "kexec -l",
            Kind::Kdump => "kexec -p",
        },
        kimage: Hex(image.structure.get()),
        control_page: image.control_page.into(),
        root_in: match image.root_in {
            RootPlace::OwnPage => "arch.pgd",
            RootPlace::ControlPage => "control page",
        },
        start: image.start.into(),
        head: Hex(image.head),
        segments: image.segments.iter().map(|segment| (*segment).into()).collect(),
    }
}

fn walk_row(walk: &Walk) -> WalkRow {
    let steps = walk.steps().map(|step| StepRow {
        level: step.level.to_string(),
        table: step.table.into(),
        index: step.index,
        entry: Hex(step.entry.bits()),
    });
    let mut row = WalkRow {
        address: Hex(walk.virt().get()),
        steps: steps.collect(),
        end: "not-present",
        phys: None,
        page: None,
        rights: None,
        sentence: "not present: a page fault".to_owned(),
    };
    let at = |table: PhysAddr| address(table.into());
    match walk.end() {
        WalkEnd::Mapped { phys, size, rights } => {
            row.end = "mapped";
            row.phys = Some(phys.into());
            row.page = Some(size.name());
            row.rights = Some(rights.to_string());
            row.sentence = format!("mapped to {} by a {size} leaf, {rights}", at(phys));
        }
        WalkEnd::NotPresent => {}
        WalkEnd::Reserved { bits } => {
            row.end = "reserved";
            row.sentence = format!("reserved bits {bits:#x}: a page fault, whatever the access");
        }
        WalkEnd::Unreadable { level, table } => {
            row.end = "unreadable";
            row.sentence = format!("not known: the {level} at {} cannot be read", at(table));
        }
        WalkEnd::NotCanonical => {
            row.end = "not-canonical";
            row.sentence = String::from("not canonical: a general-protection fault");
        }
    }
    row
}
