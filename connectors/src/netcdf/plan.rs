//! Which variables of a file give which variables of a frame.

use squall_fields::units::{Conversion, ScaledUnit, UnitError};
use squall_fields::{Unit, Variable};

use super::attributes::text;
use super::schema::{Role, Schema, VariableInfo};
use crate::error::FileError;
use crate::gridded::{Interval, Notes, Packing};
use crate::options::ReadOptions;

const RATES: [&str; 5] =
    ["lwe_precipitation_rate", "rainfall_rate", "rainfall_flux", "precipitation_flux", "lwe_rainfall_rate"];
const AMOUNTS: [&str; 4] = [
    "precipitation_amount",
    "rainfall_amount",
    "lwe_thickness_of_precipitation_amount",
    "thickness_of_rainfall_amount",
];
/// Names of variables of files that know no standard names.
const RATE_NAMES: [&str; 11] = [
    "rainfall_rate",
    "rain_rate",
    "rainrate",
    "precip_intensity",
    "precipitation_rate",
    "rr",
    "rate",
    "precipitation",
    "precipitationcal",
    "rrqpe",
    "rain",
];

/// One plane of a frame: where it is read and what is done to it.
#[derive(Clone, Debug)]
pub struct Plane {
    /// What it becomes.
    pub variable: Variable,
    /// Where it is read.
    pub source: VariableInfo,
    /// From the source's unit.
    pub unit: ScaledUnit,
    /// How integers are unpacked and which values are missing.
    pub packing: Packing,
}

impl Plane {
    /// Whether it is read from an amount that was gathered over an interval.
    pub(super) fn is_amount(&self) -> bool {
        self.unit.unit == Unit::KilogramsPerSquareMetre
    }
}

/// The planes of the wanted variables.
///
/// # Errors
/// [`FileError::NoVariable`] names what the file has; [`FileError::Unit`] if a unit is unknown;
/// [`FileError::Malformed`] if the packing of a variable cannot be understood.
pub fn plan(schema: &Schema, options: &ReadOptions, notes: &mut Notes) -> Result<Vec<Plane>, FileError> {
    let mut gridded: Vec<&VariableInfo> = schema.own().filter(|v| is_gridded(schema, v)).collect();
    // Products of a forecast have the standard name of the members that they were made of.
    gridded.sort_by_key(|info| !is_plain(schema, info));
    let mut plane = |(source, unit): (&VariableInfo, ScaledUnit), variable: Variable| {
        Ok(Plane { variable, unit, packing: source.packing(notes)?, source: source.clone() })
    };
    if !options.variables.is_empty() {
        let found = options.variables.iter().map(|variable| {
            let found = find(schema, &gridded, *variable, options)?;
            plane(found, *variable)
        });
        return found.collect();
    }
    use Variable::{EastwardWind, NorthwardWind, PrecipitationAmount, RainRate, Reflectivity, WindSpeed, XWind, YWind};
    let choices: [&[Variable]; 6] = [
        &[RainRate],
        &[EastwardWind, NorthwardWind],
        &[XWind, YWind],
        &[WindSpeed],
        &[Reflectivity],
        &[PrecipitationAmount],
    ];
    for variables in choices {
        let direct: Option<Vec<_>> = variables.iter().map(|v| direct(&gridded, *v)).collect();
        if let Some(found) = direct {
            return found.into_iter().zip(variables).map(|(found, variable)| plane(found, *variable)).collect();
        }
    }
    Err(no_variable(schema, "a rain rate, a wind, a reflectivity or an amount"))
}

fn no_variable(schema: &Schema, wanted: &str) -> FileError {
    FileError::NoVariable { wanted: wanted.to_owned(), found: schema.summary() }
}

fn is_gridded(schema: &Schema, info: &VariableInfo) -> bool {
    let has = |role| info.dimensions.iter().filter(|d| schema.role(d) == role).count() == 1;
    has(Role::X) && has(Role::Y)
}

/// Whether it is fields of a time and of members, without levels and not derived from the members.
fn is_plain(schema: &Schema, info: &VariableInfo) -> bool {
    let of_members = text(&info.attributes, "cell_methods").is_some_and(|methods| methods.contains("realization:"));
    let levels = info.dimensions.iter().zip(&info.shape).filter(|(d, len)| schema.role(d) == Role::Other && **len > 1);
    !of_members && levels.count() == 0
}

