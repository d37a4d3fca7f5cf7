//! Booting with a map of our own, shown on real kernels: `identmap-lab kexec`.
//!
//! [`machine`] is a guest whose state is kept and restored, [`media`] what it has in memory. Each part
//! is one promise: [`cells`] producers by consumers beside stock kexec-tools, [`kdump`] and [`hotplug`], [`levels`] of page
//! tables, other [`formats`], a [`hole`], [`corruption`], its [`cost`], [`kill`], and what is [`packaged`]. [`gdb`] and [`image`] reach into guests; [`report`]
//! writes the page.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::guest::Failure;

pub mod cells;
pub mod corruption;
pub mod cost;
pub mod formats;
pub mod gdb;
pub mod hole;
pub mod hotplug;
pub mod image;
pub mod kdump;
pub mod kill;
pub mod levels;
pub mod machine;
pub mod media;
pub mod packaged;
pub mod report;
pub mod uki;

use machine::{Guest, Spec, Trouble};

/// What all parts of a run share.
#[derive(Debug)]
pub struct Lab {
    /// `IDENTMAP_CACHE`, or the repository's `.cache`.
    pub cache: PathBuf,
    /// A statically linked binary of our own; without one, only stock kexec-tools are tried.
    pub own: Option<PathBuf>,
    /// Guests at once.
    pub jobs: usize,
    /// Bound for a boot, for a load, for a jump.
    pub patience: Duration,
    /// Only what this passes ([`crate::cells::passes`]).
    pub filter: Option<String>,
    /// The sample that is run for every change.
    pub sample: bool,
    /// Only these tools; all if it is empty.
    pub by: Vec<String>,
    initrd: PathBuf,
}

/// One line of a part's table.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Row {
    /// The part: one promise.
    pub part: String,
    /// The guest, and what was tried in it.
    pub name: String,
    /// `kexec -c`, `kexec -s` or `identmap`.
    pub tool: String,
    /// Whether it went as it must.
    pub passed: bool,
    /// What was seen.
    pub text: String,
    /// For all of it.
    pub seconds: f64,
    /// How often it was tried again because nothing came within the time given.
    pub retries: u32,
    /// The day, as YYYY-MM-DD in UTC.
    pub date: String,
}

/// Stock kexec-tools with `kexec_load(2)`.
pub const STOCK: &str = "kexec -c";
/// Stock kexec-tools with `kexec_file_load(2)`.
pub const STOCK_FILE: &str = "kexec -s";
/// Ours.
pub const OURS: &str = "identmap";

impl Lab {
    /// Builds the producers' initramfs.
    ///
    /// # Errors
    /// A file that is not there: what to do about it.
    pub fn new(cache: PathBuf, own: Option<PathBuf>) -> Result<Self, Failure> {
        let dir = cache.join("lab/kexec");
        fs::create_dir_all(dir.join("logs"))?;
        fs::create_dir_all(dir.join("snapshots"))?;
        let initrd = dir.join(format!("initrd-{}", std::process::id()));
        fs::write(&initrd, media::producer(&cache, own.as_deref())?)?;
        let patience = Duration::from_mins(4);
        Ok(Self {
            cache,
            own,
            jobs: 2,
            patience,
            filter: None,
            sample: false,
            by: Vec::new(),
            initrd,
        })
    }

