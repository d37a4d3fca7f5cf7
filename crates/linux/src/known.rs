//! An answer, or all the answers that are possible.

/// What is known of a question that has one true answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known<T> {
    /// This is the answer.
    Certain(T),
    /// One of these is, and why it cannot be said which.
    Uncertain {
        /// At least two answers, without repetition.
        candidates: Vec<T>,
        /// Why, in one sentence without a full stop.
        why: String,
    },
}

impl<T> Known<T> {
    /// The answer, where it is certain.
    #[must_use]
    pub fn certain(&self) -> Option<&T> {
        match self {
            Known::Certain(value) => Some(value),
            Known::Uncertain { .. } => None,
        }
    }

    /// Every answer that is possible.
    #[must_use]
    pub fn candidates(&self) -> &[T] {
        match self {
            Known::Certain(value) => core::slice::from_ref(value),
            Known::Uncertain { candidates, .. } => candidates,
        }
    }

    /// Why it is uncertain.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Known::Certain(_) => None,
            Known::Uncertain { why, .. } => Some(why),
        }
    }

    /// The same, seen through `f`; answers that become equal are one.
    #[must_use]
    pub fn map<U: PartialEq>(&self, f: impl Fn(&T) -> U) -> Known<U> {
        let mut mapped: Vec<U> = Vec::new();
        for value in self.candidates().iter().map(f) {
            if !mapped.contains(&value) {
                mapped.push(value);
            }
        }
        if mapped.len() == 1 {
            return Known::Certain(mapped.remove(0));
        }
        Known::Uncertain { candidates: mapped, why: self.why().unwrap_or_default().to_owned() }
    }
}

impl Known<bool> {
    /// Yes or no.
    pub(crate) fn either(why: String) -> Known<bool> {
        Known::Uncertain { candidates: vec![true, false], why }
    }
}
