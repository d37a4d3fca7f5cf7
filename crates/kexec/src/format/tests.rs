//! Small images of every kind, and everything that can be wrong with them.

#[path = "../../tests/support/mod.rs"]
mod support;

use support::{Load, TEXT, bzimage, elf, gzip, pe, uki, vmlinux, xz, zstd};

use super::*;

fn error(bytes: &[u8]) -> FormatError {
    let error = read(bytes.to_vec()).unwrap_err();
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 400 && !text.contains(char::is_control), "{text}");
    error
}

fn elf_error(bytes: &[u8]) -> ElfError {
    match error(bytes) {
        FormatError::Elf(error) => error,
        other => panic!("{other:?}"),
    }
}

fn segments(file: KernelFile) -> ElfKernel {
    match file.kernel {
        Kernel::Elf(kernel) => kernel,
        Kernel::BzImage(_) => panic!("a bzImage"),
    }
}

#[test]
fn a_bzimage_is_taken_whole() {
    let image = bzimage();
    let file = read(image.clone()).unwrap();
    assert_eq!((file.format, &file.kernel), (Format::BzImage, &Kernel::BzImage(image.clone())));
    assert_eq!((file.layers, file.initrd, file.cmdline), (vec![], None, None));

    let mut small = image.clone();
    small[0x236] &= !1;
    assert_eq!(error(&small), FormatError::Unsupported(Foreign::BzImage32));
    let mut old = image;
    old[0x206] = 0x0b;
    assert_eq!(error(&old), FormatError::BzImage(ImageError::Protocol(0x20b)));
}

#[test]
fn a_vmlinux_by_physical_addresses() {
    let file = read(vmlinux()).unwrap();
    assert_eq!((file.format, file.layers.len()), (Format::Elf, 0));
    let kernel = segments(file);
    let range = |start, len| PhysRange::from_len(start, len).unwrap();
    let found: Vec<_> = kernel.segments.iter().map(|s| (s.range, s.bytes.clone())).collect();
    let expected = vec![
        (range(0x100_0000, 0x1000), (0..50).collect::<Vec<u8>>()),
        (range(0x120_0000, 0x3000), (50..70).collect()),
        (range(0x140_0000, 0x100_0001), (70..100).collect()),
    ];
    assert_eq!(found, expected);
    // Also inside per-CPU data's virtual range, which must not count.
    assert_eq!(kernel.entry.get(), 0x100_0000);
}

#[test]
fn an_entry_that_is_virtual_is_translated() {
    let mut file = vmlinux();
    file[24..32].copy_from_slice(&(TEXT + 0x40).to_le_bytes());
    assert_eq!(segments(read(file.clone()).unwrap()).entry.get(), 0x100_0040);
    // Data is not executed, and neither is what lies behind the end.
    for entry in [TEXT + 0x20_0000, TEXT + 0x1000, 0x100_1000, u64::MAX] {
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        assert_eq!(elf_error(&file), ElfError::Entry(entry));
    }
}

#[test]
fn elf_segments_that_cannot_be() {
    let at = 64 + 2 * 56;
    let one = (1, 5, at, TEXT, 0x100_0000, 4, 0x1000);
    let two = |change: &dyn Fn(&mut Load)| {
        let mut two = (1, 6, at, TEXT, 0x200_0000, 4, 0x1000);
        change(&mut two);
        elf_error(&elf(0x100_0000, &[one, two], b"abcd"))
    };
    assert_eq!(two(&|load| load.5 = 0x1001), ElfError::FileSize(1));
    assert_eq!(two(&|load| load.5 = 5), ElfError::Cut(1));
    assert_eq!(two(&|load| load.2 = u64::MAX), ElfError::Cut(1));
    assert_eq!(two(&|load| load.2 = at + 5), ElfError::Cut(1));
    for place in [u64::MAX, identmap::PHYS_LIMIT - 1, identmap::PHYS_LIMIT] {
        assert_eq!(two(&|load| load.4 = place), ElfError::Place(1));
    }
    assert_eq!(two(&|load| load.6 = u64::MAX), ElfError::Place(1));
    assert_eq!(two(&|load| load.6 = LONGEST), ElfError::TooLong(0x100_0000 + LONGEST));
    let far = 1 << 40;
    assert_eq!(two(&|load| load.4 = far), ElfError::TooLong(far + 0x1000 - 0x100_0000));
    for place in [0x100_0000, 0x100_0fff, 0xff_f001] {
        assert!(matches!(two(&|load| load.4 = place), ElfError::Overlap(..)), "{place:#x}");
    }
    assert_eq!(elf_error(&elf(0, &[], b"")), ElfError::Empty);
    assert_eq!(elf_error(&elf(0, &[(1, 5, 0, 0, 0, 0, 0)], b"")), ElfError::Empty);
    // Right behind each other is not overlapping.
    let next = (1, 6, at, TEXT, 0x100_1000, 4, 0x1000);
    assert!(read(elf(0x100_0000, &[next, one], b"abcd")).is_ok());

    let sound = elf(0x100_0000, &[one, next], b"abcd");
    for (place, value) in [(54, 0x37), (54, 0), (56, 3), (33, 0xff)] {
        let mut broken = sound.clone();
        broken[place] = value;
        assert_eq!(elf_error(&broken), ElfError::Header);
    }
}

