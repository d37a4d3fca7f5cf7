//! One file a command.

pub(crate) mod capture;
pub(crate) mod check;
pub(crate) mod decode;
pub(crate) mod diagnose;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod fleet;
mod judging;
pub(crate) mod known;
pub(crate) mod load;
mod load_files;
mod load_preflight;
pub(crate) mod map;
pub(crate) mod matrix;
pub(crate) mod needs;
mod planning;
#[cfg(feature = "preflight")]
pub(crate) mod preflight;
#[cfg(feature = "preflight")]
mod preflight_loaded;
pub(crate) mod ranges;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod tables;
pub(crate) mod triage;
pub(crate) mod unload;
