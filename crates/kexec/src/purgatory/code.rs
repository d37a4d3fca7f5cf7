//! The purgatory's bytes.
//!
//! Registers that live through all of it: RBP is its own address. What each routine uses is said there.

#![allow(clippy::cast_possible_wrap, reason = "displacements of a few KiB")]

#[allow(clippy::wildcard_imports, reason = "registers and operand sizes")]
use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, Code, IcedError, Instruction};

use super::crc32c::{POLYNOMIAL, TABLES, after, crc32c};
use super::message::message;
use super::{Check, LONGEST_NAME, Purgatory};

/// Room for the code.
pub(super) const CODE: usize = 0x500;
/// Room for one check: its numbers, then its text.
pub(super) const CHECK: usize = 0xc0;
/// Where the text lies in a check.
pub(super) const TEXT: usize = 0x28;
const STACK: usize = 1024;
/// One iteration of the interleaved loop takes so many bytes of each of the three parts.
const STEP: u64 = 32;
/// boot.rst: "`__BOOT_CS`(0x10) and `__BOOT_DS`(0x18)". Flat, 64-bit code and data, the accessed bits
/// set so that loading them writes nothing.
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
const BOOT_CS: i32 = 0x10;
const BOOT_DS: i32 = 0x18;
/// Exceptions are numbered from 0 to 31; a gate takes 16 bytes (SDM vol. 3A, 7.3 and 7.14.1).
const GATES: usize = 32;
const GATE: usize = 16;
const NMI: usize = 2;
/// Those that push an error code (SDM vol. 3A, table 7-1; 29 and 30 are AMD's, APM vol. 2, table 8-1).
const WITH_CODE: [usize; 10] = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];

/// Where what lies, in bytes from the start.
pub(super) struct Layout {
    gdt: usize,
    idt: usize,
    /// What is said of an exception: as much of a check as its text takes.
    exception: usize,
    crc_tables: usize,
    checks: usize,
    /// What the sum covers ends here.
    summed: usize,
    own: usize,
    pub(super) stack: usize,
    pub(super) end: usize,
}

impl Layout {
    pub(super) fn new(purgatory: &Purgatory<'_>) -> Layout {
        let (count, tables) = match (purgatory.verify, purgatory.crc_instruction) {
            (false, _) => (0, 0),
            (true, true) => (purgatory.checks.len(), 0),
            (true, false) => (purgatory.checks.len(), size_of_val(&TABLES)),
        };
        let gdt = CODE;
        let idt = gdt + size_of_val(&GDT);
        let exception = idt + if purgatory.verify { GATES * GATE } else { 0 };
        let crc_tables = exception + if purgatory.verify { CHECK } else { 0 };
        let checks = crc_tables + tables;
        let own = checks.saturating_add(count.saturating_mul(CHECK));
        let summed = own.saturating_add(if purgatory.verify { CHECK } else { 0 });
        // The sum, behind what it is of.
        let stack = summed.saturating_add(16);
        let end = stack.saturating_add(STACK);
        Layout { gdt, idt, exception, crc_tables, checks, summed, own, stack, end }
    }
}

pub(super) fn build(purgatory: &Purgatory<'_>, layout: &Layout) -> Result<Vec<u8>, String> {
    let (mut bytes, handlers) = assemble(purgatory, layout).map_err(|error| error.to_string())?;
    if bytes.len() > CODE {
        return Err(format!("{} bytes of code", bytes.len()));
    }
    // `int3`, should anything ever run into it.
    bytes.resize(CODE, 0xcc);
    bytes.extend(GDT.iter().flat_map(|entry| entry.to_le_bytes()));
    if let Some(handlers) = handlers {
        bytes.extend(handlers.gates(purgatory.address.get()));
        bytes.extend(exception_text(purgatory.address.get()));
        if !purgatory.crc_instruction {
            bytes.extend(TABLES.iter().flatten().flat_map(|entry| entry.to_le_bytes()));
        }
        for check in in_order(purgatory.checks) {
            bytes.extend(packed(check, purgatory.crc_instruction));
        }
        bytes.extend(own_text(purgatory.address.get()));
        bytes.extend(crc32c(&bytes, 0).to_le_bytes());
    }
    bytes.resize(layout.end, 0);
    Ok(bytes)
}

/// Page tables first: they change once they are used.
fn in_order<'a>(checks: &'a [Check<'a>]) -> impl Iterator<Item = &'a Check<'a>> {
    let (tables, rest) = (checks.iter(), checks.iter());
    tables.filter(|check| check.tables).chain(rest.filter(|check| !check.tables))
}

