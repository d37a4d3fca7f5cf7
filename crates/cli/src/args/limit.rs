//! How long an answer may take.

use clap::Args;

/// How long an answer may take.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct Limit {
    /// Give up after SECONDS, with exit status 3: cannot tell. 0 waits for ever [default: 60; 300 where a kernel
    /// is run; 0 for standard input]
    #[arg(
        long,
        value_name = "SECONDS",
        overrides_with = "timeout",
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    pub(crate) timeout: Option<u64>,
}
