//! CF time coordinates: `seconds since 1970-01-01 00:00:00` and the like, in every spelling that UDUNITS reads.

mod calendar;

use thiserror::Error;

pub use calendar::Calendar;

use crate::ValidTime;

/// A unit of time counted from an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeUnits {
    seconds_per_unit: f64,
    epoch_unix_seconds: i64,
    /// Of the epoch, below a second.
    epoch_fraction: f64,
    calendar: Calendar,
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
    #[error("expected the calendar `standard`, `gregorian`, `proleptic_gregorian` or `julian`, got `{calendar}`")]
    Calendar {
        /// What came.
        calendar: String,
    },
    /// A reference date that its calendar has not.
    #[error("`{text}`: the calendar `{calendar}` has no such date")]
    NoSuchDate {
        /// What came.
        text: String,
        /// The calendar.
        calendar: &'static str,
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
    /// [`TimeUnitsError::Syntax`], [`TimeUnitsError::Calendar`] or [`TimeUnitsError::NoSuchDate`], which say what was
    /// expected.
    pub fn parse(units: &str, calendar: Option<&str>) -> Result<Self, TimeUnitsError> {
        let calendar = Calendar::parse(calendar)?;
        let text = || units.chars().take(80).collect::<String>();
        let wrong = || TimeUnitsError::Syntax { text: text() };
        let words: Vec<&str> = units.split_whitespace().collect();
        let is_since =
            |word: &&str| ["since", "after", "from", "ref"].iter().any(|since| word.eq_ignore_ascii_case(since));
        let since = words.iter().position(is_since).ok_or_else(wrong)?;
        let seconds_per_unit = seconds_per(&words[..since].concat()).ok_or_else(wrong)?;
        let epoch = Epoch::parse(&words[since + 1..].join(" ")).ok_or_else(wrong)?;
        let (year, month, day) = epoch.date;
        let days = calendar
            .days(year, month, day)
            .ok_or_else(|| TimeUnitsError::NoSuchDate { text: text(), calendar: calendar.name() })?;
        Ok(Self {
            seconds_per_unit,
            epoch_unix_seconds: 86_400 * days + epoch.second_of_day,
            epoch_fraction: epoch.fraction,
            calendar,
        })
    }

    /// The calendar that dates are counted in.
    pub const fn calendar(&self) -> Calendar {
        self.calendar
    }

    /// The instant of a value, rounded to a second.
    ///
    /// # Errors
    /// [`TimeUnitsError::Value`] if it is not finite or lies beyond the years 1 to 9999.
    pub fn decode(&self, value: f64) -> Result<ValidTime, TimeUnitsError> {
        let wrong = || TimeUnitsError::Value { value: value.to_string() };
        let since_epoch = (value * self.seconds_per_unit + self.epoch_fraction).round();
        let seconds = since_epoch + self.epoch_unix_seconds as f64;
        // 0001-01-01 and 9999-12-31.
        if !(-62_135_596_800.0..=253_402_300_799.0).contains(&seconds) {
            return Err(wrong());
        }
        let seconds = seconds as i64;
        let day = self.calendar.by_date(seconds.div_euclid(86_400)).ok_or_else(wrong)?;
        Ok(ValidTime::from_unix_seconds(86_400 * day + seconds.rem_euclid(86_400)))
    }
}

/// Seconds of a unit of time, with or without a number before it: `hours`, `100ns`, `10minutes`.
fn seconds_per(text: &str) -> Option<f64> {
    let text = text.to_lowercase();
    let name_at = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, name) = match text[name_at..].strip_prefix('e').and_then(|rest| rest.find(char::is_alphabetic)) {
        // An exponent, as in `1e-3s`; no unit of time begins with an e.
        Some(exponent) if name_at > 0 => text.split_at(name_at + 1 + exponent),
        _ => text.split_at(name_at),
    };
    let factor = if number.is_empty() { 1.0 } else { number.parse().ok()? };
    let seconds = factor * seconds_of(name)?;
    (seconds.is_finite() && seconds > 0.0).then_some(seconds)
}

