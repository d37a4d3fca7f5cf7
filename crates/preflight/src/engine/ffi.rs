//! The binding to Unicorn's C interface: the only file here with `unsafe`.
//!
//! The emulator's own memory management is not used. Its memory is one block of frames
//! ([`Frames`]) that appears at two places of its physical address space: as ordinary memory, and,
//! page by page as the guest asks for it, as a device that calls back for every access. Every
//! translation is a callback too (`UC_TLB_VIRTUAL`).
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::time::Instant;

use identmap::VirtAddr;
use unicorn_engine_sys as uc;
use unicorn_engine_sys::{ControlType, HookType, MemType, Prot, RegisterX86, uc_engine, uc_error};

use crate::delivery::Interrupted;
use crate::guest::{Fill, Guest, More, Regs, Stop};
use crate::outcome::{Access, Unknown};
use crate::processor::{EFER, efer_at_entry};
use crate::scene::{CR4_LA57, CR4_PAE, Scene};

/// Where frames appear as a device: 64 GiB, above any block of frames.
const TRACKED: u64 = 1 << 36;
/// Where nothing is: a translation to here makes the emulator report the full address.
const NOWHERE: u64 = 1 << 38;
/// Bytes for translated code.
const CODE_BUFFER: u32 = 64 << 20;
/// How many instructions between two looks at the clock.
const CLOCK_EVERY: u64 = 1 << 16;
const PAGE: u64 = 4096;
/// Where a run would end by itself: nowhere, since it is not canonical. The emulator asks for a
/// translation of it, and of the byte before, when a run is over.
const UNTIL: u64 = 0x8000_0000_dead_8000;

/// A block of zeroed pages that the emulator and the guest share.
///
/// Invariant: `base` is on a page boundary in an allocation of [`layout`] at `start`, and `count`
/// pages follow it there. They are reached through raw pointers only, here and in the emulator.
pub(crate) struct Frames {
    start: NonNull<u8>,
    base: NonNull<u8>,
    count: usize,
}

/// One page more than asked for, to find a page boundary in. To ask the allocator for the boundary
/// would make it write zeros to all of the block instead of taking fresh memory from the kernel.
fn layout(count: usize) -> Option<Layout> {
    Layout::from_size_align(count.checked_add(1)?.checked_mul(PAGE as usize)?, 16).ok()
}

impl Frames {
    /// `None` for none at all, or more than can be had.
    pub(crate) fn new(count: usize) -> Option<Frames> {
        let layout =
            layout(count).filter(|layout| count != 0 && layout.size() as u64 <= TRACKED)?;
        // SAFETY: the size of the layout is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = start.as_ptr().align_offset(PAGE as usize);
        if skip > PAGE as usize {
            return None;
        }
        // SAFETY: at most one page from the start, and the allocation has `count + 1`.
        let base = unsafe { start.add(skip) };
        Some(Frames { start, base, count })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Reads from a byte offset; what lies outside is left as it is.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) {
        if let Some(from) = self.at(offset, bytes.len()) {
            // SAFETY: `at` checked that the source lies in the block; `bytes` is a Rust slice, which
            // cannot overlap it, because no slice of the block is ever made.
            unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) }
        }
    }

    /// Writes to a byte offset; what lies outside is not written.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        if let Some(to) = self.at(offset, bytes.len()) {
            // SAFETY: as in `read`, with the directions exchanged. The emulator runs on this thread
            // and is either not running or inside a callback, so nobody else uses the block now.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
        }
    }

    fn at(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(len)?;
        // SAFETY: `offset` lies in the block, or one past its end with `len` 0.
        (end <= self.count * PAGE as usize).then(|| unsafe { self.base.as_ptr().add(offset) })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(layout) = layout(self.count) {
            // SAFETY: allocated in `new` with this layout. The emulator is closed before its guest
            // is dropped (`Session`), so nothing refers to it any more.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// How an emulation ended, besides what the guest knows.
pub(crate) struct End {
    pub(crate) regs: Regs,
    pub(crate) rsp: u64,
    pub(crate) rflags: u64,
    /// Base and limit of the IDT.
    pub(crate) idt: (u64, u64),
    /// The same of the GDT.
    pub(crate) gdt: (u64, u64),
    pub(crate) cs: u16,
    pub(crate) ss: u16,
    /// What the emulator says, where the guest did not stop it.
    pub(crate) error: Option<String>,
}

impl End {
    /// The state that an exception saves.
    pub(crate) fn interrupted(&self) -> Interrupted {
        let End { regs, rsp, rflags, idt, gdt, cs, ss, .. } = *self;
        Interrupted { regs, rsp, rflags, idt, gdt, cs, ss }
    }
}

/// What callbacks work on. Owned by [`Session`] and reached by callbacks through one raw pointer,
/// only while `uc_emu_start` runs; there is no other reference to it then.
struct Shared<'a> {
    guest: Guest<'a>,
    instructions: u64,
    deadline: Instant,
}

/// An emulator with a guest in it.
pub(crate) struct Session<'a> {
    engine: *mut uc_engine,
    shared: *mut Shared<'a>,
}

