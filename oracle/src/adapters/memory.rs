//! Memory of this process, given out to other crates table by table. `bench` takes this file too.
#![allow(unsafe_code)]

use std::cell::Cell;

use identmap::Table;
use patina_paging::PtError;
use patina_paging::page_allocator::PageAllocator;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// Tables at their real addresses.
pub(crate) struct Memory {
    pub(super) tables: Vec<Table>,
}

impl Memory {
    /// Room for this many tables, all of it touched, filled with what no table may be left with.
    pub(crate) fn new(tables: usize) -> Memory {
        Memory { tables: vec![Table([0xdead_beef_0bad_f00d; 512]); tables] }
    }

    /// The address of the first table, which is the root of whatever is built here.
    pub(crate) fn base(&mut self) -> u64 {
        self.tables.as_mut_ptr().expose_provenance() as u64
    }

    /// The tables in their order, the root aside.
    pub(super) fn frames(&mut self) -> Frames {
        Frames { base: self.base(), taken: 1, len: self.len() }
    }

    /// The tables in their order, the root first; `taken` counts them.
    pub(super) fn pages<'c>(&mut self, taken: &'c Cell<u64>) -> Pages<'c> {
        Pages { base: self.base(), taken, len: self.len() }
    }

    pub(super) fn len(&self) -> u64 {
        self.tables.len() as u64
    }
}

/// For the crate `x86_64`.
pub(super) struct Frames {
    base: u64,
    /// How many were given out, with the root.
    pub(super) taken: u64,
    len: u64,
}

// SAFETY: every frame is given out once, lies inside the memory it was made for, and nobody else
// uses that memory while it is borrowed.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        if self.taken == self.len {
            return None;
        }
        let at = PhysAddr::new(self.base + self.taken * 4096);
        self.taken += 1;
        Some(PhysFrame::containing_address(at))
    }
}

/// For the crate `patina_paging`.
pub(super) struct Pages<'c> {
    base: u64,
    taken: &'c Cell<u64>,
    len: u64,
}

impl PageAllocator for Pages<'_> {
    fn allocate_page(&mut self, align: u64, size: u64, _is_root: bool) -> Result<u64, PtError> {
        let taken = self.taken.get();
        if taken == self.len || (align, size) != (4096, 4096) {
            return Err(PtError::OutOfResources);
        }
        self.taken.set(taken + 1);
        Ok(self.base + taken * 4096)
    }
}
