//! The 64 bits of a paging-structure entry.
//!
//! Bit positions: Intel SDM vol. 3A, tables 4-14 to 4-20; AMD APM vol. 2, 5.4.

use core::fmt;
use core::ops::{BitAnd, BitOr, Not};

/// Bits of an entry other than its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(u64);

impl Flags {
    /// No bit at all.
    pub const NONE: Flags = Flags(0);
    /// Bit 0, P: the entry is in use.
    pub const PRESENT: Flags = Flags(1 << 0);
    /// Bit 1, R/W: writes are allowed.
    pub const WRITABLE: Flags = Flags(1 << 1);
    /// Bit 2, U/S: user mode is allowed.
    pub const USER: Flags = Flags(1 << 2);
    /// Bit 3, PWT.
    pub const WRITE_THROUGH: Flags = Flags(1 << 3);
    /// Bit 4, PCD.
    pub const CACHE_DISABLE: Flags = Flags(1 << 4);
    /// Bit 5, A: the processor has used the entry.
    pub const ACCESSED: Flags = Flags(1 << 5);
    /// Bit 6, D: the processor has written through the leaf.
    pub const DIRTY: Flags = Flags(1 << 6);
    /// Bit 7, PS: in a PDPTE or PDE, the entry is a leaf of 1 GiB or 2 MiB.
    pub const PAGE_SIZE: Flags = Flags(1 << 7);
    /// Bit 8, G: the translation outlives a change of CR3 while CR4.PGE is set.
    pub const GLOBAL: Flags = Flags(1 << 8);
    /// Bit 58, ignored by hardware; Linux's `_PAGE_NOPTISHADOW` on the entries of its
    /// PGD and P4D since commit d0ceea662d45 (`arch/x86/include/asm/pgtable_types.h`).
    pub const NOPTISHADOW: Flags = Flags(1 << 58);
    /// Bit 63, XD/NX: no instruction may be fetched (while `EFER.NXE` is set).
    pub const NO_EXECUTE: Flags = Flags(1 << 63);

    /// Bits that may be set in an entry without belonging to its address: 0-11 and 52-63.
    pub(crate) const OUTSIDE_ADDRESS: u64 = !ADDRESS_FIELD;

    /// Wraps raw bits; nothing is checked until a [`Config`](crate::Config) is.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Flags {
        Flags(bits)
    }

    /// The raw bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both; `const` form of `|`.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Flags;
    fn bitand(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Flags;
    fn not(self) -> Flags {
        Flags(!self.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#x})", self.0)
    }
}

impl fmt::Display for Flags {
    /// The names of the set bits in ascending order, e.g. `P RW A D PS G`; bits without a name as `bitN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 9] = ["P", "RW", "US", "PWT", "PCD", "A", "D", "PS", "G"];
        let mut separator = "";
        for bit in (0..64).filter(|bit| self.0 >> bit & 1 == 1) {
            f.write_str(separator)?;
            separator = " ";
            match bit {
                0..=8 => f.write_str(NAMES[bit])?,
                58 => f.write_str("NOPTISHADOW")?,
                63 => f.write_str("NX")?,
                _ => write!(f, "bit{bit}")?,
            }
        }
        Ok(())
    }
}

/// Bits 12-51, in which every kind of entry holds its physical address.
pub(crate) const ADDRESS_FIELD: u64 = 0x000f_ffff_ffff_f000;

/// One entry as it stands in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Entry(u64);

impl Entry {
    /// An entry that maps nothing.
    pub const EMPTY: Entry = Entry(0);

    /// Wraps the raw 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Entry {
        Entry(bits)
    }

    /// The raw 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Bit P.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & Flags::PRESENT.0 != 0
    }

    /// Bit PS. It makes a leaf only in a PDPT or a PD.
    #[must_use]
    pub const fn has_page_size(self) -> bool {
        self.0 & Flags::PAGE_SIZE.0 != 0
    }

    /// Whether every bit of `flags` is set.
    #[must_use]
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Bits 12-51, with the bits of `mask` (the encryption bit) left out.
    #[must_use]
    pub const fn address_bits(self, mask: u64) -> u64 {
        self.0 & ADDRESS_FIELD & !mask
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_people_write_them() {
        let flags = Flags::from_bits(0x1e3) | Flags::NO_EXECUTE | Flags::from_bits(1 << 52);
        assert_eq!(flags.to_string(), "P RW A D PS G bit52 NX");
        assert_eq!(Flags::NONE.to_string(), "");
        assert!(flags.contains(Flags::PAGE_SIZE | Flags::GLOBAL));
        assert!(!flags.contains(Flags::USER | Flags::GLOBAL));
    }
}
