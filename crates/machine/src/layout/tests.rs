use super::*;
use crate::IomemEntry;
use crate::testing::Random;

fn entry(start: u64, last: u64, kind: MemType) -> MapEntry {
    MapEntry { start, last, kind, line: 0 }
}

fn region(start: u64, end: u64, kind: MemType) -> Region {
    Region { range: PhysRange::new(start, end).unwrap(), kind }
}

fn map(origin: MapOrigin, entries: Vec<MapEntry>) -> MemMap {
    MemMap { origin, entries }
}

fn iomem(start: u64, last: u64, depth: usize, name: &str) -> IomemEntry {
    let range = PhysRange::from_inclusive(start, last).unwrap();
    IomemEntry { range, depth, name: name.into(), line: 0 }
}

const KINDS: [MemType; 5] =
    [MemType::Usable, MemType::Reserved, MemType::AcpiData, MemType::Other(20), MemType::Other(0)];

/// What `e820__update_table()` says of one byte: the highest number of the entries over it.
fn kind_at(entries: &[MapEntry], byte: u64) -> Option<MemType> {
    let over = entries.iter().filter(|e| e.start <= byte && byte <= e.last);
    over.map(|e| e.kind).filter(|&k| k.e820() != 0).max_by_key(|k| k.e820())
}

fn check_form(layout: &[Region]) {
    for pair in layout.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        assert!(a.range.end() <= b.range.start());
        assert!(a.range.end() < b.range.start() || a.kind != b.kind, "unmerged: {a:?} {b:?}");
    }
}

#[test]
fn overlaps_and_updates_agree_with_a_byte_by_byte_model() {
    let mut random = Random::new(3);
    for _ in 0..5_000 {
        let entries: Vec<MapEntry> = (0..random.below(8))
            .map(|_| {
                let start = random.below(40);
                // Some are reversed or empty.
                let last = (start + random.below(14)).wrapping_sub(2);
                entry(start, last, KINDS[random.below(5) as usize])
            })
            .collect();
        let updates: Vec<MapUpdate> = (0..random.below(5))
            .map(|_| {
                let range = PhysRange::from_len(random.below(40), 1 + random.below(20)).unwrap();
                let from = KINDS[random.below(4) as usize];
                let to = Some(KINDS[random.below(4) as usize]).filter(|_| random.below(3) > 0);
                MapUpdate { range, from, to, line: 0 }
            })
            .collect();
        let usable = |e: &&MapEntry| e.range().is_ok();
        let good: Vec<MapEntry> = entries.iter().filter(usable).copied().collect();
        let machine = Machine {
            maps: vec![map(MapOrigin::BiosE820, entries)],
            updates: updates.clone(),
            ..Machine::default()
        };
        let layout = Layout::of(&machine);
        check_form(layout.as_ref().map_or(&[], Layout::regions));
        for byte in 0..64 {
            let mut want = kind_at(&good, byte);
            for u in &updates {
                if u.range.contains(PhysAddr::new(byte).unwrap()) && want == Some(u.from) {
                    want = u.to;
                }
            }
            let addr = PhysAddr::new(byte).unwrap();
            let got = layout.as_ref().and_then(|l| l.at(addr)).map(|r| r.kind);
            assert_eq!(got, want, "byte {byte} of {good:?} after {updates:?}");
            if let Some(layout) = &layout {
                let top = layout.regions().last().unwrap().range.end();
                let in_gap = layout.gaps().any(|g| g.contains(addr));
                assert_eq!(in_gap, want.is_none() && addr < top);
            }
        }
    }
}

#[test]
fn the_last_print_of_the_table_is_the_table() {
    let usable = |start, line| MapEntry { start, last: 0xffff, kind: MemType::Usable, line };
    let update = |line| MapUpdate {
        range: PhysRange::new(0x8000, 0x9000).unwrap(),
        from: MemType::Usable,
        to: None,
        line,
    };
    let mut machine = Machine {
        maps: vec![map(MapOrigin::BiosE820, vec![usable(0, 1)])],
        updates: vec![update(2)],
        ..Machine::default()
    };
    let whole = [region(0, 0x10000, MemType::Usable)];
    let holed = [region(0, 0x8000, MemType::Usable), region(0x9000, 0x10000, MemType::Usable)];
    assert_eq!(Layout::of(&machine).unwrap().regions(), holed);
    // `memmap=exactmap` removes everything and then adds: the remove is older than the print.
    machine.maps.push(map(MapOrigin::UserE820, vec![usable(0, 3)]));
    let layout = Layout::of(&machine).unwrap();
    assert_eq!(layout.origin(), LayoutOrigin::Map(MapOrigin::UserE820));
    assert_eq!(layout.regions(), whole);
    machine.updates.push(update(4));
    assert_eq!(Layout::of(&machine).unwrap().regions(), holed);
    assert_eq!(layout.total(MemType::Usable), 0x10000);
}

