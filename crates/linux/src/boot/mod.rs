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

/// A sound image without code.
#[cfg(test)]
pub(crate) fn bzimage_for_tests(init_size: u32, pref_address: u32, relocatable: bool) -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x400];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &0x40_u32.to_le_bytes());
    put(0x1fe, &0xaa55_u16.to_le_bytes());
    put(0x201, &[0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x234, &[u8::from(relocatable)]);
    put(0x236, &0x7f_u16.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x248, &0x10_u32.to_le_bytes());
    put(0x24c, &0x20_u32.to_le_bytes());
    put(0x258, &pref_address.to_le_bytes());
    put(0x260, &init_size.to_le_bytes());
    image
}
