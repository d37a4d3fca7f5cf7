//! An image that kexec(8) placed, held against what lies in memory: the log of a real machine, with the segments of
//! an image behind it as `kexec -d` prints them.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// A handheld of 2023: its TPM event log, `MEMATTR` and `INITRD` lie in RAM, `ESRT` is kept by the kernel.
const LOG: &str = "104-asustek-computer-inc-rog-ally-rc71l-rc71l-rc71l.txt";

/// What `check` says of that machine with `lines` behind its log and an image at these places.
fn check(name: &str, lines: &str, segments: &[(u64, u64)], args: &[&str]) -> (Value, i32) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/machines/");
    let mut text = fs::read_to_string(format!("{root}{LOG}")).unwrap();
    // The first command line counts.
    if lines.contains("ommand line:") {
        text =
            text.lines().filter(|l| !l.contains("ommand line:")).flat_map(|l| [l, "\n"]).collect();
    }
    text.push_str(lines);
    writeln!(text, "nr_segments = {}", segments.len()).unwrap();
    for (number, (start, size)) in segments.iter().enumerate() {
        writeln!(text, "segment[{number}].mem   = {start:#x}").unwrap();
        writeln!(text, "segment[{number}].memsz = {size:#x}").unwrap();
    }
    let file = format!("{}/alive-{name}.txt", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&file, text).unwrap();
    let known = ["--producer", "6.12.30", "--consumer", "6.12.30", "--sev", "off", "--json"];
    let run = Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(["check", &file])
        .args(known)
        .args(args)
        .output()
        .unwrap();
    (serde_json::from_slice(&run.stdout).unwrap(), run.status.code().unwrap())
}

fn of_id<'a>(report: &'a Value, id: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|f| f["id"] == id).collect()
}

/// The only conflict: what, severity, confidence, first byte.
fn conflict(report: &Value) -> (String, String, String, String) {
    let all = of_id(report, "conflict");
    assert_eq!(all.len(), 1, "{all:?}");
    let text = |field: &str| all[0][field].as_str().unwrap().to_owned();
    (text("what"), text("severity"), text("confidence"), text("start"))
}

const FREE: (u64, u64) = (0x6000_0000, 0x10_0000);

#[test]
fn an_image_in_free_ram_is_safe_and_nothing_is_said_of_what_lies_elsewhere() {
    let (report, status) = check("free", "", &[FREE, (0x1000, 0x1000)], &[]);
    assert_eq!((&report["verdict"], status), (&Value::from("safe"), 0));
    assert!(of_id(&report, "conflict").is_empty());
    assert!(of_id(&report, "table-in-ram").is_empty());
}

#[test]
fn without_an_image_what_lies_in_ram_is_one_line_that_changes_no_verdict() {
    let (report, status) = check("none", "", &[], &[]);
    assert_eq!((&report["verdict"], status), (&Value::from("safe"), 0));
    let tables = of_id(&report, "table-in-ram");
    assert_eq!(tables.len(), 1);
    let why = tables[0]["why"].as_str().unwrap();
    for name in ["TPMEventLog at 0x00000000794b6018", "MEMATTR", "INITRD"] {
        assert!(why.contains(name), "{name}: {why}");
    }
    // In ACPI data, and kept by the running kernel.
    assert!(!why.contains("RNG") && !why.contains("ESRT"), "{why}");
}

#[test]
fn an_image_over_the_tpm_log_is_unsafe_and_both_ranges_are_named() {
    let (report, status) = check("tpm", "", &[FREE, (0x7900_0000, 0x60_0000)], &[]);
    assert_eq!((&report["verdict"], status), (&Value::from("unsafe"), 1));
    let (what, severity, confidence, start) = conflict(&report);
    assert_eq!((what.as_str(), severity.as_str()), ("EFI table TPMEventLog", "error"));
    assert_eq!((confidence.as_str(), start.as_str()), ("certain", "0x00000000794b6018"));
    let why = of_id(&report, "conflict")[0]["why"].as_str().unwrap();
    assert!(why.contains("segment 1, 0x0000000079000000-0x00000000795fffff"), "{why}");
    // Whether a kernel reads it that follows one without runtime services is up to the loader.
    let (report, _) =
        check("tpm-no-efi", "Kernel command line: noefi\n", &[(0x7900_0000, 0x60_0000)], &[]);
    assert_eq!(
        (&report["verdict"], conflict(&report).2.as_str()),
        (&Value::from("unknown"), "unknown")
    );
}

