//! Engines: what executes instructions.

mod ffi;
pub(crate) mod unicorn;

pub(crate) use ffi::Frames;

use crate::outcome::Report;
use crate::scene::{Scene, SceneError};

/// Executes the first instructions of a consumer.
///
/// An engine promises: every page is translated by the tables in the scene's memory as the
/// processor described by it would; a run ends within the limits, as far as the engine itself
/// does not crash or hang (see [`crate::run_in_child`]).
pub trait Engine {
    /// Runs a scene to its end.
    ///
    /// # Errors
    /// [`SceneError`] if the scene makes no sense.
    fn run(&self, scene: &Scene) -> Result<Report, SceneError>;
}