impl<'a> Session<'a> {
    /// Sets up an emulator as the scene says.
    ///
    /// # Errors
    /// What the emulator has to say.
    pub(crate) fn new(scene: &'a Scene) -> Result<Session<'a>, String> {
        let guest = Guest::new(scene).ok_or("no memory for the guest")?;
        let deadline = Instant::now() + scene.limits.time;
        let mut engine = ptr::null_mut();
        // SAFETY: `engine` is a valid place for a pointer.
        check(unsafe { uc::uc_open(uc::Arch::X86, uc::Mode::MODE_64, &raw mut engine) })?;
        let shared = Box::into_raw(Box::new(Shared { guest, instructions: 0, deadline }));
        // From here on dropping closes and frees.
        let session = Session { engine, shared };
        session.configure(scene)?;
        Ok(session)
    }

    fn configure(&self, scene: &Scene) -> Result<(), String> {
        let engine = self.engine;
        // A processor with LA57, so that CR4 takes it; what CPUID says is ours.
        let model = uc::X86CpuModel::ICELAKE_SERVER as c_int;
        // SAFETY: each of these controls takes one int-sized argument to write
        // (unicorn.h, `uc_control_type`), and the engine is open.
        unsafe {
            check(uc::uc_ctl(engine, control(ControlType::CPU_MODEL, 1, WRITE), model))?;
            check(uc::uc_ctl(
                engine,
                control(ControlType::TCG_BUFFER_SIZE, 1, WRITE),
                CODE_BUFFER,
            ))?;
            let tlb = uc::TlbType::VIRTUAL as c_int;
            check(uc::uc_ctl(engine, control(ControlType::TLB_TYPE, 1, WRITE), tlb))?;
        }
        // SAFETY: `shared` came from `Box::into_raw` and is freed only by dropping this session; the
        // emulator does not run, so nobody else uses it.
        let frames = unsafe { &*self.shared }.guest.memory.frames();
        let (base, len) = (frames.base.as_ptr().cast::<c_void>(), frames.count as u64 * PAGE);
        let user: *mut c_void = self.shared.cast();
        // SAFETY: `base` and `len` describe the block, which lives until the engine is closed; the
        // callbacks have the types that unicorn.h declares and get the session's own pointer.
        unsafe {
            check(uc::uc_mem_map_ptr(engine, 0, len, Prot::ALL.0, base))?;
            check(uc::uc_mmio_map(
                engine,
                TRACKED,
                len,
                Some(on_tracked_read),
                user,
                Some(on_tracked_write),
                user,
            ))?;
        }
        self.hook(HookType::TLB_FILL, on_fill as *mut c_void)?;
        self.hook(HookType::CODE, on_instruction as *mut c_void)?;
        self.hook(HookType::INTR, on_exception as *mut c_void)?;
        self.hook(HookType::INSN_INVALID, on_invalid as *mut c_void)?;
        self.hook(HookType::MEM_READ_UNMAPPED, on_nowhere as *mut c_void)?;
        self.hook(HookType::MEM_WRITE_UNMAPPED, on_nowhere as *mut c_void)?;
        self.hook_instruction(uc::X86Insn::CPUID, on_cpuid as *mut c_void)?;
        self.hook_instruction(uc::X86Insn::IN, on_in as *mut c_void)?;
        self.set(RegisterX86::RSI, scene.rsi)?;
        self.set(RegisterX86::RSP, scene.rsp)?;
        let five = scene.paging.levels == identmap::Levels::Five;
        self.set(RegisterX86::CR4, if five { CR4_PAE | CR4_LA57 } else { CR4_PAE })?;
        self.set(RegisterX86::CR3, scene.root.get())?;
        self.set_msr(EFER, efer_at_entry(scene.paging.nxe))?;
        self.set(RegisterX86::CR0, scene.cr0)
    }

    fn set_msr(&self, rid: u32, value: u64) -> Result<(), String> {
        let msr = uc::uc_x86_msr { rid, value };
        let register = RegisterX86::MSR as c_int;
        // SAFETY: this register is read as a `uc_x86_msr` (unicorn/x86.h), and the engine is open.
        check(unsafe { uc::uc_reg_write(self.engine, register, (&raw const msr).cast()) })
    }

    /// Runs from an address until something stops it.
    pub(crate) fn run(&mut self, from: u64) -> End {
        // SAFETY: the engine is open; callbacks are the only users of `shared` until it returns.
        let error = unsafe { uc::uc_emu_start(self.engine, from, UNTIL, 0, 0) };
        End {
            regs: regs(self.engine),
            rsp: get(self.engine, RegisterX86::RSP),
            rflags: get(self.engine, RegisterX86::RFLAGS),
            idt: table(self.engine, RegisterX86::IDTR),
            gdt: table(self.engine, RegisterX86::GDTR),
            cs: get(self.engine, RegisterX86::CS) as u16,
            ss: get(self.engine, RegisterX86::SS) as u16,
            error: (error != uc_error::OK).then(|| error.to_string()),
        }
    }

    /// The guest, while the emulator does not run.
    pub(crate) fn guest(&mut self) -> &mut Guest<'a> {
        // SAFETY: `&mut self` proves that `run` is not on the stack, so no callback is either.
        unsafe { &mut (*self.shared).guest }
    }

