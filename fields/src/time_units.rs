//! CF time coordinates: `seconds since 1970-01-01 00:00:00` and the like.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use thiserror::Error;

use crate::ValidTime;

/// A unit of time counted from an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeUnits {
    seconds_per_unit: f64,
    epoch_unix_seconds: i64,
}

/// Why a time coordinate could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimeUnitsError {
    /// Not `UNIT since DATE`.
    #[error("expected a time unit such as `seconds since 1970-01-01 00:00:00`, got `{text}`")]
    Syntax {
        /// What came.
        text: String,
    },
    /// A calendar whose days are not ours.
    #[error("expected the calendar `standard`, `gregorian` or `proleptic_gregorian`, got `{calendar}`")]
    Calendar {
        /// What came.
        calendar: String,
    },
    /// A value that is no instant.
    #[error("the time value {value} is missing or out of range")]
    Value {
        /// What came.
        value: String,
    },
}

impl TimeUnits {
    /// Reads the `units` and the `calendar` (standard, if there is none) of a time coordinate.
    ///
    /// ```
    /// use squall_fields::time_units::TimeUnits;
    /// let units = TimeUnits::parse("minutes since 2016-09-28 14:00", None).unwrap();
    /// assert_eq!(units.decode(45.0).unwrap().to_rfc3339(), "2016-09-28T14:45:00Z");
    /// ```
    ///
    /// # Errors
    /// [`TimeUnitsError::Syntax`] or [`TimeUnitsError::Calendar`], which say what was expected.
    pub fn parse(units: &str, calendar: Option<&str>) -> Result<Self, TimeUnitsError> {
        let calendar = calendar.unwrap_or("standard").trim().to_ascii_lowercase();
        if !matches!(calendar.as_str(), "" | "standard" | "gregorian" | "proleptic_gregorian") {
            return Err(TimeUnitsError::Calendar { calendar });
        }
        let wrong = || TimeUnitsError::Syntax { text: units.chars().take(80).collect() };
        let (unit, date) = units.trim().split_once(" since ").ok_or_else(wrong)?;
        let seconds_per_unit = match unit.trim().to_ascii_lowercase().as_str() {
            "ms" | "msec" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => return Err(wrong()),
        };
        Ok(Self { seconds_per_unit, epoch_unix_seconds: parse_date(date).ok_or_else(wrong)? })
    }

    /// The instant of a value, rounded to a second.
    ///
    /// # Errors
    /// [`TimeUnitsError::Value`] if it is not finite or lies beyond the years 1 to 9999.
    pub fn decode(&self, value: f64) -> Result<ValidTime, TimeUnitsError> {
        let seconds = (value * self.seconds_per_unit).round() + self.epoch_unix_seconds as f64;
        // 0001-01-01 and 9999-12-31.
        if (-62_135_596_800.0..=253_402_300_799.0).contains(&seconds) {
            Ok(ValidTime::from_unix_seconds(seconds as i64))
        } else {
            Err(TimeUnitsError::Value { value: value.to_string() })
        }
    }
}

/// Seconds since 1970 of `YYYY-M-D[( |T)h[:m[:s[.f]]]][ ](Z|UTC|GMT|±h[[:]mm])`.
fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = text.find([' ', 'T']).map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()));
    let mut parts = date.splitn(3, '-').map(str::parse::<u32>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
    let (clock, zone) = (&rest[..end], rest[end..].trim());
    let mut parts = clock.split(':');
    let mut next =
        || parts.next().map_or(Some(0.0), |part| if part.is_empty() { Some(0.0) } else { part.parse().ok() });
    let (hour, minute, second): (f64, f64, f64) = (next()?, next()?, next()?);
    let time = NaiveTime::from_hms_opt(hour as u32, minute as u32, second as u32)?;
    Some(NaiveDateTime::new(date, time).and_utc().timestamp() - zone_seconds(zone)?)
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone.to_ascii_uppercase().as_str(), "" | "Z" | "UTC" | "GMT") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_epoch() {
        for text in [
            "seconds since 1970-01-01 00:00:00 UTC",
            "seconds since 1970-01-01T00:00:00Z",
            "s since 1970-1-1",
            "seconds since 1970-01-01 00:00:00.0",
            "seconds since 1970-01-01 00:00:0.0 +0:00",
            "seconds since 1970-01-01 02:00 +02:00",
            "Seconds since 1969-12-31 19:00:00 -0500",
        ] {
            let units = TimeUnits::parse(text, Some("standard")).unwrap();
            assert_eq!(units.decode(60.0).unwrap().unix_seconds(), 60, "{text}");
        }
        assert_eq!(
            TimeUnits::parse("days since 1970-01-02", None).unwrap().decode(0.5).unwrap().unix_seconds(),
            129_600
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["seconds", "fortnights since 1970-01-01", "seconds since yesterday", "s since 1970-13-01", ""] {
            assert!(TimeUnits::parse(text, None).is_err(), "{text}");
        }
        let error = TimeUnits::parse("days since 1970-01-01", Some("360_day")).unwrap_err();
        assert!(error.to_string().contains("360_day"));
        let units = TimeUnits::parse("days since 1970-01-01", None).unwrap();
        assert!(units.decode(f64::NAN).is_err() && units.decode(1e30).is_err());
    }
}
