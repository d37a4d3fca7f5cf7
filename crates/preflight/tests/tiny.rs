//! A few bytes of machine code each: every outcome, to the byte.

mod common;

use common::{
    CODE, OWN, OWN_TABLES, change_leaf, code, content, go, own_tables, r, scene, scene_under,
    scene_with,
};
use identmap::{Config, Flags, Levels, PhysAddr};
use identmap_preflight::{
    Access, CR0_WP, CpuFact, CpuProfile, Fault, Outcome, PageFault, Scene, Unknown,
};

fn fault(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Fault(fault) => *fault,
        other => panic!("{other:?}"),
    }
}

fn page_fault(outcome: Outcome) -> (u64, PageFault) {
    let fault = fault(outcome);
    assert_eq!(fault.vector, 14);
    (fault.rip.get(), fault.page_fault.unwrap())
}

fn reached(outcome: &Outcome) {
    assert_eq!(*outcome, Outcome::Reached { cr3: OWN });
}

/// mov rax, [0x300000]
const READ_3M: [u8; 8] = [0x48, 0x8b, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00];
/// mov [0x300000], rax
const WRITE_3M: [u8; 8] = [0x48, 0x89, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00];

#[test]
fn own_tables_end_the_run_and_pages_outside_are_listed() {
    let mut scene = scene(&code(&[&WRITE_3M, &READ_3M, &OWN_TABLES]), &[r(0x30_0000, 0x1000)]);
    scene.places.push((r(0x30_0010, 8), "not on the first byte".to_owned()));
    let report = go(&scene);
    reached(&report.outcome);
    assert_eq!(report.instructions, 4);
    let [touch] = &report.touched[..] else { panic!("{:?}", report.touched) };
    assert_eq!((touch.page.get(), touch.first, touch.rip.get()), (0x30_0000, Access::Write, CODE));
    assert_eq!((touch.read, touch.written, touch.executed), (true, true, false));
    assert_eq!(touch.at.as_ref().unwrap().to_string(), "image+0x0");
}

#[test]
fn the_same_cr3_again_is_no_hand_over() {
    // mov rax, cr3; mov cr3, rax
    let reload = [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8];
    let report = go(&scene(&code(&[&reload, &reload, &OWN_TABLES]), &[]));
    reached(&report.outcome);
    assert_eq!(report.instructions, 6);
}

#[test]
fn a_root_that_no_processor_takes_is_no_hand_over() {
    // mov rax, imm64; mov cr3, rax; jmp .
    let load =
        |root: u64| code(&[&[0x48, 0xb8], &root.to_le_bytes(), &[0x0f, 0x22, 0xd8, 0xeb, 0xfe]]);
    let outcome = |root| go(&scene(&load(root), &[])).outcome;
    for root in [u64::MAX, 1 << 63 | 0x50_0000, 1 << 52] {
        assert_eq!(fault(outcome(root)).vector, 13, "{root:#x}");
    }
    reached(&outcome(OWN));
    let high = 1 << 45 | OWN;
    let mut narrow = scene(&load(high), &[]);
    let root = own_tables(Levels::Four).bytes[..0x1000].to_vec();
    narrow.contents.push(content("a root", high, 0x1000, &root, true));
    assert_eq!(go(&narrow).outcome, Outcome::Reached { cr3: high });
    narrow.paging.maxphyaddr = 45;
    assert_eq!(fault(go(&narrow).outcome).vector, 13);
    narrow.paging.encryption_mask = 1 << 45;
    assert_eq!(go(&narrow).outcome, Outcome::Reached { cr3: high });
}

