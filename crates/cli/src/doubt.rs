//! What keeps an answer from being a good one, whatever a map is like, and whichever command gives it.

use identmap_audit::{By, Finding, doubts};
use identmap_linux::{Consumer, Kind, Producer};
use identmap_machine::{Layout, Machine};

/// Of the machine and of the jump from one kernel into another.
pub(crate) fn all(
    machine: &Machine,
    kernels: (&Producer, &Consumer),
    kind: Kind,
    by: By,
) -> Vec<Finding> {
    doubts(machine, Layout::of(machine).as_ref(), kernels, kind, by)
}

/// Those that count where the question is what is missing: what may halt the machine is another matter. A sentence
/// without a full stop for each.
pub(crate) fn of_missing(
    machine: &Machine,
    kernels: (&Producer, &Consumer),
    kind: Kind,
    by: By,
) -> Vec<String> {
    let all = all(machine, kernels, kind, by).into_iter();
    let counts = all.filter(|doubt| doubt.id != "hazard-unknown");
    counts.map(|doubt| format!("{}: {}", doubt.what, doubt.why)).collect()
}
