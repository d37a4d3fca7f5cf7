//! Finding dumps in text: a line at a time, each piece of a line by itself.

use super::{Dump, MAX_DUMPS, Origin};

/// Every dump in a text, in its order; at most [`MAX_DUMPS`]. Bytes that are no UTF-8 spoil their line at most.
#[must_use]
pub fn read(bytes: &[u8]) -> Vec<Dump> {
    let mut reader = Reader::default();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        reader.line(index + 1, line.trim_end());
    }
    reader.dumps
}

/// Names of registers as dumps write them, and as they are known here.
const REGISTERS: [&str; 23] = [
    "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP", "R08", "R09", "R10", "R11", "R12",
    "R13", "R14", "R15", "RIP", "EFLAGS", "CR0", "CR2", "CR3", "CR4", "EFER",
];

/// The lines of kexec's handler: four characters, then 16 digits (`print_reg` in
/// Linux `arch/x86/kernel/relocate_kernel_64.S`).
const TAGS: [(&str, &str); 19] = [
    ("Exc:", ""),
    ("Err:", ""),
    ("rip:", "RIP"),
    ("rsp:", "RSP"),
    ("rax:", "RAX"),
    ("rbx:", "RBX"),
    ("rcx:", "RCX"),
    ("rdx:", "RDX"),
    ("rsi:", "RSI"),
    ("rdi:", "RDI"),
    ("r8 :", "R08"),
    ("r9 :", "R09"),
    ("r10:", "R10"),
    ("r11:", "R11"),
    ("r12:", "R12"),
    ("r13:", "R13"),
    ("r14:", "R14"),
    ("r15:", "R15"),
    ("cr2:", "CR2"),
];

/// How a running kernel says what happened, and the vector (Linux `arch/x86/mm/fault.c`,
/// `arch/x86/kernel/traps.c`). The fifth and sixth are those of kernels before 5.1.
const OOPSES: [(&str, Option<u8>); 12] = [
    ("BUG: unable to handle page fault for address: ", Some(14)),
    ("BUG: kernel NULL pointer dereference, address: ", Some(14)),
    ("BUG: unable to handle kernel paging request at ", Some(14)),
    ("BUG: unable to handle kernel NULL pointer dereference at ", Some(14)),
    ("general protection fault, probably for non-canonical address ", Some(13)),
    ("general protection fault, maybe for address ", Some(13)),
    ("general protection fault: ", Some(13)),
    ("traps: PANIC: double fault, error_code: ", Some(8)),
    ("double fault: ", Some(8)),
    ("invalid opcode: ", Some(6)),
    ("divide error: ", Some(0)),
    ("stack segment: ", Some(12)),
];

const LEVELS: [&str; 5] = ["PGD", "P4D", "PUD", "PMD", "PTE"];

