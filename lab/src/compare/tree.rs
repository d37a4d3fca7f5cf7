//! A tree of tables as a sorted list of what its entries say, wherever the tables themselves lie.

use std::collections::BTreeMap;

use identmap::{Level, Levels, PhysAddr, TableRead, Unreadable};

/// Which entry: the linear address it translates first, and its level. Tables sort before what is
/// below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The bits of the address that are translated: those above are not in it.
    pub linear: u64,
    /// Reversed, so that the root comes first.
    pub level: std::cmp::Reverse<Level>,
}

/// The present entries of a tree: for a leaf all 64 bits, for a table all but where that lies.
pub type Entries = BTreeMap<Place, u64>;

/// All of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Entries of the lower half of the address space: the identity map.
    pub lower: Entries,
    /// Entries of the upper half, where the kernel is: the transition page.
    pub upper: Entries,
    /// Tables reached, the root among them.
    pub tables: u64,
}

/// P and PS (SDM volume 3, section 4.5).
const PRESENT: u64 = 1;
const PAGE_SIZE: u64 = 1 << 7;
/// Bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// More than any map of the lab's guests has; what is beyond is no tree.
const TABLES_MAX: u64 = 10_000;

/// Reads the tables under `root`, as a processor with any width of addresses would. Written apart
/// from the core's walk, which is what built one of the sides that are compared.
///
/// # Errors
/// [`Unreadable`] if a table cannot be read, or if there are more than any map has.
pub fn read(memory: &impl TableRead, root: PhysAddr, levels: Levels) -> Result<Tree, Unreadable> {
    let mut tree = Tree::default();
    let half = 1_u64 << (levels.virt_bits() - 1);
    let mut waiting = vec![(root, levels.root(), 0_u64)];
    while let Some((table, level, base)) = waiting.pop() {
        tree.tables += 1;
        if tree.tables > TABLES_MAX {
            return Err(Unreadable { table });
        }
        for index in 0..512 {
            let bits = memory.entry(table, index)?.bits();
            if bits & PRESENT == 0 {
                continue;
            }
            let linear = base | (index as u64) << level.entry_shift();
            let leaf = match level {
                Level::Pt => true,
                Level::Pd | Level::Pdpt => bits & PAGE_SIZE != 0,
                Level::Pml4 | Level::Pml5 => false,
            };
            let entries = if linear < half { &mut tree.lower } else { &mut tree.upper };
            let place = Place { linear, level: std::cmp::Reverse(level) };
            entries.insert(place, if leaf { bits } else { bits & !ADDRESS });
            if let (false, Some(below)) = (leaf, level.below()) {
                let next = PhysAddr::new(bits & ADDRESS).ok_or(Unreadable { table })?;
                waiting.push((next, below, linear));
            }
        }
    }
    Ok(tree)
}

/// Where two lists of entries differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which entry.
    pub place: Place,
    /// What the guest has there; `None`: nothing.
    pub real: Option<u64>,
    /// What the model has there.
    pub model: Option<u64>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bits: Option<u64>| bits.map_or("none".to_owned(), |bits| format!("{bits:#x}"));
        let Place { linear, level } = self.place;
        let (real, model) = (text(self.real), text(self.model));
        write!(f, "{:4} entry of {linear:#018x}: guest {real}, model {model}", level.0.to_string())
    }
}

/// Every entry that one side has and the other has not, or not so.
#[must_use]
pub fn differences(real: &Entries, model: &Entries) -> Vec<Difference> {
    let mut found: Vec<Difference> = real
        .iter()
        .map(|(&place, &bits)| (place, Some(bits), model.get(&place).copied()))
        .chain(
            model.iter().filter(|(p, _)| !real.contains_key(p)).map(|(&p, &b)| (p, None, Some(b))),
        )
        .filter(|(_, real, model)| real != model)
        .map(|(place, real, model)| Difference { place, real, model })
        .collect();
    found.sort_by_key(|difference| difference.place);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::{Arena, Config, Image, PhysRange, Plan, Policy, Slot, Table};

    /// Tables of a small map, in memory from 1 MiB on; the root is the first.
    fn built(config: &Config) -> Vec<u8> {
        let request = PhysRange::new(0x3fff_f000, 0x8040_0000).unwrap();
        let mut slots = [Slot::EMPTY; 16];
        let plan = Plan::new(config, &Policy::Exact, &[request], &mut slots).unwrap();
        let mut tables = vec![Table::EMPTY; plan.tables().total() as usize];
        let mut arena = Arena::new(&mut tables, base()).unwrap();
        assert_eq!(plan.build(&mut arena).unwrap().root, base());
        tables.iter().flat_map(|table| table.0).flat_map(u64::to_le_bytes).collect()
    }

    fn base() -> PhysAddr {
        PhysAddr::new(0x10_0000).unwrap()
    }

    #[test]
    fn every_changed_bit_of_every_entry_is_a_difference() {
        let config = Config::kexec(Levels::Five, true);
        let good = built(&config);
        let model = read(&Image::new(&good, base()), base(), config.levels).unwrap();
        assert!(model.upper.is_empty() && model.lower.len() > 5);
        assert_eq!(differences(&model.lower, &model.lower), []);
        for entry in (0..good.len()).step_by(8).filter(|&at| good[at] & 1 == 1) {
            for bit in 0..64 {
                let mut bad = good.clone();
                bad[entry + bit / 8] ^= 1 << (bit % 8);
                // A table that is led astray is not there to be read: that is noticed too.
                if let Ok(real) = read(&Image::new(&bad, base()), base(), config.levels) {
                    let found = differences(&real.lower, &model.lower).len()
                        + usize::from(real.tables != model.tables);
                    assert_ne!(found, 0, "bit {bit} of the entry at {entry:#x}");
                }
            }
        }
    }

    #[test]
    fn a_tree_that_has_itself_below_it_ends() {
        let mut bytes = vec![0; 4096];
        for index in 0..512 {
            bytes[index * 8..index * 8 + 8].copy_from_slice(&0x10_0063_u64.to_le_bytes());
        }
        assert!(read(&Image::new(&bytes, base()), base(), Levels::Five).is_err());
    }
}
