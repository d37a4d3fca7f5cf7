//! `identmap needs`: everything that must be mapped until the next kernel has its own page tables.

use std::collections::BTreeSet;

use identmap::{PageSize, PhysRange, Run};
use identmap_audit::{
    Audit, Fate, Scene, Verdict, fate_in, gathered, requested_since, requested_since_text,
};
use identmap_linux::needs::{self, RULES, SEEN, SEGMENTS};
use identmap_linux::{Condition, Consumer, Kind, Need, NeedRule, Place, Producer};
use identmap_machine::{Machine, ranges};
use serde::Serialize;

use crate::check::producer_text;
use crate::hex::{Hex, HexRange};
use crate::list::{Cell, List, ListColumn, left, right};
use crate::map::range_text;

/// The schema `identmap.needs/1`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NeedsReport {
    schema: &'static str,
    source: String,
    /// The kernel that is left, in words.
    producer: String,
    /// The kernel that is entered; `None` stands for any since 5.10.
    consumer: Option<String>,
    /// `rules` or `preflight`.
    by: &'static str,
    needs: Vec<NeedRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct NeedRow {
    what: String,
    /// `at`, `in` (somewhere in one of the ranges), or `unknown`; missing for what is not needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
    ranges: Vec<PlaceRow>,
    /// Its own size, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// `yes`, `if`, or `no`.
    needed: &'static str,
    /// The ways in which it comes to be needed: all conditions of one of them.
    #[serde(rename = "if")]
    ways: Vec<Vec<String>>,
    /// What these depend on, each once.
    #[serde(skip)]
    decides: Vec<String>,
    /// `requested`, `luck`, `no`, `if-there`, `unknown`, or `depends`; missing for what is not needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    mapped: Option<&'static str>,
    /// The same for each producer that is possible.
    under: Vec<UnderRow>,
    /// The releases of Linux that request it, in words; missing where that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_by: Option<String>,
    rule: &'static str,
    /// Which code touches it, and when.
    when: &'static str,
    /// First release that does so; missing for what a run showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// First release after that does not; missing if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The releases that always do, and those that do under the rule's condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    releases: Option<String>,
    /// Where the rule was read.
    rule_source: &'static str,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct PlaceRow {
    #[serde(flatten)]
    range: HexRange,
    bytes: u64,
    /// What memory it begins in, by the machine's map.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    /// As of the whole, if it lies in this range.
    mapped: &'static str,
    /// Sizes of the leaves that map this range, under any producer that is possible.
    pages: Vec<&'static str>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct UnderRow {
    /// Producers, in words.
    producers: Vec<String>,
    mapped: &'static str,
    /// Sizes of the leaves that map it.
    pages: Vec<&'static str>,
    /// The leaf that its first byte is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<HexRange>,
    /// The request that made this leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<String>,
    /// What of it is not mapped.
    gaps: Vec<HexRange>,
}

const COLUMNS: &[ListColumn] = &[
    left("RANGE", "first and last byte; of several that it may lie in, how many", true),
    right("SIZE", "its own size in bytes; - if not known", true),
    left("WHAT", "what it is", true),
    left("NEEDED", "yes, if (see IF), or no (with --all)", true),
    left("SINCE", "first release of Linux that needs it", true),
    left("UNTIL", "first release after that does not; - if there is none", true),
    left(
        "MAPPED",
        "requested, luck (by over-reach), no, if-there (if it lies in RANGE), unknown, or depends",
        true,
    ),
    left("LEAF", "sizes of the leaves that map it", true),
    left("IF", "what decides whether it is needed; RELEASES and --json have it in full", true),
    left("START", "first byte", false),
    left("END", "last byte", false),
    left("PLACE", "whether it lies at RANGE, somewhere in it, or unknown", false),
    left("MEMORY", "type of memory it lies in, in the kernel's words", false),
    left("FRAME", "the leaf that its first byte is in: first and last byte", false),
    left("BY", "the request that made this leaf", false),
    left("REQUESTED-BY", "first releases of Linux that request it", false),
    left("RELEASES", "releases that need it, and under which condition", false),
    left("RULE", "id of the rule", false),
    left("WHEN", "which code touches it", false),
    left("SOURCE", "where the rule was read", false),
];

