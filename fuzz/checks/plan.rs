//! Any configuration, policy, requests, forbidden ranges and RAM: what a plan promises, checked on
//! its runs; then built, walked, read back, and built again request by request.

use std::collections::BTreeSet;
use std::fmt;

use identmap::{
    AddError, Arena, BuildError, Config, Flags, Found, Guard, LeafRun, Leaves, Level, Levels,
    PageSize, PhysAddr, PhysRange, Plan, PlanError, Policy, Seen, Slack, Slot, Table, TableCount,
    TableRead, VirtAddr, WalkEnd, add, empty_root, walk,
};

use crate::bytes::Bytes;

/// Where tables are built.
const BASE: u64 = 0x10_0000;
/// Larger maps are planned, not built.
const MOST_TABLES: u64 = 48;

/// A question to the planner. Its `Display` is Rust: a test to paste.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    pub levels: u8,
    pub gbpages: bool,
    pub offset: u64,
    pub encryption_mask: u64,
    pub maxphyaddr: u8,
    pub leaf_flags: u64,
    /// `round-out`, `exact`, `exact-on-uv` (with `uv`), `guarded` (with `slack`).
    pub policy: &'static str,
    pub uv: bool,
    /// `none`, `ram` or `any`.
    pub slack: &'static str,
    /// First and last byte.
    pub requests: Vec<(u64, u64)>,
    pub forbidden: Vec<(u64, u64)>,
    pub ram: Vec<(u64, u64)>,
}

impl Case {
    pub fn from_bytes(bytes: &[u8]) -> Case {
        let mut bytes = Bytes::new(bytes);
        let mode = bytes.byte();
        let mut case = Case {
            levels: if mode & 1 == 0 { 4 } else { 5 },
            gbpages: mode & 2 == 0,
            offset: 0,
            encryption_mask: 0,
            maxphyaddr: 52,
            leaf_flags: 0x163,
            policy: ["round-out", "exact", "exact-on-uv", "guarded"][usize::from(mode >> 2 & 3)],
            uv: mode & 0x10 != 0,
            slack: bytes.pick(&["none", "ram", "any"]),
            requests: Vec::new(),
            forbidden: Vec::new(),
            ram: Vec::new(),
        };
        if mode & 0x20 != 0 {
            case.offset = match bytes.byte() {
                0 => bytes.word(),
                1 => 0xffff_8880_0000_0000,
                2 => 0xff11_0000_0000_0000,
                n => u64::from(n) << 30,
            };
        }
        if mode & 0x40 != 0 {
            case.encryption_mask = match bytes.byte() {
                0 => bytes.word(),
                n => 1 << (n % 64),
            };
            case.maxphyaddr = bytes.byte();
        }
        if mode & 0x80 != 0 {
            case.leaf_flags = bytes.word();
        }
        while !bytes.is_empty() && case.requests.len() < 24 {
            let kind = bytes.byte();
            let range = some_range(&mut bytes);
            match kind & 3 {
                0 | 1 => case.requests.push(range),
                2 => case.forbidden.push(range),
                _ => case.ram.push(range),
            }
        }
        case
    }

    pub fn check(&self) {
        let (requests, forbidden, ram) =
            (ranges(&self.requests), ranges(&self.forbidden), ranges(&self.ram));
        let config = Config {
            gbpages: self.gbpages,
            leaf_flags: Flags::from_bits(self.leaf_flags),
            encryption_mask: self.encryption_mask,
            offset: self.offset,
            maxphyaddr: self.maxphyaddr,
            ..Config::kexec(if self.levels == 4 { Levels::Four } else { Levels::Five }, true)
        };
        let slack = match self.slack {
            "none" => Slack::None,
            "ram" => Slack::Ram(&ram),
            _ => Slack::Any,
        };
        let policy = match self.policy {
            "round-out" => Policy::RoundOut,
            "exact" => Policy::Exact,
            "exact-on-uv" => Policy::ExactOnUv { uv: self.uv },
            _ => Policy::Guarded(Guard { forbidden: &forbidden, slack }),
        };
        let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, requests.len())];
        let world = World { config, policy, requests: &requests };
        match Plan::new(&config, &policy, &requests, &mut slots) {
            Ok(plan) => world.check_plan(&plan),
            Err(error) => world.check_refusal(error),
        }
    }
}

