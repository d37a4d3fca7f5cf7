//! This machine, read-only: the only code that opens files under `/proc` and `/sys`.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use identmap_machine::Machine;
use identmap_machine::bundle::{Extra, config_that_matters};
use identmap_machine::live::{Content, CpuidLeaf, Directory, Inputs, assemble};
use identmap_machine::redact::Names;

/// Most that is read of one file: `/proc/iomem` of the largest machines is below this.
const MAX_FILE: u64 = 16 << 20;

/// Most files of one directory, and how deep.
const MAX_FILES: usize = 65_536;

/// Everything that this machine tells, put together.
pub(crate) fn machine() -> Machine {
    assemble(&inputs())
}

/// Everything that this machine tells, as it was found.
pub(crate) fn inputs() -> Inputs {
    let efi = Path::new("/sys/firmware/efi");
    Inputs {
        source: "live".to_owned(),
        dmesg: log(),
        iomem: content("/proc/iomem"),
        cmdline: content("/proc/cmdline"),
        cpuinfo: content("/proc/cpuinfo"),
        meminfo: content("/proc/meminfo"),
        version: content("/proc/version"),
        osrelease: content("/proc/sys/kernel/osrelease"),
        firmware_memmap: directory("/sys/firmware/memmap", 1),
        efi_exists: efi.try_exists().ok(),
        efi_systab: content(efi.join("systab")),
        efi_config_table: content(efi.join("config_table")),
        efi_fw_vendor: content(efi.join("fw_vendor")),
        efi_runtime: content(efi.join("runtime")),
        efi_fw_platform_size: content(efi.join("fw_platform_size")),
        runtime_map: directory(efi.join("runtime-map"), 1),
        boot_params: content("/sys/kernel/boot_params/data"),
        setup_data: directory("/sys/kernel/boot_params/setup_data", 1),
        dmi: directory("/sys/class/dmi/id", 0),
        sgi_uv: directory("/sys/firmware/sgi_uv", 0),
        proc_sgi_uv: directory("/proc/sgi_uv", 0),
        acpi_madt: content("/sys/firmware/acpi/tables/APIC"),
        kexec_loaded: content("/sys/kernel/kexec_loaded"),
        kexec_crash_loaded: content("/sys/kernel/kexec_crash_loaded"),
        cpuid: cpuid(),
    }
}

/// What a bundle holds beyond that.
pub(crate) fn extra(inputs: &Inputs) -> Extra {
    Extra {
        kernel_config: kernel_config(inputs),
        kexec_crash_size: content("/sys/kernel/kexec_crash_size"),
        kexec_load_disabled: content("/proc/sys/kernel/kexec_load_disabled"),
        lockdown: content("/sys/kernel/security/lockdown"),
    }
}

/// The options that matter of the running kernel's configuration, from where kernels or distributions leave it.
fn kernel_config(inputs: &Inputs) -> Content {
    let mut config = content("/proc/config.gz");
    if let Content::Bytes(packed) = &config {
        let mut bytes = Vec::new();
        let unpacked =
            flate2::read::GzDecoder::new(packed.as_slice()).take(MAX_FILE).read_to_end(&mut bytes);
        config = match unpacked {
            Ok(_) => Content::Bytes(bytes),
            Err(error) => Content::Unreadable(error.to_string()),
        };
    }
    if let (Content::Absent, Some(release)) = (&config, inputs.osrelease.bytes()) {
        let release = String::from_utf8_lossy(release).trim().to_owned();
        for path in
            [format!("/boot/config-{release}"), format!("/usr/lib/modules/{release}/config")]
        {
            if config == Content::Absent {
                config = content(path);
            }
        }
    }
    match config {
        Content::Bytes(bytes) => {
            Content::Bytes(config_that_matters(&String::from_utf8_lossy(&bytes)).into_bytes())
        }
        other => other,
    }
}

/// How this machine is known to its owner and its network: words that a redacted bundle must not hold.
pub(crate) fn names(inputs: &Inputs) -> Names {
    let text =
        |path: &str| content(path).bytes().map(|b| String::from_utf8_lossy(b).trim().to_owned());
    let mut names: Vec<String> = Vec::new();
    let host = text("/proc/sys/kernel/hostname").into_iter().chain(text("/etc/hostname"));
    for host in host {
        // The first label stands alone in prompts and logs.
        names.extend(host.split_once('.').map(|(label, _)| label.to_owned()));
        names.push(host);
    }
    names.extend(text("/proc/sys/kernel/domainname"));
    names.extend(text("/etc/machine-id"));
    names.extend(text("/proc/sys/kernel/random/boot_id"));
    for card in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        names.extend(text(&card.path().join("address").to_string_lossy()));
    }
    names.extend(Names::in_dmi(inputs));
    names.extend(["USER", "SUDO_USER", "LOGNAME"].iter().filter_map(|v| std::env::var(v).ok()));
    Names::new(names.iter().map(String::as_str))
}

