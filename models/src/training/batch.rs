//! What one pass through the network sees: noised crops, their condition, and what is wanted.

use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor};

use super::augment::{Reading, Symmetry};
use super::config::{Task, TrainingConfig};
use super::data::{Archive, Crop};
use super::spectrum::Wanted;
use super::stages::Networks;
use super::{distill, domains};
use crate::device;
use crate::diffusion::denoiser::{Condition, ConditionParts, Guess};
use crate::diffusion::latent::Space;
use crate::diffusion::process::Process;
use crate::diffusion::schedule::STEPS;
use crate::diffusion::{extra, noise};

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
    /// The fields that it is about, where the loss sees their spectrum.
    pub(super) wanted: Option<Wanted>,
}

/// Positions in a sample's stream of random numbers.
pub(super) const CROP: u64 = 0;
const SYMMETRY: u64 = 1;
const DROPOUT: u64 = 2;
pub(super) const STEP: u64 = 3;
const READING: [u64; 2] = [4, 5];
pub(super) const NOISE: u64 = 16;
/// Far beyond all noise.
pub(super) const FACTOR: u64 = 1 << 60;

/// By what the crops of a batch are drawn: a domain, if they are of one, and the random numbers of each sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub(super) domain: Option<usize>,
    pub(super) random: Vec<Philox>,
}

/// Crops for one batch, before noise: each `[sample, frame, channel, y, x]`.
#[derive(Debug)]
pub struct Crops {
    pub(super) history: Tensor,
    pub(super) future: Tensor,
    /// None, one for all members, or one each.
    pub(super) guesses: Vec<Tensor>,
    pub(super) beside: Tensor,
    pub(super) moved: Option<Tensor>,
    /// With what probability each was drawn.
    pub(super) density: Vec<f64>,
}

impl Crops {
    /// The same with each of its tensors by way of a function.
    pub(super) fn map(&self, of: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            history: of(&self.history),
            future: of(&self.future),
            guesses: self.guesses.iter().map(&of).collect(),
            beside: of(&self.beside),
            moved: self.moved.as_ref().map(&of),
            density: self.density.clone(),
        }
    }

    /// In the space that is diffused. Takes no gradients.
    pub(super) fn encoded(self, space: Space<'_>) -> Self {
        tch::no_grad(|| Self {
            history: space.encode(&self.history),
            future: space.encode(&self.future),
            guesses: self.guesses.iter().map(|guess| space.encode(guess)).collect(),
            ..self
        })
    }

    /// The first guess of a member, `[sample, lead, channel, y, x]`.
    pub(super) fn guess(&self, member: usize) -> Option<&Tensor> {
        self.guesses.get(member % self.guesses.len().max(1))
    }
}

/// Batch number `index` of a run: a function of the seed and the index alone.
pub fn assemble(
    task: &Task,
    process: &Process,
    networks: &Networks,
    archive: &Archive,
    index: u64,
    device: Device,
) -> Batch {
    let Order { domain, random } = order(task, archive, index);
    let clean = draw(task, archive, domain, &random, device);
    let clean = clean.encoded(networks.space());
    // Stratified over the batch, which lowers the variance of the gradient.
    let shift = Philox::new(!task.training.seed, index).uniform(0);
    let share = |i: usize| (shift + i as f64 / random.len() as f64).fract();
    let step = |share: f64| match (&task.training.tuning, &task.training.distill) {
        (Some(tuning), _) => tuning.noisy_step(share),
        (None, Some(_)) => distill::step(task, process, share),
        (None, None) => ((share * STEPS as f64) as usize).min(STEPS - 1),
    };
    let steps: Vec<usize> = (0..random.len()).map(|i| step(share(i))).collect();

    let x = frames_to_diffuse(task, &clean);
    let weight = weights(task, &clean, &x);
    let wanted = Wanted::of(task, &clean);
    let x = x.nan_to_num(0.0, None, None);
    let noised = process.noised(&x, &noise(process, &x, &random, NOISE), &steps);
    let condition = networks.foreseen(condition(task, &clean, 0));
    let keep: Vec<f32> =
        random.iter().map(|r| if r.uniform(DROPOUT) < task.training.condition_dropout { 0.0 } else { 1.0 }).collect();
    let condition = condition.dropped(&Tensor::from_slice(&keep));
    Batch { input: condition.join(&noised.x), steps, target: noised.target, weight, wanted }
}

