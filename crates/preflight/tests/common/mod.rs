//! Scenes of a few bytes of machine code.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]

use std::time::Duration;

use identmap::{
    Arena, Config, Guard, Levels, PageSize, PhysAddr, PhysRange, Plan, Policy, Slack, Slot, Table,
    VirtAddr, walk,
};
use identmap_preflight::{CR0_KEXEC, Content, CpuProfile, Limits, Report, Scene, run};

/// Where the code lies; one page of it.
pub const CODE: u64 = 0x20_0000;
/// Where the consumer's own tables lie.
pub const OWN: u64 = 0x50_0000;
/// The tables.
pub const TABLES: u64 = 0x10_0000;

pub fn r(start: u64, len: u64) -> PhysRange {
    PhysRange::from_len(start, len).unwrap()
}

pub fn content(name: &str, start: u64, len: u64, bytes: &[u8], loaded: bool) -> Content {
    Content { name: name.to_owned(), range: r(start, len), bytes: bytes.to_vec(), loaded }
}

/// Code at [`CODE`], two pages, mapped page by page with whatever else is asked for.
pub fn scene(code: &[u8], also: &[PhysRange]) -> Scene {
    scene_with(code, also, Config::kexec(Levels::Four, false))
}

pub fn scene_with(code: &[u8], also: &[PhysRange], config: Config) -> Scene {
    let mut requests = vec![r(CODE, 0x2000)];
    requests.extend(also);
    scene_under(code, &requests, config)
}

pub fn scene_under(code: &[u8], requests: &[PhysRange], config: Config) -> Scene {
    let guard = Guard { forbidden: &[], slack: Slack::None };
    let policy = Policy::Guarded(guard);
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, requests.len())];
    let plan = Plan::new(&config, &policy, requests, &mut slots).unwrap();
    let count = plan.tables().total();
    let mut tables = vec![Table::EMPTY; count as usize];
    let base = PhysAddr::new(TABLES).unwrap();
    let root = plan.build(&mut Arena::new(&mut tables, base).unwrap()).unwrap().root;
    let bytes: Vec<u8> = tables.iter().flat_map(|t| t.0).flat_map(u64::to_le_bytes).collect();
    Scene {
        contents: vec![
            content("image", CODE, 0x2000, code, true),
            content("page tables", TABLES, count * 4096, &bytes, false),
            own_tables(config.levels),
        ],
        entry: CODE,
        rsi: 0,
        rsp: CODE + 0x2000,
        root,
        tables: vec![r(TABLES, count * 4096)],
        paging: config.paging(),
        cr0: CR0_KEXEC,
        cpu: CpuProfile::named("amd-sev").unwrap(),
        limits: Limits { instructions: 2_000_000, time: Duration::from_secs(10), memory: 16 << 20 },
        places: Vec::new(),
    }
}

/// Changes the leaf entry that maps `virt`.
pub fn change_leaf(scene: &mut Scene, virt: u64, change: impl Fn(u64) -> u64) {
    let tables = scene.contents.iter_mut().find(|c| c.name == "page tables").unwrap();
    let image = Tables(tables);
    let step = walk(&image, scene.root, &scene.paging, VirtAddr::new(virt)).steps().last().unwrap();
    let at = (step.table.get() - tables.range.start().get()) as usize + step.index * 8;
    let bits = change(step.entry.bits());
    tables.bytes[at..at + 8].copy_from_slice(&bits.to_le_bytes());
}

struct Tables<'a>(&'a Content);

impl identmap::TableRead for Tables<'_> {
    fn entry(
        &self,
        table: PhysAddr,
        index: usize,
    ) -> Result<identmap::Entry, identmap::Unreadable> {
        assert!(table.is_aligned(PageSize::Size4K));
        let at = (table.get() - self.0.range.start().get()) as usize + index * 8;
        let bytes = self.0.bytes[at..at + 8].try_into().unwrap();
        Ok(identmap::Entry::from_bits(u64::from_le_bytes(bytes)))
    }
}

pub fn go(scene: &Scene) -> Report {
    run(scene).unwrap()
}

/// The consumer's own tables at [`OWN`]: the first 4 GiB, by leaves of 2 MiB.
pub fn own_tables(levels: Levels) -> Content {
    const ENTRIES: u64 = 512;
    let table = |number: u64| OWN + number * 4096;
    let mut words = vec![0; 4 * ENTRIES as usize];
    // Each to the next, at last to four of leaves. Present, writable; and a leaf.
    let depth = if levels == Levels::Five { 3 } else { 2 };
    for number in 0..depth {
        words[(number * ENTRIES) as usize] = table(number + 1) | 3;
    }
    words.truncate((depth * ENTRIES) as usize);
    for number in 0..4 {
        words[((depth - 1) * ENTRIES + number) as usize] = table(depth + number) | 3;
    }
    words.extend((0..4 * ENTRIES).map(|leaf| leaf << 21 | 0x83));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    content("own tables", OWN, bytes.len() as u64, &bytes, true)
}

/// `mov rax, 0x500000; mov cr3, rax; jmp .`: what ends a hand-over.
pub const OWN_TABLES: [u8; 12] =
    [0x48, 0xc7, 0xc0, 0x00, 0x00, 0x50, 0x00, 0x0f, 0x22, 0xd8, 0xeb, 0xfe];

/// Pieces of code, one after the other.
pub fn code(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}
