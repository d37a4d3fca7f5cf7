//! An ELF `vmlinux`.

use core::fmt;

use identmap::{PhysAddr, PhysRange};
use object::LittleEndian;
use object::elf::{FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use super::{ElfKernel, ElfSegment, LONGEST};

/// Why an ELF file is no kernel that can be placed. Segments are numbered as in the file, from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ElfError {
    /// The header, or the table of segments, lies outside the file or has entries of a wrong size.
    Header,
    /// Nothing is to be loaded.
    Empty,
    /// The bytes of a segment lie outside the file.
    Cut(usize),
    /// A segment has more bytes than it occupies.
    FileSize(usize),
    /// A segment that reaches past the end of physical memory, or of physical addresses' arithmetic.
    Place(usize),
    /// Two segments share memory.
    Overlap(PhysRange, PhysRange),
    /// All of it takes more than [`LONGEST`] bytes, from the lowest to the highest.
    TooLong(u64),
    /// The entry is in no segment.
    Entry(u64),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfError::Header => f.write_str("its headers are not all there"),
            ElfError::Empty => f.write_str("it has nothing to load"),
            ElfError::Cut(i) => write!(f, "the file ends before its segment {i} does"),
            ElfError::FileSize(i) => write!(f, "segment {i} has more bytes than it occupies"),
            ElfError::Place(i) => write!(f, "segment {i} does not lie in physical memory"),
            ElfError::Overlap(one, other) => write!(f, "segments {one} and {other} overlap"),
            ElfError::TooLong(len) => {
                write!(f, "it occupies {len:#x} bytes, more than {LONGEST:#x}")
            }
            ElfError::Entry(entry) => write!(f, "the entry {entry:#x} is in no segment"),
        }
    }
}

impl core::error::Error for ElfError {}

pub(super) fn read(bytes: &[u8]) -> Result<ElfKernel, ElfError> {
    let endian = LittleEndian;
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(|_| ElfError::Header)?;
    let headers = header.program_headers(endian, bytes).map_err(|_| ElfError::Header)?;
    let entry = header.e_entry(endian);
    let (mut segments, mut physical, mut translated) = (Vec::new(), None, None);
    for (i, segment) in headers.iter().enumerate() {
        let (memory, file) = (segment.p_memsz(endian), segment.p_filesz(endian));
        if segment.p_type(endian) != PT_LOAD || memory == 0 {
            continue;
        }
        if file > memory {
            return Err(ElfError::FileSize(i));
        }
        let range = PhysRange::from_len(segment.p_paddr(endian), memory);
        let range = range.map_err(|_| ElfError::Place(i))?;
        let content = segment.data(endian, bytes).map_err(|()| ElfError::Cut(i))?;
        segments.push(ElfSegment { range, bytes: content.to_vec() });
        // `vmlinux.lds.S` sets `ENTRY(phys_startup_64)`: physical. Others have a virtual address here. Older
        // kernels have a segment at virtual address 0 (per-CPU data), which is not to be taken for it.
        let at = PhysAddr::new(entry).filter(|entry| range.contains(*entry));
        physical = physical.or(at);
        let offset = entry.wrapping_sub(segment.p_vaddr(endian));
        if offset < memory && segment.p_flags(endian).contains(PF_X) {
            translated = translated.or(range.start().checked_add(offset));
        }
    }
    segments.sort_by_key(|segment| segment.range);
    for pair in segments.windows(2) {
        if pair[0].range.intersects(pair[1].range) {
            return Err(ElfError::Overlap(pair[0].range, pair[1].range));
        }
    }
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(ElfError::Empty);
    };
    let len = last.range.end().get() - first.range.start().get();
    if len > LONGEST {
        return Err(ElfError::TooLong(len));
    }
    let entry = physical.or(translated).ok_or(ElfError::Entry(entry))?;
    Ok(ElfKernel { entry, segments })
}
