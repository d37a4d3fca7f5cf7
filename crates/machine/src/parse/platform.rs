//! Lines of a boot log that are no map: kernel, command line, hardware, processor, reservations.

use identmap::{PageSize, PhysAddr, PhysRange};

use super::boot::{Boot, push_range};
use super::cursor::Cursor;
use super::error::Bad;
use crate::model::{
    AcpiTable, Cpu, CpuVendor, CrashKernel, GuestEncryption, Machine, MapUpdate, MemType, Note,
    Screen, TdxHost, Uv,
};

/// `MAXMEM >> PAGE_SHIFT` with 46 physical bits (4-level) and 52 (5-level paging):
/// `MAX_PHYSMEM_BITS` in `arch/x86/include/asm/sparsemem.h`, printed by `e820_end_pfn()`.
const MAX_ARCH_PFN_4_LEVEL: u64 = 1 << (46 - 12);
const MAX_ARCH_PFN_5_LEVEL: u64 = 1 << (52 - 12);

/// `MAX_ARCH_PFN` of 32-bit kernels, without and with PAE (`arch/x86/kernel/e820.c`).
const MAX_ARCH_PFN_32_BIT: u64 = 1 << (32 - 12);
const MAX_ARCH_PFN_PAE: u64 = 1 << (36 - 12);

/// ACPI tables are listed up to this number; machines have about a hundred.
const MAX_ACPI_TABLES: usize = 4096;

/// Where firmware that is not EFI leaves the RSDP: ACPI 6.5, 5.2.5.1.
const BIOS_ROM: core::ops::Range<u64> = 0xe_0000..0x10_0000;

/// Reads one message. Returns whether it said something about the machine.
pub(super) fn fact(boot: &mut Boot, text: &str, body: usize, line: usize) -> bool {
    let rest = text[body..].trim_end();
    if let Some(command) =
        rest.strip_prefix("Command line:").or_else(|| rest.strip_prefix("Kernel command line:"))
    {
        set_cmdline(&mut boot.machine, command.trim());
        return true;
    }
    if let Some(ids) = rest.strip_prefix("DMI:") {
        return dmi(&mut boot.machine, ids.trim());
    }
    if let Some(table) = rest.strip_prefix("ACPI:") {
        return acpi(boot, table);
    }
    if rest.starts_with("Using GB pages for direct mapping") {
        boot.machine.direct_gbpages = Some(true);
        // init_mem_mapping() prints this only if the processor has them.
        boot.machine.cpu.pdpe1gb = Some(true);
        return true;
    }
    if let Some(total) = rest.strip_prefix("Memory: ").and_then(counted_ram) {
        boot.machine.ram_kib = Some(total);
        return true;
    }
    if let Some(at) = rest.find("max_arch_pfn = ") {
        last_pfn(&mut boot.machine, rest);
        return max_arch_pfn(&mut boot.machine, &rest[at + "max_arch_pfn = ".len()..]);
    }
    if let Some(result) = crash_kernel(text, body) {
        return record(boot, line, "crash kernel", result, |m, range| {
            m.crash_kernels.push(CrashKernel { range });
        });
    }
    if let Some(at) = rest.find("RMP table physical range [") {
        let c = Cursor::new(text, body + at + "RMP table physical range [".len());
        // There is one, wherever it lies.
        boot.machine.cpu.snp_host = Some(true);
        return record(boot, line, "RMP table", inclusive(c), |m, range| m.rmp = Some(range));
    }
    if let Some(at) = rest.find(RMP_FIXUP) {
        return rmp_fixup(boot, line, &rest[at + RMP_FIXUP.len()..]);
    }
    if let Some(known) = screen(&mut boot.machine, rest) {
        return known;
    }
    // `lock_kernel_down()` in `security/lockdown/lockdown.c`.
    if rest.starts_with("Kernel is locked down from ") {
        boot.machine.lockdown = Some(true);
        return true;
    }
    // `efi_set_secure_boot()` of Debian's, Fedora's and Ubuntu's kernels.
    if let Some(state) = rest.strip_prefix("secureboot: Secure boot ") {
        boot.machine.secure_boot = match state {
            "enabled" => Some(true),
            "disabled" => Some(false),
            _ => None,
        };
        return true;
    }
    if let Some(tail) = rest.strip_prefix(MEMORY_FAILURE) {
        return memory_failure(&mut boot.machine, tail);
    }
    if let Some(tail) = rest.strip_prefix("RAMDISK: [mem ") {
        let c = Cursor::new(text, text.trim_end().len() - tail.len());
        return record(boot, line, "initial ramdisk", inclusive(c), |m, range| {
            m.ramdisk = Some(range);
        });
    }
    if let Some(tail) = rest.strip_prefix("found SMP MP-table at [mem ") {
        let c = Cursor::new(text, text.trim_end().len() - tail.len());
        return record(boot, line, "MP table", inclusive(c), |m, range| m.mp_table = Some(range));
    }
    processor(boot, rest)
}

