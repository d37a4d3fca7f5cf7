//! From a plan to tables: count, then fill, one pass over each table.

use core::fmt;

use crate::addr::{PageSize, PhysAddr, PhysRange};
use crate::config::{Config, Level};
use crate::memory::{Table, TableWrite};
use crate::plan::{Plan, Run, Runs, TableCount};

/// Tables that were built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Built {
    /// Physical address of the root table: what CR3 shall hold.
    pub root: PhysAddr,
    /// How many tables were written.
    pub tables: TableCount,
}

impl Plan<'_> {
    /// Builds the planned tables in fresh memory.
    ///
    /// Every table is written once, from its first entry to its last; nothing is read.
    ///
    /// # Errors
    /// [`BuildError::Exhausted`] before anything is written if `memory` has fewer tables
    /// than [`tables`](Plan::tables). [`BuildError::Memory`] if `memory` breaks its word:
    /// refuses a table it had promised, or gives one that no entry can point to.
    pub fn build<W: TableWrite>(&self, memory: &mut W) -> Result<Built, BuildError> {
        let needed = self.tables().total();
        let available = memory.available();
        if available < needed {
            return Err(BuildError::Exhausted { needed, available });
        }
        let root_level = self.config().levels.root();
        let root = fresh_table(memory, self.config())?;
        let mut filler = Filler { memory, config: self.config(), cursor: Cursor::new(self.runs()) };
        filler.fill(root_level, root)?;
        Ok(Built { root, tables: self.tables() })
    }
}

/// What is left of the runs: the next leaf to write is at the front.
#[derive(Clone)]
pub(crate) struct Cursor<'s> {
    runs: Runs<'s>,
    front: Option<(PhysRange, PageSize)>,
}

impl<'s> Cursor<'s> {
    pub(crate) fn new(mut runs: Runs<'s>) -> Cursor<'s> {
        let front = runs.next().map(|run: Run| (run.range(), run.size()));
        Cursor { runs, front }
    }

    /// Takes `bytes` off the front run.
    pub(crate) fn advance(&mut self, bytes: u64) {
        let rest = self.front.and_then(|(range, size)| {
            let start = range.start().checked_add(bytes)?;
            PhysRange::between(start, range.end()).map(|rest| (rest, size))
        });
        self.front = rest.or_else(|| self.runs.next().map(|run| (run.range(), run.size())));
    }
}

#[cfg(feature = "std")]
impl Cursor<'_> {
    /// What is left of the run whose turn it is, and the size of its leaves.
    pub(crate) fn front(&self) -> Option<(PhysRange, PageSize)> {
        self.front
    }

    /// Takes everything off the front that lies in the same frame of a table at `level` as the first leaf.
    pub(crate) fn frame(&mut self, config: &Config, level: Level) -> impl Iterator<Item = Run> {
        let shift = level.entry_shift() + 9;
        let first = self.front.map(|(range, _)| config.linear(range.start()) >> shift);
        core::iter::from_fn(move || {
            let (range, size) = self.front?;
            let linear = config.linear(range.start());
            if first != Some(linear >> shift) {
                return None;
            }
            let room = (1 << shift) - (linear & ((1 << shift) - 1));
            let bytes = range.len().min(room);
            self.advance(bytes);
            Run::new(PhysRange::from_len(range.start().get(), bytes).ok()?, size)
        })
    }
}

pub(crate) struct Filler<'p, 'm, W> {
    pub(crate) memory: &'m mut W,
    pub(crate) config: &'p Config,
    pub(crate) cursor: Cursor<'p>,
}

impl<W: TableWrite> Filler<'_, '_, W> {
    /// Writes the table at `table`, and all below it, with the runs that lie in the
    /// frame of the front one at this level.
    pub(crate) fn fill(&mut self, level: Level, table: PhysAddr) -> Result<(), BuildError> {
        let frame_shift = level.entry_shift() + 9;
        let mut frame = None;
        let mut next = 0;
        while let Some((range, size)) = self.cursor.front {
            let linear = self.config.linear(range.start());
            if level != self.config.levels.root()
                && *frame.get_or_insert(linear >> frame_shift) != linear >> frame_shift
            {
                break;
            }
            let index = level.index(linear);
            if level == Level::holding(size) {
                let count = (range.len() >> size.shift()).min(512 - index as u64);
                let end = index + count as usize;
                let first = range.start().get() | self.config.leaf_entry_flags(size);
                let entries = &mut reach(self.memory, table)?.0;
                entries[next..index].fill(0);
                write_leaves(&mut entries[index..end], first, size);
                self.cursor.advance(count << size.shift());
                next = end;
            } else {
                let child = fresh_table(self.memory, self.config)?;
                let entries = &mut reach(self.memory, table)?.0;
                entries[next..index].fill(0);
                entries[index] = child.get() | self.config.table_entry_flags(level);
                next = index + 1;
                // A leaf above its own level cannot be: sizes stop at the PDPT.
                let below = level.below().ok_or(BuildError::Memory { table })?;
                self.fill(below, child)?;
            }
        }
        reach(self.memory, table)?.0[next..].fill(0);
        Ok(())
    }
}

/// Consecutive leaves, the first with these bits.
pub(crate) fn write_leaves(entries: &mut [u64], first: u64, size: PageSize) {
    match size {
        PageSize::Size4K => write_steps::<{ PageSize::Size4K.bytes() }>(entries, first),
        PageSize::Size2M => write_steps::<{ PageSize::Size2M.bytes() }>(entries, first),
        PageSize::Size1G => write_steps::<{ PageSize::Size1G.bytes() }>(entries, first),
    }
}

/// The hot loop. Sixteen entries are one sum plus constants: the compiler makes eight vectors of them that
/// do not wait for each other. With the distance as a variable it makes none (`cargo xtask asm` looks).
fn write_steps<const STEP: u64>(entries: &mut [u64], first: u64) {
    // The last sum may lie past the end of the map; it is never stored.
    let mut bits = first;
    let (blocks, rest) = entries.as_chunks_mut::<16>();
    for block in blocks {
        for (entry, i) in block.iter_mut().zip(0..) {
            *entry = bits.wrapping_add(i * STEP);
        }
        bits = bits.wrapping_add(16 * STEP);
    }
    for entry in rest {
        *entry = bits;
        bits = bits.wrapping_add(STEP);
    }
}

/// A new table at an address that an entry can hold.
pub(crate) fn fresh_table<W: TableWrite>(
    memory: &mut W,
    config: &Config,
) -> Result<PhysAddr, BuildError> {
    let table = memory.allocate().ok_or(BuildError::Memory { table: PhysAddr::ZERO })?;
    if !table.is_aligned(PageSize::Size4K) || table >= config.phys_limit() {
        return Err(BuildError::Memory { table });
    }
    Ok(table)
}

/// A table that was given out before.
pub(crate) fn reach<W: TableWrite>(
    memory: &mut W,
    table: PhysAddr,
) -> Result<&mut Table, BuildError> {
    memory.table_mut(table).ok_or(BuildError::Memory { table })
}

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
