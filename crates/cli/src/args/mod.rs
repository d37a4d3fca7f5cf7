//! The command line.

mod capture;
mod decode;
mod diagnose;
mod facts;
mod fleet;
mod kernel;
mod known;
mod limit;
mod list;
mod load;
mod needs;
mod picture;
mod plan;
#[cfg(feature = "preflight")]
mod preflight;
mod ranges;
mod report;
mod tables;
mod triage;
mod values;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::{Args, Parser, Subcommand, ValueEnum};
use identmap::PhysAddr;

pub(crate) use capture::Capture;
pub(crate) use decode::Decode;
pub(crate) use diagnose::Diagnose;
pub(crate) use facts::Facts;
pub(crate) use fleet::{Fleet, Format};
pub(crate) use kernel::Entry;
pub(crate) use known::Known;
pub(crate) use limit::Limit;
pub(crate) use list::ListArgs;
pub(crate) use load::{Exec, Load, SerialChoice, Unload};
pub(crate) use needs::Needs;
pub(crate) use picture::PictureArgs;
pub(crate) use plan::PlanArgs;
#[cfg(feature = "preflight")]
pub(crate) use preflight::{Core, Preflight};
pub(crate) use ranges::Ranges;
pub(crate) use report::Report;
pub(crate) use tables::{Piece, Tables};
pub(crate) use triage::Triage;
use values::address;

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

// In the order of GROUPS.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Say whether the jump is safe: the go/no-go before kexec
    Check(Check),
    /// Run a kernel's first instructions under the map it would get
    #[cfg(feature = "preflight")]
    Preflight(Preflight),
    Diagnose(Diagnose),
    /// Compare policies, nogbpages and consumers: the small OK/FAIL table
    Matrix(Matrix),
    /// Say whether an address is mapped, level by level, and why
    Explain(Explain),
    /// Write one HTML file: verdict, pictures, hand-over, tables, facts
    Report(Report),
    /// List what must be mapped for the jump, and by which leaf it is
    Needs(Needs),
    /// List the machine's memory, one range a line
    Ranges(Ranges),
    /// Plan an identity map from ranges, or from a machine
    Map(Map),
    /// Decode real page tables: of a loaded image, a core file, raw memory
    ///
    /// FILE is an ELF core file (/proc/vmcore or a copy, QEMU's dump-guest-memory) or a raw image
    /// of memory (with --base and --cr3), recognised by content. Without FILE, the tables of the
    /// kexec image that is loaded now are read, which needs root, /proc/kallsyms, /proc/kcore and
    /// /sys/kernel/btf/vmlinux; nothing is written or loaded.
    ///
    /// What cannot be read is listed as unreadable, never left out: exit status 0 if all was read,
    /// 3 if not, 2 for input that cannot be used, or if no image is loaded.
    Tables(Tables),
    /// Say what differs between two machines, firmwares or boots
    Diff(Diff),
    Known(Known),
    /// Load a kernel with page tables of our own
    Load(Box<Load>),
    /// Say what is loaded
    ///
    /// Where a `load` was killed, the image in the kernel's memory is compared with what it was about to load,
    /// which takes root; exit status 3 if that cannot be told.
    Status,
    /// Jump into the kernel that is loaded
    Exec(Exec),
    /// Unload what is loaded
    Unload(Unload),
    /// Say what a failed jump likely was, and how to see the next one
    Triage(Triage),
    /// Explain why an image was not loaded; and register dumps
    Decode(Decode),
    /// Put what a machine tells into one file, without what identifies it
    Capture(Capture),
    /// Judge thousands of machines in one run, and group what is found
    Fleet(Fleet),
}

