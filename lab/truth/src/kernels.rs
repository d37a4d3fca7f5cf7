//! The images at hand: what `lab/fetch.sh` and `lab/fetch-consumers.sh` have put into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use identmap_lab::guest::Failure;

/// An image.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its directory: `6.1`, `trixie-generic`.
    pub name: String,
    /// Its package and version.
    pub package: String,
    path: PathBuf,
}

/// The lab's kernels, then the others, each in the order of their names.
///
/// # Errors
/// When there are none.
pub fn all(cache: &Path) -> Result<Vec<Kernel>, Failure> {
    let mut kernels = Vec::new();
    for directory in ["kernels", "consumers"] {
        let Ok(entries) = fs::read_dir(cache.join(directory)) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // 5.10, 6.1, 6.12, 7.x: by numbers, not by text.
        paths.sort_by_key(|path| (path.to_string_lossy().len(), path.clone()));
        if directory == "kernels" {
            paths.sort_by_key(|path| numbers(path));
        } else {
            paths.sort();
        }
        for path in paths {
            let package = fs::read_to_string(path.join("package.txt")).unwrap_or_default();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let image = path.join("vmlinuz");
            if let Some(name) = name.filter(|_| image.is_file()) {
                kernels.push(Kernel { name, package: package.trim().to_owned(), path: image });
            }
        }
    }
    if kernels.is_empty() {
        return Err("no kernels: run lab/fetch.sh and lab/fetch-consumers.sh".into());
    }
    Ok(kernels)
}

fn numbers(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

impl Kernel {
    /// Whether it is Linux, by its package.
    #[must_use]
    pub fn is_linux(&self) -> bool {
        self.package.starts_with("linux-")
    }

    /// The image.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self) -> Result<Vec<u8>, Failure> {
        Ok(fs::read(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?)
    }
}
