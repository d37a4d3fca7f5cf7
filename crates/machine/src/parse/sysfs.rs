//! `/sys/firmware/memmap` and `/sys/firmware/efi/runtime-map`, as files or as what `grep .` prints of them.
//!
//! Contents: `Documentation/ABI/testing/sysfs-firmware-memmap` (the end is inclusive:
//! `firmware_map_add_entry()` in `drivers/firmware/memmap.c`) and `sysfs-firmware-efi-runtime-map`.

use std::collections::BTreeMap;

use identmap::{PHYS_LIMIT, PhysRange};

use super::MAX_ENTRIES;
use super::boot::push_note;
use super::cursor::Cursor;
use super::error::Bad;
use crate::model::{EfiDescriptor, Lost, MapEntry, MemType, Note};

/// Number of bytes in a page of the EFI memory map: UEFI 2.10, 7.2.3.
const EFI_PAGE: u64 = 4096;

/// What the files of one numbered directory say.
#[derive(Clone, Copy, Default, Debug)]
struct Record {
    start: Option<u64>,
    end: Option<u64>,
    kind: Option<MemType>,
    number: Option<u64>,
    pages: Option<u64>,
    attribute: Option<u64>,
    line: usize,
}

/// Collects the files of both directories.
#[derive(Default, Debug)]
pub(crate) struct Records {
    memmap: BTreeMap<u64, Record>,
    runtime: BTreeMap<u64, Record>,
}

/// Which directory and entry a path means.
struct Place<'a> {
    index: u64,
    field: &'a str,
    runtime: bool,
}

impl Records {
    /// `PATH:VALUE` as grep prints it; `None` if it is not of these directories.
    pub(super) fn grep_line(
        &mut self,
        text: &str,
        body: usize,
        line: usize,
    ) -> Option<Result<(), Bad>> {
        let colon = body + text[body..].find(':')?;
        let place = place(&text[body..colon], &text[colon + 1..])?;
        Some(self.set(&place, text, colon + 1, line))
    }

    /// One file: its path (at least `N/field`) and contents.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) -> Option<Result<(), Bad>> {
        let value = String::from_utf8_lossy(contents);
        let place = place(path, &value)?;
        Some(self.set(&place, &value, 0, 0))
    }

    fn set(&mut self, place: &Place<'_>, text: &str, at: usize, line: usize) -> Result<(), Bad> {
        let mut c = Cursor::new(text, at);
        let records = if place.runtime { &mut self.runtime } else { &mut self.memmap };
        if records.len() >= MAX_ENTRIES && !records.contains_key(&place.index) {
            return Err(c.wanted(&format!("expected at most {MAX_ENTRIES} entries")));
        }
        let record = records.entry(place.index).or_default();
        if record.line == 0 {
            record.line = line;
        }
        match (place.runtime, place.field) {
            (false, "start") | (true, "phys_addr") => record.start = Some(c.address()?),
            (false, "end") => record.end = Some(c.hex()?),
            (false, "type") => record.kind = Some(memmap_type(c.rest())),
            (true, "type") => record.number = Some(c.hex()?),
            (true, "num_pages") => record.pages = Some(c.hex()?),
            (true, "attribute") => record.attribute = Some(c.hex()?),
            _ => {}
        }
        Ok(())
    }

    /// The entries in the order of their numbers, and a note for each that is incomplete or missing: they are
    /// numbered from 0 (`firmware_map_add_entry()` in `drivers/firmware/memmap.c`, `efi_runtime_map_init()`).
    pub(crate) fn finish(
        self,
        notes: &mut Vec<Note>,
        lost: &mut Lost,
    ) -> (Vec<MapEntry>, Vec<EfiDescriptor>) {
        lost.firmware_memmap |= missing("/sys/firmware/memmap", &self.memmap, notes);
        lost.efi_runtime_map |= missing("/sys/firmware/efi/runtime-map", &self.runtime, notes);
        let mut entries = Vec::new();
        for (index, r) in self.memmap {
            match (r.start, r.end, r.kind) {
                (Some(start), Some(end), Some(kind)) if end < PHYS_LIMIT => {
                    entries.push(MapEntry { start, last: end, kind, line: r.line });
                }
                _ => {
                    lost.firmware_memmap = true;
                    push_note(notes, incomplete("/sys/firmware/memmap", index, r.line));
                }
            }
        }
        let mut runtime = Vec::new();
        for (index, r) in self.runtime {
            let range = r.start.zip(r.pages).and_then(|(start, pages)| {
                PhysRange::from_len(start, pages.checked_mul(EFI_PAGE)?).ok()
            });
            let kind = r.number.and_then(|n| u32::try_from(n).ok());
            if let (Some(range), Some(kind)) = (range, kind) {
                let attributes = r.attribute.unwrap_or(0);
                runtime.push(EfiDescriptor { range, kind, attributes, line: r.line });
            } else {
                lost.efi_runtime_map = true;
                push_note(notes, incomplete("/sys/firmware/efi/runtime-map", index, r.line));
            }
        }
        (entries, runtime)
    }
}

