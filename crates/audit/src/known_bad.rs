//! Combinations of kernels and machines that are known to fail: what was reported and what the lab has seen,
//! with the releases computed from the history and the rules, so that there is no second list of them.

use identmap_linux::history::{self, Behaviour, Proof};
use identmap_linux::needs::{EFI_CONFIG_TABLE, OLD_EFI};
use identmap_linux::{NeedRule, PolicyKind, Release, Releases, Traits, traps};

/// One combination.
#[derive(Clone, Copy, Debug)]
pub struct KnownBad {
    /// Kebab-case, stable: findings name it.
    pub id: &'static str,
    /// What goes wrong, in a few words.
    pub what: &'static str,
    /// How the jump ends.
    pub ends: &'static str,
    /// On which machines.
    pub machine: &'static str,
    /// What kernels do so, as producers.
    producers: fn() -> Vec<Stretch>,
    /// What kernels suffer, as consumers.
    consumers: Sufferers,
    /// The id of the finding that `check` has of it.
    pub finding: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Reports, commits, and cells of the lab.
    pub evidence: &'static [&'static str],
}

/// Releases, and how that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The releases.
    pub releases: Releases,
    /// How sure their bounds are.
    pub proof: Proof,
}

#[derive(Clone, Copy, Debug)]
enum Sufferers {
    /// Whichever kernel follows: the map harms the machine itself.
    All,
    /// Those of a rule.
    Rule(&'static NeedRule),
    /// These.
    Of(fn() -> Vec<Stretch>),
}

/// The table.
pub static KNOWN_BAD: [KnownBad; 6] = [
    KnownBad {
        id: "exact-no-config-table",
        what: "the EFI configuration table is outside of the map, which is exact and does not request it",
        ends: "resets to firmware, with nothing on the screen",
        machine: "booted by EFI; the table in memory that is not RAM",
        producers: exact_without_table,
        consumers: Sufferers::Rule(&EFI_CONFIG_TABLE),
        finding: "gap",
        remedy: "another producer; or identmap load, which maps it",
        evidence: &[
            "https://lore.kernel.org/all/3a1b9909-45ac-4f97-ad68-d16ef1ce99db@pavinjoseph.com/",
            "https://bugzilla.suse.com/show_bug.cgi?id=1220541",
            "https://github.com/void-linux/void-packages/pull/49529",
            "https://github.com/zbm-dev/zfsbootmenu/issues/606",
            "d794734c9bbf made it so, 5760929f6545 mended it",
        ],
    },
    KnownBad {
        id: "nogbpages-no-config-table",
        what: "the same without 1G pages, whose rounding hides it elsewhere",
        ends: "resets to firmware, with nothing on the screen",
        machine: "booted by EFI; nogbpages, or a processor without 1G pages",
        producers: without_table,
        consumers: Sufferers::Rule(&EFI_CONFIG_TABLE),
        finding: "gap",
        remedy: "boot the running kernel without nogbpages; another producer; or identmap load",
        evidence: &[
            "https://lore.kernel.org/all/20230601072043.24439-1-ltao@redhat.com/",
            "docs/kexec-lab.md: 5.10-ovmfsplit-nogbpages-to-7.x with kexec -c",
            "5760929f6545 mended it",
        ],
    },
    KnownBad {
        id: "round-out-uv",
        what: "1G pages reach over memory at the end of a node that must never be reachable",
        ends: "the hub halts the machine",
        machine: "HPE UV and Superdome Flex",
        producers: rounding_out,
        consumers: Sufferers::All,
        finding: "exposure",
        remedy: "boot the running kernel with nogbpages; or another producer",
        evidence: &[
            "https://lore.kernel.org/all/20240126164841.170866-1-steve.wahl@hpe.com/",
            "https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/",
            "CVE-2024-50017; cc31744a2945 mended it",
        ],
    },
    KnownBad {
        id: "five-to-four",
        what: "a flag in the first entry of the top table is taken for a part of an address",
        ends: "resets",
        machine: "5-level paging in use, and a next kernel with 4 (no5lvl, or without CONFIG_X86_5LEVEL)",
        producers: flags_in_the_top_table,
        consumers: Sufferers::Of(unmasked),
        finding: "level-change",
        remedy: "boot the running kernel with no5lvl; or identmap load, whose tables have no such flag",
        evidence: &[
            "https://lore.kernel.org/all/20251022220755.1026144-4-usamaarif642@gmail.com/",
            "docs/kexec-lab.md: 6.12-5level-to-5.10 with kexec -c and kexec -s",
            "d0ceea662d45 set the flag",
        ],
    },
    KnownBad {
        id: "rmp-neighbour",
        what: "RAM in one 2 MiB frame with an end of the RMP table is handed out, and written to under the map",
        ends: "faults in relocate_kernel, about once in a thousand times",
        machine: "AMD with SEV-SNP enabled in firmware, whose RMP table does not end on 2 MiB",
        producers: any_producer,
        consumers: Sufferers::All,
        finding: "conflict",
        remedy: "a producer that keeps the whole frame to itself (400fea4b9651): its memory map shows it",
        evidence: &[
            "https://lore.kernel.org/all/Zxgh-hBK2FfhHJ9R@swahl-home.5wahls.com/",
            "400fea4b9651 mended it: __snp_fixup_e820_tables() in arch/x86/virt/svm/sev.c",
        ],
    },
    KnownBad {
        id: "acpi-search",
        what: "decompressors that look for ACPI's tables find EFI's outside of the map",
        ends: "resets",
        machine: "booted by EFI, where the tables share no 1G page with RAM",
        producers: without_firmware_tables,
        consumers: Sufferers::Rule(&OLD_EFI),
        finding: "gap",
        remedy: "a producer since 5.3, or a consumer since 5.10",
        evidence: &[
            "https://git.kernel.org/tip/6bbeb276b71f06c5267bfd154629b1bec82e7136",
            "02a3e3cdb7f1 made it so",
        ],
    },
];

impl KnownBad {
    /// The releases that do so, as producers. Sorted, disjoint.
    #[must_use]
    pub fn producers(&self) -> Vec<Stretch> {
        (self.producers)()
    }

