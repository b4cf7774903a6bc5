//! Denoising diffusion implicit models, without added noise.

use tch::Tensor;

use super::{Instant, Solver, clean};

/// The first-order solver: as if the predicted noise stayed the same until the next instant.
#[derive(Debug)]
pub struct Ddim;

impl Solver for Ddim {
    fn step(&mut self, y: &Tensor, noise: &Tensor, from: &Instant, to: &Instant) -> Tensor {
        clean(y, noise, from) * to.alpha + noise * to.sigma
    }
}
