//! `squall backtest`: models against each other over an archive.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sha2::{Digest, Sha256};
use squall_connectors::options::ReadOptions;
use squall_operators::verify::Region;

use super::verify::ScoreArguments;
use super::{Expected, Overrides, Usage, duration, print, write_file};
use crate::archive::read_options;
use crate::backtest::report::html;
use crate::backtest::{Areas, Contestants, Engine, Input, Options, TopicEvent, Truth};
use crate::config::{Config, LogKind, StreamConfig, are_bounds, is_device, is_region, region};
use crate::connect;
use crate::dashboard::Dashboard;
use crate::event_list::EventArguments;
use crate::once;
use crate::publish::Arrivals;
use crate::runtime::{Parts, isolated_decoders};
use crate::signals::Stop;
use crate::training::DataFile;
use crate::verify::places::places;
use crate::verify::series;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall backtest --input may.nc june.nc --models persistence,extrapolation,steps:24 --leads 12 --report out/backtest
  squall backtest --input event.nc --models steps:24,models/weights/cogdpm-rain.safetensors --side 256 --report out/b
  squall backtest --events configs/events.toml --split test --models persistence,steps:24 --side 256 --report out/t
  squall backtest configs/rain.toml --input event.nc --delay '2 min' --jitter '4 min' --report out/backtest
  squall backtest configs/rain.toml --report out/backtest
  squall backtest configs/rain.toml --input event.nc --truth adjusted.nc --without-companions --report out/backtest
  squall backtest --input event.nc --models extrapolation,steps:24 --region north=20,62,30,66 --stations synop.nc --report out/b

Every file is an event; without any, what the topic of the configuration's source holds is one. Of a list, without CONFIG, the events with the variables and cadence of the first one count. Writes report.html, for people, and report.json, with all scores. A backtest that was killed or
stopped goes on when the same command is given again, unless a model, a file or the program has changed; what it has done lies in the folder
state of the report.";

