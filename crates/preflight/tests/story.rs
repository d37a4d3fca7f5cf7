//! The story of 2024, remade: the machine of the first report; producers of every class with and without
//! 1 GiB pages; consumers before and after 5.19; processors with and without SEV in CPUID. Each verdict is held
//! against what was reported or follows from the commits, and where something is missing, the diagnosis has to
//! find just that.
//!
//! It takes Debian's kernels, as `lab/fetch.sh 5.10 6.1 6.12 7.x` fetches them into `$IDENTMAP_CACHE/kernels`
//! (`.cache/kernels`). Without them nothing is tested, and that is said; with `IDENTMAP_KERNELS_NEEDED` set, as
//! in `cargo xtask ci`, it is a failure. In a debug build it takes minutes: `cargo test --release`.

use std::path::{Path, PathBuf};

use identmap::{PhysAddr, PhysRange};
use identmap_audit::{
    Audit, Ended, ImageTables, Question, Severity, Trial, Verdict, check, requested_by,
};
use identmap_linux::boot::{BzImage, Strategy};
use identmap_linux::{Class, Consumer, KernelVersion, Kind, Producer};
use identmap_machine::{ConfigTable, CpuVendor, Layout, Machine, Segment, hazards, parse, sample};
use identmap_preflight::judge::{Jump, Observed, Runs};
use identmap_preflight::{Content, CpuProfile, Limits, Outcome, Setup, run};

/// Where it lay was never posted; only in `0xc7600000-0xcb5fffff` does the story come out as reported
/// (exact leaves that part of "Reserved" unmapped, round-out maps it).
const CONFIG_TABLE: u64 = 0xc7a0_1018;
const ENTRIES: u64 = 15;
/// Requested by every producer since 5.3, so its place decides nothing.
const SYSTEM_TABLE: u64 = 0xcb66_1018;

const PRODUCERS: [(&str, Class); 4] =
    [("6.1.76", Class::A), ("6.1.79", Class::B), ("6.1.150", Class::C), ("6.12.30", Class::D)];

#[test]
fn before_5_19_nothing_is_needed() {
    story("5.10", false);
}

#[test]
fn linux_6_1_needs_the_table_with_sev() {
    story("6.1", true);
}

#[test]
fn linux_6_12_needs_the_table_with_sev() {
    story("6.12", true);
}

#[test]
fn linux_7_needs_the_table_with_sev() {
    story("7.x", true);
}

/// All jumps into one consumer; `reads`: whether it reads the table early on a processor with SEV.
fn story(series: &str, reads: bool) {
    let Some(image) = kernel(series) else { return };
    let mut failed = 0;
    for (name, sev) in [("amd-sev", true), ("amd-nosev", false)] {
        let machine = machine(sev);
        let layout = Layout::of(&machine).unwrap();
        let setup = Setup {
            machine: &machine,
            layout: &layout,
            image: &image,
            cmdline: "root=/dev/nvme0n1p2 quiet",
            initrd_len: 40 << 20,
            strategy: Strategy::TopDown,
            cpu: CpuProfile::named(name).unwrap(),
            known: &[],
            limits: Limits::default(),
        };
        let loaded = setup.load().unwrap();
        let hazards = hazards(&machine);
        for (release, class) in PRODUCERS {
            let version = KernelVersion::parse(release, None).unwrap();
            let producer = Producer::of(Some(version));
            let traits = *producer.traits().certain().unwrap();
            assert_eq!(traits.class(), class, "{release}");
            for gbpages in [true, false] {
                let mut engine = run;
                let mut runs = Runs::new(&mut engine);
                let jump = Jump {
                    loaded: &loaded,
                    producer: &producer,
                    traits,
                    gbpages,
                    entries: &[],
                    hazards: &hazards,
                };
                let story = format!("{release} ({class}), gbpages {gbpages} -> {series} on {name}");
                let observed = jump.observe(&mut runs).unwrap();
                let mut loaded_machine = machine.clone();
                let segments = loaded.segments().into_iter();
                loaded_machine.segments = segments.map(|range| Segment { range }).collect();
                loaded_machine.direct_gbpages = Some(gbpages);
                let audit = judged(&loaded_machine, &producer, &image, &observed, &[]);
                // The table is missed by those who need it and do not request it, unless 1 GiB
                // pages happen to cover it.
                let needed = reads && sev;
                let by_luck = class == Class::A && gbpages;
                let asked = matches!(class, Class::C | Class::D);
                if !needed || asked || by_luck {
                    assert!(matches!(observed.report.outcome, Outcome::Reached { .. }), "{story}");
                    assert_eq!(observed.diagnosis, None, "{story}");
                    assert_eq!(audit.verdict, Verdict::Safe, "{story}: {:?}", audit.findings);
                    let lucky = audit.findings.iter().filter(|f| f.id == "luck").count();
                    assert_eq!(lucky, usize::from(needed && by_luck), "{story}");
                } else {
                    failed += 1;
                    fails(&story, &jump, &observed, &audit);
                    let (_, general) = jump.diagnose_and_generalise(&mut runs);
                    assert_eq!(general.rules.len(), 1, "{story}");
                    assert_eq!(general.rules[0].id, "efi-config-table", "{story}");
                    assert_eq!((general.trial, general.conflict), (Trial::Safe, None), "{story}");
                    let entries = [page()];
                    let mended = Jump { entries: &entries, ..jump }.observe(&mut runs).unwrap();
                    let audit = judged(&loaded_machine, &producer, &image, &mended, &entries);
                    assert_eq!(audit.verdict, Verdict::Safe, "{story}: {:?}", audit.findings);
                    assert_eq!(mended.diagnosis, None, "{story}");
                }
            }
        }
    }
    assert_eq!(failed, if reads { 3 } else { 0 }, "A without 1 GiB pages, and B twice");
}

