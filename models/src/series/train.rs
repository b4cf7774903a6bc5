//! Training without a condition: stretches of many series, noised, and a network that says their noise.
//!
//! Everything random in a step is a function of (seed, step, sample) through a counter-based generator: which stretch, the diffusion
//! index, the noise. On one device a run gives the same weights each time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor, nn};

use super::model::process;
use super::{Mlp, Scale, SeriesSpec};
use crate::diffusion::Process;
use crate::diffusion::process::step_tensor;
use crate::diffusion::schedule::STEPS;
use crate::network::init;
use crate::training::average::{Average, Rule};
use crate::training::config::OptimizerConfig;
use crate::training::flat::{Flat, Gradients};
use crate::training::optimizer::AdamW;
use crate::training::{StepReport, TrainingError};

/// How a model of series is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesTraining {
    /// Key of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Stretches of a step.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Decay of the average of the weights, which is what is kept.
    #[serde(default = "ema")]
    pub ema: f64,
    /// Optimizer.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
}

fn batch() -> usize {
    128
}

fn ema() -> f64 {
    0.999
}

impl SeriesTraining {
    /// What is wrong with it, one sentence each; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.steps == 0 || self.batch == 0 {
            faults.push("steps and batch are at least 1".to_owned());
        }
        if !(0.0..1.0).contains(&self.ema) {
            faults.push(format!("ema lies in 0 to 1, not {}", self.ema));
        }
        if !(self.optimizer.learning_rate > 0.0 && self.optimizer.learning_rate.is_finite()) {
            faults.push(format!("optimizer.learning_rate is a positive number, not {}", self.optimizer.learning_rate));
        }
        faults
    }
}

/// All stretches of a length in unbroken series.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    series: Vec<Vec<f32>>,
    /// How many stretches there are up to the end of each series.
    ends: Vec<usize>,
    length: usize,
}

