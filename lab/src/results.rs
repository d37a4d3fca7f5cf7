//! What is kept of a cell: `CACHE/lab/results/CELL/`.
//!
//! | file | content |
//! |---|---|
//! | `facts.json` | what the host found: addresses as hex strings, ranges with inclusive ends |
//! | `memory.elf` | core file with the image's tables, its `struct kimage`, the EFI tables; by physical address |
//! | `root/` | files of the guest's /proc and /sys, as it saw them (`proc/kallsyms` is an excerpt) |
//! | `guest/` | output and exit status of commands run in the guest |
//! | `console.log` | both kernels' console |

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use identmap::{
    Found, LeafRun, Levels, PageSize, Paging, PhysAddr, PhysRange, Seen, TableRead, VirtAddr,
};

use crate::btf::Btf;
use crate::cells::{Cell, Firmware, Load};
use crate::core_file::{CoreFile, PhysRead, write_core};
use crate::facts::{Efi, Facts, Leaves, Phys, Range, SCHEMA, Seconds, Transition, Virt};
use crate::guest::{self, Failure, Registers, Second, Settings};
use crate::kernel::{self, Kernel, LoadedImage, Slot, Symbols};
use crate::progress::Board;
use crate::tables::{self, Tables};
use crate::work_dir;

/// A cell's line in the final table.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The cell's name.
    pub cell: String,
    /// A summary of its tables and of what came after, or why it failed.
    pub result: Result<String, String>,
    /// Seconds for all of it.
    pub seconds: f64,
}

/// Runs cells, `jobs` at once, and shows how they get on; what they came to, by name.
#[must_use]
pub fn run_all(cells: &[Cell], settings: &Settings, keep_dump: bool, jobs: usize) -> Vec<Outcome> {
    work_dir::remove_stale();
    let queue: Mutex<VecDeque<Cell>> = Mutex::new(cells.iter().copied().collect());
    let board = Board::new(cells.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cells.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(cell) = next else { break };
                    let name = cell.to_string();
                    board.done(run(&cell, settings, keep_dump, &|phase| board.phase(&name, phase)));
                }
            });
        }
    });
    board.finish()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match &self.result {
            Ok(text) => ("ok", text),
            Err(text) => ("FAILED", text),
        };
        write!(f, "{:28} {word:6} {:5.1} s  {text}", self.cell, self.seconds)
    }
}

/// Runs one cell and saves its results.
pub fn run(cell: &Cell, settings: &Settings, keep_dump: bool, say: &dyn Fn(&str)) -> Outcome {
    let started = Instant::now();
    let result = run_inner(cell, settings, keep_dump, say).map_err(|error| error.to_string());
    Outcome { cell: cell.to_string(), result, seconds: started.elapsed().as_secs_f64() }
}

fn run_inner(
    cell: &Cell,
    settings: &Settings,
    keep_dump: bool,
    say: &dyn Fn(&str),
) -> Result<String, Failure> {
    let results = settings.cache.join("lab/results").join(cell.to_string());
    if results.exists() {
        fs::remove_dir_all(&results)?;
    }
    fs::create_dir_all(&results)?;
    let mut guest = guest::boot(cell, settings, &results, say)?;
    let booted = guest.seconds;

    say("dumping memory");
    let dumping = Instant::now();
    let (dump, registers) = guest.dump()?;
    let memory = CoreFile::open(File::open(&dump)?)?;
    say("reading memory");
    let mut facts = extract(cell, &results, &memory, registers)?;
    drop(memory);
    if keep_dump {
        fs::copy(&dump, results.join("memory-all.elf"))?;
    }
    fs::remove_file(&dump)?;
    let dumped = dumping.elapsed().as_secs_f64();

    let jumping = Instant::now();
    let second = if settings.jump {
        say("jumping");
        Some(guest.jump(settings.patience)?)
    } else {
        drop(guest);
        None
    };
    facts.second = second.as_ref().map(Second::to_string);
    facts.seconds = Seconds { loaded: booted, dumped, second: jumping.elapsed().as_secs_f64() };
    let mut text = serde_json::to_string_pretty(&facts)?;
    text.push('\n');
    fs::write(results.join("facts.json"), text)?;

    let Leaves { small, middle, large } = facts.leaves;
    let version = facts.package.split(' ').next_back().unwrap_or_default();
    let summary =
        format!("{version:16} {:2} tables {small}x4K {middle:4}x2M {large}x1G", facts.tables);
    match second {
        None => Ok(summary),
        Some(Second::Up(release)) if release == facts.release => Ok(summary + "  second kernel up"),
        Some(other) => Err(format!("{summary}; second kernel: {other}").into()),
    }
}

