//! What `init_pgtable()` requests, in its order.
//!
//! Linux `arch/x86/kernel/machine_kexec_64.c`, read in 5.10.262, 6.1.187, 6.1.192,
//! 6.12.117, 7.2.13 and 7.3.4; the order is the same in all of them.

use core::fmt;

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_machine::{Layout, Machine, MemType, ranges};

use crate::firmware::{self, Basis, ConfigTablePlace};
use crate::producer::Traits;

/// One past the ISA range, which Linux's direct map always holds (`ISA_END_ADDRESS`).
pub const ISA_END: u64 = 0x100000;

/// What the image is loaded for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `kexec -l`: a new kernel instead of this one.
    Kexec,
    /// `kexec -p`: the crash kernel.
    Kdump,
}

/// Which part of `init_pgtable()` made a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestSource {
    /// A range of `pfn_mapped[]`, the kernel's direct map: RAM and the first MiB.
    DirectMap,
    /// A segment of the image, by number.
    Segment(usize),
    /// The EFI system table (`map_efi_systab()`).
    EfiSystemTable,
    /// The EFI configuration-table array (`map_efi_systab()`).
    EfiConfigTable,
    /// A resource `ACPI Tables` (`map_acpi_tables()`).
    AcpiTables,
    /// A resource `ACPI Non-volatile Storage` (`map_acpi_tables()`).
    AcpiNvs,
    /// A synthetic entry: added by hand or by diagnosis, as if firmware had described it.
    Synthetic,
}

impl fmt::Display for RequestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestSource::DirectMap => "RAM, or the first MiB",
            RequestSource::Segment(number) => return write!(f, "segment {number}"),
            RequestSource::EfiSystemTable => "EFI system table",
            RequestSource::EfiConfigTable => "EFI configuration table",
            RequestSource::AcpiTables => "ACPI tables",
            RequestSource::AcpiNvs => "ACPI NVS",
            RequestSource::Synthetic => "synthetic entry",
        })
    }
}

/// A range that must be mapped, and who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The bytes.
    pub range: PhysRange,
    /// Who asked.
    pub source: RequestSource,
}

/// Something that the producer requests though its texts do not tell where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unknown {
    /// All RAM: no memory map is known.
    DirectMap,
    /// Memory that may have been added while running (`arch_add_memory()`): persistent
    /// or special-purpose memory in use as RAM or as a device's memory.
    AddedMemory,
    /// The image's segments.
    Segments,
    /// The EFI system table.
    EfiSystemTable,
    /// The EFI configuration-table array, or its end.
    EfiConfigTable,
    /// The registers of a memory-mapped debug console.
    MmioSerial,
    /// The page that is mapped at the address where the producer runs.
    TransitionPage,
}

/// A request whose range is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownRequest {
    /// What.
    pub what: Unknown,
    /// Why it is not known, in one sentence without a full stop.
    pub why: &'static str,
    /// It lies in one of these; empty where that is not known either. Sorted, disjoint.
    pub candidates: Vec<PhysRange>,
    /// What the candidates rest on, for EFI tables.
    pub basis: Option<Basis>,
}

/// The requests of one producer on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestList {
    /// What the image is loaded for.
    pub kind: Kind,
    /// In `init_pgtable()`'s order.
    pub requests: Vec<Request>,
    /// What it requests too.
    pub unknown: Vec<UnknownRequest>,
}

impl RequestList {
    /// The ranges alone, in order: what a plan is made from.
    #[must_use]
    pub fn ranges(&self) -> Vec<PhysRange> {
        self.requests.iter().map(|r| r.range).collect()
    }
}

/// What a producer with these traits requests on this machine.
///
/// `layout` is the memory as the producer sees it ([`Layout::of`]); without it
/// only the first MiB of RAM is known.
///
/// The transition page is at a virtual address of the kernel, not in the identity
/// map; it is listed under `unknown` because its tables belong to the same tree.
#[must_use]
pub fn requests(
    machine: &Machine,
    layout: Option<&Layout>,
    traits: &Traits,
    kind: Kind,
) -> RequestList {
    let mut list = RequestList { kind, requests: Vec::new(), unknown: Vec::new() };
    direct_map(&mut list, layout);
    segments(&mut list, machine, layout);
    if traits.firmware_tables {
        if firmware::efi_booted(machine) != Some(false) {
            system_table(&mut list, machine, layout);
            if traits.config_table {
                config_table(&mut list, machine, layout);
            }
        }
        acpi(&mut list, layout, traits.acpi_end_minus_one);
    }
    if traits.mmio_serial {
        mmio_serial(&mut list, machine);
    }
    list.unknown.push(UnknownRequest {
        what: Unknown::TransitionPage,
        why: "its address is chosen when the image is loaded",
        candidates: Vec::new(),
        basis: None,
    });
    list
}

/// `pfn_mapped[]` as `init_mem_mapping()` fills it: the ISA range, then every memblock
/// of RAM (`e820__memblock_setup()`), partial pages thrown away (`memblock_trim_memory()`), sorted
/// and merged where ranges overlap or touch (`add_range_with_merge()`, `clean_sort_range()`).
///
/// Page 0 and the BIOS range, which `trim_bios_range()` takes out of the RAM, lie in the ISA range.
#[must_use]
pub fn pfn_mapped(layout: &Layout) -> Vec<PhysRange> {
    let ram: Vec<PhysRange> = ranges::normalise(layout.of_kind(MemType::Usable).collect());
    let mut mapped: Vec<PhysRange> =
        ram.iter().filter_map(|r| r.round_in(PageSize::Size4K)).collect();
    mapped.extend(isa());
    ranges::normalise(mapped)
}

