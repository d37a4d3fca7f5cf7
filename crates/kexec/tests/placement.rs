//! Where images are put, in every small world: nothing overlaps, nothing alive is touched, limits are kept,
//! and the map holds what the jump needs.

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_audit::Coverage;
use identmap_kexec::format::Kernel;
use identmap_kexec::{CrashFacts, Image, Job, LoadError, MapChoice};
use identmap_linux::boot::RngSeed;
use identmap_linux::{Consumer, KernelVersion, Kind};
use identmap_machine::{
    CrashKernel, EfiDescriptor, EfiTable, IomemEntry, Machine, MapEntry, MapOrigin, MemMap,
    MemType, ranges,
};
use made_kernel::BzImage;

const MIB: u64 = 1 << 20;
const UNIT: u64 = 2 * MIB;

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::from_len(start, len).unwrap()
}

/// A bzImage without code: `init_size` and preferred address as given, aligned to 2 MiB.
fn bzimage(init_size: u64, pref_address: u64, xloadflags: u8, relocatable: bool) -> Kernel {
    let init_size = init_size as u32;
    let made = BzImage { init_size, pref_address, xloadflags, relocatable, ..BzImage::default() };
    Kernel::BzImage(made.bytes())
}

/// `XLF_KERNEL_64`, `XLF_CAN_BE_LOADED_ABOVE_4G`, `XLF_5LEVEL`.
const ABOVE_4G: u8 = 0x7f;
const BELOW_4G: u8 = 0x7d;

/// A machine with this memory, which firmware and the running kernel agree on.
fn machine(regions: &[(PhysRange, MemType)]) -> Machine {
    let mut machine = Machine { source: "made".to_owned(), ..Machine::default() };
    let entry = |(range, kind): &(PhysRange, MemType)| MapEntry {
        start: range.start().get(),
        last: range.last().get(),
        kind: *kind,
        line: 0,
    };
    let entries: Vec<MapEntry> = regions.iter().map(entry).collect();
    machine.maps = vec![MemMap { origin: MapOrigin::FirmwareMemmap, entries }];
    for (range, kind) in regions {
        let name = if *kind == MemType::Usable { "System RAM" } else { "Reserved" };
        let (name, depth) = (name.to_owned(), 0);
        machine.iomem.push(IomemEntry { range: *range, depth, name, line: 0 });
    }
    machine.cpu.la57 = Some(false);
    machine.cpu.pdpe1gb = Some(true);
    machine.cpu.maxphyaddr = Some(46);
    machine
}

struct Try<'a> {
    machine: &'a Machine,
    kernel: Kernel,
    initrd: Vec<u8>,
    kind: Kind,
    choice: MapChoice,
    crash: Option<CrashFacts>,
    unlike: Vec<Vec<PhysRange>>,
    seed: Option<RngSeed>,
    consumer: Consumer,
    cmdline: &'a str,
}

