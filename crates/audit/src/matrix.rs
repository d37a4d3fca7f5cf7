//! The small OK/FAIL table that people draw by hand: producers × nogbpages × consumers.
//!
//! Where an address is not known, the table is drawn once for each place that makes a
//! difference, so that every cell is a plain word again, under a stated condition.

use core::fmt;

use identmap::PhysRange;
use identmap_linux::{
    Condition, Consumer, KernelVersion, Kind, Known, Need, Place, PolicyKind as LinuxPolicy,
    Producer, Traits, needs, traps,
};
use identmap_machine::{Layout, Machine, MemType, hazards, ranges};

use crate::scene::{Exposure, exposures, fate_in};
use crate::{By, Coverage, Fate, MapInput, PolicyKind, SlackKind, Stage, doubts};

/// One row: a producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatrixRow {
    /// How it picks leaf sizes.
    pub policy: PolicyKind,
    /// Whether it requests the EFI configuration table.
    pub config_table: bool,
    /// 1 GiB leaves in use.
    pub gbpages: bool,
    /// The numbers of paging levels for which the row holds; empty where they are not told apart: the processor
    /// has no 5 levels, or the consumer is run, or it is not known, and cells that hang on it are `?`.
    pub levels: Vec<LevelWay>,
}

/// Paging levels on both sides of the jump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LevelWay {
    /// Of the producer: 4 or 5.
    pub from: u8,
    /// Of the consumer: what it is built and told to run with.
    pub to: u8,
}

impl fmt::Display for LevelWay {
    /// `5->4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.from, self.to)
    }
}

impl LevelWay {
    /// All that a machine can come to; none where there is nothing to tell apart.
    #[must_use]
    pub fn of(machine: &Machine) -> Vec<LevelWay> {
        let cpu = &machine.cpu;
        if cpu.la57 != Some(true) && cpu.la57_active != Some(true) {
            return Vec::new();
        }
        let from = match cpu.la57_active {
            Some(true) => &[5][..],
            Some(false) => &[4],
            None => &[4, 5],
        };
        from.iter().flat_map(|&from| [4, 5].map(|to| LevelWay { from, to })).collect()
    }

    /// Those of a row in a few words: `any`, or `4->4, 5->5`; empty where they are not told apart.
    #[must_use]
    pub fn words(of_row: &[LevelWay], all: &[LevelWay]) -> String {
        if !of_row.is_empty() && of_row == all {
            return "any".to_owned();
        }
        of_row.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
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
    /// Whether cells are open because it is not known whether 5 paging levels are in use.
    pub levels_open: bool,
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
    // Of a row all that decides the map is supposed; for the rest it is the machine's own kernel.
    let own = Producer::of(KernelVersion::of(machine).and_then(Result::ok));
    let columns: Vec<Column> = candidates
        .iter()
        .map(|candidate| {
            let mut seen = machine.clone();
            seen.cpu.sev = candidate.sev.or(machine.cpu.sev);
            let version = Some(candidate.version.clone());
            let consumer = Consumer { version, ..Consumer::default() };
            let needs = needs::needs(&seen, layout.as_ref(), &consumer, kind);
            let kernels = (&own, &consumer);
            let doubts = doubts(&seen, layout.as_ref(), kernels, kind, By::SupposedMaps);
            let doubtful = !doubts.is_empty();
            Column { consumer, needs, doubtful }
        })
        .collect();
    let maps: Vec<(MatrixRow, RowMap)> = matrix_rows()
        .into_iter()
        .map(|row| {
            let map = RowMap::of(&row, machine, layout.as_ref(), &columns, kind, entries);
            (row, map)
        })
        .collect();
    let (places, what, assumed) = places(&maps, &columns);
    let ways = LevelWay::of(machine);
    let line = |map: &RowMap, way: Option<LevelWay>, place: &[PhysRange]| -> Vec<Outcome> {
        let cell = |(number, column): (usize, &Column)| {
            let outcome = map.outcome(column, number, way, place);
            if column.doubtful { outcome.max(Outcome::Unknown) } else { outcome }
        };
        columns.iter().enumerate().map(cell).collect()
    };
    // A row for each way between levels that makes a difference anywhere.
    let mut lines: Vec<(MatrixRow, &RowMap, Option<LevelWay>)> = Vec::new();
    for (row, map) in &maps {
        let all = |way| -> Vec<Vec<Outcome>> {
            let nowhere = [Vec::new()];
            places.iter().chain(&nowhere).map(|place| line(map, Some(way), place)).collect()
        };
        let mut apart: Vec<(Vec<LevelWay>, Vec<Vec<Outcome>>)> = Vec::new();
        for &way in &ways {
            let outcomes = all(way);
            match apart.iter_mut().find(|(_, known)| *known == outcomes) {
                Some((alike, _)) => alike.push(way),
                None => apart.push((vec![way], outcomes)),
            }
        }
        if apart.is_empty() {
            lines.push((row.clone(), map, None));
        }
        for (levels, _) in apart {
            let way = levels.first().copied();
            lines.push((MatrixRow { levels, ..row.clone() }, map, way));
        }
    }
    let draw = |place: Vec<PhysRange>| {
        let cells = lines.iter().map(|(_, map, way)| line(map, *way, &place)).collect();
        Hypothesis { cells, what: what.clone(), place }
    };
    let mut tables: Vec<Hypothesis> = Vec::new();
    for table in places.iter().cloned().map(&draw) {
        match tables.iter_mut().find(|known| known.cells == table.cells) {
            Some(known) => known.place = ranges::union(&known.place, &table.place),
            None => tables.push(table),
        }
    }
    if tables.is_empty() {
        tables.push(draw(Vec::new()));
    }
    let label = |candidate: &Candidate| MatrixColumn { label: candidate.label.clone() };
    let rows = lines.into_iter().map(|(row, ..)| row).collect();
    let levels_open = ways.is_empty()
        && maps
            .iter()
            .any(|(_, map)| columns.iter().any(|column| map.drop(column, None) != Outcome::Ok));
    let columns = candidates.iter().map(label).collect();
    Matrix { rows, columns, tables, assumed, levels_open }
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
    Matrix { rows, columns, tables: vec![table], assumed: false, levels_open: false }
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
                rows.push(MatrixRow { policy, config_table, gbpages, levels: Vec::new() });
            }
        }
    }
    rows.push(MatrixRow {
        policy: PolicyKind::Guarded,
        config_table: true,
        gbpages: true,
        levels: Vec::new(),
    });
    rows
}

