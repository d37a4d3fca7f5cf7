//! From facts to findings: the words, the severities, the remedies.

use identmap::{PhysRange, PlanError};
use identmap_linux::firmware::Basis;
use identmap_linux::{Condition, Consumer, KernelVersion, Kind, Need, PolicyKind, Producer, traps};
use identmap_machine::{
    Certainty, Layout, Machine, MapOrigin, MemType, Severity as HazardSeverity, human_size, lint,
    map_doubts, ranges, undecided,
};

use crate::scene::{Exposure, Fate, NeedFate, Scene};
use crate::{Confidence, Finding, Severity, TablesUnusable, Verdict, encryption, known_bad};

/// The commit that made Linux request the configuration table, and where it is.
const CFG_FIX: &str = "a producer that requests it: 6.1.113, 6.6.55, 6.10.14, 6.11.3 or later \
                       (commit 5760929f6545)";

/// What keeps the verdict on a jump from being safe, whatever the map is like.
#[must_use]
pub fn doubts(
    machine: &Machine,
    layout: Option<&Layout>,
    (producer, consumer): (&Producer, &Consumer),
    kind: Kind,
    by: By,
) -> Vec<Finding> {
    let mut found = beside_the_map(machine, layout, (producer, consumer), kind, by);
    found.retain(|finding| finding.verdict() != Verdict::Safe);
    found
}

/// What a verdict rests on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum By {
    /// Rules, for this producer.
    Rules,
    /// Rules, for producers of which all that decides the map is supposed.
    SupposedMaps,
    /// A run of the consumer, which has seen what it touches, and whether a change of levels goes well.
    Run,
}

/// All that there is to say of a jump besides its map and where its image goes.
pub(crate) fn beside_the_map(
    machine: &Machine,
    layout: Option<&Layout>,
    (producer, consumer): (&Producer, &Consumer),
    kind: Kind,
    by: By,
) -> Vec<Finding> {
    let mut found = of_machine(machine, layout);
    if by != By::SupposedMaps {
        found.extend(of_producer(producer));
    }
    found.extend(encryption::of_machine(machine, producer, consumer, kind));
    if by != By::Run {
        found.extend(of_consumer(consumer));
    }
    if by == By::Rules {
        found.extend(of_level_change(machine, producer, consumer));
    }
    found
}

/// What the machine's texts alone say: missing, damaged, contradictory.
pub(crate) fn of_machine(machine: &Machine, layout: Option<&Layout>) -> Vec<Finding> {
    let mut found = Vec::new();
    let doubt = |id, what: &str, why: &str| {
        Finding::new(id, Severity::Warning, Confidence::Unknown, what, why)
    };
    match layout {
        None => found.push(
            doubt(
                "no-memory-map",
                "no memory map",
                "nothing tells where RAM and reserved memory lie",
            )
            .remedy(
                "give a boot log (dmesg) with its BIOS-e820 lines, or /proc/iomem read as root",
            ),
        ),
        Some(layout) if !is_whole(layout) => found.push(
            doubt(
                "partial-map",
                "the memory map is not whole",
                "it has no RAM below 1 MiB or none between 1 and 16 MiB, as every PC has: \
                 what is missing may be what matters",
            )
            .remedy("give the whole map"),
        ),
        Some(_) => {}
    }
    for missing in map_doubts(machine) {
        let what = "the memory map may not be the running kernel's, or not whole";
        found.push(doubt("partial-map", what, &missing.why).remedy(missing.supply));
    }
    for missing in undecided(machine) {
        let finding = doubt("hazard-unknown", missing.rule.title, missing.why);
        found.push(finding.remedy(missing.supply).link(missing.rule.source));
    }
    let cpu = &machine.cpu;
    // Of a guest that surely is one, see `encryption`.
    if (cpu.encrypted_guest, cpu.hypervisor, cpu.sev) == (None, Some(true), Some(true)) {
        let what = "this may be an encrypted guest";
        let why = "a virtual machine with SEV in CPUID, and nothing tells whether its memory is encrypted: then \
                   every entry carries the C-bit, which is not modelled";
        let supply =
            "give the whole boot log: it has \"Memory Encryption Features active\" if it is";
        found.push(doubt("encrypted-guest", what, why).remedy(supply));
    }
    if machine.maps.iter().any(|map| map.origin == MapOrigin::XenE820) {
        let why = "kexec goes through the hypervisor, whose map is not modelled; in a guest it does not work";
        found.push(doubt("xen-pv", "a paravirtual kernel of Xen", why));
    }
    if machine.kernel_is_32bit == Some(true) {
        found.push(other_architecture("running", "32-bit x86"));
    }
    for note in machine.notes.iter().filter(|note| note.unreadable) {
        let why =
            "what is not read is not known; it counts against a safe verdict where it matters";
        let what = note.text.as_str();
        found.push(Finding::new("unreadable", Severity::Info, Confidence::Certain, what, why));
    }
    for lint in lint(machine) {
        let id = if lint.id.starts_with("overlap") { "overlap" } else { "map-lint" };
        let finding = Finding::new(id, Severity::Info, Confidence::Certain, lint.message, lint.why);
        found.push(match lint.range {
            Some(range) => finding.at(range),
            None => finding,
        });
    }
    found
}

