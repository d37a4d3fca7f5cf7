//! `identmap load`, `exec`, `unload`, `status`.

use std::path::PathBuf;

use clap::Args;
use identmap::{Levels, PhysRange};
use identmap_audit::{PolicyKind, SlackKind};
use identmap_kexec::MapChoice;

use super::facts::Facts;
use super::values::range;

/// Loads a kernel with page tables of our own. A small program between the two kernels verifies
/// what was loaded and switches to them; nothing of the running kernel is changed before `exec`.
///
/// The check runs first; what it calls unsafe is not loaded.
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "the options of kexec(8)")]
pub(crate) struct Load {
    /// The kernel: a bzImage, an ELF vmlinux, a UKI; gzip, xz and zstd around it are taken off
    #[arg(value_name = "KERNEL")]
    pub(crate) kernel: PathBuf,

    /// Its initrd (repeatable: they are joined in this order)
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Vec<PathBuf>,

    /// Its command line
    #[arg(long, alias = "cmdline", value_name = "LINE", conflicts_with = "reuse_cmdline")]
    pub(crate) command_line: Option<String>,

    /// Words behind the command line; before a -- in it, as what is behind that is for init
    #[arg(long, value_name = "LINE")]
    pub(crate) append: Option<String>,

    /// Take the running kernel's command line
    #[arg(long)]
    pub(crate) reuse_cmdline: bool,

    /// Load it as the crash kernel, which starts when the running one panics
    #[arg(short = 'p', long = "panic")]
    pub(crate) crash: bool,

    /// Use `kexec_file_load`: the kernel verifies signatures, and the map is its own
    #[arg(short = 's', long, group = "syscall")]
    pub(crate) kexec_file_syscall: bool,

    /// Use `kexec_load`: the map is ours
    #[arg(short = 'c', long, group = "syscall")]
    pub(crate) kexec_syscall: bool,

    /// Use what the running kernel allows, ours first [default]
    #[arg(short = 'a', long, group = "syscall")]
    pub(crate) kexec_syscall_auto: bool,

    #[command(flatten)]
    pub(crate) map: LoadMap,

    /// Do not verify the segments before the jump
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Where a failed verification is told: an I/O port, or none [default: by the command line's console=]
    #[arg(long, value_name = "PORT", value_parser = serial)]
    pub(crate) serial: Option<SerialChoice>,

    /// Print every segment and the map, and load nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Load what the check calls unsafe
    #[arg(short = 'f', long)]
    pub(crate) force: bool,

    /// Plan for this machine instead: FILE, -, or sample:NAME; implies --dry-run
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,

    #[command(flatten)]
    pub(crate) facts: Facts,
}

/// What decides the map.
#[derive(Args, Debug)]
#[command(next_help_heading = "The map")]
pub(crate) struct LoadMap {
    /// The rule that picks leaf sizes
    #[arg(long, default_value = "guarded", value_parser = super::plan::policies())]
    pub(crate) policy: String,

    /// How far guarded may reach beyond the requests
    #[arg(long, default_value = "ram", value_parser = ["none", "ram", "any"])]
    pub(crate) slack: String,

    /// Never map a byte of this range, and put nothing into it (repeatable)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) forbid: Vec<PhysRange>,

    /// Paging levels [default: what the running kernel uses]
    #[arg(long, value_parser = ["4", "5"])]
    pub(crate) levels: Option<String>,

    /// Whether 1G leaves may be used [default: what the machine has]
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) gbpages: Option<String>,
}

impl LoadMap {
    /// With synthetic entries.
    pub(crate) fn choice(&self, extra: &[PhysRange]) -> MapChoice {
        let policy = PolicyKind::ALL.into_iter().find(|kind| kind.name() == self.policy);
        MapChoice {
            policy: policy.unwrap_or(PolicyKind::Guarded),
            slack: match self.slack.as_str() {
                "none" => SlackKind::None,
                "any" => SlackKind::Any,
                _ => SlackKind::Ram,
            },
            extra: extra.to_vec(),
            forbid: self.forbid.clone(),
            levels: self
                .levels
                .as_deref()
                .map(|text| if text == "5" { Levels::Five } else { Levels::Four }),
            gbpages: self.gbpages.as_deref().map(|text| text == "on"),
        }
    }
}

/// `--serial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SerialChoice {
    None,
    Port(u16),
}

fn serial(text: &str) -> Result<SerialChoice, String> {
    if text == "none" {
        return Ok(SerialChoice::None);
    }
    let port = super::values::number(text)?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0);
    port.map(SerialChoice::Port).ok_or_else(|| "expected an I/O port, or none".to_owned())
}

/// Jumps into the kernel that is loaded.
///
/// Where systemd runs, it is asked to shut down in order and jump (`systemctl kexec`). Elsewhere
/// file systems are synced and made read-only first; services are not stopped: that is for whoever calls.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Jump at once: nothing is stopped, synced or unmounted
    #[arg(long)]
    pub(crate) now: bool,
}

/// Unloads what is loaded.
#[derive(Args, Debug)]
pub(crate) struct Unload {
    /// The crash kernel
    #[arg(short = 'p', long = "panic")]
    pub(crate) crash: bool,
}
