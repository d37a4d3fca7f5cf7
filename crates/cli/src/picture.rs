//! The address space in the terminal.

use std::env;
use std::io::{self, IsTerminal};

use identmap_audit::Finding;
use identmap_report::{Glyphs, Picture, Style, Width};

use crate::args::{PictureArgs, When};

/// The picture below a blank line, or nothing if none is asked for.
pub(crate) fn below(
    args: PictureArgs,
    style: Style,
    findings: &[Finding],
    picture: impl FnOnce() -> Picture,
) -> String {
    let wanted = match args.picture {
        When::Always => true,
        When::Never => false,
        When::Auto => io::stdout().is_terminal(),
    };
    if !wanted {
        return String::new();
    }
    let drawn = picture().terminal(findings, glyphs(), style, Width::default());
    if drawn.is_empty() { drawn } else { format!("\n{drawn}") }
}

/// Blocks where the locale says UTF-8 (`LC_ALL`, `LC_CTYPE`, `LANG`: the first that is set counts).
fn glyphs() -> Glyphs {
    let mut names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = names.find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    of_locale(&locale.unwrap_or_default())
}

fn of_locale(locale: &str) -> Glyphs {
    let upper = locale.to_ascii_uppercase();
    if upper.contains("UTF-8") || upper.contains("UTF8") { Glyphs::Unicode } else { Glyphs::Ascii }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides() {
        for (locale, glyphs) in [
            ("C", Glyphs::Ascii),
            ("", Glyphs::Ascii),
            ("POSIX", Glyphs::Ascii),
            ("C.UTF-8", Glyphs::Unicode),
            ("de_DE.utf8", Glyphs::Unicode),
            ("en_US.ISO-8859-1", Glyphs::Ascii),
        ] {
            assert_eq!(of_locale(locale), glyphs, "{locale}");
        }
    }
}