fn seconds_of(name: &str) -> Option<f64> {
    Some(match name {
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "week" | "weeks" => 604_800.0,
        _ => {
            const PREFIXES: [(&str, f64); 7] = [
                ("nano", 1e-9),
                ("micro", 1e-6),
                ("milli", 1e-3),
                ("n", 1e-9),
                ("u", 1e-6),
                ("m", 1e-3),
                // The micro sign is lowercased to the Greek letter by some, and kept by others.
                ("\u{b5}", 1e-6),
            ];
            let name = name.replace('\u{3bc}', "\u{b5}");
            let second = |rest: &str| matches!(rest, "s" | "sec" | "secs" | "second" | "seconds");
            return PREFIXES.iter().find(|(prefix, _)| name.strip_prefix(prefix).is_some_and(second)).map(|(_, s)| *s);
        }
    })
}

/// A reference date before its calendar is known.
struct Epoch {
    date: (i32, u32, u32),
    /// In UTC; outside a day where the zone's offset leads there.
    second_of_day: i64,
    fraction: f64,
}

impl Epoch {
    /// `YYYY[-M[-D]][( |T)h[:m[:s[.f]]]][ ](Z|UTC|GMT|±h[[:]mm])`, or with dates and times as mere digits.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (date, rest) = text.find([' ', 'T', 't']).map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()));
        let (year, month, day) = parse_date(date)?;
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
        let (hour, minute, second) = parse_clock(&rest[..end])?;
        let whole = second.floor();
        let second_of_day = 3600 * hour + 60 * minute + whole as i64 - zone_seconds(rest[end..].trim())?;
        Some(Self { date: (sign * year, month, day), second_of_day, fraction: second - whole })
    }
}

fn parse_date(text: &str) -> Option<(i32, u32, u32)> {
    let digits = |part: &str| part.len() <= 5 && !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| if digits(part) { part.parse::<u32>().ok() } else { None };
    let (year, month, day) = match text.len() {
        // 20160928, and 201609.
        6 | 8 if text.bytes().all(|b| b.is_ascii_digit()) => {
            (number(&text[..4])?, number(&text[4..6])?, if text.len() == 8 { number(&text[6..])? } else { 1 })
        }
        _ => {
            let mut parts = text.splitn(3, '-');
            let year = number(parts.next()?)?;
            let mut next = || parts.next().map_or(Some(1), number);
            (year, next()?, next()?)
        }
    };
    Some((i32::try_from(year).ok()?, month, day))
}

