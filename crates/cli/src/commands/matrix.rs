//! `identmap matrix`.

use std::io::{self, IsTerminal};

use identmap_audit::{Candidate, Outcome, matrix};
use identmap_linux::{KernelVersion, Kind};
use identmap_report::MatrixReport;

use crate::args::{Matrix, Output};
use crate::output::{Failure, Status};
use crate::runs;
use crate::source;

pub(crate) fn run(args: &Matrix, output: &Output) -> Result<Status, Failure> {
    let (mut machine, bundle) = source::machine_and_bundle(&args.source, &args.facts)?;
    let entries = &args.facts.map;
    if !args.kernel.is_empty() {
        let drawn = runs::matrix(
            &args.kernel,
            &args.entry,
            &mut machine,
            entries,
            progress,
            &args.source,
            bundle.as_ref(),
        )?;
        return print(&MatrixReport::of_runs(&machine.source, &drawn), args, output);
    }
    let candidates = match &args.facts.consumer {
        None => Candidate::defaults(&machine),
        Some(release) => {
            let version = KernelVersion::parse(release, None)
                .map_err(|error| Failure(format!("--consumer {release}: {error}")))?;
            vec![Candidate { label: version.to_string(), version, sev: None }]
        }
    };
    let drawn = matrix(&machine, &candidates, Kind::Kexec, entries);
    print(&MatrixReport::new(&machine.source, &drawn), args, output)
}

/// Each kernel takes a second or so: said to a person who waits.
fn progress(kernel: &str) {
    if io::stderr().is_terminal() {
        eprintln!("running {kernel}");
    }
}

fn print(report: &MatrixReport, args: &Matrix, output: &Output) -> Result<Status, Failure> {
    if args.list.is_wanted() {
        output.print_list(report.list(), &args.list)?;
    } else {
        output.print(report, |style| report.text(style))?;
    }
    // A table of what would be is no verdict; only one that says nothing at all is reported.
    let tells = [Outcome::Ok, Outcome::Luck, Outcome::Fail, Outcome::Halt];
    Ok(if tells.into_iter().any(|outcome| report.has(outcome)) {
        Status::Safe
    } else {
        Status::Unknown
    })
}
