//! From a kernel to the segments that are loaded.
//!
//! # What has to last how long
//! From the purgatory's `mov %cr3` to the next kernel's own, our tables are in force, and nothing else of ours is
//! needed: the next kernel brings its own GDT, IDT and stack (`startup_64` in
//! `arch/x86/boot/compressed/head_64.S`). In that window it writes to: its own image, from the load
//! address for `init_size` bytes (it moves itself to the end of that before it decompresses);
//! `boot_params`; and 8 KiB of low memory where the number of levels changes. None of it is
//! ours, since places are disjoint and above 1 MiB.
//!
//! Its choice of a random address (KASLR, `choose_random_location()`) may fall on our tables and on the purgatory,
//! for it avoids only the image, initrd, command line, `boot_params` and `setup_data` (`mem_avoid_init()`
//! in `arch/x86/boot/compressed/kaslr.c`, Linux 5.10 to 7.2). That is no danger: it is made in
//! `extract_kernel()`, after `initialize_identity_maps()` has switched to tables of its own, which lie in
//! its image (`.Lrelocated` in `head_64.S`, since 5.10). Older kernels switch in
//! `initialize_identity_maps()` too, before they choose; where they do not choose they
//! decompress in place, into their own image. An ELF kernel has its tables in its own data. So the memory
//! of tables and purgatory is given to the next kernel as usable, and is not lost.
//!
//! Before the purgatory's switch the running kernel's map is in force, and must map the purgatory, the
//! tables and `boot_params`: it maps every segment, whatever its version (`init_pgtable()`).

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_audit::Coverage;
use identmap_linux::boot::{
    BootParams, BzImage, EfiHandover, PlacementError, RngSeed, Room, SETUP_RNG_SEED,
};
use identmap_linux::needs::Consumer;
use identmap_linux::{Kind, Release, Releases};
use identmap_machine::{Machine, Region, ranges};

use crate::cmdline;
use crate::crash::{self, CrashFacts};
use crate::format::Kernel;
use crate::load_error::LoadError;
use crate::map::{MapBase, MapChoice};
use crate::place;
use crate::purgatory::{Check, Purgatory, Serial, crc32c};
use crate::shape::Shape;

/// `MIN_INITRD_LOAD_ADDR` in `arch/x86/kernel/kexec-bzimage64.c` (Linux 6.12).
const LOWEST_INITRD: u64 = 16 << 20;
const PAGE: u64 = 4096;
/// More tables than any map of ours has: 1 GiB of them.
const MOST_TABLES: u64 = 1 << 18;

/// What is to be loaded, and how.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// For `kexec -e`, or for a crash.
    pub kind: Kind,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The initrd; empty for none.
    pub initrd: &'a [u8],
    /// The command line.
    pub cmdline: &'a str,
    /// The running kernel's own `boot_params`.
    pub running: Option<&'a [u8]>,
    /// EFI, as it is handed over; `None`: nothing is.
    pub efi: Option<EfiHandover>,
    /// EFI's memory descriptors for it (`struct efi_mem_descriptor`, as long as the hand-over says).
    pub efi_map: &'a [u8],
    /// What the consumer is, as far as known: decides the needs.
    pub consumer: &'a Consumer,
    /// The map.
    pub map: &'a MapChoice,
    /// Position of the encryption bit (CPUID `0x8000001F.EBX[5:0]`).
    pub c_bit: Option<u8>,
    /// What else must not be overwritten.
    pub keep: &'a [PhysRange],
    /// Whether the purgatory verifies the segments.
    pub verify: bool,
    /// Where it complains.
    pub serial: Option<Serial>,
    /// Whether it complains on the text screen.
    pub vga: bool,
    /// Whether the processor has the CRC32 instruction.
    pub crc_instruction: bool,
    /// For a crash kernel: what its core header is made from.
    pub crash: Option<&'a CrashFacts>,
    /// Lists of segments that this one shall differ from, so that what is loaded can be told
    /// from what was loaded before.
    pub unlike: &'a [Vec<PhysRange>],
    /// A seed for the next kernel's random numbers. It is handed over to a kernel that is known to take it
    /// ([`takes_seed`]), and lies in the segment `boot_params` then.
    pub rng_seed: Option<&'a RngSeed>,
}

/// One segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// What it is: `kernel`, `initrd`, `boot_params`, `page tables`, `purgatory`, `elfcorehdr`.
    pub name: &'static str,
    /// Where it goes; whole pages.
    pub range: PhysRange,
    /// Its bytes; the rest is zero.
    pub bytes: Vec<u8>,
    /// What for, in a few words.
    pub why: &'static str,
}

