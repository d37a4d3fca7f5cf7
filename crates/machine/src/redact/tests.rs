//! What must not be in a bundle, in every place where it may be found.

use super::*;
use crate::bundle::{Extra, Facts, Image, Tables};
use crate::live::assemble;

const UUID: &str = "0a3407de-014b-458b-b5c1-848e92a327a3";
const MAC: &str = "52:54:00:ab:cd:ef";
const SERIAL: &str = "CZJ1234XYZ";

/// Nothing of this may be left.
const SECRETS: [&str; 14] = [
    UUID,
    "0A3407DE",
    MAC,
    "52:54",
    SERIAL,
    "alice",
    "192.168.7.9",
    "fe80",
    "hunter2",
    "example.org",
    "b91b0c8a1",
    "0123456789abcdef0123456789abcdef",
    "DISKSIGN",
    "RNGSEED",
];

fn text(text: &str) -> Content {
    Content::Bytes(text.as_bytes().to_vec())
}

fn files(list: &[(&str, &str)]) -> Directory {
    Directory::Files(list.iter().map(|(path, value)| ((*path).to_owned(), text(value))).collect())
}

fn dmesg() -> String {
    let known = format!(
        "[    0.000000] Linux version 6.1.0-18-amd64 (alice@alice-box.example.org) (gcc-12 (Debian 12.2.0-14) 12.2.0) #1 SMP Debian 6.1.76-1 (2024-02-01)\n\
         [    0.000000] Command line: BOOT_IMAGE=/boot/vmlinuz root=UUID={UUID} ro nogbpages ip=192.168.7.9 pass=hunter2\n\
         [    0.000000] BIOS-provided physical RAM map:\n\
         [    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable alice {MAC}\n\
         [    0.000000] BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff] usable\n\
         [    0.000000] efi: EFI v2.7 by EDK II\n\
         [    0.000000] efi: ACPI=0xbfb7e000 ACPI 2.0=0xbfb7e014 SMBIOS=0xbf9cc000\n\
         [    0.000000] DMI: Example Ltd. alice-box/{SERIAL}, BIOS 1.2.3.4 01/01/2024\n\
         [    0.000000] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n\
         [    0.010000] DMAR: [DMA Read] Request device [00:02.0] {MAC} alice\n\
         [    0.010000] alice: max_arch_pfn = 0x400000000\n\
         [    0.020000] alice-box kvm: Memory Encryption Features active: SME\n\
         [    0.020000] alice RMP table physical range [0x0000000030000000 - 0x00000000300fffff]\n\
         [    5.000000] alice-box ccp 0000:22:00.1: SEV-SNP API:1.55 build:32\n\
         [   99.000000] Memory failure: 0x12345: Sending SIGBUS to hunter2-work:4242 due to hardware memory corruption\n\
         [    0.010000] ACPI: APIC 0x00000000BFB7A000 000078 (v01 BOCHS  BXPC     00000001 BXPC 00000001)\n"
    );
    let unknown = format!(
        "[    1.000000] e1000 0000:00:03.0 eth0: (PCI:33MHz:32-bit) {MAC}\n\
         [    1.000000] usb 1-1: SerialNumber: {SERIAL}\n\
         [    1.000000] EXT4-fs (sda1): mounted filesystem {UUID}\n\
         [    1.000000] systemd[1]: Hostname set to <alice-box>.\n\
         [    1.000000] IPv6: fe80::5054:ff:feab:cdef {UUID}\n\
         Mar 01 10:00:00 alice-box kernel: nvme eui.0025388b91b0c8a1 0123456789abcdef0123456789abcdef\n"
    );
    // Known lines as a syslog has them, too.
    let syslog =
        known.replace("[    0.000000] efi", "Mar 01 10:00:00 alice-box kernel: [    0.000000] efi");
    format!("{unknown}{syslog}{unknown}")
}

fn zero_page() -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    for (at, bytes) in [
        (0x000, b"SCREEN".as_slice()),
        (0x1c0, b"EL64"),
        (0x1c4, &[0x18, 0xe0, 0x5e, 0x7f]),
        (0x1e8, &[1]),
        (0x202, b"HdrS"),
        (0x290, b"DISKSIGN"),
        (0x2d8, &[0, 0, 0x0a]),
        (0x2e0, &[1]),
        (0xd00, b"DISKSIGN"),
        (0xff0, b"alice"),
    ] {
        page[at..at + bytes.len()].copy_from_slice(bytes);
    }
    page
}

