//! The functions that C calls. The only file with `unsafe`.
//!
//! Every function has the same contract, here once and in the header in C's words:
//!
//! - A pointer that is not null points to as many elements as the length beside it says, readable,
//!   and writable where the type says so, for the length of the call, and nobody else writes there.
//! - What is checked all the same: null where something is needed, alignment, lengths that no memory
//!   has, and memory lent for writing that overlaps other memory of the same call.
//! - Results are written last, one whole struct at a time; `error` may be null.
#![allow(unsafe_code, reason = "pointers of a C program")]
#![allow(clippy::cast_ptr_alignment, reason = "every use is checked before")]

use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;
use core::slice;

use identmap::{
    Arena, BuildError, Entry, Guard, PageSize, PhysAddr, PhysRange, Plan, Slack, Slot, Table,
    TableRead, TableWrite, Unreadable, VirtAddr,
};

use crate::abi::{Built, Config, Error, Job, Memory, Range, Reader, Run, Status, Summary, Walk};
use crate::convert::{self, Failure, Kind, List, Reach};
use crate::text::Text;

/// The name of a status, e.g. `conflict`; `unknown` for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn identmap_status_name(status: i32) -> *const c_char {
    const NAMES: [&CStr; 18] = [
        c"ok",
        c"null",
        c"misaligned",
        c"length",
        c"overlap",
        c"range",
        c"config",
        c"policy",
        c"work",
        c"runs",
        c"past-limit",
        c"not-canonical",
        c"both-halves",
        c"conflict",
        c"exhausted",
        c"memory",
        c"cut",
        c"unknown",
    ];
    let name = usize::try_from(status).ok().and_then(|index| NAMES.get(index));
    name.unwrap_or(&c"unknown").as_ptr()
}

/// Fills in what Linux's kexec uses on a machine without memory encryption. `levels` is 4 or 5;
/// `gbpages` is 0 or not.
///
/// # Safety
/// `config` is null or points to memory for a [`Config`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn identmap_kexec_config(
    config: *mut Config,
    levels: u32,
    gbpages: u32,
) -> i32 {
    if let Err(failure) = check_one(config, "config") {
        return failure.status() as i32;
    }
    let Some(filled) = convert::kexec_config(levels, gbpages != 0) else {
        return Status::Config as i32;
    };
    // SAFETY: not null, aligned; the caller vouches for the rest.
    unsafe { config.write(filled) };
    Status::Ok as i32
}

/// Plans: writes up to `run_capacity` runs, ascending, and the plan in numbers. With too little room
/// the first runs are there, the numbers too, and the status is [`Status::Runs`].
///
/// # Safety
/// As at the top of this file; `summary` and `error` may be null, `runs` if `run_capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn identmap_plan(
    job: *const Job,
    runs: *mut Run,
    run_capacity: usize,
    summary: *mut Summary,
    error: *mut Error,
) -> i32 {
    let work = || {
        let room = Span::of(runs, run_capacity, "runs")?;
        let numbers = Span::optional(summary, "summary")?;
        numbers.apart(&[room])?;
        // SAFETY: `job` is the caller's, by the contract of this function.
        let (config, parts) = unsafe { take(job, &[room, numbers]) }?;
        parts.plan(&config, |plan| {
            for (index, run) in plan.runs().take(run_capacity).enumerate() {
                // SAFETY: `index` is below the capacity of memory that was checked to be there,
                // aligned and apart from what the plan lies in.
                unsafe { runs.add(index).write(convert::run(run)) };
            }
            if !summary.is_null() {
                // SAFETY: not null, aligned; the caller vouches for the rest.
                unsafe { summary.write(convert::summary(plan)) };
            }
            let needed = plan.runs().len();
            let fits = needed <= run_capacity || (runs.is_null() && run_capacity == 0);
            if fits { Ok(()) } else { Err(Failure::Runs { needed, given: run_capacity }) }
        })
    };
    // SAFETY: `error` is the caller's.
    unsafe { finish(&work(), error) }
}

