//! Instructions, counted by callgrind: the same on every machine, however busy.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::Options;
use crate::cases::Case;
use crate::fill::Builder;
use crate::linux::Linux;

/// One build of a case by identmap, a crate or `memset`.
pub(crate) fn of_builder(case: &str, builder: Builder) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = callgrind("*fill::counted*");
    command.arg(program).args(["once", case, builder.name()]);
    count(command, &[])
}

/// One build by Linux: the shim's function around the calls, which zeroes tables as they are taken.
pub(crate) fn of_linux(_: &Options, case: &Case, linux: &Linux) -> Result<u64, String> {
    let mut command = callgrind("build");
    command.arg(&linux.executable);
    let mut words = vec![4, u64::from(case.gbpages), 0, 0x1e3, 0x63, u64::MAX, 0, 1 << 20, 65536];
    words.push(case.requests.len() as u64);
    words.extend(case.requests.iter().flat_map(|r| [r.start().get(), r.end().get()]));
    words.insert(0, words.len() as u64 * 8);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    count(command, &bytes)
}

fn callgrind(function: &str) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(format!("--toggle-collect={function}"));
    command
}

fn count(mut command: Command, input: &[u8]) -> Result<u64, String> {
    let fail = |e: std::io::Error| format!("valgrind could not be run (is it installed?): {e}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    child.stdin.take().ok_or("no pipe")?.write_all(input).map_err(fail)?;
    let output = child.wait_with_output().map_err(fail)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let number = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    number.filter(|&n| n > 0 && output.status.success()).ok_or(format!("callgrind:\n{text}"))
}
