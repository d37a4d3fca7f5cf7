//! Debug output of `kexec -d`, and of `kexec_file_load(2)` with `KEXEC_FILE_DEBUG`.

use identmap::PhysRange;

use super::boot::push_note;
use super::cursor::Cursor;
use super::error::Bad;
use crate::model::{Machine, MapEntry, MemType, Note, Segment};

/// A line of that output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum KexecLine {
    /// `START-END (NUMBER)`; what the number means depends on the block's heading.
    Range(RangeLine),
    /// `segment[N].mem = 0x…`.
    SegmentStart(u64, u64),
    /// `segment[N].memsz = 0x…`.
    SegmentSize(u64, u64),
    /// A whole segment, with its number.
    Segment(u64, PhysRange),
    /// `nr_segments = N`: a list of segments begins.
    Heading,
}

/// A range whose type is still a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RangeLine {
    start: u64,
    last: u64,
    number: u32,
    line: usize,
}

/// Which numbers a block of ranges uses.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Block {
    /// No heading was seen: the text begins inside a block.
    #[default]
    Unknown,
    /// `MEMORY RANGES`: kexec-tools' own numbers (`dbgprint_mem_range()` in `kexec/kexec.c`).
    Own,
    /// `E820 memmap:`: numbers of e820 (`add_e820_map_from_mr()` in kexec-tools, `setup_boot_parameters()`
    /// in `arch/x86/kernel/kexec-bzimage64.c`).
    E820,
    /// Something else: ranges to dump, intermediate states.
    Other,
}

/// The block that this line is the heading of.
pub(super) fn heading(rest: &str) -> Option<Block> {
    let rest = rest
        .strip_prefix("kexec_file: ")
        .or_else(|| rest.strip_prefix("kexec-bzImage64: "))
        .unwrap_or(rest);
    let is = |word: &str| rest.trim_end().trim_end_matches(':') == word;
    if is("MEMORY RANGES") {
        Some(Block::Own)
    } else if is("E820 memmap") {
        Some(Block::E820)
    } else {
        is("CRASH MEMORY RANGES").then_some(Block::Other)
    }
}

/// The ranges of one block.
#[derive(Default, Debug)]
struct List {
    ranges: Vec<RangeLine>,
    /// A range is lost: at this line, or before it.
    lost: Option<usize>,
}

/// The blocks of one kind. Of several, the last that is at least half as long as the longest is used.
#[derive(Default, Debug)]
struct Lists {
    current: List,
    chosen: List,
    longest: usize,
    count: usize,
}

impl Lists {
    fn close(&mut self) {
        let list = core::mem::take(&mut self.current);
        if list.ranges.is_empty() {
            return;
        }
        self.count += 1;
        self.longest = self.longest.max(list.ranges.len());
        if list.ranges.len() * 2 >= self.longest {
            self.chosen = list;
        }
    }
}

/// The ranges of all blocks.
#[derive(Default, Debug)]
pub(super) struct Ranges {
    /// The block that the next range belongs to.
    block: Block,
    /// The first line since the last range or heading that is none of them.
    interrupted: Option<usize>,
    unknown: Lists,
    own: Lists,
    e820: Lists,
}

impl Ranges {
    /// Begins a block.
    pub(super) fn begin(&mut self, block: Block) {
        self.block = block;
        self.interrupted = None;
        if let Some(lists) = self.lists() {
            lists.close();
        }
    }

    /// Takes notice of a line that is no range: something printed in between, what is left of a range, or a heading
    /// that is not known.
    pub(super) fn interrupt(&mut self, line: usize) {
        self.interrupted.get_or_insert(line);
    }

    /// Whether the line before may have been a range.
    pub(super) fn is_within(&mut self) -> bool {
        self.interrupted.is_none() && self.lists().is_some_and(|l| !l.current.ranges.is_empty())
    }

    /// Of the current block, a range is lost at this line.
    pub(super) fn lose(&mut self, line: usize) {
        if let Some(lists) = self.lists() {
            lists.current.lost.get_or_insert(line);
        }
    }

