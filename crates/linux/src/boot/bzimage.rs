//! A bzImage: the setup header, and the part that runs.
//!
//! Offsets and meanings: `Documentation/arch/x86/boot.rst` (Linux 6.12), "The Real-Mode Kernel Header".

use core::fmt;

/// Where a 64-bit boot protocol enters, from the start of the protected-mode part
/// (boot.rst, "64-bit Boot Protocol").
pub const ENTRY_64: u64 = 0x200;

/// `XLF_KERNEL_64`: the kernel has the 64-bit entry point.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `XLF_CAN_BE_LOADED_ABOVE_4G`.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// `XLF_5LEVEL`: the kernel can be entered with 5-level paging in use.
const XLF_5LEVEL: u16 = 1 << 5;
/// `LOADED_HIGH`: the protected-mode part belongs at 1 MiB or above.
const LOADED_HIGH: u8 = 1 << 0;

/// The first protocol with `xloadflags`.
const OLDEST_PROTOCOL: u16 = 0x20c;

/// A bzImage that a 64-bit loader can place.
///
/// Holding one proves: the magic numbers are there, the protocol is 2.12 or newer, the
/// protected-mode part is not empty, `init_size` covers it and the 64-bit entry lies in it, the
/// alignment is a power of two between 4 KiB and 1 GiB, and the setup header lies in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BzImage<'a> {
    bytes: &'a [u8],
    protected_start: usize,
    header_end: usize,
    protocol: u16,
    xloadflags: u16,
    kernel_alignment: u64,
    relocatable: bool,
    pref_address: u64,
    init_size: u64,
    initrd_addr_max: u64,
    cmdline_size: u64,
    payload: Option<(u64, u64)>,
    setup_type_max: Option<u32>,
}

impl<'a> BzImage<'a> {
    /// Reads the setup header.
    ///
    /// # Errors
    /// [`ImageError`], a variant for each thing that can be wrong; sizes and addresses are in it.
    pub fn parse(bytes: &'a [u8]) -> Result<BzImage<'a>, ImageError> {
        let boot_flag = u16_at(bytes, 0x1fe)?;
        if boot_flag != 0xaa55 {
            return Err(ImageError::BootFlag(boot_flag));
        }
        let magic = u32_at(bytes, 0x202)?.to_le_bytes();
        if &magic != b"HdrS" {
            return Err(ImageError::Magic(magic));
        }
        let protocol = u16_at(bytes, 0x206)?;
        if protocol < OLDEST_PROTOCOL {
            return Err(ImageError::Protocol(protocol));
        }
        let xloadflags = u16_at(bytes, 0x236)?;
        if xloadflags & XLF_KERNEL_64 == 0 {
            return Err(ImageError::Not64Bit);
        }
        if u8_at(bytes, 0x211)? & LOADED_HIGH == 0 {
            return Err(ImageError::NotLoadedHigh);
        }
        // "If this field contains 0, the real value is 4."
        let sectors = match u8_at(bytes, 0x1f1)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let protected_start = (sectors + 1) * 512;
        let file = bytes.len() as u64;
        let protected =
            file.checked_sub(protected_start as u64).filter(|&len| len > ENTRY_64).ok_or(
                ImageError::Truncated { needed: protected_start as u64 + ENTRY_64, found: file },
            )?;
        // "The size of the protected-mode code in units of 16-byte paragraphs."
        let declared = u64::from(u32_at(bytes, 0x1f4)?) * 16;
        if declared > protected.next_multiple_of(16) {
            let needed = protected_start as u64 + declared;
            return Err(ImageError::Truncated { needed, found: file });
        }
        let kernel_alignment = u64::from(u32_at(bytes, 0x230)?);
        if !kernel_alignment.is_power_of_two() || !(1 << 12..=1 << 30).contains(&kernel_alignment) {
            return Err(ImageError::Alignment(kernel_alignment));
        }
        let init_size = u64::from(u32_at(bytes, 0x260)?);
        if init_size < protected {
            return Err(ImageError::InitSize { init_size, protected });
        }
        let payload = (u64::from(u32_at(bytes, 0x248)?), u64::from(u32_at(bytes, 0x24c)?));
        if payload.0 + payload.1 > protected {
            return Err(ImageError::Payload { end: payload.0 + payload.1, protected });
        }
        // "the end of setup header can be calculated as 0x0202 + byte value at offset 0x0201".
        let header_end = 0x202 + usize::from(u8_at(bytes, 0x201)?);
        if header_end < 0x268 || header_end > protected_start {
            return Err(ImageError::HeaderEnd(header_end as u64));
        }
        Ok(BzImage {
            bytes,
            protected_start,
            header_end,
            protocol,
            xloadflags,
            kernel_alignment,
            relocatable: u8_at(bytes, 0x234)? != 0,
            pref_address: u64::from(u32_at(bytes, 0x258)?) | u64::from(u32_at(bytes, 0x25c)?) << 32,
            init_size,
            initrd_addr_max: u64::from(u32_at(bytes, 0x22c)?),
            cmdline_size: u64::from(u32_at(bytes, 0x238)?),
            payload: (payload.1 != 0).then_some(payload),
            setup_type_max: setup_type_max(bytes, protocol, protected_start),
        })
    }

    /// The part that runs: what a loader puts at the load address.
    #[must_use]
    pub fn protected(&self) -> &'a [u8] {
        self.bytes.get(self.protected_start..).unwrap_or(&[])
    }

