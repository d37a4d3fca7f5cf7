//! identmap's answers: the same sequence planned and built, and added request by request.

use identmap::{
    Arena, Config, Flags, Found, Leaves, Level, Levels, PhysAddr, Plan, Policy, Seen, Slot, Table,
    add, empty_root,
};

use crate::picture::{LeafRun, Picture};
use crate::sequence::Sequence;
use crate::source::{Behaviour, LinuxPolicy};

/// More than any generated sequence takes; a longer one is an error, not a wrong answer.
const ARENA_TABLES: usize = 8192;
/// Where the tables lie, as far as their entries say: not where the shim's lie.
const TABLE_BASE: u64 = 0x4200_0000;

/// One of identmap's two ways to the same tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// `Plan::new` and `Plan::build`.
    Build,
    /// `add`, one request after the other.
    Add,
}

impl Way {
    pub(crate) const ALL: [Way; 2] = [Way::Build, Way::Add];
}

/// Memory that identmap builds in, used again for every sequence.
pub(crate) struct Ours {
    tables: Vec<Table>,
    slots: Vec<Slot>,
    seen: Vec<Seen>,
}

impl Ours {
    pub(crate) fn new() -> Ours {
        Ours {
            // Never cleared: memory for tables may hold anything.
            tables: vec![Table([0xdead_beef_0bad_f00d; 512]); ARENA_TABLES],
            slots: vec![Slot::EMPTY; 64],
            seen: vec![Seen::EMPTY; ARENA_TABLES * 2],
        }
    }

    /// Builds the tables one way and takes their picture.
    ///
    /// # Errors
    /// What identmap refused, or in which of its own words (runs, table count, leaves read back) it
    /// contradicts the tables it built.
    pub(crate) fn picture(
        &mut self,
        sequence: &Sequence,
        behaviour: Behaviour,
        way: Way,
        picture: &mut Picture,
    ) -> Result<(), String> {
        let config = config(sequence, behaviour);
        let policy = policy(behaviour.policy);
        let needed = Plan::slots_needed(&policy, sequence.requests.len());
        if self.slots.len() < needed {
            self.slots.resize(needed, Slot::EMPTY);
        }
        let base = PhysAddr::new(TABLE_BASE).ok_or("the base is no address")?;
        let mut arena = Arena::new(&mut self.tables, base).map_err(|e| e.to_string())?;
        let root = match way {
            Way::Build => {
                let plan = Plan::new(&config, &policy, &sequence.requests, &mut self.slots)
                    .map_err(|e| format!("Plan::new: {e}"))?;
                let built = plan.build(&mut arena).map_err(|e| format!("build: {e}"))?;
                take(sequence, &arena, built.root, picture)?;
                agrees_with_plan(&config, &plan, &arena, picture)?;
                built.root
            }
            Way::Add => {
                let root =
                    empty_root(&mut arena, &config).map_err(|e| format!("empty_root: {e}"))?;
                let mut new_tables = 1;
                for &request in &sequence.requests {
                    let added = add(&mut arena, root, &config, &policy, request, &mut self.slots)
                        .map_err(|e| format!("add {request}: {e}"))?;
                    new_tables += added.new_tables;
                }
                take(sequence, &arena, root, picture)?;
                if new_tables != picture.tables {
                    return Err(format!("add: {new_tables} new, {} tables", picture.tables));
                }
                root
            }
        };
        if arena.tables().len() as u64 != picture.tables {
            let taken = arena.tables().len();
            return Err(format!("{taken} tables taken, {} reachable", picture.tables));
        }
        agrees_with_leaves(&config, &arena, root, &mut self.seen, picture)
    }
}

