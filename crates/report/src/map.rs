//! `identmap map`: what would be mapped.

use std::fmt::Write;

use identmap::PhysRange;
use identmap_audit::Coverage;
use identmap_machine::ranges;
use serde::Serialize;

use crate::hex::{Hex, HexRange};
use crate::list::{Cell, List, ListColumn, left, right};
use crate::text::{Columns, Style, Tone};

/// The schema `identmap.map/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MapReport {
    schema: &'static str,
    /// What the requests were taken from.
    source: String,
    policy: &'static str,
    levels: u8,
    gbpages: bool,
    tables: u64,
    table_bytes: u64,
    requested_bytes: u64,
    mapped_bytes: u64,
    over_reach_bytes: u64,
    exposure_bytes: u64,
    leaves: Vec<LeafRow>,
    /// Mapped forbidden bytes, merged.
    exposed: Vec<HexRange>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct LeafRow {
    #[serde(flatten)]
    range: HexRange,
    page: &'static str,
    count: u64,
    flags: Hex,
}

const COLUMNS: &[ListColumn] = &[
    left("RANGE", "first and last byte", true),
    right("PAGE", "size of the leaves: 4K, 2M or 1G", true),
    right("COUNT", "number of leaves", true),
    right("SIZE", "bytes", true),
    left("START", "first byte", false),
    left("END", "last byte", false),
    left("FLAGS", "flag bits of each leaf", false),
];

impl MapReport {
    /// Sums up a planned map; `forbidden` is sorted and disjoint.
    #[must_use]
    pub fn new(source: &str, coverage: &Coverage, forbidden: &[PhysRange]) -> MapReport {
        let exposed = ranges::intersect(&coverage.mapped, forbidden);
        let leaf_row = |run: &identmap::Run| LeafRow {
            range: run.range().into(),
            page: run.size().name(),
            count: run.count(),
            flags: Hex(coverage.config.leaf_entry_flags(run.size())),
        };
        MapReport {
            schema: "identmap.map/1",
            source: source.to_owned(),
            policy: coverage.policy.name(),
            levels: coverage.config.levels.count(),
            gbpages: coverage.config.gbpages,
            tables: coverage.tables.total(),
            table_bytes: coverage.tables.bytes(),
            requested_bytes: ranges::total(&coverage.requested),
            mapped_bytes: coverage.mapped_bytes(),
            over_reach_bytes: ranges::total(&coverage.over_reach()),
            exposure_bytes: ranges::total(&exposed),
            leaves: coverage.runs.iter().map(leaf_row).collect(),
            exposed: exposed.into_iter().map(HexRange::from).collect(),
        }
    }

    /// Whether a forbidden byte is mapped.
    #[must_use]
    pub fn exposes(&self) -> bool {
        self.exposure_bytes != 0
    }

    /// The leaves.
    #[must_use]
    pub fn list(&self) -> List {
        let row = |row: &LeafRow| {
            vec![
                Cell::Text(range_text(&row.range)),
                Cell::Text(row.page.to_owned()),
                Cell::Number(row.count),
                Cell::Size(row.range.end.0 - row.range.start.0 + 1),
                Cell::Address(row.range.start.0),
                Cell::Address(row.range.end.0),
                Cell::Address(row.flags.0),
            ]
        };
        List::new(COLUMNS, self.leaves.iter().map(row).collect())
    }

    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut table = Columns::new(&["range", ">page", ">count", ">size"]);
        for row in &self.leaves {
            let bytes = row.range.end.0 - row.range.start.0 + 1;
            table.row(vec![
                range_text(&row.range),
                row.page.to_owned(),
                row.count.to_string(),
                style.size(bytes),
            ]);
        }
        let mut out = table.render("", style);
        let _ = writeln!(
            out,
            "\n{}: {} tables ({}), {} requested, {} mapped, {} over-reach",
            self.policy,
            self.tables,
            style.size(self.table_bytes),
            style.size(self.requested_bytes),
            style.size(self.mapped_bytes),
            style.size(self.over_reach_bytes),
        );
        if self.exposes() {
            let line = format!("{} of forbidden memory mapped:", style.size(self.exposure_bytes));
            let _ = writeln!(out, "{}", style.paint(Tone::Bad, &line));
            for range in &self.exposed {
                let _ = writeln!(out, "  {}", range_text(range));
            }
        }
        out
    }
}

pub(crate) fn range_text(range: &HexRange) -> String {
    format!("{:#018x}-{:#018x}", range.start.0, range.end.0)
}
