//! Training a network to forecast in one step: what it makes of pure noise is a member, and members are judged together.
//!
//! A diffusion model asks its network several times for a member. A network that is asked once, at the noisiest instant, can
//! learn to turn noise into a member directly, if the loss looks at the members of an ensemble and not at each alone: the
//! almost fair CRPS (Lang et al. 2024) is least where they are draws from what may happen. Means over squares of cells are
//! judged beside the cells, so that members are right together and not only each cell for itself. It is best started from the
//! weights of a diffusion model (`squall train --from`), whose network knows the weather and must learn only what noise
//! means.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::batch::{self, Crops};
use super::config::Task;
use super::data::Archive;
use super::domains;
use super::spectrum;
use super::stages::Networks;
use crate::diffusion::Transform;
use crate::diffusion::denoiser::Condition;
use crate::diffusion::process::{Process, step_tensor};
use crate::diffusion::residual::Residual;
use crate::diffusion::solver;

/// How an ensemble of one step is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnsembleLoss {
    /// Members of each crop, at least 2.
    pub members: usize,
    /// 1 is the fair CRPS, 0 that of the members as they are. A little below 1: the fair one does not see what all members
    /// but one do.
    pub alpha: f64,
    /// Sides of the squares of cells whose means are judged, 1 for the cells.
    pub scales: Vec<usize>,
    /// The CRPS is that of transformed values, plus so many times that in the unit of the variable.
    pub of_field: f64,
}

impl Default for EnsembleLoss {
    fn default() -> Self {
        Self { members: 2, alpha: 0.95, scales: vec![1], of_field: 0.0 }
    }
}

impl EnsembleLoss {
    /// What is wrong with it, for crops of so many cells, one sentence each.
    pub(super) fn faults(&self, crop: usize) -> Vec<String> {
        let mut faults = Vec::new();
        if self.members < 2 {
            faults.push(format!("loss.ensemble needs at least 2 members, not {}", self.members));
        }
        if self.scales.is_empty() || self.scales.iter().any(|side| *side == 0 || *side > crop) {
            faults.push(format!("loss.ensemble.scales lie in 1 to the crop's {crop}, at least one"));
        }
        if !((0.0..=1.0).contains(&self.alpha) && self.of_field >= 0.0 && self.of_field.is_finite()) {
            faults.push("loss.ensemble.alpha lies in 0 to 1, of_field is at least 0".to_owned());
        }
        faults
    }
}

/// The almost fair CRPS of each value: members `[member, ...]`, what happened `[...]`.
///
/// `mean |x - y| - (1 - (1 - alpha) / M) / (2 M (M - 1)) sum |x_i - x_j|` over M members.
pub fn almost_fair_crps(members: &Tensor, truth: &Tensor, alpha: f64) -> Tensor {
    let count = members.size()[0];
    let error = (members - truth.unsqueeze(0)).abs().mean_dim(0, false, Kind::Float);
    let mut spread = truth.zeros_like();
    for i in 0..count {
        for j in 0..i {
            spread += (members.get(i) - members.get(j)).abs();
        }
    }
    let m = count as f64;
    let share = (1.0 - (1.0 - alpha) / m) / (m * (m - 1.0));
    error - spread * share
}

/// The loss of batch number `index`: a function of the seed and the index alone.
pub(super) fn loss(
    networks: &Networks,
    process: &Process,
    task: &Task,
    archive: &Archive,
    index: u64,
    device: Device,
) -> Tensor {
    let Some(config) = &task.training.loss.ensemble else { return Tensor::from(0.0) };
    let random = batch::random(task, index);
    let crops = batch::draw(task, archive, domains::of_batch(task, archive, index), &random, device);
    let members = config.members as i64;
    let fields =
        one_step(networks, process, task, &crops, &batch::member_noise(task, process, &crops, &random, members));
    let weight = task.training.loss.spectrum;
    let of_spectrum = (weight > 0.0).then(|| spectrum::of_members(task, &crops, &fields) * weight);
    let judged = Judged::new(task, &crops, fields);
    let parts: Vec<Tensor> = config.scales.iter().map(|side| judged.at(*side as i64, config)).collect();
    let loss = Tensor::stack(&parts, 0).mean(Kind::Float);
    match of_spectrum {
        Some(of_spectrum) => loss + of_spectrum,
        None => loss,
    }
}