#[test]
fn the_boot_with_the_most_ram_is_the_machine() {
    let usable = |start, last, line| MapEntry { start, last, kind: MemType::Usable, line };
    let update = |start, line| MapUpdate {
        range: PhysRange::from_len(start, 0x1000).unwrap(),
        from: MemType::Usable,
        to: Some(MemType::Reserved),
        line,
    };
    let machine = Machine {
        maps: vec![
            map(MapOrigin::BiosE820, vec![usable(0, 0xf_ffff, 1)]),
            map(MapOrigin::BiosE820, vec![usable(0, 0xffff, 10)]),
            map(MapOrigin::SetupDataE820, vec![usable(0, 0xffff, 11)]),
        ],
        updates: vec![update(0, 2), update(0x3000, 12)],
        ..Machine::default()
    };
    let layout = Layout::of(&machine).unwrap();
    assert_eq!(layout.origin(), LayoutOrigin::Map(MapOrigin::BiosE820));
    assert_eq!(
        layout.regions(),
        [region(0, 0x1000, MemType::Reserved), region(0x1000, 0x100000, MemType::Usable)]
    );
}

#[test]
fn whole_iomem_is_the_truth_for_ram() {
    let mut machine = Machine {
        maps: vec![map(
            MapOrigin::BiosE820,
            vec![
                entry(0, 0x3fffff, MemType::Usable),
                entry(0x800000, 0x8fffff, MemType::SoftReserved),
            ],
        )],
        iomem: vec![
            iomem(0, 0xfff, 0, "Reserved"),
            iomem(0x1000, 0x1fffff, 0, "System RAM"),
            iomem(0x100000, 0x10ffff, 1, "Kernel code"),
            iomem(0x200000, 0x20ffff, 0, "RAM buffer"),
            iomem(0x400000, 0x4fffff, 0, "Soft Reserved"),
            iomem(0x400000, 0x4fffff, 1, "dax0.0"),
            iomem(0x480000, 0x4fffff, 2, "System RAM (kmem)"),
        ],
        ..Machine::default()
    };
    let want = [
        region(0, 0x1000, MemType::Reserved),
        region(0x1000, 0x200000, MemType::Usable),
        region(0x400000, 0x480000, MemType::SoftReserved),
        region(0x480000, 0x500000, MemType::Usable),
        region(0x800000, 0x900000, MemType::SoftReserved),
    ];
    let layout = Layout::of(&machine).unwrap();
    assert_eq!((layout.origin(), layout.regions()), (LayoutOrigin::Iomem, &want[..]));
    // A part of it does not unmake the RAM it is silent about.
    machine.iomem.drain(..1);
    let layout = Layout::of(&machine).unwrap();
    assert_eq!(layout.origin(), LayoutOrigin::Map(MapOrigin::BiosE820));
    assert_eq!(layout.at(PhysAddr::new(0x300000).unwrap()).unwrap().kind, MemType::Usable);
    assert_eq!(layout.at(PhysAddr::new(0x480000).unwrap()).unwrap().kind, MemType::Usable);
}

#[test]
fn iomem_read_without_privilege_is_no_map() {
    let machine = Machine { iomem: vec![iomem(0, 0, 0, "System RAM")], ..Machine::default() };
    // One byte at 0 is what "00000000-00000000" parses to.
    assert!(Layout::of(&machine).is_none());
    assert!(Layout::of(&Machine::default()).is_none());
}

/// No answer rather than a wrong or a late one.
#[test]
fn more_updates_than_a_kernel_makes_are_refused() {
    let page = |i: u64| entry(i * 0x2000, i * 0x2000 + 0xfff, MemType::Usable);
    let update = MapUpdate {
        range: PhysRange::ALL,
        from: MemType::Reserved,
        to: Some(MemType::Unusable),
        line: 0,
    };
    let machine = |updates| Machine {
        maps: vec![map(MapOrigin::BiosE820, (0..3200).map(page).collect())],
        updates: vec![update; updates],
        ..Machine::default()
    };
    assert!(Layout::of(&machine(1000)).is_some());
    assert!(Layout::of(&machine(MAX_VISITS / 3200 + 1)).is_none());
}

#[test]
fn kexec_ranges_come_last() {
    let mut machine = Machine {
        maps: vec![map(MapOrigin::KexecRanges, vec![entry(0x1000, 0x1fff, MemType::Usable)])],
        ..Machine::default()
    };
    let origin = |m: &Machine| Layout::of(m).unwrap().origin();
    assert_eq!(origin(&machine), LayoutOrigin::Map(MapOrigin::KexecRanges));
    machine.maps.push(map(MapOrigin::BootParams, vec![entry(0, 0xfff, MemType::Usable)]));
    assert_eq!(origin(&machine), LayoutOrigin::Map(MapOrigin::BootParams));
    machine.maps.push(map(MapOrigin::FirmwareMemmap, vec![entry(0, 0xfff, MemType::Usable)]));
    assert_eq!(origin(&machine), LayoutOrigin::Map(MapOrigin::FirmwareMemmap));
}
