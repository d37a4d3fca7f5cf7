//! Linux's own `ident_map.c`, compiled and measured by `identmap-oracle time`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::Options;
use crate::cases::Case;

/// The series that are measured: one of each policy.
const SERIES: [&str; 2] = ["5.10", "6.12"];

/// What one source took in one round.
pub(crate) struct Linux {
    /// `Linux 6.12.117-1`
    pub(crate) package: String,
    pub(crate) policy: String,
    pub(crate) tables: u64,
    /// The program that can build it again.
    pub(crate) executable: String,
    /// Nanoseconds of one build, of one `memset` of the same bytes to 0 and of one to 0xe3, in the same process.
    pub(crate) times: [f64; 3],
}

/// One round of a case, with every source that can have it.
pub(crate) fn round(options: &Options, case: &Case, repeats: u64) -> Result<Vec<Linux>, String> {
    let Some(oracle) = &options.oracle else { return Ok(Vec::new()) };
    let mut command = Command::new(oracle);
    command.arg("time");
    for series in SERIES {
        command.args(["--series", series]);
    }
    command.args(["--gbpages", if case.gbpages { "on" } else { "off" }]);
    command.args(["--rounds", "1", "--repeats", &repeats.to_string()]);
    let fail = |e: std::io::Error| format!("{}: {e}", oracle.display());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut input = child.stdin.take().ok_or("no pipe")?;
    for request in &case.requests {
        writeln!(input, "{} {}", request.start().get(), request.end().get()).map_err(fail)?;
    }
    drop(input);
    let output = child.wait_with_output().map_err(fail)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} time: {}\n{said}", oracle.display(), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| parse(line, repeats).ok_or(format!("not understood: {line}"))).collect()
}

fn parse(line: &str, repeats: u64) -> Option<Linux> {
    let mut fields = line.split('\t');
    let (_series, package, policy) = (fields.next()?, fields.next()?, fields.next()?);
    let (tables, executable) = (fields.next()?.parse().ok()?, fields.next()?);
    let mut times = [0.0; 3];
    for time in &mut times {
        *time = fields.next()?.parse::<f64>().ok()? / repeats as f64;
    }
    let version = package.rsplit(' ').next()?;
    Some(Linux {
        package: format!("Linux {version}"),
        policy: policy.into(),
        tables,
        executable: executable.into(),
        times,
    })
}
