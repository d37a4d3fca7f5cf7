//! What is run for every change: a sample of the matrix that has everything at least once, the
//! comparison of what it gave, and the models made wrong that it has to notice.

use std::path::PathBuf;

use crate::cells::Cell;
use crate::compare::mutate::Mutation;
use crate::compare::{self, report};
use crate::guest::{Failure, Settings};
use crate::results;

/// Cells by name.
pub const SAMPLE: &[&str] = &[
    "5.10-ovmf-gbpages-kdump",
    "5.10-ovmfsplit-nogbpages",
    "5.10-seabios-gbpages",
    "6.1-ovmf-gbpages-low",
    "6.1-ovmf-nogbpages-la57",
    "6.1-ovmffar-nogbpages",
    "6.1-ovmfsplit-gbpages",
    "6.12-ovmf-gbpages-la57",
    "6.12-ovmf-nogbpages-kdump",
    "6.12-ovmffar-gbpages",
    "6.12-seabios-nogbpages",
    "7.x-ovmf-gbpages-file",
    "7.x-ovmf-gbpages-la57",
    "7.x-ovmf-nogbpages",
    "7.x-ovmfsplit-gbpages",
    "7.x-seabios-gbpages",
];

/// Runs the sample, compares, and prints one table; how many things passed, and how many did not.
///
/// # Errors
/// When the sample names a cell that is not in the matrix.
pub fn run(all: &[Cell], settings: &Settings, jobs: usize) -> Result<(usize, usize), Failure> {
    let mut sample = Vec::new();
    for name in SAMPLE {
        let cell = all.iter().find(|cell| cell.to_string() == *name);
        sample.push(*cell.ok_or_else(|| format!("no cell {name}; has lab/fetch.sh been run?"))?);
    }
    let ended = results::run_all(&sample, settings, false, jobs);
    let mut counts = (0, 0);
    let mut count = |good: bool| if good { counts.0 += 1 } else { counts.1 += 1 };

    let mut compared: Vec<(String, PathBuf)> = Vec::new();
    println!("{:28} {:7} {:>6}  what was found", "cell", "result", "seconds");
    for outcome in &ended {
        let path = settings.cache.join("lab/results").join(&outcome.cell);
        let (good, text) = match &outcome.result {
            Err(error) => (false, error.clone()),
            Ok(summary) => {
                compared.push((outcome.cell.clone(), path.clone()));
                match compare::cell(&path, settings.guest_binary.as_deref(), None) {
                    Err(error) => (false, format!("{summary}; not compared: {error}")),
                    Ok(found) => {
                        let asked = settings.guest_binary.is_none() || found.not_asked().is_empty();
                        (asked && found.differences() == 0, report::sentence(summary, &found))
                    }
                }
            }
        };
        count(good);
        let word = if good { "passed" } else { "FAILED" };
        println!("{:28} {word:7} {:6.1}  {text}", outcome.cell, outcome.seconds);
    }
    for noticed in compare::mutations(&compared, &Mutation::ALL) {
        let good = noticed.noticed > 0;
        count(good);
        let word = if good { "passed" } else { "FAILED" };
        let compare::Noticed { mutation, noticed, cells } = noticed;
        println!(
            "wrong on purpose: {mutation:18}  {word:7}  {} is noticed in {noticed} of {cells} cells",
            mutation.about()
        );
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::{self, Firmware, Load};

    #[test]
    fn the_sample_has_everything_at_least_once() {
        let all = cells::all(|series| series != "5.10");
        let sample: Vec<Cell> = SAMPLE
            .iter()
            .map(|name| *all.iter().find(|cell| cell.to_string() == *name).expect(name))
            .collect();
        for series in cells::SERIES {
            let of = |gbpages| sample.iter().any(|c| c.series == *series && c.gbpages == gbpages);
            assert!(of(true) && of(false), "{series}");
        }
        for firmware in [Firmware::Ovmf, Firmware::OvmfFar, Firmware::OvmfSplit, Firmware::SeaBios]
        {
            let of =
                |gbpages| sample.iter().any(|c| c.firmware == firmware && c.gbpages == gbpages);
            assert!(of(true) && of(false), "{firmware:?}");
        }
        for load in [Load::Syscall, Load::File, Load::Crash] {
            assert!(sample.iter().any(|cell| cell.load == load), "{load:?}");
        }
        assert!(sample.iter().any(|cell| cell.low));
        assert!(sample.iter().any(|cell| cell.la57 && cell.gbpages));
        assert!(sample.iter().any(|cell| cell.la57 && !cell.gbpages));
    }
}
