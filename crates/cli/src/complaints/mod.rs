//! What kexec(8) and the kernel print when an image is not loaded, read out of a text.

mod causes;

use identmap_kexec::Call;
use identmap_machine::human_size;
use identmap_report::{LoadError, RefusedImage};

/// Most that are explained of one text.
const MAX_COMPLAINTS: usize = 64;

/// Most segments that are read of one list: more than any kernel takes.
const MAX_SEGMENTS: usize = 4096;

/// Most that is looked at of a line.
const LONGEST_LINE: usize = 4096;

/// `KEXEC_SEGMENT_MAX` (Linux `include/linux/kexec.h`).
const SEGMENT_MAX: usize = 16;

/// `KEXEC_ARCH_X86_64` (Linux `include/uapi/linux/kexec.h`: `EM_X86_64` in the upper half).
const ARCH_X86_64: u64 = 62 << 16;

/// `KEXEC_ON_CRASH` (the same file).
const ON_CRASH: u64 = 1;

/// Everything in `text` that says why an image was not loaded, in its order.
///
/// `ram` is the machine's, in bytes, where it is known.
pub(crate) fn read(text: &[u8], ram: Option<u64>) -> Vec<LoadError> {
    read_as(text, ram, false)
}

/// The same of a text that is known to be about loading: "Invalid argument" alone will do.
pub(crate) fn read_message(text: &str, ram: Option<u64>) -> Vec<LoadError> {
    read_as(text.as_bytes(), ram, true)
}

fn read_as(text: &[u8], ram: Option<u64>, message: bool) -> Vec<LoadError> {
    let mut found: Vec<LoadError> = Vec::new();
    let mut image = Image::default();
    // The list of segments stands behind the error it belongs to.
    let mut of: Option<usize> = None;
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]);
        let line = line.trim();
        if image.take(line) {
            continue;
        }
        if let Some(error) =
            complaint(number, line, message).filter(|_| found.len() < MAX_COMPLAINTS)
        {
            image.settle(of, &mut found, ram);
            of = (error.call == Some("kexec_load")).then_some(found.len());
            found.push(error);
        }
    }
    image.settle(of, &mut found, ram);
    found
}

/// What one line complains of, if it does.
fn complaint(number: usize, line: &str, message: bool) -> Option<LoadError> {
    let error = |call: Option<Call>, errno: Option<(&'static str, i32)>, causes| LoadError {
        line: number,
        said: line.chars().filter(|c| !c.is_control()).take(200).collect(),
        call: call.map(call_name),
        errno: errno.map(|(name, _)| name),
        number: errno.map(|(_, number)| number),
        causes,
        image: None,
    };
    for (words, cause) in &causes::LINES {
        if line.contains(words) {
            return Some(error(None, None, vec![*cause]));
        }
    }
    let call = call_of(line);
    let errno = errno_of(line, message || call.is_some());
    match (call, errno) {
        (Some(call), Some((name, number))) => {
            let causes = causes::of_errno(call, name).to_vec();
            Some(error(Some(call), Some((name, number)), causes))
        }
        // Only an errno: what it means for both ways of loading.
        (None, Some((name, number))) => {
            let mut causes = causes::of_errno(Call::Load, name).to_vec();
            let more = causes::of_errno(Call::FileLoad, name);
            causes.extend(
                more.iter().filter(|cause| !causes.contains(cause)).copied().collect::<Vec<_>>(),
            );
            Some(error(None, Some((name, number)), causes))
        }
        _ => None,
    }
}

fn call_name(call: Call) -> &'static str {
    match call {
        Call::Load => "kexec_load",
        Call::FileLoad => "kexec_file_load",
        Call::Reboot => "reboot",
    }
}

/// The system call that a line says has failed.
fn call_of(line: &str) -> Option<Call> {
    if has_word(line, "kexec_file_load") {
        Some(Call::FileLoad)
    } else if has_word(line, "kexec_load") || line.contains("kexec unload failed") {
        Some(Call::Load)
    } else if line.contains("kexec failed:") {
        Some(Call::Reboot)
    } else {
        None
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether `word` stands there by itself: `kexec_load_disabled` is a setting.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_of_word) && !line[at + word.len()..].starts_with(is_of_word)
    })
}

