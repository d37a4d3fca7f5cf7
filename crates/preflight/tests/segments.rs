//! Images with a purgatory of their own, as `identmap load` and `kexec -l` leave them.

mod common;

use std::time::Duration;

use common::{OWN_TABLES, content, go, r};
use identmap::{Arena, Config, Levels, PhysAddr, Plan, Policy, Slot, Table};
use identmap_linux::{Kind, Producer, TablePage, Traits};
use identmap_machine::{Layout, Machine, parse};
use identmap_preflight::{
    Content, CpuProfile, Limits, Outcome, Scene, Segments, SetupError, StandingTables, Unknown,
};

const PURGATORY: u64 = 0x10_0000;
const KERNEL: u64 = 0x20_0000;
const NEW_TABLES: u64 = 0x40_0000;
/// A table far from RAM that only the image's own tables map.
const FAR: u32 = 0x7000_0000;

fn machine() -> (Machine, Layout) {
    let text = b"BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
        BIOS-e820: [mem 0x0000000000100000-0x0000000007ffffff] usable\n\
        BIOS-e820: [mem 0x0000000070000000-0x000000007000ffff] reserved\n";
    let machine = parse::machine("test", text).unwrap();
    let layout = Layout::of(&machine).unwrap();
    (machine, layout)
}

/// Tables at `base` that map all of this.
fn tables(base: u64, requests: &[identmap::PhysRange]) -> Vec<Table> {
    let config = Config::kexec(Levels::Four, true);
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&Policy::RoundOut, requests.len())];
    let plan = Plan::new(&config, &Policy::RoundOut, requests, &mut slots).unwrap();
    let mut tables = vec![Table::EMPTY; plan.tables().total() as usize];
    plan.build(&mut Arena::new(&mut tables, PhysAddr::new(base).unwrap()).unwrap()).unwrap();
    tables
}

/// `mov eax, NEW_TABLES; mov cr3, rax; mov eax, KERNEL; jmp rax`
fn switching_purgatory() -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend((NEW_TABLES as u32).to_le_bytes());
    code.extend([0x0f, 0x22, 0xd8, 0xb8]);
    code.extend((KERNEL as u32).to_le_bytes());
    code.extend([0xff, 0xe0]);
    code
}

/// `mov al, [FAR]`, then the kernel's own tables.
fn kernel() -> Vec<u8> {
    let mut code = vec![0x8a, 0x04, 0x25];
    code.extend(FAR.to_le_bytes());
    code.extend([0x0f, 0x1f, 0x00]);
    code.extend(OWN_TABLES);
    code
}

fn image(purgatory: &[u8]) -> Vec<Content> {
    let new = tables(NEW_TABLES, &[r(0, 2 << 30)]);
    let bytes: Vec<u8> = new.iter().flat_map(|t| t.0).flat_map(u64::to_le_bytes).collect();
    vec![
        content("purgatory", PURGATORY, 0x2000, purgatory, true),
        content("kernel", KERNEL, 0x2000, &kernel(), true),
        content("tables", NEW_TABLES, 0x10_000, &bytes, true),
    ]
}

fn scene(purgatory: &[u8], own_tables: &[identmap::PhysRange]) -> Scene {
    with(purgatory, own_tables, |segments, traits| segments.under(traits, true).unwrap())
}

