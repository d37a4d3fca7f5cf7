//! Every map of a real machine in `testdata/machines` is read, and compared with what its index says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use identmap::PhysRange;
use identmap_machine::parse::{self, ParseError};
use identmap_machine::{Machine, MapOrigin, MemType};

/// Files that cannot be read, with the line that is at fault: a mail program broke their lines before the
/// type, and the type is gone.
const REFUSED: [(&str, usize); 3] = [("152", 7), ("246", 8), ("247", 8)];

/// Where our number of entries differs from the index's, and why.
const ENTRIES: [(&str, usize, &str); 7] = [
    ("062", 22, "the index has no word for lines with `[-old-] {+new+}`"),
    ("107", 21, "the index counts `[gap …]` lines"),
    ("141", 11, "the index counts `[gap …]` lines"),
    ("150", 21, "the index counts `[gap …]` lines"),
    ("194", 19, "the index counts `[gap …]` lines"),
    (
        "195",
        21,
        "the index missed the entries that the console printed late, inside other messages",
    ),
    ("063", 16, "the second of two boots is used; both have 16 entries"),
];

/// Where our usable bytes (in MiB) differ from the index's, and why.
const RAM: [(&str, u64, &str); 9] = [
    ("062", 32646, "the index has no word for lines with `[-old-] {+new+}`"),
    ("064", 4095, "the index looks at e820 and iomem only, this has kexec's MEMORY RANGES"),
    ("095", 6144, "the index adds up the four listings of /proc/iomem"),
    ("097", 523_934, "the index adds up both listings of /proc/iomem"),
    ("195", 31959, "the index missed the entries that the console printed late"),
    ("265", 16124, "the index adds up the three listings of /proc/iomem"),
    ("266", 98210, "the index adds up both listings of /proc/iomem"),
    ("271", 32541, "the index missed /proc/iomem behind tabs"),
    ("272", 32602, "the index missed /proc/iomem behind tabs"),
];

/// Files whose text does not hold the release that the index knows.
const KERNEL: [(&str, &str); 3] = [
    ("lap", "named in the mail's words"),
    ("090", "named in the mail's words"),
    ("101", "named in the mail's words"),
];

struct Row {
    file: String,
    ram: String,
    entries: String,
    efi_addresses: bool,
    kernel: String,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/machines")
}

fn index() -> Vec<Row> {
    let text = std::fs::read_to_string(directory().join("INDEX.tsv")).expect("INDEX.tsv");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        Row {
            file: cells[0].to_owned(),
            ram: cells[3].to_owned(),
            entries: cells[4].to_owned(),
            efi_addresses: cells[5] == "y",
            kernel: cells[6].to_owned(),
        }
    };
    text.lines().skip(1).map(row).collect()
}

fn read(file: &str) -> Result<Machine, ParseError> {
    let bytes = std::fs::read(directory().join(file)).expect(file);
    parse::machine(file, &bytes)
}

/// Usable bytes of the first map, or of the top level of `/proc/iomem`.
fn usable(machine: &Machine) -> u64 {
    if let Some(map) = machine.maps.first() {
        let usable = map.entries.iter().filter(|e| e.kind == MemType::Usable);
        usable.filter_map(|e| e.range().ok()).map(PhysRange::len).sum()
    } else {
        let top = machine.iomem.iter().filter(|e| e.depth == 0 && e.name == "System RAM");
        top.map(|e| e.range.len()).sum()
    }
}

