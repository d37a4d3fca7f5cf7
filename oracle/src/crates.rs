//! identmap against other crates: the leaves of a plan mapped through them, every translation compared
//! at every boundary and one byte either side; and identmap's tables read by them.

use std::time::Instant;

use identmap::{
    Arena, Config, Guard, PhysAddr, PhysRange, Plan, Policy, Slack, Slot, VirtAddr, WalkEnd, walk,
};

use crate::Options;
use crate::adapters::{Crate, Leaf, Look, Memory, Translation};
use crate::linux::grouped;
use crate::ours;
use crate::picture::{LeafRun, Picture};
use crate::sequence::{Reach, Rng, Sequence};
use crate::source::{Behaviour, LinuxPolicy};

const PAGE: u64 = 4096;
const TABLES: usize = 8192;
/// Leaves of one run whose boundaries are all looked at; of longer runs, this many at both ends and
/// one in 61 between.
const EDGE: u64 = 128;
/// Differences shown.
const SHOWN: u64 = 5;

/// Compares; returns how many plans had a difference.
pub(crate) fn compare(options: &Options) -> Result<u64, String> {
    let start = Instant::now();
    let (first, end) = match options.only {
        Some(number) => (number, number.checked_add(1).ok_or("--only is too large")?),
        None => (0, options.sequences),
    };
    let mut bench = Bench::new();
    for number in first..end {
        let mut sequence = Sequence::generate(options.seed, number, Reach::BelowLastSlot);
        // Neither crate has an encryption bit.
        sequence.encryption_mask = 0;
        let forbidden = forbidden(options.seed, number, &sequence);
        let slack = if number % 2 == 0 { Slack::None } else { Slack::Any };
        let guard = Guard { forbidden: &forbidden, slack };
        for policy in [Policy::RoundOut, Policy::Exact, Policy::Guarded(guard)] {
            bench.plans += 1;
            let Err(difference) = bench.one(&sequence, &policy) else { continue };
            bench.differing += 1;
            if bench.differing <= SHOWN {
                println!("--- sequence {number}, {}: {difference}\n{sequence:#x?}", policy.name());
            }
        }
    }
    println!(
        "{} sequences, {} plans (round-out, exact, guarded), {} differing  ({:.1} s, seed {})",
        grouped(end - first),
        grouped(bench.plans),
        grouped(bench.differing),
        start.elapsed().as_secs_f64(),
        options.seed,
    );
    for (other, count) in Crate::ALL.into_iter().zip(&bench.counts) {
        println!(
            "  {:<14} {} plans, {} leaves mapped, {} translations in its tables and as many in ours",
            other.name(),
            grouped(count.plans),
            grouped(count.leaves),
            grouped(count.translations),
        );
    }
    println!(
        "  leaves planned: 4K {}, 2M {}, 1G {}",
        grouped(bench.planned[0]),
        grouped(bench.planned[1]),
        grouped(bench.planned[2])
    );
    Ok(bench.differing)
}

#[derive(Default)]
struct Count {
    plans: u64,
    leaves: u64,
    translations: u64,
}

/// Memory and what was counted.
struct Bench {
    ours: Memory,
    theirs: Memory,
    slots: Vec<Slot>,
    picture: Picture,
    their_picture: Picture,
    addresses: Vec<u64>,
    plans: u64,
    differing: u64,
    planned: [u64; 3],
    counts: [Count; 2],
}

impl Bench {
    fn new() -> Bench {
        Bench {
            ours: Memory::new(TABLES),
            theirs: Memory::new(TABLES),
            slots: vec![Slot::EMPTY; 1024],
            picture: Picture::default(),
            their_picture: Picture::default(),
            addresses: Vec::new(),
            plans: 0,
            differing: 0,
            planned: [0; 3],
            counts: Default::default(),
        }
    }

