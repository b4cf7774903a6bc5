//! How frames are noised: the variance-preserving process, seen through the dynamical operator.
//!
//! With `y = D_g^-1(x)` the dynamical process is an ordinary variance-preserving diffusion whose network is
//! `eps_y(y) = D_g^-1(eps(D_g(y)))`. So samplers know `y` alone, and one core serves plain and dynamical models; only
//! the training loss lives in x.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::operator;
use super::schedule::{Instant, Schedule};

/// What the network's output means, in x-space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The noise E.
    #[default]
    Noise,
    /// `alpha E - sigma D(x_0)`: well scaled at every step, better with few steps (Salimans and Ho 2022).
    Velocity,
}

/// Which process noises frames.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProcessConfig {
    /// Each frame is noised on its own.
    // With braces: a unit variant would take any field beside its tag.
    Plain {},
    /// Each frame's noisy state also holds its past, by the operator of DyDiff.
    Dynamical {
        /// Share of the operator: more than 0, at most 1; above 0.9 its inverse is fragile.
        ratio: f64,
    },
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self::Plain {}
    }
}

impl ProcessConfig {
    /// Of the operator's share alone, in which 0 is plain diffusion.
    ///
    /// ```
    /// use squall_models::diffusion::ProcessConfig;
    /// assert_eq!(ProcessConfig::of_ratio(0.0), ProcessConfig::Plain {});
    /// assert_eq!(ProcessConfig::of_ratio(0.5).ratio(), 0.5);
    /// ```
    pub fn of_ratio(ratio: f64) -> Self {
        if ratio == 0.0 { Self::Plain {} } else { Self::Dynamical { ratio } }
    }

    /// The operator's share; 0 without one.
    pub const fn ratio(self) -> f64 {
        match self {
            Self::Plain {} => 0.0,
            Self::Dynamical { ratio } => ratio,
        }
    }

    /// What is wrong with it, in a sentence.
    pub fn fault(self) -> Option<String> {
        match self {
            Self::Dynamical { ratio } if !(ratio > 0.0 && ratio <= 1.0) => {
                Some(format!("ratio {ratio} of the dynamical process lies outside 0 to 1"))
            }
            _ => None,
        }
    }
}

/// The noising of frames `[sample, frame, channel, y, x]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Which process it is.
    pub config: ProcessConfig,
    /// Coefficients of each diffusion step.
    pub schedule: Schedule,
    /// What the network predicts.
    pub target: Target,
}

/// What one training step needs, each `[sample, frame, channel, y, x]`.
#[derive(Debug)]
pub struct Noised {
    /// `x_k`, the network's noisy input.
    pub x: Tensor,
    /// `E = D(e)`, the noise in x-space.
    pub noise: Tensor,
    /// What the network shall predict.
    pub target: Tensor,
}

impl Process {
    /// On the cosine schedule; the network predicts noise.
    pub fn new(config: ProcessConfig) -> Self {
        Self { config, schedule: Schedule::cosine(config.ratio()), target: Target::Noise }
    }

    /// With another meaning of the network's output.
    pub fn with_target(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// Noises clean frames, each sample with its own diffusion index; `noise` is standard normal.
    pub fn noised(&self, clean: &Tensor, noise: &Tensor, steps: &[usize]) -> Noised {
        let at: Vec<Instant> = steps.iter().map(|k| self.schedule.at(*k)).collect();
        let g: Vec<f64> = at.iter().map(|i| i.g).collect();
        let column = |f: fn(&Instant) -> f64| {
            let values: Vec<f32> = at.iter().map(|i| f(i) as f32).collect();
            Tensor::from_slice(&values).to_device(clean.device()).reshape([-1, 1, 1, 1, 1])
        };
        let (alpha, sigma) = (column(|i| i.alpha), column(|i| i.sigma));
        let through = |x: &Tensor| match self.config {
            ProcessConfig::Plain {} => x.shallow_clone(),
            ProcessConfig::Dynamical { .. } => operator::apply_each(x, &g),
        };
        let (signal, noise) = (through(clean), through(noise));
        let x = &signal * &alpha + &noise * &sigma;
        let target = match self.target {
            Target::Noise => noise.shallow_clone(),
            Target::Velocity => &noise * alpha - signal * sigma,
        };
        Noised { x, noise, target }
    }

    /// The noise that a network's output means at an instant, in x-space.
    pub fn noise_of(&self, output: Tensor, x: &Tensor, at: &Instant) -> Tensor {
        match self.target {
            Target::Noise => output,
            Target::Velocity => output * at.alpha + x * at.sigma,
        }
    }

    /// From y-space, in which solvers work, to x-space, in which the network works.
    pub fn to_network(&self, y: &Tensor, at: &Instant) -> Tensor {
        operator::apply(y, at.g)
    }

    /// From x-space to y-space.
    pub fn from_network(&self, x: &Tensor, at: &Instant) -> Tensor {
        operator::invert(x, at.g)
    }
}

/// The indices of a batch as the network takes them.
pub fn step_tensor(steps: &[usize], device: tch::Device) -> Tensor {
    let steps: Vec<i64> = steps.iter().map(|k| *k as i64).collect();
    Tensor::from_slice(&steps).to_kind(Kind::Int64).to_device(device)
}