#[test]
fn an_image_right_behind_the_log_is_unknown_and_one_mebibyte_behind_is_not_told() {
    let (report, status) = check("behind", "", &[(0x794b_7000, 0x10_0000)], &[]);
    assert_eq!((&report["verdict"], status), (&Value::from("unknown"), 3));
    assert_eq!(conflict(&report).2, "unknown");
    let (report, _) = check("far", "", &[(0x795b_7000, 0x1000)], &[]);
    assert_eq!(report["verdict"], "safe");
    let (report, _) = check("before", "", &[(0x794b_5000, 0x1000)], &[]);
    assert_eq!(report["verdict"], "safe");
}

#[test]
fn the_initrd_table_costs_the_image_sixteen_bytes_and_not_one_more() {
    let at = |start: u64| check(&format!("initrd-{start:x}"), "", &[(start, 0x1000)], &[]).0;
    assert_eq!(conflict(&at(0x7c2c_3000)).0, "EFI table INITRD");
    for start in [0x7c2c_2000, 0x7c2c_4000] {
        assert!(of_id(&at(start), "conflict").is_empty(), "{start:x}");
    }
}

#[test]
fn what_no_map_describes_is_no_ram() {
    // A hole for devices, and past the end of RAM: by a log it may have been added since.
    for start in [0xd800_0000, 0x90_0000_0000] {
        let (report, status) = check(&format!("hole-{start:x}"), "", &[FREE, (start, 0x1000)], &[]);
        let (what, severity, confidence, _) = conflict(&report);
        assert_eq!((what.as_str(), status), ("memory that nothing describes", 3));
        assert_eq!((severity.as_str(), confidence.as_str()), ("error", "unknown"));
    }
    // All of the memory is in /proc/iomem.
    let iomem = "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n000a0000-000fffff : Reserved\n\
                 00100000-7fffffff : System RAM\ne0000000-efffffff : PCI MMCONFIG 0000 [bus 00-ff]\n\
                 100000000-17fffffff : System RAM\n";
    let file = format!("{}/alive-iomem.txt", env!("CARGO_TARGET_TMPDIR"));
    for (start, status) in
        [(0xe000_0000u64, 1), (0x1_8000_0000, 1), (0x7fff_f000, 1), (0x7fff_e000, 0), (0x1000, 0)]
    {
        let image = "segment[0].memsz = 0x2000\n";
        fs::write(&file, format!("{iomem}nr_segments = 1\nsegment[0].mem   = {start:#x}\n{image}"))
            .unwrap();
        let known =
            ["--producer", "6.12.80", "--consumer", "6.12.80", "--sev", "off", "--la57", "off"];
        let run = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(["check", &file, "--uv", "off"])
            .args(known)
            .output()
            .unwrap();
        let report = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(status), "{start:x}\n{report}");
        assert_eq!(report.contains("memory that nothing describes"), status == 1, "{report}");
    }
}

/// The image that is loaded on the machine of this bundle, with a segment over `INITRD` and `MEMATTR`: whatever is
/// supposed of the map, and where its places were not read.
#[test]
fn a_loaded_image_counts_whatever_is_supposed() {
    use identmap_machine::bundle::{Bundle, TablesState};
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/bundles/v1-live.json");
    let bundle = Bundle::read("live", &fs::read(path).unwrap()).unwrap();
    let file = format!("{}/alive-loaded.json", env!("CARGO_TARGET_TMPDIR"));
    let status = |bundle: &Bundle, args: &[&str]| {
        fs::write(&file, bundle.write().unwrap()).unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(["check", &file, "--consumer", "5.10.200"])
            .args(args)
            .output()
            .unwrap();
        (run.status.code().unwrap(), String::from_utf8(run.stdout).unwrap())
    };
    let supposed: [&[&str]; 4] =
        [&[], &["--nogbpages"], &["--map", "0x1000-0x1fff"], &["--producer", "6.1.100"]];
    let mut over = bundle.clone();
    for tables in &mut over.tables {
        if let TablesState::Read(read) = &mut tables.state {
            read.segments.push(identmap::PhysRange::new(0x5bd1_7000, 0x5bd1_a000).unwrap());
        }
    }
    let mut lost = over.clone();
    for tables in &mut lost.tables {
        tables.state = TablesState::NotRead("/proc/kcore: permission denied".to_owned());
    }
    for args in supposed {
        assert_eq!(status(&bundle, args).0, 0, "{args:?}");
        let (code, report) = status(&over, args);
        assert_eq!((code, report.matches("conflict ").count()), (1, 2), "{args:?}\n{report}");
        let (code, report) = status(&lost, args);
        assert_eq!(code, 3, "{args:?}\n{report}");
        assert!(report.contains("image-unknown") && !report.contains("table-in-ram"), "{report}");
    }
}

