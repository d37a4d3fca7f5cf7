//! Compares identmap with others who build page tables: Linux's own `ident_map.c`, and other crates.
//! `README.md` beside this crate tells how to run it and what was measured.

mod adapters;
mod crates;
mod linux;
mod model;
mod ours;
mod paste;
mod picture;
mod sequence;
mod shim;
mod source;
mod time;

use std::process::ExitCode;

const USAGE: &str = "\
usage: identmap-oracle linux  [--sequences N] [--series 5.10|6.1|6.12|7.x]... [--seed N]
                              [--only NUMBER] [--threads N] [--policy round-out|exact]
       identmap-oracle crates [--sequences N] [--seed N] [--only NUMBER]
       identmap-oracle time   [--series S]... [--levels 4|5] [--gbpages on|off] [--rounds N]
                              [--repeats N]

linux   compares tables with those of Linux's own ident_map.c, fetched from Debian if not cached
crates  compares plans with the tables of other crates, at every boundary of a leaf
time    measures Linux's ident_map.c with the requests of standard input, one \"START END\" a line
        (decimal, half-open). One line a source, fields separated by tabs: series, package, policy,
        tables, executable, then for each round the nanoseconds of all its builds, of as many
        memsets of the same bytes to 0, and to 0xe3

  --sequences N   how many sequences of requests (linux: for each source; default 100000)
  --series S      only this source; may be repeated
  --seed N        another set of sequences (default 1)
  --only NUMBER   only the sequence of this number, and print it
  --threads N     default: one for each processor
  --rounds N      time: how many (default 9), after one that does not count
  --repeats N     time: builds in a round (default 1)
  --policy P      what to compare with the source instead of the policy it has: must differ

exit status: 0 no difference, 1 differences, 2 usage or something that could not be run";

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("identmap-oracle: {message}");
            ExitCode::from(2)
        }
    }
}

/// What to do, as the command line says.
struct Options {
    sequences: u64,
    series: Vec<&'static str>,
    seed: u64,
    only: Option<u64>,
    threads: usize,
    policy: Option<source::LinuxPolicy>,
}

/// Returns the number of differences.
fn run() -> Result<u64, String> {
    let mut args = std::env::args().skip(1);
    let command = args.next().ok_or(USAGE)?;
    if command == "time" {
        return time::run(args);
    }
    let mut options = Options {
        sequences: 100_000,
        series: Vec::new(),
        seed: 1,
        only: None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        policy: None,
    };
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
        match flag.as_str() {
            "--sequences" => options.sequences = number(&flag, &value()?)?,
            "--seed" => options.seed = number(&flag, &value()?)?,
            "--only" => options.only = Some(number(&flag, &value()?)?),
            "--threads" => options.threads = number(&flag, &value()?)?.clamp(1, 64) as usize,
            "--series" => {
                let name = value()?;
                let known = source::SERIES.iter().find(|s| **s == name);
                options.series.push(known.ok_or_else(|| format!("no series {name}\n{USAGE}"))?);
            }
            "--policy" => {
                options.policy = Some(match value()?.as_str() {
                    "round-out" => source::LinuxPolicy::RoundOut,
                    "exact" => source::LinuxPolicy::Exact,
                    other => return Err(format!("no policy {other} of Linux\n{USAGE}")),
                });
            }
            _ => return Err(format!("what is {flag}?\n{USAGE}")),
        }
    }
    if options.series.is_empty() {
        options.series = source::SERIES.to_vec();
    }
    match command.as_str() {
        "linux" => linux::compare(&options),
        "crates" => crates::compare(&options),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(0)
        }
        other => Err(format!("what is {other}?\n{USAGE}")),
    }
}

fn number(flag: &str, text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|_| format!("{flag}: {text} is not a number"))
}
