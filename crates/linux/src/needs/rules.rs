//! The rules, each with where it was read.

use core::fmt;

use crate::release::{Release, Releases};

/// One rule: who needs something, and how that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeedRule {
    /// Stable, kebab-case.
    pub id: &'static str,
    /// What is needed.
    pub title: &'static str,
    /// Which code touches it, and when.
    pub when: &'static str,
    /// All the releases that do so, with and without a condition.
    pub all: Releases,
    /// The releases that do so unconditionally. Sorted, disjoint.
    pub always: &'static [Releases],
    /// The releases that do so under [`condition`](Self::condition). Sorted, disjoint.
    pub conditional: &'static [Releases],
    /// See [`conditional`](Self::conditional).
    pub condition: Option<Condition>,
    /// Where this was read.
    pub source: &'static str,
}

/// What decides whether a need exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// The processor sets CPUID `0x8000001F`.EAX bit 1.
    SevInCpuid,
    /// The consumer runs with another number of paging levels than the producer.
    PagingLevelChange,
    /// The loader hands over `efi_info`.
    EfiInfoHandedOver,
    /// The machine booted through BIOS.
    BootedByBios,
    /// The consumer is one of the rule's releases.
    ConsumerAmong(&'static [Releases]),
}

impl fmt::Display for Condition {
    /// The second half of a sentence that begins with "if".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::SevInCpuid => f.write_str("the processor has SEV in CPUID"),
            Condition::PagingLevelChange => f.write_str("the number of paging levels changes"),
            Condition::EfiInfoHandedOver => f.write_str("the loader hands over efi_info"),
            Condition::BootedByBios => f.write_str("the machine booted through BIOS"),
            Condition::ConsumerAmong(releases) => {
                f.write_str("the new kernel is ")?;
                for (i, span) in releases.iter().enumerate() {
                    write!(f, "{}{span}", if i == 0 { "" } else { ", or " })?;
                }
                Ok(())
            }
        }
    }
}

const fn v(major: u16, minor: u16, patch: u16) -> Release {
    Release::new(major, minor, patch)
}

const fn rc(major: u16, minor: u16, candidate: u16) -> Release {
    Release::rc(major, minor, candidate)
}

/// The image itself.
pub static SEGMENTS: NeedRule = NeedRule {
    id: "segments",
    title: "every segment of the image, boot_params and the setup_data chain among them",
    when: "relocate_kernel writes them, purgatory reads them, startup_64 runs in them; \
           from 5.19 on initialize_identity_maps() reads the setup_data headers",
    all: Releases::since(rc(2, 6, 0)),
    always: &[Releases::since(rc(2, 6, 0))],
    conditional: &[],
    condition: None,
    source: "relocate_kernel_64.S, purgatory.c, head_64.S in 5.10.262 to 7.2.13; b57feed2cc26 (setup_data)",
};

// Since the SNP patches the decompressor looks for a confidential-computing blob before it
// has a #PF handler; bee6cf1a80b5 put the test of CPUID first.
const CC_BLOB_ANY_CPU: &[Releases] = &[
    Releases::new(rc(5, 19, 1), v(6, 1, 46)),
    Releases::new(rc(6, 2, 0), v(6, 4, 11)),
    Releases::new(rc(6, 5, 0), rc(6, 5, 6)),
];
const CC_BLOB_SEV_CPU: &[Releases] = &[
    Releases::rest_of_series(v(6, 1, 46)),
    Releases::rest_of_series(v(6, 4, 11)),
    Releases::since(rc(6, 5, 6)),
];
const CC_BLOB_SOURCE: &str = "c01fce9cef84 (5.19-rc1); bee6cf1a80b5 (6.5-rc6, 6.4.11, 6.1.46: Debian changelogs); \
     sources of 6.1.192, 6.12.117 and 7.2.13";
const CC_BLOB_WHEN: &str =
    "startup_64 → sev_enable() → find_cc_blob_efi(), with an IDT that holds only #VC";

/// The EFI system table.
pub static EFI_SYSTEM_TABLE: NeedRule = NeedRule {
    id: "efi-system-table",
    title: "the EFI system table",
    when: CC_BLOB_WHEN,
    all: Releases::since(rc(5, 19, 1)),
    always: CC_BLOB_ANY_CPU,
    conditional: CC_BLOB_SEV_CPU,
    condition: Some(Condition::SevInCpuid),
    source: CC_BLOB_SOURCE,
};

/// The EFI configuration-table array: what 2024 was about.
pub static EFI_CONFIG_TABLE: NeedRule = NeedRule {
    id: "efi-config-table",
    title: "the EFI configuration-table array",
    when: CC_BLOB_WHEN,
    all: Releases::since(rc(5, 19, 1)),
    always: CC_BLOB_ANY_CPU,
    conditional: CC_BLOB_SEV_CPU,
    condition: Some(Condition::SevInCpuid),
    source: CC_BLOB_SOURCE,
};