fn parse_clock(text: &str) -> Option<(i64, i64, f64)> {
    let (whole, fraction) = text.find('.').map_or((text, ""), |at| text.split_at(at));
    let packed = !whole.contains(':') && matches!(whole.len(), 4 | 6);
    let parts: Vec<&str> = match whole.len() {
        0 => Vec::new(),
        // 1400 and 140000.
        4 if packed => vec![&whole[..2], &whole[2..]],
        6 if packed => vec![&whole[..2], &whole[2..4], &whole[4..]],
        _ => whole.split(':').collect(),
    };
    let number = |index: usize| match parts.get(index) {
        None | Some(&"") => Some(0),
        Some(part) if part.len() <= 2 => part.parse::<i64>().ok(),
        Some(_) => None,
    };
    let (hour, minute, second) = (number(0)?, number(1)?, number(2)?);
    // Only seconds have fractions.
    let fraction: f64 = if fraction.len() > 1 { format!("0{fraction}").parse().ok()? } else { 0.0 };
    let fits = parts.len() <= 3 && hour < 24 && minute < 60 && second < 61 && (fraction == 0.0 || parts.len() == 3);
    fits.then_some((hour, minute, second as f64 + fraction))
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone.to_ascii_uppercase().as_str(), "" | "Z" | "UTC" | "GMT" | "UT") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.strip_prefix(['+', '-']).unwrap_or(zone);
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let number = |text: &str, below: i64| text.parse::<i64>().ok().filter(|n| (0..below).contains(n));
    Some(sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            "Seconds Since 1970-01-01 00:00:00 UTC",
            "SECONDS  SINCE\t1970-01-01t00:00:00z",
            "secs since 19700101T000000",
            "second after 19700101 0000",
            "sec from 1970-01 00",
            "s ref 1970",
            "seconds since 1970-01-01 00:00:00.0 0:00",
            "1 seconds since 1970-01-01",
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
    fn every_unit_of_time() {
        for (unit, seconds) in [
            ("nanoseconds", 1e-9),
            ("ns", 1e-9),
            ("Nanosecond", 1e-9),
            ("microseconds", 1e-6),
            ("us", 1e-6),
            ("usec", 1e-6),
            ("\u{b5}s", 1e-6),
            ("\u{3bc}s", 1e-6),
            ("milliseconds", 1e-3),
            ("msecs", 1e-3),
            ("ms", 1e-3),
            ("MINUTES", 60.0),
            ("hrs", 3600.0),
            ("Hours", 3600.0),
            ("Days", 86_400.0),
            ("weeks", 604_800.0),
            ("10 minutes", 600.0),
            ("100 ns", 1e-7),
            ("5min", 300.0),
            ("0.001 s", 1e-3),
            ("1e-3 seconds", 1e-3),
        ] {
            let units = TimeUnits::parse(&format!("{unit} since 2016-09-28 14:00:00"), None).unwrap();
            let value: f64 = 600.0 / seconds;
            assert_eq!(units.decode(value).unwrap().to_rfc3339(), "2016-09-28T14:10:00Z", "{unit}");
        }
    }

    /// By cftime.
    #[test]
    fn old_epochs_are_counted_by_the_calendar_of_the_file() {
        for (text, calendar, value) in [
            ("hours since 1-1-1 00:00:0.0", Some("standard"), 17_669_678.0),
            ("hours since 0001-01-01 00:00:00", Some("Gregorian"), 17_669_678.0),
            ("hours since 0001-01-01 00:00:00", None, 17_669_678.0),
            ("hours since 0001-01-01 00:00:00", Some("proleptic_gregorian"), 17_669_630.0),
            ("hours since 1582-10-15", Some("standard"), 3_803_990.0),
            ("hours since 1900-01-01 00:00:00.0", Some("standard"), 1_023_350.0),
            ("days since -4713-01-01 12:00:00", Some("standard"), 2_457_660.083_333_333_5),
            ("seconds since 1970-01-01 00:00:00 UTC", Some("julian"), 1_475_071_200.0),
            ("seconds since 1980-01-06 00:00:00 UTC", Some("julian"), 1_159_106_400.0),
        ] {
            let units = TimeUnits::parse(text, calendar).unwrap();
            assert_eq!(units.decode(value).unwrap().to_rfc3339(), "2016-09-28T14:00:00Z", "{text} {calendar:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "seconds",
            "fortnights since 1970-01-01",
            "seconds since yesterday",
            "s since 1970-13-01",
            "",
            "months since 1970-01-01",
            "seconds since 1970-01-01 25:00",
            "seconds since 1970-01-01 00:00:00 +99:00",
            "0 seconds since 1970-01-01",
            "since 1970-01-01",
            "seconds since 1582-10-10",
            "seconds since 0000-01-01",
        ] {
            assert!(TimeUnits::parse(text, None).is_err(), "{text}");
        }
        for calendar in ["360_day", "noleap", "365_day", "all_leap", "none", "tai", "utc"] {
            let error = TimeUnits::parse("days since 1970-01-01", Some(calendar)).unwrap_err();
            assert!(error.to_string().contains(calendar));
        }
        let units = TimeUnits::parse("days since 1970-01-01", None).unwrap();
        assert!(units.decode(f64::NAN).is_err() && units.decode(1e30).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_unit_or_an_error(text in "\\PC{0,40}", value: f64) {
            for units in [text.clone(), format!("{text} since 2000-01-01"), format!("hours since {text}")] {
                if let Ok(units) = TimeUnits::parse(&units, None) {
                    let _ = units.decode(value);
                }
            }
        }
    }
}
