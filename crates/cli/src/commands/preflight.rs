//! `identmap preflight`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use identmap::PhysRange;
use identmap_audit::By;
use identmap_linux::{Consumer, Kind, Producer, Traits, gbpages};
use identmap_machine::{Layout, Machine};
use identmap_preflight::{
    Content, Fault, ImagePlace, Limits, Outcome, Report, Scene, SceneError, Setup, Touch,
    run_in_child, this_program,
};
use identmap_report::Style;
use serde::Serialize;

use super::preflight_loaded;
use crate::args::{Output, Preflight};
use crate::output::{Failure, Status};
use crate::runs::version;
use crate::supposed::{self, Levels};
use crate::{deadline, doubt, firmware, source};

/// The argument that makes this program the emulator's process.
pub(crate) const WORKER: &str = "--preflight-worker";

/// The largest file taken for a kernel. Distributions' are below 20 MB.
const LARGEST_KERNEL: u64 = 1 << 30;

pub(crate) fn run(args: &Preflight, output: &Output) -> Result<Status, Failure> {
    let source = args.source();
    let limit = deadline::of(args.limit, &source, deadline::Kind::Runs);
    let own = args.clone();
    let Some(report) = deadline::within(limit, move || report(&own)) else {
        eprintln!("identmap: {source}: {}", deadline::message(limit));
        return Ok(Status::Unknown);
    };
    let report = report?;
    output.print(&report, |style| report.text(style))?;
    Ok(match report.verdict {
        "safe" => Status::Safe,
        "unsafe" => Status::Problem,
        _ => Status::Unknown,
    })
}

fn report(args: &Preflight) -> Result<PreflightReport, Failure> {
    let source = args.source();
    let (machine, bundle) = source::machine_and_bundle(&source, &args.facts)?;
    let known = firmware::known(&source, &machine, bundle.as_ref());
    let layout = Layout::of(&machine)
        .ok_or_else(|| Failure(format!("{}: no memory map in it", machine.source)))?;
    match &args.kernel {
        Some(kernel) if !args.loaded => of_kernel(args, kernel, machine, &layout, &known),
        _ => preflight_loaded::report(args, &machine, &layout, &known),
    }
}

fn of_kernel(
    args: &Preflight,
    file: &Path,
    mut machine: Machine,
    layout: &Layout,
    known: &[Content],
) -> Result<PreflightReport, Failure> {
    let image = kernel(file)?;
    let cpu = supposed::processor(args.cpu, &mut machine);
    let machine = &machine;
    let shown = file.display();
    let producer = source::producer(machine);
    let (mut seen, mut runs): (Vec<Scene>, _) = (Vec::new(), Vec::new());
    let (mut place, mut assumptions) = (None, Vec::new());
    // Where the producer's ways are left open, every one of them is tried.
    for Levels { machine, cpu, suffix } in &supposed::levels(machine, cpu) {
        let setup = Setup {
            machine,
            layout,
            image: &image,
            cmdline: &args.cmdline,
            initrd_len: args.initrd_size,
            strategy: args.strategy(machine)?,
            cpu: *cpu,
            known,
            limits: args.limits(Limits::default()),
        };
        let loaded = setup.load().map_err(|error| Failure(format!("{shown}: {error}")))?;
        for traits in producer.traits().candidates() {
            for &large in gbpages(machine).candidates() {
                let map = &args.facts.map;
                let scene = loaded.with_map(traits, large, map, |map| loaded.scene(map));
                let scene = scene.map_err(Failure::new)?;
                if !seen.contains(&scene) {
                    let report = emulate(&scene).map_err(Failure::new)?;
                    runs.push(Run::new(format!("{}{suffix}", label(traits, large)), &report));
                    seen.push(scene);
                }
            }
        }
        place = Some(loaded.placement().kernel);
        assumptions.clone_from(&loaded.assumptions);
    }
    assumptions.extend(supposed::command_line(machine, cpu, &args.cmdline));
    let consumer = Consumer { version: version(&image), ..Consumer::default() };
    Ok(PreflightReport::new(
        shown.to_string(),
        machine,
        (&producer, &consumer),
        Kind::Kexec,
        place,
        assumptions,
        runs,
    ))
}

pub(crate) fn kernel(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(LARGEST_KERNEL + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    if bytes.len() as u64 > LARGEST_KERNEL {
        return Err(Failure(format!("{}: larger than any kernel", path.display())));
    }
    Ok(bytes)
}

/// In a process of its own, which is this program again.
pub(crate) fn emulate(scene: &Scene) -> Result<Report, SceneError> {
    let mut command = this_program();
    command.arg(WORKER);
    run_in_child(command, scene)
}

pub(crate) fn label(traits: &Traits, large: bool) -> String {
    let table = if traits.config_table {
        "configuration table requested"
    } else {
        "configuration table not requested"
    };
    let pages = if large && traits.gbpages { "1G pages" } else { "nogbpages" };
    format!("{}, {table}, {pages}", traits.policy)
}

fn worst(runs: &[Run]) -> &'static str {
    let any = |verdict| runs.iter().any(|run| run.verdict == verdict);
    // Where some of the producer's possible ways do and some do not, which one it is decides.
    match (any("unsafe"), any("safe"), any("unknown")) {
        (true, false, false) => "unsafe",
        (false, true, false) => "safe",
        _ => "unknown",
    }
}

