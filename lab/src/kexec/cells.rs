//! Every producer, under every firmware, with and without 1G pages, to every consumer: by stock
//! kexec-tools and by us.

use std::collections::BTreeMap;
use std::fmt;

use super::machine::{Guest, Next, Trouble};
use super::{Lab, OURS, Prepared, Row, STOCK, STOCK_FILE};
use crate::cells::{Firmware, SERIES};

/// The part's name.
pub const PART: &str = "cells";

/// The kernel that is kexec'd from, and its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// One of [`SERIES`].
    pub series: &'static str,
    /// What the machine starts with.
    pub firmware: Firmware,
    /// Without: `nogbpages` on its command line.
    pub gbpages: bool,
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firmware = match self.firmware {
            Firmware::SeaBios => "bios",
            Firmware::Ovmf => "ovmf",
            Firmware::OvmfFar => "ovmffar",
            Firmware::OvmfSplit => "ovmfsplit",
        };
        write!(
            f,
            "{}-{firmware}-{}",
            self.series,
            if self.gbpages { "gbpages" } else { "nogbpages" }
        )
    }
}

/// The firmwares of the matrix.
pub const FIRMWARE: &[Firmware] = &[Firmware::SeaBios, Firmware::Ovmf, Firmware::OvmfFar];

/// All producers.
#[must_use]
pub fn producers() -> Vec<Producer> {
    let mut all = Vec::new();
    for &series in SERIES {
        for &firmware in FIRMWARE {
            for gbpages in [true, false] {
                all.push(Producer { series, firmware, gbpages });
            }
        }
    }
    all
}