/// A consumer, and what it touches.
struct Column {
    consumer: Consumer,
    needs: Vec<Need>,
    /// Something else keeps the answer from being known.
    doubtful: bool,
}

/// What one producer maps, for each consumer (only `guarded` minds which).
struct RowMap {
    maps: Vec<Option<Coverage>>,
    traits: Traits,
    halts: bool,
    /// Bits above 51 in the first entry of the top table.
    flags: bool,
    /// It is not known whether the machine has 5 levels in use.
    may_have_5_levels: bool,
}

impl RowMap {
    fn of(
        row: &MatrixRow,
        machine: &Machine,
        layout: Option<&Layout>,
        columns: &[Column],
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
        let maps: Vec<Option<Coverage>> =
            columns.iter().map(|column| plan(&column.needs)).collect();
        let halts = maps
            .iter()
            .flatten()
            .any(|map| exposures(map, &hazards).iter().any(Exposure::is_grave));
        // The releases that set them request the configuration table, all of them; our own map has none.
        let flags = row.config_table && row.policy != PolicyKind::Guarded;
        let may_have_5_levels = machine.cpu.runs_5_levels().is_none();
        RowMap { maps, traits, halts, flags, may_have_5_levels }
    }

    fn outcome(
        &self,
        column: &Column,
        number: usize,
        way: Option<LevelWay>,
        place: &[PhysRange],
    ) -> Outcome {
        let Some(map) = self.maps.get(number).and_then(Option::as_ref) else {
            return Outcome::Unknown;
        };
        if self.halts {
            return Outcome::Halt;
        }
        let drop = self.drop(column, way);
        if drop == Outcome::Fail {
            return drop;
        }
        let change = way.is_some_and(|way| way.from != way.to);
        let of_need = |need| self.of_need(need, map, change, place);
        column.needs.iter().map(of_need).fold(drop, Outcome::max)
    }

    /// What comes of a change from 5 levels to 4.
    fn drop(&self, column: &Column, way: Option<LevelWay>) -> Outcome {
        let traits = Traits { noptishadow: self.flags && self.traits.noptishadow, ..self.traits };
        match way {
            Some(way) if (way.from, way.to) != (5, 4) => Outcome::Ok,
            None if !self.may_have_5_levels => Outcome::Ok,
            _ if !traps::drops_a_level_badly(&traits, &column.consumer) => Outcome::Ok,
            Some(_) => Outcome::Fail,
            None => Outcome::Unknown,
        }
    }

