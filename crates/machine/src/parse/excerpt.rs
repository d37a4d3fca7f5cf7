//! The part of a text that counts: the lines that are read, and nothing else of it.
//!
//! The excerpt gives the same machine as the text. Lines keep their numbers, so that notes and errors
//! still name them.

use super::cursor::Cursor;
use super::damage;
use super::e820::{self, MapLine};
use super::platform;
use super::reader::{Use, read, uses};
use super::text::{Line, Lines};

/// Stands for one or more lines that were left out; a known line never looks so.
pub(crate) const LEFT_OUT: &str = "~";

/// Takes out of the parts of a line what the machine's owner may not want to show.
pub(crate) trait Scrub {
    /// Any text.
    fn text(&self, text: &str) -> String;
    /// Names and versions of hardware and firmware.
    fn hardware(&self, text: &str) -> String;
    /// A kernel's command line.
    fn cmdline(&self, text: &str) -> String;
    /// What stands after the release in `Linux version`.
    fn banner(&self, text: &str) -> String;
    /// A name in `/proc/iomem`.
    fn resource(&self, name: &str) -> String;
}

/// Lines that are known by their beginning alone; the rest is left out.
const BEGINNINGS: [&str; 3] = ["DMAR: ", "DMAR-IR: ", "AMD-Vi: "];

/// Words that are known wherever they stand in a message: it is kept from them on.
const WITHIN: [&str; 7] = [
    "last_pfn = ",
    "max_arch_pfn = ",
    "RMP table physical range [",
    "Reserving start/end of RMP table on a 2MB boundary [",
    "AMD Secure Encrypted Virtualization (SEV) active",
    "Memory Encryption Features active:",
    "out of order E820 entry",
];

/// Headers of map files that [`super::machine`] reads.
const HEADERS: [&str; 5] = ["machine", "kernel", "efi", "uv", "cpu"];

/// What a refused line becomes: it is refused again, and shows nothing of it.
const REFUSED: &str = "BIOS-e820: [mem [redacted]] cannot be read";

/// The lines that count, each ended by a line feed, without timestamps, host names and quoting.
pub(crate) fn excerpt(bytes: &[u8], scrub: &dyn Scrub) -> String {
    let mut out = String::new();
    let mut last_kept = String::new();
    let mut within_gap = false;
    for (line, used) in Lines::new(bytes).zip(uses(bytes)) {
        let mut kept = match used {
            Use::Blank => String::new(),
            Use::Comment => comment(&line.text, scrub),
            Use::TakenAway => "-[".to_owned(),
            Use::Unknown => LEFT_OUT.to_owned(),
            Use::OfMap => of_map(&line),
            Use::OfChange => damage::CHANGE_REMAINS.to_owned(),
            Use::OfRows => damage::ROW_REMAINS.to_owned(),
            Use::Iomem => iomem(&line.text, scrub),
            Use::Read => known(&line, scrub),
            Use::Joined => line.body().map_or(String::new(), |at| scrub.text(&line.text[at..])),
            Use::Refused => REFUSED.to_owned(),
        };
        if tells_of_dropped(&line, used) {
            let rest = if used == Use::Unknown { "" } else { kept.as_str() };
            let dropped = format!("{} {rest}", damage::DROPPED);
            dropped.trim_end().clone_into(&mut kept);
        }
        if kept == last_kept && BEGINNINGS.iter().any(|b| kept.starts_with(b)) {
            LEFT_OUT.clone_into(&mut kept);
        }
        let gap = kept == LEFT_OUT || within_gap && (kept.is_empty() || kept == "#");
        if gap {
            if within_gap {
                kept.clear();
            }
        } else {
            last_kept.clone_from(&kept);
        }
        within_gap = gap;
        out.push_str(&kept);
        out.push('\n');
        if used == Use::Refused {
            break;
        }
    }
    if within_gap {
        // How much follows is of no interest, and in a live log it grows.
        out.truncate(out.trim_end_matches('\n').len());
        out.push('\n');
    }
    out
}

/// Whether messages are missing here.
fn tells_of_dropped(line: &Line<'_>, used: Use) -> bool {
    let Some(body) = line.body() else { return false };
    match used {
        Use::Blank | Use::Comment | Use::TakenAway | Use::Iomem | Use::Joined | Use::Refused => {
            false
        }
        Use::Unknown if damage::is_missed(&line.text[body..]) => true,
        Use::Unknown | Use::OfMap | Use::OfChange | Use::OfRows | Use::Read => {
            damage::is_dropped_before(&line.text, body)
        }
    }
}

fn comment(text: &str, scrub: &dyn Scrub) -> String {
    let header = text.trim_start_matches('#').split_once(':');
    match header.map(|(key, value)| (key.trim(), value.trim())) {
        Some((key, value)) if HEADERS.contains(&key) && text.starts_with('#') => {
            format!("# {key}: {}", scrub.hardware(value))
        }
        _ => "#".to_owned(),
    }
}

