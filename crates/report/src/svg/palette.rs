//! Colours, for light and for dark, and the patterns that go with them.
//!
//! Hues follow Okabe and Ito's palette for the colour-blind ("Color Universal Design", 2008): sky blue,
//! bluish green, yellow, orange, vermilion, reddish purple. What is worst differs from the rest in
//! lightness too; everything differs in pattern, letter or lane.

use std::fmt::Write;

use crate::html::Markup;
use crate::picture::{Look, PATTERNS, Pattern};

/// A fill and the text that is written on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ink {
    pub(crate) fill: &'static str,
    pub(crate) text: &'static str,
}

/// Both themes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

/// What is not a band: name, light, dark.
pub(crate) const PAGE: [(&str, &str, &str); 14] = [
    ("page", "#ffffff", "#14171b"),
    ("ink", "#1b1f24", "#e8eaed"),
    ("soft", "#4d5661", "#b3bac3"),
    ("panel", "#f4f6f8", "#1d2126"),
    ("edge", "#8a94a0", "#77818d"),
    ("rule", "#d7dce2", "#363d45"),
    ("ground", "#eef1f4", "#23282e"),
    ("hatch", "#00000045", "#ffffff3a"),
    ("good", "#0b6346", "#5fd3a8"),
    ("bad", "#a32a00", "#ff9d73"),
    ("doubt", "#6b5200", "#f2cf5b"),
    ("good-panel", "#e3f4ec", "#12332a"),
    ("bad-panel", "#fdeae2", "#44190b"),
    ("doubt-panel", "#fbf3d6", "#3a300d"),
];

/// Texts of the page, and what each may stand on.
#[cfg(test)]
pub(crate) const PAGE_PAIRS: [(&str, &str); 16] = [
    ("ink", "page"),
    ("ink", "panel"),
    ("ink", "ground"),
    ("soft", "page"),
    ("soft", "panel"),
    ("good", "page"),
    ("good", "panel"),
    ("good", "good-panel"),
    ("bad", "page"),
    ("bad", "panel"),
    ("bad", "bad-panel"),
    ("doubt", "page"),
    ("doubt", "panel"),
    ("doubt", "doubt-panel"),
    ("ink", "good-panel"),
    ("ink", "bad-panel"),
];

impl Look {
    /// Its colours.
    pub(crate) fn ink(self, theme: Theme) -> Ink {
        let (light, dark) = match self {
            Look::Usable => ("#cbe6f6", "#17425e"),
            Look::Reserved => ("#d9dde1", "#41474e"),
            Look::AcpiData => ("#fbe29c", "#574408"),
            Look::AcpiNvs => ("#f6cba0", "#613711"),
            Look::Special => ("#d8cff0", "#3b2f5c"),
            Look::OtherMemory => ("#ecc9c4", "#5a2a24"),
            Look::Request => ("#bfe6d4", "#115240"),
            Look::Leaf1G => ("#8ccbee", "#0d557f"),
            Look::Leaf2M => ("#bfe1bb", "#265a2a"),
            Look::Leaf4K => ("#f3e48f", "#5b530b"),
            Look::OverReach => ("#efd5e6", "#55294b"),
            Look::Caution | Look::Unwise => ("#f4e6f0", "#40303d"),
            Look::Hazard => ("#e9b3d6", "#6a2459"),
            Look::NeedMaybe => ("#dcdaf4", "#2f2c5c"),
            Look::Need => ("#b4aee8", "#3d37a0"),
            Look::Luck => ("#ffdf4d", "#6e5b00"),
            Look::GapIf => ("#ffc797", "#74380a"),
            Look::Exposure => return pair(theme, ("#8c1d6d", "#ffffff"), ("#f29ad9", "#14171b")),
            Look::Gap => return pair(theme, ("#b23c00", "#ffffff"), ("#ff9a5c", "#14171b")),
        };
        pair(theme, (light, "#1b1f24"), (dark, "#f4f5f7"))
    }
}

fn pair(
    theme: Theme,
    light: (&'static str, &'static str),
    dark: (&'static str, &'static str),
) -> Ink {
    let (fill, text) = if theme == Theme::Light { light } else { dark };
    Ink { fill, text }
}

/// The variables of one theme.
pub(crate) fn variables(theme: Theme) -> String {
    let mut out = String::new();
    for (name, light, dark) in PAGE {
        let value = if theme == Theme::Light { light } else { dark };
        let _ = write!(out, "--{name}:{value};");
    }
    for look in Look::ALL {
        let (name, ink) = (look.class(), look.ink(theme));
        let _ = write!(out, "--{name}:{};--{name}-t:{};", ink.fill, ink.text);
    }
    out
}

/// The rules by which bands and their labels take their colours.
pub(crate) fn rules() -> String {
    let mut out = String::new();
    for look in Look::ALL {
        let name = look.class();
        let _ = writeln!(
            out,
            "rect.{name}{{fill:var(--{name})}}text.i.{name}{{fill:var(--{name}-t);stroke:var(--{name})}}"
        );
    }
    out
}

pub(crate) fn pattern_id(pattern: Pattern) -> &'static str {
    PATTERNS.iter().find(|(known, _)| *known == pattern).map_or("plain", |(_, id)| id)
}

/// The patterns, once for a document.
pub(crate) fn define_patterns(out: &mut Markup) {
    out.open("svg", &[("class", "defs"), ("width", "0"), ("height", "0"), ("aria-hidden", "true")]);
    out.open("defs", &[]);
    for (pattern, id) in PATTERNS {
        let path = match pattern {
            Pattern::Plain => continue,
            Pattern::Diagonal => "M-1 7L7 -1M-1 1L1 -1M5 7L7 5",
            Pattern::Back => "M-1 -1L7 7M5 -1L7 1M-1 5L1 7",
            Pattern::Cross => "M-1 7L7 -1M-1 -1L7 7",
            Pattern::Dots => "M2 3h2M5 0h1M0 0h1M5 6h1M0 6h1",
            Pattern::Vertical => "M3 0V6",
            Pattern::Horizontal => "M0 2H6M0 5H6",
        };
        let units = ("patternUnits", "userSpaceOnUse");
        out.open("pattern", &[("id", id), units, ("width", "6"), ("height", "6")]);
        out.empty("path", &[("class", "hatch"), ("d", path)]);
        out.close();
    }
    out.close();
    out.close();
}
