//! The bundle: one file that holds what a machine told, to be read on any other.
//!
//! It holds the answers themselves ([`Inputs`], or a text), not what was made of them: a reader puts
//! them together with the same code, and a later version may understand more of them.

mod content;
mod file;
mod json;

use core::fmt;

use identmap::{PhysAddr, PhysRange};

use crate::live::{self, Content, Inputs};
use crate::model::Machine;
use crate::parse::{self, Bad, MAX_INPUT, ParseError};

/// The version that is written.
pub const VERSION: u32 = 1;

/// Largest file that is written or read, in bytes: 16 MiB. That of a guest is below 200 KB.
pub const MAX_BUNDLE: usize = 16 << 20;

/// What every schema of a bundle begins with.
const SCHEMA: &str = "identmap.bundle/";

/// What a machine told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    /// Program and version that made it.
    pub made_by: String,
    /// Whether what identifies a machine or a person was left out ([`crate::redact::redact`]).
    pub redacted: bool,
    /// What was left out, one thing an item.
    pub left_out: Vec<String>,
    /// Where the facts are from.
    pub facts: Facts,
    /// Facts that a [`Machine`] has no place for.
    pub extra: Extra,
    /// Pieces of physical memory.
    pub memory: Vec<Blob>,
    /// Page tables of loaded kexec images.
    pub tables: Vec<Tables>,
}

/// Where the facts of a bundle are from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Facts {
    /// A running kernel.
    Live(Box<Inputs>),
    /// A text, in any form that [`parse::machine`] reads.
    Text(Vec<u8>),
}

/// What a running kernel says about kexec beyond what [`Inputs`] has.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Extra {
    /// The kernel's configuration, as far as it matters ([`config_that_matters`]).
    pub kernel_config: Content,
    /// `/sys/kernel/kexec_crash_size`.
    pub kexec_crash_size: Content,
    /// `/proc/sys/kernel/kexec_load_disabled`.
    pub kexec_load_disabled: Content,
    /// `/sys/kernel/security/lockdown`.
    pub lockdown: Content,
}

/// What a piece of memory holds. Only these may be kept: none has a serial number or a name in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BlobKind {
    /// `EFI_SYSTEM_TABLE`: UEFI 2.10, 4.3.
    EfiSystemTable,
    /// The configuration-table array: UEFI 2.10, 4.6.
    EfiConfigTable,
    /// The ACPI root pointer: ACPI 6.5, 5.2.5.3.
    AcpiRsdp,
    /// The 36 bytes that every ACPI table begins with; RSDT, XSDT and SRAT whole: ACPI 6.5, 5.2.6 to
    /// 5.2.8, 5.2.16.
    AcpiTable,
    /// `struct setup_data` without its payload.
    SetupDataHeader,
    /// A page table of a loaded image.
    PageTable,
}

/// A piece of physical memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// What it holds.
    pub kind: BlobKind,
    /// Where it lies.
    pub start: PhysAddr,
    /// The bytes; at least one, and none past 2^52.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// The bytes' place.
    ///
    /// # Errors
    /// Where the bytes are none, or reach past 2^52.
    pub fn range(&self) -> Result<PhysRange, identmap::RangeError> {
        PhysRange::from_len(self.start.get(), self.bytes.len() as u64)
    }
}

/// Whose tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Image {
    /// Loaded for `kexec -e` (`kexec_image`).
    Kexec,
    /// Loaded for a crash (`kexec_crash_image`).
    Crash,
}

/// The page tables of a loaded image, or why there are none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tables {
    /// The image.
    pub image: Image,
    /// What became of them.
    pub state: TablesState,
}

/// What became of an image's tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TablesState {
    /// They were not read, for this reason.
    NotRead(String),
    /// They were read, all of them.
    Read(ReadTables),
}

/// Page tables, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadTables {
    /// The top table (`image->arch.pgd`).
    pub root: PhysAddr,
    /// Paging levels: 4 or 5.
    pub levels: u8,
    /// Bits of a physical address that entries were taken to have.
    pub maxphyaddr: u8,
    /// 1 GiB leaves were taken to exist.
    pub pdpe1gb: bool,
    /// The encryption bit, as a mask; 0 for none.
    pub encryption_mask: u64,
    /// Tables read, from page tables up to the root's level.
    pub counts: [u64; 5],
    /// Destination ranges of the image, in the kernel's order.
    pub segments: Vec<PhysRange>,
    /// Runs of equal neighbouring leaves, by address.
    pub leaves: Vec<LeafRun>,
}

