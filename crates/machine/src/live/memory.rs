//! Firmware's tables in physical memory: what a kernel reads of them before its own page tables.
//!
//! Linux's decompressor looks for a confidential-computing blob and for unaccepted memory in the EFI
//! system table and configuration table (`arch/x86/boot/compressed/{efi,sev,mem}.c`), and for
//! hot-pluggable memory in ACPI's SRAT (`arch/x86/boot/compressed/acpi.c`), which it finds by the
//! signatures of the tables that the XSDT names. Nothing else is taken, and SMBIOS not at all.

use identmap::{PhysAddr, PhysRange};

use crate::bundle::{Blob, BlobKind};
use crate::model::Machine;

/// `EFI_SYSTEM_TABLE_SIGNATURE` (UEFI 2.10, 4.3).
const SYSTEM_TABLE: &[u8] = b"IBI SYST";
/// Bytes of `EFI_SYSTEM_TABLE`, 64-bit and 32-bit firmware.
const SYSTEM_TABLE_LEN: [u64; 2] = [120, 72];
/// `NumberOfTableEntries` in it.
const ENTRIES: [usize; 2] = [104, 64];
/// Bytes of one `EFI_CONFIGURATION_TABLE` (UEFI 2.10, 4.6).
const ENTRY_LEN: [u64; 2] = [24, 16];
/// More than any firmware has.
const MOST_ENTRIES: u64 = 4096;
/// `EFI_ACPI_20_TABLE_GUID` and `ACPI_TABLE_GUID` (UEFI 2.10, 4.6.1), as they lie in memory.
const ACPI_GUIDS: [[u8; 16]; 2] = [
    [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0, 0x80, 0xc7, 0x3c, 0x88, 0x81],
    [0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11, 0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d],
];
/// ACPI 6.5, 5.2.5.3.
const RSDP: &[u8] = b"RSD PTR ";
const RSDP_LEN: u64 = 36;
/// Bytes of the RSDP that the first checksum covers, and all there is of revision 0.
const RSDP_V1: usize = 20;
/// `DESCRIPTION_HEADER` (ACPI 6.5, 5.2.6).
const HEADER: u64 = 36;
/// The longest XSDT and SRAT that are taken: 8192 tables, 26 000 processors.
const LONGEST: u64 = 1 << 20;
const MOST_TABLES: usize = 8192;

/// Reads them. `read` gives all bytes of a range or nothing: a source that gives zeros for what
/// it does not show must refuse instead.
///
/// A piece is taken only if its signature and checksum are right (the configuration table, which
/// has none: if it names ACPI). What cannot be read or is not right is left out: not known.
#[must_use]
pub fn firmware_memory(
    machine: &Machine,
    read: &mut dyn FnMut(PhysRange) -> Option<Vec<u8>>,
) -> Vec<Blob> {
    let mut found = Found { read, blobs: Vec::new() };
    let rsdp = found.efi(machine);
    if let Some(at) = machine.rsdp.or(rsdp) {
        found.acpi(at);
    }
    found.blobs.sort_by_key(|blob| blob.start);
    found.blobs
}

struct Found<'a> {
    read: &'a mut dyn FnMut(PhysRange) -> Option<Vec<u8>>,
    /// Disjoint.
    blobs: Vec<Blob>,
}

