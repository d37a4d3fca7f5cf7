//! What is read out of tables: of planned ones, of some that cannot be read, and of garbage.

mod support;

use std::cell::Cell;

use identmap::{
    Config, Entry, Found, Guard, Leaves, Level, Levels, Paging, PhysAddr, PhysRange, Plan, Policy,
    Seen, Slack, Table, TableRead, Unreadable, VirtAddr, WalkEnd, walk,
};
use support::{BASE, G1, K4, M2, Random, addr, built, leaves, range, reopened, slots_for};

/// Maps of all policies and modes, each at every edge of a run and a byte either side.
#[test]
fn a_walk_agrees_with_the_plan_at_every_boundary() {
    let mut random = Random::new(0xb0b0);
    let mut looked_up = 0;
    for round in 0..600 {
        let config = some_config(&mut random);
        let requests = some_ranges(&mut random, 6);
        let forbidden = some_ranges(&mut random, 3);
        let ram = some_ranges(&mut random, 3);
        let slack = random.pick(&[Slack::None, Slack::Any, Slack::Ram(&ram)]);
        let guard = Guard { forbidden: &forbidden, slack };
        let policy = random.pick(&[Policy::RoundOut, Policy::Exact, Policy::Guarded(guard)]);
        let mut slots = slots_for(&policy, requests.len());
        let Ok(plan) = Plan::new(&config, &policy, &requests, &mut slots) else { continue };

        let (mut tables, built) = built(&plan);
        let used = tables.len();
        let arena = reopened(&mut tables, used);
        let edges: Vec<u64> = plan
            .runs()
            .flat_map(|run| [run.range().start().get(), run.range().end().get()])
            .chain(requests.iter().flat_map(|r| [r.start().get(), r.end().get()]))
            .flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1])
            .collect();
        for phys in edges {
            let phys = addr(phys);
            let virt = config.virt(phys);
            let end = walk(&arena, built.root, &config.paging(), virt).end();
            // By hand: the plan's own search is on trial as well.
            let mut runs = plan.runs().filter(|run| run.range().contains(phys));
            let (run, others) = (runs.next(), runs.next());
            assert_eq!((plan.at(phys), others), (run, None));
            match (run, end) {
                (Some(run), WalkEnd::Mapped { phys: to, size, rights }) => {
                    assert_eq!((to, size), (phys, run.size()), "{round} {phys}\n{plan}");
                    assert!(rights.write && rights.execute && !rights.user);
                }
                (None, WalkEnd::NotPresent | WalkEnd::NotCanonical) => {}
                other => panic!("{round} {phys} {other:?}\n{plan}"),
            }
            looked_up += 1;
        }
        for &request in &requests {
            assert_eq!(plan.first_gap(request), None);
        }
    }
    assert!(looked_up > 5_000, "{looked_up}");
}

/// Each table of a map in turn cannot be read: what lies under it is unknown, the rest is as before.
#[test]
fn an_unreadable_table_hides_what_it_maps_and_no_more() {
    let config = Config::kexec(Levels::Five, true);
    let forbidden = [range(G1 + 3 * K4, G1 + 3 * K4 + 1)];
    let policy = Policy::Guarded(Guard { forbidden: &forbidden, slack: Slack::None });
    let requests = [
        range(0, G1 + 2 * K4),
        range(G1 + 4 * K4, 3 * G1),
        range((1 << 48) - M2 - K4, (1 << 48) + M2 + K4),
    ];
    let mut slots = slots_for(&policy, requests.len());
    let plan = Plan::new(&config, &policy, &requests, &mut slots).unwrap();
    let (mut tables, built) = built(&plan);
    let used = tables.len();
    let arena = reopened(&mut tables, used);
    let paging = config.paging();
    let (all, count) = leaves(&arena, built.root, paging);
    assert_eq!(count.total(), 12, "{plan}");

    for hidden in (0..count.total()).map(|i| addr(BASE + i * K4)) {
        let reader = Without { reader: &arena, hidden, from: 0 };
        let mut seen = vec![Seen::EMPTY; 32];
        let found: Vec<Found> = Leaves::new(&reader, built.root, paging, &mut seen).collect();
        let mut unknown = found.iter().filter_map(|found| match *found {
            Found::Unreadable { virt, level, table } => Some((virt, level, table)),
            _ => None,
        });
        let (virt, level, table) = unknown.next().expect("it is reported");
        assert_eq!((table, unknown.next()), (hidden, None));
        assert_eq!(
            walk(&reader, built.root, &paging, virt).end(),
            WalkEnd::Unreadable { level, table: hidden }
        );

        let span = 512u128 << level.entry_shift();
        let first = u128::from(virt.get());
        for run in &all {
            for at in [run.virt.get(), run.virt.get() + run.bytes() - 1] {
                let end = walk(&reader, built.root, &paging, VirtAddr::new(at)).end();
                let under = (first..first + span).contains(&u128::from(at));
                assert_eq!(under, matches!(end, WalkEnd::Unreadable { .. }), "{at:#x} {end:?}");
                let still = found.iter().any(|found| covers(found, at));
                assert_eq!(still, !under, "{at:#x}");
            }
        }
    }
}

