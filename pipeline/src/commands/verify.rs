//! `squall verify`: forecasts and observations in, scores out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Serialize;
use squall_connectors::netcdf::{Points, read_points};
use squall_connectors::options::{Limits, ReadOptions};
use squall_fields::units::ScaledUnit;
use squall_fields::{Chain, IssueTime, Quantity, Unit, ValidTime, Variable};
use squall_models::scores::list::{self, Settings};
use squall_models::scores::{AnyScore, Border, FssOptions, Operator};
use squall_operators::verify::{Places, Region};

use super::backtest::{distinct, named_region};
use super::{Overrides, Usage, print};
use crate::config::{Config, StreamConfig, VerificationConfig};
use crate::verify::curves::Curves;
use crate::verify::files::{ForecastFile, Observations};
use crate::verify::places::places;
use crate::verify::points::{Readings, add_points, readings};
use crate::verify::topic::OfStream;
use crate::verify::{Row, Tally, series, stem, text};

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall verify --forecast out/rain/20160928T160000Z/*.nc --observation radar.nc
  squall verify --forecast pysteps.nc --observation radar.nc --thresholds 0.5,1,5 --scales 1,9,33 --format json
  squall verify --forecast pysteps.nc --observation radar.nc --region north=20,62,30,66 --stations synop.nc
  squall verify --forecast ens_meps.nc --observation ens_meps.nc --thresholds 5,10,15 --format csv
  squall verify --forecast ens_meps.nc --observation stations_synop.nc
  squall verify --config configs/radar.toml --stream rain --from 2017-05-09T00:00:00Z

A forecast is a NetCDF file with times and a grid, and members if it is an ensemble: Squall's own, IMPROVER's, pysteps'; or
a file of cases and members at places, to which what came may be series of stations. With --config they are those that a
stream has published, from its topics: the newest revision of each, against the newest frame of each slot. Scores are by
lead, on the cells that have a value in the forecast and in the observation; several forecasts of one model are pooled by
their sums. Names of scores: docs/verification.md.";

/// How scores are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a person, some of the leads.
    Table,
    /// An object with the list `scores`, and lists of whole curves.
    Json,
    /// Comma-separated values.
    Csv,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Json<'a> {
    scores: &'a [Row],
    #[serde(flatten)]
    curves: Curves,
}

/// Which scores, of what.
#[derive(Clone, Debug, Args)]
pub struct ScoreArguments {
    /// Thresholds of events, a value at or above being one; default: 0.1, 1 and 5 mm/h, or 5, 10 and 15 m/s.
    #[arg(long, value_delimiter = ',', value_name = "VALUES")]
    pub(crate) thresholds: Option<Vec<f32>>,
    /// Sides of the windows of FSS, neighbourhood CSI and pooled CRPS, in cells; default: 1, 9 and 33.
    #[arg(long, value_delimiter = ',', value_name = "CELLS")]
    scales: Option<Vec<usize>>,
    #[command(flatten)]
    fss: FssArguments,
    /// Scores to compute; default: all that there are.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    scores: Option<Vec<String>>,
}

/// How the fractions skill score is taken.
#[derive(Clone, Copy, Debug, Args)]
pub struct FssArguments {
    /// Windows of FSS: one around every cell, with no event beyond the grid, as by default, or those inside the grid alone.
    #[arg(long, value_name = "WINDOWS", value_parser = choice(&Border::NAMED))]
    fss_border: Option<Border>,
    /// Events of FSS: values at or above a threshold, as by default, or above it.
    #[arg(long, value_name = "EVENTS", value_parser = choice(&Operator::NAMED))]
    fss_operator: Option<Operator>,
}

impl FssArguments {
    /// What was chosen.
    pub(crate) fn options(self) -> FssOptions {
        FssOptions { border: self.fss_border.unwrap_or_default(), operator: self.fss_operator.unwrap_or_default() }
    }
}

/// Reads one of a few words.
fn choice<T: Copy + Default + Send + Sync + 'static>(
    named: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let of = |word: String| named.iter().find(|(name, _)| *name == word).map_or_else(T::default, |(_, of)| *of);
    PossibleValuesParser::new(named.iter().map(|(name, _)| *name)).map(of)
}

/// Sides of windows where nothing is said.
const SCALES: [usize; 3] = [1, 9, 33];

impl ScoreArguments {
    /// The same with what a stream's verification says of what was not asked for. Scores that were asked for themselves have the
    /// usual thresholds and windows where it names none.
    pub(crate) fn or(self, of: &VerificationConfig) -> Self {
        let is_asked = self.scores.is_some();
        let thresholds = Some(of.thresholds.clone()).filter(|list| !is_asked || !list.is_empty());
        let scales = Some(of.scales.clone()).filter(|list| !is_asked || !list.is_empty());
        let FssArguments { fss_border, fss_operator } = self.fss;
        Self {
            thresholds: self.thresholds.or(thresholds),
            scales: self.scales.or(scales),
            fss: FssArguments {
                fss_border: fss_border.or(Some(of.fss_border)),
                fss_operator: fss_operator.or(Some(of.fss_operator)),
            },
            scores: self.scores.or_else(|| Some(of.scores.iter().map(|name| (*name).to_owned()).collect())),
        }
    }

    /// A setting in which two verifications differ and which was not asked for, with the argument that decides it.
    pub(crate) fn undecided(
        &self,
        one: &VerificationConfig,
        other: &VerificationConfig,
    ) -> Option<(&'static str, &'static str)> {
        let FssArguments { fss_border, fss_operator } = self.fss;
        let all = [
            ("scores", "--scores", self.scores.is_none() && one.scores != other.scores),
            ("thresholds", "--thresholds", self.thresholds.is_none() && one.thresholds != other.thresholds),
            ("scales", "--scales", self.scales.is_none() && one.scales != other.scales),
            ("fss_border", "--fss-border", fss_border.is_none() && one.fss_border != other.fss_border),
            ("fss_operator", "--fss-operator", fss_operator.is_none() && one.fss_operator != other.fss_operator),
        ];
        all.into_iter().find(|(.., differ)| *differ).map(|(setting, argument, _)| (setting, argument))
    }

    /// Empty sums of the wanted scores of a quantity with this unit; without a grid those of windows and spectra make no
    /// sense, and are left out unless they are asked for.
    ///
    /// # Errors
    /// A name, a threshold or a scale is none.
    pub(crate) fn start(&self, unit: Unit, is_gridded: bool) -> Result<Vec<Box<dyn AnyScore>>, Usage> {
        let scales = self.scales.clone().unwrap_or_else(|| SCALES.to_vec());
        if scales.contains(&0) {
            return Err(Usage("--scales: a window has at least one cell".to_owned()));
        }
        let of_fields = ["csi-nearby", "fss", "pooled-crps", "pooled-max-crps", "spectrum"];
        let all = || list::measures().filter(|name| is_gridded || !of_fields.contains(name)).map(str::to_owned);
        let names = self.scores.clone().unwrap_or_else(|| all().collect());
        let settings = Settings { thresholds: self.thresholds_of(unit)?, scales, fss: self.fss.options() };
        list::start(&names, &settings).map_err(|error| Usage(format!("--scores: {error}")))
    }

    /// The thresholds, or those that people ask for.
    ///
    /// # Errors
    /// One is not finite.
    pub(crate) fn thresholds_of(&self, unit: Unit) -> Result<Vec<f32>, Usage> {
        let thresholds = match (&self.thresholds, unit) {
            (Some(thresholds), _) => thresholds.clone(),
            (None, Unit::MetresPerSecond) => vec![5.0, 10.0, 15.0],
            (None, _) => vec![0.1, 1.0, 5.0],
        };
        match thresholds.iter().find(|threshold| !threshold.is_finite()) {
            Some(threshold) => Err(Usage(format!("--thresholds: expected numbers, got {threshold}"))),
            None => Ok(thresholds),
        }
    }
}

/// Arguments of `squall verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Forecast (NetCDF; several may be given).
    #[arg(short, long, required_unless_present = "config", num_args = 1.., value_name = "FILE")]
    forecast: Vec<PathBuf>,
    /// What came (NetCDF or ODIM_H5; several may be given). Of cases at places: cases, or series of stations.
    #[arg(short, long, required_unless_present = "config", num_args = 1.., value_name = "FILE")]
    observation: Vec<PathBuf>,
    /// Configuration of a stream whose topics are read in place of files.
    #[arg(long, conflicts_with_all = ["forecast", "observation", "issue_time"], value_name = "CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// The stream; may be left out if there is only one.
    #[arg(long, requires = "config", value_name = "NAME")]
    stream: Option<String>,
    /// Forecasts that were issued from this time on.
    #[arg(long, requires = "config", value_name = "TIME", value_parser = super::time)]
    from: Option<ValidTime>,
    /// Forecasts that were issued up to this time.
    #[arg(long, requires = "config", value_name = "TIME", value_parser = super::time)]
    until: Option<ValidTime>,
    #[command(flatten)]
    scores: ScoreArguments,
    /// What to call the model; default: what the file calls it.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// When the forecasts were issued, if their files do not say.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    issue_time: Option<ValidTime>,
    /// Take a grid of the same shape for the same grid.
    #[arg(long)]
    any_grid: bool,
    /// Score a part of the grid by itself, too (may be repeated).
    #[arg(long = "region", value_name = "NAME=WEST,SOUTH,EAST,NORTH", value_parser = named_region)]
    regions: Vec<Region>,
    /// Files with series of stations (CF-NetCDF), whose readings are truth for fields at their places, too.
    #[arg(long, num_args = 1.., conflicts_with = "config", value_name = "FILE")]
    stations: Vec<PathBuf>,
    /// How the scores are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let limits = Limits::default();
        let points = |path: &PathBuf| {
            let read = if is_netcdf(path) { read_points(path, &limits) } else { Ok(None) };
            read.with_context(|| format!("cannot read {}", path.display()))
        };
        let tally = match &self.config {
            Some(config) => self.of_topics(&self.overrides.load(config)?)?,
            None => match points(&self.forecast[0])? {
                Some(first) => self.at_places(first, &points)?,
                None => self.on_a_grid()?,
            },
        };
        let tally = tally.with_all_events();
        let rows = tally.rows();
        match self.format {
            Format::Table => print(&text::table(&rows)),
            Format::Csv => print(&text::csv(&rows)),
            Format::Json => {
                let json = Json { scores: &rows, curves: Curves::of(&tally) };
                print(&format!("{}\n", serde_json::to_string_pretty(&json)?));
            }
        }
        Ok(())
    }

    fn at_places(
        &self,
        first: Points,
        points: &dyn Fn(&PathBuf) -> anyhow::Result<Option<Points>>,
    ) -> anyhow::Result<Tally> {
        if !self.regions.is_empty() || !self.stations.is_empty() {
            let text = "--region, --stations: the forecast is of places, not of a grid (--observation takes stations)";
            return Err(Usage(text.to_owned()).into());
        }
        let mut tally = Tally::new(self.scores.start(Unit::MetresPerSecond, false)?);
        let observed = self.observed_at_places(&first, points)?;
        let what = of_what(&first);
        let of = |path: &PathBuf| -> anyhow::Result<Points> {
            let same = points(path)?.filter(|points| of_what(points) == what);
            let expected = format!("expected cases at places of {what}, as in the first forecast");
            Ok(same.ok_or_else(|| Usage(format!("{}: {expected}", path.display())))?)
        };
        let rest = self.forecast[1..].iter().map(of);
        for (forecast, path) in std::iter::once(Ok(first)).chain(rest).zip(&self.forecast) {
            let (forecast, model) = (forecast?, self.model(|| stem(path)));
            for readings in &observed {
                if add_points(&mut tally, &model, &forecast, readings) == 0 {
                    tracing::warn!("{}: no case has an observation", path.display());
                }
            }
        }
        Ok(tally)
    }

    /// What came at the places of a forecast: a truth for each file of cases, and one for all series of stations.
    fn observed_at_places(
        &self,
        forecast: &Points,
        points: &dyn Fn(&PathBuf) -> anyhow::Result<Option<Points>>,
    ) -> anyhow::Result<Vec<Readings>> {
        let (mut observed, mut of_stations, what) = (Vec::new(), Vec::new(), of_what(forecast));
        for path in &self.observation {
            match points(path)? {
                None => of_stations.push(path.clone()),
                Some(points) if of_what(&points) == what => observed.push(readings(&points)),
                Some(points) => {
                    let text = format!("the forecast is of {what}, the observation of {}", of_what(&points));
                    return Err(Usage(text).into());
                }
            }
        }
        if !of_stations.is_empty() {
            let quantity = measured(forecast)?;
            let wrong = |error: anyhow::Error| {
                let expected = "the forecast is of cases at places: expected such, or series of stations, as what came";
                Usage(format!("{expected}; {}", Chain(error.as_ref())))
            };
            observed.push(series::readings(&of_stations, quantity).map_err(wrong)?);
        }
        Ok(observed)
    }

    fn on_a_grid(&self) -> anyhow::Result<Tally> {
        let issue_time = self.issue_time.map(IssueTime::from);
        let regions = distinct(self.regions.iter().cloned())?;
        /// What the first file decides, and what came.
        struct First {
            variables: Vec<Variable>,
            tally: Tally,
            observations: Observations,
            stations: BTreeMap<ValidTime, Places>,
        }
        let mut first: Option<First> = None;
        for path in &self.forecast {
            let forecast = ForecastFile::open(path, &ReadOptions::default(), issue_time)?;
            let variables = forecast.variables().to_vec();
            if first.is_none() {
                let observations = Observations::open(&self.observation, &ReadOptions::of(&variables), self.any_grid)?;
                let observations = observations.with_regions(&regions);
                let stations = self.stations_of(&forecast)?;
                let unit = variables.first().map_or(Unit::MillimetresPerHour, |v| v.unit());
                let tally = Tally::new(self.scores.start(unit, true)?);
                first = Some(First { variables: variables.clone(), tally, observations, stations });
            }
            let Some(first) = &mut first else { continue };
            anyhow::ensure!(
                first.variables == variables,
                Usage(format!("{}: expected a forecast of the variables of the first", path.display()))
            );
            let model = self.model(|| forecast.model().to_string());
            let leads = forecast.add_to(&mut first.tally, &model, &first.observations, &first.stations);
            if leads.with_context(|| format!("cannot verify {}", path.display()))? == 0 {
                tracing::warn!("{}: nothing was observed at any of its valid times", path.display());
            }
        }
        Ok(first.context("there is no forecast")?.tally)
    }

    /// What stations said, as truth for the forecasts that are like one.
    fn stations_of(&self, forecast: &ForecastFile<'_>) -> anyhow::Result<BTreeMap<ValidTime, Places>> {
        if self.stations.is_empty() {
            return Ok(BTreeMap::new());
        }
        let cadence = forecast.cadence().context("the forecast has no times that readings could be compared at")?;
        series::places(&self.stations, forecast.variables(), cadence)
    }

    fn of_topics(&self, config: &Config) -> anyhow::Result<Tally> {
        let stream = chosen(config, self.stream.as_deref())?;
        let regions = distinct(self.regions.iter().cloned())?;
        let of_stream = OfStream::read(config, stream, (self.from, self.until), self.any_grid)?.with_regions(&regions);
        let stations = places(of_stream.connect(), stream)?;
        let mut tally = Tally::new(self.scores.start(stream.source.variables[0].unit(), true)?);
        of_stream.for_each(|file, observations| {
            let model = self.model(|| file.model().to_string());
            file.add_to(&mut tally, &model, observations, &stations)
        })?;
        Ok(tally)
    }

    fn model(&self, other: impl FnOnce() -> String) -> Arc<str> {
        self.model.clone().unwrap_or_else(other).into()
    }
}

/// What cases are of, in words.
fn of_what(points: &Points) -> String {
    format!("{} in {}", points.quantity, points.unit)
}

/// What stations have to measure to be compared with cases.
///
/// # Errors
/// They do not measure that, the cases are not in the unit of readings, or not told apart by stations.
fn measured(forecast: &Points) -> Result<Quantity, Usage> {
    let what = of_what(forecast);
    let none = || Usage(format!("the forecast is of {what}: stations are not read for that"));
    let quantity = Quantity::of_standard_name(&forecast.quantity).ok_or_else(none)?;
    let unit = |text: &str| ScaledUnit::parse(text).ok();
    if unit(&forecast.unit) != unit(quantity.unit()) {
        let unit = quantity.unit();
        return Err(Usage(format!("the forecast is of {what}: expected {unit}, as readings of stations are")));
    }
    if !forecast.has_stations {
        return Err(Usage("the forecast does not name the station of each case (station_id)".to_owned()));
    }
    Ok(quantity)
}

/// The stream of this name; without one the only one that there is.
///
/// # Errors
/// There is none of that name, or there are several.
pub(super) fn chosen<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<&'c StreamConfig> {
    let names = || config.streams.iter().map(|stream| &*stream.name).collect::<Vec<_>>().join(", ");
    match (name, config.streams.as_slice()) {
        (Some(name), _) => {
            config.stream(name).ok_or_else(|| Usage(format!("--stream {name}: there is {}", names())).into())
        }
        (None, [stream]) => Ok(stream),
        (None, _) => Err(Usage(format!("--stream: choose one of {}", names())).into()),
    }
}

/// Whether it begins as a NetCDF file does that holds cases; ODIM is HDF5 too, and is no forecast.
fn is_netcdf(path: &Path) -> bool {
    matches!(squall_connectors::archive::format_of(path), Ok(squall_connectors::archive::Format::Netcdf))
}
