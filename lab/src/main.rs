//! `identmap-lab`: runs the matrix of real kernels. See `lab/README.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use identmap_lab::cells::{self, Cell};
use identmap_lab::ci;
use identmap_lab::compare;
use identmap_lab::compare::mutate::Mutation;
use identmap_lab::compare::report::{self, Row};
use identmap_lab::guest::{Failure, Settings};
use identmap_lab::results;

const USAGE: &str = "\
usage: identmap-lab list [--filter WORDS]
       identmap-lab run [--filter WORDS] [--jobs N] [--no-jump] [--keep-dump] [--loud]
                        [--patience SECONDS] [--append WORDS] [--guest-bin FILE]
                        [--guest-run NAME=COMMAND]...
       identmap-lab ci [--jobs N] [--guest-bin FILE]
       identmap-lab kexec …       booting with a map of our own: `identmap-lab kexec --help`
       identmap-lab compare [--filter WORDS] [--guest-bin FILE] [--markdown | --mutate NAME|all]

  --filter WORDS   cells to run: words joined by commas, any of which must match; a word is a cell's
                   name or parts of it joined by +, such as 6.1+kdump,7.x
  --jobs N         guests at once (2)
  --no-jump        stop after the dump, do not boot the second kernel
  --keep-dump      keep all of the guest's memory (2.5 GiB each) as memory-all.elf
  --loud           let the kernels print to console.log
  --patience SECONDS   bound for a guest to load its image, and again to jump (120)
  --append WORDS   more words for the first kernel's command line
  --guest-bin FILE    a static binary, /bin/identmap in the guest; what it said there is compared,
                   and with what it says here of the guest's bundle
  --guest-run NAME=COMMAND   run it in the guest once the image is loaded; results/CELL/guest/NAME.out
  --markdown       docs/lab-tables.md on standard output
  --mutate NAME    make the model wrong, and count the cells that notice

Exit status: 0 every cell as expected; 1 a cell failed or differs; 2 usage.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    if command.as_deref() == Some("kexec") {
        return kexec(arguments);
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("identmap-lab: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let cells: Vec<Cell> = cells::all(|series| has_la57(&options.settings.cache, series))
        .into_iter()
        .filter(|cell| options.filter.as_ref().is_none_or(|f| cells::passes(&cell.to_string(), f)))
        .collect();
    match command.as_deref() {
        Some("list") => {
            for cell in &cells {
                println!("{cell}");
            }
            ExitCode::SUCCESS
        }
        Some("run") if cells.is_empty() => {
            eprintln!("identmap-lab: no cell matches; `identmap-lab list` shows them");
            ExitCode::from(2)
        }
        Some("run") => run(&cells, &options),
        Some("ci") => run_sample(&cells, &options),
        Some("compare") => compare(&options).unwrap_or_else(|error| {
            eprintln!("identmap-lab: {error}");
            ExitCode::FAILURE
        }),
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    settings: Settings,
    filter: Option<String>,
    jobs: usize,
    keep_dump: bool,
    markdown: bool,
    mutate: Option<Vec<Mutation>>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            settings: Settings {
                cache: default_cache(),
                guest_binary: None,
                guest_commands: Vec::new(),
                append: String::new(),
                jump: true,
                loud: false,
                patience: Duration::from_mins(2),
            },
            filter: None,
            jobs: 2,
            keep_dump: false,
            markdown: false,
            mutate: None,
        };
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
            match option.as_str() {
                "--filter" => options.filter = Some(value()?),
                "--jobs" => {
                    let jobs = value()?.parse().ok().filter(|jobs| (1..=64).contains(jobs));
                    options.jobs = jobs.ok_or("--jobs needs a number from 1 to 64")?;
                }
                "--no-jump" => options.settings.jump = false,
                "--keep-dump" => options.keep_dump = true,
                "--markdown" => options.markdown = true,
                "--mutate" => {
                    let name = value()?;
                    let chosen: Vec<Mutation> = Mutation::ALL
                        .into_iter()
                        .filter(|mutation| name == "all" || name == mutation.name())
                        .collect();
                    if chosen.is_empty() {
                        let names = Mutation::ALL.map(Mutation::name).join(", ");
                        return Err(format!("--mutate: no {name}; there are all, {names}"));
                    }
                    options.mutate = Some(chosen);
                }
                "--loud" => options.settings.loud = true,
                "--patience" => {
                    let seconds =
                        value()?.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                    let seconds = seconds.ok_or("--patience needs a number of seconds")?;
                    options.settings.patience = Duration::from_secs(seconds);
                }
                "--append" => options.settings.append = value()?,
                "--guest-bin" => options.settings.guest_binary = Some(value()?.into()),
                "--guest-run" => {
                    let text = value()?;
                    let plain = |name: &str| {
                        !name.is_empty()
                            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    };
                    let pair = text.split_once('=').filter(|(name, line)| {
                        plain(name) && !line.trim().is_empty() && !line.contains('\n')
                    });
                    let (name, line) =
                        pair.ok_or("--guest-run needs NAME=COMMAND, the name plain")?;
                    options.settings.guest_commands.push((name.to_owned(), line.to_owned()));
                }
                _ => return Err(format!("no such option: {option}")),
            }
        }
        Ok(options)
    }
}

