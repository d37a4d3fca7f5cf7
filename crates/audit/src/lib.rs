//! Needs, hazards and a map give findings and a verdict.

mod check;
mod coverage;
mod finding;
mod findings;
mod kdump;
mod matrix;
mod planned;
mod scene;
mod triage;

pub use check::{Audit, ImageTables, PolicyFigures, PolicyRow, Question, TablesUsed, check, is_uv};
pub use coverage::{Coverage, MapInput, PolicyKind, SlackKind, TablesUnusable};
pub use finding::{Confidence, Finding, Severity, Verdict};
pub use kdump::{Dumps, KdumpState, kdump_of_system};
pub use matrix::{Candidate, Hypothesis, Matrix, MatrixColumn, MatrixRow, Outcome, matrix};
pub use planned::Planned;
pub use scene::{Exposure, Fate, NeedFate, Scene, Stage, exposures, fate_in, forbidden};
pub use triage::{Cause, Likelihood, Saw, Way, triage, ways};
