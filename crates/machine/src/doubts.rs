//! Whether the memory map that the texts hold is all of it: held against what else they say.

use identmap::{PhysAddr, PhysRange};

use crate::layout::LayoutOrigin;
use crate::{Layout, Machine, MapOrigin, MemType, parse_number};

/// A reason to think that the map is not the running kernel's, or not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapDoubt {
    /// Why, in one sentence without a full stop.
    pub why: String,
    /// What to supply.
    pub supply: &'static str,
}

const LOG: &str = "give the whole boot log (dmesg), or /proc/iomem read as root";
const IOMEM: &str = "give /proc/iomem whole, read as root";
const MEMMAP: &str = "give all of `grep . /sys/firmware/memmap/*/*`, the whole boot log, or /proc/iomem read as root";
const RANGES: &str =
    "give all of what kexec -d prints, the whole boot log, or /proc/iomem read as root";

/// Every reason to distrust [`Layout::of`] of this machine. Empty: none was found.
#[must_use]
pub fn map_doubts(machine: &Machine) -> Vec<MapDoubt> {
    let Some(layout) = Layout::of(machine) else { return Vec::new() };
    let mut found = Vec::new();
    let mut doubt = |why: String, supply| found.push(MapDoubt { why, supply });
    match layout.origin() {
        LayoutOrigin::Iomem => {
            if machine.lost.iomem {
                doubt("a line of /proc/iomem is cut, missing or cannot be read".to_owned(), IOMEM);
            }
            if let Some(why) = iomem_ends_early(machine) {
                doubt(why, IOMEM);
            }
        }
        LayoutOrigin::Map(origin) => {
            let (lost, supply) = match origin {
                MapOrigin::FirmwareMemmap => (machine.lost.firmware_memmap, MEMMAP),
                MapOrigin::KexecRanges => (machine.lost.kexec_ranges, RANGES),
                _ => (machine.lost.map, LOG),
            };
            if lost {
                let why = "an entry of it, or a change to it, is cut, missing or cannot be read";
                doubt(why.to_owned(), supply);
            }
            if origin == MapOrigin::BootParams && machine.lost.boot_params {
                let why =
                    "boot_params has room for 128 entries and is full: the others are not given";
                doubt(why.to_owned(), LOG);
            }
            if let Some(word) = changed_by_cmdline(machine, &layout, origin) {
                doubt(
                    format!("{word} on the command line changes it, and the result is not given"),
                    LOG,
                );
            }
        }
    }
    // The kernel of a Xen guest counts what Xen gave it, not what the map says.
    if !matches!(layout.origin(), LayoutOrigin::Map(MapOrigin::XenE820 | MapOrigin::KexecRanges)) {
        if let Some(why) = last_pfn(machine, &layout) {
            doubt(why, LOG);
        }
        if let Some(why) = counted(machine, &layout) {
            doubt(why, LOG);
        }
    }
    found
}

/// Whether the EFI memory map or, where that has no run-time data, the run-time map is all of it, if there is one: no
/// entry lost, and none of the RAM that the firmware's other map has lies past its end.
#[must_use]
pub fn is_efi_map_whole(machine: &Machine) -> bool {
    /// `EfiConventionalMemory` (UEFI 2.10, table 7.10).
    const CONVENTIONAL: u32 = 7;
    /// `EfiRuntimeServicesData`.
    const RUNTIME_DATA: u32 = 6;
    // A kernel that was entered by kexec is handed the run-time entries alone.
    let of_ram = machine.efi.memory_map.iter().any(|d| d.kind == CONVENTIONAL);
    let end = machine.efi.memory_map.iter().map(|d| d.range.end()).max();
    let ram = Layout::of_firmware(machine).and_then(|layout| ram_end(&layout));
    let has_data = machine.efi.memory_map.iter().any(|d| d.kind == RUNTIME_DATA);
    let lost = machine.lost.efi_map || machine.lost.efi_runtime_map && !has_data;
    !lost && (!of_ram || ram.is_none_or(|ram| Some(ram) <= end))
}

fn ram_end(layout: &Layout) -> Option<PhysAddr> {
    layout.of_kind(MemType::Usable).last().map(PhysRange::end)
}