fn inputs() -> Inputs {
    Inputs {
        source: "live".to_owned(),
        dmesg: text(&dmesg()),
        iomem: text(
            "00000000-0009ffff : System RAM\n00100000-bfffffff : System RAM\n  01000000-01ffffff : Kernel code\n\
             c0000000-c0ffffff : PCI Bus 0000:00\n  c0000000-c000ffff : 0000:00:03.0\n    c0000000-c000ffff : alice-nic\n\
             fe000000-fe0fffff : Graphics Stolen Memory\n",
        ),
        cmdline: text(&format!(
            "BOOT_IMAGE=/x root=UUID={UUID} ro nogbpages ip=192.168.7.9 pass=hunter2 -- alice\n"
        )),
        cpuinfo: text(&format!(
            "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Example CPU\napicid\t\t: 7\nserial\t: {SERIAL}\n\
             flags\t\t: fpu pdpe1gb hypervisor\naddress sizes\t: 46 bits physical, 48 bits virtual\n\nprocessor\t: 1\nvendor_id\t: alice\n"
        )),
        meminfo: text(
            "MemTotal:  1000 kB\nMemFree:  123 kB\nDirectMap4k:  77 kB\nDirectMap2M:  88 kB\n",
        ),
        version: text(
            "Linux version 6.1.0-18-amd64 (alice@192.168.7.9) (gcc-12) #1 SMP Debian 6.1.76-1 (2024-02-01)\n",
        ),
        osrelease: text("6.1.0-18-amd64\n"),
        firmware_memmap: files(&[
            ("/sys/firmware/memmap/0/end", "0x9ffff\n"),
            ("/sys/firmware/memmap/0/start", "0x0\n"),
            ("/sys/firmware/memmap/0/type", "System RAM\n"),
            ("/sys/firmware/memmap/0/owner", "alice\n"),
        ]),
        efi_exists: Some(true),
        efi_systab: text("ACPI20=0x7f77e014\nSMBIOS3=0x7f5cb000\n"),
        efi_config_table: text("0x7f9ee018\n"),
        efi_fw_vendor: Content::Unreadable(format!("open /home/alice/x: {UUID}")),
        runtime_map: files(&[
            ("0/attribute", "0x800000000000000f\n"),
            ("0/num_pages", "0x100\n"),
            ("0/phys_addr", "0x7a317000\n"),
            ("0/type", "0x5\n"),
            ("0/virt_addr", "0xfffffffefe200000\n"),
        ]),
        boot_params: Content::Bytes(zero_page()),
        setup_data: files(&[
            ("0/type", "0x9\n"),
            ("0/data", "RNGSEED RNGSEED RNGSEED RNGSEED"),
            ("1/type", "0x4\n"),
            ("1/data", "\u{1}\u{2}\u{3}\u{4}"),
        ]),
        dmi: files(&[
            ("/sys/class/dmi/id/sys_vendor", "Example Ltd.\n"),
            ("/sys/class/dmi/id/product_name", "Box 4.3.2.1\n"),
            ("/sys/class/dmi/id/product_serial", SERIAL),
            ("/sys/class/dmi/id/product_uuid", UUID),
            ("/sys/class/dmi/id/board_asset_tag", "alice"),
            ("/sys/class/dmi/id/chassis_serial", SERIAL),
            ("/sys/class/dmi/id/modalias", "dmi:snalice"),
            ("/sys/class/dmi/id/bios_version", "1.2.3.4\n"),
        ]),
        sgi_uv: files(&[("coherence_id", "0x77alice"), ("archtype", "SGI4/UVX\n")]),
        acpi_madt: Content::Bytes(
            [
                b"APIC\x54\x00\x00\x00\x05\x00SGI4  ".as_slice(),
                &[b' '; 20],
                // The local APIC's address and flags, a processor, the mailbox that starts processors, another.
                &[0x11; 8],
                b"\x00\x08alice0",
                b"\x10\x10\x01\0\0\0\0\0\0\0\0\x7f\0\0\0\0",
                b"\x00\x08alice1",
            ]
            .concat(),
        ),
        kexec_loaded: text("0\n"),
        cpuid: vec![
            CpuidLeaf { leaf: 1, subleaf: 0, eax: 1, ebx: 0x0700_0800, ecx: 1 << 31, edx: 3 },
            CpuidLeaf { leaf: 3, subleaf: 0, eax: 0, ebx: 0, ecx: 0x1234, edx: 0x5678 },
        ],
        ..Inputs::default()
    }
}

fn captured() -> (Bundle, Bundle) {
    let raw = Bundle {
        tables: vec![Tables {
            image: Image::Kexec,
            state: TablesState::NotRead(format!("/home/alice/x: {UUID}")),
        }],
        extra: Extra { lockdown: text("[none] integrity confidentiality\n"), ..Extra::default() },
        ..Bundle::new(Facts::Live(Box::new(inputs())))
    };
    let names = Names::new(["alice-box.example.org", "alice-box", "alice", SERIAL, MAC]);
    let redacted = redact(&raw, &names);
    (raw, redacted)
}

fn live_of(bundle: &Bundle) -> &Inputs {
    match &bundle.facts {
        Facts::Live(inputs) => inputs,
        Facts::Text(_) => panic!("live"),
    }
}

#[test]
fn no_secret_is_left_anywhere() {
    let (raw, redacted) = captured();
    // In full they are there: the test would see them.
    let full = format!("{:?}", raw.facts).to_ascii_lowercase();
    let debug = |bytes: &str| format!("{:?}", bytes.as_bytes()).trim_matches(['[', ']']).to_owned();
    let holds = |all: &str, secret: &str| {
        let bytes = debug(secret);
        all.contains(&secret.to_ascii_lowercase()) || all.contains(&bytes)
    };
    let left = format!("{:?} {:?}", redacted.facts, redacted.extra).to_ascii_lowercase();
    let file = redacted.write().expect("small").to_ascii_lowercase();
    for secret in SECRETS {
        assert!(holds(&full, secret), "{secret} is in what is redacted");
        assert!(!holds(&left, secret), "{secret}");
        assert!(!file.contains(&secret.to_ascii_lowercase()), "{secret}");
    }
    assert!(!file.contains("virt_addr") && !file.contains("7 kb") && !file.contains("apicid"));
}

