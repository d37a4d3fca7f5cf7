//! How a run ends, and what it touched.

use core::fmt;
use std::time::Duration;

use identmap::{PhysAddr, PhysRange, VirtAddr};

use crate::cpu::CpuFact;

/// What was done to memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Access {
    /// Data was read.
    Read,
    /// Data was written.
    Write,
    /// Instructions were fetched.
    Fetch,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Fetch => "fetch",
        })
    }
}

/// An address as an offset into something that was loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImagePlace {
    /// Name of the content.
    pub name: String,
    /// Bytes from its start.
    pub offset: u64,
}

impl fmt::Display for ImagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)
    }
}

/// One 4 KiB page outside of what was loaded, at its first touch: a need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The page.
    pub page: PhysAddr,
    /// What was done first.
    pub first: Access,
    /// By which instruction.
    pub rip: VirtAddr,
    /// That instruction as an offset into the image.
    pub at: Option<ImagePlace>,
    /// Read at any time.
    pub read: bool,
    /// Written at any time.
    pub written: bool,
    /// Executed at any time.
    pub executed: bool,
    /// What lies there, where that is known.
    pub what: Option<(PhysRange, String)>,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The consumer loaded its own page tables: the producer's map has done its work.
    Reached {
        /// What the consumer wrote to CR3.
        cr3: u64,
    },
    /// An exception that nothing handles, or that its handler does not mend.
    Fault(Box<Fault>),
    /// The consumer stopped by itself (`hlt` with interrupts off): its own error path.
    Halted {
        /// The instruction after.
        rip: VirtAddr,
        /// That as an offset into the image.
        at: Option<ImagePlace>,
    },
    /// It cannot be told.
    Unknown(Unknown),
}

/// An exception that ends the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// 14 is a page fault (Intel SDM vol. 3A, table 6-1).
    pub vector: u8,
    /// The instruction.
    pub rip: VirtAddr,
    /// That as an offset into the image.
    pub at: Option<ImagePlace>,
    /// More on a page fault.
    pub page_fault: Option<PageFault>,
    /// Where the consumer's own handler for this vector is, if it has installed one by now.
    pub handler: Option<VirtAddr>,
    /// The consumer has an IDT of its own by now. Before, the producer's is in force.
    pub own_idt: bool,
    /// The handler ran, and the same instruction faulted at the same address again: it hangs
    /// instead of resetting.
    pub repeats: bool,
}

/// More on a page fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// The address: CR2.
    pub cr2: VirtAddr,
    /// The error code (Intel SDM vol. 3A, 4.7): 1 present, 2 write, 8 reserved bit, 16 fetch.
    pub code: u32,
    /// What was tried.
    pub access: Access,
    /// What lies there, where that is known.
    pub what: Option<(PhysRange, String)>,
    /// The mapped range that ends nearest below.
    pub below: Option<PhysRange>,
    /// The mapped range that starts nearest above.
    pub above: Option<PhysRange>,
}

/// Why it cannot be told.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unknown {
    /// More instructions than allowed.
    Instructions {
        /// The limit.
        limit: u64,
        /// Where it was.
        rip: VirtAddr,
    },
    /// More time than allowed.
    Time {
        /// Where it was, if that is known.
        rip: Option<VirtAddr>,
    },
    /// More memory than allowed.
    Memory {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The consumer used memory whose content is not known (to copy it is no use).
    Content {
        /// The bytes.
        range: PhysRange,
        /// What was done.
        access: Access,
        /// By which instruction.
        rip: VirtAddr,
        /// What lies there, where that is known.
        what: Option<String>,
    },
    /// The consumer used a register into which it had loaded such memory, other than to store it again.
    Register {
        /// The instruction.
        rip: VirtAddr,
    },
    /// The consumer asked for something that is not known of the processor.
    Cpu(CpuFact),
    /// A table of the map could not be read.
    Table(PhysAddr),
    /// The emulator ended the run for a reason of its own, or cannot do what the consumer asks.
    Engine(String),
    /// The process that ran the emulator ended without an answer.
    Child(String),
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Every page touched outside of loaded contents, by address.
    pub touched: Vec<Touch>,
    /// Instructions run; each round of a repeated string instruction counts.
    pub instructions: u64,
    /// Wall time.
    pub time: Duration,
}

impl fmt::Display for Outcome {
    /// One sentence without a full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Reached { .. } => f.write_str("the consumer loads its own page tables"),
            Outcome::Fault(fault) => fault.fmt(f),
            Outcome::Halted { rip, at } => {
                write!(f, "the consumer halts at {}", Rip(*rip, at.as_ref()))
            }
            Outcome::Unknown(why) => why.fmt(f),
        }
    }
}

struct Rip<'a>(VirtAddr, Option<&'a ImagePlace>);

impl fmt::Display for Rip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(place) => place.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rip = Rip(self.rip, self.at.as_ref());
        match &self.page_fault {
            Some(page) => {
                write!(f, "page fault: {} of {}", page.access, page.cr2)?;
                if let Some((_, name)) = &page.what {
                    write!(f, " ({name})")?;
                }
                write!(f, " by {rip}, error code {:#x}", page.code)?;
            }
            None => write!(f, "exception {} at {rip}", self.vector)?,
        }
        match (self.handler, self.repeats) {
            (_, true) => f.write_str("; its handler returns to the same fault: it hangs"),
            (Some(_), false) => f.write_str("; it has a handler, which did not get to run"),
            (None, false) => f.write_str("; no handler is installed: it resets"),
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Instructions { limit, rip } => {
                write!(f, "no end after {limit} instructions, at {rip}")
            }
            Unknown::Time { rip: Some(rip) } => write!(f, "no end in the time given, at {rip}"),
            Unknown::Time { rip: None } => f.write_str("no end in the time given"),
            Unknown::Memory { limit } => write!(f, "it touches more than {limit:#x} bytes"),
            Unknown::Content { range, access, rip, what } => {
                write!(f, "{access} of {range}")?;
                if let Some(what) = what {
                    write!(f, " ({what})")?;
                }
                write!(f, " at {rip}, whose content is not known")
            }
            Unknown::Register { rip } => {
                write!(f, "at {rip} it uses memory whose content is not known")
            }
            Unknown::Cpu(fact) => write!(f, "it asks the processor for {fact}, which is not known"),
            Unknown::Table(table) => write!(f, "the page table at {table} cannot be read"),
            Unknown::Engine(why) => write!(f, "the emulator gave up: {why}"),
            Unknown::Child(why) => write!(f, "the emulator's process ended: {why}"),
        }
    }
}
