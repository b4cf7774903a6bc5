//! Models of several networks are trained in stages: an autoencoder, then a predictive stream, then the denoiser.
//!
//! What a stage has trained stays as it is in those behind it: its averaged weights are taken over when it ends, so that later
//! stages see what the finished model will hold.

use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor};

use super::augment::Reading;
use super::batch::{self, Crops};
use super::config::Task;
use super::data::Archive;
use super::loss::weighted_square;
use crate::ModelSpec;
use crate::diffusion::denoiser::Condition;
use crate::diffusion::foresight;
use crate::diffusion::latent::Space;
use crate::diffusion::noise;
use crate::network::config::{AUTOENCODER_PREFIX, PREDICTOR_PREFIX, UNET_PREFIX};
use crate::network::{Autoencoder, VideoUNet};

/// Crops that the scale of a latent space is fitted to.
const FIT_CROPS: u64 = 16;

/// How long the stages are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StagesConfig {
    /// Share of the steps that train the autoencoder, of a model that has one, first. 0 leaves it as `--from` brings it.
    pub autoencoder: f64,
    /// Share of the steps that train the predictive stream, of a model that has one, then.
    pub predictor: f64,
    /// What the divergence of a latent value from a standard normal one counts beside the error of a pixel.
    pub divergence: f64,
}

impl Default for StagesConfig {
    fn default() -> Self {
        Self { autoencoder: 0.3, predictor: 0.3, divergence: 1e-4 }
    }
}

/// What is trained at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The way into the latent space and back.
    Autoencoder,
    /// The predictive stream.
    Predictor,
    /// The denoiser.
    Denoiser,
}

