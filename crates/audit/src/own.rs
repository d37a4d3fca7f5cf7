//! The go/no-go for a map of our own.

use identmap_linux::{Traits, gbpages, needs};
use identmap_machine::{Layout, hazards};

use crate::{Coverage, Finding, Question, Stage, check, findings};

/// What there is to say of a jump under `map` in place of the producer's: worst first.
///
/// What the consumer needs is held against `map`; so are the hazards. The producer's own map is in force
/// from its `mov %cr3` to the purgatory's, which nothing can help: what it exposes counts too.
/// The machine's segments have to be those of the image.
#[must_use]
pub fn check_own(question: &Question<'_>, map: &Coverage) -> Vec<Finding> {
    let theirs = check(question);
    let of_map = |id: &str| ["gap", "luck", "exposure", "gbpages-unknown", "tables"].contains(&id);
    let mut found: Vec<Finding> = theirs
        .findings
        .into_iter()
        .filter(|finding| finding.id == "exposure" || !of_map(finding.id))
        .collect();
    let layout = Layout::of(question.machine);
    let needs = needs::needs(question.machine, layout.as_ref(), &question.consumer, question.kind);
    let hazards = hazards(question.machine);
    let stage = Stage {
        machine: question.machine,
        layout: layout.as_ref(),
        needs: &needs,
        hazards: &hazards,
        kind: question.kind,
        entries: question.entries,
    };
    if let Some(&traits) = question.producer.traits().candidates().first() {
        // Nothing is asked for by name alone: what has no known place is not in this map.
        let traits = Traits { firmware_tables: false, config_table: false, ..traits };
        let large = gbpages(question.machine).candidates().contains(&true);
        let scene = stage.scene_of_map(traits, large, map.clone());
        found.extend(findings::of_scene(&scene));
    }
    found.dedup();
    found.sort_by(|a, b| {
        let rank = |f: &Finding| (f.verdict(), f.severity, f.confidence);
        rank(b).cmp(&rank(a)).then(a.range.cmp(&b.range))
    });
    found
}
