//! The same memory by all four rules: what each maps, what it takes, what it reaches too far.
//!
//! `cargo run -p identmap --example guarded`
//!
//! The memory is the lowest and the second node of an 8-socket HPE Superdome Flex, as posted by
//! Steve Wahl (<https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/>): what follows
//! the node must not be reachable by any active page table entry.

use std::error::Error;

use identmap::{
    Arena, Config, Found, Guard, Leaves, Levels, PhysAddr, PhysRange, Plan, Policy, Seen, Slack,
    Slot, Table,
};

fn main() -> Result<(), Box<dyn Error>> {
    let low = PhysRange::from_inclusive(0, 0x72c4_dfff)?;
    let node = PhysRange::from_inclusive(0x30_4000_0000, 0x5f_7bff_ffff)?;
    let reserved = PhysRange::from_inclusive(0x72c4_e000, 0x73a2_ffff)?;
    let tail = PhysRange::from_inclusive(0x5f_7c00_0000, 0x60_3fff_ffff)?;
    let (requests, forbidden) = ([low, node], [reserved, tail]);
    println!("requested  {low}, {node}");
    println!("forbidden  {reserved}, {tail}");

    let guard = Guard { forbidden: &forbidden, slack: Slack::Any };
    let policies = [
        Policy::RoundOut,
        Policy::Exact,
        Policy::ExactOnUv { uv: false },
        Policy::ExactOnUv { uv: true },
        Policy::Guarded(guard),
    ];
    let config = Config::kexec(Levels::Four, true);
    for policy in policies {
        let mut slots = [Slot::EMPTY; 32];
        let plan = Plan::new(&config, &policy, &requests, &mut slots)?;
        let exposed: u64 = plan
            .runs()
            .flat_map(|run| forbidden.map(|range| run.range().intersection(range)))
            .flatten()
            .map(PhysRange::len)
            .sum();
        println!("\n{policy}: {} tables, {} KiB exposed", plan.tables().total(), exposed >> 10);
        print_tables(&plan)?;
    }
    Ok(())
}

/// Builds the plan and prints what is found in the tables.
fn print_tables(plan: &Plan<'_>) -> Result<(), Box<dyn Error>> {
    let base = PhysAddr::new(0x10_0000).ok_or("past 2^52")?;
    let mut tables = vec![Table::EMPTY; usize::try_from(plan.tables().total())?];
    let mut arena = Arena::new(&mut tables, base)?;
    let built = plan.build(&mut arena)?;
    let mut seen = [Seen::EMPTY; 16];
    for found in Leaves::new(&arena, built.root, plan.config().paging(), &mut seen) {
        match found {
            Found::Leaves(run) => {
                let range = PhysRange::from_len(run.phys.get(), run.bytes())?;
                println!("  {range} {} x {:<4} {}", run.size, run.count, run.flags);
            }
            other => println!("  {other:?}"),
        }
    }
    Ok(())
}