/// Leaves of one size side by side, with equal flags, mapping memory as contiguous as their addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafRun {
    /// First virtual address, canonical.
    pub virt: u64,
    /// Where it is mapped to; equal to `virt` in an identity map.
    pub phys: PhysAddr,
    /// Size of one leaf in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub page: u64,
    /// How many.
    pub count: u64,
    /// The bits of the entry that are no address.
    pub flags: u64,
    /// Write, user and execute are allowed by every entry on the way.
    pub rights: [bool; 3],
}

impl Bundle {
    /// A bundle of these facts, nothing left out.
    #[must_use]
    pub fn new(facts: Facts) -> Bundle {
        Bundle {
            made_by: concat!("identmap ", env!("CARGO_PKG_VERSION")).to_owned(),
            redacted: false,
            left_out: Vec::new(),
            facts,
            extra: Extra::default(),
            memory: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// The machine, as it would be read where the bundle was made.
    ///
    /// # Errors
    /// For facts that are a text: as [`parse::machine`].
    pub fn machine(&self, name: &str) -> Result<Machine, ParseError> {
        match &self.facts {
            Facts::Live(inputs) => {
                let mut machine = live::assemble(inputs);
                name.clone_into(&mut machine.source);
                Ok(machine)
            }
            Facts::Text(bytes) => parse::text(name, bytes),
        }
    }

    /// The file's text; the same facts give the same text.
    ///
    /// # Errors
    /// [`TooLarge`] if it would be longer than [`MAX_BUNDLE`].
    pub fn write(&self) -> Result<String, TooLarge> {
        let mut content = file::write(self);
        content.insert(json::INTEGRITY.to_owned(), json::integrity(&content).into());
        let text = json::pretty(&content);
        if text.len() > MAX_BUNDLE { Err(TooLarge { bytes: text.len() }) } else { Ok(text) }
    }

    /// What it holds, in the order of the file. What nobody tried to read is not listed.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        file::parts(self)
    }

    /// Whether these bytes are a bundle, whole or damaged: then they must not be read as a text.
    #[must_use]
    pub fn is_in(bytes: &[u8]) -> bool {
        // The one stands at the beginning, the other at the end; a cut leaves one.
        let schema = format!("\"{SCHEMA}");
        let is_mark = |rest: &[u8]| rest.starts_with(schema.as_bytes()) || json::is_integrity(rest);
        bytes.len() <= MAX_INPUT
            && bytes.iter().enumerate().any(|(at, &b)| b == b'"' && is_mark(&bytes[at..]))
    }

    /// Reads the text of a bundle. `name` is used for errors.
    ///
    /// # Errors
    /// [`ParseError`], with line and column where it is no JSON; without where it is larger than [`MAX_BUNDLE`],
    /// its checksum does not match its content, or a newer identmap made it.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Bundle, ParseError> {
        if bytes.len() > MAX_BUNDLE {
            let text = format!("a bundle of {} bytes; at most {MAX_BUNDLE} are read", bytes.len());
            return Err(ParseError::whole(name, text));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let content: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|error| syntax(name, bytes, &error))?;
        let whole = |text: &str| ParseError::whole(name, text);
        let schema = content.get("schema").and_then(|s| s.as_str()).unwrap_or_default();
        let version = schema.strip_prefix(SCHEMA).and_then(|v| v.parse::<u32>().ok());
        let sum = content.get(json::INTEGRITY).and_then(|s| s.as_str()).unwrap_or_default();
        let intact = sum == json::integrity(&content);
        match version {
            Some(VERSION) if intact => file::read(&content)
                .map_err(|why| whole(&format!("this bundle was not written by identmap: {why}"))),
            Some(newer) if newer > VERSION && (intact || !sum.starts_with(json::ALGORITHM)) => {
                Err(whole(&format!(
                    "made by a newer identmap: its schema is {SCHEMA}{newer}, and this version reads {SCHEMA}{VERSION}"
                )))
            }
            _ if intact => Err(whole(&format!(
                "this is no bundle: \"schema\" is {schema:.40?}, expected \"{SCHEMA}{VERSION}\""
            ))),
            _ => Err(whole(
                "this bundle is damaged or was edited: its content does not match its checksum; capture it again",
            )),
        }
    }
}

