//! One boot of a log, and the choice among several: entries of two boots are never mixed.

use identmap::PhysRange;

use super::MAX_NOTES;
use crate::model::{Machine, MapEntry, MapOrigin, MapUpdate, MemMap, MemType, Note};

/// The changes that are kept of a log: `e820: update` repeats itself.
const MAX_UPDATES: usize = 65_536;

/// What one boot said.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is something seen or not; none excludes another"
)]
#[derive(Default, Debug)]
pub(super) struct Boot {
    pub(super) machine: Machine,
    /// First line that belongs to it.
    pub(super) first_line: usize,
    /// `Linux version` was seen.
    pub(super) banner: bool,
    /// `BIOS-provided physical RAM map:` was seen.
    pub(super) heading: bool,
    /// `EFI runtime memory map:` was seen.
    pub(super) runtime_heading: bool,
    /// A line of the extended map could not be read: the map is left out.
    pub(super) extended_map_broken: bool,
    pub(super) madt_oem: Option<String>,
    pub(super) saw_dmar: bool,
    pub(super) saw_ivrs: bool,
    /// Entries of the EFI memory map so far, those left out among them.
    pub(super) efi_entries: u64,
    /// Map that the line before belonged to.
    pub(super) in_map: Option<MapOrigin>,
    /// The first line of another kind since the last heading or entry of a map.
    pub(super) other_line: Option<usize>,
    /// Where the text tells that messages are missing, which may be lines of a map.
    pub(super) dropped_line: Option<usize>,
}

/// What to do with an entry of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// It continues the map, or begins it.
    Continues,
    /// It begins the same map anew: another boot for `BIOS-e820:`, a later state for the others.
    BeginsAnew,
}

impl Boot {
    pub(super) fn note(&mut self, note: Note) {
        push_note(&mut self.machine.notes, note);
    }

    /// Entries of `BIOS-e820:`.
    pub(super) fn bios_entries(&self) -> usize {
        self.map(MapOrigin::BiosE820).map_or(0, |m| m.entries.len())
    }

    /// Whether the boot is seen from its first lines on, so that a line which is always printed there
    /// would have been seen. Logs that were filtered by hand may still mislead.
    pub(super) fn starts_at_first_line(&self) -> bool {
        self.banner && self.heading && self.bios_entries() > 0 && !self.machine.updates.is_empty()
    }

    pub(super) fn map(&self, origin: MapOrigin) -> Option<&MemMap> {
        self.machine.maps.iter().find(|m| m.origin == origin)
    }

    /// The kernel prints sorted maps in one go, so one that goes back begins anew.
    pub(super) fn fit(&self, origin: MapOrigin, entry: &MapEntry) -> Fit {
        const LOW: u64 = 1 << 20;
        let Some((first, last)) =
            self.map(origin).and_then(|m| m.entries.first().zip(m.entries.last()))
        else {
            return Fit::Continues;
        };
        if entry.start >= last.start
            && *entry != *last
            && (entry.start, entry.last) != (last.start, last.last)
        {
            return Fit::Continues;
        }
        if self.in_map != Some(origin) || entry.start == first.start {
            return Fit::BeginsAnew;
        }
        let overlaps = self.map(origin).is_some_and(|m| {
            m.entries.iter().any(|e| e.start <= entry.last && entry.start <= e.last)
        });
        if entry.start < LOW && last.start >= LOW && overlaps {
            Fit::BeginsAnew
        } else {
            Fit::Continues
        }
    }

    pub(super) fn push_entry(&mut self, origin: MapOrigin, entry: MapEntry) -> usize {
        let maps = &mut self.machine.maps;
        let at = maps.iter().position(|m| m.origin == origin).unwrap_or_else(|| {
            maps.push(MemMap { origin, entries: Vec::new() });
            maps.len() - 1
        });
        maps[at].entries.push(entry);
        self.in_map = Some(origin);
        maps[at].entries.len()
    }

    pub(super) fn drop_map(&mut self, origin: MapOrigin) {
        self.machine.maps.retain(|m| m.origin != origin);
    }

    pub(super) fn push_update(&mut self, update: MapUpdate) {
        // A change from usable to usable marks setup_data (`e820__reserve_setup_data()`, to Linux 6.15).
        if update.from == MemType::Usable
            && update.to == Some(MemType::Usable)
            && !self.machine.setup_data.contains(&update.range)
            && self.machine.setup_data.len() < MAX_NOTES
        {
            self.machine.setup_data.push(update.range);
        }
        if self.machine.updates.len() < MAX_UPDATES {
            self.machine.updates.push(update);
        }
    }

