//! The memory maps of one machine, each by itself and all in one language.

use core::fmt;

use identmap::{PhysAddr, PhysRange};

use crate::layout::{flatten, iomem_layers, largest, largest_boot, resolve};
use crate::{EfiDescriptor, Machine, MapEntry, MapOrigin, MemType, Region};

/// Who says it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// A memory map of the e820 kind.
    Map(MapOrigin),
    /// The EFI memory map.
    EfiMap,
    /// `/proc/iomem`.
    Iomem,
    /// The map the running kernel works with ([`crate::Layout::of`]).
    Running,
}

impl fmt::Display for Source {
    /// The name that the source goes by where it is found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Source::Map(MapOrigin::BiosE820) => "BIOS-e820",
            Source::Map(MapOrigin::SetupDataE820) => "reserve setup_data",
            Source::Map(MapOrigin::UserE820) => "user-defined e820",
            Source::Map(MapOrigin::ModifiedE820) => "modified e820",
            Source::Map(MapOrigin::XenE820) => "Xen",
            Source::Map(MapOrigin::FirmwareMemmap) => "/sys/firmware/memmap",
            Source::Map(MapOrigin::BootParams) => "boot_params",
            Source::Map(MapOrigin::KexecRanges) => "kexec MEMORY RANGES",
            Source::EfiMap => "EFI memory map",
            Source::Iomem => "/proc/iomem",
            Source::Running => "running kernel",
        })
    }
}

/// The e820 type that Linux makes of an EFI descriptor; `None` where it leaves it out.
///
/// `setup_e820()` in `drivers/firmware/efi/libstub/x86-stub.c` (7.2); the kernel
/// proper agrees (`do_add_efi_memmap()` in `arch/x86/platform/efi/efi.c`) except
/// that it asks for `EFI_MEMORY_WB` before it calls memory RAM, which no firmware
/// leaves out for RAM. Type numbers: UEFI 2.10, table 7.10.
#[must_use]
pub fn e820_of_efi(kind: u32, attributes: u64) -> Option<MemType> {
    /// "Specific-purpose memory", UEFI 2.10, section 7.2.3.
    const EFI_MEMORY_SP: u64 = 0x40000;
    Some(match kind {
        // Reserved, runtime code and data, MMIO, MMIO port space, PAL code.
        0 | 5 | 6 | 11 | 12 | 13 => MemType::Reserved,
        // Loader, boot services, conventional; unaccepted, which is accepted on first use.
        1..=4 | 7 if attributes & EFI_MEMORY_SP != 0 => MemType::SoftReserved,
        1..=4 | 7 | 15 => MemType::Usable,
        8 => MemType::Unusable,
        9 => MemType::AcpiData,
        10 => MemType::AcpiNvs,
        14 => MemType::Persistent,
        _ => return None,
    })
}

/// One source's picture of memory: sorted, disjoint, merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) source: Source,
    pub(crate) regions: Vec<Region>,
}

/// Every map that describes the machine as it came from firmware or as the kernel
/// now has it: one for each source, of the boot with the most RAM.
pub(crate) fn views(machine: &Machine) -> Vec<View> {
    const ORIGINS: [MapOrigin; 7] = [
        MapOrigin::BiosE820,
        MapOrigin::XenE820,
        MapOrigin::FirmwareMemmap,
        MapOrigin::BootParams,
        MapOrigin::SetupDataE820,
        MapOrigin::UserE820,
        MapOrigin::ModifiedE820,
    ];
    let (maps, _) = largest_boot(machine);
    let tables = ORIGINS.iter().filter_map(|&origin| {
        let map = maps.iter().rev().find(|map| map.origin == origin)?;
        Some(View { source: Source::Map(origin), regions: resolve(&map.entries) })
    });
    let kexec = largest(machine, MapOrigin::KexecRanges)
        .map(|map| View { source: Source::Map(map.origin), regions: resolve(&map.entries) });
    let efi = View { source: Source::EfiMap, regions: resolve(&efi_entries(machine)) };
    let iomem = View { source: Source::Iomem, regions: flatten(iomem_layers(machine)) };
    tables.chain([efi, iomem]).chain(kexec).filter(|v| !v.regions.is_empty()).collect()
}

