//! EFI's tables in memory, as far as facts of the machine tell what is in them.

use identmap::{PhysAddr, PhysRange};
use identmap_linux::firmware;
use identmap_machine::Machine;

use crate::scene::Content;

pub(crate) const SYSTEM_TABLE: &str = "EFI system table";
pub(crate) const CONFIG_TABLE: &str = "EFI configuration table";

/// GUIDs of tables by the kernel's names for them (`drivers/firmware/efi/efi.c`, `common_tables`;
/// `include/linux/efi.h`, Linux 6.12), in the order of bytes in memory.
const GUIDS: [(&str, [u8; 16]); 4] = [
    (
        "ACPI 2.0",
        guid(0x8868_e871, 0xe4f1, 0x11d3, [0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81]),
    ),
    ("ACPI", guid(0xeb9d_2d30, 0x2d88, 0x11d3, [0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d])),
    (
        "SMBIOS 3.0",
        guid(0xf2fd_1544, 0x9794, 0x4a2c, [0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94]),
    ),
    ("SMBIOS", guid(0xeb9d_2d31, 0x2d88, 0x11d3, [0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d])),
];
/// `EFI_CC_BLOB_GUID` (same file): what the consumer looks for.
const CC_BLOB: [u8; 16] =
    guid(0x067b_1f5f, 0xcf26, 0x44c5, [0x85, 0x54, 0x93, 0xd7, 0x77, 0x91, 0x2d, 0x42]);

const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) =
        (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
    [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7]
}

/// The configuration-table array, where its place and length are known.
pub(crate) fn config_table(machine: &Machine) -> Option<PhysRange> {
    let table = machine.efi.config_table?;
    let len = table.entries?.checked_mul(firmware::config_entry_len(machine))?;
    PhysRange::from_len(table.address.get(), len).ok()
}

/// What is known, and the two tables as facts describe them where nothing better is known.
///
/// Facts tell the tables' fields that the consumer reads (`tables`, `nr_tables`), and the entries
/// that the kernel has a name for. That no other entry is a confidential-computing blob is an
/// assumption, and is listed: a machine that is no SEV-SNP guest has none.
pub(crate) fn contents(
    machine: &Machine,
    known: &[Content],
    assumptions: &mut Vec<String>,
) -> Vec<Content> {
    let mut all = known.to_vec();
    let mut add = |name: &str, range: PhysRange, bytes: Vec<u8>| {
        if all.iter().any(|content| content.range.intersects(range)) {
            return false;
        }
        all.push(Content { name: name.to_owned(), range, bytes, loaded: false });
        true
    };
    if machine.efi.is_64bit == Some(false) {
        return all;
    }
    if let (Some(range), Some(table)) = (firmware::system_table(machine), machine.efi.config_table)
        && let Some(entries) = table.entries
    {
        add(SYSTEM_TABLE, range, system_table(machine, table.address, entries));
    }
    // More than any firmware has is a misread text, and not worth the memory.
    let range = config_table(machine).filter(|range| range.len() <= 1 << 20);
    if let Some(range) = range
        && add(CONFIG_TABLE, range, entries(machine, range))
        && machine.cc_blob.is_none()
    {
        let what = "no entry of the EFI configuration table is a confidential-computing blob";
        assumptions.push(what.to_owned());
    }
    all
}

/// `efi_system_table_64_t` (Linux `include/linux/efi.h`; UEFI 2.10, 4.3).
fn system_table(machine: &Machine, tables: PhysAddr, entries: u64) -> Vec<u8> {
    let mut bytes = vec![0; firmware::SYSTEM_TABLE_64 as usize];
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    // `EFI_SYSTEM_TABLE_SIGNATURE`, revision 2.70, size of the header.
    put(0, 0x5453_5953_2049_4249);
    put(8, 0x78 << 32 | 0x0002_0046);
    put(24, machine.efi.fw_vendor.map_or(0, PhysAddr::get));
    put(88, machine.efi.runtime.map_or(0, PhysAddr::get));
    put(104, entries);
    put(112, tables.get());
    bytes
}

/// `efi_config_table_64_t` each: a GUID and a pointer.
fn entries(machine: &Machine, range: PhysRange) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(range.len() as usize);
    let blob = machine.cc_blob.map(|address| (CC_BLOB, address));
    let named = machine.efi.tables.iter().filter_map(|table| {
        let (_, guid) = GUIDS.iter().find(|(name, _)| *name == table.name)?;
        Some((*guid, table.address))
    });
    for (guid, address) in blob.into_iter().chain(named) {
        bytes.extend(guid);
        bytes.extend(address.get().to_le_bytes());
    }
    bytes.truncate(range.len() as usize);
    bytes
}