    /// Instructions run so far.
    pub(crate) fn instructions(&self) -> u64 {
        // SAFETY: as in `guest`; `run` takes `&mut self`.
        unsafe { (*self.shared).instructions }
    }

    /// Sets a register, while the emulator does not run.
    pub(crate) fn set(&self, register: RegisterX86, value: u64) -> Result<(), String> {
        // SAFETY: every register used here is read as 64 bits in 64-bit mode (unicorn/x86.h).
        check(unsafe {
            uc::uc_reg_write(self.engine, register as c_int, (&raw const value).cast())
        })
    }

    fn hook(&self, kind: HookType, callback: *mut c_void) -> Result<(), String> {
        let mut id = 0;
        // SAFETY: `callback` has the type that unicorn.h declares for this kind of hook; `shared` lives
        // until the engine is closed. Begin above end: for every address.
        check(unsafe {
            let user = self.shared.cast();
            uc::uc_hook_add(self.engine, &raw mut id, kind.0.cast_signed(), callback, user, 1, 0)
        })
    }

    fn hook_instruction(&self, which: uc::X86Insn, callback: *mut c_void) -> Result<(), String> {
        let mut id = 0;
        // SAFETY: as in `hook`; this kind takes the instruction as a further argument.
        check(unsafe {
            let (user, kind) = (self.shared.cast(), HookType::INSN.0.cast_signed());
            uc::uc_hook_add(
                self.engine,
                &raw mut id,
                kind,
                callback,
                user,
                1_u64,
                0_u64,
                which as c_int,
            )
        })
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are used nowhere else. The engine goes first: it refers
        // to the guest's frames.
        unsafe {
            uc::uc_close(self.engine);
            drop(Box::from_raw(self.shared));
        }
    }
}

const WRITE: u32 = 1;

/// `UC_CTL(type, nr, rw)` of unicorn.h, a macro.
fn control(kind: ControlType, arguments: u32, direction: u32) -> ControlType {
    ControlType(kind.0 | arguments << 26 | direction << 30)
}

fn check(error: uc_error) -> Result<(), String> {
    if error == uc_error::OK { Ok(()) } else { Err(error.to_string()) }
}

fn get(engine: *mut uc_engine, register: RegisterX86) -> u64 {
    let mut value = 0_u64;
    // SAFETY: `engine` is open, and every register used here is written as at most 64 bits.
    unsafe { uc::uc_reg_read(engine, register as c_int, (&raw mut value).cast()) };
    value
}

fn put(engine: *mut uc_engine, register: RegisterX86, value: u64) {
    // SAFETY: as in `get`, the other way round.
    unsafe { uc::uc_reg_write(engine, register as c_int, (&raw const value).cast()) };
}

fn regs(engine: *mut uc_engine) -> Regs {
    Regs {
        rip: get(engine, RegisterX86::RIP),
        cr0: get(engine, RegisterX86::CR0),
        cr3: get(engine, RegisterX86::CR3),
        cr4: get(engine, RegisterX86::CR4),
    }
}

