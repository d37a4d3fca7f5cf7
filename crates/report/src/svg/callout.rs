//! Labels above a picture, each with a line to what it speaks of.

use super::layout::{Label, PX, Rect, Role};
use super::text_width::{fitted, width};
use crate::picture::{Band, Look, Picture, Scale};
use crate::text::human_size;

/// Marks that are nearer than this share a label, where they say the same.
pub(super) const NEAR: u64 = 6 * PX;
/// The most rows of labels.
const MOST_ROWS: usize = 5;

/// Something that wants a label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    x: u64,
    look: Look,
    text: String,
}

/// The labels, and for each the place that its line leads to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Callouts {
    pub(super) labels: Vec<Label>,
    pub(super) targets: Vec<u64>,
    /// How many found no room.
    pub(super) more: Option<Label>,
    pub(super) height: u64,
}

/// The middle of a band.
pub(super) fn centre(band: &Band, scale: &Scale, left: u64) -> u64 {
    let (from, to) = scale.span(band.range);
    left + u64::midpoint(from, to.max(from + 4 * PX))
}

/// What wants a label, the worst first; each once.
pub(super) fn wanted(picture: &Picture, scale: &Scale, left: u64) -> Vec<Wanted> {
    let lanes = picture.groups().iter().flat_map(|group| &group.lanes);
    let bands = lanes.flat_map(|lane| &lane.bands).filter(|band| band.look.is_called_out());
    let mut found: Vec<(Wanted, u64)> = bands
        .map(|band| {
            let text = format!("{}, {}", band.label, human_size(band.range.len()));
            (Wanted { x: centre(band, scale, left), look: band.look, text }, band.range.len())
        })
        .collect();
    found.sort_by(|(a, a_len), (b, b_len)| {
        (b.look, b_len, a.x).cmp(&(a.look, a_len, b.x)).then_with(|| a.text.cmp(&b.text))
    });
    let mut out: Vec<Wanted> = Vec::new();
    for (wanted, _) in found {
        if !out.iter().any(|w| w.text == wanted.text && w.x.abs_diff(wanted.x) <= NEAR) {
            out.push(wanted);
        }
    }
    out
}

/// Finds a row for each: no label over another, no line through a label. What finds none is counted.
pub(super) fn place(
    wanted: &[Wanted],
    left: u64,
    full: u64,
    font: u64,
    line_height: u64,
) -> Callouts {
    let mut best = Rows::new(wanted.iter(), left, full, font, &Side::BY_LOOK);
    // Where that is too tight: steps, each label above the next one and beside its line.
    for (side, backwards) in [(Side::Right, true), (Side::Left, false)] {
        if best.dropped == 0 {
            break;
        }
        let mut steps: Vec<&Wanted> = wanted.iter().take(MOST_ROWS * 2).collect();
        steps.sort_by_key(|want| if backwards { u64::MAX - want.x } else { want.x });
        let other = if side == Side::Right { Side::Left } else { Side::Right };
        let mut rows = Rows::new(steps.iter().copied(), left, full, font, &[side, other]);
        rows.dropped += wanted.len() - steps.len();
        if rows.dropped < best.dropped {
            best = rows;
        }
    }
    best.finish(line_height, font)
}

/// A label that has its place. Rows are counted from the picture upwards.
struct Placed {
    row: usize,
    x: u64,
    w: u64,
    target: u64,
    text: String,
    look: Look,
}

/// Where a label lies over its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Middle,
    Right,
    Left,
}

impl Side {
    const BY_LOOK: [Side; 3] = [Side::Middle, Side::Right, Side::Left];
}

struct Rows {
    placed: Vec<Placed>,
    dropped: usize,
}

impl Rows {
    /// Each in its turn gets the lowest row that is free, on the first of these sides that is.
    fn new<'a>(
        wanted: impl Iterator<Item = &'a Wanted>,
        left: u64,
        full: u64,
        font: u64,
        sides: &[Side],
    ) -> Rows {
        let mut rows = Rows { placed: Vec::new(), dropped: 0 };
        for want in wanted {
            let text = fitted(&want.text, font, full - 2 * PX);
            let w = width(&text, font);
            // The line starts under the label, wherever that reaches to.
            let most = full.saturating_sub(w);
            let place = |side: Side| match side {
                Side::Middle => want.x.saturating_sub(w / 2).max(left.min(want.x)).min(most),
                Side::Right => want.x.saturating_sub(4 * PX).min(most),
                Side::Left => (want.x + 4 * PX).saturating_sub(w).min(most),
            };
            let mut tries =
                (0..MOST_ROWS).flat_map(|row| sides.iter().map(move |side| (row, place(*side))));
            match tries.find(|&(row, x)| rows.is_free(row, x, w, want.x)) {
                Some((row, x)) => {
                    rows.placed.push(Placed { row, x, w, target: want.x, text, look: want.look });
                }
                None => rows.dropped += 1,
            }
        }
        rows
    }

    fn is_free(&self, row: usize, x: u64, w: u64, target: u64) -> bool {
        let hits = |line: u64, x: u64, w: u64| line + 3 * PX >= x && line <= x + w + 3 * PX;
        self.placed.iter().all(|other| match row.cmp(&other.row) {
            std::cmp::Ordering::Equal => {
                x >= other.x + other.w + 8 * PX || other.x >= x + w + 8 * PX
            }
            // The other's line comes down through this row, or this one's through the other's.
            std::cmp::Ordering::Less => !hits(other.target, x, w),
            std::cmp::Ordering::Greater => !hits(target, other.x, other.w),
        })
    }

    fn finish(self, line_height: u64, font: u64) -> Callouts {
        let rows = self.placed.iter().map(|label| label.row + 1).max().unwrap_or(0) as u64;
        let mut out = Callouts::default();
        let mut top = 0;
        if self.dropped != 0 {
            let text = format!("and {} more: see the table", self.dropped);
            let at = Rect { x: 0, y: 0, w: width(&text, font), h: line_height };
            out.more = Some(Label { text, at, role: Role::More });
            top = line_height;
        }
        for label in self.placed {
            let y = top + (rows - 1 - label.row as u64) * line_height;
            let at = Rect { x: label.x, y, w: label.w, h: line_height };
            out.labels.push(Label { text: label.text, at, role: Role::Callout(label.look) });
            out.targets.push(label.target);
        }
        out.height = top + rows * line_height + if rows == 0 { 0 } else { 6 * PX };
        out
    }
}
