//! `boot_params` (the "zero page"), the command line and the `setup_data` chain behind it.
//!
//! Offsets: `Documentation/arch/x86/zero-page.rst` and `boot.rst`; structures:
//! `arch/x86/include/uapi/asm/bootparam.h`, `struct efi_setup_data` in `arch/x86/include/asm/efi.h`
//! (Linux 6.12).

use core::fmt;

use identmap::{PhysAddr, PhysRange};
use identmap_machine::{MemType, Region};

use super::BzImage;

/// Bytes of `struct boot_params`.
pub const BOOT_PARAMS_LEN: u64 = 4096;
/// `SETUP_EFI`: the type of a `setup_data` entry with `struct efi_setup_data`.
pub const SETUP_EFI: u32 = 4;
/// `SETUP_E820_EXT`: e820 entries that do not fit into `boot_params`.
const SETUP_E820_EXT: u32 = 1;
/// `SETUP_RNG_SEED`: the type of a `setup_data` entry whose payload seeds the kernel's random numbers (since 6.0,
/// commit 68b8e9713c8e; `parse_setup_data()` in `arch/x86/kernel/setup.c` takes it and wipes it).
pub const SETUP_RNG_SEED: u32 = 9;
/// `E820_MAX_ENTRIES_ZEROPAGE`.
const E820_IN_ZERO_PAGE: usize = 128;
/// `struct setup_data`: `next`, `type`, `len`.
const SETUP_DATA_HEADER: usize = 16;
/// `type_of_loader`: 0xD is kexec (boot.rst, "Assigned boot loader IDs").
const LOADER_KEXEC: u8 = 0xd0;

/// What the machine's firmware left that a loader passes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EfiHandover {
    /// The EFI system table (`efi_systab`).
    pub system_table: PhysAddr,
    /// The firmware's memory map (`efi_memmap`), as far as it is passed on.
    pub memory_map: Option<PhysRange>,
    /// Bytes of one descriptor in it.
    pub descriptor_len: u32,
    /// With a `SETUP_EFI` entry: the configuration table (`tables`), vendor string and SMBIOS.
    /// A kernel that was started by kexec reads `tables` from here, because firmware may
    /// have turned the pointer in the system table into a virtual one.
    pub setup_efi: Option<SetupEfi>,
}

/// `struct efi_setup_data`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SetupEfi {
    /// `fw_vendor`.
    pub fw_vendor: u64,
    /// `tables`: the configuration-table array.
    pub tables: u64,
    /// `smbios`.
    pub smbios: u64,
}

/// Everything that a loader tells the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootParams<'a> {
    /// The memory map, in the order given.
    pub e820: &'a [Region],
    /// EFI; `None` where nothing is handed over.
    pub efi: Option<EfiHandover>,
    /// `acpi_rsdp_addr`.
    pub rsdp: Option<PhysAddr>,
    /// The command line.
    pub cmdline: &'a str,
    /// The initrd: place of its bytes, without padding.
    pub initrd: Option<PhysRange>,
    /// The running kernel's own `boot_params` (`/sys/kernel/boot_params/data`): what firmware told it of the
    /// screen, disks and secure boot is passed on. Without them those fields are zero.
    pub running: Option<&'a [u8]>,
    /// EFI memory descriptors to lay behind the `setup_data`, in place of [`EfiHandover::memory_map`].
    pub efi_map: &'a [u8],
    /// A seed for the kernel's random numbers; only for one that knows [`SETUP_RNG_SEED`].
    pub rng_seed: Option<&'a RngSeed>,
}

/// Random bytes for a `SETUP_RNG_SEED` entry, as many as `kexec_file_load` hands over (`RNG_SEED_LENGTH` in
/// `arch/x86/kernel/kexec-bzimage64.c`, Linux 6.12).
///
/// They are a secret: they are not printed, not cloned, and overwritten when dropped.
#[derive(PartialEq, Eq)]
pub struct RngSeed([u8; 32]);

impl RngSeed {
    /// Bytes of a seed.
    pub const LEN: usize = 32;

