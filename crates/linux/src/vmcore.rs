//! ELF core files of a whole machine, read in place: `/proc/kcore`, `/proc/vmcore` and copies of it,
//! QEMU's `dump-guest-memory`; and pieces of memory, each a file of its own.
//!
//! Formats: System V ABI, "Program Header" (`PT_LOAD` with `p_vaddr` and `p_paddr`, `PT_NOTE`); Linux
//! `fs/proc/kcore.c` (`p_paddr` is -1 where there is none), `fs/proc/vmcore.c`; QEMU
//! `target/i386/arch_dump.c` (`QEMUCPUState`). A core file is not trusted: its headers are counted
//! before they are believed, and nothing is read that was not asked for.

use std::fmt;
use std::io;

use identmap::{PhysAddr, PhysRange, VirtAddr};

use crate::memory::{KernelMemory, PhysicalMemory, ReadAt, Unreadable, Why};

/// An opened core file.
#[derive(Debug)]
pub struct Core<S> {
    source: S,
    /// Ascending, disjoint.
    physical: Vec<Held>,
    /// Ascending, disjoint.
    virtual_: Vec<Held>,
    notes: Notes,
}

/// Bytes `first..=last` of an address space are in the file from `offset` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    first: u64,
    last: u64,
    offset: u64,
}

/// What the notes of a core file tell.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Notes {
    /// Control registers of each processor, where QEMU wrote the file; in its order.
    pub processors: Vec<ControlRegisters>,
    /// `VMCOREINFO`: what the kernel tells about itself, lines of `KEY=VALUE`.
    pub vmcoreinfo: Option<VmcoreInfo>,
    /// What of the notes could not be read, in words.
    pub unreadable: Option<String>,
}

/// The control registers that decide how memory is paged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlRegisters {
    /// CR0; bit 31 (PG) is paging.
    pub cr0: u64,
    /// CR3, with its flags.
    pub cr3: u64,
    /// CR4; bit 12 (LA57) is 5-level paging.
    pub cr4: u64,
}

impl ControlRegisters {
    /// Paging is on (CR0.PG; SDM vol. 3A, 4.1.1).
    #[must_use]
    pub const fn is_paging(self) -> bool {
        self.cr0 >> 31 & 1 == 1
    }

    /// 5-level paging is on (CR4.LA57; SDM vol. 3A, 4.1.1).
    #[must_use]
    pub const fn is_five_level(self) -> bool {
        self.cr4 >> 12 & 1 == 1
    }

    /// The table that CR3 points to, without its flags (SDM vol. 3A, table 4-12).
    #[must_use]
    pub const fn root(self) -> Option<PhysAddr> {
        PhysAddr::new(self.cr3 & 0x000f_ffff_ffff_f000)
    }
}

/// `VMCOREINFO` (Linux `kernel/vmcore_info.c`, `arch/x86/kernel/vmcore_info_64.c`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmcoreInfo(String);

impl VmcoreInfo {
    /// Takes the text of the note, or of `/sys/kernel/vmcoreinfo`'s memory.
    #[must_use]
    pub fn new(text: &str) -> VmcoreInfo {
        VmcoreInfo(text.to_owned())
    }

    /// The value behind `KEY=`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// `SYMBOL(name)`: a virtual address, in hex.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<VirtAddr> {
        let value = self.get(&format!("SYMBOL({name})"))?;
        u64::from_str_radix(value.trim(), 16).ok().map(VirtAddr::new)
    }

    /// `NUMBER(name)`: decimal.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(&format!("NUMBER({name})"))?.trim().parse().ok()
    }

    /// Where the kernel's own top table lies: `swapper_pg_dir` (by its other name `init_top_pgt`) is in
    /// the image, which is mapped from `__START_KERNEL_map` on and lies `phys_base` further.
    #[must_use]
    pub fn kernel_root(&self) -> Option<PhysAddr> {
        /// `__START_KERNEL_map` (`arch/x86/include/asm/page_64_types.h`).
        const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
        let table = self.symbol("init_top_pgt").or_else(|| self.symbol("swapper_pg_dir"))?;
        let offset = table.get().checked_sub(START_KERNEL_MAP)?;
        PhysAddr::new(offset.checked_add_signed(self.number("phys_base")?)?)
    }
}

