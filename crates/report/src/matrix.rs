//! `identmap matrix`: the small OK/FAIL table.

use std::fmt::Write;

use identmap_audit::{Hypothesis, LevelWay, Matrix, Outcome};
use serde::Serialize;

use crate::hex::HexRange;
use crate::list::{Cell, List, ListColumn, left, right};
use crate::map::range_text;
use crate::text::{Columns, Style, Tone};

/// The schema `identmap.matrix/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MatrixReport {
    schema: &'static str,
    source: String,
    /// `rules` or `preflight`.
    by: &'static str,
    consumers: Vec<String>,
    /// Whether the supposed places rest on an assumption, not on the firmware's own map.
    assumed: bool,
    #[serde(skip)]
    levels_open: bool,
    tables: Vec<TableRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct TableRow {
    /// What is supposed to lie in `place`; empty if nothing is supposed.
    supposed: Vec<String>,
    place: Vec<HexRange>,
    rows: Vec<CellRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct CellRow {
    policy: &'static str,
    config_table_requested: bool,
    gbpages: bool,
    /// `4->4` to `5->5`, producer and consumer; empty where levels are not told apart.
    levels: Vec<String>,
    outcomes: Vec<&'static str>,
    #[serde(skip)]
    levels_in_words: String,
}

const COLUMNS: &[ListColumn] = &[
    right("CASE", "number of the supposition, from 1", true),
    left("POLICY", "how the producer picks leaf sizes", true),
    left("CONFIG-TABLE", "whether it requests the EFI configuration table", true),
    left("GBPAGES", "whether 1G pages are in use", true),
    left("LEVELS", "paging levels of producer and consumer; - where not told apart", true),
    left("CONSUMER", "the kernel that is entered", true),
    left("OUTCOME", "OK, OK*, FAIL, HALT or ?", true),
    left("SUPPOSED", "what is supposed to lie in PLACE", false),
    left("PLACE", "where it is supposed to lie", false),
];

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

impl MatrixReport {
    /// Sums up a matrix.
    #[must_use]
    pub fn new(source: &str, matrix: &Matrix) -> MatrixReport {
        let mut ways: Vec<LevelWay> =
            matrix.rows.iter().flat_map(|row| row.levels.iter().copied()).collect();
        ways.sort_unstable();
        ways.dedup();
        let table = |hypothesis: &Hypothesis| TableRow {
            supposed: if hypothesis.place.is_empty() {
                Vec::new()
            } else {
                hypothesis.what.clone()
            },
            place: hypothesis.place.iter().map(|&range| range.into()).collect(),
            rows: matrix
                .rows
                .iter()
                .zip(&hypothesis.cells)
                .map(|(row, cells)| CellRow {
                    policy: row.policy.name(),
                    config_table_requested: row.config_table,
                    gbpages: row.gbpages,
                    levels: row.levels.iter().map(ToString::to_string).collect(),
                    levels_in_words: LevelWay::words(&row.levels, &ways),
                    outcomes: cells.iter().map(|outcome| outcome.word()).collect(),
                })
                .collect(),
        };
        MatrixReport {
            schema: "identmap.matrix/1",
            source: source.to_owned(),
            by: "rules",
            consumers: matrix.columns.iter().map(|column| column.label.clone()).collect(),
            assumed: matrix.assumed,
            levels_open: matrix.levels_open,
            tables: matrix.tables.iter().map(table).collect(),
        }
    }

    /// Sums up a matrix whose cells are runs of the consumers' first instructions.
    #[must_use]
    pub fn of_runs(source: &str, matrix: &Matrix) -> MatrixReport {
        MatrixReport { by: "preflight", ..MatrixReport::new(source, matrix) }
    }

    /// Whether some cell is a failure.
    #[must_use]
    pub fn has(&self, outcome: Outcome) -> bool {
        let mut rows = self.tables.iter().flat_map(|table| &table.rows);
        rows.any(|row| row.outcomes.contains(&outcome.word()))
    }

    /// One line for each cell.
    #[must_use]
    pub fn list(&self) -> List {
        let mut rows = Vec::new();
        for (case, table) in (1..).zip(&self.tables) {
            let places: Vec<String> = table.place.iter().map(range_text).collect();
            for row in &table.rows {
                for (consumer, outcome) in self.consumers.iter().zip(&row.outcomes) {
                    rows.push(vec![
                        Cell::Number(case),
                        Cell::Text(row.policy.to_owned()),
                        Cell::Text(yes(row.config_table_requested)),
                        Cell::Text(yes(row.gbpages)),
                        Cell::Text(match row.levels_in_words.as_str() {
                            "" => "-".to_owned(),
                            words => words.replace(", ", ","),
                        }),
                        Cell::Text(consumer.clone()),
                        Cell::Text((*outcome).to_owned()),
                        Cell::Text(table.supposed.join(", ")),
                        Cell::Text(places.join(",")),
                    ]);
                }
            }
        }
        List::new(COLUMNS, rows)
    }

    /// As text.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for table in &self.tables {
            if table.place.is_empty() {
                let _ = writeln!(out, "{}:", self.source);
            } else {
                let places: Vec<String> = table.place.iter().map(range_text).collect();
                let line =
                    format!("{}: if the {} lies in", self.source, table.supposed.join(" and the "));
                let _ = writeln!(out, "{}", style.paint(Tone::Strong, &line));
                for place in places {
                    let _ = writeln!(out, "  {place}");
                }
            }
            let levels = table.rows.iter().any(|row| !row.levels.is_empty());
            let mut names = vec!["producer", "config table", "1G pages"];
            names.extend(levels.then_some("levels"));
            names.extend(self.consumers.iter().map(String::as_str));
            let mut columns = Columns::new(&names);
            for row in &table.rows {
                let requested = if row.config_table_requested { "requested" } else { "-" };
                let pages = if row.gbpages { "on" } else { "nogbpages" };
                let mut cells = vec![row.policy.to_owned(), requested.to_owned(), pages.to_owned()];
                cells.extend(levels.then(|| row.levels_in_words.clone()));
                cells.extend(row.outcomes.iter().map(|&word| word.to_owned()));
                columns.row(cells);
            }
            out.push_str(&columns.render("  ", style));
            out.push('\n');
        }
        out.push_str(if self.by == "rules" { LEGEND } else { LEGEND_OF_RUNS });
        let mut rows = self.tables.iter().flat_map(|table| &table.rows);
        if rows.any(|row| !row.levels.is_empty()) {
            out.push_str(LEVELS);
        }
        if self.levels_open {
            out.push_str(LEVELS_OPEN);
        }
        if self.assumed {
            out.push_str(ASSUMED);
        }
        out
    }
}

const LEGEND: &str = "\
Columns are consumers. OK: mapped by request; OK*: mapped by over-reach only; FAIL: not mapped,
the machine resets; HALT: forbidden memory is mapped; ?: cannot be told.
";

const LEGEND_OF_RUNS: &str = "\
Columns are consumers; each cell is a run of the kernel's first instructions under the map. OK: it
reached its own page tables; OK*: what it touched is mapped by over-reach only; FAIL: it faulted or
halted; HALT: forbidden memory is mapped; ?: cannot be told.
";

const LEVELS: &str = "\
Levels are those of paging, of the producer and the consumer (4 with no5lvl, or without
CONFIG_X86_5LEVEL). 5->4 fails where the producer sets a flag in the first entry of its top table, as
kernels that request the table do since 6.12.5, and the consumer takes it for a part of an address
(before 6.1.160, 6.12.63, 7.2.13).
";

const LEVELS_OPEN: &str = "\
Some are ? because nothing tells whether the processor has 5 levels of paging: --la57 on or off.
";

const ASSUMED: &str = "\
The places are supposed: reserved memory near RAM below 4 GiB. --config-table ADDR settles it
(root reads it in /sys/firmware/efi/config_table).
";
