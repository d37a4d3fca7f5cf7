//! The small OK/FAIL table that people draw by hand: producers × nogbpages × consumers.
//!
//! Where an address is not known, the table is drawn once for each place that makes a
//! difference, so that every cell is a plain word again, under a stated condition.

use identmap::PhysRange;
use identmap_linux::{
    Condition, Consumer, KernelVersion, Kind, Known, Need, Place, PolicyKind as LinuxPolicy,
    Producer, Traits, needs,
};
use identmap_machine::{Layout, Machine, MemType, hazards, ranges};

use crate::scene::{Exposure, exposures, fate_in};
use crate::{Coverage, Fate, MapInput, PolicyKind, SlackKind, Stage, doubts};

/// One row: a producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatrixRow {
    /// How it picks leaf sizes.
    pub policy: PolicyKind,
    /// Whether it requests the EFI configuration table.
    pub config_table: bool,
    /// 1 GiB leaves in use.
    pub gbpages: bool,
}

/// One column: a consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatrixColumn {
    /// Its version and CPU, in a few words.
    pub label: String,
}

/// How a jump ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Everything needed is mapped by request.
    Ok,
    /// Everything needed is mapped, some of it by over-reach only.
    Luck,
    /// It cannot be told, even under the condition.
    Unknown,
    /// Something needed is not mapped: the machine resets.
    Fail,
    /// Something is mapped that can halt the machine.
    Halt,
}

impl Outcome {
    /// `OK`, `OK*`, `?`, `FAIL` or `HALT`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "OK",
            Outcome::Luck => "OK*",
            Outcome::Unknown => "?",
            Outcome::Fail => "FAIL",
            Outcome::Halt => "HALT",
        }
    }
}

/// One table, and what it supposes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hypothesis {
    /// The firmware tables of unknown address lie in one of these; empty if nothing is supposed.
    pub place: Vec<PhysRange>,
    /// What lies there.
    pub what: Vec<String>,
    /// Outcomes, by row, then by column.
    pub cells: Vec<Vec<Outcome>>,
}

/// The whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// Producers.
    pub rows: Vec<MatrixRow>,
    /// Consumers.
    pub columns: Vec<MatrixColumn>,
    /// One table for each place that makes a difference.
    pub tables: Vec<Hypothesis>,
    /// Whether the places rest on an assumption rather than on the firmware's own map.
    pub assumed: bool,
}

/// A consumer to compare.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its version.
    pub version: KernelVersion,
    /// What CPUID says of SEV; `None` leaves the machine's own answer.
    pub sev: Option<bool>,
    /// Its name in the heading.
    pub label: String,
}

impl Candidate {
    /// The four kinds of consumer that differ in what they read early: before 5.19; from then to the
    /// fix of 2023, on any processor; after it, with SEV in CPUID and without. Where the
    /// machine's own CPUID is known, the last two are one.
    #[must_use]
    pub fn defaults(machine: &Machine) -> Vec<Candidate> {
        let of = |release: &str, sev: Option<bool>, label: &str| {
            let version = KernelVersion::parse(release, None).ok()?;
            Some(Candidate { version, sev, label: label.to_owned() })
        };
        let known = machine.cpu.sev;
        let mut all = vec![of("5.10.200", None, "5.10"), of("6.1.30", None, "5.19-6.4")];
        match known {
            Some(true) => all.push(of("6.12.30", known, "6.5+ (SEV)")),
            Some(false) => all.push(of("6.12.30", known, "6.5+ (no SEV)")),
            None => {
                all.push(of("6.12.30", Some(true), "6.5+ (SEV)"));
                all.push(of("6.12.30", Some(false), "6.5+ (no SEV)"));
            }
        }
        all.into_iter().flatten().collect()
    }
}

