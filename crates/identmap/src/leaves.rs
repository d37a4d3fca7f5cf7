//! All leaves under a root, in merged runs, whatever the tables look like.

use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::config::{Level, Paging};
use crate::entry::{ADDRESS_FIELD, Flags};
use crate::memory::TableRead;
use crate::plan::TableCount;
use crate::walk::{Decoded, Rights};

/// A place in which [`Leaves`] remembers one table. One is needed for each table and the
/// level it is used at; a quarter more keeps the search for them short.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Address of the table with the level in the low bits; 0 while unused.
    key: u64,
    /// The first virtual address that the table translates.
    virt: u64,
}

impl Seen {
    /// An unused place, to fill an array with.
    pub const EMPTY: Seen = Seen { key: 0, virt: 0 };
}

/// Equal leaves found in tables: adjacent virtual and physical frames, one set of flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafRun {
    /// First virtual address.
    pub virt: VirtAddr,
    /// First physical address.
    pub phys: PhysAddr,
    /// Size of each leaf.
    pub size: PageSize,
    /// How many leaves.
    pub count: u64,
    /// Bits of the leaf entries other than the address (PS and the encryption bit included).
    pub flags: Flags,
    /// What may be done there, with the rights of all entries on the way.
    pub rights: Rights,
}

impl LeafRun {
    /// Bytes mapped.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.count << self.size.shift()
    }
}

/// Something found under a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Found {
    /// Leaves.
    Leaves(LeafRun),
    /// A table that was visited before at the same level: what is mapped from `virt` on
    /// repeats what is mapped from `first` on. Cycles end here too.
    Shared {
        /// First virtual address that the table translates this time.
        virt: VirtAddr,
        /// Its level.
        level: Level,
        /// Its physical address.
        table: PhysAddr,
        /// First virtual address that it translated when it was visited.
        first: VirtAddr,
    },
    /// A table, or the rest of one, that cannot be read: what it maps is not known.
    Unreadable {
        /// First virtual address of which nothing is known.
        virt: VirtAddr,
        /// Level of the table.
        level: Level,
        /// Its physical address.
        table: PhysAddr,
    },
    /// An entry with reserved bits: every access through it faults.
    Reserved {
        /// First virtual address that the entry spans.
        virt: VirtAddr,
        /// Level of the table that holds it.
        level: Level,
        /// The reserved bits that are set.
        bits: u64,
    },
    /// A table left out because every [`Seen`] was used up: what it maps is not known.
    TooMany {
        /// First virtual address that the table translates.
        virt: VirtAddr,
        /// Its level.
        level: Level,
        /// Its physical address.
        table: PhysAddr,
    },
}

/// Iterates over all that is mapped under a root, in the order of table entries (virtual
/// addresses ascending, the upper half after the lower).
///
/// Each table is visited once at each level, so the work is bounded by five times the number of
/// tables, however they are shared or tangled.
///
/// ```
/// use identmap::{Arena, Config, Found, Leaves, Levels, PhysAddr, PhysRange};
/// use identmap::{Plan, Policy, Seen, Slot, Table};
///
/// let config = Config::kexec(Levels::Four, false);
/// let mut slots = [Slot::EMPTY; 8];
/// let request = PhysRange::from_len(0x10_0000, 0x40_0000)?;
/// let plan = Plan::new(&config, &Policy::RoundOut, &[request], &mut slots)?;
///
/// let mut tables = vec![Table::EMPTY; 3];
/// let mut arena = Arena::new(&mut tables, PhysAddr::new(0x8000_0000).unwrap())?;
/// let built = plan.build(&mut arena)?;
///
/// let mut seen = [Seen::EMPTY; 8];
/// let mut leaves = Leaves::new(&arena, built.root, config.paging(), &mut seen);
/// let Some(Found::Leaves(run)) = leaves.next() else { panic!() };
/// assert_eq!((run.phys.get(), run.count), (0, 3));
/// assert_eq!(leaves.next(), None);
/// assert_eq!(leaves.tables(), plan.tables());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Leaves<'a, R> {
    reader: &'a R,
    paging: Paging,
    seen: &'a mut [Seen],
    stack: [Frame; 5],
    depth: usize,
    tables: TableCount,
    pending: Option<LeafRun>,
    held: Option<Found>,
}

