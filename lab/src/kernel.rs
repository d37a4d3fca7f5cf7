//! Finds a loaded kexec image in the memory of a running kernel, from outside: symbol addresses as
//! `/proc/kallsyms` prints them, structure offsets out of the kernel's own BTF, and nothing else.

use std::collections::BTreeMap;
use std::fmt;

use identmap::{PhysAddr, PhysRange, RangeError, VirtAddr};

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
pub struct Symbols(BTreeMap<String, VirtAddr>);

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
                symbols.entry(name.to_owned()).or_insert(VirtAddr::new(address));
            }
        }
        Self(symbols)
    }

    /// The virtual address of a symbol. Zero is what a kernel prints to those it does not trust.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<VirtAddr> {
        self.0.get(name).copied().filter(|address| address.get() != 0)
    }

    /// All symbols, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, VirtAddr)> {
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
    Virtual(VirtAddr),
    /// Physical memory that is not in the dump.
    Unreadable(Unreadable),
    /// The BTF in the kernel's image cannot be read.
    Btf(BtfError),
    /// A value that cannot be: what it is, and the value.
    Implausible(&'static str, u64),
    /// Ends that are not of a range: of what, and why.
    Range(&'static str, RangeError),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => write!(f, "no symbol {name} in /proc/kallsyms"),
            Self::Layout(member) => write!(f, "the kernel's BTF does not describe {member}"),
            Self::Virtual(address) => {
                write!(f, "{address} is neither in the kernel's image nor in its direct map")
            }
            Self::Unreadable(error) => error.fmt(f),
            Self::Btf(error) => error.fmt(f),
            Self::Range(what, error) => write!(f, "{what}: {error}"),
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
    /// The kernel's image: virtual addresses, and where the first of them lies.
    image: std::ops::Range<VirtAddr>,
    text: PhysAddr,
    /// The direct map of all memory: virtual addresses, of which the first is of physical address 0.
    direct: std::ops::Range<VirtAddr>,
    vmemmap_base: VirtAddr,
}

/// Which image: what `kexec -l` loads, or what `kexec -p` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `kexec_image`
    Normal,
    /// `kexec_crash_image`
    Crash,
}

/// A loaded image, as `struct kimage` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// Where the structure itself lies.
    pub structure: PhysRange,
    /// The top table.
    pub root: PhysAddr,
    /// The first of the two pages of control code; where the top table has no page of its own, it is
    /// this one and the code is in the second.
    pub control_page: PhysAddr,
    /// Where the jump goes.
    pub start: PhysAddr,
    /// Destination ranges in the order of the kernel's array, empty ones left out.
    pub segments: Vec<PhysRange>,
}

/// Most ranges `pfn_mapped[]` holds: `E820_MAX_ENTRIES` is 128 + 3 * `MAX_NUMNODES` (1024 at most).
const PFN_MAPPED_MAX: u64 = 128 + 3 * 1024;
/// More BTF than any kernel has.
const BTF_MAX: u64 = 64 << 20;
/// Of the list of pages of an image: as many as 16 GiB have.
const ENTRIES_MAX: u64 = 4 << 20;
/// `KEXEC_SEGMENT_MAX` (include/linux/kexec.h) is 16; a patched kernel may have more.
const SEGMENTS_MAX: u64 = 256;

impl<'m, M: PhysRead> Kernel<'m, M> {
    /// Takes a kernel whose `_text` lies at `text`: the start of "Kernel code" in
    /// `/proc/iomem` (arch/x86/kernel/setup.c, `setup_arch`: `code_resource.start = __pa_symbol(_text)`).
    ///
    /// # Errors
    /// [`KernelError`] when a symbol is missing or its variable cannot be read.
    pub fn new(memory: &'m M, symbols: Symbols, text: PhysAddr) -> Result<Self, KernelError> {
        let find = |name| symbols.get(name).ok_or(KernelError::Symbol(name));
        let image = find("_text")?..find("_end")?;
        let nowhere = VirtAddr::new(u64::MAX);
        let direct = nowhere..nowhere;
        let mut kernel = Self { memory, image, text, symbols, direct, vmemmap_base: nowhere };
        let start = VirtAddr::new(kernel.read_symbol("page_offset_base")?);
        kernel.vmemmap_base = VirtAddr::new(kernel.read_symbol("vmemmap_base")?);
        // Whatever lies between, the direct map ends before (Documentation/arch/x86/x86_64/mm.rst).
        kernel.direct = start..kernel.vmemmap_base;
        Ok(kernel)
    }

