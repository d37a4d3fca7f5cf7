//! One QEMU, from its reset vector to an end that can be seen from outside.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use identmap_lab::guest::Failure;
use identmap_lab::qemu::{self, Qemu, option_value};
use identmap_lab::qmp::{self, Qmp};
use identmap_lab::work_dir::WorkDir;
use serde_json::json;

use crate::gdb;
use crate::rom::UP;

/// RAM below 4 GiB, and from there on, in MiB.
pub const LOW_MIB: u64 = 512;
/// See [`LOW_MIB`].
pub const HIGH_MIB: u64 = 512;

/// A hand-over takes a tenth of a second, seconds on a machine with much other work: who is still under the
/// producer's root after this stays there.
const STUCK: Duration = Duration::from_secs(25);

/// Bytes for the guest's memory.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Physical address of the first.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What is started.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// QEMU's name for the processor, with its features.
    pub cpu: &'a str,
    /// The ROM in place of firmware.
    pub rom: Vec<u8>,
    /// Memory; the rest is zero.
    pub blobs: Vec<Blob>,
    /// Instructions `cpuid` at which the leaf of SEV is asked for: answered by the debugger, since QEMU
    /// emulates no processor with SEV.
    pub sev_at: Vec<u64>,
    /// The root that the consumer is entered with.
    pub root: u64,
    /// How long a consumer may take.
    pub patience: Duration,
    /// Where QEMU shall write every exception to.
    pub trace: Option<PathBuf>,
}

/// How it ended, as seen from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The first process ran, under this release.
    Up(String),
    /// The machine was reset: no instruction ran after this one.
    Reset(State),
    /// It stands still.
    Hang(State),
}

/// Registers of a machine that has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// RIP.
    pub rip: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// In `hlt` with interrupts off.
    pub halted: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Up(_) => f.write_str("comes up"),
            Seen::Reset(_) => f.write_str("resets"),
            Seen::Hang(State { halted: true, .. }) => f.write_str("halts"),
            Seen::Hang(_) => f.write_str("hangs"),
        }
    }
}

/// Runs it to its end; what it wrote to the serial port by then, too.
///
/// # Errors
/// When QEMU cannot be run, or ends by itself.
pub fn run(launch: &Launch<'_>) -> Result<(Seen, Vec<u8>), Failure> {
    let mut qemu = start(launch)?;
    let patience = Duration::from_secs(30);
    let mut qmp =
        qemu.connect(Instant::now() + patience, |work| Qmp::connect(&work.path("qmp"), patience))?;
    if launch.sev_at.is_empty() {
        qmp.run("cont", &json!({}))?;
    } else {
        gdb::answer_sev(&qemu.path("gdb"), &launch.sev_at)?;
    }
    let started = Instant::now();
    let mut still = None;
    loop {
        let serial = fs::read(qemu.path("serial")).unwrap_or_default();
        if let Some(release) = release(&serial) {
            return Ok((Seen::Up(release), serial));
        }
        let status = qmp.run("query-status", &json!({}))?;
        let state = state(&mut qmp)?;
        match status["status"].as_str() {
            Some("shutdown") => return Ok((Seen::Reset(state), serial)),
            Some("running") => {}
            other => return Err(format!("QEMU's status is {other:?}").into()),
        }
        // Seen twice, with time between: it has not been woken by anything.
        if state.halted && still == Some(state) {
            return Ok((Seen::Hang(state), serial));
        }
        still = Some(state);
        let elapsed = started.elapsed();
        let stuck = elapsed > STUCK.min(launch.patience) && state.cr3 & !0xfff == launch.root;
        if stuck || elapsed > launch.patience {
            return Ok((Seen::Hang(state), serial));
        }
        let pause = if elapsed < Duration::from_secs(2) { 30 } else { 150 };
        std::thread::sleep(Duration::from_millis(pause));
    }
}

fn release(serial: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(serial);
    let rest = &text[text.find(UP)? + UP.len()..];
    let release = &rest[..rest.find('>')?];
    Some(release.trim_end_matches('\0').to_owned())
}

fn state(qmp: &mut Qmp) -> Result<State, Failure> {
    let text = qmp.human("info registers")?;
    let register = |name| qmp::register(&text, name).ok_or(format!("no {name} in: {text}"));
    // In 32-bit modes the names are others.
    let rip = register("RIP").or_else(|_| register("EIP"))?;
    let flags = register("RFL").or_else(|_| register("EFL"))?;
    // RFLAGS.IF is bit 9.
    let halted = register("HLT")? == 1 && flags & 1 << 9 == 0;
    Ok(State { rip, cr2: register("CR2")?, cr3: register("CR3")?, halted })
}

fn start(launch: &Launch<'_>) -> Result<Qemu, Failure> {
    let work = WorkDir::new()?;
    fs::write(work.path("rom"), &launch.rom)?;
    let mut command = Qemu::command();
    // A reset stops the machine as it was at that instruction.
    command.arg("-no-shutdown");
    command.args(["-machine", &format!("pc,max-ram-below-4g={LOW_MIB}M")]);
    command.args(["-m", &format!("{}M", LOW_MIB + HIGH_MIB), "-cpu", launch.cpu]);
    command.arg("-bios").arg(work.path("rom"));
    for (i, blob) in launch.blobs.iter().enumerate() {
        let path = work.path(&format!("blob{i}"));
        fs::write(&path, &blob.bytes)?;
        let file = option_value(&path);
        let option = format!("loader,file={file},addr={:#x},force-raw=on", blob.at);
        command.args(["-device", &option]);
    }
    command.args(qemu::file("con", &work.path("serial"))).args(["-serial", "chardev:con"]);
    command.args(qemu::socket("mon", &work.path("qmp")));
    command.args(["-mon", "chardev=mon,mode=control"]);
    if !launch.sev_at.is_empty() {
        command.args(qemu::socket("gdb", &work.path("gdb"))).args(["-gdb", "chardev:gdb"]);
    }
    if let Some(trace) = &launch.trace {
        command.args(["-d", "int,cpu_reset", "-D"]).arg(trace);
    }
    Qemu::start(command, work)
}
