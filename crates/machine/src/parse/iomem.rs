//! `/proc/iomem` (`r_show()` in `kernel/resource.c`): two spaces a level, `%08llx-%08llx : name`.

use std::collections::HashSet;

use identmap::{PhysRange, RangeError};

use super::boot::push_range;
use super::cursor::Cursor;
use super::error::Bad;
use crate::model::{CpuVendor, CrashKernel, IomemEntry, Machine, Note};

/// A line as it stands; its depth is found when the listing is complete.
#[derive(Clone, Debug)]
struct Raw {
    start: u64,
    last: u64,
    indent: usize,
    name: String,
    line: usize,
}

/// One listing.
#[derive(Default, Debug)]
struct Listing {
    rows: Vec<Raw>,
    /// A row is lost: at this line, or before it.
    lost: Option<usize>,
}

/// Collects listings. A text may hold several; see [`Listings::finish`].
#[derive(Default, Debug)]
pub(super) struct Listings {
    all: Vec<Listing>,
    /// The last top-level start of the current listing.
    top: u64,
    /// The rows of the current listing: start, end, indentation.
    seen: HashSet<(u64, u64, usize)>,
    /// The first line of another kind since the last row.
    interrupted: Option<usize>,
    total: usize,
}

impl Listings {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the line before was one of a listing.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Takes notice of a line that is no row: if the listing goes on behind it, it may have been one.
    pub(super) fn interrupt(&mut self, line: usize) {
        self.interrupted.get_or_insert(line);
    }

    /// Of the current listing, a row is lost at this line.
    pub(super) fn lose(&mut self, line: usize) {
        if let Some(listing) = self.all.last_mut() {
            listing.lost.get_or_insert(line);
        }
    }

    /// Adds the line if it is one. `within`: the line before was one, so a damaged one is recognised too.
    ///
    /// `None`: not such a line.
    pub(super) fn line(
        &mut self,
        text: &str,
        line: usize,
        within: bool,
    ) -> Option<Result<(), Bad>> {
        let quote = text.len() - text.trim_start_matches(['>', '|', ' ', '\t']).len();
        let quoting = text[..quote].rfind(['>', '|']).map_or(0, |at| at + 1);
        let token_end = quote + text[quote..].find([' ', ':', '\t']).unwrap_or(text.len() - quote);
        let token = &text[quote..token_end];
        let name = text[token_end..].trim_start().strip_prefix(':')?;
        let (first, second) = token.split_once('-')?;
        let hexish = |t: &str| t.len() >= 8 && t.bytes().all(|b| b.is_ascii_hexdigit());
        let damaged = within && (hexish(first) || hexish(second));
        if !(damaged || hexish(first) && hexish(second)) {
            return None;
        }
        Some(self.add(text, quote, quote - quoting, name.trim(), line))
    }

    fn add(
        &mut self,
        text: &str,
        at: usize,
        indent: usize,
        name: &str,
        line: usize,
    ) -> Result<(), Bad> {
        let mut c = Cursor::new(text, at);
        let start = c.address()?;
        c.expect("-")?;
        let last = c.address()?;
        if last < start {
            let expected = "expected a range whose end is not below its start".to_owned();
            return Err(Bad { at, len: c.at() - at, expected, ended: false });
        }
        self.total += 1;
        let row = (start, last, indent);
        let raw = Raw { start, last, indent, name: name.to_owned(), line };
        if self.begins_new_listing(&raw) {
            self.all.push(Listing::default());
            self.seen.clear();
        } else if let Some(interrupted) = self.interrupted {
            if self.seen.contains(&row) {
                // Shown once more, behind the listing.
                return Ok(());
            }
            self.lose(interrupted);
        }
        self.interrupted = None;
        self.seen.insert(row);
        if let Some(Listing { rows, .. }) = self.all.last_mut() {
            if rows.first().is_none_or(|first| raw.indent <= first.indent) {
                self.top = raw.start;
            }
            rows.push(raw);
        }
        Ok(())
    }

    /// Top-level resources ascend; one that goes back to what was already listed starts the next listing.
    fn begins_new_listing(&self, raw: &Raw) -> bool {
        let Some(first) = self.all.last().and_then(|l| l.rows.first()) else { return true };
        if raw.indent > first.indent || (raw.start, raw.last) == (0, 0) {
            return false;
        }
        let same = self.seen.contains(&(raw.start, raw.last, raw.indent));
        raw.start < self.top && (raw.start <= first.start || same)
    }