/// A range near a border: two bytes for each end, or eight.
fn some_range(bytes: &mut Bytes<'_>) -> (u64, u64) {
    let (a, b) = (some_addr(bytes), some_addr(bytes));
    (a.min(b), a.max(b))
}

fn some_addr(bytes: &mut Bytes<'_>) -> u64 {
    let border = [
        0,
        1 << 12,
        1 << 21,
        1 << 30,
        2 << 30,
        5 << 30,
        511 << 30,
        1 << 39,
        1 << 47,
        1 << 48,
        1 << 51,
        1 << 52,
        0x7780_0000_0000,
        1 << 32,
        0,
    ];
    let first = bytes.byte();
    let near = match border.get(usize::from(first & 15)) {
        Some(&border) => border,
        None => bytes.word(),
    };
    let step = [1, 0x1000, 0x20_0000, 1 << 30][usize::from(first >> 4 & 3)];
    let count = u64::from(bytes.byte()) * step;
    let addr = if first & 0x40 == 0 { near.wrapping_add(count) } else { near.wrapping_sub(count) };
    addr.wrapping_sub(u64::from(first >> 7))
}

fn ranges(pairs: &[(u64, u64)]) -> Vec<PhysRange> {
    pairs.iter().filter_map(|&(s, last)| PhysRange::from_inclusive(s, last).ok()).collect()
}

struct World<'a> {
    config: Config,
    policy: Policy<'a>,
    requests: &'a [PhysRange],
}

