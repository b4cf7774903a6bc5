//! How much noise each diffusion step holds, and which steps a solver visits.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

/// Diffusion steps of training.
pub const STEPS: usize = 1000;

/// How signal and noise are mixed on the way from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The squares of both factors add up to 1: diffusion.
    VariancePreserving,
    /// Both factors add up to 1: the straight line of flow matching and of linear interpolants.
    Straight,
}

/// The cosine schedule of Nichol and Dhariwal (2021), with that of the dynamical operator beside it, or a straight line.
///
/// Everything is kept in f64 and rounded where it meets a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// How signal and noise are mixed.
    pub path: Path,
    /// Variance added by each step.
    pub beta: Vec<f64>,
    /// Product of `1 - beta`: the share of signal variance left.
    pub alpha_bar: Vec<f64>,
    /// As `beta`, of the operator.
    pub gamma: Vec<f64>,
    /// Product of `1 - gamma`: the operator's parameter g.
    pub g: Vec<f64>,
}

/// The coefficients of one instant: `x = alpha * signal + sigma * noise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instant {
    /// Diffusion index that the network is told; `None` at the end of sampling, where there is no noise.
    pub step: Option<usize>,
    /// Factor of the signal.
    pub alpha: f64,
    /// Factor of the noise.
    pub sigma: f64,
    /// Parameter of the operator D.
    pub g: f64,
}

impl Instant {
    /// Without noise.
    pub const CLEAN: Self = Self { step: None, alpha: 1.0, sigma: 0.0, g: 1.0 };

    /// Half the logarithm of the signal-to-noise ratio; infinite without noise.
    pub fn lambda(&self) -> f64 {
        (self.alpha / self.sigma).ln()
    }

    /// Noise relative to the signal.
    pub fn kappa(&self) -> f64 {
        self.sigma / self.alpha
    }
}

/// The noisiest step that solvers visit, the first of the published 50: noise with 3 % of the signal. Beyond it an error of the
/// predicted noise would be magnified without bounds.
const FIRST: usize = 981;

/// A published grid that begins before this step, with more than 15 % of the signal, does not begin with noise.
const LEAST_FIRST: usize = 901;

/// Which diffusion steps a solver visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// Evenly in the index: `1 + i * (1000 / n)`, as published, where that begins in the noise, at step 901 or later. With fewer
    /// than 10 steps, with numbers of steps whose division leaves much over, such as 334, and on the straight line
    /// `981 - i * 981 / n`.
    UniformT,
    /// Evenly in the logarithm of the signal-to-noise ratio, from step 981 to 21, rounded to whole steps.
    UniformLambda,
}

impl Schedule {
    /// With the operator's share `ratio`, 0 to 1; above 0.9 the inverse operator is fragile.
    ///
    /// ```
    /// use squall_models::diffusion::Schedule;
    /// let plain = Schedule::cosine(0.0);
    /// assert!(plain.g.iter().all(|g| *g == 1.0));
    /// ```
    pub fn cosine(ratio: f64) -> Self {
        let n = STEPS as f64;
        let f = |i: usize| (((i as f64 / n + 0.008) / 1.008) * FRAC_PI_2).cos().powi(2);
        let signal: Vec<f64> = (0..=STEPS).map(|i| f(i) / f(0)).collect();
        let operator: Vec<f64> = signal.iter().map(|s| ratio * s + (1.0 - ratio)).collect();
        let increments = |h: &[f64]| h.windows(2).map(|w| (1.0 - w[1] / w[0]).clamp(0.0, 0.999)).collect::<Vec<_>>();
        let products = |b: &[f64]| {
            let mut product = 1.0;
            b.iter()
                .map(|b| {
                    product *= 1.0 - b;
                    product
                })
                .collect::<Vec<_>>()
        };
        let (beta, gamma) = (increments(&signal), increments(&operator));
        Self { path: Path::VariancePreserving, alpha_bar: products(&beta), g: products(&gamma), beta, gamma }
    }

    /// The straight line from signal to noise: after a share t of it `x = (1 - t) signal + t noise` (Lipman et al. 2023, Liu et
    /// al. 2023). Its time is continuous; the network is told it in thousandths, and index k stands for t = (k + 1/2) / 1000.
    pub fn straight() -> Self {
        let plain = Self::cosine(0.0);
        Self { path: Path::Straight, ..plain }
    }