    /// A seed; `None` for zeros, which are none.
    #[must_use]
    pub fn new(bytes: [u8; RngSeed::LEN]) -> Option<RngSeed> {
        (bytes != [0; RngSeed::LEN]).then_some(RngSeed(bytes))
    }
}

impl fmt::Debug for RngSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RngSeed(..)")
    }
}

impl Drop for RngSeed {
    fn drop(&mut self) {
        self.0.fill(0);
        // Or the compiler leaves out a write that nobody reads.
        core::hint::black_box(&self.0);
    }
}

/// What one kernel passes on to the next of its own `boot_params`: offset and bytes
/// (`setup_boot_parameters()` and `setup_edd_info()` in `arch/x86/kernel/kexec-bzimage64.c`, Linux 6.12,
/// and `kexec/arch/i386/x86-linux-setup.c` of kexec-tools; names from zero-page.rst).
/// Not among them: `apm_bios_info`, `hd0_info` and `hd1_info`, which both leave zero, and `sentinel`,
/// which has to be.
const PASSED_ON: [(usize, usize); 10] = [
    // screen_info
    (0x000, 0x40),
    // ist_info
    (0x060, 0x10),
    // sys_desc_table, olpc_ofw_header
    (0x0a0, 0x20),
    // edid_info
    (0x140, 0x80),
    // alt_mem_k
    (0x1e0, 4),
    // eddbuf_entries, edd_mbr_sig_buf_entries
    (0x1e9, 2),
    // secure_boot
    (0x1ec, 1),
    // hdr.hardware_subarch, hdr.hardware_subarch_data
    (0x23c, 12),
    // edd_mbr_sig_buffer
    (0x290, 0x40),
    // eddbuf
    (0xd00, 0x1ec),
];

/// The finished bytes, and what lies where in them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// `boot_params`, then the command line, then the `setup_data` entries.
    pub bytes: Vec<u8>,
    /// The command line with its terminating zero.
    pub cmdline: PhysRange,
    /// The `setup_data` entries, headers included, in the order of the chain.
    pub setup_data: Vec<PhysRange>,
}

/// Why `boot_params` cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BootParamsError {
    /// The command line is longer than the kernel takes.
    CommandLine {
        /// Its bytes.
        len: u64,
        /// The most that the kernel takes.
        max: u64,
    },
    /// The place reaches past the end of physical memory.
    Place(PhysAddr),
}

impl fmt::Display for BootParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootParamsError::CommandLine { len, max } => {
                write!(f, "a command line of {len} bytes; the kernel takes {max}")
            }
            BootParamsError::Place(at) => write!(f, "boot_params do not fit at {at}"),
        }
    }
}

impl core::error::Error for BootParamsError {}

