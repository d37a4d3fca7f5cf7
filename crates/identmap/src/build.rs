//! From a plan to tables: count, then fill, one pass over each table.

use crate::addr::{PageSize, PhysAddr, PhysRange};
use crate::build_error::BuildError;
use crate::config::{Config, Level};
use crate::entry::Entry;
use crate::memory::{Table, TableWrite};
use crate::plan::{Plan, Run, Runs, TableCount};
use crate::stores::{ABREAST, write_leaves};

/// A run that fills this many tables is written abreast: 32 MiB of tables, more than most caches keep. There the
/// processor waits for memory, and for eight pages at once it waits less; where they fit in a cache, one page
/// after the other is quicker (`bench/README.md`).
const LONG: u64 = 8192;

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
        self.build_from(Cursor::new(self.runs()), memory)
    }

    fn build_from<W: TableWrite>(
        &self,
        cursor: Cursor<'_>,
        memory: &mut W,
    ) -> Result<Built, BuildError> {
        let needed = self.tables().total();
        let available = memory.available();
        if available < needed {
            return Err(BuildError::Exhausted { needed, available });
        }
        let root_level = self.config().levels.root();
        let root = fresh_table(memory, self.config())?;
        let mut filler = Filler { memory, config: self.config(), cursor };
        filler.fill(root_level, root)?;
        Ok(Built { root, tables: self.tables() })
    }
}

/// What is left of the runs: the next leaf to write is at the front.
#[derive(Clone)]
pub(crate) struct Cursor<'s> {
    runs: Runs<'s>,
    front: Option<(PhysRange, PageSize)>,
    /// Whether the front run fills so many tables that they are written abreast.
    long: bool,
    /// From how many on.
    threshold: u64,
}

impl<'s> Cursor<'s> {
    pub(crate) fn new(runs: Runs<'s>) -> Cursor<'s> {
        Cursor::with_threshold(runs, LONG)
    }

    fn with_threshold(runs: Runs<'s>, threshold: u64) -> Cursor<'s> {
        let mut cursor = Cursor { runs, front: None, long: false, threshold };
        cursor.next_run();
        cursor
    }

    fn next_run(&mut self) {
        let run: Option<Run> = self.runs.next();
        self.front = run.map(|run| (run.range(), run.size()));
        self.long = run.is_some_and(|run| run.count() >> 9 >= self.threshold);
    }

    /// Takes `bytes` off the front run.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.front = self.front.and_then(|(range, size)| {
            let start = range.start().checked_add(bytes)?;
            PhysRange::between(start, range.end()).map(|rest| (rest, size))
        });
        if self.front.is_none() {
            self.next_run();
        }
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
            } else if self.cursor.long
                && index + ABREAST <= 512
                && self.fills_abreast(level, range, size)
            {
                let children = self.fill_abreast(range.start(), size)?;
                let entries = &mut reach(self.memory, table)?.0;
                entries[next..index].fill(0);
                next = index + ABREAST;
                for (entry, child) in entries[index..next].iter_mut().zip(children) {
                    *entry = child.get() | self.config.table_entry_flags(level);
                }
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

    /// Whether what is left of a run fills the next [`ABREAST`] tables below a table at `level`, from the
    /// first entry on, with nothing but leaves.
    fn fills_abreast(&self, level: Level, rest: PhysRange, size: PageSize) -> bool {
        let span = level.entry_shift();
        level.below() == Some(Level::holding(size))
            && self.config.linear(rest.start()).trailing_zeros() >= span
            && rest.len() >> span >= ABREAST as u64
    }

    /// Fills the next [`ABREAST`] tables with the leaves that begin at `start`, and takes these off the run.
    fn fill_abreast(
        &mut self,
        start: PhysAddr,
        size: PageSize,
    ) -> Result<[PhysAddr; ABREAST], BuildError> {
        let mut children = [PhysAddr::ZERO; ABREAST];
        for child in &mut children {
            *child = fresh_table(self.memory, self.config)?;
        }
        let first = start.get() | self.config.leaf_entry_flags(size);
        if !self.memory.fill_tables(children, Entry::from_bits(first), size) {
            for (child, i) in children.into_iter().zip(0..) {
                let first = first + i * 512 * size.bytes();
                write_leaves(&mut reach(self.memory, child)?.0, first, size);
            }
        }
        self.cursor.advance(ABREAST as u64 * 512 * size.bytes());
        Ok(children)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, Levels, Policy, Slot};

    /// Memory that gives out one table at a time.
    struct OneByOne<'t>(Arena<'t>);

    impl TableWrite for OneByOne<'_> {
        fn available(&self) -> u64 {
            self.0.available()
        }

        fn allocate(&mut self) -> Option<PhysAddr> {
            self.0.allocate()
        }

        fn table_mut(&mut self, table: PhysAddr) -> Option<&mut Table> {
            self.0.table_mut(table)
        }
    }

    /// The same tables in the same places, abreast from `threshold` tables a run on and never; both
    /// where memory gives several tables at once and where it does not.
    fn abreast_makes_the_same(config: &Config, requests: &[PhysRange], threshold: u64) {
        let policy = Policy::Exact;
        let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, requests.len())];
        let plan = Plan::new(config, &policy, requests, &mut slots).unwrap();
        let base = PhysAddr::new(0x7000).unwrap();
        let build = |threshold, one_by_one| {
            let mut tables = vec![Table([!0; 512]); plan.tables().total() as usize];
            let cursor = Cursor::with_threshold(plan.runs(), threshold);
            let mut arena = Arena::new(&mut tables, base).unwrap();
            let built = if one_by_one {
                plan.build_from(cursor, &mut OneByOne(arena))
            } else {
                plan.build_from(cursor, &mut arena)
            };
            assert_eq!(built.unwrap().root, base);
            tables
        };
        let expected = build(u64::MAX, false);
        for one_by_one in [false, true] {
            assert!(build(threshold, one_by_one) == expected, "{requests:?}, {threshold}");
        }
    }

    #[test]
    fn abreast_makes_the_same_tables_in_the_same_places() {
        const GIB: u64 = 1 << 30;
        let gib = |start: u64, end: u64| PhysRange::new(start * GIB, end * GIB).unwrap();
        let edge = |start: u64, end: u64| {
            PhysRange::new(start * GIB + 0x20_0000, end * GIB - 0x20_0000).unwrap()
        };
        let worlds: [&[PhysRange]; 6] = [
            &[gib(0, 7), gib(9, 17), gib(18, 27)],
            &[gib(1, 9)],
            &[edge(0, 30)],
            // Across the ends of tables, by less and by more than eight.
            &[gib(505, 520)],
            &[edge(500, 530), gib(1020, 1040)],
            &[gib(0, 3), edge(4, 1030)],
        ];
        for levels in [Levels::Four, Levels::Five] {
            let mut config = Config::kexec(levels, false);
            for offset in [0, 0xffff_8880_0000_0000] {
                config.offset = offset;
                for requests in worlds {
                    for threshold in [0, 1, 8, 30] {
                        abreast_makes_the_same(&config, requests, threshold);
                    }
                }
            }
        }
        // PDPTs full of 1G leaves, and PML4s above them.
        let giant = Config::kexec(Levels::Five, true);
        abreast_makes_the_same(&giant, &[gib(512, 512 * 40 + 3)], 8);
        abreast_makes_the_same(&giant, &[gib(0, 512 * 530)], 8);
    }
}
