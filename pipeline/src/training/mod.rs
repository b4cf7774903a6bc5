//! Training runs as files: which data, which model, where the results go.
//!
//! The mechanisms are in `squall_models::training`; here is what touches files: the configuration, reading archives
//! into events, and plots.

pub mod archive;
pub mod plot;
pub mod resume;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use squall_fields::Variable;
use squall_models::diffusion::{SamplerConfig, Tiling};
use squall_models::training::TrainingConfig;
use squall_models::weights::Metadata;

pub use archive::DataFile;

use crate::commands::Usage;

/// A training configuration file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Where checkpoints, tables, plots and the model go. Relative to the working folder.
    pub output: PathBuf,
    /// `cpu`, `cuda` or `cuda:1`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Threads of the CPU; 0 takes all.
    #[serde(default)]
    pub threads: usize,
    /// How often a checkpoint is written, in seconds. One is written at the end, too.
    #[serde(default = "checkpoint_seconds")]
    pub checkpoint_seconds: u64,
    /// What the model is called, and where it may be used.
    pub model: About,
    /// Files.
    pub data: Data,
    /// How it is scored on the way and at the end.
    #[serde(default)]
    pub validation: Validation,
    /// The training itself.
    pub training: TrainingConfig,
}

/// What the weights file says about the model, apart from what training knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name for people.
    pub name: String,
    /// Variables, in the order of `training.transforms`.
    pub variables: Vec<Variable>,
    /// Seconds from frame to frame.
    pub cadence_seconds: u32,
    /// Smallest and largest grid spacing in metres that it may be used on.
    pub spacing_m: (f64, f64),
    /// How it covers a domain.
    pub tiling: Tiling,
    /// How it is sampled.
    #[serde(default)]
    pub sampler: SamplerConfig,
}

/// Files to learn from and to be judged by: different events, never frames of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// To learn from.
    pub train: Vec<DataFile>,
    /// To be judged by.
    pub validation: Vec<DataFile>,
    /// Every so many frames start a clip.
    #[serde(default = "every")]
    pub clip_every: usize,
}

/// How a model is scored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

impl Default for Validation {
    fn default() -> Self {
        Self { every: 500, batches: 16, cases: 2, size: 256, members: 8, thresholds: vec![0.1, 1.0, 5.0] }
    }
}

fn cpu() -> String {
    "cpu".to_owned()
}

fn checkpoint_seconds() -> u64 {
    180
}

fn every() -> usize {
    1
}

impl RunFile {
    /// Reads one and checks it; every fault is named.
    ///
    /// # Errors
    /// The file cannot be read, is no such TOML, or does not make sense.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Usage(format!("cannot read the training configuration {}: {error}", path.display())))?;
        let run: Self = toml::from_str(&text)
            .map_err(|error| Usage(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
        let mut faults = run.training.faults();
        if run.model.variables.len() != run.training.channels() {
            let (variables, transforms) = (run.model.variables.len(), run.training.channels());
            faults.push(format!("{variables} variables have {transforms} transforms"));
        }
        if run.data.train.is_empty() || run.data.validation.is_empty() {
            faults.push("data.train and data.validation need a file each".to_owned());
        }
        if faults.is_empty() {
            Ok(run)
        } else {
            Err(Usage(format!("{}: {}", path.display(), faults.join("; "))).into())
        }
    }

    /// What the weights file of a trained model says.
    pub fn metadata(&self, training: &TrainingConfig, events: Vec<String>, how: String) -> Metadata {
        Metadata {
            name: self.model.name.clone(),
            variables: self.model.variables.clone(),
            units: Vec::new(),
            transforms: training.transforms.clone(),
            cadence_seconds: self.model.cadence_seconds,
            spacing_m: self.model.spacing_m,
            context: training.context,
            leads: training.leads,
            network: training.network.clone(),
            autoencoder: None,
            ratio: training.ratio,
            target: training.target,
            first_guess: training.first_guess,
            residual: training.residual.clone(),
            tiling: self.model.tiling,
            sampler: self.model.sampler.clone(),
            training_data: events,
            training: how,
            code_version: String::new(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configurations_make_sense() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        for name in ["train-cogdpm-rain.toml", "train-dydiff-wind.toml"] {
            let run = RunFile::load(&folder.join(name)).unwrap();
            let training = &run.training;
            let faults = run.metadata(training, Vec::new(), String::new()).faults();
            assert!(faults.is_empty(), "{name}: {faults:?}");
        }
    }

    #[test]
    fn faults_of_a_configuration_are_one_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        let good = include_str!("../../tests/small-training.toml");
        let bad = good.replace("crop = { size = 32", "crop = { size = 31").replace("mult = [1, 1]", "mult = []");
        std::fs::write(&path, bad).unwrap();
        let error = RunFile::load(&path).unwrap_err();
        assert!(error.is::<Usage>());
        let text = error.to_string();
        assert!(text.contains("a crop of 31") && text.contains("at least one level"), "{text}");
    }
}