impl Windows {
    /// Of series without gaps; those that are shorter than a stretch have none.
    ///
    /// ```
    /// use squall_models::series::Windows;
    /// let windows = Windows::new([vec![1.0, 2.0, 3.0], vec![4.0], vec![5.0, 6.0]], 2);
    /// assert_eq!((windows.len(), windows.get(1), windows.get(2)), (3, &[2.0, 3.0][..], &[5.0, 6.0][..]));
    /// ```
    pub fn new(series: impl IntoIterator<Item = Vec<f32>>, length: usize) -> Self {
        let series: Vec<Vec<f32>> = series.into_iter().filter(|series| series.len() >= length.max(1)).collect();
        let mut count = 0;
        let end = |series: &Vec<f32>| {
            count += series.len() + 1 - length;
            count
        };
        let ends = series.iter().map(end).collect();
        Self { series, ends, length }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A stretch by its number.
    ///
    /// # Panics
    /// If there is none of that number.
    pub fn get(&self, index: usize) -> &[f32] {
        let place = self.ends.partition_point(|end| *end <= index);
        let before = if place == 0 { 0 } else { self.ends[place - 1] };
        let from = index - before;
        &self.series[place][from..from + self.length]
    }
}

/// Stretches of a step: clean and noise `[sample, time]`, and the diffusion index of each.
#[derive(Debug)]
struct Batch {
    clean: Tensor,
    noise: Tensor,
    steps: Vec<usize>,
}

/// The loss of stretches `[sample, time]` (Ho et al. 2020): the mean square difference of what a network says of their noisy states
/// and what it shall say, which of [`Target::Noise`](crate::diffusion::Target::Noise) is the noise. Known and unknown values are
/// not told apart.
pub fn loss(
    process: &Process,
    network: &dyn Fn(&Tensor, &[usize]) -> Tensor,
    clean: &Tensor,
    noise: &Tensor,
    steps: &[usize],
) -> Tensor {
    // As clips of one cell, whose frames are the values.
    let clip = |x: &Tensor| x.unsqueeze(2).unsqueeze(3).unsqueeze(4);
    let noised = process.noised(&clip(clean), &clip(noise), steps);
    let stretch = |x: &Tensor| x.reshape(clean.size());
    (network(&stretch(&noised.x), steps) - stretch(&noised.target)).square().mean(Kind::Float)
}

/// A network in training.
#[derive(Debug)]
pub struct SeriesTrainer {
    spec: SeriesSpec,
    training: SeriesTraining,
    process: Process,
    network: Mlp,
    /// The parameters that the network computes with.
    working: BTreeMap<String, Tensor>,
    parameters: Flat,
    average: Average,
    optimizer: AdamW,
    device: Device,
    step: u64,
}

impl SeriesTrainer {
    /// From starting values.
    ///
    /// # Errors
    /// [`TrainingError::Config`] with every fault.
    pub fn new(spec: SeriesSpec, training: SeriesTraining, device: Device) -> Result<Self, TrainingError> {
        let faults: Vec<String> = spec.faults().into_iter().chain(training.faults()).collect();
        if !faults.is_empty() {
            return Err(TrainingError::Config(faults));
        }
        let store = nn::VarStore::new(device);
        let network = Mlp::new(&store.root(), spec.length(), spec.network);
        init::initialise(&store, training.seed);
        let working: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        let parameters = Flat::of(&working);
        let average = Average::new(Rule::Exponential { decay: training.ema }, &parameters);
        let optimizer = AdamW::new(training.optimizer.clone(), &parameters);
        let process = process(&spec);
        Ok(Self { spec, training, process, network, working, parameters, average, optimizer, device, step: 0 })
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The averaged weights, by name.
    pub fn averaged(&self) -> &BTreeMap<String, Tensor> {
        self.average.weights()
    }

    /// One step of the optimizer.
    ///
    /// # Errors
    /// [`TrainingError::Data`] if there is no stretch, [`TrainingError::Diverged`] if the loss is no number.
    pub fn step(&mut self, windows: &Windows) -> Result<StepReport, TrainingError> {
        let step = self.step;
        let loss = self.loss(&self.batch(windows, self.training.seed, step)?);
        loss.backward();
        let loss = loss.double_value(&[]);
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step, loss });
        }
        let mut gradients = Gradients::none(&self.parameters);
        let of = |(name, parameter): (&String, &Tensor)| (name.clone(), parameter.grad());
        gradients.add(self.working.iter().map(of).filter(|(_, gradient)| gradient.defined()));
        self.working.values_mut().for_each(Tensor::zero_grad);
        let gradient_norm = gradients.norm().double_value(&[]);
        let learning_rate = self.training.optimizer.rate(step, self.training.steps);
        self.optimizer.step(&mut self.parameters, &gradients, gradient_norm, learning_rate);
        self.average.update(&self.parameters, step);
        self.step += 1;
        take(&mut self.working, self.parameters.named());
        Ok(StepReport { step, loss, gradient_norm, learning_rate })
    }

    /// Mean loss of the averaged weights over `count` batches of other stretches: the same ones each time.
    ///
    /// # Errors
    /// [`TrainingError::Data`] if there is no stretch.
    pub fn validation_loss(&mut self, windows: &Windows, count: u64) -> Result<f64, TrainingError> {
        take(&mut self.working, self.average.weights());
        let of = |index| -> Result<f64, TrainingError> {
            let batch = self.batch(windows, !self.training.seed, index)?;
            Ok(tch::no_grad(|| self.loss(&batch).double_value(&[])))
        };
        let losses: Result<Vec<f64>, TrainingError> = (0..count).map(of).collect();
        take(&mut self.working, self.parameters.named());
        Ok(losses?.iter().sum::<f64>() / count.max(1) as f64)
    }

    fn loss(&self, batch: &Batch) -> Tensor {
        let network = |x: &Tensor, steps: &[usize]| self.network.forward(x, &step_tensor(steps, self.device));
        loss(&self.process, &network, &batch.clean, &batch.noise, &batch.steps)
    }

    fn batch(&self, windows: &Windows, seed: u64, index: u64) -> Result<Batch, TrainingError> {
        let (size, length) = (self.training.batch, self.spec.length());
        if windows.is_empty() || windows.length != length {
            return Err(TrainingError::Data(format!("no series has {length} values without a gap")));
        }
        let (mut clean, mut noise, mut steps) = (Vec::new(), vec![0f32; size * length], Vec::new());
        for (sample, noise) in noise.chunks_mut(length).enumerate() {
            let random = Philox::new(seed, index * size as u64 + sample as u64);
            let below = |position, count: usize| ((random.uniform(position) * count as f64) as usize).min(count - 1);
            let window = windows.get(below(0, windows.len()));
            // By what will be known when it is forecast.
            let scale = Scale::of(&window[..self.spec.context], self.spec.least_scale);
            clean.extend(window.iter().map(|value| scale.apply(*value)));
            steps.push(below(1, STEPS));
            random.fill_normal(2, noise);
        }
        let tensor =
            |values: &[f32]| Tensor::from_slice(values).reshape([size as i64, length as i64]).to_device(self.device);
        Ok(Batch { clean: tensor(&clean), noise: tensor(&noise), steps })
    }
}

