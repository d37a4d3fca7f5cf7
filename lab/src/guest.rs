//! One guest, from power-on to the second kernel: QEMU's command line, the line to the guest's first
//! process (`guest/init`), the monitor.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cells::{Cell, Firmware, Load};
use crate::efivars::{self, memory_type};
use crate::initramfs::Initramfs;
use crate::kernel::SYMBOLS;
use crate::option_rom;
use crate::qemu::{self, Qemu, option_value};
use crate::qmp::{self, Qmp};
use crate::work_dir::WorkDir;

/// Anything that ends a run.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What all guests of a run share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `IDENTMAP_CACHE`, or the repository's `.cache`.
    pub cache: PathBuf,
    /// A statically linked binary to put into the guest as `/bin/identmap`.
    pub guest_binary: Option<PathBuf>,
    /// Commands to run in the guest after the image is loaded: a name for the output, and the line.
    pub guest_commands: Vec<(String, String)>,
    /// Extra words for the producer's command line.
    pub append: String,
    /// Go on with `kexec -e`, or with a crash, and wait for the second kernel.
    pub jump: bool,
    /// Let the kernels print to the console log.
    pub loud: bool,
    /// Bound for each of the two halves of a run.
    pub patience: Duration,
}

/// RAM of every guest, and how much of it lies below 4 GiB: so that there are a GiB with holes, one
/// that is RAM in part, and at 4 GiB one that is wholly RAM (1G leaves under every policy). The
/// image is loaded into the last: then the order of requests matters under `exact`.
pub(crate) const MEMORY_MIB: u64 = 2560;
const LOW_MEMORY: &str = "1536M";
/// For the capture kernel.
const CRASH_KERNEL: &str = "crashkernel=192M";
/// Blocks that OVMF sets aside when told to, in pages: runtime data with the EFI tables in it, between
/// two others, so that they are megabytes from memory on either side.
const FAR_BINS: &[(u32, u32)] = &[
    (memory_type::ACPI_RECLAIM, 0x400),
    (memory_type::ACPI_NVS, 0x400),
    (memory_type::RESERVED, 0x2000),
    (memory_type::RUNTIME_CODE, 0x2000),
    (memory_type::RUNTIME_DATA, 0x2000),
];

/// What nobody wants to find in a bundle: every guest has these.
pub mod identity {
    /// `hostname`; `guest/init` sets it.
    pub const HOST_NAME: &str = "lab-guest-4711";
    /// SMBIOS types 1 and 3, and the network card.
    pub const SERIAL: &str = "SER-20260417-LAB";
    /// Of the chassis.
    pub const CHASSIS_SERIAL: &str = "CHS-81725-LAB";
    /// An asset tag.
    pub const ASSET: &str = "ASSET-90210-LAB";
    /// The machine's UUID.
    pub const UUID: &str = "5d2c8e0a-71b4-4f0e-9a3d-0c6b1f2e8d47";
    /// Of the network card, which has no cable.
    pub const MAC: &str = "52:54:00:4b:1d:e7";

    /// The options that give a guest all but its name.
    pub(crate) fn options() -> Vec<String> {
        let system = format!("type=1,manufacturer=Lab,product=Guest,serial={SERIAL}");
        let chassis = format!("type=3,manufacturer=Lab,serial={CHASSIS_SERIAL},asset={ASSET}");
        let network = format!("virtio-net-pci,mac={MAC},romfile=");
        [("-uuid", UUID), ("-smbios", &system), ("-smbios", &chassis), ("-device", &network)]
            .iter()
            .flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()])
            .collect()
    }
}

/// A guest with its image loaded, waiting.
#[derive(Debug)]
pub struct Loaded {
    qemu: Qemu,
    qmp: Qmp,
    link: Link,
    /// What the guest said about itself, one line each.
    pub log: Vec<String>,
    /// Seconds from power-on to now.
    pub seconds: f64,
}

/// The processor's registers that say how it pages.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// Its top table and flags.
    pub cr3: u64,
    /// With bit 12, LA57.
    pub cr4: u64,
}

