//! The table.
//!
//! Not in it, because no text that we read says where they lie: memory given to
//! TDX guests (a partial write poisons it where `X86_BUG_TDX_PW_MCE` holds,
//! `arch/x86/virt/vmx/tdx/tdx.c`), bad blocks of persistent memory, SGX's EPC
//! (`sgx: EPC section`, `arch/x86/kernel/cpu/sgx/main.c`), and SMRAM, which firmware
//! reserves without a name.

use identmap::{PageSize, PhysAddr, PhysRange};

use crate::hazard::facts::{FOUR_GIB, Facts};
use crate::hazard::{Certainty, Rule, Severity};
use crate::{CpuVendor, MemType, ranges};

/// Every rule, the most dangerous first.
pub static RULES: &[Rule] = &[
    Rule {
        id: "uv-node-tail",
        title: "reserved memory at the end of a UV node",
        severity: Severity::Halt,
        source: "Steve Wahl (HPE), https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/ \
                 and https://lore.kernel.org/all/ZgsBqS5JquMgIh_j@swahl-home.5wahls.com/; \
                 Linux 2aa85f246c18",
        applies: |facts| facts.uv,
        ranges: |facts| facts.tails.clone(),
    },
    Rule {
        id: "uv-undescribed",
        title: "space between the memory of UV nodes that no map describes",
        severity: Severity::Halt,
        source: "Linux 1869dbe87cb9 (speculation past the end of RAM, on UV); Steve Wahl (HPE), \
                 https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/",
        // That it halts as the tails do is inferred: the posted maps have no such space.
        applies: |facts| facts.uv.map(|_| Certainty::Likely),
        ranges: uv_undescribed,
    },
    Rule {
        id: "amd-hypertransport",
        title: "HyperTransport's range below 1 TiB (interrupts, configuration space)",
        severity: Severity::Halt,
        source: "AMD I/O Virtualization Technology (IOMMU) Specification (48882), section 2.1.2, \
                 table 3; Linux drivers/iommu/amd/iommu.c, HT_RANGE_START; QEMU hw/i386/pc.c, \
                 AMD_HT_START; machine checks by mapping past RAM: Linux 66520ebc2df3",
        applies: hypertransport,
        ranges: |facts| ranges::subtract(&[HYPERTRANSPORT], &facts.ram),
    },
    Rule {
        id: "amd-hypertransport-top",
        title: "the last 12 GiB of the physical address space",
        severity: Severity::Halt,
        source: "Linux tools/testing/selftests/kvm/lib/x86/processor.c, vm_compute_max_gfn() \
                 (family 17h and later); AMD erratum 1286",
        applies: hypertransport_top,
        ranges: hypertransport_top_ranges,
    },
    Rule {
        id: "snp-rmp",
        title: "the RMP table of SEV-SNP",
        // Only a write faults, and nobody writes there: reading, or speculating, is allowed.
        severity: Severity::Caution,
        source: "AMD64 APM vol. 2, section 15.36; Linux arch/x86/virt/svm/sev.c",
        applies: |facts| facts.machine.rmp.map(|_| Certainty::Certain),
        ranges: |facts| facts.machine.rmp.into_iter().collect(),
    },
    Rule {
        id: "snp-rmp-neighbour",
        title: "RAM in one 2 MiB frame with an end of the RMP table",
        severity: Severity::Fault,
        source: "Linux 400fea4b9651; arch/x86/virt/svm/sev.c, __snp_fixup_e820_tables()",
        applies: |facts| facts.machine.rmp.map(|_| Certainty::Certain),
        ranges: rmp_neighbours,
    },
    Rule {
        id: "acpi-unusable",
        title: "memory in which firmware found errors",
        // Mapped by over-reach for years without a report; nobody reads it on purpose.
        severity: Severity::Caution,
        source: "ACPI 6.5, table 15.4, AddressRangeUnusable",
        // Loaders such as tboot use the type for memory that they protect.
        applies: |facts| (!facts.is_xen()).then_some(Certainty::Likely),
        ranges: |facts| facts.of_kind(MemType::Unusable),
    },
    Rule {
        id: "memory-failure",
        title: "page with a memory error",
        // The running kernel unmaps it, so that speculation does not find the error again; kexec's map, of all
        // RAM, has it back for the length of the jump.
        severity: Severity::Caution,
        source: "Linux mm/memory-failure.c; arch/x86/mm/pat/set_memory.c, set_mce_nospec()",
        applies: |facts| (!facts.machine.poisoned.is_empty()).then_some(Certainty::Certain),
        ranges: |facts| ranges::normalise(facts.machine.poisoned.clone()),
    },
    Rule {
        id: "graphics-stolen",
        title: "memory taken by Intel's integrated graphics",
        severity: Severity::Caution,
        source: "Linux arch/x86/kernel/early-quirks.c, intel_graphics_stolen(); \
                 drivers/gpu/drm/i915/gem/i915_gem_stolen.c",
        applies: |_| Some(Certainty::Certain),
        ranges: |facts| iomem(facts, |name, _| name == "Graphics Stolen Memory"),
    },
    Rule {
        id: "uv-reserved",
        title: "other reserved ranges of a UV system (firmware, MMR and MMIO windows)",
        severity: Severity::Caution,
        // The MTRRs make 2-4 GiB and the windows uncacheable whatever a page table
        // says, so nothing is fetched from there unasked.
        source: "Steve Wahl (HPE), https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/; \
                 Linux arch/x86/kernel/apic/x2apic_uv_x.c, map_mmr_high(), map_mmioh_high_uv34()",
        applies: |facts| facts.uv,
        ranges: uv_reserved,
    },
    Rule {
        id: "mmio-below-4g",
        title: "device space below 4 GiB",
        severity: Severity::Caution,
        source: "Linux arch/x86/kernel/e820.c, e820__setup_pci_gap(): what no map describes \
                 there is given to devices",
        applies: |facts| facts.is_whole().then_some(Certainty::Likely),
        ranges: |facts| {
            let space = PhysRange::between(MIB, FOUR_GIB);
            ranges::subtract(space.as_slice(), &facts.described)
        },
    },
    Rule {
        id: "mmio-above-4g",
        title: "device space above 4 GiB",
        severity: Severity::Caution,
        source: "/proc/iomem: windows of PCI host bridges (ACPI _CRS)",
        applies: |_| Some(Certainty::Certain),
        ranges: |facts| {
            let windows = iomem(facts, |name, depth| depth == 0 && name.starts_with("PCI Bus "));
            let above = PhysRange::between(FOUR_GIB, PhysAddr::MAX);
            ranges::subtract(&ranges::intersect(&windows, above.as_slice()), &facts.ram)
        },
    },
];

