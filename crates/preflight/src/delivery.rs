//! Exceptions that the consumer has a handler for: how the processor finds it, and what it saves.

use identmap::PhysAddr;

use crate::guest::{Guest, Refusal, Regs, Stop};
use crate::outcome::{Access, Unknown};

const PAGE: u64 = 4096;
const PAGE_FAULT: u8 = 14;
/// Double fault, segment not present, general protection: what comes of an exception that cannot be delivered
/// (SDM vol. 3A, 6.15).
const IN_ITS_PLACE: [u8; 3] = [8, 11, 13];

/// A gate of the IDT.
pub(crate) struct Gate {
    pub(crate) handler: u64,
    selector: u16,
    stack: u8,
}

/// What an exception saves, and finds its handler by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted {
    pub(crate) regs: Regs,
    pub(crate) rsp: u64,
    pub(crate) rflags: u64,
    pub(crate) idt: (u64, u64),
    pub(crate) gdt: (u64, u64),
    pub(crate) cs: u16,
    pub(crate) ss: u16,
}

/// How it goes on in a handler.
pub(crate) struct Delivered {
    pub(crate) handler: u64,
    pub(crate) rsp: u64,
    pub(crate) cleared_flags: u64,
}

impl Guest<'_> {
    /// The present gate for a vector in the IDT (SDM vol. 3A, 6.14.1). `idt`: base and limit.
    ///
    /// # Errors
    /// What has to be known to tell.
    pub(crate) fn gate(
        &self,
        regs: &Regs,
        idt: (u64, u64),
        vector: u8,
    ) -> Result<Option<Gate>, Unknown> {
        let offset = u64::from(vector) * 16;
        if offset + 15 > idt.1 {
            return Ok(None);
        }
        let Some(gate) = self.bytes::<16>(regs, idt.0.wrapping_add(offset))? else {
            return Ok(None);
        };
        let gate = u128::from_le_bytes(gate);
        let (low, high) = (gate as u64, (gate >> 64) as u64);
        let kind = low >> 40 & 0xf;
        let present = low >> 47 & 1 == 1 && (kind == 0xe || kind == 0xf);
        Ok(present.then_some(Gate {
            handler: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            selector: (low >> 16) as u16,
            stack: (low >> 32 & 7) as u8,
        }))
    }

    /// The code segment that a selector names in the GDT; `None` if there is none. `gdt`: base and limit.
    ///
    /// # Errors
    /// What has to be known to tell.
    pub(crate) fn code_segment(
        &self,
        regs: &Regs,
        gdt: (u64, u64),
        selector: u16,
    ) -> Result<Option<CodeSegment>, Unknown> {
        // Before the GDT's limit, which is not that of an LDT.
        if selector & 4 != 0 {
            return Err(Unknown::Engine("a segment of an LDT is used".to_owned()));
        }
        let offset = u64::from(selector & !7);
        if offset + 7 > gdt.1 || offset == 0 {
            return Ok(None);
        }
        let descriptor = self.bytes::<8>(regs, gdt.0.wrapping_add(offset))?;
        let bits = descriptor.map(u64::from_le_bytes);
        // Present, no system segment, code (SDM vol. 3A, 3.4.5).
        let is_code = |bits: &u64| bits >> 47 & 1 == 1 && bits >> 43 & 3 == 3;
        let bits = bits.filter(is_code);
        Ok(bits.map(|bits| CodeSegment { is_64bit: bits >> 53 & 3 == 1, ring: bits >> 45 & 3 }))
    }

    /// Delivers a page fault to the consumer's handler, as the processor does in 64-bit mode
    /// without a change of privilege (SDM vol. 3A, 6.14.2): the frame is written to the stack.
    /// `None` where there is no handler, or the frame cannot be written; a stop where that cannot be told.
    pub(crate) fn deliver(&mut self, state: &Interrupted, code: u32) -> Option<Delivered> {
        match self.delivered(state, code) {
            Ok(delivered) => delivered,
            Err(why) => {
                self.stop = Some(Stop::Unknown(why));
                None
            }
        }
    }

    /// Whether the consumer has handlers that would run for an exception, but are not followed. `vector`: `None`
    /// for a page fault that cannot be delivered.
    ///
    /// # Errors
    /// What has to be known to tell.
    pub(crate) fn may_be_handled(
        &self,
        state: &Interrupted,
        vector: Option<u8>,
    ) -> Result<bool, Unknown> {
        for vector in IN_ITS_PLACE.into_iter().chain(vector) {
            let Some(gate) = self.gate(&state.regs, state.idt, vector)? else { continue };
            if self.code_segment(&state.regs, state.gdt, gate.selector)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn delivered(&mut self, state: &Interrupted, code: u32) -> Result<Option<Delivered>, Unknown> {
        // TF, IF, NT, RF, VM.
        const CLEARED: u64 = 1 << 8 | 1 << 9 | 1 << 14 | 1 << 16 | 1 << 17;
        let Some(gate) = self.gate(&state.regs, state.idt, PAGE_FAULT)? else { return Ok(None) };
        let segment = self.code_segment(&state.regs, state.gdt, gate.selector)?;
        if segment.is_none_or(|segment| !segment.is_64bit || segment.ring != 0) {
            return Ok(None);
        }
        // Another stack or segment is nothing that an early kernel uses.
        if gate.stack != 0 || gate.selector != state.cs {
            let why =
                "the page-fault handler has a stack or a segment of its own, which is not modelled";
            return Err(Unknown::Engine(why.to_owned()));
        }
        let frame = [
            u64::from(state.ss),
            state.rsp,
            state.rflags,
            u64::from(state.cs),
            state.regs.rip,
            u64::from(code),
        ];
        let mut rsp = state.rsp & !15;
        for word in frame {
            rsp = rsp.wrapping_sub(8);
            let Ok(mapped) = self.translate(&state.regs, rsp, Access::Write) else {
                return Ok(None);
            };
            self.touch(&state.regs, mapped.phys, Access::Write);
            let limit = self.scene.limits.memory;
            let frame = self.memory.page(mapped.phys).map_err(|_| Unknown::Memory { limit })?.frame;
            for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
                let at = (mapped.phys.get() % PAGE) as usize + i;
                self.memory.write_frame(frame, at, byte, true);
            }
        }
        Ok(Some(Delivered { handler: gate.handler, rsp, cleared_flags: CLEARED }))
    }

    /// Bytes at a virtual address; `None` if they are not mapped.
    ///
    /// # Errors
    /// What has to be known to tell.
    pub(crate) fn bytes<const N: usize>(
        &self,
        regs: &Regs,
        virt: u64,
    ) -> Result<Option<[u8; N]>, Unknown> {
        let mut bytes = [0; N];
        for (byte, at) in bytes.iter_mut().zip(0..) {
            let mapped = match self.translate(regs, virt.wrapping_add(at), Access::Read) {
                Ok(mapped) => mapped,
                Err(Refusal::Table(table)) => return Err(Unknown::Table(table)),
                Err(_) => return Ok(None),
            };
            let Some([known]) = self.memory.read(mapped.phys) else {
                return Err(self.not_known(mapped.phys, regs.rip));
            };
            *byte = known;
        }
        Ok(Some(bytes))
    }

    fn not_known(&self, at: PhysAddr, rip: u64) -> Unknown {
        let why = || Unknown::Engine(format!("what lies at {at} is not known"));
        self.content(at, 1, Access::Read, rip).unwrap_or_else(why)
    }
}

/// A code segment, as its descriptor has it.
pub(crate) struct CodeSegment {
    pub(crate) is_64bit: bool,
    ring: u64,
}
