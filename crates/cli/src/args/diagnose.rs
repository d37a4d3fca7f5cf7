//! `identmap diagnose`.

use clap::Args;

use super::facts::Facts;
use super::kernel::Entry;

/// Say which missing ranges are necessary: the least set that helps
///
/// Starts from the map that the producer makes, adds the page of each thing that is missing as a
/// synthetic entry, as if firmware had described it, until the jump ends well; then takes each entry
/// away again to see that it fails without. What is left is named, with the rule that would have
/// covered it on any machine, and that rule is tried too. An entry that would make the map reach
/// forbidden memory is not added but named.
///
/// With KERNEL, the kernel's first instructions are run each time (feature `preflight`); without
/// it, the rules for kernels since 5.10 say what is missing.
#[derive(Args, Debug)]
pub(crate) struct Diagnose {
    /// The kernel to enter, a bzImage (recognised by content)
    #[arg(value_name = "KERNEL")]
    pub(crate) kernel: Option<String>,

    /// The machine: live, FILE, -, or sample:NAME [default: live]
    #[arg(value_name = "SOURCE")]
    pub(crate) source: Option<String>,

    #[command(flatten)]
    pub(crate) facts: Facts,

    #[command(flatten)]
    pub(crate) entry: Entry,
}
