//! The address space: an overview, then each window where something matters, each with its table.

use identmap::PhysRange;
use identmap_audit::Audit;
use identmap_machine::ranges;

use super::table::{self, Cell, Head, plain};
use super::{Markup, section};
use crate::picture::{self, Look, Picture, Scale};
use crate::svg::{self, Drawing, Sheet};
use crate::text::human_size;

/// Rows of a table before the rest is only counted.
const MOST_ROWS: usize = 60;

/// The windows, numbered from 1, and which findings each shows.
pub(super) struct Zooms {
    zooms: Vec<picture::Zoom>,
    /// Findings that are in no window.
    left: usize,
}

impl Zooms {
    pub(super) fn of(audit: &Audit, picture: &Picture) -> Zooms {
        let limit = picture.extent().unwrap_or(PhysRange::ALL);
        let (zooms, left) = picture::zooms(&audit.findings, limit);
        Zooms { zooms, left }
    }

    /// The numbers of the windows that show this finding.
    pub(super) fn showing(&self, finding: usize) -> impl Iterator<Item = usize> + '_ {
        let shows = move |zoom: &picture::Zoom| zoom.findings.contains(&finding);
        self.zooms.iter().enumerate().filter(move |(_, zoom)| shows(zoom)).map(|(i, _)| i + 1)
    }
}

pub(super) fn write(out: &mut Markup, audit: &Audit, picture: &Picture, zooms: &Zooms) {
    section(out, "pictures", "The physical address space");
    let Some(extent) = picture.extent() else {
        out.leaf("p", &[], "No memory map of this machine is known: there is nothing to draw.");
        out.close();
        return;
    };
    legend(out, picture);
    let title = format!("All of it, {}", human_size(extent.len()));
    figure(out, picture, extent, None, &title, "");
    if let Some(low) = picture.low() {
        figure(out, picture, low, None, "Below 4 GiB", "");
    }
    for (index, zoom) in zooms.zooms.iter().enumerate() {
        let number = index + 1;
        let mut what: Vec<String> = Vec::new();
        for finding in zoom.findings.iter().filter_map(|&number| audit.findings.get(number)) {
            let text = format!("{}: {}", finding.id, finding.what);
            if !what.contains(&text) {
                what.push(text);
            }
        }
        let title = format!("Picture {number}: {} around", human_size(zoom.window.len()));
        figure(out, picture, zoom.window, Some(number), &title, &what.join("; "));
    }
    if zooms.left != 0 {
        let left = zooms.left;
        out.leaf("p", &[], &format!("{left} more findings have no picture of their own."));
    }
    out.close();
}

fn legend(out: &mut Markup, picture: &Picture) {
    out.open("ul", &[("class", "legend")]);
    for look in picture.looks() {
        out.open("li", &[]);
        out.open(
            "svg",
            &[("viewBox", "0 0 28 14"), ("width", "28"), ("height", "14"), ("aria-hidden", "true")],
        );
        let whole = [("x", "0"), ("y", "0"), ("width", "28"), ("height", "14")];
        let class = format!("b {}", look.class());
        let with = |attrs: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            attrs.iter().chain(&whole).map(|(name, value)| (*name, (*value).to_owned())).collect()
        };
        let mut swatches = vec![with(&[("class", &class)])];
        if look.pattern() != picture::Pattern::Plain {
            let fill = format!("url(#{})", svg::palette::pattern_id(look.pattern()));
            swatches.push(with(&[("class", "h"), ("fill", &fill)]));
        }
        for swatch in swatches {
            let attrs: Vec<_> =
                swatch.iter().map(|(name, value)| (*name, value.as_str())).collect();
            out.empty("rect", &attrs);
        }
        out.close();
        out.text(&format!(" {}", look.name()));
        out.close();
    }
    out.close();
}

fn figure(
    out: &mut Markup,
    picture: &Picture,
    window: PhysRange,
    number: Option<usize>,
    title: &str,
    what: &str,
) {
    let shown = picture.within(window);
    let id = number.map(|number| format!("zoom-{number}"));
    match &id {
        Some(id) => out.open("figure", &[("id", id)]),
        None => out.open("figure", &[]),
    }
    out.open("figcaption", &[]);
    let address = format!("{:#018x}-{:#018x}", window.start().get(), window.last().get());
    if number.is_some() {
        out.leaf("h3", &[], &format!("{title} {what}"));
    } else {
        out.leaf("h3", &[], title);
    }
    out.leaf("code", &[], &address);
    out.close();
    for (class, sheet) in [("wide", Sheet::WIDE), ("narrow", Sheet::NARROW)] {
        let drawing = draw(&shown, window, sheet, number.is_some());
        svg::write(out, &drawing, class, &format!("{title} {what}, {address}"));
    }
    beside(out, &shown, number.is_some());
    out.close();
}

