//! The kernel that is left: how it builds kexec's identity map.

use core::fmt;

use identmap::{Config, Flags, Levels, Policy};
use identmap_machine::Machine;

use crate::history::{self, Behaviour};
use crate::known::Known;
use crate::release::{Release, Releases};
use crate::version::{Blur, KernelVersion, Upstream};

/// The policies that kernels have had. `exact-on-uv` was never merged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyKind {
    /// Every GiB touched becomes a 1 GiB leaf.
    RoundOut,
    /// A 1 GiB leaf only where one request covers the whole GiB.
    Exact,
}

impl From<PolicyKind> for Policy<'static> {
    fn from(kind: PolicyKind) -> Policy<'static> {
        match kind {
            PolicyKind::RoundOut => Policy::RoundOut,
            PolicyKind::Exact => Policy::Exact,
        }
    }
}

impl fmt::Display for PolicyKind {
    /// `round-out` or `exact`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Policy::from(*self).name())
    }
}

/// The two choices that decide over 2024's failures, by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Rounds out, does not request the configuration table: it is mapped by luck.
    A,
    /// Exact, does not request the configuration table: breaks kexec on AMD.
    B,
    /// Rounds out, requests the configuration table.
    C,
    /// Exact, requests the configuration table.
    D,
}

impl Class {
    /// The class of these two choices.
    #[must_use]
    pub const fn of(policy: PolicyKind, config_table: bool) -> Class {
        match (policy, config_table) {
            (PolicyKind::RoundOut, false) => Class::A,
            (PolicyKind::Exact, false) => Class::B,
            (PolicyKind::RoundOut, true) => Class::C,
            (PolicyKind::Exact, true) => Class::D,
        }
    }
}

impl fmt::Display for Class {
    /// `A`, `B`, `C` or `D`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where the transition page lies in virtual memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransitionPage {
    /// At the address of `relocate_kernel` in the kernel's text (to 6.13).
    RelocateKernel,
    /// At the control page's address in the direct map (from 6.14).
    ControlPage,
}

/// All that one producer does: one certain answer to every question.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a choice of its own in the kernel's code"
)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traits {
    /// How leaf sizes are chosen.
    pub policy: PolicyKind,
    /// 1 GiB leaves exist in this version.
    pub gbpages: bool,
    /// The EFI system table, ACPI tables and ACPI NVS are requested.
    pub firmware_tables: bool,
    /// The EFI configuration-table array is requested.
    pub config_table: bool,
    /// The last byte of each ACPI region is left out.
    pub acpi_end_minus_one: bool,
    /// Entries of PGD and P4D carry bit 58.
    pub noptishadow: bool,
    /// The page of a memory-mapped debug console is requested.
    pub mmio_serial: bool,
    /// The PGD is allocated apart from the control page.
    pub separate_pgd: bool,
    /// Where the transition page lies.
    pub transition: TransitionPage,
}

impl Traits {
    /// The class of this producer.
    #[must_use]
    pub const fn class(&self) -> Class {
        Class::of(self.policy, self.config_table)
    }

    /// What the tables look like, as far as a machine's texts tell; 1 GiB leaves as `gbpages` says.
    ///
    /// Without the position of the C-bit an encrypted guest's flags cannot be given
    /// (`_PAGE_ENC` in every entry: `init_pgtable()`); `encryption_mask` stays 0 for
    /// the caller to set.
    #[must_use]
    pub fn config(&self, machine: &Machine, gbpages: bool) -> Config {
        let five = machine.cpu.la57_active == Some(true);
        let levels = if five { Levels::Five } else { Levels::Four };
        let mut config = Config::kexec(levels, gbpages && self.gbpages);
        if self.noptishadow {
            config.upper_table_flags = config.upper_table_flags.with(Flags::NOPTISHADOW);
        }
        // A width that no processor has is a misread text.
        if let Some(bits @ 32..=52) = machine.cpu.maxphyaddr {
            config.maxphyaddr = bits;
        }
        config
    }
}

/// The kernel that is left, as far as its version tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Producer {
    version: Option<KernelVersion>,
    traits: Known<Traits>,
}

impl Producer {
    /// What a kernel of this version does. `None`, an unknown kernel, may be any
    /// that is supported: 5.10 or later, with any backport.
    #[must_use]
    pub fn of(version: Option<KernelVersion>) -> Producer {
        let traits = match &version {
            None => all_classes(
                Releases::since(Release::rc(5, 10, 1)),
                "the version of the running kernel is not known",
            ),
            Some(known) => match known.upstream {
                Upstream::Exactly(release) => {
                    at(&[release], "a bound of this series was not verified")
                }
                Upstream::Among(releases, Blur::Backports) => all_classes(
                    releases,
                    &format!("{} does not tell: {}", known.text, Blur::Backports),
                ),
                Upstream::Among(releases, blur) => {
                    at(&turns(releases), &format!("{} does not tell: {blur}", known.text))
                }
            },
        };
        Producer { version, traits }
    }