fn isa() -> Option<PhysRange> {
    PhysRange::new(0, ISA_END).ok()
}

impl RequestList {
    fn push(&mut self, range: PhysRange, source: RequestSource) {
        self.requests.push(Request { range, source });
    }

    /// Adds synthetic entries, behind all that the producer requests by itself.
    pub fn add_synthetic(&mut self, entries: &[PhysRange]) {
        for &range in entries {
            self.push(range, RequestSource::Synthetic);
        }
    }

    fn push_unknown(&mut self, what: Unknown, why: &'static str, candidates: Vec<PhysRange>) {
        self.unknown.push(UnknownRequest { what, why, candidates, basis: None });
    }

    fn push_efi(
        &mut self,
        what: Unknown,
        why: &'static str,
        machine: &Machine,
        layout: Option<&Layout>,
    ) {
        let (basis, candidates) = firmware::efi_table_candidates(machine, layout);
        self.unknown.push(UnknownRequest { what, why, candidates, basis: Some(basis) });
    }
}

fn direct_map(list: &mut RequestList, layout: Option<&Layout>) {
    let Some(layout) = layout else {
        if let Some(range) = isa() {
            list.push(range, RequestSource::DirectMap);
        }
        list.push_unknown(Unknown::DirectMap, "no memory map is known", vec![PhysRange::ALL]);
        return;
    };
    for range in pfn_mapped(layout) {
        list.push(range, RequestSource::DirectMap);
    }
    let special = [MemType::Persistent, MemType::PersistentLegacy, MemType::SoftReserved];
    let added: Vec<PhysRange> =
        special.into_iter().flat_map(|kind| layout.of_kind(kind).collect::<Vec<_>>()).collect();
    if !added.is_empty() {
        let why = "whether a driver has added this memory to the direct map is not known";
        list.push_unknown(Unknown::AddedMemory, why, ranges::normalise(added));
    }
}

fn segments(list: &mut RequestList, machine: &Machine, layout: Option<&Layout>) {
    for (number, segment) in machine.segments.iter().enumerate() {
        list.push(segment.range, RequestSource::Segment(number));
    }
    if machine.segments.is_empty() {
        let why = "no image is loaded, or its segments are not given";
        list.push_unknown(Unknown::Segments, why, segment_space(machine, layout, list.kind));
    }
}

/// Where an image's segments lie: a crash image in its reservation, others in RAM.
pub(crate) fn segment_space(
    machine: &Machine,
    layout: Option<&Layout>,
    kind: Kind,
) -> Vec<PhysRange> {
    match kind {
        Kind::Kdump => ranges::normalise(machine.crash_kernels.iter().map(|c| c.range).collect()),
        Kind::Kexec => {
            layout.map_or_else(Vec::new, |layout| layout.of_kind(MemType::Usable).collect())
        }
    }
}

fn system_table(list: &mut RequestList, machine: &Machine, layout: Option<&Layout>) {
    // `if (!mstart) return 0;`
    if machine.efi.system_table == Some(PhysAddr::ZERO) {
        return;
    }
    if let Some(range) = firmware::system_table(machine) {
        list.push(range, RequestSource::EfiSystemTable);
        return;
    }
    let why = match firmware::efi_booted(machine) {
        Some(_) => "the address of the EFI system table is not given",
        None => "whether the machine booted through EFI is not known",
    };
    list.push_efi(Unknown::EfiSystemTable, why, machine, layout);
}

fn config_table(list: &mut RequestList, machine: &Machine, layout: Option<&Layout>) {
    if machine.efi.system_table == Some(PhysAddr::ZERO) {
        return;
    }
    match firmware::config_table(machine) {
        ConfigTablePlace::Known(range) => list.push(range, RequestSource::EfiConfigTable),
        ConfigTablePlace::Empty => {}
        ConfigTablePlace::Begins(range) => {
            list.push(range, RequestSource::EfiConfigTable);
            let why = "the number of configuration-table entries is not given";
            list.push_unknown(Unknown::EfiConfigTable, why, vec![range]);
        }
        ConfigTablePlace::Unknown => {
            let why = "the address of the EFI configuration table is not given";
            list.push_efi(Unknown::EfiConfigTable, why, machine, layout);
        }
    }
}

/// `map_acpi_tables()`: the tables first, then the non-volatile storage, each in the order of
/// addresses. Both are busy resources (`do_mark_busy()` in `arch/x86/kernel/e820.c`).
fn acpi(list: &mut RequestList, layout: Option<&Layout>, end_minus_one: bool) {
    let Some(layout) = layout else { return };
    let kinds = [
        (MemType::AcpiData, RequestSource::AcpiTables),
        (MemType::AcpiNvs, RequestSource::AcpiNvs),
    ];
    for (kind, source) in kinds {
        for range in layout.of_kind(kind) {
            let end = if end_minus_one { range.last() } else { range.end() };
            // A region of one byte is not requested at all, then.
            if let Some(range) = PhysRange::between(range.start(), end) {
                list.push(range, source);
            }
        }
    }
}

/// `map_mmio_serial()`: only after `earlyprintk=pciserial` on a memory-mapped card
/// (`early_pci_serial_init()` in `arch/x86/kernel/early_printk.c`).
fn mmio_serial(list: &mut RequestList, machine: &Machine) {
    let why = match &machine.cmdline {
        Some(line) if !line.contains("pciserial") => return,
        Some(_) => "the address of the PCI console is not given",
        None => "whether a PCI console is in use is not known: no command line is given",
    };
    list.push_unknown(Unknown::MmioSerial, why, Vec::new());
}
