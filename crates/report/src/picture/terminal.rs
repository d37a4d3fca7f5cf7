//! The picture in a terminal, in 80 columns.

use std::fmt::Write;

use identmap::PhysRange;
use identmap_audit::Finding;

use super::scale::Measure;
use super::{Lane, Look, Picture, Scale, exact_size, zooms};
use crate::text::{Style, Tone, human_size};

/// Which characters may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Glyphs {
    /// Blocks.
    Unicode,
    /// Letters.
    Ascii,
}

/// Columns of the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Width(pub usize);

impl Default for Width {
    fn default() -> Width {
        Width(80)
    }
}

/// Columns of the lanes' names, with the space behind.
const NAMES: usize = 11;

impl Picture {
    /// All of the address space, below 4 GiB where that is a small part of it, and the frames around
    /// the worst of `findings` that has a place. Nothing if no memory map is known.
    #[must_use]
    pub fn terminal(
        &self,
        findings: &[Finding],
        glyphs: Glyphs,
        style: Style,
        width: Width,
    ) -> String {
        let Some(extent) = self.extent() else { return String::new() };
        let mut out = String::new();
        // The second window of a finding is that of its frames.
        let (zooms, _) = zooms(findings, extent);
        let close = zooms.iter().map(|zoom| zoom.window).find(|window| window.len() < 1 << 30);
        for window in [Some(extent), self.low(), close].into_iter().flatten() {
            out.push_str(&self.window(window, glyphs, style, width));
            out.push('\n');
        }
        out.push_str(&self.legend(glyphs, style, width));
        out
    }

    fn window(&self, window: PhysRange, glyphs: Glyphs, style: Style, width: Width) -> String {
        let columns = width.0.clamp(60, 400) - NAMES - 1;
        let mut shown = self.within(window);
        if shown.groups.len() > 2 {
            // Several maps: what they ask for is much the same, and lines are few.
            for group in &mut shown.groups {
                group.lanes.retain(|lane| lane.name != "requests");
            }
        }
        let measure = Measure { width: columns as u64 * 100, cut: 200, least: 200 };
        let scale = Scale::cut(window, &shown.occupied(), measure);
        let title = format!(
            "{:#018x}-{:#018x}  {}",
            window.start().get(),
            window.last().get(),
            human_size(window.len())
        );
        let mut out = style.paint(Tone::Strong, &title);
        out.push('\n');
        for group in shown.groups() {
            let heading = group.heading();
            if !heading.is_empty() {
                for line in crate::wrap::wrapped_to(&heading, 0, "  ", width.0).lines() {
                    let _ = writeln!(out, "{}", style.paint(Tone::Faint, line));
                }
            }
            for lane in &group.lanes {
                let cells = cells(lane, &scale, columns);
                let _ =
                    writeln!(out, "{:<NAMES$}{}", lane.name, row(&cells, &scale, glyphs, style));
            }
        }
        out.push_str(&axis(&scale, columns, glyphs));
        out
    }

    fn legend(&self, glyphs: Glyphs, style: Style, width: Width) -> String {
        let (mut out, mut used) = (String::new(), 0);
        for look in self.looks() {
            let text = format!("{} {}", glyph(look, glyphs), look.name());
            let length = text.chars().count();
            if used != 0 && used + 3 + length > width.0 {
                out.push('\n');
                used = 0;
            } else if used != 0 {
                out.push_str("   ");
                used += 3;
            }
            out.push_str(&style.paint(look.tone(), &text));
            used += length;
        }
        out.push('\n');
        out
    }
}

/// What each column shows: a mark if there is one, else what covers most of it.
fn cells(lane: &Lane, scale: &Scale, columns: usize) -> Vec<Option<Look>> {
    let mut cells: Vec<Vec<(Look, u64)>> = vec![Vec::new(); columns];
    for band in &lane.bands {
        let (from, to) = scale.span(band.range);
        let to = to.max(from + 1);
        for (column, cell) in cells.iter_mut().enumerate() {
            let (left, right) = (column as u64 * 100, column as u64 * 100 + 100);
            let part = to.min(right).saturating_sub(from.max(left));
            if part == 0 {
                continue;
            }
            match cell.iter_mut().find(|(look, _)| *look == band.look) {
                Some((_, sum)) => *sum += part,
                None => cell.push((band.look, part)),
            }
        }
    }
    let decide = |cell: &Vec<(Look, u64)>| {
        let marks = cell.iter().filter(|(look, _)| look.is_mark()).map(|(look, _)| *look);
        let most = cell.iter().max_by_key(|(look, sum)| (*sum, *look)).map(|(look, _)| *look);
        marks.max().or(most)
    };
    cells.iter().map(decide).collect()
}

