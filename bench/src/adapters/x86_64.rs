//! The crate `x86_64`: `OffsetPageTable` with physical memory at offset 0.
#![allow(unsafe_code)]

use identmap::Run;
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB,
    Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::memory::Frames;
use super::{Memory, leaves};

pub(super) fn build(memory: &mut Memory, runs: &[Run]) -> Result<u64, String> {
    let mut frames = memory.frames();
    if memory.tables.is_empty() {
        return Err("no table".into());
    }
    // SAFETY: there is a first table, and `memory` is borrowed for this whole function. A `PageTable`
    // is 512 words on a page of its own, as is a `Table`, and every bit pattern is valid in both.
    let root = unsafe { &mut *memory.tables.as_mut_ptr().cast::<PageTable>() };
    root.zero();
    // SAFETY: offset 0 is right, for a frame's address is where it lies. The root is empty; every table
    // under it will be one that `Frames` gave out, inside `memory`, once, and not the root.
    let mut mapper = unsafe { OffsetPageTable::new(root, VirtAddr::zero()) };
    for &run in runs {
        match run.size() {
            identmap::PageSize::Size4K => map::<Size4KiB>(&mut mapper, run, &mut frames)?,
            identmap::PageSize::Size2M => map::<Size2MiB>(&mut mapper, run, &mut frames)?,
            identmap::PageSize::Size1G => map::<Size1GiB>(&mut mapper, run, &mut frames)?,
        }
    }
    Ok(frames.taken)
}

fn map<'t, S: PageSize + std::fmt::Debug>(
    mapper: &mut OffsetPageTable<'t>,
    run: Run,
    frames: &mut Frames,
) -> Result<(), String>
where
    OffsetPageTable<'t>: Mapper<S>,
{
    let table = PageTableFlags::PRESENT
        | PageTableFlags::WRITABLE
        | PageTableFlags::ACCESSED
        | PageTableFlags::DIRTY;
    let leaf = table | PageTableFlags::GLOBAL;
    for at in leaves(run) {
        let page = Page::<S>::containing_address(VirtAddr::new(at));
        let frame = PhysFrame::containing_address(PhysAddr::new(at));
        // SAFETY: these tables are never loaded into CR3, so no memory is aliased by what they map.
        let done = unsafe { mapper.map_to_with_table_flags(page, frame, leaf, table, frames) };
        done.map_err(|e| format!("{at:#x}: {e:?}"))?.ignore();
    }
    Ok(())
}
