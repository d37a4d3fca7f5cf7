//! What a kernel asks of its place.

use identmap_linux::boot::{BzImage, ENTRY_64};

use crate::format::{ElfKernel, Kernel};
use crate::load::LoadError;
use crate::place::LOWEST;

const FOUR_GIB: u64 = 1 << 32;

/// Its bytes and what they may be put next to.
pub(crate) struct Shape {
    pub(crate) bytes: Vec<u8>,
    /// Bytes it takes there.
    pub(crate) len: u64,
    pub(crate) align: u64,
    pub(crate) lowest: u64,
    /// Nothing that it is told of may lie above.
    pub(crate) limit: u64,
    pub(crate) initrd_limit: u64,
    /// Where it belongs, if it has a place.
    pub(crate) fixed: Option<u64>,
    /// Whether it may be elsewhere then.
    pub(crate) movable: bool,
    /// Where it is entered, from its start.
    pub(crate) entry: u64,
    /// Whether it can be entered with 5 levels in use; `None`: it does not say.
    pub(crate) five_levels: Option<bool>,
    pub(crate) header: Vec<u8>,
    pub(crate) cmdline_max: u64,
}

impl Shape {
    pub(crate) fn of(kernel: &Kernel) -> Result<Shape, LoadError> {
        match kernel {
            Kernel::BzImage(bytes) => {
                let image = BzImage::parse(bytes).map_err(LoadError::Kernel)?;
                Ok(Shape::of_bzimage(&image))
            }
            Kernel::Elf(elf) => Shape::of_elf(elf),
        }
    }

    fn of_bzimage(image: &BzImage<'_>) -> Shape {
        let limit = if image.above_4g() { u64::MAX } else { FOUR_GIB };
        let initrd_limit = if image.above_4g() {
            u64::MAX
        } else {
            FOUR_GIB.min(image.initrd_addr_max().saturating_add(1))
        };
        Shape {
            bytes: image.protected().to_vec(),
            len: image.init_size(),
            align: image.kernel_alignment(),
            // Below its preferred address it would move itself up there, wherever that is.
            lowest: image.pref_address().max(LOWEST),
            limit,
            initrd_limit,
            fixed: (!image.is_relocatable()).then_some(image.pref_address()),
            movable: false,
            entry: ENTRY_64,
            five_levels: Some(image.enters_with_5_levels()),
            header: image.setup_header().to_vec(),
            cmdline_max: image.cmdline_size(),
        }
    }

    /// One segment, from the first to the last byte: its pieces share pages.
    fn of_elf(elf: &ElfKernel) -> Result<Shape, LoadError> {
        /// More than any kernel takes in memory.
        const LARGEST: u64 = 1 << 30;
        /// `CONFIG_PHYSICAL_ALIGN`, the least there is: `__startup_64()` refuses less.
        const ALIGN: u64 = 2 << 20;
        let start = elf.segments.iter().map(|s| s.range.start().get()).min();
        let end = elf.segments.iter().map(|s| s.range.end().get()).max();
        let (Some(first), Some(end)) = (start, end) else {
            return Err(LoadError::Elf("with nothing to load"));
        };
        let start = first & !(ALIGN - 1);
        if end - start > LARGEST {
            return Err(LoadError::Elf("whose pieces lie more than 1 GiB apart"));
        }
        let entry = elf.entry.get().checked_sub(start).filter(|at| *at < end - start);
        let entry = entry.ok_or(LoadError::Elf("whose entry lies outside of it"))?;
        let mut bytes = Vec::new();
        for piece in &elf.segments {
            let at = (piece.range.start().get() - start) as usize;
            let to = at + piece.bytes.len();
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[at..to].copy_from_slice(&piece.bytes);
        }
        Ok(Shape {
            bytes,
            len: end - start,
            align: ALIGN,
            lowest: start.max(LOWEST),
            limit: u64::MAX,
            initrd_limit: u64::MAX,
            fixed: Some(start),
            // `phys_base` takes up the difference (`__startup_64()`).
            movable: true,
            entry,
            // Without a decompressor nobody changes the number of levels, and without CONFIG_X86_5LEVEL
            // `__startup_64()` makes tables of 4 whatever CR4 says.
            five_levels: None,
            header: elf_header(end - start),
            // `COMMAND_LINE_SIZE` is 2048 with its zero (`arch/x86/include/asm/setup.h`).
            cmdline_max: 2047,
        })
    }
}

/// A setup header for a kernel that has none, from offset `0x1f1` (boot.rst): protocol 2.15, loaded high.
fn elf_header(init_size: u64) -> Vec<u8> {
    let mut header = vec![0; 0x26c - 0x1f1];
    let mut put = |at: usize, bytes: &[u8]| {
        header[at - 0x1f1..at - 0x1f1 + bytes.len()].copy_from_slice(bytes);
    };
    put(0x1fe, &[0x55, 0xaa]);
    put(0x201, &[0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &[0x0f, 0x02]);
    put(0x211, &[1]);
    put(0x230, &(2_u32 << 20).to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x260, &(init_size as u32).to_le_bytes());
    header
}
