//! What real kernels touch before they own their page tables: the table of facts, remade.
//!
//! `cargo run --release -p identmap-preflight --example consumers -- [KERNELS]`, where KERNELS is the
//! directory that `lab/fetch.sh` fills (default: `.cache/kernels`).

use std::path::PathBuf;
use std::process::ExitCode;

use identmap::{Config, Levels, PhysAddr, PhysRange};
use identmap_audit::{MapInput, PolicyKind, SlackKind};
use identmap_linux::boot::Strategy;
use identmap_machine::{ConfigTable, Layout, Machine, MapEntry, MapOrigin, MemMap, MemType};
use identmap_preflight::{CpuProfile, Limits, Loaded, Setup, run};

const SYSTEM_TABLE: u64 = 0xbe42_b018;
const CONFIG_TABLE: u64 = 0xbe42_8000;

fn main() -> ExitCode {
    let kernels =
        std::env::args().nth(1).map_or_else(|| PathBuf::from(".cache/kernels"), PathBuf::from);
    let mut failed = false;
    for series in ["5.10", "6.1", "6.12", "7.x"] {
        let path = kernels.join(series).join("vmlinuz");
        let Ok(image) = std::fs::read(&path) else {
            eprintln!("{} is missing: lab/fetch.sh {series}", path.display());
            failed = true;
            continue;
        };
        for cpu in ["amd-nosev", "amd-sev", "intel"] {
            for holes in [false, true] {
                one(series, &image, cpu, holes);
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn one(series: &str, image: &[u8], cpu: &str, holes: bool) {
    let machine = machine();
    let layout = Layout::of(&machine).expect("a memory map");
    let setup = Setup {
        machine: &machine,
        layout: &layout,
        image,
        cmdline: "console=ttyS0",
        initrd_len: 4 << 20,
        strategy: Strategy::TopDown,
        cpu: CpuProfile::named(cpu).expect("a profile"),
        known: &[],
        limits: Limits::default(),
    };
    let loaded = setup.load().expect("the kernel can be placed");
    let report = run(&scene(&loaded, holes)).expect("a sound scene");
    let map = if holes { "EFI pages unmapped" } else { "all mapped" };
    println!(
        "{series:5} {cpu:10} {map:18} {:7.3} s {:9} instructions  {}",
        report.time.as_secs_f64(),
        report.instructions,
        report.outcome
    );
    for touch in &report.touched {
        let what = touch.what.as_ref().map_or("", |(_, name)| name.as_str());
        let at = touch.at.as_ref().map_or_else(|| touch.rip.to_string(), ToString::to_string);
        println!("        {} {:5} by {at:18} {what}", touch.page, touch.first);
    }
}

/// 4 GiB of memory, mapped with the largest pages, but for the two tables' pages if wanted.
fn scene(loaded: &Loaded<'_>, holes: bool) -> identmap_preflight::Scene {
    let all = [PhysRange::new(0, 1 << 32).expect("a range")];
    let page = |addr: u64| PhysRange::from_len(addr & !0xfff, 4096).expect("a range");
    let holes: &[PhysRange] = if holes { &[page(CONFIG_TABLE), page(SYSTEM_TABLE)] } else { &[] };
    let wanted = identmap_machine::ranges::subtract(&all, holes);
    let map = MapInput {
        config: Config::kexec(Levels::Four, true),
        policy: PolicyKind::Guarded,
        uv: false,
        requests: &wanted,
        forbidden: holes,
        slack: SlackKind::None,
        ram: &[],
    };
    loaded.scene(&map).expect("tables")
}

fn machine() -> Machine {
    let mut machine = Machine { source: "example".to_owned(), ..Machine::default() };
    let entry = |start, last, kind| MapEntry { start, last, kind, line: 0 };
    machine.maps.push(MemMap {
        origin: MapOrigin::BiosE820,
        entries: vec![
            entry(0, 0x9_ffff, MemType::Usable),
            entry(0xf_0000, 0xf_ffff, MemType::Reserved),
            entry(0x10_0000, 0xbe3f_ffff, MemType::Usable),
            entry(0xbe40_0000, 0xbe4f_ffff, MemType::Reserved),
        ],
    });
    machine.efi.booted = Some(true);
    machine.efi.is_64bit = Some(true);
    machine.efi.system_table = PhysAddr::new(SYSTEM_TABLE);
    machine.efi.config_table =
        PhysAddr::new(CONFIG_TABLE).map(|address| ConfigTable { address, entries: Some(13) });
    machine
}
