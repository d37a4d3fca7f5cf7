//! `identmap ranges`: the machine's memory, one range a line.

use identmap_machine::{Layout, LayoutOrigin, Source};
use serde::Serialize;

use crate::hex::HexRange;
use crate::list::{Cell, List, ListColumn, left, right};

/// The schema `identmap.ranges/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RangesReport {
    schema: &'static str,
    source: String,
    /// Which of the machine's maps it is.
    origin: String,
    ranges: Vec<RangeRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct RangeRow {
    #[serde(flatten)]
    range: HexRange,
    bytes: u64,
    #[serde(rename = "type")]
    kind: String,
}

const COLUMNS: &[ListColumn] = &[
    left("RANGE", "first and last byte", true),
    right("SIZE", "bytes", true),
    left("TYPE", "type of memory, in the kernel's words", true),
    left("START", "first byte", false),
    left("END", "last byte", false),
];

impl RangesReport {
    /// Lists a layout.
    #[must_use]
    pub fn new(source: &str, layout: &Layout) -> RangesReport {
        let origin = match layout.origin() {
            LayoutOrigin::Map(origin) => Source::Map(origin),
            LayoutOrigin::Iomem => Source::Iomem,
        };
        let row = |region: &identmap_machine::Region| RangeRow {
            range: region.range.into(),
            bytes: region.range.len(),
            kind: region.kind.to_string(),
        };
        RangesReport {
            schema: "identmap.ranges/1",
            source: source.to_owned(),
            origin: origin.to_string(),
            ranges: layout.regions().iter().map(row).collect(),
        }
    }

    /// The ranges.
    #[must_use]
    pub fn list(&self) -> List {
        let row = |row: &RangeRow| {
            vec![
                Cell::Text(crate::map::range_text(&row.range)),
                Cell::Size(row.bytes),
                Cell::Text(row.kind.clone()),
                Cell::Address(row.range.start.0),
                Cell::Address(row.range.end.0),
            ]
        };
        List::new(COLUMNS, self.ranges.iter().map(row).collect())
    }
}