/// Plans, then builds in `tables`: `table_count` pages of 4096 bytes, the first of which is, or will
/// be, at the physical address `base`. They may hold anything before. On an error other than
/// [`Status::Exhausted`] they may be written in part.
///
/// # Safety
/// As at the top of this file; `built` and `error` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn identmap_build(
    job: *const Job,
    tables: *mut c_void,
    table_count: usize,
    base: u64,
    built: *mut Built,
    error: *mut Error,
) -> i32 {
    let work = || {
        let tables = tables.cast::<Table>();
        let room = Span::of(tables, table_count, "tables")?;
        let result = Span::optional(built, "built")?;
        result.apart(&[room])?;
        // SAFETY: `job` is the caller's, by the contract of this function.
        let (config, parts) = unsafe { take(job, &[room, result]) }?;
        // SAFETY: aligned and not null unless empty (`Span::of`), apart from all else (`take`); any
        // bytes are a `Table`; the caller vouches for the length.
        let tables = unsafe { lent_mut(tables, table_count) };
        let refused = BuildError::Memory { table: PhysAddr::new(base).unwrap_or(PhysAddr::MAX) };
        let base = PhysAddr::new(base).ok_or(refused)?;
        let mut arena = Arena::new(tables, base).map_err(|_| refused)?;
        parts.plan(&config, |plan| build(plan, &mut arena, built))
    };
    // SAFETY: `error` is the caller's.
    unsafe { finish(&work(), error) }
}

/// Plans, then builds in tables that the caller gives out one by one.
///
/// # Safety
/// As at the top of this file. What `table` returns is null or 4096 bytes of writable memory that
/// nobody else touches before the call returns; no two addresses share memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn identmap_build_with(
    job: *const Job,
    memory: *const Memory,
    built: *mut Built,
    error: *mut Error,
) -> i32 {
    let work = || {
        check_one(memory, "memory")?;
        let result = Span::optional(built, "built")?;
        // SAFETY: not null, aligned; the caller vouches for the rest.
        let memory = unsafe { memory.read() };
        let null = |name| Failure::Pointer { status: Status::Null, name };
        let mut memory = Called {
            context: memory.context,
            available: memory.available.ok_or(null("memory.available"))?,
            allocate: memory.allocate.ok_or(null("memory.allocate"))?,
            table: memory.table.ok_or(null("memory.table"))?,
        };
        // SAFETY: `job` is the caller's, by the contract of this function.
        let (config, parts) = unsafe { take(job, &[result]) }?;
        parts.plan(&config, |plan| build(plan, &mut memory, built))
    };
    // SAFETY: `error` is the caller's.
    unsafe { finish(&work(), error) }
}

/// Walks one virtual address from the table at `root` on, in tables that the caller reads.
///
/// # Safety
/// As at the top of this file; `walk` and `error` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn identmap_walk(
    config: *const Config,
    reader: *const Reader,
    root: u64,
    virt: u64,
    walk: *mut Walk,
    error: *mut Error,
) -> i32 {
    let work = || {
        Span::optional(walk, "walk")?;
        // SAFETY: both are the caller's, by the contract of this function.
        let found = unsafe { walked(config, reader, root, virt) }?;
        if !walk.is_null() {
            // SAFETY: not null, aligned; the caller vouches for the rest.
            unsafe { walk.write(convert::walk(&found)) };
        }
        Ok(())
    };
    // SAFETY: `error` is the caller's.
    unsafe { finish(&work(), error) }
}

/// The same in an image of physical memory: `bytes` bytes that begin at the physical address `base`.
///
/// # Safety
/// As at the top of this file; `walk` and `error` may be null.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "each is a number or a place; C has no other way")]
pub unsafe extern "C" fn identmap_walk_image(
    config: *const Config,
    image: *const c_void,
    bytes: usize,
    base: u64,
    root: u64,
    virt: u64,
    walk: *mut Walk,
    error: *mut Error,
) -> i32 {
    let work = || {
        Span::optional(walk, "walk")?;
        Span::of(image.cast::<u8>(), bytes, "image")?;
        // SAFETY: `config` is the caller's, by the contract of this function.
        let (config, root) = unsafe { paging(config, root) }?;
        let base = PhysAddr::new(base).ok_or(BuildError::Memory { table: PhysAddr::MAX })?;
        // SAFETY: not null unless empty; the caller vouches for the length.
        let image = unsafe { lent::<u8>(image.cast(), bytes) };
        let reader = identmap::Image::new(image, base);
        let found = identmap::walk(&reader, root, &config.paging(), VirtAddr::new(virt));
        if !walk.is_null() {
            // SAFETY: not null, aligned; the caller vouches for the rest. `found` holds no reference.
            unsafe { walk.write(convert::walk(&found)) };
        }
        Ok(())
    };
    // SAFETY: `error` is the caller's.
    unsafe { finish(&work(), error) }
}