/// Why a file is not a core file to read.
#[derive(Debug)]
pub enum CoreError {
    /// The file cannot be read where a header must be.
    Io(io::Error),
    /// No ELF file.
    NotElf,
    /// An ELF file that is not of a 64-bit little-endian machine, or no core file.
    NotACore,
    /// The table of program headers is not as the specification has it.
    Headers {
        /// How many.
        count: u64,
        /// Bytes of each.
        size: u16,
    },
    /// A segment reaches beyond the end of the file's or the machine's addresses.
    Segment {
        /// Its place in the table of program headers.
        index: u64,
    },
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreError::Io(error) => write!(f, "the core file's headers cannot be read: {error}"),
            CoreError::NotElf => f.write_str("not an ELF file"),
            CoreError::NotACore => {
                f.write_str("an ELF file, but not a core file of a 64-bit little-endian machine")
            }
            CoreError::Headers { count, size } => write!(
                f,
                "{count} program headers of {size} bytes; expected at most {HEADERS_MAX} of {PHDR}"
            ),
            CoreError::Segment { index } => {
                write!(f, "program header {index} reaches beyond the address space")
            }
        }
    }
}

impl std::error::Error for CoreError {}

impl From<io::Error> for CoreError {
    fn from(error: io::Error) -> Self {
        CoreError::Io(error)
    }
}

