//! The machine of all scenarios: its memory map, firmware's tables, and what is loaded.

use std::collections::BTreeMap;

use identmap::{Config, Image, Level, Levels, PageSize, PhysAddr, PhysRange, VirtAddr, walk};
use identmap_audit::{MapInput, PolicyKind, SlackKind};
use identmap_lab::guest::Failure;
use identmap_lab::initramfs::Initramfs;
use identmap_linux::boot::{BzImage, Placement, Strategy};
use identmap_machine::{
    ConfigTable, Layout, Machine, MapEntry, MapOrigin, MemMap, MemType, ranges,
};
use identmap_preflight::{CR0_KEXEC, Content, CpuProfile, Limits, Scene, Setup};

use crate::qemu::{Blob, HIGH_MIB, LOW_MIB};
use crate::rom;

/// The page with the last steps before the consumer: a control page and a purgatory in one. Always mapped.
pub const LAST_STEPS: u64 = 0x1000_0000;
/// The EFI system table.
pub const SYSTEM_TABLE: u64 = 0x1f01_0018;
/// The EFI configuration table, in another 2 MiB frame.
pub const CONFIG_TABLE: u64 = 0x1e41_0018;
/// The EFI memory map.
pub const EFI_MEMORY_MAP: u64 = 0x1f08_0000;
/// RSDP, XSDT and a table.
pub const ACPI: u64 = 0x1e80_0000;
/// Pages of RAM and firmware that every scenario has, in e820's types.
const MAP: [(u64, u64, MemType); 10] = [
    (0, 0x9_fc00, MemType::Usable),
    (0x9_fc00, 0xa_0000, MemType::Reserved),
    (0xf_0000, 0x10_0000, MemType::Reserved),
    (0x10_0000, 0x1e40_0000, MemType::Usable),
    (0x1e40_0000, 0x1e50_0000, MemType::Reserved),
    (0x1e50_0000, ACPI, MemType::Usable),
    (ACPI, 0x1e81_0000, MemType::AcpiData),
    (0x1e81_0000, 0x1f00_0000, MemType::Usable),
    (0x1f00_0000, 0x1f10_0000, MemType::Reserved),
    (0x1f10_0000, LOW_MIB << 20, MemType::Usable),
];
/// What a whole map maps: RAM and the hole below 4 GiB, in whole GiB.
const WHOLE: u64 = 5 << 30;
const CONFIG_ENTRIES: u64 = 13;

/// A consumer, loaded.
#[derive(Clone, Debug)]
pub struct World {
    /// Without tables.
    machine: Machine,
    layout: Layout,
    image: Vec<u8>,
    initrd: Vec<u8>,
    /// What decides it.
    pub terms: Terms,
    /// What lies where.
    pub placement: Placement,
    /// Bytes of the kernel that come from the file.
    pub kernel_file: u64,
}

/// What decides how a consumer is loaded and entered.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where things are put.
    pub strategy: Strategy,
    /// The consumer's command line, as far as it matters here.
    pub cmdline: String,
    /// EFI is handed over.
    pub efi: bool,
    /// Further entries of e820, so that some are in `setup_data`.
    pub many_regions: bool,
    /// The processor.
    pub profile: CpuProfile,
    /// Levels of the tables that it is entered with.
    pub levels: Levels,
}

/// Tables as asked for.
#[derive(Clone, Debug)]
pub struct Tables {
    /// What is mapped.
    pub base: Base,
    /// 1 GiB leaves where they fit.
    pub gbpages: bool,
    /// What is not, of that.
    pub holes: Vec<PhysRange>,
    /// Changes of entries, once the tables are built.
    pub edits: Vec<Edit>,
}

/// What a map is made of before holes are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// Everything below 5 GiB.
    Whole,
    /// Only what is loaded, to the page.
    Loaded,
    /// Only what is loaded, in 2 MiB leaves.
    Loaded2M,
}

/// A change of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Of the way to this address.
    pub at: u64,
    /// The entry at this level; the leaf without one.
    pub level: Option<Level>,
    /// Bits set.
    pub set: u64,
    /// Bits cleared.
    pub clear: u64,
}

