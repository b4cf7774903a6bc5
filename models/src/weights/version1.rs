//! Metadata as files were written before a process had a kind: one flat object, with the dynamical operator's share
//! under `ratio`. It is read and never written.

use serde::Deserialize;
use squall_fields::Variable;

use super::metadata::{Metadata, MetadataError};
use crate::ModelSpec;
use crate::diffusion::first_guess::{FirstGuess, MissingGuess};
use crate::diffusion::residual::Residual;
use crate::diffusion::{History, ProcessConfig, SamplerConfig, Target, Tiling, Transform};
use crate::network::{AutoencoderConfig, UNetConfig};

/// The entry of the header.
pub(super) const FORMAT: &str = "squall-model-1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    name: String,
    variables: Vec<Variable>,
    #[serde(default)]
    units: Vec<String>,
    transforms: Vec<Transform>,
    cadence_seconds: u32,
    spacing_m: (f64, f64),
    context: usize,
    leads: usize,
    network: UNetConfig,
    #[serde(default)]
    autoencoder: Option<AutoencoderConfig>,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    first_guess: FirstGuess,
    #[serde(default)]
    residual: Option<Residual>,
    tiling: Tiling,
    #[serde(default)]
    sampler: SamplerConfig,
    #[serde(default)]
    training_data: Vec<String>,
    #[serde(default)]
    training: String,
    #[serde(default)]
    code_version: String,
}

/// What a file of version 1 says, in today's words.
pub(super) fn metadata(text: &str) -> Result<Metadata, MetadataError> {
    let old: Version1 = serde_json::from_str(text)?;
    let spec = ModelSpec {
        name: old.name,
        variables: old.variables,
        transforms: old.transforms,
        cadence_seconds: old.cadence_seconds,
        spacing_m: old.spacing_m,
        context: old.context,
        leads: old.leads,
        network: old.network,
        predictor: None,
        history: History::Frames,
        autoencoder: old.autoencoder,
        process: ProcessConfig::of_ratio(old.ratio),
        target: old.target,
        first_guess: old.first_guess,
        missing_guess: MissingGuess::Zero,
        extra: Vec::new(),
        residual: old.residual,
        tiling: old.tiling,
        sampler: old.sampler,
    };
    let Version1 { units, training_data, training, code_version, .. } = old;
    Ok(Metadata { spec, units, training_data, training, code_version })
}
