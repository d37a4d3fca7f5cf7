//! What changed: between two machines or boots, and between the maps of one.

use identmap::PhysRange;

use crate::views::{Source, slices, views};
use crate::{Layout, Machine, MemType, Uv};

/// The difference between two machines, or two boots of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diff {
    /// Ranges whose type differs, sorted; `None` where one of the two has no memory map.
    pub layout: Option<Vec<TypeChange>>,
    /// Facts that both know, and that differ.
    pub facts: Vec<FactChange>,
    /// Names of the facts that only one of the two knows: nothing follows from them.
    pub one_sided: Vec<String>,
}

impl Diff {
    /// Whether nothing that both know differs.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.facts.is_empty() && self.layout.as_ref().is_none_or(Vec::is_empty)
    }
}

/// A range with two types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypeChange {
    /// The bytes.
    pub range: PhysRange,
    /// Its type in the first; `None` where no source of it describes the range.
    pub before: Option<MemType>,
    /// Its type in the second.
    pub after: Option<MemType>,
}

/// A fact with two values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactChange {
    /// What: `kernel`, `efi table ACPI 2.0`, …
    pub name: String,
    /// In the first.
    pub before: String,
    /// In the second.
    pub after: String,
}

/// Compares two machines: their layouts ([`Layout::of`]) and their facts.
#[must_use]
pub fn diff(before: &Machine, after: &Machine) -> Diff {
    let layout = Layout::of(before).zip(Layout::of(after)).map(|(a, b)| {
        slices(&[a.regions(), b.regions()])
            .into_iter()
            .filter_map(|slice| match slice.kinds[..] {
                [before, after] if before != after => {
                    Some(TypeChange { range: slice.range, before, after })
                }
                _ => None,
            })
            .collect()
    });
    let mut facts = Vec::new();
    let mut one_sided = Vec::new();
    for (name, before, after) in pair_up(facts_of(before), facts_of(after)) {
        match (before, after) {
            (Some(before), Some(after)) if before != after => {
                facts.push(FactChange { name, before, after });
            }
            (Some(_), Some(_)) | (None, None) => {}
            _ => one_sided.push(name),
        }
    }
    Diff { layout, facts, one_sided }
}

/// The maps of one machine held against each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapDiff {
    /// The maps, in the order of [`MapRow::kinds`].
    pub sources: Vec<Source>,
    /// The ranges on which the maps do not all agree, sorted.
    pub rows: Vec<MapRow>,
}

/// What each map says of one range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapRow {
    /// The bytes.
    pub range: PhysRange,
    /// One answer per source; `None` where it does not describe the range.
    pub kinds: Vec<Option<MemType>>,
}

/// Compares all maps of one machine: firmware's e820 and its copies, what the
/// kernel made of it, the EFI map in e820's words ([`crate::e820_of_efi`]),
/// `/proc/iomem` and kexec's ranges. Differences are no faults: the kernel changes its map on
/// purpose. What is a fault, [`crate::lint`] says.
#[must_use]
pub fn diff_maps(machine: &Machine) -> MapDiff {
    let views = views(machine);
    let lists: Vec<_> = views.iter().map(|view| &view.regions[..]).collect();
    let differs = |kinds: &[Option<MemType>]| kinds.windows(2).any(|pair| pair[0] != pair[1]);
    let rows = slices(&lists)
        .into_iter()
        .filter(|slice| differs(&slice.kinds))
        .map(|slice| MapRow { range: slice.range, kinds: slice.kinds })
        .collect();
    MapDiff { sources: views.iter().map(|view| view.source).collect(), rows }
}

/// A fact's name and its value, if known.
type Fact = (String, Option<String>);

