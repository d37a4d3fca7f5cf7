//! `identmap check`.

use identmap_linux::Kind;
use identmap_report::{CheckReport, Picture};

use super::judging::{Judged, judge_within, status};
use crate::args::{Check, Output};
use crate::output::{Failure, Status};
use crate::picture;

pub(crate) fn run(args: &Check, output: &Output) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let kernel = args.kernel.as_deref().map(|path| (path, &args.entry));
    let answer = judge_within(args.limit, &args.source, &args.facts, kernel, kind)?;
    let Some((judged, runs)) = answer else { return Ok(Status::Unknown) };
    let Judged { machine, producer, consumer, audit } = judged;
    let mut report = CheckReport::new(&machine, &producer, &consumer, &audit);
    if let (Some((path, _)), Some(runs)) = (kernel, runs) {
        let shown = path.display().to_string();
        report = report.with_runs(&shown, runs.rows, runs.assumptions);
    }
    output.print(&report, |style| {
        let picture = || Picture::of_audit(&audit);
        report.text(style) + &picture::below(args.picture, style, &audit.findings, picture)
    })?;
    Ok(status(&audit, args.fail_on))
}
