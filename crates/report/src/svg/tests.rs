//! What is true of every picture of every machine: labels do not overlap, and contrast suffices.

use std::path::Path;

use identmap::PhysRange;
use identmap_audit::{Audit, ImageTables, Question, check};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::{parse, samples};

use super::layout::{Drawing, Label, Role, Sheet};
use super::palette::{PAGE, PAGE_PAIRS, Theme};
use crate::html;
use crate::picture::{Look, Picture, zooms};

fn audit(name: &str, bytes: &[u8]) -> Option<Audit> {
    let machine = parse::machine(name, bytes).ok()?;
    let version = KernelVersion::of(&machine).and_then(Result::ok);
    let tables = ImageTables::NotRead("a test".to_owned());
    let (producer, consumer, kind) = (Producer::of(version), Consumer::default(), Kind::Kexec);
    Some(check(&Question {
        machine: &machine,
        producer,
        consumer,
        kind,
        tables,
        entries: &[],
        seen: None,
    }))
}

/// Every sample and every machine of the corpus.
fn audits() -> Vec<(String, Audit)> {
    let mut all: Vec<(String, Audit)> = samples()
        .iter()
        .filter_map(|sample| Some((sample.name.to_owned(), audit(sample.name, sample.bytes)?)))
        .collect();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/machines");
    for file in std::fs::read_dir(dir).expect("the corpus") {
        let path = file.expect("a file").path();
        let name = path.display().to_string();
        let bytes = std::fs::read(&path).expect("a file");
        all.extend(audit(&name, &bytes).map(|audit| (name, audit)));
    }
    assert!(all.len() > 100, "{}", all.len());
    all
}

/// Every picture that a report of this audit holds.
fn drawings(audit: &Audit) -> Vec<(PhysRange, Drawing)> {
    let picture = Picture::of_audit(audit);
    let Some(extent) = picture.extent() else { return Vec::new() };
    let low = PhysRange::new(0, 1 << 32).unwrap();
    let (zooms, _) = zooms(&audit.findings, extent);
    let windows = [(extent, false), (low, false)];
    let windows = windows.into_iter().chain(zooms.iter().map(|zoom| (zoom.window, true)));
    windows
        .flat_map(|(window, linear)| {
            let shown = picture.within(window);
            [Sheet::WIDE, Sheet::NARROW].map(|sheet| {
                let scale = html::scale(&shown, window, sheet, linear);
                (window, Drawing::new(&shown, &scale, sheet))
            })
        })
        .collect()
}

#[test]
fn no_label_lies_over_another_or_outside_or_under_a_line() {
    let (mut labels, mut callouts) = (0, 0);
    for (name, audit) in audits() {
        for (window, drawing) in drawings(&audit) {
            for (index, label) in drawing.labels.iter().enumerate() {
                let at = label.at;
                assert!(
                    at.x + at.w <= drawing.width && at.y + at.h <= drawing.height,
                    "{name} {window}: {label:?} is outside"
                );
                for other in &drawing.labels[index + 1..] {
                    assert!(!at.overlaps(&other.at), "{name} {window}: {label:?} {other:?}");
                }
                for line in drawing.leaders.iter().chain(&drawing.guides) {
                    let crossed = line.x > at.x && line.x < at.x + at.w;
                    let crossed = crossed && line.from < at.y + at.h && at.y < line.to;
                    // Guides are drawn first, and texts in bands have a ground of their own.
                    let behind = matches!(label.role, Role::Inside(_));
                    assert!(!crossed || behind, "{name} {window}: {line:?} through {label:?}");
                }
                let inside = matches!(label.role, Role::Inside(_));
                let cut = inside && drawing.cuts.iter().any(|cut| cut.overlaps(&at));
                assert!(!cut, "{name} {window}: {label:?} in a cut");
                labels += 1;
                callouts += usize::from(matches!(label.role, Role::Callout(_)));
            }
        }
    }
    assert!(labels > 10_000 && callouts > 500, "{labels} {callouts}");
}

