use identmap::{PageSize, PhysAddr, PhysRange};

use super::*;
use crate::testing::{Random, machine_of};
use crate::{
    Cpu, CpuVendor, Efi, EfiTable, IomemEntry, Layout, MapEntry, MapOrigin, MemMap, MemType, Uv,
    ranges,
};

/// <https://lore.kernel.org/all/20190924163236.GA8138@swahl-linux/>: HPE Superdome
/// Flex, 8 sockets. The author starred what must not be reachable: [`STARRED`].
const UV_2019: &str = include_str!("uv-2019.e820");

/// <https://lore.kernel.org/all/ZgsBqS5JquMgIh_j@swahl-home.5wahls.com/>: HPE UV, 16 nodes.
const UV_2023: &str = include_str!("uv-2023.e820");

/// The ranges starred in [`UV_2019`].
const STARRED: [(u64, u64); 8] = [
    (0x2f80000000, 0x3040000000),
    (0x5f7c000000, 0x6040000000),
    (0x8f7c000000, 0x9040000000),
    (0xbf7c000000, 0xc040000000),
    (0xef7c000000, 0xf040000000),
    (0x11f7c000000, 0x12040000000),
    (0x14f7c000000, 0x15040000000),
    (0x17f7c000000, 0x18040000000),
];

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

fn of_rule(machine: &Machine, id: &str) -> Vec<PhysRange> {
    hazards(machine).into_iter().filter(|h| h.rule.id == id).map(|h| h.range).collect()
}

fn certainty(machine: &Machine, id: &str) -> Option<Certainty> {
    hazards(machine).into_iter().find(|h| h.rule.id == id).map(|h| h.certainty)
}

fn uv_2019() -> Machine {
    let hardware = Some("HPE Superdome Flex (UV), 8 sockets, 1.5 TiB".into());
    Machine { hardware, ..machine_of(UV_2019) }
}

fn amd(text: &str) -> Machine {
    Machine { cpu: Cpu { vendor: Some(CpuVendor::Amd), ..Cpu::default() }, ..machine_of(text) }
}

#[test]
fn the_starred_ranges_of_2019_and_no_others() {
    let want: Vec<PhysRange> = STARRED.iter().map(|&(s, e)| r(s, e)).collect();
    assert_eq!(of_rule(&uv_2019(), "uv-node-tail"), want);
    assert_eq!(certainty(&uv_2019(), "uv-node-tail"), Some(Certainty::Likely));
    assert!(of_rule(&uv_2019(), "uv-undescribed").is_empty());
    // The MMR windows and what is reserved below 4 GiB; not the first MiB.
    let other = of_rule(&uv_2019(), "uv-reserved");
    assert!(other.contains(&r(0x7c000000, 0x90000000)));
    assert!(other.contains(&r(0xfff00000000, 0xfff0ff00000)));
    assert!(other.iter().all(|o| o.start().get() >= 1 << 20));
    assert!(ranges::intersect(&other, &want).is_empty());
}

/// What 1 GiB leaves around RAM and the first MiB reach, and 2 MiB leaves do not.
#[test]
fn rounding_to_1g_exposes_448_mib_of_tails_and_to_2m_none() {
    let machine = uv_2019();
    let layout = Layout::of(&machine).unwrap();
    let mut requests: Vec<PhysRange> = layout.of_kind(MemType::Usable).collect();
    requests.push(r(0, 1 << 20));
    let tails = of_rule(&machine, "uv-node-tail");
    let exposed = |size: PageSize| {
        let mapped = ranges::normalise(requests.iter().map(|q| q.round_out(size)).collect());
        ranges::intersect(&mapped, &tails)
    };
    let by_1g = exposed(PageSize::Size1G);
    assert_eq!(ranges::total(&by_1g), 448 << 20);
    assert_eq!(by_1g.iter().map(|e| e.len() >> 20).collect::<Vec<_>>(), [64; 7]);
    assert!(exposed(PageSize::Size2M).is_empty());
}

