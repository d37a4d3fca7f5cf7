//! Runs of the next kernel's first instructions, for `check`, `matrix` and `diagnose`.

use std::path::{Path, PathBuf};

use identmap::PhysRange;
use identmap_audit::{
    By, Confidence, Diagnosis, Ended, Finding, Generalised, Matrix, Outcome as Cell, Seen,
    Severity, Verdict, matrix_of,
};
use identmap_linux::boot::{BzImage, Strategy};
use identmap_linux::{
    Certainty, Condition, Consumer, KernelVersion, Kind, Need, Place, Producer, Traits, gbpages,
};
use identmap_machine::bundle::Bundle;
use identmap_machine::{Hazard, Layout, Machine, Segment, hazards};
use identmap_preflight::judge::{Jump, Observed, Runs, not_set_up};
use identmap_preflight::{Content, CpuProfile, Limits, Loaded, Outcome, Setup, SetupError};
use identmap_report::{RunRow, TouchedRow};

use crate::args::Entry;
use crate::commands::preflight::{emulate, kernel, label};
use crate::output::Failure;
use crate::sight::{Found, Sight};
use crate::supposed::{self, Levels};
use crate::{doubt, firmware, source};

const LEVELS_DECIDE: &str = "whether the running kernel uses 5 levels of page tables decides";

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
    let (mut segments, mut ends) = (Vec::new(), Vec::new());
    for (number, levels) in ground.levels.iter().enumerate() {
        let loaded = match ground.load(levels, &image, path)? {
            Ok(loaded) => loaded,
            Err(finding) => {
                if number == 0 {
                    let unseen = |(traits, gbpages)| Seen {
                        traits,
                        gbpages,
                        needs: vec![],
                        findings: vec![],
                    };
                    sight.seen = ways(producer, machine).into_iter().map(unseen).collect();
                }
                sight.seen.iter_mut().for_each(|seen| seen.findings.push(finding.clone()));
                // What was not known has no part in the number of levels.
                break;
            }
        };
        let mut run = |scene: &_| emulate(scene);
        let mut runs = Runs::new(&mut run);
        for (way, (traits, gbpages)) in ways(producer, machine).into_iter().enumerate() {
            let hazards = &ground.hazards;
            let jump = Jump { loaded: &loaded, producer, traits, gbpages, entries, hazards };
            let observed = jump.observe(&mut runs).map_err(Failure::new)?;
            let end = observed.report.outcome.to_string();
            if let (Some(seen), Some(before)) = (sight.seen.get_mut(way), ends.get(way)) {
                also_with_5(seen, &observed.seen, format!("with 4: {before}; with 5: {end}"));
                continue;
            }
            ends.push(end);
            let row = run_row(&traits, gbpages, &observed);
            if !sight.rows.contains(&row) {
                sight.rows.push(row);
            }
            sight.seen.push(observed.seen);
        }
        if number == 0 {
            segments = loaded.segments();
            sight.assumptions = ground.assumptions(&loaded);
        }
    }
    machine.segments = segments.into_iter().map(|range| Segment { range }).collect();
    Ok(sight)
}

/// Takes up what was seen with 5 levels in use, under the map of the same producer. Where that ends otherwise than with 4,
/// which of them it is decides.
fn also_with_5(seen: &mut Seen, five: &Seen, ends: String) {
    let (with_4, with_5) = (Verdict::of(&seen.findings), Verdict::of(&five.findings));
    if with_4 != with_5 && with_4 != Verdict::Unknown {
        let (id, unknown) = ("preflight-unknown", Confidence::Unknown);
        for finding in &mut seen.findings {
            finding.confidence = unknown;
        }
        let finding = Finding::new(id, Severity::Warning, unknown, LEVELS_DECIDE, ends);
        seen.findings.push(finding.remedy(
            "capture on the machine: /proc/cpuinfo has the flag la57 where 5 levels are in use; or say --la57 off, \
             if the processor has none",
        ));
    }
    // What only one of them touches is not certain.
    let only = |need: &Need| Need {
        certainty: Certainty::If(vec![Condition::PagingLevelChange]),
        ..need.clone()
    };
    let more: Vec<Need> =
        five.needs.iter().filter(|need| !seen.needs.contains(need)).map(only).collect();
    for need in seen.needs.iter_mut().filter(|need| !five.needs.contains(need)) {
        *need = only(need);
    }
    seen.needs.extend(more);
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
    let (mut all, mut assumptions): (Vec<Found>, _) = (Vec::new(), Vec::new());
    for levels in &ground.levels {
        let found = match ground.load(levels, &image, path)? {
            Ok(loaded) => {
                if assumptions.is_empty() {
                    assumptions = ground.assumptions(&loaded);
                }
                let mut run = |scene: &_| emulate(scene);
                let mut runs = Runs::new(&mut run);
                let found = |(traits, gbpages)| {
                    let hazards = &ground.hazards;
                    let jump =
                        Jump { loaded: &loaded, producer, traits, gbpages, entries, hazards };
                    let (diagnosis, general) = jump.diagnose_and_generalise(&mut runs);
                    Found { label: label(&traits, gbpages), diagnosis, general }
                };
                ways(producer, machine).into_iter().map(found).collect()
            }
            Err(finding) => not_diagnosed(&finding, &ways(producer, machine)),
        };
        also_diagnosed(&mut all, found, levels.suffix);
    }
    Ok((version(&image), all, assumptions))
}

