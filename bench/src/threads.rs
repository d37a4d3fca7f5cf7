//! Building by several threads, in wall time: processor time would only add them up.

use std::hint::black_box;
use std::num::NonZero;
use std::time::Instant;

use identmap::{Arena, PhysAddr, Table};

use crate::Options;
use crate::adapters::Memory;
use crate::cases;
use crate::clock::median;

/// Prints the table: the same map by one thread and more, beside `memset` by one.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    println!("## Building by several threads, wall time ({processors} processors)\n");
    println!("| map | tables | threads | x memset (one thread) | x one thread |");
    println!("|---|---|---|---|---|");
    for case in cases::all()? {
        let mut slots = case.slots();
        let plan = case.plan(&mut slots).map_err(|e| e.to_string())?;
        let tables = plan.tables().total() as usize;
        // Smaller maps are built by one thread anyway.
        if tables < 2048 {
            continue;
        }
        let mut memory = Memory::new(tables);
        let base = PhysAddr::new(memory.base()).ok_or("tables lie past 2^52")?;
        let mut build = |threads: usize| {
            let start = Instant::now();
            let mut arena = Arena::new(memory.tables(), base).map_err(|e| e.to_string())?;
            let threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);
            let built = plan.build_with_threads(&mut arena, threads);
            black_box(built.map_err(|e| e.to_string())?);
            Ok::<_, String>(start.elapsed().as_nanos() as f64)
        };
        let counts: Vec<usize> = (1..=processors.clamp(2, 8)).collect();
        let mut cleared = vec![Table([1; 512]); tables];
        let mut to_memset = vec![Vec::new(); counts.len()];
        let mut to_one = vec![Vec::new(); counts.len()];
        for _ in 0..options.rounds {
            let start = Instant::now();
            for table in black_box(&mut cleared) {
                table.0.fill(0);
            }
            let memset = start.elapsed().as_nanos() as f64;
            let one = build(1)?;
            for (at, &threads) in counts.iter().enumerate() {
                let time = build(threads)?;
                to_memset[at].push(time / memset);
                to_one[at].push(time / one);
            }
        }
        for ((threads, memset), one) in counts.iter().zip(to_memset).zip(to_one) {
            let (memset, one) = (median(memset), median(one));
            println!("| {} | {tables} | {threads} | {memset:.2} | {one:.2} |", case.name);
        }
    }
    println!();
    Ok(())
}
