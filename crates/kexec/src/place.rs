//! Which memory an image may be put into: RAM that nothing needs any more once the jump is made.
//!
//! kexec copies an image over the running kernel, so that kernel's own memory is free. What is not: firmware's
//! tables and whatever else the next kernel reads from memory that calls itself RAM, memory reserved for
//! other ends, and memory that must never be touched.

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_linux::alive::most_of_table;
use identmap_linux::{Kind, firmware};
use identmap_machine::{Layout, Machine, MapOrigin, MemType, Region, hazards, ranges};

/// Nothing is put into the first MiB: firmware's tables, the trampolines of processors that start, and the
/// page with which a decompressor switches between 4 and 5 levels lie there
/// (`find_trampoline_placement()` in `arch/x86/boot/compressed/pgtable_64.c`, Linux 6.12).
pub(crate) const LOWEST: u64 = 1 << 20;
/// A kernel with 4 levels uses 46 bits of physical address (`MAX_PHYSMEM_BITS` in
/// `arch/x86/include/asm/sparsemem.h`, Linux 6.12); `kexec_file_load` stays below, too.
const HIGHEST: u64 = 1 << 46;
/// Taken for the length of a table of EFI's whose length is not known, at least: as much as an audit looks
/// at ([`most_of_table`]), which has more of some.
const UNKNOWN_TABLE: u64 = 64 << 10;

/// Memory that has to stay as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alive {
    /// The bytes.
    pub range: PhysRange,
    /// What is there.
    pub what: String,
}

/// Where an image may be put: sorted, disjoint, whole pages.
///
/// For `kexec -l`: what the running kernel and firmware's map both call RAM, from 1 MiB up to the
/// limit of 4-level kernels, without what is [`alive`]. For `kexec -p`: the reservation; of two the higher.
#[must_use]
pub fn free(machine: &Machine, kind: Kind, alive: &[Alive]) -> Vec<PhysRange> {
    let Some(layout) = Layout::of(machine) else { return Vec::new() };
    let mut ram = ranges::normalise(layout.of_kind(MemType::Usable).collect());
    match kind {
        Kind::Kexec => {
            // A producer that was told `mem=` or `memmap=` knows less than firmware; memory that was added
            // while running is not in firmware's map, and the next kernel does not know it.
            let firmware = firmware_map(machine);
            let usable = firmware.iter().filter(|r| r.kind == MemType::Usable).map(|r| r.range);
            ram = ranges::intersect(&ram, &ranges::normalise(usable.collect()));
        }
        Kind::Kdump => {
            // Segments go into `crashk_res` alone (`sanity_check_segment_list()` in `kernel/kexec_core.c`). There
            // is a second one, `crashk_low_res`, below 4 GiB where that lies above.
            let ranges = machine.crash_kernels.iter().map(|crash| crash.range);
            let reserved = ranges.max_by_key(|range| range.start());
            ram = ranges::intersect(&ram, &reserved.into_iter().collect::<Vec<_>>());
        }
    }
    let window = PhysRange::new(LOWEST, HIGHEST).map_or_else(|_| Vec::new(), |range| vec![range]);
    let keep = alive.iter().map(|alive| alive.range.round_out(PageSize::Size4K)).collect();
    let free = ranges::subtract(&ranges::intersect(&ram, &window), &ranges::normalise(keep));
    free.iter().filter_map(|range| range.round_in(PageSize::Size4K)).collect()
}

/// Everything that is known to need its memory after the jump, in no order. Ranges may overlap.
#[must_use]
pub fn alive(machine: &Machine, kind: Kind) -> Vec<Alive> {
    let mut all = Vec::new();
    let mut add = |range: Option<PhysRange>, what: &str| {
        all.extend(range.map(|range| Alive { range, what: what.to_owned() }));
    };
    let efi = &machine.efi;
    add(firmware::system_table(machine), "EFI system table");
    if let Some(table) = efi.config_table {
        let entries = table.entries.unwrap_or(UNKNOWN_TABLE / 24);
        let len = entries.saturating_mul(firmware::config_entry_len(machine)).max(1);
        add(PhysRange::from_len(table.address.get(), len).ok(), "EFI configuration table");
    }
    add(efi.memmap, "EFI memory map");
    for table in &efi.tables {
        let len = most_of_table(&table.name).max(UNKNOWN_TABLE);
        add(
            PhysRange::from_len(table.address.get(), len).ok(),
            &format!("EFI table {}", table.name),
        );
    }
    for (at, what) in [
        (efi.fw_vendor, "EFI vendor string"),
        (efi.runtime, "EFI runtime services table"),
        (machine.rsdp, "ACPI root pointer"),
        (machine.cc_blob, "confidential-computing blob"),
    ] {
        add(at.and_then(|at| PhysRange::from_len(at.get(), 256).ok()), what);
    }
    for descriptor in efi.runtime_map.iter().filter(|one| !one.is_left_to_the_kernel()) {
        add(Some(descriptor.range), "EFI runtime services");
    }
    for table in &machine.acpi_tables {
        add(Some(table.range), &format!("ACPI table {}", table.signature));
    }
    for range in &machine.setup_data {
        add(Some(*range), "setup_data");
    }
    add(machine.mp_table, "MP table");
    for hazard in hazards(machine) {
        add(Some(hazard.range), hazard.rule.title);
    }
    if kind == Kind::Kexec {
        for crash in &machine.crash_kernels {
            add(Some(crash.range), "crash kernel's reservation");
        }
    }
    // An address of 0 is no place of a table, but firmware's way of saying none.
    all.retain(|alive| alive.range.start() != PhysAddr::ZERO || alive.range.len() > LOWEST);
    all
}

/// The memory map that the next kernel is told: firmware's own, as kexec-tools hands it over
/// (`get_memory_ranges_sysfs()`), with what the running kernel reserved for tables that firmware
/// put into RAM (`efi_mem_reserve()`; the TPM's event log is one).
#[must_use]
pub fn memory_map(machine: &Machine) -> Vec<Region> {
    let firmware = firmware_map(machine);
    let Some(running) = Layout::of(machine) else { return firmware };
    let holds_table = |range: PhysRange| {
        let tables = machine.efi.tables.iter().map(|table| table.address);
        tables.chain(machine.rsdp).any(|at| range.contains(at))
    };
    let kept: Vec<PhysRange> = running
        .regions()
        .iter()
        .filter(|r| r.kind != MemType::Usable && holds_table(r.range))
        .map(|r| r.range)
        .collect();
    let mut map = Vec::new();
    for region in firmware {
        if region.kind != MemType::Usable {
            map.push(region);
            continue;
        }
        let whole = [region.range];
        let reserved = ranges::intersect(&whole, &kept);
        map.extend(reserved.iter().map(|&range| Region { range, kind: MemType::Reserved }));
        let rest = ranges::subtract(&whole, &reserved);
        map.extend(rest.into_iter().map(|range| Region { range, kind: MemType::Usable }));
    }
    map.sort_by_key(|region| region.range);
    map
}

/// Firmware's map: all of it, where the kernel publishes it; a log's lines are cut at 128 entries.
fn firmware_map(machine: &Machine) -> Vec<Region> {
    let published = machine.maps.iter().rev().find(|map| map.origin == MapOrigin::FirmwareMemmap);
    let layout = match published {
        Some(map) => Some(Layout::of_map(map)).filter(|layout| !layout.regions().is_empty()),
        None => None,
    };
    layout
        .or_else(|| Layout::of_firmware(machine))
        .map_or_else(Vec::new, |layout| layout.regions().to_vec())
}
