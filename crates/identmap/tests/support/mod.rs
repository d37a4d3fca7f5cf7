//! What several of these tests need. Each uses a part of it.
#![allow(dead_code, reason = "every test binary compiles this file and uses a part of it")]

use identmap::{
    Arena, Built, Found, LeafRun, Leaves, Paging, PhysAddr, PhysRange, Plan, Policy, Run, Seen,
    Slot, Table, TableCount, TableRead,
};

pub(crate) const K4: u64 = 4 << 10;
pub(crate) const M2: u64 = 2 << 20;
pub(crate) const G1: u64 = 1 << 30;

/// Where the tables of these tests stand: above everything that the tests map.
pub(crate) const BASE: u64 = 1 << 45;

pub(crate) fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

pub(crate) fn addr(addr: u64) -> PhysAddr {
    PhysAddr::new(addr).unwrap()
}

/// As many slots as a plan under `policy` may ask for.
pub(crate) fn slots_for(policy: &Policy<'_>, requests: usize) -> Vec<Slot> {
    vec![Slot::EMPTY; Plan::slots_needed(policy, requests)]
}

/// Tables filled with a pattern, so that an entry nobody wrote shows.
pub(crate) fn dirty_tables(count: usize) -> Vec<Table> {
    vec![Table([0xdead_beef_dead_beef; 512]); count]
}

/// Builds a plan in exactly as many dirty tables as it says it needs.
pub(crate) fn built(plan: &Plan<'_>) -> (Vec<Table>, Built) {
    let mut tables = dirty_tables(plan.tables().total() as usize);
    let mut arena = Arena::new(&mut tables, addr(BASE)).unwrap();
    let built = plan.build(&mut arena).expect("as many tables as planned");
    assert_eq!(arena.tables().len() as u64, plan.tables().total(), "each planned table is used");
    (tables, built)
}

/// An arena of which the first `used` tables were given out already.
pub(crate) fn reopened(tables: &mut [Table], used: usize) -> Arena<'_> {
    let mut arena = Arena::new(tables, addr(BASE)).unwrap();
    for _ in 0..used {
        identmap::TableWrite::allocate(&mut arena).unwrap();
    }
    arena
}

/// All leaves under a root; anything else that is found is a failure.
pub(crate) fn leaves<R: TableRead>(
    reader: &R,
    root: PhysAddr,
    paging: Paging,
) -> (Vec<LeafRun>, TableCount) {
    let mut seen = vec![Seen::EMPTY; 64];
    let mut leaves = Leaves::new(reader, root, paging, &mut seen);
    let runs = leaves
        .by_ref()
        .map(|found| match found {
            Found::Leaves(run) => run,
            other => panic!("{other:?}"),
        })
        .collect();
    (runs, leaves.tables())
}

/// The leaves found in tables are the plan's, at the plan's addresses, and so are the tables.
pub(crate) fn assert_tables_hold(plan: &Plan<'_>, found: &[LeafRun], tables: TableCount) {
    assert_eq!(tables, plan.tables());
    // Where two runs of one size touch they are one run in both; so they compare one by one.
    let planned: Vec<Run> = plan.runs().collect();
    assert_eq!(found.len(), planned.len(), "{found:?}\n{plan}");
    for (leaf, run) in found.iter().zip(&planned) {
        assert_eq!(leaf.phys, run.range().start());
        assert_eq!(leaf.virt, plan.config().virt(run.range().start()));
        assert_eq!((leaf.size, leaf.count), (run.size(), run.count()));
    }
}

/// xorshift64*: the same numbers on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
