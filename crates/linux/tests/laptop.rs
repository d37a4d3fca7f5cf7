//! The AMD laptop of the 2024 regression: requests and needs on a real memory map.
//!
//! `/proc/iomem` as its owner posted it:
//! <https://lore.kernel.org/all/0d9ce519-7b87-48e4-a374-33ae0df8f730@pavinjoseph.com/>

use identmap::{Config, Levels, PhysAddr, PhysRange, Plan, Policy, Slot};
use identmap_linux::firmware::{Basis, efi_table_candidates};
use identmap_linux::needs::{self, BIOS_DATA_AREA, EFI_CONFIG_TABLE, EFI_SYSTEM_TABLE, TRAMPOLINE};
use identmap_linux::{
    Certainty, Condition, Consumer, KernelVersion, Kind, Need, Place, PolicyKind, Producer,
    RequestSource, Traits, Unknown, requests,
};
use identmap_machine::{
    ConfigTable, CpuVendor, CrashKernel, EfiDescriptor, IomemEntry, Layout, Machine, Segment,
};

/// Top-level lines; the children are left out but for the one that hides RAM's seams.
const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009221f : System RAM
00092220-0009229f : System RAM
000922a0-0009828f : System RAM
00098290-0009829f : System RAM
000982a0-0009efff : System RAM
0009f000-0009ffff : Reserved
000e0000-000fffff : Reserved
00100000-09bfffff : System RAM
09c00000-09d90fff : Reserved
09d91000-09efffff : System RAM
09f00000-09f0efff : ACPI Non-volatile Storage
09f0f000-bf5a2017 : System RAM
bf5a2018-bf5af857 : System RAM
bf5af858-c3a60fff : System RAM
c3a61000-c3b54fff : Reserved
c3b55000-c443dfff : System RAM
c443e000-c443efff : Reserved
c443f000-c51adfff : System RAM
c51ae000-c51aefff : Reserved
c51af000-c747dfff : System RAM
c747e000-cb67dfff : Reserved
cb67e000-cd77dfff : ACPI Non-volatile Storage
cd77e000-cd7fdfff : ACPI Tables
cd7fe000-ce7fffff : System RAM
ce800000-cfffffff : Reserved
d0000000-f7ffffff : PCI Bus 0000:00
f8000000-fbffffff : PCI ECAM 0000 [bus 00-3f]
fec00000-fec003ff : IOAPIC 0
fed80000-fed80fff : Reserved
100000000-3af37ffff : System RAM
3af380000-42fffffff : Reserved
430000000-ffffffffff : PCI Bus 0000:00
";

fn r(start: u64, last: u64) -> PhysRange {
    PhysRange::from_inclusive(start, last).unwrap()
}

fn laptop() -> Machine {
    let entry = |(i, line): (usize, &str)| {
        let (range, name) = line.split_once(" : ").unwrap();
        let (start, last) = range.split_once('-').unwrap();
        let number = |hex| u64::from_str_radix(hex, 16).unwrap();
        let range = r(number(start), number(last));
        IomemEntry { range, depth: 0, name: name.to_owned(), line: i + 1 }
    };
    let mut machine =
        Machine { iomem: IOMEM.lines().enumerate().map(entry).collect(), ..Machine::default() };
    machine.efi.booted = Some(true);
    machine.efi.is_64bit = Some(true);
    machine.cpu.vendor = Some(CpuVendor::Amd);
    machine.crash_kernels = vec![
        CrashKernel { range: r(0xba000000, 0xbe7fffff) },
        CrashKernel { range: r(0x399000000, 0x3ae4fffff) },
    ];
    machine
}

fn version(release: &str) -> KernelVersion {
    KernelVersion::parse(release, None).unwrap()
}

fn traits(release: &str) -> Traits {
    *Producer::of(Some(version(release))).traits().certain().unwrap()
}

fn consumer(release: &str) -> Consumer {
    Consumer { version: Some(version(release)), ..Consumer::default() }
}

/// Whether a producer with these traits maps `at`, by the core's own plan.
fn is_mapped(
    machine: &Machine,
    traits: &Traits,
    policy: PolicyKind,
    gbpages: bool,
    at: u64,
) -> bool {
    let layout = Layout::of(machine).unwrap();
    let list = requests(machine, Some(&layout), traits, Kind::Kexec);
    let config = traits.config(machine, gbpages);
    let mut slots = vec![Slot::EMPTY; 4096];
    let plan = Plan::new(&config, &Policy::from(policy), &list.ranges(), &mut slots).unwrap();
    let at = PhysAddr::new(at).unwrap();
    plan.at(at).is_some()
}