    /// The listing to use: the last that is at least half as long as the longest; and whether a row of it is lost.
    pub(super) fn finish(mut self, notes: &mut Vec<Note>) -> (Vec<IomemEntry>, bool) {
        let longest = self.all.iter().map(|l| l.rows.len()).max().unwrap_or(0);
        let Some(chosen) = self.all.iter().rposition(|l| l.rows.len() * 2 >= longest) else {
            return (Vec::new(), false);
        };
        let count = self.all.len();
        let Listing { rows: listing, lost } = self.all.swap_remove(chosen);
        let first_line = listing.first().map_or(0, |r| r.line);
        if count > 1 {
            let text =
                format!("{count} listings of /proc/iomem: only number {} is used", chosen + 1);
            notes.push(Note { line: first_line, text, unreadable: false });
        }
        if listing.iter().all(|r| r.start == 0 && r.last == 0) {
            let text = "/proc/iomem was read without root: all its addresses are zero".to_owned();
            notes.push(Note { line: first_line, text, unreadable: true });
            return (Vec::new(), false);
        }
        if let Some(line) = lost {
            let text = "the line is none of /proc/iomem, which goes on behind it or ends there: an entry may be lost".to_owned();
            notes.push(Note { line, text, unreadable: true });
        }
        (with_depths(listing), lost.is_some())
    }
}

/// What the names in `/proc/iomem` say beyond the map itself.
pub(crate) fn from_iomem(machine: &mut Machine) {
    let mut crash = Vec::new();
    for entry in &machine.iomem {
        // kernel/crash_core.c: `crashk_res` and `crashk_low_res`.
        if entry.name == "Crash kernel" {
            push_range(&mut crash, entry.range);
        }
        // drivers/iommu/amd/init.c and drivers/iommu/intel/dmar.c reserve the registers under these names.
        let maker = match entry.name.as_str() {
            "amd_iommu" => CpuVendor::Amd,
            "dmar0" => CpuVendor::Intel,
            _ => continue,
        };
        if machine.cpu.hypervisor != Some(true) {
            machine.cpu.vendor.get_or_insert(maker);
        }
    }
    // A log says what was reserved at boot. Since then root may have given back a part or all of it
    // (`/sys/kernel/kexec_crash_size`), and an address in both would count twice.
    if !crash.is_empty() || is_whole(machine) {
        machine.crash_kernels = crash.into_iter().map(|range| CrashKernel { range }).collect();
    }
}

/// Whether a reservation would be seen in the listing: it is one that names the parts of RAM. In a paste of single
/// lines nothing is missing that is not there.
fn is_whole(machine: &Machine) -> bool {
    let has = |name: &str| machine.iomem.iter().any(|entry| entry.name == name);
    !machine.lost.iomem && has("System RAM") && has("Kernel code")
}

/// `fed00000-fed0`: a line of `/proc/iomem` before its name.
pub(super) fn is_cut(text: &str) -> bool {
    let hexish = |t: &str| t.bytes().all(|b| b.is_ascii_hexdigit());
    let (first, second) = text.split_once('-').unwrap_or((text, ""));
    first.len() >= 4 && hexish(first) && hexish(second.trim_end_matches([' ', ':']))
}

