//! What is made of runs, on kernels of a few instructions.

mod common;

use common::{OWN_TABLES, own_tables};
use identmap::{Levels, PhysRange};
use identmap_audit::{Confidence, Ended, Finding, Outcome as Cell, PolicyKind, Severity, Trial};
use identmap_linux::boot::Strategy;
use identmap_linux::{KernelVersion, Producer};
use identmap_machine::{Certainty, Hazard, Layout, Machine, RULES, Severity as Grave, parse};
use identmap_preflight::judge::{Jump, Observed, Run, Runs};
use identmap_preflight::{CpuProfile, Limits, Setup, run};
use made_kernel::BzImage;

/// Reserved memory between RAM, far from either: a hole in Linux's maps, unless 1 GiB leaves reach over it.
const HOLE: u64 = 0x4800_0000;
const OTHER: u64 = 0x48a0_0000;

/// `mov rbx, addr; mov rcx, [rbx]`.
fn read(addr: u64) -> Vec<u8> {
    [&[0x48, 0xbb][..], &addr.to_le_bytes(), &[0x48, 0x8b, 0x0b]].concat()
}

fn kernel(code: &[&[u8]]) -> Vec<u8> {
    BzImage { code: &code.concat(), ..BzImage::default() }.bytes()
}

fn machine() -> Machine {
    let text = "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
                BIOS-e820: [mem 0x0000000000100000-0x0000000043ffffff] usable\n\
                BIOS-e820: [mem 0x0000000044000000-0x000000004fffffff] reserved\n\
                BIOS-e820: [mem 0x0000000060000000-0x000000007fffffff] usable\n";
    let mut machine = parse::machine("test", text.as_bytes()).unwrap();
    machine.efi.booted = Some(false);
    machine
}

/// Hands over a jump from `release` into `code`, with 1 GiB pages or without.
fn jump<T>(
    code: &[&[u8]],
    release: &str,
    gbpages: bool,
    hazards: &[Hazard],
    look: impl FnOnce(&Jump<'_>, &mut Runs<'_>) -> T,
) -> T {
    jump_with(&mut run, code, release, gbpages, hazards, look)
}

fn jump_with<T>(
    engine: &mut Run<'_>,
    code: &[&[u8]],
    release: &str,
    gbpages: bool,
    hazards: &[Hazard],
    look: impl FnOnce(&Jump<'_>, &mut Runs<'_>) -> T,
) -> T {
    let (image, machine) = (kernel(code), machine());
    let layout = Layout::of(&machine).unwrap();
    let setup = Setup {
        machine: &machine,
        layout: &layout,
        image: &image,
        cmdline: "",
        initrd_len: 0,
        strategy: Strategy::TopDown,
        cpu: CpuProfile::named("amd-sev").unwrap(),
        known: &[own_tables(Levels::Four)],
        limits: Limits { instructions: 1000, ..Limits::default() },
    };
    let loaded = setup.load().unwrap();
    let producer = Producer::of(KernelVersion::parse(release, None).ok());
    let traits = producer.traits().candidates()[0];
    let (loaded, producer) = (&loaded, &producer);
    let jump = Jump { loaded, producer, traits, gbpages, entries: &[], hazards };
    let mut runs = Runs::new(engine);
    look(&jump, &mut runs)
}

fn observe(code: &[&[u8]], release: &str) -> Observed {
    jump(code, release, true, &[], |jump, runs| jump.observe(runs).unwrap())
}

fn only(observed: &Observed) -> &Finding {
    assert_eq!(observed.seen.findings.len(), 1, "{:?}", observed.seen.findings);
    &observed.seen.findings[0]
}

fn page(start: u64) -> PhysRange {
    PhysRange::from_len(start, 4096).unwrap()
}

