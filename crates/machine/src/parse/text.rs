//! Lines of a pasted text, freed from what pastes do to them.

use std::borrow::Cow;

use super::damage;

/// Longest part of a line that is looked at, in bytes. The kernel's own lines
/// end below 1 KiB (`LOG_LINE_MAX`, kernel/printk), command lines at 2 KiB
/// (`COMMAND_LINE_SIZE`, arch/x86/include/asm/setup.h).
pub(super) const MAX_LINE: usize = 8192;

/// One line, without its end, terminal escapes, NULs and marks of an inline diff.
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// The text.
    pub(super) text: Cow<'a, str>,
    /// Only the first [`MAX_LINE`] bytes were taken.
    pub(super) truncated: bool,
    /// What was not taken holds lines of a memory map.
    pub(super) hides_map: bool,
    /// `[-old-] {+new+}` was resolved to its new side.
    pub(super) inline_diff: bool,
    /// The first line that is neither blank nor a comment of a map file.
    pub(super) first: bool,
    /// Nothing but blank lines follows.
    pub(super) last: bool,
}

impl Line<'_> {
    /// Where the message begins: after quoting, timestamps and syslog's prefix.
    /// `None` for a line that a unified diff takes away.
    pub(super) fn body(&self) -> Option<usize> {
        body_offset(&self.text)
    }
}

/// The lines of an input.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
    seen_content: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Lines<'a> {
        let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Lines { rest, number: 0, seen_content: false }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&b| b == b'\n').unwrap_or(self.rest.len());
        let raw = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
        self.number += 1;
        let truncated = raw.len() > MAX_LINE;
        let text = clean(&raw[..raw.len().min(MAX_LINE)]);
        let (text, inline_diff) = match new_side(&text) {
            Some(new) => (Cow::Owned(new), true),
            None => (text, false),
        };
        let hides_map = truncated && raw[MAX_LINE..].windows(11).any(|w| w == b"BIOS-e820: ");
        let content = !text.trim().is_empty() && !text.starts_with('#');
        let first = content && !self.seen_content;
        self.seen_content |= content;
        let last = content && self.rest.trim_ascii().is_empty();
        Some(Line { number: self.number, text, truncated, hides_map, inline_diff, first, last })
    }
}

/// Removes what terminals and editors put into lines; what is not UTF-8 becomes U+FFFD.
fn clean(raw: &[u8]) -> Cow<'_, str> {
    let raw = raw.trim_ascii_end();
    if raw.iter().all(|&b| b == b'\t' || (b' '..0x7f).contains(&b)) {
        return String::from_utf8_lossy(raw);
    }
    let lossy = String::from_utf8_lossy(raw);
    let mut out = String::with_capacity(lossy.len());
    let mut chars = lossy.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                // ECMA-48: CSI is ESC [, parameters, one final byte of 0x40..=0x7e.
                if chars.next_if_eq(&'[').is_some() {
                    for c in chars.by_ref() {
                        if ('@'..='~').contains(&c) {
                            break;
                        }
                    }
                }
            }
            '\0' | '\r' | '\u{feff}' | '\u{200b}' => {}
            // Web pages turn spaces and hyphens into these.
            '\u{a0}' => out.push(' '),
            '\u{2013}' | '\u{2011}' => out.push('-'),
            // Names go from here into reports: no terminal shall obey them.
            c if c.is_control() && c != '\t' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Resolves the marks of `wdiff` and `git diff --word-diff` to the new side.
