//! `squall inspect`: looks without touching.

use clap::Subcommand;

mod config;
mod file;

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum Inspect {
    /// The configuration with every layer applied and every default filled in; secrets print as ***.
    #[command(after_help = "Examples:
  squall inspect config configs/demo.toml
  SQUALL__RUNTIME__WORKERS=2 squall inspect config configs/demo.toml --set streams.rain.leads=6

Later layers win, setting by setting: built-in defaults, the file, variables SQUALL__A__B, --set a.b=value.
Every fault is reported at once, with its line; the exit code is then 2.")]
    Config(config::Arguments),
    /// Grid, slots, gaps, variables and statistics of NetCDF or ODIM files.
    #[command(after_help = "Example:\n  squall inspect file event.nc --slots")]
    File(file::Arguments),
}

impl Inspect {
    /// Looks, and prints what it sees.
    ///
    /// # Errors
    /// What is to be looked at cannot be read.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Config(arguments) => arguments.run(),
            Self::File(arguments) => arguments.run(),
        }
    }
}
