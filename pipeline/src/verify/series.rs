//! What stations said, as files of series have it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use squall_connectors::options::Limits;
use squall_fields::{Cadence, KnowledgeTime, Quantity, StationReport, ValidTime, Variable};
use squall_operators::stations::{Control, ControlConfig, JudgedReading, ReadingKey};
use squall_operators::verify::{Places, PlacesConfig, latest_places};

use super::points::Readings;
use crate::publish::StationArchive;

/// A reading over a longer period is not comparable with a case, which is of an instant.
const LONGEST_SECONDS: u32 = 3600;

/// The reports of each valid time, which become known then.
///
/// # Errors
/// The first file that holds no series of stations.
fn reports(files: &[PathBuf]) -> anyhow::Result<impl Iterator<Item = (KnowledgeTime, Vec<StationReport>)>> {
    let archive = StationArchive::open(files, &Limits::default())?;
    for (file, note) in archive.notes() {
        tracing::warn!("{file}: {note}");
    }
    let mut reports: BTreeMap<ValidTime, Vec<StationReport>> = BTreeMap::new();
    for (place, valid) in archive.times().enumerate() {
        reports.entry(valid).or_default().extend(archive.reports(place)?);
    }
    let known = |valid: ValidTime| KnowledgeTime::from_unix_ms(valid.unix_seconds() * 1000);
    Ok(reports.into_iter().map(move |(valid, reports)| (known(valid), reports)))
}

/// The readings that no check has failed, as truth for fields of these variables.
///
/// # Errors
/// The first file that holds no series of stations.
pub fn places(
    files: &[PathBuf],
    variables: &[Variable],
    cadence: Cadence,
) -> anyhow::Result<BTreeMap<ValidTime, Places>> {
    let taken = PlacesConfig::at_any_time(variables.to_vec(), cadence);
    Ok(latest_places(reports(files)?, Control::new(ControlConfig::default()), &taken))
}

/// The same of one quantity, in its unit, by station and valid time, of reports that are valid at wanted times. Of readings over
/// several periods, an hour at most, that over the shortest counts.
///
/// # Errors
/// The first file that holds no series of stations.
pub fn by_station(
    files: &[PathBuf],
    quantity: Quantity,
    is_wanted: impl Fn(ValidTime) -> bool,
) -> anyhow::Result<BTreeMap<(Arc<str>, ValidTime), f32>> {
    let mut control = Control::new(ControlConfig::default());
    let mut latest: BTreeMap<ReadingKey, JudgedReading> = BTreeMap::new();
    for (known_at, mut reports) in reports(files)? {
        reports.retain(|report| is_wanted(report.valid));
        let judged = control.push(known_at, reports).readings;
        latest.extend(judged.into_iter().filter(|(key, _)| key.quantity == quantity));
    }
    let mut readings = BTreeMap::new();
    // Of one station they are in the order of their periods.
    for (key, JudgedReading { reading, .. }) in latest {
        let is_short = key.period_seconds.is_none_or(|period| period <= LONGEST_SECONDS);
        if is_short && reading.flags.is_usable() && reading.value.is_finite() {
            readings.entry((key.station, key.valid)).or_insert(reading.value);
        }
    }
    Ok(readings)
}

/// The same as truth for cases at places. Stations are told apart by their numbers, with or without leading zeros; one whose
/// identifier is no number is left out.
///
/// # Errors
/// The first file that holds no series of stations.
pub fn readings(files: &[PathBuf], quantity: Quantity) -> anyhow::Result<Readings> {
    let mut readings = Readings::new();
    for ((station, valid), value) in by_station(files, quantity, |_| true)? {
        if let Ok(station) = station.trim().parse::<i64>() {
            readings.entry((station, valid)).or_insert(value);
        }
    }
    Ok(readings)
}
