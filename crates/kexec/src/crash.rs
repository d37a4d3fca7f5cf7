//! What a crash kernel is told: which memory is its own, and where the crashed kernel's is.
//!
//! There is no backup of low memory: since 5.5 a kernel with a `crashkernel=` reservation keeps the first MiB to
//! itself and to firmware (`crash_reserve_low_1M()` in `arch/x86/kernel/setup.c`; commit 7c321eb2b843 took
//! the backup out), so the crash kernel may use it, and no dump holds it.

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_machine::{Layout, Machine, MemType, Region, ranges};

const LOW: u64 = 1 << 20;

/// What the core header is made from.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CrashFacts {
    /// Each processor's notes, by number: physical address and bytes (`cpu*/crash_notes`).
    pub notes: Vec<(u64, u64)>,
    /// The note with `vmcoreinfo` (`/sys/kernel/vmcoreinfo`).
    pub vmcoreinfo: (u64, u64),
    /// The kernel's image, `_text` to `_end`: virtual address and memory ([`kernel_text`]). Without it gdb and
    /// whatever else goes by virtual addresses finds none of the kernel's variables.
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
        // The kernel counts program headers alone (`arch_crash_get_elfcorehdr_size()`).
        let room = self.room.map_or(0, |room| room.saturating_add(HEADER));
        (HEADER + count * PROGRAM_HEADER).max(room)
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
    loads(kcore).find_map(|load| {
        let start = PhysAddr::new(load.phys)?;
        let is_ram = ram.iter().any(|range| range.contains(start));
        let offset = load.virt.checked_sub(load.phys)?;
        // It is a multiple of 1 GiB, with KASLR too (`kernel_randomize_memory()`).
        let plausible =
            load.virt < KERNEL_MAP && load.virt >> 56 == 0xff && offset & ((1 << 30) - 1) == 0;
        (is_ram && plausible).then_some(offset)
    })
}

/// The kernel's image, out of the same headers: `_text` to `_end`, virtual address and memory
/// (`proc_kcore_text_init()`; the physical address is there since 4.19). `None` if they do not tell.
#[must_use]
pub fn kernel_text(kcore: &[u8], ram: &[PhysRange]) -> Option<(u64, PhysRange)> {
    /// No kernel takes more (`KERNEL_IMAGE_SIZE` with KASLR, `arch/x86/include/asm/page_64_types.h`).
    const SPAN: u64 = 1 << 30;
    loads(kcore).find_map(|load| {
        let within = load.virt.checked_sub(KERNEL_MAP)?;
        let fits = within.checked_add(load.len)? <= SPAN;
        // Modules are up there too; what has no physical address has all ones.
        let range = PhysRange::from_len(load.phys, load.len).ok()?;
        let is_ram = ram.iter().any(|ram| ram.covers(range));
        // `phys_base` is a multiple of 2 MiB (`__startup_64()`).
        let plausible = load.virt.wrapping_sub(load.phys) & ((2 << 20) - 1) == 0;
        (fits && is_ram && plausible).then_some((load.virt, range))
    })
}

/// `__START_KERNEL_map`: the kernel's own image is mapped from here on.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// What one `PT_LOAD` header of `/proc/kcore` says.
struct CoreLoad {
    virt: u64,
    phys: u64,
    len: u64,
}

/// Those that are all there.
fn loads(kcore: &[u8]) -> impl Iterator<Item = CoreLoad> {
    let word = |at: usize| -> Option<u64> {
        let bytes = kcore.get(at..at.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    let table = || {
        kcore.starts_with(b"\x7fELF\x02\x01").then_some(())?;
        let first = usize::try_from(word(32)?).ok()?;
        let count = u16::from_le_bytes(kcore.get(56..58)?.try_into().ok()?);
        Some((first, usize::from(count)))
    };
    let (first, count) = table().unwrap_or_default();
    (0..count).filter_map(move |i| {
        let at = first.checked_add(i.checked_mul(PROGRAM_HEADER as usize)?)?;
        let load = CoreLoad {
            virt: word(at.checked_add(16)?)?,
            phys: word(at.checked_add(24)?)?,
            len: word(at.checked_add(40)?)?,
        };
        (word(at)? & 0xffff_ffff == 1).then_some(load)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers of `/proc/kcore` of a 6.1 guest with KASLR: type, virtual and physical address, length.
    const SEEN: [(u32, u64, u64, u64); 6] = [
        (4, 0, 0, 0),
        (1, 0xffff_ffff_98e0_0000, 0x37e0_0000, 0x283_0000),
        (1, 0xffff_d1c6_c000_0000, u64::MAX, 0x1fff_ffff_ffff),
        (1, 0xffff_ffff_c000_0000, u64::MAX, 0x3f00_0000),
        (1, 0xffff_8cd8_8010_0000, 0x10_0000, 0x5fee_0000),
        (1, 0xffff_8cd9_8000_0000, 0x1_0000_0000, 0x4000_0000),
    ];

    fn kcore(entries: &[(u32, u64, u64, u64)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[32] = 64;
        file[56] = entries.len() as u8;
        for (kind, virt, phys, len) in entries {
            file.extend(u64::from(*kind).to_le_bytes());
            for word in [0, *virt, *phys, *len, *len, 4096] {
                file.extend(word.to_le_bytes());
            }
        }
        file
    }

    fn ram() -> Vec<PhysRange> {
        let range = |start, len| PhysRange::from_len(start, len).unwrap();
        vec![range(0x10_0000, 0x5fee_0000), range(1 << 32, 1 << 30)]
    }

    #[test]
    fn kcore_tells_both_places() {
        let core = kcore(&SEEN);
        assert_eq!(page_offset(&core, &ram()), Some(0xffff_8cd8_8000_0000));
        let text = PhysRange::from_len(0x37e0_0000, 0x283_0000).unwrap();
        assert_eq!(kernel_text(&core, &ram()), Some((0xffff_ffff_98e0_0000, text)));
        // Cut anywhere there is less, and nothing else.
        for len in 0..core.len() {
            let found = kernel_text(&core[..len], &ram());
            assert!(found.is_none() || found == Some((0xffff_ffff_98e0_0000, text)), "{len}");
        }
    }

    #[test]
    fn what_cannot_be_the_image_is_not_taken_for_it() {
        let with = |virt, phys, len| {
            let mut entries = SEEN;
            entries[1] = (1, virt, phys, len);
            kernel_text(&kcore(&entries), &ram())
        };
        let (virt, phys) = (SEEN[1].1, SEEN[1].2);
        assert!(with(virt, phys, 0x1000).is_some());
        // Not a segment of memory, no bytes, past the end of the window, of memory, of numbers.
        assert_eq!(with(virt, u64::MAX, 0x1000), None);
        assert_eq!(with(virt, phys, 0), None);
        assert_eq!(with(virt, phys, 0x2720_0001), None);
        assert_eq!(with(virt, 0x5fe0_0000, 0x20_0000), None);
        assert_eq!(with(virt, phys, u64::MAX), None);
        assert_eq!(with(virt, phys + 0x1000, 0x1000), None);
        assert_eq!(with(0xffff_8cd8_b7e0_0000, phys, 0x1000), None);
        assert_eq!(kernel_text(b"\x7fELF\x02\x02", &ram()), None);
    }
}
