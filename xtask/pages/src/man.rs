//! Manual pages: one for the command, one for each subcommand. Name, synopsis, description and
//! options come from the command line's own description; what it cannot know is written here.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::files::Files;
use crate::format;
use crate::json;

const SECTION: &str = "8";

/// All pages, by file name.
///
/// # Panics
/// Writing to memory does not fail.
pub(crate) fn pages() -> Files {
    let mut command = identmap_cli::command().disable_help_subcommand(true);
    command.build();
    let version = command.get_version().unwrap_or_default().to_owned();
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();

    let mut pages = Files::new();
    for sub in command.get_subcommands() {
        let page = subcommand_page(sub, &version).expect("memory can be written");
        pages.insert(format!("identmap-{}.{SECTION}", sub.get_name()), page);
    }
    let page = main_page(&command, &names, &version).expect("memory can be written");
    pages.insert(format!("identmap.{SECTION}"), page);
    pages.insert(format!("{}.{}", format::NAME, format::SECTION), format::page(&version));
    pages.insert(format!("{}.{}", json::NAME, json::SECTION), json::page(&version));
    pages
}

fn main_page(command: &clap::Command, names: &[String], version: &str) -> io::Result<Vec<u8>> {
    let man = page(command, version);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(command).to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    man.render_subcommands_section(&mut out)?;
    notation(command).to_writer(&mut out)?;
    exit_status(None).to_writer(&mut out)?;
    environment().to_writer(&mut out)?;
    files().to_writer(&mut out)?;
    examples(MAIN_EXAMPLES).to_writer(&mut out)?;
    let pages: Vec<String> = names.iter().map(|name| format!("identmap-{name}")).collect();
    see_also(&pages).to_writer(&mut out)?;
    Ok(out)
}

fn subcommand_page(command: &clap::Command, version: &str) -> io::Result<Vec<u8>> {
    let man = page(command, version);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(command).to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    exit_status(Some(command.get_name())).to_writer(&mut out)?;
    if let Some((_, list)) = EXAMPLES.iter().find(|(name, _)| *name == command.get_name()) {
        examples(list).to_writer(&mut out)?;
    }
    see_also(&["identmap".to_owned()]).to_writer(&mut out)?;
    Ok(out)
}

fn page(command: &clap::Command, version: &str) -> Man {
    // No date: the same sources give the same bytes.
    Man::new(command.clone())
        .section(SECTION)
        .source(format!("identmap {version}"))
        .manual("System Administration")
}

/// The usage line, not every option once more: they are listed below it.
fn synopsis(command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let rest = usage.strip_prefix(name).unwrap_or(usage);
    roff.text([bold(name), roman(rest)]);
    roff
}

/// What `--help` says after the options: how a source and a range are written.
fn notation(command: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTATION"]);
    let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    for paragraph in text.split("\n\n").filter(|p| !p.starts_with("Exit status")) {
        roff.control("PP", []);
        roff.text([roman(paragraph.split_whitespace().collect::<Vec<_>>().join(" "))]);
    }
    roff
}

