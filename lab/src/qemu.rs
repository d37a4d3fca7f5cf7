//! QEMU as a process: how every command line begins, how it is started, and that it ends with its value.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::guest::Failure;
use crate::work_dir::WorkDir;

/// A running QEMU and its directory; both end with this value.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    work: WorkDir,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    /// A machine without devices, its processor stopped, where a reset ends QEMU.
    #[must_use]
    pub fn command() -> Command {
        // Should this process be killed, the guest goes with it, where util-linux is there to see to it.
        let mut command = Command::new("nice");
        command.args(["-n", "10"]);
        if Path::new("/usr/bin/setpriv").exists() {
            command.args(["/usr/bin/setpriv", "--pdeathsig", "KILL"]);
        }
        command.args(["qemu-system-x86_64", "-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-no-reboot", "-S", "-accel", "tcg"]);
        command
    }

    /// Starts a command line that refers to the files of `work`.
    ///
    /// # Errors
    /// When there is no QEMU.
    pub fn start(mut command: Command, work: WorkDir) -> Result<Self, Failure> {
        let errors = File::create(work.path(ERRORS))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot run qemu-system-x86_64: {error}; run lab/fetch.sh"))?;
        Ok(Self { child, work })
    }

    /// Waits for QEMU to open its sockets: until `open` finds them there.
    ///
    /// # Errors
    /// When QEMU has ended, or the time has come; with its words.
    pub fn connect<T>(
        &mut self,
        deadline: Instant,
        open: impl Fn(&WorkDir) -> io::Result<T>,
    ) -> Result<T, Failure> {
        loop {
            let error = match open(&self.work) {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("QEMU ended with {status}{}", self.errors()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("QEMU does not answer: {error}{}", self.errors()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The path of a file in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path(name)
    }

    /// What QEMU said, each line on one of its own.
    #[must_use]
    pub fn errors(&self) -> String {
        let errors = fs::read_to_string(self.path(ERRORS)).unwrap_or_default();
        // The processors are models of real ones, which TCG emulates in part.
        let lines = errors.lines().filter(|line| !line.contains("TCG doesn't support"));
        lines.flat_map(|line| ["\n  qemu: ", line]).collect()
    }

    /// What QEMU said, and the last `most` lines of a console: for a report of failure.
    #[must_use]
    pub fn last_words(&self, console: &Path, most: usize) -> String {
        let mut text = self.errors();
        let console = fs::read(console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(most)..] {
            text += "\n  console: ";
            text += line.trim_end();
        }
        text
    }
}

const ERRORS: &str = "errors";

/// A socket that QEMU opens and does not wait at, as a character device of this name.
#[must_use]
pub fn socket(id: &str, path: &Path) -> [String; 2] {
    let path = option_value(path);
    ["-chardev".to_owned(), format!("socket,id={id},server=on,wait=off,path={path}")]
}

/// A file that QEMU writes to, as a character device of this name.
#[must_use]
pub fn file(id: &str, path: &Path) -> [String; 2] {
    ["-chardev".to_owned(), format!("file,id={id},path={}", option_value(path))]
}

/// QEMU's options split at commas; a doubled one stands for itself.
#[must_use]
pub fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
