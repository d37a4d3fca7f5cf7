//! What the guests have in memory: all consumers, both tools, and a small initramfs for the kernels
//! that are jumped to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cells::SERIES;
use crate::guest::Failure;
use crate::initramfs::Initramfs;

/// The producer's initramfs; beside the agent it has
///
/// | path | what |
/// |---|---|
/// | `/kernels/SERIES` | the consumers |
/// | `/consumer` | their initramfs: the agent and modules |
/// | `/capture` | the same with makedumpfile and our own binary, for `/proc/vmcore` |
/// | `/efivarfs/SERIES.ko` | the file system of EFI variables, which Debian builds as a module |
/// | `/bin/kexec`, `/bin/identmap` | stock kexec-tools and, if given, our own binary |
///
/// # Errors
/// A file that is not there: what to do about it.
pub fn producer(cache: &Path, own: Option<&Path>) -> Result<Vec<u8>, Failure> {
    producer_with(cache, own, "", &[])
}

/// The same with more files, in a directory.
///
/// # Errors
/// As [`producer`].
pub fn producer_with(
    cache: &Path,
    own: Option<&Path>,
    dir: &str,
    more: &[(String, Vec<u8>)],
) -> Result<Vec<u8>, Failure> {
    let mut archive = base(cache)?;
    archive.dir("kernels");
    for series in SERIES {
        archive.file(
            &format!("kernels/{series}"),
            &read(&cache.join("kernels").join(series).join("vmlinuz"))?,
        );
    }
    archive.file("consumer", &consumer(cache)?);
    archive.file("capture", &capture(cache, own)?);
    archive.file("bin/kexec", &read(&cache.join("guest/bin/kexec"))?);
    for dir in ["lib", "lib64"] {
        archive.dir(dir);
        files(&mut archive, dir, &cache.join("guest").join(dir))?;
    }
    if let Some(path) = own {
        archive.file("bin/identmap", &read(path)?);
    }
    if !more.is_empty() {
        archive.dir(dir);
    }
    for (name, bytes) in more {
        archive.file(&format!("{dir}/{name}"), bytes);
    }
    Ok(archive.finish())
}

/// The initramfs of the second kernels.
///
/// # Errors
/// As [`producer`].
pub fn consumer(cache: &Path) -> Result<Vec<u8>, Failure> {
    Ok(base(cache)?.finish())
}

/// How the agent calls makedumpfile: it has a C library of its own.
pub const MAKEDUMPFILE: &str = "/makedumpfile/ld-linux-x86-64.so.2 --library-path /makedumpfile/lib /makedumpfile/makedumpfile";

fn capture(cache: &Path, own: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut archive = base(cache)?;
    if let Some(path) = own {
        archive.file("bin/identmap", &read(path)?);
    }
    let from = cache.join("makedumpfile");
    archive.dir("makedumpfile");
    for name in ["makedumpfile", "ld-linux-x86-64.so.2"] {
        archive.file(&format!("makedumpfile/{name}"), &read(&from.join(name))?);
    }
    archive.dir("makedumpfile/lib");
    files(&mut archive, "makedumpfile/lib", &from.join("lib"))?;
    Ok(archive.finish())
}

fn base(cache: &Path) -> Result<Initramfs, Failure> {
    let mut archive = Initramfs::new();
    archive.dir("bin");
    archive.dir("dev");
    archive.char_device("dev/console", 5, 1);
    archive.file("bin/busybox", &read(&cache.join("guest/bin/busybox"))?);
    archive.file("init", AGENT.as_bytes());
    archive.file("bin/facts", FACTS.as_bytes());
    archive.dir("efivarfs");
    for series in SERIES {
        let module = cache.join("kernels").join(series).join("efivarfs.ko");
        archive.file(&format!("efivarfs/{series}.ko"), &read(&module)?);
    }
    Ok(archive)
}

fn files(archive: &mut Initramfs, dir: &str, from: &Path) -> Result<(), Failure> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.file(&format!("{dir}/{name}"), &read(&path)?);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}; run lab/fetch.sh", path.display()))
}

const AGENT: &str = include_str!("../../guest/agent");
const FACTS: &str = include_str!("../../guest/facts");
