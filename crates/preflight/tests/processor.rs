//! What a processor refuses and QEMU's translator does not: every one of these consumers was said to reach its own tables,
//! or to fault where it may go on.

mod common;

use common::{CODE, OWN, OWN_TABLES, code, content, go, r, scene};
use identmap_machine::{Cpu, CpuVendor};
use identmap_preflight::{CpuFact, CpuProfile, Outcome, Scene, Unknown};

/// General protection (SDM, vol. 2 and 3): with no handler the machine resets.
const REFUSED: &[(&str, &[u8])] = &[
    ("clear PAE", &[0x31, 0xc0, 0x0f, 0x22, 0xe0]),
    ("cr4 reserved bit 63", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x3f, 0x0f, 0x22, 0xe0]),
    ("cr4 reserved bit 15", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x0f, 0x0f, 0x22, 0xe0]),
    ("cr4 la57 in long", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x0c, 0x0f, 0x22, 0xe0]),
    ("clear PG", &[0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xf0, 0x1f, 0x0f, 0x22, 0xc0]),
    ("cr0 NW", &[0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xe8, 0x1d, 0x0f, 0x22, 0xc0]),
    ("cr0 high", &[0x0f, 0x20, 0xc0, 0x48, 0x0f, 0xba, 0xe8, 0x28, 0x0f, 0x22, 0xc0]),
    (
        "efer clear LME",
        &[0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x0f, 0xba, 0xf0, 0x08, 0x0f, 0x30],
    ),
    ("dr7 high", &[0x48, 0x83, 0xc8, 0xff, 0x0f, 0x23, 0xf8]),
    ("cr8", &[0xb8, 0xff, 0x00, 0x00, 0x00, 0x44, 0x0f, 0x22, 0xc0]),
    (
        "wrmsr fsbase not canonical",
        &[0xb9, 0x00, 0x01, 0x00, 0xc0, 0xba, 0x00, 0x80, 0x00, 0x00, 0x31, 0xc0, 0x0f, 0x30],
    ),
    (
        "lgdt not canonical",
        &[
            0x48, 0xc7, 0x04, 0x25, 0x02, 0x1f, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc6, 0x04,
            0x25, 0x08, 0x1f, 0x20, 0x00, 0x80, 0x0f, 0x01, 0x14, 0x25, 0x00, 0x1f, 0x20, 0x00,
        ],
    ),
    (
        "movaps misaligned",
        &[
            0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x06, 0x00, 0x00, 0x0f, 0x22, 0xe0, 0x0f, 0x28, 0x04,
            0x25, 0x08, 0x1f, 0x20, 0x00,
        ],
    ),
];