/// Arguments of `squall backtest`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration whose streams are compared, all of one source, and with them their companions.
    #[arg(value_name = "CONFIG", required_unless_present = "models", conflicts_with_all = ["models", "leads"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Leave out the companions of the streams.
    #[arg(long, requires = "config")]
    without_companions: bool,
    /// Files with observations, an event each; without any the topic of the configuration's source is read to its end.
    /// What is not found from here is looked for in the folder SQUALL_DATA.
    #[arg(short, long, required_unless_present_any = ["config", "events"], num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    #[command(flatten)]
    listed: EventArguments,
    /// Models: baselines by name and weights by file, with members behind a colon, such as steps:24.
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    models: Vec<String>,
    /// Leads, a step of the cadence apart.
    #[arg(long, default_value_t = 12)]
    leads: usize,
    /// Folder to write to.
    #[arg(short, long, value_name = "DIR")]
    report: PathBuf,
    /// Forecast the square of so many cells a side where it rains most in the middle of an event.
    #[arg(long, value_name = "CELLS")]
    side: Option<usize>,
    /// Issue a forecast every so many slots.
    #[arg(long, default_value_t = 1, value_name = "SLOTS")]
    every: usize,
    /// From a slot to the arrival of its frame in a file; what lies before that is no forecast. Default: none.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// Delay each frame of a file by up to this more, drawn by chance as by `squall publish --shuffle-within`: windows fire
    /// as they would live, some incomplete after their patience. Every file is read once more for that.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    jitter: Option<Duration>,
    /// Key of what --jitter draws.
    #[arg(long, default_value_t = 1, requires = "jitter")]
    seed: u64,
    /// From when the windows of an issue time are known to the publication of its forecasts; what lies before that is no
    /// forecast. Default: none.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    publish_after: Option<Duration>,
    /// Files with the frames that forecasts are compared with, in place of those that they are made of (`inputs.truth`), for
    /// events that are files. What is not found from here is looked for in the folder SQUALL_DATA.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    truth: Vec<PathBuf>,
    /// Files with the wind that steers the rain (`inputs.steering`), for events that are files.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    steering: Vec<PathBuf>,
    /// Parts of the events that run beside each other, 24 issue times each; default: one for each of the devices.
    #[arg(long)]
    jobs: Option<usize>,
    /// Devices of the models, all of one kind: of parts that run beside each other each has the next one. Default: as
    /// configured.
    #[arg(long, value_delimiter = ',', value_name = "DEVICES", value_parser = device)]
    devices: Vec<Arc<str>>,
    /// Score a part of the grid by itself, too (may be repeated); those of the configuration are scored anyway.
    #[arg(long = "region", value_name = "NAME=WEST,SOUTH,EAST,NORTH", value_parser = named_region)]
    regions: Vec<Region>,
    /// Files with series of stations (CF-NetCDF), whose readings are truth at their places, too. Of a topic those of
    /// `inputs.stations` are read without.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    stations: Vec<PathBuf>,
    #[command(flatten)]
    scores: ScoreArguments,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.side != Some(0), Usage("--side: a square has at least one cell".to_owned()));
        let is_cpu = |device: &Arc<str>| device.starts_with("cpu");
        anyhow::ensure!(
            self.devices.iter().all(is_cpu) || !self.devices.iter().any(is_cpu),
            Usage("--devices: cpu and cuda differ in the last digits: name devices of one kind".to_owned())
        );
        let (contestants, read, inputs) = self.contestants()?;
        let is_of_files = inputs.iter().any(|input| matches!(input, Input::File(_)));
        self.check_steering(contestants.streams(), is_of_files)?;
        let unit = contestants.streams()[0].source.variables[0].unit();
        let scores = self.asked(contestants.streams())?.start(unit, true)?;
        let options = Options {
            inputs,
            read,
            side: self.side,
            every: self.every,
            arrivals: Arrivals {
                delay: self.delay.unwrap_or_default(),
                jitter: self.jitter.unwrap_or_default(),
                seed: self.seed,
            },
            publish_after: self.publish_after.unwrap_or_default(),
            jobs: self.jobs.unwrap_or(self.devices.len()),
            devices: self.devices.clone(),
            areas: self.areas(&contestants, is_of_files)?,
            truth: self.truth(&contestants, is_of_files)?,
            steering: self.steering.clone(),
            folder: self.report.clone(),
        };
        if (self.delay.is_some() || self.jitter.is_some()) && !is_of_files {
            let text = "--delay and --jitter are for files (--input, --events): records of a topic say when they came";
            return Err(Usage(text.to_owned()).into());
        }
        let engine = Engine::new(contestants, options, scores);
        let (stop, dashboard) = (Stop::on_signal().context("cannot listen to signals")?, Dashboard::new());
        let done = engine.run(&dashboard, &stop)?;
        let outcome = done.context("stopped before the end: the same command goes on from here")?;
        let (mut report, json) = outcome.report();
        report.maps = engine.maps(&outcome)?;
        write_file(&self.report.join("report.json"), format!("{}\n", json?).as_bytes())?;
        let page = self.report.join("report.html");
        write_file(&page, html(&report).as_bytes())?;
        print(&format!("{}\n", page.display()));
        Ok(())
    }

    /// Which scores: those of the command line, and what it does not say as the streams are verified, which have to agree.
    fn asked(&self, streams: &[StreamConfig]) -> Result<ScoreArguments, Usage> {
        let mut verified = streams.iter().filter_map(|stream| Some((&stream.name, stream.verification.as_ref()?)));
        let Some((name, first)) = verified.next() else { return Ok(self.scores.clone()) };
        for (other, of_other) in verified {
            if let Some((setting, argument)) = self.scores.undecided(first, of_other) {
                let text = format!("streams {name} and {other} have different verification.{setting}: say {argument}");
                return Err(Usage(text));
            }
        }
        Ok(self.scores.clone().or(first))
    }

    /// Winds are of files, and of streams that are steered; those without are told.
    fn check_steering(&self, streams: &[StreamConfig], is_of_files: bool) -> Result<(), Usage> {
        if self.steering.is_empty() && is_of_files {
            streams.iter().for_each(once::warn_unsteered);
        }
        if self.steering.is_empty() || streams.iter().any(|stream| stream.inputs.steering.is_some()) && is_of_files {
            return Ok(());
        }
        let why = if is_of_files { "no stream has inputs.steering" } else { "the topic of the wind is read" };
        Err(Usage(format!("--steering: {why}")))
    }

    fn contestants(&self) -> anyhow::Result<(Contestants, ReadOptions, Vec<Input>)> {
        let given: Vec<DataFile> = self.input.iter().cloned().map(DataFile::from).collect();
        let files = |listed: Vec<DataFile>| given.iter().cloned().chain(listed).map(Input::File).collect::<Vec<_>>();
        if let Some(path) = &self.config {
            let mut config = self.overrides.load(path)?;
            if self.without_companions {
                config.streams.iter_mut().for_each(|stream| stream.companions.clear());
            }
            let contestants = Contestants::of_config(config)?;
            let source = &contestants.streams()[0].source;
            let read = read_options(source);
            let inputs = files(self.listed.files(&source.variables, source.cadence)?);
            let inputs = if inputs.is_empty() { vec![topic(&contestants)?] } else { inputs };
            return Ok((contestants, read, inputs));
        }
        let (variables, cadence) = self.listed.first(&given, &self.models)?;
        let listed = self.listed.files(&variables, cadence)?;
        let thresholds = self.scores.thresholds_of(variables[0].unit())?;
        let contestants = Contestants::of_names(&self.models, &variables, cadence, self.leads, &thresholds)?;
        let read = read_options(&contestants.streams()[0].source);
        Ok((contestants, read, files(listed)))
    }

    /// What forecasts are compared with, if not what they are made of: files for files, and of a topic that of `inputs.truth`,
    /// which is one for all.
    fn truth(&self, contestants: &Contestants, is_of_files: bool) -> anyhow::Result<Option<Truth>> {
        let streams = contestants.streams();
        let named = agreed(streams, "truth", |stream| stream.inputs.truth.as_ref())?;
        let usage = |text: String| -> anyhow::Result<Option<Truth>> { Err(Usage(text).into()) };
        match (named, self.truth.as_slice()) {
            (None, []) => Ok(None),
            (Some((stream, source)), []) if is_of_files => usage(format!(
                "stream {} is compared with source {} (inputs.truth): give its files by --truth, or those of --input again",
                stream.name, source.name
            )),
            (Some((stream, source)), []) => {
                let config = &contestants.config;
                Ok(Some(Truth::of_topic(config, &parts(config)?, stream, source)?))
            }
            (_, _) if !is_of_files => {
                usage("--truth is for files (--input, --events): of a topic that of inputs.truth is read".to_owned())
            }
            (named, files) => {
                let (stream, source) = named.unwrap_or((&streams[0], &streams[0].source));
                Ok(Some(Truth::of_files(files, stream, source)?))
            }
        }
    }

    /// The regions of the configuration and of the command line, and what stations said.
    fn areas(&self, contestants: &Contestants, is_of_files: bool) -> anyhow::Result<Areas> {
        let streams = contestants.streams();
        let of_config = streams.iter().filter_map(|stream| stream.verification.as_ref()).flat_map(|of| of.regions());
        let regions = distinct(of_config.chain(self.regions.iter().cloned()))?;
        if self.stations.is_empty() {
            let Some((stream, _)) = agreed(streams, "stations", |stream| stream.inputs.stations.as_ref())? else {
                return Ok(Areas { regions, ..Areas::default() });
            };
            if is_of_files {
                tracing::warn!(
                    stream = &*stream.name,
                    "without the reports of inputs.stations nothing is scored at their places: give files by --stations"
                );
                return Ok(Areas { regions, ..Areas::default() });
            }
            let stations = places(&*parts(&contestants.config)?.connect, stream)?;
            let identity = hex::encode(Sha256::digest(format!("{stations:?}")));
            return Ok(Areas { regions, stations, identity });
        }
        let source = &streams[0].source;
        let stations = series::places(&self.stations, &source.variables, source.cadence)?;
        let files = self.stations.iter().map(|path| Input::File(path.clone().into()).identity());
        let identity = files.collect::<anyhow::Result<Vec<_>>>()?.join(" ");
        Ok(Areas { regions, stations, identity })
    }
}