/// What the network makes of noise: transformed future frames `[member * sample, lead, channel, y, x]`, as the sampler reads
/// them with one step; NaN where the first guess is missing.
fn one_step(networks: &Networks, process: &Process, task: &Task, crops: &Crops, noise: &Tensor) -> Tensor {
    let model = &task.model;
    let at = model.sampler.solver.instants(&process.schedule)[0];
    let count = noise.size()[0];
    let members = 0..(count / crops.future.size()[0].max(1)) as usize;
    // Members that share a first guess share a condition, too.
    let own = members.len().min(crops.guesses.len().max(1));
    let conditions: Vec<Tensor> =
        (0..own).map(|member| networks.foreseen(batch::condition(task, crops, member)).channels).collect();
    let conditions: Vec<&Tensor> = conditions.iter().cycle().take(members.len()).collect();
    let condition = Condition { channels: Tensor::cat(&conditions, 0) };
    let start = process.start(noise, &at);
    let x = process.to_network(&start, &at);
    let steps = vec![at.step.unwrap_or(0); count as usize];
    let output = networks.denoiser.forward(&condition.join(&x), &step_tensor(&steps, noise.device()));
    let found = process.from_network(&process.noise_of(output, &x, &at), &at);
    let future = solver::clean(&start, &found, &at).narrow(1, model.past() as i64, model.leads as i64);
    let guesses: Vec<&Tensor> = members.filter_map(|member| crops.guess(member)).collect();
    match &model.residual {
        Some(residual) if !guesses.is_empty() => residual.inverse(&future, &Tensor::cat(&guesses, 0)),
        _ => future,
    }
}

/// Members and what happened, both 0 where either is missing.
struct Judged {
    /// `[member, sample, lead, channel, y, x]`.
    members: Tensor,
    /// `[sample, lead, channel, y, x]`.
    truth: Tensor,
    /// 1 where known.
    known: Tensor,
    /// Of each lead and sample.
    weight: Tensor,
    transforms: Vec<Transform>,
}

impl Judged {
    fn new(task: &Task, crops: &Crops, fields: Tensor) -> Self {
        let (samples, leads, channels, rows, columns) = crops.future.size5().expect("of five dimensions");
        let members = fields.reshape([-1, samples, leads, channels, rows, columns]);
        // Members whose first guesses are their own do not miss the same cells.
        let known = crops.future.isnan().logical_or(&members.isnan().any_dim(0, false)).logical_not();
        let zero = Tensor::zeros([1], (Kind::Float, crops.future.device()));
        let [members, truth] = [&members, &crops.future].map(|values| values.where_self(&known, &zero));
        let known = known.to_kind(Kind::Float);
        let weight = weight_of_leads(task.model.residual.as_ref(), leads, known.device());
        let weight = match task.training.loss.unbiased {
            true => weight * batch::per_sample(crops.density.iter().map(|d| 1.0 / d.max(1e-6)), known.device()),
            false => weight,
        };
        Self { members, truth, known, weight, transforms: task.model.transforms.clone() }
    }

    /// The loss of means over squares of so many cells.
    fn at(&self, side: i64, config: &EnsembleLoss) -> Tensor {
        let pool = |values: &Tensor| pooled(values, side);
        let weight = pool(&self.known) * &self.weight;
        let total = weight.sum(Kind::Float).clamp_min(1e-6);
        let crps = |of: &dyn Fn(&Tensor) -> Tensor| {
            let values = almost_fair_crps(
                &pool(&(of(&self.members) * &self.known)),
                &pool(&(of(&self.truth) * &self.known)),
                config.alpha,
            );
            (values * &weight).sum(Kind::Float) / &total
        };
        let transformed = crps(&|values| in_bounds(values, &self.transforms));
        if config.of_field == 0.0 {
            return transformed;
        }
        transformed + crps(&|values| in_units(&in_bounds(values, &self.transforms), &self.transforms)) * config.of_field
    }
}

/// Each lead counts in units of its usual error, where that is known: else the last ones would be all that counts.
fn weight_of_leads(residual: Option<&Residual>, leads: i64, device: Device) -> Tensor {
    let of = |lead: i64| {
        let factor = residual.and_then(|r| r.factor.get(lead as usize).or(r.factor.last()).copied()).unwrap_or(1.0);
        (1.0 / factor.max(1e-6)) as f32
    };
    let weights: Vec<f32> = (0..leads).map(of).collect();
    crate::device::sent(&Tensor::from_slice(&weights), device).reshape([1, -1, 1, 1, 1])
}

/// Means over squares of cells, of `[..., y, x]`; cells that fill no square are left out.
pub(super) fn pooled(values: &Tensor, side: i64) -> Tensor {
    if side == 1 {
        return values.shallow_clone();
    }
    let mut size = values.size();
    let planes = values.flatten(0, -3);
    let pooled = planes.avg_pool2d([side, side], [side, side], [0, 0], false, true, None);
    let rank = size.len();
    size[rank - 2..].copy_from_slice(&pooled.size()[1..]);
    pooled.reshape(size)
}

