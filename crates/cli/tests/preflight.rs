//! `identmap preflight` on images that mean harm or make no sense: an answer by exit status, in bounded
//! time and memory, and the command itself untouched.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use made_kernel::{BzImage, OWN_TABLES};
use serde_json::Value;

/// 2 GiB of RAM, booted by BIOS, a hole at 2 GiB, and a table above.
const MACHINE: &str = "\
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable
[    0.000000] BIOS-e820: [mem 0x00000000f0000000-0x00000000f000ffff] reserved
";

/// Seconds that an emulation gets here.
const TIME: u64 = 2;
/// For the start of two processes on a busy machine; with it the whole has to be over.
const SLACK: Duration = Duration::from_secs(20);
/// Kilobytes of address space for each process: the guest's memory, 1 GiB for the emulator, and the
/// program.
const MEMORY: u64 = 2 << 20;

const SAFE: i32 = 0;
const UNSAFE: i32 = 1;
const REFUSED: i32 = 2;
const UNKNOWN: i32 = 3;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("machine.txt"), MACHINE).unwrap();
        Folder(path)
    }

    /// Runs the command on an image, under limits that no run may reach.
    fn run(&self, image: &[u8], more: &[&str]) -> Output {
        let file = self.0.join("image");
        std::fs::write(&file, image).unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -c 0; ulimit -v {MEMORY}; exec \"$@\"")).arg("sh");
        command.arg(env!("CARGO_BIN_EXE_identmap")).arg("preflight").arg(&file);
        command.arg(self.0.join("machine.txt")).args(["--cpu", "amd-sev", "--json"]);
        command.args(["--time", &TIME.to_string(), "--nogbpages"]).args(more);
        let start = Instant::now();
        let output = command.output().unwrap();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(TIME) + SLACK, "{took:?}");
        output
    }
}

/// Runs it, checks what every run has to keep, and gives status and report.
fn answer(folder: &Folder, name: &str, image: &[u8], more: &[&str]) -> (i32, Value) {
    let output = folder.run(image, more);
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code();
    let status = status.unwrap_or_else(|| panic!("{name}: {:?} {errors}", output.status));
    assert!(!errors.contains("panicked"), "{name}: {errors}");
    if status == REFUSED {
        assert!(
            errors.starts_with("identmap: ") && errors.lines().count() == 1,
            "{name}: {errors}"
        );
        return (status, Value::Null);
    }
    assert!(errors.is_empty(), "{name}: {errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = match status {
        SAFE => "safe",
        UNSAFE => "unsafe",
        UNKNOWN => "unknown",
        other => panic!("{name}: {other} {errors}"),
    };
    assert_eq!(report["verdict"], verdict, "{name}");
    for run in report["runs"].as_array().unwrap() {
        assert!(!run["sentence"].as_str().unwrap().is_empty(), "{name}");
        // The emulator's process may crash, but none of these makes it.
        let sentence = run["sentence"].as_str().unwrap();
        assert!(!sentence.contains("process ended"), "{name}: {sentence}");
    }
    (status, report)
}

/// A sound bzImage with this code at its 64-bit entry.
fn image(code: &[u8]) -> Vec<u8> {
    BzImage { code, ..BzImage::default() }.bytes()
}

/// Of [`OWN_TABLES`], run with 4 levels.
const INSTRUCTIONS: u64 = 2576;

#[test]
fn a_sound_image_is_safe_and_a_hole_is_not() {
    let folder = Folder::new("sound");
    let (status, report) = answer(&folder, "sound", &image(&OWN_TABLES), &[]);
    assert_eq!((status, report["runs"][0]["instructions"].as_u64()), (SAFE, Some(INSTRUCTIONS)));
    // mov al, [0xf0000123]
    let read = [0xa0, 0x23, 0x01, 0x00, 0xf0, 0, 0, 0, 0];
    let (status, report) = answer(&folder, "hole", &image(&read), &[]);
    assert_eq!(status, UNSAFE);
    assert_eq!(report["runs"][0]["fault"]["address"], "0x00000000f0000123");
    assert_eq!(report["runs"][0]["fault"]["what"], "reserved");
}

