//! `squall inspect config`.

use clap::Args;

use crate::commands::{ConfigFile, print};

/// Arguments of `squall inspect config`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        print(&self.config.load()?.to_toml());
        Ok(())
    }
}
