//! `guarded` in every small world, against a brute-force model.
//!
//! A world is eight atoms of memory, each a hole, RAM, requested or forbidden: 4^8 = 65,536
//! worlds, in the real geometry of 4 KiB, 2 MiB and 1 GiB. The model is a recursion over
//! frames that tries both choices everywhere, a leaf or a table, and knows nothing of ranges.

mod support;

use std::fmt;

use identmap::{
    Arena, Config, Guard, Levels, PhysRange, Plan, PlanError, Policy, Slack, add, empty_root,
};
use support::{G1, K4, M2, assert_tables_hold, built, leaves, range, slots_for};

const WORLDS: u32 = 1 << 16;

/// Two GiB with every kind of edge: a page at the start of a 2 MiB frame and at the end of one,
/// at the start of a GiB and at the end of one.
const PAGES: [u64; 9] =
    [0, K4, M2, M2 + K4, G1, 2 * G1 - M2 - K4, 2 * G1 - M2, 2 * G1 - K4, 2 * G1];

/// Atoms that meet inside pages.
const BYTES: [u64; 9] = [0, 0x800, K4, K4 + 0x123, 2 * K4, M2, M2 + 1, 2 * M2 - 1, 2 * M2];

#[test]
fn every_world_of_pages() {
    let geometry = Geometry::new(&PAGES, 0, 0);
    check_all(&geometry, 1);
}

/// The same two GiB on both sides of a 512 GiB border: two PDPTs.
#[test]
fn every_world_across_a_border_of_512_gib() {
    let geometry = Geometry::new(&PAGES, 511 * G1, 0);
    check_all(&geometry, 1);
}

/// At Linux's direct-map offset (4 levels), which is not a multiple of 256 TiB.
#[test]
fn every_third_world_at_an_offset() {
    let geometry = Geometry::new(&PAGES, 7 * 512 * G1 - G1, 0xffff_8880_0000_0000);
    check_all(&geometry, 3);
}

#[test]
fn every_world_of_bytes() {
    let geometry = Geometry::new(&BYTES, 0, 0);
    check_all(&geometry, 1);
}

/// A hole now stands for memory that is requested and forbidden at once.
#[test]
fn a_request_that_meets_a_forbidden_range_is_refused_in_every_world() {
    for breaks in [&PAGES, &BYTES] {
        let geometry = Geometry::new(breaks, 3 * G1, 0);
        let mut refused = 0;
        for code in 0..WORLDS {
            let world = World { geometry: &geometry, code, torn: true };
            refused += u32::from(world.check_conflict());
        }
        // 3^8 worlds have no torn atom; more of those of bytes conflict inside a page.
        assert!(refused >= WORLDS - 6561, "{refused}");
    }
}

