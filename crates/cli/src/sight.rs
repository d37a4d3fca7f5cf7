//! What runs of a kernel show, with the emulator or without one.

use identmap_audit::{Diagnosis, Generalised, Seen};
use identmap_linux::KernelVersion;
use identmap_report::RunRow;

/// What is known of the kernel that is entered, and what its runs showed.
pub(crate) struct Sight {
    pub(crate) version: Option<KernelVersion>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) rows: Vec<RunRow>,
    pub(crate) assumptions: Vec<String>,
}

/// One producer that is possible, with what is missing under its map.
pub(crate) struct Found {
    pub(crate) label: String,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) general: Generalised,
}
