//! Series of stations, and the records that hold their reports.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use squall_connectors::error::FileError;
use squall_connectors::gridded::Note;
use squall_connectors::netcdf::StationSeries;
use squall_connectors::options::Limits;
use squall_connectors::station::{CONTENT_TYPES, STATION_REPORTS_TYPE, StationLimits, reports_json};
use squall_fields::{StationReport, ValidTime};
use squall_operators::ports::Outgoing;

use super::Event;

/// Most bytes of a record, unless it holds one report alone: what every broker takes as it is set up.
const MAX_BYTES: usize = 512 << 10;

/// Files of stations, one after the other in time.
#[derive(Debug)]
pub struct StationArchive {
    files: Vec<StationSeries>,
    names: Vec<String>,
    /// Of each time, the file and the index in it; the oldest first.
    times: Vec<(ValidTime, usize, usize)>,
}

impl StationArchive {
    /// Opens files.
    ///
    /// # Errors
    /// [`FileError`] says what was expected of which file.
    pub fn open(paths: &[PathBuf], limits: &Limits) -> Result<Self, FileError> {
        let files = paths.iter().map(|path| StationSeries::open(path, limits)).collect::<Result<Vec<_>, _>>()?;
        let names = paths.iter().map(|path| path.display().to_string()).collect();
        let of = |(file, series): (usize, &StationSeries)| {
            let times = series.times().iter().enumerate();
            times.map(|(index, valid)| (*valid, file, index)).collect::<Vec<_>>()
        };
        let mut times: Vec<_> = files.iter().enumerate().flat_map(of).collect();
        times.sort_unstable();
        Ok(Self { files, names, times })
    }

    /// When reports are valid; a time that two files have is there twice.
    pub fn times(&self) -> impl ExactSizeIterator<Item = ValidTime> {
        self.times.iter().map(|(valid, ..)| *valid)
    }

    /// The reports of a time, by its place among [`StationArchive::times`].
    ///
    /// # Errors
    /// [`FileError::NoField`].
    pub fn reports(&self, place: usize) -> Result<Vec<StationReport>, FileError> {
        let count = self.times.len();
        let (_, file, index) = *self.times.get(place).ok_or(FileError::NoField { index: place, count })?;
        self.files[file].reports(index)
    }

    /// What was assumed of which file.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &Note)> {
        let files = self.names.iter().zip(&self.files);
        files.flat_map(|(name, series)| series.notes().iter().map(move |note| (name.as_str(), note)))
    }
}

/// The records of reports of one valid time, with CloudEvents headers, all under the key of the topic's name: as few as
/// hold them, and none without a report.
pub fn station_records(
    instance: &str,
    topic: &Arc<str>,
    reports: &[StationReport],
    arrival_ms: i64,
    partition: Option<i32>,
) -> Vec<Outgoing> {
    let event = Event { instance, source: topic, kind: STATION_REPORTS_TYPE, content_type: CONTENT_TYPES[0] };
    let record = |(reports, payload): (&[StationReport], Vec<u8>)| Outgoing {
        topic: topic.clone(),
        partition,
        key: Some(Bytes::from(topic.to_string())),
        headers: event.headers(reports[0].valid, &payload),
        value: Some(Bytes::from(payload)),
        timestamp_ms: Some(arrival_ms),
    };
    parts(reports).into_iter().map(record).collect()
}

/// Reports in parts that a record holds, and their bytes.
fn parts(reports: &[StationReport]) -> Vec<(&[StationReport], Vec<u8>)> {
    if reports.is_empty() {
        return Vec::new();
    }
    let is_many = reports.len() > StationLimits::default().max_reports;
    let bytes = if is_many { Vec::new() } else { reports_json(reports) };
    if is_many || (reports.len() > 1 && bytes.len() > MAX_BYTES) {
        let (first, second) = reports.split_at(reports.len() / 2);
        return [parts(first), parts(second)].concat();
    }
    vec![(reports, bytes)]
}

#[cfg(test)]
mod tests;
