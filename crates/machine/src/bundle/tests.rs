//! A bundle comes back as it was, or is refused.

use super::*;
use crate::live::{CpuidLeaf, Directory};

fn text(text: &str) -> Content {
    Content::Bytes(text.as_bytes().to_vec())
}

fn files(list: &[(&str, &str)]) -> Directory {
    Directory::Files(list.iter().map(|(path, value)| ((*path).to_owned(), text(value))).collect())
}

fn at(address: u64) -> PhysAddr {
    PhysAddr::new(address).expect("an address")
}

/// Every kind of content once, few bytes: the damage tests read it some ten thousand times.
fn small() -> Bundle {
    let inputs = Inputs {
        dmesg: text("Linux version 6.1.76\n~\n\nBIOS-e820: [mem 0x0-0x9fbff] usable\n"),
        iomem: text("00000000-0009fbff : System RAM\n00100000-001fffff : Reserved\n"),
        cmdline: text("nogbpages"),
        firmware_memmap: files(&[
            ("0/end", "0x9fbff"),
            ("0/start", "0x0"),
            ("0/type", "System RAM"),
        ]),
        efi_exists: Some(true),
        efi_config_table: text("0x7f9ee018"),
        efi_systab: Content::Unreadable("Permission denied".to_owned()),
        proc_sgi_uv: Directory::Absent,
        acpi_madt: Content::Bytes(b"APIC\x00\x01\xff".to_vec()),
        boot_params: Content::Bytes(vec![0; 4096]),
        kexec_loaded: text("1"),
        kexec_crash_loaded: Content::Absent,
        cpuid: vec![CpuidLeaf { leaf: 7, subleaf: 0, eax: 1, ebx: 2, ecx: 1 << 16, edx: 4 }],
        ..Inputs::default()
    };
    Bundle {
        left_out: vec!["dmesg: lines".to_owned()],
        redacted: true,
        extra: Extra { kernel_config: text("CONFIG_KEXEC=y\n"), ..Extra::default() },
        memory: vec![Blob {
            kind: BlobKind::EfiSystemTable,
            start: at(0x7f5e_e018),
            bytes: vec![1, 2],
        }],
        tables: vec![
            Tables {
                image: Image::Kexec,
                state: TablesState::Read(ReadTables {
                    root: at(0x1_0000_0000),
                    levels: 4,
                    maxphyaddr: 48,
                    pdpe1gb: true,
                    encryption_mask: 0,
                    counts: [0, 1, 1, 1, 0],
                    segments: vec![PhysRange::new(0x10_0000, 0x20_0000).expect("a range")],
                    leaves: vec![LeafRun {
                        virt: 0,
                        phys: at(0),
                        page: 1 << 21,
                        count: 512,
                        flags: 0x1e3,
                        rights: [true, false, true],
                    }],
                }),
            },
            Tables {
                image: Image::Crash,
                state: TablesState::NotRead("no image is loaded".to_owned()),
            },
        ],
        ..Bundle::new(Facts::Live(Box::new(inputs)))
    }
}

fn written(bundle: &Bundle) -> String {
    bundle.write().expect("small enough")
}

#[test]
fn a_bundle_comes_back_and_gives_the_same_machine() {
    let bundle = small();
    let file = written(&bundle);
    assert_eq!(Bundle::read("b", file.as_bytes()).as_ref(), Ok(&bundle));
    assert_eq!(file, written(&bundle), "the same facts, the same bytes");
    let machine = parse::machine("b", file.as_bytes()).expect("a machine");
    let Facts::Live(inputs) = &bundle.facts else { panic!("live") };
    let direct = live::assemble(&Inputs { source: "b".to_owned(), ..(**inputs).clone() });
    assert_eq!(machine, direct);
    assert_eq!((machine.nogbpages, machine.kexec_loaded), (Some(true), Some(true)));
    let of_text = Bundle::new(Facts::Text(b"BIOS-e820: [mem 0x0-0x9fbff] usable\n".to_vec()));
    assert_eq!(Bundle::read("b", written(&of_text).as_bytes()), Ok(of_text));
}

