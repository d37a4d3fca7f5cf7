//! An image's places held against what must not be overwritten.

use identmap::{PageSize, PhysRange};
use identmap_linux::alive::{Alive, Harm, alive, memmap_reserved};
use identmap_linux::{Consumer, Kind, needs};
use identmap_machine::{
    Hazard, Layout, LayoutOrigin, Machine, MemType, Severity as HazardSeverity, human_size,
    map_doubts, ranges,
};

use crate::{Confidence, Finding, Severity, findings};

/// The running kernel reserves page 0 and what else it likes in the first MiB for itself
/// (`trim_bios_range()`, `reserve_real_mode()` in `arch/x86`); the next kernel does so again.
const LOW: PhysRange = match PhysRange::new(0, 1 << 20) {
    Ok(range) => range,
    Err(_) => PhysRange::ALL,
};

/// Where the image goes that is judged.
#[derive(Clone, Debug)]
pub(crate) enum Places {
    /// Here.
    Known(Vec<PhysRange>),
    /// One is loaded, and nothing tells.
    NotRead,
    /// Nowhere yet: none is loaded, or it was only supposed.
    None,
}

impl Places {
    /// Of the image that is loaded on the machine.
    pub(crate) fn of(machine: &Machine, kind: Kind) -> Places {
        let loaded = match kind {
            Kind::Kexec => machine.kexec_loaded,
            Kind::Kdump => machine.kexec_crash_loaded,
        };
        match (machine.segments.as_slice(), loaded) {
            ([], Some(true)) => Places::NotRead,
            ([], _) => Places::None,
            (segments, _) => Places::Known(segments.iter().map(|s| s.range).collect()),
        }
    }
}

/// What the segments of a known image are put over; where none is known, what lies in RAM for one to be put over.
pub(crate) fn of_image(
    (machine, layout, hazards): (&Machine, Option<&Layout>, &[Hazard]),
    places: &Places,
    consumer: &Consumer,
    kind: Kind,
) -> Vec<Finding> {
    let handed_over = needs::efi_info(machine, consumer);
    let mut alive = alive(machine, layout);
    alive.retain(|alive| !alive.by_efi || handed_over != Some(false));
    let segments = match places {
        Places::Known(segments) => segments,
        // A crash kernel lies in its reservation, which the running kernel took out of free RAM.
        Places::NotRead | Places::None if kind == Kind::Kdump => return Vec::new(),
        Places::NotRead => {
            return not_read(&alive).into_iter().collect();
        }
        Places::None => return in_ram(&alive).into_iter().collect(),
    };
    let mut found = Vec::new();
    for alive in &alive {
        found.extend(overwritten(alive, segments, handed_over));
    }
    if let Some(layout) = layout {
        let grave = hazards.iter().filter(|h| h.rule.severity > HazardSeverity::Caution);
        let tables = alive.iter().map(|alive| alive.up_to.round_out(PageSize::Size4K));
        let told = grave.map(|hazard| hazard.range).chain(tables).collect();
        let told = ranges::normalise(told);
        for (number, &segment) in segments.iter().enumerate() {
            found.extend(outside_ram(machine, layout, number, segment, &told));
            found.extend(undescribed(machine, layout, number, segment, &told));
        }
    }
    if kind == Kind::Kexec {
        found.extend(past_kho(machine, segments));
    }
    found
}

/// The first of those that kexec takes for free memory, and the names of them.
fn free(alive: &[Alive]) -> Option<(&Alive, String)> {
    let free = || alive.iter().filter(|alive| !alive.kept);
    let first = free().min_by_key(|alive| alive.range)?;
    let mut names: Vec<String> =
        free().map(|a| format!("{} at {}", a.what, a.range.start())).collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let list = names.join(", ");
    Some((first, if more > 0 { format!("{list} and {more} more") } else { list }))
}

/// An image is loaded, and may be put over something: that counts where the next kernel would lose its way.
fn not_read(alive: &[Alive]) -> Option<Finding> {
    let (first, list) = free(alive)?;
    let grave = alive.iter().any(|alive| !alive.kept && alive.harm == Harm::Grave);
    let severity = if grave { Severity::Warning } else { Severity::Info };
    let why = format!("it may be put over {list}: kexec takes this memory for free");
    let what = "an image is loaded, and where it goes could not be read";
    Some(
        Finding::new("image-unknown", severity, Confidence::Unknown, what, why)
            .at(first.range)
            .remedy(
                "check on the machine as root, with /proc/kcore readable; or load it again with \
                 identmap load, which keeps clear of them; or give what kexec -d printed, behind the boot log",
            )
            .link(first.source),
    )
}

/// One line for all, since RAM is large and an image is not: that they lie there is no fault.
fn in_ram(alive: &[Alive]) -> Option<Finding> {
    let (first, list) = free(alive)?;
    let why = format!("{list}: kexec takes this memory for free, and may put an image over it");
    let what = "what the next kernel reads lies in free RAM";
    Some(
        Finding::new("table-in-ram", Severity::Info, Confidence::Certain, what, why)
            .at(first.range)
            .remedy(
                "check again when the image is loaded: its segments are then held against these; \
                 identmap load keeps clear of them",
            )
            .link(first.source),
    )
}