/// One thing that a bundle holds, or tells the lack of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its name in the file.
    pub name: String,
    /// What there is of it.
    pub state: PartState,
}

/// What a bundle has of a [`Part`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartState {
    /// The thing itself.
    Held {
        /// Its size, as it was read.
        bytes: usize,
    },
    /// That the machine has no such thing.
    Absent,
    /// That it could not be read.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// A bundle would be too large to be read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge {
    /// Its size in bytes.
    pub bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bundle would have {} bytes; at most {MAX_BUNDLE} can be read", self.bytes)
    }
}

impl core::error::Error for TooLarge {}

/// Options of the kernel's configuration that decide about kexec, its tables, or what can be read of them.
const OPTIONS: [&str; 61] = [
    "ACPI",
    "ACPI_HMAT",
    "ACPI_NUMA",
    "AMD_MEM_ENCRYPT",
    "AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT",
    "ARCH_DMA_ADDR_T_64BIT",
    "CMDLINE_BOOL",
    "CMDLINE_OVERRIDE",
    "CRASH_DUMP",
    "CRASH_HOTPLUG",
    "CRASH_MAX_MEMORY_RANGES",
    "CXL_REGION",
    "DEBUG_INFO_BTF",
    "DEVMEM",
    "EARLY_PRINTK",
    "EFI",
    "EFI_FAKE_MEMMAP",
    "EFI_HANDOVER_PROTOCOL",
    "EFI_MIXED",
    "EFI_RUNTIME_MAP",
    "EFI_SOFT_RESERVE",
    "EFI_STUB",
    "FIRMWARE_MEMMAP",
    "HIBERNATION",
    "HYPERVISOR_GUEST",
    "IMA_KEXEC",
    "INTEL_TDX_GUEST",
    "INTEL_TDX_HOST",
    "IO_STRICT_DEVMEM",
    "KALLSYMS",
    "KALLSYMS_ALL",
    "KEXEC",
    "KEXEC_BZIMAGE_VERIFY_SIG",
    "KEXEC_CORE",
    "KEXEC_FILE",
    "KEXEC_HANDOVER",
    "KEXEC_JUMP",
    "KEXEC_SIG",
    "KEXEC_SIG_FORCE",
    "KVM_AMD_SEV",
    "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
    "LOCK_DOWN_KERNEL_FORCE_INTEGRITY",
    "MEMORY_HOTPLUG",
    "MITIGATION_PAGE_TABLE_ISOLATION",
    "NUMA",
    "PAGE_TABLE_ISOLATION",
    "PHYSICAL_ALIGN",
    "PHYSICAL_START",
    "PROC_KCORE",
    "PROC_VMCORE",
    "RANDOMIZE_BASE",
    "RANDOMIZE_MEMORY",
    "RELOCATABLE",
    "SECURITY_LOCKDOWN_LSM",
    "STRICT_DEVMEM",
    "UNACCEPTED_MEMORY",
    "X86_5LEVEL",
    "X86_64",
    "X86_DIRECT_GBPAGES",
    "X86_UV",
    "XEN",
];

/// The lines of a kernel's configuration (`/boot/config-*`, `/proc/config.gz` unpacked) that matter, by name.
#[must_use]
pub fn config_that_matters(config: &str) -> String {
    let name = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or(line).strip_prefix("CONFIG_")?;
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        OPTIONS.binary_search(&&rest[..end]).ok()
    };
    let mut lines: Vec<(usize, &str)> =
        config.lines().filter_map(|line| Some((name(line)?, line.trim_end()))).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().flat_map(|(_, line)| [line, "\n"]).collect()
}

/// Where the JSON breaks.
fn syntax(name: &str, bytes: &[u8], error: &serde_json::Error) -> ParseError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let expected = format!("this bundle of identmap is damaged: {message}");
    let number = error.line();
    let Some(line) = bytes.split(|&b| b == b'\n').nth(number.saturating_sub(1)) else {
        return ParseError::whole(name, expected);
    };
    let at = error.column().saturating_sub(1);
    // Columns are counted in bytes; what is not UTF-8 becomes longer when it is replaced.
    let at = String::from_utf8_lossy(&line[..at.min(line.len())]).len();
    let bad = Bad { at, len: 1, expected, ended: false };
    ParseError::at_line(name, number, &String::from_utf8_lossy(line), &bad)
}

#[cfg(test)]
mod tests;
