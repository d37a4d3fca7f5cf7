//! Machines of which something is not known, though nothing that is seen of them is wrong: none of
//! them may be called safe. Each is one change to a machine that is.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the story of 2024 needs to be decided, of a producer that requests the configuration table.
const FACTS: [&str; 4] = ["--sev", "on", "--consumer", "6.12.30"];
/// The same where it has to be mapped by luck, as the laptop of 2024 had it.
const LUCK: [&str; 8] = [
    "--sev",
    "on",
    "--consumer",
    "6.12.30",
    "--system-table",
    "0xcb661018",
    "--config-table",
    "0xc7a01018+360",
];

fn base() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/doubts/base.txt");
    std::fs::read_to_string(path).unwrap()
}

/// The exit status and the report.
fn identmap(command: &str, text: &str, args: &[&str]) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args([&[command, "-"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn check(text: &str, args: &[&str]) -> i32 {
    identmap("check", text, args).0
}

const SAFE: i32 = 0;
const UNKNOWN: i32 = 3;

/// `base` with one text replaced; the text has to be there.
fn with(old: &str, new: &str) -> String {
    let base = base();
    assert!(base.contains(old), "{old}");
    base.replace(old, new)
}

/// `/proc/iomem` of it.
fn iomem() -> String {
    "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n000a0000-000fffff : Reserved\n\
     00100000-c51aefff : System RAM\nc51af000-cb67dfff : Reserved\n\
     cb67e000-cd77dfff : ACPI Non-volatile Storage\ncd77e000-cd7fdfff : ACPI Tables\n\
     cd7fe000-ce7fffff : System RAM\nce800000-cfffffff : Reserved\n\
     fec00000-fec003ff : IOAPIC 0\nfee00000-fee00fff : Local APIC\n\
     100000000-42effffff : System RAM\n"
        .to_owned()
}

/// `base` up to and with the line that holds `end`.
fn up_to(end: &str) -> String {
    let base = base();
    let at = base.find(end).unwrap_or_else(|| panic!("{end}"));
    let line = base[at..].find('\n').unwrap() + 1;
    base[..at + line].to_owned()
}

#[test]
fn the_machine_without_a_doubt_is_safe() {
    assert_eq!(check(&base(), &FACTS), SAFE);
    assert_eq!(check(&base(), &[&LUCK[..], &["--producer", "6.1.100"]].concat()), SAFE, "by luck");
    assert_eq!(check(&base(), &[&LUCK[..], &["--producer", "6.1.80"]].concat()), 1);
}

/// Each: what happened to the text, and the text.
#[test]
fn a_map_that_is_not_whole_is_no_map_to_judge_by() {
    let end_of_map = "0x000000042effffff] usable";
    let last = with("", "").find(end_of_map).unwrap();
    let memory = "[    0.020000] Memory: 15890000K/16598336K available (20480K kernel code)\n";
    for (story, text) in [
        // Was noted as lost, and the verdict was safe all the same.
        ("a paste that ends inside the last line of the map", base()[..last].to_owned()),
        ("a log that ends at a line of the map", up_to("0x00000000cfffffff] reserved")),
        (
            "a serial console lost the line with the RAM above 4 GiB; last_pfn knows of it",
            with(
                "[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000042effffff] usable\n",
                "",
            ),
        ),
        (
            "a serial console lost a line in the middle; the kernel counted more RAM",
            with(
                "[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x00000000c51aefff] usable\n",
                "[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x00000000011aefff] usable\n",
            ) + memory,
        ),
        (
            "a serial console had no time for a line in the middle, and says so",
            with(
                "[    0.000000] BIOS-e820: [mem 0x00000000ce800000-0x00000000cfffffff] reserved\n",
                "** 1 printk messages dropped **\n",
            ),
        ),
        (
            "a line in the middle lost a colon",
            with("BIOS-e820: [mem 0x00000000ce800000", "BIOS-e820 [mem 0x00000000ce800000"),
        ),
        (
            "a line in the middle lost its beginning, behind the time",
            with("BIOS-e820: [mem 0x00000000ce800000-0x", "0x"),
        ),
        (
            "/proc/iomem behind the log, whole but for the colon of one row",
            base() + &iomem().replace("ce800000-cfffffff :", "ce800000-cfffffff"),
        ),
        (
            "a change of the map that cannot be read",
            with(
                "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved",
                "e820: update [mem 0xa0000000-0xffffffff] usable ==>",
            ),
        ),
        (
            "mem= on the command line, and the map that follows from it was filtered away",
            with("ro quiet", "ro mem=2G"),
        ),
        ("the same with memmap=", with("ro quiet", "ro memmap=64M$0xc0000000")),
        (
            "mem= on the command line, and less RAM counted than the map has",
            with("ro quiet", "ro") + &memory.replace("16598336K", "2096764K"),
        ),
        (
            "/proc/iomem behind the log, cut below 4 GiB: it hid the RAM above that",
            base()
                + "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n\
                   000a0000-000fffff : Reserved\n00100000-c51aefff : System RAM\n",
        ),
        (
            "/proc/iomem alone, cut below 4 GiB",
            "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n\
             000a0000-000fffff : Reserved\n00100000-c51aefff : System RAM\n"
                .to_owned(),
        ),
    ] {
        let facts = [&FACTS[..], &["--producer", "6.12.30"]].concat();
        let (status, report) = identmap("check", &text, &facts);
        assert_eq!(status, UNKNOWN, "{story}:\n{report}");
        assert!(report.contains("the memory map"), "{story}:\n{report}");
    }
}

#[test]
fn what_agrees_is_no_doubt() {
    let memory = "[    0.020000] Memory: 15890000K/16598336K available (20480K kernel code)\n";
    assert_eq!(check(&(base() + memory), &FACTS), SAFE);
    assert_eq!(check(&(base() + &iomem()), &FACTS), SAFE);
    // Messages that were dropped when the memory was set up are none of its lines.
    assert_eq!(check(&(base() + "** 9 printk messages dropped **\n"), &FACTS), SAFE);
    let user = with("ro quiet", "ro mem=20G").replace(
        "[    0.000000] efi: EFI v2.7",
        "[    0.000000] user-defined physical RAM map:\n\
         [    0.000000] user: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
         [    0.000000] user: [mem 0x0000000000100000-0x00000000c51aefff] usable\n\
         [    0.000000] user: [mem 0x00000000c51af000-0x00000000cb67dfff] reserved\n\
         [    0.000000] user: [mem 0x00000000cb67e000-0x00000000cd77dfff] ACPI NVS\n\
         [    0.000000] user: [mem 0x00000000cd77e000-0x00000000cd7fdfff] ACPI data\n\
         [    0.000000] user: [mem 0x00000000cd7fe000-0x00000000ce7fffff] usable\n\
         [    0.000000] user: [mem 0x00000000ce800000-0x00000000cfffffff] reserved\n\
         [    0.000000] user: [mem 0x0000000100000000-0x000000042effffff] usable\n\
         [    0.000000] efi: EFI v2.7",
    );
    assert_eq!(check(&user, &FACTS), SAFE);
    // Nothing but the map, by grep: it need not go on.
    let map: String = base()
        .lines()
        .filter(|line| line.contains("e820") || line.contains("Linux version"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let facts = [&LUCK[..], &["--producer", "6.12.30"]].concat();
    assert_eq!(check(&map, &facts), SAFE, "{map}");
}

/// The EFI memory map decides where tables of unknown place may lie. With a part of it lost they may
/// lie elsewhere.
#[test]
fn an_efi_memory_map_with_holes_vouches_for_nothing() {
    let efi = |indices: [u32; 3]| {
        let [a, b, c] = indices;
        base()
            + &format!(
                "[    0.000000] efi: mem{a:02}: [Conventional|   |  |WB] range=[0x0000000000000000-0x00000000c51aefff] (3153MB)\n\
                 [    0.000000] efi: mem{b:02}: [Runtime Data|RUN|  |WB] range=[0x00000000c51af000-0x00000000c51fffff] (0MB)\n\
                 [    0.000000] efi: mem{c:02}: [Conventional|   |  |WB] range=[0x0000000100000000-0x000000042effffff] (13040MB)\n"
            )
    };
    // All of the runtime data is mapped by 2 MiB leaves over RAM: luck, if it is all.
    let facts = [&FACTS[..], &["--producer", "6.1.80"]].concat();
    assert_eq!(check(&efi([0, 1, 2]), &facts), SAFE);
    assert_eq!(check(&efi([0, 1, 7]), &facts), UNKNOWN, "lines 2 to 6 are lost");
    let whole = efi([0, 1, 2]);
    let cut = &whole[..whole.find("[    0.000000] efi: mem02").unwrap()];
    assert_eq!(check(cut, &facts), UNKNOWN, "it ends below the RAM of the e820 map");
}

/// Other sources of a map, and a boot in two parts: what was left out of them in silence was safe.
#[test]
fn what_is_dropped_is_told() {
    const GBPAGES: &str = "Using GB pages for direct mapping\n";
    // A Superdome Flex: RAM that is mapped over the end of a node is forbidden.
    let list: [(u64, u64, bool); 9] = [
        (0, 0x9ffff, true),
        (0xa_0000, 0xf_ffff, false),
        (0x10_0000, 0x7bff_ffff, true),
        (0x7c00_0000, 0x8fff_ffff, false),
        (0x1_0000_0000, 0x2f_7fff_ffff, true),
        (0x2f_8000_0000, 0x30_3fff_ffff, false),
        (0x30_4000_0000, 0x5f_7bff_ffff, true),
        (0x5f_7c00_0000, 0x60_3fff_ffff, false),
        (0xa0_0000_0000, 0xa0_ffff_ffff, false),
    ];
    let ranges = |between: &str| {
        let line = |&(start, last, ram): &(u64, u64, bool)| {
            let before = if start == 0x5f_7c00_0000 { between } else { "" };
            format!("{before}{start:016x}-{last:016x} ({})\n", u8::from(!ram))
        };
        list.iter().fold("MEMORY RANGES\n".to_owned(), |text, entry| text + &line(entry)) + GBPAGES
    };
    let uv = ["--uv", "on", "--consumer", "5.15.100", "--producer", "6.1.50"];
    let (status, whole) = identmap("check", &ranges(""), &uv);
    let (with_a_line, report) = identmap("check", &ranges("[ 1234.5] audit: a line\n"), &uv);
    assert_eq!((status, with_a_line), (1, 1), "{whole}{report}");
    assert!(report.contains("exposure") && report.contains("the memory map"), "{report}");
    let memmap = |skip: &str| -> String {
        let entry = |(n, &(start, last, ram)): (usize, &(u64, u64, bool))| {
            let kind = if ram { "System RAM" } else { "Reserved" };
            let path = format!("/sys/firmware/memmap/{n}");
            format!("{path}/start:{start:#x}\n{path}/end:{last:#x}\n{path}/type:{kind}\n")
        };
        let all: String = list.iter().enumerate().map(entry).collect();
        all.lines()
            .filter(|l| !l.starts_with(skip))
            .flat_map(|l| [l, "\n"])
            .chain([GBPAGES])
            .collect()
    };
    assert_eq!(check(&memmap("-"), &uv), 1);
    assert_eq!(check(&memmap("/sys/firmware/memmap/7/end"), &uv), UNKNOWN);
    assert_eq!(check(&memmap("/sys/firmware/memmap/7/"), &uv), UNKNOWN);

    let end = "BIOS-e820: [mem 0x000000807f100000-0x000000807f1fefff] usable\n";
    let beginning = "Linux version 6.1.50 (a@b) (gcc) #1 SMP\nCommand line: quiet\n\
                     BIOS-provided physical RAM map:\n\
                     BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
                     BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable\n\
                     BIOS-e820: [mem 0x0000007ffe800000-0x000000807f0fffff] reserved\n";
    let facts = "SEV-SNP: RMP table physical range [0x0000007ffe800000 - 0x000000807f0fffff]\n";
    let update = "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n";
    for parts in [[beginning, end, update, facts], [end, update, beginning, facts]] {
        assert_eq!(check(&parts.concat(), &["--consumer", "5.15.100"]), 1, "{parts:?}");
    }
}

/// Whose tables are not Linux's own for x86-64, or not modelled.
#[test]
fn a_map_that_the_producer_does_not_make_so_is_not_judged() {
    for (story, text) in [
        (
            "a Xen PV domain: kexec goes through the hypervisor, which makes its own tables",
            base().replace("BIOS-e820:", "Xen:").replace("BIOS-provided", "Xen-provided"),
        ),
        ("a TDX guest, by the line that every kernel prints", base() + "tdx: Guest detected\n"),
        ("an SNP guest, by its status line", base() + "SEV: Status: SEV SEV-ES SEV-SNP\n"),
        (
            "a guest that has SEV in CPUID, and no line that says whether it is on",
            with("smpboot: CPU0: AMD Ryzen 7 5800H", "Hypervisor detected: KVM, AMD"),
        ),
        (
            "a 32-bit kernel, by the end of its address space",
            with("max_arch_pfn = 0x400000000", "max_arch_pfn = 0x1000000"),
        ),
        ("a 32-bit kernel, by its name", with("6.12.30 (x@y)", "6.12.30+deb13-686-pae (x@y)")),
        ("a kernel for ARM", with("6.12.30 (x@y)", "6.12.30-301.fc43.aarch64 (x@y)")),
    ] {
        let (status, report) = identmap("check", &text, &FACTS);
        assert_eq!(status, UNKNOWN, "{story}:\n{report}");
    }
    // The whole log of a guest says that nothing is encrypted by saying nothing.
    assert_eq!(check(&(base() + "Hypervisor detected: KVM\n"), &FACTS), SAFE);
}

/// Kernels of which the numbers do not tell what they do; in each a producer of 2024 may hide that requests no
/// configuration table and has 2 MiB pages only.
#[test]
fn a_vendor_s_number_is_no_promise() {
    for release in [
        // Ubuntu's flavours that were not in the list were taken for 5.15.0 and 6.5.0 of kernel.org.
        "5.15.0-1040-intel-iotg",
        "5.15.0-1053-gkeop",
        "6.5.0-1007-laptop",
        "6.5.0-1007-starfive",
        // Oracle's, on a stable base.
        "5.4.17-2136.330.7.1.el8uek.x86_64",
        "5.15.0-206.153.7.el8uek.x86_64",
        // openEuler, Anolis, Alibaba Cloud Linux, Kylin, OpenCloudOS, TencentOS, UOS.
        "5.10.0-60.18.0.50.oe2203.x86_64",
        "5.10.134-16.3.an8.x86_64",
        "5.10.134-16.1.al8.x86_64",
        "4.19.90-89.11.v2401.ky10.x86_64",
        "6.6.34-9.oc9.x86_64",
        "5.4.241-1-tlinux4-0017.5",
        "4.19.90-2403.3.0.0270.87.uel20.x86_64",
        // With a service pack's number; with another word; without any.
        "4.19.90-2312.1.0.0255.oe2003sp4.x86_64",
        "4.19.90-vhulk2111.1.0.h963.eulerosv2r9.x86_64",
        "5.4.119-19-0009.28",
        // SL Micro 6: no product number.
        "6.4.0-24-default",
        // Nobody's that is known, with a number of its own.
        "6.1.0-4711-acme",
    ] {
        let facts = [&LUCK[..], &["--producer", release]].concat();
        assert_eq!(check(&base(), &facts), UNKNOWN, "{release}");
    }
    // Stable series that may have got the exact policy after the last release that was read.
    for release in ["5.10.263", "5.15.200"] {
        let facts = [&LUCK[..], &["--producer", release]].concat();
        assert_eq!(check(&base(), &facts), UNKNOWN, "{release}");
    }
    let facts = [&LUCK[..], &["--producer", "5.10.262"]].concat();
    assert_eq!(check(&base(), &facts), SAFE, "its source was read");
}

/// What a kernel touches that is newer than all that were read is not known. It was taken for the newest.
#[test]
fn a_consumer_from_the_future_is_not_known() {
    for (release, status) in [("7.3.4", SAFE), ("7.4", UNKNOWN), ("9.9.9", UNKNOWN)] {
        assert_eq!(check(&base(), &["--sev", "off", "--consumer", release]), status, "{release}");
    }
    assert_eq!(check(&base(), &["--sev", "off", "--consumer", "6.12.0-18-686-pae"]), UNKNOWN);
    // A number of a build, not a processor's.
    let red_hat = ["--sev", "off", "--consumer", "5.14.0-386.el9.x86_64", "--producer", "6.12.30"];
    assert_eq!(check(&base(), &red_hat), SAFE);
}

/// What a doubt is worth does not hang on the command.
#[test]
fn no_command_says_ok_where_check_cannot_tell() {
    let cut = up_to("0x00000000cfffffff] reserved");
    let facts = [&LUCK[..], &["--producer", "6.12.30"]].concat();
    let (status, report) = identmap("diagnose", &base(), &facts);
    assert_eq!(status, SAFE, "{report}");
    let (status, report) = identmap("diagnose", &cut, &facts);
    assert_eq!(status, UNKNOWN, "{report}");
    assert!(identmap("matrix", &base(), &facts).1.contains("OK"));
    assert!(!identmap("matrix", &cut, &facts).1.contains(" OK "));
    let newer = [&LUCK[..2], &LUCK[4..], &["--consumer", "9.9.9"]].concat();
    assert!(!identmap("matrix", &base(), &newer).1.contains(" OK "));
    // Each was unsafe or unknown to `check`, and nothing was missing to `diagnose`.
    let guest = base() + "[    0.2] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n";
    let tdx = base() + "[    0.2] Memory Encryption Features active: Intel TDX\n";
    let levels = with(" max_arch_pfn = 0x400000000", "");
    for (story, text, facts) in [
        ("an SNP guest", &guest, &facts),
        ("a TDX guest", &tdx, &facts),
        ("a new producer", &base(), &[&LUCK[..], &["--producer", "7.9.1"]].concat()),
        ("32 bits", &base(), &[&LUCK[..], &["--producer", "6.12.0-18-686-pae"]].concat()),
        ("5 levels?", &levels, &facts),
    ] {
        assert_ne!(check(text, facts), SAFE, "{story}");
        let (status, report) = identmap("diagnose", text, facts);
        assert_eq!(status, UNKNOWN, "{story}:\n{report}");
    }
    for text in [&guest, &tdx] {
        let report = identmap("matrix", text, &facts).1;
        assert!(!report.contains(" OK ") && report.contains(" ?\n"), "{report}");
    }
    let report = identmap("matrix", &levels, &facts).1;
    let cells = |map: &str, table: &str| -> Vec<String> {
        let rows = report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = rows.filter(|row| row.len() > 3 && row[0] == map && row[1] == table);
        rows.map(|row| row[3..].join(" ")).collect()
    };
    assert_eq!(cells("exact", "requested"), ["?", "?"], "{report}");
    assert_eq!(cells("guarded", "requested"), ["OK"], "{report}");
}

/// The map of a Superdome Flex pasted alone, without a word of who made it: nothing was forbidden, and 1 GiB
/// leaves over the ends of its nodes were safe.
#[test]
fn a_map_that_looks_like_a_uv_s_may_be_one() {
    let map = "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
               BIOS-e820: [mem 0x0000000000100000-0x0000000072c4dfff] usable\n\
               BIOS-e820: [mem 0x0000000072c4e000-0x00000000fbffffff] reserved\n\
               BIOS-e820: [mem 0x0000000100000000-0x0000002f7fffffff] usable\n\
               BIOS-e820: [mem 0x0000002f80000000-0x000000303fffffff] reserved\n\
               BIOS-e820: [mem 0x0000003040000000-0x0000005f7bffffff] usable\n\
               BIOS-e820: [mem 0x0000005f7c000000-0x000000603fffffff] reserved\n\
               BIOS-e820: [mem 0x0000006040000000-0x0000008f7bffffff] usable\n\
               BIOS-e820: [mem 0x0000008f7c000000-0x000000903fffffff] reserved\n\
               BIOS-e820: [mem 0x0000009040000000-0x000000bf7bffffff] usable\n\
               BIOS-e820: [mem 0x000000bf7c000000-0x000000c03fffffff] reserved\n";
    let facts = ["--sev", "off", "--producer", "6.1.100", "--consumer", "6.12.70"];
    assert_eq!(check(map, &facts), UNKNOWN);
    assert_eq!(check(map, &[&facts[..], &["--uv", "off"]].concat()), SAFE);
    let on = [&facts[..], &["--uv", "on"]].concat();
    assert_eq!(check(map, &on), UNKNOWN, "whether 1 GiB pages are in use");
    assert_eq!(check(map, &[&on[..], &["--nogbpages"]].concat()), SAFE);
}

/// One address under a kernel that may do either: `explain` picked one of its ways and did not say so.
#[test]
fn explain_says_when_it_depends() {
    let explain = |producer: &str, more: &[&str]| {
        let mut args = vec!["explain", "0xc7a01018", "-", "--producer", producer];
        args.extend(more);
        let mut child = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(base().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(explain("6.1.60", &[]).0, 0);
    assert_eq!(explain("6.1.80", &[]).0, 1);
    let (status, report) = explain("5.14.0-427.el9.x86_64", &[]);
    assert_eq!(status, UNKNOWN, "{report}");
    assert!(report.contains("not mapped if it is exact"), "{report}");
    assert_eq!(explain("5.14.0-427.el9.x86_64", &["--policy", "round-out"]).0, 0);
}

/// Kernels of 5.1 to 5.9 read the signature of every ACPI table until they find SRAT. Only the tables that they
/// read whole were looked at; here one lies in reserved memory that is not mapped.
#[test]
fn an_old_consumer_reads_every_acpi_table() {
    let tables = |order: [&str; 2]| {
        base()
            + "[    0.000000] efi: ACPI=0xcd7fd000 ACPI 2.0=0xcd7fd014\n\
               [    0.010000] ACPI: RSDP 0x00000000CD7FD014 000024 (v02 LENOVO)\n\
               [    0.010000] ACPI: XSDT 0x00000000CD7F0188 0000EC (v01 LENOVO TP-R1B)\n\
               [    0.010000] ACPI: FACP 0x00000000CD7E0000 000114 (v06 LENOVO)\n\
               [    0.010000] ACPI: DSDT 0x00000000C8000000 010000 (v01 LENOVO)\n"
            + &order.concat()
    };
    let (ssdt, srat) = (
        "[    0.010000] ACPI: SSDT 0x00000000C9000000 000F46 (v02 LENOVO)\n",
        "[    0.010000] ACPI: SRAT 0x00000000CD7C0000 000100 (v02 LENOVO)\n",
    );
    let facts = [&LUCK[..2], &LUCK[4..6], &["--config-table", "0xc51af018+240"]].concat();
    let facts = [&facts[..], &["--producer", "6.1.80"]].concat();
    let old = [&facts[..], &["--consumer", "5.4.200"]].concat();
    assert_eq!(check(&tables([ssdt, srat]), &old), 1);
    assert_eq!(check(&tables([srat, ssdt]), &old), SAFE, "it stops at SRAT");
    let new = [&facts[..], &["--consumer", "5.10.200"]].concat();
    assert_eq!(check(&tables([ssdt, srat]), &new), SAFE, "it has a page-fault handler by then");
}

/// The line that tells where the RMP table lies was cut, and with its place its existence was forgotten.
#[test]
fn an_rmp_table_of_unknown_place_is_somewhere() {
    let rmp = "[    0.5] SEV-SNP: RMP table physical range [0x00000000ce800000 - 0x0000";
    assert_eq!(check(&(base() + rmp), &FACTS), UNKNOWN);
    let whole =
        "[    0.5] SEV-SNP: RMP table physical range [0x00000000ce800000 - 0x00000000cfffffff]\n";
    let api = "[    9.5] ccp 0000:06:00.5: SEV-SNP API:1.55 build:32\n";
    assert_eq!(check(&(base() + whole + api), &FACTS), SAFE);
    assert_eq!(check(&(base() + whole), &FACTS), UNKNOWN, "which firmware it has is not known");
}
