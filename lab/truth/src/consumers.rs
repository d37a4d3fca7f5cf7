//! What every kernel at hand touches before it has its own page tables.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use identmap::{Levels, PhysAddr};
use identmap_lab::guest::Failure;
use identmap_linux::boot::{BzImage, Strategy};
use identmap_preflight::{CpuProfile, Outcome, Report, Touch, run as preflight};

use crate::kernels::{self, Kernel};
use crate::report::output;
use crate::world::{Base, Tables, Terms, World};

/// The processors.
const CPUS: [&str; 3] = ["amd-nosev", "amd-sev", "intel"];
/// Runs of which the fastest counts: the machine has other work too.
const RUNS: usize = 5;
/// A run has to end within, of the processor's time: other work on the machine does not count.
const BOUND: Duration = Duration::from_millis(500);
/// Only in an optimised build are times of interest.
const TIMED: bool = !cfg!(debug_assertions);

/// An image on all processors.
struct Row {
    kernel: Kernel,
    /// What is wrong with the image; or a report for each of [`CPUS`], the fastest of its runs, with the
    /// processor's time as its time.
    reports: Result<Vec<Report>, String>,
}

/// Prints the table; whether every kernel comes to its own tables in time, and every other image
/// gets a clear answer.
///
/// # Errors
/// When there are no kernels.
pub fn run(cache: &Path, markdown: bool) -> Result<bool, Failure> {
    let kernels = kernels::all(cache)?;
    let rows: Vec<Row> = kernels
        .into_iter()
        .map(|kernel| {
            let reports = reports(&kernel).map_err(|error| error.to_string());
            Row { kernel, reports }
        })
        .collect();
    if markdown {
        print!("{}", document(&rows)?);
    } else {
        for row in &rows {
            print!("{}", lines(row));
        }
    }
    let good = rows.iter().filter(|row| row.is_good()).count();
    if !markdown {
        println!("{good} passed, {} failed", rows.len() - good);
    }
    Ok(good == rows.len())
}

/// Those that are Linux, for a 64-bit loader.
#[must_use]
pub fn sound(kernels: Vec<Kernel>) -> Vec<Kernel> {
    let sound = |kernel: &Kernel| {
        kernel.is_linux() && kernel.read().is_ok_and(|image| BzImage::parse(&image).is_ok())
    };
    kernels.into_iter().filter(sound).collect()
}

fn reports(kernel: &Kernel) -> Result<Vec<Report>, Failure> {
    let image = kernel.read()?;
    let mut reports = Vec::new();
    for cpu in CPUS {
        let terms = Terms {
            strategy: Strategy::TopDown,
            cmdline: "console=ttyS0".to_owned(),
            efi: true,
            many_regions: false,
            profile: CpuProfile::named(cpu).ok_or("no such processor")?,
            levels: Levels::Four,
        };
        let tables =
            Tables { base: Base::Whole, gbpages: true, holes: Vec::new(), edits: Vec::new() };
        let scene = World::load(&image, terms)?.scene(&tables)?;
        let timed = || -> Result<Report, Failure> {
            let before = processor_time();
            let mut report = preflight(&scene)?;
            if let (Some(before), Some(after)) = (before, processor_time()) {
                report.time = after.saturating_sub(before);
            }
            Ok(report)
        };
        let mut best = timed()?;
        let further = if TIMED { RUNS - 1 } else { 0 };
        for _ in 0..further {
            let report = timed()?;
            if report.instructions != best.instructions || report.outcome != best.outcome {
                return Err(format!("{cpu}: two runs differ").into());
            }
            if report.time < best.time {
                best = report;
            }
        }
        reports.push(best);
    }
    Ok(reports)
}

/// What this thread has had of the processor's time (Linux, Documentation/scheduler/sched-stats.rst).
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

impl Row {
    fn is_good(&self) -> bool {
        match &self.reports {
            Err(_) => !self.kernel.is_linux(),
            Ok(reports) => reports.iter().all(|report| {
                let sound = match report.outcome {
                    Outcome::Reached { .. } => true,
                    Outcome::Unknown(_) => false,
                    Outcome::Fault(_) | Outcome::Halted { .. } => !self.kernel.is_linux(),
                };
                sound && (!TIMED || report.time < BOUND)
            }),
        }
    }
}