/// Not every processor does it, or nobody knows what comes of it.
const UNKNOWN: &[(&str, &[u8])] = &[
    ("rdmsr unknown", &[0xb9, 0xef, 0xbe, 0xad, 0xde, 0x0f, 0x32]),
    ("wrmsr unknown", &[0xb9, 0xef, 0xbe, 0xad, 0xde, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30]),
    ("cr4 SMEP", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x14, 0x0f, 0x22, 0xe0]),
    ("cr4 PKE", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x16, 0x0f, 0x22, 0xe0]),
    ("cr4 CET", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x17, 0x0f, 0x22, 0xe0]),
    ("cr4 VMXE", &[0x0f, 0x20, 0xe0, 0x48, 0x0f, 0xba, 0xe8, 0x0d, 0x0f, 0x22, 0xe0]),
    (
        "EFER.NXE off",
        &[0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x0f, 0xba, 0xf0, 0x0b, 0x0f, 0x30],
    ),
    (
        "efer reserved",
        &[0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x0f, 0xba, 0xe8, 0x14, 0x0f, 0x30],
    ),
    ("rdrand", &[0x0f, 0xc7, 0xf0]),
    ("rdtsc", &[0x0f, 0x31]),
    ("rdtscp", &[0x0f, 0x01, 0xf9]),
    ("rdpmc", &[0x31, 0xc9, 0x0f, 0x33]),
    ("rdfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xc0]),
    ("andn", &[0xc4, 0xe2, 0x78, 0xf2, 0xc3]),
    ("shlx", &[0xc4, 0xe2, 0x79, 0xf7, 0xc3]),
    ("movbe", &[0x0f, 0x38, 0xf0, 0x04, 0x25, 0x00, 0x1f, 0x20, 0x00]),
    ("adcx", &[0x66, 0x0f, 0x38, 0xf6, 0xc3]),
    ("xgetbv", &[0x31, 0xc9, 0x0f, 0x01, 0xd0]),
    ("vmmcall", &[0x0f, 0x01, 0xd9]),
    ("vmgexit", &[0xf3, 0x0f, 0x01, 0xd9]),
    ("vmcall", &[0x0f, 0x01, 0xc1]),
    ("tdcall", &[0x66, 0x0f, 0x01, 0xcc]),
    ("stac", &[0x0f, 0x01, 0xcb]),
    ("invpcid", &[0x66, 0x0f, 0x38, 0x82, 0x04, 0x25, 0x00, 0x1f, 0x20, 0x00]),
    ("clgi", &[0x0f, 0x01, 0xdd]),
    ("monitor", &[0xb8, 0x00, 0x1f, 0x20, 0x00, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xc8]),
    ("mwait", &[0x31, 0xc9, 0x31, 0xc0, 0x0f, 0x01, 0xc9]),
    ("invd", &[0x0f, 0x08]),
    ("a reset by port 0xcf9", &[0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee]),
    ("a reset by port 0x64", &[0xb0, 0xfe, 0xe6, 0x64]),
    ("waits for the keyboard's port", &[0xe4, 0x64, 0xa8, 0x01, 0x75, 0x02, 0x0f, 0x0b]),
    ("sti", &[0xfb]),
    // push 0x202; popf
    ("popf with IF", &[0x68, 0x02, 0x02, 0x00, 0x00, 0x9d]),
    ("popf of 16 bits with IF", &[0x66, 0x68, 0x02, 0x02, 0x66, 0x9d]),
    (
        // push 0; push rsp; push 0x202; push 8; push 0x200020; iretq
        "iretq with IF",
        &[
            0x6a, 0x00, 0x54, 0x68, 0x02, 0x02, 0x00, 0x00, 0x6a, 0x08, 0x68, 0x20, 0x00, 0x20,
            0x00, 0x48, 0xcf,
        ],
    ),
    // mov esi, 0x200000; mov edx, port; outsb
    ("outsb to port 0x64", &[0xbe, 0, 0, 0x20, 0, 0xba, 0x64, 0, 0, 0, 0x6e]),
    ("outsd to port 0xcf8", &[0xbe, 0, 0, 0x20, 0, 0xba, 0xf8, 0x0c, 0, 0, 0x66, 0x6f]),
    // mov eax, 0x600; mov edx, 0xcf8; out dx, ax
    ("a reset by the second of two bytes", &[0xb8, 0, 6, 0, 0, 0xba, 0xf8, 0x0c, 0, 0, 0x66, 0xef]),
    // mov [0x201f00], eax; no memory operand is what LOCK is for there
    ("lock mov", &[0xf0, 0x89, 0x04, 0x25, 0x00, 0x1f, 0x20, 0x00]),
    ("lock bt", &[0xf0, 0x0f, 0xa3, 0x04, 0x25, 0x00, 0x1f, 0x20, 0x00]),
    ("sysret", &[0x48, 0x0f, 0x07]),
    ("xsave", &[0x0f, 0xae, 0x24, 0x25, 0x00, 0x10, 0x20, 0x00]),
    ("xbegin", &[0xc7, 0xf8, 0x00, 0x00, 0x00, 0x00]),
    ("lzcnt", &[0xf3, 0x0f, 0xbd, 0xc1]),
    ("clzero", &[0xb8, 0x00, 0x1f, 0x20, 0x00, 0x0f, 0x01, 0xfc]),
    ("rdpid", &[0xf3, 0x0f, 0xc7, 0xf8]),
    ("3dnow pfadd", &[0x0f, 0x0f, 0xc1, 0x9e]),
    ("sse4a extrq", &[0x66, 0x0f, 0x79, 0xc1]),
];

