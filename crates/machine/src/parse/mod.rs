//! Reading what people paste: boot logs, `/proc/iomem`, `kexec -d` output,
//! dumps of `/sys/firmware/memmap` and of the EFI memory maps.
//!
//! The content decides, not the file's name, and one text may mix all of
//! them. A log with several boots gives one of them, see [`machine`].

mod boot;
pub(crate) mod cursor;
mod damage;
mod e820;
mod efi;
mod error;
mod excerpt;
mod iomem;
mod join;
mod kexec;
mod platform;
mod reader;
mod sysfs;
mod text;

pub use error::ParseError;

pub(crate) use error::Bad;
pub(crate) use excerpt::{LEFT_OUT, Scrub, excerpt};
pub(crate) use iomem::from_iomem;
pub(crate) use platform::{set_cmdline, uv_by_firmware};
pub(crate) use sysfs::Records;

use crate::bundle::Bundle;
use crate::model::{EfiDescriptor, Lost, Machine, MapOrigin, MemMap, Note};

/// Largest input that is read, in bytes (64 MiB): a boot log is below 1 MiB, a week of journal below this.
pub const MAX_INPUT: usize = 64 << 20;

/// Most entries of one memory map or listing. The kernel's own tables end far below:
/// `E820_MAX_ENTRIES` in `arch/x86/include/asm/e820/types.h`.
pub const MAX_ENTRIES: usize = 65_536;

/// Most notes that are kept of one input.
pub const MAX_NOTES: usize = 1024;

/// Reads a machine from a [`Bundle`], or from a text of any known format or a mixture of them.
///
/// `name` is used for [`Machine::source`] and for errors.
///
/// If the text holds several boots, the last one that is complete is used; the boot of a
/// crash-capture kernel (`elfcorehdr=` on its command line) and excerpts without a heading
/// count only if there is no other. A [`Note`] says what was left out. Of several listings of
/// `/proc/iomem`, the last that is at least half as long as the longest is used.
///
/// Lines that begin with `#` are comments. Those of map files may state what the text itself does not say:
/// `# machine: NAME`, `# kernel: RELEASE`, `# efi: yes|no`, `# uv: hubbed|hubless|no`, `# cpu: amd|intel|hygon`.
///
/// # Errors
/// [`ParseError`] with line and caret where a line of a memory map cannot be read, or holds an address
/// past 52 bits: leaving it out would falsify the map. A damaged first or last line of the
/// text is taken for a cut and gives an unreadable [`Note`] instead. [`ParseError`] without a line if the
/// input is larger than [`MAX_INPUT`], or nothing in it is recognised. For a bundle as [`Bundle::read`].
pub fn machine(name: &str, bytes: &[u8]) -> Result<Machine, ParseError> {
    if Bundle::is_in(bytes) {
        return Bundle::read(name, bytes)?.machine(name);
    }
    text(name, bytes)
}

/// As [`machine`], of anything but a [`Bundle`].
pub(crate) fn text(name: &str, bytes: &[u8]) -> Result<Machine, ParseError> {
    reader::read(name, bytes)
}

/// Reads `/sys/firmware/memmap` from its files: pairs of path (at least `N/start`) and contents.
/// An unreadable [`Note`] tells that an entry is missing.
///
/// # Errors
/// [`ParseError`] where a file holds no address, or one past 52 bits, or no file belongs to the directory.
pub fn firmware_memmap<'a>(
    files: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<(MemMap, Vec<Note>), ParseError> {
    let mut notes = Vec::new();
    let (entries, _) = collect(files)?.finish(&mut notes, &mut Lost::default());
    if entries.is_empty() {
        return Err(ParseError::whole(
            "/sys/firmware/memmap",
            "expected files N/start, N/end and N/type",
        ));
    }
    Ok((MemMap { origin: MapOrigin::FirmwareMemmap, entries }, notes))
}

/// Reads `/sys/firmware/efi/runtime-map` from its files: pairs of path (at least `N/phys_addr`) and contents.
///
/// # Errors
/// As [`firmware_memmap`].
pub fn runtime_map<'a>(
    files: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<(Vec<EfiDescriptor>, Vec<Note>), ParseError> {
    let mut notes = Vec::new();
    let (_, descriptors) = collect(files)?.finish(&mut notes, &mut Lost::default());
    if descriptors.is_empty() {
        let expected = "expected files N/type, N/phys_addr and N/num_pages";
        return Err(ParseError::whole("/sys/firmware/efi/runtime-map", expected));
    }
    Ok((descriptors, notes))
}

fn collect<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Records, ParseError> {
    let mut records = Records::default();
    for (path, contents) in files {
        if let Some(Err(bad)) = records.file(path, contents) {
            return Err(ParseError::at_line(path, 1, &String::from_utf8_lossy(contents), &bad));
        }
    }
    Ok(records)
}
