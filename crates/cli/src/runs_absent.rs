//! What stands in for [`runs`](crate::runs) in a program without an emulator: an error that says how
//! to get one.

use std::path::{Path, PathBuf};

use identmap::PhysRange;
use identmap_audit::Matrix;
use identmap_linux::{KernelVersion, Producer};
use identmap_machine::Machine;
use identmap_machine::bundle::Bundle;

use crate::args::Entry;
use crate::output::Failure;
use crate::sight::{Found, Sight};

pub(crate) fn check(
    _: &Path,
    entry: &Entry,
    _: &mut Machine,
    _: &Producer,
    _: &[PhysRange],
    _: &str,
    _: Option<&Bundle>,
) -> Result<Sight, Failure> {
    Err(absent(entry))
}

#[allow(clippy::type_complexity, reason = "as in `runs`")]
pub(crate) fn diagnose(
    _: &Path,
    entry: &Entry,
    _: &mut Machine,
    _: &Producer,
    _: &[PhysRange],
    _: &str,
    _: Option<&Bundle>,
) -> Result<(Option<KernelVersion>, Vec<Found>, Vec<String>), Failure> {
    Err(absent(entry))
}

pub(crate) fn matrix(
    _: &[PathBuf],
    entry: &Entry,
    _: &mut Machine,
    _: &[PhysRange],
    _: impl FnMut(&str),
    _: &str,
    _: Option<&Bundle>,
) -> Result<Matrix, Failure> {
    Err(absent(entry))
}

/// The flags are read, so that they mean the same in both programs.
fn absent(Entry { cpu: _, cmdline: _, initrd_size: _ }: &Entry) -> Failure {
    Failure::new(
        "this identmap cannot run a kernel: it was built without the feature \"preflight\"\n  \
         cargo build --release -p identmap-cli --features preflight    (needs cmake and libclang)",
    )
}
