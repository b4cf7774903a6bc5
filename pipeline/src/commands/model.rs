//! `squall model`: look at weights files, convert them, score them.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use squall_fields::{Cadence, ValidTime};
use squall_models::ModelSpec;
use squall_models::device::Precision;
use squall_models::diffusion::{Options, ProcessConfig, SamplerConfig, Tiling, Transform};
use squall_models::network::{AutoencoderConfig, UNetConfig};
use squall_models::scores::list::{self, Settings};
use squall_models::scores::precision::{PRECISION, PRECISION_WET};
use squall_models::training::validate::{self, Comparison};
use squall_models::weights::{self, Metadata};

use super::{Usage, print, time, train};
use crate::event_list::EventArguments;
use crate::training::DataFile;

/// What to do with a weights file.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// Prints what a weights file says about itself.
    #[command(after_help = "Example:\n  squall model inspect models/weights/cogdpm-rain.safetensors")]
    Inspect(Inspect),
    /// Converts a PyTorch checkpoint (.ckpt, .pt) of the published models by the names of its parameters.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(Import),
    /// Scores a model beside persistence and extrapolation on files that it was not trained on, as a Markdown table.
    #[command(after_help = SCORE_EXAMPLES)]
    Score(Score),
}

const IMPORT_EXAMPLES: &str = "Examples:
  squall model import dydiff.ckpt --config full --cadence 300 --spacing 1000 2000 --output dydiff.safetensors
  squall model import other.ckpt --metadata model.json --output other.safetensors

--metadata takes what `squall model inspect --json` prints.";

const SCORE_EXAMPLES: &str = "Example:
  squall model score models/weights/cogdpm-rain.safetensors --data radar_fmi_20170509.nc --data radar_mch_20150515.nc

Files that are not found from the working folder are looked for in the folder that SQUALL_DATA names.";

impl Model {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(arguments) => arguments.run(),
            Self::Import(arguments) => arguments.run(),
            Self::Score(arguments) => arguments.run(),
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

/// Sizes of the published models.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sizes {
    /// 2 million parameters.
    Tiny,
    /// 61 million parameters and an autoencoder of 55 million.
    Full,
}

/// Arguments of `squall model import`.
#[derive(Debug, Args)]
pub struct Import {
    /// PyTorch checkpoint: a state dictionary, or one under `state_dict`.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// Sizes of a published model: wind in the latent space of its autoencoder.
    #[arg(long, value_enum, required_unless_present = "metadata")]
    config: Option<Sizes>,
    /// JSON file with everything that a weights file says.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    metadata: Option<PathBuf>,
    /// Seconds from frame to frame, with --config.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    cadence: u32,
    /// Smallest and largest grid spacing in metres, with --config.
    #[arg(long, num_args = 2, value_names = ["LEAST", "MOST"], default_values_t = [1000.0, 30000.0])]
    spacing: Vec<f64>,
    /// Share of the dynamical operator that it was trained with, with --config.
    #[arg(long, default_value_t = 0.5)]
    ratio: f64,
    /// Weights file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl Import {
    fn run(self) -> anyhow::Result<()> {
        let metadata = match (&self.metadata, self.config) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
                Metadata::from_json(&text).map_err(|error| Usage(format!("{}: {error}", path.display())))?
            }
            (None, sizes) => self.published(sizes.unwrap_or(Sizes::Full)),
        };
        let done = weights::import(&self.checkpoint, &metadata, &self.output, tch::Kind::Float)?;
        let unused = done.unused.len();
        print(&format!(
            "{}: {} parameters; {unused} tensors of the checkpoint are not part of the model\n",
            self.output.display(),
            done.parameters
        ));
        Ok(())
    }

    fn published(&self, sizes: Sizes) -> Metadata {
        let (network, autoencoder, tile) = match sizes {
            Sizes::Tiny => (UNetConfig::tiny(3), AutoencoderConfig::tiny(), 8),
            Sizes::Full => (UNetConfig::full(3), AutoencoderConfig::full(), 16),
        };
        let variables = vec![squall_fields::Variable::EastwardWind, squall_fields::Variable::NorthwardWind];
        let spec = ModelSpec {
            name: "dydiff-imported".to_owned(),
            transforms: variables.iter().map(|v| Transform::of(*v)).collect(),
            variables,
            cadence_seconds: self.cadence,
            spacing_m: (self.spacing[0], self.spacing[1]),
            context: 2,
            leads: 8,
            network,
            autoencoder: Some(autoencoder),
            process: ProcessConfig::of_ratio(self.ratio),
            target: Default::default(),
            first_guess: Default::default(),
            residual: None,
            tiling: Tiling { tile: (tile, tile), overlap: tile / 4 },
            sampler: SamplerConfig::default(),
        };
        Metadata { training: format!("imported from {}", self.checkpoint.display()), ..Metadata::of(spec) }
    }
}

