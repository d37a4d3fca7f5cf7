//! The comparisons as a table: for a terminal, and for docs/lab-tables.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Comparison, Noticed};
use crate::facts::{Facts, Leaves};
use crate::guest::Failure;

/// A cell's comparison, or why there is none.
pub type Row = (String, Result<Comparison, String>);

/// One line for a terminal, and the differences below it.
#[must_use]
pub fn lines(row: &Row) -> String {
    let (name, result) = row;
    match result {
        Err(error) => format!("{name:28} FAILED  {error}\n"),
        Ok(found) => {
            let Leaves { small, middle, large } = found.facts.leaves;
            let differences = found.differences();
            let word = if differences == 0 { "same" } else { "DIFFER" };
            let mut text = format!(
                "{name:28} {word:6} {:12} {:9} {:2} tables {large}x1G {middle:4}x2M {small}x4K, {:4} entries, {differences} differences{}\n",
                version(&found.facts),
                found.model.traits.policy,
                found.tables.0,
                found.entries,
                found.not_asked(),
            );
            for line in found.lines(5) {
                let _ = writeln!(text, "    {line}");
            }
            text
        }
    }
}

/// What came of a cell and its comparison, in one line if all is well.
#[must_use]
pub fn sentence(summary: &str, found: &Comparison) -> String {
    let (differences, entries) = (found.differences(), found.entries);
    let mut text =
        format!("{summary}; {differences} differences in {entries} entries{}", found.not_asked());
    for line in found.lines(3) {
        let _ = write!(text, "\n    {line}");
    }
    text
}

/// How many comparisons are as they should be, and how many are not.
#[must_use]
pub fn counts(rows: &[Row]) -> (usize, usize) {
    let good = rows.iter().filter(|(_, r)| r.as_ref().is_ok_and(|c| c.differences() == 0)).count();
    (good, rows.len() - good)
}

/// One line for each way to be wrong.
#[must_use]
pub fn mutations(table: &[Noticed]) -> String {
    let line = |Noticed { mutation, noticed, cells }: &Noticed| {
        format!("{mutation:20} noticed in {noticed:2} of {cells} cells: {}\n", mutation.about())
    };
    table.iter().map(line).collect()
}

/// The page.
///
/// # Errors
/// When the versions of what was used cannot be read from the cache.
pub fn markdown(rows: &[Row], mutations: &[Noticed], cache: &Path) -> Result<String, Failure> {
    let mut text = String::from(HEAD);
    for line in versions(rows, cache)? {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str(TABLE_HEAD);
    for (name, result) in rows {
        let Ok(found) = result else {
            let _ = writeln!(text, "| `{name}` | not compared |");
            continue;
        };
        let Leaves { small, middle, large } = found.facts.leaves;
        let seconds = found.facts.seconds;
        let said = found.said_wrong();
        let inside = if found.not_asked().is_empty() { said.to_string() } else { "-".to_owned() };
        let bundle = found.bundle.as_ref();
        let size = bundle.map_or("-".to_owned(), |bundle| bundle.bytes.to_string());
        let answer = bundle.and_then(|bundle| bundle.answer.as_deref()).unwrap_or("-");
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} | {} | {large} | {middle} | {small} | {} | {} | {inside} | {size} | {answer} | {:.1} | {:.1} |",
            version(&found.facts),
            found.model.traits.policy,
            found.model.list.requests.len(),
            found.tables.0,
            found.entries,
            found.differences() - found.said_wrong(),
            seconds.loaded + seconds.dumped,
            seconds.second,
        );
    }
    let (good, bad) = counts(rows);
    let _ = writeln!(text, "\n{} cells: {good} the same, {bad} different.", rows.len());
    text.push_str(MUTATIONS_HEAD);
    for Noticed { mutation, noticed, cells } in mutations {
        let _ = writeln!(text, "| `{mutation}` | {} | {noticed} of {cells} |", mutation.about());
    }
    Ok(text)
}

/// The upstream version is the first word of the package's.
fn version(facts: &Facts) -> &str {
    facts.package.split(' ').next_back().unwrap_or_default()
}

fn versions(rows: &[Row], cache: &Path) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    let newest = rows
        .iter()
        .map(|(name, _)| cache.join("lab/results").join(name).join("facts.json"))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max();
    if let Some((_, path)) = newest {
        let date = Command::new("date").args(["-u", "+%F", "-r"]).arg(path).output()?;
        lines.push(format!("results of {}", String::from_utf8_lossy(&date.stdout).trim()));
    }
    let mut kernels: Vec<&str> = rows
        .iter()
        .filter_map(|(_, result)| Some(result.as_ref().ok()?.facts.package.as_str()))
        .collect();
    kernels.sort_unstable();
    kernels.dedup();
    lines.extend(kernels.into_iter().map(|kernel| format!("`{kernel}`")));
    for file in ["qemu.txt", "guest/package.txt"] {
        let text = fs::read_to_string(cache.join(file))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        lines.extend(words.chunks(2).map(|pair| format!("`{}`", pair.join(" "))));
    }
    Ok(lines)
}

const HEAD: &str = "\
# The model and running kernels

Debian's kernels, booted under QEMU, each with an image loaded by stock kexec-tools. The tables of that image were taken
out of the guest's memory from outside, and compared with what identmap says they are: every present entry, with all its
bits but the address of the next table, and the number of tables. Made by

    lab/run.sh && lab/run.sh compare --markdown > docs/lab-tables.md

What the model is given: the guest's own files under /proc and /sys (version, memory map, EFI addresses, 1G pages in use,
levels), as `identmap check` reads them; and from the loaded image its segments, as `identmap tables --live` reads them. For
the transition page alone also the control page and two addresses of the running kernel, which are random. The policy
and every request follow from the version. Compared besides: `pfn_mapped[]`, and the addresses of the EFI system table and
configuration table.

With
";

const TABLE_HEAD: &str = "
The names of cells are explained in lab/README.md. `4K` is the transition page. `entries` counts all that were compared.
`inside` counts what our own binary, run in the guest, said wrong: of `tables --live` the root, levels, number of tables,
segments and every leaf, against what was found from outside; of `capture`, its size (less than 200,000 bytes; `bundle` has
it), what identifies the guest (host name, serial numbers, asset tag, UUID, MAC: searched as text and in blobs, and found by
the same search in a bundle made with `--full`), and `check --json` of the bundle on another machine against `check --json`
in the guest, all of it but `source`. `check` is that answer.
Seconds are wall-clock under emulation, without KVM: to the loaded image and its tables, and from the jump to the second
kernel's first process.

| cell | kernel | policy | requests | tables | 1G | 2M | 4K | entries | differences | inside | bundle | check | s to the tables | s to the second kernel |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|
";

const MUTATIONS_HEAD: &str = "
## Can this fail?

The same comparison with a model made wrong on purpose (`compare --mutate NAME`, or `all`). What few cells notice, or
none, is a rule that this matrix says little about: rounding to 2 MiB covers for it.

| `--mutate` | the model has | noticed in cells |
|---|---|---:|
";
