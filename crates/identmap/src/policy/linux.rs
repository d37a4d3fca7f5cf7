//! Linux's two rules, computed from ranges.

use crate::addr::{PageSize, PhysAddr, PhysRange};
use crate::config::Config;
use crate::plan_error::PlanError;
use crate::slots::{RunSink, Slot, sort_and_merge};

/// Every frame of the largest allowed leaf that a request touches.
///
/// Source: `ident_pud_init()` of Linux 5.10 (`addr & PUD_MASK`, then a leaf), and
/// `ident_pmd_init()` where 1 GiB leaves are not allowed. The order of requests does not matter.
pub(super) fn round_out<'s>(
    config: &Config,
    requests: &[PhysRange],
    slots: &'s mut [Slot],
) -> &'s [Slot] {
    let size = config.largest_leaf();
    let count = covered(requests, size, slots);
    for slot in &mut slots[..count] {
        slot.aux = u64::from(size.shift());
    }
    &slots[..count]
}

/// Slots for [`exact`]: the covered ranges, two candidates a request, and the runs. A run
/// begins where a covered range does or at either edge of a candidate: 5 a request at most.
pub(super) fn exact_slots(requests: usize) -> usize {
    requests.saturating_mul(8)
}

/// A 1 GiB leaf where the first request that touches a GiB covers all of it, else 2 MiB leaves.
///
/// Source: `ident_pud_init()` of Linux 6.12: a leaf is stored if the slot is empty and
/// both `addr` and `next` are GiB aligned; once a PMD table stands there it stays, and
/// later requests fill it.
///
/// A GiB ends as a table exactly if, in order of requests, somebody touches a part of
/// it before anybody covers it. Only the GiBs at the two ends of a request can be
/// touched in part, so there are at most two candidates a request; each is settled by
/// the first request that covers it, found by painting the sorted candidates in order
/// of requests (an interval union-find, so each is visited once).
pub(super) fn exact<'s>(
    config: &Config,
    requests: &[PhysRange],
    slots: &'s mut [Slot],
) -> Result<&'s [Slot], PlanError> {
    if !config.gbpages {
        return Ok(round_out(config, requests, slots));
    }
    let (covered_slots, rest) = slots.split_at_mut(requests.len());
    let (candidates, runs) = rest.split_at_mut(2 * requests.len());
    let covered_count = covered(requests, PageSize::Size2M, covered_slots);
    let candidate_count = touched_in_part(requests, candidates);
    let candidates = &mut candidates[..candidate_count];
    settle(requests, candidates);

    let mut tables = candidates.iter().filter(|c| is_table(c)).map(|c| c.start).peekable();
    let mut sink = RunSink::new(runs);
    for slot in &covered_slots[..covered_count] {
        let mut cursor = slot.start;
        while let Some(left) = PhysRange::between(cursor, slot.end) {
            let gib = cursor.align_down(PageSize::Size1G);
            while tables.next_if(|&table| table < gib).is_some() {}
            let next_table = tables.peek().copied().unwrap_or(PhysAddr::MAX);
            let (end, size) = if next_table == gib {
                let gib_end = gib.checked_add(PageSize::Size1G.bytes()).unwrap_or(PhysAddr::MAX);
                (slot.end.min(gib_end), PageSize::Size2M)
            } else {
                (slot.end.min(next_table), PageSize::Size1G)
            };
            let piece = PhysRange::between(cursor, end).unwrap_or(left);
            sink.push(piece, size).map_err(|_| PlanError::bound_exceeded())?;
            cursor = piece.end();
        }
    }
    Ok(sink.finish())
}

/// The requests rounded out to `size`, sorted and merged; how many are left.
fn covered(requests: &[PhysRange], size: PageSize, slots: &mut [Slot]) -> usize {
    for (slot, request) in slots.iter_mut().zip(requests) {
        *slot = Slot::of(request.round_out(size));
    }
    sort_and_merge(&mut slots[..requests.len()])
}

/// The GiBs that some request touches in part, sorted, each with the index of the
/// first such request in `aux`; how many there are.
fn touched_in_part(requests: &[PhysRange], candidates: &mut [Slot]) -> usize {
    let mut count = 0;
    for (index, request) in requests.iter().enumerate() {
        for edge in [request.start(), request.end()] {
            if !edge.is_aligned(PageSize::Size1G) {
                let gib = edge.align_down(PageSize::Size1G);
                candidates[count] = Slot { start: gib, end: gib, aux: index as u64 };
                count += 1;
            }
        }
    }
    candidates[..count].sort_unstable_by_key(|c| (c.start, c.aux));
    let mut kept = 0;
    for i in 0..count {
        if kept == 0 || candidates[i].start != candidates[kept - 1].start {
            candidates[kept] = candidates[i];
            kept += 1;
        }
    }
    kept
}

/// Set once a request that covers the candidate's whole GiB was found.
const SETTLED: u64 = 1 << 63;
/// With [`SETTLED`]: it came too late, the GiB already had a table.
const TABLE: u64 = 1 << 62;
/// With [`SETTLED`]: where to look for the next unsettled candidate.
const NEXT: u64 = TABLE - 1;

/// Whether the settled (or never covered) candidate ends as a table of 2 MiB leaves.
fn is_table(candidate: &Slot) -> bool {
    candidate.aux & SETTLED == 0 || candidate.aux & TABLE != 0
}

/// Finds for each candidate whether the first request that covers it comes before the
/// first that touches a part.
fn settle(requests: &[PhysRange], candidates: &mut [Slot]) {
    for (index, request) in requests.iter().enumerate() {
        let Some(full) = request.round_in(PageSize::Size1G) else { continue };
        let first = candidates.partition_point(|c| c.start < full.start());
        let mut i = unsettled_from(candidates, first);
        while i < candidates.len() && candidates[i].start < full.end() {
            let came_late = candidates[i].aux < index as u64;
            let verdict = if came_late { SETTLED | TABLE } else { SETTLED };
            candidates[i].aux = verdict | (i as u64 + 1);
            i = unsettled_from(candidates, i + 1);
        }
    }
}

/// The first unsettled candidate at or after `from`, shortening the path for the next search.
fn unsettled_from(candidates: &mut [Slot], from: usize) -> usize {
    let mut root = from;
    while root < candidates.len() && candidates[root].aux & SETTLED != 0 {
        root = (candidates[root].aux & NEXT) as usize;
    }
    let mut i = from;
    while i < root {
        let next = (candidates[i].aux & NEXT) as usize;
        candidates[i].aux = candidates[i].aux & !NEXT | root as u64;
        i = next;
    }
    root
}
