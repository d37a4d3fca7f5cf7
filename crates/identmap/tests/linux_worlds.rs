//! Linux's rules for every short sequence of requests, against a simulation that goes entry by
//! entry as `ident_pud_init()` and `ident_pmd_init()` do (facts on `arch/x86/mm/ident_map.c` of
//! 5.10, 6.12 and the patch for UV; written from a description, not from the source).

mod support;

use std::collections::{BTreeMap, BTreeSet};

use identmap::{
    AddError, Arena, BuildError, Config, Guard, LeafRun, Level, Levels, PageSize, PhysRange, Plan,
    Policy, Slack, Table, TableCount, add, empty_root,
};
use support::{BASE, G1, K4, M2, Random, addr, dirty_tables, leaves, range, reopened, slots_for};

/// Seven borders around a border of 512 GiB (256 TiB for 5 levels): aligned to a byte, 4 KiB,
/// 2 MiB and 1 GiB, with two whole GiBs between them.
const BREAKS: [u64; 7] = [
    510 * G1 + 0x123,
    511 * G1 - M2,
    511 * G1,
    511 * G1 + K4,
    512 * G1 - 1,
    512 * G1,
    513 * G1 + M2,
];

/// Enough tables for anything these tests build.
const ROOM: usize = 14;

#[test]
fn every_sequence_of_up_to_three_requests_under_round_out() {
    every_sequence_of_up_to_three_requests(Rule::RoundOut);
}

#[test]
fn every_sequence_of_up_to_three_requests_under_exact() {
    every_sequence_of_up_to_three_requests(Rule::Exact);
}

fn every_sequence_of_up_to_three_requests(rule: Rule) {
    let mut sequences = 0;
    for levels in [Levels::Four, Levels::Five] {
        for gbpages in [false, true] {
            let config = Config::kexec(levels, gbpages);
            let intervals = intervals(levels);
            for_each_sequence(&intervals, 3, &mut |requests| {
                check_sequence(&config, rule, requests);
                sequences += 1;
            });
        }
    }
    assert_eq!(sequences, 4 * (1 + 21 + 21 * 21 + 21 * 21 * 21));
}

#[test]
fn every_sequence_of_up_to_two_requests_under_exact_on_uv() {
    for levels in [Levels::Four, Levels::Five] {
        for gbpages in [false, true] {
            let config = Config::kexec(levels, gbpages);
            for_each_sequence(&intervals(levels), 2, &mut |requests| {
                check_sequence(&config, Rule::ExactOnUv(false), requests);
                check_sequence(&config, Rule::ExactOnUv(true), requests);
            });
        }
    }
}

/// Random requests in larger numbers, over four GiBs on both sides of a border.
#[test]
fn longer_sequences() {
    let mut random = Random::new(0x1de7);
    for _ in 0..4_000 {
        let requests: Vec<PhysRange> = (0..random.below(12))
            .map(|_| {
                let edge = |random: &mut Random| {
                    let near = 510 * G1 + random.below(5) * G1 + random.below(3) * M2;
                    near + random.pick(&[0, 1, K4, M2 - 1, M2, G1 / 2 + 7])
                };
                let (a, b) = (edge(&mut random), edge(&mut random));
                range(a.min(b), a.max(b) + 1)
            })
            .collect();
        for gbpages in [false, true] {
            let config = Config::kexec(Levels::Four, gbpages);
            for rule in [Rule::RoundOut, Rule::Exact] {
                check_sequence(&config, rule, &requests);
            }
        }
    }
}

