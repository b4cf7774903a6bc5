//! From an archive to an observation topic: when each frame, or report of a station, arrives, and what its record holds.
//!
//! A replay must look like the live run that it stands for. So each frame gets a time of arrival, its slot plus a
//! delay, which is the record's timestamp and hence the knowledge time downstream; frames are published in the order
//! of arrival. A delay may be drawn per frame, by a generator keyed by seed and slot, which shuffles the order in a
//! way that can be repeated.

mod stations;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use squall_connectors::netcdf::{Storage, WriteOptions, frame_bytes};
use squall_connectors::odim::{OdimWriteOptions, Quantity, write_bytes};
use squall_fields::random::Philox;
use squall_fields::{Frame, ValidTime, Variable};
use squall_operators::ports::{END_OF_LOG_HEADER, Headers, Outgoing};

pub use self::stations::{StationArchive, station_records};
use crate::config::{Config, SourceConfig};

/// CloudEvents type of an observation.
pub const OBSERVATION_TYPE: &str = "squall.observation.v1";

/// When frames arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// From a slot to the arrival of its frame.
    pub delay: Duration,
    /// On top of that, less than this, drawn for each slot.
    pub jitter: Duration,
    /// Key of what is drawn.
    pub seed: u64,
}

impl Arrivals {
    /// Arrival of a slot's frame in milliseconds since 1970.
    pub fn of(&self, slot: ValidTime) -> i64 {
        let drawn = Philox::new(self.seed, 0x6172_7269_7661_6c73).uniform(slot.unix_seconds() as u64);
        let jitter = (drawn * self.jitter.as_millis() as f64) as i64;
        slot.unix_seconds() * 1000 + self.delay.as_millis() as i64 + jitter
    }

    /// Places of slots in the order of arrival, each with its arrival in milliseconds since 1970.
    ///
    /// ```
    /// use squall_fields::ValidTime;
    /// use squall_pipeline::publish::Arrivals;
    /// let slots = [0, 300, 600].map(ValidTime::from_unix_seconds);
    /// assert_eq!(Arrivals::default().order(slots), [(0, 0), (1, 300_000), (2, 600_000)]);
    /// ```
    pub fn order(&self, slots: impl IntoIterator<Item = ValidTime>) -> Vec<(usize, i64)> {
        let mut order: Vec<_> = slots.into_iter().map(|slot| self.of(slot)).enumerate().collect();
        order.sort_by_key(|(place, arrival)| (*arrival, *place));
        order
    }
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Spread {
    /// By the record's key: all frames of a source on one grid in one partition.
    #[default]
    Key,
    /// By the slot, in turn: frames over all partitions.
    Slot,
}

impl Spread {
    /// The partition of a slot's record; `None` leaves it to the key.
    pub fn partition(self, slot: ValidTime, source: &SourceConfig, partitions: i32) -> Option<i32> {
        match self {
            Self::Key => None,
            Self::Slot => Self::in_turn(slot.unix_seconds().div_euclid(source.cadence.step_seconds()), partitions),
        }
    }

    /// The partition of the records of a time, by its number; `None` leaves it to the key.
    pub fn partition_of_number(self, number: usize, partitions: i32) -> Option<i32> {
        match self {
            Self::Key => None,
            Self::Slot => Self::in_turn(i64::try_from(number).ok()?, partitions),
        }
    }

    fn in_turn(number: i64, partitions: i32) -> Option<i32> {
        i32::try_from(number.rem_euclid(i64::from(partitions.max(1)))).ok()
    }
}

/// The format of published records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// CF-NetCDF4, exact.
    #[default]
    Netcdf,
    /// ODIM_H5 composite, exact; rain rate or reflectivity only.
    Odim,
}

