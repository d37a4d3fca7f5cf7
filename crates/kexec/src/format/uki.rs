//! A unified kernel image: a PE file whose sections are a kernel and what belongs to it
//! (UAPI group specification "Unified Kernel Image"; systemd-stub(7)).

use core::fmt;

use object::LittleEndian;
use object::pe::{IMAGE_FILE_MACHINE_AMD64, ImageDosHeader, ImageNtHeaders64, ImageSectionHeader};
use object::read::pe::ImageNtHeaders;

/// Why a PE file is no UKI that can be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UkiError {
    /// The headers lie outside the file, or it is not PE32+.
    Header,
    /// It is for another machine: its `Machine` field.
    Machine(u16),
    /// It has no `.linux` section: some other EFI program.
    NoKernel,
    /// A section's bytes lie outside the file.
    Cut(&'static str),
    /// A section that has to be text is not UTF-8.
    Text(&'static str),
}

impl fmt::Display for UkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UkiError::Header => f.write_str("not a 64-bit PE file with all its headers"),
            UkiError::Machine(machine) => {
                write!(f, "an EFI program for another architecture (machine {machine:#x})")
            }
            UkiError::NoKernel => f.write_str("an EFI program without a .linux section"),
            UkiError::Cut(name) => write!(f, "the file ends before its section {name} does"),
            UkiError::Text(name) => write!(f, "section {name} is not text"),
        }
    }
}

impl core::error::Error for UkiError {}

pub(super) struct Uki {
    pub(super) linux: Vec<u8>,
    pub(super) initrd: Option<Vec<u8>>,
    pub(super) cmdline: Option<String>,
    pub(super) uname: Option<String>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Uki, UkiError> {
    let dos = ImageDosHeader::parse(bytes).map_err(|_| UkiError::Header)?;
    let mut offset = dos.nt_headers_offset().into();
    let (nt, _) = ImageNtHeaders64::parse(bytes, &mut offset).map_err(|_| UkiError::Header)?;
    let machine = nt.file_header().machine.get(LittleEndian);
    if machine != IMAGE_FILE_MACHINE_AMD64 {
        return Err(UkiError::Machine(machine.0));
    }
    let table = nt.sections(bytes, offset).map_err(|_| UkiError::Header)?;
    let sections: Vec<&ImageSectionHeader> = table.iter().collect();
    let parts = Parts { bytes, base: &sections, profile: &[] }.split();
    let linux = parts.bytes(".linux")?.ok_or(UkiError::NoKernel)?;
    let initrd = parts.bytes(".initrd")?.map(<[u8]>::to_vec);
    // Microcode is found at the front alone; the next archive begins at a multiple of four.
    let initrd = match (parts.bytes(".ucode")?, initrd) {
        (Some(microcode), initrd) => {
            let mut both = microcode.to_vec();
            both.resize(both.len().next_multiple_of(4), 0);
            both.extend(initrd.unwrap_or_default());
            Some(both)
        }
        (None, initrd) => initrd,
    };
    let (cmdline, uname) = (parts.text(".cmdline")?, parts.text(".uname")?);
    Ok(Uki { linux: linux.to_vec(), initrd, cmdline, uname })
}

/// Sections of a file: those of the profile that is used, and those of all profiles. A section
/// `.profile` begins a profile; what lies before the first belongs to all. Profile 0 is used
/// if none is asked for (systemd `src/boot/stub.c`, `find_sections()`, 257). Of two sections with
/// the same name the first counts, and one of no bytes is none.
struct Parts<'a> {
    bytes: &'a [u8],
    base: &'a [&'a ImageSectionHeader],
    profile: &'a [&'a ImageSectionHeader],
}

impl<'a> Parts<'a> {
    fn split(self) -> Parts<'a> {
        let mut parts = self.base.split(|section| is(section, ".profile"));
        let (base, profile) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Parts { base, profile, ..self }
    }

    fn bytes(&self, name: &'static str) -> Result<Option<&'a [u8]>, UkiError> {
        let mut all = self.profile.iter().chain(self.base);
        let size = |section: &ImageSectionHeader| section.virtual_size.get(LittleEndian);
        let Some(section) = all.find(|section| is(section, name) && size(section) != 0) else {
            return Ok(None);
        };
        // In the file it is padded to the alignment of sections.
        let len = section.size_of_raw_data.get(LittleEndian).min(size(section)) as usize;
        let start = section.pointer_to_raw_data.get(LittleEndian) as usize;
        let bytes = start.checked_add(len).and_then(|end| self.bytes.get(start..end));
        bytes.map(Some).ok_or(UkiError::Cut(name))
    }

    /// Up to the first zero, control characters as blanks, trimmed: what systemd-stub hands on.
    fn text(&self, name: &'static str) -> Result<Option<String>, UkiError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = core::str::from_utf8(bytes).map_err(|_| UkiError::Text(name))?;
        let text = text.replace(char::is_control, " ").trim().to_owned();
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

fn is(section: &ImageSectionHeader, name: &str) -> bool {
    let end = section.name.iter().position(|byte| *byte == 0).unwrap_or(section.name.len());
    section.name[..end] == *name.as_bytes()
}
