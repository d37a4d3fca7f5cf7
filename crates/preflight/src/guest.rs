//! The guest's side of a run: what an engine asks, and what is made of the answers.

use std::collections::{BTreeMap, HashMap, HashSet};

use iced_x86::Instruction;
use identmap::{Decoded, Levels, PageSize, Paging, PhysAddr, TableRead, VirtAddr, WalkEnd, walk};

use crate::carried::{self, Carried, Reading, Step};
use crate::memory::Memory;
use crate::outcome::{Access, ImagePlace, Touch, Unknown};
use crate::processor;
use crate::scene::{CR0_PG, CR0_WP, CR4_LA57, Scene};

const PAGE: u64 = 4096;
/// `CR4.PCIDE`.
const CR4_PCIDE: u64 = 1 << 17;
/// `CR4.SMEP`.
const CR4_SMEP: u64 = 1 << 20;
/// Numbers of registers in an instruction.
const RSI: usize = 6;
const RDI: usize = 7;
/// The engine keeps what it made of code, and is not told of writes that are looked at one by one.
const CODE_CHANGED: &str = "code is run in a page that unknown content was copied to";
/// What CR3 holds besides flags and PCID (SDM vol. 3A, 4.5.2).
pub(crate) const CR3_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The registers that decide a translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regs {
    pub(crate) rip: u64,
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
}

/// What an engine shall do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fill {
    /// Use this frame.
    Frame {
        frame: u32,
        /// Ask for every access: [`Guest::tracked_read`], [`Guest::tracked_write`].
        tracked: bool,
        read: bool,
        write: bool,
        execute: bool,
    },
    /// A page fault: report the address by [`Guest::fault_address`] if it is to be had, then stop.
    Fault,
    /// Stop.
    Stop,
}

/// Why a run stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Reached { cr3: u64 },
    PageFault { rip: u64, cr2: u64, code: u32, access: Access },
    Exception { rip: u64, vector: u8 },
    Halted { rip: u64 },
    Unknown(Unknown),
}

/// Why an address cannot be used.
pub(crate) enum Refusal {
    PageFault { code: u32 },
    NotCanonical,
    Table(PhysAddr),
}

/// A translation: where to, and what may be done there.
pub(crate) struct Mapped {
    pub(crate) phys: PhysAddr,
    write: bool,
    execute: bool,
}

pub(crate) struct Guest<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) memory: Memory<'a>,
    pub(crate) touched: BTreeMap<u64, Touch>,
    pub(crate) stop: Option<Stop>,
    /// Translations given out are void: the engine has to forget them before it goes on.
    pub(crate) flush: bool,
    /// CR3, and whether paging was on, when last seen.
    cr3: u64,
    paging_on: bool,
    /// Bytes about to be written with a copy of something that is not known.
    copies: HashSet<u64>,
    carried: Carried,
    /// The last instruction looked at, if it did nothing with what is carried.
    watched: Option<u64>,
    /// The frames that code was fetched from, by virtual page; and the last one asked for.
    code: HashMap<u64, u32>,
    last_code: (u64, u32),
    /// EFER, as far as it was written.
    pub(crate) efer: u64,
    /// The code segment was changed: before, it is the running kernel's, in 64-bit mode.
    pub(crate) far: bool,
}

