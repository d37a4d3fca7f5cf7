//! Adding to tables that exist already, as Linux does call by call.

use core::fmt;

use crate::addr::{PhysAddr, PhysRange};
use crate::build::{fresh_table, reach};
use crate::build_error::BuildError;
use crate::config::{Config, Level};
use crate::entry::Entry;
use crate::memory::{Table, TableWrite};
use crate::plan::Plan;
use crate::plan_error::PlanError;
use crate::policy::{OnTable, Policy};
use crate::slots::Slot;

/// What was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Added {
    /// Tables that had to be allocated.
    pub new_tables: u64,
}

/// Makes an empty root table to add to.
///
/// # Errors
/// [`BuildError::Exhausted`] if `memory` has no table left, [`BuildError::Memory`] if it breaks its word.
pub fn empty_root<W: TableWrite>(memory: &mut W, config: &Config) -> Result<PhysAddr, BuildError> {
    if memory.available() == 0 {
        return Err(BuildError::Exhausted { needed: 1, available: 0 });
    }
    let root = fresh_table(memory, config)?;
    *reach(memory, root)? = Table::EMPTY;
    Ok(root)
}

/// Maps one more request in the tables under `root`. A present entry is never changed.
///
/// Adding the requests of a plan one by one, in their order, gives the tables that the plan
/// gives, for every policy that reproduces Linux, and for `guarded` with slack `any`. With the
/// other slacks what `guarded` may reach depends on all requests at once; added one by one they are
/// covered, and nothing forbidden is touched, with more tables at times than a plan needs.
///
/// The tables that exist count as the caller's: an unreadable one is an error, and no entry that is
/// present is ever followed past the level of its leaf. They must be a tree where the request
/// lies: what is written to a table that is reached in two ways (a recursive slot, say) shows in both,
/// so that some of the request may stay unmapped, or the promise to write nothing on an error be lost.
///
/// # Errors
/// [`AddError::Plan`] as [`Plan::new`]; [`AddError::Exhausted`] before anything is written if
/// `memory` has too few tables; [`AddError::Memory`] if a table cannot be reached.
pub fn add<W: TableWrite>(
    memory: &mut W,
    root: PhysAddr,
    config: &Config,
    policy: &Policy<'_>,
    request: PhysRange,
    slots: &mut [Slot],
) -> Result<Added, AddError> {
    let plan = Plan::new(config, policy, &[request], slots)?;
    let bounds = (config.linear(request.start()), config.linear(request.last()));
    let mut adder = Adder { memory, config, policy, bounds, new_tables: 0, last_new: [None; 5] };
    adder.all::<false>(&plan, root)?;
    let needed = adder.new_tables;
    let available = adder.memory.available();
    if available < needed {
        return Err(AddError::Exhausted { needed, available });
    }
    adder.new_tables = 0;
    adder.all::<true>(&plan, root)?;
    Ok(Added { new_tables: adder.new_tables })
}

struct Adder<'a, W> {
    memory: &'a mut W,
    config: &'a Config,
    policy: &'a Policy<'a>,
    /// First and last linear address of the request itself.
    bounds: (u64, u64),
    new_tables: u64,
    /// Counting only: the frame that the last table counted at each level stands for.
    last_new: [Option<u64>; 5],
}

/// A stretch of equal leaves in linear addresses, inclusive at both ends so that it may end at the top.
#[derive(Clone, Copy)]
struct Stretch {
    first: u64,
    last: u64,
    phys: u64,
    level: Level,
}