    /// The kernel's version and banner: `6.1.0-18-amd64 (user@host) #1 SMP …`, if the header points to one.
    #[must_use]
    pub fn version(&self) -> Option<&'a str> {
        // "If set to a nonzero value, contains a pointer to a NUL-terminated human-readable kernel
        // version number string, less 0x200."
        let start = match u16_at(self.bytes, 0x20e).ok()? {
            0 => return None,
            offset => usize::from(offset) + 0x200,
        };
        let text = self.bytes.get(start..self.protected_start)?;
        let end = text.iter().position(|&byte| byte == 0)?;
        let text = core::str::from_utf8(&text[..end]).ok()?;
        (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
    }

    /// The setup header as it lies in the file, from offset `0x1f1` to its end.
    #[must_use]
    pub fn setup_header(&self) -> &'a [u8] {
        self.bytes.get(0x1f1..self.header_end).unwrap_or(&[])
    }

    /// The boot protocol, major version in the high byte.
    #[must_use]
    pub const fn protocol(&self) -> u16 {
        self.protocol
    }

    /// Bytes from the load address on that the kernel uses before it looks at the memory map.
    #[must_use]
    pub const fn init_size(&self) -> u64 {
        self.init_size
    }

    /// What the load address has to be a multiple of.
    #[must_use]
    pub const fn kernel_alignment(&self) -> u64 {
        self.kernel_alignment
    }

    /// Where the kernel would like to lie.
    #[must_use]
    pub const fn pref_address(&self) -> u64 {
        self.pref_address
    }

    /// Whether it may lie elsewhere.
    #[must_use]
    pub const fn is_relocatable(&self) -> bool {
        self.relocatable
    }

    /// Whether kernel, `boot_params`, command line and initrd may lie above 4 GiB.
    #[must_use]
    pub const fn above_4g(&self) -> bool {
        self.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0
    }

    /// Whether it may be entered with 5-level paging in use.
    #[must_use]
    pub const fn enters_with_5_levels(&self) -> bool {
        self.xloadflags & XLF_5LEVEL != 0
    }

    /// The highest address an initrd may reach, for loaders that stay below 4 GiB.
    #[must_use]
    pub const fn initrd_addr_max(&self) -> u64 {
        self.initrd_addr_max
    }

    /// The longest command line, without its terminating zero.
    #[must_use]
    pub const fn cmdline_size(&self) -> u64 {
        self.cmdline_size
    }

    /// The highest type of `setup_data` entry that the kernel says it knows, `SETUP_INDIRECT` (bit 31) taken off.
    /// `None` before protocol 2.15 (Linux 5.5), and where `kernel_info` cannot be read.
    #[must_use]
    pub const fn setup_type_max(&self) -> Option<u32> {
        self.setup_type_max
    }

    /// Offset and length of the compressed kernel in the protected-mode part.
    #[must_use]
    pub const fn payload(&self) -> Option<(u64, u64)> {
        self.payload
    }
}