    /// The coefficients at a diffusion index; beyond the last index, those of the last.
    pub fn at(&self, step: usize) -> Instant {
        let step = step.min(STEPS - 1);
        if self.path == Path::Straight {
            let share = (step as f64 + 0.5) / STEPS as f64;
            return Instant { step: Some(step), alpha: 1.0 - share, sigma: share, g: 1.0 };
        }
        let ab = self.alpha_bar[step];
        Instant { step: Some(step), alpha: ab.sqrt(), sigma: (1.0 - ab).sqrt(), g: self.g[step] }
    }

    /// `count` instants (1 to 500), noisiest first; a solver then goes from the last one to [`Instant::CLEAN`].
    pub fn grid(&self, grid: Grid, count: usize) -> Vec<Instant> {
        let count = count.clamp(1, STEPS / 2);
        let steps = match grid {
            Grid::UniformT => self.uniform_t(count),
            Grid::UniformLambda => self.uniform_lambda(count),
        };
        steps.into_iter().map(|k| self.at(k)).collect()
    }

    fn uniform_t(&self, count: usize) -> Vec<usize> {
        let published = |i: usize| 1 + i * (STEPS / count);
        if self.path == Path::VariancePreserving && published(count - 1) >= LEAST_FIRST {
            return (0..count).rev().map(published).collect();
        }
        (0..count).map(|i| FIRST - i * FIRST / count).collect()
    }

    fn uniform_lambda(&self, count: usize) -> Vec<usize> {
        const LAST: usize = 21;
        let (from, to) = (self.at(FIRST).lambda(), self.at(LAST).lambda());
        let mut steps: Vec<usize> = (0..count)
            .map(|i| {
                let share = i as f64 / (count.max(2) - 1) as f64;
                self.nearest(from + share * (to - from))
            })
            .collect();
        steps.dedup();
        steps
    }

    /// The index whose lambda lies nearest; lambda falls as the index grows.
    fn nearest(&self, lambda: f64) -> usize {
        let distance = |k: &usize| (self.at(*k).lambda() - lambda).abs();
        (0..STEPS).min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("a schedule has steps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_descend_from_981_to_the_last_step() {
        let schedule = Schedule::cosine(0.5);
        let steps = |grid, n| schedule.grid(grid, n).iter().filter_map(|i| i.step).collect::<Vec<_>>();
        let official = steps(Grid::UniformT, 50);
        assert_eq!((official.len(), official[0], official[49]), (50, 981, 1));
        let even = steps(Grid::UniformLambda, 10);
        assert_eq!((even.len(), even[0], even[9]), (10, 981, 21));
        assert!(even.windows(2).all(|w| w[0] > w[1]));
    }

    #[test]
    fn every_grid_begins_in_the_noise_however_few_its_steps() {
        for schedule in [Schedule::cosine(0.0), Schedule::straight()] {
            for count in 1..=STEPS / 2 {
                let grid = schedule.grid(Grid::UniformT, count);
                assert_eq!(grid.len(), count);
                assert!(grid[0].alpha < 0.16, "{count} steps begin with {:.2} of the signal", grid[0].alpha);
                assert!(grid.windows(2).all(|w| w[0].step > w[1].step), "{count}");
            }
            for (grid, count) in [(Grid::UniformT, 1), (Grid::UniformLambda, 1), (Grid::UniformT, 2)] {
                assert_eq!(schedule.grid(grid, count)[0].step, Some(981), "{grid:?} {count}");
            }
        }
        let steps =
            |schedule: Schedule| schedule.grid(Grid::UniformT, 10).iter().filter_map(|i| i.step).collect::<Vec<_>>();
        assert_eq!(steps(Schedule::cosine(0.0)), [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]);
        assert_eq!(steps(Schedule::straight()), [981, 883, 785, 687, 589, 491, 393, 295, 197, 99]);
    }

    #[test]
    fn signal_and_noise_share_the_variance() {
        for k in [0, 500, 999] {
            let i = Schedule::cosine(0.9).at(k);
            assert!((i.alpha * i.alpha + i.sigma * i.sigma - 1.0).abs() < 1e-12);
        }
    }
}