/// Linux always maps what lies below (`init_mem_mapping()`, the "ISA range").
const MIB: PhysAddr = match PhysAddr::new(1 << 20) {
    Some(addr) => addr,
    None => PhysAddr::MAX,
};

/// `FD_0000_0000h` to `FF_FFFF_FFFFh`.
const HYPERTRANSPORT: PhysRange = match PhysRange::new(0xfd_0000_0000, 0x100_0000_0000) {
    Ok(range) => range,
    Err(_) => PhysRange::ALL,
};

/// 12 GiB.
const HYPERTRANSPORT_LEN: u64 = HYPERTRANSPORT.len();

const _: () = assert!(HYPERTRANSPORT_LEN == 12 << 30);

/// Space above 4 GiB and below the end of RAM that neither firmware nor the kernel describes.
fn uv_undescribed(facts: &Facts<'_>) -> Vec<PhysRange> {
    let top = facts.ram.last().map_or(PhysAddr::ZERO, |last| last.end());
    ranges::subtract(PhysRange::between(FOUR_GIB, top).as_slice(), &facts.described)
}

/// Reserved ranges that are no tails. The first MiB is not warned of: Linux maps all of it, always.
fn uv_reserved(facts: &Facts<'_>) -> Vec<PhysRange> {
    let above_low = PhysRange::between(MIB, PhysAddr::MAX);
    let reserved = ranges::intersect(&facts.of_kind(MemType::Reserved), above_low.as_slice());
    ranges::subtract(&reserved, &facts.tails)
}