const TRAMPOLINE_ALWAYS: &[Releases] =
    &[Releases::new(rc(4, 17, 1), v(6, 1, 81)), Releases::new(rc(6, 2, 0), rc(6, 6, 1))];
const TRAMPOLINE_ON_CHANGE: &[Releases] =
    &[Releases::rest_of_series(v(6, 1, 81)), Releases::since(rc(6, 6, 1))];
const TRAMPOLINE_SOURCE: &str = "pgtable_64.c of 5.10.262, 6.1.192, 6.12.117 and 7.2.13; f97b67a773cd (6.6-rc1, 6.1.81: Debian changelog)";

/// Low memory for the switch between 4 and 5 levels.
pub static TRAMPOLINE: NeedRule = NeedRule {
    id: "low-trampoline",
    title: "8 KiB for the paging trampoline, below 0x9f000",
    when: "paging_prepare(), configure_5level_paging()",
    all: Releases::since(rc(4, 17, 1)),
    always: TRAMPOLINE_ALWAYS,
    conditional: TRAMPOLINE_ON_CHANGE,
    condition: Some(Condition::PagingLevelChange),
    source: TRAMPOLINE_SOURCE,
};

/// The BIOS data area.
pub static BIOS_DATA_AREA: NeedRule = NeedRule {
    id: "bios-data-area",
    title: "the words at 0x40e and 0x413 of the BIOS data area",
    when: "find_trampoline_placement(), unless boot_params carry an EFI signature",
    all: Releases::since(rc(4, 17, 1)),
    always: TRAMPOLINE_ALWAYS,
    conditional: TRAMPOLINE_ON_CHANGE,
    condition: Some(Condition::PagingLevelChange),
    source: TRAMPOLINE_SOURCE,
};

const OLD_ACPI: &[Releases] = &[Releases::new(rc(5, 1, 1), rc(5, 10, 1))];
const OLD_ACPI_SOURCE: &str = "02a3e3cdb7f1 (5.1-rc1): acpi.c of the decompressor, which had no #PF handler before 5.10 \
     (ca0e22d4f011); 6bbeb276b71f names the failure";

/// The EFI tables, as the decompressors of 5.1 to 5.9 read them to find ACPI.
pub static OLD_EFI: NeedRule = NeedRule {
    id: "acpi-search-efi",
    title: "the EFI system table and configuration table, to find ACPI",
    when: "get_rsdp_addr() in the decompressor, before KASLR",
    all: Releases::new(rc(5, 1, 1), rc(5, 10, 1)),
    always: OLD_ACPI,
    conditional: &[],
    condition: None,
    source: OLD_ACPI_SOURCE,
};

/// ACPI's own tables, as the decompressors of 5.1 to 5.9 read them.
pub static OLD_ACPI_TABLES: NeedRule = NeedRule {
    id: "acpi-srat",
    title: "RSDP, XSDT or RSDT, and SRAT",
    when: "count_immovable_mem_regions() in the decompressor, before KASLR",
    all: Releases::new(rc(5, 1, 1), rc(5, 10, 1)),
    always: OLD_ACPI,
    conditional: &[],
    condition: None,
    source: OLD_ACPI_SOURCE,
};

/// What a run of the consumer's own first instructions was seen to touch. No rule of what Linux does, so it
/// is not among [`RULES`].
pub static SEEN: NeedRule = NeedRule {
    id: "preflight",
    title: "what the kernel's first instructions were seen to touch",
    when: "the kernel, in the preflight",
    all: Releases::since(rc(2, 6, 0)),
    always: &[Releases::since(rc(2, 6, 0))],
    conditional: &[],
    condition: None,
    source: "the preflight's run",
};

/// What the running kernel itself reads and writes between its `mov %cr3` and the jump.
///
/// No rule of the consumer's, so not among [`RULES`]: see [`of_the_jump`](super::of_the_jump).
pub static RELOCATE_KERNEL: NeedRule = NeedRule {
    id: "relocate-kernel",
    title: "relocate_kernel's page and stack, and the pages that it copies",
    when: "relocate_kernel, from its own mov %cr3 to the jump; it runs in the control page and reads \
           the list of pages and every page that is copied",
    all: Releases::since(rc(2, 6, 0)),
    always: &[Releases::since(rc(2, 6, 0))],
    conditional: &[],
    condition: None,
    source: "relocate_kernel_64.S; kimage_alloc_control_pages(), kimage_alloc_page() in kernel/kexec_core.c \
             of 5.10.262 to 7.2.13",
};

/// Every rule.
pub static RULES: [&NeedRule; 7] = [
    &SEGMENTS,
    &EFI_SYSTEM_TABLE,
    &EFI_CONFIG_TABLE,
    &TRAMPOLINE,
    &BIOS_DATA_AREA,
    &OLD_EFI,
    &OLD_ACPI_TABLES,
];
