//! A loaded kexec image in the memory of a running kernel: where its page tables lie, and what else
//! the kernel keeps of it.
//!
//! Needs no module and no offsets by version: symbol addresses from `/proc/kallsyms`, the layout of
//! structures from the kernel's own BTF. Nothing is taken on trust: each value is held against what it
//! can be, and each thing that cannot be read is named.

use std::fmt;

use identmap::{Levels, PageSize, Paging, PhysAddr, PhysRange, RangeError, VirtAddr};

use crate::btf::Btf;
use crate::kallsyms::{NoSymbol, Symbols};
use crate::memory::{DirectMap, KernelMemory, PhysicalMemory, TablePages, Unreadable};
use crate::requests::Kind;
use crate::tables::{Tables, decode};

/// A running kernel, of which symbols and memory layout are known.
#[derive(Debug)]
pub struct Kernel<'k, M> {
    memory: &'k M,
    symbols: &'k Symbols,
    btf: &'k Btf<'k>,
    direct: VirtAddr,
    vmemmap: VirtAddr,
    levels: Levels,
    encryption_mask: u64,
}

/// A loaded image, as its `struct kimage` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedImage {
    /// What it was loaded for.
    pub kind: Kind,
    /// Where `struct kimage` lies.
    pub structure: VirtAddr,
    /// The top table of its identity map.
    pub root: PhysAddr,
    /// Where the kernel keeps that table.
    pub root_in: RootPlace,
    /// The first control page.
    pub control_page: PhysAddr,
    /// Where the jump goes.
    pub start: PhysAddr,
    /// `kimage.head`: the first entry of the list of pages to copy, with its flags.
    pub head: u64,
    /// Destination ranges in the order of the kernel's array, empty ones left out.
    pub segments: Vec<PhysRange>,
}

/// Where a kernel keeps the top table of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootPlace {
    /// In a page of its own, `kimage.arch.pgd` (since commit 4b5bc2ec9a23).
    OwnPage,
    /// In the first control page; the code is in the second.
    ControlPage,
}

/// Why something was not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KernelError {
    /// The address of a symbol is not known.
    Symbol {
        /// The symbol.
        name: &'static str,
        /// Why.
        why: NoSymbol,
    },
    /// The kernel's BTF does not describe this structure or member, or not as it must be.
    Layout(&'static str),
    /// Memory that cannot be read.
    Read {
        /// What was to be read.
        what: &'static str,
        /// Where, and why not.
        error: Unreadable,
    },
    /// A value that cannot be.
    Implausible {
        /// Of what.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// Numbers that are not a range.
    Range {
        /// Of what.
        what: &'static str,
        /// Why.
        error: RangeError,
    },
    /// The image was loaded, replaced or unloaded while it was read.
    Changed,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelError::Symbol { name, why } => write!(f, "{name}: {why}"),
            KernelError::Layout(what) => write!(f, "the kernel's BTF does not describe {what}"),
            KernelError::Read { what, error } => write!(f, "{what}: {error}"),
            KernelError::Implausible { what, value } => write!(f, "{what} cannot be {value:#x}"),
            KernelError::Range { what, error } => write!(f, "{what}: {error}"),
            KernelError::Changed => f.write_str("the image changed while it was read"),
        }
    }
}

impl std::error::Error for KernelError {}

/// `pfn_mapped[]` has `E820_MAX_ENTRIES` places, 128 + 3 * `MAX_NUMNODES`, of which there are 1024 at
/// most (arch/x86/mm/init.c, arch/x86/include/asm/e820/types.h).
const PFN_MAPPED_MAX: u64 = 128 + 3 * 1024;
/// `KEXEC_SEGMENT_MAX` is 16 (include/uapi/linux/kexec.h); a patched kernel may have more.
const SEGMENTS_MAX: u64 = 256;
/// Lowest address of the upper half with 4 levels; with 5 the direct map begins below
/// (`Documentation/arch/x86/x86_64/mm.rst`: at ff11000000000000, or up to ffd1… with KASLR).
const UPPER_HALF: [u64; 2] = [0xffff_8000_0000_0000, 0xff00_0000_0000_0000];

