//! Memory that comes after a crash kernel was loaded: the running kernel writes it into the core header, if the
//! loader left room and said so.

use std::time::{Duration, Instant};

use serde_json::json;

use super::cells::{CONSUMER, jump};
use super::kdump::Core;
use super::machine::{Guest, Trouble};
use super::{Lab, OURS, Row, STOCK, STOCK_FILE};
use crate::cells::Firmware;

/// The part's name.
pub const PART: &str = "hotplug";

/// The second has `kexec_load(2)` without the flags, and no file that says how much room there has to be.
const PRODUCERS: &[&str] = &["6.12", "6.1", "7.x"];
const CAPTURE: &str = "6.12";
/// What is added, in bytes: two blocks of memory (`MIN_MEMORY_BLOCK_SIZE`).
const ADDED: u64 = 256 << 20;

/// Runs all cases with all tools.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let mut producers = PRODUCERS[..if lab.sample { 1 } else { PRODUCERS.len() }].to_vec();
    producers.retain(|series| lab.wanted(&name(series)));
    let tries: Vec<(&str, &str)> = producers
        .into_iter()
        .flat_map(|series| lab.tools().into_iter().map(move |tool| (series, tool)))
        .collect();
    lab.each(&tries, |(series, tool)| lab.row(PART, &name(series), tool, || one(lab, series, tool)))
}

fn name(series: &str) -> String {
    format!("{series}-bios-to-{CAPTURE}")
}

fn one(lab: &Lab, series: &str, tool: &str) -> Result<String, Trouble> {
    let mut spec = lab.spec(series, Firmware::SeaBios);
    spec.append.push_str("crashkernel=256M memhp_default_state=online");
    spec.options = ["-m", "slots=2,maxmem=8G"].map(str::to_owned).to_vec();
    let mut guest = Guest::boot(&spec, &lab.log(&format!("{PART}-{series}-{tool}")), lab.patience)?;
    let program = match tool {
        STOCK => "kexec -p -c",
        STOCK_FILE => "kexec -p -s",
        OURS => "identmap load -p",
        _ => return Err(format!("no tool {tool}").into()),
    };
    let cmdline = format!("{CONSUMER} nr_cpus=1 reset_devices lab.capture=1");
    let said = guest.must(
        &format!("{program} /kernels/{CAPTURE} --initrd=/capture --command-line='{cmdline}'"),
        lab.patience,
    )?;
    // Of the image that is loaded, since 6.6; before, there is no such file.
    let told = guest.run("cat /sys/devices/system/memory/crash_hotplug", lab.patience)?;
    let follows = told.status == 0 && told.text() == "1";
    let new = add(&mut guest, lab)?;
    let release = jump(lab, &mut guest, "echo c >/proc/sysrq-trigger")?;
    let core = Core::read(&mut guest, lab)?;
    let there = core.holds(new, ADDED);
    let text = format!(
        "{release} up; {} MiB at 0x{new:x} came after the load and are {}in the dump",
        ADDED >> 20,
        if there { "" } else { "not " }
    );
    if there != follows {
        return Err(format!("{text}, but crash_hotplug says {}", told.text()).into());
    }
    // Ours asks for it wherever it can be had, and says what holds.
    let room = tool == OURS && series != "6.1";
    let word =
        if room { "keeps the core header up to date" } else { "load the crash kernel again" };
    if tool == OURS && (room != there || !said.contains(word)) {
        return Err(format!("{text}; identmap said: {said}").into());
    }
    Ok(text)
}

/// Plugs memory in; where it is, once the kernel uses it.
fn add(guest: &mut Guest, lab: &Lab) -> Result<u64, Trouble> {
    let before = guest.must("grep 'System RAM' /proc/iomem", lab.patience)?;
    let backend = json!({ "qom-type": "memory-backend-ram", "id": "more", "size": ADDED });
    guest.qmp.run("object-add", &backend)?;
    guest.qmp.run("device_add", &json!({ "driver": "pc-dimm", "id": "dimm", "memdev": "more" }))?;
    let deadline = Instant::now() + lab.patience;
    loop {
        let after = guest.must("grep 'System RAM' /proc/iomem", lab.patience)?;
        let online = "! grep -l offline /sys/devices/system/memory/memory*/state";
        let new = after.lines().find(|line| !before.contains(*line));
        if let Some(line) = new
            && guest.run(online, lab.patience)?.status == 0
        {
            let start = line.trim().split('-').next().unwrap_or_default();
            return u64::from_str_radix(start, 16).map_err(|_| format!("{line}?").into());
        }
        if Instant::now() > deadline {
            return Err(Trouble::Late(format!("memory was plugged in, but iomem is {after}")));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
