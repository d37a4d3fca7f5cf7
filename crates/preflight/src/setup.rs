//! A consumer set up on a machine as a loader would, and the map a producer would make for it.

use core::fmt;

use identmap::{PageSize, PhysAddr, PhysRange, PlanError};
use identmap_audit::MapInput;
use identmap_linux::boot::{
    BOOT_PARAMS_LEN, BootParams, BootParamsError, BzImage, ENTRY_64, EfiHandover, Handover,
    ImageError, Placement, PlacementError, SetupEfi, Strategy,
};
use identmap_linux::{Kind, RequestList, Traits, firmware};
use identmap_machine::{Layout, Machine, MemType, Region, ranges};

use crate::cpu::CpuProfile;
use crate::efi;
use crate::scene::{Content, Limits, Scene, SceneError};
use crate::stage::Stage;

/// The purgatory's stack: a page of its own behind `boot_params`.
const STACK: u64 = 4096;

/// What is to be loaded, and how.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Its memory.
    pub layout: &'a Layout,
    /// The bzImage.
    pub image: &'a [u8],
    /// The command line for it.
    pub cmdline: &'a str,
    /// Bytes of its initrd; the content is never looked at before the hand-over.
    pub initrd_len: u64,
    /// Where things are put.
    pub strategy: Strategy,
    /// The processor.
    pub cpu: CpuProfile,
    /// Content of memory that is known from elsewhere, such as firmware's tables.
    pub known: &'a [Content],
    /// When to give up.
    pub limits: Limits,
}

/// A consumer that is placed, with everything that a loader hands over.
#[derive(Clone, Debug)]
pub struct Loaded<'a> {
    stage: Stage<'a>,
    placement: Placement,
    /// What had to be supposed, in sentences without a full stop.
    pub assumptions: Vec<String>,
}

/// Why a consumer cannot be set up.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The file is no image that can be placed.
    Image(ImageError),
    /// There is no room for a part of it.
    Placement(PlacementError),
    /// `boot_params` cannot be made.
    BootParams(BootParamsError),
    /// The map cannot be planned.
    Plan(PlanError),
    /// The tables cannot be built, or there is no room in RAM for this many.
    Tables(u64),
    /// What is known of memory contradicts itself.
    Scene(SceneError),
    /// The machine is an encrypted guest: its hand-over is another one.
    EncryptedGuest,
    /// The machine booted through EFI, and where its system table lies is not known.
    SystemTable,
    /// The machine booted through EFI, and where its configuration table lies, or how long it is, is not
    /// known.
    ConfigTable,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Image(error) => error.fmt(f),
            SetupError::Placement(error) => error.fmt(f),
            SetupError::BootParams(error) => error.fmt(f),
            SetupError::Plan(error) => error.fmt(f),
            SetupError::Tables(count) => write!(f, "no room in RAM for {count} page tables"),
            SetupError::Scene(error) => error.fmt(f),
            SetupError::EncryptedGuest => {
                f.write_str("an encrypted guest, whose hand-over is not modelled")
            }
            SetupError::ConfigTable => f.write_str(
                "the machine booted through EFI; where its configuration table lies, and how long it is, \
                 is not given",
            ),
            SetupError::SystemTable => f.write_str(
                "the machine booted through EFI; the address of the EFI system table is not given",
            ),
        }
    }
}

impl core::error::Error for SetupError {}

