//! Which variables of a file give which variables of a frame.

use squall_fields::units::{Conversion, ScaledUnit, UnitError};
use squall_fields::{Unit, Variable};

use super::attributes::{number, numbers};
use super::schema::{Role, Schema, VariableInfo};
use crate::error::FileError;
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
const RATE_NAMES: [&str; 8] =
    ["rainfall_rate", "rain_rate", "rainrate", "precip_intensity", "precipitation_rate", "rr", "rate", "precipitation"];

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

/// `scale_factor`, `add_offset`, and what is missing, all in the packed domain (CF 8.1 and 2.5.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Factor of a packed value.
    pub scale: f64,
    /// Added after the factor.
    pub offset: f64,
    /// Packed values that mean missing.
    pub missing: Vec<f64>,
    /// Least and greatest packed value that is valid.
    pub valid: (f64, f64),
    /// The packed value that means *no echo* (ODIM's `undetect`), and what it becomes.
    pub no_echo: Option<(f64, f32)>,
}

impl Packing {
    pub(super) fn of(info: &VariableInfo) -> Self {
        let a = &info.attributes;
        let range = match numbers(a, "valid_range") {
            [low, high] => Some((*low, *high)),
            _ => None,
        };
        let missing = ["_FillValue", "missing_value"].iter().flat_map(|key| numbers(a, key)).copied();
        Self {
            scale: number(a, "scale_factor").unwrap_or(1.0),
            offset: number(a, "add_offset").unwrap_or(0.0),
            missing: missing.filter(|v| !v.is_nan()).collect(),
            valid: (
                range.map(|r| r.0).or(number(a, "valid_min")).unwrap_or(f64::NEG_INFINITY),
                range.map(|r| r.1).or(number(a, "valid_max")).unwrap_or(f64::INFINITY),
            ),
            no_echo: None,
        }
    }
}

/// The planes of the wanted variables.
///
/// # Errors
/// [`FileError::NoVariable`] names what the file has; [`FileError::Unit`] if a unit is unknown.
pub fn plan(schema: &Schema, options: &ReadOptions) -> Result<Vec<Plane>, FileError> {
    let gridded: Vec<&VariableInfo> = schema.variables.iter().filter(|v| is_gridded(schema, v)).collect();
    if !options.variables.is_empty() {
        return options.variables.iter().map(|variable| find(schema, &gridded, *variable, options)).collect();
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
        let direct: Option<Vec<Plane>> = variables.iter().map(|v| direct(&gridded, *v)).collect();
        if let Some(planes) = direct {
            return Ok(planes);
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

/// The plane of a variable: the quantity itself, or another that it can be computed from.
fn find(
    schema: &Schema,
    gridded: &[&VariableInfo],
    variable: Variable,
    options: &ReadOptions,
) -> Result<Plane, FileError> {
    use Variable::{PrecipitationAmount, RainRate, Reflectivity};
    let others: &[Variable] = match variable {
        RainRate => &[Reflectivity, PrecipitationAmount],
        Reflectivity => &[RainRate],
        PrecipitationAmount => &[RainRate],
        _ => &[],
    };
    let source = std::iter::once(&variable).chain(others).find_map(|source| direct(gridded, *source));
    let plane = source.ok_or_else(|| no_variable(schema, variable.name()))?;
    let plane = Plane { variable, ..plane };
    match Conversion::new(plane.unit, variable, &options.conversion(None)) {
        // Whether the interval is known is seen when the times are read.
        Ok(_) | Err(UnitError::IntervalUnknown { .. }) => Ok(plane),
        Err(source) => Err(FileError::Unit { variable: plane.source.name, source }),
    }
}

/// The plane of a variable that the file has as such: by standard name, or else by unit and name.
fn direct(gridded: &[&VariableInfo], variable: Variable) -> Option<Plane> {
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
                rate && standard.map_or_else(|| RATE_NAMES.contains(&name.as_str()), |s| RATES.contains(&s))
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
    Some(Plane { variable, unit: unit_of(info)?, packing: Packing::of(info), source: (*info).clone() })
}

/// By standard name where there is one, otherwise by name.
fn named(standard: Option<&str>, name: &str, wanted: &str, names: &[&str]) -> bool {
    standard.map_or_else(|| names.contains(&name) || name == wanted, |standard| standard == wanted)
}