    /// The line before an entry that continues a map, if it may have been an entry too.
    pub(super) fn is_interrupted(&self, origin: MapOrigin) -> Option<usize> {
        let begun = self.map(origin).is_some() || origin == MapOrigin::BiosE820 && self.heading;
        self.other_line.filter(|_| begun)
    }

    /// Messages are missing at this line. Lines of the maps are among them only before the memory is set up.
    pub(super) fn dropped(&mut self, line: usize) {
        if self.machine.ram_kib.is_none() && self.machine.cpu.model.is_none() {
            self.dropped_line.get_or_insert(line);
        }
    }

    /// An entry of the kernel's map, or a change to it, is lost.
    pub(super) fn lose(&mut self, line: usize, text: &str) {
        self.machine.lost.map = true;
        self.note(Note { line, text: text.to_owned(), unreadable: true });
    }

    /// At the end of its text: a boot's log goes on after the map. One that was filtered has no command line
    /// between banner and map, or says so by something else behind it.
    pub(super) fn end(&mut self) {
        let within = self.in_map == Some(MapOrigin::BiosE820);
        if within && self.banner && self.heading && self.machine.cmdline.is_some() {
            self.lose(0, "the log ends within the memory map: what follows is lost");
        }
        if let Some(line) = self.dropped_line {
            self.machine.lost.efi_map = true;
            self.lose(
                line,
                "messages were dropped here: an entry of a memory map, or a change, may be lost",
            );
        }
    }

    /// A kernel that was started to save a crash dump sees only the memory reserved for it.
    fn is_capture_kernel(&self) -> bool {
        let words = self.machine.cmdline.as_deref().unwrap_or("");
        words.split_ascii_whitespace().any(|w| w.starts_with("elfcorehdr="))
    }

    fn says_anything(&self) -> bool {
        let bare = Machine { notes: Vec::new(), ..self.machine.clone() };
        bare != Machine::default()
    }
}

/// The boot to use: the last one that is neither a capture kernel nor a fragment.
///
/// A fragment has no heading and less than half the entries of the largest map of the text. The last
/// boot is the one whose kernel is running: after a kexec that is the map kexec handed over. A capture
/// kernel (`elfcorehdr=`) sees little of the machine, so the boot before it counts.
pub(super) fn choose(mut boots: Vec<Boot>) -> Boot {
    boots.retain(Boot::says_anything);
    let largest = boots.iter().map(Boot::bios_entries).max().unwrap_or(0);
    let fragment = |b: &Boot| {
        let entries = b.bios_entries();
        largest > 0 && (entries == 0 || !(b.heading || b.banner) && entries * 2 < largest)
    };
    let chosen = boots
        .iter()
        .rposition(|b| !fragment(b) && !b.is_capture_kernel())
        .or_else(|| boots.iter().rposition(|b| !fragment(b)))
        .or_else(|| boots.len().checked_sub(1));
    let Some(chosen) = chosen else { return Boot::default() };
    let mut others = Vec::new();
    for (at, boot) in boots.iter().enumerate() {
        if at != chosen {
            let what = if fragment(boot) {
                "an excerpt"
            } else if boot.is_capture_kernel() {
                "the boot of a crash-capture kernel"
            } else {
                "another boot"
            };
            others.push((boot.first_line, what));
        }
    }
    let mut boot = boots.swap_remove(chosen);
    for (line, what) in others {
        let text = format!(
            "{what} begins here and is left out: the boot of line {} is used",
            boot.first_line
        );
        boot.note(Note { line, text, unreadable: false });
    }
    boot
}

/// Keeps memory bounded: the last note then says that more were left out.
pub(super) fn push_note(notes: &mut Vec<Note>, note: Note) {
    if notes.len() < MAX_NOTES {
        notes.push(note);
    } else if notes.len() == MAX_NOTES {
        let text = format!("more than {MAX_NOTES} notes: the rest is left out");
        notes.push(Note { line: note.line, text, unreadable: true });
    }
}

/// Adds a range once.
pub(super) fn push_range(ranges: &mut Vec<PhysRange>, range: PhysRange) {
    if !ranges.contains(&range) && ranges.len() < MAX_NOTES {
        ranges.push(range);
    }
}
