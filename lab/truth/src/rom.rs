//! What runs before the consumer, in place of firmware, a producer and a purgatory.
//!
//! QEMU gets a ROM instead of its firmware: nobody else touches memory, so that all of it is
//! known. From the reset vector it goes into long mode under tables of its own, and from there to a
//! page in RAM that does what `relocate_kernel` and a purgatory do last: GDT and IDT of length 0, CR0
//! without WP, the scenario's CR3, RSI, RSP, a jump.

use identmap::Levels;

/// `EFER.LME` and `EFER.NXE`; SCE, which a producer has too, changes nothing here.
const EFER: u32 = 1 << 8 | 1 << 11;
/// The ROM's size; it ends at 4 GiB.
const ROM: usize = 64 << 10;
const ROM_BASE: u64 = 0xffff_0000;
/// Where the ROM's own tables lie in it.
const TABLES: usize = 0x1000;
/// Parameters of [`START`], see there.
const GDT_POINTER: usize = 0x100;
const GDT: usize = 0x140;
const CR4: usize = 0x120;
const ROOT: usize = CR4 + 4;
const EFER_AT: usize = CR4 + 8;
const TARGET: usize = 0x130;

/// At offset 0, 0x40 and 0x80: real mode, protected mode, long mode.
const START: [(usize, &[u8]); 3] = [
    (
        0,
        &[
            0xfa, // cli
            0x2e, 0x66, 0x0f, 0x01, 0x16, 0x00, 0x01, // lgdtl %cs:GDT_POINTER
            0x0f, 0x20, 0xc0, // mov %cr0,%eax
            0x0c, 0x01, // or $1,%al
            0x0f, 0x22, 0xc0, // mov %eax,%cr0
            0x66, 0xea, 0x40, 0x00, 0xff, 0xff, 0x08, 0x00, // ljmpl $8,$0xffff0040
        ],
    ),
    (
        0x40,
        &[
            0x66, 0xb8, 0x10, 0x00, // mov $0x10,%ax
            0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // mov %ax,%ds; %es; %ss
            0xa1, 0x20, 0x01, 0xff, 0xff, // mov CR4,%eax
            0x0f, 0x22, 0xe0, // mov %eax,%cr4
            0xa1, 0x24, 0x01, 0xff, 0xff, // mov ROOT,%eax
            0x0f, 0x22, 0xd8, // mov %eax,%cr3
            0xb9, 0x80, 0x00, 0x00, 0xc0, // mov $0xc0000080,%ecx    EFER
            0x31, 0xd2, // xor %edx,%edx
            0xa1, 0x28, 0x01, 0xff, 0xff, // mov EFER,%eax
            0x0f, 0x30, // wrmsr
            0xb8, 0x31, 0x00, 0x00, 0x80, // mov $0x80000031,%eax
            0x0f, 0x22, 0xc0, // mov %eax,%cr0
            0xea, 0x80, 0x00, 0xff, 0xff, 0x18, 0x00, // ljmp $0x18,$0xffff0080
        ],
    ),
    (
        0x80,
        &[
            0xb8, 0x30, 0x01, 0xff, 0xff, // mov $TARGET,%eax
            0xff, 0x20, // jmp *(%rax)
        ],
    ),
];

/// A ROM that enters `target` (below 4 GiB) in long mode, with as many levels of tables.
#[must_use]
pub fn rom(levels: Levels, target: u64) -> Vec<u8> {
    let mut rom = vec![0; ROM];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    for (at, code) in START {
        put(at, code);
    }
    // The reset vector: jmp to offset 0 (a 16-bit displacement).
    put(0xfff0, &[0xe9, 0x0d, 0x00]);
    put(GDT_POINTER, &31_u16.to_le_bytes());
    put(GDT_POINTER + 2, &(ROM_BASE as u32 + GDT as u32).to_le_bytes());
    // Null, 32-bit code, data, 64-bit code, all accessed: nothing is to be written into a ROM.
    let gdt = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff_u64];
    for (i, descriptor) in gdt.iter().enumerate() {
        put(GDT + i * 8, &descriptor.to_le_bytes());
    }
    let five = levels == Levels::Five;
    put(CR4, &(1_u32 << 5 | u32::from(five) << 12).to_le_bytes());
    put(EFER_AT, &EFER.to_le_bytes());
    put(TARGET, &target.to_le_bytes());

    // Present, writable, accessed; 2 MiB leaves are dirty too.
    let table = |index: usize| (ROM_BASE + (TABLES + index * 0x1000) as u64) | 0x23;
    // Tables 0..4 have the first 4 GiB, 4 is their PDPT, 5 and 6 the roots of 4 and 5 levels.
    for frame in 0..2048 {
        put(TABLES + frame * 8, &((frame as u64) << 21 | 0xe3).to_le_bytes());
    }
    for i in 0..4 {
        put(TABLES + 4 * 0x1000 + i * 8, &table(i).to_le_bytes());
    }
    put(TABLES + 5 * 0x1000, &table(4).to_le_bytes());
    put(TABLES + 6 * 0x1000, &table(5).to_le_bytes());
    let root = table(if five { 6 } else { 5 }) & !0xfff;
    put(ROOT, &(root as u32).to_le_bytes());
    rom
}

