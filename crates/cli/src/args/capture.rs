//! `identmap capture`.

use std::path::PathBuf;

use clap::Args;

/// Put what a machine tells into one small file, without what identifies it.
///
/// The bundle is readable JSON. Every other command takes it as SOURCE, on any machine and
/// without root, and answers as it would have where the bundle was made. Serial numbers, host
/// names, network addresses, UUIDs and the values of parameters that do not matter are left out,
/// and with them every line of the log that identmap does not read. Nothing is sent anywhere.
#[derive(Args, Debug)]
pub(crate) struct Capture {
    /// The machine: live, FILE (a boot log, or a bundle to redact), -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    /// Write the bundle to FILE (- for standard output) [default: standard output, unless it is a terminal]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Leave nothing out: serial numbers and addresses too. Not for public places
    #[arg(long)]
    pub(crate) full: bool,

    /// Say what the bundle would hold and what would be left out, and write none
    #[arg(long, conflicts_with = "file")]
    pub(crate) show: bool,
}
