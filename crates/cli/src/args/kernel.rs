//! How the next kernel is entered, where its first instructions are run.

use clap::Args;

use super::values::bytes;

/// How the kernel is entered.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "How the kernel is entered")]
pub(crate) struct Entry {
    /// The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels)
    /// behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine's]
    #[arg(long, value_name = "PROFILE", requires = "kernel")]
    pub(crate) cpu: Option<String>,

    /// The kernel's command line
    #[arg(
        long,
        alias = "command-line",
        value_name = "LINE",
        requires = "kernel",
        allow_hyphen_values = true
    )]
    pub(crate) cmdline: Option<String>,

    /// Room to keep for an initrd, in bytes (K, M and G are understood)
    #[arg(long, value_name = "BYTES", requires = "kernel", value_parser = bytes)]
    pub(crate) initrd_size: Option<u64>,
}