    /// Where results, logs and snapshots are.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.cache.join("lab/kexec")
    }

    /// The console log of a guest.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        let plain = name.replace([' ', '/'], "_");
        self.dir().join("logs").join(format!("{plain}.log"))
    }

    /// The tools that are tried; of the sample, one of kexec-tools' two ways.
    #[must_use]
    pub fn tools(&self) -> Vec<&'static str> {
        let own = self.own.is_some();
        let mut tools = vec![STOCK, STOCK_FILE, OURS];
        tools.retain(|tool| self.by.is_empty() || self.by.iter().any(|asked| asked == tool));
        tools.retain(|tool| own || *tool != OURS);
        tools.retain(|tool| !(self.sample && self.by.is_empty() && *tool == STOCK_FILE));
        tools
    }

    /// Boots a producer, lets `first` ask it, and keeps its state. Tried again once if nothing came.
    ///
    /// # Errors
    /// Why it did not come up.
    pub fn prepare<T>(
        &self,
        name: &str,
        spec: &Spec,
        first: impl Fn(&mut Guest) -> Result<T, Trouble>,
    ) -> Result<Prepared<T>, Trouble> {
        let snapshot = self.dir().join("snapshots").join(format!("{name}-{}", std::process::id()));
        let attempt = || -> Result<T, Trouble> {
            let mut guest = Guest::boot(spec, &self.log(name), self.patience)?;
            let answer = first(&mut guest)?;
            guest.snapshot(&snapshot)?;
            Ok(answer)
        };
        let mut retries = 0;
        let answer = match attempt() {
            Err(Trouble::Late(_)) => {
                retries = 1;
                attempt()?
            }
            other => other?,
        };
        Ok(Prepared { spec: spec.clone(), snapshot: Snapshot(snapshot), answer, retries })
    }

    /// Runs `work` on all items, as many at once as there may be guests.
    pub fn each<I: Sync, R: Send>(&self, items: &[I], work: impl Fn(&I) -> R + Sync) -> Vec<R> {
        let next = Mutex::new(0..items.len());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(items.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.lock().ok().and_then(|mut next| next.next());
                        let Some(index) = index else { break };
                        let result = work(&items[index]);
                        if let Ok(mut done) = done.lock() {
                            done.push((index, result));
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_default();
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Whether the filter lets this name pass.
    #[must_use]
    pub fn wanted(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| crate::cells::passes(name, filter))
    }

    /// Tries something; once more if nothing came within the time given. Says how it went.
    pub fn row(
        &self,
        part: &str,
        name: &str,
        tool: &str,
        attempt: impl Fn() -> Result<String, Trouble>,
    ) -> Row {
        let started = Instant::now();
        let mut retries = 0;
        let result = match attempt() {
            Err(Trouble::Late(_)) => {
                retries = 1;
                attempt()
            }
            other => other,
        };
        let (passed, text) = match result {
            Ok(text) => (true, text),
            Err(error) => (false, error.to_string()),
        };
        let seconds = started.elapsed().as_secs_f64();
        let (part, name, tool) = (part.to_owned(), name.to_owned(), tool.to_owned());
        let date = report::today();
        let row = Row { part, name, tool, passed, text, seconds, retries, date };
        eprintln!("{row}");
        // A sample is for every change, the page for what was tried in full.
        if !self.sample
            && let Err(error) = self.keep(&row)
        {
            eprintln!("{}: not kept: {error}", row.name);
        }
        row
    }

    /// The row that was kept of a guest and a tool, if it passed.
    #[must_use]
    pub fn kept(&self, part: &str, name: &str, tool: &str) -> Option<Row> {
        let rows = report::read(&self.dir().join(format!("{part}.json"))).ok()?;
        rows.into_iter().find(|row| row.passed && row.name == name && row.tool == tool)
    }

    /// Keeps a row for the report, in place of an older one of the same guest and tool. Several runs may
    /// do so at once.
    fn keep(&self, row: &Row) -> Result<(), Failure> {
        let lock = fs::File::create(self.dir().join("lock"))?;
        lock.lock()?;
        let path = self.dir().join(format!("{}.json", row.part));
        let mut rows = report::read(&path)?;
        rows.retain(|old| (&old.name, &old.tool) != (&row.name, &row.tool));
        rows.push(row.clone());
        rows.sort_by(|a, b| (&a.name, &a.tool).cmp(&(&b.name, &b.tool)));
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(&rows)? + "\n")?;
        Ok(fs::rename(new, path)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.initrd);
    }
}

impl Lab {
    /// The machine that a series boots on, with the producers' initramfs.
    #[must_use]
    pub fn spec(&self, series: &str, firmware: crate::cells::Firmware) -> Spec {
        Spec {
            kernel: self.cache.join("kernels").join(series).join("vmlinuz"),
            initrd: self.initrd.clone(),
            firmware,
            la57: false,
            memory_mib: crate::guest::MEMORY_MIB,
            append: String::new(),
            options: Vec::new(),
        }
    }
}

impl Row {
    /// What stock kexec-tools cannot do is a finding, not a failure: except where it is what is shown.
    fn counts(&self) -> bool {
        self.tool == OURS || self.part == hole::PART
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.passed { "passed" } else { "FAILED" };
        let Self { part, name, tool, text, seconds, .. } = self;
        write!(f, "{part:10} {name:32} {tool:9} {word} {seconds:6.1} s  {text}")?;
        if self.retries > 0 {
            write!(f, "  (tried again)")?;
        }
        Ok(())
    }
}

/// A producer's kept state.
#[derive(Debug)]
pub struct Prepared<T> {
    /// The machine.
    pub spec: Spec,
    snapshot: Snapshot,
    /// What it said before its state was kept.
    pub answer: T,
    /// How often it had to be booted again.
    pub retries: u32,
}

impl<T> Prepared<T> {
    /// The machine as it was.
    ///
    /// # Errors
    /// As [`Guest::restore`].
    pub fn restore(&self, console: &Path) -> Result<Guest, Trouble> {
        Guest::restore(&self.spec, &self.snapshot.0, console)
    }
}