/// Walks, and writes what was met as lines of text with a NUL at the end. 1024 bytes hold every walk.
/// With less room the text is cut, and the status is [`Status::Cut`].
///
/// # Safety
/// As at the top of this file; `text` may be null if `text_bytes` is 0; `error` may be null.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "each is a number or a place; C has no other way")]
pub unsafe extern "C" fn identmap_explain(
    config: *const Config,
    reader: *const Reader,
    root: u64,
    virt: u64,
    text: *mut c_char,
    text_bytes: usize,
    error: *mut Error,
) -> i32 {
    let work = || {
        Span::of(text, text_bytes, "text")?;
        // SAFETY: both are the caller's, by the contract of this function.
        let found = unsafe { walked(config, reader, root, virt) }?;
        // SAFETY: not null unless empty; the caller vouches for the length; any byte is a `c_char`,
        // and nothing else of the caller's is read or written while the slice lives.
        let bytes = unsafe { lent_mut(text, text_bytes) };
        let mut text = Text::new(bytes);
        // Writing to a `Text` never fails.
        let _ = convert::write_walk(&mut text, &found);
        let needed = text.needed();
        if text.is_cut() { Err(Failure::Text { needed, given: text_bytes }) } else { Ok(()) }
    };
    // SAFETY: `error` is the caller's.
    unsafe { finish(&work(), error) }
}

/// Memory of the caller's, as numbers: not null unless empty, aligned, with an end that exists.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    bytes: usize,
    name: &'static str,
}

impl Span {
    fn of<T>(pointer: *const T, count: usize, name: &'static str) -> Result<Span, Failure> {
        let wrong = |status| Err(Failure::Pointer { status, name });
        let start = pointer.addr();
        let bytes =
            count.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
        let Some(bytes) = bytes else { return wrong(Status::Length) };
        if bytes == 0 {
            return Ok(Span { start: 0, bytes, name });
        }
        if pointer.is_null() {
            return wrong(Status::Null);
        }
        if !start.is_multiple_of(align_of::<T>()) {
            return wrong(Status::Misaligned);
        }
        if start.checked_add(bytes).is_none() {
            return wrong(Status::Length);
        }
        Ok(Span { start, bytes, name })
    }

    /// One element, or none at a null pointer.
    fn optional<T>(pointer: *const T, name: &'static str) -> Result<Span, Failure> {
        Span::of(pointer, usize::from(!pointer.is_null()), name)
    }

    /// Fails if this, which is written, shares a byte with another.
    fn apart(self, others: &[Span]) -> Result<(), Failure> {
        // Both ends exist: `of` has seen to it.
        let shares = |other: &Span| {
            self.start < other.start + other.bytes && other.start < self.start + self.bytes
        };
        if others.iter().any(|other| self.bytes != 0 && other.bytes != 0 && shares(other)) {
            return Err(Failure::Pointer { status: Status::Overlap, name: self.name });
        }
        Ok(())
    }
}

fn check_one<T>(pointer: *const T, name: &'static str) -> Result<(), Failure> {
    Span::of(pointer, 1, name).map(|_| ())
}

/// # Safety
/// `count` is 0, or [`Span::of`] found nothing wrong with the pointer, as many elements as that are
/// there, and nobody writes to them while the slice lives.
unsafe fn lent<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as the caller of this says.
    unsafe { slice::from_raw_parts(pointer, count) }
}

/// # Safety
/// As [`lent`], and nobody else reads them either.
unsafe fn lent_mut<'a, T>(pointer: *mut T, count: usize) -> &'a mut [T] {
    if count == 0 {
        return &mut [];
    }
    // SAFETY: as the caller of this says.
    unsafe { slice::from_raw_parts_mut(pointer, count) }
}

/// The job, in the core's types, in the work memory.
struct Parts<'w> {
    requests: &'w [PhysRange],
    policy: identmap::Policy<'w>,
    slots: &'w mut [Slot],
}

impl Parts<'_> {
    fn plan(
        self,
        config: &identmap::Config,
        then: impl FnOnce(&Plan<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        then(&Plan::new(config, &self.policy, self.requests, self.slots)?)
    }
}

// Both lie in work memory, which is aligned for `u64`, in whole words.
const _: () = assert!(align_of::<PhysRange>() <= 8 && size_of::<PhysRange>() == 16);
const _: () = assert!(align_of::<Slot>() <= 8 && size_of::<Slot>() == 24);