/// Linux lists all of its e820 table there (`e820__reserve_resources()`), so the listing cannot end below the
/// table's RAM.
fn iomem_ends_early(machine: &Machine) -> Option<String> {
    // Where I/O APICs lie, and the local APIC past them, which is always listed (`lapic_insert_resource()`).
    const APICS: u64 = 0xfec0_0000;
    let listed = machine.iomem.iter().map(|entry| entry.range.end()).max()?;
    if listed.get() < APICS {
        return Some(format!(
            "/proc/iomem ends at {listed}, below the APICs of every PC: it is cut"
        ));
    }
    let kernel = [MapOrigin::ModifiedE820, MapOrigin::UserE820, MapOrigin::BiosE820];
    // The last of the kernel's own prints; memory that was taken out later ends lower.
    let limited = machine.cmdline.as_deref().is_some_and(|line| limits(line, |_| false).is_some());
    let map = kernel.into_iter().find_map(|origin| {
        let map = machine.maps.iter().rev().find(|map| map.origin == origin)?;
        (origin != MapOrigin::BiosE820 || !limited).then_some(map)
    })?;
    let ram = ram_end(&Layout::of_map(map))?;
    (listed < ram && machine.updates.iter().all(|u| u.range.end() < ram)).then(|| {
        format!(
            "/proc/iomem ends at {listed}, but the kernel's own map has RAM up to {ram}: it is cut"
        )
    })
}

/// `mem=` or `memmap=`, after which the kernel prints `user-defined physical RAM map:`
/// (`e820__finish_early_params()` in `arch/x86/kernel/e820.c`), where that map is not at hand.
fn changed_by_cmdline(
    machine: &Machine,
    layout: &Layout,
    origin: MapOrigin,
) -> Option<&'static str> {
    let printed = machine
        .maps
        .iter()
        .any(|map| matches!(map.origin, MapOrigin::UserE820 | MapOrigin::ModifiedE820));
    let before = matches!(
        origin,
        MapOrigin::BiosE820
            | MapOrigin::SetupDataE820
            | MapOrigin::FirmwareMemmap
            | MapOrigin::BootParams
    );
    if printed || !before {
        return None;
    }
    let done = |range: PhysRange| layout.of_kind(MemType::Usable).all(|ram| !ram.intersects(range));
    limits(machine.cmdline.as_deref()?, done)
}

/// What limits or changes RAM, but for ranges taken out of it that are out already.
fn limits(cmdline: &str, done: impl Fn(PhysRange) -> bool) -> Option<&'static str> {
    let is_done = |change: &str| taken_out(change).is_some_and(&done);
    cmdline.split_ascii_whitespace().find_map(|word| match word.split_once('=')? {
        // `parse_memopt()` of 64-bit kernels takes no other word.
        ("mem", size) if size.starts_with(|c: char| c.is_ascii_digit()) => Some("mem="),
        ("memmap", list) if !list.split(',').all(is_done) => Some("memmap="),
        _ => None,
    })
}

/// `SIZE$START`, `SIZE#START`, `SIZE!START`: reserved, ACPI's, persistent (`parse_memmap_one()`).
fn taken_out(change: &str) -> Option<PhysRange> {
    let (size, start) = change.split_once(['$', '#', '!'])?;
    let (size, start) = (parse_number(size).ok()?, parse_number(start).ok()?);
    PhysRange::from_len(start, size).ok()
}

/// RAM ends where the kernel says that it does, or past it: changes may come later, and memory may be added.
fn last_pfn(machine: &Machine, layout: &Layout) -> Option<String> {
    let said = PhysAddr::new(machine.last_pfn?.checked_mul(4096)?)?;
    let maps = machine.maps.iter().map(Layout::of_map);
    let end = maps.filter_map(|map| ram_end(&map)).chain(ram_end(layout)).max()?;
    (end < said).then(|| {
        format!("it has RAM up to {end}, but the kernel found RAM up to {said} (last_pfn): an entry is lost")
    })
}

/// The kernel counts whole pages of RAM (`get_num_physpages()`): no less than the table has in the end, no more
/// than it ever had, for firmware's tables are reserved after memory was set up (`efi_mem_reserve()`). In 165
/// logs of real machines the count keeps these bounds to 4 MiB.
fn counted(machine: &Machine, layout: &Layout) -> Option<String> {
    const MIB: u64 = 1 << 20;
    const TOLERANCE: u64 = 8 * MIB;
    let counted = machine.ram_kib?.checked_mul(1024)?;
    let least = layout.total(MemType::Usable);
    let maps = machine.maps.iter().map(|map| Layout::of_map(map).total(MemType::Usable));
    let most = maps.max().unwrap_or(0).max(least);
    // Memory added while running is in /proc/iomem, and was not there to be counted.
    let added = layout.origin() == LayoutOrigin::Iomem;
    let fewer = counted.saturating_add(TOLERANCE) < least && !added;
    let more = counted > most.saturating_add(TOLERANCE);
    (fewer || more).then(|| {
        format!(
            "it has {} MiB of RAM, but the kernel counted {} MiB (\"Memory:\"): an entry or a change is lost",
            if more { most } else { least } / MIB,
            counted / MIB
        )
    })
}
