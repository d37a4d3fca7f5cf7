//! The image that is loaded in a guest, as its kernel holds it.

use std::collections::BTreeMap;
use std::fs::{self, File};

use identmap::{PhysAddr, PhysRange};

use super::Lab;
use super::machine::{Guest, Trouble};
use crate::btf::Btf;
use crate::core_file::CoreFile;
use crate::kernel::{self, Kernel, SYMBOLS, Slot, Symbols};

/// What lies in `struct kimage`.
#[derive(Clone, Debug)]
pub struct Image {
    /// Where the jump goes.
    pub start: PhysAddr,
    /// Where each segment will lie, and how many of its bytes were loaded.
    pub segments: Vec<(PhysRange, u64)>,
    /// By page of a segment: the page that it is copied from at the jump.
    sources: BTreeMap<u64, u64>,
}

impl Image {
    /// Reads it out of a dump of the guest's memory.
    ///
    /// # Errors
    /// [`Trouble`] when nothing is loaded, or it cannot be found.
    pub fn of(guest: &mut Guest, lab: &Lab) -> Result<Self, Trouble> {
        let names = SYMBOLS.join("|");
        let kallsyms =
            guest.must(&format!("grep -E ' ({names})$' /proc/kallsyms"), lab.patience)?;
        let iomem = guest.must("cat /proc/iomem", lab.patience)?;
        let text = kernel::iomem_start(&iomem, "Kernel code").ok_or("no \"Kernel code\"")?;
        let path = guest.dump()?;
        let found = Self::read(&path, &kallsyms, text);
        fs::remove_file(&path)?;
        found
    }

    fn read(path: &std::path::Path, kallsyms: &str, text: PhysAddr) -> Result<Self, Trouble> {
        let memory = CoreFile::open(File::open(path)?).map_err(|error| error.to_string())?;
        let say = |error: kernel::KernelError| Trouble::Failed(error.to_string());
        let kernel = Kernel::new(&memory, Symbols::parse(kallsyms), text).map_err(say)?;
        let btf = kernel.btf_bytes().map_err(say)?;
        let btf = Btf::parse(&btf).map_err(|error| error.to_string())?;
        let loaded =
            kernel.loaded_image(&btf, Slot::Normal).map_err(say)?.ok_or("no image is loaded")?;
        let sizes = kernel.loaded_bytes(&btf, &loaded).map_err(say)?;
        let sources = kernel.source_pages(&btf, &loaded).map_err(say)?;
        Ok(Self {
            start: loaded.start,
            segments: loaded.segments.iter().copied().zip(sizes).collect(),
            sources: sources.into_iter().map(|(to, from)| (to.get(), from.get())).collect(),
        })
    }

    /// Where the byte that will lie at `at` is now.
    #[must_use]
    pub fn source(&self, at: u64) -> Option<u64> {
        self.sources.get(&(at & !0xfff)).map(|page| page | at & 0xfff)
    }

    /// The segment of a kernel that needs `init_size` bytes: the smallest that has them.
    #[must_use]
    pub fn kernel(&self, init_size: u64) -> Option<PhysRange> {
        let ranges = self.segments.iter().map(|(range, _)| *range);
        ranges.filter(|range| range.len() >= init_size).min_by_key(|range| range.len())
    }
}

/// `init_size` of a bzImage (Documentation/arch/x86/boot.rst, offset 0x260).
#[must_use]
pub fn init_size(bzimage: &[u8]) -> Option<u64> {
    let bytes = bzimage.get(0x260..0x264)?;
    Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
}
