//! `squall simulate`: the built-in storm as a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use squall_connectors::netcdf::{WriteOptions, write_frames};
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, ValidTime, Variable};
use squall_models::simulate::{Storm, StormFrame, StormSettings};

use super::{Expected, Usage, duration};

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall simulate --output storm.nc
  squall simulate --output wind.nc --variables wind --cadence 1h --frames 24 --seed 7

The same options give the same file, to the byte. `squall forecast` and `squall publish` read it.";

/// What a simulated file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Content {
    /// Rain rate.
    Rain,
    /// Eastward and northward wind.
    Wind,
    /// All three.
    Both,
}

/// Arguments of `squall simulate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// NetCDF file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Number of frames.
    #[arg(long, default_value_t = 36, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    frames: u16,
    /// Cells from north to south and from west to east.
    #[arg(long, default_value = "256x256", value_name = "ROWSxCOLUMNS", value_parser = size)]
    size: (usize, usize),
    /// Distance between cells in km.
    #[arg(long, default_value_t = 1.0, value_name = "KM")]
    spacing: f64,
    /// Time from frame to frame.
    #[arg(long, default_value = "5 min", value_name = "DURATION", value_parser = duration)]
    cadence: Duration,
    /// Slot of the first frame.
    #[arg(long, default_value = "2016-09-28T12:00:00Z", value_name = "TIME")]
    start: String,
    /// What the file holds.
    #[arg(long, value_enum, default_value = "both")]
    variables: Content,
    /// Another seed is another storm.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn size(text: &str) -> Result<(usize, usize), Expected> {
    let sides = text.split_once('x').and_then(|(rows, columns)| Some((rows.parse().ok()?, columns.parse().ok()?)));
    let legal = |side: &usize| (8..=4096).contains(side);
    sides.filter(|(rows, columns)| legal(rows) && legal(columns)).ok_or(Expected("such as 256x256, 8 to 4096"))
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let step = u32::try_from(self.cadence.as_secs()).ok().and_then(Cadence::every_seconds);
        let cadence = step.ok_or_else(|| Usage("--cadence: expected whole seconds, at least one".into()))?;
        let start = ValidTime::parse_rfc3339(&self.start).filter(|start| cadence.is_slot(*start)).ok_or_else(|| {
            Usage(format!("--start: expected a slot such as 2016-09-28T12:00:00Z, got {}", self.start))
        })?;
        let settings = StormSettings {
            rows: self.size.0,
            columns: self.size.1,
            spacing_m: self.spacing * 1000.0,
            cadence,
            start,
            seed: self.seed,
            ..StormSettings::default()
        };
        let frames = frames(settings, self.frames.into(), self.variables.variables());
        let title = format!("Simulated storm, seed {}", self.seed);
        let options = WriteOptions { institution: "Squall".into(), ..WriteOptions::default() };
        if let Some(folder) = self.output.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        write_frames(&self.output, &frames, &title, &options)
            .with_context(|| format!("cannot write {}", self.output.display()))
    }
}

impl Content {
    const fn variables(self) -> &'static [Variable] {
        match self {
            Self::Rain => &[Variable::RainRate],
            Self::Wind => &[Variable::EastwardWind, Variable::NorthwardWind],
            Self::Both => &[Variable::RainRate, Variable::EastwardWind, Variable::NorthwardWind],
        }
    }
}

/// Frames of a storm, on a grid around 60 N 25 E.
pub fn frames(settings: StormSettings, count: usize, variables: &[Variable]) -> Vec<Frame> {
    let axis = |len: usize, step: f64| Axis { first: -0.5 * (len as f64 - 1.0) * step, step, len };
    let grid = Arc::new(Grid {
        proj: "+proj=laea +lat_0=60 +lon_0=25 +x_0=0 +y_0=0 +ellps=WGS84 +units=m".into(),
        wkt: None,
        x: axis(settings.columns, settings.spacing_m),
        y: axis(settings.rows, -settings.spacing_m),
    });
    let variables: Arc<[Variable]> = variables.into();
    let topic: Arc<str> = format!("simulated storm, seed {}", settings.seed).into();
    let frame = |(index, storm): (usize, StormFrame)| {
        let planes = variables.iter().map(|variable| match variable {
            Variable::RainRate => storm.rain_rate.view(),
            Variable::EastwardWind => storm.eastward_wind.view(),
            _ => storm.northward_wind.view(),
        });
        let planes: Vec<_> = planes.collect();
        let values = ndarray::stack(ndarray::Axis(0), &planes).unwrap_or_else(|_| unreachable!("planes of one grid"));
        let input = InputRef { topic: topic.clone(), partition: 0, offset: index as i64, digest: "".into() };
        Frame { grid: grid.clone(), slot: storm.slot, variables: variables.clone(), values, quality: None, input }
    };
    Storm::new(settings).take(count).enumerate().map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;
    use squall_connectors::options::ReadOptions;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("storm.nc");
        let arguments = Arguments {
            output: output.clone(),
            frames: 3,
            size: (24, 32),
            spacing: 2.0,
            cadence: Duration::from_secs(300),
            start: "2016-09-28T12:00:00Z".into(),
            variables: Content::Both,
            seed: 3,
        };
        arguments.run().unwrap();
        let archive = Archive::open(&[output], &ReadOptions::of(Content::Wind.variables())).unwrap();
        assert_eq!((archive.len(), archive.is_empty()), (3, false));
        let frame = archive.frame(2).unwrap();
        assert_eq!((frame.slot.to_rfc3339().as_str(), frame.values.dim()), ("2016-09-28T12:10:00Z", (2, 24, 32)));
        assert!(frame.completeness() > 0.99);
    }
}
