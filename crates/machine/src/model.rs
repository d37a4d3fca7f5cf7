//! What a machine is, as far as its texts tell.
//!
//! Every fact that a text may leave out is an `Option`: `None` means *not
//! known*, never *absent* (`unreadable-is-not-unmapped`).

use core::fmt;

use identmap::{PhysAddr, PhysRange, RangeError};

/// A type of memory, in the kernel's words.
///
/// Numbers and words: Linux `arch/x86/include/asm/e820/types.h` and
/// `e820_print_type()` in `arch/x86/kernel/e820.c`; ACPI 6.5, table 15.4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MemType {
    /// Type 1, "usable" (from Linux 6.19 on "System RAM").
    Usable,
    /// Type 2, "reserved" (from Linux 6.19 on "device reserved").
    Reserved,
    /// Type 3, "ACPI data".
    AcpiData,
    /// Type 4, "ACPI NVS".
    AcpiNvs,
    /// Type 5, "unusable".
    Unusable,
    /// Type 7, "persistent (type 7)".
    Persistent,
    /// Type 12, "persistent (type 12)": the type used before ACPI 6.0 and by `memmap=S!A`.
    PersistentLegacy,
    /// Type `0xefffffff`, "soft reserved": special-purpose memory.
    SoftReserved,
    /// Any other number, printed "type N".
    Other(u32),
}

impl MemType {
    /// The type with this number in an e820 table.
    ///
    /// Linux `arch/x86/include/asm/e820/types.h`, `enum e820_type`.
    #[must_use]
    pub const fn from_e820(number: u32) -> MemType {
        match number {
            1 => MemType::Usable,
            2 => MemType::Reserved,
            3 => MemType::AcpiData,
            4 => MemType::AcpiNvs,
            5 => MemType::Unusable,
            7 => MemType::Persistent,
            12 => MemType::PersistentLegacy,
            0xefff_ffff => MemType::SoftReserved,
            other => MemType::Other(other),
        }
    }

    /// Its number in an e820 table: the inverse of [`from_e820`](Self::from_e820).
    #[must_use]
    pub const fn e820(self) -> u32 {
        match self {
            MemType::Usable => 1,
            MemType::Reserved => 2,
            MemType::AcpiData => 3,
            MemType::AcpiNvs => 4,
            MemType::Unusable => 5,
            MemType::Persistent => 7,
            MemType::PersistentLegacy => 12,
            MemType::SoftReserved => 0xefff_ffff,
            MemType::Other(number) => number,
        }
    }
}

impl fmt::Display for MemType {
    /// The kernel's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemType::Usable => f.pad("usable"),
            MemType::Reserved => f.pad("reserved"),
            MemType::AcpiData => f.pad("ACPI data"),
            MemType::AcpiNvs => f.pad("ACPI NVS"),
            MemType::Unusable => f.pad("unusable"),
            MemType::Persistent => f.pad("persistent (type 7)"),
            MemType::PersistentLegacy => f.pad("persistent (type 12)"),
            MemType::SoftReserved => f.pad("soft reserved"),
            MemType::Other(number) => f.pad(&format!("type {number}")),
        }
    }
}

/// Who drew a memory map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MapOrigin {
    /// `BIOS-e820:` lines: what firmware or the boot loader handed over.
    BiosE820,
    /// `reserve setup_data:` lines ("extended physical RAM map").
    SetupDataE820,
    /// `user:` lines ("user-defined physical RAM map", from `mem=` and `memmap=`).
    UserE820,
    /// `modified:` lines ("modified physical RAM map").
    ModifiedE820,
    /// `Xen:` lines: the map of a Xen guest.
    XenE820,
    /// `/sys/firmware/memmap`: the firmware's map, unchanged by the kernel.
    FirmwareMemmap,
    /// `boot_params.e820_table` as found in `/sys/kernel/boot_params/data`.
    BootParams,
    /// `MEMORY RANGES` of `kexec -d`: what kexec-tools hands to the next kernel.
    KexecRanges,
}

/// One line of a memory map, as it was written: it may be reversed, empty or wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive (as maps are written).
    pub last: u64,
    /// The type.
    pub kind: MemType,
    /// Line of the input, counted from 1; 0 where the source has no lines.
    pub line: usize,
}

impl MapEntry {
    /// The bytes meant.
    ///
    /// # Errors
    /// Where the numbers are not a range; [`crate::lint`] reports those.
    pub fn range(&self) -> Result<PhysRange, RangeError> {
        PhysRange::from_inclusive(self.start, self.last)
    }
}

