//! What the purgatory says before it halts: on a serial line, on a VGA screen.

#![allow(clippy::cast_possible_wrap, reason = "displacements within a check")]

use iced_x86::IcedError;
#[allow(clippy::wildcard_imports, reason = "registers and operand sizes")]
use iced_x86::code_asm::*;

use super::code::{CHECK, TEXT};
use super::{Purgatory, Serial};

/// How often a transmitter is asked before it is given up: a read of an ISA port takes about a
/// microsecond, and 64 characters in a FIFO at 9600 baud take 67 milliseconds.
const PATIENCE: u32 = 1 << 20;
/// Line status, and "transmitter holding register empty" in it (16550 data sheet).
const LINE_STATUS: u16 = 5;
const EMPTY: u8 = 0x20;
const VGA_TEXT: u64 = 0xb8000;
/// White on red, and two lines of 80 characters: no text is longer.
const COLOUR: u8 = 0x4f;
const CELLS: u64 = 160;

/// Says what is wrong, to each that listens, and halts. RBX is the check, R14 the number at the end of its text,
/// with R8D digits.
pub(super) fn message(a: &mut CodeAssembler, purgatory: &Purgatory<'_>) -> Result<(), IcedError> {
    let [mut say, mut halt, mut to_serial, mut to_vga] = [(); 4].map(|()| a.create_label());
    if purgatory.serial.is_some() {
        a.lea(r15, ptr(to_serial))?;
        // Whether the transmitter is dead.
        a.xor(r11d, r11d)?;
        a.call(say)?;
    }
    if purgatory.vga {
        a.lea(r15, ptr(to_vga))?;
        a.mov(r10, VGA_TEXT)?;
        a.call(say)?;
        // Blanks over what was there before.
        let (mut blank, mut full) = (a.create_label(), a.create_label());
        a.set_label(&mut blank)?;
        a.cmp(r10, (VGA_TEXT + CELLS * 2) as i32)?;
        a.jae(full)?;
        a.mov(eax, i32::from(b' '))?;
        a.call(to_vga)?;
        a.jmp(blank)?;
        a.set_label(&mut full)?;
        a.nop()?;
    }
    a.set_label(&mut halt)?;
    a.cli()?;
    a.hlt()?;
    a.jmp(halt)?;
    if purgatory.serial.is_none() && !purgatory.vga {
        return Ok(());
    }

    speak(a, &mut say)?;
    if let Some(serial) = purgatory.serial {
        a.set_label(&mut to_serial)?;
        transmit(a, serial)?;
    }
    if purgatory.vga {
        let mut invisible = a.create_label();
        a.set_label(&mut to_vga)?;
        a.cmp(al, i32::from(b' '))?;
        a.jb(invisible)?;
        a.mov(ah, i32::from(COLOUR))?;
        a.mov(word_ptr(r10), ax)?;
        a.add(r10, 2)?;
        a.set_label(&mut invisible)?;
        a.ret()?;
    }
    Ok(())
}

/// The text of the check, the number in hex, and the end of the line, one character in AL after
/// the other to the routine in R15, which may use RAX, RDX, RDI and what it kept for itself.
fn speak(a: &mut CodeAssembler, say: &mut CodeLabel) -> Result<(), IcedError> {
    let [mut character, mut more, mut digit, mut decimal] = [(); 4].map(|()| a.create_label());
    a.set_label(say)?;
    a.lea(r12, rbx + TEXT as i32)?;
    a.mov(ecx, dword_ptr(rbx + 32))?;
    // The purgatory's own may be what is damaged.
    let room = (CHECK - TEXT) as u32;
    let mut sound = a.create_label();
    a.cmp(ecx, room)?;
    a.jbe(sound)?;
    a.mov(ecx, room)?;
    a.set_label(&mut sound)?;
    a.inc(ecx)?;
    a.jmp(more)?;
    a.set_label(&mut character)?;
    a.movzx(eax, byte_ptr(r12))?;
    a.inc(r12)?;
    a.call(r15)?;
    a.set_label(&mut more)?;
    a.dec(ecx)?;
    a.jne(character)?;
    a.mov(ecx, r8d)?;
    a.set_label(&mut digit)?;
    a.rol(r14, 4)?;
    a.mov(eax, r14d)?;
    a.and(eax, 15)?;
    a.cmp(eax, 10)?;
    a.jb(decimal)?;
    a.add(eax, i32::from(b'a' - b'0' - 10))?;
    a.set_label(&mut decimal)?;
    a.add(eax, i32::from(b'0'))?;
    a.call(r15)?;
    a.dec(ecx)?;
    a.jne(digit)?;
    for last in *b")\r\n" {
        a.mov(eax, i32::from(last))?;
        a.call(r15)?;
    }
    a.ret()
}

/// AL to the serial line, unless the transmitter was found dead (R11D).
fn transmit(a: &mut CodeAssembler, serial: Serial) -> Result<(), IcedError> {
    let [mut ask, mut ready, mut dead] = [(); 3].map(|()| a.create_label());
    a.test(r11d, r11d)?;
    a.jne(dead)?;
    a.push(rax)?;
    a.mov(edi, PATIENCE)?;
    match serial {
        Serial::Port(port) => a.mov(edx, u32::from(port + LINE_STATUS))?,
        Serial::Mmio { address, .. } => a.mov(rdx, address)?,
    }
    a.set_label(&mut ask)?;
    match serial {
        Serial::Port(_) => a.in_(al, dx)?,
        Serial::Mmio { stride, .. } => {
            let at = rdx + i32::from(LINE_STATUS) * i32::from(stride);
            match stride {
                4 => a.mov(eax, dword_ptr(at))?,
                2 => a.mov(ax, word_ptr(at))?,
                _ => a.mov(al, byte_ptr(at))?,
            }
        }
    }
    a.test(al, i32::from(EMPTY))?;
    a.jne(ready)?;
    a.pause()?;
    a.dec(edi)?;
    a.jne(ask)?;
    a.inc(r11d)?;
    a.set_label(&mut ready)?;
    a.pop(rax)?;
    // A dead one gets this character too; it does not matter.
    match serial {
        Serial::Port(port) => {
            a.mov(edx, u32::from(port))?;
            a.out(dx, al)?;
        }
        Serial::Mmio { stride: 4, .. } => a.mov(dword_ptr(rdx), eax)?,
        Serial::Mmio { stride: 2, .. } => a.mov(word_ptr(rdx), ax)?,
        Serial::Mmio { .. } => a.mov(byte_ptr(rdx), al)?,
    }
    a.set_label(&mut dead)?;
    a.ret()
}