fn with<T>(
    purgatory: &[u8],
    own_tables: &[identmap::PhysRange],
    look: impl FnOnce(&Segments<'_>, &Traits) -> T,
) -> T {
    let (machine, layout) = machine();
    let producer = Producer::of(None);
    let traits = producer.traits().candidates().iter().find(|t| !t.config_table).copied();
    let contents = image(purgatory);
    // The consumer's own tables are outside of its segments.
    let own = Content { loaded: false, ..common::own_tables(Levels::Four) };
    let known = [content("far table", u64::from(FAR), 0x100, &[7], false), own];
    let segments = Segments {
        machine: &machine,
        layout: &layout,
        contents: &contents,
        entry: PhysAddr::new(PURGATORY).unwrap(),
        own_tables,
        kind: Kind::Kexec,
        cpu: CpuProfile::named("intel").unwrap(),
        known: &known,
        limits: Limits { time: Duration::from_secs(5), ..Limits::default() },
    };
    look(&segments, &traits.unwrap())
}

#[test]
fn the_purgatory_s_tables_are_not_the_consumer_s() {
    let own = [r(NEW_TABLES, 0x10_000)];
    let report = go(&scene(&switching_purgatory(), &own));
    assert_eq!(report.outcome, Outcome::Reached { cr3: 0x50_0000 });
    // They map what the producer's do not.
    let [touch] = &report.touched[..] else { panic!("{:?}", report.touched) };
    assert_eq!(
        (touch.page.get(), touch.at.as_ref().unwrap().name.as_str()),
        (FAR.into(), "kernel")
    );
    // Not told whose they are, it would take the first switch for the hand-over.
    let early = go(&scene(&switching_purgatory(), &[])).outcome;
    assert_eq!(early, Outcome::Reached { cr3: NEW_TABLES });
    // But that they were loaded shows: what `preflight --loaded` goes by. It said safe before the consumer's
    // first instruction of an image that `identmap load` had loaded.
    with(&switching_purgatory(), &[], |segments, _| {
        let paging = Config::kexec(Levels::Four, true).paging();
        assert_eq!(segments.loaded_tables(NEW_TABLES, &paging), Some(own[0]));
        // The consumer's, outside of all segments; in one, but not of its file: the end of the kernel's.
        assert_eq!(segments.loaded_tables(0x50_0000, &paging), None);
        assert_eq!(segments.loaded_tables(KERNEL + 0x1000, &paging), None);
    });
}

/// The hand-over of an encrypted guest is not modelled: `preflight --loaded` ran it as if it were a plain one.
#[test]
fn an_encrypted_guest_s_image_is_not_run() {
    with(&switching_purgatory(), &[], |segments, traits| {
        let mut machine = segments.machine.clone();
        machine.cpu.encrypted_guest = Some(true);
        let segments = Segments { machine: &machine, ..*segments };
        assert_eq!(segments.under(traits, true).unwrap_err(), SetupError::EncryptedGuest);
        let (root, stack) = (PhysAddr::new(NEW_TABLES).unwrap(), PhysAddr::new(0x50_0ff8).unwrap());
        let paging = Config::kexec(Levels::Four, true).paging();
        let standing = StandingTables { root, paging, pages: &[], stack };
        assert_eq!(segments.on(&standing).unwrap_err(), SetupError::EncryptedGuest);
    });
}

#[test]
fn without_a_switch_the_producer_s_map_decides() {
    // mov eax, KERNEL; jmp rax
    let mut plain = vec![0xb8];
    plain.extend((KERNEL as u32).to_le_bytes());
    plain.extend([0xff, 0xe0]);
    let scene = scene(&plain, &[r(NEW_TABLES, 0x10_000)]);
    let outcome = go(&scene).outcome;
    let Outcome::Fault(fault) = &outcome else { panic!("{outcome:?}") };
    let page = fault.page_fault.as_ref().unwrap();
    assert_eq!((page.cr2.get(), page.what.as_ref().unwrap().1.as_str()), (FAR.into(), "far table"));
}

/// `relocate_kernel` leaves a word of zero on the control page's stack, and all else is not known.
#[test]
fn the_stack_is_the_control_page_s() {
    // pop rax; test rax, rax; je +2; ud2; push rax; mov eax, [rsp+8]; test eax, eax
    let pop = [0x58, 0x48, 0x85, 0xc0, 0x74, 0x02, 0x0f, 0x0b, 0x50];
    let below = [0x8b, 0x44, 0x24, 0xf0, 0x85, 0xc0];
    let outcome =
        go(&scene(&[&pop[..], &switching_purgatory()].concat(), &[r(NEW_TABLES, 0x10_000)]));
    assert_eq!(outcome.outcome, Outcome::Reached { cr3: 0x50_0000 });
    let outcome = go(&scene(&[&pop[..], &below].concat(), &[])).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Register { .. })), "{outcome:?}");
}

