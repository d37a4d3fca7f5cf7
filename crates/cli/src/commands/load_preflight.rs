//! The preflight of what `load` is about to load: exactly these segments, from the purgatory's entry on.

use identmap_audit::Verdict;
use identmap_kexec::Image;
use identmap_linux::Kind;
use identmap_machine::Machine;

use crate::output::Failure;

/// The verdict of rules and preflight together, and what it rests on.
#[cfg(not(feature = "preflight"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(super) fn run(
    _: &Machine,
    _: Kind,
    _: &Image,
    rules: Verdict,
    _: bool,
) -> Result<(Verdict, String), Failure> {
    let by = "rules only: this identmap was built without the preflight";
    Ok((rules, by.to_owned()))
}

/// The verdict of rules and preflight together, and what it rests on.
///
/// The purgatory begins under the map that the running kernel would make for these segments, under each where its
/// version leaves several open, and goes on under ours.
#[cfg(feature = "preflight")]
pub(super) fn run(
    machine: &Machine,
    kind: Kind,
    image: &Image,
    rules: Verdict,
    live: bool,
) -> Result<(Verdict, String), Failure> {
    use identmap_machine::Layout;
    use identmap_preflight::{Content, CpuProfile, Limits, Outcome, Segments, with_facts};

    let Some(layout) = Layout::of(machine) else { return Ok((rules, "rules only".to_owned())) };
    if machine.cpu.encrypted_guest == Some(true) {
        let by = format!("rules ({rules}) only: the preflight does not model an encrypted guest");
        return Ok((rules.max(Verdict::Unknown), by));
    }
    // The image's levels are those of the running kernel, also where only --levels tells them.
    let five = image.coverage.config.levels == identmap::Levels::Five;
    let mut told = machine.clone();
    told.cpu.la57_active = Some(five);
    if five {
        told.cpu.la57 = Some(true);
    }
    let machine = &told;
    let contents: Vec<Content> = image
        .segments
        .iter()
        .map(|segment| Content {
            name: segment.name.to_owned(),
            range: segment.range,
            bytes: segment.bytes.clone(),
            loaded: true,
        })
        .collect();
    let own: Vec<_> = image
        .segments
        .iter()
        .filter(|segment| segment.name == "page tables")
        .map(|segment| segment.range)
        .collect();
    let source = if live { "live" } else { "" };
    let (known, _) = with_facts(machine, &crate::firmware::known(source, machine, None));
    let bytes: u64 = contents.iter().map(|content| content.bytes.len() as u64).sum();
    let segments = Segments {
        machine,
        layout: &layout,
        contents: &contents,
        entry: image.entry,
        own_tables: &own,
        kind,
        cpu: CpuProfile::of(&machine.cpu),
        known: &known,
        limits: Limits::for_purgatory(bytes),
    };
    let (mut worst, mut sentence, mut seen) = (Verdict::Safe, String::new(), Vec::new());
    for traits in crate::source::producer(machine).traits().candidates() {
        for &large in identmap_linux::gbpages(machine).candidates() {
            let scene = segments.under(traits, large).map_err(Failure::new)?;
            if seen.contains(&scene) {
                continue;
            }
            let report = super::preflight::emulate(&scene).map_err(Failure::new)?;
            seen.push(scene);
            let verdict = match &report.outcome {
                Outcome::Reached { .. } => Verdict::Safe,
                Outcome::Fault(_) | Outcome::Halted { .. } => Verdict::Unsafe,
                Outcome::Unknown(_) => Verdict::Unknown,
            };
            if sentence.is_empty() || verdict > worst {
                sentence =
                    format!("{}, after {} instructions", report.outcome, report.instructions);
            }
            worst = worst.max(verdict);
        }
    }
    if seen.is_empty() {
        return Ok((rules.max(Verdict::Unknown), format!("rules ({rules}) only")));
    }
    Ok((rules.max(worst), format!("rules ({rules}) and preflight ({worst}): {sentence}")))
}
