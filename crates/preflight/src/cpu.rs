//! What CPUID answers.
//!
//! Leaves: Intel SDM vol. 2A, "CPUID"; AMD APM vol. 3, appendix E. What the lab's kernels ask before they
//! have tables of their own is in the crate's README: 0, 7, `0x80000000` and `0x8000001F`.

use core::fmt;

use identmap_machine::{Cpu, CpuVendor};

/// Who made the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    /// `AuthenticAMD`.
    Amd,
    /// `HygonGenuine`.
    Hygon,
    /// `GenuineIntel`.
    Intel,
}

/// A fact that CPUID tells and that may not be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuFact {
    /// Who made it.
    Vendor,
    /// SEV: `0x8000001F.EAX[1]`.
    Sev,
    /// 5-level paging: `7.ECX[16]`.
    La57,
    /// 1 GiB pages: `0x80000001.EDX[26]`.
    Pdpe1gb,
    /// Bits of a physical address: `0x80000008.EAX[7:0]`.
    Maxphyaddr,
    /// Whether there is a hypervisor: `1.ECX[31]`; and what it says of itself from leaf `0x40000000` on.
    Hypervisor,
    /// Whether this is an encrypted guest: the model-specific register `0xC0010131`, where CPUID has SEV.
    Encrypted,
}

impl fmt::Display for CpuFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CpuFact::Vendor => "its vendor",
            CpuFact::Sev => "SEV (CPUID 0x8000001F.EAX[1])",
            CpuFact::La57 => "5-level paging (CPUID 7.ECX[16])",
            CpuFact::Pdpe1gb => "1 GiB pages (CPUID 0x80000001.EDX[26])",
            CpuFact::Maxphyaddr => "the width of an address (CPUID 0x80000008.EAX[7:0])",
            CpuFact::Hypervisor => "its hypervisor (CPUID 1.ECX[31], 0x40000000)",
            CpuFact::Encrypted => "whether this is an encrypted guest (MSR 0xC0010131)",
        })
    }
}

/// A processor, as CPUID describes it. Where a fact is `None` and the consumer asks for it,
/// the run ends as unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuProfile {
    /// Who made it.
    pub vendor: Option<Vendor>,
    /// SEV in CPUID.
    pub sev: Option<bool>,
    /// 1 GiB pages. Where it is not known, no map has them and a leaf of 1 GiB is a fault.
    pub pdpe1gb: Option<bool>,
    /// 5-level paging.
    pub la57: Option<bool>,
    /// Bits of a physical address.
    pub maxphyaddr: Option<u8>,
    /// The hypervisor bit, `1.ECX[31]`.
    pub hypervisor: Option<bool>,
    /// An encrypted guest. Hypervisors show SEV to hardly any other, so bare metal alone tells that it is none.
    pub encrypted: Option<bool>,
}

/// The highest basic leaf of an Intel described here: frequencies, as on Skylake.
const INTEL_BASIC: u32 = 0x16;
/// Its highest extended leaf.
const INTEL_EXTENDED: u32 = 0x8000_0008;
/// Leaves that a hypervisor answers, each in its own way (SDM vol. 2A, "CPUID": no processor will).
const HYPERVISOR: core::ops::RangeInclusive<u32> = 0x4000_0000..=0x4fff_ffff;

