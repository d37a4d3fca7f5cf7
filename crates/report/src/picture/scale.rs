//! Addresses to places on paper. Linear, but for long stretches of nothing, which are cut out.
//!
//! Integers only, so that a picture is the same on every machine. The unit is a hundredth: of a pixel,
//! or of a column.

use identmap::PhysRange;

/// What must hold of a scale's width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// Of the whole.
    pub(crate) width: u64,
    /// Of a cut.
    pub(crate) cut: u64,
    /// The least that a stretch between cuts gets.
    pub(crate) least: u64,
}

/// A stretch that is drawn; between two of them lies a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) range: PhysRange,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Maps addresses of a window to `0..width`, monotonously.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Scale {
    pieces: Vec<Piece>,
}

/// The most stretches that a scale is cut into.
const MOST_PIECES: usize = 8;

impl Scale {
    /// Without cuts.
    pub(crate) fn linear(window: PhysRange, width: u64) -> Scale {
        Scale { pieces: vec![Piece { range: window, from: 0, to: width }] }
    }

    /// With cuts where more than a twelfth of what is `occupied` (sorted, disjoint) is empty.
    pub(crate) fn cut(window: PhysRange, occupied: &[PhysRange], measure: Measure) -> Scale {
        let occupied: Vec<PhysRange> =
            occupied.iter().filter_map(|range| range.intersection(window)).collect();
        let total: u64 = occupied.iter().map(|range| range.len()).sum();
        let mut holes: Vec<PhysRange> = occupied
            .windows(2)
            .filter_map(|pair| PhysRange::between(pair[0].end(), pair[1].start()))
            .filter(|hole| hole.len() > total / 12)
            .collect();
        holes.sort_by_key(|hole| core::cmp::Reverse((hole.len(), hole.start())));
        holes.truncate(MOST_PIECES - 1);
        holes.sort_by_key(|hole| hole.start());

        let mut stretches = Vec::new();
        let mut start = window.start();
        for hole in &holes {
            stretches.extend(PhysRange::between(start, hole.start()));
            start = hole.end();
        }
        stretches.extend(PhysRange::between(start, window.end()));

        let cuts = measure.cut * (stretches.len() as u64 - 1);
        let widths = shares(&stretches, measure.width.saturating_sub(cuts), measure.least);
        let mut pieces = Vec::new();
        let mut from = 0;
        for (range, width) in stretches.into_iter().zip(widths) {
            pieces.push(Piece { range, from, to: from + width });
            from += width + measure.cut;
        }
        Scale { pieces }
    }

    /// The stretches between cuts.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Where an address is; one in a cut is at its near edge.
    pub(crate) fn at(&self, addr: u64) -> u64 {
        let next = self.pieces.partition_point(|piece| piece.range.start().get() <= addr);
        let Some(piece) = next.checked_sub(1).map(|index| self.pieces[index]) else {
            return self.pieces.first().map_or(0, |piece| piece.from);
        };
        let into = (addr - piece.range.start().get()).min(piece.range.len());
        let width = u128::from(piece.to - piece.from);
        piece.from + (u128::from(into) * width / u128::from(piece.range.len())) as u64
    }

    /// Where a range begins and ends.
    pub(crate) fn span(&self, range: PhysRange) -> (u64, u64) {
        (self.at(range.start().get()), self.at(range.end().get()))
    }
}

/// Shares of `width` by length, each at least `least` where there is room for that.
fn shares(stretches: &[PhysRange], width: u64, least: u64) -> Vec<u64> {
    let least = least.min(width / (stretches.len() as u64).max(1));
    let mut small = vec![false; stretches.len()];
    loop {
        let taken = least * small.iter().filter(|&&is| is).count() as u64;
        let rest = u128::from(width - taken);
        let large =
            |index: usize| if small[index] { 0 } else { u128::from(stretches[index].len()) };
        let total: u128 = (0..stretches.len()).map(large).sum();
        let share = |index: usize| (large(index) * rest / total.max(1)) as u64;
        let new: Vec<usize> =
            (0..stretches.len()).filter(|&i| !small[i] && share(i) < least).collect();
        if new.is_empty() {
            return (0..stretches.len()).map(|i| if small[i] { least } else { share(i) }).collect();
        }
        for index in new {
            small[index] = true;
        }
    }
}

/// An address as a size from 0, exact, in the largest unit that needs at most two decimals: `3.25 GiB`,
/// `4076 MiB`, `0xfee01234` where there is no such.
pub(crate) fn exact_size(addr: u64) -> String {
    const UNITS: [(u32, &str); 5] =
        [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    if addr == 0 {
        return "0".to_owned();
    }
    for (shift, unit) in UNITS {
        let quarter = 1u64 << (shift - 2);
        let whole = addr >> shift;
        if addr.is_multiple_of(quarter) && (whole != 0 || addr.is_multiple_of(1 << shift)) {
            let decimals = ["", ".25", ".5", ".75"][(addr / quarter % 4) as usize];
            if whole < 1_000_000 {
                return format!("{whole}{decimals} {unit}");
            }
        }
    }
    format!("{addr:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = 1 << 30;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    const MEASURE: Measure = Measure { width: 80_000, cut: 1_800, least: 2_000 };

    #[test]
    fn order_is_kept_and_everything_fits() {
        let occupied = [r(0, 15 * G), r(1012 * G, 1024 * G), r(60_000 * G, 60_001 * G)];
        let scale = Scale::cut(r(0, 60_001 * G), &occupied, MEASURE);
        assert_eq!(scale.pieces().len(), 3);
        let mut last = 0;
        for piece in scale.pieces() {
            assert!(piece.from >= last && piece.to - piece.from >= MEASURE.least);
            last = piece.to;
        }
        assert!(last <= MEASURE.width && last > MEASURE.width - 1_000, "{last}");
        let places: Vec<u64> = (0..60_001).map(|gib| scale.at(gib * G)).collect();
        assert!(places.is_sorted());
    }

    #[test]
    fn small_holes_are_not_cut() {
        let occupied = [r(0, 3 * G), r(4 * G, 4096 * G)];
        let scale = Scale::cut(r(0, 4096 * G), &occupied, MEASURE);
        assert_eq!(scale, Scale::linear(r(0, 4096 * G), MEASURE.width));
    }

    #[test]
    fn a_window_of_nothing_and_the_widest_there_is() {
        let all = PhysRange::ALL;
        assert_eq!(Scale::cut(all, &[], MEASURE), Scale::linear(all, MEASURE.width));
        let ends = [r(0, 4096), r(all.end().get() - 4096, all.end().get())];
        let scale = Scale::cut(all, &ends, MEASURE);
        assert_eq!(scale.at(all.end().get()), scale.pieces()[1].to);
        assert_eq!(scale.at(u64::MAX), scale.pieces()[1].to);
    }

    #[test]
    fn addresses_as_sizes() {
        for (addr, text) in [
            (0, "0"),
            (13 << 28, "3.25 GiB"),
            (0xfec0_0000, "4076 MiB"),
            (4 << 40, "4 TiB"),
            (0xfd_0000_0000, "1012 GiB"),
            (0x9_fc00, "639 KiB"),
            (0x1234, "0x1234"),
            (512 << 20, "512 MiB"),
        ] {
            assert_eq!(exact_size(addr), text);
        }
    }
}
