//! What a stream has published, and what was observed then, as the topics have it.
//!
//! The forecasts are those that a consumer has who reads the index to its present end: of each issue time the newest revision.
//! What was observed are the frames that the stream's verification would compare them with: the newest of each slot, by when
//! it became known, of those that pass the quality control of its source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha512};
use squall_connectors::options::{Limits, ReadOptions};
use squall_fields::{Chain, IssueTime, ValidTime};
use squall_operators::ports::{Connect, FieldStore, Record};
use squall_operators::verify::Region;
use squall_operators::window::Windowed;

use super::files::{ForecastFile, Observations};
use crate::commands::Usage;
use crate::config::{Config, LogKind, StreamConfig};
use crate::connect;
use crate::frames::FrameFile;
use crate::gc::{IndexError, MAX_RECORD_BYTES, for_each_record};
use crate::runtime::{LARGEST_FILE, Parts, isolated_decoders, read_to_end};

/// A forecast that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Issue time.
    pub issue_time: IssueTime,
    /// Revision.
    pub revision: u64,
    /// Valid times.
    pub valid: Vec<ValidTime>,
    /// URL of its file.
    pub url: String,
    /// SHA-512 of its file, base64.
    sha512: String,
}

/// The part of an index record that is needed.
#[derive(Deserialize)]
struct Value {
    properties: Properties,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Properties {
    data_id: String,
    integrity: Integrity,
    squall: Identity,
}

#[derive(Deserialize)]
struct Integrity {
    value: String,
}

#[derive(Deserialize)]
struct Identity {
    issue_time: String,
    revision: u64,
    lead_seconds: Vec<i64>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

impl Published {
    /// What a record of the index says; `None` if it is of another stream.
    fn of(record: &Record, value: &[u8], stream: &str) -> Result<Option<Self>, IndexError> {
        let foreign =
            |reason: String| IndexError::Foreign { partition: record.partition.clone(), offset: record.offset, reason };
        let value: Value = serde_json::from_slice(value).map_err(|error| foreign(error.to_string()))?;
        let Properties { data_id, integrity, squall } = value.properties;
        if data_id.rsplit_once('/').map(|(of, _)| of) != Some(stream) {
            return Ok(None);
        }
        let issue_time = IssueTime::parse_rfc3339(&squall.issue_time);
        let issue_time = issue_time.ok_or_else(|| foreign(format!("issue_time is {}", squall.issue_time)))?;
        let url = value.links.into_iter().next().ok_or_else(|| foreign("it points at no file".to_owned()))?.href;
        let valid = squall.lead_seconds.iter().map(|lead| issue_time.slot().plus_seconds(*lead)).collect();
        Ok(Some(Self { issue_time, revision: squall.revision, valid, url, sha512: integrity.value }))
    }