impl World<'_> {
    fn guard(&self) -> Option<Guard<'_>> {
        match self.policy {
            Policy::Guarded(guard) => Some(guard),
            _ => None,
        }
    }

    /// What an error says is so.
    fn check_refusal(&self, error: PlanError) {
        match error {
            PlanError::Config(error) => assert_eq!(self.config.check(), Err(error)),
            PlanError::PastPhysLimit { request, index, limit } => {
                assert_eq!(self.requests[index], request);
                assert_eq!(limit, self.config.phys_limit());
                assert!(request.end() > limit);
            }
            PlanError::NotCanonical { request, index } => {
                assert_eq!(self.requests[index], request);
                let virt = |addr| self.config.virt(addr);
                let canonical = |addr| self.config.levels.is_canonical(virt(addr));
                let (first, last) = (request.start(), request.last());
                assert!(
                    !canonical(first)
                        || !canonical(last)
                        || virt(first) > virt(last)
                        || virt(first).get() >> 63 != virt(last).get() >> 63
                );
            }
            PlanError::BothHalves { request, index, first } => {
                assert_eq!((self.requests[index], self.requests[0]), (request, first));
                let half = |range: PhysRange| self.config.virt(range.start()).get() >> 63;
                assert_ne!(half(request), half(first));
            }
            PlanError::Conflict { request, index, forbidden, page } => {
                assert_eq!(self.requests[index], request);
                let guard = self.guard().expect("only guarded refuses");
                assert!(guard.forbidden.contains(&forbidden));
                for range in [request, forbidden] {
                    assert!(range.round_out(PageSize::Size4K).contains(page));
                }
            }
            other => panic!("{other}"),
        }
    }

    fn check_plan(&self, plan: &Plan<'_>) {
        assert_eq!(self.config.check(), Ok(()));
        self.check_order(plan);
        self.check_coverage(plan);
        assert_eq!(plan.tables(), self.tables_of(plan), "{plan}");
        if self.guard().is_none() {
            self.check_sizes(plan);
        }
        if plan.tables().total() > MOST_TABLES {
            Self::check_no_room(plan);
        } else {
            let leaves = self.check_build(plan);
            self.check_add(plan, &leaves);
        }
    }

    /// Sorted, of whole frames, below the limit, unmergeable.
    fn check_order(&self, plan: &Plan<'_>) {
        let runs: Vec<_> = plan.runs().collect();
        for run in &runs {
            let range = run.range();
            assert!(range.start().is_aligned(run.size()) && range.end().is_aligned(run.size()));
            assert!(range.end() <= self.config.phys_limit());
            assert!(self.config.gbpages || run.size() != PageSize::Size1G);
            assert!(self.guard().is_some() || run.size() != PageSize::Size4K);
        }
        for pair in runs.windows(2) {
            let (end, start) = (pair[0].range().end(), pair[1].range().start());
            assert!(end < start || end == start && pair[0].size() != pair[1].size(), "{plan}");
        }
    }

    /// Memory cut wherever anything begins or ends; each piece is mapped as it must be, or not.
    fn check_coverage(&self, plan: &Plan<'_>) {
        let mut cuts: BTreeSet<u64> = BTreeSet::from([0, 1 << 52]);
        let mut cut = |range: &PhysRange| {
            for size in PageSize::ALL {
                let out = range.round_out(size);
                cuts.extend([out.start().get(), out.end().get()]);
            }
        };
        self.requests.iter().for_each(&mut cut);
        if let Some(guard) = self.guard() {
            guard.forbidden.iter().for_each(&mut cut);
            if let Slack::Ram(ram) = guard.slack {
                ram.iter().for_each(&mut cut);
            }
        }
        plan.runs().for_each(|run| cut(&run.range()));
        let cuts: Vec<u64> = cuts.into_iter().collect();
        for pair in cuts.windows(2) {
            let piece = PhysRange::new(pair[0], pair[1]).unwrap();
            let mapped = plan.runs().any(|run| run.range().covers(piece));
            assert!(mapped || !plan.runs().any(|run| run.range().intersects(piece)));
            if let Some(needed) = self.must_be_mapped(piece) {
                assert_eq!(mapped, needed, "{piece}\n{plan}");
            } else if mapped {
                assert!(self.is_admissible(piece), "{piece}\n{plan}");
            }
        }
        for &request in self.requests {
            assert_eq!(plan.first_gap(request), None);
        }
        if self.guard().is_some() {
            self.check_largest(plan, &cuts);
        }
    }

    /// Whether a piece, cut as above, is mapped for certain, or is not; `None`: it may be.
    fn must_be_mapped(&self, piece: PhysRange) -> Option<bool> {
        let touched = |size: PageSize| {
            self.requests.iter().any(|request| request.round_out(size).covers(piece))
        };
        match self.policy {
            Policy::RoundOut | Policy::ExactOnUv { uv: false } => {
                Some(touched(self.config.largest_leaf()))
            }
            Policy::Exact | Policy::ExactOnUv { uv: true } => Some(touched(PageSize::Size2M)),
            Policy::Guarded(_) => touched(PageSize::Size4K).then_some(true),
        }
    }

    /// Whether `guarded` may map a piece, cut as above.
    fn is_admissible(&self, piece: PhysRange) -> bool {
        let Some(guard) = self.guard() else { return true };
        let on_page = |range: &PhysRange| range.round_out(PageSize::Size4K).intersects(piece);
        if guard.forbidden.iter().any(on_page) {
            return false;
        }
        self.requests.iter().any(|request| request.round_out(PageSize::Size4K).covers(piece))
            || match guard.slack {
                Slack::None => false,
                Slack::Any => piece.end() <= self.config.phys_limit(),
                Slack::Ram(ram) => all_in(piece, ram),
            }
    }

    /// No leaf of `guarded` could be replaced by a larger one: the least number of tables.
    fn check_largest(&self, plan: &Plan<'_>, cuts: &[u64]) {
        for run in plan.runs() {
            let larger = match run.size() {
                PageSize::Size4K => PageSize::Size2M,
                PageSize::Size2M if self.config.gbpages => PageSize::Size1G,
                _ => continue,
            };
            for addr in [run.range().start(), run.range().last()] {
                let frame =
                    PhysRange::from_len(addr.align_down(larger).get(), larger.bytes()).unwrap();
                let mut edges: Vec<u64> = cuts.to_vec();
                edges.retain(|&cut| frame.start().get() < cut && cut < frame.end().get());
                edges.insert(0, frame.start().get());
                edges.push(frame.end().get());
                let all = edges
                    .windows(2)
                    .all(|pair| self.is_admissible(PhysRange::new(pair[0], pair[1]).unwrap()));
                assert!(!all, "{frame} could be one leaf\n{plan}");
            }
        }
    }

    /// The leaf at each end and just inside each end of a request, by Linux's rule in order.
    fn check_sizes(&self, plan: &Plan<'_>) {
        for &request in self.requests {
            let gib = PageSize::Size1G;
            let inner = request.round_in(gib).unwrap_or(request);
            for addr in [request.start(), request.last(), inner.start(), inner.last()] {
                let frame = PhysRange::from_len(addr.align_down(gib).get(), gib.bytes()).unwrap();
                let first = self.requests.iter().find(|r| r.intersects(frame)).unwrap();
                let tight = matches!(self.policy, Policy::Exact | Policy::ExactOnUv { uv: true });
                let giant = self.config.gbpages && (!tight || first.covers(frame));
                let size = if giant { gib } else { PageSize::Size2M };
                assert_eq!(plan.at(addr).map(identmap::Run::size), Some(size), "{addr}\n{plan}");
            }
        }
    }

    /// Frames that need a table, level by level, from merged intervals of frame numbers.
    fn tables_of(&self, plan: &Plan<'_>) -> Expected {
        let root = self.config.levels.root();
        Expected(Level::ALL.map(|level| {
            if level >= root {
                return u64::from(level == root);
            }
            let shift = level.entry_shift() + 9;
            let mut frames: Vec<(u64, u64)> = plan
                .runs()
                .filter(|run| Level::holding(run.size()) <= level)
                .map(|run| {
                    let linear = |addr| self.config.linear(addr) >> shift;
                    (linear(run.range().start()), linear(run.range().last()))
                })
                .collect();
            frames.sort_unstable();
            let (mut count, mut next) = (0, 0);
            for (first, last) in frames {
                let first = first.max(next);
                if first <= last {
                    count += last - first + 1;
                    next = last + 1;
                }
            }
            count
        }))
    }

    fn check_no_room(plan: &Plan<'_>) {
        let mut tables = vec![Table([7; 512]); 3];
        let mut arena = Arena::new(&mut tables, PhysAddr::new(BASE).unwrap()).unwrap();
        let needed = plan.tables().total();
        assert_eq!(plan.build(&mut arena), Err(BuildError::Exhausted { needed, available: 3 }));
        assert!(tables.iter().all(|table| *table == Table([7; 512])));
    }

    /// Built tables hold the plan; a walk at each edge says so too.
    fn check_build(&self, plan: &Plan<'_>) -> Vec<LeafRun> {
        let mut tables = vec![Table([7; 512]); plan.tables().total() as usize];
        let mut arena = Arena::new(&mut tables, PhysAddr::new(BASE).unwrap()).unwrap();
        let root = plan.build(&mut arena).expect("as many as planned").root;
        let (leaves, count) = self.leaves(&arena, root);
        assert_eq!(count, plan.tables());
        let planned: Vec<_> = plan.runs().collect();
        assert_eq!(leaves.len(), planned.len(), "{leaves:?}\n{plan}");
        for (leaf, run) in leaves.iter().zip(planned) {
            let start = run.range().start();
            assert_eq!((leaf.phys, leaf.virt), (start, self.config.virt(start)));
            assert_eq!((leaf.size, leaf.count), (run.size(), run.count()));
            assert_eq!(leaf.flags.bits(), self.config.leaf_entry_flags(run.size()));
        }
        let edges =
            plan.runs().flat_map(|run| [run.range().start().get(), run.range().end().get()]);
        for addr in edges.flat_map(|edge| [edge.saturating_sub(1), edge]) {
            let Some(addr) = PhysAddr::new(addr) else { continue };
            let virt = self.config.virt(addr);
            match (plan.at(addr), self.walk(&arena, root, virt)) {
                (Some(run), WalkEnd::Mapped { phys, size, .. }) => {
                    assert_eq!((phys, size), (addr, run.size()));
                }
                (None, WalkEnd::NotPresent | WalkEnd::NotCanonical) => {}
                other => panic!("{addr} {other:?}\n{plan}"),
            }
        }
        leaves
    }

    /// Request by request: the same leaves, or for `guarded` without all slack the same promises.
    fn check_add(&self, plan: &Plan<'_>, leaves: &[LeafRun]) {
        let mut tables = vec![Table([7; 512]); 4 * MOST_TABLES as usize];
        let mut arena = Arena::new(&mut tables, PhysAddr::new(BASE).unwrap()).unwrap();
        let root = empty_root(&mut arena, &self.config).unwrap();
        for &request in self.requests {
            let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&self.policy, 1)];
            match add(&mut arena, root, &self.config, &self.policy, request, &mut slots) {
                Ok(_) => {}
                // More tables than a plan of all takes, and than there are.
                Err(AddError::Exhausted { .. }) if self.guard().is_some() => return,
                Err(error) => panic!("{error}"),
            }
        }
        let (added, count) = self.leaves(&arena, root);
        if self.guard().is_none_or(|guard| guard.slack == Slack::Any) {
            assert_eq!((&added[..], count), (leaves, plan.tables()));
            return;
        }
        for &request in self.requests {
            for addr in [request.start(), request.last()] {
                let end = self.walk(&arena, root, self.config.virt(addr));
                assert!(matches!(end, WalkEnd::Mapped { phys, .. } if phys == addr));
            }
        }
        for run in added {
            let range = PhysRange::from_len(run.phys.get(), run.bytes()).unwrap();
            let guard = self.guard().unwrap();
            assert!(!guard.forbidden.iter().any(|forbidden| forbidden.intersects(range)));
        }
    }

    fn leaves(&self, reader: &impl TableRead, root: PhysAddr) -> (Vec<LeafRun>, TableCount) {
        let mut seen = vec![Seen::EMPTY; 256];
        let mut leaves = Leaves::new(reader, root, self.config.paging(), &mut seen);
        let runs = leaves
            .by_ref()
            .map(|found| match found {
                Found::Leaves(run) => run,
                other => panic!("{other:?}"),
            })
            .collect();
        (runs, leaves.tables())
    }

    fn walk(&self, reader: &impl TableRead, root: PhysAddr, virt: VirtAddr) -> WalkEnd {
        walk(reader, root, &self.config.paging(), virt).end()
    }
}