/// `IDENTMAP_WORK_WORDS` of the header: the ranges, two words each, and slots, three words each. No
/// policy takes more slots than 8 a request (exact), or 7 a request and one for every other range.
fn work_words(requests: usize, others: usize) -> Option<usize> {
    requests.checked_mul(26)?.checked_add(others.checked_mul(5)?)?.checked_add(3)
}

/// Reads and checks a job; the ranges are copied to its work memory. `written` is what the caller of
/// this will write: it must be apart from what the job points to.
///
/// # Safety
/// `job` is null or points to a [`Job`] whose pointers keep the contract at the top of this file, for
/// as long as the result lives.
unsafe fn take<'w>(
    job: *const Job,
    written: &[Span],
) -> Result<(identmap::Config, Parts<'w>), Failure> {
    check_one(job, "job")?;
    // SAFETY: not null, aligned; the caller vouches for the rest. A copy: the memory of the job itself
    // may be written from here on.
    let job = unsafe { job.read() };
    let config = convert::config(&job.config)?;
    let kind = convert::kind(&job.policy)?;
    let policy = &job.policy;

    let requests = Span::of(job.requests, job.request_count, "job.requests")?;
    let forbidden = Span::of(policy.forbidden, policy.forbidden_count, "policy.forbidden")?;
    let ram = Span::of(policy.ram, policy.ram_count, "policy.ram")?;
    let work = Span::of(job.work, job.work_words, "job.work")?;
    work.apart(&[requests, forbidden, ram])?;
    for span in written {
        span.apart(&[requests, forbidden, ram, work])?;
    }
    let others = policy.forbidden_count.saturating_add(policy.ram_count);
    let needed = work_words(job.request_count, others).unwrap_or(usize::MAX);
    if job.work_words < needed {
        return Err(Failure::Work { needed, given: job.work_words });
    }

    // SAFETY: at least 3 words, so not null; aligned; apart from all else; the caller vouches for the
    // length. `MaybeUninit` asks nothing of the content.
    let words: &mut [MaybeUninit<u64>] =
        unsafe { slice::from_raw_parts_mut(job.work.cast(), job.work_words) };
    let (requests, words) =
        // SAFETY: `requests` was checked above, and is apart from the work memory.
        unsafe { ranges(words, job.requests, job.request_count, List::Requests) }?;
    let (forbidden, words) =
        // SAFETY: as above.
        unsafe { ranges(words, policy.forbidden, policy.forbidden_count, List::Forbidden) }?;
    // SAFETY: as above.
    let (ram, words) = unsafe { ranges(words, policy.ram, policy.ram_count, List::Ram) }?;

    let count = words.len() / 3;
    let slots = words.as_mut_ptr().cast::<Slot>();
    for index in 0..count {
        // SAFETY: `count` slots of three words lie in `words`; the alignment is that of `u64`.
        unsafe { slots.add(index).write(Slot::EMPTY) };
    }
    // SAFETY: `count` slots were just written, in memory that only this slice reaches from now on.
    let slots = unsafe { slice::from_raw_parts_mut(slots, count) };
    let guarded = |slack| identmap::Policy::Guarded(Guard { forbidden, slack });
    let policy = match kind {
        Kind::RoundOut => identmap::Policy::RoundOut,
        Kind::Exact => identmap::Policy::Exact,
        Kind::Guarded(Reach::None) => guarded(Slack::None),
        Kind::Guarded(Reach::Ram) => guarded(Slack::Ram(ram)),
        Kind::Guarded(Reach::Any) => guarded(Slack::Any),
    };
    Ok((config, Parts { requests, policy, slots }))
}

type Words<'w> = &'w mut [MaybeUninit<u64>];

/// Checks `count` ranges and copies them to the front of `words`; gives them and the rest.
///
/// # Safety
/// `from` points to `count` ranges that do not lie in `words`, or `count` is 0.
unsafe fn ranges(
    words: Words<'_>,
    from: *const Range,
    count: usize,
    list: List,
) -> Result<(&[PhysRange], Words<'_>), Failure> {
    // `take` has counted these words.
    let split = count.checked_mul(2).and_then(|at| words.split_at_mut_checked(at));
    let (front, rest) = split.ok_or(Failure::Work { needed: usize::MAX, given: 0 })?;
    let to = front.as_mut_ptr().cast::<PhysRange>();
    for index in 0..count {
        // SAFETY: `index` is below the `count` that the caller of this vouches for.
        let range = convert::range(list, index, unsafe { from.add(index).read() })?;
        // SAFETY: `front` holds `count` ranges of two words; the alignment is that of `u64`.
        unsafe { to.add(index).write(range) };
    }
    // SAFETY: all `count` ranges were written, in memory that only this slice reaches from now on.
    Ok((unsafe { slice::from_raw_parts(to, count) }, rest))
}