impl<'a> Guest<'a> {
    pub(crate) fn new(scene: &'a Scene) -> Option<Guest<'a>> {
        Some(Guest {
            scene,
            memory: Memory::new(&scene.contents, scene.limits.memory)?,
            touched: BTreeMap::new(),
            stop: None,
            flush: false,
            cr3: scene.root.get(),
            paging_on: scene.cr0 & CR0_PG != 0,
            copies: HashSet::new(),
            carried: Carried::new(),
            watched: None,
            code: HashMap::new(),
            last_code: (u64::MAX, 0),
            efer: processor::efer_at_entry(scene.paging.nxe),
            far: false,
        })
    }

    /// A page is touched for the first time, or for the first time in this way.
    pub(crate) fn fill(&mut self, regs: &Regs, page: u64, access: Access) -> Fill {
        if self.stop.is_some() {
            return Fill::Stop;
        }
        let on = regs.cr0 & CR0_PG != 0;
        // Written with paging on: the consumer's own tables. With paging off it is the
        // trampoline that switches between 4 and 5 levels, and still on the producer's tables.
        let changed = regs.cr3 != self.cr3 && on && self.paging_on;
        if changed && self.reserved_in_cr3(regs) {
            // Of the instruction before; the engine takes what the processor refuses.
            return self.stop(Stop::Exception { rip: regs.rip, vector: 13 });
        }
        let translated = self.translate(regs, page, access);
        // Tables that do not map the next instruction are no way on.
        let lost = access == Access::Fetch && matches!(translated, Err(Refusal::PageFault { .. }));
        if changed && !self.leads_to_producer(regs) {
            // Nor is it known that those are which cannot be read.
            if let Err(Refusal::Table(table)) = translated {
                return self.stop(Stop::Unknown(Unknown::Table(table)));
            }
            // No entry in the producer's tables mends these.
            let lost = lost.then_some(Stop::Exception { rip: regs.rip, vector: 14 });
            return self.stop(lost.unwrap_or(Stop::Reached { cr3: regs.cr3 }));
        }
        (self.cr3, self.paging_on) = (regs.cr3, on);
        let mapped = match translated {
            Ok(mapped) => mapped,
            Err(Refusal::PageFault { code }) => {
                // The instruction's own address, or that of the page it reaches into.
                let fetches_here = access == Access::Fetch && regs.rip & !(PAGE - 1) == page;
                let cr2 = if fetches_here { regs.rip } else { page };
                self.stop = Some(Stop::PageFault { rip: regs.rip, cr2, code, access });
                return Fill::Fault;
            }
            Err(Refusal::NotCanonical) => {
                return self.stop(Stop::Exception { rip: regs.rip, vector: 13 });
            }
            Err(Refusal::Table(table)) => {
                return self.stop(Stop::Unknown(Unknown::Table(table)));
            }
        };
        let loaded = self.touch(regs, mapped.phys, access);
        let fill = self.frame(regs, &mapped, access, loaded);
        if let (Fill::Frame { frame, .. }, Access::Fetch) = (fill, access) {
            self.code.insert(page, frame);
            self.last_code = (page, frame);
        }
        fill
    }

    fn frame(&mut self, regs: &Regs, mapped: &Mapped, access: Access, loaded: bool) -> Fill {
        let fetch = access == Access::Fetch;
        let limit = self.scene.limits.memory;
        let Ok(page) = self.memory.page(mapped.phys) else {
            return self.stop(Stop::Unknown(Unknown::Memory { limit }));
        };
        if fetch && page.is_tracked() {
            if page.executed {
                // The engine may keep translations of what the page held before.
                return self.stop(Stop::Unknown(Unknown::Engine(CODE_CHANGED.to_owned())));
            }
            if !self.memory.settle(mapped.phys) {
                return self.needs_content(mapped.phys, PAGE, access, regs.rip);
            }
        }
        let Ok(page) = self.memory.page(mapped.phys) else {
            return self.stop(Stop::Unknown(Unknown::Memory { limit }));
        };
        page.executed |= fetch;
        let (frame, tracked) = (page.frame, page.is_tracked());
        // Elsewhere every kind of access shall be seen once.
        let (read, written) = if loaded { (true, true) } else { self.seen(mapped.phys) };
        Fill::Frame {
            frame,
            tracked,
            read,
            write: mapped.write && written,
            // A page that was read may be run without a question otherwise, and what runs there would not be known.
            execute: mapped.execute && !tracked && fetch,
        }
    }

    /// Whether a page outside of what was loaded was read, and written, by now.
    fn seen(&self, phys: PhysAddr) -> (bool, bool) {
        let page = phys.align_down(PageSize::Size4K).get();
        self.touched.get(&page).map_or((false, false), |touch| (touch.read, touch.written))
    }

    /// The address of a page fault, where the engine knows it to the byte.
    pub(crate) fn fault_address(&mut self, in_page: u64) {
        if let Some(Stop::PageFault { cr2, .. }) = &mut self.stop {
            *cr2 = *cr2 & !(PAGE - 1) | in_page & (PAGE - 1);
        }
    }

    /// A read of a tracked page: the bytes, little-endian. What is not known may only be copied.
    pub(crate) fn tracked_read(
        &mut self,
        regs: &Regs,
        more: &More<'_>,
        (frame, at): (u32, usize),
        size: usize,
    ) -> u64 {
        if self.stop.is_some() {
            return 0;
        }
        let size = size.min(8);
        let mut bytes = [0; 8];
        let known = self.memory.read_frame(frame, at, &mut bytes[..size]);
        let value = u64::from_le_bytes(bytes);
        let Some(first) = known.iter().position(|known| !known) else { return value };
        let Some((page, _)) = self.memory.owner(frame) else { return value };
        // Outside of 64-bit mode no instruction with a REX prefix's byte at its start reads memory, and
        // those without mean the same.
        let reading = self.instruction(regs, true).map_or(Reading::Use, |i| carried::reading(&i));
        match reading {
            Reading::Load(register) => {
                self.carried.load(register);
                self.watched = None;
            }
            Reading::Copy(width) => {
                let (source, target) = ((more.register)(RSI), (more.register)(RDI));
                for (i, _) in known.iter().enumerate().filter(|(_, known)| !**known) {
                    // An access that crosses a page is made of two wider ones.
                    let offset = ((at + i) as u64).wrapping_sub(source) % PAGE;
                    if offset < width {
                        self.will_copy(regs, target.wrapping_add(offset));
                    }
                }
            }
            Reading::Use => {
                let start = page.checked_add((at + first) as u64).unwrap_or(page);
                let count = known.iter().filter(|known| !**known).count();
                self.needs_content(start, count as u64, Access::Read, regs.rip);
            }
        }
        value
    }

    /// Whether the next instructions have to be looked at one by one: [`watch`](Self::watch).
    pub(crate) fn carries(&self) -> bool {
        !self.carried.is_empty()
    }

    /// An instruction is about to run while registers hold something that is not known.
    /// `len`: its bytes, as the engine decoded it.
    pub(crate) fn watch(&mut self, regs: &Regs, len: u32, more: &More<'_>) {
        // A further round of a repeated string instruction does what the first one did.
        if self.watched == Some(regs.rip) {
            return;
        }
        self.watched = None;
        // The engine does not tell its mode, but it tells the length, and that differs where REX prefixes
        // do. What is left that differs is an address relative to RIP, outside of 64-bit mode none.
        let decoded =
            |is_64bit| self.instruction(regs, is_64bit).filter(|found| found.len() == len as usize);
        let instruction = match (decoded(true), decoded(false)) {
            (_, narrow) if regs.cr0 & CR0_PG == 0 => narrow,
            (Some(wide), Some(_)) if wide.is_ip_rel_memory_operand() => None,
            (wide, narrow) => wide.or(narrow),
        };
        let step = instruction
            .map_or(Step::Use, |instruction| self.carried.step(&instruction, more.register));
        match step {
            Step::Fine => self.watched = Some(regs.rip),
            Step::Store(target, size) => {
                for at in 0..size {
                    self.will_copy(regs, target.wrapping_add(at));
                }
            }
            Step::Use => {
                let rip = VirtAddr::new(regs.rip);
                self.stop(Stop::Unknown(Unknown::Register { rip }));
            }
        }
    }

    /// The byte at `target` is about to be written with something that is not known.
    fn will_copy(&mut self, regs: &Regs, target: u64) {
        // A target that is not mapped faults by itself.
        let Ok(mapped) = self.translate(regs, target, Access::Write) else { return };
        let Ok(new) = self.memory.track(mapped.phys) else {
            let limit = self.scene.limits.memory;
            self.stop(Stop::Unknown(Unknown::Memory { limit }));
            return;
        };
        self.flush |= new;
        if new && self.runs_near(regs, mapped.phys) {
            self.stop(Stop::Unknown(Unknown::Engine(CODE_CHANGED.to_owned())));
        }
        self.copies.insert(mapped.phys.get());
    }

    /// Whether code runs in the page of `phys`, or in the one before and may run on into it. Only
    /// there the engine goes from code to code without asking for a page; elsewhere a fetch from a
    /// page that is tracked is seen.
    fn runs_near(&self, regs: &Regs, phys: PhysAddr) -> bool {
        let page = phys.get() / PAGE;
        self.translate(regs, regs.rip, Access::Fetch).is_ok_and(|mapped| {
            let running = mapped.phys.get() / PAGE;
            running == page || running + 1 == page
        }) && self.memory.is_executed(phys)
    }

    /// A write to a tracked page.
    pub(crate) fn tracked_write(&mut self, frame: u32, at: usize, size: usize, value: u64) {
        if self.stop.is_some() {
            return;
        }
        let Some((page, _)) = self.memory.owner(frame) else { return };
        for (i, byte) in value.to_le_bytes().into_iter().take(size).enumerate() {
            let copied = self.copies.remove(&(page.get() + (at + i) as u64));
            self.memory.write_frame(frame, at + i, byte, !copied);
        }
    }

    /// CPUID; zeros and a stop where the answer is not known.
    pub(crate) fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        match self.scene.cpu.cpuid(leaf, subleaf) {
            Ok(answer) => answer,
            Err(fact) => {
                self.stop(Stop::Unknown(Unknown::Cpu(fact)));
                [0; 4]
            }
        }
    }