fn fails(story: &str, jump: &Jump<'_>, observed: &Observed, audit: &Audit) {
    assert_eq!(audit.verdict, Verdict::Unsafe, "{story}");
    let errors: Vec<_> = audit.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{story}: {errors:?}");
    let fault = errors[0];
    assert_eq!((fault.id, fault.what.as_str()), ("preflight-fault", "EFI configuration table"));
    assert_eq!(fault.range, Some(table()), "{story}");
    assert!(fault.why.contains("by kernel+0x"), "{story}: {}", fault.why);
    assert!(fault.why.contains("the machine resets"), "{story}: {}", fault.why);
    // The commit and the releases are the history's.
    let by =
        requested_by(jump.loaded.machine(), Some(jump.loaded.layout()), Kind::Kexec, &[table()]);
    assert!(!by.is_empty());
    let remedy = fault.remedy.as_deref().unwrap();
    for releases in by {
        assert!(remedy.contains(&releases.from.to_string()), "{story}: {remedy}");
    }
    assert!(fault.why.contains("5760929f6545"), "{story}: {}", fault.why);
    assert!(fault.why.contains(&format!("class {}", jump.traits.class())), "{story}");

    let diagnosis = observed.diagnosis.as_ref().unwrap();
    assert_eq!(diagnosis.ended, Ended::Safe, "{story}");
    assert!(diagnosis.is_proved(), "{story}");
    assert_eq!(diagnosis.ranges(), [page()], "{story}");
    let Trial::Missing(addr) = diagnosis.entries[0].without else { panic!("{story}") };
    assert!(table().contains(addr), "{story}");
}

/// `identmap check --kernel` without its command line.
fn judged(
    machine: &Machine,
    producer: &Producer,
    image: &[u8],
    observed: &Observed,
    entries: &[PhysRange],
) -> Audit {
    let banner = BzImage::parse(image).unwrap().version().unwrap();
    let release = banner.split(' ').next().unwrap();
    let version = KernelVersion::parse(release, Some(banner)).ok();
    assert!(version.is_some(), "{banner}");
    check(&Question {
        machine,
        producer: producer.clone(),
        consumer: Consumer { version, ..Consumer::default() },
        kind: Kind::Kexec,
        tables: ImageTables::NotRead("a test".to_owned()),
        entries,
        seen: Some(std::slice::from_ref(&observed.seen)),
    })
}

fn table() -> PhysRange {
    PhysRange::from_len(CONFIG_TABLE, ENTRIES * 24).unwrap()
}

fn page() -> PhysRange {
    PhysRange::from_len(CONFIG_TABLE & !0xfff, 0x1000).unwrap()
}

fn machine(sev: bool) -> Machine {
    let sample = sample("laptop-2024").unwrap();
    let mut machine = parse::machine(sample.name, sample.bytes).unwrap();
    machine.efi.booted = Some(true);
    machine.efi.is_64bit = Some(true);
    machine.efi.system_table = PhysAddr::new(SYSTEM_TABLE);
    machine.efi.config_table =
        PhysAddr::new(CONFIG_TABLE).map(|address| ConfigTable { address, entries: Some(ENTRIES) });
    machine.cpu.vendor = Some(CpuVendor::Amd);
    machine.cpu.sev = Some(sev);
    machine.cpu.pdpe1gb = Some(true);
    machine.cpu.la57 = Some(false);
    machine
}

fn kernel(series: &str) -> Option<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("IDENTMAP_CACHE").map_or(root.join(".cache"), PathBuf::from);
    let path = cache.join("kernels").join(series).join("vmlinuz");
    match std::fs::read(&path) {
        Ok(image) => Some(image),
        Err(error) => {
            let why = format!("{}: {error} (lab/fetch.sh {series})", path.display());
            assert!(std::env::var_os("IDENTMAP_KERNELS_NEEDED").is_none(), "{why}");
            eprintln!("NOT TESTED: {why}");
            None
        }
    }
}

/// A kernel that is told of a system table whose content is not known, and reads it, may do anything. It was
/// taken to come up: the copy of what it had read, on its stack, counted as known.
/// (`Setup::load` refuses a table of which nothing is known; a byte gets past that.)
#[test]
fn a_system_table_that_is_not_known_is_no_answer() {
    for series in ["5.10", "6.1", "6.12", "7.x"] {
        let Some(image) = kernel(series) else { return };
        let mut machine = machine(true);
        machine.efi.config_table = None;
        let layout = Layout::of(&machine).unwrap();
        let byte = Content {
            name: "EFI system table".to_owned(),
            range: PhysRange::from_len(SYSTEM_TABLE, 1).unwrap(),
            bytes: vec![0x49],
            loaded: false,
        };
        let setup = Setup {
            machine: &machine,
            layout: &layout,
            image: &image,
            cmdline: "root=/dev/nvme0n1p2 quiet",
            initrd_len: 40 << 20,
            strategy: Strategy::TopDown,
            cpu: CpuProfile::named("amd-sev").unwrap(),
            known: std::slice::from_ref(&byte),
            limits: Limits::default(),
        };
        let loaded = setup.load().unwrap();
        let version = KernelVersion::parse("6.12.30", None).unwrap();
        let traits = *Producer::of(Some(version)).traits().certain().unwrap();
        let report = run(&loaded.under(&traits, true).unwrap()).unwrap();
        if series == "5.10" {
            assert!(matches!(report.outcome, Outcome::Reached { .. }), "{}", report.outcome);
            assert!(report.touched.iter().all(|touch| touch.page.get() != SYSTEM_TABLE & !0xfff));
        } else {
            assert!(matches!(report.outcome, Outcome::Unknown(_)), "{series}: {}", report.outcome);
        }
    }
}
