//! A machine from what its running kernel tells: contents of files under
//! `/proc` and `/sys`, and CPUID. Opening the files is the caller's work.

mod cpu;
mod firmware;
mod memory;
mod platform;

pub use cpu::CpuidLeaf;
pub use memory::firmware_memory;
pub(crate) use platform::{MULTIPROCESSOR_WAKEUP, mp_wakeup_in};

use crate::model::{Machine, Note};
use crate::parse;

/// What became of the attempt to read a file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nobody tried.
    #[default]
    NotRead,
    /// There is no such file: that is an answer.
    Absent,
    /// It is there and could not be read, for this reason (`Permission denied`): no answer.
    Unreadable(String),
    /// Its contents.
    Bytes(Vec<u8>),
}

impl Content {
    /// The contents, if they were read.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Content::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The contents as text without its last line end; what is not UTF-8 is replaced, and so are
    /// control characters, which a terminal might obey when names are printed.
    fn text(&self) -> Option<String> {
        let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
        self.bytes().map(|b| {
            let text = String::from_utf8_lossy(b);
            text.trim_end_matches(['\n', '\0']).chars().map(plain).collect()
        })
    }
}

impl From<Result<Vec<u8>, String>> for Content {
    fn from(read: Result<Vec<u8>, String>) -> Content {
        match read {
            Ok(bytes) => Content::Bytes(bytes),
            Err(why) => Content::Unreadable(why),
        }
    }
}

/// A directory: pairs of path (with at least the last two components) and contents.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum Directory {
    /// Nobody tried.
    #[default]
    NotRead,
    /// There is no such directory.
    Absent,
    /// It is there and could not be listed, for this reason.
    Unreadable(String),
    /// Its files.
    Files(Vec<(String, Content)>),
}

impl Directory {
    /// The file whose path ends with this name, after a slash or alone.
    fn file(&self, name: &str) -> Option<&Content> {
        self.files().iter().find(|(path, _)| path.rsplit('/').next() == Some(name)).map(|(_, c)| c)
    }

    fn files(&self) -> &[(String, Content)] {
        match self {
            Directory::Files(files) => files,
            _ => &[],
        }
    }

