//! A scenario: a consumer, a processor, tables; and what both sides make of it.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use identmap::{Level, Levels, PageSize, PhysAddr, PhysRange};
use identmap_lab::guest::Failure;
use identmap_linux::boot::Strategy;
use identmap_preflight::{CpuProfile, Outcome, Report, Scene, run};

use crate::cpu::Cpu;
use crate::gdb;
use crate::qemu::{self, Launch, Seen};
use crate::world::{self, Base, Edit, LAST_STEPS, Tables, Terms, World, page, range};

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is about, in one word; unique for a consumer.
    pub name: String,
    /// The consumer's directory in the cache, below `kernels` or `consumers`.
    pub kernel: String,
    /// The processor.
    pub cpu: Cpu,
    /// Levels of the tables that the consumer is entered with.
    pub levels: Levels,
    /// Where things are put.
    pub strategy: Strategy,
    /// Words for the consumer's command line.
    pub append: String,
    /// EFI is handed over.
    pub efi: bool,
    /// Many entries of e820.
    pub many_regions: bool,
    /// What is mapped.
    pub base: Base,
    /// With 1 GiB leaves.
    pub gbpages: bool,
    /// What is not mapped, of that.
    pub holes: Vec<Hole>,
    /// Changed entries.
    pub edits: Vec<Change>,
}

/// Bytes that are not mapped, in whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hole {
    /// From an anchor on.
    At(Anchor, u64, u64),
    /// All frames of the tables themselves.
    Tables,
    /// The frame of the table that the root's first entry leads to.
    FirstTable,
    /// Of the kernel's pages that it touches, sorted, the one at this part of 1000.
    Touched(u32),
    /// Of those that it does not touch.
    Untouched(u32),
    /// The last page that it touches of the last run of pages touched; or, with `true`, the one after.
    LastTouched(bool),
}

/// What an offset counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// The kernel's load address.
    Kernel,
    /// The first page after what the file has.
    KernelFileEnd,
    /// Counted back from the end of `init_size`, in whole pages.
    KernelEnd,
    /// `boot_params`; the command line and `setup_data` begin a page on.
    Params,
    /// Counted back from the end of the purgatory's stack.
    ParamsEnd,
    /// The initrd.
    Initrd,
    /// Physical address 0.
    Zero,
}

/// A change of one entry, at an anchor and an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// What the way leads to.
    pub anchor: Anchor,
    /// An offset from it.
    pub offset: u64,
    /// Which entry of the way; the leaf without one.
    pub level: Option<Level>,
    /// Bits set.
    pub set: u64,
    /// Bits cleared.
    pub clear: u64,
}

/// Both sides of a scenario, and how they compare.
#[derive(Clone, Debug)]
pub struct Compared {
    /// What was not mapped.
    pub holes: Vec<PhysRange>,
    /// QEMU's end.
    pub seen: Seen,
    /// The preflight's.
    pub report: Report,
    /// Why they do not agree; `None` if they do.
    pub difference: Option<String>,
    /// Whether preflights of wrong tables are told from QEMU's end.
    pub noticed: bool,
    /// Seconds for all of it.
    pub seconds: f64,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kernel, self.name)
    }
}

impl Scenario {
    /// Nothing is wrong with it yet.
    #[must_use]
    pub fn new(kernel: &str, name: &str) -> Scenario {
        Scenario {
            name: name.to_owned(),
            kernel: kernel.to_owned(),
            cpu: Cpu::Amd,
            levels: Levels::Four,
            strategy: Strategy::TopDown,
            append: String::new(),
            efi: false,
            many_regions: false,
            base: Base::Whole,
            gbpages: true,
            holes: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// Runs both sides.
    ///
    /// # Errors
    /// When one of them cannot be run at all.
    pub fn compare(
        &self,
        image: &[u8],
        profile: CpuProfile,
        patience: Duration,
        trace: Option<&Path>,
    ) -> Result<Compared, Failure> {
        let started = Instant::now();
        let world = self.world(image, profile)?;
        let (scene, holes) = self.scene(&world)?;
        let seen = self.qemu(&world, &scene, patience, trace)?;
        let report = run(&scene)?;
        let difference = difference(&seen, &report.outcome);
        let noticed = self.is_noticed(&world, &scene, &seen, &report.outcome)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Compared { holes, seen, report, difference, noticed, seconds })
    }

    /// Runs the preflight alone: what is not mapped, and what it says.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn preflight(
        &self,
        image: &[u8],
        profile: CpuProfile,
    ) -> Result<(Vec<PhysRange>, Report), Failure> {
        let (scene, holes) = self.scene(&self.world(image, profile)?)?;
        Ok((holes, run(&scene)?))
    }

