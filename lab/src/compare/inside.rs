//! What our own binary said inside the guest, against what was seen from outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use identmap::{Level, Levels, PageSize};
use serde::Deserialize;

use super::tree::{Place, Tree};
use crate::facts::{Facts, Phys, Range, Virt};
use crate::guest::Failure;

/// The part of `identmap tables --json` that is compared.
#[derive(Deserialize)]
struct Said {
    complete: bool,
    root: Phys,
    levels: u8,
    tables: Count,
    image: Image,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Count {
    total: u64,
}

#[derive(Deserialize)]
struct Image {
    control_page: Phys,
    start: Phys,
    segments: Vec<Ends>,
}

#[derive(Deserialize)]
struct Ends {
    start: Virt,
    end: Virt,
}

#[derive(Deserialize)]
struct Run {
    start: Virt,
    phys: Phys,
    page: String,
    count: u64,
    flags: Virt,
}

/// What `identmap tables --live` said that is not so; `None` if it was not run in that guest.
///
/// # Errors
/// When its output is not of the form it has.
pub fn tables(results: &Path, facts: &Facts, real: &Tree) -> Result<Option<Vec<String>>, Failure> {
    let text = match fs::read_to_string(results.join("guest/tables.out")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let said: Said = serde_json::from_str(&text).map_err(|error| {
        let errors = fs::read_to_string(results.join("guest/tables.err")).unwrap_or_default();
        format!("identmap tables --live in the guest: {error}; {}{}", errors.trim(), text.trim())
    })?;
    let mut wrong = Vec::new();
    let mut same = |what: &str, inside: String, outside: String| {
        if inside != outside {
            wrong.push(format!("tables --live: {what} {inside}, from outside {outside}"));
        }
    };
    same("complete", said.complete.to_string(), "true".to_owned());
    same("root", said.root.0.to_string(), facts.root.0.to_string());
    same("levels", said.levels.to_string(), facts.levels.to_string());
    same("tables", said.tables.total.to_string(), real.tables.to_string());
    same("control page", said.image.control_page.0.to_string(), facts.control_page.0.to_string());
    same("start", said.image.start.0.to_string(), facts.start.0.to_string());
    let segments: Vec<String> =
        said.image.segments.iter().map(|ends| format!("{}-{}", ends.start.0, ends.end.0)).collect();
    let outside: Vec<String> = facts
        .segments
        .iter()
        .map(|Range(range)| format!("{:#018x}-{:#018x}", range.start().get(), range.last().get()))
        .collect();
    same("segments", format!("{segments:?}"), format!("{outside:?}"));
    let inside = said_leaves(&said.runs, facts.paging_levels())?;
    let outside = real_leaves(real);
    let only = |a: &BTreeMap<u64, Leaf>, b: &BTreeMap<u64, Leaf>| {
        a.iter().filter(|(at, leaf)| b.get(at) != Some(leaf)).count()
    };
    same("leaves that are only there:", only(&inside, &outside).to_string(), "0".to_owned());
    same("leaves that are not there:", only(&outside, &inside).to_string(), "0".to_owned());
    Ok(Some(wrong))
}

/// Level and all bits of a leaf.
type Leaf = (Level, u64);

/// The runs, leaf for leaf.
fn said_leaves(runs: &[Run], levels: Levels) -> Result<BTreeMap<u64, Leaf>, Failure> {
    /// No map of the lab's guests has more.
    const MOST: u64 = 1 << 20;
    let mut leaves = BTreeMap::new();
    for run in runs {
        let size = match run.page.as_str() {
            "4K" => PageSize::Size4K,
            "2M" => PageSize::Size2M,
            "1G" => PageSize::Size1G,
            other => return Err(format!("tables --live: a page of {other}").into()),
        };
        if run.count > MOST {
            return Err(format!("tables --live: a run of {} leaves", run.count).into());
        }
        for index in 0..run.count {
            let linear = run.start.0.get().wrapping_add(index * size.bytes());
            let linear = linear & ((1 << levels.virt_bits()) - 1);
            let bits = (run.phys.0.get() + index * size.bytes()) | run.flags.0.get();
            leaves.insert(linear, (Level::holding(size), bits));
        }
    }
    Ok(leaves)
}

fn real_leaves(tree: &Tree) -> BTreeMap<u64, Leaf> {
    const PAGE_SIZE: u64 = 1 << 7;
    let is_leaf = |place: &Place, bits: u64| place.level.0 == Level::Pt || bits & PAGE_SIZE != 0;
    tree.lower
        .iter()
        .chain(&tree.upper)
        .filter(|&(place, &bits)| is_leaf(place, bits))
        .map(|(place, &bits)| (place.linear, (place.level.0, bits)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;

    fn tree() -> Tree {
        let mut tree = Tree { tables: 6, ..Tree::default() };
        let at = |linear, level| Place { linear, level: Reverse(level) };
        tree.lower.insert(at(0, Level::Pml4), 0x63);
        tree.lower.insert(at(0, Level::Pdpt), 0x63);
        tree.lower.insert(at(0x4000_0000, Level::Pdpt), 0x4000_01e3);
        tree.lower.insert(at(0, Level::Pd), 0x1e3);
        tree.lower.insert(at(0x20_0000, Level::Pd), 0x20_01e3);
        tree.upper.insert(at(0xffff_8100_0000, Level::Pt), 0x5163);
        tree
    }

    fn runs(flags: &str, count: u64) -> Vec<Run> {
        let text = format!(
            r#"[
                {{"start":"0x0","end":"0x3fffff","phys":"0x0","identity":true,"page":"2M",
                  "count":{count},"flags":"{flags}","rights":"rwxs"}},
                {{"start":"0x40000000","phys":"0x40000000","page":"1G","count":1,"flags":"0x1e3"}},
                {{"start":"0xffffffff81000000","phys":"0x5000","page":"4K","count":1,"flags":"0x163"}}
            ]"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn runs_are_the_leaves_they_stand_for() {
        let levels = Levels::Four;
        assert_eq!(said_leaves(&runs("0x1e3", 2), levels).unwrap(), real_leaves(&tree()));
        for wrong in [runs("0xe3", 2), runs("0x1e3", 1), runs("0x1e3", 3)] {
            assert_ne!(said_leaves(&wrong, levels).unwrap(), real_leaves(&tree()));
        }
        assert!(said_leaves(&runs("0x1e3", u64::MAX), levels).is_err());
    }
}
