//! The physical address space as a picture: lanes of bands over a window of addresses, before anything
//! is drawn. The terminal ([`Picture::terminal`]) and SVG draw the same value.

mod look;
mod scale;
mod subject;
mod terminal;
mod windows;

use identmap::PhysRange;
use identmap_machine::ranges;

pub(crate) use look::{Look, PATTERNS, Pattern};
pub(crate) use scale::{Measure, Scale, exact_size};
pub(crate) use windows::{Zoom, zooms};

pub use terminal::{Glyphs, Width};

/// What there is to draw: every lane over the whole address space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    groups: Vec<Group>,
}

/// Lanes that belong together, e.g. those of one map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    /// What they show; empty for the machine itself.
    pub(crate) title: String,
    /// `A` for the first map.
    pub(crate) letter: Option<char>,
    pub(crate) lanes: Vec<Lane>,
}

/// One row of a picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    /// Sorted by address, then by rank: the more important is drawn later.
    pub(crate) bands: Vec<Band>,
    /// Shown even where it is empty: that it is says something.
    pub(crate) always: bool,
    /// A picture is not stretched to hold it.
    pub(crate) background: bool,
}

/// A stretch of one kind in a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Band {
    pub(crate) range: PhysRange,
    pub(crate) look: Look,
    /// What it is, in a few words; may come from the machine's own texts.
    pub(crate) label: String,
}

impl Band {
    /// What is said of a part of it.
    fn label_of(&self, part: PhysRange) -> String {
        match self.look.leaf() {
            Some(size) => format!("{} × {}", part.len().div_ceil(size.bytes()), size.name()),
            None => self.label.clone(),
        }
    }
}

impl Group {
    /// Letter and title, as they stand above the lanes.
    pub(crate) fn heading(&self) -> String {
        match self.letter {
            Some(letter) => format!("{letter}: {}", self.title),
            None => self.title.clone(),
        }
    }
}

impl Picture {
    #[cfg(test)]
    pub(crate) fn of_groups(groups: Vec<Group>) -> Picture {
        Picture { groups }
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Every byte that some band speaks of, but for what is only better not mapped, which may be most of
    /// the address space: sorted, disjoint.
    pub(crate) fn occupied(&self) -> Vec<PhysRange> {
        let lanes = self.groups.iter().flat_map(|group| &group.lanes);
        let lanes = lanes.filter(|lane| !lane.background);
        let bands = lanes.flat_map(|lane| &lane.bands).filter(|band| !band.look.is_background());
        ranges::normalise(bands.map(|band| band.range).collect())
    }

    /// From the first byte that is spoken of to the last, from 0 on where that is near.
    pub(crate) fn extent(&self) -> Option<PhysRange> {
        let occupied = self.occupied();
        let (first, last) = (occupied.first()?, occupied.last()?);
        let span = last.end().get() - first.start().get();
        let start = if first.start().get() <= span { 0 } else { first.start().get() };
        PhysRange::new(start, last.end().get()).ok()
    }

    /// Everything below 4 GiB, where devices and firmware tables crowd: if that is a small part of the
    /// whole, and enough is known of it.
    pub(crate) fn low(&self) -> Option<PhysRange> {
        let low = PhysRange::new(0, 1 << 32).ok()?;
        let known = ranges::total(&ranges::intersect(&self.occupied(), &[low]));
        let small = self.extent()?.end().get() / 3 > low.end().get();
        (small && known >= 1 << 29).then_some(low)
    }

    /// The part inside a window; lanes that are empty there are left out, unless that says something.
    pub(crate) fn within(&self, window: PhysRange) -> Picture {
        let clip = |lane: &Lane| Lane {
            name: lane.name,
            always: lane.always,
            background: lane.background,
            bands: lane
                .bands
                .iter()
                .filter_map(|band| {
                    let range = band.range.intersection(window)?;
                    Some(Band { label: band.label_of(range), range, look: band.look })
                })
                .collect(),
        };
        let groups = self.groups.iter().map(|group| Group {
            title: group.title.clone(),
            letter: group.letter,
            lanes: group
                .lanes
                .iter()
                .map(clip)
                .filter(|lane| lane.always || !lane.bands.is_empty())
                .collect(),
        });
        Picture { groups: groups.filter(|group| !group.lanes.is_empty()).collect() }
    }

    /// The looks that occur, each once, the least important first.
    pub(crate) fn looks(&self) -> Vec<Look> {
        let mut looks = Vec::new();
        for band in self.groups.iter().flat_map(|g| &g.lanes).flat_map(|lane| &lane.bands) {
            if !looks.contains(&band.look) {
                looks.push(band.look);
            }
        }
        looks.sort_unstable();
        looks
    }
}
