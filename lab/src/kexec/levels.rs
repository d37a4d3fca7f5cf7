//! From 5-level paging to kernels that know or want only 4 levels, and back.

use super::cells::{CONSUMER, Producer, exec_line, jump, load_line};
use super::machine::{Guest, Trouble};
use super::{Lab, Prepared, Row};
use crate::cells::{Firmware, SERIES};

/// The part's name.
pub const PART: &str = "levels";

/// What is tried: the producer's levels, the consumer, and what it is told.
#[derive(Clone, Copy, Debug)]
struct Case {
    series: &'static str,
    /// The producer is told `no5lvl`: on a processor that has 5 levels it runs with 4.
    four: bool,
    consumer: &'static str,
    /// The consumer is told `no5lvl`.
    no5lvl: bool,
}

impl Case {
    fn producer(&self) -> String {
        format!("{}-{}level", self.series, if self.four { 4 } else { 5 })
    }

    fn name(&self) -> String {
        let told = if self.no5lvl { "-no5lvl" } else { "" };
        format!("{}-to-{}{told}", self.producer(), self.consumer)
    }

    /// The levels that the consumer has to come up with: 5.10 is built without the fifth.
    fn expected(&self) -> u32 {
        if self.no5lvl || self.consumer == "5.10" { 4 } else { 5 }
    }
}

/// 5.10 from Debian has no 5-level paging: as a producer it runs with 4.
fn cases(sample: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for &series in SERIES {
        for four in [false, true] {
            if series == "5.10" && !four {
                continue;
            }
            for &consumer in SERIES {
                for no5lvl in [false, true] {
                    if consumer != "5.10" || !no5lvl {
                        cases.push(Case { series, four, consumer, no5lvl });
                    }
                }
            }
        }
    }
    if sample {
        cases.retain(|case| {
            let down = case.series == "6.12" && !case.four && case.consumer == "6.1" && case.no5lvl;
            let old = case.series == "6.12" && !case.four && case.consumer == "5.10";
            down || old
        });
    }
    cases
}

/// Runs all cases with all tools.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let mut producers: Vec<(String, Vec<Case>)> = Vec::new();
    for case in cases(lab.sample).into_iter().filter(|case| lab.wanted(&case.name())) {
        match producers.iter_mut().find(|(name, _)| *name == case.producer()) {
            Some((_, cases)) => cases.push(case),
            None => producers.push((case.producer(), vec![case])),
        }
    }
    lab.each(&producers, |(name, cases)| one(lab, name, cases)).concat()
}

fn one(lab: &Lab, name: &str, cases: &[Case]) -> Vec<Row> {
    let first = cases[0];
    let producer = Producer { series: first.series, firmware: Firmware::Ovmf, gbpages: true };
    let mut spec = lab.spec(producer.series, producer.firmware);
    spec.la57 = true;
    if first.four && first.series != "5.10" {
        spec.append = "no5lvl".to_owned();
    }
    let prepared = lab.prepare(&format!("{PART}-{name}"), &spec, |guest| {
        let levels = levels(guest)?;
        if levels == if first.four { 4 } else { 5 } {
            Ok(())
        } else {
            Err(format!("the producer runs with {levels} levels").into())
        }
    });
    let mut rows = Vec::new();
    for case in cases {
        for tool in lab.tools() {
            rows.push(match &prepared {
                Err(error) => lab.row(PART, &case.name(), tool, || Err(error.to_string().into())),
                Ok(prepared) => {
                    lab.row(PART, &case.name(), tool, || cell(lab, prepared, case, tool))
                }
            });
        }
    }
    rows
}

fn cell(lab: &Lab, prepared: &Prepared<()>, case: &Case, tool: &str) -> Result<String, Trouble> {
    let mut guest = prepared.restore(&lab.log(&format!("{PART}-{}-{tool}", case.name())))?;
    let told = if case.no5lvl { " no5lvl" } else { "" };
    let cmdline = format!("{CONSUMER}{told} lab.cell={}", case.name());
    let kernel = format!("/kernels/{}", case.consumer);
    let load = guest.run(&load_line(tool, &kernel, "/consumer", &cmdline), lab.patience)?;
    if load.status != 0 {
        // Linux allows to refuse, before the jump (arch/x86/kernel/kexec-bzimage64.c, bzImage64_probe).
        let loaded = guest.must("cat /sys/kernel/kexec_loaded", lab.patience)?;
        return if loaded == "0" {
            Ok(format!("refused before the jump: {}", load.text().replace('\n', " ")))
        } else {
            Err(format!("refused, and yet something is loaded: {}", load.text()).into())
        };
    }
    let release = jump(lab, &mut guest, exec_line(tool))?;
    let levels = levels(&mut guest)?;
    if levels != case.expected() {
        return Err(format!("{release} up with {levels} levels").into());
    }
    Ok(format!("{release} up with {levels} levels"))
}

/// Bit 12 of CR4 (SDM volume 3, section 2.5).
fn levels(guest: &mut Guest) -> Result<u32, Trouble> {
    let text = guest.qmp.human("info registers")?;
    let cr4 = crate::qmp::register(&text, "CR4").ok_or("no CR4 in QEMU's answer")?;
    Ok(if cr4 & 1 << 12 == 0 { 4 } else { 5 })
}
