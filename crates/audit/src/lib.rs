//! Needs, hazards and a map give findings and a verdict.

mod by_rule;
mod check;
mod conflicts;
mod coverage;
mod diagnose;
mod display;
mod encryption;
mod finding;
mod findings;
mod general;
mod kdump;
mod known_bad;
mod matrix;
mod own;
mod planned;
mod scene;
mod seen;
mod signature;
mod triage;

pub use by_rule::{ByRule, newly_reached};
pub use check::{Audit, ImageTables, PolicyFigures, PolicyRow, Question, TablesUsed, check, is_uv};
pub use coverage::{Coverage, MapInput, PolicyKind, SlackKind, TablesUnusable};
pub use diagnose::{Diagnosis, Ended, Entry, MOST_ENTRIES, Oracle, Trial, diagnose};
pub use finding::{Confidence, Finding, Severity, Verdict};
pub use findings::{By, doubts};
pub use general::{
    General, Generalised, commit, general, generalise, releases_text, requested_by,
    requested_since, requested_since_text,
};
pub use kdump::{Dumps, KdumpState, Since, kdump_of_system};
pub use known_bad::{KNOWN_BAD, KnownBad, Stretch};
pub use matrix::{
    Candidate, Hypothesis, LevelWay, Matrix, MatrixColumn, MatrixRow, Outcome, matrix, matrix_of,
    matrix_rows,
};
pub use own::check_own;
pub use planned::Planned;
pub use scene::{Exposure, Fate, NeedFate, Scene, Stage, exposures, fate_in, forbidden, gathered};
pub use seen::{Seen, why_not_mapped};
pub use signature::of_kernel_file;
pub use triage::{Cause, Likelihood, Saw, Way, triage, ways};
