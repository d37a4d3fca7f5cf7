//! The crate `patina_paging`: `X64PageTable`, never installed.

use identmap::Run;
use patina_paging::page_allocator::PageAllocator;
use patina_paging::x64::X64PageTable;
use patina_paging::{MemoryAttributes, PageTable, PagingType, PtError};

use super::{Memory, is_largest, leaves};

pub(super) fn build(memory: &mut Memory, runs: &[Run]) -> Result<u64, String> {
    let taken = std::cell::Cell::new(0);
    let pages = Pages { base: memory.base(), taken: &taken, len: memory.len() };
    let mut tables = X64PageTable::new(pages, PagingType::Paging4Level)
        .map_err(|e| format!("new: {e:?}"))?;
    let attributes = MemoryAttributes::empty();
    for &run in runs {
        let mut map = |start, len| {
            tables
                .map_memory_region(start, len, attributes)
                .map_err(|e| format!("{start:#x}: {e:?}"))
        };
        if is_largest(run, true) {
            map(run.range().start().get(), run.range().len())?;
        } else {
            leaves(run).try_for_each(|at| map(at, run.size().bytes()))?;
        }
    }
    Ok(taken.get())
}

/// Gives out the tables of a memory in their order, the root first.
struct Pages<'c> {
    base: u64,
    taken: &'c std::cell::Cell<u64>,
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
