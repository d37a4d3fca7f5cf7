//! The hand-over as a time line: who runs, under which map, and what it reads there.

use identmap_audit::{Audit, Fate, NeedFate, Scene};
use identmap_linux::Place;
use identmap_linux::needs::SEGMENTS;

use super::table::{self, Cell, Head, plain};
use super::{Markup, section};
use crate::check::RunRow;

pub(super) fn write(out: &mut Markup, audit: &Audit, runs: &[RunRow], assumptions: &[String]) {
    section(out, "hand-over", "The hand-over");
    out.open("ol", &[("class", "line")]);
    stage(
        out,
        "quiet",
        "Producer: the new CR3",
        "relocate_kernel() loads the identity map: from here on an address that is not in it means a page fault, \
         and without a handler a triple fault, which resets the machine.",
        &[],
    );
    let image = texts(audit, |fate| fate.need.rule.id == SEGMENTS.id);
    stage(
        out,
        image.worst,
        "Producer: copying",
        "relocate_kernel() copies the segments of the image to their places, then jumps to purgatory.",
        &image.lines,
    );
    stage(
        out,
        image.worst,
        "Purgatory",
        "Checks the digests of the segments under the same map, then jumps to the new kernel.",
        &[],
    );
    let reads = texts(audit, |fate| fate.need.rule.id != SEGMENTS.id);
    stage(
        out,
        reads.worst,
        "Consumer: startup_64",
        "Runs under the producer's map until it has its own. What it reads outside of its image:",
        &reads.lines,
    );
    let mut lost = image.worst == "bad" || reads.worst == "bad";
    for run in runs {
        let class = match run.outcome {
            "reached" => "good",
            "fault" | "halted" => "bad",
            _ => "doubt",
        };
        let head =
            if class == "bad" { "Run in an emulator: it ends here" } else { "Run in an emulator" };
        let what =
            format!("{}, {} instructions; {}.", run.producer, run.instructions, run.sentence);
        let touched = run.touched.iter().map(|touched| {
            let range = crate::map::range_text(&touched.range);
            ("quiet", format!("touched {range}, {}", touched.what))
        });
        stage(out, class, head, &what, &touched.collect::<Vec<_>>());
        lost |= class == "bad";
    }
    let end = if lost {
        "Not reached."
    } else {
        "The window is closed: what is not mapped is mapped on demand by its page-fault handler."
    };
    stage(out, "quiet", "Consumer: its own page tables", end, &[]);
    out.close();
    for assumption in assumptions {
        out.leaf("p", &[("class", "note")], &format!("Supposed: {assumption}."));
    }
    needs(out, audit);
    out.close();
}

