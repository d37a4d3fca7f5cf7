//! Which files are meant: those named, and those in the directories named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::output::Failure;

/// Most files of one run. Their names are held in memory: this many take a few hundred MiB.
const MOST: usize = 2_000_000;

/// Something to be judged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Input {
    /// A SOURCE, as every command takes it.
    Source(String),
    /// A directory that could not be searched, or no longer; why.
    Unsearchable(String, String),
}

impl Input {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        match self {
            Input::Source(name) | Input::Unsearchable(name, _) => name,
        }
    }
}

/// Everything that `paths` mean, each once, sorted: the same whatever their order.
///
/// Links to directories are not followed, so there is no way round in a circle; `depth` levels of directories are
/// searched.
///
/// # Errors
/// If there is nothing, or more than can be held.
pub(crate) fn collect(paths: &[String], depth: u8) -> Result<Vec<Input>, Failure> {
    let mut found = BTreeSet::new();
    for path in paths {
        if path != "live" && !path.starts_with("sample:") && Path::new(path).is_dir() {
            search(Path::new(path), depth, &mut found)?;
        } else {
            found.insert(Input::Source(path.clone()));
        }
    }
    if found.is_empty() {
        return Err(Failure("there is no file in what was named".to_owned()));
    }
    let mut found: Vec<Input> = found.into_iter().collect();
    found.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(found)
}

fn search(directory: &Path, depth: u8, found: &mut BTreeSet<Input>) -> Result<(), Failure> {
    let name = directory.to_string_lossy().into_owned();
    let lost = |error: std::io::Error| Input::Unsearchable(name.clone(), error.to_string());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            found.insert(lost(error));
            return Ok(());
        }
    };
    for entry in entries {
        if found.len() >= MOST {
            return Err(Failure(format!("{name}: more than {MOST} files; name fewer at a time")));
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.insert(lost(error));
                break;
            }
        };
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        // Of links, only those to files: a pipe or a device would be waited for.
        let is_file = kind.is_file() || kind.is_symlink() && path.is_file();
        if is_file {
            found.insert(Input::Source(path.to_string_lossy().into_owned()));
        } else if kind.is_dir() && depth > 1 {
            search(&path, depth - 1, found)?;
        }
    }
    Ok(())
}
