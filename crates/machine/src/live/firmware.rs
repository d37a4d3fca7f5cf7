//! `/sys/kernel/boot_params` and `/sys/firmware/efi`.
//!
//! Offsets: Linux `Documentation/arch/x86/zero-page.rst` and, for the setup header, `boot.rst`.

use identmap::{PHYS_LIMIT, PhysAddr, PhysRange};

use super::{Content, Inputs, note};
use crate::model::{ConfigTable, EfiTable, Machine, MapEntry, MapOrigin, MemMap, MemType, Screen};
use crate::parse;

/// `acpi_rsdp_addr`.
const RSDP: usize = 0x070;
/// `ext_ramdisk_image`, `ext_ramdisk_size`: the upper halves.
const EXT_RAMDISK_IMAGE: usize = 0x0c0;
const EXT_RAMDISK_SIZE: usize = 0x0c4;
/// `cc_blob_address`.
const CC_BLOB: usize = 0x13c;
/// `struct efi_info` in `arch/x86/include/uapi/asm/bootparam.h`.
const EFI_INFO: usize = 0x1c0;
/// `e820_entries`, `e820_table` (entries of 20 bytes: u64 address, u64 size, u32 type).
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY: usize = 20;
/// `E820_MAX_ENTRIES_ZEROPAGE`.
const E820_MAX: usize = 128;
/// `ramdisk_image`, `ramdisk_size`, `setup_data` of the setup header.
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const SETUP_DATA: usize = 0x250;
/// `screen_info.orig_video_isVGA`: `VIDEO_TYPE_*` of `include/uapi/linux/screen_info.h`, 1 VGA text, 0x23 VESA,
/// 0x70 EFI.
const VIDEO_TYPE: usize = 0x0f;
/// `secure_boot`: `enum efi_secureboot_mode` of `include/linux/efi.h`, 2 disabled, 3 enabled; else not known.
const SECURE_BOOT: usize = 0x1ec;
/// `struct setup_data` before its payload: u64 next, u32 type, u32 len.
const SETUP_DATA_HEADER: u64 = 16;
/// `SETUP_E820_EXT`: more entries of the map.
const SETUP_E820_EXT: &str = "0x1";

/// The e820 map, EFI's places, the RSDP, the ramdisk and the head of the `setup_data` chain.
pub(super) fn boot_params(inputs: &Inputs, machine: &mut Machine) {
    let data = match &inputs.boot_params {
        Content::Bytes(bytes) => bytes.as_slice(),
        Content::Unreadable(why) => {
            let text = format!(
                "/sys/kernel/boot_params cannot be read ({why}): the addresses of the EFI system table and of setup_data are not known; root can read it"
            );
            return note(machine, true, &text);
        }
        Content::Absent | Content::NotRead => return,
    };
    if data.len() < E820_TABLE + E820_MAX * E820_ENTRY {
        let text = format!("/sys/kernel/boot_params/data is cut: {} bytes", data.len());
        return note(machine, true, &text);
    }
    e820(data, inputs, machine);
    efi_info(data, machine);
    if let Some(address) = address(u64_at(data, RSDP)) {
        machine.rsdp = Some(address);
    }
    machine.cc_blob = address(u64::from(u32_at(data, CC_BLOB)));
    // A redacted bundle has no screen: 0.
    machine.screen = match data[VIDEO_TYPE] {
        1 => Some(Screen::Text),
        0x23 | 0x70 => Some(Screen::Framebuffer),
        _ => machine.screen,
    };
    machine.secure_boot = match data[SECURE_BOOT] {
        2 => Some(false),
        3 => Some(true),
        _ => machine.secure_boot,
    };
    let start = wide(data, RAMDISK_IMAGE, EXT_RAMDISK_IMAGE);
    let size = wide(data, RAMDISK_SIZE, EXT_RAMDISK_SIZE);
    if let Ok(range) = PhysRange::from_len(start, size) {
        machine.ramdisk = Some(range);
    }
    setup_data(u64_at(data, SETUP_DATA), inputs, machine);
}

