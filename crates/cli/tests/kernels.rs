//! `check --kernel`, `diagnose` and `matrix --kernel` on the laptop of 2024, as a person would run them.
//!
//! They take Debian's kernels as `lab/fetch.sh` fetches them into `$IDENTMAP_CACHE/kernels`; without them nothing is
//! tested, which is said, unless `IDENTMAP_KERNELS_NEEDED` makes it a failure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Where the table must have lain, and a processor of the reports.
const STORY: &str = "sample:laptop-2024 --cpu amd-sev --system-table 0xcb661018 \
                     --config-table 0xc7a01018+360";
const PAGE: &str = "0x00000000c7a01000";

fn identmap(line: &str) -> Output {
    let words = line.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_identmap")).args(words).output().unwrap()
}

fn json(line: &str) -> (i32, Value) {
    let output = identmap(&format!("{line} --json"));
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{line}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), value)
}

fn kernel(series: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("IDENTMAP_CACHE").map_or(root.join(".cache"), PathBuf::from);
    let path = cache.join("kernels").join(series).join("vmlinuz");
    if path.exists() {
        return Some(path.display().to_string());
    }
    let why = format!("{} is missing (lab/fetch.sh {series})", path.display());
    assert!(std::env::var_os("IDENTMAP_KERNELS_NEEDED").is_none(), "{why}");
    eprintln!("NOT TESTED: {why}");
    None
}

#[test]
fn check_finds_the_fault_and_is_safe_with_the_entry() {
    let Some(kernel) = kernel("6.12") else { return };
    let line = format!("check --kernel {kernel} {STORY} --producer 6.1.79");
    let (status, report) = json(&line);
    assert_eq!((status, report["verdict"].as_str()), (1, Some("unsafe")));
    let fault = &report["findings"][0];
    assert_eq!(
        (fault["id"].as_str(), fault["start"].as_str()),
        (Some("preflight-fault"), Some("0x00000000c7a01018"))
    );
    assert_eq!(report["preflight"][0]["outcome"], "fault");
    assert_eq!(report["policies"]["round-out"]["luck_bytes"], 360, "from what was touched");
    assert_eq!(report["policies"]["exact"]["gap_bytes"], 360);
    let (status, report) = json(&format!("{line} --map {PAGE}+4K"));
    assert_eq!((status, report["verdict"].as_str()), (0, Some("safe")));
    assert_eq!(report["preflight"][0]["outcome"], "reached");
    assert!(report["consumer"].as_str().unwrap().contains("Linux 6.12."));
}

#[test]
fn an_unknown_producer_that_may_fail_is_never_safe() {
    let Some(kernel) = kernel("6.12") else { return };
    let (status, report) = json(&format!("check --kernel {kernel} {STORY}"));
    assert_eq!((status, report["verdict"].as_str()), (3, Some("unknown")));
    let fault =
        report["findings"].as_array().unwrap().iter().find(|f| f["id"] == "preflight-fault");
    let under = fault.unwrap()["under"].as_array().unwrap();
    assert!(!under.is_empty());
    assert!(under.iter().all(|way| way.as_str().unwrap().contains("not requested")), "{under:?}");
}

#[test]
fn what_is_not_known_of_the_machine_is_asked_for() {
    let Some(kernel) = kernel("6.12") else { return };
    for (line, asked) in [
        ("sample:laptop-2024 --cpu amd-sev", "--system-table"),
        ("sample:laptop-2024 --system-table 0xcb661018 --config-table 0xc7a01018+360", "--cpu"),
        ("sample:laptop-2024 --cpu amd-sev --system-table 0xcb661018", "--config-table"),
    ] {
        let (status, report) = json(&format!("check --kernel {kernel} {line} --producer 6.12.30"));
        assert_eq!((status, report["verdict"].as_str()), (3, Some("unknown")), "{line}");
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|f| f["id"] == "preflight-unknown").expect(line);
        assert!(finding["remedy"].as_str().unwrap().contains(asked), "{line}: {finding}");
    }
}

#[test]
fn diagnose_finds_the_one_page_and_its_rule() {
    let Some(kernel) = kernel("7.x") else { return };
    let (status, report) = json(&format!("diagnose {kernel} {STORY} --producer 6.1.79"));
    assert_eq!((status, report["answer"].as_str()), (1, Some("missing")));
    let row = &report["producers"][0];
    let entries = row["entries"].as_array().unwrap();
    assert_eq!((entries.len(), entries[0]["start"].as_str()), (1, Some(PAGE)));
    assert_eq!(row["proved"], true);
    assert_eq!(row["rules"][0]["id"], "efi-config-table");
    assert_eq!(row["rules_make_it_safe"], true);
    for producer in ["6.1.150", "6.12.30"] {
        let (status, report) = json(&format!("diagnose {kernel} {STORY} --producer {producer}"));
        assert_eq!((status, report["answer"].as_str()), (0, Some("nothing-missing")), "{producer}");
    }
    let (status, report) = json(&format!("diagnose {kernel} sample:laptop-2024"));
    assert_eq!((status, report["answer"].as_str()), (3, Some("unknown")));
}

#[test]
fn the_matrix_of_runs_is_the_one_of_the_reports() {
    let (Some(new), Some(old)) = (kernel("6.12"), kernel("5.10")) else { return };
    let (status, report) = json(&format!("matrix --kernel {new} --kernel {old} {STORY}"));
    assert_eq!((status, report["by"].as_str()), (0, Some("preflight")));
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let outcomes: Vec<String> = rows
        .iter()
        .map(|row| {
            let words = row["outcomes"].as_array().unwrap().iter();
            words.map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let expected = ["OK* OK", "FAIL OK", "FAIL OK", "FAIL OK"];
    assert_eq!(outcomes[..4], expected, "configuration table not requested");
    assert!(outcomes[4..].iter().all(|line| line == "OK OK"), "{outcomes:?}");
}

/// What a kernel adds to the JSON of `check` is listed.
#[test]
fn fields_of_runs_are_documented() {
    let Some(kernel) = kernel("6.12") else { return };
    let (_, report) = json(&format!("check --kernel {kernel} {STORY} --producer 6.1.79"));
    let mut printed = BTreeSet::new();
    for (name, list) in
        [("preflight", &report["preflight"]), ("assumptions", &report["assumptions"])]
    {
        printed.insert(format!("{name}[]"));
        fields(&list[0], &format!("{name}[]"), &mut printed);
    }
    let text = include_str!("../../../docs/json.md");
    let section = text.split("\n## ").find(|s| s.starts_with("check --kernel\n")).unwrap();
    let table = section.split("| field |").nth(1).unwrap().lines().skip(2);
    let documented: BTreeSet<String> = table
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(printed, documented);
}

fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match member {
            Value::Array(list) => {
                into.insert(format!("{path}[]"));
                fields(list.first().unwrap_or(&Value::Null), &format!("{path}[]"), into);
            }
            _ => {
                into.insert(path);
            }
        }
    }
}
