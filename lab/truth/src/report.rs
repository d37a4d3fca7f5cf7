//! Tables of what was compared.

use std::fmt::Write;
use std::process::Command;

use identmap::PhysRange;
use identmap_lab::guest::Failure;
use identmap_preflight::{Fault, Outcome};

use crate::kernels::Kernel;
use crate::qemu::{Seen, State};
use crate::scenario::{Compared, Scenario};

/// A scenario, and what came of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario.
    pub scenario: Scenario,
    /// Both ends; or why there are none.
    pub result: Result<Compared, String>,
}

impl Row {
    /// Both sides agree, and wrong tables would have been noticed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|c| c.difference.is_none() && c.noticed)
    }
}

/// One line.
#[must_use]
pub fn line(row: &Row) -> String {
    let word = if row.passed() { "passed" } else { "FAILED" };
    let name = row.scenario.to_string();
    match &row.result {
        Err(error) => format!("{name:42} {word}  {error}"),
        Ok(c) => {
            let why = match (&c.difference, c.noticed) {
                (Some(difference), _) => format!("; {difference}"),
                (None, false) => "; wrong tables would not be noticed".to_owned(),
                (None, true) => String::new(),
            };
            format!("{name:42} {word} {:5.1} s  {}; {}{why}", c.seconds, c.seen, c.report.outcome)
        }
    }
}

/// Counts.
#[must_use]
pub fn summary(rows: &[Row], seconds: f64) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    let good = rows.iter().filter(|row| row.passed()).count();
    let of = |word: &str| {
        let ends = rows.iter().filter_map(|row| row.result.as_ref().ok());
        ends.filter(|c| c.seen.to_string() == word).count()
    };
    let _ = writeln!(
        text,
        "QEMU: {} come up, {} reset, {} hang, {} halt; {seconds:.0} s",
        of("comes up"),
        of("resets"),
        of("hangs"),
        of("halts")
    );
    let noticed = rows.iter().filter(|row| row.result.as_ref().is_ok_and(|c| c.noticed)).count();
    let all = rows.len();
    let _ = writeln!(
        text,
        "wrong on purpose: {noticed} of {all} preflights of other tables are noticed"
    );
    let _ = writeln!(text, "{good} passed, {} failed", all - good);
    text
}

/// A row of the document, as it is kept: fields parted by tabs.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The consumer and the scenario.
    pub name: String,
    date: String,
    seconds: f64,
    /// Both sides agree.
    pub passed: bool,
    /// Processor and tables, holes, QEMU's end, the preflight's.
    cells: [String; 4],
}

impl Kept {
    /// What is kept of a row.
    #[must_use]
    pub fn of(row: &Row, date: &str) -> Kept {
        let scenario = &row.scenario;
        let (seconds, cells) = match &row.result {
            Err(error) => (0.0, [terms(scenario), String::new(), error.clone(), String::new()]),
            Ok(c) => {
                let ends = (seen(&c.seen), preflight(&c.report.outcome));
                (c.seconds, [terms(scenario), holes(&c.holes), ends.0, ends.1])
            }
        };
        let cells = cells.map(|cell| cell.replace(['\t', '\n', '|'], " "));
        let (name, date) = (scenario.to_string(), date.to_owned());
        Kept { name, date, seconds, passed: row.passed(), cells }
    }

    /// Whether a preflight of the same memory under the same tables says what this one said.
    ///
    /// # Errors
    /// What is not the same, both ways.
    pub fn again(
        &self,
        scenario: &Scenario,
        without: &[PhysRange],
        outcome: &Outcome,
    ) -> Result<(), String> {
        let [kept_terms, kept_holes, _, kept] = &self.cells;
        let now = [terms(scenario), holes(without), preflight(outcome)];
        for (kept, now) in [kept_terms, kept_holes, kept].into_iter().zip(now) {
            let now = now.replace(['\t', '\n', '|'], " ");
            if *kept != now {
                return Err(format!("kept: {kept}; now: {now}"));
            }
        }
        Ok(())
    }

    /// The line in the file.
    #[must_use]
    pub fn line(&self) -> String {
        let Kept { name, date, seconds, passed, cells: [a, b, c, d] } = self;
        format!("{name}\t{date}\t{seconds:.1}\t{passed}\t{a}\t{b}\t{c}\t{d}\n")
    }