impl<'a> Setup<'a> {
    /// Places image, `boot_params` and initrd, and fills in what the loader tells the consumer.
    ///
    /// # Errors
    /// [`SetupError`], a variant for each thing that can be wrong.
    pub fn load(self) -> Result<Loaded<'a>, SetupError> {
        if self.machine.cpu.encrypted_guest == Some(true) {
            return Err(SetupError::EncryptedGuest);
        }
        let image = BzImage::parse(self.image).map_err(SetupError::Image)?;
        let mut assumptions = Vec::new();
        let known = efi::contents(self.machine, self.known, &mut assumptions);
        let ram: Vec<PhysRange> = self.layout.of_kind(MemType::Usable).collect();
        // What is known to lie in RAM stays where it is.
        let taken =
            ranges::normalise(known.iter().map(|c| c.range.round_out(PageSize::Size4K)).collect());
        let mut free: Vec<PhysRange> = ranges::subtract(&ranges::normalise(ram), &taken);
        let crash = match self.strategy {
            Strategy::Crash(reserved) => Some(Crash::new(&self, reserved, &mut free)?),
            _ => None,
        };
        let cmdline = crash.as_ref().map_or(self.cmdline, |crash| &crash.cmdline);
        let params = BootParams {
            e820: crash.as_ref().map_or(self.layout.regions(), |crash| &crash.map),
            efi: self.efi(&mut assumptions)?,
            rsdp: self.machine.rsdp,
            cmdline,
            initrd: None,
            running: None,
            efi_map: &[],
            rng_seed: None,
        };
        let params_len = params.len().next_multiple_of(4096) + STACK;
        let placement = Placement::find(self.strategy, &free, &image, params_len, self.initrd_len)
            .map_err(SetupError::Placement)?;
        let initrd = placement
            .initrd
            .and_then(|range| PhysRange::from_len(range.start().get(), self.initrd_len).ok());
        let Handover { bytes, .. } = BootParams { initrd, ..params }
            .build(&image, placement.params.start())
            .map_err(SetupError::BootParams)?;
        let segment = |name: &str, range, bytes| Content {
            name: name.to_owned(),
            range,
            bytes,
            loaded: true,
        };
        let mut contents = known;
        contents.push(segment("kernel", placement.kernel, image.protected().to_vec()));
        contents.push(segment("boot_params", placement.params, bytes));
        let Placement { params, kernel, initrd } = placement;
        let header = crash.map(|crash| crash.header);
        let reserved = match self.strategy {
            Strategy::Crash(reserved) => Some(reserved),
            _ => None,
        };
        let stage = Stage {
            machine: self.machine,
            layout: self.layout,
            contents,
            segments: [header, Some(params), Some(kernel), initrd].into_iter().flatten().collect(),
            kind: if reserved.is_some() { Kind::Kdump } else { Kind::Kexec },
            initrd,
            entry: kernel.start().get() + ENTRY_64,
            rsi: params.start().get(),
            rsp: Some(params.end().get()),
            own_tables: Vec::new(),
            reserved,
            cpu: self.cpu,
            limits: self.limits,
        };
        Ok(Loaded { stage, placement, assumptions })
    }

    fn efi(&self, assumptions: &mut Vec<String>) -> Result<Option<EfiHandover>, SetupError> {
        let efi = &self.machine.efi;
        match firmware::efi_booted(self.machine) {
            Some(true) => {}
            Some(false) => return Ok(None),
            None => {
                assumptions.push("the machine booted through BIOS: nothing says EFI".to_owned());
                return Ok(None);
            }
        }
        let system_table = efi.system_table.ok_or(SetupError::SystemTable)?;
        // Without its place and length the tables cannot be handed over, nor put where the kernel looks,
        // unless their bytes are known.
        let held = firmware::system_table(self.machine)
            .is_some_and(|range| self.known.iter().any(|content| content.range.intersects(range)));
        if !held && efi.config_table.and_then(|table| table.entries).is_none() {
            return Err(SetupError::ConfigTable);
        }
        let setup_efi = efi.config_table.map(|table| SetupEfi {
            fw_vendor: efi.fw_vendor.map_or(0, PhysAddr::get),
            tables: table.address.get(),
            smbios: 0,
        });
        Ok(Some(EfiHandover { system_table, memory_map: None, descriptor_len: 48, setup_efi }))
    }
}

/// What a crash kernel gets beside the others: where the ELF header of the dump lies, and a memory map of
/// what it may use (`crash_load_segments()` and `crash_setup_memmap_entries()`, `arch/x86/kernel/crash.c`;
/// `setup_cmdline()`, `arch/x86/kernel/kexec-bzimage64.c`; Linux 6.12). kexec-tools does the same, in `boot_params`
/// and not by `memmap=`, unless it is told otherwise (`--pass-memmap-cmdline`).
struct Crash {
    header: PhysRange,
    cmdline: String,
    map: Vec<Region>,
}

