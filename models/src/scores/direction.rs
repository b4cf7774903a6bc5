//! Error of the direction of the wind.

use serde::{Deserialize, Serialize};

use super::ratio;

/// Sums of the angle between forecast and observed wind, at most 180 degrees.
///
/// A calm has no direction: a pair in which either speed is below `calm` is counted apart and not judged.
/// Directions are never averaged, their errors are.
///
/// ```
/// use squall_models::scores::DirectionError;
/// let mut error = DirectionError::default();
/// error.add_pair([0.0, 5.0], [5.0, 0.0], 1.0);
/// error.add_pair([0.0, 5.0], [0.1, 0.0], 1.0);
/// error.add_pair([0.0, f32::NAN], [5.0, 0.0], 1.0);
/// assert_eq!((error.mean_degrees(), error.count(), error.calms()), (Some(90.0), 1.0, 1.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DirectionError {
    pub(super) degrees: f64,
    pub(super) count: f64,
    pub(super) calms: f64,
}

impl DirectionError {
    /// Adds a pair of winds `[u, v]`, unless a component is missing.
    pub fn add_pair(&mut self, forecast: [f32; 2], observed: [f32; 2], calm: f32) {
        let ([a, b], [c, d]) = (forecast.map(f64::from), observed.map(f64::from));
        if [a, b, c, d].iter().any(|x| x.is_nan()) {
            return;
        }
        let slower = a.hypot(b).min(c.hypot(d));
        if slower < f64::from(calm) || slower == 0.0 {
            self.calms += 1.0;
            return;
        }
        self.degrees += (a * d - b * c).atan2(a * c + b * d).abs().to_degrees();
        self.count += 1.0;
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self { degrees: self.degrees + other.degrees, count: self.count + other.count, calms: self.calms + other.calms }
    }

    /// Number of pairs that were judged.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Number of pairs with a calm.
    pub fn calms(&self) -> f64 {
        self.calms
    }

    /// Mean angle in degrees.
    pub fn mean_degrees(&self) -> Option<f64> {
        ratio(self.degrees, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn north_by_either_side_is_near_and_opposite_is_180() {
        let wind = |degrees: f64| [degrees.to_radians().sin() as f32, degrees.to_radians().cos() as f32];
        for (a, b, expected) in [(350.0, 10.0, 20.0), (10.0, 350.0, 20.0), (90.0, 270.0, 180.0), (45.0, 45.0, 0.0)] {
            let mut error = DirectionError::default();
            error.add_pair(wind(a), wind(b), 0.5);
            let mean = error.merge(&error).mean_degrees().unwrap();
            assert!((mean - expected).abs() < 1e-4, "{a} {b}: {mean}");
        }
        let mut error = DirectionError::default();
        error.add_pair([0.0, 0.0], [0.0, 1.0], 0.0);
        assert_eq!((error.mean_degrees(), error.calms()), (None, 1.0));
    }
}