fn new_side(text: &str) -> Option<String> {
    let has_new = text.find("{+").is_some_and(|at| text[at..].contains("+}"));
    let has_old = text.find("[-").is_some_and(|at| text[at..].contains("-]"));
    if !has_new && !has_old {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("[-") {
        let Some(len) = rest[at + 2..].find("-]") else { break };
        out.push_str(&rest[..at]);
        rest = &rest[at + 2 + len + 2..];
    }
    out.push_str(rest);
    Some(out.replace("{+", "").replace("+}", ""))
}

/// See [`Line::body`]. The prefixes of `dmesg` (all its `--time-format`s), `dmesg -x`, `-r`, syslog,
/// `journalctl`, serial consoles, mail quoting, lists and diffs, in any order.
fn body_offset(text: &str) -> Option<usize> {
    let mut at = 0;
    for _ in 0..32 {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if let Some(old) = trimmed.strip_prefix('-')
            && (old.starts_with('[')
                || old.starts_with("BIOS-e820")
                || old.starts_with("reserve setup_data"))
        {
            return None;
        }
        match prefix_len(trimmed) {
            0 => return Some(at),
            len => at += len,
        }
    }
    Some(at)
}

/// Length of one prefix at the start of `text`, 0 if there is none.
fn prefix_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'>' | b'|') => 1,
        Some(b'*' | b'-') if bytes.get(1) == Some(&b' ') => 1,
        Some(b'*') => damage::dropped_len(text),
        Some(b'+') if matches!(bytes.get(1), Some(b'[' | b'B' | b'r' | b'e' | b'<')) => 1,
        Some(b'<') => closing(text, '>', 24, |c| c.is_ascii_digit() || " .".contains(c)),
        Some(b'[') => stamp_group_len(text).max(host_len(text)),
        Some(b'0'..=b'9') => syslog_len(text).max(date_len(text)),
        _ if text.starts_with("kernel:") => "kernel:".len(),
        _ if text.starts_with("kern ") => facility_len(text),
        _ => syslog_len(text).max(host_len(text)),
    }
}

/// Length up to and with `close` if at most `max` bytes of which all satisfy `inside`, one being a digit.
fn closing(text: &str, close: char, max: usize, inside: impl Fn(char) -> bool) -> usize {
    let Some(end) = text.find(close).filter(|&end| end <= max) else { return 0 };
    let group = &text[1..end];
    let good = group.chars().all(inside) && group.contains(|c: char| c.is_ascii_digit());
    if good { end + close.len_utf8() } else { 0 }
}

/// `[    0.000000]`, `[  +0.000010]`, `[    T0]`, `[Tue Mar 21 09:40:00 2023]`, `[    0.0 <    0.0>]`.
fn stamp_group_len(text: &str) -> usize {
    let Some(end) = text.find(']').filter(|&end| end <= 48) else { return 0 };
    if is_clock(&text[1..end]) {
        return end + 1;
    }
    closing(text, ']', 48, |c| c.is_ascii_digit() || " .,+<>TC@:-".contains(c))
}

