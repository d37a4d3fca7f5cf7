//! From runs to findings: what a consumer touches under each producer's map, why it stops where it does,
//! and which entries would let it go on.

use std::fmt::Write as _;

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_audit::{
    Confidence, Coverage, Diagnosis, Ended, Finding, Generalised, MapInput, Oracle,
    Outcome as Cell, PolicyKind, Seen, Severity, SlackKind, Stage, Trial, diagnose, exposures,
    forbidden, general, generalise, newly_reached, releases_text, requested_by, why_not_mapped,
};
use identmap_linux::needs::SEEN;
use identmap_linux::{Certainty, KernelVersion, Kind, Need, Place, Producer, Traits, history};
use identmap_machine::{Hazard, MemType};

use crate::outcome::{Fault, Outcome, Report, Touch, Unknown};
use crate::scene::{Scene, SceneError};
use crate::setup::{Loaded, SetupError};

/// Runs a scene; in this process or in another.
pub type Run<'a> = dyn FnMut(&Scene) -> Result<Report, SceneError> + 'a;

/// Runs, each map once, however often it is asked for.
pub struct Runs<'a> {
    run: &'a mut Run<'a>,
    done: Vec<(Key, Report)>,
}

/// What scenes of one loaded consumer differ in: the map.
type Key = (PhysAddr, identmap::Paging, Vec<Vec<u8>>);

impl core::fmt::Debug for Runs<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Runs").field("done", &self.done.len()).finish_non_exhaustive()
    }
}

impl<'a> Runs<'a> {
    /// For one loaded consumer.
    pub fn new(run: &'a mut Run<'a>) -> Runs<'a> {
        Runs { run, done: Vec::new() }
    }

    /// Runs, unless that was done before.
    ///
    /// # Errors
    /// As the run.
    pub fn report(&mut self, scene: &Scene) -> Result<Report, SceneError> {
        let tables = scene.contents.iter().filter(|c| scene.tables.contains(&c.range));
        let key = (scene.root, scene.paging, tables.map(|c| c.bytes.clone()).collect());
        if let Some((_, report)) = self.done.iter().find(|(done, _)| *done == key) {
            return Ok(report.clone());
        }
        let report = (self.run)(scene)?;
        self.done.push((key, report.clone()));
        Ok(report)
    }
}

/// One jump: a loaded consumer under the map of one producer.
#[derive(Clone, Copy, Debug)]
pub struct Jump<'a> {
    /// The consumer.
    pub loaded: &'a Loaded<'a>,
    /// The producer, as far as it is known.
    pub producer: &'a Producer,
    /// What it does, out of what is possible.
    pub traits: Traits,
    /// 1 GiB leaves in use.
    pub gbpages: bool,
    /// Synthetic entries that are given already.
    pub entries: &'a [PhysRange],
    /// What must not be mapped.
    pub hazards: &'a [Hazard],
}

/// What was seen of a jump.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The run under the producer's map.
    pub report: Report,
    /// The entries that are missing; `None` if nothing is that an entry could mend.
    pub diagnosis: Option<Diagnosis>,
    /// The same for an audit.
    pub seen: Seen,
}

