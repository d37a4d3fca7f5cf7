//! When each behaviour came, went and came back: the one table of versions.
//!
//! Read from Linux 5.10.262, 6.1.187, 6.1.192, 6.12.117, 7.2.13 and 7.3.4 (the
//! sources in Debian's `linux-source-*`), the changelogs in those packages,
//! kernel.org's release announcements and stable review mails, and the CVE
//! record. What only follows from something else is marked [`Proof::Inferred`],
//! and counts as uncertain.

use crate::known::Known;
use crate::release::{Release, Releases};

/// The newest release whose source was read. Later ones are taken to go on as it does.
pub const NEWEST_READ: Release = Release::new(7, 3, 4);

/// How it is known that a behaviour began or ended with a release.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Proof {
    /// Read in a source, a changelog, an announcement, a review mail or a CVE record.
    Read,
    /// Follows from dates or from other branches; not read.
    Inferred,
}

/// Releases that behave so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The releases.
    pub releases: Releases,
    /// The commit that made it so (mainline, or the stable branch's own).
    pub commit: &'static str,
    /// Where the bounds were read.
    pub source: &'static str,
    /// How sure that is.
    pub proof: Proof,
}

/// A behaviour that some releases have and others have not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// What they do, as a sentence without a full stop.
    pub title: &'static str,
    /// Sorted, disjoint.
    pub spans: &'static [Span],
}

impl Behaviour {
    /// Whether a kernel with the content of one of `releases` behaves so.
    #[must_use]
    pub fn over(&self, releases: Releases) -> Known<bool> {
        if let Some(span) = self.spans.iter().find(|s| s.releases.covers(&releases)) {
            return match span.proof {
                Proof::Read => Known::Certain(true),
                Proof::Inferred => Known::either(format!("not verified for {}", span.releases)),
            };
        }
        if self.spans.iter().any(|s| s.releases.intersects(&releases)) {
            return Known::either(format!("of {releases} some do and some do not"));
        }
        Known::Certain(false)
    }

    /// The span that `release` lies in.
    #[must_use]
    pub fn span(&self, release: Release) -> Option<&'static Span> {
        self.spans.iter().find(|s| s.releases.contains(release))
    }
}

const fn v(major: u16, minor: u16, patch: u16) -> Release {
    Release::new(major, minor, patch)
}

const fn rc(major: u16, minor: u16, candidate: u16) -> Release {
    Release::rc(major, minor, candidate)
}

const fn read(releases: Releases, commit: &'static str, source: &'static str) -> Span {
    Span { releases, commit, source, proof: Proof::Read }
}

const fn inferred(releases: Releases, commit: &'static str, source: &'static str) -> Span {
    Span { releases, commit, source, proof: Proof::Inferred }
}

/// 1 GiB leaves in kexec's map at all.
pub static GBPAGES: Behaviour = Behaviour {
    title: "kernel_ident_mapping_init() makes 1 GiB leaves",
    spans: &[read(
        Releases::since(rc(4, 12, 1)),
        "66aad4fdf2bf",
        "CVE-2024-50017: affected from 4.12",
    )],
};