/// Whether it has the RAM that every PC has.
pub(crate) fn is_whole(layout: &Layout) -> bool {
    let has_ram = |start, end| {
        PhysRange::new(start, end)
            .is_ok_and(|window| layout.of_kind(MemType::Usable).any(|ram| ram.intersects(window)))
    };
    has_ram(0, 1 << 20) && has_ram(1 << 20, 16 << 20)
}

/// The image's own tables were read, but are not what a plan could be.
pub(crate) fn of_unusable_tables(why: TablesUnusable) -> Option<Finding> {
    // What was not read is modelled, as without an image; what was read and is not Linux's map is
    // another matter.
    (why != TablesUnusable::NotWhole).then(|| {
        let text = "this is no map that Linux makes; what is said here of a map holds for the modelled one";
        Finding::new("tables", Severity::Warning, Confidence::Unknown, why.to_string(), text)
            .remedy("look at them: identmap tables --live")
    })
}

fn other_architecture(which: &str, name: &str) -> Finding {
    let what = format!("the {which} kernel is not one for x86-64");
    let why = format!("it is built for {name}; what is said here holds for x86-64 only");
    Finding::new("other-architecture", Severity::Warning, Confidence::Unknown, what, why)
}

/// What is not known of the consumer itself.
pub(crate) fn of_consumer(consumer: &Consumer) -> Vec<Finding> {
    let mut found = Vec::new();
    let other = consumer.version.as_ref().and_then(KernelVersion::other_architecture);
    found.extend(other.map(|name| other_architecture("next", name)));
    if consumer.is_newer_than_read() {
        let what = "the next kernel is newer than every kernel this version knows";
        let why = "what it touches is taken from the newest one read, which may be wrong";
        found.push(
            Finding::new("consumer-newer", Severity::Warning, Confidence::Unknown, what, why)
                .remedy("run its first instructions: --kernel FILE"),
        );
    }
    found
}

/// What is not known of the producer itself.
pub(crate) fn of_producer(producer: &Producer) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(why) = producer.traits().why() {
        let what = "what the running kernel does is not certain";
        let finding =
            Finding::new("producer-unknown", Severity::Info, Confidence::Unknown, what, why);
        found.push(finding.remedy("say --producer VERSION (uname -r), or capture on the machine"));
    }
    let other = producer.version().and_then(KernelVersion::other_architecture);
    found.extend(other.map(|name| other_architecture("running", name)));
    if producer.is_newer_than_read() {
        let what = "the running kernel is newer than every kernel this version knows";
        let why = "its rules are taken from the newest one read, which may be wrong";
        found.push(Finding::new(
            "producer-newer",
            Severity::Warning,
            Confidence::Unknown,
            what,
            why,
        ));
    }
    found
}