/// Nobody has written it, or not all of what maps the next instruction: it was taken for the consumer's own.
#[test]
fn a_root_that_cannot_be_read_is_no_hand_over() {
    let table = |scene: &Scene| match go(scene).outcome {
        Outcome::Unknown(Unknown::Table(table)) => table.get(),
        other => panic!("{other:?}"),
    };
    let mut scene = scene(&OWN_TABLES, &[]);
    let own = scene.contents.pop().unwrap();
    assert_eq!(table(&scene), OWN);
    scene.contents.push(content("a root", OWN, 0x1000, &own.bytes[..0x1000], true));
    assert_eq!(table(&scene), OWN + 0x1000);
}

/// As a consumer does to switch between 4 and 5 levels: a root of its own over the producer's tables.
#[test]
fn a_copy_of_the_root_is_no_hand_over() {
    // mov esi, 0x100000 (the root); mov edi, 0x300000; mov ecx, 512; rep movsq; mov eax, 0x300000
    let copy = [
        0xbe, 0, 0, 0x10, 0, 0xbf, 0, 0, 0x30, 0, 0xb9, 0, 2, 0, 0, 0xf3, 0x48, 0xa5, 0xb8, 0, 0,
        0x30, 0, 0x0f, 0x22, 0xd8,
    ];
    let also = [r(0x30_0000, 0x1000), r(common::TABLES, 0x1000)];
    let report = go(&scene(&code(&[&copy, &OWN_TABLES]), &also));
    reached(&report.outcome);
    // One without the entry that leads to them maps nothing, not the next instruction either.
    let clear = [0x31, 0xc0, 0xbf, 0, 0, 0x30, 0, 0xb9, 0, 2, 0, 0, 0xf3, 0x48, 0xab];
    let load = [0xb8, 0, 0, 0x30, 0, 0x0f, 0x22, 0xd8];
    let report = go(&scene(&code(&[&clear, &load, &OWN_TABLES]), &also));
    let fault = fault(report.outcome);
    assert_eq!((fault.vector, fault.rip.get(), fault.page_fault), (14, CODE + 23, None));
}

#[test]
fn a_page_fault_to_the_byte() {
    // nop; mov al, [0x300123]
    let read = [0x90, 0x8a, 0x04, 0x25, 0x23, 0x01, 0x30, 0x00];
    let mut scene = scene(&read, &[r(0x30_1000, 0x1000), r(0x2f_e000, 0x2000)]);
    scene.places.push((r(0x30_0000, 0x1000), "a hole".to_owned()));
    let report = go(&scene);
    assert_eq!(report.touched, []);
    let (rip, page) = page_fault(report.outcome);
    assert_eq!(
        (rip, page.cr2.get(), page.code, page.access),
        (CODE + 1, 0x30_0123, 0, Access::Read)
    );
    assert_eq!(page.what, Some((r(0x30_0000, 0x1000), "a hole".to_owned())));
    assert_eq!(page.below, Some(r(0x2f_e000, 0x2000)));
    assert_eq!(page.above, Some(r(0x30_1000, 0x1000)));
}

#[test]
fn an_access_across_a_page_faults_at_the_second_page() {
    // mov [0x300ffc], rax
    let write = [0x48, 0x89, 0x04, 0x25, 0xfc, 0x0f, 0x30, 0x00];
    let (_, page) = page_fault(go(&scene(&write, &[r(0x30_0000, 0x1000)])).outcome);
    assert_eq!((page.cr2.get(), page.code), (0x30_1000, 2));
}

#[test]
fn a_jump_to_an_unmapped_page() {
    // mov eax, 0x900123; jmp rax
    let jump = [0xb8, 0x23, 0x01, 0x90, 0x00, 0xff, 0xe0];
    let (rip, page) = page_fault(go(&scene(&jump, &[])).outcome);
    assert_eq!((rip, page.cr2.get(), page.code), (0x90_0123, 0x90_0123, 16));
    assert_eq!(page.access, Access::Fetch);
}