/// Everything that is loaded.
#[derive(Clone, Debug)]
pub struct Image {
    /// By address.
    pub segments: Vec<Segment>,
    /// Where the running kernel jumps to: the purgatory.
    pub entry: PhysAddr,
    /// Where the purgatory jumps to.
    pub kernel_entry: u64,
    /// RSI there.
    pub boot_params: PhysAddr,
    /// What the purgatory loads into CR3.
    pub root: u64,
    /// The purgatory's stack.
    pub stack: PhysRange,
    /// The map.
    pub coverage: Coverage,
    /// What was requested of it beside the segments, each with what it is.
    pub wanted: Vec<(PhysRange, String)>,
    /// What must not be mapped: hazards that nothing requests, and what was forbidden. Sorted, disjoint.
    pub forbidden: Vec<PhysRange>,
    /// The memory map that the kernel is told.
    pub e820: Vec<Region>,
    /// The command line, with what was added.
    pub cmdline: String,
    /// Whether the kernel may rewrite the core header as processors and memory come and go.
    pub update_elfcorehdr: bool,
    /// Whether a seed for random numbers is handed over.
    pub rng_seed: bool,
}

impl Image {
    /// Overwrites what is handed over to the next kernel and to nobody else, once it is loaded.
    pub fn forget_seed(&mut self) {
        for segment in self.segments.iter_mut().filter(|_| self.rng_seed) {
            if segment.name == "boot_params" {
                segment.bytes.fill(0);
                // Or the compiler leaves out a write that nobody reads.
                core::hint::black_box(&segment.bytes);
            }
        }
    }
}

/// Whether a kernel takes and wipes a `SETUP_RNG_SEED` entry: a bzImage says so itself (`kernel_info.setup_type_max`),
/// an ELF file does not, and its version counts (6.0). Where it is not known, `false`.
#[must_use]
pub fn takes_seed(kernel: &Kernel, consumer: &Consumer) -> bool {
    match kernel {
        Kernel::BzImage(bytes) => BzImage::parse(bytes)
            .ok()
            .and_then(|image| image.setup_type_max())
            .is_some_and(|max| max >= SETUP_RNG_SEED),
        Kernel::Elf(_) => {
            let since = Releases::since(Release::rc(6, 0, 1));
            consumer.version.as_ref().is_some_and(|version| since.covers(&version.releases()))
        }
    }
}

