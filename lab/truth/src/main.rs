//! `identmap-truth`: the preflight against QEMU, and what real kernels touch. See `lab/README.md`.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use identmap_lab::guest::Failure;
use identmap_lab::work_dir;
use identmap_preflight::CpuProfile;
use identmap_truth::cpu::Cpu;
use identmap_truth::kernels::Kernel;
use identmap_truth::report::{Kept, Row};
use identmap_truth::scenario::{Compared, Scenario};
use identmap_truth::{consumers, kernels, list, report};

const USAGE: &str = "\
usage: identmap-truth consumers [--markdown]
       identmap-truth list [--filter WORDS] [--seed N]
       identmap-truth run [--filter WORDS] [--seed N] [--jobs N] [--patience SECONDS] [--resume]
                          [--trace DIRECTORY]
       identmap-truth recheck [--filter WORDS] [--seed N]
       identmap-truth report [--seed N]
       identmap-truth ci [--jobs N]

  consumers        what every kernel at hand touches before it has its own page tables
  list, run        scenarios: QEMU boots a consumer under tables with holes; the preflight runs the same
                   what came of them is kept in CACHE/truth/results.tsv
  recheck          the preflights of what is kept, run again without QEMU: each has to say what it said
                   when it was held against QEMU (after a change of the preflight: some minutes)
  report           docs/preflight-truth.md, of what is kept, on standard output
  ci               a sample of them; nothing is kept
  --filter WORDS   words joined by commas, any of which must match; a word is parts of a scenario's name
                   joined by +, such as 6.1/,7.x/+sev; one that ends with / is the whole kernel's name
  --seed N         what the random scenarios are made of (1)
  --jobs N         guests at once (2)
  --patience SECONDS   bound for a consumer to come up (300)
  --trace DIRECTORY    QEMU's log of exceptions, a file for each scenario
  --resume         only those of which nothing is kept, or that failed
  --markdown       docs/consumers.md on standard output

Kernels: lab/fetch.sh, lab/fetch-consumers.sh.
Exit status: 0 all agree; 1 some do not, or could not be run; 2 usage.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("identmap-truth: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match command.as_str() {
        "consumers" => consumers::run(&options.cache, options.markdown),
        "list" => print_list(&options),
        "report" => print_report(&options),
        "recheck" => recheck(&options),
        "run" | "ci" => run(&options, command == "ci"),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("identmap-truth: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    cache: PathBuf,
    filter: Option<String>,
    seed: u64,
    jobs: usize,
    patience: Duration,
    markdown: bool,
    resume: bool,
    trace: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let repository = here.ancestors().nth(2).unwrap_or(here);
        let cache = std::env::var_os("IDENTMAP_CACHE").filter(|value| !value.is_empty());
        let cache = cache.map_or_else(|| repository.join(".cache"), PathBuf::from);
        let mut options = Self {
            cache: std::path::absolute(&cache).map_err(|error| error.to_string())?,
            filter: None,
            seed: 1,
            jobs: 2,
            patience: Duration::from_mins(5),
            markdown: false,
            resume: false,
            trace: None,
        };
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
            let mut number = |limit: u64| {
                let number = value()?.parse().ok().filter(|number| (1..=limit).contains(number));
                number.ok_or(format!("{option} needs a number from 1 to {limit}"))
            };
            match option.as_str() {
                "--trace" => options.trace = Some(value()?.into()),
                "--filter" => options.filter = Some(value()?),
                "--seed" => options.seed = number(u64::MAX)?,
                "--jobs" => options.jobs = number(64)? as usize,
                "--patience" => options.patience = Duration::from_secs(number(3600)?),
                "--resume" => options.resume = true,
                "--markdown" => options.markdown = true,
                _ => return Err(format!("no such option: {option}")),
            }
        }
        Ok(options)
    }

    fn scenarios(&self) -> Result<(Vec<Kernel>, Vec<Scenario>), Failure> {
        let kernels = consumers::sound(kernels::all(&self.cache)?);
        let names: Vec<String> = kernels.iter().map(|kernel| kernel.name.clone()).collect();
        let mut scenarios = list::all(&names, self.seed);
        if let Some(filter) = &self.filter {
            scenarios.retain(|scenario| passes(&scenario.to_string(), filter));
        }
        Ok((kernels, scenarios))
    }
}

/// Whether a scenario's name passes a filter, see [`USAGE`].
fn passes(name: &str, filter: &str) -> bool {
    let part =
        |part: &str| if part.ends_with('/') { name.starts_with(part) } else { name.contains(part) };
    filter.split(',').any(|word| word.split('+').all(part))
}

fn print_list(options: &Options) -> Result<bool, Failure> {
    for scenario in options.scenarios()?.1 {
        println!("{scenario}");
    }
    Ok(true)
}

/// The document, in the order of the list.
fn print_report(options: &Options) -> Result<bool, Failure> {
    let (kernels, scenarios) = options.scenarios()?;
    let kept = read_kept(&options.cache)?;
    let rows: Vec<Kept> = scenarios
        .iter()
        .filter_map(|scenario| kept.iter().find(|kept| kept.name == scenario.to_string()).cloned())
        .collect();
    print!("{}", report::markdown(&rows, &kernels, options.seed, scenarios.len())?);
    Ok(true)
}

