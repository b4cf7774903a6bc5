//! What makes a stream's forecasts.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use squall_models::baselines::Baseline;
use squall_models::calibration::Calibration;
use squall_models::diffusion::Options;

use super::quantity::as_written;

/// A model, as a stream's configuration names it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ModelConfig {
    /// A model that needs no weights, with its settings.
    Named(Baseline),
    /// Trained weights.
    File {
        /// A safetensors file whose metadata says what it is.
        file: PathBuf,
        /// Whether a newer file under that path is taken up at a slot boundary. Where it is not said: live yes, in a
        /// replay, which must give the same each time, no.
        #[serde(skip_serializing_if = "Option::is_none")]
        watch: Option<bool>,
        /// How it is run.
        #[serde(flatten, serialize_with = "as_written")]
        options: Options,
    },
    /// One of the two, with what was fitted for it.
    Calibrated {
        /// A file that `squall model calibrate` has written.
        calibrated: PathBuf,
        /// Whether a newer file under that path is taken up, as of weights.
        #[serde(skip_serializing_if = "Option::is_none")]
        watch: Option<bool>,
        /// The model that the file names.
        #[serde(skip)]
        base: Box<ModelConfig>,
        /// What corrects its ensembles; `None` where the fit is in the model's own settings.
        #[serde(skip)]
        calibration: Option<Arc<Calibration>>,
    },
}

impl ModelConfig {
    /// The model itself, without its calibration.
    pub fn base(&self) -> &Self {
        match self {
            Self::Calibrated { base, .. } => base,
            other => other,
        }
    }

    /// The same on another device.
    #[must_use]
    pub fn on(&self, device: &str) -> Self {
        match self {
            Self::Named(baseline) => Self::Named(baseline.clone()),
            Self::File { file, watch, options } => Self::File {
                file: file.clone(),
                watch: *watch,
                options: Options { device: device.to_owned(), ..options.clone() },
            },
            Self::Calibrated { calibrated, watch, base, calibration } => Self::Calibrated {
                calibrated: calibrated.clone(),
                watch: *watch,
                base: base.on(device).into(),
                calibration: calibration.clone(),
            },
        }
    }

    /// What it is, in a few words.
    pub fn described(&self) -> String {
        match self {
            Self::Named(baseline) => baseline.kind().name().to_owned(),
            Self::File { file, .. } => file.display().to_string(),
            Self::Calibrated { calibrated, base, .. } => {
                format!("{} as fitted in {}", base.described(), calibrated.display())
            }
        }
    }
}
