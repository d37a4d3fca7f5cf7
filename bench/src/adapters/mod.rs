//! Other crates that build x86-64 page tables, behind one face: the leaves of a plan, in their order, in
//! fresh tables.
//!
//! They reach tables through pointers, so "physical" addresses are where the tables lie in this process.

mod generic;
#[path = "../../../oracle/src/adapters/memory.rs"]
mod memory;
mod multiarch;
mod patina;
mod x86_64;

use identmap::{Run, Table};

pub(crate) use memory::Memory;

/// Another crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crate {
    /// `x86_64` (rust-osdev): `OffsetPageTable::map_to_with_table_flags`, leaf by leaf.
    X86_64,
    /// `patina_paging` (Open Device Partnership): `X64PageTable::map_memory_region`.
    Patina,
    /// `page-table-generic`: `PageTableRef::map`, with a description of x86-64 entries of ours.
    Generic,
    /// `page_table_multiarch`: `PageTable64Cursor::map`, leaf by leaf (its `map_region` does the same).
    Multiarch,
}

impl Crate {
    pub(crate) const ALL: [Crate; 4] =
        [Crate::X86_64, Crate::Patina, Crate::Generic, Crate::Multiarch];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Crate::X86_64 => "x86_64",
            Crate::Patina => "patina_paging",
            Crate::Generic => "page-table-generic",
            Crate::Multiarch => "page_table_multiarch",
        }
    }

    /// Maps the runs in fresh tables, the root in the first one; returns how many tables were taken.
    ///
    /// # Errors
    /// What the crate said.
    pub(crate) fn build(self, memory: &mut Memory, runs: &[Run]) -> Result<u64, String> {
        match self {
            Crate::X86_64 => x86_64::build(memory, runs),
            Crate::Patina => patina::build(memory, runs),
            Crate::Generic => generic::build(memory, runs),
            Crate::Multiarch => multiarch::build(memory, runs),
        }
    }
}

impl Memory {
    /// The tables themselves.
    pub(crate) fn tables(&mut self) -> &mut [Table] {
        &mut self.tables
    }

    /// One `memset` over the first tables.
    #[allow(unsafe_code)]
    pub(crate) fn set(&mut self, byte: u8, tables: usize) {
        let tables = &mut self.tables[..tables];
        // SAFETY: the slice is valid for writes of its whole length; eight equal bytes are a valid word.
        unsafe { std::ptr::write_bytes(tables.as_mut_ptr(), byte, tables.len()) };
    }

    /// One word stored everywhere in the first tables, past the caches (`movntdq`): the processor need not read a
    /// line before it writes all of it.
    #[allow(unsafe_code)]
    pub(crate) fn stream(&mut self, word: u64, tables: usize) {
        use std::arch::x86_64::{_mm_set1_epi64x, _mm_sfence, _mm_stream_si128};
        let tables = &mut self.tables[..tables];
        for table in &mut *tables {
            let (pairs, _) = table.0.as_chunks_mut::<2>();
            for pair in pairs {
                // SAFETY: every x86-64 has SSE2. A pair is 16 bytes, valid for writes; tables are aligned to
                // 4096, so the pairs in them to 16.
                unsafe {
                    let word = _mm_set1_epi64x(word.cast_signed());
                    _mm_stream_si128(pair.as_mut_ptr().cast(), word);
                }
            }
        }
        // SAFETY: every x86-64 has SSE. What was stored is there before anybody reads it.
        unsafe { _mm_sfence() };
    }
}

/// Whether a crate that takes the largest leaves that fit takes this run's: then the run is one call,
/// else each leaf is one.
fn is_largest(run: Run, giant: bool) -> bool {
    use identmap::PageSize::{Size1G, Size2M, Size4K};
    match run.size() {
        Size1G => true,
        Size2M => !giant || run.range().round_in(Size1G).is_none(),
        Size4K => run.range().round_in(Size2M).is_none(),
    }
}

/// The leaves of a run: first address of each.
fn leaves(run: Run) -> impl Iterator<Item = u64> {
    let (start, step) = (run.range().start().get(), run.size().bytes());
    (0..run.count()).map(move |i| start + i * step)
}
