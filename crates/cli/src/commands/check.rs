//! `identmap check`.

use identmap_linux::Kind;
use identmap_report::CheckReport;

use super::judging::{Judged, judge, status};
use crate::args::{Check, Output};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Check, output: &Output) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let Judged { machine, producer, consumer, audit } = judge(&args.source, &args.facts, kind)?;
    let report = CheckReport::new(&machine, &producer, &consumer, &audit);
    output.print(&report, |style| report.text(style))?;
    Ok(status(&audit, args.fail_on))
}