impl Jump<'_> {
    /// Runs; where something is not mapped, finds the least set of entries with which it ends well.
    /// What is touched is taken from the run with them, so that it is all that is needed.
    ///
    /// # Errors
    /// As [`Loaded::scene`], of the map without further entries.
    pub fn observe(&self, runs: &mut Runs<'_>) -> Result<Observed, SetupError> {
        let report = self.report(runs, &[])?;
        let diagnosis = match trial(&report) {
            Trial::Missing(_) => Some(self.diagnose(runs)),
            Trial::Safe | Trial::Fails(_) | Trial::Unknown(_) => None,
        };
        let entries = diagnosis.as_ref().map_or_else(Vec::new, Diagnosis::ranges);
        let last = self.report(runs, &entries).unwrap_or_else(|_| report.clone());
        let mut needs = Vec::new();
        for touch in &last.touched {
            self.add_needs(touch, &mut needs);
        }
        let findings = self.finding(&report, diagnosis.as_ref()).into_iter().collect();
        let seen = Seen { traits: self.traits, gbpages: self.gbpages, needs, findings };
        Ok(Observed { report, diagnosis, seen })
    }

    /// The least set of entries with which the run ends well.
    pub fn diagnose(&self, runs: &mut Runs<'_>) -> Diagnosis {
        diagnose(&mut Tries { jump: self, runs })
    }

    /// The least set of entries, with the rules that would have covered them, as [`generalise`] tries them.
    pub fn diagnose_and_generalise(&self, runs: &mut Runs<'_>) -> (Diagnosis, Generalised) {
        let mut tries = Tries { jump: self, runs };
        let diagnosis = diagnose(&mut tries);
        let (machine, layout) = (self.loaded.machine(), Some(self.loaded.layout()));
        let rules = generalise(&mut tries, machine, layout, &diagnosis);
        (diagnosis, rules)
    }

    /// How the jump would end under the map of another policy: one cell of a matrix. `guarded` is planned as
    /// for [`needs`](Seen::needs) that are known.
    ///
    /// # Errors
    /// As [`Loaded::scene`].
    pub fn cell(
        &self,
        runs: &mut Runs<'_>,
        policy: PolicyKind,
        needs: &[Need],
    ) -> Result<Cell, SetupError> {
        let mut requests = self.loaded.requests(&self.traits);
        requests.add_synthetic(self.entries);
        let mut requests = requests.ranges();
        let mut avoid = Vec::new();
        if policy == PolicyKind::Guarded {
            requests.extend(needs.iter().filter_map(|need| match need.place {
                Place::Known(range) => Some(range),
                Place::Within { .. } | Place::Unknown => None,
            }));
            avoid = forbidden(self.hazards, &requests);
        }
        let ram: Vec<PhysRange> = self.loaded.layout().of_kind(MemType::Usable).collect();
        let config = self.loaded.with_map(&self.traits, self.gbpages, &[], |map| map.config);
        let map = MapInput {
            config,
            policy,
            uv: false,
            requests: &requests,
            forbidden: &avoid,
            slack: SlackKind::Ram,
            ram: &ram,
        };
        let coverage = Coverage::plan(&map).map_err(SetupError::Plan)?;
        let halts = |e: &identmap_audit::Exposure| e.is_grave() && !e.requested;
        if exposures(&coverage, self.hazards).iter().any(halts) {
            return Ok(Cell::Halt);
        }
        let report = runs.report(&self.loaded.scene(&map)?).map_err(SetupError::Scene)?;
        let mut touched = Vec::new();
        for touch in &report.touched {
            self.add_needs(touch, &mut touched);
        }
        let lucky = |need: &Need| match need.place {
            Place::Known(range) => !coverage.luck(&[range]).is_empty(),
            Place::Within { .. } | Place::Unknown => false,
        };
        Ok(match report.outcome {
            Outcome::Reached { .. } if touched.iter().any(lucky) => Cell::Luck,
            Outcome::Reached { .. } => Cell::Ok,
            Outcome::Fault(_) | Outcome::Halted { .. } => Cell::Fail,
            Outcome::Unknown(_) => Cell::Unknown,
        })
    }

    fn report(&self, runs: &mut Runs<'_>, more: &[PhysRange]) -> Result<Report, SetupError> {
        let entries = [self.entries, more].concat();
        let scene = self
            .loaded
            .with_map(&self.traits, self.gbpages, &entries, |map| self.loaded.scene(map))?;
        runs.report(&scene).map_err(SetupError::Scene)
    }

    fn coverage(&self, more: &[PhysRange]) -> Option<Coverage> {
        let entries = [self.entries, more].concat();
        self.loaded.with_map(&self.traits, self.gbpages, &entries, |map| Coverage::plan(map).ok())
    }

    /// Whatever is known to lie on the page, or the page.
    fn add_needs(&self, touch: &Touch, needs: &mut Vec<Need>) {
        let page = PhysRange::from_len(touch.page.get(), PageSize::Size4K.bytes());
        let Ok(page) = page else { return };
        let mut add = |what: &str, range: PhysRange| {
            needs.push(Need {
                what: what.to_owned(),
                place: Place::Known(range),
                certainty: Certainty::Certain,
                rule: &SEEN,
            });
        };
        let before = self.loaded.contents().iter().filter(|content| !content.loaded);
        let mut named = false;
        for content in before {
            if let Some(range) = content.range.intersection(page) {
                add(&content.name, range);
                named = true;
            }
        }
        if !named {
            add(touch.what.as_ref().map_or("memory not described", |(_, name)| name), page);
        }
    }

    fn finding(&self, report: &Report, diagnosis: Option<&Diagnosis>) -> Option<Finding> {
        let error = |id, what: &str, why: String| {
            Finding::new(id, Severity::Error, Confidence::Certain, what, why)
        };
        match &report.outcome {
            Outcome::Reached { .. } => None,
            Outcome::Halted { rip, at } => {
                let rip = at.as_ref().map_or_else(|| rip.to_string(), ToString::to_string);
                let why = format!("the kernel halts before {rip}, on its own error path\n{HALTED}");
                let what = "the kernel stops by itself";
                Some(error("preflight-halt", what, why).remedy(REBOOT))
            }
            Outcome::Fault(fault) => Some(self.of_fault(fault, report, diagnosis)),
            Outcome::Unknown(why) => Some(unknown(why)),
        }
    }

    fn of_fault(&self, fault: &Fault, report: &Report, diagnosis: Option<&Diagnosis>) -> Finding {
        let sights = self.sights(fault);
        let rip = fault.at.as_ref().map_or_else(|| fault.rip.to_string(), ToString::to_string);
        let after = format!("after {} instructions", report.instructions);
        let page_fault = fault.page_fault.as_ref();
        let missing = page_fault.and_then(|page| {
            (page.code & PRESENT == 0).then(|| PhysAddr::new(page.cr2.get())).flatten()
        });
        let (Some(page_fault), Some(addr)) = (page_fault, missing) else {
            let how = page_fault.map_or_else(
                || format!("exception {} at {rip}", fault.vector),
                |page| {
                    let (access, code) = (page.access, page.code);
                    format!("{access} at {} by {rip}, error code {code:#x}", page.cr2)
                },
            );
            let why = format!("{how}, {after}\n{sights}");
            let what = format!("exception {} that no entry mends", fault.vector);
            return Finding::new(FAULT, Severity::Error, Confidence::Certain, what, why)
                .remedy(REBOOT);
        };
        let (range, what) = self.thing(addr, page_fault.what.as_ref());
        let access = page_fault.access;
        let mut why = format!(
            "{access} at {} by {rip}, {after}, error code {:#x}; {}",
            page_fault.cr2,
            page_fault.code,
            Self::nearest(fault)
        );
        if let Some(reason) = self.not_mapped(range) {
            let _ = write!(why, "\nnot mapped: {reason}");
        }
        let _ = write!(why, "\n{sights}");
        Finding::new(FAULT, Severity::Error, Confidence::Certain, what, why)
            .at(range)
            .remedy(self.remedies(range, diagnosis))
    }

    /// What lies at an address: a table by name, else the page, in the kind of memory it is in.
    fn thing(&self, addr: PhysAddr, what: Option<&(PhysRange, String)>) -> (PhysRange, String) {
        let before = self.loaded.contents().iter().filter(|content| !content.loaded);
        if let Some(content) = before.clone().find(|content| content.range.contains(addr)) {
            return (content.range, content.name.clone());
        }
        let page = addr.align_down(PageSize::Size4K).get();
        let page = PhysRange::from_len(page, PageSize::Size4K.bytes()).unwrap_or(PhysRange::ALL);
        let what = what.map_or_else(
            || "memory not described".to_owned(),
            |(_, name)| format!("a page of {name}"),
        );
        (page, what)
    }

    fn nearest(fault: &Fault) -> String {
        let page = fault.page_fault.as_ref();
        let sides = (page.and_then(|page| page.below), page.and_then(|page| page.above));
        match sides {
            (Some(below), _) => format!("the nearest mapped byte below is {}", below.last()),
            (None, Some(above)) => format!("the nearest mapped byte above is {}", above.start()),
            (None, None) => "nothing is mapped".to_owned(),
        }
    }

    fn not_mapped(&self, missing: PhysRange) -> Option<String> {
        let stage = self.stage();
        let mut machine = stage.machine.clone();
        let segment = |range| identmap_machine::Segment { range };
        machine.segments = self.loaded.segments().into_iter().map(segment).collect();
        let stage = Stage { machine: &machine, ..stage };
        let scene = stage.scene(self.traits, self.gbpages).ok()?;
        Some(why_not_mapped(&stage, &scene, self.producer, missing))
    }

    fn stage(&self) -> Stage<'_> {
        Stage {
            machine: self.loaded.machine(),
            layout: Some(self.loaded.layout()),
            needs: &[],
            hazards: self.hazards,
            kind: Kind::Kexec,
            entries: self.entries,
        }
    }

    /// What to do, one a line, the best first.
    fn remedies(&self, missing: PhysRange, diagnosis: Option<&Diagnosis>) -> String {
        let (machine, layout) = (self.loaded.machine(), self.loaded.layout());
        let own = self.producer.version().and_then(KernelVersion::exact);
        let mut ways = Vec::new();
        let conflict = diagnosis.and_then(|diagnosis| match &diagnosis.ended {
            Ended::Conflict { page, why } => Some(format!(
                "do not kexec on this machine: {page} would have to be mapped, and with it the map \
                 reaches {why}"
            )),
            _ => None,
        });
        let by = requested_by(machine, Some(layout), Kind::Kexec, &[missing]);
        let rule = general(machine, Some(layout), missing);
        if let (false, None, Some(_)) = (by.is_empty(), &conflict, rule) {
            let releases = releases_text(&by, own);
            ways.push(format!("kexec from a kernel that requests it: {releases}"));
        }
        if let Some(diagnosis) = diagnosis.filter(|diagnosis| diagnosis.ended == Ended::Safe) {
            ways.push("load the kernel with a map that has it: identmap load KERNEL".to_owned());
            let pages: Vec<String> = diagnosis.ranges().iter().map(ToString::to_string).collect();
            let proved = if diagnosis.is_proved() { ", and with less it does not" } else { "" };
            ways.push(format!(
                "add to the map {}: then the same run ends well{proved} (identmap diagnose)",
                pages.join(" and ")
            ));
        }
        ways.push(conflict.unwrap_or_else(|| REBOOT.to_owned()));
        ways.join("\n")
    }

    /// What a person will see of a fault, and what not.
    fn sights(&self, fault: &Fault) -> String {
        if fault.repeats {
            return "what you will see: nothing, and the machine hangs; the kernel's own handler \
                    returns to the fault again and again, before any console is set up"
                .to_owned();
        }
        if fault.handler.is_some() {
            return "what you will see: nothing; the kernel has a handler for it, which cannot run"
                .to_owned();
        }
        let reset = "what you will see: the machine resets and the firmware starts it as after power-on. The \
                     kernel has no handler for a page fault yet, so the processor shuts down (triple \
                     fault). What you will not see: any message, on the screen, on a serial line, in pstore or \
                     in the next boot's log; no crash dump";
        let reset = if fault.vector == 14 {
            reset.to_owned()
        } else {
            reset.replace("a page fault", &format!("exception {}", fault.vector))
        };
        let releases = self.producer.version().map(identmap_linux::KernelVersion::releases);
        let dump = releases.map(|releases| history::EXCEPTION_DUMP.over(releases));
        let dump = dump.map_or(vec![true, false], |known| known.candidates().to_vec());
        let since = history::EXCEPTION_DUMP.spans.first().map(|span| span.releases.from);
        let since = since.map_or_else(String::new, |release| release.to_string());
        match (fault.own_idt, dump.as_slice()) {
            // Its IDT is in force: whatever the producer left behind is not asked.
            (true, [.., true] | [true, ..]) => format!(
                "{reset}. The handler that kernels from {since} on leave for the way into the next one is \
                 already replaced here"
            ),
            (true, _) | (false, [false]) => reset,
            (false, [true]) => {
                "what you will see: the registers, on a serial line if the running kernel \
                                has earlyprintk on an 8250; then the machine hangs (hlt). The \
                                running kernel's handler is still in force here. Without such a \
                                line: nothing"
                    .to_owned()
            }
            (false, _) => format!(
                "{reset}; unless the running kernel leaves a handler for the way into the next one, as \
                 those from {since} on may: then it hangs, with the registers on an 8250 serial line if \
                 earlyprintk is on one"
            ),
        }
    }
}