pub(crate) fn content(path: impl AsRef<Path>) -> Content {
    content_up_to(path, MAX_FILE)
}

/// The first `most` bytes of a file.
pub(crate) fn content_up_to(path: impl AsRef<Path>, most: u64) -> Content {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match read {
        Ok(_) => Content::Bytes(bytes),
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Content {
    // ENODATA, ENXIO: the file stands for something this machine does not have.
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Content::Absent,
        _ => Content::Unreadable(error.to_string()),
    }
}

/// Regular files below a directory, down to `depth` levels of directories in it.
pub(crate) fn directory(path: impl AsRef<Path>, depth: usize) -> Directory {
    let path = path.as_ref();
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
        if files.len() >= MAX_FILES {
            break;
        }
        let kind = entry.file_type()?;
        let below = entry.path();
        if kind.is_dir() && depth > 0 {
            collect(&below, depth - 1, files)?;
        } else if kind.is_file() && below.file_name() != Some(OsStr::from_bytes(b"uevent")) {
            files.push((below.to_string_lossy().into_owned(), content(&below)));
        }
    }
    Ok(())
}

/// The kernel's log since boot: its ring buffer, unless that has already lost its beginning;
/// then the copy that some systems write after boot.
fn log() -> Content {
    let ring = ring_buffer();
    if ring.bytes().is_some_and(has_beginning) {
        return ring;
    }
    match boot_log("/var/log/dmesg") {
        Some(bytes) if has_beginning(&bytes) => Content::Bytes(bytes),
        _ => ring,
    }
}

fn has_beginning(log: &[u8]) -> bool {
    log.windows(14).any(|window| window == b"Linux version ")
}

/// A saved log, if it was written after this boot (`btime` of `/proc/stat`).
fn boot_log(path: &str) -> Option<Vec<u8>> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 =
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.mtime() < boot {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// `/dev/kmsg`: one record a read, `PRIORITY,SEQUENCE,MICROSECONDS,…;MESSAGE`, ends when it would
/// block (Linux `Documentation/ABI/testing/dev-kmsg`).
fn ring_buffer() -> Content {
    /// `O_NONBLOCK` on x86 and arm64 (Linux `include/uapi/asm-generic/fcntl.h`).
    const O_NONBLOCK: i32 = 0o4000;
    /// The longest record the kernel gives (`CONSOLE_EXT_LOG_MAX`, `kernel/printk/printk.c`).
    const RECORD: usize = 8192;
    let mut file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg") {
        Ok(file) => file,
        Err(error) => return failed(&error),
    };
    let mut log = Vec::new();
    let mut record = [0u8; RECORD];
    while (log.len() as u64) < MAX_FILE {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => log.extend(message(&record[..length])),
            // Records overwritten while reading: go on with the next.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return failed(&error),
        }
    }
    Content::Bytes(log)
}

/// The first line of a record, behind its header; further lines are a dictionary.
fn message(record: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let start = record.iter().position(|&byte| byte == b';').map_or(0, |at| at + 1);
    let line = record[start..].split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.iter().copied().chain(*b"\n")
}

/// The leaves that facts come from; CPUID is the same on every processor that Linux starts.
#[cfg(target_arch = "x86_64")]
pub(crate) fn cpuid() -> Vec<CpuidLeaf> {
    use core::arch::x86_64::__cpuid_count;
    let basic = __cpuid_count(0, 0).eax;
    let extended = __cpuid_count(0x8000_0000, 0).eax;
    [
        0,
        1,
        7,
        0x8000_0000,
        0x8000_0001,
        0x8000_0002,
        0x8000_0003,
        0x8000_0004,
        0x8000_0008,
        0x8000_001f,
    ]
    .into_iter()
    // A leaf past the last one repeats another leaf on Intel: it must not be asked.
    .filter(|&leaf| leaf <= if leaf < 0x8000_0000 { basic } else { extended })
    .map(|leaf| {
        let answer = __cpuid_count(leaf, 0);
        let (eax, ebx, ecx, edx) = (answer.eax, answer.ebx, answer.ecx, answer.edx);
        CpuidLeaf { leaf, subleaf: 0, eax, ebx, ecx, edx }
    })
    .collect()
}

/// Another processor has no CPUID: facts must come from a file.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn cpuid() -> Vec<CpuidLeaf> {
    Vec::new()
}
