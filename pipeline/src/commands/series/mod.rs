//! `squall series`: models of series at a place.

mod forecast;
mod train;

use clap::Subcommand;

/// What to do with a model of series.
#[derive(Debug, Subcommand)]
pub enum Series {
    /// Trains a model on series of stations.
    #[command(after_help = train::EXAMPLES)]
    Train(train::Arguments),
    /// Forecasts stations from files, and scores the forecasts.
    #[command(after_help = forecast::EXAMPLES)]
    Forecast(forecast::Arguments),
}

impl Series {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Train(arguments) => arguments.run(),
            Self::Forecast(arguments) => arguments.run(),
        }
    }
}
