//! Scores of the wind as a vector, as a board keeps them. Of a pair without a second component they count nothing.

use super::score::{Pair, Score, Value};
use super::statistics::{plain_sums, sums_of_field};
use super::{Crps, DirectionError, EnergyScore, VectorError, direction, wind};

plain_sums!(wind::EnergyScore { biased, count, fair, fair_count });
plain_sums!(wind::VectorError { squared, count });
plain_sums!(direction::DirectionError { degrees, count, calms });

/// Calls with the members and what came of each cell.
fn for_each_cell(pair: &Pair<'_>, mut take: impl FnMut(&[[f32; 2]], [f32; 2])) {
    let Some((second, came)) = &pair.second else { return };
    let mut members = vec![[0f32; 2]; pair.members.dim().0];
    for ((y, x), observed) in pair.observed.indexed_iter() {
        for (m, member) in members.iter_mut().enumerate() {
            *member = [pair.members[[m, y, x]], second[[m, y, x]]];
        }
        take(&members, [*observed, came[[y, x]]]);
    }
}

/// The mean of vectors; NaN with a missing component.
fn mean(members: &[[f32; 2]]) -> [f32; 2] {
    let count = members.len() as f64;
    [0, 1].map(|i| (members.iter().map(|v| f64::from(v[i])).sum::<f64>() / count) as f32)
}

impl Score for EnergyScore {
    fn name(&self) -> &'static str {
        "energy score"
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn is_of_vectors(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        for_each_cell(pair, |members, observed| self.add_case(members, observed));
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        Self::count(self)
    }

    /// The biased one.
    fn finish(&self) -> Option<f64> {
        self.biased()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("energy", self.biased()), Value::new("energy_fair", self.fair())]
    }
}

/// Of the mean vector.
impl Score for VectorError {
    fn name(&self) -> &'static str {
        "vector RMSE"
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn is_of_vectors(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        for_each_cell(pair, |members, observed| self.add_pair(mean(members), observed));
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        Self::count(self)
    }

    fn finish(&self) -> Option<f64> {
        self.rmse()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("vector_rmse", self.rmse())]
    }
}

/// Below this speed there is no direction, in m/s.
const CALM: f32 = 1.0;

/// Of the mean vector, where neither speed is below 1 m/s.
impl Score for DirectionError {
    fn name(&self) -> &'static str {
        "direction"
    }

    fn is_of_vectors(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        for_each_cell(pair, |members, observed| self.add_pair(mean(members), observed, CALM));
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        Self::count(self)
    }

    fn finish(&self) -> Option<f64> {
        self.mean_degrees()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("direction_error", self.mean_degrees())]
    }
}

/// The CRPS of the speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SpeedCrps(Crps);

sums_of_field!(SpeedCrps, 0);

impl Score for SpeedCrps {
    fn name(&self) -> &'static str {
        "CRPS of speed"
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn is_of_vectors(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let mut speeds = Vec::new();
        for_each_cell(pair, |members, observed| {
            speeds.clear();
            speeds.extend(members.iter().map(|[u, v]| u.hypot(*v)));
            self.0.add_case(&mut speeds, observed[0].hypot(observed[1]), 1.0);
        });
    }

    fn merge(&mut self, other: &Self) {
        self.0 = self.0.merge(&other.0);
    }

    fn count(&self) -> f64 {
        self.0.weight()
    }

    /// The biased one.
    fn finish(&self) -> Option<f64> {
        self.0.biased()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("crps_speed", self.0.biased()), Value::new("crps_speed_fair", self.0.fair())]
    }
}
