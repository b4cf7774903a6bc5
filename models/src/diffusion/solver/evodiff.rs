//! EVODiff.

use tch::Tensor;

use super::{Instant, Solver, clean};

/// Second order in the clean prediction, extrapolated in alpha/sigma from the step before.
#[derive(Debug, Default)]
pub struct Evodiff {
    before: Option<(Tensor, f64)>,
}

impl Solver for Evodiff {
    fn step(&mut self, y: &Tensor, noise: &Tensor, from: &Instant, to: &Instant) -> Tensor {
        let now = clean(y, noise, from);
        let here = from.alpha / from.sigma;
        let before = self.before.replace((now.shallow_clone(), here));
        if to.sigma == 0.0 {
            return now;
        }
        let h = to.alpha / to.sigma - here;
        let mut next = y / from.sigma + &now * h;
        if let Some((before, there)) = before {
            next = next + (now - before) * (0.5 * h * h / (here - there));
        }
        next * to.sigma
    }
}
