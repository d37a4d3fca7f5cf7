//! A planned map as ranges: what it covers, what nobody asked for, where it ends.

use core::fmt;

use identmap::{
    Config, Guard, PageSize, PhysAddr, PhysRange, Plan, PlanError, Policy, Run, Slack, Slot,
    TableCount,
};
use identmap_linux::tables::{Oddity, Tables};
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

impl From<identmap_linux::PolicyKind> for PolicyKind {
    fn from(linux: identmap_linux::PolicyKind) -> PolicyKind {
        match linux {
            identmap_linux::PolicyKind::RoundOut => PolicyKind::RoundOut,
            identmap_linux::PolicyKind::Exact => PolicyKind::Exact,
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

impl MapInput<'_> {
    /// Plans the map and hands the plan over: to be built, or looked at.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_plan<T>(&self, use_plan: impl FnOnce(&Plan<'_>) -> T) -> Result<T, PlanError> {
        let slack = match self.slack {
            SlackKind::None => Slack::None,
            SlackKind::Ram => Slack::Ram(self.ram),
            SlackKind::Any => Slack::Any,
        };
        let policy = match self.policy {
            PolicyKind::RoundOut => Policy::RoundOut,
            PolicyKind::Exact => Policy::Exact,
            PolicyKind::ExactOnUv => Policy::ExactOnUv { uv: self.uv },
            PolicyKind::Guarded => Policy::Guarded(Guard { forbidden: self.forbidden, slack }),
        };
        let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, self.requests.len())];
        let plan = Plan::new(&self.config, &policy, self.requests, &mut slots)?;
        Ok(use_plan(&plan))
    }
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
        input.with_plan(|plan| {
            let runs: Vec<Run> = plan.runs().collect();
            Coverage {
                policy: input.policy,
                config: input.config,
                tables: plan.tables(),
                requested: ranges::normalise(input.requests.to_vec()),
                mapped: ranges::normalise(runs.iter().map(|run| run.range()).collect()),
                runs,
            }
        })
    }

    /// What real tables map, in place of a plan: their identity leaves.
    ///
    /// `policy`, `config` and `requests` are the producer's, as it is supposed to be: they decide what
    /// counts as over-reach, not what is mapped.
    ///
    /// # Errors
    /// [`TablesUnusable`] if the tables were not read whole, or do what no map of Linux's does and no
    /// `Coverage` can say.
    pub fn from_tables(
        tables: &Tables,
        policy: PolicyKind,
        config: Config,
        requests: &[PhysRange],
    ) -> Result<Coverage, TablesUnusable> {
        if !tables.is_whole() {
            return Err(TablesUnusable::NotWhole);
        }
        if tables.oddities.iter().any(|oddity| matches!(oddity, Oddity::Shared { .. })) {
            return Err(TablesUnusable::Shared);
        }
        let (mut runs, mut elsewhere) = (Vec::new(), Vec::new());
        for run in &tables.runs {
            // A leaf that no range can hold lies past 2^52: it maps nothing that can be.
            let range = PhysRange::from_len(run.phys.get(), run.bytes());
            let Ok(range) = range else { return Err(TablesUnusable::Elsewhere) };
            if !run.rights.write || !run.rights.execute || run.rights.user {
                return Err(TablesUnusable::Rights { range });
            }
            if run.virt.get() == run.phys.get() {
                runs.extend(Run::new(range, run.size));
            } else {
                elsewhere.push(range);
            }
        }
        runs.sort_by_key(|run| run.range());
        let mapped = ranges::normalise(runs.iter().map(|run| run.range()).collect());
        // The transition page is at an address of the old kernel's, but of memory that is in the map.
        if !ranges::subtract(&ranges::normalise(elsewhere), &mapped).is_empty() {
            return Err(TablesUnusable::Elsewhere);
        }
        let requested = ranges::intersect(&ranges::normalise(requests.to_vec()), &mapped);
        Ok(Coverage { policy, config, runs, tables: tables.count, requested, mapped })
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

/// Why real tables cannot stand for a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TablesUnusable {
    /// Some of them could not be read.
    NotWhole,
    /// A table is used twice.
    Shared,
    /// Leaves that may not be written or executed, or are open to user mode.
    Rights {
        /// What they map.
        range: PhysRange,
    },
    /// Memory is mapped at another address only.
    Elsewhere,
}

