//! `cargo xtask bench`: builds what is measured and prints the tables of `bench/`.

use crate::tools::{cargo, run, target};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Count instructions too, with valgrind: some minutes
    #[arg(long)]
    instructions: bool,

    /// Medians of this many rounds
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(7..))]
    rounds: u16,

    /// Only these sections: fill, plans, tables, process
    #[arg(value_name = "SECTION")]
    sections: Vec<String>,
}

pub(crate) fn bench(options: &Options) -> Result<(), String> {
    let build = ["build", "--locked", "--release", "--package"];
    run(cargo(build).arg("identmap-oracle"))?;
    run(cargo(build).arg("identmap-cli"))?;
    let binaries = target().join("release");
    let mut command = cargo(["run", "--locked", "--release", "--quiet"]);
    command.args(["--manifest-path", "bench/Cargo.toml", "--"]).args(&options.sections);
    command.arg("--oracle").arg(binaries.join("identmap-oracle"));
    command.arg("--identmap").arg(binaries.join("identmap"));
    command.args(["--rounds", &options.rounds.to_string()]);
    run(command.args(options.instructions.then_some("--instructions")))
}
