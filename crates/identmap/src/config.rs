//! What the tables shall look like, apart from what they map: levels, flags,
//! encryption bit, offset, address width. All of it data; nothing global.

use core::fmt;

use crate::addr::{PageSize, PhysAddr, PhysRange, VirtAddr};
use crate::entry::{ADDRESS_FIELD, Flags};

/// How many levels of tables the processor walks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Levels {
    /// 4-level paging: 48 bits of linear address.
    Four,
    /// 5-level paging (CR4.LA57): 57 bits of linear address.
    Five,
}

impl Levels {
    /// 4 or 5.
    #[must_use]
    pub const fn count(self) -> u8 {
        match self {
            Levels::Four => 4,
            Levels::Five => 5,
        }
    }

    /// The level of the table that CR3 points to.
    #[must_use]
    pub const fn root(self) -> Level {
        match self {
            Levels::Four => Level::Pml4,
            Levels::Five => Level::Pml5,
        }
    }

    /// Bits of a linear address that are translated: 48 or 57.
    #[must_use]
    pub const fn virt_bits(self) -> u32 {
        match self {
            Levels::Four => 48,
            Levels::Five => 57,
        }
    }

    /// Whether the bits above the translated ones repeat the highest of them
    /// (Intel SDM vol. 1, 3.3.7.1).
    #[must_use]
    pub const fn is_canonical(self, addr: VirtAddr) -> bool {
        let unused = 64 - self.virt_bits();
        ((addr.get() << unused).cast_signed() >> unused).cast_unsigned() == addr.get()
    }

    /// The translated bits of an address.
    pub(crate) const fn linear(self, addr: u64) -> u64 {
        addr & ((1 << self.virt_bits()) - 1)
    }

    /// The canonical address with these translated bits.
    pub(crate) const fn canonical(self, linear: u64) -> VirtAddr {
        let unused = 64 - self.virt_bits();
        VirtAddr::new(((linear << unused).cast_signed() >> unused).cast_unsigned())
    }
}

/// A level of the table hierarchy, by the SDM's name of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Page table, 4 KiB an entry; Linux: PTE.
    Pt,
    /// Page directory, 2 MiB an entry; Linux: PMD.
    Pd,
    /// Page-directory-pointer table, 1 GiB an entry; Linux: PUD.
    Pdpt,
    /// 512 GiB an entry; Linux: PGD with 4 levels, P4D with 5.
    Pml4,
    /// 256 TiB an entry; Linux: PGD with 5 levels.
    Pml5,
}

impl Level {
    /// From the leaves to the root.
    pub const ALL: [Level; 5] = [Level::Pt, Level::Pd, Level::Pdpt, Level::Pml4, Level::Pml5];

    /// 1 for a page table up to 5 for a PML5.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Level::Pt => 1,
            Level::Pd => 2,
            Level::Pdpt => 3,
            Level::Pml4 => 4,
            Level::Pml5 => 5,
        }
    }

    /// Binary logarithm of the bytes that one entry of such a table spans: 12, 21, 30, 39 or 48.
    #[must_use]
    pub const fn entry_shift(self) -> u32 {
        12 + 9 * (self.number() as u32 - 1)
    }

    /// The level below; `None` below a page table.
    #[must_use]
    pub const fn below(self) -> Option<Level> {
        match self {
            Level::Pt => None,
            Level::Pd => Some(Level::Pt),
            Level::Pdpt => Some(Level::Pd),
            Level::Pml4 => Some(Level::Pdpt),
            Level::Pml5 => Some(Level::Pml4),
        }
    }

    /// The size of a leaf in such a table; `None` for PML4 and PML5, which hold none.
    #[must_use]
    pub const fn leaf(self) -> Option<PageSize> {
        match self {
            Level::Pt => Some(PageSize::Size4K),
            Level::Pd => Some(PageSize::Size2M),
            Level::Pdpt => Some(PageSize::Size1G),
            Level::Pml4 | Level::Pml5 => None,
        }
    }

    /// The level whose entries are leaves of `size`.
    #[must_use]
    pub const fn holding(size: PageSize) -> Level {
        match size {
            PageSize::Size4K => Level::Pt,
            PageSize::Size2M => Level::Pd,
            PageSize::Size1G => Level::Pdpt,
        }
    }

    /// Which entry (0 to 511) of a table at this level translates a linear address.
    #[must_use]
    pub const fn index(self, linear: u64) -> usize {
        (linear >> self.entry_shift()) as usize & 511
    }
}

