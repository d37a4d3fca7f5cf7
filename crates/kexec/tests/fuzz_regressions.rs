//! Inputs that fuzz targets of this crate once failed on (`fuzz/regressions`), and some random ones,
//! through the same checks.

use std::fs;
use std::path::Path;

#[path = "support/mod.rs"]
mod kernel_files;

#[path = "../../../fuzz/checks/kernel_file.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod kernel_file;

#[test]
fn kernel_files_of_all_formats() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/kernel_file");
    for file in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        println!("{}", file.display());
        kernel_file::check(&fs::read(file).unwrap());
    }
    let mut state = 0x5eed_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as u8
    };
    for which in 0..9 {
        kernel_file::check(&[which]);
        for _ in 0..300 {
            let mut input = vec![which];
            for _ in 0..=random() % 4 {
                input.extend([random(), random() % 5, random()]);
            }
            kernel_file::check(&input);
        }
    }
}