/// The sample: every pair of values of two factors occurs. With four series, the consumer is a Latin
/// square over producer and the rest.
#[must_use]
pub fn sample() -> Vec<(Producer, &'static str)> {
    let mut left: Vec<(Producer, &'static str)> = producers()
        .into_iter()
        .flat_map(|producer| SERIES.iter().map(move |consumer| (producer, *consumer)))
        .collect();
    let mut open: Vec<Pair> = left.iter().flat_map(pairs).collect();
    open.sort_unstable();
    open.dedup();
    let mut chosen: Vec<(Producer, &'static str)> = Vec::new();
    // Booting a producer costs more than a cell: one that is chosen already comes first among equals.
    while !open.is_empty() {
        let gain = |cell: &(Producer, &'static str)| {
            let new = pairs(cell).iter().filter(|pair| open.contains(pair)).count();
            let booted = chosen.iter().any(|(producer, _)| *producer == cell.0);
            (new, booted)
        };
        let Some(best) = (0..left.len()).rev().max_by_key(|index| gain(&left[*index])) else {
            break;
        };
        let cell = left.remove(best);
        open.retain(|pair| !pairs(&cell).contains(pair));
        chosen.push(cell);
    }
    chosen
}

type Pair = (usize, String, usize, String);

fn pairs(cell: &(Producer, &'static str)) -> Vec<Pair> {
    let (producer, consumer) = cell;
    let values = [
        producer.series.to_owned(),
        format!("{:?}", producer.firmware),
        producer.gbpages.to_string(),
        (*consumer).to_owned(),
    ];
    let mut pairs = Vec::new();
    for first in 0..values.len() {
        for second in first + 1..values.len() {
            pairs.push((first, values[first].clone(), second, values[second].clone()));
        }
    }
    pairs
}

/// What a kernel says of itself (`lab/guest/facts`).
pub type Facts = BTreeMap<String, String>;

/// Asks a kernel of this series.
///
/// # Errors
/// [`Trouble`] when it does not answer.
pub fn facts(guest: &mut Guest, series: &str, lab: &Lab) -> Result<Facts, Trouble> {
    let text = guest.must(&format!("facts {series}"), lab.patience)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Runs the matrix, or the sample.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let mut work: Vec<(Producer, Vec<&'static str>)> = Vec::new();
    let chosen: Vec<(Producer, &str)> = if lab.sample {
        sample()
    } else {
        producers().into_iter().flat_map(|p| SERIES.iter().map(move |c| (p, *c))).collect()
    };
    for (producer, consumer) in chosen {
        if !lab.wanted(&name(producer, consumer)) {
            continue;
        }
        match work.iter_mut().find(|(found, _)| *found == producer) {
            Some((_, consumers)) => consumers.push(consumer),
            None => work.push((producer, vec![consumer])),
        }
    }
    lab.each(&work, |(producer, consumers)| one(lab, *producer, consumers)).concat()
}

/// Runs a line in the first producer that the filter lets pass; whether it ended well.
///
/// # Errors
/// When no producer's name passes, or the guest does not answer.
pub fn ask(lab: &Lab, line: &str) -> Result<bool, Trouble> {
    let mut all = producers();
    for series in SERIES {
        for gbpages in [true, false] {
            all.push(Producer { series, firmware: Firmware::OvmfSplit, gbpages });
        }
    }
    let producer = all.into_iter().find(|producer| lab.wanted(&producer.to_string()));
    let producer = producer.ok_or("no producer passes the filter")?;
    let mut spec = lab.spec(producer.series, producer.firmware);
    if !producer.gbpages {
        spec.append.push_str("nogbpages");
    }
    let mut guest = Guest::boot(&spec, &lab.log("ask"), lab.patience)?;
    match guest.jump(line, lab.patience)? {
        Next::Returned(ran) => {
            println!("{}", ran.text());
            Ok(ran.status == 0)
        }
        Next::Up(release) => {
            println!("{release} came up");
            let cmdline = guest.must("cat /proc/cmdline /proc/iomem", lab.patience)?;
            println!("{cmdline}");
            Ok(true)
        }
        other => Err(format!("{other:?}{}", guest.last_words()).into()),
    }
}

fn name(producer: Producer, consumer: &str) -> String {
    format!("{producer}-to-{consumer}")
}

/// All cells of one producer.
fn one(lab: &Lab, producer: Producer, consumers: &[&'static str]) -> Vec<Row> {
    let mut spec = lab.spec(producer.series, producer.firmware);
    if !producer.gbpages {
        spec.append.push_str("nogbpages");
    }
    let prepared = lab.prepare(&producer.to_string(), &spec, |guest| {
        let facts = facts(guest, producer.series, lab)?;
        let gbpages = guest.must("grep -c DirectMap1G /proc/meminfo", lab.patience);
        if gbpages.is_ok() != producer.gbpages {
            return Err("the producer's 1G pages are not as the cell says".into());
        }
        Ok(facts)
    });
    let mut rows = Vec::new();
    for consumer in consumers {
        // Memory that kexec-tools leave to the same kernel is what ours must leave.
        let mut stock_memory =
            lab.kept(PART, &name(producer, consumer), STOCK).and_then(|row| memory(&row.text));
        for tool in lab.tools() {
            let name = name(producer, consumer);
            rows.push(match &prepared {
                Err(error) => lab.row(PART, &name, tool, || Err(error.to_string().into())),
                Ok(prepared) => {
                    let seen = std::cell::Cell::new(stock_memory);
                    let mut row = lab.row(PART, &name, tool, || {
                        let (text, memory) =
                            cell(lab, prepared, producer, consumer, tool, stock_memory)?;
                        if tool == STOCK {
                            seen.set(Some(memory));
                        }
                        Ok(text)
                    });
                    stock_memory = seen.get();
                    row.retries += prepared.retries;
                    row
                }
            });
        }
    }
    rows
}

/// The line that loads a consumer.
#[must_use]
pub fn load_line(tool: &str, kernel: &str, initrd: &str, cmdline: &str) -> String {
    let program = match tool {
        STOCK => "kexec -l -c",
        STOCK_FILE => "kexec -l -s",
        _ => "identmap load",
    };
    format!("{program} {kernel} --initrd={initrd} --command-line='{cmdline}'")
}

/// The line that jumps.
#[must_use]
pub fn exec_line(tool: &str) -> &'static str {
    if tool == OURS { "identmap exec --now" } else { "kexec -e" }
}

/// What all consumers are told.
pub const CONSUMER: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

fn cell(
    lab: &Lab,
    prepared: &Prepared<Facts>,
    producer: Producer,
    consumer: &str,
    tool: &str,
    stock_memory: Option<u64>,
) -> Result<(String, u64), Trouble> {
    let name = name(producer, consumer);
    let mut guest = prepared.restore(&lab.log(&format!("{name}-{tool}")))?;
    let cmdline = format!("{CONSUMER} lab.cell={name}");
    guest.must(
        &load_line(tool, &format!("/kernels/{consumer}"), "/consumer", &cmdline),
        lab.patience,
    )?;
    let release = jump(lab, &mut guest, exec_line(tool))?;
    let found = facts(&mut guest, consumer, lab)?;
    let get = |facts: &Facts, key: &str| facts.get(key).cloned().unwrap_or_default();
    let series_prefix = consumer.trim_end_matches('x');
    if !release.starts_with(series_prefix) {
        return Err(format!("{release} came up instead of {consumer}").into());
    }
    if get(&found, "cmdline") != cmdline {
        return Err(format!("its command line is {:?}", get(&found, "cmdline")).into());
    }
    let efi = efi(&prepared.answer, &found)?;
    if tool == OURS {
        seed(&get(&found, "setup-data"), consumer)?;
    }
    let memory: u64 = get(&found, "memory").parse().map_err(|_| "no MemTotal".to_owned())?;
    let mut text = format!("{release} up, {efi}, {memory} KiB");
    if let Some(stock) = stock_memory {
        let less = stock.saturating_sub(memory);
        if less > MEMORY_SLACK_KIB {
            return Err(format!("{text}: {less} KiB less than with kexec -c").into());
        }
        let more = memory.cast_signed() - stock.cast_signed();
        text = format!("{text} ({more:+} to kexec -c)");
    }
    Ok((text, memory))
}

/// With ours a seed for random numbers is handed over to kernels that know it, and nothing of it is left.
fn seed(setup_data: &str, consumer: &str) -> Result<(), Trouble> {
    let seeds: Vec<&str> =
        setup_data.split(' ').filter_map(|entry| entry.strip_prefix("0x9:")).collect();
    let expected: &[&str] = if consumer == "5.10" { &[] } else { &["0"] };
    if seeds == expected {
        return Ok(());
    }
    Err(format!("setup_data is {setup_data:?}, with seeds {seeds:?} instead of {expected:?}")
        .into())
}

/// The memory that a row's text tells, in KiB.
pub(super) fn memory(text: &str) -> Option<u64> {
    text.split(", ").find_map(|part| part.split_once(" KiB")?.0.parse().ok())
}

/// `MemTotal` of the same kernel on the same machine varies by where it puts itself.
const MEMORY_SLACK_KIB: u64 = 1024;

/// Jumps; the release that came up.
///
/// # Errors
/// [`Trouble`] with what came instead.
pub fn jump(lab: &Lab, guest: &mut Guest, line: &str) -> Result<String, Trouble> {
    match guest.jump(line, lab.patience)? {
        Next::Up(release) => Ok(release),
        Next::Reset => Err(format!("reset{}", guest.last_words()).into()),
        Next::Silent => Err(Trouble::Late(format!("after {line}{}", guest.last_words()))),
        Next::Returned(ran) => {
            Err(format!("{line} came back with {}: {}", ran.status, ran.text()).into())
        }
    }
}

/// Compares what firmware answers the consumer with what it answered the producer.
fn efi(before: &Facts, after: &Facts) -> Result<String, Trouble> {
    let get = |facts: &Facts, key: &str| facts.get(key).cloned();
    let Some(variables) = get(before, "variables") else {
        return match get(after, "variables") {
            None => Ok("no EFI".to_owned()),
            Some(_) => Err("EFI where there was none".into()),
        };
    };
    if variables == "0" {
        return Err("the producer itself cannot read EFI variables".into());
    }
    for key in ["variables", "content", "runtime-map"] {
        let (before, after) = (get(before, key), get(after, key));
        if before != after {
            return Err(format!("EFI {key} was {before:?} and is {after:?}").into());
        }
    }
    Ok(format!("EFI alive ({variables} variables)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_all_cells() {
        assert_eq!(producers().len() * SERIES.len(), 96);
    }

    #[test]
    fn a_seed_is_there_and_wiped() {
        assert!(seed("0x4:40 0x9:0 ", "6.1").is_ok() && seed("0x4:40 ", "5.10").is_ok());
        for (entries, consumer) in [("0x4:40 ", "6.1"), ("0x9:31 ", "6.1"), ("0x9:0 ", "5.10")] {
            assert!(seed(entries, consumer).is_err());
        }
    }

    #[test]
    fn memory_is_read_back() {
        let text = "6.1.0 up, EFI alive (26 variables), 2474124 KiB (+8 to kexec -c)";
        assert_eq!(memory(text), Some(2474124));
        assert_eq!(memory("reset"), None);
    }

    #[test]
    fn the_sample_has_every_pair() {
        let sample = sample();
        let all: Vec<_> =
            producers().into_iter().flat_map(|p| SERIES.iter().map(move |c| (p, *c))).collect();
        for pair in all.iter().flat_map(pairs) {
            assert!(sample.iter().any(|cell| pairs(cell).contains(&pair)), "{pair:?}");
        }
        assert!(sample.len() <= 18, "{}", sample.len());
    }
}
