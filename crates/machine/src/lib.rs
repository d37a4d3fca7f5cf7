//! What a machine is: memory maps, EFI and ACPI addresses, CPU facts, platform;
//! parsers for what people paste; lint, diff and hazard rules.
//!
//! Bytes and `&str` in, values out: nothing here opens a file (`no-io-in-parsers`).

mod layout;
mod model;
mod range_text;
pub mod ranges;
#[cfg(test)]
mod testing;

pub use layout::{Layout, LayoutOrigin, Region};
pub use model::*;
pub use range_text::{TextError, parse_address, parse_number, parse_range};
