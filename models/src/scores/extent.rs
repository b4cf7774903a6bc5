//! How much of the domain the rain of members covers, and how strong it gets: what blurring and drizzle change.

use super::ratio;
use super::score::{Pair, Score, Value};
use super::statistics::plain_sums;

/// Cells at or above a threshold, of the members one by one and observed.
///
/// The frequency bias of an ensemble *mean* tells of blurring, too: a mean has rain wherever any member has. That of the
/// members, which this is, is 1 for an ensemble whose members look like observations.
///
/// ```
/// use ndarray::{Array2, Array3};
/// use squall_models::scores::{Pair, Score, WetArea};
///
/// let members = Array3::from_shape_fn((2, 4, 4), |(m, _, x)| if m == 0 && x == 0 { 2.0 } else { 0.0 });
/// let observed = Array2::from_shape_fn((4, 4), |(_, x)| if x == 0 { 2.0 } else { 0.0 });
/// let mut area = WetArea::at_least(1.0);
/// area.add(&Pair::new(members.view(), observed.view()));
/// assert_eq!(area.finish(), Some(0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WetArea {
    threshold: f32,
    /// Sum over cases of the mean number of cells of the members.
    members: f64,
    observed: f64,
    cells: f64,
}

impl WetArea {
    /// Of values at or above a threshold.
    pub fn at_least(threshold: f32) -> Self {
        Self { threshold, members: 0.0, observed: 0.0, cells: 0.0 }
    }
}

plain_sums!(WetArea { members, observed, cells });

impl Score for WetArea {
    fn name(&self) -> &'static str {
        "wet area"
    }

    fn threshold(&self) -> Option<f32> {
        Some(self.threshold)
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let count = pair.members.dim().0 as f64;
        for ((y, x), observed) in pair.observed.indexed_iter() {
            let lane = pair.members.slice(ndarray::s![.., y, x]);
            if observed.is_nan() || lane.iter().any(|v| v.is_nan()) {
                continue;
            }
            self.members += lane.iter().filter(|v| **v >= self.threshold).count() as f64 / count;
            self.observed += f64::from(u8::from(*observed >= self.threshold));
            self.cells += 1.0;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.members += other.members;
        self.observed += other.observed;
        self.cells += other.cells;
    }

    fn count(&self) -> f64 {
        self.cells
    }

    fn finish(&self) -> Option<f64> {
        ratio(self.members, self.observed)
    }

    fn values(&self) -> Vec<Value> {
        vec![
            Value::new("wet_area_ratio", self.finish()),
            Value::new("wet_area_members", ratio(self.members, self.cells)),
            Value::new("wet_area_observed", ratio(self.observed, self.cells)),
        ]
    }
}

/// The largest value of each member's field, and of the observed one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Maximum {
    /// Sum over cases of the mean of the members' largest values.
    members: f64,
    observed: f64,
    count: f64,
}

plain_sums!(Maximum { members, observed, count });

impl Score for Maximum {
    fn name(&self) -> &'static str {
        "maximum"
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let known = |((y, x), v): (_, &f32)| {
            let observed: f32 = pair.observed[[y, x]];
            (!observed.is_nan() && !v.is_nan()).then_some(*v)
        };
        let largest = |values: Option<f32>, v: f32| Some(values.map_or(v, |most: f32| most.max(v)));
        let of = |field: ndarray::ArrayView2<'_, f32>| field.indexed_iter().filter_map(known).fold(None, largest);
        let members: Option<Vec<f32>> = pair.members.outer_iter().map(of).collect();
        if let (Some(members), Some(observed)) = (members.filter(|m| !m.is_empty()), of(pair.observed)) {
            self.members += members.iter().map(|v| f64::from(*v)).sum::<f64>() / members.len() as f64;
            self.observed += f64::from(observed);
            self.count += 1.0;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.members += other.members;
        self.observed += other.observed;
        self.count += other.count;
    }

    fn count(&self) -> f64 {
        self.count
    }

    /// The members' largest values over those observed.
    fn finish(&self) -> Option<f64> {
        ratio(self.members, self.observed)
    }

    fn values(&self) -> Vec<Value> {
        vec![
            Value::new("maximum_ratio", self.finish()),
            Value::new("maximum_members", ratio(self.members, self.count)),
            Value::new("maximum_observed", ratio(self.observed, self.count)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{array, aview2};

    use super::*;

    #[test]
    fn what_is_missing_does_not_count() {
        let members = array![[[0.0, 5.0, 9.0], [2.0, f32::NAN, 0.0]], [[3.0, 0.0, 9.0], [2.0, 7.0, 0.0]]];
        let observed = aview2(&[[1.0, 1.0, f32::NAN], [0.0, 4.0, 0.0]]);
        let pair = Pair::new(members.view(), observed);
        let mut area = WetArea::at_least(1.0);
        area.add(&pair);
        // Of the four cells that are known the members have half, half, one and none.
        assert_eq!((area.count(), area.members, area.observed), (4.0, 2.0, 2.0));
        let mut most = Maximum::default();
        most.add(&pair);
        assert_eq!((most.members, most.observed, most.count()), (6.0, 4.0, 1.0), "5 and 7, where 4 came");
        let same = most;
        most.merge(&same);
        assert_eq!((most.finish(), most.count()), (Some(1.5), 2.0));
    }

    #[test]
    fn without_anything_observed_there_is_no_ratio() {
        let members = ndarray::Array3::zeros((2, 2, 2));
        let observed = ndarray::Array2::from_elem((2, 2), f32::NAN);
        let pair = Pair::new(members.view(), observed.view());
        let (mut area, mut most) = (WetArea::at_least(1.0), Maximum::default());
        area.add(&pair);
        most.add(&pair);
        assert_eq!((area.finish(), most.finish(), area.count(), most.count()), (None, None, 0.0, 0.0));
    }
}
