//! What `crashkernel=` on the command line asks for.
//!
//! `parse_crashkernel()` in Linux `kernel/crash_reserve.c` (7.2), `kernel/crash_core.c` before 6.9.

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// There is no `crashkernel=`.
    Nothing,
    /// Memory.
    Memory(Request),
    /// A list of sizes by RAM, and none for so much RAM as there is.
    NoneForThisRam,
    /// Something that the kernel refuses; its value.
    Refused(String),
}

/// Memory asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Bytes.
    pub bytes: u64,
    /// From which address on (`@OFFSET`), if that is given.
    pub at: Option<u64>,
    /// Above 4 GiB if possible (`,high`).
    pub high: bool,
    /// Bytes below 4 GiB beside that (`,low`), if given.
    pub low: Option<u64>,
}

const NAME: &str = "crashkernel=";

/// RAM is rounded up to this before it is looked up in a list (`parse_crashkernel_mem()`).
const RAM_UNIT: u64 = 128 << 20;

/// Suffixes with a meaning of their own (`suffix_tbl`).
const SUFFIXES: [&str; 3] = [",high", ",low", ",cma"];

/// What a command line asks for on a machine with `ram` bytes of RAM.
///
/// The last `crashkernel=` without a suffix counts; `,high` and `,low` only if there is none.
#[must_use]
pub fn asked(cmdline: &str, ram: u64) -> Asked {
    let values = || cmdline.split(' ').filter_map(|word| Some(word.split_once(NAME)?.1));
    let plain = values().rfind(|value| !SUFFIXES.iter().any(|suffix| value.ends_with(suffix)));
    let request = if let Some(value) = plain {
        let parsed = if value.contains(':') { by_ram(value, ram) } else { simple(value) };
        match parsed {
            Some(request) => request,
            None => return Asked::Refused(value.to_owned()),
        }
    } else {
        let suffixed = |suffix| values().rfind(|value| value.ends_with(suffix));
        let Some(value) = suffixed(",high") else {
            return match values().next_back() {
                None => Asked::Nothing,
                Some(alone) => Asked::Refused(alone.to_owned()),
            };
        };
        let low = suffixed(",low");
        let size = |value: &str, suffix| whole_number(value.strip_suffix(suffix)?);
        match (size(value, ",high"), low.map(|low| size(low, ",low"))) {
            (Some(bytes), None) => Request { bytes, at: None, high: true, low: None },
            (Some(bytes), Some(Some(low))) => {
                Request { bytes, at: None, high: true, low: Some(low) }
            }
            (_, Some(None)) => return Asked::Refused(low.unwrap_or_default().to_owned()),
            (None, _) => return Asked::Refused(value.to_owned()),
        }
    };
    match request.bytes {
        0 => Asked::NoneForThisRam,
        bytes if bytes >= ram => Asked::Refused(plain.unwrap_or_default().to_owned()),
        _ => Asked::Memory(request),
    }
}

/// `SIZE[@OFFSET]`.
fn simple(value: &str) -> Option<Request> {
    let (size, at) = match value.split_once('@') {
        Some((size, at)) => (size, Some(memparse(at)?.0)),
        None => (value, None),
    };
    Some(Request { bytes: whole_number(size)?, at, high: false, low: None })
}

/// `START-[END]:SIZE[,…][@OFFSET]`: the first range that holds the RAM; 0 bytes if none does.
fn by_ram(value: &str, ram: u64) -> Option<Request> {
    let ram = ram.checked_next_multiple_of(RAM_UNIT)?;
    let (list, at) = match value.split_once('@') {
        Some((list, at)) => (list, Some(memparse(at)?.0)),
        None => (value, None),
    };
    for entry in list.split(',') {
        let (start, rest) = memparse(entry)?;
        let rest = rest.strip_prefix('-')?;
        let (end, rest) = if rest.starts_with(':') { (u64::MAX, rest) } else { memparse(rest)? };
        let (size, _) = memparse(rest.strip_prefix(':')?)?;
        if end <= start || size >= ram {
            return None;
        }
        if (start..end).contains(&ram) {
            return Some(Request { bytes: size, at, high: false, low: None });
        }
    }
    Some(Request { bytes: 0, at, high: false, low: None })
}

