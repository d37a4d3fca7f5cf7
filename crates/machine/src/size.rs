//! Sizes in words.

/// `0 B`, `360 B`, `64 MiB`, `1.5 GiB`: exact where a whole number of a unit, else one decimal.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) != 0 {
        unit += 1;
    }
    let whole = bytes >> (10 * unit);
    if bytes == whole << (10 * unit) {
        return format!("{whole} {}", UNITS[unit]);
    }
    // Tenths, rounded to nearest; 1023.96 KiB becomes 1 MiB, not "1024.0 KiB".
    let shift = 10 * unit as u32;
    let tenths = ((u128::from(bytes) * 10) + (1 << (shift - 1))) >> shift;
    if tenths >= 10240 && unit + 1 < UNITS.len() {
        return format!("1.0 {}", UNITS[unit + 1]);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_say_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (360, "360 B"),
            (1023, "1023 B"),
            (64 << 20, "64 MiB"),
            (1536 << 20, "1.5 GiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            ((1 << 30) + 1, "1.0 GiB"),
            (5000, "4.9 KiB"),
            (4 << 50, "4 PiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(human_size(bytes), text, "{bytes}");
        }
    }
}