/// Of all commands, or what the statuses mean for one of them.
fn exit_status(command: Option<&str>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    let safe = match command {
        Some("map") => "Nothing forbidden is mapped.",
        Some("explain") => "The address is mapped.",
        Some("matrix") => "The table was drawn, whatever it says.",
        Some("diagnose") => "Nothing is missing.",
        Some("diff") => "No difference.",
        Some("capture") => "The bundle was written, or shown.",
        Some("needs") => "All that is surely needed is mapped.",
        Some("known") => "They were listed.",
        Some("ranges") => "The ranges were listed.",
        Some("report") => "The report was written, whatever it says.",
        Some("tables") => "Everything was read.",
        Some("load") => "Loaded; with --dry-run: the verdict is safe.",
        Some("exec") => {
            "The init system was asked to shut down and jump. A jump made here does not come back."
        }
        Some("unload") => "Nothing is loaded any more.",
        Some("status") => "What is loaded was told.",
        Some("check") => "Safe, or not so bad as --fail-on says.",
        Some("fleet") => "All are safe, or not so bad as --fail-on says.",
        Some("triage") => "Causes were listed, whatever they are.",
        Some("decode") => "Something was explained.",
        _ => "Safe: no problem was found.",
    };
    let problem = match command {
        Some("map") => "The map reaches something forbidden.",
        Some("explain") => "The address is not mapped.",
        Some("needs") => "Something that is surely needed is not mapped.",
        Some("diff") => "They differ.",
        Some("load") => "The verdict is unsafe: nothing was loaded.",
        Some(
            "matrix" | "capture" | "tables" | "ranges" | "known" | "report" | "exec" | "unload"
            | "status" | "triage" | "decode",
        ) => "",
        Some("diagnose") => {
            "Entries are missing, or what is missing must not be mapped, or no entry helps."
        }
        Some("fleet") => "At least one is unsafe.",
        _ => "A problem was found.",
    };
    let unknown = match command {
        Some(
            "map" | "capture" | "ranges" | "known" | "report" | "exec" | "unload" | "triage"
            | "decode",
        ) => "",
        Some("explain") => {
            "The kernels that may be running disagree; the output says which map it and which do not."
        }
        Some("fleet") => {
            "None is unsafe, but of at least one it cannot be told, or it cannot be read (or not in time)."
        }
        Some("load") => {
            "With --dry-run: cannot tell. Without, an unknown verdict is loaded, and printed."
        }
        Some("status") => "A load was killed, and which image it left cannot be told.",
        Some("matrix") => "Nothing can be told.",
        Some("diagnose") => "It cannot be told. The output says what to supply.",
        Some("tables") => {
            "Something could not be read: what is not listed may be mapped all the same."
        }
        Some("needs") => "Of something it cannot be told whether it is needed, or mapped.",
        Some("diff") => "Memory cannot be compared.",
        Some("check" | "preflight") => {
            "Cannot tell: something needed for a verdict is not known, which the output says; or there was no answer \
             within --timeout, and then no output."
        }
        _ => "Cannot tell: something needed for a verdict is not known. The output says what.",
    };
    let unusable = match command {
        Some("fleet") => "Usage, nothing that could be read, or a file that cannot be written.",
        Some("decode") => {
            "Usage, input that cannot be read, or nothing in it that can be explained."
        }
        Some("load" | "exec" | "unload") => {
            "Usage, input that cannot be used, or the kernel refused: the message says why. What was loaded stays."
        }
        _ => "Usage, input that cannot be read, or a map that cannot be made.",
    };
    for (status, meaning) in [("0", safe), ("1", problem), ("2", unusable), ("3", unknown)] {
        if !meaning.is_empty() {
            item(&mut roff, &[bold(status)], meaning);
        }
    }
    roff
}

fn environment() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    item(&mut roff, &[bold("NO_COLOR")], "No colours, unless --color=always is given.");
    let locale = "Pictures are drawn with blocks if the first of these that is set says UTF-8, else with letters.";
    item(&mut roff, &[bold("LC_ALL, LC_CTYPE, LANG")], locale);
    roff
}

/// What a live run opens, read-only.
fn files() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    roff.text([roman(
        "Read when the source is live, as far as the user may; never written, but for the last:",
    )]);
    for (file, what) in FILES {
        item(&mut roff, &[italic(*file)], what);
    }
    roff
}

