//! Takes out of a bundle what identifies a machine, a person or a network, and says what it took.
//!
//! What is known to matter is kept, the rest goes: a new field of a file is left out until somebody
//! has looked at it. What is kept of texts is also searched for addresses, UUIDs and names.

mod cmdline;
mod scrub;

use std::cell::Cell;

pub use scrub::{Names, REDACTED};

use crate::bundle::{Bundle, Facts, TablesState};
use crate::live::{Content, CpuidLeaf, Directory, Inputs, MULTIPROCESSOR_WAKEUP, mp_wakeup_in};
use crate::model::MpWakeup;
use crate::parse::{Scrub, excerpt};
use scrub::{Looks, scrub};

/// The bundle without what identifies; [`Bundle::left_out`] tells what is gone. `names`: how else this
/// machine is known.
///
/// The machine of the result is that of the bundle in everything that a verdict can hang on; twice
/// is the same as once.
#[must_use]
pub fn redact(bundle: &Bundle, names: &Names) -> Bundle {
    let work = Work { names, left_out: Cell::default() };
    let mut out = bundle.clone();
    match &mut out.facts {
        Facts::Text(bytes) => {
            let kept = excerpt(bytes, &work).into_bytes();
            work.compare(
                "text: lines that identmap does not read, times, host names",
                bytes,
                &kept,
            );
            *bytes = kept;
        }
        Facts::Live(inputs) => live(inputs, &work),
    }
    for content in [
        &mut out.extra.kernel_config,
        &mut out.extra.kexec_crash_size,
        &mut out.extra.kexec_load_disabled,
        &mut out.extra.lockdown,
    ] {
        work.trim(content);
    }
    for tables in &mut out.tables {
        if let TablesState::NotRead(why) = &mut tables.state {
            *why = work.text(why);
        }
    }
    out.redacted = true;
    out.left_out.extend(work.left_out.into_inner());
    out.left_out.sort();
    out.left_out.dedup();
    out
}

/// What a redaction is done with, and what it has taken out so far.
struct Work<'a> {
    names: &'a Names,
    left_out: Cell<Vec<String>>,
}

impl Work<'_> {
    fn say(&self, what: &str) {
        let mut list = self.left_out.take();
        if !list.iter().any(|known| known == what) {
            list.push(what.to_owned());
        }
        self.left_out.set(list);
    }

    fn compare(&self, what: &str, before: &[u8], after: &[u8]) {
        if before != after {
            self.say(what);
        }
    }

    /// Changes a text; reasons for not reading it are texts too.
    fn change(&self, content: &mut Content, what: &str, change: impl FnOnce(&str) -> String) {
        match content {
            Content::Bytes(bytes) => {
                let before = String::from_utf8_lossy(bytes).into_owned();
                let after = change(&before);
                if !what.is_empty() {
                    self.compare(what, before.trim_end().as_bytes(), after.trim_end().as_bytes());
                }
                *bytes = after.into_bytes();
            }
            Content::Unreadable(why) => *why = self.text(why),
            Content::Absent | Content::NotRead => {}
        }
    }

    /// A short text: searched; a single line without the line feed at its end.
    fn trim(&self, content: &mut Content) {
        self.change(content, "", |text| {
            let text = self.text(text.trim_end_matches(['\n', '\0']));
            if text.contains('\n') { text + "\n" } else { text }
        });
    }

    /// Keeps the files of a directory that `keep` names.
    fn select(&self, directory: &mut Directory, what: &str, keep: impl Fn(&str) -> bool) {
        match directory {
            Directory::Files(files) => {
                let before = files.len();
                files.retain(|(path, _)| keep(path.rsplit('/').next().unwrap_or(path)));
                if files.len() < before {
                    self.say(what);
                }
            }
            Directory::Unreadable(why) => *why = self.text(why),
            Directory::Absent | Directory::NotRead => {}
        }
    }
}

