//! One address, level by level, as the processor would go.

use core::fmt;

use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::config::{Level, Paging};
use crate::entry::{ADDRESS_FIELD, Entry, Flags};
use crate::memory::TableRead;

/// What may be done through a translation: the rights of every entry on the way, combined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rights {
    /// R/W is set in every entry.
    pub write: bool,
    /// U/S is set in every entry.
    pub user: bool,
    /// XD/NX is set in none.
    pub execute: bool,
}

impl Rights {
    /// Before the first entry: everything.
    pub const ALL: Rights = Rights { write: true, user: true, execute: true };

    /// With one more entry on the way (SDM vol. 3A, 4.6).
    #[must_use]
    pub const fn through(self, entry: Entry) -> Rights {
        Rights {
            write: self.write && entry.has(Flags::WRITABLE),
            user: self.user && entry.has(Flags::USER),
            execute: self.execute && !entry.has(Flags::NO_EXECUTE),
        }
    }
}

impl fmt::Display for Rights {
    /// `rwx`, with `-` for what is missing, and `u` or `s` for user or supervisor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pick = |allowed, letter| if allowed { letter } else { '-' };
        let owner = if self.user { 'u' } else { 's' };
        write!(f, "r{}{}{owner}", pick(self.write, 'w'), pick(self.execute, 'x'))
    }
}

/// One entry on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The level of the table.
    pub level: Level,
    /// Physical address of the table.
    pub table: PhysAddr,
    /// Index of the entry, 0 to 511.
    pub index: usize,
    /// The entry.
    pub entry: Entry,
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkEnd {
    /// At a leaf.
    Mapped {
        /// Where the address leads.
        phys: PhysAddr,
        /// The size of the leaf.
        size: PageSize,
        /// What may be done there.
        rights: Rights,
    },
    /// At an entry that is not present: a page fault.
    NotPresent,
    /// At an entry with reserved bits set: a page fault with RSVD, whatever the access.
    Reserved {
        /// The bits.
        bits: u64,
    },
    /// At a table that cannot be read: nothing is known of the address.
    Unreadable {
        /// The level of that table.
        level: Level,
        /// Its physical address.
        table: PhysAddr,
    },
    /// Before the first table: the address is not canonical (a general-protection fault).
    NotCanonical,
}

/// A walk: the entries met, from the root down, and how it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    virt: VirtAddr,
    steps: [Option<Step>; 5],
    end: WalkEnd,
}

impl Walk {
    /// The address walked.
    #[must_use]
    pub const fn virt(&self) -> VirtAddr {
        self.virt
    }

    /// The entries met, from the root down; the last one is where the walk ended,
    /// unless it ended at a table that cannot be read.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.steps.iter().flatten().copied()
    }

    /// How it ended.
    #[must_use]
    pub const fn end(&self) -> WalkEnd {
        self.end
    }
}

/// Translates `virt` under the root table at `root`, as a processor in that paging mode does.
pub fn walk<R: TableRead>(reader: &R, root: PhysAddr, paging: &Paging, virt: VirtAddr) -> Walk {
    let mut walk = Walk { virt, steps: [None; 5], end: WalkEnd::NotCanonical };
    if !paging.levels.is_canonical(virt) {
        return walk;
    }
    let linear = paging.levels.linear(virt.get());
    let (mut level, mut table, mut rights) = (paging.levels.root(), root, Rights::ALL);
    for step in 0..5 {
        let index = level.index(linear);
        let Ok(entry) = reader.entry(table, index) else {
            walk.end = WalkEnd::Unreadable { level, table };
            return walk;
        };
        walk.steps[step] = Some(Step { level, table, index, entry });
        rights = rights.through(entry);
        match paging.decode(level, entry) {
            Decoded::NotPresent => {
                walk.end = WalkEnd::NotPresent;
                return walk;
            }
            Decoded::Reserved { bits } => {
                walk.end = WalkEnd::Reserved { bits };
                return walk;
            }
            Decoded::Leaf { phys, size } => {
                let offset = linear & (size.bytes() - 1);
                // A leaf lies below 2^52 and its offset inside it.
                let phys = phys.checked_add(offset).unwrap_or(PhysAddr::MAX);
                walk.end = WalkEnd::Mapped { phys, size, rights };
                return walk;
            }
            Decoded::Table { level: below, table: next } => (level, table) = (below, next),
        }
    }
    walk
}

/// What one entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Bit P is clear.
    NotPresent,
    /// Reserved bits are set.
    Reserved {
        /// The bits.
        bits: u64,
    },
    /// It maps memory.
    Leaf {
        /// First byte of the frame.
        phys: PhysAddr,
        /// Size of the frame.
        size: PageSize,
    },
    /// It points to a table.
    Table {
        /// The level of that table.
        level: Level,
        /// Its physical address.
        table: PhysAddr,
    },
}

