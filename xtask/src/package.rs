//! `cargo xtask deb`, and the stage `package`: what people install.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::static_build::{self, TARGET};
use crate::tools::{self, cargo, run, target};

/// The crates that are published, in an order in which each comes after those it needs.
const PUBLISHED: [&str; 9] = [
    "identmap",
    "identmap-stream",
    "identmap-machine",
    "identmap-linux",
    "identmap-audit",
    "identmap-kexec",
    "identmap-preflight",
    "identmap-report",
    "identmap-cli",
];

/// Everything that is handed out: the C library, the package, the crates, `cargo install`.
pub(crate) fn check() -> Result<(), String> {
    ffi()?;
    // Without the emulator first: the package holds the command with it.
    static_build::build(false)?;
    let deb = deb()?;
    try_deb(&deb)?;
    install()?;
    publish()
}

fn ffi() -> Result<(), String> {
    let mut command = Command::new(tools::root().join("crates/ffi/check.sh"));
    run(command.current_dir(tools::root()))
}

/// Builds the package and has lintian look at it, where there is one.
pub(crate) fn deb() -> Result<PathBuf, String> {
    static_build::build(true)?;
    let dist = target().join(TARGET).join("dist");
    let mut pages = cargo(["run", "--locked", "--profile", "dist", "--target", TARGET]);
    pages.args(["--package", "identmap-pages", "--features", "preflight", "--"]);
    pages.args(["man", "completions", "--into"]).arg(dist.join("pages"));
    run(pages.env("RUSTFLAGS", static_build::FLAGS))?;
    // cargo-deb compresses manual pages only where they were not built.
    let pages = dist.join("pages/man");
    let entries = fs::read_dir(&pages).map_err(|e| format!("{}: {e}", pages.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    run(Command::new("gzip").args(["-9", "-n", "-f"]).args(files))?;
    write_gz(&dist.join("third-party.gz"), &third_party()?)?;
    let changelog = tools::root().join("CHANGELOG.md");
    let changelog = fs::read(&changelog).map_err(|e| format!("{}: {e}", changelog.display()))?;
    write_gz(&dist.join("changelog.gz"), &changelog)?;

    let folder = target().join("deb");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let deb = folder.join("identmap.deb");
    let mut command = Command::new(tools::cargo_deb()?);
    command.current_dir(tools::root());
    command.args(["--package", "identmap-cli", "--no-build", "--no-strip", "--no-dbgsym"]);
    command.args(["--profile", "dist", "--target", TARGET, "--output"]).arg(&deb);
    run(&mut command)?;
    if tools::has_program("lintian") {
        let lintian = ["--fail-on", "error,warning"];
        run(Command::new("lintian").args(lintian).arg("--allow-root").arg(&deb))?;
    } else {
        println!("    NOT CHECKED: lintian is not installed");
    }
    Ok(deb)
}

/// Installs, uses and purges it in a clean root, made from the packages that apt is set up for.
fn try_deb(deb: &Path) -> Result<(), String> {
    if !tools::is_root() || !tools::has_program("mmdebstrap") {
        println!("    NOT CHECKED: the package in a clean root takes root and mmdebstrap");
        return Ok(());
    }
    let folder = tools::cache().join("package");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = name.ok_or("/etc/os-release names no release")?;
    let root = folder.join(format!("root-{name}.tar"));
    if !root.is_file() {
        let partial = folder.join(format!("partial-{}.tar", std::process::id()));
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--include=man-db", name]).arg(&partial);
        let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
        command.args(sources.iter().find(|file| Path::new(file).is_file()));
        run(&mut command)?;
        fs::rename(&partial, &root).map_err(|e| format!("{}: {e}", root.display()))?;
    }
    let mut command = Command::new(tools::root().join("packaging/debian/check.sh"));
    run(command.current_dir(tools::root()).arg(deb).arg(&root))
}

/// `cargo install`, with and without the emulator, into a root of its own.
fn install() -> Result<(), String> {
    for features in ["", "preflight"] {
        let root = target().join("install");
        let mut command = cargo(["install", "--locked", "--quiet", "--path", "crates/cli"]);
        // The profile and the target of the static build, so that little is built again.
        command.args(["--profile", "dist", "--target", TARGET, "--force", "--features", features]);
        command.arg("--root").arg(&root).env("RUSTFLAGS", static_build::FLAGS);
        command.env("CARGO_TARGET_DIR", target());
        run(&mut command)?;
        let program = root.join("bin/identmap");
        run(Command::new(&program).arg("--version"))?;
        let preflight = Command::new(&program).args(["preflight", "--help"]).output();
        let preflight = preflight.map_err(|e| format!("{}: {e}", program.display()))?;
        if preflight.status.success() == features.is_empty() {
            return Err(format!("features \"{features}\": the command preflight is not as asked"));
        }
    }
    Ok(())
}

/// Whether every published crate could be: packed, with all that the registry asks for, up to the
/// upload. Not built from what is packed: that builds the emulator once more, for every crate that
/// uses it.
fn publish() -> Result<(), String> {
    let mut command = cargo(["publish", "--locked", "--dry-run", "--no-verify", "--allow-dirty"]);
    run(command.args(PUBLISHED.iter().flat_map(|name| ["--package", name])))
}

/// Name, version and licence of every crate in the command, and the texts of their licences.
fn third_party() -> Result<Vec<u8>, String> {
    let mut command = cargo(["tree", "--locked", "--package", "identmap-cli", "--target", TARGET]);
    command.args(["--features", "preflight", "--edges", "normal", "--prefix", "none"]);
    command.args(["--format", "{p}|{l}"]);
    let output = command.output().map_err(|error| format!("cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = list.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut out = b"What is in the command identmap besides its own sources.\n".to_vec();
    // Those of the workspace have a path behind their version; they are our own.
    for line in lines.into_iter().filter(|line| !line.contains(" (/")) {
        let (package, licence) = line.split_once('|').unwrap_or((line, ""));
        let mut words = package.split_whitespace();
        let name = words.next().unwrap_or_default();
        let version = words.next().unwrap_or_default().trim_start_matches('v');
        out.extend(format!("\n==== {name} {version}: {licence}\n").bytes());
        let texts = licence_texts(&format!("{name}-{version}"))?;
        if texts.is_empty() {
            println!("    {name} {version} ({licence}) brings no text of its licence");
        }
        for text in texts {
            out.push(b'\n');
            out.extend(fs::read(&text).map_err(|e| format!("{}: {e}", text.display()))?);
        }
    }
    Ok(out)
}

/// The files at the top of a crate's sources, where cargo has unpacked them, that are licences.
fn licence_texts(crate_folder: &str) -> Result<Vec<PathBuf>, String> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let sources = home.ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let folders: Vec<PathBuf> = entries(&sources)
        .into_iter()
        .map(|registry| registry.join(crate_folder))
        .filter(|folder| folder.is_dir())
        .collect();
    let folder = folders.first().ok_or_else(|| format!("{crate_folder}: no sources"))?;
    let mut texts: Vec<PathBuf> = entries(folder)
        .into_iter()
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            file.is_file()
                && ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter().any(|w| name.starts_with(w))
        })
        .collect();
    texts.sort();
    Ok(texts)
}

/// Compressed by gzip, without name and time: the same bytes for the same text.
fn write_gz(file: &Path, text: &[u8]) -> Result<(), String> {
    let plain = file.with_extension("");
    fs::write(&plain, text).map_err(|e| format!("{}: {e}", plain.display()))?;
    run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&plain))
}
