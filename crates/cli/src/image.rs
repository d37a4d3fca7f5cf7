//! The tables of the image that is to be entered: of the running kernel, or out of a bundle.

use identmap::{
    Flags, LeafRun, Level, Levels, PageSize, Paging, PhysRange, Rights, TableCount, VirtAddr,
};
use identmap_audit::ImageTables;
use identmap_linux::Kind;
use identmap_linux::tables::Tables;
use identmap_machine::bundle;
use identmap_machine::{Machine, Segment};

use crate::args::Facts;
use crate::loaded::{self, Wishes};

/// An image's tables, and where it goes.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) segments: Vec<PhysRange>,
    pub(crate) tables: Tables,
}

impl Image {
    /// What the image tells of the machine it is loaded on: where its segments go.
    pub(crate) fn tell(&self, machine: &mut Machine) {
        machine.segments = self.segments.iter().map(|&range| Segment { range }).collect();
    }
}

/// An image that was read, on the machine that is supposed: where it goes is told to the machine in any case, and
/// its tables count where nothing else is supposed of them.
pub(crate) fn on_machine(
    read: Result<Image, String>,
    supposed: &Facts,
    machine: &mut Machine,
) -> Result<Image, String> {
    let image = read?;
    image.tell(machine);
    if supposed.producer.is_some() || supposed.nogbpages {
        return Err("another producer is supposed".to_owned());
    }
    if !supposed.map.is_empty() {
        return Err("another map is supposed".to_owned());
    }
    Ok(image)
}

/// An image's tables as an audit takes them, or why there are none.
pub(crate) fn for_audit(image: &Result<Image, String>) -> ImageTables<'_> {
    match image {
        Ok(image) => ImageTables::Read(&image.tables),
        Err(why) => ImageTables::NotRead(why.clone()),
    }
}

/// Of the running kernel.
///
/// # Errors
/// Why there are none, in a few words.
pub(crate) fn live(machine: &Machine, kind: Kind) -> Result<Image, String> {
    let wishes = Wishes { maxphyaddr: machine.cpu.maxphyaddr, ..Wishes::default() };
    match loaded::read(kind, &wishes) {
        Ok(Some(loaded)) => Ok(Image { segments: loaded.image.segments, tables: loaded.tables }),
        Ok(None) => Err("no image is loaded".to_owned()),
        Err(lost) => Err(lost.join("; ")),
    }
}

/// Out of a bundle's list.
///
/// # Errors
/// Why there are none, in a few words.
pub(crate) fn bundled(all: &[bundle::Tables], kind: Kind) -> Result<Image, String> {
    let found = all.iter().find(|tables| tables.image == of_kind(kind));
    match found.map(|tables| &tables.state) {
        None => Err("only a running kernel's image can be read".to_owned()),
        Some(bundle::TablesState::NotRead(why)) => Err(why.clone()),
        Some(bundle::TablesState::Read(read)) => unpacked(read),
    }
}

/// As a bundle keeps them. Tables that were not read whole are not kept: what is missing in them
/// would look like what is not mapped.
pub(crate) fn packed(kind: Kind, image: Result<Image, String>) -> bundle::Tables {
    let image = image.and_then(|image| {
        if image.tables.is_whole() && image.tables.oddities.is_empty() {
            Ok(image)
        } else {
            Err("the tables could not be read whole".to_owned())
        }
    });
    let state = match image {
        Err(why) => bundle::TablesState::NotRead(why),
        Ok(Image { segments, tables }) => bundle::TablesState::Read(bundle::ReadTables {
            root: tables.root,
            levels: tables.paging.levels.count(),
            maxphyaddr: tables.paging.maxphyaddr,
            pdpe1gb: tables.paging.pdpe1gb,
            encryption_mask: tables.paging.encryption_mask,
            counts: Level::ALL.map(|level| tables.count.of(level)),
            segments,
            leaves: tables.runs.iter().map(packed_run).collect(),
        }),
    };
    bundle::Tables { image: of_kind(kind), state }
}

fn of_kind(kind: Kind) -> bundle::Image {
    match kind {
        Kind::Kexec => bundle::Image::Kexec,
        Kind::Kdump => bundle::Image::Crash,
    }
}

fn packed_run(run: &LeafRun) -> bundle::LeafRun {
    bundle::LeafRun {
        virt: run.virt.get(),
        phys: run.phys,
        page: run.size.bytes(),
        count: run.count,
        flags: run.flags.bits(),
        rights: [run.rights.write, run.rights.user, run.rights.execute],
    }
}

fn unpacked(read: &bundle::ReadTables) -> Result<Image, String> {
    let levels = if read.levels == 5 { Levels::Five } else { Levels::Four };
    let runs = read.leaves.iter().map(unpacked_run).collect::<Result<Vec<LeafRun>, String>>()?;
    let paging = Paging {
        levels,
        maxphyaddr: read.maxphyaddr,
        pdpe1gb: read.pdpe1gb,
        nxe: true,
        encryption_mask: read.encryption_mask,
    };
    let tables = Tables {
        root: read.root,
        paging,
        runs,
        oddities: Vec::new(),
        count: TableCount::from_levels(read.counts),
        cut: false,
    };
    Ok(Image { segments: read.segments.clone(), tables })
}

fn unpacked_run(run: &bundle::LeafRun) -> Result<LeafRun, String> {
    let size = PageSize::ALL.into_iter().find(|size| size.bytes() == run.page);
    let size = size.ok_or("a leaf in it has no size that leaves have")?;
    let [write, user, execute] = run.rights;
    Ok(LeafRun {
        virt: VirtAddr::new(run.virt),
        phys: run.phys,
        size,
        count: run.count,
        flags: Flags::from_bits(run.flags),
        rights: Rights { write, user, execute },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap::{Config, PhysAddr};

    #[test]
    fn tables_come_out_of_a_bundle_as_they_went_in() {
        let range = |start, end| PhysRange::new(start, end).unwrap();
        let run = LeafRun {
            virt: VirtAddr::new(0x4000_0000),
            phys: PhysAddr::new(0x4000_0000).unwrap(),
            size: PageSize::Size1G,
            count: 3,
            flags: Flags::from_bits(0x1e3),
            rights: Rights { write: true, user: false, execute: true },
        };
        let tables = || Tables {
            root: PhysAddr::new(0x1000).unwrap(),
            paging: Config::kexec(Levels::Five, true).paging(),
            runs: vec![run, LeafRun { size: PageSize::Size4K, ..run }],
            oddities: Vec::new(),
            count: TableCount::from_levels([5, 4, 3, 2, 1]),
            cut: false,
        };
        let image = || Image { segments: vec![range(0x1000, 0x3000)], tables: tables() };
        let kept = [packed(Kind::Kexec, Ok(image())), packed(Kind::Kdump, Err("none".to_owned()))];
        let again = bundled(&kept, Kind::Kexec).unwrap();
        assert_eq!((again.segments, again.tables), (image().segments, tables()));
        assert_eq!(bundled(&kept, Kind::Kdump).unwrap_err(), "none");
        assert!(bundled(&[], Kind::Kexec).is_err());

        let mut part = image();
        part.tables.cut = true;
        let kept = [packed(Kind::Kexec, Ok(part))];
        assert!(bundled(&kept, Kind::Kexec).unwrap_err().contains("whole"));
    }
}
