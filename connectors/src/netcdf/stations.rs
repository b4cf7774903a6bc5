//! Series of stations from a CF-NetCDF file (`featureType: timeSeries`): `[station, time]`, or the other way round.
//!
//! Files of stations are made by many hands. What a file does not say is taken from what it has (the period of an amount
//! from the name of its variable or the step of its times), and every such assumption is a note; a variable without a unit
//! is left out, which is a note too, for nothing could stand in for it.

mod identity;
mod plan;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use ::netcdf::File;
use squall_fields::{InputRef, Reading, Station, StationReport, ValidTime};

use self::plan::Plan;
use super::placement::read_numbers;
use super::read::{guarded, recognise};
use super::schema::{Schema, VariableInfo};
use super::times::Times;
use crate::error::FileError;
use crate::gridded::{Notes, NumberType};
use crate::options::Limits;

/// Series of stations, held in memory: 4 bytes a value.
#[derive(Debug)]
pub struct StationSeries {
    name: Arc<str>,
    stations: Vec<Arc<Station>>,
    times: Vec<ValidTime>,
    columns: Vec<Column>,
    notes: Notes,
}

/// A quantity of all stations at all times.
#[derive(Debug)]
struct Column {
    plan: Plan,
    /// In the unit of the quantity, NaN where missing, in the order of the file.
    values: Vec<f32>,
}

impl StationSeries {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`] says what was expected of the file. One without stations is [`FileError::NoVariable`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let canonical = path.canonicalize().map_err(io)?;
        let mut first = [0; 8];
        let count =
            std::fs::File::open(&canonical).and_then(|mut f| std::io::Read::read(&mut f, &mut first)).map_err(io)?;
        recognise(&first[..count])?;
        let name = path.display().to_string();
        let read = guarded(&name, || {
            let file = ::netcdf::open(&canonical).map_err(|e| FileError::malformed(&name, e))?;
            Self::read(&file, &name, limits)
        });
        read.map_err(|error| FileError::within(path, error))
    }

    fn read(file: &File, name: &str, limits: &Limits) -> Result<Self, FileError> {
        let schema = Schema::of(file);
        let mut notes = Notes::default();
        let dimension = identity::station_dimension(&schema)?;
        let (first, plans) = plan::plans(&schema, &dimension, &mut notes)?;
        // A time of stations is no field: there may be many more.
        let many = Limits { max_fields: limits.max_cells, ..*limits };
        let times = Times::read(file, &schema, first, &many, &mut notes)?;
        let stations = identity::stations(file, &schema, &dimension, limits, &mut notes)?;
        let mut columns: Vec<Column> = Vec::new();
        for (info, plan) in plans {
            let plan = plan.with_period(info, &times, &mut notes)?;
            let is_same = |column: &&Column| column.plan.what() == plan.what();
            if let Some(other) = columns.iter().find(is_same) {
                let reason = format!("{} is the same quantity over the same period", other.plan.path);
                notes.add("skipped", format!("{}: {reason}", info.path));
                continue;
            }
            let values = read_values(file, info, &plan, limits)?;
            columns.push(Column { plan, values });
        }
        Ok(Self { name: name.into(), stations, times: times.slots, columns, notes })
    }

    /// The times of the file, in its order.
    pub fn times(&self) -> &[ValidTime] {
        &self.times
    }

    /// Its stations.
    pub fn stations(&self) -> &[Arc<Station>] {
        &self.stations
    }

    /// What was assumed, and what was left out.
    pub const fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The reports of all stations that have a value at a time, by its index. Each says where it is from: the file, and the
    /// index.
    ///
    /// # Errors
    /// [`FileError::NoField`].
    pub fn reports(&self, index: usize) -> Result<Vec<StationReport>, FileError> {
        let count = self.times.len();
        let valid = *self.times.get(index).ok_or(FileError::NoField { index, count })?;
        let input = InputRef { topic: self.name.clone(), partition: 0, offset: index as i64, digest: "".into() };
        let reports = self.stations.iter().enumerate().map(|(place, station)| {
            let readings = self.columns.iter().filter_map(|column| {
                let Plan { quantity, period_seconds, station_first, .. } = column.plan;
                let at = if station_first { place * count + index } else { index * self.stations.len() + place };
                let value = column.values[at];
                value.is_finite().then(|| Reading::new(quantity, period_seconds, value))
            });
            StationReport { station: station.clone(), valid, readings: readings.collect(), input: input.clone() }
        });
        Ok(reports.filter(|report| !report.readings.is_empty()).collect())
    }
}

/// The values of a variable, unpacked and converted.
fn read_values(file: &File, info: &VariableInfo, plan: &Plan, limits: &Limits) -> Result<Vec<f32>, FileError> {
    let (count, limit) =
        (info.shape.iter().fold(1u64, |n, len| n.saturating_mul(*len as u64)), limits.max_cells as u64);
    if count > limit {
        return Err(FileError::TooLarge { what: "number of values", got: count, limit });
    }
    let packing = info.packing(&mut Notes::default())?;
    let missing = |raw: f64| {
        packing.missing.iter().any(|sentinel| sentinel.is(raw))
            || raw < packing.valid.0
            || raw > packing.valid.1
            || (packing.default_fill && raw > 9e36)
    };
    let unpack = |raw: f64| {
        let raw = if packing.retyped { packing.stored.with_bits_of(raw) } else { raw };
        if missing(raw) { f32::NAN } else { plan.conversion.apply((raw * packing.scale + packing.offset) as f32) }
    };
    let variable = file.variable(&info.path).ok_or_else(|| FileError::malformed(&info.path, "it is gone"))?;
    let failed = |error| FileError::malformed(&info.path, error);
    use NumberType::{F32, I8, I16, U8, U16};
    // Half the memory, where no digit is lost.
    if matches!(info.stored, Some(I8 | U8 | I16 | U16 | F32)) {
        let raw = variable.get_values::<f32, _>(..).map_err(failed)?;
        return Ok(raw.into_iter().map(|raw| unpack(f64::from(raw))).collect());
    }
    Ok(variable.get_values::<f64, _>(..).map_err(failed)?.into_iter().map(unpack).collect())
}

/// All values of a coordinate variable, if it is there and has one for each of so many; NaN where missing.
fn coordinates(
    file: &File,
    info: Option<&VariableInfo>,
    count: usize,
    limits: &Limits,
) -> Result<Option<Vec<f64>>, FileError> {
    let Some(info) = info.filter(|info| info.shape == [count]) else { return Ok(None) };
    let packing = info.packing(&mut Notes::default())?;
    let missing = |value: &f64| packing.missing.iter().any(|sentinel| sentinel.is(*value));
    let values = read_numbers(file, info, limits.max_cells)?;
    Ok(Some(values.into_iter().map(|value| if missing(&value) { f64::NAN } else { value }).collect()))
}
