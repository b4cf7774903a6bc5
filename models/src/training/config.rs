//! What decides a training run, apart from its data. All of it is kept in checkpoints.

use serde::{Deserialize, Serialize};

use super::average::Rule;
use super::distill::DistillConfig;
use super::domains::DomainsConfig;
use super::ensemble::EnsembleLoss;
use super::stages::StagesConfig;
use super::tuning::TuningConfig;
use crate::ModelSpec;
use crate::diffusion::Guidance;

/// The type that the network computes in. Parameters, averages and the optimizer are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32: on GPUs, and on CPUs with AMX, several times faster.
    Bf16,
}

/// The steps of the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps over which it rises from 0.
    pub warm_up: u64,
    /// Share of it that is left at the last step; it falls along a cosine.
    pub final_share: f64,
    /// Decay of the running mean of the gradient.
    pub beta1: f64,
    /// Decay of the running mean of its square.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm.
    pub clip_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            warm_up: 200,
            final_share: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            weight_decay: 0.01,
            clip_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// Learning rate of a step (from 0) of so many.
    ///
    /// Rises linearly over the warm-up, then falls along half a cosine to `final_share`.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let done = (step - self.warm_up) as f64 / steps.saturating_sub(self.warm_up).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        self.learning_rate * (self.final_share + (1.0 - self.final_share) * cosine)
    }
}

/// How crops are drawn: with probability in proportion to `floor + mean(1 - exp(-rate))` for rain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CropConfig {
    /// Rows and columns of a crop.
    pub size: usize,
    /// Pixels from one possible place of a crop to the next.
    pub stride: usize,
    /// Weight of a place without rain.
    pub floor: f64,
    /// Largest share of missing pixels.
    pub most_missing: f64,
    /// Columns are a circle (a global grid).
    pub periodic: bool,
    /// Probability that a crop covers twice the side, each pixel the mean of four: the same weather on a coarser grid.
    pub zoom: f64,
    /// Standard deviation of the logarithm of a factor on all rain of a crop.
    pub intensity: f64,
}

impl Default for CropConfig {
    fn default() -> Self {
        Self { size: 128, stride: 16, floor: 0.02, most_missing: 0.3, periodic: false, zoom: 0.0, intensity: 0.0 }
    }
}

/// What the loss sees, and weights of pixels in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// The squared error counts with the residual's scale to this power: 0 treats all places alike, 2 is the error in
    /// the units of the field.
    pub scale_power: f64,
    /// Divide by the probability with which the crop was drawn, so that the loss estimates that of uniform crops.
    pub unbiased: bool,
    /// Of a denoiser's loss: sides of the squares of cells whose means are judged, 1 for the cells.
    pub scales: Vec<usize>,
    /// What the mean square difference of the logarithms of power spectra, of predicted fields or of each member from
    /// what came, counts beside the rest.
    pub spectrum: f64,
    /// Train a network that forecasts in one step, by the CRPS of its members, instead of a denoiser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<EnsembleLoss>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { scale_power: 0.0, unbiased: false, scales: vec![1], spectrum: 0.0, ensemble: None }
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Key of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Crops that pass through the network together.
    #[serde(default = "one")]
    pub batch: usize,
    /// Batches whose gradients are summed for one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Type that the network computes in.
    #[serde(default)]
    pub precision: Precision,
    /// Probability of training without condition, for guidance.
    #[serde(default)]
    pub condition_dropout: f64,
    /// Decay of the average of the weights, which is what is used in the end.
    #[serde(default = "ema")]
    pub ema: f64,
    /// Average the weights of all steps instead, each weighed by the density of the Beta distribution (b, b) at its share of the
    /// training: this b.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_average: Option<f64>,
    /// Adapt a trained model, whose weights it starts from, to other data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<TuningConfig>,
    /// Train a student of few steps to do what a trained model, whose weights it starts from, does in many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillConfig>,
    /// One backbone for several domains, a head for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<DomainsConfig>,
    /// How long each network of a model that has several is trained.
    #[serde(default)]
    pub stages: StagesConfig,
    /// Mirror and turn crops. Not for winds, whose components would have to turn too.
    #[serde(default)]
    pub augment: bool,
    /// Crops.
    #[serde(default)]
    pub crop: CropConfig,
    /// Loss.
    #[serde(default)]
    pub loss: LossConfig,
    /// Optimizer.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
}

fn one() -> usize {
    1
}

fn ema() -> f64 {
    0.9999
}

/// What is trained, and how. All of it is kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The model.
    pub model: ModelSpec,
    /// Its training.
    pub training: TrainingConfig,
}

impl Task {
    /// Members of each crop that are trained together, or from whose first guesses one is taken.
    pub fn members_of_crop(&self) -> usize {
        self.training.loss.ensemble.as_ref().map_or(2, |ensemble| ensemble.members)
    }

