//! What the kernel that is entered touches before it owns its page tables, by rule.
//!
//! Read in `arch/x86/boot/compressed/` of 5.10.262, 6.1.192, 6.12.117 and 7.2.13.
//! A rule says what a version's code does; running that code (preflight) is better evidence.

use core::fmt;

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_machine::{CpuVendor, Layout, Machine, MemType, ranges};

use crate::firmware::{self, Basis, ConfigTablePlace};
use crate::history;
use crate::release::{Release, Releases};
use crate::requests::{Kind, segment_space};
use crate::version::KernelVersion;

/// The kernel that is entered. Whatever is `None` is not known.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Consumer {
    /// Its version; `None` stands for any supported kernel: 5.10 or later.
    pub version: Option<KernelVersion>,
    /// Whether the loader hands over `efi_info` in `boot_params`. Both loaders do on a machine
    /// booted through EFI, unless the running kernel has no EFI run-time services
    /// (`setup_efi_state()` in `arch/x86/kernel/kexec-bzimage64.c`; kexec-tools `setup_efi_info()`).
    pub efi_info: Option<bool>,
    /// Built with `CONFIG_AMD_MEM_ENCRYPT`, as distributions do; only `Some(false)` takes needs away.
    pub sev_code: Option<bool>,
}

impl Consumer {
    /// Whether this may be of a later series than any whose first instructions were read (those of 7.3.4 are
    /// 7.2.13's): what else it touches is not known.
    #[must_use]
    pub fn is_newer_than_read(&self) -> bool {
        let series = history::NEWEST_READ.next_series();
        self.version.as_ref().is_some_and(|version| version.releases().from >= series)
    }
}

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

/// How sure a need is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Certainty {
    /// It is touched.
    Certain,
    /// It is touched if all of these hold; nothing known contradicts them.
    If(Vec<Condition>),
}

/// Where a need lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Exactly here.
    Known(PhysRange),
    /// Somewhere inside one of these.
    Within {
        /// Sorted, disjoint, not empty.
        ranges: Vec<PhysRange>,
        /// How many bytes, where known.
        len: Option<u64>,
        /// What the ranges rest on, for EFI tables.
        basis: Option<Basis>,
    },
    /// It cannot be said.
    Unknown,
}

/// Bytes that the consumer touches in the hand-over window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Need {
    /// What it is, e.g. `EFI configuration table`.
    pub what: String,
    /// Where.
    pub place: Place,
    /// Whether.
    pub certainty: Certainty,
    /// By which rule.
    pub rule: &'static NeedRule,
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
/// No rule of the consumer's, so not among [`RULES`]: see [`of_the_jump`].
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

/// Everything that this consumer touches outside page tables before its own `mov %cr3`,
/// by rule, in the order of [`RULES`]. What is certainly not touched is left out.
#[must_use]
pub fn needs(
    machine: &Machine,
    layout: Option<&Layout>,
    consumer: &Consumer,
    kind: Kind,
) -> Vec<Need> {
    let mut all = Needs { machine, layout, consumer, found: Vec::new() };
    all.segments(kind);
    all.efi(&EFI_SYSTEM_TABLE, &EFI_CONFIG_TABLE);
    all.low_memory();
    all.efi(&OLD_EFI, &OLD_EFI);
    all.acpi_tables();
    all.found
}

/// What the jump itself needs, whatever kernel follows: memory that the running kernel allocates, wherever it
/// gets it; of a crash image within its reservation.
#[must_use]
pub fn of_the_jump(machine: &Machine, layout: Option<&Layout>, kind: Kind) -> Need {
    let space = segment_space(machine, layout, kind);
    // The allocator hands out whole pages.
    let pages = space.iter().filter_map(|range| range.round_in(PageSize::Size4K)).collect();
    Need {
        what: "relocate_kernel, and the pages that it copies".to_owned(),
        place: within(pages, None, None),
        certainty: Certainty::Certain,
        rule: &RELOCATE_KERNEL,
    }
}

/// Whether the loader hands `efi_info` over, so that the consumer looks for EFI's tables.
#[must_use]
pub fn efi_info(machine: &Machine, consumer: &Consumer) -> Option<bool> {
    if consumer.efi_info.is_some() {
        return consumer.efi_info;
    }
    let off = machine.cmdline.as_deref().is_some_and(|line| {
        line.split_whitespace().any(|w| {
            w == "noefi"
                || w.strip_prefix("efi=").is_some_and(|o| o.split(',').any(|o| o == "noruntime"))
        })
    });
    match firmware::efi_booted(machine) {
        // Without run-time services, what is handed over depends on the loader.
        Some(true) if off => None,
        booted => booted,
    }
}

struct Needs<'a> {
    machine: &'a Machine,
    layout: Option<&'a Layout>,
    consumer: &'a Consumer,
    found: Vec<Need>,
}

