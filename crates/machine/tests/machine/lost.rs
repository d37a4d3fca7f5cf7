//! What was lost in the middle of a map or a listing is noticed, in the text and in the excerpt of it that a bundle
//! keeps; and where nothing was lost, nothing is noticed.

use identmap_machine::bundle::{Bundle, Facts};
use identmap_machine::redact::{Names, redact};
use identmap_machine::{Machine, MapOrigin, is_efi_map_whole, map_doubts, parse};

fn read(text: &str) -> Machine {
    parse::machine("m", text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The machine, which its redacted bundle gives too.
fn both(story: &str, text: &str) -> Machine {
    let machine = read(text);
    let bundle = redact(&Bundle::new(Facts::Text(text.as_bytes().to_vec())), &Names::default());
    let Facts::Text(kept) = &bundle.facts else { unreachable!() };
    let kept = String::from_utf8_lossy(kept);
    let again = Bundle { redacted: false, ..bundle.clone() }.machine("m");
    assert_eq!(again.as_ref(), Ok(&machine), "{story}:\n{kept}");
    assert!(!kept.contains("alice"), "{story}:\n{kept}");
    assert_eq!(redact(&bundle, &Names::default()).facts, bundle.facts, "{story}: twice is once");
    machine
}

const LOG: &str = "\
[    0.000000] Linux version 6.1.50 (gcc) #1 SMP
[    0.000000] Command line: quiet
[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
[    0.000000] BIOS-e820: [mem 0x00000000000a0000-0x00000000000fffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000003fffffff] usable
[    0.000000] NX (Execute Disable) protection: active
[    0.000000] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved
[    0.000000] last_pfn = 0x40000 max_arch_pfn = 0x400000000
[    0.100000] Memory: 1000000K/1048060K available (20480K kernel code)
";

const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009ffff : System RAM
000a0000-000fffff : Reserved
00100000-3fffffff : System RAM
  01000000-01ffffff : Kernel code
fec00000-fec003ff : IOAPIC 0
fee00000-fee00fff : Local APIC
";

const RANGES: &str = "\
MEMORY RANGES
0000000000000000-000000000009ffff (0)
00000000000a0000-00000000000fffff (1)
0000000000100000-000000003fffffff (0)
0000000040000000-00000000403fffff (1)
";

fn memmap() -> String {
    let entries = [("0x0", "0x9ffff", "System RAM"), ("0xa0000", "0xfffff", "Reserved")];
    let more = [("0x100000", "0x3fffffff", "System RAM"), ("0xfee00000", "0xfee00fff", "Reserved")];
    let path = "/sys/firmware/memmap";
    let entry = |(n, (start, end, kind)): (usize, (&str, &str, &str))| {
        format!("{path}/{n}/end:{end}\n{path}/{n}/start:{start}\n{path}/{n}/type:{kind}\n")
    };
    entries.into_iter().chain(more).enumerate().map(entry).collect()
}

/// `text` with one line replaced: the one that holds `old`.
fn with(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    let line = |line: &str| if line.contains(old) { new.to_owned() } else { format!("{line}\n") };
    text.lines().map(line).collect()
}

const ENTRY: &str = "0x00000000000a0000-0x00000000000fffff] reserved";

#[test]
fn whole_texts_raise_no_doubt() {
    for text in [
        LOG,
        IOMEM,
        RANGES,
        &memmap(),
        // What stands around a map or a listing.
        &format!(
            "Dear all,\n{LOG}that was it.\n\n{IOMEM}\nand the ports:\n0000-0cf7 : PCI Bus 0000:00\n"
        ),
        &format!("{IOMEM}0000-0cf7 : PCI Bus 0000:00\n2024-10-22 : the day\n"),
        // A part of it shown once more.
        &format!("{IOMEM}# grep Kernel /proc/iomem\n---\n  01000000-01ffffff : Kernel code\n"),
        &format!("before:\n{IOMEM}after:\n{IOMEM}"),
        &format!("{RANGES}kernel: 0x7f len 5\nMemmap after adding segment\n{}", &RANGES[14..]),
        // Messages dropped after the memory was set up, and those of the boot before.
        &format!("{LOG}** 12 printk messages dropped **\n"),
        &format!("** 12 printk messages dropped **\n{LOG}"),
        // Without a map, the heading alone says nothing.
        &with(LOG, "NX (Execute", "[    0.000000] random: crng init done\n"),
    ] {
        let machine = both("whole", text);
        assert_eq!(map_doubts(&machine), [], "{text}");
        assert!(!machine.notes.iter().any(|n| n.unreadable), "{:?}\n{text}", machine.notes);
    }
}

#[test]
fn a_map_that_lost_a_line_in_the_middle_is_not_whole() {
    for (story, line) in [
        ("messages dropped", "** 1 printk messages dropped **\n"),
        ("as older kernels print it", "** 1 printk messages dropped ** [    0.0] alice: x\n"),
        ("journald's", "Feb 14 15:05:13 alice systemd-journald[12]: Missed 2 kernel messages\n"),
        (
            "the colon",
            "[    0.000000] BIOS-e820 [mem 0x00000000000a0000-0x00000000000fffff] reserved\n",
        ),
        ("the head, with a time", "[    0.000000] 00000000a0000-0x00000000000fffff] reserved\n"),
        ("the head", "00000000a0000-0x00000000000fffff] reserved\n"),
        ("something else", "alice typed this\n"),
        (
            "several lines",
            "alice typed this\n\nand this\n# and this\n** 1 printk messages dropped **\n",
        ),
    ] {
        let machine = both(story, &with(LOG, ENTRY, line));
        assert!(machine.lost.map, "{story}");
        assert_eq!(map_doubts(&machine).len(), 1, "{story}");
    }
    for (story, old, new) in [
        ("the first entry", "0x000000000009ffff] usable", "[    0.0] alice [mem 0x0-0x9ff\n"),
        (
            "the last entry",
            "0x000000003fffffff] usable",
            "[    0.0] BIOS-e820 [mem 0x100000-0x3fffffff] usable\n",
        ),
        (
            "its type",
            "0x000000003fffffff] usable",
            "[    0.0] BIOS-e820 [mem 0x100000-0x3fff alice\n",
        ),
        (
            "a change",
            "e820: update",
            "[    0.0] alice: update [mem 0x00000000-0x00000fff] usable ==> reserved\n",
        ),
        ("changes", "e820: update", "** 3 printk messages dropped **\n"),
    ] {
        let machine = both(story, &with(LOG, old, new));
        assert!(machine.lost.map, "{story}");
        assert!(!map_doubts(&machine).is_empty(), "{story}");
        assert!(machine.notes.iter().any(|note| note.unreadable), "{story}");
    }
}

#[test]
fn a_listing_that_lost_a_row_is_not_whole() {
    for (story, line) in [
        ("the dash", "000a0000000fffff : alice\n"),
        ("the colon", "000a0000-000fffff alice\n"),
        ("a number", "000a0000 : alice\n"),
        ("all of it", "alice\n"),
        ("messages on the console", "** 1 printk messages dropped **\n"),
    ] {
        let machine = both(story, &with(IOMEM, "000a0000-000fffff", line));
        assert!(machine.lost.iomem && !map_doubts(&machine).is_empty(), "{story}");
    }
    for line in ["fee00000fee00fff : Local APIC\n", "fee00000-fee00fff alice\nand alice\n"] {
        let machine = both("the last", &with(IOMEM, "fee00000", line));
        assert!(machine.lost.iomem, "{line}");
        let damaged = with(IOMEM, "fee00000", line);
        let machine = both("behind ranges", &format!("{RANGES}{damaged}"));
        assert!(machine.lost.iomem && !machine.lost.kexec_ranges, "{line}");
    }
    // Only of the listing that is used.
    let damaged = with(IOMEM, "000a0000-000fffff", "alice\n");
    assert!(!both("the first of two", &format!("{damaged}\n{IOMEM}")).lost.iomem);
    assert!(both("the second of two", &format!("{IOMEM}\n{damaged}")).lost.iomem);
}

#[test]
fn ranges_of_kexec_are_not_dropped_in_silence() {
    let ranges = |machine: &Machine| {
        let map = machine.maps.iter().find(|map| map.origin == MapOrigin::KexecRanges);
        map.map_or(0, |map| map.entries.len())
    };
    assert_eq!(ranges(&both("whole", RANGES)), 4);
    for (story, line, left) in [
        ("something else", "[ 1234.5] audit: alice\n", 3),
        ("a digit", "0000000000a0000-00000000000fffff (1)\n", 3),
        ("a line of the log", "[    0.1] Using GB pages for direct mapping\n", 3),
    ] {
        let machine = both(story, &with(RANGES, "00000000000a0000", line));
        assert_eq!(ranges(&machine), left, "{story}");
        assert!(machine.lost.kexec_ranges && map_doubts(&machine).len() == 1, "{story}");
    }
    let machine =
        both("the last", &with(RANGES, "0000000040000000", "0000000040000000-00 alice\n"));
    assert!(machine.lost.kexec_ranges && ranges(&machine) == 3);
    // The list of a smaller machine behind it, as of a guest: the last that is at least half as long counts.
    let short = "MEMORY RANGES\n0000000000000000-000000000009ffff (0)\n";
    let machine = both("a short list", &format!("{RANGES}{short}"));
    assert_eq!(ranges(&machine), 4);
    assert!(machine.notes.iter().any(|n| n.text.contains("2 lists of ranges")));
    assert_eq!(ranges(&both("a long one", &format!("{short}{RANGES}"))), 4);
    assert_eq!(ranges(&both("two alike", &format!("{RANGES}{RANGES}"))), 4);
}

#[test]
fn an_entry_of_sysfs_that_is_incomplete_or_missing_is_lost() {
    let path = "/sys/firmware/memmap/1/";
    for (story, gone) in
        [("its end", "end"), ("its start", "start"), ("its type", "type"), ("it", "")]
    {
        let kept = |line: &&str| !line.starts_with(&format!("{path}{gone}"));
        let text: String = memmap().lines().filter(kept).flat_map(|l| [l, "\n"]).collect();
        let machine = both(story, &text);
        assert!(machine.lost.firmware_memmap && map_doubts(&machine).len() == 1, "{story}");
    }
    let cut = memmap();
    let machine = both(
        "cut",
        cut.trim_end_matches(
            "fff\n/sys/firmware/memmap/3/start:0xfee00000\n/sys/firmware/memmap/3/type:Reserved\n",
        ),
    );
    assert!(machine.lost.firmware_memmap);
    // Beside a log that is whole it does not matter.
    let machine = both("beside", &format!("{LOG}{}", memmap().replace("memmap/1/", "memmap/7/")));
    assert!(machine.lost.firmware_memmap && map_doubts(&machine).is_empty());
}

/// Each of the two EFI maps by itself: the second vouched for the first.
#[test]
fn an_efi_map_is_whole_by_its_own_entries() {
    let line = |n: u32, kind: &str| {
        let start = u64::from(n) << 28;
        format!(
            "efi: mem{n:02}: [{kind}|RUN|  |WB] range=[{start:#018x}-{:#018x}] (1MB)\n",
            start + 0xf_ffff
        )
    };
    let runtime = format!(
        "efi: EFI runtime memory map:\n{}{}",
        line(0, "Runtime Data"),
        line(1, "Runtime Code")
    );
    let whole = [
        line(0, "Conventional"),
        line(1, "Runtime Data"),
        line(2, "Conventional"),
        line(3, "Boot Data"),
    ];
    let map = whole.concat();
    let lost = [&whole[..1], &whole[2..]].concat().concat();
    assert!(is_efi_map_whole(&both("both", &format!("{map}{runtime}"))));
    let machine = both("the memory map", &format!("{lost}{runtime}"));
    assert!(machine.lost.efi_map && !machine.lost.efi_runtime_map && !is_efi_map_whole(&machine));
    let machine = both("the run-time map", &format!("{map}{}", with(&runtime, "mem00", "")));
    assert!(!machine.lost.efi_map && machine.lost.efi_runtime_map && is_efi_map_whole(&machine));
    let machine = both("the run-time map alone", &with(&runtime, "mem00", ""));
    assert!(machine.lost.efi_runtime_map && !is_efi_map_whole(&machine));
    assert!(is_efi_map_whole(&both("printed again", &format!("{lost}{map}{runtime}"))));
    let cut = map.replace("range=[0x0000000010000000-", "range=[0xzz-");
    let machine = both("unreadable", &format!("{cut}{runtime}"));
    assert!(machine.lost.efi_map && !is_efi_map_whole(&machine));
    let entry = |n: usize| {
        let start = n << 13;
        format!("efi: mem{n}: type=7, attr=0xf, range=[{start:#x}-{:#x}) (0MB)\n", start + 4096)
    };
    let many: String = (0..=parse::MAX_ENTRIES).map(entry).collect();
    assert!(read(&format!("{many}{runtime}")).lost.efi_map, "full");
}

/// A console that starts late prints the beginning of the log after its end. What either part says counts.
#[test]
fn both_parts_of_a_boot_are_heard() {
    let (first, rest) =
        LOG.split_once("[    0.000000] BIOS-e820: [mem 0x0000000000100000").unwrap();
    let rest = format!("[    0.000000] BIOS-e820: [mem 0x0000000000100000{rest}");
    let facts = "\
efi: EFI v2.7 by EDK II
efi: ACPI=0x3f000000 ACPI 2.0=0x3f000014
SEV-SNP: RMP table physical range [0x0000000030000000 - 0x00000000300fffff]
Memory failure: 0x12345: recovery action for dirty LRU page: Recovered
Hypervisor detected: KVM
crashkernel reserved: 0x0000000010000000 - 0x0000000020000000 (256 MB)
ACPI: XSDT 0x000000003F001000 0000E4 (v01 ALASKA)
RAMDISK: [mem 0x20000000-0x2fffffff]
Kernel is locked down from EFI Secure Boot mode; see man kernel_lockdown.7
UV: OEM IDs HPE/UV4, System/UVType 4/0x4
Using GB pages for direct mapping
";
    let in_order = both("in order", &format!("{LOG}{facts}"));
    let bare = |machine: Machine| {
        let mut machine = Machine { notes: Vec::new(), ..machine };
        machine.updates.iter_mut().for_each(|update| update.line = 0);
        machine.maps.iter_mut().flat_map(|map| &mut map.entries).for_each(|entry| entry.line = 0);
        machine
    };
    for (story, text) in [
        ("of the beginning", format!("{rest}{first}{facts}")),
        ("of the end", format!("{rest}{facts}{first}")),
    ] {
        let machine = both(story, &text);
        assert!(machine.notes.iter().any(|n| n.text.contains("out of order")), "{story}");
        let layout =
            |machine: &Machine| identmap_machine::Layout::of(machine).map(|l| l.regions().to_vec());
        assert_eq!(layout(&machine), layout(&in_order), "{story}");
        assert_eq!(bare(machine), bare(in_order.clone()), "{story}");
    }
}

/// Lines of all kinds in any order: the excerpt gives the machine that the text gives.
#[test]
fn the_excerpt_of_any_order_of_lines_gives_the_same_machine() {
    let more = "\
extended: [mem 0x0000000000000000-0x000000000009ffff] usable
extended: [mem 0x0000000000100000-0x000000003fffffff] usable
0x00000000000fffff] reserved
BIOS-e820 [mem 0x0000000000100000-
820: update [mem 0x0-0xfff] usable ==> reserved
** 1 printk messages dropped **
** 2 printk messages dropped ** [    0.0] efi: EFI v2.7 by EDK II
h systemd-journald[1]: Missed 3 kernel messages
DMAR: some
DMAR: more
someone typed this
# a comment

-[    0.0] taken away
smpboot: CPU0: AMD EPYC (family: 0x19)
000a0000000fffff : Reserved
0000000000a0000-00000000000fffff (1)
E820 memmap:
efi: mem00: type=7, attr=0xf, range=[0x0-0x1000) (0MB)
efi: mem02: type=6, attr=0xf, range=[0x2000-0x3000) (0MB)
efi: EFI runtime memory map:
Memory failure: 0x12345: Sending SIGBUS to somebody:4242 due to hardware memory corruption
host ccp 0000:22:00.1: SEV-SNP API:1.55 build:32
x max_arch_pfn = 0x400000000
";
    let memmap = memmap();
    let pool: Vec<&str> =
        [LOG, IOMEM, RANGES, more, &memmap].into_iter().flat_map(str::lines).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % bound
    };
    let mut read_well = 0;
    for _ in 0..4000 {
        let (mut text, mut at) = (String::new(), below(pool.len()));
        for _ in 0..below(24) {
            // Often the next line, so that maps and listings go on.
            at = if below(3) == 0 { below(pool.len()) } else { (at + 1) % pool.len() };
            text.push_str(pool[at]);
            text.push('\n');
        }
        let machine = parse::machine("m", text.as_bytes());
        let bundle =
            redact(&Bundle::new(Facts::Text(text.clone().into_bytes())), &Names::default());
        let Facts::Text(kept) = &bundle.facts else { unreachable!() };
        let again = parse::machine("m", kept);
        let kept = String::from_utf8_lossy(kept);
        match (machine, again) {
            (Ok(machine), Ok(again)) => {
                let bare =
                    |machine: Machine| Machine { kernel_banner: None, cmdline: None, ..machine };
                assert_eq!(bare(again), bare(machine), "{text}\n--- kept:\n{kept}");
                read_well += 1;
            }
            (Err(_), Err(_)) => {}
            (one, other) => panic!("{one:?}\n{other:?}\n{text}\n--- kept:\n{kept}"),
        }
    }
    assert!(read_well > 2000, "{read_well}");
}
