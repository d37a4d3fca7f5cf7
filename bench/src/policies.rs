//! Tables used by each policy on every real map: same requests, same hazards.

use std::fs;
use std::path::Path;

use identmap::{Config, Guard, Levels, PhysRange, Plan, Policy, Slack, Slot};
use identmap_audit::forbidden;
use identmap_linux::{KernelVersion, Kind, Producer, requests};
use identmap_machine::{Layout, MemType, hazards, parse};

/// One way to map.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    RoundOut,
    Exact,
    GuardedNone,
    GuardedRam,
    GuardedAny,
}

const WAYS: [(Way, &str); 5] = [
    (Way::RoundOut, "round-out"),
    (Way::Exact, "exact"),
    (Way::GuardedNone, "guarded, slack none"),
    (Way::GuardedRam, "guarded, slack ram"),
    (Way::GuardedAny, "guarded, slack any"),
];

/// What one way took on one machine.
#[derive(Clone, Copy, Default)]
struct Cost {
    tables: u64,
    mapped: u64,
    page_tables: u64,
    exposed: u64,
}

struct Machine {
    name: String,
    requested: u64,
    forbidden: usize,
    costs: [Cost; WAYS.len()],
}

/// Prints the tables.
pub(crate) fn run() -> Result<(), String> {
    for gbpages in [true, false] {
        let (machines, skipped) = all(gbpages)?;
        let pages = if gbpages { "with" } else { "without" };
        println!("## Tables used on {} real maps, {pages} 1G leaves\n", machines.len());
        println!("Requests of Linux 6.12; {skipped} files without a map that can be read.\n");
        println!("| policy | tables | fewer than exact | same | more | most more | over-reach GiB | exposed GiB |");
        println!("|---|---|---|---|---|---|---|---|");
        for (at, (_, name)) in WAYS.iter().enumerate() {
            let cost = |m: &Machine| m.costs[at];
            let exact = |m: &Machine| m.costs[1].tables;
            let count = |f: &dyn Fn(&Machine) -> bool| machines.iter().filter(|&m| f(m)).count();
            let fewer = count(&|m| cost(m).tables < exact(m));
            let more = count(&|m| cost(m).tables > exact(m));
            let worst = machines
                .iter()
                .filter(|m| cost(m).tables > exact(m))
                .max_by_key(|m| cost(m).tables - exact(m));
            let worst = worst.map_or("-".into(), |m| {
                format!("{} ({} for {})", m.name, cost(m).tables, exact(m))
            });
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            println!(
                "| {name} | {} | {fewer} | {} | {more} | {worst} | {:.2} | {:.2} |",
                machines.iter().map(|m| cost(m).tables).sum::<u64>(),
                machines.len() - fewer - more,
                gib(machines.iter().map(|m| cost(m).mapped - m.requested).sum()),
                gib(machines.iter().map(|m| cost(m).exposed).sum()),
            );
        }
        println!();
        why(&machines);
    }
    Ok(())
}

/// What the tables that `guarded` takes beyond `exact` are for.
fn why(machines: &[Machine]) {
    for (at, (_, name)) in WAYS.iter().enumerate().skip(2) {
        let more = machines.iter().filter(|m| m.costs[at].tables > m.costs[1].tables);
        let (mut by_page_tables, mut otherwise, mut no_hazard) = (0, 0, 0);
        for machine in more {
            let (ours, exact) = (machine.costs[at], machine.costs[1]);
            no_hazard += usize::from(machine.forbidden == 0);
            if ours.tables - exact.tables <= ours.page_tables {
                by_page_tables += 1;
            } else {
                otherwise += 1;
            }
        }
        println!(
            "{name}: more tables than exact on {} machines; on {by_page_tables} no more than its page tables (4K) \
             explain, on {otherwise} more than that; {no_hazard} of them have no forbidden range",
            by_page_tables + otherwise
        );
    }
    println!();
}

fn all(gbpages: bool) -> Result<(Vec<Machine>, usize), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/machines");
    let fail = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    let mut machines = Vec::new();
    let mut skipped = 0;
    for path in files {
        let bytes = fs::read(&path).map_err(fail)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match one(&name, &bytes, gbpages)? {
            Some(machine) => machines.push(machine),
            None => skipped += 1,
        }
    }
    Ok((machines, skipped))
}

/// `None` if the file has no map, or none that can be read.
fn one(name: &str, bytes: &[u8], gbpages: bool) -> Result<Option<Machine>, String> {
    let Ok(machine) = parse::machine(name, bytes) else { return Ok(None) };
    let Some(layout) = Layout::of(&machine) else { return Ok(None) };
    let version = KernelVersion::parse("6.12.0", None).map_err(|e| format!("{e:?}"))?;
    let producer = Producer::of(Some(version));
    let traits = producer.traits().candidates().last().copied().ok_or("no producer")?;
    let requests = requests(&machine, Some(&layout), &traits, Kind::Kexec).ranges();
    if requests.is_empty() {
        return Ok(None);
    }
    let avoid = forbidden(&hazards(&machine), &requests);
    let ram: Vec<PhysRange> = layout.of_kind(MemType::Usable).collect();
    let config = Config::kexec(Levels::Four, gbpages);
    let mut costs = [Cost::default(); WAYS.len()];
    for ((way, _), cost) in WAYS.iter().zip(&mut costs) {
        let guarded = |slack| Policy::Guarded(Guard { forbidden: &avoid, slack });
        let policy = match way {
            Way::RoundOut => Policy::RoundOut,
            Way::Exact => Policy::Exact,
            Way::GuardedNone => guarded(Slack::None),
            Way::GuardedRam => guarded(Slack::Ram(&ram)),
            Way::GuardedAny => guarded(Slack::Any),
        };
        let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, requests.len())];
        let plan = Plan::new(&config, &policy, &requests, &mut slots)
            .map_err(|e| format!("{name}: {e}"))?;
        let exposed = plan.runs().flat_map(|run| avoid.iter().map(move |f| run.range().intersection(*f)));
        *cost = Cost {
            tables: plan.tables().total(),
            mapped: plan.mapped_bytes(),
            page_tables: plan.tables().of(identmap::Level::Pt),
            exposed: exposed.flatten().map(PhysRange::len).sum(),
        };
    }
    let requested = identmap_machine::ranges::normalise(requests);
    Ok(Some(Machine {
        name: name.trim_end_matches(".txt").chars().take(20).collect(),
        requested: requested.iter().map(|r| r.len()).sum(),
        forbidden: avoid.len(),
        costs,
    }))
}
