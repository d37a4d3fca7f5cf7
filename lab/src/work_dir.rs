//! A guest's directory for its sockets, its initramfs and its memory: gigabytes, for seconds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory that goes away with its guest. Its path is short: a socket's may have 107 bytes.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    /// Locked for as long as this lives: how another run knows.
    _lock: File,
}

const PREFIX: &str = "identmap-lab-";
const LOCK: &str = "lock";
/// A directory without a lock is left alone for so long: it may be about to get one.
const YOUNG: Duration = Duration::from_mins(10);

impl WorkDir {
    /// Makes one in the directory for temporary files.
    ///
    /// # Errors
    /// Any of the file system's.
    pub fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    fn below(parent: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{count}", std::process::id()));
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what runs that were killed have left.
pub fn remove_stale() {
    remove_stale_below(&std::env::temp_dir());
}

fn remove_stale_below(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Not through a symbolic link that somebody else has put there.
        if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_stale(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_stale(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let parent = std::env::temp_dir().join(format!("work-dir-test-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        let held = WorkDir::below(&parent).unwrap();
        let killed = parent.join(format!("{PREFIX}1-0"));
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        fs::write(killed.join("memory"), "gigabytes").unwrap();
        let young = parent.join(format!("{PREFIX}2-0"));
        fs::create_dir(&young).unwrap();
        let foreign = parent.join("something-else");
        fs::create_dir(&foreign).unwrap();
        remove_stale_below(&parent);
        assert!(!killed.exists());
        assert!(held.path(LOCK).exists() && young.exists() && foreign.exists());
        let path = held.path.clone();
        drop(held);
        assert!(!path.exists());
        fs::remove_dir_all(&parent).unwrap();
    }
}
