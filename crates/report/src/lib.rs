//! One model of what was found, printed as text and as JSON.
//!
//! Every report is a value with public constructors, `text()` and `serde::Serialize`;
//! the JSON form carries `"schema": "identmap.<command>/<version>"`.

mod explain;
mod hex;
mod map;
mod text;

pub use explain::ExplainReport;
pub use hex::{Hex, HexRange};
pub use map::{MapReport, page_name};
pub use text::{Columns, Style, Tone, human_size};
