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
    // What Linux sets in its first entry is not in ours.
    let of_map = |id: &str| {
        ["gap", "luck", "exposure", "gbpages-unknown", "tables", "level-change"].contains(&id)
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageTables, PolicyKind};
    use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
    use identmap_machine::{parse, sample};

    /// The lab has seen it: docs/kexec-lab.md, 6.12-5level-to-5.10 with `identmap load`.
    #[test]
    fn a_flag_of_linuxs_is_no_fault_of_our_map() {
        let sample = sample("laptop-2024").unwrap();
        let mut machine = parse::machine(sample.name, sample.bytes).unwrap();
        (machine.cpu.sev, machine.cpu.la57_active) = (Some(false), Some(true));
        let version = |release| KernelVersion::parse(release, None).ok();
        let question = Question {
            machine: &machine,
            producer: Producer::of(version("6.12.30")),
            consumer: Consumer { version: version("5.10.200"), ..Consumer::default() },
            kind: Kind::Kexec,
            tables: ImageTables::NotRead(String::new()),
            entries: &[],
            seen: None,
        };
        let theirs = check(&question);
        let is_change = |finding: &Finding| finding.id == "level-change";
        assert!(theirs.findings.iter().any(is_change));
        let guarded = theirs.policies.iter().find(|row| row.policy == PolicyKind::Guarded);
        let map = &guarded.unwrap().map.as_ref().unwrap().coverage;
        assert!(!check_own(&question, map).iter().any(is_change));
    }
}