#[test]
fn two_holes_are_two_entries_and_each_is_proved() {
    let code = [&read(HOLE + 0x10)[..], &read(HOLE + 0x1000), &read(OTHER + 8), &OWN_TABLES];
    let (observed, general) = jump(&code, "6.12.30", true, &[], |jump, runs| {
        (jump.observe(runs).unwrap(), jump.diagnose_and_generalise(runs).1)
    });
    let diagnosis = observed.diagnosis.as_ref().unwrap();
    // The second read is in the first one's 2 MiB.
    assert_eq!(diagnosis.ranges(), [page(HOLE), page(OTHER)]);
    assert!(diagnosis.is_proved() && diagnosis.ended == Ended::Safe, "{diagnosis:?}");
    let without: Vec<u64> = diagnosis
        .entries
        .iter()
        .map(|entry| match entry.without {
            Trial::Missing(addr) => addr.get(),
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(without, [HOLE + 0x10, OTHER + 8]);
    assert_eq!((general.rules.len(), general.uncovered.len()), (0, 2), "reserved: no rule");
    // Needs are of the run that went to its end.
    let places: Vec<_> = observed.seen.needs.iter().map(|need| need.place.clone()).collect();
    assert_eq!(places.len(), 3, "{places:?}");
    let fault = only(&observed);
    assert_eq!((fault.id, fault.severity), ("preflight-fault", Severity::Error));
    assert_eq!(fault.range, Some(page(HOLE)));
    assert!(fault.why.contains("no Linux requests it"), "{}", fault.why);
    let remedy = fault.remedy.as_deref().unwrap();
    assert!(!remedy.contains("kexec from a kernel"), "{remedy}");
    assert!(remedy.contains("0x0000000048a00000"), "{remedy}");
}

#[test]
fn what_would_reach_forbidden_memory_is_named_and_not_added() {
    let rule = RULES.iter().find(|rule| rule.severity > Grave::Caution).unwrap();
    let forbidden = PhysRange::from_len(HOLE + 0x10_0000, 0x1000).unwrap();
    let hazards = [Hazard { range: forbidden, rule, certainty: Certainty::Certain }];
    let code = [&read(HOLE)[..], &OWN_TABLES];
    let observed = jump(&code, "6.12.30", true, &hazards, |jump, runs| jump.observe(runs).unwrap());
    let diagnosis = observed.diagnosis.as_ref().unwrap();
    assert_eq!(diagnosis.ranges(), []);
    let Ended::Conflict { page: refused, why } = &diagnosis.ended else { panic!("{diagnosis:?}") };
    assert_eq!(*refused, page(HOLE));
    assert!(why.contains(rule.title) && why.contains("0x0000000048100000"), "{why}");
    let remedy = only(&observed).remedy.as_deref().unwrap();
    assert!(remedy.starts_with("do not kexec on this machine: "), "{remedy}");
    assert!(!remedy.contains('\n'), "no other way is offered: {remedy}");
}

#[test]
fn what_is_seen_of_a_fault_depends_on_the_producer_before_the_kernel_has_an_idt() {
    let why = |release: &str| only(&observe(&[&[0x0f, 0x0b]], release)).why.clone();
    let old = why("6.1.79");
    assert!(old.contains("the machine resets") && !old.contains("8250"), "{old}");
    assert!(old.contains("exception 6"), "{old}");
    let new = why("7.2.13");
    assert!(new.contains("the registers, on a serial line") && !new.contains("resets"), "{new}");
    let between = why("6.17.1");
    assert!(between.contains("the machine resets") && between.contains("unless"), "{between}");
}

#[test]
fn once_the_kernel_has_an_idt_the_producers_is_not_asked() {
    // lidt [rip + 0x20]: a limit and a base, both of zeros but for the limit's lowest byte.
    let mut code = vec![0x0f, 0x01, 0x1d, 0x20, 0, 0, 0];
    code.extend(read(HOLE));
    code.resize(7 + 0x20, 0x90);
    code.extend([0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let why = only(&observe(&[&code], "7.2.13")).why.clone();
    assert!(why.contains("the machine resets"), "{why}");
    assert!(why.contains("already replaced"), "{why}");
}

#[test]
fn a_kernel_that_halts_and_one_that_cannot_be_told() {
    let halted = observe(&[&[0xf4]], "6.12.30");
    assert_eq!((only(&halted).id, only(&halted).severity), ("preflight-halt", Severity::Error));
    assert!(halted.diagnosis.is_none());
    // cmp [rbx], rcx: a branch would depend on memory of which nothing is known.
    let mut code = read(0x200_0000);
    code.extend([0x48, 0x39, 0x0b]);
    let unknown = observe(&[&code, &OWN_TABLES], "6.12.30");
    let finding = only(&unknown);
    assert_eq!(finding.id, "preflight-unknown");
    assert_eq!(finding.confidence, Confidence::Unknown);
    assert!(finding.remedy.is_some());
    let endless = observe(&[&[0xeb, 0xfe]], "6.12.30");
    assert_eq!(only(&endless).id, "preflight-unknown");
}

#[test]
fn cells_of_a_matrix_are_runs() {
    let code = [&read(HOLE)[..], &OWN_TABLES];
    let cells = |gbpages| {
        jump(&code, "6.12.30", gbpages, &[], |jump, runs| {
            let needs = jump.observe(runs).unwrap().seen.needs;
            [PolicyKind::RoundOut, PolicyKind::Exact, PolicyKind::Guarded]
                .map(|policy| jump.cell(runs, policy, &needs).unwrap())
        })
    };
    assert_eq!(cells(true), [Cell::Luck, Cell::Fail, Cell::Ok]);
    assert_eq!(cells(false), [Cell::Fail, Cell::Fail, Cell::Ok]);
}

#[test]
fn each_map_is_run_once() {
    let code = [&read(HOLE)[..], &OWN_TABLES];
    let mut count = 0;
    let mut engine = |scene: &_| {
        count += 1;
        run(scene)
    };
    jump_with(&mut engine, &code, "6.12.30", true, &[], |jump, runs| {
        for _ in 0..3 {
            assert!(jump.observe(runs).unwrap().diagnosis.is_some());
        }
    });
    assert_eq!(count, 2, "without the entry and with it");
}
