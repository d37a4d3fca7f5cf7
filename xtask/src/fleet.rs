//! Inputs for `identmap fleet`: as many as are asked for, made of the real maps in `testdata/machines`
//! with other sizes of memory and other firmware.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to write them: a directory that does not exist yet
    directory: PathBuf,

    /// How many
    #[arg(long, default_value_t = 10_000)]
    count: usize,

    /// Damage every so many of them (0: none)
    #[arg(long, default_value_t = 1000)]
    damage: usize,
}

impl Options {
    /// Ten thousand, one in a thousand damaged.
    pub(crate) fn of(directory: PathBuf) -> Options {
        Options { directory, count: 10_000, damage: 1000 }
    }
}

/// Writes them; the same ones each time.
pub(crate) fn write(options: &Options) -> Result<(), String> {
    let machines = machines(&tools::root().join("testdata/machines"))?;
    fs::create_dir(&options.directory)
        .map_err(|error| format!("{}: {error}", options.directory.display()))?;
    let mut bytes = 0;
    for number in 0..options.count {
        let (name, text) = &machines[number % machines.len()];
        let mut varied = varied(text, number / machines.len());
        if options.damage > 0 && number % options.damage == options.damage - 1 {
            varied = damaged(&varied);
        }
        // A thousand to a directory, as people keep them.
        let rack = options.directory.join(format!("rack{:03}", number / 1000));
        fs::create_dir_all(&rack).map_err(|error| format!("{}: {error}", rack.display()))?;
        let file = rack.join(format!("{number:05}-{name}"));
        bytes += varied.len();
        fs::write(&file, varied).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    println!("{} files of {} maps, {} KiB", options.count, machines.len(), bytes >> 10);
    Ok(())
}

/// The real maps, sorted by name: (name, text).
fn machines(directory: &Path) -> Result<Vec<(String, String)>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut machines = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            machines.push((name, fs::read_to_string(&path).map_err(failed)?));
        }
    }
    machines.sort();
    if machines.is_empty() { Err("no machines".to_owned()) } else { Ok(machines) }
}

/// The same machine with `variant` × 66 MiB less of memory at its highest end (as far as there is so much),
/// and with one of seven firmwares.
fn varied(text: &str, variant: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_usable = |line: &&str| line.contains("BIOS-e820:") && line.ends_with("] usable");
    let highest = lines.iter().filter(|line| is_usable(line)).filter_map(|line| ends(line)).max();
    let mut out = String::with_capacity(text.len() + 16);
    for line in lines {
        match (ends(line), highest) {
            (Some((last, start)), Some(top)) if (last, start) == top && is_usable(&line) => {
                let less = (variant as u64 * (66 << 20)).min((last - start) / 2) & !0xfff;
                let _ = writeln!(out, "{}", line.replace(&hex(last), &hex(last - less)));
            }
            _ if line.contains("DMI: ") && line.contains(", BIOS ") => {
                let _ = writeln!(out, "{}", line.replace(", BIOS ", &firmware(variant)));
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

fn firmware(variant: usize) -> String {
    match variant % 7 {
        0 => ", BIOS ".to_owned(),
        other => format!(", BIOS {other}."),
    }
}

fn hex(address: u64) -> String {
    format!("{address:#018x}")
}

/// Last and first byte of a line `[mem 0x…-0x…]`, last first.
fn ends(line: &str) -> Option<(u64, u64)> {
    let (start, last) = line.split_once("[mem 0x")?.1.split_once(']')?.0.split_once("-0x")?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(last)?, number(start)?)).filter(|(last, start)| last > start)
}

/// With a byte of an address in the middle that no address has.
fn damaged(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let places: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].contains("[mem 0x")).collect();
    match places.get(places.len() / 2) {
        Some(&place) => {
            let mut lines = lines;
            let broken = lines[place].replacen("[mem 0x", "[mem 0xQ", 1);
            lines[place] = &broken;
            lines.join("\n") + "\n"
        }
        None => text.chars().take(text.chars().count() / 2).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
BIOS-e820: [mem 0x0000000100000000-0x00000002ffffffff] usable
DMI: Acme A/B, BIOS 1.2 01/02/2020
";

    #[test]
    fn the_highest_memory_and_the_firmware_vary() {
        assert_eq!(varied(LOG, 0), LOG);
        let other = varied(LOG, 2);
        assert!(other.contains("[mem 0x0000000100000000-0x00000002f7bfffff] usable"), "{other}");
        assert!(other.contains("DMI: Acme A/B, BIOS 2.1.2 01/02/2020"), "{other}");
        assert!(other.contains("0x000000000009ffff] usable"), "{other}");
    }

    #[test]
    fn damage_is_in_a_line_of_the_map() {
        assert!(damaged(LOG).contains("[mem 0xQ0000000100000000-"), "{}", damaged(LOG));
    }
}
