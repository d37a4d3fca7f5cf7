//! Conversions to and from the types of the crate `x86_64` (feature `x86_64`).
//!
//! Its addresses are narrower than ours: a `PhysAddr` there is below 2^52, never the end of a
//! range that ends there; a `VirtAddr` is canonical for 4 levels. So towards it they may fail.

use core::fmt;

use x86_64::addr::{PhysAddrNotValid, VirtAddrNotValid};
use x86_64::structures::paging as theirs;

use crate::addr::{PageSize, PhysAddr, PhysRange, RangeError, VirtAddr};
use crate::entry::{ADDRESS_FIELD, Flags};
use crate::memory::Table;

impl From<x86_64::PhysAddr> for PhysAddr {
    fn from(addr: x86_64::PhysAddr) -> PhysAddr {
        // The other crate promises less than 2^52.
        PhysAddr::new(addr.as_u64()).unwrap_or(PhysAddr::MAX)
    }
}

impl TryFrom<PhysAddr> for x86_64::PhysAddr {
    type Error = PhysAddrNotValid;

    /// Fails for [`PhysAddr::MAX`] only: 2^52 is the end of a range, not the address of a byte.
    fn try_from(addr: PhysAddr) -> Result<x86_64::PhysAddr, PhysAddrNotValid> {
        x86_64::PhysAddr::try_new(addr.get())
    }
}

impl From<x86_64::VirtAddr> for VirtAddr {
    fn from(addr: x86_64::VirtAddr) -> VirtAddr {
        VirtAddr::new(addr.as_u64())
    }
}

impl TryFrom<VirtAddr> for x86_64::VirtAddr {
    type Error = VirtAddrNotValid;

    /// Fails for an address that is not canonical with 4 levels.
    fn try_from(addr: VirtAddr) -> Result<x86_64::VirtAddr, VirtAddrNotValid> {
        x86_64::VirtAddr::try_new(addr.get())
    }
}

impl PageSize {
    /// The size that a type of the crate `x86_64` stands for.
    #[must_use]
    pub const fn of<S: theirs::PageSize>() -> PageSize {
        // That trait is sealed: there are three.
        match S::SIZE {
            0x1000 => PageSize::Size4K,
            0x20_0000 => PageSize::Size2M,
            _ => PageSize::Size1G,
        }
    }
}

impl From<theirs::PageTableFlags> for Flags {
    fn from(flags: theirs::PageTableFlags) -> Flags {
        Flags::from_bits(flags.bits() & Flags::OUTSIDE_ADDRESS)
    }
}

impl TryFrom<Flags> for theirs::PageTableFlags {
    type Error = InteropError;

    /// Fails with [`InteropError::AddressBits`] if bits of the address field are among the flags.
    fn try_from(flags: Flags) -> Result<theirs::PageTableFlags, InteropError> {
        match flags.bits() & ADDRESS_FIELD {
            0 => Ok(theirs::PageTableFlags::from_bits_retain(flags.bits())),
            bits => Err(InteropError::AddressBits { bits }),
        }
    }
}

impl<S: theirs::PageSize> TryFrom<PhysRange> for theirs::frame::PhysFrameRangeInclusive<S> {
    type Error = InteropError;

    /// Fails with [`InteropError::NotWholeFrames`] if either end lies inside a frame of that size.
    fn try_from(range: PhysRange) -> Result<Self, InteropError> {
        let size = PageSize::of::<S>();
        let whole = range.start().is_aligned(size) && range.end().is_aligned(size);
        let frame_of = |addr: PhysAddr| {
            let addr = x86_64::PhysAddr::try_from(addr).ok()?;
            Some(theirs::PhysFrame::<S>::containing_address(addr))
        };
        match (frame_of(range.start()), frame_of(range.last())) {
            (Some(first), Some(last)) if whole => {
                Ok(theirs::PhysFrame::range_inclusive(first, last))
            }
            _ => Err(InteropError::NotWholeFrames { range, size }),
        }
    }
}

impl<S: theirs::PageSize> TryFrom<theirs::frame::PhysFrameRangeInclusive<S>> for PhysRange {
    type Error = RangeError;