#[test]
fn what_lies_near_is_not_worse_than_what_is_covered() {
    // MOKvar may have up to a MiB; the next kernel lacks keys at worst.
    let table = "efi: MOKvar=0x60000000 SMBIOS 3.0=0x61000000\n";
    let (report, status) = check("mokvar-near", table, &[(0x6000_4000, 0x1000)], &[]);
    assert_eq!((conflict(&report).2.as_str(), status), ("likely", 0));
    let (report, status) = check("mokvar", table, &[(0x6000_0000, 0x1000)], &[]);
    assert_eq!((conflict(&report).2.as_str(), status), ("certain", 0));
    // SMBIOS' entry has 24 bytes, and not one more.
    let (report, status) = check("smbios-near", table, &[(0x6100_1000, 0x1000)], &[]);
    assert_eq!((of_id(&report, "conflict").len(), status), (0, 0));
    let (report, _) = check("smbios", table, &[(0x6100_0000, 0x1000)], &[]);
    assert_eq!(conflict(&report).0, "EFI table SMBIOS 3.0");
}

#[test]
fn a_lost_esrt_is_a_warning() {
    let (report, status) = check("esrt", "", &[(0x8789_c000, 0x1000)], &[]);
    let (what, severity, confidence, _) = conflict(&report);
    assert_eq!((what.as_str(), severity.as_str()), ("EFI table ESRT", "warning"));
    assert_eq!((confidence.as_str(), status), ("certain", 0));
}

#[test]
fn firmwares_memory_is_no_place_for_an_image() {
    for (start, what) in [(0x9119_1000, "ACPI data memory"), (0x966b_4000, "ACPI NVS memory")] {
        let (report, status) = check(&format!("{start:x}"), "", &[(start, 0x1000)], &[]);
        assert_eq!((conflict(&report).0.as_str(), status), (what, 1));
    }
}

#[test]
fn what_the_kernel_keeps_is_told_with_as_much_as_is_known_of_it() {
    let kept = "e820: update [mem 0x60000000-0x60000fff] usable ==> reserved\n";
    let (report, status) = check("kept", kept, &[FREE], &[]);
    let (what, severity, confidence, _) = conflict(&report);
    assert!(what.starts_with("4 KiB that the running kernel keeps"), "{what}");
    assert_eq!((severity.as_str(), confidence.as_str(), status), ("warning", "unknown", 3));
    let user = format!("Kernel command line: ro memmap=4K$0x60000000 quiet\n{kept}");
    let (report, _) = check("memmap", &user, &[FREE], &[]);
    assert_eq!(conflict(&report).0, "memory set aside with memmap=");
    assert_eq!(
        (conflict(&report).1.as_str(), conflict(&report).2.as_str()),
        ("warning", "certain")
    );
    // Page 0 is the kernel's own business.
    let low = "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n";
    let (report, _) = check("low", low, &[(0, 0x1000)], &[]);
    assert!(of_id(&report, "conflict").is_empty());
}

#[test]
fn a_faulty_page_is_no_place_for_an_image() {
    let failure = "Memory failure: 0x60010: recovery action for dirty LRU page: Recovered\n\
                   Memory failure: 0xffffffffffffffff: nonsense\n";
    let (report, status) = check("poison", failure, &[FREE], &[]);
    let (what, severity, _, start) = conflict(&report);
    assert_eq!((what.as_str(), severity.as_str()), ("page with a memory error", "error"));
    assert_eq!((start.as_str(), status), ("0x0000000060010000", 1));
    let (report, _) = check("poison-elsewhere", failure, &[(0x6100_0000, 0x1000)], &[]);
    assert!(of_id(&report, "conflict").is_empty());
}
