//! `identmap load`.

use std::fmt::Write as _;
use std::path::PathBuf;

use identmap_audit::{Finding, ImageTables, Question, Verdict, check, check_own};
use identmap_kexec::format::{self, KernelFile};
use identmap_kexec::purgatory::Serial;
use identmap_kexec::{
    Call, Choice, CrashFacts, Image, Job, LoadError, Rules, cmdline, explain, syscall,
};
use identmap_linux::boot::RngSeed;
use identmap_linux::{Consumer, KernelVersion, Kind};
use identmap_machine::live::Directory;
use identmap_machine::{Layout, Machine, Segment};
use identmap_report::{Columns, Hex, HexRange, MapReport, Style, Tone};
use serde::Serialize;

use super::load_files::Files;
use super::load_preflight;
use crate::args::{Load, Output, SerialChoice};
use crate::loading;
use crate::output::{Failure, Status};
use crate::record::{self, Record};
use crate::{guard, live, source};

pub(crate) fn run(args: &Load, output: &Output) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let live = args.source.is_none();
    let dry = args.dry_run || !live;
    let files = Files::read(args)?;
    let Files { kernel: file, initrd, .. } = &files;
    let from = args.source.as_deref().unwrap_or("live");
    let (machine, bundle) = source::machine_and_bundle(from, &args.facts)?;
    let signature = guard::of_signature(&files.signature, from, &machine, bundle.as_ref());
    let cmdline = command_line(args, file, &machine)?;
    let here = if live { Here::of(&machine, kind) } else { Here::default() };
    if live && !dry && !here.rules.root {
        return Err(Failure::new(
            "load takes root: run it with sudo; --dry-run works on bundles without",
        ));
    }
    let choice = choose(args, here.rules);
    let consumer = consumer(args, file)?;
    let mut told = Told::new(args, &cmdline, choice, file, initrd.len());
    let (verdict, mut image) = match choice.call {
        Call::FileLoad | Call::Reboot => {
            files.to_hand_over()?;
            let (verdict, findings) = of_kernel_s_map(&machine, kind, consumer);
            told.findings = findings.iter().map(FindingRow::new).collect();
            "rules only: the kernel's own segments are not known before"
                .clone_into(&mut told.judged_by);
            told.notes.push(
                "the running kernel makes segments and map: they are not known before".to_owned(),
            );
            (verdict, None)
        }
        Call::Load => {
            let (image, notes) =
                image(args, &machine, kind, &here, file, initrd, &cmdline, &consumer)?;
            told.notes.extend(notes);
            let findings = of_our_map(&machine, kind, consumer, &image);
            told.findings = findings.iter().map(FindingRow::new).collect();
            told.describe(&image);
            let rules = Verdict::of(&findings);
            let (verdict, by) = load_preflight::run(&machine, kind, &image, rules, live)?;
            told.judged_by = by;
            (verdict, Some(image))
        }
    };
    told.findings.push(FindingRow::new(&signature));
    told.verdict = verdict.to_string();
    let refused = verdict == Verdict::Unsafe && !args.force;
    told.action = match (dry, refused) {
        (true, _) => "dry-run",
        (false, true) => "refused",
        (false, false) => "loaded",
    };
    if dry || refused {
        output.print(&told, |style| told.text(style, dry))?;
        return Ok(match verdict {
            Verdict::Unsafe => Status::Problem,
            Verdict::Unknown => Status::Unknown,
            Verdict::Safe => Status::Safe,
        });
    }
    let loaded = put(&files, kind, here.rules, &told, image.as_ref());
    if let Some(image) = &mut image {
        image.forget_seed();
    }
    loaded?;
    if kind == Kind::Kdump {
        told.notes.push(hotplug(loading::line("/sys/devices/system/cpu/crash_hotplug").as_deref()));
    }
    output.print(&told, |style| told.text(style, false))?;
    Ok(Status::Safe)
}

