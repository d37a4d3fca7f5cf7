//! The scenarios.

use identmap::{Level, Levels, PhysAddr};
use identmap_linux::boot::Strategy;

use crate::cpu::Cpu;
use crate::scenario::{Anchor, Change, Hole, Scenario};
use crate::world::{ACPI, Base, CONFIG_TABLE, LAST_STEPS, SYSTEM_TABLE, page, range};

const K4: u64 = 4096;
const M1: u64 = 1 << 20;
const M2: u64 = 2 << 20;
const G4: u64 = 4 << 30;
/// The lab's kernels: each has every scenario that is possible with it.
pub const LAB: [&str; 4] = ["5.10", "6.1", "6.12", "7.x"];
/// Kernels that ask for SEV before they have their own tables.
const EARLY_SEV: [&str; 3] = ["6.1", "6.12", "7.x"];
/// Random scenarios for each of the lab's kernels.
const RANDOM: u64 = 8;
/// Bits of an entry.
const NX: u64 = 1 << 63;
const NOPTISHADOW: u64 = 1 << 58;

/// All scenarios, of the kernels that are at hand. `seed` decides the random ones.
#[must_use]
pub fn all(kernels: &[String], seed: u64) -> Vec<Scenario> {
    let mut all = Vec::new();
    for kernel in LAB {
        chosen(kernel, &mut all);
        entries(kernel, &mut all);
        firmware(kernel, &mut all);
        if EARLY_SEV.contains(&kernel) {
            sev(kernel, &mut all);
        }
        levels(kernel, &mut all);
        random(kernel, seed, &mut all);
    }
    for kernel in kernels.iter().filter(|kernel| !LAB.contains(&kernel.as_str())) {
        others(kernel, &mut all);
    }
    all.retain(|scenario| kernels.contains(&scenario.kernel));
    all
}

/// Holes at chosen places.
fn chosen(kernel: &str, all: &mut Vec<Scenario>) {
    use Anchor::{Kernel, KernelEnd, KernelFileEnd, Params, ParamsEnd, Zero};
    let mut add = |name: &str, holes: &[Hole]| {
        all.push(Scenario { holes: holes.to_vec(), ..Scenario::new(kernel, name) });
    };
    add("whole", &[]);
    add("image-entry", &[Hole::At(Kernel, 0, K4)]);
    add("image-second-2m", &[Hole::At(Kernel, M2, M2)]);
    add("image-middle", &[Hole::Touched(500)]);
    add("image-not-touched", &[Hole::Untouched(500)]);
    add("image-last-touched", &[Hole::LastTouched(false)]);
    add("image-after-last-touched", &[Hole::LastTouched(true)]);
    add("bss-first", &[Hole::At(KernelFileEnd, 0, K4)]);
    // boot_stack follows boot_heap, 64 KiB (arch/x86/boot/compressed/head_64.S, .bss).
    add("bss-stack", &[Hole::At(KernelFileEnd, 0x1_0000, 0x5000)]);
    add("init-size-end", &[Hole::At(KernelEnd, K4, K4)]);
    add("init-size-last-2m", &[Hole::At(KernelEnd, M2, M2)]);
    add("boot-params", &[Hole::At(Params, 0, K4)]);
    add("command-line", &[Hole::At(Params, K4, K4)]);
    add("purgatory-stack", &[Hole::At(ParamsEnd, K4, K4)]);
    add("low-1m", &[Hole::At(Zero, 0, M1)]);
    add("bios-data-area", &[Hole::At(Zero, 0, K4)]);
    add("trampoline", &[Hole::At(Zero, 0x9_d000, K4)]);
    add("trampoline-second", &[Hole::At(Zero, 0x9_e000, K4)]);
    add("below-trampoline", &[Hole::At(Zero, 0x9_c000, K4)]);
    add("above-trampoline", &[Hole::At(Zero, 0x9_f000, M1 - 0x9_f000)]);
    add("tables", &[Hole::Tables]);
    add("ram-far", &[Hole::At(Zero, 0x100_0000, 0x700_0000), Hole::At(Zero, G4 + M2, M2)]);
    add("devices-below-4g", &[Hole::At(Zero, 0x2000_0000, G4 - 0x2000_0000)]);
    add("initrd", &[Hole::At(Anchor::Initrd, 0, K4)]);
    let mut more = |name: &str, change: &dyn Fn(&mut Scenario)| {
        let mut scenario = Scenario::new(kernel, name);
        change(&mut scenario);
        all.push(scenario);
    };
    more("only-loaded", &|s| s.base = Base::Loaded);
    more("only-loaded-and-low", &|s| {
        s.base = Base::Loaded;
        s.strategy = Strategy::BottomUp;
    });
    more("only-loaded-2m", &|s| s.base = Base::Loaded2M);
    more("setup-data-tail", &|s| {
        s.many_regions = true;
        s.holes = vec![Hole::At(Anchor::Params, 2 * K4, K4)];
    });
    more("setup-data-head", &|s| {
        s.many_regions = true;
        s.holes = vec![Hole::At(Anchor::Params, K4, K4)];
    });
    more("2m-leaves", &|s| s.gbpages = false);
    more("2m-leaves-low-kernel", &|s| {
        s.gbpages = false;
        s.strategy = Strategy::BottomUp;
    });
    more("no-1g-processor", &|s| (s.cpu, s.gbpages) = (Cpu::AmdNoGb, false));
    more("intel", &|s| s.cpu = Cpu::Intel);
    more("hole-to-2m-border", &|s| {
        s.holes = vec![Hole::At(Anchor::Kernel, M2 - K4, K4)];
    });
    more("hole-from-2m-border", &|s| {
        s.holes = vec![Hole::At(Anchor::Kernel, M2, K4)];
    });
    more("kernel-at-2m", &|s| {
        s.strategy = at(M2);
        s.holes = vec![Hole::At(Anchor::Kernel, 0x80_0000, K4)];
    });
}

