//! What a run of the consumer's first instructions showed, in place of needs by rule.

use identmap::{PhysRange, PlanError};
use identmap_linux::{KernelVersion, Need, Producer, Traits};
use identmap_machine::human_size;

use crate::general::{class_text, does};
use crate::{Finding, PolicyKind, Scene, Stage, commit, general, releases_text, requested_by};

/// One run, under the map of one producer that is possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What the producer does.
    pub traits: Traits,
    /// 1 GiB leaves in use.
    pub gbpages: bool,
    /// What was touched outside of the image's segments, with what a fault was about; each at a known place.
    pub needs: Vec<Need>,
    /// How it ended, if not well.
    pub findings: Vec<Finding>,
}

impl Seen {
    /// The needs of all runs, each once.
    pub(crate) fn needs_of(all: &[Seen]) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        for need in all.iter().flat_map(|seen| &seen.needs) {
            if !needs.contains(need) {
                needs.push(need.clone());
            }
        }
        needs
    }

    /// The map of one producer, held against what its own run has seen.
    pub(crate) fn scene_of(
        all: &[Seen],
        stage: &Stage<'_>,
        traits: Traits,
        gbpages: bool,
    ) -> Result<Scene, PlanError> {
        let own = all.iter().find(|seen| (seen.traits, seen.gbpages) == (traits, gbpages));
        let needs = own.map_or(stage.needs, |seen| &seen.needs);
        let mut scene = Stage { needs, ..*stage }.scene(traits, gbpages)?;
        scene.run = match own {
            Some(seen) => seen.findings.clone(),
            None => vec![not_run()],
        };
        Ok(scene)
    }
}

fn not_run() -> Finding {
    use crate::{Confidence, Severity};
    let why = "what it touches under another map says nothing certain of this one";
    let what = "the kernel was not run under this producer's map";
    Finding::new("preflight-unknown", Severity::Warning, Confidence::Unknown, what, why)
}

/// Why something is not in a producer's map: what would have to request it and does not, and how far
/// the leaves of what is requested reach. Sentences without a full stop, separated by semicolons.
#[must_use]
pub fn why_not_mapped(
    stage: &Stage<'_>,
    scene: &Scene,
    producer: &Producer,
    missing: PhysRange,
) -> String {
    let mut parts = Vec::new();
    let own = producer.version().and_then(KernelVersion::exact);
    let class = class_text(scene.traits.class());
    let rule = general(stage.machine, stage.layout, missing);
    match rule.as_ref().and_then(|rule| rule.linux) {
        Some(behaviour) => {
            let by = requested_by(stage.machine, stage.layout, stage.kind, &[missing]);
            let commit = commit(behaviour, &by, own)
                .map_or(String::new(), |commit| format!(" (commit {commit})"));
            if does(&scene.traits, behaviour) == Some(true) {
                parts.push("this producer requests such tables, but not all of these bytes".into());
            } else if by.is_empty() {
                parts.push(format!("this producer is {class}"));
            } else {
                let releases = releases_text(&by, own);
                let text =
                    format!("Linux requests it in {releases}{commit}; this producer is {class}");
                parts.push(text);
            }
        }
        None => parts.push(format!("no Linux requests it by itself; this producer is {class}")),
    }
    parts.extend(reach(stage, scene, missing));
    parts.join("; ")
}

/// How far the nearest leaf below reaches.
fn reach(stage: &Stage<'_>, scene: &Scene, missing: PhysRange) -> Option<String> {
    let (below, _) = scene.coverage.neighbours(missing.start());
    let Some(below) = below else { return Some("nothing below it is mapped".to_owned()) };
    let requested = scene.coverage.requested.iter().filter(|range| range.end() <= missing.start());
    let request = requested.max_by_key(|range| range.end())?;
    let what = stage
        .layout
        .and_then(|layout| layout.at(request.last()))
        .map_or("what is requested".to_owned(), |region| format!("{} memory", region.kind));
    let far = |end: PhysRange| human_size(missing.start().get() - end.end().get());
    let leaf = scene.coverage.at(below.last()).map_or("its", |run| run.size().name());
    let policy = PolicyKind::from(scene.traits.policy).name();
    Some(format!(
        "{policy} leaves it out: requested {what} ends {} below, and the {leaf} leaf over that end \
         reaches up to {}, {} below",
        far(*request),
        below.last(),
        far(below),
    ))
}