#[test]
fn a_page_that_must_not_be_executed() {
    let jump = [0xb8, 0x23, 0x01, 0x90, 0x00, 0xff, 0xe0];
    let mut scene = scene(&jump, &[r(0x90_0000, 0x1000)]);
    scene.contents.push(content("data", 0x90_0000, 0x1000, &[], true));
    change_leaf(&mut scene, 0x90_0000, |bits| bits | Flags::NO_EXECUTE.bits());
    let (_, page) = page_fault(go(&scene).outcome);
    assert_eq!((page.cr2.get(), page.code), (0x90_0123, 17));
}

#[test]
fn write_protection_counts_only_with_wp() {
    let mut scene = scene(&code(&[&WRITE_3M, &OWN_TABLES]), &[r(0x30_0000, 0x1000)]);
    change_leaf(&mut scene, 0x30_0000, |bits| bits & !Flags::WRITABLE.bits());
    reached(&go(&scene).outcome);
    scene.cr0 |= CR0_WP;
    let (_, page) = page_fault(go(&scene).outcome);
    assert_eq!((page.cr2.get(), page.code, page.access), (0x30_0000, 3, Access::Write));
}

#[test]
fn reserved_bits_are_the_processor_s() {
    let mut scene = scene(&code(&[&READ_3M, &OWN_TABLES]), &[r(0x30_0000, 0x1000)]);
    scene.paging.maxphyaddr = 46;
    change_leaf(&mut scene, 0x30_0000, |bits| bits | 1 << 46);
    let (_, page) = page_fault(go(&scene).outcome);
    assert_eq!((page.cr2.get(), page.code), (0x30_0000, 9));
    // The same bit as an encryption bit is none.
    scene.paging.encryption_mask = 1 << 46;
    reached(&go(&scene).outcome);
}

#[test]
fn leaves_of_1_gib_need_a_processor_that_has_them() {
    let whole = [r(0, 1 << 30)];
    let mut scene = scene_under(&OWN_TABLES, &whole, Config::kexec(Levels::Four, true));
    reached(&go(&scene).outcome);
    scene.paging.pdpe1gb = false;
    let (_, page) = page_fault(go(&scene).outcome);
    assert_eq!((page.cr2.get(), page.code), (CODE, 25));
}

#[test]
fn no_address_is_too_high() {
    for (levels, high) in
        [(Levels::Four, 0x7f_ffff_0000_0000_u64), (Levels::Five, 0xf_0000_0000_0000)]
    {
        let high = if levels == Levels::Four { high >> 8 } else { high };
        // mov rbx, imm64; mov [rbx], rbx; mov rax, [rbx]; cmp rax, rbx; je +2; ud2
        let mut test = vec![0x48, 0xbb];
        test.extend(high.to_le_bytes());
        test.extend([0x48, 0x89, 0x1b, 0x48, 0x8b, 0x03, 0x48, 0x39, 0xd8, 0x74, 0x02, 0x0f, 0x0b]);
        let config = Config::kexec(levels, true);
        let scene = scene_with(&code(&[&test, &OWN_TABLES]), &[r(high, 0x1000)], config);
        let report = go(&scene);
        reached(&report.outcome);
        assert_eq!(report.touched[0].page, PhysAddr::new(high).unwrap());
    }
}

#[test]
fn addresses_that_are_not_canonical() {
    // mov rbx, 0x0000800000000000; mov rax, [rbx]
    let read = [0x48, 0xbb, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x48, 0x8b, 0x03];
    let fault = fault(go(&scene(&read, &[])).outcome);
    assert_eq!((fault.vector, fault.rip.get(), fault.page_fault), (13, CODE + 10, None));
}

#[test]
fn exceptions_of_instructions() {
    for (bytes, vector) in [
        // xor ecx, ecx; div ecx
        (&[0x31, 0xc9, 0xf7, 0xf1][..], 0),
        // ud2
        (&[0x0f, 0x0b], 6),
        // int3
        (&[0xcc], 3),
    ] {
        let fault = fault(go(&scene(bytes, &[])).outcome);
        assert_eq!((fault.vector, fault.handler), (vector, None), "{bytes:x?}");
    }
    // nop; hlt
    let outcome = go(&scene(&[0x90, 0xf4], &[])).outcome;
    assert!(matches!(outcome, Outcome::Halted { rip, .. } if rip.get() == CODE + 2), "{outcome:?}");
}

