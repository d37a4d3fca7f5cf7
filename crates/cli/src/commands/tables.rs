//! `identmap tables`.

use std::io;
use std::path::Path;

use identmap::{Levels, Paging, PhysAddr, PhysRange, VirtAddr, walk};
use identmap_linux::Kind;
use identmap_linux::memory::{PhysicalMemory, ReadAt, TablePages};
use identmap_linux::tables::decode;
use identmap_linux::vmcore::{Core, CoreError, Pieces, VmcoreInfo};
use identmap_machine::live::Content;
use identmap_report::{TablesReport, TablesSource};

use crate::args::{Output, Piece, Tables};
use crate::disk::Disk;
use crate::live;
use crate::loaded::{self, Loaded, Wishes};
use crate::output::{Failure, Status};

pub(crate) fn run(args: &Tables, output: &Output) -> Result<Status, Failure> {
    let report = match &args.file {
        Some(file) => of_file(args, file)?,
        None if !args.piece.is_empty() => of_pieces(args)?,
        None => of_loaded(args)?,
    };
    if args.list.is_wanted() {
        output.print_list(report.list(), &args.list)?;
    } else {
        output.print(&report, |style| report.text(style))?;
    }
    Ok(if report.is_complete() { Status::Safe } else { Status::Unknown })
}

fn of_loaded(args: &Tables) -> Result<TablesReport, Failure> {
    if args.cr3.is_some() {
        return Err(Failure::new("--cr3 needs a FILE; the loaded image's root is found by itself"));
    }
    let kind = kind(args);
    let source = TablesSource {
        name: "live".to_owned(),
        what: "the image that is loaded, in this machine's memory".to_owned(),
        root_from: "struct kimage".to_owned(),
        levels_from: from(args.levels.is_some(), "the kernel's own"),
        ..TablesSource::default()
    };
    of_image(source, kind, loaded::read(kind, &wishes(args)))
}

/// The image in a core file, by the symbols and types of the kernel in it.
fn of_image_in_core<S: ReadAt>(
    args: &Tables,
    name: &str,
    core: &Core<S>,
    files: (&Path, &Path),
) -> Result<TablesReport, Failure> {
    let take = |path: &Path| match live::content_up_to(path, loaded::MAX_FILE) {
        Content::Bytes(bytes) => Ok(bytes),
        Content::Absent | Content::NotRead => {
            Err(Failure(format!("{}: no such file", path.display())))
        }
        Content::Unreadable(why) => Err(Failure(format!("{}: {why}", path.display()))),
    };
    let (kallsyms, types) = (take(files.0)?, take(files.1)?);
    let kind = kind(args);
    // A file with virtual addresses needs no root.
    let own = root_of(args, name, core).ok();
    let source = TablesSource {
        name: name.to_owned(),
        what: "the image that is loaded, in an ELF core file".to_owned(),
        root_from: "struct kimage".to_owned(),
        levels_from: from(args.levels.is_some(), "the kernel's own"),
        image: None,
        notes: own.as_ref().map(|own| own.notes.clone()).unwrap_or_default(),
    };
    let own = own.map(|own| {
        let encryption_mask = own.encryption_mask;
        let paging = Paging {
            levels: own.levels,
            maxphyaddr: 52,
            pdpe1gb: true,
            nxe: true,
            encryption_mask,
        };
        (own.root, paging)
    });
    let found = loaded::read_core(core, own, &kallsyms, &types, kind, &wishes(args));
    of_image(source, kind, found)
}

fn of_image(
    mut source: TablesSource,
    kind: Kind,
    found: Result<Option<Loaded>, Vec<String>>,
) -> Result<TablesReport, Failure> {
    match found {
        Ok(Some(loaded)) => {
            source.image = Some(loaded.image);
            Ok(TablesReport::new(&source, &loaded.tables, loaded.walk.as_ref()))
        }
        Ok(None) => {
            let (what, how) = match kind {
                Kind::Kexec => ("kexec image", "kexec -l"),
                Kind::Kdump => ("crash image", "kexec -p"),
            };
            Err(Failure(format!("no {what} is loaded ({how})")))
        }
        Err(lost) => Ok(TablesReport::lost(&source, lost)),
    }
}

fn kind(args: &Tables) -> Kind {
    if args.crash { Kind::Kdump } else { Kind::Kexec }
}

fn wishes(args: &Tables) -> Wishes {
    Wishes {
        levels: levels(args),
        maxphyaddr: args.maxphyaddr,
        encryption_mask: args.encryption_bit.map(|bit| 1 << bit),
        at: args.at.map(VirtAddr::new),
        ..Wishes::default()
    }
}

