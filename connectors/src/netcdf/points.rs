//! Ensembles at places, with what was observed there: a case a row, a member a column.
//!
//! The shape of matched forecasts of stations: a variable `[case, member]`, observations of the same standard name `[case]`,
//! and `reference_time` and `valid_time` (or `lead_hours`) of each case.

use std::path::Path;

use ::netcdf::File;
use ndarray::Array2;
use squall_fields::time_units::TimeUnits;
use squall_fields::{LeadTime, ScaledUnit, ValidTime};

use super::attributes::text;
use super::read::guarded;
use super::schema::{Role, Schema, VariableInfo};
use crate::error::FileError;
use crate::gridded::Notes;
use crate::options::Limits;

/// One case: when it is valid, where, and how long before it was forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The station, or the number of the case if the file names none.
    pub station: i64,
    /// When it is valid; the epoch if the file does not say.
    pub valid: ValidTime,
    /// Valid time less reference time.
    pub lead: LeadTime,
}

/// Forecasts and observations at places.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    /// What is forecast: its standard name.
    pub quantity: String,
    /// The unit of the values, as the file has it.
    pub unit: String,
    /// Whether the file names the station of each case.
    pub has_stations: bool,
    /// A row each.
    pub cases: Vec<Case>,
    /// `[case, member]`; NaN where missing.
    pub members: Array2<f32>,
    /// `[case]`; NaN where missing, or everywhere if the file has no observations.
    pub observed: Vec<f32>,
}

