//! Addresses and ranges: the only place where an address is added to, rounded
//! or subtracted (`addresses-are-types`).

use core::fmt;

/// One past the highest byte that x86-64 can address physically: 2^52.
///
/// Intel SDM vol. 3A, 4.1.4: `MAXPHYADDR` is at most 52. AMD APM vol. 2, 5.1: the same.
pub const PHYS_LIMIT: u64 = 1 << 52;

/// The size of a leaf: how much memory one present, non-table entry maps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB, mapped by an entry of a page table (PTE).
    Size4K,
    /// 2 MiB, mapped by an entry of a page directory (PMD in Linux, PDE in the SDM).
    Size2M,
    /// 1 GiB, mapped by an entry of a page-directory-pointer table (PUD in Linux, PDPTE in the SDM).
    Size1G,
}

impl PageSize {
    /// The three sizes, smallest first.
    pub const ALL: [PageSize; 3] = [PageSize::Size4K, PageSize::Size2M, PageSize::Size1G];

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The binary logarithm of [`bytes`](Self::bytes): 12, 21 or 30.
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            PageSize::Size4K => 12,
            PageSize::Size2M => 21,
            PageSize::Size1G => 30,
        }
    }

    /// `4K`, `2M` or `1G`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PageSize::Size4K => "4K",
            PageSize::Size2M => "2M",
            PageSize::Size1G => "1G",
        }
    }
}

impl fmt::Display for PageSize {
    /// `4K`, `2M` or `1G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A physical address, or the end of a physical range.
///
/// Holding one proves that it is at most [`PHYS_LIMIT`]; the limit itself is
/// admitted so that the end of every half-open range is a `PhysAddr` too. Hence
/// rounding up to a [`PageSize`] cannot overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// Address 0.
    pub const ZERO: PhysAddr = PhysAddr(0);
    /// One past the last addressable byte ([`PHYS_LIMIT`]).
    pub const MAX: PhysAddr = PhysAddr(PHYS_LIMIT);

    /// Checks that `addr` is at most [`PHYS_LIMIT`]; `None` otherwise. This is the only constructor.
    #[must_use]
    pub const fn new(addr: u64) -> Option<PhysAddr> {
        if addr <= PHYS_LIMIT { Some(PhysAddr(addr)) } else { None }
    }

    /// The address as a number of bytes from 0.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Rounds down to a multiple of `size`.
    #[must_use]
    pub const fn align_down(self, size: PageSize) -> PhysAddr {
        PhysAddr(self.0 & !(size.bytes() - 1))
    }

    /// Rounds up to a multiple of `size`. Cannot overflow: the limit is a multiple of every page size.
    #[must_use]
    pub const fn align_up(self, size: PageSize) -> PhysAddr {
        PhysAddr((self.0 + (size.bytes() - 1)) & !(size.bytes() - 1))
    }

    /// Whether this is a multiple of `size`.
    #[must_use]
    pub const fn is_aligned(self, size: PageSize) -> bool {
        self.0 & (size.bytes() - 1) == 0
    }

    /// `self + bytes`, or `None` past [`PHYS_LIMIT`].
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<PhysAddr> {
        match self.0.checked_add(bytes) {
            Some(sum) => PhysAddr::new(sum),
            None => None,
        }
    }
}

impl fmt::Display for PhysAddr {
    /// `0x%016x`, as Linux prints addresses in its memory maps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A virtual (linear) address: any 64-bit number. Whether it is canonical
/// depends on the paging mode: [`Levels::is_canonical`](crate::Levels::is_canonical).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(u64);

impl VirtAddr {
    /// Wraps a 64-bit address.
    #[must_use]
    pub const fn new(addr: u64) -> VirtAddr {
        VirtAddr(addr)
    }

    /// The address as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for VirtAddr {
    /// `0x%016x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Two numbers that are not a range of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RangeError {
    /// The end does not lie above the start: the range is empty or reversed.
    Empty {
        /// First byte, as given.
        start: u64,
        /// One past the last byte, as given.
        end: u64,
    },
    /// The range reaches past [`PHYS_LIMIT`], or past the end of 64-bit arithmetic.
    PastLimit {
        /// First byte, as given.
        start: u64,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RangeError::Empty { start, end } => {
                write!(f, "range from {start:#018x} ends before it starts (at {end:#018x})")
            }
            RangeError::PastLimit { start } => {
                write!(f, "range from {start:#018x} reaches past the 52 bits of a physical address")
            }
        }
    }
}

