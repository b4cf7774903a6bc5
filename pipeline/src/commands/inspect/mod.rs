//! `squall inspect`: looks without touching.

use clap::Subcommand;

mod config;
mod file;
mod frontiers;
mod stations;
mod topics;

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
    /// Readings of stations, and what each check says of them: those of files, or of the topic of a stream.
    #[command(after_help = "Examples:
  squall inspect stations gauges.nc --flagged
  squall inspect stations gauges.nc --config configs/radar.toml --format json
  squall inspect stations --config configs/radar.toml --stream rain\n
Readings are judged by the code of a running stream: with the limits of the stream (inputs.stations.quality), or those that are the
default. Of each reading the latest counts, judged by all that is known in the end.")]
    Stations(stations::Arguments),
    /// Partitions, offsets, timestamp type and newest knowledge time of a configuration's topics.
    #[command(after_help = "Example:\n  squall inspect topics configs/radar.toml")]
    Topics(topics::Arguments),
    /// How far each operator of a running instance has come, and which one holds time back.
    #[command(after_help = "Example:\n  squall inspect frontiers --address 127.0.0.1:9600\n
`known` is what a partition has given, `passed` what an operator is done with; `committed` is safe.")]
    Frontiers(frontiers::Arguments),
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
            Self::Stations(arguments) => arguments.run(),
            Self::Topics(arguments) => arguments.run(),
            Self::Frontiers(arguments) => arguments.run(),
        }
    }
}