/// Tables that another rule built are there first: with smaller leaves, larger ones, 4 KiB ones.
#[test]
fn adding_to_tables_of_another_rule() {
    let intervals = intervals(Levels::Four);
    let hole = [range(511 * G1 + K4, 511 * G1 + 2 * K4), range(512 * G1 + M2, 512 * G1 + M2 + 1)];
    let torn = Policy::Guarded(Guard { forbidden: &hole, slack: Slack::Any });
    let first_rules = [(torn, true), (Policy::RoundOut, false), (Policy::Exact, true)];
    for (first_rule, first_gbpages) in first_rules {
        for &first in &intervals {
            let first_config = Config::kexec(Levels::Four, first_gbpages);
            let Some(before) = Built::new(&first_config, &first_rule, first) else { continue };
            for &second in &intervals {
                for gbpages in [false, true] {
                    let config = Config::kexec(Levels::Four, gbpages);
                    for rule in
                        [Rule::RoundOut, Rule::Exact, Rule::ExactOnUv(false), Rule::ExactOnUv(true)]
                    {
                        check_add_as_linux(&config, rule, &before, second);
                    }
                    check_add_guarded(&config, &before, second, &hole);
                }
            }
        }
    }
}

#[test]
fn a_build_without_room_writes_nothing() {
    let config = Config::kexec(Levels::Four, true);
    for_each_sequence(&intervals(Levels::Four), 2, &mut |requests| {
        let policy = Policy::Exact;
        let mut slots = slots_for(&policy, requests.len());
        let plan = Plan::new(&config, &policy, requests, &mut slots).unwrap();
        let needed = plan.tables().total();
        for available in 0..needed {
            let mut tables = dirty_tables(available as usize);
            let mut arena = Arena::new(&mut tables, addr(BASE)).unwrap();
            let refused = plan.build(&mut arena).unwrap_err();
            assert_eq!(refused, BuildError::Exhausted { needed, available });
            assert!(arena.tables().is_empty(), "no table was taken");
            assert_eq!(tables, dirty_tables(available as usize));
        }
    });
}

fn intervals(levels: Levels) -> Vec<PhysRange> {
    let shift = if levels == Levels::Five { (1 << 48) - 512 * G1 } else { 0 };
    let mut all = Vec::new();
    for (i, &start) in BREAKS.iter().enumerate() {
        all.extend(BREAKS[i + 1..].iter().map(|&end| range(start + shift, end + shift)));
    }
    all
}

fn for_each_sequence(
    intervals: &[PhysRange],
    longest: usize,
    check: &mut impl FnMut(&[PhysRange]),
) {
    fn extend(
        intervals: &[PhysRange],
        left: usize,
        sequence: &mut Vec<PhysRange>,
        check: &mut impl FnMut(&[PhysRange]),
    ) {
        check(sequence);
        if left == 0 {
            return;
        }
        for &interval in intervals {
            sequence.push(interval);
            extend(intervals, left - 1, sequence, check);
            sequence.pop();
        }
    }
    extend(intervals, longest, &mut Vec::new(), check);
}

/// Plan and build, add one by one, and the simulation: the same leaves and tables.
fn check_sequence(config: &Config, rule: Rule, requests: &[PhysRange]) {
    let mut simulation = Simulation::default();
    for &request in requests {
        simulation.map(rule, config.gbpages, request);
    }
    let expected = simulation.leaves();
    let tables = simulation.tables(config.levels);
    let policy = rule.policy();

    let mut slots = slots_for(&policy, requests.len());
    let plan = Plan::new(config, &policy, requests, &mut slots).unwrap();
    assert_eq!(plan.tables(), tables, "{rule:?} {requests:?}\n{plan}");
    let (mut built_tables, built) = support::built(&plan);
    check_bits(&built_tables, tables.total());
    let used = built_tables.len();
    let arena = reopened(&mut built_tables, used);
    let (built_runs, built_count) = leaves(&arena, built.root, config.paging());
    assert_eq!(plain(&built_runs), expected, "{rule:?} {requests:?}");
    assert_eq!(built_count, tables);

    let mut memory = dirty_tables(ROOM);
    let mut arena = Arena::new(&mut memory, addr(BASE)).unwrap();
    let root = empty_root(&mut arena, config).unwrap();
    let mut added = 1;
    for &request in requests {
        let mut slots = slots_for(&policy, 1);
        added += add(&mut arena, root, config, &policy, request, &mut slots).unwrap().new_tables;
    }
    assert_eq!(added, tables.total());
    check_bits(arena.tables(), tables.total());
    let (added_runs, added_count) = leaves(&arena, root, config.paging());
    assert_eq!(added_runs, built_runs, "{rule:?} {requests:?}");
    assert_eq!(added_count, tables);
}