    /// Fails with [`RangeError::Empty`] for an empty range of frames.
    fn try_from(
        frames: theirs::frame::PhysFrameRangeInclusive<S>,
    ) -> Result<PhysRange, RangeError> {
        let start = frames.start.start_address().as_u64();
        PhysRange::new(start, frames.end.start_address().as_u64().saturating_add(S::SIZE))
    }
}

impl From<&Table> for theirs::PageTable {
    /// A copy, bit by bit.
    fn from(table: &Table) -> theirs::PageTable {
        let mut copy = theirs::PageTable::new();
        for (entry, bits) in copy.iter_mut().zip(table.0) {
            let flags = theirs::PageTableFlags::from_bits_retain(bits & !ADDRESS_FIELD);
            entry.set_addr(x86_64::PhysAddr::new_truncate(bits & ADDRESS_FIELD), flags);
        }
        copy
    }
}

impl From<&theirs::PageTable> for Table {
    /// A copy, bit by bit.
    fn from(table: &theirs::PageTable) -> Table {
        let mut copy = Table::EMPTY;
        for (bits, entry) in copy.0.iter_mut().zip(table.iter()) {
            *bits = entry.addr().as_u64() | entry.flags().bits();
        }
        copy
    }
}

/// What the types of the crate `x86_64` cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InteropError {
    /// Flags with bits of the address field among them.
    AddressBits {
        /// Those bits.
        bits: u64,
    },
    /// A range that is not made of whole frames.
    NotWholeFrames {
        /// The range.
        range: PhysRange,
        /// The size of a frame.
        size: PageSize,
    },
}

impl fmt::Display for InteropError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InteropError::AddressBits { bits } => {
                write!(f, "flags with bits of the address field: {bits:#x}")
            }
            InteropError::NotWholeFrames { range, size } => {
                write!(f, "{range} is not made of whole frames of {size}")
            }
        }
    }
}

impl core::error::Error for InteropError {}

#[cfg(test)]
mod tests {
    use theirs::frame::PhysFrameRangeInclusive;
    use theirs::{PageTable, PageTableFlags, Size1GiB, Size2MiB, Size4KiB};

    use super::*;
    use crate::{Arena, Config, Guard, Levels, Plan, Policy, Slack, Slot, WalkEnd, walk};

    #[test]
    fn addresses_at_their_limits() {
        for bits in [0, 0x1234, (1 << 52) - 1] {
            let ours = PhysAddr::new(bits).unwrap();
            assert_eq!(PhysAddr::from(x86_64::PhysAddr::try_from(ours).unwrap()), ours);
        }
        assert!(x86_64::PhysAddr::try_from(PhysAddr::MAX).is_err());
        for bits in [0, (1 << 47) - 1, 0xffff_8000_0000_0000, u64::MAX] {
            let ours = VirtAddr::new(bits);
            assert_eq!(VirtAddr::from(x86_64::VirtAddr::try_from(ours).unwrap()), ours);
        }
        assert!(x86_64::VirtAddr::try_from(VirtAddr::new(1 << 47)).is_err());
    }

    #[test]
    fn sizes_flags_and_frames() {
        assert_eq!(PageSize::of::<Size4KiB>(), PageSize::Size4K);
        assert_eq!(PageSize::of::<Size2MiB>(), PageSize::Size2M);
        assert_eq!(PageSize::of::<Size1GiB>(), PageSize::Size1G);
        let leaf = Flags::from_bits(0x1e3) | Flags::NO_EXECUTE;
        let flags = PageTableFlags::try_from(leaf).unwrap();
        assert!(flags.contains(PageTableFlags::HUGE_PAGE | PageTableFlags::NO_EXECUTE));
        assert_eq!(Flags::from(flags), leaf);
        assert_eq!(
            PageTableFlags::try_from(Flags::from_bits(0x1063)),
            Err(InteropError::AddressBits { bits: 0x1000 })
        );

        let top = PhysRange::new((1 << 52) - 0x40_0000, 1 << 52).unwrap();
        let frames = PhysFrameRangeInclusive::<Size2MiB>::try_from(top).unwrap();
        assert_eq!((frames.len(), PhysRange::try_from(frames)), (2, Ok(top)));
        let odd = PhysRange::new(0x1000, 0x20_0000).unwrap();
        assert!(PhysFrameRangeInclusive::<Size4KiB>::try_from(odd).is_ok());
        assert_eq!(
            PhysFrameRangeInclusive::<Size2MiB>::try_from(odd),
            Err(InteropError::NotWholeFrames { range: odd, size: PageSize::Size2M })
        );
        let none = PhysFrameRangeInclusive { start: frames.end, end: frames.start };
        assert!(PhysRange::try_from(none).is_err());
    }