/// What only the running kernel tells.
#[derive(Default)]
struct Here {
    boot_params: Option<Vec<u8>>,
    runtime_map: Directory,
    rules: Rules,
    kho: Vec<identmap::PhysRange>,
    c_bit: Option<u8>,
    crc32: bool,
    crash: Option<Result<CrashFacts, String>>,
    unlike: Vec<Vec<identmap::PhysRange>>,
    rng_seed: Option<RngSeed>,
}

impl Here {
    fn of(machine: &Machine, kind: Kind) -> Here {
        let ram = || -> Vec<identmap::PhysRange> {
            let layout = Layout::of(machine);
            layout
                .iter()
                .flat_map(|layout| layout.of_kind(identmap_machine::MemType::Usable))
                .collect()
        };
        Here {
            boot_params: loading::boot_params(),
            runtime_map: live::directory("/sys/firmware/efi/runtime-map", 1),
            rules: loading::rules(machine, kind),
            kho: loading::kho_scratch(),
            c_bit: loading::c_bit(),
            crc32: loading::has_crc32(),
            crash: (kind == Kind::Kdump).then(|| loading::crash_facts(&ram())),
            unlike: record::segment_lists(kind),
            rng_seed: seed(),
        }
    }
}

/// For the next kernel's random numbers; none while this one has none, as `setup_rng_seed()` does
/// (`arch/x86/kernel/kexec-bzimage64.c`, Linux 6.12).
fn seed() -> Option<RngSeed> {
    let mut bytes = [0; RngSeed::LEN];
    let drawn = syscall::random(&mut bytes);
    let seed = drawn.ok().and_then(|()| RngSeed::new(bytes));
    bytes.fill(0);
    // Or the compiler leaves out a write that nobody reads.
    std::hint::black_box(&bytes);
    seed
}

fn choose(args: &Load, rules: Rules) -> Choice {
    if args.kexec_file_syscall {
        Choice { call: Call::FileLoad, why: "-s: the map will be the kernel's own, not ours" }
    } else if args.kexec_syscall {
        Choice { call: Call::Load, why: "-c: the map is ours" }
    } else if args.source.is_some() {
        Choice { call: Call::Load, why: "the map is ours" }
    } else {
        rules.choose()
    }
}

fn consumer(args: &Load, file: &KernelFile) -> Result<Consumer, Failure> {
    let mut consumer = source::consumer(&args.facts)?;
    if consumer.version.is_none() {
        let release = file.uname.clone().or_else(|| match &file.kernel {
            format::Kernel::BzImage(bytes) => version_string(bytes),
            format::Kernel::Elf(_) => None,
        });
        consumer.version = release.and_then(|text| KernelVersion::parse(&text, None).ok());
    }
    Ok(consumer)
}

/// The release that a bzImage carries: `kernel_version` points to it, less 0x200 (boot.rst).
fn version_string(image: &[u8]) -> Option<String> {
    let at = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let text = image.get(usize::from(at).checked_add(0x200)?..)?;
    let end = text.iter().take(256).position(|&byte| byte == 0 || byte == b' ')?;
    let text = std::str::from_utf8(&text[..end]).ok()?;
    (at != 0 && !text.is_empty()).then(|| text.to_owned())
}