/// An overview has long stretches of nothing cut out; a window has not.
fn draw(shown: &Picture, window: PhysRange, sheet: Sheet, linear: bool) -> Drawing {
    let scale = scale(shown, window, sheet, linear);
    Drawing::new(shown, &scale, sheet)
}

pub(crate) fn scale(shown: &Picture, window: PhysRange, sheet: Sheet, linear: bool) -> Scale {
    // One pixel is left for the frame.
    let width = (sheet.width - sheet.names - 1) * 100;
    if linear {
        return Scale::linear(window, width);
    }
    let measure = picture::Measure { width, cut: 1_600, least: 2_400 };
    Scale::cut(window, &shown.occupied(), measure)
}

/// The table of a picture: all bands of a window; of an overview the sums first.
fn beside(out: &mut Markup, shown: &Picture, fine: bool) {
    if !fine {
        sums(out, shown);
    }
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut left = 0;
    for group in shown.groups() {
        for lane in &group.lanes {
            for band in &lane.bands {
                if rows.len() >= MOST_ROWS * if fine { 1 } else { 4 } {
                    left += 1;
                    continue;
                }
                let label = if band.label.is_empty() { band.look.name() } else { &band.label };
                rows.push(vec![
                    plain(lane.name),
                    table::range(band.range),
                    plain(human_size(band.range.len())),
                    (label.to_owned(), tone(band.look)),
                    plain(group.letter.map_or_else(String::new, String::from)),
                ]);
            }
        }
    }
    if left != 0 {
        rows.push(vec![plain(""), plain(format!("and {left} more"))]);
    }
    let mut heads = vec![
        Head::Text("Lane"),
        Head::Address("Range"),
        Head::Number("Size"),
        Head::Text("What"),
        Head::Text("Map"),
    ];
    if shown.groups().len() < 3 {
        heads.pop();
        for row in &mut rows {
            row.truncate(4);
        }
    }
    out.open("details", &[]);
    let count = rows.len();
    out.leaf("summary", &[], &format!("The same as a table, {count} rows"));
    table::write(out, "What the picture shows", &heads, &rows);
    out.close();
}

/// Bytes of each kind in each lane: of the machine, and of each map beside the others.
fn sums(out: &mut Markup, shown: &Picture) {
    let names = shown.groups().iter().map(|group| match group.letter {
        Some(letter) => format!("Map {letter}"),
        None if group.title.is_empty() => "Machine".to_owned(),
        None => group.title.clone(),
    });
    let names: Vec<String> = names.collect();
    let mut kinds: Vec<(&'static str, Look)> = Vec::new();
    for lane in shown.groups().iter().flat_map(|group| &group.lanes) {
        for look in Look::ALL {
            let any = lane.bands.iter().any(|band| band.look == look);
            if any && !kinds.contains(&(lane.name, look)) {
                kinds.push((lane.name, look));
            }
        }
    }
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (name, look) in kinds {
        let mut row = vec![plain(name), (look.name().to_owned(), tone(look))];
        for group in shown.groups() {
            let lanes = group.lanes.iter().filter(|lane| lane.name == name);
            let bands = lanes.flat_map(|lane| &lane.bands).filter(|band| band.look == look);
            let ranges = ranges::normalise(bands.map(|band| band.range).collect());
            row.push(match ranges.len() {
                0 => plain(""),
                1 => plain(human_size(ranges::total(&ranges))),
                count => plain(format!("{} in {count}", human_size(ranges::total(&ranges)))),
            });
        }
        rows.push(row);
    }
    let mut heads = vec![Head::Text("Lane"), Head::Text("What")];
    heads.extend(names.iter().map(|name| Head::Number(name)));
    table::write(out, "Sums, and in how many ranges", &heads, &rows);
}

fn tone(look: Look) -> Option<&'static str> {
    match look {
        Look::Gap | Look::Exposure => Some("bad"),
        Look::Luck | Look::GapIf => Some("doubt"),
        _ => None,
    }
}
