//! Will this machine survive kexec?

use std::process::ExitCode;

fn main() -> ExitCode {
    identmap_cli::run()
}