impl Found<'_> {
    fn bytes(&mut self, at: PhysAddr, len: u64) -> Option<Vec<u8>> {
        let range = PhysRange::from_len(at.get(), len).ok()?;
        (self.read)(range).filter(|bytes| bytes.len() as u64 == len)
    }

    fn keep(&mut self, kind: BlobKind, start: PhysAddr, bytes: Vec<u8>) {
        let blob = Blob { kind, start, bytes };
        let Ok(range) = blob.range() else { return };
        let taken = |other: &Blob| other.range().is_ok_and(|other| other.intersects(range));
        if !self.blobs.iter().any(taken) {
            self.blobs.push(blob);
        }
    }

    /// The system table and the configuration table; where the latter says the RSDP is.
    fn efi(&mut self, machine: &Machine) -> Option<PhysAddr> {
        let width = usize::from(machine.efi.is_64bit == Some(false));
        let mut entries = machine.efi.config_table.and_then(|table| table.entries);
        if let Some(at) = machine.efi.system_table
            && let Some(table) = self.bytes(at, SYSTEM_TABLE_LEN[width])
            && table.starts_with(SYSTEM_TABLE)
        {
            entries = pointer(&table, ENTRIES[width], width).or(entries);
            self.keep(BlobKind::EfiSystemTable, at, table);
        }
        let at = machine.efi.config_table?.address;
        let entries = entries.filter(|count| (1..=MOST_ENTRIES).contains(count))?;
        let array = self.bytes(at, entries * ENTRY_LEN[width])?;
        let rsdp = ACPI_GUIDS.iter().find_map(|guid| {
            let mut all = array.chunks_exact(ENTRY_LEN[width] as usize);
            pointer(all.find(|entry| entry.starts_with(guid))?, 16, width)
        })?;
        self.keep(BlobKind::EfiConfigTable, at, array);
        PhysAddr::new(rsdp)
    }

    /// The RSDP, the table it points to, and the headers of those that are named there; SRAT whole.
    fn acpi(&mut self, at: PhysAddr) -> Option<()> {
        let mut rsdp = self.bytes(at, RSDP_LEN).or_else(|| self.bytes(at, RSDP_V1 as u64))?;
        if !rsdp.starts_with(RSDP) || !sums_to_zero(rsdp.get(..RSDP_V1)?) {
            return None;
        }
        let extended = rsdp[15] >= 2 && rsdp.len() as u64 == RSDP_LEN && sums_to_zero(&rsdp);
        if !extended {
            rsdp.truncate(RSDP_V1);
        }
        let xsdt = if extended { pointer(&rsdp, 24, 0).filter(|&at| at != 0) } else { None };
        let (signature, width, root) = match xsdt {
            Some(at) => (b"XSDT", 0, at),
            None => (b"RSDT", 1, pointer(&rsdp, 16, 1)?),
        };
        self.keep(BlobKind::AcpiRsdp, at, rsdp);
        let root = PhysAddr::new(root)?;
        let table = self.table(root, Some(signature))?;
        let entry = [8, 4][width];
        let named: Vec<PhysAddr> = table
            .get(HEADER as usize..)?
            .chunks_exact(entry)
            .take(MOST_TABLES)
            .filter_map(|entry| PhysAddr::new(pointer(entry, 0, width)?).filter(|at| at.get() != 0))
            .collect();
        self.keep(BlobKind::AcpiTable, root, table);
        for at in named {
            let Some(header) = self.bytes(at, HEADER) else { continue };
            let table = if header.starts_with(b"SRAT") { self.table(at, None) } else { None };
            // All zeros or ones is what is read where nothing is.
            if header[..4].iter().all(u8::is_ascii_graphic) {
                self.keep(BlobKind::AcpiTable, at, table.unwrap_or(header));
            }
        }
        Some(())
    }

    /// A whole ACPI table, its checksum right.
    fn table(&mut self, at: PhysAddr, signature: Option<&[u8; 4]>) -> Option<Vec<u8>> {
        let header = self.bytes(at, HEADER)?;
        if signature.is_some_and(|signature| !header.starts_with(signature)) {
            return None;
        }
        let len = pointer(&header, 4, 1).filter(|len| (HEADER..=LONGEST).contains(len))?;
        self.bytes(at, len).filter(|table| sums_to_zero(table))
    }
}

