//! What goes to standard output, and the exit status.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use identmap_report::{List, Style};
use serde::Serialize;

use crate::args::{ListArgs, Output, When};

/// The exit status, as the manual lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// 0.
    Safe,
    /// 1: a problem was found.
    Problem,
    /// 2: usage, or an input that cannot be read.
    Unusable,
    /// 3: cannot tell.
    Unknown,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(match status {
            Status::Safe => 0,
            Status::Problem => 1,
            Status::Unusable => 2,
            Status::Unknown => 3,
        })
    }
}

/// Why a command ended without an answer; printed behind `identmap: `, exit status 2.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Failure {
        Failure(text.to_string())
    }
}

impl Output {
    /// Prints a report as text or as JSON, or not at all.
    pub(crate) fn print<R: Serialize>(
        &self,
        report: &R,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        let out = if self.json {
            let mut json = serde_json::to_string_pretty(report).map_err(Failure::new)?;
            json.push('\n');
            json
        } else {
            text(self.style_of(io::stdout().is_terminal()))
        };
        write_out(out.as_bytes())
    }

    /// Prints a list in the form that was asked for.
    pub(crate) fn print_list(&self, mut list: List, args: &ListArgs) -> Result<(), Failure> {
        if let Some(names) = &args.columns {
            list.choose(names).map_err(Failure::new)?;
        }
        if self.quiet {
            return Ok(());
        }
        let style = self.style_of(io::stdout().is_terminal());
        write_out(list.text(args.form(), !args.noheadings, style).as_bytes())
    }

    /// The style for a terminal, or for something else.
    pub(crate) fn style_of(&self, is_terminal: bool) -> Style {
        let colour = match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && is_terminal
            }
        };
        Style { colour, bytes: self.bytes }
    }
}

/// Writes to standard output.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        // `identmap … | head` has what it wants.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure(format!("cannot write: {error}"))),
    }
}

/// Writes a file beside and then moves it to its name, so that a failure leaves what was there before. What is
/// there and is no regular file (`/dev/stdout`, a pipe) is written to, not replaced.
pub(crate) fn write_file(file: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure(format!("{}: {error}", file.display()));
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return fs::write(file, bytes).map_err(failed);
    }
    let name =
        file.file_name().ok_or_else(|| Failure(format!("{}: not a file name", file.display())))?;
    let beside = file.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut new| new.write_all(bytes).and_then(|()| new.sync_all()))
        .and_then(|()| fs::rename(&beside, file));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}
