//! From a page that was missing on one machine to the rule that would have covered it on any.

use identmap::{PageSize, PhysRange};
use identmap_linux::history::{self, Behaviour, Proof, Span};
use identmap_linux::needs::{EFI_CONFIG_TABLE, EFI_SYSTEM_TABLE};
use identmap_linux::{
    Builder, Class, KernelVersion, Kind, Need, Place, Producer, Release, Releases, Traits,
    Upstream, firmware, pfn_mapped, requests,
};
use identmap_machine::{Layout, Machine, MemType, ranges};

use crate::{Diagnosis, Oracle, Trial};

/// A rule, and what it comes to on this machine.
#[derive(Clone, PartialEq, Debug)]
pub struct General {
    /// Kebab-case, stable.
    pub id: &'static str,
    /// What a producer has to do, e.g. `request the EFI configuration table`.
    pub rule: &'static str,
    /// All that it would request on this machine. Sorted, disjoint.
    pub ranges: Vec<PhysRange>,
    /// The behaviour of Linux that does so, if one does.
    pub linux: Option<&'static Behaviour>,
}

/// The rule that covers a page: the first of those that do, from the narrowest to the widest. `None` where
/// nothing tells what lies there, or only that it is reserved: to request all that is reserved is no rule,
/// for what must never be mapped is reserved too.
#[must_use]
pub fn general(machine: &Machine, layout: Option<&Layout>, page: PhysRange) -> Option<General> {
    let rule = |id, rule, linux, ranges: Vec<PhysRange>| General { id, rule, ranges, linux };
    let of_kind = |kind| {
        layout.map_or_else(Vec::new, |layout| ranges::normalise(layout.of_kind(kind).collect()))
    };
    let config = machine.efi.config_table.and_then(|table| {
        let entries = table.entries.unwrap_or(1);
        let len = entries.checked_mul(firmware::config_entry_len(machine))?;
        PhysRange::from_len(table.address.get(), len).ok()
    });
    let blob = machine.cc_blob.and_then(|blob| PhysRange::from_len(blob.get(), CC_BLOB_LEN).ok());
    let rules = [
        rule(
            "efi-config-table",
            "request the EFI configuration table",
            Some(&history::CONFIG_TABLE),
            config.into_iter().collect(),
        ),
        rule(
            "efi-system-table",
            "request the EFI system table",
            Some(&history::FIRMWARE_TABLES),
            firmware::system_table(machine).into_iter().collect(),
        ),
        rule(
            "cc-blob",
            "request the confidential-computing blob",
            None,
            blob.into_iter().collect(),
        ),
        rule(
            "setup-data",
            "request the running kernel's setup_data",
            None,
            ranges::normalise(machine.setup_data.clone()),
        ),
        rule(
            "acpi-tables",
            "request ACPI tables",
            Some(&history::FIRMWARE_TABLES),
            of_kind(MemType::AcpiData),
        ),
        rule(
            "acpi-nvs",
            "request ACPI non-volatile storage",
            Some(&history::FIRMWARE_TABLES),
            of_kind(MemType::AcpiNvs),
        ),
        rule("ram", "request all RAM", None, layout.map_or_else(Vec::new, pfn_mapped)),
    ];
    let covers = |rule: &General| {
        rule.ranges.iter().any(|range| range.round_out(PageSize::Size4K).intersects(page))
    };
    rules.into_iter().find(covers)
}

/// A diagnosis said in rules instead of pages.
#[derive(Clone, PartialEq, Debug)]
pub struct Generalised {
    /// The rules that cover the entries, each once.
    pub rules: Vec<General>,
    /// Entries that no rule covers.
    pub uncovered: Vec<PhysRange>,
    /// How it ends with all that the rules request, and the entries that no rule covers.
    pub trial: Trial,
    /// What the map then reaches and must not.
    pub conflict: Option<String>,
}

/// The rules that would have covered the entries of a diagnosis, tried: all that they request, in
/// place of the pages.
#[must_use]
pub fn generalise(
    oracle: &mut impl Oracle,
    machine: &Machine,
    layout: Option<&Layout>,
    diagnosis: &Diagnosis,
) -> Generalised {
    let mut rules: Vec<General> = Vec::new();
    let mut uncovered = Vec::new();
    for page in diagnosis.ranges() {
        match general(machine, layout, page) {
            Some(rule) if rules.iter().any(|known| known.id == rule.id) => {}
            Some(rule) => rules.push(rule),
            None => uncovered.push(page),
        }
    }
    let all: Vec<PhysRange> =
        rules.iter().flat_map(|rule| &rule.ranges).chain(&uncovered).copied().collect();
    let (trial, conflict) = (oracle.trial(&all), oracle.conflict(&all));
    Generalised { rules, uncovered, trial, conflict }
}

/// `struct cc_blob_sev_info` (Linux `arch/x86/include/asm/sev.h`).
const CC_BLOB_LEN: u64 = 40;

