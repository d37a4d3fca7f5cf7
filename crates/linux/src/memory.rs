//! Memory that is read from somewhere else: a file that is not read whole, physical memory, a running
//! kernel's virtual memory; and page tables in it.
//!
//! Nothing here opens a file: the caller brings the bytes. What cannot be read is said with its
//! address and why, and never taken for zeros.

use std::cell::RefCell;
use std::fmt;
use std::io;

use identmap::{Entry, Paging, PhysAddr, TableRead, VirtAddr, WalkEnd, walk};

/// Bytes at offsets: a file, or a slice.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Any input/output error, and [`io::ErrorKind::UnexpectedEof`] beyond the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let bytes =
            end.and_then(|end| self.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }
}

/// Physical memory, some or all of it.
pub trait PhysicalMemory {
    /// Fills `buffer` with the bytes from `at` on.
    ///
    /// # Errors
    /// [`Unreadable`] if any byte of it is not there; what `buffer` holds then means nothing.
    fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable>;
}

impl<M: PhysicalMemory + ?Sized> PhysicalMemory for &M {
    fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        (**self).read_phys(at, buffer)
    }
}

/// The memory of a running kernel, by the virtual addresses it uses itself.
pub trait KernelMemory {
    /// Fills `buffer` with the bytes from `at` on.
    ///
    /// # Errors
    /// [`Unreadable`] if any byte of it is not there; what `buffer` holds then means nothing.
    fn read_virt(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<(), Unreadable>;
}

impl<M: KernelMemory + ?Sized> KernelMemory for &M {
    fn read_virt(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        (**self).read_virt(at, buffer)
    }
}

/// Memory that cannot be read: the first address of which nothing is known, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Where.
    pub at: Address,
    /// Why.
    pub why: Why,
}

/// An address of either kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// Physical.
    Physical(PhysAddr),
    /// Virtual.
    Virtual(VirtAddr),
}

/// Why memory cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The source does not hold it.
    NotHeld,
    /// No entry of the tables it was looked up in maps it.
    NotMapped,
    /// A table on the way to it cannot be read.
    Table,
    /// The source should hold it; reading failed.
    Failed(io::ErrorKind),
}

impl Unreadable {
    /// Of a physical address.
    #[must_use]
    pub const fn phys(at: PhysAddr, why: Why) -> Unreadable {
        Unreadable { at: Address::Physical(at), why }
    }

    /// Of a virtual address.
    #[must_use]
    pub const fn virt(at: VirtAddr, why: Why) -> Unreadable {
        Unreadable { at: Address::Virtual(at), why }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Address::Physical(at) => write!(f, "physical address {at}")?,
            Address::Virtual(at) => write!(f, "virtual address {at}")?,
        }
        match self.why {
            Why::NotHeld => f.write_str(" is not in the source"),
            Why::NotMapped => f.write_str(" is not mapped"),
            Why::Table => f.write_str(": a table on the way cannot be read"),
            Why::Failed(kind) => write!(f, " cannot be read: {kind}"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Physical memory seen through a kernel's direct map of it.
#[derive(Clone, Copy, Debug)]
pub struct DirectMap<M> {
    memory: M,
    base: VirtAddr,
}

impl<M: KernelMemory> DirectMap<M> {
    /// Physical address 0 is at `base` (`page_offset_base`).
    pub const fn new(memory: M, base: VirtAddr) -> DirectMap<M> {
        DirectMap { memory, base }
    }
}

impl<M: KernelMemory> PhysicalMemory for DirectMap<M> {
    fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let virt = self.base.get().checked_add(at.get());
        let virt = virt.ok_or(Unreadable::phys(at, Why::NotHeld))?;
        self.memory.read_virt(VirtAddr::new(virt), buffer)
    }
}

/// Virtual memory, translated by page tables in physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Translated<M> {
    memory: M,
    root: PhysAddr,
    paging: Paging,
}

impl<M: PhysicalMemory> Translated<M> {
    /// Through the tables under `root`.
    pub const fn new(memory: M, root: PhysAddr, paging: Paging) -> Translated<M> {
        Translated { memory, root, paging }
    }
}

impl<M: PhysicalMemory> KernelMemory for Translated<M> {
    fn read_virt(&self, at: VirtAddr, mut buffer: &mut [u8]) -> Result<(), Unreadable> {
        let mut at = at.get();
        while !buffer.is_empty() {
            let virt = VirtAddr::new(at);
            let walked = walk(&Raw(&self.memory), self.root, &self.paging, virt);
            let (phys, size) = match walked.end() {
                WalkEnd::Mapped { phys, size, .. } => (phys, size.bytes()),
                WalkEnd::Unreadable { .. } => return Err(Unreadable::virt(virt, Why::Table)),
                WalkEnd::NotPresent | WalkEnd::Reserved { .. } | WalkEnd::NotCanonical => {
                    return Err(Unreadable::virt(virt, Why::NotMapped));
                }
            };
            let length = (size - (at & (size - 1))).min(buffer.len() as u64);
            let (now, later) = buffer.split_at_mut(length as usize);
            self.memory.read_phys(phys, now)?;
            buffer = later;
            at = match at.checked_add(length) {
                Some(next) => next,
                None if buffer.is_empty() => return Ok(()),
                None => return Err(Unreadable::virt(virt, Why::NotMapped)),
            };
        }
        Ok(())
    }
}

/// Entry by entry, for a few walks.
struct Raw<'m, M>(&'m M);