impl Needs<'_> {
    fn push(
        &mut self,
        what: impl Into<String>,
        place: Place,
        conditions: Vec<Condition>,
        rule: &'static NeedRule,
    ) {
        let certainty =
            if conditions.is_empty() { Certainty::Certain } else { Certainty::If(conditions) };
        self.found.push(Need { what: what.into(), place, certainty, rule });
    }

    fn releases(&self) -> Releases {
        let any = Releases::since(rc(5, 10, 1));
        self.consumer.version.as_ref().map_or(any, KernelVersion::releases)
    }

    /// The ways in which `rule` can apply, each with its conditions; none where it
    /// certainly does not.
    fn applies(&self, rule: &'static NeedRule) -> Vec<Vec<Condition>> {
        let releases = self.releases();
        let hits = |spans: &[Releases]| spans.iter().any(|s| s.intersects(&releases));
        let among = |spans: &'static [Releases]| {
            (!covers(spans, releases)).then_some(Condition::ConsumerAmong(spans))
        };
        let always = hits(rule.always);
        let Some(condition) = rule.condition.filter(|_| hits(rule.conditional)) else {
            return if always {
                vec![among(rule.always).into_iter().collect()]
            } else {
                Vec::new()
            };
        };
        match self.holds(condition) {
            Some(true) => vec![among(core::slice::from_ref(&rule.all)).into_iter().collect()],
            Some(false) if always => vec![among(rule.always).into_iter().collect()],
            Some(false) => Vec::new(),
            None => {
                let met = among(rule.conditional).into_iter().chain([condition]).collect();
                let ways = always.then(|| among(rule.always).into_iter().collect());
                ways.into_iter().chain([met]).collect()
            }
        }
    }

    /// Whether a condition is met on this machine, where that is known.
    fn holds(&self, condition: Condition) -> Option<bool> {
        let cpu = &self.machine.cpu;
        match condition {
            Condition::SevInCpuid => match (self.consumer.sev_code, cpu.sev, cpu.vendor) {
                // Without the code, or without the leaf: it is AMD's, and Intel's
                // extended leaves end at 0x80000008.
                (Some(false), _, _) | (_, None, Some(CpuVendor::Intel)) => Some(false),
                (_, sev, _) => sev,
            },
            // Without the feature there is one mode only.
            Condition::PagingLevelChange => (cpu.la57 == Some(false)).then_some(false),
            Condition::EfiInfoHandedOver => self.efi_info(),
            Condition::BootedByBios => firmware::efi_booted(self.machine).map(|efi| !efi),
            Condition::ConsumerAmong(spans) => {
                let releases = self.releases();
                if covers(spans, releases) {
                    return Some(true);
                }
                (!spans.iter().any(|s| s.intersects(&releases))).then_some(false)
            }
        }
    }

    fn efi_info(&self) -> Option<bool> {
        efi_info(self.machine, self.consumer)
    }

    fn segments(&mut self, kind: Kind) {
        for (number, segment) in self.machine.segments.iter().enumerate() {
            let place = Place::Known(segment.range);
            self.push(format!("segment {number}"), place, Vec::new(), &SEGMENTS);
        }
        if self.machine.segments.is_empty() {
            let space = segment_space(self.machine, self.layout, kind);
            let place = within(space, None, None);
            self.push("the image's segments", place, Vec::new(), &SEGMENTS);
        }
    }

    /// The system table by one rule, the configuration table by another.
    fn efi(&mut self, system: &'static NeedRule, config: &'static NeedRule) {
        let handed_over = self.efi_info();
        if handed_over == Some(false)
            || self.consumer.sev_code == Some(false) && system.condition.is_some()
        {
            return;
        }
        let also: Option<Condition> = handed_over.is_none().then_some(Condition::EfiInfoHandedOver);
        let (basis, candidates) = firmware::efi_table_candidates(self.machine, self.layout);
        for mut conditions in self.applies(system) {
            conditions.extend(also);
            let len = firmware::system_table_len(self.machine);
            let place = firmware::system_table(self.machine)
                .map_or_else(|| within(candidates.clone(), Some(len), Some(basis)), Place::Known);
            self.push("EFI system table", place, conditions, system);
        }
        for mut conditions in self.applies(config) {
            conditions.extend(also);
            let what = "EFI configuration table";
            match firmware::config_table(self.machine) {
                ConfigTablePlace::Known(range) => {
                    self.push(what, Place::Known(range), conditions, config);
                }
                ConfigTablePlace::Empty => {}
                ConfigTablePlace::Begins(range) => {
                    self.push(
                        "first entry of the EFI configuration table",
                        Place::Known(range),
                        conditions.clone(),
                        config,
                    );
                    self.push(
                        "rest of the EFI configuration table",
                        self.after(range),
                        conditions,
                        config,
                    );
                }
                ConfigTablePlace::Unknown => {
                    self.push(
                        what,
                        within(candidates.clone(), None, Some(basis)),
                        conditions,
                        config,
                    );
                }
            }
        }
    }

    /// Where an array goes on of which only the first entry is known: to the end of its region.
    fn after(&self, first: PhysRange) -> Place {
        let region = self.layout.and_then(|layout| layout.at(first.start()));
        let rest = region.and_then(|r| PhysRange::between(first.end(), r.range.end()));
        rest.map_or(Place::Unknown, |rest| within(vec![rest], None, None))
    }

    fn low_memory(&mut self) {
        // BIOS_START_MAX in pgtable.h; the lowest RAM entry may begin at 0.
        const LOW_MEMORY: (u64, u64) = (0, 0x9f000);
        const TRAMPOLINE_BYTES: u64 = 0x2000;
        for conditions in self.applies(&TRAMPOLINE) {
            let low = PhysRange::new(LOW_MEMORY.0, LOW_MEMORY.1).ok();
            let place = within(low.into_iter().collect(), Some(TRAMPOLINE_BYTES), None);
            self.push("paging trampoline", place, conditions, &TRAMPOLINE);
        }
        let bios = self.holds(Condition::BootedByBios);
        if bios == Some(false) {
            return;
        }
        for mut conditions in self.applies(&BIOS_DATA_AREA) {
            conditions.extend(bios.is_none().then_some(Condition::BootedByBios));
            for (what, start) in [
                ("BIOS data area: segment of the EBDA", 0x40e),
                ("BIOS data area: low memory size", 0x413),
            ] {
                if let Ok(range) = PhysRange::from_len(start, 2) {
                    self.push(what, Place::Known(range), conditions.clone(), &BIOS_DATA_AREA);
                }
            }
        }
    }

    /// Only what the decompressors of 5.1 to 5.9 read.
    fn acpi_tables(&mut self) {
        for conditions in self.applies(&OLD_ACPI_TABLES) {
            self.acpi_tables_if(&conditions);
        }
    }

    fn acpi_tables_if(&mut self, conditions: &[Condition]) {
        let regions = self.acpi_regions();
        // Of every table that the XSDT may name the signature is read until SRAT is found
        // (`get_acpi_srat_table()` in `arch/x86/boot/compressed/acpi.c` of 5.1 to 5.9); FADT names DSDT and FACS.
        let whole = ["RSDP", "XSDT", "RSDT", "SRAT"];
        let srat = self.machine.acpi_tables.iter().position(|t| t.signature == "SRAT");
        let listed: Vec<(String, PhysRange)> = self
            .machine
            .acpi_tables
            .iter()
            .enumerate()
            .filter(|(_, t)| !["DSDT", "FACS"].contains(&t.signature.as_str()))
            .filter_map(|(at, t)| {
                let name = t.signature.clone();
                if whole.contains(&name.as_str()) {
                    return Some((name, t.range));
                }
                // A log lists them in the XSDT's order.
                if srat.is_some_and(|srat| srat < at) {
                    return None;
                }
                let signature = PhysRange::from_len(t.range.start().get(), 4).ok()?;
                Some((format!("signature of {name}"), signature))
            })
            .collect();
        let missing = |names: &[&str]| !listed.iter().any(|(n, _)| names.contains(&n.as_str()));
        let no_root = missing(&["XSDT", "RSDT"]);
        if missing(&["RSDP"]) {
            // 36 bytes since ACPI 2.0 (ACPI 6.5, 5.2.5.3).
            let known = self.rsdp_from_efi().and_then(|at| PhysRange::from_len(at.get(), 36).ok());
            let place = known.map_or_else(|| Place::Unknown, Place::Known);
            self.push("ACPI RSDP", place, conditions.to_vec(), &OLD_ACPI_TABLES);
        }
        if no_root {
            let place = within(regions, None, None);
            self.push("ACPI XSDT or RSDT, and SRAT", place, conditions.to_vec(), &OLD_ACPI_TABLES);
        }
        for (name, range) in listed {
            let place = Place::Known(range);
            self.push(format!("ACPI {name}"), place, conditions.to_vec(), &OLD_ACPI_TABLES);
        }
    }

    fn rsdp_from_efi(&self) -> Option<PhysAddr> {
        let tables = &self.machine.efi.tables;
        let named = |name: &str| tables.iter().find(|t| t.name == name).map(|t| t.address);
        named("ACPI 2.0").or_else(|| named("ACPI"))
    }

    fn acpi_regions(&self) -> Vec<PhysRange> {
        let kinds = [MemType::AcpiData, MemType::AcpiNvs];
        let of = |layout: &Layout| -> Vec<PhysRange> {
            kinds.iter().flat_map(|&kind| layout.of_kind(kind).collect::<Vec<_>>()).collect()
        };
        ranges::normalise(self.layout.map_or_else(Vec::new, of))
    }
}

fn within(ranges: Vec<PhysRange>, len: Option<u64>, basis: Option<Basis>) -> Place {
    if ranges.is_empty() { Place::Unknown } else { Place::Within { ranges, len, basis } }
}

/// Whether these spans together hold all of `releases`.
fn covers(spans: &[Releases], releases: Releases) -> bool {
    let mut sorted: Vec<&Releases> = spans.iter().collect();
    sorted.sort_by_key(|s| s.from);
    let mut reached = releases.from;
    for span in sorted {
        if span.from <= reached && span.before.is_none_or(|before| reached < before) {
            match (span.before, releases.before) {
                (None, _) => return true,
                (Some(to), Some(end)) if end <= to => return true,
                (Some(to), _) => reached = to,
            }
        }
    }
    false
}
