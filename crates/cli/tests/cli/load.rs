//! `identmap load --dry-run` on every sample, and what it refuses.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use made_kernel::BzImage;
use serde_json::Value;

use crate::samples::SAMPLES;

/// A directory of its own with a kernel and an initrd in it, removed in the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let version = "6.1.76 (build@host) #1";
        let kernel = BzImage { init_size: 48 << 20, version, ..BzImage::default() };
        fs::write(directory.join("vmlinuz"), kernel.bytes()).unwrap();
        fs::write(directory.join("initrd"), vec![0x30; 70_000]).unwrap();
        Files(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn load(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_identmap"));
        command.args(["load", &self.path("vmlinuz"), "--initrd", &self.path("initrd")]);
        command.args(args).output().expect("the binary runs")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn address(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn a_plan_for_every_sample_keeps_to_itself() {
    let files = Files::new("load-samples");
    let mut planned = 0;
    for sample in SAMPLES {
        let source = format!("sample:{sample}");
        let output = files.load(&["--source", &source, "--levels", "4", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(2) {
            assert!(said.contains("identmap: "), "{sample}: {said}");
            continue;
        }
        planned += 1;
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(plan["action"], "dry-run");
        let verdict = plan["verdict"].as_str().unwrap();
        let expected = [("safe", 0), ("unsafe", 1), ("unknown", 3)];
        assert!(
            expected.contains(&(verdict, output.status.code().unwrap())),
            "{sample}: {verdict}"
        );
        let mut places: Vec<(u64, u64)> = Vec::new();
        let usable: Vec<(u64, u64)> = plan["e820"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|region| region["kind"] == "usable")
            .map(|region| (address(&region["start"]), address(&region["end"])))
            .collect();
        for segment in plan["segments"].as_array().unwrap() {
            let (start, end) = (address(&segment["start"]), address(&segment["end"]));
            assert!(places.iter().all(|(s, e)| end < *s || *e < start), "{sample}: {segment}");
            let inside = usable.iter().any(|(s, e)| *s <= start && end <= *e);
            assert!(inside, "{sample}: {segment} is not in RAM that the next kernel is told of");
            let leaves = plan["map"]["leaves"].as_array().unwrap();
            let mapped = |at: u64| {
                leaves.iter().any(|run| address(&run["start"]) <= at && at <= address(&run["end"]))
            };
            assert!(mapped(start) && mapped(end), "{sample}: {segment}");
            places.push((start, end));
        }
        assert_eq!(places.len(), 5);
        assert_eq!(plan["map"]["exposure_bytes"], 0);
    }
    assert!(planned >= 8, "{planned}");
}

/// The laptop of 2024 with a producer that resets it: under our map the configuration table is there.
#[test]
fn our_map_has_what_the_producer_s_lacks() {
    let files = Files::new("load-laptop");
    let table = "0xc7a01018-0xc7a01167";
    let facts = ["--producer", "6.7.6", "--sev", "on", "--uv", "off", "--config-table", table];
    let mut args = vec!["--source", "sample:laptop-2024", "--levels", "4", "--json"];
    args.extend(facts);
    let plan: Value = serde_json::from_slice(&files.load(&args).stdout).unwrap();
    let gaps: Vec<&Value> =
        plan["findings"].as_array().unwrap().iter().filter(|f| f["id"] == "gap").collect();
    let leaves = plan["map"]["leaves"].as_array().unwrap();
    let holds = |at: u64| {
        leaves.iter().any(|run| address(&run["start"]) <= at && at <= address(&run["end"]))
    };
    assert!(holds(0xc7a0_1018) && holds(0xc7a0_1167));
    assert_ne!(plan["verdict"], "unsafe", "{gaps:?}");
}

#[test]
fn what_cannot_be_loaded_is_refused_with_a_reason() {
    let files = Files::new("load-refused");
    fs::write(files.0.join("text"), "no kernel\n").unwrap();
    fs::write(files.0.join("empty"), "").unwrap();
    let source = ["--source", "sample:bios-x8sie"];
    let text = files.path("text");
    let empty = files.path("empty");
    let cases: [(&[&str], &str); 7] = [
        (&["--policy", "sunday"], "--policy"),
        (&["--initrd", &empty], "empty"),
        (&["--initrd", "/no/such/file"], "/no/such/file"),
        (&["--command-line", "a\nb"], "line end"),
        (&["--command-line", "a", "--reuse-cmdline"], "cannot be used with"),
        (&["-s", "-c"], "cannot be used with"),
        (&["--panic"], "crashkernel="),
    ];
    for (args, word) in cases {
        let all: Vec<&str> = source.iter().chain(args).copied().collect();
        let output = files.load(&all);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
    for file in [text, empty] {
        let output = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(["load", &file])
            .args(source)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}");
    }
}

#[test]
fn too_long_a_command_line_is_refused() {
    let files = Files::new("load-long");
    let line = "x".repeat(3000);
    let output = files.load(&["--source", "sample:bios-x8sie", "--command-line", &line]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("3000 bytes") && said.contains("2047"), "{said}");
}

/// It was found out after the image had been announced, which then stood beside the one that was loaded.
#[test]
fn what_the_kernel_would_not_read_is_not_handed_to_it() {
    let files = Files::new("load-file");
    let initrd = files.path("initrd");
    let source = ["--source", "sample:laptop-2024", "-s"];
    let refused = |output: Output, word: &str| {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    };
    assert_ne!(files.load(&source).status.code(), Some(2));
    refused(files.load(&[&source[..], &["--initrd", &initrd]].concat()), "one initrd");
    let mut command = Command::new(env!("CARGO_BIN_EXE_identmap"));
    let mut cat =
        Command::new("cat").arg(files.path("vmlinuz")).stdout(Stdio::piped()).spawn().unwrap();
    command.args(["load", "/dev/stdin"]).args(source).stdin(cat.stdout.take().unwrap());
    refused(command.output().unwrap(), "regular files only");
    cat.wait().unwrap();
}

/// Behind a `--` the words were init's; and another core header behind the one that is loaded is the one that counts.
#[test]
fn words_that_are_added_are_parameters() {
    let files = Files::new("load-words");
    let told = |args: &[&str]| {
        let source = ["--source", "sample:laptop-2024", "--levels", "4", "--json"];
        let output = files.load(&[&source, args].concat());
        let plan: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        plan["command_line"].as_str().unwrap().to_owned()
    };
    let line = ["--command-line", "quiet elfcorehdr=0x1000 -- single"];
    let append = ["--append", "nr_cpus=1"];
    assert_eq!(told(&line), line[1]);
    assert_eq!(told(&[line, append].concat()), "quiet elfcorehdr=0x1000 nr_cpus=1 -- single");
    assert_eq!(told(&[&line[..], &append, &["-p", "-s"]].concat()), "quiet nr_cpus=1 -- single");
}