/// What can go wrong although everything is mapped.
pub(crate) fn of_level_change(
    machine: &Machine,
    producer: &Producer,
    consumer: &Consumer,
) -> Vec<Finding> {
    let candidates = producer.traits().candidates();
    let changes: Vec<Option<bool>> =
        candidates.iter().map(|t| traps::level_change(machine, t, consumer)).collect();
    let (what, first, remedy) = if changes.contains(&Some(true)) {
        let first = "this one runs with 5";
        (
            "a new kernel that runs with 4 levels resets",
            first,
            "boot the running kernel with no5lvl",
        )
    } else if changes.contains(&None) {
        let first = "whether this one runs with 5 is not known; if it does";
        let remedy = "say whether the processor can: --la57 on or off; or give the boot log from \
                      \"max_arch_pfn\" on";
        ("a new kernel that runs with 4 levels may reset", first, remedy)
    } else {
        return Vec::new();
    };
    let why = format!(
        "{first}, a flag in the first entry of its top table becomes a part of an address when a kernel \
         without the fix goes down to 4 (no5lvl, or built without CONFIG_X86_5LEVEL)"
    );
    let fixed = match consumer.version {
        Some(_) => "take a kernel with the fix: 6.1.160, 6.12.63, 7.2.13",
        None => {
            "say which kernel follows: --consumer VERSION (6.1.160, 6.12.63 and 7.2.13 have the fix)"
        }
    };
    let finding = Finding::new("level-change", Severity::Warning, Confidence::Unknown, what, why)
        .remedy(format!("{fixed}; or {remedy}"))
        .link(traps::LEVEL_CHANGE_SOURCE)
        .known(Some(known_bad::LEVEL_CHANGE));
    vec![finding]
}

pub(crate) fn of_plan_error(error: PlanError) -> Finding {
    let finding = Finding::new(
        "no-plan",
        Severity::Warning,
        Confidence::Unknown,
        "no map can be planned",
        error.to_string(),
    );
    match error {
        PlanError::PastPhysLimit { request, .. }
        | PlanError::NotCanonical { request, .. }
        | PlanError::Conflict { request, .. } => finding.at(request),
        _ => finding,
    }
}

/// Gaps, luck, exposures and conflicts of one map.
pub(crate) fn of_scene(scene: &Scene) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        scene.needs.iter().flat_map(|need| of_need(need, scene)).collect();
    // The run says more of what it stopped at.
    let told = |gap: &Finding| {
        let of_run = |f: &Finding| Some(f.range?.intersects(gap.range?));
        gap.id == "gap" && scene.run.iter().any(|f| of_run(f) == Some(true))
    };
    found.retain(|finding| !told(finding));
    found.extend(scene.run.iter().cloned());
    found.extend(scene.exposures.iter().filter(|e| e.is_grave()).flat_map(of_grave_exposure));
    found.extend(of_cautions(&scene.exposures));
    found
}

fn of_need(fate: &NeedFate, scene: &Scene) -> Vec<Finding> {
    let known = known_bad::of_gap(fate.need.rule, &scene.traits, scene.gbpages);
    let found = of_need_alone(fate, scene).into_iter();
    found.map(|finding| if finding.id == "gap" { finding.known(known) } else { finding }).collect()
}

