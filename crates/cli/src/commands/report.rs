//! `identmap report`.

use std::io::{self, IsTerminal};
use std::path::Path;

use identmap_audit::{Candidate, Question, check, matrix};
use identmap_linux::Kind;
use identmap_machine::redact::redact;
use identmap_report::HtmlReport;

use super::capture;
use crate::args::{Output, Report};
use crate::output::{self, Failure, Status};
use crate::{image, runs, source};

/// A report is made to be handed on.
const MODE: u32 = 0o666;

pub(crate) fn run(args: &Report, output: &Output) -> Result<Status, Failure> {
    if output.json {
        return Err(Failure::new("a report is HTML; for JSON: identmap check --json"));
    }
    let to_file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    if to_file.is_none() && io::stdout().is_terminal() {
        return Err(Failure::new("name a file for the report: -o FILE"));
    }
    let html = html(args)?;
    match to_file {
        Some(file) => {
            output::write_file(file, html.as_bytes(), MODE)?;
            if !output.quiet {
                eprintln!("identmap: {}: {} bytes", file.display(), html.len());
            }
        }
        None if output.quiet => {}
        None => output::write_out(html.as_bytes())?,
    }
    Ok(Status::Safe)
}

fn html(args: &Report) -> Result<String, Failure> {
    let (name, raw, names) = capture::facts(&args.source)?;
    let bundle = if args.full { raw } else { redact(&raw, &names) };
    // The name of a file may be that of a host.
    let known = args.full || name == "live" || name.starts_with("sample:");
    let mut machine = bundle
        .machine(if known { &name } else { "a file" })
        .map_err(|e| Failure(format!("{name}: {e}")))?;
    source::apply(&mut machine, &args.facts)?;
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let entries = &args.facts.map;
    let image = if args.kernel.is_some() {
        Err("as they would be made for this kernel".to_owned())
    } else {
        image::on_machine(image::bundled(&bundle.tables, kind), &args.facts, &mut machine)
    };
    let producer = source::producer(&machine);
    let mut consumer = source::consumer(&args.facts)?;
    let sight = match &args.kernel {
        Some(path) => Some(runs::check(
            path,
            &args.entry,
            &mut machine,
            &producer,
            entries,
            &args.source,
            Some(&bundle),
        )?),
        None => None,
    };
    if let Some(sight) = &sight {
        consumer.version.clone_from(&sight.version);
    }
    let seen = sight.as_ref().map(|sight| sight.seen.as_slice());
    let tables = image::for_audit(&image);
    let question = Question { machine: &machine, producer, consumer, kind, tables, entries, seen };
    let audit = check(&question);
    let drawn = matrix(&machine, &Candidate::defaults(&machine), kind, entries);
    let report = HtmlReport {
        title: args.title.as_deref(),
        machine: &machine,
        redacted: bundle.redacted,
        producer: &question.producer,
        consumer: &question.consumer,
        audit: &audit,
        matrix: &drawn,
        runs: sight.as_ref().map_or(&[], |sight| sight.rows.as_slice()),
        assumptions: sight.as_ref().map_or(&[], |sight| sight.assumptions.as_slice()),
        date: args.date.as_deref(),
    };
    Ok(report.html())
}
