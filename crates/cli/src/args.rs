//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use identmap::{Levels, PhysAddr, PhysRange};
use identmap_audit::{PolicyKind, SlackKind};
use identmap_machine::{parse_address, parse_range};

/// Will this machine survive kexec?
///
/// kexec jumps from one kernel into the next through an identity map. identmap plans
/// that map under Linux's rules and under a better one, and says before the jump what
/// the next kernel needs and would not find, what is mapped by luck, and what must
/// never be mapped.
#[derive(Parser, Debug)]
#[command(name = "identmap", version, max_term_width = 100, after_long_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) output: Output,
}

const AFTER_HELP: &str = "\
SOURCE is `live` (this machine), a file, `-` for standard input, or `sample:NAME`
(`sample:` lists them). A file may hold a bundle (`identmap capture`), a boot log
(dmesg), /proc/iomem, `kexec -d` output or a dump of /sys/firmware/memmap: recognised
by content, quoting and timestamps allowed.

Ranges are written 0xSTART-0xLAST (inclusive, as dmesg prints them) or START+SIZE;
numbers take K, M, G, T.

Exit status: 0 safe, 1 a problem was found, 2 usage or unreadable input, 3 cannot tell.";

#[derive(Args, Debug, Clone)]
pub(crate) struct Output {
    /// Print JSON
    #[arg(short = 'J', long, global = true)]
    pub(crate) json: bool,

    /// Print nothing; the exit status tells
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Print sizes in bytes
    #[arg(short, long, global = true)]
    pub(crate) bytes: bool,

    /// When to use colours; `NO_COLOR` is honoured
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub(crate) color: When,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Say whether the jump is safe: the go/no-go before kexec
    Check(Check),
    /// Plan an identity map from ranges, or from a machine
    Map(Map),
    /// Say whether an address is mapped, level by level, and why
    Explain(Explain),
    /// Compare policies, nogbpages and consumers: the small OK/FAIL table
    Matrix(Matrix),
    /// Say what differs between two machines, firmwares or boots
    Diff(Diff),
    /// Decode real page tables: of the loaded kexec image, of a core file, of raw memory
    ///
    /// FILE is an ELF core file (/proc/vmcore or a copy, QEMU's dump-guest-memory) or a raw image
    /// of memory (with --base and --cr3), recognised by content. Without FILE, the tables of the
    /// kexec image that is loaded now are read, which needs root, /proc/kallsyms, /proc/kcore and
    /// /sys/kernel/btf/vmlinux; nothing is written or loaded.
    ///
    /// What cannot be read is listed as unreadable, never left out: exit status 0 if all was read,
    /// 3 if not, 2 for input that cannot be used, or if no image is loaded.
    Tables(Tables),
    /// Put what a machine tells into one small file, without what identifies it
    Capture(Capture),
    /// Run a kernel's first instructions under the map it would be entered with
    #[cfg(feature = "preflight")]
    Preflight(Preflight),
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// Check the crash kernel's image (kexec -p) instead
    #[arg(short = 'p', long = "panic")]
    pub(crate) crash: bool,

    /// From which severity on the exit status is 1 (3 for what cannot be told)
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    pub(crate) fail_on: FailOn,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailOn {
    Error,
    Warning,
    Info,
    Never,
}

#[derive(Args, Debug)]
pub(crate) struct Map {
    /// The machine whose requests to plan, unless --request is given [default: live]
    pub(crate) source: Option<String>,

    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// Write the tables to FILE
    #[arg(long, value_name = "FILE", requires = "base")]
    pub(crate) raw: Option<PathBuf>,

    /// Physical address of the first table in FILE (the root; what CR3 shall hold)
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) base: Option<PhysAddr>,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The physical address
    #[arg(value_name = "ADDR", value_parser = address)]
    pub(crate) address: PhysAddr,

    /// The machine whose requests to plan, unless --request is given [default: live]
    pub(crate) source: Option<String>,

    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    #[command(flatten)]
    pub(crate) facts: Facts,
}

#[derive(Args, Debug)]
pub(crate) struct Matrix {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    #[command(flatten)]
    pub(crate) facts: Facts,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// One machine: live, FILE, -, or sample:NAME
    pub(crate) a: String,
    /// The other; without it, the memory maps of the one against each other
    pub(crate) b: Option<String>,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("from").args(["file", "live", "piece"]))]
pub(crate) struct Tables {
    /// An ELF core file, or a raw image of memory
    pub(crate) file: Option<PathBuf>,

    /// The image that is loaded now (what is done without FILE)
    #[arg(long)]
    pub(crate) live: bool,

    /// A piece of memory whose first byte is at ADDR, as QEMU's pmemsave writes (repeatable)
    #[arg(long, value_name = "FILE@ADDR", value_parser = piece)]
    pub(crate) piece: Vec<Piece>,

    /// With a loaded image: the crash kernel's (kexec -p)
    #[arg(short = 'p', long = "panic", visible_alias = "crash", conflicts_with = "piece")]
    pub(crate) crash: bool,

    /// Read the image that is loaded in a core file: /proc/kallsyms of the kernel in it
    #[arg(long, value_name = "FILE", requires = "file", requires = "btf")]
    pub(crate) kallsyms: Option<PathBuf>,

    /// And its /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE", requires = "kallsyms")]
    pub(crate) btf: Option<PathBuf>,

    /// Physical address of the top table (CR3; its flag bits are passed over)
    #[arg(long, value_name = "ADDR", value_parser = number)]
    pub(crate) cr3: Option<u64>,

