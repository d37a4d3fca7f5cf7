//! What is not known of the machine, and what the commands that run a kernel make of it: none may say that it comes up
//! where another cannot tell. Kernels of a few instructions, on the machine of `testdata/doubts`.

use std::path::{Path, PathBuf};
use std::process::Command;

use made_kernel::{BzImage, OWN_TABLES};
use serde_json::Value;

const SAFE: i32 = 0;
const UNSAFE: i32 = 1;
const UNKNOWN: i32 = 3;

/// `mov rax, cr4; bt eax, 12`: CF, if 5 levels are in use.
const HAS_5: [u8; 7] = [0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xe0, 0x0c];
const JNC: u8 = 0x73;
const JC: u8 = 0x72;
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Where EFI's tables lie, which is no matter here.
const EFI: [&str; 4] = ["--system-table", "0xcb661018", "--config-table", "0xc51af018+240"];

/// What `max_arch_pfn` is with 4 levels, as the log has it, and with 5.
const FOUR: &str = "max_arch_pfn = 0x400000000";
const FIVE: &str = "max_arch_pfn = 0x10000000000";

fn base() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/doubts/base.txt");
    std::fs::read_to_string(path).unwrap()
}

/// The log without what tells the number of levels.
fn no_levels() -> String {
    let base = base();
    assert!(base.contains(FOUR));
    base.lines().filter(|line| !line.contains(FOUR)).flat_map(|line| [line, "\n"]).collect()
}

/// A folder with a kernel of these instructions, and then its own tables.
fn folder(name: &str, code: &[&[u8]]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs").join(name);
    std::fs::create_dir_all(&path).unwrap();
    let code = [&code.concat()[..], &OWN_TABLES].concat();
    std::fs::write(path.join("kernel"), BzImage { code: &code, ..BzImage::default() }.bytes())
        .unwrap();
    path
}

