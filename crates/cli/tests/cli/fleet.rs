//! `identmap fleet` over the real maps: the same answer in any order, each as `check` gives it; what
//! cannot be read is reported and the rest judged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Folder, identmap};

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Every real map, by path.
fn machines() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/machines");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|e| e == "txt"));
    texts.map(|path| path.to_str().unwrap().to_owned()).collect()
}

fn damaged(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    let broken = text.replacen("] ACPI", "Q] ACPI", 1);
    assert_ne!(text, broken);
    broken
}

/// Some order that is not sorted.
fn shuffled(files: &[String], stride: usize) -> Vec<&str> {
    assert_ne!(files.len() % stride, 0);
    (0..files.len()).map(|i| files[i * stride % files.len()].as_str()).collect()
}

#[test]
fn the_same_in_any_order_with_a_damaged_file_among_them() {
    let directory = Folder::new("fleet-order");
    let mut files = machines();
    files.sort();
    assert!(files.len() > 150);
    files.push(directory.write("damaged.txt", &damaged(&files[0])));
    // All machines in two formats, some in the others, the unsafe one among them: the order is the same for all.
    let some =
        files.iter().rev().enumerate().filter(|(i, file)| i % 9 == 0 || file.contains("/067-"));
    let some: Vec<String> = some.map(|(_, file)| file.clone()).collect();
    for (format, files) in [
        ("text", &files),
        ("json", &files),
        ("prometheus", &some),
        ("junit", &some),
        ("tap", &some),
    ] {
        let run = |jobs: &str, files: &[&str]| {
            identmap(&[&["fleet", "--format", format, "--jobs", jobs], files].concat())
        };
        let plain: Vec<&str> = files.iter().map(String::as_str).collect();
        let first = run("1", &plain);
        // One of the machines is unsafe by what is known.
        assert_eq!(first.status.code(), Some(1), "{format}");
        for (jobs, stride) in [("1", 7), ("2", 11), ("8", 13)] {
            let again = run(jobs, &shuffled(files, stride));
            assert_eq!(text(&again), text(&first), "{format}, {jobs} jobs");
            assert_eq!(again.status, first.status);
        }
        assert!(text(&first).contains("damaged.txt"), "{format}");
    }
}

#[test]
fn every_machine_fares_as_check_says() {
    let files: Vec<String> = machines().into_iter().step_by(9).collect();
    let args: Vec<&str> = files.iter().map(String::as_str).collect();
    let fleet = identmap(&[&["fleet", "-J"], &args[..]].concat());
    let lines = text(&fleet);
    assert_eq!(lines.lines().count(), files.len());
    for line in lines.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let check = identmap(&["check", "-J", row["source"].as_str().unwrap()]);
        let report: Value = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!(row["verdict"], report["verdict"], "{line}");
        assert_eq!(row["hardware"], report["machine"]["hardware"]);
        let findings = report["findings"].as_array().unwrap();
        let counted: u64 =
            row["findings"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(counted, findings.len() as u64, "{line}");
        for cause in row["causes"].as_array().unwrap() {
            assert!(findings.iter().any(|finding| finding["id"] == *cause), "{line}");
        }
    }
}

#[test]
fn directories_are_searched_and_circles_are_not_walked() {
    let directory = Folder::new("fleet-tree");
    let machine = fs::read_to_string(&machines()[0]).unwrap();
    let names = ["a/one.txt", "a/b/two.log", "a/.hidden", ".git/three.txt"];
    for name in names {
        directory.write(name, &machine);
    }
    let inside = |name: &str| directory.0.join(name);
    std::os::unix::fs::symlink(directory.path(), inside("a/circle")).unwrap();
    std::os::unix::fs::symlink(inside("a/one.txt"), inside("a/link.txt")).unwrap();
    std::os::unix::fs::symlink("/nowhere", inside("a/dangling")).unwrap();
    let made = Command::new("mkfifo").arg(inside("a/pipe")).status().unwrap();
    assert!(made.success());
    let sources = |args: &[&str]| -> Vec<String> {
        let output = identmap(&[&["fleet", "-J"], args].concat());
        let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["source"].to_string();
        text(&output).lines().map(of).collect()
    };
    let all = sources(&[directory.path()]);
    let ends: Vec<&str> = all.iter().map(|source| source.trim_end_matches('"')).collect();
    assert_eq!(ends.len(), 3, "{all:?}");
    assert!(ends[0].ends_with("/a/b/two.log"), "{all:?}");
    assert!(ends[1].ends_with("/a/link.txt"), "{all:?}");
    assert!(ends[2].ends_with("/a/one.txt"), "{all:?}");
    assert_eq!(sources(&["--depth", "2", directory.path()]).len(), 2);
    assert_eq!(identmap(&["fleet", "--depth", "1", directory.path()]).status.code(), Some(2));
    // Named twice, or by their directory too, they are judged once.
    assert_eq!(
        sources(&[directory.path(), directory.path(), inside("a").to_str().unwrap()]).len(),
        3
    );
}

#[test]
fn the_exit_status_is_that_of_the_worst() {
    let directory = Folder::new("fleet-status");
    let damaged = directory.write("damaged.txt", "BIOS-e820: [mem 0xQ-0xffff] usable\n");
    let status = |args: &[&str]| identmap(&[&["fleet", "-q"], args].concat()).status.code();
    let safe = "sample:qemu-ovmf";
    let one = identmap(&["check", "-q", safe, "--consumer", "6.12.30", "--producer", "6.12.30"]);
    let facts = ["--consumer", "6.12.30", "--producer", "6.12.30"];
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(status(&[&facts[..], &[safe]].concat()), Some(0));
    assert_eq!(status(&[&facts[..], &[safe, &damaged]].concat()), Some(3));
    assert_eq!(status(&["sample:laptop-2024"]), Some(3));
    assert_eq!(status(&["sample:laptop-2024", "--fail-on", "info"]), Some(1));
    assert_eq!(status(&["sample:laptop-2024", &damaged, "--fail-on", "never"]), Some(0));
    assert_eq!(
        status(&["sample:epyc-rmp", "/no/such/file"]),
        identmap(&["check", "-q", "sample:epyc-rmp"]).status.code()
    );
    assert_eq!(status(&["--consumer", "six", safe]), Some(2));
}

#[test]
fn a_file_is_replaced_in_one_step_or_not_at_all() {
    let directory = Folder::new("fleet-file");
    let file = directory.write("identmap.prom", "old\n");
    let run = |format: &str, to: &str| {
        identmap(&["fleet", "sample:qemu-ovmf", "--format", format, "-o", to])
    };
    let output = run("prometheus", &file);
    assert!(output.stdout.is_empty());
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.ends_with('\n') && !written.contains("old"), "{written}");
    let samples: Vec<&str> = written.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples.iter().filter(|line| line.starts_with("identmap_machines{")).count(), 4);
    assert!(
        samples
            .iter()
            .any(|line| line.starts_with("identmap_machine_status{source=\"sample:qemu-ovmf\""))
    );
    for line in samples {
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "whoever collects it can read it");
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "nothing is left beside it");
    let lost = run("prometheus", "/no/such/directory/identmap.prom");
    assert_eq!(lost.status.code(), Some(2));
    let mistake = identmap(&["fleet", "--producer", "?", "sample:qemu-ovmf", "-o", &file]);
    assert_eq!(mistake.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
}
