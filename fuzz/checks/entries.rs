//! Entries of page tables, out of a fuzzer's bytes.

use identmap::{Levels, Paging, Table};

use crate::bytes::Bytes;

/// Where the tables stand.
pub const BASE: u64 = 0x10_0000;

/// How tables are read: by the four lowest bits of `mode`, one byte and perhaps a word.
pub fn some_paging(bytes: &mut Bytes<'_>, mode: u8) -> Paging {
    Paging {
        levels: if mode & 1 == 0 { Levels::Four } else { Levels::Five },
        maxphyaddr: bytes.byte(),
        pdpe1gb: mode & 2 == 0,
        nxe: mode & 4 == 0,
        encryption_mask: if mode & 8 == 0 { 0 } else { bytes.word() },
    }
}

/// One entry: three bytes for its place and kind, and some for its address.
pub fn some_entry(bytes: &mut Bytes<'_>, tables: &mut [Table]) {
    let place = bytes.byte();
    let index = usize::from(bytes.byte()) << 1 | usize::from(place >> 7);
    let table = usize::from(place & 0x7f) % tables.len();
    let kind = bytes.byte();
    let flags = [0x63, 0xe3, 0x1e3, 0x67, 0x61, 0x10e3, 1 << 63 | 0x63, 1][usize::from(kind >> 5)];
    let bits = match kind & 3 {
        0 => (BASE + (u64::from(bytes.byte() & 15) << 12)) | flags,
        1 => u64::from(bytes.byte()) << 30 | flags,
        2 => u64::from(bytes.byte()) << 21 | u64::from(bytes.byte()) << 12 | flags,
        _ => bytes.word(),
    };
    // A stretch of equal steps now and then, so that runs merge.
    let repeat = if kind & 0x1c == 0x1c { 8 } else { 1 };
    for i in 0..repeat {
        if let Some(entry) = tables[table].0.get_mut(index + i) {
            *entry = bits.wrapping_add((i as u64) << 21);
        }
    }
}
