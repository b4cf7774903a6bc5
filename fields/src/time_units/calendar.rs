//! The calendars in which files count days.

use chrono::{Datelike, NaiveDate};

use super::TimeUnitsError;

/// A calendar of the CF conventions (section 4.4.1) that has dates of the real world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calendar {
    /// Julian until 1582-10-04, Gregorian from 1582-10-15; no year 0.
    Standard,
    /// Gregorian always; there is a year 0.
    ProlepticGregorian,
    /// Julian always; no year 0.
    Julian,
}

/// From 0000-03-01 of the Julian calendar to 1970-01-01 of the Gregorian, in days.
const JULIAN_DAYS_TO_1970: i64 = 719_470;

impl Calendar {
    /// Reads the attribute `calendar`; `standard` where there is none.
    ///
    /// # Errors
    /// [`TimeUnitsError::Calendar`] for one whose days are not those of the Earth, or that counts leap seconds.
    pub fn parse(name: Option<&str>) -> Result<Self, TimeUnitsError> {
        let name = name.unwrap_or("standard").trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "standard" | "gregorian" => Ok(Self::Standard),
            "proleptic_gregorian" => Ok(Self::ProlepticGregorian),
            "julian" => Ok(Self::Julian),
            _ => Err(TimeUnitsError::Calendar { calendar: name.chars().take(80).collect() }),
        }
    }

    /// Name as in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::ProlepticGregorian => "proleptic_gregorian",
            Self::Julian => "julian",
        }
    }

    /// Days from 1970-01-01 (Gregorian) to a date of this calendar; `None` if it has no such date.
    ///
    /// ```
    /// use squall_fields::time_units::Calendar;
    /// // The day after the 4th of October 1582 was the 15th.
    /// let last_julian = Calendar::Standard.days(1582, 10, 4).unwrap();
    /// assert_eq!(Calendar::Standard.days(1582, 10, 15), Some(last_julian + 1));
    /// assert_eq!(Calendar::Standard.days(1582, 10, 10), None);
    /// ```
    pub fn days(self, year: i32, month: u32, day: u32) -> Option<i64> {
        match self {
            Self::ProlepticGregorian => gregorian(year, month, day),
            Self::Julian => julian(astronomical(year)?, month, day),
            Self::Standard if (year, month, day) >= (1582, 10, 15) => gregorian(year, month, day),
            Self::Standard if (year, month, day) <= (1582, 10, 4) => julian(astronomical(year)?, month, day),
            Self::Standard => None,
        }
    }

    /// The day, counted from 1970-01-01 of the Gregorian calendar, that has the date which this calendar gives to a
    /// day; `None` if the Gregorian calendar has no such date.
    ///
    /// A nowcast's files say `julian` where a program wrote the default of its library beside dates of today, and
    /// what they mean is the date as it is printed: `cftime` and the producers (IMERG) read it so.
    pub fn by_date(self, days: i64) -> Option<i64> {
        if self != Self::Julian {
            return Some(days);
        }
        let shifted = days + JULIAN_DAYS_TO_1970;
        let (cycle, in_cycle) = (shifted.div_euclid(1461), shifted.rem_euclid(1461));
        let year_of_cycle = (in_cycle - in_cycle / 1460) / 365;
        let day_of_year = in_cycle - 365 * year_of_cycle;
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        gregorian(i32::try_from(4 * cycle + year_of_cycle + next).ok()?, month as u32, day as u32)
    }
}

/// Years before Christ count from 0 downwards in arithmetic; a calendar without a year 0 has no such date.
fn astronomical(year: i32) -> Option<i32> {
    match year {
        0 => None,
        1.. => Some(year),
        _ => Some(year + 1),
    }
}

fn gregorian(year: i32, month: u32, day: u32) -> Option<i64> {
    const DAYS_TO_1970: i64 = 719_163;
    Some(i64::from(NaiveDate::from_ymd_opt(year, month, day)?.num_days_from_ce()) - DAYS_TO_1970)
}

fn julian(year: i32, month: u32, day: u32) -> Option<i64> {
    let february = if year.rem_euclid(4) == 0 { 29 } else { 28 };
    let longest = match month {
        2 => february,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    // Years that begin in March have the leap day at their end.
    let (year, month) = (i64::from(year) - i64::from(month <= 2), i64::from((month + 9) % 12));
    let day_of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    Some(365 * year + year.div_euclid(4) + day_of_year - JULIAN_DAYS_TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Julian day numbers (of noon) of astronomy, less that of 1970-01-01.
    #[test]
    fn known_days() {
        const DAY_NUMBER_1970: i64 = 2_440_588;
        for (calendar, year, month, day, number) in [
            (Calendar::Standard, -4713, 1, 1, 0),
            (Calendar::Standard, 1, 1, 1, 1_721_424),
            (Calendar::ProlepticGregorian, 1, 1, 1, 1_721_426),
            (Calendar::Standard, 1582, 10, 4, 2_299_160),
            (Calendar::Standard, 1582, 10, 15, 2_299_161),
            (Calendar::Julian, 1582, 10, 15, 2_299_171),
            (Calendar::Standard, 2000, 1, 1, 2_451_545),
            (Calendar::Julian, 1970, 1, 1, 2_440_601),
        ] {
            assert_eq!(calendar.days(year, month, day), Some(number - DAY_NUMBER_1970), "{calendar:?} {year}-{month}");
        }
    }

    #[test]
    fn dates_that_a_calendar_has_not() {
        for (year, month, day) in [(0, 1, 1), (1582, 10, 5), (1582, 10, 14), (2016, 2, 30), (1900, 2, 29), (1, 13, 1)] {
            assert_eq!(Calendar::Standard.days(year, month, day), None, "{year}-{month}-{day}");
        }
        assert!(Calendar::Standard.days(1500, 2, 29).is_some() && Calendar::ProlepticGregorian.days(0, 1, 1).is_some());
        assert_eq!(Calendar::ProlepticGregorian.days(1500, 2, 29), None);
    }

    #[test]
    fn a_julian_date_is_the_date_as_it_is_printed() {
        for (year, month, day) in [(2016, 9, 28), (1970, 1, 1), (2000, 2, 29), (1999, 12, 31), (2016, 3, 1)] {
            let day_of = |calendar: Calendar| calendar.days(year, month, day).unwrap();
            let printed = Calendar::Julian.by_date(day_of(Calendar::Julian));
            assert_eq!(printed, Some(day_of(Calendar::ProlepticGregorian)), "{year}-{month}-{day}");
        }
        let no_gregorian_date = Calendar::Julian.days(1900, 2, 29).unwrap();
        assert_eq!(Calendar::Julian.by_date(no_gregorian_date), None);
    }
}