    /// The consumer, loaded.
    ///
    /// # Errors
    /// What keeps it from being loaded.
    pub fn world(&self, image: &[u8], profile: CpuProfile) -> Result<World, Failure> {
        let mut cmdline = "console=ttyS0 quiet no_timer_check".to_owned();
        if self.efi {
            cmdline += " efi=noruntime";
        }
        if !self.append.is_empty() {
            cmdline += " ";
            cmdline += &self.append;
        }
        let terms = Terms {
            strategy: self.strategy,
            cmdline,
            efi: self.efi,
            many_regions: self.many_regions,
            profile,
            levels: self.levels,
        };
        World::load(image, terms)
    }

    /// The scene, and what is not mapped in it.
    ///
    /// # Errors
    /// When there are no such tables.
    pub fn scene(&self, world: &World) -> Result<(Scene, Vec<PhysRange>), Failure> {
        let mut tables =
            Tables { base: self.base, gbpages: self.gbpages, holes: Vec::new(), edits: Vec::new() };
        for change in &self.edits {
            let at = anchor(world, change.anchor, change.offset);
            tables.edits.push(Edit {
                at,
                level: change.level,
                set: change.set,
                clear: change.clear,
            });
        }
        let touched = if self.holes.iter().any(Hole::needs_touched) {
            kernel_pages(world)?
        } else {
            Vec::new()
        };
        // A hole moves the tables that it is in: until it meets them.
        let mut scene = world.scene(&tables)?;
        for _ in 0..8 {
            let holes = self.holes.iter().map(|hole| hole.resolve(world, &scene, &touched));
            let holes = holes.collect::<Result<Vec<PhysRange>, Failure>>()?;
            if holes.iter().any(|hole| hole.intersects(page(LAST_STEPS))) {
                return Err(format!("{self}: a hole at the last steps before the consumer").into());
            }
            let before = std::mem::replace(&mut tables.holes, holes);
            if before == tables.holes {
                return Ok((scene, before));
            }
            scene = world.scene(&tables)?;
        }
        Err(format!("{self}: the holes do not come to rest").into())
    }

    fn qemu(
        &self,
        world: &World,
        scene: &Scene,
        patience: Duration,
        trace: Option<&Path>,
    ) -> Result<Seen, Failure> {
        let (blobs, rom) = world.blobs(scene);
        let load = world.placement.kernel.start().get();
        let sev_at = match self.cpu {
            Cpu::AmdSev => {
                gdb::sites(world.protected()?).iter().map(|at| load + *at as u64).collect()
            }
            _ => Vec::new(),
        };
        if self.cpu == Cpu::AmdSev && sev_at.is_empty() {
            return Err(format!("{self}: it does not ask for SEV").into());
        }
        let name = self.to_string().replace('/', "-");
        let launch = Launch {
            cpu: self.cpu.qemu(),
            rom,
            blobs,
            sev_at,
            root: scene.root.get(),
            patience,
            trace: trace.map(|directory| directory.join(name)),
        };
        Ok(qemu::run(&launch)?.0)
    }

