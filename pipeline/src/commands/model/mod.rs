//! `squall model`: look at weights files, convert them, score models and calibrate them.

mod asked;
mod calibrate;
mod import;
mod published;
mod score;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use squall_models::diffusion::ProcessConfig;
use squall_models::weights;

use super::print;

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// Prints what a weights file says about itself.
    #[command(after_help = "Example:\n  squall model inspect models/weights/cogdpm-rain.safetensors")]
    Inspect(Inspect),
    /// Converts a PyTorch checkpoint (.ckpt, .pt) of the published models by the names of its parameters.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(import::Arguments),
    /// Scores a model beside others on events that it was not trained on.
    #[command(after_help = score::EXAMPLES)]
    Score(score::Arguments),
    /// Fits a correction of a model's bias and spread to events.
    #[command(after_help = calibrate::EXAMPLES)]
    Calibrate(calibrate::Arguments),
}

const IMPORT_EXAMPLES: &str = "Examples:
  squall model import dydiff.ckpt --config full --cadence 300 --spacing 1000 2000 --output dydiff.safetensors
  squall model import other.ckpt --metadata model.json --output other.safetensors

--metadata takes what `squall model inspect --json` prints.";

impl Model {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(arguments) => arguments.run(),
            Self::Import(arguments) => arguments.run(),
            Self::Score(arguments) => arguments.run(),
            Self::Calibrate(arguments) => arguments.run(),
        }
    }
}

/// Arguments of `squall model inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Weights file (safetensors).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the metadata as JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    fn run(self) -> anyhow::Result<()> {
        let found = weights::describe(&self.file)?;
        let meta = &found.metadata;
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(meta)?));
            return Ok(());
        }
        let json = |value: serde_json::Result<String>| value.expect("what was read from JSON can be written as JSON");
        let spec = &meta.spec;
        let names: Vec<String> =
            spec.variables.iter().zip(&meta.units).map(|(v, u)| format!("{} ({u})", v.name())).collect();
        let process = match spec.process {
            ProcessConfig::Plain {} => "plain".to_owned(),
            ProcessConfig::Dynamical { ratio } => format!("dynamical, ratio {ratio}"),
            ProcessConfig::Flow {} => "flow".to_owned(),
            ProcessConfig::Poisson { dimensions } => format!("poisson, {dimensions} dimensions"),
        };
        let rows = [
            ("file", format!("{}, {} bytes", self.file.display(), found.bytes)),
            ("digest", found.digest.clone()),
            ("name", spec.name.clone()),
            ("variables", names.join(", ")),
            ("transforms", json(serde_json::to_string(&spec.transforms))),
            ("cadence", format!("{} s", spec.cadence_seconds)),
            ("spacing", format!("{} to {} m", spec.spacing_m.0, spec.spacing_m.1)),
            ("context", format!("{} frames", spec.context)),
            ("leads", format!("{}", spec.leads)),
            ("process", format!("{process}; the network predicts the {}", json(serde_json::to_string(&spec.target)))),
            ("first guess", json(serde_json::to_string(&spec.first_guess))),
            ("residual", spec.residual.as_ref().map_or("none".into(), |r| json(serde_json::to_string(r)))),
            ("network", json(serde_json::to_string(&spec.network))),
            ("past seen as", json(serde_json::to_string(&spec.history))),
            ("predictor", spec.predictor.as_ref().map_or("none".into(), |p| json(serde_json::to_string(p)))),
            ("autoencoder", spec.autoencoder.as_ref().map_or("none".into(), |a| json(serde_json::to_string(a)))),
            ("parameters", format!("{} as {}", found.parameters, found.storage.join(", "))),
            ("sampler", json(serde_json::to_string(&spec.sampler))),
            ("tiling", json(serde_json::to_string(&spec.tiling))),
            ("training data", meta.training_data.join("; ")),
            ("training", meta.training.clone()),
            ("made by", format!("squall {}", meta.code_version)),
        ];
        let text: String = rows.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect();
        print(&text);
        Ok(())
    }
}