/// What of a value beyond the bounds of its transform is kept, so that it is drawn back.
const BEYOND: f64 = 0.1;

/// Applies a function to each channel of `[..., channel, y, x]`.
fn by_channel(values: &Tensor, transforms: &[Transform], of: impl Fn(Tensor, Transform) -> Tensor) -> Tensor {
    let channel = |(i, transform): (usize, &Transform)| of(values.narrow(-3, i as i64, 1), *transform);
    Tensor::cat(&transforms.iter().enumerate().map(channel).collect::<Vec<_>>(), -3)
}

/// Transformed values within what their transform gives, but for a tenth of what lies beyond.
pub(super) fn in_bounds(values: &Tensor, transforms: &[Transform]) -> Tensor {
    by_channel(values, transforms, |values, transform| match transform {
        Transform::Rain { .. } => {
            let within = values.clamp(-1.0, 1.0);
            &within + (&values - &within) * BEYOND
        }
        Transform::Scale { .. } => values,
    })
}

/// In the units of the variables.
fn in_units(values: &Tensor, transforms: &[Transform]) -> Tensor {
    by_channel(values, transforms, |values, transform| transform.inverse_of(&values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values)
    }

    #[test]
    fn the_almost_fair_crps_lies_between_that_of_the_members_and_the_fair_one() {
        // Members 1, 4 and 2 of 3 that happened: mean error 4/3, mean difference of pairs 2.
        let members = row(&[1.0, 4.0, 2.0]).reshape([3, 1]);
        let crps = |alpha| almost_fair_crps(&members, &row(&[3.0]), alpha).double_value(&[0]);
        let (biased, fair) = (4.0 / 3.0 - 2.0 * (1.0 + 3.0 + 2.0) / 18.0, 4.0 / 3.0 - (1.0 + 3.0 + 2.0) / 6.0);
        assert!((crps(0.0) - biased).abs() < 1e-6 && (crps(1.0) - fair).abs() < 1e-6);
        assert!((crps(0.95) - (0.95 * fair + 0.05 * biased)).abs() < 1e-6);
    }

    #[test]
    fn it_is_least_for_draws_from_what_happens() {
        tch::manual_seed(5);
        let options = (Kind::Float, Device::Cpu);
        let truth = Tensor::randn([100_000], options);
        let members = Tensor::randn([2, 100_000], options);
        let of = |spread: f64| almost_fair_crps(&(&members * spread), &truth, 1.0).mean(Kind::Double).double_value(&[]);
        let (narrow, right, wide) = (of(0.8), of(1.0), of(1.2));
        assert!(right < narrow && right < wide, "{narrow} {right} {wide}");
    }

    #[test]
    fn cells_that_any_member_misses_count_for_none() {
        let nan = f32::NAN;
        let task: Task = serde_json::from_value(serde_json::json!({
            "model": {"name": "test", "variables": ["x_wind"], "transforms": [{"scale": {"by": 10.0}}],
                "cadence_seconds": 300, "spacing_m": [900, 1100], "context": 1, "leads": 1,
                "tiling": {"tile": [4, 4], "overlap": 0}, "network": {"in_channels": 4, "out_channels": 1,
                "channels": 32, "mult": [1], "res_blocks": 1, "attention": [], "heads": 2}},
            "training": {"steps": 1, "loss": {"ensemble": {"alpha": 0.0}}}
        }))
        .unwrap();
        let cells = |values: &[f32]| row(values).reshape([-1, 1, 1, 1, 4]);
        let crops = Crops {
            history: cells(&[0.0; 4]),
            future: cells(&[1.0, 1.0, nan, 3.0]),
            guesses: Vec::new(),
            beside: cells(&[]),
            moved: None,
            density: vec![1.0],
        };
        let members = cells(&[1.0, nan, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0]);
        let judged = Judged::new(&task, &crops, members);
        // Of the first and the last cell, 0 and 1.
        let loss = judged.at(1, task.training.loss.ensemble.as_ref().unwrap()).double_value(&[]);
        assert!((loss - 0.5).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn squares_are_means_of_their_cells() {
        let values = Tensor::arange(32, (Kind::Float, Device::Cpu)).reshape([1, 2, 1, 4, 4]);
        let of = pooled(&values, 2);
        assert_eq!(of.size(), [1, 2, 1, 2, 2]);
        assert_eq!(of.double_value(&[0, 0, 0, 0, 1]), (2.0 + 3.0 + 6.0 + 7.0) / 4.0);
    }
}
