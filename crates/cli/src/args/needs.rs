//! `identmap needs`.

use std::path::PathBuf;

use clap::Args;

use super::{Entry, Facts, Limit, ListArgs};

/// List what must be mapped for the jump, and by which leaf it is
///
/// One line for each thing that the running kernel's last instructions and the next kernel's first touch before
/// that has its own page tables, sorted by address. What cannot be read is listed as such, never left out.
///
/// RANGE is where it lies; behind "in", where it is supposed to lie. NEEDED says `if` where that depends on
/// what IF names. MAPPED is what the running kernel's map makes of it: `requested`; `luck`, where only a large page
/// made for something else reaches it; `no`; `if-there`, mapped if it lies in RANGE; `unknown`; and `depends`, where
/// producers that are possible differ (--json has each).
#[derive(Args, Debug)]
pub(crate) struct Needs {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    /// What the crash kernel's image needs (kexec -p)
    #[arg(short = 'p', long = "panic", conflicts_with = "kernel")]
    pub(crate) crash: bool,

    /// Run the first instructions of FILE, a bzImage, under the map: what it touches stands instead of the rules
    /// about kernels (feature `preflight`)
    #[arg(short = 'k', long, value_name = "FILE", conflicts_with = "consumer")]
    pub(crate) kernel: Option<PathBuf>,

    /// List the rules too by which nothing is needed here
    #[arg(long)]
    pub(crate) all: bool,

    /// One line for each range that something may lie in, with what the map makes of it there
    #[arg(long, conflicts_with = "json")]
    pub(crate) each: bool,

    #[command(flatten)]
    pub(crate) limit: Limit,

    #[command(flatten)]
    pub(crate) list: ListArgs,

    #[command(flatten)]
    pub(crate) entry: Entry,

    #[command(flatten)]
    pub(crate) facts: Facts,
}
