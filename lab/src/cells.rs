//! The matrix: which kernel, under which firmware, with which pages, loaded how.

use std::fmt;

/// Kernel series, as the directories under `CACHE/kernels/` are named.
pub const SERIES: &[&str] = &["5.10", "6.1", "6.12", "7.x"];

/// What the machine starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// OVMF as shipped: its tables lie between ranges of memory.
    Ovmf,
    /// OVMF told to set large blocks aside: its tables lie megabytes from memory.
    OvmfFar,
    /// The same, and its configuration table lies megabytes from its system table.
    OvmfSplit,
    /// A PC BIOS: no EFI at all.
    SeaBios,
}

/// How the image is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// `kexec -l -c`: `kexec_load(2)`
    Syscall,
    /// `kexec -l -s`: `kexec_file_load(2)`
    File,
    /// `kexec -p -c`: for a crash
    Crash,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// One of [`SERIES`].
    pub series: &'static str,
    /// What the machine starts with.
    pub firmware: Firmware,
    /// Without: `nogbpages` on the producer's command line.
    pub gbpages: bool,
    /// How the image is loaded.
    pub load: Load,
    /// With the processor's 57-bit linear addresses.
    pub la57: bool,
    /// The kernel is told to use only the RAM below 4 GiB (`mem=4G`); kexec-tools, which asks
    /// firmware's map, loads the image above.
    pub low: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firmware = match self.firmware {
            Firmware::Ovmf => "ovmf",
            Firmware::OvmfFar => "ovmffar",
            Firmware::OvmfSplit => "ovmfsplit",
            Firmware::SeaBios => "seabios",
        };
        let pages = if self.gbpages { "gbpages" } else { "nogbpages" };
        write!(f, "{}-{firmware}-{pages}", self.series)?;
        match self.load {
            Load::Syscall => {}
            Load::File => write!(f, "-file")?,
            Load::Crash => write!(f, "-kdump")?,
        }
        if self.la57 {
            write!(f, "-la57")?;
        }
        if self.low {
            write!(f, "-low")?;
        }
        Ok(())
    }
}

/// All cells, the plain ones of a series first. `has_la57` says which series have 5-level paging.
pub fn all(has_la57: impl Fn(&str) -> bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &series in SERIES {
        let plain = Cell {
            series,
            firmware: Firmware::Ovmf,
            gbpages: true,
            load: Load::Syscall,
            la57: false,
            low: false,
        };
        for firmware in [Firmware::Ovmf, Firmware::OvmfFar, Firmware::OvmfSplit, Firmware::SeaBios]
        {
            for gbpages in [true, false] {
                cells.push(Cell { firmware, gbpages, ..plain });
            }
        }
        cells.push(Cell { load: Load::File, ..plain });
        cells.push(Cell { load: Load::Crash, ..plain });
        cells.push(Cell { load: Load::Crash, gbpages: false, ..plain });
        cells.push(Cell { low: true, ..plain });
        if has_la57(series) {
            cells.push(Cell { la57: true, ..plain });
            cells.push(Cell { la57: true, gbpages: false, ..plain });
        }
    }
    cells
}

/// Whether a name passes a filter: words joined by commas, one of which must match; a word matches if
/// each of its parts, joined by `+`, is in the name between dashes or is the whole name.
#[must_use]
pub fn passes(name: &str, filter: &str) -> bool {
    filter.split(',').any(|word| {
        word == name || word.split('+').all(|part| name.split('-').any(|found| found == part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<String> =
            all(|series| series != "5.10").iter().map(Cell::to_string).collect();
        assert_eq!(names.len(), 4 * 12 + 3 * 2);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 4 * 12 + 3 * 2);
    }

    #[test]
    fn filters_match_whole_parts() {
        assert!(passes("6.1-ovmf-gbpages", "6.1"));
        assert!(!passes("6.12-ovmf-gbpages", "6.1"));
        assert!(!passes("6.1-ovmf-nogbpages", "gbpages"));
        assert!(passes("6.1-ovmf-gbpages-kdump", "7.x,6.1+kdump"));
        assert!(!passes("6.1-ovmf-gbpages", "7.x,6.1+kdump"));
        assert!(passes("6.1-ovmf-gbpages", "6.1-ovmf-gbpages"));
    }
}
