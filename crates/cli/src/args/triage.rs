//! `identmap triage`.

use clap::{Args, ValueEnum};
use identmap_audit::Saw;

use super::Facts;

/// After a jump that went wrong: what it was likely to be, and how to see it the next time.
///
/// From what is known of the machine (best a bundle taken before: `identmap capture`) and from what a person saw, a
/// list of causes, the most likely first, each with its reason and how to be sure. Then lines for the command lines
/// of both kernels that make the next failure visible on this machine. Nothing here is proof: it says `likely`,
/// `possible`, `cannot tell` and `unlikely`, and why.
#[derive(Args, Debug)]
pub(crate) struct Triage {
    /// The machine: live, FILE, -, or sample:NAME
    #[arg(default_value = "live")]
    pub(crate) source: String,

    /// What was seen
    #[arg(long, value_name = "WHAT")]
    pub(crate) saw: SawArg,

    #[command(flatten)]
    pub(crate) facts: Facts,

    /// It was the crash kernel (kexec -p)
    #[arg(short = 'p', long = "panic")]
    pub(crate) crash: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SawArg {
    /// The firmware's screen: the machine reset
    FirmwareReset,
    /// Nothing more, and no answer, neither on the network nor to keys
    Hang,
    /// A dark or frozen screen, but the machine answers on the network
    DarkButPings,
    /// The kernel that was left, or the boot loader's default, is running
    OldKernel,
    /// The new kernel runs, but memory is damaged: initramfs, ACPI, TPM log, random crashes
    Corruption,
    /// The new kernel said something before it died
    Panic,
    /// A crash, and no dump (supposes --panic)
    NoDump,
}

impl SawArg {
    pub(crate) fn saw(self) -> Saw {
        match self {
            SawArg::FirmwareReset => Saw::FirmwareReset,
            SawArg::Hang => Saw::Hang,
            SawArg::DarkButPings => Saw::DarkButPings,
            SawArg::OldKernel => Saw::OldKernel,
            SawArg::Corruption => Saw::Corruption,
            SawArg::Panic => Saw::Panic,
            SawArg::NoDump => Saw::NoDump,
        }
    }
}
