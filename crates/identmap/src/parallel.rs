//! Filling by several threads, each its share of the tables: the same tables in the same places as
//! [`Plan::build`].

extern crate std;

use core::num::NonZero;
use core::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::vec::Vec;

use crate::addr::PhysAddr;
use crate::build::{Built, Cursor, Filler, fresh_table};
use crate::build_error::BuildError;
use crate::config::{Config, Level};
use crate::memory::{Arena, Table};
use crate::plan::{Plan, count_tables};
use crate::stores::write_leaves;

/// Fewer tables than this are not worth a thread: 4 MiB are written in some 100 µs.
const LEAST_SHARE: u64 = 1024;

impl Plan<'_> {
    /// Builds the planned tables in fresh memory with up to `threads` threads, this one among them.
    ///
    /// Bit for bit what [`build`](Plan::build) makes, in the same places. A map of less than
    /// 1,024 tables a thread is built by fewer threads. Needs the feature `std`.
    ///
    /// # Errors
    /// [`BuildError::Exhausted`] if `memory` has fewer tables than [`tables`](Plan::tables),
    /// [`BuildError::Memory`] if they lie past what an entry can address; nothing is written in
    /// either case.
    pub fn build_with_threads(
        &self,
        memory: &mut Arena<'_>,
        threads: NonZero<usize>,
    ) -> Result<Built, BuildError> {
        let needed = self.tables().total();
        let (tables, base) = memory.take(needed, self.config().phys_limit())?;
        let share = needed.div_ceil(threads.get() as u64).max(LEAST_SHARE);
        let shares = tables.chunks_mut(share as usize).zip((0..).step_by(share as usize));
        let helpers = needed.div_ceil(share) - 1;
        let queue = Mutex::new(shares);
        let work = || loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((tables, first)) = next else { return Ok(()) };
            Share::new(self, tables, first, base).fill()?;
        };
        thread::scope(|scope| {
            // A thread that cannot be had leaves its share to the others.
            let helpers: Vec<_> = (0..helpers)
                .filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
                .collect();
            let own = work();
            helpers.into_iter().fold(own, |so_far, helper| match helper.join() {
                Ok(result) => so_far.and(result),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(Built { root: base, tables: self.tables() })
    }
}

/// The tables that one thread writes: consecutive ones, counted in the order of [`Plan::build`].
struct Share<'t, 'p> {
    tables: &'t mut [Table],
    /// Their numbers.
    window: Range<u64>,
    /// Where table 0 lies.
    base: PhysAddr,
    config: &'p Config,
    cursor: Cursor<'p>,
    /// The number of the next table in that order.
    next: u64,
}

impl<'t, 'p> Share<'t, 'p> {
    fn new(plan: &'p Plan<'_>, tables: &'t mut [Table], first: u64, base: PhysAddr) -> Self {
        let window = first..first + tables.len() as u64;
        let cursor = Cursor::new(plan.runs());
        Share { tables, window, base, config: plan.config(), cursor, next: 0 }
    }

    fn fill(mut self) -> Result<(), BuildError> {
        self.descend(self.config.levels.root())
    }

    /// Goes through the table whose turn it is and those below it, not all of which are of this
    /// share, and writes those that are.
    fn descend(&mut self, level: Level) -> Result<(), BuildError> {
        let number = self.next;
        let mine = self.window.contains(&number);
        self.next += 1;
        let frame_shift = level.entry_shift() + 9;
        let mut frame = None;
        let mut written = 0;
        while let Some((range, size)) = self.cursor.front() {
            let linear = self.config.linear(range.start());
            if level != self.config.levels.root()
                && *frame.get_or_insert(linear >> frame_shift) != linear >> frame_shift
            {
                break;
            }
            if !mine && self.next >= self.window.end {
                // All that comes is another's. Nothing above is this share's either: a table is
                // numbered before those below it.
                return Ok(());
            }
            let index = level.index(linear);
            let end = if level == Level::holding(size) {
                let count = (range.len() >> size.shift()).min(512 - index as u64);
                let end = index + count as usize;
                if mine {
                    let first = range.start().get() | self.config.leaf_entry_flags(size);
                    let entries = self.entries(number)?;
                    entries[written..index].fill(0);
                    write_leaves(&mut entries[index..end], first, size);
                }
                self.cursor.advance(count << size.shift());
                end
            } else {
                if mine {
                    let child = self.address(self.next).get();
                    let flags = self.config.table_entry_flags(level);
                    let entries = self.entries(number)?;
                    entries[written..index].fill(0);
                    entries[index] = child | flags;
                }
                let below = level.below().ok_or(BuildError::Memory { table: self.base })?;
                self.child(below)?;
                index + 1
            };
            written = end;
        }
        if mine {
            self.entries(number)?[written..].fill(0);
        }
        Ok(())
    }

    /// A table at this level is next: it and those below it are passed over, written at one go, or gone
    /// through.
    fn child(&mut self, level: Level) -> Result<(), BuildError> {
        let mut after = self.cursor.clone();
        let count = count_tables(self.config, level, after.frame(self.config, level)).total();
        let numbers = self.next..self.next + count;
        let window = &self.window;
        if numbers.end <= window.start || numbers.start >= window.end {
            (self.cursor, self.next) = (after, numbers.end);
            return Ok(());
        }
        if numbers.start < window.start || numbers.end > window.end {
            return self.descend(level);
        }
        let first = (numbers.start - window.start) as usize;
        let base = self.address(numbers.start);
        let failed = BuildError::Memory { table: base };
        let tables = self.tables.get_mut(first..first + count as usize).ok_or(failed)?;
        let mut memory = Arena::new(tables, base).map_err(|_| failed)?;
        let table = fresh_table(&mut memory, self.config)?;
        let mut filler =
            Filler { memory: &mut memory, config: self.config, cursor: self.cursor.clone() };
        filler.fill(level, table)?;
        (self.cursor, self.next) = (after, numbers.end);
        Ok(())
    }

    fn address(&self, number: u64) -> PhysAddr {
        // `Arena::take` saw that the last one fits.
        self.base.checked_add(number << 12).unwrap_or(PhysAddr::MAX)
    }

    /// The entries of a table of this share.
    fn entries(&mut self, number: u64) -> Result<&mut [u64; 512], BuildError> {
        let failed = BuildError::Memory { table: self.address(number) };
        let index = number.checked_sub(self.window.start).ok_or(failed)?;
        self.tables.get_mut(index as usize).map(|table| &mut table.0).ok_or(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Guard, Levels, PageSize, PhysRange, Policy, Slack, Slot};

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    /// Every way to cut the tables into shares, down to one table each, makes the same tables.
    fn any_shares_make_the_same(policy: &Policy<'_>, gbpages: bool, requests: &[PhysRange]) {
        for levels in [Levels::Four, Levels::Five] {
            let config = Config::kexec(levels, gbpages);
            let mut slots = vec![Slot::EMPTY; Plan::slots_needed(policy, requests.len())];
            let plan = Plan::new(&config, policy, requests, &mut slots).unwrap();
            let total = plan.tables().total();
            let base = PhysAddr::new(0x7000).unwrap();
            let mut expected = vec![Table([!0; 512]); total as usize];
            plan.build(&mut Arena::new(&mut expected, base).unwrap()).unwrap();
            for share in 1..=total {
                let mut tables = vec![Table([!0; 512]); total as usize];
                for (tables, number) in
                    tables.chunks_mut(share as usize).zip((0..).step_by(share as usize))
                {
                    Share::new(&plan, tables, number, base).fill().unwrap();
                }
                assert!(tables == expected, "{requests:?} in shares of {share}");
            }
        }
    }

    #[test]
    fn shares_of_every_size() {
        let gib = 1 << 30;
        let scattered: Vec<_> = [0, 1, 511, 512, 513, 1023, 1024, 5000, 0x1_0000]
            .iter()
            .map(|&at| r(at * gib + 0x20_0000, at * gib + 0x3f_f000))
            .collect();
        let wide = [r(0, 40 * gib), r(510 * gib, 514 * gib + 0x1000)];
        let hole = [r(gib + 0x5000, gib + 0x6000)];
        let guarded = Policy::Guarded(Guard { forbidden: &hole, slack: Slack::Any });
        for requests in [&scattered[..], &wide, &[r(0x20_0000, 0x40_0000)], &[]] {
            for policy in [Policy::RoundOut, Policy::Exact] {
                any_shares_make_the_same(&policy, false, requests);
                any_shares_make_the_same(&policy, true, requests);
            }
        }
        let around = [r(0, gib + 0x5000), r(gib + 0x6000, 3 * gib)];
        any_shares_make_the_same(&guarded, false, &around);
    }

    #[test]
    fn threads_make_what_one_makes() {
        let config = Config::kexec(Levels::Four, false);
        let requests = [r(0, 6 << 40), r(7 << 40, (7 << 40) + 0x1000)];
        let mut slots = [Slot::EMPTY; 8];
        let plan = Plan::new(&config, &Policy::RoundOut, &requests, &mut slots).unwrap();
        let total = plan.tables().total() as usize;
        let base = PhysAddr::new(0x10_0000).unwrap();
        let mut expected = vec![Table::EMPTY; total];
        plan.build(&mut Arena::new(&mut expected, base).unwrap()).unwrap();
        for threads in [1, 2, 3, 64] {
            let mut tables = vec![Table([!0; 512]); total + 1];
            let mut arena = Arena::new(&mut tables, base).unwrap();
            let threads = NonZero::new(threads).unwrap();
            let built = plan.build_with_threads(&mut arena, threads).unwrap();
            assert_eq!((built.root, built.tables), (base, plan.tables()));
            assert!(arena.tables() == expected, "{threads} threads");
        }
    }

    #[test]
    fn nothing_is_written_where_it_cannot_be_built() {
        let mut config = Config::kexec(Levels::Four, false);
        let mut slots = [Slot::EMPTY; 8];
        let two = NonZero::new(2).unwrap();
        let plan = Plan::new(&config, &Policy::RoundOut, &[r(0, 1 << 30)], &mut slots).unwrap();
        let mut tables = vec![Table([7; 512]); 2];
        let mut arena = Arena::new(&mut tables, PhysAddr::ZERO).unwrap();
        let error = plan.build_with_threads(&mut arena, two).unwrap_err();
        assert_eq!(error, BuildError::Exhausted { needed: 3, available: 2 });
        config.maxphyaddr = 36;
        let mut slots = [Slot::EMPTY; 8];
        let plan = Plan::new(&config, &Policy::RoundOut, &[r(0, 1 << 30)], &mut slots).unwrap();
        let mut tables = vec![Table([7; 512]); 3];
        let base = PhysAddr::new((1 << 36) - 0x2000).unwrap();
        let mut arena = Arena::new(&mut tables, base).unwrap();
        assert!(plan.build_with_threads(&mut arena, two).is_err());
        assert!(tables.iter().all(|table| table.0 == [7; 512]));
        assert_eq!(PageSize::Size4K.bytes(), size_of::<Table>() as u64);
    }
}
