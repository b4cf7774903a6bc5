//! What a weights file says about itself.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use squall_fields::Variable;

use crate::diffusion::first_guess::FirstGuess;
use crate::diffusion::residual::Residual;
use crate::diffusion::{SamplerConfig, Target, Tiling, Transform};
use crate::network::{AutoencoderConfig, UNetConfig};

/// Names this kind of file, with its version: the entry of its header that holds [`Metadata`] in JSON.
pub const FORMAT: &str = "squall-model-1";

/// All that is needed to run a model beside its numbers, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name for people, such as `cogdpm-rain`.
    pub name: String,
    /// Variables of a frame, in the order of its channels.
    pub variables: Vec<Variable>,
    /// Unit of each variable, as CF writes it; always that of [`Variable::unit`].
    #[serde(default)]
    pub units: Vec<String>,
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
    /// Sizes of the autoencoder, of a latent model.
    #[serde(default)]
    pub autoencoder: Option<AutoencoderConfig>,
    /// Share of the dynamical operator; 0 is plain diffusion.
    #[serde(default)]
    pub ratio: f64,
    /// What the network predicts.
    #[serde(default)]
    pub target: Target,
    /// What the future frames of the condition hold.
    #[serde(default)]
    pub first_guess: FirstGuess,
    /// Set if the error of the first guess is diffused and not the field itself.
    #[serde(default)]
    pub residual: Option<Residual>,
    /// How to cover a domain; cells of the latent space for a latent model.
    pub tiling: Tiling,
    /// How to sample unless told otherwise.
    #[serde(default)]
    pub sampler: SamplerConfig,
    /// Events that it was trained on.
    #[serde(default)]
    pub training_data: Vec<String>,
    /// How it was trained, in words: steps, batch, loss, scores.
    #[serde(default)]
    pub training: String,
    /// Version of Squall that wrote it.
    #[serde(default)]
    pub code_version: String,
}

impl Metadata {
    /// What does not fit together, one sentence each; empty if all does.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.network.faults();
        faults.extend(self.autoencoder.iter().flat_map(|autoencoder| autoencoder.faults(self.variables.len())));
        let channels = match &self.autoencoder {
            Some(autoencoder) => autoencoder.latent_channels,
            None => self.variables.len() as i64,
        };
        if self.network.in_channels != 2 * channels + 2 || self.network.out_channels != channels {
            let (i, o) = (self.network.in_channels, self.network.out_channels);
            faults.push(format!(
                "frames of {channels} channels need {} channels in and {channels} out, the network has {i} and {o}",
                2 * channels + 2
            ));
        }
        if self.transforms.len() != self.variables.len() {
            faults.push(format!("{} variables have {} transforms", self.variables.len(), self.transforms.len()));
        }
        let stride = self.network.stride();
        let (rows, columns) = self.tiling.tile;
        if rows == 0 || rows % stride != 0 || columns == 0 || columns % stride != 0 {
            faults.push(format!("a tile of {rows} x {columns} is no multiple of the network's stride {stride}"));
        }
        if self.residual.is_some() && self.first_guess == FirstGuess::None {
            faults.push("a residual needs a first guess".to_owned());
        }
        if self.residual.is_some() && self.autoencoder.is_some() {
            faults.push("a residual is for models in pixel space".to_owned());
        }
        if self.context == 0 || self.leads == 0 || self.variables.is_empty() || self.cadence_seconds == 0 {
            faults.push("context, leads, variables and cadence must not be empty".to_owned());
        }
        faults
    }

    /// As the one entry of a safetensors header: several would be written in random order, and so change the digest.
    pub(super) fn entries(&self) -> Result<HashMap<String, String>, serde_json::Error> {
        let mut complete = self.clone();
        complete.units = self.variables.iter().map(|v| unit_name(*v)).collect();
        complete.code_version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(HashMap::from([(FORMAT.to_owned(), serde_json::to_string(&complete)?)]))
    }

    /// From the entries of a safetensors header.
    pub(super) fn from_entries(entries: &HashMap<String, String>) -> Result<Self, String> {
        let entry = entries.get(FORMAT).ok_or_else(|| {
            let found: Vec<&str> = entries.keys().map(String::as_str).collect();
            format!("its header has no entry {FORMAT} (it has: {}); is it a Squall model?", found.join(", "))
        })?;
        let metadata: Self = serde_json::from_str(entry).map_err(|e| format!("header: {e}"))?;
        let expected: Vec<String> = metadata.variables.iter().map(|v| unit_name(*v)).collect();
        if metadata.units != expected {
            return Err(format!("has the units {:?}, {expected:?} was expected", metadata.units));
        }
        match metadata.faults() {
            faults if faults.is_empty() => Ok(metadata),
            faults => Err(faults.join("; ")),
        }
    }
}

fn unit_name(variable: Variable) -> String {
    let value = serde_json::to_value(variable.unit()).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
