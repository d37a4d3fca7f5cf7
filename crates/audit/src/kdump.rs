//! Whether a crash would be caught: memory reserved, enough of it, an image loaded, ever tried.

use identmap::PhysRange;
use identmap_linux::crashkernel::{Asked, Request, asked};
use identmap_machine::{Layout, Machine, MemType};

use crate::{Confidence, Finding, Severity};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Most that the headers of `/proc/vmcore` take: 56 bytes (`Elf64_Phdr`) for each of 2 + 8192 + 8192 entries,
/// where both `CONFIG_NR_CPUS_DEFAULT` and `CONFIG_CRASH_MAX_MEMORY_RANGES` are 8192
/// (`crash_load_segments()`, Linux 7.2 `arch/x86/kernel/crash.c`), in whole pages.
const MOST_HEADERS: u64 = ((2 + 8192 + 8192) * 56_u64).next_multiple_of(4096);

/// What RHEL 9 reserves by itself for kernel, initramfs and makedumpfile, by RAM from on:
/// `crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M`.
const USUAL: [(u64, u64); 3] = [(64 * GIB, 512 * MIB), (4 * GIB, 256 * MIB), (GIB, 192 * MIB)];

/// Page tables that [`USUAL`] has room for: no more is needed where 1 GiB pages are used.
const USUAL_TABLES: u64 = MIB;

/// What a running system tells of its kdump service. Nothing of it is in a machine's texts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KdumpState {
    /// Services that load the crash image at boot and are installed: name, and whether enabled.
    pub services: Vec<(String, bool)>,
    /// Where dumps go and whether there are any.
    pub dumps: Dumps,
    /// When somebody last said that it works (`/var/lib/identmap/kdump-tested`): seconds since 1970.
    pub tested: Option<u64>,
    /// When the running kernel was installed: seconds since 1970.
    pub kernel_installed: Option<u64>,
    /// Files that decide how kdump works, and when each was last changed (seconds since 1970).
    pub files: Vec<(String, u64)>,
    /// What differs from the bundle that was kept at the test.
    pub since: Since,
}

/// What differs from the bundle that was kept when kdump was tested.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Since {
    /// None was kept.
    #[default]
    NotKept,
    /// One was, and cannot be read; why.
    Unreadable(String),
    /// What differs, in words; empty if nothing that a bundle holds does.
    Changes(Vec<String>),
}

/// Where dumps go and whether there are any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Dumps {
    /// Not known; why.
    Unknown(String),
    /// None in that directory.
    #[default]
    None,
    /// The newest: its path, and when it was written (seconds since 1970).
    Newest(String, u64),
}

/// What the machine's texts tell. `tables` are the bytes of page tables that the image's identity map takes, by
/// each producer that is possible: they lie in the reservation too (`kimage_alloc_crash_control_pages()`,
/// Linux `kernel/kexec_core.c`).
pub(crate) fn of_machine(
    machine: &Machine,
    layout: Option<&Layout>,
    tables: impl Iterator<Item = u64>,
) -> Vec<Finding> {
    let ram = layout.map_or(0, |layout| layout.total(MemType::Usable));
    let asked = machine.cmdline.as_deref().map(|cmdline| asked(cmdline, ram));
    let mut found = Vec::new();
    let largest = machine.crash_kernels.iter().map(|crash| crash.range).max_by_key(|r| r.len());
    match largest {
        None => found.push(not_reserved(machine, asked.as_ref())),
        Some(range) => {
            found.extend(shrunk(range, asked.as_ref()));
            found.extend(no_low_memory(machine, range));
            found.push(size(range, ram, tables));
        }
    }
    let what = "no crash image is loaded";
    match machine.kexec_crash_loaded {
        Some(true) => {}
        Some(false) => found.push(
            Finding::new(
                "crash-image",
                Severity::Error,
                Confidence::Certain,
                what,
                "/sys/kernel/kexec_crash_loaded is 0: at a panic no kernel is started",
            )
            .remedy("start the kdump service, or kexec -p; its log says why it did not load"),
        ),
        None => found.push(
            Finding::new(
                "crash-image",
                Severity::Error,
                Confidence::Unknown,
                "whether a crash image is loaded is not known",
                "without one no kernel is started at a panic",
            )
            .remedy("give a bundle of the machine, or ask on it: /sys/kernel/kexec_crash_loaded"),
        ),
    }
    found
}

