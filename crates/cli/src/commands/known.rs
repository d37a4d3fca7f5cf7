//! `identmap known`.

use identmap_audit::{KNOWN_BAD, KnownBad};
use identmap_linux::{KernelVersion, Releases};
use identmap_report::KnownReport;

use crate::args::{Known, Output};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Known, output: &Output) -> Result<Status, Failure> {
    let producer = releases("--producer", args.producer.as_deref())?;
    let consumer = releases("--consumer", args.consumer.as_deref())?;
    let wanted = |known: &&KnownBad| {
        producer.is_none_or(|releases| known.is_producer(&releases))
            && consumer.is_none_or(|releases| known.is_consumer(&releases))
    };
    let report = KnownReport::new(KNOWN_BAD.iter().filter(wanted));
    if args.list.is_wanted() {
        output.print_list(report.list(), &args.list)?;
    } else {
        output.print(&report, |style| report.text(style))?;
    }
    Ok(Status::Safe)
}

fn releases(option: &str, text: Option<&str>) -> Result<Option<Releases>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let version = KernelVersion::parse(text, None)
        .map_err(|error| Failure(format!("{option} {text}: {error}")))?;
    Ok(Some(version.releases()))
}
