//! What the next kernel reads, or has to leave alone, in memory that kexec takes for free RAM.
//!
//! kexec copies an image to its place after the running kernel has stopped. What that kernel keeps for itself is
//! dead by then; what firmware or the EFI stub left in RAM for *every* kernel is not, and nothing but a
//! `memblock_reserve()` of the running kernel, which kexec does not look at, keeps an image off it.
//!
//! Not alive, and therefore not here:
//!
//! - the running kernel's `setup_data` and its copy of the EFI memory map: `setup_boot_parameters()` makes new
//!   ones inside the image (`arch/x86/kernel/kexec-bzimage64.c`, Linux 5.10.262 to 7.3.4; kexec-tools
//!   `setup_efi_info()` does the same);
//! - the reservation for a crash kernel: whoever is entered reserves anew;
//! - the buffer in which IMA's measurements came from the kernel before (`ima_free_kexec_buffer()` has given it
//!   back; the one for the next kernel is a segment);
//! - memory preserved by KHO, unless the image was placed with it: `kho_locate_mem_hole()` then lets no
//!   segment lie outside the scratch areas (`kernel/liveupdate/kexec_handover.c`, 7.3.4), and an image of
//!   `kexec_load` carries no `SETUP_KEXEC_KHO`, so that the next kernel preserves nothing;
//! - `LINUX_EFI_MEMRESERVE`, as far as Linux is concerned: only `efi_stub_common()` installs it, which x86 does
//!   not use. Where an earlier loader did, it counts.

use identmap::PhysRange;
use identmap_machine::{EfiTable, Layout, Machine, MemType};

use crate::crashkernel::memparse;
use crate::firmware;

/// Something that has to stay as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alive {
    /// What.
    pub what: String,
    /// Bytes that surely are its own.
    pub range: PhysRange,
    /// How far it may reach where its length is not known: `range` at least.
    pub up_to: PhysRange,
    /// What comes of it if it is overwritten.
    pub harm: Harm,
    /// That in words, as a sentence without a full stop.
    pub effect: &'static str,
    /// Where this is written.
    pub source: &'static str,
    /// Reached through EFI's tables only: without `efi_info` the next kernel does not look.
    pub by_efi: bool,
    /// Firmware calls the place RAM, and the running kernel does not: it keeps it (`efi_mem_reserve()`), which only
    /// loaders that go by `/proc/iomem` see.
    pub kept: bool,
}

/// What comes of overwriting something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Harm {
    /// The next kernel runs, and lacks something.
    Lacking,
    /// The next kernel loses its way, its memory, or bytes of its own image.
    Grave,
}

/// What is known of one of EFI's tables that is left in RAM.
struct Known {
    /// As the kernel's `efi:` line has it.
    name: &'static str,
    /// Bytes that it surely has.
    least: u64,
    /// Bytes that it may have, if the map does not say.
    most: u64,
    harm: Harm,
    effect: &'static str,
    source: &'static str,
}

