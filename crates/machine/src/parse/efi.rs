//! The `efi:` lines of a boot log.
//!
//! Formats: `efi_systab_report_header()`, `efi_config_parse_tables()`,
//! `efi_md_typeattr_format()` in `drivers/firmware/efi/efi.c`;
//! `efi_print_memmap()` in `arch/x86/platform/efi/efi.c`.

use identmap::{PHYS_LIMIT, PhysAddr, PhysRange};

use super::boot::Boot;
use super::cursor::Cursor;
use super::error::Bad;
use super::{MAX_ENTRIES, MAX_NOTES};
use crate::model::{EfiDescriptor, EfiTable, Note};

/// Types by name, in all spellings that kernels used. Numbers: UEFI 2.10, table 7.10.
const TYPES: [(&str, u32); 20] = [
    ("Reserved", 0),
    ("Loader Code", 1),
    ("Loader Data", 2),
    ("Boot Code", 3),
    ("Boot Data", 4),
    ("Runtime Code", 5),
    ("Runtime Data", 6),
    ("Conventional", 7),
    ("Conventional Memory", 7),
    ("Unusable", 8),
    ("Unusable Memory", 8),
    ("ACPI Reclaim", 9),
    ("ACPI Reclaim Memory", 9),
    ("ACPI Mem NVS", 10),
    ("ACPI Memory NVS", 10),
    ("MMIO", 11),
    ("Memory Mapped I/O", 11),
    ("MMIO Port", 12),
    ("PAL Code", 13),
    ("Unaccepted", 15),
];

/// Attribute bits by name: UEFI 2.10, 7.2.3 (`EFI_MEMORY_*`), printed as `efi_md_typeattr_format()` does.
const ATTRIBUTES: [(&str, u64); 15] = [
    ("RUN", EfiDescriptor::RUNTIME),
    ("HP", 0x10_0000),
    ("CC", 0x8_0000),
    ("SP", 0x4_0000),
    ("RO", 0x2_0000),
    ("MR", 0x1_0000),
    ("NV", 0x8000),
    ("XP", 0x4000),
    ("RP", 0x2000),
    ("WP", 0x1000),
    ("UCE", 0x10),
    ("WB", 8),
    ("WT", 4),
    ("WC", 2),
    ("UC", 1),
];

/// A line after `efi: `.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum EfiLine {
    /// `EFI v2.7 by HPE`.
    Version(String),
    /// `ACPI 2.0=0x… SMBIOS=0x…`.
    Tables(Vec<EfiTable>),
    /// `mem00: […] range=[…]`, with its index.
    Descriptor(u64, EfiDescriptor),
    /// A descriptor that the kernel itself calls invalid, or that is no range.
    Invalid(u64),
    /// `EFI runtime memory map:`: what follows is that.
    RuntimeHeading,
    /// `Remove memNN: MMIO range=…`: the `e820: remove` line after it says the same.
    MmioRemoval,
    /// Something else, without an address.
    Other,
}

/// Reads what follows `efi: `.
pub(super) fn efi_line(c: &mut Cursor<'_>, line: usize) -> Result<EfiLine, Bad> {
    c.spaces();
    let rest = c.rest();
    if rest.starts_with("EFI v") {
        return Ok(EfiLine::Version(rest.trim().to_owned()));
    }
    if rest.starts_with("EFI runtime memory map") {
        return Ok(EfiLine::RuntimeHeading);
    }
    if rest.starts_with("Remove mem") {
        return Ok(EfiLine::MmioRemoval);
    }
    let after_mem = rest.strip_prefix("mem").unwrap_or("");
    if after_mem.starts_with(|c: char| c.is_ascii_digit()) {
        c.expect("mem")?;
        let index = c.decimal()?;
        return descriptor(c, index, line);
    }
    if rest.starts_with("Memory Encryption") || !rest.contains("=0x") || rest.contains("range=") {
        return Ok(EfiLine::Other);
    }
    tables(rest, c.at()).map(EfiLine::Tables)
}

