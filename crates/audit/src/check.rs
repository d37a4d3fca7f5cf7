//! The go/no-go: every producer that this machine may be running, held against what the
//! next kernel needs and what must not be mapped.

use identmap::{PhysRange, PlanError, TableCount};
use identmap_linux::tables::Tables;
use identmap_linux::{Consumer, Kind, Known, Need, PolicyKind as LinuxPolicy, Producer, Traits};
use identmap_linux::{gbpages, needs};
use identmap_machine::{Hazard, Layout, Machine, MemType, hazards, ranges};

use crate::conflicts;
use crate::display;
use crate::encryption;
use crate::findings;
use crate::kdump;
use crate::scene::{exposures, fate_in};
use crate::{
    Confidence, Coverage, Fate, Finding, MapInput, PolicyKind, Scene, Seen, Severity, SlackKind,
    Stage, TablesUnusable, Verdict,
};

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel that is left.
    pub producer: Producer,
    /// The kernel that is entered.
    pub consumer: Consumer,
    /// `kexec -l` or `-p`.
    pub kind: Kind,
    /// The tables of the image that is loaded on the machine.
    pub tables: ImageTables<'a>,
    /// Synthetic entries: requested by the producer too, whatever it is.
    pub entries: &'a [PhysRange],
    /// What runs of the consumer's first instructions showed, one for each producer that is possible: instead
    /// of the needs by rule.
    pub seen: Option<&'a [Seen]>,
}

/// The tables of the image that is to be entered.
#[derive(Clone, Debug)]
pub enum ImageTables<'a> {
    /// They were read.
    Read(&'a Tables),
    /// They were not, so they are modelled; why, in a few words.
    NotRead(String),
}

/// What the audit rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TablesUsed {
    /// The image's own tables.
    Read {
        /// They are what a producer that is possible would make.
        as_modelled: bool,
    },
    /// The model; why, in a few words.
    Modelled(String),
}

/// The answer, with everything it rests on.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The verdict.
    pub verdict: Verdict,
    /// What it follows from, worst first.
    pub findings: Vec<Finding>,
    /// The machine's memory, where a map of it is known.
    pub layout: Option<Layout>,
    /// What the consumer touches.
    pub needs: Vec<Need>,
    /// What had better not be mapped.
    pub hazards: Vec<Hazard>,
    /// One for each producer that is possible.
    pub scenes: Vec<Scene>,
    /// Whether they show the image's own tables or modelled ones.
    pub tables: TablesUsed,
    /// What each policy would do here.
    pub policies: Vec<PolicyRow>,
}

/// What one policy would map on this machine.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    /// The policy.
    pub policy: PolicyKind,
    /// The map, or why there is none.
    pub map: Result<PolicyFigures, PlanError>,
}

/// The figures of one map.
#[derive(Clone, Debug)]
pub struct PolicyFigures {
    /// The map.
    pub coverage: Coverage,
    /// Tables, by level.
    pub tables: TableCount,
    /// Bytes of needs, at known places, that are not mapped.
    pub gap_bytes: u64,
    /// Bytes of needs, at known places, that are mapped by over-reach only.
    pub luck_bytes: u64,
    /// Bytes not mapped in which a need of unknown place may lie.
    pub gap_if_bytes: u64,
    /// Bytes mapped by over-reach that can halt the machine, fault or poison.
    pub exposure_bytes: u64,
    /// Bytes mapped by over-reach that the machine's map describes as anything but usable RAM.
    pub reserved_bytes: u64,
}

