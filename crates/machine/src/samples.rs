//! Maps of real machines, built in: `sample:NAME` on the command line.
//!
//! Each file names its source in its first lines. What the text of a report
//! does not say but its author does (a UV system, an AMD processor) stands in
//! header lines of its own; see [`crate::parse::machine`].

/// A machine that is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// What it is called after `sample:`.
    pub name: &'static str,
    /// One line: the machine, and what it is good for.
    pub summary: &'static str,
    /// The file, to be read by [`crate::parse::machine`].
    pub bytes: &'static [u8],
}

macro_rules! samples {
    ($($name:literal: $summary:literal,)*) => {
        &[$(Sample {
            name: $name,
            summary: $summary,
            bytes: include_bytes!(concat!("../samples/", $name, ".txt")),
        }),*]
    };
}

static SAMPLES: &[Sample] = samples! {
    "uv-2019": "HPE Superdome Flex, 8 sockets, 1.5 TiB: reserved tails of the nodes that halt it when reached",
    "uv-2023": "HPE UV, 16 nodes, 4 TiB: 1 GiB-aligned reserved tails",
    "laptop-2024": "AMD laptop, 14 GiB, /proc/iomem: kexec broke with 6.7.6",
    "poweredge-r7625": "Dell R7625, EPYC Genoa, 768 GiB: reserved tails inside GiBs, kexec broke with 6.1.79",
    "epyc-rmp": "AMD EPYC host with SEV-SNP (excerpt): the RMP table ends inside a 2 MiB frame",
    "epyc-1536g": "Supermicro AS-4125GS, EPYC, 1.5 TiB around the HyperTransport hole",
    "epyc-crashkernel": "Dell R7425, EPYC, 1 TiB: boot with crashkernel=256M, and its crash-capture boot",
    "intel-brickland": "Intel Brickland, 512 GiB: with the whole EFI memory map",
    "desktop-x870e": "ASRock X870E Taichi Lite, AMD desktop, 32 GiB, Linux 6.14",
    "ec2-t3": "Amazon EC2 t3.large, 8 GiB: a cloud guest without EFI, with a user-defined map",
    "bios-x8sie": "Supermicro X8SIE, 16 GiB, BIOS: Linux 4.4, memmap= on its command line",
    "qemu-ovmf": "QEMU with OVMF, 3 GiB: EFI memory map and runtime map",
};

/// All built-in machines.
#[must_use]
pub fn samples() -> &'static [Sample] {
    SAMPLES
}

/// The built-in machine of that name.
#[must_use]
pub fn sample(name: &str) -> Option<&'static Sample> {
    SAMPLES.iter().find(|s| s.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CpuVendor, Machine, MapOrigin, MemType, Uv};

    fn read(name: &str) -> Machine {
        let sample = sample(name).expect(name);
        crate::parse::machine(name, sample.bytes).unwrap_or_else(|error| panic!("{error}"))
    }

    fn usable_bytes(machine: &Machine) -> u64 {
        let bios = machine.maps.iter().find(|m| m.origin == MapOrigin::BiosE820).expect("a map");
        let usable = bios.entries.iter().filter(|e| e.kind == MemType::Usable);
        usable.map(|e| e.range().expect("a range").len()).sum()
    }

    #[test]
    fn every_sample_reads_and_says_where_it_is_from() {
        for sample in samples() {
            let machine = read(sample.name);
            assert!(!machine.maps.is_empty() || !machine.iomem.is_empty(), "{}", sample.name);
            assert!(sample.bytes.starts_with(b"# source: "), "{}", sample.name);
            assert!(
                machine.notes.iter().all(|n| !n.unreadable),
                "{}: {:?}",
                sample.name,
                machine.notes
            );
            assert!(machine.hardware.is_some(), "{}", sample.name);
        }
        assert_eq!(sample("nowhere"), None);
    }

    #[test]
    fn both_uv_maps_are_uv() {
        for (name, entries, tib) in [("uv-2019", 50, 1.5), ("uv-2023", 48, 4.0)] {
            let machine = read(name);
            assert_eq!(machine.uv, Some(Uv::Hubbed), "{name}");
            assert_eq!(machine.efi.booted, Some(true), "{name}");
            assert_eq!(machine.maps[0].entries.len(), entries, "{name}");
            #[allow(clippy::cast_precision_loss, reason = "compared within one percent")]
            let ratio = usable_bytes(&machine) as f64
                / (tib * f64::from(1u32 << 20) * f64::from(1u32 << 20));
            assert!((0.97..1.01).contains(&ratio), "{name}: {ratio}");
        }
    }

    #[test]
    fn what_each_sample_is_for_is_in_it() {
        let laptop = read("laptop-2024");
        assert_eq!(laptop.cpu.vendor, Some(CpuVendor::Amd));
        assert!(
            laptop
                .iomem
                .iter()
                .any(|e| e.name == "Reserved" && e.range.start().get() == 0xc747e000)
        );
        assert_eq!(laptop.crash_kernels.len(), 2);
        let rmp = read("epyc-rmp").rmp.expect("an RMP table");
        assert_eq!(rmp.to_string(), "0x0000007ffe800000-0x000000807f0fffff");
        let r7625 = read("poweredge-r7625");
        assert!(!r7625.efi.tables.is_empty() && r7625.efi.booted == Some(true));
        let crash = read("epyc-crashkernel");
        assert_eq!(crash.maps[0].entries.len(), 31, "the boot before the capture kernel's");
        assert_eq!(
            crash.crash_kernels[0].range.to_string(),
            "0x0000000027000000-0x0000000036ffffff"
        );
        let brickland = read("intel-brickland");
        assert_eq!((brickland.efi.memory_map.len(), brickland.efi.runtime_map.len()), (50, 17));
        assert_eq!(brickland.cpu.vendor, Some(CpuVendor::Intel));
        let ovmf = read("qemu-ovmf");
        assert!(!ovmf.efi.memory_map.is_empty() && !ovmf.efi.runtime_map.is_empty());
        for bios in ["ec2-t3", "bios-x8sie"] {
            assert_eq!(read(bios).efi.booted, Some(false), "{bios}");
            assert_eq!(read(bios).uv, Some(Uv::No), "{bios}");
        }
    }
}
