//! An image that is loaded, or about to be: segments with their content, entered at their own entry.

use identmap::{Paging, PhysAddr, PhysRange};
use identmap_audit::MapInput;
use identmap_linux::{Kind, RequestList, TablePage, Traits};
use identmap_machine::{Layout, Machine};

use crate::cpu::CpuProfile;
use crate::guest::CR3_ADDRESS;
use crate::scene::{Content, Limits, Scene};
use crate::setup::SetupError;
use crate::stage::Stage;

/// Segments as they will stand in memory at the jump, from wherever they come: purgatory, kernel,
/// `boot_params`, initrd. Unlike with [`Setup`](crate::Setup) nothing is added to them.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Its memory.
    pub layout: &'a Layout,
    /// The segments; [`Content::loaded`] is taken for true.
    pub contents: &'a [Content],
    /// Where the jump goes: `kimage.start`.
    pub entry: PhysAddr,
    /// Page tables in the segments that the purgatory switches to: to load one of them is no
    /// hand-over yet.
    pub own_tables: &'a [PhysRange],
    /// Loaded for which of the two.
    pub kind: Kind,
    /// The processor.
    pub cpu: CpuProfile,
    /// Content of memory that is known from elsewhere, such as firmware's tables
    /// ([`with_facts`](crate::with_facts)).
    pub known: &'a [Content],
    /// When to give up. A purgatory hashes every byte of the other segments: see
    /// [`Limits::for_purgatory`].
    pub limits: Limits,
}

/// An image's tables as they stand in memory.
#[derive(Clone, Copy, Debug)]
pub struct StandingTables<'a> {
    /// The top table.
    pub root: PhysAddr,
    /// How the processor reads them.
    pub paging: Paging,
    /// All pages of them, by address.
    pub pages: &'a [TablePage],
    /// What RSP holds at the jump ([`identmap_linux::Standing::stack`]).
    pub stack: PhysAddr,
}

impl Segments<'_> {
    /// What a producer with these traits requests for this image.
    #[must_use]
    pub fn requests(&self, traits: &Traits) -> RequestList {
        self.stage().requests(traits)
    }

    /// The map that a producer with these traits makes, with synthetic entries behind its own requests.
    pub fn with_map<T>(
        &self,
        traits: &Traits,
        gbpages: bool,
        entries: &[PhysRange],
        use_map: impl FnOnce(&MapInput<'_>) -> T,
    ) -> T {
        self.stage().with_map(traits, gbpages, entries, use_map)
    }

    /// The scene under the map that a producer with these traits makes.
    ///
    /// # Errors
    /// As [`scene`](Self::scene).
    pub fn under(&self, traits: &Traits, gbpages: bool) -> Result<Scene, SetupError> {
        self.with_map(traits, gbpages, &[], |map| self.scene(map))
    }

    /// The scene under a map: its tables and a control page for the stack stand in RAM, where a producer
    /// has its own.
    ///
    /// # Errors
    /// [`SetupError::Plan`] if it cannot be planned, [`SetupError::Tables`] if RAM has no room for it,
    /// [`SetupError::EncryptedGuest`] on such a machine.
    pub fn scene(&self, map: &MapInput<'_>) -> Result<Scene, SetupError> {
        self.not_encrypted()?;
        self.stage().scene(map)
    }

    /// The scene under tables that exist already.
    ///
    /// # Errors
    /// [`SetupError::Tables`] if a page of them or the stack lies where no memory can be,
    /// [`SetupError::EncryptedGuest`] on such a machine.
    pub fn on(&self, tables: &StandingTables<'_>) -> Result<Scene, SetupError> {
        self.not_encrypted()?;
        self.stage().on(tables.root, tables.paging, tables.pages, tables.stack)
    }

    /// The segment that a root table was loaded with, if the one in CR3 was: a purgatory's, which maps the way to the
    /// consumer, and not one that the consumer has made. `cr3` is what [`Outcome::Reached`](crate::Outcome::Reached)
    /// has; the run has to be made again with this range among `own_tables`, or what lies behind the switch
    /// is not looked at.
    ///
    /// A consumer that comes with a root of its own in its file is not told from a purgatory's: its run ends as
    /// unknown, not as reached.
    #[must_use]
    pub fn loaded_tables(&self, cr3: u64, paging: &Paging) -> Option<PhysRange> {
        let root = PhysAddr::new(cr3 & CR3_ADDRESS & !paging.encryption_mask)?;
        let content = self.contents.iter().find(|content| content.range.contains(root))?;
        let at = usize::try_from(root.get() - content.range.start().get()).ok()?;
        let table = content.bytes.get(at..)?;
        let table = &table[..table.len().min(4096)];
        table.iter().any(|&byte| byte != 0).then_some(content.range)
    }

    fn not_encrypted(&self) -> Result<(), SetupError> {
        match self.machine.cpu.encrypted_guest {
            Some(true) => Err(SetupError::EncryptedGuest),
            Some(false) | None => Ok(()),
        }
    }

    fn stage(&self) -> Stage<'_> {
        let mut contents: Vec<Content> = self
            .contents
            .iter()
            .map(|content| Content { loaded: true, ..content.clone() })
            .collect();
        let segments: Vec<PhysRange> = contents.iter().map(|content| content.range).collect();
        let apart = |content: &&Content| !segments.iter().any(|s| s.intersects(content.range));
        contents.extend(self.known.iter().filter(apart).cloned());
        let mut reserved = self.machine.crash_kernels.iter().map(|crash| crash.range);
        let reserved = reserved.find(|range| range.contains(self.entry));
        Stage {
            machine: self.machine,
            layout: self.layout,
            contents,
            segments,
            kind: self.kind,
            initrd: None,
            entry: self.entry.get(),
            rsi: 0,
            rsp: None,
            own_tables: self.own_tables.to_vec(),
            reserved: reserved.filter(|_| self.kind == Kind::Kdump),
            cpu: self.cpu,
            limits: self.limits,
        }
    }
}