/// The commands by what a person is about to do: the order of help and manual.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Before the jump", &["check", "preflight", "diagnose", "matrix", "explain", "report"]),
    ("Looking closely", &["needs", "ranges", "map", "tables", "diff", "known"]),
    ("Loading and jumping", &["load", "status", "exec", "unload"]),
    ("After it went wrong", &["triage", "decode"]),
    ("For others, and of many machines", &["capture", "fleet"]),
];

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// Check the crash kernel's image (kexec -p) instead
    #[arg(short = 'p', long = "panic", conflicts_with = "kernel")]
    pub(crate) crash: bool,

    /// Run the first instructions of FILE, a bzImage, under the map: what it touches then replaces
    /// the rules about kernels (feature `preflight`)
    #[arg(short = 'k', long, value_name = "FILE", conflicts_with = "consumer")]
    pub(crate) kernel: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) entry: Entry,

    /// From which severity on the exit status is 1 (3 for what cannot be told)
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    pub(crate) fail_on: FailOn,

    #[command(flatten)]
    pub(crate) limit: Limit,

    #[command(flatten)]
    pub(crate) picture: PictureArgs,
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

    #[command(flatten)]
    pub(crate) picture: PictureArgs,

    #[command(flatten)]
    pub(crate) list: ListArgs,
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
    pub(crate) list: ListArgs,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// A column for this kernel, a bzImage, of which each cell is a run of its first instructions
    /// (repeatable; feature `preflight`)
    #[arg(short = 'k', long, value_name = "FILE", conflicts_with = "consumer")]
    pub(crate) kernel: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) entry: Entry,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// One machine: live, FILE, -, or sample:NAME
    pub(crate) a: String,
    /// The other; without it, the memory maps of the one against each other
    pub(crate) b: Option<String>,
}

/// The command line as clap describes it: for help, man page and completions.
#[must_use]
pub fn command() -> clap::Command {
    let command = <Cli as clap::CommandFactory>::command();
    let template = help_template(&command);
    command.help_template(template)
}

/// clap groups options, but not commands.
fn help_template(command: &clap::Command) -> StyledStr {
    let styles = command.get_styles();
    let (heading, literal) = (styles.get_header(), styles.get_literal());
    let width = command.get_subcommands().map(|sub| sub.get_name().len()).max().unwrap_or(0);
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (title, names) in GROUPS {
        let _ = write!(text, "\n{heading}{title}:{heading:#}\n");
        for name in names {
            // `preflight` is not in every build.
            let Some(sub) = command.find_subcommand(name) else { continue };
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name:<width$}{literal:#}  {about}");
        }
    }
    let _ = write!(text, "\n{heading}Options:{heading:#}\n{{options}}{{after-help}}");
    StyledStr::from(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn commands_are_listed_in_the_order_of_their_groups() {
        let command = command();
        let defined: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let grouped = GROUPS.iter().flat_map(|(_, names)| *names).copied();
        let listed: Vec<&str> = grouped.filter(|name| defined.contains(name)).collect();
        assert_eq!(defined, listed);
        let help = command.clone().render_help().to_string();
        let wide = help.lines().take_while(|line| *line != "Options:").find(|line| line.len() > 80);
        assert_eq!(wide, None);
    }

    #[test]
    fn a_letter_means_the_same_in_every_command() {
        // Two have a second meaning: `-o` asks for columns where a list is printed, as in lsblk(8),
        // and for a file where a file is written; `-n` leaves out headings, and loads nothing.
        let known = [
            ('J', "json"),
            ('q', "quiet"),
            ('b', "bytes"),
            ('o', "output"),
            ('n', "noheadings"),
            ('n', "dry-run"),
            ('r', "raw-output"),
            ('P', "pairs"),
            ('p', "panic"),
            ('k', "kernel"),
            ('f', "force"),
            ('s', "kexec-file-syscall"),
            ('c', "kexec-syscall"),
            ('a', "kexec-syscall-auto"),
        ];
        let command = command();
        let mut used = BTreeSet::new();
        for sub in command.get_subcommands().chain([&command]) {
            for arg in sub.get_arguments() {
                let (Some(short), Some(long)) = (arg.get_short(), arg.get_long()) else { continue };
                used.insert((short, long.to_owned()));
            }
        }
        let known: BTreeSet<_> = known.map(|(short, long)| (short, long.to_owned())).into();
        assert_eq!(used, known);
    }
}
