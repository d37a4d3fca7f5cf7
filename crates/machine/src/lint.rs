//! What is wrong with a machine's memory maps, as maps.

use core::fmt;

use identmap::{PageSize, PhysAddr, PhysRange, RangeError};

use crate::layout::{firmware_map, largest, largest_boot};
use crate::views::{View, efi_entries, slices, views};
use crate::{Layout, Machine, MapEntry, MapOrigin, MemType, Source};

/// One thing wrong with a map, or between two maps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lint {
    /// What kind of thing: kebab-case, stable. One of [`LINT_IDS`].
    pub id: &'static str,
    /// The map that is wrong, or that says the less safe of two things.
    pub source: Source,
    /// The map it disagrees with.
    pub against: Option<Source>,
    /// The lines it is about, where they are lines of a map.
    pub entries: Vec<MapEntry>,
    /// The bytes in question, where they are a range.
    pub range: Option<PhysRange>,
    /// What, in one sentence without a full stop.
    pub message: String,
    /// Why it matters, in one sentence without a full stop.
    pub why: &'static str,
}

impl fmt::Display for Lint {
    /// `BIOS-e820: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

/// Every id that [`lint`] gives.
pub const LINT_IDS: [&str; 7] =
    ["reversed", "empty", "past-limit", "overlap", "off-by-one", "unaligned-ram", "type-clash"];

/// Looks for what is wrong with the maps. Time O(n log n) in all their lines.
///
/// No alarm is raised for what healthy machines show:
/// - `reserve setup_data:` cuts RAM at byte addresses (…018, …457): both sides are
///   RAM and they meet, so nothing is lost (`e820__reserve_setup_data()`); in
///   `modified:` the kernel has cut out what it put there itself, to the byte
///   (`acpi_table_upgrade()` in `drivers/acpi/tables.c`);
/// - RAM below 1 MiB that ends at a multiple of 1 KiB (0x9fc00, 0x9d800): the
///   extended BIOS data area begins there, and the BIOS counts it in KiB (word at 0x413);
/// - ranges of kexec-tools that begin within page 0 (0x100, 0x400): it keeps the
///   interrupt vectors;
/// - page 0 reserved, 0xa0000-0xfffff taken out: the kernel does so itself
///   (`trim_bios_range()` in `arch/x86/kernel/setup.c`);
/// - memory that the running kernel trusts less than firmware does (its updates),
///   or soft-reserved and persistent memory that it was told to use as RAM;
/// - the map of a crash kernel, which kexec cuts out of the machine's at any byte;
/// - neighbours of one type; the same line twice (a log pasted twice).
#[must_use]
pub fn lint(machine: &Machine) -> Vec<Lint> {
    let mut out = Vec::new();
    let (boot, _) = largest_boot(machine);
    let is_crash_kernel = machine.cmdline.as_ref().is_some_and(|c| c.contains("elfcorehdr="));
    for map in &machine.maps {
        let found = lint_map(Source::Map(map.origin), &map.entries);
        // A crash kernel: the one that runs, or in a log of several boots one in less memory.
        let is_own = matches!(map.origin, MapOrigin::SetupDataE820 | MapOrigin::ModifiedE820);
        let is_cut = is_own || is_crash_kernel || !boot.iter().any(|b| core::ptr::eq(b, map));
        out.extend(found.into_iter().filter(|l| !(is_cut && l.id == "unaligned-ram")));
    }
    let efi = lint_map(Source::EfiMap, &efi_entries(machine));
    out.extend(efi.into_iter().filter(|l| !is_repeat(l)));
    lint_between(machine, &mut out);
    out
}

/// One type in both lines: with `efi=debug` the kernel prints the EFI map again
/// after it has split and merged descriptors.
fn is_repeat(lint: &Lint) -> bool {
    lint.id == "overlap" && lint.entries.windows(2).all(|pair| pair[0].kind == pair[1].kind)
}

fn lint_map(source: Source, entries: &[MapEntry]) -> Vec<Lint> {
    let mut out = Vec::new();
    let mut good: Vec<(PhysRange, MapEntry)> = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.range() {
            Ok(range) => good.push((range, *entry)),
            Err(error) => out.push(not_a_range(source, *entry, error)),
        }
    }
    good.sort_by_key(|&(range, entry)| (range, entry.kind));
    good.dedup_by_key(|&mut (range, entry)| (range, entry.kind));
    overlaps(source, &good, &mut out);
    edges(source, &good, &mut out);
    out
}

