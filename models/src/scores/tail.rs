//! CRPS of what is above a threshold alone.

use super::Crps;
use super::score::{Pair, Score, Value};
use super::statistics::sums_of_field;

/// Sums of the threshold-weighted CRPS (Gneiting and Ranjan 2011) with weight 1 at and above a threshold, 0 below: the
/// CRPS once members and observation below the threshold are raised to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailCrps {
    threshold: f32,
    crps: Crps,
}

impl TailCrps {
    /// Empty sums.
    pub fn above(threshold: f32) -> Self {
        Self { threshold, crps: Crps::default() }
    }

    /// Adds one case, unless a value is missing; members are raised and sorted on the way.
    pub fn add_case(&mut self, members: &mut [f32], observed: f32) {
        members.iter_mut().for_each(|x| *x = raised(*x, self.threshold));
        self.crps.add_case(members, raised(observed, self.threshold), 1.0);
    }

    /// The sums, biased and fair.
    pub fn crps(&self) -> &Crps {
        &self.crps
    }
}

/// Not `f32::max`, which would turn a missing value into the threshold.
fn raised(value: f32, threshold: f32) -> f32 {
    if value < threshold { threshold } else { value }
}

sums_of_field!(TailCrps, crps);

impl Score for TailCrps {
    fn name(&self) -> &'static str {
        "twCRPS"
    }

    fn threshold(&self) -> Option<f32> {
        Some(self.threshold)
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        self.crps.add_mapped(pair.members, pair.observed, |value| raised(value, self.threshold));
    }

    fn merge(&mut self, other: &Self) {
        self.crps = self.crps.merge(&other.crps);
    }

    fn count(&self) -> f64 {
        self.crps.weight()
    }

    /// The biased one.
    fn finish(&self) -> Option<f64> {
        self.crps.biased()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("twcrps", self.crps.biased()), Value::new("twcrps_fair", self.crps.fair())]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_integral_of_the_brier_score_above_the_threshold(
            members in prop::collection::vec(0u8..8, 1..6), y in 0u8..8, threshold in 0u8..8,
        ) {
            let mut sum = TailCrps::above(f32::from(threshold));
            sum.add_case(&mut members.iter().map(|x| f32::from(*x)).collect::<Vec<_>>(), f32::from(y));
            // Between whole numbers nothing changes, so the integral is a sum.
            let share = |z: u8| members.iter().filter(|x| **x <= z).count() as f64 / members.len() as f64;
            let integral: f64 = (threshold..8).map(|z| (share(z) - f64::from(u8::from(y <= z))).powi(2)).sum();
            prop_assert!((sum.finish().unwrap() - integral).abs() < 1e-12);
        }
    }

    #[test]
    fn a_missing_value_is_not_raised() {
        let mut sum = TailCrps::above(1.0);
        sum.add_case(&mut [f32::NAN, 2.0], 0.0);
        sum.add_case(&mut [0.0, 2.0], f32::NAN);
        assert_eq!(sum.finish(), None);
    }
}