/// A 1 GiB leaf only where one request covers the whole GiB.
pub static EXACT: Behaviour = Behaviour {
    title: "1 GiB leaves only where a whole GiB is requested",
    spans: &[
        inferred(
            Releases::new(v(4, 19, 307), v(4, 19, 313)),
            "d794734c9bbf",
            "announcement of 4.19.307; its revert was posted for 4.19.y in April 2024",
        ),
        read(
            Releases::new(v(5, 4, 269), v(5, 4, 274)),
            "d794734c9bbf",
            "announcements of 5.4.269 and 5.4.274",
        ),
        read(
            Releases::new(v(5, 10, 210), v(5, 10, 215)),
            "d794734c9bbf",
            "Debian changelog 5.10.216-1; 5.10.262 source rounds out",
        ),
        inferred(
            Releases::rest_of_series(v(5, 10, 263)),
            "cc31744a2945",
            "6.1.188 took it for CVE-2024-50017 in 2026; whether 5.10.y did after 5.10.262 was not seen",
        ),
        inferred(
            Releases::new(v(5, 15, 149), v(5, 15, 156)),
            "d794734c9bbf",
            "queued in stable-rc queue/5.15 with 5.10.210; its revert was posted for 5.15.y in April 2024",
        ),
        inferred(
            Releases::rest_of_series(v(5, 15, 179)),
            "cc31744a2945",
            "6.6.78 and 6.1.188 took it for CVE-2024-50017; whether 5.15.y did was not seen, and 5.15.179 is \
             its first release after 6.6.78",
        ),
        read(
            Releases::new(v(6, 1, 79), v(6, 1, 85)),
            "d794734c9bbf",
            "Debian changelogs 6.1.82-1 and 6.1.85-1",
        ),
        read(
            Releases::rest_of_series(v(6, 1, 188)),
            "cc31744a2945",
            "Debian changelog 6.1.190-1; sources of 6.1.187 and 6.1.192",
        ),
        read(
            Releases::new(v(6, 6, 18), v(6, 6, 26)),
            "d794734c9bbf",
            "reports on 6.6; reverted by fbc0a833c055, review of 6.6.26",
        ),
        read(
            Releases::rest_of_series(v(6, 6, 78)),
            "d113f9723f2b",
            "CVE-2024-50017: fixed in 6.6.78",
        ),
        read(
            Releases::rest_of_series(v(6, 7, 6)),
            "7143c5f4cf20",
            "review of 6.7.6; the series ended with 6.7.12, a week before the reverts",
        ),
        read(
            Releases::new(rc(6, 8, 5), v(6, 8, 5)),
            "d794734c9bbf",
            "applied 2024-02-12; reverted by 219081c6a233, review of 6.8.5",
        ),
        read(
            Releases::new(rc(6, 9, 0), rc(6, 9, 2)),
            "d794734c9bbf",
            "reverted by c567f2948f57, x86 pull for 6.9-rc2",
        ),
        read(
            Releases::rest_of_series(v(6, 10, 14)),
            "d80a99892f7a",
            "CVE-2024-50017: fixed in 6.10.14",
        ),
        read(
            Releases::rest_of_series(v(6, 11, 3)),
            "a23823098ab2",
            "Debian changelog 6.11.4-1; CVE-2024-50017",
        ),
        read(
            Releases::since(rc(6, 12, 1)),
            "cc31744a2945",
            "sources of 6.12.117, 7.2.13 and 7.3.4; CVE-2024-50017",
        ),
    ],
};

/// The EFI configuration-table array is requested.
pub static CONFIG_TABLE: Behaviour = Behaviour {
    title: "map_efi_systab() requests the EFI configuration table too",
    spans: &[
        inferred(
            Releases::rest_of_series(v(5, 15, 168)),
            "5760929f6545",
            "whether 5.15.y took it was not seen; 5.15.168 is its first release after 6.6.55",
        ),
        read(
            Releases::rest_of_series(v(6, 1, 113)),
            "5760929f6545",
            "Debian changelog 6.1.115-1; source of 6.1.187",
        ),
        read(Releases::rest_of_series(v(6, 6, 55)), "68f9d152d7e6", "announcement of 6.6.55"),
        read(
            Releases::rest_of_series(v(6, 10, 14)),
            "405907a7e363",
            "stable push log of October 2024",
        ),
        read(Releases::rest_of_series(v(6, 11, 3)), "5760929f6545", "Debian changelog 6.11.4-1"),
        read(
            Releases::since(rc(6, 12, 1)),
            "5760929f6545",
            "x86 pull for 6.12-rc1; sources of 6.12.117, 7.2.13 and 7.3.4",
        ),
    ],
};

/// The EFI system table, ACPI tables and ACPI non-volatile storage are requested.
pub static FIRMWARE_TABLES: Behaviour = Behaviour {
    title: "init_pgtable() requests the EFI system table, ACPI tables and ACPI NVS",
    spans: &[read(
        Releases::since(rc(5, 3, 1)),
        "6bbeb276b71f, 5a949b38839e",
        "commit texts of June 2019; sources of 5.10.262 to 7.3.4",
    )],
};

/// `mem_region_callback()` passes an inclusive end: the last byte is left out.
///
/// Ended by f4b234066873, "x86/kexec: fix incorrect end address passed to
/// `kernel_ident_mapping_init()`", of December 2023.
pub static ACPI_END_MINUS_ONE: Behaviour = Behaviour {
    title: "the last byte of each ACPI region is not requested",
    spans: &[read(
        Releases::new(rc(5, 3, 1), rc(6, 8, 1)),
        "6bbeb276b71f",
        "non-MM pull for 6.8-rc1; sources of 5.10.262, 6.1.187 and 6.1.192",
    )],
};

