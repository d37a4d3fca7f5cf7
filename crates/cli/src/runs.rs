//! Runs of the next kernel's first instructions, for `check`, `matrix` and `diagnose`.

use std::path::{Path, PathBuf};

use identmap::PhysRange;
use identmap_audit::{
    Confidence, Diagnosis, Finding, Generalised, Matrix, Outcome as Cell, Seen, Severity, matrix_of,
};
use identmap_linux::boot::{BzImage, Strategy};
use identmap_linux::{KernelVersion, Place, Producer, Traits, gbpages};
use identmap_machine::bundle::Bundle;
use identmap_machine::{CpuVendor, Hazard, Layout, Machine, Segment, hazards};
use identmap_preflight::judge::{Jump, Observed, Runs, not_set_up};
use identmap_preflight::{Content, CpuProfile, Limits, Loaded, Outcome, Setup, SetupError, Vendor};
use identmap_report::{RunRow, TouchedRow};

use crate::args::Entry;
use crate::commands::preflight::{emulate, kernel, label};
use crate::firmware;
use crate::output::Failure;
use crate::sight::{Found, Sight};

/// Runs it under the map of every producer that is possible. The processor that is supposed, and the
/// segments, are noted in the machine.
pub(crate) fn check(
    path: &Path,
    entry: &Entry,
    machine: &mut Machine,
    producer: &Producer,
    entries: &[PhysRange],
    source: &str,
    bundle: Option<&Bundle>,
) -> Result<Sight, Failure> {
    let ground = Ground::of(entry, machine, source, bundle)?;
    let image = kernel(path)?;
    let mut sight = Sight {
        version: version(&image),
        seen: Vec::new(),
        rows: Vec::new(),
        assumptions: Vec::new(),
    };
    let mut segments = Vec::new();
    match ground.load(machine, &image, path)? {
        Err(finding) => {
            let findings = vec![finding];
            for (traits, gbpages) in ways(producer, machine) {
                let findings = findings.clone();
                sight.seen.push(Seen { traits, gbpages, needs: Vec::new(), findings });
            }
        }
        Ok(loaded) => {
            let mut run = |scene: &_| emulate(scene);
            let mut runs = Runs::new(&mut run);
            for (traits, gbpages) in ways(producer, machine) {
                let hazards = &ground.hazards;
                let jump = Jump { loaded: &loaded, producer, traits, gbpages, entries, hazards };
                let observed = jump.observe(&mut runs).map_err(Failure::new)?;
                let row = run_row(&traits, gbpages, &observed);
                if !sight.rows.contains(&row) {
                    sight.rows.push(row);
                }
                sight.seen.push(observed.seen);
            }
            segments = loaded.segments();
            sight.assumptions.clone_from(&loaded.assumptions);
        }
    }
    machine.segments = segments.into_iter().map(|range| Segment { range }).collect();
    Ok(sight)
}

/// Diagnoses every producer that is possible; with what was supposed.
#[allow(
    clippy::type_complexity,
    reason = "three things that are known together, taken apart at once"
)]
pub(crate) fn diagnose(
    path: &Path,
    entry: &Entry,
    machine: &mut Machine,
    producer: &Producer,
    entries: &[PhysRange],
    source: &str,
    bundle: Option<&Bundle>,
) -> Result<(Option<KernelVersion>, Vec<Found>, Vec<String>), Failure> {
    let ground = Ground::of(entry, machine, source, bundle)?;
    let image = kernel(path)?;
    let loaded = match ground.load(machine, &image, path)? {
        Ok(loaded) => loaded,
        Err(finding) => {
            let trial = identmap_audit::Trial::Unknown(finding.why.clone());
            let supply = finding.remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
            let ended = identmap_audit::Ended::Unknown(format!("{}{supply}", finding.why));
            let found = |(traits, gbpages)| Found {
                label: label(&traits, gbpages),
                diagnosis: Diagnosis { entries: Vec::new(), ended: ended.clone(), trials: 0 },
                general: Generalised {
                    rules: Vec::new(),
                    uncovered: Vec::new(),
                    trial: trial.clone(),
                    conflict: None,
                },
            };
            let all = ways(producer, machine).into_iter().map(found).collect();
            return Ok((version(&image), all, Vec::new()));
        }
    };
    let mut run = |scene: &_| emulate(scene);
    let mut runs = Runs::new(&mut run);
    let mut all: Vec<Found> = Vec::new();
    for (traits, gbpages) in ways(producer, machine) {
        let hazards = &ground.hazards;
        let jump = Jump { loaded: &loaded, producer, traits, gbpages, entries, hazards };
        let (diagnosis, general) = jump.diagnose_and_generalise(&mut runs);
        all.push(Found { label: label(&traits, gbpages), diagnosis, general });
    }
    Ok((version(&image), all, loaded.assumptions.clone()))
}

/// A column for each kernel; `progress` is told of each before it is run.
pub(crate) fn matrix(
    paths: &[PathBuf],
    entry: &Entry,
    machine: &mut Machine,
    entries: &[PhysRange],
    mut progress: impl FnMut(&str),
    source: &str,
    bundle: Option<&Bundle>,
) -> Result<Matrix, Failure> {
    let ground = Ground::of(entry, machine, source, bundle)?;
    let (mut labels, mut columns) = (Vec::new(), Vec::new());
    for path in paths {
        let image = kernel(path)?;
        let name = version(&image).map_or_else(|| path.display().to_string(), |v| v.text);
        progress(&name);
        labels.push(name);
        columns.push(match ground.load(machine, &image, path)? {
            Ok(loaded) => column(&loaded, entries, &ground.hazards)?,
            Err(_) => Vec::new(),
        });
    }
    Ok(matrix_of(labels, |row, column| columns[column].get(row).copied().unwrap_or(Cell::Unknown)))
}