fn of_need_alone(fate: &NeedFate, scene: &Scene) -> Vec<Finding> {
    let need = &fate.need;
    let supply = supply(&fate.ways);
    match &fate.fate {
        Fate::Requested => Vec::new(),
        Fate::Lucky(parts) => parts.iter().map(|part| luck(need, *part, scene)).collect(),
        Fate::Missing(parts) => {
            let gap = |part: &PhysRange| {
                let confidence =
                    if fate.is_certain() { Confidence::Certain } else { Confidence::Unknown };
                let why = format!(
                    "read by {}{}; {}",
                    need.rule.when,
                    conditions_text(&fate.ways),
                    nearest(scene, *part)
                );
                let finding = Finding::new("gap", Severity::Error, confidence, &need.what, why)
                    .at(*part)
                    .link(need.rule.source);
                match (gap_remedy(need, scene), supply.clone()) {
                    (Some(fix), Some(fact)) => finding.remedy(format!("{fact}; or {fix}")),
                    (Some(text), None) | (None, Some(text)) => finding.remedy(text),
                    (None, None) => finding,
                }
            };
            parts.iter().map(gap).collect()
        }
        Fate::MissingIfIn(parts) => {
            let gap = |part: &PhysRange| {
                let why = format!(
                    "its address is not known; {}; anywhere inside this range it is a gap; read by {}{}",
                    supposed(need),
                    need.rule.when,
                    conditions_text(&fate.ways)
                );
                let place = supply_place(need);
                let facts = [Some(place), supply.clone()].into_iter().flatten();
                Finding::new("gap", Severity::Error, Confidence::Unknown, &need.what, why)
                    .at(*part)
                    .remedy(facts.collect::<Vec<_>>().join("; "))
                    .link(need.rule.source)
            };
            parts.iter().map(gap).collect()
        }
        Fate::MappedIfThere { lucky } => {
            let sure = basis(need) == Some(Basis::EfiMap);
            let confidence = if sure { Confidence::Likely } else { Confidence::Unknown };
            let how = if lucky.is_empty() { "mapped" } else { "mapped by over-reach only" };
            let why = format!(
                "its address is not known; {}, and all of that is {how}; read by {}{}",
                supposed(need),
                need.rule.when,
                conditions_text(&fate.ways)
            );
            let facts = [Some(supply_place(need)), supply].into_iter().flatten();
            let finding = Finding::new("luck", Severity::Warning, confidence, &need.what, why)
                .remedy(facts.collect::<Vec<_>>().join("; "))
                .link(need.rule.source);
            vec![finding]
        }
        Fate::PlaceUnknown => {
            let why = format!(
                "nothing tells where it lies; read by {}{}",
                need.rule.when,
                conditions_text(&fate.ways)
            );
            let facts = [Some(supply_place(need)), supply].into_iter().flatten();
            let finding =
                Finding::new("gap", Severity::Error, Confidence::Unknown, &need.what, why)
                    .remedy(facts.collect::<Vec<_>>().join("; "))
                    .link(need.rule.source);
            vec![finding]
        }
    }
}

fn luck(need: &Need, part: PhysRange, scene: &Scene) -> Finding {
    let run = scene.coverage.at(part.start());
    let size = run.map_or("large", |run| run.size().name());
    let ranges = scene.list.ranges();
    let made_by = scene.coverage.made_by(part.start(), &ranges).map_or(String::new(), |index| {
        format!(" made for {} {}", source_name(scene, index), ranges[index])
    });
    let why = format!(
        "mapped only because it shares a {size} leaf{made_by}: gone with a finer policy{}",
        if size == "1G" { " or nogbpages" } else { "" }
    );
    Finding::new("luck", Severity::Warning, Confidence::Certain, &need.what, why)
        .at(part)
        .link(need.rule.source)
}

fn source_name(scene: &Scene, index: usize) -> &'static str {
    use identmap_linux::RequestSource;
    match scene.list.requests.get(index).map(|request| request.source) {
        Some(RequestSource::DirectMap) | None => "RAM",
        Some(RequestSource::Segment(_)) => "an image segment",
        Some(RequestSource::EfiSystemTable) => "the EFI system table",
        Some(RequestSource::EfiConfigTable) => "the EFI configuration table",
        Some(RequestSource::AcpiTables) => "ACPI tables",
        Some(RequestSource::AcpiNvs) => "ACPI NVS",
        Some(RequestSource::Synthetic) => "a synthetic entry",
    }
}

fn nearest(scene: &Scene, gap: PhysRange) -> String {
    match scene.coverage.neighbours(gap.start()) {
        (Some(below), _) => format!("the nearest mapped byte below is {}", below.last()),
        (None, Some(above)) => format!("the nearest mapped byte above is {}", above.start()),
        (None, None) => "nothing is mapped".to_owned(),
    }
}

fn of_grave_exposure(exposure: &Exposure) -> Vec<Finding> {
    let rule = exposure.hazard.rule;
    let confidence = match exposure.hazard.certainty {
        Certainty::Certain => Confidence::Certain,
        Certainty::Likely => Confidence::Likely,
    };
    let effect = match rule.severity {
        HazardSeverity::Halt => "any present entry can halt the machine: speculation is enough",
        HazardSeverity::Fault => "an access faults",
        HazardSeverity::Poison => "an access raises a machine check",
        HazardSeverity::Caution => "unwise",
    };
    let (id, how) = if exposure.requested {
        ("conflict", "a request asks for it")
    } else {
        ("exposure", "a large leaf reaches over it")
    };
    let remedy = if exposure.requested {
        "do not kexec on this machine before that is resolved"
    } else {
        "boot the running kernel with nogbpages, or one with the exact policy (6.6.78, 6.11.3, \
         6.12, 6.1.188 or later)"
    };
    let finding = |part: &PhysRange| {
        let why = format!("{how}; {effect}");
        Finding::new(id, Severity::Error, confidence, rule.title, why)
            .at(*part)
            .remedy(remedy)
            .link(rule.source)
            .known(known_bad::of_exposure(rule.id, exposure.requested))
    };
    exposure.mapped.iter().map(finding).collect()
}

