//! A kernel made by hand: what is found of its loaded image, and what is refused when its memory,
//! its symbols or its types lie.

mod support;

use std::cell::Cell;

use identmap::{Levels, PhysAddr, PhysRange, VirtAddr};
use identmap_linux::btf::Btf;
use identmap_linux::kallsyms::{NoSymbol, Symbols};
use identmap_linux::kimage::{Kernel, KernelError, LoadedImage, RootPlace};
use identmap_linux::memory::{KernelMemory, PhysicalMemory, Translated, Unreadable};
use identmap_linux::tables::{Oddity, Tables};
use identmap_linux::vmcore::Core;
use identmap_linux::{Kind, Standing};

use support::{CONTROL, FakeKernel, IMAGE, IMAGE_AT, KIMAGE, Made, OWN_ROOT, TABLES, put, range};

const MADE: Made = Made { levels: Levels::Four, own_page: true, kind: Kind::Kexec };

type Answer = Result<Option<(LoadedImage, Tables)>, KernelError>;

fn ask<M: KernelMemory>(memory: &M, fake: &FakeKernel, kind: Kind) -> Answer {
    let symbols = Symbols::parse(fake.kallsyms.as_bytes());
    let btf = Btf::parse(&fake.btf).unwrap();
    let kernel = Kernel::new(memory, &symbols, &btf)?;
    kernel.image_tables(kind, kernel.paging(46, true))
}

fn answer(fake: &FakeKernel) -> Answer {
    ask(&Core::open(fake.kcore()).unwrap(), fake, fake.made.kind)
}

fn refusal(change: impl FnOnce(&mut FakeKernel)) -> KernelError {
    let mut fake = FakeKernel::new(MADE);
    change(&mut fake);
    answer(&fake).unwrap_err()
}

#[test]
fn the_image_and_its_tables_are_found_in_every_layout_from_inside_and_from_outside() {
    for made in Made::all() {
        let fake = FakeKernel::new(made);
        let inside = Core::open(fake.kcore()).unwrap();
        let dump = Core::open(fake.dump()).unwrap();
        let [processor] = dump.notes().processors[..] else { panic!("{:?}", dump.notes()) };
        assert_eq!(processor.root().unwrap().get(), OWN_ROOT);
        assert_eq!(processor.is_five_level(), made.levels == Levels::Five);
        let paging = identmap::Config::kexec(made.levels, true).paging();
        let outside = Translated::new(&dump, processor.root().unwrap(), paging);
        for answer in [ask(&inside, &fake, made.kind), ask(&outside, &fake, made.kind)] {
            let (image, tables) = answer.unwrap().unwrap();
            assert_eq!(image.kind, made.kind);
            assert_eq!(image.structure.get(), made.bases().0 + KIMAGE);
            assert_eq!(image.root.get(), fake.root, "{made:?}");
            let place = if made.own_page { RootPlace::OwnPage } else { RootPlace::ControlPage };
            assert_eq!(image.root_in, place);
            assert_eq!(image.control_page.get(), CONTROL);
            assert_eq!((image.start.get(), image.head), (0x10_0760, CONTROL | 8));
            let segments = [range(0x10_0000, 0x10_1000), range(0x70_0000, 0x70_8000)];
            assert_eq!(image.segments, segments, "the empty one is left out");
            assert!(tables.is_whole() && tables.oddities.is_empty());
            assert_eq!(tables.paging.levels, made.levels);
            let runs = tables.runs.iter().map(|run| {
                assert_eq!(run.virt.get(), run.phys.get());
                (run.phys.get(), run.size, run.count)
            });
            let planned = fake.runs.iter().map(|r| (r.range().start().get(), r.size(), r.count()));
            assert!(runs.eq(planned), "{made:?}");
        }
        let other = if made.kind == Kind::Kexec { Kind::Kdump } else { Kind::Kexec };
        assert_eq!(ask(&inside, &fake, other), Ok(None), "the other slot is empty");
    }
}

#[test]
fn the_producers_own_requests_are_read() {
    let fake = FakeKernel::new(MADE);
    let core = Core::open(fake.kcore()).unwrap();
    let symbols = Symbols::parse(fake.kallsyms.as_bytes());
    let btf = Btf::parse(&fake.btf).unwrap();
    let kernel = Kernel::new(&core, &symbols, &btf).unwrap();
    let mapped = [range(0, 0x10_0000), range(0x10_0000, 0x80_0000)];
    assert_eq!(kernel.pfn_mapped().unwrap(), mapped);
    assert_eq!(kernel.efi_config_table().unwrap().map(PhysAddr::get), Some(0x7f_5000));
    assert_eq!(kernel.direct_map().get(), MADE.bases().0);
    let mut bytes = [0; 8];
    kernel.read_phys(PhysAddr::new(KIMAGE + 8).unwrap(), &mut bytes).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 0x10_0760);
}

