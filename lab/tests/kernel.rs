//! A kernel made by hand: what is found in it, and what is refused when its memory lies.

use std::collections::BTreeMap;

use identmap::PhysAddr;
use identmap_lab::btf::Btf;
use identmap_lab::core_file::{CoreFile, write_core};
use identmap_lab::kernel::{Kernel, KernelError, LoadedImage, Slot, Symbols, iomem_start};

/// Virtual address of `_text` and where it lies; the image is two pages.
const TEXT: u64 = 0xffff_ffff_8100_0000;
const TEXT_PHYSICAL: u64 = 0x100_0000;
const DIRECT: u64 = 0xffff_8880_0000_0000;
const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
/// `struct kimage`, physical.
const KIMAGE: u64 = 0x20_0040;

const INT: u32 = 1 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;

// struct kimage { start, control_code_page, nr_segments, segment[2], arch { pgd } },
// struct kexec_segment { mem, memsz }, struct page of 64 bytes.
fn btf(separate_root: bool) -> Vec<u8> {
    let names =
        b"\0kimage\0start\0control_code_page\0nr_segments\0segment\0arch\0pgd\0kexec_segment\0mem\0memsz\0page\0";
    let name = |wanted: &str| {
        let wanted = [&b"\0"[..], wanted.as_bytes(), b"\0"].concat();
        let at = names.windows(wanted.len()).position(|window| window == wanted);
        u32::try_from(at.unwrap()).unwrap() + 1
    };
    let pgd = if separate_root { name("pgd") } else { name("page") };
    let words: Vec<u32> = [
        vec![0, INT, 8, 64], // 1
        vec![name("kexec_segment"), STRUCT | 2, 16, name("mem"), 1, 0, name("memsz"), 1, 64], // 2
        vec![0, ARRAY, 0, 2, 1, 2], // 3
        vec![0, STRUCT | 1, 8, pgd, 1, 0], // 4
        vec![name("kimage"), STRUCT | 5, 64], // 5
        vec![name("start"), 1, 0, name("control_code_page"), 1, 64],
        vec![name("nr_segments"), 1, 128, name("segment"), 3, 192, name("arch"), 4, 448],
        vec![name("page"), STRUCT, 64], // 6
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

fn symbols() -> Symbols {
    let lines = [
        ("_text", 0),
        ("linux_banner", 0x100),
        ("page_offset_base", 0x1000),
        ("vmemmap_base", 0x1008),
        ("kexec_image", 0x1010),
        ("kexec_crash_image", 0x1018),
        ("nr_pfn_mapped", 0x1020),
        ("pfn_mapped", 0x1030),
        ("_end", 0x2000),
    ]
    .map(|(name, offset)| format!("{:016x} D {name}", TEXT + offset));
    Symbols::parse(&format!("{}\ngarbage\nffff x\n", lines.join("\n")))
}

/// The words of memory, by physical address.
fn memory() -> BTreeMap<u64, u64> {
    [
        (TEXT_PHYSICAL + 0x100, u64::from_le_bytes(*b"Linux ve")),
        (TEXT_PHYSICAL + 0x108, u64::from_le_bytes(*b"rsion 6\n")),
        (TEXT_PHYSICAL + 0x1000, DIRECT),
        (TEXT_PHYSICAL + 0x1008, VMEMMAP),
        (TEXT_PHYSICAL + 0x1010, DIRECT + KIMAGE),
        (TEXT_PHYSICAL + 0x1020, 0xdead_0000_0000_0002), // an int; what follows is another variable
        (TEXT_PHYSICAL + 0x1038, 0x100),
        (TEXT_PHYSICAL + 0x1040, 0x10_0000),
        (TEXT_PHYSICAL + 0x1048, 0x18_0000),
        (KIMAGE, 0x7000),
        (KIMAGE + 8, VMEMMAP + 0x123 * 64),
        (KIMAGE + 16, 2),
        (KIMAGE + 24, 0x10_0000),
        (KIMAGE + 32, 0x1000),
        (KIMAGE + 40, 0x1_0000_0000),
        (KIMAGE + 48, 0x20_0000),
        (KIMAGE + 56, DIRECT + 0x45_6000),
    ]
    .into()
}

fn core(words: &BTreeMap<u64, u64>) -> CoreFile<Vec<u8>> {
    let mut pages: BTreeMap<PhysAddr, [u8; 4096]> = BTreeMap::new();
    for (at, word) in words {
        let page = pages.entry(PhysAddr::new(at & !0xfff).unwrap()).or_insert([0; 4096]);
        let offset = (at & 0xfff) as usize;
        page[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    }
    CoreFile::open(write_core(&pages).unwrap()).unwrap()
}

fn find(words: &BTreeMap<u64, u64>, btf_bytes: &[u8]) -> Result<Option<LoadedImage>, KernelError> {
    let core = core(words);
    let kernel = Kernel::new(&core, symbols(), PhysAddr::new(TEXT_PHYSICAL).unwrap())?;
    kernel.loaded_image(&Btf::parse(btf_bytes).unwrap(), Slot::Normal)
}

#[test]
fn a_loaded_image_is_found() {
    let image = find(&memory(), &btf(true)).unwrap().unwrap();
    assert_eq!(image.root.get(), 0x45_6000);
    assert_eq!(image.control_page.get(), 0x12_3000);
    assert_eq!(image.start.get(), 0x7000);
    assert_eq!(
        format!("{:?}", image.segments),
        "[[0x100000, 0x101000), [0x100000000, 0x100200000)]"
    );
    let image = find(&memory(), &btf(false)).unwrap().unwrap();
    assert_eq!(image.root.get(), 0x12_3000, "without arch.pgd it is the first control page");
}

#[test]
fn the_rest_of_the_kernel_is_read() {
    let core = core(&memory());
    let kernel = Kernel::new(&core, symbols(), PhysAddr::new(TEXT_PHYSICAL).unwrap()).unwrap();
    assert_eq!(kernel.banner().unwrap(), "Linux version 6");
    assert_eq!(
        format!("{:?}", kernel.pfn_mapped().unwrap()),
        "[[0x0, 0x100000), [0x100000000, 0x180000000)]"
    );
    let btf = btf(true);
    let btf = Btf::parse(&btf).unwrap();
    assert_eq!(kernel.loaded_image(&btf, Slot::Crash).unwrap(), None);
    assert_eq!(kernel.btf_bytes(), Err(KernelError::Symbol("__start_BTF")));
}

#[test]
fn what_cannot_be_is_refused() {
    let with = |at: u64, value: u64| {
        let mut words = memory();
        words.insert(at, value);
        find(&words, &btf(true))
    };
    assert_eq!(with(KIMAGE + 16, 3), Err(KernelError::Implausible("nr_segments", 3)));
    let page = VMEMMAP + 1;
    assert_eq!(with(KIMAGE + 8, page), Err(KernelError::Implausible("struct page pointer", page)));
    assert!(matches!(with(KIMAGE + 56, 0x1234), Err(KernelError::Virtual(_))));
    assert!(matches!(with(KIMAGE + 32, u64::MAX), Err(KernelError::Range("segment", _))));
    assert!(matches!(
        with(TEXT_PHYSICAL + 0x1010, DIRECT + 0x900_0000),
        Err(KernelError::Unreadable(_))
    ));
    // No value of any word is more than an error.
    for at in memory().into_keys() {
        for value in
            [0, 1, 0xff, 1 << 51, 1 << 52, DIRECT, VMEMMAP, VMEMMAP + 64, u64::MAX - 7, u64::MAX]
        {
            let _ = with(at, value);
        }
    }
}

#[test]
fn the_kernel_in_iomem() {
    let iomem = "00000000-00000fff : Reserved\n100000000-15fffffff : System RAM\n  12aa00000-12b9fffff : Kernel code\n";
    assert_eq!(iomem_start(iomem, "Kernel code").unwrap().get(), 0x1_2aa0_0000);
    assert_eq!(iomem_start("00000000-00000000 : Kernel code\n", "Kernel code"), None);
    assert_eq!(iomem_start(iomem, "Kernel"), None);
}
