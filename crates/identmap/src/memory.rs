//! Where tables live: one trait to write them, one to read them, and an arena that does both.

use core::fmt;

use crate::addr::{PageSize, PhysAddr};
#[cfg(feature = "std")]
use crate::build_error::BuildError;
use crate::entry::Entry;
use crate::stores::{ABREAST, write_abreast};

/// A table of 512 entries, on a page of its own.
#[repr(C, align(4096))]
#[derive(Clone, PartialEq, Eq)]
pub struct Table(pub [u64; 512]);

// The processor reads a table as one aligned 4 KiB page (SDM vol. 3A, 4.5).
const _: () = assert!(size_of::<Table>() == 4096 && align_of::<Table>() == 4096);

impl Table {
    /// A table that maps nothing.
    pub const EMPTY: Table = Table([0; 512]);
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = self.0.iter().filter(|&&bits| Entry::from_bits(bits).is_present()).count();
        write!(f, "Table({present} of 512 present)")
    }
}

/// A table, or a part of one, that could not be read. Never to be taken for an empty one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Physical address of the table.
    pub table: PhysAddr,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table at {} cannot be read", self.table)
    }
}

impl core::error::Error for Unreadable {}

/// Reads tables: an arena, a core dump, another machine's memory.
pub trait TableRead {
    /// Entry `index` (0..512) of the table at `table`.
    ///
    /// # Errors
    /// [`Unreadable`] if the memory is not there or not known.
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable>;
}

impl<R: TableRead + ?Sized> TableRead for &R {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        (**self).entry(table, index)
    }
}

/// Gives out tables and lets them be written.
///
/// An implementation promises that [`available`](TableWrite::available) calls of
/// [`allocate`](TableWrite::allocate) will succeed, and that a table it gave out can be
/// reached by [`table_mut`](TableWrite::table_mut).
pub trait TableWrite {
    /// How many more tables can be allocated.
    fn available(&self) -> u64;

    /// Takes a page for a table; its content may be anything. `None` if there is no more.
    fn allocate(&mut self) -> Option<PhysAddr>;

    /// The table at a physical address; `None` if it cannot be reached.
    fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table>;

    /// Different tables, all at once; `None` if this memory gives one at a time, which is as good, or if one
    /// of them cannot be reached.
    ///
    /// Very large maps are built quicker where several tables are written abreast.
    fn tables_mut(&mut self, tables: [PhysAddr; ABREAST]) -> Option<[&mut Table; ABREAST]> {
        let _ = tables;
        None
    }

    /// Fills different tables, one after the other in the order given, with leaves that follow each other:
    /// the first entry of the first table is `first`, every next one maps the page behind, with the same flags.
    /// `false`, and nothing is written, where [`tables_mut`](TableWrite::tables_mut) gives nothing.
    ///
    /// Called only where a map is very large. An implementation may know better stores for its memory than the
    /// ordinary ones of the provided one (the crate `identmap-stream` does): `true` is its word that every entry of
    /// these tables is written.
    fn fill_tables(&mut self, tables: [PhysAddr; ABREAST], first: Entry, size: PageSize) -> bool {
        match self.tables_mut(tables) {
            Some(tables) => {
                write_abreast(tables.map(|table| &mut table.0), first.bits(), size);
                true
            }
            None => false,
        }
    }
}

impl<W: TableWrite + ?Sized> TableWrite for &mut W {
    fn available(&self) -> u64 {
        (**self).available()
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        (**self).allocate()
    }

    fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table> {
        (**self).table_mut(table)
    }

    fn tables_mut(&mut self, tables: [PhysAddr; ABREAST]) -> Option<[&mut Table; ABREAST]> {
        (**self).tables_mut(tables)
    }

    fn fill_tables(&mut self, tables: [PhysAddr; ABREAST], first: Entry, size: PageSize) -> bool {
        (**self).fill_tables(tables, first, size)
    }
}