impl<'a> Try<'a> {
    fn new(machine: &'a Machine, kernel: Kernel) -> Try<'a> {
        Try {
            machine,
            kernel,
            initrd: vec![7; 5000],
            kind: Kind::Kexec,
            choice: MapChoice::default(),
            crash: None,
            unlike: Vec::new(),
            seed: None,
            consumer: Consumer::default(),
            cmdline: "console=ttyS0",
        }
    }

    fn image(&self) -> Result<Image, LoadError> {
        Job {
            machine: self.machine,
            kind: self.kind,
            kernel: &self.kernel,
            initrd: &self.initrd,
            cmdline: self.cmdline,
            running: None,
            efi: None,
            efi_map: &[],
            consumer: &self.consumer,
            map: &self.choice,
            c_bit: None,
            keep: &[],
            verify: true,
            serial: None,
            vga: false,
            crc_instruction: true,
            crash: self.crash.as_ref(),
            unlike: &self.unlike,
            rng_seed: self.seed.as_ref(),
        }
        .image()
    }
}

/// What every image must be, wherever it lies.
fn assert_sound(image: &Image, ram: &[PhysRange], alive: &[PhysRange]) {
    let places: Vec<PhysRange> = image.segments.iter().map(|segment| segment.range).collect();
    for (i, segment) in image.segments.iter().enumerate() {
        let place = segment.range;
        assert!(place.start().is_aligned(PageSize::Size4K) && place.len() % 4096 == 0);
        assert!(segment.bytes.len() as u64 <= place.len(), "{}", segment.name);
        assert!(place.start().get() >= MIB, "{} at {place}", segment.name);
        assert!(ram.iter().any(|ram| ram.covers(place)), "{} at {place} not in RAM", segment.name);
        let hit = alive.iter().find(|alive| alive.intersects(place));
        assert_eq!(hit, None, "{} at {place}", segment.name);
        let overlap = places[i + 1..].iter().find(|other| other.intersects(place));
        assert_eq!(overlap, None, "{} at {place}", segment.name);
    }
    assert!(image.segments.len() <= identmap_kexec::syscall::SEGMENTS_MAX);
    let gaps = image.coverage.gaps(&ranges::normalise(places));
    assert!(gaps.is_empty(), "segments not mapped: {gaps:?}");
    let wanted = image.wanted.iter().map(|(range, _)| *range).collect();
    assert_eq!(image.coverage.gaps(&ranges::normalise(wanted)), []);
    let kernel = image.segments.iter().find(|segment| segment.name == "kernel").unwrap();
    assert_eq!(image.kernel_entry, kernel.range.start().get() + 0x200);
    assert_tables_are_the_map(image);
}

/// The bytes of the tables say what the plan says.
fn assert_tables_are_the_map(image: &Image) {
    let tables = image.segments.iter().find(|segment| segment.name == "page tables").unwrap();
    assert_eq!(image.root, tables.range.start().get());
    assert_eq!(tables.bytes.len() as u64, image.coverage.tables.bytes());
    // Nothing above the address: PGD[0] is masked by old decompressors with PAGE_MASK only.
    assert_eq!(tables.bytes[6..8], [0, 0]);
    let paging = image.coverage.config.paging();
    let memory = identmap::Image::new(&tables.bytes, tables.range.start());
    let root = tables.range.start();
    let at = |addr: u64| {
        let walk = identmap::walk(&memory, root, &paging, identmap::VirtAddr::new(addr));
        match walk.end() {
            identmap::WalkEnd::Mapped { phys, .. } => Some(phys.get()),
            _ => None,
        }
    };
    for run in &image.coverage.mapped {
        for addr in [run.start().get(), run.last().get()] {
            assert_eq!(at(addr), Some(addr));
        }
        let after = run.end();
        if image.coverage.at(after).is_none() {
            assert_eq!(at(after.get()), None, "{after}");
        }
    }
}

/// Six frames of 2 MiB from 12 MiB on, each RAM, reserved, or RAM with something of firmware's in it; a
/// kernel of one frame, an initrd of two pages from 16 MiB on, and three small parts.
#[test]
fn every_small_world() {
    const FRAMES: u32 = 6;
    const FIRST: u64 = 12 * MIB;
    let (mut loaded, mut refused) = (0, 0);
    for world in 0..3_u32.pow(FRAMES) {
        let mut regions = vec![(range(0, 0x9f000), MemType::Usable)];
        let (mut alive, mut free) = (Vec::new(), Vec::new());
        let mut rest = world;
        for i in 0..FRAMES {
            let frame = range(FIRST + u64::from(i) * UNIT, UNIT);
            match rest % 3 {
                0 => {
                    regions.push((frame, MemType::Usable));
                    free.push(frame);
                }
                1 => regions.push((frame, MemType::Reserved)),
                _ => {
                    regions.push((frame, MemType::Usable));
                    alive.push(range(frame.start().get() + 0x4000, 64 << 10));
                }
            }
            rest /= 3;
        }
        let mut machine = machine(&regions);
        for table in &alive {
            let (name, address) = ("MEMATTR".to_owned(), table.start());
            machine.efi.tables.push(EfiTable { name, address });
        }
        let ram: Vec<PhysRange> = ranges::normalise(
            regions.iter().filter(|(_, kind)| *kind == MemType::Usable).map(|(r, _)| *r).collect(),
        );
        let made = Try::new(&machine, bzimage(UNIT, MIB, ABOVE_4G, true));
        match made.image() {
            Ok(image) => {
                assert_sound(&image, &ram, &alive);
                loaded += 1;
            }
            Err(LoadError::Place { .. } | LoadError::NoMemory | LoadError::AllKept) => {
                // A whole frame for the kernel, and memory from 16 MiB on in another for the rest: then it fits.
                let holds_rest = |frame: &PhysRange, kernel: &PhysRange| {
                    frame.start().get() >= 16 * MIB && !frame.intersects(*kernel)
                };
                let fits = free.iter().any(|kernel| {
                    ram.iter().any(|ram| {
                        let frames = (0..ram.len() / UNIT)
                            .map(|i| range(ram.start().get() + i * UNIT, UNIT));
                        ram.start().get() >= MIB
                            && frames.into_iter().any(|frame| holds_rest(&frame, kernel))
                    })
                });
                assert!(!fits, "world {world}: {free:?} of {ram:?}");
                refused += 1;
            }
            Err(other) => panic!("world {world}: {other}"),
        }
    }
    assert!(loaded > 200 && refused > 50, "{loaded} loaded, {refused} refused");
}

/// A kernel that cannot lie above 4 GiB, its `boot_params` and initrd, stay below; with the flag all go up.
#[test]
fn four_gib_is_a_limit_for_those_who_say_so() {
    let regions = [
        (range(0, 0x9f000), MemType::Usable),
        (range(MIB, 512 * MIB), MemType::Usable),
        (range(4 << 30, 1 << 30), MemType::Usable),
    ];
    let machine = machine(&regions);
    let ram: Vec<PhysRange> = ranges::normalise(regions.iter().map(|(r, _)| *r).collect());
    let low = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, BELOW_4G, true)).image().unwrap();
    assert_sound(&low, &ram, &[]);
    assert!(low.segments.iter().all(|segment| segment.range.end().get() <= 513 * MIB));
    let high = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true)).image().unwrap();
    assert_sound(&high, &ram, &[]);
    assert!(high.segments.iter().all(|segment| segment.range.start().get() >= 4 << 30));
    let fixed = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, BELOW_4G, false)).image().unwrap();
    assert_sound(&fixed, &ram, &[]);
    assert_eq!(fixed.kernel_entry, 16 * MIB + 0x200);
}