fn not_a_range(source: Source, entry: MapEntry, error: RangeError) -> Lint {
    let (start, last) = (entry.start, entry.last);
    let (id, message) = match error {
        RangeError::PastLimit { .. } => (
            "past-limit",
            format!("{start:#018x}-{last:#018x} reaches past the 52 bits of a physical address"),
        ),
        _ if last.checked_add(1) == Some(start) => {
            ("empty", format!("the entry at {start:#018x} holds no byte"))
        }
        _ => ("reversed", format!("{start:#018x}-{last:#018x} ends before it starts")),
    };
    Lint {
        id,
        source,
        against: None,
        entries: vec![entry],
        range: None,
        message,
        why: "Linux drops the entry or, where it wraps, gives up sorting the whole table \
              (e820__update_table())",
    }
}

/// Entries that share bytes; each is held against the one that reaches furthest so far.
fn overlaps(source: Source, sorted: &[(PhysRange, MapEntry)], out: &mut Vec<Lint>) {
    let Some((&(mut reach), rest)) = sorted.split_first() else { return };
    for &(range, entry) in rest {
        // One byte shared at the seam is an inclusive end written as an exclusive one.
        if let Some(shared) = reach.0.intersection(range)
            && !is_seam(reach.0, range)
        {
            let message = if reach.1.kind == entry.kind {
                format!("{shared} is described twice as {}", entry.kind)
            } else {
                format!("{shared} is both {} and {}", reach.1.kind, entry.kind)
            };
            out.push(Lint {
                id: "overlap",
                source,
                against: None,
                entries: vec![reach.1, entry],
                range: Some(shared),
                message,
                why: if reach.1.kind == entry.kind {
                    "both say the same; who adds up sizes counts it twice"
                } else {
                    "Linux gives the higher type number the bytes (e820__update_table()); \
                     another reader of the map may decide otherwise"
                },
            });
        }
        if range.end() > reach.0.end() {
            reach = (range, entry);
        }
    }
}

/// Whether the last byte of `a` is the first of `b`.
fn is_seam(a: PhysRange, b: PhysRange) -> bool {
    a.last() == b.start() && b.len() > 1
}

/// Ends and starts that miss a neighbour or a page boundary by one byte, and RAM that ends inside a page.
fn edges(source: Source, sorted: &[(PhysRange, MapEntry)], out: &mut Vec<Lint>) {
    let mut by_end: Vec<(PhysAddr, MemType)> =
        sorted.iter().map(|(r, e)| (r.end(), e.kind)).collect();
    by_end.sort_unstable();
    let kind_below = |addr: PhysAddr| {
        let at = by_end.partition_point(|&(end, _)| end < addr);
        by_end.get(at).filter(|&&(end, _)| end == addr).map(|&(_, kind)| kind)
    };
    let kind_above = |addr: PhysAddr| {
        let at = sorted.partition_point(|(r, _)| r.start() < addr);
        sorted.get(at).filter(|(r, _)| r.start() == addr).map(|(_, e)| e.kind)
    };
    for &(range, entry) in sorted {
        let (start, end) = (range.start(), range.end());
        let above = kind_above(end);
        let one_more = end.checked_add(1).filter(|_| above.is_none());
        let gap_of_one = one_more.filter(|&next| kind_above(next).is_some());
        let shared_one = above.is_none() && range.len() > 1 && kind_above(range.last()).is_some();
        let near_end = above.is_none().then(|| beside_boundary(end)).flatten();
        if gap_of_one.is_some() || shared_one || near_end.is_some() {
            let short = gap_of_one.is_some() || (!shared_one && near_end == Some(Beside::Below));
            let what = if short { "one byte short" } else { "one byte too far" };
            out.push(off_by_one(source, entry, range, format!("{range} ends {what}")));
        } else if entry.kind == MemType::Usable && is_odd_ram_edge(end, above) {
            out.push(unaligned(source, entry, range, format!("RAM {range} ends inside a page")));
        }
        let below = kind_below(start);
        let near_start = below.is_none().then(|| beside_boundary(start)).flatten();
        // A gap or a shared byte at the start was reported as the end of the one below.
        let told = below.is_none()
            && (kind_below(PhysAddr::new(start.get().saturating_sub(1)).unwrap_or(start))
                .is_some()
                || start.checked_add(1).is_some_and(|next| kind_below(next).is_some()));
        if let Some(side) = near_start.filter(|_| !told) {
            let what = match side {
                Beside::Above => "one byte late",
                Beside::Below => "one byte early",
            };
            out.push(off_by_one(source, entry, range, format!("{range} starts {what}")));
        } else if entry.kind == MemType::Usable
            && !told
            && start.get() >= PageSize::Size4K.bytes()
            && is_odd_ram_edge(start, below)
        {
            out.push(unaligned(source, entry, range, format!("RAM {range} starts inside a page")));
        }
    }
}