/// Whether every page of a piece is in the union of `ranges`, however they are cut.
fn all_in(piece: PhysRange, ranges: &[PhysRange]) -> bool {
    let mut at = piece.start().get();
    while at < piece.end().get() {
        let reach = ranges
            .iter()
            .filter(|range| range.start().get() <= at && at < range.end().get())
            .map(|range| range.end().get())
            .max();
        match reach {
            Some(end) => at = end,
            None => return false,
        }
    }
    true
}

/// Tables from PT to PML5.
#[derive(PartialEq, Debug)]
struct Expected([u64; 5]);

impl PartialEq<Expected> for TableCount {
    fn eq(&self, other: &Expected) -> bool {
        Level::ALL.map(|level| self.of(level)) == other.0
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { levels, gbpages, offset, encryption_mask, maxphyaddr, leaf_flags, .. } = self;
        writeln!(f, "#[test]\nfn found_by_fuzzing() {{\n    plan::Case {{")?;
        writeln!(f, "        levels: {levels},\n        gbpages: {gbpages},")?;
        writeln!(
            f,
            "        offset: {offset:#x},\n        encryption_mask: {encryption_mask:#x},"
        )?;
        writeln!(f, "        maxphyaddr: {maxphyaddr},\n        leaf_flags: {leaf_flags:#x},")?;
        writeln!(f, "        policy: {:?},\n        uv: {},", self.policy, self.uv)?;
        writeln!(f, "        slack: {:?},", self.slack)?;
        for (name, ranges) in
            [("requests", &self.requests), ("forbidden", &self.forbidden), ("ram", &self.ram)]
        {
            writeln!(f, "        {name}: vec![")?;
            for (start, last) in ranges {
                writeln!(f, "            ({start:#018x}, {last:#018x}),")?;
            }
            writeln!(f, "        ],")?;
        }
        writeln!(f, "    }}\n    .check();\n}}")
    }
}
