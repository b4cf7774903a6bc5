//! `squall inspect config`.

use clap::Args;

use crate::commands::{ConfigFile, print};
use crate::series::SeriesRun;
use crate::training::RunConfig;

/// Arguments of `squall inspect config`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = self.config.layers()?;
        // Configurations of trainings are told by the tables that they must have.
        let text = if layers.gives("series") {
            SeriesRun::load(&layers)?.to_toml()
        } else if layers.gives("training") {
            RunConfig::load(&layers)?.to_toml()
        } else {
            layers.load()?.to_toml()
        };
        print(&text);
        Ok(())
    }
}