impl fmt::Display for Level {
    /// `PT`, `PD`, `PDPT`, `PML4` or `PML5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Pt => "PT",
            Level::Pd => "PD",
            Level::Pdpt => "PDPT",
            Level::Pml4 => "PML4",
            Level::Pml5 => "PML5",
        })
    }
}

/// What the tables shall look like. Plain data: [`check`](Config::check) runs
/// wherever a configuration is used, so a plan in hand proves a sound one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// 4 or 5 levels.
    pub levels: Levels,
    /// Whether 1 GiB leaves may be used: the processor has pdpe1gb and nobody said `nogbpages`.
    pub gbpages: bool,
    /// Flags of every leaf; the PS bit of 2 MiB and 1 GiB leaves is added by itself.
    pub leaf_flags: Flags,
    /// Flags of every entry that points to a PD or a PT.
    pub table_flags: Flags,
    /// Flags of every entry of a PML4 or PML5 (Linux sets one more bit there since 6.13).
    pub upper_table_flags: Flags,
    /// The memory-encryption bit (C-bit) as a mask, set in every entry; 0 for none.
    pub encryption_mask: u64,
    /// Added to a physical address to give the virtual one, modulo 2^64; 0 for an identity map.
    /// A multiple of the largest leaf allowed.
    pub offset: u64,
    /// Bits of a physical address (CPUID `0x80000008`.EAX[7:0]).
    pub maxphyaddr: u8,
}

impl Config {
    /// What Linux's kexec uses on a machine without memory encryption: leaves P, RW, A, D, G
    /// (`__PAGE_KERNEL_LARGE_EXEC`), tables P, RW, A, D (`_KERNPG_TABLE_NOENC`), offset 0
    /// (`init_pgtable()` in `arch/x86/kernel/machine_kexec_64.c`); 52 address bits.
    #[must_use]
    pub const fn kexec(levels: Levels, gbpages: bool) -> Config {
        let table = Flags::PRESENT.with(Flags::WRITABLE).with(Flags::ACCESSED).with(Flags::DIRTY);
        Config {
            levels,
            gbpages,
            leaf_flags: table.with(Flags::GLOBAL),
            table_flags: table,
            upper_table_flags: table,
            encryption_mask: 0,
            offset: 0,
            maxphyaddr: 52,
        }
    }

    /// Checks every field against the others.
    ///
    /// # Errors
    /// [`ConfigError`], a variant for each field that can be wrong.
    pub const fn check(&self) -> Result<(), ConfigError> {
        if self.maxphyaddr < 32 || self.maxphyaddr > 52 {
            return Err(ConfigError::MaxPhysAddr(self.maxphyaddr));
        }
        // PS is ours to set; in a 4 KiB leaf bit 7 is PAT, in the others bit 12: not offered.
        let leaf = self.leaf_flags.bits();
        if leaf & !(Flags::OUTSIDE_ADDRESS & !Flags::PAGE_SIZE.bits()) != 0 || leaf & 1 == 0 {
            return Err(ConfigError::LeafFlags(self.leaf_flags));
        }
        // Bits 7 and 8 of a PML4E must be zero on AMD (APM vol. 2, figure 5-20), bit 7 of every
        // table entry is reserved or makes it a leaf.
        let illegal = !(Flags::OUTSIDE_ADDRESS & !0x180);
        if self.table_flags.bits() & illegal != 0 || self.table_flags.bits() & 1 == 0 {
            return Err(ConfigError::TableFlags(self.table_flags));
        }
        if self.upper_table_flags.bits() & illegal != 0 || self.upper_table_flags.bits() & 1 == 0 {
            return Err(ConfigError::TableFlags(self.upper_table_flags));
        }
        // The C-bit lies at 47 or 51 in every processor so far; below bit 32 it would cut RAM in two.
        let mask = self.encryption_mask;
        if mask != 0 && (!mask.is_power_of_two() || mask & ADDRESS_FIELD == 0 || mask < 1 << 32) {
            return Err(ConfigError::EncryptionMask(mask));
        }
        let largest = if self.gbpages { PageSize::Size1G } else { PageSize::Size2M };
        if self.offset & (largest.bytes() - 1) != 0 {
            return Err(ConfigError::OffsetUnaligned { offset: self.offset, size: largest });
        }
        Ok(())
    }

