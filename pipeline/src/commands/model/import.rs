//! `squall model import`: checkpoints of PyTorch as weights files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use squall_models::ModelSpec;
use squall_models::diffusion::{ProcessConfig, SamplerConfig, Tiling, Transform};
use squall_models::network::{AutoencoderConfig, UNetConfig};
use squall_models::weights::{self, Metadata};

use crate::commands::{Usage, print};

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
pub struct Arguments {
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

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
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
            missing_guess: Default::default(),
            predictor: None,
            history: Default::default(),
            extra: Vec::new(),
            residual: None,
            tiling: Tiling { tile: (tile, tile), overlap: tile / 4 },
            sampler: SamplerConfig::default(),
        };
        Metadata { training: format!("imported from {}", self.checkpoint.display()), ..Metadata::of(spec) }
    }
}