/// The errno that a line names: by its text behind a colon, by name, or by number. Where no call is named, only
/// a line that is nothing but a name: "Invalid argument" may be anybody's.
fn errno_of(line: &str, of_call: bool) -> Option<(&'static str, i32)> {
    let found = if of_call {
        let by_name = || causes::ERRNOS.iter().find(|(name, ..)| has_word(line, name));
        let by_text = || {
            causes::ERRNOS.iter().find(|(_, _, glibc, musl)| {
                line.contains(glibc) || !musl.is_empty() && line.contains(musl)
            })
        };
        let by_number = || {
            let number = last_errno(line)?;
            causes::ERRNOS.iter().find(|(_, known, ..)| *known == number)
        };
        by_name().or_else(by_text).or_else(by_number)
    } else {
        let word = line.trim_matches(|c| !is_of_word(c));
        causes::ERRNOS.iter().find(|(name, ..)| *name == word)
    };
    found.map(|(name, number, ..)| (*name, *number))
}

/// The number at the end, if it is written as an errno: `kexec_load: -99`, `errno 99`, `os error 99`, or nothing
/// but it. `= -1` is what a call returns for any.
fn last_errno(line: &str) -> Option<i32> {
    let line = line.trim_end_matches(|c| !is_of_word(c));
    let before = line.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &line[before.len()..];
    let named = ["errno", "error"].iter().any(|word| {
        before.trim_end_matches([' ', ':', '=', '(']).to_ascii_lowercase().ends_with(word)
    });
    let negative = before.strip_suffix('-').is_some_and(|before| {
        let returned = digits == "1" && before.trim_end().ends_with('=');
        !returned && !before.ends_with(|c: char| !" \t=:(".contains(c))
    });
    if !(named || negative || before.is_empty()) {
        return None;
    }
    digits.parse().ok()
}

/// `entry = … flags = …`, `nr_segments = …` and `segment[N].…`, as kexec(8) prints them with an error.
#[derive(Default)]
struct Image {
    flags: Option<u64>,
    /// `bufsz`, `mem`, `memsz`; what is not printed stays `None`.
    segments: Vec<[Option<u64>; 3]>,
}

impl Image {
    /// Takes a line of the list; whether it was one.
    fn take(&mut self, line: &str) -> bool {
        if let Some((_, flags)) = line.split_once("flags = ").filter(|_| line.contains("entry")) {
            self.flags = hex(flags);
            return true;
        }
        if line.starts_with("nr_segments") {
            return true;
        }
        let Some((index, rest)) = line.strip_prefix("segment[").and_then(|r| r.split_once("]."))
        else {
            return false;
        };
        let (Ok(index), Some((name, value))) = (index.parse::<usize>(), rest.split_once('='))
        else {
            return false;
        };
        if index >= MAX_SEGMENTS {
            return true;
        }
        if self.segments.len() <= index {
            self.segments.resize(index + 1, [None; 3]);
        }
        let field = ["bufsz", "mem", "memsz"].iter().position(|known| *known == name.trim());
        if let Some(field) = field {
            self.segments[index][field] = hex(value);
        }
        true
    }

    /// Hands what was read to the error it belongs to.
    fn settle(&mut self, of: Option<usize>, found: &mut [LoadError], ram: Option<u64>) {
        let image = std::mem::take(self);
        let Some(error) = of.and_then(|index| found.get_mut(index)) else { return };
        if image.flags.is_some() || !image.segments.is_empty() {
            error.image = Some(image.judged(ram));
        }
    }