#[test]
fn tables_that_stand_in_memory_are_used_as_they_are() {
    let (machine, layout) = machine();
    let contents = image(&[]);
    // Entered at the kernel, under tables without the far one, in pages that do not follow another.
    let standing = tables(0x60_0000, &[r(0, 0x0800_0000)]);
    let pages: Vec<TablePage> = standing
        .iter()
        .enumerate()
        .map(|(i, table)| {
            let bytes: Vec<u8> = table.0.iter().flat_map(|e| e.to_le_bytes()).collect();
            let at = PhysAddr::new(0x60_0000 + i as u64 * 0x1000).unwrap();
            (at, bytes.into_boxed_slice().try_into().unwrap())
        })
        .collect();
    let segments = Segments {
        machine: &machine,
        layout: &layout,
        contents: &contents,
        entry: PhysAddr::new(KERNEL).unwrap(),
        own_tables: &[],
        kind: Kind::Kdump,
        cpu: CpuProfile::named("amd-nosev").unwrap(),
        known: &[],
        limits: Limits::default(),
    };
    let scene = |pages: &[TablePage]| {
        segments.on(&StandingTables {
            root: PhysAddr::new(0x60_0000).unwrap(),
            paging: Config::kexec(Levels::Four, true).paging(),
            pages,
            stack: PhysAddr::new(0x50_0ff8).unwrap(),
        })
    };
    let scene_of_all = scene(&pages).unwrap();
    assert_eq!((scene_of_all.rsp, scene_of_all.rsi), (0x50_0ff8, 0));
    let outcome = go(&scene_of_all).outcome;
    let Outcome::Fault(fault) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(fault.page_fault.as_ref().map(|page| page.cr2.get()), Some(FAR.into()));
    let outcome = go(&scene(&pages[..1]).unwrap()).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Table(_))), "{outcome:?}");
}

/// A purgatory as the two that exist, in little: hashing stands for a loop over its regions.
mod hashing {
    use super::*;
    use identmap_preflight::hashed_here;

    const REGIONS: usize = 0x800;
    const DIGEST: usize = 0xa00;
    /// SHA-256 of the empty string (FIPS 180-4).
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// Of 8191 bytes of zero and a one: `(head -c 8191 /dev/zero; printf '\001') | sha256sum`.
    const HASH: &str = "5326010abca42836f85bf76795149d1615b9bb082b85930ed416741518f10fb4";

    fn hex(text: &str) -> Vec<u8> {
        (0..32).map(|i| u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).unwrap()).collect()
    }

    fn scene(digest: &str, far: u64) -> Scene {
        let mut payload = vec![0; 0x2000];
        payload[0x1fff] = 1;
        let mut purgatory = switching_purgatory();
        purgatory.resize(0x1000, 0);
        purgatory[REGIONS..REGIONS + 8].copy_from_slice(&far.to_le_bytes());
        purgatory[REGIONS + 8..REGIONS + 16].copy_from_slice(&0x2000_u64.to_le_bytes());
        purgatory[DIGEST..DIGEST + 32].copy_from_slice(&hex(digest));
        let mut scene = super::scene(&purgatory, &[]);
        scene.contents.push(content("payload", far, 0x2000, &payload, true));
        scene
    }

    fn purgatory(scene: &Scene) -> &[u8] {
        &scene.contents.iter().find(|content| content.name == "purgatory").unwrap().bytes
    }

    #[test]
    fn a_hash_that_is_right_is_taken_out() {
        let (after, sentence) = hashed_here(scene(HASH, 0x30_0000));
        assert!(sentence.unwrap().contains("0x2000 bytes"));
        assert_eq!(purgatory(&after)[DIGEST..DIGEST + 32], hex(NOTHING));
        assert_eq!(
            purgatory(&after)[REGIONS..REGIONS + 16],
            [0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn one_that_is_not_or_could_not_be_computed_stays() {
        // Wrong; of memory that the producer does not map.
        for before in [scene(NOTHING, 0x30_0000), scene(HASH, 0x4000_0000)] {
            let (after, sentence) = hashed_here(before.clone());
            assert_eq!((after == before, sentence), (true, None));
        }
    }
}
