//! The machine's memory as the running kernel sees it: one sorted, disjoint list.

use identmap::PhysRange;

use crate::{Machine, MapOrigin, MemType};

/// A stretch of memory of one type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The bytes.
    pub range: PhysRange,
    /// The type.
    pub kind: MemType,
}

/// Where a [`Layout`] was taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutOrigin {
    /// A memory map, with the kernel's later updates applied.
    Map(MapOrigin),
    /// The top-level resources of `/proc/iomem`.
    Iomem,
}

/// Sorted, disjoint regions; adjacent regions of one type are merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    origin: LayoutOrigin,
    regions: Vec<Region>,
}

impl Layout {
    /// The layout that the running kernel works with, from the best source that
    /// the machine's texts give; `None` where they hold no memory map at all.
    #[must_use]
    pub fn of(machine: &Machine) -> Option<Layout> {
        let _ = machine;
        None
    }

    /// Where it was taken from.
    #[must_use]
    pub fn origin(&self) -> LayoutOrigin {
        self.origin
    }

    /// The regions, sorted by address, disjoint.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The ranges of one type, sorted, disjoint, merged.
    pub fn of_kind(&self, kind: MemType) -> impl Iterator<Item = PhysRange> + '_ {
        self.regions.iter().filter(move |r| r.kind == kind).map(|r| r.range)
    }
}
