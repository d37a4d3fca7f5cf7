//! `identmap explain`.

use identmap_report::ExplainReport;

use super::planning;
use crate::args::{Explain, Output};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Explain, output: &Output) -> Result<Status, Failure> {
    let planned = planning::plan(args.source.as_deref(), &args.plan, &args.facts)?;
    let memory = planned.layout.as_ref().map(|layout| match layout.at(args.address) {
        Some(region) => region.kind.to_string(),
        None => "not described by the memory map".to_owned(),
    });
    let doubt = planning::disagreement(&planned, &args.plan, &args.facts, args.address)?;
    let is_doubtful = doubt.is_some();
    let report = ExplainReport::new(&planned.coverage, args.address, &planned.requests, memory)
        .doubted(doubt);
    output.print(&report, |style| report.text(style))?;
    Ok(if is_doubtful {
        Status::Unknown
    } else if report.is_mapped() {
        Status::Safe
    } else {
        Status::Problem
    })
}