    /// The frame that code at `address` runs in, if it was fetched from.
    pub(crate) fn code_frame(&mut self, address: u64) -> Option<u32> {
        let page = address & !(PAGE - 1);
        if self.last_code.0 != page {
            self.last_code = (page, *self.code.get(&page)?);
        }
        Some(self.last_code.1)
    }

    /// Stops the run, unless it has stopped already.
    pub(crate) fn stop(&mut self, stop: Stop) -> Fill {
        self.stop.get_or_insert(stop);
        Fill::Stop
    }

    /// Where an address lies in what was loaded.
    pub(crate) fn image_place(&self, addr: u64) -> Option<ImagePlace> {
        let addr = PhysAddr::new(addr)?;
        let content = self.memory.content(addr).filter(|content| content.loaded)?;
        let offset = addr.get() - content.range.start().get();
        Some(ImagePlace { name: content.name.clone(), offset })
    }

    /// How the processor reads tables at this moment.
    pub(crate) fn paging(&self, regs: &Regs) -> Paging {
        let five = regs.cr4 & CR4_LA57 != 0;
        let levels = if five { Levels::Five } else { Levels::Four };
        Paging { levels, ..self.scene.paging }
    }

    /// The root table at this moment.
    pub(crate) fn root(&self, regs: &Regs) -> PhysAddr {
        let root = regs.cr3 & CR3_ADDRESS & !self.scene.paging.encryption_mask;
        PhysAddr::new(root).unwrap_or(PhysAddr::ZERO)
    }

