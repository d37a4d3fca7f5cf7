//! Guest memory: pages on demand, and which of their bytes are known.

use std::collections::HashMap;

use identmap::{Entry, PageSize, PhysAddr, PhysRange, TableRead, Unreadable};

use crate::engine::Frames;
use crate::scene::Content;

const PAGE: u64 = 4096;

/// Physical memory of any height, folded into a limited number of frames: a page gets one
/// when it is first touched, filled from the contents.
pub(crate) struct Memory<'a> {
    /// Sorted, disjoint.
    contents: Vec<&'a Content>,
    frames: Frames,
    pages: HashMap<u64, Page>,
    /// The page in each frame given out.
    owners: Vec<u64>,
}

/// A page that has a frame.
pub(crate) struct Page {
    /// Its frame.
    pub(crate) frame: u32,
    /// One bit a byte; `None` while all of it is known.
    known: Option<Box<[u64; 64]>>,
    /// Instructions were fetched from it.
    pub(crate) executed: bool,
}

impl Page {
    /// Whether every access has to be looked at, because not every byte is known.
    pub(crate) fn is_tracked(&self) -> bool {
        self.known.is_some()
    }

    fn knows(&self, at: usize) -> bool {
        self.known.as_ref().is_none_or(|bits| bits[at / 64] >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: usize, known: bool) {
        if let (None, false) = (&self.known, known) {
            self.known = Some(Box::new([u64::MAX; 64]));
        }
        if let Some(bits) = &mut self.known {
            let bit = 1 << (at % 64);
            bits[at / 64] = if known { bits[at / 64] | bit } else { bits[at / 64] & !bit };
        }
    }
}

/// There are no more frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

impl<'a> Memory<'a> {
    pub(crate) fn new(contents: &'a [Content], limit: u64) -> Option<Memory<'a>> {
        let mut contents: Vec<&Content> = contents.iter().collect();
        contents.sort_by_key(|content| content.range.start());
        let frames = Frames::new(usize::try_from(limit / PAGE).ok()?)?;
        Some(Memory { contents, frames, pages: HashMap::new(), owners: Vec::new() })
    }

    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }

    /// The content that `addr` lies in.
    pub(crate) fn content(&self, addr: PhysAddr) -> Option<&'a Content> {
        let index = self.contents.partition_point(|content| content.range.end() <= addr);
        self.contents.get(index).copied().filter(|content| content.range.contains(addr))
    }

    /// The page at `addr`, with a frame.
    pub(crate) fn page(&mut self, addr: PhysAddr) -> Result<&mut Page, Full> {
        let number = addr.get() / PAGE;
        if !self.pages.contains_key(&number) {
            let frame = self.owners.len();
            if frame >= self.frames.count() {
                return Err(Full);
            }
            let mut bytes = [0; PAGE as usize];
            let known = self.fill(number, &mut bytes);
            self.frames.write(frame as u64 * PAGE, &bytes);
            self.owners.push(number);
            self.pages.insert(number, Page { frame: frame as u32, known, executed: false });
        }
        self.pages.get_mut(&number).ok_or(Full)
    }

    /// Whether instructions were fetched from the page at `addr`.
    pub(crate) fn is_executed(&self, addr: PhysAddr) -> bool {
        self.pages.get(&(addr.get() / PAGE)).is_some_and(|page| page.executed)
    }

    /// The page in a frame, its first address with it.
    pub(crate) fn owner(&mut self, frame: u32) -> Option<(PhysAddr, &mut Page)> {
        let number = *self.owners.get(frame as usize)?;
        Some((PhysAddr::new(number * PAGE)?, self.pages.get_mut(&number)?))
    }