impl Scrub for Work<'_> {
    fn text(&self, text: &str) -> String {
        self.scrubbed(text, Looks::All)
    }

    fn hardware(&self, text: &str) -> String {
        self.scrubbed(text, Looks::NotIpv4)
    }

    fn cmdline(&self, text: &str) -> String {
        let (kept, changed) = cmdline::redact(text, self.names);
        if changed > 0 {
            self.say("command line: the values of parameters that do not matter here");
        }
        kept
    }

    fn banner(&self, text: &str) -> String {
        // (user@host) (compiler) #1 SMP …: Debian's and Red Hat's builders stand there too.
        let who = text.strip_prefix('(').and_then(|t| t.split_once(')'));
        match who.filter(|(who, _)| who.contains('@') || *who == REDACTED) {
            Some((who, rest)) => {
                if who != REDACTED {
                    self.say("version: who built the kernel, and where");
                }
                // Ubuntu's version of the sources has four numbers.
                format!("({REDACTED}){}", self.hardware(rest))
            }
            None => self.hardware(text),
        }
    }

    fn resource(&self, name: &str) -> String {
        if is_known_resource(name) {
            return self.text(name);
        }
        if name != DEVICE {
            self.say("/proc/iomem: names of devices");
        }
        DEVICE.to_owned()
    }
}

impl Work<'_> {
    fn scrubbed(&self, text: &str, looks: Looks) -> String {
        let kept = scrub(text, self.names, looks);
        if kept != text {
            self.say("texts: addresses, UUIDs, names");
        }
        kept
    }
}

fn live(inputs: &mut Inputs, work: &Work<'_>) {
    let what = "dmesg: lines that identmap does not read, times";
    work.change(&mut inputs.dmesg, what, |text| excerpt(text.as_bytes(), work));
    if let Content::Bytes(bytes) = &inputs.iomem {
        inputs.iomem = Content::Bytes(excerpt(bytes, work).into_bytes());
    } else {
        work.trim(&mut inputs.iomem);
    }
    work.change(&mut inputs.cmdline, "", |text| work.cmdline(text.trim()));
    let what =
        "/proc/cpuinfo: all but the maker, the name, the address sizes, the flags and the bugs";
    work.change(&mut inputs.cpuinfo, what, cpuinfo);
    work.change(&mut inputs.meminfo, "/proc/meminfo: all sizes but that of memory", meminfo);
    work.change(&mut inputs.version, "", |text| match text.trim_end().split_once(" (") {
        Some((release, banner)) => {
            format!("{} {}", work.hardware(release), work.banner(&format!("({banner}")))
        }
        None => work.text(text.trim_end()),
    });
    // A release is needed as it is; what somebody appended to it may still be a name or an address.
    work.change(&mut inputs.osrelease, "", |text| work.hardware(text.trim_end_matches('\n')));
    work.select(&mut inputs.firmware_memmap, "/sys/firmware/memmap: unknown files", |name| {
        ["start", "end", "type"].contains(&name)
    });
    work.select(
        &mut inputs.runtime_map,
        "/sys/firmware/efi/runtime-map: virtual addresses",
        |name| ["type", "phys_addr", "num_pages", "attribute"].contains(&name),
    );
    work.select(
        &mut inputs.dmi,
        "/sys/class/dmi/id: serial numbers, UUID, asset tags, all but names and versions",
        |name| DMI.contains(&name),
    );
    for directory in [&mut inputs.sgi_uv, &mut inputs.proc_sgi_uv] {
        work.select(directory, "sgi_uv: partition and coherence numbers", |name| {
            ["archtype", "hub_type", "hubbed", "hubless"].contains(&name)
        });
    }
    for directory in [
        &mut inputs.firmware_memmap,
        &mut inputs.runtime_map,
        &mut inputs.sgi_uv,
        &mut inputs.proc_sgi_uv,
    ] {
        each(directory, |content| work.trim(content));
    }
    each(&mut inputs.dmi, |content| {
        work.change(content, "", |text| work.hardware(text.trim_end_matches('\n')));
    });
    setup_data(&mut inputs.setup_data, work);
    boot_params(&mut inputs.boot_params, work);
    madt(&mut inputs.acpi_madt, work);
    for content in [
        &mut inputs.efi_systab,
        &mut inputs.efi_config_table,
        &mut inputs.efi_fw_vendor,
        &mut inputs.efi_runtime,
        &mut inputs.efi_fw_platform_size,
        &mut inputs.kexec_loaded,
        &mut inputs.kexec_crash_loaded,
    ] {
        work.trim(content);
    }
    cpuid(&mut inputs.cpuid, work);
}

