//! QEMU's processors, and the preflight's profiles of them.

use std::fmt;
use std::time::Duration;

use identmap::Levels;
use identmap_lab::guest::Failure;
use identmap_preflight::{CpuProfile, Vendor};

use crate::qemu::{self, Blob, Launch, Seen};
use crate::rom;
use crate::world::LAST_STEPS;

/// A processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpu {
    /// EPYC, with 1 GiB pages.
    Amd,
    /// The same without 1 GiB pages.
    AmdNoGb,
    /// The same with 5-level paging.
    AmdLa57,
    /// The same with SEV in CPUID: one leaf is answered by the debugger.
    AmdSev,
    /// Skylake.
    Intel,
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cpu::Amd => "amd",
            Cpu::AmdNoGb => "amd-nogb",
            Cpu::AmdLa57 => "amd-la57",
            Cpu::AmdSev => "amd-sev",
            Cpu::Intel => "intel",
        })
    }
}

/// What consumers ask before they have their own tables (crates/preflight/src/cpu.rs), as a leaf, the
/// register's number (EAX to EDX) and the bits that matter: `REQUIRED_MASK0` and `REQUIRED_MASK1` of
/// `arch/x86/include/asm/required-features.h` (Linux 6.12), which `verify_cpu` looks at, and the bits
/// behind the facts of a profile.
const MATTER: [(u32, usize, u32); 10] = [
    (0, 1, u32::MAX),
    (0, 2, u32::MAX),
    (0, 3, u32::MAX),
    // FPU PSE MSR PAE CX8 PGE CMOV FXSR SSE SSE2
    (1, 3, 0x0700_a169),
    (1, 2, 1 << 31),
    (7, 2, 1 << 16),
    (0x8000_0001, 3, 1 << 20 | 1 << 26 | 1 << 29),
    (0x8000_0008, 0, 0xffff),
    (0x8000_001f, 0, u32::MAX),
    (0x8000_001f, 1, u32::MAX),
];
/// Highest leaves count as far as they reach these: TDX, SEV.
const REACHES: [(u32, u32); 2] = [(0, 0x21), (0x8000_0000, 0x8000_001f)];

impl Cpu {
    /// All of them.
    pub const ALL: [Cpu; 5] = [Cpu::Amd, Cpu::AmdNoGb, Cpu::AmdLa57, Cpu::AmdSev, Cpu::Intel];

    /// QEMU's option. The highest leaf is that of a processor of today, of which QEMU's model is older.
    #[must_use]
    pub fn qemu(self) -> &'static str {
        match self {
            Cpu::Amd | Cpu::AmdSev => "EPYC,+pdpe1gb,xlevel=0x80000021",
            Cpu::AmdNoGb => "EPYC,-pdpe1gb,xlevel=0x80000021",
            Cpu::AmdLa57 => "EPYC,+pdpe1gb,+la57,xlevel=0x80000021",
            Cpu::Intel => "Skylake-Server,+pdpe1gb",
        }
    }

    /// Its profile, made of what CPUID says inside QEMU, and proven to answer the same.
    ///
    /// # Errors
    /// When QEMU does not tell, or a profile cannot describe it.
    pub fn profile(self) -> Result<CpuProfile, Failure> {
        let leaves: Vec<u32> = MATTER.iter().map(|m| m.0).chain(REACHES.map(|r| r.0)).collect();
        let asked: Vec<(u32, u32)> = leaves.iter().map(|leaf| (*leaf, 0)).collect();
        let (seen, serial) = qemu::run(&Launch {
            cpu: self.qemu(),
            rom: rom::rom(Levels::Four, LAST_STEPS),
            blobs: vec![Blob { at: LAST_STEPS, bytes: rom::ask_cpuid(&asked) }],
            sev_at: Vec::new(),
            root: 0,
            patience: Duration::from_mins(1),
            trace: None,
        })?;
        let words: Vec<u32> = serial
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        if !matches!(seen, Seen::Hang(state) if state.halted) || words.len() != leaves.len() * 4 {
            return Err(format!("{self}: CPUID told {words:x?}, the machine {seen}").into());
        }
        let told = |leaf: u32, register: usize| {
            let at = leaves.iter().position(|&l| l == leaf).map(|at| at * 4 + register);
            at.and_then(|at| words.get(at).copied()).unwrap_or(0)
        };
        let name: Vec<u8> = [1, 3, 2].iter().flat_map(|&r| told(0, r).to_le_bytes()).collect();
        let vendor = match name.as_slice() {
            b"AuthenticAMD" => Vendor::Amd,
            b"GenuineIntel" => Vendor::Intel,
            other => return Err(format!("{self}: vendor {}", other.escape_ascii()).into()),
        };
        let profile = CpuProfile {
            vendor: Some(vendor),
            sev: Some(told(0x8000_001f, 0) & 2 != 0),
            pdpe1gb: Some(told(0x8000_0001, 3) & 1 << 26 != 0),
            la57: Some(told(7, 2) & 1 << 16 != 0),
            maxphyaddr: Some(told(0x8000_0008, 0) as u8),
            hypervisor: Some(told(1, 2) & 1 << 31 != 0),
            // QEMU has no SEV without KVM.
            encrypted: Some(false),
        };
        let ours = |leaf| profile.cpuid(leaf, 0).map_err(|fact| format!("{self}: {fact}"));
        for (leaf, register, bits) in MATTER {
            // Past its highest leaf an Intel processor answers as for its highest basic leaf (SDM vol.
            // 2A, "CPUID"); consumers look at the highest first.
            if leaf > 0x8000_0000 && leaf > told(0x8000_0000, 0) {
                continue;
            }
            let (ours, theirs) = (ours(leaf)?[register] & bits, told(leaf, register) & bits);
            if ours != theirs {
                let text = format!(
                    "{self}: leaf {leaf:#x}: {ours:#x} in the profile, {theirs:#x} in QEMU"
                );
                return Err(text.into());
            }
        }
        for (leaf, reached) in REACHES {
            let (ours, theirs) = (ours(leaf)?[0], told(leaf, 0));
            if (ours >= reached) != (theirs >= reached) {
                return Err(format!("{self}: highest leaf {ours:#x}, in QEMU {theirs:#x}").into());
            }
        }
        // The debugger's answer, and nothing else, is not QEMU's.
        Ok(CpuProfile { sev: Some(self == Cpu::AmdSev || profile.sev == Some(true)), ..profile })
    }
}
