//! What a loader hands to the next kernel: the image, `boot_params`, and where they lie.

mod boot_params;
mod bzimage;
mod placement;

pub use boot_params::{
    BOOT_PARAMS_LEN, BootParams, BootParamsError, EfiHandover, Handover, RngSeed, SETUP_EFI,
    SETUP_RNG_SEED, SetupEfi,
};
pub use bzimage::{BzImage, ENTRY_64, ImageError};
pub use placement::{Placement, PlacementError, Room, Strategy};
