//! What a crash kernel is told: which memory is its own, and where the crashed kernel's is.
//!
//! There is no backup of low memory: since 5.5 a kernel with a `crashkernel=` reservation keeps the first MiB to
//! itself and to firmware (`crash_reserve_low_1M()` in `arch/x86/kernel/setup.c`; commit 7c321eb2b843 took
//! the backup out), so the crash kernel may use it, and no dump holds it.

use identmap::{PageSize, PhysRange};
use identmap_machine::{Layout, Machine, MemType, Region, ranges};

const LOW: u64 = 1 << 20;

/// What the core header is made from.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CrashFacts {
    /// Each processor's notes, by number: physical address and bytes (`cpu*/crash_notes`).
    pub notes: Vec<(u64, u64)>,
    /// The note with `vmcoreinfo` (`/sys/kernel/vmcoreinfo`).
    pub vmcoreinfo: (u64, u64),
    /// The kernel's text: virtual address and memory.
    pub text: Option<(u64, PhysRange)>,
    /// Where the direct map of all memory begins (`page_offset_base`).
    pub page_offset: u64,
    /// Bytes to keep for the header, where the kernel rewrites it as processors and memory come and go
    /// (`/sys/kernel/crash_elfcorehdr_size`, since 6.6).
    pub room: Option<u64>,
}

/// `struct elf64_hdr` and `struct elf64_phdr`.
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

impl CrashFacts {
    /// Bytes of the segment.
    #[must_use]
    pub fn header_len(&self, ram: &[PhysRange]) -> u64 {
        let count = self.count(ram) as u64;
        (HEADER + count * PROGRAM_HEADER).max(self.room.unwrap_or(0))
    }

    /// An ELF core header as `crash_prepare_elf64_headers()` makes it (`kernel/crash_core.c`, Linux 6.12):
    /// a note for each processor, one with `vmcoreinfo`, the kernel's text, then the memory.
    #[must_use]
    pub fn header(&self, ram: &[PhysRange]) -> Vec<u8> {
        const PT_LOAD: u32 = 1;
        const PT_NOTE: u32 = 4;
        const RWX: u32 = 7;
        let count = self.count(ram) as u16;
        let mut elf = Vec::new();
        // 64-bit, little-endian, version 1.
        elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // ET_CORE, EM_X86_64.
        elf.extend(4_u16.to_le_bytes());
        elf.extend(62_u16.to_le_bytes());
        elf.extend(1_u32.to_le_bytes());
        for word in [0, HEADER, 0] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(0_u32.to_le_bytes());
        for half in [HEADER as u16, PROGRAM_HEADER as u16, count, 0, 0, 0] {
            elf.extend(half.to_le_bytes());
        }
        let mut entry = |kind: u32, flags: u32, virt: u64, phys: u64, len: u64| {
            elf.extend(kind.to_le_bytes());
            elf.extend(flags.to_le_bytes());
            // The offset in the old memory is the physical address.
            for word in [phys, virt, phys, len, len, 0] {
                elf.extend(word.to_le_bytes());
            }
        };
        for &(at, len) in self.notes.iter().chain([&self.vmcoreinfo]) {
            entry(PT_NOTE, 0, 0, at, len);
        }
        if let Some((virt, range)) = self.text {
            entry(PT_LOAD, RWX, virt, range.start().get(), range.len());
        }
        for range in ram {
            let start = range.start().get();
            entry(PT_LOAD, RWX, self.page_offset.wrapping_add(start), start, range.len());
        }
        elf
    }

    fn count(&self, ram: &[PhysRange]) -> usize {
        self.notes.len() + 1 + usize::from(self.text.is_some()) + ram.len()
    }
}

/// The memory that a dump holds: RAM from 1 MiB on without the reservations
/// (`prepare_elf_headers()` and `elf_header_exclude_ranges()` in `arch/x86/kernel/crash.c`).
#[must_use]
pub fn dumped_ram(machine: &Machine) -> Vec<PhysRange> {
    let Some(layout) = Layout::of(machine) else { return Vec::new() };
    let ram = ranges::normalise(layout.of_kind(MemType::Usable).collect());
    let mut without = reservations(machine);
    without.extend(PhysRange::new(0, LOW));
    ranges::subtract(&ram, &ranges::normalise(without))
}

/// The memory map of a crash kernel (`crash_setup_memmap_entries()`, same file): the first MiB and the reservations
/// are usable, but for the core header; ACPI's memory and what is reserved stays so; the rest is not told.
#[must_use]
pub fn memory_map(machine: &Machine, elfcorehdr: Option<PhysRange>) -> Vec<Region> {
    let Some(layout) = Layout::of(machine) else { return Vec::new() };
    let ram = ranges::normalise(layout.of_kind(MemType::Usable).collect());
    let mut own = reservations(machine);
    own.extend(PhysRange::new(0, LOW));
    let own = ranges::intersect(&ranges::normalise(own), &ram);
    let header: Vec<PhysRange> = elfcorehdr.into_iter().collect();
    let own = ranges::subtract(&own, &header);
    let usable = own.iter().filter_map(|range| range.round_in(PageSize::Size4K));
    let mut map: Vec<Region> =
        usable.map(|range| Region { range, kind: MemType::Usable }).collect();
    let kept = [MemType::AcpiData, MemType::AcpiNvs, MemType::Reserved];
    map.extend(layout.regions().iter().filter(|region| kept.contains(&region.kind)));
    // In the reservation, but not to be used: what is not told is not touched.
    map.sort_by_key(|region| region.range);
    map
}

fn reservations(machine: &Machine) -> Vec<PhysRange> {
    machine.crash_kernels.iter().map(|crash| crash.range).collect()
}

/// Where the direct map begins, out of the headers of `/proc/kcore`: it gives each range of RAM with its physical
/// and its virtual address (`kcore_update_ram()` in `fs/proc/kcore.c`). `None` if they do not tell.
#[must_use]
pub fn page_offset(kcore: &[u8], ram: &[PhysRange]) -> Option<u64> {
    /// The kernel's own text is mapped from here on (`__START_KERNEL_map`).
    const TEXT: u64 = 0xffff_ffff_8000_0000;
    let word = |at: usize| -> Option<u64> {
        let bytes = kcore.get(at..at.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    if kcore.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let first = usize::try_from(word(32)?).ok()?;
    let count = usize::from(u16::from_le_bytes(kcore.get(56..58)?.try_into().ok()?));
    (0..count).find_map(|i| {
        let at = first.checked_add(i.checked_mul(PROGRAM_HEADER as usize)?)?;
        let (virt, phys) = (word(at.checked_add(16)?)?, word(at.checked_add(24)?)?);
        let is_load = word(at)? & 0xffff_ffff == 1;
        let start = identmap::PhysAddr::new(phys)?;
        let is_ram = ram.iter().any(|range| range.contains(start));
        let offset = virt.checked_sub(phys)?;
        // It is a multiple of 1 GiB, with KASLR too (`kernel_randomize_memory()`).
        let plausible = virt < TEXT && virt >> 56 == 0xff && offset & ((1 << 30) - 1) == 0;
        (is_load && is_ram && plausible).then_some(offset)
    })
}