fn e820(data: &[u8], inputs: &Inputs, machine: &mut Machine) {
    let count = usize::from(data[E820_ENTRIES]).min(E820_MAX);
    let table = &data[E820_TABLE..E820_TABLE + count * E820_ENTRY];
    let extension = inputs.setup_data.contents().filter_map(|(path, kind)| {
        let node = path.strip_suffix("/type")?;
        let is_e820 = String::from_utf8_lossy(kind).trim() == SETUP_E820_EXT;
        is_e820.then(|| format!("{node}/data"))
    });
    let mut raw = table.to_vec();
    for path in extension {
        if let Some((_, more)) = inputs.setup_data.contents().find(|(p, _)| *p == path) {
            raw.extend_from_slice(more);
        }
    }
    // As many as there is room for, and nothing that tells whether there were more.
    machine.lost.boot_params = count == E820_MAX
        && raw.len() == table.len()
        && (u64_at(data, SETUP_DATA) != 0 && inputs.setup_data.files().is_empty()
            || inputs.setup_data.failure().is_some());
    let mut entries = Vec::new();
    for entry in raw.chunks_exact(E820_ENTRY).take(parse::MAX_ENTRIES) {
        let (start, size) = (u64_at(entry, 0), u64_at(entry, 8));
        let kind = MemType::from_e820(u32_at(entry, 16));
        if size == 0 {
            continue;
        }
        if start >= PHYS_LIMIT {
            let text = format!(
                "an entry of boot_params' e820 map lies past 52 bits, at {start:#x}: it was left out"
            );
            note(machine, true, &text);
            continue;
        }
        // A size that wraps leaves the entry reversed, for lint.
        entries.push(MapEntry {
            start,
            last: start.wrapping_add(size).wrapping_sub(1),
            kind,
            line: 0,
        });
    }
    if !entries.is_empty() {
        machine.maps.push(MemMap { origin: MapOrigin::BootParams, entries });
    }
}

/// `efi_loader_signature` is `EL64` or `EL32`: `arch/x86/include/asm/efi.h`.
fn efi_info(data: &[u8], machine: &mut Machine) {
    let info = &data[EFI_INFO..EFI_INFO + 32];
    let is_64bit = match &info[..4] {
        b"EL64" => true,
        b"EL32" => false,
        _ => return,
    };
    machine.efi.is_64bit = Some(is_64bit);
    machine.efi.system_table = address(join(u32_at(info, 4), u32_at(info, 24)));
    let memmap = join(u32_at(info, 16), u32_at(info, 28));
    machine.efi.memmap = PhysRange::from_len(memmap, u64::from(u32_at(info, 20))).ok();
}

/// sysfs shows types and payloads of the chain, but of its addresses only the pointer to the first (in `boot_params`).
fn setup_data(head: u64, inputs: &Inputs, machine: &mut Machine) {
    if head == 0 {
        machine.setup_data.clear();
        return;
    }
    let nodes: Vec<(&str, &[u8])> =
        inputs.setup_data.contents().filter(|(path, _)| path.ends_with("/data")).collect();
    let first = nodes.iter().find(|(path, _)| *path == "0/data" || path.ends_with("/0/data"));
    let payload = first.and_then(|(_, data)| u64::try_from(data.len()).ok());
    let size = payload.map_or(SETUP_DATA_HEADER, |len| SETUP_DATA_HEADER + len);
    match PhysRange::from_len(head, size) {
        Ok(range) if !machine.setup_data.iter().any(|r| r.covers(range)) => {
            machine.setup_data.push(range);
        }
        Ok(_) => {}
        Err(error) => return note(machine, true, &format!("boot_params.setup_data: {error}")),
    }
    if payload.is_none() || machine.setup_data.len() < nodes.len() {
        let known = machine.setup_data.len();
        let text = format!(
            "the setup_data chain has {} entries, of which {known} have a known place: the kernel does not show the others'",
            nodes.len().max(known)
        );
        note(machine, payload.is_none(), &text);
    }
}