fn each(directory: &mut Directory, change: impl Fn(&mut Content)) {
    if let Directory::Files(files) = directory {
        for (_, content) in files {
            change(content);
        }
    }
}

/// What stays of `/sys/class/dmi/id`.
const DMI: [&str; 8] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_name",
    "board_vendor",
    "product_name",
    "sys_vendor",
];

/// What the first processor is; the others are like it.
fn cpuinfo(text: &str) -> String {
    const KEYS: [&str; 9] = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "stepping",
        "microcode",
        "flags",
        // Of the processor; one of them decides over TDX.
        "bugs",
        "address sizes",
    ];
    let first = text.lines().take_while(|line| !line.trim().is_empty());
    let keep =
        |line: &&str| line.split_once(':').is_some_and(|(key, _)| KEYS.contains(&key.trim()));
    first.filter(keep).flat_map(|line| [line, "\n"]).collect()
}

/// Whether 1 GiB pages are in use is told by the presence of a line; how many changes all the time.
fn meminfo(text: &str) -> String {
    let line = |line: &str| match line.split_once(':')? {
        (key, _) if key.starts_with("DirectMap") => Some(format!("{key}:\n")),
        ("MemTotal", _) => Some(format!("{line}\n")),
        _ => None,
    };
    text.lines().filter_map(line).collect()
}

/// What becomes of a device's name.
const DEVICE: &str = "device";

/// Resources that are no device of a maker: names that the kernel itself gives.
fn is_known_resource(name: &str) -> bool {
    const WHOLE: [&str; 28] = [
        "Reserved",
        "reserved",
        "Unknown E820 type",
        "ACPI Tables",
        "ACPI Non-volatile Storage",
        "Unusable memory",
        "Persistent Memory",
        "Persistent Memory (legacy)",
        "Soft Reserved",
        "Unaccepted Memory",
        "RAM buffer",
        "Crash kernel",
        "Kernel code",
        "Kernel rodata",
        "Kernel data",
        "Kernel bss",
        "Video ROM",
        "System ROM",
        "Adapter ROM",
        "Extension ROM",
        "Video RAM area",
        "Local APIC",
        "GART",
        "Graphics Stolen Memory",
        "amd_iommu",
        "BOOTFB",
        "efifb",
        "SMM",
    ];
    const BEGIN: [&str; 10] = [
        "System RAM",
        "PCI Bus ",
        "PCI ECAM ",
        "PCI MMCONFIG ",
        "IOAPIC ",
        "HPET ",
        "dmar",
        "CXL Window ",
        "CXL HDM",
        "Setup data",
    ];
    WHOLE.contains(&name)
        || BEGIN.iter().any(|word| name.starts_with(word)) && name.len() < 48
        || is_pci_function(name)
        || is_acpi_device(name)
        // The parts of its map that firmware's own resource has no name for, and lines cut short.
        || name.is_empty()
}

/// `0000:00:1f.0`.
fn is_pci_function(name: &str) -> bool {
    let shape: String = name.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
    shape == "xxxx:xx:xx.x"
}

/// `PNP0103:00`, `MSFT0101:00`, with or without a word behind it; `pnp 00:01`.
fn is_acpi_device(name: &str) -> bool {
    let head = name.split(' ').next().unwrap_or(name);
    let parts = head.split_once(':');
    let id = |id: &str| {
        (7..=8).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && id.ends_with(|c: char| c.is_ascii_hexdigit())
    };
    parts.is_some_and(|(hid, number)| id(hid) && number.len() == 2) && head == name
        || name.strip_prefix("pnp 00:").is_some_and(|rest| rest.len() == 2)
}

/// Types of `setup_data` whose payload is addresses and numbers (`arch/x86/include/uapi/asm/setup_data.h`):
/// `E820_EXT`, EFI, `CC_BLOB`, IMA, `KEXEC_KHO`, INDIRECT. Of the others (device ROMs, random seeds, device
/// trees) only the length stays.
const SETUP_DATA_KEPT: [&str; 6] = ["0x1", "0x4", "0x7", "0x8", "0xa", "0x80000000"];

