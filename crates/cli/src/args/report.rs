//! `identmap report`.

use std::path::PathBuf;

use clap::Args;

use super::{Entry, Facts};

/// Write one HTML file that tells it all: verdict, pictures, hand-over, tables, facts.
///
/// The file needs nothing else: no network, no script. It can be read on a telephone and printed. What
/// identifies the machine (serial numbers, host names, network addresses, UUIDs) is left out as `capture`
/// does it, and the same input gives the same bytes.
#[derive(Args, Debug)]
pub(crate) struct Report {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    /// Write the report to FILE (- for standard output) [default: standard output, unless it is a terminal]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The heading [default: the machine's own name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,

    /// Print this as the date of the report; none is printed without it
    #[arg(long, value_name = "TEXT")]
    pub(crate) date: Option<String>,

    /// Leave nothing out: serial numbers and names too. Not for public places
    #[arg(long)]
    pub(crate) full: bool,

    /// Report on the crash kernel's image (kexec -p) instead
    #[arg(short = 'p', long = "panic", conflicts_with = "kernel")]
    pub(crate) crash: bool,

    /// Run the first instructions of FILE, a bzImage, under the map, and put where they end into the
    /// time line (feature `preflight`)
    #[arg(short = 'k', long, value_name = "FILE", conflicts_with = "consumer")]
    pub(crate) kernel: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) entry: Entry,

    #[command(flatten)]
    pub(crate) facts: Facts,
}
