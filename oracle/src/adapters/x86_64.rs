//! The crate `x86_64`: `OffsetPageTable` with physical memory at offset 0, that is, tables at the
//! addresses where they really are.
#![allow(unsafe_code)]

use x86_64::structures::paging::mapper::{MappedFrame, TranslateResult};
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB,
    Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::memory::Frames;
use super::{Leaf, Look, Memory, Translation};

pub(super) fn build(
    memory: &mut Memory,
    look: Look,
    leaves: &mut dyn Iterator<Item = Leaf>,
) -> Result<u64, String> {
    let mut frames = memory.frames();
    if memory.tables.is_empty() {
        return Err("no table".into());
    }
    // SAFETY: there is a first table, and `memory` is borrowed for this whole function. A
    // `PageTable` is 512 words of 8 bytes on a page of its own, as is a `Table`, and every bit
    // pattern is a valid value of both.
    let root = unsafe { &mut *memory.tables.as_mut_ptr().cast::<PageTable>() };
    root.zero();
    // SAFETY: offset 0 is right, for a frame's address is where it lies. The root is empty; every
    // table under it will be one that `Frames` gave out, inside `memory`, once, and not the root.
    let mut mapper = unsafe { OffsetPageTable::new(root, VirtAddr::zero()) };
    for leaf in leaves {
        match leaf.size {
            Size4KiB::SIZE => map::<Size4KiB>(&mut mapper, look, leaf, &mut frames)?,
            Size2MiB::SIZE => map::<Size2MiB>(&mut mapper, look, leaf, &mut frames)?,
            Size1GiB::SIZE => map::<Size1GiB>(&mut mapper, look, leaf, &mut frames)?,
            other => return Err(format!("no leaf has {other:#x} bytes")),
        }
    }
    Ok(frames.taken)
}

fn map<'t, S: PageSize + std::fmt::Debug>(
    mapper: &mut OffsetPageTable<'t>,
    look: Look,
    leaf: Leaf,
    frames: &mut Frames,
) -> Result<(), String>
where
    OffsetPageTable<'t>: Mapper<S>,
{
    let virt = VirtAddr::try_new(leaf.virt).map_err(|e| format!("{leaf:x?}: {e:?}"))?;
    let phys = PhysAddr::try_new(leaf.phys).map_err(|e| format!("{leaf:x?}: {e:?}"))?;
    let page = Page::<S>::from_start_address(virt).map_err(|e| format!("{leaf:x?}: {e:?}"))?;
    let frame = PhysFrame::from_start_address(phys).map_err(|e| format!("{leaf:x?}: {e:?}"))?;
    let flags = PageTableFlags::from_bits_retain(look.leaf_flags);
    let table_flags = PageTableFlags::from_bits_retain(look.table_flags);
    // SAFETY: these tables are never loaded into CR3, so no memory is aliased by what they map.
    let done = unsafe { mapper.map_to_with_table_flags(page, frame, flags, table_flags, frames) };
    done.map_err(|e| format!("{leaf:x?}: {e:?}"))?.ignore();
    Ok(())
}

pub(super) fn translate(memory: &mut Memory, addresses: &[u64]) -> Vec<Option<Translation>> {
    memory.base(); // exposes the addresses of the tables to the reader
    let root = memory.tables.as_mut_ptr().cast::<PageTable>();
    // SAFETY: as in `build`; the caller has built tables here, by identmap or by `build`, so the
    // first is a root and every entry that points to a table points into `memory`.
    let mapper = unsafe { OffsetPageTable::new(&mut *root, VirtAddr::zero()) };
    let one = |&virt: &u64| {
        let virt = VirtAddr::try_new(virt).ok()?;
        let TranslateResult::Mapped { frame, offset, flags } = mapper.translate(virt) else {
            return None;
        };
        let size = match frame {
            MappedFrame::Size4KiB(_) => Size4KiB::SIZE,
            MappedFrame::Size2MiB(_) => Size2MiB::SIZE,
            MappedFrame::Size1GiB(_) => Size1GiB::SIZE,
        };
        Some(Translation {
            phys: frame.start_address().as_u64() + offset,
            size,
            write: flags.contains(PageTableFlags::WRITABLE),
            execute: !flags.contains(PageTableFlags::NO_EXECUTE),
        })
    };
    addresses.iter().map(one).collect()
}