/// Who drives the screen. `[drm] Initialized NAME 1.6.0 …` (`drm_dev_register()` in `drivers/gpu/drm/drm_drv.c`) of
/// a driver that is not for firmware's framebuffer, nor for a screen that is none; `efifb: framebuffer at`,
/// `vesafb: framebuffer at`; `Console: colour VGA+ 80x25` (`con_init()` in `drivers/tty/vt/vt.c`).
fn screen(machine: &mut Machine, rest: &str) -> Option<bool> {
    const FIRMWARE_S: [&str; 4] = ["simpledrm", "efidrm", "vesadrm", "ofdrm"];
    const NO_SCREENS: [&str; 6] =
        ["vgem", "vkms", "evdi", "amdxdna_accel_driver", "intel_vpu", "habanalabs"];
    if let Some(tail) = rest.strip_prefix("[drm] Initialized ") {
        let driver = tail.split_ascii_whitespace().next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if FIRMWARE_S.contains(&driver) {
            machine.screen = Some(Screen::Framebuffer);
        } else if !NO_SCREENS.contains(&driver) && driver.len() <= 32 && driver.chars().all(plain) {
            machine.graphics.get_or_insert_with(|| driver.to_owned());
        }
        return Some(true);
    }
    let framebuffer = ["efifb: framebuffer at ", "vesafb: framebuffer at "];
    if framebuffer.iter().any(|word| rest.starts_with(word)) {
        machine.screen = Some(Screen::Framebuffer);
        return Some(true);
    }
    if rest.starts_with("Console: colour VGA+ ") {
        machine.screen = Some(Screen::Text);
        return Some(true);
    }
    None
}

/// `16181208K/16680692K available`: RAM in the kernel's hands and RAM that there is, in KiB
/// (`mem_init_print_info()` in `mm/mm_init.c`, `mm/page_alloc.c` before 6.3). To Linux 3.10, with a small
/// `k`, the second number is where RAM ends, holes and all: not taken.
fn counted_ram(rest: &str) -> Option<u64> {
    let (free, rest) = rest.split_once("K/")?;
    let (total, rest) = rest.split_once('K')?;
    free.parse::<u64>().ok().filter(|_| rest.starts_with(" available"))?;
    total.parse().ok()
}

/// `last_pfn = 0x42f000 max_arch_pfn = …` (`e820_end_pfn()`): first of all RAM, then, if that ends past 4 GiB,
/// of the RAM below.
fn last_pfn(machine: &mut Machine, rest: &str) {
    let digits = rest.split_once("last_pfn = 0x").map(|(_, tail)| tail.split(' ').next());
    let pfn = digits.flatten().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    machine.last_pfn = machine.last_pfn.max(pfn);
}

/// Before what the kernel says of a page with a memory error, which it names by its number: the first word
/// behind (`pr_fmt` of `mm/memory-failure.c`, Linux 5.10.262 to 7.3.4).
pub(super) const MEMORY_FAILURE: &str = "Memory failure: 0x";

fn memory_failure(machine: &mut Machine, tail: &str) -> bool {
    let Some((digits, _)) = tail.split_once(':') else { return false };
    let number = u64::from_str_radix(digits, 16).ok();
    let start = number.and_then(|pfn| pfn.checked_mul(PageSize::Size4K.bytes()));
    let page = start.and_then(|at| PhysRange::from_len(at, PageSize::Size4K.bytes()).ok());
    if let Some(page) = page {
        push_range(&mut machine.poisoned, page);
    }
    page.is_some()
}

/// Printed where the kernel takes RAM beside the RMP table out of its map
/// (`__snp_fixup_e820_tables()`, `arch/x86/virt/svm/sev.c`).
const RMP_FIXUP: &str = "Reserving start/end of RMP table on a 2MB boundary [";

