//! A planned map read as if its tables stood in memory, without building them.

use identmap::{Entry, Level, Paging, PhysAddr, PhysRange, TableRead, Unreadable};

use crate::Coverage;

/// Reads the tables that a plan describes. Table addresses are made up (level and frame,
/// packed), so they mean nothing outside of a walk; leaves are what building would store.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a>(pub &'a Coverage);

/// Bits of a made-up table address that hold the frame: a PT's frame has 57 - 21 bits at most.
const FRAME_BITS: u32 = 36;

impl Planned<'_> {
    /// What to begin a walk with.
    #[must_use]
    pub fn root(&self) -> PhysAddr {
        address(self.0.config.levels.root(), 0)
    }

    /// How to walk it: as the map's processor does, but for the width of addresses. Those of the
    /// tables are made up and need all 52 bits; those of leaves were held against the
    /// processor's width when the map was planned.
    #[must_use]
    pub fn paging(&self) -> Paging {
        Paging { maxphyaddr: 52, ..self.0.config.paging() }
    }
}

impl TableRead for Planned<'_> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        let config = &self.0.config;
        let packed = table.get() >> 12;
        let frame = packed & ((1 << FRAME_BITS) - 1);
        let level =
            Level::ALL.into_iter().find(|level| u64::from(level.number()) == packed >> FRAME_BITS);
        let Some(level) = level.filter(|_| index < 512) else {
            return Err(Unreadable { table });
        };
        let slot = frame << 9 | index as u64;
        let linear = slot << level.entry_shift();
        let Some(span) = physical(config, linear, level) else {
            return Ok(Entry::EMPTY);
        };
        let first = self.0.runs.partition_point(|run| run.range().end() <= span.start());
        let run = self.0.runs.get(first).filter(|run| run.range().intersects(span));
        Ok(match run {
            None => Entry::EMPTY,
            Some(run) if Level::holding(run.size()) >= level => {
                let bits = span.start().get() | config.leaf_entry_flags(run.size());
                Entry::from_bits(bits)
            }
            Some(_) => {
                let below = level.below().unwrap_or(Level::Pt);
                Entry::from_bits(address(below, slot).get() | config.table_entry_flags(level))
            }
        })
    }
}

/// The physical memory that the entry for `linear` spans, where there is any.
fn physical(config: &identmap::Config, linear: u64, level: Level) -> Option<PhysRange> {
    let unused = 64 - config.levels.virt_bits();
    let virt = ((linear << unused).cast_signed() >> unused).cast_unsigned();
    let start = virt.wrapping_sub(config.offset);
    // The upper entries of a table may span more than there is memory, or begin below it.
    let size = 1u64 << level.entry_shift();
    let (start, size) = if start >> 52 == 0 {
        (start, size.min((1 << 52) - start))
    } else {
        (0, start.checked_add(size).map_or(start.wrapping_add(size), |_| 0))
    };
    PhysRange::from_len(start, size.min(1 << 52)).ok()
}

fn address(level: Level, frame: u64) -> PhysAddr {
    let packed = u64::from(level.number()) << FRAME_BITS | frame & ((1 << FRAME_BITS) - 1);
    PhysAddr::new(packed << 12).unwrap_or(PhysAddr::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MapInput, PolicyKind, SlackKind};
    use identmap::{Arena, Config, Levels, Plan, Policy, Slot, Table, VirtAddr, WalkEnd, walk};

    /// At every boundary of the map and a byte either side, a walk of the planned tables
    /// ends like a walk of built ones.
    #[test]
    fn a_walk_of_planned_tables_ends_like_one_of_built_tables() {
        let requests = [
            PhysRange::new(0x1000, 0x20_1000).unwrap(),
            PhysRange::new(0x3fff_f000, 0xc000_1000).unwrap(),
            PhysRange::new(0x7f_c000_0000, 0x80_4000_0001).unwrap(),
        ];
        for offset in [0, 0xffff_8880_0000_0000] {
            for (levels, gbpages) in
                [(Levels::Four, true), (Levels::Five, true), (Levels::Four, false)]
            {
                // Fewer bits than a made-up table address has.
                let config = Config { offset, maxphyaddr: 40, ..Config::kexec(levels, gbpages) };
                let coverage = Coverage::plan(&MapInput {
                    config,
                    policy: PolicyKind::Exact,
                    uv: false,
                    requests: &requests,
                    forbidden: &[],
                    slack: SlackKind::None,
                    ram: &[],
                })
                .unwrap();
                let mut slots = [Slot::EMPTY; 24];
                let plan = Plan::new(&config, &Policy::Exact, &requests, &mut slots).unwrap();
                let mut tables = vec![Table::EMPTY; plan.tables().total() as usize];
                let mut arena = Arena::new(&mut tables, PhysAddr::ZERO).unwrap();
                let built = plan.build(&mut arena).unwrap();
                let planned = Planned(&coverage);
                let mut compared = 0;
                for edge in coverage.mapped.iter().flat_map(|r| [r.start().get(), r.end().get()]) {
                    for at in
                        [edge.wrapping_sub(1), edge, edge + 1, edge + (1 << 39), edge + (1 << 48)]
                    {
                        let virt = VirtAddr::new(at.wrapping_add(offset));
                        let real = walk(&arena, built.root, &config.paging(), virt);
                        let ours = walk(&planned, planned.root(), &planned.paging(), virt);
                        assert_eq!(ours.end(), real.end(), "{at:#x} {levels:?} {offset:#x}");
                        assert_eq!(ours.steps().count(), real.steps().count());
                        compared += usize::from(matches!(real.end(), WalkEnd::Mapped { .. }));
                    }
                }
                assert!(compared > 5);
            }
        }
    }
}