/// Every entry is empty, a leaf with Linux's flags, or one of `tables - 1` links with Linux's.
fn check_bits(tables: &[Table], count: u64) {
    let mut links = 0;
    for bits in tables.iter().flat_map(|table| table.0).filter(|&bits| bits != 0) {
        match bits & 0xfff0_0000_0000_0fff {
            0x1e3 => {}
            0x63 => links += 1,
            other => panic!("flags {other:#x}"),
        }
    }
    assert_eq!(links, count - 1);
}

/// Runs without what [`check_bits`] has seen to.
fn plain(runs: &[LeafRun]) -> Vec<(u64, PageSize, u64)> {
    runs.iter()
        .map(|run| {
            assert_eq!(run.virt.get(), run.phys.get());
            assert!(run.rights.write && run.rights.execute && !run.rights.user);
            (run.phys.get(), run.size, run.count)
        })
        .collect()
}

/// Tables that were there before.
struct Built {
    tables: Vec<Table>,
    used: usize,
    root: identmap::PhysAddr,
    runs: Vec<LeafRun>,
}

impl Built {
    /// `None` if the rule refuses the request.
    fn new(config: &Config, policy: &Policy<'_>, request: PhysRange) -> Option<Built> {
        let mut slots = slots_for(policy, 1);
        let plan = Plan::new(config, policy, &[request], &mut slots).ok()?;
        let (mut tables, built) = support::built(&plan);
        let used = tables.len();
        let arena = reopened(&mut tables, used);
        let (runs, _) = leaves(&arena, built.root, config.paging());
        Some(Built { tables, used, root: built.root, runs })
    }

    /// Adds `request` in every room that is too small, which must change nothing, and in one that suffices.
    fn add(
        &self,
        config: &Config,
        policy: &Policy<'_>,
        request: PhysRange,
    ) -> Result<(Vec<LeafRun>, TableCount), AddError> {
        let mut needed = u64::MAX;
        for spare in (0..=ROOM).rev() {
            let mut memory = self.tables.clone();
            memory.extend(dirty_tables(spare));
            let before = memory.clone();
            let mut arena = reopened(&mut memory, self.used);
            let mut slots = slots_for(policy, 1);
            let result = add(&mut arena, self.root, config, policy, request, &mut slots);
            if spare == ROOM {
                needed = result?.new_tables;
                self.check_nothing_changed(arena.tables());
                assert_eq!(arena.tables().len() as u64, self.used as u64 + needed);
            } else if spare as u64 >= needed {
                // Exactly as many as needed must do; more were tried.
                if spare as u64 == needed {
                    result.expect("as many tables as needed");
                }
            } else {
                let available = spare as u64;
                assert_eq!(result, Err(AddError::Exhausted { needed, available }));
                assert_eq!(memory, before);
            }
        }
        let mut memory = self.tables.clone();
        memory.extend(dirty_tables(ROOM));
        let mut arena = reopened(&mut memory, self.used);
        add(&mut arena, self.root, config, policy, request, &mut slots_for(policy, 1))?;
        Ok(leaves(&arena, self.root, config.paging()))
    }

    /// A present entry is never changed.
    fn check_nothing_changed(&self, after: &[Table]) {
        for (old, new) in self.tables.iter().zip(after) {
            for (old, new) in old.0.iter().zip(&new.0) {
                assert!(old & 1 == 0 || old == new, "{old:#x} became {new:#x}");
            }
        }
    }
}

