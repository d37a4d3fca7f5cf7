//! A purgatory's hash over the other segments, done here instead of in the emulator.
//!
//! kexec-tools' purgatory and Linux's own hash every byte of the segments before they go on: with 60 MB, minutes
//! of emulation that decide one thing, whether the bytes are those that were loaded. Both keep an array of
//! 16 regions (`sha256_regions` in `purgatory/purgatory.c` of kexec-tools; `purgatory_sha_regions` in
//! `arch/x86/purgatory/purgatory.c`; `struct kexec_sha_region`) and a digest.

use identmap::{Found, Leaves, PhysAddr, PhysRange, Seen};
use identmap_machine::ranges;
use sha2::{Digest, Sha256};

use crate::memory::Memory;
use crate::scene::{Content, Scene};

/// `KEXEC_SEGMENT_MAX`, `SHA256_REGIONS`.
const REGIONS: usize = 16;
const PAIR: usize = 16;
const DIGEST: usize = 32;

/// The scene with a purgatory that hashes nothing, if its hash is right: the regions are found in it, each a
/// loaded content, the digest of their bytes too, and all of them are mapped, so that the loop
/// would have ended, and well. Then also a sentence that says so. Otherwise the scene as it was.
#[must_use]
pub fn hashed_here(mut scene: Scene) -> (Scene, Option<String>) {
    let Some(change) = look(&scene) else { return (scene, None) };
    let Some(purgatory) = scene.contents.get_mut(change.purgatory) else { return (scene, None) };
    for at in &change.lengths {
        purgatory.bytes[*at..*at + 8].fill(0);
    }
    let nothing = Sha256::digest([]);
    purgatory.bytes[change.digest..change.digest + DIGEST].copy_from_slice(&nothing);
    let sentence = format!(
        "the purgatory's SHA-256 of {:#x} bytes was found right here, and not computed in the emulator",
        change.hashed
    );
    (scene, Some(sentence))
}

struct Change {
    /// Index of the content.
    purgatory: usize,
    /// Offsets of the regions' lengths.
    lengths: Vec<usize>,
    /// Offset of the digest.
    digest: usize,
    hashed: u64,
}

fn look(scene: &Scene) -> Option<Change> {
    let entry = PhysAddr::new(scene.entry)?;
    let purgatory = scene
        .contents
        .iter()
        .position(|content| content.loaded && content.range.contains(entry))?;
    let bytes = &scene.contents[purgatory].bytes;
    let regions =
        |at: usize| regions(&scene.contents, purgatory, bytes.get(at..at + REGIONS * PAIR)?);
    let last = bytes.len().checked_sub(REGIONS * PAIR)?;
    let mut found = (0..=last).step_by(8).filter_map(|at| Some((at, regions(at)?)));
    let (at, regions) = found.next()?;
    let mut hash = Sha256::new();
    for content in &regions {
        hash.update(&content.bytes);
        let zeros = [0; 4096];
        let mut left = content.range.len().checked_sub(content.bytes.len() as u64)?;
        while left > 0 {
            let now = left.min(zeros.len() as u64);
            hash.update(&zeros[..now as usize]);
            left -= now;
        }
    }
    let digest = hash.finalize();
    let digest = bytes.windows(DIGEST).position(|window| window == digest.as_slice())?;
    let ranges: Vec<PhysRange> = regions.iter().map(|content| content.range).collect();
    maps(scene, &ranges).then(|| Change {
        purgatory,
        lengths: (0..regions.len()).map(|index| at + index * PAIR + 8).collect(),
        digest,
        hashed: ranges.iter().map(|range| range.len()).sum(),
    })
}

/// The contents that an array names; `None` if it is no such array: first contents, then zeros.
fn regions<'a>(
    contents: &'a [Content],
    purgatory: usize,
    array: &[u8],
) -> Option<Vec<&'a Content>> {
    let mut regions = Vec::new();
    let mut ended = false;
    for pair in array.chunks_exact(PAIR) {
        let word = |at: usize| Some(u64::from_le_bytes(pair.get(at..at + 8)?.try_into().ok()?));
        let (start, len) = (word(0)?, word(8)?);
        if (start, len) == (0, 0) {
            ended = true;
            continue;
        }
        let is_it = |content: &&Content| {
            content.loaded && content.range.start().get() == start && content.range.len() == len
        };
        let content = contents.iter().find(is_it).filter(|_| !ended)?;
        if std::ptr::eq(content, &raw const contents[purgatory]) {
            return None;
        }
        regions.push(content);
    }
    (!regions.is_empty()).then_some(regions)
}

/// Whether the scene's tables map all of these to themselves.
fn maps(scene: &Scene, wanted: &[PhysRange]) -> bool {
    let Some(memory) = Memory::new(&scene.contents, 4096) else { return false };
    let mut seen = vec![Seen::EMPTY; 1 << 16];
    let leaves = Leaves::new(&memory, scene.root, scene.paging, &mut seen);
    let mapped = leaves.filter_map(|found| match found {
        Found::Leaves(run) if run.virt.get() == run.phys.get() => {
            PhysRange::from_len(run.phys.get(), run.bytes()).ok()
        }
        _ => None,
    });
    let mapped = ranges::normalise(mapped.collect());
    wanted.iter().all(|range| mapped.iter().any(|run| run.covers(*range)))
}
