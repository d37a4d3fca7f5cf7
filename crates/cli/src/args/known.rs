//! `identmap known`.

use clap::Args;

use super::ListArgs;

/// List combinations of kernels and machines that are known to fail
///
/// Each with what goes wrong, the releases that do it and that suffer it, and the evidence: reports, commits, cells of
/// the lab. Where a finding of `check` is one of them, it says which. The releases are those of the model that every
/// verdict rests on; (?) marks bounds that follow from others and were not read.
#[derive(Args, Debug)]
pub(crate) struct Known {
    /// Only those that this kernel, as uname -r prints it, can do to the next one
    #[arg(long, value_name = "VERSION")]
    pub(crate) producer: Option<String>,

    /// Only those that this kernel can suffer
    #[arg(long, value_name = "VERSION")]
    pub(crate) consumer: Option<String>,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}