/// `initrd_addr_max` is a limit for old kernels: 2 GiB less one byte here.
#[test]
fn an_initrd_stays_below_its_limit() {
    let regions = [(range(0, 0x9f000), MemType::Usable), (range(MIB, 3 << 30), MemType::Usable)];
    let machine = machine(&regions);
    let image = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, BELOW_4G, true)).image().unwrap();
    let initrd = image.segments.iter().find(|segment| segment.name == "initrd").unwrap();
    assert!(initrd.range.end().get() <= 2 << 30, "{}", initrd.range);
    let kernel = image.segments.iter().find(|segment| segment.name == "kernel").unwrap();
    assert!(kernel.range.start().get() > 2 << 30);
}

/// RAM that the running kernel does not use, and RAM that firmware does not know, are no places.
#[test]
fn both_maps_have_to_call_it_ram() {
    let agreed = range(16 * MIB, 64 * MIB);
    let mut machine = machine(&[(range(0, 0x9f000), MemType::Usable), (agreed, MemType::Usable)]);
    let added = range(1 << 30, 1 << 30);
    let (name, depth) = ("System RAM".to_owned(), 0);
    machine.iomem.push(IomemEntry { range: added, depth, name, line: 0 });
    machine.maps[0].entries.push(MapEntry {
        start: 4 << 30,
        last: (5 << 30) - 1,
        kind: MemType::Usable,
        line: 0,
    });
    let image = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true)).image().unwrap();
    assert_sound(&image, &[agreed], &[]);
    // The next kernel is told firmware's map.
    let told: u64 = image.e820.iter().map(|region| region.range.len()).sum();
    assert_eq!(told, 0x9f000 + 64 * MIB + (1 << 30));
}