#[derive(Default)]
struct Reader {
    dumps: Vec<Dump>,
    /// Whether lines still belong to the last one.
    open: bool,
    /// After the end of an oops its registers are printed once more.
    after_end: bool,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        if let Some((tag, value)) = tagged(line) {
            return self.kexec_debug(number, tag, value);
        }
        if line.contains("---[ end ") {
            (self.open, self.after_end) = (false, true);
            return;
        }
        if let Some(at) = line.find("early exception ") {
            return self.early_exception(number, &line[at + "early exception ".len()..]);
        }
        if let Some((rest, vector)) = OOPSES
            .iter()
            .find_map(|(text, vector)| Some((&line[line.find(text)? + text.len()..], *vector)))
        {
            return self.oops(number, rest, vector);
        }
        if let Some(rest) = behind(line, "#PF: error_code(").or_else(|| behind(line, "Oops: ")) {
            return self.oops_code(number, rest);
        }
        if let Some(rest) = line.strip_prefix("Error Code: ") {
            if let Some(dump) = self.start(Origin::Decompressor, number) {
                (dump.vector, dump.error) = (Some(14), hex(rest).map(|(code, _)| code));
            }
            return;
        }
        if let Some(rest) = line.strip_prefix("RIP relative to _head: ") {
            if let (Some((offset, _)), Some(dump)) = (hex(rest), self.current()) {
                dump.place.get_or_insert(format!("image+{offset:#x}"));
            }
            return;
        }
        self.entries(line);
        self.registers(number, line);
    }

    /// A line of kexec's handler; `Exc:` begins a dump.
    fn kexec_debug(&mut self, number: usize, tag: &str, value: u64) {
        let is_open = self.current().is_some_and(|dump| dump.origin == Origin::KexecDebug);
        if tag == "Exc:" || !is_open {
            // The first lines may be lost: a serial line drops what comes too fast.
            self.start(Origin::KexecDebug, number);
        }
        let Some(dump) = self.current() else { return };
        match tag {
            "Exc:" => dump.vector = u8::try_from(value).ok(),
            "Err:" => dump.error = Some(value),
            _ => {
                if let Some((_, register)) = TAGS.iter().find(|(known, _)| *known == tag) {
                    set(dump, register, value);
                }
            }
        }
        if tag == "cr2:" {
            self.open = false;
        }
    }

    /// `0x0e IP 10:ffffffff82345678 error 0 cr2 0xc8000000`; before 4.6 `0e rip 10:… error 0 cr2 c8000000`.
    fn early_exception(&mut self, number: usize, rest: &str) {
        let Some(dump) = self.start(Origin::EarlyException, number) else { return };
        dump.vector = hex(rest).and_then(|(vector, _)| u8::try_from(vector).ok());
        let mut words = rest.split_whitespace();
        while let Some(word) = words.next() {
            let Some(next) = (match word {
                "IP" | "rip" | "error" | "cr2" => words.next(),
                _ => continue,
            }) else {
                break;
            };
            match word {
                "error" => dump.error = hex(next).map(|(code, _)| code),
                "cr2" => {
                    if let Some((address, _)) = hex(next) {
                        set(dump, "CR2", address);
                    }
                }
                _ => {
                    let offset = next.split_once(':').map_or(next, |(_, offset)| offset);
                    if let Some((at, _)) = hex(offset) {
                        set(dump, "RIP", at);
                    }
                }
            }
        }
        self.open = false;
    }

    fn oops(&mut self, number: usize, rest: &str, vector: Option<u8>) {
        let Some(dump) = self.start(Origin::Oops, number) else { return };
        dump.vector = vector;
        match (hex(rest), vector) {
            (Some((code, _)), Some(8)) => dump.error = Some(code),
            // `general protection fault: 0000 [#1]`: a code, unless 16 digits make it an address.
            (Some((value, digits)), _) if digits < 8 => dump.error = Some(value),
            (Some((value, _)), _) => dump.address = Some(value),
            // `(null)`, as kernels before 4.20 print 0.
            (None, _) if rest.starts_with("(null)") => dump.address = Some(0),
            (None, _) => {}
        }
        // `…address 0x…: 0000 [#1]`
        if let Some((code, _)) = rest.split_once(": ").and_then(|(_, rest)| hex(rest)) {
            dump.error.get_or_insert(code);
        }
    }

    /// `0x0002) - not-present page`, `0002 [#1] PREEMPT SMP`, `Oops: 0002 [#1]`, `general protection fault, …`.
    fn oops_code(&mut self, number: usize, rest: &str) {
        let rest = rest.trim_start_matches("Oops: ");
        let Some((code, _)) = hex(rest) else { return };
        let is_oops = self.current().is_some_and(|dump| dump.origin == Origin::Oops);
        let dump = if is_oops { self.current() } else { self.start(Origin::Oops, number) };
        if let Some(dump) = dump {
            // The kernel's own line is cut to 16 bits by older kernels, the first is not.
            dump.error.get_or_insert(code);
        }
    }

    /// `PGD 100000067 P4D 100000067 PUD 0`.
    fn entries(&mut self, line: &str) {
        let Some(start) = line.find("PGD ") else { return };
        let Some(dump) = self.current().filter(|dump| dump.entries.is_empty()) else { return };
        let mut words = line[start..].split_whitespace();
        while let (Some(word), Some(value)) = (words.next(), words.next()) {
            let Some(&level) = LEVELS.iter().find(|level| **level == word) else { break };
            let Some((value, _)) = hex(value) else { break };
            dump.entries.push((level, value));
        }
    }

    /// `RAX: 0000… RBX: …`, `RIP: 0010:name+0x12/0x34`, `CR0=80050033 CR2=…`.
    fn registers(&mut self, number: usize, line: &str) {
        let mut found: Vec<(&'static str, u64)> = Vec::new();
        let mut place = None;
        for name in REGISTERS {
            for (at, _) in line.match_indices(name) {
                let whole = !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                let rest = &line[at + name.len()..];
                let Some(rest) = rest.strip_prefix([':', '=']).filter(|_| whole) else { continue };
                let rest = rest.trim_start();
                // `0018:ffffc900…`: behind a segment.
                let value = match rest.split_once(':') {
                    Some((segment, offset)) if segment.len() == 4 && hex(segment).is_some() => {
                        offset
                    }
                    _ => rest,
                };
                if let Some((value, _)) =
                    hex(value).filter(|(_, digits)| *digits >= 8 || name == "EFER")
                {
                    found.push((name, value));
                } else if name == "RIP" && !value.is_empty() {
                    place = value.split_whitespace().next().map(symbol);
                }
                break;
            }
        }
        let tells = found.iter().any(|(name, _)| matches!(*name, "CR0" | "CR2" | "CR3"));
        if self.current().is_none() {
            if !tells || self.after_end {
                return;
            }
            self.start(Origin::Registers, number);
        }
        if let Some(dump) = self.current() {
            if dump.register("RIP").is_none() && place.is_some() {
                dump.place = dump.place.take().or(place);
            }
            for (name, value) in found {
                set(dump, name, value);
            }
        }
    }

    fn start(&mut self, origin: Origin, number: usize) -> Option<&mut Dump> {
        self.after_end = false;
        self.open = self.dumps.len() < MAX_DUMPS;
        if self.open {
            self.dumps.push(Dump::new(origin, number));
        }
        self.current()
    }

    fn current(&mut self) -> Option<&mut Dump> {
        self.dumps.last_mut().filter(|_| self.open)
    }
}