/// The EFI memory map as Linux turns it into e820 entries.
pub(crate) fn efi_entries(machine: &Machine) -> Vec<MapEntry> {
    let entry = |d: &EfiDescriptor| {
        let kind = e820_of_efi(d.kind, d.attributes)?;
        let (start, last) = (d.range.start().get(), d.range.last().get());
        Some(MapEntry { start, last, kind, line: d.line })
    };
    machine.efi.memory_map.iter().filter_map(entry).collect()
}

/// A stretch in which no list changes its mind, with what each list says of it.
pub(crate) struct Slice {
    pub(crate) range: PhysRange,
    pub(crate) kinds: Vec<Option<MemType>>,
}

/// Cuts the address space so that each slice has one answer per list; neighbours
/// with equal answers are one slice. O(n log n) in all regions together.
pub(crate) fn slices(lists: &[&[Region]]) -> Vec<Slice> {
    let mut edges: Vec<PhysAddr> = lists
        .iter()
        .flat_map(|list| list.iter().flat_map(|r| [r.range.start(), r.range.end()]))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut next = vec![0; lists.len()];
    let mut out: Vec<Slice> = Vec::new();
    for pair in edges.windows(2) {
        let Some(range) = PhysRange::between(pair[0], pair[1]) else { continue };
        let mut kinds = Vec::with_capacity(lists.len());
        for (list, at) in lists.iter().zip(&mut next) {
            while list.get(*at).is_some_and(|r| r.range.end() <= range.start()) {
                *at += 1;
            }
            let region = list.get(*at).filter(|r| r.range.contains(range.start()));
            kinds.push(region.map(|r| r.kind));
        }
        match out.last_mut() {
            Some(last) if last.kinds == kinds && last.range.end() == range.start() => {
                last.range = last.range.merged(range).unwrap_or(last.range);
            }
            _ => out.push(Slice { range, kinds }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn efi_types_as_the_stub_sees_them() {
        assert_eq!(e820_of_efi(7, 0xf), Some(MemType::Usable));
        assert_eq!(e820_of_efi(7, 0x4000f), Some(MemType::SoftReserved));
        assert_eq!(e820_of_efi(6, 0x800000000000000f), Some(MemType::Reserved));
        assert_eq!(e820_of_efi(9, 0xf), Some(MemType::AcpiData));
        assert_eq!(e820_of_efi(0x70000000, 0), None);
    }

    #[test]
    fn slices_agree_with_looking_at_every_byte() {
        let mut random = Random::new(4);
        let kinds = [MemType::Usable, MemType::Reserved, MemType::AcpiNvs];
        for _ in 0..3_000 {
            let lists: Vec<Vec<Region>> = (0..3)
                .map(|_| {
                    flatten((0..random.below(6)).map(|_| {
                        let range =
                            PhysRange::from_len(random.below(40), 1 + random.below(9)).unwrap();
                        (random.below(3), Region { range, kind: kinds[random.below(3) as usize] })
                    }))
                })
                .collect();
            let borrowed: Vec<&[Region]> = lists.iter().map(Vec::as_slice).collect();
            let slices = slices(&borrowed);
            for byte in (0..56).filter_map(PhysAddr::new) {
                let want: Vec<Option<MemType>> = lists
                    .iter()
                    .map(|l| l.iter().find(|r| r.range.contains(byte)).map(|r| r.kind))
                    .collect();
                let got = slices.iter().find(|s| s.range.contains(byte));
                match got {
                    Some(slice) => assert_eq!(slice.kinds, want),
                    None => assert!(want.iter().all(Option::is_none)),
                }
            }
            for pair in slices.windows(2) {
                assert!(pair[0].range.end() <= pair[1].range.start());
                assert!(
                    pair[0].range.end() < pair[1].range.start() || pair[0].kinds != pair[1].kinds
                );
            }
        }
    }
}