impl CpuProfile {
    /// Names for [`named`](Self::named): each with `-nogb` (no 1 GiB pages) or `-la57` (5-level paging) behind.
    pub const NAMES: [&'static str; 3] = ["amd-sev", "amd-nosev", "intel"];

    /// A processor by name: `amd-sev`, `amd-nosev` or `intel`, then `-nogb` and `-la57` if wanted.
    #[must_use]
    pub fn named(name: &str) -> Option<CpuProfile> {
        let (base, suffixes) = Self::NAMES
            .iter()
            .find_map(|base| name.strip_prefix(base).map(|suffixes| (*base, suffixes)))?;
        let intel = base == "intel";
        let mut profile = CpuProfile {
            vendor: Some(if intel { Vendor::Intel } else { Vendor::Amd }),
            sev: Some(base == "amd-sev"),
            pdpe1gb: Some(true),
            la57: Some(false),
            maxphyaddr: Some(if intel { 46 } else { 48 }),
            hypervisor: Some(false),
            encrypted: Some(false),
        };
        let suffixes = suffixes.split('-');
        for (i, suffix) in suffixes.enumerate() {
            match (i, suffix) {
                (0, "") => {}
                (1.., "nogb") => profile.pdpe1gb = Some(false),
                (1.., "la57") => (profile.la57, profile.maxphyaddr) = (Some(true), Some(52)),
                _ => return None,
            }
        }
        Some(profile)
    }

    /// The machine's own processor, as far as its texts tell. A processor of no known make
    /// has no known vendor.
    #[must_use]
    pub fn of(cpu: &Cpu) -> CpuProfile {
        let vendor = match cpu.vendor {
            Some(CpuVendor::Amd) => Some(Vendor::Amd),
            Some(CpuVendor::Hygon) => Some(Vendor::Hygon),
            Some(CpuVendor::Intel) => Some(Vendor::Intel),
            Some(CpuVendor::Other) | None => None,
        };
        CpuProfile {
            vendor,
            // Intel's extended leaves end at 0x80000008.
            sev: cpu.sev.or((vendor == Some(Vendor::Intel)).then_some(false)),
            pdpe1gb: cpu.pdpe1gb,
            la57: cpu.la57,
            maxphyaddr: cpu.maxphyaddr,
            hypervisor: cpu.hypervisor,
            // Without a hypervisor nobody is a guest; that nothing says that there is one is another matter.
            encrypted: cpu.encrypted_guest.or((cpu.hypervisor == Some(false)).then_some(false)),
        }
    }

    /// This processor in a machine that tells of its own. What changes the tables or the way into the next kernel
    /// stays the machine's: 5 levels that it has, 1 GiB pages that it lacks, a hypervisor below it.
    #[must_use]
    pub fn on(mut self, cpu: &Cpu) -> CpuProfile {
        let own = CpuProfile::of(cpu);
        if own.la57 == Some(true) || cpu.la57_active == Some(true) {
            (self.la57, self.maxphyaddr) = (Some(true), Some(52));
        }
        if own.pdpe1gb == Some(false) {
            self.pdpe1gb = Some(false);
        }
        if own.hypervisor == Some(true) || own.encrypted == Some(true) {
            (self.hypervisor, self.encrypted) = (Some(true), own.encrypted);
        }
        self
    }

    /// EAX, EBX, ECX, EDX of a leaf. Leaves that do not exist are zero; above its highest one, and between
    /// the basic and the extended ones, an Intel answers as for its highest basic leaf (SDM vol. 2A, "CPUID").
    ///
    /// # Errors
    /// The fact that is not known.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> Result<[u32; 4], CpuFact> {
        // FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2
        const FEATURES: u32 = 0x078b_fbfd;
        // The same without SEP, MTRR's neighbours as APM has them; SYSCALL, NX, LM.
        const AMD_FEATURES: u32 = 0x0183_f3fd | 1 << 11 | 1 << 20 | 1 << 29;
        let vendor = self.vendor.ok_or(CpuFact::Vendor);
        let intel = |vendor| vendor == Vendor::Intel;
        if HYPERVISOR.contains(&leaf) && self.hypervisor != Some(false) {
            return Err(CpuFact::Hypervisor);
        }
        let leaf = if self.vendor == Some(Vendor::Intel)
            && !matches!(leaf, 0..=INTEL_BASIC | 0x8000_0000..=INTEL_EXTENDED)
        {
            INTEL_BASIC
        } else {
            leaf
        };
        Ok(match leaf {
            0 => {
                let vendor = vendor?;
                let name: &[u8; 12] = match vendor {
                    Vendor::Amd => b"AuthenticAMD",
                    Vendor::Hygon => b"HygonGenuine",
                    Vendor::Intel => b"GenuineIntel",
                };
                let word = |at: usize| {
                    u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]])
                };
                [if intel(vendor) { INTEL_BASIC } else { 0x10 }, word(0), word(8), word(4)]
            }
            1 => {
                // Zen 3 server, Hygon Dhyana, Skylake server: family, model, stepping.
                let signature = match vendor? {
                    Vendor::Amd => 0x00a0_0f11,
                    Vendor::Hygon => 0x0090_0f02,
                    Vendor::Intel => 0x0005_0654,
                };
                // SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT.
                let hypervisor = self.hypervisor.ok_or(CpuFact::Hypervisor)?;
                let more = 0x0098_2201 | u32::from(hypervisor) << 31;
                [signature, 0x0001_0800, more, FEATURES]
            }
            7 if subleaf == 0 => [0, 0, u32::from(self.la57.ok_or(CpuFact::La57)?) << 16, 0],
            0x8000_0000 => [if intel(vendor?) { INTEL_EXTENDED } else { 0x8000_0021 }, 0, 0, 0],
            0x8000_0001 => {
                // LAHF, and AMD's CR8, LZCNT, SSE4A.
                let (more, features) = if intel(vendor?) {
                    (0x21, 1 << 11 | 1 << 20 | 1 << 29)
                } else {
                    (0x71, AMD_FEATURES)
                };
                let pdpe1gb = self.pdpe1gb.ok_or(CpuFact::Pdpe1gb)?;
                [0, 0, more, features | u32::from(pdpe1gb) << 26]
            }
            0x8000_0008 => {
                let virt = if self.la57.ok_or(CpuFact::La57)? { 57 } else { 48 };
                let width = self.maxphyaddr.ok_or(CpuFact::Maxphyaddr)?;
                [u32::from(width) | virt << 8, 0, 0, 0]
            }
            // Processor frequencies, in MHz (SDM vol. 2A, "CPUID"): base, highest, bus.
            INTEL_BASIC if self.vendor == Some(Vendor::Intel) => [2000, 3500, 100, 0],
            // SME, SEV, page-flush MSR, SEV-ES; C-bit 51, 509 guests.
            0x8000_001f if !intel(vendor?) && self.sev.ok_or(CpuFact::Sev)? => {
                [0b1111, 0x33 | 5 << 6, 509, 1]
            }
            _ => [0; 4],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_suffixes() {
        let plain = CpuProfile::named("amd-sev").unwrap();
        assert_eq!((plain.sev, plain.pdpe1gb, plain.la57), (Some(true), Some(true), Some(false)));
        let bare = CpuProfile::named("intel-nogb-la57").unwrap();
        assert_eq!(
            (bare.vendor, bare.pdpe1gb, bare.la57),
            (Some(Vendor::Intel), Some(false), Some(true))
        );
        for wrong in ["", "amd", "amd-sevx", "intel-", "intel-foo", "intelnogb"] {
            assert_eq!(CpuProfile::named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sev_is_where_the_kernel_looks() {
        let answer = |name: &str, leaf| CpuProfile::named(name).unwrap().cpuid(leaf, 0).unwrap();
        assert_eq!(answer("amd-sev", 0x8000_001f)[0] & 2, 2);
        assert_eq!(answer("amd-nosev", 0x8000_001f), [0; 4]);
        assert!(answer("intel", 0x8000_0000)[0] < 0x8000_001f);
        assert_eq!(answer("intel", 0)[1].to_le_bytes(), *b"Genu");
        assert_eq!(answer("amd-sev-nogb", 0x8000_0001)[3] & 1 << 26, 0);
        assert_eq!(answer("amd-sev-la57", 7)[2], 1 << 16);
    }

    /// `--cpu` made a machine with 5 levels in use one with 4, and a guest bare metal.
    #[test]
    fn what_a_machine_tells_stands_in_a_profile() {
        let named = |name| CpuProfile::named(name).unwrap();
        let on = |cpu: Cpu| named("amd-sev").on(&cpu);
        assert_eq!(on(Cpu::default()), named("amd-sev"));
        for (la57, la57_active) in [(Some(true), None), (None, Some(true))] {
            assert_eq!(on(Cpu { la57, la57_active, ..Cpu::default() }), named("amd-sev-la57"));
        }
        let small = Cpu { pdpe1gb: Some(false), ..Cpu::default() };
        assert_eq!(on(small), named("amd-sev-nogb"));
        for encrypted in [None, Some(false), Some(true)] {
            let cpu = Cpu { hypervisor: Some(true), encrypted_guest: encrypted, ..Cpu::default() };
            let guest = CpuProfile { hypervisor: Some(true), encrypted, ..named("amd-sev") };
            assert_eq!(on(cpu), guest);
        }
    }

    #[test]
    fn what_is_not_known_is_no_answer() {
        let none = CpuProfile::of(&Cpu::default());
        assert_eq!(none.cpuid(0, 0), Err(CpuFact::Vendor));
        let amd = CpuProfile { vendor: Some(Vendor::Amd), ..none };
        assert_eq!(amd.cpuid(0x8000_001f, 0), Err(CpuFact::Sev));
        assert_eq!(amd.cpuid(7, 0), Err(CpuFact::La57));
        let intel = CpuProfile::of(&Cpu { vendor: Some(CpuVendor::Intel), ..Cpu::default() });
        assert_eq!(intel.cpuid(1, 0), Err(CpuFact::Hypervisor));
        assert_eq!(intel.cpuid(0x8000_0001, 0), Err(CpuFact::Pdpe1gb));
        let with_levels = CpuProfile { la57: Some(false), ..intel };
        assert_eq!(with_levels.cpuid(0x8000_0008, 0), Err(CpuFact::Maxphyaddr));
    }

    #[test]
    fn an_intel_above_its_highest_leaf_answers_as_for_the_highest_basic_one() {
        let intel = CpuProfile::named("intel").unwrap();
        let highest = intel.cpuid(intel.cpuid(0, 0).unwrap()[0], 0).unwrap();
        assert_ne!(highest, [0; 4]);
        for leaf in [0x17, 0x21, 0x4000_0000, 0x8000_0009, 0x8000_001f, u32::MAX] {
            assert_eq!(intel.cpuid(leaf, 0), Ok(highest), "{leaf:#x}");
        }
        let amd = CpuProfile::named("amd-sev").unwrap();
        assert_eq!(amd.cpuid(0x21, 0), Ok([0; 4]));
    }

    /// Zeros were answered, as if it were known that nobody answers.
    #[test]
    fn what_a_hypervisor_says_is_not_known() {
        for name in ["amd-sev", "intel"] {
            let bare = CpuProfile::named(name).unwrap();
            assert!(bare.cpuid(0x4000_0000, 0).is_ok());
            for hypervisor in [Some(true), None] {
                let guest = CpuProfile { hypervisor, ..bare };
                assert_eq!(guest.cpuid(0x4000_0001, 0), Err(CpuFact::Hypervisor));
            }
        }
    }
}
