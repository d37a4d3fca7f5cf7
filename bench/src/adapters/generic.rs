//! The crate `page-table-generic`. It has no x86-64 entries of its own; these are the plainest.

use ax_memory_addr::{PhysAddr, VirtAddr};
use identmap::{PageSize, Run};
use page_table_generic::{FrameAllocator, MapConfig, PageTable, PageTableEntry, TableMeta};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Memory, is_largest};

pub(super) fn build(memory: &mut Memory, runs: &[Run]) -> Result<u64, String> {
    NEXT.store(memory.base(), Relaxed);
    END.store(memory.base() + memory.len() * 4096, Relaxed);
    // Whether 1 GiB leaves may be used is a constant of the paging mode.
    if runs.iter().all(|&run| is_largest(run, true)) {
        map::<3>(runs)?;
    } else if runs.iter().all(|&run| run.size() != PageSize::Size1G && is_largest(run, false)) {
        map::<2>(runs)?;
    } else {
        return Err("leaves that are not the largest that fit".into());
    }
    Ok((NEXT.load(Relaxed) - memory.base()) / 4096)
}

fn map<const LARGEST: usize>(runs: &[Run]) -> Result<(), String> {
    let mut table = PageTable::<Mode<LARGEST>, Frames>::new(Frames).map_err(|e| format!("{e:?}"))?;
    let result = runs.iter().try_for_each(|run| {
        let start = run.range().start().get() as usize;
        table.map(&MapConfig {
            vaddr: VirtAddr::from_usize(start),
            paddr: PhysAddr::from_usize(start),
            size: run.range().len() as usize,
            pte: 0x163,
            allow_huge: run.size() != PageSize::Size4K,
            flush: false,
        })
    });
    // The tables are the caller's memory: nothing to free.
    table.leak();
    result.map_err(|e| format!("{e:?}"))
}

/// 4-level paging with leaves up to this level.
#[derive(Clone, Copy)]
struct Mode<const LARGEST: usize>;

impl<const LARGEST: usize> TableMeta for Mode<LARGEST> {
    type P = Pte;
    const PAGE_SIZE: usize = 4096;
    const LEVEL_BITS: &[usize] = &[9, 9, 9, 9];
    const MAX_BLOCK_LEVEL: usize = LARGEST;
    fn flush(_: Option<VirtAddr>) {}
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Pte(u64);

impl PageTableEntry for Pte {
    type PteConfig = u64;

    fn new_page(paddr: PhysAddr, config: u64, is_huge: bool) -> Pte {
        Pte(paddr.as_usize() as u64 | config | u64::from(is_huge) << 7)
    }
    fn new_table(paddr: PhysAddr) -> Pte {
        Pte(paddr.as_usize() as u64 | 0x63)
    }
    fn paddr(&self, _is_dir: bool) -> PhysAddr {
        PhysAddr::from_usize((self.0 & ADDRESS) as usize)
    }
    fn config(&self, _is_dir: bool) -> u64 {
        self.0 & !ADDRESS & !(1 << 7)
    }
    fn present(&self) -> bool {
        self.0 & 1 == 1
    }
    fn huge(&self, is_dir: bool) -> bool {
        is_dir && self.0 >> 7 & 1 == 1
    }
    fn unused(&self) -> bool {
        self.0 == 0
    }
    fn clear(&mut self) {
        self.0 = 0;
    }
}

/// The crate wants an allocator that lives for ever and is shared: where the next table lies.
static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy)]
struct Frames;

impl FrameAllocator for Frames {
    fn alloc_frame(&self) -> Option<PhysAddr> {
        // One thread builds: no read-modify-write is needed, and none is paid for.
        let at = NEXT.load(Relaxed);
        if at == END.load(Relaxed) {
            return None;
        }
        NEXT.store(at + 4096, Relaxed);
        Some(PhysAddr::from_usize(at as usize))
    }
    fn dealloc_frame(&self, _: PhysAddr) {}
    fn phys_to_virt(&self, paddr: PhysAddr) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(paddr.as_usize())
    }
}
