//! One producer, one consumer, one machine: what is missing, lucky, exposed.

use identmap::{PhysAddr, PhysRange, PlanError};
use identmap_linux::tables::Tables;
use identmap_linux::{Certainty, Condition, Kind, Need, Place, RequestList, Traits, requests};
use identmap_machine::{Hazard, Layout, Machine, Severity as HazardSeverity, ranges};

use crate::{Coverage, Finding, MapInput, SlackKind, TablesUnusable};

/// How a need fares under one map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The producer asks for it by name, wherever it lies.
    Requested,
    /// It is mapped, partly or wholly by over-reach; the part that is.
    Lucky(Vec<PhysRange>),
    /// It is not mapped; the part that is not.
    Missing(Vec<PhysRange>),
    /// Where it lies is known only roughly, and part of that is not mapped: the part that is not.
    MissingIfIn(Vec<PhysRange>),
    /// It is mapped if it lies where it is supposed to; `lucky` is the part mapped by over-reach.
    MappedIfThere {
        /// Mapped by over-reach only.
        lucky: Vec<PhysRange>,
    },
    /// Where it lies cannot be said at all.
    PlaceUnknown,
}

/// A need and its fate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NeedFate {
    /// The need.
    pub need: Need,
    /// The ways in which the consumer comes to touch it: it does if all conditions of one
    /// of them hold. A way without conditions is sure.
    pub ways: Vec<Vec<Condition>>,
    /// Its fate.
    pub fate: Fate,
}

impl NeedFate {
    /// Whether the consumer surely touches it.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.ways.iter().any(Vec::is_empty)
    }
}

/// Each thing needed once, with all the ways in which it is: it is if all conditions of one of them hold.
#[must_use]
pub fn gathered(needs: &[Need]) -> Vec<(&Need, Vec<Vec<Condition>>)> {
    let mut gathered: Vec<(&Need, Vec<Vec<Condition>>)> = Vec::new();
    for need in needs {
        let way = match &need.certainty {
            Certainty::Certain => Vec::new(),
            Certainty::If(conditions) => conditions.clone(),
        };
        let same = |(known, _): &&mut (&Need, _)| {
            (known.rule.id, &known.what, &known.place) == (need.rule.id, &need.what, &need.place)
        };
        match gathered.iter_mut().find(same) {
            Some((_, ways)) => ways.push(way),
            None => gathered.push((need, vec![way])),
        }
    }
    gathered
}

/// A hazard that a map reaches, and the bytes of it that it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exposure {
    /// The hazard.
    pub hazard: Hazard,
    /// Bytes mapped, sorted, disjoint.
    pub mapped: Vec<PhysRange>,
    /// Whether a request asked for them, rather than a large leaf that reached over.
    pub requested: bool,
}

/// Everything that was found of one map.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What the producer does.
    pub traits: Traits,
    /// 1 GiB leaves in use.
    pub gbpages: bool,
    /// What it requests.
    pub list: RequestList,
    /// The map.
    pub coverage: Coverage,
    /// Every need.
    pub needs: Vec<NeedFate>,
    /// Every hazard it reaches.
    pub exposures: Vec<Exposure>,
    /// How a run of the consumer under this map ended, where there was one.
    pub run: Vec<Finding>,
    /// The producers that map just this, each in a few words.
    pub labels: Vec<String>,
}

/// What all scenes of one audit share.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Its memory.
    pub layout: Option<&'a Layout>,
    /// What the consumer touches.
    pub needs: &'a [Need],
    /// What had better not be mapped.
    pub hazards: &'a [Hazard],
    /// `kexec -l` or `-p`.
    pub kind: Kind,
    /// Synthetic entries, which every producer requests too.
    pub entries: &'a [PhysRange],
}

impl Scene {
    /// Whether this producer maps and asks for the same as another.
    #[must_use]
    pub fn maps_like(&self, other: &Scene) -> bool {
        self.coverage.runs == other.coverage.runs
            && self.needs == other.needs
            && self.run == other.run
    }

    fn labelled(mut self) -> Scene {
        let table = match (self.traits.firmware_tables, self.traits.config_table) {
            (_, true) => "configuration table requested",
            (true, false) => "configuration table not requested",
            (false, false) => "no firmware table requested",
        };
        let pages = if self.gbpages && self.traits.gbpages { "1G pages" } else { "nogbpages" };
        self.labels.push(format!("{}, {table}, {pages}", self.coverage.policy.name()));
        self
    }

    /// Takes up the name of a producer that maps the same.
    pub(crate) fn also(&mut self, other: &Scene) {
        for label in &other.labels {
            if !self.labels.contains(label) {
                self.labels.push(label.clone());
            }
        }
    }
}