/// Judges.
#[must_use]
pub fn check(question: &Question<'_>) -> Audit {
    let machine = question.machine;
    let layout = Layout::of(machine);
    let needs = match question.seen {
        None => needs::needs(machine, layout.as_ref(), &question.consumer, question.kind),
        Some(all) => Seen::needs_of(all),
    };
    let hazards = hazards(machine);
    let stage = Stage {
        machine,
        layout: layout.as_ref(),
        needs: &needs,
        hazards: &hazards,
        kind: question.kind,
        entries: question.entries,
    };
    let mut found = findings::of_machine(machine, layout.as_ref());
    found.extend(findings::of_producer(&question.producer));
    let (consumer, kind) = (&question.consumer, question.kind);
    found.extend(encryption::of_machine(machine, &question.producer, consumer, kind));
    if kind == Kind::Kexec {
        found.extend(display::of_machine(machine));
    }
    // Where an image was run, its places were supposed.
    let segments = match question.seen {
        None => machine.segments.iter().map(|segment| segment.range).collect(),
        Some(_) => Vec::new(),
    };
    let around = (machine, layout.as_ref(), hazards.as_slice());
    found.extend(conflicts::of_image(around, &segments, consumer, kind));
    // A run has seen what the next kernel touches; and whether a change of levels goes well: there is one for each
    // number of levels that may be in use. That it takes no other command line is among what is supposed.
    if question.seen.is_none() {
        found.extend(findings::of_consumer(&question.consumer));
        found.extend(findings::of_level_change(machine, &question.producer, &question.consumer));
    }

    let mut scenes: Vec<Scene> = Vec::new();
    let gbpages = gbpages(machine);
    for &traits in question.producer.traits().candidates() {
        for &gb in gbpages.candidates() {
            let scene = match question.seen {
                None => stage.scene(traits, gb),
                Some(all) => Seen::scene_of(all, &stage, traits, gb),
            };
            match scene {
                Ok(scene) => match scenes.iter_mut().find(|known| known.maps_like(&scene)) {
                    Some(known) => known.also(&scene),
                    None => scenes.push(scene),
                },
                Err(error) => found.push(findings::of_plan_error(error)),
            }
        }
    }
    let tables = match &question.tables {
        ImageTables::NotRead(why) => TablesUsed::Modelled(why.clone()),
        ImageTables::Read(tables) => match real_scenes(&stage, &scenes, tables) {
            Ok((real, as_modelled)) => {
                scenes = real;
                TablesUsed::Read { as_modelled }
            }
            Err(why) => {
                found.extend(findings::of_unusable_tables(why));
                TablesUsed::Modelled(why.to_string())
            }
        },
    };
    found.extend(of_scenes(&scenes));
    if let (Known::Uncertain { why, .. }, true) = (&gbpages, differ(&scenes)) {
        let what = "whether 1 GiB pages are in use decides";
        let finding =
            Finding::new("gbpages-unknown", Severity::Info, Confidence::Unknown, what, why.clone());
        found.push(
            finding.remedy(
                "say --nogbpages, or give a log with \"Using GB pages for direct mapping\"",
            ),
        );
    }
    if question.kind == Kind::Kdump {
        let tables = scenes.iter().map(|scene| scene.coverage.tables.bytes());
        found.extend(kdump::of_machine(machine, layout.as_ref(), tables));
    }
    found.dedup();
    sort(&mut found);
    let policies = policy_rows(&stage, question, gbpages.candidates().contains(&true));
    Audit {
        verdict: Verdict::of(&found),
        findings: found,
        layout,
        needs,
        hazards,
        scenes,
        tables,
        policies,
    }
}

impl Audit {
    /// Takes up what was found elsewhere; the verdict follows.
    pub fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
        sort(&mut self.findings);
        self.verdict = Verdict::of(&self.findings);
    }
}

/// Worst first, then by place.
fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let rank = |f: &Finding| (f.verdict(), f.severity, f.confidence);
        rank(b).cmp(&rank(a)).then(a.range.cmp(&b.range))
    });
}

/// The modelled scenes with the image's own tables in place of plans. Producers that would have made
/// other tables are left out, if there is one that would have made these; whether there is.
fn real_scenes(
    stage: &Stage<'_>,
    modelled: &[Scene],
    tables: &Tables,
) -> Result<(Vec<Scene>, bool), TablesUnusable> {
    let mut real = Vec::new();
    for model in modelled {
        let mut scene = stage.scene_of_tables(model.traits, model.gbpages, tables)?;
        scene.labels.clone_from(&model.labels);
        real.push((model.coverage.runs == scene.coverage.runs, scene));
    }
    let as_modelled = real.iter().any(|(same, _)| *same);
    real.retain(|(same, _)| *same || !as_modelled);
    Ok((real.into_iter().map(|(_, scene)| scene).collect(), as_modelled))
}

/// The findings of every scene; those that do not hold under all of them say under which,
/// and decide nothing alone.
fn of_scenes(scenes: &[Scene]) -> Vec<Finding> {
    let mut merged: Vec<(Finding, usize)> = Vec::new();
    for scene in scenes {
        let mut own = findings::of_scene(scene);
        own.dedup();
        for mut finding in own {
            if let Some((known, count)) = merged.iter_mut().find(|(known, _)| same(known, &finding))
            {
                *count += 1;
                // Of several ways to the same gap none alone is it.
                known.known = known.known.filter(|id| finding.known == Some(id));
                let new = scene.labels.iter().filter(|label| !known.under.contains(label));
                let new: Vec<String> = new.cloned().collect();
                known.under.extend(new);
            } else {
                finding.under.clone_from(&scene.labels);
                merged.push((finding, 1));
            }
        }
    }
    let settle = |(mut finding, count): (Finding, usize)| {
        if count >= scenes.len() {
            finding.under.clear();
        } else if finding.verdict() == Verdict::Unsafe {
            finding.confidence = Confidence::Unknown;
        }
        finding
    };
    merged.into_iter().map(settle).collect()
}