/// Finds the loaded image in the dump and saves its tables.
fn extract(
    cell: &Cell,
    results: &Path,
    memory: &(impl PhysRead + TableRead),
    registers: Registers,
) -> Result<Facts, Failure> {
    let root = results.join("root");
    let read = |path: &str| {
        fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))
    };
    let iomem = read("proc/iomem")?;
    let release = read("proc/sys/kernel/osrelease")?.trim().to_owned();
    let symbols = Symbols::parse(&read("proc/kallsyms")?);
    let text =
        kernel::iomem_start(&iomem, "Kernel code").ok_or("no \"Kernel code\" in /proc/iomem")?;
    let kernel = Kernel::new(memory, symbols.clone(), text)?;
    let banner = kernel.banner()?;
    if !banner.starts_with(&format!("Linux version {release} ")) {
        return Err(format!("the kernel's banner reads {banner:?}: addresses are wrong").into());
    }
    let btf_bytes = kernel.btf_bytes()?;
    let btf = Btf::parse(&btf_bytes)?;
    let slot = if cell.load == Load::Crash { Slot::Crash } else { Slot::Normal };
    let image = kernel.loaded_image(&btf, slot)?.ok_or("no image is loaded")?;
    let levels = if registers.cr4 & CR4_LA57 == 0 { Levels::Four } else { Levels::Five };
    if (levels == Levels::Five) != cell.la57 {
        return Err(format!("the guest runs with {} levels", levels.count()).into());
    }
    let gbpages = kernel.read_symbol("direct_gbpages")? & 0xffff_ffff != 0;
    if gbpages != cell.gbpages {
        return Err(format!("the guest's direct_gbpages is {gbpages}").into());
    }
    let tables = tables::collect(memory, image.root, levels)?;
    let (leaves, transition) = decode(memory, &image, levels, &tables)?;
    let efi = efi(cell, &root, &iomem, &kernel, memory)?;
    save_memory(results, memory, &tables, &image, efi.as_ref())?;

    let package = results.ancestors().nth(3).map(|cache| cache.join("kernels").join(cell.series));
    let package = package.and_then(|dir| fs::read_to_string(dir.join("package.txt")).ok());
    Ok(Facts {
        schema: SCHEMA.to_owned(),
        cell: cell.to_string(),
        release,
        package: package.unwrap_or_default().trim().to_owned(),
        command_line: read("proc/cmdline")?.trim().to_owned(),
        levels: levels.count(),
        gbpages,
        root: Phys(image.root),
        control_page: Phys(image.control_page),
        transition,
        start: Phys(image.start),
        kimage: Range(image.structure),
        segments: image.segments.into_iter().map(Range).collect(),
        pfn_mapped: kernel.pfn_mapped()?.into_iter().map(Range).collect(),
        efi,
        page_offset_base: Virt(kernel.direct_map()),
        vmemmap_base: Virt(kernel.vmemmap()),
        text: Phys(text),
        symbols: symbols.iter().map(|(name, at)| (name.to_owned(), Virt(at))).collect(),
        cr3: Virt(VirtAddr::new(registers.cr3)),
        cr4: Virt(VirtAddr::new(registers.cr4)),
        tables: tables.pages.len() as u64,
        leaves,
        second: None,
        seconds: Seconds::default(),
    })
}

/// CR4.LA57 (SDM volume 3, section 2.5).
const CR4_LA57: u64 = 1 << 12;

/// Decodes the tables with the core's walk, which has to agree with the lab's own about how many
/// tables and leaves there are; and finds the transition page, the one leaf of 4 KiB.
fn decode(
    memory: &impl TableRead,
    image: &LoadedImage,
    levels: Levels,
    tables: &Tables,
) -> Result<(Leaves, Transition), Failure> {
    let paging = Paging { levels, maxphyaddr: 52, pdpe1gb: true, nxe: true, encryption_mask: 0 };
    let mut seen = vec![Seen::EMPTY; tables.pages.len() * 2];
    let mut walk = identmap::Leaves::new(memory, image.root, paging, &mut seen);
    let mut leaves = Leaves { small: 0, middle: 0, large: 0 };
    let mut small: Vec<LeafRun> = Vec::new();
    for found in &mut walk {
        let Found::Leaves(run) = found else {
            return Err(format!("the image's tables are not as they should be: {found:?}").into());
        };
        match run.size {
            PageSize::Size4K => {
                leaves.small += run.count;
                small.push(run);
            }
            PageSize::Size2M => leaves.middle += run.count,
            PageSize::Size1G => leaves.large += run.count,
        }
    }
    let own = tables.leaves;
    if [leaves.small, leaves.middle, leaves.large] != own
        || walk.tables().total() != tables.pages.len() as u64
    {
        return Err(format!("two walks disagree: {leaves:?} and {own:?}").into());
    }
    let [transition] = small.as_slice() else {
        return Err(format!("one 4K leaf was expected, the transition page: {small:?}").into());
    };
    let transition = Transition { virt: Virt(transition.virt), phys: Phys(transition.phys) };
    Ok((leaves, transition))
}