    /// Whether CR3 holds what a processor does not take: bits above the width of an address; bit 63 is a
    /// command where PCIDs are on (SDM vol. 2B, "MOV—Move to/from Control Registers").
    fn reserved_in_cr3(&self, regs: &Regs) -> bool {
        let paging = &self.scene.paging;
        let width = (1 << paging.maxphyaddr.min(52)) - 1;
        let address = width | paging.encryption_mask;
        let command = if regs.cr4 & CR4_PCIDE != 0 { 1 << 63 } else { 0 };
        regs.cr3 & !address & !command != 0
    }

    /// Whether tables of the producer are still in use under the current root.
    fn leads_to_producer(&self, regs: &Regs) -> bool {
        /// More than any early kernel has of its own (`BOOT_PGT_SIZE` in
        /// `arch/x86/include/asm/boot.h`, 32 pages in 6.12).
        const MOST_TABLES: usize = 4096;
        let paging = self.paging(regs);
        let mut left = vec![(paging.levels.root(), self.root(regs))];
        let mut seen = HashSet::new();
        while let Some((level, table)) = left.pop() {
            if self.scene.tables.iter().any(|range| range.contains(table)) {
                return true;
            }
            if seen.len() > MOST_TABLES {
                // Not all of them are looked at: they may lead there.
                return true;
            }
            if !seen.insert((level, table)) {
                continue;
            }
            for index in 0..512 {
                // A table that cannot be read is none of the producer's: those are known.
                let Ok(entry) = self.memory.entry(table, index) else { break };
                if let Decoded::Table { level, table } = paging.decode(level, entry) {
                    left.push((level, table));
                }
            }
        }
        false
    }

