//! `docs/kexec-lab.md`, from the rows that are kept.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::cells::{self, producers};
use super::{
    Lab, OURS, Row, STOCK, STOCK_FILE, corruption, cost, formats, hole, hotplug, kdump, kill,
    levels, packaged,
};
use crate::cells::SERIES;
use crate::guest::Failure;

/// Today, as YYYY-MM-DD in UTC.
#[must_use]
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86400);
    format!("{year}-{month:02}-{day:02}")
}

/// The whole page.
///
/// # Errors
/// Any of the file system's, and what is not as this program writes it.
pub fn markdown(lab: &Lab) -> Result<String, Failure> {
    let mut text = String::from(INTRODUCTION);
    text += "\n| what | version |\n|---|---|\n";
    for (what, path) in [
        ("5.10", "kernels/5.10/package.txt"),
        ("6.1", "kernels/6.1/package.txt"),
        ("6.12", "kernels/6.12/package.txt"),
        ("7.x", "kernels/7.x/package.txt"),
        ("guest", "guest/package.txt"),
        ("capture kernels", "makedumpfile/package.txt"),
        ("machine", "qemu.txt"),
    ] {
        let version = fs::read_to_string(lab.cache.join(path)).unwrap_or_default();
        writeln!(text, "| {what} | {} |", version.trim())?;
    }
    for section in SECTIONS {
        let rows = read(&lab.dir().join(format!("{}.json", section.part)))?;
        if rows.is_empty() {
            continue;
        }
        write!(text, "\n## {}\n\n{}\n\n{}.\n\n", section.title, section.about, summary(&rows))?;
        text += &if section.part == cells::PART { matrix(&rows) } else { list(&rows) };
    }
    Ok(text)
}

const INTRODUCTION: &str = "\
# Boots with a map of our own, and stock kexec-tools beside them

Written by `identmap-lab kexec --markdown` (lab/README.md says how to repeat it); real kernels as Debian
ships them, under QEMU without KVM. `kexec -c` and `kexec -s` are stock kexec-tools with `kexec_load(2)` and
`kexec_file_load(2)`; `identmap` is `identmap load` and `identmap exec --now`.
";

struct Section {
    part: &'static str,
    title: &'static str,
    about: &'static str,
}

const SECTIONS: &[Section] = &[
    Section {
        part: cells::PART,
        title: "Producers by consumers",
        about: "A producer is booted once; its state is restored for each cell. `up`: the consumer's first \
                process ran, its version and command line are right, and where the producer could read EFI \
                variables the consumer reads the same ones with the same content from firmware, with the same \
                runtime map; with ours, no more than 1 MiB of memory less than with `kexec -c`. A cell of the \
                table is `kexec -c` / `kexec -s` / `identmap`.",
    },
    Section {
        part: kdump::PART,
        title: "Crashes",
        about: "A panic by sysrq. `up`: the capture kernel ran; the ELF headers of `/proc/vmcore` and its \
                vmcoreinfo name the kernel that crashed, `init_uts_ns` read through them does too, makedumpfile \
                finds the crash in the old kernel's log and writes a dump. The same variable's virtual address lies in a \
                segment too, at the same place, and `identmap tables` reads the crashed kernel's own page tables.",
    },
    Section {
        part: hotplug::PART,
        title: "Memory that came after the load",
        about: "A crash kernel is loaded, 256 MiB are plugged in, then it panics. Whether they are in `/proc/vmcore` has \
                to be what `/sys/devices/system/memory/crash_hotplug` says, and with ours they have to be there where the \
                kernel can rewrite the core header (6.6). This `kexec -c` does not ask for it.",
    },
    Section {
        part: levels::PART,
        title: "Four levels and five",
        about: "On a processor with 57-bit addresses. CR4.LA57 is read when the consumer's first process runs. \
                To be refused before the jump is in order, to be reset is not.",
    },
    Section {
        part: formats::PART,
        title: "Kernels that are no bzImage",
        about: "A `vmlinux` as it lies packed in Debian's kernel, entered without a decompressor, and a UKI of systemd's \
                stub, kernel, initrd and command line, from which the last three are taken. With 5 levels in use a \
                `vmlinux` has to be refused: it does not say whether it can be entered so.",
    },
    Section {
        part: hole::PART,
        title: "A hole that only our map closes",
        about: "The producer 5.10 does not map the EFI configuration table, which firmware has put 4 MiB from \
                everything else. The consumers read it before they have page tables of their own where CPUID \
                knows SEV; QEMU's debugger port answers CPUID's leaves 0x80000000 and 0x8000001f as an EPYC does, \
                at the consumer's own `cpuid` instructions. Nothing else is changed. With 1G pages the table is mapped \
                by luck; that is the control.",
    },
    Section {
        part: corruption::PART,
        title: "A byte flips between load and jump",
        about: "One bit of one byte of a loaded segment, where the running kernel keeps it until the jump, is \
                changed through QEMU's debugger port. `segment`: 20 tries in turn in all segments but the purgatory, each of \
                which has to be told on the serial port. `itself`: in the purgatory, whose damaged code may not get as \
                far as telling, but must not boot.",
    },
    Section {
        part: cost::PART,
        title: "What verification costs",
        about: "An initrd of 200 MB. Instructions are counted by QEMU (`-icount`) from the purgatory's first to the \
                kernel's first; the seconds are of the same stretch on the machine that emulates, where an instruction \
                for CRC32C is a call.",
    },
    Section {
        part: kill::PART,
        title: "Killed while loading",
        about: "An image is loaded; `identmap load` of another one gets SIGKILL after a while. What `identmap status` \
                says then is what the jump boots.",
    },
    Section {
        part: packaged::PART,
        title: "Recipes in systems that run",
        about: "`packaging/check-recipes.sh` makes the images with Debian's own programs: an initramfs of initramfs-tools with \
                the hook, one of dracut with the module, and a system with systemd, its units enabled and the gate of \
                `systemctl kexec` in place.",
    },
];