/// Every world with every slack, with and without 1 GiB leaves.
fn check_all(geometry: &Geometry, step: usize) {
    for code in (0..WORLDS).step_by(step) {
        let world = World { geometry, code, torn: false };
        if world.check_conflict() {
            continue;
        }
        for slack in [Reach::None, Reach::Ram, Reach::Any] {
            for gbpages in [false, true] {
                world.check(slack, gbpages);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Hole,
    Ram,
    Wanted,
    Forbidden,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    None,
    Ram,
    Any,
}

/// A frame of memory that one entry spans, with the atoms that it touches as a set of bits.
/// Children that touch the same single atom are alike: they are kept once, with their number.
struct Frame {
    shift: u32,
    atoms: u8,
    children: Vec<(Frame, u64)>,
}

struct Geometry {
    atoms: Vec<PhysRange>,
    /// Pages that touch the same atoms, one behind the other.
    pages: Vec<(PhysRange, u8)>,
    /// The frame of the root table.
    root: Frame,
    offset: u64,
}

impl Geometry {
    fn new(breaks: &[u64; 9], base: u64, offset: u64) -> Geometry {
        let atoms: Vec<PhysRange> =
            breaks.windows(2).map(|w| range(base + w[0], base + w[1])).collect();
        let mut pages: Vec<(PhysRange, u8)> = Vec::new();
        // A page either lies in one atom or holds a border: cut at the pages of all borders.
        let mut cuts: Vec<u64> =
            breaks.iter().flat_map(|b| [b & !(K4 - 1), b.next_multiple_of(K4)]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts.windows(2) {
            let pages_here = range(base + cut[0], base + cut[1]);
            pages.push((pages_here, touched(&atoms, pages_here)));
        }
        let first = base.wrapping_add(offset) & ((1 << 48) - 1);
        let linear: Vec<(u64, u64)> =
            breaks.windows(2).map(|w| (first + w[0], first + w[1])).collect();
        Geometry { atoms, pages, root: Frame::new(0, 48, &linear), offset }
    }
}

fn touched(atoms: &[PhysRange], pages: PhysRange) -> u8 {
    atoms.iter().enumerate().fold(0, |set, (i, a)| set | u8::from(a.intersects(pages)) << i)
}

impl Frame {
    fn new(start: u64, shift: u32, atoms: &[(u64, u64)]) -> Frame {
        let end = start + (1 << shift);
        let touches = |&(s, e): &(u64, u64)| s < end && start < e;
        let set = atoms.iter().enumerate().fold(0, |set, (i, a)| set | u8::from(touches(a)) << i);
        let mut children: Vec<(Frame, u64)> = Vec::new();
        if shift > 12 && set != 0 {
            let below = shift - 9;
            for index in 0..512 {
                let child_start = start + (index << below);
                let alike = atoms
                    .iter()
                    .position(|&(s, e)| s <= child_start && child_start + (1 << below) <= e);
                match (alike, children.last_mut()) {
                    (Some(atom), Some((last, count)))
                        if last.atoms == 1 << atom && last.is_uniform() =>
                    {
                        *count += 1;
                    }
                    _ => {
                        let child = Frame::new(child_start, below, atoms);
                        if child.atoms != 0 {
                            children.push((child, 1));
                        }
                    }
                }
            }
        }
        Frame { shift, atoms: set, children }
    }

    /// Whether all of it lies in one atom (its children are then one kind, 512 of it).
    fn is_uniform(&self) -> bool {
        self.atoms.is_power_of_two()
            && (self.shift == 12
                || matches!(&self.children[..], [(child, 512)] if child.is_uniform()))
    }
}

struct World<'g> {
    geometry: &'g Geometry,
    /// Two bits an atom.
    code: u32,
    /// A hole is requested and forbidden at once.
    torn: bool,
}

impl World<'_> {
    fn state(&self, atom: usize) -> State {
        [State::Hole, State::Ram, State::Wanted, State::Forbidden]
            [(self.code >> (2 * atom)) as usize & 3]
    }

    fn has(&self, atoms: u8, state: State) -> bool {
        (0..8).any(|atom| atoms >> atom & 1 == 1 && self.state(atom) == state)
    }

    fn atoms(&self, states: &[State]) -> Vec<PhysRange> {
        let chosen = (0..8).filter(|&atom| states.contains(&self.state(atom)));
        let mut ranges: Vec<PhysRange> = Vec::new();
        for atom in chosen.map(|atom| self.geometry.atoms[atom]) {
            // In every other world neighbours are one range; in the rest, one each.
            match ranges.last_mut() {
                Some(last) if self.code & 1 == 0 && last.end() == atom.start() => {
                    *last = last.merged(atom).unwrap();
                }
                _ => ranges.push(atom),
            }
        }
        if self.code & 2 == 0 {
            ranges.reverse();
        }
        ranges
    }

    fn requests(&self) -> Vec<PhysRange> {
        if self.torn {
            return self.atoms(&[State::Wanted, State::Hole]);
        }
        self.atoms(&[State::Wanted])
    }

    fn forbidden(&self) -> Vec<PhysRange> {
        if self.torn {
            return self.atoms(&[State::Forbidden, State::Hole]);
        }
        self.atoms(&[State::Forbidden])
    }

    fn ram(&self) -> Vec<PhysRange> {
        if self.code & 4 == 0 {
            // What is requested or forbidden may be RAM as well: that must change nothing.
            return self.atoms(&[State::Ram, State::Wanted, State::Forbidden]);
        }
        self.atoms(&[State::Ram])
    }

    /// If a page is requested and forbidden, the plan is refused with the first such page and
    /// the first ranges in it, whatever the slack. Whether that is so.
    fn check_conflict(&self) -> bool {
        let (requests, forbidden) = (self.requests(), self.forbidden());
        let meets = |ranges: &[PhysRange], page: PhysRange| {
            ranges.iter().position(|range| range.intersects(page))
        };
        let first = self.geometry.pages.iter().find_map(|&(pages, _)| {
            let page = range(pages.start().get(), pages.start().get() + K4);
            Some((page.start(), meets(&requests, page)?, meets(&forbidden, page)?))
        });
        let Some((page, index, other)) = first else { return false };
        let expected = PlanError::Conflict {
            request: requests[index],
            index,
            forbidden: forbidden[other],
            page,
        };
        for slack in [Slack::None, Slack::Ram(&forbidden), Slack::Any] {
            let policy = Policy::Guarded(Guard { forbidden: &forbidden, slack });
            let mut slots = slots_for(&policy, requests.len());
            let config = Config::kexec(Levels::Four, true);
            let refused = Plan::new(&config, &policy, &requests, &mut slots);
            assert_eq!(refused.unwrap_err(), expected, "{self}");
        }
        true
    }

    /// Plans, and checks the runs and the number of tables.
    fn check(&self, slack: Reach, gbpages: bool) {
        let (requests, forbidden, ram) = (self.requests(), self.forbidden(), self.ram());
        let guard = Guard {
            forbidden: &forbidden,
            slack: match slack {
                Reach::None => Slack::None,
                Reach::Ram => Slack::Ram(&ram),
                Reach::Any => Slack::Any,
            },
        };
        let policy = Policy::Guarded(guard);
        let offset = self.geometry.offset;
        let config = Config { offset, ..Config::kexec(Levels::Four, gbpages) };
        let mut slots = slots_for(&policy, requests.len());
        let plan = Plan::new(&config, &policy, &requests, &mut slots).expect("nothing meets");

        self.check_runs(&plan, slack, gbpages);
        let tables = self.least_tables(&self.geometry.root, slack, gbpages);
        assert_eq!(Some(plan.tables().total()), tables, "{self} {slack:?} {gbpages}\n{plan}");
        if self.code % 61 == 0 {
            let (mut tables, built) = built(&plan);
            let used = tables.len();
            let arena = support::reopened(&mut tables, used);
            let (runs, count) = leaves(&arena, built.root, config.paging());
            assert_tables_hold(&plan, &runs, count);
            self.check_added(&config, &policy, slack, &requests, &plan);
        }
    }

    /// Adding the requests one by one: with slack `any` the planned tables; else more of them
    /// at times, and the same two promises.
    fn check_added(
        &self,
        config: &Config,
        policy: &Policy<'_>,
        slack: Reach,
        requests: &[PhysRange],
        plan: &Plan<'_>,
    ) {
        let mut tables = support::dirty_tables(32);
        let mut arena = Arena::new(&mut tables, support::addr(support::BASE)).unwrap();
        let root = empty_root(&mut arena, config).unwrap();
        for &request in requests {
            let mut slots = slots_for(policy, 1);
            add(&mut arena, root, config, policy, request, &mut slots).unwrap();
        }
        let (runs, count) = leaves(&arena, root, config.paging());
        if slack == Reach::Any {
            assert_tables_hold(plan, &runs, count);
        }
        assert!(count.total() >= plan.tables().total());
        for &(pages, atoms) in &self.geometry.pages {
            let mapped = runs
                .iter()
                .map(|run| PhysRange::from_len(run.phys.get(), run.bytes()).unwrap())
                .filter_map(|run| run.intersection(pages))
                .map(PhysRange::len)
                .sum::<u64>();
            assert!(!self.has(atoms, State::Wanted) || mapped == pages.len(), "{self}");
            assert!(self.is_admissible(atoms, slack) || mapped == 0, "{self}");
        }
    }

    /// Sorted, aligned, unmergeable; every requested page mapped and no inadmissible one.
    fn check_runs(&self, plan: &Plan<'_>, slack: Reach, gbpages: bool) {
        let mut last: Option<identmap::Run> = None;
        for run in plan.runs() {
            let (start, end) = (run.range().start(), run.range().end());
            assert!(start.is_aligned(run.size()) && end.is_aligned(run.size()), "{self}\n{plan}");
            assert!(gbpages || run.size().bytes() < G1, "{self}\n{plan}");
            if let Some(last) = last {
                assert!(last.range().end() <= start, "{self}\n{plan}");
                let one_run = last.range().end() == start && last.size() == run.size();
                assert!(!one_run, "{self}\n{plan}");
            }
            last = Some(run);
        }
        let mut outside: u64 = plan.runs().map(|run| run.range().len()).sum();
        for &(pages, atoms) in &self.geometry.pages {
            let mapped = plan
                .runs()
                .filter_map(|run| run.range().intersection(pages))
                .map(PhysRange::len)
                .sum::<u64>();
            outside -= mapped;
            let wanted = self.has(atoms, State::Wanted);
            assert!(!wanted || mapped == pages.len(), "{self} {pages} is missing\n{plan}");
            let allowed = self.is_admissible(atoms, slack);
            assert!(allowed || mapped == 0, "{self} {slack:?} {pages} is mapped\n{plan}");
        }
        assert!(slack == Reach::Any || outside == 0, "{self} {slack:?}\n{plan}");
    }

    /// Whether a page that touches these atoms may be mapped.
    fn is_admissible(&self, atoms: u8, slack: Reach) -> bool {
        if self.has(atoms, State::Forbidden) {
            return false;
        }
        self.has(atoms, State::Wanted)
            || slack == Reach::Any
            || slack == Reach::Ram && !self.has(atoms, State::Hole)
    }

    /// Whether every page of the frame may be mapped.
    fn may_be_leaf(&self, frame: &Frame, slack: Reach) -> bool {
        if frame.shift == 12 {
            return self.is_admissible(frame.atoms, slack);
        }
        // The atoms fill whole frames of their smallest parents, so memory beside them is a
        // hole only where the children do not fill the frame.
        let filled = frame.children.iter().map(|(_, count)| count).sum::<u64>() == 512;
        (filled || slack == Reach::Any)
            && frame.children.iter().all(|(child, _)| self.may_be_leaf(child, slack))
    }

    /// The least number of tables that map all that is requested in this frame; `None` if
    /// there is no way. Both choices are tried everywhere.
    fn least_tables(&self, frame: &Frame, slack: Reach, gbpages: bool) -> Option<u64> {
        let sized = match frame.shift {
            12 | 21 => true,
            30 => gbpages,
            _ => false,
        };
        let as_leaf = (sized && self.may_be_leaf(frame, slack)).then_some(0);
        let as_table = (frame.shift > 12)
            .then(|| {
                frame
                    .children
                    .iter()
                    .filter(|(child, _)| self.has(child.atoms, State::Wanted))
                    .map(|(child, count)| Some(self.least_tables(child, slack, gbpages)? * count))
                    .sum::<Option<u64>>()
            })
            .flatten()
            .map(|below| below + 1);
        match (as_leaf, as_table) {
            (Some(leaf), Some(table)) => Some(leaf.min(table)),
            (leaf, table) => leaf.or(table),
        }
    }
}

impl fmt::Display for World<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "world {:#06x}", self.code)?;
        if self.torn {
            write!(f, " (holes are requested and forbidden)")?;
        }
        for (atom, range) in self.geometry.atoms.iter().enumerate() {
            write!(f, "\n  {range} {:?}", self.state(atom))?;
        }
        Ok(())
    }
}
