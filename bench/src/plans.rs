//! What a plan costs: by memory mapped, and by the number of ranges.

use std::hint::black_box;

use identmap::{Config, Guard, Levels, PhysRange, Plan, Policy, Slack, Slot};

use crate::Options;
use crate::clock::{median, time};
use crate::random::Rng;

/// Plans in one round, when one takes nanoseconds.
const REPEATS: u32 = 20_000;

/// Prints both tables.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    println!("## A plan of one request (five levels, 1 GiB leaves), in ns\n");
    println!("| request | round-out | exact | guarded |");
    println!("|---|---|---|---|");
    // Not aligned, so that every policy has something to decide at both ends.
    for (name, shift) in
        [("1 GiB", 30), ("32 GiB", 35), ("1 TiB", 40), ("32 TiB", 45), ("1 PiB", 50), ("4 PiB", 52)]
    {
        let end = (1u64 << shift) - 4096;
        let request = [PhysRange::new(4096, end).map_err(|e| e.to_string())?];
        let guard = Guard { forbidden: &[], slack: Slack::None };
        let policies = [Policy::RoundOut, Policy::Exact, Policy::Guarded(guard)];
        let costs = policies.map(|policy| one_plan(options, &policy, &request));
        println!("| {name} | {:.0} | {:.0} | {:.0} |", costs[0], costs[1], costs[2]);
    }

    println!("\n## `guarded` with n forbidden ranges and m requests, shuffled\n");
    println!("| n + m | slack | ms | ns/range | runs | tables |");
    println!("|---|---|---|---|---|---|");
    for total in [1_000, 10_000, 100_000, 1_000_000] {
        let (requests, forbidden) = many(total)?;
        for (name, slack) in [("none", Slack::None), ("any", Slack::Any)] {
            let guard = Guard { forbidden: &forbidden, slack };
            let policy = Policy::Guarded(guard);
            let config = Config::kexec(Levels::Five, true);
            let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, requests.len())];
            let mut times = Vec::new();
            let mut made = (0, 0);
            for _ in 0..options.rounds {
                let (ns, plan) = time(|| Plan::new(&config, &policy, black_box(&requests), &mut slots));
                let plan = plan.map_err(|e| e.to_string())?;
                made = (plan.runs().len(), plan.tables().total());
                times.push(ns as f64);
            }
            let ns = median(times);
            let per_range = ns / f64::from(total);
            let (runs, tables) = made;
            println!("| {total} | {name} | {:.2} | {per_range:.0} | {runs} | {tables} |", ns / 1e6);
        }
    }
    println!();
    Ok(())
}

fn one_plan(options: &Options, policy: &Policy<'_>, request: &[PhysRange]) -> f64 {
    let config = Config::kexec(Levels::Five, true);
    let mut slots = [Slot::EMPTY; 16];
    let mut times = Vec::new();
    for _ in 0..options.rounds {
        let (ns, ()) = time(|| {
            for _ in 0..REPEATS {
                let plan = Plan::new(black_box(&config), policy, black_box(request), &mut slots);
                // A refused plan would be a cheap one.
                assert!(black_box(plan).is_ok());
            }
        });
        times.push(ns as f64 / f64::from(REPEATS));
    }
    median(times)
}

/// Half forbidden, half requested, in turns, of 4 KiB to 4 GiB, in random order.
fn many(total: u32) -> Result<(Vec<PhysRange>, Vec<PhysRange>), String> {
    let mut rng = Rng::new(u64::from(total));
    let (mut requests, mut forbidden) = (Vec::new(), Vec::new());
    let mut cursor = 0;
    for i in 0..total {
        let length = 4096 << rng.below(if i % 2 == 0 { 20 } else { 10 });
        let range = PhysRange::from_len(cursor, length).map_err(|e| e.to_string())?;
        if i % 2 == 0 { requests.push(range) } else { forbidden.push(range) }
        cursor += length + (4096 << rng.below(8));
    }
    rng.shuffle(&mut requests);
    rng.shuffle(&mut forbidden);
    Ok((requests, forbidden))
}
