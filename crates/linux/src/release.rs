//! One upstream release of Linux, ordered.

use core::fmt;

/// A release of Linux as kernel.org numbers them: `6.1.76`, `6.8-rc5`, `6.12`.
///
/// Ordered along each series: release candidates, then the release, then its
/// stable updates. Between series the order is by number, not by content: a
/// stable update may hold what a later-numbered release does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Release {
    major: u16,
    minor: u16,
    patch: u16,
    // The place among the candidates: n for -rcn, FINAL for the release itself.
    candidate: u16,
}

const FINAL: u16 = u16::MAX;

impl Release {
    /// `major.minor.patch`; patch 0 is the release without a third number.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Release {
        Release { major, minor, patch, candidate: FINAL }
    }

    /// `major.minor-rcN`. Candidate 0 stands before all others: where a series begins.
    #[must_use]
    pub const fn rc(major: u16, minor: u16, candidate: u16) -> Release {
        // 65535 means "no candidate"; no kernel had more than 13.
        let candidate = if candidate == FINAL { FINAL - 1 } else { candidate };
        Release { major, minor, patch: 0, candidate }
    }

    /// First number.
    #[must_use]
    pub const fn major(self) -> u16 {
        self.major
    }

    /// Second number.
    #[must_use]
    pub const fn minor(self) -> u16 {
        self.minor
    }

    /// Third number: the stable update.
    #[must_use]
    pub const fn patch(self) -> u16 {
        self.patch
    }

    /// The number after `-rc`, for a release candidate.
    #[must_use]
    pub const fn candidate(self) -> Option<u16> {
        if self.candidate == FINAL { None } else { Some(self.candidate) }
    }

    /// Where the next series begins (before its first candidate).
    ///
    /// `6.19` is followed by candidate 0 of 6.20, which no kernel bears and which sorts before `7.0-rc1`.
    #[must_use]
    pub const fn next_series(self) -> Release {
        Release::rc(self.major, self.minor.saturating_add(1), 0)
    }
}

impl fmt::Display for Release {
    /// `6.8-rc5`, `6.12`, `6.1.76`. Where a series begins stands for its first candidate, `6.8-rc1`: nothing
    /// bears the number before it. 2.6 had none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match (self.candidate(), self.patch) {
            (Some(0), _) if self.major < 3 => Ok(()),
            (Some(n), _) => write!(f, "-rc{}", n.max(1)),
            (None, 0) => Ok(()),
            (None, patch) => write!(f, ".{patch}"),
        }
    }
}

/// A stretch of releases: from one, up to but not including another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Releases {
    /// The first.
    pub from: Release,
    /// The first one after; `None`: no end.
    pub before: Option<Release>,
}

impl Releases {
    /// `[from, before)`.
    #[must_use]
    pub const fn new(from: Release, before: Release) -> Releases {
        Releases { from, before: Some(before) }
    }

    /// From `from` on, in every later series too.
    #[must_use]
    pub const fn since(from: Release) -> Releases {
        Releases { from, before: None }
    }

    /// From `from` to the end of its series.
    #[must_use]
    pub const fn rest_of_series(from: Release) -> Releases {
        Releases { from, before: Some(from.next_series()) }
    }

    /// Exactly one release.
    #[must_use]
    pub const fn only(release: Release) -> Releases {
        // The successor in the order; fields are compared from major to candidate.
        let before = match release.candidate() {
            Some(n) => Release { candidate: n + 1, ..release },
            None => Release { patch: release.patch.saturating_add(1), candidate: 0, ..release },
        };
        Releases { from: release, before: Some(before) }
    }

    /// Whether `release` is one of them.
    #[must_use]
    pub fn contains(&self, release: Release) -> bool {
        self.from <= release && self.before.is_none_or(|before| release < before)
    }

    /// Whether the two share a release.
    #[must_use]
    pub fn intersects(&self, other: &Releases) -> bool {
        self.before.is_none_or(|before| other.from < before)
            && other.before.is_none_or(|before| self.from < before)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub fn covers(&self, other: &Releases) -> bool {
        self.from <= other.from
            && match (self.before, other.before) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(mine), Some(theirs)) => theirs <= mine,
            }
    }
}

impl fmt::Display for Releases {
    /// `6.1.79 to before 6.1.85`, `6.12-rc1 and later`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before {
            None => write!(f, "{} and later", self.from),
            Some(_) if *self == Releases::only(self.from) => write!(f, "{}", self.from),
            Some(before) if before == self.from.next_series() => {
                write!(f, "{} to the end of {}.{}", self.from, self.from.major, self.from.minor)
            }
            Some(before) => write!(f, "{} to before {before}", self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_precede_the_release_and_updates_follow_it() {
        let order = [
            Release::new(6, 7, 12),
            Release::rc(6, 8, 0),
            Release::rc(6, 8, 1),
            Release::rc(6, 8, 5),
            Release::new(6, 8, 0),
            Release::new(6, 8, 1),
            Release::rc(6, 9, 1),
            Release::rc(6, 19, 1),
            Release::new(6, 19, 0).next_series(),
            Release::rc(7, 0, 1),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }

    #[test]
    fn only_holds_one_release_and_its_neighbours_lie_outside() {
        for (release, below, above) in [
            (Release::new(6, 1, 79), Release::new(6, 1, 78), Release::new(6, 1, 80)),
            (Release::new(6, 8, 0), Release::rc(6, 8, 7), Release::new(6, 8, 1)),
            (Release::rc(6, 8, 5), Release::rc(6, 8, 4), Release::rc(6, 8, 6)),
        ] {
            let one = Releases::only(release);
            assert!(one.contains(release) && !one.contains(below) && !one.contains(above));
        }
    }

    #[test]
    fn printed_as_kernel_org_does() {
        assert_eq!(Release::rc(6, 8, 5).to_string(), "6.8-rc5");
        assert_eq!(Release::new(6, 12, 0).to_string(), "6.12");
        assert_eq!(Release::new(6, 1, 76).to_string(), "6.1.76");
        let end = Releases::rest_of_series(Release::new(6, 6, 78));
        assert_eq!(end.to_string(), "6.6.78 to the end of 6.6");
        assert_eq!(Releases::since(Release::rc(6, 12, 1)).to_string(), "6.12-rc1 and later");
    }

    #[test]
    fn no_kernel_bears_the_number_before_the_first_candidate() {
        assert_eq!(Release::rc(6, 2, 0).to_string(), "6.2-rc1");
        assert_eq!(Release::rc(2, 6, 0).to_string(), "2.6");
        let (from, before) = (Release::rc(5, 16, 0), Release::new(6, 1, 113));
        assert_eq!(Releases::new(from, before).to_string(), "5.16-rc1 to before 6.1.113");
    }

    #[test]
    fn intersects_and_covers_agree_with_contains() {
        let all: Vec<Release> = (0..6).map(|n| Release::new(6, 1, n)).collect();
        let spans: Vec<Releases> = (0..6)
            .flat_map(|a| (a + 1..6).map(move |b| (a, b)))
            .map(|(a, b)| Releases::new(all[a], all[b]))
            .chain((0..6).map(|a| Releases::since(all[a])))
            .collect();
        for x in &spans {
            for y in &spans {
                let both = all.iter().any(|&r| x.contains(r) && y.contains(r));
                assert_eq!(x.intersects(y), both, "{x} {y}");
                let inside = all.iter().all(|&r| !y.contains(r) || x.contains(r));
                let unbounded = y.before.is_none() && x.before.is_some();
                assert_eq!(x.covers(y), inside && !unbounded, "{x} {y}");
            }
        }
    }
}
