//! `identmap exec`.

use std::fs;
use std::process::Command;

use identmap_kexec::{Call, Rules, explain, syscall};
use identmap_linux::Kind;

use crate::args::Exec;
use crate::loading::{is_root, line, systemd_runs};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Exec) -> Result<Status, Failure> {
    if line("/sys/kernel/kexec_loaded").is_some_and(|text| text == "0") {
        return Err(Failure::new("no image is loaded; load one first: identmap load KERNEL"));
    }
    if !is_root() {
        return Err(Failure::new("exec takes root (CAP_SYS_BOOT): run it with sudo"));
    }
    if !args.now && systemd_runs() {
        let asked = Command::new("systemctl").arg("kexec").status();
        return match asked {
            Ok(status) if status.success() => Ok(Status::Safe),
            Ok(status) => Err(Failure(format!("systemctl kexec: {status}; --now jumps at once"))),
            Err(error) => Err(Failure(format!("systemctl kexec: {error}; --now jumps at once"))),
        };
    }
    if !args.now {
        syscall::sync();
        for place in writable() {
            // What is in use for writing stays; its data was written just now.
            if let Err(error) = syscall::remount_read_only(&place) {
                eprintln!("identmap: {place} stays writable: {error}");
            }
        }
        syscall::sync();
    }
    let error = syscall::jump();
    let errno = error.raw_os_error().unwrap_or(0);
    let rules = Rules { root: true, ..Rules::default() };
    let why = explain(Call::Reboot, errno, Kind::Kexec, rules);
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    Err(Failure(format!("the jump failed: {error}{why}")))
}

/// Where file systems of block devices are mounted writable, the last mounted first (proc(5), `/proc/mounts`).
fn writable() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut places: Vec<String> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, place) = (words.next()?, words.next()?);
            let writable = words.nth(1)?.split(',').any(|option| option == "rw");
            (device.starts_with("/dev/") && writable).then(|| unescaped(place))
        })
        .collect();
    places.reverse();
    places
}

/// Spaces, tabs, line ends and backslashes are written as `\040` (`mangle()` in `fs/proc_namespace.c`).
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}