    /// Reads a line; `None` if it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Kept> {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next();
        Some(Kept {
            name: next()?,
            date: next()?,
            seconds: next()?.parse().ok()?,
            passed: next()?.parse().ok()?,
            cells: [next()?, next()?, next()?, next()?],
        })
    }
}

/// docs/preflight-truth.md, of so many scenarios that are listed.
///
/// # Errors
/// When QEMU's version cannot be had.
pub fn markdown(
    rows: &[Kept],
    kernels: &[Kernel],
    seed: u64,
    listed: usize,
) -> Result<String, Failure> {
    let mut text = include_str!("truth.md.in").to_owned();
    let of = |word: &str| rows.iter().filter(|row| row.cells[2].starts_with(word)).count();
    let good = rows.iter().filter(|row| row.passed).count();
    let version = output("qemu-system-x86_64", &["--version"])?;
    for (name, value) in [
        ("DATE", rows.iter().map(|row| row.date.as_str()).max().unwrap_or_default().to_owned()),
        ("QEMU", version.lines().next().unwrap_or_default().to_owned()),
        ("COUNT", rows.len().to_string()),
        ("LISTED", listed.to_string()),
        ("GOOD", good.to_string()),
        ("SEED", seed.to_string()),
        ("UP", of("comes up").to_string()),
        ("RESET", of("resets").to_string()),
        ("HANG", (of("hangs") + of("halts")).to_string()),
        ("MINUTES", format!("{:.0}", rows.iter().map(|row| row.seconds).sum::<f64>() / 60.0)),
    ] {
        text = text.replace(&format!("@{name}@"), value.trim());
    }
    for kernel in kernels {
        let prefix = format!("{}/", kernel.name);
        let mut of_kernel =
            rows.iter().filter_map(|row| Some((row.name.strip_prefix(&prefix)?, row))).peekable();
        if of_kernel.peek().is_none() {
            continue;
        }
        let _ = writeln!(text, "\n## {}\n\n{}\n", kernel.name, kernel.package);
        text.push_str("| scenario | processor, tables | not mapped | QEMU | preflight | |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for (name, row) in of_kernel {
            let word = if row.passed { "=" } else { "**differ**" };
            let _ = writeln!(text, "| {name} | {} | {word} |", row.cells.join(" | "));
        }
    }
    Ok(text)
}

fn terms(scenario: &Scenario) -> String {
    let mut words = vec![scenario.cpu.to_string()];
    words.push(format!("{} levels", scenario.levels.count()));
    if !scenario.gbpages {
        words.push("no 1G".to_owned());
    }
    if scenario.efi {
        words.push("EFI".to_owned());
    }
    if !scenario.append.is_empty() {
        words.push(format!("`{}`", scenario.append));
    }
    words.join(", ")
}

fn holes(holes: &[PhysRange]) -> String {
    if holes.is_empty() {
        return "–".to_owned();
    }
    let texts: Vec<String> = holes
        .iter()
        .map(|hole| format!("{:#x}-{:#x}", hole.start().get(), hole.last().get()))
        .collect();
    texts.join(", ")
}

fn seen(seen: &Seen) -> String {
    match seen {
        Seen::Up(_) => seen.to_string(),
        Seen::Reset(State { rip, cr2, .. }) | Seen::Hang(State { rip, cr2, .. }) => {
            format!("{seen}, RIP {rip:#x}, CR2 {cr2:#x}")
        }
    }
}

fn preflight(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reached { .. } => "reached".to_owned(),
        Outcome::Fault(fault) => {
            let Fault { rip, page_fault, repeats, vector, .. } = &**fault;
            let end = if *repeats { "hangs" } else { "resets" };
            match page_fault {
                Some(page) => format!(
                    "{end}, RIP {:#x}, CR2 {:#x}, code {:#x}",
                    rip.get(),
                    page.cr2.get(),
                    page.code
                ),
                None => format!("{end}, exception {vector} at {:#x}", rip.get()),
            }
        }
        Outcome::Halted { rip, .. } => format!("halts, RIP {:#x}", rip.get()),
        Outcome::Unknown(why) => format!("unknown: {why}"),
    }
}

/// What a program prints.
///
/// # Errors
/// When it cannot be run.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