fn incomplete(directory: &str, index: u64, line: usize) -> Note {
    let text = format!("{directory}/{index} is incomplete or not a range: it was left out");
    Note { line, text, unreadable: true }
}

/// Whether a number is missing; it is noted where.
fn missing(directory: &str, records: &BTreeMap<u64, Record>, notes: &mut Vec<Note>) -> bool {
    let gap = (0..).zip(records).find(|(want, (index, _))| want != *index);
    let Some((want, (_, record))) = gap else { return false };
    let text = format!("{directory}/{want} is missing: an entry is lost");
    push_note(notes, Note { line: record.line, text, unreadable: true });
    true
}

/// `…/memmap/3/start`, `…/runtime-map/3/type`, or `3/start` with a value that fits.
fn place<'a>(path: &'a str, value: &str) -> Option<Place<'a>> {
    let mut parts = path.rsplit('/');
    let field = parts.next()?;
    let index = parts.next()?;
    if index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let index = index.parse().ok()?;
    let directory = parts.next();
    let fields_of_runtime = ["phys_addr", "virt_addr", "num_pages", "attribute"];
    let runtime = match directory {
        Some("runtime-map") => true,
        Some("memmap") => false,
        _ if fields_of_runtime.contains(&field) => true,
        _ => field == "type" && value.trim_start().starts_with("0x"),
    };
    let known = if runtime {
        field == "type" || fields_of_runtime.contains(&field)
    } else {
        ["start", "end", "type"].contains(&field)
    };
    known.then_some(Place { index, field, runtime })
}

/// `e820_type_to_string()` in `arch/x86/kernel/e820.c`.
fn memmap_type(text: &str) -> MemType {
    match text.trim().to_ascii_lowercase().as_str() {
        "system ram" => MemType::Usable,
        "acpi tables" => MemType::AcpiData,
        "acpi non-volatile storage" => MemType::AcpiNvs,
        "unusable memory" => MemType::Unusable,
        "persistent memory" => MemType::Persistent,
        "persistent memory (legacy)" => MemType::PersistentLegacy,
        "soft reserved" => MemType::SoftReserved,
        "reserved" => MemType::Reserved,
        // "Unknown E820 type": the number is lost. 0 is no type of the ABI.
        _ => MemType::Other(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grep_dump_and_the_files_give_the_same() {
        let dump = "/sys/firmware/memmap/0/end:0x9fbff\n/sys/firmware/memmap/0/start:0x0\n\
                    /sys/firmware/memmap/0/type:System RAM\n/sys/firmware/memmap/10/start:0x100000\n\
                    /sys/firmware/memmap/10/end:0x1fffff\n/sys/firmware/memmap/10/type:Reserved\n";
        let mut grepped = Records::default();
        let mut files = Records::default();
        for (number, line) in dump.lines().enumerate() {
            grepped.grep_line(line, 0, number + 1).expect("recognised").expect(line);
            let (path, value) = line.split_once(':').expect("a colon");
            files.file(path, format!("{value}\n").as_bytes()).expect("recognised").expect(line);
        }
        let mut notes = Vec::new();
        let mut lost = Lost::default();
        let (a, _) = grepped.finish(&mut notes, &mut lost);
        let (b, _) = files.finish(&mut notes, &mut lost);
        assert!(notes.iter().all(|n| n.text.contains("memmap/1 is missing")) && notes.len() == 2);
        assert!(lost.firmware_memmap && !lost.efi_runtime_map);
        let bare = |e: &[MapEntry]| e.iter().map(|e| (e.start, e.last, e.kind)).collect::<Vec<_>>();
        assert_eq!(bare(&a), bare(&b));
        assert_eq!(
            bare(&a),
            [(0, 0x9fbff, MemType::Usable), (0x100000, 0x1fffff, MemType::Reserved)]
        );
        assert_eq!((a[0].line, a[1].line), (1, 4));
    }

    #[test]
    fn runtime_maps_and_incomplete_entries() {
        let mut records = Records::default();
        for (path, value) in [
            ("0/attribute", "0x800000000000000f"),
            ("0/num_pages", "0x100"),
            ("0/phys_addr", "0x7a317000"),
            ("0/type", "0x5"),
            ("0/virt_addr", "0xfffffffefe200000"),
            ("1/phys_addr", "0x1000"),
            ("memmap/4/start", "0x1000"),
        ] {
            records.file(path, value.as_bytes()).expect(path).expect(path);
        }
        assert!(records.file("memmap/x/start", b"0x0").is_none());
        assert!(records.file("7/phys_addr", b"0x10000000000000").expect("recognised").is_err());
        let mut notes = Vec::new();
        let mut lost = Lost::default();
        let (entries, runtime) = records.finish(&mut notes, &mut lost);
        assert!(lost.firmware_memmap && lost.efi_runtime_map);
        assert!(entries.is_empty());
        assert_eq!(runtime.len(), 1);
        assert_eq!(runtime[0].range, PhysRange::new(0x7a317000, 0x7a417000).expect("range"));
        assert_eq!(notes.iter().filter(|n| n.unreadable).count(), 5, "{notes:?}");
    }
}
