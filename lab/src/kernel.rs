//! Finds a loaded kexec image in the memory of a running kernel, from outside: symbol addresses as
//! `/proc/kallsyms` prints them, structure offsets out of the kernel's own BTF, and nothing else.

use std::collections::BTreeMap;
use std::fmt;

use crate::btf::{Btf, BtfError};
use crate::core_file::{PhysRead, Unreadable};

/// Symbols this module looks up. A guest has to print these, an excerpt of `/proc/kallsyms` is enough.
pub const SYMBOLS: &[&str] = &[
    "_text",
    "_end",
    "__start_BTF",
    "__stop_BTF",
    "linux_banner",
    "page_offset_base",
    "vmemmap_base",
    "kexec_image",
    "kexec_crash_image",
    "pfn_mapped",
    "nr_pfn_mapped",
    "efi_config_table",
    "relocate_kernel",
    "direct_gbpages",
];

/// Symbol addresses.
#[derive(Clone, Debug, Default)]
pub struct Symbols(BTreeMap<String, u64>);

impl Symbols {
    /// Reads lines `ADDRESS TYPE NAME [MODULE]`; the first of equal names counts, lines of another
    /// form do not.
    #[must_use]
    pub fn parse(kallsyms: &str) -> Self {
        let mut symbols = BTreeMap::new();
        for line in kallsyms.lines() {
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            if let (Some(address), Some(_), Some(name)) = (address, words.next(), words.next()) {
                symbols.entry(name.to_owned()).or_insert(address);
            }
        }
        Self(symbols)
    }

    /// The virtual address of a symbol. Zero is what a kernel prints to those it does not trust.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied().filter(|address| *address != 0)
    }

    /// All symbols, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, address)| (name.as_str(), *address))
    }
}

/// Why something was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// The kernel did not print this symbol.
    Symbol(&'static str),
    /// Its BTF does not describe this member (or structure).
    Layout(&'static str),
    /// A kernel virtual address that is neither in the kernel's image nor in its direct map.
    Virtual(u64),
    /// Physical memory that is not in the dump.
    Unreadable(Unreadable),
    /// The BTF in the kernel's image cannot be read.
    Btf(BtfError),
    /// A value that cannot be: what it is, and the value.
    Implausible(&'static str, u64),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => write!(f, "no symbol {name} in /proc/kallsyms"),
            Self::Layout(member) => write!(f, "the kernel's BTF does not describe {member}"),
            Self::Virtual(address) => {
                write!(f, "0x{address:016x} is neither in the kernel's image nor in its direct map")
            }
            Self::Unreadable(error) => error.fmt(f),
            Self::Btf(error) => error.fmt(f),
            Self::Implausible(what, value) => write!(f, "{what} cannot be 0x{value:x}"),
        }
    }
}

impl std::error::Error for KernelError {}

impl From<Unreadable> for KernelError {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

/// A running kernel whose own map is known well enough to follow its pointers.
#[derive(Debug)]
pub struct Kernel<'m, M> {
    memory: &'m M,
    symbols: Symbols,
    /// Virtual and physical address of `_text`, and the virtual end of the image.
    text: u64,
    text_physical: u64,
    end: u64,
    /// Start of the direct map of all memory.
    pub page_offset_base: u64,
    /// Start of the array of `struct page`.
    pub vmemmap_base: u64,
    /// A page-aligned byte count that no physical address reaches: the size of the direct map.
    direct_size: u64,
}

/// Which image: what `kexec -l` loads, or what `kexec -p` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `kexec_image`
    Normal,
    /// `kexec_crash_image`
    Crash,
}

/// A loaded image, as `struct kimage` has it. Addresses are physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// Where the structure itself lies, and its size.
    pub structure: (u64, u64),
    /// The top table.
    pub root: u64,
    /// The first of the two pages that hold the control code (before 6.1.129 and between 6.1.138 and
    /// 6.12: the top table, then the code).
    pub control_page: u64,
    /// Where the jump goes.
    pub start: u64,
    /// Destination ranges in the order of the kernel's array, half-open.
    pub segments: Vec<(u64, u64)>,
}

/// Most ranges `pfn_mapped[]` holds: `E820_MAX_ENTRIES` is 128 + 3 * `MAX_NUMNODES` (1024 at most).
const PFN_MAPPED_MAX: u64 = 128 + 3 * 1024;
/// More BTF than any kernel has.
const BTF_MAX: u64 = 64 << 20;
/// `KEXEC_SEGMENT_MAX` (include/linux/kexec.h) is 16; a patched kernel may have more.
const SEGMENTS_MAX: u64 = 256;