const MOST_NAMES: usize = 8;

fn overwritten(
    alive: &Alive,
    segments: &[PhysRange],
    handed_over: Option<bool>,
) -> Option<Finding> {
    let severity = match alive.harm {
        Harm::Grave => Severity::Error,
        Harm::Lacking => Severity::Warning,
    };
    let over = |range: PhysRange| {
        segments.iter().enumerate().find_map(|(n, s)| Some((n, s, s.intersection(range)?)))
    };
    let read = !alive.by_efi || handed_over == Some(true);
    // What the next kernel may lack keeps no verdict open: that it lacks it would not, either.
    let open = match alive.harm {
        Harm::Grave => Confidence::Unknown,
        Harm::Lacking => Confidence::Likely,
    };
    let (number, segment, shared, how, confidence) = match (over(alive.range), over(alive.up_to)) {
        (Some((number, segment, shared)), _) => {
            let confidence = if read { Confidence::Certain } else { open };
            (number, segment, shared, "is put over it", confidence)
        }
        (None, Some((number, segment, shared))) => {
            let how = "is put right behind where it begins; how long it is, is not known";
            (number, segment, shared, how, open)
        }
        (None, None) => return None,
    };
    let if_read = if read { "" } else { ", if the loader hands efi_info over" };
    let why = format!(
        "it begins at {}, and segment {number}, {segment}, {how}: {}{if_read}",
        alive.range.start(),
        alive.effect
    );
    Some(
        Finding::new("conflict", severity, confidence, alive.what.clone(), why)
            .at(shared)
            .remedy(ELSEWHERE)
            .link(alive.source),
    )
}

const ELSEWHERE: &str = "load the image elsewhere: identmap load keeps clear of it; or kexec -l with --mem-min or \
                         --mem-max";

/// The parts of a segment that are no RAM of the running kernel.
fn outside_ram(
    machine: &Machine,
    layout: &Layout,
    number: usize,
    segment: PhysRange,
    told: &[PhysRange],
) -> Vec<Finding> {
    let firmware = Layout::of_firmware(machine);
    let by_user = memmap_reserved(machine);
    let mut found = Vec::new();
    for region in layout.regions().iter().filter(|region| region.kind != MemType::Usable) {
        let Some(shared) = segment.intersection(region.range) else { continue };
        for part in ranges::subtract(&[shared], told) {
            // What firmware's map leaves out was reserved by the kernel, too.
            let own = firmware.as_ref().is_some_and(|map| {
                map.at(part.start()).is_none_or(|theirs| theirs.kind == MemType::Usable)
            });
            if own && LOW.covers(part) {
                continue;
            }
            let place = Place { number, segment, part };
            found.push(if !own {
                place.not_ram(region.kind)
            } else if by_user.iter().any(|range| range.intersects(part)) {
                place.taken_by_user()
            } else {
                place.kept()
            });
        }
    }
    found
}

/// The parts of a segment that no source describes: holes for devices, and what lies past the end of RAM.
fn undescribed(
    machine: &Machine,
    layout: &Layout,
    number: usize,
    segment: PhysRange,
    told: &[PhysRange],
) -> Vec<Finding> {
    let firmware = Layout::of_firmware(machine);
    let described = layout.regions().iter().map(|region| region.range);
    let known = ranges::normalise(described.chain(told.iter().copied()).collect());
    let is_all = layout.origin() == LayoutOrigin::Iomem
        && findings::is_whole(layout)
        && map_doubts(machine).is_empty();
    let mut found = Vec::new();
    for part in ranges::subtract(&[segment], &known) {
        let theirs = firmware.iter().flat_map(|map| map.of_kind(MemType::Usable));
        let theirs = ranges::intersect(&[part], &ranges::normalise(theirs.collect()));
        let place = |&part: &PhysRange| Place { number, segment, part };
        found.extend(theirs.iter().map(|part| place(part).left_out()));
        let nobodys = ranges::subtract(&[part], &theirs);
        found.extend(nobodys.iter().map(|part| place(part).nobodys(is_all)));
    }
    found
}

/// A part of a segment.
struct Place {
    number: usize,
    segment: PhysRange,
    part: PhysRange,
}

impl Place {
    fn finding(
        &self,
        severity: Severity,
        confidence: Confidence,
        what: impl Into<String>,
        why: &str,
    ) -> Finding {
        let why = format!("segment {}, {}, is put over it: {why}", self.number, self.segment);
        Finding::new("conflict", severity, confidence, what, why).at(self.part).remedy(ELSEWHERE)
    }

