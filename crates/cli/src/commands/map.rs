//! `identmap map`.

use std::path::Path;

use identmap::{Arena, PhysAddr, Table};
use identmap_report::{MapReport, Picture};

use super::planning::{self, Planned};
use crate::args::{Map, Output};
use crate::output::{self, Failure, Status};
use crate::picture;

pub(crate) fn run(args: &Map, output: &Output) -> Result<Status, Failure> {
    let planned = planning::plan(args.source.as_deref(), &args.plan, &args.facts)?;
    if let (Some(file), Some(base)) = (&args.raw, args.base) {
        write_tables(file, base, &planned)?;
    }
    let report = MapReport::new(&planned.source, &planned.coverage, &planned.forbidden);
    if args.list.is_wanted() {
        output.print_list(report.list(), &args.list)?;
    } else {
        output.print(&report, |style| {
            let draw =
                || Picture::of_map(&planned.coverage, &planned.forbidden, planned.layout.as_ref());
            report.text(style) + &picture::below(args.picture, style, &[], draw)
        })?;
    }
    Ok(if report.exposes() { Status::Problem } else { Status::Safe })
}

/// Most tables that are written to a file: 1 GiB of them.
const MAX_TABLES: u64 = 1 << 18;

/// Builds the tables in memory and writes them as they will lie from `base` on.
fn write_tables(file: &Path, base: PhysAddr, planned: &Planned) -> Result<(), Failure> {
    let count = planned.coverage.tables.total();
    if count > MAX_TABLES {
        let most = MAX_TABLES;
        return Err(Failure(format!(
            "--raw: the map takes {count} tables; at most {most} are written"
        )));
    }
    let mut tables = vec![Table::EMPTY; usize::try_from(count).map_err(Failure::new)?];
    let mut arena =
        Arena::new(&mut tables, base).map_err(|error| Failure(format!("--base: {error}")))?;
    planned.with_plan(|plan| plan.build(&mut arena))?.map_err(Failure::new)?;
    let bytes: Vec<u8> =
        arena.tables().iter().flat_map(|table| table.0).flat_map(u64::to_le_bytes).collect();
    output::write_file(file, &bytes, 0o666)
}