impl World {
    /// Loads a consumer.
    ///
    /// # Errors
    /// What keeps it from being loaded.
    pub fn load(image: &[u8], terms: Terms) -> Result<World, Failure> {
        let machine = machine(terms.efi, terms.many_regions);
        let layout = Layout::of(&machine).ok_or("no memory map")?;
        let mut archive = Initramfs::new();
        archive.dir("dev");
        archive.char_device("dev/console", 5, 1);
        archive.file("init", &rom::init());
        let initrd = archive.finish();
        let kernel_file = BzImage::parse(image)?.protected().len() as u64;
        let mut world = World {
            machine,
            layout,
            image: image.to_vec(),
            initrd,
            terms,
            // Found below.
            placement: Placement { params: page(0), kernel: page(0), initrd: None },
            kernel_file,
        };
        world.placement = world.with_loaded(|loaded| Ok(loaded.placement()))?;
        Ok(world)
    }

    /// The scene under these tables, as the preflight gets it.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub fn scene(&self, tables: &Tables) -> Result<Scene, Failure> {
        let mut requests = match tables.base {
            Base::Whole => vec![range(0, WHOLE)],
            Base::Loaded | Base::Loaded2M => {
                let Placement { params, kernel, initrd } = self.placement;
                let mut requests = vec![page(LAST_STEPS), params, kernel];
                requests.extend(initrd);
                requests
            }
        };
        let holes = ranges::normalise(tables.holes.clone());
        requests = ranges::subtract(&ranges::normalise(requests), &holes);
        let exact = tables.base == Base::Loaded2M;
        let mut config = Config::kexec(self.terms.levels, tables.gbpages);
        config.maxphyaddr = self.terms.profile.maxphyaddr.unwrap_or(config.maxphyaddr);
        let everything = range(0, 1 << config.maxphyaddr.min(46));
        // A request to the page: everything else is forbidden.
        let forbidden = match tables.base {
            Base::Whole | Base::Loaded2M => holes,
            Base::Loaded => ranges::subtract(&[everything], &requests),
        };
        let map = MapInput {
            config,
            policy: if exact { PolicyKind::Exact } else { PolicyKind::Guarded },
            uv: false,
            requests: &requests,
            forbidden: if exact { &[] } else { &forbidden },
            slack: SlackKind::None,
            ram: &[],
        };
        let mut scene = self.with_loaded(|loaded| Ok(loaded.scene(&map)?))?;
        for edit in &tables.edits {
            apply(&mut scene, edit)?;
        }
        if self.terms.efi {
            self.efi_memory_map(&mut scene);
        }
        Ok(scene)
    }

    /// What QEMU gets, so that its memory is the scene's; and the ROM.
    #[must_use]
    pub fn blobs(&self, scene: &Scene) -> (Vec<Blob>, Vec<u8>) {
        let trim = |bytes: &[u8]| {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes[..used].to_vec()
        };
        let mut blobs: Vec<Blob> = scene
            .contents
            .iter()
            .map(|content| Blob { at: content.range.start().get(), bytes: trim(&content.bytes) })
            .filter(|blob| !blob.bytes.is_empty())
            .collect();
        if let Some(initrd) = self.placement.initrd {
            blobs.push(Blob { at: initrd.start().get(), bytes: self.initrd.clone() });
        }
        let entry = rom::Entry {
            cr0: scene.cr0,
            cr3: scene.root.get(),
            rsp: scene.rsp,
            rsi: scene.rsi,
            rip: scene.entry,
        };
        blobs.push(Blob { at: LAST_STEPS, bytes: rom::last_steps(entry) });
        (blobs, rom::rom(self.terms.levels, LAST_STEPS))
    }

    /// Bytes of the kernel's file part.
    ///
    /// # Errors
    /// Never: it has been read before.
    pub fn protected(&self) -> Result<&[u8], Failure> {
        Ok(BzImage::parse(&self.image)?.protected())
    }

    fn with_loaded<T>(
        &self,
        use_it: impl FnOnce(&identmap_preflight::Loaded<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let known = self.known();
        let setup = Setup {
            machine: &self.machine,
            layout: &self.layout,
            image: &self.image,
            cmdline: &self.terms.cmdline,
            initrd_len: self.initrd.len() as u64,
            strategy: self.terms.strategy,
            cpu: self.terms.profile,
            known: &known,
            limits: Limits::default(),
        };
        use_it(&setup.load()?)
    }

    /// Memory that firmware would have left.
    fn known(&self) -> Vec<Content> {
        let mut known = vec![
            content("BIOS data area", 0x400, bios_data_area()),
            content("ACPI tables", ACPI, acpi()),
            // Taken by the scenario's last steps: nothing may be placed there.
            content("last steps", LAST_STEPS, Vec::new()),
        ];
        if self.terms.efi {
            known.push(content("EFI system table", SYSTEM_TABLE, system_table()));
            known.push(content("EFI configuration table", CONFIG_TABLE, config_table()));
            known.push(content("EFI memory map", EFI_MEMORY_MAP, memory_map()));
        }
        known
    }

    /// A loader passes the memory map on too; without one the kernel does without EFI.
    fn efi_memory_map(&self, scene: &mut Scene) {
        let params = self.placement.params.start();
        let Some(params) = scene.contents.iter_mut().find(|c| c.range.start() == params) else {
            return;
        };
        // boot_params.efi_info: efi_memmap, efi_memmap_size, efi_memdesc_size.
        let mut put = |at: usize, value: u32| {
            params.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(0x1d0, EFI_MEMORY_MAP as u32);
        put(0x1d4, memory_map().len() as u32);
        put(0x1c8, DESCRIPTOR as u32);
    }
}

/// A range of constants and of sums of them.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).expect("a range of this file's")
}