/// The releases whose kernels request all of `missing` on this machine, as far as was verified:
/// only stretches that last to the end of their series, or for good.
#[must_use]
pub fn requested_by(
    machine: &Machine,
    layout: Option<&Layout>,
    kind: Kind,
    missing: &[PhysRange],
) -> Vec<Releases> {
    let requests_it = |release: Release| {
        let (builder, upstream) = (Builder::Upstream, Upstream::Exactly(release));
        let version = KernelVersion { text: release.to_string(), builder, upstream };
        let producer = Producer::of(Some(version));
        // In every way in which this release may behave.
        let by = |traits: &Traits| {
            let list = requests(machine, layout, traits, kind).ranges();
            let pages = list.iter().map(|range| range.round_out(PageSize::Size4K)).collect();
            ranges::subtract(missing, &ranges::normalise(pages)).is_empty()
        };
        producer.traits().candidates().iter().all(by)
    };
    let mut found = Vec::new();
    let mut from: Option<Release> = None;
    for turn in turns() {
        match (from, requests_it(turn)) {
            (None, true) => from = Some(turn),
            (Some(start), false) => {
                let releases = Releases::new(start, turn);
                if releases == Releases::rest_of_series(start) {
                    found.push(releases);
                }
                from = None;
            }
            _ => {}
        }
    }
    found.extend(from.map(Releases::since));
    found
}

/// The releases whose kernels request a need, as [`requested_by`]; `None` where that cannot be told.
///
/// Where its place is not known, a rule of Linux's that asks for it by name tells.
#[must_use]
pub fn requested_since(
    machine: &Machine,
    layout: Option<&Layout>,
    kind: Kind,
    need: &Need,
) -> Option<Vec<Releases>> {
    match &need.place {
        Place::Known(range) => Some(requested_by(machine, layout, kind, &[*range])),
        Place::Within { ranges, basis: None, .. } => {
            Some(requested_by(machine, layout, kind, ranges))
        }
        Place::Within { .. } | Place::Unknown => {
            let behaviour = match need.rule.id {
                id if id == EFI_CONFIG_TABLE.id => &history::CONFIG_TABLE,
                id if id == EFI_SYSTEM_TABLE.id => &history::FIRMWARE_TABLES,
                _ => return None,
            };
            let lasts = |span: &&Span| {
                let releases = span.releases;
                span.proof == Proof::Read
                    && (releases.before.is_none()
                        || releases == Releases::rest_of_series(releases.from))
            };
            Some(behaviour.spans.iter().filter(lasts).map(|span| span.releases).collect())
        }
    }
}

/// [`releases_text`] of [`requested_since`]: `every release` where none of those known is without it.
#[must_use]
pub fn requested_since_text(found: &[Releases]) -> String {
    match (found, turns().first()) {
        ([], _) => "none".to_owned(),
        ([only], Some(first)) if *only == Releases::since(*first) => "every release".to_owned(),
        _ => releases_text(found, None),
    }
}

/// Every release at which some behaviour of a producer turns. Sorted.
fn turns() -> Vec<Release> {
    let spans = history::PRODUCER.iter().flat_map(|behaviour| behaviour.spans);
    let bounds = spans.flat_map(|s| [Some(s.releases.from), s.releases.before]);
    let mut turns: Vec<Release> = bounds.flatten().collect();
    turns.sort_unstable();
    turns.dedup();
    turns
}

/// `6.1.113 or later of 6.1, 6.6.55, 6.10.14, 6.11.3, and 6.12-rc1 or later`, the running kernel's series first.
#[must_use]
pub fn releases_text(found: &[Releases], own: Option<Release>) -> String {
    let in_series = |releases: &&Releases| {
        let own = own.map(|own| (own.major(), own.minor()));
        releases.before.is_some() && own == Some((releases.from.major(), releases.from.minor()))
    };
    let first = found.iter().find(in_series);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(
        first.map(|r| format!("{} or later of {}.{}", r.from, r.from.major(), r.from.minor())),
    );
    let others = found.iter().filter(|r| Some(*r) != first && r.before.is_some());
    parts.extend(others.map(|releases| releases.from.to_string()));
    let last = found.iter().find(|releases| releases.before.is_none());
    let last = last.map(|releases| format!("{} or later", releases.from));
    match (parts.is_empty(), last) {
        (_, None) => parts.join(", "),
        (true, Some(last)) => last,
        (false, Some(last)) => format!("{}, and {last}", parts.join(", ")),
    }
}

/// The commit by which the releases came to do so, in the running kernel's series if it is among them, else in
/// the last.
#[must_use]
pub fn commit(
    behaviour: &'static Behaviour,
    found: &[Releases],
    own: Option<Release>,
) -> Option<&'static str> {
    let in_series = |r: &&Releases| {
        own.is_some_and(|own| (own.major(), own.minor()) == (r.from.major(), r.from.minor()))
    };
    let releases = found.iter().find(in_series).or(found.last())?;
    behaviour.span(releases.from).map(|span: &Span| span.commit)
}