impl NeedsReport {
    /// Lists what an audit held against the map, and what the jump itself needs; with `all` also the rules by
    /// which nothing is needed here.
    #[must_use]
    pub fn new(
        machine: &Machine,
        producer: &Producer,
        consumer: &Consumer,
        audit: &Audit,
        kind: Kind,
        all: bool,
    ) -> NeedsReport {
        let layout = audit.layout.as_ref();
        let by_run = audit.scenes.iter().any(|scene| !scene.run.is_empty())
            || audit.needs.iter().any(|need| need.rule == &SEEN);
        let mut wanted: Vec<Need> = audit.needs.clone();
        // A run shows what is touched beside the image.
        if !wanted.iter().any(|need| need.rule == &SEGMENTS) {
            let by_rule = needs::needs(machine, layout, consumer, kind);
            wanted.extend(by_rule.into_iter().filter(|need| need.rule == &SEGMENTS));
        }
        wanted.push(needs::of_the_jump(machine, layout, kind));
        let context = Context { machine, audit, kind };
        let mut rows: Vec<(Option<PhysRange>, NeedRow)> = Vec::new();
        for (need, ways) in gathered(&wanted) {
            let first = places(need).first().copied();
            rows.push((first, context.row(need, &ways)));
        }
        rows.extend(context.not_reached().into_iter().map(|row| (None, row)));
        if all {
            let has = |rule: &NeedRule| rows.iter().any(|(_, row)| row.rule == rule.id);
            let unused: Vec<NeedRow> =
                RULES.into_iter().filter(|rule| !has(rule)).map(not_needed).collect();
            rows.extend(unused.into_iter().map(|row| (None, row)));
        }
        // By address; what lies nowhere that is known comes last, and what is not needed after that.
        let last = |row: &NeedRow| (row.place.is_none(), row.place == Some("unknown"));
        rows.sort_by_key(|(first, row)| (last(row), *first));
        NeedsReport {
            schema: "identmap.needs/1",
            source: machine.source.clone(),
            producer: producer_text(producer),
            consumer: consumer.version.as_ref().map(ToString::to_string),
            by: if by_run { "preflight" } else { "rules" },
            needs: rows.into_iter().map(|(_, row)| row).collect(),
        }
    }

    /// The needs; with `each` one line for each range that something may lie in.
    #[must_use]
    pub fn list(&self, each: bool) -> List {
        let mut rows = Vec::new();
        for need in &self.needs {
            match &need.ranges[..] {
                several @ [_, _, ..] if each => {
                    rows.extend(
                        several.iter().map(|place| need.cells(std::slice::from_ref(place))),
                    );
                }
                any => rows.push(need.cells(any)),
            }
        }
        List::new(COLUMNS, rows)
    }
}

/// What all rows are made from.
struct Context<'a> {
    machine: &'a Machine,
    audit: &'a Audit,
    kind: Kind,
}