/// ACPI's checksum: all bytes add up to zero.
fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// A number of 8 bytes (`width` 0) or 4 (1).
fn pointer(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add([8, 4][width])?)?;
    Some(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::ConfigTable;

    /// Memory by the start of each piece; nothing between.
    #[derive(Clone, Default)]
    struct Memory(BTreeMap<u64, Vec<u8>>);

    impl Memory {
        fn read(&self, range: PhysRange) -> Option<Vec<u8>> {
            let (start, bytes) = self.0.range(..=range.start().get()).next_back()?;
            let at = (range.start().get() - start) as usize;
            bytes.get(at..at.checked_add(range.len() as usize)?).map(<[u8]>::to_vec)
        }

        fn blobs(&self, machine: &Machine) -> Vec<(BlobKind, u64, usize)> {
            firmware_memory(machine, &mut |range| self.read(range))
                .into_iter()
                .map(|blob| (blob.kind, blob.start.get(), blob.bytes.len()))
                .collect()
        }
    }

    fn table(signature: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 36];
        bytes[..4].copy_from_slice(signature);
        bytes.extend(body);
        let len = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        bytes[9] = bytes.iter().fold(0_u8, |sum, &b| sum.wrapping_sub(b));
        bytes
    }

    /// A machine, and its memory: two tables besides SRAT, one of them out of reach.
    fn machine() -> (Machine, Memory) {
        let address = |at| PhysAddr::new(at).unwrap();
        let mut machine = Machine::default();
        machine.efi.system_table = Some(address(0x1018));
        machine.efi.config_table = Some(ConfigTable { address: address(0x2018), entries: None });
        let mut system = vec![0; 120];
        system[..8].copy_from_slice(SYSTEM_TABLE);
        system[104] = 2;
        let mut array = vec![0; 48];
        array[24..40].copy_from_slice(&ACPI_GUIDS[0]);
        array[40..48].copy_from_slice(&0x3014_u64.to_le_bytes());
        let mut rsdp = vec![0; 36];
        rsdp[..8].copy_from_slice(RSDP);
        rsdp[15] = 2;
        rsdp[24..32].copy_from_slice(&0x4000_u64.to_le_bytes());
        rsdp[8] = rsdp[..20].iter().fold(0_u8, |sum, &b| sum.wrapping_sub(b));
        rsdp[32] = rsdp.iter().fold(0_u8, |sum, &b| sum.wrapping_sub(b));
        let xsdt: Vec<u8> =
            [0x5000_u64, 0x6000, 0x7000].iter().flat_map(|a| a.to_le_bytes()).collect();
        let pieces = [
            (0x1018, system),
            (0x2018, array),
            (0x3014, rsdp),
            (0x4000, table(b"XSDT", &xsdt)),
            (0x5000, table(b"FACP", &[7; 200])),
            (0x7000, table(b"SRAT", &[1; 52])),
        ];
        (machine, Memory(pieces.into()))
    }

    #[test]
    fn what_a_kernel_reads_and_no_more() {
        let (machine, memory) = machine();
        let expected = [
            (BlobKind::EfiSystemTable, 0x1018, 120),
            (BlobKind::EfiConfigTable, 0x2018, 48),
            (BlobKind::AcpiRsdp, 0x3014, 36),
            (BlobKind::AcpiTable, 0x4000, 60),
            (BlobKind::AcpiTable, 0x5000, 36),
            (BlobKind::AcpiTable, 0x7000, 88),
        ];
        assert_eq!(memory.blobs(&machine), expected);
    }

    #[test]
    fn zeros_are_no_tables() {
        let (machine, memory) = machine();
        for (&start, kinds) in memory.0.keys().zip([5, 0, 2, 3, 5, 5]) {
            let mut dark = memory.clone();
            dark.0.get_mut(&start).unwrap().fill(0);
            let found = dark.blobs(&machine);
            assert!(!found.iter().any(|blob| blob.1 == start), "{start:#x}: {found:x?}");
            // Without the system table the number of entries is not known.
            let expected = if start == 0x1018 { 0 } else { kinds };
            assert_eq!(found.len(), if start == 0x2018 { 1 } else { expected }, "{start:#x}");
        }
        assert_eq!(Memory::default().blobs(&machine), []);
    }

    #[test]
    fn a_wrong_checksum_is_no_table() {
        let (machine, memory) = machine();
        for (start, left) in [(0x3014, 2), (0x4000, 3)] {
            let mut bad = memory.clone();
            *bad.0.get_mut(&start).unwrap().last_mut().unwrap() ^= 0x55;
            let found = bad.blobs(&machine);
            assert!(found.len() <= left + 1, "{start:#x}: {found:x?}");
        }
        // Of SRAT the header stays: its signature is what counts there.
        let mut bad = memory.clone();
        bad.0.get_mut(&0x7000).unwrap()[80] ^= 1;
        assert_eq!(bad.blobs(&machine).last(), Some(&(BlobKind::AcpiTable, 0x7000, 36)));
    }

    /// No content makes it panic, read without end, or keep pieces that overlap.
    #[test]
    fn wild_pointers_and_lengths() {
        let (mut machine, memory) = machine();
        let starts: Vec<u64> = memory.0.keys().copied().collect();
        for start in starts {
            for at in 0..memory.0[&start].len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut wild = memory.clone();
                    wild.0.get_mut(&start).unwrap()[at] = value;
                    let _ = wild.blobs(&machine);
                }
            }
        }
        machine.rsdp = PhysAddr::new(0xf_ffff_ffff_fff8);
        let _ = memory.blobs(&machine);
        // Everything is the same XSDT.
        let table = table(b"XSDT", &[0x40, 0, 0, 0, 0, 0, 0, 0]);
        let blobs = firmware_memory(&machine, &mut |range| {
            Some(table.iter().copied().cycle().take(range.len() as usize).collect())
        });
        assert_eq!(blobs, []);
    }
}
