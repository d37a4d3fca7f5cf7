//! A boot loader's or a hypervisor's map for the entry of a kernel, and the test that belongs
//! into its CI. docs/library.md shows what stands between the lines.
//!
//! `cargo run -p identmap --example entry_map`

fn main() -> Result<(), Box<dyn std::error::Error>> {
    entry_map()
}

// begin
use identmap::{Arena, Config, Found, Guard, Leaves, Levels, PhysAddr, PhysRange, Plan};
use identmap::{Policy, Seen, Slack, Slot, Table, VirtAddr, WalkEnd, walk};

fn entry_map() -> Result<(), Box<dyn std::error::Error>> {
    // What the kernel touches before it has its own tables, and what must never be reachable.
    let kernel = PhysRange::from_len(0x100_0000, 48 << 20)?;
    let boot_params = PhysRange::from_len(0x9_0000, 0x1000)?;
    let acpi = PhysRange::from_inclusive(0x7fe0_0000, 0x7fef_ffff)?;
    let mmio = PhysRange::from_inclusive(0x7ff0_0000, 0x7fff_ffff)?;

    // Plan. Nothing is built yet, and what cannot be had is said now, with both ranges.
    let policy = Policy::Guarded(Guard { forbidden: &[mmio], slack: Slack::None });
    let config = Config::kexec(Levels::Four, true);
    let mut slots = [Slot::EMPTY; 24];
    let plan = Plan::new(&config, &policy, &[kernel, boot_params, acpi], &mut slots)?;

    // Build in memory of ours, which the guest will see at 16 KiB.
    let mut tables = vec![Table::EMPTY; usize::try_from(plan.tables().total())?];
    let mut arena = Arena::new(&mut tables, PhysAddr::new(0x4000).ok_or("past 2^52")?)?;
    let built = plan.build(&mut arena)?;

    // Read back, as the processor will: what is needed is there, and nothing that is forbidden.
    for range in [kernel, boot_params, acpi] {
        let last = VirtAddr::new(range.last().get());
        let end = walk(&arena, built.root, &config.paging(), last).end();
        assert!(matches!(end, WalkEnd::Mapped { phys, .. } if phys == range.last()));
    }
    let mut seen = [Seen::EMPTY; 16];
    for found in Leaves::new(&arena, built.root, config.paging(), &mut seen) {
        let Found::Leaves(run) = found else { return Err(format!("{found:?}").into()) };
        assert!(!PhysRange::from_len(run.phys.get(), run.bytes())?.intersects(mmio));
    }
    Ok(())
}
// end

#[test]
fn the_map_has_what_is_needed_and_nothing_forbidden() {
    entry_map().unwrap();
}
