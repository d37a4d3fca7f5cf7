//! Every map of a real machine, dressed as its owner would send it, goes through a bundle and comes out as the
//! same machine, without the owner.

use std::path::{Path, PathBuf};

use identmap_machine::bundle::{Bundle, Facts};
use identmap_machine::redact::{Names, redact};
use identmap_machine::{Machine, parse, samples};

fn testdata(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(below)
}

fn texts() -> Vec<(String, Vec<u8>)> {
    let mut texts: Vec<(String, Vec<u8>)> = std::fs::read_dir(testdata("machines"))
        .expect("testdata/machines")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("a file")))
        .collect();
    texts.sort();
    texts.extend(samples().iter().map(|s| (format!("sample:{}", s.name), s.bytes.to_vec())));
    texts
}

/// What the report of a person has around its maps.
fn dressed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let line = "Mar 01 10:00:00 alice-box kernel: [    1.0] eth0: 52:54:00:ab:cd:ef 192.168.7.9 \
                fe80::5054:ff:feab:cdef 0a3407de-014b-458b-b5c1-848e92a327a3 alice@example.org\n";
    for (number, text) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        // After every map line a line of a driver would end the map; at some places it does no harm.
        if number == 0 || text.starts_with(b"#") {
            out.extend_from_slice(text);
            continue;
        }
        // As syslog has it, where the kernel's own time is there.
        if text.starts_with(b"[    0.0") {
            out.extend_from_slice(b"Mar 01 10:00:00 alice-box kernel: ");
        }
        out.extend_from_slice(text);
    }
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    out.extend_from_slice(line.as_bytes());
    out
}

/// Looks for what must not be there, by other means than the redaction's.
fn finds(text: &str) -> Vec<String> {
    let shape: Vec<u8> = text
        .bytes()
        .map(|b| match b {
            b'0'..=b'9' => b'9',
            b'a'..=b'f' | b'A'..=b'F' => b'f',
            other => other,
        })
        .collect();
    let hex = |b: &u8| matches!(b, b'9' | b'f');
    let mut found = Vec::new();
    let mut note = |at: usize, len: usize| found.push(text[at..at + len].to_owned());
    for at in 0..shape.len() {
        let is = |pattern: &str| {
            let end = at + pattern.len();
            let apart = (at == 0 || !hex(&shape[at - 1])) && shape.get(end).is_none_or(|b| !hex(b));
            end <= shape.len()
                && apart
                && shape[at..end]
                    .iter()
                    .zip(pattern.bytes())
                    .all(|(b, p)| if p == b'x' { hex(b) } else { *b == p })
        };
        for pattern in
            ["xx:xx:xx:xx:xx:xx", "xx-xx-xx-xx-xx-xx", "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"]
        {
            if is(pattern) {
                note(at, pattern.len());
            }
        }
    }
    for word in text.split(|c: char| !(c.is_ascii_digit() || c == '.')) {
        let octets: Vec<_> = word.split('.').map(str::parse::<u8>).collect();
        if octets.len() == 4 && octets.iter().all(Result::is_ok) {
            found.push(word.to_owned());
        }
    }
    for word in ["alice", "fe80:", "@example", "Mar 01"] {
        found.extend(text.contains(word).then(|| word.to_owned()));
    }
    found
}

/// All that a verdict can hang on.
fn bare(machine: Machine) -> Machine {
    let mut machine = Machine { cmdline: None, kernel_banner: None, hardware: None, ..machine };
    for entry in &mut machine.iomem {
        entry.name = String::new();
    }
    machine
}

#[test]
fn every_machine_comes_out_of_its_bundle_as_it_went_in_without_its_owner() {
    let (mut read, mut largest, mut bytes_in, mut bytes_out) = (0, 0, 0, 0);
    for (name, text) in texts() {
        let text = dressed(&text);
        let Ok(machine) = parse::machine("m", &text) else { continue };
        assert!(finds(&String::from_utf8_lossy(&text)).len() >= 6, "{name}");
        let bundle = redact(&Bundle::new(Facts::Text(text.clone())), &Names::new(["alice-box"]));
        let file = bundle.write().expect(&name);
        let found = finds(&file);
        let firmware =
            |word: &String| machine.firmware.as_deref().is_some_and(|f| f.contains(word.as_str()));
        let compiler = |word: &String| {
            machine.kernel_banner.as_deref().is_some_and(|b| b.contains(word.as_str()))
        };
        let found: Vec<&String> = found.iter().filter(|w| !firmware(w) && !compiler(w)).collect();
        assert!(found.is_empty(), "{name}: {found:?}");

        let again = parse::machine("m", file.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let names = |m: &Machine| -> Vec<String> {
            let known = |n: &&str| *n != "device";
            m.iomem.iter().map(|e| e.name.as_str()).filter(known).map(str::to_owned).collect()
        };
        let all = names(&machine);
        assert!(names(&again).iter().all(|n| all.contains(n)), "{name}");
        assert_eq!(bare(again), bare(machine), "{name}");

        let twice =
            Bundle::read("m", file.as_bytes()).map(|b| redact(&b, &Names::default()).write());
        assert_eq!(twice, Ok(Ok(file.clone())), "{name}: twice is once");
        let full = Bundle::new(Facts::Text(text.clone()));
        let full = Bundle::read("m", full.write().expect(&name).as_bytes()).expect(&name);
        assert_eq!(full.facts, Facts::Text(text.clone()), "{name}: in full");
        read += 1;
        largest = largest.max(file.len());
        bytes_in += text.len();
        bytes_out += file.len();
    }
    println!(
        "{read} machines, {bytes_in} bytes of text, {bytes_out} bytes of bundles, the largest {largest}"
    );
    assert!(read > 200);
    assert!(largest < 200_000);
}

#[test]
fn version_1_stays_readable() {
    for (name, kernel, entries) in
        [("v1-text.json", "6.12.0-rc2+", 46), ("v1-live.json", "6.1.0-56-cloud-amd64", 17)]
    {
        let bytes = std::fs::read(testdata("bundles").join(name)).expect(name);
        let machine = parse::machine(name, &bytes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(machine.source, name);
        assert_eq!(machine.kernel.as_deref(), Some(kernel));
        assert_eq!(machine.maps[0].entries.len(), entries, "{name}");
        let bundle = Bundle::read(name, &bytes).expect("it was read above");
        assert_eq!(bundle.tables.len(), if name == "v1-live.json" { 2 } else { 0 });
    }
}
