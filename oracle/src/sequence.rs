//! What both sides are given: a sequence of requests and how the tables shall look.
//!
//! Sequences are random with a taste for trouble: they gather around a few boundaries (2 MiB, 1 GiB,
//! 512 GiB, 256 TiB in virtual addresses), and later requests often refer to earlier ones. Each is a
//! function of the seed and its number alone, so any one of them can be made again.

use identmap::PhysRange;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const FRAME: u64 = 2 * MIB;

/// Linux's direct map with 4 and 5 levels, before KASLR moves it by whole GiBs
/// (`__PAGE_OFFSET_BASE_L4` and `_L5`, `arch/x86/include/asm/page_64_types.h`, Linux 5.10 to 7.3).
const DIRECT_MAP: [u64; 2] = [0xffff_8880_0000_0000, 0xff11_0000_0000_0000];
/// Where the kernel's own image is mapped (`__START_KERNEL_map`, the same header).
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Requests in their order, and how the tables shall look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sequence {
    /// 5-level paging instead of 4-level.
    pub(crate) five_levels: bool,
    /// 1 GiB leaves are allowed.
    pub(crate) gbpages: bool,
    /// Virtual minus physical address, modulo 2^64.
    pub(crate) offset: u64,
    /// Bits of a physical address; every request lies below.
    pub(crate) maxphyaddr: u8,
    /// Flags of every leaf, without PS and without the encryption bit.
    pub(crate) leaf_flags: u64,
    /// Flags of every table entry, without the encryption bit and without what a source adds itself.
    pub(crate) table_flags: u64,
    /// The encryption bit, or 0.
    pub(crate) encryption_mask: u64,
    /// What must be mapped, in this order.
    pub(crate) requests: Vec<PhysRange>,
}

/// Where a source of Linux can be led.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Anywhere but the last entry of the root table: up to 6.14 the address of its end wraps to 0,
    /// and Linux links an empty table there.
    BelowLastSlot,
    /// Everywhere but the last 2 MiB, where the loop over 2 MiB frames never ends in any version.
    BelowLastFrame,
}

impl Sequence {
    /// The sequence of this number under this seed.
    pub(crate) fn generate(seed: u64, number: u64, reach: Reach) -> Sequence {
        let mut rng = Rng::new(seed, number);
        let rng = &mut rng;
        let five_levels = rng.one_in(2);
        let gbpages = !rng.one_in(3);
        let step = if gbpages { GIB } else { FRAME };
        let maxphyaddr = *rng.pick(&[32, 36, 39, 40, 46, 48, 52, 52]);

        let whole = if five_levels { 1 << 52 } else { 1 << 47 };
        let (offset, room) = match rng.below(16) {
            0..10 => (0, whole),
            // Low and small: boundaries of virtual and of physical addresses differ.
            10..12 => {
                let offset = rng.below(512 * GIB / step) * step;
                (offset, whole - offset)
            }
            12 | 13 if reach == Reach::BelowLastFrame => {
                let offset = KERNEL_MAP - rng.below(GIB / step + 1) * step;
                (offset, offset.wrapping_neg() - FRAME)
            }
            _ => {
                let base =
                    DIRECT_MAP[usize::from(five_levels)] + rng.below(1024 * GIB / step) * step;
                (base, 1 << if five_levels { 52 } else { 46 })
            }
        };
        let encryption_mask = match rng.below(8) {
            0 => 1 << 51,
            1 => 1 << 47,
            _ => 0,
        };
        let by_width = 1u64 << maxphyaddr;
        let mut limit = room.min(by_width);
        if encryption_mask != 0 {
            limit = limit.min(encryption_mask);
        }

        let mut sequence = Sequence {
            five_levels,
            gbpages,
            offset,
            maxphyaddr,
            // Mostly kexec's own: RW, A, D, G; also without G, read-only, and with NX.
            leaf_flags: *rng.pick(&[0x163, 0x163, 0x163, 0x63, 0x161, 1 << 63 | 0x163]),
            table_flags: *rng.pick(&[0x63, 0x63, 0x63, 0x67]),
            encryption_mask,
            requests: Vec::new(),
        };
        Builder::new(rng, offset, limit, gbpages).fill(&mut sequence.requests);
        sequence
    }
}

/// Makes the requests of one sequence.
struct Builder<'r> {
    rng: &'r mut Rng,
    limit: u64,
    /// Physical addresses of boundaries that the requests gather around.
    anchors: Vec<u64>,
    /// How many more GiBs the requests may touch, so that a sequence stays small.
    budget: u64,
}

