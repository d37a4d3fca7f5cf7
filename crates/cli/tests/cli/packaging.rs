//! The recipes in packaging/: each is run, with stand-ins for what it calls; linters look at them where they are
//! installed (`shellcheck`, `systemd-analyze`).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").canonicalize().unwrap()
}

/// A directory with programs that stand in for others; removed in the end.
struct Programs(PathBuf);

impl Programs {
    fn new(name: &str) -> Programs {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Programs(path)
    }

    fn add(&self, name: &str, script: &str) {
        let file = self.0.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.0.display())).current_dir(&self.0);
        command
    }

    /// What the stand-ins wrote down.
    fn called(&self) -> String {
        fs::read_to_string(self.0.join("called")).unwrap_or_default()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !there {
        eprintln!("{program} is not installed: not run");
    }
    there
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Everything that a shell runs: by its first line, and the functions of NHC.
fn scripts() -> Vec<PathBuf> {
    let is_script = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension == "nhc")
            || fs::read(file).unwrap().starts_with(b"#!")
    };
    files(&packaging()).into_iter().filter(is_script).collect()
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let scripts = scripts();
    assert!(scripts.len() >= 5, "{scripts:?}");
    for script in &scripts {
        let parsed = Command::new("bash").arg("-n").arg(script).output().unwrap();
        assert!(parsed.status.success(), "{}: {}", script.display(), said(&parsed));
        if !has("shellcheck") {
            continue;
        }
        let mut command = Command::new("shellcheck");
        // Functions that dracut and NHC call, in the shell that they use.
        if script.ends_with("module-setup.sh") || script.extension().is_some_and(|e| e == "nhc") {
            command.arg("--shell=bash");
        }
        let checked = command.arg(script).output().unwrap();
        assert!(checked.status.success(), "{}", said(&checked));
    }
}

#[test]
fn reboot_if_safe_takes_kexec_only_if_it_is_known_to_be_safe() {
    let script = packaging().join("bin/reboot-if-safe");
    for (status, unknown, expected) in [
        (0, "", "kexec"),
        (1, "", "reboot"),
        (2, "", "reboot"),
        (3, "", "reboot"),
        (3, "kexec", "kexec"),
        (1, "kexec", "reboot"),
        (127, "kexec", "reboot"),
    ] {
        let programs = Programs::new("reboot-if-safe");
        programs.add("identmap", &format!("echo \"identmap $*\" >>called; exit {status}"));
        programs.add("systemctl", "echo \"systemctl $*\" >>called");
        let run = |arguments: &[&str]| {
            let mut command = programs.command(&script);
            command.args(arguments).env("IDENTMAP_CONFIG", "/nonexistent");
            command.env("IDENTMAP_UNKNOWN", unknown).output().unwrap()
        };
        let dry = run(&["-n", "--", "--consumer", "6.1.76"]);
        assert_eq!(dry.status.success(), expected == "kexec", "{status} {unknown}: {}", said(&dry));
        assert_eq!(programs.called(), "identmap check --timeout 0 --quiet --consumer 6.1.76\n");
        let output = run(&[]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            programs.called().ends_with(&format!("systemctl {expected}\n")),
            "{status} {unknown}"
        );
    }
}