/// `2024-10-22`, `17:09:14.291000`, `2020-04-04T13:22:42.369072-05:00`, and `12:` of `grep -n`.
fn date_len(text: &str) -> usize {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let token = &text[..end];
    let plain = |c: char| c.is_ascii_digit() || "-+:.,TZ/".contains(c);
    if end <= 40 && token.chars().all(plain) && (is_clock(token) || is_date(token)) {
        return end;
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text.as_bytes().get(digits..digits + 2) {
        Some([b':', b'[' | b'<' | b'B']) => digits + 1,
        _ => 0,
    }
}

/// `kern  :info  :` of `dmesg -x`, `kern NOTICE` of collectors.
fn facility_len(text: &str) -> usize {
    let rest = text["kern".len()..].trim_start().trim_start_matches(':').trim_start();
    let level = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    if level == 0 {
        return 0;
    }
    let tail = &rest[level..];
    let after = tail.trim_start();
    let after = after.strip_prefix(':').unwrap_or(tail);
    text.len() - after.len()
}

/// `Feb 14 15:05:13 host kernel:`, in any language: a clock and `kernel:` near the start.
fn syslog_len(text: &str) -> usize {
    match text.find("kernel:") {
        Some(at) if at <= 120 && is_clock(&text[..at]) => at + "kernel:".len(),
        _ => 0,
    }
}

/// `host kernel:`, where the clock stands elsewhere.
fn host_len(text: &str) -> usize {
    let host = text.find(' ').unwrap_or(0);
    if text[host..].starts_with(" kernel: ") { host + " kernel:".len() } else { 0 }
}

/// Whether `hh:mm:ss` stands somewhere in `text`.
fn is_clock(text: &str) -> bool {
    text.as_bytes().windows(8).any(|w| {
        w.iter().enumerate().all(|(i, b)| if i % 3 == 2 { *b == b':' } else { b.is_ascii_digit() })
    })
}

/// Whether `text` is `yyyy-mm-dd`.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-' || b == b'/',
            _ => b.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> String {
        let line = Lines::new(text.as_bytes()).next().expect("one line");
        let at = line.body().expect("not deleted");
        line.text[at..].to_owned()
    }

    #[test]
    fn every_prefix_seen_in_reports_is_stripped() {
        for prefix in [
            "",
            "[    0.000000] ",
            "[    0.000000]",
            "[    0.000000][    T0] ",
            "[    0.000000] [      T0] ",
            "[  +0.000012] ",
            "[Tue Mar 21 09:40:00 2023] ",
            "[    0.000000 <    0.000000>] ",
            "<6>[    0.000000] ",
            "<6>",
            "kern  :info  : [    0.000000] ",
            "kern  :debug : [    0.000000] ",
            "2024-10-22 17:09:14.291000 kern NOTICE [   58.996257] ",
            "Feb 14 15:05:13 [host] kernel: ",
            "Mar 01 10:00:00 host kernel: [    0.000000] ",
            "oct. 12 10:00:00 [host] kernel: ",
            "f\u{e9}vr. 12 10:00:00 poste kernel: ",
            "2020-04-04T13:22:42.369072-05:00 [host] kernel: [    0.000000] ",
            "[    0.000000] kernel: ",
            "[    0.000000] host.home.arpa kernel: ",
            "[    0.000000] [host] kernel: ",
            "> ",
            ">> > ",
            "> [    0.000000] ",
            "    ",
            "\t",
            "- ",
            "+",
            "12:",
            "\u{1b}[32m[    0.000000] \u{1b}[0m",
        ] {
            let line = format!("{prefix}BIOS-e820: [mem 0x0-0xfff] usable");
            assert_eq!(body(&line), "BIOS-e820: [mem 0x0-0xfff] usable", "{prefix:?}");
        }
    }

    #[test]
    fn a_bracket_that_is_no_timestamp_stays() {
        assert_eq!(
            body("[mem 0x80000000-0xefffffff] available"),
            "[mem 0x80000000-0xefffffff] available"
        );
        assert_eq!(body("[redacted]"), "[redacted]");
    }

    #[test]
    fn inline_diffs_give_their_new_side() {
        let text = "e820: [mem [-0x1-0x2]-] {+0x3-0x4]+} usable";
        let line = Lines::new(text.as_bytes()).next().expect("one line");
        assert!(line.inline_diff);
        assert_eq!(line.text, "e820: [mem  0x3-0x4] usable");
        assert!(
            Lines::new(b"-BIOS-e820: [mem 0x0-0x1] usable").next().expect("line").body().is_none()
        );
    }

    #[test]
    fn ends_boms_nuls_and_bad_bytes_are_harmless() {
        let all: Vec<String> = Lines::new(b"\xef\xbb\xbfa\r\n\0b\0\n\xff\xfec\n\n\n")
            .map(|l| format!("{}{}{}", l.text, u8::from(l.first), u8::from(l.last)))
            .collect();
        assert_eq!(all, ["a10", "b00", "\u{fffd}\u{fffd}c01", "00", "00"]);
        let long = vec![b'x'; MAX_LINE * 3];
        let line = Lines::new(&long).next().expect("one line");
        assert!(line.truncated);
        assert_eq!(line.text.len(), MAX_LINE);
    }
}
