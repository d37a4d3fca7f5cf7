//! How wide a text is at most, without asking a browser.

/// Advance widths in thousandths of the font size, U+0020 to U+007E: for each character the wider of
/// `DejaVu Sans` and `Liberation Sans`, which has the widths of Arial and Helvetica, as measured in the
/// fonts' `hmtx` tables (Debian 12). The style sheet names these faces for pictures, and no others.
const WIDTHS: [u16; 95] = [
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, //
    637, 637, 637, 637, 637, 637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 557, //
    1016, 685, 687, 723, 771, 667, 611, 778, 752, 295, 500, 667, 558, 863, 749, 788, //
    667, 788, 723, 667, 611, 732, 685, 989, 686, 667, 686, 391, 337, 391, 838, 557, //
    500, 613, 635, 550, 635, 616, 353, 635, 634, 278, 278, 580, 278, 975, 634, 612, //
    635, 635, 412, 521, 393, 634, 592, 818, 592, 592, 525, 637, 337, 637, 838,
];

/// Of a character that is not in the table: full-width forms take one em, and few take more.
const OTHER: u16 = 1016;

/// The width of one line of `text` at `size` pixels, in hundredths of a pixel.
pub(crate) fn width(text: &str, size: u64) -> u64 {
    let of = |c: char| {
        let index = (c as usize).checked_sub(0x20);
        u64::from(index.and_then(|index| WIDTHS.get(index)).copied().unwrap_or(OTHER))
    };
    (text.chars().map(of).sum::<u64>() * size).div_ceil(10)
}

/// `text`, cut with an ellipsis if it is wider than `room`.
pub(crate) fn fitted(text: &str, size: u64, room: u64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if width(&kept, size) + width("…", size) > room {
            kept.pop();
            break;
        }
    }
    format!("{}…", kept.trim_end())
}

/// `text` in lines that are no wider than `room`; words that are, are cut.
pub(crate) fn lines(text: &str, size: u64, room: u64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fitted(word, size, room)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_texts_fit() {
        for text in
            ["", "EFI configuration table", "ＥＦＩ 表 ＥＦＩ 表", "iiiiiiiiiiiiiiiiiiiiiii"]
        {
            for room in [1_500, 3_000, 8_000] {
                assert!(width(&fitted(text, 12, room), 12) <= room, "{text} in {room}");
                for line in lines(text, 12, room) {
                    assert!(width(&line, 12) <= room);
                }
            }
        }
        assert_eq!(fitted("gap", 12, 10_000), "gap");
    }
}
