//! Writes a variable into OVMF's variable store (`OVMF_VARS*.fd`).
//!
//! The store is a firmware volume (PI specification, volume 3, section 3.2.1, "Firmware Volume Header")
//! whose body is EDK II's `VARIABLE_STORE_HEADER` and a chain of `AUTHENTICATED_VARIABLE_HEADER`s
//! (MdeModulePkg/Include/Guid/VariableFormat.h). Nothing here is signed: the variables in question are
//! plain ones, for which the authentication fields are zero.

use std::fmt;

/// `MemoryTypeInformation`: how many pages OVMF sets aside for each kind of memory that must stay
/// where it is between boots (MdeModulePkg/Include/Guid/MemoryTypeInformation.h,
/// `gEfiMemoryTypeInformationGuid`). Only the build with SMM reads it.
pub const MEMORY_TYPE_INFORMATION: &str = "MemoryTypeInformation";
/// 4c19049f-4137-4dd3-9c10-8b97a83ffdfa, as it lies in memory.
pub const MEMORY_TYPE_INFORMATION_GUID: [u8; 16] = [
    0x9f, 0x04, 0x19, 0x4c, 0x37, 0x41, 0xd3, 0x4d, 0x9c, 0x10, 0x8b, 0x97, 0xa8, 0x3f, 0xfd, 0xfa,
];

/// Memory types of the UEFI specification (section 7.2, `EFI_MEMORY_TYPE`).
pub mod memory_type {
    /// `EfiReservedMemoryType`
    pub const RESERVED: u32 = 0;
    /// `EfiRuntimeServicesCode`
    pub const RUNTIME_CODE: u32 = 5;
    /// `EfiRuntimeServicesData`: the system table and the configuration-table array live here.
    pub const RUNTIME_DATA: u32 = 6;
    /// `EfiACPIReclaimMemory`
    pub const ACPI_RECLAIM: u32 = 9;
    /// `EfiACPIMemoryNVS`
    pub const ACPI_NVS: u32 = 10;
    /// `EfiMaxMemoryType` of the specification's first enumeration, which ends the array.
    pub const END: u32 = 15;
}

/// The content of `MemoryTypeInformation`: pairs of a memory type and a number of 4 KiB pages.
#[must_use]
pub fn memory_type_information(bins: &[(u32, u32)]) -> Vec<u8> {
    bins.iter()
        .chain(&[(memory_type::END, 0)])
        .flat_map(|(kind, pages)| [kind.to_le_bytes(), pages.to_le_bytes()].concat())
        .collect()
}

/// Why a store cannot take a variable.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No firmware volume at offset 0.
    NotAVolume,
    /// The volume holds no authenticated variable store.
    NotAStore,
    /// A header or variable ends beyond what holds it; the offset is of its start.
    Truncated(usize),
    /// The store has fewer free bytes than the variable takes.
    Full {
        /// Bytes needed.
        needed: usize,
        /// Bytes free.
        free: usize,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAVolume => write!(f, "no firmware volume at the start of the file"),
            Self::NotAStore => {
                write!(f, "the firmware volume holds no authenticated variable store")
            }
            Self::Truncated(offset) => {
                write!(f, "what starts at 0x{offset:x} does not fit in its store")
            }
            Self::Full { needed, free } => write!(f, "{needed} bytes needed, {free} free"),
        }
    }
}

impl std::error::Error for StoreError {}

/// `VARIABLE_NON_VOLATILE | VARIABLE_BOOTSERVICE_ACCESS`
const ATTRIBUTES: u32 = 3;
/// Offset of `FvLength` and of the signature `_FVH` in the volume header, and of `HeaderLength`.
const FV_SIGNATURE: usize = 40;
const FV_HEADER_LENGTH: usize = 48;
/// `gEfiAuthenticatedVariableGuid`, aaf32c78-947b-439a-a180-2e144ec37792.
const STORE_GUID: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
const STORE_HEADER: usize = 28;
/// `VARIABLE_DATA` and `VAR_ADDED`.
const START_ID: u16 = 0x55aa;
const ADDED: u8 = 0x3f;
const VARIABLE_HEADER: usize = 60;

