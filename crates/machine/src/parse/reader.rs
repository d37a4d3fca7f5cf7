//! From lines to a machine: which format a line is of, and what becomes of it.

use std::iter::Peekable;

use super::boot::{Boot, Fit, choose, push_note};
use super::cursor::Cursor;
use super::damage;
use super::e820::{self, MapLine};
use super::efi;
use super::error::{Bad, ParseError};
use super::iomem::{self, Listings};
use super::join::join_parts;
use super::kexec::{self, KexecLine, Ranges, Segments};
use super::text::{Line, Lines};
use super::{MAX_ENTRIES, MAX_INPUT, MAX_NOTES, Records, platform};
use crate::model::{CpuVendor, Machine, MapOrigin, MemMap, Note, Uv};

/// What an unrecognised input is told.
const FORMATS: &str = "nothing here is known: expected a boot log (dmesg, journalctl -k) with its `BIOS-e820:` lines, \
                       /proc/iomem, the output of `kexec -d`, `grep . /sys/firmware/memmap/*/*`, \
                       or `efi: memNN:` lines";

/// See [`super::machine`].
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Machine, ParseError> {
    if bytes.len() > MAX_INPUT {
        let text = format!("the input has {} bytes; at most {MAX_INPUT} are read", bytes.len());
        return Err(ParseError::whole(name, text));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(ParseError::whole(name, "this is UTF-16; save the text as UTF-8"));
    }
    let mut reader = Reader::new(name);
    let mut lines = Lines::new(bytes).peekable();
    while let Some(line) = lines.next() {
        reader.line(&line, &mut lines)?;
    }
    reader.finish()
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// It is blank.
    Blank,
    /// A comment; it may be a header line.
    Comment,
    /// A diff takes it away.
    TakenAway,
    /// Nothing is known of it.
    Unknown,
    /// Unknown, and taken for what is left of a line of a map.
    OfMap,
    /// Unknown, and taken for what is left of a change to a map.
    OfChange,
    /// Unknown, and taken for what is left of a row of a listing.
    OfRows,
    /// A line of `/proc/iomem`.
    Iomem,
    /// It was read.
    Read,
    /// Read together with the line before.
    Joined,
    /// It cannot be read: the text is refused here.
    Refused,
}

/// What [`read`] does with each line, up to the one that it refuses.
pub(super) fn uses(bytes: &[u8]) -> Vec<Use> {
    let mut reader = Reader::new("");
    let mut uses = Vec::new();
    let mut lines = Lines::new(bytes).peekable();
    while let Some(line) = lines.next() {
        uses.resize(line.number - 1, Use::Joined);
        let Ok(this) = reader.line(&line, &mut lines) else {
            uses.push(Use::Refused);
            break;
        };
        uses.push(this);
    }
    uses
}

struct Reader<'n> {
    name: &'n str,
    boots: Vec<Boot>,
    boot: Boot,
    iomem: Listings,
    records: Records,
    ranges: Ranges,
    segments: Segments,
    header: Machine,
    notes: Vec<Note>,
    within_iomem: bool,
    recognised: bool,
    diff_noted: bool,
}

impl<'n> Reader<'n> {
    fn new(name: &'n str) -> Reader<'n> {
        Reader {
            name,
            boots: Vec::new(),
            boot: Boot { first_line: 1, ..Boot::default() },
            iomem: Listings::default(),
            records: Records::default(),
            ranges: Ranges::default(),
            segments: Segments::default(),
            header: Machine::default(),
            notes: Vec::new(),
            within_iomem: false,
            recognised: false,
            diff_noted: false,
        }
    }

    fn line<'a>(
        &mut self,
        line: &Line<'a>,
        ahead: &mut Peekable<Lines<'a>>,
    ) -> Result<Use, ParseError> {
        if line.text.trim().is_empty() {
            return Ok(Use::Blank);
        }
        if let Some(comment) = line.text.strip_prefix('#') {
            self.comment(comment.trim());
            return Ok(Use::Comment);
        }
        if line.hides_map {
            let expected = "expected lines of at most 8192 bytes: what follows holds a memory map";
            let bad = Bad { at: 0, len: 1, expected: expected.to_owned(), ended: false };
            return Err(ParseError::at_line(self.name, line.number, &line.text, &bad));
        }
        let Some(body) = line.body() else {
            self.note(line.number, "a line that a diff takes away was left out", false);
            return Ok(Use::TakenAway);
        };
        if damage::is_dropped_before(&line.text, body) {
            self.boot.dropped(line.number);
        }
        let after_map = line.first || self.boot.in_map.is_some();
        let after_rows = [self.within_iomem, self.ranges.is_within()];
        let known = self.listings(line, body)?
            || self.maps(line, body, ahead)?
            || self.log(line, body, ahead);
        let used = match (known, self.within_iomem) {
            (false, _) => self.unknown(line, body, after_map, after_rows),
            (true, true) => Use::Iomem,
            (true, false) => Use::Read,
        };
        if known && line.truncated {
            self.note(
                line.number,
                "the line is longer than 8192 bytes: its rest was left out",
                false,
            );
        }
        if known && line.inline_diff && !self.diff_noted {
            self.diff_noted = true;
            self.note(
                line.number,
                "the text marks differences ([-old-] {+new+}): its new side is used",
                false,
            );
        }
        self.recognised |= known;
        Ok(used)
    }