/// What `check` would say of the image that `load` makes.
#[test]
fn as_much_is_kept_clear_as_an_audit_looks_at() {
    let mut machine =
        machine(&[(range(0, 0xa0000), MemType::Usable), (range(MIB, 511 * MIB), MemType::Usable)]);
    let names = ["MOKvar", "Unaccepted", "CCFinalLog", "TPMEventLog", "MEMATTR", "SMBIOS", "UGA"];
    for (number, name) in (1u64..).zip(names) {
        let address = PhysAddr::new(number * 16 * MIB).unwrap();
        machine.efi.tables.push(EfiTable { name: name.to_owned(), address });
    }
    let layout = identmap_machine::Layout::of(&machine);
    let asked = identmap_linux::alive::alive(&machine, layout.as_ref());
    assert_eq!(asked.len(), names.len());
    let alive = identmap_kexec::alive(&machine, Kind::Kexec);
    let free = identmap_kexec::free(&machine, Kind::Kexec, &alive);
    for asked in asked {
        assert!(!free.iter().any(|free| free.intersects(asked.up_to)), "{}", asked.what);
    }
}

#[test]
fn a_crash_kernel_stays_in_its_reservations() {
    let ram = range(MIB, 2 << 30);
    let low = range(64 * MIB, 256 * MIB);
    let mut machine = machine(&[(range(0, 0x9f000), MemType::Usable), (ram, MemType::Usable)]);
    let mut made = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true));
    made.kind = Kind::Kdump;
    assert_eq!(made.image().unwrap_err(), LoadError::NoReservation);
    drop(made);
    machine.crash_kernels = vec![CrashKernel { range: low }];
    let mut made = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true));
    made.kind = Kind::Kdump;
    assert_eq!(made.image().unwrap_err(), LoadError::CrashFacts);
    made.crash = Some(crash_facts());
    let image = made.image().unwrap();
    assert_sound(&image, &[low], &[]);
    let header = image.segments.iter().find(|segment| segment.name == "elfcorehdr").unwrap();
    // Where the kernel looks for it, whatever the line ends with, and nowhere else.
    let word = format!("elfcorehdr={:#x}", header.range.start().get());
    for (line, rest) in [
        ("", ""),
        ("quiet -- single", " quiet -- single"),
        ("elfcorehdr=0x1000 quiet", " quiet"),
        ("dyndbg=\"file a.c +p", " dyndbg=\"file a.c +p"),
    ] {
        made.cmdline = line;
        assert_eq!(made.image().unwrap().cmdline, format!("{word}{rest}"));
    }
    // Usable: the first MiB's RAM and the reservation without the header; the header in no entry.
    let usable: Vec<PhysRange> = image.e820.iter().map(|region| region.range).collect();
    let own = ranges::subtract(&[range(0, 0x9f000), low], &[header.range]);
    assert_eq!(usable, own);
    assert_eq!(core_loads(&header.bytes), expected_loads());
    // A wish of the kernel's for room is granted, and the header is left out of what is verified.
    let facts = made.crash.take();
    made.crash = facts.map(|facts| CrashFacts { room: Some(0x5000), ..facts });
    let image = made.image().unwrap();
    let header = image.segments.iter().find(|segment| segment.name == "elfcorehdr").unwrap();
    // Room for that many program headers, and the ELF header before them.
    assert!(image.update_elfcorehdr && header.range.len() == 0x6000);
    assert_eq!(checked(&image).iter().filter(|range| range.intersects(header.range)).count(), 0);
    assert!(checked(&image).len() > 2);
    // An initrd that begins as the header does would be taken for it.
    made.initrd[..4].copy_from_slice(b"\x7fELF");
    let image = made.image().unwrap();
    let header = image.segments.iter().find(|segment| segment.name == "elfcorehdr").unwrap();
    assert!(!image.update_elfcorehdr);
    assert_eq!(checked(&image).iter().filter(|range| range.intersects(header.range)).count(), 1);
}

