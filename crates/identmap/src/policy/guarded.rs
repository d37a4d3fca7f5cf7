//! Our own rule: the largest leaf that touches no forbidden byte.
//!
//! A leaf is *admissible* if every 4 KiB page of it is: requested, or allowed by the
//! slack, and free of forbidden bytes. A table can be saved exactly where the frame it
//! would stand for is admissible as a whole, and each frame decides for itself: so
//! taking the largest admissible leaf around every requested page gives the least
//! number of tables that any such map can have.

use crate::addr::{PageSize, PhysAddr, PhysRange};
use crate::config::Config;
use crate::plan_error::PlanError;
use crate::slots::{Minus, RunSink, Slot, sort_and_merge};

use super::{Guard, Slack};

/// Requests, forbidden ranges, the extent that slack allows, and the runs: a run begins where
/// a request does or at one of the four zone borders of an admissible stretch: 5 a request.
pub(super) fn slots(guard: &Guard<'_>, requests: usize) -> usize {
    let extent = match guard.slack {
        Slack::Ram(ram) => requests.saturating_add(ram.len()),
        Slack::None | Slack::Any => 1,
    };
    requests.saturating_mul(6).saturating_add(guard.forbidden.len()).saturating_add(extent)
}

pub(super) fn choose<'s>(
    config: &Config,
    guard: &Guard<'_>,
    requests: &[PhysRange],
    slots: &'s mut [Slot],
) -> Result<&'s [Slot], PlanError> {
    let (wanted, rest) = slots.split_at_mut(requests.len());
    let (forbidden, rest) = rest.split_at_mut(guard.forbidden.len());
    let wanted = pages(requests, wanted);
    let forbidden = pages(guard.forbidden, forbidden);
    if let Some(page) = first_shared_page(wanted, forbidden) {
        return Err(conflict(page, requests, guard.forbidden));
    }

    let (extent, runs): (&[Slot], &mut [Slot]) = match guard.slack {
        Slack::None => (wanted, rest),
        Slack::Any => {
            let (all, runs) = rest.split_at_mut(1);
            all[0] = Slot { start: PhysAddr::ZERO, end: config.phys_limit(), aux: 0 };
            (all, runs)
        }
        Slack::Ram(ram) => {
            let (extent, runs) = rest.split_at_mut(requests.len() + ram.len());
            let count = ram_and_wanted(ram, wanted, extent);
            (&extent[..count], runs)
        }
    };

    let mut sink = RunSink::new(runs);
    let mut next = 0;
    for admissible in Minus::new(extent, forbidden) {
        for (zone, size) in zones(admissible, config.gbpages) {
            while next < wanted.len() && wanted[next].end <= zone.start() {
                next += 1;
            }
            let mut i = next;
            while i < wanted.len() && wanted[i].start < zone.end() {
                let request = PhysRange::between(wanted[i].start, wanted[i].end);
                if let Some(part) = request.and_then(|request| request.intersection(zone)) {
                    sink.push(part, size).map_err(|_| PlanError::bound_exceeded())?;
                }
                next = i;
                i += 1;
            }
        }
        // Everything wanted lies below the end of this stretch: the rest of the extent is of no use.
        if wanted.last().is_none_or(|last| last.end <= admissible.end()) {
            break;
        }
    }
    Ok(sink.finish())
}

/// The 4 KiB pages that `ranges` touch, sorted and merged, at the front of `slots`.
fn pages<'s>(ranges: &[PhysRange], slots: &'s mut [Slot]) -> &'s [Slot] {
    for (slot, range) in slots.iter_mut().zip(ranges) {
        *slot = Slot::of(range.round_out(PageSize::Size4K));
    }
    let count = sort_and_merge(slots);
    &slots[..count]
}

/// Whole 4 KiB pages of RAM, and the wanted pages, sorted and merged; how many ranges are left.
fn ram_and_wanted(ram: &[PhysRange], wanted: &[Slot], extent: &mut [Slot]) -> usize {
    for (slot, range) in extent.iter_mut().zip(ram) {
        *slot = Slot::of(*range);
    }
    // Merged before it is rounded in: a page may be RAM by two entries that meet inside it.
    let merged = sort_and_merge(&mut extent[..ram.len()]);
    let mut count = 0;
    for i in 0..merged {
        let range = PhysRange::between(extent[i].start, extent[i].end);
        if let Some(pages) = range.and_then(|range| range.round_in(PageSize::Size4K)) {
            extent[count] = Slot::of(pages);
            count += 1;
        }
    }
    extent[count..count + wanted.len()].copy_from_slice(wanted);
    sort_and_merge(&mut extent[..count + wanted.len()])
}

/// An admissible stretch cut into the parts in which leaves of one size fit, in order.
fn zones(range: PhysRange, gbpages: bool) -> impl Iterator<Item = (PhysRange, PageSize)> {
    let (head, middle, tail) = cut(Some(range), PageSize::Size2M);
    let (left, giant, right) =
        if gbpages { cut(middle, PageSize::Size1G) } else { (middle, None, None) };
    [
        (head, PageSize::Size4K),
        (left, PageSize::Size2M),
        (giant, PageSize::Size1G),
        (right, PageSize::Size2M),
        (tail, PageSize::Size4K),
    ]
    .into_iter()
    .filter_map(|(zone, size)| zone.map(|zone| (zone, size)))
}

/// What lies before, in and after the whole frames of `size` in a range; all of it before if there are none.
fn cut(
    range: Option<PhysRange>,
    size: PageSize,
) -> (Option<PhysRange>, Option<PhysRange>, Option<PhysRange>) {
    let Some(range) = range else { return (None, None, None) };
    match range.round_in(size) {
        None => (Some(range), None, None),
        Some(whole) => {
            let (before, after) = range.subtract(whole);
            (before, Some(whole), after)
        }
    }
}

/// The first page in both of two sorted lists.
fn first_shared_page(a: &[Slot], b: &[Slot]) -> Option<PhysAddr> {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i].end <= b[j].start {
            i += 1;
        } else if b[j].end <= a[i].start {
            j += 1;
        } else {
            return Some(a[i].start.max(b[j].start));
        }
    }
    None
}

/// Names the first request and the first forbidden range that meet in `page`.
fn conflict(page: PhysAddr, requests: &[PhysRange], forbidden: &[PhysRange]) -> PlanError {
    let on_page = |ranges: &[PhysRange]| {
        ranges.iter().position(|range| range.round_out(PageSize::Size4K).contains(page))
    };
    match (on_page(requests), on_page(forbidden)) {
        (Some(index), Some(other)) => PlanError::Conflict {
            request: requests[index],
            index,
            forbidden: forbidden[other],
            page,
        },
        // The page came out of both lists.
        _ => PlanError::bound_exceeded(),
    }
}