/// What a damaged file gives: an error, or what the whole file gives.
fn refused_or_equal(good: &Bundle, machine: &Machine, bytes: &[u8], how: &str) -> bool {
    let read = Bundle::read("b", bytes);
    // The way of a SOURCE: what is not taken for a bundle is read as a text.
    let source = parse::machine("b", bytes);
    match (&read, &source) {
        (Err(error), Err(_)) => {
            assert!(!error.message.is_empty());
            let placed = error.line > 0 || error.message.contains("checksum");
            assert!(
                placed || error.message.contains("schema") || bytes.is_empty(),
                "{how}: {error}"
            );
            true
        }
        (Ok(read), Ok(source)) => {
            assert_eq!(read, good, "{how}");
            assert_eq!(source, machine, "{how}");
            false
        }
        _ => panic!("{how}: read as a bundle {}, as a source {}", read.is_ok(), source.is_ok()),
    }
}

/// Reads files that `damage` makes of a bundle: of each it gets the bytes and says how they differ. At least so
/// many for each byte of the bundle must be refused.
fn damaged(least: usize, damage: impl FnOnce(&[u8], &mut dyn FnMut(&[u8], &str))) {
    let bundle = small();
    let file = written(&bundle).into_bytes();
    let machine = parse::machine("b", &file).expect("a machine");
    assert!(!refused_or_equal(&bundle, &machine, &file, "whole"));
    let (mut refused, mut equal) = (0, 0);
    damage(&file, &mut |bytes, how| {
        if refused_or_equal(&bundle, &machine, bytes, how) { refused += 1 } else { equal += 1 }
    });
    println!("{} bytes: {refused} damaged files refused, {equal} read the same", file.len());
    assert!(refused > least * file.len());
    assert!(equal < refused / 5, "only what lies between values may change");
}

#[test]
fn a_bundle_with_any_byte_changed_is_refused_or_read_the_same() {
    damaged(11, |file, count| {
        let mut bytes = file.to_vec();
        for at in 0..file.len() {
            let bits = (0..8).map(|bit| file[at] ^ 1 << bit);
            for value in bits.chain(*b" 0\"f\n\xff").filter(|value| *value != file[at]) {
                bytes[at] = value;
                count(&bytes, &format!("byte {at} is {value:#04x}"));
            }
            bytes[at] = file[at];
        }
    });
}

#[test]
fn a_bundle_with_bytes_more_or_less_is_refused_or_read_the_same() {
    damaged(9, more_and_less);
}

fn more_and_less(file: &[u8], count: &mut dyn FnMut(&[u8], &str)) {
    for at in 0..=file.len() {
        for value in *b" 0\"f,{\n\0\xff" {
            let longer = [&file[..at], &[value], &file[at..]].concat();
            count(&longer, &format!("{value:#04x} inserted at {at}"));
        }
    }
    let mut bytes = file.to_vec();
    for at in 0..file.len() {
        count(&[&file[..at], &file[at + 1..]].concat(), &format!("byte {at} removed"));
        count(&file[..at], &format!("cut at {at}"));
        if at > 0 {
            count(&file[at..], &format!("without the first {at} bytes"));
            bytes.swap(at - 1, at);
            count(&bytes, &format!("bytes {} and {at} swapped", at - 1));
            bytes.swap(at - 1, at);
        }
    }
}

#[test]
fn lines_swapped_removed_or_doubled_are_refused() {
    let bundle = small();
    let file = written(&bundle);
    let machine = parse::machine("b", file.as_bytes()).expect("a machine");
    let lines: Vec<&str> = file.lines().collect();
    for at in 0..lines.len() {
        for other in at..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            refused_or_equal(&bundle, &machine, swapped.join("\n").as_bytes(), "swapped");
        }
        let mut fewer = lines.clone();
        let line = fewer.remove(at);
        refused_or_equal(&bundle, &machine, fewer.join("\n").as_bytes(), "removed");
        let mut more = lines.clone();
        more.insert(at, line);
        refused_or_equal(&bundle, &machine, more.join("\n").as_bytes(), "doubled");
    }
}