impl<'k, M: KernelMemory> Kernel<'k, M> {
    /// Finds the direct map, the array of `struct page`, the number of levels and the encryption bit.
    ///
    /// # Errors
    /// [`KernelError`] for a symbol that is not known, a variable that cannot be read or holds what
    /// cannot be.
    pub fn new(memory: &'k M, symbols: &'k Symbols, btf: &'k Btf<'k>) -> Result<Self, KernelError> {
        let unset = VirtAddr::new(0);
        let mut kernel = Kernel {
            memory,
            symbols,
            btf,
            direct: unset,
            vmemmap: unset,
            levels: Levels::Four,
            encryption_mask: 0,
        };
        let direct = kernel.number("page_offset_base")?;
        kernel.levels = match direct {
            at if at >= UPPER_HALF[0] => Levels::Four,
            at if at >= UPPER_HALF[1] => Levels::Five,
            value => return Err(KernelError::Implausible { what: "page_offset_base", value }),
        };
        if !direct.is_multiple_of(PageSize::Size1G.bytes()) {
            return Err(KernelError::Implausible { what: "page_offset_base", value: direct });
        }
        let vmemmap = kernel.number("vmemmap_base")?;
        if vmemmap <= direct {
            return Err(KernelError::Implausible { what: "vmemmap_base", value: vmemmap });
        }
        (kernel.direct, kernel.vmemmap) = (VirtAddr::new(direct), VirtAddr::new(vmemmap));
        // Not built into every kernel; where it is, it must agree.
        if let Some(enabled) = kernel.optional("__pgtable_l5_enabled")? {
            let enabled = enabled & 0xffff_ffff;
            if (enabled != 0) != (kernel.levels == Levels::Five) {
                let what = "__pgtable_l5_enabled";
                return Err(KernelError::Implausible { what, value: enabled });
            }
        }
        if let Some(mask) = kernel.optional("sme_me_mask")? {
            // One bit of the address field, at 47 or 51 in every processor so far.
            if mask != 0 && !(mask.is_power_of_two() && (32..52).contains(&mask.trailing_zeros())) {
                return Err(KernelError::Implausible { what: "sme_me_mask", value: mask });
            }
            kernel.encryption_mask = mask;
        }
        Ok(kernel)
    }

    /// Levels of the kernel's tables, and so of the image's.
    #[must_use]
    pub const fn levels(&self) -> Levels {
        self.levels
    }

    /// `sme_me_mask`: the bit that marks encrypted memory in entries; 0 without memory encryption.
    #[must_use]
    pub const fn encryption_mask(&self) -> u64 {
        self.encryption_mask
    }

    /// Where the direct map begins (`page_offset_base`).
    #[must_use]
    pub const fn direct_map(&self) -> VirtAddr {
        self.direct
    }

    pub(crate) const fn btf(&self) -> &'k Btf<'k> {
        self.btf
    }

