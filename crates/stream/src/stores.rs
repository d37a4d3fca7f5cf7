//! The stores themselves. The only file with `unsafe`.
#![allow(unsafe_code, reason = "non-temporal stores have no safe form")]

use core::arch::x86_64::{_mm_set_epi64x, _mm_sfence, _mm_stream_si128};

use identmap::{ABREAST, PageSize, Table};

/// Consecutive leaves that fill tables, in their order; the first with these bits. All of them are stored, and
/// in order with whatever is stored next, when this returns.
pub(crate) fn stream_leaves(tables: [&mut Table; ABREAST], first: u64, size: PageSize) {
    match size {
        PageSize::Size4K => stream_steps::<{ PageSize::Size4K.bytes() }>(tables, first),
        PageSize::Size2M => stream_steps::<{ PageSize::Size2M.bytes() }>(tables, first),
        PageSize::Size1G => stream_steps::<{ PageSize::Size1G.bytes() }>(tables, first),
    }
}

/// One table after the other: a line that is not read first is not waited for, so there is nothing to gain from
/// several pages at once.
fn stream_steps<const STEP: u64>(tables: [&mut Table; ABREAST], first: u64) {
    for (table, i) in tables.into_iter().zip(0..) {
        // The last sum may lie past the end of the map; it is never stored.
        stream_table::<STEP>(table, first.wrapping_add(i * 512 * STEP));
    }
    // Non-temporal stores are ordered with nothing (SDM vol. 1, 10.4.6.2); what follows may hand the tables on.
    // SAFETY: this file is compiled only where SSE2, and so SSE, may be used.
    unsafe { _mm_sfence() };
}

/// The hot loop, a cache line in each step: a line that is written whole and at once goes out in one piece. Whoever
/// calls this fences before anybody else may look at the table.
#[inline(never)]
fn stream_table<const STEP: u64>(table: &mut Table, first: u64) {
    let mut bits = first;
    let (lines, _) = table.0.as_chunks_mut::<8>();
    for line in lines {
        let (pairs, _) = line.as_chunks_mut::<2>();
        for (pair, i) in pairs.iter_mut().zip(0..) {
            let low = bits.wrapping_add(2 * i * STEP).cast_signed();
            let high = low.wrapping_add(STEP.cast_signed());
            let place = core::ptr::from_mut(pair).cast();
            // SAFETY: this file is compiled only where SSE2 may be used. A pair is 16 bytes that are borrowed
            // for writing; a `Table` is aligned to 4096 bytes and pairs are counted from its first byte, so the
            // place is aligned to 16. The only caller fences before it gives the table back.
            unsafe { _mm_stream_si128(place, _mm_set_epi64x(high, low)) };
        }
        bits = bits.wrapping_add(8 * STEP);
    }
}