impl Stage {
    /// Whether a parameter is one of those that it trains.
    pub(super) fn trains(self, name: &str) -> bool {
        let prefix = match self {
            Self::Autoencoder => AUTOENCODER_PREFIX,
            Self::Predictor => PREDICTOR_PREFIX,
            Self::Denoiser => UNET_PREFIX,
        };
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl StagesConfig {
    /// What is wrong with it for a model, one sentence each.
    pub(super) fn faults(&self, model: &ModelSpec) -> Vec<String> {
        let shares = [(model.autoencoder.is_some(), self.autoencoder), (model.predictor.is_some(), self.predictor)];
        let of_steps: f64 = shares.iter().filter(|(is_there, _)| *is_there).map(|(_, share)| share).sum();
        let mut faults = Vec::new();
        if shares.iter().any(|(_, share)| !(0.0..1.0).contains(share)) || of_steps >= 1.0 {
            faults.push("stages.autoencoder and stages.predictor are at least 0 and together below 1".to_owned());
        }
        if !(self.divergence.is_finite() && self.divergence >= 0.0) {
            faults.push("stages.divergence is at least 0".to_owned());
        }
        faults
    }

    /// The stage of a step (from 0) of so many.
    pub fn of(&self, model: &ModelSpec, step: u64, steps: u64) -> Stage {
        let share = |is_there: bool, share: f64| if is_there { (share * steps as f64).ceil() as u64 } else { 0 };
        let first = share(model.autoencoder.is_some(), self.autoencoder);
        let second = first + share(model.predictor.is_some(), self.predictor);
        match step {
            step if step < first => Stage::Autoencoder,
            step if step < second => Stage::Predictor,
            _ => Stage::Denoiser,
        }
    }
}

/// The networks of a model in training.
#[derive(Debug)]
pub struct Networks {
    pub(super) denoiser: VideoUNet,
    pub(super) predictor: Option<VideoUNet>,
    pub(super) autoencoder: Option<Autoencoder>,
}

impl Networks {
    /// The space that is diffused.
    pub(super) fn space(&self) -> Space<'_> {
        Space::new(self.autoencoder.as_ref())
    }

    /// A condition with what the predictive stream says of it. It takes no gradients.
    pub(super) fn foreseen(&self, condition: Condition) -> Condition {
        match &self.predictor {
            Some(predictor) => condition.with(&tch::no_grad(|| foresight::of(predictor, &condition))),
            None => condition,
        }
    }
}

/// Crops of batch number `index`, in pixels.
fn crops(task: &Task, archive: &Archive, index: u64, device: Device) -> (Vec<Philox>, Crops) {
    let random = batch::random(task, index);
    let crops = batch::draw(task, archive, None, &random, device);
    (random, crops)
}

/// The mean square error of what the predictive stream says, of batch number `index`.
pub(super) fn prediction(networks: &Networks, task: &Task, archive: &Archive, index: u64, device: Device) -> Tensor {
    let Some(predictor) = &networks.predictor else { return Tensor::from(0.0) };
    let clean = crops(task, archive, index, device).1.encoded(networks.space());
    let x = batch::frames_to_diffuse(task, &clean);
    let weight = batch::weights(task, &clean, &x);
    let said = foresight::of(predictor, &batch::condition(task, &clean, 0));
    let mean = foresight::mean(predictor.config(), &said);
    weighted_square(&mean, &x.nan_to_num(0.0, None, None), &weight)
}

/// The loss of the autoencoder, of batch number `index`: mean absolute error of pixels that are known, plus a little of the
/// divergence from a standard normal distribution.
pub(super) fn reconstruction(
    networks: &Networks,
    task: &Task,
    archive: &Archive,
    index: u64,
    device: Device,
) -> Tensor {
    let Some(autoencoder) = &networks.autoencoder else { return Tensor::from(0.0) };
    let (random, clean) = crops(task, archive, index, device);
    let frames = Tensor::cat(&[&clean.history, &clean.future], 1).flatten(0, 1);
    let known = frames.isnan().logical_not().to_kind(Kind::Float);
    let frames = frames.nan_to_num(0.0, None, None);
    let parts = autoencoder.moments(&frames).chunk(2, 1);
    let (mean, spread) = (&parts[0], parts[1].clamp(-30.0, 20.0));
    // As many numbers a crop as there are latent values in its frames.
    let each = mean.numel() / random.len().max(1);
    let noise = noise::of_streams(&random, batch::NOISE, each, device).reshape(mean.size());
    let back = autoencoder.decode_unscaled(&(mean + (&spread * 0.5).exp() * noise));
    let error = ((back - frames).abs() * &known).sum(Kind::Float) / known.sum(Kind::Float).clamp_min(1.0);
    let divergence = (mean.square() + spread.exp() - 1.0 - &spread).mean(Kind::Float) * 0.5;
    error + divergence * task.training.stages.divergence
}

/// The factor that gives latents of crops the variance 1.
pub(super) fn fitted_scale(autoencoder: &Autoencoder, task: &Task, archive: &Archive, device: Device) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for i in 0..FIT_CROPS {
        let uniform = Philox::new(!task.training.seed, u64::MAX - i).uniform(batch::CROP);
        let frames = archive.draw(None, uniform, Reading::PLAIN).future.to_device(device).nan_to_num(0.0, None, None);
        let mean = tch::no_grad(|| autoencoder.moments(&frames).chunk(2, 1).remove(0));
        sum += mean.square().sum(Kind::Double).double_value(&[]);
        count += mean.numel() as f64;
    }
    let deviation = (sum / count).sqrt();
    // Short enough to come back from text as it was; a space that holds nothing stays as it is.
    if deviation > 1e-6 { (1e6 / deviation).round() / 1e6 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_those_of_networks_that_are_not_there_are_left_out() {
        let spec = |more: serde_json::Value| -> ModelSpec {
            let mut spec = serde_json::json!({
                "name": "test", "variables": ["x_wind"], "transforms": [{"scale": {"by": 10.0}}],
                "cadence_seconds": 300, "spacing_m": [900, 1100], "context": 1, "leads": 1,
                "tiling": {"tile": [4, 4], "overlap": 0}, "network": {"in_channels": 4, "out_channels": 1,
                "channels": 32, "mult": [1], "res_blocks": 1, "attention": [], "heads": 2}
            });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(spec).unwrap()
        };
        let predictor = serde_json::json!({"predictor": {"in_channels": 3, "out_channels": 1, "channels": 32,
            "mult": [1], "res_blocks": 1, "attention": [], "heads": 2}});
        let stages = StagesConfig { autoencoder: 0.5, predictor: 0.25, ..StagesConfig::default() };
        let of = |spec: &ModelSpec| (0..8).map(|step| stages.of(spec, step, 8)).collect::<Vec<Stage>>();
        use Stage::{Denoiser, Predictor};
        let plain = spec(serde_json::json!({}));
        assert_eq!(of(&plain), [Denoiser; 8]);
        assert_eq!(of(&spec(predictor)), [[Predictor; 2].as_slice(), &[Denoiser; 6]].concat());
        let long = StagesConfig { autoencoder: 0.8, ..stages.clone() };
        assert!(stages.faults(&plain).is_empty() && long.faults(&plain).is_empty());
        let long = StagesConfig { predictor: 1.0, ..stages };
        assert_eq!(long.faults(&plain).len(), 1);
    }
}