/// Tables that a kernel reads, or writes, where they lie. Names: `common_tables` in
/// `drivers/firmware/efi/efi.c`, Linux 7.3.4.
const KNOWN: [Known; 16] = [
    Known {
        name: "TPMEventLog",
        // `struct linux_efi_tpm_eventlog`: size, final_events_preboot_size, version.
        least: 9,
        most: 1 << 20,
        harm: Harm::Grave,
        effect: "the next kernel takes the log's length out of it and reserves as much memory as \
                 whatever is there then says",
        source: "Linux drivers/firmware/efi/tpm.c, efi_tpm_eventlog_init(), 5.10.262 to 7.3.4; \
                 https://lore.kernel.org/all/20240911104109.1831501-1-usamaarif642@gmail.com/",
    },
    Known {
        name: "TPMFinalLog",
        least: 16,
        most: 1 << 20,
        harm: Harm::Grave,
        effect: "the next kernel counts events in it and reserves as much memory as they say",
        source: "Linux drivers/firmware/efi/tpm.c, efi_tpm_eventlog_init(), 5.10.262 to 7.3.4",
    },
    Known {
        name: "CCFinalLog",
        least: 16,
        most: 1 << 20,
        harm: Harm::Grave,
        effect: "the next kernel counts events in it and reserves as much memory as they say",
        source: "Linux drivers/firmware/efi/tpm.c, efi_tpm_eventlog_init(), 7.3.4",
    },
    Known {
        name: "MEMATTR",
        // `efi_memory_attributes_table_t`: version, num_entries, desc_size, flags.
        least: 16,
        most: 64 << 10,
        harm: Harm::Grave,
        effect: "kernels without a check of it (6.12.117 has none, 7.3.4 has) reserve as much memory as \
                 whatever is there then says",
        source: "Linux drivers/firmware/efi/memattr.c, efi_memattr_init(), 5.10.262 to 7.3.4; \
                 https://lore.kernel.org/all/20241031175822.2952471-2-ardb+git@google.com/",
    },
    Known {
        name: "RNG",
        // `struct linux_efi_random_seed` and at most SZ_1K behind it.
        least: 4,
        most: 4 + 1024,
        harm: Harm::Grave,
        effect: "the next kernel sets up to 1 KiB behind it to zero: bytes of the image",
        source: "Linux drivers/firmware/efi/efi.c, efi_config_parse_tables(), 5.10.262 to 7.3.4",
    },
    Known {
        name: "INITRD",
        // `struct linux_efi_initrd`: base, size.
        least: 16,
        most: 16,
        harm: Harm::Grave,
        effect: "7.3.4 sets its 16 bytes to zero, bytes of the image; a kernel from 6.1 on that was loaded \
                 without an initrd looks for one where they point",
        source: "Linux drivers/firmware/efi/efi.c, efi_config_parse_tables(); \
                 arch/x86/kernel/setup.c, get_ramdisk_image()",
    },
    Known {
        name: "MEMRESERVE",
        least: 16,
        most: 4096,
        harm: Harm::Grave,
        effect: "the next kernel follows it as a list and reserves what it names",
        source: "Linux drivers/firmware/efi/efi.c, efi_config_parse_tables(), 5.10.262 to 7.3.4",
    },
    Known {
        name: "Unaccepted",
        // `struct efi_unaccepted_memory`: version, unit_size, phys_base, size; then a bit for 2 MiB, here of 16 TiB.
        least: 24,
        most: 1 << 20,
        harm: Harm::Grave,
        effect: "it tells the next kernel which memory the hypervisor has not given to the guest yet: with \
                 another answer it touches such memory, which ends the guest, or accepts memory in use again",
        source: "Linux drivers/firmware/efi/efi.c, reserve_unaccepted(); \
                 drivers/firmware/efi/unaccepted_memory.c, 6.12.117 and 7.3.4",
    },
    Known {
        name: "ACPI 2.0",
        least: 36,
        most: 36,
        harm: Harm::Grave,
        effect: "the next kernel finds no ACPI",
        source: "ACPI 6.5, 5.2.5.3; Linux drivers/acpi/acpica/tbxfroot.c",
    },
    Known {
        name: "ACPI",
        least: 20,
        most: 36,
        harm: Harm::Grave,
        effect: "the next kernel may find no ACPI",
        source: "ACPI 6.5, 5.2.5.3; Linux drivers/acpi/acpica/tbxfroot.c",
    },
    Known {
        name: "ESRT",
        // `struct efi_system_resource_table` and up to 128 entries of 40 bytes.
        least: 16,
        most: 16 + 128 * 40,
        harm: Harm::Lacking,
        effect: "the next kernel cannot update firmware (\"Unsupported ESRT version\")",
        source: "Linux drivers/firmware/efi/esrt.c, efi_esrt_init(); \
                 \"kexec_file overwrites reserved EFI ESRT memory\", kexec list, 2019",
    },
    Known {
        name: "MOKvar",
        least: 264,
        most: 1 << 20,
        harm: Harm::Lacking,
        effect: "the next kernel lacks the machine owner's keys",
        source: "Linux drivers/firmware/efi/mokvar-table.c, efi_mokvar_table_init()",
    },
    Known {
        // The entry point alone: where the structures lie is written in it.
        name: "SMBIOS",
        least: 31,
        most: 31,
        harm: Harm::Lacking,
        effect: LACKS_DMI,
        source: "DMTF DSP0134, 5.2.1; Linux drivers/firmware/dmi_scan.c, dmi_scan_machine()",
    },
    Known {
        name: "SMBIOS 3.0",
        least: 24,
        most: 24,
        harm: Harm::Lacking,
        effect: LACKS_DMI,
        source: "DMTF DSP0134, 5.2.2; Linux drivers/firmware/dmi_scan.c, dmi_scan_machine()",
    },
    Known {
        name: "RTPROP",
        least: 8,
        most: 8,
        harm: Harm::Lacking,
        effect: "the next kernel may think that firmware offers no runtime services",
        source: "Linux drivers/firmware/efi/efi.c, efi_config_parse_tables(), 5.10.262 to 7.3.4",
    },
    Known {
        name: "CocoSecret",
        least: 16,
        most: 16,
        harm: Harm::Lacking,
        effect: "the guest's secrets are lost",
        source: "Linux drivers/virt/coco/efi_secret/efi_secret.c",
    },
];

const LACKS_DMI: &str =
    "the next kernel does not know which machine it is on (\"DMI not present or invalid\")";

/// For a table that is not in [`KNOWN`].
const OTHER: Known = Known {
    name: "",
    least: 1,
    most: 64 << 10,
    harm: Harm::Lacking,
    effect: "what reads it in the next kernel reads something else",
    source: "Linux drivers/firmware/efi/efi.c, efi_config_parse_tables()",
};

