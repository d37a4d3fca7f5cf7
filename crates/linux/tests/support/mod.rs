//! A running kernel made by hand: its memory, its symbols, its BTF; and core files of it.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::fmt::Write;

use identmap::{Arena, Config, Levels, PhysAddr, PhysRange, Plan, Policy, Slot, Table};
use identmap_linux::Kind;

/// The kernel's image: 2 MiB at this virtual address.
pub(crate) const IMAGE: u64 = 0xffff_ffff_8100_0000;
/// And where it lies. Physical memory is 8 MiB from 0 on.
pub(crate) const IMAGE_AT: u64 = 0x20_0000;
pub(crate) const RAM: usize = 8 << 20;
/// `struct kimage`, the first control page, a page for the top table, the other tables, all physical.
pub(crate) const KIMAGE: u64 = 0x40_0040;
pub(crate) const CONTROL: u64 = 0x41_0000;
pub(crate) const TABLES: u64 = 0x42_0000;
/// The kernel's own top table.
pub(crate) const OWN_ROOT: u64 = 0x60_0000;

/// Where the variables lie in the image.
const VARIABLES: [(&str, u64); 9] = [
    ("page_offset_base", 0x1000),
    ("vmemmap_base", 0x1008),
    ("kexec_image", 0x1010),
    ("kexec_crash_image", 0x1018),
    ("efi_config_table", 0x1020),
    ("nr_pfn_mapped", 0x1028),
    ("sme_me_mask", 0x1030),
    ("__pgtable_l5_enabled", 0x1038),
    ("pfn_mapped", 0x1040),
];

/// What the kernel is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) levels: Levels,
    /// `kimage.arch.pgd` exists.
    pub(crate) own_page: bool,
    pub(crate) kind: Kind,
}

pub(crate) struct FakeKernel {
    pub(crate) ram: Vec<u8>,
    pub(crate) kallsyms: String,
    pub(crate) btf: Vec<u8>,
    /// What the image's tables map.
    pub(crate) runs: Vec<identmap::Run>,
    pub(crate) root: u64,
    pub(crate) made: Made,
}

impl Made {
    pub(crate) fn all() -> Vec<Made> {
        let mut all = Vec::new();
        for levels in [Levels::Four, Levels::Five] {
            for own_page in [false, true] {
                for kind in [Kind::Kexec, Kind::Kdump] {
                    all.push(Made { levels, own_page, kind });
                }
            }
        }
        all
    }

    /// Where physical address 0 is in the direct map, and page 0 in the vmemmap.
    pub(crate) fn bases(self) -> (u64, u64) {
        match self.levels {
            Levels::Four => (0xffff_8880_0000_0000, 0xffff_ea00_0000_0000),
            Levels::Five => (0xff11_0000_0000_0000, 0xffd4_0000_0000_0000),
        }
    }
}

