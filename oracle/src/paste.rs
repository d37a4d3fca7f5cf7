//! A difference as a test to paste into identmap's own tests.

use std::fmt::Write;

use crate::ours;
use crate::picture::Picture;
use crate::sequence::Sequence;
use crate::source::{Behaviour, LinuxPolicy};

/// A test of identmap's public API that states what the other side built.
pub(crate) fn test(
    sequence: &Sequence,
    behaviour: Behaviour,
    whose: &str,
    expected: &Picture,
) -> String {
    let config = ours::config(sequence, behaviour);
    let policy = match behaviour.policy {
        LinuxPolicy::RoundOut => "RoundOut",
        LinuxPolicy::Exact => "Exact",
    };
    let mut requests = String::new();
    for request in &sequence.requests {
        let (start, end) = (request.start().get(), request.end().get());
        // Writing to a string does not fail.
        let _ = writeln!(requests, "        PhysRange::new({start:#x}, {end:#x}).unwrap(),");
    }
    let mut runs = String::new();
    for run in &expected.runs {
        let (virt, phys, flags) = (run.virt, run.phys, run.flags);
        let _ = writeln!(
            runs,
            "        ({virt:#x}, {phys:#x}, {:#x}, {}, {flags:#x}),",
            run.size, run.count
        );
    }
    format!(
        "\
/// What {whose} builds.
#[test]
fn a_sequence_as_linux_maps_it() {{
    let config = Config {{
        levels: Levels::{levels:?},
        gbpages: {gbpages},
        leaf_flags: Flags::from_bits({leaf:#x}),
        table_flags: Flags::from_bits({table:#x}),
        upper_table_flags: Flags::from_bits({upper:#x}),
        encryption_mask: {encryption:#x},
        offset: {offset:#x},
        maxphyaddr: {maxphyaddr},
    }};
    let requests = [
{requests}    ];
    // virtual, physical, size, count, flags
    let expected = [
{runs}    ];
    let policy = Policy::{policy};
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, requests.len())];
    let base = PhysAddr::new(0x10_0000).unwrap();
    for by_plan in [true, false] {{
        let mut tables = vec![Table::EMPTY; {tables} + 64];
        let mut arena = Arena::new(&mut tables, base).unwrap();
        let root = if by_plan {{
            let plan = Plan::new(&config, &policy, &requests, &mut slots).unwrap();
            plan.build(&mut arena).unwrap().root
        }} else {{
            let root = empty_root(&mut arena, &config).unwrap();
            for request in requests {{
                add(&mut arena, root, &config, &policy, request, &mut slots).unwrap();
            }}
            root
        }};
        let mut seen = vec![Seen::EMPTY; ({tables} + 64) * 2];
        let mut leaves = Leaves::new(&arena, root, config.paging(), &mut seen);
        let mut found = Vec::new();
        for leaf in leaves.by_ref() {{
            let Found::Leaves(r) = leaf else {{ panic!(\"{{leaf:?}}\") }};
            let (virt, phys) = (r.virt.get(), r.phys.get());
            found.push((virt, phys, r.size.bytes(), r.count, r.flags.bits()));
        }}
        assert_eq!(found, expected, \"by plan: {{by_plan}}\");
        assert_eq!(leaves.tables().total(), {tables}, \"by plan: {{by_plan}}\");
    }}
}}
",
        levels = config.levels,
        gbpages = config.gbpages,
        leaf = config.leaf_flags.bits(),
        table = config.table_flags.bits(),
        upper = config.upper_table_flags.bits(),
        encryption = config.encryption_mask,
        offset = config.offset,
        maxphyaddr = config.maxphyaddr,
        tables = expected.tables,
    )
}
