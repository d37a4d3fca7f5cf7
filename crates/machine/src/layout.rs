//! The machine's memory as the running kernel sees it: one sorted, disjoint list.

use std::collections::BTreeMap;

use identmap::{PhysAddr, PhysRange};

use crate::{Machine, MapEntry, MapOrigin, MapUpdate, MemMap, MemType};

/// A stretch of memory of one type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The bytes.
    pub range: PhysRange,
    /// The type.
    pub kind: MemType,
}

/// Where a [`Layout`] was taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutOrigin {
    /// A memory map, with the kernel's later updates applied.
    Map(MapOrigin),
    /// The resources of `/proc/iomem`.
    Iomem,
}

/// Sorted, disjoint regions; adjacent regions of one type are merged.
///
/// # Which source
/// Linux keeps one table, `e820_table`, and prints it each time it has become
/// another: as `BIOS-e820:` (`e820__memory_setup()`), `reserve setup_data:`
/// (`e820__reserve_setup_data()`), `user:` (`e820__finish_early_params()`) and
/// `modified:` (`e820__update_table_print()`), in that order of `setup_arch()`;
/// between and after those it prints each change as `e820: update` or `e820:
/// remove`. So the *last print, with the changes after it*, is the table.
/// At the end `e820__reserve_resources()` copies the table into `/proc/iomem`,
/// which then also learns of memory added while running. Hence:
///
/// 1. `/proc/iomem`, where it is whole (it describes address 0, and RAM above
///    1 MiB): what is not System RAM there is not RAM for this kernel, whatever
///    the older prints say. Types other than RAM that it leaves out are filled in
///    from 2, since the kernel does not publish all of them: soft-reserved ranges
///    have a tree of their own in 7.2 (`soft_reserve_resource`; not yet in 6.12).
/// 2. `modified:`, `user:`, `reserve setup_data:`, `BIOS-e820:` or `Xen:`, in this
///    order, with the updates printed after it. A part of `/proc/iomem` is laid over it.
/// 3. `/sys/firmware/memmap`, then `boot_params`: the table as firmware gave it;
///    the latter holds only its first 128 entries (`E820_MAX_ENTRIES_ZEROPAGE`),
///    the rest is in `setup_data`.
/// 4. A part of `/proc/iomem` alone.
/// 5. `MEMORY RANGES` of kexec-tools: RAM with holes that kexec cut for itself.
///
/// A log with several boots (a machine and its crash kernel) holds several
/// tables. The boot with the most RAM is the machine; the others run in a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    origin: LayoutOrigin,
    regions: Vec<Region>,
}

impl Layout {
    /// The layout that the running kernel works with, from the best source that
    /// the machine's texts give (see [`Layout`]); `None` where they hold no memory
    /// map at all, or more updates over more entries than any kernel can print.
    ///
    /// Entries that are not ranges, and entries of type 0, are left out, as
    /// `e820__update_table()` does; [`crate::lint`] reports them.
    #[must_use]
    pub fn of(machine: &Machine) -> Option<Layout> {
        let iomem = iomem_layers(machine);
        let whole = is_whole(&iomem);
        let table = running_table(machine)?;
        let (origin, regions) = match table {
            Some((_, regions)) if whole => {
                // Below everything of iomem; RAM that iomem does not know is no RAM.
                let below = regions.iter().filter(|r| r.kind != MemType::Usable);
                (LayoutOrigin::Iomem, flatten(below.map(under).chain(iomem)))
            }
            None if whole => (LayoutOrigin::Iomem, flatten(iomem)),
            Some((origin, regions)) => {
                (LayoutOrigin::Map(origin), flatten(regions.iter().map(under).chain(iomem)))
            }
            None if !iomem.is_empty() => (LayoutOrigin::Iomem, flatten(iomem)),
            None => {
                let map = largest(machine, MapOrigin::KexecRanges)?;
                (LayoutOrigin::Map(MapOrigin::KexecRanges), resolve(&map.entries))
            }
        };
        (!regions.is_empty()).then_some(Layout { origin, regions })
    }