/// Tables given out from the front of a slice, which stands for physical memory from `base` on.
///
/// The base is the caller's word: it need not be where the slice lies now, so tables can be
/// built for another machine or for a place they will be copied to. Freeing the tables is
/// dropping the arena.
#[derive(Debug)]
pub struct Arena<'t> {
    tables: &'t mut [Table],
    base: PhysAddr,
    used: usize,
}

impl<'t> Arena<'t> {
    /// An arena over `tables`, the first of which is or will be at `base`.
    ///
    /// # Errors
    /// [`ArenaError::Unaligned`] if `base` is not a multiple of 4 KiB,
    /// [`ArenaError::PastLimit`] if the slice would reach past 2^52.
    pub fn new(tables: &'t mut [Table], base: PhysAddr) -> Result<Arena<'t>, ArenaError> {
        if !base.is_aligned(PageSize::Size4K) {
            return Err(ArenaError::Unaligned { base });
        }
        if base.checked_add(size_of_val::<[Table]>(tables) as u64).is_none() {
            return Err(ArenaError::PastLimit { base });
        }
        Ok(Arena { tables, base, used: 0 })
    }

    /// The tables given out so far, in address order from the base.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables[..self.used]
    }

    /// The physical address of the first table.
    #[must_use]
    pub const fn base(&self) -> PhysAddr {
        self.base
    }

    /// Gives out `count` tables at once, all of which lie below `limit`, and the address of the first.
    #[cfg(feature = "std")]
    pub(crate) fn take(
        &mut self,
        count: u64,
        limit: PhysAddr,
    ) -> Result<(&mut [Table], PhysAddr), BuildError> {
        let available = self.available();
        if available < count {
            return Err(BuildError::Exhausted { needed: count, available });
        }
        let end = self.used + count as usize;
        let first = self.base.checked_add((self.used as u64) << 12);
        let last = self.base.checked_add((end as u64) << 12);
        match (first, last) {
            (Some(first), Some(last)) if last <= limit => {
                let tables = &mut self.tables[self.used..end];
                self.used = end;
                Ok((tables, first))
            }
            _ => Err(BuildError::Memory { table: self.base }),
        }
    }

    fn index(&self, table: PhysAddr) -> Option<usize> {
        let distance = table.get().checked_sub(self.base.get())?;
        let index = usize::try_from(distance >> 12).ok()?;
        (table.is_aligned(PageSize::Size4K) && index < self.used).then_some(index)
    }
}

impl TableRead for Arena<'_> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        let at = self.index(table).ok_or(Unreadable { table })?;
        self.tables[at].0.get(index).map(|&bits| Entry::from_bits(bits)).ok_or(Unreadable { table })
    }
}

impl TableWrite for Arena<'_> {
    fn available(&self) -> u64 {
        (self.tables.len() - self.used) as u64
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        if self.used == self.tables.len() {
            return None;
        }
        let table = self.base.checked_add((self.used as u64) << 12);
        self.used += usize::from(table.is_some());
        table
    }

    fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table> {
        let at = self.index(table)?;
        self.tables.get_mut(at)
    }

    fn tables_mut(&mut self, tables: [PhysAddr; ABREAST]) -> Option<[&mut Table; ABREAST]> {
        let mut places = [0; ABREAST];
        for (place, table) in places.iter_mut().zip(tables) {
            *place = self.index(table)?;
        }
        self.tables.get_disjoint_mut(places).ok()
    }
}

/// Why a slice cannot stand for physical memory from that base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ArenaError {
    /// The base is not a multiple of 4 KiB.
    Unaligned {
        /// The base.
        base: PhysAddr,
    },
    /// The tables would reach past the 52 bits of a physical address.
    PastLimit {
        /// The base.
        base: PhysAddr,
    },
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArenaError::Unaligned { base } => write!(f, "base {base} is not a multiple of 4 KiB"),
            ArenaError::PastLimit { base } => {
                write!(f, "tables from base {base} reach past the 52 bits of a physical address")
            }
        }
    }
}