impl<'m, M: PhysRead> Kernel<'m, M> {
    /// Takes a kernel whose `_text` lies at `text_physical`: the start of "Kernel code" in
    /// `/proc/iomem` (arch/x86/kernel/setup.c, `setup_arch`: `code_resource.start = __pa_symbol(_text)`).
    ///
    /// # Errors
    /// [`KernelError`] when a symbol is missing or its variable cannot be read.
    pub fn new(memory: &'m M, symbols: Symbols, text_physical: u64) -> Result<Self, KernelError> {
        let find = |name| symbols.get(name).ok_or(KernelError::Symbol(name));
        let (text, end) = (find("_text")?, find("_end")?);
        if end <= text {
            return Err(KernelError::Implausible("_end", end));
        }
        let mut kernel = Self {
            memory,
            text,
            text_physical,
            end,
            symbols,
            page_offset_base: u64::MAX,
            vmemmap_base: u64::MAX,
            direct_size: 0,
        };
        kernel.page_offset_base = kernel.read_symbol("page_offset_base")?;
        kernel.vmemmap_base = kernel.read_symbol("vmemmap_base")?;
        kernel.direct_size = kernel
            .vmemmap_base
            .checked_sub(kernel.page_offset_base)
            .ok_or(KernelError::Implausible("vmemmap_base", kernel.vmemmap_base))?;
        Ok(kernel)
    }

    /// The text of `linux_banner`: a kernel whose banner reads as its own is one whose addresses are
    /// translated right.
    ///
    /// # Errors
    /// [`KernelError`] when the symbol is missing or not in the dump.
    pub fn banner(&self) -> Result<String, KernelError> {
        let at = self.physical(self.symbol("linux_banner")?)?;
        let mut bytes = [0; 128];
        self.memory.read(at, &mut bytes)?;
        let text = bytes.split(|byte| *byte == 0 || *byte == b'\n').next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The kernel's own BTF, as `/sys/kernel/btf/vmlinux` gives it.
    ///
    /// # Errors
    /// [`KernelError`] when the symbols around it are missing or its bytes are not in the dump.
    pub fn btf_bytes(&self) -> Result<Vec<u8>, KernelError> {
        let start = self.symbol("__start_BTF")?;
        let stop = self.symbol("__stop_BTF")?;
        let size = stop
            .checked_sub(start)
            .filter(|size| *size <= BTF_MAX)
            .ok_or(KernelError::Implausible("__stop_BTF", stop))?;
        let mut bytes = vec![0; size as usize];
        self.memory.read(self.physical(start)?, &mut bytes)?;
        Ok(bytes)
    }

    /// The loaded image in a slot; `None` if none is loaded.
    ///
    /// # Errors
    /// [`KernelError`] when the structure cannot be found or read, or holds what cannot be.
    pub fn loaded_image(
        &self,
        btf: &Btf<'_>,
        slot: Slot,
    ) -> Result<Option<LoadedImage>, KernelError> {
        let pointer = self.read_symbol(match slot {
            Slot::Normal => "kexec_image",
            Slot::Crash => "kexec_crash_image",
        })?;
        if pointer == 0 {
            return Ok(None);
        }
        let size = btf.size_of("kimage").ok_or(KernelError::Layout("struct kimage"))?;
        let structure = self.physical(pointer)?;
        let field = |path: &'static str| -> Result<u64, KernelError> {
            let offset = btf.offset_of("kimage", path).ok_or(KernelError::Layout(path))?;
            let at = structure.checked_add(offset).ok_or(Unreadable(structure))?;
            Ok(self.memory.read_u64(at)?)
        };

        let page = field("control_code_page")?;
        let page_size = btf.size_of("page").filter(|size| *size != 0);
        let control_page = page
            .checked_sub(self.vmemmap_base)
            .zip(page_size)
            .filter(|(distance, size)| distance % size == 0)
            .and_then(|(distance, size)| (distance / size).checked_mul(4096))
            .ok_or(KernelError::Implausible("control_code_page", page))?;
        // Since "x86/kexec: Allocate PGD for x86_64 transition page tables separately" the top table
        // has its own page; before, it is the first of the control pages.
        let root = match btf.offset_of("kimage", "arch.pgd") {
            Some(_) => self.physical(field("arch.pgd")?)?,
            None => control_page,
        };

        let list = btf.member("kimage", "segment").ok_or(KernelError::Layout("segment"))?;
        let element =
            btf.size_of("kexec_segment").ok_or(KernelError::Layout("struct kexec_segment"))?;
        let mem = btf.offset_of("kexec_segment", "mem").ok_or(KernelError::Layout("mem"))?;
        let memsz = btf.offset_of("kexec_segment", "memsz").ok_or(KernelError::Layout("memsz"))?;
        let count = field("nr_segments")?;
        if count > list.elements.min(SEGMENTS_MAX) {
            return Err(KernelError::Implausible("nr_segments", count));
        }
        let mut segments = Vec::new();
        for index in 0..count {
            let at = index
                .checked_mul(element)
                .and_then(|at| at.checked_add(list.offset)?.checked_add(structure))
                .ok_or(Unreadable(structure))?;
            let start = self.memory.read_u64(at.saturating_add(mem))?;
            let length = self.memory.read_u64(at.saturating_add(memsz))?;
            let end = start.checked_add(length).ok_or(KernelError::Implausible("memsz", length))?;
            segments.push((start, end));
        }
        Ok(Some(LoadedImage {
            structure: (structure, size),
            root,
            control_page,
            start: field("start")?,
            segments,
        }))
    }