impl Job<'_> {
    /// Places everything, plans and writes the map, makes the purgatory. Touches nothing.
    ///
    /// # Errors
    /// [`LoadError`], a variant for each thing that can be in the way.
    pub fn image(&self) -> Result<Image, LoadError> {
        let shape = Shape::of(self.kernel)?;
        let base = MapBase::new(self.machine, self.kind, self.consumer, self.map, self.c_bit)
            .map_err(LoadError::Map)?;
        if base.config.levels == identmap::Levels::Five {
            match shape.five_levels {
                Some(true) => {}
                Some(false) => return Err(LoadError::FiveLevels),
                None => return Err(LoadError::ElfFiveLevels),
            }
        }
        let free = self.free()?;
        let mut tables = 1;
        loop {
            let placed = self.place(&shape, &free, tables)?;
            let coverage = base.coverage(&placed.all()).map_err(LoadError::Map)?;
            let count = coverage.tables.total();
            if count > MOST_TABLES {
                let error = PlacementError { what: "the page tables", bytes: count * PAGE };
                return Err(LoadError::Place { error, free: ranges::total(&free) });
            }
            // Another place for the tables may take more of them; never less than before is set aside.
            if count > tables {
                tables = count;
            } else if self.unlike.contains(&placed.all()) {
                tables += 1;
            } else {
                return self.finish(&shape, &base, placed, coverage);
            }
        }
    }

    fn free(&self) -> Result<Vec<PhysRange>, LoadError> {
        if self.kind == Kind::Kdump && self.machine.crash_kernels.is_empty() {
            return Err(LoadError::NoReservation);
        }
        let mut alive = place::alive(self.machine, self.kind);
        let add = |range: &PhysRange| place::Alive { range: *range, what: "kept".to_owned() };
        alive.extend(self.keep.iter().chain(&self.map.forbid).map(add));
        let free = place::free(self.machine, self.kind, &alive);
        match () {
            () if !free.is_empty() => Ok(free),
            () if place::free(self.machine, self.kind, &[]).is_empty() => Err(LoadError::NoMemory),
            () => Err(LoadError::AllKept),
        }
    }

    /// Everything has its place from the top down: what is large and has wishes first. An initrd that finds no
    /// room behind the kernel goes before it.
    fn place(&self, shape: &Shape, free: &[PhysRange], tables: u64) -> Result<Placed, LoadError> {
        let placed = self.place_in_order(shape, free, tables, false);
        let placed = placed
            .or_else(|error| self.place_in_order(shape, free, tables, true).map_err(|_| error));
        placed.map_err(|error| match error {
            Some(error) => LoadError::Place { error, free: ranges::total(free) },
            None => LoadError::CrashFacts,
        })
    }

    fn place_in_order(
        &self,
        shape: &Shape,
        free: &[PhysRange],
        tables: u64,
        initrd_first: bool,
    ) -> Result<Placed, Option<PlacementError>> {
        let mut room = Room::new(free.to_vec(), true);
        let limit = shape.limit;
        let fixed = shape.fixed.map(|at| room.take_at("the kernel", at, shape.len));
        let mut kernel = match fixed {
            Some(Err(error)) if !shape.movable => return Err(Some(error)),
            Some(Ok(range)) => Some(range),
            Some(Err(_)) | None => None,
        };
        let mut initrd = None;
        for is_initrd in [initrd_first, !initrd_first] {
            let len = self.initrd.len() as u64;
            if is_initrd && len != 0 {
                let window = LOWEST_INITRD..shape.initrd_limit;
                initrd = Some(room.take("the initrd", len, PAGE, window)?);
            } else if !is_initrd && kernel.is_none() {
                let window = shape.lowest..limit;
                kernel = Some(room.take("the kernel", shape.len, shape.align, window)?);
            }
        }
        let mut small = |what, len| room.take(what, len, PAGE, place::LOWEST..limit);
        let elfcorehdr = match (self.kind, self.crash) {
            (Kind::Kexec, _) => None,
            (Kind::Kdump, None) => return Err(None),
            (Kind::Kdump, Some(facts)) => {
                Some(small("elfcorehdr", facts.header_len(&self.crash_ram()))?)
            }
        };
        let purgatory = small("the purgatory", self.purgatory_len(elfcorehdr.is_some()))?;
        let e820 = self.e820(elfcorehdr);
        let cmdline = self.cmdline(elfcorehdr);
        let params = small("boot_params", self.params(&e820, &cmdline, None).len())?;
        let tables = small("the page tables", tables.saturating_mul(PAGE))?;
        let nowhere = PlacementError { what: "the kernel", bytes: shape.len };
        let kernel = kernel.ok_or(nowhere)?;
        Ok(Placed { purgatory, params, tables, kernel, initrd, elfcorehdr, e820, cmdline })
    }

    fn finish(
        &self,
        shape: &Shape,
        base: &MapBase,
        placed: Placed,
        coverage: Coverage,
    ) -> Result<Image, LoadError> {
        let initrd = placed
            .initrd
            .and_then(|at| PhysRange::from_len(at.start().get(), self.initrd.len() as u64).ok());
        let params = self
            .params(&placed.e820, &placed.cmdline, initrd)
            .build_with(&shape.header, shape.cmdline_max, placed.params.start())
            .map_err(LoadError::BootParams)?;
        let tables = base.build(&placed.all(), placed.tables.start()).map_err(LoadError::Map)?;
        let told = match self.seed() {
            Some(_) => "what it is told: memory, command line, EFI, a seed for random numbers",
            None => "what it is told: memory, command line, EFI",
        };
        let mut segments = vec![
            segment("kernel", placed.kernel, shape.bytes.clone(), "what is entered next"),
            segment("boot_params", placed.params, params.bytes, told),
            segment("page tables", placed.tables, tables, "the map that it is entered with"),
        ];
        if let Some(range) = placed.initrd {
            segments.push(segment("initrd", range, self.initrd.to_vec(), "its first file system"));
        }
        let mut update_elfcorehdr = false;
        if let (Some(range), Some(facts)) = (placed.elfcorehdr, self.crash) {
            let bytes = facts.header(&self.crash_ram());
            let why = "where the crashed kernel's memory and registers are";
            segments.push(segment("elfcorehdr", range, bytes, why));
            // The kernel finds it by its first bytes (`crash_handle_hotplug_event()` in `kernel/crash_core.c`):
            // another segment that begins so would be written over.
            let elf = |segment: &&Segment| segment.bytes.starts_with(b"\x7fELF");
            update_elfcorehdr = facts.room.is_some() && segments.iter().filter(elf).count() == 1;
        }
        let root = placed.tables.start().get() | base.config.encryption_mask;
        let kernel_entry = placed.kernel.start().get() + shape.entry;
        let checks: Vec<Check<'_>> = segments
            .iter()
            // The kernel may rewrite it after the load.
            .filter(|segment| !(update_elfcorehdr && segment.name == "elfcorehdr"))
            .filter_map(check)
            .collect();
        let purgatory = Purgatory {
            address: placed.purgatory.start(),
            root,
            entry: kernel_entry,
            rsi: placed.params.start().get(),
            checks: &checks,
            verify: self.verify,
            serial: self.serial,
            vga: self.vga,
            crc_instruction: self.crc_instruction,
        };
        let built = purgatory.build().map_err(LoadError::Purgatory)?;
        let entry = PhysAddr::new(built.entry).ok_or(LoadError::NoMemory)?;
        let why = "verifies the rest and switches to the map";
        // The zeros at its end, most of them its stack, are the kernel's to fill in.
        let mut bytes = built.bytes;
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        segments.push(segment("purgatory", placed.purgatory, bytes, why));
        segments.sort_by_key(|segment| segment.range);
        Ok(Image {
            segments,
            entry,
            kernel_entry,
            boot_params: placed.params.start(),
            root,
            stack: built.stack,
            coverage,
            wanted: base.wanted.clone(),
            forbidden: base.forbidden.clone(),
            e820: placed.e820,
            cmdline: placed.cmdline,
            update_elfcorehdr,
            rng_seed: self.seed().is_some(),
        })
    }

    fn params<'p>(
        &'p self,
        e820: &'p [Region],
        cmdline: &'p str,
        initrd: Option<PhysRange>,
    ) -> BootParams<'p> {
        BootParams {
            e820,
            efi: self.efi,
            rsdp: self.machine.rsdp,
            cmdline,
            initrd,
            running: self.running,
            efi_map: self.efi_map,
            rng_seed: self.seed(),
        }
    }

    fn seed(&self) -> Option<&RngSeed> {
        self.rng_seed.filter(|_| takes_seed(self.kernel, self.consumer))
    }

    fn e820(&self, elfcorehdr: Option<PhysRange>) -> Vec<Region> {
        match self.kind {
            Kind::Kexec => place::memory_map(self.machine),
            Kind::Kdump => crash::memory_map(self.machine, elfcorehdr),
        }
    }

    fn cmdline(&self, elfcorehdr: Option<PhysRange>) -> String {
        match elfcorehdr {
            None => self.cmdline.to_owned(),
            // In front, as `kexec_file_load` puts it (`setup_cmdline()` in `arch/x86/kernel/kexec-bzimage64.c`):
            // behind a `--` or a quote that is not closed it is no parameter. The last of two counts. The kernel
            // reads the number as memparse() does.
            Some(range) => {
                let others = cmdline::without(self.cmdline, &["elfcorehdr"]);
                format!("elfcorehdr={:#x} {others}", range.start().get()).trim_end().to_owned()
            }
        }
    }

    fn crash_ram(&self) -> Vec<PhysRange> {
        crash::dumped_ram(self.machine)
    }

    /// Its length hangs on the number of checks, and on no address or sum. Whether the header is checked is not
    /// known yet: it has room.
    fn purgatory_len(&self, elfcorehdr: bool) -> u64 {
        let count = 3 + usize::from(!self.initrd.is_empty()) + usize::from(elfcorehdr);
        let blank = Check { range: PhysRange::ALL, crc32c: 0, name: "", tables: false };
        let checks = vec![blank; count];
        Purgatory {
            address: PhysAddr::ZERO,
            root: 0,
            entry: 0,
            rsi: 0,
            checks: &checks,
            verify: self.verify,
            serial: self.serial,
            vga: self.vga,
            crc_instruction: self.crc_instruction,
        }
        .len()
    }
}

