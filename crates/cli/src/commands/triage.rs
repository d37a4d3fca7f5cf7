//! `identmap triage`.

use clap::ValueEnum;
use identmap_audit::{Saw, triage, ways};
use identmap_linux::Kind;
use identmap_report::TriageReport;

use super::judging::judge;
use crate::args::{Output, Triage};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Triage, output: &Output) -> Result<Status, Failure> {
    let saw = args.saw.saw();
    let kind = if args.crash || saw == Saw::NoDump { Kind::Kdump } else { Kind::Kexec };
    let judged = judge(&args.source, &args.facts, kind)?;
    let (machine, audit) = (&judged.machine, &judged.audit);
    let causes = triage(saw, machine, audit, kind);
    let word = args.saw.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    let report = TriageReport::new(&word, machine, audit, causes, ways(machine, audit));
    output.print(&report, |style| report.text(style))?;
    Ok(Status::Safe)
}