fn with_more<T>(engine: *mut uc_engine, use_more: impl FnOnce(&More<'_>) -> T) -> T {
    // In the order of their numbers in an instruction (SDM vol. 2A, table 2-2).
    const NUMBERED: [RegisterX86; 16] = [
        RegisterX86::RAX,
        RegisterX86::RCX,
        RegisterX86::RDX,
        RegisterX86::RBX,
        RegisterX86::RSP,
        RegisterX86::RBP,
        RegisterX86::RSI,
        RegisterX86::RDI,
        RegisterX86::R8,
        RegisterX86::R9,
        RegisterX86::R10,
        RegisterX86::R11,
        RegisterX86::R12,
        RegisterX86::R13,
        RegisterX86::R14,
        RegisterX86::R15,
    ];
    let register =
        |number: usize| NUMBERED.get(number).map_or(0, |&register| get(engine, register));
    let segment = || (get(engine, RegisterX86::CS) as u16, table(engine, RegisterX86::GDTR));
    use_more(&More { register: &register, segment: &segment })
}

/// Base and limit that IDTR or GDTR holds.
fn table(engine: *mut uc_engine, register: RegisterX86) -> (u64, u64) {
    let mut table = uc::uc_x86_mmr { selector: 0, base: 0, limit: 0, flags: 0 };
    // SAFETY: both are read into a `uc_x86_mmr` (unicorn/x86.h), and `engine` is open.
    unsafe { uc::uc_reg_read(engine, register as c_int, (&raw mut table).cast()) };
    (table.base, u64::from(table.limit))
}

/// Makes the emulator forget translations, where the guest has made some void. A copy of something
/// unknown that is not seen would count as known, so a flush that fails ends the run.
fn flush(engine: *mut uc_engine, guest: &mut Guest<'_>) {
    if !std::mem::take(&mut guest.flush) {
        return;
    }
    // SAFETY: this control takes no argument and has to be a write (`uc_ctl_flush_tlb` of unicorn.h);
    // `engine` is open.
    let flushed = check(unsafe { uc::uc_ctl(engine, control(ControlType::TLB_FLUSH, 0, WRITE)) });
    if let Err(why) = flushed {
        guest.stop(Stop::Unknown(Unknown::Engine(why)));
    }
}

fn halt(engine: *mut uc_engine) {
    // SAFETY: `engine` is open.
    unsafe { uc::uc_emu_stop(engine) };
}

/// What a callback works on.
///
/// # Safety
/// `user` is the pointer given to the engine in [`Session::configure`], and the caller is a callback
/// of that engine, which runs none at the same time.
unsafe fn shared<'s, 'a>(user: *mut c_void) -> &'s mut Shared<'a> {
    // SAFETY: see above: it points to a live `Shared` that nobody else refers to.
    unsafe { &mut *user.cast::<Shared<'a>>() }
}

extern "C" fn on_fill(
    engine: *mut uc_engine,
    page: u64,
    kind: MemType,
    entry: *mut uc::TlbEntry,
    user: *mut c_void,
) -> bool {
    if page >> 16 == UNTIL >> 16 {
        // To refuse it would be an exception outside of any run. Nobody gets to execute it: a
        // jump there is refused by the address, which is not mapped.
        // SAFETY: the engine passes a valid place for the answer.
        unsafe { entry.write(uc::TlbEntry { paddr: NOWHERE, perms: Prot::EXEC }) };
        return true;
    }
    // SAFETY: called by the engine with our pointer.
    let guest = &mut unsafe { shared(user) }.guest;
    let access = match kind {
        MemType::WRITE => Access::Write,
        MemType::FETCH => Access::Fetch,
        _ => Access::Read,
    };
    let (paddr, perms) = match guest.fill(&regs(engine), page, access) {
        Fill::Frame { frame, tracked, read, write, execute } => {
            let base = if tracked { TRACKED } else { 0 };
            let allowed = [(read, Prot::READ), (write, Prot::WRITE), (execute, Prot::EXEC)];
            let perms = allowed.iter().filter(|(yes, _)| *yes).fold(0, |bits, (_, p)| bits | p.0);
            (base + u64::from(frame) * PAGE, perms)
        }
        // A fetch reports its address by itself.
        Fill::Fault if access == Access::Fetch => return false,
        Fill::Fault => (NOWHERE, Prot::READ.0 | Prot::WRITE.0),
        Fill::Stop => return false,
    };
    // SAFETY: the engine passes a valid place for the answer.
    unsafe { entry.write(uc::TlbEntry { paddr, perms: Prot(perms) }) };
    true
}

extern "C" fn on_nowhere(
    _: *mut uc_engine,
    _: MemType,
    address: u64,
    _: c_int,
    _: i64,
    user: *mut c_void,
) -> bool {
    // SAFETY: called by the engine with our pointer.
    unsafe { shared(user) }.guest.fault_address(address);
    false
}

extern "C" fn on_instruction(engine: *mut uc_engine, address: u64, len: u32, user: *mut c_void) {
    // SAFETY: called by the engine with our pointer.
    let shared = unsafe { shared(user) };
    shared.instructions += 1;
    let rip = VirtAddr::new(address);
    let limit = shared.guest.scene.limits.instructions;
    if shared.instructions > limit {
        shared.guest.stop(Stop::Unknown(Unknown::Instructions { limit, rip }));
    } else if shared.instructions.is_multiple_of(CLOCK_EVERY) && Instant::now() > shared.deadline {
        shared.guest.stop(Stop::Unknown(Unknown::Time { rip: Some(rip) }));
    }
    if shared.guest.concerned(address, len as usize) {
        let regs = Regs { rip: address, ..regs(engine) };
        with_more(engine, |more| shared.guest.ruled(&regs, len as usize, more));
    }
    if shared.guest.carries() {
        let regs = Regs { rip: address, ..regs(engine) };
        with_more(engine, |more| shared.guest.watch(&regs, len, more));
        flush(engine, &mut shared.guest);
    }
    if shared.guest.stop.is_some() {
        halt(engine);
    }
}

extern "C" fn on_exception(engine: *mut uc_engine, vector: u32, user: *mut c_void) {
    // SAFETY: called by the engine with our pointer.
    let guest = &mut unsafe { shared(user) }.guest;
    let rip = get(engine, RegisterX86::RIP);
    guest.stop(match u8::try_from(vector) {
        Ok(vector) => Stop::Exception { rip, vector },
        Err(_) => Stop::Unknown(Unknown::Engine(format!("event {vector:#x}"))),
    });
    halt(engine);
}

/// An instruction that does not exist.
extern "C" fn on_invalid(engine: *mut uc_engine, user: *mut c_void) -> bool {
    // SAFETY: called by the engine with our pointer.
    let guest = &mut unsafe { shared(user) }.guest;
    let rip = get(engine, RegisterX86::RIP);
    guest.stop(Stop::Exception { rip, vector: 6 });
    false
}

extern "C" fn on_cpuid(engine: *mut uc_engine, user: *mut c_void) -> c_int {
    // SAFETY: called by the engine with our pointer.
    let guest = &mut unsafe { shared(user) }.guest;
    let leaf = get(engine, RegisterX86::RAX) as u32;
    let subleaf = get(engine, RegisterX86::RCX) as u32;
    let answer = guest.cpuid(leaf, subleaf);
    let registers = [RegisterX86::RAX, RegisterX86::RBX, RegisterX86::RCX, RegisterX86::RDX];
    for (register, value) in registers.into_iter().zip(answer) {
        put(engine, register, u64::from(value));
    }
    1
}

/// Nobody answers at any port.
extern "C" fn on_in(_: *mut uc_engine, _: u32, size: c_int, _: *mut c_void) -> u32 {
    if size >= 4 { u32::MAX } else { (1 << (8 * size.max(1))) - 1 }
}

extern "C" fn on_tracked_read(
    engine: *mut uc_engine,
    offset: u64,
    size: c_uint,
    user: *mut c_void,
) -> u64 {
    // SAFETY: called by the engine with our pointer.
    let guest = &mut unsafe { shared(user) }.guest;
    let place = ((offset / PAGE) as u32, (offset % PAGE) as usize);
    let value =
        with_more(engine, |more| guest.tracked_read(&regs(engine), more, place, size as usize));
    flush(engine, guest);
    value
}

extern "C" fn on_tracked_write(
    _: *mut uc_engine,
    offset: u64,
    size: c_uint,
    value: u64,
    user: *mut c_void,
) {
    // SAFETY: called by the engine with our pointer.
    let guest = &mut unsafe { shared(user) }.guest;
    let (frame, at) = ((offset / PAGE) as u32, (offset % PAGE) as usize);
    guest.tracked_write(frame, at, size as usize, value);
}