fn of_file(args: &Tables, file: &Path) -> Result<TablesReport, Failure> {
    let name = file.display();
    let cannot = |error: io::Error| Failure(format!("{name}: {error}"));
    let disk = Disk::open(file).map_err(cannot)?;
    match Core::open(&disk) {
        Ok(core) if args.base.is_none() => match (&args.kallsyms, &args.btf) {
            (Some(kallsyms), Some(btf)) => {
                of_image_in_core(args, &name.to_string(), &core, (kallsyms, btf))
            }
            _ => of_core(args, &name.to_string(), &core),
        },
        Ok(_) => {
            Err(Failure(format!("{name}: --base is for raw images; this is an ELF core file")))
        }
        Err(CoreError::NotElf) => {
            if let Some(what) = other_dump(&disk) {
                return Err(Failure(format!("{name}: {what}")));
            }
            let Some(base) = args.base else {
                let why = "neither an ELF core file, nor --base for a raw image of memory";
                return Err(Failure(format!("{name}: {why}")));
            };
            let size = disk.size().map_err(cannot)?;
            of_images(args, &name.to_string(), "a raw image", vec![(base, size, disk)])
        }
        Err(error) => Err(Failure(format!("{name}: {error}"))),
    }
}

fn of_pieces(args: &Tables) -> Result<TablesReport, Failure> {
    let open = |piece: &Piece| {
        let cannot = |error: io::Error| Failure(format!("{}: {error}", piece.file.display()));
        let disk = Disk::open(&piece.file).map_err(cannot)?;
        let size = disk.size().map_err(cannot)?;
        Ok((piece.base, size, disk))
    };
    let pieces = args.piece.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
    let name = args.piece.iter().map(|piece| piece.file.display().to_string());
    let what = format!("{} pieces of memory", pieces.len());
    of_images(args, &name.collect::<Vec<_>>().join(", "), &what, pieces)
}

/// Raw images, each with the address of its first byte and its size.
fn of_images(
    args: &Tables,
    name: &str,
    what: &str,
    images: Vec<(PhysAddr, u64, Disk)>,
) -> Result<TablesReport, Failure> {
    let root = given_root(args)?.ok_or(Failure(format!("{name}: {what} needs --cr3")))?;
    let mut pieces = Vec::new();
    for (base, size, disk) in images {
        let range = PhysRange::from_len(base.get(), size)
            .map_err(|error| Failure(format!("{name}: {size} bytes at {base}: {error}")))?;
        pieces.push((range, disk));
    }
    let held: Vec<String> = pieces.iter().map(|(range, _)| range.to_string()).collect();
    let memory = Pieces::new(pieces).map_err(|error| Failure(format!("{name}: {error}")))?;
    let source = TablesSource {
        name: name.to_owned(),
        what: format!("{what}, {}", held.join(", ")),
        root_from: "--cr3".to_owned(),
        levels_from: from(args.levels.is_some(), "supposed"),
        ..TablesSource::default()
    };
    let levels = levels(args).unwrap_or(Levels::Four);
    Ok(decoded(args, &source, &memory, root, levels, 0))
}

fn of_core<S: ReadAt>(args: &Tables, name: &str, core: &Core<S>) -> Result<TablesReport, Failure> {
    let root = root_of(args, name, core)?;
    let source = TablesSource {
        name: name.to_owned(),
        what: "an ELF core file".to_owned(),
        root_from: root.root_from,
        levels_from: root.levels_from.to_owned(),
        image: None,
        notes: root.notes,
    };
    Ok(decoded(args, &source, core, root.root, root.levels, root.encryption_mask))
}

/// Where a core file's tables begin, and how to read them.
struct Start {
    root: PhysAddr,
    root_from: String,
    levels: Levels,
    levels_from: &'static str,
    encryption_mask: u64,
    notes: Vec<String>,
}

