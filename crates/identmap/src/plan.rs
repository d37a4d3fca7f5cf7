//! The plan: what would be mapped, known before anything is built.

use core::fmt;
use core::iter::FusedIterator;

use crate::addr::{PageSize, PhysAddr, PhysRange};
use crate::config::{Config, Level};
use crate::plan_error::PlanError;
use crate::policy::Policy;
use crate::slots::Slot;

/// Equal leaves, one behind the other.
///
/// Holding one proves that the range is a whole number of frames of `size`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Run {
    range: PhysRange,
    size: PageSize,
}

impl Run {
    /// Leaves of `size` that map `range`; `None` unless both ends are multiples of `size`.
    #[must_use]
    pub const fn new(range: PhysRange, size: PageSize) -> Option<Run> {
        if range.start().is_aligned(size) && range.end().is_aligned(size) {
            Some(Run { range, size })
        } else {
            None
        }
    }

    /// The bytes that the leaves map.
    #[must_use]
    pub const fn range(self) -> PhysRange {
        self.range
    }

    /// The size of each leaf.
    #[must_use]
    pub const fn size(self) -> PageSize {
        self.size
    }

    /// How many leaves.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.range.len() >> self.size.shift()
    }

    fn from_slot(slot: &Slot) -> Option<Run> {
        let size = match slot.aux {
            12 => PageSize::Size4K,
            21 => PageSize::Size2M,
            _ => PageSize::Size1G,
        };
        PhysRange::between(slot.start, slot.end).map(|range| Run { range, size })
    }
}

impl fmt::Display for Run {
    /// `0x…-0x… 2M x 512`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} x {}", self.range, self.size, self.count())
    }
}

/// How many tables of each level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct TableCount {
    by_level: [u64; 5],
}

impl TableCount {
    /// A count given level by level, from page tables up.
    #[must_use]
    pub const fn from_levels(by_level: [u64; 5]) -> TableCount {
        TableCount { by_level }
    }

    /// Tables of one level.
    #[must_use]
    pub const fn of(&self, level: Level) -> u64 {
        self.by_level[level.number() as usize - 1]
    }

    /// Tables of all levels, the root included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_level.iter().sum()
    }

    /// The memory they take: 4 KiB each.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.total() * 4096
    }

    pub(crate) fn add(&mut self, level: Level, count: u64) {
        self.by_level[level.number() as usize - 1] += count;
    }
}

/// A planned identity map: sorted runs of equal leaves, and the tables they take.
///
/// Holding one proves that the configuration is sound, that every request is covered,
/// that every leaf lies below the address limits of the configuration, and, for
/// [`Policy::Guarded`], that no leaf touches a forbidden byte. Made from ranges: the cost
/// grows with the number of ranges, not with the memory mapped.
///
/// ```
/// use identmap::{Config, Levels, PageSize, PhysRange, Plan, Policy, Slot};
///
/// let request = PhysRange::from_inclusive(0x1_0000_0000, 0x1_3fff_ffff + 0x20_0000)?;
/// let mut slots = [Slot::EMPTY; 8];
/// let config = Config::kexec(Levels::Four, true);
/// let plan = Plan::new(&config, &Policy::Exact, &[request], &mut slots)?;
///
/// let sizes: Vec<_> = plan.runs().map(|run| (run.size(), run.count())).collect();
/// assert_eq!(sizes, [(PageSize::Size1G, 1), (PageSize::Size2M, 1)]);
/// assert_eq!(plan.tables().total(), 3); // PML4, PDPT, PD
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plan<'s> {
    config: Config,
    policy: &'static str,
    runs: &'s [Slot],
    tables: TableCount,
}

