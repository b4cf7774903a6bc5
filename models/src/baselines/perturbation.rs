//! Motion that differs from member to member, as its errors do.
//!
//! After Bowler, Pierce and Seed (2006): the error of the motion, split into a part along it and a
//! part across it, is drawn once for each member and grows with the lead time.

use ndarray::Zip;
use serde::{Deserialize, Serialize};
use squall_fields::{Grid, random::Philox};

use super::{
    advection::{Displacement, displacements},
    motion::MotionField,
};

/// Standard deviation of the motion's error at lead `t` in minutes: `factor * t^exponent + offset`, in
/// km/h, and never less than 0 (it would be at the shortest leads).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// In km/h.
    pub factor: f64,
    /// Without unit.
    pub exponent: f64,
    /// In km/h.
    pub offset: f64,
}

impl Growth {
    /// Standard deviation in km/h at a lead in minutes.
    ///
    /// ```
    /// use squall_models::baselines::perturbation::Growth;
    /// let growth = Growth { factor: 10.88, exponent: 0.23, offset: -7.68 };
    /// assert_eq!(growth.at(0.1), 0.0);
    /// assert!((growth.at(60.0) - 20.22).abs() < 0.01);
    /// ```
    pub fn at(&self, minutes: f64) -> f64 {
        (self.factor * minutes.powf(self.exponent) + self.offset).max(0.0)
    }
}

/// Strength of the perturbations along and across the motion; the defaults were fitted by Bowler et al.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerturbationParams {
    /// Along the motion.
    pub parallel: Growth,
    /// Across the motion.
    pub perpendicular: Growth,
}

impl Default for PerturbationParams {
    fn default() -> Self {
        Self {
            parallel: Growth { factor: 10.88, exponent: 0.23, offset: -7.68 },
            perpendicular: Growth { factor: 5.76, exponent: 0.31, offset: -2.72 },
        }
    }
}

/// One member's error, in standard deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draw {
    pub(super) parallel: f64,
    pub(super) perpendicular: f64,
}

impl Draw {
    /// Two numbers from the Laplace distribution of unit variance.
    pub(crate) fn new(random: Philox) -> Self {
        Self { parallel: laplace(random.uniform(0)), perpendicular: laplace(random.uniform(1)) }
    }
}

/// Quantile `p` in [0, 1) of the Laplace distribution with variance 1.
fn laplace(p: f64) -> f64 {
    let centred = p - 0.5;
    // The smallest uniform number is 0, whose quantile would be infinite.
    -centred.signum() * (1.0 - 2.0 * centred.abs()).max(f64::EPSILON).ln() * std::f64::consts::FRAC_1_SQRT_2
}

/// Size of a cell and length of a step, which turn km/h into cells per step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Kilometres from column to column and from row to row.
    pub(crate) cell_km: [f64; 2],
    /// Minutes from frame to frame.
    pub(crate) step_minutes: f64,
}

impl Scale {
    /// As [`Grid::spacing_m`] has it; a grid whose reference system cannot be read is taken to be in metres.
    pub(crate) fn new(grid: &Grid, step_seconds: i64) -> Self {
        let (dy, dx) = grid.spacing_m().unwrap_or((grid.y.step.abs(), grid.x.step.abs()));
        Self { cell_km: [dx / 1000.0, dy / 1000.0], step_minutes: step_seconds as f64 / 60.0 }
    }
}

/// The motion of a member at a lead in minutes, on the nodes of the mean motion.
///
/// The direction is that of the motion at each node. Where there is none, the mean direction stands
/// in for it, and without any motion the x axis, so that a calm does not pretend to be certain.
pub(crate) fn perturbed(
    motion: &MotionField,
    draw: Draw,
    params: &PerturbationParams,
    scale: Scale,
    minutes: f64,
) -> MotionField {
    let [dx, dy] = scale.cell_km;
    let hours = scale.step_minutes / 60.0;
    let along = draw.parallel * params.parallel.at(minutes) * hours;
    let across = draw.perpendicular * params.perpendicular.at(minutes) * hours;
    let (mean_u, mean_v) = motion.mean();
    let fallback = direction(f64::from(mean_u) * dx, f64::from(mean_v) * dy).unwrap_or([1.0, 0.0]);
    let mut out = motion.clone();
    Zip::from(&mut out.u).and(&mut out.v).for_each(|u, v| {
        let [x, y] = direction(f64::from(*u) * dx, f64::from(*v) * dy).unwrap_or(fallback);
        *u += ((along * x - across * y) / dx) as f32;
        *v += ((along * y + across * x) / dy) as f32;
    });
    out
}

/// Where a member's trajectories began, at each of the ascending times in steps: its error is drawn once, and grows.
pub(crate) fn member_paths(
    motion: &MotionField,
    random: Philox,
    params: &PerturbationParams,
    scale: Scale,
    steps: &[f32],
) -> Vec<Displacement> {
    let draw = Draw::new(random);
    displacements(steps, Displacement::zero(motion), |path, part, now| {
        let minutes = f64::from(now) * scale.step_minutes;
        path.advance(&perturbed(motion, draw, params, scale, minutes), part);
    })
}

/// The unit vector, unless the length is next to nothing.
fn direction(x: f64, y: f64) -> Option<[f64; 2]> {
    let length = x.hypot(y);
    (length > 1e-6).then(|| [x / length, y / length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laplace_has_unit_variance_and_is_symmetric() {
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|i| laplace((f64::from(i) + 0.5) / f64::from(n))).collect();
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!((variance - 1.0).abs() < 1e-3, "{variance}");
        assert!(draws.iter().sum::<f64>().abs() < 1e-6);
        assert!(laplace(0.0).is_finite());
    }

    #[test]
    fn along_lengthens_and_across_turns() {
        let motion = MotionField::uniform((10, 10), 3.0, 4.0);
        let scale = Scale { cell_km: [1.0, 1.0], step_minutes: 5.0 };
        let growth = Growth { factor: 12.0, exponent: 0.0, offset: 0.0 };
        let params = PerturbationParams { parallel: growth, perpendicular: growth };
        let run = |parallel, perpendicular| {
            perturbed(&motion, Draw { parallel, perpendicular }, &params, scale, 5.0).at(5.0, 5.0)
        };
        let close = |a: (f32, f32), b: (f32, f32)| (a.0 - b.0).abs() < 1e-5 && (a.1 - b.1).abs() < 1e-5;
        assert!(close(run(1.0, 0.0), (3.6, 4.8)), "12 km/h are one cell in 5 min");
        assert!(close(run(0.0, 1.0), (2.2, 4.6)));
    }

    #[test]
    fn cells_in_degrees_shrink_towards_the_pole() {
        let axis = |first, step| squall_fields::Axis { first, step, len: 3 };
        let grid = Grid { proj: "+proj=longlat".into(), wkt: None, x: axis(10.0, 0.1), y: axis(60.1, -0.1) };
        let scale = Scale::new(&grid, 300);
        assert!((scale.cell_km[0] - 5.56).abs() < 0.01 && (scale.cell_km[1] - 11.12).abs() < 0.01, "{scale:?}");
    }
}