impl Stage<'_> {
    /// What a producer with these traits requests, the synthetic entries last.
    #[must_use]
    pub fn requests(&self, traits: &Traits) -> RequestList {
        let mut list = requests(self.machine, self.layout, traits, self.kind);
        list.add_synthetic(self.entries);
        list
    }

    /// Plans what a producer with these traits maps, and holds it against needs and hazards.
    ///
    /// # Errors
    /// As [`identmap::Plan::new`].
    pub fn scene(&self, traits: Traits, gbpages: bool) -> Result<Scene, PlanError> {
        let list = self.requests(&traits);
        let coverage = Coverage::plan(&MapInput {
            config: traits.config(self.machine, gbpages),
            policy: traits.policy.into(),
            uv: false,
            requests: &list.ranges(),
            forbidden: &[],
            slack: SlackKind::None,
            ram: &[],
        })?;
        Ok(self.judged(traits, gbpages, list, coverage))
    }

    /// The same with tables that were read, in place of a plan.
    ///
    /// # Errors
    /// As [`Coverage::from_tables`].
    pub fn scene_of_tables(
        &self,
        traits: Traits,
        gbpages: bool,
        tables: &Tables,
    ) -> Result<Scene, TablesUnusable> {
        let list = self.requests(&traits);
        let config = traits.config(self.machine, gbpages);
        let coverage = Coverage::from_tables(tables, traits.policy.into(), config, &list.ranges())?;
        Ok(self.judged(traits, gbpages, list, coverage))
    }

    /// The same with any map.
    #[must_use]
    pub fn scene_of_map(&self, traits: Traits, gbpages: bool, map: Coverage) -> Scene {
        let list = requests(self.machine, self.layout, &traits, self.kind);
        self.judged(traits, gbpages, list, map)
    }

    fn judged(
        &self,
        traits: Traits,
        gbpages: bool,
        list: RequestList,
        coverage: Coverage,
    ) -> Scene {
        let fated = |(need, ways): (&Need, _)| NeedFate {
            need: need.clone(),
            ways,
            fate: fate_in(need, &coverage, &traits),
        };
        let needs = gathered(self.needs).into_iter().map(fated).collect();
        let exposures = exposures(&coverage, self.hazards);
        Scene {
            traits,
            gbpages,
            list,
            coverage,
            needs,
            exposures,
            run: Vec::new(),
            labels: Vec::new(),
        }
        .labelled()
    }

    /// The requests that the guarded map is planned for: the producer's, and every need
    /// whose place is known; and the ranges it must not touch: every hazard, but for pages that a
    /// request touches.
    #[must_use]
    pub fn guarded_input(&self, list: &RequestList) -> (Vec<PhysRange>, Vec<PhysRange>) {
        let mut wanted = list.ranges();
        wanted.extend(self.needs.iter().filter_map(|need| match need.place {
            Place::Known(range) => Some(range),
            Place::Within { .. } | Place::Unknown => None,
        }));
        let forbidden = forbidden(self.hazards, &wanted);
        (wanted, forbidden)
    }
}

/// The hazards as ranges that `guarded` can obey: without the pages that requests touch.
/// What a request asks for is not over-reach; where that is a hazard, an exposure says so.
#[must_use]
pub fn forbidden(hazards: &[Hazard], requests: &[PhysRange]) -> Vec<PhysRange> {
    let all = ranges::normalise(hazards.iter().map(|hazard| hazard.range).collect());
    let pages = requests.iter().map(|range| range.round_out(identmap::PageSize::Size4K));
    ranges::subtract(&all, &ranges::normalise(pages.collect()))
}

/// Whether the producer requests this by name, so that it is mapped wherever it lies
/// (`init_pgtable()`: every segment, the EFI system table, the configuration table).
fn asks_by_name(need: &Need, traits: &Traits) -> bool {
    use identmap_linux::needs::{
        EFI_CONFIG_TABLE, EFI_SYSTEM_TABLE, OLD_EFI, RELOCATE_KERNEL, SEGMENTS,
    };
    let rule = need.rule.id;
    let system_table = need.what == "EFI system table";
    // Memory that the running kernel allocates is in its direct map.
    rule == SEGMENTS.id
        || rule == RELOCATE_KERNEL.id
        || rule == EFI_SYSTEM_TABLE.id && traits.firmware_tables
        || rule == EFI_CONFIG_TABLE.id && traits.config_table
        || rule == OLD_EFI.id && system_table && traits.firmware_tables
        || rule == OLD_EFI.id && !system_table && traits.config_table
}

/// The fate of a need under a map that a producer with these traits makes.
#[must_use]
pub fn fate_in(need: &Need, coverage: &Coverage, traits: &Traits) -> Fate {
    fate(need, coverage, asks_by_name(need, traits))
}

fn fate(need: &Need, coverage: &Coverage, by_name: bool) -> Fate {
    match &need.place {
        Place::Known(range) => {
            let gaps = coverage.gaps(&[*range]);
            if !gaps.is_empty() {
                return Fate::Missing(gaps);
            }
            let lucky = coverage.luck(&[*range]);
            if lucky.is_empty() { Fate::Requested } else { Fate::Lucky(lucky) }
        }
        Place::Within { .. } | Place::Unknown if by_name => Fate::Requested,
        Place::Within { ranges, basis, .. } => {
            let gaps = coverage.gaps(ranges);
            if gaps.is_empty() {
                let lucky = coverage.luck(ranges);
                // Without a basis the ranges are no supposition: it cannot lie elsewhere.
                return match (basis, lucky.is_empty()) {
                    (None, true) => Fate::Requested,
                    (None, false) => Fate::Lucky(lucky),
                    (Some(_), _) => Fate::MappedIfThere { lucky },
                };
            }
            Fate::MissingIfIn(gaps)
        }
        Place::Unknown => Fate::PlaceUnknown,
    }
}

/// The hazards that a map reaches. What was requested and what was reached over are told apart.
#[must_use]
pub fn exposures(coverage: &Coverage, hazards: &[Hazard]) -> Vec<Exposure> {
    let over_reach = coverage.over_reach();
    let mut out = Vec::new();
    for hazard in hazards {
        for (mapped, requested) in [
            (ranges::intersect(&over_reach, &[hazard.range]), false),
            (ranges::intersect(&coverage.requested, &[hazard.range]), true),
        ] {
            if !mapped.is_empty() {
                out.push(Exposure { hazard: *hazard, mapped, requested });
            }
        }
    }
    out
}

impl Exposure {
    /// Whether this alone makes a jump unsafe.
    #[must_use]
    pub fn is_grave(&self) -> bool {
        self.hazard.rule.severity > HazardSeverity::Caution
    }

    /// Where it begins.
    #[must_use]
    pub fn start(&self) -> Option<PhysAddr> {
        self.mapped.first().map(|range| range.start())
    }
}