impl Context<'_> {
    /// One range of those that it may lie in, as if it were the only one.
    fn place(&self, need: &mut Need, range: PhysRange) -> PlaceRow {
        if let Place::Within { ranges, .. } = &mut need.place {
            *ranges = vec![range];
        }
        let under: Vec<UnderRow> =
            self.audit.scenes.iter().map(|scene| under_row(need, &[range], scene)).collect();
        let pages: BTreeSet<_> = under.iter().flat_map(|row| row.pages.iter().copied()).collect();
        PlaceRow {
            range: range.into(),
            bytes: range.len(),
            memory: self.audit.layout.as_ref().map(|layout| match layout.at(range.start()) {
                Some(region) => region.kind.to_string(),
                None => "not described".to_owned(),
            }),
            mapped: one_word(under.iter().map(|row| row.mapped)),
            pages: pages.into_iter().collect(),
        }
    }

    /// What a run could not tell.
    fn not_reached(&self) -> Vec<NeedRow> {
        let doubts = self.audit.scenes.iter().flat_map(|scene| &scene.run);
        let doubts = doubts.filter(|finding| finding.verdict() == Verdict::Unknown);
        let whats: BTreeSet<String> = doubts
            .map(|finding| format!("what the run did not come to: {}", finding.why))
            .collect();
        let row = |what| NeedRow {
            what,
            place: Some("unknown"),
            needed: "if",
            mapped: Some("unknown"),
            ..not_needed(&SEEN)
        };
        whats.into_iter().map(row).collect()
    }

    fn row(&self, need: &Need, ways: &[Vec<Condition>]) -> NeedRow {
        let layout = self.audit.layout.as_ref();
        let ranges = places(need);
        let mut under: Vec<UnderRow> = Vec::new();
        for scene in &self.audit.scenes {
            let row = under_row(need, &ranges, scene);
            let like = |known: &&mut UnderRow| {
                UnderRow { producers: Vec::new(), ..(**known).clone() }
                    == UnderRow { producers: Vec::new(), ..row.clone() }
            };
            match under.iter_mut().find(like) {
                Some(known) => known.producers.extend(row.producers),
                None => under.push(row),
            }
        }
        let certain = ways.iter().any(Vec::is_empty);
        let in_words = |way: &Vec<Condition>| way.iter().map(ToString::to_string).collect();
        let by = requested_since(self.machine, layout, self.kind, need);
        let mut alone = need.clone();
        NeedRow {
            what: need.what.clone(),
            place: Some(match need.place {
                Place::Known(_) => "at",
                Place::Within { .. } => "in",
                Place::Unknown => "unknown",
            }),
            ranges: ranges.iter().map(|range| self.place(&mut alone, *range)).collect(),
            bytes: match &need.place {
                Place::Known(range) => Some(range.len()),
                Place::Within { len, .. } => *len,
                Place::Unknown => None,
            },
            needed: if certain { "yes" } else { "if" },
            ways: if certain { Vec::new() } else { ways.iter().map(in_words).collect() },
            mapped: Some(one_word(under.iter().map(|row| row.mapped))),
            decides: if certain { Vec::new() } else { decides(ways) },
            under,
            requested_by: by.map(|found| requested_since_text(&found)),
            ..not_needed(need.rule)
        }
    }
}

