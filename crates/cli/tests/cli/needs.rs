//! `identmap needs`: nothing is left out, and it agrees with `check`.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::samples::SAMPLES;

/// Standard output and exit status.
fn identmap(words: &str) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(words.split_whitespace())
        .output()
        .unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

fn needs(words: &str) -> (Vec<Value>, i32) {
    let (text, status) = identmap(&format!("needs --json {words}"));
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{words}: {e}"));
    (json["needs"].as_array().unwrap().clone(), status)
}

const LAPTOP: &str = "sample:laptop-2024 --system-table 0xcb661018 --config-table 0xc7a01018+360";

/// What Linux of each release makes of the table that 2024 was about.
#[test]
fn the_configuration_table_fares_as_the_story_says() {
    for (how, mapped, status) in [
        ("--sev on --producer 6.7.6 --consumer 6.7.6", "no", 1),
        ("--sev on --producer 6.7.5 --consumer 6.7.6", "depends", 3),
        ("--sev on --producer 6.7.5 --consumer 6.7.6 --nogbpages", "no", 1),
        ("--sev on --producer 6.12.30 --consumer 6.7.6", "requested", 3),
        ("--sev on --la57 off --producer 6.12.30 --consumer 6.7.6", "requested", 0),
        ("--producer 6.7.6 --consumer 6.7.6", "no", 3),
    ] {
        let (all, code) = needs(&format!("{LAPTOP} {how}"));
        let table = all.iter().find(|need| need["rule"] == "efi-config-table").unwrap();
        assert_eq!((table["mapped"].as_str(), code), (Some(mapped), status), "{how}");
        assert_eq!(table["needed"], if how.contains("--sev") { "yes" } else { "if" }, "{how}");
        assert_eq!(table["ranges"][0]["start"], "0x00000000c7a01018");
        assert_eq!(table["since"], "5.19-rc1");
        assert!(table["requested_by"].as_str().unwrap().starts_with("6.1.113, 6.6.55"));
    }
    // Where producers differ, each is told, with the leaf and what made it.
    let (all, _) = needs(&format!("{LAPTOP} --sev on --producer 6.7.5 --consumer 6.7.6"));
    let table = all.iter().find(|need| need["rule"] == "efi-config-table").unwrap();
    let luck = table["under"].as_array().unwrap().iter().find(|u| u["mapped"] == "luck").unwrap();
    assert_eq!(luck["leaf"]["start"], "0x00000000c0000000");
    assert_eq!(luck["made_by"], "RAM, or the first MiB");
    // What is not needed is not there; with --all it is, and says so.
    let old = format!("{LAPTOP} --consumer 5.10.200");
    let of = |all: &[Value]| all.iter().find(|n| n["rule"] == "efi-config-table").cloned();
    assert_eq!(of(&needs(&old).0), None);
    assert_eq!(of(&needs(&format!("{old} --all")).0).unwrap()["needed"], "no");
}

#[test]
fn no_rule_is_left_out_and_the_order_is_that_of_addresses() {
    let mut rules = BTreeSet::new();
    for sample in SAMPLES {
        for how in ["", "--consumer 5.4.100", "--consumer 6.1.10", "--consumer 6.12.30", "-p"] {
            let line = format!("sample:{sample} {how}");
            let (all, _) = needs(&format!("{line} --all"));
            let own: BTreeSet<String> =
                all.iter().map(|need| need["rule"].as_str().unwrap().to_owned()).collect();
            assert_eq!(own.len(), 8, "{line}: {own:?}");
            rules.extend(own);
            let rank = |need: &Value| match need["place"].as_str() {
                Some("unknown") => (1, String::new()),
                None => (2, String::new()),
                Some(_) => (0, need["ranges"][0]["start"].as_str().unwrap().to_owned()),
            };
            assert!(all.is_sorted_by_key(rank), "{line}");
            // One line each; with --each one for each range.
            let lines =
                |more: &str| identmap(&format!("needs {line} --all -n {more}")).0.lines().count();
            assert_eq!(lines(""), all.len(), "{line}");
            let ranges = all.iter().map(|n| n["ranges"].as_array().unwrap().len().max(1));
            assert_eq!(lines("--each"), ranges.sum::<usize>(), "{line}");
        }
    }
    assert_eq!(rules.len(), 8, "{rules:?}");
}

/// The list is no better and no worse than what `check` says of needs.
#[test]
fn it_says_of_needs_what_check_says() {
    let mut met = BTreeSet::new();
    for sample in SAMPLES {
        for how in [
            "--producer 6.7.6 --consumer 6.7.6 --sev on",
            "--producer 6.7.5 --consumer 6.7.6 --sev on --nogbpages",
            "--producer 6.12.30 --consumer 6.7.6 --sev on",
            "--producer 6.7.6 --consumer 5.10.200",
            "--config-table 0xc7a01018+360 --producer 6.7.6 --consumer 6.7.6 --sev on",
            "",
        ] {
            let line = format!("sample:{sample} {how}");
            let check: Value =
                serde_json::from_str(&identmap(&format!("check --json {line}")).0).unwrap();
            let findings = check["findings"].as_array().unwrap();
            let gap = |sure: bool| {
                findings.iter().any(|f| {
                    f["id"] == "gap"
                        && f["severity"] == "error"
                        && (f["confidence"] != "unknown") == sure
                })
            };
            let (all, status) = needs(&line);
            let missing = all.iter().any(|need| need["needed"] == "yes" && need["mapped"] == "no");
            assert_eq!(missing, gap(true), "{line}");
            assert_eq!(status == 1, gap(true), "{line}");
            if check["verdict"] == "unknown" || gap(false) {
                assert_ne!(status, 0, "{line}");
            }
            met.insert(status);
        }
    }
    assert_eq!(met, BTreeSet::from([0, 1, 3]));
}

/// The map is known to be incomplete, and the verdict of `check` is `UNSAFE` for a reason that is not a need: this was 0.
#[test]
fn what_is_not_known_is_not_hidden_by_what_is_unsafe() {
    let text = "SEV-SNP: RMP table physical range [0x0000007ffe800000 - 0x000000807f0fffff]\n\
                BIOS-provided physical RAM map:\n\
                BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
                BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable\n\
                BIOS-e820: [mem 0x0000007ffe800000-0x000000807f0fffff] reserved\n\
                BIOS-e820: [mem 0x000000807f100000-0x000000807f1fefff] usable\n\
                e820: update [mem 0xzz-0x1000] usable ==> reserved\n";
    let path = std::env::temp_dir().join(format!("identmap-needs-{}.txt", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let line = format!("--consumer 5.15.100 {}", path.display());
    let (check, needs) = (identmap(&format!("check {line}")).1, needs(&line).1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((check, needs), (1, 3));
}
