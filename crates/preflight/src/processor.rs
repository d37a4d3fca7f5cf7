//! What a processor refuses, and the engine does not: QEMU's translator takes reserved bits of control registers,
//! answers for model-specific registers that do not exist, and executes instructions that the processor
//! described may not have. Each instruction that may be one of these is looked at before it runs.

use iced_x86::{Code, CpuidFeature, Instruction, Mnemonic, OpKind, Register};
use identmap::Levels;

use crate::cpu::{CpuFact, CpuProfile, Vendor};
use crate::guest::{Guest, More, Regs, Stop};
use crate::outcome::Unknown;
use crate::scene::{CR0_PG, CR4_LA57, CR4_PAE};

const PAGE: u64 = 4096;
const LOCK: u8 = 0xf0;
/// Bytes of an instruction (SDM vol. 2A, 2.3.11).
const LONGEST: usize = 15;
/// General protection (SDM vol. 3A, table 6-1).
const GENERAL_PROTECTION: u8 = 13;
const INVALID_OPCODE: u8 = 6;
const CR0_PE: u64 = 1;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
/// CR4's bits that every processor with 64-bit mode has: VME to OSXMMEXCPT (SDM vol. 3A, 2.5).
const CR4_ALL_HAVE: u64 = 0x7ff;
/// Those that some have: UMIP, VMXE, SMXE, FSGSBASE, PCIDE, OSXSAVE, KL, SMEP, SMAP, PKE, CET, PKS, UINTR,
/// `LAM_SUP`, FRED.
const CR4_SOME_HAVE: u64 =
    1 << 11 | 3 << 13 | 0xf << 16 | 1 << 19 | 3 << 20 | 0xf << 22 | 1 << 28 | 1 << 32;
pub(crate) const EFER: u32 = 0xc000_0080;
/// `EFER.SCE`, `LME`, `LMA`, as a running kernel has them; `NXE` as the tables are read.
const EFER_KEXEC: u64 = EFER_SCE | EFER_LME | EFER_LMA;
const EFER_SCE: u64 = 1;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
/// SVME, LMSLE, FFXSR, TCE, MCOMMIT, INTWB, UAIE, AIBRSE (APM vol. 2, 3.1.7).
const EFER_SOME_HAVE: u64 = 0xf << 12 | 3 << 17 | 3 << 20;
/// `MSR_AMD64_SEV`: which encryption a guest runs with (APM vol. 2, 15.34.10).
const SEV_STATUS: u32 = 0xc001_0131;
/// `IA32_MISC_ENABLE`, of which Linux's `verify_cpu` clears "XD disable".
const MISC_ENABLE: u32 = 0x1a0;
/// `RFLAGS.IF`, in the flags' low half.
const FLAGS_IF: u16 = 1 << 9;
const LETS_IN: &str = "lets interrupts in";
/// Its number in an instruction.
const RSP: usize = 4;

