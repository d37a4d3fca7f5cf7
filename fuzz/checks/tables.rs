//! Tables of anything: both readers end, agree with each other, and adding to such tables ends
//! as well and changes no present entry.

use std::cell::Cell;

use identmap::{
    Arena, Config, Entry, Flags, Found, Guard, Leaves, Levels, Paging, PhysAddr, PhysRange, Plan,
    Policy, Seen, Slack, Slot, Table, TableRead, TableWrite, Unreadable, VirtAddr, WalkEnd, add,
    walk,
};

use crate::bytes::Bytes;
use crate::entries::{BASE, some_entry, some_paging};

/// Builds tables from the bytes, reads them, adds to them.
pub fn check(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mode = bytes.byte();
    let paging = some_paging(&mut bytes, mode);
    let count = 1 + u64::from(bytes.byte() & 7);
    let places = usize::from(bytes.byte());
    let request = some_request(&mut bytes);
    let indices = some_indices(&mut bytes);
    let mut tables = vec![Table::EMPTY; count as usize];
    while !bytes.is_empty() {
        some_entry(&mut bytes, &mut tables);
    }

    let mut arena = Arena::new(&mut tables, PhysAddr::new(BASE).unwrap()).unwrap();
    let root = arena.allocate().unwrap();
    while arena.allocate().is_some() {}
    let reader = Counting { reader: &arena, reads: Cell::new(0) };
    let mut seen = vec![Seen::EMPTY; places];
    let mut leaves = Leaves::new(&reader, root, paging, &mut seen);
    let found: Vec<Found> = leaves.by_ref().collect();
    let bound = count * u64::from(paging.levels.count());
    assert!(leaves.tables().total() <= bound);
    assert!(reader.reads.get() <= 2 * 512 * bound, "{} reads", reader.reads.get());
    for found in &found {
        check_found(found, &arena, root, &paging);
    }
    for virt in addresses(&indices) {
        check_address(&found, &arena, root, &paging, virt);
    }
    check_add(&tables, mode, request);
}