/// `/sys/firmware/efi`: its addresses are for root only.
pub(super) fn efi(inputs: &Inputs, machine: &mut Machine) {
    if let Some(exists) = inputs.efi_exists {
        // efisubsys_init() in drivers/firmware/efi/efi.c makes the directory if efi_enabled(EFI_BOOT).
        machine.efi.booted = Some(exists);
        if !exists {
            return;
        }
    }
    for (file, content, lost) in [
        (
            "config_table",
            &inputs.efi_config_table,
            "where the EFI configuration table lies is not known",
        ),
        ("systab", &inputs.efi_systab, "where ACPI's and SMBIOS's roots lie is not known"),
    ] {
        if let Content::Unreadable(why) = content {
            let text = format!(
                "/sys/firmware/efi/{file} cannot be read ({why}): {lost}; root can read it"
            );
            note(machine, file == "config_table", &text);
        }
    }
    let mut bad = Vec::new();
    let mut read = |name: &str, content: &Content| {
        let text = content.text()?;
        let parsed = hex(&text);
        if parsed.is_none() {
            bad.push(format!("/sys/firmware/efi/{name} holds no address: {:.40}", text.trim()));
        }
        parsed
    };
    if let Some(address) = read("config_table", &inputs.efi_config_table) {
        let entries = machine.efi.config_table.and_then(|t| t.entries);
        machine.efi.config_table = Some(ConfigTable { address, entries });
    }
    machine.efi.fw_vendor = read("fw_vendor", &inputs.efi_fw_vendor).or(machine.efi.fw_vendor);
    machine.efi.runtime = read("runtime", &inputs.efi_runtime).or(machine.efi.runtime);
    for text in bad {
        note(machine, true, &text);
    }
    match inputs.efi_fw_platform_size.text().as_deref().map(str::trim) {
        Some("64") => machine.efi.is_64bit = Some(true),
        Some("32") => machine.efi.is_64bit = Some(false),
        _ => {}
    }
    systab(inputs, machine);
    runtime_map(inputs, machine);
}

/// `systab_show()` in `drivers/firmware/efi/efi.c` leaves out the spaces of the names in the log.
fn systab(inputs: &Inputs, machine: &mut Machine) {
    for line in inputs.efi_systab.text().unwrap_or_default().lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = match name.trim() {
            "ACPI20" => "ACPI 2.0",
            "SMBIOS3" => "SMBIOS 3.0",
            other => other,
        };
        let Some(address) = hex(value) else { continue };
        if !machine.efi.tables.iter().any(|t| t.name == name) {
            machine.efi.tables.push(EfiTable { name: name.to_owned(), address });
        }
        if name == "ACPI 2.0" || name == "ACPI" {
            machine.rsdp.get_or_insert(address);
        }
    }
}

fn runtime_map(inputs: &Inputs, machine: &mut Machine) {
    if let Some(why) = inputs.runtime_map.failure() {
        let text =
            format!("/sys/firmware/efi/runtime-map cannot be read ({why}); root can read it");
        return note(machine, false, &text);
    }
    if inputs.runtime_map.files().is_empty() {
        return;
    }
    match parse::runtime_map(inputs.runtime_map.contents()) {
        Ok((map, notes)) => {
            machine.efi.runtime_map = map;
            machine.lost.efi_runtime_map = notes.iter().any(|note| note.unreadable);
            machine.notes.extend(notes);
        }
        Err(error) => note(machine, true, &format!("/sys/firmware/efi/runtime-map: {error}")),
    }
}

fn hex(text: &str) -> Option<PhysAddr> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).ok().and_then(address)
}

/// An address; 0 and what no memory can have are none.
fn address(value: u64) -> Option<PhysAddr> {
    if value == 0 { None } else { PhysAddr::new(value).filter(|a| a.get() < PHYS_LIMIT) }
}