#[test]
fn reboot_if_safe_reboots_if_kexec_cannot() {
    let programs = Programs::new("reboot-no-kexec");
    programs.add("identmap", "exit 0");
    programs.add("systemctl", "echo \"$1\" >>called; [ \"$1\" = reboot ]");
    let output = programs.command(&packaging().join("bin/reboot-if-safe")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(programs.called(), "kexec\nreboot\n");
}

/// A POSIX shell that a signal ends runs no EXIT trap: what was mounted stayed mounted.
#[test]
fn what_cleans_up_does_so_when_interrupted_too() {
    for script in scripts() {
        let text = fs::read_to_string(&script).unwrap();
        let traps: Vec<&str> = text.lines().filter(|line| line.starts_with("trap ")).collect();
        if traps.is_empty() {
            continue;
        }
        let signals = traps.iter().filter(|line| !line.ends_with(" EXIT")).copied();
        let script_of = |traps: &[&str]| format!("trap 'echo clean' EXIT\n{}", traps.join("\n"));
        let run = script_of(&signals.collect::<Vec<_>>());
        assert!(run.ends_with(" INT TERM HUP"), "{}", script.display());
        // The one of them that nobody who runs tests has ignored: what is cannot be trapped.
        let command = format!("{run}\nkill -TERM $$\necho went on");
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(said(&output), "clean\n", "{}", script.display());
    }
}

/// The check's own limit ends with 3, which one of the two lets pass: the unit's has to end it.
#[test]
fn the_systemd_gate_lets_nothing_pass_that_hangs() {
    let file = packaging().join("systemd/systemd-kexec.service.d/50-identmap.conf");
    let text = fs::read_to_string(file).unwrap();
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("ExecStartPre=")).map(|two| two.1).collect();
    assert!(commands.len() == 2 && text.contains("\nTimeoutStartSec="), "{text}");
    for (command, passed) in [(commands[0], &[0, 3][..]), (commands[1], &[0])] {
        for status in [0, 1, 2, 3, 127, 137] {
            let programs = Programs::new("systemd-gate");
            programs.add("identmap", &format!("echo \"$*\" >>called; exit {status}"));
            // As systemd takes quotes off, and $$ for a $.
            let mut sh = programs.command(Path::new("sh"));
            let output = sh.args(["-c", &command.replace("$$", "$")]).output().unwrap();
            let expected = passed.contains(&status);
            assert_eq!(output.status.success(), expected, "{command}: {status}: {}", said(&output));
            assert_eq!(programs.called(), "check --timeout 0 --quiet\n", "{command}");
        }
    }
}

#[test]
fn systemd_finds_the_units_sound() {
    if !has("systemd-analyze") {
        return;
    }
    let packaging = packaging();
    let root = Programs::new("systemd-root");
    let units = root.0.join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(root.0.join("usr/bin")).unwrap();
    root.add("usr/bin/identmap", "");
    root.add("usr/bin/systemctl", "");
    let unit = |name: &str, text: &str| fs::write(units.join(name), text).unwrap();
    // What the drop-ins belong to, as systemd ships it but for what it is ordered after.
    unit(
        "systemd-kexec.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=systemctl --force kexec\n",
    );
    for target in
        ["multi-user.target", "timers.target", "sysinit.target", "basic.target", "shutdown.target"]
    {
        unit(target, "[Unit]\nDefaultDependencies=no\n");
    }
    unit("kdump.service", "[Service]\nType=oneshot\nExecStart=systemctl\n");
    unit("kdump-tools.service", "[Service]\nType=oneshot\nExecStart=systemctl\n");
    let mut verified = vec![
        "systemd-kexec.service".to_owned(),
        "kdump.service".to_owned(),
        "kdump-tools.service".to_owned(),
    ];
    for file in
        files(&packaging.join("systemd")).into_iter().chain(files(&packaging.join("prometheus")))
    {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let parent = file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let kind =
            |path: &str| Path::new(path).extension().and_then(OsStr::to_str).map(str::to_owned);
        if kind(&parent).as_deref() == Some("d") {
            fs::create_dir_all(units.join(&parent)).unwrap();
            unit(&format!("{parent}/{name}"), &text);
        } else if matches!(kind(&name).as_deref(), Some("service" | "timer")) {
            unit(&name, &text);
            verified.push(name);
        }
    }
    assert!(verified.len() >= 7, "{verified:?}");
    for name in &verified {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(format!("--root={}", root.0.display()))
            .arg(name)
            .output()
            .unwrap();
        let words = said(&output);
        assert!(output.status.success() && words.trim().is_empty(), "{name}: {words}");
    }
}

#[test]
fn a_wrong_unit_would_be_found() {
    if !has("systemd-analyze") {
        return;
    }
    let root = Programs::new("systemd-wrong");
    let units = root.0.join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(
        units.join("x.service"),
        "[Service]\nType=oneshot\nExecStart=nowhere-at-all\nFailureAction=reboot\n",
    )
    .unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(format!("--root={}", root.0.display()))
        .arg("x.service")
        .output()
        .unwrap();
    assert!(!said(&output).trim().is_empty());
}

