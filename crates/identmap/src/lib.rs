//! Build, plan, walk and explain x86-64 identity maps.
#![cfg_attr(not(test), no_std)]

mod addr;

pub use addr::{PHYS_LIMIT, PageSize, PhysAddr, PhysRange, RangeError, VirtAddr};