/// One byte to which side of a page boundary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Below,
    Above,
}

fn beside_boundary(edge: PhysAddr) -> Option<Beside> {
    let page = PageSize::Size4K.bytes();
    match edge.get() % page {
        1 => Some(Beside::Above),
        rest if rest == page - 1 => Some(Beside::Below),
        _ => None,
    }
}

/// Whether RAM loses part of a page at `edge`, beyond which `neighbour` lies.
fn is_odd_ram_edge(edge: PhysAddr, neighbour: Option<MemType>) -> bool {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let in_low_memory = edge.get() < MIB && edge.get().is_multiple_of(KIB);
    !edge.is_aligned(PageSize::Size4K) && neighbour != Some(MemType::Usable) && !in_low_memory
}

fn off_by_one(source: Source, entry: MapEntry, range: PhysRange, message: String) -> Lint {
    Lint {
        id: "off-by-one",
        source,
        against: None,
        entries: vec![entry],
        range: Some(range),
        message,
        // Seen with 0x0-0x9fffe: https://github.com/grehan-freebsd/grub2-bhyve/pull/6,
        // and in a whole map: https://github.com/mikaku/Fiwix/issues/72
        why: "kexec-tools ignores a range that is not a multiple of 1 KiB; without low memory \
              the next kernel stops at \"Cannot allocate trampoline\"",
    }
}

fn unaligned(source: Source, entry: MapEntry, range: PhysRange, message: String) -> Lint {
    Lint {
        id: "unaligned-ram",
        source,
        against: None,
        entries: vec![entry],
        range: Some(range),
        message,
        why: "Linux drops the part of the page (memblock is trimmed to whole pages), and \
              whatever lies in the rest of it is mapped together with RAM",
    }
}

/// Memory that one map gives away as RAM and a map that must know better does not.
fn lint_between(machine: &Machine, out: &mut Vec<Lint>) {
    let views = views(machine);
    let view = |source: Source| views.iter().find(|v| v.source == source);
    let firmware = firmware_map(machine).and_then(|map| view(Source::Map(map.origin)));
    let efi = view(Source::EfiMap);
    let kexec = view(Source::Map(MapOrigin::KexecRanges));
    let running = Layout::of(machine)
        .map(|layout| View { source: Source::Running, regions: layout.regions().to_vec() });
    let copies = [MapOrigin::FirmwareMemmap, MapOrigin::BootParams]
        .map(|origin| view(Source::Map(origin)).filter(|v| Some(*v) != firmware));
    let mut pairs: Vec<(&View, &View)> = Vec::new();
    for knows in [firmware, efi].into_iter().flatten() {
        let claims = copies.into_iter().flatten().chain(running.as_ref()).chain(kexec);
        pairs.extend(claims.map(|claims| (knows, claims)));
    }
    pairs.extend(efi.zip(firmware));
    pairs.extend(running.as_ref().zip(kexec));
    for (knows, claims) in pairs {
        clashes(machine, knows, claims, out);
    }
}

fn clashes(machine: &Machine, knows: &View, claims: &View, out: &mut Vec<Lint>) {
    let lines = [sorted_lines(machine, claims.source), sorted_lines(machine, knows.source)];
    for slice in slices(&[&knows.regions, &claims.regions]) {
        let [Some(kind), Some(MemType::Usable)] = slice.kinds[..] else { continue };
        if may_become_ram(kind) {
            continue;
        }
        let range = slice.range;
        out.push(Lint {
            id: "type-clash",
            source: claims.source,
            against: Some(knows.source),
            entries: lines.iter().flat_map(|sorted| lines_at(sorted, range)).collect(),
            range: Some(range),
            message: format!("{range} is usable, but {kind} in {}", knows.source),
            why: "the next kernel or its image may be put where firmware, ACPI or a device keeps \
                  something",
        });
    }
}

