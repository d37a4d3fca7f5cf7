//! What is kept of a cell: `CACHE/lab/results/CELL/`.
//!
//! | file | content |
//! |---|---|
//! | `facts.json` | what the host found: addresses as hex strings, ranges with inclusive ends |
//! | `memory.elf` | core file with the image's tables, its `struct kimage`, the EFI tables; by physical address |
//! | `root/` | files of the guest's /proc and /sys, as it saw them (`proc/kallsyms` is an excerpt) |
//! | `guest/` | output and exit status of commands run in the guest |
//! | `console.log` | both kernels' console |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::btf::Btf;
use crate::cells::{Cell, Firmware, Load};
use crate::core_file::{CoreFile, PhysRead, write_core};
use crate::guest::{self, Failure, Registers, Second, Settings};
use crate::kernel::{self, Kernel, LoadedImage, Slot, Symbols};
use crate::tables::{self, Tables};

/// `facts.json`.
#[derive(Debug, Serialize)]
pub struct Facts {
    schema: &'static str,
    cell: String,
    release: String,
    package: String,
    /// The guest's kernel command line.
    command_line: String,
    /// How many levels the running kernel's tables have, and so the image's.
    levels: u32,
    /// Whether the running kernel has 1G pages in use (`direct_gbpages`).
    gbpages: bool,
    /// Physical address of the image's top table.
    root: String,
    /// Physical address of the first control page; its second page holds the code before 6.12.
    control_page: String,
    /// Physical address where the jump goes.
    start: String,
    /// Physical address and size of `struct kimage`.
    kimage: Range,
    /// The image's segments, in its order.
    segments: Vec<Range>,
    /// `pfn_mapped[]`, in its order.
    pfn_mapped: Vec<Range>,
    /// EFI facts; absent without EFI.
    efi: Option<Efi>,
    /// Start of the direct map.
    page_offset_base: String,
    /// Start of the array of `struct page`.
    vmemmap_base: String,
    /// Physical address of `_text`.
    text: String,
    /// Symbol addresses, virtual.
    symbols: BTreeMap<String, String>,
    cr3: String,
    cr4: String,
    /// Pages that hold tables.
    tables: usize,
    /// Leaves by size.
    leaves: BTreeMap<&'static str, u64>,
    /// What came after the jump; absent if there was none.
    second: Option<String>,
    /// Seconds to the loaded image, for the dump with its reading, and to the second kernel.
    seconds: [f64; 3],
}

#[derive(Debug, Serialize)]
struct Efi {
    /// Physical address of the system table, from `boot_params`.
    system_table: String,
    /// Physical range of the configuration-table array, from the kernel and the system table.
    config_tables: Range,
    /// Number of entries.
    entries: u64,
    /// Bytes between that array and the nearest "System RAM" of /proc/iomem.
    bytes_to_ram: u64,
}

/// Half-open inside, inclusive in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range(u64, u64);

impl Serialize for Range {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!(
            "0x{:016x}-0x{:016x}",
            self.0,
            self.1.saturating_sub(1)
        ))
    }
}

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
    facts.seconds = [booted, dumped, jumping.elapsed().as_secs_f64()];
    let mut text = serde_json::to_string_pretty(&facts)?;
    text.push('\n');
    fs::write(results.join("facts.json"), text)?;

    let [small, middle, large] = [facts.leaves["4K"], facts.leaves["2M"], facts.leaves["1G"]];
    let mut summary = format!(
        "{:12} {:3} tables {small:2}x4K {middle:4}x2M {large}x1G",
        facts.release_short(),
        facts.tables
    );
    match second {
        None => {}
        Some(Second::Up(release)) => summary += &format!("  second kernel up ({release})"),
        Some(other) => return Err(format!("{summary}; second kernel: {other}").into()),
    }
    Ok(summary)
}

impl Facts {
    fn release_short(&self) -> &str {
        self.release.split(['-', '+']).next().unwrap_or_default()
    }
}

