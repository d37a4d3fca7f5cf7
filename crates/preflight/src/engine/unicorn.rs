//! Unicorn as an engine.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use identmap::{Found, LeafRun, Leaves, PhysAddr, PhysRange, Seen, VirtAddr};
use unicorn_engine_sys::RegisterX86;

use crate::engine::Engine;
use crate::engine::ffi::{End, Session};
use crate::guest::{Guest, Stop};
use crate::outcome::{Fault, Outcome, PageFault, Report, Unknown};
use crate::scene::{Scene, SceneError};

/// [Unicorn](https://www.unicorn-engine.org): QEMU's translator as a library.
#[derive(Clone, Copy, Default, Debug)]
pub struct Unicorn;

impl Engine for Unicorn {
    fn run(&self, scene: &Scene) -> Result<Report, SceneError> {
        scene.check()?;
        let start = Instant::now();
        let mut session = match Session::new(scene) {
            Ok(session) => session,
            Err(why) => return Ok(nothing(Unknown::Engine(why), start.elapsed())),
        };
        let (end, repeats) = run(&mut session, scene.entry);
        let instructions = session.instructions();
        let outcome = outcome(session.guest(), &end, repeats);
        let touched = std::mem::take(&mut session.guest().touched).into_values().collect();
        Ok(Report { outcome, touched, instructions, time: start.elapsed() })
    }
}

/// Runs to the end, through page faults that the consumer has a handler for. Also whether the
/// last one is of an instruction that such a handler has returned to once before: the same address,
/// the same stack. With less stack it is a handler that faults itself, again and again, until it has
/// overwritten something; that is followed to its end.
fn run(session: &mut Session<'_>, entry: u64) -> (End, bool) {
    let mut handled: HashSet<(u64, u64, u64)> = HashSet::new();
    let mut from = entry;
    loop {
        let end = session.run(from);
        let Some(Stop::PageFault { rip, cr2, code, .. }) = session.guest().stop else {
            return (end, false);
        };
        if !handled.insert((rip, cr2, end.rsp)) {
            return (end, true);
        }
        if handled.len() > MOST_HANDLED {
            let why = format!("more than {MOST_HANDLED} page faults are handled");
            session.guest().stop = Some(Stop::Unknown(Unknown::Engine(why)));
            return (end, false);
        }
        let Some(delivered) = session.guest().deliver(&end.interrupted(), code) else {
            return (end, false);
        };
        let set = [
            session.set(RegisterX86::CR2, cr2),
            session.set(RegisterX86::RSP, delivered.rsp),
            session.set(RegisterX86::RFLAGS, end.rflags & !delivered.cleared_flags),
        ];
        if set.iter().any(Result::is_err) {
            return (end, false);
        }
        session.guest().stop = None;
        from = delivered.handler;
    }
}

/// Page faults that a consumer may handle. One that builds its own tables on demand would have
/// loaded them before; a handler that faults itself uses up a stack of tens of KiB by hundreds of bytes.
const MOST_HANDLED: usize = 10_000;

fn nothing(why: Unknown, time: Duration) -> Report {
    Report { outcome: Outcome::Unknown(why), touched: Vec::new(), instructions: 0, time }
}

fn outcome(guest: &mut Guest<'_>, end: &End, repeats: bool) -> Outcome {
    let stop = guest.stop.take().unwrap_or_else(|| match &end.error {
        Some(why) => Stop::Unknown(Unknown::Engine(why.clone())),
        None => Stop::Halted { rip: end.regs.rip },
    });
    let handler = |vector| {
        let gate = guest.gate(&end.regs, end.idt, vector).ok()??;
        Some(VirtAddr::new(gate.handler))
    };
    // A run begins with an IDT of length 0.
    let own_idt = end.idt.1 != 0;
    let own = match stop {
        Stop::Exception { vector, .. } => Some(Some(vector)),
        Stop::PageFault { .. } if !repeats => Some(None),
        _ => None,
    };
    match own.map(|vector| guest.may_be_handled(&end.interrupted(), vector)) {
        Some(Err(why)) => return Outcome::Unknown(why),
        Some(Ok(true)) => {
            let at = VirtAddr::new(end.regs.rip);
            let why = format!("an exception at {at} goes to a handler of the consumer's own");
            return Outcome::Unknown(Unknown::Engine(why));
        }
        Some(Ok(false)) | None => {}
    }
    match stop {
        Stop::Reached { cr3 } => Outcome::Reached { cr3 },
        Stop::Unknown(why) => Outcome::Unknown(why),
        Stop::Halted { rip } => {
            Outcome::Halted { rip: VirtAddr::new(rip), at: guest.image_place(rip) }
        }
        Stop::Exception { rip, vector } => Outcome::Fault(Box::new(Fault {
            vector,
            rip: VirtAddr::new(rip),
            at: guest.image_place(rip),
            page_fault: None,
            handler: handler(vector),
            own_idt,
            repeats: false,
        })),
        Stop::PageFault { rip, cr2, code, access } => {
            let (below, above) = neighbours(guest, end, cr2);
            let what = PhysAddr::new(cr2).and_then(|addr| guest.scene.place(addr));
            Outcome::Fault(Box::new(Fault {
                vector: 14,
                rip: VirtAddr::new(rip),
                at: guest.image_place(rip),
                page_fault: Some(PageFault {
                    cr2: VirtAddr::new(cr2),
                    code,
                    access,
                    what: what.map(|(range, name)| (range, name.to_owned())),
                    below,
                    above,
                }),
                handler: handler(14),
                own_idt,
                repeats,
            }))
        }
    }
}

/// The mapped ranges nearest to an address that is not, in the identity part of the map.
fn neighbours(guest: &Guest<'_>, end: &End, cr2: u64) -> (Option<PhysRange>, Option<PhysRange>) {
    let mut seen = vec![Seen::EMPTY; 1 << 16];
    let leaves =
        Leaves::new(&guest.memory, guest.root(&end.regs), guest.paging(&end.regs), &mut seen);
    let mut below: Option<PhysRange> = None;
    for found in leaves {
        let Found::Leaves(run) = found else { continue };
        let Some(range) = identity(&run) else { continue };
        if range.start().get() > cr2 {
            return (below, Some(range));
        }
        below = Some(below.and_then(|below| below.merged(range)).unwrap_or(range));
    }
    (below, None)
}

fn identity(run: &LeafRun) -> Option<PhysRange> {
    let same = run.virt.get() == run.phys.get();
    PhysRange::from_len(run.phys.get(), run.bytes()).ok().filter(|_| same)
}