/// What every processor with 64-bit mode takes as it is.
const FINE: &[(&str, &[u8])] = &[
    ("fxsave", &[0x0f, 0xae, 0x04, 0x25, 0x00, 0x1f, 0x20, 0x00]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("clts", &[0x0f, 0x06]),
    ("wbinvd", &[0x0f, 0x09]),
    ("mov ds null", &[0x31, 0xc0, 0x8e, 0xd8]),
    ("mov ss null", &[0x31, 0xc0, 0x8e, 0xd0]),
    ("lldt 0", &[0x31, 0xc0, 0x0f, 0x00, 0xd0]),
    ("dr7", &[0x0f, 0x23, 0xf8]),
    ("fninit+fldz", &[0xdb, 0xe3, 0xd9, 0xee]),
    ("prefetchw", &[0x0f, 0x0d, 0x08]),
    ("tzcnt", &[0xf3, 0x0f, 0xbc, 0xc1]),
    ("endbr64", &[0xf3, 0x0f, 0x1e, 0xfa]),
    ("rdsspq", &[0xf3, 0x48, 0x0f, 0x1e, 0xc8]),
    ("pushf, popf", &[0x9c, 0x9d]),
    ("lock add", &[0xf0, 0x83, 0x04, 0x25, 0x00, 0x1f, 0x20, 0x00, 0x01]),
    // mov eax, 0xffffffff; mov edx, 0xcf8; out dx, eax: the configuration space's address
    ("out to port 0xcf8", &[0x83, 0xc8, 0xff, 0xba, 0xf8, 0x0c, 0, 0, 0xef]),
    ("outsb to port 0x80", &[0xbe, 0, 0, 0x20, 0, 0xba, 0x80, 0, 0, 0, 0x6e]),
    ("rdmsr sev", &[0xb9, 0x31, 0x01, 0x01, 0xc0, 0x0f, 0x32]),
];

fn with(bytes: &[u8]) -> Scene {
    scene(&code(&[bytes, &OWN_TABLES]), &[r(0x30_0000, 0x1000)])
}

fn vector(outcome: &Outcome) -> Option<u8> {
    let Outcome::Fault(fault) = outcome else { return None };
    Some(fault.vector)
}

#[test]
fn what_the_processor_refuses_is_refused() {
    for (name, bytes) in REFUSED {
        let outcome = go(&with(bytes)).outcome;
        assert_eq!(vector(&outcome), Some(13), "{name}: {outcome:?}");
    }
}

#[test]
fn what_only_some_processors_do_is_unknown() {
    for (name, bytes) in UNKNOWN {
        let outcome = go(&with(bytes)).outcome;
        let unknown = matches!(outcome, Outcome::Unknown(Unknown::Engine(_)));
        assert!(unknown, "{name}: {outcome:?}");
    }
}

#[test]
fn what_all_processors_do_goes_on() {
    for (name, bytes) in FINE {
        let outcome = go(&with(bytes)).outcome;
        assert!(matches!(outcome, Outcome::Reached { .. }), "{name}: {outcome:?}");
    }
}

/// An instruction that reaches over the end of a page, and one that code has put in place of another.
#[test]
fn refusals_are_seen_wherever_the_code_lies() {
    let mut image = vec![0x90; 0x1000];
    image.extend([0x32, 0xcc]);
    // mov ecx, 0xdeadbeef; and at the end of the page the first byte of rdmsr
    image[..5].copy_from_slice(&[0xb9, 0xef, 0xbe, 0xad, 0xde]);
    image[0xfff] = 0x0f;
    let outcome = go(&scene(&image, &[])).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Engine(_))), "{outcome:?}");
    // mov word [rip], 0x320f; then a nop that was there
    let change = [0x66, 0xc7, 0x05, 0, 0, 0, 0, 0x0f, 0x32, 0x66, 0x90];
    let outcome = go(&scene(&code(&[&change, &OWN_TABLES]), &[])).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Engine(_))), "{outcome:?}");
}

/// SEV's status is there where SEV is; elsewhere nobody says what a processor does.
#[test]
fn registers_are_those_of_the_processor_described() {
    let sev_status = [0xb9, 0x31, 0x01, 0x01, 0xc0, 0x0f, 0x32];
    let mut scene = with(&sev_status);
    assert!(matches!(go(&scene).outcome, Outcome::Reached { .. }));
    for name in ["amd-nosev", "intel"] {
        scene.cpu = CpuProfile::named(name).unwrap();
        let outcome = go(&scene).outcome;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{name}: {outcome:?}");
    }
}

