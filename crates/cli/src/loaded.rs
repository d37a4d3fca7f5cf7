//! The kexec image that is loaded on this machine now, read-only.

use std::fs;
use std::io;

use identmap_linux::Kind;
use identmap_linux::btf::Btf;
use identmap_linux::kallsyms::Symbols;
use identmap_linux::kimage::{Kernel, KernelError, LoadedImage};
use identmap_linux::memory::TablePages;
use identmap_linux::tables::Tables;
use identmap_linux::vmcore::Core;
use identmap_machine::live::Content;

use identmap::{Levels, VirtAddr, Walk, walk};

use crate::disk::Disk;
use crate::live;

/// What to suppose instead of what the kernel and the processor say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) levels: Option<Levels>,
    pub(crate) maxphyaddr: Option<u8>,
    pub(crate) encryption_mask: Option<u64>,
    /// An address to walk.
    pub(crate) at: Option<VirtAddr>,
}

/// A loaded image, and all that its tables map.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) image: LoadedImage,
    pub(crate) tables: Tables,
    pub(crate) walk: Option<Walk>,
}

/// More than any kernel's `/proc/kallsyms` or BTF takes.
const MAX_FILE: u64 = 128 << 20;

/// Reads the image of a kind; `None` if none is loaded.
///
/// # Errors
/// All that was in the way, a sentence each.
pub(crate) fn read(kind: Kind, wishes: &Wishes) -> Result<Option<Loaded>, Vec<String>> {
    let mut lost = Vec::new();
    let mut take = |path: &str| match live::content_up_to(path, MAX_FILE) {
        Content::Bytes(bytes) => bytes,
        Content::Absent | Content::NotRead => {
            lost.push(format!("{path}: there is none"));
            Vec::new()
        }
        Content::Unreadable(why) => {
            lost.push(format!("{path}: {why}"));
            Vec::new()
        }
    };
    let kallsyms = take("/proc/kallsyms");
    let types = take("/sys/kernel/btf/vmlinux");
    let core = Disk::open(KCORE).map_err(|error| refusal(&error));
    let core = core.and_then(|disk| Core::open(disk).map_err(|error| format!("{KCORE}: {error}")));
    let core = core.map_err(|why| lost.push(why));
    let symbols = Symbols::parse(&kallsyms);
    if !kallsyms.is_empty()
        && let Err(why) = symbols.get(symbol(kind))
    {
        lost.push(format!("{}: {why}", symbol(kind)));
    }
    let btf = Btf::parse(&types);
    if let (false, Err(error)) = (types.is_empty(), &btf) {
        lost.push(format!("/sys/kernel/btf/vmlinux: {error}"));
    }
    let (Ok(core), Ok(btf), true) = (core, btf, lost.is_empty()) else {
        return Err(lost);
    };
    follow(&core, &symbols, &btf, kind, wishes).map_err(|error| vec![error.to_string()])
}

fn follow(
    core: &Core<Disk>,
    symbols: &Symbols,
    btf: &Btf<'_>,
    kind: Kind,
    wishes: &Wishes,
) -> Result<Option<Loaded>, KernelError> {
    let kernel = Kernel::new(core, symbols, btf)?;
    let (bits, pdpe1gb) = processor();
    let mut paging = kernel.paging(wishes.maxphyaddr.or(bits).unwrap_or(52), pdpe1gb);
    paging.levels = wishes.levels.unwrap_or(paging.levels);
    paging.encryption_mask = wishes.encryption_mask.unwrap_or(paging.encryption_mask);
    let Some((image, tables)) = kernel.image_tables(kind, paging)? else { return Ok(None) };
    let pages = TablePages::distrusting_zeros(kernel.physical());
    let walk = wishes.at.map(|at| walk(&pages, image.root, &paging, at));
    Ok(Some(Loaded { image, tables, walk }))
}

const KCORE: &str = "/proc/kcore";

/// The variable that points to an image.
fn symbol(kind: Kind) -> &'static str {
    match kind {
        Kind::Kexec => "kexec_image",
        Kind::Kdump => "kexec_crash_image",
    }
}

/// Why `/proc/kcore` cannot be opened.
fn refusal(error: &io::Error) -> String {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let why = match error.kind() {
        io::ErrorKind::NotFound => "; the kernel was built without CONFIG_PROC_KCORE, or hides it",
        io::ErrorKind::PermissionDenied if lockdown.contains("[confidentiality]") => {
            "; the kernel is locked down (confidentiality)"
        }
        io::ErrorKind::PermissionDenied => "; it takes root with CAP_SYS_RAWIO",
        _ => "",
    };
    format!("{KCORE}: {error}{why}")
}

/// MAXPHYADDR and pdpe1gb of this processor (CPUID 0x80000008.EAX[7:0], 0x80000001.EDX[26]).
fn processor() -> (Option<u8>, bool) {
    let leaves = live::cpuid();
    let leaf = |number| leaves.iter().find(|leaf| leaf.leaf == number);
    let bits = leaf(0x8000_0008).map(|leaf| (leaf.eax & 0xff) as u8);
    let pdpe1gb = leaf(0x8000_0001).is_none_or(|leaf| leaf.edx >> 26 & 1 == 1);
    (bits.filter(|bits| (32..=52).contains(bits)), pdpe1gb)
}
