//! `squall doctor`: what works here, and what does not.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Overrides, print};
use crate::doctor::{self, Finding, Unhealthy};

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall doctor                                 the machine, libtorch and its devices
  squall doctor configs/fmi-radar.toml          and the configuration, its broker, topics, clock and store
  squall doctor configs/fmi-radar.toml --format json

Exits 0 if nothing failed, otherwise with the exit code of the first part that did: 2 for the configuration or
missing topics, 4 for a device, a disk or a clock, 5 for the broker or a remote store. A note is something that works and may surprise.";

/// How findings are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table.
    Table,
    /// An object with the list `findings`.
    Json,
}

/// Arguments of `squall doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration file (TOML) whose broker, topics, store and devices are tried, too.
    #[arg(value_name = "CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Json<'a> {
    healthy: bool,
    findings: &'a [Finding],
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let layers = self.config.as_deref().map(|path| self.overrides.layers(path)).transpose()?;
        let findings = doctor::examine(layers.map(|layers| layers.load()));
        let unhealthy = Unhealthy::of(&findings);
        match self.format {
            Format::Table => print(&doctor::table(&findings)),
            Format::Json => {
                let json = Json { healthy: unhealthy.is_none(), findings: &findings };
                print(&format!("{}\n", serde_json::to_string_pretty(&json)?));
            }
        }
        unhealthy.map_or(Ok(()), |unhealthy| Err(unhealthy.into()))
    }
}
