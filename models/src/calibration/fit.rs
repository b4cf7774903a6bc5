//! Fitting a correction: the CRPS of one lead's members, as low as it gets.
//!
//! It is the CRPS of the empirical distribution that is minimised. The fair one supposes that members are independent, and
//! those around a common mean, each corrected by it, are not: spread beyond that of the truth would pay (by 7 % with 24
//! members and by a quarter with 8 in the test below, where the empirical one errs by 2 and 4 %).

use ndarray::{ArrayView2, ArrayView3};
use rayon::prelude::*;

use super::At;
use crate::scores::crps;

/// Members and what came, at cells of one lead of many forecasts.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    members: usize,
    /// A cell's members one after another.
    values: Vec<f32>,
    observed: Vec<f32>,
}

impl Samples {
    /// Adds every so many cells, along both sides, of members `[member, y, x]` and what came `[y, x]`. Cells where
    /// anything is missing do not count, nor ensembles of another size than the first.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>, every: usize) {
        let count = members.dim().0;
        if self.observed.is_empty() {
            self.members = count;
        }
        let wanted = |(y, x): (usize, usize)| y % every.max(1) == 0 && x % every.max(1) == 0;
        for ((y, x), observed) in observed.indexed_iter().filter(|(at, _)| wanted(*at)) {
            let cell = (0..count).map(|m| members[[m, y, x]]);
            if count == self.members && !observed.is_nan() && cell.clone().all(|v| !v.is_nan()) {
                self.values.extend(cell);
                self.observed.push(*observed);
            }
        }
    }

    /// Cells.
    pub fn len(&self) -> usize {
        self.observed.len()
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.observed.is_empty()
    }

    /// The mean CRPS after a correction; none for a single member, or without cells.
    pub fn score(&self, at: At) -> Option<f64> {
        if self.members < 2 || self.is_empty() {
            return None;
        }
        let cells = self.values.par_chunks(self.members * 256).zip(self.observed.par_chunks(256));
        let sums: Vec<f64> = cells
            .map(|(values, observed)| {
                let mut members = vec![0f32; self.members];
                let of = |(values, observed): (&[f32], &f32)| {
                    members.copy_from_slice(values);
                    at.correct(&mut members);
                    crps(&mut members, *observed).map_or(0.0, |(empirical, _)| empirical)
                };
                values.chunks(self.members).zip(observed).map(of).sum()
            })
            .collect();
        Some(sums.iter().sum::<f64>() / self.len() as f64)
    }
}

/// The correction that scores best, by a search that halves its steps; none for a single member, or without cells.
///
/// ```
/// use ndarray::{Array2, Array3};
/// use squall_models::calibration::{Samples, fit};
///
/// // Members 2 and 4, where 6 came everywhere: they must be raised.
/// let mut samples = Samples::default();
/// let members = Array3::from_shape_fn((2, 4, 4), |(m, _, _)| 2.0 + 2.0 * m as f32);
/// samples.add(members.view(), Array2::from_elem((4, 4), 6.0).view(), 1);
/// let found = fit(&samples, None).unwrap();
/// assert!(found.level > 1.2 && samples.score(found) < Some(0.1), "{found:?}");
/// ```
pub fn fit(samples: &Samples, floor: Option<f32>) -> Option<At> {
    let of = |level: f32, spread: f32| At { floor, level, spread };
    let mut best = of(1.0, 1.0);
    let mut lowest = samples.score(best)?;
    let mut step = 0.25f32;
    while step > 0.005 {
        let around = [(step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step), (step, -step), (-step, step)];
        let tried = around.into_iter().map(|(a, b)| of(best.level + a, best.spread + b));
        let tried = tried.filter(|at| (0.0..=3.0).contains(&at.level) && (0.0..=5.0).contains(&at.spread));
        let scored = tried.filter_map(|at| Some((samples.score(at)?, at)));
        match scored.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score < lowest) {
            Some((score, at)) => (lowest, best) = (score, at),
            None => step /= 2.0,
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use squall_fields::random::Philox;

    use super::*;

    /// Members that err by `spread` around a mean that is `level` too low, of what came with an error of 1.
    fn samples(level: f32, spread: f32) -> Samples {
        let random = |what: u64| {
            let mut numbers = vec![0f32; 64 * 64];
            Philox::new(7, what).fill_normal(0, &mut numbers);
            Array2::from_shape_vec((64, 64), numbers).unwrap()
        };
        let truth = random(0).mapv(|v| 10.0 + v);
        let noise: Vec<_> = (1..=8).map(random).collect();
        let members = Array3::from_shape_fn((8, 64, 64), |(m, y, x)| 10.0 / level + spread * noise[m][[y, x]]);
        let mut samples = Samples::default();
        samples.add(members.view(), truth.view(), 1);
        samples
    }

    #[test]
    fn bias_and_spread_that_were_taken_away_are_found() {
        let found = fit(&samples(1.25, 0.5), None).unwrap();
        assert!((found.level - 1.25).abs() < 0.03 && (found.spread - 2.0).abs() < 0.25, "{found:?}");
        let found = fit(&samples(1.0, 1.0), None).unwrap();
        assert!((found.level - 1.0).abs() < 0.03 && (found.spread - 1.0).abs() < 0.15, "{found:?}");
    }

    #[test]
    fn a_fit_never_scores_worse_than_what_it_started_from() {
        let samples = samples(0.8, 3.0);
        let plain = samples.score(At { floor: Some(0.1), level: 1.0, spread: 1.0 }).unwrap();
        let fitted = samples.score(fit(&samples, Some(0.1)).unwrap()).unwrap();
        assert!(fitted < 0.9 * plain, "{fitted} {plain}");
    }

    #[test]
    fn one_member_has_no_spread_to_fit_and_missing_cells_do_not_count() {
        let mut samples = Samples::default();
        samples.add(Array3::zeros((1, 2, 2)).view(), Array2::zeros((2, 2)).view(), 1);
        assert_eq!(fit(&samples, None), None);
        let mut samples = Samples::default();
        let mut members = Array3::zeros((2, 4, 4));
        members[[1, 0, 0]] = f32::NAN;
        samples.add(members.view(), Array2::zeros((4, 4)).view(), 2);
        assert_eq!(samples.len(), 3);
        samples.add(Array3::zeros((3, 4, 4)).view(), Array2::zeros((4, 4)).view(), 2);
        assert_eq!(samples.len(), 3, "an ensemble of another size");
    }
}
