//! One value of one quantity.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Check, Flags, Quantity, Verdict};

/// One value of one quantity, with what is thought of it.
///
/// Readings are ordered by quantity, period, value and flags. NaN has a place in that order and equals itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// What was measured.
    pub quantity: Quantity,
    /// Over how many seconds, up to the valid time; `None` at an instant, or where nothing is said.
    pub period_seconds: Option<u32>,
    /// In the unit of the quantity; NaN where missing.
    pub value: f32,
    /// What is thought of it.
    pub flags: Flags,
}

impl Reading {
    /// A reading that nobody has checked; one that is not finite is missing.
    pub fn new(quantity: Quantity, period_seconds: Option<u32>, value: f32) -> Self {
        let (value, flags) = if value.is_finite() {
            (value, Flags::default())
        } else {
            (f32::NAN, Flags::default().with(Check::Range, Verdict::Missing))
        };
        Self { quantity, period_seconds, value, flags }
    }

    /// Whether there is no value.
    pub const fn is_missing(&self) -> bool {
        !self.value.is_finite()
    }
}

impl Ord for Reading {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |r: &Self| (r.quantity, r.period_seconds);
        let value = || self.value.total_cmp(&other.value);
        key(self).cmp(&key(other)).then_with(value).then_with(|| self.flags.cmp(&other.flags))
    }
}

impl PartialOrd for Reading {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Reading {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Reading {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_reading_equals_itself_and_says_so() {
        let missing = Reading::new(Quantity::RainRate, Some(60), f32::INFINITY);
        assert_eq!(missing, missing);
        assert!(missing.is_missing() && missing.value.is_nan());
        assert_eq!(missing.flags.overall(), Verdict::Missing);
        assert_ne!(missing, Reading::new(Quantity::RainRate, Some(60), 0.0));
    }
}