/// The page around an address.
#[must_use]
pub fn page(addr: u64) -> PhysRange {
    range(addr & !0xfff, (addr & !0xfff) + 0x1000)
}

/// The physical pages of the tables on the way to an address, by level.
///
/// # Errors
/// When the scene has no tables.
pub fn way(scene: &Scene, virt: u64) -> Result<BTreeMap<Level, PhysAddr>, Failure> {
    let tables = scene.contents.iter().find(|c| c.name == "page tables").ok_or("no tables")?;
    let image = Image::new(&tables.bytes, tables.range.start());
    let walk = walk(&image, scene.root, &scene.paging, VirtAddr::new(virt));
    Ok(walk.steps().map(|step| (step.level, step.table)).collect())
}

fn apply(scene: &mut Scene, edit: &Edit) -> Result<(), Failure> {
    let tables = scene.contents.iter_mut().find(|c| c.name == "page tables").ok_or("no tables")?;
    let image = Image::new(&tables.bytes, tables.range.start());
    let walked = walk(&image, scene.root, &scene.paging, VirtAddr::new(edit.at));
    let step = walked.steps().filter(|step| edit.level.is_none_or(|l| l == step.level)).last();
    let step = step.ok_or_else(|| format!("no entry to edit for {edit:x?}"))?;
    let at = (step.table.get() - tables.range.start().get()) as usize + step.index * 8;
    let bits = step.entry.bits() & !edit.clear | edit.set;
    tables.bytes[at..at + 8].copy_from_slice(&bits.to_le_bytes());
    Ok(())
}

fn machine(efi: bool, many_regions: bool) -> Machine {
    let mut machine = Machine { source: "truth".to_owned(), ..Machine::default() };
    let mut regions = MAP.to_vec();
    regions.push((1 << 32, (1 << 32) + (HIGH_MIB << 20), MemType::Usable));
    if many_regions {
        // Holes for devices far above RAM: reserved, and apart, so that none are merged.
        regions.extend((0..330_u64).map(|i| {
            let start = (1 << 38) + i * 0x20_0000;
            (start, start + 0x1000, MemType::Reserved)
        }));
    }
    let entries = regions
        .into_iter()
        .map(|(start, end, kind)| MapEntry { start, last: end - 1, kind, line: 0 })
        .collect();
    machine.maps.push(MemMap { origin: MapOrigin::BiosE820, entries });
    machine.rsdp = PhysAddr::new(ACPI);
    machine.efi.booted = Some(efi);
    if efi {
        machine.efi.is_64bit = Some(true);
        machine.efi.system_table = PhysAddr::new(SYSTEM_TABLE);
        machine.efi.config_table = PhysAddr::new(CONFIG_TABLE)
            .map(|address| ConfigTable { address, entries: Some(CONFIG_ENTRIES) });
    }
    machine
}

