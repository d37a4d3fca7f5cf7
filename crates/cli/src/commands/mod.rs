//! One file a command.

pub(crate) mod capture;
pub(crate) mod check;
pub(crate) mod decode;
pub(crate) mod diagnose;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod fleet;
mod judging;
pub(crate) mod map;
pub(crate) mod matrix;
mod planning;
#[cfg(feature = "preflight")]
pub(crate) mod preflight;
#[cfg(feature = "preflight")]
mod preflight_loaded;
pub(crate) mod tables;
pub(crate) mod triage;