/// RAM, or memory that a driver may turn into RAM while the kernel runs (`dax/kmem`).
fn may_become_ram(kind: MemType) -> bool {
    matches!(
        kind,
        MemType::Usable | MemType::SoftReserved | MemType::Persistent | MemType::PersistentLegacy
    )
}

/// The lines of a map by address; none for a source that has no lines of its own.
fn sorted_lines(machine: &Machine, source: Source) -> Vec<(PhysRange, MapEntry)> {
    let (maps, _) = largest_boot(machine);
    let kexec = largest(machine, MapOrigin::KexecRanges);
    let map = kexec.into_iter().chain(maps.iter().rev()).find(|m| source == Source::Map(m.origin));
    let entries = match source {
        Source::EfiMap => efi_entries(machine),
        _ => map.map_or_else(Vec::new, |map| map.entries.clone()),
    };
    let mut sorted: Vec<_> =
        entries.into_iter().filter_map(|e| Some((e.range().ok()?, e))).collect();
    sorted.sort_by_key(|&(range, entry)| (range, entry.kind));
    sorted
}

/// The lines that say something of `range`: in a map without overlaps, all of
/// them up to a limit that no message should exceed.
fn lines_at(sorted: &[(PhysRange, MapEntry)], range: PhysRange) -> Vec<MapEntry> {
    const LIMIT: usize = 8;
    let past = sorted.partition_point(|(r, _)| r.start() < range.end());
    let near = sorted[..past].iter().rev().take(LIMIT);
    let mut out: Vec<MapEntry> =
        near.filter(|(r, _)| r.intersects(range)).map(|&(_, e)| e).collect();
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, machine_of};
    use crate::{Efi, EfiDescriptor};

    fn ids(text: &str) -> Vec<&'static str> {
        lint(&machine_of(text)).iter().map(|l| l.id).collect()
    }

    #[test]
    fn a_plain_bios_machine_is_healthy() {
        let text = "0-9fbff usable\n9fc00-9ffff reserved\nf0000-fffff reserved\n\
                    100000-bffdffff usable\nbffe0000-bfffffff reserved\n100000000-13fffffff usable";
        assert!(ids(text).is_empty());
    }

    #[test]
    fn what_is_not_a_range() {
        assert_eq!(ids("2000-1000 usable"), ["reversed"]);
        assert_eq!(ids("2000-1fff usable"), ["empty"]);
        assert_eq!(ids("2000-10000000000000 usable"), ["past-limit"]);
        assert_eq!(ids("2000-ffffffffffffffff usable"), ["past-limit"]);
    }

    #[test]
    fn overlaps_of_one_type_and_of_two() {
        let found = lint(&machine_of("0-2fff usable\n2000-3fff usable\n3000-4fff reserved"));
        assert_eq!(found.iter().map(|l| l.id).collect::<Vec<_>>(), ["overlap", "overlap"]);
        assert_eq!(found[0].range, PhysRange::new(0x2000, 0x3000).ok());
        assert_eq!(found[1].range, PhysRange::new(0x3000, 0x4000).ok());
        assert_eq!(found[1].entries.iter().map(|e| e.line).collect::<Vec<_>>(), [2, 3]);
        // The one that reaches furthest is not the last one.
        assert_eq!(ids("0-ffff usable\n1000-1fff usable\n8000-8fff reserved").len(), 2);
        // A log pasted twice.
        assert!(ids("0-ffff usable\n0-ffff usable").is_empty());
    }

    /// <https://github.com/grehan-freebsd/grub2-bhyve/pull/6>
    #[test]
    fn bhyve_lost_a_byte_of_low_memory() {
        assert_eq!(ids("0-9fffe usable\n100000-ffffff usable"), ["off-by-one"]);
    }

    #[test]
    fn a_byte_missing_or_shared_at_a_seam() {
        assert_eq!(ids("0-ffe usable\n1000-1fff reserved"), ["off-by-one"]);
        assert_eq!(ids("0-1000 usable\n1000-1fff reserved"), ["off-by-one"]);
        assert_eq!(ids("1000-2000 usable"), ["off-by-one"]);
        assert_eq!(ids("1001-1fff usable"), ["off-by-one"]);
        assert_eq!(ids("fff-1fff reserved"), ["off-by-one"]);
    }

    #[test]
    fn ram_that_ends_inside_a_page() {
        assert_eq!(ids("100000-1ff7ff usable\n1ff800-1fffff ACPI data"), ["unaligned-ram"; 1]);
        assert_eq!(ids("0-9fc10 usable"), ["unaligned-ram"]);
        // setup_data: RAM goes on.
        assert!(ids("100000-200017 usable\n200018-200457 usable\n200458-2fffff usable").is_empty());
        // Only RAM matters: ACPI tables are handed over byte by byte.
        assert!(ids("100000-1fffff usable\n200000-2007ff ACPI data").is_empty());
    }

    /// As on an Arrow Lake board: RAM from 0x103f0e00b0.
    #[test]
    fn a_crash_kernel_may_begin_anywhere() {
        let text = "1000-9ffff usable\n103f0e00b0-107effffff usable";
        let mut machine = machine_of(text);
        assert_eq!(lint(&machine).len(), 1);
        machine.cmdline = Some("elfcorehdr=0x103f000000 ro".into());
        assert!(lint(&machine).is_empty());
        let mut whole = machine_of("0-9ffff usable\n100000-107effffff usable");
        whole.maps.extend(machine_of(text).maps);
        assert!(lint(&whole).is_empty());
    }

    /// As on an ASUS GA402 with its DSDT replaced.
    #[test]
    fn the_kernel_may_cut_its_own_map_anywhere() {
        let mut machine = machine_of("100000-200017 ACPI NVS\n200018-2fffff usable");
        assert_eq!(lint(&machine).len(), 1);
        machine.maps[0].origin = MapOrigin::ModifiedE820;
        assert!(lint(&machine).is_empty());
    }

    #[test]
    fn ram_over_what_firmware_keeps() {
        let mut machine = machine_of("0-ffff usable\n10000-1ffff ACPI data\n20000-2ffff usable");
        assert!(lint(&machine).is_empty());
        let mut other = machine_of("0-fff usable\n18000-2ffff usable").maps.remove(0);
        other.origin = MapOrigin::KexecRanges;
        machine.maps.push(other);
        let found = lint(&machine);
        // Against firmware's map and against the running kernel's.
        assert_eq!(found.iter().map(|l| l.id).collect::<Vec<_>>(), ["type-clash"; 2]);
        assert_eq!(found[0].range, PhysRange::new(0x18000, 0x20000).ok());
        assert_eq!(found[0].source, Source::Map(MapOrigin::KexecRanges));
        assert_eq!(found[0].against, Some(Source::Map(MapOrigin::BiosE820)));
        assert_eq!(found[0].entries.iter().map(|e| e.line).collect::<Vec<_>>(), [2, 2]);
        assert!(found[0].to_string().contains("is usable, but ACPI data in BIOS-e820"));
    }

    #[test]
    fn the_efi_map_knows_better() {
        let descriptor = |start, end, kind| EfiDescriptor {
            range: PhysRange::new(start, end).unwrap(),
            kind,
            attributes: 0xf,
            line: 0,
        };
        let machine = Machine {
            efi: Efi {
                memory_map: vec![descriptor(0, 0x8000, 7), descriptor(0x8000, 0x9000, 6)],
                ..Efi::default()
            },
            ..machine_of("0-8fff usable")
        };
        let found = lint(&machine);
        assert!(found.iter().all(|l| l.id == "type-clash" && l.against == Some(Source::EfiMap)));
        assert_eq!(found[0].range, PhysRange::new(0x8000, 0x9000).ok());
    }

    #[test]
    fn no_map_breaks_it_and_every_id_is_listed() {
        let mut random = Random::new(5);
        let kinds = [MemType::Usable, MemType::Reserved, MemType::AcpiNvs, MemType::Other(0)];
        for _ in 0..5_000 {
            let base =
                [0, 0x9f000, (1 << 52) - 0x8000, u64::MAX - 0x8000][random.below(4) as usize];
            let mut machine = machine_of("");
            for origin in [MapOrigin::BiosE820, MapOrigin::KexecRanges] {
                let entries = (0..random.below(6))
                    .map(|_| {
                        let near = |r: &mut Random| {
                            let page = r.below(9) * 0x1000;
                            base.wrapping_add(page).wrapping_add(r.below(3)).wrapping_sub(1)
                        };
                        let kind = kinds[random.below(4) as usize];
                        let (start, last) = (near(&mut random), near(&mut random));
                        MapEntry { start, last, kind, line: 1 }
                    })
                    .collect();
                machine.maps.push(crate::MemMap { origin, entries });
            }
            for found in lint(&machine) {
                assert!(LINT_IDS.contains(&found.id));
                assert!(!found.entries.is_empty());
            }
        }
    }
}