fn not_diagnosed(finding: &Finding, ways: &[(Traits, bool)]) -> Vec<Found> {
    let trial = identmap_audit::Trial::Unknown(finding.why.clone());
    let supply = finding.remedy.as_ref().map_or(String::new(), |remedy| format!("; {remedy}"));
    let ended = Ended::Unknown(format!("{}{supply}", finding.why));
    let found = |(traits, gbpages): &(Traits, bool)| Found {
        label: label(traits, *gbpages),
        diagnosis: Diagnosis { entries: Vec::new(), ended: ended.clone(), trials: 0 },
        general: Generalised {
            rules: Vec::new(),
            uncovered: Vec::new(),
            trial: trial.clone(),
            conflict: None,
        },
    };
    ways.iter().map(found).collect()
}

/// Takes up what was found with another number of levels in use, where it is not the same; both in the order of the
/// producers. What no entry helps with one of them only is not certain.
fn also_diagnosed(all: &mut Vec<Found>, found: Vec<Found>, suffix: &str) {
    let open = |found: &mut Found, levels: &str| {
        if let Ended::Fails(why) = &found.diagnosis.ended {
            found.diagnosis.ended =
                Ended::Unknown(format!("{LEVELS_DECIDE}; with {levels}: {why}"));
        }
    };
    let first = all.len();
    for (way, mut found) in found.into_iter().enumerate() {
        if let Some(known) = all[..first].get_mut(way) {
            let fails = |found: &Found| matches!(found.diagnosis.ended, Ended::Fails(_));
            if found.diagnosis == known.diagnosis {
                continue;
            }
            if fails(&found) != fails(known) {
                open(&mut found, "5");
                open(known, "4");
            }
        }
        found.label.push_str(suffix);
        all.push(found);
    }
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
    let (mut labels, mut columns): (_, Vec<Vec<Cell>>) = (Vec::new(), Vec::new());
    for path in paths {
        let image = kernel(path)?;
        let name = version(&image).map_or_else(|| path.display().to_string(), |v| v.text);
        progress(&name);
        labels.push(name);
        let mut cells: Option<Vec<Cell>> = None;
        for levels in &ground.levels {
            let of_these = match ground.load(levels, &image, path)? {
                Ok(loaded) => column(&loaded, entries, &ground.hazards)?,
                Err(_) => Vec::new(),
            };
            cells = Some(match cells {
                None => of_these,
                Some(known) => known.into_iter().zip(of_these).map(either).collect(),
            });
        }
        let consumer = Consumer { version: version(&image), ..Consumer::default() };
        // As for a table by rules: what its rows suppose does not settle it. What was run need not have been read.
        let kernels = (&source::producer(machine), &consumer);
        let mut doubts = doubt::all(machine, kernels, Kind::Kexec, By::SupposedMaps);
        doubts.retain(|doubt| doubt.id != "consumer-newer");
        let doubtful = !doubts.is_empty();
        let least = if doubtful { Cell::Unknown } else { Cell::Ok };
        columns.push(cells.unwrap_or_default().into_iter().map(|c| c.max(least)).collect());
    }
    Ok(matrix_of(labels, |row, column| columns[column].get(row).copied().unwrap_or(Cell::Unknown)))
}

/// What is known where either may be.
fn either((one, other): (Cell, Cell)) -> Cell {
    match (one, other) {
        (one, other) if one == other => one,
        (Cell::Ok | Cell::Luck, Cell::Ok | Cell::Luck) => Cell::Luck,
        _ => Cell::Unknown,
    }
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
    levels: Vec<Levels>,
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
        let levels = supposed::levels(machine, cpu);
        let known = firmware::known(source, machine, bundle);
        Ok(Ground { entry, levels, layout: Layout::of(machine), hazards: hazards(machine), known })
    }

    fn cmdline(&self) -> &str {
        self.entry.cmdline.as_deref().unwrap_or_default()
    }

    /// What had to be supposed, beside the processor.
    fn assumptions(&self, loaded: &Loaded<'_>) -> Vec<String> {
        let first = self.levels.first();
        let line = first
            .and_then(|first| supposed::command_line(&first.machine, first.cpu, self.cmdline()));
        loaded.assumptions.iter().cloned().chain(line).collect()
    }

    /// The kernel on the machine; or a finding, where that is for want of a fact.
    fn load<'b>(
        &'b self,
        levels: &'b Levels,
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
            machine: &levels.machine,
            layout,
            image,
            cmdline: self.cmdline(),
            initrd_len: self.entry.initrd_size.unwrap_or(0),
            strategy: Strategy::TopDown,
            cpu: levels.cpu,
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
    let Some(name) = &entry.cpu else { return Ok(supposed::processor(None, machine)) };
    let profile = CpuProfile::named(name).ok_or_else(|| {
        let names = CpuProfile::NAMES.join(", ");
        Failure(format!("--cpu {name}: expected {names}, with -nogb or -la57 behind"))
    })?;
    machine.cpu.model = Some(format!("supposed: {name}"));
    Ok(supposed::processor(Some(profile), machine))
}

pub(crate) fn version(image: &[u8]) -> Option<KernelVersion> {
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
