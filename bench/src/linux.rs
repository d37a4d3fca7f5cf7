//! Linux's own `ident_map.c`, compiled and measured by `identmap-oracle time`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::Options;
use crate::cases::Case;
use crate::clock::median;

/// The series that are measured: one of each policy.
const SERIES: [&str; 2] = ["5.10", "6.12"];

/// What one source took.
pub(crate) struct Linux {
    /// `Linux 6.12.117-1`
    pub(crate) package: String,
    pub(crate) policy: String,
    pub(crate) tables: u64,
    /// The program that can build it again.
    pub(crate) executable: String,
    /// Nanoseconds of one build.
    pub(crate) build: f64,
    /// By rounds, as a multiple of `memset` to 0 and to 0xe3 in the same process.
    pub(crate) ratios: [f64; 2],
}

/// Measures a case, with every source that can have it.
pub(crate) fn time(
    options: &Options,
    case: &Case,
    rounds: usize,
    repeats: u64,
) -> Result<Vec<Linux>, String> {
    let Some(oracle) = &options.oracle else { return Ok(Vec::new()) };
    let mut command = Command::new(oracle);
    command.arg("time");
    for series in SERIES {
        command.args(["--series", series]);
    }
    command.args(["--gbpages", if case.gbpages { "on" } else { "off" }]);
    command.args(["--rounds", &rounds.to_string(), "--repeats", &repeats.to_string()]);
    let fail = |e: std::io::Error| format!("{}: {e}", oracle.display());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(fail)?;
    let mut input = child.stdin.take().ok_or("no pipe")?;
    for request in &case.requests {
        writeln!(input, "{} {}", request.start().get(), request.end().get()).map_err(fail)?;
    }
    drop(input);
    let output = child.wait_with_output().map_err(fail)?;
    if !output.status.success() {
        return Err(format!("{} time: {}", oracle.display(), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| parse(line, repeats).ok_or(format!("not understood: {line}"))).collect()
}

fn parse(line: &str, repeats: u64) -> Option<Linux> {
    let mut fields = line.split('\t');
    let (_series, package, policy) = (fields.next()?, fields.next()?, fields.next()?);
    let (tables, executable) = (fields.next()?.parse().ok()?, fields.next()?);
    let times: Vec<f64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let rounds = times.chunks_exact(3);
    let ratios =
        [1, 2].map(|of| median(rounds.clone().map(|round| round[0] / round[of]).collect()));
    let build = rounds.map(|round| round[0] / repeats as f64).collect();
    let version = package.rsplit(' ').next()?;
    Some(Linux {
        package: format!("Linux {version}"),
        policy: policy.into(),
        tables,
        executable: executable.into(),
        build: median(build),
        ratios,
    })
}