/// How the crops of batch number `index` of a run are drawn.
pub fn order(task: &Task, archive: &Archive, index: u64) -> Order {
    let mut random = random(task, index);
    if let Some(tuning) = &task.training.tuning {
        // The others are of the bank.
        random.truncate(random.len() - tuning.of_bank(random.len()).min(random.len() - 1));
    }
    Order { domain: domains::of_batch(task, archive, index), random }
}

/// The random numbers of each sample of a batch.
pub(super) fn random(task: &Task, index: u64) -> Vec<Philox> {
    let batch = task.training.batch as u64;
    (0..batch).map(|i| Philox::new(task.training.seed, index * batch + i)).collect()
}

/// Pairs of transformed future frames and first guesses, to fit a residual's scale to.
pub fn pairs(task: &Task, archive: &Archive, count: u64) -> Vec<(Tensor, Tensor)> {
    (0..count)
        .filter_map(|i| {
            let crop = archive.draw(None, Philox::new(!task.training.seed, u64::MAX - i).uniform(CROP), Reading::PLAIN);
            Some((crop.future.unsqueeze(0), crop.guesses.first()?.unsqueeze(0)))
        })
        .collect()
}

/// The crops of a batch, of one domain or of any, on a device: those that the archive has at hand, or drawn here and now.
pub(super) fn draw(task: &Task, archive: &Archive, domain: Option<usize>, random: &[Philox], device: Device) -> Crops {
    let order = Order { domain, random: random.to_vec() };
    let crops = archive.at_hand(&order).unwrap_or_else(|| drawn(&task.training, archive, &order));
    crops.map(|part| device::sent(part, device))
}

/// Draws the crops of a batch, on the CPU.
pub fn drawn(training: &TrainingConfig, archive: &Archive, order: &Order) -> Crops {
    let crops: Vec<(Crop, Symmetry)> = order
        .random
        .iter()
        .map(|r| {
            let symmetry = if training.augment { Symmetry::numbered(r.block(SYMMETRY)[0]) } else { Symmetry::IDENTITY };
            let mut crop = archive.draw(order.domain, r.uniform(CROP), Reading::drawn(&training.crop, r, READING));
            // Where members have first guesses of their own and one is trained, each has its turn.
            let turn = r.block(SYMMETRY)[1] as usize % crop.guesses.len().max(1);
            crop.guesses.rotate_left(turn);
            (crop, symmetry)
        })
        .collect();
    let stack = |part: &dyn Fn(&Crop) -> Tensor| {
        let parts: Vec<Tensor> = crops.iter().map(|(crop, symmetry)| symmetry.apply(&part(crop))).collect();
        Tensor::stack(&parts, 0)
    };
    let guesses = crops.iter().map(|(crop, _)| crop.guesses.len()).min().unwrap_or(0);
    let moved = crops.iter().all(|(crop, _)| crop.moved.is_some());
    Crops {
        history: stack(&|c| c.history.shallow_clone()),
        future: stack(&|c| c.future.shallow_clone()),
        guesses: (0..guesses).map(|member| stack(&|c| c.guesses[member].shallow_clone())).collect(),
        moved: moved.then(|| stack(&|c| c.moved.as_ref().expect("every crop has it").shallow_clone())),
        beside: stack(&|c| c.beside.shallow_clone()),
        density: crops.iter().map(|(crop, _)| crop.density).collect(),
    }
}

/// The clip that is diffused; NaN where missing.
pub(super) fn frames_to_diffuse(task: &Task, clean: &Crops) -> Tensor {
    let past = clean.history.narrow(1, 0, task.model.past() as i64);
    match (&task.model.residual, clean.guess(0)) {
        (Some(residual), Some(guess)) => Tensor::cat(&[past.zeros_like(), residual.forward(&clean.future, guess)], 1),
        _ => Tensor::cat(&[&past, &clean.future], 1),
    }
}

