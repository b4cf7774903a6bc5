//! From noise and a condition to frames.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::denoiser::{Condition, Denoiser};
use super::guidance::{Fields, Guidance, Precision};
use super::process::Process;
use super::schedule::Instant;
use super::solver::{SolverConfig, clean};

/// How to sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Solver, grid and number of steps.
    pub solver: SolverConfig,
    /// Guidance.
    pub guidance: Guidance,
    /// Do not sample: every member is the mean that the predictive stream says, of a model that has one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mean: bool,
}

/// What sampling gives.
#[derive(Debug)]
pub struct Sample {
    /// `[sample, frame, channel, y, x]`: the whole clip, history included.
    pub frames: Tensor,
    /// `[sample, lead, y, x]`, of guided sampling with enough steps: where the forecast kept changing.
    pub precision: Option<Tensor>,
}

impl Sample {
    /// One sample of a batch, as a batch of its own.
    pub fn at(&self, index: i64) -> Self {
        let of = |all: &Tensor| all.narrow(0, index, 1);
        Self { frames: of(&self.frames), precision: self.precision.as_ref().map(of) }
    }
}

/// What an observer of sampling sees after each step.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Number of the step, from 0.
    pub step: usize,
    /// The clean frames predicted at its start, `[sample, frame, channel, y, x]`.
    pub clean: &'a Tensor,
    /// The state at its end, in y-space.
    pub y: &'a Tensor,
    /// The instant at its end.
    pub at: Instant,
}

/// Draws samples of frames for a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    /// How frames are noised.
    pub process: Process,
    /// How to sample.
    pub config: SamplerConfig,
}

impl Sampler {
    /// Samples clips from standard normal `noise` `[sample, frame, channel, y, x]`. Takes no gradients. The precision
    /// is that of every frame as it is; of a forecast ask [`Sampler::sample_fields`].
    pub fn sample(&self, denoiser: &dyn Denoiser, condition: &Condition, noise: &Tensor) -> Sample {
        self.sample_observed(denoiser, condition, noise, &mut |_| ())
    }

    /// As [`Sampler::sample`], with the precision of the fields that clips are read as.
    pub fn sample_fields(
        &self,
        denoiser: &dyn Denoiser,
        condition: &Condition,
        noise: &Tensor,
        fields: &Fields,
    ) -> Sample {
        tch::no_grad(|| self.run(denoiser, condition, noise, fields, &mut |_| ()))
    }

    /// As [`Sampler::sample`], showing each step to an observer.
    pub fn sample_observed(
        &self,
        denoiser: &dyn Denoiser,
        condition: &Condition,
        noise: &Tensor,
        observe: &mut dyn FnMut(&Progress),
    ) -> Sample {
        // Of this thread alone, hence here.
        tch::no_grad(|| self.run(denoiser, condition, noise, &Fields::default(), observe))
    }

    fn run(
        &self,
        denoiser: &dyn Denoiser,
        condition: &Condition,
        noise: &Tensor,
        fields: &Fields,
        observe: &mut dyn FnMut(&Progress),
    ) -> Sample {
        let instants = self.config.solver.instants(&self.process.schedule);
        let mut solver = self.config.solver.solver(&instants);
        let mut precision = match &self.config.guidance {
            Guidance::None => None,
            Guidance::Precision(config) => Some(Precision::new(config, fields)),
        };
        let mut y = self.process.start(noise, &instants[0]);
        for (step, pair) in instants.windows(2).enumerate() {
            let (from, to) = (&pair[0], &pair[1]);
            let noise = self.noise(denoiser, condition, &y, from, step, precision.as_mut());
            let next = solver.step(&y, &noise, from, to);
            observe(&Progress { step, clean: &clean(&y, &noise, from), y: &next, at: *to });
            y = next;
        }
        Sample { frames: y, precision: precision.and_then(|p| p.map()) }
    }