/// Everything about a machine but its maps, in the order of the model.
fn facts_of(machine: &Machine) -> Vec<Fact> {
    let text = |name: &str, value: &Option<String>| (name.to_owned(), value.clone());
    let flag = |name: &str, value: Option<bool>| {
        (name.to_owned(), value.map(|v| if v { "yes" } else { "no" }.to_owned()))
    };
    let shown = |name: &str, value: Option<String>| (name.to_owned(), value);
    let (efi, cpu) = (&machine.efi, &machine.cpu);
    let config = efi.config_table.map(|t| match t.entries {
        Some(entries) => format!("{}, {entries} entries", t.address),
        None => t.address.to_string(),
    });
    let mut reserved: Vec<PhysRange> = machine.crash_kernels.iter().map(|c| c.range).collect();
    reserved.sort_unstable();
    // No reservation seen is no knowledge that there is none.
    let crash = |shown: &dyn Fn(&PhysRange) -> String| {
        let all: Vec<String> = reserved.iter().map(shown).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    let mut facts = vec![
        text("hardware", &machine.hardware),
        text("firmware", &machine.firmware),
        text("kernel", &machine.kernel),
        text("kernel build", &machine.kernel_banner),
        text("command line", &machine.cmdline),
        flag("efi boot", efi.booted),
        text("efi version", &efi.version),
        flag("efi 64-bit", efi.is_64bit),
        shown("efi system table", efi.system_table.map(|a| a.to_string())),
        shown("efi configuration table", config),
        shown("cpu vendor", cpu.vendor.map(|v| format!("{v:?}"))),
        text("cpu model", &cpu.model),
        flag("cpu 1 GiB pages", cpu.pdpe1gb),
        flag("cpu 5-level paging", cpu.la57),
        flag("5-level paging in use", cpu.la57_active),
        shown("cpu physical address bits", cpu.maxphyaddr.map(|b| b.to_string())),
        flag("cpu SEV", cpu.sev),
        flag("SME active", cpu.sme_active),
        flag("encrypted guest", cpu.encrypted_guest),
        flag("SNP host", cpu.snp_host),
        flag("virtual machine", cpu.hypervisor),
        shown("uv", machine.uv.map(uv_word)),
        flag("direct map with 1 GiB pages", machine.direct_gbpages),
        flag("nogbpages", machine.nogbpages),
        shown("crash kernel", crash(&ToString::to_string)),
        shown("crash kernel size", crash(&size_and_place)),
        shown("rmp table", machine.rmp.map(|r| r.to_string())),
    ];
    facts.extend(
        efi.tables.iter().map(|t| (format!("efi table {}", t.name), Some(t.address.to_string()))),
    );
    facts
}

/// What of a reservation is the same after each boot.
fn size_and_place(range: &PhysRange) -> String {
    let kib = range.len() / 1024;
    let place = if range.start().get() < 1 << 32 { "below 4 GiB" } else { "above 4 GiB" };
    match (kib / 1024, kib % 1024) {
        (mib, 0) => format!("{mib} MiB {place}"),
        _ => format!("{kib} KiB {place}"),
    }
}

fn uv_word(uv: Uv) -> String {
    match uv {
        Uv::No => "no",
        Uv::Hubbed => "hubbed",
        Uv::Hubless => "hubless",
    }
    .to_owned()
}

/// Facts of two machines by name: those of the first in their order, then the rest of the second.
/// Where a name comes twice (a firmware table listed twice), the first one counts.
fn pair_up(before: Vec<Fact>, after: Vec<Fact>) -> Vec<(String, Option<String>, Option<String>)> {
    use std::collections::{HashMap, HashSet};
    let mut second: HashMap<String, Option<String>> = HashMap::new();
    let mut order = Vec::new();
    for (name, value) in after {
        order.push(name.clone());
        second.entry(name).or_insert(value);
    }
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (name, value) in before {
        if seen.insert(name.clone()) {
            let other = second.remove(&name).flatten();
            out.push((name, value, other));
        }
    }
    for name in order {
        if let Some(value) = second.remove(&name) {
            out.push((name, None, value));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::machine_of;
    use crate::{ConfigTable, Efi, EfiDescriptor, EfiTable, IomemEntry, MapOrigin};
    use identmap::PhysAddr;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    fn at(addr: u64) -> PhysAddr {
        PhysAddr::new(addr).unwrap()
    }

    const MAP: &str = "0-9ffff usable\n100000-7fffffff usable\n80000000-8fffffff reserved";

    #[test]
    fn a_machine_is_the_same_as_itself() {
        let machine = machine_of(MAP);
        let same = diff(&machine, &machine);
        assert!(same.is_same());
        assert_eq!(same.layout, Some(vec![]));
        assert!(same.one_sided.is_empty());
    }

    #[test]
    fn types_that_changed() {
        let after = machine_of(
            "0-9ffff usable\n100000-7effffff usable\n7f000000-8fffffff reserved\n\
             90000000-9fffffff ACPI NVS",
        );
        let changed = diff(&machine_of(MAP), &after);
        assert!(!changed.is_same());
        let (usable, reserved) = (Some(MemType::Usable), Some(MemType::Reserved));
        assert_eq!(
            changed.layout.unwrap(),
            [
                TypeChange { range: r(0x7f000000, 0x80000000), before: usable, after: reserved },
                TypeChange {
                    range: r(0x90000000, 0xa0000000),
                    before: None,
                    after: Some(MemType::AcpiNvs)
                },
            ]
        );
        assert_eq!(diff(&machine_of(MAP), &Machine::default()).layout, None);
    }

    #[test]
    fn facts_that_changed_and_facts_of_one_side() {
        let table = |name: &str, address| EfiTable { name: name.into(), address: at(address) };
        let mut before = machine_of(MAP);
        before.kernel = Some("6.1.78".into());
        before.nogbpages = Some(false);
        before.efi = Efi {
            config_table: Some(ConfigTable { address: at(0x1000), entries: Some(15) }),
            tables: vec![table("ACPI 2.0", 0x2000), table("SMBIOS", 0x3000)],
            ..Efi::default()
        };
        let mut after = before.clone();
        after.kernel = Some("6.1.79".into());
        after.nogbpages = None;
        after.efi.config_table = Some(ConfigTable { address: at(0x1000), entries: Some(16) });
        after.efi.tables =
            vec![table("SMBIOS", 0x3000), table("ACPI 2.0", 0x2014), table("RNG", 1)];
        let changed = diff(&before, &after);
        let names: Vec<&str> = changed.facts.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["kernel", "efi configuration table", "efi table ACPI 2.0"]);
        assert_eq!(changed.facts[2].after, "0x0000000000002014");
        assert_eq!(changed.one_sided, ["nogbpages", "efi table RNG"]);
    }

    #[test]
    fn the_maps_of_one_machine() {
        let mut machine = machine_of(MAP);
        assert!(diff_maps(&machine).rows.is_empty());
        machine.iomem = vec![
            IomemEntry { range: r(0, 0x1000), depth: 0, name: "Reserved".into(), line: 0 },
            IomemEntry { range: r(0x1000, 0xa0000), depth: 0, name: "System RAM".into(), line: 0 },
            IomemEntry {
                range: r(0x100000, 0x80000000),
                depth: 0,
                name: "System RAM".into(),
                line: 0,
            },
            IomemEntry {
                range: r(0x80000000, 0x90000000),
                depth: 0,
                name: "Reserved".into(),
                line: 0,
            },
        ];
        let descriptor = |start, end, kind| EfiDescriptor {
            range: r(start, end),
            kind,
            attributes: 0xf,
            line: 0,
        };
        machine.efi.memory_map = vec![
            descriptor(0, 0xa0000, 7),
            descriptor(0x100000, 0x80000000, 4),
            descriptor(0x80000000, 0x90000000, 9),
        ];
        let found = diff_maps(&machine);
        assert_eq!(
            found.sources,
            [Source::Map(MapOrigin::BiosE820), Source::EfiMap, Source::Iomem]
        );
        let (usable, reserved) = (Some(MemType::Usable), Some(MemType::Reserved));
        assert_eq!(
            found.rows,
            [
                MapRow { range: r(0, 0x1000), kinds: vec![usable, usable, reserved] },
                MapRow {
                    range: r(0x80000000, 0x90000000),
                    kinds: vec![reserved, Some(MemType::AcpiData), reserved]
                },
            ]
        );
    }
}