    /// Whether preflights of other tables, wrong on purpose, differ from what QEMU did: with
    /// the kernel's first page unmapped where it came up, and without any hole where it did not.
    fn is_noticed(
        &self,
        world: &World,
        scene: &Scene,
        seen: &Seen,
        outcome: &Outcome,
    ) -> Result<bool, Failure> {
        let wrong = match seen {
            Seen::Up(_) => {
                let holes = vec![page(scene.entry)];
                let tables =
                    Tables { base: Base::Whole, gbpages: self.gbpages, holes, edits: Vec::new() };
                world.scene(&tables)?
            }
            Seen::Reset(_) | Seen::Hang(_) => {
                let (holes, edits) = (Vec::new(), Vec::new());
                let gbpages = self.gbpages && world.terms.profile.pdpe1gb == Some(true);
                world.scene(&Tables { base: Base::Whole, gbpages, holes, edits })?
            }
        };
        let wrong = run(&wrong)?.outcome;
        Ok(wrong != *outcome && difference(seen, &wrong).is_some())
    }
}

/// Why what the preflight says is not what QEMU did.
#[must_use]
pub fn difference(seen: &Seen, outcome: &Outcome) -> Option<String> {
    match (seen, outcome) {
        (Seen::Up(_), Outcome::Reached { .. }) => None,
        (Seen::Reset(state), Outcome::Fault(fault)) if !fault.repeats => {
            // Before the consumer's first instruction there is no RIP in common.
            let before = page(LAST_STEPS).contains(PhysAddr::new(state.rip)?);
            if before || fault.rip.get() == state.rip {
                let page_fault = fault.page_fault.as_ref();
                let cr2 = page_fault.map(|page_fault| page_fault.cr2.get());
                return match cr2 {
                    Some(cr2) if cr2 != state.cr2 && !before => {
                        Some(format!("CR2 {:#x} in QEMU, {cr2:#x} in the preflight", state.cr2))
                    }
                    _ => None,
                };
            }
            Some(format!("RIP {:#x} in QEMU, {:#x} in the preflight", state.rip, fault.rip.get()))
        }
        (Seen::Hang(state), Outcome::Fault(fault)) if fault.repeats && !state.halted => None,
        (Seen::Hang(state), Outcome::Halted { .. }) if state.halted => None,
        (_, outcome) => Some(format!("QEMU: it {seen}; the preflight: {outcome}")),
    }
}

fn anchor(world: &World, anchor: Anchor, offset: u64) -> u64 {
    let placement = &world.placement;
    match anchor {
        Anchor::Kernel => placement.kernel.start().get() + offset,
        Anchor::KernelFileEnd => {
            let end = placement.kernel.start().get() + world.kernel_file;
            end.next_multiple_of(4096) + offset
        }
        Anchor::KernelEnd => placement.kernel.end().get() - offset,
        Anchor::Params => placement.params.start().get() + offset,
        Anchor::ParamsEnd => placement.params.end().get() - offset,
        Anchor::Initrd => placement.initrd.map_or(0, |range| range.start().get()) + offset,
        Anchor::Zero => offset,
    }
}

/// Pages of the kernel: address, and whether it touches them under a whole map.
fn kernel_pages(world: &World) -> Result<Vec<(u64, bool)>, Failure> {
    let gbpages = world.terms.profile.pdpe1gb == Some(true);
    let tables = Tables { base: Base::Whole, gbpages, holes: Vec::new(), edits: Vec::new() };
    let report = run(&world::listing_kernel(&world.scene(&tables)?))?;
    if !matches!(report.outcome, Outcome::Reached { .. }) {
        return Err(format!("under a whole map: {}", report.outcome).into());
    }
    let kernel = world.placement.kernel;
    let touched: Vec<u64> = report.touched.iter().map(|touch| touch.page.get()).collect();
    let pages = (kernel.start().get()..kernel.end().get()).step_by(4096);
    Ok(pages.map(|page| (page, touched.binary_search(&page).is_ok())).collect())
}

impl Hole {
    fn needs_touched(&self) -> bool {
        matches!(self, Hole::Touched(_) | Hole::Untouched(_) | Hole::LastTouched(_))
    }

