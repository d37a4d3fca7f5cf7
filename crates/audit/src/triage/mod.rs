//! After the fact: what it was likely to be, by what was known before and what a person saw; and how to see it
//! the next time.
//!
//! Nothing here proves anything: what an audit finds is a reason to think that it happened, not that it did.

mod causes;
mod see;

use core::fmt;

use identmap_linux::Kind;
use identmap_machine::Machine;

use crate::Audit;

pub use see::{Way, ways};

/// What a person saw after the jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saw {
    /// The firmware's screen: the machine reset.
    FirmwareReset,
    /// Nothing more, for ever: no answer to the network, keys or the power button.
    Hang,
    /// A dark or frozen screen, and the machine answers on the network.
    DarkButPings,
    /// The kernel that was left, or the boot loader's default, is running.
    OldKernel,
    /// The new kernel runs and trips over damaged memory: initramfs, ACPI or TPM log broken, random crashes.
    Corruption,
    /// The new kernel said something before it died: a panic, an exception.
    Panic,
    /// A crash, and no dump of it.
    NoDump,
}

/// How likely a cause is. The most likely is the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Likelihood {
    /// What is known speaks against it.
    Unlikely,
    /// Nothing known speaks for it or against it.
    CannotTell,
    /// Something known speaks for it.
    Possible,
    /// What is known of the machine leads to what was seen.
    Likely,
}

impl fmt::Display for Likelihood {
    /// `likely`, `possible`, `cannot tell` or `unlikely`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Likelihood::Likely => "likely",
            Likelihood::Possible => "possible",
            Likelihood::CannotTell => "cannot tell",
            Likelihood::Unlikely => "unlikely",
        })
    }
}

/// What it may have been. Ids are kebab-case and stable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// What kind of cause.
    pub id: &'static str,
    /// How likely.
    pub likelihood: Likelihood,
    /// What, in a few words.
    pub what: String,
    /// Why it is thought of, and how that fits what was seen.
    pub why: String,
    /// How to be sure.
    pub confirm: String,
    /// The findings of the audit that it rests on, by index.
    pub findings: Vec<usize>,
}

/// Causes of what was seen, the most likely first.
#[must_use]
pub fn triage(saw: Saw, machine: &Machine, audit: &Audit, kind: Kind) -> Vec<Cause> {
    let mut causes = causes::of(saw, machine, audit, kind);
    // Stable: causes as likely as each other stay in the order of the rules.
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.likelihood));
    causes
}