    /// Start of the direct map (`page_offset_base`).
    #[must_use]
    pub fn direct_map(&self) -> VirtAddr {
        self.direct.start
    }

    /// Start of the array of `struct page` (`vmemmap_base`).
    #[must_use]
    pub fn vmemmap(&self) -> VirtAddr {
        self.vmemmap_base
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
            .get()
            .checked_sub(start.get())
            .filter(|size| *size <= BTF_MAX)
            .ok_or(KernelError::Implausible("__stop_BTF", stop.get()))?;
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
        let start = self.physical(VirtAddr::new(pointer))?;
        let structure = PhysRange::from_len(start.get(), size)
            .map_err(|error| KernelError::Range("struct kimage", error))?;
        let field = |path: &'static str| -> Result<u64, KernelError> {
            let offset = btf.offset_of("kimage", path).ok_or(KernelError::Layout(path))?;
            self.read_in(start, offset)
        };

        let control_page = self.page_address(btf, field("control_code_page")?)?;
        // Since "x86/kexec: Allocate PGD for x86_64 transition page tables separately" the top table
        // has its own page; before, it is the first of the control pages.
        let root = match btf.offset_of("kimage", "arch.pgd") {
            Some(_) => self.physical(VirtAddr::new(field("arch.pgd")?))?,
            None => control_page,
        };
        let entry = field("start")?;
        let entry = PhysAddr::new(entry).ok_or(KernelError::Implausible("start", entry))?;
        let segments = self.segments(btf, start, field("nr_segments")?)?;
        Ok(Some(LoadedImage { structure, root, control_page, start: entry, segments }))
    }

    /// The array of `struct kexec_segment` in the `struct kimage` at `image`.
    fn segments(
        &self,
        btf: &Btf<'_>,
        image: PhysAddr,
        count: u64,
    ) -> Result<Vec<PhysRange>, KernelError> {
        let list = btf.member("kimage", "segment").ok_or(KernelError::Layout("segment"))?;
        let size =
            btf.size_of("kexec_segment").ok_or(KernelError::Layout("struct kexec_segment"))?;
        let member = |path: &'static str| {
            btf.offset_of("kexec_segment", path).ok_or(KernelError::Layout(path))
        };
        let (mem, memsz) = (member("mem")?, member("memsz")?);
        if count > list.elements.min(SEGMENTS_MAX) {
            return Err(KernelError::Implausible("nr_segments", count));
        }
        let mut segments = Vec::new();
        for index in 0..count {
            let at = index
                .checked_mul(size)
                .and_then(|at| image.checked_add(at.checked_add(list.offset)?))
                .ok_or(Unreadable(image))?;
            let length = self.read_in(at, memsz)?;
            if length != 0 {
                let range = PhysRange::from_len(self.read_in(at, mem)?, length);
                segments.push(range.map_err(|error| KernelError::Range("segment", error))?);
            }
        }
        Ok(segments)
    }

    /// Where the kernel holds what it will copy at the jump: each page of `image`, and the page that it
    /// is copied from. Of an image for a crash, whose segments lie where they belong, none.
    ///
    /// # Errors
    /// [`KernelError`] when the list cannot be read, or does not end.
    pub fn source_pages(
        &self,
        btf: &Btf<'_>,
        image: &LoadedImage,
    ) -> Result<Vec<(PhysAddr, PhysAddr)>, KernelError> {
        let head = btf.offset_of("kimage", "head").ok_or(KernelError::Layout("head"))?;
        let mut at = image.structure.start().checked_add(head).ok_or(Unreadable(PhysAddr::ZERO))?;
        let (mut pages, mut target) = (Vec::new(), None);
        for _ in 0..ENTRIES_MAX {
            let entry = self.memory.read_u64(at)?;
            let page =
                PhysAddr::new(entry & !0xfff).ok_or(KernelError::Implausible("entry", entry))?;
            at = at.checked_add(8).ok_or(Unreadable(at))?;
            // include/linux/kexec.h: IND_DESTINATION, IND_INDIRECTION, IND_DONE, IND_SOURCE
            match entry & 0xf {
                1 => target = Some(page),
                2 => at = page,
                4 => return Ok(pages),
                8 => {
                    let to = target.ok_or(KernelError::Implausible("entry", entry))?;
                    pages.push((to, page));
                    target = to.checked_add(4096);
                }
                _ => return Err(KernelError::Implausible("entry", entry)),
            }
        }
        Err(KernelError::Implausible("length of the list of pages", ENTRIES_MAX))
    }

    /// How many bytes of each segment were loaded; the rest of it is zeros. In the order of
    /// [`LoadedImage::segments`].
    ///
    /// # Errors
    /// As [`Kernel::loaded_image`].
    pub fn loaded_bytes(
        &self,
        btf: &Btf<'_>,
        image: &LoadedImage,
    ) -> Result<Vec<u64>, KernelError> {
        let start = image.structure.start();
        let offset =
            btf.offset_of("kimage", "nr_segments").ok_or(KernelError::Layout("nr_segments"))?;
        let count = self.read_in(start, offset)?.min(SEGMENTS_MAX);
        let list = btf.member("kimage", "segment").ok_or(KernelError::Layout("segment"))?;
        let size =
            btf.size_of("kexec_segment").ok_or(KernelError::Layout("struct kexec_segment"))?;
        let member = |path: &'static str| {
            btf.offset_of("kexec_segment", path).ok_or(KernelError::Layout(path))
        };
        let (bufsz, memsz) = (member("bufsz")?, member("memsz")?);
        let mut sizes = Vec::new();
        for index in 0..count {
            let at = start.checked_add(index * size + list.offset).ok_or(Unreadable(start))?;
            if self.read_in(at, memsz)? != 0 {
                sizes.push(self.read_in(at, bufsz)?);
            }
        }
        Ok(sizes)
    }

    /// What `page_address()` gives for a `struct page` in the vmemmap, as a physical address.
    fn page_address(&self, btf: &Btf<'_>, page: u64) -> Result<PhysAddr, KernelError> {
        let size = btf.size_of("page").ok_or(KernelError::Layout("struct page"))?;
        let distance = page.checked_sub(self.vmemmap_base.get());
        distance
            .filter(|distance| size != 0 && distance % size == 0)
            .and_then(|distance| (distance / size).checked_mul(4096))
            .and_then(PhysAddr::new)
            .ok_or(KernelError::Implausible("struct page pointer", page))
    }

    fn read_in(&self, structure: PhysAddr, offset: u64) -> Result<u64, KernelError> {
        let at = structure.checked_add(offset).ok_or(Unreadable(structure))?;
        Ok(self.memory.read_u64(at)?)
    }

    /// `pfn_mapped[]`: the ranges of the direct map, half-open, in bytes.
    ///
    /// # Errors
    /// [`KernelError`] when the array cannot be found or read, or holds what cannot be.
    pub fn pfn_mapped(&self) -> Result<Vec<PhysRange>, KernelError> {
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
                let start = bytes(self.read_in(array, index * 16)?)?;
                let end = bytes(self.read_in(array, index * 16 + 8)?)?;
                PhysRange::new(start, end).map_err(|error| KernelError::Range("pfn_mapped", error))
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
    pub fn physical(&self, address: VirtAddr) -> Result<PhysAddr, KernelError> {
        let (map, base) = if self.image.contains(&address) {
            (&self.image, self.text)
        } else if self.direct.contains(&address) {
            (&self.direct, PhysAddr::ZERO)
        } else {
            return Err(KernelError::Virtual(address));
        };
        base.checked_add(address.get() - map.start.get()).ok_or(KernelError::Virtual(address))
    }

    fn symbol(&self, name: &'static str) -> Result<VirtAddr, KernelError> {
        self.symbols.get(name).ok_or(KernelError::Symbol(name))
    }
}

/// Start of a resource of this name in the text of `/proc/iomem`; `None` also if all are zero, which
/// is what it prints without privilege.
#[must_use]
pub fn iomem_start(iomem: &str, name: &str) -> Option<PhysAddr> {
    iomem_ranges(iomem, name).map(PhysRange::start).find(|start| *start != PhysAddr::ZERO)
}

/// Ranges of all resources of this name in the text of `/proc/iomem`.
pub fn iomem_ranges<'a>(iomem: &'a str, name: &'a str) -> impl Iterator<Item = PhysRange> + 'a {
    iomem.lines().filter_map(move |line| {
        let (range, found) = line.trim_start().split_once(" : ")?;
        let (start, last) = range.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let last = u64::from_str_radix(last, 16).ok()?;
        PhysRange::from_inclusive(start, last).ok().filter(|_| found == name)
    })
}