fn lines(row: &Row) -> String {
    let word = if row.is_good() { "passed" } else { "FAILED" };
    let name = &row.kernel.name;
    let mut text = String::new();
    match &row.reports {
        Err(error) => {
            let _ = writeln!(text, "{name:20} {word}  refused: {error}");
        }
        Ok(reports) => {
            for (cpu, report) in CPUS.iter().zip(reports) {
                let time = report.time.as_secs_f64();
                let Report { outcome, instructions, .. } = report;
                let _ = writeln!(
                    text,
                    "{name:20} {word}  {cpu:10} {time:6.3} s {instructions:9} instructions  {outcome}"
                );
                for place in places(report) {
                    let _ = writeln!(text, "{:29} {place}", "");
                }
            }
        }
    }
    text
}

/// The pages touched outside of what was loaded, neighbours of one kind together.
fn places(report: &Report) -> Vec<String> {
    let name =
        |touch: &Touch| touch.what.as_ref().map_or("?", |(_, name)| name.as_str()).to_owned();
    let mut groups: Vec<Vec<&Touch>> = Vec::new();
    for touch in &report.touched {
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|last| {
                    last.page.checked_add(4096) == Some(touch.page) && name(last) == name(touch)
                }) =>
            {
                group.push(touch);
            }
            _ => groups.push(vec![touch]),
        }
    }
    groups
        .iter()
        .map(|group| {
            let (first, last) = (group[0], group[group.len() - 1]);
            let end = last.page.get() + 4095;
            let at = first.at.as_ref().map_or_else(|| first.rip.to_string(), ToString::to_string);
            let all = |of: fn(&Touch) -> bool| group.iter().any(|touch| of(touch));
            let kinds = [
                (all(|t| t.read), "read"),
                (all(|t| t.written), "written"),
                (all(|t| t.executed), "executed"),
            ];
            let kinds: Vec<&str> = kinds.iter().filter(|k| k.0).map(|k| k.1).collect();
            format!(
                "{:#x}-{end:#x}: {}; {}, first by {at}",
                first.page.get(),
                what(&name(first), first.page),
                kinds.join(" and ")
            )
        })
        .collect()
}

/// e820's word alone says little of low memory.
fn what(name: &str, page: PhysAddr) -> String {
    if name == "usable" && page.get() < 0x10_0000 {
        "RAM below 1 MiB".to_owned()
    } else {
        name.to_owned()
    }
}

fn document(rows: &[Row]) -> Result<String, Failure> {
    let mut text = include_str!("consumers.md.in").to_owned();
    text = text.replace("@DATE@", &output("date", &["-u", "+%Y-%m-%d"])?);
    text = text.replace("@RUNS@", &RUNS.to_string());
    text.push_str("| consumer | package | without SEV | | with SEV in CPUID | | Intel | |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|\n");
    for row in rows {
        let Ok(reports) = &row.reports else { continue };
        if !row.kernel.is_linux() {
            continue;
        }
        let _ = write!(text, "| {} | {} ", row.kernel.name, row.kernel.package);
        for report in reports {
            let (time, count) = (report.time.as_secs_f64(), report.instructions);
            let _ = write!(text, "| {time:.2} s | {count} ");
        }
        text.push_str("|\n");
    }
    text.push_str("\n## What they touch outside of what is loaded\n\n");
    text.push_str("| consumer | without SEV | with SEV in CPUID | Intel |\n|---|---|---|---|\n");
    for row in rows.iter().filter(|row| row.kernel.is_linux()) {
        let Ok(reports) = &row.reports else { continue };
        let _ = write!(text, "| {} ", row.kernel.name);
        for report in reports {
            let cell = match &report.outcome {
                Outcome::Reached { .. } if report.touched.is_empty() => "nothing".to_owned(),
                Outcome::Reached { .. } => places(report).join("<br>"),
                outcome => outcome.to_string(),
            };
            let _ = write!(text, "| {cell} ");
        }
        text.push_str("|\n");
    }
    text.push_str(
        "\n## Images that are no kernels\n\n| image | package | answer |\n|---|---|---|\n",
    );
    for row in rows.iter().filter(|row| !row.kernel.is_linux()) {
        let answer = match &row.reports {
            Err(error) => format!("refused: {error}"),
            Ok(reports) => reports[0].outcome.to_string(),
        };
        let _ = writeln!(text, "| {} | {} | {answer} |", row.kernel.name, row.kernel.package);
    }
    Ok(text)
}