impl Format {
    /// A frame as bytes, and their media type.
    fn payload(self, frame: &Frame, source: &SourceConfig) -> anyhow::Result<(Vec<u8>, &'static str)> {
        match self {
            Self::Netcdf => {
                let options = WriteOptions { storage: Storage::Float, ..WriteOptions::default() };
                Ok((frame_bytes(frame, &options)?, squall_connectors::netcdf::codec::CONTENT_TYPES[0]))
            }
            Self::Odim => {
                let quantity = if frame.variables.first() == Some(&Variable::Reflectivity) {
                    Quantity::Dbzh
                } else {
                    Quantity::Rate
                };
                let interval_seconds = source.cadence.step_seconds();
                let options =
                    OdimWriteOptions { quantity, interval_seconds, packed: false, ..OdimWriteOptions::default() };
                Ok((write_bytes(frame, &options)?, squall_connectors::odim::codec::CONTENT_TYPES[0]))
            }
        }
    }
}

/// The record of a frame, with CloudEvents headers, keyed by source and grid.
///
/// # Errors
/// The frame cannot be written in this format.
pub fn record(
    config: &Config,
    source: &SourceConfig,
    frame: &Frame,
    arrival_ms: i64,
    partition: Option<i32>,
    format: Format,
) -> anyhow::Result<Outgoing> {
    let (payload, content_type) = format.payload(frame, source)?;
    let payload = Bytes::from(payload);
    let event = Event { instance: &config.name, source: &source.name, kind: OBSERVATION_TYPE, content_type };
    Ok(Outgoing {
        topic: source.topic.clone(),
        partition,
        key: Some(Bytes::from(format!("{}|{}", source.name, frame.grid.id()))),
        headers: event.headers(frame.slot, &payload),
        value: Some(payload),
        timestamp_ms: Some(arrival_ms),
    })
}

/// What the CloudEvents headers of a record say beside its time and its bytes.
struct Event<'a> {
    instance: &'a str,
    source: &'a str,
    kind: &'a str,
    content_type: &'a str,
}

impl Event<'_> {
    fn headers(&self, valid: ValidTime, payload: &[u8]) -> Headers {
        let Self { instance, source, kind, content_type } = *self;
        let valid = valid.to_rfc3339();
        let digest = hex::encode(Sha256::digest(payload));
        let headers = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", hex::encode(&Sha256::digest(format!("{source}|{valid}|{digest}"))[..16])),
            ("ce_source", format!("/squall/{instance}/{source}")),
            ("ce_type", kind.to_owned()),
            ("ce_time", valid.clone()),
            ("ce_subject", format!("{source}/{valid}")),
            ("content-type", content_type.to_owned()),
        ];
        headers.into_iter().map(|(name, value)| (name.to_owned(), Some(Bytes::from(value)))).collect()
    }
}

/// The record that ends a replay of one partition.
pub fn end_of_log(source: &SourceConfig, partition: i32, arrival_ms: i64) -> Outgoing {
    end_of_topic(&source.topic, partition, arrival_ms)
}

/// The same, of a topic that is no source of frames.
pub fn end_of_topic(topic: &Arc<str>, partition: i32, arrival_ms: i64) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        partition: Some(partition),
        key: None,
        headers: vec![(END_OF_LOG_HEADER.to_owned(), Some(Bytes::from_static(b"true")))],
        value: None,
        timestamp_ms: Some(arrival_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_shuffled_within_the_jitter_and_repeatably() {
        let slots: Vec<_> = (0..50).map(|i| ValidTime::from_unix_seconds(300 * i)).collect();
        let arrivals = |seed| Arrivals { delay: Duration::from_secs(60), jitter: Duration::from_secs(900), seed };
        let order = arrivals(1).order(slots.clone());
        assert_eq!(order, arrivals(1).order(slots.clone()));
        assert_ne!(order, arrivals(2).order(slots.clone()));
        assert!(order.windows(2).any(|pair| pair[0].0 > pair[1].0), "some frames overtake others");
        for (place, arrival) in order {
            let late = arrival - slots[place].unix_seconds() * 1000;
            assert!((60_000..960_000).contains(&late), "{late}");
        }
    }
}