fn content(name: &str, start: u64, bytes: Vec<u8>) -> Content {
    let end = (start + bytes.len().max(1) as u64).next_multiple_of(8);
    let end = if bytes.is_empty() { start + PageSize::Size4K.bytes() } else { end };
    Content { name: name.to_owned(), range: range(start, end), bytes, loaded: false }
}

/// The segment of the extended BIOS data area at 0x40e, KiB of low memory at 0x413.
fn bios_data_area() -> Vec<u8> {
    let mut bytes = vec![0; 0x100];
    bytes[0x0e..0x10].copy_from_slice(&0x9fc0_u16.to_le_bytes());
    bytes[0x13..0x15].copy_from_slice(&639_u16.to_le_bytes());
    bytes
}

/// `efi_system_table_64_t` (UEFI 2.10, 4.3), without services.
fn system_table() -> Vec<u8> {
    let mut bytes = vec![0; 120];
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(0, 0x5453_5953_2049_4249);
    put(8, 0x78 << 32 | 0x0002_0046);
    put(104, CONFIG_ENTRIES);
    put(112, CONFIG_TABLE);
    bytes
}

/// GUIDs that nobody knows; the kernel looks at each.
fn config_table() -> Vec<u8> {
    (0..CONFIG_ENTRIES as u8)
        .flat_map(|i| {
            let mut entry = vec![0xa0 | i; 16];
            entry.extend((SYSTEM_TABLE + 0x1000 * u64::from(i)).to_le_bytes());
            entry
        })
        .collect()
}

const DESCRIPTOR: usize = 48;

/// `efi_memory_desc_t` (UEFI 2.10, 7.2.3), 48 bytes apart as firmware has them.
fn memory_map() -> Vec<u8> {
    let high = (1_u64 << 32, (1 << 32) + (HIGH_MIB << 20), MemType::Usable);
    let mut bytes = Vec::new();
    for (start, end, kind) in MAP.into_iter().chain([high]) {
        let (start, end) = (start & !0xfff, end & !0xfff);
        if end <= start || kind == MemType::Reserved && start < 0x10_0000 {
            continue;
        }
        // Conventional memory, ACPI reclaim, runtime data with the attribute RUNTIME.
        let (kind, attributes) = match kind {
            MemType::Usable => (7_u64, 0xf),
            MemType::AcpiData => (9, 0xf),
            _ => (6, 0x8000_0000_0000_000f),
        };
        for word in [kind, start, 0, (end - start) >> 12, attributes, 0] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

/// RSDP, XSDT with one entry, a table of no meaning (ACPI 6.5, 5.2.5 to 5.2.8).
fn acpi() -> Vec<u8> {
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    let mut rsdp = b"RSD PTR \0LAB   \x02".to_vec();
    rsdp.resize(20, 0);
    rsdp.extend(36_u32.to_le_bytes());
    rsdp.extend((ACPI + 0x100).to_le_bytes());
    rsdp.resize(36, 0);
    rsdp[8] = sum(&rsdp[..20]);
    rsdp[32] = sum(&rsdp);
    let table = |signature: &[u8; 4], body: &[u8]| {
        let mut table = signature.to_vec();
        table.extend((36 + body.len() as u32).to_le_bytes());
        table.extend(b"\x01\0LAB   LABTABLE");
        table.resize(36, 0);
        table.extend(body);
        table[9] = sum(&table);
        table
    };
    let mut bytes = rsdp;
    bytes.resize(0x100, 0);
    bytes.extend(table(b"XSDT", &(ACPI + 0x8000).to_le_bytes()));
    bytes.resize(0x8000, 0);
    bytes.extend(table(b"OEM1", &[0; 28]));
    bytes
}

/// Where a preflight's scene is the same but for what counts as loaded: every page of the kernel that is
/// touched gets listed then.
#[must_use]
pub fn listing_kernel(scene: &Scene) -> Scene {
    let mut scene = scene.clone();
    for content in &mut scene.contents {
        content.loaded &= content.name != "kernel";
    }
    debug_assert_eq!(scene.cr0, CR0_KEXEC);
    scene
}