/// Entries that say something else than mapped or not.
fn entries(kernel: &str, all: &mut Vec<Scenario>) {
    const WRITABLE: u64 = 2;
    let mut add =
        |name: &str, gbpages: bool, level, (set, clear), (anchor, offset), holes: &[Hole]| {
            let edits = vec![Change { anchor, offset, level, set, clear }];
            let scenario = Scenario::new(kernel, name);
            all.push(Scenario { edits, gbpages, holes: holes.to_vec(), ..scenario });
        };
    let (head, end, params) = ((Anchor::Kernel, 0), (Anchor::KernelEnd, K4), (Anchor::Params, 0));
    let (second, far) = ((Anchor::Kernel, M2), (Anchor::Zero, 0x8000_0000));
    add("nx-image-2m", false, None, (NX, 0), head, &[]);
    add("nx-image-end-2m", false, None, (NX, 0), end, &[]);
    add("nx-boot-params-2m", false, None, (NX, 0), params, &[]);
    add("nx-of-table", false, Some(Level::Pdpt), (NX, 0), head, &[]);
    // QEMU's processors have 40 bits of address.
    add("reserved-bit-45", false, None, (1 << 45, 0), second, &[]);
    add("reserved-bit-13-of-2m", false, None, (1 << 13, 0), second, &[]);
    add("reserved-bit-20-of-1g", true, None, (1 << 20, 0), head, &[]);
    add("reserved-bit-45-far", false, None, (1 << 45, 0), far, &[]);
    add("reserved-bit-45-of-table", false, Some(Level::Pdpt), (1 << 45, 0), far, &[]);
    add("noptishadow-of-root", true, Some(Level::Pml4), (NOPTISHADOW, 0), far, &[]);
    // CR0.WP is clear.
    add("read-only-image", false, None, (0, WRITABLE), head, &[]);
    add("read-only-end", false, None, (0, WRITABLE), end, &[]);
    add("read-only-boot-params", false, None, (0, WRITABLE), params, &[]);
    // A hole that does no harm of its own makes the frame one of 4 KiB pages.
    let apart = [Hole::Untouched(0)];
    add("nx-image-page", true, None, (NX, 0), head, &apart);
    add("read-only-image-page", true, None, (0, WRITABLE), head, &apart);
}

