//! The types that C sees, field by field as in `include/identmap.h`.
//!
//! `tests/layout.txt` holds every size, offset and value; a test here and `tests/layout.c` both
//! compare with it.

use core::ffi::{c_char, c_void};

/// Bytes of the text in an [`Error`], its final NUL included.
pub(crate) const TEXT_BYTES: usize = 232;

/// What every function returns: 0, or what was wrong.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A pointer that is needed is null.
    Null = 1,
    /// A pointer is not a multiple of what it points to (8; 4096 for tables).
    Misaligned = 2,
    /// A count of elements whose bytes do not fit in an address space.
    Length = 3,
    /// Memory lent for writing overlaps memory that is read or written as well.
    Overlap = 4,
    /// A range is empty or reaches past 2^52.
    Range = 5,
    /// A field of the configuration is not sound.
    Config = 6,
    /// A policy or slack that does not exist, or fields set that do not belong to it.
    Policy = 7,
    /// The work memory is too small.
    Work = 8,
    /// More runs than there is room for.
    Runs = 9,
    /// A request reaches past what an entry can address.
    PastLimit = 10,
    /// A request has no canonical virtual address.
    NotCanonical = 11,
    /// Two requests would lie in different halves of the virtual addresses.
    BothHalves = 12,
    /// A request meets a forbidden range.
    Conflict = 13,
    /// Not enough tables; nothing was written to them.
    Exhausted = 14,
    /// The memory of tables broke its promise, or cannot stand at that base.
    Memory = 15,
    /// Text was cut to the room there was.
    Cut = 16,
    /// Something this library does not know: a newer core than its table of errors.
    Unknown = 17,
}

/// A range of physical memory, half-open: `start` is in it, `end` is not.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte; greater than `start`, at most 2^52.
    pub end: u64,
}

/// What the tables shall look like; `identmap::Config`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Flags of every leaf, without PS.
    pub leaf_flags: u64,
    /// Flags of entries that point to a PD or a PT.
    pub table_flags: u64,
    /// Flags of entries of a PML4 or PML5.
    pub upper_table_flags: u64,
    /// The memory-encryption bit as a mask, or 0.
    pub encryption_mask: u64,
    /// Virtual minus physical, modulo 2^64; 0 for an identity map.
    pub offset: u64,
    /// 4 or 5.
    pub levels: u8,
    /// 0 or 1: whether 1 GiB leaves may be used.
    pub gbpages: u8,
    /// 32 to 52.
    pub maxphyaddr: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Which leaves are chosen; `identmap::Policy`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// 0 round-out, 1 exact, 2 guarded.
    pub kind: u32,
    /// Guarded only: 0 none, 1 RAM, 2 any.
    pub slack: u32,
    /// Guarded only: what no leaf may touch.
    pub forbidden: *const Range,
    /// How many.
    pub forbidden_count: usize,
    /// Guarded with slack RAM only: where leaves may reach beyond the requests.
    pub ram: *const Range,
    /// How many.
    pub ram_count: usize,
}

/// What shall be mapped, and memory to think in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// The look of the tables.
    pub config: Config,
    /// The choice of leaves.
    pub policy: Policy,
    /// What must be mapped; the order matters to the policy "exact".
    pub requests: *const Range,
    /// How many.
    pub request_count: usize,
    /// Lent for the length of a call.
    pub work: *mut u64,
    /// Its length in words of 8 bytes: `IDENTMAP_WORK_WORDS`.
    pub work_words: usize,
}

/// Equal leaves, one behind the other.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First byte mapped.
    pub start: u64,
    /// One past the last byte mapped.
    pub end: u64,
    /// Bytes of each leaf: 4 KiB, 2 MiB or 1 GiB.
    pub page_size: u64,
    /// How many leaves.
    pub count: u64,
}

/// A plan in numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Runs, whether there was room for them or not.
    pub runs: u64,
    /// Tables of all levels, the root included: 4096 bytes each.
    pub tables: u64,
    /// PT, PD, PDPT, PML4, PML5.
    pub tables_by_level: [u64; 5],
    /// Bytes mapped.
    pub mapped_bytes: u64,
}

/// Tables that were built.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Built {
    /// Physical address of the root: what CR3 shall hold.
    pub root: u64,
    /// Tables written.
    pub tables: u64,
}