    /// Their page tables, indexed by their addresses, lead where our walk leads: leaves of all sizes.
    #[test]
    fn the_other_crate_reads_our_tables_the_same() {
        let forbidden = [PhysRange::new(0x4000_5000, 0x4000_5001).unwrap()];
        let requests = [
            PhysRange::new(0, 0x4000_5000).unwrap(),
            PhysRange::new(0x4000_6000, 0x4060_0000).unwrap(),
        ];
        let policy = Policy::Guarded(Guard { forbidden: &forbidden, slack: Slack::None });
        let config = Config { offset: 0xffff_8880_0000_0000, ..Config::kexec(Levels::Four, true) };
        let mut slots = [Slot::EMPTY; 32];
        let plan = Plan::new(&config, &policy, &requests, &mut slots).unwrap();
        let base = PhysAddr::new(0x10_0000).unwrap();
        let mut tables = vec![Table::EMPTY; plan.tables().total() as usize];
        let mut arena = Arena::new(&mut tables, base).unwrap();
        let root = plan.build(&mut arena).unwrap().root;
        let copies: Vec<PageTable> = arena.tables().iter().map(PageTable::from).collect();
        for (copy, table) in copies.iter().zip(arena.tables()) {
            assert_eq!(&Table::from(copy), table);
        }

        let mut sizes = Vec::new();
        for run in plan.runs() {
            for phys in [run.range().start(), run.range().last()] {
                let virt = config.virt(phys);
                let (to, size) = translate(&copies, base, virt).unwrap();
                let rights = match walk(&arena, root, &config.paging(), virt).end() {
                    WalkEnd::Mapped { phys, size: ours, rights } => {
                        assert_eq!((phys.get(), ours), (to, size));
                        rights
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!((to, rights.write), (phys.get(), true));
                sizes.push(size);
            }
        }
        assert!(PageSize::ALL.iter().all(|size| sizes.contains(size)), "{sizes:?}");
        let hole = PhysAddr::new(0x4000_5000).unwrap();
        assert_eq!(translate(&copies, base, config.virt(hole)), None);
    }

    /// Written with the other crate's types only.
    fn translate(tables: &[PageTable], base: PhysAddr, virt: VirtAddr) -> Option<(u64, PageSize)> {
        let virt = x86_64::VirtAddr::try_from(virt).unwrap();
        let table = |addr: x86_64::PhysAddr| {
            &tables[((addr - x86_64::PhysAddr::try_from(base).unwrap()) >> 12) as usize]
        };
        let pml4 = table(x86_64::PhysAddr::try_from(base).unwrap());
        let pdpt = table(pml4[virt.p4_index()].frame().ok()?.start_address());
        let pdpte = &pdpt[virt.p3_index()];
        if pdpte.flags().contains(PageTableFlags::HUGE_PAGE) {
            let offset = virt.as_u64() & 0x3fff_ffff;
            return Some((pdpte.addr().as_u64() + offset, PageSize::Size1G));
        }
        let pde = &table(pdpte.frame().ok()?.start_address())[virt.p2_index()];
        if pde.flags().contains(PageTableFlags::HUGE_PAGE) {
            let offset = virt.as_u64() & 0x1f_ffff;
            return Some((pde.addr().as_u64() + offset, PageSize::Size2M));
        }
        let pte = &table(pde.frame().ok()?.start_address())[virt.p1_index()];
        let frame = pte.frame().ok()?;
        Some((frame.start_address().as_u64() + u64::from(virt.page_offset()), PageSize::Size4K))
    }
}
