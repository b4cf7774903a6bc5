//! Diff-Tuning (Zhong et al. 2024): a trained model learns another region and keeps what it knew.
//!
//! What a diffusion model does near the clean end is much the same everywhere, what it does in the noise is of its data. So the
//! noisy end is trained on the new data, `t ~ (t + 1)^a`, and the clean end on a bank of samples that the model drew of
//! itself before, without condition, `t ~ (1000 - t)^a`.

use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor};

use super::batch::{self, Batch};
use super::config::Task;
use crate::device;
use crate::diffusion::denoiser::{Condition, NetworkDenoiser};
use crate::diffusion::guidance::Guidance;
use crate::diffusion::noise;
use crate::diffusion::process::Process;
use crate::diffusion::sampler::{Sampler, SamplerConfig};
use crate::diffusion::schedule::STEPS;
use crate::network::VideoUNet;

/// How a model is adapted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuningConfig {
    /// Samples of the model as it was.
    pub bank: usize,
    /// Share of a batch that is of the bank, at least one sample.
    pub share: f64,
    /// What the bank's loss counts beside that of the data.
    pub weight: f64,
    /// a: how strongly either end is preferred; 0 prefers none.
    pub power: f64,
}

impl Default for TuningConfig {
    fn default() -> Self {
        Self { bank: 64, share: 0.2, weight: 0.1, power: 1.0 }
    }
}

impl TuningConfig {
    /// What is wrong with it, for batches of so many crops, one sentence each.
    pub(super) fn faults(&self, batch: usize) -> Vec<String> {
        let mut faults = Vec::new();
        if self.bank == 0 || batch < 2 {
            faults.push("tuning needs a bank of at least 1 and batches of at least 2".to_owned());
        }
        let numbers = [self.weight, self.power];
        if !(0.0..1.0).contains(&self.share) || numbers.iter().any(|n| !(n.is_finite() && *n >= 0.0)) {
            faults.push("tuning.share lies in 0 to 1, weight and power are at least 0".to_owned());
        }
        faults
    }

    /// How many of a batch are of the bank.
    pub(super) fn of_bank(&self, batch: usize) -> usize {
        ((self.share * batch as f64).round() as usize).clamp(1, batch.saturating_sub(1).max(1))
    }

    /// The diffusion index at a uniform number, of the data: its density is `(t + 1)^a`, nearly.
    pub(super) fn noisy_step(&self, uniform: f64) -> usize {
        let share = uniform.clamp(0.0, 1.0).powf(1.0 / (self.power + 1.0));
        ((share * STEPS as f64) as usize).min(STEPS - 1)
    }

    /// The same, of the bank: the density is `(1000 - t)^a`.
    pub(super) fn clean_step(&self, uniform: f64) -> usize {
        STEPS - 1 - self.noisy_step(uniform)
    }
}

/// Clips that a network draws without a condition, `[clip, frame, channel, y, x]`, of the side of the task's crops.
pub(super) fn bank(network: &VideoUNet, process: &Process, task: &Task, device: Device) -> Option<Tensor> {
    let config = task.training.tuning.as_ref()?;
    let (model, side) = (&task.model, task.training.crop.size);
    let (frames, channels) = (model.diffused(), model.network.out_channels as usize);
    let solver = SamplerConfig { guidance: Guidance::None, ..model.sampler.clone() };
    let sampler = Sampler { process: process.clone(), config: solver };
    let denoiser = NetworkDenoiser { network, process };
    let beside = model.network.in_channels - model.network.out_channels;
    let numbers: Vec<u64> = (0..config.bank as u64).collect();
    let clips = numbers.chunks(task.training.batch.max(1)).map(|chunk| {
        let noise = chunk.iter().map(|number| {
            let random = Philox::new(task.training.seed ^ BANK, *number);
            let noise = noise::field_on(&random, [frames, channels, side, side], device);
            noise * process.noise_factor(&random, batch::FACTOR)
        });
        let noise = Tensor::stack(&noise.collect::<Vec<_>>(), 0);
        let size = [chunk.len() as i64, frames as i64, beside, side as i64, side as i64];
        let none = Condition { channels: Tensor::zeros(size, (Kind::Float, device)) };
        sampler.sample(&denoiser, &none, &noise).frames
    });
    Some(Tensor::cat(&clips.collect::<Vec<_>>(), 0))
}

/// Tells the bank's noise from that of training.
const BANK: u64 = 0xBA2C;

/// Clips of the bank, noised, without a condition.
pub(super) fn batch_of(task: &Task, process: &Process, bank: &Tensor, index: u64) -> Option<Batch> {
    let config = task.training.tuning.as_ref()?;
    let random = batch::random(task, index);
    let random = &random[random.len().saturating_sub(config.of_bank(random.len()))..];
    let clips = bank.size()[0];
    let chosen: Vec<i64> = random.iter().map(|r| (r.uniform(batch::CROP) * clips as f64) as i64 % clips).collect();
    let x = bank.index_select(0, &device::sent(&Tensor::from_slice(&chosen), bank.device()));
    let steps: Vec<usize> = random.iter().map(|r| config.clean_step(r.uniform(batch::STEP))).collect();
    let noised = process.noised(&x, &batch::noise(process, &x, random, batch::NOISE), &steps);
    let mut size = x.size();
    size[2] = task.model.network.in_channels - task.model.network.out_channels;
    let none = Condition { channels: Tensor::zeros(&size, (Kind::Float, x.device())) };
    let (input, weight) = (none.join(&noised.x), x.ones_like());
    Some(Batch { input, steps, target: noised.target, weight, wanted: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noisy_end_is_of_the_data_and_the_clean_end_of_the_bank() {
        let config = TuningConfig::default();
        const DRAWS: usize = 200_000;
        let mut counts = [0f64; 4];
        for i in 0..DRAWS {
            let uniform = (i as f64 + 0.5) / DRAWS as f64;
            counts[config.noisy_step(uniform) / 250] += 1.0 / DRAWS as f64;
            assert_eq!(config.clean_step(uniform), 999 - config.noisy_step(uniform));
        }
        // The density t of each quarter: 1, 3, 5 and 7 sixteenths.
        for (quarter, share) in counts.iter().enumerate() {
            let expected = (2 * quarter + 1) as f64 / 16.0;
            assert!((share - expected).abs() < 2e-3, "{counts:?}");
        }
        let even = TuningConfig { power: 0.0, ..config };
        assert_eq!((even.noisy_step(0.25), even.noisy_step(1.0)), (250, 999));
        assert_eq!([2, 4, 10].map(|batch| even.of_bank(batch)), [1, 1, 2]);
    }
}
