//! One model of what was found, printed as text and as JSON.
//!
//! Every report is a value with a public constructor, `text()` and `serde::Serialize`;
//! the JSON form carries `"schema": "identmap.<command>/<version>"`.

mod capture;
mod check;
mod decode;
mod diagnose;
mod diff;
mod explain;
pub mod fleet;
mod hex;
mod leaf_count;
mod map;
mod matrix;
mod tables;
mod text;
mod triage;
mod wrap;

pub use capture::CaptureReport;
pub use check::{CheckReport, RunRow, TouchedRow, producer_text};
pub use decode::DecodeReport;
pub use diagnose::{DiagnoseReport, Diagnosed, Missing, missing};
pub use diff::DiffReport;
pub use explain::ExplainReport;
pub use hex::{Hex, HexRange};
pub use map::MapReport;
pub use matrix::MatrixReport;
pub use tables::{TablesReport, TablesSource};
pub use text::{Columns, Style, Tone, human_size};
pub use triage::TriageReport;