impl<M: PhysicalMemory> TableRead for Raw<'_, M> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, identmap::Unreadable> {
        read_entry(self.0, table, index)
    }
}

fn read_entry<M: PhysicalMemory>(
    memory: &M,
    table: PhysAddr,
    index: usize,
) -> Result<Entry, identmap::Unreadable> {
    let unreadable = identmap::Unreadable { table };
    let at = table.checked_add(index as u64 * 8).filter(|_| index < 512).ok_or(unreadable)?;
    let mut bytes = [0; 8];
    memory.read_phys(at, &mut bytes).map_err(|_| unreadable)?;
    Ok(Entry::from_bits(u64::from_le_bytes(bytes)))
}

/// Reads page tables in physical memory, a table at a time.
#[derive(Debug)]
pub struct TablePages<M> {
    memory: M,
    zeros_are_unreadable: bool,
    /// The tables used last, the newest at the end.
    kept: RefCell<Vec<(PhysAddr, Page)>>,
}

/// What a table's page holds.
#[derive(Clone, Debug)]
enum Page {
    Whole(Box<[u8; 4096]>),
    /// Not all of it can be read at once: entries are tried one by one.
    InParts,
    Zeros,
}

/// As many tables as a walk is in at once, and some.
const KEPT: usize = 8;

impl<M: PhysicalMemory> TablePages<M> {
    /// Tables in `memory`; an empty one is empty.
    pub const fn new(memory: M) -> TablePages<M> {
        TablePages { memory, zeros_are_unreadable: false, kept: RefCell::new(Vec::new()) }
    }

    /// Tables in memory that gives zeros for what it cannot read, as `/proc/kcore` does: a table
    /// with no entry in use counts as unreadable. Linux makes no such tables for kexec.
    pub const fn distrusting_zeros(memory: M) -> TablePages<M> {
        TablePages { memory, zeros_are_unreadable: true, kept: RefCell::new(Vec::new()) }
    }

    fn page(&self, table: PhysAddr) -> Page {
        let mut bytes = Box::new([0; 4096]);
        if self.memory.read_phys(table, &mut *bytes).is_err() {
            Page::InParts
        } else if self.zeros_are_unreadable && bytes.iter().all(|&byte| byte == 0) {
            Page::Zeros
        } else {
            Page::Whole(bytes)
        }
    }
}

