//! Takes out of any text what points at a person, a machine or a network.

use core::ops::Range;

use crate::live::Inputs;

/// What stands in the place of what was taken out.
pub const REDACTED: &str = "[redacted]";

/// Names by which this very machine is known: its host name, the addresses of its network cards, its
/// serial numbers. Taken out wherever they stand, as whole words.
#[derive(Clone, Default, Debug)]
pub struct Names(Vec<String>);

/// Words that are nobody's name: as host names they are defaults, or what the machine is.
const COMMON: &str = "acpi amd amd64 archlinux arm64 bios cloud cpu debian default dell dmi e820 efi epyc fedora gcc \
                      gnu guest host hp hpe hygon intel kernel kexec kvm lenovo linux live localdomain localhost \
                      mem memory none nuc pci qemu ram reserved root ryzen server smp supermicro system thinkpad \
                      type ubuntu unknown usable version virtual vmware x86_64 xen xeon";

impl Names {
    /// Of these, those that are long enough to mean something, and no common word.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Names {
        let mut kept: Vec<String> = Vec::new();
        for name in names {
            let name = name.trim().to_ascii_lowercase();
            let varied =
                name.bytes().any(|b| !matches!(b, b'0' | b'f' | b'-' | b':' | b'.' | b'x'));
            if name.len() >= 3
                && varied
                && !COMMON.split_whitespace().any(|word| word == name)
                && !kept.contains(&name)
            {
                kept.push(name);
            }
        }
        // The longer first: a domain name before the host name in it.
        kept.sort_by_key(|name| (core::cmp::Reverse(name.len()), name.clone()));
        Names(kept)
    }

    /// What these facts call the machine: serial numbers, UUIDs and asset tags of DMI.
    pub fn in_dmi(inputs: &Inputs) -> impl Iterator<Item = String> {
        let telling =
            |path: &str| ["serial", "uuid", "asset_tag"].iter().any(|w| path.ends_with(w));
        let values = inputs.dmi.contents().filter(move |(path, _)| telling(path));
        values.map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned())
    }
}

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Looks {
    /// Everything.
    All,
    /// Not for IPv4 addresses: versions of firmware look so.
    NotIpv4,
}

/// The text without MAC and IP addresses, UUIDs, long hexadecimal identifiers, WWNs, URLs, mail
/// addresses, names of home directories, what is called a serial number, and `names`.
pub(super) fn scrub(text: &str, names: &Names, looks: Looks) -> String {
    let mut text = text.to_owned();
    // What was taken out splits a text; seldom does a part look like something only then.
    for _ in 0..8 {
        let pieces: Vec<String> =
            text.split(REDACTED).map(|piece| pass(piece, names, looks)).collect();
        let next = pieces.join(REDACTED);
        if next == text {
            break;
        }
        text = next;
    }
    text
}

fn pass(text: &str, names: &Names, looks: Looks) -> String {
    let mut spans = Vec::new();
    uuids(text, &mut spans);
    hex_runs(text, &mut spans);
    macs(text, &mut spans);
    if looks == Looks::All {
        ipv4(text, &mut spans);
    }
    ipv6(text, &mut spans);
    words(text, &mut spans);
    homes(text, &mut spans);
    serials(text, &mut spans);
    for name in &names.0 {
        known_name(text, name, &mut spans);
    }
    replace(text, spans)
}

