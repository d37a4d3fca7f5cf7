//! What the rules look at, gathered once.

use identmap::{PageSize, PhysAddr, PhysRange};

use crate::hazard::Certainty;
use crate::layout::LayoutOrigin;
use crate::{Layout, Machine, MapOrigin, MemType, Region, Uv, ranges};

/// A machine as the rules see it.
pub(crate) struct Facts<'a> {
    pub(crate) machine: &'a Machine,
    /// What lies where, as firmware has it: a hazard is a matter of hardware, so
    /// neither `mem=` nor an update of the kernel takes it away.
    firmware: Option<Layout>,
    /// All that firmware or the kernel describes.
    pub(crate) described: Vec<PhysRange>,
    /// All that either calls memory for programs.
    pub(crate) ram: Vec<PhysRange>,
    /// What the running kernel uses as RAM.
    pub(crate) used: Vec<PhysRange>,
    /// Reserved ranges above 4 GiB that begin where RAM ends.
    pub(crate) tails: Vec<PhysRange>,
    /// Whether this is an HPE UV with hubs.
    pub(crate) uv: Option<Certainty>,
}

/// 4 GiB: below it lie the devices of every PC.
pub(crate) const FOUR_GIB: PhysAddr = match PhysAddr::new(1 << 32) {
    Some(addr) => addr,
    None => PhysAddr::MAX,
};

impl<'a> Facts<'a> {
    pub(crate) fn of(machine: &'a Machine) -> Facts<'a> {
        let firmware = Layout::of_firmware(machine);
        let running = Layout::of(machine);
        let regions = || firmware.iter().chain(&running).flat_map(Layout::regions);
        let described = ranges::normalise(regions().map(|r| r.range).collect());
        let ram =
            ranges::normalise(regions().filter(|r| is_ram(r.kind)).map(|r| r.range).collect());
        let used = running.iter().flat_map(|layout| layout.of_kind(MemType::Usable)).collect();
        let tails = firmware.as_ref().map_or_else(Vec::new, |layout| tails(layout.regions()));
        let uv = uv(machine, firmware.as_ref(), &tails);
        Facts { machine, firmware, described, ram, used, tails, uv }
    }

    /// Firmware's ranges of one type.
    pub(crate) fn of_kind(&self, kind: MemType) -> Vec<PhysRange> {
        self.firmware.iter().flat_map(|layout| layout.of_kind(kind)).collect()
    }

    /// Whether the map is whole enough to read something into its gaps: it has
    /// the first MiB, and more below 4 GiB.
    pub(crate) fn is_whole(&self) -> bool {
        const MIB: u64 = 1 << 20;
        let starts_low = self.described.first().is_some_and(|r| r.start().get() < MIB);
        let between = |r: &PhysRange| r.end().get() > MIB && r.start() < FOUR_GIB;
        starts_low && self.described.iter().any(between)
    }

    /// Whether the map was drawn by Xen.
    pub(crate) fn is_xen(&self) -> bool {
        let origin = self.firmware.as_ref().map(Layout::origin);
        origin == Some(LayoutOrigin::Map(MapOrigin::XenE820))
    }
}

fn is_ram(kind: MemType) -> bool {
    matches!(
        kind,
        MemType::Usable | MemType::SoftReserved | MemType::Persistent | MemType::PersistentLegacy
    )
}

fn tails(regions: &[Region]) -> Vec<PhysRange> {
    regions
        .windows(2)
        .filter(|pair| is_ram(pair[0].kind) && pair[1].kind == MemType::Reserved)
        .filter(|pair| pair[0].range.end() == pair[1].range.start())
        .map(|pair| pair[1].range)
        .filter(|tail| tail.start() >= FOUR_GIB)
        .collect()
}

/// Whether UV hubs watch this machine's memory.
///
/// [`Uv`] is what the running kernel takes the machine for (`is_uv_system()` in
/// `arch/x86/kernel/apic/x2apic_uv_x.c`). The hubs are there too when it was
/// booted with `numa=off` or built without `CONFIG_X86_UV`, so its "no" is not
/// final where the machine is otherwise known for one; and pasted texts seldom
/// show what it says. Evidence then: firmware's UV system table, the name of the
/// machine, or firmware's vendor together with the shape of the map.
fn uv(machine: &Machine, firmware: Option<&Layout>, tails: &[PhysRange]) -> Option<Certainty> {
    match machine.uv {
        Some(Uv::Hubbed) => return Some(Certainty::Certain),
        Some(Uv::Hubless) => return None,
        Some(Uv::No) | None => {}
    }
    let has_table = machine.efi.tables.iter().any(|table| table.name == "UVsystab");
    let words = |text: &Option<String>| -> Vec<String> {
        let text = text.as_deref().unwrap_or_default();
        text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect()
    };
    let made_by = |words: &[String]| words.iter().any(|w| w == "HPE" || w == "SGI");
    let hardware = words(&machine.hardware);
    // "UV 300", "UV300", "Superdome Flex".
    let is_uv = |w: &String| {
        w.strip_prefix("UV").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
    };
    let named = hardware.iter().any(is_uv)
        || hardware.windows(2).any(|w| w[0] == "Superdome" && w[1] == "Flex");
    let shaped = || made_by(&words(&machine.efi.version)) && is_uv_shaped(firmware, tails);
    (has_table || (made_by(&hardware) && named) || shaped()).then_some(Certainty::Likely)
}

/// Whether a map with the shape of a UV's is all that is known of a machine: nothing says who made it, and
/// nothing says that it is none.
pub(crate) fn may_be_uv(machine: &Machine) -> bool {
    let firmware = Layout::of_firmware(machine);
    let tails = firmware.as_ref().map_or_else(Vec::new, |layout| tails(layout.regions()));
    machine.uv.is_none()
        && machine.hardware.is_none()
        && machine.efi.version.is_none()
        && machine.efi.tables.is_empty()
        && machine.cpu.hypervisor != Some(true)
        && is_uv_shaped(firmware.as_ref(), &tails)
}

/// At least three nodes, each with a reserved tail in units of 64 MiB, which is
/// what UV hubs count memory in (`UV_GAM_RANGE_SHFT`, `arch/x86/include/asm/uv/uv_hub.h`),
/// and RAM right after it.
fn is_uv_shaped(firmware: Option<&Layout>, tails: &[PhysRange]) -> bool {
    const GRANULE: u64 = 1 << 26;
    const _: () = assert!(GRANULE.is_multiple_of(PageSize::Size2M.bytes()));
    let followed = |tail: &PhysRange| {
        firmware.and_then(|layout| layout.at(tail.end())).is_some_and(|next| is_ram(next.kind))
    };
    let aligned = |addr: PhysAddr| addr.get().is_multiple_of(GRANULE);
    let node = |tail: &&PhysRange| aligned(tail.start()) && aligned(tail.end()) && followed(tail);
    tails.iter().filter(node).count() >= 3
}
