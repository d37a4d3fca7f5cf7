//! Debian's kernels, and the `vmlinux` that each carries compressed.

mod support;

use std::path::PathBuf;
use std::{env, fs};

use identmap_kexec::format::{Foreign, Format, FormatError, Kernel, read};
use identmap_linux::boot::BzImage;

/// Each of `$IDENTMAP_CACHE/kernels/*/vmlinuz`, which the lab fetches.
#[test]
#[ignore = "needs the kernels of the lab, in IDENTMAP_CACHE"]
fn kernels_of_the_lab() {
    let cache = PathBuf::from(env::var_os("IDENTMAP_CACHE").expect("IDENTMAP_CACHE"));
    let (mut seen, mut unpacked) = (0, 0);
    for folder in fs::read_dir(cache.join("kernels")).unwrap() {
        let path = folder.unwrap().path().join("vmlinuz");
        let Ok(bytes) = fs::read(&path) else { continue };
        let file = read(bytes.clone()).unwrap();
        assert_eq!((file.format, &file.layers[..]), (Format::BzImage, &[][..]));

        let image = BzImage::parse(&bytes).unwrap();
        let (start, len) = image.payload().expect("a compressed kernel");
        let payload = &image.protected()[start as usize..(start + len) as usize];
        seen += 1;
        let inner = match read(payload.to_vec()) {
            // Some of Debian's.
            Err(FormatError::Unsupported(Foreign::Lz4)) => continue,
            inner => inner.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        };
        let Kernel::Elf(kernel) = &inner.kernel else { panic!("{}: no ELF", path.display()) };
        let (first, last) = (kernel.segments.first().unwrap(), kernel.segments.last().unwrap());
        println!(
            "{}: {} of {} MiB, entry {}, {} segments, to {}",
            path.display(),
            inner.layers[0],
            payload.len() >> 20,
            kernel.entry,
            kernel.segments.len(),
            last.range.end(),
        );
        assert_eq!(first.range.start().get(), image.pref_address());
        // The image says how much it needs; the kernel in it needs no more.
        assert!(last.range.end().get() - image.pref_address() <= image.init_size());

        let unified = support::pe(0x8664, &[(".linux", &bytes), (".initrd", payload)]);
        let unified = read(support::zstd(&unified)).unwrap();
        assert_eq!(unified.layers, [Format::Zstd, Format::Uki]);
        assert_eq!((&unified.kernel, unified.initrd.as_deref()), (&file.kernel, Some(payload)));
        unpacked += 1;
    }
    assert!(seen > 0 && unpacked > 0, "{seen} kernels, {unpacked} unpacked");
}