/// What is said of a stage: a line for each need that it has, and the tone of the worst.
struct Said {
    worst: &'static str,
    lines: Vec<(&'static str, String)>,
}

fn texts(audit: &Audit, at: impl Fn(&NeedFate) -> bool) -> Said {
    let mut said = Said { worst: "good", lines: Vec::new() };
    let mut seen: Vec<String> = Vec::new();
    for scene in &audit.scenes {
        for fate in scene.needs.iter().filter(|fate| at(fate)) {
            let (class, word) = word(fate);
            let text = format!("{}: {word}", fate.need.what);
            if class == "bad" || class == "doubt" && said.worst == "good" {
                said.worst = class;
            }
            if class != "good" && !seen.contains(&text) {
                seen.push(text.clone());
                let under = if audit.scenes.len() > 1 { of_scene(scene) } else { String::new() };
                said.lines.push((class, format!("{text}{under}")));
            }
        }
    }
    if said.lines.is_empty() {
        let any = audit.scenes.iter().flat_map(|scene| &scene.needs).any(at);
        let text = if any { "all of it is mapped by request" } else { "nothing is known to be" };
        said.lines.push(("good", text.to_owned()));
    }
    said
}

fn of_scene(scene: &Scene) -> String {
    scene.labels.first().map(|label| format!(" (producer {label})")).unwrap_or_default()
}

fn word(fate: &NeedFate) -> (&'static str, &'static str) {
    match (&fate.fate, fate.is_certain()) {
        (Fate::Requested, _) => ("good", "mapped by request"),
        (Fate::Lucky(_), _) => ("doubt", "mapped by luck"),
        (Fate::Missing(_), true) => ("bad", "not mapped, the jump ends here"),
        (Fate::Missing(_), false) => ("doubt", "not mapped, the jump ends here if it is read"),
        (Fate::MissingIfIn(_), _) => ("doubt", "may lie where nothing is mapped"),
        (Fate::MappedIfThere { lucky }, _) if lucky.is_empty() => {
            ("doubt", "mapped, if it lies where it is supposed to")
        }
        (Fate::MappedIfThere { .. }, _) => ("doubt", "mapped by luck, if it lies there"),
        (Fate::PlaceUnknown, _) => ("doubt", "cannot be told: its place is not known"),
    }
}

fn stage(
    out: &mut Markup,
    class: &'static str,
    who: &str,
    what: &str,
    lines: &[(&'static str, String)],
) {
    out.open("li", &[("class", class)]);
    out.leaf("h3", &[], who);
    out.leaf("p", &[], what);
    if !lines.is_empty() {
        out.open("ul", &[]);
        for (class, line) in lines {
            out.leaf("li", &[("class", class)], line);
        }
        out.close();
    }
    out.close();
}

/// Every need, and how it fares under each map.
fn needs(out: &mut Markup, audit: &Audit) {
    let Some(first) = audit.scenes.first() else { return };
    let rows: Vec<Vec<Cell>> = first
        .needs
        .iter()
        .map(|fate| {
            let mut row = vec![plain(fate.need.what.clone()), place(&fate.need.place)];
            row.extend(audit.scenes.iter().map(|scene| {
                // The needs do not depend on the map.
                let same = scene.needs.iter().find(|other| other.need == fate.need);
                let (class, word) = same.map_or(("doubt", "?"), word);
                (word.to_owned(), Some(class))
            }));
            row
        })
        .collect();
    let names: Vec<String> = match audit.scenes.len() {
        1 => vec!["Outcome".to_owned()],
        count => (0..count).map(map_name).collect(),
    };
    let mut heads = vec![Head::Text("Need"), Head::Address("Where")];
    heads.extend(names.iter().map(|name| Head::Text(name)));
    table::write(out, "What is read in the window", &heads, &rows);
    if audit.scenes.len() > 1 {
        for (index, scene) in audit.scenes.iter().enumerate() {
            out.leaf("p", &[("class", "note")], &map_title(index, scene));
        }
    }
    let rows: Vec<Vec<Cell>> = first
        .needs
        .iter()
        .map(|fate| {
            let need = &fate.need;
            vec![plain(need.what.clone()), plain(ways(fate)), plain(need.rule.when)]
        })
        .collect();
    out.open("details", &[]);
    out.leaf("summary", &[], "When each is read, and by which code");
    let heads = [Head::Text("Need"), Head::Text("Read if"), Head::Text("By which code")];
    table::write(out, "When and by whom", &heads, &rows);
    out.close();
}

/// Its letter in the pictures, and the producers that make it.
pub(super) fn map_title(index: usize, scene: &Scene) -> String {
    format!("{}: {}", map_name(index), scene.labels.join("; or "))
}

/// As the pictures call it.
fn map_name(index: usize) -> String {
    let letter = u32::try_from(index).ok().and_then(|i| char::from_u32('A' as u32 + i.min(25)));
    format!("Map {}", letter.unwrap_or('Z'))
}

fn place(place: &Place) -> Cell {
    match place {
        Place::Known(range) => table::range(*range),
        Place::Within { ranges, .. } => match ranges[..] {
            [range] => {
                let (cell, tone) = table::range(range);
                (format!("in {cell}"), tone)
            }
            _ => plain(format!("in {} ranges", ranges.len())),
        },
        Place::Unknown => plain("not known"),
    }
}

fn ways(fate: &NeedFate) -> String {
    if fate.is_certain() {
        return "always".to_owned();
    }
    let way = |conditions: &Vec<identmap_linux::Condition>| {
        conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    };
    fate.ways.iter().map(way).collect::<Vec<_>>().join("; or ")
}
