//! Values as they are written on the command line.

use identmap::{PhysAddr, PhysRange};
use identmap_machine::{parse_address, parse_number, parse_range};

pub(super) fn range(text: &str) -> Result<PhysRange, String> {
    parse_range(text).map_err(|e| e.to_string())
}

pub(super) fn address(text: &str) -> Result<PhysAddr, String> {
    parse_address(text).map_err(|e| e.to_string())
}

/// Any 64 bits: a virtual address, or a register.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16),
        _ => text.parse(),
    };
    parsed.map_err(|_| "expected a number of 64 bits, hexadecimal with 0x".to_owned())
}

/// A size, with K, M, G or T behind.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    parse_number(text).map_err(|e| e.to_string())
}