/// A run's end, as a diagnosis takes it.
#[must_use]
pub fn trial(report: &Report) -> Trial {
    match &report.outcome {
        Outcome::Reached { .. } => Trial::Safe,
        Outcome::Fault(fault) => {
            let page = fault.page_fault.as_ref().filter(|page| page.code & PRESENT == 0);
            let addr = page.and_then(|page| PhysAddr::new(page.cr2.get()));
            addr.map_or_else(|| Trial::Fails(report.outcome.to_string()), Trial::Missing)
        }
        Outcome::Halted { .. } => Trial::Fails(report.outcome.to_string()),
        Outcome::Unknown(why) => Trial::Unknown(why.to_string()),
    }
}

/// The finding for a consumer that could not be set up on a machine.
#[must_use]
pub fn not_set_up(error: &SetupError) -> Finding {
    let finding = cannot_tell(error.to_string());
    match error {
        SetupError::SystemTable => finding.remedy(
            "say where it lies: --system-table ADDR, and --config-table START-LAST; or capture on the \
             machine as root",
        ),
        SetupError::ConfigTable => finding.remedy(
            "say where it lies, with its last byte: --config-table START-LAST; or capture on the machine \
             as root",
        ),
        _ => finding,
    }
}

/// Bit 0 of a page fault's error code: the page is present (Intel SDM vol. 3A, 4.7).
const PRESENT: u32 = 1;
const FAULT: &str = "preflight-fault";
const REBOOT: &str = "do not kexec on this machine as things are; reboot through the firmware";
const HALTED: &str = "what you will see: the machine hangs. The kernel's message is on a text-mode VGA screen \
                      or, if its command line has earlyprintk=serial, on a serial line; on a screen \
                      that firmware left in graphics mode, nothing";

