//! All that a set of page tables maps, and all that could not be read of it.

use identmap::{
    Found, LeafRun, Leaves, Level, PageSize, Paging, PhysAddr, Seen, TableCount, TableRead,
    VirtAddr,
};

/// Decoded tables.
///
/// Holding one proves nothing about completeness: [`is_whole`](Tables::is_whole) tells whether
/// everything under the root was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tables {
    /// The top table.
    pub root: PhysAddr,
    /// How the tables were read.
    pub paging: Paging,
    /// Runs of equal leaves, in the order of table entries.
    pub runs: Vec<LeafRun>,
    /// Tables met again, and entries that could not be followed or taken, in order.
    pub oddities: Vec<Oddity>,
    /// Tables that were read, each once for each level it is used at.
    pub count: TableCount,
    /// The lists end before the tables do: a limit was reached.
    pub cut: bool,
}

/// Anything but a leaf; addresses are the first that are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// From `virt` on the tables repeat what they map from `first` on.
    Shared {
        /// First address translated this time.
        virt: VirtAddr,
        /// Level of the table.
        level: Level,
        /// Where it lies.
        table: PhysAddr,
        /// First address it translated the first time.
        first: VirtAddr,
    },
    /// A table, or the rest of one, that cannot be read: nothing is known from `virt` on.
    Unreadable {
        /// First address of which nothing is known.
        virt: VirtAddr,
        /// Level of the table.
        level: Level,
        /// Where it lies.
        table: PhysAddr,
    },
    /// An entry with reserved bits: every access through it faults.
    Reserved {
        /// First address the entry spans.
        virt: VirtAddr,
        /// Level of the table that holds it.
        level: Level,
        /// The bits.
        bits: u64,
    },
}

impl Tables {
    /// Whether everything was read: only then does an address without a leaf count as not mapped.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.cut && !self.oddities.iter().any(|o| matches!(o, Oddity::Unreadable { .. }))
    }

    /// Bytes mapped.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.runs.iter().fold(0, |sum, run| sum.saturating_add(run.bytes()))
    }

    /// Leaves of one size.
    #[must_use]
    pub fn leaves(&self, size: PageSize) -> u64 {
        self.runs.iter().filter(|run| run.size == size).map(|run| run.count).sum()
    }
}

/// Places for tables, to begin with; four times as many each time they run out.
const SEEN_FIRST: usize = 1 << 12;
/// Tables (and levels they are used at) that are followed at most: 16 GiB of them.
const SEEN_MOST: usize = 1 << 22;
/// Runs and oddities that are listed at most, each.
const LIST_MOST: usize = 1 << 20;

/// Decodes everything under `root` (a multiple of 4 KiB).
///
/// Each table is visited once at each level, so any input ends; what is listed is bounded too, and
/// [`Tables::cut`] says so.
pub fn decode<R: TableRead>(reader: &R, root: PhysAddr, paging: Paging) -> Tables {
    let mut places = SEEN_FIRST;
    loop {
        if let Some(tables) = attempt(reader, root, paging, places, places == SEEN_MOST) {
            return tables;
        }
        places = (places * 4).min(SEEN_MOST);
    }
}

/// One try; `None` if the places did not suffice and it is not the last try.
fn attempt<R: TableRead>(
    reader: &R,
    root: PhysAddr,
    paging: Paging,
    places: usize,
    last: bool,
) -> Option<Tables> {
    let mut seen = vec![Seen::EMPTY; places];
    let mut leaves = Leaves::new(reader, root, paging, &mut seen);
    let (mut runs, mut oddities, mut cut) = (Vec::new(), Vec::new(), false);
    for found in leaves.by_ref() {
        if runs.len() == LIST_MOST || oddities.len() == LIST_MOST {
            cut = true;
            break;
        }
        match found {
            Found::Leaves(run) => runs.push(run),
            Found::Shared { virt, level, table, first } => {
                oddities.push(Oddity::Shared { virt, level, table, first });
            }
            Found::Unreadable { virt, level, table } => {
                oddities.push(Oddity::Unreadable { virt, level, table });
            }
            Found::Reserved { virt, level, bits } => {
                oddities.push(Oddity::Reserved { virt, level, bits });
            }
            Found::TooMany { virt, level, table } => {
                if !last {
                    return None;
                }
                cut = true;
                oddities.push(Oddity::Unreadable { virt, level, table });
            }
            // A finding this code does not know: what it means for the lists is not known either.
            _ => cut = true,
        }
    }
    Some(Tables { root, paging, runs, oddities, count: leaves.tables(), cut })
}
