//! Room that the caller lends to a plan: sorted ranges while it is made, runs when it is done.

use crate::addr::{PageSize, PhysAddr, PhysRange};

/// A place for one range or one run. A [`Plan`](crate::Plan) needs a slice of
/// them; [`Plan::slots_needed`](crate::Plan::slots_needed) says how many.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub(crate) start: PhysAddr,
    pub(crate) end: PhysAddr,
    pub(crate) aux: u64,
}

impl Slot {
    /// An unused slot, to fill an array with.
    pub const EMPTY: Slot = Slot { start: PhysAddr::ZERO, end: PhysAddr::ZERO, aux: 0 };

    pub(crate) fn of(range: PhysRange) -> Slot {
        Slot { start: range.start(), end: range.end(), aux: 0 }
    }
}

/// Sorts ranges and merges those that overlap or touch; returns how many are left at the front.
pub(crate) fn sort_and_merge(slots: &mut [Slot]) -> usize {
    slots.sort_unstable_by_key(|s| s.start);
    let mut kept = 0;
    for i in 0..slots.len() {
        let next = slots[i];
        if kept > 0 && next.start <= slots[kept - 1].end {
            let last = &mut slots[kept - 1];
            last.end = last.end.max(next.end);
        } else {
            slots[kept] = next;
            kept += 1;
        }
    }
    kept
}

/// Sorted, disjoint ranges `u` without the sorted, disjoint ranges `f`, in order.
pub(crate) struct Minus<'s> {
    from: &'s [Slot],
    without: &'s [Slot],
    rest: Option<PhysRange>,
}

impl<'s> Minus<'s> {
    pub(crate) fn new(from: &'s [Slot], without: &'s [Slot]) -> Minus<'s> {
        Minus { from, without, rest: None }
    }
}

impl Iterator for Minus<'_> {
    type Item = PhysRange;

    fn next(&mut self) -> Option<PhysRange> {
        loop {
            let current = if let Some(range) = self.rest.take() {
                range
            } else {
                let (first, others) = self.from.split_first()?;
                self.from = others;
                let Some(range) = PhysRange::between(first.start, first.end) else { continue };
                range
            };
            while self.without.first().is_some_and(|f| f.end <= current.start()) {
                self.without = &self.without[1..];
            }
            let hole = self.without.first().and_then(|f| PhysRange::between(f.start, f.end));
            let Some(hole) = hole.filter(|hole| hole.intersects(current)) else {
                return Some(current);
            };
            let (below, above) = current.subtract(hole);
            self.rest = above;
            if below.is_some() {
                return below;
            }
        }
    }
}

/// Collects runs in ascending order into slots, merging neighbours of one size.
pub(crate) struct RunSink<'s> {
    slots: &'s mut [Slot],
    len: usize,
}

/// The slots were fewer than the bound that the plan checked: a bug in that bound, never a panic.
pub(crate) struct SinkFull;

impl<'s> RunSink<'s> {
    pub(crate) fn new(slots: &'s mut [Slot]) -> RunSink<'s> {
        RunSink { slots, len: 0 }
    }

    /// Adds the leaves of `size` that touch `range`.
    pub(crate) fn push(&mut self, range: PhysRange, size: PageSize) -> Result<(), SinkFull> {
        let run = range.round_out(size);
        if let Some(last) = self.len.checked_sub(1).and_then(|i| self.slots.get_mut(i))
            && last.aux == u64::from(size.shift())
            && run.start() <= last.end
        {
            last.end = last.end.max(run.end());
            return Ok(());
        }
        let slot = self.slots.get_mut(self.len).ok_or(SinkFull)?;
        *slot = Slot { aux: u64::from(size.shift()), ..Slot::of(run) };
        self.len += 1;
        Ok(())
    }

    pub(crate) fn finish(self) -> &'s [Slot] {
        let RunSink { slots, len } = self;
        &slots[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots_of(bits: u8) -> Vec<Slot> {
        (0..8)
            .filter(|b| bits >> b & 1 == 1)
            .map(|b| Slot::of(PhysRange::new(b, b + 1).unwrap()))
            .collect()
    }

    /// Every pair of sets of eight bytes.
    #[test]
    fn minus_agrees_with_sets_of_bytes() {
        for u in 0..=255u8 {
            for f in 0..=255u8 {
                let (mut us, mut fs) = (slots_of(u), slots_of(f));
                let (nu, nf) = (sort_and_merge(&mut us), sort_and_merge(&mut fs));
                let mut got = 0u8;
                let mut last_end = PhysAddr::ZERO;
                for range in Minus::new(&us[..nu], &fs[..nf]) {
                    assert!(range.start() > last_end || last_end == PhysAddr::ZERO);
                    last_end = range.end();
                    for b in range.start().get()..range.end().get() {
                        got |= 1 << b;
                    }
                }
                assert_eq!(got, u & !f);
            }
        }
    }
}