impl Guest<'_> {
    /// Whether the instruction about to run has to be [`ruled`](Self::ruled). `len`: its bytes, as the engine decoded it.
    pub(crate) fn concerned(&mut self, address: u64, len: usize) -> bool {
        let at = address % PAGE;
        let Some(frame) = self.code_frame(address).filter(|_| at + len as u64 <= PAGE) else {
            return true;
        };
        let mut code = [0; LONGEST];
        let code = &mut code[..len.min(LONGEST)];
        self.memory.frames().read(u64::from(frame) * PAGE + at, code);
        concerns(code)
    }

    /// Ends the run if the processor refuses the instruction about to run, or does with it what is not known.
    pub(crate) fn ruled(&mut self, regs: &Regs, len: usize, more: &More<'_>) {
        match self.ruling(regs, len, more) {
            Ruling::Run => {}
            Ruling::Raises(vector) => {
                self.stop(Stop::Exception { rip: regs.rip, vector });
            }
            Ruling::Unknown(why) => {
                self.stop(Stop::Unknown(why));
            }
        }
    }

    fn ruling(&mut self, regs: &Regs, len: usize, more: &More<'_>) -> Ruling {
        let is_64bit = self.is_64bit(regs, more);
        // The engine gives no length to what it does not know.
        let engine_knows = len <= LONGEST;
        let decoded = |wide| self.instruction(regs, wide).filter(|found| found.len() == len);
        let instruction = match is_64bit {
            // The engine's mode is that of the descriptor when it was loaded; the GDT may be another one by now.
            Some(wide) if engine_knows => decoded(wide),
            Some(wide) => self.instruction(regs, wide),
            None => decoded(true).or_else(|| decoded(false)),
        };
        let Some(instruction) = instruction else {
            let code = self.code_at(regs);
            return if engine_knows || is_coded_anew(&code) {
                not_modelled("runs an instruction that cannot be decoded")
            } else {
                Ruling::Raises(INVALID_OPCODE)
            };
        };
        let (wide, paging) = (is_64bit != Some(false), self.paging(regs));
        let width = if paging.levels == Levels::Five { 57 } else { 48 };
        if wide && matches!(instruction.mnemonic(), Mnemonic::Lgdt | Mnemonic::Lidt) {
            return self.table_register(regs, &instruction, width, more);
        }
        if let Some(at) = saved_flags(&instruction) {
            let rsp = (more.register)(RSP).wrapping_add(at);
            let rsp = if wide { rsp } else { rsp & 0xffff_ffff };
            match self.bytes::<2>(regs, rsp) {
                Ok(Some(flags)) if u16::from_le_bytes(flags) & FLAGS_IF != 0 => {
                    return not_modelled(LETS_IN);
                }
                // What is not mapped faults by itself.
                Ok(_) => {}
                Err(why) => return Ruling::Unknown(why),
            }
        }
        let state = State {
            cr0: regs.cr0,
            cr4: regs.cr4,
            efer: self.efer,
            is_64bit,
            cpu: self.scene.cpu,
            width,
        };
        let ruling = rule(&instruction, &state, more.register);
        let none = matches!(instruction.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2);
        if ruling == Ruling::Run && !engine_knows && !none {
            let mnemonic = name(&instruction);
            let why = format!("the consumer {mnemonic}, which it does not know");
            return Ruling::Unknown(Unknown::Engine(why));
        }
        if ruling == Ruling::Run {
            self.far |= is_far(&instruction);
            if instruction.code() == Code::Wrmsr && (more.register)(1) as u32 == EFER {
                self.efer = (more.register)(2) << 32 | (more.register)(0) & 0xffff_ffff;
            }
        }
        ruling
    }

    /// The base of a GDT or an IDT has to be canonical (SDM vol. 2A, "LGDT/LIDT").
    fn table_register(
        &self,
        regs: &Regs,
        instruction: &Instruction,
        width: u32,
        more: &More<'_>,
    ) -> Ruling {
        let Some(operand) = operand_at(instruction, 0, more.register) else { return Ruling::Run };
        match self.bytes::<8>(regs, operand.wrapping_add(2)) {
            Ok(Some(base)) if !is_canonical(u64::from_le_bytes(base), width) => {
                Ruling::Raises(GENERAL_PROTECTION)
            }
            // What is not mapped faults by itself.
            Ok(_) => Ruling::Run,
            Err(why) => Ruling::Unknown(why),
        }
    }

    fn is_64bit(&self, regs: &Regs, more: &More<'_>) -> Option<bool> {
        if regs.cr0 & CR0_PG == 0 {
            return Some(false);
        }
        if !self.far {
            return Some(true);
        }
        let (cs, gdt) = (more.segment)();
        Some(self.code_segment(regs, gdt, cs).ok()??.is_64bit)
    }
}

/// What to do with an instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ruling {
    /// The engine does as the processor.
    Run,
    /// The processor raises this exception.
    Raises(u8),
    /// It cannot be told.
    Unknown(Unknown),
}

/// The state that decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) cr0: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    /// In 64-bit mode; `None` if that cannot be told.
    pub(crate) is_64bit: Option<bool>,
    pub(crate) cpu: CpuProfile,
    /// The width of a virtual address.
    pub(crate) width: u32,
}