/// A memory map: entries in the order of the source, not yet merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemMap {
    /// Who drew it.
    pub origin: MapOrigin,
    /// Its lines.
    pub entries: Vec<MapEntry>,
}

/// `e820: update […] A ==> B` or `e820: remove […] A`: a change the kernel made to its own map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapUpdate {
    /// What was changed.
    pub range: PhysRange,
    /// Only memory of this type was changed.
    pub from: MemType,
    /// The new type; `None`: removed from the map.
    pub to: Option<MemType>,
    /// Line of the input, counted from 1.
    pub line: usize,
}

/// One line of `/proc/iomem`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IomemEntry {
    /// The bytes.
    pub range: PhysRange,
    /// Nesting: 0 is a top-level resource.
    pub depth: usize,
    /// The name, e.g. `System RAM`, `Reserved`, `ACPI Tables`, `Crash kernel`.
    pub name: String,
    /// Line of the input, counted from 1.
    pub line: usize,
}

/// One descriptor of the EFI memory map. Types: UEFI 2.10, table 7.10.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EfiDescriptor {
    /// The bytes.
    pub range: PhysRange,
    /// `EFI_MEMORY_TYPE` number.
    pub kind: u32,
    /// Attribute bits where known, 0 otherwise.
    pub attributes: u64,
    /// Line of the input, counted from 1; 0 where the source has no lines.
    pub line: usize,
}

impl EfiDescriptor {
    /// `EFI_MEMORY_RUNTIME`: UEFI 2.10, 7.2.3.
    pub const RUNTIME: u64 = 1 << 63;

    /// Whether firmware has left the memory to the kernel: a loader's, boot services' or conventional memory
    /// (types 1 to 4 and 7) that is known not to be kept for the runtime.
    ///
    /// The kernel lists such memory among its runtime mappings too: boot services' until it frees them, and all
    /// RAM under 32-bit firmware (`should_map_region()` in `arch/x86/platform/efi/efi.c`, Linux 5.6). What it keeps
    /// of it for itself it marks for the runtime (`efi_arch_mem_reserve()` in `quirks.c` beside it).
    #[must_use]
    pub fn is_left_to_the_kernel(&self) -> bool {
        matches!(self.kind, 1..=4 | 7)
            && self.attributes != 0
            && self.attributes & EfiDescriptor::RUNTIME == 0
    }
}

/// A table that the EFI configuration table points to (`ACPI 2.0=0x…` in the `efi:` line).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EfiTable {
    /// The kernel's name for it.
    pub name: String,
    /// Where it lies.
    pub address: PhysAddr,
}

/// The EFI configuration-table array: what 2024 was about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigTable {
    /// Where the array lies.
    pub address: PhysAddr,
    /// Its entries (24 bytes each on 64-bit firmware, 16 on 32-bit), where known.
    pub entries: Option<u64>,
}

/// What is known of EFI.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Efi {
    /// Whether the producer was booted through EFI (`efi_enabled(EFI_BOOT)`).
    pub booted: Option<bool>,
    /// `EFI v2.7 by HPE`.
    pub version: Option<String>,
    /// Whether firmware is 64-bit.
    pub is_64bit: Option<bool>,
    /// Where the EFI system table lies.
    pub system_table: Option<PhysAddr>,
    /// The configuration-table array.
    pub config_table: Option<ConfigTable>,
    /// The memory map as firmware's loader left it in memory (`boot_params.efi_info`).
    pub memmap: Option<PhysRange>,
    /// The firmware vendor's string.
    pub fw_vendor: Option<PhysAddr>,
    /// The runtime services table.
    pub runtime: Option<PhysAddr>,
    /// The tables it points to.
    pub tables: Vec<EfiTable>,
    /// The firmware's memory map.
    pub memory_map: Vec<EfiDescriptor>,
    /// `/sys/firmware/efi/runtime-map`.
    pub runtime_map: Vec<EfiDescriptor>,
}

/// Who made the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuVendor {
    /// `AuthenticAMD`.
    Amd,
    /// `HygonGenuine`: AMD's design, and takes AMD's paths in Linux's early SEV code.
    Hygon,
    /// `GenuineIntel`.
    Intel,
    /// Any other.
    Other,
}

/// How a guest's memory is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GuestEncryption {
    /// AMD SEV.
    Sev,
    /// AMD SEV-ES: registers, too.
    SevEs,
    /// AMD SEV-SNP: and the hypervisor cannot change what is where.
    SevSnp,
    /// Intel TDX.
    Tdx,
}