fn crash_facts() -> CrashFacts {
    CrashFacts {
        notes: vec![(0x10_0000, 0x168), (0x11_0000, 0x168)],
        vmcoreinfo: (0x12_0000, 0x1024),
        text: Some((0xffff_ffff_8100_0000, range(32 * MIB, 32 * MIB))),
        page_offset: 0xffff_8880_0000_0000,
        room: None,
    }
}

/// The kernel takes segments in the one that is not the low one, and tells the crash kernel of both.
#[test]
fn of_two_reservations_the_higher_holds_the_image() {
    let (low, high) = (range(64 * MIB, 256 * MIB), range(5 << 30, 256 * MIB));
    let ram = [range(MIB, 2 << 30), range(4 << 30, 2 << 30)];
    let regions = [range(0, 0x9f000), ram[0], ram[1]].map(|range| (range, MemType::Usable));
    let mut machine = machine(&regions);
    machine.crash_kernels = [high, low].map(|range| CrashKernel { range }).to_vec();
    let made = |kernel, reserved| {
        let mut made = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, kernel, true));
        (made.kind, made.crash) = (Kind::Kdump, Some(crash_facts()));
        let image = made.image()?;
        assert_sound(&image, &[reserved], &[]);
        let told = |range: PhysRange| image.e820.iter().any(|r| range.covers(r.range));
        assert!(told(low) && told(high));
        Ok(image)
    };
    made(ABOVE_4G, high).unwrap();
    // One that cannot lie there has no place.
    assert!(matches!(made(BELOW_4G, low), Err(LoadError::Place { .. })));
}

/// What the purgatory verifies: its list holds address and text of each segment.
fn checked(image: &Image) -> Vec<PhysRange> {
    let purgatory = image.segments.iter().find(|segment| segment.name == "purgatory").unwrap();
    let named = |segment: &&identmap_kexec::Segment| {
        let text = format!("segment {} at {}", segment.name, segment.range.start());
        purgatory.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let others = image.segments.iter().filter(|segment| segment.name != "purgatory");
    others.filter(named).map(|segment| segment.range).collect()
}

/// A kernel that says that it knows seeds gets one; another, or one that says nothing, gets none.
#[test]
fn a_seed_goes_to_those_who_take_it() {
    let ram = range(16 * MIB, 64 * MIB);
    let machine = machine(&[(range(0, 0x9f000), MemType::Usable), (ram, MemType::Usable)]);
    let secret: [u8; 32] = core::array::from_fn(|i| i as u8 + 0xa0);
    let find = |image: &Image| -> Vec<&'static str> {
        let has = |segment: &&identmap_kexec::Segment| {
            segment.bytes.windows(32).any(|window| window == secret)
        };
        image.segments.iter().filter(has).map(|segment| segment.name).collect()
    };
    for (max, expected) in [(Some(9_u32), vec!["boot_params"]), (Some(8), vec![]), (None, vec![])] {
        let mut kernel = bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true);
        if let (Kernel::BzImage(bytes), Some(max)) = (&mut kernel, max) {
            bytes[0x268..0x26c].copy_from_slice(&0x300_u32.to_le_bytes());
            bytes[1024 + 0x300..1024 + 0x304].copy_from_slice(b"LToP");
            bytes[1024 + 0x304..1024 + 0x308].copy_from_slice(&16_u32.to_le_bytes());
            bytes[1024 + 0x30c..1024 + 0x310].copy_from_slice(&(max | 1 << 31).to_le_bytes());
        }
        let mut made = Try::new(&machine, kernel);
        made.seed = RngSeed::new(secret);
        let mut image = made.image().unwrap();
        assert_sound(&image, &[ram], &[]);
        assert_eq!(find(&image), expected, "{max:?}");
        assert_eq!(image.rng_seed, !expected.is_empty());
        image.forget_seed();
        assert_eq!(find(&image), [""; 0]);
    }
}