    /// What is wrong with it, one sentence each; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.model.faults();
        faults.extend(self.training_faults());
        faults
    }

    /// Of these, what is wrong with the training of this model and not with the model itself.
    pub fn training_faults(&self) -> Vec<String> {
        let Self { model, training } = self;
        let (mut faults, stride, crop) = (Vec::new(), model.pixel_stride(), &training.crop);
        if crop.size == 0 || !crop.size.is_multiple_of(stride) {
            faults.push(format!("a crop of {} is no multiple of the network's stride {stride}", crop.size));
        }
        if crop.stride == 0 || training.batch == 0 || training.accumulate == 0 {
            faults.push("batch, accumulate and crop.stride must be at least 1".to_owned());
        }
        if !((0.0..=1.0).contains(&crop.zoom) && (0.0..=2.0).contains(&crop.intensity)) {
            faults.push("crop.zoom lies in 0 to 1, crop.intensity in 0 to 2".to_owned());
        }
        faults.extend(training.stages.faults(model));
        let has_others = model.autoencoder.is_some() || model.predictor.is_some();
        if has_others && (training.domains.is_some() || training.tuning.is_some()) {
            faults.push("domains and tuning are of models without predictor and autoencoder".to_owned());
        }
        if model.autoencoder.as_ref().is_some_and(|sizes| sizes.scale == 0.0) && training.stages.autoencoder == 0.0 {
            faults.push("autoencoder.scale is to be fitted, but stages.autoencoder trains none".to_owned());
        }
        if model.autoencoder.is_some() && training.loss.ensemble.is_some() {
            faults.push("loss.ensemble judges pixels, not those of an autoencoder".to_owned());
        }
        if model.process.ratio() > 0.9 {
            faults.push(format!("ratio {} lies outside 0 to 0.9", model.process.ratio()));
        }
        if !(0.0..1.0).contains(&training.condition_dropout) || !(0.0..1.0).contains(&training.ema) {
            faults.push("condition_dropout and ema lie in 0 to 1".to_owned());
        }
        if training.beta_average.is_some_and(|beta| !(beta > 0.0 && beta.is_finite())) {
            faults.push("beta_average must be above 0".to_owned());
        }
        if let Some(tuning) = &training.tuning {
            faults.extend(tuning.faults(training.batch));
            if training.loss.ensemble.is_some() {
                faults.push("tuning is of a denoiser, not of loss.ensemble".to_owned());
            }
        }
        faults.extend(training.domains.iter().flat_map(DomainsConfig::faults));
        if training.domains.is_some() && training.tuning.is_some() {
            faults.push("tuning has one head, not domains".to_owned());
        }
        if let Some(distill) = &training.distill {
            faults.extend(distill.faults(self));
        }
        faults.extend(self.loss_faults());
        if let Some(ensemble) = &training.loss.ensemble {
            faults.extend(ensemble.faults(crop.size));
            if model.sampler.solver.steps != 1 || model.sampler.guidance != Guidance::None {
                faults.push(
                    "loss.ensemble trains a model of one step: sampler.solver.steps = 1, without guidance".to_owned(),
                );
            }
            if training.loss.scale_power != 0.0 || training.condition_dropout != 0.0 {
                faults.push(
                    "loss.scale_power and condition_dropout are of the denoiser's loss, not of loss.ensemble"
                        .to_owned(),
                );
            }
        }
        faults
    }

    /// What is wrong with what the loss sees.
    fn loss_faults(&self) -> Vec<String> {
        let Self { model, training } = self;
        let (mut faults, loss, crop) = (Vec::new(), &training.loss, training.crop.size);
        if loss.scales.is_empty() || loss.scales.iter().any(|side| *side == 0 || *side > crop) {
            faults.push(format!("loss.scales lie in 1 to the crop's {crop}, at least one"));
        }
        if !(loss.spectrum >= 0.0 && loss.spectrum.is_finite()) {
            faults.push("loss.spectrum is at least 0".to_owned());
        }
        if loss.spectrum > 0.0 && crop < 4 {
            faults.push(format!("loss.spectrum needs crops of at least 4 cells, not {crop}"));
        }
        if loss.scales != [1] && loss.ensemble.is_some() {
            faults.push("loss.scales are of the denoiser's loss; loss.ensemble has scales of its own".to_owned());
        }
        if model.autoencoder.is_some() && (loss.scales != [1] || loss.spectrum > 0.0) {
            faults.push("loss.scales and loss.spectrum judge pixels, not those of an autoencoder".to_owned());
        }
        faults
    }
}

impl TrainingConfig {
    /// How weights are averaged.
    pub fn average(&self) -> Rule {
        match self.beta_average {
            Some(beta) => Rule::Beta { beta, steps: self.steps },
            None => Rule::Exponential { decay: self.ema },
        }
    }

    /// Learning rate of a step (from 0).
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.optimizer.rate(step, self.steps)
    }
}