/// Draws the matrix; every producer requests the synthetic `entries` too.
#[must_use]
pub fn matrix(
    machine: &Machine,
    candidates: &[Candidate],
    kind: Kind,
    entries: &[PhysRange],
) -> Matrix {
    let layout = Layout::of(machine);
    let mut doubtful = Vec::new();
    let columns: Vec<(Machine, Vec<Need>)> = candidates
        .iter()
        .map(|candidate| {
            let mut seen = machine.clone();
            seen.cpu.sev = candidate.sev.or(machine.cpu.sev);
            let version = Some(candidate.version.clone());
            let consumer = Consumer { version, ..Consumer::default() };
            let needs = needs::needs(&seen, layout.as_ref(), &consumer, kind);
            doubtful.push(!doubts(&seen, layout.as_ref(), &consumer).is_empty());
            (seen, needs)
        })
        .collect();
    let rows = matrix_rows();
    let maps: Vec<RowMap> = rows
        .iter()
        .map(|row| RowMap::of(row, machine, layout.as_ref(), &columns, kind, entries))
        .collect();
    let (places, what, assumed) = places(&maps, &columns);
    let draw = |place: Vec<PhysRange>| {
        let cell = |map: &RowMap, column: usize| {
            let outcome = map.outcome(&columns[column].1, column, &place);
            if doubtful[column] { outcome.max(Outcome::Unknown) } else { outcome }
        };
        let line = |map: &RowMap| (0..columns.len()).map(|column| cell(map, column)).collect();
        Hypothesis { cells: maps.iter().map(line).collect(), what: what.clone(), place }
    };
    let mut tables: Vec<Hypothesis> = Vec::new();
    for table in places.into_iter().map(draw) {
        match tables.iter_mut().find(|known| known.cells == table.cells) {
            Some(known) => known.place = ranges::union(&known.place, &table.place),
            None => tables.push(table),
        }
    }
    if tables.is_empty() {
        tables.push(draw(Vec::new()));
    }
    let label = |candidate: &Candidate| MatrixColumn { label: candidate.label.clone() };
    Matrix { rows, columns: candidates.iter().map(label).collect(), tables, assumed }
}

/// The matrix whose cells something else fills in: by the number of the row, in [`matrix_rows`], and of the
/// column.
#[must_use]
pub fn matrix_of(labels: Vec<String>, cell: impl Fn(usize, usize) -> Outcome) -> Matrix {
    let rows = matrix_rows();
    let columns: Vec<MatrixColumn> =
        labels.into_iter().map(|label| MatrixColumn { label }).collect();
    let line = |row| (0..columns.len()).map(|column| cell(row, column)).collect();
    let cells = (0..rows.len()).map(line).collect();
    let table = Hypothesis { place: Vec::new(), what: Vec::new(), cells };
    Matrix { rows, columns, tables: vec![table], assumed: false }
}

impl MatrixRow {
    /// A recent kernel's ways, but for those that the row states.
    #[must_use]
    pub fn traits(&self) -> Traits {
        let recent = Producer::of(KernelVersion::parse("6.12.30", None).ok());
        let policy = match self.policy {
            PolicyKind::RoundOut | PolicyKind::ExactOnUv => LinuxPolicy::RoundOut,
            PolicyKind::Exact | PolicyKind::Guarded => LinuxPolicy::Exact,
        };
        let traits = match recent.traits() {
            Known::Certain(traits) => *traits,
            Known::Uncertain { candidates, .. } => candidates[0],
        };
        Traits { policy, config_table: self.config_table, ..traits }
    }
}

/// The producers that a matrix compares.
#[must_use]
pub fn matrix_rows() -> Vec<MatrixRow> {
    let mut rows = Vec::new();
    for config_table in [false, true] {
        for policy in [PolicyKind::RoundOut, PolicyKind::Exact] {
            for gbpages in [true, false] {
                rows.push(MatrixRow { policy, config_table, gbpages });
            }
        }
    }
    rows.push(MatrixRow { policy: PolicyKind::Guarded, config_table: true, gbpages: true });
    rows
}

/// What one producer maps, for each consumer (only `guarded` minds which).
struct RowMap {
    maps: Vec<Option<Coverage>>,
    traits: Traits,
    halts: bool,
}

impl RowMap {
    fn of(
        row: &MatrixRow,
        machine: &Machine,
        layout: Option<&Layout>,
        columns: &[(Machine, Vec<Need>)],
        kind: Kind,
        entries: &[PhysRange],
    ) -> RowMap {
        let traits = row.traits();
        let hazards = hazards(machine);
        let ram: Vec<PhysRange> =
            layout.map_or_else(Vec::new, |layout| layout.of_kind(MemType::Usable).collect());
        let plan = |needs: &[Need]| {
            let stage = Stage { machine, layout, needs, hazards: &hazards, kind, entries };
            let list = stage.requests(&traits);
            let (mut requests, mut forbidden) = (list.ranges(), Vec::new());
            if row.policy == PolicyKind::Guarded {
                (requests, forbidden) = stage.guarded_input(&list);
            }
            Coverage::plan(&MapInput {
                config: traits.config(machine, row.gbpages),
                policy: row.policy,
                uv: false,
                requests: &requests,
                forbidden: &forbidden,
                slack: SlackKind::Ram,
                ram: &ram,
            })
            .ok()
        };
        let maps: Vec<Option<Coverage>> = columns.iter().map(|(_, needs)| plan(needs)).collect();
        let halts = maps
            .iter()
            .flatten()
            .any(|map| exposures(map, &hazards).iter().any(Exposure::is_grave));
        RowMap { maps, traits, halts }
    }

