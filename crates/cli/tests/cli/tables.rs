//! `identmap tables` on core files, raw images and pieces; and what it refuses.

use std::process::{Command, Output};

use serde_json::Value;

use crate::kernel::Files;
use crate::kernel::made::{IMAGE, OWN_ROOT, RAM, TABLES};

fn identmap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_identmap")).arg("tables").args(args).output().unwrap()
}

fn json(args: &[&str], status: i32) -> Value {
    let output = identmap(&[args, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(args: &[&str]) -> String {
    let output = identmap(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The runs as the maker of the kernel planned them.
fn planned(files: &Files) -> Vec<(String, String, u64)> {
    let run = |run: &identmap::Run| {
        let (start, last) = (run.range().start().get(), run.range().last().get());
        (format!("{start:#018x}"), format!("{last:#018x}"), run.count())
    };
    files.kernel.runs.iter().map(run).collect()
}

fn runs(value: &Value) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = value["runs"].as_array().unwrap().iter();
    runs.map(|run| (text(&run["start"]), text(&run["end"]), run["count"].as_u64().unwrap()))
        .collect()
}

#[test]
fn the_loaded_image_is_read_out_of_core_files_of_both_kinds() {
    let files = Files::new("tables-image");
    for core in ["dump.elf", "kcore.elf"] {
        let (core, kallsyms, btf) = (files.path(core), files.path("kallsyms"), files.path("btf"));
        let line = [&core, "--kallsyms", &kallsyms, "--btf", &btf];
        let value = json(&line, 0);
        assert_eq!(runs(&value), planned(&files));
        assert_eq!(value["root"], format!("{TABLES:#018x}"));
        assert_eq!(value["image"]["root_in"], "arch.pgd");
        assert_eq!(value["complete"], true);
        assert_eq!(value["mapped_bytes"], value["identity_bytes"]);
        let said = refusal(&[&line[..], &["-p"]].concat());
        assert!(said.contains("no crash image is loaded"), "{said}");
    }
}

#[test]
fn what_is_lost_is_told_and_the_status_is_3() {
    let files = Files::new("tables-lost");
    let (dump, btf, kallsyms) = (files.path("dump.elf"), files.path("btf"), files.path("kallsyms"));
    let zeros = files.kernel.kallsyms.lines().map(|line| format!("{:016}{}\n", 0, &line[16..]));
    files.write("hidden", zeros.collect::<String>().as_bytes());
    let hidden = files.path("hidden");
    let value = json(&[&dump, "--kallsyms", &hidden, "--btf", &btf], 3);
    assert_eq!(value["complete"], false);
    assert!(value["lost"][0].as_str().unwrap().contains("kptr_restrict"), "{value}");
    assert!(value.get("runs").is_none(), "nothing is claimed");
    let value = json(&[&dump, "--kallsyms", &hidden, "--btf", &hidden], 3);
    assert_eq!(value["lost"].as_array().unwrap().len(), 2, "all that is wrong at once");
    // The file ends within the tables.
    let whole = files.kernel.kcore();
    files.write("cut.elf", &whole[..whole.len() - (RAM - TABLES as usize) + 0x1000]);
    let cut = files.path("cut.elf");
    let value = json(&[&cut, "--cr3", "0x420000"], 3);
    assert_eq!(value["complete"], false);
    assert!(!value["unreadable"].as_array().unwrap().is_empty());
    let text = identmap(&[&cut, "--kallsyms", &kallsyms, "--btf", &btf]);
    assert_eq!(text.status.code(), Some(3));
}

#[test]
fn the_kernels_own_tables_are_found_by_the_registers_in_the_notes() {
    let files = Files::new("tables-cr3");
    let dump = files.path("dump.elf");
    let value = json(&[&dump, "--at", &format!("{:#x}", IMAGE + 0x1010)], 0);
    assert_eq!(value["root"], format!("{OWN_ROOT:#018x}"));
    assert_eq!(value["levels_from"], "CR4");
    assert_eq!(value["walk"]["phys"], "0x0000000000201010");
    assert_eq!(value["walk"]["page"], "2M");
    assert_eq!(value["identity_bytes"], 0);
    let said = refusal(&[&dump, "--cpu", "1"]);
    assert!(said.contains("CR3 of 1 processors"), "{said}");
    let value = json(&[&dump, "--cr3", "0x42001f"], 0);
    assert_eq!(runs(&value), planned(&files), "flags of CR3 are passed over");
}

#[test]
fn raw_images_and_pieces_give_what_the_core_file_does() {
    let files = Files::new("tables-raw");
    let tables = &files.kernel.ram[TABLES as usize..][..0x8000];
    files.write("tables.raw", tables);
    files.write("low", &tables[..0x1800]);
    files.write("high", &tables[0x1800..]);
    let raw = files.path("tables.raw");
    let value = json(&[&raw, "--base", "0x420000", "--cr3", "0x420000"], 0);
    assert_eq!(runs(&value), planned(&files));
    assert_eq!(value["levels_from"], "supposed");
    let (low, high) = (files.path("low"), files.path("high"));
    let (low, high) = (format!("{low}@0x420000"), format!("{high}@0x421800"));
    let value = json(&["--piece", &high, "--piece", &low, "--cr3", "0x420000"], 0);
    assert_eq!(runs(&value), planned(&files));
    let value = json(&["--piece", &low, "--cr3", "0x420000"], 3);
    assert_eq!(value["complete"], false);
    let said = refusal(&["--piece", &low, "--piece", &low, "--cr3", "0x420000"]);
    assert!(said.contains("two pieces hold"), "{said}");
}

#[test]
fn oddities_are_listed_one_by_one() {
    let files = Files::new("tables-odd");
    let odd = files.path("odd.raw");
    let line = [&odd, "--base", "0x1000", "--cr3", "0x1000"];
    let value = json(&line, 3);
    for (kind, virt) in [("shared", 1_u64), ("unreadable", 2), ("reserved", 3)] {
        let list = value[kind].as_array().unwrap();
        assert_eq!(list.len(), 1, "{kind}");
        assert_eq!(list[0]["virt"], format!("{:#018x}", virt << 39), "{kind}");
    }
    let text = identmap(&line);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("not everything was read"), "{text}");
    for at in ["0x10000000000", "0x18000000000", "0x8000000000000", "0x20000000000"] {
        let value = json(&[&line[..], &["--at", at]].concat(), 3);
        let ends = ["unreadable", "reserved", "not-canonical", "not-present"];
        assert!(ends.contains(&value["walk"]["end"].as_str().unwrap()), "{value}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_do() {
    let files = Files::new("tables-refused");
    files.write("empty", b"");
    files.write("kdump", &[&b"KDUMP   "[..], &[0; 100]].concat());
    files.write("flat", &[&b"makedumpfile\0\0\0\0"[..], &[0; 100]].concat());
    files.write("program", &[&b"\x7fELF\x02\x01\x01"[..], &[0; 100]].concat());
    let (dump, odd) = (files.path("dump.elf"), files.path("odd.raw"));
    let (empty, user) = (files.path("empty"), files.path("user-mode.elf"));
    let cases: &[(&[&str], &str)] = &[
        (&["/nonexistent"], "No such file"),
        (&[&odd], "--base"),
        (&[&odd, "--base", "0x1000"], "--cr3"),
        (&[&empty, "--base", "0", "--cr3", "0"], "empty"),
        (&[&odd, "--base", "0x10000000000000", "--cr3", "0"], "52 bits"),
        (&[&dump, "--base", "0"], "ELF core file"),
        (&[&files.path("kdump")], "makedumpfile -E"),
        (&[&files.path("flat")], "flattened"),
        (&[&files.path("program")], "not a core file"),
        (&[&dump, "--live"], "cannot be used"),
        (&["--piece", "x"], "FILE@ADDR"),
        (&["--piece", "/nonexistent@0", "--cr3", "0"], "No such file"),
        (&["--cr3", "0"], "needs a FILE"),
        (&[&dump, "--kallsyms", &odd], "--btf"),
        (&[&dump, "--at", "12g"], "64 bits"),
        (&[&dump, "--levels", "3"], "--levels"),
        (&[&dump, "--encryption-bit", "12"], "--encryption-bit"),
    ];
    for (args, expected) in cases {
        let said = refusal(args);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let value = json(&[&user], 3);
    assert!(value["notes"][0].as_str().unwrap().contains("user mode"), "{value}");
}
