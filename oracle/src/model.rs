//! A third opinion: Linux's two policies once more, as dull as can be, sharing nothing with identmap.
//!
//! One map of GiBs, each a leaf or a set of 2 MiB frames; every request is applied GiB by GiB. Slow,
//! and simple enough to be believed. When Linux and identmap differ, it says who stands alone.

use std::collections::BTreeMap;

use crate::picture::{LeafRun, Link, Picture, canonical};
use crate::sequence::Sequence;
use crate::source::{Behaviour, LinuxPolicy};

const GIB: u64 = 1 << 30;
const FRAME: u64 = 1 << 21;
const PS: u64 = 1 << 7;

/// What one entry of a PDPT holds.
enum Slot {
    Leaf,
    Frames([bool; 512]),
}

/// The tables that Linux would build for this sequence.
pub(crate) fn picture(sequence: &Sequence, behaviour: Behaviour, picture: &mut Picture) {
    let mut slots = BTreeMap::new();
    for request in &sequence.requests {
        let start = request.start().get().wrapping_add(sequence.offset);
        let last = request.last().get().wrapping_add(sequence.offset);
        for gib in start / GIB..=last / GIB {
            let first = start.max(gib * GIB);
            let last = last.min(gib * GIB + (GIB - 1));
            touch(&mut slots, sequence.gbpages, behaviour.policy, first, last);
        }
    }
    draw(&slots, sequence, behaviour, picture);
}

/// Applies the part of a request that lies in one GiB; both ends are inclusive.
fn touch(
    slots: &mut BTreeMap<u64, Slot>,
    gbpages: bool,
    policy: LinuxPolicy,
    first: u64,
    last: u64,
) {
    let whole = first % GIB == 0 && last % GIB == GIB - 1;
    let wants_leaf = gbpages && (whole || policy == LinuxPolicy::RoundOut);
    let slot = slots
        .entry(first / GIB)
        .or_insert_with(|| if wants_leaf { Slot::Leaf } else { Slot::Frames([false; 512]) });
    if let Slot::Frames(frames) = slot {
        for frame in first % GIB / FRAME..=last % GIB / FRAME {
            frames[frame as usize] = true;
        }
    }
}

fn draw(
    slots: &BTreeMap<u64, Slot>,
    sequence: &Sequence,
    behaviour: Behaviour,
    picture: &mut Picture,
) {
    let Sequence { five_levels, offset, encryption_mask, .. } = *sequence;
    let leaf_flags = sequence.leaf_flags | PS | encryption_mask;
    let table_flags = sequence.table_flags | encryption_mask;
    let upper_flags = table_flags | behaviour.upper_flags;
    let bits = if five_levels { 57 } else { 48 };

    // Tables are in the order of their entries' indices: the translated bits, low half first.
    let mut sorted: Vec<(u64, &Slot)> =
        slots.iter().map(|(gib, slot)| ((gib * GIB) & ((1 << bits) - 1), slot)).collect();
    sorted.sort_unstable_by_key(|&(linear, _)| linear);

    picture.clear();
    picture.tables = 1;
    let mut open = [None; 6];
    for (linear, slot) in sorted {
        let virt = canonical(five_levels, linear);
        let levels: &[(u8, u32)] = if five_levels { &[(5, 48), (4, 39)] } else { &[(4, 39)] };
        for &(level, shift) in levels {
            let index = Some(linear >> shift);
            if open[usize::from(level)] != index {
                open[usize::from(level)] = index;
                let virt = canonical(five_levels, linear >> shift << shift);
                picture.links.push(Link { level, virt, flags: upper_flags });
                picture.tables += 1;
            }
        }
        let leaf = |virt: u64, size| LeafRun {
            virt,
            phys: virt.wrapping_sub(offset),
            flags: leaf_flags,
            size,
            count: 1,
        };
        match slot {
            Slot::Leaf => picture.push_leaves(leaf(virt, GIB)),
            Slot::Frames(frames) => {
                picture.links.push(Link { level: 3, virt, flags: table_flags });
                picture.tables += 1;
                for index in (0..512).filter(|&i| frames[i as usize]) {
                    picture.push_leaves(leaf(virt + index * FRAME, FRAME));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::PhysRange;

    /// Counted by hand: a partial GiB, the whole of the same, and a whole one elsewhere.
    #[test]
    fn order_decides_under_exact_and_not_under_round_out() {
        let range = |start, end| PhysRange::new(start, end).unwrap();
        let partial = range(GIB + 5, GIB + 6);
        let whole = range(GIB, 2 * GIB);
        let mut sequence = Sequence {
            five_levels: true,
            gbpages: true,
            offset: 0,
            maxphyaddr: 52,
            leaf_flags: 0x163,
            table_flags: 0x63,
            encryption_mask: 0,
            requests: vec![partial, whole, range(1 << 49, (1 << 49) + GIB)],
        };
        let mut p = Picture::default();
        let counts =
            |p: &Picture| (p.tables, p.runs.iter().map(|r| (r.size, r.count)).collect::<Vec<_>>());
        let behaviour =
            |policy| Behaviour { policy, upper_flags: 0, last_slot: false, has_free: false };

        picture(&sequence, behaviour(LinuxPolicy::Exact), &mut p);
        assert_eq!(counts(&p), (6, vec![(FRAME, 512), (GIB, 1)]));
        picture(&sequence, behaviour(LinuxPolicy::RoundOut), &mut p);
        assert_eq!(counts(&p), (5, vec![(GIB, 1), (GIB, 1)]));

        sequence.requests.swap(0, 1);
        picture(&sequence, behaviour(LinuxPolicy::Exact), &mut p);
        assert_eq!(counts(&p), (5, vec![(GIB, 1), (GIB, 1)]));

        sequence.gbpages = false;
        picture(&sequence, behaviour(LinuxPolicy::RoundOut), &mut p);
        assert_eq!(counts(&p), (7, vec![(FRAME, 512), (FRAME, 512)]));
    }
}