#[test]
fn each_missing_symbol_is_named() {
    for name in ["page_offset_base", "vmemmap_base", "kexec_image"] {
        let error = refusal(|fake| {
            let keep = |line: &&str| line.split(' ').nth(2) != Some(name);
            fake.kallsyms = fake.kallsyms.lines().filter(keep).collect::<Vec<_>>().join("\n");
            fake.kallsyms += "\nffffffff81000000 D phys_base\n";
        });
        assert_eq!(error, KernelError::Symbol { name, why: NoSymbol::Absent });
    }
    let error = refusal(|fake| {
        let lines = fake.kallsyms.lines().map(|line| format!("{:016}{}", 0, &line[16..]));
        fake.kallsyms = lines.collect::<Vec<_>>().join("\n");
    });
    assert_eq!(error, KernelError::Symbol { name: "page_offset_base", why: NoSymbol::Hidden });
}

#[test]
fn a_kernel_without_the_optional_variables_is_read_all_the_same() {
    let mut fake = FakeKernel::new(MADE);
    let keep = |line: &&str| !line.ends_with("sme_me_mask") && !line.ends_with("l5_enabled");
    fake.kallsyms = fake.kallsyms.lines().filter(keep).collect::<Vec<_>>().join("\n");
    assert!(answer(&fake).unwrap().unwrap().1.is_whole());
}

#[test]
fn the_encryption_bit_is_taken_from_the_kernel() {
    let mut fake = FakeKernel::new(MADE);
    let bit = 1 << 51;
    put(&mut fake.ram, IMAGE_AT + 0x1030, bit);
    // Every entry of the root and what is below carries it.
    for at in (TABLES..TABLES + 0x8000).step_by(8) {
        let entry = u64::from_le_bytes(fake.ram[at as usize..][..8].try_into().unwrap());
        if entry & 1 != 0 {
            put(&mut fake.ram, at, entry | bit);
        }
    }
    let (_, tables) = answer(&fake).unwrap().unwrap();
    assert_eq!(tables.paging.encryption_mask, bit);
    assert_eq!(tables.runs.len(), fake.runs.len());
    assert!(tables.oddities.is_empty());
    put(&mut fake.ram, IMAGE_AT + 0x1030, 3);
    let error = answer(&fake).unwrap_err();
    assert_eq!(error, KernelError::Implausible { what: "sme_me_mask", value: 3 });
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    let (direct, vmemmap) = MADE.bases();
    let kimage = |at: u64| KIMAGE + at;
    let variable = |at: u64| IMAGE_AT + 0x1000 + at;
    let cases = [
        (variable(0), 0x8880_0000_0000, "page_offset_base"),
        (variable(0), direct + 4096, "page_offset_base"),
        (variable(8), direct, "vmemmap_base"),
        (variable(0x38), 1, "__pgtable_l5_enabled"),
        (variable(0x10), 0x1000, "pointer to struct kimage"),
        (variable(0x10), u64::MAX, "pointer to struct kimage"),
        (kimage(32 + 128), 0b010, "kimage.type"),
        (kimage(16), vmemmap + 1, "kimage.control_code_page"),
        (kimage(16), 0, "kimage.control_code_page"),
        (kimage(16), u64::MAX - 63, "kimage.control_code_page"),
        (kimage(24), 5, "kimage.nr_segments"),
        (kimage(24), u64::MAX, "kimage.nr_segments"),
        (kimage(8), u64::MAX, "kimage.start"),
        (kimage(32 + 136), direct - 4096, "kimage.arch.pgd"),
        (kimage(32 + 136), direct + TABLES + 8, "kimage.arch.pgd"),
        (kimage(32 + 136), vmemmap, "kimage.arch.pgd"),
    ];
    for (at, value, expected) in cases {
        let error = refusal(|fake| put(&mut fake.ram, at, value));
        let KernelError::Implausible { what, .. } = error else { panic!("{expected}: {error}") };
        assert_eq!(what, expected, "{value:#x}");
    }
    let error = refusal(|fake| put(&mut fake.ram, kimage(32 + 24), u64::MAX));
    assert!(matches!(error, KernelError::Range { what: "kimage.segment", .. }), "{error}");
}