    /// A line of which nothing is known: it may be what is left of one that counted.
    fn unknown(
        &mut self,
        line: &Line<'_>,
        body: usize,
        after_map: bool,
        after_rows: [bool; 2],
    ) -> Use {
        let (message, line) = (&line.text[body..], line.number);
        if damage::is_missed(message) {
            self.boot.dropped(line);
        }
        if after_map && damage::is_of_map(message) {
            self.boot.lose(line, "this looks like the end of a map line: an entry is cut");
            Use::OfMap
        } else if damage::is_of_change(message) {
            self.boot.lose(line, "this looks like the end of a change of the e820 map: it is cut");
            Use::OfChange
        } else if after_rows.contains(&true) && damage::is_of_rows(message) {
            let [of_iomem, _] = after_rows;
            if of_iomem {
                self.iomem.lose(line);
            } else {
                self.ranges.lose(line);
            }
            Use::OfRows
        } else {
            Use::Unknown
        }
    }

    /// Header lines of map files.
    fn comment(&mut self, text: &str) {
        let Some((key, value)) = text.split_once(':') else { return };
        let value = value.trim();
        match key.trim() {
            "machine" if !value.is_empty() => self.header.hardware = Some(value.to_owned()),
            "kernel" if !value.is_empty() => self.header.kernel = Some(value.to_owned()),
            "efi" => {
                self.header.efi.booted = match value.split_whitespace().next() {
                    Some("yes") => Some(true),
                    Some("no") => Some(false),
                    _ => None,
                };
            }
            "uv" => {
                self.header.uv = match value.split_whitespace().next() {
                    Some("hubbed") => Some(Uv::Hubbed),
                    Some("hubless") => Some(Uv::Hubless),
                    Some("no") => Some(Uv::No),
                    _ => None,
                }
            }
            "cpu" => {
                self.header.cpu.vendor = match value.split_whitespace().next() {
                    Some("amd") => Some(CpuVendor::Amd),
                    Some("hygon") => Some(CpuVendor::Hygon),
                    Some("intel") => Some(CpuVendor::Intel),
                    _ => None,
                }
            }
            _ => {}
        }
    }

    /// `/proc/iomem`, sysfs dumps and `kexec -d`.
    fn listings(&mut self, line: &Line<'_>, body: usize) -> Result<bool, ParseError> {
        let within = core::mem::take(&mut self.within_iomem);
        if let Some(result) = self.iomem.line(&line.text, line.number, within) {
            self.within_iomem = true;
            self.check(line, result)?;
            self.limit(line, self.iomem.len(), "lines of /proc/iomem")?;
            return Ok(true);
        }
        if line.last && within && iomem::is_cut(line.text.trim()) {
            self.iomem.lose(line.number);
            return Ok(true);
        }
        if let Some(result) = self.records.grep_line(&line.text, body, line.number) {
            self.check(line, result)?;
            return Ok(true);
        }
        let rest = &line.text[body..];
        if let Some(block) = kexec::heading(rest) {
            self.ranges.begin(block);
            return Ok(true);
        }
        match kexec::kexec_line(&line.text, body, line.number) {
            None => {
                self.ranges.interrupt(line.number);
                Ok(false)
            }
            Some(Ok(found)) => {
                self.kexec(found, line)?;
                Ok(true)
            }
            Some(Err(bad)) => self.check(line, Err(bad)).map(|()| true),
        }
    }

    fn kexec(&mut self, found: KexecLine, line: &Line<'_>) -> Result<(), ParseError> {
        let mut ranges = 0;
        match found {
            KexecLine::Range(range) => ranges = self.ranges.push(range),
            of_a_segment => self.segments.push(of_a_segment),
        }
        self.limit(line, ranges.max(self.segments.len()), "ranges")
    }