/// How a range is cut: iterations of the main loop, bytes left over, and the factor that
/// joins the three parts.
fn cut(len: u64, crc_instruction: bool) -> (u64, u64, u32) {
    if !crc_instruction {
        return (len / 8, len % 8, 0);
    }
    let steps = len / (3 * STEP);
    (steps, len - steps * 3 * STEP, after(steps * STEP))
}

/// address, steps, rest, factor, sum, length of the text, nothing, text.
fn packed(check: &Check<'_>, crc_instruction: bool) -> Vec<u8> {
    let (steps, rest, factor) = cut(check.range.len(), crc_instruction);
    let name: String = check.name.chars().take(LONGEST_NAME).map(printable).collect();
    let start = check.range.start();
    let text = format!(
        "identmap: segment {name} at {start} is damaged, not booting (CRC32C should be {:08x}, is ",
        check.crc32c
    );
    record([start.get(), steps, rest], factor, check.crc32c, &text)
}

/// Of the purgatory itself: the numbers are in the code, and the sum cannot be in what it is of.
fn own_text(start: u64) -> Vec<u8> {
    let text =
        format!("identmap: segment purgatory at {start:#018x} is damaged, not booting (CRC32C is ");
    record([0; 3], 0, 0, &text)
}

fn exception_text(start: u64) -> Vec<u8> {
    let text = format!("identmap: exception in the purgatory at {start:#018x}, not booting (RIP ");
    record([0; 3], 0, 0, &text)
}

fn record(words: [u64; 3], factor: u32, sum: u32, text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECK);
    for word in words {
        bytes.extend(word.to_le_bytes());
    }
    for half in [factor, sum, text.len() as u32, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(text.as_bytes());
    bytes.resize(CHECK, 0);
    bytes
}

/// Where exceptions go, from the purgatory's start.
struct Handlers {
    nmi: u64,
    with_code: u64,
    plain: u64,
}

impl Handlers {
    /// Interrupt gates, present, for ring 0 (SDM vol. 3A, figure 7-8), on the stack that is in use.
    fn gates(&self, start: u64) -> Vec<u8> {
        const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
        let gate = |number: usize| {
            let at = start
                + match number {
                    NMI => self.nmi,
                    number if WITH_CODE.contains(&number) => self.with_code,
                    _ => self.plain,
                };
            let low = at & 0xffff | (BOOT_CS as u64) << 16 | PRESENT_INTERRUPT_GATE;
            [low | (at >> 16 & 0xffff) << 48, at >> 32]
        };
        (0..GATES).flat_map(gate).flat_map(u64::to_le_bytes).collect()
    }
}

fn printable(c: char) -> char {
    if c.is_ascii_graphic() || c == ' ' { c } else { '?' }
}

fn assemble(
    purgatory: &Purgatory<'_>,
    layout: &Layout,
) -> Result<(Vec<u8>, Option<Handlers>), IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let mut start = a.create_label();
    a.set_label(&mut start)?;
    a.cli()?;
    a.cld()?;
    a.lea(rbp, ptr(start))?;
    a.lea(rsp, rbp + layout.end as i32)?;
    let labels = if purgatory.verify {
        // Damaged code may run into an exception before its damage is found: without gates that is a reset.
        descriptors(&mut a, layout.gdt, size_of_val(&GDT), Table::Global)?;
        descriptors(&mut a, layout.idt, GATES * GATE, Table::Interrupts)?;
        Some(verify(&mut a, purgatory, layout, start)?)
    } else {
        switch(&mut a, purgatory.root)?;
        enter(&mut a, purgatory, layout)?;
        None
    };
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let mut code = a.assemble_options(0, options)?;
    let handlers = match labels {
        Some([nmi, with_code, plain]) => Some(Handlers {
            nmi: code.label_ip(&nmi)?,
            with_code: code.label_ip(&with_code)?,
            plain: code.label_ip(&plain)?,
        }),
        None => None,
    };
    Ok((core::mem::take(&mut code.inner.code_buffer), handlers))
}

#[derive(Clone, Copy)]
enum Table {
    Global,
    Interrupts,
}

/// Loads GDTR or IDTR: `bytes` bytes at `at` from the start; of none, nothing.
fn descriptors(
    a: &mut CodeAssembler,
    at: usize,
    bytes: usize,
    table: Table,
) -> Result<(), IcedError> {
    if bytes == 0 {
        a.xor(eax, eax)?;
    } else {
        a.lea(rax, rbp + at as i32)?;
    }
    a.push(rax)?;
    a.sub(rsp, 8)?;
    a.mov(word_ptr(rsp + 6), bytes.saturating_sub(1) as i32)?;
    match table {
        Table::Global => a.lgdt(ptr(rsp + 6))?,
        Table::Interrupts => a.lidt(ptr(rsp + 6))?,
    }
    a.add(rsp, 16)
}

