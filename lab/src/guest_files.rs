//! A guest's own `/proc` and `/sys`, as kept under `root/` of a result, for the product's reader.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use identmap_machine::live::{Content, Directory, Inputs};

/// What `identmap` on this machine would read, as far as the guest's first process kept it; the rest
/// stays [`Content::NotRead`]. CPUID is not among it: `/proc/cpuinfo` has to do.
#[must_use]
pub fn inputs(root: &Path) -> Inputs {
    let content = |path: &str| content(&root.join(path));
    let directory = |path: &str, depth| directory(&root.join(path), depth);
    let efi = |name: &str| content(&format!("sys/firmware/efi/{name}"));
    Inputs {
        source: root.display().to_string(),
        dmesg: match content("dmesg") {
            Content::Absent => Content::NotRead,
            read => read,
        },
        iomem: content("proc/iomem"),
        cmdline: content("proc/cmdline"),
        cpuinfo: content("proc/cpuinfo"),
        meminfo: content("proc/meminfo"),
        version: content("proc/version"),
        osrelease: content("proc/sys/kernel/osrelease"),
        firmware_memmap: directory("sys/firmware/memmap", 1),
        efi_exists: root.join("sys/firmware/efi").try_exists().ok(),
        efi_systab: efi("systab"),
        efi_config_table: efi("config_table"),
        efi_fw_vendor: efi("fw_vendor"),
        efi_runtime: efi("runtime"),
        efi_fw_platform_size: efi("fw_platform_size"),
        runtime_map: directory("sys/firmware/efi/runtime-map", 1),
        boot_params: content("sys/kernel/boot_params/data"),
        setup_data: directory("sys/kernel/boot_params/setup_data", 1),
        dmi: match directory("sys/class/dmi/id", 0) {
            Directory::Absent => Directory::NotRead,
            read => read,
        },
        acpi_madt: content("sys/firmware/acpi/tables/APIC"),
        kexec_loaded: content("sys/kernel/kexec_loaded"),
        kexec_crash_loaded: content("sys/kernel/kexec_crash_loaded"),
        ..Inputs::default()
    }
}

fn content(path: &Path) -> Content {
    match fs::read(path) {
        Ok(bytes) => Content::Bytes(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Content::Absent,
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

fn directory(path: &Path, depth: usize) -> Directory {
    let mut files = Vec::new();
    match collect(path, depth, &mut files) {
        Ok(()) => {
            files.sort_by(|a, b| a.0.cmp(&b.0));
            Directory::Files(files)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Directory::Absent,
        Err(error) => Directory::Unreadable(error.to_string()),
    }
}

fn collect(path: &Path, depth: usize, files: &mut Vec<(String, Content)>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let below = entry.path();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                collect(&below, depth - 1, files)?;
            }
        } else {
            files.push((below.to_string_lossy().into_owned(), content(&below)));
        }
    }
    Ok(())
}
