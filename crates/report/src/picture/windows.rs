//! Where to look closer: windows of GiBs and of 2 MiB frames around what was found.

use identmap::PhysRange;
use identmap_audit::{Finding, Severity};

const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

/// One window and the findings, by number, that it shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Zoom {
    pub(crate) window: PhysRange,
    pub(crate) findings: Vec<usize>,
}

/// The most windows that are drawn.
const MOST: usize = 16;
/// A window that is to show single frames is at most this wide.
const FINE: u64 = 16 * M;
/// And one that is to show GiBs.
const COARSE: u64 = 4 * G;

/// Windows for the findings that have a place and matter, the worst finding's first; and how many
/// findings are in none, because there are too many.
pub(crate) fn zooms(findings: &[Finding], limit: PhysRange) -> (Vec<Zoom>, usize) {
    let mut zooms: Vec<Zoom> = Vec::new();
    let mut left = 0;
    for (number, finding) in findings.iter().enumerate() {
        let Some(range) = finding.range.filter(|_| finding.severity > Severity::Info) else {
            continue;
        };
        let mut shown = false;
        for window in windows_of(range, limit) {
            if let Some(known) = zooms.iter_mut().find(|zoom| {
                zoom.window.covers(window) && zoom.window.len() <= window.len().saturating_mul(2)
            }) {
                known.findings.push(number);
                known.findings.dedup();
                shown = true;
            } else if zooms.len() < MOST {
                zooms.push(Zoom { window, findings: vec![number] });
                shown = true;
            }
        }
        left += usize::from(!shown);
    }
    (zooms, left)
}

/// A GiB window, then one or two windows of frames.
fn windows_of(range: PhysRange, limit: PhysRange) -> Vec<PhysRange> {
    let (start, end) = (range.start().get(), range.end().get());
    let mut out = Vec::new();
    if range.len() <= COARSE - 2 * G {
        out.extend(aligned(start, end, G, limit));
    } else {
        out.extend(aligned(start, start, G, limit));
        out.extend(aligned(end, end, G, limit));
    }
    if range.len() <= FINE - 4 * M {
        out.extend(aligned(start.saturating_sub(2 * M), end + 2 * M, 2 * M, limit));
    } else {
        for edge in [start, end] {
            out.extend(aligned(edge.saturating_sub(4 * M), edge + 4 * M, 2 * M, limit));
        }
    }
    out.dedup();
    out
}

/// The aligned window that holds both addresses, inside the limit.
fn aligned(start: u64, end: u64, to: u64, limit: PhysRange) -> Option<PhysRange> {
    let start = (start / to * to).max(limit.start().get());
    let end = end.max(start + 1).div_ceil(to) * to;
    PhysRange::new(start, end.min(limit.end().get().div_ceil(to) * to)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_audit::Confidence;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    fn finding(range: PhysRange) -> Finding {
        Finding::new("gap", Severity::Error, Confidence::Certain, "x", "y").at(range)
    }

    #[test]
    fn a_small_gap_has_its_gib_and_its_frames() {
        let gap = r(0xc7a0_1000, 0xc7a0_2000);
        let (zooms, left) = zooms(&[finding(gap)], r(0, 1 << 42));
        let windows: Vec<PhysRange> = zooms.iter().map(|zoom| zoom.window).collect();
        assert_eq!(windows, [r(0xc000_0000, 0x1_0000_0000), r(0xc780_0000, 0xc7e0_0000)]);
        assert_eq!(left, 0);
    }

    #[test]
    fn windows_hold_what_they_are_for_and_are_not_too_many() {
        let many: Vec<Finding> =
            (0..1000).map(|i| finding(r(i * 3 * G, i * 3 * G + (i + 1) * 4096))).collect();
        let (zooms, left) = zooms(&many, r(0, 1 << 52));
        assert!(zooms.len() <= MOST && left > 900);
        for zoom in &zooms {
            for &number in &zoom.findings {
                assert!(zoom.window.intersects(many[number].range.unwrap()));
            }
        }
    }

    #[test]
    fn the_edges_of_the_address_space() {
        for range in [r(0, 1), r((1 << 52) - 1, 1 << 52), PhysRange::ALL] {
            for window in windows_of(range, PhysRange::ALL) {
                assert!(PhysRange::ALL.covers(window) && window.intersects(range), "{window}");
            }
        }
    }
}
