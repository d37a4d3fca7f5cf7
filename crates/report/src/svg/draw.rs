//! A drawing as SVG elements.

use super::layout::{Block, Drawing, Label, Role};
use super::palette::pattern_id;
use crate::html::Markup;
use crate::picture::Pattern;

/// Writes `drawing`; `title` is what a screen reader says of it.
pub(crate) fn write(out: &mut Markup, drawing: &Drawing, class: &str, title: &str) {
    let view = format!("0 0 {} {}", px(drawing.width), px(drawing.height));
    let font = drawing.font.to_string();
    out.open(
        "svg",
        &[
            ("class", class),
            ("viewBox", &view),
            ("role", "img"),
            ("aria-label", title),
            ("font-size", &font),
        ],
    );
    for rect in &drawing.grounds {
        out.empty("rect", &rect_attrs("ground", rect).as_refs());
    }
    for line in &drawing.leaders {
        write_line(out, "leader", line);
    }
    for line in &drawing.guides {
        write_line(out, "guide", line);
    }
    // A cut hides what spans it, but nothing that must be seen.
    let (marks, rest): (Vec<_>, Vec<_>) =
        drawing.blocks.iter().partition(|block| block.look.is_mark());
    for block in rest {
        write_block(out, block);
    }
    for rect in &drawing.cuts {
        out.empty("rect", &rect_attrs("cut", rect).as_refs());
    }
    for block in marks {
        write_block(out, block);
    }
    for line in &drawing.ticks {
        write_line(out, "tick", line);
    }
    for label in &drawing.labels {
        write_label(out, label, drawing.font);
    }
    out.close();
}

fn write_block(out: &mut Markup, block: &Block) {
    let class = format!("b {}", block.look.class());
    out.open("rect", &rect_attrs(&class, &block.at).as_refs());
    out.leaf("title", &[], &block.tip);
    out.close();
    if block.look.pattern() != Pattern::Plain {
        let mut attrs = rect_attrs("h", &block.at);
        attrs.0.push(("fill", format!("url(#{})", pattern_id(block.look.pattern()))));
        out.empty("rect", &attrs.as_refs());
    }
}

fn write_label(out: &mut Markup, label: &Label, font: u64) {
    let class = match label.role {
        Role::Title => "t".to_owned(),
        Role::Name => "n".to_owned(),
        Role::Tick => "k".to_owned(),
        Role::Inside(look) => format!("i {}", look.class()),
        Role::Callout(look) => format!("c {}", look.class()),
        Role::More => "m".to_owned(),
    };
    // The base line: letters reach about a quarter of the size below it.
    let y = label.at.y + label.at.h / 2 + font * 36;
    let (x, y) = (px(label.at.x), px(y));
    out.leaf("text", &[("class", &class), ("x", &x), ("y", &y)], &label.text);
}

fn write_line(out: &mut Markup, class: &str, line: &super::layout::Line) {
    let (x, from, to) = (px(line.x), px(line.from), px(line.to));
    out.empty("line", &[("class", class), ("x1", &x), ("x2", &x), ("y1", &from), ("y2", &to)]);
}

struct Attrs(Vec<(&'static str, String)>);

impl Attrs {
    fn as_refs(&self) -> Vec<(&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

fn rect_attrs(class: &str, rect: &super::layout::Rect) -> Attrs {
    Attrs(vec![
        ("class", class.to_owned()),
        ("x", px(rect.x)),
        ("y", px(rect.y)),
        ("width", px(rect.w)),
        ("height", px(rect.h)),
    ])
}

/// Hundredths as pixels.
fn px(hundredths: u64) -> String {
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match part {
        0 => whole.to_string(),
        _ if part.is_multiple_of(10) => format!("{whole}.{}", part / 10),
        _ => format!("{whole}.{part:02}"),
    }
}
