//! The rules as an oracle: what they say is missing under a map with some entries added.

use identmap::PhysRange;
use identmap_linux::Traits;
use identmap_machine::ranges;

use crate::{Fate, Finding, Oracle, Scene, Stage, Trial, Verdict, exposures, findings};

/// One producer, judged by rules.
#[derive(Clone, Copy, Debug)]
pub struct ByRule<'a> {
    /// The machine, the needs by rule, the hazards; and the entries that are given already.
    pub stage: Stage<'a>,
    /// What the producer does.
    pub traits: Traits,
    /// 1 GiB leaves in use.
    pub gbpages: bool,
}

impl ByRule<'_> {
    fn scene(&self, more: &[PhysRange]) -> Result<Scene, String> {
        let entries = [self.stage.entries, more].concat();
        let stage = Stage { entries: &entries, ..self.stage };
        stage.scene(self.traits, self.gbpages).map_err(|error| error.to_string())
    }
}

impl Oracle for ByRule<'_> {
    fn trial(&mut self, entries: &[PhysRange]) -> Trial {
        let scene = match self.scene(entries) {
            Ok(scene) => scene,
            Err(why) => return Trial::Unknown(why),
        };
        let missing = scene.needs.iter().find_map(|need| match &need.fate {
            Fate::Missing(parts) if need.is_certain() => parts.first(),
            _ => None,
        });
        if let Some(part) = missing {
            return Trial::Missing(part.start());
        }
        let doubt = |finding: &Finding| {
            ["gap", "luck"].contains(&finding.id) && finding.verdict() == Verdict::Unknown
        };
        match findings::of_scene(&scene).into_iter().find(doubt) {
            None => Trial::Safe,
            Some(finding) => {
                let supply = finding.remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
                Trial::Unknown(format!("{}: {}{supply}", finding.what, finding.why))
            }
        }
    }

    fn conflict(&mut self, entries: &[PhysRange]) -> Option<String> {
        let reached = |more: &[PhysRange]| -> Vec<(&'static str, PhysRange)> {
            let scene = self.scene(more).ok();
            let all = scene.map_or_else(Vec::new, |s| exposures(&s.coverage, self.stage.hazards));
            let grave = all.into_iter().filter(crate::Exposure::is_grave);
            grave
                .flat_map(|e| e.mapped.into_iter().map(move |r| (e.hazard.rule.title, r)))
                .collect()
        };
        newly_reached(&reached(&[]), &reached(entries))
    }
}

/// The first forbidden range that one map reaches and another does not, by name.
#[must_use]
pub fn newly_reached(
    before: &[(&'static str, PhysRange)],
    after: &[(&'static str, PhysRange)],
) -> Option<String> {
    let before = ranges::normalise(before.iter().map(|(_, range)| *range).collect());
    after.iter().find_map(|(title, range)| {
        let new = ranges::subtract(&[*range], &before);
        new.first().map(|range| format!("{title} at {range}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ended, diagnose, generalise};
    use identmap::PhysAddr;
    use identmap_linux::needs::needs;
    use identmap_linux::{Class, Consumer, KernelVersion, Kind, Producer};
    use identmap_machine::{ConfigTable, Layout, Machine, hazards, parse, sample};

    fn machine(sev: bool) -> Machine {
        let sample = sample("laptop-2024").unwrap();
        let mut machine = parse::machine(sample.name, sample.bytes).unwrap();
        machine.efi.booted = Some(true);
        machine.efi.system_table = PhysAddr::new(0xcb66_1018);
        let address = PhysAddr::new(0xc7a0_1018).unwrap();
        machine.efi.config_table = Some(ConfigTable { address, entries: Some(15) });
        machine.cpu.sev = Some(sev);
        machine.cpu.la57 = Some(false);
        machine
    }

    /// What rules say of every class agrees with the story, and one entry mends it.
    #[test]
    fn by_rules_one_page_is_missing_where_the_story_says_so() {
        let traits = |text: &str| {
            let version = KernelVersion::parse(text, None).unwrap();
            *Producer::of(Some(version)).traits().certain().unwrap()
        };
        let mut met = [0, 0];
        for sev in [true, false] {
            let machine = machine(sev);
            let layout = Layout::of(&machine).unwrap();
            let hazards = hazards(&machine);
            for release in ["6.1.76", "6.1.79", "6.1.150", "6.12.30"] {
                for gbpages in [true, false] {
                    for next in ["5.10.218", "6.12.107"] {
                        let version = KernelVersion::parse(next, None).ok();
                        let consumer = Consumer { version, ..Consumer::default() };
                        let needs = needs(&machine, Some(&layout), &consumer, Kind::Kexec);
                        let traits = traits(release);
                        let stage = Stage {
                            machine: &machine,
                            layout: Some(&layout),
                            needs: &needs,
                            hazards: &hazards,
                            kind: Kind::Kexec,
                            entries: &[],
                        };
                        let mut oracle = ByRule { stage, traits, gbpages };
                        let found = diagnose(&mut oracle);
                        let by_luck = traits.class() == Class::A && gbpages;
                        let asked = matches!(traits.class(), Class::C | Class::D);
                        let missing = sev && next != "5.10.218" && !asked && !by_luck;
                        let story = format!("{release} {gbpages} {next} {sev}: {found:?}");
                        assert_eq!(found.ended, Ended::Safe, "{story}");
                        assert!(found.is_proved(), "{story}");
                        let page = PhysRange::from_len(0xc7a0_1000, 4096).unwrap();
                        let expected = if missing { vec![page] } else { Vec::new() };
                        assert_eq!(found.ranges(), expected, "{story}");
                        let general = generalise(&mut oracle, &machine, Some(&layout), &found);
                        let ids: Vec<&str> = general.rules.iter().map(|rule| rule.id).collect();
                        let expected: &[&str] = if missing { &["efi-config-table"] } else { &[] };
                        assert_eq!(ids, expected, "{story}");
                        assert_eq!(general.trial, Trial::Safe, "{story}");
                        met[usize::from(missing)] += 1;
                    }
                }
            }
        }
        assert_eq!(met, [29, 3]);
    }

    #[test]
    fn what_a_map_reaches_is_new_only_where_it_was_not_reached_before() {
        let r = |start, len| PhysRange::from_len(start, len).unwrap();
        let before = [("old", r(0x1000, 0x1000))];
        assert_eq!(newly_reached(&before, &before), None);
        let after = [("old", r(0x1000, 0x1000)), ("new", r(0x1800, 0x1000))];
        let text = newly_reached(&before, &after).unwrap();
        assert!(text.starts_with("new at 0x0000000000002000-"), "{text}");
    }
}
