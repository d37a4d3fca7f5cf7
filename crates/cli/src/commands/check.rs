//! `identmap check`.

use identmap_audit::{Audit, ImageTables, Question, Severity, Verdict, check};
use identmap_linux::Kind;
use identmap_machine::Machine;
use identmap_machine::bundle::Bundle;
use identmap_report::{CheckReport, Picture};

use crate::args::{Check, FailOn, Output};
use crate::image::{self, Image};
use crate::output::{Failure, Status};
use crate::{picture, runs, source};

pub(crate) fn run(args: &Check, output: &Output) -> Result<Status, Failure> {
    let (mut machine, bundle) = source::machine_and_bundle(&args.source, &args.facts)?;
    let producer = source::producer(&machine);
    let mut consumer = source::consumer(&args.facts)?;
    let entries = &args.facts.map;
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    if let Some(path) = &args.kernel {
        let sight = runs::check(path, &args.entry, &mut machine, &producer, entries)?;
        consumer.version = sight.version;
        let tables = ImageTables::NotRead("as they would be made for this kernel".to_owned());
        let seen = Some(sight.seen.as_slice());
        let question =
            Question { machine: &machine, producer, consumer, kind, tables, entries, seen };
        let audit = check(&question);
        let report = CheckReport::new(&machine, &question.producer, &question.consumer, &audit)
            .with_runs(&path.display().to_string(), sight.rows, sight.assumptions);
        output.print(&report, |style| {
            let picture = || Picture::of_audit(&audit);
            report.text(style) + &picture::below(args.picture, style, &audit.findings, picture)
        })?;
        return Ok(status(&audit, args.fail_on));
    }
    let image = of_image(args, bundle.as_ref(), &mut machine, kind);
    let tables = image::for_audit(&image);
    let question =
        Question { machine: &machine, producer, consumer, kind, tables, entries, seen: None };
    let audit = check(&question);
    let report = CheckReport::new(&machine, &question.producer, &question.consumer, &audit);
    output.print(&report, |style| {
        let picture = || Picture::of_audit(&audit);
        report.text(style) + &picture::below(args.picture, style, &audit.findings, picture)
    })?;
    Ok(status(&audit, args.fail_on))
}

/// The image that is loaded, with its tables, or why they are not used. What the image tells of the
/// machine is added.
fn of_image(
    args: &Check,
    bundle: Option<&Bundle>,
    machine: &mut Machine,
    kind: Kind,
) -> Result<Image, String> {
    if bundle.is_none() && args.source != "live" {
        return Err("only a running kernel's image can be read".to_owned());
    }
    let supposed = &args.facts;
    if supposed.producer.is_some() || supposed.nogbpages {
        return Err("another producer is supposed".to_owned());
    }
    if !supposed.map.is_empty() {
        return Err("another map is supposed".to_owned());
    }
    let image = match bundle {
        Some(bundle) => image::bundled(&bundle.tables, kind),
        None => image::live(machine, kind),
    }?;
    image.tell(machine);
    Ok(image)
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
