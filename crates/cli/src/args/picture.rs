//! Whether a picture is drawn.

use clap::Args;

use super::When;

#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct PictureArgs {
    /// Draw the address space too: auto draws on a terminal
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_value = "auto",
        default_missing_value = "always"
    )]
    pub(crate) picture: When,
}