fn check_add_as_linux(config: &Config, rule: Rule, before: &Built, request: PhysRange) {
    let mut simulation = Simulation::default();
    simulation.load(&before.runs);
    simulation.map(rule, config.gbpages, request);
    let (runs, tables) = before.add(config, &rule.policy(), request).unwrap();
    assert_eq!(plain(&runs), simulation.leaves(), "{rule:?} {request} on {:?}", before.runs);
    assert_eq!(tables, simulation.tables(config.levels));
}

/// `guarded` covers what it is asked for whatever stands there, and reaches nothing forbidden anew.
fn check_add_guarded(config: &Config, before: &Built, request: PhysRange, hole: &[PhysRange]) {
    for slack in [Slack::None, Slack::Any] {
        let policy = Policy::Guarded(Guard { forbidden: hole, slack });
        let result = before.add(config, &policy, request);
        if hole.iter().any(|hole| hole.round_out(PageSize::Size4K).intersects(request)) {
            assert!(matches!(result, Err(AddError::Plan(_))), "{result:?}");
            continue;
        }
        let (runs, _) = result.unwrap();
        assert_eq!(mapped(&runs, request), request.len(), "{request} on {:?}", before.runs);
        for &hole in hole {
            assert_eq!(mapped(&runs, hole), mapped(&before.runs, hole));
        }
        if slack == Slack::None {
            let asked = request.round_out(PageSize::Size4K);
            let total = |runs: &[LeafRun]| runs.iter().map(LeafRun::bytes).sum::<u64>();
            let new = total(&runs) - total(&before.runs);
            assert_eq!(new, asked.len() - mapped(&before.runs, asked));
        }
    }
}

fn mapped(runs: &[LeafRun], within: PhysRange) -> u64 {
    runs.iter()
        .filter_map(|run| {
            PhysRange::from_len(run.phys.get(), run.bytes()).unwrap().intersection(within)
        })
        .map(PhysRange::len)
        .sum()
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    RoundOut,
    Exact,
    ExactOnUv(bool),
}

impl Rule {
    fn policy(self) -> Policy<'static> {
        match self {
            Rule::RoundOut => Policy::RoundOut,
            Rule::Exact => Policy::Exact,
            Rule::ExactOnUv(uv) => Policy::ExactOnUv { uv },
        }
    }
}

/// What stands in the slot of a GiB.
enum Pud {
    Leaf,
    Table(Vec<Pmd>),
}

/// What stands in the slot of 2 MiB.
#[derive(Clone)]
enum Pmd {
    Empty,
    Leaf,
    /// A page table: Linux makes none, but may find one. Its pages by number.
    Table(BTreeSet<u64>),
}

/// Page tables as a map of GiB slots, mapped one to one.
#[derive(Default)]
struct Simulation {
    puds: BTreeMap<u64, Pud>,
}

impl Simulation {
    /// One call of `kernel_ident_mapping_init()`.
    fn map(&mut self, rule: Rule, gbpages: bool, request: PhysRange) {
        let (mut at, end) = (request.start().get(), request.end().get());
        while at < end {
            let next = end.min((at / G1 + 1) * G1);
            let whole = at.is_multiple_of(G1) && next.is_multiple_of(G1);
            let slot = self.puds.get(&(at / G1));
            match rule {
                Rule::RoundOut if gbpages => {
                    // A present entry is skipped, leaf or table.
                    self.puds.entry(at / G1).or_insert(Pud::Leaf);
                }
                Rule::RoundOut => self.fill(at, next),
                Rule::Exact | Rule::ExactOnUv(_) => {
                    let tight = !matches!(rule, Rule::ExactOnUv(false));
                    match slot {
                        Some(Pud::Leaf) => {}
                        None if gbpages && (whole || !tight) => {
                            self.puds.insert(at / G1, Pud::Leaf);
                        }
                        _ => self.fill(at, next),
                    }
                }
            }
            at = next;
        }
    }

