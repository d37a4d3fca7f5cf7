//! Ranges and numbers as people write them.
//!
//! `0xSTART-0xLAST` is inclusive, as dmesg prints; `START+SIZE` takes `K`, `M`, `G`, `T`
//! (powers of 1024) after any number. Hexadecimal needs its `0x`: `10` is ten, everywhere.

use core::fmt;

use identmap::{PhysAddr, PhysRange};

/// What is wrong in a piece of text, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// Byte offset in the text, from 0.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column + 1, self.message)
    }
}

impl core::error::Error for TextError {}

/// A range: `0x1000-0x1fff` (inclusive), `0x1000+4K`, or a single address (one byte).
///
/// # Errors
/// [`TextError`] at the first character that cannot be read, or for a range that is
/// reversed, empty, or reaches past 2^52.
pub fn parse_range(text: &str) -> Result<PhysRange, TextError> {
    let body = text.trim();
    let indent = text.len() - text.trim_start().len();
    let split = body.char_indices().find(|&(i, c)| i > 0 && (c == '-' || c == '+'));
    let Some((at, separator)) = split else {
        let start = number(body, indent)?;
        return PhysRange::from_len(start, 1).map_err(|e| error(indent, e));
    };
    let start = number(body[..at].trim_end(), indent)?;
    let rest = &body[at + 1..];
    let rest_column = indent + at + 1 + (rest.len() - rest.trim_start().len());
    let second = number(rest.trim_start(), rest_column)?;
    let range = if separator == '-' {
        PhysRange::from_inclusive(start, second)
    } else {
        PhysRange::from_len(start, second)
    };
    range.map_err(|e| error(rest_column, e))
}

/// An address.
///
/// # Errors
/// [`TextError`] if it is not a number, or lies past 2^52.
pub fn parse_address(text: &str) -> Result<PhysAddr, TextError> {
    let indent = text.len() - text.trim_start().len();
    let value = number(text.trim(), indent)?;
    PhysAddr::new(value)
        .ok_or_else(|| error(indent, "the address lies past the 52 bits of a physical address"))
}

/// A number: decimal, or hexadecimal after `0x`, with an optional `K`, `M`, `G` or `T`.
///
/// # Errors
/// [`TextError`] if it is not such a number or does not fit 64 bits.
pub fn parse_number(text: &str) -> Result<u64, TextError> {
    let indent = text.len() - text.trim_start().len();
    number(text.trim(), indent)
}

fn number(text: &str, column: usize) -> Result<u64, TextError> {
    if text.is_empty() {
        return Err(error(column, "expected a number, as in 0x100000 or 64M"));
    }
    let (digits, radix, skipped) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(rest) => (rest, 16, 2),
        None => (text, 10, 0),
    };
    let (digits, shift) = match digits.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&digits[..at], 10),
        Some((at, 'M' | 'm')) => (&digits[..at], 20),
        Some((at, 'G' | 'g')) => (&digits[..at], 30),
        Some((at, 'T' | 't')) => (&digits[..at], 40),
        _ => (digits, 0),
    };
    if digits.is_empty() {
        return Err(error(column + skipped, "expected digits"));
    }
    if let Some((at, bad)) = digits.char_indices().find(|(_, c)| !c.is_digit(radix)) {
        let hint = if radix == 10 && bad.is_ascii_hexdigit() {
            "; write hexadecimal numbers with 0x"
        } else {
            ""
        };
        let message = format!("{bad:?} is not a digit of base {radix}{hint}");
        return Err(error(column + skipped + at, message));
    }
    u64::from_str_radix(digits, radix)
        .ok()
        .and_then(|value| value.checked_mul(1 << shift))
        .ok_or_else(|| error(column, "the number does not fit 64 bits"))
}

fn error(column: usize, message: impl fmt::Display) -> TextError {
    TextError { column, message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    #[test]
    fn ranges_as_dmesg_writes_them_and_with_sizes() {
        for (text, range) in [
            ("0x0000000000100000-0x00000000bfffffff", r(0x10_0000, 0xc000_0000)),
            (" 0x1000 - 0x1fff ", r(0x1000, 0x2000)),
            ("0x1000+4K", r(0x1000, 0x2000)),
            ("4G + 2T", r(4 << 30, (4 << 30) + (2 << 40))),
            ("0x10M+1", r(0x100_0000, 0x100_0001)),
            ("7", r(7, 8)),
        ] {
            assert_eq!(parse_range(text), Ok(range), "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_character() {
        for (text, column, part) in [
            ("", 0, "expected a number"),
            ("0x", 2, "expected digits"),
            ("c7600000-0xcb5fffff", 0, "write hexadecimal numbers with 0x"),
            ("0x10g0-0x20", 4, "not a digit"),
            ("0x2000-0x1fff", 7, "ends before it starts"),
            ("0x1000+0", 7, "ends before it starts"),
            ("0-0xffffffffffffffff", 2, "past the 52 bits"),
            ("0x1000-0x1ffffffffffffffff", 7, "does not fit 64 bits"),
            ("1-", 2, "expected a number"),
            ("16777216T", 0, "does not fit 64 bits"),
            ("1\u{e9}-2", 1, "not a digit"),
        ] {
            let error = parse_range(text).unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.message.contains(part), "{text}: {error}");
        }
        assert!(parse_address("0x10000000000001").is_err());
        assert_eq!(parse_address("0x10000000000000").unwrap(), PhysAddr::MAX);
    }
}
