//! Addresses of a kernel's symbols, as `/proc/kallsyms` prints them.

use std::collections::BTreeMap;
use std::fmt;

use identmap::VirtAddr;

/// The symbols that are kept; all others are passed over.
pub const SYMBOLS: [&str; 14] = [
    "__pgtable_l5_enabled",
    "direct_gbpages",
    "efi_config_table",
    "init_top_pgt",
    "kexec_crash_image",
    "kexec_image",
    "linux_banner",
    "nr_pfn_mapped",
    "page_offset_base",
    "pfn_mapped",
    "phys_base",
    "relocate_kernel",
    "sme_me_mask",
    "vmemmap_base",
];

/// Where the kernel's own symbols lie (those of modules are left out).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Symbols {
    found: BTreeMap<&'static str, Found>,
    /// Lines that give an address and a name.
    lines: usize,
    /// At least one of them gives an address other than zero.
    shown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Once(VirtAddr),
    /// At different addresses: which is meant cannot be told.
    Often,
}

/// Why a symbol's address is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSymbol {
    /// There is no line in the text at all.
    Empty,
    /// All addresses are printed as zero: `kptr_restrict`, or no privilege.
    Hidden,
    /// There are data symbols, but not this one: the kernel was built without what it belongs to.
    Absent,
    /// Not one variable is listed: the kernel was built without `CONFIG_KALLSYMS_ALL`.
    NoData,
    /// There are several of that name.
    Ambiguous,
}

impl fmt::Display for NoSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoSymbol::Empty => "/proc/kallsyms is empty",
            NoSymbol::Hidden => {
                "/proc/kallsyms shows no addresses (needs root, and kernel.kptr_restrict below 2)"
            }
            NoSymbol::Absent => "not in /proc/kallsyms",
            NoSymbol::NoData => {
                "not in /proc/kallsyms, which lists no variables (no CONFIG_KALLSYMS_ALL)"
            }
            NoSymbol::Ambiguous => "several of that name in /proc/kallsyms",
        })
    }
}

impl std::error::Error for NoSymbol {}

impl Symbols {
    /// Reads lines `ADDRESS TYPE NAME`, with a fourth word for a module's; lines of another form are
    /// passed over.
    #[must_use]
    pub fn parse(kallsyms: &[u8]) -> Symbols {
        let mut symbols = Symbols::default();
        for line in kallsyms.split(|&byte| byte == b'\n') {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let address = words.next().and_then(hex);
            let (Some(address), Some(_), Some(name), None) =
                (address, words.next(), words.next(), words.next())
            else {
                continue;
            };
            symbols.lines += 1;
            symbols.shown |= address != 0;
            let Ok(index) = SYMBOLS.binary_search_by(|known| known.as_bytes().cmp(name)) else {
                continue;
            };
            let new = Found::Once(VirtAddr::new(address));
            let known = symbols.found.entry(SYMBOLS[index]).or_insert(new);
            if *known != new {
                *known = Found::Often;
            }
        }
        symbols
    }

    /// The address of one of [`SYMBOLS`].
    ///
    /// # Errors
    /// [`NoSymbol`]: each variant says when.
    pub fn get(&self, name: &str) -> Result<VirtAddr, NoSymbol> {
        match self.found.get(name) {
            _ if self.lines == 0 => Err(NoSymbol::Empty),
            _ if !self.shown => Err(NoSymbol::Hidden),
            Some(Found::Often) => Err(NoSymbol::Ambiguous),
            Some(Found::Once(address)) if address.get() != 0 => Ok(*address),
            Some(Found::Once(_)) => Err(NoSymbol::Hidden),
            // Every kernel has this variable.
            None if self.found.contains_key("phys_base")
                || self.found.contains_key("kexec_image") =>
            {
                Err(NoSymbol::Absent)
            }
            None => Err(NoSymbol::NoData),
        }
    }
}

fn hex(word: &[u8]) -> Option<u64> {
    // `from_str_radix` would take a sign.
    let digits = word.len() <= 16 && word.iter().all(u8::is_ascii_hexdigit);
    digits.then(|| u64::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(SYMBOLS.is_sorted());
    }

    #[test]
    fn symbols_of_the_kernel_are_found_and_those_of_modules_are_not() {
        let text = b"ffffffff81000000 T _text\nffffffff82000010 D phys_base\n\
            ffffffff82000018 B kexec_image\nffffffffc0000000 b pfn_mapped\t[evil]\n\
            ffffffff82000020 b vmemmap_base\nffffffff82000028 b vmemmap_base\n\
            +fff D page_offset_base\nnonsense\n1ffffffff82000020 D efi_config_table\n\xff\xfe";
        let symbols = Symbols::parse(text);
        assert_eq!(symbols.get("kexec_image").map(VirtAddr::get), Ok(0xffff_ffff_8200_0018));
        assert_eq!(symbols.get("pfn_mapped"), Err(NoSymbol::Absent));
        assert_eq!(symbols.get("vmemmap_base"), Err(NoSymbol::Ambiguous));
        assert_eq!(symbols.get("page_offset_base"), Err(NoSymbol::Absent));
        assert_eq!(symbols.get("efi_config_table"), Err(NoSymbol::Absent));
    }

    #[test]
    fn why_there_is_none_is_told() {
        let hidden = b"0000000000000000 T _text\n0000000000000000 B kexec_image\n";
        assert_eq!(Symbols::parse(hidden).get("kexec_image"), Err(NoSymbol::Hidden));
        assert_eq!(Symbols::parse(hidden).get("phys_base"), Err(NoSymbol::Hidden));
        assert_eq!(Symbols::parse(b"").get("kexec_image"), Err(NoSymbol::Empty));
        let text = b"ffffffff81000000 T _text\nffffffff81000008 T relocate_kernel\n";
        assert_eq!(Symbols::parse(text).get("kexec_image"), Err(NoSymbol::NoData));
    }
}
