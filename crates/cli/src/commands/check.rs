//! `identmap check`.

use identmap_linux::Kind;
use identmap_report::{CheckReport, Picture};

use super::judging::{Judged, judge, judge_kernel, status};
use crate::args::{Check, Output};
use crate::output::{Failure, Status};
use crate::picture;

pub(crate) fn run(args: &Check, output: &Output) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let (judged, runs) = match &args.kernel {
        Some(path) => {
            let (judged, runs) = judge_kernel(path, &args.entry, &args.source, &args.facts)?;
            (judged, Some((path.display().to_string(), runs)))
        }
        None => (judge(&args.source, &args.facts, kind)?, None),
    };
    let Judged { machine, producer, consumer, audit } = judged;
    let mut report = CheckReport::new(&machine, &producer, &consumer, &audit);
    if let Some((path, runs)) = runs {
        report = report.with_runs(&path, runs.rows, runs.assumptions);
    }
    output.print(&report, |style| {
        let picture = || Picture::of_audit(&audit);
        report.text(style) + &picture::below(args.picture, style, &audit.findings, picture)
    })?;
    Ok(status(&audit, args.fail_on))
}