/// Finds the loaded image in the dump and saves its tables.
fn extract(
    cell: &Cell,
    results: &Path,
    memory: &impl PhysRead,
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
        return Err(format!(
            "the kernel's banner reads {banner:?}: addresses are translated wrongly"
        )
        .into());
    }
    let btf_bytes = kernel.btf_bytes()?;
    let btf = Btf::parse(&btf_bytes)?;
    let slot = if cell.load == Load::Crash { Slot::Crash } else { Slot::Normal };
    let image = kernel.loaded_image(&btf, slot)?.ok_or("no image is loaded")?;
    let levels = if registers.cr4 & CR4_LA57 == 0 { 4 } else { 5 };
    if (levels == 5) != cell.la57 {
        return Err(format!("the guest runs with {levels} levels").into());
    }
    let tables = tables::collect(memory, image.root, levels)?;
    let efi = efi(cell, &root, &iomem, &kernel, memory)?;
    let direct_gbpages = kernel.read_symbol("direct_gbpages")? & 0xffff_ffff != 0;
    if direct_gbpages != cell.gbpages {
        return Err(format!("the guest's direct_gbpages is {direct_gbpages}").into());
    }
    save_memory(results, memory, &tables, &image, efi.as_ref())?;

    let package = results.ancestors().nth(3).map(|cache| cache.join("kernels").join(cell.series));
    let package = package.and_then(|dir| fs::read_to_string(dir.join("package.txt")).ok());
    Ok(Facts {
        schema: "identmap.lab-cell/1",
        cell: cell.to_string(),
        release,
        package: package.unwrap_or_default().trim().to_owned(),
        command_line: read("proc/cmdline")?.trim().to_owned(),
        levels,
        gbpages: direct_gbpages,
        root: hex(image.root),
        control_page: hex(image.control_page),
        start: hex(image.start),
        kimage: Range(image.structure.0, image.structure.0 + image.structure.1),
        segments: image.segments.iter().map(|(start, end)| Range(*start, *end)).collect(),
        pfn_mapped: kernel.pfn_mapped()?.iter().map(|(start, end)| Range(*start, *end)).collect(),
        efi,
        page_offset_base: hex(kernel.page_offset_base),
        vmemmap_base: hex(kernel.vmemmap_base),
        text: hex(text),
        symbols: symbols.iter().map(|(name, address)| (name.to_owned(), hex(address))).collect(),
        cr3: hex(registers.cr3),
        cr4: hex(registers.cr4),
        tables: tables.pages.len(),
        leaves: ["4K", "2M", "1G"].into_iter().zip(tables.leaves).collect(),
        second: None,
        seconds: [0.0; 3],
    })
}

/// CR4.LA57 (SDM volume 3, section 2.5).
const CR4_LA57: u64 = 1 << 12;
/// `efi_info` in `struct boot_params`, and in it `efi_systab` and `efi_systab_hi`
/// (arch/x86/include/uapi/asm/bootparam.h).
const EFI_SYSTAB: usize = 0x1c0 + 4;
const EFI_SYSTAB_HI: usize = 0x1c0 + 0x18;
/// `NumberOfTableEntries` and `ConfigurationTable` of a 64-bit `EFI_SYSTEM_TABLE`, and the size of an
/// entry (UEFI specification, sections 4.3 and 4.6).
const SYSTEM_TABLE_ENTRIES: u64 = 104;
const CONFIG_TABLE_ENTRY: u64 = 24;
/// More entries than any firmware has.
const CONFIG_TABLES_MAX: u64 = 4096;

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
    let system_table = high << 32 | low;
    if system_table == 0 {
        if cell.firmware != Firmware::SeaBios {
            return Err("the guest was not booted by EFI".into());
        }
        return Ok(None);
    }
    let entries = memory.read_u64(system_table.saturating_add(SYSTEM_TABLE_ENTRIES))?;
    if entries > CONFIG_TABLES_MAX {
        return Err(format!("{entries} EFI configuration tables").into());
    }
    let start = kernel.read_symbol("efi_config_table")?;
    let end = start
        .checked_add(entries * CONFIG_TABLE_ENTRY)
        .ok_or("EFI configuration tables at the end")?;
    let bytes_to_ram = kernel::iomem_ranges(iomem, "System RAM")
        .map(|(from, to)| if end <= from { from - end } else { start.saturating_sub(to) })
        .min()
        .ok_or("no System RAM in /proc/iomem")?;
    if cell.firmware == Firmware::OvmfFar && bytes_to_ram < FAR {
        return Err(format!(
            "the EFI configuration tables at 0x{start:x} are only 0x{bytes_to_ram:x} bytes from memory"
        )
        .into());
    }
    Ok(Some(Efi {
        system_table: hex(system_table),
        config_tables: Range(start, end),
        entries,
        bytes_to_ram,
    }))
}

/// With this distance, no 2M leaf for memory reaches the tables.
const FAR: u64 = 4 << 20;

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
        let system_table = u64::from_str_radix(efi.system_table.trim_start_matches("0x"), 16)?;
        ranges.push((system_table, SYSTEM_TABLE_ENTRIES + 16));
        ranges.push((efi.config_tables.0, efi.config_tables.1 - efi.config_tables.0));
    }
    for (start, size) in ranges {
        let mut address = start & !0xfff;
        while address < start.saturating_add(size) {
            let mut page = [0; 4096];
            memory.read(address, &mut page)?;
            pages.insert(address, page);
            address += 4096;
        }
    }
    Ok(fs::write(results.join("memory.elf"), write_core(&pages)?)?)
}

fn hex(value: u64) -> String {
    format!("0x{value:016x}")
}