#[allow(clippy::too_many_arguments, reason = "all of it decides an image")]
fn image(
    args: &Load,
    machine: &Machine,
    kind: Kind,
    here: &Here,
    file: &KernelFile,
    initrd: &[u8],
    cmdline: &str,
    consumer: &Consumer,
) -> Result<(Image, Vec<String>), Failure> {
    let mut notes = Vec::new();
    if let (Some(Err(why)), false) = (&here.crash, machine.crash_kernels.is_empty()) {
        return Err(Failure(format!("the crash kernel's core header cannot be made: {why}")));
    }
    let efi = match loading::efi(machine, &here.runtime_map) {
        Ok(efi) => Some(efi),
        Err(why) => {
            notes.push(format!("EFI is not handed over: {why}"));
            None
        }
    };
    if here.boot_params.is_none() {
        notes.push(
            "screen, disks and secure boot are not handed over: /sys/kernel/boot_params/data was not read"
                .to_owned(),
        );
    }
    let (handover, efi_map) = match efi {
        Some((handover, map)) => (Some(handover), map),
        None => (None, Vec::new()),
    };
    let choice = args.map.choice(&args.facts.map);
    // `orig_video_isVGA` of screen_info is VIDEO_TYPE_VGAC (1) in text mode (include/uapi/linux/screen_info.h).
    let vga = here.boot_params.as_deref().and_then(|bytes| bytes.get(0x0f)) == Some(&1);
    let job = Job {
        machine,
        kind,
        kernel: &file.kernel,
        initrd,
        cmdline,
        running: here.boot_params.as_deref(),
        efi: handover,
        efi_map: &efi_map,
        consumer,
        map: &choice,
        c_bit: here.c_bit,
        keep: &here.kho,
        verify: !args.no_verify,
        serial: serial(args, cmdline),
        vga,
        crc_instruction: here.crc32,
        crash: here.crash.as_ref().and_then(|facts| facts.as_ref().ok()),
        unlike: &here.unlike,
        rng_seed: here.rng_seed.as_ref(),
    };
    let image = job.image().map_err(|error| {
        let what = match error {
            LoadError::Kernel(_) | LoadError::Elf(_) => format!("{}: ", args.kernel.display()),
            _ => String::new(),
        };
        Failure(format!("{what}{error}"))
    })?;
    Ok((image, notes))
}

/// What becomes of a crash image when processors or memory come and go (`crash_hotplug` in
/// `Documentation/ABI/testing/sysfs-devices-system-cpu`, since 6.6: of the image that is loaded).
fn hotplug(told: Option<&str>) -> String {
    match told {
        Some("1") => "the kernel keeps the core header up to date as processors and memory come and go",
        _ => "when processors or memory come or go, load the crash kernel again: its core header stays as it is",
    }
    .to_owned()
}

/// The port of the console that the next kernel is told of, if it is one of the four.
fn serial(args: &Load, cmdline: &str) -> Option<Serial> {
    /// `old_serial_port` of `arch/x86/include/asm/serial.h` (Linux 6.12): ttyS0 to ttyS3.
    const PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
    match args.serial {
        Some(SerialChoice::None) => return None,
        Some(SerialChoice::Port(port)) => return Some(Serial::Port(port)),
        None => {}
    }
    let console =
        cmdline.split_whitespace().rev().find_map(|word| word.strip_prefix("console=ttyS"));
    let number: usize = console?.split(',').next()?.parse().ok()?;
    PORTS.get(number).map(|&port| Serial::Port(port))
}

/// The machine that is judged: that no crash image is loaded is no reason not to load one, and an image that is
/// loaded for `kexec -e` gives way to this one.
fn as_if_loaded(machine: &Machine, kind: Kind) -> Machine {
    let mut machine = machine.clone();
    match kind {
        Kind::Kexec => machine.kexec_loaded = None,
        Kind::Kdump => machine.kexec_crash_loaded = Some(true),
    }
    machine
}

fn of_our_map(machine: &Machine, kind: Kind, consumer: Consumer, image: &Image) -> Vec<Finding> {
    let mut machine = as_if_loaded(machine, kind);
    machine.segments =
        image.segments.iter().map(|segment| Segment { range: segment.range }).collect();
    let producer = source::producer(&machine);
    let tables = ImageTables::NotRead("it is not loaded yet".to_owned());
    let question =
        Question { machine: &machine, producer, consumer, kind, tables, entries: &[], seen: None };
    check_own(&question, &image.coverage)
}

fn of_kernel_s_map(machine: &Machine, kind: Kind, consumer: Consumer) -> (Verdict, Vec<Finding>) {
    let machine = &as_if_loaded(machine, kind);
    let producer = source::producer(machine);
    let tables = ImageTables::NotRead("it is not loaded yet".to_owned());
    let audit =
        check(&Question { machine, producer, consumer, kind, tables, entries: &[], seen: None });
    (audit.verdict, audit.findings)
}