    /// A producer whose traits were seen, not concluded: in the tables of a loaded image, say.
    #[must_use]
    pub const fn seen(version: Option<KernelVersion>, traits: Traits) -> Producer {
        Producer { version, traits: Known::Certain(traits) }
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Option<&KernelVersion> {
        self.version.as_ref()
    }

    /// What it does: certain, or every combination that its version allows.
    #[must_use]
    pub const fn traits(&self) -> &Known<Traits> {
        &self.traits
    }

    /// How it chooses leaf sizes.
    #[must_use]
    pub fn policy(&self) -> Known<PolicyKind> {
        self.traits.map(|t| t.policy)
    }

    /// Whether it requests the EFI configuration-table array.
    #[must_use]
    pub fn config_table(&self) -> Known<bool> {
        self.traits.map(|t| t.config_table)
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> Known<Class> {
        self.traits.map(Traits::class)
    }

    /// Whether this may be of a later series than any that was read
    /// ([`history::NEWEST_READ`]): its traits are those of the newest, not verified.
    #[must_use]
    pub fn is_newer_than_read(&self) -> bool {
        let series = history::NEWEST_READ.next_series();
        self.version.as_ref().is_some_and(|v| v.releases().from >= series)
    }

    /// What the version rests on: for each behaviour it has, the commit that brought it.
    #[must_use]
    pub fn sources(&self) -> Vec<(&'static Behaviour, &'static history::Span)> {
        let Some(release) = self.version.as_ref().and_then(KernelVersion::exact) else {
            return Vec::new();
        };
        history::PRODUCER.iter().filter_map(|&b| Some((b, b.span(release)?))).collect()
    }
}

/// Whether this machine's kernel may use 1 GiB leaves: `direct_gbpages`.
///
/// Set in `init_gbpages()` and cleared by `nogbpages`; `probe_page_size_mask()` clears it
/// with `DEBUG_PAGEALLOC`, which only the missing line `Using GB pages for direct mapping` tells.
#[must_use]
pub fn gbpages(machine: &Machine) -> Known<bool> {
    if let Some(on) = machine.direct_gbpages {
        return Known::Certain(on);
    }
    match (machine.cpu.pdpe1gb, machine.nogbpages) {
        (Some(false), _) | (_, Some(true)) => Known::Certain(false),
        (Some(true), Some(false)) => Known::Certain(true),
        (Some(true), None) => {
            Known::either("whether nogbpages is on the command line is not known".to_owned())
        }
        (None, _) => Known::either("whether the processor has 1 GiB pages is not known".to_owned()),
    }
}

/// The releases among `releases` at which some behaviour turns, and the first.
fn turns(releases: Releases) -> Vec<Release> {
    let bounds = history::PRODUCER
        .iter()
        .flat_map(|b| b.spans)
        .flat_map(|s| [Some(s.releases.from), s.releases.before].into_iter().flatten());
    let mut out: Vec<Release> =
        core::iter::once(releases.from).chain(bounds.filter(|&r| releases.contains(r))).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// The traits of each of these releases; where a bound was not read, both ways.
fn at(releases: &[Release], why: &str) -> Known<Traits> {
    let mut found: Vec<Traits> = Vec::new();
    for &release in releases {
        let over = |behaviour: &Behaviour| behaviour.over(Releases::only(release));
        combine(over, &mut found);
    }
    known(found, why)
}

/// For kernels with fixes from anywhere later: policy and requests in every combination, the
/// rest as far as it is certain, else as in the base.
fn all_classes(releases: Releases, why: &str) -> Known<Traits> {
    let mut found = Vec::new();
    let vary = [&history::EXACT, &history::CONFIG_TABLE, &history::FIRMWARE_TABLES];
    combine(
        |behaviour| {
            let over = behaviour.over(releases);
            if over.certain().is_some() || vary.contains(&behaviour) {
                over
            } else {
                let base = behaviour.over(Releases::only(releases.from));
                Known::Certain(base.candidates().contains(&true))
            }
        },
        &mut found,
    );
    known(found, why)
}

fn known(mut found: Vec<Traits>, why: &str) -> Known<Traits> {
    match found.len() {
        1 => Known::Certain(found.remove(0)),
        _ => Known::Uncertain { candidates: found, why: why.to_owned() },
    }
}

type Set = fn(&mut Traits, bool);

/// Every combination of the answers; one that no kernel can be is left out.
fn combine(over: impl Fn(&'static Behaviour) -> Known<bool>, found: &mut Vec<Traits>) {
    let start = Traits {
        policy: PolicyKind::RoundOut,
        gbpages: true,
        firmware_tables: true,
        config_table: false,
        acpi_end_minus_one: false,
        noptishadow: false,
        mmio_serial: false,
        separate_pgd: false,
        transition: TransitionPage::RelocateKernel,
    };
    let questions: [(&'static Behaviour, Set); 9] = [
        (&history::GBPAGES, |t, yes| t.gbpages = yes),
        (&history::EXACT, |t, yes| {
            t.policy = if yes { PolicyKind::Exact } else { PolicyKind::RoundOut };
        }),
        (&history::CONFIG_TABLE, |t, yes| t.config_table = yes),
        (&history::FIRMWARE_TABLES, |t, yes| t.firmware_tables = yes),
        (&history::ACPI_END_MINUS_ONE, |t, yes| t.acpi_end_minus_one = yes),
        (&history::NOPTISHADOW, |t, yes| t.noptishadow = yes),
        (&history::SEPARATE_PGD, |t, yes| t.separate_pgd = yes),
        (&history::MMIO_SERIAL, |t, yes| t.mmio_serial = yes),
        (&history::TRANSITION_AT_CONTROL_PAGE, |t, yes| {
            t.transition =
                if yes { TransitionPage::ControlPage } else { TransitionPage::RelocateKernel };
        }),
    ];
    let mut worlds = vec![start];
    for (behaviour, set) in questions {
        let answers = over(behaviour);
        worlds = worlds
            .iter()
            .flat_map(|world| {
                answers.candidates().iter().map(move |&yes| {
                    let mut world = *world;
                    set(&mut world, yes);
                    world
                })
            })
            .collect();
    }
    for world in worlds {
        // The configuration table is requested by the code that requests the system table.
        let possible = world.firmware_tables || !world.config_table;
        if possible && !found.contains(&world) {
            found.push(world);
        }
    }
}