fn whole_number(text: &str) -> Option<u64> {
    memparse(text).and_then(|(number, rest)| rest.is_empty().then_some(number))
}

/// A number as `memparse()` (`lib/cmdline.c`) reads it, and what follows it. One that wraps around is refused here.
pub(crate) fn memparse(text: &str) -> Option<(u64, &str)> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'0'..=b'7', ..] => (8, &text[1..]),
        _ => (10, text),
    };
    let length = digits.bytes().take_while(|&byte| char::from(byte).is_digit(radix)).count();
    let (digits, rest) = digits.split_at(length);
    let value = u64::from_str_radix(digits, radix).ok()?;
    let shift = match rest.as_bytes().first().map(u8::to_ascii_uppercase) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => return Some((value, rest)),
    };
    let scaled = value.checked_mul(1 << shift)?;
    Some((scaled, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn memory(cmdline: &str, ram: u64) -> Request {
        match asked(cmdline, ram) {
            Asked::Memory(request) => request,
            other => panic!("{cmdline}: {other:?}"),
        }
    }

    #[test]
    fn plain_sizes_and_places() {
        let at = |bytes, at| Request { bytes, at, high: false, low: None };
        assert_eq!(memory("ro crashkernel=256M quiet", GIB), at(256 * MIB, None));
        assert_eq!(memory("crashkernel=0x10000000@0x2000000", GIB), at(256 * MIB, Some(32 * MIB)));
        assert_eq!(memory("crashkernel=64m crashkernel=128m", GIB).bytes, 128 * MIB);
        // A parameter of a module is one too: strstr() finds it.
        assert_eq!(memory("x.crashkernel=64M", GIB).bytes, 64 * MIB);
    }

    #[test]
    fn high_and_low() {
        let high = |bytes, low| Request { bytes, at: None, high: true, low };
        assert_eq!(memory("crashkernel=512M,high", 8 * GIB), high(512 * MIB, None));
        let both = "crashkernel=72M,low crashkernel=512M,high";
        assert_eq!(memory(both, 8 * GIB), high(512 * MIB, Some(72 * MIB)));
        assert_eq!(memory("crashkernel=512M,high crashkernel=64M", 8 * GIB).bytes, 64 * MIB);
        assert!(matches!(asked("crashkernel=72M,low", 8 * GIB), Asked::Refused(_)));
        assert!(matches!(
            asked("crashkernel=1G,high crashkernel=x,low", 8 * GIB),
            Asked::Refused(_)
        ));
    }

    #[test]
    fn by_the_amount_of_ram() {
        let list = "crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M";
        assert_eq!(memory(list, 2 * GIB).bytes, 192 * MIB);
        assert_eq!(memory(list, 64 * GIB).bytes, 512 * MIB);
        assert_eq!(asked(list, 768 * MIB), Asked::NoneForThisRam);
        // Its last size is as large as that RAM: the whole list is refused.
        assert!(matches!(asked(list, 512 * MIB), Asked::Refused(_)));
        // Rounded up to 128 MiB: what firmware keeps for itself does not count against it.
        assert_eq!(memory(list, 4 * GIB - 100 * MIB).bytes, 256 * MIB);
        assert_eq!(memory("crashkernel=384M-:128M@16M", GIB).at, Some(16 * MIB));
    }

    #[test]
    fn what_the_kernel_refuses() {
        for line in [
            "crashkernel=auto",
            "crashkernel=",
            "crashkernel=256MB",
            "crashkernel=4G-1G:64M",
            "crashkernel=1G-2G",
            "crashkernel=1G-2G:",
            "crashkernel=:64M",
            "crashkernel=9G",
            "crashkernel=99999999999999999999G",
            "crashkernel=17179869184G",
            "crashkernel=0x",
            "crashkernel=1G-2G:8G",
        ] {
            assert!(matches!(asked(line, 8 * GIB), Asked::Refused(_)), "{line}");
        }
        assert_eq!(asked("ro quiet", GIB), Asked::Nothing);
        assert_eq!(asked("", 0), Asked::Nothing);
    }
}