    /// One map by itself, overlaps resolved, updates not applied.
    #[must_use]
    pub fn of_map(map: &MemMap) -> Layout {
        Layout { origin: LayoutOrigin::Map(map.origin), regions: resolve(&map.entries) }
    }

    /// The memory as firmware (or the boot loader) describes it, before the kernel
    /// or its command line changed anything: what lies where, whoever may use it.
    /// Where no such map is known, as [`of`](Self::of).
    #[must_use]
    pub fn of_firmware(machine: &Machine) -> Option<Layout> {
        firmware_map(machine).map(Layout::of_map).or_else(|| Layout::of(machine))
    }

    /// Where it was taken from.
    #[must_use]
    pub fn origin(&self) -> LayoutOrigin {
        self.origin
    }

    /// The regions, sorted by address, disjoint.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The ranges of one type, sorted, disjoint, merged.
    pub fn of_kind(&self, kind: MemType) -> impl Iterator<Item = PhysRange> + '_ {
        self.regions.iter().filter(move |r| r.kind == kind).map(|r| r.range)
    }

    /// The region that `addr` lies in; `None` where no source describes it.
    #[must_use]
    pub fn at(&self, addr: PhysAddr) -> Option<Region> {
        let next = self.regions.partition_point(|r| r.range.start() <= addr);
        let region = *self.regions.get(next.checked_sub(1)?)?;
        region.range.contains(addr).then_some(region)
    }

    /// The space below the highest described byte that no region describes, sorted.
    pub fn gaps(&self) -> impl Iterator<Item = PhysRange> + '_ {
        let ends =
            core::iter::once(PhysAddr::ZERO).chain(self.regions.iter().map(|r| r.range.end()));
        ends.zip(&self.regions)
            .filter_map(|(end, next)| PhysRange::between(end, next.range.start()))
    }

    /// Bytes of one type.
    #[must_use]
    pub fn total(&self, kind: MemType) -> u64 {
        self.of_kind(kind).map(PhysRange::len).sum()
    }
}

/// The e820 type that a resource of `/proc/iomem` stands for, if it stands for one.
///
/// Names: `e820_type_to_string()` in `arch/x86/kernel/e820.c` ("reserved" before
/// Linux 4.19); `System RAM (kmem)` and `System RAM (virtio_mem)` are hot-added
/// memory, which the direct map holds too (`add_memory_driver_managed()`). "RAM
/// buffer" is no memory (`e820__reserve_resources_late()`).
pub(crate) fn iomem_kind(name: &str) -> Option<MemType> {
    Some(match name {
        "System RAM" => MemType::Usable,
        "Reserved" | "reserved" | "Unknown E820 type" => MemType::Reserved,
        "ACPI Tables" => MemType::AcpiData,
        "ACPI Non-volatile Storage" => MemType::AcpiNvs,
        "Unusable memory" => MemType::Unusable,
        "Persistent Memory" => MemType::Persistent,
        "Persistent Memory (legacy)" => MemType::PersistentLegacy,
        "Soft Reserved" => MemType::SoftReserved,
        _ if name.starts_with("System RAM (") => MemType::Usable,
        _ => return None,
    })
}

/// A region with its rank: where several lie over one byte, the highest rank shows.
pub(crate) type Layer = (u64, Region);

/// A region of an e820 table, below every layer of iomem.
fn under(region: &Region) -> Layer {
    (0, *region)
}

/// iomem's memory, deeper resources above their parents.
pub(crate) fn iomem_layers(machine: &Machine) -> Vec<Layer> {
    machine
        .iomem
        .iter()
        // Without CAP_SYS_ADMIN every line reads "0-0" (`r_show()` in kernel/resource.c).
        .filter(|entry| entry.range.last() != PhysAddr::ZERO)
        .filter_map(|entry| {
            let kind = iomem_kind(&entry.name)?;
            Some((1 + entry.depth as u64, Region { range: entry.range, kind }))
        })
        .collect()
}

/// Whether this is all of `/proc/iomem`.
fn is_whole(iomem: &[Layer]) -> bool {
    const MIB: u64 = 1 << 20;
    iomem.iter().any(|(_, r)| r.range.start() == PhysAddr::ZERO)
        && iomem.iter().any(|(_, r)| r.kind == MemType::Usable && r.range.end().get() > MIB)
}

