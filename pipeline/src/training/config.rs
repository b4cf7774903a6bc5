//! What a training configuration means, after every layer was read and every fault was found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Serialize, Serializer};
use squall_fields::Cadence;
use squall_models::ModelSpec;
use squall_models::training::{Task, TrainingConfig};

use super::DataFile;
use super::read::{self, TRAINING};
use crate::commands::Usage;
use crate::config::quantity::{as_duration, as_written, format_cadence};
use crate::config::{Faults, Layers, to_toml};

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunConfig {
    /// Where checkpoints, tables, plots and the model go. Relative to the working folder.
    pub output: PathBuf,
    /// `cpu`, `cuda` or `cuda:1`.
    pub device: Arc<str>,
    /// Threads of the CPU; 0 takes all.
    pub threads: usize,
    /// How often a checkpoint is written. One is written at the end, too.
    #[serde(serialize_with = "as_duration")]
    pub checkpoint_every: Duration,
    /// What the model is.
    #[serde(serialize_with = "as_model")]
    pub model: ModelSpec,
    /// Files.
    pub data: Data,
    /// How it is scored on the way and at the end.
    pub validation: Validation,
    /// The training itself.
    #[serde(serialize_with = "as_written")]
    pub training: TrainingConfig,
}

/// Files to learn from and to be judged by: different events, never frames of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Data {
    /// To learn from; at least one.
    pub train: Vec<DataFile>,
    /// To be judged by; at least one.
    pub validation: Vec<DataFile>,
    /// List of events by which the two above were checked; `None` checks nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<PathBuf>,
    /// Every so many frames start a clip.
    pub clip_every: usize,
}

/// How a model is scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Steps from one validation to the next; 0 scores at the end alone.
    pub every: u64,
    /// Batches of the validation loss.
    pub batches: u64,
    /// Issue times of each event.
    pub cases: usize,
    /// Rows and columns of the part that is forecast.
    pub size: usize,
    /// Members.
    pub members: usize,
    /// Thresholds of the CSI, in the unit of the variable.
    pub thresholds: Vec<f32>,
}

impl RunConfig {
    /// Lays the layers over each other and reads them. Variables of the environment begin with `SQUALL_TRAIN__`.
    ///
    /// # Errors
    /// Everything that is wrong in any layer.
    pub fn load(layers: &Layers) -> Result<Self, Faults> {
        layers.read(&TRAINING, read::run)
    }

    /// The configuration as TOML; loading it gives the same configuration.
    pub fn to_toml(&self) -> String {
        to_toml(self)
    }

    /// What is trained, and how.
    pub fn task(&self) -> Task {
        Task { model: self.model.clone(), training: self.training.clone() }
    }

    /// The step from frame to frame.
    pub fn cadence(&self) -> Cadence {
        Cadence::every_seconds(self.model.cadence_seconds).expect("read as a cadence, which is never 0")
    }

    /// Looks whether every file of its data is there.
    ///
    /// # Errors
    /// Some are not; all of them are named.
    pub fn check_files(&self) -> anyhow::Result<()> {
        let files = self.data.train.iter().chain(&self.data.validation);
        let missing: Vec<String> = files.filter_map(|file| Some(file.find().err()?.to_string())).collect();
        if missing.is_empty() { Ok(()) } else { Err(Usage(missing.join("; ")).into()) }
    }

    /// Makes the folder for results, and tries to write there before hours are spent.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn make_output(&self) -> anyhow::Result<()> {
        let folder = &self.output;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the output {}", folder.display()))?;
        let probe = folder.join("checkpoint.partial");
        std::fs::write(&probe, b"")
            .and_then(|()| std::fs::remove_file(&probe))
            .with_context(|| format!("cannot write to the output {}", folder.display()))
    }
}

/// As [`read::run`] reads it: with a cadence instead of seconds.
fn as_model<S: Serializer>(model: &ModelSpec, serializer: S) -> Result<S::Ok, S::Error> {
    let mut json = serde_json::to_value(model).map_err(serde::ser::Error::custom)?;
    let fields = json.as_object_mut().expect("a struct with names");
    fields.remove("cadence_seconds");
    fields.insert("cadence".to_owned(), format_cadence(model.cadence_seconds).into());
    as_written(&json, serializer)
}