/// Depth by indentation or, where a paste lost it, by containment: siblings never overlap.
fn with_depths(listing: Vec<Raw>) -> Vec<IomemEntry> {
    let indented = listing.iter().any(|r| r.indent > listing[0].indent);
    let mut open: Vec<(usize, PhysRange)> = Vec::new();
    let mut entries = Vec::with_capacity(listing.len());
    for raw in listing {
        let range: Result<PhysRange, RangeError> = PhysRange::from_inclusive(raw.start, raw.last);
        let Ok(range) = range else { continue };
        while open.last().is_some_and(|&(indent, parent)| {
            if indented { indent >= raw.indent } else { !parent.covers(range) }
        }) {
            open.pop();
        }
        entries.push(IomemEntry { range, depth: open.len(), name: raw.name, line: raw.line });
        open.push((raw.indent, range));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<IomemEntry>, Vec<Note>) {
        let mut listings = Listings::default();
        for (number, line) in text.lines().enumerate() {
            if let Some(result) = listings.line(line, number + 1, false) {
                result.expect(line);
            }
        }
        let mut notes = Vec::new();
        (listings.finish(&mut notes).0, notes)
    }

    fn depths(text: &str) -> Vec<usize> {
        read(text).0.iter().map(|e| e.depth).collect()
    }

    const NESTED: &str = "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n\
                          \u{20} 00002000-00002fff : Kernel code\n000a0000-000fffff : PCI Bus 0000:00\n\
                          \u{20} 000f0000-000fffff : Reserved\n    000f0000-000fffff : System ROM\n";

    #[test]
    fn nesting_survives_quotes_other_indents_and_lost_indents() {
        let want = [0, 0, 1, 0, 1, 2];
        assert_eq!(depths(NESTED), want);
        assert_eq!(depths(&NESTED.replace("  ", "\t")), want);
        assert_eq!(depths(&NESTED.replace("  ", "   ")), want);
        assert_eq!(depths(&NESTED.replace("  ", "")), want);
        let quoted = NESTED.lines().map(|l| format!("> {l}")).collect::<Vec<_>>().join("\n");
        assert_eq!(depths(&quoted), want);
        let deep = NESTED.lines().map(|l| format!(">>     {l}")).collect::<Vec<_>>().join("\n");
        assert_eq!(depths(&deep), want);
    }

    #[test]
    fn zeroes_are_unreadable_not_empty() {
        let (entries, notes) =
            read("00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n");
        assert!(entries.is_empty());
        assert!(notes.iter().any(|n| n.unreadable && n.text.contains("root")));
    }

    #[test]
    fn listings_are_not_mixed() {
        let two = format!("{NESTED}{NESTED}");
        let (entries, notes) = read(&two);
        assert_eq!(entries.len(), 6);
        assert_eq!(entries[0].line, 7);
        assert_eq!(notes.len(), 1);
    }

    /// A log of the boot, and what was given back since.
    #[test]
    fn a_reservation_is_what_the_listing_says() {
        const LOG: &str = "[    0.0] BIOS-e820: [mem 0x0000000000100000-0x000000407fffffff] usable\n\
             [    0.0] crashkernel reserved: 0x0000000020000000 - 0x0000000040000000 (512 MB)\n";
        let ram = "00100000-407fffffff : System RAM\n";
        let code = "  01000000-01ffffff : Kernel code\n";
        let crash = |bytes: u64| format!("  20000000-{:08x} : Crash kernel\n", 0x1fff_ffff + bytes);
        let reserved = |listing: &[&str]| -> Vec<u64> {
            let text = format!("{LOG}{}", listing.concat());
            let machine = crate::parse::text("log", text.as_bytes()).unwrap();
            machine.crash_kernels.iter().map(|crash| crash.range.len()).collect()
        };
        let (all, half) = (crash(512 << 20), crash(256 << 20));
        assert_eq!(reserved(&[]), [512 << 20]);
        assert_eq!(reserved(&[ram, code, &all]), [512 << 20]);
        assert_eq!(reserved(&[ram, code, &half]), [256 << 20]);
        assert!(reserved(&[ram, code]).is_empty());
        // Single lines of a listing, and one that was read without root.
        assert_eq!(reserved(&[&half]), [256 << 20]);
        assert_eq!(reserved(&[ram]), [512 << 20]);
        let zero = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n";
        assert_eq!(reserved(&[zero]), [512 << 20]);
    }

    #[test]
    fn io_ports_and_dates_are_not_memory() {
        let mut listings = Listings::default();
        assert!(listings.line("0000-0cf7 : PCI Bus 0000:00", 1, true).is_none());
        assert!(listings.line("2024-10-22 : a day", 1, true).is_none());
        assert!(listings.line("00001000-0009zfff : System RAM", 1, false).is_none());
        assert!(
            listings.line("00001000-0009zfff : System RAM", 1, true).expect("damaged").is_err()
        );
        assert!(
            listings.line("00002000-00001fff : System RAM", 1, false).expect("reversed").is_err()
        );
    }
}