impl core::error::Error for RangeError {}

/// A range of physical memory, half-open: `start` is in it, `end` is not.
///
/// Holding one proves `start < end <= 2^52`: it is not empty, and neither its
/// length nor its rounded ends can overflow. Printed with an inclusive end, as dmesg does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysRange {
    start: PhysAddr,
    end: PhysAddr,
}

impl PhysRange {
    /// Everything that can be addressed: `[0, 2^52)`.
    pub const ALL: PhysRange = PhysRange { start: PhysAddr::ZERO, end: PhysAddr::MAX };

    /// The half-open range `[start, end)`. Every other constructor goes through this one.
    ///
    /// # Errors
    /// [`RangeError::PastLimit`] if `end` exceeds [`PHYS_LIMIT`]; [`RangeError::Empty`] if `start >= end`.
    pub const fn new(start: u64, end: u64) -> Result<PhysRange, RangeError> {
        match (PhysAddr::new(start), PhysAddr::new(end)) {
            (Some(first), Some(past)) if start < end => Ok(PhysRange { start: first, end: past }),
            (_, Some(_)) => Err(RangeError::Empty { start, end }),
            (_, None) => Err(RangeError::PastLimit { start }),
        }
    }

    /// The range whose last byte is `last`, as firmware maps and dmesg write it.
    ///
    /// # Errors
    /// As [`new`](Self::new), with `end = last + 1`.
    pub const fn from_inclusive(start: u64, last: u64) -> Result<PhysRange, RangeError> {
        match last.checked_add(1) {
            Some(end) => PhysRange::new(start, end),
            None => Err(RangeError::PastLimit { start }),
        }
    }

    /// The range of `len` bytes from `start`.
    ///
    /// # Errors
    /// As [`new`](Self::new), with `end = start + len`; an overflow is [`RangeError::PastLimit`].
    pub const fn from_len(start: u64, len: u64) -> Result<PhysRange, RangeError> {
        match start.checked_add(len) {
            Some(end) => PhysRange::new(start, end),
            None => Err(RangeError::PastLimit { start }),
        }
    }

    /// The range between two addresses, or `None` if it would be empty.
    #[must_use]
    pub const fn between(start: PhysAddr, end: PhysAddr) -> Option<PhysRange> {
        if start.0 < end.0 { Some(PhysRange { start, end }) } else { None }
    }

    /// First byte.
    #[must_use]
    pub const fn start(self) -> PhysAddr {
        self.start
    }

    /// One past the last byte.
    #[must_use]
    pub const fn end(self) -> PhysAddr {
        self.end
    }

    /// Last byte.
    #[must_use]
    pub const fn last(self) -> PhysAddr {
        PhysAddr(self.end.0 - 1)
    }

    /// Length in bytes; never 0.
    #[allow(clippy::len_without_is_empty, reason = "a PhysRange is never empty")]
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether `addr` lies in the range.
    #[must_use]
    pub const fn contains(self, addr: PhysAddr) -> bool {
        self.start.0 <= addr.0 && addr.0 < self.end.0
    }

    /// Whether all of `other` lies in the range.
    #[must_use]
    pub const fn covers(self, other: PhysRange) -> bool {
        self.start.0 <= other.start.0 && other.end.0 <= self.end.0
    }

