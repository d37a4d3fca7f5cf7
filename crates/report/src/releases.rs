//! Releases in words.

use identmap_linux::{Release, Releases};

/// `6.8-rc5`, `6.1.76`. Where a series begins stands for its first candidate: nothing bears the number before it.
/// (2.6 had none.)
pub(crate) fn release_text(release: Release) -> String {
    match release.candidate() {
        Some(0) if release.major() < 3 => format!("{}.{}", release.major(), release.minor()),
        Some(0) => Release::rc(release.major(), release.minor(), 1).to_string(),
        _ => release.to_string(),
    }
}

/// `6.1.79 to before 6.1.85`, `5.16-rc1 to before 6.1.113`.
pub(crate) fn releases_text(releases: &Releases) -> String {
    let whole = releases.to_string();
    match whole.strip_prefix(&releases.from.to_string()) {
        Some(rest) => format!("{}{rest}", release_text(releases.from)),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kernel_bears_the_number_before_the_first_candidate() {
        assert_eq!(release_text(Release::rc(2, 6, 0)), "2.6");
        assert_eq!(release_text(Release::rc(6, 2, 0)), "6.2-rc1");
    }

    #[test]
    fn the_beginning_of_a_series_is_its_first_candidate() {
        let (from, before) = (Release::rc(5, 16, 0), Release::new(6, 1, 113));
        assert_eq!(releases_text(&Releases::new(from, before)), "5.16-rc1 to before 6.1.113");
        let rest = Releases::rest_of_series(Release::new(6, 7, 6));
        assert_eq!(releases_text(&rest), "6.7.6 to the end of 6.7");
        assert_eq!(releases_text(&Releases::since(Release::rc(6, 12, 1))), "6.12-rc1 and later");
    }
}
