//! Lines that nothing is known of, though they tell that something was lost: the remains of an entry, and what
//! the kernel and journald print in the place of messages.

use super::cursor::Cursor;
use super::e820;

/// What an excerpt has for the remains of a line of a map that have no better form: they are taken for such again.
pub(super) const MAP_REMAINS: &str = "0x0000] reserved";
/// The same for a change to a map.
pub(super) const CHANGE_REMAINS: &str = "[mem 0x] ==> reserved";
/// The same for a row of a listing; not for the end of a text that is cut within one.
pub(super) const ROW_REMAINS: &str = "00000 ?";
/// What an excerpt has for messages that were dropped.
pub(super) const DROPPED: &str = "** printk messages dropped **";

/// `…-0x…ffff] usable`: the rest of a map line whose beginning was cut off; the digits, and what follows them.
pub(super) fn map_rest(message: &str) -> Option<(&str, &str)> {
    let (before, after) = message.split_once(']')?;
    let hex = before.rsplit(['-', 'x']).next().unwrap_or("");
    let digits = hex.len() >= 4 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let mut c = Cursor::new(after, 0);
    let whole =
        digits && e820::type_words(&mut c).is_ok() && !c.rest().contains(char::is_alphanumeric);
    whole.then_some((hex, after))
}

/// Whether a message that directly follows a map is what is left of a line of it.
pub(super) fn is_of_map(message: &str) -> bool {
    map_rest(message).is_some() || message.contains("-e820") && message.contains("[mem 0x")
}

/// Whether it is what is left of `e820: update [mem …] usable ==> reserved`: nothing else is written so.
pub(super) fn is_of_change(message: &str) -> bool {
    let Some((before, after)) = message.split_once("==>") else { return false };
    let mut c = Cursor::new(after, 0);
    let kind = e820::type_words(&mut c).is_ok();
    before.contains("[mem 0x") && kind && !c.rest().contains(char::is_alphanumeric)
}

/// Whether a message that directly follows rows `START-END …` in hexadecimal is what is left of another. I/O ports and
/// years have four digits.
pub(super) fn is_of_rows(message: &str) -> bool {
    let digits = message.bytes().take_while(u8::is_ascii_hexdigit).count();
    let (number, rest) = message.split_at(digits);
    digits >= 5
        && number.contains(|c: char| c.is_ascii_digit())
        && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '.')
        && !rest.contains("(prio")
}

/// `** 12 printk messages dropped ** ` (`kernel/printk`), which stands before a message where the kernel is older than
/// 4.15. Its length; 0: it is not there.
pub(super) fn dropped_len(message: &str) -> usize {
    const END: &str = "printk messages dropped **";
    match message.find(END) {
        Some(at) if message.starts_with("** ") && at <= 24 => at + END.len(),
        _ => 0,
    }
}

/// Whether that stands before the message that begins at `body`.
pub(super) fn is_dropped_before(text: &str, body: usize) -> bool {
    let prefix = &text[..body];
    prefix.match_indices("** ").any(|(at, _)| dropped_len(&prefix[at..]) > 0)
}

/// journald's `Missed 12 kernel messages` (`src/journal/journald-kmsg.c`).
pub(super) fn is_missed(text: &str) -> bool {
    text.trim_end().ends_with(" kernel messages") && text.contains(": Missed ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::text::Lines;

    #[test]
    fn remains_are_told_from_other_lines() {
        for rest in
            ["0x00000000000fffff] usable", "OIS-e820: [mem 0x1000-0x1fff] ACPI NVS", MAP_REMAINS]
        {
            assert!(is_of_map(rest), "{rest}");
        }
        assert!(is_of_map("BIOS-e820 [mem 0x0000000000001000-0x0000"));
        for other in [
            "e820: [mem 0x80000000-0xfebfffff] available for PCI devices",
            "e820: reserve RAM buffer [mem 0x35400000-0x37ffffff]",
            "[mem 0x80000000-0xefffffff] available for PCI devices",
            "  node   0: [mem 0x0000000000001000-0x000000000009ffff]",
            "NX (Execute Disable) protection: active",
        ] {
            assert!(!is_of_map(other) && !is_of_change(other) && !is_of_rows(other), "{other}");
        }
        assert!(is_of_change("820: update [mem 0x00000000-0x00000fff] usable ==> reserved"));
        assert!(is_of_change(CHANGE_REMAINS));
        for row in
            ["5f7c000 : Reserved", "5f7c000000603fffffff : Reserved", "0009f000-", ROW_REMAINS]
        {
            assert!(is_of_rows(row), "{row}");
        }
        for other in ["0000-0cf7 : PCI Bus 0000:00", "2024-10-22 : a day", "12345.678 s", "faded"] {
            assert!(!is_of_rows(other), "{other}");
        }
    }

    #[test]
    fn dropped_messages_of_kernel_and_journald() {
        for text in [
            "** 1 printk messages dropped **",
            "** 124 printk messages dropped ** [    5.123456] pci 0000:00:1f.0: x",
            "[    5.1] ** 3 printk messages dropped **",
            DROPPED,
        ] {
            let line = Lines::new(text.as_bytes()).next().expect("a line");
            assert!(is_dropped_before(text, line.body().expect("a message")), "{text}");
        }
        assert!(is_missed("Feb 14 15:05:13 host systemd-journald[123]: Missed 12 kernel messages"));
        assert_eq!(dropped_len("were printk messages dropped **?"), 0);
        assert!(!is_missed("I Missed kernel messages"));
    }
}