    /// Adds a range to the current block; returns how many it has.
    pub(super) fn push(&mut self, range: RangeLine) -> usize {
        if let Some(line) = self.interrupted.take() {
            let (untitled, goes_on) =
                (self.block == Block::Unknown, |last: &RangeLine| range.start > last.last);
            let last = self.lists().map(|lists| lists.current.ranges.last());
            if last.is_some_and(|last| last.map_or(!untitled, goes_on)) {
                self.lose(line);
            } else {
                // What went before it was the heading of something else.
                self.block = Block::Other;
            }
        }
        self.lists().map_or(0, |lists| {
            lists.current.ranges.push(range);
            lists.current.ranges.len()
        })
    }

    fn lists(&mut self) -> Option<&mut Lists> {
        match self.block {
            Block::Unknown => Some(&mut self.unknown),
            Block::Own => Some(&mut self.own),
            Block::E820 => Some(&mut self.e820),
            Block::Other => None,
        }
    }

    /// The map handed to the next kernel: `MEMORY RANGES` before `E820 memmap:`. Without a heading,
    /// a type 0 gives kexec-tools' numbers away: e820 has none. And whether a range of it is lost.
    pub(super) fn finish(mut self, notes: &mut Vec<Note>) -> (Vec<MapEntry>, bool) {
        for lists in [&mut self.unknown, &mut self.own, &mut self.e820] {
            lists.close();
        }
        let zero = self.unknown.chosen.ranges.iter().any(|r| r.number == 0);
        let (lists, kind): (Lists, fn(u32) -> MemType) = if self.own.count > 0 {
            (self.own, own_type)
        } else if self.e820.count > 0 {
            (self.e820, e820_type)
        } else {
            (self.unknown, if zero { own_type } else { e820_type })
        };
        let List { ranges, lost } = lists.chosen;
        if let (Some(first), 2..) = (ranges.first(), lists.count) {
            let text = format!("{} lists of ranges: only this one is used", lists.count);
            push_note(notes, Note { line: first.line, text, unreadable: false });
        }
        if let Some(line) = lost {
            let text = "the line is none of the ranges, which go on behind it or end there: a range may be lost".to_owned();
            push_note(notes, Note { line, text, unreadable: true });
        }
        (ranges.into_iter().map(|range| range.entry(kind(range.number))).collect(), lost.is_some())
    }
}

/// The segments of the image that is told of last: number, first byte, length.
#[derive(Default, Debug)]
pub(super) struct Segments(Vec<(u64, Option<u64>, Option<u64>)>);

impl Segments {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds what a line says of one.
    pub(super) fn push(&mut self, line: KexecLine) {
        match line {
            KexecLine::Range(_) => {}
            KexecLine::Heading => self.0.clear(),
            KexecLine::SegmentStart(index, start) => self.segment(index).1 = Some(start),
            KexecLine::SegmentSize(index, size) => self.segment(index).2 = Some(size),
            KexecLine::Segment(index, range) => {
                if index == 0 {
                    self.0.clear();
                }
                let slot = self.segment(index);
                (slot.1, slot.2) = (Some(range.start().get()), Some(range.len()));
            }
        }
    }