    fn outcome(&self, needs: &[Need], column: usize, place: &[PhysRange]) -> Outcome {
        let Some(map) = self.maps.get(column).and_then(Option::as_ref) else {
            return Outcome::Unknown;
        };
        if self.halts {
            return Outcome::Halt;
        }
        needs.iter().map(|need| self.of_need(need, map, place)).max().unwrap_or(Outcome::Ok)
    }

    fn of_need(&self, need: &Need, map: &Coverage, place: &[PhysRange]) -> Outcome {
        // What happens only if the number of paging levels changes is another table's business.
        let conditions = match &need.certainty {
            identmap_linux::Certainty::Certain => &[][..],
            identmap_linux::Certainty::If(conditions) => conditions,
        };
        if conditions.contains(&Condition::PagingLevelChange) {
            return Outcome::Ok;
        }
        let sure = conditions.iter().all(|c| *c == Condition::EfiInfoHandedOver);
        match fate_in(need, map, &self.traits) {
            Fate::Requested => Outcome::Ok,
            Fate::Lucky(_) => Outcome::Luck,
            Fate::Missing(_) if sure => Outcome::Fail,
            Fate::MissingIfIn(gaps) if !place.is_empty() => {
                let supposed = ranges::intersect(candidates(need), place);
                let missing = ranges::intersect(&supposed, &gaps);
                if missing.is_empty() {
                    luck_or_ok(map, &supposed)
                } else if ranges::total(&missing) == ranges::total(&supposed) && sure {
                    Outcome::Fail
                } else {
                    Outcome::Unknown
                }
            }
            Fate::Missing(_) | Fate::PlaceUnknown | Fate::MissingIfIn(_) => Outcome::Unknown,
            Fate::MappedIfThere { .. } => {
                luck_or_ok(map, &ranges::intersect(candidates(need), place))
            }
        }
    }
}

fn luck_or_ok(map: &Coverage, place: &[PhysRange]) -> Outcome {
    if map.luck(place).is_empty() { Outcome::Ok } else { Outcome::Luck }
}

fn candidates(need: &Need) -> &[PhysRange] {
    match &need.place {
        Place::Within { ranges, .. } => ranges,
        Place::Known(_) | Place::Unknown => &[],
    }
}

/// The places in which needs of unknown address may lie, cut where the outcome changes;
/// what they are; whether they rest on an assumption.
fn places(
    maps: &[RowMap],
    columns: &[(Machine, Vec<Need>)],
) -> (Vec<Vec<PhysRange>>, Vec<String>, bool) {
    let mut pieces: Vec<PhysRange> = Vec::new();
    let mut what: Vec<String> = Vec::new();
    let mut assumed = false;
    for (column, (_, needs)) in columns.iter().enumerate() {
        for need in needs {
            let Place::Within { ranges, basis: Some(basis), .. } = &need.place else { continue };
            if maps.iter().all(|map| map.asks(need, column)) {
                continue;
            }
            if !what.contains(&need.what) {
                what.push(need.what.clone());
            }
            assumed |= *basis == identmap_linux::firmware::Basis::ReservedNearRam;
            pieces = cut(&ranges::union(&ranges::normalise(pieces), ranges), maps);
        }
    }
    (pieces.into_iter().map(|piece| vec![piece]).collect(), what, assumed)
}

impl RowMap {
    fn asks(&self, need: &Need, column: usize) -> bool {
        let map = self.maps.get(column).and_then(Option::as_ref);
        map.is_some_and(|map| fate_in(need, map, &self.traits) == Fate::Requested)
    }
}

/// Cuts ranges wherever some map begins or ends to map, or to reach over.
fn cut(ranges: &[PhysRange], maps: &[RowMap]) -> Vec<PhysRange> {
    let coverages = || maps.iter().flat_map(|map| map.maps.iter().flatten());
    let mut edges: Vec<u64> = coverages()
        .flat_map(|map| map.mapped.iter().chain(&map.requested))
        .flat_map(|range| [range.start().get(), range.end().get()])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut pieces = Vec::new();
    for range in ranges {
        let mut start = range.start().get();
        let from = edges.partition_point(|&edge| edge <= start);
        for &edge in edges[from..].iter().take_while(|&&edge| edge < range.end().get()) {
            pieces.extend(PhysRange::new(start, edge));
            start = edge;
        }
        pieces.extend(PhysRange::new(start, range.end().get()));
    }
    pieces
}