#[test]
fn compressed_once_and_twice_and_with_something_behind() {
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packers: [(Format, Pack); 3] =
        [(Format::Gzip, gzip), (Format::Zstd, zstd), (Format::Xz, xz)];
    for image in [bzimage(), vmlinux()] {
        let plain = read(image.clone()).unwrap();
        for (format, pack) in packers {
            let packed = pack(&image);
            let file = read(packed.clone()).unwrap();
            assert_eq!((&file.kernel, &file.layers), (&plain.kernel, &vec![format]));
            for behind in [&[0_u8; 512][..], b"signature", &[0x78, 0x56, 0x34, 0x12]] {
                let padded = [&packed, behind].concat();
                assert_eq!(read(padded).unwrap().kernel, plain.kernel, "{format}");
            }
            // In two parts, as parallel compressors write.
            let (one, two) = image.split_at(700.min(image.len() / 2));
            let parts = [pack(one), pack(two)].concat();
            assert_eq!(read(parts).unwrap().kernel, plain.kernel, "{format} in parts");
            for (outer, pack_again) in packers {
                let twice = read(pack_again(&packed)).unwrap();
                assert_eq!((&twice.kernel, twice.layers), (&plain.kernel, vec![outer, format]));
            }
        }
    }
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], &zstd(&bzimage())[..]].concat();
    assert_eq!(read(skipped).unwrap().layers, [Format::Zstd]);
}

/// Each cut, and each bit, of each format, whether compressed or not.
#[test]
fn cut_or_damaged_anywhere_it_is_an_error_or_a_kernel() {
    let whole =
        [bzimage(), vmlinux(), uki(&vmlinux()), gzip(&vmlinux()), zstd(&vmlinux()), xz(&vmlinux())];
    for (which, file) in whole.iter().enumerate() {
        let sound = read(file.clone()).unwrap();
        for len in 0..file.len() {
            match read(file[..len].to_vec()) {
                // Padding, and zeros that a length does not count.
                Ok(cut) => assert!(file.len() - len < 32, "{which}: {len} {cut:?}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        for at in 0..file.len() {
            for bit in [1, 0x80] {
                let mut damaged = file.clone();
                damaged[at] ^= bit;
                // The checks of compressed formats find what changes the kernel (this xz has none).
                if let Ok(read) = read(damaged)
                    && matches!(which, 3 | 4)
                {
                    assert_eq!(read.kernel, sound.kernel, "{which}: {at}");
                }
            }
        }
    }
}

#[test]
fn bombs_are_put_out() {
    let zeros = vec![0; 1 << 20];
    for (format, packed) in
        [(Format::Gzip, gzip(&zeros)), (Format::Zstd, zstd(&zeros)), (Format::Xz, xz(&zeros))]
    {
        let longest = (1 << 20) - 1;
        let limit = read_within(packed.clone(), longest);
        assert_eq!(limit, Err(FormatError::TooLong { format, longest }));
        // Zeros are no kernel, but they fit.
        let fits = read_within(packed.clone(), 1 << 20).unwrap_err();
        let unknown = FormatError::Unknown(vec![0; 8]);
        assert_eq!(fits, FormatError::Inside(format, Box::new(unknown)));
        // In frames that are each small enough.
        let many = [&packed[..], &packed, &packed].concat();
        let longest = 5 << 19;
        assert_eq!(read_within(many, longest), Err(FormatError::TooLong { format, longest }));
    }
    let mut deep = bzimage();
    for depth in 0..6 {
        let file = read(deep.clone());
        assert_eq!(file.is_ok(), depth <= MOST_LAYERS, "{depth}");
        deep = gzip(&deep);
    }
    assert!(error(&deep).to_string().ends_with("compressed or packed too many times"));
}

/// An allocation is never as large as a number in the file says.
#[test]
fn absurd_sizes_take_no_memory() {
    // A zstd window of 1.75 TiB and an xz dictionary of 4 GiB - 1.
    let mut window = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xff];
    window.extend([0; 64]);
    assert!(matches!(error(&window), FormatError::Unpack { format: Format::Zstd, .. }));
    let mut dictionary = xz(b"x");
    dictionary[16] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&dictionary[12..20]);
    dictionary[20..24].copy_from_slice(&crc.sum().to_le_bytes());
    assert!(matches!(error(&dictionary), FormatError::Unpack { format: Format::Xz, .. }));
}