/// `e820_table` as the running kernel left it, and the print it was taken from, if
/// there is one. `None` where the updates are too many ([`apply`]).
#[allow(clippy::option_option, reason = "no table, and a table too large, are two answers")]
fn running_table(machine: &Machine) -> Option<Option<(MapOrigin, Vec<Region>)>> {
    const PRINTS: [MapOrigin; 7] = [
        MapOrigin::ModifiedE820,
        MapOrigin::UserE820,
        MapOrigin::SetupDataE820,
        MapOrigin::BiosE820,
        MapOrigin::XenE820,
        MapOrigin::FirmwareMemmap,
        MapOrigin::BootParams,
    ];
    let (maps, until) = largest_boot(machine);
    let Some(map) = PRINTS.iter().find_map(|&origin| {
        maps.iter().rev().find(|map| map.origin == origin && !resolve(&map.entries).is_empty())
    }) else {
        return Some(None);
    };
    let printed = map.entries.iter().map(|e| e.line).max().unwrap_or(0);
    let later = machine
        .updates
        .iter()
        .filter(|u| u.line == 0 || printed == 0 || (printed < u.line && u.line < until));
    let regions = apply(resolve(&map.entries), later)?;
    Some(Some((map.origin, regions)))
}

/// The map that firmware or the boot loader gave, if one is known.
pub(crate) fn firmware_map(machine: &Machine) -> Option<&MemMap> {
    const FIRMWARE: [MapOrigin; 4] =
        [MapOrigin::BiosE820, MapOrigin::XenE820, MapOrigin::FirmwareMemmap, MapOrigin::BootParams];
    let (maps, _) = largest_boot(machine);
    FIRMWARE.iter().find_map(|&origin| {
        maps.iter().rev().find(|map| map.origin == origin && !resolve(&map.entries).is_empty())
    })
}

/// The maps of the boot with the most RAM, and the line where the next boot begins.
///
/// A boot begins with a `BIOS-e820:` (or `Xen:`) map; what stands before the first belongs to it.
pub(crate) fn largest_boot(machine: &Machine) -> (&[MemMap], usize) {
    let first_line = |map: &MemMap| map.entries.iter().map(|e| e.line).min().unwrap_or(0);
    let is_first = |map: &MemMap| matches!(map.origin, MapOrigin::BiosE820 | MapOrigin::XenE820);
    let mut starts: Vec<usize> =
        machine.maps.iter().enumerate().filter(|(_, m)| is_first(m)).map(|(i, _)| i).collect();
    match starts.first_mut() {
        Some(first) => *first = 0,
        None => starts.push(0),
    }
    let bounds =
        starts.iter().copied().zip(starts.iter().copied().skip(1).chain([machine.maps.len()]));
    let ram =
        |&(from, to): &(usize, usize)| machine.maps[from..to].iter().map(ram_of).max().unwrap_or(0);
    // `max_by_key` prefers the last of equals: a machine that was rebooted as it was.
    let (from, to) = bounds.max_by_key(ram).unwrap_or((0, machine.maps.len()));
    let until = machine.maps.get(to).map_or(usize::MAX, first_line);
    (&machine.maps[from..to], if until == 0 { usize::MAX } else { until })
}

/// Of several maps of one origin, the one with the most RAM.
pub(crate) fn largest(machine: &Machine, origin: MapOrigin) -> Option<&MemMap> {
    machine.maps.iter().filter(|m| m.origin == origin).max_by_key(|m| ram_of(m))
}

fn ram_of(map: &MemMap) -> u64 {
    resolve(&map.entries).iter().filter(|r| r.kind == MemType::Usable).map(|r| r.range.len()).sum()
}

