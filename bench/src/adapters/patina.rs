//! The crate `patina_paging`: `X64PageTable`, never installed.

use identmap::Run;
use patina_paging::x64::X64PageTable;
use patina_paging::{MemoryAttributes, PageTable, PagingType};

use super::{Memory, is_largest, leaves};

pub(super) fn build(memory: &mut Memory, runs: &[Run]) -> Result<u64, String> {
    let taken = std::cell::Cell::new(0);
    let mut tables = X64PageTable::new(memory.pages(&taken), PagingType::Paging4Level)
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
