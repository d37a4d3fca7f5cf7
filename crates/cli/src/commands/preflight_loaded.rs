//! `identmap preflight --loaded`: from the jump into the image that is loaded, purgatory included.

use identmap::PhysRange;
use identmap_linux::vmcore::Core;
use identmap_linux::{Consumer, Kind, Standing};
use identmap_machine::live::Content as Bytes;
use identmap_machine::{Layout, Machine};
use identmap_preflight::{
    Content, CpuProfile, Limits, Outcome, Segments, StandingTables, hashed_here, with_facts,
};

use super::preflight::{PreflightReport, Run, emulate};
use crate::args::{Core as CoreFiles, Preflight};
use crate::disk::Disk;
use crate::live;
use crate::loaded::{self, Loaded, Wishes};
use crate::output::Failure;
use crate::source;

pub(super) fn report(
    args: &Preflight,
    machine: &Machine,
    layout: &Layout,
    known: &[Content],
) -> Result<PreflightReport, Failure> {
    let kind = args.kind();
    let wishes = Wishes { content: true, maxphyaddr: machine.cpu.maxphyaddr, ..Wishes::default() };
    let read = match &args.core {
        CoreFiles { file: Some(_), .. } => of_core(&args.core, kind, &wishes)?,
        _ => loaded::read(kind, &wishes),
    };
    let found = read.map_err(|lost| Failure(lost.join("; ")))?;
    let what = match kind {
        Kind::Kexec => "kexec image",
        Kind::Kdump => "crash image",
    };
    let Some(Loaded { image, tables, standing: Some(standing), .. }) = found else {
        return Err(Failure(format!("no {what} is loaded")));
    };
    let (known, mut assumptions) = with_facts(machine, known);
    let contents = named(&standing, image.start.get());
    let bytes = contents.iter().map(|content| content.range.len()).sum();
    let segments = Segments {
        machine,
        layout,
        contents: &contents,
        entry: image.start,
        own_tables: &[],
        kind,
        cpu: args.cpu.map_or_else(|| CpuProfile::of(&machine.cpu), |cpu| cpu.on(&machine.cpu)),
        known: &known,
        limits: args.limits(Limits::for_purgatory(bytes)),
    };
    let stand = StandingTables {
        root: image.root,
        paging: tables.paging,
        pages: &standing.tables,
        stack: standing.stack,
    };
    // A purgatory may switch to tables that were loaded with it, as `identmap load`'s does. No more
    // segments than there are, so this ends.
    let scene = segments.on(&stand).map_err(Failure::new)?;
    let (mut scene, hashed) = hashed_here(scene);
    assumptions.extend(hashed);
    let report = loop {
        let report = emulate(&scene).map_err(Failure::new)?;
        let switched = match report.outcome {
            Outcome::Reached { cr3 } => segments.loaded_tables(cr3, &stand.paging),
            _ => None,
        };
        match switched {
            Some(range) if !scene.tables.contains(&range) => scene.tables.push(range),
            _ => break report,
        }
    };
    let kernel = contents.iter().find(|content| content.name == "kernel");
    let entered = contents.iter().find(|content| content.range.contains(image.start));
    let place = kernel.or(entered).map(|content| content.range);
    let runs = vec![Run::new("the loaded image's own tables".to_owned(), &report)];
    let what = format!("the loaded {what}");
    let kernels = (&source::producer(machine), &Consumer::default());
    Ok(PreflightReport::new(what, machine, kernels, kind, place, assumptions, runs))
}

fn of_core(
    files: &CoreFiles,
    kind: Kind,
    wishes: &Wishes,
) -> Result<Result<Option<Loaded>, Vec<String>>, Failure> {
    let (Some(core), Some(kallsyms), Some(btf)) = (&files.file, &files.kallsyms, &files.btf) else {
        return Err(Failure::new("--core needs --kallsyms and --btf of the same kernel"));
    };
    let take = |path: &std::path::Path| match live::content_up_to(path, loaded::MAX_FILE) {
        Bytes::Bytes(bytes) => Ok(bytes),
        _ => Err(Failure(format!("{}: cannot be read", path.display()))),
    };
    let (kallsyms, btf) = (take(kallsyms)?, take(btf)?);
    let cannot = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", core.display()));
    let disk = Disk::open(core).map_err(|error| cannot(&error))?;
    let core = Core::open(disk).map_err(|error| cannot(&error))?;
    let own = loaded::own_tables(&core);
    Ok(loaded::read_core(&core, own, &kallsyms, &btf, kind, wishes))
}

/// The segments by what is in them, as far as that shows.
fn named(standing: &Standing, start: u64) -> Vec<Content> {
    let params = standing.segments.iter().find(|(_, bytes)| is_boot_params(bytes));
    let word = |at: usize| {
        let bytes = params.and_then(|(_, bytes)| bytes.get(at..at + 4)?.try_into().ok());
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)))
    };
    // ramdisk_image, init_size (Linux Documentation/arch/x86/boot.rst, zero-page.rst).
    let (initrd, init_size) = (word(0x218) | word(0xc0) << 32, word(0x260));
    let name = |index: usize, range: PhysRange, bytes: &[u8]| {
        if range.start().get() <= start && start < range.end().get() {
            "purgatory".to_owned()
        } else if is_boot_params(bytes) {
            "boot_params".to_owned()
        } else if initrd != 0 && range.start().get() == initrd {
            "initrd".to_owned()
        } else if init_size != 0 && range.len() == init_size.next_multiple_of(4096) {
            "kernel".to_owned()
        } else if bytes.starts_with(b"\x7fELF") {
            "ELF core header".to_owned()
        } else {
            format!("segment {index}")
        }
    };
    let content = |(index, (range, bytes)): (usize, &(PhysRange, Vec<u8>))| Content {
        name: name(index, *range, bytes),
        range: *range,
        bytes: bytes.clone(),
        loaded: true,
    };
    standing.segments.iter().enumerate().map(content).collect()
}

/// The setup header in its place (boot.rst, "The Real-Mode Kernel Header"), filled in by a loader: `type_of_loader`.
fn is_boot_params(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS") && bytes.get(0x210).is_some_and(|&loader| loader != 0)
}