/// Overlaps resolved as `e820__update_table()` does (5.10 to 7.3): at each byte
/// the highest type number shows; type 0 counts as nothing.
///
/// One difference: the kernel keeps adjacent entries of types 12 and
/// `0xefffffff` apart (`e820_type_mergeable()`); a [`Layout`] merges them.
pub(crate) fn resolve(entries: &[MapEntry]) -> Vec<Region> {
    flatten(entries.iter().filter_map(|entry| {
        let rank = u64::from(entry.kind.e820());
        let range = entry.range().ok()?;
        (rank != 0).then_some((rank, Region { range, kind: entry.kind }))
    }))
}

/// One sorted, disjoint, merged list out of layers in any order. O(n log n).
pub(crate) fn flatten(layers: impl IntoIterator<Item = Layer>) -> Vec<Region> {
    // (address, starts, rank, kind): an event at each end of each layer.
    let mut events: Vec<(PhysAddr, bool, u64, MemType)> = layers
        .into_iter()
        .flat_map(|(rank, r)| {
            [(r.range.start(), true, rank, r.kind), (r.range.end(), false, rank, r.kind)]
        })
        .collect();
    events.sort_unstable();
    let mut open: BTreeMap<(u64, u32, MemType), usize> = BTreeMap::new();
    let mut out = Vec::new();
    let mut since = PhysAddr::ZERO;
    for (addr, starts, rank, kind) in events {
        if let (Some(range), Some((&(_, _, shown), _))) =
            (PhysRange::between(since, addr), open.last_key_value())
        {
            push(&mut out, Region { range, kind: shown });
        }
        since = addr;
        // Equal ranks: the higher type number, as in a table.
        let key = (rank, kind.e820(), kind);
        if starts {
            *open.entry(key).or_insert(0) += 1;
        } else if let Some(count) = open.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&key);
            }
        }
    }
    out
}

/// The kernel's updates in order, as `__e820__range_update()` and `e820__range_remove()` make them.
///
/// `None` where they visit more than [`MAX_VISITS`] regions, so that no text can
/// take unbounded time. The kernel's table holds at most 3200 entries
/// (`E820_MAX_ENTRIES` with 1024 nodes) and is changed some dozens of times.
fn apply<'a>(
    regions: Vec<Region>,
    updates: impl Iterator<Item = &'a MapUpdate>,
) -> Option<Vec<Region>> {
    let mut visits = 0usize;
    // Start address to region, so that an update touches only what it covers.
    let mut table: BTreeMap<PhysAddr, Region> =
        regions.into_iter().map(|r| (r.range.start(), r)).collect();
    for update in updates {
        if update.to == Some(update.from) {
            continue; // `usable ==> usable`: only the kernel's mark for setup_data changed.
        }
        cut(&mut table, update.range.start());
        cut(&mut table, update.range.end());
        let mut hit = Vec::new();
        for (&start, region) in table.range(update.range.start()..update.range.end()) {
            visits += 1;
            if visits > MAX_VISITS {
                return None;
            }
            if region.kind == update.from {
                hit.push(start);
            }
        }
        for start in hit {
            match (update.to, table.get_mut(&start)) {
                (Some(kind), Some(region)) => region.kind = kind,
                _ => {
                    table.remove(&start);
                }
            }
        }
    }
    let mut out = Vec::with_capacity(table.len());
    for region in table.into_values() {
        push(&mut out, region);
    }
    Some(out)
}

/// How many regions all updates together may visit: a thousand times what a kernel's can.
const MAX_VISITS: usize = 1 << 26;

/// Splits the region around `addr` there.
fn cut(table: &mut BTreeMap<PhysAddr, Region>, addr: PhysAddr) {
    let Some((_, region)) = table.range_mut(..addr).next_back() else { return };
    let whole = *region;
    if let (Some(below), Some(above)) =
        (PhysRange::between(whole.range.start(), addr), PhysRange::between(addr, whole.range.end()))
    {
        region.range = below;
        table.insert(addr, Region { range: above, kind: whole.kind });
    }
}

/// Appends a region at or above the end of the last one.
fn push(out: &mut Vec<Region>, region: Region) {
    if let Some(last) = out.last_mut()
        && last.kind == region.kind
        && let Some(merged) = last.range.merged(region.range)
    {
        last.range = merged;
    } else {
        out.push(region);
    }
}

#[cfg(test)]
mod tests;
