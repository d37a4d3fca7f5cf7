//! What was loaded, kept in `/run/identmap`, so that a `load` that is killed leaves no doubt.
//!
//! The kernel swaps images in one step (`do_kexec_load()` in `kernel/kexec.c`: `xchg()` under a lock): it has
//! the old one or the new one. The record follows in three steps, each atomic:
//! 1. `pending-KIND.json` is written beside and renamed: what is about to be loaded.
//! 2. The system call.
//! 3. `pending-KIND.json` is renamed to `loaded-KIND.json`.
//!
//! Killed before 1 or after 3, `loaded` is true. In between, `pending` stands beside it, and the image in the kernel's
//! memory tells which: no two images that are loaded one after the other have the same segments
//! (`Job::unlike`), and segments can be read (`/proc/kcore`). Records carry the boot id: those of another boot are
//! none.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use identmap::PhysRange;
use identmap_linux::Kind;
use serde::{Deserialize, Serialize};

use crate::loaded::{self, Wishes};
use crate::loading::line;
use crate::output::{self, Failure};

/// One image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: String,
    pub(crate) boot_id: String,
    pub(crate) call: String,
    pub(crate) kernel: String,
    pub(crate) command_line: String,
    pub(crate) verdict: String,
    /// Start and length of each segment, by address; empty where the kernel chose them, until they are read.
    pub(crate) segments: Vec<(u64, u64)>,
    /// The segments that the kernel held before, where they could be read.
    pub(crate) before: Option<Vec<(u64, u64)>>,
}

/// What the records and the kernel say together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Nothing is loaded.
    Nothing,
    /// An image of ours.
    Ours(Box<Record>),
    /// Another program's image.
    Foreign,
    /// It cannot be told, for this reason: a load was killed, before the kernel took the image or after; or the
    /// kernel could not be asked.
    Unclear(String),
}

const SCHEMA: &str = "identmap.record/1";

impl Record {
    pub(crate) fn new(
        call: &str,
        kernel: &str,
        command_line: &str,
        verdict: &str,
        segments: &[PhysRange],
        before: Option<Vec<(u64, u64)>>,
    ) -> Record {
        Record {
            schema: SCHEMA.to_owned(),
            boot_id: boot_id(),
            call: call.to_owned(),
            kernel: kernel.to_owned(),
            command_line: command_line.to_owned(),
            verdict: verdict.to_owned(),
            segments: pairs(segments),
            before,
        }
    }

    /// Step 1.
    pub(crate) fn announce(&self, kind: Kind) -> Result<(), Failure> {
        let dir = directory();
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir);
        made.map_err(|error| Failure(format!("{}: {error}", dir.display())))?;
        let json = serde_json::to_vec_pretty(self).map_err(Failure::new)?;
        output::write_file(&path("pending", kind), &json, 0o600)
    }
}

/// Step 3. Where the kernel chose the segments they are noted, as far as they can be read: another program's image
/// would be taken for this one otherwise.
pub(crate) fn commit(kind: Kind) -> io::Result<()> {
    let pending = read("pending", kind).ok().flatten();
    let chosen = pending.filter(|record| record.segments.is_empty());
    fs::rename(path("pending", kind), path("loaded", kind))?;
    if let (Some(mut record), Ok(held)) = (chosen, held(kind)) {
        record.segments = held;
        let json = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        output::write_file(&path("loaded", kind), &json, 0o600)
            .map_err(|Failure(why)| io::Error::other(why))?;
    }
    Ok(())
}

/// The system call failed: what was there before is there.
pub(crate) fn withdraw(kind: Kind) {
    let _ = fs::remove_file(path("pending", kind));
}

/// Nothing is loaded any more.
pub(crate) fn forget(kind: Kind) {
    let _ = fs::remove_file(path("loaded", kind));
    withdraw(kind);
}

/// The lists of segments of the records that stand: a new image takes another.
pub(crate) fn segment_lists(kind: Kind) -> Vec<Vec<PhysRange>> {
    let ranges = |record: Record| {
        let range = |&(start, len): &(u64, u64)| PhysRange::from_len(start, len).ok();
        record.segments.iter().filter_map(range).collect()
    };
    let records = ["loaded", "pending"].iter().filter_map(|name| read(name, kind).ok().flatten());
    records.map(ranges).collect()
}