#[derive(Serialize)]
pub(super) struct PreflightReport {
    schema: &'static str,
    verdict: &'static str,
    kernel: String,
    machine: String,
    image: Option<Bytes>,
    assumptions: Vec<String>,
    /// Why it is not safe although every run ended well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<String>,
    runs: Vec<Run>,
}

/// Inclusive, as every range in a report.
#[derive(Serialize, PartialEq)]
struct Bytes {
    start: String,
    end: String,
}

#[derive(Serialize)]
pub(super) struct Run {
    producer: String,
    verdict: &'static str,
    outcome: &'static str,
    sentence: String,
    instructions: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultJson>,
    touched: Vec<TouchJson>,
}

#[derive(Serialize)]
struct FaultJson {
    vector: u8,
    rip: String,
    at: Option<String>,
    address: Option<String>,
    error_code: Option<u32>,
    what: Option<String>,
    mapped_below: Option<Bytes>,
    mapped_above: Option<Bytes>,
    handled_again_and_again: bool,
}

#[derive(Serialize)]
struct TouchJson {
    start: String,
    end: String,
    first: String,
    read: bool,
    written: bool,
    executed: bool,
    rip: String,
    at: Option<String>,
    what: Option<String>,
}

impl Run {
    pub(super) fn new(producer: String, report: &Report) -> Run {
        let (verdict, outcome, fault) = match &report.outcome {
            Outcome::Reached { .. } => ("safe", "reached", None),
            Outcome::Fault(fault) => ("unsafe", "fault", Some(FaultJson::new(fault))),
            Outcome::Halted { .. } => ("unsafe", "halted", None),
            Outcome::Unknown(_) => ("unknown", "unknown", None),
        };
        Run {
            producer,
            verdict,
            outcome,
            sentence: report.outcome.to_string(),
            instructions: report.instructions,
            seconds: report.time.as_secs_f64(),
            fault,
            touched: report.touched.iter().map(TouchJson::new).collect(),
        }
    }
}

impl FaultJson {
    fn new(fault: &Fault) -> FaultJson {
        let page = fault.page_fault.as_ref();
        FaultJson {
            vector: fault.vector,
            rip: fault.rip.to_string(),
            at: fault.at.as_ref().map(ImagePlace::to_string),
            address: page.map(|page| page.cr2.to_string()),
            error_code: page.map(|page| page.code),
            what: page.and_then(|page| page.what.as_ref()).map(|(_, name)| name.clone()),
            mapped_below: page.and_then(|page| page.below).map(hex),
            mapped_above: page.and_then(|page| page.above).map(hex),
            handled_again_and_again: fault.repeats,
        }
    }
}

impl TouchJson {
    fn new(touch: &Touch) -> TouchJson {
        let page = PhysRange::from_len(touch.page.get(), 4096).map(hex);
        let Bytes { start, end } = page.unwrap_or_else(|_| Bytes {
            start: touch.page.to_string(),
            end: touch.page.to_string(),
        });
        TouchJson {
            start,
            end,
            first: touch.first.to_string(),
            read: touch.read,
            written: touch.written,
            executed: touch.executed,
            rip: touch.rip.to_string(),
            at: touch.at.as_ref().map(ImagePlace::to_string),
            what: touch.what.as_ref().map(|(_, name)| name.clone()),
        }
    }
}

impl PreflightReport {
    pub(super) fn new(
        kernel: String,
        machine: &Machine,
        (producer, consumer): (&Producer, &Consumer),
        kind: Kind,
        image: Option<PhysRange>,
        assumptions: Vec<String>,
        runs: Vec<Run>,
    ) -> PreflightReport {
        let doubts = doubt::of_missing(machine, (producer, consumer), kind, By::Run);
        let verdict = match worst(&runs) {
            "safe" if !doubts.is_empty() => "unknown",
            verdict => verdict,
        };
        PreflightReport {
            schema: "identmap.preflight/1",
            verdict,
            doubts,
            kernel,
            machine: machine.source.clone(),
            image: image.map(hex),
            assumptions,
            runs,
        }
    }

    fn text(&self, _: Style) -> String {
        let place = self.image.as_ref().map_or("an unknown place", |image| &image.start);
        let mut text = format!("kernel    {} at {place}\n", self.kernel);
        for run in &self.runs {
            let _ = writeln!(text, "producer  {}", run.producer);
            let _ = writeln!(
                text,
                "          {}, after {} instructions, {:.2} s",
                run.sentence, run.instructions, run.seconds
            );
            if let Some(below) = run.fault.as_ref().and_then(|fault| fault.mapped_below.as_ref()) {
                let _ = writeln!(text, "          nearest mapped byte below: {}", below.end);
            }
            for touch in &run.touched {
                let what = touch.what.as_deref().unwrap_or("not described");
                let by = touch.at.as_ref().unwrap_or(&touch.rip);
                let _ = writeln!(
                    text,
                    "  {}  {}-{}  {what}, by {by}",
                    touch.first, touch.start, touch.end
                );
            }
        }
        for assumption in &self.assumptions {
            let _ = writeln!(text, "supposed  {assumption}");
        }
        for doubt in &self.doubts {
            let _ = writeln!(text, "doubt     {doubt}");
        }
        let _ = writeln!(text, "\n{}", self.verdict.to_uppercase());
        text
    }
}

fn hex(range: PhysRange) -> Bytes {
    Bytes { start: range.start().to_string(), end: range.last().to_string() }
}