/// The system call, between the two steps of the record.
fn put(
    files: &Files,
    kind: Kind,
    rules: Rules,
    told: &Told,
    image: Option<&Image>,
) -> Result<(), Failure> {
    // Nothing else may fail once the image is announced: `?` would leave that standing.
    type Load<'a> = Box<dyn FnOnce() -> std::io::Result<()> + 'a>;
    let (call, load): (Call, Load<'_>) = if let Some(image) = image {
        let update = image.update_elfcorehdr;
        let load = move || syscall::kexec_load(image.entry, &image.segments, kind, update);
        (Call::Load, Box::new(load))
    } else {
        let (kernel, initrd) = files.to_hand_over()?;
        let load = move || syscall::kexec_file_load(kernel, initrd, &told.command_line, kind);
        (Call::FileLoad, Box::new(load))
    };
    let segments: Vec<_> =
        image.iter().flat_map(|image| image.segments.iter().map(|s| s.range)).collect();
    let before = if image.is_none() { record::held(kind).ok() } else { None };
    let shown = told.kernel.display().to_string();
    Record::new(&call.to_string(), &shown, &told.command_line, &told.verdict, &segments, before)
        .announce(kind)?;
    if let Err(error) = load() {
        record::withdraw(kind);
        let why = explain(call, error.raw_os_error().unwrap_or(0), kind, rules);
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        return Err(Failure(format!("{call}: {error}{why}; what was loaded before stays")));
    }
    record::commit(kind)
        .map_err(|error| Failure(format!("the image is loaded, but not its record: {error}")))
}

fn command_line(args: &Load, file: &KernelFile, machine: &Machine) -> Result<String, Failure> {
    let base = match (&args.command_line, args.reuse_cmdline) {
        (Some(line), _) => line.clone(),
        (None, true) => {
            let line = machine.cmdline.as_deref();
            let line =
                line.ok_or_else(|| Failure::new("--reuse-cmdline: no command line is known"))?;
            // What is the running kernel's alone: its file, its core header, and for a crash kernel the
            // reservation (kexec-tools' `get_command_line()` and `remove_parameter()`).
            let own = ["BOOT_IMAGE", "elfcorehdr", "crashkernel"];
            cmdline::without(line, if args.crash { &own } else { &own[..2] })
        }
        (None, false) => file.cmdline.clone().unwrap_or_default(),
    };
    let mut line = match args.append.as_deref() {
        Some(more) => cmdline::with(&base, more),
        None => base.trim().to_owned(),
    };
    if args.crash {
        // Whoever makes the image says where its core header is; another one behind it would count.
        line = cmdline::without(&line, &["elfcorehdr"]);
    }
    if line.bytes().any(|byte| byte == 0 || byte == b'\n') {
        return Err(Failure::new("the command line has a line end or a zero in it"));
    }
    Ok(line)
}

/// The schema `identmap.load/1`.
#[derive(Serialize)]
struct Told {
    schema: &'static str,
    action: &'static str,
    verdict: String,
    judged_by: String,
    findings: Vec<FindingRow>,
    call: String,
    call_why: String,
    kernel: PathBuf,
    format: String,
    command_line: String,
    initrd_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_entry: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cr3: Option<Hex>,
    segments: Vec<SegmentRow>,
    wanted: Vec<WantedRow>,
    e820: Vec<RegionRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<MapReport>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct SegmentRow {
    name: &'static str,
    #[serde(flatten)]
    range: HexRange,
    bytes: u64,
    why: &'static str,
}

#[derive(Serialize)]
struct WantedRow {
    #[serde(flatten)]
    range: HexRange,
    what: String,
}

#[derive(Serialize)]
struct RegionRow {
    #[serde(flatten)]
    range: HexRange,
    kind: String,
}

#[derive(Serialize)]
struct FindingRow {
    id: &'static str,
    severity: String,
    #[serde(flatten)]
    range: Option<HexRange>,
    what: String,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    confidence: String,
}

impl FindingRow {
    fn new(finding: &Finding) -> FindingRow {
        FindingRow {
            id: finding.id,
            severity: finding.severity.to_string(),
            range: finding.range.map(HexRange::from),
            what: finding.what.clone(),
            why: finding.why.clone(),
            remedy: finding.remedy.clone(),
            confidence: finding.confidence.to_string(),
        }
    }
}

impl Told {
    fn new(args: &Load, cmdline: &str, choice: Choice, file: &KernelFile, initrd: usize) -> Told {
        let mut format: Vec<String> = file.layers.iter().map(ToString::to_string).collect();
        format.push(file.format.to_string());
        Told {
            schema: "identmap.load/1",
            action: "",
            verdict: String::new(),
            judged_by: String::new(),
            findings: Vec::new(),
            call: choice.call.to_string(),
            call_why: choice.why.to_owned(),
            kernel: args.kernel.clone(),
            format: format.join(" > "),
            command_line: cmdline.to_owned(),
            initrd_bytes: initrd as u64,
            entry: None,
            kernel_entry: None,
            cr3: None,
            segments: Vec::new(),
            wanted: Vec::new(),
            e820: Vec::new(),
            map: None,
            notes: Vec::new(),
        }
    }