    fn resolve(
        &self,
        world: &World,
        scene: &Scene,
        pages: &[(u64, bool)],
    ) -> Result<PhysRange, Failure> {
        let nth = |touched: bool, part: u32| {
            let pages: Vec<u64> = pages.iter().filter(|p| p.1 == touched).map(|p| p.0).collect();
            let at = pages.len() * part as usize / 1000;
            pages.get(at.min(pages.len().saturating_sub(1))).copied()
        };
        let none = || format!("{self:?}: no such page");
        Ok(match *self {
            Hole::At(from, offset, len) => {
                let start = anchor(world, from, offset);
                let whole = range(start, start.checked_add(len).ok_or_else(none)?);
                whole.round_out(PageSize::Size4K)
            }
            Hole::Tables => {
                let tables = scene.contents.iter().find(|c| c.name == "page tables");
                tables.ok_or_else(none)?.range
            }
            Hole::FirstTable => {
                let way = world::way(scene, 0)?;
                let below = self_below(world.terms.levels);
                page(way.get(&below).ok_or_else(none)?.get())
            }
            Hole::Touched(part) => page(nth(true, part).ok_or_else(none)?),
            Hole::Untouched(part) => page(nth(false, part).ok_or_else(none)?),
            Hole::LastTouched(after) => {
                let last = pages.iter().rposition(|p| p.1).ok_or_else(none)?;
                let at = if after { last + 1 } else { last };
                page(pages.get(at).ok_or_else(none)?.0)
            }
        })
    }
}

fn self_below(levels: Levels) -> Level {
    levels.root().below().unwrap_or(Level::Pdpt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::State;
    use identmap::VirtAddr;
    use identmap_preflight::{Access, Fault, PageFault, Unknown};

    fn fault(rip: u64, cr2: u64, repeats: bool) -> Outcome {
        let (rip, cr2) = (VirtAddr::new(rip), VirtAddr::new(cr2));
        let (what, below, above) = (None, None, None);
        let page_fault = PageFault { cr2, code: 0, access: Access::Read, what, below, above };
        let page_fault = Some(page_fault);
        Outcome::Fault(Box::new(Fault {
            vector: 14,
            rip,
            at: None,
            page_fault,
            handler: None,
            own_idt: false,
            repeats,
        }))
    }

    #[test]
    fn every_pair_of_ends_but_the_same_differs() {
        let state = |halted| State { rip: 0x20_0123, cr2: 0x9_d000, cr3: 0, halted };
        let seen = [
            Seen::Up("6.1".to_owned()),
            Seen::Reset(state(false)),
            Seen::Hang(state(false)),
            Seen::Hang(state(true)),
        ];
        let rip = VirtAddr::new(0x20_0123);
        let outcomes = [
            Outcome::Reached { cr3: 0 },
            fault(0x20_0123, 0x9_d000, false),
            fault(0x20_0123, 0x9_d000, true),
            Outcome::Halted { rip, at: None },
        ];
        for (i, seen) in seen.iter().enumerate() {
            for (k, outcome) in outcomes.iter().enumerate() {
                assert_eq!(difference(seen, outcome).is_none(), i == k, "{seen:?} {outcome:?}");
            }
            let unknown = Outcome::Unknown(Unknown::Time { rip: None });
            assert!(difference(seen, &unknown).is_some());
        }
    }

    #[test]
    fn a_fault_elsewhere_or_of_another_address_differs() {
        let reset = Seen::Reset(State { rip: 0x20_0123, cr2: 0x9_d000, cr3: 0, halted: false });
        assert!(difference(&reset, &fault(0x20_0124, 0x9_d000, false)).is_some());
        assert!(difference(&reset, &fault(0x20_0123, 0x9_d001, false)).is_some());
        // In the last steps before the consumer, RIP is not the consumer's.
        let before = State { rip: LAST_STEPS + 0x56, cr2: 0, cr3: 0, halted: false };
        assert!(difference(&Seen::Reset(before), &fault(0x20_0123, 0x20_0123, false)).is_none());
    }
}
