//! Page tables as a picture that two builders can be compared by: everything in them except where
//! the tables themselves lie.

use std::fmt;

const ENTRIES: usize = 512;
const PRESENT: u64 = 1;
const PS: u64 = 1 << 7;
/// Bits 12 to 51 of an entry (Intel SDM vol. 3A, tables 4-15 to 4-20).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The words of one table.
pub(crate) type Words = [u64; ENTRIES];

/// All present entries of a hierarchy of tables, in order of virtual addresses.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Picture {
    /// Tables that can be reached from the root, the root included.
    pub(crate) tables: u64,
    /// Words that are not present entries and not 0.
    pub(crate) stray: u64,
    /// Entries that point to tables, each before those of the table it points to.
    pub(crate) links: Vec<Link>,
    /// Leaves, in runs.
    pub(crate) runs: Vec<LeafRun>,
}

/// An entry that points to a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// Level of the table that holds the entry: 5 is a PML5, 2 a PD.
    pub(crate) level: u8,
    /// The first address translated through it, canonical.
    pub(crate) virt: u64,
    /// The entry without its address bits.
    pub(crate) flags: u64,
}

/// Leaves of one size with the same flags, adjacent in virtual and in physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeafRun {
    /// Where the first leaf is mapped, canonical.
    pub(crate) virt: u64,
    /// What it maps.
    pub(crate) phys: u64,
    /// The entry without its address bits; whatever stands below the alignment of a large leaf is here.
    pub(crate) flags: u64,
    /// Bytes of a leaf.
    pub(crate) size: u64,
    /// How many leaves.
    pub(crate) count: u64,
}

/// Why tables have no picture. Any of these is a bug of whoever built them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WalkError {
    /// An entry points to an address where no table was handed out.
    NoTable(u64),
    /// PS is set in a PML4 or PML5.
    LeafTooHigh(u64),
    /// More tables than can be: a cycle.
    TooMany,
}

impl Picture {
    /// Reads tables as the processor would, from the root down.
    pub(crate) fn take<'t>(
        &mut self,
        five_levels: bool,
        encryption_mask: u64,
        root: u64,
        table_at: &dyn Fn(u64) -> Option<&'t Words>,
    ) -> Result<(), WalkError> {
        self.clear();
        let mut walk =
            Walk { picture: self, five_levels, address: ADDRESS & !encryption_mask, table_at };
        walk.table(root, if five_levels { 5 } else { 4 }, 0)
    }

    pub(crate) fn clear(&mut self) {
        self.tables = 0;
        self.stray = 0;
        self.links.clear();
        self.runs.clear();
    }

    /// Adds a leaf behind those already there.
    pub(crate) fn push_leaves(&mut self, run: LeafRun) {
        if let Some(last) = self.runs.last_mut() {
            let length = last.size * last.count;
            if last.virt.wrapping_add(length) == run.virt
                && last.phys.wrapping_add(length) == run.phys
                && (last.flags, last.size) == (run.flags, run.size)
            {
                last.count += run.count;
                return;
            }
        }
        self.runs.push(run);
    }

    /// The first thing in which two pictures differ; `None` if they are equal.
    pub(crate) fn difference(&self, other: &Picture) -> Option<String> {
        if self == other {
            return None;
        }
        if let Some(text) = first_difference("leaves", &self.runs, &other.runs) {
            return Some(text);
        }
        if let Some(text) = first_difference("table entry", &self.links, &other.links) {
            return Some(text);
        }
        Some(format!(
            "tables: {} against {}; stray words: {} against {}",
            self.tables, other.tables, self.stray, other.stray
        ))
    }
}

fn first_difference<T: PartialEq + fmt::Display>(what: &str, a: &[T], b: &[T]) -> Option<String> {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let show = |of: &[T]| of.get(same).map_or_else(|| "none".into(), ToString::to_string);
    (same < a.len().max(b.len()))
        .then(|| format!("{what} {same}:\n    {}\n    {}", show(a), show(b)))
}

struct Walk<'p, 'f, 't> {
    picture: &'p mut Picture,
    five_levels: bool,
    address: u64,
    table_at: &'f dyn Fn(u64) -> Option<&'t Words>,
}

