//! Firmware's tables in this machine's physical memory. Read-only.

use identmap::PhysRange;
use identmap_linux::memory::{PhysicalMemory, ReadAt};
use identmap_linux::vmcore::Core;
use identmap_machine::Machine;
use identmap_machine::bundle::Blob;
use identmap_machine::live::firmware_memory;

use crate::disk::Disk;

/// What a kernel reads of firmware's tables before its own page tables; empty where the kernel
/// shows no physical memory.
pub(crate) fn live(machine: &Machine) -> Vec<Blob> {
    let device = Disk::open("/dev/mem").ok();
    let ram = Disk::open("/proc/kcore").ok().and_then(|disk| Core::open(disk).ok());
    firmware_memory(machine, &mut |range| {
        // A table may lie in memory that Linux uses as RAM, and keeps.
        from_ram(ram.as_ref(), range).or_else(|| from_device(device.as_ref(), machine, range))
    })
}

/// What SOURCE shows of it, for an emulation.
#[cfg(feature = "preflight")]
pub(crate) fn known(
    source: &str,
    machine: &Machine,
    bundle: Option<&identmap_machine::bundle::Bundle>,
) -> Vec<identmap_preflight::Content> {
    match bundle {
        Some(bundle) => identmap_preflight::known(&bundle.memory),
        None if source == "live" => identmap_preflight::known(&live(machine)),
        None => Vec::new(),
    }
}

fn from_ram(ram: Option<&Core<Disk>>, range: PhysRange) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.len()).ok()?];
    ram?.read_phys(range.start(), &mut bytes).ok().map(|()| bytes)
}

/// Of RAM, `/dev/mem` shows nothing, or zeros (`devmem_is_allowed()`, arch/x86/mm/init.c), and to read
/// a device may do something to it: only what firmware keeps is asked for.
fn from_device(device: Option<&Disk>, machine: &Machine, range: PhysRange) -> Option<Vec<u8>> {
    let device = device?;
    if !firmware_s(machine, range) {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(range.len()).ok()?];
    device.read_at(range.start().get(), &mut bytes).ok().map(|()| bytes)
}

/// Whether `/proc/iomem` says that all of it is firmware's own, and nobody's inside of that.
fn firmware_s(machine: &Machine, range: PhysRange) -> bool {
    const KEPT: [&str; 4] = ["reserved", "acpi tables", "acpi non-volatile storage", "system rom"];
    let is_kept = |name: &str| KEPT.contains(&name.to_ascii_lowercase().as_str());
    // `System ROM` is listed where there is one; the RSDP of a BIOS lies in this area in any case
    // (ACPI 6.5, 5.2.5.1).
    let bios = PhysRange::from_len(0xe_0000, 0x2_0000).is_ok_and(|bios| bios.covers(range));
    let touching = || machine.iomem.iter().filter(|entry| entry.range.intersects(range));
    let others = touching().any(|entry| !is_kept(&entry.name) && !is_bus(&entry.name));
    let covered = touching().any(|entry| is_kept(&entry.name) && entry.range.covers(range));
    !others && (covered || bios)
}

/// A window of the PCI host bridge, which says nothing of what is in it.
fn is_bus(name: &str) -> bool {
    name.starts_with("PCI Bus ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_machine::parse;

    #[test]
    fn only_what_firmware_keeps_is_read() {
        let text = b"00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n\
            000a0000-000bffff : PCI Bus 0000:00\n000f0000-000fffff : System ROM\n\
            00100000-7fffffff : System RAM\n80000000-80ffffff : Reserved\n\
            \x20\x2080100000-801fffff : pnp 00:00\n81000000-8100ffff : ACPI Tables\n\
            fed00000-fed003ff : HPET 0\n";
        let machine = parse::machine("iomem", text).unwrap();
        let kept = |start, len| firmware_s(&machine, PhysRange::from_len(start, len).unwrap());
        assert!(kept(0x8000_0000, 0x1000) && kept(0x8100_0014, 36) && kept(0xf_6a90, 36));
        assert!(kept(0xe_1000, 36), "the area of a BIOS without a name");
        assert!(!kept(0x2000, 8) && !kept(0x7fff_fff8, 16), "RAM");
        assert!(!kept(0x8010_0000, 8) && !kept(0xfed0_0000, 8), "devices");
        assert!(!kept(0x80ff_fff8, 16), "half of it is something else");
        assert!(!kept(0x9000_0000, 8), "nobody's");
        let high = PhysRange::from_len(1 << 40, 8).unwrap();
        assert!(!firmware_s(&Machine::default(), high));
    }
}