/// Type, virtual and physical address and length of each entry.
fn core_loads(elf: &[u8]) -> Vec<(u32, u64, u64, u64)> {
    let word = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
    let count = usize::from(u16::from_le_bytes([elf[56], elf[57]]));
    assert_eq!(elf.len(), 64 + 56 * count);
    (0..count)
        .map(|i| 64 + 56 * i)
        .map(|at| (word(at) as u32, word(at + 16), word(at + 24), word(at + 32)))
        .collect()
}

fn expected_loads() -> Vec<(u32, u64, u64, u64)> {
    let direct = 0xffff_8880_0000_0000;
    let reserved_end = 320 * MIB;
    vec![
        (4, 0, 0x10_0000, 0x168),
        (4, 0, 0x11_0000, 0x168),
        (4, 0, 0x12_0000, 0x1024),
        (1, 0xffff_ffff_8100_0000, 32 * MIB, 32 * MIB),
        (1, direct + MIB, MIB, 63 * MIB),
        (1, direct + reserved_end, reserved_end, (2 << 30) + MIB - reserved_end),
    ]
}

/// The image that is loaded next never has the same segments as the one before.
#[test]
fn an_image_differs_from_those_before() {
    let machine =
        machine(&[(range(0, 0x9f000), MemType::Usable), (range(MIB, 1 << 30), MemType::Usable)]);
    let mut made = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true));
    for _ in 0..4 {
        let image = made.image().unwrap();
        assert_sound(&image, &[range(MIB, 1 << 30)], &[]);
        let places: Vec<PhysRange> = image.segments.iter().map(|s| s.range).collect();
        assert!(!made.unlike.contains(&places));
        made.unlike.push(places);
    }
}

/// What is forbidden is neither mapped nor used; a synthetic entry is mapped.
#[test]
fn synthetic_entries_and_forbidden_ranges() {
    let ram = range(MIB, 1 << 30);
    let machine = machine(&[(range(0, 0x9f000), MemType::Usable), (ram, MemType::Usable)]);
    let mut made = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true));
    let top = range(MIB + (1 << 30) - 0x10_0000, 0x1000);
    let far = range(0xc7a0_1000, 0x168);
    made.choice.forbid = vec![top];
    made.choice.extra = vec![far];
    let image = made.image().unwrap();
    assert_sound(&image, &[ram], &[top]);
    assert!(ranges::intersect(&image.coverage.mapped, &[top]).is_empty());
    assert!(image.coverage.at(PhysAddr::new(0xc7a0_1000).unwrap()).is_some());
    made.choice.forbid = vec![far];
    let error = made.image().unwrap_err().to_string();
    assert!(error.contains("c7a01"), "{error}");
}

/// Five levels in use: only a kernel that says it can is entered so.
#[test]
fn five_levels_are_refused_where_linux_refuses() {
    let ram = range(MIB, 1 << 30);
    let mut machine = machine(&[(range(0, 0x9f000), MemType::Usable), (ram, MemType::Usable)]);
    machine.cpu.la57 = Some(true);
    let kernel = || bzimage(16 * MIB, 16 * MIB, ABOVE_4G, true);
    let unknown = Try::new(&machine, kernel()).image().unwrap_err();
    assert!(matches!(unknown, LoadError::Map(identmap_kexec::MapError::Levels)), "{unknown}");
    // The same where nothing is known of the processor: it is not said that it has them.
    let nothing = Machine { cpu: identmap_machine::Cpu::default(), ..machine.clone() };
    let said = Try::new(&nothing, kernel()).image().unwrap_err().to_string();
    assert!(said.contains("or nothing tells") && said.contains("--la57 off"), "{said}");
    machine.cpu.la57_active = Some(true);
    let old = Try::new(&machine, bzimage(16 * MIB, 16 * MIB, 0x1f, true)).image();
    assert_eq!(old.unwrap_err(), LoadError::FiveLevels);
    let image = Try::new(&machine, kernel()).image().unwrap();
    let Coverage { config, .. } = &image.coverage;
    assert_eq!(config.levels, identmap::Levels::Five);
    assert_sound(&image, &[ram], &[]);
}

