//! `identmap-lab`: runs the matrix of real kernels. See `lab/README.md`.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use identmap_lab::cells::{self, Cell};
use identmap_lab::guest::Settings;
use identmap_lab::results::{self, Outcome};

const USAGE: &str = "\
usage: identmap-lab list [--filter WORDS]
       identmap-lab run [--filter WORDS] [--jobs N] [--no-jump] [--keep-dump] [--loud]
                        [--patience SECONDS] [--append WORDS] [--guest-bin FILE]
                        [--guest-run NAME=COMMAND]...

  --filter WORDS   cells to run: words joined by commas, any of which must match; a word is a cell's
                   name or parts of it joined by +, such as 6.1+kdump,7.x
  --jobs N         guests at once (2)
  --no-jump        stop after the dump, do not boot the second kernel
  --keep-dump      keep all of the guest's memory (2.5 GiB each) as memory-all.elf
  --loud           let the kernels print to console.log
  --patience SECONDS   bound for a guest to load its image, and again to jump (120)
  --append WORDS   more words for the first kernel's command line
  --guest-bin FILE    a static binary, /bin/identmap in the guest
  --guest-run NAME=COMMAND   run it in the guest once the image is loaded; results/CELL/guest/NAME.out

Exit status: 0 every cell as expected; 1 a cell failed; 2 usage.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
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
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let cache = std::env::var_os("IDENTMAP_CACHE").filter(|value| !value.is_empty());
        let cache = cache.map_or_else(|| repository.join(".cache"), PathBuf::from);
        let mut options = Self {
            settings: Settings {
                cache: std::path::absolute(&cache).map_err(|error| error.to_string())?,
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
    let queue: Mutex<VecDeque<Cell>> = Mutex::new(cells.iter().copied().collect());
    let board = Board::new(cells.len());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.min(cells.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(cell) = next else { break };
                    let name = cell.to_string();
                    let say = |phase: &str| board.phase(&name, phase);
                    board.done(results::run(&cell, &options.settings, options.keep_dump, &say));
                }
            });
        }
    });
    board.finish(started.elapsed())
}

/// What is running, on a terminal's last line, and what has ended.
struct Board(Mutex<State>);

struct State {
    total: usize,
    running: Vec<(String, String)>,
    ended: Vec<Outcome>,
    terminal: bool,
}

impl Board {
    fn new(total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self(Mutex::new(State { total, running: Vec::new(), ended: Vec::new(), terminal }))
    }

    fn phase(&self, cell: &str, phase: &str) {
        let Ok(mut state) = self.0.lock() else { return };
        match state.running.iter_mut().find(|(name, _)| name == cell) {
            Some(found) => phase.clone_into(&mut found.1),
            None => state.running.push((cell.to_owned(), phase.to_owned())),
        }
        state.draw();
    }

    fn done(&self, outcome: Outcome) {
        let Ok(mut state) = self.0.lock() else { return };
        state.running.retain(|(name, _)| *name != outcome.cell);
        state.erase();
        let count = state.ended.len() + 1;
        eprintln!("[{count:2}/{}] {}", state.total, line(&outcome));
        state.ended.push(outcome);
        state.draw();
    }

    fn finish(&self, elapsed: Duration) -> ExitCode {
        let Ok(mut state) = self.0.lock() else { return ExitCode::FAILURE };
        state.erase();
        state.ended.sort_by(|a, b| a.cell.cmp(&b.cell));
        for outcome in &state.ended {
            println!("{}", line(outcome));
        }
        let failed = state.ended.iter().filter(|outcome| outcome.result.is_err()).count();
        println!("{} cells, {failed} failed, {:.0} s", state.ended.len(), elapsed.as_secs_f64());
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl State {
    fn draw(&self) {
        if self.terminal {
            let text: Vec<String> =
                self.running.iter().map(|(name, phase)| format!("{name}: {phase}")).collect();
            eprint!("\r\x1b[K[{}/{}] {}", self.ended.len(), self.total, text.join(" | "));
            let _ = std::io::stderr().flush();
        }
    }

    fn erase(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(outcome: &Outcome) -> String {
    let (word, text) = match &outcome.result {
        Ok(text) => ("ok", text),
        Err(text) => ("FAILED", text),
    };
    format!("{:28} {word:6} {:5.1} s  {text}", outcome.cell, outcome.seconds)
}