    /// The largest leaf this configuration may use (2 MiB leaves always exist on x86-64).
    #[must_use]
    pub const fn largest_leaf(&self) -> PageSize {
        if self.gbpages { PageSize::Size1G } else { PageSize::Size2M }
    }

    /// One past the highest physical address an entry can hold: 2^MAXPHYADDR, or the encryption bit if lower.
    #[must_use]
    pub const fn phys_limit(&self) -> PhysAddr {
        let by_width = 1 << self.maxphyaddr;
        let limit = if self.encryption_mask != 0 && self.encryption_mask < by_width {
            self.encryption_mask
        } else {
            by_width
        };
        match PhysAddr::new(limit) {
            Some(addr) => addr,
            None => PhysAddr::MAX,
        }
    }

    /// How a processor set up for these tables reads them.
    #[must_use]
    pub const fn paging(&self) -> Paging {
        Paging {
            levels: self.levels,
            maxphyaddr: self.maxphyaddr,
            pdpe1gb: true,
            nxe: true,
            encryption_mask: self.encryption_mask,
        }
    }

    /// The virtual address of a physical one.
    #[must_use]
    pub const fn virt(&self, phys: PhysAddr) -> VirtAddr {
        VirtAddr::new(phys.get().wrapping_add(self.offset))
    }

    /// The translated bits of the virtual address of `phys`: what indexes the tables.
    #[must_use]
    pub const fn linear(&self, phys: PhysAddr) -> u64 {
        self.levels.linear(self.virt(phys).get())
    }

    /// The bits, other than the address, of an entry at `level` that points to a table.
    #[must_use]
    pub const fn table_entry_flags(&self, level: Level) -> u64 {
        let flags = match level {
            Level::Pml4 | Level::Pml5 => self.upper_table_flags,
            Level::Pt | Level::Pd | Level::Pdpt => self.table_flags,
        };
        flags.bits() | self.encryption_mask
    }

    /// The bits, other than the address, of a leaf of `size`.
    #[must_use]
    pub const fn leaf_entry_flags(&self, size: PageSize) -> u64 {
        let ps = match size {
            PageSize::Size4K => 0,
            PageSize::Size2M | PageSize::Size1G => Flags::PAGE_SIZE.bits(),
        };
        self.leaf_flags.bits() | ps | self.encryption_mask
    }

    /// Whether both ends of `range` have canonical virtual addresses in the same half.
    pub(crate) const fn is_mappable(&self, range: PhysRange) -> bool {
        let (first, last) = (self.virt(range.start()), self.virt(range.last()));
        self.levels.is_canonical(first)
            && self.levels.is_canonical(last)
            && first.get() <= last.get()
            && first.get() >> 63 == last.get() >> 63
    }
}

/// What is wrong with a [`Config`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// MAXPHYADDR outside 32..=52.
    MaxPhysAddr(u8),
    /// Leaf flags without P, with PS, or reaching into the address field.
    LeafFlags(Flags),
    /// Table flags without P, with bit 7 or 8, or reaching into the address field.
    TableFlags(Flags),
    /// The encryption mask is not one bit of the address field at or above bit 32.
    EncryptionMask(u64),
    /// The offset is not a multiple of the largest leaf: a large leaf could not hold its address.
    OffsetUnaligned {
        /// The offset, in bytes.
        offset: u64,
        /// The largest leaf allowed.
        size: PageSize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::MaxPhysAddr(bits) => {
                write!(f, "MAXPHYADDR is {bits}; expected 32 to 52 bits")
            }
            ConfigError::LeafFlags(flags) => write!(
                f,
                "leaf flags {:#x} need P and may use bits 0-6, 8-11 and 52-63 only",
                flags.bits()
            ),
            ConfigError::TableFlags(flags) => write!(
                f,
                "table flags {:#x} need P and may use bits 0-6, 9-11 and 52-63 only",
                flags.bits()
            ),
            ConfigError::EncryptionMask(mask) => {
                write!(f, "encryption mask {mask:#x} is not one bit between bit 32 and bit 51")
            }
            ConfigError::OffsetUnaligned { offset, size } => {
                write!(f, "offset {offset:#x} is not a multiple of the largest leaf, {size}")
            }
        }
    }
}