impl BootParams<'_> {
    /// How many bytes [`build`](Self::build) makes.
    #[must_use]
    pub fn len(&self) -> u64 {
        let data: usize = self.entries().iter().map(|(_, data)| padded(data.len())).sum();
        BOOT_PARAMS_LEN + (self.cmdline_len() + data + self.efi_map.len()) as u64
    }

    /// Never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The bytes, for a place at `at`: the setup header of the image, filled in as kexec does
    /// (`bzImage64_load()` and `setup_boot_parameters()` in `arch/x86/kernel/kexec-bzimage64.c`).
    ///
    /// # Errors
    /// [`BootParamsError::CommandLine`] if it is too long, [`BootParamsError::Place`] if the place is none.
    pub fn build(&self, image: &BzImage<'_>, at: PhysAddr) -> Result<Handover, BootParamsError> {
        self.build_with(image.setup_header(), image.cmdline_size(), at)
    }

    /// The same for a kernel without a setup header of its own, such as an ELF file: `header` is laid at
    /// offset `0x1f1`, and a command line of `max` bytes is taken.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(
        &self,
        header: &[u8],
        max: u64,
        at: PhysAddr,
    ) -> Result<Handover, BootParamsError> {
        let len = self.cmdline.len() as u64;
        if len > max {
            return Err(BootParamsError::CommandLine { len, max });
        }
        let place = |offset: usize, len: usize| {
            at.checked_add(offset as u64)
                .and_then(|start| PhysRange::from_len(start.get(), len as u64).ok())
                .ok_or(BootParamsError::Place(at))
        };
        let mut page = Page(vec![0; BOOT_PARAMS_LEN as usize]);
        page.put(0x1f1, header);
        for (at, len) in PASSED_ON {
            page.put(at, self.running.and_then(|all| all.get(at..at + len)).unwrap_or_default());
        }
        page.put64(0x070, self.rsdp.map_or(0, PhysAddr::get));
        let first = self.e820.len().min(E820_IN_ZERO_PAGE);
        page.put(0x1e8, &[first as u8]);
        page.put(0x2d0, &e820_bytes(&self.e820[..first]));
        page.put(0x210, &[LOADER_KEXEC]);
        if let Some(initrd) = self.initrd {
            page.put_split(0x218, 0x0c0, initrd.start().get());
            page.put_split(0x21c, 0x0c4, initrd.len());
        }
        let cmdline = place(page.0.len(), self.cmdline.len() + 1)?;
        page.put_split(0x228, 0x0c8, cmdline.start().get());
        let mut line = self.cmdline.as_bytes().to_vec();
        line.resize(self.cmdline_len(), 0);

        let entries = self.entries();
        let mut setup_data = Vec::with_capacity(entries.len());
        let mut offset = BOOT_PARAMS_LEN as usize + line.len();
        for (_, data) in &entries {
            setup_data.push(place(offset, SETUP_DATA_HEADER + data.len())?);
            offset += padded(data.len());
        }
        page.put64(0x250, setup_data.first().map_or(0, |range| range.start().get()));
        let map = match self.efi_map.len() {
            0 => self.efi.and_then(|efi| efi.memory_map),
            len => Some(place(offset, len)?),
        };
        self.efi_info(&mut page, map);
        let mut bytes = page.0;
        // Growing would leave copies behind, too.
        bytes.reserve_exact(self.len() as usize);
        bytes.extend(line);
        for (i, (kind, data)) in entries.iter().enumerate() {
            let end = bytes.len() + padded(data.len());
            let next = setup_data.get(i + 1).map_or(0, |range| range.start().get());
            bytes.extend(next.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend((data.len() as u32).to_le_bytes());
            match self.rng_seed.filter(|_| *kind == SETUP_RNG_SEED) {
                Some(seed) => bytes.extend(seed.0),
                None => bytes.extend(data),
            }
            bytes.resize(end, 0);
        }
        bytes.extend(self.efi_map);
        Ok(Handover { bytes, cmdline, setup_data })
    }

    fn efi_info(&self, page: &mut Page, map: Option<PhysRange>) {
        let Some(efi) = self.efi else { return };
        page.put(0x1c0, b"EL64");
        page.put_split(0x1c4, 0x1d8, efi.system_table.get());
        page.put(0x1c8, &efi.descriptor_len.to_le_bytes());
        // `EFI_MEMORY_DESCRIPTOR_VERSION` (UEFI 2.10, 7.2.3).
        page.put(0x1cc, &1_u32.to_le_bytes());
        if let Some(map) = map {
            page.put_split(0x1d0, 0x1dc, map.start().get());
            page.put(0x1d4, &(map.len() as u32).to_le_bytes());
        }
    }

    /// The `setup_data` entries: type and payload.
    fn entries(&self) -> Vec<(u32, Vec<u8>)> {
        let mut entries = Vec::new();
        if let Some(setup) = self.efi.and_then(|efi| efi.setup_efi) {
            let mut data = Vec::new();
            for word in [setup.fw_vendor, 0, setup.tables, setup.smbios] {
                data.extend(word.to_le_bytes());
            }
            // `u64 reserved[8]`.
            data.resize(data.len() + 64, 0);
            entries.push((SETUP_EFI, data));
        }
        if let Some(rest) = self.e820.get(E820_IN_ZERO_PAGE..).filter(|rest| !rest.is_empty()) {
            entries.push((SETUP_E820_EXT, e820_bytes(rest)));
        }
        if self.rng_seed.is_some() {
            // Its place; a copy of the secret would lie about.
            entries.push((SETUP_RNG_SEED, vec![0; RngSeed::LEN]));
        }
        entries
    }

    fn cmdline_len(&self) -> usize {
        (self.cmdline.len() + 1).next_multiple_of(16)
    }
}