/// What came after the jump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Second {
    /// The second kernel's first process ran; its release.
    Up(String),
    /// The machine was reset: QEMU ended without a word from the second kernel.
    Reset,
    /// Nothing within the time given.
    Silent,
    /// `kexec -e` came back.
    Refused(String),
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(release) => write!(f, "up ({release})"),
            Self::Reset => write!(f, "reset"),
            Self::Silent => write!(f, "silent"),
            Self::Refused(text) => write!(f, "refused: {text}"),
        }
    }
}

/// Boots the cell's guest and waits until it has loaded its image and sent its facts, which are
/// unpacked into `results`. `say` hears about the phases.
///
/// # Errors
/// What kept the guest from coming that far, in words.
pub fn boot(
    cell: &Cell,
    settings: &Settings,
    results: &Path,
    say: &dyn Fn(&str),
) -> Result<Loaded, Failure> {
    let started = Instant::now();
    let deadline = started + settings.patience;
    let kernel = settings.cache.join("kernels").join(cell.series).join("vmlinuz");
    if !kernel.is_file() {
        return Err(format!("no {}: run lab/fetch.sh", kernel.display()).into());
    }
    say("building the initramfs");
    let work = WorkDir::new()?;
    fs::write(work.path("initrd"), initramfs(cell, settings, &kernel)?)?;
    let console = results.join("console.log");
    let mut qemu = start(cell, settings, &kernel, work, &console)?;
    let (mut link, mut qmp) = connect(&mut qemu, deadline, Duration::from_mins(1))?;
    qmp.run("cont", &json!({}))?;

    say("booting");
    let mut log = Vec::new();
    loop {
        let words = link.line(deadline).map_err(|error| {
            format!(
                "the guest stopped talking after {log:?}: {error}{}",
                qemu.last_words(&console, 20)
            )
        })?;
        match words.split_once(' ').unwrap_or((&words, "")) {
            ("log", text) => {
                if text.starts_with("kexec") {
                    say("loading the image");
                }
                log.push(text.to_owned());
            }
            ("tar", size) => {
                say("receiving facts");
                let size = size.trim().parse::<usize>().ok().filter(|size| *size <= FACTS_MAX);
                let bytes = link.bytes(size.ok_or("a bad size of facts")?, deadline);
                unpack(&bytes.map_err(|error| format!("receiving facts: {error}"))?, results)?;
            }
            ("failed", text) => return Err(format!("in the guest: {text}").into()),
            ("loaded", _) => break,
            _ => return Err(format!("unexpected word from the guest: {words}").into()),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Loaded { qemu, qmp, link, log, seconds })
}

impl Loaded {
    /// Stops the guest and writes all its memory to an ELF core file.
    ///
    /// # Errors
    /// QEMU's own words.
    pub fn dump(&mut self) -> Result<(PathBuf, Registers), Failure> {
        self.qmp.run("stop", &json!({}))?;
        let text = self.qmp.human("info registers")?;
        let register = |name| qmp::register(&text, name).ok_or(format!("no {name} in: {text}"));
        let registers = Registers { cr3: register("CR3")?, cr4: register("CR4")? };
        let path = self.qemu.path("memory");
        let protocol = format!("file:{}", path.display());
        self.qmp.run("dump-guest-memory", &json!({ "paging": false, "protocol": protocol }))?;
        Ok((path, registers))
    }

    /// Lets the guest jump, and waits for the second kernel.
    ///
    /// # Errors
    /// When the guest cannot be told to.
    pub fn jump(mut self, patience: Duration) -> Result<Second, Failure> {
        self.qmp.run("cont", &json!({}))?;
        self.link.tell("jump")?;
        let deadline = Instant::now() + patience;
        loop {
            match self.link.line(deadline) {
                Ok(line) => match line.split_once(' ').unwrap_or((&line, "")) {
                    ("second", release) => return Ok(Second::Up(release.to_owned())),
                    ("failed", text) => return Ok(Second::Refused(text.to_owned())),
                    _ => {}
                },
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Second::Silent),
                // With -no-reboot, QEMU ends when the machine is reset.
                Err(_) => return Ok(Second::Reset),
            }
        }
    }
}

/// More than any guest's facts.
const FACTS_MAX: usize = 64 << 20;

fn start(
    cell: &Cell,
    settings: &Settings,
    kernel: &Path,
    work: WorkDir,
    console: &Path,
) -> Result<Qemu, Failure> {
    let mut command = Qemu::command();
    machine(&mut command, &work, cell.firmware, cell.la57, MEMORY_MIB)?;
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(work.path("initrd"));
    command.args(["-append", &command_line(cell, settings)]);
    ports(&mut command, &work, console);
    Qemu::start(command, work)
}