impl<W: TableWrite> Adder<'_, W> {
    fn all<const WRITE: bool>(&mut self, plan: &Plan<'_>, root: PhysAddr) -> Result<(), AddError> {
        for run in plan.runs() {
            let stretch = Stretch {
                first: self.config.linear(run.range().start()),
                last: self.config.linear(run.range().last()),
                phys: run.range().start().get(),
                level: Level::holding(run.size()),
            };
            self.table::<WRITE>(self.config.levels.root(), Some(root), stretch)?;
        }
        Ok(())
    }

    /// Adds `stretch` to one table; `None` is a table that counting has only imagined.
    fn table<const WRITE: bool>(
        &mut self,
        level: Level,
        table: Option<PhysAddr>,
        stretch: Stretch,
    ) -> Result<(), AddError> {
        let shift = level.entry_shift();
        for slot in stretch.first >> shift..=stretch.last >> shift {
            let first = stretch.first.max(slot << shift);
            let part = Stretch {
                first,
                last: stretch.last.min((slot << shift) | ((1 << shift) - 1)),
                phys: stretch.phys + (first - stretch.first),
                level: stretch.level,
            };
            let index = slot as usize & 511;
            let entry = match table {
                Some(table) => Entry::from_bits(reach(self.memory, table)?.0[index]),
                None => Entry::EMPTY,
            };
            self.slot::<WRITE>(level, table, index, entry, part)?;
        }
        Ok(())
    }

    /// Adds the part of a stretch that one entry spans.
    fn slot<const WRITE: bool>(
        &mut self,
        level: Level,
        table: Option<PhysAddr>,
        index: usize,
        entry: Entry,
        part: Stretch,
    ) -> Result<(), AddError> {
        if entry.is_present() {
            let is_leaf = level == Level::Pt || (entry.has_page_size() && level.leaf().is_some());
            let skip = match level.leaf() {
                Some(size) if level <= part.level => self.policy.on_table(size) == OnTable::Skip,
                // Linux's ident_pmd_init() takes a present PMD entry for done, table or not.
                _ => false,
            };
            let Some(below) = level.below().filter(|_| !is_leaf && !skip) else {
                return Ok(());
            };
            let child = self.child_of(entry)?;
            let part = if level <= part.level { self.asked_for(part, below) } else { part };
            return self.table::<WRITE>(below, Some(child), part);
        }
        // At the level of the leaf the entry is empty: store it. Under a table that stands where a
        // larger leaf was planned, leaves of this level's size take its place.
        if level <= part.level {
            if WRITE {
                let Some(size) = level.leaf() else { return Ok(()) };
                let bits = part.phys | self.config.leaf_entry_flags(size);
                self.store(table, index, bits)?;
            }
            return Ok(());
        }
        let Some(below) = level.below() else { return Ok(()) };
        let child = self.new_child::<WRITE>(level, table, index, part.first)?;
        self.table::<WRITE>(below, child, part)
    }

    /// What of a planned larger leaf the request itself touches, in frames of a `level` entry:
    /// where a table already stands, no more than that is filled in.
    fn asked_for(&self, part: Stretch, level: Level) -> Stretch {
        let below_frame = (1 << level.entry_shift()) - 1;
        let first = part.first.max(self.bounds.0 & !below_frame);
        let last = part.last.min(self.bounds.1 | below_frame);
        Stretch { first, last, phys: part.phys + (first - part.first), level: part.level }
    }

    /// Allocates a table and links it, or counts it once.
    fn new_child<const WRITE: bool>(
        &mut self,
        level: Level,
        table: Option<PhysAddr>,
        index: usize,
        linear: u64,
    ) -> Result<Option<PhysAddr>, AddError> {
        if !WRITE {
            let frame = Some(linear >> level.entry_shift());
            let known = &mut self.last_new[level.number() as usize - 1];
            self.new_tables += u64::from(*known != frame);
            *known = frame;
            return Ok(None);
        }
        let child = fresh_table(self.memory, self.config)?;
        *reach(self.memory, child)? = Table::EMPTY;
        self.store(table, index, child.get() | self.config.table_entry_flags(level))?;
        self.new_tables += 1;
        Ok(Some(child))
    }

    fn store(&mut self, table: Option<PhysAddr>, index: usize, bits: u64) -> Result<(), AddError> {
        // Writing never meets an imagined table.
        let table = table.ok_or(AddError::Memory { table: PhysAddr::ZERO })?;
        reach(self.memory, table)?.0[index] = bits;
        Ok(())
    }

    fn child_of(&self, entry: Entry) -> Result<PhysAddr, AddError> {
        PhysAddr::new(entry.address_bits(self.config.encryption_mask))
            .ok_or(AddError::Memory { table: PhysAddr::MAX })
    }
}

/// Why nothing, or not all, was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddError {
    /// The request cannot be planned; nothing was written.
    Plan(PlanError),
    /// Not enough memory for tables; nothing was written.
    Exhausted {
        /// Tables needed.
        needed: u64,
        /// Tables available.
        available: u64,
    },
    /// A table that an entry points to cannot be reached (found before the first write), or
    /// the memory broke its promise.
    Memory {
        /// The table.
        table: PhysAddr,
    },
}

impl From<PlanError> for AddError {
    fn from(error: PlanError) -> AddError {
        AddError::Plan(error)
    }
}

impl From<BuildError> for AddError {
    fn from(error: BuildError) -> AddError {
        match error {
            BuildError::Exhausted { needed, available } => {
                AddError::Exhausted { needed, available }
            }
            BuildError::Memory { table } => AddError::Memory { table },
        }
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddError::Plan(error) => error.fmt(f),
            AddError::Exhausted { needed, available } => {
                write!(f, "the request takes {needed} more tables; memory has {available}")
            }
            AddError::Memory { table } => write!(f, "the table at {table} cannot be reached"),
        }
    }
}

impl core::error::Error for AddError {}