    /// `pfn_mapped[]`: the ranges of the direct map, half-open, in bytes.
    ///
    /// # Errors
    /// [`KernelError`] when the array cannot be found or read, or holds what cannot be.
    pub fn pfn_mapped(&self) -> Result<Vec<(u64, u64)>, KernelError> {
        // struct range { u64 start, end; } of page numbers, the end exclusive (arch/x86/mm/init.c,
        // add_pfn_range_mapped); nr_pfn_mapped is an int.
        let count = self.read_symbol("nr_pfn_mapped")? & 0xffff_ffff;
        if count > PFN_MAPPED_MAX {
            return Err(KernelError::Implausible("nr_pfn_mapped", count));
        }
        let array = self.physical(self.symbol("pfn_mapped")?)?;
        let bytes =
            |pfn: u64| pfn.checked_mul(4096).ok_or(KernelError::Implausible("pfn_mapped", pfn));
        (0..count)
            .map(|index| {
                let start = self.memory.read_u64(array + index * 16)?;
                let end = self.memory.read_u64(array + index * 16 + 8)?;
                Ok((bytes(start)?, bytes(end)?))
            })
            .collect()
    }

    /// The eight bytes of a variable.
    ///
    /// # Errors
    /// [`KernelError`] when the symbol is missing or not in the dump.
    pub fn read_symbol(&self, name: &'static str) -> Result<u64, KernelError> {
        Ok(self.memory.read_u64(self.physical(self.symbol(name)?)?)?)
    }

    /// Where a kernel virtual address lies: in the kernel's image or in the direct map.
    ///
    /// # Errors
    /// [`KernelError::Virtual`] for any other address.
    pub fn physical(&self, address: u64) -> Result<u64, KernelError> {
        let in_image = address >= self.text && address < self.end;
        let (base, physical) =
            if in_image { (self.text, self.text_physical) } else { (self.page_offset_base, 0) };
        address
            .checked_sub(base)
            .filter(|distance| in_image || *distance < self.direct_size)
            .and_then(|distance| distance.checked_add(physical))
            .ok_or(KernelError::Virtual(address))
    }

    fn symbol(&self, name: &'static str) -> Result<u64, KernelError> {
        self.symbols.get(name).ok_or(KernelError::Symbol(name))
    }
}

/// Start of a resource of this name in the text of `/proc/iomem`; zero is what it prints without
/// privilege.
#[must_use]
pub fn iomem_start(iomem: &str, name: &str) -> Option<u64> {
    iomem_ranges(iomem, name).map(|(start, _)| start).find(|start| *start != 0)
}

/// Ranges of all resources of this name in the text of `/proc/iomem`, half-open.
pub fn iomem_ranges<'a>(iomem: &'a str, name: &'a str) -> impl Iterator<Item = (u64, u64)> + 'a {
    iomem.lines().filter_map(move |line| {
        let (range, found) = line.trim_start().split_once(" : ")?;
        let (start, end) = range.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?.checked_add(1)?;
        (found == name).then_some((start, end))
    })
}
