//! Takes every page of a set of page tables, for keeping; what they say is for others to decode.

use std::collections::BTreeMap;

use identmap::{Levels, PhysAddr};

use crate::core_file::{PhysRead, Unreadable};

/// The pages of a set of tables, and how many leaves of each size they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Pages that hold tables, by physical address.
    pub pages: BTreeMap<PhysAddr, [u8; 4096]>,
    /// Leaves of 4 KiB, 2 MiB, 1 GiB.
    pub leaves: [u64; 3],
}

/// More tables than any map the lab makes has; what is beyond is not tables.
const PAGES_MAX: usize = 100_000;
/// Present, and page size (SDM volume 3, section 4.5, "4-Level Paging and 5-Level Paging").
const PRESENT: u64 = 1;
const PAGE_SIZE: u64 = 1 << 7;
/// Bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Reads the tables under `root`. A page met again is not read again, so tables that refer to
/// themselves end. Knows nothing of the core crate's walk on purpose: the two are compared.
///
/// # Errors
/// [`Unreadable`] if a table is not in memory, or if there are too many of them.
pub fn collect(
    memory: &impl PhysRead,
    root: PhysAddr,
    levels: Levels,
) -> Result<Tables, Unreadable> {
    let mut tables = Tables::default();
    let mut waiting = vec![(root.get(), levels.count())];
    while let Some((address, level)) = waiting.pop() {
        let address = PhysAddr::new(address & ADDRESS).ok_or(Unreadable(root))?;
        if tables.pages.contains_key(&address) {
            continue;
        }
        if tables.pages.len() == PAGES_MAX {
            return Err(Unreadable(address));
        }
        let mut page = [0; 4096];
        memory.read(address, &mut page)?;
        for entry in page.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)) {
            if entry & PRESENT == 0 {
                continue;
            }
            if level == 1 || (level <= 3 && entry & PAGE_SIZE != 0) {
                tables.leaves[usize::from(level) - 1] += 1;
            } else {
                waiting.push((entry, level - 1));
            }
        }
        tables.pages.insert(address, page);
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core_file::{CoreFile, write_core};

    #[test]
    fn leaves_are_counted_and_loops_end() {
        let at = |address| PhysAddr::new(address).unwrap();
        let mut pages: BTreeMap<PhysAddr, [u8; 4096]> = BTreeMap::new();
        let mut entry = |table: u64, index: usize, value: u64| {
            let page = pages.entry(at(table)).or_insert([0; 4096]);
            page[index * 8..index * 8 + 8].copy_from_slice(&value.to_le_bytes());
        };
        entry(0x1000, 0, 0x2063);
        entry(0x1000, 511, 0x1063); // the top table again
        entry(0x2000, 0, 0x4000_01e3); // 1G
        entry(0x2000, 1, 0x3063);
        entry(0x3000, 0, 0x20_01e3); // 2M
        entry(0x3000, 7, 0x4063);
        entry(0x4000, 9, 0x5000 | PAGE_SIZE | PRESENT); // 4K: there the bit is PAT
        let core = CoreFile::open(write_core(&pages).unwrap()).unwrap();
        let tables = collect(&core, at(0x1000), Levels::Four).unwrap();
        assert_eq!(tables.leaves, [1, 1, 1]);
        assert_eq!(tables.pages, pages);
        assert_eq!(collect(&core, at(0x9000), Levels::Four), Err(Unreadable(at(0x9000))));
    }
}
