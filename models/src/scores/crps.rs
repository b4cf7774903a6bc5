//! Continuous ranked probability score of an ensemble.
//!
//! Two estimators, and one must say which. The *biased* one scores the empirical distribution of the
//! M members, and so charges a small ensemble for being small. The *fair* one (Ferro 2014) estimates what
//! infinitely many members would score; it is not defined for a single member.

use std::array::from_fn;

use ndarray::{ArrayView2, ArrayView3};
use serde::{Deserialize, Serialize};

use super::score::{Pair, Score, Value};
use super::sorted::{LANES, Lanes, chunks_of_row, network, sort};
use super::statistics::{plain_sums, sums_of_field};
use super::{over_rows, ratio};

/// Of one case, `(biased, fair)`; `members` are sorted on the way. Fair is `None` with one member, both
/// are with a missing value or without members.
///
/// (1/M) sum |x - y| - (1/2MM) sum sum |x - x'|, and the same with M(M-1) instead of MM; the double sum in
/// O(M log M) by sorting.
///
/// ```
/// use squall_models::scores::crps;
/// assert_eq!(crps(&mut [1.0, 0.0], 1.0), Some((0.25, Some(0.0))));
/// ```
pub fn crps(members: &mut [f32], observed: f32) -> Option<(f64, Option<f64>)> {
    if members.is_empty() || observed.is_nan() || members.iter().any(|x| x.is_nan()) {
        return None;
    }
    let (m, y) = (members.len() as f64, f64::from(observed));
    // Where all members are dry, which is most of the world, there is nothing to sort.
    if members.iter().all(|x| *x == members[0]) {
        let error = (f64::from(members[0]) - y).abs();
        return Some((error, (members.len() > 1).then_some(error)));
    }
    members.sort_unstable_by(f32::total_cmp);
    let (mut error, mut pairs) = (0f64, 0f64);
    for (i, x) in members.iter().map(|x| f64::from(*x)).enumerate() {
        error += (x - y).abs();
        // The member is the larger of a pair with i others, the smaller with the rest.
        pairs += (2.0 * i as f64 + 1.0 - m) * x;
    }
    let (error, pairs) = (error / m, pairs / m);
    let fair = (members.len() > 1).then(|| error - pairs / (m - 1.0));
    Some((error - pairs / m, fair))
}

/// Sums of the CRPS over cases, weighted if need be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Crps {
    biased: f64,
    fair: f64,
    weight: f64,
    /// Weight of cases that have a fair score.
    fair_weight: f64,
}

impl Crps {
    /// Adds one case; a missing value makes it not count.
    pub fn add_case(&mut self, members: &mut [f32], observed: f32, weight: f64) {
        if let Some((biased, fair)) = crps(members, observed) {
            self.biased += weight * biased;
            self.weight += weight;
            if let Some(fair) = fair {
                self.fair += weight * fair;
                self.fair_weight += weight;
            }
        }
    }

