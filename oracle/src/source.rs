//! The sources of Linux: fetched by `fetch.sh`, read for what they do, compiled with our shim.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The series that Debian has; the directory names of `fetch.sh`.
pub(crate) const SERIES: [&str; 4] = ["5.10", "6.1", "6.12", "7.x"];

/// One series' `ident_map.c`, fetched and compiled.
pub(crate) struct Source {
    /// `6.1`
    pub(crate) series: &'static str,
    /// `linux-source-6.1 6.1.192-2`
    pub(crate) package: String,
    /// What this version of the file does, as far as versions differ.
    pub(crate) behaviour: Behaviour,
    /// The executable that serves it.
    pub(crate) executable: PathBuf,
}

/// Where versions of `ident_map.c` differ. Read off the file that was fetched, because what a series
/// does changes within the series: 6.1 had each policy twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Behaviour {
    /// When a 1 GiB leaf is made.
    pub(crate) policy: LinuxPolicy,
    /// Flags that PML4 and PML5 entries have besides those asked for: `_PAGE_NOPTISHADOW` or none.
    pub(crate) upper_flags: u64,
    /// Whether the last entry of the root table can be used.
    pub(crate) last_slot: bool,
    /// Whether there is `kernel_ident_mapping_free()`.
    pub(crate) has_free: bool,
}

/// Linux's two ways to choose 1 GiB leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinuxPolicy {
    /// Wherever a GiB is touched.
    RoundOut,
    /// Only where a whole GiB is requested at once.
    Exact,
}

impl fmt::Display for LinuxPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LinuxPolicy::RoundOut => "round-out",
            LinuxPolicy::Exact => "exact",
        })
    }
}

impl Source {
    /// Fetches (unless cached) and compiles these series.
    ///
    /// # Errors
    /// A line for a person: what could not be fetched, read or compiled.
    pub(crate) fn prepare(series: &[&'static str]) -> Result<Vec<Source>, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let status = Command::new("bash")
            .arg(here.join("fetch.sh"))
            .args(series)
            .stdin(Stdio::null())
            .status()
            .map_err(|e| format!("bash could not be run: {e}"))?;
        if !status.success() {
            return Err("fetch.sh did not get every source (its message is above)".into());
        }
        let cache = std::env::var_os("IDENTMAP_CACHE")
            .map_or_else(|| here.join("../.cache"), PathBuf::from);
        series.iter().map(|s| compile(here, &cache, s)).collect()
    }
}

fn compile(here: &Path, cache: &Path, series: &'static str) -> Result<Source, String> {
    let dir = cache.join("linux-source").join(series);
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let text = read("ident_map.c")?;
    let behaviour = Behaviour::of(&text);
    let source = fs::canonicalize(dir.join("ident_map.c")).map_err(|e| e.to_string())?;
    let executable = source.with_file_name("oracle");
    // Built under a name of its own and then renamed: two runs at once do not see half a file.
    let fresh = source.with_file_name(format!("oracle.{}", std::process::id()));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "gcc".into());
    let output = Command::new(&compiler)
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-DIDENT_MAP_C=\"{}\"", source.display()))
        .args(behaviour.has_free.then_some("-DHAVE_FREE"))
        .arg("-o")
        .arg(&fresh)
        .arg(here.join("shim/oracle.c"))
        .output()
        .map_err(|e| format!("{compiler} could not be run (is gcc installed?): {e}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{compiler} cannot compile the shim with Linux {series}:\n{errors}"));
    }
    fs::rename(&fresh, &executable).map_err(|e| format!("{}: {e}", executable.display()))?;
    Ok(Source { series, package: read("package.txt")?.trim().into(), behaviour, executable })
}

impl Behaviour {
    fn of(text: &str) -> Behaviour {
        Behaviour {
            // The variable that the exact policy decides with ("x86/mm/ident_map: Use gbpages only
            // where full GB page should be mapped").
            policy: if text.contains("use_gbpage") {
                LinuxPolicy::Exact
            } else {
                LinuxPolicy::RoundOut
            },
            // Software bit 58, arch/x86/include/asm/pgtable_types.h.
            upper_flags: if text.contains("_PAGE_NOPTISHADOW") { 1 << 58 } else { 0 },
            last_slot: text.contains("pgd_addr_end"),
            has_free: text.contains("kernel_ident_mapping_free"),
        }
    }
}
