//! Running other programs, and having them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the repository")
}

/// Where what is fetched or built once is kept: `IDENTMAP_CACHE`, or the repository's `.cache`.
/// The oracle and the lab use the same rule.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("IDENTMAP_CACHE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| root().join(".cache"), PathBuf::from)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    root().join(named.unwrap_or_else(|| "target".into()))
}

/// The cargo that runs us, at the root.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Shows the command, runs it with our own output, and says how it ended if not well.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = shown(command);
    println!("    $ {shown}");
    let status =
        command.stdin(Stdio::null()).status().map_err(|error| format!("`{shown}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}`: {status}")) }
}

/// Whether a program of this name lies in `PATH`.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Installs Debian packages: as root, or by sudo where it asks no password.
pub(crate) fn apt_install(packages: &[&str]) -> Result<(), String> {
    let by_hand = format!("install by hand: {}", packages.join(" "));
    if !has_program("apt-get") {
        return Err(format!("no apt-get here; {by_hand}"));
    }
    let prefix: &[&str] = if is_root() {
        &["env"]
    } else if output("sudo", &["-n", "true"]).is_some() {
        &["sudo", "-n", "env"]
    } else {
        return Err(format!("neither root nor password-less sudo; {by_hand}"));
    };
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg("DEBIAN_FRONTEND=noninteractive").arg("apt-get");
        run(command.arg("-qy").args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], packages].concat())
}

/// The version that the rules in `deny.toml` were written for.
const CARGO_DENY: &str = "0.20.2";

/// cargo-deny, built once into the cache.
pub(crate) fn cargo_deny() -> Result<PathBuf, String> {
    cargo_tool("cargo-deny", CARGO_DENY)
}

/// The version that `crates/cli/Cargo.toml` was written for.
const CARGO_DEB: &str = "3.8.0";

/// cargo-deb, built once into the cache.
pub(crate) fn cargo_deb() -> Result<PathBuf, String> {
    cargo_tool("cargo-deb", CARGO_DEB)
}

/// A debug build: it takes a third of the time of a release build, and the tools take a second
/// either way.
fn cargo_tool(name: &str, version: &str) -> Result<PathBuf, String> {
    let folder = cache().join(format!("cargo-tools/{name}-{version}"));
    let program = folder.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    let mut install = cargo(["install", name, "--version", version]);
    install.args(["--locked", "--debug", "--quiet", "--root"]).arg(&folder);
    // Its own temporary target folder, so that ours keeps only what is ours.
    run(install.env_remove("CARGO_TARGET_DIR"))?;
    Ok(program)
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    output("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it at the root.
fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}='{}'", name.to_string_lossy(), value?.to_string_lossy()))
    });
    let program = Path::new(command.get_program());
    // Scripts of the repository by their path, programs by their name.
    let program = match program.strip_prefix(root()) {
        Ok(script) => script.as_os_str(),
        Err(_) => program.file_name().unwrap_or(program.as_os_str()),
    };
    let words = std::iter::once(program).chain(command.get_args());
    variables
        .chain(words.map(|word| word.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}
