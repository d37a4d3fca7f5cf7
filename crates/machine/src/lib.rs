//! What a machine is: memory maps, EFI and ACPI addresses, CPU facts, platform;
//! parsers for what people paste; lint, diff and hazard rules.
//!
//! Bytes and `&str` in, values out: nothing here opens a file (`no-io-in-parsers`).

pub mod bundle;
mod diff;
mod doubts;
pub mod dump;
mod hazard;
mod layout;
mod lint;
pub mod live;
mod model;
pub mod parse;
mod range_text;
pub mod ranges;
pub mod redact;
mod samples;
mod size;
#[cfg(test)]
mod testing;
mod views;

pub use diff::{Diff, FactChange, MapDiff, MapRow, TypeChange, diff, diff_maps};
pub use doubts::{MapDoubt, is_efi_map_whole, map_doubts};
pub use hazard::{Certainty, Hazard, RULES, Rule, Severity, Undecided, hazards, undecided};
pub use layout::{Layout, LayoutOrigin, Region};
pub use lint::{LINT_IDS, Lint, lint};
pub use model::*;
pub use range_text::{TextError, parse_address, parse_number, parse_range};
pub use samples::{Sample, sample, samples};
pub use size::human_size;
pub use views::{Source, e820_of_efi};