#[test]
fn the_machine_stays_what_it_was() {
    let (raw, redacted) = captured();
    let (mut before, mut after) = (assemble(live_of(&raw)), assemble(live_of(&redacted)));
    assert_eq!(before.kernel.as_deref(), Some("6.1.0-18-amd64"));
    assert_eq!(
        after.kernel_banner.as_deref(),
        Some("([redacted]) (gcc-12) #1 SMP Debian 6.1.76-1 (2024-02-01)")
    );
    assert_eq!(
        after.cmdline.as_deref(),
        Some(
            "BOOT_IMAGE=[redacted] root=[redacted] ro nogbpages ip=[redacted] pass=[redacted] -- [redacted]"
        )
    );
    assert_eq!(before.hardware.as_deref(), Some("Example Ltd. Box 4.3.2.1"));
    assert_eq!((before.nogbpages, before.maps.len()), (Some(true), 3));
    let facts = (before.poisoned.len(), before.cpu.snp_api, before.rmp.is_some());
    assert_eq!(facts, (1, Some((1, 55)), true));
    assert_eq!((before.cpu.la57_active, before.cpu.sme_active), (Some(false), Some(true)));
    let mailbox = before.mp_wakeup.map(|wakeup| (wakeup.version, wakeup.mailbox));
    assert_eq!(mailbox, Some((1, 0x7f00_0000)));
    for machine in [&mut before, &mut after] {
        machine.cmdline = None;
        machine.kernel_banner = None;
        for entry in &mut machine.iomem {
            entry.name = entry.name.replace("alice-nic", "device");
        }
    }
    assert_eq!(before, after);
}

#[test]
fn what_was_left_out_is_said_and_twice_is_once() {
    let (_, redacted) = captured();
    assert!(redacted.redacted);
    for what in [
        "dmesg",
        "/proc/iomem",
        "command line",
        "cpuinfo",
        "dmi",
        "setup_data",
        "boot_params",
        "CPUID",
        "sgi_uv",
    ] {
        assert!(
            redacted.left_out.iter().any(|line| line.contains(what)),
            "{what}: {:?}",
            redacted.left_out
        );
    }
    assert_eq!(redact(&redacted, &Names::default()), redacted);
    let read = Bundle::read("b", redacted.write().expect("small").as_bytes()).expect("a bundle");
    assert_eq!(redact(&read, &Names::default()).write(), redacted.write());
}

#[test]
fn a_machine_that_tells_nothing_personal_loses_nothing_it_needs() {
    let quiet = Inputs {
        cmdline: text("ro quiet\n"),
        osrelease: text("6.12.1\n"),
        kexec_loaded: text("1\n"),
        ..Inputs::default()
    };
    let bundle = redact(&Bundle::new(Facts::Live(Box::new(quiet.clone()))), &Names::default());
    assert_eq!(bundle.left_out, Vec::<String>::new());
    assert_eq!(assemble(live_of(&bundle)), assemble(&quiet));
}

#[test]
fn a_log_that_cannot_be_read_shows_nothing_and_stays_so() {
    let log = format!(
        "BIOS-e820: [mem 0x0-0x9fbff] usable\nBIOS-e820: [mem alice-{MAC}] usable\nmore {MAC}\n"
    );
    let raw = Bundle::new(Facts::Live(Box::new(Inputs { dmesg: text(&log), ..Inputs::default() })));
    let redacted = redact(&raw, &Names::default());
    let notes = |bundle: &Bundle| assemble(live_of(bundle)).notes;
    assert!(notes(&raw)[0].unreadable && notes(&redacted)[0].unreadable);
    assert!(notes(&redacted)[0].text.contains("dmesg:2:"), "{:?}", notes(&redacted));
    let file = redacted.write().expect("small");
    assert!(!file.contains("alice") && !file.contains(MAC), "{file}");
}

#[test]
fn names_of_resources() {
    for kept in [
        "System RAM",
        "System RAM (kmem)",
        "PCI Bus 0000:00",
        "PCI ECAM 0000 [bus 00-ff]",
        "0000:00:1f.3",
        "PNP0103:00",
        "MSFT0101:00",
        "pnp 00:05",
        "Crash kernel",
        "IOAPIC 0",
        "HPET 0",
        "dmar0",
        "",
    ] {
        assert!(is_known_resource(kept), "{kept}");
    }
    for gone in [
        "alice",
        "nvme",
        "0000:00:1f",
        "PNP0103:00 alice",
        "alice:00",
        "pnp alice",
        "System RAMalice's very long name, longer than names are",
    ] {
        assert!(!is_known_resource(gone), "{gone}");
    }
}
