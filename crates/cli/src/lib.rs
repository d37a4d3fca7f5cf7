//! The command `identmap`: flags, discovery, commands. The binary is `main.rs`;
//! this library exists so that the man page and the completions are made from
//! the same description of the command line.

mod args;
mod commands;
mod complaints;
mod deadline;
mod disk;
mod doubt;
mod firmware;
mod guard;
mod image;
mod inputs;
mod kdump;
mod live;
mod loaded;
mod loading;
mod output;
mod parallel;
mod picture;
mod record;
#[cfg_attr(not(feature = "preflight"), path = "runs_absent.rs")]
mod runs;
mod sight;
mod source;
#[cfg(feature = "preflight")]
mod supposed;

use std::process::ExitCode;

use clap::FromArgMatches;

pub use args::command;
use args::{Cli, Command};
use output::Status;

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    // `preflight` starts this program again to run the emulator in: no command of a user's.
    #[cfg(feature = "preflight")]
    if std::env::args_os().nth(1).is_some_and(|arg| arg == commands::preflight::WORKER) {
        return identmap_preflight::worker();
    }
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let result = match &cli.command {
        Command::Check(args) => commands::check::run(args, &cli.output),
        Command::Map(args) => commands::map::run(args, &cli.output),
        Command::Explain(args) => commands::explain::run(args, &cli.output),
        Command::Matrix(args) => commands::matrix::run(args, &cli.output),
        Command::Diagnose(args) => commands::diagnose::run(args, &cli.output),
        Command::Capture(args) => commands::capture::run(args, &cli.output),
        Command::Diff(args) => commands::diff::run(args, &cli.output),
        Command::Triage(args) => commands::triage::run(args, &cli.output),
        Command::Decode(args) => commands::decode::run(args, &cli.output),
        Command::Fleet(args) => commands::fleet::run(args, &cli.output),
        Command::Known(args) => commands::known::run(args, &cli.output),
        Command::Needs(args) => commands::needs::run(args, &cli.output),
        Command::Ranges(args) => commands::ranges::run(args, &cli.output),
        Command::Report(args) => commands::report::run(args, &cli.output),
        Command::Tables(args) => commands::tables::run(args, &cli.output),
        Command::Load(args) => commands::load::run(args, &cli.output),
        Command::Exec(args) => commands::exec::run(args),
        Command::Unload(args) => commands::unload::run(args),
        Command::Status => commands::status::run(&cli.output),
        #[cfg(feature = "preflight")]
        Command::Preflight(args) => commands::preflight::run(args, &cli.output),
    };
    let status = result.unwrap_or_else(|error| {
        eprintln!("identmap: {error}");
        Status::Unusable
    });
    status.into()
}
