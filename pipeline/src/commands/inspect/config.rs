//! `squall inspect config`.

use clap::Args;

use crate::commands::{ConfigFile, print};
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
        // A training configuration is told by the one table that it must have.
        let text =
            if layers.gives("training") { RunConfig::load(&layers)?.to_toml() } else { layers.load()?.to_toml() };
        print(&text);
        Ok(())
    }
}
