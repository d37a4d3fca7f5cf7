//! `identmap needs`.

use identmap_audit::Verdict;
use identmap_linux::Kind;
use identmap_report::{Form, NeedsReport};

use super::judging::{Judged, judge_within};
use crate::args::{Needs, Output};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Needs, output: &Output) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let kernel = args.kernel.as_deref().map(|path| (path, &args.entry));
    let answer = judge_within(args.limit, &args.source, &args.facts, kernel, kind)?;
    let Some((judged, _)) = answer else { return Ok(Status::Unknown) };
    let Judged { machine, producer, consumer, audit } = judged;
    let report = NeedsReport::new(&machine, &producer, &consumer, &audit, kind, args.all);
    if args.list.is_wanted() {
        output.print_list(report.list(args.each), &args.list)?;
    } else {
        output.print(&report, |style| report.list(args.each).text(Form::Aligned, true, style))?;
    }
    // What `check` makes of the needs; and where it cannot tell, neither can this.
    let of_needs = ["gap", "luck", "preflight-fault"];
    let found = audit.findings.iter().filter(|finding| of_needs.contains(&finding.id));
    let worst = found.map(identmap_audit::Finding::verdict).max();
    let unknown = audit.findings.iter().any(|finding| finding.verdict() == Verdict::Unknown);
    Ok(match worst.max(unknown.then_some(Verdict::Unknown)) {
        Some(Verdict::Unsafe) => Status::Problem,
        Some(Verdict::Unknown) => Status::Unknown,
        Some(Verdict::Safe) | None => Status::Safe,
    })
}
