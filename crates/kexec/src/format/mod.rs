//! Kernel files: what they are, and what is in them.
//!
//! | format | what is taken |
//! |---|---|
//! | bzImage | boot protocol 2.12 or newer with the 64-bit entry point ([`BzImage`]) |
//! | ELF | a `vmlinux`: `ET_EXEC` for x86-64; physical addresses of its `PT_LOAD` segments |
//! | UKI | `.linux`, `.initrd` (behind `.ucode`), `.cmdline` and `.uname`, of profile 0 if it has profiles |
//! | gzip, zstd, xz | one of these, compressed; unpacked as a stream, up to [`LONGEST`] bytes |
//!
//! Everything else is refused by name where it has one ([`Foreign`]).
//!
//! ```
//! use identmap_kexec::format::{self, Foreign, FormatError};
//!
//! let error = format::read(b"070701 and so on".to_vec()).unwrap_err();
//! assert_eq!(error, FormatError::Unsupported(Foreign::Cpio));
//! assert_eq!(error.to_string(), "an initrd (cpio archive) is no kernel for us");
//! ```

mod elf;
mod foreign;
#[cfg(test)]
mod tests;
mod uki;
mod unpack;

use core::{fmt, mem};

use identmap::{PhysAddr, PhysRange};
use identmap_linux::boot::{BzImage, ImageError};

pub use elf::ElfError;
pub use foreign::Foreign;
pub use uki::UkiError;

/// What a compressed file may unpack to, and what an ELF kernel may occupy, in bytes. A `vmlinux` with all its
/// debug information has about half of it.
pub const LONGEST: u64 = 2 << 30;

/// A kernel lies in at most so many layers of others: compressed, in a UKI, compressed again.
pub const MOST_LAYERS: usize = 4;

/// What a kernel file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelFile {
    /// What the kernel itself is: [`Format::BzImage`] or [`Format::Elf`].
    pub format: Format,
    /// The kernel.
    pub kernel: Kernel,
    /// The initrd that came with it: of a UKI.
    pub initrd: Option<Vec<u8>>,
    /// The command line that came with it: of a UKI. No control characters, no blanks at the ends.
    pub cmdline: Option<String>,
    /// The release that came with it, as `uname -r` prints it: of a UKI.
    pub uname: Option<String>,
    /// What was around the kernel, from the outside: `[Gzip]`, `[Uki]`, `[Uki, Zstd]`.
    pub layers: Vec<Format>,
}

/// A kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// A whole bzImage, which [`BzImage::parse`] takes.
    BzImage(Vec<u8>),
    /// What an ELF file says is to be loaded.
    Elf(ElfKernel),
}

/// An ELF kernel, to be loaded where it says or moved as a whole.
///
/// Holding one that [`read`] made proves: segments are sorted by address and disjoint, no
/// one has more bytes than its range, all lie in physical memory within [`LONGEST`] bytes, and
/// the entry is in one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElfKernel {
    /// Where it is entered: physical.
    pub entry: PhysAddr,
    /// Its segments.
    pub segments: Vec<ElfSegment>,
}

/// A `PT_LOAD` segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElfSegment {
    /// What it occupies (`p_paddr`, `p_memsz`).
    pub range: PhysRange,
    /// Its bytes (`p_filesz`); zeros follow to the end of the range.
    pub bytes: Vec<u8>,
}

/// A format that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Linux's boot image.
    BzImage,
    /// A `vmlinux`.
    Elf,
    /// A unified kernel image.
    Uki,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz.
    Xz,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::BzImage => "bzImage",
            Format::Elf => "ELF",
            Format::Uki => "UKI",
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
            Format::Xz => "xz",
        })
    }
}

