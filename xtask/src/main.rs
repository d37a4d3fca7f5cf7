//! The project's chores: `cargo xtask ci` runs all checks, `man` and `completions` write what is
//! made from the description of the command line.

mod ci;
mod completions;
mod files;
mod man;
mod stages;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all checks and print one table; non-zero if any failed
    Ci(ci::Options),
    /// Write the manual pages to docs/man
    Man(files::Mode),
    /// Write the shell completions to docs/completions
    Completions(files::Mode),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Ci(options) => ci::run(&options),
        Command::Man(mode) => files::settle(&man::pages(), "docs/man", mode),
        Command::Completions(mode) => {
            files::settle(&completions::scripts(), "docs/completions", mode)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
