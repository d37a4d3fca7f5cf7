//! The kexec image that is loaded: on this machine now, or in a core file. Read-only.

use std::fs;
use std::io;

use identmap::{Levels, Paging, PhysAddr, VirtAddr, Walk, walk};
use identmap_linux::btf::Btf;
use identmap_linux::kallsyms::Symbols;
use identmap_linux::kimage::{Kernel, KernelError, LoadedImage};
use identmap_linux::memory::{KernelMemory, ReadAt, TablePages, Translated};
use identmap_linux::tables::Tables;
use identmap_linux::vmcore::Core;
use identmap_linux::{Kind, Standing};
use identmap_machine::live::Content;

use crate::disk::Disk;
use crate::live;

/// What to suppose instead of what the kernel and the processor say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) levels: Option<Levels>,
    pub(crate) maxphyaddr: Option<u8>,
    /// Whether entries of a PDPT can be leaves.
    pub(crate) pdpe1gb: bool,
    pub(crate) encryption_mask: Option<u64>,
    /// An address to walk.
    pub(crate) at: Option<VirtAddr>,
    /// Whether the bytes of segments and tables are wanted too.
    pub(crate) content: bool,
}

impl Default for Wishes {
    fn default() -> Wishes {
        let (levels, maxphyaddr, encryption_mask, at) = (None, None, None, None);
        Wishes { levels, maxphyaddr, pdpe1gb: true, encryption_mask, at, content: false }
    }
}

/// A loaded image, and all that its tables map.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) image: LoadedImage,
    pub(crate) tables: Tables,
    pub(crate) walk: Option<Walk>,
    /// Its content, if it was wished for.
    #[cfg_attr(
        not(feature = "preflight"),
        expect(dead_code, reason = "only the emulator runs it")
    )]
    pub(crate) standing: Option<Standing>,
}

/// More than any kernel's `/proc/kallsyms` or BTF takes.
pub(crate) const MAX_FILE: u64 = 128 << 20;

/// Reads the image of a kind out of this machine's memory; `None` if none is loaded.
///
/// # Errors
/// All that was in the way, a sentence each.
pub(crate) fn read(kind: Kind, wishes: &Wishes) -> Result<Option<Loaded>, Vec<String>> {
    let mut lost = Vec::new();
    let mut take = |path: &str| match live::content_up_to(path, MAX_FILE) {
        Content::Bytes(bytes) => Some(bytes),
        Content::Absent | Content::NotRead => {
            lost.push(format!("{path}: there is none"));
            None
        }
        Content::Unreadable(why) => {
            lost.push(format!("{path}: {why}"));
            None
        }
    };
    let kallsyms = take("/proc/kallsyms");
    let types = take("/sys/kernel/btf/vmlinux");
    let core = Disk::open(KCORE).map_err(|error| refusal(&error));
    let core = core.and_then(|disk| Core::open(disk).map_err(|error| format!("{KCORE}: {error}")));
    let core = core.map_err(|why| lost.push(why)).ok();
    let (bits, pdpe1gb) = processor();
    let wishes = Wishes { maxphyaddr: wishes.maxphyaddr.or(bits), pdpe1gb, ..*wishes };
    follow(core.as_ref(), kallsyms.as_deref(), types.as_deref(), lost, kind, &wishes)
}

/// Reads the image of a kind out of a core file, by the symbols and types of the kernel in it. `own` is
/// the kernel's own top table, for files that hold no virtual addresses.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_core<S: ReadAt>(
    core: &Core<S>,
    own: Option<(PhysAddr, Paging)>,
    kallsyms: &[u8],
    types: &[u8],
    kind: Kind,
    wishes: &Wishes,
) -> Result<Option<Loaded>, Vec<String>> {
    let pointer = Symbols::parse(kallsyms).get(symbol(kind));
    let reads = |memory: &dyn KernelMemory| {
        pointer.is_ok_and(|at| memory.read_virt(at, &mut [0; 8]).is_ok())
    };
    // In user mode CR3 may point to the second of two top tables (PTI); the first is the kernel's.
    let translated = own.into_iter().flat_map(|(root, paging)| {
        let first = PhysAddr::new(root.get() & !0x1000);
        [Some(root), first]
            .into_iter()
            .flatten()
            .map(move |root| Translated::new(core, root, paging))
    });
    match translated.into_iter().find(|memory| !reads(core) && reads(memory)) {
        Some(memory) => {
            follow(Some(&memory), Some(kallsyms), Some(types), Vec::new(), kind, wishes)
        }
        None => follow(Some(core), Some(kallsyms), Some(types), Vec::new(), kind, wishes),
    }
}

