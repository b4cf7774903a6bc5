//! What is in a CF-NetCDF file: axes, times, and variables by their meaning.

use ::netcdf::{File, Variable as NcVariable};
use squall_fields::crs::CfAttributes;
use squall_fields::time_units::TimeUnits;
use squall_fields::{Axis, Grid, ValidTime};

use super::attributes::{self, number, text};
use crate::error::FileError;
use crate::options::{Limits, ReadOptions};

/// A variable: its name, its dimensions and its attributes.
#[derive(Clone, Debug)]
pub struct VariableInfo {
    /// Name in the file.
    pub name: String,
    /// Names of its dimensions.
    pub dimensions: Vec<String>,
    /// Lengths of its dimensions.
    pub shape: Vec<usize>,
    /// Its attributes.
    pub attributes: CfAttributes,
}

impl VariableInfo {
    fn of(variable: &NcVariable<'_>) -> Self {
        Self {
            name: variable.name(),
            dimensions: variable.dimensions().iter().map(::netcdf::Dimension::name).collect(),
            shape: variable.dimensions().iter().map(::netcdf::Dimension::len).collect(),
            attributes: attributes::collect(variable.attributes()),
        }
    }

    /// The CF standard name, without a modifier.
    pub fn standard_name(&self) -> Option<&str> {
        text(&self.attributes, "standard_name")?.split_whitespace().next()
    }

    /// The unit as text.
    pub fn units(&self) -> Option<&str> {
        text(&self.attributes, "units")
    }
}

/// What a dimension counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    X,
    Y,
    Time,
    Other,
}

/// Everything but the dense values.
#[derive(Clone, Debug)]
pub struct Schema {
    /// All variables of the root group.
    pub variables: Vec<VariableInfo>,
    /// Attributes of the file.
    pub attributes: CfAttributes,
}

impl Schema {
    /// Looks at all variables of a file.
    pub fn of(file: &File) -> Self {
        Self {
            variables: file.variables().map(|variable| VariableInfo::of(&variable)).collect(),
            attributes: attributes::collect(file.attributes()),
        }
    }

    /// A variable by name.
    pub fn variable(&self, name: &str) -> Option<&VariableInfo> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    /// Names, standard names and units of all variables, for a message.
    pub fn summary(&self) -> String {
        let describe = |v: &VariableInfo| {
            format!("{} ({}, `{}`)", v.name, v.standard_name().unwrap_or("no standard name"), v.units().unwrap_or(""))
        };
        let mut all: Vec<String> = self.variables.iter().take(12).map(describe).collect();
        if self.variables.len() > 12 {
            all.push(format!("and {} more", self.variables.len() - 12));
        }
        if all.is_empty() { "no variable".to_owned() } else { all.join(", ") }
    }

    /// What a dimension counts, by its coordinate variable or else by its name.
    pub(super) fn role(&self, dimension: &str) -> Role {
        if let Some(coordinate) = self.variable(dimension).filter(|v| v.dimensions == [dimension]) {
            let axis = text(&coordinate.attributes, "axis").unwrap_or_default();
            let units = coordinate.units().unwrap_or_default();
            match (coordinate.standard_name().unwrap_or_default(), axis, units) {
                (
                    "projection_x_coordinate" | "longitude" | "grid_longitude" | "projection_x_angular_coordinate",
                    ..,
                )
                | (_, "X", _)
                | (_, _, "degrees_east" | "degree_east") => return Role::X,
                ("projection_y_coordinate" | "latitude" | "grid_latitude" | "projection_y_angular_coordinate", ..)
                | (_, "Y", _)
                | (_, _, "degrees_north" | "degree_north") => return Role::Y,
                ("time", ..) | (_, "T", _) => return Role::Time,
                (_, _, units) if units.contains(" since ") => return Role::Time,
                _ => {}
            }
        }
        match dimension.to_ascii_lowercase().as_str() {
            "x" | "lon" | "longitude" | "xc" | "easting" | "rlon" => Role::X,
            "y" | "lat" | "latitude" | "yc" | "northing" | "rlat" => Role::Y,
            "time" | "t" => Role::Time,
            _ => Role::Other,
        }
    }

    /// The scalar or one-dimensional time coordinate of a variable.
    fn time_variable(&self, of: &VariableInfo) -> Option<&VariableInfo> {
        let by_dimension = of.dimensions.iter().find(|d| self.role(d) == Role::Time).and_then(|d| self.variable(d));
        let scalar = |v: &&VariableInfo| {
            v.shape.iter().product::<usize>() == 1 && v.standard_name().unwrap_or(v.name.as_str()) == "time"
        };
        by_dimension.or_else(|| self.variables.iter().find(scalar))
    }
}

/// The grid of a variable, and how the file orders it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    pub(super) grid: Grid,
    /// Whether rows of the file run south to north.
    pub(super) flip_rows: bool,
    /// Whether columns of the file run east to west.
    pub(super) flip_columns: bool,
}

