//! Needs, hazards and a map give findings and a verdict.

mod coverage;
mod planned;

pub use coverage::{Coverage, MapInput, PolicyKind, SlackKind};
pub use planned::Planned;
