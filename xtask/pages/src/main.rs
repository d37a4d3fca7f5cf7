//! Manual pages and shell completions, made from the description of the command line and committed
//! under docs/. Called by `cargo xtask man` and `cargo xtask completions`.

mod completions;
mod files;
mod format;
mod json;
mod man;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Write what is made from the description of the command line
#[derive(Parser)]
struct Cli {
    /// What to write
    #[arg(required = true)]
    what: Vec<What>,

    /// Write below this directory, to man and completions, instead of docs
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    into: Option<PathBuf>,

    #[command(flatten)]
    mode: files::Mode,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The manual pages, to docs/man
    Man,
    /// The shell completions, to docs/completions
    Completions,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let folder = cli.into.unwrap_or(docs);
    let mut status = ExitCode::SUCCESS;
    for what in cli.what {
        let result = match what {
            What::Man => files::settle(&man::pages(), &folder.join("man"), cli.mode),
            What::Completions => {
                files::settle(&completions::scripts(), &folder.join("completions"), cli.mode)
            }
        };
        if let Err(message) = result {
            eprintln!("{message}");
            status = ExitCode::FAILURE;
        }
    }
    status
}
