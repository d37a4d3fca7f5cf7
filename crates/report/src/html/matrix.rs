//! The policies side by side, and the small OK/FAIL table.

use identmap::PageSize;
use identmap_audit::{Audit, LevelWay, Matrix, Outcome};

use super::table::{self, Cell, Head, plain};
use super::{Markup, section};
use crate::text::human_size;

pub(super) fn write_policies(out: &mut Markup, audit: &Audit) {
    section(out, "policies", "What each policy would map");
    let count = |n: u64| plain(if n == 0 { "-".to_owned() } else { n.to_string() });
    let size = |n: u64, tone| {
        let some = n != 0;
        (if some { human_size(n) } else { "-".to_owned() }, Some(tone).filter(|_| some))
    };
    let row = |row: &identmap_audit::PolicyRow| -> Vec<Cell> {
        let name = plain(row.policy.name());
        let figures = match &row.map {
            Ok(figures) => figures,
            Err(error) => return vec![name, plain(format!("no map: {error}"))],
        };
        let gap = if figures.gap_bytes == 0 && figures.gap_if_bytes != 0 {
            (format!("? {}", human_size(figures.gap_if_bytes)), Some("doubt"))
        } else {
            size(figures.gap_bytes, "bad")
        };
        vec![
            name,
            plain(figures.tables.total().to_string()),
            count(figures.coverage.leaves(PageSize::Size4K)),
            count(figures.coverage.leaves(PageSize::Size2M)),
            count(figures.coverage.leaves(PageSize::Size1G)),
            plain(human_size(figures.coverage.mapped_bytes())),
            gap,
            size(figures.luck_bytes, "doubt"),
            size(figures.reserved_bytes, "quiet"),
            size(figures.exposure_bytes, "bad"),
        ]
    };
    let rows: Vec<_> = audit.policies.iter().map(row).collect();
    let heads = [
        Head::Text("Policy"),
        Head::Number("Tables"),
        Head::Number("4K"),
        Head::Number("2M"),
        Head::Number("1G"),
        Head::Number("Mapped"),
        Head::Number("Gap"),
        Head::Number("Luck"),
        Head::Number("Reserved"),
        Head::Number("Exposed"),
    ];
    table::write(out, "Leaves by size, and what they leave out or reach over", &heads, &rows);
    out.leaf(
        "p",
        &[("class", "note")],
        "Gap: needed, not mapped (with ?: only if it lies there). Luck: needed, mapped by over-reach only. \
         Reserved: not RAM, mapped by over-reach. Exposed: must not be mapped, and is.",
    );
    out.close();
}

pub(super) fn write(out: &mut Markup, matrix: &Matrix) {
    section(out, "matrix", "Producers and consumers");
    for hypothesis in &matrix.tables {
        let caption = if hypothesis.place.is_empty() {
            "How the jump ends".to_owned()
        } else {
            let places: Vec<String> = hypothesis
                .place
                .iter()
                .take(4)
                .map(|r| format!("{:#x}-{:#x}", r.start().get(), r.last().get()))
                .collect();
            let more = hypothesis.place.len().saturating_sub(4);
            let more = if more == 0 { String::new() } else { format!(" or {more} more") };
            format!(
                "If the {} lies in {}{more}",
                hypothesis.what.join(" and the "),
                places.join(" or ")
            )
        };
        let columns: Vec<String> =
            matrix.columns.iter().map(|column| format!("→ {}", column.label)).collect();
        let mut heads =
            vec![Head::Text("Producer"), Head::Text("Configuration table"), Head::Text("1G pages")];
        let mut ways: Vec<LevelWay> =
            matrix.rows.iter().flat_map(|row| row.levels.iter().copied()).collect();
        ways.sort_unstable();
        ways.dedup();
        heads.extend((!ways.is_empty()).then_some(Head::Text("Paging levels")));
        heads.extend(columns.iter().map(|column| Head::Text(column)));
        let rows: Vec<Vec<Cell>> = matrix
            .rows
            .iter()
            .zip(&hypothesis.cells)
            .map(|(row, cells)| {
                let mut line = vec![
                    plain(row.policy.name()),
                    plain(if row.config_table { "requested" } else { "-" }),
                    plain(if row.gbpages { "on" } else { "nogbpages" }),
                ];
                let levels = LevelWay::words(&row.levels, &ways);
                line.extend((!ways.is_empty()).then(|| plain(levels)));
                line.extend(cells.iter().map(|&outcome| cell(outcome)));
                line
            })
            .collect();
        table::write(out, &caption, &heads, &rows);
    }
    out.leaf(
        "p",
        &[("class", "note")],
        "OK: mapped by request. OK*: mapped by over-reach only. FAIL: not mapped, the machine resets. HALT: \
         forbidden memory is mapped. ?: cannot be told.",
    );
    if matrix.assumed {
        out.leaf(
            "p",
            &[("class", "note")],
            "The places are supposed: reserved memory near RAM below 4 GiB. --config-table ADDR settles it \
             (root reads it in /sys/firmware/efi/config_table).",
        );
    }
    out.close();
}

fn cell(outcome: Outcome) -> Cell {
    let class = match outcome {
        Outcome::Ok => "good",
        Outcome::Luck | Outcome::Unknown => "doubt",
        Outcome::Fail | Outcome::Halt => "bad",
    };
    (outcome.word().to_owned(), Some(class))
}