fn same(a: &Finding, b: &Finding) -> bool {
    let key = |f: &Finding| (f.id, f.severity, f.confidence, f.range, f.what.clone());
    key(a) == key(b)
}

fn differ(scenes: &[Scene]) -> bool {
    let verdict = |gb| {
        let with = scenes.iter().filter(|s| s.gbpages == gb);
        with.map(|s| Verdict::of(&findings::of_scene(s))).max()
    };
    verdict(true) != verdict(false)
}

fn policy_rows(stage: &Stage<'_>, question: &Question<'_>, gbpages: bool) -> Vec<PolicyRow> {
    let candidates = question.producer.traits().candidates();
    let Some(&first) = candidates.first() else { return Vec::new() };
    let like = |policy: LinuxPolicy| {
        candidates
            .iter()
            .copied()
            .find(|t| t.policy == policy)
            .unwrap_or(Traits { policy, ..first })
    };
    PolicyKind::ALL
        .into_iter()
        .map(|policy| {
            let traits = match policy {
                PolicyKind::RoundOut | PolicyKind::ExactOnUv => like(LinuxPolicy::RoundOut),
                PolicyKind::Exact => like(LinuxPolicy::Exact),
                // Our own map asks for everything, and for all of it.
                PolicyKind::Guarded => Traits {
                    firmware_tables: true,
                    config_table: true,
                    acpi_end_minus_one: false,
                    ..like(LinuxPolicy::Exact)
                },
            };
            PolicyRow { policy, map: figures(stage, policy, traits, gbpages) }
        })
        .collect()
}

fn figures(
    stage: &Stage<'_>,
    policy: PolicyKind,
    traits: Traits,
    gbpages: bool,
) -> Result<PolicyFigures, PlanError> {
    let list = stage.requests(&traits);
    let (requests, forbidden) = if policy == PolicyKind::Guarded {
        stage.guarded_input(&list)
    } else {
        (list.ranges(), Vec::new())
    };
    let ram: Vec<_> =
        stage.layout.map_or_else(Vec::new, |layout| layout.of_kind(MemType::Usable).collect());
    let coverage = Coverage::plan(&MapInput {
        config: traits.config(stage.machine, gbpages),
        policy,
        uv: is_uv(stage.machine, stage.hazards),
        requests: &requests,
        forbidden: &forbidden,
        slack: SlackKind::Ram,
        ram: &ram,
    })?;
    let (mut gaps, mut lucky, mut gaps_if) = (Vec::new(), Vec::new(), Vec::new());
    for need in stage.needs {
        match fate_in(need, &coverage, &traits) {
            Fate::Missing(ranges) => gaps.extend(ranges),
            Fate::Lucky(ranges) => lucky.extend(ranges),
            Fate::MissingIfIn(ranges) => gaps_if.extend(ranges),
            Fate::Requested | Fate::MappedIfThere { .. } | Fate::PlaceUnknown => {}
        }
    }
    let total = |ranges| ranges::total(&ranges::normalise(ranges));
    let grave = exposures(&coverage, stage.hazards)
        .into_iter()
        .filter(|e| e.is_grave() && !e.requested)
        .flat_map(|e| e.mapped);
    let other: Vec<_> = stage.layout.map_or_else(Vec::new, |layout| {
        let regions = layout.regions().iter().filter(|r| r.kind != MemType::Usable);
        ranges::normalise(regions.map(|r| r.range).collect())
    });
    Ok(PolicyFigures {
        tables: coverage.tables,
        gap_bytes: total(gaps),
        luck_bytes: total(lucky),
        gap_if_bytes: total(gaps_if),
        exposure_bytes: total(grave.collect()),
        reserved_bytes: ranges::total(&ranges::intersect(&coverage.over_reach(), &other)),
        coverage,
    })
}

/// What `is_uv_system()` would say, as far as texts and hazard rules tell.
#[must_use]
pub fn is_uv(machine: &Machine, hazards: &[Hazard]) -> bool {
    match machine.uv {
        Some(uv) => uv == identmap_machine::Uv::Hubbed,
        None => hazards.iter().any(|hazard| hazard.rule.id == "uv-node-tail"),
    }
}