fn segment(name: &'static str, range: PhysRange, bytes: Vec<u8>, why: &'static str) -> Segment {
    Segment { name, range, bytes, why }
}

/// What was loaded is verified; zeros behind it are not: the next kernel clears what it needs clear.
fn check(segment: &Segment) -> Option<Check<'_>> {
    let len = segment.bytes.len() as u64;
    let range = PhysRange::from_len(segment.range.start().get(), len).ok()?;
    let crc32c = crc32c(&segment.bytes, 0);
    let tables = segment.name == "page tables";
    Some(Check { range, crc32c, name: segment.name, tables })
}

struct Placed {
    purgatory: PhysRange,
    params: PhysRange,
    tables: PhysRange,
    kernel: PhysRange,
    initrd: Option<PhysRange>,
    elfcorehdr: Option<PhysRange>,
    e820: Vec<Region>,
    cmdline: String,
}

impl Placed {
    /// By address.
    fn all(&self) -> Vec<PhysRange> {
        let some = [self.purgatory, self.params, self.tables, self.kernel];
        let mut all: Vec<PhysRange> =
            some.into_iter().chain(self.initrd).chain(self.elfcorehdr).collect();
        all.sort_unstable();
        all
    }
}

const _: () = assert!(PAGE == PageSize::Size4K.bytes());