/// Why there is no kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FormatError {
    /// Nothing that has a name here. The first bytes, up to eight.
    Unknown(Vec<u8>),
    /// Something else.
    Unsupported(Foreign),
    /// A bzImage with a header that cannot be.
    BzImage(ImageError),
    /// An ELF file that cannot be.
    Elf(ElfError),
    /// A UKI that cannot be.
    Uki(UkiError),
    /// The compressed data is damaged, cut, or needs more memory than it may have.
    Unpack {
        /// Its format.
        format: Format,
        /// What the decoder says.
        why: String,
    },
    /// It unpacks to more than it may.
    TooLong {
        /// Its format.
        format: Format,
        /// The limit, in bytes.
        longest: u64,
    },
    /// Compressed, in a UKI, and so on, without end.
    Layers,
    /// In such a layer.
    Inside(Format, Box<FormatError>),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Unknown(first) if first.is_empty() => f.write_str("an empty file"),
            FormatError::Unknown(first) => {
                f.write_str("no kernel in a format that is known; it begins with")?;
                first.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
            FormatError::Unsupported(foreign) => write!(f, "{foreign} is no kernel for us"),
            FormatError::BzImage(error) => write!(f, "bzImage: {error}"),
            FormatError::Elf(error) => write!(f, "ELF: {error}"),
            FormatError::Uki(error) => write!(f, "UKI: {error}"),
            FormatError::Unpack { format, why } => write!(f, "{format}: {why}"),
            FormatError::TooLong { format, longest } => {
                write!(f, "{format}: unpacks to more than {longest:#x} bytes")
            }
            FormatError::Layers => f.write_str("compressed or packed too many times"),
            FormatError::Inside(format, error) => write!(f, "in {format}: {error}"),
        }
    }
}

impl core::error::Error for FormatError {}

impl From<ElfError> for FormatError {
    fn from(error: ElfError) -> FormatError {
        FormatError::Elf(error)
    }
}

impl From<UkiError> for FormatError {
    fn from(error: UkiError) -> FormatError {
        FormatError::Uki(error)
    }
}

/// Reads a kernel file of any kind, by content.
///
/// # Errors
/// [`FormatError`]; what lies inside something else is reported as [`FormatError::Inside`].
pub fn read(bytes: Vec<u8>) -> Result<KernelFile, FormatError> {
    read_within(bytes, LONGEST)
}

/// As [`read`], with another limit than [`LONGEST`] for what compressed data unpacks to, in bytes.
///
/// # Errors
/// As [`read`].
pub fn read_within(bytes: Vec<u8>, longest: u64) -> Result<KernelFile, FormatError> {
    within(bytes, longest, MOST_LAYERS)
}

fn within(bytes: Vec<u8>, longest: u64, layers: usize) -> Result<KernelFile, FormatError> {
    // Before PE: a bzImage with the EFI stub is a PE file too.
    if foreign::is_bzimage(&bytes) {
        return match BzImage::parse(&bytes) {
            Ok(_) => Ok(plain(Format::BzImage, Kernel::BzImage(bytes))),
            Err(ImageError::Not64Bit) => Err(FormatError::Unsupported(Foreign::BzImage32)),
            Err(error) => Err(FormatError::BzImage(error)),
        };
    }
    if let Some(foreign) = Foreign::of(&bytes) {
        return Err(FormatError::Unsupported(foreign));
    }
    if bytes.starts_with(b"\x7fELF") {
        return Ok(plain(Format::Elf, Kernel::Elf(elf::read(&bytes)?)));
    }
    let (format, inner, uki) = if bytes.starts_with(b"MZ") {
        let mut uki = uki::read(&bytes)?;
        (Format::Uki, mem::take(&mut uki.linux), Some(uki))
    } else if let Some(format) = unpack::format(&bytes) {
        if layers == 0 {
            return Err(FormatError::Layers);
        }
        (format, unpack::unpack(format, &bytes, longest)?, None)
    } else {
        return Err(FormatError::Unknown(bytes.iter().copied().take(8).collect()));
    };
    drop(bytes);
    let deeper = layers.checked_sub(1).ok_or(FormatError::Layers)?;
    let mut file = within(inner, longest, deeper)
        .map_err(|error| FormatError::Inside(format, Box::new(error)))?;
    file.layers.insert(0, format);
    if let Some(uki) = uki {
        // What is around decides: it is what firmware would have started.
        file.initrd = uki.initrd.or(file.initrd);
        file.cmdline = uki.cmdline.or(file.cmdline);
        file.uname = uki.uname.or(file.uname);
    }
    Ok(file)
}

fn plain(format: Format, kernel: Kernel) -> KernelFile {
    KernelFile { format, kernel, initrd: None, cmdline: None, uname: None, layers: Vec::new() }
}