/// The second half of a table is cut off: the first half stands.
#[test]
fn a_table_that_is_cut_off_is_known_up_to_there() {
    let config = Config::kexec(Levels::Four, true);
    let mut slots = slots_for(&Policy::RoundOut, 1);
    let plan = Plan::new(&config, &Policy::RoundOut, &[range(0, 512 * G1)], &mut slots).unwrap();
    let (mut tables, built) = built(&plan);
    let arena = reopened(&mut tables, 2);
    let reader = Without { reader: &arena, hidden: addr(BASE + K4), from: 300 };
    let mut seen = [Seen::EMPTY; 4];
    let mut found = Leaves::new(&reader, built.root, config.paging(), &mut seen);
    assert!(matches!(found.next(), Some(Found::Leaves(run)) if run.count == 300));
    assert_eq!(
        found.next(),
        Some(Found::Unreadable {
            virt: VirtAddr::new(300 * G1),
            level: Level::Pdpt,
            table: addr(BASE + K4),
        })
    );
    assert_eq!(found.next(), None);
}

/// Tables of anything, pointing at each other, at themselves, and out of memory. Nothing loops,
/// and the two readers, of one address and of all, say the same.
#[test]
fn garbage_is_read_to_the_end() {
    let mut random = Random::new(0x9a5b_a9e5);
    let (mut mapped, mut shared, mut unknown) = (0, 0, 0);
    for _ in 0..1_500 {
        let count = 1 + random.below(6);
        let density = random.pick(&[2, 20, 300]);
        let mut tables: Vec<Table> =
            (0..count).map(|_| garbage(&mut random, count, density)).collect();
        let paging = Paging {
            levels: random.pick(&[Levels::Four, Levels::Five]),
            maxphyaddr: random.pick(&[32, 40, 46, 52]),
            pdpe1gb: random.below(4) != 0,
            nxe: random.below(4) != 0,
            encryption_mask: random.pick(&[0, 0, 1 << 47]),
        };
        let arena = reopened(&mut tables, count as usize);
        let reader = Counting { reader: &arena, reads: Cell::new(0) };
        let root = addr(BASE + random.below(count) * K4);
        let places = random.pick(&[64, 64, 3, 0]);
        let mut seen = vec![Seen::EMPTY; places];

        let mut all = Leaves::new(&reader, root, paging, &mut seen);
        let found: Vec<Found> = all.by_ref().collect();
        let bound = count * u64::from(paging.levels.count());
        assert!(all.tables().total() <= bound);
        assert_eq!(all.next(), None, "the end is the end");
        // Each table once at each level; beside them, one failed read for each other table named.
        assert!(reader.reads.get() <= bound * 512 + bound * 512, "{}", reader.reads.get());

        for found in &found {
            check_found(found, &arena, root, &paging);
            match found {
                Found::Leaves(_) => mapped += 1,
                Found::Shared { .. } => shared += 1,
                _ => unknown += 1,
            }
        }
        for _ in 0..40 {
            check_address(&found, &arena, root, &paging, tangled_address(&mut random));
        }
    }
    assert!(mapped > 10_000 && shared > 1_000 && unknown > 1_000, "{mapped} {shared} {unknown}");
}

/// What `Leaves` found, a walk to its first and last byte finds.
fn check_found(found: &Found, arena: &impl TableRead, root: PhysAddr, paging: &Paging) {
    let end = |virt| walk(arena, root, paging, virt).end();
    match *found {
        Found::Leaves(run) => {
            for offset in [0, run.bytes() - 1] {
                assert_eq!(
                    end(VirtAddr::new(run.virt.get() + offset)),
                    WalkEnd::Mapped {
                        phys: addr(run.phys.get() + offset),
                        size: run.size,
                        rights: run.rights
                    }
                );
            }
        }
        Found::Reserved { virt, bits, .. } => assert_eq!(end(virt), WalkEnd::Reserved { bits }),
        Found::Unreadable { virt, level, table } => {
            assert_eq!(end(virt), WalkEnd::Unreadable { level, table });
        }
        Found::Shared { .. } | Found::TooMany { .. } => {}
        _ => panic!("a new kind: {found:?}"),
    }
}