#[test]
fn requests_come_in_the_order_of_init_pgtable() {
    let mut machine = laptop();
    machine.efi.system_table = PhysAddr::new(0xc9a01018);
    machine.efi.config_table =
        Some(ConfigTable { address: PhysAddr::new(0xc9a02098).unwrap(), entries: Some(15) });
    machine.segments = vec![
        Segment { range: r(0x100000000, 0x100ffffff) },
        Segment { range: r(0x3000000, 0x3000fff) },
    ];
    let layout = Layout::of(&machine).unwrap();
    let list = |release: &str| {
        let list = requests(&machine, Some(&layout), &traits(release), Kind::Kexec);
        list.requests.iter().map(|q| (q.range, q.source)).collect::<Vec<_>>()
    };
    let ram = [
        // The first MiB whole, and the RAM that touches it.
        r(0, 0x9bfffff),
        r(0x9d91000, 0x9efffff),
        // Three entries in iomem, one range of pfn_mapped[]: setup_data cuts no hole.
        r(0x9f0f000, 0xc3a60fff),
        r(0xc3b55000, 0xc443dfff),
        r(0xc443f000, 0xc51adfff),
        r(0xc51af000, 0xc747dfff),
        r(0xcd7fe000, 0xce7fffff),
        r(0x100000000, 0x3af37ffff),
    ];
    let mut want: Vec<_> = ram.iter().map(|&range| (range, RequestSource::DirectMap)).collect();
    // Segments keep the image's order.
    want.push((r(0x100000000, 0x100ffffff), RequestSource::Segment(0)));
    want.push((r(0x3000000, 0x3000fff), RequestSource::Segment(1)));
    want.push((r(0xc9a01018, 0xc9a0108f), RequestSource::EfiSystemTable));
    want.push((r(0xc9a02098, 0xc9a021ff), RequestSource::EfiConfigTable));
    want.push((r(0xcd77e000, 0xcd7fdfff), RequestSource::AcpiTables));
    want.push((r(0x9f00000, 0x9f0efff), RequestSource::AcpiNvs));
    want.push((r(0xcb67e000, 0xcd77dfff), RequestSource::AcpiNvs));
    assert_eq!(list("6.12.117"), want);

    // 6.1.192: the last byte of each ACPI region is missing.
    let mut older = want.clone();
    for (range, source) in &mut older {
        if matches!(source, RequestSource::AcpiTables | RequestSource::AcpiNvs) {
            *range = PhysRange::between(range.start(), range.last()).unwrap();
        }
    }
    assert_eq!(list("6.1.192"), older);
    // 5.10: the same without the configuration table; before 5.3 no firmware at all.
    older.retain(|(_, source)| *source != RequestSource::EfiConfigTable);
    assert_eq!(list("5.10.262"), older);
    older.truncate(10);
    assert_eq!(list("5.2.21"), older);
}

#[test]
fn what_is_not_known_is_listed_with_where_it_can_lie() {
    use Unknown::{EfiConfigTable, EfiSystemTable, MmioSerial, Segments, TransitionPage};

    let machine = laptop();
    let layout = Layout::of(&machine).unwrap();
    let unknown = |release: &str, kind| {
        let list = requests(&machine, Some(&layout), &traits(release), kind);
        list.unknown.iter().map(|u| u.what).collect::<Vec<_>>()
    };
    assert_eq!(
        unknown("7.2.13", Kind::Kexec),
        [Segments, EfiSystemTable, EfiConfigTable, MmioSerial, TransitionPage]
    );
    assert_eq!(unknown("6.1.76", Kind::Kexec), [Segments, EfiSystemTable, TransitionPage]);
    let list = requests(&machine, Some(&layout), &traits("6.12.0"), Kind::Kdump);
    let of = |what| list.unknown.iter().find(|u| u.what == what).unwrap();
    assert_eq!(of(Segments).candidates, [r(0xba000000, 0xbe7fffff), r(0x399000000, 0x3ae4fffff)]);
    assert_eq!(of(EfiConfigTable).basis, Some(Basis::ReservedNearRam));
    assert!(of(EfiConfigTable).candidates.contains(&r(0xc747e000, 0xcb67dfff)));

    let nothing = requests(&Machine::default(), None, &traits("6.12.0"), Kind::Kexec);
    assert_eq!(nothing.ranges(), [r(0, 0xfffff)]);
    assert_eq!(nothing.unknown[0].what, Unknown::DirectMap);

    let mut bios = laptop();
    bios.efi.booted = Some(false);
    bios.cmdline = Some("ro quiet".to_owned());
    let list = requests(&bios, Layout::of(&bios).as_ref(), &traits("7.2.13"), Kind::Kexec);
    assert_eq!(list.unknown.iter().map(|u| u.what).collect::<Vec<_>>(), [Segments, TransitionPage]);
}

