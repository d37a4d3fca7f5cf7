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
    let mut spec = lab.spec("6.1", Firmware::SeaBios);
    // Time in the guest is the number of its instructions: the points are where they are on any host.
    spec.options = ["-icount", "shift=0"].map(str::to_owned).to_vec();
    let prepared = lab.prepare(PART, &spec, |guest| {
        guest.must(&line("new"), lab.patience)?;
        let new = status(guest, lab)?;
        guest.must(&line("old"), lab.patience)?;
        let old = status(guest, lab)?;
        if old == new {
            return Err("status does not tell the two images apart".into());
        }
        Ok(Known { old, new })
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return vec![lab.row(PART, "load", OURS, || Err(error.to_string().into()))],
    };
    let count = if lab.sample { 2 } else { POINTS };
    let points: Vec<u32> = (0..count).collect();
    lab.each(&points, |point| {
        let share = (f64::from(*point) + 0.5) / f64::from(count);
        let name = format!("{:02}-at-{:03.0}-percent", point + 1, share * 100.0);
        lab.row(PART, &name, OURS, || kill(lab, &prepared, &name, share))
    })
}

/// What `identmap status` says of each.
struct Known {
    old: String,
    new: String,
}

fn line(which: &str) -> String {
    load_line(OURS, "/kernels/6.1", "/consumer", &format!("{CONSUMER} lab.image={which}"))
}

/// Milliseconds that a command takes; the clock of `/proc/timer_list` counts nanoseconds.
fn timed(line: &str) -> String {
    const NOW: &str = "awk '/^now at/ { print $3; exit }' /proc/timer_list";
    format!("a=$({NOW}); {line} >/dev/null || exit; b=$({NOW}); echo $(((b - a) / 1000000))")
}

fn status(guest: &mut Guest, lab: &Lab) -> Result<String, Trouble> {
    guest.must("identmap status", lab.patience)
}

fn kill(lab: &Lab, prepared: &Prepared<Known>, name: &str, share: f64) -> Result<String, Trouble> {
    let mut guest = prepared.restore(&lab.log(&format!("{PART}-{name}")))?;
    // A guest that has just been restored runs slowly at first: the second time counts.
    guest.must(&line("new"), lab.patience)?;
    guest.must(&line("old"), lab.patience)?;
    let whole = guest.must(&timed(&line("new")), lab.patience)?;
    let whole: f64 = whole.parse().map_err(|_| format!("no time: {whole}"))?;
    guest.must(&line("old"), lab.patience)?;
    let script = format!(
        "{} >/dev/null 2>&1 & pid=$!; usleep {:.0}; kill -KILL $pid; wait $pid; echo $?",
        line("new"),
        whole * share * 1000.0
    );
    let said = guest.must(&script, lab.patience)?;
    // 128 + SIGKILL
    let killed = said.lines().last() == Some("137");
    let said = status(&mut guest, lab)?;
    let told = match &said {
        said if *said == prepared.answer.old => "old",
        said if *said == prepared.answer.new => "new",
        other => {
            return Err(
                format!("status is neither the old image's nor the new one's: {other}").into()
            );
        }
    };
    if !killed && told == "old" {
        return Err("it had ended, and the old image is still there".into());
    }
    let release = jump(lab, &mut guest, exec_line(OURS))?;
    let cmdline = guest.must("cat /proc/cmdline", lab.patience)?;
    if !cmdline.ends_with(&format!("lab.image={told}")) {
        return Err(format!("status said {told}, and {cmdline:?} came up").into());
    }
    let after = whole * share;
    let how = if killed { "killed" } else { "had ended" };
    Ok(format!("{how} after {after:.0} of {whole:.0} ms: {told} image, {release} up with it"))
}
