//! Memory maps as the kernel prints them.
//!
//! Formats: `e820_print_map()` to Linux 3.3 (`A - B (usable)`, end exclusive),
//! `e820__print_table()` and `e820_print_type()` in `arch/x86/kernel/e820.c`
//! from 3.4 (`[mem A-B] usable`, end inclusive); 6.19 renames types, adds
//! `[gap A-B]` and prints the extended map as `extended:`.

use identmap::{PHYS_LIMIT, PhysRange};

use super::cursor::Cursor;
use super::error::Bad;
use crate::model::{MapEntry, MapOrigin, MapUpdate, MemType};

/// A line of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MapLine {
    /// An entry.
    Entry(MapEntry),
    /// An entry without a byte, at this address.
    Empty(u64),
    /// `[gap A-B]`: what no entry describes, printed for information.
    Gap,
}

/// The words before a map line, and the map they belong to.
const HEADS: [(&str, MapOrigin); 6] = [
    ("BIOS-e820:", MapOrigin::BiosE820),
    ("reserve setup_data:", MapOrigin::SetupDataE820),
    ("extended:", MapOrigin::SetupDataE820),
    ("user:", MapOrigin::UserE820),
    ("modified:", MapOrigin::ModifiedE820),
    ("Xen:", MapOrigin::XenE820),
];

/// The map that the message at `body` belongs to, and where its text begins.
/// Words that merely talk about a map (`user: alice`) are not a map line.
pub(super) fn head(text: &str, body: usize) -> Option<(MapOrigin, usize)> {
    HEADS.iter().find_map(|&(word, origin)| {
        let rest = text[body..].strip_prefix(word)?;
        let sure = match origin {
            MapOrigin::BiosE820 => looks_like_map(rest),
            _ => is_map(rest.trim_start()),
        };
        sure.then_some((origin, body + word.len()))
    })
}

/// Every `BIOS-e820:` in the line, wherever it stands: `(start of its text, end of its text)`.
/// Two of them in one line come from consoles that lost a line end.
pub(super) fn bios_spans(text: &str) -> Vec<(usize, usize)> {
    const WORD: &str = "BIOS-e820:";
    let mut starts: Vec<usize> = text.match_indices(WORD).map(|(at, _)| at).collect();
    starts.retain(|&at| looks_like_map(&text[at + WORD.len()..]));
    let ends = starts.iter().skip(1).copied().chain([text.len()]).collect::<Vec<_>>();
    starts.iter().zip(ends).map(|(&at, end)| (at + WORD.len(), end)).collect()
}

/// `BIOS-e820:` means little else, so a map line is suspected even where it is cut or damaged.
fn looks_like_map(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty()
        || ["[", "mem ", "gap ", "0x"].iter().any(|w| rest.starts_with(w))
        || is_map(rest)
}

fn is_map(rest: &str) -> bool {
    let old = rest.len() >= 16 && rest.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
    rest.starts_with("[mem") || rest.starts_with("[gap") || old
}

/// Reads what follows the head: a range and its type.
pub(super) fn map_line(c: &mut Cursor<'_>, line: usize) -> Result<MapLine, Bad> {
    if c.eat("[") {
        if c.eat("gap") {
            return Ok(MapLine::Gap);
        }
        c.expect("mem")?;
        let (start, last) = bracket(c)?;
        let kind = mem_type(c)?;
        if last == start.wrapping_sub(1) && start == 0 {
            return Ok(MapLine::Empty(start));
        }
        return Ok(MapLine::Entry(MapEntry { start, last, kind, line }));
    }
    if c.rest().trim_start().starts_with("mem") {
        return Err(c.wanted("expected `[` before `mem`"));
    }
    // Up to Linux 3.3: the end is exclusive.
    let start = c.address()?;
    c.expect("-")?;
    let before = *c;
    let end = c.hex()?;
    if end > PHYS_LIMIT {
        *c = before;
        c.address()?;
    }
    let kind = mem_type(c)?;
    if end == start {
        return Ok(MapLine::Empty(start));
    }
    // 0 as an end is a size that wrapped: kept reversed, for lint.
    let last = end.saturating_sub(1);
    Ok(MapLine::Entry(MapEntry { start, last, kind, line }))
}

/// `A-B]`. An empty entry is printed with `B = A - 1`, which may be `2^64 - 1`.
fn bracket(c: &mut Cursor<'_>) -> Result<(u64, u64), Bad> {
    let start = c.address()?;
    c.expect("-")?;
    let before = *c;
    let mut last = c.hex()?;
    if last >= PHYS_LIMIT && !(start == 0 && last == u64::MAX) {
        *c = before;
        last = c.address()?;
    }
    c.expect("]")?;
    Ok((start, last))
}