const FILES: &[(&str, &str)] = &[
    ("/proc/iomem", "The kernel's resource tree. Its addresses are zero without root."),
    ("/sys/firmware/memmap", "The memory map as the firmware gave it."),
    ("/sys/firmware/efi", "Where the firmware's tables lie, and the EFI runtime map. Root only."),
    (
        "/sys/kernel/boot_params",
        "The running kernel's boot parameters, with its e820 and setup_data.",
    ),
    ("/dev/kmsg", "The kernel's log; /var/log/dmesg of this boot if the beginning is lost."),
    (
        "/proc/cmdline, /proc/cpuinfo, /proc/meminfo, /proc/version",
        "What the kernel says of itself.",
    ),
    ("/sys/class/dmi/id", "Which machine this is."),
    ("/sys/firmware/sgi_uv, /proc/sgi_uv", "Whether this is an HPE UV system."),
    ("/sys/kernel/kexec_loaded, /sys/kernel/kexec_crash_loaded", "Whether an image is loaded."),
    (
        "/etc/kdump.conf, /etc/default/kdump-tools, /etc/systemd/system, /var/crash",
        "With check --panic: whether kdump is set up, and its last dump.",
    ),
    (
        "/var/lib/identmap/kdump-tested",
        "When somebody last saw kdump work: its time of change, and a bundle of that moment, if it is one. Nothing but you creates it.",
    ),
    ("/run/identmap", "Written by load: what is loaded, and what was about to be."),
];

const MAIN_EXAMPLES: &[(&str, &str)] = &[
    ("identmap check", "Is it safe to kexec on this machine?"),
    ("identmap check dmesg.txt", "The same, of another machine, from its boot log."),
    (
        "identmap map --policy exact --request 0x100000-0x7fffffff",
        "Which pages Linux 6.12 would use to map a range.",
    ),
    (
        "identmap check -q && systemctl kexec || systemctl reboot",
        "As a gate: the slow way unless the fast one is known to be safe.",
    ),
];

