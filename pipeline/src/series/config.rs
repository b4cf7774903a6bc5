//! What a configuration of a training on series means, after every layer was read and every fault was found.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::{Serialize, Serializer};
use squall_fields::Cadence;
use squall_models::series::{SeriesSpec, SeriesTraining};

use super::read::{self, SERIES};
use crate::commands::Usage;
use crate::config::quantity::{as_cadence, as_written, format_cadence};
use crate::config::{Faults, Layers, to_toml};
use crate::training::DataFile;

/// A training on series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesRun {
    /// Where the table of losses and the model go. Relative to the working folder.
    pub output: PathBuf,
    /// `cpu`, `cuda` or `cuda:1`.
    pub device: Arc<str>,
    /// Threads of the CPU; 0 takes all.
    pub threads: usize,
    /// What the model is.
    #[serde(serialize_with = "as_series")]
    pub series: SeriesSpec,
    /// Files.
    pub data: SeriesData,
    /// How it is scored.
    pub validation: SeriesValidation,
    /// The training itself.
    #[serde(serialize_with = "as_written")]
    pub training: SeriesTraining,
}

/// Files to learn from and to be judged by: of other times, or of other places.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesData {
    /// To learn from; at least one.
    pub train: Vec<SeriesFile>,
    /// To be judged by; at least one.
    pub validation: Vec<SeriesFile>,
}

/// A file of stations, or a part of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesFile {
    /// The file, and the part of its time.
    #[serde(flatten)]
    pub part: DataFile,
    /// The identifiers of the stations that count; all of them if none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stations: Vec<String>,
}

/// All of a file.
impl From<PathBuf> for SeriesFile {
    fn from(file: PathBuf) -> Self {
        Self { part: file.into(), stations: Vec::new() }
    }
}

/// How a model is scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesValidation {
    /// Steps from one validation loss to the next; 0 computes none.
    pub every: u64,
    /// Batches of the validation loss.
    pub batches: u64,
    /// From issue time to issue time, of the forecasts that are scored at the end.
    #[serde(serialize_with = "as_cadence")]
    pub issue_every: Cadence,
    /// Most forecasts that are scored.
    pub cases: usize,
    /// Members.
    pub members: usize,
}

impl SeriesRun {
    /// Lays the layers over each other and reads them. Variables of the environment begin with `SQUALL_SERIES__`.
    ///
    /// # Errors
    /// Everything that is wrong in any layer.
    pub fn load(layers: &Layers) -> Result<Self, Faults> {
        layers.read(&SERIES, read::run)
    }

    /// The configuration as TOML; loading it gives the same configuration.
    pub fn to_toml(&self) -> String {
        to_toml(self)
    }

    /// Looks whether every file of its data is there.
    ///
    /// # Errors
    /// Some are not; all of them are named.
    pub fn check_files(&self) -> anyhow::Result<()> {
        let files = self.data.train.iter().chain(&self.data.validation);
        let missing: Vec<String> = files.filter_map(|file| Some(file.part.find().err()?.to_string())).collect();
        if missing.is_empty() { Ok(()) } else { Err(Usage(missing.join("; ")).into()) }
    }

    /// Makes the folder for results.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_output(&self) -> anyhow::Result<()> {
        let folder = &self.output;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the output {}", folder.display()))
    }
}

/// The step from value to value of a model.
pub fn cadence(spec: &SeriesSpec) -> Cadence {
    Cadence::every_seconds(spec.cadence_seconds).expect("the cadence of a model without faults is never 0")
}

/// As [`read::run`] reads it: with a cadence and a variable.
fn as_series<S: Serializer>(spec: &SeriesSpec, serializer: S) -> Result<S::Ok, S::Error> {
    let mut json = serde_json::to_value(spec).map_err(serde::ser::Error::custom)?;
    let fields = json.as_object_mut().expect("a struct with names");
    fields.remove("cadence_seconds");
    fields.insert("cadence".to_owned(), format_cadence(spec.cadence_seconds).into());
    if let Some(quantity) = fields.remove("quantity") {
        fields.insert("variable".to_owned(), quantity);
    }
    as_written(&json, serializer)
}