impl core::error::Error for ArenaError {}

/// Reads tables out of bytes: an image of physical memory that begins at `base`.
#[derive(Clone, Copy, Debug)]
pub struct Image<'b> {
    bytes: &'b [u8],
    base: PhysAddr,
}

impl<'b> Image<'b> {
    /// An image whose first byte is physical address `base`; any alignment, any length.
    #[must_use]
    pub const fn new(bytes: &'b [u8], base: PhysAddr) -> Image<'b> {
        Image { bytes, base }
    }
}

impl TableRead for Image<'_> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        let bits = table
            .get()
            .checked_sub(self.base.get())
            .filter(|_| index < 512)
            .and_then(|distance| usize::try_from(distance).ok())
            .and_then(|at| at.checked_add(index * 8))
            .and_then(|at| self.bytes.get(at..)?.first_chunk::<8>());
        bits.map(|&bytes| Entry::from_bits(u64::from_le_bytes(bytes))).ok_or(Unreadable { table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(addr: u64) -> PhysAddr {
        PhysAddr::new(addr).unwrap()
    }

    #[test]
    fn an_arena_gives_out_consecutive_pages_and_no_more() {
        let mut tables = vec![Table::EMPTY; 2];
        let mut arena = Arena::new(&mut tables, addr(0x5000)).unwrap();
        assert_eq!(arena.available(), 2);
        assert_eq!(arena.allocate(), Some(addr(0x5000)));
        assert!(arena.table_mut(addr(0x6000)).is_none(), "not given out yet");
        assert_eq!(arena.allocate(), Some(addr(0x6000)));
        assert_eq!(arena.allocate(), None);
        arena.table_mut(addr(0x6000)).unwrap().0[511] = 7;
        assert_eq!(arena.entry(addr(0x6000), 511), Ok(Entry::from_bits(7)));
        for bad in [0x4000, 0x7000, 0x5008] {
            assert_eq!(arena.entry(addr(bad), 0), Err(Unreadable { table: addr(bad) }));
        }
        assert!(arena.entry(addr(0x5000), 512).is_err());
    }

    #[test]
    fn an_arena_gives_tables_at_once_if_they_are_different_and_its_own() {
        let mut tables = vec![Table::EMPTY; ABREAST + 1];
        let mut arena = Arena::new(&mut tables, addr(0x5000)).unwrap();
        let given: [PhysAddr; ABREAST] = std::array::from_fn(|_| arena.allocate().unwrap());
        for (table, i) in arena.tables_mut(given).unwrap().into_iter().zip(1..) {
            table.0[7] = i;
        }
        for (table, i) in given.into_iter().zip(1..) {
            assert_eq!(arena.entry(table, 7), Ok(Entry::from_bits(i)));
        }
        for bad in [given[0], addr(0xd000), addr(0x4000)] {
            let mut tables = given;
            tables[1] = bad;
            assert!(arena.tables_mut(tables).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_arena_refuses_a_base_that_no_table_can_have() {
        let mut tables = vec![Table::EMPTY; 2];
        let base = addr(0x5008);
        assert_eq!(Arena::new(&mut tables, base).unwrap_err(), ArenaError::Unaligned { base });
        let base = addr((1 << 52) - 4096);
        assert_eq!(Arena::new(&mut tables, base).unwrap_err(), ArenaError::PastLimit { base });
    }

    #[test]
    fn an_image_is_unreadable_past_its_ends() {
        let mut bytes = vec![0u8; 4096 + 12];
        bytes[4096] = 0x63;
        let image = Image::new(&bytes, addr(0x1000));
        assert_eq!(image.entry(addr(0x2000), 0), Ok(Entry::from_bits(0x63)));
        assert!(image.entry(addr(0x2000), 1).is_err(), "only half of it is there");
        assert!(image.entry(addr(0), 0).is_err());
        assert!(image.entry(addr(1 << 51), 0).is_err());
    }
}