/// The exit status and the report.
fn run(folder: &Path, command: &str, log: &str, more: &[&str]) -> (i32, String) {
    let (kernel, machine) = (folder.join("kernel"), folder.join("machine.txt"));
    std::fs::write(&machine, log).unwrap();
    let mut identmap = Command::new(env!("CARGO_BIN_EXE_identmap"));
    identmap.arg(command);
    match command {
        "check" | "matrix" | "needs" => identmap.arg("--kernel").arg(kernel).arg(machine),
        _ => identmap.arg(kernel).arg(machine),
    };
    let output = identmap.args(EFI).args(more).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{command}: {errors}");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The exit status of each; that of `matrix` as its cells would have it, of which the worst counts last.
fn all(folder: &Path, log: &str, more: &[&str]) -> [i32; 4] {
    let status = |command| run(folder, command, log, more).0;
    let (_, report) = run(folder, "matrix", log, &[more, &["--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let cells: Vec<&str> = rows.iter().map(|row| row["outcomes"][0].as_str().unwrap()).collect();
    let any = |word| cells.contains(&word);
    let matrix = match () {
        () if any("OK") || any("OK*") => SAFE,
        () if any("?") => UNKNOWN,
        () => UNSAFE,
    };
    [status("check"), status("preflight"), status("diagnose"), matrix]
}

const AMD: [&str; 2] = ["--cpu", "amd-nosev"];

/// It was taken for 4 where nothing told, by all of them if the processor was not known, and by some if it has 5.
#[test]
fn both_numbers_of_levels_are_tried_where_it_is_not_known() {
    let four_only = folder("four_only", &[&HAS_5, &[JNC, 2], &UD2]);
    assert_eq!(all(&four_only, &base(), &[]), [SAFE; 4]);
    assert_eq!(all(&four_only, &no_levels(), &AMD), [SAFE; 4], "one without 5");
    assert_eq!(all(&four_only, &no_levels(), &["--la57", "off"]), [SAFE; 4]);
    for more in [&[][..], &["--cpu", "amd-nosev-la57"], &["--la57", "on"]] {
        assert_eq!(all(&four_only, &no_levels(), more), [UNKNOWN; 4], "{more:?}");
    }
    let (_, report) = run(&four_only, "check", &no_levels(), &[]);
    assert!(report.contains("uses 5 levels of page tables decides"), "{report}");
    let (_, report) = run(&four_only, "preflight", &no_levels(), &[]);
    assert!(report.contains(", 5 levels\n"), "{report}");
    // With 5 in use, it fails for sure.
    assert_eq!(all(&four_only, &base().replace(FOUR, FIVE), &[]), [UNSAFE; 4]);
}

/// `check` called that certainly unsafe, and `preflight` unknown.
#[test]
fn what_comes_up_with_5_levels_only_is_not_known_either() {
    let five_only = folder("five_only", &[&HAS_5, &[JC, 2], &UD2]);
    assert_eq!(all(&five_only, &no_levels(), &[]), [UNKNOWN; 4]);
    assert_eq!(all(&five_only, &base().replace(FOUR, FIVE), &[]), [SAFE; 4]);
    assert_eq!(all(&five_only, &base(), &[]), [UNSAFE; 4]);
}

/// The machine's own levels were overwritten with those of the processor that `--cpu` names.
#[test]
fn a_profile_does_not_take_away_the_levels_that_are_in_use() {
    let four_only = folder("profile", &[&HAS_5, &[JNC, 2], &UD2]);
    for cpu in ["amd-sev", "amd-nosev", "intel", "amd-sev-la57"] {
        let five = base().replace(FOUR, FIVE);
        assert_eq!(all(&four_only, &five, &["--cpu", cpu]), [UNSAFE; 4], "{cpu}");
        assert_eq!(all(&four_only, &base(), &["--cpu", cpu]), [SAFE; 4], "{cpu}");
        // Where the processor is known to have them.
        let more = ["--cpu", cpu, "--la57", "on"];
        assert_eq!(all(&four_only, &no_levels(), &more), [UNKNOWN; 4], "{cpu}");
    }
}

/// What only the run with 5 levels touched was forgotten.
#[test]
fn what_is_touched_with_5_levels_is_a_need() {
    // With 5 levels mov [0x600000], al
    let code = [&HAS_5[..], &[JNC, 7], &[0x88, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00]];
    let folder = folder("needs", &code);
    let needs = |log: &str| run(&folder, "needs", log, &["--json"]).1;
    assert!(needs(&no_levels()).contains("0x0000000000600000"), "{}", needs(&no_levels()));
    assert!(!needs(&base()).contains("0x0000000000600000"));
    assert_eq!(run(&folder, "check", &no_levels(), &[]).0, SAFE, "it is mapped");
}

/// A command line was supposed, and not said, with which the next kernel stays at 5 levels.
#[test]
fn the_command_line_that_is_supposed_is_said_where_it_matters() {
    let folder = folder("command_line", &[]);
    for command in ["check", "preflight", "diagnose"] {
        let says = |log: &str, more: &[&str]| {
            let (status, report) = run(&folder, command, log, more);
            assert_eq!(status, SAFE, "{command}: {report}");
            report.contains("has no no5lvl")
        };
        for log in [no_levels(), base().replace(FOUR, FIVE)] {
            assert!(says(&log, &[]), "{command}");
            assert!(!says(&log, &["--cmdline", "quiet"]), "{command}");
        }
        assert!(!says(&base(), &[]), "{command}");
    }
}

/// What keeps `check` from saying safe kept no other command from it, once there was a kernel to run.
#[test]
fn no_run_says_safe_where_check_cannot_tell() {
    let sound = folder("sound", &[]);
    assert_eq!(all(&sound, &base(), &AMD), [SAFE; 4]);
    let end = "0x00000000cfffffff] reserved\n";
    let cut = base()[..base().find(end).unwrap() + end.len()].to_owned();
    let xen = base().replace("BIOS-e820:", "Xen:").replace("BIOS-provided", "Xen-provided");
    let narrow = base().replace(FOUR, "max_arch_pfn = 0x1000000");
    let guest = base().replace("smpboot: CPU0: AMD Ryzen 7 5800H", "Hypervisor detected: KVM, AMD");
    let guest_on = [&["--cpu", "amd-sev"][..], &["--sev", "on"]].concat();
    for (story, log, more) in [
        ("a log that ends in the map", cut, &AMD[..]),
        ("a Xen PV domain", xen, &AMD),
        ("a 32-bit kernel", narrow, &AMD),
        ("a guest that may be encrypted", guest, &guest_on),
    ] {
        assert_eq!(all(&sound, &log, more), [UNKNOWN; 4], "{story}");
    }
    let (_, report) = run(&sound, "preflight", &base(), &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["doubts"], Value::Null);
}

/// A profile says that nothing is encrypted, and the log that there is a hypervisor: SEV's status was zero in that guest.
#[test]
fn a_profile_is_no_word_on_a_guest_s_encryption() {
    // mov ecx, 0xc0010131; rdmsr
    let folder = folder("status", &[&[0xb9, 0x31, 0x01, 0x01, 0xc0, 0x0f, 0x32]]);
    let guest = base().replace("smpboot: CPU0: AMD Ryzen 7 5800H", "Hypervisor detected: KVM, AMD");
    let (status, report) = run(&folder, "preflight", &guest, &["--cpu", "amd-sev", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((status, report["runs"][0]["verdict"].as_str()), (UNKNOWN, Some("unknown")));
    assert!(report["runs"][0]["sentence"].as_str().unwrap().contains("encrypted guest"));
    let (status, report) = run(&folder, "preflight", &base(), &["--cpu", "amd-sev"]);
    assert_eq!(status, SAFE, "{report}");
    // The machine's own: a whole log would say so, and part of one says nothing.
    let cut = base().split_once('\n').unwrap().1.to_owned();
    assert_eq!(run(&folder, "preflight", &base(), &["--sev", "on"]).0, SAFE);
    let (status, report) = run(&folder, "preflight", &cut, &["--sev", "on"]);
    assert!(status == UNKNOWN && report.contains("encrypted guest"), "{report}");
    let whole = base() + "Hypervisor detected: KVM\n";
    assert_eq!(run(&folder, "preflight", &whole, &["--cpu", "amd-sev"]).0, SAFE);
}