/// The configuration of a sequence, with what this version of Linux adds by itself.
pub(crate) fn config(sequence: &Sequence, behaviour: Behaviour) -> Config {
    Config {
        levels: if sequence.five_levels { Levels::Five } else { Levels::Four },
        gbpages: sequence.gbpages,
        leaf_flags: Flags::from_bits(sequence.leaf_flags),
        table_flags: Flags::from_bits(sequence.table_flags),
        upper_table_flags: Flags::from_bits(sequence.table_flags | behaviour.upper_flags),
        encryption_mask: sequence.encryption_mask,
        offset: sequence.offset,
        maxphyaddr: sequence.maxphyaddr,
    }
}

/// identmap's name for it.
pub(crate) fn policy(policy: LinuxPolicy) -> Policy<'static> {
    match policy {
        LinuxPolicy::RoundOut => Policy::RoundOut,
        LinuxPolicy::Exact => Policy::Exact,
    }
}

fn take(
    sequence: &Sequence,
    arena: &Arena<'_>,
    root: PhysAddr,
    picture: &mut Picture,
) -> Result<(), String> {
    let tables = arena.tables();
    let table_at = |at: u64| {
        let distance = at.checked_sub(TABLE_BASE)?;
        tables.get((distance / 4096) as usize).filter(|_| distance % 4096 == 0).map(|t| &t.0)
    };
    picture
        .take(sequence.five_levels, sequence.encryption_mask, root.get(), &table_at)
        .map_err(|e| format!("the tables make no sense: {e}"))
}

/// The plan said it all before: runs, tables by level.
fn agrees_with_plan(
    config: &Config,
    plan: &Plan<'_>,
    arena: &Arena<'_>,
    picture: &Picture,
) -> Result<(), String> {
    let count = plan.tables();
    if count.total() != arena.tables().len() as u64 {
        return Err(format!("planned {} tables, took {}", count.total(), arena.tables().len()));
    }
    for level in Level::ALL {
        let is_root = level == config.levels.root();
        let links = picture.links.iter().filter(|l| l.level == level.number() + 1).count() as u64;
        if count.of(level) != links + u64::from(is_root) {
            return Err(format!("planned {} tables of {level}, built {links}", count.of(level)));
        }
    }
    // Runs of a plan ascend in physical addresses and do not break where an offset wraps.
    let mut built: Vec<_> = picture.runs.iter().map(|r| (r.phys, r.size, r.count)).collect();
    built.sort_unstable();
    built.dedup_by(|next, last| {
        let joins = last.0 + last.1 * last.2 == next.0 && last.1 == next.1;
        last.2 += if joins { next.2 } else { 0 };
        joins
    });
    let planned = plan.runs().map(|r| (r.range().start().get(), r.size().bytes(), r.count()));
    if !planned.eq(built.iter().copied()) {
        return Err(format!("planned runs are not those built: {built:x?}\n{plan}"));
    }
    Ok(())
}