impl Crash {
    /// Takes the header's place from what is free.
    fn new(
        setup: &Setup<'_>,
        reserved: PhysRange,
        free: &mut Vec<PhysRange>,
    ) -> Result<Crash, SetupError> {
        // A program header of 56 bytes for each processor and each range of RAM: 1168 of them. It is
        // not read before the hand-over.
        const HEADER: u64 = 64 << 10;
        const LOW: u64 = 1 << 20;
        let what = "the ELF core header";
        let no_room = || SetupError::Placement(PlacementError { what, bytes: HEADER });
        let mut inside = free.iter().filter_map(|range| range.intersection(reserved));
        let last = inside.next_back().and_then(|range| range.round_in(PageSize::Size4K));
        let end = last.ok_or_else(no_room)?.end().get();
        let start = end.checked_sub(HEADER).ok_or_else(no_room)?;
        let header = PhysRange::from_len(start, HEADER).map_err(|_| no_room())?;
        if !free.iter().any(|range| range.covers(header)) {
            return Err(no_room());
        }
        *free = ranges::subtract(free, &[header]);
        let others = setup.machine.crash_kernels.iter().map(|crash| crash.range);
        let mut usable: Vec<PhysRange> = others.chain([reserved]).collect();
        usable.extend(PhysRange::from_len(0, LOW));
        let usable = ranges::subtract(&ranges::normalise(usable), &[header]);
        let mut map: Vec<Region> = Vec::new();
        for region in setup.layout.regions() {
            match region.kind {
                MemType::Usable => map.extend(
                    usable
                        .iter()
                        .filter_map(|range| region.range.intersection(*range))
                        .map(|range| Region { range, ..*region }),
                ),
                MemType::Reserved | MemType::AcpiData | MemType::AcpiNvs => {
                    map.push(*region);
                }
                _ => {}
            }
        }
        let cmdline = format!("elfcorehdr={start:#x} {}", setup.cmdline);
        Ok(Crash { header, cmdline: cmdline.trim_end().to_owned(), map })
    }
}

impl Loaded<'_> {
    /// Where things were put.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The segments that the producer requests.
    #[must_use]
    pub fn segments(&self) -> Vec<PhysRange> {
        self.stage.segments.clone()
    }

    /// The machine it was set up on.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        self.stage.machine
    }

    /// That machine's memory.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.stage.layout
    }

    /// Memory whose content is known, firmware's and the loader's.
    #[must_use]
    pub fn contents(&self) -> &[Content] {
        &self.stage.contents
    }

    /// What a producer with these traits requests for this image.
    #[must_use]
    pub fn requests(&self, traits: &Traits) -> RequestList {
        self.stage.requests(traits)
    }

    /// The map that a producer with these traits makes, with synthetic entries behind its own requests.
    pub fn with_map<T>(
        &self,
        traits: &Traits,
        gbpages: bool,
        entries: &[PhysRange],
        use_map: impl FnOnce(&MapInput<'_>) -> T,
    ) -> T {
        self.stage.with_map(traits, gbpages, entries, use_map)
    }

    /// The scene under the map that a producer with these traits makes.
    ///
    /// # Errors
    /// As [`scene`](Self::scene).
    pub fn under(&self, traits: &Traits, gbpages: bool) -> Result<Scene, SetupError> {
        self.with_map(traits, gbpages, &[], |map| self.scene(map))
    }

    /// The scene under a map: its tables are built and stand in RAM, where a producer has its own.
    ///
    /// # Errors
    /// [`SetupError::Plan`] if it cannot be planned, [`SetupError::Tables`] if RAM has no room for it.
    pub fn scene(&self, map: &MapInput<'_>) -> Result<Scene, SetupError> {
        self.stage.scene(map)
    }
}

const _: () = assert!(BOOT_PARAMS_LEN == 4096);
