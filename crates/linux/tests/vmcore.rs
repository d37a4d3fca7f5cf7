//! Core files, pieces and tables that nobody should have to meet.

mod support;

use identmap::{Config, Entry, Level, Levels, PageSize, PhysAddr, TableRead, VirtAddr};
use identmap_linux::memory::{KernelMemory, PhysicalMemory, TablePages, Unreadable, Why};
use identmap_linux::tables::{Oddity, decode};
use identmap_linux::vmcore::{Core, CoreError, Pieces, VmcoreInfo};

use support::{Segment, core_file, note, put, range, registers};

fn at(address: u64) -> PhysAddr {
    PhysAddr::new(address).unwrap()
}

fn sample() -> Vec<u8> {
    let notes = [
        note("CORE", 1, &[0; 10]),
        note("QEMU", 0, &registers(0x8005_0033, 0x1234_5067, Levels::Five)),
        note("VMCOREINFO", 0, b"OSRELEASE=6.1.0\nNUMBER(phys_base)=-16777216\nSYMBOL(init_top_pgt)=ffffffff82a10000\n"),
    ];
    let segments = [
        Segment { virt: 0xffff_8880_0000_5000, phys: 0x5000, bytes: &[5; 0x1000] },
        Segment { virt: 0xffff_8880_0000_2000, phys: 0x2000, bytes: &[2; 0x2000] },
        Segment { virt: u64::MAX - 0xfff, phys: u64::MAX, bytes: &[9; 0x1000] },
    ];
    core_file(&segments, &notes.concat())
}

#[test]
fn memory_is_read_by_both_addresses_and_holes_are_named() {
    let core = Core::open(sample()).unwrap();
    let ranges: Vec<String> = core.ranges().map(|range| format!("{range:?}")).collect();
    assert_eq!(ranges, ["[0x2000, 0x4000)", "[0x5000, 0x6000)"]);
    let mut buffer = [0; 4];
    core.read_phys(at(0x5ffc), &mut buffer).unwrap();
    assert_eq!(buffer, [5; 4]);
    let hole = Err(Unreadable::phys(at(0x4000), Why::NotHeld));
    assert_eq!(core.read_phys(at(0x3ffe), &mut buffer), hole);
    core.read_virt(VirtAddr::new(u64::MAX - 3), &mut buffer).unwrap();
    assert_eq!(buffer, [9; 4]);
    let past = VirtAddr::new(u64::MAX - 2);
    assert!(core.read_virt(past, &mut buffer).is_err(), "does not wrap to 0");
    core.read_virt(VirtAddr::new(0xffff_8880_0000_2ffe), &mut buffer).unwrap();
    assert_eq!(buffer, [2; 4]);
}

#[test]
fn notes_tell_registers_and_the_kernels_own_root() {
    let core = Core::open(sample()).unwrap();
    let notes = core.notes();
    assert_eq!(notes.unreadable, None);
    let [processor] = notes.processors[..] else { panic!("{notes:?}") };
    assert!(processor.is_paging() && processor.is_five_level());
    assert_eq!(processor.root(), Some(at(0x1234_5000)));
    let info = notes.vmcoreinfo.as_ref().unwrap();
    assert_eq!(info.get("OSRELEASE"), Some("6.1.0"));
    assert_eq!(info.get("OSRELEAS"), None);
    assert_eq!(info.kernel_root(), Some(at(0x1a1_0000)));
    for text in ["", "NUMBER(phys_base)=0", "SYMBOL(init_top_pgt)=12", "NUMBER(phys_base)=x"] {
        assert_eq!(VmcoreInfo::new(text).kernel_root(), None, "{text}");
    }
    let far = "SYMBOL(init_top_pgt)=ffffffff82a10000\nNUMBER(phys_base)=-9223372036854775808";
    assert_eq!(VmcoreInfo::new(far).kernel_root(), None);
}