pub(super) fn weights(task: &Task, clean: &Crops, x: &Tensor) -> Tensor {
    let mut weight = x.isnan().logical_not().to_kind(Kind::Float);
    if let (Some(residual), Some(guess)) = (&task.model.residual, clean.guess(0))
        && task.training.loss.scale_power != 0.0
    {
        let scale = residual.scale(guess).pow_tensor_scalar(task.training.loss.scale_power);
        let scale = &scale / scale.mean(Kind::Float);
        let past = clean.history.narrow(1, 0, task.model.past() as i64).ones_like();
        weight = &weight * Tensor::cat(&[past, scale], 1);
    }
    if task.training.loss.unbiased {
        weight = &weight * per_sample(clean.density.iter().map(|d| 1.0 / d.max(1e-6)), x.device());
    }
    weight
}

/// One number a sample, to be multiplied with its values.
pub(super) fn per_sample(numbers: impl Iterator<Item = f64>, device: Device) -> Tensor {
    let numbers: Vec<f32> = numbers.map(|number| number as f32).collect();
    device::sent(&Tensor::from_slice(&numbers), device).reshape([-1, 1, 1, 1, 1])
}

/// Standard normal noise for so many members of each crop, `[member * sample, frame, channel, y, x]`.
pub(super) fn member_noise(task: &Task, process: &Process, crops: &Crops, random: &[Philox], members: i64) -> Tensor {
    let mut size = crops.future.size();
    size[1] = task.model.diffused() as i64;
    let clip = Tensor::zeros(&size, (Kind::Float, crops.future.device()));
    let length = (clip.numel() / random.len().max(1)).next_multiple_of(NOISE as usize) as u64;
    let noise = (0..members as u64).map(|member| noise(process, &clip, random, NOISE + member * length));
    Tensor::cat(&noise.collect::<Vec<_>>(), 0)
}

/// What a network is told of them, for one of their members, before a predictive stream has seen it.
pub(super) fn condition(task: &Task, clean: &Crops, member: usize) -> Condition {
    let model = &task.model;
    let dry = model.dry();
    let guess_of = |fields| Guess { fields, missing: model.missing_guess, dry: &dry };
    let moved = clean.moved.as_ref().map(|moved| Tensor::cat(&[&clean.history, moved], 1).narrow(2, 0, 1));
    let extra = extra::channels(&model.extra, &clean.beside, model.leads, moved.as_ref().zip(dry.first().copied()));
    let parts = ConditionParts {
        history: &clean.history,
        frames: model.frames() as i64,
        first_guess: clean.guess(member).map(guess_of),
        extra: extra.as_ref(),
        seen: model.history,
    };
    parts.assemble()
}

/// Noise of the shape of a batch, as the process has it, from a position in each sample's stream.
pub(super) fn noise(process: &Process, like: &Tensor, random: &[Philox], from: u64) -> Tensor {
    let noise = noise::of_streams(random, from, like.numel() / random.len().max(1), like.device());
    let factors: Vec<f64> = random.iter().map(|random| process.noise_factor(random, FACTOR + from)).collect();
    let noise = noise.reshape(like.size());
    if factors.iter().all(|factor| *factor == 1.0) {
        return noise;
    }
    noise * per_sample(factors.into_iter(), like.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::ProcessConfig;

    /// The published prior: of a sample with N values `|x|^2 / N` has the F distribution of N and D degrees of freedom. With
    /// a factor for each value it would be much narrower.
    #[test]
    fn noise_of_a_poisson_flow_has_one_factor_for_all_values_of_a_sample() {
        const SAMPLES: i64 = 20_000;
        let process = Process::new(ProcessConfig::Poisson { dimensions: 8 });
        let random: Vec<Philox> = (0..SAMPLES as u64).map(|sample| Philox::new(5, sample)).collect();
        let clips = Tensor::zeros([SAMPLES, 1, 1, 2, 3], (Kind::Float, Device::Cpu));
        let noise = noise(&process, &clips, &random, NOISE);
        let squares = noise.square().reshape([SAMPLES, 6]).mean_dim(1, false, Kind::Float);
        let mut squares: Vec<f32> = Vec::try_from(squares).unwrap();
        squares.sort_by(f32::total_cmp);
        for (share, expected) in [(0.05, 0.2411), (0.5, 0.9711), (0.95, 3.5806)] {
            let found = f64::from(squares[(share * SAMPLES as f64) as usize]);
            assert!((found / expected - 1.0).abs() < 0.04, "{share}: {found} for {expected}");
        }
    }
}