#[test]
fn every_machine_reads_or_fails_with_a_line_to_act_on() {
    let mut refused = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let index = index();
    for row in &index {
        match read(&row.file) {
            Ok(machine) => {
                *counts.entry("read").or_default() += 1;
                let mut count =
                    |what, is: bool| *counts.entry(what).or_default() += usize::from(is);
                count(
                    "with a BIOS-e820 map",
                    machine.maps.iter().any(|m| m.origin == MapOrigin::BiosE820),
                );
                count("with /proc/iomem", !machine.iomem.is_empty());
                count("with EFI tables", !machine.efi.tables.is_empty());
                count("with an EFI memory map", !machine.efi.memory_map.is_empty());
                count("with ACPI tables", !machine.acpi_tables.is_empty());
                count("with a processor's maker", machine.cpu.vendor.is_some());
                count("with a kernel release", machine.kernel.is_some());
                count("with notes", !machine.notes.is_empty());
                for note in machine.notes.iter().filter(|n| n.unreadable) {
                    println!("{}:{}: {}", row.file, note.line, note.text);
                }
            }
            Err(error) => {
                println!("{error}");
                let shown = error.to_string();
                assert!(
                    error.line > 0 && shown.contains('^') && shown.contains("expected"),
                    "{shown}"
                );
                refused.push((row.file[..3].to_owned(), error.line));
            }
        }
    }
    println!("{} files, {} refused", index.len(), refused.len());
    for (what, count) in &counts {
        println!("{count:4} {what}");
    }
    let expected: Vec<(String, usize)> = REFUSED.iter().map(|&(f, l)| (f.to_owned(), l)).collect();
    assert_eq!(refused, expected);
    assert_eq!(counts["read"] + REFUSED.len(), index.len());
}

#[test]
fn every_file_is_in_the_index() {
    let listed: Vec<String> = index().into_iter().map(|r| r.file).collect();
    for entry in std::fs::read_dir(directory()).expect("testdata/machines") {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
        if Path::new(&name).extension().is_some_and(|e| e == "txt") {
            assert!(listed.contains(&name), "{name} is not in INDEX.tsv");
        }
    }
}

#[test]
fn entries_ram_and_addresses_are_those_of_the_index() {
    let mut compared = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    for row in index() {
        let Ok(machine) = read(&row.file) else { continue };
        let number = &row.file[..3];
        if let Ok(listed) = row.entries.parse::<usize>() {
            let ours = machine.maps.first().map_or(0, |m| m.entries.len());
            let exception = ENTRIES.iter().find(|e| e.0 == number).map(|e| e.1);
            compared.0 += 1;
            if ours != exception.unwrap_or(listed) {
                wrong.push(format!("{}: {ours} entries, the index says {listed}", row.file));
            }
        }
        let (value, unit) = row.ram.trim_start_matches('>').split_once(' ').unwrap_or(("", ""));
        let scale = match unit {
            "TiB" => 40,
            "GiB" => 30,
            "MiB" => 20,
            _ => 0,
        };
        if let (Ok(listed), true) = (value.parse::<f64>(), scale > 0) {
            #[allow(clippy::cast_precision_loss, reason = "compared with one decimal")]
            let ours = usable(&machine) as f64 / (1u64 << scale) as f64;
            compared.1 += 1;
            // The index has one decimal (whole MiB, halves of TiB).
            let slack = if unit == "TiB" {
                0.05 * listed
            } else if unit == "MiB" {
                1.0
            } else {
                0.1
            };
            let exception = RAM.iter().find(|e| e.0 == number).map(|e| e.1);
            let good = match exception {
                Some(mib) => usable(&machine) >> 20 == mib,
                None => (ours - listed).abs() <= slack,
            };
            if !good {
                wrong.push(format!(
                    "{}: {} MiB, the index says {listed} {unit}",
                    row.file,
                    usable(&machine) >> 20
                ));
            }
        }
        compared.2 += 1;
        if row.efi_addresses == machine.efi.tables.is_empty() {
            wrong.push(format!(
                "{}: {} EFI tables, index {}",
                row.file,
                machine.efi.tables.len(),
                row.efi_addresses
            ));
        }
        if row.kernel != "?" && !KERNEL.iter().any(|e| e.0 == number) {
            compared.3 += 1;
            if machine.kernel.as_deref() != Some(&row.kernel) {
                wrong.push(format!(
                    "{}: kernel {:?}, index {}",
                    row.file, machine.kernel, row.kernel
                ));
            }
        }
    }
    println!(
        "compared: {} entry counts, {} sizes, {} EFI, {} kernels",
        compared.0, compared.1, compared.2, compared.3
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
