//! What is said of a kernel file's signature before it is loaded.

use std::fs;
use std::process::{Command, Stdio};

use made_kernel::BzImage;
use serde_json::Value;

const LOG: &str = "104-asustek-computer-inc-rog-ally-rc71l-rc71l-rc71l.txt";

fn kernel() -> Vec<u8> {
    let version = "6.1.76 (build@host) #1";
    BzImage { init_size: 48 << 20, version, ..BzImage::default() }.bytes()
}

/// A PE header over the first bytes of the kernel, with a certificate table of this many bytes behind.
fn as_pe(mut kernel: Vec<u8>, table: u32) -> Vec<u8> {
    let end = u32::try_from(kernel.len()).unwrap();
    let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0");
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 108, &[6]);
    if table > 0 {
        put(0x58 + 112 + 32, &end.to_le_bytes());
        put(0x58 + 112 + 36, &table.to_le_bytes());
    }
    kernel.resize((end + table) as usize, 0);
    kernel
}

/// The finding: what, why, severity; and the exit status of the dry run.
fn signature(name: &str, kernel: &[u8], lines: &str) -> (String, String, String, i32) {
    let place = |what: &str| format!("{}/signature-{name}.{what}", env!("CARGO_TARGET_TMPDIR"));
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/machines/");
    let log = fs::read_to_string(format!("{machines}{LOG}")).unwrap();
    fs::write(place("log"), format!("{log}{lines}")).unwrap();
    fs::write(place("kernel"), kernel).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(["load", "-n", &place("kernel"), "--source", &place("log"), "--sev", "off", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)));
    let all: Vec<&Value> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["id"] == "signature")
        .collect();
    assert_eq!(all.len(), 1);
    let text = |field: &str| all[0][field].as_str().unwrap_or_default().to_owned();
    (text("what"), text("why"), text("severity"), run.status.code().unwrap())
}

/// It was opened a second time: a pipe had nothing left to say, and one with a name would have made it wait for ever.
#[test]
fn a_pipe_is_read_once() {
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/signature-piped");
    fs::write(file, as_pe(kernel(), 0x200)).unwrap();
    let run = |kernel: &str, stdin: Stdio| {
        let run = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args([
                "load",
                "-n",
                kernel,
                "--source",
                "sample:laptop-2024",
                "--levels",
                "4",
                "--json",
            ])
            .stdin(stdin)
            .output()
            .unwrap();
        let mut report: Value = serde_json::from_slice(&run.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)));
        report["findings"].take()
    };
    let mut cat = Command::new("cat").arg(file).stdout(Stdio::piped()).spawn().unwrap();
    let piped = run("/dev/stdin", cat.stdout.take().unwrap().into());
    assert_eq!(piped, run(file, Stdio::null()));
    assert!(piped.as_array().unwrap().iter().any(|finding| finding["id"] == "signature"));
    cat.wait().unwrap();
}

#[test]
fn a_file_with_and_without() {
    let (what, why, severity, plain) = signature("none", &kernel(), "");
    assert_eq!(
        (what.as_str(), severity.as_str()),
        ("the kernel file is no PE file, and so not signed", "info")
    );
    assert!(why.contains("CONFIG_KEXEC_SIG) is not known"), "{why}");
    let (what, ..) = signature("pe", &as_pe(kernel(), 0), "");
    assert_eq!(what, "the kernel file is not signed");
    let (what, why, _, status) = signature("signed", &as_pe(kernel(), 64), "");
    assert_eq!(what, "the kernel file is signed");
    assert!(why.starts_with("whether the signature is valid is not checked here"), "{why}");
    assert_eq!(status, plain, "a signature changes no verdict");
    let mut cut = as_pe(kernel(), 64);
    cut.truncate(cut.len() - 1);
    assert_eq!(signature("cut", &cut, "").0, "the kernel file's signature is cut off");
    let mut module = kernel();
    module.extend(b"~Module signature appended~\n");
    assert_eq!(
        signature("appended", &module, "").0,
        "the kernel file has an appended signature only"
    );
}

#[test]
fn a_locked_kernel_takes_no_segments() {
    let locked = "Kernel is locked down from EFI Secure Boot; see man kernel_lockdown.7\n\
                  secureboot: Secure boot enabled\n";
    let (_, why, severity, _) = signature("locked", &as_pe(kernel(), 64), locked);
    assert!(why.contains("kexec_load refuses it with EPERM"), "{why}");
    assert_eq!(severity, "info", "kexec_file_load may take it");
}