/// Whether a fetched kernel has 5-level paging: its configuration says; 7.x's package has none beside
/// the image, and there it can no longer be turned off (arch/x86/Kconfig).
fn has_la57(cache: &Path, series: &str) -> bool {
    let config = std::fs::read_to_string(cache.join("kernels").join(series).join("config"));
    config.map_or(series == "7.x", |text| text.lines().any(|line| line == "CONFIG_X86_5LEVEL=y"))
}

fn run(cells: &[Cell], options: &Options) -> ExitCode {
    let started = Instant::now();
    let ended = results::run_all(cells, &options.settings, options.keep_dump, options.jobs);
    for outcome in &ended {
        println!("{outcome}");
    }
    let failed = ended.iter().filter(|outcome| outcome.result.is_err()).count();
    println!("{} cells, {failed} failed, {:.0} s", ended.len(), started.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_sample(cells: &[Cell], options: &Options) -> ExitCode {
    let started = Instant::now();
    match ci::run(cells, &options.settings, options.jobs) {
        Err(error) => {
            eprintln!("identmap-lab: {error}");
            ExitCode::FAILURE
        }
        Ok((passed, failed)) => {
            println!("{:.0} s", started.elapsed().as_secs_f64());
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// `identmap-lab kexec`
fn kexec(arguments: impl Iterator<Item = String>) -> ExitCode {
    match identmap_lab::kexec::command(arguments, default_cache()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(identmap_lab::kexec::CommandError::Usage(text)) => {
            eprintln!("identmap-lab kexec: {text}\n{}", identmap_lab::kexec::USAGE);
            ExitCode::from(2)
        }
        Err(identmap_lab::kexec::CommandError::Failed(error)) => {
            eprintln!("identmap-lab kexec: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `IDENTMAP_CACHE`, or the repository's `.cache`.
fn default_cache() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let cache = std::env::var_os("IDENTMAP_CACHE").filter(|value| !value.is_empty());
    let cache = cache.map_or_else(|| repository.join(".cache"), PathBuf::from);
    std::path::absolute(&cache).unwrap_or(cache)
}

/// Compares the results that are there with the model.
fn compare(options: &Options) -> Result<ExitCode, Failure> {
    let cache = &options.settings.cache;
    let mut found = compare::cells(cache)?;
    found.retain(|(name, _)| options.filter.as_ref().is_none_or(|f| cells::passes(name, f)));
    if found.is_empty() {
        return Err("no results to compare: run `identmap-lab run`".into());
    }
    if let Some(mutations) = &options.mutate {
        let table = compare::mutations(&found, mutations);
        print!("{}", report::mutations(&table));
        let unnoticed = table.iter().any(|row| row.noticed == 0);
        return Ok(if unnoticed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let rows: Vec<Row> = compare::all(&found, options.settings.guest_binary.as_deref());
    if options.markdown {
        print!("{}", report::markdown(&rows, &compare::mutations(&found, &Mutation::ALL), cache)?);
    } else {
        for row in &rows {
            print!("{}", report::lines(row));
        }
        let (good, bad) = report::counts(&rows);
        println!("{good} the same, {bad} different");
    }
    Ok(if report::counts(&rows).1 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
