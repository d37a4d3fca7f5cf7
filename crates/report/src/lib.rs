//! One model of what was found, printed as text, as JSON, as HTML and as pictures.
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
mod html;
mod known;
mod leaf_count;
mod list;
mod load_error;
mod map;
mod matrix;
mod needs;
mod picture;
mod ranges;
mod svg;
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
pub use html::HtmlReport;
pub use known::KnownReport;
pub use list::{Cell, Form, List, ListColumn, UnknownColumn};
pub use load_error::{LoadCause, LoadError, RefusedImage};
pub use map::MapReport;
pub use matrix::MatrixReport;
pub use needs::NeedsReport;
pub use picture::{Glyphs, Picture, Width};
pub use ranges::RangesReport;
pub use tables::{TablesReport, TablesSource};
pub use text::{Columns, Style, Tone, human_size};
pub use triage::TriageReport;
