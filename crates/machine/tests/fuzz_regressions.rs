//! Inputs that fuzz targets of the parsers once failed on (`fuzz/regressions`), and every sample cut
//! at many places, through the same checks.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../../fuzz/checks/parse.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod parse;

type Check = fn(&[u8]);

const TARGETS: [(&str, Check); 9] = [
    ("parse_any", parse::any),
    ("parse_dmesg", parse::dmesg),
    ("parse_iomem", parse::iomem),
    ("parse_kexec", parse::kexec),
    ("parse_efi", parse::efi),
    ("parse_sysfs", parse::sysfs),
    ("live_boot_params", parse::boot_params),
    ("live", parse::live),
    ("range_text", parse::range_text),
];

/// Those files are listed by hand: a file under a name of no target would never be read.
#[test]
fn every_kept_input() {
    let folders = fs::read_dir(root().join("fuzz/regressions")).unwrap();
    for folder in folders.map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        if ["plan", "tables", "verdict"].contains(&name) {
            continue; // of the crates `identmap` and `identmap-report`
        }
        let (_, check) = TARGETS.iter().find(|(target, _)| *target == name).expect(name);
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            println!("{}", file.display());
            check(&fs::read(file).unwrap());
        }
    }
}

/// Samples cut short, with lines swapped and with bytes damaged.
#[test]
fn damaged_samples() {
    let mut rng = 0x5eed_u64;
    let mut below = |bound: usize| {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (rng >> 33) as usize % bound
    };
    let mut checked = 0;
    for sample in identmap_machine::samples() {
        let text = sample.bytes;
        for _ in 0..12 {
            let mut damaged = text[..below(text.len())].to_vec();
            for _ in 0..below(8) {
                if let Some(byte) = damaged.get_mut(below(text.len())) {
                    *byte = [b'\n', b' ', b'-', b'f', b'0', 0xff, b'['][below(7)];
                }
            }
            for (_, check) in TARGETS {
                check(&damaged);
            }
            checked += 1;
        }
    }
    assert!(checked >= 8 * 12, "{checked}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
