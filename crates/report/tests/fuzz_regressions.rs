//! Inputs that the fuzz target `verdict` once failed on, and every sample for
//! pairs of kernels.

use std::fs;
use std::ops::Range;
use std::path::Path;

#[path = "../../../fuzz/checks/verdict.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod verdict;

#[path = "../../../fuzz/checks/dumps.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod dumps;

#[test]
fn every_kept_input() {
    for (target, check) in [("verdict", verdict::check as fn(&[u8])), ("dumps", dumps::check)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions");
        let Ok(files) = fs::read_dir(folder.join(target)) else { continue };
        for file in files.map(|entry| entry.unwrap().path()) {
            println!("{}", file.display());
            check(&fs::read(file).unwrap());
        }
    }
}

/// Every dump kept, cut in many places, and damaged there.
#[test]
fn damaged_dumps() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dumps");
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let whole = fs::read(file).unwrap();
        for at in (0..whole.len()).step_by(3) {
            dumps::check(&whole[..at]);
            let mut bytes = whole.clone();
            for damage in [b'\n', b' ', 0xff] {
                bytes[at] = damage;
                dumps::check(&bytes);
            }
        }
        seen += 1;
    }
    assert!(seen >= 2);
}

#[test]
fn samples_for_pairs_of_kernels() {
    samples_for_producers(0..4);
}

#[test]
fn samples_for_other_pairs_of_kernels() {
    samples_for_producers(4..8);
}

fn samples_for_producers(producers: Range<u8>) {
    for sample in identmap_machine::samples() {
        for producer in producers.clone() {
            for consumer in [0, 1, 6] {
                let mut input = vec![producer, consumer, producer & 1 | 0x10];
                input.extend_from_slice(sample.bytes);
                verdict::check(&input);
            }
        }
    }
}
