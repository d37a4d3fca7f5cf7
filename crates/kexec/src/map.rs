//! The map that the purgatory switches to.

use identmap::{Arena, Config, Levels, PageSize, PhysAddr, PhysRange, PlanError, Table};
use identmap_audit::{Coverage, MapInput, PolicyKind, SlackKind, forbidden, is_uv};
use identmap_linux::needs::{Consumer, Place, SEGMENTS, needs};
use identmap_linux::{Kind, firmware};
use identmap_machine::{ConfigTable, Layout, Machine, MemType, hazards, ranges};

/// The text screen, which the purgatory writes its complaint to.
const VGA: (u64, u64) = (0xb8000, 0xc0000);
/// More than any firmware's EFI configuration table has, in bytes: 2730 entries.
const CONFIG_TABLE_MOST: u64 = 64 << 10;
/// Low memory: the switch between 4 and 5 levels works there, and looks at the BIOS data area.
const LOW: (u64, u64) = (0, 0xa0000);

/// What the map shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapChoice {
    /// The rule that picks the leaves.
    pub policy: PolicyKind,
    /// How far `guarded` may reach.
    pub slack: SlackKind,
    /// Synthetic entries: mapped as if the machine had described them.
    pub extra: Vec<PhysRange>,
    /// Never mapped; a request that meets one is an error.
    pub forbid: Vec<PhysRange>,
    /// Levels, where they are not to be as the machine says.
    pub levels: Option<Levels>,
    /// Whether 1G leaves may be used, where that is not to be as the machine says.
    pub gbpages: Option<bool>,
}

impl Default for MapChoice {
    fn default() -> MapChoice {
        MapChoice {
            policy: PolicyKind::Guarded,
            slack: SlackKind::Ram,
            extra: Vec::new(),
            forbid: Vec::new(),
            levels: None,
            gbpages: None,
        }
    }
}

/// Why no map can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MapError {
    /// It cannot be planned.
    Plan(PlanError),
    /// Whether the running kernel uses 5 levels is not known, and the processor has them, or may have them.
    Levels,
    /// Other levels are asked for than the running kernel uses: `relocate_kernel` does not change them.
    OtherLevels,
    /// An encrypted guest, and the place of the C-bit is not known.
    EncryptionBit,
    /// The tables cannot be written, which no input should bring about.
    Build(String),
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MapError::Plan(error) => write!(f, "the map: {error}"),
            MapError::Levels => f.write_str(
                "the processor has 5-level paging, or nothing tells whether it has, and whether the running kernel uses it is \
                 not known: say --levels, or --la57 off for a processor without",
            ),
            MapError::OtherLevels => f.write_str(
                "--levels: the running kernel uses another number of levels, and the jump does not change it",
            ),
            MapError::EncryptionBit => f.write_str(
                "an encrypted guest, whose C-bit is not known: its tables cannot be written",
            ),
            MapError::Build(why) => write!(f, "the map: {why}"),
        }
    }
}

impl core::error::Error for MapError {}

/// What decides a map, apart from where the image lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapBase {
    /// What the tables look like.
    pub config: Config,
    /// What is requested beside the segments, each with what it is.
    pub wanted: Vec<(PhysRange, String)>,
    /// What must not be mapped: sorted, disjoint.
    pub forbidden: Vec<PhysRange>,
    policy: PolicyKind,
    slack: SlackKind,
    ram: Vec<PhysRange>,
    uv: bool,
}

impl MapBase {
    /// Everything that a map on this machine is made from. `c_bit` is the position of the encryption bit
    /// (CPUID `0x8000001F.EBX[5:0]`).
    ///
    /// # Errors
    /// [`MapError::Levels`], [`MapError::OtherLevels`] and [`MapError::EncryptionBit`].
    pub fn new(
        machine: &Machine,
        kind: Kind,
        consumer: &Consumer,
        choice: &MapChoice,
        c_bit: Option<u8>,
    ) -> Result<MapBase, MapError> {
        let layout = Layout::of(machine);
        let config = config(machine, choice, c_bit)?;
        let mut wanted = wanted(machine, layout.as_ref(), kind, consumer);
        wanted.extend(choice.extra.iter().map(|&range| (range, "--map".to_owned())));
        let ram: Vec<PhysRange> =
            layout.iter().flat_map(|layout| layout.of_kind(MemType::Usable)).collect();
        let known = hazards(machine);
        let requested: Vec<PhysRange> = wanted.iter().map(|(range, _)| *range).collect();
        let mut avoid = forbidden(&known, &requested);
        avoid.extend(&choice.forbid);
        Ok(MapBase {
            config,
            wanted,
            forbidden: ranges::normalise(avoid),
            policy: choice.policy,
            slack: choice.slack,
            ram: ranges::normalise(ram),
            uv: is_uv(machine, &known),
        })
    }

    /// The map with these segments.
    ///
    /// # Errors
    /// [`MapError::Plan`].
    pub fn coverage(&self, segments: &[PhysRange]) -> Result<Coverage, MapError> {
        let requests = self.requests(segments);
        Coverage::plan(&self.input(&requests)).map_err(MapError::Plan)
    }

