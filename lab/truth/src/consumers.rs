//! What every kernel at hand touches before it has its own page tables.
use std::path::Path;
use identmap_lab::guest::Failure;
use identmap_linux::boot::BzImage;
use crate::kernels::Kernel;
pub fn run(_cache: &Path, _markdown: bool) -> Result<bool, Failure> { Ok(false) }
/// Those that a 64-bit loader can place.
pub fn sound(kernels: Vec<Kernel>) -> Vec<Kernel> {
    kernels.into_iter().filter(|kernel| kernel.read().is_ok_and(|image| BzImage::parse(&image).is_ok())).collect()
}
