#![doc = include_str!("../README.md")]

pub mod cmdline;
mod crash;
mod explain;
pub mod format;
mod load;
mod load_error;
mod map;
mod place;
pub mod purgatory;
mod shape;
pub mod syscall;

pub use crash::{CrashFacts, dumped_ram, kernel_text, memory_map as crash_memory_map, page_offset};
pub use explain::{Call, Choice, Explanation, Rules, explain};
pub use load::{Image, Job, Segment, takes_seed};
pub use load_error::LoadError;
pub use map::{MapBase, MapChoice, MapError};
pub use place::{Alive, alive, free, memory_map};
