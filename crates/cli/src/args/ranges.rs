//! `identmap ranges`.

use clap::Args;

use super::{Facts, ListArgs};

/// List the machine's memory, one range a line.
///
/// The ranges are those that every verdict rests on: of all the maps that the source holds the one that
/// the running kernel works with. `diff` compares the maps with each other.
#[derive(Args, Debug)]
pub(crate) struct Ranges {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    #[command(flatten)]
    pub(crate) list: ListArgs,

    #[command(flatten)]
    pub(crate) facts: Facts,
}