#[test]
fn a_gap_of_2_mib_is_seen_on_a_machine_of_4_tib() {
    use crate::picture::{Band, Group, Lane};
    let range = |start, end| PhysRange::new(start, end).unwrap();
    let band = |range, look| Band { range, look, label: "x".to_owned() };
    let lane = |name, bands| Lane { name, bands, always: true, background: false };
    let lanes = vec![
        lane("memory", vec![band(range(0, 1 << 42), Look::Usable)]),
        lane("outcome", vec![band(range(0xc7a0_0000, 0xc7c0_0000), Look::Gap)]),
    ];
    let picture = Picture::of_groups(vec![Group { title: String::new(), letter: None, lanes }]);
    for sheet in [Sheet::WIDE, Sheet::NARROW] {
        let extent = picture.extent().unwrap();
        let drawing = Drawing::new(&picture, &html::scale(&picture, extent, sheet, false), sheet);
        let gap = drawing.blocks.iter().find(|block| block.look == Look::Gap).unwrap();
        assert!(gap.at.w >= 400, "{gap:?}");
        let called = |label: &Label| label.role == Role::Callout(Look::Gap);
        assert!(drawing.labels.iter().any(called) && drawing.leaders.len() == 1);
    }
}

#[test]
fn what_matters_is_inside_every_window_that_is_for_it() {
    for (name, audit) in audits() {
        let picture = Picture::of_audit(&audit);
        let Some(extent) = picture.extent() else { continue };
        for zoom in zooms(&audit.findings, extent).0 {
            let shown = picture.within(zoom.window);
            let any = shown.groups().iter().flat_map(|group| &group.lanes);
            assert!(any.map(|lane| lane.bands.len()).sum::<usize>() > 0, "{name} {}", zoom.window);
        }
    }
}

/// WCAG 2.2, "relative luminance".
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("a colour");
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_can_be_read_on_its_ground_in_both_themes() {
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 0.01);
    let colour = |name: &str, theme| {
        let (_, light, dark) = PAGE.iter().find(|(known, ..)| *known == name).expect("a colour");
        if theme == Theme::Light { *light } else { *dark }
    };
    for theme in [Theme::Light, Theme::Dark] {
        for (text, ground) in PAGE_PAIRS {
            let found = contrast(colour(text, theme), colour(ground, theme));
            assert!(found >= 4.5, "{text} on {ground}, {theme:?}: {found:.2}");
        }
        for look in Look::ALL {
            let ink = look.ink(theme);
            let found = contrast(ink.text, ink.fill);
            assert!(found >= 4.5, "{look:?}, {theme:?}: {found:.2}");
        }
        // What a band is drawn around with tells it from the lane.
        let found = contrast(colour("edge", theme), colour("page", theme));
        assert!(found >= 3.0, "edges, {theme:?}: {found:.2}");
    }
}

#[test]
fn looks_in_one_lane_differ_in_more_than_colour() {
    let lanes: [&[Look]; 5] = [
        &[
            Look::Usable,
            Look::Reserved,
            Look::AcpiData,
            Look::AcpiNvs,
            Look::Special,
            Look::OtherMemory,
        ],
        &[Look::Leaf1G, Look::Leaf2M, Look::Leaf4K],
        &[Look::Need, Look::NeedMaybe],
        &[Look::Hazard, Look::Caution],
        &[Look::Gap, Look::GapIf, Look::Luck, Look::Exposure, Look::Unwise],
    ];
    for lane in lanes {
        for (index, look) in lane.iter().enumerate() {
            for other in &lane[index + 1..] {
                assert_ne!(look.pattern(), other.pattern(), "{look:?} {other:?}");
                assert_ne!(look.glyphs().1, other.glyphs().1, "{look:?} {other:?}");
            }
        }
    }
}
