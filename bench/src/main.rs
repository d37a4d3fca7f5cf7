//! Measures identmap beside Linux's own `ident_map.c`, other crates and `memset`. `README.md` tells what
//! the tables mean; `cargo xtask bench` runs all of it.

mod adapters;
mod cases;
mod clock;
mod fill;
mod instructions;
mod linux;
mod plans;
mod policies;
mod process;
mod random;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: identmap-bench [SECTION]... [--oracle FILE] [--identmap FILE] [--rounds N] [--instructions]
                      [--only MAP]

sections (default: all)
  fill      building tables, beside memset of the same bytes
  threads   building by several threads, in wall time
  plans     what plans cost, by memory and by number of ranges
  tables    tables used by each policy on every real map in testdata/machines
  process   commands as whole processes, and the size of the command

  --oracle FILE    identmap-oracle: fill measures Linux's own code too
  --identmap NAME=FILE  the command, under a name: what process runs (repeatable)
  --kernel FILE    a kernel for process: preflight (repeatable)
  --fleet DIR      inputs for process: fleet
  --rounds N       medians of this many, 7 at least (default 9)
  --instructions   fill counts instructions too (with valgrind; takes minutes)
  --only MAP       fill: only maps with this in their name";

/// What the command line says.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) oracle: Option<PathBuf>,
    pub(crate) binaries: Vec<(String, PathBuf)>,
    pub(crate) kernels: Vec<PathBuf>,
    pub(crate) fleet: Option<PathBuf>,
    pub(crate) rounds: usize,
    pub(crate) instructions: bool,
    pub(crate) only: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("identmap-bench: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let mut sections = Vec::new();
    let mut options = Options { rounds: 9, ..Options::default() };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--oracle" => options.oracle = Some(value()?.into()),
            "--identmap" => {
                let (name, file) =
                    value()?.split_once('=').map(|(n, f)| (n.into(), f.into())).ok_or(USAGE)?;
                options.binaries.push((name, file));
            }
            "--kernel" => options.kernels.push(value()?.into()),
            "--fleet" => options.fleet = Some(value()?.into()),
            "--rounds" => {
                let number: usize = value()?.parse().map_err(|_| USAGE)?;
                options.rounds = number.max(7);
            }
            "--instructions" => options.instructions = true,
            "--only" => options.only = Some(value()?),
            "once" => return fill::once(&value()?, &value()?),
            "fill" | "threads" | "plans" | "tables" | "process" => sections.push(arg),
            _ => return Err(USAGE.into()),
        }
    }
    let wants = |name: &str| sections.is_empty() || sections.iter().any(|section| section == name);
    if wants("fill") {
        fill::run(&options)?;
    }
    if wants("threads") {
        threads::run(&options)?;
    }
    if wants("plans") {
        plans::run(&options)?;
    }
    if wants("tables") {
        policies::run()?;
    }
    if wants("process") {
        process::run(&options)?;
    }
    Ok(())
}