fn summary(rows: &[Row]) -> String {
    let mut parts = Vec::new();
    for tool in [STOCK, STOCK_FILE, OURS] {
        let of: Vec<&Row> = rows.iter().filter(|row| row.tool == tool).collect();
        if !of.is_empty() {
            let good = of.iter().filter(|row| row.passed).count();
            parts.push(format!("`{tool}` {good} of {}", of.len()));
        }
    }
    let retries: u32 = rows.iter().map(|row| row.retries).sum();
    let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
    let first = rows.iter().map(|row| row.date.as_str()).min().unwrap_or_default();
    let last = rows.iter().map(|row| row.date.as_str()).max().unwrap_or_default();
    let days = if first == last { first.to_owned() } else { format!("{first} to {last}") };
    let mut text = format!("{days}: {}", parts.join(", "));
    let _ = write!(text, "; {seconds:.0} s of guests");
    if retries > 0 {
        let _ = write!(text, "; tried again because nothing came within the time given: {retries}");
    }
    text
}

fn matrix(rows: &[Row]) -> String {
    let mut text = String::from("| producer |");
    for series in SERIES {
        let _ = write!(text, " to {series} |");
    }
    text += " EFI in the consumers |\n|---|";
    text += &"---|".repeat(SERIES.len() + 1);
    text.push('\n');
    for producer in producers() {
        let of = |series: &str, tool: &str| {
            let name = format!("{producer}-to-{series}");
            rows.iter().find(|row| row.name == name && row.tool == tool)
        };
        let _ = write!(text, "| {producer} |");
        let mut efi = Vec::new();
        for series in SERIES {
            let words = [STOCK, STOCK_FILE, OURS].map(|tool| of(series, tool).map_or("-", word));
            let _ = write!(text, " {} |", words.join(" / "));
            for row in [STOCK, STOCK_FILE, OURS].iter().filter_map(|tool| of(series, tool)) {
                let said = row.text.split(", ").nth(1).filter(|_| row.passed).unwrap_or("-");
                if !efi.contains(&said) {
                    efi.push(said);
                }
            }
        }
        let _ = writeln!(text, " {} |", efi.join("; "));
    }
    let more: Vec<i64> = rows
        .iter()
        .filter(|row| row.tool == OURS)
        .filter_map(|row| {
            let stock = rows.iter().find(|stock| stock.tool == STOCK && stock.name == row.name)?;
            let (ours, stock) = (cells::memory(&row.text)?, cells::memory(&stock.text)?);
            Some(ours.cast_signed() - stock.cast_signed())
        })
        .collect();
    if let (Some(least), Some(most)) = (more.iter().min(), more.iter().max()) {
        let _ = writeln!(
            text,
            "\n`MemTotal` under ours less that under `kexec -c`, in {} cells: {least:+} to {most:+} KiB.",
            more.len()
        );
    }
    let failed: Vec<&Row> = rows.iter().filter(|row| !row.passed).collect();
    if !failed.is_empty() {
        text += "\nWhat was not as it must be:\n\n";
        for row in failed {
            let _ = writeln!(text, "- {}, `{}`: {}", row.name, row.tool, first_line(&row.text));
        }
    }
    text
}

fn word(row: &Row) -> &'static str {
    match row {
        Row { passed: true, .. } => "up",
        Row { text, .. } if text.starts_with("reset") => "**reset**",
        Row { text, .. } if text.contains("within the time given") => "**silent**",
        _ => "**not right**",
    }
}

fn list(rows: &[Row]) -> String {
    let mut text = String::from("| guest | by | | what was seen |\n|---|---|---|---|\n");
    for row in rows {
        let word = if row.passed { "passed" } else { "**not**" };
        let seen = first_line(&row.text).replace('|', "\\|");
        let _ = writeln!(text, "| {} | `{}` | {word} | {seen} |", row.name, row.tool);
    }
    text
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A part's rows as they are kept; none if there are none.
///
/// # Errors
/// Any of the file system's, and what is not as [`Lab`] writes it.
pub fn read(path: &Path) -> Result<Vec<Row>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day ends its year; 146097 days are 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(19_783), (2024, 3, 1));
        assert_eq!(civil(20_453), (2025, 12, 31));
    }
}
