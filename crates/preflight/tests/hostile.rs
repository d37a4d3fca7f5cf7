//! Images that mean harm, or make no sense: a clear answer in bounded time, and the parent untouched.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{CODE, TABLES, code, content, r, scene, scene_under};
use identmap::{Config, Levels};
use identmap_preflight::{Outcome, Report, Scene, Unknown, run_in_child};

fn child() -> Command {
    Command::new(env!("CARGO_BIN_EXE_identmap-preflight-worker"))
}

fn go(scene: &Scene) -> Report {
    let start = Instant::now();
    let report = run_in_child(child(), scene).unwrap();
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    report
}

/// Code with all of the first 2 GiB mapped: whatever it does, it can do.
fn wide_open(code: &[u8]) -> Scene {
    let mut scene = scene_under(code, &[r(0, 1 << 31)], Config::kexec(Levels::Four, true));
    scene.limits.instructions = u64::MAX;
    scene.limits.memory = 64 << 20;
    scene
}

fn instructions_run_out(report: &Report) -> bool {
    let Outcome::Unknown(why) = &report.outcome else { return false };
    matches!(why, Unknown::Time { .. } | Unknown::Instructions { .. })
}

fn faults(report: &Report, vector: u8) -> bool {
    matches!(&report.outcome, Outcome::Fault(fault) if fault.vector == vector)
}