/// Whether an instruction may be one that is to be ruled: quick, and often wrongly yes.
pub(crate) fn concerns(code: &[u8]) -> bool {
    let skip = code.iter().take_while(|byte| is_prefix(**byte)).count();
    // Only some instructions may be locked (SDM vol. 2A, "LOCK"), and the engine takes it before others.
    if code[..skip].contains(&LOCK) {
        return true;
    }
    match code.get(skip..) {
        Some([0x0f, second, ..]) => !matches!(
            second,
            // nop and endbr, cmov, movaps and their like excepted: jcc, setcc, bit tests, movzx, xadd, bswap.
            0x1f | 0x40..=0x4f | 0x80..=0x9f | 0xa3..=0xa5 | 0xab..=0xad | 0xaf..=0xb1 | 0xb3 | 0xb6 | 0xb7
                | 0xba | 0xbb | 0xbe..=0xc1 | 0xc8..=0xcf
        ),
        // VEX, EVEX, XOP (and LES, LDS, BOUND, POP); ports; far jumps, calls and returns, popf, sti; xabort, xbegin.
        Some(
            [
                0x62
                | 0x6c..=0x6f
                | 0x8f
                | 0x9a
                | 0x9d
                | 0xc4
                | 0xc5
                | 0xca
                | 0xcb
                | 0xcf
                | 0xe4..=0xe7
                | 0xea
                | 0xec..=0xef
                | 0xfb,
                ..,
            ]
            | [0xc6 | 0xc7, 0xf8, ..],
        ) => true,
        Some([0xff, modrm, ..]) => matches!(modrm >> 3 & 7, 3 | 5),
        _ => false,
    }
}

/// Whether the instruction begins with VEX, EVEX or XOP, or is one of 3DNow!'s, which the decoder leaves out.
fn is_coded_anew(code: &[u8]) -> bool {
    let skip = code.iter().take_while(|byte| is_prefix(**byte)).count();
    matches!(code.get(skip..), Some([0xc4 | 0xc5 | 0x62 | 0x8f, ..] | [0x0f, 0x0f, ..]))
}

/// Also of REX, which outside of 64-bit mode is an instruction of one byte.
fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | LOCK | 0xf2 | 0xf3)
}

/// Where an instruction takes the flags from: so far above the top of the stack.
fn saved_flags(instruction: &Instruction) -> Option<u64> {
    match instruction.mnemonic() {
        Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq => Some(0),
        // Behind RIP and CS.
        Mnemonic::Iret => Some(2 * 2),
        Mnemonic::Iretd => Some(2 * 4),
        Mnemonic::Iretq => Some(2 * 8),
        _ => None,
    }
}

/// Whether an instruction goes to another code segment.
pub(crate) fn is_far(instruction: &Instruction) -> bool {
    use Mnemonic::{Iret, Iretd, Iretq, Retf};
    matches!(instruction.mnemonic(), Retf | Iret | Iretd | Iretq)
        || instruction.is_jmp_far()
        || instruction.is_call_far()
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect()
}

