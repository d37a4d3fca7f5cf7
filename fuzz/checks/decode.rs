//! Page tables in memory of anything: what is decoded is what a walk finds there, and what is not
//! told is not mapped.

use identmap::{PageSize, PhysAddr, Table, TableRead, VirtAddr, WalkEnd, walk};
use identmap_linux::memory::{PhysicalMemory, TablePages, Unreadable, Why};
use identmap_linux::tables::{Oddity, Tables, decode};

use crate::bytes::Bytes;
use crate::entries::{BASE, some_entry, some_paging};

/// Up to 8 tables, one of which may not be there, or not all of it.
pub fn check(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mode = bytes.byte();
    let paging = some_paging(&mut bytes, mode);
    let count = 1 + u64::from(bytes.byte() & 7);
    let hole = BASE + u64::from(bytes.byte()) * 0x100;
    let hole = (hole, if mode & 0x10 == 0 { 0 } else { u64::from(bytes.byte()) * 0x40 });
    let mut tables = vec![Table::EMPTY; count as usize];
    while !bytes.is_empty() {
        some_entry(&mut bytes, &mut tables);
    }
    let held = tables.iter().flat_map(|table| table.0).flat_map(u64::to_le_bytes).collect();
    let ram = Ram { held, hole };
    let root = PhysAddr::new(BASE).unwrap();
    let bound = count * u64::from(paging.levels.count());
    for distrusting in [false, true] {
        let reader = || {
            if distrusting { TablePages::distrusting_zeros(&ram) } else { TablePages::new(&ram) }
        };
        let decoded = decode(&reader(), root, paging);
        assert_eq!((decoded.root, decoded.paging), (root, paging));
        assert!(!decoded.cut, "few tables");
        assert!(decoded.count.total() <= bound);
        check_tables(&reader(), &decoded);
    }
}

/// What was decoded, a walk finds, by a reader of the same memory; and the other way round.
pub fn check_tables(reader: &impl TableRead, tables: &Tables) {
    let end = |virt| walk(reader, tables.root, &tables.paging, virt).end();
    for run in &tables.runs {
        for offset in [0, run.bytes() - 1] {
            let virt = VirtAddr::new(run.virt.get().wrapping_add(offset));
            let phys = PhysAddr::new(run.phys.get() + offset).unwrap();
            let mapped = WalkEnd::Mapped { phys, size: run.size, rights: run.rights };
            assert_eq!(end(virt), mapped, "{run:?}");
        }
    }
    for oddity in &tables.oddities {
        match *oddity {
            Oddity::Reserved { virt, bits, .. } => {
                assert_eq!(end(virt), WalkEnd::Reserved { bits });
            }
            Oddity::Unreadable { virt, level, table } if !tables.cut => {
                assert_eq!(end(virt), WalkEnd::Unreadable { level, table });
            }
            _ => {}
        }
    }
    let bytes = tables.runs.iter().map(|run| u128::from(run.bytes())).sum::<u128>();
    assert_eq!(u128::from(tables.mapped_bytes()), bytes.min(u64::MAX.into()));
    let sizes = [PageSize::Size4K, PageSize::Size2M, PageSize::Size1G];
    let leaves: u64 = sizes.iter().map(|&size| tables.leaves(size)).sum();
    assert_eq!(leaves, tables.runs.iter().map(|run| run.count).sum::<u64>());
    if tables.is_whole() {
        for virt in borders(tables) {
            check_address(tables, virt, end(VirtAddr::new(virt)));
        }
    }
}

/// Tables that are whole say nothing else than the walk.
fn check_address(tables: &Tables, virt: u64, end: WalkEnd) {
    let mask = (1 << tables.paging.levels.virt_bits()) - 1;
    let in_run = tables.runs.iter().any(|run| virt.wrapping_sub(run.virt.get()) < run.bytes());
    let again = tables.oddities.iter().any(|oddity| {
        matches!(*oddity, Oddity::Shared { virt: first, level, .. }
            if virt.wrapping_sub(first.get()) & mask < 1 << (level.entry_shift() + 9))
    });
    match end {
        _ if again => {}
        WalkEnd::Mapped { .. } => assert!(in_run, "{virt:#x} is mapped"),
        WalkEnd::Unreadable { .. } => panic!("{virt:#x} cannot be read, yet the tables are whole"),
        _ => assert!(!in_run, "{virt:#x} ends {end:?}"),
    }
}

/// Before and behind the first runs and oddities, and some other addresses.
fn borders(tables: &Tables) -> Vec<u64> {
    let mut found = vec![0, 1 << 21, 1 << 30, 1 << 39, (1 << 47) - 1, 1 << 63, u64::MAX];
    for run in tables.runs.iter().take(32) {
        let first = run.virt.get();
        found.extend([first.wrapping_sub(1), first.wrapping_add(run.bytes())]);
    }
    for oddity in tables.oddities.iter().take(32) {
        let (Oddity::Shared { virt, .. }
        | Oddity::Unreadable { virt, .. }
        | Oddity::Reserved { virt, .. }) = *oddity;
        found.extend([virt.get().wrapping_sub(1), virt.get(), virt.get().wrapping_add(1 << 21)]);
    }
    found
}

/// Memory from [`BASE`] on, with a hole.
struct Ram {
    held: Vec<u8>,
    /// Where, and how many bytes.
    hole: (u64, u64),
}

impl PhysicalMemory for Ram {
    fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let (first, size) = (at.get(), buffer.len() as u64);
        let (hole, bytes) = self.hole;
        let gone = first < hole + bytes && hole < first + size;
        let start = first.checked_sub(BASE).filter(|_| !gone);
        let held = start
            .and_then(|start| self.held.get(usize::try_from(start).ok()?..)?.get(..buffer.len()));
        buffer.copy_from_slice(held.ok_or(Unreadable::phys(at, Why::NotHeld))?);
        Ok(())
    }
}
