//! `identmap report`, pictures in the terminal and lists, as a person asks for them.

use std::fs;
use std::process::{Command, Output};

use crate::support::Folder;

/// Without the test's own locale and colours.
fn identmap(args: &[&str]) -> Output {
    identmap_in("C", args)
}

fn identmap_in(locale: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(args)
        .env("LC_ALL", locale)
        .output()
        .expect("the binary runs")
}

fn printed(args: &[&str]) -> String {
    let output = identmap(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_report_is_written_whole_or_not_at_all() {
    let folder = Folder::new("report");
    let file = folder.0.join("report.html");
    let name = file.to_str().expect("UTF-8");
    let output = identmap(&["report", "sample:laptop-2024", "-o", name]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    let written = fs::read(&file).expect("written");
    assert_eq!(written, printed(&["report", "sample:laptop-2024"]).into_bytes());
    assert_eq!(written, printed(&["report", "sample:laptop-2024", "-o", "-"]).into_bytes());
    assert!(written.ends_with(b"</html>"));
    // What fails leaves what was there, and nothing beside it.
    let output = identmap(&["report", "/no/such/file", "-o", name]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(&file).expect("still there"), written);
    assert_eq!(fs::read_dir(&folder.0).expect("a directory").count(), 1);
    let nowhere = folder.0.join("no/such/folder.html");
    let output = identmap(&["report", "sample:ec2-t3", "-o", nowhere.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_report_of_this_machine_can_be_made() {
    let text = printed(&["report"]);
    assert!(text.contains("id=\"facts\"") && text.ends_with("</html>"));
}

#[test]
fn a_report_is_html_and_says_so() {
    let output = identmap(&["report", "sample:ec2-t3", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("check --json"));
}

#[test]
fn what_identifies_is_not_in_a_report_unless_it_is_asked_for() {
    let folder = Folder::new("report-names");
    let file = folder.0.join("dmesg-of-wintermute.txt");
    let log = "\
Linux version 6.7.6 (builder@tessier-ashpool.example) #1 SMP\n\
Command line: root=UUID=0a1b2c3d-1111-2222-3333-444455556666 rd.luks.name=chiba nogbpages\n\
BIOS-provided physical RAM map:\n\
BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff] usable\n\
DMI: Maelcum Marcus Garvey/Tug, BIOS 1.0 01/01/2024\n\
systemd[1]: Hostname set to <wintermute>.\n";
    fs::write(&file, log).expect("a temporary file");
    let name = file.to_str().expect("UTF-8");
    let text = printed(&["report", name]);
    assert!(text.contains("Marcus Garvey") && text.contains("nogbpages"));
    for secret in ["wintermute", "tessier-ashpool", "0a1b2c3d", "chiba"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let text = printed(&["report", name, "--full"]);
    assert!(text.contains("wintermute") && text.contains("0a1b2c3d"));
    assert!(text.contains("Nothing was left out"));
}

#[test]
fn a_title_and_a_date_are_texts() {
    let text = printed(&["report", "sample:ec2-t3", "--title", "<b>A&B</b>", "--date", "today"]);
    assert!(text.contains("<h1>&lt;b&gt;A&amp;B&lt;/b&gt;</h1>") && text.contains("today"));
}

#[test]
fn pictures_are_drawn_where_they_are_asked_for() {
    let source = "sample:uv-2019";
    for command in ["map", "check"] {
        let run = |locale, picture: &[&str]| {
            let args = [&[command, source], picture].concat();
            String::from_utf8(identmap_in(locale, &args).stdout).expect("UTF-8")
        };
        let without = run("C", &[]);
        assert!(!without.contains("\nleaves "), "{command}: not on a terminal");
        assert_eq!(without, run("C", &["--picture=auto"]));
        assert_eq!(without, run("C", &["--picture=never"]));
        let letters = run("C", &["--picture"]);
        let drawn = letters.strip_prefix(&without).expect("the picture comes below the text");
        assert!(drawn.is_ascii() && drawn.contains("\nleaves "), "{drawn}");
        let blocks = run("C.UTF-8", &["--picture=always"]);
        assert!(blocks.contains('█') && !blocks.contains('\u{1b}'));
        assert!(blocks.lines().skip(without.lines().count()).all(|l| l.chars().count() <= 80));
        let coloured = run("C.UTF-8", &["--picture=always", "--color=always"]);
        assert!(coloured.contains('\u{1b}'));
    }
}

/// Commands that print lists, each with a source.
const LISTS: [&[&str]; 4] = [
    &["needs", "sample:laptop-2024", "--each"],
    &["map", "sample:laptop-2024", "--policy", "exact"],
    &["matrix", "sample:laptop-2024"],
    &["ranges", "sample:laptop-2024"],
];

#[test]
fn lists_are_printed_as_asked() {
    for list in LISTS {
        let with = |more: &[&str]| identmap(&[list, more].concat());
        let text = |more: &[&str]| String::from_utf8(with(more).stdout).expect("UTF-8");
        let (raw, bare) = (text(&["-r"]), text(&["-r", "-n"]));
        let (heading, rest) = raw.split_once('\n').expect("lines");
        assert_eq!(rest, bare, "{list:?}");
        let columns = heading.split(' ').count();
        assert!(bare.lines().count() > 3);
        for line in bare.lines() {
            assert_eq!(line.split(' ').count(), columns, "{list:?}: {line}");
        }
        let pairs = text(&["-P"]);
        assert_eq!(pairs.lines().count(), bare.lines().count());
        let first = heading.split(' ').next().expect("a column");
        assert!(pairs.lines().all(|line| line.starts_with(&format!("{first}=\""))));
        // Only what was asked for, in its order.
        let last = heading.split(' ').next_back().expect("a column");
        let two = text(&["-o", &format!("{},{first}", last.to_lowercase())]);
        let words: Vec<&str> = two.lines().next().expect("a line").split_whitespace().collect();
        assert_eq!(words, [last, first]);
        // No such column: all columns are named.
        let output = with(&["-o", "nonsense"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains(first) && said.contains(last), "{said}");
        // JSON has its own form.
        assert_eq!(with(&["-n", "--json"]).status.code(), Some(2));
        assert_eq!(with(&["-r", "-P"]).status.code(), Some(2));
        assert!(with(&["-r", "-q"]).stdout.is_empty());
    }
}

#[test]
fn the_status_is_that_of_the_command_whatever_the_form() {
    let forbidden =
        ["map", "--request", "1M+1G", "--forbid", "4K+4K", "--policy", "round-out", "-n"];
    assert_eq!(identmap(&forbidden).status.code(), Some(1));
}

#[test]
fn sizes_of_lists_are_exact_with_bytes() {
    let text = printed(&["ranges", "sample:laptop-2024", "-rnb", "-o", "start,end,size"]);
    for line in text.lines() {
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|word| match word.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).expect("hexadecimal"),
                None => word.parse().expect("a number"),
            })
            .collect();
        assert_eq!(numbers[1] - numbers[0] + 1, numbers[2], "{line}");
    }
}
