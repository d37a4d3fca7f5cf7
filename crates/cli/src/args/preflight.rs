//! `identmap preflight`.

use std::path::PathBuf;

use clap::Args;

use super::facts::Facts;

/// Runs the kernel's first instructions in an emulator, under the page tables that the producer
/// would make for it, until it loads its own. Says where that ends, and lists every page
/// touched outside of what a loader puts in place.
#[derive(Args, Debug)]
pub(crate) struct Preflight {
    /// The kernel to enter: a bzImage
    #[arg(value_name = "KERNEL")]
    pub(crate) kernel: PathBuf,

    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels)
    /// behind [default: the machine's]
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    pub(crate) cpu: Option<identmap_preflight::CpuProfile>,

    /// The kernel's command line
    #[arg(long, value_name = "LINE", default_value = "")]
    pub(crate) cmdline: String,

    /// Room to keep for an initrd, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) initrd_size: u64,
}

fn profile(text: &str) -> Result<identmap_preflight::CpuProfile, String> {
    use identmap_preflight::CpuProfile;
    let expected = CpuProfile::NAMES.join(", ");
    CpuProfile::named(text)
        .ok_or_else(|| format!("expected {expected}, with -nogb or -la57 behind"))
}
