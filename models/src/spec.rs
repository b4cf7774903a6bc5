//! What a diffusion model is, described once: a weights file says it, and a training configuration asks for it.

use serde::{Deserialize, Serialize};
use squall_fields::Variable;

use crate::baselines;
use crate::diffusion::denoiser::History;
use crate::diffusion::extra::Extra;
use crate::diffusion::first_guess::{FirstGuess, MissingGuess};
use crate::diffusion::residual::Residual;
use crate::diffusion::{ProcessConfig, SamplerConfig, Target, Tiling, Transform, foresight};
use crate::network::{AutoencoderConfig, UNetConfig};

/// All that is needed to run a model beside its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name for people, such as `cogdpm-rain`.
    pub name: String,
    /// Variables of a frame, in the order of its channels.
    pub variables: Vec<Variable>,
    /// Normalisation of each variable.
    pub transforms: Vec<Transform>,
    /// Seconds from frame to frame.
    pub cadence_seconds: u32,
    /// Smallest and largest grid spacing in metres that it is made for.
    pub spacing_m: (f64, f64),
    /// Frames of context.
    pub context: usize,
    /// Frames that are forecast.
    pub leads: usize,
    /// Sizes of the denoising network.
    pub network: UNetConfig,
    /// Sizes of the predictive stream, of a model that has one ([`foresight`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictor: Option<UNetConfig>,
    /// Sizes of the autoencoder, of a latent model.
    #[serde(default)]
    pub autoencoder: Option<AutoencoderConfig>,
    /// How frames are noised.
    #[serde(default)]
    pub process: ProcessConfig,
    /// What the network predicts.
    #[serde(default)]
    pub target: Target,
    /// What the future frames of the condition hold.
    #[serde(default)]
    pub first_guess: FirstGuess,
    /// What the network sees where the first guess is missing.
    #[serde(default)]
    pub missing_guess: MissingGuess,
    /// How the network sees the frames of the past.
    #[serde(default, skip_serializing_if = "is_default")]
    pub history: History,
    /// Channels of the condition beyond the variables, in their order. A frame must have the variables among them, too.
    #[serde(default)]
    pub extra: Vec<Extra>,
    /// Set if the error of the first guess is diffused and not the field itself. In a training configuration an empty
    /// `factor` is fitted to the data.
    #[serde(default)]
    pub residual: Option<Residual>,
    /// How to cover a domain; cells of the latent space for a latent model.
    pub tiling: Tiling,
    /// How to sample unless told otherwise.
    #[serde(default)]
    pub sampler: SamplerConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ModelSpec {
    /// Frames of a clip: context and leads.
    pub fn frames(&self) -> usize {
        self.context + self.leads
    }

    /// Frames of the past that pass through the network.
    pub fn past(&self) -> usize {
        self.history.frames(self.context)
    }

    /// Frames that pass through the network: those of the past, if they do, and the leads.
    pub fn diffused(&self) -> usize {
        self.past() + self.leads
    }

    /// Channels of a frame that are diffused.
    fn channels(&self) -> i64 {
        self.autoencoder.as_ref().map_or(self.variables.len() as i64, |autoencoder| autoencoder.latent_channels)
    }

    /// Channels of a frame's condition, without what a predictive stream says.
    fn condition_channels(&self) -> i64 {
        let channels = self.channels();
        let past = (self.context - self.past()) as i64 * (channels + 1);
        let mask = i64::from(self.missing_guess == MissingGuess::Masked);
        channels + 2 + mask + self.extra.len() as i64 + past
    }

    /// Rows and columns that are diffused must be multiples of this.
    pub fn stride(&self) -> usize {
        let (a, b) = (self.network.stride(), self.predictor.as_ref().map_or(1, UNetConfig::stride));
        (1..=b).map(|times| times * a).find(|both| both.is_multiple_of(b)).unwrap_or(a * b)
    }

    /// The same in pixels, of which a cell of a latent space has several.
    pub fn pixel_stride(&self) -> usize {
        self.stride() * self.autoencoder.as_ref().map_or(1, AutoencoderConfig::stride)
    }

    /// Variables that a frame must have: those that are forecast, then those of extra channels.
    pub fn inputs(&self) -> Vec<Variable> {
        self.variables.iter().copied().chain(self.extra.iter().filter_map(|e| Some(e.variable()?.0))).collect()
    }

    /// Normalisation of each of [`ModelSpec::inputs`].
    pub fn input_transforms(&self) -> Vec<Transform> {
        self.transforms.iter().copied().chain(self.extra.iter().filter_map(|e| Some(e.variable()?.1))).collect()
    }

    /// The transformed value of 0 of each variable that is forecast.
    pub fn dry(&self) -> Vec<f32> {
        self.transforms.iter().map(|transform| transform.forward(0.0)).collect()
    }

    /// What does not fit together, one sentence each; empty if all does.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.network.faults();
        faults.extend(self.autoencoder.iter().flat_map(|autoencoder| autoencoder.faults(self.variables.len())));
        faults.extend(self.process.fault());
        let (channels, condition) = (self.channels(), self.condition_channels());
        let foreseen = self.predictor.as_ref().map_or(0, foresight::channels);
        let more = condition - channels - 2 + foreseen;
        let mut expect = |what: &str, network: &UNetConfig, needed: i64| {
            if network.in_channels != needed || network.out_channels != channels {
                let (i, o) = (network.in_channels, network.out_channels);
                let with = if more == 0 { String::new() } else { format!(" and {more} more") };
                faults.push(format!(
                    "frames of {channels} channels{with} need {needed} channels in and {channels} out, {what} has {i} and {o}"
                ));
            }
        };
        expect("the network", &self.network, channels + condition + foreseen);
        if let Some(predictor) = &self.predictor {
            expect("the predictor", predictor, condition);
            faults.extend(predictor.faults().into_iter().map(|fault| format!("predictor: {fault}")));
            let area = predictor.patch * predictor.patch;
            if area > 0 && predictor.channels % area != 0 {
                let (channels, side) = (predictor.channels, predictor.patch);
                faults.push(format!(
                    "predictor: {channels} channels of a cell are no multiple of its {side} x {side} pixels"
                ));
            }
        }
        if self.sampler.mean && self.predictor.is_none() {
            faults.push("sampler.mean is of models with a predictor".to_owned());
        }
        if self.history == History::Channels && self.process.ratio() > 0.0 {
            faults.push(
                "history = \"channels\" is not for the dynamical process, which mixes frames of the past in".to_owned(),
            );
        }
        if self.missing_guess == MissingGuess::Masked && self.first_guess == FirstGuess::None {
            faults.push("missing_guess = \"masked\" needs a first_guess".to_owned());
        }
        if self.extra.contains(&Extra::Extrapolation {}) && !self.first_guess.is_of_members() {
            faults.push("the extra channel extrapolation stands beside first_guess = \"steps\"".to_owned());
        }
        if self.first_guess.is_of_members() && self.variables.iter().any(|v| !baselines::RAIN.contains(v)) {
            faults.push("first_guess = \"steps\" is for models of rain alone".to_owned());
        }
        if self.first_guess.is_of_members() && self.context < 3 {
            faults.push(format!("first_guess = \"steps\" needs 3 frames of context, there are {}", self.context));
        }
        if self.autoencoder.is_some() && (self.missing_guess != MissingGuess::Zero || !self.extra.is_empty()) {
            faults.push("missing_guess and extra are for models in pixel space".to_owned());
        }
        let inputs = self.inputs();
        for (i, variable) in inputs.iter().enumerate().filter(|(i, variable)| inputs[..*i].contains(variable)) {
            faults.push(format!("{} stands twice among variables and extra, at last in place {i}", variable.name()));
        }
        if self.transforms.len() != self.variables.len() {
            faults.push(format!("{} variables have {} transforms", self.variables.len(), self.transforms.len()));
        }
        let stride = self.stride();
        let (rows, columns) = self.tiling.tile;
        if rows == 0 || rows % stride != 0 || columns == 0 || columns % stride != 0 {
            faults.push(format!("a tile of {rows} x {columns} is no multiple of the network's stride {stride}"));
        }
        if self.residual.is_some() && self.first_guess == FirstGuess::None {
            faults.push("a residual needs a first_guess".to_owned());
        }
        if self.residual.is_some() && self.autoencoder.is_some() {
            faults.push("a residual is for models in pixel space".to_owned());
        }
        if self.context == 0 || self.leads == 0 || self.variables.is_empty() || self.cadence_seconds == 0 {
            faults.push("context, leads, variables and cadence must not be empty".to_owned());
        }
        faults
    }
}
