//! What goes to standard output, and the exit status.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
    let mut new = NewFile::create(file, mode)?;
    new.write(bytes)?;
    new.commit()
}

/// A file that is written beside its name and takes it when all is written, so that whoever opens the
/// name finds the old content or the new one, whole. Dropped before that, it leaves the old.
pub(crate) struct NewFile {
    file: File,
    name: PathBuf,
    /// Where it is written until then; `None` if what has the name is written to itself.
    beside: Option<PathBuf>,
}

impl NewFile {
    pub(crate) fn create(name: &Path, mode: u32) -> Result<NewFile, Failure> {
        let failed = |error: io::Error| Failure(format!("{}: {error}", name.display()));
        if fs::metadata(name).is_ok_and(|there| !there.is_file()) {
            let file = OpenOptions::new().write(true).open(name).map_err(failed)?;
            return Ok(NewFile { file, name: name.to_owned(), beside: None });
        }
        let last = name
            .file_name()
            .ok_or_else(|| Failure(format!("{}: not a file name", name.display())))?;
        let beside =
            name.with_file_name(format!(".{}.{}", last.to_string_lossy(), std::process::id()));
        let new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside);
        Ok(NewFile { file: new.map_err(failed)?, name: name.to_owned(), beside: Some(beside) })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| Failure(format!("{}: {error}", self.name.display())))
    }

    /// Gives it its name.
    pub(crate) fn commit(mut self) -> Result<(), Failure> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let moved = self.file.sync_all().and_then(|()| fs::rename(beside, &self.name));
        moved.map_err(|error| Failure(format!("{}: {error}", self.name.display())))?;
        self.beside = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = fs::remove_file(beside);
        }
    }
}