impl Boot {
    /// Takes in a line about EFI. Returns whether it said something.
    pub(super) fn efi(&mut self, line: usize, result: Result<EfiLine, Bad>) -> bool {
        let efi = &mut self.machine.efi;
        match result {
            Ok(EfiLine::Other) => return false,
            Ok(EfiLine::MmioRemoval) => {}
            Ok(EfiLine::Version(version)) => {
                efi.version = Some(version);
                efi.booted = Some(true);
            }
            Ok(EfiLine::Tables(tables)) => {
                efi.booted = Some(true);
                for table in tables {
                    if efi.tables.len() < MAX_NOTES && !efi.tables.contains(&table) {
                        efi.tables.push(table);
                    }
                }
            }
            Ok(EfiLine::RuntimeHeading) => {
                efi.runtime_map.clear();
                self.runtime_heading = true;
                self.efi_entries = 0;
            }
            Ok(EfiLine::Descriptor(index, descriptor)) => {
                efi.booted = Some(true);
                let map =
                    if self.runtime_heading { &mut efi.runtime_map } else { &mut efi.memory_map };
                if index == 0 {
                    // Printed again after a change: the later one counts.
                    map.clear();
                }
                let full = map.len() >= MAX_ENTRIES;
                if !full {
                    map.push(descriptor);
                }
                self.efi_entry(index);
                *self.lost_of_efi() |= full;
            }
            Ok(EfiLine::Invalid(index)) => {
                self.efi_entry(index);
                let text = format!(
                    "entry {index} of the EFI memory map is no range of memory: it was left out"
                );
                self.note(Note { line, text, unreadable: false });
            }
            Err(bad) => {
                *self.lost_of_efi() = true;
                let text = format!("a line about EFI cannot be read: {}", bad.expected);
                self.note(Note { line, text, unreadable: true });
            }
        }
        true
    }

    /// Entries are numbered from 0, and printed in one go.
    fn efi_entry(&mut self, index: u64) {
        if index == 0 {
            // Printed again: nothing is lost of that yet.
            *self.lost_of_efi() = false;
            self.efi_entries = 0;
        }
        *self.lost_of_efi() |= index != self.efi_entries;
        self.efi_entries = index.saturating_add(1);
    }

    /// Of the map that is being printed.
    fn lost_of_efi(&mut self) -> &mut bool {
        let lost = &mut self.machine.lost;
        if self.runtime_heading { &mut lost.efi_runtime_map } else { &mut lost.efi_map }
    }
}

/// `NAME=0xADDR NAME=0xADDR …`; names may hold spaces.
fn tables(text: &str, offset: usize) -> Result<Vec<EfiTable>, Bad> {
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(equals) = text[rest..].find("=0x").map(|at| rest + at) {
        let name = text[rest..equals].trim();
        let mut c = Cursor::new(text, equals + 1);
        let value = c.hex().map_err(|bad| Bad { at: bad.at + offset, ..bad })?;
        rest = c.at();
        let valid_name = !name.is_empty() && name.len() <= 32;
        // The kernel's "no such table" is ~0 (EFI_INVALID_TABLE_ADDR).
        if let (true, Some(address)) = (valid_name, PhysAddr::new(value)) {
            found.push(EfiTable { name: name.to_owned(), address });
        }
    }
    Ok(found)
}

/// `: [type|attributes] range=[A-B] (NMB)`, or `: type=7, attr=0xf, range=[A-B) (NMB)` to Linux 3.17.
fn descriptor(c: &mut Cursor<'_>, index: u64, line: usize) -> Result<EfiLine, Bad> {
    c.expect(":")?;
    let (kind, attributes) = if c.eat("type=") {
        let kind = c.decimal()?;
        c.expect(",")?;
        c.expect("attr=")?;
        let attributes = c.hex()?;
        c.expect(",")?;
        (kind, attributes)
    } else {
        type_and_attributes(c)?
    };
    c.expect("range=[")?;
    let start = c.hex()?;
    c.expect("-")?;
    let before = *c;
    let Ok(last) = c.hex() else {
        // 128-bit ends are the kernel's way to show an overflow.
        *c = before;
        return if c.rest().contains("(invalid)") {
            Ok(EfiLine::Invalid(index))
        } else {
            Err(c.hex().unwrap_err())
        };
    };
    let exclusive = c.eat(")");
    if !exclusive {
        c.expect("]")?;
    }
    if c.rest().contains("(invalid)") || start >= PHYS_LIMIT {
        return Ok(EfiLine::Invalid(index));
    }
    let range = if exclusive {
        PhysRange::new(start, last)
    } else {
        PhysRange::from_inclusive(start, last)
    };
    let (Ok(range), Ok(kind)) = (range, u32::try_from(kind)) else {
        return Ok(EfiLine::Invalid(index));
    };
    Ok(EfiLine::Descriptor(index, EfiDescriptor { range, kind, attributes, line }))
}