/// What a walk finds, `Leaves` found, or it said that it would not look there (again).
fn check_address(
    found: &[Found],
    arena: &impl TableRead,
    root: PhysAddr,
    paging: &Paging,
    virt: u64,
) {
    let skipped = found.iter().any(|found| match *found {
        Found::Shared { virt: first, level, .. } | Found::TooMany { virt: first, level, .. } => {
            within(paging.levels, first, level.entry_shift() + 9, virt)
        }
        _ => false,
    });
    if skipped {
        return;
    }
    let end = walk(arena, root, paging, VirtAddr::new(virt)).end();
    let expected = match end {
        WalkEnd::Mapped { .. } => found.iter().any(|found| covers(found, virt)),
        WalkEnd::Reserved { bits: wrong } => found.iter().any(|found| {
            matches!(*found, Found::Reserved { virt: first, level, bits }
                if bits == wrong && within(paging.levels, first, level.entry_shift(), virt))
        }),
        WalkEnd::Unreadable { table: gone, .. } => found.iter().any(|found| {
            matches!(*found, Found::Unreadable { virt: first, level, table }
                if table == gone && within(paging.levels, first, level.entry_shift() + 9, virt))
        }),
        WalkEnd::NotPresent | WalkEnd::NotCanonical => {
            !found.iter().any(|found| covers(found, virt))
        }
    };
    assert!(expected, "{virt:#x} ends {end:?}, found {found:?}");
}

fn covers(found: &Found, virt: u64) -> bool {
    matches!(found, Found::Leaves(run) if virt.wrapping_sub(run.virt.get()) < run.bytes())
}

fn within(levels: Levels, first: VirtAddr, shift: u32, virt: u64) -> bool {
    // Of the root's frame the upper half lies apart from the lower: compare translated bits.
    let mask = (1 << levels.virt_bits()) - 1;
    virt.wrapping_sub(first.get()) & mask < 1 << shift
}

/// One of 512 entries in `density` is used: a link into the arena, a leaf, or anything.
fn garbage(random: &mut Random, tables: u64, density: u64) -> Table {
    let mut table = Table::EMPTY;
    for entry in &mut table.0 {
        if random.below(512) >= density {
            continue;
        }
        *entry = match random.below(8) {
            0..4 => (BASE + random.below(tables) * K4) | random.pick(&[0x63, 0x67, 0x1]),
            4 => (random.below(1 << 20) << 30) | random.pick(&[0xe3, 0x1e3, 0xe1, 0x10e3]),
            5 => (random.below(1 << 20) << 12) | random.pick(&[0x63, 0xe3, 1 << 63 | 0x63]),
            6 => random.next() | 1,
            _ => random.next(),
        };
    }
    // Close to the start and the end of a table walks are likely to meet.
    if random.below(2) == 0 {
        table.0[random.pick(&[0, 1, 255, 256, 511])] = (BASE + random.below(tables) * K4) | 0x63;
    }
    table
}

/// An address whose indices are mostly ones that [`garbage`] fills; not always canonical.
fn tangled_address(random: &mut Random) -> u64 {
    let mut virt = random.below(1 << 12);
    for level in 0..5 {
        let index = match random.below(3) {
            0 => random.below(512),
            _ => random.pick(&[0, 1, 255, 256, 511]),
        };
        virt |= index << (12 + 9 * level);
    }
    match random.below(8) {
        0 => random.next(),
        1 => virt,
        2..5 => ((virt << 7).cast_signed() >> 7).cast_unsigned(),
        _ => ((virt << 16).cast_signed() >> 16).cast_unsigned(),
    }
}

fn some_config(random: &mut Random) -> Config {
    let levels = random.pick(&[Levels::Four, Levels::Five]);
    let kexec = Config::kexec(levels, random.below(2) == 0);
    match random.below(4) {
        0 => Config { offset: random.pick(&[0xffff_8880_0000_0000, 5 * G1]), ..kexec },
        1 => Config { encryption_mask: 1 << 47, ..kexec },
        2 => Config { maxphyaddr: random.pick(&[40, 46]), ..kexec },
        _ => kexec,
    }
}

/// Ranges of all sizes around borders of all sizes.
fn some_ranges(random: &mut Random, most: u64) -> Vec<PhysRange> {
    (0..random.below(most + 1))
        .map(|_| {
            let near = random.pick(&[0, G1, 5 * G1, 512 * G1 - M2, 511 * G1, 1 << 39])
                + random.pick(&[0, M2, 3 * M2, K4, G1 - K4]);
            let start = near + random.pick(&[0, 1, 0x800, K4 - 1]);
            let len = random.pick(&[1, 0x1000, 0x1001, M2, M2 - 1, G1, 3 * G1 + 7, 600 * M2]);
            range(start, start + len)
        })
        .collect()
}

/// A reader to which the entries of one table from `from` on are not known.
struct Without<'a, R> {
    reader: &'a R,
    hidden: PhysAddr,
    from: usize,
}

impl<R: TableRead> TableRead for Without<'_, R> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        if table == self.hidden && index >= self.from {
            return Err(Unreadable { table });
        }
        self.reader.entry(table, index)
    }
}

/// A reader that counts.
struct Counting<'a, R> {
    reader: &'a R,
    reads: Cell<u64>,
}

impl<R: TableRead> TableRead for Counting<'_, R> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        self.reads.set(self.reads.get() + 1);
        self.reader.entry(table, index)
    }
}