    pub(crate) fn translate(
        &self,
        regs: &Regs,
        virt: u64,
        access: Access,
    ) -> Result<Mapped, Refusal> {
        if regs.cr0 & CR0_PG == 0 {
            // 32 bits of address are left without paging.
            let phys = PhysAddr::new(virt & 0xffff_ffff).unwrap_or(PhysAddr::ZERO);
            return Ok(Mapped { phys, write: true, execute: true });
        }
        let fetch = access == Access::Fetch;
        // SDM vol. 3A, 4.7.
        let kind = if access == Access::Write { 2 } else { 0 };
        let kind = if fetch && self.scene.paging.nxe { kind | 16 } else { kind };
        let walked = walk(&self.memory, self.root(regs), &self.paging(regs), VirtAddr::new(virt));
        match walked.end() {
            WalkEnd::Mapped { phys, rights, .. } => {
                let write = rights.write || regs.cr0 & CR0_WP == 0;
                let smep = fetch && rights.user && regs.cr4 & CR4_SMEP != 0;
                if access == Access::Write && !write || fetch && !rights.execute || smep {
                    return Err(Refusal::PageFault { code: kind | 1 });
                }
                Ok(Mapped { phys, write, execute: rights.execute })
            }
            WalkEnd::NotPresent => Err(Refusal::PageFault { code: kind }),
            WalkEnd::Reserved { .. } => Err(Refusal::PageFault { code: kind | 9 }),
            WalkEnd::Unreadable { table, .. } => Err(Refusal::Table(table)),
            WalkEnd::NotCanonical => Err(Refusal::NotCanonical),
        }
    }

    /// Notes a touch outside of what was loaded; whether it is inside.
    pub(crate) fn touch(&mut self, regs: &Regs, phys: PhysAddr, access: Access) -> bool {
        let page = phys.align_down(PageSize::Size4K);
        let last = page.checked_add(PAGE - 1).unwrap_or(page);
        let inside = |addr| self.memory.content(addr).is_some_and(|content| content.loaded);
        if inside(page) && inside(last) {
            return true;
        }
        let at = self.image_place(regs.rip);
        // Which of the things on a page was meant is not known; the first that has a name.
        let named = self
            .scene
            .contents
            .iter()
            .filter(|c| c.range.start() <= last && c.range.last() >= page);
        let what = named
            .map(|c| (c.range, c.name.clone()))
            .next()
            .or_else(|| self.scene.place(page).map(|(range, name)| (range, name.to_owned())));
        let touch = self.touched.entry(page.get()).or_insert(Touch {
            page,
            first: access,
            rip: VirtAddr::new(regs.rip),
            at,
            read: false,
            written: false,
            executed: false,
            what,
        });
        match access {
            Access::Read => touch.read = true,
            Access::Write => touch.written = true,
            Access::Fetch => touch.executed = true,
        }
        false
    }

    fn needs_content(&mut self, start: PhysAddr, len: u64, access: Access, rip: u64) -> Fill {
        match self.content(start, len, access, rip) {
            Some(why) => self.stop(Stop::Unknown(why)),
            None => Fill::Stop,
        }
    }

    pub(crate) fn content(
        &self,
        start: PhysAddr,
        len: u64,
        access: Access,
        rip: u64,
    ) -> Option<Unknown> {
        let range = identmap::PhysRange::from_len(start.get(), len).ok()?;
        let what = self.scene.place(start).map(|(_, name)| name.to_owned());
        Some(Unknown::Content { range, access, rip: VirtAddr::new(rip), what })
    }

    /// The instruction at RIP, if all of it can be read.
    pub(crate) fn instruction(&self, regs: &Regs, is_64bit: bool) -> Option<Instruction> {
        carried::decode(&self.code_at(regs), regs.rip, is_64bit)
    }

    /// As many bytes as the longest instruction has, or as can be read.
    pub(crate) fn code_at(&self, regs: &Regs) -> Vec<u8> {
        let mut code = Vec::with_capacity(15);
        for at in 0..15 {
            let rip = regs.rip.wrapping_add(at);
            let byte = self
                .translate(regs, rip, Access::Fetch)
                .ok()
                .and_then(|mapped| self.memory.read::<1>(mapped.phys));
            let Some([byte]) = byte else { break };
            code.push(byte);
        }
        code
    }
}

/// What only some callbacks ask for.
pub(crate) struct More<'a> {
    /// A general-purpose register by its number in an instruction.
    pub(crate) register: &'a dyn Fn(usize) -> u64,
    /// CS, and base and limit of the GDT.
    pub(crate) segment: &'a dyn Fn() -> (u16, (u64, u64)),
}
