//! `cargo xtask static`: the command as one file that needs nothing of the machine it runs on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{cargo, run, target};

pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) const FLAGS: &str = "-C target-feature=+crt-static";

/// Bytes that may not be exceeded: the command goes into rescue images and initrds.
const MOST: u64 = 4_000_000;
/// The same with the emulator.
const MOST_WITH_EMULATOR: u64 = 20_000_000;

/// Builds it, and tells where; without the emulator unless asked for.
pub(crate) fn build(preflight: bool) -> Result<PathBuf, String> {
    let mut command = cargo(["build", "--locked", "--profile", "dist", "--target", TARGET]);
    command.args(["--package", "identmap-cli"]);
    if preflight {
        command.args(["--features", "preflight"]);
    }
    // glibc whole, in the file: `.cargo/config.toml` lets the emulator's build agree.
    run(command.env("RUSTFLAGS", FLAGS))?;
    let file = target().join(TARGET).join("dist/identmap");
    look(&file, if preflight { MOST_WITH_EMULATOR } else { MOST })?;
    Ok(file)
}

fn look(file: &Path, most: u64) -> Result<(), String> {
    let name = file.display();
    let bytes = fs::read(file).map_err(|error| format!("{name}: {error}"))?;
    if needs_interpreter(&bytes).ok_or_else(|| format!("{name}: not an ELF file"))? {
        return Err(format!("{name}: it asks for a dynamic linker"));
    }
    let size = bytes.len() as u64;
    println!("    {name}: static, {size} bytes");
    if size > most {
        return Err(format!("{name}: more than {most} bytes"));
    }
    Ok(())
}

/// Whether there is a program header `PT_INTERP` (System V ABI, "Program Header"); 64-bit ELF.
fn needs_interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, len: usize| {
        let field = bytes.get(at..at.checked_add(len)?)?;
        Some(field.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte)))
    };
    if bytes.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (start, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for index in 0..count {
        let at = usize::try_from(start.checked_add(index * size)?).ok()?;
        if number(at, 4)? == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_found() {
        // This test is linked dynamically, as every build but the static one.
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        let dynamic = cfg!(not(target_feature = "crt-static"));
        assert_eq!(needs_interpreter(&this), Some(dynamic));
        assert_eq!(needs_interpreter(&this[..60]), None);
        assert_eq!(needs_interpreter(b"#!/bin/sh"), None);
    }
}
