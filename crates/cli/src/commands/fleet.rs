//! `identmap fleet`.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use identmap_linux::Kind;
use identmap_report::fleet::{FleetFormat, FleetReport, FleetRow, FleetVerdict};

use super::judging::{Judged, judge, status};
use crate::args::{Facts, FailOn, Fleet, Format, Limit, Output};
use crate::inputs::{Input, collect};
use crate::output::{Failure, NewFile, Status, write_out};
use crate::parallel::in_order;
use crate::{deadline, source};

pub(crate) fn run(args: &Fleet, output: &Output) -> Result<Status, Failure> {
    let facts = args.facts();
    // A mistake in them is the user's, not that of every machine.
    source::check_releases(&facts)?;
    let inputs = collect(&args.paths, args.depth)?;
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let work = |input: &Input| match input {
        Input::Unsearchable(name, why) => {
            (FleetRow::unreadable(name, why), unreadable_status(args.fail_on))
        }
        Input::Source(name) => match judged_in_time(name, args, &facts, kind) {
            Ok(judged) => (
                FleetRow::judged(&judged.machine, &judged.audit),
                status(&judged.audit, args.fail_on),
            ),
            Err(error) => {
                (FleetRow::unreadable(name, &error.to_string()), unreadable_status(args.fail_on))
            }
        },
    };

    let mut out = Sink::new(args, output)?;
    let format = format(args, output);
    let style = output.style_of(args.file.is_none() && io::stdout().is_terminal());
    let mut report = FleetReport::new(format, style, inputs.len());
    let mut progress = Progress::new(inputs.len(), !output.quiet && out.leaves_terminal(format));
    out.write(&report.start())?;
    let mut worst = Status::Safe;
    let mut read = 0_usize;
    in_order(&inputs, jobs(args), work, |(row, status)| {
        worst = worse(worst, status);
        read += usize::from(row.verdict() != FleetVerdict::Unreadable);
        progress.step(row.verdict());
        out.write(&report.row(&row))
    })?;
    progress.end();
    out.write(&report.end())?;
    out.finish()?;
    if read == 0 {
        // Nothing was judged, as `check` of the same would end.
        return Err(Failure("nothing of what was named could be read".to_owned()));
    }
    Ok(worst)
}

/// Judges one machine, if it takes no longer than it may.
fn judged_in_time(name: &str, args: &Fleet, facts: &Facts, kind: Kind) -> Result<Judged, Failure> {
    let limit = deadline::of(Limit { timeout: args.timeout }, name, deadline::Kind::Rules);
    let (own, facts) = (name.to_owned(), facts.clone());
    deadline::within(limit, move || judge(&own, &facts, kind))
        .unwrap_or_else(|| Err(Failure(deadline::message(limit))))
}

fn format(args: &Fleet, output: &Output) -> FleetFormat {
    match args.format {
        _ if output.json => FleetFormat::Json,
        Format::Text => FleetFormat::Text,
        Format::Json => FleetFormat::Json,
        Format::Prometheus => FleetFormat::Prometheus,
        Format::Junit => FleetFormat::Junit,
        Format::Tap => FleetFormat::Tap,
    }
}

fn jobs(args: &Fleet) -> NonZeroUsize {
    args.jobs.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// What cannot be read cannot be told.
fn unreadable_status(fail_on: FailOn) -> Status {
    if fail_on == FailOn::Never { Status::Safe } else { Status::Unknown }
}

fn worse(a: Status, b: Status) -> Status {
    let rank = |status| match status {
        Status::Safe => 0,
        Status::Unknown => 1,
        Status::Unusable => 2,
        Status::Problem => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Where the output goes.
enum Sink {
    Nowhere,
    Stdout,
    File(NewFile),
}

impl Sink {
    fn new(args: &Fleet, output: &Output) -> Result<Sink, Failure> {
        Ok(match &args.file {
            // Who collects the file is another user than who writes it.
            Some(file) if file.as_os_str() != "-" => Sink::File(NewFile::create(file, 0o644)?),
            _ if output.quiet => Sink::Nowhere,
            _ => Sink::Stdout,
        })
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            _ if text.is_empty() => Ok(()),
            Sink::Nowhere => Ok(()),
            Sink::Stdout => write_out(text.as_bytes()),
            Sink::File(file) => file.write(text.as_bytes()),
        }
    }

    /// Whether a progress line would not be torn up by the output.
    fn leaves_terminal(&self, format: FleetFormat) -> bool {
        !matches!(self, Sink::Stdout) || format.is_at_end() || !io::stdout().is_terminal()
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Sink::File(file) => file.commit(),
            Sink::Nowhere | Sink::Stdout => Ok(()),
        }
    }
}

/// A line on the terminal, if standard error is one, that says how far it is.
struct Progress {
    total: usize,
    done: usize,
    problems: usize,
    shown: Option<Instant>,
    on: bool,
}

impl Progress {
    const WIDTH: usize = 30;

    fn new(total: usize, wanted: bool) -> Progress {
        let on = wanted && io::stderr().is_terminal();
        Progress { total, done: 0, problems: 0, shown: None, on }
    }

    fn step(&mut self, verdict: FleetVerdict) {
        self.done += 1;
        self.problems += usize::from(verdict == FleetVerdict::Unsafe);
        if !self.on || self.shown.is_some_and(|last| last.elapsed() < Duration::from_millis(100)) {
            return;
        }
        self.shown = Some(Instant::now());
        let filled = self.done * Progress::WIDTH / self.total.max(1);
        let bar = format!("{:.<width$}", "#".repeat(filled), width = Progress::WIDTH);
        let line = format!("\r[{bar}] {} of {}, {} unsafe", self.done, self.total, self.problems);
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }

    fn end(&mut self) {
        if self.shown.is_some() {
            // Erase the line (ECMA-48 EL).
            let _ = io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}
