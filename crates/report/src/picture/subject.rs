//! Which lanes a machine, its maps and an audit make.

use identmap::PhysRange;
use identmap_audit::{Audit, Coverage, Fate, NeedFate, Scene};
use identmap_linux::{Need, Place, RequestSource};
use identmap_machine::{Hazard, Layout, Severity, ranges};

use super::{Band, Group, Lane, Look, Picture};

/// Maps that are drawn; of more, the text and the tables speak.
const MOST_SCENES: usize = 4;

impl Picture {
    /// A planned map, with the machine's memory where it is known.
    #[must_use]
    pub fn of_map(
        coverage: &Coverage,
        forbidden: &[PhysRange],
        layout: Option<&Layout>,
    ) -> Picture {
        let mut machine = vec![memory(layout)];
        machine.push(Lane {
            background: true,
            ..lane("forbidden", plain(forbidden, Look::Hazard, "forbidden"))
        });
        let exposed = ranges::intersect(&coverage.mapped, forbidden);
        let mut map = map_lanes(coverage, plain(&coverage.requested, Look::Request, ""));
        map.push(Lane {
            always: false,
            ..outcome(plain(&exposed, Look::Exposure, "forbidden, and mapped"))
        });
        machine.retain(|lane| !lane.bands.is_empty());
        map.retain(|lane| lane.always || !lane.bands.is_empty());
        let title = coverage.policy.name().to_owned();
        let groups = [(String::new(), machine), (title, map)];
        Picture {
            groups: groups
                .into_iter()
                .filter(|(_, lanes)| !lanes.is_empty())
                .map(|(title, lanes)| Group { title, letter: None, lanes })
                .collect(),
        }
    }

    /// Everything that an audit rests on.
    #[must_use]
    pub fn of_audit(audit: &Audit) -> Picture {
        let machine = vec![
            memory(audit.layout.as_ref()),
            lane("needs", audit.needs.iter().flat_map(need_bands).collect()),
            lane("hazards", audit.hazards.iter().map(hazard_band).collect()),
        ];
        let mut groups = vec![Group { title: String::new(), letter: None, lanes: machine }];
        for (scene, letter) in audit.scenes.iter().take(MOST_SCENES).zip('A'..) {
            let title = scene.labels.join("; or ");
            groups.push(Group { title, letter: Some(letter), lanes: scene_lanes(scene) });
        }
        for group in &mut groups {
            group.lanes.retain(|lane| lane.always || !lane.bands.is_empty());
        }
        groups.retain(|group| !group.lanes.is_empty());
        Picture { groups }
    }
}

fn scene_lanes(scene: &Scene) -> Vec<Lane> {
    let requests = scene.list.requests.iter().map(|request| {
        let label = match request.source {
            RequestSource::DirectMap => String::new(),
            RequestSource::Segment(number) => format!("segment {number}"),
            RequestSource::EfiSystemTable => "EFI system table".to_owned(),
            RequestSource::EfiConfigTable => "EFI configuration table".to_owned(),
            RequestSource::AcpiTables => "ACPI tables".to_owned(),
            RequestSource::AcpiNvs => "ACPI NVS".to_owned(),
            RequestSource::Synthetic => "added by hand".to_owned(),
        };
        Band { range: request.range, look: Look::Request, label }
    });
    let mut lanes = map_lanes(&scene.coverage, requests.collect());
    let mut bands: Vec<Band> = scene.needs.iter().flat_map(fate_bands).collect();
    for exposure in scene.exposures.iter().filter(|exposure| !exposure.requested) {
        let look = if exposure.is_grave() { Look::Exposure } else { Look::Unwise };
        bands.extend(plain(&exposure.mapped, look, exposure.hazard.rule.title));
    }
    lanes.push(outcome(bands));
    lanes
}

fn map_lanes(coverage: &Coverage, requests: Vec<Band>) -> Vec<Lane> {
    let leaves = coverage.runs.iter().map(|run| Band {
        range: run.range(),
        look: Look::of_leaf(run.size()),
        label: format!("{} × {}", run.count(), run.size().name()),
    });
    vec![
        lane("requests", requests),
        Lane { always: true, ..lane("leaves", leaves.collect()) },
        lane("over-reach", plain(&coverage.over_reach(), Look::OverReach, "")),
    ]
}

fn memory(layout: Option<&Layout>) -> Lane {
    let regions = layout.map(Layout::regions).unwrap_or_default();
    let band = |region: &identmap_machine::Region| Band {
        range: region.range,
        look: Look::of_memory(region.kind),
        label: region.kind.to_string(),
    };
    lane("memory", regions.iter().map(band).collect())
}

fn need_bands(need: &Need) -> Vec<Band> {
    match &need.place {
        Place::Known(range) => plain(&[*range], Look::Need, &need.what),
        Place::Within { ranges, .. } => plain(ranges, Look::NeedMaybe, &need.what),
        Place::Unknown => Vec::new(),
    }
}

fn hazard_band(hazard: &Hazard) -> Band {
    let grave = hazard.rule.severity > Severity::Caution;
    let look = if grave { Look::Hazard } else { Look::Caution };
    Band { range: hazard.range, look, label: hazard.rule.title.to_owned() }
}

fn fate_bands(fate: &NeedFate) -> Vec<Band> {
    let what = &fate.need.what;
    match &fate.fate {
        Fate::Missing(ranges) if fate.is_certain() => {
            plain(ranges, Look::Gap, &format!("gap: {what}"))
        }
        Fate::Missing(ranges) => plain(ranges, Look::GapIf, &format!("gap, if read: {what}")),
        Fate::MissingIfIn(ranges) => plain(ranges, Look::GapIf, &format!("gap, if here: {what}")),
        Fate::Lucky(ranges) => plain(ranges, Look::Luck, &format!("luck: {what}")),
        Fate::MappedIfThere { lucky } => {
            plain(lucky, Look::Luck, &format!("luck, if here: {what}"))
        }
        Fate::Requested | Fate::PlaceUnknown => Vec::new(),
    }
}

fn plain(ranges: &[PhysRange], look: Look, label: &str) -> Vec<Band> {
    ranges.iter().map(|&range| Band { range, look, label: label.to_owned() }).collect()
}

/// Sorted, each band once.
fn lane(name: &'static str, mut bands: Vec<Band>) -> Lane {
    bands.sort_by(|a, b| {
        let key = |band: &Band| (band.range.start(), band.look, band.range.end());
        key(a).cmp(&key(b)).then_with(|| a.label.cmp(&b.label))
    });
    bands.dedup();
    Lane { name, bands, always: false, background: false }
}

fn outcome(bands: Vec<Band>) -> Lane {
    Lane { always: true, ..lane("outcome", bands) }
}
