//! What scores are of, and their sums as differences of a collection.

use std::fmt;
use std::sync::Arc;

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};
use squall_fields::ValidTime;
use squall_models::scores::Statistics;

/// The contestant that is the stream itself: what was published, whatever made it.
pub const PUBLISHED: &str = "published";

/// The region that is the whole grid.
pub const DOMAIN: &str = "domain";

/// The region that is the places of stations.
pub const STATIONS: &str = "stations";

/// One row of forecasts that are judged together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// [`PUBLISHED`], or the name of a companion.
    pub contestant: Arc<str>,
    /// Name of the model that made them.
    pub model: Arc<str>,
    /// Its digest.
    pub digest: Arc<str>,
    /// The quantity.
    pub variable: Arc<str>,
    /// Where: [`DOMAIN`], or the name of a region.
    pub region: Arc<str>,
    /// How far ahead, in seconds.
    pub lead: i64,
}

impl fmt::Display for Series {
    /// As part of a record's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contestant, digest, variable, region, lead, .. } = self;
        let digest = digest.get(..12).unwrap_or(digest);
        write!(f, "{contestant}|{digest}|{variable}|{region}|{lead}")
    }
}

/// The valid times that a sum is over, as seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Period {
    /// One time.
    At(i64),
    /// An hour of UTC from this time on.
    Hour(i64),
    /// A day of UTC from this time on.
    Day(i64),
    /// Since the stream is judged.
    All,
}

/// Seconds of an hour.
pub(super) const HOUR: i64 = 3600;
/// Seconds of a day.
pub(super) const DAY: i64 = 24 * HOUR;

impl Period {
    /// Every period that a valid time belongs to.
    ///
    /// ```
    /// use squall_operators::verify::Period::{self, *};
    /// assert_eq!(Period::of(90_061), [At(90_061), Hour(90_000), Day(86_400), All]);
    /// ```
    pub fn of(valid: i64) -> [Self; 4] {
        [Self::At(valid), Self::Hour(start(valid, HOUR)), Self::Day(start(valid, DAY)), Self::All]
    }

    /// Its name, such as `1h`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::At(_) => "valid_time",
            Self::Hour(_) => "1h",
            Self::Day(_) => "24h",
            Self::All => "all",
        }
    }

    /// The first time, and the first one behind the last; none where it has no bounds.
    pub fn bounds(self) -> Option<(ValidTime, ValidTime)> {
        let (from, to) = match self {
            Self::At(time) => (time, time + 1),
            Self::Hour(from) => (from, from + HOUR),
            Self::Day(from) => (from, from + DAY),
            Self::All => return None,
        };
        Some((ValidTime::from_unix_seconds(from), ValidTime::from_unix_seconds(to)))
    }
}

/// The multiple of a length at or before a time.
pub(super) const fn start(time: i64, length: i64) -> i64 {
    time - time.rem_euclid(length)
}

/// What a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Of which forecasts.
    pub series: Series,
    /// Over which times.
    pub period: Period,
}

/// Sums of scores as the difference of a collection: what is counted, and what takes it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sums(pub Statistics);

impl IsZero for Sums {
    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl Semigroup for Sums {
    fn plus_equals(&mut self, other: &Self) {
        self.0 = self.0.plus(&other.0);
    }
}

impl Monoid for Sums {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Sums {
    fn negate(&mut self) {
        self.0 = self.0.negated();
    }
}