/// One 2 MiB frame from the address on becomes reserved, as far as it was RAM.
fn rmp_fixup(boot: &mut Boot, line: usize, tail: &str) -> bool {
    let digits = tail.trim_start_matches("0x").split(']').next().unwrap_or_default();
    let start = u64::from_str_radix(digits, 16).ok();
    let frame = start.and_then(|at| PhysRange::from_len(at, PageSize::Size2M.bytes()).ok());
    if let Some(range) = frame {
        let (from, to) = (MemType::Usable, Some(MemType::Reserved));
        boot.push_update(MapUpdate { range, from, to, line });
    } else {
        let text = "the frame reserved beside the RMP table cannot be read".to_owned();
        boot.note(Note { line, text, unreadable: true });
    }
    true
}

/// `Linux version RELEASE (…) #N SMP …`: at the start of a message, or behind the prefix of one inside the
/// line, as where a console lost a line end or a shell prompt stands before it.
pub(super) fn linux_version(rest: &str) -> Option<(&str, &str)> {
    const WORDS: &str = "Linux version ";
    let at = rest.match_indices(WORDS).map(|(at, _)| at);
    let at = at.into_iter().find(|&at| {
        at == 0 || ["] ", "]", "kernel: "].iter().any(|end| rest[..at].ends_with(end))
    })?;
    let tail = &rest[at + WORDS.len()..];
    let (release, banner) = tail.split_once(' ').unwrap_or((tail.trim_end(), ""));
    release.starts_with(|c: char| c.is_ascii_digit()).then_some((release, banner.trim()))
}

/// A command line that is empty in a report was removed from it.
pub(crate) fn set_cmdline(machine: &mut Machine, command: &str) {
    if command.is_empty() || machine.cmdline.is_some() {
        return;
    }
    machine.cmdline = Some(command.to_owned());
    // Both are early parameters (`arch/x86/mm/init_64.c`): the last one wins.
    let last = command.split_ascii_whitespace().rfind(|w| ["nogbpages", "gbpages"].contains(w));
    machine.nogbpages = Some(last == Some("nogbpages"));
}

/// `DMI: VENDOR PRODUCT/BOARD, BIOS VERSION DATE` (`dmi_format_ids()` in `drivers/firmware/dmi_scan.c`).
fn dmi(machine: &mut Machine, ids: &str) -> bool {
    if ids.is_empty() || ids.starts_with("Memory slots") || ids.contains(" present.") {
        return false;
    }
    let (hardware, firmware) = match ids.rsplit_once(", BIOS") {
        Some((hardware, firmware)) => (hardware, Some(firmware)),
        None => (ids.trim_end_matches(','), None),
    };
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    machine.hardware = Some(squeeze(hardware));
    machine.firmware = firmware.map(squeeze).filter(|f| !f.is_empty()).map(|f| format!("BIOS {f}"));
    true
}

/// `XSDT 0x00000000799930B0 0000E4 (v01 _ASUS_ …)`, without `0x` to Linux 3.17
/// (`acpi_tb_print_table_header()` in `drivers/acpi/acpica/tbprint.c`).
fn acpi(boot: &mut Boot, text: &str) -> bool {
    let text = text.trim_start();
    let Some(signature) = text.get(..4).filter(|s| s.bytes().all(|b| b.is_ascii_graphic())) else {
        return false;
    };
    if !text[4..].starts_with(' ') {
        return false;
    }
    let mut c = Cursor::new(text, 4);
    let (Ok(start), true, Ok(length)) = (c.hex(), c.rest().starts_with(' '), c.hex()) else {
        return false;
    };
    // Tables loaded later are listed with virtual addresses: no PhysRange.
    let Ok(range) = PhysRange::from_len(start, length) else { return false };
    let header = c.rest().trim_start();
    if !(header.is_empty() || header.starts_with('(')) {
        return false;
    }
    if signature == "RSDP" {
        boot.machine.rsdp = PhysAddr::new(start);
    }
    if signature == "APIC" {
        // (v05 OEMID_ OEMTABLE …): six characters, trailing spaces trimmed by nobody.
        boot.madt_oem = header
            .find(' ')
            .and_then(|at| header.get(at + 1..at + 7))
            .map(|id| id.trim().to_owned());
    }
    boot.saw_dmar |= signature == "DMAR";
    boot.saw_ivrs |= signature == "IVRS";
    let table = AcpiTable { signature: signature.to_owned(), range };
    let tables = &mut boot.machine.acpi_tables;
    if tables.len() < MAX_ACPI_TABLES && !tables.contains(&table) {
        tables.push(table);
    }
    true
}

