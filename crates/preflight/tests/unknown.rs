//! Unknown memory: whatever an instruction makes of it, the run ends as unknown, by whatever way it came there.

mod common;

use common::{CODE, OWN_TABLES, content, go, r, scene};
use identmap_preflight::{Outcome, Report, Scene, Unknown};

/// What the instructions read: the first page, and one behind it.
const DATA: u64 = 0x30_0000;
/// Where a pointer in the data leads.
const TAIL: usize = 0x400;

/// Each reads at RSI, which R8 holds too; RDI is a page of the image, ECX 1, RSP a stack. The second value
/// says how many bytes it reads.
const READS: &[(&str, u64, &[u8])] = &[
    ("cmp byte [rsi], 7", 1, &[0x80, 0x3e, 0x07]),
    ("cmp [rsi], rax", 8, &[0x48, 0x39, 0x06]),
    ("cmp rax, [rsi]", 8, &[0x48, 0x3b, 0x06]),
    ("test [rsi], eax", 4, &[0x85, 0x06]),
    ("test byte [rsi], 1", 1, &[0xf6, 0x06, 0x01]),
    ("mov al, [rsi]", 1, &[0x8a, 0x06]),
    ("mov ax, [rsi]", 2, &[0x66, 0x8b, 0x06]),
    ("movzx eax, byte [rsi]", 1, &[0x0f, 0xb6, 0x06]),
    ("movzx eax, word [rsi]", 2, &[0x0f, 0xb7, 0x06]),
    ("movsx rax, byte [rsi]", 1, &[0x48, 0x0f, 0xbe, 0x06]),
    ("movsxd rax, dword [rsi]", 4, &[0x48, 0x63, 0x06]),
    ("mov rax, [rsi]; test rax, rax", 8, &[0x48, 0x8b, 0x06, 0x48, 0x85, 0xc0]),
    ("mov r9, [rsi]; test r9, r9", 8, &[0x4c, 0x8b, 0x0e, 0x4d, 0x85, 0xc9]),
    ("mov eax, [rsi]; test al, al", 4, &[0x8b, 0x06, 0x84, 0xc0]),
    ("mov rax, [rsi]; push rax", 8, &[0x48, 0x8b, 0x06, 0x50]),
    ("mov rax, [rsi]; mov rbx, rax", 8, &[0x48, 0x8b, 0x06, 0x48, 0x89, 0xc3]),
    ("mov rax, [rsi]; mov rbx, [rax]", 8, &[0x48, 0x8b, 0x06, 0x48, 0x8b, 0x18]),
    ("mov rax, [rsi]; jmp rax", 8, &[0x48, 0x8b, 0x06, 0xff, 0xe0]),
    ("mov rax, [rsi]; cpuid", 8, &[0x48, 0x8b, 0x06, 0x0f, 0xa2]),
    ("mov rax, [rsi]; mov cr3, rax", 8, &[0x48, 0x8b, 0x06, 0x0f, 0x22, 0xd8]),
    ("mov rsp, [rsi]; push 0", 8, &[0x48, 0x8b, 0x26, 0x6a, 0x00]),
    ("mov rax, [abs]; test eax, eax", 8, &[0x48, 0xa1, 0, 0, 0x30, 0, 0, 0, 0, 0, 0x85, 0xc0]),
    ("push qword [rsi]; pop rax", 8, &[0xff, 0x36, 0x58]),
    ("mov rsp, rsi; pop rax", 8, &[0x48, 0x89, 0xf4, 0x58]),
    ("mov rsp, rsi; popfq", 8, &[0x48, 0x89, 0xf4, 0x9d]),
    ("mov rsp, rsi; ret", 8, &[0x48, 0x89, 0xf4, 0xc3]),
    ("mov rsp, rsi; retfq", 8, &[0x48, 0x89, 0xf4, 0x48, 0xcb]),
    ("mov rsp, rsi; iretq", 8, &[0x48, 0x89, 0xf4, 0x48, 0xcf]),
    ("mov rbp, rsi; leave", 8, &[0x48, 0x89, 0xf5, 0xc9]),
    ("jmp [rsi]", 8, &[0xff, 0x26]),
    ("call [rsi]", 8, &[0xff, 0x16]),
    ("jmp far [rsi]", 6, &[0xff, 0x2e]),
    ("jmp rsi", 8, &[0xff, 0xe6]),
    ("call rsi", 8, &[0xff, 0xd6]),
    ("lodsb", 1, &[0xac]),
    ("lodsq", 8, &[0x48, 0xad]),
    ("rep lodsd", 4, &[0xf3, 0xad]),
    ("scasb (rdi)", 1, &[0x48, 0x89, 0xf7, 0xae]),
    ("repne scasb (rdi)", 1, &[0x48, 0x89, 0xf7, 0xf2, 0xae]),
    ("repe scasq (rdi)", 8, &[0x48, 0x89, 0xf7, 0xf3, 0x48, 0xaf]),
    ("cmpsb", 1, &[0xa6]),
    ("repe cmpsb", 1, &[0xf3, 0xa6]),
    ("repe cmpsq", 8, &[0xf3, 0x48, 0xa7]),
    ("repne cmpsd, the other way round", 4, &[0x48, 0x87, 0xfe, 0xf2, 0xa7]),
    ("outsb", 1, &[0x6e]),
    ("xlatb", 1, &[0x48, 0x89, 0xf3, 0x31, 0xc0, 0xd7]),
    ("add eax, [rsi]", 4, &[0x03, 0x06]),
    ("add [rsi], eax", 4, &[0x01, 0x06]),
    ("lock add [rsi], eax", 4, &[0xf0, 0x01, 0x06]),
    ("inc dword [rsi]", 4, &[0xff, 0x06]),
    ("neg qword [rsi]", 8, &[0x48, 0xf7, 0x1e]),
    ("not byte [rsi]", 1, &[0xf6, 0x16]),
    ("shl dword [rsi], 1", 4, &[0xd1, 0x26]),
    ("shld [rsi], eax, 3", 4, &[0x0f, 0xa4, 0x06, 0x03]),
    ("xor eax, [rsi]", 4, &[0x33, 0x06]),
    ("or byte [rsi], 1", 1, &[0x80, 0x0e, 0x01]),
    ("and qword [rsi], 1", 8, &[0x48, 0x83, 0x26, 0x01]),
    ("adc al, [rsi]", 1, &[0x12, 0x06]),
    ("imul eax, [rsi]", 4, &[0x0f, 0xaf, 0x06]),
    ("imul eax, [rsi], 3", 4, &[0x6b, 0x06, 0x03]),
    ("mul qword [rsi]", 8, &[0x48, 0xf7, 0x26]),
    ("div dword [rsi]", 4, &[0x31, 0xd2, 0xf7, 0x36]),
    ("bt dword [rsi], 3", 4, &[0x0f, 0xba, 0x26, 0x03]),
    ("bt [rsi], eax", 4, &[0x31, 0xc0, 0x0f, 0xa3, 0x06]),
    ("lock bts [rsi], eax", 4, &[0x31, 0xc0, 0xf0, 0x0f, 0xab, 0x06]),
    ("btr qword [rsi], 1", 8, &[0x48, 0x0f, 0xba, 0x36, 0x01]),
    ("bsf eax, [rsi]", 4, &[0x0f, 0xbc, 0x06]),
    ("bsr rax, [rsi]", 8, &[0x48, 0x0f, 0xbd, 0x06]),
    ("popcnt eax, [rsi]", 4, &[0xf3, 0x0f, 0xb8, 0x06]),
    ("crc32 eax, dword [rsi]", 4, &[0xf2, 0x0f, 0x38, 0xf1, 0x06]),
    ("cmovz eax, [rsi]", 4, &[0x0f, 0x44, 0x06]),
    ("xchg [rsi], eax", 4, &[0x87, 0x06]),
    ("xadd [rsi], eax", 4, &[0x0f, 0xc1, 0x06]),
    ("lock cmpxchg [rsi], rbx", 8, &[0xf0, 0x48, 0x0f, 0xb1, 0x1e]),
    ("cmpxchg8b [rsi]", 8, &[0x0f, 0xc7, 0x0e]),
    ("cmpxchg16b [rsi]", 16, &[0x48, 0x0f, 0xc7, 0x0e]),
    ("movups xmm0, [rsi]", 16, &[0x0f, 0x10, 0x06]),
    ("movaps xmm0, [rsi]", 16, &[0x0f, 0x28, 0x06]),
    ("movdqu xmm0, [rsi]", 16, &[0xf3, 0x0f, 0x6f, 0x06]),
    ("lddqu xmm0, [rsi]", 16, &[0xf2, 0x0f, 0xf0, 0x06]),
    ("movntdqa xmm0, [rsi]", 16, &[0x66, 0x0f, 0x38, 0x2a, 0x06]),
    ("movq xmm0, [rsi]", 8, &[0xf3, 0x0f, 0x7e, 0x06]),
    ("movd xmm0, [rsi]", 4, &[0x66, 0x0f, 0x6e, 0x06]),
    ("movsd xmm0, [rsi]", 8, &[0xf2, 0x0f, 0x10, 0x06]),
    ("movhps xmm0, [rsi]", 8, &[0x0f, 0x16, 0x06]),
    ("pcmpeqb xmm0, [rsi]", 16, &[0x66, 0x0f, 0x74, 0x06]),
    ("pxor xmm0, [rsi]", 16, &[0x66, 0x0f, 0xef, 0x06]),
    ("ptest xmm0, [rsi]", 16, &[0x66, 0x0f, 0x38, 0x17, 0x06]),
    ("pcmpistri xmm0, [rsi], 0", 16, &[0x66, 0x0f, 0x3a, 0x63, 0x06, 0x00]),
    ("pinsrb xmm0, [rsi], 0", 1, &[0x66, 0x0f, 0x3a, 0x20, 0x06, 0x00]),
    ("ucomisd xmm0, [rsi]", 8, &[0x66, 0x0f, 0x2e, 0x06]),
    ("cvtsi2sd xmm0, dword [rsi]", 4, &[0xf2, 0x0f, 0x2a, 0x06]),
    ("movq mm0, [rsi]", 8, &[0x0f, 0x6f, 0x06]),
    ("ldmxcsr [rsi]", 4, &[0x0f, 0xae, 0x16]),
    // What is left of 512 and of 28 bytes decides nothing.
    ("fxrstor [rsi]", 416, &[0x0f, 0xae, 0x0e]),
    ("fld qword [rsi]", 8, &[0xdd, 0x06]),
    ("fld tword [rsi]", 10, &[0xdb, 0x2e]),
    ("fild dword [rsi]", 4, &[0xdb, 0x06]),
    ("fldcw [rsi]", 2, &[0xd9, 0x2e]),
    ("fldenv [rsi]", 9, &[0xd9, 0x26]),
    ("frstor [rsi]", 108, &[0xdd, 0x26]),
    ("fadd dword [rsi]", 4, &[0xd8, 0x06]),
    ("mov ds, [rsi]", 2, &[0x8e, 0x1e]),
    ("lss eax, [rsi]", 6, &[0x0f, 0xb2, 0x06]),
    ("lgdt [rsi]", 10, &[0x0f, 0x01, 0x16]),
    ("lidt [rsi]", 10, &[0x0f, 0x01, 0x1e]),
    ("lldt [rsi]", 2, &[0x0f, 0x00, 0x16]),
    ("ltr [rsi]", 2, &[0x0f, 0x00, 0x1e]),
    ("verr [rsi]", 2, &[0x0f, 0x00, 0x26]),
    ("lsl eax, [rsi]", 2, &[0x0f, 0x03, 0x06]),
    ("lmsw [rsi]", 2, &[0x0f, 0x01, 0x36]),
    // A copy that is made, and looked at where it lies. The page was written before, so the engine
    // knows a way to it.
    ("movsb; cmp", 1, &[0xa4, 0x80, 0x7f, 0xff, 0x00]),
    ("movsw; cmp", 2, &[0x66, 0xa5, 0x66, 0x83, 0x7f, 0xfe, 0x00]),
    ("movsd; cmp", 4, &[0xa5, 0x83, 0x7f, 0xfc, 0x00]),
    ("movsq; cmp", 8, &[0x48, 0xa5, 0x48, 0x83, 0x7f, 0xf8, 0x00]),
    ("rep movsb; cmp", 1, &[0xf3, 0xa4, 0x80, 0x7f, 0xff, 0x00]),
    ("std; rep movsb; cmp", 1, &[0xfd, 0xf3, 0xa4, 0x80, 0x7f, 0x01, 0x00]),
    ("a32 movsb; cmp", 1, &[0x67, 0xa4, 0x80, 0x7f, 0xff, 0x00]),
    ("fs movsb; cmp", 1, &[0x64, 0xa4, 0x80, 0x7f, 0xff, 0x00]),
    ("mov, mov; cmp", 8, &[0x48, 0x8b, 0x06, 0x48, 0x89, 0x07, 0x80, 0x7f, 0x07, 0x00]),
    ("mov, mov of 32 bits; cmp", 4, &[0x8b, 0x06, 0x89, 0x07, 0x80, 0x7f, 0x03, 0x00]),
    (
        "mov, mov; forget it; mov, test",
        8,
        &[0x48, 0x8b, 0x06, 0x48, 0x89, 0x07, 0x31, 0xc0, 0x48, 0x8b, 0x07, 0x48, 0x85, 0xc0],
    ),
    (
        "mov, mov, mov, mov: a copy of the copy; cmp",
        8,
        &[
            0x48, 0x8b, 0x06, 0x48, 0x89, 0x07, 0x48, 0x8b, 0x1f, 0x48, 0x89, 0x5f, 0x10, 0x80,
            0x7f, 0x17, 0x00,
        ],
    ),
];