/// The end of a map line: the digits and the type that made it look so.
fn of_map(line: &Line<'_>) -> String {
    let message = line.body().map_or("", |at| &line.text[at..]);
    match damage::map_rest(message) {
        Some((hex, after)) => format!("0x{hex}]{after}"),
        None => damage::MAP_REMAINS.to_owned(),
    }
}

/// A line of `/proc/iomem` with its indentation.
fn iomem(text: &str, scrub: &dyn Scrub) -> String {
    let quote = text.len() - text.trim_start_matches(['>', '|', ' ', '\t']).len();
    let quoting = text[..quote].rfind(['>', '|']).map_or(0, |at| at + 1);
    match text[quoting..].split_once(':') {
        Some((range, name)) => {
            format!("{} : {}", range.trim_end(), scrub.resource(name.trim()))
        }
        // The last line, cut before its name: hexadecimal digits.
        None => text[quoting..].to_owned(),
    }
}

fn known(line: &Line<'_>, scrub: &dyn Scrub) -> String {
    let text = line.text.as_ref();
    let Some(body) = line.body() else { return LEFT_OUT.to_owned() };
    let rest = &text[body..];
    let mut kept = maps(text, body, scrub)
        .or_else(|| log(rest, scrub))
        .unwrap_or_else(|| scrub.text(rest.trim_end()));
    if line.inline_diff {
        // An empty addition, so that the note about marks stays.
        kept.push_str(" {++}");
    }
    kept
}

fn maps(text: &str, body: usize, scrub: &dyn Scrub) -> Option<String> {
    let rest = &text[body..];
    let spans = e820::bios_spans(text);
    if !spans.is_empty() {
        let parts = spans.iter().map(|&(at, end)| {
            let last = end == text.len();
            format!("BIOS-e820: {}", entry(text, at, end, last, scrub))
        });
        return Some(parts.collect::<Vec<_>>().join(" "));
    }
    if rest.contains("BIOS-provided physical RAM map:") {
        return Some("BIOS-provided physical RAM map:".to_owned());
    }
    let (_, at) = e820::head(text, body)?;
    Some(format!("{} {}", &text[body..at], entry(text, at, text.len(), true, scrub)))
}

/// A range and its type, without what stands behind them.
fn entry(text: &str, at: usize, end: usize, last: bool, scrub: &dyn Scrub) -> String {
    let mut c = Cursor::until(text, at, end);
    match e820::map_line(&mut c, 1) {
        Ok(MapLine::Gap) => {
            let gap = &text[at..end];
            gap[..gap.find(']').map_or(gap.len(), |at| at + 1)].trim().to_owned()
        }
        Ok(_) => text[at..c.at()].trim().to_owned(),
        // Cut, or wrapped into the next line.
        Err(_) if last => scrub.text(text[at..end].trim()),
        Err(_) => text[at..end].trim().to_owned(),
    }
}

fn log(rest: &str, scrub: &dyn Scrub) -> Option<String> {
    if let Some((release, banner)) = platform::linux_version(rest) {
        let kept = format!("Linux version {} {}", scrub.hardware(release), scrub.banner(banner));
        return Some(kept.trim_end().to_owned());
    }
    for word in ["Command line:", "Kernel command line:"] {
        if let Some(words) = rest.strip_prefix(word) {
            return Some(format!("{word} {}", scrub.cmdline(words.trim())).trim_end().to_owned());
        }
    }
    if let Some(ids) = rest.strip_prefix("DMI:") {
        return Some(format!("DMI: {}", scrub.hardware(ids.trim())));
    }
    if let Some(beginning) = BEGINNINGS.iter().find(|b| rest.starts_with(**b)) {
        return Some(format!("{beginning}{LEFT_OUT}"));
    }
    Some(scrub.text(cut(rest)?.trim_end()))
}

/// The part of a message that says the same as all of it, where what stands around that may be anything.
fn cut(rest: &str) -> Option<String> {
    let part = if let Some(tail) = rest.strip_prefix(platform::MEMORY_FAILURE) {
        // Which processes had such a page is told behind its number.
        let number = tail.split(':').next().unwrap_or_default();
        format!("{}{number}:", platform::MEMORY_FAILURE)
    } else if let Some((_, version)) = rest.split_once(platform::SNP_API) {
        // Before it stands a device.
        format!("ccp{}{version}", platform::SNP_API)
    } else {
        let at = WITHIN.iter().filter_map(|words| rest.find(words)).min()?;
        rest[at..].to_owned()
    };
    let says = |text: &str| read("", text.as_bytes()).ok();
    (says(&part) == says(rest)).then_some(part)
}
