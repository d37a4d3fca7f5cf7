//! A consumer that reads what the producer's kind of map leaves out: reset with kexec-tools, up with a
//! map of our own.
//!
//! The map: 5.10 does not ask for the EFI configuration table, and with `nogbpages` nothing maps it by
//! luck where firmware put it megabytes from RAM. The consumer: kernels since 5.19 read that table
//! before they have page tables of their own, if CPUID says that the processor knows SEV. QEMU's
//! emulated processor never says so; here its debugger port answers that one question (leaves
//! 0x80000000 and 0x8000001f) as an EPYC answers it, at the consumer's own `cpuid` instructions. The kernels,
//! the firmware and both maps are as they are.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::cells::{CONSUMER, exec_line, load_line};
use super::gdb::{Gdb, Register};
use super::image::{self, Image};
use super::machine::{Next, Trouble};
use super::{Lab, OURS, Prepared, Row, STOCK};
use crate::cells::Firmware;

/// The part's name.
pub const PART: &str = "hole";

/// Consumers that read the table.
const CONSUMERS: &[&str] = &["6.1", "6.12", "7.x"];

/// Runs each consumer with both tools, and with 1G pages, under which the table is mapped by luck, the control.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let consumers = if lab.sample { &CONSUMERS[..1] } else { CONSUMERS };
    let mut rows = Vec::new();
    for gbpages in [false, true] {
        let mut spec = lab.spec("5.10", Firmware::OvmfSplit);
        let pages = if gbpages { "gbpages" } else { "nogbpages" };
        if !gbpages {
            spec.append = pages.to_owned();
        }
        let producer = format!("5.10-ovmfsplit-{pages}");
        let mut work: Vec<(&str, &str)> = Vec::new();
        for consumer in consumers {
            work.push((consumer, STOCK));
            work.extend((lab.own.is_some() && !gbpages).then_some((*consumer, OURS)));
        }
        work.retain(|(consumer, _)| lab.wanted(&format!("{producer}-to-{consumer}")));
        if work.is_empty() {
            continue;
        }
        let prepared = lab.prepare(&format!("{PART}-{producer}"), &spec, |guest| {
            guest.must("uname -r", lab.patience)
        });
        rows.extend(lab.each(&work, |(consumer, tool)| {
            let name = format!("{producer}-to-{consumer}");
            let reset = *tool == STOCK && !gbpages;
            match &prepared {
                Err(error) => lab.row(PART, &name, tool, || Err(error.to_string().into())),
                Ok(prepared) => lab.row(PART, &name, tool, || {
                    let log = lab.log(&format!("{PART}-{name}-{tool}"));
                    cell(lab, prepared, consumer, tool, &log, reset)
                }),
            }
        }));
    }
    rows
}

fn cell(
    lab: &Lab,
    prepared: &Prepared<String>,
    consumer: &str,
    tool: &str,
    log: &Path,
    reset: bool,
) -> Result<String, Trouble> {
    let file = fs::read(lab.cache.join("kernels").join(consumer).join("vmlinuz"))?;
    let init_size = image::init_size(&file).ok_or("no init_size")?;
    let offsets = cpuid_offsets(&file).ok_or("not a bzImage")?;
    let mut guest = prepared.restore(log)?;
    let kernel = format!("/kernels/{consumer}");
    guest.must(&load_line(tool, &kernel, "/consumer", CONSUMER), lab.patience)?;
    let image = Image::of(&mut guest, lab)?;
    let base = image.kernel(init_size).ok_or("no segment is a kernel's")?.start().get();
    let mut gdb = Gdb::new(guest.debugger()?)?;
    for offset in &offsets {
        gdb.breakpoint(base + offset, true)?;
    }
    gdb.go_on()?;
    guest.tell(exec_line(tool))?;
    let deadline = Instant::now() + lab.patience;
    let mut answered = 0;
    let mut ended = false;
    // Leaf 0x8000001f twice is enough: the first decides on the reading, the second on what follows it.
    while answered < 2 && !ended {
        match gdb.stopped(deadline.saturating_duration_since(Instant::now()).max(MINIMUM)) {
            Ok(true) => answered += u32::from(answer(&mut gdb)?),
            Ok(false) => ended = true,
            Err(error) => return Err(Trouble::Late(format!("{error}{}", guest.last_words()))),
        }
        if !ended && answered < 2 {
            gdb.go_on()?;
            // Kernels differ in how often they ask: what comes up ends the wait.
            if answered == 1 {
                match guest.next(SETTLE)? {
                    Next::Silent => {}
                    other => return verdict(reset, &other, answered),
                }
            }
        }
    }
    if !ended {
        for offset in &offsets {
            gdb.breakpoint(base + offset, false)?;
        }
        gdb.detach()?;
    }
    let next = if ended { Next::Reset } else { guest.next(lab.patience)? };
    verdict(reset, &next, answered)
}

