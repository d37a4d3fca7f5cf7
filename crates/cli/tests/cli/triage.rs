//! `identmap triage` on machines whose stories are known, and `identmap decode` with and without one.

use std::process::{Command, Output};

use serde_json::Value;

fn identmap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = identmap(&[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{args:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Causes as (id, likelihood), in their order.
fn causes(args: &[&str]) -> Vec<(String, String)> {
    let report = json(&[&["triage"], args].concat());
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap().to_owned();
    let causes = report["causes"].as_array().unwrap().iter();
    causes.map(|cause| (text(cause, "id"), text(cause, "likelihood"))).collect()
}

const SYMPTOMS: [&str; 7] =
    ["firmware-reset", "hang", "dark-but-pings", "old-kernel", "corruption", "panic", "no-dump"];

#[test]
fn the_reset_of_2024_is_the_gap_once_the_facts_are_known() {
    let machine =
        ["sample:laptop-2024", "--producer", "6.7.6", "--consumer", "6.7.6", "--sev", "on"];
    let with = |saw: &str, table: &str| {
        let facts = ["--config-table", table, "--saw", saw];
        causes(&[&machine[..], &facts].concat())[0].clone()
    };
    let is = |id: &str, likelihood: &str| (id.to_owned(), likelihood.to_owned());
    assert_eq!(with("firmware-reset", "0xc8000000-0xc8000167"), is("gap", "likely"));
    // A triple fault is no hang; it is only a possible one.
    assert_eq!(with("hang", "0xc8000000-0xc8000167"), is("gap", "possible"));
    // Who did not see the firmware's screen sees the old kernel.
    assert_eq!(with("old-kernel", "0xc8000000-0xc8000167"), is("reset-unseen", "likely"));
    let mapped = causes(
        &[&machine[..], &["--config-table", "0x40000000-0x40000167", "--saw", "firmware-reset"]]
            .concat(),
    );
    assert!(mapped.contains(&is("gap", "unlikely")), "{mapped:?}");
    assert!(mapped.iter().all(|(_, likelihood)| likelihood != "likely"), "{mapped:?}");
}

#[test]
fn what_must_not_be_reached_is_named_where_there_is_such_memory() {
    let rmp = "testdata/machines/067-amd-epyc-with-sev-snp-rmp-table-not-2-mib-aligned-co.txt";
    assert_eq!(causes(&[rmp, "--saw", "hang"])[0], ("exposure".to_owned(), "likely".to_owned()));
    let ids = causes(&["sample:ec2-t3", "--saw", "hang"]);
    assert!(ids.iter().all(|(id, _)| id != "exposure"), "{ids:?}");
}

#[test]
fn every_machine_and_symptom_gets_causes_worst_first_and_ways_to_see() {
    const ORDER: [&str; 4] = ["likely", "possible", "cannot tell", "unlikely"];
    for machine in ["uv-2019", "laptop-2024", "epyc-crashkernel", "bios-x8sie", "ec2-t3"] {
        let source = format!("sample:{machine}");
        for saw in SYMPTOMS {
            let report = json(&["triage", &source, "--saw", saw]);
            assert_eq!(report["saw"], saw);
            let ranks: Vec<usize> = report["causes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|cause| ORDER.iter().position(|word| cause["likelihood"] == **word).unwrap())
                .collect();
            assert!(!ranks.is_empty() && ranks.is_sorted(), "{machine} {saw}: {ranks:?}");
            let ways: Vec<&str> = report["ways"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|way| way["id"].as_str())
                .collect();
            // EFI's ways only where there is EFI.
            assert_eq!(
                ways.contains(&"efi-pstore"),
                machine != "bios-x8sie" && machine != "ec2-t3",
                "{machine}: {ways:?}"
            );
            assert!(ways.contains(&"serial") && ways.contains(&"netconsole"));
        }
    }
}

#[test]
fn a_bundle_says_after_the_fact_what_the_machine_would_have() {
    let directory = std::env::temp_dir().join(format!("identmap-triage-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let bundle = directory.join("before.json");
    let bundle = bundle.to_str().unwrap();
    let written = identmap(&["capture", "sample:laptop-2024", "-o", bundle]);
    assert!(written.status.success());
    let facts = ["--saw", "firmware-reset"];
    assert_eq!(
        causes(&[&["sample:laptop-2024"], &facts[..]].concat()),
        causes(&[&[bundle], &facts[..]].concat())
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_dump_is_laid_on_the_machine_it_happened_on() {
    let file = "testdata/dumps/kexec-debug-gap.txt";
    let plain = json(&["decode", file]);
    let dump = &plain["dumps"][0];
    assert_eq!(
        (&dump["exception"]["name"], &dump["origin"]),
        (&"#PF".into(), &"kexec-debug".into())
    );
    assert!(dump["addresses"][0]["memory"].is_null());
    let on = json(&["decode", file, "--machine", "sample:laptop-2024", "--producer", "6.7.6"]);
    let fault = &on["dumps"][0]["addresses"][0];
    assert_eq!(fault["memory"]["kind"], "reserved");
    let maps = fault["maps"].as_array().unwrap();
    assert!(maps.iter().all(|map| map["why"] == "not-mapped"), "{maps:?}");
    assert!(maps.iter().all(|map| map["nearest_below"] == "0x00000000c75fffff"), "{maps:?}");
    // From a kernel that rounds out it would have been luck.
    let old = json(&["decode", file, "--machine", "sample:laptop-2024", "--producer", "6.7.5"]);
    let maps = old["dumps"][0]["addresses"][0]["maps"].as_array().unwrap();
    assert!(maps.iter().any(|map| map["why"] == "over-reach" && map["page"] == "1G"), "{maps:?}");
}

#[test]
fn input_without_a_dump_is_said_to_have_none() {
    let none = identmap(&["decode", "README.md"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("nothing in it that can be explained"));
    assert_eq!(identmap(&["decode", "-", "--machine", "-"]).status.code(), Some(2));
    assert_eq!(identmap(&["triage", "sample:uv-2019"]).status.code(), Some(2));
}