#[test]
fn a_table_that_is_not_there_or_reads_as_zeros_is_unreadable() {
    let mut fake = FakeKernel::new(MADE);
    fake.ram[TABLES as usize..][..4096].fill(0);
    let (_, tables) = answer(&fake).unwrap().unwrap();
    assert!(!tables.is_whole());
    assert!(matches!(tables.oddities[..], [Oddity::Unreadable { .. }]), "{tables:?}");

    let mut fake = FakeKernel::new(MADE);
    put(&mut fake.ram, TABLES, 0x4000_0063); // past the end of memory
    let (_, tables) = answer(&fake).unwrap().unwrap();
    assert!(!tables.is_whole());
    let Oddity::Unreadable { virt, table, .. } = tables.oddities[0] else { panic!("{tables:?}") };
    assert_eq!((virt.get(), table.get()), (0, 0x4000_0000));
    assert_eq!(tables.runs.len(), 1, "what lies 1 TiB up is still found");
}

/// Memory in which the image is replaced after so many reads.
struct Restless<'m, M> {
    memory: &'m M,
    reads: Cell<u32>,
    after: u32,
}

impl<M: KernelMemory> KernelMemory for Restless<'_, M> {
    fn read_virt(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        self.reads.set(self.reads.get() + 1);
        self.memory.read_virt(at, buffer)?;
        if at.get() == MADE.bases().0 + KIMAGE && self.reads.get() > self.after {
            buffer[2] ^= 0xff; // kimage.head
        }
        Ok(())
    }
}

#[test]
fn an_image_replaced_while_it_is_read_is_noticed() {
    let fake = FakeKernel::new(MADE);
    let core = Core::open(fake.kcore()).unwrap();
    let calm = Restless { memory: &core, reads: Cell::new(0), after: u32::MAX };
    assert!(ask(&calm, &fake, Kind::Kexec).is_ok());
    let reads = calm.reads.get();
    assert!(reads < 200, "{reads}");
    // The image is looked at before and after its tables.
    let restless = Restless { memory: &core, reads: Cell::new(0), after: reads / 2 };
    assert_eq!(ask(&restless, &fake, Kind::Kexec), Err(KernelError::Changed));
}

#[test]
fn any_word_of_the_kernel_may_be_anything() {
    let values =
        [0, 1, 8, 0xfff, 1 << 47, 1 << 52, u64::MAX, MADE.bases().0, MADE.bases().1, IMAGE];
    let words = (0..0x60).step_by(8).map(|at| IMAGE_AT + 0x1000 + at);
    let words = words.chain((0..256).step_by(8).map(|at| KIMAGE + at));
    for at in words.collect::<Vec<_>>() {
        for value in values {
            let mut fake = FakeKernel::new(MADE);
            put(&mut fake.ram, at, value);
            let core = Core::open(fake.kcore()).unwrap();
            for kind in [Kind::Kexec, Kind::Kdump] {
                if let Ok(Some((image, _))) = ask(&core, &fake, kind) {
                    assert!(image.segments.len() <= 4);
                }
            }
        }
    }
}

#[test]
fn damaged_types_and_symbols_never_panic() {
    let fake = FakeKernel::new(MADE);
    let core = Core::open(fake.kcore()).unwrap();
    let symbols = Symbols::parse(fake.kallsyms.as_bytes());
    let mut answers = 0;
    for at in 0..fake.btf.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = fake.btf.clone();
            bytes[at] = value;
            let Ok(btf) = Btf::parse(&bytes) else { continue };
            let kernel = Kernel::new(&core, &symbols, &btf).unwrap();
            answers += usize::from(kernel.image(Kind::Kexec).is_ok());
        }
    }
    assert!(answers > 0, "many bytes say what they said");
    let btf = Btf::parse(&fake.btf).unwrap();
    for end in 0..fake.kallsyms.len() {
        let symbols = Symbols::parse(&fake.kallsyms.as_bytes()[..end]);
        if let Ok(kernel) = Kernel::new(&core, &symbols, &btf) {
            let _ = kernel.image(Kind::Kexec);
            let _ = kernel.pfn_mapped();
            let _ = kernel.efi_config_table();
            let _ = kernel.direct_gbpages();
        }
    }
}

#[test]
fn counts_of_pfn_mapped_are_bounded() {
    for (count, expected) in [(0xffff_ffff, "nr_pfn_mapped"), (4, "pfn_mapped")] {
        let mut fake = FakeKernel::new(MADE);
        put(&mut fake.ram, IMAGE_AT + 0x1028, count);
        put(&mut fake.ram, IMAGE_AT + 0x1040 + 48, u64::MAX);
        let core = Core::open(fake.kcore()).unwrap();
        let symbols = Symbols::parse(fake.kallsyms.as_bytes());
        let btf = Btf::parse(&fake.btf).unwrap();
        let kernel = Kernel::new(&core, &symbols, &btf).unwrap();
        let (KernelError::Implausible { what, .. } | KernelError::Range { what, .. }) =
            kernel.pfn_mapped().unwrap_err()
        else {
            panic!()
        };
        assert_eq!(what, expected);
    }
    assert!(PhysRange::new(0, 0).is_err());
}

