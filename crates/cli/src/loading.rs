//! What the running kernel tells a loader: its own `boot_params`, EFI's runtime map, what it allows, and what
//! the core header of a crash kernel is made from.

use std::fs;
use std::path::Path;

use identmap::{PhysAddr, PhysRange};
use identmap_kexec::{CrashFacts, Rules};
use identmap_linux::Kind;
use identmap_linux::boot::{EfiHandover, SetupEfi};
use identmap_linux::firmware;
use identmap_machine::Machine;
use identmap_machine::live::{Content, Directory};

use crate::live;

/// A line of a file, without spaces around it.
pub(crate) fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The running kernel's `boot_params`.
pub(crate) fn boot_params() -> Option<Vec<u8>> {
    match live::content("/sys/kernel/boot_params/data") {
        Content::Bytes(bytes) if bytes.len() >= 4096 => Some(bytes),
        _ => None,
    }
}

/// EFI as it is handed over, with its memory descriptors; or why it is not.
///
/// All or nothing: a kernel that is given `efi_info` without `SETUP_EFI` takes the firmware for one that has not
/// switched to virtual addresses, and hangs (`arch/x86/platform/efi/efi.c`; kexec-tools'
/// `setup_linux_system_parameters()`).
pub(crate) fn efi(
    machine: &Machine,
    runtime_map: &Directory,
) -> Result<(EfiHandover, Vec<u8>), String> {
    match firmware::efi_booted(machine) {
        Some(true) => {}
        Some(false) => return Err("the machine booted through BIOS".to_owned()),
        None => return Err("nothing says that the machine booted through EFI".to_owned()),
    }
    if machine.efi.is_64bit == Some(false) {
        return Err(
            "the firmware is 32-bit: its run-time services cannot be handed over".to_owned()
        );
    }
    let missing = |what: &str| format!("{what} is not known");
    let system_table =
        machine.efi.system_table.ok_or_else(|| missing("the EFI system table's address"))?;
    let tables =
        machine.efi.config_table.ok_or_else(|| missing("the EFI configuration table's address"))?;
    let map = descriptors(runtime_map)?;
    let smbios = machine.efi.tables.iter().find(|table| table.name == "SMBIOS");
    let setup_efi = SetupEfi {
        fw_vendor: machine.efi.fw_vendor.map_or(0, PhysAddr::get),
        tables: tables.address.get(),
        smbios: smbios.map_or(0, |table| table.address.get()),
    };
    let handover = EfiHandover {
        system_table,
        memory_map: None,
        descriptor_len: DESCRIPTOR as u32,
        setup_efi: Some(setup_efi),
    };
    Ok((handover, map))
}

/// `struct efi_memory_desc_t` (`include/linux/efi.h`).
const DESCRIPTOR: usize = 40;

/// `/sys/firmware/efi/runtime-map`, as firmware's memory map: only what runs on, with the
/// virtual addresses that the running kernel gave it, which cannot be given twice.
fn descriptors(map: &Directory) -> Result<Vec<u8>, String> {
    let here = "/sys/firmware/efi/runtime-map";
    let files = match map {
        Directory::Files(files) if !files.is_empty() => files,
        Directory::Unreadable(why) => return Err(format!("{here}: {why}")),
        _ => return Err(format!("there is no {here}")),
    };
    let mut entries: Vec<(u32, [Option<u64>; 5])> = Vec::new();
    for (path, content) in files {
        let mut parts = path.rsplit('/');
        let (Some(name), Some(number)) = (parts.next(), parts.next()) else { continue };
        let fields = ["type", "phys_addr", "virt_addr", "num_pages", "attribute"];
        let (Some(field), Ok(number)) = (fields.iter().position(|f| *f == name), number.parse())
        else {
            continue;
        };
        let text = match content {
            Content::Bytes(bytes) => String::from_utf8_lossy(bytes).trim().to_owned(),
            Content::Unreadable(why) => return Err(format!("{path}: {why}")),
            _ => continue,
        };
        let value = u64::from_str_radix(text.trim_start_matches("0x"), 16)
            .map_err(|_| format!("{path}: not a number: {text:?}"))?;
        if let Some((_, fields)) = entries.iter_mut().find(|(known, _)| *known == number) {
            fields[field] = Some(value);
        } else {
            let mut fields = [None; 5];
            fields[field] = Some(value);
            entries.push((number, fields));
        }
    }
    entries.sort_by_key(|(number, _)| *number);
    let mut bytes = Vec::with_capacity(entries.len() * DESCRIPTOR);
    for (number, fields) in entries {
        let [Some(kind), Some(phys), Some(virt), Some(pages), Some(attribute)] = fields else {
            return Err(format!("{here}/{number}: a field is missing"));
        };
        // A 32-bit type and 32 bits of padding.
        for word in [kind & 0xffff_ffff, phys, virt, pages, attribute] {
            bytes.extend(word.to_le_bytes());
        }
    }
    if bytes.is_empty() { Err(format!("{here} is empty")) } else { Ok(bytes) }
}

