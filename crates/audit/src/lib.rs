//! Needs, hazards and a map give findings and a verdict.

mod coverage;
mod finding;
mod planned;
mod scene;

pub use coverage::{Coverage, MapInput, PolicyKind, SlackKind};
pub use finding::{Confidence, Finding, Severity, Verdict};
pub use planned::Planned;
pub use scene::{Exposure, Fate, NeedFate, Scene, Stage, exposures, forbidden};
