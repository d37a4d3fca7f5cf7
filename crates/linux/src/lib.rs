//! What Linux does around kexec, by version, with no I/O: which ranges the
//! kernel that is left puts into the identity map and by which policy
//! ([`Producer`], [`requests`]), and which ranges the kernel that is entered
//! reads before it owns its page tables ([`needs::needs`]).
//!
//! And, as real as it gets: the tables of an image that is loaded, out of a running kernel's
//! memory ([`kimage`], with [`kallsyms`] and [`btf`]) or out of a dump ([`vmcore`], [`tables`]).
//! [`memory`] has the traits by which that memory is reached.
//!
//! Every statement about a version carries the commit that made it true and
//! where that was verified. What a version number does not tell is said to be
//! uncertain, with every answer that is possible.

pub mod alive;
pub mod boot;
pub mod btf;
mod contents;
pub mod crashkernel;
pub mod firmware;
pub mod history;
pub mod kallsyms;
pub mod kimage;
mod known;
pub mod memory;
pub mod needs;
mod producer;
mod release;
mod requests;
pub mod tables;
mod transition;
pub mod traps;
mod version;
pub mod vmcore;

pub use contents::{Standing, TablePage};
pub use known::Known;
pub use needs::{Certainty, Condition, Consumer, Need, NeedRule, Place};
pub use producer::{Class, PolicyKind, Producer, Traits, TransitionPage, gbpages};
pub use release::{Release, Releases};
pub use requests::{
    ISA_END, Kind, Request, RequestList, RequestSource, Unknown, UnknownRequest, pfn_mapped,
    requests,
};
pub use transition::{ControlCode, TransitionLeaf};
pub use version::{Blur, Builder, KernelVersion, Upstream, VersionError};
