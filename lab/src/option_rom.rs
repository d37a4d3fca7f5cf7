//! A PCI option ROM for OVMF that moves the EFI configuration table away from the system table.
//!
//! OVMF has both on one page, so that a map with one of them has the other. The driver in this ROM
//! takes 4 MiB of run-time data and then installs 250 configuration tables: the array outgrows its
//! place (`CoreInstallConfigurationTable()`, MdeModulePkg/Core/Dxe/Misc/InstallConfigurationTable.c)
//! and ends up below the 4 MiB, on pages of its own.

/// The device that carries it: QEMU's `edu` (docs/specs/edu.rst).
pub const DEVICE: &str = "edu";
const VENDOR_ID: u16 = 0x1234;
const DEVICE_ID: u16 = 0x11e8;

/// How many tables it adds. At 24 bytes each they are more than one page: the largest pool
/// allocation that shares a page is smaller (MdeModulePkg/Core/Dxe/Mem/Pool.c, `mPoolSizeTable`).
pub const TABLES: u64 = 250;

/// The driver: `EFI_STATUS entry(EFI_HANDLE, EFI_SYSTEM_TABLE *)`, in Microsoft's calling convention.
/// Offsets of the boot services: UEFI specification, section 4.4.
const CODE: &[u8] = &[
    0x53, // push rbx
    0x56, // push rsi
    0x48,
    0x83,
    0xec,
    0x48, // sub rsp, 0x48
    0x48,
    0x8b,
    0x5a,
    0x60, // mov rbx, [rdx+0x60]      BootServices
    0x31,
    0xc9, // xor ecx, ecx                          AllocateAnyPages
    0xba,
    0x06,
    0x00,
    0x00,
    0x00, // mov edx, 6          EfiRuntimeServicesData
    0x41,
    0xb8,
    0x00,
    0x04,
    0x00,
    0x00, // mov r8d, 0x400    4 MiB
    0x4c,
    0x8d,
    0x4c,
    0x24,
    0x28, // lea r9, [rsp+0x28]
    0xff,
    0x53,
    0x28, // call [rbx+0x28]                 AllocatePages
    0xbe,
    TABLES as u8,
    0x00,
    0x00,
    0x00, // mov esi, 250
    0x89,
    0x74,
    0x24,
    0x30, // again: mov [rsp+0x30], esi    a GUID: a number and a text
    0xc7,
    0x44,
    0x24,
    0x34,
    b'i',
    b'd',
    b'e',
    b'n', // mov dword [rsp+0x34], ...
    0xc7,
    0x44,
    0x24,
    0x38,
    b't',
    b'm',
    b'a',
    b'p', // mov dword [rsp+0x38], ...
    0xc7,
    0x44,
    0x24,
    0x3c,
    b'-',
    b'l',
    b'a',
    b'b', // mov dword [rsp+0x3c], ...
    0x48,
    0x8d,
    0x4c,
    0x24,
    0x30, // lea rcx, [rsp+0x30]
    0x48,
    0x89,
    0xda, // mov rdx, rbx                    a table: anything but null
    0xff,
    0x93,
    0xc0,
    0x00,
    0x00,
    0x00, // call [rbx+0xc0]   InstallConfigurationTable
    0xff,
    0xce, // dec esi
    0x75,
    0xd2, // jnz again
    0x31,
    0xc0, // xor eax, eax                          EFI_SUCCESS
    0x48,
    0x83,
    0xc4,
    0x48, // add rsp, 0x48
    0x5e, // pop rsi
    0x5b, // pop rbx
    0xc3, // ret
];

const X86_64: u16 = 0x8664;
/// `IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER`
const DRIVER: u16 = 11;
/// Where the PCI data structure starts in the ROM, and its size.
const PCI_DATA_AT: usize = 0x1c;
const PCI_DATA: usize = 0x18;
/// Where the PE image starts in the ROM.
const IMAGE: usize = 0x40;
/// The size of the file. A ROM of 2 KiB is passed over, of 64 KiB is not: tried with OVMF 2022.11.
const ROM: usize = 64 << 10;
/// Units of a ROM's sizes, and the PE file's alignment.
const UNIT: usize = 512;

