//! The loops that write leaves, and nothing else. `cargo xtask asm` looks at what the compiler makes of them.

use crate::addr::PageSize;

/// How many tables are written at once where a map is very large: [`TableWrite::fill_tables`](crate::TableWrite::fill_tables).
pub const ABREAST: usize = 8;

/// The entries of one table.
type Row = [u64; 512];

/// Consecutive leaves, the first with these bits.
pub(crate) fn write_leaves(entries: &mut [u64], first: u64, size: PageSize) {
    match size {
        PageSize::Size4K => write_steps::<{ PageSize::Size4K.bytes() }>(entries, first),
        PageSize::Size2M => write_steps::<{ PageSize::Size2M.bytes() }>(entries, first),
        PageSize::Size1G => write_steps::<{ PageSize::Size1G.bytes() }>(entries, first),
    }
}

/// The hot loop. Sixteen entries are one sum plus constants: the compiler makes eight vectors of them that
/// do not wait for each other. With the distance as a variable it makes none (`cargo xtask asm` looks).
fn write_steps<const STEP: u64>(entries: &mut [u64], first: u64) {
    // The last sum may lie past the end of the map; it is never stored.
    let mut bits = first;
    let (blocks, rest) = entries.as_chunks_mut::<16>();
    for block in blocks {
        for (entry, i) in block.iter_mut().zip(0..) {
            *entry = bits.wrapping_add(i * STEP);
        }
        bits = bits.wrapping_add(16 * STEP);
    }
    for entry in rest {
        *entry = bits;
        bits = bits.wrapping_add(STEP);
    }
}

/// Consecutive leaves that fill tables, in their order; the first with these bits.
pub(crate) fn write_abreast(tables: [&mut Row; ABREAST], first: u64, size: PageSize) {
    match size {
        PageSize::Size4K => write_lines::<{ PageSize::Size4K.bytes() }>(tables, first),
        PageSize::Size2M => write_lines::<{ PageSize::Size2M.bytes() }>(tables, first),
        PageSize::Size1G => write_lines::<{ PageSize::Size1G.bytes() }>(tables, first),
    }
}

/// A cache line of each table in turn: while the processor gets the lines of one page, it asks for those of
/// the others already. Its prefetchers alone stop at the end of a page.
fn write_lines<const STEP: u64>(mut tables: [&mut Row; ABREAST], first: u64) {
    let mut bits = first;
    for line in 0..64 {
        for (table, i) in tables.iter_mut().zip(0..) {
            let first = bits.wrapping_add(i * 512 * STEP);
            let (lines, _) = table.as_chunks_mut::<8>();
            for (entry, i) in lines[line].iter_mut().zip(0..) {
                *entry = first.wrapping_add(i * STEP);
            }
        }
        bits = bits.wrapping_add(8 * STEP);
    }
}