fn not_reserved(machine: &Machine, asked: Option<&Asked>) -> Finding {
    // Without root every address there is zero, and the entries are lost.
    let listed = machine
        .iomem
        .iter()
        .any(|entry| entry.name == "System RAM" && entry.range.start().get() != 0);
    let seen = "/proc/iomem has no \"Crash kernel\"";
    let boot = "boot with crashkernel=SIZE";
    let (confidence, why, remedy) = match asked {
        Some(Asked::Nothing) => (
            Confidence::Certain,
            "crashkernel= is not on the command line".to_owned(),
            boot.to_owned(),
        ),
        Some(Asked::Refused(value)) => (
            if listed { Confidence::Certain } else { Confidence::Likely },
            format!("the kernel cannot use crashkernel={value}"),
            "write it as SIZE, SIZE,high or START-END:SIZE".to_owned(),
        ),
        Some(Asked::NoneForThisRam) => (
            if listed { Confidence::Certain } else { Confidence::Likely },
            "the list in crashkernel= has no size for so much RAM".to_owned(),
            "add a range to the list that holds it".to_owned(),
        ),
        Some(Asked::Memory(request)) if listed => (
            Confidence::Certain,
            format!(
                "{} MiB are asked for on the command line, but {seen}: the kernel found no room, or the \
                 reservation was given back",
                request.bytes / MIB
            ),
            "look for \"crashkernel\" in the boot log; ask for less, or with ,high".to_owned(),
        ),
        None if listed => (Confidence::Certain, seen.to_owned(), boot.to_owned()),
        Some(Asked::Memory(_)) | None => (
            Confidence::Unknown,
            "no reservation is known of this machine; kexec -p has nowhere to load to".to_owned(),
            "boot with crashkernel=SIZE, or give /proc/iomem read as root".to_owned(),
        ),
    };
    let what = "no memory reserved for a crash kernel";
    Finding::new("no-crash-kernel", Severity::Error, confidence, what, why).remedy(remedy)
}

fn shrunk(range: PhysRange, asked: Option<&Asked>) -> Option<Finding> {
    let Some(Asked::Memory(Request { bytes, .. })) = asked else { return None };
    (range.len() < *bytes).then(|| {
        let why = format!(
            "{} MiB are asked for on the command line, {} MiB are reserved: somebody wrote to \
             /sys/kernel/kexec_crash_size",
            bytes / MIB,
            range.len() / MIB
        );
        let what = "less is reserved than asked for";
        Finding::new("crash-kernel-shrunk", Severity::Warning, Confidence::Certain, what, why)
            .at(range)
            .remedy("boot again: what was given back is in use")
    })
}

fn no_low_memory(machine: &Machine, largest: PhysRange) -> Option<Finding> {
    let is_high = |range: PhysRange| range.start().get() >= 4 * GIB;
    machine.crash_kernels.iter().all(|crash| is_high(crash.range)).then(|| {
        let why = "everything reserved lies above 4 GiB: devices that can address only 32 bits, and the \
                   bounce buffers for them, have no memory in the crash kernel";
        let what = "the crash kernel has no memory below 4 GiB";
        Finding::new("crash-kernel-low", Severity::Warning, Confidence::Likely, what, why)
            .at(largest)
            .remedy("add crashkernel=256M,low, or leave the ,low that is there out")
    })
}