/// What the topic of the source holds.
fn topic(contestants: &Contestants) -> anyhow::Result<Input> {
    let config = &contestants.config;
    if config.log.kind == LogKind::Memory {
        return Err(
            Usage("log.kind is \"memory\", which holds nothing to begin with: give files by --input".into()).into()
        );
    }
    Ok(Input::Topic(Arc::new(TopicEvent::read(contestants, &parts(config)?)?)))
}

/// What topics are read with.
fn parts(config: &Config) -> anyhow::Result<Parts> {
    let parts = Parts::new(config, connect::log(config), connect::store(config)?);
    Ok(Parts { decoders: Box::new(isolated_decoders), ..parts })
}

/// An input of this role with the first stream that has it: all that have one must have the same.
///
/// # Errors
/// Two have different ones.
fn agreed<'c, T: PartialEq>(
    streams: &'c [StreamConfig],
    role: &str,
    of: impl Fn(&'c StreamConfig) -> Option<&'c T>,
) -> Result<Option<(&'c StreamConfig, &'c T)>, Usage> {
    let mut all = streams.iter().filter_map(|stream| Some((stream, of(stream)?)));
    let Some(first) = all.next() else { return Ok(None) };
    match all.find(|(_, other)| *other != first.1) {
        Some((other, _)) => Err(Usage(format!(
            "streams {} and {} have different inputs.{role}, and a backtest compares all models with the same: \
             take one of them out of the configuration",
            first.0.name, other.name
        ))),
        None => Ok(Some(first)),
    }
}

