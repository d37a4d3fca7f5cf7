//! Text in a fixed place, cut where it ends.

use core::ffi::c_char;
use core::fmt;

/// Writes ASCII and a NUL into lent bytes. What does not fit is counted and left out.
pub(crate) struct Text<'b> {
    bytes: &'b mut [c_char],
    wanted: usize,
}

impl<'b> Text<'b> {
    pub(crate) fn new(bytes: &'b mut [c_char]) -> Text<'b> {
        if let Some(first) = bytes.first_mut() {
            *first = 0;
        }
        Text { bytes, wanted: 0 }
    }

    /// Bytes that the whole text takes, its NUL included.
    pub(crate) fn needed(&self) -> usize {
        self.wanted.saturating_add(1)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.needed() > self.bytes.len()
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let at = self.wanted;
            self.wanted = at.saturating_add(1);
            // The NUL comes first, so that the text ends whatever happens.
            let Some([here, next]) =
                self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut())
            else {
                continue;
            };
            *next = 0;
            *here = if byte.is_ascii() { byte.cast_signed() } else { b'?'.cast_signed() };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::*;

    #[test]
    fn text_is_cut_and_ends_with_nul() {
        for len in 0..8 {
            let mut bytes = [1; 8];
            let mut text = Text::new(&mut bytes[..len]);
            write!(text, "a{}", 234).unwrap();
            assert_eq!((text.needed(), text.is_cut()), (5, len < 5));
            let kept = len.saturating_sub(1).min(4);
            assert!(
                bytes[..kept].iter().zip(b"a234").all(|(&got, &want)| got == want.cast_signed())
            );
            assert!(len == 0 || bytes[kept] == 0);
            assert!(bytes[len..].iter().all(|&byte| byte == 1));
        }
    }
}
