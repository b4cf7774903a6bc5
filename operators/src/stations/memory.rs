//! The readings that are known, by station and by time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_fields::{InputRef, KnowledgeTime, Place, Quantity, Reading, Station, ValidTime};

use super::ReadingKey;
use super::thresholds::BuddyLimit;

/// Metres of a degree of latitude, a little less than there are anywhere.
const METRES_PER_DEGREE: f64 = 110_000.0;

/// A reading that is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) station: Arc<Station>,
    pub(super) reading: Reading,
    pub(super) input: InputRef,
    pub(super) known_at: KnowledgeTime,
    /// Whether others are compared with it.
    pub(super) is_evidence: bool,
}

/// A station's readings of one quantity.
type Series = (Arc<str>, Quantity, Option<u32>);
/// All stations' readings of one quantity at one time.
type Slice = (ValidTime, Quantity, Option<u32>);

/// The evidence of a slice, by latitude in microdegrees and station.
type Evidence = BTreeMap<(i64, Arc<str>), (Place, f32)>;

/// What is held, with the evidence of each time sorted from south to north, so that neighbours lie close together.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    series: BTreeMap<Series, BTreeMap<ValidTime, Held>>,
    times: BTreeMap<ValidTime, BTreeSet<Series>>,
    slices: BTreeMap<Slice, Evidence>,
}

fn series_of(key: &ReadingKey) -> Series {
    (key.station.clone(), key.quantity, key.period_seconds)
}

fn slice_of(key: &ReadingKey) -> Slice {
    (key.valid, key.quantity, key.period_seconds)
}

fn microdegrees(latitude: f64) -> i64 {
    (latitude * 1e6).round() as i64
}

impl Memory {
    pub(super) fn len(&self) -> usize {
        self.times.values().map(BTreeSet::len).sum()
    }

    pub(super) fn get(&self, key: &ReadingKey) -> Option<&Held> {
        self.series.get(&series_of(key))?.get(&key.valid)
    }

    /// Holds a reading, instead of the one of its key.
    pub(super) fn put(&mut self, key: &ReadingKey, held: Held) {
        self.forget_evidence(key);
        if let Some(place) = held.station.place.filter(|_| held.is_evidence) {
            let slice = self.slices.entry(slice_of(key)).or_default();
            slice.insert((microdegrees(place.latitude()), key.station.clone()), (place, held.reading.value));
        }
        self.times.entry(key.valid).or_default().insert(series_of(key));
        self.series.entry(series_of(key)).or_default().insert(key.valid, held);
    }

    /// The reading of a key, to flag it.
    pub(super) fn reading_mut(&mut self, key: &ReadingKey) -> Option<&mut Reading> {
        Some(&mut self.series.get_mut(&series_of(key))?.get_mut(&key.valid)?.reading)
    }

    fn forget_evidence(&mut self, key: &ReadingKey) {
        let Some(place) = self.get(key).and_then(|held| held.station.place) else { return };
        if let Some(slice) = self.slices.get_mut(&slice_of(key)) {
            slice.remove(&(microdegrees(place.latitude()), key.station.clone()));
        }
    }

    /// Forgets what is valid before a time.
    pub(super) fn forget_before(&mut self, oldest: ValidTime) {
        while let Some(first) = self.times.first_entry().filter(|first| *first.key() < oldest) {
            let (valid, all) = first.remove_entry();
            for series in all {
                self.slices.remove(&(valid, series.1, series.2));
                if let Some(readings) = self.series.get_mut(&series) {
                    readings.remove(&valid);
                    if readings.is_empty() {
                        self.series.remove(&series);
                    }
                }
            }
        }
    }

    /// The evidence of the same series before a reading, the newest first, each with its age in seconds.
    pub(super) fn before(&self, key: &ReadingKey, seconds: i64) -> impl Iterator<Item = (i64, f32)> {
        let oldest = key.valid.plus_seconds(-seconds);
        let earlier = self.series.get(&series_of(key)).into_iter().flat_map(move |s| s.range(oldest..key.valid).rev());
        let evidence = earlier.filter(|(_, held)| held.is_evidence);
        evidence.map(|(valid, held)| (key.valid.unix_seconds() - valid.unix_seconds(), held.reading.value))
    }

    /// The readings of the same series after a reading.
    pub(super) fn after(&self, key: &ReadingKey, seconds: i64) -> impl Iterator<Item = ReadingKey> {
        let (first, last) = (key.valid.plus_seconds(1), key.valid.plus_seconds(seconds.max(1)));
        let later = self.series.get(&series_of(key)).into_iter().flat_map(move |s| s.range(first..=last));
        later.map(|(valid, _)| ReadingKey { valid: *valid, ..key.clone() })
    }

    /// The evidence of other stations near a place at the same time: who, at what distance in metres, and what.
    pub(super) fn neighbours<'m>(
        &'m self,
        key: &'m ReadingKey,
        place: Place,
        limit: &'m BuddyLimit,
    ) -> impl Iterator<Item = (&'m Arc<str>, f64, f32)> {
        let reach = limit.radius_m / METRES_PER_DEGREE;
        let south = (microdegrees(place.latitude() - reach), Arc::from(""));
        let north = microdegrees(place.latitude() + reach);
        let slice = self.slices.get(&slice_of(key));
        let band = slice.into_iter().flat_map(move |slice| slice.range(south.clone()..));
        let band = band.take_while(move |((latitude, _), _)| *latitude <= north);
        let is_level = move |other: Place| match (limit.elevation_m, place.elevation_m(), other.elevation_m()) {
            (Some(most), Some(own), Some(other)) => (own - other).abs() <= most,
            _ => true,
        };
        let others = band.filter(move |((_, station), (other, _))| *station != key.station && is_level(*other));
        let others = others.map(move |((_, station), (other, value))| (station, place.distance_m(*other), *value));
        others.filter(|(_, metres, _)| *metres <= limit.radius_m)
    }
}