#[test]
fn a_uki_brings_everything() {
    for (inner, layers) in [
        (bzimage(), vec![Format::Uki]),
        (vmlinux(), vec![Format::Uki]),
        (zstd(&bzimage()), vec![Format::Uki, Format::Zstd]),
    ] {
        let file = read(uki(&inner)).unwrap();
        assert_eq!(file.layers, layers);
        assert_eq!(file.initrd.as_deref(), Some(&b"070701 microcode070701 initrd"[..]));
        assert_eq!(file.cmdline.as_deref(), Some("root=/dev/sda1 quiet"));
        assert_eq!(file.uname.as_deref(), Some("6.12.107"));
        let wrapped = read(gzip(&uki(&inner))).unwrap();
        assert_eq!(
            (wrapped.initrd, &wrapped.layers[..2]),
            (file.initrd, &[Format::Gzip, Format::Uki][..])
        );
    }
    let bare = read(pe(0x8664, &[(".linux", &bzimage()), (".cmdline", b" \n")])).unwrap();
    assert_eq!((bare.initrd, bare.cmdline, bare.uname), (None, None, None));
    let early = pe(0x8664, &[(".linux", &bzimage()), (".ucode", b"12345"), (".initrd", b"67")]);
    assert_eq!(read(early).unwrap().initrd.as_deref(), Some(&b"12345\0\0\x0067"[..]));
}

#[test]
fn a_uki_with_profiles_is_its_first_profile() {
    let image = bzimage();
    let file = read(pe(
        0x8664,
        &[
            (".cmdline", b"base"),
            (".cmdline", b"base again"),
            (".initrd", b"base"),
            (".linux", &image),
            (".profile", b"ID=main"),
            (".cmdline", b"main"),
            (".profile", b"ID=rescue"),
            (".cmdline", b"rescue"),
            (".initrd", b"rescue"),
        ],
    ))
    .unwrap();
    assert_eq!(file.cmdline.as_deref(), Some("main"));
    assert_eq!(file.initrd.as_deref(), Some(&b"base"[..]));
}