/// `[Boot Data          |RUN|  |…|WB|WT|WC|UC]` or `[Reserved           |attr=0x070000000000000f]`.
fn type_and_attributes(c: &mut Cursor<'_>) -> Result<(u64, u64), Bad> {
    c.expect("[")?;
    let inside = c.rest();
    let Some(end) = inside.find(']') else {
        let mut bad = c.wanted("expected `]` after the type and attributes");
        bad.ended = true;
        return Err(bad);
    };
    let mut parts = inside[..end].split('|').map(str::trim);
    let word = parts.next().unwrap_or("");
    let number = word.strip_prefix("type=").and_then(|n| n.parse::<u32>().ok());
    let known = TYPES.iter().find(|(name, _)| *name == word).map(|&(_, number)| number);
    let persistent = word.starts_with("Persistent").then_some(14);
    let Some(kind) = known.or(number).or(persistent) else {
        return Err(c.wanted("expected a type of EFI memory, e.g. `Boot Data` or `type=7`"));
    };
    let mut attributes = 0;
    for part in parts {
        if let Some(hex) = part.strip_prefix("attr=") {
            attributes |= Cursor::new(hex, 0).hex().map_err(|bad| Bad { at: c.at(), ..bad })?;
        }
        attributes |= ATTRIBUTES.iter().find(|(name, _)| *name == part).map_or(0, |&(_, bit)| bit);
    }
    let mut after = *c;
    after.expect(&inside[..=end])?;
    *c = after;
    Ok((u64::from(kind), attributes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EfiLine, Bad> {
        efi_line(&mut Cursor::new(text, 0), 5)
    }

    fn descriptor_of(text: &str) -> EfiDescriptor {
        match read(text) {
            Ok(EfiLine::Descriptor(_, d)) => d,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn descriptors_of_all_kernels() {
        let new = descriptor_of(
            "mem35: [Runtime Data       |RUN|  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000079aac000-0x000000007a316fff] (8MB)",
        );
        assert_eq!((new.kind, new.attributes), (6, EfiDescriptor::RUNTIME | 0xf));
        assert_eq!(new.range, PhysRange::new(0x79aac000, 0x7a317000).expect("range"));
        let old = descriptor_of(
            "mem00: type=7, attr=0xf, range=[0x0000000000000000-0x0000000000001000) (0MB)",
        );
        assert_eq!((old.kind, old.attributes), (7, 0xf));
        assert_eq!(old.range, PhysRange::new(0, 0x1000).expect("range"));
        let raw = descriptor_of(
            "mem41: [Reserved           |attr=0x070000000000000f] range=[0x000000007a700000-0x000000007a7fffff] (1MB)",
        );
        assert_eq!((raw.kind, raw.attributes), (0, 0x0700_0000_0000_000f));
        let unknown =
            descriptor_of("mem1: [type=2147483648|   |  |UC] range=[0x1000-0x1fff] (0MB)");
        assert_eq!(unknown.kind, 0x8000_0000);
    }

    #[test]
    fn invalid_descriptors_are_told_apart_from_damaged_lines() {
        let invalid =
            "mem47: [Reserved|   |UC] range=[0x0000000000000000-0xfffffffffffffffff] (invalid)";
        assert_eq!(read(invalid), Ok(EfiLine::Invalid(47)));
        assert_eq!(
            read("mem47: [Reserved|UC] range=[0x2000-0xfff] (0MB)"),
            Ok(EfiLine::Invalid(47))
        );
        assert!(read("mem47: [Reserved|UC] range=[0x2000-").expect_err("cut").ended);
        assert!(read("mem47: [Reser").expect_err("cut").ended);
        assert!(read("mem47: [Frobnicated|UC] range=[0x2000-0x2fff]").is_err());
        assert!(read("mem99999999999999999999: x").is_err());
    }

    #[test]
    fn tables_with_one_space_or_two() {
        let names = |text: &str| match read(text) {
            Ok(EfiLine::Tables(tables)) => tables
                .iter()
                .map(|t| format!("{}@{:x}", t.name, t.address.get()))
                .collect::<Vec<_>>(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            names(" ACPI 2.0=0x79993000  ACPI=0x79993000  SMBIOS 3.0=0x7a1ce000 "),
            ["ACPI 2.0@79993000", "ACPI@79993000", "SMBIOS 3.0@7a1ce000"]
        );
        assert_eq!(
            names(
                "ACPI=0xdcefe000 ACPI 2.0=0xdcefe014 SMBIOS=0xffffffffffffffff UVsystab=0x6a000000"
            ),
            ["ACPI@dcefe000", "ACPI 2.0@dcefe014", "UVsystab@6a000000"]
        );
        assert_eq!(read("seeding entropy pool"), Ok(EfiLine::Other));
        let kept = "Not removing mem57: MMIO range=[0xfee00000-0xfee00fff] (4KB) from e820 map";
        assert_eq!(read(kept), Ok(EfiLine::Other));
    }
}