fn take(working: &mut BTreeMap<String, Tensor>, from: &BTreeMap<String, Tensor>) {
    tch::no_grad(|| {
        for (name, parameter) in working.iter_mut() {
            if let Some(value) = from.get(name) {
                parameter.copy_(value);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use squall_fields::Quantity;

    use super::*;
    use crate::diffusion::{ProcessConfig, Target};
    use crate::series::{InPainting, MlpConfig};

    fn spec() -> SeriesSpec {
        SeriesSpec {
            name: "test".to_owned(),
            quantity: Quantity::WindSpeed,
            cadence_seconds: 3600,
            context: 8,
            leads: 4,
            least_scale: 0.1,
            network: MlpConfig { width: 32, layers: 2 },
            target: Target::Noise,
            sampler: InPainting::default(),
        }
    }

    fn training() -> SeriesTraining {
        let optimizer = OptimizerConfig { learning_rate: 2e-3, warm_up: 10, ..Default::default() };
        SeriesTraining { seed: 5, steps: 100, batch: 32, ema: 0.9, optimizer }
    }

    fn sines() -> Windows {
        let series = |phase: usize| (0..48).map(|t| 5.0 + (0.5 * t as f32 + phase as f32).sin()).collect();
        Windows::new((0..20).map(series), 12)
    }

    #[test]
    fn the_loss_is_the_published_one_on_numbers_by_hand() {
        let process = Process::new(ProcessConfig::Plain {});
        let (clean, noise) = ([[1.0f64, -2.0], [0.25, 3.0]], [[0.5f64, 1.5], [-1.0, 0.75]]);
        let steps = [100, 700];
        let share = 0.3;
        let of_sample = |((clean, noise), step): ((&[f64; 2], &[f64; 2]), &usize)| {
            let kept = process.schedule.alpha_bar[*step];
            let state = |at: usize| kept.sqrt() * clean[at] + (1.0 - kept).sqrt() * noise[at];
            (noise[0] - share * state(0)).powi(2) + (noise[1] - share * state(1)).powi(2)
        };
        let expected = clean.iter().zip(&noise).zip(&steps).map(of_sample).sum::<f64>() / 4.0;
        let tensor = |values: [[f64; 2]; 2]| Tensor::from_slice(&values.concat()).reshape([2, 2]).to_kind(Kind::Float);
        let found = loss(&process, &|x, _| x * share, &tensor(clean), &tensor(noise), &steps).double_value(&[]);
        assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
    }

    #[test]
    fn a_network_learns_and_another_run_learns_the_same() {
        let windows = sines();
        let run = || {
            let mut trainer = SeriesTrainer::new(spec(), training(), Device::Cpu).unwrap();
            let before = trainer.validation_loss(&windows, 8).unwrap();
            let losses: Vec<f64> = (0..100).map(|_| trainer.step(&windows).unwrap().loss).collect();
            (before, losses, trainer.validation_loss(&windows, 8).unwrap(), trainer.steps_done())
        };
        let (before, losses, after, steps) = run();
        assert!((before - 1.0).abs() < 0.15, "a network that says nothing has the variance of the noise: {before}");
        assert!(after < 0.8 * before && steps == 100, "{before} to {after}");
        let (_, again, ..) = run();
        let apart = losses.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-6, "{apart}");
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let refused =
            |windows: &Windows| SeriesTrainer::new(spec(), training(), Device::Cpu).unwrap().step(windows).unwrap_err();
        assert!(refused(&Windows::new([vec![1.0; 11]], 12)).to_string().contains("12 values without a gap"));
        let bad = SeriesTraining { steps: 0, ema: 1.0, ..training() };
        let error = SeriesTrainer::new(SeriesSpec { leads: 0, ..spec() }, bad, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("leads") && error.contains("steps and batch") && error.contains("ema"), "{error}");
    }
}