/// What a network computes in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Numbers {
    Auto,
    F32,
    Bf16,
}

/// Arguments of `squall model score`.
#[derive(Debug, Args)]
pub struct Score {
    /// Weights file (safetensors).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with observations that the model was not trained on (may be repeated).
    #[arg(long, required_unless_present = "events", value_name = "FILE")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    listed: EventArguments,
    /// First valid time to use.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<ValidTime>,
    /// Issue times of each file.
    #[arg(long, default_value_t = 4)]
    cases: usize,
    /// Rows and columns of the part that is forecast, where the newest frame holds most.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Members of each ensemble.
    #[arg(long, default_value_t = 8)]
    members: usize,
    /// Where the network computes: cpu, cuda, cuda:1.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What it computes in. `auto` is bf16 where the device has it, else f32.
    #[arg(long, value_enum, default_value_t = Numbers::Auto)]
    precision: Numbers,
    /// Thresholds of the CSI of the ensemble mean.
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 1.0, 5.0])]
    thresholds: Vec<f32>,
    /// Sides of windows, of scores that have such, in cells.
    #[arg(long, value_delimiter = ',', default_values_t = [9])]
    scales: Vec<usize>,
    /// Scores, in the order of the table, by their names in docs/verification.md; precision and precision-wet stand below it.
    #[arg(long, value_delimiter = ',', default_value = "crps,csi,spread-skill,precision,precision-wet")]
    scores: Vec<String>,
}

impl Score {
    fn run(self) -> anyhow::Result<()> {
        let settings = Settings { thresholds: self.thresholds.clone(), scales: self.scales.clone() };
        let scores = list::start(&self.scores, &settings).map_err(|error| Usage(format!("--scores: {error}")))?;
        let spec = weights::describe(&self.file)?.metadata.spec;
        let cadence = Cadence::every_seconds(spec.cadence_seconds).context("the model has no cadence")?;
        let mut events = Vec::new();
        let given = self.data.iter().map(|file| DataFile { from: self.from, ..file.clone().into() });
        for file in given.chain(self.listed.files(&spec.variables, cadence)?) {
            events.extend(file.events(&spec.variables, cadence, spec.frames())?);
        }
        let cases = validate::cases(&events, spec.context, spec.leads, self.size, self.cases)?;
        let precision = match self.precision {
            Numbers::Auto => Precision::Auto,
            Numbers::F32 => Precision::F32,
            Numbers::Bf16 => Precision::Bf16,
        };
        let options = Options { device: self.device.clone(), precision, ..Options::default() };
        let comparison = train::compare(&self.file, &options, &cases, spec.leads, self.members, scores)?;
        print(&comparison.board.markdown());
        print(&self.summary(&comparison, cases.len()));
        Ok(())
    }

    fn summary(&self, Comparison { board, seconds }: &Comparison, cases: usize) -> String {
        let mut text = format!("\n{cases} cases of {} x {} cells, {} members\n", self.size, self.size, self.members);
        for (model, name) in board.models().enumerate() {
            text += &format!("{name}: {:.1} s a forecast", seconds[model] / cases as f64);
            let precision = |name| board.pooled(model, board.score(name)?);
            if let Some((all, wet)) = precision(PRECISION).zip(precision(PRECISION_WET)) {
                text += &format!(
                    "; rank correlation of the precision map with the absolute error of the ensemble mean {all:.3}, \
                     where it rains {wet:.3}"
                );
            }
            text.push('\n');
        }
        text
    }
}
