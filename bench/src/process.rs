//! Whole processes from start to exit, by the wall clock: what a user waits for.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use identmap_machine::samples;

use crate::Options;
use crate::clock::median;

/// Prints the tables.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    if options.binaries.is_empty() {
        println!("## Whole processes: not measured without --identmap\n");
        return Ok(());
    }
    for (name, binary) in &options.binaries {
        let size = std::fs::metadata(binary).map_err(|e| format!("{}: {e}", binary.display()))?;
        println!("## {name}: {} bytes\n", size.len());
        println!("| command | status | ms, median | ms, least |");
        println!("|---|---|---|---|");
        let bench = |arguments: &[&str], rounds| row(binary, arguments, rounds);
        let often = options.rounds.max(15);
        bench(&["--version"], often)?;
        for sample in samples() {
            bench(&["check", &format!("sample:{}", sample.name)], often)?;
        }
        let kernels = options.kernels.iter().filter(|_| name.contains("emulator"));
        for kernel in kernels {
            let kernel = kernel.to_str().ok_or("a path that is not UTF-8")?;
            bench(&["preflight", kernel, PREFLIGHT_SAMPLE, "--cpu", "amd-sev"], options.rounds)?;
        }
        if let Some(directory) = &options.fleet {
            let directory = directory.to_str().ok_or("a path that is not UTF-8")?;
            bench(&["fleet", directory], options.rounds)?;
        }
        println!();
    }
    Ok(())
}

/// Booted by BIOS: nothing of the firmware is missing in its log.
const PREFLIGHT_SAMPLE: &str = "sample:bios-x8sie";

fn row(binary: &Path, arguments: &[&str], rounds: usize) -> Result<(), String> {
    let mut times = Vec::new();
    let mut code = 0;
    // Once for the caches of files.
    for round in 0..=rounds {
        let start = Instant::now();
        let status = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|e| format!("{}: {e}", binary.display()))?;
        if round > 0 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        code = status.code().ok_or_else(|| format!("{arguments:?}: killed"))?;
        if code == 2 {
            return Err(format!("{arguments:?}: not usable"));
        }
    }
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let words: Vec<&str> = arguments.iter().map(|word| shown(word)).collect();
    println!("| {} | {code} | {:.1} | {least:.1} |", words.join(" "), median(times));
    Ok(())
}

/// The end of a path: where it lies on this machine tells nothing.
fn shown(word: &str) -> &str {
    let kernel = word.strip_suffix("/vmlinuz").unwrap_or(word);
    if word.starts_with('/') { kernel.rsplit('/').next().unwrap_or(kernel) } else { word }
}
