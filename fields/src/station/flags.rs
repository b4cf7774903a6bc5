//! What is thought of a reading, check by check, in the words of QARTOD (IOOS, 2020).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::named;

named! {
    /// What a check says of a reading, the worst last.
    Verdict by name: "Name in messages." {
        /// The check was not made: it is not set up for this quantity, or lacks what it compares with.
        NotEvaluated = "not_evaluated",
        /// It passed.
        Good = "good",
        /// It may be wrong: to be used with care.
        Suspect = "suspect",
        /// It is wrong: not to be used.
        Fail = "fail",
        /// There is no value.
        Missing = "missing",
    }
}

impl Verdict {
    /// The number of this verdict in QARTOD's scheme.
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 1,
            Self::NotEvaluated => 2,
            Self::Suspect => 3,
            Self::Fail => 4,
            Self::Missing => 9,
        }
    }
}

named! {
    /// A check of a reading.
    Check by name: "Name in messages and configurations." {
        /// What whoever made the report says of it.
        Producer = "producer",
        /// Whether the value is possible, and usual.
        Range = "range",
        /// Whether it changed faster than it can since the reading before.
        Step = "step",
        /// Whether it stayed the same for longer than it can.
        Persistence = "persistence",
        /// Whether it agrees with its neighbours.
        Buddy = "buddy",
    }
}

/// A verdict of each check. At first none was made.
///
/// ```
/// use squall_fields::{Check, Flags, Verdict};
/// let flags = Flags::default().with(Check::Range, Verdict::Good).with(Check::Step, Verdict::Suspect);
/// assert_eq!(flags.overall(), Verdict::Suspect);
/// assert_eq!(flags.get(Check::Buddy), Verdict::NotEvaluated);
/// assert_eq!(flags.to_string(), "suspect by step");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flags([Verdict; Check::ALL.len()]);

impl Default for Flags {
    fn default() -> Self {
        Self([Verdict::NotEvaluated; Check::ALL.len()])
    }
}

impl Flags {
    /// What a check says.
    pub const fn get(self, check: Check) -> Verdict {
        self.0[check as usize]
    }

    /// With another verdict of one check.
    #[must_use]
    pub const fn with(mut self, check: Check, verdict: Verdict) -> Self {
        self.0[check as usize] = verdict;
        self
    }

    /// The worse verdict of each check: what is made of two readings is as good as the worse of them.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self(std::array::from_fn(|check| self.0[check].max(other.0[check])))
    }

    /// The worst verdict of all checks.
    pub fn overall(self) -> Verdict {
        self.0.into_iter().max().unwrap_or(Verdict::NotEvaluated)
    }

    /// Whether there is a value, and no check says that it is wrong.
    pub fn is_usable(self) -> bool {
        self.overall() < Verdict::Fail
    }

    /// Checks and what they say, those that were made.
    pub fn made(self) -> impl Iterator<Item = (Check, Verdict)> {
        Check::ALL.iter().map(move |check| (*check, self.get(*check))).filter(|(_, v)| *v != Verdict::NotEvaluated)
    }
}

/// The worst verdict, and who says so.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worst = self.overall();
        f.write_str(worst.name())?;
        if worst <= Verdict::Good {
            return Ok(());
        }
        let by: Vec<&str> =
            self.made().filter(|(_, verdict)| *verdict == worst).map(|(check, _)| check.name()).collect();
        write!(f, " by {}", by.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_where_it_is_listed() {
        for (place, check) in Check::ALL.iter().enumerate() {
            assert_eq!(*check as usize, place);
        }
    }

    #[test]
    fn the_worst_counts_and_a_check_that_was_not_made_does_not() {
        assert_eq!(Flags::default().overall(), Verdict::NotEvaluated);
        let good = Flags::default().with(Check::Range, Verdict::Good);
        assert_eq!(good.overall(), Verdict::Good);
        assert_eq!(good.to_string(), "good");
        let failed = good.with(Check::Buddy, Verdict::Suspect).with(Check::Producer, Verdict::Fail);
        assert!(good.is_usable() && !failed.is_usable());
        let both = good.worse(Flags::default().with(Check::Step, Verdict::Missing));
        assert_eq!((both.get(Check::Range), both.get(Check::Step)), (Verdict::Good, Verdict::Missing));
        assert!(!both.is_usable());
    }

    #[test]
    fn codes_are_those_of_qartod() {
        let codes: Vec<u8> = Verdict::ALL.iter().map(|verdict| verdict.code()).collect();
        assert_eq!(codes, [2, 1, 3, 4, 9]);
    }
}