    /// What `sanity_check_segment_list()` and `kexec_load_check()` would say of it.
    fn judged(&self, ram: Option<u64>) -> RefusedImage {
        let mut notes = Vec::new();
        let mut spans = Vec::new();
        let mut bytes: u64 = 0;
        for (number, segment) in self.segments.iter().enumerate() {
            let [bufsz, mem, memsz] = *segment;
            if let (Some(bufsz), Some(memsz)) = (bufsz, memsz)
                && bufsz > memsz
            {
                notes.push(format!("segment {number} holds more than it is long: EINVAL"));
            }
            let (Some(mem), Some(memsz)) = (mem, memsz) else { continue };
            bytes = bytes.saturating_add(memsz);
            if mem % 4096 != 0 || memsz % 4096 != 0 {
                notes.push(format!("segment {number} is not on page boundaries: EADDRNOTAVAIL"));
            }
            match mem.checked_add(memsz) {
                Some(end) => spans.push((mem, end, number)),
                None => notes.push(format!("segment {number} wraps around: EADDRNOTAVAIL")),
            }
        }
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if pair[1].0 < pair[0].1 {
                notes.push(format!("segments {} and {} overlap: EINVAL", pair[0].2, pair[1].2));
            }
        }
        if self.segments.len() > SEGMENT_MAX {
            notes.push(format!("more than {SEGMENT_MAX} segments: EINVAL"));
        }
        // KEXEC_ARCH_DEFAULT is 0.
        if let Some(flags) = self.flags
            && ![0, ARCH_X86_64].contains(&(flags & 0xffff_0000))
        {
            notes.push(format!("flags {flags:#x} are of another architecture than x86-64: EINVAL"));
        }
        if let Some(ram) = ram
            && bytes > ram / 2
        {
            let (bytes, ram) = (human_size(bytes), human_size(ram));
            notes.push(format!("{bytes} are more than half of this machine's RAM ({ram}): EINVAL"));
        }
        RefusedImage {
            panic: self.flags.map(|flags| flags & ON_CRASH != 0),
            segments: self.segments.len(),
            bytes,
            notes,
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    let text = text.trim();
    // glibc's %p writes "(nil)" for 0.
    if text == "(nil)" {
        return Some(0);
    }
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_kexec::{Rules, explain};
    use identmap_linux::Kind;

    fn one(text: &str) -> LoadError {
        let mut all = read(text.as_bytes(), None);
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn what_kexec_prints_is_a_call_and_an_errno() {
        for (text, call, errno) in [
            ("kexec_load failed: Cannot assign requested address", "kexec_load", "EADDRNOTAVAIL"),
            ("kexec_file_load failed: Address not available", "kexec_file_load", "EADDRNOTAVAIL"),
            ("kexec_file_load failed: Required key not available", "kexec_file_load", "ENOKEY"),
            (
                "[ 3.1] kdumpctl: kexec_load failed: Operation not permitted\r",
                "kexec_load",
                "EPERM",
            ),
            ("kexec failed: Invalid argument", "reboot", "EINVAL"),
            ("kexec unload failed: Function not implemented", "kexec_load", "ENOSYS"),
            (
                "kexec_load(0x1, 3, 0x7ff, 0x3e0000) = -1 EBUSY (Device or resource busy)",
                "kexec_load",
                "EBUSY",
            ),
            ("kexec_file_load: -524", "kexec_file_load", "ENOTSUPP"),
        ] {
            let error = one(text);
            assert_eq!((error.call, error.errno), (Some(call), Some(errno)), "{text}");
            assert!(!error.causes.is_empty(), "{text}");
        }
        assert_eq!(one("EADDRNOTAVAIL").causes.len(), 4, "of either call");
        for text in ["Invalid argument", "EINVAL", "errno 22", "22", "-22"] {
            assert_eq!(read_message(text, None)[0].errno, Some("EINVAL"), "{text}");
        }
        for text in ["(os error 22)", "kexec_load: errno=22", "kexec_file_load = -22"] {
            assert_eq!(read_message(text, None)[0].errno, Some("EINVAL"), "{text}");
        }
        assert!(read(b"cp: Invalid argument\nrsync error: EINVAL\nkexec_load ok", None).is_empty());
    }

    /// Each was taken for an error.
    #[test]
    fn settings_and_successes_are_no_errors() {
        for text in [
            "kernel.kexec_load_disabled = 1",
            "kernel.kexec_load_limit_panic = -1",
            "/proc/sys/kernel/kexec_load_disabled:1",
            "/sys/kernel/kexec_loaded:1",
            "/sys/kernel/kexec_crash_loaded:1",
            "kexec_load successful, took 22",
            "kexec_load ok 2024-10-22",
            "kexec_load(0x1, 3, 0x7ff, 0x3e0000) = 0",
            "kexec_file_load on x86-1",
            "kexec_load = -1",
        ] {
            assert_eq!(read(text.as_bytes(), None), [], "{text}");
        }
    }

    #[test]
    fn a_list_of_segments_is_judged_as_the_kernel_would() {
        let head = "kexec_load failed: Invalid argument\nentry       = 0x3ffd0760 flags = 0x3e0000\nnr_segments = 2\n";
        let segment = |n: u64, mem: u64, memsz: u64| {
            format!(
                "segment[{n}].buf   = 0x7f\nsegment[{n}].bufsz = 0x1000\nsegment[{n}].mem   = {mem:#x}\n\
                 segment[{n}].memsz = {memsz:#x}\n"
            )
        };
        let of = |segments: &[String], ram| {
            let text = format!("{head}{}", segments.concat());
            read(text.as_bytes(), ram).remove(0).image.unwrap()
        };
        let good = [segment(0, 0x10_0000, 0x2000), segment(1, 0x20_0000, 0x4000_0000)];
        let image = of(&good, Some(4 << 30));
        assert_eq!((image.panic, image.segments, image.bytes), (Some(false), 2, 0x4000_2000));
        assert_eq!(image.notes, Vec::<String>::new());
        assert!(of(&good, Some(2 << 30)).notes[0].contains("half of this machine's RAM"));
        assert_eq!(of(&good, None).notes.len(), 0);
        let overlap = [segment(0, 0x20_1000, 0x2000), segment(1, 0x20_0000, 0x2000)];
        assert_eq!(of(&overlap, None).notes, ["segments 1 and 0 overlap: EINVAL"]);
        let odd = [segment(0, 0x20_0800, 0x2000)];
        assert_eq!(of(&odd, None).notes, ["segment 0 is not on page boundaries: EADDRNOTAVAIL"]);
        let short = [segment(0, 0x20_0000, 0)];
        assert!(of(&short, None).notes[0].contains("more than it is long"));
        let wraps = [segment(0, 0xffff_ffff_ffff_f000, 0x1000)];
        assert!(of(&wraps, None).notes[0].contains("wraps"));
        let far = read(format!("{head}segment[99999999999].mem = 0x1\n").as_bytes(), None);
        assert_eq!(far[0].image.as_ref().unwrap().segments, 0);
        let arm = head.replace("0x3e0000", "0xb70001");
        let image = read(arm.as_bytes(), None).remove(0).image.unwrap();
        assert_eq!(image.panic, Some(true));
        assert!(image.notes[0].contains("another architecture"));
    }

    /// What `identmap load` explains of its own errors is explained of kexec(8)'s, and glibc's texts are the
    /// ones that this program prints itself.
    #[test]
    fn every_errno_that_load_explains_is_explained_here() {
        let mut met = 0;
        for (name, number, glibc, _) in causes::ERRNOS {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            if cfg!(target_env = "gnu") {
                assert_eq!(text, format!("{glibc} (os error {number})"), "{name}");
            }
            for call in [Call::Load, Call::FileLoad, Call::Reboot] {
                let known = explain(call, number, Kind::Kexec, Rules::default()).is_some();
                let here = !causes::of_errno(call, name).is_empty();
                assert!(!known || here, "{call} {name}");
                met += usize::from(known);
            }
        }
        assert!(met > 25, "{met}");
        // And none is known to `load` alone.
        let numbers: Vec<i32> = causes::ERRNOS.iter().map(|(_, number, ..)| *number).collect();
        for number in (1..600).filter(|number| !numbers.contains(number)) {
            for call in [Call::Load, Call::FileLoad, Call::Reboot] {
                assert_eq!(explain(call, number, Kind::Kexec, Rules::default()), None, "{number}");
            }
        }
    }

    #[test]
    fn endless_complaints_are_cut() {
        let text = "kexec_load failed: Invalid argument\n".repeat(1000);
        assert_eq!(read(text.as_bytes(), None).len(), MAX_COMPLAINTS);
    }
}