#[test]
fn every_node_of_2023_has_its_tail() {
    // This report shows firmware's vendor, and a map with the shape.
    let efi = Efi { version: Some("EFI v2.7 by HPE".into()), ..Efi::default() };
    let machine = Machine { efi, ..machine_of(UV_2023) };
    let tails = of_rule(&machine, "uv-node-tail");
    assert_eq!(tails.len(), 16);
    assert_eq!(tails[0], r(0x3f80000000, 0x4080000000));
    assert!(tails.iter().all(|tail| tail.len() == 4 << 30));
    // Without the vendor, the shape proves nothing; nor does the vendor without the shape.
    assert!(of_rule(&machine_of(UV_2023), "uv-node-tail").is_empty());
    let small = "0-9ffff usable\n100000-7fffffff usable\n100000000-17fffffff usable\n\
                 180000000-1bfffffff reserved\n1c0000000-2bfffffff usable\n\
                 2c0000000-2ffffffff reserved\n300000000-3ffffffff usable";
    let small = Machine { efi: machine.efi.clone(), ..machine_of(small) };
    assert!(of_rule(&small, "uv-node-tail").is_empty());
}

#[test]
fn how_uv_is_known() {
    let known = |uv| Machine { uv: Some(uv), ..uv_2019() };
    assert_eq!(certainty(&known(Uv::Hubbed), "uv-node-tail"), Some(Certainty::Certain));
    assert_eq!(certainty(&known(Uv::Hubless), "uv-node-tail"), None);
    // `numa=off`, or a kernel without CONFIG_X86_UV: the hubs are there all the same.
    assert_eq!(certainty(&known(Uv::No), "uv-node-tail"), Some(Certainty::Likely));
    let plain = Machine { uv: Some(Uv::No), ..machine_of(UV_2019) };
    assert_eq!(certainty(&plain, "uv-node-tail"), None);
    let table = EfiTable { name: "UVsystab".into(), address: PhysAddr::ZERO };
    let efi = Efi { tables: vec![table], ..Efi::default() };
    let listed = Machine { efi, ..machine_of(UV_2019) };
    assert_eq!(certainty(&listed, "uv-node-tail"), Some(Certainty::Likely));
    assert_eq!(certainty(&machine_of(UV_2019), "uv-node-tail"), None);
    let named = |name: &str| Machine { hardware: Some(name.into()), ..machine_of(UV_2019) };
    assert_eq!(certainty(&named("SGI UV300"), "uv-node-tail"), Some(Certainty::Likely));
    assert_eq!(certainty(&named("HPE ProLiant UVX"), "uv-node-tail"), None);
    assert_eq!(certainty(&named("SGI UV 300"), "uv-node-tail"), Some(Certainty::Likely));
    assert_eq!(certainty(&named("ASUS UV-C cabinet"), "uv-node-tail"), None);
}

/// The tails stay where they are when the running kernel uses only the first 4 GiB.
#[test]
fn mem_on_the_command_line_moves_no_hardware() {
    let mut machine = uv_2019();
    let mut user = machine_of("0-9ffff usable\n100000-72c4dfff usable").maps.remove(0);
    user.origin = MapOrigin::UserE820;
    machine.maps.push(user);
    assert_eq!(of_rule(&machine, "uv-node-tail").len(), 8);
}

#[test]
fn space_that_no_map_describes_between_uv_nodes() {
    let text = "100000-7fffffff usable\n100000000-2fffffffff usable\n\
                3000000000-303bffffff reserved\n3040000000-3fffffffff usable";
    let machine = Machine { uv: Some(Uv::Hubbed), ..machine_of(text) };
    assert_eq!(of_rule(&machine, "uv-undescribed"), [r(0x303c000000, 0x3040000000)]);
    assert_eq!(certainty(&machine, "uv-undescribed"), Some(Certainty::Likely));
}