    /// Its file.
    ///
    /// # Errors
    /// The store does not have it, or has another.
    pub fn file(&self, store: &dyn FieldStore) -> anyhow::Result<Bytes> {
        let bytes = store.get(&self.url, LARGEST_FILE)?;
        let digest = STANDARD.encode(Sha512::digest(&bytes));
        anyhow::ensure!(digest == self.sha512, "{} is not the file that was published: its digest differs", self.url);
        Ok(bytes)
    }
}

/// The newest revision of each forecast of a stream that was issued within a time, by issue time. What a tombstone has taken
/// back is not there.
///
/// # Errors
/// The index cannot be read to its end, or holds what is no index record.
pub fn published(
    connect: &dyn Connect,
    config: &Config,
    stream: &StreamConfig,
    (from, until): (Option<ValidTime>, Option<ValidTime>),
) -> Result<Vec<Published>, IndexError> {
    let name = format!("{}/{}", config.name, stream.name);
    let topic = &stream.topics.index;
    let mut reader = connect.reader(MAX_RECORD_BYTES)?;
    let mut newest: BTreeMap<IssueTime, Published> = BTreeMap::new();
    for partition in reader.partitions(topic)? {
        let mut by_key: BTreeMap<Bytes, Published> = BTreeMap::new();
        for_each_record(&mut *reader, &partition, |record| {
            let key = record.key.clone().unwrap_or_default();
            match &record.value {
                None => drop(by_key.remove(&key)),
                Some(value) => {
                    if let Some(published) = Published::of(record, value, &name)? {
                        by_key.insert(key, published);
                    }
                }
            }
            Ok(())
        })?;
        for published in by_key.into_values() {
            let slot = published.issue_time.slot();
            if from.is_some_and(|from| slot < from) || until.is_some_and(|until| slot > until) {
                continue;
            }
            match newest.get(&published.issue_time) {
                Some(other) if other.revision >= published.revision => {}
                _ => drop(newest.insert(published.issue_time, published)),
            }
        }
    }
    Ok(newest.into_values().collect())
}

/// What was observed at some times on the topic that a stream is compared with: its `inputs.truth`, or its source.
///
/// # Errors
/// The topic cannot be read, or has no frame of any of these times.
pub fn observations(
    config: &Config,
    parts: &Parts,
    stream: &StreamConfig,
    wanted: BTreeSet<ValidTime>,
    any_grid: bool,
) -> anyhow::Result<Observations> {
    let source = stream.inputs.truth.clone().unwrap_or_else(|| stream.source.clone());
    let topic = source.topic.clone();
    let mut compared = StreamConfig { source, window_frames: 1, ..stream.clone() };
    compared.inputs.steering = None;
    let kept = Arc::new(Mutex::new((FrameFile::new(&config.store.scratch_folder())?, BTreeMap::new())));
    let of_each = kept.clone();
    read_to_end(config, parts, &[compared], move |_, _, windowed| {
        if let Windowed::Observed(observed) = windowed
            && wanted.contains(&observed.frame.slot)
        {
            let mut kept = of_each.lock().unwrap_or_else(PoisonError::into_inner);
            let place = kept.0.keep(&observed.frame)?;
            // In the order in which they become known: what comes later corrects what came before.
            kept.1.insert(observed.frame.slot, place);
        }
        Ok(())
    })?;
    let kept = Arc::into_inner(kept).context("the reading of a topic that has ended")?;
    let (frames, places) = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    Observations::of(Box::new(frames), places, any_grid).with_context(|| format!("topic {topic}"))
}

/// The forecasts that a stream has published within a time, with what was observed.
pub struct OfStream<'c> {
    stream: &'c StreamConfig,
    parts: Parts,
    published: Vec<Published>,
    observations: Observations,
}

impl<'c> OfStream<'c> {
    /// Reads the topics of a stream to their present ends.
    ///
    /// # Errors
    /// Topics cannot be read, or nothing was published or observed in that time.
    pub fn read(
        config: &'c Config,
        stream: &'c StreamConfig,
        period: (Option<ValidTime>, Option<ValidTime>),
        any_grid: bool,
    ) -> anyhow::Result<Self> {
        if config.log.kind == LogKind::Memory {
            return Err(Usage("log.kind is \"memory\": its topics are gone with the process".into()).into());
        }
        let parts = Parts {
            decoders: Box::new(isolated_decoders),
            ..Parts::new(config, connect::log(config), connect::store(config)?)
        };
        let published = published(&*parts.connect, config, stream, period)?;
        let (name, index) = (&stream.name, &stream.topics.index);
        anyhow::ensure!(!published.is_empty(), "topic {index} has no forecast of stream {name} issued in that time");
        let wanted = published.iter().flat_map(|forecast| forecast.valid.iter().copied()).collect();
        let observations = observations(config, &parts, stream, wanted, any_grid)?;
        Ok(Self { stream, parts, published, observations })
    }

    /// With parts of the grid that are judged by themselves, too.
    #[must_use]
    pub fn with_regions(self, regions: &[Region]) -> Self {
        Self { observations: self.observations.with_regions(regions), ..self }
    }

    /// Where topics are read from.
    pub fn connect(&self) -> &dyn Connect {
        &*self.parts.connect
    }

    /// Visits each forecast with what was observed, in the order of issue times; the visitor says at how many leads that was. One
    /// that is gone from the store does not keep the others from being looked at, and is said.
    ///
    /// # Errors
    /// A file is no forecast, or the error of the visitor.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(&ForecastFile<'_>, &Observations) -> anyhow::Result<usize>,
    ) -> anyhow::Result<()> {
        let limits = Limits { max_bytes: LARGEST_FILE as usize, ..Limits::default() };
        let options = ReadOptions { limits, ..ReadOptions::of(&self.stream.source.variables) };
        for forecast in &self.published {
            let what = || format!("the forecast of {}", forecast.issue_time);
            let bytes = match forecast.file(&*self.parts.store) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::warn!("{} is left out: {}", what(), Chain(error.as_ref()));
                    continue;
                }
            };
            let file = ForecastFile::of_stream(&bytes, &self.stream.name, &options).with_context(what)?;
            if visit(&file, &self.observations).with_context(what)? == 0 {
                tracing::warn!("{}: nothing was observed at any of its valid times", what());
            }
        }
        Ok(())
    }
}