fn replace(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_by_key(|s| (s.start, s.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        if span.end <= done {
            continue;
        }
        if span.start >= done {
            out.push_str(&text[done..span.start]);
            out.push_str(REDACTED);
        }
        done = span.end;
    }
    out.push_str(&text[done..]);
    out
}

/// Maximal runs of bytes that satisfy `inside`. All of them are ASCII, so the ends are boundaries.
fn runs(text: &str, inside: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, byte) in text.bytes().chain([b'\n']).enumerate() {
        let is = byte.is_ascii() && byte != b'\n' && inside(byte);
        match (start, is) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// 8-4-4-4-12 digits, wherever in a run of digits and dashes.
fn uuids(text: &str, spans: &mut Vec<Range<usize>>) {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    for run in runs(text, |b| b.is_ascii_hexdigit() || b == b'-' || b == b'_') {
        let groups: Vec<&str> = text[run.clone()].split(['-', '_']).collect();
        let lens: Vec<usize> = groups.iter().map(|g| g.len()).collect();
        // The neighbours may stick to it: `luks-…-name` gives digits to the first and the last group.
        let is = lens
            .windows(5)
            .any(|w| w[1..4] == GROUPS[1..4] && w[0] >= GROUPS[0] && w[4] >= GROUPS[4]);
        if is {
            let before =
                text[run.clone()].len() - text[run.clone()].trim_start_matches(['-', '_']).len();
            spans.push(run.start + before..run.end);
        }
    }
}

/// 20 digits or more in a row (machine and boot IDs, keys, digests), and the digits of a WWN. An
/// address has 16, with zeros before it 18.
fn hex_runs(text: &str, spans: &mut Vec<Range<usize>>) {
    for run in runs(text, |b| b.is_ascii_hexdigit()) {
        let before = text[..run.start].to_ascii_lowercase();
        let wwn = ["wwn-0x", "wwn-", "wwn=", "wwid=", "naa.", "eui.", "nguid="];
        let named = wwn.iter().any(|w| before.ends_with(w)) && run.len() >= 8;
        let digits = &text[run.clone()];
        let zeros = digits.bytes().all(|b| b == b'0') || digits.bytes().all(|b| b == b'f');
        if named || run.len() >= 20 && !zeros && !before.ends_with("0x") || run.len() > 24 && !zeros
        {
            spans.push(run);
        }
    }
}

/// Six pairs of digits or more with one kind of separator; three groups of four (Cisco).
fn macs(text: &str, spans: &mut Vec<Range<usize>>) {
    for separator in [b':', b'-', b'_'] {
        for run in runs(text, |b| b.is_ascii_hexdigit() || b == separator) {
            let groups: Vec<&str> = text[run.clone()].split(char::from(separator)).collect();
            let pairs = groups.iter().filter(|g| g.len() == 2).count();
            let inner =
                groups.len() >= 6 && groups[1..groups.len() - 1].iter().all(|g| g.len() == 2);
            if pairs >= 6 || inner && pairs >= 4 && groups[0].len() >= 2 {
                spans.push(run);
            }
        }
    }
    for run in runs(text, |b| b.is_ascii_hexdigit() || b == b'.') {
        let groups: Vec<&str> = text[run.clone()].split('.').collect();
        let letters = text[run.clone()].bytes().any(|b| b.is_ascii_alphabetic());
        if groups.len() == 3 && letters && groups.iter().all(|g| g.len() == 4) {
            spans.push(run);
        }
    }
}

fn ipv4(text: &str, spans: &mut Vec<Range<usize>>) {
    for run in runs(text, |b| b.is_ascii_digit() || b == b'.') {
        let trimmed = text[run.clone()].trim_matches('.');
        let groups: Vec<&str> = trimmed.split('.').collect();
        let octet = |g: &&str| g.len() <= 3 && g.parse::<u8>().is_ok();
        let after = text[run.end..].chars().next();
        let before = text[..run.start].chars().next_back();
        let part_of_a_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let apart = !part_of_a_word(before) && !part_of_a_word(after);
        if groups.len() == 4 && groups.iter().all(octet) && apart {
            spans.push(run);
        }
    }
}

/// `::` between groups of digits, or eight groups.
fn ipv6(text: &str, spans: &mut Vec<Range<usize>>) {
    for run in runs(text, |b| b.is_ascii_hexdigit() || b == b':') {
        let groups: Vec<&str> = text[run.clone()].split(':').collect();
        let short = groups.iter().all(|g| g.len() <= 4);
        let filled = groups.iter().filter(|g| !g.is_empty()).count();
        let abbreviated = text[run.clone()].contains("::") && filled >= 2;
        if short && (abbreviated || filled >= 8) {
            spans.push(run);
        }
    }
}

/// Words with `@` between letters, or with `://`.
fn words(text: &str, spans: &mut Vec<Range<usize>>) {
    let inside = |b: u8| !b.is_ascii_whitespace() && !b"()[]<>{},;\"'`=|".contains(&b);
    for run in runs(text, inside) {
        let word = &text[run.clone()];
        let letters = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic());
        let mail = word.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && (letters(user) || letters(host))
        });
        if mail || word.contains("://") {
            spans.push(run);
        }
    }
}

/// `/home/NAME`, and where removable media of a user appear.
fn homes(text: &str, spans: &mut Vec<Range<usize>>) {
    for folder in ["/home/", "/Users/", "/run/media/", "/media/", "/run/user/"] {
        for (at, _) in text.match_indices(folder) {
            let start = at + folder.len();
            let end = text[start..].find(['/', ' ', ':', '"', '\'', ',']);
            let end = end.map_or(text.len(), |len| start + len);
            if end > start {
                spans.push(start..end);
            }
        }
    }
}

/// The word after `S/N`, `serial number` and the like.
fn serials(text: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for word in
        ["s/n", "serial number", "serialnumber", "serial no", "serial#", "asset tag", "service tag"]
    {
        for (at, _) in lower.match_indices(word) {
            let after = at + word.len();
            let value = text[after..].trim_start_matches([' ', ':', '=', '.', '#', '"', '\t']);
            let start = text.len() - value.len();
            let end =
                value.find([' ', ',', ';', '"', ')', ']']).map_or(text.len(), |len| start + len);
            if end > start && start > after {
                spans.push(start..end);
            }
        }
    }
}