/// `value` gives registers by number; before the instruction.
pub(crate) fn rule(
    instruction: &Instruction,
    state: &State,
    value: &dyn Fn(usize) -> u64,
) -> Ruling {
    let number = |register: Register| value(register.full_register().number());
    let (rax, rcx, rdx) = (value(0), value(1), value(2));
    match instruction.code() {
        Code::Mov_cr_r32 | Code::Mov_cr_r64 => {
            let new = number(instruction.op1_register());
            let new = if instruction.code() == Code::Mov_cr_r32 { new & 0xffff_ffff } else { new };
            return match instruction.op0_register() {
                Register::CR0 => cr0(new, state),
                Register::CR4 => cr4(new, state),
                Register::CR8 if new > 15 => Ruling::Raises(GENERAL_PROTECTION),
                _ => Ruling::Run,
            };
        }
        Code::Mov_dr_r32 | Code::Mov_dr_r64 => {
            let new = number(instruction.op1_register());
            return match instruction.op0_register() {
                Register::DR6 | Register::DR7 if new >> 32 != 0 => {
                    Ruling::Raises(GENERAL_PROTECTION)
                }
                // Breakpoints: the engine knows none.
                Register::DR7 if new & 0xff != 0 => not_modelled("sets a breakpoint"),
                Register::DR4 | Register::DR5 => not_modelled("writes a debug register"),
                _ => Ruling::Run,
            };
        }
        Code::Rdmsr => return rdmsr(rcx as u32, state),
        Code::Wrmsr => return wrmsr(rcx as u32, rdx << 32 | rax & 0xffff_ffff, state),
        Code::Rdtsc => return not_modelled("reads the time-stamp counter"),
        Code::Invd => return not_modelled("throws away what is in the caches"),
        Code::Sti => return not_modelled(LETS_IN),
        _ => {}
    }
    match instruction.mnemonic() {
        Mnemonic::In | Mnemonic::Out => {
            let is_in = instruction.mnemonic() == Mnemonic::In;
            let named = instruction.op_kind(u32::from(is_in)) == OpKind::Immediate8;
            let port = if named { u16::from(instruction.immediate8()) } else { rdx as u16 };
            let bytes = if is_in { 0 } else { instruction.op1_register().size() };
            return if is_in { read(port) } else { write(port, bytes, Some(rax)) };
        }
        // Hints, no operation where they are not known; `tzcnt` is `bsf` there, and compilers take it for that.
        Mnemonic::Endbr64
        | Mnemonic::Endbr32
        | Mnemonic::Rdsspd
        | Mnemonic::Rdsspq
        | Mnemonic::Pause
        | Mnemonic::Tzcnt => return Ruling::Run,
        Mnemonic::Outsb => return write(rdx as u16, 1, None),
        Mnemonic::Outsw => return write(rdx as u16, 2, None),
        Mnemonic::Outsd => return write(rdx as u16, 4, None),
        Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Monitor
        | Mnemonic::Mwait
        | Mnemonic::Rdpmc
        | Mnemonic::Rsm
        | Mnemonic::Syscall
        | Mnemonic::Sysret
        | Mnemonic::Sysretq
        | Mnemonic::Sysenter
        | Mnemonic::Sysexit
        | Mnemonic::Sysexitq => return not_modelled(&name(instruction)),
        _ => {}
    }
    if misaligned(instruction, value) {
        return Ruling::Raises(GENERAL_PROTECTION);
    }
    let unknown =
        instruction.cpuid_features().iter().find(|feature| !EVERYBODY_HAS.contains(feature));
    unknown.map_or(Ruling::Run, |feature| {
        Ruling::Unknown(Unknown::Engine(format!(
            "an instruction is run that not every processor has ({feature:?})"
        )))
    })
}

/// What every processor with 64-bit mode has, and what [`CpuProfile::cpuid`] says that it has.
const EVERYBODY_HAS: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CPUID,
    CpuidFeature::CMOV,
    CpuidFeature::FPU,
    CpuidFeature::FPU287,
    CpuidFeature::FPU387,
    CpuidFeature::FXSR,
    CpuidFeature::MMX,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
    CpuidFeature::POPCNT,
    CpuidFeature::CX8,
    CpuidFeature::CMPXCHG16B,
    CpuidFeature::CLFSH,
    CpuidFeature::TSC,
    CpuidFeature::MSR,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PREFETCHW,
];

