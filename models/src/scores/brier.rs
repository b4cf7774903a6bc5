//! Brier score: the squared error of a probability.

use ndarray::{ArrayView2, ArrayView3};
use serde::{Deserialize, Serialize};

use super::{Event, over_cells, ratio};

/// Sums of the Brier score, biased and fair.
///
/// The *fair* score of an ensemble estimates that of infinitely many members (Ferro 2014); of a given
/// probability only the plain one exists.
///
/// ```
/// use squall_models::scores::{Brier, Event};
/// let mut brier = Brier::default();
/// brier.add_case([0.0, 0.2, 0.7, 0.9].into_iter(), 0.0, Event::AtLeast(0.6));
/// assert_eq!(brier.biased(), Some(0.25));
/// assert!((brier.fair().unwrap() - 1.0 / 6.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Brier {
    biased: f64,
    count: f64,
    fair: f64,
    fair_count: f64,
}

impl Brier {
    /// Adds a probability and what happened; a missing probability does not count.
    pub fn add_probability(&mut self, probability: f32, happened: bool) {
        if !probability.is_nan() {
            self.biased += (f64::from(probability) - f64::from(happened)).powi(2);
            self.count += 1.0;
        }
    }

    /// Adds one case of an ensemble, unless a value is missing.
    pub fn add_case(&mut self, members: impl Iterator<Item = f32>, observed: f32, event: Event) {
        let (mut m, mut yes, mut missing) = (0f64, 0f64, observed.is_nan());
        for x in members {
            m += 1.0;
            yes += f64::from(event.holds(x));
            missing |= x.is_nan();
        }
        if missing || m == 0.0 {
            return;
        }
        let biased = (yes / m - f64::from(event.holds(observed))).powi(2);
        self.biased += biased;
        self.count += 1.0;
        if m > 1.0 {
            self.fair += biased - yes * (m - yes) / (m * m * (m - 1.0));
            self.fair_count += 1.0;
        }
    }

    /// Adds every cell of members `[member, y, x]` and an observation `[y, x]`.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>, event: Event) {
        let add = |sum: &mut Self, case: &mut [f32], y| sum.add_case(case.iter().copied(), y, event);
        *self = self.merge(&over_cells(members, observed, add, Self::merge));
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            biased: self.biased + other.biased,
            count: self.count + other.count,
            fair: self.fair + other.fair,
            fair_count: self.fair_count + other.fair_count,
        }
    }

    /// Number of cases.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean squared error of the probability.
    pub fn biased(&self) -> Option<f64> {
        ratio(self.biased, self.count)
    }

    /// The same as of infinitely many members, over the cases with two members or more.
    pub fn fair(&self) -> Option<f64> {
        ratio(self.fair, self.fair_count)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn golden_values() {
        let mut brier = Brier::default();
        brier.add_case([0.0, 0.2, 0.7, 0.9].into_iter(), 0.0, Event::AtLeast(0.6));
        assert!((brier.biased().unwrap() - 0.25).abs() < 1e-12 && (brier.fair().unwrap() - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn probabilities_fields_and_merge() {
        let mut given = Brier::default();
        given.add_probability(0.8, true);
        given.add_probability(0.5, false);
        given.add_probability(f32::NAN, false);
        assert!((given.biased().unwrap() - ((f64::from(0.8f32) - 1.0).powi(2) + 0.25) / 2.0).abs() < 1e-12);
        assert_eq!(given.fair(), None);
        let members = array![[[0.0, 9.0]], [[2.0, f32::NAN]]];
        let mut field = Brier::default();
        field.add(members.view(), array![[1.0, 1.0]].view(), Event::AtLeast(1.0));
        assert_eq!((field.count(), field.biased()), (1.0, Some(0.25)));
        assert_eq!(field.merge(&Brier::default()), field);
        assert_eq!(Brier::default().biased(), None);
    }
}
