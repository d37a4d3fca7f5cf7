//! Memory that must not be mapped, or had better not be: rules as a table.

mod facts;
mod rules;

use core::fmt;

use identmap::PhysRange;

use crate::Machine;
use facts::Facts;
pub use rules::RULES;

/// What a present entry over the range can do. The worst is the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Nothing known to break; unwise.
    Caution,
    /// Reading it raises, or later causes, a machine check.
    Poison,
    /// Accessing it, or writing to it, faults.
    Fault,
    /// Any present entry can stop the machine: speculation alone reaches it.
    Halt,
}

impl fmt::Display for Severity {
    /// `caution`, `poison`, `fault` or `halt`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Caution => "caution",
            Severity::Poison => "poison",
            Severity::Fault => "fault",
            Severity::Halt => "halt",
        })
    }
}

/// How well the machine's texts support that a rule applies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Certainty {
    /// The texts suggest it.
    Likely,
    /// The texts state it.
    Certain,
}

impl fmt::Display for Certainty {
    /// `likely` or `certain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Certainty::Likely => "likely",
            Certainty::Certain => "certain",
        })
    }
}

/// One rule: when it applies, to which ranges, and who says so.
pub struct Rule {
    /// Kebab-case, stable.
    pub id: &'static str,
    /// The memory it is about, in a few words.
    pub title: &'static str,
    /// What a present entry can do.
    pub severity: Severity,
    /// Where this is written.
    pub source: &'static str,
    applies: fn(&Facts<'_>) -> Option<Certainty>,
    ranges: fn(&Facts<'_>) -> Vec<PhysRange>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

/// A range that a rule forbids or warns of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hazard {
    /// The bytes.
    pub range: PhysRange,
    /// Which rule.
    pub rule: &'static Rule,
    /// Whether the rule surely applies to this machine.
    pub certainty: Certainty,
}

/// A rule that may apply, but the texts do not say where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undecided {
    /// Which rule.
    pub rule: &'static Rule,
    /// What is not known, in one sentence without a full stop.
    pub why: &'static str,
    /// What to supply.
    pub supply: &'static str,
}

/// Every range of this machine that a rule of [`RULES`] speaks of, in the order
/// of the rules, sorted within each. Ranges of different rules may overlap.
#[must_use]
pub fn hazards(machine: &Machine) -> Vec<Hazard> {
    let facts = Facts::of(machine);
    let mut out = Vec::new();
    for rule in RULES {
        if let Some(certainty) = (rule.applies)(&facts) {
            let ranges = (rule.ranges)(&facts);
            out.extend(ranges.into_iter().map(|range| Hazard { range, rule, certainty }));
        }
    }
    out
}

/// The rules of which these texts cannot tell whether, or where, they apply.
/// Not empty means: the absence of a hazard proves nothing.
#[must_use]
pub fn undecided(machine: &Machine) -> Vec<Undecided> {
    let rule = |id| RULES.iter().find(|rule| rule.id == id);
    let mut found = Vec::new();
    if let (true, Some(rule)) = (facts::may_be_uv(machine), rule("uv-node-tail")) {
        found.push(Undecided {
            rule,
            why: "reserved memory lies at the ends of nodes as on an HPE UV, and nothing tells what machine it is",
            supply: "say --uv on or off, or give the whole boot log",
        });
    }
    if let (true, None, Some(rule)) =
        (machine.cpu.snp_host == Some(true), machine.rmp, rule("snp-rmp"))
    {
        found.push(Undecided {
            rule,
            why: "the machine hosts SEV-SNP guests, but where its RMP table lies is not known",
            supply: "the kernel's line \"SEV-SNP: RMP table physical range [...]\" (dmesg)",
        });
    }
    found
}

#[cfg(test)]
mod tests;
