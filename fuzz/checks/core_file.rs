//! Core files, damaged in any way: each byte that is read is the one that the headers say.

use identmap::{Levels, PhysAddr, VirtAddr};
use identmap_linux::memory::{Address, KernelMemory, PhysicalMemory, Unreadable, Why};
use identmap_linux::vmcore::Core;

use crate::kernel::check_text;
use crate::support::{Segment, core_file, note, registers};

/// A file as it is, or after a zero byte changes to one of three segments, some of which overlap: two bytes for the
/// place, one for the value. A place past the end cuts it.
pub fn check(bytes: &[u8]) {
    match bytes {
        [0, changes @ ..] => {
            let mut file = sample();
            for change in changes.chunks_exact(3) {
                match file.get_mut(usize::from(u16::from_le_bytes([change[0], change[1]]))) {
                    Some(byte) => *byte = change[2],
                    None => file.truncate(file.len() - usize::from(change[2]).min(file.len())),
                }
            }
            check_file(&file);
        }
        _ => check_file(bytes),
    }
}

fn check_file(file: &[u8]) {
    let core = match Core::open(file) {
        Ok(core) => core,
        Err(error) => return check_text(&error.to_string()),
    };
    let notes = core.notes();
    for processor in &notes.processors {
        let _ = (processor.is_paging(), processor.is_five_level(), processor.root());
    }
    if let Some(info) = &notes.vmcoreinfo {
        let _ = (info.get("OSRELEASE"), info.symbol("init_top_pgt"), info.number("phys_base"));
        assert!(info.kernel_root().is_none_or(|root| root.get() < 1 << 52));
    }
    let ranges: Vec<_> = core.ranges().collect();
    for pair in ranges.windows(2) {
        assert!(pair[0].end() <= pair[1].start(), "{pair:?}");
    }
    // Where the number of headers is not in the header, this does not look for them.
    let Some(segments) = segments(file) else { return };
    for segment in &segments {
        for virt in borders(segment.virt, segment.size) {
            let mut byte = [0];
            let read = core.read_virt(VirtAddr::new(virt), &mut byte).map(|()| byte[0]);
            compare(read, &expected(file, &segments, |s| Some(s.virt), virt), virt);
        }
        let Some(phys) = segment.phys else { continue };
        for phys in borders(phys, segment.size) {
            let Some(at) = PhysAddr::new(phys) else { continue };
            let mut byte = [0];
            let read = core.read_phys(at, &mut byte).map(|()| byte[0]);
            compare(read, &expected(file, &segments, |s| s.phys, phys), phys);
            // Many at once are as one by one; and where it ends is told.
            let mut many = [0; 24];
            match core.read_phys(at, &mut many) {
                Ok(()) => {
                    for (at, &byte) in (phys..).zip(&many) {
                        compare(Ok(byte), &expected(file, &segments, |s| s.phys, at), at);
                    }
                }
                Err(Unreadable { at: Address::Physical(hole), why: Why::NotHeld }) => {
                    let found = expected(file, &segments, |s| s.phys, hole.get());
                    assert_eq!(found, Expected::NotHeld, "{hole}");
                }
                Err(_) => {}
            }
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Expected {
    Byte(u8),
    NotHeld,
    PastTheEnd,
}

/// Of the segments that hold it the one that begins lowest, of equal ones the first.
fn expected(
    file: &[u8],
    segments: &[Load],
    first: impl Fn(&Load) -> Option<u64>,
    at: u64,
) -> Expected {
    let held = segments.iter().filter_map(|segment| {
        let begin = first(segment)?;
        (begin <= at && at - begin < segment.size).then(|| (begin, segment.offset + (at - begin)))
    });
    match held.min_by_key(|(begin, _)| *begin) {
        None => Expected::NotHeld,
        Some((_, offset)) => usize::try_from(offset)
            .ok()
            .and_then(|offset| file.get(offset))
            .map_or(Expected::PastTheEnd, |&byte| Expected::Byte(byte)),
    }
}

fn compare(read: Result<u8, Unreadable>, expected: &Expected, at: u64) {
    let read = match read {
        Ok(byte) => Expected::Byte(byte),
        Err(Unreadable { why: Why::NotHeld, .. }) => Expected::NotHeld,
        Err(error) => {
            check_text(&error.to_string());
            Expected::PastTheEnd
        }
    };
    assert_eq!(read, *expected, "{at:#x}");
}

fn borders(first: u64, size: u64) -> impl Iterator<Item = u64> {
    [
        first.checked_sub(1),
        Some(first),
        first.checked_add(size / 2),
        first.checked_add(size - 1),
        first.checked_add(size),
    ]
    .into_iter()
    .flatten()
}

/// A `PT_LOAD` with bytes in the file.
struct Load {
    offset: u64,
    virt: u64,
    phys: Option<u64>,
    size: u64,
}

fn segments(file: &[u8]) -> Option<Vec<Load>> {
    let word = |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?));
    let count = usize::from(u16::from_le_bytes([file[56], file[57]]));
    if count == 0xffff || count > 64 {
        return None;
    }
    let table = usize::try_from(word(32)?).ok()?;
    let mut all = Vec::new();
    for header in (0..count).map(|index| table + index * 56) {
        let (offset, virt, phys) = (word(header + 8)?, word(header + 16)?, word(header + 24)?);
        let size = word(header + 32)?;
        if word(header)? & 0xffff_ffff == 1 && size != 0 {
            all.push(Load { offset, virt, phys: Some(phys).filter(|p| *p != u64::MAX), size });
        }
    }
    Some(all)
}

fn sample() -> Vec<u8> {
    let notes = [
        note("QEMU", 0, &registers(0x8005_0033, 0x1234_5067, Levels::Five)),
        note("VMCOREINFO", 0, b"OSRELEASE=6.1.0\nNUMBER(phys_base)=-16777216\nSYMBOL(init_top_pgt)=ffffffff82a10000\n"),
    ];
    let ascending: Vec<u8> = (0..64).collect();
    let segments = [
        Segment { virt: 0xffff_8880_0000_5000, phys: 0x5000, bytes: &ascending },
        Segment { virt: 0xffff_8880_0000_5020, phys: 0x5020, bytes: &ascending[..48] },
        Segment { virt: u64::MAX - 31, phys: u64::MAX, bytes: &ascending[32..] },
    ];
    core_file(&segments, &notes.concat())
}