/// The engine takes operands of 16 bytes and FXSAVE's area wherever they lie (SDM vol. 1, 4.1.1). Segments have no base
/// here; with a base, it cannot be told, and is taken for aligned.
fn misaligned(instruction: &Instruction, value: &dyn Fn(usize) -> u64) -> bool {
    use CpuidFeature::{FXSR, SSE, SSE2, SSE3, SSE4_1, SSE4_2, SSSE3};
    use Mnemonic::{Lddqu, Movdqu, Movupd, Movups, Pcmpestri, Pcmpestrm, Pcmpistri, Pcmpistrm};
    let may_be = [Lddqu, Movdqu, Movupd, Movups, Pcmpestri, Pcmpestrm, Pcmpistri, Pcmpistrm];
    let features = instruction.cpuid_features().iter();
    let memory = (0..instruction.op_count()).find(|&op| instruction.op_kind(op) == OpKind::Memory);
    let Some(operand) = memory.filter(|_| instruction.memory_size().size() >= 16) else {
        return false;
    };
    if may_be.contains(&instruction.mnemonic())
        || !features.clone().any(|f| [FXSR, SSE, SSE2, SSE3, SSSE3, SSE4_1, SSE4_2].contains(f))
    {
        return false;
    }
    operand_at(instruction, operand, value).is_some_and(|address| address % 16 != 0)
}

fn operand_at(
    instruction: &Instruction,
    operand: u32,
    value: &dyn Fn(usize) -> u64,
) -> Option<u64> {
    instruction.virtual_address(operand, 0, |register, _, _| match register {
        // In 64-bit mode these have no base.
        Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
        register if register.is_gpr() => {
            let full = value(register.number());
            Some(if register.size() == 4 { full & 0xffff_ffff } else { full })
        }
        _ => None,
    })
}

fn not_modelled(what: &str) -> Ruling {
    Ruling::Unknown(Unknown::Engine(format!("the consumer {what}, which is not modelled")))
}

fn name(instruction: &Instruction) -> String {
    format!("runs {:?}", instruction.mnemonic()).to_lowercase()
}

/// SDM vol. 2B, "MOV—Move to/from Control Registers".
fn cr0(new: u64, state: &State) -> Ruling {
    let (old_pg, pg) = (state.cr0 & CR0_PG != 0, new & CR0_PG != 0);
    let refused = new >> 32 != 0
        || pg && new & CR0_PE == 0
        || new & (CR0_NW | CR0_CD) == CR0_NW
        || pg && !old_pg && state.efer & EFER_LME != 0 && state.cr4 & CR4_PAE == 0;
    if refused {
        return Ruling::Raises(GENERAL_PROTECTION);
    }
    match (old_pg, pg, state.is_64bit) {
        (true, false, Some(true)) => Ruling::Raises(GENERAL_PROTECTION),
        (true, false, None) => not_modelled("turns paging off in a mode that cannot be told"),
        (false, true, _) if state.efer & EFER_LME == 0 => {
            not_modelled("turns on paging with 32-bit tables")
        }
        _ if new & CR0_PE == 0 => not_modelled("leaves protected mode"),
        _ => Ruling::Run,
    }
}

/// The same section, and vol. 3A, 2.5.
fn cr4(new: u64, state: &State) -> Ruling {
    let long = state.cr0 & CR0_PG != 0 && state.efer & EFER_LME != 0;
    let changed = new ^ state.cr4;
    let reserved = new & !(CR4_ALL_HAVE | CR4_SOME_HAVE | CR4_LA57) != 0;
    let refused = long && (new & CR4_PAE == 0 || changed & CR4_LA57 != 0);
    if reserved || refused {
        return Ruling::Raises(GENERAL_PROTECTION);
    }
    if changed & new & CR4_SOME_HAVE != 0 {
        return not_modelled("sets a bit of CR4 that not every processor has");
    }
    match (changed & new & CR4_LA57 != 0, state.cpu.la57) {
        (true, None) => Ruling::Unknown(Unknown::Cpu(CpuFact::La57)),
        (true, Some(false)) => Ruling::Raises(GENERAL_PROTECTION),
        (true, Some(true)) | (false, _) => Ruling::Run,
    }
}

fn rdmsr(index: u32, state: &State) -> Ruling {
    match (index, state.cpu.vendor) {
        (EFER, _) | (MISC_ENABLE, Some(Vendor::Intel)) => Ruling::Run,
        (SEV_STATUS, Some(Vendor::Amd | Vendor::Hygon)) if state.cpu.sev == Some(true) => {
            match state.cpu.encrypted {
                // Zero: nothing is active.
                Some(false) => Ruling::Run,
                Some(true) | None => Ruling::Unknown(Unknown::Cpu(CpuFact::Encrypted)),
            }
        }
        _ => not_modelled(&format!("reads the model-specific register {index:#x}")),
    }
}