impl core::error::Error for ConfigError {}

/// How a processor reads tables: what decides which bits are reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// 4 or 5 levels (CR4.LA57).
    pub levels: Levels,
    /// Bits of a physical address; higher bits of an entry are reserved.
    pub maxphyaddr: u8,
    /// Whether 1 GiB leaves exist; without them PS is reserved in a PDPTE.
    pub pdpe1gb: bool,
    /// `EFER.NXE`; without it bit 63 is reserved.
    pub nxe: bool,
    /// The memory-encryption bit as a mask; not part of an address, not reserved.
    pub encryption_mask: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_addresses_at_every_edge() {
        for (levels, bits) in [(Levels::Four, 47), (Levels::Five, 56)] {
            let edge = 1u64 << bits;
            for (addr, canonical) in [
                (0, true),
                (edge - 1, true),
                (edge, false),
                (edge.wrapping_neg() - 1, false),
                (edge.wrapping_neg(), true),
                (u64::MAX, true),
            ] {
                assert_eq!(levels.is_canonical(VirtAddr::new(addr)), canonical, "{addr:#x}");
                if canonical {
                    assert_eq!(levels.canonical(levels.linear(addr)).get(), addr);
                }
            }
        }
    }

    #[test]
    fn the_configuration_of_kexec_is_linux_s_numbers() {
        let config = Config::kexec(Levels::Four, true);
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.leaf_entry_flags(PageSize::Size1G), 0x1e3);
        assert_eq!(config.leaf_entry_flags(PageSize::Size4K), 0x163);
        assert_eq!(config.table_entry_flags(Level::Pml4), 0x63);
    }

    #[test]
    fn each_field_is_checked() {
        let good = Config::kexec(Levels::Five, true);
        let check = |config: Config| config.check().unwrap_err();
        assert_eq!(check(Config { maxphyaddr: 53, ..good }), ConfigError::MaxPhysAddr(53));
        assert_eq!(check(Config { maxphyaddr: 31, ..good }), ConfigError::MaxPhysAddr(31));
        for bits in [0x62, 0xe3, 0x1063, 1 << 51] {
            let flags = Flags::from_bits(bits);
            assert_eq!(check(Config { leaf_flags: flags, ..good }), ConfigError::LeafFlags(flags));
            assert_eq!(
                check(Config { table_flags: flags, ..good }),
                ConfigError::TableFlags(flags)
            );
        }
        for mask in [3 << 47, 1 << 31, 1 << 52, 1] {
            let config = Config { encryption_mask: mask, ..good };
            assert_eq!(check(config), ConfigError::EncryptionMask(mask));
        }
        let offset = 0x20_0000;
        assert_eq!(
            check(Config { offset, ..good }),
            ConfigError::OffsetUnaligned { offset, size: PageSize::Size1G }
        );
        assert_eq!(Config { offset, gbpages: false, ..good }.check(), Ok(()));
    }

    #[test]
    fn the_encryption_bit_lowers_the_limit_of_addresses() {
        let good = Config::kexec(Levels::Four, true);
        assert_eq!(good.phys_limit(), PhysAddr::MAX);
        let encrypted = Config { encryption_mask: 1 << 47, maxphyaddr: 48, ..good };
        assert_eq!(encrypted.phys_limit().get(), 1 << 47);
        let above = Config { encryption_mask: 1 << 51, maxphyaddr: 43, ..good };
        assert_eq!(above.phys_limit().get(), 1 << 43);
    }
}
