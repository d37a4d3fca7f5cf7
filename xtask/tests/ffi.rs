//! The core for C, tried from C and C++ by crates/ffi/check.sh, where there is a compiler.

use std::path::Path;
use std::process::Command;

#[test]
fn c_programs_plan_build_and_walk() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    for program in ["cc", "g++", "ld", "nm", "objcopy"] {
        if !has(&program) {
            eprintln!(
                "NOT RUN: {program} is not installed; on Debian: apt install build-essential"
            );
            return;
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ffi/check.sh");
    let output = Command::new(script).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("layouts, misuse and example as expected"), "{out}");
}