fn wrmsr(index: u32, new: u64, state: &State) -> Ruling {
    match index {
        EFER => efer(new, state),
        // SYSENTER's and SYSCALL's: CS, masks, and selectors.
        0x174 | 0xc000_0081 | 0xc000_0084 => Ruling::Run,
        // Their addresses, and those of FS and GS.
        0x175 | 0x176 | 0xc000_0082 | 0xc000_0083 | 0xc000_0100..=0xc000_0102 => {
            if is_canonical(new, state.width) {
                Ruling::Run
            } else {
                Ruling::Raises(GENERAL_PROTECTION)
            }
        }
        _ => not_modelled(&format!("writes the model-specific register {index:#x}")),
    }
}

/// APM vol. 2, 3.1.7; SDM vol. 3A, 2.2.1.
fn efer(new: u64, state: &State) -> Ruling {
    let known = EFER_KEXEC | EFER_NXE;
    let intel = state.cpu.vendor == Some(Vendor::Intel);
    let reserved = !known & !if intel { 0 } else { EFER_SOME_HAVE };
    let pg = state.cr0 & CR0_PG != 0;
    if new & reserved != 0 || pg && (new ^ state.efer) & EFER_LME != 0 {
        return Ruling::Raises(GENERAL_PROTECTION);
    }
    if new & !known != 0 {
        return not_modelled("sets a bit of EFER that not every processor has");
    }
    if (new ^ state.efer) & EFER_NXE != 0 {
        return not_modelled("changes EFER.NXE");
    }
    Ruling::Run
}

/// Nobody is known to answer, which reads as ones: so do serial ports that are not there, and their state
/// looks ready. Where every PC has a device, what it says is not known.
fn read(port: u16) -> Ruling {
    match port {
        0..=0xff | 0x3b0..=0x3df | 0xcf8..=0xcff => {
            not_modelled(&format!("reads the port {port:#x}"))
        }
        _ => Ruling::Run,
    }
}

/// The ways to reset a PC (`native_machine_emergency_restart()`, `arch/x86/kernel/reboot.c`, Linux 6.12; port 0x92 is
/// "System Control Port A"). `value`: `None` if it is not looked at.
fn write(port: u16, bytes: usize, value: Option<u64>) -> Ruling {
    // All four bytes of it are another register, the configuration space's address (PCI 3.0, 3.2.2.3.2).
    const PCI_ADDRESS: (u16, usize) = (0xcf8, 4);
    let resets = |(port, byte): (u16, Option<u64>)| match (port, byte) {
        (0x64 | 0x92 | 0xcf9, None) => true,
        (0x64, Some(byte)) => byte & 0xff >= 0xf0 && byte & 1 == 0,
        (0x92, Some(byte)) => byte & 1 != 0,
        (0xcf9, Some(byte)) => byte & 4 != 0,
        _ => false,
    };
    // A wide access to ports that are a byte each is one to each of them.
    let each = (0..bytes as u16).map(|at| (port.wrapping_add(at), value.map(|v| v >> (8 * at))));
    match each.filter(|_| (port, bytes) != PCI_ADDRESS).find(|&each| resets(each)) {
        Some((port, Some(_))) => {
            not_modelled(&format!("writes to the port {port:#x} what resets a PC"))
        }
        Some((port, None)) => not_modelled(&format!("writes to the port {port:#x}")),
        None => Ruling::Run,
    }
}

/// EFER as the running kernel leaves it.
pub(crate) fn efer_at_entry(nxe: bool) -> u64 {
    EFER_KEXEC | if nxe { EFER_NXE } else { 0 }
}

/// Whether all bits above the highest that counts are as that.
fn is_canonical(addr: u64, width: u32) -> bool {
    let shift = 64 - width;
    ((addr << shift).cast_signed() >> shift).cast_unsigned() == addr
}
