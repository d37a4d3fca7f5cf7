//! Why nothing can be loaded.

use core::fmt;

use identmap_linux::boot::{BootParamsError, ImageError, PlacementError};

use crate::map::MapError;
use crate::purgatory::PurgatoryError;

/// Why an image cannot be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// The file is no kernel that can be placed.
    Kernel(ImageError),
    /// There is no room.
    Place {
        /// For what, and how much.
        error: PlacementError,
        /// How much memory there is to place into.
        free: u64,
    },
    /// No memory map is known, or no RAM in it.
    NoMemory,
    /// All memory that an image could go into must stay as it is.
    AllKept,
    /// A crash kernel, and no memory is reserved for one.
    NoReservation,
    /// `boot_params` cannot be made.
    BootParams(BootParamsError),
    /// The map cannot be made.
    Map(MapError),
    /// The purgatory cannot be made.
    Purgatory(PurgatoryError),
    /// The kernel cannot be entered with 5 levels, which are in use.
    FiveLevels,
    /// 5 levels are in use, and an ELF kernel does not say whether it can be entered with them.
    ElfFiveLevels,
    /// A crash kernel, and what its core header is made from is not known.
    CrashFacts,
    /// An ELF kernel whose pieces are no image.
    Elf(&'static str),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Kernel(error) => error.fmt(f),
            LoadError::Place { error, free } => {
                write!(f, "{error}; {free:#x} bytes can be used, in pieces")
            }
            LoadError::NoMemory => f.write_str(
                "no memory map with usable RAM is known (/proc/iomem and /sys/firmware/memmap show addresses to root only)",
            ),
            LoadError::AllKept => f.write_str(
                "all usable RAM is kept: for firmware, by hazards, by reservations, or by what the command line keeps or \
                 forbids",
            ),
            LoadError::NoReservation => {
                f.write_str("no memory is reserved for a crash kernel: boot with crashkernel=SIZE")
            }
            LoadError::BootParams(error) => error.fmt(f),
            LoadError::Map(error) => error.fmt(f),
            LoadError::Purgatory(error) => error.fmt(f),
            LoadError::FiveLevels => f.write_str(
                "the running kernel uses 5-level paging, and this one cannot be entered with it (no XLF_5LEVEL); \
                 boot the running kernel with no5lvl first",
            ),
            LoadError::ElfFiveLevels => f.write_str(
                "the running kernel uses 5 levels of page tables, and an ELF kernel does not say whether it can be \
                 entered with them: load its bzImage, or boot the running kernel with no5lvl first",
            ),
            LoadError::CrashFacts => f.write_str(
                "what a crash kernel's core header is made from could not be read (/sys/kernel/vmcoreinfo, \
                 /sys/devices/system/cpu/cpu*/crash_notes, /proc/kcore)",
            ),
            LoadError::Elf(why) => write!(f, "an ELF kernel {why}"),
        }
    }
}

impl core::error::Error for LoadError {}
