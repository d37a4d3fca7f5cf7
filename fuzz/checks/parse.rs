//! What people paste, damaged in any way: an error that can be shown, or a machine with which all
//! that follows works.

use identmap_machine::live::{self, Content, CpuidLeaf, Directory, Inputs};
use identmap_machine::parse::{self, MAX_ENTRIES, MAX_NOTES, ParseError};
use identmap_machine::{
    Layout, Machine, diff, diff_maps, hazards, lint, parse_address, parse_number, parse_range,
    undecided,
};

/// Any text.
pub fn any(bytes: &[u8]) {
    match parse::machine("input", bytes) {
        Ok(machine) => check_machine(&machine),
        Err(error) => check_error(&error),
    }
}

/// Lines of a boot log.
pub fn dmesg(bytes: &[u8]) {
    let mut text =
        b"[    0.000000] Linux version 6.1.0\n[    0.000000] BIOS-provided physical RAM map:\n\
        [    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n"
            .to_vec();
    text.extend_from_slice(bytes);
    any(&text);
}

/// Lines of `/proc/iomem`.
pub fn iomem(bytes: &[u8]) {
    let mut text = b"00000000-00000fff : Reserved\n00001000-0009efff : System RAM\n".to_vec();
    text.extend_from_slice(bytes);
    any(&text);
}

/// Lines of `kexec -d`.
pub fn kexec(bytes: &[u8]) {
    let mut text = b"MEMORY RANGES\n0000000000000000-000000000009ffff (0)\n".to_vec();
    text.extend_from_slice(bytes);
    any(&text);
}

/// Lines of an EFI memory map in a boot log (`efi=debug`).
pub fn efi(bytes: &[u8]) {
    let mut text = b"efi: EFI v2.70 by EDK II\n\
        efi: mem00: [Conventional|   |  |  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000000000-0x000000000009ffff] (0MB)\n"
        .to_vec();
    text.extend_from_slice(bytes);
    any(&text);
}

/// The files of `/sys/firmware/memmap` and of the EFI runtime map: lines `PATH CONTENTS`.
pub fn sysfs(bytes: &[u8]) {
    let files = || {
        bytes.split(|&byte| byte == b'\n').filter_map(|line| {
            let space = line.iter().position(|&byte| byte == b' ')?;
            Some((std::str::from_utf8(&line[..space]).ok()?, &line[space + 1..]))
        })
    };
    match parse::firmware_memmap(files()) {
        Ok((map, notes)) => {
            assert!(map.entries.len() <= MAX_ENTRIES && notes.len() <= MAX_NOTES + 1);
        }
        Err(error) => check_error(&error),
    }
    if let Err(error) = parse::runtime_map(files()) {
        check_error(&error);
    }
}

/// `/sys/kernel/boot_params/data`, alone.
pub fn boot_params(bytes: &[u8]) {
    let inputs = Inputs { boot_params: Content::Bytes(bytes.to_vec()), ..Inputs::default() };
    check_machine(&live::assemble(&inputs));
}

/// Everything a running machine tells: files one behind the other, each after its number and its
/// length in two bytes.
pub fn live(bytes: &[u8]) {
    let mut inputs = Inputs::default();
    let mut rest = bytes;
    while let [kind, low, high, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (content, next) = tail.split_at(len);
        rest = next;
        put(&mut inputs, *kind, content);
    }
    check_machine(&live::assemble(&inputs));
}