const MINIMUM: std::time::Duration = std::time::Duration::from_millis(100);
const SETTLE: std::time::Duration = std::time::Duration::from_secs(5);

fn verdict(reset: bool, next: &Next, answered: u32) -> Result<String, Trouble> {
    if answered == 0 {
        return Err("the consumer never asked CPUID for SEV".into());
    }
    match (next, reset) {
        (Next::Up(release), false) => Ok(format!("{release} up")),
        (Next::Reset, true) => Ok("reset, as was to be shown".to_owned()),
        (Next::Silent, _) => Err(Trouble::Late("after the jump".to_owned())),
        (Next::Reset, false) => Err("reset".into()),
        (Next::Up(release), true) => Err(format!("{release} up: this hole is none").into()),
        (other, _) => Err(format!("{other:?}").into()),
    }
}

/// Answers one `cpuid` in place of the processor; whether it was the leaf about SEV.
fn answer(gdb: &mut Gdb) -> Result<bool, Trouble> {
    let mut registers = gdb.registers()?;
    let leaf = registers.get(Register::Rax) as u32;
    let rip = registers.get(Register::Rip);
    match leaf {
        // The largest extended leaf (APM volume 3, E.4.1).
        0x8000_0000 => registers.set(Register::Rax, 0x8000_001f),
        // SME and SEV, bit 51 and 5 bits of address lost, 15 keys (APM volume 3, E.4.17): an EPYC 7001's.
        0x8000_001f => {
            registers.set(Register::Rax, 0x3);
            registers.set(Register::Rbx, 5 << 6 | 51);
            registers.set(Register::Rcx, 15);
            registers.set(Register::Rdx, 0);
        }
        _ => {
            // The processor answers for itself.
            gdb.step_over(rip)?;
            return Ok(false);
        }
    }
    registers.set(Register::Rip, rip + 2);
    gdb.set_registers(&registers)?;
    Ok(leaf == 0x8000_001f)
}

/// Where `cpuid` (0f a2) may be in the part of a bzImage that runs before decompression, counted from
/// where the kernel is loaded. Bytes that only look so are never reached.
fn cpuid_offsets(bzimage: &[u8]) -> Option<Vec<u64>> {
    let byte = |at: usize| bzimage.get(at).copied();
    let long = |at: usize| Some(u32::from_le_bytes(bzimage.get(at..at + 4)?.try_into().ok()?));
    // setup_sects, payload_offset, payload_length (Documentation/arch/x86/boot.rst).
    let sectors = match byte(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let code = bzimage.get((sectors + 1) * 512..)?;
    let start = long(0x248)? as usize;
    let end = start.checked_add(long(0x24c)? as usize)?;
    let found = code
        .windows(2)
        .enumerate()
        .filter(|(at, pair)| *pair == [0x0f, 0xa2] && !(start..end).contains(at));
    Some(found.map(|(at, _)| at as u64).collect())
}
