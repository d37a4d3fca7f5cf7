#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]

mod add;
mod addr;
mod build;
mod build_error;
mod config;
mod entry;
#[cfg(feature = "x86_64")]
mod interop;
mod leaves;
mod memory;
#[cfg(feature = "std")]
mod parallel;
mod plan;
mod plan_error;
mod policy;
mod slots;
mod stores;
mod walk;

pub use add::{AddError, Added, add, empty_root};
pub use addr::{PHYS_LIMIT, PageSize, PhysAddr, PhysRange, RangeError, VirtAddr};
pub use build::Built;
pub use build_error::BuildError;
pub use config::{Config, ConfigError, Level, Levels, Paging};
pub use entry::{Entry, Flags};
#[cfg(feature = "x86_64")]
pub use interop::InteropError;
pub use leaves::{Found, LeafRun, Leaves, Seen};
pub use memory::{Arena, ArenaError, Image, Table, TableRead, TableWrite, Unreadable};
pub use plan::{Plan, Run, Runs, TableCount};
pub use plan_error::PlanError;
pub use policy::{Guard, Policy, Slack};
pub use slots::Slot;
pub use stores::ABREAST;
pub use walk::{Decoded, Rights, Step, Walk, WalkEnd, walk};
