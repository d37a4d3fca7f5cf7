//! Where a loader puts things in the machine's RAM.

use core::fmt;

use identmap::{PhysAddr, PhysRange};
use identmap_machine::ranges;

use super::BzImage;

/// Nothing is placed below: `MIN_BOOTPARAM_ADDR` and `MIN_PURGATORY_ADDR` in Linux
/// `arch/x86/kernel/kexec-bzimage64.c`; kexec-tools' `do_bzImage64_load()` uses the same numbers.
const LOWEST: u64 = 0x3000;
/// `MIN_KERNEL_LOAD_ADDR`, same file.
const LOWEST_KERNEL: u64 = 0x10_0000;
/// `MIN_INITRD_LOAD_ADDR`, same file; `INITRD_BASE` of kexec-tools.
const LOWEST_INITRD: u64 = 0x100_0000;
const FOUR_GIB: u64 = 1 << 32;

/// How places are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// From the top of RAM down: `boot_params` with the command line first, the kernel, the initrd.
    /// Both Linux's `kexec_file_load` (`bzImage64_load()`, `top_down = true`) and kexec-tools
    /// (`do_bzImage64_load()`, `add_buffer(…, -1)`) do so, in this order, after their purgatory.
    TopDown,
    /// As low as each may lie; the kernel at its preferred address or the next one that is free.
    BottomUp,
    /// The kernel here, the rest from the top of RAM down.
    KernelAt(PhysAddr),
    /// A crash kernel: everything in this reservation, from its top down.
    Crash(PhysRange),
}

/// What lies where. The ranges are disjoint and lie in RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// `boot_params`, the command line and the `setup_data` chain, in whole pages.
    pub params: PhysRange,
    /// The kernel: `init_size` bytes from the load address, in whole pages.
    pub kernel: PhysRange,
    /// The initrd, in whole pages.
    pub initrd: Option<PhysRange>,
}

/// There is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacementError {
    /// For what.
    pub what: &'static str,
    /// How many bytes it takes.
    pub bytes: u64,
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room in RAM for {} of {:#x} bytes", self.what, self.bytes)
    }
}

impl core::error::Error for PlacementError {}

impl Placement {
    /// Finds a place for each part in `ram` (sorted, disjoint).
    ///
    /// # Errors
    /// [`PlacementError`] names the part for which there is no room.
    pub fn find(
        strategy: Strategy,
        ram: &[PhysRange],
        image: &BzImage<'_>,
        params_len: u64,
        initrd_len: u64,
    ) -> Result<Placement, PlacementError> {
        let limit = if image.above_4g() { u64::MAX } else { FOUR_GIB };
        let free = match strategy {
            Strategy::Crash(reserved) => {
                ram.iter().filter_map(|range| range.intersection(reserved)).collect()
            }
            _ => ram.to_vec(),
        };
        let mut room = Room::new(free, strategy != Strategy::BottomUp);
        let align = image.kernel_alignment();
        let lowest = image.pref_address().max(LOWEST_KERNEL);
        let what = "the kernel";
        let fixed = match strategy {
            Strategy::KernelAt(address) => Some(address.get()),
            _ if !image.is_relocatable() => Some(image.pref_address()),
            _ => None,
        };
        if let Some(address) = fixed {
            // Segments are whole pages: `sanity_check_segment_list()` in `kernel/kexec_core.c`.
            if !address.is_multiple_of(4096) {
                let what = "the kernel at an address that is no page";
                return Err(PlacementError { what, bytes: image.init_size() });
            }
            let kernel = room.take_at(what, address, image.init_size())?;
            let params = room.take("boot_params", params_len, 4096, LOWEST..limit)?;
            return room.finish(params, kernel, initrd_len, limit);
        }
        let params = room.take("boot_params", params_len, 4096, LOWEST..limit)?;
        let kernel = room.take(what, image.init_size(), align, lowest..limit)?;
        room.finish(params, kernel, initrd_len, limit)
    }
}

/// Free memory, from which places are taken one after the other. What was taken is disjoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    free: Vec<PhysRange>,
    top_down: bool,
}

impl Room {
    /// All of `free` (sorted, disjoint); places are taken from its top, or from its bottom.
    #[must_use]
    pub fn new(free: Vec<PhysRange>, top_down: bool) -> Room {
        Room { free, top_down }
    }

    /// What is left.
    #[must_use]
    pub fn free(&self) -> &[PhysRange] {
        &self.free
    }

