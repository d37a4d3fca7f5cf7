//! The maps whose tables are built.

use identmap::{Config, Guard, Levels, PhysRange, Plan, PlanError, Policy, Slack, Slot};
use identmap_linux::pfn_mapped;
use identmap_machine::{Layout, MemType, parse, sample};

use crate::random::Rng;

/// One map.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) gbpages: bool,
    pub(crate) rule: Rule,
    pub(crate) requests: Vec<PhysRange>,
    pub(crate) forbidden: Vec<PhysRange>,
    pub(crate) ram: Vec<PhysRange>,
}

/// The policy, without what it borrows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Both of Linux's rules give the same map.
    AnyOfLinux,
    RoundOut,
    Exact,
    /// With slack `none`.
    GuardedTight,
    /// With slack `ram`.
    GuardedRam,
}

impl Rule {
    /// Whether Linux with this policy makes the same tables.
    pub(crate) fn is(self, linux: &str) -> bool {
        match self {
            Rule::AnyOfLinux => true,
            Rule::RoundOut => linux == "round-out",
            Rule::Exact => linux == "exact",
            Rule::GuardedTight | Rule::GuardedRam => false,
        }
    }
}

impl Case {
    pub(crate) fn config(&self) -> Config {
        Config::kexec(Levels::Four, self.gbpages)
    }

    pub(crate) fn policy(&self) -> Policy<'_> {
        match self.rule {
            Rule::RoundOut => Policy::RoundOut,
            Rule::AnyOfLinux | Rule::Exact => Policy::Exact,
            Rule::GuardedTight => {
                Policy::Guarded(Guard { forbidden: &self.forbidden, slack: Slack::None })
            }
            Rule::GuardedRam => {
                Policy::Guarded(Guard { forbidden: &self.forbidden, slack: Slack::Ram(&self.ram) })
            }
        }
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        vec![Slot::EMPTY; Plan::slots_needed(&self.policy(), self.requests.len())]
    }

    pub(crate) fn plan<'s>(&self, slots: &'s mut [Slot]) -> Result<Plan<'s>, PlanError> {
        Plan::new(&self.config(), &self.policy(), &self.requests, slots)
    }
}

/// All of them.
pub(crate) fn all() -> Result<Vec<Case>, String> {
    let mut cases = vec![
        one("16 TiB, 2M", false, range(0, 16 << 40)?),
        one("64 TiB, 1G", true, range(0, 64 << 40)?),
        small_leaves()?,
    ];
    for (sample, round_out, exact) in [
        ("uv-2019", "uv-2019 round-out", "uv-2019 exact"),
        ("uv-2023", "uv-2023 round-out", "uv-2023 exact"),
    ] {
        cases.push(machine(sample, round_out, Rule::RoundOut)?);
        cases.push(machine(sample, exact, Rule::Exact)?);
    }
    cases.push(holes()?);
    Ok(cases)
}

fn one(name: &'static str, gbpages: bool, request: PhysRange) -> Case {
    Case {
        name,
        gbpages,
        rule: Rule::AnyOfLinux,
        requests: vec![request],
        forbidden: Vec::new(),
        ram: Vec::new(),
    }
}

/// 64 GiB of which each first page of 2 MiB is left out, so that all leaves are 4K.
fn small_leaves() -> Result<Case, String> {
    let requests = (0..1u64 << 15).map(|i| range((i << 21) + 4096, (i + 1) << 21));
    Ok(Case {
        name: "64 GiB, 4K",
        gbpages: true,
        rule: Rule::GuardedTight,
        requests: requests.collect::<Result<_, _>>()?,
        forbidden: Vec::new(),
        ram: Vec::new(),
    })
}

/// A built-in machine, as Linux requests its memory.
fn machine(sample_name: &str, name: &'static str, rule: Rule) -> Result<Case, String> {
    let sample = sample(sample_name).ok_or("no such sample")?;
    let machine = parse::machine(sample.name, sample.bytes).map_err(|e| e.to_string())?;
    let layout = Layout::of(&machine).ok_or("a sample without a map")?;
    Ok(Case {
        name,
        gbpages: true,
        rule,
        requests: pfn_mapped(&layout),
        forbidden: Vec::new(),
        ram: layout.of_kind(MemType::Usable).collect(),
    })
}

/// A TiB of RAM with 3,000 forbidden holes of 4 KiB to 1 MiB; what lies between is requested.
fn holes() -> Result<Case, String> {
    const HOLES: u64 = 3000;
    let mut rng = Rng::new(3000);
    let step = (1 << 40) / HOLES;
    let (mut requests, mut forbidden) = (Vec::new(), Vec::new());
    let mut cursor = 0;
    for i in 0..HOLES {
        let length = 4096 << rng.below(9);
        let start = i * step + 4096 + (rng.below(step - length - 8192) & !4095);
        let start = start & !4095;
        requests.push(range(cursor, start)?);
        forbidden.push(range(start, start + length)?);
        cursor = start + length;
    }
    requests.push(range(cursor, 1 << 40)?);
    Ok(Case {
        name: "3,000 holes, guarded",
        gbpages: true,
        rule: Rule::GuardedRam,
        requests,
        forbidden,
        ram: vec![range(0, 1 << 40)?],
    })
}

fn range(start: u64, end: u64) -> Result<PhysRange, String> {
    PhysRange::new(start, end).map_err(|e| e.to_string())
}