fn size(range: PhysRange, ram: u64, tables: impl Iterator<Item = u64>) -> Finding {
    let tables: Vec<u64> = tables.collect();
    let (least, most) =
        (tables.iter().copied().min().unwrap_or(0), tables.iter().copied().max().unwrap_or(0));
    let usual = USUAL.iter().find(|(from, _)| ram >= *from).map(|(_, bytes)| *bytes);
    let kib = |bytes: u64| bytes.div_ceil(1024);
    let sum = format!(
        "{} MiB reserved; of it up to {} KiB for the page tables of the identity map of this RAM, and up to {} \
         KiB for the headers of /proc/vmcore",
        range.len() / MIB,
        kib(most),
        kib(MOST_HEADERS)
    );
    if least >= range.len() {
        let what = "the page tables do not fit into what is reserved";
        return Finding::new("crash-kernel-size", Severity::Error, Confidence::Certain, what, sum)
            .at(range)
            .remedy("reserve more, or boot without nogbpages");
    }
    let wanted = usual.map(|usual| usual + most.saturating_sub(USUAL_TABLES));
    match wanted {
        Some(wanted) if range.len() < wanted => {
            let why = format!(
                "{sum}; RHEL 9 would reserve {} MiB on a machine with so much RAM, {} MiB with these tables: \
                 the crash kernel may run out of memory before it has written the dump",
                usual.unwrap_or(0) / MIB,
                wanted.div_ceil(MIB)
            );
            let what = "little is reserved for the crash kernel";
            Finding::new("crash-kernel-size", Severity::Warning, Confidence::Likely, what, why)
                .at(range)
                .remedy(format!(
                    "crashkernel={}M, or try a crash and see that a dump is written",
                    wanted.div_ceil(MIB)
                ))
        }
        _ => Finding::new(
            "crash-kernel-size",
            Severity::Info,
            Confidence::Certain,
            "memory reserved for the crash kernel",
            sum,
        )
        .at(range),
    }
}

/// What the running system tells beyond the machine.
#[must_use]
pub fn kdump_of_system(state: &KdumpState) -> Vec<Finding> {
    vec![service(state), last_test(state)]
}

fn service(state: &KdumpState) -> Finding {
    let finding = |severity, what: &str, why: String| {
        Finding::new("kdump-service", severity, Confidence::Certain, what, why)
    };
    if let Some((name, _)) = state.services.iter().find(|(_, enabled)| *enabled) {
        let why = format!("{name} loads the crash image at boot");
        return finding(Severity::Info, "a kdump service is enabled", why);
    }
    match state.services.first() {
        Some((name, _)) => finding(
            Severity::Warning,
            "the kdump service is not enabled",
            format!("{name} is installed and not enabled: after the next boot nothing is loaded"),
        )
        .remedy(format!("systemctl enable --now {name}")),
        None => finding(
            Severity::Warning,
            "no kdump service is installed",
            "neither kdump.service nor kdump-tools.service: after the next boot nothing is loaded, \
             unless something else does it"
                .to_owned(),
        )
        .remedy("install kdump-tools (Debian) or kdump-utils (Fedora, RHEL)"),
    }
}

fn last_test(state: &KdumpState) -> Finding {
    let finding = |severity, confidence, what: String, why: &str| {
        Finding::new("kdump-test", severity, confidence, what, why)
    };
    let how = "a crash on purpose (echo c > /proc/sysrq-trigger) while nobody needs the machine is the test; \
               then identmap capture -o /var/lib/identmap/kdump-tested";
    let dump = match &state.dumps {
        Dumps::Newest(_, when) => Some(*when),
        Dumps::None | Dumps::Unknown(_) => None,
    };
    let Some(last) = dump.max(state.tested) else {
        return match &state.dumps {
            Dumps::Unknown(why) => finding(
                Severity::Info,
                Confidence::Unknown,
                "when kdump was last tested is not known".to_owned(),
                why,
            ),
            _ => finding(
                Severity::Warning,
                Confidence::Certain,
                "kdump was never tested here".to_owned(),
                "no dump is there, and nobody said that one was made",
            )
            .remedy(how),
        };
    };
    let what = format!("kdump last worked on {}", date(last));
    let mut changes: Vec<String> = Vec::new();
    if let Some(installed) = state.kernel_installed.filter(|installed| *installed > last) {
        changes
            .push(format!("the running kernel was installed after that, on {}", date(installed)));
    }
    for (file, when) in state.files.iter().filter(|(_, when)| *when > last) {
        changes.push(format!("{file} was changed on {}", date(*when)));
    }
    if let Since::Changes(found) = &state.since {
        changes.extend_from_slice(found);
    }
    if !changes.is_empty() {
        let why = changes.join("\n");
        return finding(Severity::Warning, Confidence::Certain, what, &why).remedy(how);
    }
    let kernel = match state.kernel_installed {
        Some(_) => "the running kernel was there before",
        None => "when the running kernel was installed is not known",
    };
    let since = match &state.since {
        Since::Changes(_) => {
            "; of hardware, firmware, kernel, command line, memory map and reservation nothing that is known differs \
             from the bundle that was kept then"
                .to_owned()
        }
        Since::Unreadable(why) => format!("; the bundle that was kept cannot be read: {why}"),
        Since::NotKept => "; what else changed since is not known: no bundle was kept \
                           (identmap capture -o /var/lib/identmap/kdump-tested)"
            .to_owned(),
    };
    finding(Severity::Info, Confidence::Certain, what, &format!("{kernel}{since}"))
}