/// What the running kernel allows.
pub(crate) fn rules(machine: &Machine, kind: Kind) -> Rules {
    let is = |path: &str, value: &str| line(path).is_some_and(|text| text == value);
    let limit = match kind {
        Kind::Kexec => "/proc/sys/kernel/kexec_load_limit_reboot",
        Kind::Kdump => "/proc/sys/kernel/kexec_load_limit_panic",
    };
    let lockdown = line("/sys/kernel/security/lockdown");
    Rules {
        root: is_root(),
        lockdown: lockdown.is_some_and(|text| text.contains('[') && !text.contains("[none]")),
        disabled: is("/proc/sys/kernel/kexec_load_disabled", "1"),
        limit_reached: is(limit, "0"),
        reserved: !machine.crash_kernels.is_empty(),
    }
}

/// Whether this process is root: the effective user of `/proc/self/status`.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

/// Memory that `KHO` (kexec hand-over) keeps for the next kernel (`/sys/kernel/debug/kho/out`, Linux 6.16).
pub(crate) fn kho_scratch() -> Vec<PhysRange> {
    let numbers = |name: &str| -> Vec<u64> {
        let text = line(&format!("/sys/kernel/debug/kho/out/{name}")).unwrap_or_default();
        let number = |word: &str| {
            u64::from_str_radix(word.strip_prefix("0x")?, 16).ok().or_else(|| word.parse().ok())
        };
        text.split_whitespace().filter_map(number).collect()
    };
    let (starts, lengths) = (numbers("scratch_phys"), numbers("scratch_len"));
    starts
        .into_iter()
        .zip(lengths)
        .filter_map(|(start, len)| PhysRange::from_len(start, len).ok())
        .collect()
}

/// What a crash kernel's core header is made from; `ram` is the machine's.
///
/// # Errors
/// What could not be read.
pub(crate) fn crash_facts(ram: &[PhysRange]) -> Result<CrashFacts, String> {
    const INFO: &str = "/sys/kernel/vmcoreinfo";
    const CPUS: &str = "/sys/devices/system/cpu";
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
    let info = line(INFO).ok_or(format!("{INFO} cannot be read"))?;
    let vmcoreinfo = info.split_once(' ').and_then(|(at, len)| Some((number(at)?, number(len)?)));
    let vmcoreinfo = vmcoreinfo.ok_or(format!("{INFO}: not two numbers: {info:?}"))?;
    let mut notes: Vec<(u32, (u64, u64))> = Vec::new();
    for entry in fs::read_dir(CPUS).map_err(|error| format!("{CPUS}: {error}"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(Ok(cpu)) = name.strip_prefix("cpu").map(str::parse) else { continue };
        let read = |file: &str| line(&entry.path().join(file).to_string_lossy());
        let (at, len) = (read("crash_notes"), read("crash_notes_size"));
        let at = at.and_then(|text| number(&text));
        // Kernels before 4.7 do not tell the size; none of them is supported.
        let len = len.and_then(|text| text.parse().ok());
        notes.push((cpu, at.zip(len).ok_or(format!("{CPUS}/{name}/crash_notes cannot be read"))?));
    }
    notes.sort_unstable();
    if notes.is_empty() {
        return Err(format!("{CPUS}: no processor has crash_notes"));
    }
    let core = match live::content_up_to("/proc/kcore", 1 << 14) {
        Content::Bytes(bytes) => bytes,
        Content::Unreadable(why) => return Err(format!("/proc/kcore: {why}")),
        _ => return Err("there is no /proc/kcore".to_owned()),
    };
    let page_offset = identmap_kexec::page_offset(&core, ram)
        .ok_or("the headers of /proc/kcore do not tell where memory is mapped")?;
    let text = identmap_kexec::kernel_text(&core, ram)
        .ok_or("the headers of /proc/kcore do not tell where the kernel's image is")?;
    let room = line("/sys/kernel/crash_elfcorehdr_size").and_then(|text| text.parse().ok());
    Ok(CrashFacts {
        notes: notes.into_iter().map(|(_, note)| note).collect(),
        vmcoreinfo,
        text: Some(text),
        page_offset,
        room: room.filter(|&bytes| bytes != 0),
    })
}

/// The position of the encryption bit (CPUID `0x8000001F.EBX[5:0]`).
pub(crate) fn c_bit() -> Option<u8> {
    let leaves = live::cpuid();
    let leaf = leaves.iter().find(|leaf| leaf.leaf == 0x8000_001f)?;
    Some((leaf.ebx & 0x3f) as u8)
}

/// SSE4.2, which has the CRC32 instruction (CPUID `1.ECX[20]`).
pub(crate) fn has_crc32() -> bool {
    live::cpuid().iter().any(|leaf| leaf.leaf == 1 && leaf.ecx >> 20 & 1 == 1)
}

/// Whether systemd is the init system (`sd_booted(3)`).
pub(crate) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