/// The segments of the image that the kernel holds; none if it holds none.
///
/// # Errors
/// Why they cannot be read.
pub(crate) fn held(kind: Kind) -> Result<Vec<(u64, u64)>, String> {
    match asked(kind) {
        Some(true) => {}
        Some(false) => return Ok(Vec::new()),
        None => return Err(format!("{} cannot be read", file(kind))),
    }
    match loaded::read(kind, &Wishes::default()) {
        Ok(Some(image)) => {
            let mut segments = pairs(&image.image.segments);
            segments.sort_unstable();
            Ok(segments)
        }
        Ok(None) => Ok(Vec::new()),
        Err(why) => Err(why.join("; ")),
    }
}

/// What is loaded now.
pub(crate) fn state(kind: Kind) -> State {
    match asked(kind) {
        Some(true) => {}
        Some(false) => return State::Nothing,
        None => return State::Unclear(format!("{} cannot be read", file(kind))),
    }
    match (read("loaded", kind), read("pending", kind)) {
        (Ok(loaded), Ok(pending)) => decide(loaded, pending, || held(kind)),
        (Err(why), _) | (_, Err(why)) => State::Unclear(why),
    }
}

/// Something is loaded; which of the records tells what?
#[allow(clippy::match_same_arms, reason = "in the order in which they are asked")]
fn decide(
    loaded: Option<Record>,
    pending: Option<Record>,
    held: impl FnOnce() -> Result<Vec<(u64, u64)>, String>,
) -> State {
    let is = |record: &Record, held: &[(u64, u64)]| record.segments == held;
    match (loaded, pending, held()) {
        (None, None, _) => State::Foreign,
        (_, Some(pending), Ok(held)) if is(&pending, &held) => State::Ours(Box::new(pending)),
        (Some(loaded), _, Ok(held)) if is(&loaded, &held) => State::Ours(Box::new(loaded)),
        // The kernel chose the segments: it is the new one if they are not what they were.
        (loaded, Some(pending), Ok(held)) if pending.segments.is_empty() => {
            match (pending.before == Some(held), loaded) {
                (false, _) if pending.before.is_some() => State::Ours(Box::new(pending)),
                (true, Some(loaded)) => State::Ours(Box::new(loaded)),
                (true, None) => State::Foreign,
                _ => State::Unclear("what was loaded before could not be read".to_owned()),
            }
        }
        (Some(loaded), None, Ok(_)) if loaded.segments.is_empty() => State::Unclear(
            "the kernel chose its segments, and they could not be read when it was loaded"
                .to_owned(),
        ),
        (_, _, Ok(_)) => State::Foreign,
        // Nothing of ours was interrupted; but another program may have loaded an image since.
        (Some(loaded), None, Err(why)) => State::Unclear(format!(
            "identmap loaded {} last; whether it is that one still: {why}",
            loaded.kernel
        )),
        (_, Some(_), Err(why)) => State::Unclear(why),
    }
}

/// Whether an image is loaded; `None` if the kernel does not tell. One without kexec has no such file, where it
/// has others; where there is none at all, no sysfs is mounted.
fn asked(kind: Kind) -> Option<bool> {
    let others = || fs::read_dir("/sys/kernel").is_ok_and(|mut files| files.next().is_some());
    told(fs::read_to_string(file(kind)), others)
}

fn told(file: io::Result<String>, others: impl FnOnce() -> bool) -> Option<bool> {
    match file {
        Ok(text) => match text.trim() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        },
        Err(error) => (error.kind() == io::ErrorKind::NotFound && others()).then_some(false),
    }
}

fn file(kind: Kind) -> &'static str {
    match kind {
        Kind::Kexec => "/sys/kernel/kexec_loaded",
        Kind::Kdump => "/sys/kernel/kexec_crash_loaded",
    }
}

/// A record of this boot, if there is one.
///
/// # Errors
/// Why it cannot be read: only root may. That is not to be taken for none.
fn read(name: &str, kind: Kind) -> Result<Option<Record>, String> {
    let path = path(name, kind);
    recorded(fs::read(&path), &boot_id()).map_err(|why| format!("{}: {why}", path.display()))
}

fn recorded(content: io::Result<Vec<u8>>, boot: &str) -> Result<Option<Record>, String> {
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok((record.schema == SCHEMA && record.boot_id == boot).then_some(record))
}

fn pairs(segments: &[PhysRange]) -> Vec<(u64, u64)> {
    segments.iter().map(|range| (range.start().get(), range.len())).collect()
}

fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn directory() -> PathBuf {
    PathBuf::from("/run/identmap")
}

