//! Where everything goes. Units are hundredths of a pixel.

use identmap::PhysRange;

use super::callout;
use super::text_width::{fitted, lines, width};
use crate::picture::{Band, Lane, Look, Picture, Scale, exact_size};

/// A pixel.
pub(super) const PX: u64 = 100;

/// What a picture is laid out for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sheet {
    /// Pixels, of the whole.
    pub(crate) width: u64,
    /// Pixels, of the lanes' names.
    pub(crate) names: u64,
    /// Pixels, of the text.
    pub(crate) font: u64,
}

impl Sheet {
    /// For screens of a desk, and for paper.
    pub(crate) const WIDE: Sheet = Sheet { width: 960, names: 92, font: 13 };
    /// For a telephone held upright.
    pub(crate) const NARROW: Sheet = Sheet { width: 344, names: 80, font: 12 };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rect {
    pub(crate) x: u64,
    pub(crate) y: u64,
    pub(crate) w: u64,
    pub(crate) h: u64,
}

impl Rect {
    pub(crate) fn overlaps(&self, other: &Rect) -> bool {
        self.x < other.x + other.w
            && other.x < self.x + self.w
            && self.y < other.y + other.h
            && other.y < self.y + self.h
    }
}

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Title,
    Name,
    Tick,
    Inside(Look),
    Callout(Look),
    More,
}

/// A text, and the box that it surely fits into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Label {
    pub(crate) text: String,
    pub(crate) at: Rect,
    pub(crate) role: Role,
}

/// A band as it is drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) at: Rect,
    pub(crate) look: Look,
    /// What it says when it is pointed at.
    pub(crate) tip: String,
}

/// A vertical line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) x: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A picture, laid out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Drawing {
    pub(crate) width: u64,
    pub(crate) height: u64,
    pub(crate) font: u64,
    /// Backgrounds of the lanes, piece by piece.
    pub(crate) grounds: Vec<Rect>,
    pub(crate) cuts: Vec<Rect>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) labels: Vec<Label>,
    /// From a callout to what it speaks of.
    pub(crate) leaders: Vec<Line>,
    /// Further down, inside the lanes.
    pub(crate) guides: Vec<Line>,
    pub(crate) ticks: Vec<Line>,
}

const LANE: u64 = 22 * PX;
const GAP: u64 = 5 * PX;

impl Drawing {
    /// Lays out what `picture` has in `window`, on this scale, which is as wide as the sheet's plot.
    pub(crate) fn new(picture: &Picture, scale: &Scale, sheet: Sheet) -> Drawing {
        let line_height = (sheet.font + 5) * PX;
        let left = sheet.names * PX;
        let full = sheet.width * PX;
        let mut drawing = Drawing {
            width: full,
            height: 0,
            font: sheet.font,
            grounds: Vec::new(),
            cuts: Vec::new(),
            blocks: Vec::new(),
            labels: Vec::new(),
            leaders: Vec::new(),
            guides: Vec::new(),
            ticks: Vec::new(),
        };
        let wanted = callout::wanted(picture, scale, left);
        let callouts = callout::place(&wanted, left, full, sheet.font, line_height);
        let mut y = callouts.height;
        let top = y;
        let (mut marks, mut lanes) = (Vec::new(), Vec::new());
        for (number, group) in picture.groups().iter().enumerate() {
            if number != 0 {
                y += 2 * GAP;
            }
            for text in lines(&group.heading(), sheet.font, full) {
                let at = Rect { x: 0, y, w: width(&text, sheet.font), h: line_height };
                drawing.labels.push(Label { text, at, role: Role::Title });
                y += line_height;
            }
            for lane in &group.lanes {
                drawing.lane(lane, scale, sheet, y);
                lanes.push(y);
                marks.extend(
                    lane.bands
                        .iter()
                        .filter(|band| band.look.is_called_out())
                        .map(|band| (callout::centre(band, scale, left), y)),
                );
                y += LANE + GAP;
            }
        }
        for (label, x) in callouts.labels.into_iter().zip(callouts.targets) {
            // Down to the lowest lane that has the mark, but not through the words between lanes.
            let from = label.at.y + label.at.h;
            drawing.leaders.push(Line { x, from, to: top });
            let last = marks.iter().filter(|(mark, _)| mark.abs_diff(x) <= callout::NEAR);
            let last = last.map(|(_, y)| *y).max().unwrap_or(0);
            for &y in lanes.iter().take_while(|y| **y <= last) {
                drawing.guides.push(Line { x, from: y, to: y + LANE });
            }
            drawing.labels.push(label);
        }
        drawing.labels.extend(callouts.more);
        drawing.axis(scale, sheet, y);
        drawing.height = y + line_height + 7 * PX;
        drawing
    }

