//! docs/json.md lists the fields that the commands print, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use identmap_machine::bundle::{Bundle, Facts};
use identmap_machine::live::Content;
use made_kernel::BzImage;
use serde_json::Value;

use crate::samples::SAMPLES;

#[test]
fn check_fields_are_documented() {
    let samples = SAMPLES.iter().map(|name| vec!["check".into(), format!("sample:{name}")]);
    let known = words("check sample:laptop-2024 --sev on --uv off --producer 6.7.6 --nogbpages");
    assert_fields_are_documented("check", samples.chain([known]));
}

#[test]
fn map_fields_are_documented() {
    let lines = ["map --request 0x100000+4K", "map --request 1M+4K --policy exact --forbid 8K+4K"];
    assert_fields_are_documented("map", lines.map(words));
}

#[test]
fn explain_fields_are_documented() {
    let lines = [
        "explain 0x100000 sample:laptop-2024",
        "explain 0xc7a01000 sample:laptop-2024 --policy exact",
        "explain 0xc7a01000 sample:laptop-2024 --producer 6.7.5",
    ];
    assert_fields_are_documented("explain", lines.map(words));
}

#[test]
fn matrix_fields_are_documented() {
    assert_fields_are_documented("matrix", [words("matrix sample:laptop-2024")]);
}

#[test]
fn diagnose_fields_are_documented() {
    let known = "diagnose sample:laptop-2024 --sev on --producer 6.1.79 --consumer 6.12.30 \
                 --system-table 0xcb661018 --config-table 0xc7a01018+360";
    assert_fields_are_documented("diagnose", [words("diagnose sample:laptop-2024"), words(known)]);
}

#[test]
fn diff_fields_are_documented() {
    let pairs = SAMPLES.windows(2).map(|pair| {
        vec!["diff".into(), format!("sample:{}", pair[0]), format!("sample:{}", pair[1])]
    });
    let own = SAMPLES.iter().map(|name| vec!["diff".into(), format!("sample:{name}")]);
    assert_fields_are_documented("diff", pairs.chain(own));
}

#[test]
fn ranges_fields_are_documented() {
    assert_fields_are_documented("ranges", [words("ranges sample:laptop-2024")]);
}

#[test]
fn known_fields_are_documented() {
    assert_fields_are_documented("known", [words("known"), words("known --consumer 6.12.30")]);
}

#[test]
fn needs_fields_are_documented() {
    let lines = SAMPLES.iter().map(|name| words(&format!("needs sample:{name} --all")));
    let known =
        "needs sample:laptop-2024 --producer 6.7.6 --consumer 6.7.6 --config-table 0xc7a01018+360";
    assert_fields_are_documented("needs", lines.chain([words(known)]));
}

#[test]
fn tables_fields_are_documented() {
    let files = crate::kernel::Files::new("json-fields");
    let [dump, kallsyms, btf, odd] =
        ["dump.elf", "kallsyms", "btf", "odd.raw"].map(|n| files.path(n));
    let lines = [
        format!("tables {dump} --kallsyms {kallsyms} --btf {btf} --at 0x1000"),
        format!("tables {dump} --kallsyms {btf} --btf {btf}"),
        format!("tables {odd} --base 0x1000 --cr3 0x1000 --encryption-bit 51"),
        format!("tables {}", files.path("user-mode.elf")),
    ];
    assert_fields_are_documented("tables", lines.iter().map(|line| words(line)));
}

#[test]
fn fleet_fields_are_documented() {
    // A line of JSON each: of one machine a line alone is the whole output.
    let samples = SAMPLES.iter().map(|name| vec!["fleet".into(), format!("sample:{name}")]);
    assert_fields_are_documented("fleet", samples.chain([words("fleet /nonexistent")]));
}

#[test]
fn triage_fields_are_documented() {
    let lines = SAMPLES.iter().flat_map(|name| {
        ["firmware-reset", "no-dump"].map(|saw| words(&format!("triage sample:{name} --saw {saw}")))
    });
    assert_fields_are_documented("triage", lines);
}

#[test]
fn decode_fields_are_documented() {
    let dumps = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/dumps");
    let odd = std::env::temp_dir().join(format!("identmap-odd-{}.txt", std::process::id()));
    // A bit of the error code that means nothing; a fault in a segment that kexec -d shows.
    std::fs::write(&odd, "Exc:000000000000000e\nErr:0000000000000f00\ncr2:0000000000100000\n")
        .unwrap();
    let machine = std::env::temp_dir().join(format!("identmap-odd-{}.log", std::process::id()));
    let log = "BIOS-e820: [mem 0x0000000000000000-0x000000003fffffff] usable\nkexec_load: entry = 0x100 flags = 0x3e0000\n\
               nr_segments = 1\nsegment[0].buf   = 0x1000\nsegment[0].bufsz = 0x1000\nsegment[0].mem   = 0x100000\n\
               segment[0].memsz = 0x1000\n";
    std::fs::write(&machine, log).unwrap();
    let lines = [
        format!("decode {dumps}/forms.txt --machine sample:laptop-2024"),
        format!("decode {dumps}/kexec-debug-gap.txt --machine sample:laptop-2024"),
        format!("decode {} --machine {}", odd.display(), machine.display()),
        format!("decode {dumps}/../errors/kexec-load.txt"),
    ];
    assert_fields_are_documented("decode", lines.iter().map(|line| words(line)));
    std::fs::remove_file(&odd).unwrap();
    std::fs::remove_file(&machine).unwrap();
}