#[test]
fn a_loop_without_end_is_unknown() {
    let mut scene = scene(&[0xeb, 0xfe], &[]);
    scene.limits.instructions = 10_000;
    let report = go(&scene);
    let why = Unknown::Instructions { limit: 10_000, rip: identmap::VirtAddr::new(CODE) };
    assert_eq!(report.outcome, Outcome::Unknown(why));
    scene.limits.instructions = u64::MAX;
    scene.limits.time = std::time::Duration::from_millis(50);
    let report = go(&scene);
    assert!(matches!(report.outcome, Outcome::Unknown(Unknown::Time { rip: Some(_) })));
    assert!(report.time.as_secs() < 5, "{:?}", report.time);
}

#[test]
fn more_memory_than_allowed_is_unknown() {
    // mov edi, 0x400000; 1: mov [rdi], al; add rdi, 0x1000; jmp 1b
    let walk = [0xbf, 0, 0, 0x40, 0, 0x88, 0x07, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0xeb, 0xf5];
    let mut scene = scene(&walk, &[r(0x40_0000, 0x4000_0000)]);
    scene.limits.memory = 1 << 20;
    let why = Unknown::Memory { limit: 1 << 20 };
    assert_eq!(go(&scene).outcome, Outcome::Unknown(why));
}

/// The code writes an instruction into its own way, in the same page: inc eax becomes `mov cr3`'s way.
#[test]
fn code_that_changes_itself() {
    // mov word [rip], 0x04eb (jmp +4); jmp +0; ud2; ud2; ud2
    let change = [0x66, 0xc7, 0x05, 0, 0, 0, 0, 0xeb, 0x04, 0xeb, 0, 0x0f, 0x0b, 0x0f, 0x0b];
    let report = go(&scene(&code(&[&change, &OWN_TABLES]), &[]));
    reached(&report.outcome);
    assert_eq!(report.instructions, 5);
}

#[test]
fn a_decision_by_unknown_content_is_unknown() {
    // cmp byte [0x300005], 7
    let compare = [0x80, 0x3c, 0x25, 0x05, 0x00, 0x30, 0x00, 0x07];
    let mut scene = scene(&code(&[&compare, &OWN_TABLES]), &[r(0x30_0000, 0x2000)]);
    scene.places.push((r(0x30_0000, 0x1000), "reserved".to_owned()));
    let expected = Outcome::Unknown(Unknown::Content {
        range: r(0x30_0005, 1),
        access: Access::Read,
        rip: identmap::VirtAddr::new(CODE),
        what: Some("reserved".to_owned()),
    });
    assert_eq!(go(&scene).outcome, expected);
    // The same, known.
    scene.contents.push(content("table", 0x30_0000, 0x10, &[], false));
    let report = go(&scene);
    reached(&report.outcome);
    assert_eq!(report.touched[0].what, Some((r(0x30_0000, 0x10), "table".to_owned())));
}