fn setup_data(directory: &mut Directory, work: &Work<'_>) {
    let what = "/sys/kernel/boot_params/setup_data: contents that are not addresses";
    work.select(directory, what, |name| ["type", "data"].contains(&name));
    let Directory::Files(files) = directory else { return };
    let kept: Vec<String> = files
        .iter()
        .filter_map(|(path, content)| {
            let node = path.strip_suffix("/type")?;
            let kind = String::from_utf8_lossy(content.bytes()?).trim().to_owned();
            SETUP_DATA_KEPT.contains(&kind.as_str()).then(|| format!("{node}/data"))
        })
        .collect();
    for (path, content) in files {
        if path.ends_with("/type") || !path.ends_with("/data") {
            work.trim(content);
        } else if let Content::Bytes(bytes) = content
            && !kept.contains(path)
            && bytes.iter().any(|&b| b != 0)
        {
            work.say(what);
            bytes.fill(0);
        }
    }
}

/// What stays of `struct boot_params` (Linux `Documentation/arch/x86/zero-page.rst`): `acpi_rsdp_addr`; the upper
/// halves for the ramdisk and the command line; `cc_blob_address`; `efi_info`; the number of e820 entries;
/// `secure_boot`; the setup header; the e820 table. Gone: the screen, APM, disks with their signatures, EDID.
const BOOT_PARAMS_KEPT: [core::ops::Range<usize>; 8] = [
    0x070..0x078,
    0x0c0..0x0cc,
    0x13c..0x140,
    0x1c0..0x1e0,
    0x1e8..0x1e9,
    0x1ec..0x1ed,
    0x1f1..0x290,
    0x2d0..0xcd0,
];

fn boot_params(content: &mut Content, work: &Work<'_>) {
    let Content::Bytes(bytes) = content else { return work.trim(content) };
    let mut changed = false;
    for (at, byte) in bytes.iter_mut().enumerate() {
        let gone = !BOOT_PARAMS_KEPT.iter().any(|kept| kept.contains(&at));
        if gone && *byte != 0 {
            changed = true;
            *byte = 0;
        }
    }
    if changed {
        work.say("/sys/kernel/boot_params/data: screen, disks, monitor");
    }
}

/// The header of every ACPI table (ACPI 6.5, 5.2.6) names a maker and a model; the processors follow. Of these only the
/// structure stays that tells how they are started (5.2.12.19), behind 8 bytes that are no secret, made 0.
fn madt(content: &mut Content, work: &Work<'_>) {
    const HEADER: usize = 36;
    const BEFORE_STRUCTURES: usize = 8;
    const LENGTH: u8 = 16;
    let Content::Bytes(bytes) = content else { return work.trim(content) };
    let mut kept = bytes.clone();
    kept.truncate(HEADER);
    if let Some(MpWakeup { version, mailbox }) = mp_wakeup_in(bytes) {
        kept.extend_from_slice(&[0; BEFORE_STRUCTURES]);
        kept.extend_from_slice(&[MULTIPROCESSOR_WAKEUP, LENGTH]);
        kept.extend_from_slice(&version.to_le_bytes());
        kept.extend_from_slice(&[0; 4]);
        kept.extend_from_slice(&mailbox.to_le_bytes());
    }
    if kept != *bytes {
        work.say(
            "/sys/firmware/acpi/tables/APIC: all but its header, and how processors are started",
        );
        *bytes = kept;
    }
}

/// Leaf 3 was a serial number, leaves 0xb and 0x1f number the processor that was asked; leaf 1 does so in
/// EBX[31:24] (Intel SDM vol. 2A, CPUID).
fn cpuid(leaves: &mut Vec<CpuidLeaf>, work: &Work<'_>) {
    const KEPT: [u32; 15] = [
        0,
        1,
        7,
        0x21,
        0x4000_0000,
        0x4000_0001,
        0x8000_0000,
        0x8000_0001,
        0x8000_0002,
        0x8000_0003,
        0x8000_0004,
        0x8000_0007,
        0x8000_0008,
        0x8000_001f,
        0x8000_0021,
    ];
    let before = leaves.len();
    leaves.retain(|leaf| KEPT.contains(&leaf.leaf));
    if leaves.len() < before {
        work.say("CPUID: leaves that number a processor");
    }
    for leaf in leaves.iter_mut().filter(|leaf| leaf.leaf == 1) {
        leaf.ebx &= 0x00ff_ffff;
    }
}

#[cfg(test)]
mod tests;
