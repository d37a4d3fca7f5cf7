//! `identmap decode`.

use clap::Args;

use super::Facts;

/// Explain why an image was not loaded; and register dumps
///
/// Takes a console or serial log, or a piece of one, and explains in it:
///
/// - what kexec(8) and the kernel say where an image is not loaded ("Cannot determine the file type of …",
///   "kexec failed: …", with the list of segments): every cause that it can have, how to tell, what to do;
///
/// - register dumps of kexec's debug handler, of an oops or an early exception: which exception it was, what the
///   bits of its error code and control registers mean and, with --machine, what the addresses are on that
///   machine: which memory, whether the identity map has them and in which leaf, and what needs them.
#[derive(Args, Debug)]
pub(crate) struct Decode {
    /// The log: FILE, or - for standard input
    #[arg(default_value = "-")]
    pub(crate) file: String,

    /// In place of a log: what kexec(8) said, or an errno (its name, text or number)
    #[arg(long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,

    /// The machine it happened on: live, FILE (a bundle or a boot log), or sample:NAME
    #[arg(long, value_name = "SOURCE")]
    pub(crate) machine: Option<String>,

    /// It happened on the way to the crash kernel (kexec -p)
    #[arg(short = 'p', long = "panic", requires = "machine")]
    pub(crate) crash: bool,

    #[command(flatten)]
    pub(crate) facts: Facts,
}