/// `efi_info` in `struct boot_params`, and in it `efi_systab` and `efi_systab_hi`
/// (arch/x86/include/uapi/asm/bootparam.h).
const EFI_SYSTAB: usize = 0x1c0 + 4;
const EFI_SYSTAB_HI: usize = 0x1c0 + 0x18;
/// `NumberOfTableEntries` of a 64-bit `EFI_SYSTEM_TABLE`, the size of all of it, and that of an
/// `EFI_CONFIGURATION_TABLE` (UEFI specification, sections 4.3 and 4.6).
const SYSTEM_TABLE_ENTRIES: u64 = 104;
const SYSTEM_TABLE: u64 = 120;
const CONFIG_TABLE_ENTRY: u64 = 24;
/// More entries than any firmware has.
const CONFIG_TABLES_MAX: u64 = 4096;
/// With this distance, no 2M leaf for memory reaches the tables.
const FAR: u64 = 4 << 20;

fn efi(
    cell: &Cell,
    root: &Path,
    iomem: &str,
    kernel: &Kernel<'_, impl PhysRead>,
    memory: &impl PhysRead,
) -> Result<Option<Efi>, Failure> {
    let params = fs::read(root.join("sys/kernel/boot_params/data"))?;
    let half = |at: usize| -> Option<u64> {
        Some(u64::from(u32::from_le_bytes(params.get(at..at + 4)?.try_into().ok()?)))
    };
    let (low, high) = half(EFI_SYSTAB).zip(half(EFI_SYSTAB_HI)).ok_or("boot_params is cut off")?;
    if low == 0 && high == 0 {
        if cell.firmware != Firmware::SeaBios {
            return Err("the guest was not booted by EFI".into());
        }
        return Ok(None);
    }
    let system_table = PhysAddr::new(high << 32 | low).ok_or("a bad EFI system table address")?;
    let entries_at = system_table.checked_add(SYSTEM_TABLE_ENTRIES);
    let entries = memory.read_u64(entries_at.ok_or("a bad EFI system table address")?)?;
    if entries > CONFIG_TABLES_MAX {
        return Err(format!("{entries} EFI configuration tables").into());
    }
    let start = kernel.read_symbol("efi_config_table")?;
    let config_tables = PhysRange::from_len(start, entries * CONFIG_TABLE_ENTRY)?;
    let bytes_to_ram = kernel::iomem_ranges(iomem, "System RAM")
        .map(|ram| {
            let below = config_tables.start().get().saturating_sub(ram.end().get());
            let above = ram.start().get().saturating_sub(config_tables.end().get());
            below.max(above)
        })
        .min()
        .ok_or("no System RAM in /proc/iomem")?;
    let far = matches!(cell.firmware, Firmware::OvmfFar | Firmware::OvmfSplit);
    if far && bytes_to_ram < FAR {
        return Err(format!(
            "the EFI configuration tables at {config_tables} are only 0x{bytes_to_ram:x} bytes from memory"
        )
        .into());
    }
    let apart = system_table.get().abs_diff(config_tables.start().get());
    if cell.firmware == Firmware::OvmfSplit && apart < FAR {
        return Err(format!("the EFI tables are only 0x{apart:x} bytes apart").into());
    }
    let (system_table, config_tables) = (Phys(system_table), Range(config_tables));
    Ok(Some(Efi { system_table, config_tables, entries, bytes_to_ram }))
}

fn save_memory(
    results: &Path,
    memory: &impl PhysRead,
    tables: &Tables,
    image: &LoadedImage,
    efi: Option<&Efi>,
) -> Result<(), Failure> {
    let mut pages = tables.pages.clone();
    let mut ranges = vec![image.structure];
    if let Some(efi) = efi {
        ranges.push(PhysRange::from_len(efi.system_table.0.get(), SYSTEM_TABLE)?);
        ranges.push(efi.config_tables.0);
    }
    for range in ranges {
        let whole = range.round_out(PageSize::Size4K);
        for address in (whole.start().get()..whole.end().get()).step_by(4096) {
            let address = PhysAddr::new(address).ok_or("an address beyond 52 bits")?;
            let mut page = [0; 4096];
            memory.read(address, &mut page)?;
            pages.insert(address, page);
        }
    }
    Ok(fs::write(results.join("memory.elf"), write_core(&pages)?)?)
}