    /// Copies what the contents say of a page; the bits of the bytes they cover, unless all.
    fn fill(&self, number: u64, bytes: &mut [u8; PAGE as usize]) -> Option<Box<[u64; 64]>> {
        let page = PhysRange::from_len(number * PAGE, PAGE).ok()?;
        let mut known = Box::new([0_u64; 64]);
        let mut covered = 0;
        let first = self.contents.partition_point(|content| content.range.end() <= page.start());
        for content in &self.contents[first..] {
            let Some(part) = content.range.intersection(page) else { break };
            let at = (part.start().get() - page.start().get()) as usize;
            let len = part.len() as usize;
            let from = (part.start().get() - content.range.start().get()) as usize;
            let given = content.bytes.get(from..).unwrap_or(&[]);
            let given = &given[..given.len().min(len)];
            bytes[at..at + given.len()].copy_from_slice(given);
            // Nearly every page is of one content: no need to count its bytes.
            if part == page {
                return None;
            }
            for byte in at..at + len {
                known[byte / 64] |= 1 << (byte % 64);
            }
            covered += part.len();
        }
        (covered != PAGE).then_some(known)
    }

    /// Reads bytes that do not cross a page; `None` if one of them is not known.
    pub(crate) fn read<const N: usize>(&self, addr: PhysAddr) -> Option<[u8; N]> {
        let (number, at) = (addr.get() / PAGE, (addr.get() % PAGE) as usize);
        if at + N > PAGE as usize {
            return None;
        }
        let mut bytes = [0; N];
        if let Some(page) = self.pages.get(&number) {
            if (at..at + N).any(|at| !page.knows(at)) {
                return None;
            }
            self.frames.read(u64::from(page.frame) * PAGE + at as u64, &mut bytes);
            return Some(bytes);
        }
        let content = self.content(addr)?;
        if !content.range.contains(addr.checked_add(N as u64 - 1)?) {
            // Two contents may meet here: rare enough to be slow.
            for (i, byte) in bytes.iter_mut().enumerate() {
                let addr = addr.checked_add(i as u64)?;
                *byte = given(self.content(addr)?, addr);
            }
            return Some(bytes);
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = given(content, addr.checked_add(i as u64)?);
        }
        Some(bytes)
    }

    /// Reads bytes of a frame, as many as `bytes` holds; whether all are known.
    pub(crate) fn read_frame(&mut self, frame: u32, at: usize, bytes: &mut [u8]) -> Vec<bool> {
        self.frames.read(u64::from(frame) * PAGE + at as u64, bytes);
        let Some((_, page)) = self.owner(frame) else { return vec![false; bytes.len()] };
        (at..at + bytes.len()).map(|at| at < PAGE as usize && page.knows(at)).collect()
    }

    /// Writes a byte into a frame, and says whether it is known from now on.
    pub(crate) fn write_frame(&mut self, frame: u32, at: usize, byte: u8, known: bool) {
        if at >= PAGE as usize {
            return;
        }
        self.frames.write(u64::from(frame) * PAGE + at as u64, &[byte]);
        if let Some((_, page)) = self.owner(frame) {
            page.set(at, known);
        }
    }

    /// Makes an ordinary page of one whose bytes are all known by now; whether it is one.
    pub(crate) fn settle(&mut self, addr: PhysAddr) -> bool {
        let Ok(page) = self.page(addr) else { return false };
        if page.known.as_ref().is_some_and(|bits| bits.iter().all(|&word| word == u64::MAX)) {
            page.known = None;
        }
        page.known.is_none()
    }

    /// Tracks a page from now on, though all of it is known; whether it was not tracked before.
    pub(crate) fn track(&mut self, addr: PhysAddr) -> Result<bool, Full> {
        let page = self.page(addr)?;
        let new = page.known.is_none();
        page.known.get_or_insert_with(|| Box::new([u64::MAX; 64]));
        Ok(new)
    }
}

fn given(content: &Content, addr: PhysAddr) -> u8 {
    let at = (addr.get() - content.range.start().get()) as usize;
    content.bytes.get(at).copied().unwrap_or(0)
}

impl TableRead for Memory<'_> {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, Unreadable> {
        let unreadable = Unreadable { table };
        let aligned = table.is_aligned(PageSize::Size4K) && index < 512;
        let at = table.checked_add(index as u64 * 8).filter(|_| aligned).ok_or(unreadable)?;
        let bytes = self.read::<8>(at).ok_or(unreadable)?;
        Ok(Entry::from_bits(u64::from_le_bytes(bytes)))
    }
}
