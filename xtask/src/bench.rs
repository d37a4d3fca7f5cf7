//! `cargo xtask bench`: builds what is measured and prints the tables of `bench/`.

use std::fs;
use std::path::PathBuf;

use crate::tools::{cargo, run, target};
use crate::{fleet, static_build};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Count instructions too, with valgrind: some minutes
    #[arg(long)]
    instructions: bool,

    /// Medians of this many rounds
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(7..))]
    rounds: u16,

    /// fill: only maps with this in their name
    #[arg(long, value_name = "MAP")]
    only: Option<String>,

    /// Only these sections: fill, threads, plans, tables, process
    #[arg(value_name = "SECTION")]
    sections: Vec<String>,
}

pub(crate) fn bench(options: &Options) -> Result<(), String> {
    let build = ["build", "--locked", "--release", "--package"];
    run(cargo(build).arg("identmap-oracle"))?;
    let binaries = target().join("release");
    let mut command = cargo(["run", "--locked", "--release", "--quiet"]);
    command.args(["--manifest-path", "bench/Cargo.toml", "--"]).args(&options.sections);
    command.arg("--oracle").arg(binaries.join("identmap-oracle"));
    if options.sections.is_empty() || options.sections.iter().any(|name| name == "process") {
        for argument in processes()? {
            command.arg(argument);
        }
    }
    command.args(["--rounds", &options.rounds.to_string()]);
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    run(command.args(options.instructions.then_some("--instructions")))
}

/// What whole processes are measured with: the two static builds, the kernels at hand, ten thousand machines.
fn processes() -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    let folder = target().join("bench");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, preflight) in [("static", false), ("static, with the emulator", true)] {
        let built = static_build::build(preflight)?;
        let kept = folder.join(if preflight { "identmap-emulator" } else { "identmap" });
        fs::copy(&built, &kept).map_err(|error| format!("{}: {error}", kept.display()))?;
        arguments.extend(["--identmap".to_owned(), format!("{name}={}", kept.display())]);
    }
    let cache = std::env::var_os("IDENTMAP_CACHE").map(PathBuf::from).unwrap_or_default();
    for series in ["5.10", "6.1", "6.12", "7.x"] {
        let kernel = cache.join("kernels").join(series).join("vmlinuz");
        if kernel.is_file() {
            arguments.extend(["--kernel".to_owned(), kernel.display().to_string()]);
        } else {
            eprintln!("no kernel {series} in IDENTMAP_CACHE: lab/fetch.sh gets it");
        }
    }
    let machines = folder.join("fleet");
    if !machines.is_dir() {
        fleet::write(&fleet::Options::of(machines.clone()))?;
    }
    arguments.extend(["--fleet".to_owned(), machines.display().to_string()]);
    Ok(arguments)
}