    /// The releases that suffer, as consumers, with the condition under which they do; none listed where it does
    /// not matter which kernel follows.
    #[must_use]
    pub fn consumers(&self) -> Vec<(Option<String>, Vec<Stretch>)> {
        let read = |spans: &[Releases]| -> Vec<Stretch> {
            spans.iter().map(|&releases| Stretch { releases, proof: Proof::Read }).collect()
        };
        match self.consumers {
            Sufferers::All => Vec::new(),
            Sufferers::Of(stretches) => vec![(None, stretches())],
            Sufferers::Rule(rule) => {
                let mut all = vec![(None, read(rule.always))];
                if let Some(condition) = rule.condition {
                    all.push((Some(condition.to_string()), read(rule.conditional)));
                }
                all
            }
        }
    }

    /// Whether a kernel with the content of one of `releases` is among the producers.
    #[must_use]
    pub fn is_producer(&self, releases: &Releases) -> bool {
        self.producers().iter().any(|stretch| stretch.releases.intersects(releases))
    }

    /// Whether it is among the consumers, under whatever condition.
    #[must_use]
    pub fn is_consumer(&self, releases: &Releases) -> bool {
        let all = self.consumers();
        let mut stretches = all.iter().flat_map(|(_, stretches)| stretches);
        all.is_empty() || stretches.any(|stretch| stretch.releases.intersects(releases))
    }
}

/// The known combination that a gap at EFI's tables is, under a producer with these traits.
pub(crate) fn of_gap(rule: &NeedRule, traits: &Traits, gbpages: bool) -> Option<&'static str> {
    match rule.id {
        id if id == EFI_CONFIG_TABLE.id && !traits.config_table => {
            Some(match (traits.policy, gbpages && traits.gbpages) {
                (PolicyKind::RoundOut, true) => return None,
                (PolicyKind::RoundOut, false) => "nogbpages-no-config-table",
                (PolicyKind::Exact, _) => "exact-no-config-table",
            })
        }
        id if id == OLD_EFI.id && !traits.firmware_tables => Some("acpi-search"),
        _ => None,
    }
}