/// Everything that is known to lie in what the running kernel or firmware calls RAM, and has to stay. Empty where no map
/// of the memory is known. In no order; ranges may overlap.
#[must_use]
pub fn alive(machine: &Machine, layout: Option<&Layout>) -> Vec<Alive> {
    let Some(layout) = layout else { return Vec::new() };
    let mut all: Vec<Alive> = efi(machine);
    if let Some(range) = firmware::system_table(machine) {
        all.push(grave(
            "EFI system table",
            range,
            "the next kernel finds no EFI, or resets",
            SYSTAB,
        ));
    }
    if let firmware::ConfigTablePlace::Known(range) | firmware::ConfigTablePlace::Begins(range) =
        firmware::config_table(machine)
    {
        let effect = "the next kernel finds none of EFI's tables, or resets";
        all.push(grave("EFI configuration table", range, effect, SYSTAB));
    }
    for table in &machine.acpi_tables {
        let effect = "the next kernel lacks the table, or finds it damaged";
        let what = format!("ACPI table {}", table.signature);
        all.push(Alive { by_efi: false, ..grave(&what, table.range, effect, "ACPI 6.5, 5.2") });
    }
    if let Some(blob) = machine.cc_blob.and_then(|at| PhysRange::from_len(at.get(), CC_BLOB).ok()) {
        let effect = "an SEV-SNP guest does not find its CPUID page";
        let source = "Linux arch/x86/boot/compressed/sev.c, snp_find_cc_blob()";
        all.push(Alive {
            by_efi: false,
            ..grave("confidential-computing blob", blob, effect, source)
        });
    }
    for &page in &machine.poisoned {
        let effect = "the memory is faulty: what is written there may not be read back, and reading it raises \
                      a machine check; the next kernel is not told";
        let source = "Linux mm/memory-failure.c; kernel/kexec_file.c, locate_mem_hole_callback(), which asks \
                      for RAM and not for errors, 5.10.262 to 7.3.4";
        let what = "page with a memory error";
        all.push(Alive { by_efi: false, ..grave(what, page, effect, source) });
    }
    let firmware = Layout::of_firmware(machine);
    let is_ram = |map: &Layout, alive: &Alive| {
        map.at(alive.range.start()).is_some_and(|region| region.kind == MemType::Usable)
    };
    for alive in &mut all {
        alive.kept = !is_ram(layout, alive);
    }
    // What is RAM to nobody is kept by being none.
    all.retain(|alive| !alive.kept || firmware.as_ref().is_some_and(|map| is_ram(map, alive)));
    for alive in &mut all {
        // It ends with the memory of one kind that it lies in, or with the range that EFI's map gives it.
        let around = layout.at(alive.range.start()).map(|region| region.range);
        let given = machine.efi.memory_map.iter().map(|descriptor| descriptor.range);
        let given =
            given.filter(|range| range.contains(alive.range.start())).min_by_key(|r| r.len());
        for bound in around.into_iter().chain(given) {
            alive.up_to = alive.up_to.intersection(bound).unwrap_or(alive.range);
            alive.range = alive.range.intersection(bound).unwrap_or(alive.range);
        }
    }
    all
}

/// What the command line took out of RAM: `memmap=SIZE$START` (`parse_memmap_one()` in
/// `arch/x86/kernel/e820.c`).
#[must_use]
pub fn memmap_reserved(machine: &Machine) -> Vec<PhysRange> {
    let words = machine.cmdline.as_deref().unwrap_or_default().split_ascii_whitespace();
    let values = words.filter_map(|word| word.strip_prefix("memmap="));
    let one = |value: &str| {
        let (size, rest) = memparse(value)?;
        let (start, rest) = memparse(rest.strip_prefix('$')?)?;
        rest.is_empty().then(|| PhysRange::from_len(start, size).ok())?
    };
    values.flat_map(|value| value.split(',')).filter_map(one).collect()
}

/// `struct cc_blob_sev_info` (`arch/x86/include/asm/sev.h`).
const CC_BLOB: u64 = 40;

const SYSTAB: &str = "Linux arch/x86/platform/efi/efi.c, efi_systab_init(), efi_config_init()";

fn grave(what: &str, range: PhysRange, effect: &'static str, source: &'static str) -> Alive {
    let what = what.to_owned();
    Alive {
        what,
        range,
        up_to: range,
        harm: Harm::Grave,
        effect,
        source,
        by_efi: true,
        kept: false,
    }
}

fn known(name: &str) -> &'static Known {
    KNOWN.iter().find(|known| known.name == name).unwrap_or(&OTHER)
}

/// How many bytes a table of this name, as the kernel's `efi:` line has it, may have where nothing tells its length.
#[must_use]
pub fn most_of_table(name: &str) -> u64 {
    known(name).most
}

fn efi(machine: &Machine) -> Vec<Alive> {
    let alive = |table: &EfiTable| {
        // Firmware's way to say none.
        let start = Some(table.address.get()).filter(|&at| at != 0)?;
        let known = known(&table.name);
        Some(Alive {
            what: format!("EFI table {}", table.name),
            range: PhysRange::from_len(start, known.least).ok()?,
            up_to: PhysRange::from_len(start, known.most)
                .or_else(|_| PhysRange::from_len(start, known.least))
                .ok()?,
            harm: known.harm,
            effect: known.effect,
            source: known.source,
            by_efi: true,
            kept: false,
        })
    };
    machine.efi.tables.iter().filter_map(alive).collect()
}
