//! Killed at any point of loading: the machine has the old image or the new one, and says which.

use super::cells::{CONSUMER, exec_line, jump, load_line};
use super::machine::{Guest, Trouble};
use super::{Lab, OURS, Prepared, Row};
use crate::cells::Firmware;

/// The part's name.
pub const PART: &str = "kill";

const POINTS: u32 = 30;

/// Kills `identmap load` at points spread over the time that it takes.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    if lab.own.is_none() {
        return Vec::new();
    }
    let spec = lab.spec("6.1", Firmware::SeaBios);
    let prepared = lab.prepare(PART, &spec, |guest| {
        guest.must(&line("old"), lab.patience)?;
        let old = status(guest, lab)?;
        // Twice: the second time, what it reads is in the page cache, as at the points.
        guest.must(&line("new"), lab.patience)?;
        guest.must(&line("old"), lab.patience)?;
        let milliseconds = guest.must(&timed(&line("new")), lab.patience)?;
        let new = status(guest, lab)?;
        guest.must(&line("old"), lab.patience)?;
        let milliseconds: f64 = milliseconds.parse().map_err(|_| milliseconds)?;
        if status(guest, lab)? != old || old == new {
            return Err("status does not tell the two images apart".into());
        }
        Ok(Known { milliseconds, old, new })
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return vec![lab.row(PART, "load", OURS, || Err(error.to_string().into()))],
    };
    let points: Vec<u32> = (0..if lab.sample { 2 } else { POINTS }).collect();
    lab.each(&points, |point| {
        // The last points lie behind its end.
        let share = (f64::from(*point) + 0.5) / (points.len() as f64) * 1.1;
        let after = prepared.answer.milliseconds * share;
        let name = format!("{:02}-after-{after:.0}-ms", point + 1);
        lab.row(PART, &name, OURS, || kill(lab, &prepared, &name, after))
    })
}

struct Known {
    milliseconds: f64,
    /// What `identmap status` says of each.
    old: String,
    new: String,
}

fn line(which: &str) -> String {
    load_line(OURS, "/kernels/6.1", "/consumer", &format!("{CONSUMER} lab.image={which}"))
}

/// Milliseconds that a command takes; the clock of /proc/timer_list counts nanoseconds.
fn timed(line: &str) -> String {
    const NOW: &str = "awk '/^now at/ { print $3; exit }' /proc/timer_list";
    format!("a=$({NOW}); {line} >/dev/null || exit; b=$({NOW}); echo $(((b - a) / 1000000))")
}

fn status(guest: &mut Guest, lab: &Lab) -> Result<String, Trouble> {
    guest.must("identmap status", lab.patience)
}

fn kill(lab: &Lab, prepared: &Prepared<Known>, name: &str, after: f64) -> Result<String, Trouble> {
    let mut guest = prepared.restore(&lab.log(&format!("{PART}-{name}")))?;
    let script = format!(
        "{} >/dev/null 2>&1 & pid=$!; usleep {:.0}; kill -KILL $pid 2>/dev/null; wait $pid; echo $?",
        line("new").replacen("identmap", "exec identmap", 1),
        after * 1000.0
    );
    let script = format!("({})", script.replacen("exec identmap", "identmap", 1));
    let ended = guest.must(&script, lab.patience)?;
    let said = status(&mut guest, lab)?;
    let told = match &said {
        said if *said == prepared.answer.old => "old",
        said if *said == prepared.answer.new => "new",
        other => {
            return Err(
                format!("status is neither that of the old nor of the new image: {other}").into()
            );
        }
    };
    let release = jump(lab, &mut guest, exec_line(OURS))?;
    let cmdline = guest.must("cat /proc/cmdline", lab.patience)?;
    if !cmdline.ends_with(&format!("lab.image={told}")) {
        return Err(format!("status said {told}, and {cmdline:?} came up").into());
    }
    let how = if ended.trim() == "137" { "killed" } else { "had ended" };
    Ok(format!("{how}: {told} image, {release} up with it"))
}