impl<M: PhysicalMemory> TableRead for TablePages<M> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, identmap::Unreadable> {
        let mut kept = self.kept.borrow_mut();
        if let Some(found) = kept.iter().position(|(address, _)| *address == table) {
            let newest = kept.len() - 1;
            kept[found..=newest].rotate_left(1);
        } else {
            if kept.len() == KEPT {
                kept.remove(0);
            }
            kept.push((table, self.page(table)));
        }
        let unreadable = identmap::Unreadable { table };
        match kept.last().map(|(_, page)| page) {
            Some(Page::Whole(bytes)) => {
                let entry = bytes.as_chunks::<8>().0.get(index);
                entry.map(|bytes| Entry::from_bits(u64::from_le_bytes(*bytes))).ok_or(unreadable)
            }
            Some(Page::InParts) => read_entry(&self.memory, table, index),
            Some(Page::Zeros) | None => Err(unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::{Config, Levels};

    /// Physical memory from 0 on.
    struct Ram(Vec<u8>);

    impl PhysicalMemory for Ram {
        fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
            let failed = |error: io::Error| Unreadable::phys(at, Why::Failed(error.kind()));
            self.0.read_at(at.get(), buffer).map_err(failed)
        }
    }

    fn at(address: u64) -> PhysAddr {
        PhysAddr::new(address).unwrap()
    }

    fn ram(entries: &[(usize, u64)], size: usize) -> Ram {
        let mut bytes = vec![0; size];
        for &(offset, entry) in entries {
            bytes[offset..offset + 8].copy_from_slice(&entry.to_le_bytes());
        }
        Ram(bytes)
    }

    #[test]
    fn virtual_memory_is_read_across_pages_and_ends_where_it_is_not_mapped() {
        // Two pages, the second before the first, at the top of the address space.
        let tables = [(0xff8, 0x1063), (0x1ff8, 0x2063), (0x2ff8, 0x3063)];
        let leaves = [(0x3000 + 510 * 8, 0x5063), (0x3000 + 511 * 8, 0x4063)];
        let mut ram = ram(&[&tables[..], &leaves[..]].concat(), 0x6000);
        ram.0[0x4000..0x5000].fill(4);
        ram.0[0x5000..].fill(5);
        let paging = Config::kexec(Levels::Four, true).paging();
        let memory = Translated::new(&ram, at(0), paging);
        let mut buffer = [0; 4];
        memory.read_virt(VirtAddr::new(u64::MAX - 0x1001), &mut buffer).unwrap();
        assert_eq!(buffer, [5, 5, 4, 4]);
        memory.read_virt(VirtAddr::new(u64::MAX - 3), &mut buffer).unwrap();
        assert_eq!(buffer, [4; 4]);
        let past = VirtAddr::new(u64::MAX - 2);
        assert!(memory.read_virt(past, &mut buffer).is_err(), "does not wrap to 0");
        let hole = VirtAddr::new(u64::MAX - 0x2002);
        let error = memory.read_virt(hole, &mut buffer).unwrap_err();
        assert_eq!(error, Unreadable::virt(hole, Why::NotMapped));
        assert_eq!(error.to_string(), "virtual address 0xffffffffffffdffd is not mapped");
        let lost = Translated::new(&ram, at(0x9000), paging);
        assert_eq!(lost.read_virt(hole, &mut buffer), Err(Unreadable::virt(hole, Why::Table)));
    }

    #[test]
    fn half_a_table_is_read_as_far_as_it_goes() {
        let tables = TablePages::new(ram(&[(0x1000, 0x63), (0x1008, 0x1063)], 0x1010));
        assert_eq!(tables.entry(at(0x1000), 1).map(Entry::bits), Ok(0x1063));
        assert!(tables.entry(at(0x1000), 2).is_err());
        assert!(tables.entry(at(0), 512).is_err());
        assert!(tables.entry(at(0x1000), 512).is_err());
    }

    #[test]
    fn zeros_are_empty_or_unreadable_as_the_source_deserves() {
        let ram = ram(&[(0x1ff8, 0x63)], 0x2000);
        assert_eq!(TablePages::new(&ram).entry(at(0), 0), Ok(Entry::EMPTY));
        let tables = TablePages::distrusting_zeros(&ram);
        assert!(tables.entry(at(0), 0).is_err());
        assert_eq!(tables.entry(at(0x1000), 0), Ok(Entry::EMPTY), "one entry is in use");
        for table in (0..20).map(|n| at(n % 10 * 0x1000)) {
            let expected = table == at(0x1000);
            assert_eq!(tables.entry(table, 511).is_ok(), expected, "{table}");
        }
    }
}