impl fmt::Display for GuestEncryption {
    /// `SEV`, `SEV-ES`, `SEV-SNP` or `TDX`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GuestEncryption::Sev => "SEV",
            GuestEncryption::SevEs => "SEV-ES",
            GuestEncryption::SevSnp => "SEV-SNP",
            GuestEncryption::Tdx => "TDX",
        })
    }
}

/// How far a host is on the way to TDX guests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TdxHost {
    /// Firmware has enabled it; no memory is private.
    Platform,
    /// The TDX module runs: its own tables (PAMT) are private memory, and guests' memory is.
    Module,
}

/// The ACPI way to start processors without interrupts (MADT, type 16: ACPI 6.5, 5.2.12.19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MpWakeup {
    /// From 1 on, processors can be given back to firmware.
    pub version: u16,
    /// Where the next one to start is written; 0: Linux has taken the address away, because no processor can be
    /// started a second time (`acpi_mp_disable_offlining()`).
    pub mailbox: u64,
}

/// What is known of the processor.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its maker.
    pub vendor: Option<CpuVendor>,
    /// Its name, as `/proc/cpuinfo` or `smpboot: CPU0:` gives it.
    pub model: Option<String>,
    /// 1 GiB leaves (CPUID `0x80000001.EDX[26]`).
    pub pdpe1gb: Option<bool>,
    /// 5-level paging offered (CPUID `7.ECX[16]`).
    pub la57: Option<bool>,
    /// 5-level paging in use by the producer (CR4.LA57).
    pub la57_active: Option<bool>,
    /// Bits of a physical address (CPUID `0x80000008.EAX[7:0]`).
    pub maxphyaddr: Option<u8>,
    /// CPUID `0x8000001F.EAX[1]`: what the consumer's early code looks at.
    pub sev: Option<bool>,
    /// SME active in the producer.
    pub sme_active: Option<bool>,
    /// The producer is an encrypted guest (SEV, SEV-ES, SEV-SNP or TDX).
    pub encrypted_guest: Option<bool>,
    /// How, where that is known.
    pub guest_encryption: Option<GuestEncryption>,
    /// A host that runs SEV-SNP guests.
    pub snp_host: Option<bool>,
    /// The interface version of AMD's SEV-SNP firmware, once it was started (`SEV-SNP API:1.55`).
    pub snp_api: Option<(u8, u8)>,
    /// A host for TDX guests.
    pub tdx_host: Option<TdxHost>,
    /// A partial write to private memory of TDX poisons it (`tdx_pw_mce` among the bugs of `/proc/cpuinfo`).
    pub tdx_pw_mce: Option<bool>,
    /// The machine is a virtual machine (`Hypervisor detected:`, CPUID `1.ECX[31]`).
    pub hypervisor: Option<bool>,
}

impl Cpu {
    /// Whether the producer runs with 5 levels: a processor that has none settles it too. `None` if nothing
    /// tells.
    #[must_use]
    pub fn runs_5_levels(&self) -> Option<bool> {
        self.la57_active.or(self.la57.filter(|offered| !offered))
    }
}

/// HPE UV or not: what `is_uv_system()` of the running kernel would say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uv {
    /// Not a UV system.
    No,
    /// A UV system with hubs: `is_uv_system()` is 1.
    Hubbed,
    /// UV hardware without hubs (`NSGI…`): `is_uv_system()` is 0.
    Hubless,
}

/// What firmware or the boot loader left of the screen (`screen_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Screen {
    /// VGA's text mode.
    Text,
    /// A framebuffer of EFI's or VESA's.
    Framebuffer,
}

/// A reserved crash-kernel range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashKernel {
    /// The bytes.
    pub range: PhysRange,
}

/// A table listed by the ACPI code of dmesg (`ACPI: XSDT 0x… 0000DC …`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcpiTable {
    /// Four-letter signature.
    pub signature: String,
    /// The bytes of the table.
    pub range: PhysRange,
}

/// One segment of a loaded or about-to-be-loaded image (`kexec -d`, `kexec_file_load`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Destination bytes.
    pub range: PhysRange,
}

/// Something that was wrong, missing or left out while the machine was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Line of the input, counted from 1; 0 where the source has no lines.
    pub line: usize,
    /// What, in one sentence without a full stop.
    pub text: String,
    /// Whether this made something unreadable that a verdict may hang on.
    pub unreadable: bool,
}