/// A table being visited.
#[derive(Clone, Copy, Debug)]
struct Frame {
    level: Level,
    table: PhysAddr,
    linear: u64,
    next: usize,
    rights: Rights,
}

impl<'a, R: TableRead> Leaves<'a, R> {
    /// Begins at the table at `root` (a multiple of 4 KiB: CR3 without its flags); `seen` is cleared and used to remember tables.
    pub fn new(reader: &'a R, root: PhysAddr, paging: Paging, seen: &'a mut [Seen]) -> Self {
        seen.fill(Seen::EMPTY);
        let level = paging.levels.root();
        let frame = Frame { level, table: root, linear: 0, next: 0, rights: Rights::ALL };
        let mut leaves = Leaves {
            reader,
            paging,
            seen,
            stack: [frame; 5],
            depth: 0,
            tables: TableCount::default(),
            pending: None,
            held: None,
        };
        leaves.held = leaves.enter(frame);
        leaves
    }

    /// The tables visited so far; of all reachable and readable ones once the iterator has ended.
    #[must_use]
    pub const fn tables(&self) -> TableCount {
        self.tables
    }

    /// Takes up a table, or says why not.
    fn enter(&mut self, frame: Frame) -> Option<Found> {
        let virt = self.paging.levels.canonical(frame.linear);
        let Frame { level, table, .. } = frame;
        match self.remember(frame) {
            Memory::New => {
                self.stack[self.depth] = frame;
                self.depth += 1;
                None
            }
            Memory::Known(linear) => {
                let first = self.paging.levels.canonical(linear);
                Some(Found::Shared { virt, level, table, first })
            }
            Memory::Full => Some(Found::TooMany { virt, level, table }),
        }
    }

    fn remember(&mut self, frame: Frame) -> Memory {
        let places = self.seen.len() as u64;
        let key = frame.table.get() | u64::from(frame.level.number());
        // Fibonacci hashing: consecutive pages land far apart.
        let hash = (key >> 12 ^ key << 50).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = ((u128::from(hash) * u128::from(places)) >> 64) as u64;
        for step in 0..places {
            let place = &mut self.seen[((start + step) % places) as usize];
            if place.key == 0 {
                *place = Seen { key, virt: frame.linear };
                return Memory::New;
            }
            if place.key == key {
                return Memory::Known(place.virt);
            }
        }
        Memory::Full
    }

    /// The next thing found, before runs are merged; pops finished tables.
    fn step(&mut self) -> Option<Found> {
        loop {
            let frame = self.stack.get_mut(self.depth.checked_sub(1)?)?;
            let Frame { level, table, next, rights, .. } = *frame;
            if next == 512 {
                self.depth -= 1;
                continue;
            }
            let linear = frame.linear + ((next as u64) << level.entry_shift());
            let virt = self.paging.levels.canonical(linear);
            frame.next += 1;
            let Ok(entry) = self.reader.entry(table, next) else {
                self.depth -= 1;
                return Some(Found::Unreadable { virt, level, table });
            };
            self.tables.add(level, u64::from(next == 0));
            let rights = rights.through(entry);
            match self.paging.decode(level, entry) {
                Decoded::NotPresent => {}
                Decoded::Reserved { bits } => return Some(Found::Reserved { virt, level, bits }),
                Decoded::Leaf { phys, size } => {
                    let address =
                        ADDRESS_FIELD & !(size.bytes() - 1) & !self.paging.encryption_mask;
                    let flags = Flags::from_bits(entry.bits() & !address);
                    let run = LeafRun { virt, phys, size, count: 1, flags, rights };
                    return Some(Found::Leaves(run));
                }
                Decoded::Table { level, table } => {
                    let child = Frame { level, table, linear, next: 0, rights };
                    if let Some(found) = self.enter(child) {
                        return Some(found);
                    }
                }
            }
        }
    }
}

/// Whether a table was met before.
enum Memory {
    New,
    Known(u64),
    Full,
}

impl<R: TableRead> Iterator for Leaves<'_, R> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let found = self.held.take().or_else(|| self.step());
            match (self.pending, found) {
                (Some(run), Some(Found::Leaves(next))) if continues(&run, &next) => {
                    self.pending = Some(LeafRun { count: run.count + next.count, ..run });
                }
                (None, Some(Found::Leaves(run))) => self.pending = Some(run),
                (Some(run), found) => {
                    self.pending = None;
                    self.held = found;
                    return Some(Found::Leaves(run));
                }
                (None, found) => return found,
            }
        }
    }
}