    /// The segment of that number; a field that is already filled belongs to the next image.
    fn segment(&mut self, index: u64) -> &mut (u64, Option<u64>, Option<u64>) {
        let full = |s: &(u64, Option<u64>, Option<u64>)| s.1.is_some() && s.2.is_some();
        if index == 0 && self.0.iter().any(|s| s.0 == 0 && full(s)) {
            self.0.clear();
        }
        let at = self.0.iter().position(|s| s.0 == index).unwrap_or_else(|| {
            self.0.push((index, None, None));
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    pub(super) fn finish(self, machine: &mut Machine) {
        for (index, start, size) in self.0 {
            let range =
                start.zip(size).and_then(|(start, size)| PhysRange::from_len(start, size).ok());
            if let Some(range) = range {
                machine.segments.push(Segment { range });
            } else {
                let text = format!("segment {index} is incomplete or not a range: it was left out");
                push_note(&mut machine.notes, Note { line: 0, text, unreadable: true });
            }
        }
    }
}

impl RangeLine {
    fn entry(self, kind: MemType) -> MapEntry {
        MapEntry { start: self.start, last: self.last, kind, line: self.line }
    }
}

/// Types of kexec-tools' own: `RANGE_*` in `kexec/kexec.h` of kexec-tools 2.0.
fn own_type(number: u32) -> MemType {
    match number {
        0 => MemType::Usable,
        2 => MemType::AcpiData,
        3 => MemType::AcpiNvs,
        6 => MemType::Persistent,
        11 => MemType::PersistentLegacy,
        // RANGE_RESERVED (1), RANGE_UNCACHED (4) and whatever comes are handed on
        // as reserved: `add_e820_map_from_mr()`.
        _ => MemType::Reserved,
    }
}

/// Types of e820. 128 is the kernel's mark for RAM that holds `setup_data`
/// (`E820_TYPE_RESERVED_KERN`, to Linux 6.15).
fn e820_type(number: u32) -> MemType {
    match number {
        128 => MemType::Usable,
        number => MemType::from_e820(number),
    }
}

/// `None`: not a line of this output.
pub(super) fn kexec_line(text: &str, body: usize, line: usize) -> Option<Result<KexecLine, Bad>> {
    let rest = &text[body..];
    if let Some(at) = rest.strip_prefix("segment[") {
        return segment_field(text, text.len() - at.len());
    }
    for word in ["kexec_file: Loading segment ", "kexec: Loading segment ", "Loading segment "] {
        if rest.starts_with(word) {
            return Some(loading(&mut Cursor::new(text, body + word.len())));
        }
    }
    if let Some(tail) = rest.strip_prefix("kexec_file: segment[") {
        return Some(file_segment(&mut Cursor::new(text, text.len() - tail.len())));
    }
    if rest.starts_with("nr_segments = ") {
        return Some(Ok(KexecLine::Heading));
    }
    let hexes = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    let open = rest.get(hexes + 1..)?;
    let second = open.bytes().take_while(u8::is_ascii_hexdigit).count();
    let shape = hexes >= 16 && rest.as_bytes()[hexes] == b'-' && second >= 1;
    let tail = open.get(second..)?.trim();
    if !shape || !(tail.starts_with('(') || tail.is_empty()) || tail.starts_with("(prio") {
        return None;
    }
    Some(memory_range(&mut Cursor::new(text, body), line))
}

fn memory_range(c: &mut Cursor<'_>, line: usize) -> Result<KexecLine, Bad> {
    let start = c.address()?;
    c.expect("-")?;
    let last = c.address()?;
    c.expect("(")?;
    let before = *c;
    let Ok(number) = u32::try_from(c.decimal()?) else {
        return Err(before.wanted("expected the number of a type"));
    };
    c.expect(")")?;
    Ok(KexecLine::Range(RangeLine { start, last, number, line }))
}

/// `segment[0].mem   = 0x5d000000`; `buf` and `bufsz` are addresses of a process and of no interest.
fn segment_field(text: &str, at: usize) -> Option<Result<KexecLine, Bad>> {
    let mut c = Cursor::new(text, at);
    let index = match c.decimal() {
        Ok(index) => index,
        Err(bad) => return Some(Err(bad)),
    };
    if !c.eat("].mem") {
        return None;
    }
    let size = c.rest().starts_with("sz");
    if size {
        c.eat("sz");
    }
    Some(c.expect("=").and_then(|()| {
        if size {
            Ok(KexecLine::SegmentSize(index, c.hex()?))
        } else {
            Ok(KexecLine::SegmentStart(index, c.address()?))
        }
    }))
}

/// `0: buf=0x… bufsz=0x… mem=0x5d000000 memsz=0x1f3f000` (`kexec_add_buffer()` debugging).
fn loading(c: &mut Cursor<'_>) -> Result<KexecLine, Bad> {
    let index = c.decimal()?;
    let Some(mem) = c.rest().find(" mem=") else { return Err(c.wanted("expected `mem=`")) };
    let skip = &c.rest()[..mem + 5];
    c.expect(skip.trim_start())?;
    let start = c.address()?;
    c.expect("memsz=")?;
    whole(c, index, start)
}

/// `0]: buf=0x… bufsz=0x… mem=0x… memsz=0x…` (`kexec_file_load()`, `kernel/kexec_file.c`).
fn file_segment(c: &mut Cursor<'_>) -> Result<KexecLine, Bad> {
    loading(c)
}

fn whole(c: &mut Cursor<'_>, index: u64, start: u64) -> Result<KexecLine, Bad> {
    let before = *c;
    let size = c.hex()?;
    match PhysRange::from_len(start, size) {
        Ok(range) => Ok(KexecLine::Segment(index, range)),
        Err(error) => Err(before.wanted(&format!("expected the size of a segment: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Result<KexecLine, Bad>> {
        kexec_line(text, 0, 4)
    }

    #[test]
    fn each_block_has_its_numbers() {
        use MemType::{Persistent, Reserved, Usable};
        let kinds = |lines: &[&str]| {
            let mut ranges = Ranges::default();
            for line in lines {
                match (heading(line), read(line)) {
                    (Some(block), _) => ranges.begin(block),
                    (None, Some(Ok(KexecLine::Range(range)))) => {
                        ranges.push(range);
                    }
                    other => panic!("{line}: {other:?}"),
                }
            }
            ranges.finish(&mut Vec::new()).0.iter().map(|e| e.kind).collect::<Vec<_>>()
        };
        let (zero, one, seven) = (
            "0000000000000000-0000000000000fff (0)",
            "0000000000001000-0000000000001fff (1)",
            "0000000000002000-0000000000002fff (7)",
        );
        assert_eq!(kinds(&["MEMORY RANGES", zero, one, "E820 memmap:", one]), [Usable, Reserved]);
        assert_eq!(kinds(&["kexec_file: E820 memmap:", one, seven]), [Usable, Persistent]);
        assert_eq!(kinds(&["CRASH MEMORY RANGES", zero, "MEMORY RANGES", zero]), [Usable]);
        assert_eq!(kinds(&[zero, one]), [Usable, Reserved]);
        assert_eq!(kinds(&[one]), [Usable]);
        assert!(read("0000000000100000-00000000bffdffff (0").expect("a range").is_err());
        assert!(read("0000000000100000-00000000bffdffff (99999999999)").expect("a range").is_err());
        assert!(read("0000000000100000-00000000bffdffff : System RAM").is_none());
    }

    #[test]
    fn segments_of_both_system_calls() {
        assert_eq!(
            read("segment[0].mem   = 0x5d000000"),
            Some(Ok(KexecLine::SegmentStart(0, 0x5d000000)))
        );
        assert_eq!(read("segment[3].memsz = 0x4000"), Some(Ok(KexecLine::SegmentSize(3, 0x4000))));
        assert!(read("segment[0].buf   = 0x7f6449f95810").is_none());
        let text = "kexec_file: Loading segment 0: buf=0x000000007cb6cd5d bufsz=0x2000 mem=0x3ef000 memsz=0x2000";
        let range = PhysRange::new(0x3ef000, 0x3f1000).expect("range");
        assert_eq!(read(text), Some(Ok(KexecLine::Segment(0, range))));
        let text = "kexec_file: segment[1]: buf=0x0 bufsz=0x2000 mem=0x3ef000 memsz=0x2000";
        assert_eq!(read(text), Some(Ok(KexecLine::Segment(1, range))));
        assert!(read("segment[0].mem = 0x10000000000000000").expect("a segment").is_err());
    }
}