/// The pieces of a page that may be known around what is read.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Around {
    /// All of it, what is read too.
    All,
    Nothing,
    /// All but the last byte that is read.
    ButLast,
    /// All but the first.
    ButFirst,
    /// The page on which it begins; it ends on one that is not known.
    FirstPage,
    /// The page on which it ends; it begins on one that is not known.
    SecondPage,
}

fn build(len: u64, bytes: &[u8], around: Around) -> Scene {
    let across = matches!(around, Around::FirstPage | Around::SecondPage);
    let at = if across { DATA + 0x1000 - len / 2 } else { DATA };
    // `a32` and absolute forms have the address in them.
    let mut code = vec![0xbe];
    code.extend((at as u32).to_le_bytes());
    // mov edi, 0x201800; mov [rdi], rax; mov rax, [rdi]; mov ecx, 1; mov edx, 1; mov ebx, 1
    code.extend([0xbf, 0x00, 0x18, 0x20, 0x00, 0x48, 0x89, 0x07, 0x48, 0x8b, 0x07]);
    code.extend([0xb9, 1, 0, 0, 0, 0xba, 1, 0, 0, 0, 0xbb, 1, 0, 0, 0]);
    // mov rax, cr4; or ax, 0x600 (SSE); mov cr4, rax; mov eax, 1
    code.extend([0x0f, 0x20, 0xe0, 0x66, 0x0d, 0x00, 0x06, 0x0f, 0x22, 0xe0]);
    code.extend([0xb8, 1, 0, 0, 0]);
    code.extend(bytes);
    code.extend(OWN_TABLES);
    code.resize(TAIL, 0x90);
    code.extend(OWN_TABLES);
    let mut scene = scene(&code, &[r(DATA, 0x2000)]);
    let tail = (CODE + TAIL as u64).to_le_bytes();
    let mut know = |start: u64, len: u64| {
        let bytes: Vec<u8> = tail.iter().copied().cycle().take(len as usize).collect();
        scene.contents.push(content("data", start, len, &bytes, false));
    };
    match around {
        Around::All => know(DATA, 0x2000),
        Around::Nothing => {}
        Around::ButLast => {
            if len > 1 {
                know(DATA, len - 1);
            }
            know(DATA + len, 0x2000 - len);
        }
        Around::ButFirst => know(DATA + 1, 0x1fff),
        Around::FirstPage => know(DATA, 0x1000),
        Around::SecondPage => know(DATA + 0x1000, 0x1000),
    }
    scene
}