/// Examples by subcommand.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "check",
        &[
            ("identmap check", "This machine, any kernel since 5.10 as the next one."),
            (
                "dmesg | identmap check - --consumer 6.1.76",
                "A boot log on standard input; the kernel to be started is 6.1.76.",
            ),
            ("identmap check --nogbpages", "What if the running kernel had been booted with it?"),
            (
                "identmap check --kernel /boot/vmlinuz-6.12 --initrd-size 40M",
                "Run that kernel's first instructions under the map, and judge by what they touch.",
            ),
            (
                "identmap check dmesg.txt --map 0xc7a01000+4K",
                "What if the running kernel had this page in its map too?",
            ),
            ("identmap check --json", "For a program; the fields are in docs/json.md."),
            ("identmap check -q --timeout 10", "As a gate that takes ten seconds at most."),
            (
                "identmap check --panic",
                "Would a crash be caught? The crash kernel's image, and kdump.",
            ),
        ],
    ),
    (
        "fleet",
        &[
            ("identmap fleet /srv/bundles", "Every bundle and log below it, summed up."),
            (
                "identmap fleet --consumer 6.12.30 --json -o fleet.jsonl /srv/bundles",
                "What the next kernel would meet on each, a line of JSON for each.",
            ),
            (
                "identmap fleet live --format prometheus -o /var/lib/prometheus/node-exporter/identmap.prom",
                "This machine, for Prometheus' textfile collector.",
            ),
            (
                "identmap fleet --format junit -o fleet.xml /srv/bundles",
                "For a test system. Those that cannot be told count as skipped.",
            ),
        ],
    ),
    (
        "triage",
        &[
            (
                "identmap triage bundle.json --saw firmware-reset",
                "The machine reset; the bundle was taken before.",
            ),
            (
                "identmap triage --saw dark-but-pings",
                "On the machine itself, after it was brought back.",
            ),
            ("identmap triage --saw no-dump", "It crashed, and there is no dump."),
        ],
    ),
    (
        "decode",
        &[
            (
                "identmap decode --message 'kexec_load: Cannot assign requested address'",
                "Why an image was not loaded, and what to do. An errno's name alone will do.",
            ),
            (
                "kexec -l /boot/vmlinuz 2>&1 | identmap decode",
                "The same, with the list of segments that kexec(8) prints.",
            ),
            ("identmap decode console.log", "Every register dump in a console's log."),
            (
                "identmap decode console.log --machine bundle.json",
                "The same, and what the addresses are on the machine it happened on.",
            ),
        ],
    ),
    (
        "map",
        &[
            (
                "identmap map --request 0x100000-0x7fffffff --request 0xfee00000+4K",
                "Two ranges, in this order, with the default policy.",
            ),
            (
                "identmap map --policy guarded --request 0x40000000+1G --forbid 0x80000000+64M",
                "The largest pages that cover the request and touch no byte of the forbidden range.",
            ),
            (
                "identmap map --requests-file ranges.txt --raw tables.bin --base 0x1000000",
                "Write the tables as they must lie in memory from 16 MiB on.",
            ),
            ("identmap map dmesg.txt -rnb -o START,SIZE,PAGE", "The leaves alone, for a script."),
        ],
    ),
    (
        "explain",
        &[
            (
                "identmap explain 0xc7a01000 dmesg.txt",
                "Would that machine's map hold this address, and by which entries?",
            ),
            (
                "identmap explain 0xfee00000 --request 0xfee00000+4K",
                "The same, for a map of ranges given by hand.",
            ),
        ],
    ),
    (
        "matrix",
        &[
            ("identmap matrix dmesg.txt", "All policies, with and without 1G pages, in one table."),
            (
                "identmap matrix dmesg.txt --kernel vmlinuz-a --kernel vmlinuz-b --cpu amd-sev",
                "The same for two kernels, each cell a run of the kernel's first instructions.",
            ),
            ("identmap matrix dmesg.txt -rn -o OUTCOME | sort | uniq -c", "How many cells fail?"),
        ],
    ),
    (
        "diagnose",
        &[
            (
                "identmap diagnose /boot/vmlinuz-6.12",
                "Which pages would this machine's map need, for that kernel to come up?",
            ),
            (
                "identmap diagnose vmlinuz dmesg.txt --producer 6.1.79 --cpu amd-sev",
                "Of another machine, with a processor by name.",
            ),
            ("identmap diagnose dmesg.txt", "By rules about kernels, without one."),
        ],
    ),
    (
        "needs",
        &[
            (
                "identmap needs",
                "All that must be mapped on this machine. As root, or much is not known.",
            ),
            (
                "identmap needs dmesg.txt --consumer 6.12.30 -o +requested-by,by",
                "For one kernel; which releases request it, and which request made its leaf.",
            ),
            (
                "identmap needs dmesg.txt --all -o rule,needed,releases",
                "Every rule, and the releases that follow it.",
            ),
            (
                "identmap needs --kernel /boot/vmlinuz-6.12",
                "What that kernel's first instructions touch, in place of the rules.",
            ),
        ],
    ),
    (
        "known",
        &[
            ("identmap known", "All of them, with releases and evidence."),
            (
                "identmap known --producer $(uname -r) --consumer 6.12.30 -rn -o ID,EVIDENCE",
                "What this kernel can do to that one, for a script.",
            ),
        ],
    ),
    (
        "ranges",
        &[
            ("identmap ranges dmesg.txt", "The memory that every verdict rests on."),
            ("identmap ranges -P -b", "This machine's, for a shell."),
        ],
    ),
    #[cfg(feature = "preflight")]
    (
        "preflight",
        &[
            ("identmap preflight /boot/vmlinuz", "This machine, that kernel."),
            ("identmap preflight /boot/vmlinuz bundle.json", "Another machine, from its bundle."),
        ],
    ),
    (
        "report",
        &[
            ("identmap report -o report.html", "This machine. As root, or much is not known."),
            (
                "identmap report bundle.json --consumer 6.1.76 -o report.html",
                "Another machine, from its bundle, and one kernel as the next.",
            ),
        ],
    ),
    (
        "diff",
        &[("identmap diff before.txt after.txt", "What a firmware update changed in the map.")],
    ),
    (
        "tables",
        &[
            ("identmap tables", "What do the tables of the image that is loaded now map?"),
            (
                "identmap tables --panic --json",
                "The same of the crash kernel's image, for a program.",
            ),
            ("identmap tables --at 0xc7600000", "Is this address in them? Level by level."),
            (
                "identmap tables vmcore",
                "The tables that CR3 of a core file's first processor points to.",
            ),
            (
                "identmap tables memory.raw --base 0x0 --cr3 0x1000000",
                "Out of a raw image of memory that begins at 0.",
            ),
        ],
    ),
    (
        "load",
        &[
            (
                "identmap load /boot/vmlinuz --initrd /boot/initrd.img --reuse-cmdline",
                "The same kernel again, or the next one, with the running kernel's command line.",
            ),
            (
                "identmap load -n /boot/vmlinuz --initrd /boot/initrd.img --source bundle.json",
                "What would be loaded on that machine, and where? Nothing is loaded.",
            ),
            (
                "identmap load -p /boot/vmlinuz --initrd /boot/initrd-kdump.img --reuse-cmdline",
                "As the crash kernel.",
            ),
            (
                "identmap load /boot/vmlinuz --map 0xc7a01000+4K --forbid 0x2f80000000+3G",
                "With a page of firmware's that no rule knows, and without one that nobody may touch.",
            ),
        ],
    ),
    (
        "exec",
        &[
            ("identmap exec", "Shut down in order, then jump."),
            ("identmap exec --now", "Jump at once."),
        ],
    ),
    (
        "unload",
        &[
            ("identmap unload", "Take the image away that exec would jump into."),
            ("identmap unload -p", "Take the crash kernel away."),
        ],
    ),
    ("status", &[("identmap status", "What is loaded, and is it ours?")]),
    (
        "capture",
        &[
            ("identmap capture --show", "What would a bundle of this machine hold, and what not?"),
            (
                "identmap capture -o bundle.json",
                "Write it. As root, or most addresses are missing.",
            ),
            (
                "identmap check bundle.json",
                "Somewhere else: what that machine would have answered.",
            ),
            (
                "identmap capture dmesg.txt -o bundle.json",
                "Keep of a boot log what matters, without what identifies.",
            ),
        ],
    ),
];