    /// Takes whole pages for `bytes` bytes at a multiple of `align`, a power of two, within `window`.
    ///
    /// # Errors
    /// [`PlacementError`] if there is no such place.
    pub fn take(
        &mut self,
        what: &'static str,
        bytes: u64,
        align: u64,
        window: core::ops::Range<u64>,
    ) -> Result<PhysRange, PlacementError> {
        let len = pages(bytes);
        let fits = |range: &PhysRange| {
            let start = range.start().get().max(window.start);
            let end = range.end().get().min(window.end);
            let at = if self.top_down {
                end.checked_sub(len)? & !(align - 1)
            } else {
                start.checked_next_multiple_of(align)?
            };
            (at >= start && at.checked_add(len)? <= end).then_some(at)
        };
        let found = if self.top_down {
            self.free.iter().rev().find_map(fits)
        } else {
            self.free.iter().find_map(fits)
        };
        let at = found.ok_or(PlacementError { what, bytes })?;
        self.take_at(what, at, bytes)
    }

    /// Takes whole pages for `bytes` bytes from `at` on.
    ///
    /// # Errors
    /// [`PlacementError`] if they are not all free, or `at` is not on a page.
    pub fn take_at(
        &mut self,
        what: &'static str,
        at: u64,
        bytes: u64,
    ) -> Result<PhysRange, PlacementError> {
        let none = PlacementError { what, bytes };
        if !at.is_multiple_of(4096) {
            return Err(none);
        }
        let range = PhysRange::from_len(at, pages(bytes)).map_err(|_| none)?;
        if !self.free.iter().any(|free| free.covers(range)) {
            return Err(none);
        }
        self.free = ranges::subtract(&self.free, &[range]);
        Ok(range)
    }

    fn finish(
        mut self,
        params: PhysRange,
        kernel: PhysRange,
        initrd_len: u64,
        limit: u64,
    ) -> Result<Placement, PlacementError> {
        let initrd = match initrd_len {
            0 => None,
            len => Some(self.take("the initrd", len, 4096, LOWEST_INITRD..limit)?),
        };
        Ok(Placement { params, kernel, initrd })
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.max(1).checked_next_multiple_of(4096).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    fn made(init_size: u32, relocatable: bool) -> Vec<u8> {
        made_kernel::BzImage { init_size, relocatable, ..Default::default() }.bytes()
    }

    #[test]
    fn top_down_as_both_loaders() {
        let bytes = made(0x123_4567, true);
        let image = BzImage::parse(&bytes).unwrap();
        let ram = [r(0, 0x9f000), r(0x10_0000, 0x4000_0000)];
        let placed = Placement::find(Strategy::TopDown, &ram, &image, 0x1800, 5000).unwrap();
        assert_eq!(placed.params, r(0x3fff_e000, 0x4000_0000));
        assert_eq!(placed.kernel, r(0x3ec0_0000, 0x3fe3_5000));
        assert_eq!(placed.initrd, Some(r(0x3fff_c000, 0x3fff_e000)));
    }

    #[test]
    fn bottom_up_and_fixed() {
        let bytes = made(0x20_0000, true);
        let image = BzImage::parse(&bytes).unwrap();
        let ram = [r(0x1000, 0x9f000), r(0x10_0000, 0x110_0000), r(0x200_0000, 0x400_0000)];
        let low = Placement::find(Strategy::BottomUp, &ram, &image, 1, 1).unwrap();
        assert_eq!((low.params, low.kernel), (r(0x3000, 0x4000), r(0x200_0000, 0x220_0000)));
        assert_eq!(low.initrd, Some(r(0x100_0000, 0x100_1000)));
        let at = |addr| Strategy::KernelAt(PhysAddr::new(addr).unwrap());
        let fixed = Placement::find(at(0x10_0000), &ram, &image, 1, 0).unwrap();
        assert_eq!(fixed.kernel, r(0x10_0000, 0x30_0000));
        let error = Placement::find(at(0x100_0000), &ram, &image, 1, 0).unwrap_err();
        assert_eq!(error.what, "the kernel");
        let huge = Placement::find(Strategy::TopDown, &ram, &image, 1, u64::MAX).unwrap_err();
        assert_eq!(huge.what, "the initrd");
    }

    #[test]
    fn one_that_cannot_be_moved_lies_where_it_wants() {
        let bytes = made(0x20_0000, false);
        let image = BzImage::parse(&bytes).unwrap();
        let ram = [r(0x10_0000, 0x4000_0000)];
        let placed = Placement::find(Strategy::TopDown, &ram, &image, 1, 0).unwrap();
        assert_eq!(placed.kernel, r(0x100_0000, 0x120_0000));
    }
}
