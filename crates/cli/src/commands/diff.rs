//! `identmap diff`.

use identmap_machine::{diff, diff_maps};
use identmap_report::DiffReport;

use crate::args::{Diff, Facts, Output};
use crate::output::{Failure, Status};
use crate::source;

pub(crate) fn run(args: &Diff, output: &Output) -> Result<Status, Failure> {
    let facts = Facts::default();
    let a = source::machine(&args.a, &facts)?;
    let report = match &args.b {
        None => DiffReport::of_maps(&diff_maps(&a)),
        Some(b) => {
            let b = source::machine(b, &facts)?;
            DiffReport::of_machines(&a.source, &b.source, &diff(&a, &b))
        }
    };
    output.print(&report, |style| report.text(style))?;
    Ok(match (report.is_known(), report.is_same()) {
        (_, false) => Status::Problem,
        (true, true) => Status::Safe,
        (false, true) => Status::Unknown,
    })
}
