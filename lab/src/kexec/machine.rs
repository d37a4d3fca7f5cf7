//! A guest that is asked: booted once, its whole state kept in a file, and restored from there as often
//! as there is something to try.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cells::Firmware;
use crate::guest::{self, Link};
use crate::qemu::Qemu;
use crate::qmp::Qmp;
use crate::work_dir::WorkDir;

/// What is booted.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// What the machine starts with.
    pub firmware: Firmware,
    /// A processor with 57-bit linear addresses.
    pub la57: bool,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Words for the kernel's command line beside those all have.
    pub append: String,
    /// More of QEMU's options.
    pub options: Vec<String>,
}

/// What went wrong with a guest, as far as it matters for what to do next.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing within the time given: the host may be to blame.
    Late(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(text) => write!(f, "nothing within the time given: {text}"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut || error.kind() == io::ErrorKind::WouldBlock {
            Self::Late(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl From<&str> for Trouble {
    fn from(text: &str) -> Self {
        Self::Failed(text.to_owned())
    }
}

/// What a command in the guest came to.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// Standard output and error.
    pub output: Vec<u8>,
}

impl Ran {
    /// Its output as text, for people.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).trim().to_owned()
    }
}

/// What came after a jump.
#[derive(Clone, Debug)]
pub enum Next {
    /// A kernel's first process runs: its release.
    Up(String),
    /// The command that should have jumped came back.
    Returned(Ran),
    /// The machine was reset or switched off.
    Reset,
    /// Nothing within the time given.
    Silent,
}

/// A running QEMU and the lines to it; the guest ends with this value.
#[derive(Debug)]
pub struct Guest {
    qemu: Qemu,
    /// Its monitor.
    pub qmp: Qmp,
    link: Link,
    console: PathBuf,
}

/// Starting QEMU and its monitor's answers; a dump of all memory takes seconds on an idle host.
const MONITOR: Duration = Duration::from_mins(5);

impl Guest {
    /// Switches a machine on and waits until its kernel's first process runs.
    ///
    /// # Errors
    /// [`Trouble`] when QEMU does not run, or the guest does not come that far.
    pub fn boot(spec: &Spec, console: &Path, patience: Duration) -> Result<Self, Trouble> {
        let mut guest = Self::start(spec, None, console)?;
        guest.go_on()?;
        match guest.next(patience)? {
            Next::Up(_) => Ok(guest),
            Next::Silent => Err(Trouble::Late(format!("booting{}", guest.last_words()))),
            other => {
                Err(format!("the producer did not boot: {other:?}{}", guest.last_words()).into())
            }
        }
    }

    /// A machine as it was when [`Guest::snapshot`] was called, running.
    ///
    /// # Errors
    /// [`Trouble`] when QEMU does not run or does not take the file.
    pub fn restore(spec: &Spec, snapshot: &Path, console: &Path) -> Result<Self, Trouble> {
        let mut guest = Self::restore_stopped(spec, snapshot, console)?;
        guest.go_on()?;
        Ok(guest)
    }

    /// As [`Guest::restore`], but its processor stands still.
    ///
    /// # Errors
    /// As [`Guest::restore`].
    pub fn restore_stopped(spec: &Spec, snapshot: &Path, console: &Path) -> Result<Self, Trouble> {
        let mut guest = Self::start(spec, Some(snapshot), console)?;
        let deadline = Instant::now() + MONITOR;
        loop {
            let status = guest.qmp.run("query-status", &json!({}))?;
            match status["status"].as_str() {
                Some("inmigrate") if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Some("inmigrate") => return Err(Trouble::Late("restoring".to_owned())),
                Some(_) => return Ok(guest),
                None => return Err(format!("no status in {status}").into()),
            }
        }
    }

    /// Stops the machine and writes its whole state to a file.
    ///
    /// # Errors
    /// [`Trouble`] with QEMU's words.
    pub fn snapshot(&mut self, file: &Path) -> Result<(), Trouble> {
        self.stop()?;
        // As fast as the disk goes.
        self.qmp.run("migrate-set-parameters", &json!({ "max-bandwidth": 1_u64 << 40 }))?;
        let uri = format!("exec:cat >'{}'", file.display());
        self.qmp.run("migrate", &json!({ "uri": uri }))?;
        let deadline = Instant::now() + MONITOR;
        loop {
            let state = self.qmp.run("query-migrate", &json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => return Err(format!("not saved: {state}").into()),
                _ if Instant::now() > deadline => return Err(Trouble::Late("saving".to_owned())),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Stops the processor.
    ///
    /// # Errors
    /// [`Trouble`] with QEMU's words.
    pub fn stop(&mut self) -> Result<(), Trouble> {
        self.qmp.run("stop", &json!({}))?;
        Ok(())
    }

    /// Lets the processor run.
    ///
    /// # Errors
    /// [`Trouble`] with QEMU's words.
    pub fn go_on(&mut self) -> Result<(), Trouble> {
        self.qmp.run("cont", &json!({}))?;
        Ok(())
    }

    /// Runs a command line in the guest.
    ///
    /// # Errors
    /// [`Trouble`] when the guest does not answer.
    pub fn run(&mut self, line: &str, patience: Duration) -> Result<Ran, Trouble> {
        match self.jump(line, patience)? {
            Next::Returned(ran) => Ok(ran),
            Next::Silent => Err(Trouble::Late(format!("{line}{}", self.last_words()))),
            Next::Reset => {
                Err(format!("the machine was reset by: {line}{}", self.last_words()).into())
            }
            Next::Up(release) => Err(format!("{release} came up after: {line}").into()),
        }
    }

    /// As [`Guest::run`], and a status other than 0 is an error too.
    ///
    /// # Errors
    /// [`Trouble`] when the guest does not answer, or with the command's own words.
    pub fn must(&mut self, line: &str, patience: Duration) -> Result<String, Trouble> {
        let ran = self.run(line, patience)?;
        if ran.status == 0 {
            Ok(ran.text())
        } else {
            Err(format!("{line}: status {}: {}", ran.status, ran.text()).into())
        }
    }

    /// Sends a command line to the guest and does not wait.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when the line to the guest breaks.
    pub fn tell(&mut self, line: &str) -> Result<(), Trouble> {
        Ok(self.link.tell(line)?)
    }

    /// Runs a command line in the guest that may end this kernel.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when the line to the guest breaks.
    pub fn jump(&mut self, line: &str, patience: Duration) -> Result<Next, Trouble> {
        self.link.tell(line)?;
        self.next(patience)
    }

    /// Waits for the next thing the guest says.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when it says what is not understood.
    pub fn next(&mut self, patience: Duration) -> Result<Next, Trouble> {
        let deadline = Instant::now() + patience;
        let line = match self.link.line(deadline) {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Next::Silent),
            // With -no-reboot, QEMU ends when the machine is reset.
            Err(_) => return Ok(Next::Reset),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ready", release] => Ok(Next::Up(release.to_owned())),
            ["done", status, size] => {
                let size = size.parse::<usize>().ok().filter(|size| *size <= OUTPUT_MAX);
                let (Ok(status), Some(size)) = (status.parse(), size) else {
                    return Err(format!("not understood: {line}").into());
                };
                let output = self.link.bytes(size, deadline)?;
                Ok(Next::Returned(Ran { status, output }))
            }
            _ => Err(format!("not understood: {line}").into()),
        }
    }

    /// Writes all of the guest's memory to an ELF core file.
    ///
    /// # Errors
    /// [`Trouble`] with QEMU's words.
    pub fn dump(&mut self) -> Result<PathBuf, Trouble> {
        let path = self.qemu.path("memory");
        let protocol = format!("file:{}", path.display());
        self.qmp.run("dump-guest-memory", &json!({ "paging": false, "protocol": protocol }))?;
        Ok(path)
    }

    /// Opens QEMU's debugger port, which stops the guest.
    ///
    /// # Errors
    /// [`Trouble`] when it cannot be opened.
    pub fn debugger(&mut self) -> Result<UnixStream, Trouble> {
        // Of a guest that runs, QEMU would report the stop at a time of its choosing.
        self.stop()?;
        let path = self.qemu.path("gdb");
        let answer =
            self.qmp.human(&format!("gdbserver unix:{},server=on,wait=off", path.display()))?;
        UnixStream::connect(&path).map_err(|error| format!("no gdbserver: {answer} {error}").into())
    }

    /// What the guest's console has said so far.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// What QEMU and the console said last, for a report of failure.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.qemu.last_words(&self.console, 8)
    }

    fn start(spec: &Spec, snapshot: Option<&Path>, console: &Path) -> Result<Self, Trouble> {
        let work = WorkDir::new()?;
        let mut command = Qemu::command();
        guest::machine(&mut command, &work, spec.firmware, spec.la57, spec.memory_mib)
            .map_err(|error| error.to_string())?;
        command.arg("-kernel").arg(&spec.kernel).arg("-initrd").arg(&spec.initrd);
        // The timer is tested against the clock, which a busy host does not keep.
        let words = format!("console=ttyS0 panic=-1 no_timer_check quiet {}", spec.append);
        command.args(["-append", words.trim_end()]);
        command.args(&spec.options);
        if let Some(snapshot) = snapshot {
            command.args(["-incoming", &format!("exec:cat '{}'", snapshot.display())]);
        }
        guest::ports(&mut command, &work, console);
        let started = Qemu::start(command, work).and_then(|mut qemu| {
            let (link, qmp) = guest::connect(&mut qemu, Instant::now() + MONITOR, MONITOR)?;
            Ok(Self { qemu, qmp, link, console: console.to_owned() })
        });
        started.map_err(|error| Trouble::Failed(error.to_string()))
    }
}

/// More than any command's output.
const OUTPUT_MAX: usize = 64 << 20;