/// A guest whose log does not say what is encrypted was taken for one that is not.
#[test]
fn a_guest_with_sev_may_be_encrypted() {
    let sev_status = [0xb9, 0x31, 0x01, 0x01, 0xc0, 0x0f, 0x32];
    let outcome = |hypervisor, encrypted_guest| {
        let cpu = Cpu {
            vendor: Some(CpuVendor::Amd),
            sev: Some(true),
            hypervisor,
            encrypted_guest,
            ..Cpu::default()
        };
        let mut scene = with(&sev_status);
        scene.cpu = CpuProfile::of(&cpu);
        go(&scene).outcome
    };
    let unknown = Outcome::Unknown(Unknown::Cpu(CpuFact::Encrypted));
    assert_eq!(outcome(Some(true), None), unknown);
    assert_eq!(outcome(Some(true), Some(true)), unknown);
    // Not every hypervisor is named in a log, and not every log is whole.
    assert_eq!(outcome(None, None), unknown);
    for (hypervisor, encrypted) in
        [(Some(true), Some(false)), (Some(false), None), (None, Some(false))]
    {
        let outcome = outcome(hypervisor, encrypted);
        assert!(matches!(outcome, Outcome::Reached { .. }), "{hypervisor:?}: {outcome:?}");
    }
}

/// The tables of the next kernel have to hold the instruction after the switch.
#[test]
fn a_root_of_its_own_that_maps_nothing_resets() {
    let mut scene = with(&[0x90]);
    scene.contents.pop();
    scene.contents.push(content("own tables", OWN, 0x1000, &[], true));
    let outcome = go(&scene).outcome;
    assert_eq!(vector(&outcome), Some(14), "{outcome:?}");
    let Outcome::Fault(fault) = outcome else { unreachable!() };
    // No entry in the producer's map mends it, so none is asked for.
    assert_eq!((fault.rip.get(), fault.page_fault), (CODE + 11, None));
}

/// lgdt and lidt of tables at 0x200a00; a jump to 0x200040 in segment 8; gates as given, at 0x200b00.
fn with_handlers(at_40: &[u8], code_segment: u64, gates: &[(usize, u64)]) -> Scene {
    let mut image = vec![0; 0x2000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // lgdt [0x200900]; lidt [0x20090a]; push 8; push 0x200040; retfq
    put(0, &[0x0f, 0x01, 0x14, 0x25, 0x00, 0x09, 0x20, 0x00]);
    put(8, &[0x0f, 0x01, 0x1c, 0x25, 0x0a, 0x09, 0x20, 0x00]);
    put(16, &[0x6a, 0x08, 0x68, 0x40, 0x00, 0x20, 0x00, 0x48, 0xcb]);
    put(0x40, at_40);
    // The handler's way: own tables.
    put(0x80, &OWN_TABLES);
    put(0xa08, &0x0020_9b00_0000_0000_u64.to_le_bytes());
    put(0xa10, &code_segment.to_le_bytes());
    put(0x900, &[0x17, 0, 0x00, 0x0a, 0x20, 0, 0, 0, 0, 0]);
    put(0x90a, &[0xff, 1, 0x00, 0x0b, 0x20, 0, 0, 0, 0, 0]);
    for (vector, gate) in gates {
        put(0xb00 + vector * 16, &gate.to_le_bytes());
    }
    scene(&image, &[])
}

const LONG_CODE: u64 = 0x0020_9b00_0000_0000;
/// Interrupt gates to 0x200080 in the segments 8 and 0x10.
const GATE: u64 = 0x0020_8e00_0008_0080;
const GATE_10: u64 = 0x0020_8e00_0010_0080;
/// mov rax, [0x300000], which is not mapped.
const READ_3M: [u8; 8] = [0x48, 0x8b, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00];

/// Only page faults are delivered. What has another handler may go on: it was said to reset.
#[test]
fn an_exception_with_a_handler_cannot_be_told() {
    let ud2 = [0x0f, 0x0b];
    let outcome = |gates: &[(usize, u64)]| go(&with_handlers(&ud2, LONG_CODE, gates)).outcome;
    assert_eq!(vector(&outcome(&[])), Some(6));
    for handled in [6, 8, 11, 13] {
        let outcome = outcome(&[(handled, GATE)]);
        assert!(matches!(outcome, Outcome::Unknown(Unknown::Engine(_))), "{handled}: {outcome:?}");
    }
    // Gates for others, and one to a segment that is none: it resets.
    assert_eq!(vector(&outcome(&[(3, GATE), (14, GATE)])), Some(6));
    let no_code = go(&with_handlers(&ud2, 0x0020_9300_0000_0000, &[(6, GATE_10)])).outcome;
    assert_eq!(vector(&no_code), Some(6), "{no_code:?}");
}

/// A page fault's gate was followed whatever segment it named, without a look into the GDT.
#[test]
fn a_page_fault_s_handler_needs_a_segment() {
    let outcome = |segment, gate| go(&with_handlers(&READ_3M, segment, &[(14, gate)])).outcome;
    assert!(matches!(outcome(LONG_CODE, GATE), Outcome::Reached { .. }));
    let elsewhere = outcome(LONG_CODE, GATE_10);
    assert!(matches!(elsewhere, Outcome::Unknown(Unknown::Engine(_))), "{elsewhere:?}");
    // Data, 32-bit code, and not present: nothing runs, and the machine resets.
    for segment in [0x0020_9300_0000_0000, 0x0040_9b00_0000_0000, 0x0020_1b00_0000_0000] {
        assert_eq!(vector(&outcome(segment, GATE_10)), Some(14), "{segment:#x}");
    }
    // The GDT is gone: lgdt [0x200950], a limit of 0, before the fault.
    let no_gdt = code(&[&[0x0f, 0x01, 0x14, 0x25, 0x50, 0x09, 0x20, 0x00], &READ_3M]);
    let outcome = go(&with_handlers(&no_gdt, LONG_CODE, &[(14, GATE)])).outcome;
    assert_eq!(vector(&outcome), Some(14), "{outcome:?}");
}

/// A segment of an LDT has nothing to do with the GDT's limit: it was said to reset.
#[test]
fn a_handler_in_a_segment_of_an_ldt_cannot_be_told() {
    // Interrupt gate to 0x200080 in the segment 0x24, past the GDT's limit of 0x17.
    let outcome = go(&with_handlers(&READ_3M, LONG_CODE, &[(14, 0x0020_8e00_0024_0080)])).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Engine(_))), "{outcome:?}");
}