impl Paging {
    /// Reads an entry of a table at `level`.
    ///
    /// Reserved are (SDM vol. 3A, 4.5.4 and table 4-14 ff.): address bits from MAXPHYADDR on; PS in
    /// an entry of a PML4 or PML5, and in a PDPTE of a processor without 1 GiB pages; the address
    /// bits below the frame of a leaf, but for PAT (bit 12); bit 63 without `EFER.NXE`. Bits that
    /// vendors disagree about (bit 8 of a PML4E must be zero on AMD, APM vol. 2, 5.4) are not counted.
    #[must_use]
    pub const fn decode(&self, level: Level, entry: Entry) -> Decoded {
        if !entry.is_present() {
            return Decoded::NotPresent;
        }
        let address = entry.address_bits(self.encryption_mask);
        let width = if self.maxphyaddr < 52 { (1 << self.maxphyaddr) - 1 } else { ADDRESS_FIELD };
        let mut reserved = address & !width;
        if !self.nxe {
            reserved |= entry.bits() & Flags::NO_EXECUTE.bits();
        }
        let ps = entry.bits() & Flags::PAGE_SIZE.bits();
        let leaf = match level {
            Level::Pt => Some(PageSize::Size4K),
            Level::Pd if ps != 0 => Some(PageSize::Size2M),
            Level::Pdpt if ps != 0 && self.pdpe1gb => Some(PageSize::Size1G),
            Level::Pdpt | Level::Pml4 | Level::Pml5 => {
                reserved |= ps;
                None
            }
            Level::Pd => None,
        };
        let frame = match leaf {
            Some(size) => {
                // Bit 12 of a large leaf is PAT.
                let below_frame = (size.bytes() - 1) & !0x1fff;
                if !matches!(size, PageSize::Size4K) {
                    reserved |= address & below_frame;
                }
                address & !(size.bytes() - 1)
            }
            None => address,
        };
        if reserved != 0 {
            return Decoded::Reserved { bits: reserved };
        }
        let frame = match PhysAddr::new(frame) {
            Some(frame) => frame,
            None => PhysAddr::MAX,
        };
        match (leaf, level.below()) {
            (Some(size), _) => Decoded::Leaf { phys: frame, size },
            (None, Some(level)) => Decoded::Table { level, table: frame },
            // A PT entry is always a leaf.
            (None, None) => Decoded::NotPresent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Levels};
    use crate::memory::{Arena, Table, TableWrite, Unreadable};

    const PAGING: Paging = Paging {
        levels: Levels::Four,
        maxphyaddr: 46,
        pdpe1gb: true,
        nxe: true,
        encryption_mask: 0,
    };

    fn decode(paging: Paging, level: Level, bits: u64) -> Decoded {
        paging.decode(level, Entry::from_bits(bits))
    }

    #[test]
    fn reserved_bits_by_level() {
        let reserved = |level, bits, expected| {
            assert_eq!(decode(PAGING, level, bits), Decoded::Reserved { bits: expected });
        };
        reserved(Level::Pml5, 0xe3, 0x80);
        reserved(Level::Pml4, 0xe3, 0x80);
        reserved(Level::Pdpt, 0x4020_00e3, 0x20_0000);
        reserved(Level::Pdpt, 0x4000_20e3, 0x2000);
        reserved(Level::Pd, 0x4000_20e3, 0x2000);
        reserved(Level::Pt, 1 << 46 | 0x63, 1 << 46);
        reserved(Level::Pd, 1 << 51 | 0x63, 1 << 51);
        let old = Paging { pdpe1gb: false, ..PAGING };
        assert_eq!(decode(old, Level::Pdpt, 0x4000_00e3), Decoded::Reserved { bits: 0x80 });
        let no_nx = Paging { nxe: false, ..PAGING };
        assert_eq!(decode(no_nx, Level::Pt, 1 << 63 | 1), Decoded::Reserved { bits: 1 << 63 });
    }

    #[test]
    fn bits_that_are_not_reserved() {
        let gib = PhysAddr::new(0x4000_0000).unwrap();
        // PAT of a large leaf, the ignored bits, protection keys, NX.
        for bits in [0x4000_10e3, 0x4000_0fe3, 0xfff0_0000_4000_00e3] {
            let leaf = Decoded::Leaf { phys: gib, size: PageSize::Size1G };
            assert_eq!(decode(PAGING, Level::Pdpt, bits), leaf, "{bits:#x}");
        }
        let sev = Paging { encryption_mask: 1 << 47, ..PAGING };
        let table = Decoded::Table { level: Level::Pt, table: gib };
        assert_eq!(decode(sev, Level::Pd, 1 << 47 | 0x4000_0063), table);
    }

    /// A root whose first entry leads to a table that is nowhere, whose second leads to itself.
    #[test]
    fn an_unreadable_table_is_its_own_answer_and_a_cycle_ends() {
        let mut tables = vec![Table::EMPTY; 1];
        let base = PhysAddr::new(0x1000).unwrap();
        let mut arena = Arena::new(&mut tables, base).unwrap();
        let root = arena.allocate().unwrap();
        let missing = PhysAddr::new(0x9000).unwrap();
        arena.table_mut(root).unwrap().0[0] = 0x9063;
        arena.table_mut(root).unwrap().0[1] = 0x1063;
        let paging = Config::kexec(Levels::Four, true).paging();
        let end = |virt| walk(&arena, root, &paging, VirtAddr::new(virt)).end();
        assert_eq!(end(0x1234), WalkEnd::Unreadable { level: Level::Pdpt, table: missing });
        assert_eq!(arena.entry(missing, 0), Err(Unreadable { table: missing }));
        assert_eq!(end(2 << 39), WalkEnd::NotPresent);
        assert_eq!(end(1 << 47), WalkEnd::NotCanonical);
        // Entry 1 at every level: the root read as PDPT, PD and PT; its own page is mapped.
        let own = (1 << 39) | (1 << 30) | (1 << 21) | (1 << 12) | 0x123;
        match end(own) {
            WalkEnd::Mapped { phys, size, .. } => {
                assert_eq!((phys.get(), size), (0x1123, PageSize::Size4K));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rights_are_combined_down_the_path() {
        let through = |bits| Rights::ALL.through(Entry::from_bits(bits));
        assert_eq!(through(0b111), Rights::ALL);
        assert_eq!(through(0b101).to_string(), "r-xu");
        assert_eq!(through(0b111).through(Entry::from_bits(1 << 63 | 0b011)).to_string(), "rw-s");
    }
}
