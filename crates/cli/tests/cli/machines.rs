//! What `identmap` says of the machines whose stories are known, as a person would run it.

use serde_json::Value;

use crate::support::identmap;

const MIB: u64 = 1 << 20;

fn json(args: &[&str]) -> Value {
    let output = identmap(&[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{args:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

fn status(args: &[&str]) -> i32 {
    identmap(&[args, &["--quiet"]].concat()).status.code().unwrap()
}

fn hex(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

/// First and last byte of every finding with this id whose `what` contains `part`.
fn places(report: &Value, id: &str, part: &str) -> Vec<(u64, u64)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|f| f["id"] == id && f["what"].as_str().unwrap().contains(part))
        .filter(|f| f["start"].is_string())
        .map(|f| (hex(&f["start"]), hex(&f["end"])))
        .collect()
}

#[test]
fn the_uv_of_2019_halts_under_round_out_only() {
    let report = json(&["check", "sample:uv-2019"]);
    let tails = places(&report, "exposure", "UV node");
    assert_eq!(tails.len(), 7);
    assert!(tails.iter().all(|(start, end)| end - start + 1 == 64 * MIB), "{tails:x?}");
    let of = |policy: &str, figure: &str| report["policies"][policy][figure].as_u64().unwrap();
    assert_eq!(of("round-out", "exposure_bytes"), 448 * MIB);
    assert!(of("round-out", "reserved_bytes") > 448 * MIB, "and the low ranges it swings over");
    assert_eq!(of("exact", "exposure_bytes"), 0);
    assert!(of("exact", "reserved_bytes") > 0, "2 MiB rounding reaches reserved bytes");
    assert_eq!(of("exact-on-uv", "exposure_bytes"), 0);
    assert_eq!(of("guarded", "exposure_bytes"), 0);
    assert_eq!(of("guarded", "reserved_bytes"), 0, "not one byte");
    assert_eq!(of("round-out", "tables"), 4);

    let exact = json(&["map", "sample:uv-2019", "--policy", "exact"]);
    let exposed = exact["exposed"].as_array().unwrap();
    assert!(!exposed.is_empty());
    assert!(exposed.iter().all(|range| hex(&range["end"]) < 1 << 32), "below 4 GiB only");
}

#[test]
fn a_uv_is_unsafe_from_a_kernel_that_rounds_out() {
    let old = ["check", "sample:uv-2019", "--producer", "6.1.100", "--sev", "off"];
    let with_pages = json(&[&old[..], &["--consumer", "6.12.30"]].concat());
    // Whether 1 GiB pages are in use is not in that log.
    assert_eq!(with_pages["verdict"], "unknown");
    let new = [
        "check",
        "sample:uv-2019",
        "--producer",
        "6.12.30",
        "--sev",
        "off",
        "--consumer",
        "6.12.30",
    ];
    // Nor whether it runs with 5 levels.
    assert_eq!(json(&new)["verdict"], "unknown");
    let new = [&new[..], &["--la57", "off"]].concat();
    assert_eq!(json(&new)["verdict"], "safe");
    assert_eq!(status(&new), 0);
}

#[test]
fn the_nodes_of_2023_end_at_a_gib_and_are_not_reached_over() {
    let report = json(&["check", "sample:uv-2023"]);
    assert_eq!(places(&report, "exposure", "UV node"), []);
    let of = |policy: &str, figure: &str| report["policies"][policy][figure].as_u64().unwrap();
    assert_eq!(of("round-out", "exposure_bytes"), 0);
    assert!(of("round-out", "reserved_bytes") > 0);
    assert_eq!(of("guarded", "reserved_bytes"), 0);
}

const WINDOW: (u64, u64) = (0xc760_0000, 0xcb5f_ffff);

#[test]
fn the_laptop_of_2024_has_a_window_that_only_round_out_maps() {
    let report = json(&["check", "sample:laptop-2024"]);
    assert_eq!(report["verdict"], "unknown", "its configuration table's address was never posted");
    assert!(places(&report, "gap", "configuration table").contains(&WINDOW));
    for (policy, gbpages, mapped) in [
        ("round-out", "on", true),
        ("round-out", "off", false),
        ("exact", "on", false),
        ("exact", "off", false),
    ] {
        let args = [
            "explain",
            "0xc7600000",
            "sample:laptop-2024",
            "--policy",
            policy,
            "--gbpages",
            gbpages,
        ];
        let report = json(&args);
        assert_eq!(report["mapped"], mapped, "{policy} {gbpages}");
        if mapped {
            assert_eq!(report["why"], "over-reach");
        } else {
            let gap = (
                hex(&report["nearest_below"]["end"]) + 1,
                hex(&report["nearest_above"]["start"]) - 1,
            );
            assert_eq!(gap, WINDOW);
        }
    }
}

/// Reported by its owner on 29 March 2024: before the change kexec works and fails with
/// nogbpages; with it, it fails both ways.
#[test]
fn the_matrix_of_the_laptop_is_what_its_owner_reported() {
    let report = json(&["matrix", "sample:laptop-2024", "--consumer", "6.7.6", "--sev", "on"]);
    let tables = report["tables"].as_array().unwrap();
    let supposes_window = |table: &&Value| {
        let mut places = table["place"].as_array().unwrap().iter();
        places.any(|place| (hex(&place["start"]), hex(&place["end"])) == WINDOW)
    };
    let table = tables.iter().find(supposes_window).expect("a table for the window");
    assert_eq!(table["supposed"][0], "EFI configuration table");
    let outcome = |policy: &str, gbpages: bool| {
        let row = table["rows"].as_array().unwrap().iter().find(|row| {
            row["policy"] == policy
                && row["gbpages"] == gbpages
                && row["config_table_requested"] == false
        });
        row.unwrap()["outcomes"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("round-out", true), "OK*");
    assert_eq!(outcome("round-out", false), "FAIL");
    assert_eq!(outcome("exact", true), "FAIL");
    assert_eq!(outcome("exact", false), "FAIL");
}

#[test]
fn with_the_missing_fact_the_verdict_is_plain() {
    let base =
        ["check", "sample:laptop-2024", "--consumer", "6.7.6", "--sev", "on", "--la57", "off"];
    let with = |more: &[&str]| {
        let args = [&base[..], more].concat();
        (json(&args)["verdict"].as_str().unwrap().to_owned(), status(&args))
    };
    let table = "0xc8000000-0xc8000167";
    let verdict = |text: &str, status| (text.to_owned(), status);
    assert_eq!(with(&["--producer", "6.7.6", "--config-table", table]), verdict("unsafe", 1));
    assert_eq!(
        with(&["--producer", "6.7.5", "--config-table", table, "--nogbpages"]),
        verdict("unsafe", 1)
    );
    assert_eq!(with(&["--producer", "6.12.30", "--config-table", table]), verdict("safe", 0));
    // Inside the 2 MiB that RAM begins: mapped by luck, and said so.
    let lucky = ["--producer", "6.7.6", "--config-table", "0xc7500000-0xc7500167"];
    assert_eq!(with(&lucky), verdict("safe", 0));
    let report = json(&[&base[..], &lucky].concat());
    assert_eq!(places(&report, "luck", "configuration table"), [(0xc750_0000, 0xc750_0167)]);
    assert_eq!(status(&[&base[..], &lucky, &["--fail-on", "warning"]].concat()), 1);
    // Without SEV in CPUID a kernel since 6.5 does not look.
    let no_sev = [
        "check",
        "sample:laptop-2024",
        "--consumer",
        "6.7.6",
        "--sev",
        "off",
        "--producer",
        "6.7.6",
    ];
    assert_eq!(json(&no_sev)["verdict"], "safe");
}

#[test]
fn every_sample_gets_a_verdict_and_every_command_an_answer() {
    let listed = identmap(&["check", "sample:"]);
    assert_eq!(listed.status.code(), Some(2));
    let text = String::from_utf8(listed.stderr).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("sample:"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 8, "{text}");
    for name in names {
        let source = format!("sample:{name}");
        for command in ["check", "map", "matrix", "diff"] {
            let output = identmap(&[command, &source]);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1 | 3)), "{command} {name}: {code:?}");
            assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{command} {name}");
        }
    }
}

#[test]
fn the_live_machine_gets_a_verdict_or_an_honest_unknown() {
    let report = json(&["check"]);
    assert_eq!(report["schema"], "identmap.check/1");
    let verdict = report["verdict"].as_str().unwrap().to_owned();
    let expected = match verdict.as_str() {
        "safe" => 0,
        "unsafe" => 1,
        "unknown" => 3,
        other => panic!("{other}"),
    };
    assert_eq!(status(&["check"]), expected);
}

#[test]
fn raw_tables_are_written_whole_or_not_at_all() {
    let folder = std::env::temp_dir().join(format!("identmap-raw-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tables");
    let path = file.to_str().unwrap();
    let request = ["map", "--request", "0x100000+1G", "--raw", path, "--base"];
    assert_eq!(status(&[&request[..], &["0x8000001"]].concat()), 2, "unaligned base");
    assert!(!file.exists());
    assert_eq!(status(&[&request[..], &["0x8000000"]].concat()), 0);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(
        bytes.len() as u64,
        json(&["map", "--request", "0x100000+1G"])["table_bytes"].as_u64().unwrap()
    );
    assert_eq!(&bytes[..8], &0x800_1063_u64.to_le_bytes(), "the root's first entry");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
    std::fs::remove_dir_all(&folder).unwrap();
}
