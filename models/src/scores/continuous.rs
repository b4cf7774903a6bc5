//! Errors of a value, and the spread of an ensemble against the error of its mean.

use ndarray::{ArrayView2, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use super::score::{Pair, Score, Value};
use super::statistics::plain_sums;
use super::{over_cells, ratio};

/// Sums of errors (forecast minus observation) of single values.
///
/// ```
/// use squall_models::scores::Error;
/// let mut error = Error::default();
/// error.add_pair(3.0, 1.0);
/// error.add_pair(0.0, 4.0);
/// error.add_pair(f32::NAN, 4.0);
/// assert_eq!((error.mean(), error.mae(), error.mse()), (Some(-1.0), Some(3.0), Some(10.0)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Error {
    sum: f64,
    absolute: f64,
    squared: f64,
    count: f64,
}

impl Error {
    /// Adds one pair, unless a value is missing.
    pub fn add_pair(&mut self, forecast: f32, observed: f32) {
        let error = f64::from(forecast) - f64::from(observed);
        if !error.is_nan() {
            self.sum += error;
            self.absolute += error.abs();
            self.squared += error * error;
            self.count += 1.0;
        }
    }

    /// Adds the cells of two fields of one shape.
    pub fn add(&mut self, forecast: ArrayView2<'_, f32>, observed: ArrayView2<'_, f32>) {
        debug_assert_eq!(forecast.dim(), observed.dim(), "fields of one shape");
        forecast.iter().zip(observed).for_each(|(f, o)| self.add_pair(*f, *o));
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            absolute: self.absolute + other.absolute,
            squared: self.squared + other.squared,
            count: self.count + other.count,
        }
    }

    /// Number of pairs.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean error.
    pub fn mean(&self) -> Option<f64> {
        ratio(self.sum, self.count)
    }

    /// Mean absolute error.
    pub fn mae(&self) -> Option<f64> {
        ratio(self.absolute, self.count)
    }

    /// Mean squared error.
    pub fn mse(&self) -> Option<f64> {
        ratio(self.squared, self.count)
    }

    /// Root mean squared error.
    pub fn rmse(&self) -> Option<f64> {
        self.mse().map(f64::sqrt)
    }
}

plain_sums!(Error { sum, absolute, squared, count });

/// The absolute error of the ensemble mean.
impl Score for Error {
    fn name(&self) -> &'static str {
        "MAE"
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        Self::add(self, pair.mean().view(), pair.observed);
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        self.count
    }

    fn finish(&self) -> Option<f64> {
        self.mae()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("mae", self.mae()), Value::new("rmse", self.rmse()), Value::new("bias", self.mean())]
    }
}

/// Sums of ensemble variance and of the squared error of the ensemble mean.
///
/// Spread is the root of the mean variance (with M-1 in the denominator), skill the root mean squared
/// error of the ensemble mean. Of a reliable ensemble the ratio of spread, times sqrt((M+1)/M), to skill is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    variance: f64,
    /// Variance times (M+1)/M.
    inflated: f64,
    squared_error: f64,
    count: f64,
}

impl Spread {
    /// Adds one case of two members or more, unless a value is missing.
    pub fn add_case(&mut self, members: impl Iterator<Item = f32> + Clone, observed: f32) {
        let m = members.clone().count() as f64;
        let mean = members.clone().map(f64::from).sum::<f64>() / m;
        let error = mean - f64::from(observed);
        if m < 2.0 || error.is_nan() {
            return;
        }
        let variance = members.map(|x| (f64::from(x) - mean).powi(2)).sum::<f64>() / (m - 1.0);
        self.variance += variance;
        self.inflated += variance * (m + 1.0) / m;
        self.squared_error += error * error;
        self.count += 1.0;
    }

    /// Adds every cell of members `[member, y, x]` and an observation `[y, x]`.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>) {
        let add = |sum: &mut Self, case: &mut [f32], y| sum.add_case(case.iter().copied(), y);
        *self = Self::merge(self, &over_cells(members, observed, add, Self::merge));
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            variance: self.variance + other.variance,
            inflated: self.inflated + other.inflated,
            squared_error: self.squared_error + other.squared_error,
            count: self.count + other.count,
        }
    }

    /// Number of cases.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Root of the mean variance.
    pub fn spread(&self) -> Option<f64> {
        ratio(self.variance, self.count).map(f64::sqrt)
    }

    /// Root mean squared error of the ensemble mean.
    pub fn skill(&self) -> Option<f64> {
        ratio(self.squared_error, self.count).map(f64::sqrt)
    }

    /// Spread to skill, corrected for the number of members; 1 is reliable, less is overconfident.
    pub fn ratio(&self) -> Option<f64> {
        ratio(self.inflated, self.squared_error).map(f64::sqrt)
    }
}

plain_sums!(Spread { variance, inflated, squared_error, count });

impl Score for Spread {
    fn name(&self) -> &'static str {
        "spread/skill"
    }

    fn add(&mut self, pair: &Pair<'_>) {
        Self::add(self, pair.members, pair.observed);
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        self.count
    }

    fn finish(&self) -> Option<f64> {
        self.ratio()
    }

    fn values(&self) -> Vec<Value> {
        vec![
            Value::new("spread", self.spread()),
            Value::new("skill", self.skill()),
            Value::new("spread_skill", self.ratio()),
        ]
    }
}

/// Standard deviation of members `[member, y, x]` at each cell, `[y, x]`, with M-1 in the denominator; NaN
/// where a member is missing or there is but one.
pub fn standard_deviation(members: ArrayView3<'_, f32>) -> ndarray::Array2<f32> {
    let m = members.dim().0 as f64;
    let mut out = ndarray::Array2::zeros((members.dim().1, members.dim().2));
    ndarray::Zip::from(&mut out).and(members.lanes(Axis(0))).par_for_each(|out, case| {
        let mean = case.iter().map(|x| f64::from(*x)).sum::<f64>() / m;
        let squares = case.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
        *out = (squares / (m - 1.0)).sqrt() as f32;
    });
    out
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::{super::close, *};

    #[test]
    fn fields_and_merge() {
        let (forecast, observed) = (array![[1.0, 2.0], [f32::NAN, 5.0]], array![[0.0, 4.0], [1.0, 5.0]]);
        let mut error = Error::default();
        error.add(forecast.view(), observed.view());
        assert_eq!(error.count(), 3.0);
        assert!(close(error.merge(&error).rmse(), (5f64 / 3.0).sqrt(), 1e-12));
        assert_eq!(Error::default().rmse(), None);
    }

    #[test]
    fn spread_and_skill_by_hand() {
        let members = array![[[1.0, 0.0]], [[3.0, f32::NAN]]];
        let mut spread = Spread::default();
        spread.add(members.view(), array![[5.0, 1.0]].view());
        assert_eq!((spread.count(), spread.skill()), (1.0, Some(3.0)));
        assert!(close(spread.spread(), 2f64.sqrt(), 1e-12));
        assert!(close(spread.ratio(), (3.0f64 / 9.0).sqrt(), 1e-12));
        let deviation = standard_deviation(members.view());
        assert!((deviation[[0, 0]] - 2f32.sqrt()).abs() < 1e-6 && deviation[[0, 1]].is_nan());
        let mut single = Spread::default();
        single.add_case([1.0].into_iter(), 2.0);
        assert_eq!(single.spread(), None);
    }
}