    /// Physical address of the first byte of a raw image
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "file")]
    pub(crate) base: Option<PhysAddr>,

    /// Whose CR3 to take, where a core file has several processors'
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "cr3")]
    pub(crate) cpu: usize,

    /// Paging levels [default: what the source tells, or 4]
    #[arg(long, value_parser = ["4", "5"])]
    pub(crate) levels: Option<String>,

    /// Bits of a physical address (MAXPHYADDR) [default: this processor's with --live, or 52]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=52))]
    pub(crate) maxphyaddr: Option<u8>,

    /// The bit of an entry that marks encrypted memory (C-bit) [default: what the source tells, or none]
    #[arg(long, value_name = "BIT", value_parser = clap::value_parser!(u8).range(32..=51))]
    pub(crate) encryption_bit: Option<u8>,

    /// Walk this virtual address too, level by level
    #[arg(long, value_name = "ADDR", value_parser = number)]
    pub(crate) at: Option<u64>,
}

/// `FILE@ADDR`.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) file: PathBuf,
    pub(crate) base: PhysAddr,
}

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

/// Runs the kernel's first instructions in an emulator, under the page tables that the producer
/// would make for it, until it loads its own. Says where that ends, and lists every page
/// touched outside of what a loader puts in place.
#[cfg(feature = "preflight")]
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

#[cfg(feature = "preflight")]
fn profile(text: &str) -> Result<identmap_preflight::CpuProfile, String> {
    use identmap_preflight::CpuProfile;
    let expected = CpuProfile::NAMES.join(", ");
    CpuProfile::named(text)
        .ok_or_else(|| format!("expected {expected}, with -nogb or -la57 behind"))
}

/// The command line as clap describes it: for help, man page and completions.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// What decides a map.
#[derive(Args, Debug)]
#[command(next_help_heading = "The map")]
pub(crate) struct PlanArgs {
    /// Map this range (repeatable, order kept)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) request: Vec<PhysRange>,

    /// Read requests from FILE, one range a line, # comments (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) requests_file: Option<String>,

    /// Never reach a byte of this range (repeatable)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) forbid: Vec<PhysRange>,

    /// The rule that picks leaf sizes [default: the producer's, or exact]
    #[arg(long, value_parser = policies())]
    pub(crate) policy: Option<String>,

    /// How far guarded may reach beyond the requests
    #[arg(long, value_parser = ["none", "ram", "any"])]
    pub(crate) slack: Option<String>,

    /// Paging levels [default: what the machine uses, or 4]
    #[arg(long, value_parser = ["4", "5"])]
    pub(crate) levels: Option<String>,

    /// Whether 1G leaves may be used [default: what the machine does, or on]
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) gbpages: Option<String>,

    /// Bits of a physical address (MAXPHYADDR) [default: the machine's, or 52]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=52))]
    pub(crate) maxphyaddr: Option<u8>,
}

/// What the machine's texts may not tell, or what to suppose instead.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Facts to add or to suppose")]
pub(crate) struct Facts {
    /// The kernel you kexec from, as uname -r prints it
    #[arg(long, value_name = "VERSION")]
    pub(crate) producer: Option<String>,

    /// The kernel you kexec to [default: any kernel since 5.10]
    #[arg(long, value_name = "VERSION")]
    pub(crate) consumer: Option<String>,

    /// Suppose nogbpages on the producer's command line
    #[arg(long)]
    pub(crate) nogbpages: bool,

    /// Whether this is an HPE UV system
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) uv: Option<String>,

    /// Whether CPUID 0x8000001F.EAX[1] (SEV) is set
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) sev: Option<String>,

    /// Where the EFI system table lies
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) system_table: Option<PhysAddr>,

    /// Where the EFI configuration-table array lies (ADDR, or a range)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) config_table: Option<PhysRange>,
}

impl PlanArgs {
    /// Whether requests are given here, so that no machine is needed.
    pub(crate) fn has_requests(&self) -> bool {
        !self.request.is_empty() || self.requests_file.is_some()
    }

    pub(crate) fn policy(&self) -> Option<PolicyKind> {
        let name = self.policy.as_deref()?;
        PolicyKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn slack(&self) -> Option<SlackKind> {
        match self.slack.as_deref()? {
            "none" => Some(SlackKind::None),
            "ram" => Some(SlackKind::Ram),
            _ => Some(SlackKind::Any),
        }
    }

    pub(crate) fn levels(&self) -> Option<Levels> {
        self.levels.as_deref().map(|text| if text == "5" { Levels::Five } else { Levels::Four })
    }

    pub(crate) fn gbpages(&self) -> Option<bool> {
        self.gbpages.as_deref().map(|text| text == "on")
    }
}

fn policies() -> [&'static str; 4] {
    PolicyKind::ALL.map(PolicyKind::name)
}

fn range(text: &str) -> Result<PhysRange, String> {
    parse_range(text).map_err(|e| e.to_string())
}

fn address(text: &str) -> Result<PhysAddr, String> {
    parse_address(text).map_err(|e| e.to_string())
}

fn piece(text: &str) -> Result<Piece, String> {
    let (file, base) = text.rsplit_once('@').ok_or("expected FILE@ADDR")?;
    if file.is_empty() {
        return Err("expected FILE@ADDR".to_owned());
    }
    Ok(Piece { file: file.into(), base: address(base)? })
}

/// Any 64 bits: a virtual address, or a register.
fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16),
        _ => text.parse(),
    };
    parsed.map_err(|_| "expected a number of 64 bits, hexadecimal with 0x".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