    pub(crate) const fn memory(&self) -> &'k M {
        self.memory
    }

    /// Physical memory, through the direct map.
    #[must_use]
    pub const fn physical(&self) -> DirectMap<&'k M> {
        DirectMap::new(self.memory, self.direct)
    }

    /// The loaded image of a kind; `None` if none is loaded.
    ///
    /// # Errors
    /// [`KernelError`] when it cannot be found or read, or holds what cannot be.
    pub fn image(&self, kind: Kind) -> Result<Option<LoadedImage>, KernelError> {
        let pointer = self.number(match kind {
            Kind::Kexec => "kexec_image",
            Kind::Kdump => "kexec_crash_image",
        })?;
        if pointer == 0 {
            return Ok(None);
        }
        let size = self.btf.size_of("kimage").ok_or(KernelError::Layout("struct kimage"))?;
        let end = pointer.checked_add(size);
        if pointer < self.direct.get() || end.is_none_or(|end| end > self.vmemmap.get()) {
            return Err(KernelError::Implausible {
                what: "pointer to struct kimage",
                value: pointer,
            });
        }
        let structure = VirtAddr::new(pointer);
        let field = |what, path| self.field(structure, what, path);

        self.check_kind(structure, kind)?;
        let control_page =
            self.page_address(field("kimage.control_code_page", "control_code_page")?)?;
        let (root, root_in) = if self.btf.offset_of("kimage", "arch.pgd").is_some() {
            let pgd = field("kimage.arch.pgd", "arch.pgd")?;
            (self.direct_address("kimage.arch.pgd", pgd)?, RootPlace::OwnPage)
        } else {
            (control_page, RootPlace::ControlPage)
        };
        if !root.is_aligned(PageSize::Size4K) {
            return Err(KernelError::Implausible { what: "kimage.arch.pgd", value: root.get() });
        }
        let start = field("kimage.start", "start")?;
        let start = PhysAddr::new(start)
            .ok_or(KernelError::Implausible { what: "kimage.start", value: start })?;
        Ok(Some(LoadedImage {
            kind,
            structure,
            root,
            root_in,
            control_page,
            start,
            head: field("kimage.head", "head")?,
            segments: self.segments(structure)?,
        }))
    }

    /// The image and all that its tables map; `None` if none is loaded. `paging` is what the processor
    /// reads tables like ([`paging`](Kernel::paging)).
    ///
    /// # Errors
    /// As [`image`](Kernel::image), and [`KernelError::Changed`] if it was no longer the same after its
    /// tables had been read.
    pub fn image_tables(
        &self,
        kind: Kind,
        paging: Paging,
    ) -> Result<Option<(LoadedImage, Tables)>, KernelError> {
        let Some(image) = self.image(kind)? else { return Ok(None) };
        let tables = decode(&TablePages::distrusting_zeros(self.physical()), image.root, paging);
        match self.image(kind)? {
            Some(after) if after == image => Ok(Some((image, tables))),
            _ => Err(KernelError::Changed),
        }
    }

    /// How a processor with addresses of `maxphyaddr` bits reads the tables of this kernel.
    #[must_use]
    pub const fn paging(&self, maxphyaddr: u8, pdpe1gb: bool) -> Paging {
        let encryption_mask = self.encryption_mask;
        Paging { levels: self.levels, maxphyaddr, pdpe1gb, nxe: true, encryption_mask }
    }

    /// `pfn_mapped[]`, in its order: what the direct map holds.
    ///
    /// # Errors
    /// [`KernelError`] when it cannot be found or read, or holds what cannot be.
    pub fn pfn_mapped(&self) -> Result<Vec<PhysRange>, KernelError> {
        // struct range { u64 start, end; } of page numbers, the end exclusive (arch/x86/mm/init.c,
        // add_pfn_range_mapped); nr_pfn_mapped is an int.
        let what = "pfn_mapped";
        let count = self.number("nr_pfn_mapped")? & 0xffff_ffff;
        if count > PFN_MAPPED_MAX {
            return Err(KernelError::Implausible { what: "nr_pfn_mapped", value: count });
        }
        let array = self.symbol(what)?;
        let bytes =
            |pfn: u64| pfn.checked_mul(4096).ok_or(KernelError::Implausible { what, value: pfn });
        let range = |index: u64| {
            let start = bytes(self.word(what, array, index * 16)?)?;
            let end = bytes(self.word(what, array, index * 16 + 8)?)?;
            PhysRange::new(start, end).map_err(|error| KernelError::Range { what, error })
        };
        (0..count).map(range).collect()
    }

    /// Where the EFI configuration-table array lies (`efi_config_table`); `None` if the kernel was not
    /// booted by EFI.
    ///
    /// # Errors
    /// [`KernelError`] when the variable cannot be found or read, or holds what cannot be.
    pub fn efi_config_table(&self) -> Result<Option<PhysAddr>, KernelError> {
        let what = "efi_config_table";
        // EFI_INVALID_TABLE_ADDR is ~0 (include/linux/efi.h); the variable starts as 0.
        match self.number(what)? {
            0 | u64::MAX => Ok(None),
            value => match PhysAddr::new(value) {
                Some(address) => Ok(Some(address)),
                None => Err(KernelError::Implausible { what, value }),
            },
        }
    }

    /// Whether the kernel uses 1 GiB leaves (`direct_gbpages`).
    ///
    /// # Errors
    /// [`KernelError`] when the variable cannot be found or read.
    pub fn direct_gbpages(&self) -> Result<bool, KernelError> {
        Ok(self.number("direct_gbpages")? & 0xffff_ffff != 0)
    }

    /// `kimage.type`, a bit field: 1 for a crash image (`KEXEC_TYPE_CRASH`, include/linux/kexec.h).
    fn check_kind(&self, structure: VirtAddr, kind: Kind) -> Result<(), KernelError> {
        let what = "kimage.type";
        let (bit, width) = self.btf.bits("kimage", "type").ok_or(KernelError::Layout(what))?;
        let mut byte = [0];
        let at = structure.get().checked_add(bit / 8).ok_or(KernelError::Layout(what))?;
        self.read(what, VirtAddr::new(at), &mut byte)?;
        // One bit in every version; wider, its low byte says as much.
        let mask = if width >= 8 { 0xff } else { (1 << width) - 1 };
        let value = byte[0] >> (bit % 8) & mask;
        if (value == 1) == (kind == Kind::Kdump) && value <= 1 {
            Ok(())
        } else {
            Err(KernelError::Implausible { what, value: value.into() })
        }
    }

    /// The array of `struct kexec_segment`.
    fn segments(&self, structure: VirtAddr) -> Result<Vec<PhysRange>, KernelError> {
        let what = "kimage.segment";
        let count = self.field(structure, "kimage.nr_segments", "nr_segments")?;
        let list = self.btf.member("kimage", "segment").ok_or(KernelError::Layout(what))?;
        let size =
            self.btf.size_of("kexec_segment").ok_or(KernelError::Layout("struct kexec_segment"))?;
        let member = |what: &'static str, path| {
            self.btf.offset_of("kexec_segment", path).ok_or(KernelError::Layout(what))
        };
        let mem = member("kexec_segment.mem", "mem")?;
        let memsz = member("kexec_segment.memsz", "memsz")?;
        if count > list.elements.min(SEGMENTS_MAX) {
            return Err(KernelError::Implausible { what: "kimage.nr_segments", value: count });
        }
        let mut segments = Vec::new();
        for index in 0..count {
            let at = index.checked_mul(size).and_then(|at| at.checked_add(list.offset));
            let at = at.ok_or(KernelError::Layout(what))?;
            let word = |offset| {
                let offset = at.checked_add(offset).ok_or(KernelError::Layout(what))?;
                self.word(what, structure, offset)
            };
            let length = word(memsz)?;
            if length != 0 {
                let range = PhysRange::from_len(word(mem)?, length);
                segments.push(range.map_err(|error| KernelError::Range { what, error })?);
            }
        }
        Ok(segments)
    }

    /// Where the memory that a `struct page` of the vmemmap stands for lies (`page_to_phys()`).
    fn page_address(&self, page: u64) -> Result<PhysAddr, KernelError> {
        let size = self.btf.size_of("page").ok_or(KernelError::Layout("struct page"))?;
        let distance = page.checked_sub(self.vmemmap.get());
        distance
            .filter(|distance| size != 0 && distance.is_multiple_of(size))
            .and_then(|distance| (distance / size).checked_mul(4096))
            // It is memory, so it is in the direct map, which ends below the vmemmap.
            .filter(|at| {
                self.direct.get().checked_add(*at).is_some_and(|at| at < self.vmemmap.get())
            })
            .and_then(PhysAddr::new)
            .ok_or(KernelError::Implausible { what: "kimage.control_code_page", value: page })
    }

    /// Where an address of the direct map lies (`__pa()`).
    fn direct_address(&self, what: &'static str, value: u64) -> Result<PhysAddr, KernelError> {
        let inside = value < self.vmemmap.get();
        value
            .checked_sub(self.direct.get())
            .filter(|_| inside)
            .and_then(PhysAddr::new)
            .ok_or(KernelError::Implausible { what, value })
    }

    /// The eight bytes of a variable.
    fn number(&self, name: &'static str) -> Result<u64, KernelError> {
        self.word(name, self.symbol(name)?, 0)
    }

    /// The same, of a variable that not every kernel has.
    fn optional(&self, name: &'static str) -> Result<Option<u64>, KernelError> {
        match self.number(name) {
            Err(KernelError::Symbol { why: NoSymbol::Absent, .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    fn symbol(&self, name: &'static str) -> Result<VirtAddr, KernelError> {
        self.symbols.get(name).map_err(|why| KernelError::Symbol { name, why })
    }

    /// Eight bytes of the `struct kimage`.
    fn field(
        &self,
        structure: VirtAddr,
        what: &'static str,
        path: &str,
    ) -> Result<u64, KernelError> {
        let member = self.btf.member("kimage", path).ok_or(KernelError::Layout(what))?;
        if member.size != 8 {
            return Err(KernelError::Layout(what));
        }
        self.word(what, structure, member.offset)
    }

    fn word(&self, what: &'static str, at: VirtAddr, offset: u64) -> Result<u64, KernelError> {
        let at = at.get().checked_add(offset);
        let at = at.ok_or(KernelError::Implausible { what, value: offset })?;
        let mut bytes = [0; 8];
        self.read(what, VirtAddr::new(at), &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn read(&self, what: &'static str, at: VirtAddr, buffer: &mut [u8]) -> Result<(), KernelError> {
        self.memory.read_virt(at, buffer).map_err(|error| KernelError::Read { what, error })
    }
}

impl<M: KernelMemory> PhysicalMemory for Kernel<'_, M> {
    fn read_phys(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        self.physical().read_phys(at, buffer)
    }
}
