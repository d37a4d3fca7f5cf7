//! Inputs that fuzz targets of the parsers once failed on (`fuzz/regressions`), and every sample cut
//! at many places, through the same checks.

use std::fs;
use std::path::{Path, PathBuf};

use identmap_machine::bundle::Bundle;

#[path = "../../../../fuzz/checks/bundle.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod bundle;
#[path = "../../../../fuzz/checks/parse.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod parse;

type Check = fn(&[u8]);

const TARGETS: [(&str, Check); 10] = [
    ("parse_any", parse::any),
    ("parse_dmesg", parse::dmesg),
    ("parse_iomem", parse::iomem),
    ("parse_kexec", parse::kexec),
    ("parse_efi", parse::efi),
    ("parse_sysfs", parse::sysfs),
    ("live_boot_params", parse::boot_params),
    ("live", parse::live),
    ("range_text", parse::range_text),
    ("bundle", bundle::check),
];

/// Targets of the crates `identmap`, `identmap-linux` and `identmap-report`.
const OTHERS: [&str; 8] =
    ["plan", "tables", "btf", "kallsyms", "core_file", "loaded_image", "decode_tables", "verdict"];

/// Those files are listed by hand: a file under a name of no target would never be read.
#[test]
fn every_kept_input() {
    let folders = fs::read_dir(root().join("fuzz/regressions")).unwrap();
    for folder in folders.map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        if OTHERS.contains(&name) {
            continue;
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

/// Bundles with some bytes changed, and with a line left out.
#[test]
fn damaged_bundles() {
    let mut checked = 0;
    for file in fs::read_dir(root().join("testdata/bundles")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        bundle::check(&whole);
        // What the check seals is taken: changed, and with the checksum of what it was before.
        let changed = String::from_utf8_lossy(&whole).replacen("identmap 0", "somebody 0", 1);
        let sealed = bundle::sealed(changed.as_bytes()).unwrap();
        assert!(Bundle::read("changed", changed.as_bytes()).is_err());
        assert_eq!(&Bundle::read("sealed", sealed.as_bytes()).unwrap().made_by[..8], "somebody");
        for at in (0..whole.len()).step_by(whole.len() / 20) {
            for byte in *b"0\"]{ /" {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                bundle::check(&damaged);
            }
        }
        let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
        for at in (0..lines.len()).step_by(lines.len() / 15 + 1) {
            let mut less = lines.clone();
            less.remove(at);
            bundle::check(&less.concat());
        }
        checked += 1;
    }
    assert!(checked >= 2, "{checked}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
