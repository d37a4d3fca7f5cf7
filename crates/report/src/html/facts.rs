//! What the machine's own texts told: everything that the rest of the report rests on.

use identmap::{PhysAddr, PhysRange};
use identmap_audit::Audit;
use identmap_machine::{Machine, MapOrigin};

use super::table::{self, Cell, Head, plain};
use super::{Markup, section};
use crate::text::human_size;

/// Rows of a list that are written out.
const MOST_ROWS: usize = 1_000;

pub(super) fn write(out: &mut Markup, machine: &Machine, audit: &Audit) {
    section(out, "facts", "What is known of the machine");
    table::write(
        out,
        "Facts",
        &[Head::Text("What"), Head::Text("Value")],
        &single_facts(machine)
            .into_iter()
            .map(|(name, value)| vec![plain(name), plain(value)])
            .collect::<Vec<_>>(),
    );
    hazards(out, audit);
    for map in &machine.maps {
        let rows = map.entries.iter().map(|entry| {
            let address = format!("{:#018x}-{:#018x}", entry.start, entry.last);
            let size = entry.range().map_or_else(|e| e.to_string(), |r| human_size(r.len()));
            vec![plain(address), plain(size), plain(entry.kind.to_string())]
        });
        list(out, &format!("Memory map: {}", origin(map.origin)), RANGES, rows);
    }
    let rows = machine.updates.iter().map(|update| {
        let to = update.to.map_or_else(|| "removed".to_owned(), |to| to.to_string());
        let what = format!("{} → {to}", update.from);
        vec![table::range(update.range), size(update.range), plain(what)]
    });
    list(out, "Changes of the kernel to its map", RANGES, rows);
    let rows = machine.iomem.iter().map(|entry| {
        let name = format!("{}{}", "\u{a0}\u{a0}".repeat(entry.depth.min(16)), entry.name);
        vec![table::range(entry.range), size(entry.range), plain(name)]
    });
    list(out, "/proc/iomem", RANGES, rows);
    for (name, descriptors) in
        [("EFI memory map", &machine.efi.memory_map), ("EFI runtime map", &machine.efi.runtime_map)]
    {
        let rows = descriptors.iter().map(|descriptor| {
            let what = format!("type {}, attributes {:#x}", descriptor.kind, descriptor.attributes);
            vec![table::range(descriptor.range), size(descriptor.range), plain(what)]
        });
        list(out, name, RANGES, rows);
    }
    let rows = machine.efi.tables.iter().map(|t| vec![address(t.address), plain(t.name.clone())]);
    list(out, "EFI tables", &[Head::Address("Address"), Head::Text("Name")], rows);
    let rows = machine
        .acpi_tables
        .iter()
        .map(|t| vec![table::range(t.range), size(t.range), plain(t.signature.clone())]);
    list(out, "ACPI tables", RANGES, rows);
    let rows = machine.segments.iter().enumerate().map(|(number, segment)| {
        vec![table::range(segment.range), size(segment.range), plain(format!("segment {number}"))]
    });
    list(out, "Segments of the image", RANGES, rows);
    let rows = machine.notes.iter().map(|note| {
        let line = if note.line == 0 { String::new() } else { note.line.to_string() };
        vec![plain(line), plain(note.text.clone())]
    });
    list(out, "Notes of the reader", &[Head::Number("Line"), Head::Text("Note")], rows);
    out.close();
}

