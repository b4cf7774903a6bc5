//! `squall inspect stations`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;
use squall_connectors::options::Limits;
use squall_fields::{Check, KnowledgeTime, StationReport, ValidTime, Verdict};
use squall_operators::stations::{Control, ControlConfig, JudgedReading, Judgement, ReadingKey};

use crate::commands::verify::chosen;
use crate::commands::{Overrides, Usage, print};
use crate::config::{Config, LogKind, StationsConfig, StreamConfig};
use crate::connect;
use crate::publish::StationArchive;
use crate::verify::places;

/// How readings are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A line each, for a person.
    Table,
    /// An object with the list `readings`.
    Json,
}

/// Arguments of `squall inspect stations`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// NetCDF files of series of stations; without one the topic of the stream's reports is read to its present end.
    #[arg(required_unless_present = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Configuration of a stream that has inputs.stations.
    #[arg(long, value_name = "CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// The stream; may be left out if there is only one.
    #[arg(long, requires = "config", value_name = "NAME")]
    stream: Option<String>,
    /// Show those alone that are missing, suspect or wrong.
    #[arg(long)]
    flagged: bool,
    /// How the readings are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The latest of each reading.
type Latest = BTreeMap<ReadingKey, JudgedReading>;

/// Reports, those of a record or a time together, with when they became known.
type Known = Vec<(KnowledgeTime, Vec<StationReport>)>;

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.config.as_ref().map(|path| self.overrides.load(path)).transpose()?;
        let of = config.as_ref().map(|config| with_stations(config, self.stream.as_deref())).transpose()?;
        let reports = match (&config, of) {
            (Some(config), Some((_, stations))) if self.files.is_empty() => of_topic(config, stations)?,
            _ => of_files(&self.files)?,
        };
        let control = of.map(|(stream, stations)| places::control(stream, stations));
        let latest = latest(reports, control.unwrap_or_else(|| Control::new(ControlConfig::default())));
        match self.format {
            Format::Table => print(&table(&latest, self.flagged)?),
            Format::Json => print(&format!("{}\n", json(&latest, self.flagged)?)),
        }
        Ok(())
    }
}

/// A stream and its stations.
fn with_stations<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<(&'c StreamConfig, &'c StationsConfig)> {
    let stream = chosen(config, name)?;
    let none = || Usage(format!("stream {} has no stations: give it inputs.stations", stream.name));
    Ok((stream, stream.inputs.stations.as_ref().ok_or_else(none)?))
}

fn of_topic(config: &Config, stations: &StationsConfig) -> anyhow::Result<Known> {
    if config.log.kind == LogKind::Memory {
        let text = "log.kind is \"memory\": there are no topics outside a running instance; give files";
        return Err(Usage(text.into()).into());
    }
    Ok(places::reports(&*connect::log(config), stations)?)
}

/// Those of files are known when they are valid.
fn of_files(paths: &[PathBuf]) -> anyhow::Result<Known> {
    let archive = StationArchive::open(paths, &Limits::default()).context("cannot read the files of stations")?;
    for (file, note) in archive.notes() {
        tracing::warn!("{file}: {note}");
    }
    let mut reports: BTreeMap<ValidTime, Vec<StationReport>> = BTreeMap::new();
    for (place, valid) in archive.times().enumerate() {
        reports.entry(valid).or_default().extend(archive.reports(place)?);
    }
    let known = |(valid, reports): (ValidTime, _)| (KnowledgeTime::from_unix_ms(valid.unix_seconds() * 1000), reports);
    Ok(reports.into_iter().map(known).collect())
}

fn latest(reports: Known, mut control: Control) -> Latest {
    let mut latest = Latest::new();
    for (known_at, reports) in reports {
        let Judgement { readings, refused } = control.push(known_at, reports);
        latest.extend(readings);
        for (input, (_, detail)) in refused {
            tracing::warn!("{} {}/{} is not used: {detail}", input.topic, input.partition, input.offset);
        }
    }
    latest
}

fn shown(latest: &Latest, flagged: bool) -> impl Iterator<Item = (&ReadingKey, &JudgedReading)> {
    latest.iter().filter(move |(_, judged)| !flagged || judged.reading.flags.overall() > Verdict::Good)
}