/// What the page in RAM hands over.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// RSP.
    pub rsp: u64,
    /// RSI.
    pub rsi: u64,
    /// Where it jumps to.
    pub rip: u64,
}

/// Code of the page in RAM; behind it 16 bytes of zeros, then the fields of [`Entry`].
const LAST_STEPS: [u8; 0x5c] = [
    0xfa, 0xfc, // cli; cld
    0x0f, 0x01, 0x1d, 0x77, 0x00, 0x00, 0x00, // lidt zeros(%rip)
    0x0f, 0x01, 0x15, 0x70, 0x00, 0x00, 0x00, // lgdt zeros(%rip)
    0x48, 0x8b, 0x05, 0x79, 0x00, 0x00, 0x00, // mov cr0(%rip),%rax
    0x0f, 0x22, 0xc0, // mov %rax,%cr0
    0x48, 0x8b, 0x05, 0x77, 0x00, 0x00, 0x00, // mov cr3(%rip),%rax
    0x0f, 0x22, 0xd8, // mov %rax,%cr3
    0x48, 0x8b, 0x25, 0x75, 0x00, 0x00, 0x00, // mov rsp(%rip),%rsp
    0x48, 0x8b, 0x35, 0x76, 0x00, 0x00, 0x00, // mov rsi(%rip),%rsi
    0x31, 0xc0, 0x31, 0xdb, 0x31, 0xc9, 0x31, 0xd2, // the other registers: zero
    0x31, 0xff, 0x31, 0xed, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9, 0x45, 0x31, 0xd2, 0x45, 0x31, 0xdb,
    0x45, 0x31, 0xe4, 0x45, 0x31, 0xed, 0x45, 0x31, 0xf6, 0x45, 0x31, 0xff, 0xff, 0x25, 0x54, 0x00,
    0x00, 0x00, // jmp *rip(%rip)
];
const FIELDS: usize = 0x90;

/// The page in RAM.
#[must_use]
pub fn last_steps(entry: Entry) -> Vec<u8> {
    let mut page = LAST_STEPS.to_vec();
    page.resize(FIELDS, 0);
    for field in [entry.cr0, entry.cr3, entry.rsp, entry.rsi, entry.rip] {
        page.extend(field.to_le_bytes());
    }
    page
}

/// A page in RAM that runs CPUID for each leaf and subleaf, writes EAX, EBX, ECX, EDX to the first
/// serial port, and halts.
#[must_use]
pub fn ask_cpuid(leaves: &[(u32, u32)]) -> Vec<u8> {
    const CODE: [u8; 0x4a] = [
        0x48, 0x8d, 0x35, 0x89, 0x00, 0x00, 0x00, // lea list(%rip),%rsi
        0x8b, 0x06, // next: mov (%rsi),%eax
        0x83, 0xf8, 0xff, // cmp $-1,%eax
        0x74, 0x39, // je end
        0x8b, 0x4e, 0x04, // mov 4(%rsi),%ecx
        0x0f, 0xa2, // cpuid
        0x48, 0x8d, 0x3d, 0x66, 0x00, 0x00, 0x00, // lea answer(%rip),%rdi
        0x89, 0x07, // mov %eax,(%rdi)
        0x89, 0x5f, 0x04, // mov %ebx,4(%rdi)
        0x89, 0x4f, 0x08, // mov %ecx,8(%rdi)
        0x89, 0x57, 0x0c, // mov %edx,12(%rdi)
        0xb9, 0x10, 0x00, 0x00, 0x00, // mov $16,%ecx
        0xba, 0xfd, 0x03, 0x00, 0x00, // byte: mov $0x3fd,%edx
        0xec, // in (%dx),%al
        0xa8, 0x20, // test $0x20,%al
        0x74, 0xf6, // jz byte
        0xba, 0xf8, 0x03, 0x00, 0x00, // mov $0x3f8,%edx
        0x8a, 0x07, // mov (%rdi),%al
        0xee, // out %al,(%dx)
        0x48, 0xff, 0xc7, // inc %rdi
        0xe2, 0xe9, // loop byte
        0x48, 0x83, 0xc6, 0x08, // add $8,%rsi
        0xeb, 0xc0, // jmp next
        0xf4, // end: hlt
        0xeb, 0xfd, // jmp end
    ];
    let mut page = CODE.to_vec();
    // 16 bytes for an answer, then the list.
    page.resize(0x90, 0);
    for (leaf, subleaf) in leaves {
        page.extend(leaf.to_le_bytes());
        page.extend(subleaf.to_le_bytes());
    }
    page.extend(u32::MAX.to_le_bytes());
    page
}