    /// One plan against all that can have it; says what differs.
    fn one(&mut self, sequence: &Sequence, policy: &Policy<'_>) -> Result<(), String> {
        let behaviour = Behaviour {
            policy: LinuxPolicy::Exact, // not asked: the policy is given
            upper_flags: 0,
            last_slot: false,
            has_free: false,
        };
        // Tables lie where this process has them: above some of the limits that sequences have.
        let config = Config { maxphyaddr: 52, ..ours::config(sequence, behaviour) };
        let look = Look {
            five_levels: sequence.five_levels,
            leaf_flags: sequence.leaf_flags,
            table_flags: sequence.table_flags,
        };
        let needed = Plan::slots_needed(policy, sequence.requests.len());
        if self.slots.len() < needed {
            self.slots.resize(needed, Slot::EMPTY);
        }
        let plan = Plan::new(&config, policy, &sequence.requests, &mut self.slots)
            .map_err(|e| format!("Plan::new: {e}"))?;

        let (tables, base) = self.ours.lend().ok_or("tables lie past 2^52")?;
        let mut arena = Arena::new(tables, base).map_err(|e| e.to_string())?;
        let root = plan.build(&mut arena).map_err(|e| format!("build: {e}"))?.root;
        if root != base {
            return Err("the root is not the first table".into());
        }
        addresses(&config, &plan, &sequence.requests, &mut self.addresses);
        let expected = by_walk(&config, &plan, &arena, root, &self.addresses)?;
        take(&self.ours, look, base.get(), &mut self.picture)?;
        for (count, size) in self.planned.iter_mut().zip(identmap::PageSize::ALL) {
            *count += plan.leaves(size);
        }

        for (index, other) in Crate::ALL.into_iter().enumerate() {
            if !other.can(look) {
                continue;
            }
            let say = |e: String| format!("{}: {e}", other.name());
            let taken = other
                .build(&mut self.theirs, look, &mut leaves(&self.picture.runs))
                .map_err(say)?;
            if taken != plan.tables().total() {
                let ours = plan.tables().total();
                return Err(say(format!("{taken} tables, ours {ours}")));
            }
            if other.takes_flags() {
                // Every bit of both, but for where the tables lie.
                let base = self.theirs.base();
                take(&self.theirs, look, base, &mut self.their_picture)?;
                if let Some(text) = self.picture.difference(&self.their_picture) {
                    return Err(say(text));
                }
            }
            let whose = [("its tables", &mut self.theirs), ("our tables", &mut self.ours)];
            for (what, memory) in whose {
                let got = other.translate(memory, look, &self.addresses).map_err(say)?;
                let pairs = got.iter().zip(&expected).zip(&self.addresses);
                for ((got, expected), virt) in pairs {
                    if got != expected {
                        return Err(say(format!(
                            "{what}, {virt:#x}: {got:x?}, identmap {expected:x?}"
                        )));
                    }
                }
            }
            let count = &mut self.counts[index];
            count.plans += 1;
            count.leaves += self.picture.runs.iter().map(|run| run.count).sum::<u64>();
            count.translations += self.addresses.len() as u64;
        }
        Ok(())
    }
}

fn take(memory: &Memory, look: Look, base: u64, picture: &mut Picture) -> Result<(), String> {
    picture
        .take(look.five_levels, 0, base, &|at| memory.at(base, at))
        .map_err(|e| format!("the tables make no sense: {e}"))
}

fn leaves(runs: &[LeafRun]) -> impl Iterator<Item = Leaf> + '_ {
    runs.iter().flat_map(|run| {
        (0..run.count).map(|i| Leaf {
            virt: run.virt + i * run.size,
            phys: run.phys + i * run.size,
            size: run.size,
        })
    })
}

/// Where both sides are asked: boundaries of leaves and of requests, and one byte either side.
fn addresses(config: &Config, plan: &Plan<'_>, requests: &[PhysRange], into: &mut Vec<u64>) {
    into.clear();
    let mut boundary = |phys: u64| {
        for near in [phys.wrapping_sub(1), phys, phys.wrapping_add(1)] {
            let virt = near.wrapping_add(config.offset);
            if config.levels.is_canonical(VirtAddr::new(virt)) {
                into.push(virt);
            }
        }
    };
    for run in plan.runs() {
        let (start, size) = (run.range().start().get(), run.size().bytes());
        let count = run.count();
        let mut leaf = 0;
        while leaf <= count {
            boundary(start + leaf * size);
            let middle = leaf >= EDGE && leaf + EDGE < count;
            leaf += if middle { 61.min(count - EDGE - leaf) } else { 1 };
        }
    }
    for request in requests {
        boundary(request.start().get());
        boundary(request.end().get());
    }
    // Both ends of the virtual space, and of its hole.
    let bits = config.levels.virt_bits();
    let middle = 1u64 << (bits - 1);
    into.extend([0, 1, middle - 1, middle.wrapping_neg(), u64::MAX - PAGE * 512 * 512 * 1024]);
}