/// The plane of the quality index (`quality_index`, 0 to 1) that lies as another does, if the file has one; one that
/// cannot be understood costs the quality, not the frame.
pub(super) fn quality(schema: &Schema, first: &Plane, notes: &mut Notes) -> Option<Plane> {
    let info = schema.variable("quality_index")?;
    if (&info.dimensions, &info.shape) != (&first.source.dimensions, &first.source.shape) {
        let reason = format!("expected the dimensions of {}: {:?}", first.source.path, first.source.dimensions);
        notes.add("skipped", format!("{}: {reason}", info.path));
        return None;
    }
    match info.packing(notes) {
        Ok(packing) => Some(Plane { source: info.clone(), packing, ..first.clone() }),
        Err(error) => {
            notes.add("skipped", format!("{}: {error}", info.path));
            None
        }
    }
}

/// Where a variable is read, and in which unit: the quantity itself, or another that it can be computed from.
fn find<'a>(
    schema: &Schema,
    gridded: &[&'a VariableInfo],
    variable: Variable,
    options: &ReadOptions,
) -> Result<(&'a VariableInfo, ScaledUnit), FileError> {
    use Variable::{PrecipitationAmount, RainRate, Reflectivity};
    let others: &[Variable] = match variable {
        RainRate => &[Reflectivity, PrecipitationAmount],
        Reflectivity => &[RainRate],
        PrecipitationAmount => &[RainRate],
        _ => &[],
    };
    let source = std::iter::once(&variable).chain(others).find_map(|source| direct(gridded, *source));
    let (info, unit) = source.ok_or_else(|| no_variable(schema, variable.name()))?;
    match Conversion::new(unit, variable, &options.conversion(&Interval::Unknown)) {
        // Whether the interval is known is seen when the times are read.
        Ok(_) | Err(UnitError::IntervalUnknown { .. }) => Ok((info, unit)),
        Err(source) => Err(FileError::Unit { variable: info.path.clone(), source }),
    }
}

/// A variable that the file has as such: by standard name, or else by unit and name.
fn direct<'a>(gridded: &[&'a VariableInfo], variable: Variable) -> Option<(&'a VariableInfo, ScaledUnit)> {
    let unit_of = |info: &VariableInfo| ScaledUnit::parse(info.units()?).ok();
    let fits = |info: &VariableInfo| {
        let name = info.name.to_ascii_lowercase();
        let (standard, unit) = (info.standard_name(), unit_of(info)?.unit);
        let speed = matches!(unit, Unit::MetresPerSecond | Unit::Knots);
        let fits = match variable {
            Variable::RainRate => {
                let rate = matches!(
                    unit,
                    Unit::MillimetresPerHour | Unit::KilogramsPerSquareMetreSecond | Unit::MetresPerSecond
                );
                // An amount per so many minutes is a rate, whatever its name is.
                let by_standard = |s: &str| RATES.contains(&s) || AMOUNTS.contains(&s);
                rate && standard.map_or_else(|| RATE_NAMES.contains(&name.as_str()), by_standard)
            }
            Variable::Reflectivity => unit == Unit::DecibelZ,
            Variable::PrecipitationAmount => {
                unit == Unit::KilogramsPerSquareMetre && standard.is_none_or(|s| AMOUNTS.contains(&s))
            }
            Variable::EastwardWind => speed && named(standard, &name, "eastward_wind", &["u10", "u"]),
            Variable::NorthwardWind => speed && named(standard, &name, "northward_wind", &["v10", "v"]),
            Variable::XWind => speed && named(standard, &name, "x_wind", &[]),
            Variable::YWind => speed && named(standard, &name, "y_wind", &[]),
            Variable::WindSpeed => speed && named(standard, &name, "wind_speed", &["ff", "ff10"]),
        };
        fits.then_some(())
    };
    let info = gridded.iter().find(|info| fits(info).is_some())?;
    Some((info, unit_of(info)?))
}

/// By standard name where there is one, otherwise by name.
fn named(standard: Option<&str>, name: &str, wanted: &str, names: &[&str]) -> bool {
    standard.map_or_else(|| names.contains(&name) || name == wanted, |standard| standard == wanted)
}
