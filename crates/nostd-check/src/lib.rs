//! The core, used from a crate without std and without alloc: plan, count, build, add, walk,
//! iterate, print; and the memory of `identmap-stream`. `check.sh` links it and looks for what
//! must not be there.

#![no_std]

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use identmap::{
    Arena, Config, Found, Guard, Leaves, Levels, PageSize, PhysAddr, PhysRange, Plan, Policy, Seen,
    Slack, Slot, Table, TableWrite, VirtAddr, WalkEnd, add, walk,
};
use identmap_stream::Streamed;

/// Runs through the core; 0 if all of it does what it should, else the step that does not.
#[allow(unsafe_code, reason = "a symbol that a C program can name; no other has this name")]
#[unsafe(no_mangle)]
pub extern "C" fn identmap_nostd_check() -> i32 {
    match steps() {
        Ok(()) => 0,
        Err(step) => step,
    }
}

#[allow(clippy::large_stack_arrays, reason = "there is no heap")]
fn steps() -> Result<(), i32> {
    // The low memory of a UV machine, and reserved memory behind it, at a 4 KiB border.
    let low = PhysRange::from_inclusive(0, 0x72c4dfff).map_err(|_| 1)?;
    let reserved = PhysRange::from_inclusive(0x72c4e000, 0x73a2ffff).map_err(|_| 2)?;
    let config = Config::kexec(Levels::Four, true);
    let policy = Policy::Guarded(Guard { forbidden: &[reserved], slack: Slack::None });
    let mut slots = [Slot::EMPTY; 16];
    let plan = Plan::new(&config, &policy, &[low], &mut slots).map_err(|_| 3)?;
    ensure(plan.leaves(PageSize::Size4K) == 78 && plan.tables().total() == 4, 4)?;

    let mut text = Text { bytes: [0; 512], len: 0 };
    write!(text, "{plan}").map_err(|_| 5)?;
    ensure(text.bytes.starts_with(b"0x0000000000000000-0x000000003fffffff 1G x 1\n"), 6)?;

    let mut tables = [Table::EMPTY; 8];
    let base = PhysAddr::new(0x100000).ok_or(7)?;
    let mut arena = Arena::new(&mut tables, base).map_err(|_| 8)?;
    let root = plan.build(&mut Streamed(&mut arena)).map_err(|_| 9)?.root;
    let more = PhysRange::from_len(0x1_0000_0000, 0x1000).map_err(|_| 10)?;
    let mut slots = [Slot::EMPTY; 16];
    let added = add(&mut arena, root, &config, &policy, more, &mut slots).map_err(|_| 11)?;
    ensure(added.new_tables == 2 && arena.available() == 2, 12)?;

    let end = |addr| walk(&arena, root, &config.paging(), VirtAddr::new(addr)).end();
    ensure(matches!(end(0x72c4dfff), WalkEnd::Mapped { phys, .. } if phys == low.last()), 13)?;
    ensure(end(0x72c4e000) == WalkEnd::NotPresent, 14)?;
    let mut seen = [Seen::EMPTY; 16];
    let mut leaves = Leaves::new(&arena, root, config.paging(), &mut seen);
    let mapped: u64 = leaves
        .by_ref()
        .map(|found| match found {
            Found::Leaves(run) => run.bytes(),
            _ => 0,
        })
        .sum();
    ensure(mapped == low.len() + more.len() && leaves.tables().total() == 6, 15)
}

fn ensure(holds: bool, step: i32) -> Result<(), i32> {
    if holds { Ok(()) } else { Err(step) }
}

/// Text in a fixed place.
struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