    /// `ident_pmd_init()`: every frame of 2 MiB touched, but for those that have an entry.
    fn fill(&mut self, start: u64, end: u64) {
        let slot = self.puds.entry(start / G1).or_insert_with(|| Pud::Table(vec![Pmd::Empty; 512]));
        // Linux would take a leaf for a table here; it never has one when it comes here.
        let Pud::Table(pmds) = slot else { return };
        let mut at = start / M2 * M2;
        while at < end {
            let pmd = &mut pmds[(at / M2 % 512) as usize];
            if matches!(pmd, Pmd::Empty) {
                *pmd = Pmd::Leaf;
            }
            at += M2;
        }
    }

    /// Takes over tables as they were found.
    fn load(&mut self, runs: &[LeafRun]) {
        for run in runs {
            for i in 0..run.count {
                let at = run.phys.get() + i * run.size.bytes();
                if run.size == PageSize::Size1G {
                    self.puds.insert(at / G1, Pud::Leaf);
                    continue;
                }
                let slot =
                    self.puds.entry(at / G1).or_insert_with(|| Pud::Table(vec![Pmd::Empty; 512]));
                let Pud::Table(pmds) = slot else { panic!("a leaf over a table") };
                let pmd = &mut pmds[(at / M2 % 512) as usize];
                if run.size == PageSize::Size2M {
                    *pmd = Pmd::Leaf;
                } else if let Pmd::Table(pages) = pmd {
                    pages.insert(at / K4);
                } else {
                    *pmd = Pmd::Table(BTreeSet::from([at / K4]));
                }
            }
        }
    }

    fn leaves(&self) -> Vec<(u64, PageSize, u64)> {
        let mut all: Vec<(u64, PageSize, u64)> = Vec::new();
        let mut push = |start: u64, size: PageSize| match all.last_mut() {
            Some((first, last_size, count))
                if *last_size == size && *first + *count * size.bytes() == start =>
            {
                *count += 1;
            }
            _ => all.push((start, size, 1)),
        };
        for (gib, pud) in &self.puds {
            let Pud::Table(pmds) = pud else {
                push(gib * G1, PageSize::Size1G);
                continue;
            };
            for (index, pmd) in (0..).zip(pmds) {
                match pmd {
                    Pmd::Empty => {}
                    Pmd::Leaf => push(gib * G1 + index * M2, PageSize::Size2M),
                    Pmd::Table(pages) => {
                        for page in pages {
                            push(page * K4, PageSize::Size4K);
                        }
                    }
                }
            }
        }
        all
    }

    /// Reachable tables: Linux's folded p4d page on 4 levels is not one.
    fn tables(&self, levels: Levels) -> ExpectedTables {
        let distinct = |shift: u32| {
            self.puds.keys().map(|gib| gib >> shift).collect::<BTreeSet<u64>>().len() as u64
        };
        let pds = self.puds.values().filter_map(|pud| match pud {
            Pud::Leaf => None,
            Pud::Table(pmds) => Some(pmds),
        });
        let pts = pds.clone().flatten().filter(|pmd| matches!(pmd, Pmd::Table(_))).count() as u64;
        let upper = match levels {
            Levels::Four => [1, 0],
            Levels::Five => [distinct(18), 1],
        };
        ExpectedTables([pts, pds.count() as u64, distinct(9), upper[0], upper[1]])
    }
}

/// Tables from PT to PML5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ExpectedTables([u64; 5]);

impl ExpectedTables {
    fn total(self) -> u64 {
        self.0.iter().sum()
    }
}

impl PartialEq<ExpectedTables> for TableCount {
    fn eq(&self, other: &ExpectedTables) -> bool {
        Level::ALL.map(|level| self.of(level)) == other.0
    }
}