/// What `Leaves` found, a walk to its first and last byte finds.
fn check_found(found: &Found, arena: &impl TableRead, root: PhysAddr, paging: &Paging) {
    let end = |virt| walk(arena, root, paging, virt).end();
    match *found {
        Found::Leaves(run) => {
            for offset in [0, run.bytes() - 1] {
                let virt = VirtAddr::new(run.virt.get().wrapping_add(offset));
                let phys = PhysAddr::new(run.phys.get() + offset).unwrap();
                let mapped = WalkEnd::Mapped { phys, size: run.size, rights: run.rights };
                assert_eq!(end(virt), mapped, "{run:?}");
            }
        }
        Found::Reserved { virt, bits, .. } => assert_eq!(end(virt), WalkEnd::Reserved { bits }),
        Found::Unreadable { virt, level, table } => {
            assert_eq!(end(virt), WalkEnd::Unreadable { level, table });
        }
        _ => {}
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
    let mask = (1 << paging.levels.virt_bits()) - 1;
    let spans = |first: VirtAddr, shift: u32| virt.wrapping_sub(first.get()) & mask < 1 << shift;
    let in_run = found.iter().any(
        |found| matches!(found, Found::Leaves(run) if virt.wrapping_sub(run.virt.get()) < run.bytes()),
    );
    let skipped = found.iter().any(|found| match *found {
        Found::Shared { virt, level, .. } | Found::TooMany { virt, level, .. } => {
            spans(virt, level.entry_shift() + 9)
        }
        _ => false,
    });
    let end = walk(arena, root, paging, VirtAddr::new(virt)).end();
    let agrees = match end {
        _ if skipped => true,
        WalkEnd::NotCanonical | WalkEnd::NotPresent => !in_run,
        WalkEnd::Mapped { .. } => in_run,
        WalkEnd::Reserved { .. } => found.iter().any(|found| {
            matches!(*found, Found::Reserved { virt, level, .. }
                if spans(virt, level.entry_shift()))
        }),
        WalkEnd::Unreadable { table: gone, .. } => found.iter().any(|found| {
            matches!(*found, Found::Unreadable { virt, level, table }
                if table == gone && spans(virt, level.entry_shift() + 9))
        }),
    };
    assert!(agrees, "{virt:#x} ends {end:?}; found {found:?}");
}

/// Adds to the tables with some room left, and with none; no present entry changes.
fn check_add(tables: &[Table], mode: u8, request: PhysRange) {
    let levels = if mode & 1 == 0 { Levels::Four } else { Levels::Five };
    let config =
        Config { leaf_flags: Flags::from_bits(0x163), ..Config::kexec(levels, mode & 0x10 == 0) };
    let forbidden = [PhysRange::new(0x3000, 0x4001).unwrap()];
    let guard = Guard { forbidden: &forbidden, slack: Slack::Any };
    let policy = match mode >> 5 & 3 {
        0 => Policy::RoundOut,
        1 => Policy::Exact,
        2 => Policy::ExactOnUv { uv: false },
        _ => Policy::Guarded(guard),
    };
    for spare in [0, 3, 40] {
        let mut memory = tables.to_vec();
        memory.resize(tables.len() + spare, Table([0x77; 512]));
        let mut arena = Arena::new(&mut memory, PhysAddr::new(BASE).unwrap()).unwrap();
        for _ in tables {
            arena.allocate().unwrap();
        }
        let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, 1)];
        let root = PhysAddr::new(BASE).unwrap();
        let result = add(&mut arena, root, &config, &policy, request, &mut slots);
        let mut changed = false;
        for (old, new) in tables.iter().zip(&memory) {
            for (old, new) in old.0.iter().zip(&new.0) {
                assert!(old & 1 == 0 || old == new, "{old:#x} became {new:#x}");
                changed |= old != new;
            }
        }
        if let Err(error) = result {
            assert!(!changed || !is_tree(tables), "{error}, yet something was written");
        }
    }
}

/// Whether no table can be reached in two ways (more is taken for a link than is one).
fn is_tree(tables: &[Table]) -> bool {
    let mut links = vec![0; tables.len()];
    links[0] = 1;
    for bits in tables.iter().flat_map(|table| table.0).filter(|bits| bits & 1 == 1) {
        let at = (bits & 0x000f_ffff_ffff_f000).wrapping_sub(BASE) >> 12;
        if let Some(count) = usize::try_from(at).ok().and_then(|at| links.get_mut(at)) {
            *count += 1;
        }
    }
    links.iter().all(|&count| count <= 1)
}

/// Up to 16 MiB near a border: adding goes leaf by leaf, and tangled tables multiply it.
fn some_request(bytes: &mut Bytes<'_>) -> PhysRange {
    let near = bytes.pick(&[0, 1 << 21, 1 << 30, (1 << 39) - (1 << 21), 1 << 46]);
    let start = near + u64::from(bytes.byte()) * 0x800;
    let len = u64::from(bytes.byte()) * bytes.pick(&[1, 0x1000, 0x1_0000]);
    PhysRange::from_len(start, len + 1).unwrap()
}

/// Indices of entries that are likely to be met.
fn some_indices(bytes: &mut Bytes<'_>) -> [u64; 4] {
    [(); 4].map(|()| u64::from(bytes.byte()) << 1 | u64::from(bytes.byte() & 1))
}

/// Addresses whose indices are those that were picked, in all ways, and their other half.
fn addresses(indices: &[u64; 4]) -> impl Iterator<Item = u64> + '_ {
    (0..1024u32)
        .map(|way| {
            (0..5).fold(0xabc, |virt, level| {
                let index = indices[(way >> (2 * level)) as usize & 3];
                virt | index << (12 + 9 * level)
            })
        })
        .flat_map(|virt| {
            [16, 7, 0].map(|unused| ((virt << unused).cast_signed() >> unused).cast_unsigned())
        })
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