#[test]
fn capture_fields_are_documented() {
    let live = identmap_machine::live::Inputs {
        iomem: Content::Unreadable("Permission denied".to_owned()),
        kexec_loaded: Content::Absent,
        cmdline: Content::Bytes(b"root=/dev/sda1".to_vec()),
        ..Default::default()
    };
    let bundle = Bundle::new(Facts::Live(Box::new(live))).write().expect("small");
    let file = std::env::temp_dir().join(format!("identmap-fields-{}.json", std::process::id()));
    std::fs::write(&file, bundle).expect("a temporary file");
    let words = words(&format!("capture --show {}", file.display()));
    assert_fields_are_documented("capture", [words]);
    std::fs::remove_file(&file).expect("it is there");
}

#[test]
fn load_fields_are_documented() {
    let file = std::env::temp_dir().join(format!("identmap-fields-{}", std::process::id()));
    let kernel = BzImage { version: "6.1.76 (build@host) #1", ..BzImage::default() };
    std::fs::write(&file, kernel.bytes()).expect("a temporary file");
    let line = |rest: &str| words(&format!("load {} {rest}", file.display()));
    let laptop = "--source sample:laptop-2024 --levels 4 --producer 6.7.6";
    let lines = [
        line("--source sample:bios-x8sie --levels 4"),
        line(laptop),
        line("--source sample:uv-2019 --levels 4 --policy round-out --map 0x2f80000000+4K"),
    ];
    assert_fields_are_documented("load", lines);
    std::fs::remove_file(&file).expect("it is there");
}

#[test]
fn status_fields_are_documented() {
    assert_fields_are_documented("status", [words("status")]);
}

/// By the source: whatever is found has its id in the table.
#[test]
fn every_finding_has_its_id_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join("docs/json.md")).unwrap();
    let mut folders =
        ["audit", "cli", "preflight"].map(|c| root.join("crates").join(c).join("src")).to_vec();
    let mut met = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let source = source.split("mod tests {").next().unwrap();
            for call in ["Finding::new(", "doubt(", "unknown("] {
                for (at, _) in source.match_indices(call) {
                    let rest = source[at + call.len()..].trim_start();
                    let id = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
                    met.extend(id.map(str::to_owned));
                }
            }
        }
    }
    assert!(met.len() > 30, "{met:?}");
    for id in met {
        assert!(text.contains(&format!("\n| `{id}` |")), "{id}");
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// What the lines print together must be what the section lists, field for field.
fn assert_fields_are_documented(command: &str, lines: impl IntoIterator<Item = Vec<String>>) {
    let mut printed = BTreeSet::new();
    for line in lines {
        let output = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(&line)
            .arg("--json")
            .output()
            .expect("the binary runs");
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("identmap {}: {e}", line.join(" ")));
        assert_eq!(value["schema"], format!("identmap.{command}/1"));
        collect(&value, "", &mut printed);
    }
    let documented = documented(command);
    let missing: Vec<_> = printed.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/json.md, {command}: does not list {missing:?}");
    let gone: Vec<_> = documented.difference(&printed).collect();
    assert!(gone.is_empty(), "docs/json.md, {command}: lists, but nothing printed {gone:?}");
}

/// The paths of all values below `value`: `a.b` for members, `a[]` for elements.
fn collect(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let is_policy = path == "policies";
                let name = match path {
                    "policies" => "NAME",
                    "findings" => "ID",
                    _ => name,
                };
                let below =
                    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                // A member that only groups others is listed where it may be missing as a whole.
                if !member.is_object() || is_policy || OPTIONAL_GROUPS.contains(&below.as_str()) {
                    into.insert(if member.is_array() {
                        format!("{below}[]")
                    } else {
                        below.clone()
                    });
                }
                collect(member, &below, into);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                collect(element, &format!("{path}[]"), into);
            }
        }
        _ => {}
    }
}

const OPTIONAL_GROUPS: [&str; 10] = [
    "leaf",
    "made_by",
    "nearest_below",
    "nearest_above",
    "image",
    "walk",
    "dumps[].exception",
    "dumps[].error",
    "dumps[].addresses[].memory",
    "dumps[].addresses[].segment",
];

/// The first column of the table in the command's section.
fn documented(command: &str) -> BTreeSet<String> {
    let text = include_str!("../../../../docs/json.md");
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(&format!("{command}\n")))
        .expect("every command has a section");
    let table = section.split("| field |").nth(1).expect("a table of fields");
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).expect("a field").to_owned())
        .collect()
}
