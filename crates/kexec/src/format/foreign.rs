//! What is not supported, by name.

use core::fmt;

/// Something that is no kernel which can be loaded here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Foreign {
    /// A bzImage without a 64-bit entry point.
    BzImage32,
    /// EFI zboot: a compressed kernel with its own unpacker.
    Zboot,
    /// arm64's Image.
    Arm64,
    /// RISC-V's Image.
    RiscV,
    /// An ELF file of 32 bits.
    Elf32,
    /// An ELF file for another machine, and its `e_machine` (as big-endian if it says so).
    ElfMachine(u16),
    /// An ELF file that is not an executable with fixed addresses, and its `e_type`.
    ElfType(u16),
    /// A kernel for the Multiboot specification.
    Multiboot,
    /// A kernel for Multiboot 2.
    Multiboot2,
    /// An initrd that is not compressed.
    Cpio,
    /// A package of Debian.
    Deb,
    /// A package of RPM.
    Rpm,
    /// Compressed with lz4.
    Lz4,
    /// Compressed with lzop.
    Lzo,
    /// Compressed with bzip2.
    Bzip2,
    /// Compressed with lzma, without xz around it.
    Lzma,
    /// U-Boot's uImage.
    UImage,
    /// A device tree, or a FIT image in one.
    DeviceTree,
    /// A squashfs.
    Squashfs,
    /// An ISO image.
    Iso9660,
    /// A tar archive.
    Tar,
    /// A zip archive.
    Zip,
    /// A dump of makedumpfile.
    Kdump,
}

impl Foreign {
    pub(super) fn of(bytes: &[u8]) -> Option<Foreign> {
        let known = MAGIC.iter().find(|(at, magic, _)| has(bytes, *at, magic));
        known.map(|(_, _, foreign)| *foreign).or_else(|| elf(bytes)).or_else(|| multiboot(bytes))
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::BzImage32 => "a bzImage without a 64-bit entry point",
            Foreign::Zboot => "an EFI zboot image",
            Foreign::Arm64 => "an arm64 Image",
            Foreign::RiscV => "a RISC-V Image",
            Foreign::Elf32 => "a 32-bit ELF file",
            Foreign::ElfMachine(machine) => {
                return write!(f, "an ELF file for another architecture (e_machine {machine})");
            }
            Foreign::ElfType(1) => "an ELF object file or kernel module",
            Foreign::ElfType(3) => "a position-independent ELF program or library",
            Foreign::ElfType(4) => "an ELF core dump",
            Foreign::ElfType(kind) => return write!(f, "an ELF file of type {kind}"),
            Foreign::Multiboot => "a Multiboot kernel",
            Foreign::Multiboot2 => "a Multiboot 2 kernel",
            Foreign::Cpio => "an initrd (cpio archive)",
            Foreign::Deb => "a Debian package",
            Foreign::Rpm => "an RPM package",
            Foreign::Lz4 => "an lz4-compressed file",
            Foreign::Lzo => "an lzo-compressed file",
            Foreign::Bzip2 => "a bzip2-compressed file",
            Foreign::Lzma => "an lzma-compressed file (xz is read)",
            Foreign::UImage => "a U-Boot image",
            Foreign::DeviceTree => "a device tree or FIT image",
            Foreign::Squashfs => "a squashfs",
            Foreign::Iso9660 => "an ISO image",
            Foreign::Tar => "a tar archive",
            Foreign::Zip => "a zip archive",
            Foreign::Kdump => "a kdump-compressed dump",
        })
    }
}

/// "`HdrS`" and the boot flag (`Documentation/arch/x86/boot.rst`, Linux 6.12).
pub(super) fn is_bzimage(bytes: &[u8]) -> bool {
    has(bytes, 0x1fe, &[0x55, 0xaa]) && has(bytes, 0x202, b"HdrS")
}

/// Offset, bytes there, and what has them.
const MAGIC: &[(usize, &[u8], Foreign)] = &[
    // Linux drivers/firmware/efi/libstub/zboot-header.S: "zimg" behind "MZ" and two zeros.
    (4, b"zimg", Foreign::Zboot),
    // Documentation/arch/arm64/booting.rst and Documentation/arch/riscv/boot-image-header.rst.
    (0x38, b"ARM\x64", Foreign::Arm64),
    (0x38, b"RSC\x05", Foreign::RiscV),
    // Documentation/driver-api/early-userspace/buffer-format.rst; 070707 is cpio's older one.
    (0, b"070701", Foreign::Cpio),
    (0, b"070702", Foreign::Cpio),
    (0, b"070707", Foreign::Cpio),
    // deb(5): an ar archive whose first member is debian-binary.
    (0, b"!<arch>\ndebian-binary", Foreign::Deb),
    (0, &[0xed, 0xab, 0xee, 0xdb], Foreign::Rpm),
    // The frame format, and the legacy one that Linux uses (lib/decompress.c).
    (0, &[0x04, 0x22, 0x4d, 0x18], Foreign::Lz4),
    (0, &[0x02, 0x21, 0x4c, 0x18], Foreign::Lz4),
    (0, b"\x89LZO\0\r\n\x1a\n", Foreign::Lzo),
    (0, b"BZh", Foreign::Bzip2),
    // lib/decompress.c: lc = 3, lp = 0, pb = 2, and a dictionary of whole 64 KiB.
    (0, &[0x5d, 0, 0], Foreign::Lzma),
    (0, &[0x27, 0x05, 0x19, 0x56], Foreign::UImage),
    (0, &[0xd0, 0x0d, 0xfe, 0xed], Foreign::DeviceTree),
    (0, b"hsqs", Foreign::Squashfs),
    (0, b"PK\x03\x04", Foreign::Zip),
    (0, b"KDUMP   ", Foreign::Kdump),
    (257, b"ustar", Foreign::Tar),
    (0x8001, b"CD001", Foreign::Iso9660),
];

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// `e_ident`, `e_type`, `e_machine` (System V gABI, "ELF Header").
fn elf(bytes: &[u8]) -> Option<Foreign> {
    let head = bytes.strip_prefix(b"\x7fELF")?;
    let half = |at: usize| Some(u16::from_le_bytes([*head.get(at)?, *head.get(at + 1)?]));
    let (class, order) = (*head.first()?, *head.get(1)?);
    let (kind, machine) = (half(12)?, half(14)?);
    match (order, class) {
        (2, _) => Some(Foreign::ElfMachine(machine.swap_bytes())),
        (_, 1) => Some(multiboot(bytes).unwrap_or(Foreign::Elf32)),
        _ if machine != 62 => Some(Foreign::ElfMachine(machine)),
        _ if kind != 2 => Some(Foreign::ElfType(kind)),
        _ => None,
    }
}

/// Multiboot 0.6.96, 3.1.1: in the first 8192 bytes, aligned to 4, magic, flags and checksum add up to zero;
/// Multiboot 2.0, 3.1.1: in the first 32768 bytes, aligned to 8, one number more.
fn multiboot(bytes: &[u8]) -> Option<Foreign> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let adds_up = |at: usize, words: usize| {
        let sum = |sum: u32, i| Some(sum.wrapping_add(word(at + i * 4)?));
        (0..words).try_fold(0, sum) == Some(0)
    };
    let found = |at: &usize, magic, words| word(*at) == Some(magic) && adds_up(*at, words);
    if (0..8192).step_by(4).any(|at| found(&at, 0x1bad_b002, 3)) {
        return Some(Foreign::Multiboot);
    }
    (0..32768).step_by(8).any(|at| found(&at, 0xe852_50d6, 4)).then_some(Foreign::Multiboot2)
}
