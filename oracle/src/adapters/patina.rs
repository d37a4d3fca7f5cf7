//! The crate `patina_paging`: `X64PageTable`, never installed, so that it reaches tables by their
//! addresses. Outside of UEFI it leaves the control registers alone.
#![allow(unsafe_code)]

use patina_paging::page_allocator::PageAllocatorStub;
use patina_paging::x64::X64PageTable;
use patina_paging::{MemoryAttributes, PageTable, PagingType};

use super::{Leaf, Look, Memory, Translation};

pub(super) fn build(
    memory: &mut Memory,
    look: Look,
    leaves: &mut dyn Iterator<Item = Leaf>,
) -> Result<u64, String> {
    let taken = std::cell::Cell::new(0);
    let mut tables =
        X64PageTable::new(memory.pages(&taken), paging(look)).map_err(|e| format!("new: {e:?}"))?;
    // It keeps a self-map in the last entry of the root and a path of tables for a scratch page in
    // the one before: what an empty map has is not counted.
    let empty = taken.get() - 1;

    let mut attributes = MemoryAttributes::empty();
    attributes.set(MemoryAttributes::ReadOnly, look.leaf_flags & 1 << 1 == 0);
    attributes.set(MemoryAttributes::ExecuteProtect, look.leaf_flags >> 63 == 1);
    for leaf in leaves {
        // It takes the largest leaves that fit: of exactly one leaf's size and alignment, that leaf.
        tables
            .map_aliased_memory_region(leaf.virt, leaf.phys, leaf.size, attributes)
            .map_err(|e| format!("{leaf:x?}: {e:?}"))?;
    }
    Ok(taken.get() - empty)
}

pub(super) fn translate(
    memory: &mut Memory,
    look: Look,
    addresses: &[u64],
) -> Result<Vec<Option<Translation>>, String> {
    // SAFETY: the caller has built tables here, by identmap or by `build`, so the first is a root of
    // that paging mode and every entry that points to a table points into `memory` (or, in its
    // self-map, to the root); `memory` stays borrowed, and nothing is written: the allocator fails.
    let tables = unsafe {
        X64PageTable::from_existing(memory.base(), PageAllocatorStub::new(), paging(look))
    }
    .map_err(|e| format!("from_existing: {e:?}"))?;
    let one = |&virt: &u64| {
        // The leaf that holds the address, or the first one after it.
        let region = tables.iter_mapped_regions(Some(virt)).next()?;
        let offset = virt.checked_sub(region.va).filter(|&offset| offset < region.size)?;
        Some(Translation {
            phys: region.pa + offset,
            size: region.size,
            write: !region.attributes.contains(MemoryAttributes::ReadOnly),
            execute: !region.attributes.contains(MemoryAttributes::ExecuteProtect),
        })
    };
    Ok(addresses.iter().map(one).collect())
}

fn paging(look: Look) -> PagingType {
    if look.five_levels { PagingType::Paging5Level } else { PagingType::Paging4Level }
}