    /// The guided noise in y-space.
    fn noise(
        &self,
        denoiser: &dyn Denoiser,
        condition: &Condition,
        y: &Tensor,
        at: &Instant,
        step: usize,
        precision: Option<&mut Precision>,
    ) -> Tensor {
        let x = self.process.to_network(y, at);
        let from_network = |noise: Tensor| self.process.from_network(&noise, at);
        let (Guidance::Precision(config), Some(precision)) = (&self.config.guidance, precision) else {
            return from_network(denoiser.noise(&x, at, condition));
        };
        if !config.needs_pair(step) {
            let noise = from_network(denoiser.noise(&x, at, condition));
            precision.push(&clean(y, &noise, at));
            return noise;
        }
        let (conditional, unconditional) = denoiser.noise_pair(&x, at, condition);
        let (conditional, unconditional) = (from_network(conditional), from_network(unconditional));
        let weight = precision.push(&clean(y, &conditional, at));
        config.combine(&conditional, &unconditional, weight.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::diffusion::guidance::PrecisionConfig;
    use crate::diffusion::operator::{apply, invert};
    use crate::diffusion::{Grid, Method, ProcessConfig};

    /// Some smooth function of state, instant and condition.
    struct Smooth;

    impl Denoiser for Smooth {
        fn noise(&self, x: &Tensor, at: &Instant, condition: &Condition) -> Tensor {
            (x * 0.8 + condition.channels.narrow(2, 0, 1) * at.sigma).tanh()
        }
    }

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn inputs() -> (Condition, Tensor) {
        let channels = Tensor::arange(2 * 4 * 3 * 25, OPTIONS).cos().reshape([2, 4, 3, 5, 5]);
        let noise = Tensor::arange(2 * 4 * 25, OPTIONS).sin().reshape([2, 4, 1, 5, 5]) * 1.4;
        (Condition { channels }, noise)
    }

    fn sampler(ratio: f64, guidance: Guidance) -> Sampler {
        let solver = SolverConfig { method: Method::Ddim, grid: Grid::UniformT, steps: 10 };
        Sampler {
            process: Process::new(ProcessConfig::of_ratio(ratio)),
            config: SamplerConfig { solver, guidance, mean: false },
        }
    }

    /// The dynamical method as published, step by step in x-space.
    #[test]
    fn the_dynamical_process_is_plain_diffusion_seen_through_the_operator() {
        let sampler = sampler(0.5, Guidance::None);
        let (condition, noise) = inputs();
        let instants = sampler.config.solver.instants(&sampler.process.schedule);
        let mut x = apply(&noise, instants[0].g);
        for pair in instants.windows(2) {
            let (from, to) = (&pair[0], &pair[1]);
            let found = Smooth.noise(&x, from, &condition);
            let clean = invert(&((&x - &found * from.sigma) / from.alpha), from.g);
            x = apply(&clean, to.g) * to.alpha + apply(&invert(&found, from.g), to.g) * to.sigma;
        }
        let difference = (sampler.sample(&Smooth, &condition, &noise).frames - x).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{difference}");
    }

    /// What an ideal network says of a state of data that are N(0.7, 0.4^2).
    struct Normal;

    impl Denoiser for Normal {
        fn noise(&self, x: &Tensor, at: &Instant, _condition: &Condition) -> Tensor {
            let variance = (at.alpha * 0.4).powi(2) + at.sigma.powi(2);
            (x - at.alpha * 0.7) * (at.sigma / variance)
        }
    }

    #[test]
    fn samples_have_the_mean_and_the_spread_of_the_data_on_every_path_and_grid() {
        let unit = (Tensor::arange(4096, (Kind::Double, Device::Cpu)) + 0.5) / 4096.0;
        let noise = ((unit * 2.0 - 1.0).erfinv() * 2f64.sqrt()).reshape([1, 1, 1, 64, 64]);
        for process in [ProcessConfig::Plain {}, ProcessConfig::Flow {}].map(Process::new) {
            for (grid, steps) in [(Grid::UniformT, 10), (Grid::UniformT, 50), (Grid::UniformLambda, 20)] {
                // On the published grid of 10 the state of plain diffusion begins without 15 % of the mean.
                let mean_off = if process.config == (ProcessConfig::Plain {}) && steps == 10 { 0.05 } else { 0.01 };
                let solver = SolverConfig { method: Method::Ghvb(3.0), grid, steps };
                let config = SamplerConfig { solver, guidance: Guidance::None, mean: false };
                let sampler = Sampler { process: process.clone(), config };
                let condition = Condition { channels: noise.shallow_clone() };
                let samples = sampler.sample(&Normal, &condition, &noise).frames;
                let (mean, spread) =
                    (samples.mean(Kind::Double).double_value(&[]), samples.std(true).double_value(&[]));
                let name = format!("{:?}, {grid:?}, {steps}: {mean} and {spread}", process.config);
                assert!((mean - 0.7).abs() < mean_off && (spread - 0.4).abs() < 0.02, "{name}");
            }
        }
    }

    #[test]
    fn guidance_of_strength_and_weight_one_samples_the_condition_alone() {
        let (condition, noise) = inputs();
        let plain = sampler(0.5, Guidance::None).sample(&Smooth, &condition, &noise);
        let one = PrecisionConfig { u_min: 1.0, u_max: 1.0, ..Default::default() };
        let guided = sampler(0.5, Guidance::Precision(one.clone())).sample(&Smooth, &condition, &noise);
        assert_eq!(plain.frames, guided.frames);
        assert!(plain.precision.is_none() && guided.precision.is_some());
        let stronger = Guidance::Precision(PrecisionConfig { strength: 2.0, ..one });
        assert_ne!(plain.frames, sampler(0.5, stronger).sample(&Smooth, &condition, &noise).frames);
    }
}
