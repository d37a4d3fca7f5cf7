#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]

mod abi;
mod convert;
mod ffi;
mod text;

pub use abi::{
    Built, Config, Error, Job, Memory, Policy, Range, Reader, Run, Status, Step, Summary, Walk,
};
pub use ffi::{
    identmap_build, identmap_build_with, identmap_explain, identmap_kexec_config, identmap_plan,
    identmap_status_name, identmap_walk, identmap_walk_image,
};

/// No panic is reachable from input; a library without std needs a handler nevertheless.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
