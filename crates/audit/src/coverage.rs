//! A planned map as ranges: what it covers, what nobody asked for, where it ends.

use identmap::{
    Config, Guard, PageSize, PhysAddr, PhysRange, Plan, PlanError, Policy, Run, Slack, Slot,
    TableCount,
};
use identmap_machine::ranges;

/// Which rule picks the leaves; the ranges that [`Policy::Guarded`] needs are given apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyKind {
    /// [`Policy::RoundOut`].
    RoundOut,
    /// [`Policy::Exact`].
    Exact,
    /// [`Policy::ExactOnUv`].
    ExactOnUv,
    /// [`Policy::Guarded`].
    Guarded,
}

impl PolicyKind {
    /// All four, Linux's first.
    pub const ALL: [PolicyKind; 4] =
        [PolicyKind::RoundOut, PolicyKind::Exact, PolicyKind::ExactOnUv, PolicyKind::Guarded];

    /// The word for it on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PolicyKind::RoundOut => "round-out",
            PolicyKind::Exact => "exact",
            PolicyKind::ExactOnUv => "exact-on-uv",
            PolicyKind::Guarded => "guarded",
        }
    }
}

/// How far [`PolicyKind::Guarded`] may reach beyond the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlackKind {
    /// Not at all.
    None,
    /// Over usable RAM.
    Ram,
    /// Over anything that is not forbidden.
    Any,
}

/// Everything that decides a map.
#[derive(Clone, Debug)]
pub struct MapInput<'a> {
    /// Levels, flags, gbpages, address width.
    pub config: Config,
    /// The rule.
    pub policy: PolicyKind,
    /// What `is_uv_system()` of the producer says; for [`PolicyKind::ExactOnUv`].
    pub uv: bool,
    /// The requests, in their order.
    pub requests: &'a [PhysRange],
    /// What [`PolicyKind::Guarded`] must not touch.
    pub forbidden: &'a [PhysRange],
    /// How far it may reach.
    pub slack: SlackKind,
    /// The machine's usable RAM, for [`SlackKind::Ram`].
    pub ram: &'a [PhysRange],
}

/// A planned map: its runs, and the ranges they cover.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    /// The rule that made it.
    pub policy: PolicyKind,
    /// The configuration it was planned for.
    pub config: Config,
    /// Runs of equal leaves, ascending.
    pub runs: Vec<Run>,
    /// Tables it takes, exactly.
    pub tables: TableCount,
    /// What was requested: sorted, disjoint.
    pub requested: Vec<PhysRange>,
    /// What is mapped: sorted, disjoint.
    pub mapped: Vec<PhysRange>,
}

impl Coverage {
    /// Plans the map.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(input: &MapInput<'_>) -> Result<Coverage, PlanError> {
        let slack = match input.slack {
            SlackKind::None => Slack::None,
            SlackKind::Ram => Slack::Ram(input.ram),
            SlackKind::Any => Slack::Any,
        };
        let policy = match input.policy {
            PolicyKind::RoundOut => Policy::RoundOut,
            PolicyKind::Exact => Policy::Exact,
            PolicyKind::ExactOnUv => Policy::ExactOnUv { uv: input.uv },
            PolicyKind::Guarded => Policy::Guarded(Guard { forbidden: input.forbidden, slack }),
        };
        let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, input.requests.len())];
        let plan = Plan::new(&input.config, &policy, input.requests, &mut slots)?;
        let runs: Vec<Run> = plan.runs().collect();
        Ok(Coverage {
            policy: input.policy,
            config: input.config,
            tables: plan.tables(),
            requested: ranges::normalise(input.requests.to_vec()),
            mapped: ranges::normalise(runs.iter().map(|run| run.range()).collect()),
            runs,
        })
    }

    /// Bytes mapped.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        ranges::total(&self.mapped)
    }

    /// How many leaves of one size.
    #[must_use]
    pub fn leaves(&self, size: PageSize) -> u64 {
        self.runs.iter().filter(|run| run.size() == size).map(|run| run.count()).sum()
    }

    /// Mapped but not requested.
    #[must_use]
    pub fn over_reach(&self) -> Vec<PhysRange> {
        ranges::subtract(&self.mapped, &self.requested)
    }

    /// The part of sorted, disjoint `needed` that is not mapped.
    #[must_use]
    pub fn gaps(&self, needed: &[PhysRange]) -> Vec<PhysRange> {
        ranges::subtract(needed, &self.mapped)
    }

    /// The part of sorted, disjoint `needed` that is mapped, but by over-reach only.
    #[must_use]
    pub fn luck(&self, needed: &[PhysRange]) -> Vec<PhysRange> {
        ranges::subtract(&ranges::intersect(needed, &self.mapped), &self.requested)
    }

    /// The run that maps `addr`.
    #[must_use]
    pub fn at(&self, addr: PhysAddr) -> Option<Run> {
        let index = self.runs.partition_point(|run| run.range().end() <= addr);
        self.runs.get(index).copied().filter(|run| run.range().contains(addr))
    }

    /// The mapped ranges nearest below and above an address that is not mapped.
    #[must_use]
    pub fn neighbours(&self, addr: PhysAddr) -> (Option<PhysRange>, Option<PhysRange>) {
        let index = self.mapped.partition_point(|range| range.end() <= addr);
        let below = index.checked_sub(1).map(|i| self.mapped[i]);
        (below, self.mapped.get(index).copied())
    }

    /// The first request, in the order given, that made the leaf at `addr`: one that
    /// touches its frame.
    #[must_use]
    pub fn made_by(&self, addr: PhysAddr, requests: &[PhysRange]) -> Option<usize> {
        let run = self.at(addr)?;
        let start = addr.align_down(run.size());
        let frame = PhysRange::from_len(start.get(), run.size().bytes()).ok()?;
        requests.iter().position(|request| request.intersects(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::Levels;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    fn addr(addr: u64) -> PhysAddr {
        PhysAddr::new(addr).unwrap()
    }

    #[test]
    fn gap_luck_and_neighbours_of_a_map() {
        let requests = [r(0x20_0000, 0x30_0000), r(0x80_0000, 0xa0_0000)];
        let coverage = Coverage::plan(&MapInput {
            config: Config::kexec(Levels::Four, false),
            policy: PolicyKind::Exact,
            uv: false,
            requests: &requests,
            forbidden: &[],
            slack: SlackKind::None,
            ram: &[],
        })
        .unwrap();
        assert_eq!(coverage.over_reach(), [r(0x30_0000, 0x40_0000)]);
        let need = [r(0x2f_0000, 0x50_0000)];
        assert_eq!(coverage.gaps(&need), [r(0x40_0000, 0x50_0000)]);
        assert_eq!(coverage.luck(&need), [r(0x30_0000, 0x40_0000)]);
        let (below, above) = coverage.neighbours(addr(0x50_0000));
        assert_eq!((below, above), (Some(r(0x20_0000, 0x40_0000)), Some(r(0x80_0000, 0xa0_0000))));
        assert_eq!(coverage.made_by(addr(0x3f_ffff), &requests), Some(0));
        assert_eq!(coverage.made_by(addr(0x40_0000), &requests), None);
        assert_eq!(coverage.leaves(PageSize::Size2M), 2);
    }
}
