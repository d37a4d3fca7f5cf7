#![doc = include_str!("../README.md")]

mod carried;
mod child;
mod cpu;
mod delivery;
mod efi;
mod engine;
mod guest;
mod hash;
pub mod judge;
mod known;
mod memory;
mod outcome;
mod processor;
mod scene;
mod segments;
mod setup;
mod stage;
mod wire;

pub use child::{run_in_child, this_program, worker};
pub use cpu::{CpuFact, CpuProfile, Vendor};
pub use engine::{Engine, unicorn::Unicorn};
pub use hash::hashed_here;
pub use known::{known, with_facts};
pub use outcome::{Access, Fault, ImagePlace, Outcome, PageFault, Report, Touch, Unknown};
pub use scene::{CR0_KEXEC, CR0_WP, Content, Limits, Scene, SceneError};
pub use segments::{Segments, StandingTables};
pub use setup::{Loaded, Setup, SetupError};

/// Runs a scene in this process, with Unicorn.
///
/// A hostile image can crash the engine and with it the process; see [`run_in_child`].
///
/// # Errors
/// [`SceneError`] if the scene makes no sense; whatever happens in the run is in the report.
pub fn run(scene: &Scene) -> Result<Report, SceneError> {
    Unicorn.run(scene)
}
