//! What a run supposes of the machine where nothing tells: its processor, and how many levels of page tables the
//! running kernel uses.

use identmap_machine::{CpuVendor, Machine};
use identmap_preflight::{CpuProfile, Vendor};

/// The machine, if the running kernel uses this many levels.
pub(crate) struct Levels {
    pub(crate) machine: Machine,
    pub(crate) cpu: CpuProfile,
    /// For people, where that is one of several.
    pub(crate) suffix: &'static str,
}

/// Every number of levels that may be in use. 4 are taken for it in the first, if nothing tells; then a second has 5,
/// unless the processor surely cannot.
pub(crate) fn levels(machine: &Machine, cpu: CpuProfile) -> Vec<Levels> {
    let mut all = vec![Levels { machine: machine.clone(), cpu, suffix: "" }];
    if machine.cpu.la57_active.is_none() && cpu.la57 != Some(false) {
        let mut machine = machine.clone();
        (machine.cpu.la57, machine.cpu.la57_active) = (Some(true), Some(true));
        let cpu = CpuProfile { la57: Some(true), ..cpu };
        all.push(Levels { machine, cpu, suffix: ", 5 levels" });
    }
    all
}

/// The processor that is asked for, noted in the machine; or the machine's own.
pub(crate) fn processor(profile: Option<CpuProfile>, machine: &mut Machine) -> CpuProfile {
    let Some(profile) = profile else { return CpuProfile::of(&machine.cpu) };
    let profile = profile.on(&machine.cpu);
    let cpu = &mut machine.cpu;
    cpu.vendor = profile.vendor.map(|vendor| match vendor {
        Vendor::Amd => CpuVendor::Amd,
        Vendor::Hygon => CpuVendor::Hygon,
        Vendor::Intel => CpuVendor::Intel,
    });
    (cpu.sev, cpu.la57, cpu.pdpe1gb) = (profile.sev, profile.la57, profile.pdpe1gb);
    if profile.pdpe1gb == Some(false) {
        machine.direct_gbpages = Some(false);
    }
    if profile.la57 == Some(false) {
        cpu.la57_active = Some(false);
    }
    profile
}

/// What a run without a command line says nothing of: a kernel that is told to, goes down from 5 levels to 4.
pub(crate) fn command_line(machine: &Machine, cpu: CpuProfile, given: &str) -> Option<String> {
    let may_be_5 = machine.cpu.la57_active.unwrap_or(cpu.la57 != Some(false));
    (may_be_5 && given.is_empty()).then(|| {
        "the kernel's command line has no no5lvl: say --cmdline with what it will be".to_owned()
    })
}
