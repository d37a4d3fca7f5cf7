//! What a kernel tells about itself, damaged in any way: its types, its symbols, its memory, core
//! files of it, and the image that is loaded into it.

use std::cell::{Cell, OnceCell};
use std::fmt::Write;

use identmap::VirtAddr;
use identmap_linux::Kind;
use identmap_linux::btf::Btf;
use identmap_linux::kallsyms::{NoSymbol, SYMBOLS, Symbols};
use identmap_linux::kimage::{Kernel, KernelError, LoadedImage, RootPlace};
use identmap_linux::memory::{KernelMemory, TablePages, Unreadable, Why};
use identmap_linux::vmcore::Core;

use crate::bytes::Bytes;
use crate::decode::check_tables;
use crate::support::{FakeKernel, IMAGE, KIMAGE, Made, TABLES};

/// BTF as it is, or after a zero byte damage to that of the hand-made kernel: two bytes for the
/// place, one for the value.
pub fn btf(bytes: &[u8]) {
    match bytes {
        [0, changes @ ..] => {
            check_btf(&damaged_btf(&with_fake(0, |fake| fake.btf.clone()), changes));
        }
        _ => check_btf(bytes),
    }
}

fn damaged_btf(whole: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}

fn check_btf(bytes: &[u8]) {
    let btf = match Btf::parse(bytes) {
        Ok(btf) => btf,
        Err(error) => return check_text(&error.to_string()),
    };
    let structures = ["kimage", "kexec_segment", "page", "mem", ""];
    let members = ["head", "segment", "type", "arch", "memsz", "pgd", ""];
    for structure in structures {
        let _ = btf.size_of(structure);
        for member in members {
            let found = btf.member(structure, member);
            assert_eq!(btf.offset_of(structure, member), found.map(|found| found.offset));
            let bits = btf.bits(structure, member);
            if let Some(found) = found {
                // An integer may say that it begins up to 255 bits further.
                let (first, _) = bits.expect("a member has bits");
                let further = first.checked_sub(found.offset * 8);
                assert!(further.is_some_and(|bits| bits <= 0xff), "{found:?} {bits:?}");
            }
            // Each search may take long in structures that contain themselves.
            for inner in ["memsz", "pgd"] {
                let path = format!("{member}.{inner}");
                if let Some(deep) = btf.member(structure, &path) {
                    // A structure, and so it has a size and a place.
                    assert!(found.is_some_and(|outer| outer.offset <= deep.offset), "{path}");
                    assert_eq!(btf.offset_of(structure, &path), Some(deep.offset));
                }
            }
        }
    }
}

/// Any text as `/proc/kallsyms`.
pub fn kallsyms(bytes: &[u8]) {
    let symbols = Symbols::parse(bytes);
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let backwards = lines.iter().rev().copied().collect::<Vec<_>>().join(&b'\n');
    let twice = [bytes, bytes].join(&b'\n');
    let with_modules =
        [bytes, b"ffffffffc0000000 t kexec_image\t[m]\nffffffffc0000000 d phys_base [m]"]
            .join(&b'\n');
    let others = [backwards, twice, with_modules].map(|text| Symbols::parse(&text));
    for name in SYMBOLS {
        let found = symbols.get(name);
        for other in &others {
            assert_eq!(other.get(name), found, "{name}");
        }
        let addresses = addresses_of(&lines, name);
        match found {
            Ok(address) => assert!(
                address.get() != 0 && addresses.iter().all(|&known| known == address.get()),
                "{name}: {addresses:x?}"
            ),
            Err(NoSymbol::Ambiguous) => {
                assert!(addresses.iter().any(|&known| known != addresses[0]));
            }
            Err(NoSymbol::Absent | NoSymbol::NoData) => assert_eq!(addresses, [0; 0]),
            Err(NoSymbol::Empty | NoSymbol::Hidden) => {
                assert!(addresses.iter().all(|&known| known == 0));
            }
        }
    }
    assert!(symbols.get("no_symbol_of_ours").is_err());
}

