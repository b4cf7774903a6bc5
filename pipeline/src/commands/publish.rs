//! `squall publish`: an archive of frames, or series of stations, to an observation topic.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use squall_connectors::options::Limits;
use squall_connectors::station::StationLimits;
use squall_fields::ValidTime;
use squall_operators::ports::{Connect, LogWriter, Outgoing, Retention, Timestamps, TopicSpec};

use super::{Expected, Overrides, Usage, duration};
use crate::archive::{Archive, read_options};
use crate::config::{Config, LogKind, SourceConfig};
use crate::publish::{Arrivals, Format, Spread, StationArchive, end_of_topic, record, station_records};
use crate::signals::Stop;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall publish event.nc --config configs/radar.toml --speed max
  squall publish *.nc --config configs/radar.toml --source radar --speed 60x --delay '2 min'
  squall publish event.nc --config configs/radar.toml --partitions-by slot --shuffle-within '3 min' --seed 7
  squall publish synop.nc --config configs/radar.toml --stations obs.stations.v1 --speed 600x

One record for each frame, or for the reports of all stations at a time, in the order of arrival; the timestamp is the
slot, or the valid time, plus the delay. A topic that is missing is created for a replay: with the producer's timestamps,
kept for ever.";

/// How fast time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as it goes.
    Max,
    /// That many times as fast as it was.
    Times(f64),
}

pub(crate) fn speed(text: &str) -> Result<Speed, Expected> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times = text.strip_suffix('x').unwrap_or(text).parse().ok();
    times.filter(|times: &f64| times.is_finite() && *times > 0.0).map(Speed::Times).ok_or(Expected("60x or max"))
}

impl Speed {
    /// Waits for the moment of an arrival, `elapsed_ms` after the first; says whether to go on.
    pub(crate) fn wait(self, started: Instant, elapsed_ms: i64, stop: &Stop) -> bool {
        match self {
            Self::Max => !stop.is_set(),
            Self::Times(times) => {
                let due = Duration::from_secs_f64(elapsed_ms.max(0) as f64 / 1000.0 / times);
                !stop.wait_for(due.saturating_sub(started.elapsed()))
            }
        }
    }
}

