//! `identmap preflight`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use identmap_linux::Kind;
use identmap_linux::boot::Strategy;
use identmap_machine::Machine;
use identmap_preflight::Limits;

use super::facts::Facts;
use super::limit::Limit;
use crate::output::Failure;

/// Runs the kernel's first instructions in an emulator, under the page tables that the producer
/// would make for it, until it loads its own. Says where that ends, and lists every page
/// touched outside of what a loader puts in place.
#[derive(Args, Debug, Clone)]
pub(crate) struct Preflight {
    /// The kernel to enter: a bzImage. With --loaded it is left out
    #[arg(value_name = "KERNEL", required_unless_present = "loaded")]
    pub(crate) kernel: Option<PathBuf>,

    /// The machine: live, FILE, -, or sample:NAME [default: live]
    pub(crate) source: Option<String>,

    /// Start at the jump into the image that is loaded, with the bytes and the tables that are loaded:
    /// its purgatory is run too. Needs root
    #[arg(long, conflicts_with_all = ["cmdline", "initrd_size"])]
    pub(crate) loaded: bool,

    /// The crash kernel: the image loaded for it, or KERNEL in the memory that is reserved for one
    #[arg(short = 'p', long = "panic")]
    pub(crate) crash: bool,

    #[command(flatten)]
    pub(crate) core: Core,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels)
    /// behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine's]
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    pub(crate) cpu: Option<identmap_preflight::CpuProfile>,

    /// The kernel's command line
    #[arg(long, alias = "command-line", value_name = "LINE", default_value = "")]
    pub(crate) cmdline: String,

    /// Room to keep for an initrd, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) initrd_size: u64,

    /// End each run after this many seconds [default: 20, and more for a purgatory, which hashes the image]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) time: Option<u64>,

    #[command(flatten)]
    pub(crate) limit: Limit,
}

/// Where the loaded image is, if not on this machine.
#[derive(Args, Debug, Clone)]
pub(crate) struct Core {
    /// The memory that the image is loaded in: an ELF core file of the machine
    #[arg(long = "core", value_name = "FILE", requires_all = ["loaded", "kallsyms", "btf"])]
    pub(crate) file: Option<PathBuf>,

    /// Its /proc/kallsyms
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(crate) kallsyms: Option<PathBuf>,

    /// Its /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(crate) btf: Option<PathBuf>,
}

impl Preflight {
    /// SOURCE. With --loaded there is no KERNEL before it.
    pub(crate) fn source(&self) -> String {
        let first = self.kernel.as_ref().filter(|_| self.loaded);
        let first = first.map(|path| path.to_string_lossy().into_owned());
        self.source.clone().or(first).unwrap_or_else(|| "live".to_owned())
    }

    /// These limits, with the time that was given.
    pub(crate) fn limits(&self, limits: Limits) -> Limits {
        Limits { time: self.time.map_or(limits.time, Duration::from_secs), ..limits }
    }

    pub(crate) fn kind(&self) -> Kind {
        if self.crash { Kind::Kdump } else { Kind::Kexec }
    }

    /// Where KERNEL is put.
    pub(crate) fn strategy(&self, machine: &Machine) -> Result<Strategy, Failure> {
        if !self.crash {
            return Ok(Strategy::TopDown);
        }
        // The one above 4 GiB, where there are two: the other is for DMA.
        let reserved =
            machine.crash_kernels.iter().map(|crash| crash.range).max_by_key(|r| r.start());
        reserved.map(Strategy::Crash).ok_or_else(|| {
            Failure(format!("{}: no memory is reserved for a crash kernel", machine.source))
        })
    }
}

fn profile(text: &str) -> Result<identmap_preflight::CpuProfile, String> {
    use identmap_preflight::CpuProfile;
    let expected = CpuProfile::NAMES.join(", ");
    CpuProfile::named(text)
        .ok_or_else(|| format!("expected {expected}, with -nogb or -la57 behind"))
}
