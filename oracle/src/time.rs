//! How long Linux's own `ident_map.c` takes: the other side of `cargo xtask bench`.

use std::io::{self, Write};

use identmap::PhysRange;

use crate::sequence::Sequence;
use crate::shim::Shim;
use crate::source::{SERIES, Source};
use crate::{USAGE, number};

/// Measures what the command line says; returns 0, for nothing is compared.
pub(crate) fn run(mut args: impl Iterator<Item = String>) -> Result<u64, String> {
    let mut series = Vec::new();
    let (mut five_levels, mut gbpages, mut rounds, mut repeats) = (false, true, 9, 1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
        match (flag.as_str(), value.as_str()) {
            ("--series", name) => {
                let known = SERIES.iter().find(|s| **s == name);
                series.push(*known.ok_or_else(|| format!("no series {name}\n{USAGE}"))?);
            }
            ("--levels", "4") => five_levels = false,
            ("--levels", "5") => five_levels = true,
            ("--gbpages", "on") => gbpages = true,
            ("--gbpages", "off") => gbpages = false,
            ("--rounds", _) => rounds = number(&flag, &value)?.clamp(1, 1000),
            ("--repeats", _) => repeats = number(&flag, &value)?.clamp(1, 1_000_000),
            _ => return Err(format!("what is {flag} {value}?\n{USAGE}")),
        }
    }
    if series.is_empty() {
        series = SERIES.to_vec();
    }
    let requests = io::stdin().lines().map(|line| request(&line.map_err(|e| e.to_string())?));
    let sequence = Sequence {
        five_levels,
        gbpages,
        offset: 0,
        // P RW A D G and P RW A D: what identmap's Config::kexec has.
        leaf_flags: 0x163,
        table_flags: 0x63,
        encryption_mask: 0,
        maxphyaddr: 52,
        requests: requests.collect::<Result<_, String>>()?,
    };
    for source in Source::prepare(&series)? {
        measure(&source, &sequence, rounds, repeats)
            .map_err(|e| format!("{}: {e}", source.series))?;
    }
    Ok(0)
}

fn measure(source: &Source, sequence: &Sequence, rounds: u64, repeats: u64) -> io::Result<()> {
    let mut shim = Shim::start_clock(&source.executable, rounds, repeats)?;
    shim.send(std::slice::from_ref(sequence))?;
    shim.receive()?;
    let times = shim.next_times(rounds)?;
    if times.status != 0 {
        return Err(io::Error::other(format!("Linux gave up with error {}", times.status)));
    }
    let Source { series, package, behaviour, executable } = source;
    let (policy, tables, executable) = (behaviour.policy, times.tables, executable.display());
    let mut out = io::stdout().lock();
    write!(out, "{series}\t{package}\t{policy}\t{tables}\t{executable}")?;
    for [build, zeroes, bytes] in times.rounds {
        write!(out, "\t{build}\t{zeroes}\t{bytes}")?;
    }
    writeln!(out)
}

fn request(line: &str) -> Result<PhysRange, String> {
    let (start, end) = line.split_once(' ').ok_or_else(|| format!("{line}: not START END"))?;
    let (start, end) = (number("START", start)?, number("END", end)?);
    PhysRange::new(start, end).map_err(|e| e.to_string())
}