const RANGES: &[Head<'static>] =
    &[Head::Address("Range"), Head::Number("Size"), Head::Text("What")];

fn hazards(out: &mut Markup, audit: &Audit) {
    let rows = audit.hazards.iter().map(|hazard| {
        let rule = hazard.rule;
        vec![
            table::range(hazard.range),
            size(hazard.range),
            plain(rule.title),
            plain(rule.severity.to_string()),
            plain(hazard.certainty.to_string()),
            plain(rule.source),
        ]
    });
    let heads = [
        Head::Address("Range"),
        Head::Number("Size"),
        Head::Text("What"),
        Head::Text("If mapped"),
        Head::Text("Applies"),
        Head::Text("Source"),
    ];
    list(out, "What must not be mapped, or had better not be", &heads, rows);
}

/// A table that folds; nothing if there are no rows.
fn list(
    out: &mut Markup,
    name: &str,
    heads: &[Head<'_>],
    rows: impl ExactSizeIterator<Item = Vec<Cell>>,
) {
    let count = rows.len();
    if count == 0 {
        return;
    }
    let mut shown: Vec<Vec<Cell>> = rows.take(MOST_ROWS).collect();
    if count > MOST_ROWS {
        shown.push(vec![plain(format!("and {} more", count - MOST_ROWS))]);
    }
    out.open("details", &[]);
    out.leaf("summary", &[], &format!("{name}: {count}"));
    table::write(out, name, heads, &shown);
    out.close();
}

fn size(range: PhysRange) -> Cell {
    plain(human_size(range.len()))
}

fn address(addr: PhysAddr) -> Cell {
    plain(format!("{:#018x}", addr.get()))
}

fn origin(origin: MapOrigin) -> String {
    identmap_machine::Source::Map(origin).to_string()
}

fn single_facts(machine: &Machine) -> Vec<(&'static str, String)> {
    let yes = |fact: Option<bool>| fact.map(|is| if is { "yes" } else { "no" }.to_owned());
    let at = |addr: Option<PhysAddr>| addr.map(|addr| format!("{:#018x}", addr.get()));
    let range = |range: Option<PhysRange>| {
        range.map(|r| format!("{:#018x}-{:#018x}", r.start().get(), r.last().get()))
    };
    let (cpu, efi) = (&machine.cpu, &machine.efi);
    let config_table = efi.config_table.map(|table| {
        let entries = table.entries.map_or_else(String::new, |n| format!(", {n} entries"));
        format!("{:#018x}{entries}", table.address.get())
    });
    let crash: Vec<String> =
        machine.crash_kernels.iter().filter_map(|crash| range(Some(crash.range))).collect();
    let setup: Vec<String> = machine.setup_data.iter().filter_map(|r| range(Some(*r))).collect();
    let some = |list: Vec<String>| (!list.is_empty()).then(|| list.join(", "));
    let uv = machine.uv.map(|uv| {
        match uv {
            identmap_machine::Uv::No => "no",
            identmap_machine::Uv::Hubbed => "yes",
            identmap_machine::Uv::Hubless => "without hubs",
        }
        .to_owned()
    });
    let all = [
        ("Read from", Some(machine.source.clone())),
        ("Hardware", machine.hardware.clone()),
        ("Firmware", machine.firmware.clone()),
        ("Running kernel", machine.kernel.clone()),
        ("Its banner", machine.kernel_banner.clone()),
        ("Its command line", machine.cmdline.clone()),
        ("Processor", cpu.model.clone()),
        ("1G pages (pdpe1gb)", yes(cpu.pdpe1gb)),
        ("1G pages in the direct map", yes(machine.direct_gbpages)),
        ("nogbpages", yes(machine.nogbpages)),
        ("5-level paging offered", yes(cpu.la57)),
        ("5-level paging in use", yes(cpu.la57_active)),
        ("Bits of a physical address", cpu.maxphyaddr.map(|bits| bits.to_string())),
        ("SEV in CPUID", yes(cpu.sev)),
        ("SME active", yes(cpu.sme_active)),
        ("Encrypted guest", yes(cpu.encrypted_guest)),
        ("SEV-SNP host", yes(cpu.snp_host)),
        ("Virtual machine", yes(cpu.hypervisor)),
        ("HPE UV", uv),
        ("Booted through EFI", yes(efi.booted)),
        ("EFI version", efi.version.clone()),
        ("EFI of 64 bits", yes(efi.is_64bit)),
        ("EFI system table", at(efi.system_table)),
        ("EFI configuration table", config_table),
        ("EFI memory map in memory", range(efi.memmap)),
        ("EFI runtime services", at(efi.runtime)),
        ("ACPI RSDP", at(machine.rsdp)),
        ("Confidential-computing blob", at(machine.cc_blob)),
        ("Initial ramdisk", range(machine.ramdisk)),
        ("MP table", range(machine.mp_table)),
        ("RMP table", range(machine.rmp)),
        ("Crash kernel", some(crash)),
        ("setup_data", some(setup)),
        ("An image is loaded", yes(machine.kexec_loaded)),
        ("A crash image is loaded", yes(machine.kexec_crash_loaded)),
    ];
    let known = |(name, value): (&'static str, Option<String>)| {
        (name, value.unwrap_or_else(|| "not known".to_owned()))
    };
    all.into_iter().map(known).collect()
}
