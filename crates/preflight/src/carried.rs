//! Content that is not known, carried in registers on its way from memory to memory.
//!
//! A compiler copies a block with `mov` to a register and back as well as with `movs`. Such a copy
//! decides nothing, so it is followed; anything else that an instruction does with a register
//! that holds something unknown ends the run.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};

/// What an instruction that reads unknown memory does with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// Copies this many bytes from `[RSI]` to `[RDI]`.
    Copy(u64),
    /// Loads it into a register, and does nothing else.
    Load(Register),
    /// Something else.
    Use,
}

/// What an instruction does with registers that hold something unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing, or it forgets them.
    Fine,
    /// Stores one: the address of the first byte and their number.
    Store(u64, u64),
    /// Something else.
    Use,
}

/// General-purpose registers that hold something unknown.
pub(crate) struct Carried {
    /// Bit n: register n.
    registers: u16,
    factory: InstructionInfoFactory,
}

/// The instruction at the start of `code`.
pub(crate) fn decode(code: &[u8], rip: u64, is_64bit: bool) -> Option<Instruction> {
    let bitness = if is_64bit { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bitness, code, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// See [`Reading`].
pub(crate) fn reading(instruction: &Instruction) -> Reading {
    // Registers are taken whole, and segments without a base: another form is rare enough to be unknown.
    let plain = instruction.segment_prefix() == Register::None
        && instruction.op0_kind() == OpKind::MemoryESRDI
        && instruction.op1_kind() == OpKind::MemorySegRSI;
    match instruction.code() {
        Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 | Code::Movsq_m64_m64
            if !plain =>
        {
            Reading::Use
        }
        Code::Movsb_m8_m8 => Reading::Copy(1),
        Code::Movsw_m16_m16 => Reading::Copy(2),
        Code::Movsd_m32_m32 => Reading::Copy(4),
        Code::Movsq_m64_m64 => Reading::Copy(8),
        Code::Mov_r64_rm64 | Code::Mov_r32_rm32 if instruction.op1_kind() == OpKind::Memory => {
            Reading::Load(instruction.op0_register().full_register())
        }
        _ => Reading::Use,
    }
}

impl Carried {
    pub(crate) fn new() -> Carried {
        Carried { registers: 0, factory: InstructionInfoFactory::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.registers == 0
    }

    pub(crate) fn load(&mut self, register: Register) {
        self.registers |= bit(register);
    }

    fn holds(&self, register: Register) -> bool {
        self.registers & bit(register) != 0
    }

    /// What the instruction about to run does with what is carried. `value` gives registers by number.
    pub(crate) fn step(&mut self, instruction: &Instruction, value: &dyn Fn(usize) -> u64) -> Step {
        let moves = matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Mov_rm32_r32);
        let to_memory = instruction.op0_kind() == OpKind::Memory;
        if moves && to_memory && self.holds(instruction.op1_register()) {
            return self.store(instruction, value);
        }
        let info = self.factory.info(instruction);
        let mut forgotten = 0;
        for used in info.used_registers() {
            let register = used.register();
            if !register.is_gpr() {
                continue;
            }
            match used.access() {
                OpAccess::None | OpAccess::NoMemAccess => {}
                // A write to 32 bits clears the rest (SDM vol. 1, 3.4.1.1).
                OpAccess::Write if register.size() >= 4 => forgotten |= bit(register),
                _ if self.registers & bit(register) != 0 => return Step::Use,
                _ => {}
            }
        }
        // `mov r, r` is the copy that compilers make; it counts as a read above.
        self.registers &= !forgotten;
        Step::Fine
    }

    fn store(&self, instruction: &Instruction, value: &dyn Fn(usize) -> u64) -> Step {
        let address = instruction.virtual_address(0, 0, |register, _, _| match register {
            // In 64-bit mode these have no base.
            Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
            register if register.is_gpr() && !self.holds(register) => {
                let full = value(register.number());
                Some(if register.size() == 4 { full & 0xffff_ffff } else { full })
            }
            _ => None,
        });
        let size = instruction.memory_size().size() as u64;
        address.map_or(Step::Use, |address| Step::Store(address, size))
    }
}

fn bit(register: Register) -> u16 {
    let full = register.full_register();
    if full.is_gpr64() { 1 << full.number() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: &[u8]) -> Instruction {
        decode(code, 0x1000, true).unwrap()
    }

    fn step(carried: &mut Carried, code: &[u8]) -> Step {
        carried.step(&instruction(code), &|number| 0x1000 * number as u64)
    }

    #[test]
    fn kinds_of_reading() {
        assert_eq!(reading(&instruction(&[0xf3, 0x48, 0xa5])), Reading::Copy(8));
        assert_eq!(reading(&instruction(&[0x66, 0xa5])), Reading::Copy(2));
        assert_eq!(reading(&instruction(&[0xf3, 0xa4])), Reading::Copy(1));
        // mov rdx, [rsi]; cmp rdx, [rsi]; lodsq; movzx edx, byte [rsi]
        assert_eq!(reading(&instruction(&[0x48, 0x8b, 0x16])), Reading::Load(Register::RDX));
        assert_eq!(reading(&instruction(&[0x8b, 0x16])), Reading::Load(Register::RDX));
        assert_eq!(reading(&instruction(&[0x48, 0x3b, 0x16])), Reading::Use);
        assert_eq!(reading(&instruction(&[0x48, 0xad])), Reading::Use);
        assert_eq!(reading(&instruction(&[0x0f, 0xb6, 0x16])), Reading::Use);
    }

    #[test]
    fn a_register_may_be_stored_and_overwritten_and_nothing_else() {
        let carry = || {
            let mut carried = Carried::new();
            carried.load(Register::RDX);
            carried
        };
        // mov [rdi+8], rdx
        assert_eq!(step(&mut carry(), &[0x48, 0x89, 0x57, 0x08]), Step::Store(0x7008, 8));
        // mov rax, rcx touches nothing that is carried.
        let mut carried = carry();
        assert_eq!(step(&mut carried, &[0x48, 0x89, 0xc8]), Step::Fine);
        assert!(!carried.is_empty());
        // mov edx, 1 forgets it; mov dl, 1 does not.
        assert_eq!(step(&mut carried, &[0xba, 1, 0, 0, 0]), Step::Fine);
        assert!(carried.is_empty());
        assert_eq!(step(&mut carry(), &[0xb2, 1]), Step::Use);
        // test rdx, rdx; mov [rdx], rax; mov [rdx+rdx], rdx; push rdx; add eax, edx; cmovz rdx, rax
        for code in [
            &[0x48, 0x85, 0xd2][..],
            &[0x48, 0x89, 0x02],
            &[0x48, 0x89, 0x14, 0x12],
            &[0x52],
            &[0x01, 0xd0],
            &[0x48, 0x0f, 0x44, 0xd0],
        ] {
            assert_eq!(step(&mut carry(), code), Step::Use, "{code:x?}");
        }
    }
}