#[test]
fn firmware_tables_lie_in_reserved_memory_by_the_ram_or_where_the_efi_map_says() {
    let mut machine = laptop();
    let layout = Layout::of(&machine).unwrap();
    let (basis, ranges) = efi_table_candidates(&machine, Some(&layout));
    assert_eq!(basis, Basis::ReservedNearRam);
    // Not the first MiB, not ECAM at 0xf8000000, not the APICs, not above 4 GiB.
    assert_eq!(
        ranges,
        [
            r(0x9c00000, 0x9d90fff),
            r(0xc3a61000, 0xc3b54fff),
            r(0xc443e000, 0xc443efff),
            r(0xc51ae000, 0xc51aefff),
            r(0xc747e000, 0xcb67dfff),
            r(0xce800000, 0xcfffffff),
        ]
    );
    let descriptor = |kind, range| EfiDescriptor { range, kind, attributes: 0, line: 0 };
    machine.efi.memory_map = vec![
        descriptor(5, r(0xc7480000, 0xc7480fff)),
        descriptor(6, r(0xc8480000, 0xc857ffff)),
        descriptor(6, r(0xc8580000, 0xc867ffff)),
    ];
    // It ends below the RAM above 4 GiB: the rest of it is lost, and runtime data with it.
    assert_eq!(efi_table_candidates(&machine, Some(&layout)).0, Basis::ReservedNearRam);
    machine.efi.memory_map.push(descriptor(7, r(0x100000000, 0x3af37ffff)));
    machine.lost.efi_map = true;
    assert_eq!(efi_table_candidates(&machine, Some(&layout)).0, Basis::ReservedNearRam);
    machine.lost.efi_map = false;
    let (basis, ranges) = efi_table_candidates(&machine, Some(&layout));
    assert_eq!((basis, ranges), (Basis::EfiMap, vec![r(0xc8480000, 0xc867ffff)]));
    assert_eq!(efi_table_candidates(&Machine::default(), None).1, []);
}

/// The owner's table: before the change kexec works and `nogbpages` breaks it; with it both fail.
#[test]
fn the_window_that_the_owner_found() {
    let machine = laptop();
    // Both sides of each edge of [0xc7600000, 0xcb600000).
    let window = [0xc7600000, 0xc9000000, 0xcb5fffff];
    let around = [0xc75fffff, 0xcb600000];
    for (release, policy, gbpages, mapped) in [
        ("6.7.5", PolicyKind::RoundOut, true, true),
        ("6.7.5", PolicyKind::RoundOut, false, false),
        ("6.7.6", PolicyKind::Exact, true, false),
        ("6.7.6", PolicyKind::Exact, false, false),
    ] {
        let traits = traits(release);
        assert_eq!(traits.policy, policy);
        for at in window {
            assert_eq!(
                is_mapped(&machine, &traits, policy, gbpages, at),
                mapped,
                "{release} {at:#x}"
            );
        }
        for at in around {
            assert!(is_mapped(&machine, &traits, policy, gbpages, at), "{release} {at:#x}");
        }
    }
}

/// The needs by one rule.
fn by(rule: &'static needs::NeedRule, machine: &Machine, consumer: &Consumer) -> Vec<Need> {
    let layout = Layout::of(machine);
    let all = needs::needs(machine, layout.as_ref(), consumer, Kind::Kexec);
    all.into_iter().filter(|n| n.rule.id == rule.id).collect()
}