/// Firmware's tables, with EFI handed over.
fn firmware(kernel: &str, all: &mut Vec<Scenario>) {
    let mut add = |name: &str, holes: &[(u64, u64)]| {
        let holes = holes.iter().map(|&(at, len)| Hole::At(Anchor::Zero, at, len)).collect();
        all.push(Scenario { efi: true, holes, ..Scenario::new(kernel, name) });
    };
    add("efi-whole", &[]);
    add("efi-system-table", &[(SYSTEM_TABLE & !0xfff, K4)]);
    add("efi-configuration-table", &[(CONFIG_TABLE & !0xfff, K4)]);
    add("efi-and-acpi-all", &[(0x1e40_0000, 0x10_0000), (ACPI, 0x1_0000), (0x1f00_0000, M1)]);
    add("efi-bios-data-area", &[(0, K4)]);
    add("efi-low-1m", &[(0, M1)]);
    let holes = vec![Hole::At(Anchor::Zero, ACPI, 0x1_0000)];
    all.push(Scenario { holes, ..Scenario::new(kernel, "acpi-tables") });
}

/// The same on a processor with SEV in CPUID: what broke in 2024.
fn sev(kernel: &str, all: &mut Vec<Scenario>) {
    let mut add = |name: &str, base, holes: &[Hole]| {
        let scenario = Scenario::new(kernel, name);
        let (efi, cpu) = (true, Cpu::AmdSev);
        all.push(Scenario { efi, cpu, base, holes: holes.to_vec(), ..scenario });
    };
    let hole = |at: u64, len| Hole::At(Anchor::Zero, at, len);
    add("sev-whole", Base::Whole, &[]);
    add("sev-system-table", Base::Whole, &[hole(SYSTEM_TABLE & !0xfff, K4)]);
    add("sev-configuration-table", Base::Whole, &[hole(CONFIG_TABLE & !0xfff, K4)]);
    add("sev-configuration-table-2m", Base::Whole, &[hole(0x1e40_0000, M2)]);
    add(
        "sev-beside-the-tables",
        Base::Whole,
        &[
            hole((SYSTEM_TABLE & !0xfff) + K4, K4),
            hole((CONFIG_TABLE & !0xfff) - K4, K4),
            hole((CONFIG_TABLE & !0xfff) + K4, K4),
        ],
    );
    add("sev-setup-data", Base::Whole, &[Hole::At(Anchor::Params, K4, K4)]);
    add("sev-only-loaded", Base::Loaded, &[]);
    let holes = vec![hole(CONFIG_TABLE & !0xfff, K4)];
    let cpu = Cpu::AmdSev;
    let name = "sev-without-efi";
    all.push(Scenario { cpu, holes, ..Scenario::new(kernel, name) });
}

/// 4 and 5 levels.
fn levels(kernel: &str, all: &mut Vec<Scenario>) {
    let mut add = |name: &str, levels, append: &str, holes: &[Hole], edits: &[Change]| {
        all.push(Scenario {
            cpu: Cpu::AmdLa57,
            levels,
            append: append.to_owned(),
            holes: holes.to_vec(),
            edits: edits.to_vec(),
            ..Scenario::new(kernel, name)
        });
    };
    let low = Hole::At(Anchor::Zero, 0x9_d000, K4);
    let shadow = Change {
        anchor: Anchor::Zero,
        offset: 0,
        level: Some(Level::Pml5),
        set: NOPTISHADOW,
        clear: 0,
    };
    add("4-to-5", Levels::Four, "", &[], &[]);
    add("4-to-5-trampoline", Levels::Four, "", &[low], &[]);
    add("4-to-5-command-line", Levels::Four, "", &[Hole::At(Anchor::Params, K4, K4)], &[]);
    add("4-to-4", Levels::Four, "no5lvl", &[low], &[]);
    add("5-to-5", Levels::Five, "", &[low], &[]);
    add("5-to-5-tables", Levels::Five, "", &[Hole::Tables], &[]);
    add("5-to-4", Levels::Five, "no5lvl", &[], &[]);
    add("5-to-4-first-table", Levels::Five, "no5lvl", &[Hole::FirstTable], &[]);
    add("5-to-4-noptishadow", Levels::Five, "no5lvl", &[], &[shadow]);
    add("5-to-5-noptishadow", Levels::Five, "", &[], &[shadow]);
}