/// The word that all producers agree on.
fn one_word(words: impl Iterator<Item = &'static str>) -> &'static str {
    let words: BTreeSet<&str> = words.collect();
    match (words.len(), words.first()) {
        (1, Some(word)) => word,
        (0, _) | (_, None) => "unknown",
        _ => "depends",
    }
}

/// The conditions of all ways, each once; releases in short.
fn decides(ways: &[Vec<Condition>]) -> Vec<String> {
    let mut words = Vec::new();
    for condition in ways.iter().flatten() {
        let word = match condition {
            Condition::ConsumerAmong(_) => "the new kernel's release".to_owned(),
            other => other.to_string(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// A row of a rule alone.
fn not_needed(rule: &'static NeedRule) -> NeedRow {
    let shown = rule != &SEEN;
    NeedRow {
        what: rule.title.to_owned(),
        place: None,
        ranges: Vec::new(),
        bytes: None,
        needed: "no",
        ways: Vec::new(),
        decides: Vec::new(),
        mapped: None,
        under: Vec::new(),
        requested_by: None,
        rule: rule.id,
        when: rule.when,
        since: shown.then(|| rule.all.from.to_string()),
        until: rule.all.before.filter(|_| shown).map(|before| before.to_string()),
        releases: shown.then(|| releases(rule)),
        rule_source: rule.source,
    }
}

fn releases(rule: &NeedRule) -> String {
    let list = |spans: &[identmap_linux::Releases]| {
        spans.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match rule.condition {
        Some(condition) => {
            format!("{}; if {condition}: {}", list(rule.always), list(rule.conditional))
        }
        None => list(rule.always),
    }
}

fn places(need: &Need) -> Vec<PhysRange> {
    match &need.place {
        Place::Known(range) => vec![*range],
        Place::Within { ranges, .. } => ranges.clone(),
        Place::Unknown => Vec::new(),
    }
}

/// How a need fares under one producer's map.
fn under_row(need: &Need, places: &[PhysRange], scene: &Scene) -> UnderRow {
    let (mapped, gaps) = match fate_in(need, &scene.coverage, &scene.traits) {
        Fate::Requested => ("requested", Vec::new()),
        Fate::Lucky(_) => ("luck", Vec::new()),
        Fate::Missing(gaps) => ("no", gaps),
        Fate::MissingIfIn(gaps) => ("unknown", gaps),
        Fate::MappedIfThere { .. } => ("if-there", Vec::new()),
        Fate::PlaceUnknown => ("unknown", Vec::new()),
    };
    let over = |run: &&Run| !ranges::intersect(places, &[run.range()]).is_empty();
    let runs = match (places.first(), places.last()) {
        (Some(first), Some(last)) => {
            let runs = &scene.coverage.runs;
            let from = runs.partition_point(|run| run.range().end() <= first.start());
            let to = runs.partition_point(|run| run.range().start() < last.end());
            runs.get(from..to).unwrap_or_default()
        }
        _ => &[],
    };
    let pages: BTreeSet<_> = runs.iter().filter(over).map(|run| run.size()).collect();
    // Where it lies for certain.
    let first = match need.place {
        Place::Known(range) => Some(range.start()),
        Place::Within { .. } | Place::Unknown => None,
    };
    let leaf = first.and_then(|addr| {
        let size = scene.coverage.at(addr)?.size();
        PhysRange::from_len(addr.align_down(size).get(), size.bytes()).ok()
    });
    let made_by = first.and_then(|addr| {
        let index = scene.coverage.made_by(addr, &scene.list.ranges())?;
        Some(scene.list.requests.get(index)?.source.to_string())
    });
    UnderRow {
        producers: scene.labels.clone(),
        mapped,
        pages: pages.into_iter().map(PageSize::name).collect(),
        leaf: leaf.map(HexRange::from),
        made_by,
        gaps: gaps.into_iter().map(HexRange::from).collect(),
    }
}

impl NeedRow {
    /// The line for the whole, or for one of the ranges.
    fn cells(&self, ranges: &[PlaceRow]) -> Vec<Cell> {
        let text = |text: &str| Cell::Text(text.to_owned());
        let or_none = |text: Option<&str>| Cell::Text(text.unwrap_or("-").to_owned());
        let joined = |parts: BTreeSet<String>| match parts.len() {
            0 => text("-"),
            _ => Cell::Text(parts.into_iter().collect::<Vec<_>>().join(" or ")),
        };
        let ends = |of: fn(&HexRange) -> Hex| match ranges {
            [one] => Cell::Address(of(&one.range).0),
            _ => text("-"),
        };
        let under = || self.under.iter();
        let pages: BTreeSet<&str> =
            ranges.iter().flat_map(|place| place.pages.iter().copied()).collect();
        let frames = under().filter_map(|row| row.leaf.as_ref().map(range_text));
        let memory = ranges.iter().filter_map(|place| place.memory.clone());
        vec![
            match (ranges, self.place) {
                ([one], Some("at")) => Cell::Text(range_text(&one.range)),
                ([one], _) => Cell::Text(format!("in {}", range_text(&one.range))),
                (_, None) => text("-"),
                ([], _) => text("not known"),
                (several, _) => Cell::Text(format!("in {} ranges", several.len())),
            },
            self.bytes.map_or_else(|| text("-"), Cell::Size),
            text(&self.what),
            text(self.needed),
            or_none(self.since.as_deref()),
            or_none(self.until.as_deref()),
            or_none(self.mapped),
            if pages.is_empty() { text("-") } else { Cell::Text(Vec::from_iter(pages).join(" ")) },
            if self.decides.is_empty() { text("-") } else { Cell::Text(self.decides.join("; ")) },
            ends(|range| range.start),
            ends(|range| range.end),
            or_none(self.place),
            joined(memory.collect()),
            joined(frames.collect()),
            joined(under().filter_map(|row| row.made_by.clone()).collect()),
            or_none(self.requested_by.as_deref()),
            or_none(self.releases.as_deref()),
            text(self.rule),
            text(self.when),
            text(self.rule_source),
        ]
    }
}
