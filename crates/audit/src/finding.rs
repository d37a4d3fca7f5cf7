//! What an audit says: findings, and the verdict that follows from them.

use core::fmt;

use identmap::PhysRange;

/// How bad a finding is. The worst is the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Good to know.
    Info,
    /// May hurt, or keeps the verdict from being safe.
    Warning,
    /// The jump fails, or harms the machine.
    Error,
}

impl fmt::Display for Severity {
    /// `info`, `warning` or `error`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Confidence {
    /// It cannot be told from what is known whether this holds: the verdict cannot be safe.
    Unknown,
    /// The machine's texts suggest it.
    Likely,
    /// It follows from what is known.
    Certain,
}

impl fmt::Display for Confidence {
    /// `unknown`, `likely` or `certain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Confidence::Unknown => "unknown",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        })
    }
}

/// One thing found. Ids are kebab-case and stable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What kind of thing, e.g. `gap`.
    pub id: &'static str,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// Where, if it has a place.
    pub range: Option<PhysRange>,
    /// What, in a few words.
    pub what: String,
    /// Why it matters, and how that is known.
    pub why: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Where this was read: commit, file, mail.
    pub link: Option<String>,
    /// Which of [`KNOWN_BAD`](crate::KNOWN_BAD) it is, by id.
    pub known: Option<&'static str>,
    /// Under which producers it holds, where not under all that are possible.
    pub under: Vec<String>,
}

impl Finding {
    /// A finding without a place, a remedy or a link.
    #[must_use]
    pub fn new(
        id: &'static str,
        severity: Severity,
        confidence: Confidence,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Finding {
        Finding {
            id,
            severity,
            confidence,
            range: None,
            what: what.into(),
            why: why.into(),
            remedy: None,
            link: None,
            known: None,
            under: Vec::new(),
        }
    }

    /// With its place.
    #[must_use]
    pub fn at(mut self, range: PhysRange) -> Finding {
        self.range = Some(range);
        self
    }

    /// With what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }

    /// With its source.
    #[must_use]
    pub fn link(mut self, link: impl Into<String>) -> Finding {
        self.link = Some(link.into());
        self
    }

    /// With the known combination that it is, if it is one.
    #[must_use]
    pub(crate) fn known(mut self, id: Option<&'static str>) -> Finding {
        self.known = id;
        self
    }

    /// What this finding alone would make of the verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.severity, self.confidence) {
            (Severity::Info, _) => Verdict::Safe,
            (_, Confidence::Unknown) => Verdict::Unknown,
            (Severity::Error, _) => Verdict::Unsafe,
            (Severity::Warning, _) => Verdict::Safe,
        }
    }
}

/// The answer. Ordered so that the one to report is the greatest: what is surely
/// unsafe stays so, whatever else is not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// Nothing needed is missing, nothing forbidden is mapped, and all of that is known.
    Safe,
    /// It cannot be told.
    Unknown,
    /// The jump fails or harms the machine.
    Unsafe,
}

impl Verdict {
    /// The verdict of several findings together.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Verdict {
        findings.iter().map(Finding::verdict).max().unwrap_or(Verdict::Safe)
    }
}

impl fmt::Display for Verdict {
    /// `safe`, `unknown` or `unsafe`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Safe => "safe",
            Verdict::Unknown => "unknown",
            Verdict::Unsafe => "unsafe",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_surely_unsafe_stays_so_and_doubt_is_never_safe() {
        let finding = |severity, confidence| Finding::new("gap", severity, confidence, "", "");
        let unsafe_one = finding(Severity::Error, Confidence::Likely);
        let doubt = finding(Severity::Warning, Confidence::Unknown);
        let doubtful_error = finding(Severity::Error, Confidence::Unknown);
        let harmless = finding(Severity::Warning, Confidence::Certain);
        let note = finding(Severity::Info, Confidence::Unknown);
        assert_eq!(Verdict::of(&[]), Verdict::Safe);
        assert_eq!(Verdict::of(&[harmless.clone(), note]), Verdict::Safe);
        assert_eq!(Verdict::of(&[harmless, doubt.clone()]), Verdict::Unknown);
        assert_eq!(Verdict::of(&[doubtful_error]), Verdict::Unknown);
        assert_eq!(Verdict::of(&[doubt, unsafe_one]), Verdict::Unsafe);
    }
}
