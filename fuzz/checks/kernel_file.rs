//! Kernel files of all formats, and damage to some.

use identmap_kexec::format::{Format, Kernel, KernelFile, MOST_LAYERS, read_within};
use identmap_linux::boot::BzImage;

use crate::kernel_files::{bzimage, gzip, pe, uki, vmlinux, xz, zstd};

/// Small, so that what a few bytes unpack to fits into the memory that a run has.
const LONGEST: u64 = 16 << 20;

/// A file as it is, or after a byte below 9 changes to one that was made: two bytes for the place, one for the
/// value. A place past the end cuts it.
pub fn check(bytes: &[u8]) {
    let Some((which @ 0..9, changes)) = bytes.split_first() else { return check_file(bytes) };
    let mut file = sample(*which);
    for change in changes.chunks_exact(3) {
        match file.get_mut(usize::from(u16::from_le_bytes([change[0], change[1]]))) {
            Some(byte) => *byte = change[2],
            None => file.truncate(file.len() - usize::from(change[2]).min(file.len())),
        }
    }
    check_file(&file);
}

fn sample(which: u8) -> Vec<u8> {
    match which {
        0 => bzimage(),
        1 => vmlinux(),
        2 => uki(&vmlinux()),
        3 => gzip(&vmlinux()),
        4 => zstd(&vmlinux()),
        5 => xz(&vmlinux()),
        6 => uki(&zstd(&bzimage())),
        7 => {
            let kernel = bzimage();
            let profile: [(&str, &[u8]); 2] = [(".profile", b"ID=main"), (".cmdline", b"main")];
            pe(0x8664, &[&[(".linux", &kernel[..]), (".cmdline", b"base")][..], &profile].concat())
        }
        _ => [zstd(&bzimage()[..1000]), zstd(&bzimage()[1000..])].concat(),
    }
}

fn check_file(bytes: &[u8]) {
    let file = match read_within(bytes.to_vec(), LONGEST) {
        Ok(file) => file,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 4096 && !text.chars().any(char::is_control), "{text:?}");
            return;
        }
    };
    check_kernel(&file);
    for text in [&file.cmdline, &file.uname].into_iter().flatten() {
        assert!(!text.is_empty() && text.trim() == text && !text.contains(char::is_control));
    }
    let around = [Format::Gzip, Format::Zstd, Format::Xz, Format::Uki];
    assert!(file.layers.iter().all(|layer| around.contains(layer)));
    assert!(file.layers.len() <= MOST_LAYERS);
    if !file.layers.contains(&Format::Uki) {
        assert_eq!((&file.initrd, &file.cmdline, &file.uname), (&None, &None, &None));
    }
    // One layer more changes nothing else, and one too many is refused.
    let wrapped = read_within(gzip(bytes), LONGEST.max(bytes.len() as u64));
    if file.layers.len() == MOST_LAYERS {
        assert!(wrapped.is_err());
    } else {
        let mut wrapped = wrapped.expect("the same, compressed");
        assert_eq!(wrapped.layers.remove(0), Format::Gzip);
        assert_eq!(wrapped, file);
    }
}

fn check_kernel(file: &KernelFile) {
    match &file.kernel {
        Kernel::BzImage(image) => {
            assert_eq!(file.format, Format::BzImage);
            assert!(BzImage::parse(image).is_ok());
        }
        Kernel::Elf(kernel) => {
            assert_eq!(file.format, Format::Elf);
            for pair in kernel.segments.windows(2) {
                assert!(pair[0].range.end() <= pair[1].range.start());
            }
            for segment in &kernel.segments {
                assert!(segment.bytes.len() as u64 <= segment.range.len());
            }
            assert!(kernel.segments.iter().any(|segment| segment.range.contains(kernel.entry)));
        }
    }
}