/// An ELF kernel lies where it was linked, or elsewhere by whole frames.
#[test]
fn an_elf_kernel_is_moved_as_a_whole() {
    use identmap_kexec::format::{ElfKernel, ElfSegment};
    let piece = |start, len, bytes: usize| ElfSegment {
        range: range(start, len),
        bytes: vec![0x90; bytes],
    };
    let elf = || {
        Kernel::Elf(ElfKernel {
            entry: PhysAddr::new(0x100_0200).unwrap(),
            segments: vec![piece(0x100_0000, 0x20_0000, 0x1800), piece(0x120_0123, 0x5000, 0x10)],
        })
    };
    let ram = range(MIB, 1 << 30);
    let whole = machine(&[(range(0, 0x9f000), MemType::Usable), (ram, MemType::Usable)]);
    let image = Try::new(&whole, elf()).image().unwrap();
    assert_sound(&image, &[ram], &[]);
    assert_eq!(image.kernel_entry, 0x100_0200);
    let kernel = image.segments.iter().find(|segment| segment.name == "kernel").unwrap();
    assert_eq!(kernel.bytes.len(), 0x20_0133);
    assert_eq!(
        (kernel.bytes[0x17ff], kernel.bytes[0x1800], kernel.bytes[0x20_0123]),
        (0x90, 0, 0x90)
    );
    let above = range(64 * MIB, 1 << 30);
    let moved = machine(&[(range(0, 0x9f000), MemType::Usable), (above, MemType::Usable)]);
    let image = Try::new(&moved, elf()).image().unwrap();
    assert_sound(&image, &[above], &[]);
    assert_eq!((image.kernel_entry - 0x200) % UNIT, 0);
    // It does not say whether it takes 5 levels.
    let mut five = machine(&[(range(0, 0x9f000), MemType::Usable), (ram, MemType::Usable)]);
    (five.cpu.la57, five.cpu.la57_active) = (Some(true), Some(true));
    assert_eq!(Try::new(&five, elf()).image().unwrap_err(), LoadError::ElfFiveLevels);
    // Nor whether it takes a seed: its version does.
    for (version, expected) in [(None, false), (Some("5.19.17"), false), (Some("6.0.1"), true)] {
        let mut made = Try::new(&whole, elf());
        made.seed = RngSeed::new([7; 32]);
        made.consumer.version = version.map(|text| KernelVersion::parse(text, None).unwrap());
        assert_eq!(made.image().unwrap().rng_seed, expected, "{version:?}");
    }
}

/// A kernel lists among its runtime mappings what it will free, and under 32-bit firmware all RAM: only what is
/// marked for the runtime, or of the runtime's types, or without attributes, stays as it is.
#[test]
fn memory_that_firmware_left_is_not_kept_because_it_is_mapped_for_the_runtime() {
    const WB: u64 = 8;
    const RUN: u64 = EfiDescriptor::RUNTIME | WB;
    let ram = range(MIB, 255 * MIB);
    let load = |kind: u32, attributes: u64| {
        let mut machine = machine(&[(ram, MemType::Usable)]);
        machine.efi.runtime_map = vec![EfiDescriptor { range: ram, kind, attributes, line: 0 }];
        Try::new(&machine, bzimage(UNIT, MIB, ABOVE_4G, true)).image().map(|_| ())
    };
    for kind in 0..=15 {
        let is_left = [1, 2, 3, 4, 7].contains(&kind);
        assert_eq!(load(kind, WB).is_ok(), is_left, "type {kind}");
        for attributes in [RUN, 0] {
            let error = load(kind, attributes).unwrap_err();
            assert!(matches!(error, LoadError::AllKept), "type {kind}: {error}");
            assert!(error.to_string().contains("all usable RAM is kept"), "{error}");
        }
    }
    let none = machine(&[(ram, MemType::Reserved)]);
    let error = Try::new(&none, bzimage(UNIT, MIB, ABOVE_4G, true)).image().unwrap_err();
    assert!(matches!(error, LoadError::NoMemory), "{error}");
}
