//! A byte of a loaded segment flips between load and jump: the purgatory stops and says so.

use std::time::{Duration, Instant};

use super::cells::{CONSUMER, exec_line, jump, load_line};
use super::gdb::Gdb;
use super::image::Image;
use super::machine::{Next, Trouble};
use super::{Lab, OURS, Prepared, Row};
use crate::cells::Firmware;

/// The part's name.
pub const PART: &str = "corruption";

const TRIES: u64 = 20;
/// In the purgatory: damaged code may not get as far as saying so, but it must not boot.
const ITSELF: u64 = 40;
/// Where the sequence of pseudo-random places starts.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Loads once, then flips and jumps again and again.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    if lab.own.is_none() {
        return Vec::new();
    }
    let spec = lab.spec("6.12", Firmware::Ovmf);
    let prepared = lab.prepare(PART, &spec, |guest| {
        let cmdline = format!("{CONSUMER} lab.cell=corruption");
        guest.must(&load_line(OURS, "/kernels/6.1", "/consumer", &cmdline), lab.patience)?;
        Image::of(guest, lab)
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return vec![lab.row(PART, "load", OURS, || Err(error.to_string().into()))],
    };
    let mut rows = vec![lab.row(PART, "untouched", OURS, || {
        let mut guest = prepared.restore(&lab.log("corruption-untouched"))?;
        Ok(format!("{} up", jump(lab, &mut guest, exec_line(OURS))?))
    })];
    let (others, itself) = if lab.sample { (2, 0) } else { (TRIES, ITSELF) };
    let tries: Vec<(bool, u64)> = (0..others)
        .map(|index| (false, index))
        .chain((0..itself).map(|index| (true, index)))
        .collect();
    rows.extend(lab.each(&tries, |(itself, index)| {
        let Some((segment, at)) = place(&prepared.answer, *itself, *index) else {
            return lab.row(PART, "place", OURS, || Err("no segment to damage".into()));
        };
        let what = if *itself { "itself" } else { "segment" };
        let name = format!("{:02}-{what}-{segment}", index + 1);
        lab.row(PART, &name, OURS, || flip(lab, &prepared, &name, at, *itself))
    }));
    rows
}

/// The segments in turn, or only the purgatory, where the jump goes first; in each, any byte that was loaded.
fn place(image: &Image, itself: bool, index: u64) -> Option<(usize, u64)> {
    let chosen: Vec<usize> = (0..image.segments.len())
        .filter(|number| image.segments[*number].0.contains(image.start) == itself)
        .collect();
    let segment = *chosen.get((index % (chosen.len() as u64).max(1)) as usize)?;
    let (range, loaded) = image.segments[segment];
    // splitmix64
    let mut value = SEED.wrapping_mul(index + 1);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^= value >> 31;
    Some((segment, range.start().get() + value % loaded.max(1)))
}

fn flip(
    lab: &Lab,
    prepared: &Prepared<Image>,
    name: &str,
    at: u64,
    itself: bool,
) -> Result<String, Trouble> {
    let source = prepared.answer.source(at).ok_or(format!("0x{at:x} is copied from nowhere"))?;
    let mut guest = prepared.restore(&lab.log(&format!("{PART}-{name}")))?;
    let mut gdb = Gdb::new(guest.debugger()?)?;
    let before = gdb.read_physical(source, 1)?[0];
    let bit = 1 << (at % 8);
    gdb.write_physical(source, &[before ^ bit])?;
    if gdb.read_physical(source, 1)?[0] != before ^ bit {
        return Err(format!("the byte at 0x{source:x} does not change").into());
    }
    gdb.detach()?;
    guest.go_on()?;
    guest.tell(exec_line(OURS))?;
    let what = format!("0x{at:x} (from 0x{source:x}) 0x{before:02x} to 0x{:02x}", before ^ bit);
    let deadline = Instant::now() + if itself { LONG } else { lab.patience };
    loop {
        match guest.next(Duration::from_millis(200))? {
            Next::Silent => {}
            Next::Up(release) => return Err(format!("{what}: not noticed, {release} up").into()),
            Next::Reset if itself => return Ok(format!("{what}: reset, not booted")),
            Next::Reset => return Err(format!("{what}: reset{}", guest.last_words()).into()),
            Next::Returned(ran) => return Err(format!("came back: {}", ran.text()).into()),
        }
        let console = guest.console();
        if let Some(line) = console.lines().find(|line| line.contains(MESSAGE)) {
            // It has to stop there.
            return match guest.next(Duration::from_secs(3))? {
                Next::Silent => Ok(format!("{what}: caught: {}", line.trim())),
                other => Err(format!("{what}: {}, and then {other:?}", line.trim()).into()),
            };
        }
        if Instant::now() > deadline && itself {
            return Ok(format!("{what}: stands still, not booted"));
        }
        if Instant::now() > deadline {
            return Err(Trouble::Late(format!("{what}{}", guest.last_words())));
        }
    }
}

/// For what stands still: a boot takes a fraction of it.
const LONG: Duration = Duration::from_secs(40);

/// What our purgatory says of a segment that is not as it was loaded, and of an exception in itself.
const MESSAGE: &str = ", not booting";
