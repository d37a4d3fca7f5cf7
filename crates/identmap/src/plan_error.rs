//! Why there is no plan.

use core::fmt;

use crate::addr::{PhysAddr, PhysRange};
use crate::config::ConfigError;

/// Why there is no plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// The configuration is unsound.
    Config(ConfigError),
    /// A request reaches past what an entry can address.
    PastPhysLimit {
        /// The request.
        request: PhysRange,
        /// Its place in the list, from 0.
        index: usize,
        /// One past the last address that an entry can hold.
        limit: PhysAddr,
    },
    /// A request has no canonical virtual address at this offset with these levels.
    NotCanonical {
        /// The request.
        request: PhysRange,
        /// Its place in the list, from 0.
        index: usize,
    },
    /// With this offset two requests lie in different halves of the virtual addresses. Each can be
    /// mapped; one plan cannot hold both, since its runs ascend in both kinds of address.
    BothHalves {
        /// The first request in the other half than `first`.
        request: PhysRange,
        /// Its place in the list, from 0.
        index: usize,
        /// Request 0.
        first: PhysRange,
    },
    /// A request and a forbidden range share a byte, or a 4 KiB page that no leaf can divide.
    Conflict {
        /// The request.
        request: PhysRange,
        /// Its place in the list, from 0.
        index: usize,
        /// The forbidden range.
        forbidden: PhysRange,
        /// The first page that both touch.
        page: PhysAddr,
    },
    /// Too few slots were lent; nothing was planned.
    Slots {
        /// How many it takes at most.
        needed: usize,
        /// How many there are.
        given: usize,
    },
}

impl PlanError {
    /// For places that the slot bounds make unreachable: an error, never a panic.
    pub(crate) const fn bound_exceeded() -> PlanError {
        PlanError::Slots { needed: usize::MAX, given: 0 }
    }
}

impl From<ConfigError> for PlanError {
    fn from(error: ConfigError) -> PlanError {
        PlanError::Config(error)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Config(error) => error.fmt(f),
            PlanError::PastPhysLimit { request, index, limit } => write!(
                f,
                "request {index} ({request}) reaches past the last address an entry can hold ({:#018x})",
                limit.get() - 1
            ),
            PlanError::NotCanonical { request, index } => {
                write!(f, "request {index} ({request}) has no canonical virtual address")
            }
            PlanError::BothHalves { request, index, first } => write!(
                f,
                "request {index} ({request}) and request 0 ({first}) have virtual addresses in different halves"
            ),
            PlanError::Conflict { request, index, forbidden, page } => {
                write!(f, "request {index} ({request}) meets forbidden range {forbidden}")?;
                if request.intersects(*forbidden) {
                    Ok(())
                } else {
                    write!(f, " in the 4 KiB page at {page}")
                }
            }
            PlanError::Slots { needed, given } => {
                write!(f, "a plan takes up to {needed} slots; {given} were lent")
            }
        }
    }
}

impl core::error::Error for PlanError {}
