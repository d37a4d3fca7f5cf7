//! Inputs that the fuzz target `verdict` once failed on, and every sample for
//! pairs of kernels.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/verdict.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod verdict;

#[test]
fn every_kept_input() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/verdict");
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.map(|entry| entry.unwrap().path()) {
        println!("{}", file.display());
        verdict::check(&fs::read(file).unwrap());
    }
}

#[test]
fn samples_for_pairs_of_kernels() {
    for sample in identmap_machine::samples() {
        for producer in 0..8 {
            for consumer in [0, 1, 6] {
                let mut input = vec![producer, consumer, producer & 1 | 0x10];
                input.extend_from_slice(sample.bytes);
                verdict::check(&input);
            }
        }
    }
}