/// What it is, where it stands in the header, the bytes, the exit status.
type Field = (&'static str, usize, &'static [u8], i32);

#[test]
fn headers_that_make_no_sense_are_refused() {
    let folder = Folder::new("headers");
    let cases: &[Field] = &[
        ("no boot flag", 0x1fe, &[0, 0], REFUSED),
        ("no magic number", 0x202, b"ELF!", REFUSED),
        ("protocol 1", 0x206, &[0, 1], REFUSED),
        ("a zImage", 0x211, &[0], REFUSED),
        ("no 64-bit entry", 0x236, &[0, 0], REFUSED),
        ("more setup than file", 0x1f1, &[255], REFUSED),
        ("the setup's length left out", 0x1f1, &[0], REFUSED),
        ("more code than file", 0x1f4, &[0xff; 4], REFUSED),
        ("alignment 0", 0x230, &[0; 4], REFUSED),
        ("alignment 3", 0x230, &[3, 0, 0, 0], REFUSED),
        ("alignment 2 GiB", 0x230, &[0, 0, 0, 0x80], REFUSED),
        ("init_size 0", 0x260, &[0; 4], REFUSED),
        ("init_size below the file", 0x260, &[0, 1, 0, 0], REFUSED),
        ("init_size above all RAM", 0x260, &[0xff; 4], REFUSED),
        ("pref_address above all memory", 0x258, &[0xff; 8], REFUSED),
        ("pref_address in a hole", 0x258, &[0, 0, 0, 0x90], REFUSED),
        ("payload outside", 0x248, &[0xff; 8], REFUSED),
        ("payload that wraps", 0x248, &[0xf0, 0xff, 0xff, 0xff, 0x20, 0, 0, 0], REFUSED),
        ("a header that ends before init_size", 0x201, &[0x20], REFUSED),
        ("initrd_addr_max 0", 0x22c, &[0; 4], SAFE),
        ("handover_offset outside", 0x264, &[0xff; 4], SAFE),
        ("setup_data that leads nowhere", 0x250, &[0xff; 8], SAFE),
        ("kernel_info outside", 0x268, &[0xff; 4], SAFE),
    ];
    assert!(cases.len() >= 20);
    for (name, at, bytes, expected) in cases {
        let mut image = image(&OWN_TABLES);
        image[*at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(answer(&folder, name, &image, &[]).0, *expected, "{name}");
    }
    let sound = image(&OWN_TABLES);
    for len in [0, 1, 0x1ff, 0x202, 0x206, 0x237, 0x263, 0x3ff, 0x400, 0x5ff, 0x610] {
        assert_eq!(answer(&folder, "cut", &sound[..len], &[]).0, REFUSED, "{len:#x}");
    }
    let mut fixed = image(&OWN_TABLES);
    fixed[0x234] = 0;
    fixed[0x258..0x260].copy_from_slice(&0x7000_1234_u64.to_le_bytes());
    let status = answer(&folder, "fixed at an address that is no page", &fixed, &[]).0;
    assert!(status == REFUSED || status == SAFE, "{status}");
    assert_eq!(
        answer(&folder, "initrd", &sound, &["--initrd-size", "18446744073709551615"]).0,
        REFUSED
    );
    let line = "x".repeat(3000);
    assert_eq!(answer(&folder, "command line", &sound, &["--cmdline", &line]).0, REFUSED);
    assert_eq!(
        answer(&folder, "crash kernel", &sound, &["--panic"]).0,
        REFUSED,
        "none is reserved"
    );
}

/// What it does, its bytes, the exit statuses that are right.
type Code = (&'static str, &'static [u8], &'static [i32]);

#[test]
fn code_that_means_harm() {
    let folder = Folder::new("harm");
    let either: &[i32] = &[UNSAFE, UNKNOWN];
    let cases: &[Code] = &[
        ("jmp .", &[0xeb, 0xfe], &[UNKNOWN]),
        // 1: inc dword [rip+1]; mov eax, imm; jmp 1b
        ("rewrites itself", &[0xff, 0x05, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xeb, 0xf3], &[UNKNOWN]),
        // mov edi, 0x400000; or rcx, -1; rep stosq
        (
            "rep stos without end",
            &[0xbf, 0, 0, 0x40, 0, 0x48, 0x83, 0xc9, 0xff, 0xf3, 0x48, 0xab],
            either,
        ),
        // lea rsi, [rip]; lea rdi, [rsi+16]; or rcx, -1; rep movsb
        (
            "rep movs over itself",
            &[
                0x48, 0x8d, 0x35, 0, 0, 0, 0, 0x48, 0x8d, 0x7e, 0x10, 0x48, 0x83, 0xc9, 0xff, 0xf3,
                0xa4,
            ],
            either,
        ),
        ("push without end", &[0x50, 0xeb, 0xfd], either),
        ("hlt", &[0xf4], &[UNSAFE]),
        ("ud2", &[0x0f, 0x0b], &[UNSAFE]),
        ("int3", &[0xcc], either),
        ("int 0x80", &[0xcd, 0x80], either),
        ("iretq", &[0x48, 0xcf], either),
        // xor ecx, ecx; div ecx
        ("division by zero", &[0x31, 0xc9, 0xf7, 0xf1], &[UNSAFE]),
        // mov eax, 0x300000; jmp rax: zeros of RAM that nobody filled
        ("runs memory that is not known", &[0xb8, 0, 0, 0x30, 0, 0xff, 0xe0], &[UNKNOWN]),
        // mov eax, [0x300000]; test eax, eax
        (
            "decides by memory that is not known",
            &[0x8b, 0x04, 0x25, 0, 0, 0x30, 0, 0x85, 0xc0],
            &[UNKNOWN],
        ),
        // mov eax, 0xfee00020; mov eax, [rax]
        ("reads the local APIC", &[0xb8, 0x20, 0, 0xe0, 0xfe, 0x8b, 0], &[UNSAFE]),
        // mov rax, 0x0123456789abcdef; jmp rax
        (
            "jumps to no address",
            &[0x48, 0xb8, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0xff, 0xe0],
            either,
        ),
        // or rax, -1; mov cr3, rax: reserved bits
        ("CR3 full of ones", &[0x48, 0x83, 0xc8, 0xff, 0x0f, 0x22, 0xd8, 0xeb, 0xfe], either),
        // or rax, -1; mov cr4, rax
        ("CR4 full of ones", &[0x48, 0x83, 0xc8, 0xff, 0x0f, 0x22, 0xe0, 0xeb, 0xfe], either),
        ("CR4 empty", &[0x31, 0xc0, 0x0f, 0x22, 0xe0, 0xeb, 0xfe], either),
        ("CR0 empty", &[0x31, 0xc0, 0x0f, 0x22, 0xc0, 0xeb, 0xfe], either),
        // or rax, -1; mov cr8, rax; mov dr7, rax
        (
            "CR8 and DR7",
            &[0x48, 0x83, 0xc8, 0xff, 0x44, 0x0f, 0x22, 0xc0, 0x0f, 0x23, 0xf8, 0xeb, 0xfe],
            either,
        ),
        // mov ecx, 0xc0000080; or eax, -1; or edx, -1; wrmsr
        (
            "EFER full of ones",
            &[0xb9, 0x80, 0, 0, 0xc0, 0x83, 0xc8, 0xff, 0x83, 0xca, 0xff, 0x0f, 0x30, 0xeb, 0xfe],
            either,
        ),
        // mov ecx, 0xdeadbeef; wrmsr; rdmsr
        (
            "an MSR that is none",
            &[0xb9, 0xef, 0xbe, 0xad, 0xde, 0x0f, 0x30, 0x0f, 0x32, 0xeb, 0xfe],
            either,
        ),
        // push 0x10; push 0x200000; retfq: a segment from a GDT that is not there
        ("a far jump to 32-bit code", &[0x6a, 0x10, 0x68, 0, 0, 0x20, 0, 0x48, 0xcb], either),
        // lidt of an IDT whose every gate is unknown memory; int3
        (
            "an IDT of unknown memory",
            &[
                0x6a, 0, 0x68, 0, 0, 0x30, 0, 0x66, 0x68, 0, 0, 0x66, 0x68, 0xff, 0x0f, 0x0f, 0x01,
                0x1c, 0x24, 0xcc,
            ],
            either,
        ),
        ("sysret", &[0x48, 0x0f, 0x07], either),
        ("syscall", &[0x0f, 0x05], either),
        ("vmcall, vmrun", &[0x0f, 0x01, 0xc1, 0x0f, 0x01, 0xd8], either),
        ("a task register from nowhere", &[0x66, 0xb8, 0x18, 0, 0x0f, 0x00, 0xd8], either),
        ("prefixes alone", &[0x66; 0x100], either),
        ("lock without an operand", &[0xf0, 0x90], &[UNSAFE]),
        ("avx-512", &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0x00, 0xeb, 0xfe], either),
        // xor edi, edi; rep insb from port 0
        ("reads ports for ever", &[0x31, 0xff, 0x48, 0x83, 0xc9, 0xff, 0xf3, 0x6c], either),
        // enter 0xffff, 31
        ("enter, nested", &[0xc8, 0xff, 0xff, 0x1f, 0xeb, 0xfe], either),
        // 1: cpuid; jmp 1b
        ("cpuid without end", &[0x0f, 0xa2, 0xeb, 0xfc], &[UNKNOWN]),
        // sti; hlt
        ("waits for an interrupt", &[0xfb, 0xf4], either),
    ];
    assert!(cases.len() >= 20);
    for (name, code, expected) in cases {
        let (status, report) = answer(&folder, name, &image(code), &[]);
        assert!(expected.contains(&status), "{name}: {status} {}", report["runs"][0]["sentence"]);
    }
}

#[test]
fn random_images() {
    let folder = Folder::new("random");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..10 {
        let code: Vec<u8> = (0..0x100).flat_map(|_| random().to_le_bytes()).collect();
        let (status, _) = answer(&folder, "random", &image(&code), &[]);
        assert!(status == UNSAFE || status == UNKNOWN, "{round}: {status}");
    }
}

#[test]
fn a_crash_kernel_lies_in_its_reservation_and_is_told_so() {
    let folder = Folder::new("crash");
    let machine = format!(
        "{MACHINE}[    0.000000] crashkernel reserved: 0x0000000040000000 - 0x0000000050000000 (256 MB)\n"
    );
    std::fs::write(folder.0.join("machine.txt"), machine).unwrap();
    // mov eax, [rsi+0x228]: the command line; cmp dword [rax], "elfc"; je +2; ud2
    let told = [0x8b, 0x86, 0x28, 2, 0, 0, 0x81, 0x38, b'e', b'l', b'f', b'c', 0x74, 2, 0x0f, 0x0b];
    let image = image(&[&told[..], &OWN_TABLES].concat());
    let (status, report) = answer(&folder, "crash", &image, &["--panic"]);
    assert_eq!(status, SAFE, "{report}");
    let start = report["image"]["start"].as_str().unwrap().trim_start_matches("0x");
    let start = u64::from_str_radix(start, 16).unwrap();
    assert!((0x4000_0000..0x5000_0000).contains(&start), "{start:#x}");
    // As an ordinary kernel it is told nothing of a core.
    assert_eq!(answer(&folder, "ordinary", &image, &[]).0, UNSAFE);
}
