//! Where firmware may have put a table whose address no text tells.

use identmap::{PhysAddr, PhysRange};
use identmap_machine::{EfiDescriptor, Layout, Machine, MemType, is_efi_map_whole, ranges};

/// `EfiRuntimeServicesData` (UEFI 2.10, table 7.10).
const RUNTIME_SERVICES_DATA: u32 = 6;

/// Bytes of `EFI_SYSTEM_TABLE` on 64-bit firmware (UEFI 2.10, 4.3; Linux `efi_system_table_64_t`).
pub const SYSTEM_TABLE_64: u64 = 120;
/// Bytes of `EFI_SYSTEM_TABLE` on 32-bit firmware (Linux `efi_system_table_32_t`).
pub const SYSTEM_TABLE_32: u64 = 72;
/// Bytes of one `EFI_CONFIGURATION_TABLE` on 64-bit firmware: a GUID and a pointer (UEFI 2.10, 4.6).
pub const CONFIG_ENTRY_64: u64 = 24;
/// Bytes of one `EFI_CONFIGURATION_TABLE` on 32-bit firmware.
pub const CONFIG_ENTRY_32: u64 = 16;

/// What a list of candidate ranges rests on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Basis {
    /// The firmware's memory map: its ranges of `EfiRuntimeServicesData`, where the
    /// system table has to lie (UEFI 2.10, 4.3: tables reached at run time are in memory
    /// of a run-time type) and where EDK2 allocates the configuration table
    /// (`CoreInstallConfigurationTable()`, `AllocateRuntimePool`).
    EfiMap,
    /// An assumption: reserved ranges among or right above the RAM below 4 GiB. Linux's EFI stub
    /// turns run-time services data into e820 "reserved" (`setup_e820()` in
    /// `drivers/firmware/efi/libstub/x86-stub.c`), and firmware allocates downward
    /// from the top of that RAM.
    ReservedNearRam,
}

/// Ranges in which the EFI system table and configuration table may lie, sorted, merged.
///
/// Empty where neither the EFI memory map nor a layout is known.
#[must_use]
pub fn efi_table_candidates(machine: &Machine, layout: Option<&Layout>) -> (Basis, Vec<PhysRange>) {
    let whole = is_efi_map_whole(machine);
    for map in [&machine.efi.memory_map, &machine.efi.runtime_map] {
        let data = runtime_data(map);
        if whole && !data.is_empty() {
            return (Basis::EfiMap, data);
        }
    }
    (Basis::ReservedNearRam, layout.map_or_else(Vec::new, |layout| near_ram(machine, layout)))
}

/// Whether the machine booted through EFI, also where no line says so but something implies it.
#[must_use]
pub fn efi_booted(machine: &Machine) -> Option<bool> {
    let efi = &machine.efi;
    if efi.booted.is_some() {
        return efi.booted;
    }
    let seen = efi.version.is_some()
        || efi.system_table.is_some()
        || efi.config_table.is_some()
        || !efi.tables.is_empty()
        || !efi.memory_map.is_empty()
        || !efi.runtime_map.is_empty();
    seen.then_some(true)
}

/// Bytes of the EFI system table. Where the width of the firmware is not known it is taken
/// for 64-bit: an x86-64 kernel on 32-bit firmware is rare, and 120 bytes cover both.
#[must_use]
pub fn system_table_len(machine: &Machine) -> u64 {
    if machine.efi.is_64bit == Some(false) { SYSTEM_TABLE_32 } else { SYSTEM_TABLE_64 }
}

/// Bytes of one configuration-table entry.
#[must_use]
pub fn config_entry_len(machine: &Machine) -> u64 {
    if machine.efi.is_64bit == Some(false) { CONFIG_ENTRY_32 } else { CONFIG_ENTRY_64 }
}

/// The EFI system table; `None` where its address is not known (or not one).
#[must_use]
pub fn system_table(machine: &Machine) -> Option<PhysRange> {
    let address = machine.efi.system_table?;
    PhysRange::from_len(address.get(), system_table_len(machine)).ok()
}

/// What is known of the configuration table's place.
pub(crate) enum ConfigTablePlace {
    /// All of it.
    Known(PhysRange),
    /// It has no entries.
    Empty,
    /// Its first entry; how many follow is not known.
    Begins(PhysRange),
    /// Nothing.
    Unknown,
}

pub(crate) fn config_table(machine: &Machine) -> ConfigTablePlace {
    let Some(table) = machine.efi.config_table else { return ConfigTablePlace::Unknown };
    let entry = config_entry_len(machine);
    let start = table.address.get();
    let range = |bytes: Option<u64>| PhysRange::from_len(start, bytes?).ok();
    match table.entries {
        Some(0) => ConfigTablePlace::Empty,
        Some(count) => range(count.checked_mul(entry))
            .map_or(ConfigTablePlace::Unknown, ConfigTablePlace::Known),
        None => range(Some(entry)).map_or(ConfigTablePlace::Unknown, ConfigTablePlace::Begins),
    }
}

fn runtime_data(map: &[EfiDescriptor]) -> Vec<PhysRange> {
    let data = map.iter().filter(|d| d.kind == RUNTIME_SERVICES_DATA).map(|d| d.range);
    ranges::normalise(data.collect())
}

/// See [`Basis::ReservedNearRam`]. Left out: the first MiB (always mapped, and no place for
/// run-time data), what `/proc/iomem` gives to PCI, and the flash and APIC space at the top of 4 GiB.
fn near_ram(machine: &Machine, layout: &Layout) -> Vec<PhysRange> {
    const MIB: u64 = 1 << 20;
    const DEVICES: u64 = 0xf0000000;
    const FOUR_GIB: u64 = 1 << 32;
    let low = |addr: PhysAddr| addr.get() < DEVICES;
    let ram_top = layout
        .of_kind(MemType::Usable)
        .filter(|r| r.start().get() < FOUR_GIB)
        .map(|r| r.end().min(PhysAddr::new(FOUR_GIB).unwrap_or(r.end())))
        .max()
        .unwrap_or(PhysAddr::ZERO);
    // The described memory that follows the RAM without a hole is firmware's.
    let mut firmware_top = ram_top;
    for region in layout.regions() {
        if region.range.start() <= firmware_top && low(region.range.start()) {
            firmware_top = firmware_top.max(region.range.end());
        }
    }
    let reserved: Vec<PhysRange> = layout
        .of_kind(MemType::Reserved)
        .filter(|r| r.start().get() >= MIB && low(r.start()) && r.start() < firmware_top)
        .collect();
    let is_device = |name: &str| {
        ["PCI ECAM", "PCI MMCONFIG", "IOAPIC", "Local APIC", "HPET"]
            .iter()
            .any(|d| name.contains(d))
    };
    let devices = machine.iomem.iter().filter(|e| is_device(&e.name)).map(|e| e.range).collect();
    ranges::subtract(&reserved, &ranges::normalise(devices))
}