impl<'s> Plan<'s> {
    /// Plans the map of `requests` (order matters to [`Policy::Exact`]) in the lent `slots`.
    ///
    /// Takes `O(n log n)` time for n requests, forbidden and RAM ranges, and no memory but the slots.
    ///
    /// # Errors
    /// [`PlanError`]: the configuration is unsound, a request cannot be mapped or meets a
    /// forbidden range, or the slots are fewer than [`slots_needed`](Plan::slots_needed).
    pub fn new(
        config: &Config,
        policy: &Policy<'_>,
        requests: &[PhysRange],
        slots: &'s mut [Slot],
    ) -> Result<Plan<'s>, PlanError> {
        config.check()?;
        for (index, &request) in requests.iter().enumerate() {
            let limit = config.phys_limit();
            if request.end() > limit {
                return Err(PlanError::PastPhysLimit { request, index, limit });
            }
            if !config.is_mappable(request) {
                return Err(PlanError::NotCanonical { request, index });
            }
            // In one half, virtual addresses ascend with the physical ones.
            let first = requests[0];
            if config.upper_half(request) != config.upper_half(first) {
                return Err(PlanError::BothHalves { request, index, first });
            }
        }
        let needed = policy.slots_needed(requests.len());
        if slots.len() < needed {
            return Err(PlanError::Slots { needed, given: slots.len() });
        }
        let runs = policy.choose(config, requests, slots)?;
        let tables =
            count_tables(config, config.levels.root(), runs.iter().filter_map(Run::from_slot));
        Ok(Plan { config: *config, policy: policy.name(), runs, tables })
    }

    /// How many slots a plan of this many requests under this policy may need.
    #[must_use]
    pub fn slots_needed(policy: &Policy<'_>, requests: usize) -> usize {
        policy.slots_needed(requests)
    }

    /// The configuration it was made for.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The name of the policy that chose the leaves.
    #[must_use]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// The runs, ascending, disjoint; no two neighbours could be merged.
    #[must_use]
    pub fn runs(&self) -> Runs<'s> {
        Runs { slots: self.runs.iter() }
    }

    /// The tables that the map takes, exactly.
    #[must_use]
    pub const fn tables(&self) -> TableCount {
        self.tables
    }

    /// Bytes mapped.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.runs().map(|run| run.range().len()).sum()
    }

    /// How many leaves of one size.
    #[must_use]
    pub fn leaves(&self, size: PageSize) -> u64 {
        self.runs().filter(|run| run.size() == size).map(Run::count).sum()
    }

    /// The run that maps `addr`, if any; found by binary search.
    #[must_use]
    pub fn at(&self, addr: PhysAddr) -> Option<Run> {
        let index = self.runs.partition_point(|slot| slot.end <= addr);
        self.runs.get(index).and_then(Run::from_slot).filter(|run| run.range().contains(addr))
    }

    /// The first byte of `range` that is not mapped, if any.
    #[must_use]
    pub fn first_gap(&self, range: PhysRange) -> Option<PhysAddr> {
        let mut cursor = range.start();
        while cursor < range.end() {
            match self.at(cursor) {
                Some(run) => cursor = run.range().end(),
                None => return Some(cursor),
            }
        }
        None
    }
}

impl fmt::Display for Plan<'_> {
    /// One line a run, then the number of tables.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in self.runs() {
            writeln!(f, "{run}")?;
        }
        write!(f, "{} tables", self.tables.total())
    }
}

/// The runs of a plan, ascending.
#[derive(Clone, Debug)]
pub struct Runs<'s> {
    slots: core::slice::Iter<'s, Slot>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.slots.next().and_then(Run::from_slot)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl ExactSizeIterator for Runs<'_> {}
impl FusedIterator for Runs<'_> {}

/// Counts, level by level, the distinct frames that need a table under one at `root`, and that one.
/// Runs ascend, so a frame shared by two runs is the last of the one and the first of the other.
pub(crate) fn count_tables(
    config: &Config,
    root: Level,
    runs: impl Iterator<Item = Run>,
) -> TableCount {
    let mut tables = TableCount::default();
    tables.add(root, 1);
    let mut last_frame = [None; 5];
    for run in runs {
        let first = config.linear(run.range().start());
        let last = config.linear(run.range().last());
        for level in Level::ALL {
            if level < Level::holding(run.size()) || level >= root {
                continue;
            }
            let shift = level.entry_shift() + 9;
            let known = &mut last_frame[level.number() as usize - 1];
            let shared = u64::from(*known == Some(first >> shift));
            tables.add(level, (last >> shift) - (first >> shift) + 1 - shared);
            *known = Some(last >> shift);
        }
    }
    tables
}
