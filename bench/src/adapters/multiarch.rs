//! The crate `page_table_multiarch`, with its own x86-64 entries, and a mode that flushes no TLB: its own
//! would execute `invlpg`, which a process may not.

use identmap::Run;
use memory_addr::{PhysAddr, VirtAddr};
use page_table_entry::MappingFlags;
use page_table_entry::x86_64::X64PTE;
use page_table_multiarch::{PageSize, PageTable64, PagingHandler, PagingMetaData};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Memory, leaves};

pub(super) fn build(memory: &mut Memory, runs: &[Run]) -> Result<u64, String> {
    NEXT.store(memory.base(), Relaxed);
    END.store(memory.base() + memory.len() * 4096, Relaxed);
    let mut table =
        PageTable64::<Mode, X64PTE, Frames>::try_new().map_err(|e| format!("{e:?}"))?;
    let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
    let mut cursor = table.cursor();
    let result = runs.iter().try_for_each(|&run| {
        let size = match run.size() {
            identmap::PageSize::Size4K => PageSize::Size4K,
            identmap::PageSize::Size2M => PageSize::Size2M,
            identmap::PageSize::Size1G => PageSize::Size1G,
        };
        leaves(run).try_for_each(|at| {
            let (virt, phys) = (VirtAddr::from(at as usize), PhysAddr::from(at as usize));
            cursor.map(virt, phys, size, flags)
        })
    });
    drop(cursor);
    // The tables are the caller's memory: nothing to free.
    std::mem::forget(table);
    result.map_err(|e| format!("{e:?}"))?;
    Ok((NEXT.load(Relaxed) - memory.base()) / 4096)
}

struct Mode;

impl PagingMetaData for Mode {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = VirtAddr;
    fn flush_tlb(_: Option<VirtAddr>) {}
}

/// The crate's allocator is a type without a value: where the next table lies.
static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

struct Frames;

impl PagingHandler for Frames {
    fn alloc_frames(num: usize, _align: usize) -> Option<PhysAddr> {
        // One thread builds: no read-modify-write is needed, and none is paid for.
        let at = NEXT.load(Relaxed);
        if num != 1 || at == END.load(Relaxed) {
            return None;
        }
        NEXT.store(at + 4096, Relaxed);
        Some(PhysAddr::from(at as usize))
    }
    fn dealloc_frames(_: PhysAddr, _: usize) {}
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        VirtAddr::from(std::ptr::with_exposed_provenance_mut::<u8>(paddr.as_usize()) as usize)
    }
}
