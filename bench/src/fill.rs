//! Building tables: identmap, the other crates and Linux, beside `memset` of the same bytes.

use std::hint::black_box;

use identmap::{Arena, Found, Leaves, PageSize, PhysAddr, Run, Seen, Slot};
use identmap_stream::Streamed;

use crate::Options;
use crate::adapters::{Crate, Memory};
use crate::cases::{self, Case};
use crate::clock::{median, time};
use crate::instructions;
use crate::linux::{self, Linux};

/// A word with the flags of a leaf; its low byte is what `memset` writes that does not write zeroes.
const LEAF: u64 = 0x1e3;

/// Who builds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Builder {
    /// One `memset` of all bytes to 0, by the C library.
    Zeroes,
    /// One `memset` of all bytes to a byte of a leaf, by the C library.
    Bytes,
    /// One constant word stored everywhere by ordinary stores.
    Words(u64),
    /// One constant word stored everywhere past the caches.
    Streamed,
    Ours,
    /// The same, in memory that is stored to past the caches where a map is very large: `identmap-stream`.
    OursStreamed,
    Theirs(Crate),
}

impl Builder {
    fn all() -> impl Iterator<Item = Builder> {
        let yardsticks = [Builder::Zeroes, Builder::Bytes, Builder::Words(0), Builder::Words(LEAF)];
        yardsticks
            .into_iter()
            .chain([Builder::Streamed, Builder::Ours, Builder::OursStreamed])
            .chain(Crate::ALL.map(Builder::Theirs))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Builder::Zeroes => "memset 0",
            Builder::Bytes => "memset 0xe3",
            Builder::Words(0) => "(zeroes stored)",
            Builder::Words(_) => "(one word stored)",
            Builder::Streamed => "(one word streamed)",
            Builder::Ours => "identmap",
            Builder::OursStreamed => "identmap, streamed",
            Builder::Theirs(other) => other.name(),
        }
    }

    pub(crate) fn named(name: &str) -> Option<Builder> {
        Builder::all().find(|builder| builder.name() == name)
    }
}

/// A line of the table.
struct Row {
    who: String,
    tables: u64,
    /// Nanoseconds of one build.
    build: f64,
    /// The same as a multiple of `memset` to 0, of `memset` to a byte of a leaf, of identmap and of identmap
    /// streamed, by rounds.
    ratios: [f64; 4],
    instructions: Option<u64>,
}

/// Everything that a case needs while it is built, made once.
struct Bed<'c> {
    case: &'c Case,
    memory: Memory,
    slots: Vec<Slot>,
    runs: Vec<Run>,
    tables: u64,
}

impl<'c> Bed<'c> {
    fn new(case: &'c Case) -> Result<Bed<'c>, String> {
        let mut slots = case.slots();
        let plan = case.plan(&mut slots).map_err(|e| e.to_string())?;
        let (runs, tables) = (plan.runs().collect(), plan.tables().total());
        // patina_paging takes some tables for itself.
        let memory = Memory::new(tables as usize + 16);
        Ok(Bed { case, memory, slots, runs, tables })
    }

    fn build(&mut self, builder: Builder) -> Result<u64, String> {
        match builder {
            Builder::Zeroes | Builder::Bytes => {
                let byte = if builder == Builder::Zeroes { 0 } else { LEAF as u8 };
                self.memory.set(byte, self.tables as usize);
                Ok(self.tables)
            }
            Builder::Words(word) => {
                for table in &mut self.memory.tables()[..self.tables as usize] {
                    table.0.fill(black_box(word));
                }
                Ok(self.tables)
            }
            Builder::Streamed => {
                self.memory.stream(black_box(LEAF), self.tables as usize);
                Ok(self.tables)
            }
            Builder::Ours | Builder::OursStreamed => {
                let streamed = builder == Builder::OursStreamed;
                ours(self.case, &mut self.slots, &mut self.memory, streamed)
            }
            Builder::Theirs(other) => other.build(&mut self.memory, black_box(&self.runs)),
        }
    }

    /// Reads what was built: the leaves must be the plan's.
    fn check(&mut self, builder: Builder) -> Result<(), String> {
        let ours = matches!(builder, Builder::Ours | Builder::OursStreamed);
        if !ours && !matches!(builder, Builder::Theirs(_)) {
            return Ok(());
        }
        let base = PhysAddr::new(self.memory.base()).ok_or("tables lie past 2^52")?;
        let mut arena = Arena::new(self.memory.tables(), base).map_err(|e| e.to_string())?;
        while identmap::TableWrite::allocate(&mut arena).is_some() {}
        let mut seen = vec![Seen::EMPTY; arena.tables().len() * 2];
        let mut expected = self.runs.iter();
        for found in Leaves::new(&arena, base, self.case.config().paging(), &mut seen) {
            match found {
                // patina_paging maps its root in itself, in the upper half, which comes last.
                _ if in_upper_half(found) && !ours => break,
                Found::Leaves(run) if run.virt.get() == run.phys.get() => {
                    let run = (run.phys, run.size, run.count);
                    let wanted = expected.next().map(|r| (r.range().start(), r.size(), r.count()));
                    if Some(run) != wanted {
                        return Err(format!(
                            "{}: built {run:?}, planned {wanted:?}",
                            builder.name()
                        ));
                    }
                }
                other => return Err(format!("{}: {other:?}", builder.name())),
            }
        }
        match expected.next() {
            None => Ok(()),
            Some(run) => Err(format!("{}: {run} is missing", builder.name())),
        }
    }
}

fn in_upper_half(found: Found) -> bool {
    let virt = match found {
        Found::Leaves(run) => run.virt,
        Found::Shared { virt, .. } | Found::TooMany { virt, .. } => virt,
        _ => return false,
    };
    virt.get() >> 63 == 1
}

/// Plans and builds: what a user of identmap pays, from ranges to tables.
#[inline(never)]
fn ours(
    case: &Case,
    slots: &mut [Slot],
    memory: &mut Memory,
    streamed: bool,
) -> Result<u64, String> {
    let base = PhysAddr::new(memory.base()).ok_or("tables lie past 2^52")?;
    let plan = black_box(case).plan(slots).map_err(|e| e.to_string())?;
    let mut arena = Arena::new(memory.tables(), base).map_err(|e| e.to_string())?;
    let built = if streamed { plan.build(&mut Streamed(arena)) } else { plan.build(&mut arena) };
    let built = built.map_err(|e| e.to_string())?;
    Ok(black_box(built).tables.total())
}

/// Prints the table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    println!("## Building tables\n");
    println!(
        "| map | leaves | by | tables | ns/leaf | x memset 0 | x memset 0xe3 | x identmap | x streamed | instructions/leaf |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for case in cases::all()? {
        if options.only.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
            continue;
        }
        let mut bed = Bed::new(&case)?;
        let leaves: u64 = bed.runs.iter().map(|run| run.count()).sum();
        for row in rows(&mut bed, options)? {
            let Row { who, tables, build, ratios: [zeroes, bytes, ours, streamed], instructions } =
                row;
            let per_leaf = build / leaves as f64;
            let instructions =
                instructions.map_or("-".into(), |n| format!("{:.2}", n as f64 / leaves as f64));
            println!(
                "| {} | {leaves} {} | {who} | {tables} | {per_leaf:.3} | {zeroes:.2} | {bytes:.2} | {ours:.2} | {streamed:.2} | {instructions} |",
                case.name,
                sizes(&bed.runs),
            );
        }
    }
    println!();
    Ok(())
}