fn examples(list: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (line, what) in list {
        item(&mut roff, &[bold(*line)], what);
    }
    roff
}

fn see_also(pages: &[String]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut words: Vec<Inline> = Vec::new();
    let elsewhere = ["kexec(8)", "lsmem(1)", "dmesg(1)"].map(|page| page.split_once('(').unwrap());
    let ours = pages.iter().map(|page| (page.as_str(), "8)"));
    for (name, section) in ours.chain(elsewhere) {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.extend([bold(name), roman(format!("({section}"))]);
    }
    roff.text(words);
    roff
}

fn item(roff: &mut Roff, head: &[Inline], text: &str) {
    roff.control("TP", []).text(head.to_vec()).text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_command_line_that_is_understood() {
        let of_commands = EXAMPLES.iter().flat_map(|(_, list)| *list);
        for (line, _) in of_commands.chain(MAIN_EXAMPLES) {
            let line = line.replace("$(uname -r)", "6.12.30");
            let start = line.find("identmap").expect("an example of identmap");
            // What stands between single quotes is one word.
            let words = line[start..].split('\'').enumerate().flat_map(|(index, part)| {
                if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
            });
            let words = words.take_while(|word| !matches!(*word, "&&" | "|"));
            if let Err(error) = identmap_cli::command().try_get_matches_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_examples() {
        let pages = pages();
        for sub in identmap_cli::command().get_subcommands() {
            let page = &pages[&format!("identmap-{}.8", sub.get_name())];
            let text = String::from_utf8_lossy(page);
            for section in [".SH SYNOPSIS", ".SH \"EXIT STATUS\"", ".SH EXAMPLES"] {
                assert!(text.contains(section), "{} has no {section}", sub.get_name());
            }
        }
    }
}
