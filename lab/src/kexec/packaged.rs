//! The recipes of `packaging/` in systems that run: initramfs made by initramfs-tools and dracut, and one with systemd.
//! `packaging/check-recipes.sh` makes the images.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cells::load_line;
use super::machine::{Guest, Next, Trouble};
use super::{Lab, OURS, Row, media};
use crate::cells::Firmware;
use crate::guest::Failure;
use crate::initramfs::Initramfs;

/// The part's name.
pub const PART: &str = "packaged";

type Try = fn(&Lab, Guest) -> Result<String, Trouble>;

const TRIES: &[(&str, &str, Try)] = &[
    ("initramfs-tools", "initramfs-tools.img", hook),
    ("dracut", "dracut.img", module),
    ("systemd", "system.img", units),
    ("systemd-says-no", "system.img", refused),
];

/// Boots each image; those that are not there are a failure.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let mut tries = TRIES.to_vec();
    tries.retain(|(name, ..)| lab.wanted(name));
    // Made by hand, not fetched: no part of what is run for every change.
    if lab.own.is_none() || lab.sample {
        return Vec::new();
    }
    lab.each(&tries, |(name, image, check)| {
        lab.row(PART, name, OURS, || {
            let initrd = initrd(lab, name, image).map_err(|error| error.to_string())?;
            let mut spec = lab.spec("6.1", Firmware::Ovmf);
            spec.kernel = lab.cache.join("packaged/vmlinuz");
            spec.initrd.clone_from(&initrd.0);
            check(lab, Guest::boot(&spec, &lab.log(&format!("{PART}-{name}")), lab.patience)?)
        })
    })
}

/// A file that goes away with this value.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The image, and behind it what is jumped to.
fn initrd(lab: &Lab, name: &str, image: &str) -> Result<Gone, Failure> {
    let from = lab.cache.join("packaged").join(image);
    let say = |error| format!("{}: {error}; run packaging/check-recipes.sh", from.display());
    let mut bytes = fs::read(&from).map_err(say)?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut more = Initramfs::new();
    more.file("consumer", &media::consumer(&lab.cache)?);
    bytes.extend(more.finish());
    let path = lab.dir().join(format!("initrd-{name}-{}", std::process::id()));
    fs::write(&path, bytes)?;
    Ok(Gone(path))
}

/// What the machine is for identmap: the verdict's line.
fn verdict(lab: &Lab, guest: &mut Guest) -> Result<String, Trouble> {
    let ran = guest.run("identmap check --color never", lab.patience)?;
    let text = ran.text();
    let line = text.lines().find(|line| line.starts_with("SAFE "));
    match line.filter(|_| ran.status == 0) {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("identmap check ended with {}: {text}", ran.status).into()),
    }
}

fn hook(lab: &Lab, mut guest: Guest) -> Result<String, Trouble> {
    let place = guest.must("command -v identmap; cat /proc/1/comm", lab.patience)?;
    Ok(format!("{}: {}", place.replace('\n', " by "), verdict(lab, &mut guest)?))
}

fn module(lab: &Lab, mut guest: Guest) -> Result<String, Trouble> {
    let said = guest.must("reboot-if-safe -n", lab.patience)?;
    if said != "reboot-if-safe: safe: systemctl kexec" {
        return Err(format!("reboot-if-safe -n said {said:?}").into());
    }
    Ok(format!("{}; {said}", hook(lab, guest)?))
}

fn units(lab: &Lab, mut guest: Guest) -> Result<String, Trouble> {
    let checked = unit(lab, &mut guest, "identmap-check", "Result=success ExecMainStatus=0")?;
    // No memory is reserved on this command line.
    unit(lab, &mut guest, "identmap-kdump", "ConditionResult=no")?;
    load(lab, &mut guest)?;
    match shut_down(lab, &mut guest)? {
        Next::Up(release) => {
            let told = guest.must("cat /proc/cmdline", lab.patience)?;
            if told != CMDLINE {
                return Err(format!("{release} came up, told {told:?}").into());
            }
            Ok(format!(
                "{checked}; identmap exec through systemctl kexec and the gate: {release} up"
            ))
        }
        other => Err(format!("{other:?}{}", guest.last_words()).into()),
    }
}

/// A check that says no: the machine has to go through its firmware, which QEMU shows as a reset.
fn refused(lab: &Lab, mut guest: Guest) -> Result<String, Trouble> {
    load(lab, &mut guest)?;
    let fake = "cd /usr/bin && mv identmap was && printf '#!/bin/sh\\nexit 1\\n' >identmap && chmod 755 identmap && identmap check";
    if guest.run(fake, lab.patience)?.status != 1 {
        return Err("the check cannot be made to say no".into());
    }
    match shut_down(lab, &mut guest)? {
        Next::Reset => Ok("a check that says no: reset through the firmware".to_owned()),
        other => Err(format!("{other:?}{}", guest.last_words()).into()),
    }
}

const CMDLINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check lab.in=packaged";

fn load(lab: &Lab, guest: &mut Guest) -> Result<(), Trouble> {
    guest.must(&load_line(OURS, "/boot/vmlinuz-*", "/consumer", CMDLINE), lab.patience)?;
    Ok(())
}

fn unit(lab: &Lab, guest: &mut Guest, name: &str, expected: &str) -> Result<String, Trouble> {
    let keys: Vec<&str> = expected.split(' ').filter_map(|pair| pair.split('=').next()).collect();
    let line = format!("systemctl show {name}.service -p {}", keys.join(" -p "));
    let found = guest.must(&line, lab.patience)?;
    if expected.split(' ').all(|pair| found.lines().any(|line| line == pair)) {
        return Ok(format!("{name}.service: {expected}"));
    }
    let journal = guest.run(&format!("journalctl -o cat -u {name}.service"), lab.patience)?;
    Err(format!("{name}.service: {found}: {}", journal.text()).into())
}

/// `identmap exec` leaves the jump to systemd, and comes back before.
fn shut_down(lab: &Lab, guest: &mut Guest) -> Result<Next, Trouble> {
    // Where identmap is but a fake, too. The agent is killed on the way, and is not to be in the middle of an answer.
    let line = "(if identmap --version; then identmap exec; else systemctl kexec; fi) >/dev/ttyS0 2>&1; sleep 900";
    guest.tell(line)?;
    let deadline = Instant::now() + lab.patience;
    while Instant::now() < deadline {
        match guest.next(Duration::from_millis(500))? {
            Next::Silent => {}
            other => return Ok(other),
        }
    }
    Err(Trouble::Late(format!("after {line}{}", guest.last_words())))
}