/// `sizeof(Elf64_Ehdr)`, `sizeof(Elf64_Phdr)`
const EHDR: usize = 64;
const PHDR: usize = 56;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum` of a file that keeps the number in `sh_info` of section 0 (System V ABI).
const PN_XNUM: u64 = 0xffff;
/// More program headers than any machine has ranges of memory.
const HEADERS_MAX: u64 = 1 << 20;
/// More bytes of notes than the registers of 8192 processors take.
const NOTES_MAX: u64 = 16 << 20;

/// `p_type`, `p_offset`, `p_vaddr`, `p_paddr`, `p_filesz`
struct Header {
    kind: u32,
    offset: u64,
    virt: u64,
    phys: u64,
    size: u64,
}

impl<S: ReadAt> Core<S> {
    /// Reads the headers and the notes; nothing else.
    ///
    /// # Errors
    /// [`CoreError`]: each variant says when.
    pub fn open(source: S) -> Result<Self, CoreError> {
        let mut header = [0; EHDR];
        match source.read_at(0, &mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(CoreError::NotElf);
            }
            other => other?,
        }
        if header[..4] != *b"\x7fELF" {
            return Err(CoreError::NotElf);
        }
        // EI_CLASS = ELFCLASS64, EI_DATA = ELFDATA2LSB
        if header[4..6] != [2, 1]
            || u16_of(&header, 16) != ET_CORE
            || u16_of(&header, 18) != EM_X86_64
        {
            return Err(CoreError::NotACore);
        }
        let (mut physical, mut virtual_) = (Vec::new(), Vec::new());
        let mut notes = Notes::default();
        let mut notes_left = NOTES_MAX;
        for (index, header) in (0..).zip(headers(&source, &header)?) {
            // A segment's bytes that are not in the file are not known; the ABI's zeros are for programs.
            if header.size == 0 {
                continue;
            }
            let wrong = CoreError::Segment { index };
            header.offset.checked_add(header.size).ok_or(wrong)?;
            if header.kind == PT_NOTE {
                notes.read(&source, &header, &mut notes_left);
            } else if header.kind == PT_LOAD {
                let held = |first: u64| {
                    let last = first.checked_add(header.size - 1);
                    let wrong = CoreError::Segment { index };
                    last.map(|last| Held { first, last, offset: header.offset }).ok_or(wrong)
                };
                virtual_.push(held(header.virt)?);
                if header.phys != u64::MAX {
                    let held = held(header.phys)?;
                    let wrong = CoreError::Segment { index };
                    PhysRange::from_inclusive(held.first, held.last).map_err(|_| wrong)?;
                    physical.push(held);
                }
            }
        }
        Ok(Self { source, physical: disjoint(physical), virtual_: disjoint(virtual_), notes })
    }

    /// What the notes tell.
    #[must_use]
    pub const fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The physical ranges that the file holds: ascending, disjoint.
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.physical
            .iter()
            .filter_map(|held| PhysRange::from_inclusive(held.first, held.last).ok())
    }

    fn read(&self, held: &[Held], mut at: u64, mut buffer: &mut [u8]) -> Result<(), (u64, Why)> {
        while !buffer.is_empty() {
            let after = held.partition_point(|held| held.first <= at);
            let Held { first, last, offset } = after
                .checked_sub(1)
                .map(|index| held[index])
                .filter(|held| at <= held.last)
                .ok_or((at, Why::NotHeld))?;
            // One less than what is left of it: the whole of 2^64 bytes has no length.
            let length = (last - at).min(buffer.len() as u64 - 1) + 1;
            let (now, later) = buffer.split_at_mut(length as usize);
            self.source
                .read_at(offset + (at - first), now)
                .map_err(|error| (at, Why::Failed(error.kind())))?;
            buffer = later;
            if buffer.is_empty() {
                break;
            }
            at = at.checked_add(length).ok_or((u64::MAX, Why::NotHeld))?;
        }
        Ok(())
    }
}

impl<S: ReadAt> PhysicalMemory for Core<S> {
    fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        self.read(&self.physical, at.get(), buffer)
            .map_err(|(failed, why)| Unreadable::phys(PhysAddr::new(failed).unwrap_or(at), why))
    }
}

/// By `p_vaddr`: what `/proc/kcore` is for.
impl<S: ReadAt> KernelMemory for Core<S> {
    fn read_virt(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        self.read(&self.virtual_, at.get(), buffer)
            .map_err(|(failed, why)| Unreadable::virt(VirtAddr::new(failed), why))
    }
}

/// The program headers that count, read in blocks.
fn headers<S: ReadAt>(source: &S, header: &[u8; EHDR]) -> Result<Vec<Header>, CoreError> {
    const BLOCK: u64 = 1024;
    let size = u16_of(header, 54);
    let mut count = u64::from(u16_of(header, 56));
    if count == PN_XNUM {
        let section = u64_of(header, 40).checked_add(44);
        let mut info = [0; 4];
        source.read_at(section.ok_or(CoreError::Headers { count, size })?, &mut info)?;
        count = u64::from(u32::from_le_bytes(info));
    }
    if count > HEADERS_MAX || (usize::from(size) != PHDR && count != 0) {
        return Err(CoreError::Headers { count, size });
    }
    let table = u64_of(header, 32);
    let mut found = Vec::new();
    let mut done = 0;
    while done < count {
        let now = BLOCK.min(count - done);
        let at = table.checked_add(done * PHDR as u64).ok_or(CoreError::Headers { count, size })?;
        let mut block = vec![0; now as usize * PHDR];
        source.read_at(at, &mut block)?;
        found.extend(block.as_chunks::<PHDR>().0.iter().map(|header| Header {
            kind: u32_of(header, 0),
            offset: u64_of(header, 8),
            virt: u64_of(header, 16),
            phys: u64_of(header, 24),
            size: u64_of(header, 32),
        }));
        done += now;
    }
    Ok(found)
}

/// Ascending and without overlaps: a byte that two segments hold is read from the one that begins
/// lower, of equal ones the first in the file. (`/proc/kcore` and `/proc/vmcore` hold the kernel's
/// image twice: it is one memory.)
fn disjoint(mut held: Vec<Held>) -> Vec<Held> {
    held.sort_by_key(|held| held.first);
    let mut out: Vec<Held> = Vec::with_capacity(held.len());
    for next in held {
        match out.last() {
            Some(known) if next.last <= known.last => {}
            Some(known) if next.first <= known.last => {
                let cut = known.last + 1 - next.first;
                out.push(Held { first: known.last + 1, offset: next.offset + cut, ..next });
            }
            _ => out.push(next),
        }
    }
    out
}

impl Notes {
    fn read<S: ReadAt>(&mut self, source: &S, header: &Header, left: &mut u64) {
        if header.size > *left {
            self.unreadable = Some(format!("more than {NOTES_MAX} bytes of notes"));
            return;
        }
        *left -= header.size;
        let mut bytes = vec![0; header.size as usize];
        if let Err(error) = source.read_at(header.offset, &mut bytes) {
            self.unreadable = Some(format!("the notes cannot be read: {error}"));
            return;
        }
        if self.parse(&bytes).is_none() {
            self.unreadable = Some("a note is cut off".to_owned());
        }
    }

    /// `Elf64_Nhdr` is `n_namesz`, `n_descsz`, `n_type`, 4 bytes each; name and content follow, each
    /// filled up to 4 bytes.
    fn parse(&mut self, mut bytes: &[u8]) -> Option<()> {
        let padded = |length: usize| length.checked_next_multiple_of(4);
        while bytes.len() >= 12 {
            let (name_size, size) = (u32_of(bytes, 0) as usize, u32_of(bytes, 4) as usize);
            let kind = u32_of(bytes, 8);
            let name = bytes.get(12..)?.get(..name_size)?;
            let content_at = 12 + padded(name_size)?;
            let content = bytes.get(content_at..)?.get(..size)?;
            match name.strip_suffix(b"\0").unwrap_or(name) {
                b"VMCOREINFO" if self.vmcoreinfo.is_none() => {
                    self.vmcoreinfo =
                        Some(VmcoreInfo(String::from_utf8_lossy(content).into_owned()));
                }
                b"QEMU" if kind == 0 => self.processors.extend(control_registers(content)),
                _ => {}
            }
            // The last one's filling may be missing.
            bytes = bytes.get(content_at + padded(size)?..).unwrap_or_default();
        }
        Some(())
    }
}

/// `QEMUCPUState` version 1: version and size (4 bytes each), 18 registers, 10 segments of 24 bytes,
/// then CR0 to CR4. Later fields follow behind.
fn control_registers(state: &[u8]) -> Option<ControlRegisters> {
    const CR0: usize = 8 + 18 * 8 + 10 * 24;
    let enough = state.len() >= CR0 + 5 * 8 && u32_of(state, 0) == 1;
    enough.then(|| ControlRegisters {
        cr0: u64_of(state, CR0),
        cr3: u64_of(state, CR0 + 3 * 8),
        cr4: u64_of(state, CR0 + 4 * 8),
    })
}

/// Pieces of physical memory, each a source of its own: raw images, QEMU's `pmemsave`.
#[derive(Debug)]
pub struct Pieces<S> {
    /// Ascending, disjoint.
    pieces: Vec<(PhysRange, S)>,
}

/// Two pieces hold the same memory, and nobody knows which is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PiecesOverlap {
    /// The bytes that both hold.
    pub range: PhysRange,
}

impl fmt::Display for PiecesOverlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two pieces hold {}", self.range)
    }
}

impl std::error::Error for PiecesOverlap {}

impl<S: ReadAt> Pieces<S> {
    /// Each source holds its range, from the first byte on.
    ///
    /// # Errors
    /// [`PiecesOverlap`] if two of them do.
    pub fn new(mut pieces: Vec<(PhysRange, S)>) -> Result<Self, PiecesOverlap> {
        pieces.sort_by_key(|(range, _)| range.start());
        for pair in pieces.windows(2) {
            if let Some(range) = pair[0].0.intersection(pair[1].0) {
                return Err(PiecesOverlap { range });
            }
        }
        Ok(Self { pieces })
    }
}

impl<S: ReadAt> PhysicalMemory for Pieces<S> {
    fn read_phys(&self, mut at: PhysAddr, mut buffer: &mut [u8]) -> Result<(), Unreadable> {
        while !buffer.is_empty() {
            let after = self.pieces.partition_point(|(range, _)| range.start() <= at);
            let (range, source) = after
                .checked_sub(1)
                .map(|index| &self.pieces[index])
                .filter(|(range, _)| range.contains(at))
                .ok_or(Unreadable::phys(at, Why::NotHeld))?;
            let length = (range.end().get() - at.get()).min(buffer.len() as u64);
            let (now, later) = buffer.split_at_mut(length as usize);
            source
                .read_at(at.get() - range.start().get(), now)
                .map_err(|error| Unreadable::phys(at, Why::Failed(error.kind())))?;
            buffer = later;
            at = range.end();
        }
        Ok(())
    }
}

fn u16_of(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_of(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u64_of(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
