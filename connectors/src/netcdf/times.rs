//! When the fields of a variable are valid, and over which intervals they were gathered.

use ::netcdf::File;
use squall_fields::ValidTime;
use squall_fields::time_units::{Calendar, TimeUnits};

use super::attributes::text;
use super::placement::read_numbers;
use super::schema::{Schema, VariableInfo};
use crate::error::FileError;
use crate::gridded::Notes;
use crate::gridded::interval::{Interval, intervals};
use crate::options::Limits;

/// The slots of a variable, in the file's order.
pub(super) struct Times {
    pub(super) slots: Vec<ValidTime>,
    /// The interval that ends (or lies) at each slot.
    pub(super) intervals: Vec<Interval>,
    /// Name of the variable that the intervals are from, if the file has them.
    pub(super) bounds: Option<String>,
    /// What the slots are counted from.
    pub(super) since: Option<ValidTime>,
}

impl Times {
    /// Reads the time coordinate of a variable and its bounds.
    pub(super) fn read(
        file: &File,
        schema: &Schema,
        variable: &VariableInfo,
        limits: &Limits,
        notes: &mut Notes,
    ) -> Result<Self, FileError> {
        let Some(time) = schema.time_variable(variable) else {
            return Err(FileError::malformed(&variable.path, "expected a time coordinate, found none"));
        };
        let units = units_of(time, None)?;
        if units.calendar() == Calendar::Julian {
            notes
                .add("calendar", format!("{} has the calendar julian: dates are taken as they are printed", time.path));
        }
        let slots = read_numbers(file, time, limits.max_fields)?.into_iter().map(|value| units.decode(value));
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        let named = text(&time.attributes, "bounds").map(str::trim).filter(|name| !name.is_empty());
        let (bounds, lengths) = match named {
            Some(name) => match lengths(file, schema, (name, time), slots.len(), limits) {
                Ok(lengths) => (Some(name.to_owned()), lengths),
                Err(error) => {
                    notes.add("skipped", format!("the time bounds {name}: {error}"));
                    (None, Vec::new())
                }
            },
            None => (None, Vec::new()),
        };
        let seconds: Vec<i64> = slots.iter().map(|slot| slot.unix_seconds()).collect();
        Ok(Self { intervals: intervals(&seconds, &lengths), slots, bounds, since: units.decode(0.0).ok() })
    }
}

/// When the forecast of a file was issued: its reference time; or, of a file that counts its slots from a time shortly
/// before the first, that time (as pysteps writes forecasts).
pub(super) fn issue_time(file: &File, schema: &Schema, times: &Times) -> Option<ValidTime> {
    const SHORTLY: i64 = 3 * 86_400;
    let named = |v: &&VariableInfo| v.standard_name().unwrap_or(&v.name) == "forecast_reference_time";
    let reference = schema.own().find(|v| named(v) && v.shape.iter().product::<usize>() == 1);
    if let Some(reference) = reference {
        let value = read_numbers(file, reference, 1).ok()?.first().copied()?;
        return units_of(reference, None).ok()?.decode(value).ok();
    }
    let before = times.slots.first()?.unix_seconds() - times.since?.unix_seconds();
    times.since.filter(|_| (1..SHORTLY).contains(&before))
}

/// The unit of a time coordinate; of its bounds, which may leave it to the coordinate (CF 7.1).
fn units_of(variable: &VariableInfo, coordinate: Option<&VariableInfo>) -> Result<TimeUnits, FileError> {
    let of = |key| {
        let own = text(&variable.attributes, key);
        own.or_else(|| text(&coordinate?.attributes, key))
    };
    let units = of("units").ok_or_else(|| FileError::malformed(&variable.path, "expected units, found none"))?;
    Ok(TimeUnits::parse(units, of("calendar"))?)
}

/// Seconds from the first bound of each slot to its second.
fn lengths(
    file: &File,
    schema: &Schema,
    (name, time): (&str, &VariableInfo),
    slots: usize,
    limits: &Limits,
) -> Result<Vec<Option<f64>>, FileError> {
    let bounds = schema.variable(name).ok_or_else(|| FileError::malformed(name, "there is no such variable"))?;
    if bounds.shape.iter().product::<usize>() != 2 * slots || bounds.shape.last() != Some(&2) {
        let reason = format!("expected two values for each of {slots} slots, got the shape {:?}", bounds.shape);
        return Err(FileError::malformed(name, reason));
    }
    let units = units_of(bounds, Some(time))?;
    let values = read_numbers(file, bounds, 2 * limits.max_fields)?;
    let length = |pair: &[f64]| {
        let (from, to) = (units.decode(pair[0]).ok()?, units.decode(pair[1]).ok()?);
        Some((to.unix_seconds() - from.unix_seconds()).abs() as f64)
    };
    Ok(values.chunks_exact(2).map(length).collect())
}