#[test]
fn hypertransport_on_amd_or_where_the_map_keeps_it_free() {
    const ID: &str = "amd-hypertransport";
    let hole = r(0xfd00000000, 0x10000000000);
    let plain = "0-9ffff usable\n100000000-1ffffffff usable";
    let kept = format!("{plain}\nfd00000000-ffffffffff reserved");
    assert_eq!(of_rule(&amd(plain), ID), [hole]);
    assert_eq!(certainty(&amd(plain), ID), Some(Certainty::Likely));
    assert_eq!(certainty(&amd(&kept), ID), Some(Certainty::Certain));
    assert_eq!(certainty(&machine_of(plain), ID), None);
    assert_eq!(certainty(&machine_of(&kept), ID), Some(Certainty::Likely));
    let mut intel = amd(&kept);
    intel.cpu.vendor = Some(CpuVendor::Intel);
    assert_eq!(certainty(&intel, ID), None);
    let mut small = amd(plain);
    small.cpu.maxphyaddr = Some(39);
    assert_eq!(certainty(&small, ID), None);
}

/// Dell `PowerEdge` R7425 with 1 TiB: 1012-1016 GiB reserved, RAM on both sides.
#[test]
fn ram_inside_the_hypertransport_range_is_ram() {
    let text = "0-8efff usable\ne080000000-fcffffffff usable\nfd00000000-fdffffffff reserved\n\
                fe00000000-1007ff7ffff usable\n1007ff80000-1007fffffff reserved";
    assert_eq!(of_rule(&amd(text), "amd-hypertransport"), [r(0xfd00000000, 0xfe00000000)]);
}

/// Suma N50 (Hygon): the last 12 GiB of 48 bits.
#[test]
fn the_last_12_gib_of_the_address_space() {
    const ID: &str = "amd-hypertransport-top";
    let top = r(0xfffd00000000, 0x1000000000000);
    assert_eq!(of_rule(&machine_of("fffd00000000-ffffffffffff reserved"), ID), [top]);
    assert!(of_rule(&machine_of("fffc00000000-fffcffffffff reserved"), ID).is_empty());
    let mut machine = amd("0-9ffff usable");
    assert!(of_rule(&machine, ID).is_empty());
    machine.cpu.maxphyaddr = Some(48);
    assert_eq!(of_rule(&machine, ID), [top]);
    machine.cpu.hypervisor = Some(true);
    assert!(of_rule(&machine, ID).is_empty());
    machine.cpu.maxphyaddr = Some(200);
    machine.cpu.hypervisor = None;
    assert!(of_rule(&machine, ID).is_empty());
}

/// The map in the message of Linux 400fea4b9651: RAM follows the table in its last 2 MiB frame.
#[test]
fn the_frames_that_the_rmp_table_shares() {
    let text = "0-8efff usable\n4080000000-7ffe7fffff usable\n7ffe800000-807f0fffff reserved\n\
                807f100000-807f1fefff usable";
    let rmp = r(0x7ffe800000, 0x807f100000);
    let machine = Machine { rmp: Some(rmp), ..machine_of(text) };
    assert_eq!(of_rule(&machine, "snp-rmp"), [rmp]);
    assert_eq!(of_rule(&machine, "snp-rmp-neighbour"), [r(0x807f100000, 0x807f1ff000)]);
    // A kernel with the fix has taken that RAM out of its map.
    let range = r(0x807f000000, 0x807f200000);
    let fixed =
        crate::MapUpdate { range, from: MemType::Usable, to: Some(MemType::Reserved), line: 9 };
    let mended = Machine { updates: vec![fixed], ..machine };
    assert!(of_rule(&mended, "snp-rmp-neighbour").is_empty());
    let aligned = Machine { rmp: Some(r(0x40000000, 0x80000000)), ..Machine::default() };
    assert!(of_rule(&aligned, "snp-rmp-neighbour").is_empty());
}

#[test]
fn an_snp_host_without_its_rmp_range_is_undecided() {
    let mut machine = amd("0-9ffff usable");
    assert!(undecided(&machine).is_empty());
    machine.cpu.snp_host = Some(true);
    assert_eq!(undecided(&machine)[0].rule.id, "snp-rmp");
    machine.rmp = Some(r(0x40000000, 0x80000000));
    assert!(undecided(&machine).is_empty());
}

