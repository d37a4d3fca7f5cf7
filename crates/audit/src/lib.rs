//! Needs, hazards and a map give findings and a verdict.

mod coverage;

pub use coverage::{Coverage, MapInput, PolicyKind, SlackKind};