fn switch(a: &mut CodeAssembler, root: u64) -> Result<(), IcedError> {
    a.mov(rax, root)?;
    a.mov(cr3, rax)
}

/// The descriptors, then the jump, which takes CS from the stack as it goes.
fn enter(
    a: &mut CodeAssembler,
    purgatory: &Purgatory<'_>,
    layout: &Layout,
) -> Result<(), IcedError> {
    descriptors(a, layout.gdt, size_of_val(&GDT), Table::Global)?;
    if purgatory.verify {
        // The next kernel begins as `relocate_kernel` would have it: without an IDT.
        descriptors(a, 0, 0, Table::Interrupts)?;
    }
    a.mov(eax, BOOT_DS)?;
    for segment in [ds, es, ss, fs, gs] {
        a.mov(segment, eax)?;
    }
    a.mov(rsi, purgatory.rsi)?;
    a.push(BOOT_CS)?;
    a.mov(rax, purgatory.entry)?;
    a.push(rax)?;
    for register in [eax, ebx, ecx, edx, edi, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d] {
        a.xor(register, register)?;
    }
    a.add_instruction(Instruction::with(Code::Retfq))
}

/// Where exceptions go: NMI, those with an error code, the others.
fn verify(
    a: &mut CodeAssembler,
    purgatory: &Purgatory<'_>,
    layout: &Layout,
    start: CodeLabel,
) -> Result<[CodeLabel; 3], IcedError> {
    let [mut many, mut next, mut done, mut sum, mut damaged] = [(); 5].map(|()| a.create_label());
    let [mut nmi, mut with_code, mut plain, mut tell] = [(); 4].map(|()| a.create_label());
    let tables = purgatory.checks.iter().filter(|check| check.tables).count();

    // Itself. The list is not trusted yet: the numbers are in the code.
    let (steps, rest, factor) = cut(layout.summed as u64, purgatory.crc_instruction);
    a.lea(rbx, rbp + layout.own as i32)?;
    a.mov(rsi, rbp)?;
    a.mov(ecx, steps as u32)?;
    a.mov(r8d, rest as u32)?;
    a.mov(r9d, factor)?;
    a.call(sum)?;
    a.cmp(eax, dword_ptr(rbp + layout.summed as i32))?;
    a.jne(damaged)?;

    a.lea(rbx, rbp + layout.checks as i32)?;
    a.mov(r12d, tables as u32)?;
    a.call(many)?;
    switch(a, purgatory.root)?;
    a.mov(r12d, (purgatory.checks.len() - tables) as u32)?;
    a.call(many)?;
    enter(a, purgatory, layout)?;

    // R12 checks from RBX on.
    a.set_label(&mut many)?;
    a.test(r12d, r12d)?;
    a.je(done)?;
    a.set_label(&mut next)?;
    a.mov(rsi, qword_ptr(rbx))?;
    a.mov(rcx, qword_ptr(rbx + 8))?;
    a.mov(r8, qword_ptr(rbx + 16))?;
    a.mov(r9d, dword_ptr(rbx + 24))?;
    a.call(sum)?;
    a.cmp(eax, dword_ptr(rbx + 28))?;
    a.jne(damaged)?;
    a.add(rbx, CHECK as i32)?;
    a.dec(r12d)?;
    a.jne(next)?;
    a.set_label(&mut done)?;
    a.ret()?;

    a.set_label(&mut sum)?;
    if purgatory.crc_instruction {
        interleaved(a)?;
    } else {
        by_tables(a, layout)?;
    }

    // One that comes in is not what the jump is about.
    a.set_label(&mut nmi)?;
    a.iretq()?;

    // RIP is on the stack, behind the error code where there is one. No register is to be relied on.
    a.set_label(&mut with_code)?;
    a.add(rsp, 8)?;
    a.set_label(&mut plain)?;
    a.mov(r14, qword_ptr(rsp))?;
    a.lea(rbx, ptr(start))?;
    a.add(rbx, layout.exception as i32)?;
    a.mov(r8d, 16)?;
    a.jmp(tell)?;

    // RBX is the check, EAX what was found.
    a.set_label(&mut damaged)?;
    a.mov(r14d, eax)?;
    // Both halves: after eight digits it has turned half way.
    a.shl(r14, 32)?;
    a.or(r14, rax)?;
    a.mov(r8d, 8)?;
    a.set_label(&mut tell)?;
    a.cld()?;
    message(a, purgatory)?;
    Ok([nmi, with_code, plain])
}

