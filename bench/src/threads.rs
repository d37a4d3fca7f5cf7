//! Building by several threads, in wall time: processor time would only add them up.

use std::hint::black_box;
use std::num::NonZero;
use std::time::Instant;

use identmap::{Arena, PhysAddr};

use crate::Options;
use crate::adapters::Memory;
use crate::cases;
use crate::clock::median;

/// Prints the table: the same map by one thread and more, beside `memset` by one.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    println!("## Building by several threads, wall time ({processors} processors)\n");
    println!("| map | tables | threads | x memset 0 | x memset 0xe3 | x one thread |");
    println!("|---|---|---|---|---|---|");
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
        let set = |memory: &mut Memory, byte: u8| {
            wall(memory, tables, |memory| {
                memory.set(byte, tables);
                Ok(())
            })
        };
        let build = |memory: &mut Memory, threads: usize| {
            wall(memory, tables, |memory| {
                let mut arena = Arena::new(memory.tables(), base).map_err(|e| e.to_string())?;
                let threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);
                let built = plan.build_with_threads(&mut arena, threads);
                black_box(built.map_err(|e| e.to_string())?);
                Ok(())
            })
        };
        let counts: Vec<usize> = (1..=processors.clamp(2, 8)).collect();
        let mut ratios = vec![[const { Vec::new() }; 3]; counts.len()];
        for _ in 0..options.rounds {
            let zeroes = set(&mut memory, 0)?;
            let bytes = set(&mut memory, 0xe3)?;
            let one = build(&mut memory, 1)?;
            for (ratios, &threads) in ratios.iter_mut().zip(&counts) {
                let time = build(&mut memory, threads)?;
                for (ratios, measure) in ratios.iter_mut().zip([zeroes, bytes, one]) {
                    ratios.push(time / measure);
                }
            }
        }
        for (threads, ratios) in counts.iter().zip(ratios) {
            let [zeroes, bytes, one] = ratios.map(median);
            println!(
                "| {} | {tables} | {threads} | {zeroes:.2} | {bytes:.2} | {one:.2} |",
                case.name
            );
        }
    }
    println!();
    Ok(())
}

/// Nanoseconds of the work; everybody finds the same bytes in the memory and in the caches.
fn wall(
    memory: &mut Memory,
    tables: usize,
    work: impl FnOnce(&mut Memory) -> Result<(), String>,
) -> Result<f64, String> {
    memory.set(0xe3, tables);
    let start = Instant::now();
    work(black_box(memory))?;
    Ok(start.elapsed().as_nanos() as f64)
}