impl Walk<'_, '_, '_> {
    fn table(&mut self, at: u64, level: u8, virt: u64) -> Result<(), WalkError> {
        let words = (self.table_at)(at).ok_or(WalkError::NoTable(at))?;
        self.picture.tables += 1;
        if self.picture.tables > 1 << 20 {
            return Err(WalkError::TooMany);
        }
        let shift = 12 + 9 * (u32::from(level) - 1);
        for (index, &entry) in words.iter().enumerate() {
            if entry == 0 {
                continue;
            }
            let virt = virt | (index as u64) << shift;
            if entry & PRESENT == 0 {
                self.picture.stray += 1;
            } else if level == 1 || (level <= 3 && entry & PS != 0) {
                let size = 1 << shift;
                let address = self.address & !(size - 1);
                self.picture.push_leaves(LeafRun {
                    virt: self.canonical(virt),
                    phys: entry & address,
                    flags: entry & !address,
                    size,
                    count: 1,
                });
            } else if entry & PS != 0 {
                return Err(WalkError::LeafTooHigh(self.canonical(virt)));
            } else {
                let flags = entry & !self.address;
                self.picture.links.push(Link { level, virt: self.canonical(virt), flags });
                self.table(entry & self.address, level - 1, virt)?;
            }
        }
        Ok(())
    }

    fn canonical(&self, virt: u64) -> u64 {
        canonical(self.five_levels, virt)
    }
}

/// The translated bits of an address, sign-extended (Intel SDM vol. 1, 3.3.7.1).
pub(crate) fn canonical(five_levels: bool, virt: u64) -> u64 {
    let unused = if five_levels { 7 } else { 16 };
    ((virt << unused).cast_signed() >> unused).cast_unsigned()
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} at {:#018x}, flags {:#x}", self.level, self.virt, self.flags)
    }
}

impl fmt::Display for LeafRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeafRun { virt, phys, flags, size, count } = self;
        write!(f, "{virt:#018x} -> {phys:#x}, {count} x {size:#x}, flags {flags:#x}")
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalkError::NoTable(at) => write!(f, "an entry points to {at:#x}, where no table is"),
            WalkError::LeafTooHigh(virt) => write!(f, "PS is set above 1G leaves at {virt:#x}"),
            WalkError::TooMany => write!(f, "over a million tables: a cycle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_bit_but_the_tables_addresses() {
        let mut tables = vec![[0u64; ENTRIES]; 3];
        tables[0][511] = 0x1000 | 0x63 | 1 << 58;
        tables[1][0] = 0x2000 | 0x67;
        tables[1][1] = 0x8000_0000 | 0x1e3;
        tables[1][2] = 0xc000_0000 | 0x1e3;
        tables[1][3] = 0x1_0000_0000 | 0x11e3; // PAT of a 1G leaf: bit 12
        tables[2][7] = 1 << 51 | 0x20_0000 | 0x1e3;
        tables[2][8] = 2; // not present, not 0
        let mut picture = Picture::default();
        let at = |pa: u64| tables.get(pa as usize / 4096);
        picture.take(false, 1 << 51, 0, &at).unwrap();

        let virt = 0xffff_ff80_0000_0000;
        let one = |virt, phys, flags, size, count| LeafRun { virt, phys, flags, size, count };
        assert_eq!((picture.tables, picture.stray), (3, 1));
        assert_eq!(
            picture.links,
            [Link { level: 4, virt, flags: 0x63 | 1 << 58 }, Link { level: 3, virt, flags: 0x67 }]
        );
        assert_eq!(
            picture.runs,
            [
                one(virt + 0xe0_0000, 0x20_0000, 1 << 51 | 0x1e3, 1 << 21, 1),
                one(virt + (1 << 30), 0x8000_0000, 0x1e3, 1 << 30, 2),
                one(virt + (3 << 30), 0x1_0000_0000, 0x11e3, 1 << 30, 1),
            ]
        );
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let mut table = [0u64; ENTRIES];
        let mut picture = Picture::default();
        table[0] = 0x63; // itself
        let at = |pa: u64| (pa == 0).then_some(&table);
        // Four levels down it is a page table, whose entry is a leaf: no cycle, as for the processor.
        assert_eq!(picture.take(false, 0, 0, &at), Ok(()));
        assert_eq!((picture.tables, picture.runs[0].size), (4, 4096));

        let mut table = [0u64; ENTRIES];
        table[1] = 0x5000 | 1;
        let at = |pa: u64| (pa == 0).then_some(&table);
        assert_eq!(picture.take(false, 0, 0, &at), Err(WalkError::NoTable(0x5000)));

        let mut table = [0u64; ENTRIES];
        table[1] = 0x81;
        let at = |pa: u64| (pa == 0).then_some(&table);
        assert_eq!(picture.take(true, 0, 0, &at), Err(WalkError::LeafTooHigh(1 << 48)));
    }
}