/// The known combination that the exposure of a hazard is, by the id of its rule; or the conflict, where a request
/// asks for it.
pub(crate) fn of_exposure(hazard: &str, requested: bool) -> Option<&'static str> {
    match (hazard, requested) {
        ("uv-node-tail", false) => Some("round-out-uv"),
        // RAM that is handed out is requested.
        ("snp-rmp-neighbour", true) => Some("rmp-neighbour"),
        _ => None,
    }
}

/// The known combination that a change from 5 levels to 4 is.
pub(crate) const LEVEL_CHANGE: &str = "five-to-four";

/// Since 1 GiB leaves were made at all; before, the history says nothing.
const SINCE_GBPAGES: Releases = Releases::since(Release::rc(4, 12, 1));

fn exact_without_table() -> Vec<Stretch> {
    without(spans(&history::EXACT), &history::CONFIG_TABLE)
}

fn without_table() -> Vec<Stretch> {
    without(any_producer(), &history::CONFIG_TABLE)
}

fn rounding_out() -> Vec<Stretch> {
    without(any_producer(), &history::EXACT)
}

fn flags_in_the_top_table() -> Vec<Stretch> {
    spans(&history::NOPTISHADOW)
}

fn without_firmware_tables() -> Vec<Stretch> {
    without(any_producer(), &history::FIRMWARE_TABLES)
}

fn any_producer() -> Vec<Stretch> {
    vec![Stretch { releases: SINCE_GBPAGES, proof: Proof::Read }]
}

/// Kernels since 5.10, as far as they were read, without the mask.
fn unmasked() -> Vec<Stretch> {
    let all = Stretch { releases: Releases::since(Release::new(5, 10, 0)), proof: Proof::Read };
    traps::PGD_FLAGS_MASKED.iter().fold(vec![all], subtract)
}

fn spans(behaviour: &Behaviour) -> Vec<Stretch> {
    let stretch = |span: &history::Span| Stretch { releases: span.releases, proof: span.proof };
    behaviour.spans.iter().map(stretch).collect()
}

fn without(stretches: Vec<Stretch>, behaviour: &Behaviour) -> Vec<Stretch> {
    behaviour.spans.iter().fold(stretches, |left, span| subtract(left, &span.releases))
}