fn known_name(text: &str, name: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for (at, _) in lower.match_indices(name) {
        let end = at + name.len();
        let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        if !part(text[..at].chars().next_back()) && !part(text[end..].chars().next()) {
            spans.push(at..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> String {
        scrub(text, &Names::default(), Looks::All)
    }

    #[test]
    fn what_points_at_somebody_goes() {
        for (text, kept) in [
            ("link 52:54:00:ab:cd:ef up", "link [redacted] up"),
            ("52-54-00-AB-CD-EF", "[redacted]"),
            ("port 00:11:22:33:44:55:66:77 gid", "port [redacted] gid"),
            ("mac 5254.00ab.cdef", "mac [redacted]"),
            ("UUID=0a3407de-014b-458b-b5c1-848e92a327a3 x", "UUID=[redacted] x"),
            ("luks-0A3407DE-014B-458B-B5C1-848E92A327A3", "luks-[redacted]"),
            ("4c4c4544-0042-3510-8052-b4c04f4e3332/MAC", "[redacted]/MAC"),
            ("id 0123456789abcdef0123456789abcdef end", "id [redacted] end"),
            ("wwn-0x5000c500a1b2c3d4", "wwn-0x[redacted]"),
            ("nvme-eui.0025388b91b0c8a1", "nvme-eui.[redacted]"),
            ("nfs 192.168.1.17:/export", "nfs [redacted]:/export"),
            ("(10.0.0.1/24)", "([redacted]/24)"),
            ("fe80::5054:ff:feab:cdef%eth0", "[redacted]%eth0"),
            ("2001:0db8:0000:0000:0000:ff00:0042:8329", "[redacted]"),
            ("built by (alice@build7.example.org) today", "built by ([redacted]) today"),
            ("root@10.1.2.3", "[redacted]"),
            ("from https://boot.example.org/secret?k=1 now", "from [redacted]=1 now"),
            ("file:///etc/x", "[redacted]"),
            ("/home/alice/maps/3/start:0x0", "/home/[redacted]/maps/3/start:0x0"),
            ("Serial Number: ABC123, next", "Serial Number: [redacted], next"),
            ("S/N=XK77Q", "S/N=[redacted]"),
        ] {
            assert_eq!(all(text), kept);
        }
    }

    #[test]
    fn what_the_parsers_read_stays() {
        for text in [
            "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable",
            " BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)",
            "00000000-00000fff : Reserved",
            "38ff00000000-38ffffffffff : PCI Bus 0000:00",
            "efi: mem00: [Boot Data|   |  |  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000000000-0x0000000000000fff] (0MB)",
            "efi: mem47: [Reserved|   |UC] range=[0x0000000000000000-0xfffffffffffffffff] (invalid)",
            "efi: ACPI=0xdcefe000 ACPI 2.0=0xdcefe014 SMBIOS=0xffffffffffffffff TPMEventLog=0x6a000000",
            "ACPI: RSDP 0x000000007F77E014 000024 (v02 BOCHS )",
            "ACPI: XSDT 0x000000007F77D0E8 00004C (v01 BOCHS  BXPC     00000001      01000013)",
            "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved",
            "crashkernel reserved: 0x000000005a000000 - 0x000000006a000000 (256 MB)",
            "memmap=64M@0x1000000 crashkernel=512M@64M,high pci=0000:00:1f.0",
            "gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40",
            "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01) 12:34:56",
            "max_arch_pfn = 0x400000000",
            "loading 0x0000:0000:0000",
        ] {
            assert_eq!(all(text), text);
        }
        let version = "BIOS 1.8.3.12 04/02/2024";
        assert_eq!(scrub(version, &Names::default(), Looks::NotIpv4), version);
    }

    #[test]
    fn known_names_go_and_common_words_do_not() {
        let names =
            Names::new(["Build7.example.org", "build7", "debian", "42", "", "00:00:00:00:00:00"]);
        let scrubbed = |text: &str| scrub(text, &names, Looks::All);
        assert_eq!(scrubbed("on BUILD7: a"), "on [redacted]: a");
        assert_eq!(scrubbed("build7.example.org"), "[redacted]");
        assert_eq!(
            scrubbed("rebuild7 build70 Debian 6.1.76-1 42"),
            "rebuild7 build70 Debian 6.1.76-1 42"
        );
    }

    #[test]
    fn nothing_panics_and_twice_is_once() {
        let pieces = [
            "\u{e9}", "::", "a:", "@", "://", "/home/", "S/N ", "0x", "-", ".", "ff", "1.2.3.4",
            "\u{1b}",
        ];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let once = all(&format!("{a}{b}{c}"));
                    assert_eq!(all(&once), once);
                }
            }
        }
    }
}
