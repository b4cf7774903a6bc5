//! How frames are noised: the variance-preserving process, seen through the dynamical operator.
//!
//! With `y = D_g^-1(x)` the dynamical process is an ordinary variance-preserving diffusion whose network is
//! `eps_y(y) = D_g^-1(eps(D_g(y)))`. So samplers know `y` alone, and one core serves plain and dynamical models; only
//! the training loss lives in x.

use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use tch::{Kind, Tensor};

use super::operator;
use super::schedule::{Instant, Path, Schedule};
use crate::device;

/// What the network's output means, in x-space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The noise E.
    #[default]
    Noise,
    /// `alpha E - sigma D(x_0)`: well scaled at every step, better with few steps (Salimans and Ho 2022). On the straight line
    /// of a flow `E - x_0`, the velocity along it.
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
    /// Frames go to noise along a straight line: flow matching, the linear stochastic interpolant.
    Flow {},
    /// The Poisson flow of Xu et al. (PFGM++, 2023) in so many more dimensions: noise as of [`ProcessConfig::Plain`], its size
    /// drawn anew for each sample, with the heavier tails the fewer the dimensions.
    Poisson {
        /// Dimensions beyond those of the data, at least 1; many thousands are plain diffusion.
        dimensions: u32,
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
            Self::Plain {} | Self::Flow {} | Self::Poisson { .. } => 0.0,
            Self::Dynamical { ratio } => ratio,
        }
    }

    /// What is wrong with it, in a sentence.
    pub fn fault(self) -> Option<String> {
        match self {
            Self::Dynamical { ratio } if !(ratio > 0.0 && ratio <= 1.0) => {
                Some(format!("ratio {ratio} of the dynamical process lies outside 0 to 1"))
            }
            Self::Poisson { dimensions } if dimensions == 0 || dimensions > MOST_DIMENSIONS => {
                Some(format!("the poisson process has 1 to {MOST_DIMENSIONS} dimensions, not {dimensions}"))
            }
            _ => None,
        }
    }
}