/// `kernel_info.setup_type_max` (boot.rst, "The `kernel_info`"): `LToP`, two sizes, then the number.
fn setup_type_max(bytes: &[u8], protocol: u16, protected_start: usize) -> Option<u32> {
    const SINCE: u16 = 0x20f;
    const INDIRECT: u32 = 1 << 31;
    if protocol < SINCE {
        return None;
    }
    let offset = usize::try_from(u32_at(bytes, 0x268).ok()?).ok().filter(|offset| *offset != 0)?;
    let at = protected_start.checked_add(offset)?;
    let info = bytes.get(at..at.checked_add(16)?)?;
    let size = u32_at(info, 4).ok()?;
    (info.starts_with(b"LToP") && size >= 16).then_some(())?;
    Some(u32_at(info, 12).ok()? & !INDIRECT)
}

/// Why a file is not an image that can be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// The file ends before a part that the header promises.
    Truncated {
        /// Bytes that the file should have.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// No `0xAA55` at `0x1fe`.
    BootFlag(u16),
    /// No `HdrS` at `0x202`.
    Magic([u8; 4]),
    /// A boot protocol older than 2.12.
    Protocol(u16),
    /// No 64-bit entry point (`XLF_KERNEL_64`).
    Not64Bit,
    /// A zImage, which belongs below 1 MiB.
    NotLoadedHigh,
    /// `kernel_alignment` is not a power of two from 4 KiB to 1 GiB.
    Alignment(u64),
    /// `init_size` is smaller than the protected-mode part.
    InitSize {
        /// As given.
        init_size: u64,
        /// Bytes of the protected-mode part.
        protected: u64,
    },
    /// The payload reaches out of the protected-mode part.
    Payload {
        /// One past its last byte.
        end: u64,
        /// Bytes of the protected-mode part.
        protected: u64,
    },
    /// The setup header ends before `init_size`, or past the setup part.
    HeaderEnd(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ImageError::Truncated { needed, found } => {
                write!(f, "cut short: {found} bytes, the header asks for {needed}")
            }
            ImageError::BootFlag(flag) => {
                write!(f, "not a bzImage: {flag:#06x} at 0x1fe, expected 0xaa55")
            }
            ImageError::Magic(magic) => {
                write!(f, "not a bzImage: {magic:02x?} at 0x202, expected \"HdrS\"")
            }
            ImageError::Protocol(version) => write!(
                f,
                "boot protocol {}.{:02}, expected 2.12 or newer (Linux 3.8)",
                version >> 8,
                version & 0xff
            ),
            ImageError::Not64Bit => f.write_str("no 64-bit entry point (XLF_KERNEL_64)"),
            ImageError::NotLoadedHigh => f.write_str("a zImage, which belongs below 1 MiB"),
            ImageError::Alignment(alignment) => write!(
                f,
                "kernel_alignment {alignment:#x} is not a power of two from 4 KiB to 1 GiB"
            ),
            ImageError::InitSize { init_size, protected } => {
                write!(f, "init_size {init_size:#x} is smaller than the image, {protected:#x}")
            }
            ImageError::Payload { end, protected } => {
                write!(f, "the payload ends at {end:#x}, the image at {protected:#x}")
            }
            ImageError::HeaderEnd(end) => write!(
                f,
                "the setup header ends at {end:#x}, expected 0x268 or more, within the setup part"
            ),
        }
    }
}

impl core::error::Error for ImageError {}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ImageError> {
    let found = bytes.get(at..at + N).and_then(|slice| slice.try_into().ok());
    found.ok_or(ImageError::Truncated { needed: (at + N) as u64, found: bytes.len() as u64 })
}

