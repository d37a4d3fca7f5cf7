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
    left + (from + to.max(from + 4 * PX)) / 2
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

/// Finds a row for each: no label over another, no line through a label.
pub(super) fn place(
    wanted: &[Wanted],
    left: u64,
    full: u64,
    font: u64,
    line_height: u64,
) -> Callouts {
    // Rows are counted from the picture upwards; y follows when their number is known.
    let mut placed: Vec<(usize, u64, u64, u64, String, Look)> = Vec::new();
    let mut dropped = 0;
    for want in wanted {
        let text = fitted(&want.text, font, full - 2 * PX);
        let wide = width(&text, font);
        // Where the line starts must be over the label.
        let from = want.x.saturating_sub(wide / 2).min(full.saturating_sub(wide));
        let from = if from < left && want.x >= left + wide / 8 {
            left.min(full.saturating_sub(wide)).min(want.x)
        } else {
            from
        };
        let free = |row: usize| {
            placed.iter().all(|(other, x, w, target, ..)| {
                let apart = from >= x + w + 8 * PX || *x >= from + wide + 8 * PX;
                match row.cmp(other) {
                    std::cmp::Ordering::Equal => apart,
                    // The other's line comes down through this row.
                    std::cmp::Ordering::Less => {
                        *target + 3 * PX < from || *target > from + wide + 3 * PX
                    }
                    // This line goes down through the other's row.
                    std::cmp::Ordering::Greater => want.x + 3 * PX < *x || want.x > x + w + 3 * PX,
                }
            })
        };
        match (0..MOST_ROWS).find(|&row| free(row)) {
            Some(row) => placed.push((row, from, wide, want.x, text, want.look)),
            None => dropped += 1,
        }
    }
    let rows = placed.iter().map(|(row, ..)| row + 1).max().unwrap_or(0) as u64;
    let mut out = Callouts::default();
    let mut top = 0;
    if dropped != 0 {
        let text = format!("and {dropped} more: see the table");
        let at = Rect { x: 0, y: 0, w: width(&text, font), h: line_height };
        out.more = Some(Label { text, at, role: Role::More });
        top = line_height;
    }
    for (row, x, w, target, text, look) in placed {
        let y = top + (rows - 1 - row as u64) * line_height;
        let at = Rect { x, y, w, h: line_height };
        out.labels.push(Label { text, at, role: Role::Callout(look) });
        out.targets.push(target);
    }
    out.height = top + rows * line_height + if rows == 0 { 0 } else { 6 * PX };
    out
}