/// Bytes of a `setup_data` entry in the chain, so that the next one is aligned.
fn padded(data: usize) -> usize {
    (SETUP_DATA_HEADER + data).next_multiple_of(16)
}

/// `struct boot_e820_entry`, packed: address, size, type.
fn e820_bytes(regions: &[Region]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(regions.len() * 20);
    for region in regions {
        bytes.extend(region.range.start().get().to_le_bytes());
        bytes.extend(region.range.len().to_le_bytes());
        bytes.extend(e820_type(region.kind).to_le_bytes());
    }
    bytes
}

/// `enum e820_type` in `arch/x86/include/asm/e820/types.h`.
fn e820_type(kind: MemType) -> u32 {
    match kind {
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

struct Page(Vec<u8>);

impl Page {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(slot) = self.0.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// A 64-bit value whose halves lie apart.
    fn put_split(&mut self, low: usize, high: usize, value: u64) {
        self.put(low, &(value as u32).to_le_bytes());
        self.put(high, &((value >> 32) as u32).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn addr(addr: u64) -> PhysAddr {
        PhysAddr::new(addr).unwrap()
    }

    #[test]
    fn the_chain_is_where_the_kernel_follows_it() {
        let image = made_kernel::BzImage::default().bytes();
        let image = BzImage::parse(&image).unwrap();
        let region = |i: u64| Region {
            range: PhysRange::from_len(i << 20, 0x1000).unwrap(),
            kind: MemType::Usable,
        };
        let e820: Vec<Region> = (0..130).map(region).collect();
        let setup = SetupEfi { fw_vendor: 1, tables: 0xc7a0_1018, smbios: 3 };
        let params = BootParams {
            e820: &e820,
            efi: Some(EfiHandover {
                system_table: addr(0x1_2345_6018),
                memory_map: None,
                descriptor_len: 48,
                setup_efi: Some(setup),
            }),
            rsdp: Some(addr(0xcd7f_d014)),
            cmdline: "console=ttyS0",
            initrd: Some(PhysRange::from_len(0x2_0000_0000, 0x123).unwrap()),
            running: Some(&[0x77; 4096]),
            efi_map: &[0x55; 80],
            rng_seed: None,
        };
        let at = 0x3_0000_0000;
        let built = params.build(&image, addr(at)).unwrap();
        let bytes = &built.bytes;
        assert_eq!(bytes.len() as u64, params.len());
        assert_eq!(&bytes[0x1c0..0x1c4], b"EL64");
        assert_eq!((u64_at(bytes, 0x1c4) as u32, u64_at(bytes, 0x1d8) as u32), (0x2345_6018, 1));
        assert_eq!(u64_at(bytes, 0x70), 0xcd7f_d014);
        assert_eq!((bytes[0x1e8], u64_at(bytes, 0x2d0 + 20)), (128, 1 << 20));
        assert_eq!((u64_at(bytes, 0x228) as u32, u64_at(bytes, 0xc8) as u32), (0x1000, 3));
        assert_eq!((u64_at(bytes, 0x218) as u32, u64_at(bytes, 0xc0) as u32), (0, 2));
        let line = (built.cmdline.start().get() - at) as usize;
        assert_eq!(&bytes[line..line + 14], b"console=ttyS0\0");

        let efi = (u64_at(bytes, 0x250) - at) as usize;
        assert_eq!(u64_at(bytes, efi + 8), u64::from(SETUP_EFI) | 96 << 32);
        assert_eq!(u64_at(bytes, efi + 16 + 16), 0xc7a0_1018);
        let more = (u64_at(bytes, efi) - at) as usize;
        assert_eq!(u64_at(bytes, more + 8), 1 | 40 << 32);
        assert_eq!((u64_at(bytes, more), u64_at(bytes, more + 16)), (0, 128 << 20));
        assert_eq!(built.setup_data[1].start().get(), at + more as u64);
        // The EFI memory map is behind the chain.
        assert_eq!(u64_at(bytes, 0x1d0), (at + more as u64 + 64) & 0xffff_ffff | 80 << 32);
        assert_eq!(bytes[more + 64..], [0x55; 80]);
        // The screen is passed on; the sentinel and the disks of ISA times are not.
        assert_eq!((bytes[0], bytes[0x1ef], bytes[0x80], bytes[0x1ec]), (0x77, 0, 0, 0x77));
        // The header is the image's own, with the loader's fields filled in.
        assert_eq!((&bytes[0x202..0x206], bytes[0x210]), (&b"HdrS"[..], 0xd0));
    }

    #[test]
    fn a_seed_is_in_the_chain_and_nowhere_else() {
        assert_eq!(RngSeed::new([0; 32]), None);
        let secret: [u8; 32] = core::array::from_fn(|i| i as u8 + 0xa0);
        let seed = RngSeed::new(secret).unwrap();
        assert_eq!(format!("{seed:?}"), "RngSeed(..)");
        let image = made_kernel::BzImage::default().bytes();
        let image = BzImage::parse(&image).unwrap();
        let setup = SetupEfi { fw_vendor: 1, tables: 2, smbios: 3 };
        let plain = BootParams {
            e820: &[],
            efi: Some(EfiHandover {
                system_table: addr(0x1000),
                memory_map: None,
                descriptor_len: 40,
                setup_efi: Some(setup),
            }),
            rsdp: None,
            cmdline: "quiet",
            initrd: None,
            running: None,
            efi_map: &[0x55; 40],
            rng_seed: None,
        };
        let params = BootParams { rng_seed: Some(&seed), ..plain.clone() };
        let built = params.build(&image, addr(0x10_0000)).unwrap();
        let bytes = &built.bytes;
        assert_eq!(bytes.len() as u64, params.len());
        assert_eq!(params.len(), plain.len() + 48);
        let efi = (u64_at(bytes, 0x250) - 0x10_0000) as usize;
        let next = (u64_at(bytes, efi) - 0x10_0000) as usize;
        assert_eq!(built.setup_data[1].start().get(), 0x10_0000 + next as u64);
        assert_eq!((u64_at(bytes, next), u64_at(bytes, next + 8)), (0, 9 | 32 << 32));
        assert_eq!(bytes[next + 16..next + 48], secret);
        assert_eq!(bytes.windows(32).filter(|window| **window == secret).count(), 1);
        // Behind it the EFI memory map, as before.
        assert_eq!(bytes[next + 48..], [0x55; 40]);
        assert!(!format!("{params:?}").contains(&format!("{:?}", &secret[..4])));
        let without = plain.build(&image, addr(0x10_0000)).unwrap();
        assert_eq!(without.setup_data.len(), 1);
    }

    #[test]
    fn a_command_line_too_long_is_refused() {
        let image = made_kernel::BzImage::default().bytes();
        let image = BzImage::parse(&image).unwrap();
        let line = "x".repeat(2048);
        let params = BootParams {
            e820: &[],
            efi: None,
            rsdp: None,
            cmdline: &line,
            initrd: None,
            running: None,
            efi_map: &[],
            rng_seed: None,
        };
        let error = BootParamsError::CommandLine { len: 2048, max: 2047 };
        assert_eq!(params.build(&image, addr(0x3000)), Err(error));
        let short = BootParams { cmdline: "", ..params };
        let built = short.build(&image, addr(0x3000)).unwrap();
        assert_eq!((u64_at(&built.bytes, 0x250), &built.bytes[0x1c0..0x1c4]), (0, &[0; 4][..]));
        let error = BootParamsError::Place(PhysAddr::MAX);
        assert_eq!(short.build(&image, PhysAddr::MAX), Err(error));
    }
}