/// The releases of `stretches` that are not among `taken`. Sorted, disjoint.
fn subtract(stretches: Vec<Stretch>, taken: &Releases) -> Vec<Stretch> {
    let mut left = Vec::new();
    for stretch in stretches {
        let all = stretch.releases;
        if !all.intersects(taken) {
            left.push(stretch);
            continue;
        }
        // Before the first candidate of a series there is no release.
        let first = Release::rc(taken.from.major(), taken.from.minor(), 1);
        let nothing = all.from.candidate() == Some(0) && taken.from == first;
        if all.from < taken.from && !(nothing && all.from.next_series() == first.next_series()) {
            let releases = Releases::new(all.from, taken.from);
            left.push(Stretch { releases, ..stretch });
        }
        if let Some(from) = taken.before
            && all.before.is_none_or(|before| from < before)
        {
            left.push(Stretch { releases: Releases { from, before: all.before }, ..stretch });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_linux::{KernelVersion, Producer};

    fn of(id: &str) -> &'static KnownBad {
        KNOWN_BAD.iter().find(|known| known.id == id).unwrap()
    }

    fn only(text: &str) -> Releases {
        KernelVersion::parse(text, None).unwrap().releases()
    }

    /// The producers of the table are those whose traits say so: asked one release at a time.
    #[test]
    fn the_table_says_of_every_release_what_the_model_says() {
        let mut met = [0; 5];
        for (major, minor, last) in [
            (4, 19, 330),
            (5, 4, 300),
            (5, 10, 262),
            (5, 15, 200),
            (6, 1, 195),
            (6, 6, 120),
            (6, 8, 12),
            (6, 11, 11),
            (6, 12, 117),
            (7, 2, 20),
        ] {
            for patch in 0..=last {
                let text = format!("{major}.{minor}.{patch}");
                let version = KernelVersion::parse(&text, None).unwrap();
                let releases = version.releases();
                let producer = Producer::of(Some(version));
                let is = |id: &str| of(id).is_producer(&releases);
                let possible = |test: &dyn Fn(&Traits) -> bool| {
                    producer.traits().candidates().iter().any(test)
                };
                let exact = |t: &Traits| t.policy == PolicyKind::Exact;
                let expected = [
                    possible(&|t| exact(t) && !t.config_table),
                    possible(&|t| !t.config_table),
                    possible(&|t| !exact(t)),
                    possible(&|t| t.noptishadow),
                    possible(&|t| !t.firmware_tables),
                ];
                let table = [
                    "exact-no-config-table",
                    "nogbpages-no-config-table",
                    "round-out-uv",
                    "five-to-four",
                    "acpi-search",
                ]
                .map(is);
                for (number, (table, model)) in table.into_iter().zip(expected).enumerate() {
                    // What is only inferred is possible and not certain: the table may leave it out, never
                    // claim what is not possible.
                    assert!(!table || model, "{text}: {number}");
                    let sure = producer.traits().certain().is_some();
                    assert!(table == model || !sure, "{text}: {number}");
                    met[number] += usize::from(table);
                }
            }
        }
        assert!(met.iter().all(|&count| count > 0), "{met:?}");
    }

    #[test]
    fn the_stories_are_in_it() {
        let exact = of("exact-no-config-table");
        for text in ["6.7.6", "6.1.79", "6.1.84", "5.10.210", "6.8.2"] {
            assert!(exact.is_producer(&only(text)), "{text}");
        }
        for text in ["6.7.5", "6.1.85", "6.1.190", "6.12.30", "6.8.5"] {
            assert!(!exact.is_producer(&only(text)), "{text}");
        }
        assert!(exact.is_consumer(&only("6.7.6")) && !exact.is_consumer(&only("5.10.200")));
        let levels = of("five-to-four");
        assert!(levels.is_producer(&only("6.12.30")) && levels.is_consumer(&only("5.10.200")));
        assert!(!levels.is_consumer(&only("6.12.63")) && !levels.is_producer(&only("6.1.192")));
        assert!(of("round-out-uv").is_consumer(&only("7.3.4")));
    }

    #[test]
    fn findings_name_what_names_them() {
        use crate::{ImageTables, Question, check};
        use identmap_linux::{Consumer, Kind, Producer};
        let mut met = Vec::new();
        for sample in identmap_machine::samples() {
            let machine = identmap_machine::parse::machine(sample.name, sample.bytes).unwrap();
            for release in ["6.1.80", "6.8.1", "6.1.60", "6.12.30"] {
                let audit = check(&Question {
                    machine: &machine,
                    producer: Producer::of(KernelVersion::parse(release, None).ok()),
                    consumer: Consumer::default(),
                    kind: Kind::Kexec,
                    tables: ImageTables::NotRead(String::new()),
                    entries: &[],
                    seen: None,
                });
                for finding in &audit.findings {
                    let Some(id) = finding.known else { continue };
                    assert_eq!(of(id).finding, finding.id, "{}: {id}", sample.name);
                    met.push(id);
                }
            }
        }
        for id in ["rmp-neighbour", "round-out-uv", "exact-no-config-table", "five-to-four"] {
            assert!(met.contains(&id), "{id}");
        }
    }

    #[test]
    fn ids_are_stable_words_and_everything_has_evidence() {
        for known in &KNOWN_BAD {
            assert!(known.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", known.id);
            assert!(!known.evidence.is_empty() && !known.producers().is_empty(), "{}", known.id);
            let disjoint = |stretches: &[Stretch]| {
                stretches.windows(2).all(|pair| {
                    pair[0].releases.from < pair[1].releases.from
                        && !pair[0].releases.intersects(&pair[1].releases)
                })
            };
            assert!(disjoint(&known.producers()), "{}", known.id);
            assert!(known.consumers().iter().all(|(_, all)| disjoint(all)), "{}", known.id);
        }
    }
}