#[test]
fn the_dracut_module_asks_for_the_binary() {
    let programs = Programs::new("dracut");
    programs.add("identmap", "");
    let module = packaging().join("dracut/95identmap/module-setup.sh");
    let script = format!(
        "require_binaries() {{ for b; do command -v \"$b\" >/dev/null || return 1; done; }}\n\
         inst_multiple() {{ echo \"$*\" >>called; }}\n. '{}'\ncheck; echo \"check $?\" >>called\ndepends && install",
        module.display()
    );
    let run = |path: &str| {
        Command::new("/bin/bash")
            .args(["-c", &script])
            .env("PATH", path)
            .current_dir(&programs.0)
            .output()
            .unwrap()
    };
    let output = run(&format!("{}:/usr/bin:/bin", programs.0.display()));
    assert!(output.status.success(), "{}", said(&output));
    // 255: only if asked for.
    assert_eq!(programs.called(), "check 255\nidentmap\n-o reboot-if-safe timeout\n");
    fs::remove_file(programs.0.join("called")).unwrap();
    fs::remove_file(programs.0.join("identmap")).unwrap();
    run("/nonexistent");
    assert!(programs.called().starts_with("check 1\n"), "{}", programs.called());
}

#[test]
fn the_initramfs_hook_copies_the_binary() {
    let programs = Programs::new("initramfs");
    programs.add("identmap", "");
    programs.add("functions", "copy_exec() { echo \"$*\" >>called; }");
    let hook = packaging().join("initramfs-tools/hooks/identmap");
    let run = |arguments: &[&str]| {
        let mut command = programs.command(&hook);
        command
            .args(arguments)
            .env("HOOK_FUNCTIONS", programs.0.join("functions"))
            .output()
            .unwrap()
    };
    assert_eq!(said(&run(&["prereqs"])), "\n");
    assert!(run(&[]).status.success());
    assert_eq!(
        programs.called(),
        format!("{} /sbin/identmap\n", programs.0.join("identmap").display())
    );
}

#[test]
fn node_health_check_drains_only_what_is_unsafe() {
    let check = packaging().join("nhc/identmap.nhc");
    for (status, expected) in [
        (0, ""),
        (1, "die 1 check_identmap: kexec is unsafe: RMP table (conflict)\n"),
        (3, ""),
        (127, "log"),
    ] {
        let programs = Programs::new("nhc");
        programs.add(
            "identmap",
            &format!("printf 'TAP version 13\\n1..1\\nnot ok 1 - live\\n# RMP table (conflict)\\n'; exit {status}"),
        );
        let script = format!(
            "die() {{ echo \"die $*\" >>called; }}\nlog() {{ echo \"log $*\" >>called; }}\n. '{}'\ncheck_identmap",
            check.display()
        );
        let mut command = programs.command(Path::new("/bin/bash"));
        let output = command.args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.success(), status != 1, "{}", said(&output));
        let called = programs.called();
        assert!(
            called.starts_with(expected) && expected.is_empty() == called.is_empty(),
            "{status}: {called}"
        );
    }
}

/// The reason that NHC picks out is what identmap really prints.
#[test]
fn the_reason_is_where_node_health_check_looks_for_it() {
    let rmp = packaging()
        .join("../testdata/machines/067-amd-epyc-with-sev-snp-rmp-table-not-2-mib-aligned-co.txt");
    let output = Command::new(env!("CARGO_BIN_EXE_identmap"))
        .args(["fleet", "--format", "tap"])
        .arg(rmp)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.lines().any(|line| line.starts_with("# ") && line.contains("(conflict)")),
        "{text}"
    );
}

#[test]
fn shares_of_a_job_array_add_up_to_one_run() {
    let programs = Programs::new("shares");
    let binary = env!("CARGO_BIN_EXE_identmap");
    std::os::unix::fs::symlink(binary, programs.0.join("identmap")).unwrap();
    let machines = packaging().join("../testdata/machines");
    let job = packaging().join("slurm/fleet.sbatch");
    let results = programs.0.join("results");
    for (task, count) in [(3, 3), (5, 3), (7, 3)] {
        let output = programs
            .command(&job)
            .arg(&machines)
            .arg(&results)
            .envs([("SLURM_ARRAY_TASK_MIN", "3"), ("SLURM_ARRAY_TASK_STEP", "2")])
            .env("SLURM_ARRAY_TASK_ID", task.to_string())
            .env("SLURM_ARRAY_TASK_COUNT", count.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let shares: String =
        files(&results).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let whole = Command::new(binary).args(["fleet", "--json"]).arg(&machines).output().unwrap();
    assert_eq!(lines(&shares), lines(&String::from_utf8(whole.stdout).unwrap()));
    assert_eq!(files(&results).len(), 3, "nothing else is left");
}