    fn lane(&mut self, lane: &Lane, scale: &Scale, sheet: Sheet, y: u64) {
        let left = sheet.names * PX;
        let text = fitted(lane.name, sheet.font, left - 8 * PX);
        let high = (sheet.font + 3) * PX;
        let at = Rect { x: 0, y: y + (LANE - high) / 2, w: width(&text, sheet.font), h: high };
        self.labels.push(Label { text, at, role: Role::Name });
        let pieces = scale.pieces();
        for piece in pieces {
            self.grounds.push(Rect { x: left + piece.from, y, w: piece.to - piece.from, h: LANE });
        }
        for pair in pieces.windows(2) {
            let (x, w) = (left + pair[0].to, pair[1].from - pair[0].to);
            self.cuts.push(Rect { x, y, w, h: LANE });
        }
        let blocks = blocks(&lane.bands, scale, left, sheet.width * PX, y);
        for (index, (block, label)) in blocks.iter().enumerate() {
            // What it is, or at least of which kind.
            let fits = |text: &&str| width(text, sheet.font) + 8 * PX <= block.at.w;
            let texts = [label.as_str(), block.look.name()];
            let Some(text) = texts.into_iter().filter(|_| !label.is_empty()).find(fits) else {
                continue;
            };
            let wide = width(text, sheet.font);
            let at = Rect {
                x: block.at.x + (block.at.w - wide) / 2,
                y: y + (LANE - high) / 2,
                w: wide,
                h: high,
            };
            let covered = blocks
                .iter()
                .enumerate()
                .any(|(other, (over, _))| other != index && over.at.overlaps(&at));
            let covered = covered || self.cuts.iter().any(|cut| cut.overlaps(&at));
            let role = Role::Inside(block.look);
            if !covered {
                self.labels.push(Label { text: text.to_owned(), at, role });
            }
        }
        self.blocks.extend(blocks.into_iter().map(|(block, _)| block));
    }

    fn axis(&mut self, scale: &Scale, sheet: Sheet, y: u64) {
        let left = sheet.names * PX;
        let room = sheet.width * PX;
        let mut all = ticks(scale, 70 * PX);
        // What is labelled first: the ends, then where stretches begin, then the rest in order.
        let starts: Vec<u64> = scale.pieces().iter().map(|p| p.range.start().get()).collect();
        let end = scale.pieces().last().map(|p| p.range.end().get());
        all.sort_by_key(|addr| {
            let rank = if starts.first() == Some(addr) {
                0
            } else if Some(*addr) == end {
                1
            } else if starts.contains(addr) {
                2
            } else {
                3
            };
            (rank, *addr)
        });
        let mut taken: Vec<Rect> = Vec::new();
        for addr in all {
            let x = left + scale.at(addr);
            let text = exact_size(addr);
            let wide = width(&text, sheet.font);
            let at = Rect {
                x: x.saturating_sub(wide / 2).clamp(left, room.saturating_sub(wide).max(left)),
                y: y + 6 * PX,
                w: wide,
                h: (sheet.font + 4) * PX,
            };
            let spaced = Rect { x: at.x.saturating_sub(4 * PX), w: at.w + 8 * PX, ..at };
            let fits = at.x + at.w <= room && !taken.iter().any(|other| other.overlaps(&spaced));
            let high = if fits { 5 * PX } else { 3 * PX };
            self.ticks.push(Line { x, from: y, to: y + high });
            if fits {
                taken.push(at);
                self.labels.push(Label { text, at, role: Role::Tick });
            }
        }
    }
}

/// The bands of a lane as blocks: what is smaller than can be seen is made larger, what touches and is
/// of one kind is made one. The more important come later, and so lie above.
fn blocks(bands: &[Band], scale: &Scale, left: u64, end: u64, y: u64) -> Vec<(Block, String)> {
    // By look, the block that is being made: from, to, label, how many bands, bytes.
    let mut open: Vec<(Look, u64, u64, String, Vec<PhysRange>)> = Vec::new();
    let mut done = Vec::new();
    for band in bands {
        let (from, to) = scale.span(band.range);
        let least = if band.look.is_mark() { 4 * PX } else { PX };
        let to = to.max(from + least).min(end - left);
        let from = from.min(to.saturating_sub(least));
        match open.iter_mut().find(|(look, ..)| *look == band.look) {
            Some((_, _, until, label, ranges)) if from <= *until + PX / 2 => {
                *until = to.max(*until);
                if *label != band.label {
                    label.clear();
                }
                ranges.push(band.range);
            }
            Some(known) => {
                let new = (band.look, from, to, band.label.clone(), vec![band.range]);
                done.push(std::mem::replace(known, new));
            }
            None => open.push((band.look, from, to, band.label.clone(), vec![band.range])),
        }
    }
    done.extend(open);
    done.sort_by_key(|(look, from, ..)| (*look, *from));
    done.into_iter()
        .map(|(look, from, to, label, ranges)| {
            let at = Rect { x: left + from, y, w: to - from, h: LANE };
            let tip = match ranges[..] {
                [range] => format!("{}: {range}", look.name()),
                _ => format!("{}: {} ranges", look.name(), ranges.len()),
            };
            (Block { at, look, tip }, label)
        })
        .collect()
}

/// Addresses that deserve a mark: where stretches begin, the end, and multiples of a power of two that
/// are at least `apart`. Ascending.
pub(crate) fn ticks(scale: &Scale, apart: u64) -> Vec<u64> {
    let mut out = Vec::new();
    for piece in scale.pieces() {
        let (start, len) = (piece.range.start().get(), piece.range.len());
        out.push(start);
        let wide = (piece.to - piece.from).max(1);
        // Bytes per `apart`, rounded up to a power of two.
        let least = (u128::from(len) * u128::from(apart)).div_ceil(u128::from(wide));
        let step = u64::try_from(least.max(1)).unwrap_or(u64::MAX / 2).next_power_of_two();
        let mut addr = start / step * step;
        while let Some(next) = addr.checked_add(step).filter(|next| *next < start + len) {
            out.push(next);
            addr = next;
        }
    }
    out.extend(scale.pieces().last().map(|piece| piece.range.end().get()));
    out.sort_unstable();
    out.dedup();
    out
}