fn root_of<S: ReadAt>(args: &Tables, name: &str, core: &Core<S>) -> Result<Start, Failure> {
    let info = core.notes().vmcoreinfo.as_ref();
    let mut notes: Vec<String> = core.notes().unreadable.iter().cloned().collect();
    let (root, root_from, by_cr4) = match (given_root(args)?, core.notes().processors.get(args.cpu))
    {
        (Some(root), _) => (root, "--cr3".to_owned(), None),
        (None, Some(processor)) => {
            let of = core.notes().processors.len();
            let from = format!("CR3 of processor {} of {of}", args.cpu);
            if !processor.is_paging() {
                let why = "paging is off on this processor (CR0.PG): there are no tables";
                return Err(Failure(format!("{name}: {why}")));
            }
            // Linux keeps the user's top table in the second of two pages (PTI_USER_PGTABLE_BIT).
            if processor.cr3 & 0x1000 != 0 {
                notes.push("CR3 may point to the tables of user mode (PTI)".to_owned());
            }
            let root = processor.root().unwrap_or(PhysAddr::ZERO);
            (root, from, Some((processor.is_five_level(), "CR4")))
        }
        (None, None) if args.cpu != 0 => {
            let of = core.notes().processors.len();
            return Err(Failure(format!("--cpu {}: {name} has CR3 of {of} processors", args.cpu)));
        }
        (None, None) => {
            let Some(root) = info.and_then(VmcoreInfo::kernel_root) else {
                let why = "no CR3 and no VMCOREINFO in its notes: say --cr3";
                return Err(Failure(format!("{name}: {why}")));
            };
            (root, "the kernel's own, by VMCOREINFO".to_owned(), None)
        }
    };
    let by_info = info.and_then(|info| info.number("pgtable_l5_enabled"));
    let told = by_cr4.or(by_info.map(|five| (five != 0, "VMCOREINFO")));
    let (levels, levels_from) = match (levels(args), told) {
        (Some(levels), _) => (levels, "--levels"),
        (None, Some((true, from))) => (Levels::Five, from),
        (None, Some((false, from))) => (Levels::Four, from),
        (None, None) => (Levels::Four, "supposed"),
    };
    let mask = info.and_then(|info| info.number("sme_mask")).unwrap_or(0).cast_unsigned();
    let sound = mask.is_power_of_two() && (32..52).contains(&mask.trailing_zeros());
    if mask != 0 && !sound {
        notes.push(format!("VMCOREINFO's sme_mask cannot be {mask:#x}"));
    }
    let encryption_mask = if sound { mask } else { 0 };
    Ok(Start { root, root_from, levels, levels_from, encryption_mask, notes })
}

fn decoded<M: PhysicalMemory>(
    args: &Tables,
    source: &TablesSource,
    memory: &M,
    root: PhysAddr,
    levels: Levels,
    encryption_mask: u64,
) -> TablesReport {
    let encryption_mask = args.encryption_bit.map_or(encryption_mask, |bit| 1 << bit);
    let maxphyaddr = args.maxphyaddr.unwrap_or(52);
    let paging = Paging { levels, maxphyaddr, pdpe1gb: true, nxe: true, encryption_mask };
    let pages = TablePages::new(memory);
    let tables = decode(&pages, root, paging);
    let walked = args.at.map(|at| walk(&pages, root, &paging, VirtAddr::new(at)));
    TablesReport::new(source, &tables, walked.as_ref())
}

/// `--cr3`, without its flags (SDM vol. 3A, table 4-12: bits 0-11 are flags or a PCID, 61 and 62 LAM)
/// and without the encryption bit.
fn given_root(args: &Tables) -> Result<Option<PhysAddr>, Failure> {
    let Some(cr3) = args.cr3 else { return Ok(None) };
    let encryption_mask = args.encryption_bit.map_or(0, |bit| 1 << bit);
    match PhysAddr::new(cr3 & 0x9fff_ffff_ffff_f000 & !encryption_mask) {
        Some(root) => Ok(Some(root)),
        None => Err(Failure(format!("--cr3 {cr3:#x}: past the 52 bits of a physical address"))),
    }
}

fn levels(args: &Tables) -> Option<Levels> {
    args.levels.as_deref().map(|text| if text == "5" { Levels::Five } else { Levels::Four })
}

fn from(given: bool, otherwise: &str) -> String {
    if given { "--levels".to_owned() } else { otherwise.to_owned() }
}

/// Dumps that people have and this command does not read, by their first bytes.
fn other_dump(disk: &Disk) -> Option<&'static str> {
    let mut start = [0; 16];
    disk.read_at(0, &mut start).ok()?;
    if start.starts_with(b"KDUMP   ") {
        Some("a compressed dump (makedumpfile -c, -l or -z); make an ELF one with makedumpfile -E")
    } else if start.starts_with(b"makedumpfile") {
        Some(
            "a flattened dump (makedumpfile -F, or QEMU's dump-guest-memory -z); \
             dump without compression, or make an ELF one with makedumpfile -R, then -E",
        )
    } else if start.starts_with(b"EMiL") {
        Some("a LiME dump; make an ELF or raw one (format=raw), or use --piece with --base")
    } else {
        None
    }
}
