//! Why a plan was not built.

use core::fmt;

use crate::addr::PhysAddr;

/// Why tables were not built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// Not enough memory for tables; nothing was written.
    Exhausted {
        /// Tables needed.
        needed: u64,
        /// Tables available.
        available: u64,
    },
    /// The memory broke its promise, or gave a table that is unaligned or past what an entry
    /// can address; what was built so far is not reachable from any root that was returned.
    Memory {
        /// The table in question; 0 if one that was promised was refused.
        table: PhysAddr,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Exhausted { needed, available } => {
                write!(f, "the map takes {needed} tables; memory has {available}")
            }
            BuildError::Memory { table } => {
                write!(f, "the table memory broke its promise at {table}")
            }
        }
    }
}

impl core::error::Error for BuildError {}