/// A machine of this kind with holes between its RAM, and the identity that all guests have.
pub(crate) fn machine(
    command: &mut Command,
    work: &WorkDir,
    firmware: Firmware,
    la57: bool,
    memory_mib: u64,
) -> Result<(), Failure> {
    let far = matches!(firmware, Firmware::OvmfFar | Firmware::OvmfSplit);
    let smm = if far { "on" } else { "off" };
    command.args(["-machine", &format!("q35,smm={smm},max-ram-below-4g={LOW_MEMORY}")]);
    // A processor with 1G pages.
    let la57 = if la57 { ",+la57" } else { "" };
    command.args(["-cpu", &format!("EPYC,+pdpe1gb{la57}")]);
    command.args(["-m", &format!("{memory_mib}M")]);
    firmware_arguments(firmware, work, command)?;
    command.args(identity::options());
    Ok(())
}

/// The console to a file, the line to the guest's first process, and the monitor.
pub(crate) fn ports(command: &mut Command, work: &WorkDir, console: &Path) {
    command.args(qemu::file("con", console)).args(["-serial", "chardev:con"]);
    command.args(qemu::socket("link", &work.path("link"))).args(["-serial", "chardev:link"]);
    command.args(qemu::socket("mon", &work.path("qmp")));
    command.args(["-mon", "chardev=mon,mode=control"]);
}

/// Opens what [`ports`] asks for. `patience` bounds the monitor's answers.
pub(crate) fn connect(
    qemu: &mut Qemu,
    deadline: Instant,
    patience: Duration,
) -> Result<(Link, Qmp), Failure> {
    qemu.connect(deadline, |work| {
        let link = UnixStream::connect(work.path("link"))?;
        Ok((Link::new(link), Qmp::connect(&work.path("qmp"), patience)?))
    })
}

fn command_line(cell: &Cell, settings: &Settings) -> String {
    // The timer is tested against the clock, which a busy host does not keep.
    let mut words = vec!["console=ttyS0", "panic=-1", "no_timer_check"];
    words.push(match cell.load {
        Load::Syscall => "lab.load=c",
        Load::File => "lab.load=s",
        Load::Crash => "lab.load=p",
    });
    if !settings.loud {
        words.push("quiet");
    }
    if !cell.gbpages {
        words.push("nogbpages");
    }
    if cell.load == Load::Crash {
        words.push(CRASH_KERNEL);
    }
    if cell.low {
        words.push("mem=4G");
    }
    if !settings.append.is_empty() {
        words.push(&settings.append);
    }
    words.join(" ")
}

/// Flash for OVMF: the code read-only, the variables as a copy of the guest's own.
fn firmware_arguments(
    firmware: Firmware,
    work: &WorkDir,
    command: &mut Command,
) -> Result<(), Failure> {
    let code = match firmware {
        Firmware::SeaBios => return Ok(()),
        Firmware::Ovmf => "OVMF_CODE_4M.fd",
        Firmware::OvmfFar | Firmware::OvmfSplit => "OVMF_CODE_4M.secboot.fd",
    };
    let dir = Path::new("/usr/share/OVMF");
    let mut variables = fs::read(dir.join("OVMF_VARS_4M.fd"))
        .map_err(|error| format!("no OVMF in {}: {error}; run lab/fetch.sh", dir.display()))?;
    if firmware != Firmware::Ovmf {
        efivars::add_variable(
            &mut variables,
            &efivars::MEMORY_TYPE_INFORMATION_GUID,
            efivars::MEMORY_TYPE_INFORMATION,
            &efivars::memory_type_information(FAR_BINS),
        )?;
        command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
    }
    if firmware == Firmware::OvmfSplit {
        let rom = work.path("rom");
        fs::write(&rom, option_rom::rom())?;
        command
            .args(["-device", &format!("{},romfile={}", option_rom::DEVICE, option_value(&rom))]);
    }
    fs::write(work.path("vars"), variables)?;
    let code = option_value(&dir.join(code));
    let variables = option_value(&work.path("vars"));
    command.args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")]);
    command.args(["-drive", &format!("if=pflash,unit=1,format=raw,file={variables}")]);
    Ok(())
}