fn max_arch_pfn(machine: &mut Machine, text: &str) -> bool {
    let five = match Cursor::new(text, 0).hex() {
        Ok(MAX_ARCH_PFN_4_LEVEL) => false,
        Ok(MAX_ARCH_PFN_5_LEVEL) => true,
        Ok(MAX_ARCH_PFN_32_BIT | MAX_ARCH_PFN_PAE) => {
            machine.kernel_is_32bit = Some(true);
            return true;
        }
        _ => return false,
    };
    machine.kernel_is_32bit = Some(false);
    machine.cpu.la57_active = Some(five);
    if five {
        machine.cpu.la57 = Some(true);
    }
    true
}

/// `Reserving 256MB of memory at 2752MB for crashkernel (…)` to Linux 6.6 (`reserve_crashkernel()` in
/// `arch/x86/kernel/setup.c`); then `crashkernel reserved: 0xA - 0xB (256 MB)`, the end exclusive
/// (`kernel/crash_reserve.c`).
fn crash_kernel(text: &str, body: usize) -> Option<Result<PhysRange, Bad>> {
    const MIB: u64 = 1 << 20;
    let rest = &text[body..];
    if rest.starts_with("Reserving ") && rest.contains(" for crashkernel") {
        let mut c = Cursor::new(text, body + "Reserving ".len());
        let read = |c: &mut Cursor<'_>| -> Result<PhysRange, Bad> {
            let before = *c;
            let size = c.decimal()?;
            c.expect("MB of ")?;
            c.eat("low ");
            c.expect("memory at ")?;
            let start = c.decimal()?;
            c.expect("MB")?;
            let bytes = start.checked_mul(MIB).zip(size.checked_mul(MIB));
            bytes
                .and_then(|(start, size)| PhysRange::from_len(start, size).ok())
                .ok_or_else(|| before.wanted("expected a reservation of physical memory"))
        };
        return Some(read(&mut c));
    }
    for word in ["crashkernel reserved: ", "crashkernel low memory reserved: "] {
        if rest.starts_with(word) {
            let mut c = Cursor::new(text, body + word.len());
            let read = |c: &mut Cursor<'_>| -> Result<PhysRange, Bad> {
                let before = *c;
                let start = c.address()?;
                c.expect("-")?;
                let end = c.hex()?;
                PhysRange::new(start, end)
                    .map_err(|e| before.wanted(&format!("expected a range: {e}")))
            };
            return Some(read(&mut c));
        }
    }
    None
}

/// `A-B]` or `A - B]`, both ends inclusive.
fn inclusive(mut c: Cursor<'_>) -> Result<PhysRange, Bad> {
    let before = c;
    let start = c.address()?;
    c.expect("-")?;
    let last = c.address()?;
    c.expect("]")?;
    PhysRange::from_inclusive(start, last)
        .map_err(|e| before.wanted(&format!("expected a range: {e}")))
}

/// Keeps what was read, or a note that it could not be.
fn record(
    boot: &mut Boot,
    line: usize,
    what: &str,
    result: Result<PhysRange, Bad>,
    keep: impl FnOnce(&mut Machine, PhysRange),
) -> bool {
    match result {
        Ok(range) => keep(&mut boot.machine, range),
        Err(bad) => {
            let text = format!("the range of the {what} cannot be read: {}", bad.expected);
            boot.note(Note { line, text, unreadable: true });
        }
    }
    true
}

