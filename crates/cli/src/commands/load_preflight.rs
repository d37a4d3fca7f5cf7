//! The preflight of what `load` is about to load: exactly these segments, from the purgatory's entry on.

use identmap_audit::Verdict;
use identmap_kexec::Image;
use identmap_machine::Machine;

use crate::output::Failure;

/// The verdict of rules and preflight together, and what it rests on.
#[cfg(not(feature = "preflight"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(super) fn run(_: &Machine, _: &Image, rules: Verdict) -> Result<(Verdict, String), Failure> {
    let by = "rules only: this identmap was built without the preflight";
    Ok((rules, by.to_owned()))
}

/// The verdict of rules and preflight together, and what it rests on.
///
/// The purgatory runs under our tables from its first instruction; its way there under the running
/// kernel's map is left to the rules.
#[cfg(feature = "preflight")]
pub(super) fn run(
    machine: &Machine,
    image: &Image,
    rules: Verdict,
) -> Result<(Verdict, String), Failure> {
    use identmap_preflight::Outcome;

    let scene = scene(machine, image);
    let report = super::preflight::emulate(&scene).map_err(Failure::new)?;
    let own = match &report.outcome {
        Outcome::Reached { .. } => Verdict::Safe,
        Outcome::Fault(_) | Outcome::Halted { .. } => Verdict::Unsafe,
        Outcome::Unknown(_) => Verdict::Unknown,
    };
    let by = format!(
        "rules ({rules}) and preflight ({own}): {}, after {} instructions",
        report.outcome, report.instructions
    );
    Ok((rules.max(own), by))
}

#[cfg(feature = "preflight")]
fn scene(machine: &Machine, image: &Image) -> identmap_preflight::Scene {
    use identmap_preflight::{CR0_KEXEC, Content, CpuProfile, Limits, Scene, firmware_tables};

    let mut contents: Vec<Content> = image
        .segments
        .iter()
        .map(|segment| Content {
            name: segment.name.to_owned(),
            range: segment.range,
            bytes: segment.bytes.clone(),
            loaded: true,
        })
        .collect();
    let mut assumptions = Vec::new();
    let tables = firmware_tables(machine, &mut assumptions);
    contents.extend(tables.into_iter().filter(|table| {
        !image.segments.iter().any(|segment| segment.range.intersects(table.range))
    }));
    let cpu = CpuProfile::of(&machine.cpu);
    let mut paging = image.coverage.config.paging();
    paging.pdpe1gb = cpu.pdpe1gb;
    // The purgatory reads every byte: without the CRC32 instruction it takes about three instructions for each.
    let bytes: u64 = image.segments.iter().map(|segment| segment.bytes.len() as u64).sum();
    let usual = Limits::default();
    let limits = Limits {
        instructions: usual.instructions + 8 * bytes,
        memory: usual.memory + bytes,
        time: usual.time + std::time::Duration::from_secs(bytes >> 22),
    };
    let root = image.root & !image.coverage.config.encryption_mask;
    Scene {
        contents,
        entry: image.entry.get(),
        rsi: 0,
        rsp: 0,
        root: identmap::PhysAddr::new(root).unwrap_or(identmap::PhysAddr::ZERO),
        tables: image
            .segments
            .iter()
            .filter(|segment| segment.name == "page tables")
            .map(|segment| segment.range)
            .collect(),
        paging,
        cr0: CR0_KEXEC,
        cpu,
        limits,
        places: image.wanted.clone(),
    }
}