    /// Firmware, too, says that it is no RAM.
    fn not_ram(&self, kind: MemType) -> Finding {
        let (confidence, why) = match kind {
            MemType::AcpiData => {
                (Confidence::Certain, "the next kernel finds its ACPI tables damaged")
            }
            MemType::AcpiNvs => (Confidence::Certain, "firmware finds its own data damaged"),
            MemType::Unusable => (Confidence::Likely, "firmware found errors in it"),
            MemType::Persistent | MemType::PersistentLegacy => {
                (Confidence::Certain, "what is stored there is lost")
            }
            MemType::SoftReserved => {
                (Confidence::Likely, "it is kept for a driver, and is no RAM to the next kernel")
            }
            _ => (Confidence::Certain, "it is firmware's, or a device's"),
        };
        self.finding(Severity::Error, confidence, format!("{kind} memory"), why)
    }

    /// `memmap=SIZE$START`: the next kernel may be told the same, and then lies outside its own RAM.
    fn taken_by_user(&self) -> Finding {
        let why = "it was taken out of RAM on the command line (memmap=), as for the crash log of ramoops: \
                   what is there is lost";
        let what = "memory set aside with memmap=";
        self.finding(Severity::Warning, Confidence::Certain, what, why)
    }

    /// In no map.
    fn nobodys(&self, is_all: bool) -> Finding {
        let what = "memory that nothing describes";
        let why =
            "a device's registers, or nothing at all: what is copied there is lost, or does harm";
        if is_all {
            return self.finding(Severity::Error, Confidence::Certain, what, why);
        }
        let why = format!("{why}; unless it is RAM that was added while running");
        let finding = self.finding(Severity::Error, Confidence::Unknown, what, &why);
        finding.remedy(format!(
            "give /proc/iomem, read as root, which has all of the memory; or {ELSEWHERE}"
        ))
    }

    /// RAM to firmware, and nothing to the running kernel: `mem=`, or a line of its map is lost.
    fn left_out(&self) -> Finding {
        let size = human_size(self.part.len());
        let what = format!("{size} that the running kernel leaves out and firmware calls RAM");
        let why = "why it does not use it is not known (mem= on the command line does so): where the next kernel \
                   leaves it out too, it lies outside of its own RAM";
        self.finding(Severity::Warning, Confidence::Unknown, what, why)
    }

    /// RAM to firmware, not to the running kernel: mostly a table of firmware's that it keeps
    /// (`efi_arch_mem_reserve()`).
    fn kept(&self) -> Finding {
        let size = human_size(self.part.len());
        let what = format!("{size} that the running kernel keeps and firmware calls RAM");
        let why = "what is there is not known: mostly a table or a picture of firmware's";
        self.finding(Severity::Warning, Confidence::Unknown, what, why).link(KEPT)
    }
}

const KEPT: &str = "Linux arch/x86/platform/efi/quirks.c, efi_arch_mem_reserve(), 5.10.262 to 7.3.4; af164898482817";

/// KHO is on, and this image was not placed by it.
fn past_kho(machine: &Machine, segments: &[PhysRange]) -> Option<Finding> {
    let scratch = ranges::normalise(machine.kho_scratch.clone());
    if scratch.is_empty()
        || ranges::subtract(&ranges::normalise(segments.to_vec()), &scratch).is_empty()
    {
        return None;
    }
    let why = "segments lie outside KHO's scratch areas, where kexec_file_load puts all of them while KHO is on: \
               this image was loaded with kexec_load and carries no hand-over, and whatever was preserved for the \
               next kernel (live update) is lost";
    let what = "the image does not carry KHO's hand-over";
    Some(
        Finding::new("kho", Severity::Warning, Confidence::Certain, what, why)
            .remedy("if something is to be handed over, load with kexec -s")
            .link("Linux kernel/liveupdate/kexec_handover.c, kho_locate_mem_hole(), 7.3.4"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u64, len: u64) -> PhysRange {
        PhysRange::from_len(start, len).unwrap()
    }

    #[test]
    fn an_image_outside_of_khos_scratch_carries_no_hand_over() {
        let ids = |scratch: &[PhysRange], segments: &[PhysRange], kind| {
            let machine = Machine { kho_scratch: scratch.to_vec(), ..Machine::default() };
            let places = Places::Known(segments.to_vec());
            let found = of_image((&machine, None, &[]), &places, &Consumer::default(), kind);
            found.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>()
        };
        // Two areas that meet, and a segment over both.
        let scratch = [at(0x1000_0000, 0x100_0000), at(0x1100_0000, 0x100_0000)];
        let inside = at(0x10f0_0000, 0x20_0000);
        let outside = at(0x1200_0000, 0x1000);
        assert_eq!(ids(&scratch, &[inside], Kind::Kexec), []);
        assert_eq!(ids(&scratch, &[inside, outside], Kind::Kexec), [("kho", Severity::Warning)]);
        assert_eq!(ids(&scratch, &[outside], Kind::Kdump), [], "a crash kernel gets no hand-over");
        assert_eq!(ids(&[], &[outside], Kind::Kexec), [], "KHO is off, or not known");
    }
}
