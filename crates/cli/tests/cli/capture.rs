//! `identmap capture`, as a person runs it: what it writes, and that every command reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use identmap_audit::{ImageTables, Question, check};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::bundle::{Bundle, Facts};
use identmap_machine::redact::{Names, redact};
use identmap_machine::{Machine, parse};
use identmap_report::CheckReport;
use serde_json::Value;

use crate::support::{Folder, identmap};

impl Folder {
    fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The output of a command in JSON, without the name of the source.
fn json(args: &[&str]) -> (Option<i32>, Value) {
    let output = identmap(&[args, &["--json"]].concat());
    let mut value: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said(&output)));
    for place in ["/machine/source", "/source"] {
        if let Some(source) = value.pointer_mut(place) {
            *source = Value::Null;
        }
    }
    // The state of the kdump service is the machine's alone: bundles of version 1 have no place for it.
    if let Some(Value::Array(findings)) = value.get_mut("findings") {
        findings
            .retain(|finding| finding["id"] != "kdump-service" && finding["id"] != "kdump-test");
    }
    (output.status.code(), value)
}

#[test]
fn a_capture_of_this_machine_answers_as_the_machine_does() {
    let folder = Folder::new("live");
    for (name, full) in [("redacted.json", None), ("full.json", Some("--full"))] {
        let file = folder.file(name);
        let args: Vec<&str> = ["capture", "-o", &file].into_iter().chain(full).collect();
        let output = identmap(&args);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(
            output.stdout.is_empty() && !said(&output).contains("warning"),
            "{}",
            said(&output)
        );
        assert_eq!(fs::metadata(&file).expect("written").permissions().mode() & 0o777, 0o600);
        for line in
            [&["check"][..], &["check", "-p"], &["check", "--consumer", "6.1.76"], &["matrix"]]
        {
            let command = line[0];
            let rest = &line[1..];
            assert_eq!(
                json(&[&[command, "live"], rest].concat()),
                json(&[&[command, &file], rest].concat()),
                "{line:?}"
            );
        }
        // The maps of this machine against those of its bundle: nothing differs, or nothing is known of either.
        let (status, diff) = json(&["diff", "live", &file]);
        let memory_differs = diff["ranges"].as_array().is_some_and(|ranges| !ranges.is_empty());
        assert!(!memory_differs && status != Some(2), "{diff}");
    }
    assert_eq!(folder.list(), ["full.json", "redacted.json"], "and no file beside them");

    // Redacted here or there: the same bytes.
    let again = identmap(&["capture", &folder.file("redacted.json"), "-q"]);
    assert_eq!(again.stdout, fs::read(folder.file("redacted.json")).expect("a file"));
}

#[test]
fn a_capture_of_this_machine_does_not_name_it() {
    let file =
        String::from_utf8(identmap(&["capture", "-q"]).stdout).expect("UTF-8").to_lowercase();
    assert!(file.contains("\"identmap.bundle/1\"") && file.len() < 200_000);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_lowercase();
    let mut names = vec![
        read("/etc/machine-id"),
        read("/proc/sys/kernel/random/boot_id"),
        read("/sys/class/dmi/id/product_uuid"),
        read("/sys/class/dmi/id/product_serial"),
    ];
    let host = read("/proc/sys/kernel/hostname");
    if !["localhost", "debian", "ubuntu", "fedora", "linux"].contains(&host.as_str()) {
        names.push(host);
    }
    for card in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        names.push(read(card.path().join("address").to_str().expect("UTF-8")));
    }
    names.retain(|name| name.len() > 3 && name.chars().any(|c| c.is_alphanumeric() && c != '0'));
    for name in &names {
        assert!(!file.contains(name.as_str()), "{name}");
    }
}

