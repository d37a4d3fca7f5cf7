//! Everything that stands in memory at the jump, and the map under which it is run.

use identmap::{Arena, PageSize, PhysAddr, PhysRange, Table};
use identmap_audit::{MapInput, SlackKind};
use identmap_linux::{Kind, RequestList, TablePage, Traits, firmware, requests};
use identmap_machine::{Layout, Machine, MemType, Segment, ranges};

use crate::cpu::CpuProfile;
use crate::efi;
use crate::scene::{CR0_KEXEC, Content, Limits, Scene};
use crate::setup::SetupError;

const PAGE: u64 = 4096;

/// What a scene is made of, besides the map.
#[derive(Clone, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) layout: &'a Layout,
    pub(crate) contents: Vec<Content>,
    /// As the producer knows them.
    pub(crate) segments: Vec<PhysRange>,
    pub(crate) kind: Kind,
    /// Segments without content here.
    pub(crate) initrd: Option<PhysRange>,
    pub(crate) entry: u64,
    pub(crate) rsi: u64,
    /// `None`: the control page's, as `relocate_kernel` leaves it.
    pub(crate) rsp: Option<u64>,
    /// Tables in segments, which are not the consumer's own.
    pub(crate) own_tables: Vec<PhysRange>,
    /// Where the producer's own pages lie; `None`: anywhere in RAM. A crash image has all in its reservation
    /// (`kimage_alloc_crash_control_pages()`, `kernel/kexec_core.c`).
    pub(crate) reserved: Option<PhysRange>,
    pub(crate) cpu: CpuProfile,
    pub(crate) limits: Limits,
}

impl Stage<'_> {
    pub(crate) fn requests(&self, traits: &Traits) -> RequestList {
        let mut machine = self.machine.clone();
        machine.segments = self.segments.iter().map(|&range| Segment { range }).collect();
        requests(&machine, Some(self.layout), traits, self.kind)
    }

    pub(crate) fn with_map<T>(
        &self,
        traits: &Traits,
        gbpages: bool,
        entries: &[PhysRange],
        use_map: impl FnOnce(&MapInput<'_>) -> T,
    ) -> T {
        let mut list = self.requests(traits);
        list.add_synthetic(entries);
        use_map(&MapInput {
            config: traits.config(self.machine, gbpages && self.cpu.pdpe1gb == Some(true)),
            policy: traits.policy.into(),
            uv: false,
            requests: &list.ranges(),
            forbidden: &[],
            slack: SlackKind::None,
            ram: &[],
        })
    }

    pub(crate) fn scene(&self, map: &MapInput<'_>) -> Result<Scene, SetupError> {
        let built = map.with_plan(|plan| {
            let count = plan.tables().total();
            let place = self.room(count)?;
            let mut tables = vec![Table::EMPTY; usize::try_from(count).ok()?];
            let mut arena = Arena::new(&mut tables, place.start()).ok()?;
            let root = plan.build(&mut arena).ok()?.root;
            let bytes = tables.iter().flat_map(|t| t.0).flat_map(u64::to_le_bytes).collect();
            let name = "page tables".to_owned();
            Some((root, Content { name, range: place, bytes, loaded: false }))
        });
        let count = map.with_plan(|plan| plan.tables().total());
        let tables = built.map_err(SetupError::Plan)?;
        let (root, tables) = tables.ok_or(SetupError::Tables(count.unwrap_or(0)))?;
        let mut stage = self.clone();
        stage.contents.push(tables);
        let stack = match stage.rsp {
            Some(_) => None,
            // A control page of the producer's: its last word is left on the stack.
            None => Some(stage.room(1).ok_or(SetupError::Tables(1))?.end().get() - 8),
        };
        let tables = stage.contents.last().map(|content| content.range).into_iter().collect();
        stage.finish(root, map.config.paging(), tables, stack)
    }

    /// Under tables as they stand. `stack`: see [`identmap_linux::Standing::stack`].
    pub(crate) fn on(
        &self,
        root: PhysAddr,
        paging: identmap::Paging,
        pages: &[TablePage],
        stack: PhysAddr,
    ) -> Result<Scene, SetupError> {
        let mut stage = self.clone();
        let mut tables: Vec<Content> = Vec::new();
        for (at, page) in pages {
            match tables.last_mut() {
                Some(last) if last.range.end() == *at => {
                    let whole =
                        PhysRange::from_len(last.range.start().get(), last.range.len() + PAGE);
                    last.range = whole.map_err(|_| SetupError::Tables(pages.len() as u64))?;
                    last.bytes.extend_from_slice(&**page);
                }
                _ => tables.push(Content {
                    name: "page tables".to_owned(),
                    range: PhysRange::from_len(at.get(), PAGE)
                        .map_err(|_| SetupError::Tables(pages.len() as u64))?,
                    bytes: page.to_vec(),
                    loaded: false,
                }),
            }
        }
        let ranges = tables.iter().map(|content| content.range).collect();
        stage.contents.extend(tables);
        stage.finish(root, paging, ranges, Some(stack.get()))
    }

    fn finish(
        mut self,
        root: PhysAddr,
        mut paging: identmap::Paging,
        mut tables: Vec<PhysRange>,
        stack: Option<u64>,
    ) -> Result<Scene, SetupError> {
        paging.pdpe1gb = self.cpu.pdpe1gb == Some(true);
        if let (None, Some(at)) = (self.rsp, stack) {
            let range = PhysRange::from_len(at, 8).map_err(|_| SetupError::Tables(1))?;
            let name = "the control page's stack".to_owned();
            self.contents.push(Content { name, range, bytes: Vec::new(), loaded: false });
        }
        tables.extend(&self.own_tables);
        let places = self.places();
        Ok(Scene {
            rsp: self.rsp.or(stack).unwrap_or(0),
            contents: self.contents,
            entry: self.entry,
            rsi: self.rsi,
            root,
            tables,
            paging,
            cr0: CR0_KEXEC,
            cpu: self.cpu,
            limits: self.limits,
            places,
        })
    }

    /// Whole pages of RAM that nothing uses, from the top down, where kexec's control pages lie too.
    fn room(&self, pages: u64) -> Option<PhysRange> {
        let len = pages.checked_mul(PAGE).filter(|&len| len != 0)?;
        let used = self.contents.iter().map(|c| c.range).chain(self.initrd);
        let used = ranges::normalise(used.map(|r| r.round_out(PageSize::Size4K)).collect());
        let ram = self.layout.of_kind(MemType::Usable);
        let ram = ram.filter_map(|range| match self.reserved {
            Some(reserved) => range.intersection(reserved),
            None => Some(range),
        });
        let free = ranges::subtract(&ranges::normalise(ram.collect()), &used);
        free.iter().rev().find_map(|range| {
            let range = range.round_in(PageSize::Size4K)?;
            let start = range.end().get().checked_sub(len)?;
            (start >= range.start().get()).then(|| PhysRange::from_len(start, len).ok())?
        })
    }

    fn places(&self) -> Vec<(PhysRange, String)> {
        let regions = self.layout.regions().iter();
        let mut places: Vec<(PhysRange, String)> =
            regions.map(|region| (region.range, region.kind.to_string())).collect();
        let system_table = firmware::system_table(self.machine);
        places.extend(system_table.map(|r| (r, efi::SYSTEM_TABLE.to_owned())));
        places.extend(efi::config_table(self.machine).map(|r| (r, efi::CONFIG_TABLE.to_owned())));
        places.extend(self.initrd.map(|range| (range, "initrd".to_owned())));
        places
    }
}