    /// Adds every cell of members `[member, y, x]` and an observation `[y, x]`.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>) {
        self.add_mapped(members, observed, |value| value);
    }

    /// The same of what members and observation are mapped to; a missing value must stay so.
    pub(super) fn add_mapped(
        &mut self,
        members: ArrayView3<'_, f32>,
        observed: ArrayView2<'_, f32>,
        map: impl Fn(f32) -> f32 + Sync,
    ) {
        let network = network(members.dim().0);
        let row_sum = |y: usize| {
            let mut sum = Self::default();
            chunks_of_row(members, observed, y, &map, |members, observed| sum.add_lanes(members, observed, &network));
            sum
        };
        let rows = over_rows(members, observed, row_sum);
        *self = Self::merge(self, &rows.iter().fold(Self::default(), |all, row| Self::merge(&all, row)));
    }

    /// Adds several cells, each as [`add_case`](Self::add_case) does, to the last bit.
    fn add_lanes(&mut self, members: &mut [Lanes], observed: &Lanes, network: &[(usize, usize)]) {
        let (mut is_known, mut is_equal) = (observed.map(|y| !y.is_nan()), [true; LANES]);
        let Some(first) = members.first().copied() else { return };
        for x in &*members {
            is_known = from_fn(|lane| is_known[lane] & !x[lane].is_nan());
            is_equal = from_fn(|lane| is_equal[lane] & (x[lane] == first[lane]));
        }
        let (m, y) = (members.len() as f64, observed.map(f64::from));
        let (mut error, mut pairs) = ([0f64; LANES], [0f64; LANES]);
        if (0..LANES).any(|lane| is_known[lane] && !is_equal[lane]) {
            sort(members, network);
            for (i, x) in members.iter().enumerate() {
                let larger = 2.0 * i as f64 + 1.0 - m;
                let x = x.map(f64::from);
                error = from_fn(|lane| error[lane] + (x[lane] - y[lane]).abs());
                pairs = from_fn(|lane| pairs[lane] + larger * x[lane]);
            }
        }
        for lane in (0..LANES).filter(|lane| is_known[*lane]) {
            let (error, pairs) = if is_equal[lane] {
                ((f64::from(first[lane]) - y[lane]).abs(), 0.0)
            } else {
                (error[lane] / m, pairs[lane] / m)
            };
            self.biased += error - pairs / m;
            self.weight += 1.0;
            if m > 1.0 {
                self.fair += error - pairs / (m - 1.0);
                self.fair_weight += 1.0;
            }
        }
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            biased: self.biased + other.biased,
            fair: self.fair + other.fair,
            weight: self.weight + other.weight,
            fair_weight: self.fair_weight + other.fair_weight,
        }
    }

    /// Weight of the cases that counted: their number, if each weighs 1.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Mean of the biased estimator.
    pub fn biased(&self) -> Option<f64> {
        ratio(self.biased, self.weight)
    }

    /// Mean of the fair estimator, over the cases with two members or more.
    pub fn fair(&self) -> Option<f64> {
        ratio(self.fair, self.fair_weight)
    }
}

plain_sums!(Crps { biased, fair, weight, fair_weight });

impl Score for Crps {
    fn name(&self) -> &'static str {
        "CRPS"
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        Self::add(self, pair.members, pair.observed);
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        self.weight
    }

    /// The biased one.
    fn finish(&self) -> Option<f64> {
        self.biased()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("crps", self.biased()), Value::new("crps_fair", self.fair())]
    }
}

/// The fair CRPS; of single members, which have none, their absolute error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FairCrps(Crps);

sums_of_field!(FairCrps, 0);