#[test]
fn where_it_is_written() {
    let folder = Folder::new("where");
    let file = folder.file("bundle.json");
    let stdout = identmap(&["capture", "sample:qemu-ovmf", "-q"]).stdout;
    assert!(stdout.starts_with(b"{\n  \"schema\": \"identmap.bundle/1\",\n"));
    assert_eq!(identmap(&["capture", "sample:qemu-ovmf", "-o", "-", "-q"]).stdout, stdout);
    // What was there is replaced, with the owner's rights alone.
    fs::write(&file, "old").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("rights");
    let output = identmap(&["capture", "sample:qemu-ovmf", "-o", &file]);
    assert!(output.status.success() && said(&output).contains("redacted"), "{}", said(&output));
    assert_eq!(fs::read(&file).expect("a file"), stdout);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    // A failure leaves what was there, and nothing beside it.
    fs::write(&file, "old").expect("a file");
    let bad = folder.file("bad.txt");
    fs::write(&bad, "nothing of a machine\n").expect("a file");
    assert_eq!(identmap(&["capture", &bad, "-o", &file]).status.code(), Some(2));
    assert_eq!(
        identmap(&["capture", "sample:qemu-ovmf", "-o", "/no/such/folder/x"]).status.code(),
        Some(2)
    );
    assert_eq!(
        identmap(&["capture", "sample:qemu-ovmf", "-o", &folder.0.to_string_lossy()]).status.code(),
        Some(2)
    );
    assert_eq!(fs::read(&file).expect("a file"), b"old");
    assert_eq!(folder.list(), ["bad.txt", "bundle.json"]);
    // What is no regular file is written to, not replaced.
    let output = identmap(&["capture", "sample:qemu-ovmf", "-q", "-o", "/dev/stdout"]);
    assert_eq!(output.stdout, stdout);
    assert!(
        !fs::metadata("/dev/stdout").is_ok_and(|m| m.is_file() && m.len() == stdout.len() as u64)
    );
}

#[test]
fn show_says_what_it_would_hold_and_writes_nothing() {
    let output = identmap(&["capture", "sample:poweredge-r7625", "--show"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(
        text.contains("redacted") && text.contains("left out") && !text.contains("BIOS-e820"),
        "{text}"
    );
    let output = identmap(&["capture", "sample:poweredge-r7625", "--show", "--full"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("NOT redacted"));
    assert_eq!(identmap(&["capture", "--show", "-o", "x"]).status.code(), Some(2));
}

#[test]
fn a_damaged_bundle_is_refused_by_every_command() {
    let folder = Folder::new("damaged");
    let good = identmap(&["capture", "sample:qemu-ovmf", "-q"]).stdout;
    let text = String::from_utf8(good).expect("UTF-8");
    let kinds = [
        ("a digit", text.replacen("0xbfbcc000", "0xbfbcd000", 1), "checksum"),
        ("a letter of a key", text.replacen("\"text\"", "\"test\"", 1), "checksum"),
        ("cut", text[..text.len() / 2].to_owned(), ":"),
        ("without its beginning", text[text.len() / 2..].to_owned(), "damaged"),
        ("quoted", format!("> {}", text.replace('\n', "\n> ")), ":1:1: "),
        ("a newer one", text.replacen("bundle/1", "bundle/2", 1), "newer"),
    ];
    for (kind, text, words) in kinds {
        let file = folder.file("bad.json");
        fs::write(&file, text).expect("a file");
        for command in ["check", "matrix", "capture", "map", "diff"] {
            let output = identmap(&[command, &file]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(2), "{kind}, {command}: {said}");
            let newer_is_damaged = words == "newer" && said.contains("checksum");
            assert!(said.contains(words) || newer_is_damaged, "{kind}, {command}: {said}");
            assert!(output.stdout.is_empty());
        }
    }
}

/// `check` in JSON, of a machine by this name.
fn answer(machine: &Machine, kind: Kind) -> Value {
    let producer = Producer::of(KernelVersion::of(machine).and_then(Result::ok));
    let tables = ImageTables::NotRead(String::new());
    let (consumer, entries) = (Consumer::default(), &[][..]);
    let question = Question { machine, producer, consumer, kind, tables, entries, seen: None };
    let audit = check(&question);
    let report = CheckReport::new(machine, &question.producer, &question.consumer, &audit);
    serde_json::to_value(report).expect("JSON")
}

#[test]
fn check_says_the_same_of_every_machine_and_of_its_bundle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/machines");
    let mut compared = 0;
    for entry in fs::read_dir(folder).expect("testdata/machines") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        let Ok(machine) = parse::machine("m", &bytes) else { continue };
        let bundle = redact(&Bundle::new(Facts::Text(bytes)), &Names::default());
        let file = bundle.write().expect("small");
        let again = parse::machine("m", file.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        for kind in [Kind::Kexec, Kind::Kdump] {
            assert_eq!(answer(&again, kind), answer(&machine, kind), "{}", path.display());
        }
        compared += 1;
    }
    println!("{compared} machines");
    assert!(compared > 200);
}
