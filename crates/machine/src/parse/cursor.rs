//! Reading one line from left to right, with complaints that know their place.

use identmap::PHYS_LIMIT;

use super::error::Bad;

/// A position in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `text` from byte `at` on.
    pub(super) fn new(text: &'a str, at: usize) -> Cursor<'a> {
        Cursor { text, at, end: text.len() }
    }

    /// The same, ending before byte `end`.
    pub(super) fn until(text: &'a str, at: usize, end: usize) -> Cursor<'a> {
        Cursor { text, at, end }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..self.end]
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `word` after spaces if it is there.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let mut ahead = *self;
        ahead.spaces();
        if ahead.rest().starts_with(word) {
            ahead.at += word.len();
            *self = ahead;
            return true;
        }
        false
    }

    /// Takes `word` after spaces, or complains that it is missing.
    pub(super) fn expect(&mut self, word: &str) -> Result<(), Bad> {
        if self.eat(word) { Ok(()) } else { Err(self.wanted(&format!("expected `{word}`"))) }
    }

    /// The complaint that something is missing here.
    pub(super) fn wanted(&self, expected: &str) -> Bad {
        let mut ahead = *self;
        ahead.spaces();
        let rest = ahead.rest();
        let len = rest.find([' ', ']', ')', '-', ',', '\t']).unwrap_or(rest.len()).max(1);
        Bad { at: ahead.at, len, expected: expected.to_owned(), ended: rest.is_empty() }
    }

    /// A hexadecimal number, with or without `0x`.
    pub(super) fn hex(&mut self) -> Result<u64, Bad> {
        self.spaces();
        let start = self.at;
        let rest = self.rest();
        let prefixed = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"));
        let digits = prefixed.unwrap_or(rest);
        let len = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        let taken = rest.len() - digits.len() + len;
        if len == 0 {
            return Err(self.wanted("expected a hexadecimal address, e.g. 0x000000000009fc00"));
        }
        let after = digits[len..].chars().next();
        if after.is_some_and(|c| c.is_alphanumeric() || c == '\u{fffd}') {
            let len = rest.find([' ', ']', ')', '-', ',']).unwrap_or(rest.len());
            let expected = "expected a hexadecimal address: this is not one".to_owned();
            return Err(Bad { at: start, len, expected, ended: false });
        }
        let significant = digits[..len].trim_start_matches('0');
        if significant.len() > 16 {
            let expected =
                "expected an address of at most 64 bits (16 hexadecimal digits)".to_owned();
            return Err(Bad { at: start, len: taken, expected, ended: false });
        }
        self.at += taken;
        Ok(u64::from_str_radix(significant, 16).unwrap_or(0))
    }

    /// A hexadecimal number that can be the address of a byte of memory.
    pub(super) fn address(&mut self) -> Result<u64, Bad> {
        self.spaces();
        let start = self.at;
        let value = self.hex()?;
        if value >= PHYS_LIMIT {
            let expected = format!(
                "expected a physical address of at most 52 bits; {value:#x} is past what x86-64 can address"
            );
            return Err(Bad { at: start, len: self.at - start, expected, ended: false });
        }
        Ok(value)
    }

    /// A decimal number.
    pub(super) fn decimal(&mut self) -> Result<u64, Bad> {
        self.spaces();
        let rest = self.rest();
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        match rest[..len].parse() {
            Ok(value) => {
                self.at += len;
                Ok(value)
            }
            Err(_) => Err(self.wanted("expected a decimal number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_refused_never_wrapped() {
        let read = |text: &str| Cursor::new(text, 0).hex();
        assert_eq!(read(" 0x10-"), Ok(16));
        assert_eq!(read("00000000000000000000ff"), Ok(255));
        assert_eq!(read("0xffffffffffffffff"), Ok(u64::MAX));
        assert!(read("0x1ffffffffffffffff").expect_err("65 bits").expected.contains("64 bits"));
        assert!(read("0x12zz").is_err());
        assert!(read("").expect_err("nothing").ended);
        assert!(!read("zz").expect_err("no number").ended);
        assert!(Cursor::new("0x10000000000000", 0).address().is_err());
        assert_eq!(Cursor::new("0xfffffffffffff", 0).address(), Ok(PHYS_LIMIT - 1));
        assert!(Cursor::new("99999999999999999999999", 0).decimal().is_err());
    }
}