struct Tries<'a, 'b, 'c> {
    jump: &'a Jump<'a>,
    runs: &'b mut Runs<'c>,
}

impl Oracle for Tries<'_, '_, '_> {
    fn trial(&mut self, entries: &[PhysRange]) -> Trial {
        match self.jump.report(self.runs, entries) {
            Ok(report) => trial(&report),
            Err(error) => Trial::Unknown(error.to_string()),
        }
    }

    fn conflict(&mut self, entries: &[PhysRange]) -> Option<String> {
        let reached = |more: &[PhysRange]| -> Vec<(&'static str, PhysRange)> {
            let coverage = self.jump.coverage(more);
            let all = coverage.map_or_else(Vec::new, |c| exposures(&c, self.jump.hazards));
            let grave = all.into_iter().filter(identmap_audit::Exposure::is_grave);
            grave
                .flat_map(|e| e.mapped.into_iter().map(move |r| (e.hazard.rule.title, r)))
                .collect()
        };
        newly_reached(&reached(&[]), &reached(entries))
    }
}

fn cannot_tell(why: String) -> Finding {
    let what = "the run of the kernel's first instructions cannot tell";
    Finding::new("preflight-unknown", Severity::Warning, Confidence::Unknown, what, why)
}

fn unknown(why: &Unknown) -> Finding {
    let finding = cannot_tell(why.to_string());
    let supply = match why {
        Unknown::Content { range, .. } => {
            let text = "supply what lies there: capture on the machine as root (identmap capture); for EFI's \
                        tables their places do: --system-table ADDR, and --config-table START-LAST \
                        with its last byte";
            return finding.at(*range).remedy(text);
        }
        Unknown::Register { .. } => "supply the firmware's tables: capture on the machine as root",
        Unknown::Cpu(_) => {
            "say which processor it is: --cpu PROFILE, with -la57 behind if it has 5 levels"
        }
        Unknown::Instructions { .. } | Unknown::Time { .. } | Unknown::Memory { .. } => {
            "no distribution's kernel takes so much: make sure that the file is the kernel it should be"
        }
        Unknown::Table(_) | Unknown::Engine(_) | Unknown::Child(_) => {
            "nothing to supply: the emulator did not get far enough; a report of this is welcome"
        }
    };
    finding.remedy(supply)
}
