//! Inputs that fuzz targets once failed on (`fuzz/regressions`), and some random ones, through the same checks.

mod support;

use std::fs;
use std::path::Path;

use support::Random;

#[path = "../../../fuzz/checks/bytes.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod bytes;
#[path = "../../../fuzz/checks/entries.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod entries;
#[path = "../../../fuzz/checks/plan.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod plan;
#[path = "../../../fuzz/checks/tables.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod tables;

#[test]
fn plans() {
    replay("plan", 2, |input| plan::Case::from_bytes(input).check());
    random(3_000, 200, |input| plan::Case::from_bytes(input).check());
}

#[test]
fn garbage() {
    replay("tables", 1, tables::check);
    random(1_000, 300, tables::check);
}

/// The first regression says what its name says.
#[test]
fn inputs_decode_to_what_they_were_kept_for() {
    let input = fs::read(folder("plan").join("offset-wraps-into-the-lower-half")).unwrap();
    let case = plan::Case::from_bytes(&input);
    assert_eq!(case.offset, 0xffff_8880_0000_0000);
    assert_eq!(case.requests, [(0, 0xff), (0x7780_0000_0000, 0x7780_0000_00ff)]);
}

fn folder(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions").join(target)
}

fn replay(target: &str, least: usize, check: impl Fn(&[u8])) {
    let files: Vec<_> =
        fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= least, "{target}");
    for file in files {
        println!("{}", file.display());
        check(&fs::read(file).unwrap());
    }
}

fn random(inputs: usize, longest: u64, check: impl Fn(&[u8])) {
    let mut random = Random::new(0x5eed);
    for _ in 0..inputs {
        let len = random.below(longest);
        // Small numbers mean more than large ones in most places.
        let input: Vec<u8> =
            (0..len).map(|_| if random.below(3) == 0 { 0 } else { random.next() as u8 }).collect();
        check(&input);
    }
}