/// Bit 58 is set in the entries of PGD and P4D.
pub static NOPTISHADOW: Behaviour = Behaviour {
    title: "entries of PGD and P4D carry _PAGE_NOPTISHADOW",
    spans: &[
        read(Releases::rest_of_series(v(6, 6, 66)), "d0ceea662d45", "announcement of 6.6.66"),
        read(
            Releases::rest_of_series(v(6, 12, 5)),
            "d0ceea662d45",
            "review of 6.12.5; Debian changelog 6.12.5-1",
        ),
        read(
            Releases::since(rc(6, 13, 2)),
            "d0ceea662d45",
            "x86 pull of December 2024; sources of 7.2.13 and 7.3.4",
        ),
    ],
};

/// The PGD is a page of its own instead of the first control page.
pub static SEPARATE_PGD: Behaviour = Behaviour {
    title: "the PGD is allocated apart from the control page",
    spans: &[
        read(
            Releases::new(v(6, 1, 129), v(6, 1, 138)),
            "4b5bc2ec9a23",
            "Debian changelogs 6.1.129-1 and 6.1.139-1",
        ),
        read(Releases::rest_of_series(v(6, 6, 78)), "4b5bc2ec9a23", "review of 6.6.78"),
        read(Releases::rest_of_series(v(6, 12, 14)), "4b5bc2ec9a23", "Debian changelog 6.12.15-1"),
        inferred(
            Releases::rest_of_series(v(6, 13, 3)),
            "4b5bc2ec9a23",
            "selected for 6.13.y with 6.12.14",
        ),
        read(
            Releases::since(rc(6, 14, 1)),
            "4b5bc2ec9a23",
            "tip x86/boot of December 2024; sources of 7.2.13 and 7.3.4",
        ),
    ],
};

/// The transition page maps the control page at its address in the direct map.
pub static TRANSITION_AT_CONTROL_PAGE: Behaviour = Behaviour {
    title: "the transition page lies at __va(control_page), not at relocate_kernel",
    spans: &[read(
        Releases::since(rc(6, 14, 1)),
        "eeebbde57113",
        "tip x86/boot of December 2024; sources of 7.2.13 and 7.3.4, absent in 6.12.117",
    )],
};

/// The registers of a memory-mapped 8250 console are requested.
pub static MMIO_SERIAL: Behaviour = Behaviour {
    title: "init_pgtable() requests the page of a memory-mapped debug console",
    spans: &[read(
        Releases::since(rc(6, 16, 1)),
        "7516e7216bdf",
        "tip x86/boot upon 6.15-rc1; sources of 7.2.13 and 7.3.4, absent in 6.12.117",
    )],
};

/// A handler for exceptions from the producer's `mov %cr3` to the consumer's first `lidt`.
///
/// `exc_handler` in `relocate_kernel_64.S` prints the registers to an 8250 console, if the producer runs with
/// `earlyprintk` on one, and stops in `hlt`; `prepare_debug_idt()` sets up 16 vectors. Before, the IDT is empty
/// there. No part of the map: not among [`PRODUCER`].
pub static EXCEPTION_DUMP: Behaviour = Behaviour {
    title: "relocate_kernel prints the registers on an exception, and halts",
    spans: &[
        inferred(
            Releases::new(rc(6, 16, 1), v(7, 2, 13)),
            "7516e7216bdf",
            "absent in 6.12.117; the MMIO console of 6.16-rc1 serves this handler alone",
        ),
        read(Releases::since(v(7, 2, 13)), "7516e7216bdf", "sources of 7.2.13 and 7.3.4"),
    ],
};

/// Every behaviour of a producer, for tables and tests.
pub static PRODUCER: [&Behaviour; 9] = [
    &GBPAGES,
    &EXACT,
    &CONFIG_TABLE,
    &FIRMWARE_TABLES,
    &ACPI_END_MINUS_ONE,
    &NOPTISHADOW,
    &SEPARATE_PGD,
    &TRANSITION_AT_CONTROL_PAGE,
    &MMIO_SERIAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sorted_and_disjoint() {
        for behaviour in PRODUCER {
            for pair in behaviour.spans.windows(2) {
                let [a, b] = pair else { unreachable!() };
                assert!(a.releases.from < b.releases.from, "{}", behaviour.title);
                assert!(!a.releases.intersects(&b.releases), "{}", behaviour.title);
            }
        }
    }

    /// The configuration table was added to code that requests the system table.
    #[test]
    fn who_requests_the_configuration_table_requests_the_system_table() {
        for span in CONFIG_TABLE.spans {
            assert_eq!(FIRMWARE_TABLES.over(span.releases), Known::Certain(true));
        }
    }
}