impl FakeKernel {
    pub(crate) fn new(made: Made) -> FakeKernel {
        let (direct, vmemmap) = made.bases();
        let mut ram = vec![0; RAM];
        let kimage = direct + KIMAGE;
        let pointer = if made.kind == Kind::Kexec { 0x10 } else { 0x18 };
        let variables = [
            (0, direct),
            (8, vmemmap),
            (pointer, kimage),
            (0x20, 0x7f_5000),
            // ints: what follows is another variable.
            (0x28, 0xdead_0000_0000_0002),
            (0x38, 0xdead_0000_0000_0000 | u64::from(made.levels == Levels::Five)),
            (0x40, 0),
            (0x48, 0x100),
            (0x50, 0x100),
            (0x58, 0x800),
        ];
        for (at, value) in variables {
            put(&mut ram, IMAGE_AT + 0x1000 + at, value);
        }
        // struct kimage, as `btf` describes it.
        let fields = [
            (0, CONTROL | 8),
            (8, 0x10_0760),
            (16, vmemmap + CONTROL / 4096 * 64),
            (24, 3),
            (32 + 16, 0x10_0000),
            (32 + 24, 0x1000),
            // The second segment is empty.
            (32 + 32 + 16, 0x70_0000),
            (32 + 64 + 16, 0x70_0000),
            (32 + 64 + 24, 0x8000),
            (32 + 128, u64::from(made.kind == Kind::Kdump) << 1 | 0b100),
            (32 + 136, direct + TABLES),
        ];
        for (at, value) in fields {
            put(&mut ram, KIMAGE + at, value);
        }
        // The image's tables: the root alone where the kernel has it, the others behind it.
        let root = if made.own_page { TABLES } else { CONTROL };
        let requests =
            [range(0, 0x80_0000), range(0x4000_0000, 0x1_0012_3000), range(1 << 40, (1 << 40) + 1)];
        let config = Config::kexec(made.levels, true);
        let runs = build(&mut ram, root, &config, &requests);
        own_tables(&mut ram, made.levels, direct);
        let mut kallsyms = String::new();
        for (name, at) in VARIABLES.iter().rev() {
            writeln!(kallsyms, "{:016x} D {name}", IMAGE + at).unwrap();
        }
        kallsyms += "ffffffffc0000000 t kexec_image\t[nothing]\n";
        FakeKernel { ram, kallsyms, btf: btf(made.own_page), runs, root, made }
    }

    /// As `/proc/kcore` has it: the image, memory through the direct map, and a range with no
    /// physical address.
    pub(crate) fn kcore(&self) -> Vec<u8> {
        let (direct, _) = self.made.bases();
        core_file(
            &[
                Segment {
                    virt: IMAGE,
                    phys: IMAGE_AT,
                    bytes: &self.ram[IMAGE_AT as usize..][..0x2000],
                },
                Segment { virt: 0xffff_c900_0000_0000, phys: u64::MAX, bytes: &[0xaa; 4096] },
                Segment { virt: direct, phys: 0, bytes: &self.ram },
            ],
            &[note("CORE", 1, &[0; 336]), note("VMCOREINFO", 0, b"OSRELEASE=6.6.6\n")].concat(),
        )
    }

    /// As QEMU dumps it: physical memory alone, in two segments, and a processor's registers.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let (low, high) = self.ram.split_at(0x42_0000);
        core_file(
            &[
                Segment { virt: 0, phys: low.len() as u64, bytes: high },
                Segment { virt: 0, phys: 0, bytes: low },
            ],
            &note("QEMU", 0, &registers(0x8000_0000, OWN_ROOT | 0x18, self.made.levels)),
        )
    }
}

pub(crate) fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

pub(crate) fn put(ram: &mut [u8], at: u64, value: u64) {
    ram[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
}

/// Tables from `root` on; returns what they map.
fn build(ram: &mut [u8], root: u64, config: &Config, requests: &[PhysRange]) -> Vec<identmap::Run> {
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&Policy::Exact, requests.len())];
    let plan = Plan::new(config, &Policy::Exact, requests, &mut slots).unwrap();
    let mut tables = vec![Table::EMPTY; plan.tables().total() as usize];
    let mut arena = Arena::new(&mut tables, PhysAddr::new(root).unwrap()).unwrap();
    assert_eq!(plan.build(&mut arena).unwrap().root.get(), root);
    for (index, table) in arena.tables().iter().enumerate() {
        for (entry, bits) in table.0.iter().enumerate() {
            put(ram, root + index as u64 * 4096 + entry as u64 * 8, *bits);
        }
    }
    plan.runs().collect()
}

/// The kernel's own tables: the direct map, and the image by one 2 MiB leaf.
fn own_tables(ram: &mut [u8], levels: Levels, direct: u64) {
    let config = Config { offset: direct, ..Config::kexec(levels, false) };
    build(ram, OWN_ROOT, &config, &[range(0, RAM as u64)]);
    let mut table = OWN_ROOT;
    let mut free = OWN_ROOT + 0x1_0000;
    let shifts = if levels == Levels::Five { &[48, 39, 30][..] } else { &[39, 30] };
    for shift in shifts {
        let entry = table + (IMAGE >> shift & 511) * 8;
        put(ram, entry, free | 0x63);
        (table, free) = (free, free + 4096);
    }
    put(ram, table + (IMAGE >> 21 & 511) * 8, IMAGE_AT | 0xe3);
}

