//! Guests with encrypted memory, hosts of such guests, and SME: what a log tells of them, and what follows.

use serde_json::Value;

use crate::support::check_log;

fn check(name: &str, log: &str, args: &[&str]) -> Value {
    check_log(&format!("encryption-{name}"), log, args)
}

/// Severity and confidence of every finding with this id, in order.
fn of(report: &Value, id: &str) -> Vec<String> {
    let all = report["findings"].as_array().unwrap().iter().filter(|f| f["id"] == id);
    let text = |f: &Value, field: &str| f[field].as_str().unwrap().to_owned();
    all.map(|f| format!("{} {}", text(f, "severity"), text(f, "confidence"))).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn shared_memory_of_a_guest_stays_shared_under_old_kernels() {
    let tdx = "Memory Encryption Features active: Intel TDX\n";
    let snp = "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n";
    let sev = "Memory Encryption Features active: AMD SEV\n";
    let old = ["error certain"];
    let maybe = ["warning unknown"];
    for (log, producer, expected) in [
        (tdx, "6.1.190", &old[..]),
        (tdx, "6.9.3", &maybe[..]),
        (tdx, "6.12.117", &NONE[..]),
        (tdx, "7.3.4", &NONE[..]),
        (snp, "6.12.117", &old[..]),
        (snp, "6.18.2", &maybe[..]),
        (snp, "7.2.13", &NONE[..]),
        (sev, "6.1.190", &NONE[..]),
    ] {
        let name = format!("guest-{producer}-{}", log.len());
        let report = check(&name, log, &["--producer", producer]);
        assert_eq!(of(&report, "shared-memory"), expected, "{log}{producer}");
        assert_eq!(of(&report, "encrypted-guest"), ["warning unknown"], "{log}{producer}");
        assert_ne!(report["verdict"], "safe");
    }
    // A crash kernel's own memory was never shared.
    let report = check("guest-panic", tdx, &["--producer", "6.1.190", "--panic"]);
    assert_eq!(of(&report, "shared-memory"), ["warning certain"]);
}

#[test]
fn an_es_guest_and_a_tdx_guest_are_told_apart() {
    let what = |log: &str| {
        let report = check(&format!("kind-{}", log.len()), log, &["--producer", "7.3.4"]);
        let all = report["findings"].as_array().unwrap();
        let guest = all.iter().find(|f| f["id"] == "encrypted-guest").unwrap();
        (guest["what"].as_str().unwrap().to_owned(), guest["why"].as_str().unwrap().to_owned())
    };
    let (es, why) = what("AMD Memory Encryption Features active: SEV SEV-ES\n");
    assert_eq!(es, "an SEV-ES guest");
    assert!(why.contains("processors"), "{why}");
    let (tdx, why) = what("Memory Encryption Features active: Intel TDX\n");
    assert_eq!(tdx, "a TDX guest");
    assert!(!why.contains("C-bit"), "{why}");
}

#[test]
fn unaccepted_memory_needs_both_kernels() {
    let log = "efi: ACPI=0x7f001000 Unaccepted=0x7e000018\n";
    let both = |producer, consumer| {
        let name = format!("unaccepted-{producer}-{consumer}");
        of(
            &check(&name, log, &["--producer", producer, "--consumer", consumer]),
            "unaccepted-memory",
        )
    };
    assert_eq!(both("7.2.13", "6.12.117"), NONE);
    assert_eq!(both("6.12.117", "6.12.117"), ["warning unknown"], "the producer does not accept");
    assert_eq!(both("7.2.13", "6.1.190"), ["warning unknown"], "the consumer takes it for RAM");
    assert_eq!(both("6.12.117", "6.1.190").len(), 2);
    let none = check("unaccepted-none", "efi: ACPI=0x7f001000\n", &["--producer", "6.1.190"]);
    assert_eq!(of(&none, "unaccepted-memory"), NONE);
    let eager = format!("Kernel command line: ro accept_memory=eager\n{log}");
    assert_eq!(of(&check("eager", &eager, &["--producer", "6.12.117"]), "unaccepted-memory"), NONE);
    // The type of memory says it, too.
    let map = "efi: mem00: [Unaccepted| | | | | | | | | | |WB|WT|WC|UC] range=[0x0000000080000000-0x00000000ffffffff] (2048MB)\n";
    assert_eq!(
        of(&check("unaccepted-map", map, &["--producer", "6.12.117"]), "unaccepted-memory").len(),
        2
    );
}

#[test]
fn a_tdx_host_is_told_by_its_module_and_kernel() {
    let platform = "virt/tdx: BIOS enabled: private KeyID range [64, 128)\n";
    let module = format!(
        "{platform}virt/tdx: 1050644 KB allocated for PAMT\nvirt/tdx: TDX-Module initialized\n"
    );
    let tdx = |log: &str, producer| {
        of(
            &check(&format!("tdx-{producer}-{}", log.len()), log, &["--producer", producer]),
            "tdx-host",
        )
    };
    assert_eq!(tdx(platform, "6.12.117"), ["info certain"], "it has no TDX, if it can kexec");
    // That the later line is not there does not say that the module is not running.
    for producer in ["6.16.3", "7.3.4"] {
        assert_eq!(tdx(platform, producer), ["warning unknown"], "{producer}: the log may be cut");
    }
    assert_eq!(tdx("virt/tdx: TDX not supported by the host platform\n", "7.3.4"), NONE);
    for producer in ["6.12.117", "6.18.2", "7.3.4"] {
        assert_eq!(
            tdx(&module, producer),
            ["warning unknown"],
            "{producer}: the erratum is not known"
        );
    }
}

#[test]
fn an_snp_host_needs_firmware_that_stands_a_kexec() {
    let snp = |version: &str| {
        let log = format!("ccp 0000:06:00.5: SEV-SNP API:{version} build:32\n");
        of(
            &check(
                &format!("snp-{}", version.replace('.', "-")),
                &log,
                &["--producer", "6.12.117"],
            ),
            "snp-host",
        )
    };
    assert_eq!(snp("1.51"), ["error likely"]);
    assert_eq!(snp("1.52"), ["error likely"]);
    assert_eq!(snp("1.53"), ["info certain"]);
    assert_eq!(snp("2.0"), ["info certain"]);
    assert_eq!(snp("nonsense"), NONE);
    // The kernel has it enabled, and the line with the version is lost.
    let rmp = "SEV-SNP: RMP table physical range [0x0000000080000000 - 0x00000000bfffffff]\n";
    let known = ["--producer", "6.12.117"];
    assert_eq!(of(&check("snp-lost", rmp, &known), "snp-host"), ["warning unknown"]);
    let both = format!("{rmp}ccp 0000:06:00.5: SEV-SNP API:1.55 build:32\n");
    assert_eq!(of(&check("snp-both", &both, &known), "snp-host"), ["info certain"]);
}

#[test]
fn a_crash_kernel_under_sme_has_to_have_sme() {
    let log = "Memory Encryption Features active: AMD SME\n";
    let known = ["--producer", "6.12.117"];
    assert_eq!(of(&check("sme", log, &known), "sme"), NONE);
    let report = check("sme-panic", log, &["--producer", "6.12.117", "--panic"]);
    assert_eq!(of(&report, "sme"), ["info certain"]);
}