/// An image whose pages lie scattered: segment 1 of one page, segment 3 of eight.
fn scattered(made: Made) -> FakeKernel {
    let mut fake = FakeKernel::new(made);
    // Two pages of entries; sources are the pages from 0x42_0000 on, in reverse order.
    let mut entries = vec![0x10_0000 | 1, 0x48_0000 | 8, 0x70_0000 | 1];
    entries.extend((0..3).map(|page| (0x47_f000 - page * 0x1000) | 8));
    entries.push(0x41_0000 | 2);
    let rest: Vec<u64> = (3..8).map(|page| (0x47_f000 - page * 0x1000) | 8).chain([4]).collect();
    put(&mut fake.ram, KIMAGE, 0x40_f000 | 2);
    for (list, at) in [(&entries, 0x40_f000_u64), (&rest, 0x41_0000)] {
        for (index, entry) in list.iter().enumerate() {
            put(&mut fake.ram, at + index as u64 * 8, *entry);
        }
    }
    for page in 0x42_u64..0x49 {
        for at in 0..16 {
            let start = (page << 16 | at << 12) as usize;
            fake.ram[start..start + 4096].fill((page << 4 | at) as u8);
        }
    }
    fake
}

fn standing<M: KernelMemory>(memory: &M, fake: &FakeKernel) -> Result<Standing, KernelError> {
    let symbols = Symbols::parse(fake.kallsyms.as_bytes());
    let btf = Btf::parse(&fake.btf).unwrap();
    let kernel = Kernel::new(memory, &symbols, &btf)?;
    let image = kernel.image(fake.made.kind)?.unwrap();
    kernel.standing(&image, kernel.paging(46, true))
}

#[test]
fn segments_are_gathered_from_where_they_lie() {
    for made in Made::all() {
        let fake = scattered(made);
        let core = Core::open(fake.kcore()).unwrap();
        let standing = standing(&core, &fake).unwrap();
        let place = if made.own_page { CONTROL + 0xff8 } else { CONTROL + 0x1ff8 };
        assert_eq!(standing.stack.get(), place);
        let [(first, one), (second, eight)] = &standing.segments[..] else { panic!() };
        assert_eq!((*first, *second), (range(0x10_0000, 0x10_1000), range(0x70_0000, 0x70_8000)));
        assert_eq!((one.len(), eight.len()), (0x1000, 0x8000));
        let expected: Vec<u8> = (0..8).map(|page| 0x7f - page).collect();
        let found: Vec<u8> = eight.chunks(4096).map(|page| page[17]).collect();
        assert_eq!((one[0], found), (0x80, expected));
        // Every table is there, and nothing else.
        let (_, tables) = ask(&core, &fake, made.kind).unwrap().unwrap();
        let pages: u64 = tables.count.total();
        assert_eq!(standing.tables.len() as u64, pages);
        assert!(standing.tables.iter().any(|(at, _)| at.get() == fake.root));
    }
}

#[test]
fn lists_that_lead_nowhere_are_refused() {
    let refused = |head: u64, at: u64, entry: u64| {
        let mut fake = scattered(MADE);
        put(&mut fake.ram, KIMAGE, head);
        put(&mut fake.ram, at, entry);
        standing(&Core::open(fake.kcore()).unwrap(), &fake).unwrap_err()
    };
    let (head, first) = (0x40_f000 | 2, 0x40_f000);
    let implausible = |error: &KernelError| matches!(error, KernelError::Implausible { .. });
    // In a circle; no destination; two flags; a page that is missing; beyond memory.
    assert!(implausible(&refused(head, first + 8, head)));
    assert!(implausible(&refused(head, first, 0x48_0000 | 8)));
    assert!(implausible(&refused(head, first, 0x48_0000 | 3)));
    assert!(implausible(&refused(head, first + 8 * 4, 4)));
    assert!(implausible(&refused(CONTROL | 8, first, 0)));
    let beyond = refused(head, first + 8, 1 << 40 | 8);
    assert!(matches!(beyond, KernelError::Read { .. }), "{beyond:?}");
}

#[test]
fn a_crash_image_lies_in_its_place() {
    let mut fake = FakeKernel::new(Made { kind: Kind::Kdump, ..MADE });
    put(&mut fake.ram, KIMAGE, 4);
    fake.ram[0x70_2345] = 0x77;
    let core = Core::open(fake.kcore()).unwrap();
    let standing = standing(&core, &fake).unwrap();
    assert_eq!(standing.segments[1].1[0x2345], 0x77);
}