/// The cells of one kernel, in the order of the rows.
fn column(
    loaded: &Loaded<'_>,
    entries: &[PhysRange],
    hazards: &[Hazard],
) -> Result<Vec<Cell>, Failure> {
    let producer = Producer::of(None);
    let mut run = |scene: &_| emulate(scene);
    let mut runs = Runs::new(&mut run);
    let (mut cells, mut needs) = (Vec::new(), Vec::new());
    for row in identmap_audit::matrix_rows() {
        let (traits, gbpages) = (row.traits(), row.gbpages);
        let jump = Jump { loaded, producer: &producer, traits, gbpages, entries, hazards };
        if needs.is_empty() {
            needs = jump.observe(&mut runs).map_err(Failure::new)?.seen.needs;
        }
        cells.push(jump.cell(&mut runs, row.policy, &needs).map_err(Failure::new)?);
    }
    Ok(cells)
}

/// What the runs of any kernel on a machine have in common.
struct Ground<'a> {
    entry: &'a Entry,
    cpu: CpuProfile,
    layout: Option<Layout>,
    hazards: Vec<Hazard>,
    known: Vec<Content>,
}

impl<'a> Ground<'a> {
    /// Notes the processor that is supposed in the machine.
    fn of(
        entry: &'a Entry,
        machine: &mut Machine,
        source: &str,
        bundle: Option<&Bundle>,
    ) -> Result<Self, Failure> {
        let cpu = processor(entry, machine)?;
        let known = firmware::known(source, machine, bundle);
        Ok(Ground { entry, cpu, layout: Layout::of(machine), hazards: hazards(machine), known })
    }

    /// The kernel on the machine; or a finding, where that is for want of a fact.
    fn load<'b>(
        &'b self,
        machine: &'b Machine,
        image: &'b [u8],
        path: &Path,
    ) -> Result<Result<Loaded<'b>, Finding>, Failure> {
        let Some(layout) = &self.layout else {
            let why = "no memory map is known, so there is nowhere to put the kernel";
            let what = "the run of the kernel's first instructions cannot tell";
            let id = "preflight-unknown";
            return Ok(Err(Finding::new(id, Severity::Warning, Confidence::Unknown, what, why)));
        };
        let setup = Setup {
            machine,
            layout,
            image,
            cmdline: self.entry.cmdline.as_deref().unwrap_or_default(),
            initrd_len: self.entry.initrd_size.unwrap_or(0),
            strategy: Strategy::TopDown,
            cpu: self.cpu,
            known: &self.known,
            limits: Limits::default(),
        };
        match setup.load() {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(
                error @ (SetupError::SystemTable
                | SetupError::ConfigTable
                | SetupError::EncryptedGuest),
            ) => Ok(Err(not_set_up(&error))),
            Err(error) => Err(Failure(format!("{}: {error}", path.display()))),
        }
    }
}

/// Every way in which the producer may make its map.
fn ways(producer: &Producer, machine: &Machine) -> Vec<(Traits, bool)> {
    let pages = gbpages(machine);
    let traits = producer.traits().candidates().iter();
    traits.flat_map(|&traits| pages.candidates().iter().map(move |&gb| (traits, gb))).collect()
}

/// The processor that is asked for, noted in the machine; or the machine's own.
fn processor(entry: &Entry, machine: &mut Machine) -> Result<CpuProfile, Failure> {
    let Some(name) = &entry.cpu else { return Ok(CpuProfile::of(&machine.cpu)) };
    let profile = CpuProfile::named(name).ok_or_else(|| {
        let names = CpuProfile::NAMES.join(", ");
        Failure(format!("--cpu {name}: expected {names}, with -nogb or -la57 behind"))
    })?;
    let cpu = &mut machine.cpu;
    cpu.vendor = profile.vendor.map(|vendor| match vendor {
        Vendor::Amd => CpuVendor::Amd,
        Vendor::Hygon => CpuVendor::Hygon,
        Vendor::Intel => CpuVendor::Intel,
    });
    cpu.model = Some(format!("supposed: {name}"));
    (cpu.sev, cpu.la57) = (profile.sev, profile.la57);
    cpu.pdpe1gb = profile.pdpe1gb;
    if profile.pdpe1gb == Some(false) {
        machine.direct_gbpages = Some(false);
    }
    if profile.la57 == Some(false) {
        cpu.la57_active = Some(false);
    }
    Ok(profile)
}

fn version(image: &[u8]) -> Option<KernelVersion> {
    let banner = BzImage::parse(image).ok()?.version()?;
    let release = banner.split(' ').next()?;
    KernelVersion::parse(release, Some(banner)).ok()
}

fn run_row(traits: &Traits, gbpages: bool, observed: &Observed) -> RunRow {
    let touched = observed.seen.needs.iter().filter_map(|need| match need.place {
        Place::Known(range) => Some(TouchedRow { range: range.into(), what: need.what.clone() }),
        Place::Within { .. } | Place::Unknown => None,
    });
    RunRow {
        producer: label(traits, gbpages),
        outcome: match observed.report.outcome {
            Outcome::Reached { .. } => "reached",
            Outcome::Fault(_) => "fault",
            Outcome::Halted { .. } => "halted",
            Outcome::Unknown(_) => "unknown",
        },
        sentence: observed.report.outcome.to_string(),
        instructions: observed.report.instructions,
        touched: touched.collect(),
    }
}