impl Score for FairCrps {
    fn name(&self) -> &'static str {
        "fair CRPS"
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        self.0.add(pair.members, pair.observed);
    }

    fn merge(&mut self, other: &Self) {
        self.0 = Crps::merge(&self.0, &other.0);
    }

    fn count(&self) -> f64 {
        self.0.weight
    }

    fn finish(&self) -> Option<f64> {
        self.0.fair().or(self.0.biased())
    }

    fn values(&self) -> Vec<Value> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use proptest::prelude::*;

    use super::{super::close, *};

    #[test]
    fn golden_values() {
        let third = 1.0 / 6.0;
        for (members, y, biased, fair) in [
            (vec![0.0, 1.0], 1.0, 0.25, 0.0),
            (vec![0.0, 0.0, 1.0, 2.0], 0.0, 0.3125, third),
            (vec![0.0, 0.0, 1.0, 2.0], 1.0, 0.3125, third),
            (vec![0.0, 0.0, 1.0, 2.0], 0.5, 0.3125, third),
            (vec![1.0, 2.0, 3.0, 4.0], 2.0, 0.375, third),
            (vec![1.0, 2.0, 3.0, 4.0], 2.5, 0.375, third),
            (vec![4.0, 1.0, 3.0, 2.0], 5.0, 1.875, 1.0 + 2.0 / 3.0),
        ] {
            let (b, f) = crps(&mut members.clone(), y).unwrap();
            assert!((b - biased).abs() < 1e-12 && (f.unwrap() - fair).abs() < 1e-12, "{members:?} {y}: {b} {f:?}");
        }
        // Of scoringrules' own tests, rounded to f32: there 0.6126602 and 0.5598959.
        #[rustfmt::skip]
        let mut members = [
            1.7812119, 0.5863797, 0.7038174, -0.7743998, -0.2751647, 1.186325, 1.2990966, -0.3242982, -0.5968781, 0.9064937,
        ];
        let (biased, fair) = crps(&mut members, -0.6042506).unwrap();
        assert!((biased - 0.612_660_227_119_922_6).abs() < 1e-12, "{biased}");
        assert!((fair.unwrap() - 0.559_895_941_946_241_6).abs() < 1e-12, "{fair:?}");
        assert!((biased - 0.6126602).abs() < 1e-7 && (fair.unwrap() - 0.5598959).abs() < 1e-7);
        assert_eq!(crps(&mut [3.0], 5.0), Some((2.0, None)));
        assert_eq!(crps(&mut [], 5.0), None);
        assert_eq!(crps(&mut [1.0, f32::NAN], 5.0), None);
    }

    proptest! {
        #[test]
        fn equals_the_double_sum(members in prop::collection::vec(-10f32..10.0, 1..20), y in -12f32..12.0) {
            let m = members.len() as f64;
            let each = |f: &dyn Fn(f64) -> f64| members.iter().map(|x| f(f64::from(*x))).sum::<f64>();
            let error = each(&|x| (x - f64::from(y)).abs()) / m;
            let pairs = each(&|x| each(&|z| (x - z).abs()));
            let (biased, fair) = crps(&mut members.clone(), y).unwrap();
            prop_assert!((biased - (error - pairs / (2.0 * m * m))).abs() < 1e-12);
            if let Some(fair) = fair {
                prop_assert!((fair - (error - pairs / (2.0 * m * (m - 1.0)))).abs() < 1e-12);
            }
        }
    }

    /// Ties, missing values, both zeros, and rows that no number of lanes divides.
    fn fields() -> impl Strategy<Value = (Array3<f32>, Array2<f32>)> {
        let value = || prop_oneof![-3f32..3.0, prop::sample::select(vec![0.0, -0.0, 1.0, 1.0, 2.5, f32::NAN])];
        let wet = prop_oneof![Just(0.0f32), Just(1.0)];
        (0usize..28, 1usize..4, 1usize..40, wet).prop_flat_map(move |(count, rows, columns, wet)| {
            let members = prop::collection::vec(value(), count * rows * columns);
            let members = members.prop_map(move |v| {
                Array3::from_shape_vec((count, rows, columns), v.into_iter().map(|v| v * wet).collect()).unwrap()
            });
            let observed = prop::collection::vec(value(), rows * columns);
            (members, observed.prop_map(move |v| Array2::from_shape_vec((rows, columns), v).unwrap()))
        })
    }

    proptest! {
        #[test]
        fn cells_side_by_side_are_cells_one_by_one_to_the_last_bit((members, observed) in fields()) {
            let mut whole = Crps::default();
            whole.add(members.view(), observed.view());
            let mut cases = Crps::default();
            for (y, row) in observed.outer_iter().enumerate() {
                let mut sum = Crps::default();
                for (x, o) in row.iter().enumerate() {
                    sum.add_case(&mut members.slice(ndarray::s![.., y, x]).to_vec(), *o, 1.0);
                }
                cases = Crps::merge(&cases, &sum);
            }
            prop_assert_eq!(whole, cases);
        }
    }

    #[test]
    fn fields_equal_cases_and_merge() {
        let members = Array3::from_shape_fn((5, 6, 7), |(m, y, x)| ((m * 31 + y * 17 + x * 5) % 13) as f32);
        let mut observed = Array2::from_shape_fn((6, 7), |(y, x)| ((y * 3 + x) % 11) as f32);
        observed[[2, 3]] = f32::NAN;
        let mut whole = Crps::default();
        whole.add(members.view(), observed.view());
        let mut cases = Crps::default();
        for ((y, x), o) in observed.indexed_iter() {
            cases.add_case(&mut members.slice(ndarray::s![.., y, x]).to_vec(), *o, 1.0);
        }
        assert_eq!(whole.weight(), 41.0);
        assert!(close(whole.fair(), cases.fair().unwrap(), 1e-12));
        assert!(close(whole.merge(&cases).biased(), whole.biased().unwrap(), 1e-12));
        assert_eq!(Crps::default().biased(), None);
    }
}
