//! What was found, the worst first, with what to do.

use identmap_audit::{Audit, Confidence, Finding, Severity, Verdict};

use super::pictures::Zooms;
use super::{Markup, section};
use crate::text::human_size;

/// Ranges of one finding that are listed before the rest is folded away.
const MOST_RANGES: usize = 8;

pub(super) fn write(out: &mut Markup, audit: &Audit, zooms: &Zooms) {
    section(out, "findings", "Findings");
    let numbered: Vec<(usize, &Finding)> = audit.findings.iter().enumerate().collect();
    let (grave, info): (Vec<_>, Vec<_>) =
        numbered.into_iter().partition(|(_, finding)| finding.severity > Severity::Info);
    if grave.is_empty() {
        out.leaf("p", &[], "Nothing that hinders the jump was found.");
    }
    list(out, &grave, zooms);
    if !info.is_empty() {
        out.open("details", &[]);
        let count = info.len();
        out.leaf("summary", &[], &format!("{count} more that are good to know"));
        list(out, &info, zooms);
        out.close();
    }
    out.close();
}

fn list(out: &mut Markup, findings: &[(usize, &Finding)], zooms: &Zooms) {
    out.open("div", &[("class", "findings")]);
    for group in findings.chunk_by(|(_, a), (_, b)| says_the_same(a, b)) {
        one(out, group, zooms);
    }
    out.close();
}

/// Whether two findings differ in their place only.
fn says_the_same(a: &Finding, b: &Finding) -> bool {
    let key = |f: &Finding| Finding { range: None, ..f.clone() };
    a.range.is_some() && b.range.is_some() && key(a) == key(b)
}

fn one(out: &mut Markup, group: &[(usize, &Finding)], zooms: &Zooms) {
    let Some((_, first)) = group.first() else { return };
    let class = match (first.severity, first.verdict()) {
        (Severity::Info, _) => "quiet",
        (_, Verdict::Unsafe) => "bad",
        _ => "doubt",
    };
    out.open("article", &[("class", class)]);
    out.open("h3", &[]);
    out.leaf("span", &[("class", "id")], first.id);
    out.text(" ");
    out.text(&first.what);
    if first.confidence != Confidence::Certain && first.severity != Severity::Info {
        out.leaf("span", &[("class", "conf")], &format!(" ({})", first.confidence));
    }
    out.close();
    let ranges: Vec<_> = group.iter().filter_map(|(_, finding)| finding.range).collect();
    if !ranges.is_empty() {
        out.open("ul", &[("class", "ranges")]);
        for range in ranges.iter().take(MOST_RANGES) {
            out.open("li", &[]);
            let text = format!("{:#018x}-{:#018x}", range.start().get(), range.last().get());
            out.leaf("code", &[], &text);
            out.text(&format!("\u{a0} {}", human_size(range.len())));
            out.close();
        }
        if ranges.len() > MOST_RANGES {
            let rest: u64 = ranges[MOST_RANGES..].iter().map(|range| range.len()).sum();
            let count = ranges.len() - MOST_RANGES;
            out.leaf("li", &[], &format!("and {count} more, {}", human_size(rest)));
        }
        out.close();
    }
    out.leaf("p", &[], &sentence(&first.why));
    if !first.under.is_empty() {
        let under = format!("if the producer is {}", first.under.join("; or "));
        out.leaf("p", &[("class", "under")], &sentence(&under));
    }
    if let Some(remedy) = &first.remedy {
        out.open("p", &[("class", "do")]);
        out.leaf("strong", &[], "Do: ");
        out.text(remedy);
        out.close();
    }
    let mut shown: Vec<usize> =
        group.iter().flat_map(|(number, _)| zooms.showing(*number)).collect();
    shown.sort_unstable();
    shown.dedup();
    if first.link.is_some() || !shown.is_empty() {
        out.open("p", &[("class", "links")]);
        for zoom in shown {
            out.leaf("a", &[("href", &format!("#zoom-{zoom}"))], &format!("picture {zoom}"));
            out.text(" ");
        }
        if let Some(link) = &first.link {
            out.text("Source: ");
            source(out, link);
        }
        out.close();
    }
    out.close();
}

/// A link if it is one to the web, else its text.
fn source(out: &mut Markup, link: &str) {
    if link.starts_with("https://") && !link.contains(char::is_whitespace) {
        out.leaf("a", &[("href", link), ("rel", "noreferrer")], link);
    } else {
        out.leaf("span", &[], link);
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}