/// The producer's initramfs. The second kernel's is inside: the same user space without what only the
/// first needs, because under emulation kexec's checksum of every byte takes its time.
fn initramfs(cell: &Cell, settings: &Settings, kernel: &Path) -> Result<Vec<u8>, Failure> {
    let guest = settings.cache.join("guest");
    let read = |path: &Path| {
        fs::read(path).map_err(|error| format!("{}: {error}; run lab/fetch.sh", path.display()))
    };
    let busybox = read(&guest.join("bin/busybox"))?;
    let base = || {
        let mut archive = Initramfs::new();
        archive.dir("bin");
        archive.dir("dev");
        archive.char_device("dev/console", 5, 1);
        archive.file("bin/busybox", &busybox);
        archive.file("init", INIT.as_bytes());
        archive
    };
    let mut archive = base();
    archive.file("initrd", &base().finish());
    archive.file("vmlinuz", &read(kernel)?);
    archive.file("bin/kexec", &read(&guest.join("bin/kexec"))?);
    for dir in ["lib", "lib64"] {
        archive.dir(dir);
        let mut entries: Vec<PathBuf> = fs::read_dir(guest.join(dir))?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.file(&format!("{dir}/{name}"), &read(&path)?);
        }
    }
    let symbols = SYMBOLS.join("\n") + "\n";
    archive.file("symbols", symbols.as_bytes());
    if let Some(path) = &settings.guest_binary {
        archive.file("bin/identmap", &read(path)?);
    }
    let mut commands = Vec::new();
    if settings.guest_binary.is_some() {
        let kind = if cell.load == Load::Crash { " --panic" } else { "" };
        commands.extend(
            OWN_COMMANDS
                .iter()
                .map(|(name, line)| format!("{name} {line}\n").replace("{kind}", kind)),
        );
    }
    let asked = settings.guest_commands.iter();
    commands.extend(asked.map(|(name, line)| format!("{name} {line}\n")));
    if !commands.is_empty() {
        archive.file("commands", commands.concat().as_bytes());
    }
    Ok(archive.finish())
}

/// What our own binary is asked in every guest that has it; `compare` reads the answers.
const OWN_COMMANDS: &[(&str, &str)] = &[
    ("tables", "identmap tables --live --json{kind}"),
    ("check", "identmap check --json{kind}"),
    ("capture", "identmap capture -o /tmp/out/guest/capture.json"),
    ("capture-full", "identmap capture --full -o /tmp/out/guest/capture-full.json"),
];

const INIT: &str = include_str!("../guest/init");

/// The guest's second serial port.
#[derive(Debug)]
pub(crate) struct Link {
    stream: BufReader<UnixStream>,
}

impl Link {
    fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The next line that is meant for the host, without its mark; what firmware prints on the same
    /// port is passed over.
    pub(crate) fn line(&mut self, deadline: Instant) -> io::Result<String> {
        loop {
            let mut line = Vec::new();
            self.until(deadline, |stream| stream.read_until(b'\n', &mut line))?;
            let line = String::from_utf8_lossy(&line);
            if let Some((_, text)) = line.split_once("@@") {
                return Ok(text.trim_end().to_owned());
            }
        }
    }

    pub(crate) fn bytes(&mut self, size: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            filled += self.until(deadline, |stream| stream.read(&mut bytes[filled..]))?;
        }
        Ok(bytes)
    }

    pub(crate) fn tell(&mut self, line: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())
    }

    fn until(
        &mut self,
        deadline: Instant,
        read: impl FnOnce(&mut BufReader<UnixStream>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "nothing within the time given");
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        self.stream.get_ref().set_read_timeout(Some(left))?;
        match read(&mut self.stream) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU is gone")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
            result => result,
        }
    }
}

/// Unpacks the guest's facts with the system's tar.
fn unpack(archive: &[u8], into: &Path) -> Result<(), Failure> {
    let mut child = Command::new("tar")
        .args(["-xmzf", "-", "--no-same-owner", "--mode=u+rwX", "-C"])
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    child.stdin.take().ok_or("no pipe to tar")?.write_all(archive)?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("tar: {status}").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_has_the_name_that_is_looked_for() {
        assert!(INIT.contains(&format!("\nhostname {}\n", identity::HOST_NAME)));
    }
}