    fn describe(&mut self, image: &Image) {
        self.command_line.clone_from(&image.cmdline);
        self.entry = Some(image.entry.into());
        self.kernel_entry = Some(Hex(image.kernel_entry));
        self.cr3 = Some(Hex(image.root));
        let segment = |segment: &identmap_kexec::Segment| SegmentRow {
            name: segment.name,
            range: segment.range.into(),
            bytes: segment.bytes.len() as u64,
            why: segment.why,
        };
        self.segments = image.segments.iter().map(segment).collect();
        let wanted = |(range, what): &(identmap::PhysRange, String)| WantedRow {
            range: (*range).into(),
            what: what.clone(),
        };
        self.wanted = image.wanted.iter().map(wanted).collect();
        let region = |region: &identmap_machine::Region| RegionRow {
            range: region.range.into(),
            kind: region.kind.to_string(),
        };
        self.e820 = image.e820.iter().map(region).collect();
        self.map = Some(MapReport::new("the image", &image.coverage, &image.forbidden));
    }

    fn text(&self, style: Style, whole: bool) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "kernel    {} ({})", self.kernel.display(), self.format);
        let _ = writeln!(text, "line      {}", self.command_line);
        let _ = writeln!(text, "call      {}: {}", self.call, self.call_why);
        if whole {
            self.plan(style, &mut text);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note      {note}");
        }
        for finding in self.findings.iter().filter(|f| whole || f.severity != "info") {
            let place = finding.range.map_or_else(String::new, |range| {
                format!("{:#018x}-{:#018x}  ", range.start.0, range.end.0)
            });
            let _ = writeln!(text, "{:<9} {place}{}: {}", finding.id, finding.what, finding.why);
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "          do: {remedy}");
            }
        }
        let tone = match self.verdict.as_str() {
            "safe" => Tone::Good,
            "unsafe" => Tone::Bad,
            _ => Tone::Doubt,
        };
        let verdict = style.paint(tone, &self.verdict.to_uppercase());
        let _ = writeln!(text, "\n{verdict}  by {}", self.judged_by);
        let _ = writeln!(
            text,
            "{}",
            match self.action {
                "loaded" => "loaded; identmap exec jumps",
                "refused" => "not loaded; --force loads it all the same",
                _ => "nothing was loaded",
            }
        );
        text
    }

    fn plan(&self, style: Style, text: &mut String) {
        if let (Some(entry), Some(kernel), Some(cr3)) = (&self.entry, &self.kernel_entry, &self.cr3)
        {
            let _ = writeln!(
                text,
                "way       {:#x}, then {:#x} with CR3 {:#x}",
                entry.0, kernel.0, cr3.0
            );
        }
        if self.segments.is_empty() {
            return;
        }
        text.push('\n');
        let mut table = Columns::new(&["segment", "range", ">bytes", "what for"]);
        for row in &self.segments {
            let range = format!("{:#018x}-{:#018x}", row.range.start.0, row.range.end.0);
            table.row(vec![row.name.to_owned(), range, row.bytes.to_string(), row.why.to_owned()]);
        }
        text.push_str(&table.render("  ", style));
        if let Some(map) = &self.map {
            text.push('\n');
            text.push_str(&map.text(style));
        }
        text.push('\n');
    }
}
