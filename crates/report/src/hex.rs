//! Addresses in JSON: hexadecimal strings, inclusive ends.

use identmap::{PhysAddr, PhysRange};
use serde::Serialize;

/// An address, written `0x%016x`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#018x}", self.0))
    }
}

impl From<PhysAddr> for Hex {
    fn from(addr: PhysAddr) -> Hex {
        Hex(addr.get())
    }
}

/// A range, written with its last byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct HexRange {
    /// First byte.
    pub start: Hex,
    /// Last byte.
    pub end: Hex,
}

impl From<PhysRange> for HexRange {
    fn from(range: PhysRange) -> HexRange {
        HexRange { start: range.start().into(), end: range.last().into() }
    }
}