/// Facts about the processor and the platform.
fn processor(boot: &mut Boot, rest: &str) -> bool {
    let cpu = &mut boot.machine.cpu;
    if rest.starts_with("Hypervisor detected:") {
        cpu.hypervisor = Some(true);
        return true;
    }
    let cpu0 = rest.strip_prefix("smpboot: CPU0: ").or_else(|| rest.strip_prefix("CPU0: "));
    if let Some((model, vendor)) = cpu0.and_then(|model| Some((model, vendor_of_name(model)?))) {
        let ends = [" (fam", " stepping"].iter().filter_map(|w| model.find(w));
        let end = ends.min().unwrap_or(model.len());
        cpu.vendor = Some(vendor);
        cpu.model = Some(model[..end].split_whitespace().collect::<Vec<_>>().join(" "));
        return true;
    }
    // `tdx_early_init()`; `sev_show_status()`, of guests only (`arch/x86/coco/`); `mem_encrypt_init()` to 5.4.
    let sev = rest.strip_prefix("SEV: Status: ").is_some_and(|words| words.contains("SEV"))
        || rest.contains("AMD Secure Encrypted Virtualization (SEV) active");
    if sev || rest.starts_with("tdx: Guest detected") {
        cpu.encrypted_guest = Some(true);
        cpu.hypervisor = Some(true);
        if sev {
            cpu.sev = Some(true);
            cpu.vendor.get_or_insert(CpuVendor::Amd);
        }
        return true;
    }
    if let Some(at) = rest.find("Memory Encryption Features active:") {
        return encryption(boot, &rest[at..]);
    }
    if rest.starts_with("DMAR: ") || rest.starts_with("DMAR-IR: ") {
        boot.saw_dmar = true;
        return true;
    }
    if rest.starts_with("AMD-Vi: ") {
        boot.saw_ivrs = true;
        return true;
    }
    if rest.starts_with("SEV-SNP: ") && rest.contains("nabled") {
        cpu.snp_host = Some(true);
        cpu.sev = Some(true);
        return true;
    }
    if let Some(text) = rest.strip_prefix("virt/tdx: ") {
        return tdx_host(cpu, text);
    }
    if let Some((_, version)) = rest.split_once(SNP_API) {
        cpu.snp_api = snp_api(version);
        return cpu.snp_api.is_some();
    }
    match rest.strip_prefix("UV: ") {
        Some(uv) => platform_uv(&mut boot.machine, uv),
        None => false,
    }
}

/// `tdx_init()` and `init_tdx_module()` in `arch/x86/virt/vmx/tdx/tdx.c`: "TDX-Module initialized" in 7.3.4,
/// "TDX module initialized" or "module initialized" before.
fn tdx_host(cpu: &mut Cpu, text: &str) -> bool {
    let state = if text.ends_with("odule initialized") {
        TdxHost::Module
    } else if text.starts_with("BIOS enabled: private KeyID range") {
        TdxHost::Platform
    } else {
        return false;
    };
    cpu.tdx_host = cpu.tdx_host.max(Some(state));
    true
}

/// Before the version of AMD's firmware, behind the device's name.
pub(super) const SNP_API: &str = ": SEV-SNP API:";