#[test]
fn pe_files_that_are_no_uki() {
    let image = bzimage();
    let uki_error = |bytes: &[u8]| match error(bytes) {
        FormatError::Uki(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(uki_error(&pe(0x8664, &[(".text", b"x")])), UkiError::NoKernel);
    assert_eq!(uki_error(&pe(0xaa64, &[(".linux", &image)])), UkiError::Machine(0xaa64));
    assert_eq!(uki_error(b"MZ"), UkiError::Header);
    let text = pe(0x8664, &[(".linux", &image), (".cmdline", b"\xff\xfe")]);
    assert_eq!(uki_error(&text), UkiError::Text(".cmdline"));
    // Sections that reach out of the file, and one that begins past the end of arithmetic.
    let sound = pe(0x8664, &[(".linux", &image)]);
    let header = 0x80 + 24 + 112;
    for (field, value) in [(16, u32::MAX), (20, u32::MAX), (20, sound.len() as u32)] {
        let mut broken = sound.clone();
        broken[header + field..header + field + 4].copy_from_slice(&value.to_le_bytes());
        broken[header + 8..header + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(uki_error(&broken), UkiError::Cut(".linux"));
    }
    // Overlapping sections are the same bytes twice, no more.
    let mut same = pe(0x8664, &[(".linux", &image), (".initrd", &image)]);
    let start = same[header + 20..header + 24].to_vec();
    same[header + 60..header + 64].copy_from_slice(&start);
    assert_eq!(read(same).unwrap().initrd, Some(image.clone()));
    let mut deep = image;
    for depth in 0..6 {
        assert_eq!(read(deep.clone()).is_ok(), depth <= MOST_LAYERS);
        deep = pe(0x8664, &[(".linux", &deep)]);
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let multiboot = |magic: u32, at: usize, rest: &[u32]| {
        let sum = rest.iter().fold(magic, |sum, word| sum.wrapping_add(*word));
        let words = [&[magic], rest, &[sum.wrapping_neg()]].concat();
        let mut file = vec![0; at];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        file
    };
    let at = |at: usize, magic: &[u8]| [&vec![0; at], magic].concat();
    let elf_with = |place: usize, bytes: &[u8]| {
        let mut file = vmlinux();
        file[place..place + bytes.len()].copy_from_slice(bytes);
        file
    };
    let mut zboot = b"MZ\0\0zimg".to_vec();
    zboot.resize(100, 0);
    let mut xen = elf_with(4, &[1]);
    xen.truncate(100);
    xen.extend(multiboot(0x1bad_b002, 0, &[3]));
    let mut wants_multiboot2 = vmlinux();
    wants_multiboot2.resize(4096, 0);
    wants_multiboot2.extend(multiboot(0xe852_50d6, 0, &[0, 16]));
    let cases: Vec<(Vec<u8>, Foreign)> = vec![
        (zboot, Foreign::Zboot),
        (at(0x38, b"ARM\x64"), Foreign::Arm64),
        (at(0x38, b"RSC\x05"), Foreign::RiscV),
        (elf_with(4, &[1]), Foreign::Elf32),
        (elf_with(18, &[183]), Foreign::ElfMachine(183)),
        (elf_with(5, &[2]), Foreign::ElfMachine(62 << 8)),
        (elf_with(16, &[3]), Foreign::ElfType(3)),
        (elf_with(16, &[4]), Foreign::ElfType(4)),
        (xen, Foreign::Multiboot),
        (wants_multiboot2, Foreign::Multiboot2),
        (multiboot(0x1bad_b002, 0x1000, &[7]), Foreign::Multiboot),
        (multiboot(0xe852_50d6, 0x4000, &[0, 24]), Foreign::Multiboot2),
        (b"070701".to_vec(), Foreign::Cpio),
        (b"!<arch>\ndebian-binary   ".to_vec(), Foreign::Deb),
        (b"\xed\xab\xee\xdb\x03".to_vec(), Foreign::Rpm),
        (b"\x04\x22\x4d\x18".to_vec(), Foreign::Lz4),
        (b"\x02\x21\x4c\x18".to_vec(), Foreign::Lz4),
        (b"\x89LZO\0\r\n\x1a\n".to_vec(), Foreign::Lzo),
        (b"BZh9".to_vec(), Foreign::Bzip2),
        (b"\x5d\0\0\x80\0".to_vec(), Foreign::Lzma),
        (b"\x27\x05\x19\x56".to_vec(), Foreign::UImage),
        (b"\xd0\x0d\xfe\xed".to_vec(), Foreign::DeviceTree),
        (b"hsqs".to_vec(), Foreign::Squashfs),
        (at(0x8001, b"CD001"), Foreign::Iso9660),
        (at(257, b"ustar\0"), Foreign::Tar),
        (b"PK\x03\x04".to_vec(), Foreign::Zip),
        (b"KDUMP   ".to_vec(), Foreign::Kdump),
    ];
    for (bytes, foreign) in cases {
        assert_eq!(error(&bytes), FormatError::Unsupported(foreign));
        // The same, compressed: an initrd nearly always is.
        let inside = FormatError::Inside(Format::Gzip, Box::new(FormatError::Unsupported(foreign)));
        assert_eq!(error(&gzip(&bytes)), inside);
    }
    assert_eq!(error(b"").to_string(), "an empty file");
    assert_eq!(error(b"#!/bin/sh"), FormatError::Unknown(b"#!/bin/s".to_vec()));
}
