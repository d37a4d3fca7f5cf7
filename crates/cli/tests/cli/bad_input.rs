//! Thirty and more kinds of bad input: exit status 2, a message that says where, no panic.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn identmap(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have seen enough before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The exit status and what was said.
fn outcome(args: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let output = identmap(args, input);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    (output.status.code(), said)
}

#[test]
fn texts_that_cannot_be_read_say_where_with_a_caret() {
    let good = "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n";
    let line = |bad: &str| format!("{good}{bad}\n{good}");
    let kinds = [
        (
            "a number past 64 bits",
            line("BIOS-e820: [mem 0x0000000000100000-0x1ffffffffffffffffff] usable"),
        ),
        (
            "an address past 2^52",
            line("BIOS-e820: [mem 0x0000000000100000-0x0fffffffffffffff] usable"),
        ),
        (
            "no closing bracket",
            line("BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff usable"),
        ),
        ("no end", line("BIOS-e820: [mem 0x0000000000100000-] usable")),
        ("no start", line("BIOS-e820: [mem -0x0000000000100000] usable")),
        (
            "letters in a number",
            line("BIOS-e820: [mem 0x00000000001g0000-0x00000000bfffffff] usable"),
        ),
        ("no type", line("BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff]")),
        ("an unknown type", line("BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff] wobbly")),
        ("two dashes", line("BIOS-e820: [mem 0x0000000000100000--0x00000000bfffffff] usable")),
    ];
    for (kind, text) in kinds {
        let (code, said) = outcome(&["check", "-"], text.as_bytes());
        assert_eq!(code, Some(2), "{kind}: {said}");
        assert!(said.contains("standard input:2:"), "{kind}: {said}");
        assert!(
            said.lines().any(|line| line.trim_start_matches([' ', '|']).starts_with('^')),
            "{kind}: {said}"
        );
    }
}

#[test]
fn what_is_no_text_of_a_machine_is_refused() {
    let mut noise = Vec::new();
    let mut state = 0x1234_5678_9abc_def0_u64;
    for _ in 0..1 << 16 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        noise.extend(state.to_le_bytes());
    }
    let kinds: [(&str, Vec<u8>); 11] = [
        ("nothing", Vec::new()),
        ("white space", b" \n\n\t\n".to_vec()),
        ("prose", b"Dear maintainers,\nmy laptop does not kexec.\n".to_vec()),
        ("binary noise", noise),
        ("NUL bytes", vec![0; 4096]),
        ("not UTF-8", [0xff, 0xfe, 0x80, b'\n'].repeat(100)),
        ("an ELF header", b"\x7fELF\x02\x01\x01\0".to_vec()),
        ("JSON of something else", b"{\"schema\": \"other/1\"}".to_vec()),
        ("a gzip header", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
        ("an HTML page", b"<html><body>404</body></html>".to_vec()),
        ("one line of a megabyte", vec![b'x'; 1 << 20]),
    ];
    for (kind, bytes) in kinds {
        let (code, said) = outcome(&["check", "-"], &bytes);
        assert_eq!(code, Some(2), "{kind}: {said}");
        assert!(said.starts_with("identmap: ") && said.len() < 4096, "{kind}: {said}");
    }
}

#[test]
fn a_hundred_megabytes_of_text_end_in_an_error_not_in_memory() {
    let line = b"[    0.000000] nothing that matters, again and again and again\n";
    let text = line.repeat(100 * (1 << 20) / line.len() + 1);
    let (code, said) = outcome(&["check", "-"], &text);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("67108864"), "{said}");
}

#[test]
fn bad_words_on_the_command_line() {
    let kinds: [&[&str]; 22] = [
        &["frobnicate"],
        &["check", "/no/such/file"],
        &["check", "/"],
        &["check", "sample:no-such-sample"],
        &["check", "sample:uv-2019", "--producer", "six"],
        &["check", "sample:uv-2019", "--producer", ""],
        &["check", "sample:uv-2019", "--consumer", "99999999999.1"],
        &["check", "sample:uv-2019", "--sev", "maybe"],
        &["check", "sample:uv-2019", "--fail-on", "sunday"],
        &["check", "sample:uv-2019", "--config-table", "0x10000000000000+1"],
        &["check", "sample:uv-2019", "--config-table", "beyond"],
        &["map", "--request", "0x2000-0x1000"],
        &["map", "--request", "0x1000+0"],
        &["map", "--request", "c7600000-cb5fffff"],
        &["map", "--request", "0-0xffffffffffffffff"],
        &["map", "--request", "0x800000000000+4K", "--levels", "4"],
        &["map", "--request", "0x4000000000+4K", "--maxphyaddr", "36"],
        &["map", "--request", "0x1000+4K", "--levels", "6"],
        &["map", "--request", "0x1000+4K", "--forbid", "0x1800+1", "--policy", "guarded"],
        &["map", "--request", "0x1000+4K", "--slack", "ram", "--policy", "guarded"],
        &["map", "--request", "0x1000+4K", "--raw", "/no/such/folder/file", "--base", "0x1000"],
        &["explain", "0x1q", "sample:uv-2019"],
    ];
    for args in kinds {
        let (code, said) = outcome(args, b"");
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(!said.is_empty(), "{args:?}");
    }
}

