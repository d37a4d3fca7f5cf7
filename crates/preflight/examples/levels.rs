//! From 5 levels of page tables to 4, and back: what consumers make of the producer's tables.
//!
//! Producers since d0ceea662d45 set bit 58 in the entries of their root; a consumer before 6.1.160 takes it for a
//! part of the address when it goes from 5 levels to 4.
//!
//! `cargo run --release -p identmap-preflight --example levels -- [KERNELS]`, where KERNELS is the directory
//! that `lab/fetch.sh` fills (default: `.cache/kernels`).

use std::path::PathBuf;

use identmap::PhysRange;
use identmap_linux::boot::Strategy;
use identmap_linux::{KernelVersion, Producer};
use identmap_machine::{Layout, parse, sample};
use identmap_preflight::{Content, CpuProfile, Limits, Setup, run};

fn main() {
    let kernels =
        std::env::args().nth(1).map_or_else(|| PathBuf::from(".cache/kernels"), PathBuf::from);
    let sample = sample("laptop-2024").expect("built in");
    let mut machine = parse::machine(sample.name, sample.bytes).expect("it is tested");
    machine.efi.booted = Some(false);
    let layout = Layout::of(&machine).expect("the sample has a memory map");
    for series in ["5.10", "6.1", "6.12", "7.x"] {
        let path = kernels.join(series).join("vmlinuz");
        let Ok(image) = std::fs::read(&path) else {
            eprintln!("{} is missing: lab/fetch.sh {series}", path.display());
            continue;
        };
        for release in ["6.1.150", "7.2.13"] {
            let version = KernelVersion::parse(release, None).expect("a release");
            let traits = *Producer::of(Some(version)).traits().certain().expect("one answer");
            for (from, cmdline) in [(4, "no5lvl"), (4, ""), (5, ""), (5, "no5lvl")] {
                machine.cpu.la57_active = Some(from == 5);
                let setup = Setup {
                    machine: &machine,
                    layout: &layout,
                    image: &image,
                    cmdline,
                    initrd_len: 0,
                    strategy: Strategy::TopDown,
                    cpu: CpuProfile::named("amd-nosev-la57").expect("a profile"),
                    known: &[bios_data_area()],
                    limits: Limits::default(),
                };
                let loaded = setup.load().expect("the kernel can be placed");
                let report = run(&loaded.under(&traits, true).expect("a map")).expect("sound");
                let pages: Vec<String> =
                    report.touched.iter().map(|touch| touch.page.to_string()).collect();
                println!(
                    "{release:8} {from} levels -> {series:5} {cmdline:7} {}; {}",
                    report.outcome,
                    pages.join(" ")
                );
            }
        }
    }
}

/// What a consumer that was booted without EFI reads to find low memory: the segment of the extended
/// BIOS data area at 0x40e, and KiB of low memory at 0x413.
fn bios_data_area() -> Content {
    let mut bytes = vec![0; 0x100];
    bytes[0x0e..0x10].copy_from_slice(&0x9fc0_u16.to_le_bytes());
    bytes[0x13..0x15].copy_from_slice(&639_u16.to_le_bytes());
    let range = PhysRange::from_len(0x400, 0x100).expect("a range");
    Content { name: "BIOS data area".to_owned(), range, bytes, loaded: false }
}