fn build<W: TableWrite>(plan: &Plan<'_>, memory: &mut W, built: *mut Built) -> Result<(), Failure> {
    let done = plan.build(memory)?;
    if !built.is_null() {
        let done = Built { root: done.root.get(), tables: done.tables.total() };
        // SAFETY: not null, and aligned: every caller of this has checked; the C caller vouches for
        // the rest.
        unsafe { built.write(done) };
    }
    Ok(())
}

/// Tables that the caller gives out.
struct Called {
    context: *mut c_void,
    available: unsafe extern "C" fn(*mut c_void) -> u64,
    allocate: unsafe extern "C" fn(*mut c_void) -> u64,
    table: unsafe extern "C" fn(*mut c_void, u64) -> *mut u64,
}

impl TableWrite for Called {
    fn available(&self) -> u64 {
        // SAFETY: the caller's function with the caller's context.
        unsafe { (self.available)(self.context) }
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        // SAFETY: as above.
        PhysAddr::new(unsafe { (self.allocate)(self.context) })
    }

    fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table> {
        // SAFETY: as above.
        let page = unsafe { (self.table)(self.context, table.get()) }.cast::<Table>();
        if !page.is_aligned() {
            return None;
        }
        // SAFETY: aligned, null is `None`; the caller vouches for 4096 bytes that nobody else touches,
        // and the borrow of `self` keeps this from being asked twice at a time. Any bytes are a `Table`.
        unsafe { page.as_mut() }
    }
}

/// Tables that the caller reads.
struct Read {
    context: *mut c_void,
    entry: unsafe extern "C" fn(*mut c_void, u64, u32, *mut u64) -> i32,
}

impl TableRead for Read {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        let mut bits = 0;
        let number = u32::try_from(index).map_err(|_| Unreadable { table })?;
        // SAFETY: the caller's function with the caller's context, and a place for the bits.
        match unsafe { (self.entry)(self.context, table.get(), number, &raw mut bits) } {
            0 => Ok(Entry::from_bits(bits)),
            _ => Err(Unreadable { table }),
        }
    }
}

/// # Safety
/// `config` and `reader` are null or point to what their types say.
unsafe fn walked(
    config: *const Config,
    reader: *const Reader,
    root: u64,
    virt: u64,
) -> Result<identmap::Walk, Failure> {
    check_one(reader, "reader")?;
    // SAFETY: not null, aligned; the caller vouches for the rest.
    let reader = unsafe { reader.read() };
    let null = Failure::Pointer { status: Status::Null, name: "reader.entry" };
    let reader = Read { context: reader.context, entry: reader.entry.ok_or(null)? };
    // SAFETY: the caller's.
    let (config, root) = unsafe { paging(config, root) }?;
    Ok(identmap::walk(&reader, root, &config.paging(), VirtAddr::new(virt)))
}

/// # Safety
/// `config` is null or points to a [`Config`].
unsafe fn paging(
    config: *const Config,
    root: u64,
) -> Result<(identmap::Config, PhysAddr), Failure> {
    check_one(config, "config")?;
    // SAFETY: not null, aligned; the caller vouches for the rest.
    let config = convert::config(&unsafe { config.read() })?;
    let text = "root is not the address of a page below 2^52";
    let root = PhysAddr::new(root)
        .filter(|root| *root < PhysAddr::MAX && root.is_aligned(PageSize::Size4K))
        .ok_or(Failure::Field { status: Status::Memory, text })?;
    Ok((config, root))
}

/// Writes the error, if wanted, and gives the status.
///
/// # Safety
/// `error` is null or points to memory for an [`Error`].
unsafe fn finish(result: &Result<(), Failure>, error: *mut Error) -> i32 {
    let report = convert::report(result);
    if !error.is_null() {
        if !error.is_aligned() {
            return Status::Misaligned as i32;
        }
        // SAFETY: not null, aligned; the caller vouches for the rest. No reference to the caller's
        // memory is alive here: `result` holds none.
        unsafe { error.write(report) };
    }
    report.status
}