/// The word that [`init`] writes, with the kernel's release behind it up to a `>`.
pub const UP: &str = "@@up <";

/// The first process, as a static ELF file: writes [`UP`] and the kernel's release, then sleeps.
#[must_use]
pub fn init() -> Vec<u8> {
    const CODE: &[u8] = &[
        0xb8, 0x3f, 0x00, 0x00, 0x00, // mov $63,%eax    uname
        0x48, 0x8d, 0xa4, 0x24, 0x00, 0xfe, 0xff, 0xff, // lea -0x200(%rsp),%rsp
        0x48, 0x89, 0xe7, // mov %rsp,%rdi
        0x0f, 0x05, // syscall
        0xb8, 0x01, 0x00, 0x00, 0x00, // mov $1,%eax    write
        0xbf, 0x01, 0x00, 0x00, 0x00, // mov $1,%edi
        0x48, 0x8d, 0x35, 0x41, 0x00, 0x00, 0x00, // lea up(%rip),%rsi
        0xba, 0x07, 0x00, 0x00, 0x00, // mov $7,%edx
        0x0f, 0x05, // syscall
        0xb8, 0x01, 0x00, 0x00, 0x00, // mov $1,%eax    write
        0xbf, 0x01, 0x00, 0x00, 0x00, // mov $1,%edi
        0x48, 0x8d, 0xb4, 0x24, 0x82, 0x00, 0x00, 0x00, // lea 130(%rsp),%rsi    release
        0xba, 0x41, 0x00, 0x00, 0x00, // mov $65,%edx
        0x0f, 0x05, // syscall
        0xb8, 0x01, 0x00, 0x00, 0x00, // mov $1,%eax    write
        0xbf, 0x01, 0x00, 0x00, 0x00, // mov $1,%edi
        0x48, 0x8d, 0x35, 0x17, 0x00, 0x00, 0x00, // lea end(%rip),%rsi
        0xba, 0x02, 0x00, 0x00, 0x00, // mov $2,%edx
        0x0f, 0x05, // syscall
        0xb8, 0x22, 0x00, 0x00, 0x00, // again: mov $34,%eax    pause
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp again
        b'\n', b'@', b'@', b'u', b'p', b' ', b'<', // up
        b'>', b'\n', // end
    ];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    let halves = |elf: &mut Vec<u8>, values: &[u16]| {
        elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    halves(&mut elf, &[2, 62, 1, 0]); // ET_EXEC, EM_X86_64, version 1
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    halves(&mut elf, &[0, 0, 64, 56, 1, 64, 0, 0]);
    halves(&mut elf, &[1, 0, 5, 0]); // PT_LOAD, readable and executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(CODE);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displacements_point_where_the_parts_lie() {
        let dword = |code: &[u8], at: usize| {
            u32::from_le_bytes(code[at..at + 4].try_into().unwrap()) as usize
        };
        assert_eq!(dword(&LAST_STEPS, 5) + 9, 0x80);
        assert_eq!(dword(&LAST_STEPS, 0x13) + 0x17, FIELDS);
        assert_eq!(dword(&LAST_STEPS, 0x58) + 0x5c, FIELDS + 4 * 8);
        let page = ask_cpuid(&[(7, 0)]);
        assert_eq!(dword(&page, 3) + 7, 0x90);
        assert_eq!(dword(&page, 0x16) + 0x1a, 0x80);
        let elf = init();
        let code = &elf[120..];
        assert_eq!(&code[dword(code, 0x1f) + 0x23..][..7], format!("\n{UP}").as_bytes());
        assert_eq!(&code[dword(code, 0x50) + 0x54..], b">\n");
    }

    #[test]
    fn the_rom_s_tables_are_the_identity_with_4_levels_and_with_5() {
        use identmap::{Config, Image, PhysAddr, VirtAddr, WalkEnd, walk};
        for levels in [Levels::Four, Levels::Five] {
            let rom = rom(levels, 0x1234);
            let image = Image::new(&rom, PhysAddr::new(ROM_BASE).unwrap());
            let root = u32::from_le_bytes(rom[ROOT..ROOT + 4].try_into().unwrap());
            let root = PhysAddr::new(u64::from(root)).unwrap();
            for virt in [0, 0x1234_5678, 0xffff_0080] {
                let paging = Config::kexec(levels, false).paging();
                let end = walk(&image, root, &paging, VirtAddr::new(virt)).end();
                assert!(matches!(end, WalkEnd::Mapped { phys, .. } if phys.get() == virt));
            }
        }
    }
}