fn u8_at(bytes: &[u8], at: usize) -> Result<u8, ImageError> {
    bytes_at::<1>(bytes, at).map(|b| b[0])
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ImageError> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ImageError> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Vec<u8> {
        made_kernel::BzImage { init_size: 0x1000, ..Default::default() }.bytes()
    }

    #[test]
    fn a_sound_image_gives_its_header() {
        let bytes = sound();
        let image = BzImage::parse(&bytes).unwrap();
        assert_eq!(image.protected().len(), 0x400);
        assert_eq!(image.setup_header().len(), 0x26c - 0x1f1);
        assert_eq!((image.pref_address(), image.init_size()), (0x100_0000, 0x1000));
        assert_eq!(image.payload(), Some((0x10, 0x20)));
        assert!(image.is_relocatable() && image.above_4g() && image.enters_with_5_levels());
    }

    #[test]
    fn kernel_info_says_which_setup_data_is_known() {
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = sound();
            let info = 1024 + 0x300;
            bytes[0x268..0x26c].copy_from_slice(&0x300_u32.to_le_bytes());
            bytes[info..info + 4].copy_from_slice(b"LToP");
            bytes[info + 4..info + 8].copy_from_slice(&16_u32.to_le_bytes());
            bytes[info + 12..info + 16].copy_from_slice(&0x8000_0009_u32.to_le_bytes());
            change(&mut bytes);
            BzImage::parse(&bytes).unwrap().setup_type_max()
        };
        assert_eq!(with(&|_| {}), Some(9));
        // An older protocol, no offset, one outside, another magic number, a structure that ends before.
        assert_eq!(with(&|bytes| bytes[0x206] = 0x0e), None);
        assert_eq!(with(&|bytes| bytes[0x268..0x26c].fill(0)), None);
        assert_eq!(with(&|bytes| bytes[0x268..0x26c].fill(0xff)), None);
        assert_eq!(with(&|bytes| bytes[1024 + 0x300] = b'l'), None);
        assert_eq!(with(&|bytes| bytes[1024 + 0x304] = 12), None);
        assert_eq!(BzImage::parse(&sound()).unwrap().setup_type_max(), None);
    }

    #[test]
    fn every_field_is_checked() {
        let broken = |at: usize, bytes: &[u8]| {
            let mut image = sound();
            image[at..at + bytes.len()].copy_from_slice(bytes);
            BzImage::parse(&image).map(|_| ()).unwrap_err()
        };
        assert_eq!(broken(0x1fe, &[0]), ImageError::BootFlag(0xaa00));
        assert_eq!(broken(0x202, b"ELF!"), ImageError::Magic(*b"ELF!"));
        assert_eq!(broken(0x206, &[0x0b]), ImageError::Protocol(0x20b));
        assert_eq!(broken(0x236, &[0x7e]), ImageError::Not64Bit);
        assert_eq!(broken(0x211, &[0]), ImageError::NotLoadedHigh);
        for alignment in [0_u32, 3, 0x800, 0x8000_0000, u32::MAX] {
            let expected = ImageError::Alignment(u64::from(alignment));
            assert_eq!(broken(0x230, &alignment.to_le_bytes()), expected);
        }
        let small = ImageError::InitSize { init_size: 0x3ff, protected: 0x400 };
        assert_eq!(broken(0x260, &0x3ff_u32.to_le_bytes()), small);
        let payload = ImageError::Payload { end: 0x20 + 0xffff_ffff, protected: 0x400 };
        assert_eq!(broken(0x248, &u32::MAX.to_le_bytes()), payload);
        assert_eq!(broken(0x201, &[0x65]), ImageError::HeaderEnd(0x267));
        let cut = ImageError::Truncated { needed: 1024 + 0x410, found: 2048 };
        assert_eq!(broken(0x1f4, &0x41_u32.to_le_bytes()), cut);
        assert!(matches!(broken(0x1f1, &[255]), ImageError::Truncated { .. }));
    }

    /// No length of file makes the parser panic, and only the whole one is taken.
    #[test]
    fn an_image_cut_anywhere_is_refused() {
        let whole = sound();
        for len in 0..whole.len() {
            let error = BzImage::parse(&whole[..len]).map(|_| ());
            assert!(error.is_err() || len > whole.len() - 16, "{len:#x}: {error:?}");
        }
    }
}