#[test]
fn what_mailers_and_editors_do_to_white_space_is_harmless() {
    let bundle = small();
    let file = written(&bundle);
    for changed in [
        file.replace('\n', "\r\n"),
        format!("\u{feff}{file}"),
        file.trim_end().to_owned(),
        file.replace("\n  ", "\n\t"),
        serde_json::from_str::<serde_json::Value>(&file).expect("JSON").to_string(),
    ] {
        assert_eq!(Bundle::read("b", changed.as_bytes()).as_ref(), Ok(&bundle));
    }
}

/// The file with another value, and a checksum that matches.
fn edited(change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
    let mut content = serde_json::from_str(&written(&small())).expect("JSON");
    change(&mut content);
    content.insert(json::INTEGRITY.to_owned(), json::integrity(&content).into());
    json::pretty(&content).into_bytes()
}

fn error(bytes: &[u8]) -> String {
    Bundle::read("b.json", bytes).expect_err("refused").to_string()
}

#[test]
fn a_newer_schema_is_called_newer() {
    let newer = error(&edited(|c| drop(c.insert("schema".to_owned(), "identmap.bundle/2".into()))));
    assert!(newer.contains("made by a newer identmap") && newer.contains("bundle/2"), "{newer}");
    // Whatever a newer version puts there instead of this checksum.
    let other_sum =
        written(&small()).replace("bundle/1", "bundle/7").replace("\"sha256:", "\"blake3:");
    assert!(error(other_sum.as_bytes()).contains("made by a newer identmap"));
    for schema in [
        "identmap.bundle/0",
        "identmap.bundle/x",
        "identmap.check/1",
        "identmap.bundle/99999999999",
    ] {
        let other = error(&edited(|c| drop(c.insert("schema".to_owned(), schema.into()))));
        assert!(other.contains("no bundle") && other.contains(schema), "{other}");
    }
}

#[test]
fn what_this_version_does_not_know_is_refused_even_with_a_right_checksum() {
    use serde_json::{Map, Value, json};
    type Content = Map<String, Value>;
    type Change = Box<dyn FnOnce(&mut Content)>;
    fn live(c: &mut Content) -> &mut Content {
        c["live"].as_object_mut().expect("an object")
    }
    let set = |key: &'static str, value: Value| {
        move |c: &mut Content| drop(c.insert(key.to_owned(), value))
    };
    let set_live = |key: &'static str, value: Value| {
        move |c: &mut Content| drop(live(c).insert(key.to_owned(), value))
    };
    let kinds: Vec<(&str, Change)> = vec![
        ("surprise", Box::new(set("surprise", json!(1)))),
        ("/proc/surprise", Box::new(set_live("/proc/surprise", json!("x")))),
        ("made_by", Box::new(|c| drop(c.remove("made_by")))),
        ("redacted", Box::new(set("redacted", json!("yes")))),
        ("left_out", Box::new(set("left_out", json!([1])))),
        ("live", Box::new(set("live", json!([])))),
        ("text", Box::new(|c| drop(c.remove("live")))),
        ("text", Box::new(set("text", json!("both")))),
        ("/proc/iomem", Box::new(set_live("/proc/iomem", json!(7)))),
        ("/proc/iomem", Box::new(set_live("/proc/iomem", json!({ "base64": "?" })))),
        ("/sys/class/dmi/id", Box::new(set_live("/sys/class/dmi/id", json!({ "files": [] })))),
        ("/sys/firmware/efi", Box::new(set_live("/sys/firmware/efi", json!(null)))),
        (
            "cpuid",
            Box::new(set("cpuid", json!([{ "leaf": "0x1", "subleaf": "0x0", "registers": [] }]))),
        ),
        (
            "cpuid",
            Box::new(set("cpuid", json!([{ "leaf": "1", "subleaf": "0x0", "registers": [] }]))),
        ),
        (
            "memory",
            Box::new(set(
                "memory",
                json!([{ "what": "acpi-rsdp", "start": "0x10000000000000", "base64": "AA==" }]),
            )),
        ),
        (
            "start",
            Box::new(set(
                "memory",
                json!([{ "what": "acpi-rsdp", "start": "0xfffffffffffffff", "base64": "AA==" }]),
            )),
        ),
        (
            "memory",
            Box::new(set("memory", json!([{ "what": "acpi-rsdp", "start": "0x0", "base64": "" }]))),
        ),
        (
            "what",
            Box::new(set(
                "memory",
                json!([{ "what": "smbios", "start": "0x0", "base64": "AA==" }]),
            )),
        ),
        (
            "levels",
            Box::new(set(
                "tables",
                json!([{ "image": "kexec", "root": "0x0", "levels": 3, "maxphyaddr": 46, "pdpe1gb": true, "encryption_mask": "0x0", "counts": [0, 0, 0, 1, 0], "segments": [], "leaves": [] }]),
            )),
        ),
        (
            "leaves",
            Box::new(set(
                "tables",
                json!([{ "image": "kexec", "root": "0x0", "levels": 4, "maxphyaddr": 46, "pdpe1gb": true, "encryption_mask": "0x0", "counts": [0, 0, 0, 1, 0], "segments": [], "leaves":
            [{ "virt": "0x0", "phys": "0x0", "page": "1G", "count": u64::MAX, "flags": "0x1", "rights": [true, true, true] }] }]),
            )),
        ),
        (
            "page",
            Box::new(set(
                "tables",
                json!([{ "image": "kexec", "root": "0x0", "levels": 4, "maxphyaddr": 46, "pdpe1gb": true, "encryption_mask": "0x0", "counts": [0, 0, 0, 1, 0], "segments": [], "leaves":
            [{ "virt": "0x0", "phys": "0x0", "page": "512G", "count": 1, "flags": "0x1", "rights": [true, true, true] }] }]),
            )),
        ),
    ];
    for (named, change) in kinds {
        let said = error(&edited(change));
        assert!(
            said.contains("not written by identmap") && said.contains(named),
            "{named}: {said}"
        );
    }
}

