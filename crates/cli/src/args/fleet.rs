//! `identmap fleet`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Facts, FailOn};

/// Judge thousands of machines in one run, and group what is found.
///
/// Every PATH is a file (a bundle or a log, recognised by content), a directory that is searched for
/// such files, `live` or `sample:NAME`. In directories, names that begin with a dot, links to
/// directories and everything that is no file are passed over. What cannot be read is reported and
/// counted, and the rest is judged all the same. The same files give the same output, in whatever
/// order they are named.
#[derive(Args, Debug)]
pub(crate) struct Fleet {
    /// Files and directories; live; sample:NAME
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// What to print: a summary, a line of JSON for each machine, or what monitors and test tools read
    #[arg(long, value_name = "FORMAT", default_value = "text", conflicts_with = "json")]
    pub(crate) format: Format,

    /// Write to FILE, which is replaced in one step when all of it is written
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The kernel they kexec from, as uname -r prints it, instead of the one they run
    #[arg(long, value_name = "VERSION")]
    pub(crate) producer: Option<String>,

    /// The kernel they kexec to [default: any kernel since 5.10]
    #[arg(long, value_name = "VERSION")]
    pub(crate) consumer: Option<String>,

    /// Suppose nogbpages on the producer's command line
    #[arg(long)]
    pub(crate) nogbpages: bool,

    /// Judge the crash kernel's image (kexec -p) instead
    #[arg(short = 'p', long = "panic")]
    pub(crate) crash: bool,

    /// From which severity on the exit status is 1 (3 for what cannot be told)
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    pub(crate) fail_on: FailOn,

    /// Count a machine as unreadable that takes longer than SECONDS. 0 waits for ever [default: 60; 0 for
    /// standard input]
    #[arg(
        long,
        value_name = "SECONDS",
        overrides_with = "timeout",
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    pub(crate) timeout: Option<u64>,

    /// How deep to look into directories
    #[arg(long, value_name = "LEVELS", default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) depth: u8,

    /// How many machines to judge at once [default: one for each processor]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A summary by hardware, firmware and cause
    Text,
    /// A line of JSON for each machine
    Json,
    /// Metrics for Prometheus' textfile collector
    Prometheus,
    /// `JUnit`'s XML
    Junit,
    /// The Test Anything Protocol
    Tap,
}

impl Fleet {
    /// The facts as the other commands take them.
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            producer: self.producer.clone(),
            consumer: self.consumer.clone(),
            nogbpages: self.nogbpages,
            ..Facts::default()
        }
    }
}
