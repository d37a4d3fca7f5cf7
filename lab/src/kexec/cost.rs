//! What the verification of 200 MB costs in the purgatory: ours beside that of kexec-tools.

use std::fs;
use std::time::Instant;

use serde_json::json;

use super::cells::{CONSUMER, exec_line, load_line};
use super::gdb::Gdb;
use super::image::{self, Image};
use super::machine::{Guest, Next, Trouble};
use super::{Lab, OURS, Prepared, Row, STOCK};
use crate::cells::Firmware;

/// The part's name.
pub const PART: &str = "cost";

/// Makes an initramfs of 200 MB beside the consumer's: a second archive with one big file.
const BIG: &str = "cd /tmp && head -c 209715200 /dev/urandom >big && (cat /consumer; echo big | cpio -o -H newc) >/initrd && rm big && wc -c </initrd";

struct Measured {
    /// Instructions from the purgatory's entry to the kernel's.
    instructions: u64,
    seconds: f64,
}

/// Measures both on one machine.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    if lab.own.is_none() || lab.sample {
        return Vec::new();
    }
    let mut spec = lab.spec("6.12", Firmware::SeaBios);
    // Virtual time is the number of instructions, which the monitor tells.
    spec.options = ["-icount", "shift=0,sleep=off"].map(str::to_owned).to_vec();
    let prepared = match lab.prepare(PART, &spec, |guest| guest.must(BIG, lab.patience)) {
        Ok(prepared) => prepared,
        Err(error) => return vec![lab.row(PART, "boot", OURS, || Err(error.to_string().into()))],
    };
    let mut stock = None;
    let mut rows = Vec::new();
    for (tool, verify) in [(STOCK, true), (OURS, true), (OURS, false)] {
        let measured = std::cell::Cell::new(None);
        let name = if verify { "200-mb" } else { "200-mb-no-verify" };
        let row = lab.row(PART, name, tool, || {
            let Measured { instructions, seconds } = measure(lab, &prepared, tool, verify)?;
            measured.set(Some(instructions));
            let text = format!("{instructions} instructions, {seconds:.2} s under emulation");
            match stock.filter(|_| verify) {
                None => Ok(text),
                Some(stock) => {
                    let text = format!(
                        "{text}: 1/{:.0} of kexec-tools'",
                        stock as f64 / instructions as f64
                    );
                    if instructions * 10 <= stock { Ok(text) } else { Err(text.into()) }
                }
            }
        });
        if tool == STOCK {
            stock = measured.get();
        }
        rows.push(row);
    }
    rows
}

fn measure(
    lab: &Lab,
    prepared: &Prepared<String>,
    tool: &str,
    verify: bool,
) -> Result<Measured, Trouble> {
    let kernel = lab.cache.join("kernels/6.12/vmlinuz");
    let init_size = image::init_size(&fs::read(kernel)?).ok_or("no init_size")?;
    let mut guest = prepared.restore(&lab.log(&format!("{PART}-{tool}-{verify}")))?;
    let mut line = load_line(tool, "/kernels/6.12", "/initrd", CONSUMER);
    if !verify {
        line += " --no-verify";
    }
    guest.must(&line, lab.patience)?;
    let image = Image::of(&mut guest, lab)?;
    // The 64-bit entry (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
    let entry = image.kernel(init_size).ok_or("no segment is a kernel's")?.start().get() + 0x200;
    let mut gdb = Gdb::new(guest.debugger()?)?;
    gdb.breakpoint(image.start.get(), true)?;
    gdb.go_on()?;
    guest.tell(exec_line(tool))?;
    let begin = stop_at(lab, &mut gdb, &mut guest, image.start.get())?;
    gdb.breakpoint(image.start.get(), false)?;
    gdb.breakpoint(entry, true)?;
    let started = Instant::now();
    gdb.go_on()?;
    let end = stop_at(lab, &mut gdb, &mut guest, entry)?;
    let seconds = started.elapsed().as_secs_f64();
    gdb.breakpoint(entry, false)?;
    gdb.detach()?;
    match guest.next(lab.patience)? {
        Next::Up(_) => Ok(Measured { instructions: end - begin, seconds }),
        other => Err(format!("{other:?}{}", guest.last_words()).into()),
    }
}

/// Waits for a breakpoint; the number of instructions so far.
fn stop_at(lab: &Lab, gdb: &mut Gdb, guest: &mut Guest, at: u64) -> Result<u64, Trouble> {
    if !gdb.stopped(lab.patience * 2)? {
        return Err(format!("QEMU ended before 0x{at:x}{}", guest.last_words()).into());
    }
    let rip = gdb.registers()?.get(super::gdb::Register::Rip);
    if rip != at {
        return Err(format!("stopped at 0x{rip:x} instead of 0x{at:x}").into());
    }
    let answer = guest.qmp.run("query-replay", &json!({}))?;
    answer["icount"].as_u64().ok_or_else(|| format!("no icount in {answer}").into())
}
