//! What a loaded image's segments will hold at the jump, and its page tables as they stand.
//!
//! Before the jump the pages of an ordinary image lie scattered; a list that begins with
//! `kimage.head` says where each belongs (`include/linux/kexec.h`; `kimage_add_entry()` and
//! `for_each_kimage_entry()` in `kernel/kexec_core.c`). A crash image lies in its place, and so do segments in
//! memory of the contiguous allocator (`kimage.segment_cma`, since 6.17).

use std::collections::{BTreeMap, HashSet};

use identmap::{Decoded, Entry, Paging, PhysAddr, PhysRange, VirtAddr};

use crate::kimage::{Kernel, KernelError, LoadedImage, RootPlace};
use crate::memory::{KernelMemory, PhysicalMemory};
use crate::requests::Kind;

/// `IND_DESTINATION`, `IND_INDIRECTION`, `IND_DONE`, `IND_SOURCE`.
const DESTINATION: u64 = 1;
const INDIRECTION: u64 = 2;
const DONE: u64 = 4;
const SOURCE: u64 = 8;
const PAGE: u64 = 4096;
/// More pages than any image has: 4 GiB of them. Entries of the list, with their places.
const MOST_PAGES: u64 = 1 << 20;
const MOST_ENTRIES: u64 = 2 * MOST_PAGES;
/// 1 GiB of tables.
const MOST_TABLES: usize = 1 << 18;

/// A page of tables, and where it lies.
pub type TablePage = (PhysAddr, Box<[u8; 4096]>);

/// An image as it will be at the jump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Each segment with all its bytes, in the order of [`LoadedImage::segments`].
    pub segments: Vec<(PhysRange, Vec<u8>)>,
    /// The tables under the image's root, each page once, by address.
    pub tables: Vec<TablePage>,
    /// What RSP holds at the jump (`arch/x86/kernel/relocate_kernel_64.S`, the same from 5.10 to 7.3): below the
    /// end of the page with the code, where a word of zero stands.
    pub stack: PhysAddr,
}

impl<M: KernelMemory> Kernel<'_, M> {
    /// Gathers segments and tables of an image.
    ///
    /// # Errors
    /// [`KernelError`] if a page of them cannot be read or is in no list, if lists have no end, and
    /// [`KernelError::Changed`] if it was no longer the same image afterwards.
    pub fn standing(&self, image: &LoadedImage, paging: Paging) -> Result<Standing, KernelError> {
        let sources = self.sources(image.head)?;
        let in_place = image.kind == Kind::Kdump || self.has_contiguous(image)?;
        let mut left = MOST_PAGES;
        let mut segments = Vec::with_capacity(image.segments.len());
        for &range in &image.segments {
            segments.push((range, self.segment(range, &sources, in_place, &mut left)?));
        }
        let tables = self.table_pages(image.root, paging)?;
        let offset = match image.root_in {
            RootPlace::OwnPage => PAGE,
            RootPlace::ControlPage => 2 * PAGE,
        };
        let (what, value) = ("kimage.control_code_page", image.control_page.get());
        let stack = image.control_page.checked_add(offset - 8);
        let stack = stack.ok_or(KernelError::Implausible { what, value })?;
        match self.image(image.kind)? {
            Some(after) if after == *image => Ok(Standing { segments, tables, stack }),
            _ => Err(KernelError::Changed),
        }
    }

    /// Page numbers: of each destination, the source.
    fn sources(&self, head: u64) -> Result<BTreeMap<u64, u64>, KernelError> {
        let what = "kimage.head";
        let mut sources = BTreeMap::new();
        let (mut entry, mut next, mut destination) = (head, None, None);
        for _ in 0..MOST_ENTRIES {
            let page = entry / PAGE;
            let wrong = KernelError::Implausible { what, value: entry };
            match entry % PAGE {
                INDIRECTION => next = Some(page * PAGE),
                DESTINATION => destination = Some(page),
                SOURCE => {
                    let at = destination.ok_or(wrong)?;
                    sources.insert(at, page);
                    destination = Some(at + 1);
                }
                flags if flags & DONE != 0 => return Ok(sources),
                _ => return Err(wrong),
            }
            // The first entry stands in the structure itself, all others in pages of their own.
            let at = next.and_then(PhysAddr::new);
            let Some(at) = at else {
                return Err(KernelError::Implausible { what, value: entry });
            };
            let mut word = [0; 8];
            self.read_phys(at, &mut word).map_err(|error| KernelError::Read { what, error })?;
            entry = u64::from_le_bytes(word);
            next = Some(at.get() + 8);
        }
        Err(KernelError::Implausible { what, value: head })
    }

    fn segment(
        &self,
        range: PhysRange,
        sources: &BTreeMap<u64, u64>,
        in_place: bool,
        left: &mut u64,
    ) -> Result<Vec<u8>, KernelError> {
        let what = "a segment of the image";
        let wrong = |value| KernelError::Implausible { what, value };
        let (start, end) = (range.start().get(), range.end().get());
        // `sanity_check_segment_list()`: whole pages.
        if !start.is_multiple_of(PAGE) || !end.is_multiple_of(PAGE) {
            return Err(wrong(start));
        }
        let mut bytes = Vec::new();
        for page in start / PAGE..end / PAGE {
            *left = left.checked_sub(1).ok_or(wrong(range.len()))?;
            let from = match sources.get(&page) {
                Some(&source) => source,
                None if in_place => page,
                None => return Err(wrong(page * PAGE)),
            };
            let from = PhysAddr::new(from * PAGE).ok_or(wrong(from * PAGE))?;
            let mut held = [0; PAGE as usize];
            self.read_phys(from, &mut held).map_err(|error| KernelError::Read { what, error })?;
            bytes.extend_from_slice(&held);
        }
        Ok(bytes)
    }

    /// Whether a segment lies in memory of the contiguous allocator.
    fn has_contiguous(&self, image: &LoadedImage) -> Result<bool, KernelError> {
        let what = "kimage.segment_cma";
        let Some(list) = self.btf().member("kimage", "segment_cma") else { return Ok(false) };
        for index in 0..list.elements.min(256) {
            let at = index.checked_mul(8).and_then(|at| at.checked_add(list.offset));
            let at = at.and_then(|at| image.structure.get().checked_add(at));
            let at = VirtAddr::new(at.ok_or(KernelError::Layout(what))?);
            let mut word = [0; 8];
            let read = self.memory().read_virt(at, &mut word);
            read.map_err(|error| KernelError::Read { what, error })?;
            if word != [0; 8] {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn table_pages(&self, root: PhysAddr, paging: Paging) -> Result<Vec<TablePage>, KernelError> {
        let what = "a page table of the image";
        let mut pages = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut left = vec![(paging.levels.root(), root)];
        while let Some((level, table)) = left.pop() {
            if !seen.insert((level, table)) {
                continue;
            }
            if seen.len() > MOST_TABLES {
                return Err(KernelError::Implausible { what, value: root.get() });
            }
            let mut bytes = Box::new([0; 4096]);
            self.read_phys(table, &mut *bytes)
                .map_err(|error| KernelError::Read { what, error })?;
            for entry in bytes.as_chunks::<8>().0 {
                let entry = Entry::from_bits(u64::from_le_bytes(*entry));
                if let Decoded::Table { level, table } = paging.decode(level, entry) {
                    left.push((level, table));
                }
            }
            pages.insert(table, bytes);
        }
        Ok(pages.into_iter().collect())
    }
}