/// Reads a device on the command line.
fn device(text: &str) -> Result<Arc<str>, Expected> {
    is_device(text).then(|| text.into()).ok_or(Expected("cpu, cpu:N, cuda or cuda:N"))
}

/// Each region once, by name.
///
/// # Errors
/// Two that differ have one name.
pub(super) fn distinct(all: impl Iterator<Item = Region>) -> Result<Vec<Region>, Usage> {
    let mut regions: BTreeMap<Arc<str>, Region> = BTreeMap::new();
    for region in all {
        let other = regions.insert(region.name.clone(), region.clone());
        if other.is_some_and(|other| other != region) {
            return Err(Usage(format!("region {} has two meanings", region.name)));
        }
    }
    Ok(regions.into_values().collect())
}

/// Reads a region on the command line.
pub(super) fn named_region(text: &str) -> Result<Region, Expected> {
    let wrong = Expected("a name and degrees, such as north=20,62,30,66, and neither domain nor stations");
    let (name, bounds) = text.split_once('=').ok_or(wrong)?;
    let bounds: Vec<f32> = bounds.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong)?;
    let bounds: [f32; 4] = bounds.try_into().map_err(|_| wrong)?;
    if is_region(name) && are_bounds(&bounds) { Ok(region(name, bounds)) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_and_devices_are_read_or_refused() {
        let north = named_region("north=20,62,30.5,66").unwrap();
        assert_eq!((&*north.name, north.west, north.north, north.east), ("north", 20.0, 66.0, 30.5));
        for wrong in
            ["north", "north=1,2,3", "domain=20,62,30,66", "north=20,66,30,62", "no/rth=20,62,30,66", "a=b,1,2,3"]
        {
            assert!(named_region(wrong).is_err(), "{wrong}");
        }
        assert!(["cpu", "cuda:1", "cpu:3"].iter().all(|text| device(text).is_ok()));
        assert!(["tpu", "cuda:", "cpu:x"].iter().all(|text| device(text).is_err()));
    }
}