fn wide(data: &[u8], low: usize, high: usize) -> u64 {
    join(u32_at(data, low), u32_at(data, high))
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The callers have checked that `data` reaches that far; 0 beyond.
fn u32_at(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    join(u32_at(data, at), u32_at(data, at + 4))
}

#[cfg(test)]
mod tests {
    use super::super::{Directory, assemble};
    use super::*;
    use crate::model::MemType;

    fn zero_page() -> Vec<u8> {
        let mut page = vec![0u8; 4096];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(RSDP, &0x7f77_e014_u64.to_le_bytes());
        put(EFI_INFO, b"EL64");
        put(EFI_INFO + 4, &0x7f5e_e018_u32.to_le_bytes());
        put(EFI_INFO + 16, &0x7e00_0000_u32.to_le_bytes());
        put(EFI_INFO + 20, &0x1800_u32.to_le_bytes());
        put(EFI_INFO + 24, &1_u32.to_le_bytes());
        put(E820_ENTRIES, &[2]);
        put(E820_TABLE, &0_u64.to_le_bytes());
        put(E820_TABLE + 8, &0xa_0000_u64.to_le_bytes());
        put(E820_TABLE + 16, &1_u32.to_le_bytes());
        put(E820_TABLE + 20, &0x1000_0000_u64.to_le_bytes());
        put(E820_TABLE + 28, &u64::MAX.to_le_bytes());
        put(E820_TABLE + 36, &2_u32.to_le_bytes());
        put(RAMDISK_IMAGE, &0x3000_0000_u32.to_le_bytes());
        put(RAMDISK_SIZE, &0x10_0000_u32.to_le_bytes());
        put(SETUP_DATA, &0x7d00_0018_u64.to_le_bytes());
        page
    }

    #[test]
    fn boot_params_give_places_and_the_map() {
        let file = |path: &str, bytes: &[u8]| (path.to_owned(), Content::Bytes(bytes.to_vec()));
        let mut extended = vec![0u8; E820_ENTRY];
        extended[..8].copy_from_slice(&0x1_0000_0000_u64.to_le_bytes());
        extended[8..16].copy_from_slice(&0x1000_u64.to_le_bytes());
        extended[16] = 1;
        let inputs = Inputs {
            boot_params: Content::Bytes(zero_page()),
            setup_data: Directory::Files(vec![
                file("0/type", b"0x3\n"),
                file("0/data", &[0; 0x100]),
                file("1/type", b"0x1\n"),
                file("1/data", &extended),
            ]),
            ..Inputs::default()
        };
        let machine = assemble(&inputs);
        let map = &machine.maps[0];
        assert_eq!(map.origin, MapOrigin::BootParams);
        assert_eq!(map.entries.len(), 3);
        assert_eq!((map.entries[0].last, map.entries[0].kind), (0x9_ffff, MemType::Usable));
        assert!(map.entries[1].last < map.entries[1].start, "a wrapped size stays visible");
        assert_eq!(map.entries[2].start, 0x1_0000_0000);
        assert_eq!(machine.efi.system_table, PhysAddr::new(0x1_7f5e_e018));
        assert_eq!(machine.efi.memmap, PhysRange::from_len(0x7e00_0000, 0x1800).ok());
        assert_eq!(machine.rsdp, PhysAddr::new(0x7f77_e014));
        assert_eq!(machine.setup_data, [PhysRange::from_len(0x7d00_0018, 0x110).expect("range")]);
        assert_eq!(machine.ramdisk, PhysRange::from_len(0x3000_0000, 0x10_0000).ok());
        assert!(machine.notes.iter().any(|n| n.text.contains("2 entries, of which 1")));
    }

    #[test]
    fn any_cut_or_noise_in_boot_params_is_survived() {
        let page = zero_page();
        for len in (0..page.len()).step_by(7) {
            let boot_params = Content::Bytes(page[..len].to_vec());
            let _ = assemble(&Inputs { boot_params, ..Inputs::default() });
        }
        for fill in [0xff, 0x80, 0x7f, 0x01] {
            let boot_params = Content::Bytes(vec![fill; 4096]);
            let _ = assemble(&Inputs { boot_params, ..Inputs::default() });
        }
    }

    #[test]
    fn a_normal_user_is_told_what_root_would_see() {
        let denied = || Content::Unreadable("Permission denied".to_owned());
        let inputs = Inputs {
            efi_exists: Some(true),
            efi_config_table: denied(),
            efi_systab: denied(),
            boot_params: denied(),
            dmesg: denied(),
            iomem: Content::Bytes(
                b"00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n".to_vec(),
            ),
            firmware_memmap: Directory::Unreadable("Permission denied".to_owned()),
            ..Inputs::default()
        };
        let machine = assemble(&inputs);
        assert_eq!(machine.efi.booted, Some(true));
        assert_eq!(machine.efi.config_table, None);
        let lost: Vec<&str> =
            machine.notes.iter().filter(|n| n.unreadable).map(|n| n.text.as_str()).collect();
        for what in ["config_table", "boot_params", "iomem", "memmap"] {
            assert!(
                lost.iter().any(|n| n.contains(what) && n.contains("root")),
                "{what}: {lost:?}"
            );
        }
    }

    #[test]
    fn root_sees_the_addresses() {
        let content = |text: &str| Content::Bytes(text.as_bytes().to_vec());
        let inputs = Inputs {
            efi_exists: Some(true),
            efi_config_table: content("0x7f9ee018\n"),
            efi_runtime: content("0x7fbeeb98\n"),
            efi_fw_platform_size: content("64\n"),
            efi_systab: content("ACPI20=0x7f77e014\nACPI=0x7f77e000\nSMBIOS3=0x7f5cb000\n"),
            ..Inputs::default()
        };
        let efi = assemble(&inputs).efi;
        let address = PhysAddr::new(0x7f9e_e018).expect("address");
        assert_eq!(efi.config_table, Some(ConfigTable { address, entries: None }));
        assert_eq!(efi.is_64bit, Some(true));
        let names: Vec<&str> = efi.tables.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["ACPI 2.0", "ACPI", "SMBIOS 3.0"]);
    }
}