#[test]
fn a_refused_request_names_both_ranges() {
    let args = ["map", "--request", "0x1000+4K", "--forbid", "0x1800+1", "--policy", "guarded"];
    let (_, said) = outcome(&args, b"");
    assert!(said.contains("0x0000000000001000-0x0000000000001fff"), "{said}");
    assert!(said.contains("0x0000000000001800-0x0000000000001800"), "{said}");
}

#[test]
fn a_file_of_requests_is_read_line_by_line() {
    let args = ["map", "--requests-file", "-", "--json"];
    let good = outcome(&args, b"# RAM\n0x0-0x9ffff\n\n0x100000+16M  # and this\n");
    assert_eq!(good.0, Some(0), "{}", good.1);
    for (text, place) in [
        (&b"0x0-0x9ffff\n0x100000+16Q\n"[..], "standard input:2:"),
        (b"0x0-0x9ffff\nrubbish\n", "standard input:2:1"),
        (b"# nothing\n\n", "no range"),
        (b"\xff\xfe\n", "standard input:1:1"),
    ] {
        let (code, said) = outcome(&args, text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(place), "{said}");
    }
}

/// A pipe with a name, gone at the end.
struct Pipe(std::path::PathBuf);

impl Pipe {
    fn new(name: &str) -> Pipe {
        let path = std::env::temp_dir().join(format!("identmap-{name}-{}", std::process::id()));
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Pipe(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_pipe_that_nobody_fills_ends_the_wait_and_prints_nothing() {
    let pipe = Pipe::new("empty");
    for args in [&["check"][..], &["check", "--json"], &["check", "-q"], &["needs"]] {
        let output = identmap(&[args, &[pipe.name(), "--timeout", "1"]].concat(), b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{args:?}: {said}");
        assert!(said.contains(pipe.name()) && said.contains("within 1 s"), "{said}");
    }
    // Somebody has it open, writes a piece, and never closes it.
    let mut held = std::fs::OpenOptions::new().read(true).write(true).open(&pipe.0).unwrap();
    held.write_all(b"BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n").unwrap();
    let (code, said) = outcome(&["check", pipe.name(), "--timeout", "1"], b"");
    assert_eq!(code, Some(3), "{said}");
    // The kernel too: without an emulator that is known before.
    if cfg!(feature = "preflight") {
        let kernel = ["check", "sample:ec2-t3", "--timeout", "1", "--kernel", pipe.name()];
        assert_eq!(outcome(&kernel, b"").0, Some(3));
        let (code, said) =
            outcome(&["preflight", pipe.name(), "sample:ec2-t3", "--timeout", "1"], b"");
        assert_eq!(code, Some(3), "{said}");
    }
}

#[test]
fn a_fleet_goes_on_without_the_machine_that_hangs() {
    let pipe = Pipe::new("fleet");
    let folder = std::env::temp_dir().join(format!("identmap-late-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("out.jsonl");
    let names = ["sample:ec2-t3", pipe.name(), "sample:bios-x8sie"];
    let more = ["--timeout", "1", "--json", "-o", file.to_str().unwrap()];
    let (code, said) = outcome(&[&["fleet"][..], &names, &more].concat(), b"");
    assert_eq!(code, Some(3), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let rows: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<&str> = rows.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    let late = verdicts.iter().filter(|verdict| **verdict == "unreadable").count();
    assert_eq!((verdicts.len(), late), (3, 1), "{text}");
    assert!(text.contains("no answer within 1 s"), "{text}");
    // Written in one step: nothing else is left there.
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_fleet_of_which_nothing_can_be_read_is_unusable() {
    for fail_on in ["error", "never"] {
        let (code, said) = outcome(&["fleet", "/nonexistent", "--fail-on", fail_on], b"");
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("nothing of what was named"), "{said}");
    }
    let (code, _) = outcome(&["fleet", "/nonexistent", "sample:ec2-t3"], b"");
    assert_eq!(code, Some(3), "of one it can be told");
}

#[test]
fn input_without_an_end_is_an_error() {
    for args in [["check", "/dev/zero"], ["check", "-"], ["fleet", "/dev/zero"], ["decode", "-"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(args)
            .stdin(std::fs::File::open("/dev/zero").unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    }
}
