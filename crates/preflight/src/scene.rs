//! What is run: memory, registers, processor, limits.

use core::fmt;
use std::time::Duration;

use identmap::{PageSize, Paging, PhysAddr, PhysRange};

use crate::cpu::CpuProfile;

/// `CR0.PE`, `NE`, `ET` and `PG`; not `WP`: `relocate_kernel` clears it
/// (`arch/x86/kernel/relocate_kernel_64.S`, "Set cr0 to a known state").
pub const CR0_KEXEC: u64 = 0x8000_0031;
/// `CR0.WP`.
pub const CR0_WP: u64 = 1 << 16;
/// `CR0.PG`.
pub(crate) const CR0_PG: u64 = 1 << 31;
/// `CR4.PAE`, all that `relocate_kernel` leaves set besides `LA57`.
pub(crate) const CR4_PAE: u64 = 1 << 5;
/// `CR4.LA57`.
pub(crate) const CR4_LA57: u64 = 1 << 12;

/// Memory whose content is known. Whatever no content covers is there, but what it holds is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// What it is: `kernel`, `boot_params`, `EFI configuration table`.
    pub name: String,
    /// Where it lies.
    pub range: PhysRange,
    /// Its first bytes; the rest is zero.
    pub bytes: Vec<u8>,
    /// Whether a loader put it there as a segment of the image, so that every producer maps it.
    pub loaded: bool,
}

/// When to give up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Instructions; each round of a repeated string instruction counts.
    pub instructions: u64,
    /// Wall time.
    pub time: Duration,
    /// Bytes of guest memory that may be touched.
    pub memory: u64,
}

impl Default for Limits {
    /// 400 million instructions, 20 s, 512 MiB: about fifty times what a kernel takes that comes up.
    fn default() -> Limits {
        Limits { instructions: 400_000_000, time: Duration::from_secs(20), memory: 512 << 20 }
    }
}

impl Limits {
    /// For an entry through a purgatory that hashes `bytes` bytes in the emulator: 100 instructions a byte more
    /// (kexec-tools' takes more than 44), and the time and memory that go with it. Mostly it need not:
    /// [`hashed_here`](crate::hashed_here).
    #[must_use]
    pub fn for_purgatory(bytes: u64) -> Limits {
        let Limits { instructions, time, memory } = Limits::default();
        let more = bytes.saturating_mul(100);
        Limits {
            instructions: instructions.saturating_add(more),
            // 20 million instructions a second; a release build does 50 million on a slow machine.
            time: time.saturating_add(Duration::from_secs(more / 20_000_000)),
            memory: memory.saturating_add(bytes),
        }
    }
}

/// Everything that decides a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Scene {
    /// Known memory, the page tables included. Disjoint.
    pub contents: Vec<Content>,
    /// Where the consumer is entered.
    pub entry: u64,
    /// What RSI holds there: the address of `boot_params`.
    pub rsi: u64,
    /// What RSP holds there: the end of the purgatory's stack.
    pub rsp: u64,
    /// The root table: what CR3 holds.
    pub root: PhysAddr,
    /// Where the producer's tables lie. A root that leads to one of them is no hand-over yet: to
    /// switch between 4 and 5 levels a consumer puts a page of its own on top of them.
    pub tables: Vec<PhysRange>,
    /// How the processor reads tables: levels as entered, width of an address, encryption bit.
    pub paging: Paging,
    /// CR0 at the entry; [`CR0_KEXEC`] after `relocate_kernel`.
    pub cr0: u64,
    /// The processor, as CPUID describes it.
    pub cpu: CpuProfile,
    /// When to give up.
    pub limits: Limits,
    /// Names of places, to explain a fault by: firmware's tables, types of memory. The smallest counts.
    pub places: Vec<(PhysRange, String)>,
}

/// Why a scene makes no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SceneError {
    /// Two contents share a byte.
    Overlap {
        /// Their names.
        names: [String; 2],
        /// The bytes they share.
        range: PhysRange,
    },
    /// More bytes than the range holds.
    TooLong {
        /// Name of the content.
        name: String,
        /// Its range.
        range: PhysRange,
        /// How many bytes are given.
        bytes: u64,
    },
    /// The root table is not on a page.
    Root(PhysAddr),
}

impl fmt::Display for SceneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SceneError::Overlap { names: [a, b], range } => {
                write!(f, "{a} and {b} both lie at {range}")
            }
            SceneError::TooLong { name, range, bytes } => {
                write!(f, "{name}: {bytes:#x} bytes do not fit into {range}")
            }
            SceneError::Root(root) => write!(f, "the root table at {root} is not on a page"),
        }
    }
}

impl core::error::Error for SceneError {}

impl Scene {
    /// Checks that contents are disjoint and fit.
    ///
    /// # Errors
    /// [`SceneError`], a variant for each thing that can be wrong.
    pub fn check(&self) -> Result<(), SceneError> {
        if !self.root.is_aligned(PageSize::Size4K) || self.root == PhysAddr::MAX {
            return Err(SceneError::Root(self.root));
        }
        let mut sorted: Vec<&Content> = self.contents.iter().collect();
        sorted.sort_by_key(|content| content.range.start());
        for content in &sorted {
            let bytes = content.bytes.len() as u64;
            if bytes > content.range.len() {
                let (name, range) = (content.name.clone(), content.range);
                return Err(SceneError::TooLong { name, range, bytes });
            }
        }
        for pair in sorted.windows(2) {
            if let Some(range) = pair[0].range.intersection(pair[1].range) {
                let names = [pair[0].name.clone(), pair[1].name.clone()];
                return Err(SceneError::Overlap { names, range });
            }
        }
        Ok(())
    }

    /// The name of the smallest place around `addr`.
    #[must_use]
    pub fn place(&self, addr: PhysAddr) -> Option<(PhysRange, &str)> {
        let contents = self.contents.iter().map(|c| (c.range, c.name.as_str()));
        let named = self.places.iter().map(|(range, name)| (*range, name.as_str()));
        contents.chain(named).filter(|(range, _)| range.contains(addr)).min_by_key(|(r, _)| r.len())
    }
}
