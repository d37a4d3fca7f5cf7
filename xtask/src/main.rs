//! The project's chores: `cargo xtask ci` runs all checks, `man` and `completions` write what is
//! made from the description of the command line. Depends on nothing that it checks.

mod asm;
mod bench;
mod ci;
mod fleet;
mod stages;
mod static_build;
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
    /// Measure identmap beside Linux's own code, other crates and memset
    Bench(bench::Options),
    /// Check that the loop that writes leaves is made of vector stores
    Asm,
    /// Write inputs for `identmap fleet`, made of the real maps
    FleetInputs(fleet::Options),
    /// Build the command as one static file, without debug symbols, and look at its size
    Static {
        /// With the emulator
        #[arg(long)]
        preflight: bool,
    },
    /// Write the manual pages to docs/man
    Man(Mode),
    /// Write the shell completions to docs/completions
    Completions(Mode),
}

#[derive(clap::Args)]
struct Mode {
    /// Write nothing; fail if the committed files are stale
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Ci(options) => ci::run(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Asm => asm::check(),
        Command::FleetInputs(options) => fleet::write(&options),
        Command::Static { preflight } => static_build::build(preflight).map(drop),
        Command::Man(mode) => stages::write_pages(&["man"], mode.check),
        Command::Completions(mode) => stages::write_pages(&["completions"], mode.check),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