/// identmap's own reader sees what our walk sees.
fn agrees_with_leaves(
    config: &Config,
    arena: &Arena<'_>,
    root: PhysAddr,
    seen: &mut [Seen],
    picture: &Picture,
) -> Result<(), String> {
    let places = (arena.tables().len() * 5 / 4 + 4).min(seen.len());
    let mut leaves = Leaves::new(arena, root, config.paging(), &mut seen[..places]);
    let mut expected = picture.runs.iter();
    for found in leaves.by_ref() {
        let Found::Leaves(run) = found else {
            return Err(format!("Leaves met {found:?}"));
        };
        let run = LeafRun {
            virt: run.virt.get(),
            phys: run.phys.get(),
            flags: run.flags.bits(),
            size: run.size.bytes(),
            count: run.count,
        };
        if expected.next() != Some(&run) {
            return Err(format!("Leaves gave a run that the tables do not have: {run}"));
        }
    }
    if let Some(run) = expected.next() {
        return Err(format!("Leaves left out {run}"));
    }
    let tables = leaves.tables().total();
    if tables != picture.tables {
        return Err(format!("Leaves counted {tables} tables of {}", picture.tables));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use crate::sequence::Reach;

    /// What Linux's sources are compared with, compared with a third opinion: needs no download.
    #[test]
    fn identmap_agrees_with_the_model() {
        let mut ours = Ours::new();
        let (mut theirs, mut expected) = (Picture::default(), Picture::default());
        let mut leaves = 0;
        for policy in [LinuxPolicy::RoundOut, LinuxPolicy::Exact] {
            let upper_flags = 1 << 58;
            let behaviour = Behaviour { policy, upper_flags, last_slot: true, has_free: true };
            for number in 0..1500 {
                let sequence = Sequence::generate(4, number, Reach::BelowLastFrame);
                model::picture(&sequence, behaviour, &mut expected);
                for way in Way::ALL {
                    let result = ours.picture(&sequence, behaviour, way, &mut theirs);
                    let difference = result.err().or_else(|| expected.difference(&theirs));
                    assert_eq!(difference, None, "{policy}, {way:?}, {number}: {sequence:#x?}");
                }
                leaves += theirs.runs.iter().map(|run| run.count).sum::<u64>();
            }
        }
        assert!(leaves > 1_000_000);
    }

    /// Offsets under which low memory goes to the top of the upper half and the rest to the lower
    /// half. Linux cannot do that (it stops where addresses wrap), so only the model can tell. One
    /// plan refuses requests in both halves; added one by one they are mapped as the model maps them.
    #[test]
    fn offsets_that_wrap_agree_with_the_model() {
        let mut ours = Ours::new();
        let (mut theirs, mut expected) = (Picture::default(), Picture::default());
        let mut in_both_halves = 0;
        for policy in [LinuxPolicy::RoundOut, LinuxPolicy::Exact] {
            let behaviour = Behaviour { policy, upper_flags: 0, last_slot: true, has_free: true };
            for number in 0..3000 {
                let mut sequence = Sequence::generate(9, number, Reach::BelowLastSlot);
                let step = if sequence.gbpages { 1 << 30 } else { 1 << 21 };
                let middle = sequence.requests[sequence.requests.len() / 2].end().get();
                let split = middle.next_multiple_of(step);
                sequence.offset = split.wrapping_neg();
                let half = if sequence.five_levels { 1 << 56 } else { 1 << 47 };
                sequence.requests.retain(|r| {
                    let (start, end) = (r.start().get(), r.end().get());
                    (end <= split || start >= split)
                        && split <= half
                        && end - split.min(end) <= half
                });
                let both = sequence.requests.iter().any(|r| r.end().get() <= split)
                    && sequence.requests.iter().any(|r| r.start().get() >= split);
                in_both_halves += u32::from(both);
                model::picture(&sequence, behaviour, &mut expected);
                for way in Way::ALL {
                    let result = ours.picture(&sequence, behaviour, way, &mut theirs);
                    if both && way == Way::Build {
                        let refusal = result.unwrap_err();
                        assert!(refusal.contains("different halves"), "{refusal}");
                        continue;
                    }
                    let difference = result.err().or_else(|| expected.difference(&theirs));
                    assert_eq!(difference, None, "{policy}, {way:?}, {number}: {sequence:#x?}");
                }
            }
        }
        assert!(in_both_halves > 500, "{in_both_halves}");
    }

    /// The other policy gives other tables, and the comparison sees it.
    #[test]
    fn the_wrong_policy_is_noticed() {
        let mut ours = Ours::new();
        let (mut theirs, mut expected) = (Picture::default(), Picture::default());
        let behaviour =
            |policy| Behaviour { policy, upper_flags: 0, last_slot: false, has_free: false };
        let mut differences = 0;
        for number in 0..100 {
            let sequence = Sequence::generate(1, number, Reach::BelowLastSlot);
            model::picture(&sequence, behaviour(LinuxPolicy::RoundOut), &mut expected);
            let exact = behaviour(LinuxPolicy::Exact);
            ours.picture(&sequence, exact, Way::Build, &mut theirs).unwrap();
            differences += u32::from(expected.difference(&theirs).is_some());
        }
        assert!((40..100).contains(&differences), "{differences}");
    }
}