#[test]
fn devices_stolen_memory_and_bad_memory() {
    let mut machine = machine_of(
        "0-9ffff usable\n100000-7bffffff usable\n7c000000-7fffffff reserved\n\
         90000000-90000fff unusable\n100000000-1ffffffff usable",
    );
    let iomem = |start, end, depth, name: &str| IomemEntry {
        range: r(start, end),
        depth,
        name: name.into(),
        line: 0,
    };
    machine.iomem = vec![
        iomem(0x7c000000, 0x80000000, 1, "Graphics Stolen Memory"),
        iomem(0x80000000, 0xe0000000, 0, "PCI Bus 0000:00"),
        iomem(0x1f0000000, 0x300000000, 0, "PCI Bus 0000:00"),
        iomem(0x280000000, 0x300000000, 1, "PCI Bus 0000:01"),
    ];
    assert_eq!(of_rule(&machine, "graphics-stolen"), [r(0x7c000000, 0x80000000)]);
    assert_eq!(of_rule(&machine, "mmio-above-4g"), [r(0x200000000, 0x300000000)]);
    assert_eq!(of_rule(&machine, "acpi-unusable"), [r(0x90000000, 0x90001000)]);
    assert_eq!(
        of_rule(&machine, "mmio-below-4g"),
        [r(0x80000000, 0x90000000), r(0x90001000, 0x100000000)]
    );
    // A map that is only a part says nothing by its gaps.
    assert!(of_rule(&machine_of("100000000-1ffffffff usable"), "mmio-below-4g").is_empty());
}

/// Whatever a map says: ranges of one rule are sorted and disjoint, and those that
/// must leave RAM alone do.
#[test]
fn no_map_breaks_the_rules() {
    let mut random = Random::new(6);
    let kinds = [MemType::Usable, MemType::Reserved, MemType::Unusable, MemType::SoftReserved];
    let bases = [0, 1 << 32, 0xfc00000000, 0xfffc00000000, (1 << 52) - (16 << 30)];
    for _ in 0..2_000 {
        let entries = (0..random.below(12))
            .map(|_| {
                let start = bases[random.below(5) as usize] + random.below(16) * (1 << 30);
                let last = start + (1 + random.below(4)) * (1 << 29) - 1;
                MapEntry { start, last, kind: kinds[random.below(4) as usize], line: 0 }
            })
            .collect();
        let machine = Machine {
            maps: vec![MemMap { origin: MapOrigin::BiosE820, entries }],
            uv: Some(Uv::Hubbed),
            rmp: PhysRange::from_len(random.below(1 << 40), 1 + random.below(1 << 30)).ok(),
            cpu: Cpu {
                vendor: Some(CpuVendor::Amd),
                maxphyaddr: Some(random.below(256) as u8),
                ..Cpu::default()
            },
            ..Machine::default()
        };
        let ram: Vec<PhysRange> =
            Layout::of(&machine).iter().flat_map(|l| l.of_kind(MemType::Usable)).collect();
        let found = hazards(&machine);
        for rule in RULES {
            let ranges: Vec<PhysRange> =
                found.iter().filter(|h| h.rule == rule).map(|h| h.range).collect();
            assert!(ranges.windows(2).all(|w| w[0].end() <= w[1].start()), "{rule:?}");
            if !rule.id.starts_with("snp-") {
                assert!(ranges::intersect(&ranges, &ram).is_empty(), "{rule:?}");
            }
        }
        let tails = of_rule(&machine, "uv-node-tail");
        for tail in tails {
            let before = PhysAddr::new(tail.start().get() - 1).unwrap();
            let layout = Layout::of(&machine).unwrap();
            assert!(layout.at(before).is_some_and(|r| r.kind != MemType::Reserved));
        }
    }
}

#[test]
fn ids_are_unique_and_every_rule_has_a_source() {
    let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
    assert!(RULES.iter().all(|rule| !rule.source.is_empty() && !rule.title.is_empty()));
    assert!(Severity::Halt > Severity::Caution && Certainty::Certain > Certainty::Likely);
}