#[test]
fn unknown_content_may_be_copied_but_the_copy_is_as_unknown() {
    // mov esi, 0x300000; mov edi, 0x201f00; mov ecx, 3; rep movsq
    let movs = [0xbe, 0, 0, 0x30, 0, 0xbf, 0, 0x1f, 0x20, 0, 0xb9, 3, 0, 0, 0, 0xf3, 0x48, 0xa5];
    // mov rdx, [rsi]; nop; mov [rdi], rdx; xor eax, eax
    let mov = [0x48, 0x8b, 0x16, 0x90, 0x48, 0x89, 0x17, 0x31, 0xc0];
    let also = [r(0x30_0000, 0x2000)];
    reached(&go(&scene(&code(&[&movs, &mov, &OWN_TABLES]), &also)).outcome);
    // cmp byte [0x201f1f], 0: the last byte that `mov` copied; the next one is the image's own.
    for (last, known) in [(0x1f, false), (0x20, true), (0x17, false)] {
        let compare = [0x80, 0x3c, 0x25, last, 0x1f, 0x20, 0x00, 0x00];
        let outcome = go(&scene(&code(&[&movs, &mov, &compare, &OWN_TABLES]), &also)).outcome;
        let unknown = matches!(outcome, Outcome::Unknown(Unknown::Content { .. }));
        assert_eq!(unknown, !known, "{last:#x}: {outcome:?}");
    }
    // test rdx, rdx
    let outcome =
        go(&scene(&code(&[&movs, &mov, &[0x48, 0x85, 0xd2], &OWN_TABLES]), &also)).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Register { .. })), "{outcome:?}");
    // Overwritten, the copy is known again.
    let overwrite = [0xc6, 0x04, 0x25, 0x1f, 0x1f, 0x20, 0x00, 0x00];
    let compare = [0x80, 0x3c, 0x25, 0x1f, 0x1f, 0x20, 0x00, 0x00];
    reached(&go(&scene(&code(&[&movs, &mov, &overwrite, &compare, &OWN_TABLES]), &also)).outcome);
}

#[test]
fn cpuid_is_the_profile_s_and_what_it_does_not_know_is_unknown() {
    // mov eax, 0x8000001f; cpuid; test al, 2; jnz +2; ud2
    let test = [0xb8, 0x1f, 0, 0, 0x80, 0x0f, 0xa2, 0xa8, 0x02, 0x75, 0x02, 0x0f, 0x0b];
    let mut scene = scene(&code(&[&test, &OWN_TABLES]), &[]);
    reached(&go(&scene).outcome);
    scene.cpu = CpuProfile::named("intel").unwrap();
    assert_eq!(fault(go(&scene).outcome).vector, 6);
    scene.cpu = CpuProfile { sev: None, ..CpuProfile::named("amd-nosev").unwrap() };
    assert_eq!(go(&scene).outcome, Outcome::Unknown(Unknown::Cpu(CpuFact::Sev)));
}

/// A handler that mends nothing: the machine hangs. One that is missing: it resets.
#[test]
fn a_handler_that_returns_to_the_fault() {
    let mut image = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // lgdt [0x200900]; lidt [0x20090a]; push 8; push 0x200040; retfq
    put(0, &[0x0f, 0x01, 0x14, 0x25, 0x00, 0x09, 0x20, 0x00]);
    put(8, &[0x0f, 0x01, 0x1c, 0x25, 0x0a, 0x09, 0x20, 0x00]);
    put(16, &[0x6a, 0x08, 0x68, 0x40, 0x00, 0x20, 0x00, 0x48, 0xcb]);
    put(0x40, &READ_3M);
    // add rsp, 8; iretq
    put(0x80, &[0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf]);
    // Descriptor 1: 64-bit code. Gate 14: 8:0x200080, interrupt gate.
    put(0x808, &0x0020_9b00_0000_0000_u64.to_le_bytes());
    put(0x900, &[0x0f, 0, 0x00, 0x08, 0x20, 0, 0, 0, 0, 0]);
    put(0x90a, &[0xef, 0, 0x00, 0x0a, 0x20, 0, 0, 0, 0, 0]);
    put(0xa00 + 14 * 16, &(0x0020_8e00_0008_0080_u64).to_le_bytes());
    let with = fault(go(&scene(&image, &[])).outcome);
    assert_eq!((with.vector, with.rip.get(), with.repeats), (14, CODE + 0x40, true));
    assert_eq!(with.handler.unwrap().get(), CODE + 0x80);
    // Gate 14 is not present.
    image[0xa00 + 14 * 16 + 5] = 0;
    let without = fault(go(&scene(&image, &[])).outcome);
    assert_eq!((without.rip.get(), without.repeats, without.handler), (CODE + 0x40, false, None));
}