fn is_unknown(report: &Report) -> bool {
    matches!(report.outcome, Outcome::Unknown(Unknown::Content { .. } | Unknown::Register { .. }))
}

#[test]
fn whatever_reads_it_ends_the_run() {
    let mut wrong = Vec::new();
    for &(name, len, bytes) in READS {
        let report = go(&build(len, bytes, Around::All));
        if matches!(report.outcome, Outcome::Unknown(_)) {
            wrong.push(format!("{name}, all known: {}", report.outcome));
        }
        let fixed = name.contains("abs");
        let fetch = matches!(name, "jmp rsi" | "call rsi");
        for around in [
            Around::Nothing,
            Around::ButLast,
            Around::ButFirst,
            Around::FirstPage,
            Around::SecondPage,
        ] {
            let across = matches!(around, Around::FirstPage | Around::SecondPage);
            // What runs there are other instructions than this one.
            let aligned = ["cmpxchg16b", "movaps", "movntdqa", "pcmpeqb", "pxor", "ptest"];
            let aligned = aligned.iter().any(|one| name.starts_with(one));
            if across && (fixed || aligned || len < 2) || around != Around::Nothing && fetch {
                continue;
            }
            let report = go(&build(len, bytes, around));
            if !is_unknown(&report) {
                wrong.push(format!("{name}, {around:?}: {}", report.outcome));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// Tables, gates and descriptors are read by the processor and not by an instruction's operand.
#[test]
fn what_the_processor_reads_by_itself_counts_too() {
    // lidt [0x200100]; ud2: an IDT that is not known. lgdt [0x200110]; mov eax, 8; mov ds, eax
    let lidt = [0x0f, 0x01, 0x1c, 0x25, 0x00, 0x01, 0x20, 0x00, 0x0f, 0x0b];
    let load_gdt = [0x0f, 0x01, 0x14, 0x25, 0x10, 0x01, 0x20, 0x00, 0xb8, 8, 0, 0, 0, 0x8e, 0xd8];
    // lidt, then a page fault.
    let mut fault = lidt[..8].to_vec();
    fault.extend([0xa0, 0, 0, 0x90, 0, 0, 0, 0, 0]);
    for (name, bytes) in
        [("gate", &lidt[..]), ("gate of a page fault", &fault), ("descriptor", &load_gdt)]
    {
        let mut code = bytes.to_vec();
        code.extend(OWN_TABLES);
        code.resize(0x100, 0x90);
        code.extend([0xff, 0x0f, 0x00, 0x00, 0x30, 0, 0, 0, 0, 0]);
        code.resize(0x110, 0x90);
        code.extend([0xff, 0x0f, 0x00, 0x00, 0x30, 0, 0, 0, 0, 0]);
        let mut scene = scene(&code, &[r(DATA, 0x1000)]);
        let report = go(&scene);
        assert!(is_unknown(&report), "{name}: {}", report.outcome);
        scene.contents.push(content("known", DATA, 0x1000, &[], false));
        let report = go(&scene);
        assert!(matches!(report.outcome, Outcome::Fault(_)), "{name}: {}", report.outcome);
    }
    // Tables that are not known.
    let mut scene = scene(&OWN_TABLES, &[r(DATA, 0x1000)]);
    let read = [0xa0, 0, 0, 0x30, 0, 0, 0, 0, 0];
    scene.contents[0].bytes = [&read[..], &OWN_TABLES].concat();
    scene.contents.retain(|content| content.name != "page tables");
    assert!(matches!(go(&scene).outcome, Outcome::Unknown(Unknown::Table(_))));
}

/// A page that code runs in gets a copy of something unknown: what ran there may have changed.
#[test]
fn unknown_bytes_in_the_way_of_code() {
    // mov esi, 0x300000; mov edi, 0x200012; movsq; and it runs on into what was copied
    let copy = [0xbe, 0, 0, 0x30, 0, 0xbf, 0x12, 0, 0x20, 0, 0x48, 0xa5];
    let code = [&copy[..], &[0x90; 32], &OWN_TABLES].concat();
    let report = go(&scene(&code, &[r(DATA, 0x1000)]));
    assert!(matches!(report.outcome, Outcome::Unknown(_)), "{}", report.outcome);
}