/// The segment that is in use stays what it was when it was loaded; the descriptor that its number leads to may be
/// another by now. By that it was decoded, as another instruction than the one that ran.
#[test]
fn a_gdt_that_is_exchanged_does_not_change_the_mode() {
    // lgdt [0x200950], of a GDT at 0x200a80 whose segment 8 is 32-bit code; then `mov cr8, rax` of what it refuses: in
    // 32-bit mode its first byte is an instruction.
    let change = [0x0f, 0x01, 0x14, 0x25, 0x50, 0x09, 0x20, 0x00];
    let cr8 = [0xb8, 0xff, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0];
    let mut scene = with_handlers(&code(&[&change, &cr8, &OWN_TABLES]), LONG_CODE, &[]);
    let image = &mut scene.contents[0].bytes;
    image[0x950..0x95a].copy_from_slice(&[0x17, 0, 0x80, 0x0a, 0x20, 0, 0, 0, 0, 0]);
    image[0xa88..0xa90].copy_from_slice(&0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    let outcome = go(&scene).outcome;
    assert!(matches!(outcome, Outcome::Unknown(Unknown::Engine(_))), "{outcome:?}");
}

/// With 5 levels off the processor refuses the bit; where it is not known, nobody can tell.
#[test]
fn la57_is_the_processor_s() {
    let mut image = vec![0; 0x2000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // lgdt [0x200900]; push 8; push 0x200040; retfq: to 32-bit code
    put(0, &[0x0f, 0x01, 0x14, 0x25, 0x00, 0x09, 0x20, 0x00]);
    put(8, &[0x6a, 0x08, 0x68, 0x40, 0x00, 0x20, 0x00, 0x48, 0xcb]);
    put(0x900, &[0x0f, 0, 0x00, 0x0a, 0x20, 0, 0, 0, 0, 0]);
    put(0xa08, &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    // mov eax, cr0; btr eax, 31; mov cr0, eax; mov eax, cr4; bts eax, 12; mov cr4, eax; hlt
    put(
        0x40,
        &[
            0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xf0, 0x1f, 0x0f, 0x22, 0xc0, 0x0f, 0x20, 0xe0, 0x0f,
            0xba, 0xe8, 0x0c, 0x0f, 0x22, 0xe0, 0xf4,
        ],
    );
    let mut scene = scene(&image, &[]);
    assert_eq!(vector(&go(&scene).outcome), Some(13));
    scene.cpu.la57 = None;
    assert_eq!(go(&scene).outcome, Outcome::Unknown(Unknown::Cpu(CpuFact::La57)));
    scene.cpu.la57 = Some(true);
    assert!(matches!(go(&scene).outcome, Outcome::Halted { .. }));
}