    /// Memory maps of the kernel, and its changes to them.
    fn maps<'a>(
        &mut self,
        line: &Line<'a>,
        body: usize,
        ahead: &mut Peekable<Lines<'a>>,
    ) -> Result<bool, ParseError> {
        let spans = e820::bios_spans(&line.text);
        for (count, &(at, end)) in spans.iter().enumerate() {
            let read = |text: &str| {
                let end = if count + 1 < spans.len() { end } else { text.len() };
                e820::map_line(&mut Cursor::until(text, at, end), line.number)
            };
            let result = read_or_join(line, ahead, read);
            self.map_line(line, MapOrigin::BiosE820, result)?;
        }
        if !spans.is_empty() {
            return Ok(true);
        }
        let rest = &line.text[body..];
        if rest.contains("BIOS-provided physical RAM map:") {
            if self.boot.heading || self.boot.bios_entries() > 0 {
                self.new_boot(line.number);
            }
            self.boot.heading = true;
            self.boot.other_line = None;
            return Ok(true);
        }
        if let Some((origin, at)) = e820::head(&line.text, body) {
            let result = read_or_join(line, ahead, |text| {
                e820::map_line(&mut Cursor::new(text, at), line.number)
            });
            self.map_line(line, origin, result)?;
            return Ok(true);
        }
        if rest.contains("out of order E820 entry") {
            self.note(line.number, "the kernel found its e820 map out of order", false);
            return Ok(true);
        }
        if e820::update(&line.text, body, line.number).is_none() {
            return Ok(false);
        }
        let result = read_or_join(line, ahead, |text| {
            e820::update(text, body, line.number).unwrap_or(Ok(None))
        });
        match result {
            Ok(Some(update)) => self.boot.push_update(update),
            Ok(None) => {}
            Err(bad) => {
                let text = format!("a change of the e820 map cannot be read: {}", bad.expected);
                self.note(line.number, &text, true);
                self.boot.machine.lost.map = true;
            }
        }
        self.boot.in_map = None;
        Ok(true)
    }

    fn map_line(
        &mut self,
        line: &Line<'_>,
        origin: MapOrigin,
        result: Result<MapLine, Bad>,
    ) -> Result<(), ParseError> {
        let extended = origin == MapOrigin::SetupDataE820;
        match result {
            _ if extended && self.boot.extended_map_broken => {}
            Ok(MapLine::Gap) => {}
            Ok(MapLine::Empty(at)) => {
                self.note(
                    line.number,
                    &format!("an entry without a byte, at {at:#x}, was left out"),
                    false,
                );
            }
            Ok(MapLine::Entry(entry)) => {
                if self.boot.fit(origin, &entry) == Fit::BeginsAnew {
                    if origin == MapOrigin::BiosE820 {
                        self.new_boot(line.number);
                    } else {
                        self.boot.drop_map(origin);
                    }
                } else if let Some(line) = self.boot.is_interrupted(origin) {
                    let text = "the line is none of the map, which goes on behind it: an entry may be lost";
                    self.boot.lose(line, text);
                }
                self.boot.other_line = None;
                let entries = self.boot.push_entry(origin, entry);
                self.limit(line, entries, "entries of a map")?;
            }
            Err(bad) if extended && !line.last => {
                // It repeats the map before it, with the entries around setup_data split.
                self.boot.extended_map_broken = true;
                self.boot.drop_map(origin);
                let text = format!(
                    "the extended map (setup_data) is left out, a line cannot be read: {}",
                    bad.expected
                );
                self.note(line.number, &text, false);
            }
            Err(bad) => self.check(line, Err(bad))?,
        }
        self.boot.in_map = Some(origin);
        Ok(())
    }

    /// The other lines of a boot log.
    fn log<'a>(&mut self, line: &Line<'a>, body: usize, ahead: &mut Peekable<Lines<'a>>) -> bool {
        let rest = &line.text[body..];
        if let Some((release, banner)) = platform::linux_version(rest) {
            if self.boot.banner
                || self.boot.bios_entries() > 0
                || !self.boot.machine.updates.is_empty()
            {
                let same = self.boot.machine.kernel.as_deref() == Some(release)
                    && self.boot.bios_entries() == 0;
                if !same {
                    self.new_boot(line.number);
                }
            }
            if self.boot.bios_entries() == 0 && !self.boot.heading {
                // It is the first message: what was dropped before it is of another boot.
                self.boot.dropped_line = None;
            }
            self.boot.banner = true;
            self.boot.machine.kernel = Some(release.to_owned());
            self.boot.machine.kernel_banner = Some(banner.to_owned()).filter(|b| !b.is_empty());
            return true;
        }
        // Known or not: a map is printed in one go, and so is a listing.
        self.boot.other_line.get_or_insert(line.number);
        self.iomem.interrupt(line.number);
        self.boot.in_map = None;
        if rest.starts_with("efi:") || rest.starts_with("EFI: ") {
            let at = body + "efi:".len();
            let result = read_or_join(line, ahead, |text| {
                efi::efi_line(&mut Cursor::new(text, at), line.number)
            });
            return self.boot.efi(line.number, result);
        }
        platform::fact(&mut self.boot, &line.text, body, line.number)
    }

    fn new_boot(&mut self, line: usize) {
        let next = Boot { first_line: line, ..Boot::default() };
        self.boots.push(core::mem::replace(&mut self.boot, next));
        if self.boots.len() >= MAX_NOTES {
            // Thousands of boots in one text: only the one that can still win is kept.
            join_parts(&mut self.boots);
            let kept = choose(core::mem::take(&mut self.boots));
            self.boots.push(kept);
        }
    }

    /// An error of a line of a map; at a cut first or last line, a note.
    fn check(&mut self, line: &Line<'_>, result: Result<(), Bad>) -> Result<(), ParseError> {
        match result {
            Ok(()) => Ok(()),
            Err(bad) if line.last && !line.first && bad.reaches(line.text.trim_end().len()) => {
                self.note(
                    line.number,
                    "the last line is cut: an entry of a memory map is lost",
                    true,
                );
                if self.within_iomem {
                    self.iomem.lose(line.number);
                } else {
                    self.boot.machine.lost.map = true;
                    self.header.lost.firmware_memmap = true;
                    self.ranges.lose(line.number);
                }
                Ok(())
            }
            Err(bad) => Err(ParseError::at_line(self.name, line.number, &line.text, &bad)),
        }
    }

    fn limit(&self, line: &Line<'_>, count: usize, what: &str) -> Result<(), ParseError> {
        if count <= MAX_ENTRIES {
            return Ok(());
        }
        let expected = format!("expected at most {MAX_ENTRIES} {what}");
        let bad = Bad { at: 0, len: line.text.len(), expected, ended: false };
        Err(ParseError::at_line(self.name, line.number, &line.text, &bad))
    }

    fn note(&mut self, line: usize, text: &str, unreadable: bool) {
        push_note(&mut self.notes, Note { line, text: text.to_owned(), unreadable });
    }

    fn finish(mut self) -> Result<Machine, ParseError> {
        if !self.recognised {
            return Err(ParseError::whole(self.name, FORMATS));
        }
        self.boots.push(self.boot);
        join_parts(&mut self.boots);
        for boot in &mut self.boots {
            boot.end();
            platform::conclude(boot);
        }
        let mut machine = choose(self.boots).machine;
        self.name.clone_into(&mut machine.source);
        machine.notes.splice(0..0, self.notes);
        if !self.iomem.is_empty() {
            (machine.iomem, machine.lost.iomem) = self.iomem.finish(&mut machine.notes);
        }
        machine.lost.firmware_memmap = self.header.lost.firmware_memmap;
        let (memmap, runtime) = self.records.finish(&mut machine.notes, &mut machine.lost);
        if !memmap.is_empty() {
            machine.maps.push(MemMap { origin: MapOrigin::FirmwareMemmap, entries: memmap });
        }
        if !runtime.is_empty() {
            machine.efi.booted = Some(true);
            machine.efi.runtime_map = runtime;
        }
        let (handed_on, is_lost) = self.ranges.finish(&mut machine.notes);
        machine.lost.kexec_ranges = is_lost;
        if !handed_on.is_empty() {
            machine.maps.push(MemMap { origin: MapOrigin::KexecRanges, entries: handed_on });
        }
        self.segments.finish(&mut machine);
        iomem::from_iomem(&mut machine);
        let header = self.header;
        machine.hardware = machine.hardware.or(header.hardware);
        machine.kernel = machine.kernel.or(header.kernel);
        machine.efi.booted = machine.efi.booted.or(header.efi.booted);
        machine.uv = machine.uv.or(header.uv);
        machine.cpu.vendor = machine.cpu.vendor.or(header.cpu.vendor);
        machine.notes.sort_by_key(|n| n.line);
        Ok(machine)
    }
}

/// Reads a line; if it ended too early and the next one looks like its wrapped rest, both together.
fn read_or_join<'a, T>(
    line: &Line<'a>,
    ahead: &mut Peekable<Lines<'a>>,
    read: impl Fn(&str) -> Result<T, Bad>,
) -> Result<T, Bad> {
    let bad = match read(&line.text) {
        Err(bad) if bad.ended => bad,
        done => return done,
    };
    let Some(next) = ahead.peek() else { return Err(bad) };
    let Some(body) = next.body() else { return Err(bad) };
    // A line with a timestamp of its own is not the rest of another.
    if next.text[..body].contains(|c: char| c.is_ascii_digit()) || next.text.starts_with('#') {
        return Err(bad);
    }
    match read(&format!("{} {}", line.text.trim_end(), &next.text[body..])) {
        Ok(value) => {
            ahead.next();
            Ok(value)
        }
        Err(_) => Err(bad),
    }
}
