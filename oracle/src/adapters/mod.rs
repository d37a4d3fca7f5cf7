//! Other crates that build and read x86-64 page tables, behind one face.
//!
//! Each works on tables in memory of ours, whose "physical" addresses are where the tables really
//! lie in this process: that is what these crates expect of a kernel or of firmware.

mod memory;
mod patina;
mod x86_64;

use identmap::{PhysAddr, Table};

pub(crate) use memory::Memory;

use crate::picture::Words;

/// A leaf to map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub(crate) virt: u64,
    pub(crate) phys: u64,
    /// 4 KiB, 2 MiB or 1 GiB.
    pub(crate) size: u64,
}

/// Where an address leads, as far as all crates tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Translation {
    pub(crate) phys: u64,
    pub(crate) size: u64,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

/// How tables shall look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) five_levels: bool,
    /// Flags of leaves, without PS.
    pub(crate) leaf_flags: u64,
    /// Flags of entries that point to tables.
    pub(crate) table_flags: u64,
}

/// Another crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crate {
    /// `x86_64` (rust-osdev): `OffsetPageTable`; 4 levels.
    X86_64,
    /// `patina_paging` (Open Device Partnership, UEFI firmware in Rust): `X64PageTable`; 4 and 5
    /// levels. Sets its own flags: of leaves only the rights to write and to execute are ours.
    Patina,
}

impl Crate {
    pub(crate) const ALL: [Crate; 2] = [Crate::X86_64, Crate::Patina];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Crate::X86_64 => "x86_64",
            Crate::Patina => "patina_paging",
        }
    }

    pub(crate) fn can(self, look: Look) -> bool {
        self == Crate::Patina || !look.five_levels
    }

    /// Whether every flag of its tables is ours to choose.
    pub(crate) fn takes_flags(self) -> bool {
        self == Crate::X86_64
    }

    /// Maps leaf after leaf in fresh tables; returns how many tables the map took.
    ///
    /// # Errors
    /// What the crate said.
    pub(crate) fn build(
        self,
        memory: &mut Memory,
        look: Look,
        leaves: &mut dyn Iterator<Item = Leaf>,
    ) -> Result<u64, String> {
        match self {
            Crate::X86_64 => x86_64::build(memory, look, leaves),
            Crate::Patina => patina::build(memory, look, leaves),
        }
    }

    /// Translates addresses through tables that anyone built; the first table is the root.
    ///
    /// # Errors
    /// What the crate said.
    pub(crate) fn translate(
        self,
        memory: &mut Memory,
        look: Look,
        addresses: &[u64],
    ) -> Result<Vec<Option<Translation>>, String> {
        match self {
            Crate::X86_64 => Ok(x86_64::translate(memory, addresses)),
            Crate::Patina => patina::translate(memory, look, addresses),
        }
    }
}

impl Memory {
    /// For identmap to build in, with the address it shall believe in.
    pub(crate) fn lend(&mut self) -> Option<(&mut [Table], PhysAddr)> {
        let base = PhysAddr::new(self.base())?;
        Some((&mut self.tables, base))
    }

    /// The table at an address.
    pub(crate) fn at(&self, base: u64, address: u64) -> Option<&Words> {
        let distance = address.checked_sub(base)?;
        if distance % 4096 != 0 {
            return None;
        }
        self.tables.get((distance / 4096) as usize).map(|table| &table.0)
    }
}
