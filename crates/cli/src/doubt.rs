//! What keeps an answer from being a good one, whatever a map is like, and whichever command gives it.

use identmap_audit::{Finding, doubts};
use identmap_linux::Consumer;
use identmap_machine::{Layout, Machine};

/// Of the machine and of the jump into this kernel. `run`: it was run, so that it need not be one that was read.
pub(crate) fn all(machine: &Machine, consumer: &Consumer, run: bool) -> Vec<Finding> {
    let mut found = doubts(machine, Layout::of(machine).as_ref(), consumer);
    found.retain(|doubt| !(run && doubt.id == "consumer-newer"));
    found
}

/// Those that count where the question is what is missing: what may halt the machine is another matter. A sentence
/// without a full stop for each.
pub(crate) fn of_missing(machine: &Machine, consumer: &Consumer, run: bool) -> Vec<String> {
    let all = all(machine, consumer, run).into_iter();
    let counts = all.filter(|doubt| doubt.id != "hazard-unknown");
    counts.map(|doubt| format!("{}: {}", doubt.what, doubt.why)).collect()
}
