//! Solvers: how a sampler goes from one instant to the next.
//!
//! A solver sees the variance-preserving process in y-space alone: the state, the noise predicted in it, and the
//! coefficients of the two instants. It knows neither networks, conditions, guidance nor tiles, so each drives all of
//! them. Every one takes a single evaluation of the network a step and remembers what it needs of the steps before.

mod ddim;
mod dpm2m;
mod evodiff;
mod ghvb;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::schedule::{Grid, Instant, Schedule};

pub use ddim::Ddim;
pub use dpm2m::Dpm2m;
pub use evodiff::Evodiff;
pub use ghvb::Ghvb;

/// Takes one step after another, from noise to data.
pub trait Solver {
    /// From the state `y` at `from`, in which the network found `noise`, to the state at `to`. States are
    /// `[sample, frame, channel, y, x]`.
    fn step(&mut self, y: &Tensor, noise: &Tensor, from: &Instant, to: &Instant) -> Tensor;
}

/// A solver by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Song et al. (2021), deterministic: first order.
    Ddim,
    /// DPM-Solver++(2M) of Lu et al. (2022): second order in data prediction. Wants a grid uniform in lambda.
    Dpm2m,
    /// The same with a last step of first order, steadier with few steps on a grid that is uneven in lambda.
    Dpm2mSteady,
    /// Generalised heavy ball of Wizadwongsa et al. (2024), of any order from 0 to 4; 1 is DDIM.
    Ghvb(f64),
    /// Entropy-aware variance optimised inference (Li et al. 2025): second order in data prediction,
    /// its factors chosen from the predictions.
    Evodiff,
}

/// How to sample: which solver, on which grid, with how many evaluations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolverConfig {
    /// The solver.
    pub method: Method,
    /// Where it evaluates the network.
    pub grid: Grid,
    /// How often it evaluates the network.
    pub steps: usize,
}

impl Default for SolverConfig {
    /// DPM-Solver++(2M) with 10 evaluations, uniform in lambda.
    fn default() -> Self {
        Self { method: Method::Dpm2m, grid: Grid::UniformLambda, steps: 10 }
    }
}

impl SolverConfig {
    /// A solver at the start of the way along the instants of [`SolverConfig::instants`].
    pub fn solver(&self, instants: &[Instant]) -> Box<dyn Solver> {
        match self.method {
            Method::Ddim => Box::new(Ddim),
            Method::Dpm2m => Box::new(Dpm2m::new()),
            Method::Dpm2mSteady => Box::new(Dpm2m::steady(instants.len().saturating_sub(1))),
            Method::Ghvb(order) => Box::new(Ghvb::new(order)),
            Method::Evodiff => Box::new(Evodiff::new(instants)),
        }
    }

    /// The instants that it visits, noisiest first, the clean end last.
    pub fn instants(&self, schedule: &Schedule) -> Vec<Instant> {
        let mut instants = schedule.grid(self.grid, self.steps);
        instants.push(Instant::CLEAN);
        instants
    }
}

/// The clean frames that a state and its noise imply.
pub fn clean(y: &Tensor, noise: &Tensor, at: &Instant) -> Tensor {
    (y - noise * at.sigma) / at.alpha
}

#[cfg(test)]
mod tests;