fn is_amd(vendor: CpuVendor) -> bool {
    matches!(vendor, CpuVendor::Amd | CpuVendor::Hygon)
}

/// On AMD, and where the processor is not known but the map keeps the range free.
/// With RAM beyond 1 TiB, QEMU and firmware put it after the range or, as on a
/// 1 TiB `PowerEdge` R7425, into its upper part: RAM is taken out of the hazard.
fn hypertransport(facts: &Facts<'_>) -> Option<Certainty> {
    let cpu = &facts.machine.cpu;
    let start = HYPERTRANSPORT.start();
    let reserved = facts.of_kind(MemType::Reserved).iter().any(|r| r.contains(start));
    match cpu.vendor {
        // Fewer than 40 bits cannot reach it.
        _ if cpu.maxphyaddr.is_some_and(|bits| bits < 40) => None,
        Some(vendor) if is_amd(vendor) && reserved => Some(Certainty::Certain),
        Some(vendor) if !is_amd(vendor) => None,
        None if !reserved => None,
        _ => Some(Certainty::Likely),
    }
}

fn hypertransport_top(facts: &Facts<'_>) -> Option<Certainty> {
    match facts.machine.cpu.vendor {
        Some(vendor) if !is_amd(vendor) => None,
        _ => Some(Certainty::Likely),
    }
}

/// The last 12 GiB below a power of two, where the map reserves just them; and,
/// on AMD hardware, below MAXPHYADDR.
fn hypertransport_top_ranges(facts: &Facts<'_>) -> Vec<PhysRange> {
    let cpu = &facts.machine.cpu;
    let below = |bits: u8| {
        let end = 1u64.checked_shl(bits.into())?;
        PhysRange::new(end.checked_sub(HYPERTRANSPORT_LEN)?, end).ok()
    };
    let reserved = facts.of_kind(MemType::Reserved);
    // At 40 bits this is the range below 1 TiB.
    let marked = (41..=52).filter_map(below).filter(|top| reserved.contains(top));
    let bare = cpu.vendor.is_some_and(is_amd) && cpu.hypervisor != Some(true);
    let own = cpu.maxphyaddr.filter(|&bits| bare && bits > 40).and_then(below);
    ranges::subtract(&ranges::normalise(marked.chain(own).collect()), &facts.ram)
}

/// What shares a 2 MiB frame with an end of the RMP table: the frame has one RMP
/// entry, so a write to any of it faults, whatever the size of the leaf.
/// RAM that a write through a 2 MiB leaf can fault on. Kernels with the fix take such RAM out of
/// their map ("Reserving start/end of RMP table on a 2MB boundary"): then there is none.
fn rmp_neighbours(facts: &Facts<'_>) -> Vec<PhysRange> {
    let Some(rmp) = facts.machine.rmp else { return Vec::new() };
    let beside = ranges::subtract(&[rmp.round_out(PageSize::Size2M)], &[rmp]);
    ranges::intersect(&beside, &facts.used)
}

/// Resources of `/proc/iomem` that `wanted` picks by name and depth, merged.
fn iomem(facts: &Facts<'_>, wanted: fn(&str, usize) -> bool) -> Vec<PhysRange> {
    let entries = facts.machine.iomem.iter().filter(|e| wanted(&e.name, e.depth));
    // Without CAP_SYS_ADMIN every line reads "0-0".
    let real = entries.filter(|e| e.range.last() != PhysAddr::ZERO);
    ranges::normalise(real.map(|e| e.range).collect())
}