/// Holes at random.
fn random(kernel: &str, seed: u64, all: &mut Vec<Scenario>) {
    let salt = kernel.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    for number in 0..RANDOM {
        let mut dice = Dice(salt ^ number << 32);
        let mut scenario = Scenario::new(kernel, &format!("random-{number}"));
        scenario.strategy = match dice.below(3) {
            0 => Strategy::BottomUp,
            1 => at((2 + dice.below(40)) * 2 * M2),
            _ => Strategy::TopDown,
        };
        scenario.efi = dice.below(3) == 0;
        (scenario.cpu, scenario.gbpages) = match dice.below(4) {
            0 => (Cpu::AmdNoGb, false),
            1 => (Cpu::Intel, true),
            2 => (Cpu::Amd, false),
            _ => (Cpu::Amd, true),
        };
        for _ in 0..=dice.below(2) {
            let pages = 1 << dice.below(6);
            let hole = match dice.below(8) {
                0 => Hole::Touched(dice.below(1000) as u32),
                1 | 2 => Hole::Untouched(dice.below(1000) as u32),
                3 => Hole::At(Anchor::KernelEnd, (pages + dice.below(700)) * K4, pages * K4),
                4 => Hole::At(Anchor::Zero, dice.below(0xa0) * K4, pages.min(16) * K4),
                5 => Hole::At(Anchor::Params, dice.below(3) * K4, K4),
                6 => Hole::At(Anchor::Zero, G4 + dice.below(0x2_0000) * K4, pages * K4),
                _ => Hole::At(Anchor::Zero, dice.below(0x2_0000) * K4, pages * K4),
            };
            scenario.holes.push(hole);
        }
        // The page that every scenario needs before the consumer runs.
        let clear = |hole: &Hole| match *hole {
            Hole::At(Anchor::Zero, at, len) => !range(at, at + len).intersects(page(LAST_STEPS)),
            _ => true,
        };
        scenario.holes.retain(clear);
        all.push(scenario);
    }
}

/// Kernels of other builds: one that comes up and one that does not, each.
fn others(kernel: &str, all: &mut Vec<Scenario>) {
    all.push(Scenario::new(kernel, "whole"));
    all.push(Scenario { base: Base::Loaded, ..Scenario::new(kernel, "only-loaded") });
    for (name, hole) in [
        ("image-middle", Hole::Touched(500)),
        ("image-not-touched", Hole::Untouched(500)),
        ("image-last-touched", Hole::LastTouched(false)),
        ("image-after-last-touched", Hole::LastTouched(true)),
    ] {
        all.push(Scenario { holes: vec![hole], ..Scenario::new(kernel, name) });
    }
}

fn at(address: u64) -> Strategy {
    Strategy::KernelAt(PhysAddr::new(address).unwrap_or(PhysAddr::ZERO))
}

/// `splitmix64` (Steele, Lea, Flood 2014): numbers that are the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

/// Whether CI runs it: of each kind one that comes up and one that does not, every kernel, every processor.
#[must_use]
pub fn is_sample(scenario: &Scenario) -> bool {
    SAMPLE.contains(&scenario.to_string().as_str())
}

/// Names.
pub const SAMPLE: &[&str] = &[
    "5.10/efi-configuration-table",
    "5.10/only-loaded",
    "5.10/bios-data-area",
    "5.10/trampoline",
    "5.10/below-trampoline",
    "5.10/setup-data-tail",
    "5.10/random-4",
    "6.1/image-last-touched",
    "6.1/image-after-last-touched",
    "6.1/command-line",
    "6.1/only-loaded",
    "6.1/sev-configuration-table",
    "6.1/sev-beside-the-tables",
    "6.1/4-to-5-trampoline",
    "6.1/5-to-4-first-table",
    "6.1/5-to-5-tables",
    "6.12/boot-params",
    "6.12/bss-stack",
    "6.12/no-1g-processor",
    "6.12/nx-image-page",
    "6.12/read-only-image-page",
    "6.12/reserved-bit-13-of-2m",
    "6.12/sev-system-table",
    "7.x/init-size-last-2m",
    "7.x/intel",
    "7.x/sev-only-loaded",
    "7.x/tables",
    "7.x/5-to-4",
    "7.x/random-0",
    "7.x/random-1",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_sample_is_among_them() {
        let kernels = LAB.map(str::to_owned);
        let mut names: Vec<String> = all(&kernels, 1).iter().map(ToString::to_string).collect();
        for name in SAMPLE {
            assert!(names.iter().any(|other| other == name), "{name}");
        }
        names.sort();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn random_scenarios_are_the_same_every_time_and_depend_on_the_seed() {
        let kernels = LAB.map(str::to_owned);
        let of = |seed| format!("{:?}", all(&kernels, seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
