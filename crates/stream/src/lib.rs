#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod stores;

use identmap::{ABREAST, Entry, PageSize, PhysAddr, Table, TableRead, TableWrite, Unreadable};

/// Memory whose tables are stored past the caches where a map is very large.
///
/// Everything else is what the memory inside does. It needs memory that gives several tables at once
/// ([`TableWrite::tables_mut`]); any other is written as without the wrapper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Streamed<W>(pub W);

impl<W: TableWrite> TableWrite for Streamed<W> {
    fn available(&self) -> u64 {
        self.0.available()
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        self.0.allocate()
    }

    fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table> {
        self.0.table_mut(table)
    }

    fn tables_mut(&mut self, tables: [PhysAddr; ABREAST]) -> Option<[&mut Table; ABREAST]> {
        self.0.tables_mut(tables)
    }

    fn fill_tables(&mut self, tables: [PhysAddr; ABREAST], first: Entry, size: PageSize) -> bool {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        if let Some(tables) = self.0.tables_mut(tables) {
            stores::stream_leaves(tables, first.bits(), size);
            return true;
        }
        self.0.fill_tables(tables, first, size)
    }
}

impl<R: TableRead> TableRead for Streamed<R> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        self.0.entry(table, index)
    }
}