/// The grid of a variable.
pub(super) fn placement(
    file: &File,
    schema: &Schema,
    variable: &VariableInfo,
    options: &ReadOptions,
) -> Result<Placement, FileError> {
    let find = |role| variable.dimensions.iter().find(|d| schema.role(d) == role);
    let missing = |axis: &str| {
        let reason = format!("expected an {axis} axis among its dimensions {:?}", variable.dimensions);
        FileError::malformed(&variable.name, reason)
    };
    let (x_name, y_name) = (find(Role::X).ok_or_else(|| missing("x"))?, find(Role::Y).ok_or_else(|| missing("y"))?);
    let (x, x_degrees) = axis(file, schema, x_name, &options.limits)?;
    let (y, y_degrees) = axis(file, schema, y_name, &options.limits)?;
    let cells = (x.len as u64).saturating_mul(y.len as u64);
    if cells > options.limits.max_cells as u64 {
        return Err(FileError::TooLarge {
            what: "number of cells",
            got: cells,
            limit: options.limits.max_cells as u64,
        });
    }
    let (proj, wkt) = reference_system(schema, variable, x_degrees && y_degrees, options)?;
    let (flip_rows, flip_columns) = (y.step > 0.0, x.step < 0.0);
    let grid =
        Grid { proj, wkt, x: if flip_columns { x.reversed() } else { x }, y: if flip_rows { y.reversed() } else { y } };
    Ok(Placement { grid, flip_rows, flip_columns })
}

/// An axis in metres or degrees, and whether it is a true longitude or latitude.
fn axis(file: &File, schema: &Schema, name: &str, limits: &Limits) -> Result<(Axis, bool), FileError> {
    let info = schema.variable(name).ok_or_else(|| FileError::malformed(name, "the dimension has no coordinates"))?;
    let mut values = read_numbers(file, info, limits.max_cells)?;
    let units = info.units().unwrap_or_default();
    let standard_name = info.standard_name().unwrap_or_default();
    let degrees = units.starts_with("degree");
    if degrees {
        // A longitude that passes 180 goes on instead of jumping.
        for i in 1..values.len() {
            if (values[i] - values[i - 1]).abs() > 180.0 {
                values[i] += if values[i] < values[i - 1] { 360.0 } else { -360.0 };
            }
        }
    } else if matches!(units, "km" | "kilometer" | "kilometre" | "kilometers" | "kilometres") {
        values.iter_mut().for_each(|v| *v *= 1000.0);
    }
    let axis = Axis::from_coordinates(&values)
        .ok_or_else(|| FileError::malformed(name, "expected at least two evenly spaced coordinates"))?;
    Ok((axis, degrees && !standard_name.starts_with("grid_")))
}

/// All values of a coordinate variable.
pub(super) fn read_numbers(file: &File, info: &VariableInfo, limit: usize) -> Result<Vec<f64>, FileError> {
    let count = info.shape.iter().fold(1u64, |n, len| n.saturating_mul(*len as u64));
    if count > limit as u64 {
        return Err(FileError::TooLarge { what: "number of coordinates", got: count, limit: limit as u64 });
    }
    let variable = file.variable(&info.name).ok_or_else(|| FileError::malformed(&info.name, "it is gone"))?;
    let mut values = variable.get_values::<f64, _>(..).map_err(|e| FileError::malformed(&info.name, e))?;
    let (scale, offset) = (number(&info.attributes, "scale_factor"), number(&info.attributes, "add_offset"));
    if scale.is_some() || offset.is_some() {
        values.iter_mut().for_each(|v| *v = *v * scale.unwrap_or(1.0) + offset.unwrap_or(0.0));
    }
    Ok(values)
}

fn reference_system(
    schema: &Schema,
    variable: &VariableInfo,
    degrees: bool,
    options: &ReadOptions,
) -> Result<(String, Option<String>), FileError> {
    // The extended form of the attribute is `crs: x y`.
    let named = text(&variable.attributes, "grid_mapping").and_then(|t| t.split_whitespace().next());
    let named = named.map(|name| name.trim_end_matches(':'));
    let mapping = named.and_then(|name| schema.variable(name)).or_else(|| {
        schema
            .variables
            .iter()
            .find(|v| v.attributes.contains_key("grid_mapping_name") || v.attributes.contains_key("crs_wkt"))
    });
    match (mapping, &options.crs) {
        (Some(mapping), fallback) => match (Grid::crs_from_cf(&mapping.attributes), fallback) {
            (Ok(found), _) => Ok(found),
            (Err(_), _) if degrees => Ok(("EPSG:4326".to_owned(), None)),
            (Err(_), Some(crs)) => Ok((crs.clone(), None)),
            (Err(error), None) => Err(error.into()),
        },
        (None, _) if degrees => Ok(("EPSG:4326".to_owned(), None)),
        (None, Some(crs)) => Ok((crs.clone(), None)),
        // Model output without a grid mapping: usable as a plane, not to be placed on the Earth.
        (None, None) => Ok((String::new(), None)),
    }
}

/// The slots of a variable, and how long each lasts if the file says so (time bounds).
pub(super) fn slots(
    file: &File,
    schema: &Schema,
    variable: &VariableInfo,
    limits: &Limits,
) -> Result<(Vec<ValidTime>, Vec<f64>), FileError> {
    let Some(time) = schema.time_variable(variable) else {
        return Err(FileError::malformed(&variable.name, "expected a time coordinate, found none"));
    };
    let units = TimeUnits::parse(time.units().unwrap_or_default(), text(&time.attributes, "calendar"))?;
    let slots = read_numbers(file, time, limits.max_fields)?.into_iter().map(|value| units.decode(value));
    let slots = slots.collect::<Result<Vec<_>, _>>()?;
    let bounds = text(&time.attributes, "bounds").and_then(|name| schema.variable(name));
    let mut lengths = Vec::new();
    if let Some(bounds) = bounds.filter(|b| b.shape.iter().product::<usize>() == 2 * slots.len()) {
        for pair in read_numbers(file, bounds, 2 * limits.max_fields)?.chunks_exact(2) {
            lengths.push((units.decode(pair[1])?.unix_seconds() - units.decode(pair[0])?.unix_seconds()) as f64);
        }
    }
    Ok((slots, lengths))
}
