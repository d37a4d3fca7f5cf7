//! Physical memory in an ELF core file: what QEMU's `dump-guest-memory` writes, and what the lab
//! keeps of it (a core file with nothing but the pages of the tables).
//!
//! Only program headers are used: each `PT_LOAD` says with `p_paddr` which physical bytes it holds
//! (System V ABI, "Program Header"). The file is not trusted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use identmap::{Entry, PhysAddr, PhysRange, TableRead};

/// Physical memory that can be read, in part.
pub trait PhysRead {
    /// Fills `buffer` with the bytes from `address` on.
    ///
    /// # Errors
    /// [`Unreadable`] if any byte of it is not there.
    fn read(&self, address: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable>;

    /// A little-endian number.
    ///
    /// # Errors
    /// As [`PhysRead::read`].
    fn read_u64(&self, address: PhysAddr) -> Result<u64, Unreadable> {
        let mut buffer = [0; 8];
        self.read(address, &mut buffer)?;
        Ok(u64::from_le_bytes(buffer))
    }
}

/// No such byte: not in the dump, or it cannot be read from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(
    /// The first physical address that cannot be read.
    pub PhysAddr,
);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "physical address {} is not in the memory image", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Bytes at offsets: a file, or a slice in tests.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Any input/output error, and [`io::ErrorKind::UnexpectedEof`] beyond the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let bytes = end.and_then(|end| self.get(offset as usize..end as usize));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An opened core file: its segments lie in ascending order of physical address and do not overlap.
#[derive(Debug)]
pub struct CoreFile<S> {
    source: S,
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    range: PhysRange,
    /// Of its first byte in the file; with the length it stays below 2^64.
    offset: u64,
}

/// Why a file is not a core file to read.
#[derive(Debug)]
pub enum CoreError {
    /// The file cannot be read where a header must be.
    Io(io::Error),
    /// Not an ELF file of a 64-bit little-endian machine, or not of type `ET_CORE`.
    NotACore,
    /// The table of program headers is not as the specification has it; the number is `e_phnum`.
    Headers(u16),
    /// A segment at this physical address that ends beyond 52 bits, or beyond any file.
    Segment(u64),
    /// Two segments hold the same physical address.
    Overlap(PhysAddr),
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the core file's headers cannot be read: {error}"),
            Self::NotACore => write!(f, "not an ELF core file of a 64-bit little-endian machine"),
            Self::Headers(count) => write!(f, "{count} program headers of a wrong size"),
            Self::Segment(at) => {
                write!(f, "the segment at 0x{at:016x} reaches beyond the address space")
            }
            Self::Overlap(at) => write!(f, "two segments hold {at}"),
        }
    }
}

impl std::error::Error for CoreError {}

impl From<io::Error> for CoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

const EHDR: usize = 64;
const PHDR: usize = 56;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const EM_X86_64: u16 = 62;
/// `e_phnum` of a file that keeps the true number elsewhere.
const PN_XNUM: u16 = 0xffff;

impl<S: ReadAt> CoreFile<S> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`CoreError`]: each variant says when.
    pub fn open(source: S) -> Result<Self, CoreError> {
        let mut header = [0; EHDR];
        source.read_at(0, &mut header)?;
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        // EI_CLASS = ELFCLASS64, EI_DATA = ELFDATA2LSB
        if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] || half(16) != ET_CORE {
            return Err(CoreError::NotACore);
        }
        let count = half(56);
        if half(54) as usize != PHDR || count == PN_XNUM {
            return Err(CoreError::Headers(count));
        }
        let table = u64_of(&header, 32);
        let mut segments = Vec::new();
        for index in 0..u64::from(count) {
            let at = table.checked_add(index * PHDR as u64).ok_or(CoreError::Headers(count))?;
            let mut header = [0; PHDR];
            source.read_at(at, &mut header)?;
            let (offset, start, size) =
                (u64_of(&header, 8), u64_of(&header, 24), u64_of(&header, 32));
            if u32::from_le_bytes([header[0], header[1], header[2], header[3]]) != PT_LOAD
                || size == 0
            {
                continue;
            }
            let range = PhysRange::from_len(start, size).map_err(|_| CoreError::Segment(start))?;
            offset.checked_add(size).ok_or(CoreError::Segment(start))?;
            segments.push(Segment { range, offset });
        }
        segments.sort_by_key(|segment| segment.range.start());
        if let Some(pair) =
            segments.windows(2).find(|pair| pair[0].range.end() > pair[1].range.start())
        {
            return Err(CoreError::Overlap(pair[1].range.start()));
        }
        Ok(Self { source, segments })
    }

    /// The physical ranges the file holds, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> {
        self.segments.iter().map(|segment| segment.range)
    }
}