/// The type, with or without parentheses; whatever stands behind it is a reader's mark.
fn mem_type(c: &mut Cursor<'_>) -> Result<MemType, Bad> {
    let parenthesis = c.eat("(");
    let kind = type_words(c)?;
    if parenthesis {
        c.expect(")")?;
    }
    Ok(kind)
}

/// The kernel's words for a type: `e820_print_type()` before and after 6.19.
pub(super) fn type_words(c: &mut Cursor<'_>) -> Result<MemType, Bad> {
    const WORDS: [(&str, MemType); 9] = [
        ("usable", MemType::Usable),
        ("System RAM", MemType::Usable),
        ("reserved", MemType::Reserved),
        ("device reserved", MemType::Reserved),
        ("ACPI data", MemType::AcpiData),
        ("ACPI NVS", MemType::AcpiNvs),
        ("unusable", MemType::Unusable),
        ("soft reserved", MemType::SoftReserved),
        ("unaccepted", MemType::Other(8)),
    ];
    for (word, kind) in WORDS {
        let mut ahead = *c;
        if ahead.eat(word) && !ahead.rest().starts_with(|c: char| c.is_alphanumeric()) {
            *c = ahead;
            return Ok(kind);
        }
    }
    let numbered = *c;
    let parenthesis = c.eat("persistent RAM (") || c.eat("persistent (");
    if c.eat("type") {
        let number = c.decimal()?;
        if parenthesis {
            c.expect(")")?;
        }
        return match u32::try_from(number) {
            Ok(number) => Ok(MemType::from_e820(number)),
            Err(_) => Err(numbered.wanted("expected a type number of at most 32 bits")),
        };
    }
    *c = numbered;
    let mut bad = c.wanted(
        "expected a memory type: usable, reserved, ACPI data, ACPI NVS, unusable, type N, …",
    );
    bad.len = c.rest().trim().len().clamp(1, 40);
    if bad.ended {
        bad.expected.push_str(" (was the line wrapped by a mail program? then its type is lost)");
    }
    Err(bad)
}

/// `e820: update […] A ==> B`, `e820: remove […] A`, and the forms of other versions.
///
/// `None`: not such a line. `Some(Ok(None))`: a change that touches no memory.
pub(super) fn update(
    text: &str,
    body: usize,
    line: usize,
) -> Option<Result<Option<MapUpdate>, Bad>> {
    // To Linux 3.3: `e820 update range: A - B (usable) ==> (reserved)`, end exclusive.
    const FORMS: [(&str, bool, bool); 6] = [
        ("e820: update [mem ", false, false),
        ("e820: remove [mem ", true, false),
        ("update [mem ", false, false),
        ("remove [mem ", true, false),
        ("e820 update range: ", false, true),
        ("e820 remove range: ", true, true),
    ];
    let &(word, removes, old) = FORMS.iter().find(|form| text[body..].starts_with(form.0))?;
    let mut c = Cursor::new(text, body + word.len());
    Some(update_tail(&mut c, removes, old, line))
}

