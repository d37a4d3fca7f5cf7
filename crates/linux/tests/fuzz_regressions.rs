//! Inputs that fuzz targets of this crate once failed on (`fuzz/regressions`), and some random ones,
//! through the same checks.

mod support;

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/bytes.rs"]
#[allow(dead_code, reason = "other checks use the rest")]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod bytes;
#[path = "../../../fuzz/checks/core_file.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod core_file;
#[path = "../../../fuzz/checks/decode.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod decode;
#[path = "../../../fuzz/checks/entries.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod entries;
#[path = "../../../fuzz/checks/kernel.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod kernel;

#[test]
fn types() {
    replay("btf", kernel::btf);
    changes(2_000, kernel::btf);
}

#[test]
fn symbols() {
    replay("kallsyms", kernel::kallsyms);
    let text = b"ffffffff82000010 D phys_base\nffffffff82000018 B kexec_image\n0 b vmemmap_base\n\
        ffffffff82000020 b pfn_mapped\nffffffff82000028 b pfn_mapped";
    kernel::kallsyms(text);
    for at in 0..text.len() {
        for byte in *b"0 \nk[" {
            let mut damaged = text.to_vec();
            damaged[at] = byte;
            kernel::kallsyms(&damaged);
        }
    }
}

#[test]
fn core_files() {
    replay("core_file", core_file::check);
    changes(2_000, core_file::check);
}

#[test]
fn images() {
    for which in 0..8 {
        kernel::loaded_image(&[which]);
    }
    replay("loaded_image", kernel::loaded_image);
    random(200, 60, kernel::loaded_image);
}

#[test]
fn tables() {
    replay("decode_tables", decode::check);
    random(500, 300, decode::check);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions").join(target);
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.map(|entry| entry.unwrap().path()) {
        println!("{}", file.display());
        check(&fs::read(file).unwrap());
    }
}

/// Zero, for the hand-made one, then a few changes of three bytes each; most within its first KiB.
fn changes(inputs: usize, check: fn(&[u8])) {
    let mut random = random_bytes();
    check(&[0]);
    for _ in 0..inputs {
        let mut input = vec![0];
        for _ in 0..=random() % 4 {
            input.extend([random(), random() % 5, random()]);
        }
        check(&input);
    }
}

fn random(inputs: usize, longest: usize, check: fn(&[u8])) {
    let mut random = random_bytes();
    for _ in 0..inputs {
        let len = usize::from(random()) * longest / 256;
        let input: Vec<u8> =
            (0..len).map(|_| if random().is_multiple_of(3) { 0 } else { random() }).collect();
        check(&input);
    }
}

fn random_bytes() -> impl FnMut() -> u8 {
    let mut state = 0x5eed_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as u8
    }
}