fn continues(run: &LeafRun, next: &LeafRun) -> bool {
    run.size == next.size
        && run.flags == next.flags
        && run.rights == next.rights
        && run.virt.get().wrapping_add(run.bytes()) == next.virt.get()
        && run.phys.checked_add(run.bytes()) == Some(next.phys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Levels};
    use crate::memory::{Arena, Table, TableWrite};

    const BASE: u64 = 0x1000;

    fn all(tables: &[(usize, usize, u64)], count: usize, places: usize) -> (Vec<Found>, u64) {
        let mut memory = vec![Table::EMPTY; count];
        let mut arena = Arena::new(&mut memory, PhysAddr::new(BASE).unwrap()).unwrap();
        for _ in 0..count {
            arena.allocate().unwrap();
        }
        for &(table, index, bits) in tables {
            let at = PhysAddr::new(BASE + (table as u64) * 4096).unwrap();
            arena.table_mut(at).unwrap().0[index] = bits;
        }
        let mut seen = vec![Seen::EMPTY; places];
        let root = PhysAddr::new(BASE).unwrap();
        let paging = Config::kexec(Levels::Four, true).paging();
        let mut leaves = Leaves::new(&arena, root, paging, &mut seen);
        let found = leaves.by_ref().collect();
        (found, leaves.tables().total())
    }

    #[test]
    fn a_self_map_ends_and_each_table_is_visited_once_a_level() {
        // Entry 511 of the root is the root: it is read as PML4, PDPT, PD and PT.
        let (found, tables) = all(&[(0, 511, BASE | 0x63)], 1, 8);
        assert_eq!(tables, 4);
        let [Found::Leaves(run)] = found[..] else { panic!("{found:?}") };
        assert_eq!((run.virt.get(), run.phys.get()), (0xffff_ffff_ffff_f000, BASE));
    }

    #[test]
    fn a_shared_table_is_visited_once_and_named() {
        let gib_leaves = [(1, 0, 0xe3), (1, 1, 0x4000_00e3)];
        let links = [(0, 0, (BASE + 0x1000) | 0x63), (0, 256, (BASE + 0x1000) | 0x63)];
        let (found, tables) = all(&[&gib_leaves[..], &links[..]].concat(), 2, 8);
        assert_eq!(tables, 2);
        let [Found::Leaves(run), shared] = found[..] else { panic!("{found:?}") };
        assert_eq!((run.count, run.size), (2, PageSize::Size1G));
        assert_eq!(
            shared,
            Found::Shared {
                virt: VirtAddr::new(0xffff_8000_0000_0000),
                level: Level::Pdpt,
                table: PhysAddr::new(BASE + 0x1000).unwrap(),
                first: VirtAddr::new(0),
            }
        );
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let links = [(0, 0, 0x9_0063), (0, 1, (BASE + 0x1000) | 0x63), (0, 2, 0xe3)];
        let (found, tables) = all(&links, 2, 8);
        assert_eq!(tables, 2, "an unreadable table is not counted");
        assert!(matches!(found[0], Found::Unreadable { level: Level::Pdpt, .. }));
        assert!(matches!(found[1], Found::Reserved { level: Level::Pml4, bits: 0x80, .. }));
        assert_eq!(found.len(), 2);
        let (found, _) = all(&links[1..2], 2, 1);
        assert!(matches!(found[..], [Found::TooMany { level: Level::Pdpt, .. }]), "{found:?}");
        let (found, _) = all(&links[1..2], 2, 0);
        assert!(matches!(found[..], [Found::TooMany { level: Level::Pml4, .. }]), "{found:?}");
    }

    #[test]
    fn runs_break_where_flags_rights_or_addresses_do() {
        let leaves = [
            (2, 0, 0xe3),
            (2, 1, 0x20_00e3),
            (2, 2, 0x40_00e1),
            (2, 3, 0x60_00e3),
            (2, 4, 0xa0_00e3),
        ];
        let links = [(0, 0, (BASE + 0x1000) | 0x63), (1, 0, (BASE + 0x2000) | 0x63)];
        let (found, _) = all(&[&leaves[..], &links[..]].concat(), 3, 8);
        let counts: Vec<u64> = found
            .iter()
            .map(|f| match f {
                Found::Leaves(run) => run.count,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [2, 1, 1, 1]);
    }
}