    /// Whether the two share at least one byte.
    #[must_use]
    pub const fn intersects(self, other: PhysRange) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }

    /// The bytes in both.
    #[must_use]
    pub const fn intersection(self, other: PhysRange) -> Option<PhysRange> {
        let start = if self.start.0 > other.start.0 { self.start } else { other.start };
        let end = if self.end.0 < other.end.0 { self.end } else { other.end };
        PhysRange::between(start, end)
    }

    /// The union, if it is one range: if the two overlap or one begins where the other ends.
    #[must_use]
    pub const fn merged(self, other: PhysRange) -> Option<PhysRange> {
        if self.start.0 > other.end.0 || other.start.0 > self.end.0 {
            return None;
        }
        let start = if self.start.0 < other.start.0 { self.start } else { other.start };
        let end = if self.end.0 > other.end.0 { self.end } else { other.end };
        PhysRange::between(start, end)
    }

    /// What is left of this range without `other`: the part below it and the part above it.
    #[must_use]
    pub const fn subtract(self, other: PhysRange) -> (Option<PhysRange>, Option<PhysRange>) {
        let below_end = if other.start.0 < self.end.0 { other.start } else { self.end };
        let above_start = if other.end.0 > self.start.0 { other.end } else { self.start };
        if other.end.0 <= self.start.0 {
            return (None, Some(self));
        }
        (PhysRange::between(self.start, below_end), PhysRange::between(above_start, self.end))
    }

    /// The smallest range of whole pages of `size` around this one.
    #[must_use]
    pub const fn round_out(self, size: PageSize) -> PhysRange {
        PhysRange { start: self.start.align_down(size), end: self.end.align_up(size) }
    }

    /// The whole pages of `size` inside this range, if there is one.
    #[must_use]
    pub const fn round_in(self, size: PageSize) -> Option<PhysRange> {
        PhysRange::between(self.start.align_up(size), self.end.align_down(size))
    }
}

impl fmt::Display for PhysRange {
    /// `0x%016x-0x%016x`, both ends inclusive, as dmesg prints memory maps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.last())
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start.0, self.end.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    #[test]
    fn a_range_is_never_empty_nor_past_the_limit() {
        assert_eq!(PhysRange::new(5, 5), Err(RangeError::Empty { start: 5, end: 5 }));
        assert_eq!(PhysRange::new(6, 5), Err(RangeError::Empty { start: 6, end: 5 }));
        assert_eq!(PhysRange::new(5, PHYS_LIMIT + 1), Err(RangeError::PastLimit { start: 5 }));
        assert_eq!(PhysRange::from_inclusive(1, u64::MAX), Err(RangeError::PastLimit { start: 1 }));
        assert_eq!(
            PhysRange::from_len(u64::MAX, 2),
            Err(RangeError::PastLimit { start: u64::MAX })
        );
        assert_eq!(PhysRange::from_inclusive(0, PHYS_LIMIT - 1), Ok(PhysRange::ALL));
        assert_eq!(PhysRange::from_len(7, 1), Ok(r(7, 8)));
    }

    /// Every pair of ranges in a world of nine points, against sets of bytes.
    #[test]
    fn set_operations_agree_with_sets_of_bytes() {
        let all: Vec<PhysRange> =
            (0..8u64).flat_map(|s| (s + 1..=8).map(move |e| r(s, e))).collect();
        let set = |p: Option<PhysRange>| -> u32 {
            p.map_or(0, |p| (p.start.0..p.end.0).fold(0, |m, b| m | 1 << b))
        };
        for &a in &all {
            for &b in &all {
                let (sa, sb) = (set(Some(a)), set(Some(b)));
                assert_eq!(a.intersects(b), sa & sb != 0);
                assert_eq!(set(a.intersection(b)), sa & sb);
                assert_eq!(a.covers(b), sa & sb == sb);
                let (below, above) = a.subtract(b);
                assert_eq!(set(below) | set(above), sa & !sb, "{a:?} - {b:?}");
                assert_eq!(set(below) & set(above), 0);
                if let (Some(lo), Some(hi)) = (below, above) {
                    assert!(lo.end <= hi.start);
                }
                match a.merged(b) {
                    Some(m) => assert_eq!(set(Some(m)), sa | sb),
                    None => assert!(a.end < b.start || b.end < a.start),
                }
            }
        }
    }

    #[test]
    fn rounding_at_every_boundary_and_a_byte_either_side() {
        for size in PageSize::ALL {
            let b = size.bytes();
            for base in [0, b, PHYS_LIMIT - 2 * b] {
                for (ds, de) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let range = r(base + ds, base + 2 * b - de);
                    assert_eq!(range.round_out(size), r(base, base + 2 * b));
                    let inner = (base + ds * b, base + 2 * b - de * b);
                    assert_eq!(range.round_in(size), PhysRange::new(inner.0, inner.1).ok());
                }
            }
            assert_eq!(PhysAddr::MAX.align_up(size), PhysAddr::MAX);
        }
    }

    #[test]
    fn printed_as_dmesg_prints() {
        assert_eq!(r(0xc7600000, 0xcb600000).to_string(), "0x00000000c7600000-0x00000000cb5fffff");
        assert_eq!(PageSize::Size2M.to_string(), "2M");
    }
}
