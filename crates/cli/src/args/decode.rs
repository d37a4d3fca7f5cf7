//! `identmap decode`.

use clap::Args;

use super::Facts;

/// Explain register dumps: what kexec's debug handler, an oops or an early exception printed.
///
/// Takes a console or serial log, or a piece of one, and says for every dump in it which exception it was, what
/// the bits of its error code and control registers mean and, with --machine, what the addresses are on that
/// machine: which memory, whether the identity map has them and in which leaf, and what needs them.
#[derive(Args, Debug)]
pub(crate) struct Decode {
    /// The log: FILE, or - for standard input
    #[arg(default_value = "-")]
    pub(crate) file: String,

    /// The machine it happened on: live, FILE (a bundle or a boot log), or sample:NAME
    #[arg(long, value_name = "SOURCE")]
    pub(crate) machine: Option<String>,

    /// It happened on the way to the crash kernel (kexec -p)
    #[arg(short = 'p', long = "panic", requires = "machine")]
    pub(crate) crash: bool,

    #[command(flatten)]
    pub(crate) facts: Facts,
}