/// identmap's own translations; they must also be what the plan says.
fn by_walk(
    config: &Config,
    plan: &Plan<'_>,
    arena: &Arena<'_>,
    root: PhysAddr,
    addresses: &[u64],
) -> Result<Vec<Option<Translation>>, String> {
    let one = |&virt: &u64| {
        let translation = match walk(arena, root, &config.paging(), VirtAddr::new(virt)).end() {
            WalkEnd::Mapped { phys, size, rights } => Some(Translation {
                phys: phys.get(),
                size: size.bytes(),
                write: rights.write,
                execute: rights.execute,
            }),
            WalkEnd::NotPresent => None,
            other => return Err(format!("walk of {virt:#x}: {other:?}")),
        };
        let phys = virt.wrapping_sub(config.offset);
        let planned = PhysAddr::new(phys).and_then(|phys| plan.at(phys));
        let agrees = match (translation, planned) {
            (Some(t), Some(run)) => t.phys == phys && t.size == run.size().bytes(),
            (None, None) => true,
            _ => false,
        };
        if agrees {
            Ok(translation)
        } else {
            Err(format!("{virt:#x}: {translation:x?}, {planned:?}"))
        }
    };
    addresses.iter().map(one).collect()
}

/// Ranges close to the requests, none in a 4 KiB page that a request touches: `guarded` has to go
/// around them, down to 4 KiB.
fn forbidden(seed: u64, number: u64, sequence: &Sequence) -> Vec<PhysRange> {
    let mut rng = Rng::new(!seed, number);
    let mut ranges = Vec::new();
    let limit = 1 << 52;
    for request in &sequence.requests {
        if rng.one_in(2) {
            continue;
        }
        let pages = request.round_out(identmap::PageSize::Size4K);
        let distance = rng.below(600) * PAGE * rng.below(3);
        let length = rng.below(3 * PAGE) + 1;
        let start = if rng.one_in(2) {
            pages.end().get().saturating_add(distance)
        } else {
            pages.start().get().saturating_sub(distance + length)
        };
        let end = start.saturating_add(length).min(limit);
        let Ok(range) = PhysRange::new(start, end.max(start)) else { continue };
        let touched = |r: &PhysRange| r.round_out(identmap::PageSize::Size4K).intersects(range);
        if !sequence.requests.iter().any(touched) {
            ranges.push(range);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short run of the whole comparison, with leaves of every size in it.
    #[test]
    fn plans_agree_with_other_crates() {
        let mut bench = Bench::new();
        for number in 0..300 {
            let mut sequence = Sequence::generate(11, number, Reach::BelowLastSlot);
            sequence.encryption_mask = 0;
            // Debug builds are slow: small ones only.
            if sequence.requests.iter().any(|r| r.len() > 1 << 36) {
                continue;
            }
            let forbidden = forbidden(11, number, &sequence);
            let guard = Guard { forbidden: &forbidden, slack: Slack::None };
            for policy in [Policy::RoundOut, Policy::Exact, Policy::Guarded(guard)] {
                bench.one(&sequence, &policy).unwrap_or_else(|e| panic!("{number}: {e}"));
            }
        }
        assert!(bench.planned.iter().all(|&leaves| leaves > 1000), "{:?}", bench.planned);
        assert!(bench.counts.iter().all(|count| count.plans > 200 && count.translations > 100_000));
    }

    /// A leaf that is left out, or mapped elsewhere, is seen.
    #[test]
    fn a_wrong_leaf_is_noticed() {
        let sequence = Sequence {
            five_levels: false,
            gbpages: true,
            offset: 0,
            maxphyaddr: 40,
            leaf_flags: 0x163,
            table_flags: 0x63,
            encryption_mask: 0,
            requests: vec![PhysRange::new(0, 0x60_0000).unwrap()],
        };
        let look = Look { five_levels: false, leaf_flags: 0x163, table_flags: 0x63 };
        let leaf = |virt, phys| Leaf { virt, phys, size: 0x20_0000 };
        let good = [leaf(0, 0), leaf(0x20_0000, 0x20_0000), leaf(0x40_0000, 0x40_0000)];
        let mut bench = Bench::new();
        bench.one(&sequence, &Policy::Exact).unwrap();
        for other in Crate::ALL {
            let mut ask = |leaves: &[Leaf]| {
                other.build(&mut bench.theirs, look, &mut leaves.iter().copied()).unwrap();
                other.translate(&mut bench.theirs, look, &[0, 0x3f_ffff, 0x40_0000]).unwrap()
            };
            let right = ask(&good);
            assert_eq!(
                right.iter().flatten().map(|t| t.phys).collect::<Vec<_>>(),
                [0, 0x3f_ffff, 0x40_0000]
            );
            assert_eq!(ask(&good[..2])[2], None, "{}", other.name());
            let moved = ask(&[good[0], leaf(0x20_0000, 0x80_0000), good[2]]);
            assert_eq!(moved[1].map(|t| t.phys), Some(0x9f_ffff), "{}", other.name());
        }
    }
}