/// What a text is known to have held and does not hold any more: a line cut, or missing between others.
#[allow(clippy::struct_excessive_bools, reason = "each is lost by itself")]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Lost {
    /// An entry of the kernel's memory map, or a change to it.
    pub map: bool,
    /// An entry of `/sys/firmware/memmap`.
    pub firmware_memmap: bool,
    /// A range of `kexec -d`.
    pub kexec_ranges: bool,
    /// A line of `/proc/iomem`.
    pub iomem: bool,
    /// An entry of the EFI memory map.
    pub efi_map: bool,
    /// An entry of the EFI run-time map.
    pub efi_runtime_map: bool,
    /// Entries of `boot_params`' map beyond those that have room there.
    pub boot_params: bool,
}

/// A machine: everything that one or several texts say about it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Where this was read: a file name, `live`, `sample:NAME`.
    pub source: String,
    /// System and board, from `DMI:` or SMBIOS.
    pub hardware: Option<String>,
    /// Firmware version and date, from `DMI:` ("BIOS 1.8.3 04/02/2024").
    pub firmware: Option<String>,
    /// Release of the running kernel, as `uname -r` prints it.
    pub kernel: Option<String>,
    /// The banner after the release (compiler, build number, distribution's version).
    pub kernel_banner: Option<String>,
    /// Whether the running kernel is a 32-bit one, by the end of its address space.
    pub kernel_is_32bit: Option<bool>,
    /// Command line of the running kernel.
    pub cmdline: Option<String>,
    /// Memory maps, in the order of the source.
    pub maps: Vec<MemMap>,
    /// The kernel's changes to its own map, in order.
    pub updates: Vec<MapUpdate>,
    /// `/proc/iomem`, depth first, in order.
    pub iomem: Vec<IomemEntry>,
    /// What is lost of the memory maps.
    pub lost: Lost,
    /// End of RAM in 4 KiB pages, as the kernel found it in its map (`e820: last_pfn = 0x…`).
    pub last_pfn: Option<u64>,
    /// RAM in KiB, as the kernel counted it (`Memory: …K/…K available`).
    pub ram_kib: Option<u64>,
    /// EFI.
    pub efi: Efi,
    /// The processor.
    pub cpu: Cpu,
    /// HPE UV.
    pub uv: Option<Uv>,
    /// `Using GB pages for direct mapping` was printed (`direct_gbpages` is on).
    pub direct_gbpages: Option<bool>,
    /// `nogbpages` on the command line.
    pub nogbpages: Option<bool>,
    /// Crash-kernel reservations.
    pub crash_kernels: Vec<CrashKernel>,
    /// Ranges of the `setup_data` chain.
    pub setup_data: Vec<PhysRange>,
    /// ACPI tables.
    pub acpi_tables: Vec<AcpiTable>,
    /// Where the ACPI root pointer lies.
    pub rsdp: Option<PhysAddr>,
    /// The confidential-computing blob (`boot_params.cc_blob_address`).
    pub cc_blob: Option<PhysAddr>,
    /// The initial ramdisk, as the boot loader placed it (`RAMDISK: [mem …]`).
    pub ramdisk: Option<PhysRange>,
    /// The MP floating pointer structure (`found SMP MP-table`).
    pub mp_table: Option<PhysRange>,
    /// What the running kernel was told of the screen.
    pub screen: Option<Screen>,
    /// The graphics driver that has taken the screen over from firmware: `i915`, `amdgpu`.
    pub graphics: Option<String>,
    /// The running kernel is locked down.
    pub lockdown: Option<bool>,
    /// The running kernel was started by Secure Boot.
    pub secure_boot: Option<bool>,
    /// How processors are started, where not by interrupts.
    pub mp_wakeup: Option<MpWakeup>,
    /// Whether an image is loaded for `kexec -e` (`/sys/kernel/kexec_loaded`).
    pub kexec_loaded: Option<bool>,
    /// Whether a crash image is loaded (`/sys/kernel/kexec_crash_loaded`).
    pub kexec_crash_loaded: Option<bool>,
    /// AMD's RMP table (`SEV-SNP: RMP table physical range`).
    pub rmp: Option<PhysRange>,
    /// Pages in which the running kernel met memory errors (`Memory failure: 0x…`).
    pub poisoned: Vec<PhysRange>,
    /// Areas that KHO, kexec's hand-over, keeps for the next kernel's image.
    pub kho_scratch: Vec<PhysRange>,
    /// Segments of an image, where the text shows them.
    pub segments: Vec<Segment>,
    /// What could not be read, and why.
    pub notes: Vec<Note>,
}