#[test]
fn the_configuration_table_is_needed_by_version_and_processor() {
    let machine = |sev, vendor| {
        let mut machine = laptop();
        (machine.cpu.sev, machine.cpu.vendor) = (sev, vendor);
        machine
    };
    let (amd, intel) = (Some(CpuVendor::Amd), Some(CpuVendor::Intel));
    let certain = || Some(Certainty::Certain);
    let if_sev = || Some(Certainty::If(vec![Condition::SevInCpuid]));
    for (release, sev, vendor, want) in [
        // Not before the SNP code.
        ("5.10.262", Some(true), amd, None),
        ("5.18.19", Some(true), amd, None),
        // On any processor.
        ("5.19.0", None, None, certain()),
        ("5.19.17", Some(false), intel, certain()),
        ("6.1.45", Some(false), intel, certain()),
        ("6.4.10", None, intel, certain()),
        // With SEV in CPUID only.
        ("6.1.46", Some(false), amd, None),
        ("6.1.46", None, intel, None),
        ("6.1.46", Some(true), amd, certain()),
        ("6.1.46", None, amd, if_sev()),
        ("6.4.11", None, Some(CpuVendor::Hygon), if_sev()),
        ("6.5.0-rc5", Some(false), intel, certain()),
        ("6.5.0-rc6", Some(false), intel, None),
        ("7.2.13", None, None, if_sev()),
        ("7.2.13", Some(true), amd, certain()),
        ("7.2.13", None, intel, None),
    ] {
        for rule in [&EFI_SYSTEM_TABLE, &EFI_CONFIG_TABLE] {
            let found = by(rule, &machine(sev, vendor), &consumer(release));
            let got: Vec<Certainty> = found.into_iter().map(|n| n.certainty).collect();
            assert_eq!(
                got,
                want.iter().cloned().collect::<Vec<_>>(),
                "{release} {sev:?} {vendor:?}"
            );
        }
    }
}

#[test]
fn without_efi_info_nothing_of_efi_is_read() {
    let mut machine = laptop();
    machine.cpu.sev = Some(true);
    let none = |machine: &Machine, consumer: &Consumer| {
        by(&EFI_CONFIG_TABLE, machine, consumer).is_empty()
    };
    let new = consumer("7.2.13");
    assert!(!none(&machine, &new));
    assert!(none(&machine, &Consumer { efi_info: Some(false), ..new.clone() }));
    assert!(none(&machine, &Consumer { sev_code: Some(false), ..new.clone() }));
    machine.cmdline = Some("ro efi=debug,noruntime".to_owned());
    let found = by(&EFI_CONFIG_TABLE, &machine, &new);
    assert_eq!(found[0].certainty, Certainty::If(vec![Condition::EfiInfoHandedOver]));
    machine.efi.booted = Some(false);
    assert!(none(&machine, &new));
}

#[test]
fn a_table_is_placed_as_far_as_it_is_known() {
    let mut machine = laptop();
    machine.cpu.sev = Some(true);
    let new = consumer("6.12.0");
    let place = |machine: &Machine| by(&EFI_CONFIG_TABLE, machine, &new)[0].place.clone();
    let Place::Within { ranges, basis, .. } = place(&machine) else { panic!("known?") };
    assert!(ranges.contains(&r(0xc747e000, 0xcb67dfff)) && basis == Some(Basis::ReservedNearRam));
    let address = PhysAddr::new(0xc7a01000).unwrap();
    machine.efi.config_table = Some(ConfigTable { address, entries: Some(15) });
    assert_eq!(place(&machine), Place::Known(r(0xc7a01000, 0xc7a01167)));
    machine.efi.config_table = Some(ConfigTable { address, entries: None });
    assert_eq!(place(&machine), Place::Known(r(0xc7a01000, 0xc7a01017)));
    let rest = by(&EFI_CONFIG_TABLE, &machine, &new)[1].place.clone();
    let Place::Within { ranges, .. } = rest else { panic!("{rest:?}") };
    assert_eq!(ranges, [r(0xc7a01018, 0xcb67dfff)]);
    // A count that no memory holds is not believed.
    machine.efi.config_table = Some(ConfigTable { address, entries: Some(u64::MAX) });
    assert!(matches!(place(&machine), Place::Within { .. }));
    machine.efi.config_table = Some(ConfigTable { address, entries: Some(0) });
    assert!(by(&EFI_CONFIG_TABLE, &machine, &new).is_empty());
}