/// Each with what is expected of it.
#[test]
fn code_that_means_harm() {
    type Expected = fn(&Report) -> bool;
    let cases: &[(&str, &[u8], Expected)] = &[
        ("jmp .", &[0xeb, 0xfe], instructions_run_out),
        ("two blocks that jump to each other", &[0xeb, 0x00, 0xeb, 0xfc], instructions_run_out),
        // mov edi, 0x400000; 1: stosb; jmp 1b
        ("writes for ever", &[0xbf, 0, 0, 0x40, 0, 0xaa, 0xeb, 0xfd], |report| {
            matches!(
                report.outcome,
                Outcome::Unknown(Unknown::Memory { .. } | Unknown::Time { .. })
            )
        }),
        // mov edi, 0x400000; xor ecx, ecx; dec rcx; rep stosq
        (
            "one instruction that never ends",
            &[0xbf, 0, 0, 0x40, 0, 0x31, 0xc9, 0x48, 0xff, 0xc9, 0xf3, 0x48, 0xab],
            |report| {
                let Outcome::Unknown(why) = &report.outcome else { return false };
                matches!(why, Unknown::Memory { .. } | Unknown::Time { .. })
            },
        ),
        // 1: push rax; jmp 1b. Through the image, the tables' page, and below address 0.
        ("a stack that grows over the code", &[0x50, 0xeb, 0xfd], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        // call .
        ("recursion without end", &[0xe8, 0xfb, 0xff, 0xff, 0xff], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        // 1: inc dword [rip+X], which is the operand of the next instruction; mov eax, imm; jmp 1b
        (
            "rewrites its next instruction for ever",
            &[0xff, 0x05, 0x01, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xeb, 0xf3],
            instructions_run_out,
        ),
        // xor eax, eax; mov cr0, rax: protected mode off, in 64-bit mode
        ("turns protection off", &[0x31, 0xc0, 0x0f, 0x22, 0xc0, 0xeb, 0xfe], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        // mov rax, cr0; btr eax, 31; mov cr0, rax; jmp .
        (
            "turns paging off",
            &[0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xf0, 0x1f, 0x0f, 0x22, 0xc0, 0xeb, 0xfe],
            |report| !matches!(report.outcome, Outcome::Reached { .. }),
        ),
        // xor eax, eax; mov cr4, rax: no PAE
        ("turns PAE off", &[0x31, 0xc0, 0x0f, 0x22, 0xe0, 0xeb, 0xfe], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        // mov ecx, 0xc0000080; xor eax, eax; xor edx, edx; wrmsr; jmp .
        (
            "clears EFER",
            &[0xb9, 0x80, 0, 0, 0xc0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, 0xeb, 0xfe],
            |report| !matches!(report.outcome, Outcome::Reached { .. }),
        ),
        // mov edi, 0x100000; mov ecx, 0x1000; rep stosb over the page tables; flush; jmp .
        (
            "erases its own page tables",
            &[
                0xbf, 0, 0, 0x10, 0, 0xb9, 0, 0x30, 0, 0, 0xf3, 0xaa, 0x0f, 0x20, 0xd8, 0x0f, 0x22,
                0xd8, 0xeb, 0xfe,
            ],
            |report| faults(report, 14),
        ),
        ("lock with nothing to lock", &[0xf0, 0x90], |report| faults(report, 6)),
        ("fifteen prefixes and more", &[0x66; 64], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        ("int 0x80 without an IDT", &[0xcd, 0x80], |report| {
            !matches!(report.outcome, Outcome::Reached { .. } | Outcome::Halted { .. })
        }),
        ("iretq with nothing on the stack", &[0x48, 0xcf], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        ("syscall to nowhere", &[0x0f, 0x05], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        ("sysret to user mode", &[0x48, 0x0f, 0x07], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        ("vmrun", &[0x0f, 0x01, 0xd8], |report| !matches!(report.outcome, Outcome::Reached { .. })),
        // mov eax, 0x18; ltr ax
        ("a task register from nowhere", &[0xb8, 0x18, 0, 0, 0, 0x0f, 0x00, 0xd8], |report| {
            !matches!(report.outcome, Outcome::Reached { .. })
        }),
        // fxrstor [0]; xrstor [0]
        (
            "floating-point state from nowhere",
            &[0x0f, 0xae, 0x0c, 0x25, 0, 0, 0, 0, 0xeb, 0xfe],
            |r| !matches!(r.outcome, Outcome::Reached { .. }),
        ),
        ("hlt", &[0xf4], |report| matches!(report.outcome, Outcome::Halted { .. })),
    ];
    assert!(cases.len() >= 20);
    for (name, bytes, expected) in cases {
        let mut scene = wide_open(bytes);
        scene.limits.time = Duration::from_millis(500);
        let report = go(&scene);
        assert!(expected(&report), "{name}: {:?}", report.outcome);
    }
}

/// 60 images of random bytes: no crash of the worker is the parent's, and none comes up.
#[test]
fn random_bytes() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..60 {
        let image: Vec<u8> = (0..0x200).flat_map(|_| random().to_le_bytes()).collect();
        let mut scene = wide_open(&image);
        scene.limits.instructions = 100_000;
        let report = go(&scene);
        let plain = !matches!(report.outcome, Outcome::Unknown(Unknown::Child(_)));
        assert!(plain, "round {round}: {:?}", report.outcome);
    }
}

/// Limits are kept where guest memory is mapped without bounds.
#[test]
fn memory_is_bounded() {
    // mov edi, 0x400000; 1: mov [rdi], al; add rdi, 0x1000; jmp 1b
    let walk = [0xbf, 0, 0, 0x40, 0, 0x88, 0x07, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0xeb, 0xf5];
    let mut scene = scene_under(&walk, &[r(0, 1 << 44)], Config::kexec(Levels::Four, true));
    scene.limits.memory = 32 << 20;
    scene.limits.instructions = u64::MAX;
    let limit = scene.limits.memory;
    assert_eq!(go(&scene).outcome, Outcome::Unknown(Unknown::Memory { limit }));
}

#[test]
fn a_worker_that_dies_or_lies_is_unknown() {
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args);
        let mut scene = scene(&[0xeb, 0xfe], &[]);
        scene.limits.time = Duration::ZERO;
        run_in_child(command, &scene).unwrap().outcome
    };
    let child = |outcome: &Outcome| matches!(outcome, Outcome::Unknown(Unknown::Child(_)));
    for (program, args) in [
        ("/nonexistent/program", &[][..]),
        ("false", &[]),
        ("true", &[]),
        ("sh", &["-c", "kill -SEGV $$"]),
        ("sh", &["-c", "head -c 1000 /dev/zero"]),
    ] {
        let outcome = run(program, args);
        assert!(child(&outcome), "{program} {args:?}: {outcome:?}");
    }
    let outcome = run("sleep", &["60"]);
    assert_eq!(outcome, Outcome::Unknown(Unknown::Time { rip: None }));
}

#[test]
fn the_child_says_what_this_process_says() {
    let mut scene = scene(&code(&[&[0x90], &common::OWN_TABLES]), &[r(TABLES, 0x1000)]);
    scene.contents.push(content("more", CODE + 0x10_0000, 0x1234, &[1, 2, 3], true));
    let here = common::go(&scene);
    let there = run_in_child(child(), &scene).unwrap();
    assert_eq!(there.outcome, here.outcome);
    assert_eq!((there.touched, there.instructions), (here.touched, here.instructions));
}