/// The first value counts: what follows are those of user space.
fn set(dump: &mut Dump, name: &'static str, value: u64) {
    if dump.register(name).is_some() {
        return;
    }
    dump.registers.push((name, value));
    match name {
        "CR2" => dump.address = dump.address.or(Some(value)),
        "RIP" => dump.place = dump.place.take().or_else(|| Some(format!("{value:#018x}"))),
        _ => {}
    }
}

/// A name as in a symbol table, without what a terminal would obey.
fn symbol(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(160).collect()
}

/// `rip:0123456789abcdef` at the end of a line; what stands before it, a logger put there.
fn tagged(line: &str) -> Option<(&'static str, u64)> {
    let at = line.len().checked_sub(20)?;
    let (before, last) = (line.get(..at)?, line.get(at..)?);
    if before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let (tag, digits) = last.split_at_checked(4)?;
    let (tag, _) = TAGS.iter().find(|(known, _)| *known == tag)?;
    // Sixteen lower-case digits, as pr_qword writes them; not a sign, which from_str_radix() takes.
    let is_digits = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some((tag, u64::from_str_radix(digits, 16).ok().filter(|_| is_digits)?))
}

fn behind<'a>(line: &'a str, text: &str) -> Option<&'a str> {
    Some(&line[line.find(text)? + text.len()..])
}