/// By other means than the parser's.
fn addresses_of(lines: &[&[u8]], name: &str) -> Vec<u64> {
    let address = |line: &&[u8]| {
        let line = String::from_utf8_lossy(line);
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let hex = |word: &str| word.len() <= 16 && !word.starts_with('+');
        (words.len() == 3 && words[2] == name && hex(words[0]))
            .then(|| u64::from_str_radix(words[0], 16).ok())
            .flatten()
    };
    lines.iter().filter_map(address).collect()
}

/// A byte for the hand-made kernel, then changes to what it holds.
pub fn loaded_image(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let which = usize::from(bytes.byte()) % Made::all().len();
    with_fake(which, |fake| {
        let (direct, vmemmap) = fake.made.bases();
        let mut changed = Changed::default();
        let (mut types, mut symbols) = (Vec::new(), String::new());
        let harmless = bytes.is_empty();
        while !bytes.is_empty() {
            let place = bytes.byte();
            let index = u64::from(bytes.byte());
            let at = match place & 7 {
                0 | 1 => IMAGE + 0x1000 + index % 16 * 8,
                2 | 3 => direct + KIMAGE + index % 32 * 8,
                4 => direct + TABLES + (u64::from(bytes.byte()) << 12) + index * 16,
                5 => direct + fake.root + index * 8,
                6 => {
                    types.extend([index as u8, bytes.byte() & 1, bytes.byte()]);
                    continue;
                }
                _ => {
                    let name = SYMBOLS[index as usize % SYMBOLS.len()];
                    let address = some_value(&mut bytes, direct, vmemmap);
                    writeln!(symbols, "{address:016x} D {name}").unwrap();
                    continue;
                }
            };
            match place >> 7 {
                0 => changed.words.push((at, some_value(&mut bytes, direct, vmemmap))),
                _ => changed.gone.push((at, u64::from(bytes.byte()))),
            }
        }
        if symbols.len() > 1 && place_first(&symbols) {
            // Instead of the true one, not beside it.
            let new = |line: &&str| !symbols.contains(line.split(' ').nth(2).unwrap_or_default());
            let kept: Vec<&str> = fake.kallsyms.lines().filter(new).collect();
            symbols += &kept.join("\n");
        } else {
            symbols += &fake.kallsyms;
        }
        changed.core = Some(&fake.core);
        let symbols = Symbols::parse(symbols.as_bytes());
        let types = damaged_btf(&fake.btf, &types);
        let kernel =
            Btf::parse(&types).ok().map(|btf| check_kernel(&changed, &symbols, &btf, fake.made));
        if harmless {
            let (image, whole) = kernel.expect("types").expect("an image");
            assert!(whole && image.root.get() == fake.root && image.segments.len() == 2);
        }
    });
}

/// The image, and whether all its tables were read; each answer is true of the memory, and each
/// error can be shown.
fn check_kernel(
    memory: &Changed<'_>,
    symbols: &Symbols,
    btf: &Btf<'_>,
    made: Made,
) -> Option<(LoadedImage, bool)> {
    let shown = |error: &KernelError| check_text(&error.to_string());
    let kernel = Kernel::new(memory, symbols, btf).inspect_err(shown).ok()?;
    let mask = kernel.encryption_mask();
    assert!(mask == 0 || mask.is_power_of_two() && mask < 1 << 52);
    assert!(kernel.direct_map().get() >= 0xff00_0000_0000_0000);
    for range in kernel.pfn_mapped().inspect_err(shown).unwrap_or_default() {
        assert!(range.start().get() < range.end().get() && range.end().get() % 4096 == 0);
    }
    let _ = kernel.efi_config_table().inspect_err(shown);
    let _ = kernel.direct_gbpages().inspect_err(shown);
    let mut answer = None;
    for kind in [Kind::Kexec, Kind::Kdump] {
        let paging = kernel.paging(46, true);
        let image = kernel.image(kind).inspect_err(shown);
        let tables = kernel.image_tables(kind, paging).inspect_err(shown);
        let (Ok(Some(image)), Ok(Some((same, tables)))) = (image, tables) else { continue };
        assert_eq!((&image, image.kind), (&same, kind));
        assert_eq!((image.root, paging), (tables.root, tables.paging));
        assert!(image.root.get().is_multiple_of(4096));
        assert!(image.control_page.get().is_multiple_of(4096));
        assert!(image.root_in == RootPlace::OwnPage || image.root == image.control_page);
        assert!(image.structure.get() >= kernel.direct_map().get());
        check_tables(&TablePages::distrusting_zeros(kernel.physical()), &tables);
        if kind == made.kind {
            answer = Some((image, tables.is_whole()));
        }
    }
    answer
}

