//! `identmap diagnose`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use identmap_audit::{
    By, ByRule, Ended, Stage, commit, diagnose, general, generalise, releases_text, requested_by,
};
use identmap_linux::needs::needs;
use identmap_linux::{Consumer, KernelVersion, Kind, Producer, gbpages};
use identmap_machine::{Layout, Machine, hazards};
use identmap_report::{DiagnoseReport, Diagnosed, Missing, missing, producer_text};

use crate::args::{Diagnose, Output};
use crate::output::{Failure, Status};
use crate::sight::Found;
use crate::{doubt, runs, source};

pub(crate) fn run(args: &Diagnose, output: &Output) -> Result<Status, Failure> {
    let (kernel, from) = match (&args.kernel, &args.source) {
        (Some(kernel), Some(source)) => (Some(kernel), source.as_str()),
        (Some(one), None) if is_kernel(Path::new(one)) => (Some(one), "live"),
        (Some(source), None) => (None, source.as_str()),
        (None, _) => (None, "live"),
    };
    let (mut machine, bundle) = source::machine_and_bundle(from, &args.facts)?;
    let producer = source::producer(&machine);
    let mut consumer = source::consumer(&args.facts)?;
    let entries = &args.facts.map;
    let (found, assumptions, shown) = if let Some(kernel) = kernel {
        if args.facts.consumer.is_some() {
            return Err(Failure::new("--consumer: the KERNEL says which one it is"));
        }
        let path = Path::new(kernel);
        let (version, found, assumptions) = runs::diagnose(
            path,
            &args.entry,
            &mut machine,
            &producer,
            entries,
            from,
            bundle.as_ref(),
        )?;
        consumer.version = version;
        (found, assumptions, Some(kernel))
    } else {
        (by_rule(&machine, &producer, &consumer, entries), Vec::new(), None)
    };
    let layout = Layout::of(&machine);
    let by = if shown.is_some() { By::Run } else { By::Rules };
    let kernels = (&producer, &consumer);
    let doubt = doubt::of_missing(&machine, kernels, Kind::Kexec, by).into_iter().next();
    let mut all: Vec<Diagnosed> = Vec::new();
    for mut found in found {
        if let (Ended::Safe, Some(why)) = (&found.diagnosis.ended, &doubt) {
            found.diagnosis.ended = Ended::Unknown(why.clone());
        }
        let known = all.iter().any(|d| d.label == found.label && d.diagnosis == found.diagnosis);
        if !known {
            all.push(in_words(found, &machine, layout.as_ref(), &producer));
        }
    }
    let version = consumer
        .version
        .map_or("any supported kernel (5.10 or later)".to_owned(), |v| format!("Linux {v}"));
    let consumer = shown.map_or(version.clone(), |path| format!("{version} ({path})"));
    let producer = producer_text(&producer);
    let by_runs = shown.is_some();
    let report =
        DiagnoseReport::new(&machine.source, producer, consumer, by_runs, &all, assumptions);
    output.print(&report, |style| report.text(style))?;
    Ok(match missing(&all) {
        Missing::Nothing => Status::Safe,
        Missing::Something => Status::Problem,
        Missing::Unknown => Status::Unknown,
    })
}

/// By the magic of its setup header (Linux `Documentation/arch/x86/boot.rst`, offset `0x202`).
fn is_kernel(path: &Path) -> bool {
    let mut head = [0; 0x206];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && &head[0x202..] == b"HdrS"
}

fn by_rule(
    machine: &Machine,
    producer: &Producer,
    consumer: &Consumer,
    entries: &[identmap::PhysRange],
) -> Vec<Found> {
    let layout = Layout::of(machine);
    let needs = needs(machine, layout.as_ref(), consumer, Kind::Kexec);
    let hazards = hazards(machine);
    let stage = Stage {
        machine,
        layout: layout.as_ref(),
        needs: &needs,
        hazards: &hazards,
        kind: Kind::Kexec,
        entries,
    };
    let mut all = Vec::new();
    for &traits in producer.traits().candidates() {
        for &gbpages in gbpages(machine).candidates() {
            let mut oracle = ByRule { stage, traits, gbpages };
            let diagnosis = diagnose(&mut oracle);
            let general = generalise(&mut oracle, machine, layout.as_ref(), &diagnosis);
            let table = if traits.config_table { "requested" } else { "not requested" };
            let pages = if gbpages && traits.gbpages { "1G pages" } else { "nogbpages" };
            let label = format!("{}, configuration table {table}, {pages}", traits.policy);
            all.push(Found { label, diagnosis, general });
        }
    }
    all
}

/// With what lies on each page, and which releases of Linux follow each rule.
fn in_words(
    found: Found,
    machine: &Machine,
    layout: Option<&Layout>,
    producer: &Producer,
) -> Diagnosed {
    let Found { label, diagnosis, general: rules } = found;
    let what = diagnosis.ranges().into_iter().map(|page| {
        let region = layout
            .and_then(|layout| layout.at(page.start()))
            .map_or("memory not described".to_owned(), |region| format!("{} memory", region.kind));
        match general(machine, layout, page) {
            Some(rule) => {
                let thing = rule.rule.strip_prefix("request ").unwrap_or(rule.rule);
                format!("{}, in {region}", thing.strip_prefix("the ").unwrap_or(thing))
            }
            None => region,
        }
    });
    let own = producer.version().and_then(KernelVersion::exact);
    let linux = rules.rules.iter().map(|rule| {
        let by = requested_by(machine, layout, Kind::Kexec, &rule.ranges);
        let commit = rule.linux.and_then(|behaviour| commit(behaviour, &by, own));
        let commit = commit.map_or(String::new(), |commit| format!(" (commit {commit})"));
        if by.is_empty() { String::new() } else { format!("{}{commit}", releases_text(&by, own)) }
    });
    let (what, linux) = (what.collect(), linux.collect());
    Diagnosed { label, diagnosis, general: rules, what, linux }
}