/// The ROM.
///
/// Layout: UEFI specification, section 14.4.2 (`EFI_PCI_EXPANSION_ROM_HEADER`), PCI Firmware
/// Specification 3.0, section 5.1.2 (`PCIR`).
#[must_use]
pub fn rom() -> Vec<u8> {
    let image = driver();
    let size = (IMAGE + image.len()).next_multiple_of(UNIT);
    let units = (size / UNIT) as u16;
    let mut rom = Vec::with_capacity(ROM);
    rom.extend(0xaa55_u16.to_le_bytes());
    rom.extend(units.to_le_bytes());
    rom.extend(0x0ef1_u32.to_le_bytes()); // EFI_PCI_EXPANSION_ROM_HEADER_EFISIGNATURE
    rom.extend(DRIVER.to_le_bytes());
    rom.extend(X86_64.to_le_bytes());
    rom.extend([0; 2 + 8]); // not compressed; reserved
    rom.extend((IMAGE as u16).to_le_bytes());
    rom.extend((PCI_DATA_AT as u16).to_le_bytes());
    rom.resize(PCI_DATA_AT, 0);
    rom.extend(b"PCIR");
    rom.extend(VENDOR_ID.to_le_bytes());
    rom.extend(DEVICE_ID.to_le_bytes());
    rom.extend([0; 2]);
    rom.extend((PCI_DATA as u16).to_le_bytes());
    rom.extend([0, 0, 0, 0xff]); // revision; class code: no other fits
    rom.extend(units.to_le_bytes());
    rom.extend([0, 0, 3, 0x80, 0, 0]); // code revision; EFI image; the last one; reserved
    rom.resize(IMAGE, 0);
    rom.extend(image);
    rom.resize(ROM, 0xff);
    rom
}

/// A PE32+ image with one section (Microsoft's PE format specification).
fn driver() -> Vec<u8> {
    const HEADERS: u32 = UNIT as u32;
    const SECTION: u32 = 0x1000;
    let raw = CODE.len().next_multiple_of(UNIT) as u32;
    let mut image = b"MZ".to_vec();
    image.resize(0x3c, 0);
    image.extend(0x40_u32.to_le_bytes());
    image.extend(b"PE\0\0");
    let halves = |image: &mut Vec<u8>, values: &[u16]| {
        image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let words = |image: &mut Vec<u8>, values: &[u32]| {
        image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    halves(&mut image, &[X86_64, 1]);
    words(&mut image, &[0, 0, 0]);
    halves(&mut image, &[240, 0x22]); // optional header; executable, any address
    halves(&mut image, &[0x20b, 0]);
    words(&mut image, &[raw, 0, 0, SECTION, SECTION]); // code, data, bss, entry, base of code
    words(&mut image, &[0, 0, SECTION, HEADERS]); // image base, alignments
    words(&mut image, &[0, 0, 0, 0, 2 * SECTION, HEADERS, 0]); // versions, size of image, headers
    halves(&mut image, &[DRIVER, 0]);
    words(&mut image, &[0; 9]); // stack, heap, loader flags
    words(&mut image, &[16]);
    image.resize(image.len() + 16 * 8, 0); // no directories
    image.extend(b".text\0\0\0");
    words(&mut image, &[CODE.len() as u32, SECTION, raw, HEADERS, 0, 0, 0, 0x6000_0020]);
    image.resize(HEADERS as usize, 0);
    image.extend(CODE);
    image.resize((HEADERS + raw) as usize, 0);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_lie_where_the_headers_say() {
        let rom = rom();
        let half = |at: usize| usize::from(u16::from_le_bytes([rom[at], rom[at + 1]]));
        let word = |at: usize| half(at) | half(at + 2) << 16;
        assert_eq!(half(0), 0xaa55);
        let size = half(2) * UNIT;
        let data = half(0x18);
        assert_eq!(&rom[data..data + 4], b"PCIR");
        assert_eq!((half(data + 0x0a), half(data + 0x10) * UNIT), (PCI_DATA, size));
        assert_eq!((rom[data + 0x14], rom[data + 0x15]), (3, 0x80));
        let image = half(0x16);
        let pe = image + word(image + 0x3c);
        assert_eq!(&rom[pe..pe + 4], b"PE\0\0");
        let optional = pe + 24;
        assert_eq!((half(pe + 20), half(optional), half(optional + 68)), (240, 0x20b, 11));
        let section = optional + half(pe + 20);
        assert_eq!(&rom[section..section + 5], b".text");
        assert_eq!(word(optional + 16), word(section + 12), "the entry is the section's start");
        let code = image + word(section + 20);
        assert_eq!(&rom[code..code + CODE.len()], CODE);
        assert!(code + word(section + 16) <= size && size <= rom.len());
    }
}