fn put(inputs: &mut Inputs, kind: u8, content: &[u8]) {
    let bytes = match kind >> 6 {
        0 | 1 => Content::Bytes(content.to_vec()),
        2 => Content::Unreadable(String::from_utf8_lossy(content).into_owned()),
        _ => Content::Absent,
    };
    let file = |directory: &mut Directory, name: &str| {
        let entry = (name.to_owned(), bytes.clone());
        match directory {
            Directory::Files(files) => files.push(entry),
            other => *other = Directory::Files(vec![entry]),
        }
    };
    match kind & 0x3f {
        0 => inputs.dmesg = bytes,
        1 => inputs.iomem = bytes,
        2 => inputs.cmdline = bytes,
        3 => inputs.cpuinfo = bytes,
        4 => inputs.meminfo = bytes,
        5 => inputs.version = bytes,
        6 => inputs.osrelease = bytes,
        7 => inputs.efi_systab = bytes,
        8 => inputs.efi_config_table = bytes,
        9 => inputs.efi_fw_vendor = bytes,
        10 => inputs.efi_runtime = bytes,
        11 => inputs.efi_fw_platform_size = bytes,
        12 => inputs.boot_params = bytes,
        13 => inputs.acpi_madt = bytes,
        14 => inputs.kexec_loaded = bytes,
        15 => inputs.kexec_crash_loaded = bytes,
        16 => inputs.efi_exists = Some(content.len().is_multiple_of(2)),
        17 => file(&mut inputs.firmware_memmap, "0/start"),
        18 => file(&mut inputs.firmware_memmap, "0/end"),
        19 => file(&mut inputs.firmware_memmap, "0/type"),
        20 => file(&mut inputs.runtime_map, "0/phys_addr"),
        21 => file(&mut inputs.runtime_map, "0/num_pages"),
        22 => file(&mut inputs.runtime_map, "0/type"),
        23 => file(&mut inputs.setup_data, "0/type"),
        24 => file(&mut inputs.setup_data, "0/data"),
        25 => file(&mut inputs.dmi, "sys_vendor"),
        26 => file(&mut inputs.dmi, "product_name"),
        27 => file(&mut inputs.sgi_uv, "archtype"),
        28 => file(&mut inputs.sgi_uv, "uv_type"),
        29 => file(&mut inputs.sgi_uv, "hubless"),
        30 => file(&mut inputs.proc_sgi_uv, "archtype"),
        31 => file(&mut inputs.proc_sgi_uv, "hubbed"),
        _ => inputs.cpuid.extend(content.chunks_exact(24).map(|chunk| {
            let word =
                |i: usize| u32::from_le_bytes([chunk[i], chunk[i + 1], chunk[i + 2], chunk[i + 3]]);
            CpuidLeaf {
                leaf: word(0),
                subleaf: word(4),
                eax: word(8),
                ebx: word(12),
                ecx: word(16),
                edx: word(20),
            }
        })),
    }
}

/// A range, an address or a number, as the command line takes them.
pub fn range_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(range) = parse_range(text) {
        assert_eq!(parse_range(&range.to_string()).ok(), Some(range), "printed and read again");
    }
    if let Ok(addr) = parse_address(text) {
        assert_eq!(parse_address(&addr.to_string()).ok(), Some(addr));
    }
    if let Ok(number) = parse_number(text) {
        assert_eq!(parse_number(&format!("{number:#x}")).ok(), Some(number));
    }
}

/// An error is of a size to be read, and no terminal obeys it.
fn check_error(error: &ParseError) {
    let shown = error.to_string();
    assert!(shown.len() < 4096, "{} bytes", shown.len());
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
}

/// What follows a parser takes what it made.
fn check_machine(machine: &Machine) {
    assert!(machine.maps.iter().all(|map| map.entries.len() <= MAX_ENTRIES));
    let layouts = Layout::of(machine).into_iter().chain(Layout::of_firmware(machine));
    for layout in layouts {
        for pair in layout.regions().windows(2) {
            assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
        }
        for region in layout.regions() {
            assert_eq!(layout.at(region.range.start()), Some(*region));
        }
        for gap in layout.gaps() {
            assert!(!layout.regions().iter().any(|region| region.range.intersects(gap)));
        }
    }
    for finding in lint(machine) {
        let _ = format!("{finding:?}");
    }
    let _ = (hazards(machine), undecided(machine), diff_maps(machine));
    assert!(diff(machine, machine).is_same());
}
