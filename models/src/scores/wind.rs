//! Scores of vectors: wind as it is, not component by component.

use serde::{Deserialize, Serialize};

use super::ratio;

/// Energy score of one case, `(biased, fair)`: the CRPS of a vector, with the Euclidean norm.
///
/// `None` without members or with a missing value; fair is `None` with one member.
///
/// ```
/// use squall_models::scores::energy_score;
/// let (biased, fair) = energy_score(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]], [1.0, 0.5]).unwrap();
/// assert!((biased - 0.3049861).abs() < 1e-7 && (fair.unwrap() - 0.1369757).abs() < 1e-7);
/// ```
pub fn energy_score<const N: usize>(members: &[[f32; N]], observed: [f32; N]) -> Option<(f64, Option<f64>)> {
    let missing = |vector: &[f32; N]| vector.iter().any(|x| x.is_nan());
    if members.is_empty() || missing(&observed) || members.iter().any(missing) {
        return None;
    }
    let m = members.len() as f64;
    let error = members.iter().map(|x| distance(x, &observed)).sum::<f64>() / m;
    // Each pair once: half of the double sum.
    let pairs: f64 = members.iter().enumerate().flat_map(|(i, a)| members[..i].iter().map(|b| distance(a, b))).sum();
    let fair = (members.len() > 1).then(|| error - pairs / (m * (m - 1.0)));
    Some((error - pairs / (m * m), fair))
}

fn distance<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
}

/// Sums of the energy score over cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnergyScore {
    pub(super) biased: f64,
    pub(super) count: f64,
    pub(super) fair: f64,
    pub(super) fair_count: f64,
}

impl EnergyScore {
    /// Adds one case, unless a value is missing.
    pub fn add_case<const N: usize>(&mut self, members: &[[f32; N]], observed: [f32; N]) {
        if let Some((biased, fair)) = energy_score(members, observed) {
            self.biased += biased;
            self.count += 1.0;
            self.fair += fair.unwrap_or(0.0);
            self.fair_count += f64::from(fair.is_some());
        }
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

    /// Mean of the biased estimator.
    pub fn biased(&self) -> Option<f64> {
        ratio(self.biased, self.count)
    }

    /// Mean of the fair estimator, over the cases with two members or more.
    pub fn fair(&self) -> Option<f64> {
        ratio(self.fair, self.fair_count)
    }
}

/// Sums of the squared length of the error of a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VectorError {
    pub(super) squared: f64,
    pub(super) count: f64,
}

impl VectorError {
    /// Adds one pair, unless a component is missing.
    pub fn add_pair<const N: usize>(&mut self, forecast: [f32; N], observed: [f32; N]) {
        let squared = distance(&forecast, &observed).powi(2);
        if !squared.is_nan() {
            self.squared += squared;
            self.count += 1.0;
        }
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self { squared: self.squared + other.squared, count: self.count + other.count }
    }

    /// Number of pairs.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Root of the mean squared length: the vector RMSE over all pairs.
    pub fn rmse(&self) -> Option<f64> {
        ratio(self.squared, self.count).map(f64::sqrt)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn in_one_dimension_it_is_the_crps() {
        let members = [[0.0], [0.0], [1.0], [2.0f32]];
        let (biased, fair) = energy_score(&members, [0.5]).unwrap();
        assert!((biased - 0.3125).abs() < 1e-12 && (fair.unwrap() - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn golden_values() {
        let members = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0f32]];
        let (biased, fair) = energy_score(&members, [1.0, 0.5]).unwrap();
        // Distances to the observation, and of the pairs: 0.3049861 and 0.1369757.
        let (error, pairs) = ((1.0 + 5f64.sqrt()) / 4.0, 3.0 + 2.0 * 2f64.sqrt() + 5f64.sqrt());
        assert!((biased - (error - pairs / 16.0)).abs() < 1e-12 && (biased - 0.3049861).abs() < 1e-7, "{biased}");
        assert!((fair.unwrap() - (error - pairs / 12.0)).abs() < 1e-12 && (fair.unwrap() - 0.1369757).abs() < 1e-7);
        // Of scoringrules' own tests, rounded to f32: there 0.3949793 and 0.3274585.
        let members =
            [[0.79546744, 0.02461368], [0.477796, 0.7584595], [0.2164079, 0.318181], [0.5409873, 0.1319422f32]];
        let (biased, fair) = energy_score(&members, [0.2743836, 0.81464]).unwrap();
        assert!((biased - 0.394_979_256_691_315_8).abs() < 1e-12 && (biased - 0.3949793).abs() < 1e-7, "{biased}");
        assert!((fair.unwrap() - 0.327_458_433_430_376_3).abs() < 1e-12, "{fair:?}");
        assert!((fair.unwrap() - 0.3274585).abs() < 1e-7);
    }

    #[test]
    fn sums_and_missing_values() {
        let mut score = EnergyScore::default();
        score.add_case(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]], [1.0, 0.5]);
        score.add_case(&[[1.0, f32::NAN]], [1.0, 0.5]);
        score.add_case(&[], [1.0, 0.5]);
        assert_eq!(score.count(), 1.0);
        let fair = (1.0 + 5f64.sqrt()) / 4.0 - (3.0 + 2.0 * 2f64.sqrt() + 5f64.sqrt()) / 12.0;
        assert!(close(score.merge(&score).fair(), fair, 1e-12));
        let mut error = VectorError::default();
        error.add_pair([3.0, 0.0], [0.0, 4.0]);
        error.add_pair([f32::NAN, 0.0], [0.0, 4.0]);
        assert_eq!((error.count(), error.merge(&error).rmse()), (1.0, Some(5.0)));
        assert_eq!(VectorError::default().rmse(), None);
    }
}