/// What QEMU did does not depend on the preflight: where that says the same as before, they still agree.
fn recheck(options: &Options) -> Result<bool, Failure> {
    let (kernels, scenarios) = options.scenarios()?;
    let kept = read_kept(&options.cache)?;
    let mut profiles = BTreeMap::new();
    for cpu in Cpu::ALL {
        profiles.insert(cpu.to_string(), cpu.profile()?);
    }
    let (mut same, mut wrong) = (0, 0);
    for scenario in &scenarios {
        let name = scenario.to_string();
        let Some(kept) = kept.iter().find(|kept| kept.name == name && kept.passed) else {
            continue;
        };
        let kernel = kernels.iter().find(|kernel| kernel.name == scenario.kernel);
        let image = kernel.ok_or("no such kernel")?.read()?;
        let profile = *profiles.get(&scenario.cpu.to_string()).ok_or("no such processor")?;
        let (holes, report) = scenario.preflight(&image, profile)?;
        match kept.again(scenario, &holes, &report.outcome) {
            Ok(()) => same += 1,
            Err(difference) => {
                wrong += 1;
                println!("{name}: {difference}");
            }
        }
    }
    println!("{same} preflights say what they said beside QEMU, {wrong} do not");
    Ok(same > 0 && wrong == 0)
}

fn results(cache: &Path) -> PathBuf {
    cache.join("truth/results.tsv")
}

fn read_kept(cache: &Path) -> Result<Vec<Kept>, Failure> {
    let path = results(cache);
    if !path.exists() {
        return Ok(Vec::new());
    }
    Ok(fs::read_to_string(&path)?.lines().filter_map(Kept::parse).collect())
}

fn run(options: &Options, sample: bool) -> Result<bool, Failure> {
    let started = Instant::now();
    work_dir::remove_stale();
    let (kernels, mut scenarios) = options.scenarios()?;
    if sample {
        scenarios.retain(list::is_sample);
        if scenarios.len() != list::SAMPLE.len() {
            return Err("a kernel of the sample is missing: run lab/fetch.sh".into());
        }
    }
    let mut kept = read_kept(&options.cache)?;
    let is_listed = |kept: &Kept| scenarios.iter().any(|s| s.to_string() == kept.name);
    if options.resume {
        kept.retain(|kept| kept.passed || !is_listed(kept));
        scenarios.retain(|scenario| kept.iter().all(|kept| kept.name != scenario.to_string()));
    } else {
        // What a filter leaves out stays.
        kept.retain(|kept| !is_listed(kept));
    }
    if scenarios.is_empty() && options.resume && !kept.is_empty() {
        println!("of all that match, something is kept");
        return Ok(true);
    }
    if scenarios.is_empty() {
        return Err("no scenario matches; `identmap-truth list` shows them".into());
    }
    let mut profiles = BTreeMap::new();
    for cpu in Cpu::ALL {
        profiles.insert(cpu.to_string(), cpu.profile()?);
    }
    let file = if sample {
        None
    } else {
        let path = results(&options.cache);
        fs::create_dir_all(path.parent().ok_or("no directory")?)?;
        let mut file = File::create(&path)?;
        kept.iter().try_for_each(|kept| file.write_all(kept.line().as_bytes()))?;
        Some(Mutex::new(file))
    };
    let rows = compare_all(&scenarios, &kernels, &profiles, options, file.as_ref())?;
    print!("{}", report::summary(&rows, started.elapsed().as_secs_f64()));
    Ok(rows.iter().all(Row::passed))
}

/// Runs scenarios, `jobs` at once, and says on standard error how each ended; in their order.
fn compare_all(
    scenarios: &[Scenario],
    kernels: &[Kernel],
    profiles: &BTreeMap<String, CpuProfile>,
    options: &Options,
    file: Option<&Mutex<File>>,
) -> Result<Vec<Row>, Failure> {
    let date = report::output("date", &["-u", "+%Y-%m-%d"])?;
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..scenarios.len()).collect());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.min(scenarios.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(index) = next else { break };
                    let scenario = &scenarios[index];
                    let result = compare(scenario, kernels, profiles, options)
                        .map_err(|error| error.to_string());
                    let row = Row { scenario: scenario.clone(), result };
                    eprintln!("{}", report::line(&row));
                    if let Some(Ok(mut file)) = file.map(Mutex::lock) {
                        // The table is printed too.
                        let _ = file.write_all(Kept::of(&row, &date).line().as_bytes());
                    }
                    if let Ok(mut rows) = rows.lock() {
                        rows.push((index, row));
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn compare(
    scenario: &Scenario,
    kernels: &[Kernel],
    profiles: &BTreeMap<String, CpuProfile>,
    options: &Options,
) -> Result<Compared, Failure> {
    let kernel = kernels.iter().find(|kernel| kernel.name == scenario.kernel);
    let image = kernel.ok_or("no such kernel")?.read()?;
    let profile = *profiles.get(&scenario.cpu.to_string()).ok_or("no such processor")?;
    scenario.compare(&image, profile, options.patience, options.trace.as_deref())
}