    fn of_need(&self, need: &Need, map: &Coverage, change: bool, place: &[PhysRange]) -> Outcome {
        let conditions = match &need.certainty {
            identmap_linux::Certainty::Certain => &[][..],
            identmap_linux::Certainty::If(conditions) => conditions,
        };
        // Where levels are not told apart, what is touched only if their number changes is left out.
        if conditions.contains(&Condition::PagingLevelChange) && !change {
            return Outcome::Ok;
        }
        let met = [Condition::EfiInfoHandedOver, Condition::PagingLevelChange];
        let sure = conditions.iter().all(|condition| met.contains(condition));
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
    maps: &[(MatrixRow, RowMap)],
    columns: &[Column],
) -> (Vec<Vec<PhysRange>>, Vec<String>, bool) {
    let mut pieces: Vec<PhysRange> = Vec::new();
    let mut what: Vec<String> = Vec::new();
    let mut assumed = false;
    for (number, column) in columns.iter().enumerate() {
        for need in &column.needs {
            let Place::Within { ranges, basis: Some(basis), .. } = &need.place else { continue };
            if maps.iter().all(|(_, map)| map.asks(need, number)) {
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
fn cut(ranges: &[PhysRange], maps: &[(MatrixRow, RowMap)]) -> Vec<PhysRange> {
    let coverages = || maps.iter().flat_map(|(_, map)| map.maps.iter().flatten());
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

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_linux::history::{CONFIG_TABLE, NOPTISHADOW};
    use identmap_machine::{parse, sample};

    fn drawn(la57: Option<bool>, active: Option<bool>) -> Matrix {
        let sample = sample("laptop-2024").unwrap();
        let mut machine = parse::machine(sample.name, sample.bytes).unwrap();
        (machine.cpu.sev, machine.cpu.la57, machine.cpu.la57_active) = (Some(false), la57, active);
        let of = |release: &str| Candidate {
            version: KernelVersion::parse(release, None).unwrap(),
            sev: None,
            label: release.to_owned(),
        };
        matrix(&machine, &[of("5.10.200"), of("6.12.107")], Kind::Kexec, &[])
    }

    /// The lab's cells 6.12-5level-to-5.10 and 6.12-5level-to-6.12-no5lvl (docs/kexec-lab.md).
    #[test]
    fn five_levels_into_a_kernel_with_four_fail_where_the_lab_saw_it() {
        for table in [drawn(Some(true), None), drawn(Some(true), Some(true))] {
            for (row, cells) in table.rows.iter().zip(&table.tables[0].cells) {
                let down = row.levels.contains(&LevelWay { from: 5, to: 4 });
                let ours = row.policy == PolicyKind::Guarded;
                let fails = down && row.config_table && !ours;
                let expected = if fails { Outcome::Fail } else { Outcome::Ok };
                assert_eq!(cells[..], [expected, Outcome::Ok], "{row:?}");
                assert!(!fails || row.levels.len() == 1, "{row:?}");
            }
            let split = |config: bool| {
                let rows = table.rows.iter().filter(|row| row.config_table == config);
                rows.filter(|row| row.policy == PolicyKind::Exact && row.gbpages).count()
            };
            assert_eq!((split(true), split(false)), (2, 1), "rows of their own where it matters");
        }
    }

    #[test]
    fn levels_are_told_apart_only_where_there_is_a_choice() {
        for table in [drawn(Some(false), Some(false)), drawn(None, None)] {
            assert_eq!(table.rows, matrix_rows());
            assert_eq!(table.levels_open, table == drawn(None, None));
            // Where nothing tells whether there are 5, what would fail then is no OK.
            let open =
                table.rows.iter().map(|row| row.config_table && row.policy != PolicyKind::Guarded);
            let is_none = table == drawn(None, None);
            for (cells, open) in table.tables[0].cells.iter().zip(open) {
                let old = if open && is_none { Outcome::Unknown } else { Outcome::Ok };
                assert_eq!(cells[..], [old, Outcome::Ok]);
            }
        }
        let up = drawn(Some(true), Some(false));
        assert!(up.rows.iter().all(|row| row.levels.len() == 2), "from 4 nothing differs");
    }

    #[test]
    fn who_sets_flags_in_the_top_table_requests_the_configuration_table() {
        for span in NOPTISHADOW.spans {
            assert_ne!(CONFIG_TABLE.over(span.releases).certain(), Some(&false));
            assert!(CONFIG_TABLE.spans.iter().any(|s| s.releases.covers(&span.releases)));
        }
    }
}