/// Whether the symbols that were given replace the true ones.
fn place_first(symbols: &str) -> bool {
    symbols.as_bytes()[15].is_multiple_of(2)
}

fn some_value(bytes: &mut Bytes<'_>, direct: u64, vmemmap: u64) -> u64 {
    let kind = bytes.byte();
    let small = u64::from(bytes.byte());
    match kind & 7 {
        0 => small,
        1 => 1 << (small & 63),
        2 => direct.wrapping_add(u64::from(bytes.byte()) << 16 | small << 3),
        3 => vmemmap.wrapping_add(small << 6),
        4 => (TABLES + (small << 12)) | 0x63,
        5 => IMAGE + 0x1000 + small * 8,
        6 => (small << 21) | 0xe3,
        _ => bytes.word(),
    }
}

/// The memory of a hand-made kernel, some words of it changed, and some pages' beginnings gone.
#[derive(Default)]
struct Changed<'f> {
    core: Option<&'f Core<Vec<u8>>>,
    words: Vec<(u64, u64)>,
    gone: Vec<(u64, u64)>,
    reads: Cell<u64>,
}

impl KernelMemory for Changed<'_> {
    fn read_virt(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<(), Unreadable> {
        // Whatever the memory holds, a bounded part of it is read.
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < 10_000_000, "reads and reads");
        let (first, size) = (at.get(), buffer.len() as u64);
        if let Some((gone, _)) = self.gone.iter().find(|(gone, bytes)| {
            gone.wrapping_sub(first) < size || first.wrapping_sub(*gone) < *bytes
        }) {
            return Err(Unreadable::virt(VirtAddr::new(*gone), Why::NotHeld));
        }
        self.core.expect("set").read_virt(at, buffer)?;
        for (place, word) in &self.words {
            for (place, byte) in (*place..).zip(word.to_le_bytes()) {
                let offset = place.wrapping_sub(first);
                if offset < size {
                    buffer[offset as usize] = byte;
                }
            }
        }
        Ok(())
    }
}

/// A hand-made kernel, and a core file of it.
struct Fake {
    made: Made,
    root: u64,
    kallsyms: String,
    btf: Vec<u8>,
    core: Core<Vec<u8>>,
}

/// Each is made once.
fn with_fake<R>(which: usize, then: impl FnOnce(&Fake) -> R) -> R {
    thread_local! {
        static FAKES: [OnceCell<Fake>; 8] = const { [const { OnceCell::new() }; 8] };
    }
    FAKES.with(|fakes| {
        then(fakes[which].get_or_init(|| {
            let fake = FakeKernel::new(Made::all()[which]);
            let core = Core::open(fake.kcore()).unwrap();
            let FakeKernel { made, root, kallsyms, btf, .. } = fake;
            Fake { made, root, kallsyms, btf, core }
        }))
    })
}

/// No terminal obeys it.
pub(crate) fn check_text(text: &str) {
    assert!(text.len() < 4096 && !text.chars().any(char::is_control), "{text:?}");
}