fn row(cells: &[Option<Look>], scale: &Scale, glyphs: Glyphs, style: Style) -> String {
    let mut out = String::new();
    let mut column = 0;
    for stretch in cells.chunk_by(|a, b| a == b) {
        let text: String = (column..column + stretch.len())
            .map(|column| match stretch[0] {
                Some(look) => glyph(look, glyphs),
                None if in_cut(scale, column) => {
                    if glyphs == Glyphs::Ascii {
                        '/'
                    } else {
                        '╱'
                    }
                }
                None => {
                    if glyphs == Glyphs::Ascii {
                        '.'
                    } else {
                        '·'
                    }
                }
            })
            .collect();
        column += stretch.len();
        let tone = stretch[0].map_or(Tone::Faint, Look::tone);
        out.push_str(&style.paint(tone, &text));
    }
    out
}

fn in_cut(scale: &Scale, column: usize) -> bool {
    let (left, right) = (column as u64 * 100, column as u64 * 100 + 100);
    !scale.pieces().iter().any(|piece| piece.from < right && piece.to > left)
}

/// Addresses under the lanes, as many as there is room for.
fn axis(scale: &Scale, columns: usize, glyphs: Glyphs) -> String {
    let tick = if glyphs == Glyphs::Ascii { '^' } else { '╵' };
    let mut marks = vec![' '; columns + 1];
    let mut labels: Vec<char> = vec![' '; columns + NAMES + 1];
    let mut free = 0;
    for addr in crate::svg::ticks(scale, 1_400) {
        let column = (scale.at(addr) / 100) as usize;
        let text = exact_size(addr);
        let length = text.chars().count();
        let at = (NAMES + column).min(labels.len().saturating_sub(length));
        if at < free || column > columns {
            continue;
        }
        marks[column] = tick;
        for (place, c) in labels[at..].iter_mut().zip(text.chars()) {
            *place = c;
        }
        free = at + length + 2;
    }
    let line = |chars: &[char]| chars.iter().collect::<String>().trim_end().to_owned();
    format!("{:NAMES$}{}\n{}\n", "", line(&marks), line(&labels))
}

fn glyph(look: Look, glyphs: Glyphs) -> char {
    let (block, letter) = look.glyphs();
    match glyphs {
        Glyphs::Unicode => block,
        Glyphs::Ascii => letter,
    }
}

#[cfg(test)]
mod tests {
    use identmap_audit::{ImageTables, Question, check};
    use identmap_linux::{Consumer, Kind, Producer};
    use identmap_machine::{parse, samples};

    use super::*;

    #[test]
    fn pictures_keep_to_their_columns_and_characters() {
        for sample in samples() {
            let machine = parse::machine(sample.name, sample.bytes).unwrap();
            let audit = check(&Question {
                machine: &machine,
                producer: Producer::of(None),
                consumer: Consumer::default(),
                kind: Kind::Kexec,
                tables: ImageTables::NotRead("a test".to_owned()),
                entries: &[],
                seen: None,
            });
            let picture = Picture::of_audit(&audit);
            for glyphs in [Glyphs::Unicode, Glyphs::Ascii] {
                for columns in [60, 80, 132] {
                    let style = Style::default();
                    let text = picture.terminal(&audit.findings, glyphs, style, Width(columns));
                    assert!(text.lines().count() > 8, "{}", sample.name);
                    for line in text.lines() {
                        let length = line.chars().count();
                        assert!(length <= columns, "{}, {columns}: {line:?}", sample.name);
                    }
                    assert!(glyphs == Glyphs::Unicode || text.is_ascii(), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_smallest_gap_has_a_column() {
        use super::super::{Band, Group};
        let range = |start, end| PhysRange::new(start, end).unwrap();
        let band = |range, look| Band { range, look, label: String::new() };
        let lane = |name, bands| Lane { name, bands, always: true, background: false };
        let lanes = vec![
            lane("memory", vec![band(range(0, 1 << 42), Look::Usable)]),
            lane("outcome", vec![band(range(0x20_0000_0000, 0x20_0000_1000), Look::Gap)]),
        ];
        let picture = Picture::of_groups(vec![Group { title: String::new(), letter: None, lanes }]);
        let text = picture.terminal(&[], Glyphs::Ascii, Style::default(), Width(80));
        let outcome = text.lines().find(|line| line.starts_with("outcome")).unwrap();
        assert_eq!(outcome.matches('!').count(), 1, "{text}");
    }
}