#[test]
fn segments_that_overlap_are_one_memory() {
    let segments = [
        Segment { virt: 0, phys: 0x3000, bytes: &[3; 0x3000] },
        Segment { virt: 0, phys: 0x1000, bytes: &[1; 0x3000] },
        Segment { virt: 0, phys: 0x4000, bytes: &[4; 0x1000] },
        Segment { virt: 0, phys: 0x1000, bytes: &[8; 0x1000] },
    ];
    let core = Core::open(core_file(&segments, &[])).unwrap();
    let mut bytes = vec![0; 0x5000];
    core.read_phys(at(0x1000), &mut bytes).unwrap();
    assert!(bytes[..0x3000].iter().all(|&byte| byte == 1));
    assert!(bytes[0x3000..].iter().all(|&byte| byte == 3));
}

#[test]
fn many_program_headers_are_counted_where_the_abi_says() {
    let mut bytes = sample();
    // e_phnum = PN_XNUM, e_shoff = end of the file, sh_info of section 0 = 4
    let end = bytes.len() as u64;
    bytes[56..58].copy_from_slice(&[0xff, 0xff]);
    put(&mut bytes, 40, end);
    bytes.extend([0; 64]);
    bytes[end as usize + 44] = 4;
    assert_eq!(Core::open(bytes.clone()).unwrap().ranges().count(), 2);
    bytes[end as usize + 47] = 0xff;
    let error = Core::open(bytes.clone()).unwrap_err();
    assert!(matches!(error, CoreError::Headers { count: 0xff00_0004, size: 56 }), "{error}");
    put(&mut bytes, 40, u64::MAX);
    assert!(matches!(Core::open(bytes), Err(CoreError::Headers { .. })));
}

#[test]
fn other_files_are_told_apart() {
    let kind = |bytes: &[u8]| Core::open(bytes.to_vec()).unwrap_err();
    assert!(matches!(kind(b""), CoreError::NotElf));
    assert!(matches!(kind(&[0; 4096]), CoreError::NotElf));
    let mut program = sample();
    program[16] = 2;
    assert!(matches!(kind(&program), CoreError::NotACore));
    let mut narrow = sample();
    narrow[4] = 1;
    assert!(matches!(kind(&narrow), CoreError::NotACore));
    let mut size = sample();
    size[54] = 32;
    assert!(matches!(kind(&size), CoreError::Headers { count: 4, size: 32 }));
}

#[test]
fn every_cut_and_every_changed_header_byte_is_survived() {
    let whole = sample();
    let headers = 64 + 4 * 56;
    let mut buffer = [0; 16];
    for end in (0..whole.len()).step_by(41) {
        match Core::open(whole[..end].to_vec()) {
            Ok(core) => {
                let read = core.read_phys(at(0x5ff0), &mut buffer);
                let expected =
                    Unreadable::phys(at(0x5ff0), Why::Failed(std::io::ErrorKind::UnexpectedEof));
                let held = end >= headers + core.notes_len(&whole) + 0x1000;
                assert_eq!(read, if held { Ok(()) } else { Err(expected) }, "cut at {end}");
            }
            Err(_) => assert!(end < headers),
        }
    }
    for place in 0..headers + 800 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] = value;
            if let Ok(core) = Core::open(bytes) {
                let _ = core.read_phys(at(0x2ff8), &mut buffer);
                let _ = core.read_phys(at(0x5ff8), &mut buffer);
                let _ = core.read_virt(VirtAddr::new(u64::MAX - 7), &mut buffer);
                assert!(core.ranges().count() <= 4);
            }
        }
    }
}

/// Where the notes end is told by the file itself.
trait NotesLength {
    fn notes_len(&self, whole: &[u8]) -> usize;
}

impl<S> NotesLength for Core<S> {
    fn notes_len(&self, whole: &[u8]) -> usize {
        u64::from_le_bytes(whole[64 + 32..64 + 40].try_into().unwrap()) as usize
    }
}

