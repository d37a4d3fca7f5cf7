//! The stages of `cargo xtask ci`, in the order they run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, cargo, run};

/// One check, with a name to call it by.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether `--quick` runs it: seconds to a few minutes, no network, no root.
    pub(crate) quick: bool,
    pub(crate) run: fn() -> Result<(), String>,
}

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "setup",
        about: "Debian packages the later stages need",
        quick: false,
        run: setup,
    },
    Stage { name: "fmt", about: "formatting", quick: true, run: fmt },
    Stage { name: "clippy", about: "lints, all targets and features", quick: true, run: clippy },
    Stage { name: "test", about: "all tests; no network, no root", quick: true, run: test },
    Stage {
        name: "test-features",
        about: "the core crate with all features",
        quick: true,
        run: test_features,
    },
    Stage { name: "doc", about: "documentation without warnings", quick: true, run: doc },
    Stage {
        name: "pages",
        about: "committed manual pages and completions are current",
        quick: true,
        run: pages,
    },
    Stage {
        name: "no-std",
        about: "the core and its streams link without std and alloc",
        quick: false,
        run: no_std,
    },
    Stage {
        name: "asm",
        about: "the loops that write leaves are made of vector stores",
        quick: false,
        run: crate::asm::check,
    },
    Stage {
        name: "deny",
        about: "licences, bans, sources of all dependencies",
        quick: false,
        run: deny,
    },
    Stage {
        name: "oracle",
        about: "against Linux's ident_map.c and other crates",
        quick: false,
        run: oracle,
    },
    Stage {
        name: "package",
        about: "what is handed out: the C library, the .deb in a clean root, the crates, sizes",
        quick: false,
        run: crate::package::check,
    },
    Stage { name: "lab", about: "real kernels booted in QEMU", quick: false, run: lab },
    Stage {
        name: "kexec",
        about: "real kernels booted with a map of our own, beside kexec-tools",
        quick: false,
        run: kexec,
    },
    Stage {
        name: "preflight",
        about: "real kernels' first instructions in an emulator: the story of 2024",
        quick: false,
        run: preflight,
    },
    Stage {
        name: "truth",
        about: "the preflight against QEMU: consumers under tables with holes",
        quick: false,
        run: truth,
    },
];

fn setup() -> Result<(), String> {
    // (program, package): the oracle compiles ident_map.c and unpacks kernel sources; the emulator of
    // crates/preflight is built by cmake.
    const NEEDED: [(&str, &str); 11] = [
        ("gcc", "gcc"),
        ("xz", "xz-utils"),
        ("tar", "tar"),
        ("awk", "mawk"),
        ("dpkg-deb", "dpkg"),
        ("cmake", "cmake"),
        ("make", "make"),
        // A test of packaging/ has it look at the scripts where it is there.
        ("shellcheck", "shellcheck"),
        // The stage `package`.
        ("g++", "g++"),
        ("lintian", "lintian"),
        ("mmdebstrap", "mmdebstrap"),
    ];
    let mut missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|(program, _)| !tools::has_program(program))
        .map(|(_, package)| package)
        .collect();
    if !has_libclang() {
        missing.push("libclang-dev");
    }
    if missing.is_empty() {
        println!("    nothing is missing");
    } else {
        tools::apt_install(&missing)?;
    }
    Ok(())
}

/// Whether Debian's libclang is there with its headers: the emulator's binding is made with it.
fn has_libclang() -> bool {
    let below = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_llvm = |path: &PathBuf| path.to_string_lossy().contains("/llvm-");
    below(Path::new("/usr/lib")).into_iter().filter(is_llvm).any(|llvm| {
        let library = below(&llvm.join("lib")).iter().any(|file| {
            file.to_string_lossy().contains("/libclang-") || file.ends_with("libclang.so")
        });
        let headers = below(&llvm.join("lib/clang"))
            .iter()
            .any(|version| version.join("include/stddef.h").exists());
        library && headers
    })
}