    /// The tables, to lie from `base` on. The first is the root.
    ///
    /// # Errors
    /// [`MapError::Plan`] and [`MapError::Build`].
    pub fn build(&self, segments: &[PhysRange], base: PhysAddr) -> Result<Vec<u8>, MapError> {
        let requests = self.requests(segments);
        let build = |plan: &identmap::Plan<'_>| {
            let count = usize::try_from(plan.tables().total()).map_err(|e| e.to_string())?;
            let mut tables = vec![Table::EMPTY; count];
            let mut arena = Arena::new(&mut tables, base).map_err(|e| e.to_string())?;
            let built = plan.build(&mut arena).map_err(|e| e.to_string())?;
            if built.root != base {
                return Err("the root is not the first table".to_owned());
            }
            Ok(tables.iter().flat_map(|table| table.0).flat_map(u64::to_le_bytes).collect())
        };
        self.input(&requests).with_plan(build).map_err(MapError::Plan)?.map_err(MapError::Build)
    }

    fn requests(&self, segments: &[PhysRange]) -> Vec<PhysRange> {
        segments.iter().copied().chain(self.wanted.iter().map(|(range, _)| *range)).collect()
    }

    fn input<'a>(&'a self, requests: &'a [PhysRange]) -> MapInput<'a> {
        MapInput {
            config: self.config,
            policy: self.policy,
            uv: self.uv,
            requests,
            forbidden: &self.forbidden,
            slack: self.slack,
            ram: &self.ram,
        }
    }
}

/// Levels and encryption as the running kernel has them: `relocate_kernel` leaves `CR4.LA57` as it is, and
/// what it copies is encrypted as that kernel's own memory is (none under SME on a host, where it works with
/// an unencrypted map: `init_pgtable()` in `arch/x86/kernel/machine_kexec_64.c`, Linux 6.12).
fn config(machine: &Machine, choice: &MapChoice, c_bit: Option<u8>) -> Result<Config, MapError> {
    let cpu = &machine.cpu;
    let levels = match choice.levels {
        Some(levels) if cpu.la57_active.is_some_and(|five| five != (levels == Levels::Five)) => {
            return Err(MapError::OtherLevels);
        }
        Some(levels) => levels,
        None => match cpu.runs_5_levels() {
            Some(true) => Levels::Five,
            Some(false) => Levels::Four,
            None => return Err(MapError::Levels),
        },
    };
    let gbpages =
        choice.gbpages.unwrap_or(cpu.pdpe1gb == Some(true) && machine.nogbpages != Some(true));
    // Bit 58 (`_PAGE_NOPTISHADOW`), which Linux sets in the top table, is left out: decompressors before
    // 6.1.160 take it for a part of an address when they go from 5 levels to 4.
    let mut config = Config::kexec(levels, gbpages);
    if let Some(bits @ 32..=52) = cpu.maxphyaddr {
        config.maxphyaddr = bits;
    }
    // TDX marks what is shared, not what is private: a private page has no bit.
    let amd = cpu.vendor != Some(identmap_machine::CpuVendor::Intel);
    if cpu.encrypted_guest == Some(true) && amd {
        let bit = c_bit.filter(|bit| (32..52).contains(bit)).ok_or(MapError::EncryptionBit)?;
        config.encryption_mask = 1 << bit;
    }
    Ok(config)
}

/// All entries, where it is known how many they are. `/sys` does not tell: then as far as the table may
/// reach in the region that it begins in.
fn config_table(
    machine: &Machine,
    layout: Option<&Layout>,
    table: ConfigTable,
) -> Option<PhysRange> {
    let entry = firmware::config_entry_len(machine);
    let len = if let Some(count) = table.entries {
        count.max(1).checked_mul(entry)?
    } else {
        let region = layout.and_then(|layout| layout.at(table.address));
        let left = region.map(|region| region.range.end().get() - table.address.get());
        left.map_or(entry, |left| left.clamp(entry, CONFIG_TABLE_MOST))
    };
    PhysRange::from_len(table.address.get(), len).ok()
}

/// What the next kernel may touch before it has its own tables, by rule; what Linux would request of firmware's; and
/// low memory.
fn wanted(
    machine: &Machine,
    layout: Option<&Layout>,
    kind: Kind,
    consumer: &Consumer,
) -> Vec<(PhysRange, String)> {
    let mut wanted = Vec::new();
    let mut add = |range: PhysRange, what: &str| wanted.push((range, what.to_owned()));
    for ((start, end), what) in [(LOW, "low memory"), (VGA, "the text screen")] {
        if let Ok(range) = PhysRange::new(start, end) {
            add(range, what);
        }
    }
    for need in needs(machine, layout, consumer, kind) {
        // The image's own places are known here, and asked for one by one.
        if need.rule.id == SEGMENTS.id {
            continue;
        }
        match need.place {
            Place::Known(range) => add(range, &need.what),
            Place::Within { ranges, basis: None | Some(firmware::Basis::EfiMap), .. } => {
                for range in ranges {
                    add(range, &need.what);
                }
            }
            // Reserved memory that only may be firmware's data is left out: it may be anything.
            Place::Within { .. } | Place::Unknown => {}
        }
    }
    if let Some(range) = firmware::system_table(machine) {
        add(range, "EFI system table");
    }
    let table = machine.efi.config_table;
    if let Some(range) = table.and_then(|table| config_table(machine, layout, table)) {
        add(range, "EFI configuration table");
    }
    if let Some(range) = machine.cc_blob.and_then(|at| PhysRange::from_len(at.get(), 4096).ok()) {
        add(range, "confidential-computing blob");
    }
    for (kind, what) in [(MemType::AcpiData, "ACPI tables"), (MemType::AcpiNvs, "ACPI NVS")] {
        for range in layout.iter().flat_map(|layout| layout.of_kind(kind).collect::<Vec<_>>()) {
            add(range, what);
        }
    }
    let mut seen = Vec::new();
    wanted.retain(|(range, _)| {
        let new = !seen.contains(range);
        seen.push(*range);
        new
    });
    wanted.iter().map(|(range, what)| (range.round_out(PageSize::Size4K), what.clone())).collect()
}