impl fmt::Display for TablesUnusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TablesUnusable::NotWhole => f.write_str("the image's tables could not all be read"),
            TablesUnusable::Shared => f.write_str("the image's tables use a table twice"),
            TablesUnusable::Rights { range } => {
                write!(f, "the image's tables restrict what may be done at {range}")
            }
            TablesUnusable::Elsewhere => {
                f.write_str("the image's tables map memory that is not in their identity map")
            }
        }
    }
}

impl core::error::Error for TablesUnusable {}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::{Arena, Image, Levels, Table};
    use identmap_linux::tables::decode;

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

    /// Tables built at 16 MiB for these requests, as bytes.
    fn built(requests: &[PhysRange], config: Config) -> Vec<u8> {
        let mut slots = [Slot::EMPTY; 24];
        let plan = Plan::new(&config, &Policy::Exact, requests, &mut slots).unwrap();
        let mut tables = vec![Table::EMPTY; plan.tables().total() as usize];
        let mut arena = Arena::new(&mut tables, addr(BASE)).unwrap();
        plan.build(&mut arena).unwrap();
        arena.tables().iter().flat_map(|table| table.0).flat_map(u64::to_le_bytes).collect()
    }

    const BASE: u64 = 0x100_0000;

    fn read(bytes: &[u8], config: Config) -> Result<Coverage, TablesUnusable> {
        let image = Image::new(bytes, addr(BASE));
        let tables = decode(&image, addr(BASE), config.paging());
        Coverage::from_tables(&tables, PolicyKind::Exact, config, &REQUESTS)
    }

    const REQUESTS: [PhysRange; 2] = [
        match PhysRange::new(0x20_0000, 0x4030_0000) {
            Ok(range) => range,
            Err(_) => PhysRange::ALL,
        },
        match PhysRange::new(0x8000_0000, 0x1_0000_0000) {
            Ok(range) => range,
            Err(_) => PhysRange::ALL,
        },
    ];

    #[test]
    fn real_tables_cover_what_the_plan_they_were_built_from_does() {
        for levels in [Levels::Four, Levels::Five] {
            let config = Config::kexec(levels, true);
            let planned = Coverage::plan(&MapInput {
                config,
                policy: PolicyKind::Exact,
                uv: false,
                requests: &REQUESTS,
                forbidden: &[],
                slack: SlackKind::None,
                ram: &[],
            });
            assert_eq!(read(&built(&REQUESTS, config), config), Ok(planned.unwrap()));
        }
    }

    #[test]
    fn what_was_asked_for_and_is_not_there_is_not_requested() {
        let config = Config::kexec(Levels::Four, false);
        let coverage = read(&built(&REQUESTS[..1], config), config).unwrap();
        assert_eq!(coverage.requested, REQUESTS[..1]);
        assert_eq!(coverage.gaps(&REQUESTS[1..]), REQUESTS[1..]);
    }

    #[test]
    fn tables_that_are_no_plan_are_refused() {
        let config = Config::kexec(Levels::Four, false);
        let whole = built(&REQUESTS, config);
        assert_eq!(read(&whole[..4096 * 3], config), Err(TablesUnusable::NotWhole));
        // PML4, PDPT, the first PD: its second entry maps 2 MiB.
        let leaf = 2 * 4096 + 8;
        assert_eq!(whole[leaf..leaf + 8], 0x20_01e3_u64.to_le_bytes());
        let change = |at: usize, bits: u64| {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&bits.to_le_bytes());
            read(&bytes, config)
        };
        let range = r(0x20_0000, 0x40_0000);
        assert_eq!(change(leaf, 0x20_01e1), Err(TablesUnusable::Rights { range }), "read-only");
        assert_eq!(change(leaf, 1 << 63 | 0x20_01e3), Err(TablesUnusable::Rights { range }), "NX");
        assert_eq!(change(leaf, 0x1_8000_01e3), Err(TablesUnusable::Elsewhere));
        // The same memory at another address: a gap there, and nothing worse.
        let elsewhere = change(leaf, 0x60_01e3).unwrap();
        assert_eq!(elsewhere.gaps(&[range]), [range]);
        // The PML4's entry 1 leads to the PDPT as well.
        let pdpt = u64::from_le_bytes(whole[..8].try_into().unwrap());
        assert_eq!(change(8, pdpt), Err(TablesUnusable::Shared));
    }
}