#[test]
fn notes_that_are_too_long_or_cut_are_said_to_be() {
    let mut bytes = sample();
    put(&mut bytes, 64 + 32, 1 << 40);
    let core = Core::open(bytes).unwrap();
    assert!(core.notes().unreadable.as_ref().unwrap().contains("more than"), "{:?}", core.notes());
    let cut = core_file(&[], &note("VMCOREINFO", 0, b"A=1\n")[..20]);
    assert!(Core::open(cut).unwrap().notes().unreadable.is_some());
    let mut lying = note("QEMU", 0, &registers(0x8000_0000, 0x1000, Levels::Four));
    lying[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let core = Core::open(core_file(&[], &lying)).unwrap();
    assert!(core.notes().unreadable.is_some() && core.notes().processors.is_empty());
    let mut newer = registers(0x8000_0000, 0x1000, Levels::Four);
    newer[0] = 2;
    let core = Core::open(core_file(&[], &note("QEMU", 0, &newer))).unwrap();
    assert!(core.notes().processors.is_empty(), "a layout nobody knows");
}

#[test]
fn pieces_are_one_memory_unless_they_contradict() {
    let piece = |start: u64, byte: u8| (range(start, start + 0x1000), vec![byte; 0x1000]);
    let memory = Pieces::new(vec![piece(0x2000, 2), piece(0x1000, 1), piece(0x8000, 8)]).unwrap();
    let mut buffer = [0; 4];
    memory.read_phys(at(0x1ffe), &mut buffer).unwrap();
    assert_eq!(buffer, [1, 1, 2, 2]);
    let error = memory.read_phys(at(0x2ffe), &mut buffer);
    assert_eq!(error, Err(Unreadable::phys(at(0x3000), Why::NotHeld)));
    let error = Pieces::new(vec![piece(0x1000, 1), piece(0x1800, 2)]).unwrap_err();
    assert_eq!(error.range, range(0x1800, 0x2000));
    // A piece that is shorter than it was said to be.
    let short = Pieces::new(vec![(range(0, 0x2000), vec![0; 0x1000])]).unwrap();
    assert!(short.read_phys(at(0xffe), &mut buffer).is_err());
}

/// Tables made as they are asked for: a root with 512 PDPTs of 16 PDs, in each PD every `step`th
/// entry a leaf.
struct Wide {
    step: usize,
}

const PDPT: u64 = 0x10_0000;
const PD: u64 = 0x1000_0000;

impl TableRead for Wide {
    fn entry(&self, table: PhysAddr, index: usize) -> Result<Entry, identmap::Unreadable> {
        let table = table.get();
        let bits = match table {
            0x1000 => (PDPT + index as u64 * 4096) | 0x63,
            _ if table >= PD && index.is_multiple_of(self.step) => {
                (((table << 9) + ((index as u64) << 21)) & !0x1f_ffff) | 0xe3
            }
            _ if table < PD && index < 16 => {
                (PD + ((table - PDPT) / 4096 * 16 + index as u64) * 4096) | 0x63
            }
            _ => 0,
        };
        Ok(Entry::from_bits(bits))
    }
}

#[test]
fn more_tables_than_were_expected_are_counted_all_the_same() {
    let paging = Config::kexec(Levels::Four, true).paging();
    let tables = decode(&Wide { step: 512 }, at(0x1000), paging);
    assert_eq!(tables.count.total(), 1 + 512 + 512 * 16);
    assert_eq!(tables.count.of(Level::Pd), 512 * 16);
    assert_eq!(tables.leaves(PageSize::Size2M), 512 * 16);
    assert!(tables.is_whole());
}

#[test]
fn lists_are_bounded_and_say_so() {
    let paging = Config::kexec(Levels::Four, true).paging();
    let tables = decode(&Wide { step: 2 }, at(0x1000), paging);
    assert!(tables.cut && !tables.is_whole());
    assert_eq!(tables.runs.len(), 1 << 20);
}

#[test]
fn a_root_that_contains_itself_ends_and_names_what_is_shared() {
    let mut ram = vec![0; 0x3000];
    put(&mut ram, 0, 0x63);
    put(&mut ram, 8, 0x1063);
    put(&mut ram, 16, 0x1063);
    put(&mut ram, 0x1000, 0xe3);
    let memory = Pieces::new(vec![(range(0, 0x3000), ram)]).unwrap();
    let paging = Config::kexec(Levels::Four, true).paging();
    let tables = decode(&TablePages::new(&memory), at(0), paging);
    assert!(tables.is_whole());
    let shared = tables.oddities.iter().filter(|o| matches!(o, Oddity::Shared { .. })).count();
    assert!(shared > 0, "{tables:?}");
}