/// A hexadecimal number at the start of a text, and how many digits it has: 16 at most.
fn hex(text: &str) -> Option<(u64, usize)> {
    let text = text.trim_start();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let length = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    // `deadline` begins with digits too.
    if text[length..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    Some((u64::from_str_radix(&text[..length], 16).ok()?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Dump {
        let mut dumps = read(text.as_bytes());
        assert_eq!(dumps.len(), 1, "{dumps:#?}");
        dumps.remove(0)
    }

    const KEXEC: &str = "kexec: jump\r
Exc:000000000000000e\r
Err:0000000080000003\r
rip:000000005ce0a1f2\r
rsp:000000005ce0b000\r
rax:0000000000000000\r
r8 :0000000000000008\r
r15:000000000000000f\r
cr2:00000060dffff000\r
";

    #[test]
    fn the_handler_of_kexec() {
        let dump = one(KEXEC);
        assert_eq!((dump.origin, dump.line), (Origin::KexecDebug, 2));
        assert_eq!((dump.vector, dump.error), (Some(14), Some(0x8000_0003)));
        assert_eq!(dump.address, Some(0x60_dfff_f000));
        assert_eq!(dump.place.as_deref(), Some("0x000000005ce0a1f2"));
        assert_eq!((dump.register("R08"), dump.register("R15")), (Some(8), Some(15)));
        assert!(dump.is_identity_mapped());
    }

    #[test]
    fn a_logger_in_front_and_lost_lines_do_no_harm() {
        let lines: Vec<String> =
            KEXEC.lines().skip(2).map(|line| format!("[2026-11-23 01:02:03] {line}")).collect();
        let logged = lines.join("\n");
        let dump = one(&logged);
        assert_eq!((dump.vector, dump.error), (None, Some(0x8000_0003)));
        assert_eq!(dump.address, Some(0x60_dfff_f000));
        assert_eq!(read(KEXEC.repeat(3).as_bytes()).len(), 3);
        assert!(read(b"rip:+00000005ce0a1f2\nXrip:000000005ce0a1f2\nrip:00000000\n").is_empty());
    }

    #[test]
    fn an_oops() {
        let dump = one("\
[   12.345678] BUG: unable to handle page fault for address: ffff888123456000
[   12.345679] #PF: supervisor write access in kernel mode
[   12.345680] #PF: error_code(0x80000003) - RMP violation
[   12.345681] PGD 5401067 P4D 5401067 PUD 107bfe067 PMD 80000001234001e3
[   12.345682] SEV-SNP: PFN 0x123456, RMP entry: [0x0000000000000000 - 0x0000000000000000]
[   12.345683] Oops: Oops: 0003 [#1] SMP NOPTI
[   12.345684] CPU: 0 UID: 0 PID: 1 Comm: kexec Not tainted 6.12.30 #1
[   12.345685] RIP: 0010:copy_page+0x7/0x10
[   12.345686] RSP: 0018:ffffc90000013e48 EFLAGS: 00010246
[   12.345687] RAX: 0000000000000000 RBX: ffff888100000000 RCX: 0000000000000200
[   12.345688] CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
[   12.345689] CR2: ffff888123456000 CR3: 0000000103a6c000 CR4: 00000000003506f0
[   12.345690] ---[ end trace 0000000000000000 ]---
[   12.345691] RIP: 0010:other+0x7/0x10
[   12.345692] CR2: ffff888123456000 CR3: 0000000103a6c000 CR4: 00000000003506f0
");
        assert_eq!((dump.origin, dump.vector), (Origin::Oops, Some(14)));
        assert_eq!((dump.error, dump.address), (Some(0x8000_0003), Some(0xffff_8881_2345_6000)));
        assert_eq!(dump.place.as_deref(), Some("copy_page+0x7/0x10"));
        assert_eq!(dump.entries[3], ("PMD", 0x8000_0001_2340_01e3));
        let register = |name| dump.register(name);
        assert_eq!(register("RSP"), Some(0xffff_c900_0001_3e48));
        assert_eq!(register("CR0"), Some(0x8005_0033));
        assert_eq!(register("EFLAGS"), Some(0x10246));
        assert!(!dump.is_identity_mapped());
    }

    #[test]
    fn older_words_for_the_same() {
        let dump =
            one("BUG: unable to handle kernel NULL pointer dereference at           (null)\n\
                        IP: [<ffffffff81234567>] foo+0x1/0x2\nOops: 0002 [#1] SMP\n");
        assert_eq!((dump.vector, dump.error), (Some(14), Some(2)));
        let dump = one("general protection fault: 0000 [#1] SMP\n");
        assert_eq!((dump.vector, dump.error, dump.address), (Some(13), Some(0), None));
        let text = "Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1]";
        let dump = one(text);
        assert_eq!((dump.error, dump.address), (Some(0), Some(0xdead_0000_0000_0100)));
        let dump = one("traps: PANIC: double fault, error_code: 0x0\n");
        assert_eq!((dump.vector, dump.error), (Some(8), Some(0)));
    }

    #[test]
    fn early_exceptions_of_now_and_then() {
        let dump = one(
            "[    0.000000] PANIC: early exception 0x0e IP 10:ffffffff8234 error 0 cr2 0xc8000000",
        );
        assert_eq!((dump.origin, dump.vector), (Origin::EarlyException, Some(14)));
        assert_eq!((dump.error, dump.address), (Some(0), Some(0xc800_0000)));
        assert_eq!(dump.register("RIP"), Some(0xffff_ffff_8234));
        let dump = one("PANIC: early exception 0e rip 10:ffffffff81b error 9 cr2 ffffffffff240000");
        assert_eq!((dump.vector, dump.error), (Some(14), Some(9)));
        assert_eq!(dump.address, Some(0xffff_ffff_ff24_0000));
        assert_eq!(one("early exception ?").vector, None);
    }

    #[test]
    fn the_decompressor() {
        let text = "\n\nUnexpected page-fault:\nError Code: 0000000000000008\nCR2: 0x00000000c8000000\n\
                    RIP relative to _head: 0x0000000000d72e20\n\n -- System halted";
        let dump = one(text);
        assert_eq!((dump.origin, dump.error), (Origin::Decompressor, Some(8)));
        assert_eq!(dump.address, Some(0xc800_0000));
        assert_eq!(dump.place.as_deref(), Some("image+0xd72e20"));
    }

    #[test]
    fn registers_by_themselves() {
        let dump = one("RAX=0000000000000000 RBX=0000000000000001\n\
                        CR0=80050033 CR2=00000000c8000000 CR3=0000000002000000 CR4=000000a0\n\
                        EFER=0000000000000d01\n");
        assert_eq!(dump.origin, Origin::Registers);
        assert_eq!(dump.register("CR4"), Some(0xa0));
        assert_eq!(dump.register("EFER"), Some(0xd01));
        assert_eq!(dump.register("RAX"), None, "before the line that tells what this is");
    }

    #[test]
    fn ordinary_text_has_none() {
        assert!(read(b"").is_empty());
        assert!(
            read(b"RIP: the old kernel\nCRX: 0\nPGD 0 P4D\nError Code:\n\xff\xfe\n").is_empty()
        );
        let log = include_bytes!("../../../../testdata/machines/laptop-2024-regression.txt");
        assert!(read(log).is_empty());
    }

    #[test]
    fn there_is_an_end_to_it() {
        assert_eq!(read("Exc:000000000000000e\n".repeat(10_000).as_bytes()).len(), MAX_DUMPS);
    }
}
