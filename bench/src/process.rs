//! `identmap check` from start to exit, as whole processes.

use std::process::{Command, Stdio};
use std::time::Instant;

use identmap_machine::samples;

use crate::Options;
use crate::clock::median;

/// Prints the table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let Some(identmap) = &options.identmap else {
        println!("## Whole processes: not measured without --identmap\n");
        return Ok(());
    };
    println!("## `identmap check sample:*`, from start to exit, by the wall clock\n");
    println!("| sample | status | ms, median | ms, least |");
    println!("|---|---|---|---|");
    for sample in samples() {
        let mut times = Vec::new();
        let mut code = 0;
        for _ in 0..options.rounds.max(15) {
            let start = Instant::now();
            let status = Command::new(identmap)
                .arg("check")
                .arg(format!("sample:{}", sample.name))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .map_err(|e| format!("{}: {e}", identmap.display()))?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            code = status.code().ok_or("identmap was killed")?;
        }
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        println!("| {} | {code} | {:.1} | {least:.1} |", sample.name, median(times));
    }
    println!();
    Ok(())
}