/// A line for each reading, and how many there are of all.
fn table(latest: &Latest, flagged: bool) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let widest = latest.keys().map(|key| key.station.chars().count()).max().unwrap_or(0).max("station".len());
    writeln!(text, "{:<widest$}  {:<20}  {:<40}{:>12}  verdict", "station", "time", "quantity", "value")?;
    for (key, judged) in shown(latest, flagged) {
        let period = key.period_seconds.map_or_else(String::new, |seconds| format!(" over {seconds} s"));
        let quantity = format!("{} ({}){period}", key.quantity.standard_name(), key.quantity.unit());
        let reading = &judged.reading;
        let value = if reading.is_missing() { "-".to_owned() } else { format!("{:.2}", reading.value) };
        let (station, time) = (&key.station, key.valid.to_rfc3339());
        writeln!(text, "{station:<widest$}  {time:<20}  {quantity:<40}{value:>12}  {}", reading.flags)?;
    }
    let stations: BTreeSet<_> = latest.keys().map(|key| &key.station).collect();
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    latest.values().for_each(|judged| *counts.entry(judged.reading.flags.overall()).or_default() += 1);
    let counts: Vec<_> = counts.iter().map(|(verdict, count)| format!("{count} {}", verdict.name())).collect();
    writeln!(text, "{} readings of {} stations: {}", latest.len(), stations.len(), counts.join(", "))?;
    Ok(text)
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Json<'a> {
    readings: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    station: Who<'a>,
    time: String,
    standard_name: &'static str,
    units: &'static str,
    period_seconds: Option<u32>,
    value: Option<f32>,
    verdict: &'static str,
    flags: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Who<'a> {
    id: &'a str,
    name: Option<&'a str>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    elevation_m: Option<f64>,
}

impl<'a> Row<'a> {
    fn of(key: &'a ReadingKey, judged: &'a JudgedReading) -> Self {
        let JudgedReading { station, reading, .. } = judged;
        let (place, flags) = (station.place, reading.flags);
        Self {
            station: Who {
                id: &station.id,
                name: station.name.as_deref(),
                latitude: place.map(|place| place.latitude()),
                longitude: place.map(|place| place.longitude()),
                elevation_m: place.and_then(|place| place.elevation_m()),
            },
            time: key.valid.to_rfc3339(),
            standard_name: key.quantity.standard_name(),
            units: key.quantity.unit(),
            period_seconds: key.period_seconds,
            value: (!reading.is_missing()).then_some(reading.value),
            verdict: flags.overall().name(),
            flags: Check::ALL.iter().map(|check| (check.name(), flags.get(*check).name())).collect(),
        }
    }
}

fn json(latest: &Latest, flagged: bool) -> serde_json::Result<String> {
    let readings = shown(latest, flagged).map(|(key, judged)| Row::of(key, judged)).collect();
    serde_json::to_string_pretty(&Json { readings })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use squall_fields::{InputRef, Quantity, Reading, Station};

    use super::*;

    #[test]
    fn the_latest_of_each_reading_is_shown_with_what_is_thought_of_it() {
        let report = |offset: i64, minutes: i64, speed: f32| StationReport {
            station: Arc::new(Station { id: "torp".into(), name: None, place: None }),
            valid: ValidTime::from_unix_seconds(60 * minutes),
            readings: vec![Reading::new(Quantity::WindSpeed, None, speed)],
            input: InputRef { topic: "obs".into(), partition: 0, offset, digest: "".into() },
        };
        let known = |minutes: i64, reports| (KnowledgeTime::from_unix_ms(60_000 * minutes), reports);
        let reports = vec![
            known(10, vec![report(0, 10, 5.0)]),
            known(20, vec![report(1, 20, f32::NAN), report(2, 30, 4.0)]),
            // From the future: it is not used.
            known(21, vec![report(3, 60, 4.0)]),
            known(40, vec![report(4, 40, 60.0), report(5, 10, 6.0)]),
        ];
        let latest = latest(reports, Control::new(ControlConfig::default()));
        let lines = |flagged| table(&latest, flagged).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        let (all, flagged) = (lines(false), lines(true));
        assert_eq!((all.len(), flagged.len()), (1 + 4 + 1, 1 + 2 + 1));
        let first: Vec<_> = all[1].split_whitespace().collect();
        assert_eq!(first, ["torp", "1970-01-01T00:10:00Z", "wind_speed", "(m", "s-1)", "6.00", "good"]);
        assert!(flagged[1].ends_with(" -  missing by range"), "{}", flagged[1]);
        assert!(flagged[2].ends_with(" 60.00  suspect by range, step"), "{}", flagged[2]);
        assert_eq!(flagged[3], "4 readings of 1 stations: 2 good, 1 suspect, 1 missing");
        let json: serde_json::Value = serde_json::from_str(&json(&latest, true).unwrap()).unwrap();
        let of =
            |name: &str| json["readings"].as_array().unwrap().iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(of("verdict"), ["missing", "suspect"]);
        assert_eq!(of("value"), [serde_json::Value::Null, 60.0.into()]);
        assert_eq!(json["readings"][1]["flags"]["buddy"], "not_evaluated");
    }
}