/// `2026-11-23`, UTC. The proleptic Gregorian calendar repeats after 146,097 days; years are counted from March.
fn date(seconds: u64) -> String {
    /// Days from 1 March of year 0 to 1 January 1970.
    const TO_1970: u64 = 719_468;
    let days = seconds / 86_400 + TO_1970;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_machine::CrashKernel;
    use identmap_machine::parse::machine;

    const LOG: &str = "\
[    0.000000] Linux version 6.12.30 (x@y) (gcc) #1 SMP
[    0.000000] Command line: ro CRASH
[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000407fffffff] usable
";

    fn with(crash: &str, ranges: &[(u64, u64)]) -> Machine {
        let mut machine = machine("log", LOG.replace("CRASH", crash).as_bytes()).unwrap();
        let crash = |&(start, end)| CrashKernel { range: PhysRange::new(start, end).unwrap() };
        machine.crash_kernels = ranges.iter().map(crash).collect();
        machine
    }

    fn found(machine: &Machine, tables: u64) -> Vec<(&'static str, Severity, Confidence)> {
        let layout = Layout::of(machine);
        let all = of_machine(machine, layout.as_ref(), [tables].into_iter());
        all.iter()
            .map(|f| (f.id, f.severity, f.confidence))
            .filter(|(id, ..)| *id != "crash-image")
            .collect()
    }

    const LOW: (u64, u64) = (0x2000_0000, 0x6000_0000);

    #[test]
    fn memory_that_is_not_reserved_is_told_from_what_is_not_known() {
        use Confidence::{Certain, Likely, Unknown};
        for (cmdline, confidence) in [
            ("quiet", Certain),
            ("crashkernel=auto", Likely),
            ("crashkernel=1G-2G:64M", Likely),
            ("crashkernel=256M", Unknown),
        ] {
            let expected = vec![("no-crash-kernel", Severity::Error, confidence)];
            assert_eq!(found(&with(cmdline, &[]), 0), expected, "{cmdline}");
        }
        let mut listed = with("crashkernel=256M", &[]);
        let iomem = "00100000-7fffffff : System RAM\n  01000000-02000000 : Kernel code\n";
        listed.iomem = machine("iomem", iomem.as_bytes()).unwrap().iomem;
        assert_eq!(found(&listed, 0), [("no-crash-kernel", Severity::Error, Certain)]);
    }

    #[test]
    fn page_tables_count_against_the_reservation() {
        let machine = with("crashkernel=1G", &[LOW]);
        let size = |tables| found(&machine, tables);
        assert_eq!(size(64 << 10), [("crash-kernel-size", Severity::Info, Confidence::Certain)]);
        // 32 TiB in 2 MiB pages: 128 MiB of tables; 2 GiB of them for 512 TiB.
        let much = 600 * MIB;
        assert_eq!(size(much), [("crash-kernel-size", Severity::Warning, Confidence::Likely)]);
        assert_eq!(size(GIB), [("crash-kernel-size", Severity::Error, Confidence::Certain)]);
    }

    #[test]
    fn high_memory_alone_and_a_shrunk_reservation() {
        let high = with("crashkernel=1G,high crashkernel=0,low", &[(5 * GIB, 6 * GIB)]);
        assert_eq!(found(&high, 0)[0].0, "crash-kernel-low");
        let both = with("crashkernel=1G,high", &[(5 * GIB, 6 * GIB), LOW]);
        assert_eq!(found(&both, 0).len(), 1);
        let less = with("crashkernel=1G", &[(0x2000_0000, 0x5000_0000)]);
        assert_eq!(found(&less, 0)[0].0, "crash-kernel-shrunk");
    }

    /// The log told more than was left, and was believed.
    #[test]
    fn what_was_given_back_since_the_boot_is_not_reserved() {
        use Confidence::Certain;
        let of = |listed: &str| {
            let log = LOG.replace("CRASH", "crashkernel=512M");
            let text = format!(
                "{log}[    0.000000] crashkernel reserved: 0x0000000020000000 - 0x0000000040000000 (512 MB)\n\
                 00100000-7fffffff : System RAM\n  01000000-01ffffff : Kernel code\n{listed}"
            );
            found(&machine("log", text.as_bytes()).unwrap(), 0)
        };
        let all = of("  20000000-3fffffff : Crash kernel\n");
        assert!(all.iter().all(|(_, severity, _)| *severity == Severity::Info), "{all:?}");
        let half = of("  20000000-2fffffff : Crash kernel\n");
        assert_eq!(half[0], ("crash-kernel-shrunk", Severity::Warning, Certain));
        assert_eq!(of(""), [("no-crash-kernel", Severity::Error, Certain)]);
    }

    /// Of a log nobody knows it: that was told as an info, and the verdict was safe.
    #[test]
    fn an_image_that_is_not_loaded_is_an_error_and_one_that_may_be_a_doubt() {
        let mut machine = with("crashkernel=1G", &[LOW]);
        let of = |machine: &Machine| {
            let all = of_machine(machine, None, std::iter::empty());
            all.into_iter().find(|f| f.id == "crash-image").map(|f| f.verdict())
        };
        assert_eq!(of(&machine), Some(crate::Verdict::Unknown));
        machine.kexec_crash_loaded = Some(true);
        assert_eq!(of(&machine), None);
        machine.kexec_crash_loaded = Some(false);
        assert_eq!(of(&machine), Some(crate::Verdict::Unsafe));
    }

    #[test]
    fn a_test_before_the_kernel_was_installed_does_not_count() {
        let state = |dumps, tested, kernel_installed| KdumpState {
            dumps,
            tested,
            kernel_installed,
            ..KdumpState::default()
        };
        let of = |state: &KdumpState| (last_test(state).severity, last_test(state).what);
        let newest = |when| Dumps::Newest("/var/crash/x/vmcore".to_owned(), when);
        assert_eq!(of(&state(Dumps::None, None, None)).0, Severity::Warning);
        let unknown = state(Dumps::Unknown("no permission".to_owned()), None, Some(9));
        assert_eq!(of(&unknown).0, Severity::Info);
        assert_eq!(
            of(&state(newest(86_400), None, Some(90_000))),
            (Severity::Warning, "kdump last worked on 1970-01-02".to_owned())
        );
        assert_eq!(of(&state(newest(5), Some(100_000), Some(90_000))).0, Severity::Info);
    }

    #[test]
    fn what_changed_since_the_test_is_said_and_what_was_not_kept_too() {
        let tested = KdumpState { tested: Some(100_000), ..KdumpState::default() };
        let of = |state: &KdumpState| {
            let found = last_test(state);
            (found.severity, found.verdict(), found.why)
        };
        let (severity, _, why) = of(&tested);
        assert!(severity == Severity::Info && why.contains("no bundle was kept"), "{why}");
        let file = |when| vec![("/etc/kdump.conf".to_owned(), when)];
        let older = KdumpState { files: file(90_000), ..tested.clone() };
        assert_eq!(of(&older).0, Severity::Info);
        let newer = KdumpState { files: file(200_000), ..tested.clone() };
        let (severity, verdict, why) = of(&newer);
        assert_eq!((severity, verdict), (Severity::Warning, crate::Verdict::Safe));
        assert_eq!(why, "/etc/kdump.conf was changed on 1970-01-03");
        let same = KdumpState { since: Since::Changes(Vec::new()), ..tested.clone() };
        assert!(of(&same).2.contains("nothing that is known differs"), "{:?}", of(&same));
        let kernel = Since::Changes(vec!["kernel: 6.1.76, was 6.1.70".to_owned()]);
        let changed = KdumpState { since: kernel, ..tested };
        assert_eq!(of(&changed).2, "kernel: 6.1.76, was 6.1.70");
    }

    #[test]
    fn dates_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_795_391_999, "2026-11-22"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
