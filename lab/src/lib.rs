//! Real kernels under QEMU, and the page tables of their loaded kexec images taken from outside.
//!
//! [`guest`] boots one cell of the matrix and saves what it saw; [`cells`] is the matrix. The rest
//! reads memory: [`core_file`] a dump, [`kernel`] a loaded image in it with the offsets of [`btf`],
//! [`tables`] the image's tables; [`facts`] reads saved results. `README.md` has the commands.

pub mod cells;
pub mod ci;
pub mod compare;
pub mod core_file;
pub mod efivars;
pub mod facts;
pub mod guest;
pub mod guest_files;
pub mod initramfs;
pub mod kernel;
pub mod kexec;
pub mod option_rom;
pub mod progress;
pub mod qemu;
pub mod qmp;
pub mod results;
pub mod tables;
pub mod work_dir;

pub use identmap_linux::btf;
