//! Runs one scene: what `identmap_preflight::run_in_child` starts where the program that uses the
//! library cannot start itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    identmap_preflight::worker()
}