/// Names all that is wrong at once, then reads.
fn follow<M: KernelMemory>(
    memory: Option<&M>,
    kallsyms: Option<&[u8]>,
    types: Option<&[u8]>,
    mut lost: Vec<String>,
    kind: Kind,
    wishes: &Wishes,
) -> Result<Option<Loaded>, Vec<String>> {
    let symbols = kallsyms.map(Symbols::parse);
    if let Some(Err(why)) = symbols.as_ref().map(|symbols| symbols.get(symbol(kind))) {
        lost.push(format!("{}: {why}", symbol(kind)));
    }
    let btf = match types.map(Btf::parse) {
        Some(Ok(btf)) => Some(btf),
        Some(Err(error)) => {
            lost.push(format!("the kernel's types: {error}"));
            None
        }
        None => None,
    };
    match (memory, symbols, btf) {
        (Some(memory), Some(symbols), Some(btf)) if lost.is_empty() => {
            image(memory, &symbols, &btf, kind, wishes).map_err(|error| vec![error.to_string()])
        }
        _ => Err(lost),
    }
}

fn image<M: KernelMemory>(
    memory: &M,
    symbols: &Symbols,
    btf: &Btf<'_>,
    kind: Kind,
    wishes: &Wishes,
) -> Result<Option<Loaded>, KernelError> {
    let kernel = Kernel::new(memory, symbols, btf)?;
    let mut paging = kernel.paging(wishes.maxphyaddr.unwrap_or(52), wishes.pdpe1gb);
    paging.levels = wishes.levels.unwrap_or(paging.levels);
    paging.encryption_mask = wishes.encryption_mask.unwrap_or(paging.encryption_mask);
    let Some((image, tables)) = kernel.image_tables(kind, paging)? else { return Ok(None) };
    let pages = TablePages::distrusting_zeros(kernel.physical());
    let walk = wishes.at.map(|at| walk(&pages, image.root, &paging, at));
    let standing = wishes.content.then(|| kernel.standing(&image, paging)).transpose()?;
    Ok(Some(Loaded { image, tables, walk, standing }))
}

/// The kernel's own top table in a core file without virtual addresses, and how to read it.
#[cfg(feature = "preflight")]
pub(crate) fn own_tables<S: ReadAt>(core: &Core<S>) -> Option<(PhysAddr, Paging)> {
    let notes = core.notes();
    let processor = notes.processors.iter().find(|processor| processor.is_paging());
    let info = notes.vmcoreinfo.as_ref();
    let by_info = || info.and_then(identmap_linux::vmcore::VmcoreInfo::kernel_root);
    let root = processor.and_then(|processor| processor.root()).or_else(by_info)?;
    let number = |key| info.and_then(|info| info.number(key)).unwrap_or(0);
    let by_processor = processor.map(|processor| processor.is_five_level());
    let five = by_processor.unwrap_or_else(|| number("pgtable_l5_enabled") != 0);
    let mask = number("sme_mask").cast_unsigned();
    let sound = mask.is_power_of_two() && (32..52).contains(&mask.trailing_zeros());
    let encryption_mask = if sound { mask } else { 0 };
    let levels = if five { Levels::Five } else { Levels::Four };
    Some((root, Paging { levels, maxphyaddr: 52, pdpe1gb: true, nxe: true, encryption_mask }))
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