fn fmt() -> Result<(), String> {
    run(&mut cargo(["fmt", "--all", "--check"]))?;
    // Workspaces of their own. The C library's script looks after itself.
    for manifest in ["bench/Cargo.toml", "crates/nostd-check/Cargo.toml", "fuzz/Cargo.toml"] {
        run(&mut cargo(["fmt", "--manifest-path", manifest, "--check"]))?;
    }
    Ok(())
}

fn clippy() -> Result<(), String> {
    let mut command = cargo([
        "clippy",
        "--locked",
        "--keep-going",
        "--workspace",
        "--all-targets",
        "--all-features",
    ]);
    run(command.args(["--", "-D", "warnings"]))?;
    // A workspace of its own, which nothing else here builds.
    let mut bench = cargo(["clippy", "--locked", "--manifest-path", "bench/Cargo.toml"]);
    bench.env("CARGO_TARGET_DIR", tools::target().join("bench"));
    run(bench.args(["--all-targets", "--", "-D", "warnings"]))
}

fn test() -> Result<(), String> {
    run(&mut cargo(["test", "--locked", "--workspace", "--no-fail-fast"]))
}

fn test_features() -> Result<(), String> {
    run(&mut cargo(["test", "--locked", "--package", "identmap", "--all-features"]))
}

fn doc() -> Result<(), String> {
    let mut command = cargo(["doc", "--locked", "--workspace", "--no-deps", "--all-features"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn pages() -> Result<(), String> {
    write_pages(&["man", "completions"], true)
}

/// Writes the generated files, or checks that the committed ones are current.
pub(crate) fn write_pages(what: &[&str], check: bool) -> Result<(), String> {
    let mut command = cargo(["run", "--locked", "--quiet", "--package", "identmap-pages", "--"]);
    run(command.args(what).args(check.then_some("--check")))
}

fn no_std() -> Result<(), String> {
    run(&mut script("crates/nostd-check/check.sh"))
}

fn deny() -> Result<(), String> {
    let program = tools::cargo_deny()?;
    println!("    not checked: advisories, whose database is not in a package registry");
    let mut command = Command::new(program);
    command.current_dir(tools::root()).args(["--all-features", "check", "--hide-inclusion-graph"]);
    run(command.args(["licenses", "bans", "sources"]))
}

fn oracle() -> Result<(), String> {
    let oracle = ["run", "--locked", "--release", "--package", "identmap-oracle", "--"];
    run(cargo(oracle).args(["linux", "--sequences", "1000000"]))?;
    run(cargo(oracle).arg("crates"))
}

fn lab() -> Result<(), String> {
    run(script("lab/run.sh").arg("ci"))
}

fn kexec() -> Result<(), String> {
    run(script("lab/run.sh").args(["kexec", "--sample"]))
}

fn preflight() -> Result<(), String> {
    run(script("lab/fetch.sh").args(["5.10", "6.1", "6.12", "7.x"]))?;
    let kernels = tools::cache().join("kernels");
    let release = ["run", "--locked", "--release", "--package", "identmap-preflight"];
    run(cargo(release).args(["--example", "consumers", "--"]).arg(&kernels))?;
    // The story of 2024, by the library, then by the command; images that mean harm.
    for test in [
        &["--package", "identmap-preflight", "--test", "story"][..],
        &[
            "--package",
            "identmap-cli",
            "--features",
            "preflight",
            "--test",
            "kernels",
            "--test",
            "preflight",
        ],
    ] {
        let mut command = cargo(["test", "--locked", "--release"]);
        command.args(test).env("IDENTMAP_CACHE", tools::cache());
        // A kernel that is missing is a failure here.
        run(command.env("IDENTMAP_KERNELS_NEEDED", "1"))?;
    }
    Ok(())
}

fn truth() -> Result<(), String> {
    run(script("lab/fetch.sh").args(["5.10", "6.1", "6.12", "7.x"]))?;
    run(script("lab/fetch-consumers.sh").arg("trixie-generic"))?;
    let truth = ["run", "--locked", "--release", "--package", "identmap-truth", "--"];
    run(cargo(truth).arg("consumers"))?;
    run(cargo(truth).arg("ci"))
}

fn script(path: &str) -> Command {
    let mut command = Command::new(tools::root().join(path));
    command.current_dir(tools::root());
    command
}
