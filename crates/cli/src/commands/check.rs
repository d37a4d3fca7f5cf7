//! `identmap check`.

use identmap_audit::{Audit, Question, Severity, Verdict, check};
use identmap_linux::Kind;
use identmap_report::CheckReport;

use crate::args::{Check, FailOn, Output};
use crate::output::{Failure, Status};
use crate::source;

pub(crate) fn run(args: &Check, output: &Output) -> Result<Status, Failure> {
    let machine = source::machine(&args.source, &args.facts)?;
    let producer = source::producer(&machine);
    let consumer = source::consumer(&args.facts)?;
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let question = Question { machine: &machine, producer, consumer, kind };
    let audit = check(&question);
    let report = CheckReport::new(&machine, &question.producer, &question.consumer, &audit);
    output.print(&report, |style| report.text(style))?;
    Ok(status(&audit, args.fail_on))
}

fn status(audit: &Audit, fail_on: FailOn) -> Status {
    let worst = match fail_on {
        FailOn::Never => return Status::Safe,
        FailOn::Error => None,
        FailOn::Warning => Some(Severity::Warning),
        FailOn::Info => Some(Severity::Info),
    };
    match audit.verdict {
        Verdict::Unsafe => Status::Problem,
        _ if worst.is_some_and(|level| audit.findings.iter().any(|f| f.severity >= level)) => {
            Status::Problem
        }
        Verdict::Unknown => Status::Unknown,
        Verdict::Safe => Status::Safe,
    }
}