fn rows(bed: &mut Bed<'_>, options: &Options) -> Result<Vec<Row>, String> {
    let case = bed.case;
    // A round takes some hundred microseconds at least, so that the clock's own cost does not show.
    let repeats = (8192 / bed.tables).max(1);
    let mut counts = Vec::new();
    for builder in Builder::all() {
        counts.push(bed.build(builder)?);
        bed.check(builder)?;
    }
    let mut times = vec![Vec::new(); counts.len()];
    let mut linux = Vec::new();
    for _ in 0..options.rounds {
        for (builder, times) in Builder::all().zip(&mut times) {
            // Everybody finds the same bytes in the memory and in the caches. Several times, since what was stored
            // past the caches, or by the other process, comes back into them only bit by bit.
            for _ in 0..4 {
                bed.build(Builder::Words(LEAF))?;
            }
            let (ns, result) = time(|| (0..repeats).try_for_each(|_| bed.build(builder).map(drop)));
            result?;
            times.push(ns as f64 / repeats as f64);
        }
        // In a process of its own, but in the same round: neighbours come and go within seconds.
        let mut round = linux::round(options, case, repeats)?;
        round.retain(|linux| case.rule.is(&linux.policy));
        linux.push(round);
    }
    let of = |builder| Builder::all().position(|one| one == builder).map(|at| times[at].clone());
    let measures = [Builder::Zeroes, Builder::Bytes, Builder::Ours, Builder::OursStreamed];
    let measures = measures.map(of).map(Option::unwrap_or_default);
    let mut rows = Vec::new();
    for ((builder, tables), times) in Builder::all().zip(counts).zip(times) {
        let instructions = if options.instructions {
            Some(instructions::of_builder(case.name, builder)?)
        } else {
            None
        };
        let ratios = measures.each_ref().map(|measure| ratio(&times, measure));
        let who = builder.name().into();
        rows.push(Row { who, tables, build: median(times), ratios, instructions });
    }
    for (at, first) in linux.first().map_or(&[][..], Vec::as_slice).iter().enumerate() {
        let Linux { package, tables, .. } = first;
        if *tables != bed.tables {
            let ours = bed.tables;
            return Err(format!("{}: {package} takes {tables} tables, we {ours}", case.name));
        }
        let column = |which: usize| -> Vec<f64> {
            linux.iter().filter_map(|round| Some(round.get(at)?.times[which])).collect()
        };
        let instructions =
            if options.instructions { Some(instructions::of_linux(case, first)?) } else { None };
        let build = column(0);
        let ratios = [&column(1), &column(2), &measures[2], &measures[3]]
            .map(|measure| ratio(&build, measure));
        let (who, tables) = (package.clone(), *tables);
        rows.push(Row { who, tables, build: median(build), ratios, instructions });
    }
    Ok(rows)
}

/// The median of the ratios within a round.
fn ratio(times: &[f64], measure: &[f64]) -> f64 {
    median(times.iter().zip(measure).map(|(time, measure)| time / measure).collect())
}

fn sizes(runs: &[Run]) -> String {
    let sizes = PageSize::ALL.into_iter().filter(|&size| runs.iter().any(|run| run.size() == size));
    sizes.map(|size| size.to_string()).collect::<Vec<_>>().join("+")
}

/// One build and nothing else, for callgrind.
pub(crate) fn once(case_name: &str, builder: &str) -> Result<(), String> {
    let builder = Builder::named(builder).ok_or("no such builder")?;
    let cases = cases::all()?;
    let case = cases.iter().find(|case| case.name == case_name).ok_or("no such case")?;
    let mut bed = Bed::new(case)?;
    counted(&mut bed, builder)
}

/// What callgrind counts.
#[inline(never)]
fn counted(bed: &mut Bed<'_>, builder: Builder) -> Result<(), String> {
    black_box(bed).build(builder).map(drop)
}