fn update_tail(
    c: &mut Cursor<'_>,
    removes: bool,
    old: bool,
    line: usize,
) -> Result<Option<MapUpdate>, Bad> {
    let start = c.hex()?;
    c.expect("-")?;
    let last_or_end = c.hex()?;
    let end = if old {
        last_or_end
    } else {
        c.expect("]")?;
        last_or_end.saturating_add(1)
    };
    let from = mem_type(c)?;
    let to = if removes {
        None
    } else {
        c.expect("==>")?;
        Some(mem_type(c)?)
    };
    // `mem=` removes up to 2^64 - 1: there is no memory past the limit to remove.
    let range = PhysRange::new(start, end.min(PHYS_LIMIT));
    Ok(range.ok().map(|range| MapUpdate { range, from, to, line }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MapLine, Bad> {
        let (_, at) = head(text, 0).expect("a map line");
        map_line(&mut Cursor::new(text, at), 7)
    }

    fn entry(start: u64, last: u64, kind: MemType) -> MapLine {
        MapLine::Entry(MapEntry { start, last, kind, line: 7 })
    }

    #[test]
    fn every_form_of_a_map_line() {
        use MemType::{
            AcpiNvs, Other, Persistent, PersistentLegacy, Reserved, SoftReserved, Usable,
        };
        for (text, kind) in [
            ("usable", Usable),
            (" System RAM", Usable),
            ("reserved *", Reserved),
            ("reserved   <-- this one halts", Reserved),
            (" device reserved", Reserved),
            ("ACPI NVS", AcpiNvs),
            ("type 20", Other(20)),
            ("persistent (type 7)", Persistent),
            ("persistent RAM (type 12)", PersistentLegacy),
            ("soft reserved", SoftReserved),
            ("type 4026531839", SoftReserved),
        ] {
            for head in
                ["BIOS-e820:", "reserve setup_data:", "extended:", "user:", "modified:", "Xen:"]
            {
                let text = format!("{head} [mem 0x0000000000001000-0x0000000000001fff] {text}");
                assert_eq!(read(&text), Ok(entry(0x1000, 0x1fff, kind)), "{text}");
            }
        }
        let old = " BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)";
        assert_eq!(read(old.trim()), Ok(entry(0, 0x9fbff, Usable)));
        assert_eq!(
            read("BIOS-e820: [gap 0x00000000f0000000-0x00000000fcffffff]"),
            Ok(MapLine::Gap)
        );
    }

    #[test]
    fn reversed_is_kept_and_empty_is_told_apart() {
        assert_eq!(
            read("BIOS-e820: [mem 0x2000-0xfff] usable"),
            Ok(entry(0x2000, 0xfff, MemType::Usable))
        );
        assert_eq!(read("BIOS-e820: [mem 0x0-0xffffffffffffffff] usable"), Ok(MapLine::Empty(0)));
        assert_eq!(
            read("BIOS-e820: 0000000000001000 - 0000000000001000 (usable)"),
            Ok(MapLine::Empty(0x1000))
        );
    }

    #[test]
    fn a_bad_line_is_refused_at_its_place() {
        for (text, at) in [
            ("BIOS-e820: [mem 0xzz00-0xffff] usable", 16),
            ("BIOS-e820: [mem 0x1000-0x1ffff", 30),
            ("BIOS-e820: [mem 0x1000 0x1fff] usable", 23),
            ("BIOS-e820: mem 0x1000-0x1fff] usable", 11),
            ("BIOS-e820: [mem 0x1000-0x10000000000000] usable", 23),
            ("BIOS-e820: [mem 0x1000-0x1ffff0000000000000] usable", 23),
            ("BIOS-e820: [mem 0x1000-0x1fff] frobnicated", 31),
            ("BIOS-e820: [mem 0x1000-0x1fff] type 99999999999", 31),
            ("BIOS-e820: [mem 0x1000-0x1fff]", 30),
            ("BIOS-e820: [mem 0x1000-0x1fff usable", 30),
        ] {
            assert_eq!(read(text).expect_err(text).at, at, "{text}");
        }
    }

    #[test]
    fn talk_about_maps_is_not_a_map_line() {
        assert_eq!(head("user: alice logged in", 0), None);
        assert_eq!(head("Xen: version 4.2", 0), None);
        assert!(bios_spans("see the BIOS-e820: lines below").is_empty());
        assert_eq!(
            bios_spans("x BIOS-e820: [mem 0x0-0x1] usable[0.0] BIOS-e820: [mem 0x2-0x3] usable")
                .len(),
            2
        );
    }

    #[test]
    fn updates_of_every_version() {
        let read = |text: &str| update(text, 0, 3).expect("an update").expect(text);
        let r = |start, end| PhysRange::new(start, end).expect("a range");
        let change = |range, to| Some(MapUpdate { range, from: MemType::Usable, to, line: 3 });
        let reserved = Some(MemType::Reserved);
        assert_eq!(
            read("e820: update [mem 0x00000000-0x00000fff] usable ==> reserved"),
            change(r(0, 0x1000), reserved)
        );
        assert_eq!(
            read("e820: update [mem 0xa0000000-0xffffffff] System RAM ==> device reserved"),
            change(r(0xa0000000, 0x1_0000_0000), reserved)
        );
        assert_eq!(
            read("e820 update range: 0000000000000000 - 0000000000001000 (usable) ==> (reserved)"),
            change(r(0, 0x1000), reserved)
        );
        assert_eq!(
            read("e820: remove [mem 0x100000000-0xfffffffffffffffe] usable"),
            change(r(0x1_0000_0000, PHYS_LIMIT), None)
        );
        assert_eq!(read("remove [mem 0xfff0000000000000-0xffffffffffffffff] usable"), None);
        assert!(update("e820: last_pfn = 0x47e000", 0, 1).is_none());
    }
}
