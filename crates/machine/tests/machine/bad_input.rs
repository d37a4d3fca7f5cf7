//! Input of every bad kind ends as an error with a place, or as a machine with a note: never as a panic,
//! never as a map that silently lost something.

use identmap_machine::parse::{self, MAX_ENTRIES, MAX_INPUT, MAX_NOTES, ParseError};
use identmap_machine::{Machine, MapOrigin, samples};

fn read(bytes: &[u8]) -> Result<Machine, ParseError> {
    let result = parse::machine("in", bytes);
    if let Err(error) = &result {
        let shown = error.to_string();
        assert!(!shown.contains('\u{1b}') && shown.len() < 2000, "{shown:?}");
    }
    result
}

/// What is expected of an input.
enum Want {
    /// An error at this line, whose caret stands below this text.
    Caret(usize, &'static str),
    /// An error of the whole input, with this word in it.
    Whole(&'static str),
    /// A machine with this number of BIOS entries, and a note (that is unreadable or not) with this word.
    Note(usize, bool, &'static str),
}

const HEAD: &str = "BIOS-provided physical RAM map:\nBIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n";
const TAIL: &str = "BIOS-e820: [mem 0x0000000100000000-0x000000013fffffff] usable\n";

/// A bad line between two good ones, which is where it cannot be taken for a cut.
fn between(line: &str) -> Vec<u8> {
    format!("{HEAD}{line}\n{TAIL}").into_bytes()
}

fn check(what: &str, bytes: &[u8], want: &Want) {
    let got = read(bytes);
    match (want, &got) {
        (Want::Caret(line, under), Err(error)) => {
            assert_eq!(error.line, *line, "{what}: {error}");
            let marked: String =
                error.excerpt.chars().skip(error.caret).take(error.width).collect();
            assert_eq!(marked.trim(), *under, "{what}: {error}");
            assert!(error.message.contains("expected"), "{what}: {error}");
        }
        (Want::Whole(word), Err(error)) => {
            assert_eq!(error.line, 0, "{what}: {error}");
            assert!(error.message.contains(word), "{what}: {error}");
        }
        (Want::Note(entries, unreadable, word), Ok(machine)) => {
            let bios = machine.maps.iter().find(|m| m.origin == MapOrigin::BiosE820);
            assert_eq!(bios.map_or(0, |m| m.entries.len()), *entries, "{what}: {machine:?}");
            let found =
                machine.notes.iter().any(|n| n.text.contains(word) && n.unreadable == *unreadable);
            assert!(found, "{what}: {:?}", machine.notes);
        }
        _ => panic!("{what}: {got:?}"),
    }
}

#[test]
fn damaged_map_lines_are_shown_with_a_caret() {
    for (what, line, under) in [
        ("no number", "BIOS-e820: [mem 0xzz000-0x1fffff] usable", "0xzz000"),
        ("no digits", "BIOS-e820: [mem 0x-0x1fffff] usable", "0x"),
        (
            "half a number",
            "BIOS-e820: [mem 0x00000000001g0000-0x1fffff] usable",
            "0x00000000001g0000",
        ),
        ("65 bits", "BIOS-e820: [mem 0x100000-0x10000000000000000] usable", "0x10000000000000000"),
        ("200 digits", &format!("BIOS-e820: [mem 0x1{}-0x2] usable", "0".repeat(200)), ""),
        ("53 bits", "BIOS-e820: [mem 0x100000-0x10000000000000] usable", "0x10000000000000"),
        (
            "start past 52 bits",
            "BIOS-e820: [mem 0xfff0000000000000-0xfff0000000001000] reserved",
            "0xfff0000000000000",
        ),
        ("no bracket before", "BIOS-e820: mem 0x100000-0x1fffff] usable", "mem"),
        ("no bracket after", "BIOS-e820: [mem 0x100000-0x1fffff usable", "usable"),
        ("no dash", "BIOS-e820: [mem 0x100000 0x1fffff] usable", "0x1fffff"),
        ("no end", "BIOS-e820: [mem 0x100000-] usable", "]"),
        ("an unknown type", "BIOS-e820: [mem 0x100000-0x1fffff] frobnicated", "frobnicated"),
        ("a type that is too large", "BIOS-e820: [mem 0x100000-0x1fffff] type 4294967296", "type"),
        ("a type without a number", "BIOS-e820: [mem 0x100000-0x1fffff] type x", "x"),
        ("no type", "BIOS-e820: [mem 0x100000-0x1fffff]", ""),
        ("nothing at all", "BIOS-e820:", ""),
        (
            "bytes that are not UTF-8 inside",
            "BIOS-e820: [mem 0x10\u{fffd}000-0x1fffff] usable",
            "0x10\u{fffd}000",
        ),
        ("an old form cut", "BIOS-e820: 0000000000100000 - ", ""),
        (
            "an old form past 52 bits",
            "BIOS-e820: 0000000000100000 - 0020000000000000 (usable)",
            "0020000000000000",
        ),
        ("a user's map", "user: [mem 0x100000-0xzz] usable", "0xzz"),
        ("kexec's ranges", "0000000000100000-0010000000000000 (0)", "0010000000000000"),
        ("iomem reversed", "00200000-00100000 : System RAM", "00200000-00100000"),
        ("iomem past 52 bits", "00100000-10000000000000 : System RAM", "10000000000000"),
        ("sysfs", "/sys/firmware/memmap/0/start:frob", "frob"),
        ("a segment", "segment[0].mem = 0x10000000000000", "0x10000000000000"),
    ] {
        if what == "200 digits" {
            let error = read(&between(line)).expect_err(what);
            assert_eq!((error.line, error.column), (3, 17), "{error}");
            assert!(error.excerpt.chars().count() <= 122);
            continue;
        }
        check(what, &between(line), &Want::Caret(3, under));
    }
}

#[test]
fn a_damaged_line_in_a_listing_is_an_error() {
    let text = "00000000-00000fff : Reserved\n00001000-0009zfff : System RAM\n00100000-3fffffff : System RAM\n";
    check("iomem", text.as_bytes(), &Want::Caret(2, "0009zfff"));
}

#[test]
fn pastes_that_are_cut_give_a_note() {
    for cut in [
        "BIOS-e820: [mem 0x0000000200000000-0x0000",
        "BIOS-e820: [mem 0x0000000200000000-",
        "BIOS-e820: [mem 0x0000000200000000-0x00000002ffffffff] usa",
        "BIOS-e820: [mem 0x0000000200000000-0x00000002ffffffff]",
        "BIOS-e820: [me",
        "BIOS-e820:",
    ] {
        let text = format!("{HEAD}{TAIL}{cut}");
        check(cut, text.as_bytes(), &Want::Note(2, true, "last line is cut"));
    }
    let text = format!("000000-0x000000000009ffff] usable\n{TAIL}");
    check("first line", text.as_bytes(), &Want::Note(1, true, "an entry is cut"));
    let text = "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n00100000-3ff";
    check("iomem", text.as_bytes(), &Want::Note(0, true, "/proc/iomem"));
}

#[test]
fn oddities_that_are_no_damage() {
    let reversed = between("BIOS-e820: [mem 0x200000-0x1fffff] usable");
    let map = &read(&reversed).expect("reversed").maps[0];
    assert_eq!((map.entries[1].start, map.entries[1].last), (0x200000, 0x1fffff), "kept for lint");
    let zero = between("BIOS-e820: [mem 0x0000000000000000-0xffffffffffffffff] usable");
    check("empty at zero", &zero, &Want::Note(2, false, "without a byte"));
    let talk = between("I think the BIOS-e820: lines of user: bob are fine, see e820: update");
    assert_eq!(read(&talk).expect("talk").maps[0].entries.len(), 2);
    let crlf = String::from_utf8(between("\0")).expect("UTF-8").replace('\n', "\r\r\n");
    assert_eq!(read(crlf.as_bytes()).expect("CRLF and NULs").maps[0].entries.len(), 2);
    let mut noise = between("x");
    noise.splice(0..0, *b"\xff\xc3\x28\xf0\x90 caf\xe9 log\n");
    assert_eq!(read(&noise).expect("Latin-1 around it").maps[0].entries.len(), 2);
    let wrapped = between("BIOS-e820: [mem 0x0000000000100000-0x00000000001fffff]\n reserved");
    assert_eq!(read(&wrapped).expect("wrapped").maps[0].entries.len(), 3);
    let long = between(&"x".repeat(1 << 20));
    assert_eq!(read(&long).expect("a long line").maps[0].entries.len(), 2);
    let lost = between("OIS-e820: [mem 0x0000000000100000-0x00000000001fffff] reserved");
    check("a damaged head", &lost, &Want::Note(2, true, "an entry is cut"));
    let long = "x".repeat(1 << 20);
    let behind = between(&format!("{long} BIOS-e820: [mem 0x100000-0x1fffff] usable"));
    check("a map behind the bound", &behind, &Want::Caret(3, "x"));
    let lost = between("e820: update [mem 0xzz-0x1000] usable ==> reserved");
    check("an update", &lost, &Want::Note(2, true, "change of the e820 map"));
    let lost = between("SEV-SNP: RMP table physical range [0x0000007ffe800000 - 0x0000");
    check("the RMP table", &lost, &Want::Note(2, true, "RMP table"));
    let lost = between(
        "Reserving 99999999999999999999MB of memory at 16MB for crashkernel (System RAM: 1MB)",
    );
    check("a reservation", &lost, &Want::Note(2, true, "crash kernel"));
    let lost =
        between("efi: mem00: [Conventional Memory|   |WB] range=[0x0000000000000000-0x00000000");
    check("an EFI entry", &lost, &Want::Note(2, true, "about EFI"));
}

#[test]
fn what_is_no_machine_is_told_what_would_be_one() {
    let zeros = vec![0u8; 1 << 16];
    let binary: Vec<u8> = noise(1 << 16);
    let prose = b"Dear list,\nmy machine resets on kexec. Please help.\n".to_vec();
    let html = b"<html><body>404 not found</body></html>".to_vec();
    let ports = b"0000-0cf7 : PCI Bus 0000:00\n  0000-001f : dma1\n".to_vec();
    for bytes in [
        vec![],
        b"\n\n\r\n".to_vec(),
        b"# machine: x\n".to_vec(),
        zeros,
        binary,
        prose,
        html,
        ports,
    ] {
        check("nothing known", &bytes, &Want::Whole("BIOS-e820"));
    }
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(HEAD.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    check("UTF-16", &utf16, &Want::Whole("UTF-16"));
}

#[test]
fn size_is_bounded() {
    let line = b"[    1.234567] usb 1-1: new high-speed USB device number 2 using xhci_hcd\n";
    let mut text = line.repeat(100_000_000 / line.len());
    check("100 MB", &text, &Want::Whole("at most"));
    text.truncate(MAX_INPUT / 8);
    check("8 MiB of a log", &text, &Want::Whole("nothing here is known"));

    let entry = |n: usize| {
        format!("BIOS-e820: [mem {:#018x}-{:#018x}] usable\n", n << 13, (n << 13) + 0xfff)
    };
    let many: String = (0..=MAX_ENTRIES).map(entry).collect();
    let error = read(many.as_bytes()).expect_err("too many entries");
    assert_eq!(error.line, MAX_ENTRIES + 1);
    let full: String = (0..MAX_ENTRIES).map(entry).collect();
    assert_eq!(read(full.as_bytes()).expect("full").maps[0].entries.len(), MAX_ENTRIES);

    let line = |n: usize| format!("{:08x}-{:08x} : x\n", n << 12, n << 12);
    let listing: String = (0..=MAX_ENTRIES).map(line).collect();
    assert_eq!(read(listing.as_bytes()).expect_err("too many lines").line, MAX_ENTRIES + 1);

    let noted = "BIOS-e820: [mem 0x0-0xffffffffffffffff] usable\n".repeat(5000);
    let machine = read(noted.as_bytes()).expect("a note each");
    assert_eq!(machine.notes.len(), MAX_NOTES + 1);

    let boots = format!("{HEAD}{TAIL}").repeat(3000);
    assert_eq!(read(boots.as_bytes()).expect("3000 boots").maps[0].entries.len(), 2);
}

/// Every sample, cut anywhere and with any bytes replaced: an answer, whichever it is.
#[test]
fn cut_and_damaged_samples_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (mut machines, mut errors) = (0, 0);
    for sample in samples() {
        for _ in 0..60 {
            let mut bytes = sample.bytes.to_vec();
            let from = usize::try_from(next()).expect("64 bits") % bytes.len();
            match next() % 4 {
                0 => bytes.truncate(from),
                1 => drop(bytes.drain(..from)),
                2 => {
                    for _ in 0..8 {
                        let at = usize::try_from(next()).expect("64 bits") % bytes.len();
                        bytes[at] = next().to_le_bytes()[0];
                    }
                }
                _ => {
                    let line = bytes[from..].iter().position(|&b| b == b'\n').unwrap_or(0);
                    bytes.splice(from..from + line, noise(9));
                }
            }
            match read(&bytes) {
                Ok(_) => machines += 1,
                Err(_) => errors += 1,
            }
        }
    }
    println!("{machines} read, {errors} refused");
    assert!(machines > 0 && errors > 0);
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 12345_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(byte).collect()
}