/// Where tables are written, by calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Handed to every call.
    pub context: *mut c_void,
    /// How many tables `allocate` will give.
    pub available: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
    /// The physical address of a fresh page; `UINT64_MAX` if there is none.
    pub allocate: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
    /// Where the page at a physical address can be written; null if nowhere.
    pub table: Option<unsafe extern "C" fn(context: *mut c_void, physical: u64) -> *mut u64>,
}

/// Where tables are read, by calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Handed to every call.
    pub context: *mut c_void,
    /// Entry `index` (0 to 511) of the table at `physical`: 0 and the bits, or not 0 if it cannot
    /// be read.
    pub entry: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            physical: u64,
            index: u32,
            bits: *mut u64,
        ) -> i32,
    >,
}

/// One entry on the way.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Physical address of the table.
    pub table: u64,
    /// The entry.
    pub entry: u64,
    /// 1 for a PT up to 5 for a PML5.
    pub level: u32,
    /// 0 to 511.
    pub index: u32,
}

/// One address, level by level.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// 0 mapped, 1 not present, 2 reserved bits, 3 unreadable, 4 not canonical.
    pub end: u32,
    /// Mapped: bit 0 write, bit 1 user, bit 2 execute.
    pub rights: u32,
    /// Mapped: where it leads. Reserved: the bits. Unreadable: the table. Else 0.
    pub value: u64,
    /// Mapped: bytes of the leaf. Unreadable: the level (1 to 5) of the table. Else 0.
    pub size: u64,
    /// How many steps follow.
    pub step_count: u64,
    /// The entries met, from the root down.
    pub steps: [Step; 5],
}

/// What was wrong, in numbers and in words.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Error {
    /// The status that was returned.
    pub status: i32,
    /// Which request or range, from 0; else 0.
    pub index: u32,
    /// The address in question, or the number that would have been enough.
    pub value: u64,
    /// `index` counts: 0 nothing, 1 requests, 2 forbidden ranges, 3 RAM ranges.
    pub list: u32,
    /// Zero.
    pub reserved: u32,
    /// One line in English, NUL at its end; cut if it is too long.
    pub text: [c_char; TEXT_BYTES],
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;
    use std::fmt::Write;

    use super::*;

    #[test]
    fn layout_is_what_the_header_is_tested_against() {
        let mut text = String::new();
        macro_rules! layout {
            ($($rust:ident $name:literal: $($field:ident)*;)*) => {$(
                writeln!(text, "sizeof {} {}", $name, size_of::<$rust>()).unwrap();
                $(writeln!(text, "{}.{} {}", $name, stringify!($field), offset_of!($rust, $field)).unwrap();)*
            )*};
        }
        layout! {
            Range "range": start end;
            Config "config": leaf_flags table_flags upper_table_flags encryption_mask offset levels gbpages maxphyaddr reserved;
            Policy "policy": kind slack forbidden forbidden_count ram ram_count;
            Job "job": config policy requests request_count work work_words;
            Run "run": start end page_size count;
            Summary "summary": runs tables tables_by_level mapped_bytes;
            Built "built": root tables;
            Memory "memory": context available allocate table;
            Reader "reader": context entry;
            Step "step": table entry level index;
            Walk "walk": end rights value size step_count steps;
            Error "error": status index value list reserved text;
        }
        macro_rules! values {
            ($($rust:ident $name:literal;)*) => {$(
                writeln!(text, "IDENTMAP_{} {}", $name, Status::$rust as i32).unwrap();
            )*};
        }
        values! {
            Ok "OK"; Null "E_NULL"; Misaligned "E_MISALIGNED"; Length "E_LENGTH"; Overlap "E_OVERLAP";
            Range "E_RANGE"; Config "E_CONFIG"; Policy "E_POLICY"; Work "E_WORK"; Runs "E_RUNS";
            PastLimit "E_PAST_LIMIT"; NotCanonical "E_NOT_CANONICAL"; BothHalves "E_BOTH_HALVES";
            Conflict "E_CONFLICT"; Exhausted "E_EXHAUSTED"; Memory "E_MEMORY"; Cut "E_CUT";
            Unknown "E_UNKNOWN";
        }
        assert_eq!(text, include_str!("../tests/layout.txt"));
    }
}