/// Arguments of `squall publish`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files with observations of one source, or of stations.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Configuration file with the log and the source.
    #[arg(long, value_name = "CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// The source whose topic is filled; not needed where there is only one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The files are series of stations: their reports go to this topic.
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["source", "format"])]
    stations: Option<Arc<str>>,
    /// Partitions of the topic of stations, if it is created.
    #[arg(long, default_value_t = 1, value_name = "COUNT", requires = "stations",
        value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// How fast time passes: 60x, or max.
    #[arg(long, default_value = "max", value_name = "SPEED", value_parser = speed)]
    speed: Speed,
    /// From a slot to the arrival of its frame, or from a valid time to that of its reports.
    #[arg(long, default_value = "0 s", value_name = "DURATION", value_parser = duration)]
    delay: Duration,
    /// Delay each frame, or all reports of a time, by up to this more, drawn by chance: they overtake each other.
    #[arg(long, default_value = "0 s", value_name = "DURATION", value_parser = duration)]
    shuffle_within: Duration,
    /// Key of what is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which partition a record goes to.
    #[arg(long, value_enum, default_value = "key")]
    partitions_by: Spread,
    /// Format of the records.
    #[arg(long, value_enum, default_value = "netcdf")]
    format: Format,
    /// End every partition with a record that says so: a replay by `squall run` ends there.
    #[arg(long)]
    end: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = self.overrides.load(&self.config)?;
        if config.log.kind == LogKind::Memory {
            return Err(Usage("log.kind is \"memory\": nobody else could read what is published there".into()).into());
        }
        let connect = crate::connect::log(&config);
        let mut writer = connect.writer()?;
        let (sent, topic) = match &self.stations {
            Some(topic) => (self.send_reports(&config, topic, &*connect, &mut *writer)?, topic.clone()),
            None => {
                let source = self.source(&config)?;
                (self.send_frames(&config, source, &*connect, &mut *writer)?, source.topic.clone())
            }
        };
        writer.flush(Duration::from_secs(60)).context("the broker did not take every record")?;
        println!("{sent} records to {topic}");
        Ok(())
    }

    fn source<'c>(&self, config: &'c Config) -> anyhow::Result<&'c SourceConfig> {
        let names = || config.sources.iter().map(|source| &*source.name).collect::<Vec<_>>().join(", ");
        match (&self.source, config.sources.as_slice()) {
            (Some(name), _) => {
                config.source(name).ok_or_else(|| Usage(format!("--source {name}: there is {}", names())).into())
            }
            (None, [source]) => Ok(source),
            (None, _) => Err(Usage(format!("which source? --source one of {}", names())).into()),
        }
    }

    fn send_frames(
        &self,
        config: &Config,
        source: &SourceConfig,
        connect: &dyn Connect,
        writer: &mut dyn LogWriter,
    ) -> anyhow::Result<usize> {
        let archive = Archive::open(&self.files, &read_options(source))?;
        let partitions = topic(connect, config, replay_topic(source))?;
        let one = |place, arrival| {
            let frame = archive.frame(place)?;
            let partition = self.partitions_by.partition(frame.slot, source, partitions);
            Ok((frame.slot, vec![record(config, source, &frame, arrival, partition, self.format)?]))
        };
        self.send(archive.slots(), (&source.topic, partitions), writer, one)
    }

    fn send_reports(
        &self,
        config: &Config,
        name: &Arc<str>,
        connect: &dyn Connect,
        writer: &mut dyn LogWriter,
    ) -> anyhow::Result<usize> {
        let archive = StationArchive::open(&self.files, &Limits::default())?;
        for (file, note) in archive.notes() {
            tracing::warn!(file, "{note}");
        }
        let spec = TopicSpec {
            name: name.to_string(),
            partitions: self.partitions,
            timestamps: Timestamps::Create,
            retention: Retention::Forever,
            max_record_bytes: StationLimits::default().max_bytes as u64,
            unpacked: true,
        };
        let partitions = topic(connect, config, spec)?;
        let times: Vec<ValidTime> = archive.times().collect();
        let all = |place: usize, arrival| {
            let partition = self.partitions_by.partition_of_number(place, partitions);
            let reports = archive.reports(place)?;
            Ok((times[place], station_records(&config.name, name, &reports, arrival, partition)))
        };
        self.send(times.iter().copied(), (name, partitions), writer, all)
    }

    /// Sends the records of each time when it is due: `records` makes them of its place and its arrival. How many were sent.
    fn send(
        &self,
        times: impl IntoIterator<Item = ValidTime>,
        (topic, partitions): (&Arc<str>, i32),
        writer: &mut dyn LogWriter,
        mut records: impl FnMut(usize, i64) -> anyhow::Result<(ValidTime, Vec<Outgoing>)>,
    ) -> anyhow::Result<usize> {
        let stop = Stop::on_signal()?;
        let arrivals = Arrivals { delay: self.delay, jitter: self.shuffle_within, seed: self.seed };
        let order = arrivals.order(times);
        let bar = ProgressBar::new(order.len() as u64).with_style(style()).with_prefix(topic.to_string());
        let (started, first) = (Instant::now(), order.first().map_or(0, |(_, arrival)| *arrival));
        let (mut last, mut sent) = (first, 0);
        for (place, arrival) in order {
            if !self.speed.wait(started, arrival - first, &stop) {
                bar.abandon_with_message("stopped");
                return Ok(sent);
            }
            let (valid, records) = records(place, arrival)?;
            for record in records {
                writer.send(record)?;
                sent += 1;
            }
            bar.set_message(valid.to_string());
            bar.inc(1);
            last = arrival;
        }
        if self.end {
            for partition in 0..partitions {
                writer.send(end_of_topic(topic, partition, last))?;
            }
        }
        bar.finish();
        Ok(sent)
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} {bar:32} {pos}/{len} {msg} {per_sec} {eta}";
    ProgressStyle::with_template(template).expect("the template is well formed")
}

/// A topic, created for a replay if it is missing; its number of partitions.
fn topic(connect: &dyn Connect, config: &Config, spec: TopicSpec) -> anyhow::Result<i32> {
    if let Some(Some(topic)) = connect.describe(&[&spec.name])?.into_iter().next() {
        if topic.timestamps == Some(Timestamps::LogAppend) {
            let topic = topic.name;
            tracing::warn!(topic, "the topic stamps records itself: they count as known now, not when they arrived");
        }
        return Ok(topic.partitions);
    }
    if !config.log.create_topics {
        let name = &spec.name;
        return Err(Usage(format!("there is no topic {name}, and log.create_topics is false")).into());
    }
    let partitions = spec.partitions;
    connect.create(&[spec])?;
    Ok(partitions)
}

/// A source's topic as a replay needs it: stamped by the producer, kept for ever.
pub fn replay_topic(source: &SourceConfig) -> TopicSpec {
    TopicSpec {
        name: source.topic.to_string(),
        partitions: source.partitions,
        timestamps: Timestamps::Create,
        retention: Retention::Forever,
        max_record_bytes: source.max_record_bytes,
        unpacked: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        assert_eq!(speed("60x"), Ok(Speed::Times(60.0)));
        assert_eq!(speed("0.5"), Ok(Speed::Times(0.5)));
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert!(speed("-1x").is_err() && speed("fast").is_err());
    }
}