impl<S: ReadAt> PhysRead for CoreFile<S> {
    fn read(&self, mut address: PhysAddr, mut buffer: &mut [u8]) -> Result<(), Unreadable> {
        while !buffer.is_empty() {
            let after = self.segments.partition_point(|segment| segment.range.start() <= address);
            let Segment { range, offset } = after
                .checked_sub(1)
                .map(|index| self.segments[index])
                .filter(|segment| segment.range.contains(address))
                .ok_or(Unreadable(address))?;
            let length = (range.end().get() - address.get()).min(buffer.len() as u64);
            let (now, later) = buffer.split_at_mut(length as usize);
            self.source
                .read_at(offset + (address.get() - range.start().get()), now)
                .map_err(|_| Unreadable(address))?;
            buffer = later;
            address = range.end();
        }
        Ok(())
    }
}

impl<S: ReadAt> TableRead for CoreFile<S> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, identmap::Unreadable> {
        let unreadable = identmap::Unreadable { table };
        let at = table.checked_add(index as u64 * 8).ok_or(unreadable)?;
        self.read_u64(at).map(Entry::from_bits).map_err(|_| unreadable)
    }
}

/// A core file that holds exactly these pages, keyed by physical address; runs of pages are one
/// segment. More than 65534 runs do not fit the format.
///
/// # Errors
/// [`CoreError::Headers`] with too many runs.
pub fn write_core(pages: &BTreeMap<PhysAddr, [u8; 4096]>) -> Result<Vec<u8>, CoreError> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for address in pages.keys().map(|address| address.get()) {
        match runs.last_mut() {
            Some((start, size)) if *start + *size == address => *size += 4096,
            _ => runs.push((address, 4096)),
        }
    }
    let count = u16::try_from(runs.len()).unwrap_or(PN_XNUM);
    if count == PN_XNUM {
        return Err(CoreError::Headers(count));
    }
    let mut bytes = vec![0; EHDR];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    for (at, value) in
        [(16, ET_CORE), (18, EM_X86_64), (52, EHDR as u16), (54, PHDR as u16), (56, count)]
    {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes[20] = 1; // e_version
    bytes[32..40].copy_from_slice(&(EHDR as u64).to_le_bytes());
    let mut offset = (EHDR + runs.len() * PHDR).next_multiple_of(4096) as u64;
    for (start, size) in runs {
        bytes.extend(PT_LOAD.to_le_bytes());
        bytes.extend(4_u32.to_le_bytes()); // PF_R
        // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
        for field in [offset, 0, start, size, size, 4096] {
            bytes.extend(field.to_le_bytes());
        }
        offset += size;
    }
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    for page in pages.values() {
        bytes.extend(page);
    }
    Ok(bytes)
}

fn u64_of(header: &[u8], at: usize) -> u64 {
    header[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: u64) -> PhysAddr {
        PhysAddr::new(address).unwrap()
    }

    fn pages() -> BTreeMap<PhysAddr, [u8; 4096]> {
        [(at(0x5000), [5; 4096]), (at(0x2000), [2; 4096]), (at(0x3000), [3; 4096])].into()
    }

    #[test]
    fn pages_come_back_and_holes_do_not() {
        let core = CoreFile::open(write_core(&pages()).unwrap()).unwrap();
        let ranges: Vec<String> = core.ranges().map(|range| format!("{range:?}")).collect();
        assert_eq!(ranges, ["[0x2000, 0x4000)", "[0x5000, 0x6000)"]);
        let mut buffer = [0; 16];
        core.read(at(0x2ff8), &mut buffer).unwrap();
        assert_eq!(buffer, [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!(core.read_u64(at(0x5ff8)), Ok(0x0505050505050505));
        assert_eq!(core.read(at(0x3ff8), &mut buffer), Err(Unreadable(at(0x4000))));
        assert_eq!(core.read_u64(at(0x1fff)), Err(Unreadable(at(0x1fff))));
        assert_eq!(core.read_u64(PhysAddr::MAX), Err(Unreadable(PhysAddr::MAX)));
    }

    #[test]
    fn a_cut_file_is_refused_or_unreadable() {
        let whole = write_core(&pages()).unwrap();
        for end in (0..whole.len()).step_by(37) {
            if let Ok(core) = CoreFile::open(whole[..end].to_vec()) {
                assert_eq!(core.read_u64(at(0x5ff8)), Err(Unreadable(at(0x5ff8))), "cut at {end}");
            } else {
                assert!(end < EHDR + 2 * PHDR);
            }
        }
    }

    #[test]
    fn overlaps_and_wrapping_segments_are_refused() {
        let whole = write_core(&pages()).unwrap();
        let second = EHDR + PHDR + 24;
        let mut bytes = whole.clone();
        bytes[second..second + 8].copy_from_slice(&0x3000_u64.to_le_bytes());
        assert!(matches!(CoreFile::open(bytes), Err(CoreError::Overlap(at)) if at.get() == 0x3000));
        let mut bytes = whole;
        bytes[second..second + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(CoreFile::open(bytes), Err(CoreError::Segment(u64::MAX))));
    }
}