/// A file of 100 to 300 MB that goes away with this value.
#[derive(Debug)]
struct Snapshot(PathBuf);

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// `identmap-lab kexec --help`
pub const USAGE: &str = "\
usage: identmap-lab kexec [PART...] [--sample] [--filter WORDS] [--jobs N] [--patience SECONDS]
                          [--guest-bin FILE] [--by TOOLS] [--markdown]
                          [--ask LINE]

  PART             what is shown; all of them if none is named:
                     cells       producers by consumers by firmware by 1G pages, beside kexec-tools
                     kdump       a panic, the capture kernel, /proc/vmcore
                     hotplug     memory that comes after a crash kernel was loaded
                     levels      5-level producers to 4-level consumers, and back
                     formats     kernels that are no bzImage: an ELF vmlinux, a UKI
                     hole        a consumer that resets under the producer's kind of map
                     corruption  a byte flips between load and jump
                     cost        verification of 200 MB, beside kexec-tools'
                     kill        SIGKILL while loading
                     packaged    packaging/ in an initramfs of each kind and under systemd
  --sample         what is run for every change
  --filter WORDS   cells to run: words joined by commas, any of which must match; a word is a cell's
                   name or parts of it joined by +, such as 6.1+ovmffar
  --jobs N         guests at once (2)
  --patience SECONDS   bound for a boot, for a load, for a jump (240)
  --by TOOLS       kexec -c, kexec -s, identmap: some of them, joined by commas
  --ask LINE       run this line in the first producer that --filter lets pass (such as 6.1+ovmffar), and
                   show what it says; the console is in CACHE/lab/kexec/logs
  --guest-bin FILE a static identmap; without it only stock kexec-tools are tried
  --markdown       write docs/kexec-lab.md from what was seen, now and before; with --markdown alone, nothing is run

Exit status: 0 all as it must be; 1 something was not; 2 usage.
";

/// Why a command did not run.
#[derive(Debug)]
pub enum CommandError {
    /// It was not understood.
    Usage(String),
    /// It could not be carried out.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Part = (&'static str, fn(&Lab) -> Vec<Row>);

const PARTS: &[Part] = &[
    (cells::PART, cells::run),
    (kdump::PART, kdump::run),
    (hotplug::PART, hotplug::run),
    (levels::PART, levels::run),
    (formats::PART, formats::run),
    (hole::PART, hole::run),
    (corruption::PART, corruption::run),
    (cost::PART, cost::run),
    (kill::PART, kill::run),
    (packaged::PART, packaged::run),
];

/// `identmap-lab kexec`; whether all went as it must.
///
/// # Errors
/// [`CommandError`]
pub fn command(
    mut arguments: impl Iterator<Item = String>,
    cache: PathBuf,
) -> Result<bool, CommandError> {
    let usage = |text: &str| CommandError::Usage(text.to_owned());
    let mut parts: Vec<Part> = Vec::new();
    let (mut own, mut filter, mut sample, mut markdown) = (None, None, false, false);
    let (mut jobs, mut patience) = (2, 240);
    let (mut ask, mut by) = (None, Vec::new());
    while let Some(word) = arguments.next() {
        let mut value = || arguments.next().ok_or(usage(&format!("{word} needs a value")));
        match word.as_str() {
            "--sample" => sample = true,
            "--markdown" => markdown = true,
            "--filter" => filter = Some(value()?),
            "--guest-bin" => own = Some(PathBuf::from(value()?)),
            "--jobs" => jobs = value()?.parse().map_err(|_| usage("--jobs needs a number"))?,
            "--patience" => {
                patience = value()?.parse().map_err(|_| usage("--patience needs a number"))?;
            }
            "--by" => by = value()?.split(',').map(str::to_owned).collect(),
            "--ask" => ask = Some(value()?),
            "--help" => {
                print!("{USAGE}");
                return Ok(true);
            }
            name => {
                let part = PARTS.iter().find(|(part, _)| *part == name);
                parts.push(*part.ok_or(usage(&format!("no such option or part: {name}")))?);
            }
        }
    }
    let asked = parts.is_empty() && !(markdown && filter.is_none() && !sample && own.is_none());
    if asked {
        parts = PARTS.to_vec();
    }
    crate::work_dir::remove_stale();
    let started = Instant::now();
    let mut lab = Lab::new(cache, own)?;
    lab.jobs = jobs;
    lab.patience = Duration::from_secs(patience);
    lab.filter = filter;
    lab.sample = sample;
    lab.by = by;
    if let Some(line) = ask {
        return Ok(cells::ask(&lab, &line)?);
    }
    let mut all = Vec::new();
    for (part, run) in parts {
        // What an older version saw under another name does not stay.
        if lab.filter.is_none() && !lab.sample && lab.by.is_empty() {
            let _ = fs::remove_file(lab.dir().join(format!("{part}.json")));
        }
        all.extend(run(&lab));
    }
    if markdown {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        fs::write(repository.join("docs/kexec-lab.md"), report::markdown(&lab)?)?;
    }
    println!();
    for row in &all {
        println!("{row}");
    }
    let failed = all.iter().filter(|row| !row.passed && row.counts()).count();
    let stock = all.iter().filter(|row| !row.passed && !row.counts()).count();
    let retries: u32 = all.iter().map(|row| row.retries).sum();
    println!(
        "{} rows: {failed} failed; {stock} of kexec-tools did not come up; {retries} tried again; {:.0} s",
        all.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(failed == 0 && (!asked || !all.is_empty()))
}