/// Appends a variable to the store. A variable of that name must not be there yet.
///
/// # Errors
/// [`StoreError`]: each variant says when.
pub fn add_variable(
    store: &mut [u8],
    guid: &[u8; 16],
    name: &str,
    data: &[u8],
) -> Result<(), StoreError> {
    if store.get(FV_SIGNATURE..FV_SIGNATURE + 4) != Some(b"_FVH") {
        return Err(StoreError::NotAVolume);
    }
    let start = usize::from(u16_at(store, FV_HEADER_LENGTH).ok_or(StoreError::NotAVolume)?);
    if store.get(start..start + 16) != Some(STORE_GUID.as_slice()) {
        return Err(StoreError::NotAStore);
    }
    // The size counts from the store header on.
    let size = u32_at(store, start + 16).ok_or(StoreError::Truncated(start))? as usize;
    let end = start
        .checked_add(size)
        .filter(|end| *end <= store.len())
        .ok_or(StoreError::Truncated(start))?;

    let mut offset = start + STORE_HEADER;
    while offset + VARIABLE_HEADER <= end && u16_at(store, offset) == Some(START_ID) {
        let sizes = u32_at(store, offset + 36).zip(u32_at(store, offset + 40));
        let (name_size, data_size) = sizes.ok_or(StoreError::Truncated(offset))?;
        offset = (offset + VARIABLE_HEADER)
            .checked_add(name_size as usize)
            .and_then(|at| at.checked_add(data_size as usize))
            .map(|at| at.next_multiple_of(4))
            .filter(|at| *at <= end)
            .ok_or(StoreError::Truncated(offset))?;
    }

    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut variable = Vec::with_capacity(VARIABLE_HEADER + name.len() + data.len());
    variable.extend(START_ID.to_le_bytes());
    variable.extend([ADDED, 0]);
    variable.extend(ATTRIBUTES.to_le_bytes());
    variable.extend([0; 8 + 16 + 4]); // monotonic count, time stamp, public key index
    variable.extend((name.len() as u32).to_le_bytes());
    variable.extend((data.len() as u32).to_le_bytes());
    variable.extend(guid);
    variable.extend(name);
    variable.extend(data);
    let free = end - offset;
    store
        .get_mut(offset..end)
        .and_then(|room| room.get_mut(..variable.len()))
        .ok_or(StoreError::Full { needed: variable.len(), free })?
        .copy_from_slice(&variable);
    Ok(())
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(size: u32) -> Vec<u8> {
        let mut store = vec![0xff; 72 + size as usize];
        store[FV_SIGNATURE..FV_SIGNATURE + 4].copy_from_slice(b"_FVH");
        store[FV_HEADER_LENGTH..FV_HEADER_LENGTH + 2].copy_from_slice(&72_u16.to_le_bytes());
        store[72..88].copy_from_slice(&STORE_GUID);
        store[88..92].copy_from_slice(&size.to_le_bytes());
        store
    }

    #[test]
    fn variables_follow_each_other_at_multiples_of_four() {
        let mut store = blank(400);
        add_variable(&mut store, &[1; 16], "A", &[7; 3]).unwrap();
        add_variable(&mut store, &[2; 16], "Bc", &[8; 4]).unwrap();
        let first = 72 + STORE_HEADER;
        assert_eq!(u16_at(&store, first), Some(START_ID));
        assert_eq!(&store[first + 44..first + 60], &[1; 16]);
        assert_eq!(&store[first + 60..first + 67], &[b'A', 0, 0, 0, 7, 7, 7]);
        let second = first + 68;
        assert_eq!(u16_at(&store, second), Some(START_ID));
        assert_eq!(&store[second + 66..second + 70], &[8; 4]);
        assert_eq!(store[second + 70], 0xff, "the rest stays erased");
    }

    #[test]
    fn a_full_or_foreign_store_is_refused() {
        assert_eq!(add_variable(&mut [0; 100], &[0; 16], "A", &[]), Err(StoreError::NotAVolume));
        let mut store = blank(100);
        assert_eq!(
            add_variable(&mut store, &[0; 16], "A", &[0; 20]),
            Err(StoreError::Full { needed: 84, free: 72 })
        );
        store[88..92].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(add_variable(&mut store, &[0; 16], "A", &[]), Err(StoreError::Truncated(72)));
    }

    #[test]
    fn bins_end_with_the_terminator() {
        assert_eq!(
            memory_type_information(&[(6, 0x100)]),
            [6, 0, 0, 0, 0, 1, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
