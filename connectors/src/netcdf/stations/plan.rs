//! Which variables of a file are read, as what.

use squall_fields::units::{Conversion, ScaledUnit};
use squall_fields::{Quantity, Unit};

use super::super::schema::{Role, Schema, VariableInfo};
use super::super::times::Times;
use crate::error::FileError;
use crate::gridded::Notes;
use crate::gridded::interval::in_words;
use crate::station::StationLimits;

/// How a variable is read.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) path: String,
    pub(super) quantity: Quantity,
    pub(super) period_seconds: Option<u32>,
    pub(super) conversion: Conversion,
    pub(super) station_first: bool,
}

impl Plan {
    /// What may be there once.
    pub(super) const fn what(&self) -> (Quantity, Option<u32>) {
        (self.quantity, self.period_seconds)
    }

    /// With the period of an amount: by the bounds of the times, the name of the variable, or the step of the times.
    pub(super) fn with_period(self, info: &VariableInfo, times: &Times, notes: &mut Notes) -> Result<Self, FileError> {
        let units = info.units().unwrap_or_default();
        if self.quantity != Quantity::RainRate || !is_amount(units) {
            return Ok(self);
        }
        let longest = StationLimits::default().max_period_seconds;
        let found = match (stated(times), in_name(&info.name), step(times)) {
            (Some(seconds), ..) => Some((seconds, "the bounds of its times")),
            (None, Some(seconds), _) => Some((seconds, "its name")),
            (None, None, Some(seconds)) => Some((seconds, "the step of the file's times, for nothing says so")),
            (None, None, None) => None,
        };
        let Some((seconds, by)) = found.filter(|(seconds, _)| *seconds <= longest) else {
            let reason = "expected bounds of its times, or a name such as rain_1h: its amounts have no period, or too long a one";
            return Err(FileError::malformed(&info.path, reason));
        };
        notes.add("interval", format!("{} gathers {}, by {by}", info.path, in_words(f64::from(seconds))));
        let conversion = self.quantity.conversion(units, Some(seconds)).map_err(|source| unit(info, source))?;
        Ok(Self { period_seconds: Some(seconds), conversion, ..self })
    }
}

/// A variable, and how it is read.
pub(super) type Planned<'s> = (&'s VariableInfo, Plan);

/// The variables of stations and times that are read, and one of them.
pub(super) fn plans<'s>(
    schema: &'s Schema,
    dimension: &str,
    notes: &mut Notes,
) -> Result<(&'s VariableInfo, Vec<Planned<'s>>), FileError> {
    let mut plans = Vec::new();
    for info in schema.own().filter(|info| is_series(schema, info, dimension)) {
        let Some(quantity) = quantity(info, notes) else { continue };
        let Some(units) = info.units().filter(|units| !units.trim().is_empty()) else {
            notes.add("skipped", format!("{}: it has no units", info.path));
            continue;
        };
        let station_first = info.dimensions[0] == dimension;
        // Of an amount the period is found later.
        let period = (quantity == Quantity::RainRate && is_amount(units)).then_some(3600);
        match quantity.conversion(units, period) {
            Ok(conversion) => {
                let path = info.path.clone();
                plans.push((info, Plan { path, quantity, period_seconds: None, conversion, station_first }));
            }
            Err(error) => notes.add("skipped", format!("{}: {error}", info.path)),
        }
    }
    match plans.first() {
        Some((first, _)) => Ok((*first, plans)),
        None => {
            let wanted = format!("rain or wind [{dimension}, time] with a unit");
            Err(FileError::NoVariable { wanted, found: schema.summary() })
        }
    }
}

fn is_series(schema: &Schema, info: &VariableInfo, dimension: &str) -> bool {
    let is_time = |d: &&String| schema.role(d) == Role::Time;
    info.stored.is_some()
        && info.dimensions.len() == 2
        && info.dimensions.iter().any(|d| d == dimension)
        && info.dimensions.iter().filter(is_time).count() == 1
}

/// By the standard name; where there is none, by the name of the variable.
fn quantity(info: &VariableInfo, notes: &mut Notes) -> Option<Quantity> {
    if let Some(name) = info.standard_name() {
        let found = Quantity::of_standard_name(name);
        if found.is_none() {
            notes.add("skipped", format!("{}: {name} is no rain and no wind", info.path));
        }
        return found;
    }
    let lower = info.name.to_lowercase();
    let begins = |names: &[&str]| names.iter().any(|name| lower.starts_with(name));
    let found = Quantity::of_standard_name(&lower).or(match lower.as_str() {
        "wind_dir" | "wind_direction" | "winddirection" => Some(Quantity::WindFromDirection),
        "ws" | "ff" | "windspeed" => Some(Quantity::WindSpeed),
        _ if begins(&["rain", "precip"]) => Some(Quantity::RainRate),
        _ => None,
    });
    match found {
        Some(quantity) => notes.add("names", format!("{} is the {}, by its name alone", info.path, quantity.name())),
        None => notes.add("skipped", format!("{}: it has no standard_name", info.path)),
    }
    found
}

fn is_amount(units: &str) -> bool {
    ScaledUnit::parse(units).is_ok_and(|unit| unit.unit == Unit::KilogramsPerSquareMetre)
}

fn unit(info: &VariableInfo, source: squall_fields::units::UnitError) -> FileError {
    FileError::Unit { variable: info.path.clone(), source }
}

fn whole(seconds: f64) -> Option<u32> {
    (seconds >= 1.0 && seconds.fract() == 0.0 && seconds <= f64::from(u32::MAX)).then_some(seconds as u32)
}

/// The length of the bounds of all times, if they have one.
fn stated(times: &Times) -> Option<u32> {
    let first = times.intervals.first()?.stated()?;
    let same = times.intervals.iter().all(|interval| interval.stated() == Some(first));
    whole(first).filter(|_| same)
}

/// The shortest step between times that follow each other.
fn step(times: &Times) -> Option<u32> {
    let steps = times.slots.windows(2).map(|pair| pair[1].unix_seconds() - pair[0].unix_seconds());
    steps.filter(|seconds| *seconds > 0).min().and_then(|seconds| whole(seconds as f64))
}

/// The period at the end of a name: `precip_1h`, `rain_5min`.
fn in_name(name: &str) -> Option<u32> {
    let last = name.rsplit('_').next()?.to_lowercase();
    let digits = last.bytes().take_while(u8::is_ascii_digit).count();
    let number: u32 = last[..digits].parse().ok()?;
    let unit = match &last[digits..] {
        "s" | "sec" => 1,
        "min" | "m" => 60,
        "h" | "hr" | "hour" | "hours" => 3600,
        "d" | "day" => 86_400,
        _ => return None,
    };
    number.checked_mul(unit).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_in_names() {
        for (name, seconds) in [
            ("precip_1h", Some(3600)),
            ("rain_5min", Some(300)),
            ("RAIN_24H", Some(86_400)),
            ("rr_1d", Some(86_400)),
            ("rain", None),
            ("rain_0h", None),
            ("rain_99999999999h", None),
            ("rain_4294967295h", None),
            ("rain_h", None),
            ("", None),
        ] {
            assert_eq!(in_name(name), seconds, "{name}");
        }
    }
}