impl<'r> Builder<'r> {
    fn new(rng: &'r mut Rng, offset: u64, limit: u64, gbpages: bool) -> Builder<'r> {
        let anchors = (0..rng.below(3) + 1).map(|_| anchor(rng, offset, limit)).collect();
        let budget = match gbpages {
            true if rng.one_in(128) => 4096,
            true => 48,
            false if rng.one_in(256) => 600,
            false => 12,
        };
        Builder { rng, limit, anchors, budget }
    }

    fn fill(mut self, requests: &mut Vec<PhysRange>) {
        let count = self.rng.below(12) as usize + 1;
        while requests.len() < count && self.budget > 0 {
            let (start, end) = match requests.last() {
                Some(_) if self.rng.one_in(2) => {
                    let previous = *self.rng.pick(requests);
                    self.beside(previous)
                }
                _ => self.around_an_anchor(),
            };
            if let Some(range) = self.bounded(start, end) {
                requests.push(range);
            }
        }
        match self.rng.below(8) {
            0 => requests.reverse(),
            1 => {
                for i in (1..requests.len()).rev() {
                    requests.swap(i, self.rng.below(i as u64 + 1) as usize);
                }
            }
            2 => {
                let again = *self.rng.pick(requests);
                requests.push(again);
            }
            _ => {}
        }
    }

    /// Cut to the limit and to the budget; `None` if nothing is left.
    fn bounded(&mut self, start: u64, end: u64) -> Option<PhysRange> {
        let end = end.min(self.limit);
        if start >= end {
            return None;
        }
        let end = end.min((start / GIB * GIB).saturating_add(self.budget * GIB));
        self.budget -= ((end - 1) / GIB - start / GIB + 1).min(self.budget);
        PhysRange::new(start, end).ok()
    }

    fn around_an_anchor(&mut self) -> (u64, u64) {
        let anchor = *self.rng.pick(&self.anchors);
        match self.rng.below(6) {
            0 | 1 => {
                let start = self.near(anchor);
                (start, start.saturating_add(self.length()))
            }
            2 => {
                let (a, b) = (self.near(anchor), self.near(anchor));
                (a.min(b), a.max(b).saturating_add(1))
            }
            // Across the boundary.
            3 => {
                let (below, above) = (self.length(), self.length());
                (anchor.saturating_sub(below), anchor.saturating_add(above))
            }
            // Whole GiBs, then perhaps short or long by a little.
            4 => {
                let start = self.near(anchor) / GIB * GIB;
                let end = start.saturating_add((self.rng.below(4) + 1) * GIB);
                match self.rng.below(4) {
                    0 => (start.saturating_add(self.small()), end),
                    1 => (start, end - self.small()),
                    _ => (start, end),
                }
            }
            _ => {
                let start = self.near(anchor);
                (start, start.saturating_add(self.rng.log_below(8 * TIB) + 1))
            }
        }
    }

    /// A range that touches, repeats, holds or lies in an earlier one.
    fn beside(&mut self, range: PhysRange) -> (u64, u64) {
        let (start, end) = (range.start().get(), range.end().get());
        let length = self.length();
        match self.rng.below(10) {
            0 => (end, end.saturating_add(length)),
            1 => (start.saturating_sub(length), start),
            2 => (start, end),
            3 => {
                let middle = start + self.rng.below(end - start);
                (middle, middle.saturating_add(length))
            }
            4 => {
                let middle = start + self.rng.below(end - start);
                (middle, middle + 1 + self.rng.below(end - middle))
            }
            // The GiBs around it: full after partial.
            5 => (start / GIB * GIB, end.div_ceil(GIB) * GIB),
            // One GiB in it or under it: partial after full.
            6 => {
                let at = (start + self.rng.below(end - start)) / GIB * GIB;
                let inside = at + self.rng.below(GIB);
                (inside, inside + self.small())
            }
            7 => (start.saturating_sub(self.small()), end.saturating_add(self.small())),
            8 => (end - 1, end),
            _ => {
                let gap = self.small();
                let from = end.saturating_add(gap);
                (from, from.saturating_add(length))
            }
        }
    }

    /// An address close to a boundary, on either side.
    fn near(&mut self, anchor: u64) -> u64 {
        let distance = match self.rng.below(4) {
            0 => 0,
            1 => self.small(),
            2 => self.rng.below(GIB),
            _ => self.rng.below(4) * GIB + self.small() - 1,
        };
        if self.rng.one_in(2) {
            anchor.saturating_add(distance).min(self.limit - 1)
        } else {
            anchor.saturating_sub(distance)
        }
    }

    /// One byte to a few frames, at least 1.
    fn small(&mut self) -> u64 {
        match self.rng.below(8) {
            0 | 1 => 1,
            2 => 4 * KIB,
            3 => FRAME,
            4 => FRAME - 1,
            5 => FRAME + 1,
            6 => self.rng.below(4 * KIB) + 1,
            _ => self.rng.below(4 * FRAME) + 1,
        }
    }

    fn length(&mut self) -> u64 {
        match self.rng.below(8) {
            0..3 => self.small(),
            3 => self.rng.below(GIB) + 1,
            4 => (self.rng.below(512) + 1) * FRAME,
            5 => (self.rng.below(4) + 1) * GIB,
            6 => (self.rng.below(4) + 1) * GIB + 1 - 2 * self.rng.below(2),
            _ => self.rng.log_below(16 * GIB) + 1,
        }
    }
}

/// The physical address of a boundary of virtual addresses, below the limit.
fn anchor(rng: &mut Rng, offset: u64, limit: u64) -> u64 {
    let grain: u64 = *rng.pick(&[FRAME, GIB, GIB, 512 * GIB, 512 * GIB, 256 * TIB]);
    let at = if rng.one_in(3) { rng.below(limit) } else { rng.log_below(limit) };
    let boundary = (offset.wrapping_add(at) & !(grain - 1)).wrapping_sub(offset);
    if boundary < limit {
        return boundary;
    }
    let next = boundary.wrapping_add(grain);
    if next < limit { next } else { at & !(FRAME - 1) }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and the same everywhere.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, number: u64) -> Rng {
        let mut start = Rng(seed);
        let mixed = start.next();
        Rng(mixed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// 0 to `bound` - 1; the bias of the remainder is far below what matters here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// 0 to `bound` - 1, every number of bits about equally likely.
    fn log_below(&mut self, bound: u64) -> u64 {
        let bits = self.below(u64::from(64 - bound.leading_zeros()));
        self.next() % (1 << bits).min(bound)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'s, T>(&mut self, from: &'s [T]) -> &'s T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_depends_on_seed_and_number_alone() {
        for number in 0..100 {
            let make = |seed| Sequence::generate(seed, number, Reach::BelowLastSlot);
            assert_eq!(make(7), make(7));
            assert_ne!(make(7), make(8));
        }
    }

    /// What the comparison claims to cover, it covers.
    #[test]
    fn sequences_reach_every_corner() {
        let mut seen = std::collections::BTreeMap::<&str, u32>::new();
        let mut note = |what, is: bool| *seen.entry(what).or_default() += u32::from(is);
        for number in 0..20_000 {
            let s = Sequence::generate(1, number, Reach::BelowLastFrame);
            let virt = |phys: u64| phys.wrapping_add(s.offset);
            let ends = |r: &PhysRange| (virt(r.start().get()), virt(r.last().get()));
            let any = |f: &dyn Fn(&PhysRange) -> bool| s.requests.iter().any(f);
            let pairs = |f: &dyn Fn(&PhysRange, &PhysRange) -> bool| {
                s.requests.windows(2).any(|w| f(&w[0], &w[1]))
            };
            assert!((1..=13).contains(&s.requests.len()));
            note("five levels", s.five_levels);
            note("four levels", !s.five_levels);
            note("gbpages", s.gbpages);
            note("nogbpages", !s.gbpages);
            note("high offset", s.offset > 1 << 63);
            note("kernel map", s.offset > KERNEL_MAP - GIB);
            note("low offset", s.offset != 0 && s.offset < 1 << 63);
            note("encrypted", s.encryption_mask != 0);
            note("12 requests", s.requests.len() == 12);
            note("one byte", any(&|r| r.len() == 1));
            note("a whole GiB", any(&|r| r.len() == GIB && r.start().get() % GIB == 0));
            note("TiBs", any(&|r| r.len() > 2 * TIB));
            note("inside one frame", any(&|r| r.len() < FRAME && r.start().get() % FRAME != 0));
            note("over 1 GiB", any(&|r| ends(r).0 / GIB != ends(r).1 / GIB));
            note("over 512 GiB", any(&|r| ends(r).0 >> 39 != ends(r).1 >> 39));
            note("over 256 TiB", any(&|r| ends(r).0 >> 48 != ends(r).1 >> 48));
            note("adjacent", pairs(&|a, b| a.end() == b.start()));
            note("adjacent, backwards", pairs(&|a, b| b.end() == a.start()));
            note("repeated", pairs(&|a, b| a == b));
            note("overlapping", pairs(&|a, b| a != b && a.intersects(*b)));
            note("at the limit", any(&|r| r.end().get() == 1 << s.maxphyaddr));
            note("byte 0", any(&|r| r.start().get() == 0));
        }
        for (what, times) in seen {
            assert!(times >= 20, "{what}: {times} of 20,000");
        }
    }
}