/// `QEMUCPUState`
pub(crate) fn registers(cr0: u64, cr3: u64, levels: Levels) -> Vec<u8> {
    let mut state = vec![0; 440];
    state[0] = 1;
    put(&mut state, 392, cr0);
    put(&mut state, 392 + 24, cr3);
    put(&mut state, 392 + 32, 0x20 | u64::from(levels == Levels::Five) << 12);
    state
}

pub(crate) fn note(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [name.len() as u32 + 1, content.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(crate) struct Segment<'a> {
    pub(crate) virt: u64,
    pub(crate) phys: u64,
    pub(crate) bytes: &'a [u8],
}

pub(crate) fn core_file(segments: &[Segment<'_>], notes: &[u8]) -> Vec<u8> {
    let count = segments.len() + 1;
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    for (at, value) in [(16, 4), (18, 62), (52, 64), (54, 56), (56, count as u16)] {
        bytes[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
    }
    put(&mut bytes, 32, 64);
    let mut offset = 64 + count as u64 * 56;
    let notes_segment = Segment { virt: 0, phys: 0, bytes: notes };
    let all: Vec<_> =
        [(4_u32, &notes_segment)].into_iter().chain(segments.iter().map(|s| (1, s))).collect();
    for (kind, segment) in &all {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(7_u32.to_le_bytes());
        let size = segment.bytes.len() as u64;
        // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
        for field in [offset, segment.virt, segment.phys, size, size, 4096] {
            bytes.extend(field.to_le_bytes());
        }
        offset += size;
    }
    for (_, segment) in &all {
        bytes.extend(segment.bytes);
    }
    bytes
}

/// `struct kimage`, `struct kexec_segment`, `struct page`, with or without `kimage.arch.pgd`.
fn btf(own_page: bool) -> Vec<u8> {
    const INT: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    const STRUCT: u32 = 4 << 24;
    const FLAGGED: u32 = 1 << 31;
    let names =
        b"\0kimage\0head\0start\0control_code_page\0nr_segments\0segment\0type\0arch\0pgd\0p4d\0\
        kexec_segment\0buf\0bufsz\0mem\0memsz\0page\0";
    let name = |wanted: &str| {
        let wanted = [&b"\0"[..], wanted.as_bytes(), b"\0"].concat();
        let at = names.windows(wanted.len()).position(|window| window == wanted);
        u32::try_from(at.unwrap()).unwrap() + 1
    };
    let words: Vec<u32> = [
        vec![0, INT, 8, 64],                         // 1
        vec![0, INT, 4, 32],                         // 2
        vec![name("kexec_segment"), STRUCT | 4, 32], // 3
        vec![name("buf"), 1, 0, name("bufsz"), 1, 64, name("mem"), 1, 128, name("memsz"), 1, 192],
        vec![0, ARRAY, 0, 3, 1, 4], // 4: four segments
        vec![0, STRUCT | 1, 8, name(if own_page { "pgd" } else { "p4d" }), 1, 0], // 5
        vec![name("kimage"), FLAGGED | STRUCT | 7, 256], // 6
        vec![name("head"), 1, 0, name("start"), 1, 64, name("control_code_page"), 1, 128],
        vec![name("nr_segments"), 1, 192, name("segment"), 4, 256],
        // unsigned int type : 1, the second bit of its word
        vec![name("type"), 2, (256 + 1024 + 1) | 1 << 24, name("arch"), 5, 256 + 1024 + 64],
        vec![name("page"), STRUCT, 64], // 7
    ]
    .concat();
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let (types, strings) = (words.len() as u32 * 4, names.len() as u32);
    for field in [24, 0, types, types, strings] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(names);
    bytes
}
