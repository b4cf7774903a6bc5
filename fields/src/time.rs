//! Instants and intervals, one type for each meaning.
//!
//! A forecast involves three clocks: when a value is *valid*, from which instant it was *issued*,
//! and when its inputs became *known*. They are all seconds or milliseconds since 1970, and mixing
//! them up is the classic fault of a nowcasting system; hence a type for each.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// The grain of timely's time in milliseconds: knowledge times are rounded down to it.
pub const TICK_MS: u64 = 50;

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// The instant that many seconds after 1970-01-01T00:00:00Z.
            pub const fn from_unix_seconds(seconds: i64) -> Self {
                Self(seconds)
            }

            /// Seconds since 1970-01-01T00:00:00Z.
            pub const fn unix_seconds(self) -> i64 {
                self.0
            }

            /// The instant that many seconds later.
            pub const fn plus_seconds(self, seconds: i64) -> Self {
                Self(self.0 + seconds)
            }

            /// As RFC 3339 in UTC, such as `2016-09-28T16:00:00Z`.
            pub fn to_rfc3339(self) -> String {
                DateTime::<Utc>::from_timestamp(self.0, 0)
                    .map_or_else(|| format!("{} s", self.0), |t| t.to_rfc3339_opts(SecondsFormat::Secs, true))
            }

            /// Reads RFC 3339; `None` if the text is none.
            pub fn parse_rfc3339(text: &str) -> Option<Self> {
                Some(Self(DateTime::parse_from_rfc3339(text).ok()?.timestamp()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_rfc3339())
            }
        }
    };
}

instant! {
    /// The instant that a value describes (CF `time`).
    ValidTime
}
instant! {
    /// The slot of the newest frame that a forecast used (CF `forecast_reference_time`).
    IssueTime
}

impl IssueTime {
    /// The valid time at a lead.
    pub const fn at(self, lead: LeadTime) -> ValidTime {
        ValidTime(self.0 + lead.0)
    }

    /// The slot of the newest frame, as a valid time.
    pub const fn slot(self) -> ValidTime {
        ValidTime(self.0)
    }
}

impl From<ValidTime> for IssueTime {
    fn from(slot: ValidTime) -> Self {
        Self(slot.0)
    }
}

/// Valid time minus issue time (CF `forecast_period`), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeadTime(i64);

impl LeadTime {
    /// A lead of that many seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// The lead in seconds.
    pub const fn seconds(self) -> i64 {
        self.0
    }
}

impl fmt::Display for LeadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 60 == 0 { write!(f, "+{} min", self.0 / 60) } else { write!(f, "+{} s", self.0) }
    }
}

/// When an input became known to the pipeline, in milliseconds since 1970, rounded down to a tick.
///
/// This is timely's time in every Squall dataflow. It is read off the log itself and never off the
/// machine's clock, so a replay of a log knows everything when the live run knew it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KnowledgeTime(u64);

impl KnowledgeTime {
    /// Rounds milliseconds since 1970 down to a tick; what lies before 1970 is 1970.
    ///
    /// ```
    /// use squall_fields::KnowledgeTime;
    /// assert_eq!(KnowledgeTime::from_unix_ms(1_049).unix_ms(), 1_000);
    /// assert_eq!(KnowledgeTime::from_unix_ms(-5).unix_ms(), 0);
    /// ```
    pub const fn from_unix_ms(ms: i64) -> Self {
        let ms = if ms < 0 { 0 } else { ms as u64 };
        Self(ms - ms % TICK_MS)
    }

    /// An instant as timely's time has it: a tick, or one of the milliseconds behind it, in which the records of a tick
    /// lie that has more of them than are taken at once.
    ///
    /// ```
    /// use squall_fields::KnowledgeTime;
    /// assert_eq!(KnowledgeTime::at(1_003).unix_ms(), 1_003);
    /// ```
    pub const fn at(instant: u64) -> Self {
        Self(instant)
    }

    /// The next instant.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Milliseconds since 1970: a multiple of [`TICK_MS`], but for what overflows a tick.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }
}

impl fmt::Display for KnowledgeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0 as i64) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// The rhythm of a product: its slots are the multiples of `step_seconds`, shifted by `offset_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cadence {
    step_seconds: u32,
    #[serde(default)]
    offset_seconds: u32,
}

impl Cadence {
    /// A cadence of whole multiples of a step; `None` for a step of zero.
    pub const fn every_seconds(step_seconds: u32) -> Option<Self> {
        if step_seconds == 0 { None } else { Some(Self { step_seconds, offset_seconds: 0 }) }
    }

    /// Seconds from one slot to the next.
    pub const fn step_seconds(self) -> i64 {
        self.step_seconds as i64
    }

    /// Whether an instant is a slot.
    pub const fn is_slot(self, t: ValidTime) -> bool {
        (t.0 - self.offset_seconds as i64).rem_euclid(self.step_seconds as i64) == 0
    }

    /// The newest slot that is not after an instant.
    pub const fn slot_at_or_before(self, t: ValidTime) -> ValidTime {
        ValidTime(t.0 - (t.0 - self.offset_seconds as i64).rem_euclid(self.step_seconds as i64))
    }

    /// The slot `n` steps after (or, negative, before) a slot.
    pub const fn step(self, slot: ValidTime, n: i64) -> ValidTime {
        ValidTime(slot.0 + n * self.step_seconds as i64)
    }

    /// The leads of `count` steps: one step, two steps, and so on.
    pub fn leads(self, count: usize) -> Vec<LeadTime> {
        (1..=count as i64).map(|n| LeadTime(n * self.step_seconds())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_before_1970_round_down_too() {
        let five = Cadence::every_seconds(300).unwrap();
        assert_eq!(five.slot_at_or_before(ValidTime(-1)), ValidTime(-300));
        assert!(five.is_slot(ValidTime(-600)));
        assert!(!five.is_slot(ValidTime(299)));
    }

    #[test]
    fn rfc3339_round_trip() {
        let t = ValidTime::parse_rfc3339("2016-09-28T18:00:00+02:00").unwrap();
        assert_eq!(t.to_rfc3339(), "2016-09-28T16:00:00Z");
    }
}
