//! DPM-Solver++(2M).

use tch::Tensor;

use super::{Instant, Solver, clean};

/// Second order in the clean prediction, extrapolated in lambda from the step before.
#[derive(Debug)]
pub struct Dpm2m {
    before: Option<(Tensor, f64)>,
    /// Steps to go until one of first order, if there is one.
    second_order_left: usize,
}

impl Dpm2m {
    /// Of second order to the end.
    pub fn new() -> Self {
        Self { before: None, second_order_left: usize::MAX }
    }

    /// With a last step of first order, of a way with so many evaluations of the network.
    pub fn steady(evaluations: usize) -> Self {
        Self { before: None, second_order_left: evaluations.saturating_sub(2) }
    }
}

impl Default for Dpm2m {
    fn default() -> Self {
        Self::new()
    }
}

impl Solver for Dpm2m {
    fn step(&mut self, y: &Tensor, noise: &Tensor, from: &Instant, to: &Instant) -> Tensor {
        let now = clean(y, noise, from);
        let before = self.before.replace((now.shallow_clone(), from.lambda()));
        if to.sigma == 0.0 {
            return now;
        }
        let h = to.lambda() - from.lambda();
        let direction = match before {
            Some((before, lambda)) if self.second_order_left > 0 => {
                let r = (from.lambda() - lambda) / h;
                &now + (&now - before) / (2.0 * r)
            }
            _ => now,
        };
        self.second_order_left = self.second_order_left.saturating_sub(1);
        y * (to.sigma / from.sigma) - direction * (to.alpha * (-h).exp_m1())
    }
}