    /// Paths and contents of the files that were read.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files().iter().filter_map(|(path, c)| Some((path.as_str(), c.bytes()?)))
    }

    /// Why something of it could not be read.
    fn failure(&self) -> Option<&str> {
        match self {
            Directory::Unreadable(why) => Some(why),
            Directory::Files(files) => files.iter().find_map(|(_, c)| match c {
                Content::Unreadable(why) => Some(why.as_str()),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// Everything that can be asked of a running machine, as it was found.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Inputs {
    /// What [`Machine::source`] shall say.
    pub source: String,
    /// The kernel's log: `dmesg`, `/dev/kmsg` as text, `/var/log/dmesg` or `journalctl -k`.
    pub dmesg: Content,
    /// `/proc/iomem`.
    pub iomem: Content,
    /// `/proc/cmdline`.
    pub cmdline: Content,
    /// `/proc/cpuinfo`.
    pub cpuinfo: Content,
    /// `/proc/meminfo`: whether it has a line `DirectMap1G` says whether 1 GiB pages are in use.
    pub meminfo: Content,
    /// `/proc/version`.
    pub version: Content,
    /// `/proc/sys/kernel/osrelease`, or `uname -r`.
    pub osrelease: Content,
    /// `/sys/firmware/memmap`.
    pub firmware_memmap: Directory,
    /// Whether `/sys/firmware/efi` exists; `None`: nobody looked.
    pub efi_exists: Option<bool>,
    /// `/sys/firmware/efi/systab`.
    pub efi_systab: Content,
    /// `/sys/firmware/efi/config_table`.
    pub efi_config_table: Content,
    /// `/sys/firmware/efi/fw_vendor`.
    pub efi_fw_vendor: Content,
    /// `/sys/firmware/efi/runtime`.
    pub efi_runtime: Content,
    /// `/sys/firmware/efi/fw_platform_size`.
    pub efi_fw_platform_size: Content,
    /// `/sys/firmware/efi/runtime-map`.
    pub runtime_map: Directory,
    /// `/sys/kernel/boot_params/data`.
    pub boot_params: Content,
    /// `/sys/kernel/boot_params/setup_data`: files `N/type` and `N/data`.
    pub setup_data: Directory,
    /// `/sys/class/dmi/id`.
    pub dmi: Directory,
    /// `/sys/firmware/sgi_uv`.
    pub sgi_uv: Directory,
    /// `/proc/sgi_uv`.
    pub proc_sgi_uv: Directory,
    /// `/sys/firmware/acpi/tables/APIC`, at least its first 36 bytes.
    pub acpi_madt: Content,
    /// `/sys/kernel/kexec_loaded`.
    pub kexec_loaded: Content,
    /// `/sys/kernel/kexec_crash_loaded`.
    pub kexec_crash_loaded: Content,
    /// CPUID of any processor; empty if it was not asked.
    pub cpuid: Vec<CpuidLeaf>,
}

/// Puts the answers together.
///
/// Where two sources speak of the same thing, the one closer to the hardware counts: CPUID before
/// `/proc/cpuinfo`, sysfs before the log. Whatever could not be read gives a [`Note`], marked
/// `unreadable` if a verdict may hang on it.
#[must_use]
pub fn assemble(inputs: &Inputs) -> Machine {
    let mut machine = log(inputs);
    machine.source.clone_from(&inputs.source);
    identity(inputs, &mut machine);
    cpu::from_cpuinfo(inputs, &mut machine);
    cpu::from_cpuid(&inputs.cpuid, &mut machine.cpu);
    direct_map(inputs, &mut machine);
    memory_maps(inputs, &mut machine);
    firmware::boot_params(inputs, &mut machine);
    firmware::efi(inputs, &mut machine);
    platform::hardware(inputs, &mut machine);
    platform::uv(inputs, &mut machine);
    platform::mp_wakeup(inputs, &mut machine);
    platform::kexec(inputs, &mut machine);
    machine
}

/// The log first: everything else overrides it.
fn log(inputs: &Inputs) -> Machine {
    let mut machine = Machine::default();
    match &inputs.dmesg {
        Content::Bytes(bytes) => match parse::text("dmesg", bytes) {
            Ok(read) => machine = read,
            Err(error) if error.line == 0 && bytes.len() <= parse::MAX_INPUT => {
                let text = "the kernel log no longer holds the boot: it has wrapped around";
                note(&mut machine, false, text);
            }
            Err(error) => {
                note(&mut machine, true, &format!("the kernel log cannot be read: {error}"));
            }
        },
        Content::Unreadable(why) => {
            let text = format!(
                "the kernel log cannot be read ({why}): changes of the memory map and encryption are not known; root can read it"
            );
            note(&mut machine, false, &text);
        }
        Content::Absent | Content::NotRead => {}
    }
    machine
}

fn identity(inputs: &Inputs, machine: &mut Machine) {
    if let Some(version) = inputs.version.text() {
        let banner = version.strip_prefix("Linux version ").and_then(|v| v.split_once(' '));
        if let Some((release, banner)) = banner {
            // The log may be that of the boot before.
            machine.kernel = Some(release.to_owned());
            machine.kernel_banner = Some(banner.to_owned());
        }
    }
    if let Some(release) = inputs.osrelease.text().filter(|r| !r.trim().is_empty()) {
        machine.kernel = Some(release.trim().to_owned());
    }
    if let Some(cmdline) = inputs.cmdline.text() {
        machine.cmdline = None;
        parse::set_cmdline(machine, cmdline.trim());
        // Here an empty command line is one, unlike in a report.
        machine.cmdline.get_or_insert_default();
        machine.nogbpages.get_or_insert(false);
    }
}

/// `arch_report_meminfo()` in `arch/x86/mm/pat/set_memory.c` prints `DirectMap1G` only while `direct_gbpages` is on.
fn direct_map(inputs: &Inputs, machine: &mut Machine) {
    let meminfo = inputs.meminfo.text().unwrap_or_default();
    let has = |key: &str| meminfo.lines().any(|l| l.starts_with(key));
    if has("DirectMap1G:") {
        machine.direct_gbpages = Some(true);
    } else if has("DirectMap2M:") {
        machine.direct_gbpages = Some(false);
    }
}

fn memory_maps(inputs: &Inputs, machine: &mut Machine) {
    match &inputs.iomem {
        Content::Bytes(bytes) => match parse::text("/proc/iomem", bytes) {
            Ok(read) => {
                machine.iomem = read.iomem;
                machine.lost.iomem = read.lost.iomem;
                machine.notes.extend(read.notes);
            }
            Err(error) => note(machine, true, &format!("/proc/iomem cannot be read: {error}")),
        },
        Content::Unreadable(why) => {
            note(machine, true, &format!("/proc/iomem cannot be read ({why})"));
        }
        Content::Absent | Content::NotRead => {}
    }
    parse::from_iomem(machine);
    if let Some(why) = inputs.firmware_memmap.failure() {
        let text = format!(
            "/sys/firmware/memmap cannot be read ({why}): firmware's own map is not known; root can read it"
        );
        note(machine, true, &text);
    }
    if !inputs.firmware_memmap.files().is_empty() && inputs.firmware_memmap.failure().is_none() {
        match parse::firmware_memmap(inputs.firmware_memmap.contents()) {
            Ok((map, notes)) => {
                machine.lost.firmware_memmap = notes.iter().any(|note| note.unreadable);
                machine.maps.push(map);
                machine.notes.extend(notes);
            }
            Err(error) => note(machine, true, &format!("/sys/firmware/memmap: {error}")),
        }
    }
}

/// A note without a line.
fn note(machine: &mut Machine, unreadable: bool, text: &str) {
    machine.notes.push(Note { line: 0, text: text.to_owned(), unreadable });
}
