//! The same tables in the same places as without streams.

use std::cell::Cell;

use identmap::{
    ABREAST, Arena, Config, Entry, Levels, PageSize, PhysAddr, PhysRange, Plan, Policy, Slot,
    Table, TableRead, TableWrite,
};
use identmap_stream::Streamed;

const GIB: u64 = 1 << 30;
/// What no table may be left with.
const POISON: u64 = 0xdead_beef_0bad_f00d;

fn base() -> PhysAddr {
    PhysAddr::new(0x7000).unwrap()
}

/// An arena that counts how often it was asked for several tables at once, or has one at a time only.
struct Counted<'t, 'c> {
    arena: Arena<'t>,
    asked: &'c Cell<u64>,
    several: bool,
}

impl TableWrite for Counted<'_, '_> {
    fn available(&self) -> u64 {
        self.arena.available()
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        self.arena.allocate()
    }

    fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table> {
        self.arena.table_mut(table)
    }

    fn tables_mut(&mut self, tables: [PhysAddr; ABREAST]) -> Option<[&mut Table; ABREAST]> {
        if !self.several {
            return None;
        }
        self.asked.set(self.asked.get() + 1);
        self.arena.tables_mut(tables)
    }
}

#[test]
fn eight_tables_are_filled_as_the_core_fills_them() {
    // The low bits, the highest address, NX: nothing of the first entry may be lost.
    let firsts = [0, 0x1e3, GIB | 0x80e3, (1 << 63) | (3 << 52) | 0x1e3, (1 << 52) - 4096 + 0xe3];
    for size in PageSize::ALL {
        for first in firsts.map(Entry::from_bits) {
            let fill = |streamed: bool| {
                let mut tables = vec![Table([POISON; 512]); ABREAST + 2];
                let mut arena = Arena::new(&mut tables, base()).unwrap();
                let given: [PhysAddr; ABREAST + 1] =
                    std::array::from_fn(|_| arena.allocate().unwrap());
                // In another order than that of their addresses, and not the first one.
                let mut given: [PhysAddr; ABREAST] = given[1..].try_into().unwrap();
                given.swap(0, 5);
                let filled = if streamed {
                    Streamed(&mut arena).fill_tables(given, first, size)
                } else {
                    arena.fill_tables(given, first, size)
                };
                assert!(filled);
                tables
            };
            let (streamed, plain) = (fill(true), fill(false));
            assert!(streamed == plain, "{size}, {first:?}");
            assert_eq!(streamed[6].0[0], first.bits(), "table 0 of the order is the sixth");
            let last = first.bits().wrapping_add((512 * ABREAST as u64 - 1) * size.bytes());
            assert_eq!(streamed[8].0[511], last);
            assert!([&streamed[0], &streamed[9]].iter().all(|table| table.0 == [POISON; 512]));
        }
    }
}

#[test]
fn what_cannot_be_reached_is_not_written() {
    let mut tables = vec![Table([POISON; 512]); ABREAST + 1];
    let mut arena = Arena::new(&mut tables, base()).unwrap();
    let given: [PhysAddr; ABREAST] = std::array::from_fn(|_| arena.allocate().unwrap());
    // Twice the same; not given out; not of this arena.
    for bad in [given[0], PhysAddr::new(0xf000).unwrap(), PhysAddr::ZERO] {
        let mut tables = given;
        tables[7] = bad;
        let first = Entry::from_bits(0x1e3);
        assert!(!Streamed(&mut arena).fill_tables(tables, first, PageSize::Size2M), "{bad}");
    }
    assert!(tables.iter().all(|table| table.0 == [POISON; 512]));
}

/// What is built with streams and without, and how often several tables were asked for with them.
fn build_both(config: &Config, requests: &[PhysRange], several: bool) -> u64 {
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&Policy::Exact, requests.len())];
    let plan = Plan::new(config, &Policy::Exact, requests, &mut slots).unwrap();
    let asked = Cell::new(0);
    let build = |streamed: bool| {
        let count = usize::try_from(plan.tables().total()).unwrap();
        let mut tables = vec![Table([POISON; 512]); count];
        let mut arena = Arena::new(&mut tables, base()).unwrap();
        let built = if streamed {
            plan.build(&mut Streamed(Counted { arena, asked: &asked, several }))
        } else {
            plan.build(&mut arena)
        };
        assert_eq!(built.unwrap().root, base());
        tables
    };
    assert!(build(true) == build(false), "{requests:?}");
    asked.get()
}

#[test]
fn maps_are_the_same_and_only_very_large_ones_are_streamed() {
    let config = Config::kexec(Levels::Five, false);
    let gib = |start: u64, end: u64| PhysRange::new(start * GIB, end * GIB).unwrap();
    // 8,192 tables of 2M leaves on: 32 MiB.
    assert_eq!(build_both(&config, &[gib(0, 8191)], true), 0);
    assert_eq!(build_both(&config, &[gib(0, 8192)], true), 1024);
    // Edges inside tables, across the ends of PDPTs, and a short run between.
    let ragged = [
        PhysRange::new(0x20_0000, 9000 * GIB + 0x40_0000).unwrap(),
        gib(9100, 9104),
        PhysRange::new(9501 * GIB + 0x60_0000, 18000 * GIB - 0x20_0000).unwrap(),
    ];
    assert!(build_both(&config, &ragged, true) > 2000);
    // Memory with one table at a time: as without.
    assert_eq!(build_both(&config, &ragged, false), 0);
    let mut offset = config;
    offset.offset = 0xffff_8880_0000_0000;
    assert!(build_both(&offset, &[gib(1, 9001)], true) > 1000);
    // PDPTs full of 1G leaves.
    let giant = Config::kexec(Levels::Five, true);
    assert_eq!(build_both(&giant, &[gib(0, 512)], true), 0);
}

#[test]
fn what_is_inside_is_read_as_it_is() {
    let mut tables = vec![Table([7; 512]); 1];
    let mut streamed = Streamed(Arena::new(&mut tables, base()).unwrap());
    assert_eq!(streamed.available(), 1);
    assert!(streamed.entry(base(), 0).is_err(), "not given out yet");
    assert_eq!(streamed.allocate(), Some(base()));
    streamed.table_mut(base()).unwrap().0[1] = 8;
    assert_eq!(streamed.entry(base(), 1), Ok(Entry::from_bits(8)));
}
