//! What the host found out about a guest: `facts.json` of a result, to be written and read back.
//!
//! Addresses are hex strings, ranges have inclusive ends; inside they are what they are everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use identmap::{Levels, PhysAddr, PhysRange, VirtAddr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::core_file::{CoreError, CoreFile};

/// The `schema` of what this version writes.
pub const SCHEMA: &str = "identmap.lab-cell/1";

/// `facts.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`SCHEMA`]
    pub schema: String,
    /// The cell's name.
    pub cell: String,
    /// `uname -r`
    pub release: String,
    /// Name and version of the kernel's package.
    pub package: String,
    /// The guest's kernel command line.
    pub command_line: String,
    /// How many levels the running kernel's tables have, and so the image's.
    pub levels: u8,
    /// Whether the running kernel has 1G pages in use (`direct_gbpages`).
    pub gbpages: bool,
    /// The image's top table.
    pub root: Phys,
    /// The first control page.
    pub control_page: Phys,
    /// The transition page: the control code at the address where the running kernel has it.
    pub transition: Transition,
    /// Where the jump goes.
    pub start: Phys,
    /// `struct kimage`
    pub kimage: Range,
    /// The image's segments, in its order.
    pub segments: Vec<Range>,
    /// `pfn_mapped[]`, in its order.
    pub pfn_mapped: Vec<Range>,
    /// Absent without EFI.
    pub efi: Option<Efi>,
    /// Start of the direct map.
    pub page_offset_base: Virt,
    /// Start of the array of `struct page`.
    pub vmemmap_base: Virt,
    /// Where `_text` lies.
    pub text: Phys,
    /// Symbol addresses.
    pub symbols: BTreeMap<String, Virt>,
    /// The processor's CR3 when the memory was taken, with its flags.
    pub cr3: Virt,
    /// Its CR4.
    pub cr4: Virt,
    /// Pages that hold tables.
    pub tables: u64,
    /// Leaves by size.
    pub leaves: Leaves,
    /// What came after the jump; absent if there was none.
    pub second: Option<String>,
    /// How long it took.
    pub seconds: Seconds,
}

/// EFI facts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Efi {
    /// The system table, from `boot_params`.
    pub system_table: Phys,
    /// The configuration-table array, from the kernel's `efi_config_table` and the system table's count.
    pub config_tables: Range,
    /// Its entries.
    pub entries: u64,
    /// Bytes between it and the nearest "System RAM" of `/proc/iomem`.
    pub bytes_to_ram: u64,
}

/// The one 4K leaf of the tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// Its virtual address.
    pub virt: Virt,
    /// Its physical address.
    pub phys: Phys,
}

/// Number of leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves {
    /// Of 4 KiB.
    #[serde(rename = "4K")]
    pub small: u64,
    /// Of 2 MiB.
    #[serde(rename = "2M")]
    pub middle: u64,
    /// Of 1 GiB.
    #[serde(rename = "1G")]
    pub large: u64,
}

/// Wall-clock seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// From power-on to the loaded image.
    pub loaded: f64,
    /// For the dump and its reading.
    pub dumped: f64,
    /// From the jump to the second kernel's first process.
    pub second: f64,
}

/// Why saved results cannot be read.
#[derive(Debug)]
pub enum LoadError {
    /// A file cannot be read.
    Io(io::Error),
    /// `facts.json` is not what this version writes.
    Json(serde_json::Error),
    /// Written by another version: its schema.
    Schema(String),
    /// `memory.elf` is not a core file.
    Core(CoreError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Json(error) => write!(f, "facts.json: {error}"),
            Self::Schema(schema) => {
                write!(f, "facts.json has schema {schema:?}, expected {SCHEMA:?}")
            }
            Self::Core(error) => write!(f, "memory.elf: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Facts {
    /// Reads a cell's results: its facts, and the memory that was kept.
    ///
    /// # Errors
    /// [`LoadError`]: each variant says when.
    pub fn load(results: &Path) -> Result<(Self, CoreFile<File>), LoadError> {
        let text = fs::read_to_string(results.join("facts.json"))?;
        let facts: Self = serde_json::from_str(&text).map_err(LoadError::Json)?;
        if facts.schema != SCHEMA {
            return Err(LoadError::Schema(facts.schema));
        }
        let memory = CoreFile::open(File::open(results.join("memory.elf"))?);
        Ok((facts, memory.map_err(LoadError::Core)?))
    }

    /// [`Facts::levels`] as the core has it.
    #[must_use]
    pub fn paging_levels(&self) -> Levels {
        if self.levels == 5 { Levels::Five } else { Levels::Four }
    }
}

/// A physical address in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phys(pub PhysAddr);

/// A virtual address or a register in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virt(pub VirtAddr);

/// A physical range in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(pub PhysRange);

impl Serialize for Phys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Virt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#018x}", self.0.get()))
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Phys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = hex(&text).and_then(PhysAddr::new);
        address.map(Phys).ok_or_else(|| de::Error::custom(format!("no physical address: {text:?}")))
    }
}

impl<'de> Deserialize<'de> for Virt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = hex(&text).map(VirtAddr::new);
        address.map(Virt).ok_or_else(|| de::Error::custom(format!("no address: {text:?}")))
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ends = text.split_once('-').and_then(|(start, last)| hex(start).zip(hex(last)));
        let range = ends.and_then(|(start, last)| PhysRange::from_inclusive(start, last).ok());
        range.map(Range).ok_or_else(|| de::Error::custom(format!("no physical range: {text:?}")))
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let range = Range(PhysRange::new(0x1000, 0x3000).unwrap());
        let text = serde_json::to_string(&range).unwrap();
        assert_eq!(text, "\"0x0000000000001000-0x0000000000002fff\"");
        assert_eq!(serde_json::from_str::<Range>(&text).unwrap(), range);
        let address = Phys(PhysAddr::new(0x5000).unwrap());
        let text = serde_json::to_string(&address).unwrap();
        assert_eq!(serde_json::from_str::<Phys>(&text).unwrap(), address);
        for text in ["\"0x2-0x1\"", "\"0x1\"", "\"1-2\"", "\"0x0-0xffffffffffffffff\"", "7"] {
            assert!(serde_json::from_str::<Range>(text).is_err(), "{text}");
        }
    }
}