#[test]
fn absurd_files_end_in_errors() {
    let deep = format!("{{\"schema\": \"identmap.bundle/1\", \"x\": {}", "[".repeat(1 << 20));
    assert!(error(deep.as_bytes()).contains("damaged"));
    let large = vec![b' '; MAX_BUNDLE + 1];
    assert!(error(&large).contains("at most"));
    let huge = Bundle::new(Facts::Text(vec![b'x'; MAX_BUNDLE]));
    let refused = huge.write().expect_err("too large");
    assert!(refused.bytes > MAX_BUNDLE && refused.to_string().contains("at most"));
    for other in [
        "{}",
        "[]",
        "null",
        "",
        "\u{feff}",
        "{\"schema\": 7}",
        "{\"schema\": \"identmap.check/1\"}",
    ] {
        assert!(!error(other.as_bytes()).is_empty());
    }
}

/// A dmesg that looks like a bundle is a text, whatever is in it: nothing is read twice.
#[test]
fn a_bundle_inside_of_a_bundle_is_not_read() {
    let inner = written(&small());
    let outer = Bundle::new(Facts::Text(inner.into_bytes()));
    let file = written(&outer);
    assert_eq!(Bundle::read("b", file.as_bytes()), Ok(outer.clone()));
    assert_eq!(parse::machine("b", file.as_bytes()), outer.machine("b"));
}

/// Container engines write such words into logs.
#[test]
fn a_log_that_speaks_of_digests_is_a_log() {
    let log = "msg=\"sha256:0123\" integrity: \"x\"\nBIOS-e820: [mem 0x0-0x9fbff] usable\n";
    assert!(!Bundle::is_in(log.as_bytes()));
    assert_eq!(parse::machine("m", log.as_bytes()).expect("a machine").maps.len(), 1);
}

#[test]
fn only_options_that_matter_are_taken() {
    let config = "#\n# Linux/x86 6.1.76\n#\nCONFIG_KEXEC_FILE=y\nCONFIG_LOCALVERSION=\"-alice\"\n\
                  # CONFIG_X86_UV is not set\nCONFIG_KEXEC=y\nCONFIG_KEXECUTE=y\nCONFIG_CMDLINE=\"secret\"\n\
                  CONFIG_PHYSICAL_START=0x1000000\nCONFIG_KEXEC_FILE=y\n# CONFIG_\nCONFIG_\n";
    assert_eq!(
        config_that_matters(config),
        "CONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\nCONFIG_PHYSICAL_START=0x1000000\n# CONFIG_X86_UV is not set\n"
    );
    assert!(OPTIONS.is_sorted());
}
