//! Code that is written over while it stands translated: a decompressor puts its output where it ran itself.

mod common;

use common::{CODE, OWN_TABLES, TABLES, code, go, r, scene};
use identmap_preflight::{Outcome, Scene, Unknown};

const SECOND: u64 = CODE + 0x1000;

/// The first page runs, and jumps to the second; that writes `ud2` over the first, in the way given, and goes back.
fn overwritten(write: &[u8]) -> Scene {
    let mut image = vec![0x90; 0x2000];
    // 0x200000: jmp 0x201000. 0x200010, jumped over: own tables.
    image[..5].copy_from_slice(&[0xe9, 0xfb, 0x0f, 0x00, 0x00]);
    image[0x10..0x10 + OWN_TABLES.len()].copy_from_slice(&OWN_TABLES);
    // Back to the first byte, which is ud2 by then, or was not seen to change: then it never ends.
    let back = [0xb8, 0x00, 0x00, 0x20, 0x00, 0xff, 0xe0];
    let second = code(&[write, &back]);
    image[0x1000..0x1000 + second.len()].copy_from_slice(&second);
    let mut scene = scene(&image, &[r(TABLES, 0x8000)]);
    scene.limits.instructions = 10_000;
    scene
}

fn assert_changed(scene: &Scene) {
    let outcome = go(scene).outcome;
    let ud2 =
        matches!(&outcome, Outcome::Fault(fault) if fault.vector == 6 && fault.rip.get() == CODE);
    assert!(ud2, "{outcome:?}");
}

#[test]
fn a_store_into_code_that_has_run() {
    // mov word [0x200000], 0x0b0f
    let store = [0x66, 0xc7, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0x0f, 0x0b];
    assert_changed(&overwritten(&store));
}

#[test]
fn a_copy_over_code_that_has_run() {
    // mov word [0x201800], 0x0b0f; mov esi, 0x201800; mov edi, 0x200000; mov ecx, 0x400; rep movsb
    let copy = [
        0x66, 0xc7, 0x04, 0x25, 0x00, 0x18, 0x20, 0x00, 0x0f, 0x0b, 0xbe, 0x00, 0x18, 0x20, 0x00,
        0xbf, 0x00, 0x00, 0x20, 0x00, 0xb9, 0x00, 0x04, 0x00, 0x00, 0xf3, 0xa4,
    ];
    assert_changed(&overwritten(&copy));
}

/// Through another address: the consumer gives its page a second one in the tables it was entered with.
#[test]
fn a_store_through_another_address() {
    let mut at = Vec::new();
    // The leaf table is the last; its entry for 0x205000 becomes that of 0x200000.
    let entry = leaf_entry();
    // mov rax, [entry]; mov [entry + 5 * 8], rax; mov word [0x205000], 0x0b0f
    at.extend([0x48, 0x8b, 0x04, 0x25]);
    at.extend(entry.to_le_bytes());
    at.extend([0x48, 0x89, 0x04, 0x25]);
    at.extend((entry + 40).to_le_bytes());
    at.extend([0x66, 0xc7, 0x04, 0x25, 0x00, 0x50, 0x20, 0x00, 0x0f, 0x0b]);
    assert_changed(&overwritten(&at));
}

/// The page of the code is exchanged for another under the same address: `invlpg`, and a jump there.
#[test]
fn another_page_under_the_same_address() {
    let entry = leaf_entry();
    // mov word [0x203000], 0x0b0f; xor dword [entry], 0x3000: 0x200000 leads to 0x203000; invlpg [0x200000]
    let mut change = vec![0x66, 0xc7, 0x04, 0x25, 0x00, 0x30, 0x20, 0x00, 0x0f, 0x0b];
    change.extend([0x81, 0x34, 0x25]);
    change.extend(entry.to_le_bytes());
    change.extend([0x00, 0x30, 0x00, 0x00]);
    change.extend([0x0f, 0x01, 0x3c, 0x25, 0x00, 0x00, 0x20, 0x00]);
    let mut scene = overwritten(&change);
    let old = scene.contents.len();
    scene.contents.push(common::content("more", SECOND + 0x2000, 0x1000, &[], true));
    let mut with_more =
        common::scene(&scene.contents[0].bytes, &[r(TABLES, 0x8000), r(0x20_3000, 0x1000)]);
    with_more.contents.extend(scene.contents.drain(old..));
    with_more.limits = scene.limits;
    assert_changed(&with_more);
}

/// The same, and the page is read under its address before the jump: what it is to be ruled by was still the
/// one that had run there before.
#[test]
fn another_page_under_the_same_address_that_was_read() {
    let entry = leaf_entry();
    // Five nops; mov al, 0xfe; out 0x64, al; ud2. Then as above; at last mov bl, [0x200000].
    let mut change = Vec::new();
    for (at, word) in [(0x00, 0x9090_9090_u32), (0x04, 0xe6fe_b090), (0x08, 0x900b_0f64)] {
        change.extend([0xc7, 0x04, 0x25, at, 0x30, 0x20, 0x00]);
        change.extend(word.to_le_bytes());
    }
    change.extend([0x81, 0x34, 0x25]);
    change.extend(entry.to_le_bytes());
    change.extend([0x00, 0x30, 0x00, 0x00]);
    change.extend([0x0f, 0x01, 0x3c, 0x25, 0x00, 0x00, 0x20, 0x00]);
    change.extend([0x8a, 0x1c, 0x25, 0x00, 0x00, 0x20, 0x00]);
    let before = overwritten(&change);
    let mut scene =
        common::scene(&before.contents[0].bytes, &[r(TABLES, 0x8000), r(0x20_3000, 0x1000)]);
    scene.contents.push(common::content("more", SECOND + 0x2000, 0x1000, &[], true));
    scene.limits = before.limits;
    let outcome = go(&scene).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Engine(_))), "{outcome:?}");
}

/// Where the entry lies that maps the code.
fn leaf_entry() -> u32 {
    let scene = overwritten(&[]);
    let code = identmap::VirtAddr::new(CODE);
    let walked = identmap::walk(&Tables(&scene), scene.root, &scene.paging, code);
    let leaf = walked.steps().last().unwrap();
    leaf.table.get() as u32 + leaf.index as u32 * 8
}

struct Tables<'a>(&'a Scene);

impl identmap::TableRead for Tables<'_> {
    fn entry(
        &self,
        table: identmap::PhysAddr,
        index: usize,
    ) -> Result<identmap::Entry, identmap::Unreadable> {
        let tables = self.0.contents.iter().find(|c| c.name == "page tables").unwrap();
        let at = (table.get() - tables.range.start().get()) as usize + index * 8;
        let bytes = tables.bytes[at..at + 8].try_into().unwrap();
        Ok(identmap::Entry::from_bits(u64::from_le_bytes(bytes)))
    }
}
