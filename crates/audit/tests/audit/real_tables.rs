//! An audit that was given the loaded image's own tables: it rests on them, and not on the model.

use identmap::{Arena, Config, PhysAddr, PhysRange, Plan, Policy, Slot, Table};
use identmap_audit::{Audit, ImageTables, Question, TablesUsed, Verdict, check};
use identmap_linux::tables::{Tables, decode};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::{Machine, Segment, parse, sample, samples};

fn machine(name: &str) -> Machine {
    parse::machine(name, sample(name).unwrap().bytes).unwrap()
}

fn audit(machine: &Machine, producer: Option<&str>, tables: ImageTables<'_>) -> Audit {
    let version = |release: &str| KernelVersion::parse(release, None).unwrap();
    let producer = Producer::of(producer.map(version));
    let consumer = Consumer { version: Some(version("6.12.30")), ..Consumer::default() };
    check(&Question {
        machine,
        producer,
        consumer,
        kind: Kind::Kexec,
        tables,
        entries: &[],
        seen: None,
    })
}

fn modelled(machine: &Machine, producer: Option<&str>) -> Audit {
    audit(machine, producer, ImageTables::NotRead("a test".to_owned()))
}

/// Tables that map these ranges, built and read back.
fn tables(config: Config, policy: Policy<'_>, ranges: &[PhysRange]) -> Tables {
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, ranges.len())];
    let plan = Plan::new(&config, &policy, ranges, &mut slots).unwrap();
    let mut pages = vec![Table::EMPTY; plan.tables().total() as usize];
    let mut arena = Arena::new(&mut pages, PhysAddr::ZERO).unwrap();
    let built = plan.build(&mut arena).unwrap();
    decode(&arena, built.root, config.paging())
}

/// The tables that the first modelled producer would make.
fn as_planned(audit: &Audit) -> Tables {
    let scene = &audit.scenes[0];
    let policy = match scene.traits.policy {
        identmap_linux::PolicyKind::RoundOut => Policy::RoundOut,
        identmap_linux::PolicyKind::Exact => Policy::Exact,
    };
    tables(scene.coverage.config, policy, &scene.list.ranges())
}

#[test]
fn tables_as_modelled_give_the_verdict_of_the_model() {
    let mut verdicts = Vec::new();
    for sample in samples() {
        let machine = machine(sample.name);
        let model = modelled(&machine, Some("6.12.30"));
        assert_eq!(model.tables, TablesUsed::Modelled("a test".to_owned()));
        // Whether 1G leaves are in use may not be known: two scenes.
        let Some(first) = model.scenes.first() else { continue };
        let loaded = as_planned(&model);
        let real = audit(&machine, Some("6.12.30"), ImageTables::Read(&loaded));
        assert_eq!(real.tables, TablesUsed::Read { as_modelled: true }, "{}", sample.name);
        assert_eq!(real.scenes.len(), 1, "the others would have made other tables");
        assert_eq!(real.scenes[0].coverage, first.coverage, "{}", sample.name);
        if model.scenes.len() == 1 {
            assert_eq!(real.verdict, model.verdict, "{}", sample.name);
            assert_eq!(real.findings, model.findings, "{}", sample.name);
        }
        verdicts.push(real.verdict);
    }
    assert!(verdicts.len() > 8);
}

#[test]
fn tables_tell_which_producer_it_was() {
    let machine = machine("epyc-crashkernel");
    let model = modelled(&machine, None);
    assert!(model.scenes.len() > 1, "any producer is possible");
    let loaded = as_planned(&model);
    let real = audit(&machine, None, ImageTables::Read(&loaded));
    assert_eq!(real.tables, TablesUsed::Read { as_modelled: true });
    assert!(real.scenes.len() < model.scenes.len());
    let runs = &model.scenes[0].coverage.runs;
    assert!(real.scenes.iter().all(|scene| scene.coverage.runs == *runs));
}

#[test]
fn what_the_tables_lack_is_a_gap_whatever_the_model_says() {
    let mut machine = machine("qemu-ovmf");
    let segment = PhysRange::new(0x200_0000, 0x240_0000).unwrap();
    machine.segments = vec![Segment { range: segment }];
    let model = modelled(&machine, Some("6.12.30"));
    let whole = &model.scenes[0];
    assert!(whole.coverage.gaps(&[segment]).is_empty());
    let hole = PhysRange::new(0x220_0000, 0x240_0000).unwrap();
    let kept = identmap_machine::ranges::subtract(&whole.coverage.mapped, &[hole]);
    let config = Config { gbpages: false, ..whole.coverage.config };
    let loaded = tables(config, Policy::Exact, &kept);
    let real = audit(&machine, Some("6.12.30"), ImageTables::Read(&loaded));
    assert_eq!(real.tables, TablesUsed::Read { as_modelled: false });
    let gap = real.findings.iter().find(|finding| finding.id == "gap");
    assert_eq!(gap.and_then(|gap| gap.range), Some(hole), "{:#?}", real.findings);
    assert_eq!(real.verdict, Verdict::Unsafe);
}

#[test]
fn tables_that_are_not_linuxs_keep_the_verdict_from_being_safe_and_unread_ones_change_nothing() {
    let machine = machine("qemu-ovmf");
    let model = modelled(&machine, Some("6.12.30"));
    let mut loaded = as_planned(&model);
    loaded.cut = true;
    let real = audit(&machine, Some("6.12.30"), ImageTables::Read(&loaded));
    assert!(matches!(real.tables, TablesUsed::Modelled(_)));
    assert_eq!(real.findings, model.findings);
    loaded.cut = false;
    loaded.runs[0].rights.write = false;
    let real = audit(&machine, Some("6.12.30"), ImageTables::Read(&loaded));
    assert!(matches!(real.tables, TablesUsed::Modelled(_)));
    assert!(real.findings.iter().any(|finding| finding.id == "tables"));
    assert_ne!(real.verdict, Verdict::Safe);
}