/// A handler that faults itself, each time with less stack, until the stack has run over the IDT: the machine
/// resets. It was taken for one that hangs, until QEMU said otherwise: Linux 6.1 with 5 levels,
/// where the tables' own frames were not mapped (docs/preflight-truth.md, `5-to-5-tables`).
#[test]
fn a_handler_that_faults_itself() {
    let mut image = vec![0; 0x2000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // lgdt [0x201900]; lidt [0x20190a]; mov esp, 0x201800; push 8; push 0x200040; retfq
    put(0, &[0x0f, 0x01, 0x14, 0x25, 0x00, 0x19, 0x20, 0x00]);
    put(8, &[0x0f, 0x01, 0x1c, 0x25, 0x0a, 0x19, 0x20, 0x00]);
    put(16, &[0xbc, 0x00, 0x18, 0x20, 0x00]);
    put(21, &[0x6a, 0x08, 0x68, 0x40, 0x00, 0x20, 0x00, 0x48, 0xcb]);
    put(0x40, &READ_3M);
    // The handler reads the same address, by an instruction of its own.
    put(0x80, &READ_3M);
    // Descriptor 1: 64-bit code. Gate 14 of the IDT at 0x201000: 8:0x200080, interrupt gate.
    put(0x1908 + 0x58, &0x0020_9b00_0000_0000_u64.to_le_bytes());
    put(0x1900, &[0x0f, 0, 0x58, 0x19, 0x20, 0, 0, 0, 0, 0]);
    put(0x190a, &[0xef, 0, 0x00, 0x10, 0x20, 0, 0, 0, 0, 0]);
    put(0x1000 + 14 * 16, &(0x0020_8e00_0008_0080_u64).to_le_bytes());
    let fault = fault(go(&scene(&image, &[])).outcome);
    assert_eq!((fault.vector, fault.rip.get(), fault.repeats), (14, CODE + 0x80, false));
}

/// The tables are the guest's own memory: what it writes there counts after a flush.
#[test]
fn tables_changed_by_the_guest_count() {
    let mut scene = scene(&[], &[r(0x30_0000, 0x1000), r(common::TABLES, 0x10_000)]);
    let tables = scene.contents.iter().find(|c| c.name == "page tables").unwrap();
    let at =
        tables.bytes.chunks(8).position(|e| e[1..4] == [1, 0x30, 0] || e[1..3] == [0x01, 0x30]);
    let at = at.unwrap_or_else(|| {
        let entry = |e: &[u8]| u64::from_le_bytes(e.try_into().unwrap()) & !0xfff == 0x30_0000;
        tables.bytes.chunks(8).position(entry).unwrap()
    });
    let address = (common::TABLES as usize + at * 8) as u32;
    // mov rax, [0x300000]; mov qword [entry], 0; mov rax, cr3; mov cr3, rax; mov rax, [0x300000]
    let mut bytes = READ_3M.to_vec();
    bytes.extend([0x48, 0xc7, 0x04, 0x25]);
    bytes.extend(address.to_le_bytes());
    bytes.extend([0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]);
    bytes.extend(READ_3M);
    scene.contents[0].bytes = bytes;
    let (rip, page) = page_fault(go(&scene).outcome);
    assert_eq!((rip, page.cr2.get()), (CODE + 28, 0x30_0000));
}

#[test]
fn contents_that_overlap_are_refused() {
    let mut scene = scene(&[], &[]);
    scene.contents.push(content("other", CODE + 0x1fff, 2, &[], false));
    let error = identmap_preflight::run(&scene).unwrap_err();
    assert_eq!(error.to_string(), format!("image and other both lie at {}", r(CODE + 0x1fff, 1)));
}
