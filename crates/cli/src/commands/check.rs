//! `identmap check`.

use identmap_audit::{ImageTables, Question, check};
use identmap_linux::Kind;
use identmap_report::{CheckReport, Picture};

use super::judging::{Judged, judge, status};
use crate::args::{Check, Output};
use crate::output::{Failure, Status};
use crate::{guard, picture, runs, source};

pub(crate) fn run(args: &Check, output: &Output) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    if let Some(path) = &args.kernel {
        let (mut machine, bundle) = source::machine_and_bundle(&args.source, &args.facts)?;
        let producer = source::producer(&machine);
        let mut consumer = source::consumer(&args.facts)?;
        let entries = &args.facts.map;
        let sight = runs::check(
            path,
            &args.entry,
            &mut machine,
            &producer,
            entries,
            &args.source,
            bundle.as_ref(),
        )?;
        consumer.version = sight.version;
        let tables = ImageTables::NotRead("as they would be made for this kernel".to_owned());
        let seen = Some(sight.seen.as_slice());
        let question =
            Question { machine: &machine, producer, consumer, kind, tables, entries, seen };
        let mut audit = check(&question);
        let signature = guard::of_kernel(path, &args.source, &machine, bundle.as_ref());
        audit.add(signature.into_iter().collect());
        let report = CheckReport::new(&machine, &question.producer, &question.consumer, &audit)
            .with_runs(&path.display().to_string(), sight.rows, sight.assumptions);
        output.print(&report, |style| {
            let picture = || Picture::of_audit(&audit);
            report.text(style) + &picture::below(args.picture, style, &audit.findings, picture)
        })?;
        return Ok(status(&audit, args.fail_on));
    }
    let Judged { machine, producer, consumer, audit } = judge(&args.source, &args.facts, kind)?;
    let report = CheckReport::new(&machine, &producer, &consumer, &audit);
    output.print(&report, |style| {
        let picture = || Picture::of_audit(&audit);
        report.text(style) + &picture::below(args.picture, style, &audit.findings, picture)
    })?;
    Ok(status(&audit, args.fail_on))
}
