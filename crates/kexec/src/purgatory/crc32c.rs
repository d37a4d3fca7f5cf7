//! CRC-32C: Castagnoli's polynomial, reflected, as the `CRC32` instruction computes it
//! (Intel SDM vol. 2A, "CRC32"; RFC 3720, 12.1 and B.4).

/// The polynomial `0x1edc6f41` with its bits reversed.
pub(super) const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]`: what byte `b` becomes when `k` zero bytes follow it.
pub(super) static TABLES: [[u32; 256]; 8] = tables();

/// The CRC-32C of a segment as it is loaded: `bytes`, then `zeros_after` zeros.
///
/// The time does not depend on how many zeros there are.
///
/// ```
/// use identmap_kexec::purgatory::crc32c;
///
/// assert_eq!(crc32c(b"123456789", 0), 0xe3069283);
/// assert_eq!(crc32c(b"12345", 3), crc32c(b"12345\0\0\0", 0));
/// ```
#[must_use]
pub fn crc32c(bytes: &[u8], zeros_after: u64) -> u32 {
    let mut state = u32::MAX;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word: [u8; 8] = word.try_into().unwrap_or_default();
        let word = u64::from_le_bytes(word) ^ u64::from(state);
        state = word
            .to_le_bytes()
            .iter()
            .zip(TABLES.iter().rev())
            .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)]);
    }
    for byte in words.remainder() {
        state = state >> 8 ^ TABLES[0][(state as u8 ^ byte) as usize];
    }
    !multiply(state, after(zeros_after))
}

/// `x^(8 * bytes)` modulo the polynomial: multiplying a state by it is what so many zero bytes do.
pub(super) const fn after(bytes: u64) -> u32 {
    // x^0 and x^8; the highest bit of a reflected polynomial is its constant term.
    let (mut power, mut square) = (1 << 31, 1 << 23);
    let mut rest = bytes;
    while rest != 0 {
        if rest & 1 != 0 {
            power = multiply(power, square);
        }
        square = multiply(square, square);
        rest >>= 1;
    }
    power
}

/// The product of two polynomials modulo the polynomial, all reflected.
pub(super) const fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product) = (a, b, 0);
    while a != 0 {
        if a >> 31 != 0 {
            product ^= b;
        }
        a <<= 1;
        b = shifted(b);
    }
    product
}

const fn shifted(state: u32) -> u32 {
    if state & 1 != 0 { state >> 1 ^ POLYNOMIAL } else { state >> 1 }
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut table = 0;
        while table < 8 {
            let mut bit = 0;
            while bit < 8 {
                state = shifted(state);
                bit += 1;
            }
            tables[table][byte] = state;
            table += 1;
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit after the other, as the definition goes.
    fn slowly(bytes: &[u8]) -> u32 {
        let bits = |state, _| shifted(state);
        !bytes.iter().fold(u32::MAX, |state, byte| (0..8).fold(state ^ u32::from(*byte), bits))
    }

    /// RFC 3720, B.4.
    #[test]
    fn the_sums_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[0; 32], 0), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32], 0), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending, 0), 0x46dd_794e);
        assert_eq!(crc32c(&descending, 0), 0x113f_db5c);
        assert_eq!(crc32c(&[], 0), 0);
    }

    #[test]
    fn every_length_and_every_number_of_zeros() {
        let bytes: Vec<u8> = (0..100_u8).map(|i| i.wrapping_mul(37) ^ 0x5a).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc32c(&bytes[..len], 0), slowly(&bytes[..len]), "{len}");
            let mut padded = bytes[..len].to_vec();
            for zeros in 0..40 {
                assert_eq!(crc32c(&bytes[..len], zeros), slowly(&padded), "{len} + {zeros}");
                padded.push(0);
            }
        }
    }

    #[test]
    fn zeros_without_end() {
        let one = after(1 << 40);
        let two = multiply(after((1 << 40) - 12345), after(12345));
        assert_eq!(one, two);
        assert_eq!(after(0), 1 << 31);
        let _ = crc32c(b"x", u64::MAX);
    }
}