/// More dimensions than that are plain diffusion.
const MOST_DIMENSIONS: u32 = 1 << 20;

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
    /// On the cosine schedule, or the straight line; the network predicts noise.
    pub fn new(config: ProcessConfig) -> Self {
        let schedule = match config {
            ProcessConfig::Flow {} => Schedule::straight(),
            _ => Schedule::cosine(config.ratio()),
        };
        Self { config, schedule, target: Target::Noise }
    }

    /// With another meaning of the network's output.
    pub fn with_target(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// What standard normal noise of a sample is multiplied by, a function of its random numbers from a position on: not 1
    /// for the Poisson flow alone.
    ///
    /// With D dimensions more than the data has, noise of size sigma has the density of a Student distribution of D degrees of
    /// freedom: `(|x|^2 + sigma^2 D)^(-(N + D) / 2)`.
    pub fn noise_factor(&self, random: &Philox, from: u64) -> f64 {
        let ProcessConfig::Poisson { dimensions } = self.config else { return 1.0 };
        let mut normal = vec![0f32; dimensions as usize];
        random.fill_normal(from, &mut normal);
        let chi_square: f64 = normal.iter().map(|v| f64::from(*v).powi(2)).sum();
        (f64::from(dimensions) / chi_square.max(1e-12)).sqrt()
    }

    /// Noises clean frames, each sample with its own diffusion index; `noise` is standard normal times
    /// [`Process::noise_factor`].
    pub fn noised(&self, clean: &Tensor, noise: &Tensor, steps: &[usize]) -> Noised {
        let at: Vec<Instant> = steps.iter().map(|k| self.schedule.at(*k)).collect();
        let g: Vec<f64> = at.iter().map(|i| i.g).collect();
        let column = |f: fn(&Instant) -> f64| {
            let values: Vec<f32> = at.iter().map(|i| f(i) as f32).collect();
            device::sent(&Tensor::from_slice(&values), clean.device()).reshape([-1, 1, 1, 1, 1])
        };
        let (alpha, sigma) = (column(|i| i.alpha), column(|i| i.sigma));
        let through = |x: &Tensor| match self.config {
            ProcessConfig::Dynamical { .. } => operator::apply_each(x, &g),
            ProcessConfig::Plain {} | ProcessConfig::Flow {} | ProcessConfig::Poisson { .. } => x.shallow_clone(),
        };
        let (signal, noise) = (through(clean), through(noise));
        let x = &signal * &alpha + &noise * &sigma;
        let target = match (self.target, self.schedule.path) {
            (Target::Noise, _) => noise.shallow_clone(),
            (Target::Velocity, Path::VariancePreserving) => &noise * alpha - signal * sigma,
            (Target::Velocity, Path::Straight) => &noise - signal,
        };
        Noised { x, noise, target }
    }

    /// The state in y-space that sampling begins with at an instant, of `noise` as [`Process::noised`] takes it.
    ///
    /// As large as the state of data of variance 1 is there: the noise itself where the variance is preserved, with its own tails
    /// for the Poisson flow, whose prior in all dimensions leaves just these in those of the data; on the straight line
    /// `sqrt(alpha^2 + sigma^2)` times the noise.
    pub fn start(&self, noise: &Tensor, at: &Instant) -> Tensor {
        match self.schedule.path {
            Path::VariancePreserving => noise.shallow_clone(),
            Path::Straight => noise * at.alpha.hypot(at.sigma),
        }
    }

    /// The noise that a network's output means at an instant, in x-space.
    pub fn noise_of(&self, output: Tensor, x: &Tensor, at: &Instant) -> Tensor {
        match (self.target, self.schedule.path) {
            (Target::Noise, _) => output,
            (Target::Velocity, Path::VariancePreserving) => output * at.alpha + x * at.sigma,
            (Target::Velocity, Path::Straight) => output * at.alpha + x,
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
    device::sent(&Tensor::from_slice(&steps).to_kind(Kind::Int64), device)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::diffusion::solver::{Ddim, Solver, clean};

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn a_flow_is_a_straight_line_and_a_step_along_it_is_eulers() {
        let process = Process::new(ProcessConfig::Flow {}).with_target(Target::Velocity);
        let (x0, e) = (
            Tensor::arange(6, OPTIONS).reshape([1, 6, 1, 1, 1]),
            Tensor::arange(6, OPTIONS).cos().reshape([1, 6, 1, 1, 1]),
        );
        let Noised { x, target, .. } = process.noised(&x0, &e, &[699]);
        let close = |a: &Tensor, b: &Tensor| assert!((a - b).abs().max().double_value(&[]) < 1e-5, "{a} {b}");
        // A share t of the way: (1 - t) x0 + t e, velocity e - x0.
        let (from, to) = (process.schedule.at(699), process.schedule.at(299));
        close(&x, &(&x0 * 0.3005 + &e * 0.6995));
        close(&target, &(&e - &x0));
        let found = process.noise_of(target.shallow_clone(), &x, &from);
        close(&found, &e);
        close(&clean(&x, &found, &from), &x0);
        let euler = &x + &target * (to.sigma - from.sigma);
        close(&Ddim.step(&x, &found, &from, &to), &euler);
    }

    #[test]
    fn sampling_begins_with_states_as_large_as_those_of_noised_data() {
        const SAMPLES: u64 = 20_000;
        let values = |of: &dyn Fn(u64) -> f64| {
            let values: Vec<f32> = (0..SAMPLES).map(|sample| of(sample) as f32).collect();
            Tensor::from_slice(&values).reshape([-1, 1, 1, 1, 1])
        };
        let normal = |sample: u64| f64::from(Philox::new(4, sample).normal(0)[0]);
        let clean = values(&|sample| f64::from(Philox::new(5, sample).normal(0)[0]));
        // Three quarters are smaller.
        let size = |x: &Tensor| {
            let mut sizes: Vec<f32> = Vec::try_from(x.abs().reshape([-1])).unwrap();
            sizes.sort_by(f32::total_cmp);
            f64::from(sizes[sizes.len() * 3 / 4])
        };
        for (config, step) in [
            (ProcessConfig::Plain {}, 981),
            (ProcessConfig::Flow {}, 981),
            (ProcessConfig::Flow {}, 881),
            (ProcessConfig::Poisson { dimensions: 4 }, 981),
        ] {
            let process = Process::new(config);
            let factor = |sample: u64| process.noise_factor(&Philox::new(6, sample), 0);
            let noise = values(&|sample| normal(sample) * factor(sample));
            let start = process.start(&noise, &process.schedule.at(step));
            let noised = process.noised(&clean, &noise, &vec![step; SAMPLES as usize]).x;
            let (start, noised) = (size(&start), size(&noised));
            assert!((start / noised - 1.0).abs() < 0.02, "{config:?} at {step}: {start} for {noised}");
        }
    }

    #[test]
    fn noise_of_a_poisson_flow_has_the_tails_of_its_dimensions() {
        let quantile = |dimensions: u32, share: f64| {
            let process = Process::new(ProcessConfig::Poisson { dimensions });
            let mut sizes: Vec<f64> = (0..40_000)
                .map(|sample| {
                    let one = Philox::new(1, 2 * sample);
                    process.noise_factor(&one, 0) * f64::from(Philox::new(1, 2 * sample + 1).normal(0)[0])
                })
                .collect();
            sizes.sort_by(f64::total_cmp);
            sizes[(share * sizes.len() as f64) as usize]
        };
        // Quantiles of the Student distribution: the density of the published perturbation with one dimension of data.
        for (dimensions, share, expected) in [(3, 0.75, 0.7649), (3, 0.975, 3.1824), (10, 0.975, 2.2281)] {
            let found = quantile(dimensions, share);
            assert!((found / expected - 1.0).abs() < 0.05, "{dimensions} {share}: {found} for {expected}");
        }
        let plain = quantile(2_000, 0.0);
        assert!(plain > -6.0, "many dimensions are plain diffusion: {plain}");
        assert_eq!(Process::new(ProcessConfig::Plain {}).noise_factor(&Philox::new(1, 1), 0), 1.0);
    }
}
