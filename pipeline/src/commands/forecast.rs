//! `squall forecast`: files in, files out, one issue time.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use squall_fields::{Forecast, IssueTime};
use squall_operators::encode::file_name;
use squall_operators::products::products;

use super::{ConfigFile, Usage, print, write_file};
use crate::archive::{Archive, read_options};
use crate::config::{Config, StreamConfig};
use crate::maps;
use crate::once::{self, Once};
use crate::runtime;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall forecast configs/fmi-radar.toml --input event.nc --at 2016-09-28T16:00:00Z --output out
  squall forecast configs/fmi-radar.toml --input 15*.h5 16*.h5 --at 2016-09-28T16:00:00Z --output out --map

Writes STREAM/ISSUE-TIME/rREVISION-DIGEST.nc (CF-NetCDF) and prints its path. The fields are those, bit for bit, that
`squall run` publishes for the same time from the same frames on the same kind of device. What differs is where the
inputs came from: the stream names records of the log, this names files.";

/// Arguments of `squall forecast`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Files with the frames of the window (more does no harm).
    #[arg(short, long, required = true, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Files with the wind that steers the stream's rain (`inputs.steering`).
    #[arg(long, num_args = 1.., value_name = "FILE")]
    steering: Vec<PathBuf>,
    /// Issue time: slot of the newest frame, such as 2016-09-28T16:00:00Z; default: the newest slot of the files.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Folder to write to.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The stream to forecast; not needed where there is only one.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Draw a map (PNG) beside the file.
    #[arg(long)]
    map: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let stream = self.stream(&config)?;
        let source = &stream.source;
        let archive = Archive::open(&self.input, &read_options(source))?;
        let issue_time = self.issue_time(&archive)?;
        if !source.cadence.is_slot(issue_time.slot()) {
            let every = source.cadence.step_seconds();
            return Err(
                Usage(format!("--at {issue_time}: not a slot of source {}, every {every} s", source.name)).into()
            );
        }
        let winds = once::winds(stream, &self.steering)?;
        let forecast = Once::new(stream)?.steered_by(winds).forecast(&archive, issue_time)?;
        for reason in &forecast.provenance.degraded {
            tracing::warn!("less than it should be: {reason:?}");
        }
        let path = self.write(&config, stream, &forecast)?;
        print(&format!("{}\n", path.display()));
        if self.map {
            let map = path.with_extension("png");
            let observed =
                |time| archive.slots().position(|slot| slot == time).and_then(|p| archive.frame(p).ok()).map(Arc::new);
            write_file(&map, &maps::forecast::page(&forecast, stream, &observed)?)?;
            print(&format!("{}\n", map.display()));
        }
        Ok(())
    }

    fn stream<'c>(&self, config: &'c Config) -> anyhow::Result<&'c StreamConfig> {
        let names = || config.streams.iter().map(|stream| &*stream.name).collect::<Vec<_>>().join(", ");
        match (&self.stream, config.streams.as_slice()) {
            (Some(name), _) => {
                config.stream(name).ok_or_else(|| Usage(format!("--stream {name}: there is {}", names())).into())
            }
            (None, [stream]) => Ok(stream),
            (None, _) => Err(Usage(format!("which stream? --stream one of {}", names())).into()),
        }
    }

    fn issue_time(&self, archive: &Archive) -> anyhow::Result<IssueTime> {
        let Some(text) = &self.at else {
            return Ok(archive.slots().last().context("the files hold no frame")?.into());
        };
        let time = IssueTime::parse_rfc3339(text);
        time.ok_or_else(|| Usage(format!("--at: expected a time such as 2016-09-28T16:00:00Z, got {text}")).into())
    }

    fn write(&self, config: &Config, stream: &StreamConfig, forecast: &Forecast) -> anyhow::Result<PathBuf> {
        let (encoder, made) = (runtime::encoder(config), products(forecast, &stream.products.to_make()));
        let bytes = encoder.encode(forecast, &made).context("cannot write the forecast as NetCDF")?;
        let path = self.output.join(file_name(forecast, &bytes, encoder.extension()));
        write_file(&path, &bytes)?;
        Ok(path)
    }
}