fn path(name: &str, kind: Kind) -> PathBuf {
    let kind = match kind {
        Kind::Kexec => "kexec",
        Kind::Kdump => "crash",
    };
    directory().join(format!("{name}-{kind}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kernel: &str, segments: &[(u64, u64)]) -> Record {
        let mut record = Record::new("kexec_load", kernel, "", "safe", &[], None);
        record.segments = segments.to_vec();
        record
    }

    fn kernel(state: &State) -> &str {
        match state {
            State::Ours(record) => &record.kernel,
            State::Foreign => "foreign",
            State::Unclear(_) => "unclear",
            State::Nothing => "nothing",
        }
    }

    /// Killed anywhere: the kernel holds the old image or the new one, and the records tell which.
    #[test]
    fn which_image_it_is_after_a_kill() {
        let (old, new) = (record("old", &[(1, 1)]), record("new", &[(2, 1)]));
        let told = |loaded: Option<&Record>, pending: Option<&Record>, held: &[(u64, u64)]| {
            let state = decide(loaded.cloned(), pending.cloned(), || Ok(held.to_vec()));
            kernel(&state).to_owned()
        };
        assert_eq!(told(Some(&old), None, &[(1, 1)]), "old");
        assert_eq!(told(Some(&old), Some(&new), &[(1, 1)]), "old");
        assert_eq!(told(Some(&old), Some(&new), &[(2, 1)]), "new");
        assert_eq!(told(None, Some(&new), &[(2, 1)]), "new");
        assert_eq!(told(Some(&new), None, &[(2, 1)]), "new");
        assert_eq!(told(Some(&old), Some(&new), &[(3, 1)]), "foreign");
        assert_eq!(told(None, None, &[(3, 1)]), "foreign");
    }

    /// Another program loads an image after `load -s`: it was still called ours.
    #[test]
    fn an_image_of_unknown_segments_is_not_taken_for_ours() {
        let state = decide(Some(record("ours", &[])), None, || Ok(vec![(7, 7)]));
        assert_eq!(kernel(&state), "unclear");
        let state = decide(Some(record("ours", &[(1, 1)])), None, || Ok(vec![(7, 7)]));
        assert_eq!(kernel(&state), "foreign");
    }

    /// Without root our own image was another program's.
    #[test]
    fn a_record_that_cannot_be_read_is_not_none() {
        let json = serde_json::to_vec(&record("ours", &[(1, 1)])).unwrap();
        let read = |content| recorded(content, &boot_id());
        let failed = |kind: io::ErrorKind| read(Err(kind.into()));
        assert_eq!(failed(io::ErrorKind::NotFound), Ok(None));
        assert!(failed(io::ErrorKind::PermissionDenied).is_err());
        assert!(read(Ok(json[..json.len() / 2].to_vec())).is_err());
        assert_eq!(recorded(Ok(json.clone()), "another boot"), Ok(None));
        assert!(matches!(read(Ok(json)), Ok(Some(record)) if record.kernel == "ours"));
    }

    /// `kexec -l` after `identmap load`, and the kernel's memory cannot be read: the first was still told.
    #[test]
    fn a_record_alone_is_not_what_is_loaded() {
        let state = decide(Some(record("ours", &[(1, 1)])), None, || Err("no kcore".to_owned()));
        let State::Unclear(why) = state else { panic!("{state:?}") };
        assert!(why.contains("ours") && why.contains("no kcore"), "{why}");
    }

    /// Without sysfs it was said that nothing is loaded.
    #[test]
    fn a_kernel_that_cannot_be_asked_is_no_answer() {
        let missing = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(told(Ok("1\n".to_owned()), || true), Some(true));
        assert_eq!(told(Ok("0\n".to_owned()), || true), Some(false));
        assert_eq!(told(Ok(String::new()), || true), None);
        assert_eq!(told(missing(), || true), Some(false));
        assert_eq!(told(missing(), || false), None);
        assert_eq!(told(Err(io::Error::from(io::ErrorKind::PermissionDenied)), || true), None);
    }

    #[test]
    fn the_kernel_s_own_segments_are_told_by_what_was_before() {
        let old = record("old", &[(1, 1)]);
        let mut new = record("new", &[]);
        new.before = Some(vec![(1, 1)]);
        let told = |new: &Record, held: Result<Vec<(u64, u64)>, String>| {
            kernel(&decide(Some(old.clone()), Some(new.clone()), || held)).to_owned()
        };
        assert_eq!(told(&new, Ok(vec![(1, 1)])), "old");
        assert_eq!(told(&new, Ok(vec![(7, 7)])), "new");
        assert_eq!(told(&new, Err("no".to_owned())), "unclear");
        new.before = None;
        assert_eq!(told(&new, Ok(vec![(7, 7)])), "unclear");
    }
}