/// What is only unwise: one line a rule, with the sum.
fn of_cautions(exposures: &[Exposure]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let cautions = exposures.iter().filter(|e| !e.is_grave() && !e.requested);
    let mut rules: Vec<(&Exposure, Vec<PhysRange>)> = Vec::new();
    for exposure in cautions {
        match rules.iter_mut().find(|(known, _)| known.hazard.rule == exposure.hazard.rule) {
            Some((_, parts)) => parts.extend(&exposure.mapped),
            None => rules.push((exposure, exposure.mapped.clone())),
        }
    }
    for (exposure, parts) in rules {
        let parts = ranges::normalise(parts);
        let rule = exposure.hazard.rule;
        let size = human_size(ranges::total(&parts));
        let count = match parts.len() {
            1 => String::new(),
            many => format!(" in {many} ranges"),
        };
        let why = format!("{size}{count} mapped by over-reach; unwise");
        let finding =
            Finding::new("exposure", Severity::Info, Confidence::Certain, rule.title, why);
        let finding = finding.link(rule.source);
        found.push(match parts.first() {
            Some(first) => finding.at(*first),
            None => finding,
        });
    }
    found
}

/// What would map the missing thing, in words that can be acted on.
fn gap_remedy(need: &Need, scene: &Scene) -> Option<String> {
    let is_config = need.what.contains("configuration table");
    let mut ways = Vec::new();
    if is_config && !scene.traits.config_table {
        ways.push(format!("kexec from {CFG_FIX}"));
    }
    if !scene.gbpages && scene.traits.policy == PolicyKind::RoundOut {
        ways.push(
            "boot the running kernel without nogbpages, where it may be mapped by luck".to_owned(),
        );
    }
    (!ways.is_empty()).then(|| ways.join("; or "))
}

fn supply_place(need: &Need) -> String {
    let what = &need.what;
    if what.contains("configuration table") {
        "say where it lies: --config-table ADDR (root reads it in /sys/firmware/efi/config_table)"
            .to_owned()
    } else if what.contains("system table") {
        "say where it lies: --system-table ADDR (in /sys/kernel/boot_params/data)".to_owned()
    } else {
        format!("find out where it lies: {what}")
    }
}

/// Which facts would settle whether something is touched at all.
fn supply(ways: &[Vec<Condition>]) -> Option<String> {
    if ways.iter().any(Vec::is_empty) {
        return None;
    }
    let of = |condition: &Condition| match condition {
        Condition::SevInCpuid => {
            Some("say --sev on or off (CPUID 0x8000001F EAX bit 1; off if the leaf is absent)")
        }
        Condition::ConsumerAmong(_) => Some("say which kernel follows: --consumer VERSION"),
        Condition::PagingLevelChange | Condition::BootedByBios | Condition::EfiInfoHandedOver => {
            None
        }
    };
    let mut texts: Vec<&str> = ways.iter().flatten().filter_map(of).collect();
    texts.sort_unstable();
    texts.dedup();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn conditions_text(ways: &[Vec<Condition>]) -> String {
    if ways.iter().any(Vec::is_empty) {
        return String::new();
    }
    let way = |way: &Vec<Condition>| {
        let all: Vec<String> = way.iter().map(ToString::to_string).collect();
        format!("if {}", all.join(" and "))
    };
    let ways: Vec<String> = ways.iter().map(way).collect();
    format!(", {}", ways.join("; or "))
}

fn basis(need: &Need) -> Option<Basis> {
    match &need.place {
        identmap_linux::Place::Within { basis, .. } => *basis,
        _ => None,
    }
}

fn supposed(need: &Need) -> &'static str {
    match basis(need) {
        Some(Basis::EfiMap) => "firmware puts it in run-time services data",
        Some(Basis::ReservedNearRam) => "it is supposed to lie in reserved memory near RAM",
        None => "it lies in a known region",
    }
}