/// The sum from RSI on, in EAX: RCX steps of three interleaved parts, R8 bytes behind them, R9D the
/// factor. The instruction takes three cycles and one can begin in each, so three parts cost
/// no more time than one. Uses RDX, RDI, R10, R11, R13, R14, R15.
fn interleaved(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let [mut all, mut rest, mut bytes, mut byte, mut done] = [(); 5].map(|()| a.create_label());
    let [mut multiply, mut bit, mut word] = [(); 3].map(|()| a.create_label());
    a.mov(eax, -1)?;
    a.test(rcx, rcx)?;
    a.je(rest)?;
    // The parts begin at RSI, RSI + R10 and RSI + 2 * R10. A state of zero is the identity.
    a.mov(r10, rcx)?;
    a.shl(r10, STEP.ilog2())?;
    a.xor(edx, edx)?;
    a.xor(r11d, r11d)?;
    a.set_label(&mut all)?;
    for at in (0..STEP as i32).step_by(8) {
        a.crc32(rax, qword_ptr(rsi + at))?;
        a.crc32(rdx, qword_ptr(rsi + r10 + at))?;
        a.crc32(r11, qword_ptr(rsi + r10 * 2 + at))?;
    }
    a.add(rsi, STEP as i32)?;
    a.dec(rcx)?;
    a.jne(all)?;
    a.lea(rsi, rsi + r10 * 2)?;
    a.call(multiply)?;
    a.xor(eax, edx)?;
    a.call(multiply)?;
    a.xor(eax, r11d)?;

    a.set_label(&mut rest)?;
    a.mov(rcx, r8)?;
    a.shr(rcx, 3)?;
    a.je(bytes)?;
    a.set_label(&mut word)?;
    a.crc32(rax, qword_ptr(rsi))?;
    a.add(rsi, 8)?;
    a.dec(rcx)?;
    a.jne(word)?;
    a.set_label(&mut bytes)?;
    a.and(r8d, 7)?;
    a.je(done)?;
    a.set_label(&mut byte)?;
    a.crc32(eax, byte_ptr(rsi))?;
    a.inc(rsi)?;
    a.dec(r8d)?;
    a.jne(byte)?;
    a.set_label(&mut done)?;
    a.not(eax)?;
    a.ret()?;

    // EAX times R9D modulo the polynomial.
    a.set_label(&mut multiply)?;
    a.mov(edi, eax)?;
    a.mov(r13d, r9d)?;
    a.xor(eax, eax)?;
    a.mov(ecx, 32)?;
    a.set_label(&mut bit)?;
    a.add(edi, edi)?;
    a.sbb(r14d, r14d)?;
    a.and(r14d, r13d)?;
    a.xor(eax, r14d)?;
    a.shr(r13d, 1)?;
    a.sbb(r15d, r15d)?;
    a.and(r15d, POLYNOMIAL.cast_signed())?;
    a.xor(r13d, r15d)?;
    a.dec(ecx)?;
    a.jne(bit)?;
    a.ret()
}

/// The same for a CPU without the instruction: RCX words of eight bytes, then R8 bytes.
/// Uses RDX, RDI, R10, R11.
fn by_tables(a: &mut CodeAssembler, layout: &Layout) -> Result<(), IcedError> {
    let [mut word, mut bytes, mut byte, mut done] = [(); 4].map(|()| a.create_label());
    let table = |index: usize| (index * size_of_val(&TABLES[0])) as i32;
    a.lea(rdx, rbp + layout.crc_tables as i32)?;
    a.mov(eax, -1)?;
    a.test(rcx, rcx)?;
    a.je(bytes)?;
    a.set_label(&mut word)?;
    a.mov(rdi, qword_ptr(rsi))?;
    a.xor(rdi, rax)?;
    a.xor(eax, eax)?;
    for index in (0..TABLES.len()).rev() {
        a.movzx(r10d, dil)?;
        a.xor(eax, dword_ptr(rdx + r10 * 4 + table(index)))?;
        a.shr(rdi, 8)?;
    }
    a.add(rsi, 8)?;
    a.dec(rcx)?;
    a.jne(word)?;
    a.set_label(&mut bytes)?;
    a.test(r8d, r8d)?;
    a.je(done)?;
    a.set_label(&mut byte)?;
    a.movzx(r10d, byte_ptr(rsi))?;
    a.xor(r10b, al)?;
    a.shr(eax, 8)?;
    a.xor(eax, dword_ptr(rdx + r10 * 4))?;
    a.inc(rsi)?;
    a.dec(r8d)?;
    a.jne(byte)?;
    a.set_label(&mut done)?;
    a.not(eax)?;
    a.ret()
}
