//! What one pass through the network sees: noised crops, their condition, and what is wanted.

use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor};

use super::augment::Symmetry;
use super::config::Task;
use super::data::{Archive, Crop};
use crate::diffusion::denoiser::{Condition, ConditionParts, Guess};
use crate::diffusion::extra;
use crate::diffusion::process::Process;
use crate::diffusion::schedule::STEPS;

/// A noised batch; tensors are `[sample, frame, channel, y, x]` in f32.
#[derive(Debug)]
pub struct Batch {
    /// The network's input.
    pub input: Tensor,
    /// Diffusion index of each sample.
    pub steps: Vec<usize>,
    /// What the network shall say.
    pub target: Tensor,
    /// Weight of each pixel in the loss; 0 where missing.
    pub weight: Tensor,
}

/// Positions in a sample's stream of random numbers.
const CROP: u64 = 0;
const SYMMETRY: u64 = 1;
const DROPOUT: u64 = 2;
const NOISE: u64 = 16;

/// Crops for one batch, before noise: each `[sample, frame, channel, y, x]`.
#[derive(Debug)]
struct Clean {
    history: Tensor,
    future: Tensor,
    guess: Option<Tensor>,
    beside: Tensor,
    density: Vec<f64>,
}

/// Batch number `index` of a run: a function of the seed and the index alone.
pub fn assemble(task: &Task, process: &Process, archive: &Archive, index: u64, device: Device) -> Batch {
    let random: Vec<Philox> = (0..task.training.batch as u64)
        .map(|i| Philox::new(task.training.seed, index * task.training.batch as u64 + i))
        .collect();
    let clean = draw(task, archive, &random, device);
    // Stratified over the batch, which lowers the variance of the gradient.
    let shift = Philox::new(!task.training.seed, index).uniform(0);
    let share = |i: usize| (shift + i as f64 / task.training.batch as f64).fract();
    let steps: Vec<usize> =
        (0..task.training.batch).map(|i| ((share(i) * STEPS as f64) as usize).min(STEPS - 1)).collect();

    let x = frames_to_diffuse(task, &clean);
    let weight = weights(task, &clean, &x);
    let x = x.nan_to_num(0.0, None, None);
    let noised = process.noised(&x, &noise(&x, &random), &steps);
    let condition = condition(task, &clean);
    let keep: Vec<f32> =
        random.iter().map(|r| if r.uniform(DROPOUT) < task.training.condition_dropout { 0.0 } else { 1.0 }).collect();
    let condition = condition.dropped(&Tensor::from_slice(&keep));
    Batch { input: condition.join(&noised.x), steps, target: noised.target, weight }
}

/// Pairs of transformed future frames and first guesses, to fit a residual's scale to.
pub fn pairs(task: &Task, archive: &Archive, count: u64) -> Vec<(Tensor, Tensor)> {
    (0..count)
        .filter_map(|i| {
            let crop = archive.draw(Philox::new(!task.training.seed, u64::MAX - i).uniform(CROP));
            Some((crop.future.unsqueeze(0), crop.guess?.unsqueeze(0)))
        })
        .collect()
}

fn draw(task: &Task, archive: &Archive, random: &[Philox], device: Device) -> Clean {
    let crops: Vec<(Crop, Symmetry)> = random
        .iter()
        .map(|r| {
            let symmetry =
                if task.training.augment { Symmetry::numbered(r.block(SYMMETRY)[0]) } else { Symmetry::IDENTITY };
            (archive.draw(r.uniform(CROP)), symmetry)
        })
        .collect();
    let stack = |part: &dyn Fn(&Crop) -> Tensor| {
        let parts: Vec<Tensor> = crops.iter().map(|(crop, symmetry)| symmetry.apply(&part(crop))).collect();
        Tensor::stack(&parts, 0).to_device(device)
    };
    let has_guess = crops.iter().all(|(crop, _)| crop.guess.is_some());
    Clean {
        history: stack(&|c| c.history.shallow_clone()),
        future: stack(&|c| c.future.shallow_clone()),
        guess: has_guess.then(|| stack(&|c| c.guess.as_ref().expect("every crop has one").shallow_clone())),
        beside: stack(&|c| c.beside.shallow_clone()),
        density: crops.iter().map(|(crop, _)| crop.density).collect(),
    }
}

/// The clip that is diffused; NaN where missing.
fn frames_to_diffuse(task: &Task, clean: &Clean) -> Tensor {
    match (&task.model.residual, &clean.guess) {
        (Some(residual), Some(guess)) => {
            let past = clean.history.zeros_like();
            Tensor::cat(&[past, residual.forward(&clean.future, guess)], 1)
        }
        _ => Tensor::cat(&[&clean.history, &clean.future], 1),
    }
}

fn weights(task: &Task, clean: &Clean, x: &Tensor) -> Tensor {
    let mut weight = x.isnan().logical_not().to_kind(Kind::Float);
    if let (Some(residual), Some(guess)) = (&task.model.residual, &clean.guess)
        && task.training.loss.scale_power != 0.0
    {
        let scale = residual.scale(guess).pow_tensor_scalar(task.training.loss.scale_power);
        let scale = &scale / scale.mean(Kind::Float);
        weight = &weight * Tensor::cat(&[clean.history.ones_like(), scale], 1);
    }
    if task.training.loss.unbiased {
        let factors: Vec<f32> = clean.density.iter().map(|d| (1.0 / d.max(1e-6)) as f32).collect();
        weight = &weight * Tensor::from_slice(&factors).to_device(x.device()).reshape([-1, 1, 1, 1, 1]);
    }
    weight
}

fn condition(task: &Task, clean: &Clean) -> Condition {
    let model = &task.model;
    let dry = model.dry();
    let guess_of = |fields| Guess { fields, missing: model.missing_guess, dry: &dry };
    let extra = extra::channels(&model.extra, &clean.beside, model.leads);
    let parts = ConditionParts {
        history: &clean.history,
        frames: model.frames() as i64,
        first_guess: clean.guess.as_ref().map(guess_of),
        extra: extra.as_ref(),
    };
    parts.assemble()
}

fn noise(like: &Tensor, random: &[Philox]) -> Tensor {
    let numel = like.numel() / random.len().max(1);
    let mut values = vec![0f32; like.numel()];
    for (chunk, random) in values.chunks_mut(numel.max(1)).zip(random) {
        random.fill_normal(NOISE, chunk);
    }
    Tensor::from_slice(&values).to_device(like.device()).reshape(like.size())
}
