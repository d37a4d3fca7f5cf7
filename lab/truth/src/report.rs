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
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|c| c.difference.is_none() && c.noticed)
    }
}

/// One line.
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
    let _ = writeln!(text, "{good} passed, {} failed", rows.len() - good);
    text
}

/// docs/preflight-truth.md.
///
/// # Errors
/// When the date or QEMU's version cannot be had.
pub fn markdown(
    rows: &[Row],
    kernels: &[Kernel],
    seed: u64,
    seconds: f64,
) -> Result<String, Failure> {
    let mut text = include_str!("truth.md.in").to_owned();
    let good = rows.iter().filter(|row| row.passed()).count();
    let version = output("qemu-system-x86_64", &["--version"])?;
    let used: Vec<&Kernel> = kernels
        .iter()
        .filter(|kernel| rows.iter().any(|row| row.scenario.kernel == kernel.name))
        .collect();
    for (name, value) in [
        ("DATE", output("date", &["-u", "+%Y-%m-%d"])?),
        ("QEMU", version.lines().next().unwrap_or_default().to_owned()),
        ("COUNT", rows.len().to_string()),
        ("GOOD", good.to_string()),
        ("SEED", seed.to_string()),
        ("SECONDS", format!("{seconds:.0}")),
    ] {
        text = text.replace(&format!("@{name}@"), value.trim());
    }
    for kernel in used {
        let _ = writeln!(text, "\n## {}\n\n{}\n", kernel.name, kernel.package);
        text.push_str("| scenario | processor, tables | not mapped | QEMU | preflight | |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for row in rows.iter().filter(|row| row.scenario.kernel == kernel.name) {
            let scenario = &row.scenario;
            let (holes, ends) = match &row.result {
                Err(error) => (String::new(), format!("{error} | ")),
                Ok(c) => (holes(&c.holes), format!("{} | {}", seen(&c.seen), preflight(&c.report.outcome))),
            };
            let word = if row.passed() { "=" } else { "**differ**" };
            let _ = writeln!(text, "| {} | {} | {holes} | {ends} | {word} |", scenario.name, terms(scenario));
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
