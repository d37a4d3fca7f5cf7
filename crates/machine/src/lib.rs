//! What a machine is: memory maps, EFI and ACPI addresses, CPU facts, platform;
//! parsers for what people paste; lint, diff and hazard rules.
//!
//! Bytes and `&str` in, values out: nothing here opens a file (`no-io-in-parsers`).

mod layout;
pub mod live;
mod model;
pub mod parse;
mod samples;

pub use layout::{Layout, LayoutOrigin, Region};
pub use model::*;
pub use samples::{Sample, sample, samples};