/// `1.55 build:32` (`__sev_snp_init_locked()` in `drivers/crypto/ccp/sev-dev.c`).
fn snp_api(text: &str) -> Option<(u8, u8)> {
    let (version, _) = text.split_once(' ')?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A maker named in a processor's own name.
pub(crate) fn vendor_of_name(model: &str) -> Option<CpuVendor> {
    [("Hygon", CpuVendor::Hygon), ("AMD", CpuVendor::Amd), ("Intel", CpuVendor::Intel)]
        .into_iter()
        .find(|(word, _)| model.contains(word))
        .map(|(_, vendor)| vendor)
}

/// `AMD Memory Encryption Features active: SME`; `Memory Encryption Features active: Intel TDX`
/// (`print_mem_encrypt_feature_info()` in `arch/x86/mm/mem_encrypt.c`).
fn encryption(boot: &mut Boot, rest: &str) -> bool {
    let cpu = &mut boot.machine.cpu;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let sme = words.contains(&"SME");
    let guest = words.iter().any(|w| w.starts_with("SEV") || *w == "TDX");
    if !sme && !guest {
        return false;
    }
    cpu.sme_active = Some(sme);
    cpu.encrypted_guest = Some(guest);
    cpu.guest_encryption = [
        ("TDX", GuestEncryption::Tdx),
        ("SEV-SNP", GuestEncryption::SevSnp),
        ("SEV-ES", GuestEncryption::SevEs),
        ("SEV", GuestEncryption::Sev),
    ]
    .into_iter()
    .find(|(word, _)| words.contains(word))
    .map(|(_, kind)| kind);
    if guest {
        cpu.hypervisor = Some(true);
    }
    if !words.contains(&"TDX") {
        // SME and SEV are leaf 0x8000001f's; only AMD and Hygon have it.
        cpu.vendor.get_or_insert(CpuVendor::Amd);
        if guest {
            cpu.sev = Some(true);
        }
    }
    true
}

/// `uv_set_system_type()` and `uv_system_init_hub()` in `arch/x86/kernel/apic/x2apic_uv_x.c`.
fn platform_uv(machine: &mut Machine, rest: &str) -> bool {
    if rest.starts_with("NUMA is off") {
        machine.uv = Some(Uv::No);
    } else if let Some(ids) = rest.strip_prefix("OEM IDs ") {
        machine.uv = Some(if rest.contains("HUBLESS") || ids.starts_with("NSGI") {
            Uv::Hubless
        } else {
            Uv::Hubbed
        });
    } else if rest.starts_with("NODE_PRESENT")
        || rest.starts_with("Map ")
        || rest.starts_with("gpa_mask")
    {
        machine.uv = Some(Uv::Hubbed);
    } else {
        return false;
    }
    true
}

/// What follows from all lines of a boot together; see the comments for the evidence.
pub(super) fn conclude(boot: &mut Boot) {
    let from_the_start = boot.starts_at_first_line();
    let machine = &mut boot.machine;
    let virtual_machine = machine.cpu.hypervisor == Some(true) || looks_virtual(machine);
    if machine.cpu.vendor.is_none() && !virtual_machine {
        // An IOMMU table of one maker; hypervisors can offer either.
        machine.cpu.vendor = match (boot.saw_dmar, boot.saw_ivrs) {
            (true, false) => Some(CpuVendor::Intel),
            (false, true) => Some(CpuVendor::Amd),
            _ => None,
        };
    }
    if matches!(machine.cpu.vendor, Some(CpuVendor::Intel | CpuVendor::Other)) {
        // Leaf 0x8000001f is AMD's (APM vol. 3, E.4.17).
        machine.cpu.sev.get_or_insert(false);
    }
    // mem_encrypt_init() has said what is active before the first processor's name is printed.
    let silent = machine.cpu.model.is_some();
    if machine.cpu.encrypted_guest.is_none() && from_the_start && silent {
        machine.cpu.encrypted_guest = Some(false);
    }
    let rsdp_in_rom = machine.rsdp.is_some_and(|at| BIOS_ROM.contains(&at.get()));
    if machine.efi.booted.is_none() && from_the_start && rsdp_in_rom {
        machine.efi.booted = Some(false);
    }
    if machine.uv.is_none()
        && let Some(oem) = &boot.madt_oem
    {
        machine.uv = uv_by_firmware(machine, oem);
    }
}

/// UV by the MADT's OEM ID, which decides before UV5; from UV5 on the archtype in `UVsystab` does, so
/// its presence leaves the answer open, and so does hardware that may be UV under a kernel that cannot tell.
pub(crate) fn uv_by_firmware(machine: &Machine, madt_oem: &str) -> Option<Uv> {
    let says = |text: &Option<String>, word: &str| text.as_ref().is_some_and(|t| t.contains(word));
    if machine.efi.tables.iter().any(|t| t.name == "UVsystab") {
        return match madt_oem {
            oem if oem.starts_with("NSGI") => Some(Uv::Hubless),
            oem if oem.starts_with("SGI") => Some(Uv::Hubbed),
            _ => None,
        };
    }
    let maybe_uv = madt_oem.contains("SGI")
        || says(&machine.hardware, "Superdome")
        || says(&machine.hardware, "SGI")
        || says(&machine.hardware, "UV")
        || says(&machine.efi.version, "by HPE");
    let tables_listed = !machine.efi.tables.is_empty() || machine.efi.booted == Some(false);
    (!maybe_uv && tables_listed).then_some(Uv::No)
}

/// Words of virtual machines in `DMI:`.
fn looks_virtual(machine: &Machine) -> bool {
    const WORDS: [&str; 12] = [
        "QEMU",
        "KVM",
        "Virtual",
        "VMware",
        "Xen",
        "Bochs",
        "innotek",
        "Amazon EC2",
        "Google Compute",
        "OpenStack",
        "Tencent",
        "Nutanix",
    ];
    machine.hardware.as_ref().is_some_and(|h| WORDS.iter().any(|w| h.contains(w)))
}