#[test]
fn an_unknown_consumer_is_any_that_is_supported() {
    let machine = laptop();
    let any = Consumer::default();
    let found = by(&EFI_CONFIG_TABLE, &machine, &any);
    // One way without SEV, one with it.
    assert_eq!(
        found.iter().map(|n| n.certainty.clone()).collect::<Vec<_>>(),
        [
            Certainty::If(vec![Condition::ConsumerAmong(EFI_CONFIG_TABLE.always)]),
            Certainty::If(vec![
                Condition::ConsumerAmong(EFI_CONFIG_TABLE.conditional),
                Condition::SevInCpuid
            ]),
        ]
    );
    let all = needs::needs(&machine, Layout::of(&machine).as_ref(), &any, Kind::Kexec);
    assert!(all.iter().all(|n| !n.rule.id.starts_with("acpi")), "nobody reads ACPI that early now");
    let text = EFI_CONFIG_TABLE.always.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text[0], "5.19-rc1 to before 6.1.46");
}

#[test]
fn low_memory_by_version_and_firmware() {
    let mut machine = laptop();
    let certainty = |machine: &Machine, rule, release: &str| {
        by(rule, machine, &consumer(release)).into_iter().map(|n| n.certainty).next()
    };
    let change = || Some(Certainty::If(vec![Condition::PagingLevelChange]));
    for (release, want) in [
        ("5.10.262", Some(Certainty::Certain)),
        ("6.1.80", Some(Certainty::Certain)),
        ("6.1.81", change()),
        ("6.5.13", Some(Certainty::Certain)),
        ("6.6.0", change()),
        ("7.2.13", change()),
    ] {
        assert_eq!(certainty(&machine, &TRAMPOLINE, release), want, "{release}");
        assert_eq!(certainty(&machine, &BIOS_DATA_AREA, release), None, "{release}: EFI has none");
    }
    machine.cpu.la57 = Some(false);
    assert_eq!(certainty(&machine, &TRAMPOLINE, "7.2.13"), None);
    assert_eq!(certainty(&machine, &TRAMPOLINE, "5.10.262"), Some(Certainty::Certain));
    machine.efi.booted = Some(false);
    let found = by(&BIOS_DATA_AREA, &machine, &consumer("5.10.262"));
    let places: Vec<Place> = found.into_iter().map(|n| n.place).collect();
    assert_eq!(places, [Place::Known(r(0x40e, 0x40f)), Place::Known(r(0x413, 0x414))]);
}

#[test]
fn old_decompressors_read_acpi() {
    let machine = laptop();
    let layout = Layout::of(&machine);
    let count = |release: &str| {
        let all = needs::needs(&machine, layout.as_ref(), &consumer(release), Kind::Kexec);
        all.iter().filter(|n| n.rule.id.starts_with("acpi")).count()
    };
    assert_eq!([count("5.0.21"), count("5.10.0"), count("7.2.13")], [0; 3]);
    // System table, configuration table, RSDP, and the tables it leads to.
    assert_eq!([count("5.1.0"), count("5.9.16")], [4; 2]);
}

#[test]
fn every_rule_says_who_it_holds_for() {
    for rule in needs::RULES {
        for span in rule.always.iter().chain(rule.conditional) {
            assert!(rule.all.covers(span), "{}: {span}", rule.id);
        }
        assert_eq!(rule.condition.is_some(), !rule.conditional.is_empty(), "{}", rule.id);
        assert!(!rule.when.is_empty() && !rule.source.is_empty());
    }
}

#[test]
fn levels_and_flags_follow_the_version() {
    let mut machine = laptop();
    let config = traits("6.1.192").config(&machine, true);
    assert_eq!(config, Config::kexec(Levels::Four, true));
    assert_eq!(config.upper_table_flags.bits(), 0x63);
    machine.cpu.la57_active = Some(true);
    machine.cpu.maxphyaddr = Some(255);
    let config = traits("7.2.13").config(&machine, false);
    assert_eq!((config.levels, config.gbpages, config.maxphyaddr), (Levels::Five, false, 52));
    assert_eq!(config.upper_table_flags.bits(), 0x63 | 1 << 58);
    assert_eq!(config.table_flags.bits(), 0x63);
    assert!(!traits("4.11.0").config(&machine, true).gbpages);
}
