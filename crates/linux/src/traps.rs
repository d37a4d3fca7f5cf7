//! Jumps that fail although every address is mapped.

use identmap_machine::Machine;

use crate::needs::Consumer;
use crate::producer::Traits;
use crate::release::{Release, Releases};
use crate::version::KernelVersion;

/// Releases whose decompressor masks the flags off `PGD[0]` before it takes it for the address of a
/// 4-level table ("x86/boot: Fix page table access in 5-level to 4-level paging transition").
/// Debian changelogs name 6.1.160 and 6.12.63; `pgtable_64.c` of 7.2.13 has `PTE_PFN_MASK`.
/// Releases between that were not read are taken for unfixed.
pub const PGD_FLAGS_MASKED: &[Releases] = &[
    Releases::rest_of_series(Release::new(6, 1, 160)),
    Releases::rest_of_series(Release::new(6, 12, 63)),
    Releases::since(Release::new(7, 2, 13)),
];

/// Where the trap is described.
pub const LEVEL_CHANGE_SOURCE: &str =
    "20251022220755.1026144-4-usamaarif642@gmail.com; arch/x86/boot/compressed/pgtable_64.c";

/// Whether the consumer may take flags of `PGD[0]` for a part of an address: the producer runs with 5
/// levels and sets a bit above 51 there, and the consumer, should it run with 4, does not mask it. `None` if it
/// would and nothing tells how many levels the producer runs with.
#[must_use]
pub fn level_change(machine: &Machine, traits: &Traits, consumer: &Consumer) -> Option<bool> {
    if drops_a_level_badly(traits, consumer) { machine.cpu.runs_5_levels() } else { Some(false) }
}

/// The same, supposing that the producer runs with 5 levels and the consumer with 4.
#[must_use]
pub fn drops_a_level_badly(traits: &Traits, consumer: &Consumer) -> bool {
    let fixed = |version: &KernelVersion| {
        PGD_FLAGS_MASKED.iter().any(|span| span.covers(&version.releases()))
    };
    traits.noptishadow && !consumer.version.as_ref().is_some_and(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Producer;

    #[test]
    fn five_levels_and_an_unfixed_consumer_are_a_trap() {
        let version = |text| KernelVersion::parse(text, None).ok();
        let consumer = |text| Consumer { version: version(text), ..Consumer::default() };
        let traits = |text| *Producer::of(version(text)).traits().certain().unwrap();
        let mut machine = Machine::default();
        machine.cpu.la57_active = Some(true);
        let trap =
            |machine: &Machine, from, to| level_change(machine, &traits(from), &consumer(to));
        assert_eq!(trap(&machine, "6.12.30", "5.10.200"), Some(true));
        assert_eq!(trap(&machine, "6.12.30", "6.12.62"), Some(true));
        assert_eq!(trap(&machine, "6.12.30", "6.12.63"), Some(false));
        assert_eq!(trap(&machine, "6.12.30", "6.1.160"), Some(false));
        assert_eq!(trap(&machine, "6.1.192", "5.10.200"), Some(false), "6.1 sets no bit above 51");
        let any = Consumer::default();
        assert_eq!(level_change(&machine, &traits("6.12.30"), &any), Some(true));
        machine.cpu.la57_active = None;
        assert_eq!(trap(&machine, "6.12.30", "5.10.200"), None);
        assert_eq!(trap(&machine, "6.1.192", "5.10.200"), Some(false));
        machine.cpu.la57 = Some(false);
        assert_eq!(trap(&machine, "6.12.30", "5.10.200"), Some(false));
        (machine.cpu.la57, machine.cpu.la57_active) = (Some(true), Some(false));
        assert_eq!(trap(&machine, "6.12.30", "5.10.200"), Some(false));
    }
}