/// Reads a file of cases; `None` if it is of another shape.
///
/// # Errors
/// [`FileError`] says what was expected of the file.
pub fn read_points(path: &Path, limits: &Limits) -> Result<Option<Points>, FileError> {
    let canonical = path.canonicalize().map_err(|source| FileError::Io { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    guarded(&name, || {
        let file = ::netcdf::open(&canonical).map_err(|e| FileError::malformed(&name, e))?;
        let schema = Schema::of(&file);
        Reading { file: &file, schema: &schema, limits }.points()
    })
}

struct Reading<'a> {
    file: &'a File,
    schema: &'a Schema,
    limits: &'a Limits,
}

impl Reading<'_> {
    fn points(&self) -> Result<Option<Points>, FileError> {
        let member = |d: &String| self.schema.role(d) == Role::Member;
        let is_forecast = |v: &&VariableInfo| v.dimensions.len() == 2 && v.dimensions.iter().any(member);
        let Some(forecast) = self.schema.own().find(|v| is_forecast(v) && v.standard_name().is_some()) else {
            return Ok(None);
        };
        let case = forecast.dimensions.iter().find(|d| !member(d));
        let case = case.ok_or_else(|| FileError::malformed(&forecast.path, "expected a dimension of cases"))?;
        let quantity = forecast.standard_name().unwrap_or_default();
        let observed =
            self.schema.own().find(|v| v.dimensions == [case.as_str()] && v.standard_name() == Some(quantity));
        let raw = self.numbers(forecast)?;
        let shape = (forecast.shape[0], forecast.shape[1]);
        let members = Array2::from_shape_vec(shape, raw).map_err(|e| FileError::malformed(&forecast.path, e))?;
        let members = if member(&forecast.dimensions[0]) {
            members.reversed_axes().as_standard_layout().into_owned()
        } else {
            members
        };
        let count = members.dim().0;
        let observed = match observed {
            Some(observed) if unit(observed) == unit(forecast) => self.numbers(observed)?,
            Some(observed) => {
                let units = (observed.units().unwrap_or_default(), forecast.units().unwrap_or_default());
                let reason = format!("expected the unit of the forecast, `{}`, got `{}`", units.1, units.0);
                return Err(FileError::malformed(&observed.path, reason));
            }
            None => vec![f32::NAN; count],
        };
        Ok(Some(Points {
            quantity: quantity.to_owned(),
            unit: forecast.units().unwrap_or_default().to_owned(),
            has_stations: self.stations(case).is_some(),
            cases: self.cases(case, count)?,
            members,
            observed,
        }))
    }

    /// The variable of cases that has one of these names.
    fn of_cases(&self, case: &str, names: &[&str]) -> Option<&VariableInfo> {
        let own = |v: &&VariableInfo| v.dimensions == [case];
        let named = |v: &&VariableInfo| names.iter().any(|n| v.name == *n || v.standard_name() == Some(n));
        self.schema.own().filter(own).find(named)
    }

    /// The numbers of the stations.
    fn stations(&self, case: &str) -> Option<&VariableInfo> {
        self.of_cases(case, &["station_id", "platform_id", "station"]).filter(|v| v.stored.is_some())
    }

    fn cases(&self, case: &str, count: usize) -> Result<Vec<Case>, FileError> {
        let of = |names: &[&str]| self.of_cases(case, names);
        let stations = self.stations(case).map(|v| self.exact(v)).transpose()?;
        let times = |info: Option<&VariableInfo>| info.map(|info| self.times(info)).transpose();
        let reference = times(of(&["reference_time", "forecast_reference_time"]))?;
        let valid = times(of(&["valid_time", "time"]))?;
        let leads = of(&["lead_hours", "forecast_period", "lead_time"]);
        let leads = leads.map(|info| self.exact(info).map(|values| (info, values))).transpose()?;
        let lead = |i: usize| match (&reference, &valid, &leads) {
            (Some(reference), Some(valid), _) => Some(valid[i].unix_seconds() - reference[i].unix_seconds()),
            (_, _, Some((info, values))) => {
                let hours = info.name == "lead_hours" || info.units().is_some_and(|u| u.starts_with('h'));
                Some((values[i] * if hours { 3600.0 } else { 1.0 }) as i64)
            }
            _ => None,
        };
        let row = |i: usize| {
            let lead = lead(i).ok_or_else(|| {
                FileError::malformed(case, "expected reference_time and valid_time, or lead_hours, of each case")
            })?;
            let station = stations.as_ref().map_or(i as i64, |ids| ids[i] as i64);
            let valid = valid.as_ref().map_or(ValidTime::from_unix_seconds(0), |valid| valid[i]);
            Ok(Case { station, valid, lead: LeadTime::from_seconds(lead) })
        };
        (0..count).map(row).collect()
    }

    fn times(&self, info: &VariableInfo) -> Result<Vec<ValidTime>, FileError> {
        let units = info.units().ok_or_else(|| FileError::malformed(&info.path, "expected units, found none"))?;
        let units = TimeUnits::parse(units, text(&info.attributes, "calendar"))?;
        self.exact(info)?.into_iter().map(|value| Ok(units.decode(value)?)).collect()
    }

    fn exact(&self, info: &VariableInfo) -> Result<Vec<f64>, FileError> {
        let limit = self.limits.max_cells as u64;
        let count = info.shape.iter().fold(1u64, |n, len| n.saturating_mul(*len as u64));
        if count > limit {
            return Err(FileError::TooLarge { what: "number of values", got: count, limit });
        }
        let variable = self.file.variable(&info.path).ok_or_else(|| FileError::malformed(&info.path, "it is gone"))?;
        let packing = info.packing(&mut Notes::default())?;
        let missing =
            |v: f64| packing.missing.iter().any(|m| m.value == v) || v < packing.valid.0 || v > packing.valid.1;
        let default_fill = |v: f64| packing.default_fill && v > 9e36;
        let values = variable.get_values::<f64, _>(..).map_err(|e| FileError::malformed(&info.path, e))?;
        let unpacked =
            |v: f64| if missing(v) || default_fill(v) { f64::NAN } else { v * packing.scale + packing.offset };
        Ok(values.into_iter().map(unpacked).collect())
    }

    fn numbers(&self, info: &VariableInfo) -> Result<Vec<f32>, FileError> {
        Ok(self.exact(info)?.into_iter().map(|v| v as f32).collect())
    }
}

fn unit(info: &VariableInfo) -> Option<ScaledUnit> {
    ScaledUnit::parse(info.units()?).ok()
}
