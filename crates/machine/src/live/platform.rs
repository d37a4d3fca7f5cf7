//! Hardware names, UV, and whether an image is loaded.

use super::{Content, Directory, Inputs, note};
use crate::model::{Machine, MpWakeup, Uv};
use crate::parse;

/// `/sys/class/dmi/id`, put together as the kernel's `DMI:` line is.
pub(super) fn hardware(inputs: &Inputs, machine: &mut Machine) {
    let get =
        |name: &str| inputs.dmi.file(name).and_then(Content::text).map(|t| t.trim().to_owned());
    let (vendor, product) = (get("sys_vendor"), get("product_name"));
    if vendor.is_some() || product.is_some() {
        let board = get("board_name").filter(|b| !b.is_empty()).map(|b| format!("/{b}"));
        let name = format!(
            "{} {}{}",
            vendor.unwrap_or_default(),
            product.unwrap_or_default(),
            board.unwrap_or_default()
        );
        machine.hardware = Some(name.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(version) = get("bios_version") {
        let date = get("bios_date").map(|d| format!(" {d}")).unwrap_or_default();
        machine.firmware = Some(format!("BIOS {version}{date}"));
    }
}

/// What `is_uv_system()` of the running kernel says.
///
/// `/proc/sgi_uv` is made by `uv_setup_proc_files()` in `arch/x86/kernel/apic/x2apic_uv_x.c` (in 5.10 and every
/// later version looked at) on every UV system, so its absence is an answer from 5.10 on; before that, the
/// MADT's OEM ID is.
pub(super) fn uv(inputs: &Inputs, machine: &mut Machine) {
    let archtype = [&inputs.sgi_uv, &inputs.proc_sgi_uv]
        .into_iter()
        .find_map(|d| d.file("archtype").and_then(Content::text));
    let has =
        |name: &str| inputs.sgi_uv.file(name).is_some() || inputs.proc_sgi_uv.file(name).is_some();
    let by_archtype = archtype.and_then(|a| match a.trim() {
        a if a.starts_with("NSGI") => Some(Uv::Hubless),
        a if a.starts_with("SGI") => Some(Uv::Hubbed),
        _ => None,
    });
    let by_file = if has("hubbed") || has("hub_type") {
        Some(Uv::Hubbed)
    } else {
        has("hubless").then_some(Uv::Hubless)
    };
    if let Some(uv) = by_archtype.or(by_file) {
        machine.uv = Some(uv);
        return;
    }
    // Bytes 10 to 15 of any ACPI table: ACPI 6.5, table 5.4.
    let oem = inputs.acpi_madt.bytes().and_then(|b| b.get(10..16));
    let oem = oem.map(|id| String::from_utf8_lossy(id).trim_end_matches(['\0', ' ']).to_owned());
    let maker =
        format!("{} {}", machine.hardware.as_deref().unwrap_or(""), oem.as_deref().unwrap_or(""));
    let maybe_uv = ["SGI", "Superdome", "UV"].iter().any(|w| maker.contains(w));
    if maybe_uv {
        let text = format!(
            "this may be a UV system ({}), but /sys/firmware/sgi_uv does not say",
            maker.trim()
        );
        if machine.uv.is_none() {
            note(machine, true, &text);
        }
        return;
    }
    if inputs.proc_sgi_uv == Directory::Absent && at_least_5_10(machine.kernel.as_deref()) {
        machine.uv = Some(Uv::No);
    } else if machine.uv.is_none()
        && let Some(oem) = oem
    {
        machine.uv = parse::uv_by_firmware(machine, &oem);
    }
}

/// The type of a multiprocessor wakeup structure.
pub(crate) const MULTIPROCESSOR_WAKEUP: u8 = 0x10;

/// The multiprocessor wakeup structure of the MADT, if it has one: ACPI 6.5, 5.2.12.19, at byte 44 and after.
/// What is read is the running kernel's copy, in which it may have set the mailbox's address to 0.
pub(super) fn mp_wakeup(inputs: &Inputs, machine: &mut Machine) {
    machine.mp_wakeup = inputs.acpi_madt.bytes().and_then(mp_wakeup_in);
}

/// The same of a MADT.
pub(crate) fn mp_wakeup_in(madt: &[u8]) -> Option<MpWakeup> {
    const HEADER: usize = 44;
    let mut found = None;
    let mut rest = madt.get(HEADER..);
    while let Some([kind, len, ..]) = rest {
        let len = usize::from(*len);
        let Some(entry) = rest.and_then(|rest| rest.get(..len)).filter(|_| len >= 2) else {
            break;
        };
        if *kind == MULTIPROCESSOR_WAKEUP
            && let (Some(version), Some(mailbox)) = (entry.get(2..4), entry.get(8..16))
        {
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
            let version = u16::try_from(number(version)).unwrap_or(0);
            found = Some(MpWakeup { version, mailbox: number(mailbox) });
        }
        rest = rest.and_then(|rest| rest.get(len..));
    }
    found
}

fn at_least_5_10(release: Option<&str>) -> bool {
    let mut numbers = release
        .unwrap_or("")
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 10)
}

/// `/sys/kernel/kexec_loaded`, `kexec_crash_loaded`: `0` or `1`.
pub(super) fn kexec(inputs: &Inputs, machine: &mut Machine) {
    let flag = |content: &Content| match content.text().as_deref().map(str::trim) {
        Some("0") => Some(false),
        Some("1") => Some(true),
        _ => None,
    };
    machine.kexec_loaded = flag(&inputs.kexec_loaded);
    machine.kexec_crash_loaded = flag(&inputs.kexec_crash_loaded);
}

#[cfg(test)]
mod tests {
    use super::super::assemble;
    use super::*;

    fn files(list: &[(&str, &str)]) -> Directory {
        let file = |&(path, text): &(&str, &str)| {
            (path.to_owned(), Content::Bytes(text.as_bytes().to_vec()))
        };
        Directory::Files(list.iter().map(file).collect())
    }

    fn madt(oem: &str) -> Content {
        let mut table = b"APIC\x54\x01\x00\x00\x05\x00".to_vec();
        table.extend_from_slice(oem.as_bytes());
        table.resize(36, b' ');
        Content::Bytes(table)
    }

    #[test]
    fn uv_is_told_from_hubless_and_from_none() {
        let uv = |inputs: Inputs| assemble(&inputs).uv;
        let with = |dir: Directory| Inputs { sgi_uv: dir, ..Inputs::default() };
        assert_eq!(
            uv(with(files(&[("archtype", "SGI4/UVX\n"), ("hub_type", "0x8\n")]))),
            Some(Uv::Hubbed)
        );
        assert_eq!(
            uv(with(files(&[("archtype", "NSGI4/UVX\n"), ("hubless", "0x11\n")]))),
            Some(Uv::Hubless)
        );
        let none = |release: &str, oem: &str| Inputs {
            proc_sgi_uv: Directory::Absent,
            osrelease: Content::Bytes(release.as_bytes().to_vec()),
            acpi_madt: madt(oem),
            ..Inputs::default()
        };
        assert_eq!(uv(none("6.1.0-18-amd64", "ALASKA")), Some(Uv::No));
        assert_eq!(
            uv(none("6.1.0-18-amd64", "SGI4  ")),
            None,
            "UV hardware under a kernel that cannot tell"
        );
        assert_eq!(uv(none("4.19.0", "ALASKA")), None, "UV5 names itself elsewhere");
        assert_eq!(uv(Inputs::default()), None);
    }

    #[test]
    fn processors_that_firmware_starts() {
        let wakeup = |entries: &[&[u8]]| {
            let mut table = vec![0; 44];
            table.extend(entries.concat());
            let acpi_madt = Content::Bytes(table);
            assemble(&Inputs { acpi_madt, ..Inputs::default() }).mp_wakeup
        };
        let apic: &[u8] = &[0, 8, 0, 0, 1, 0, 0, 0];
        let one = |version: u8, mailbox: u8| {
            [&[0x10, 24, version, 0, 0, 0, 0, 0, 0, mailbox, 0, 0, 0, 0, 0, 0][..], &[0; 8]]
                .concat()
        };
        let expected = Some(MpWakeup { version: 1, mailbox: 0x7000 });
        assert_eq!(wakeup(&[apic, &one(1, 0x70)]), expected);
        assert_eq!(wakeup(&[&one(0, 0), apic]), Some(MpWakeup { version: 0, mailbox: 0 }));
        assert_eq!(wakeup(&[apic]), None);
        // An entry of length 0 would be an endless list; one that is cut is none.
        assert_eq!(wakeup(&[&[0, 0], &one(1, 0x70)]), None);
        assert_eq!(wakeup(&[&one(1, 0x70)[..12]]), None);
    }

    #[test]
    fn dmi_reads_as_the_kernel_prints_it() {
        let inputs = Inputs {
            dmi: files(&[
                ("/sys/class/dmi/id/sys_vendor", "Dell Inc.\n"),
                ("/sys/class/dmi/id/product_name", "PowerEdge R6615\n"),
                ("/sys/class/dmi/id/board_name", "0XXXXX\n"),
                ("/sys/class/dmi/id/bios_version", "1.8.3\n"),
                ("/sys/class/dmi/id/bios_date", "04/02/2024\n"),
            ]),
            kexec_loaded: Content::Bytes(b"1\n".to_vec()),
            kexec_crash_loaded: Content::Unreadable("no".to_owned()),
            ..Inputs::default()
        };
        let machine = assemble(&inputs);
        assert_eq!(machine.hardware.as_deref(), Some("Dell Inc. PowerEdge R6615/0XXXXX"));
        assert_eq!(machine.firmware.as_deref(), Some("BIOS 1.8.3 04/02/2024"));
        assert_eq!((machine.kexec_loaded, machine.kexec_crash_loaded), (Some(true), None));
    }
}