/// Whether a producer with these traits behaves so.
#[must_use]
pub(crate) fn does(traits: &Traits, behaviour: &Behaviour) -> Option<bool> {
    let is = |other: &Behaviour| behaviour == other;
    match () {
        () if is(&history::CONFIG_TABLE) => Some(traits.config_table),
        () if is(&history::FIRMWARE_TABLES) => Some(traits.firmware_tables),
        () => None,
    }
}

/// A class in words.
pub(crate) fn class_text(class: Class) -> &'static str {
    match class {
        Class::A => "class A (rounds out, configuration table not requested)",
        Class::B => "class B (exact, configuration table not requested)",
        Class::C => "class C (rounds out, configuration table requested)",
        Class::D => "class D (exact, configuration table requested)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::PhysAddr;
    use identmap_machine::{ConfigTable, parse, sample};

    fn machine() -> Machine {
        let sample = sample("laptop-2024").unwrap();
        let mut machine = parse::machine(sample.name, sample.bytes).unwrap();
        machine.efi.booted = Some(true);
        machine.efi.system_table = PhysAddr::new(0xcb66_1018);
        let address = PhysAddr::new(0xc7a0_1018).unwrap();
        machine.efi.config_table = Some(ConfigTable { address, entries: Some(15) });
        machine
    }

    fn page(start: u64) -> PhysRange {
        PhysRange::from_len(start, 4096).unwrap()
    }

    #[test]
    fn what_lies_on_a_page_decides_its_rule() {
        let machine = machine();
        let layout = Layout::of(&machine).unwrap();
        let id = |start| general(&machine, Some(&layout), page(start)).map(|rule| rule.id);
        assert_eq!(id(0xc7a0_1000), Some("efi-config-table"));
        assert_eq!(id(0xcb66_1000), Some("efi-system-table"));
        assert_eq!(id(0xcc00_0000), Some("acpi-nvs"));
        assert_eq!(id(0xcd78_0000), Some("acpi-tables"));
        assert_eq!(id(0x9_d000), Some("ram"));
        assert_eq!(id(0xc7a0_2000), None, "reserved is no rule");
        let whole = general(&machine, Some(&layout), page(0xc7a0_1000)).unwrap().ranges;
        assert_eq!(whole, [PhysRange::from_len(0xc7a0_1018, 360).unwrap()]);
    }

    #[test]
    fn the_releases_that_request_a_table_are_those_of_the_history() {
        let machine = machine();
        let layout = Layout::of(&machine).unwrap();
        let by = |range| requested_by(&machine, Some(&layout), Kind::Kexec, &[range]);
        let config = by(PhysRange::from_len(0xc7a0_1018, 360).unwrap());
        // The spans of the history that were read; each lasts.
        let read = history::CONFIG_TABLE.spans.iter();
        let read: Vec<Releases> =
            read.filter(|s| s.proof == history::Proof::Read).map(|s| s.releases).collect();
        assert_eq!(config, read);
        let own = Some(Release::new(6, 1, 79));
        let text = releases_text(&config, own);
        assert!(text.starts_with("6.1.113 or later of 6.1, 6.6.55, "), "{text}");
        assert!(text.ends_with(", 6.11.3, and 6.12-rc1 or later"), "{text}");
        assert_eq!(commit(&history::CONFIG_TABLE, &config, own), Some("5760929f6545"));
        let other = Some(Release::new(6, 6, 20));
        assert_eq!(commit(&history::CONFIG_TABLE, &config, other), Some("68f9d152d7e6"));
        let system = by(PhysRange::from_len(0xcb66_1018, 120).unwrap());
        assert_eq!(system, [Releases::since(Release::rc(5, 3, 1))]);
        assert_eq!(by(page(0xc7a0_2000)), [], "nobody requests what is only reserved");
    }

    #[test]
    fn a_table_that_was_not_read_is_requested_by_the_same_releases() {
        use identmap_linux::{Consumer, needs::needs};
        let known = machine();
        let mut unread = machine();
        unread.efi.system_table = None;
        unread.efi.config_table = None;
        let layout = Layout::of(&known).unwrap();
        let consumer =
            Consumer { version: KernelVersion::parse("6.1.10", None).ok(), ..Consumer::default() };
        for rule in [&EFI_SYSTEM_TABLE, &EFI_CONFIG_TABLE] {
            let since = |machine: &Machine| {
                let needs = needs(machine, Some(&layout), &consumer, Kind::Kexec);
                let need = needs.into_iter().find(|need| need.rule == rule).unwrap();
                let is_known = matches!(need.place, Place::Known(_));
                (is_known, requested_since(machine, Some(&layout), Kind::Kexec, &need).unwrap())
            };
            let (known, unread) = (since(&known), since(&unread));
            assert!(known.0 && !unread.0, "{}", rule.id);
            assert_eq!(known.1, unread.1, "{}", rule.id);
        }
        let of_the_jump = identmap_linux::needs::of_the_jump(&unread, Some(&layout), Kind::Kexec);
        let by = requested_since(&unread, Some(&layout), Kind::Kexec, &of_the_jump).unwrap();
        assert_eq!(requested_since_text(&by), "every release");
        assert_eq!(requested_since_text(&[]), "none");
    }
}
