//! Where a variable lies: its axes and its reference system.

use ::netcdf::File;
use squall_fields::crs::{Plane, PlaneUnit, cf};
use squall_fields::{Axis, Grid};

use super::attributes::{for_crs, text};
use super::schema::{Role, Schema, VariableInfo};
use crate::error::FileError;
use crate::gridded::Notes;
use crate::gridded::axes::{AxisUnit, scaling};
use crate::options::{Limits, ReadOptions};

/// The grid of a variable, and how the file orders it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    pub(super) grid: Grid,
    /// Whether rows of the file run south to north.
    pub(super) flip_rows: bool,
    /// Whether columns of the file run east to west.
    pub(super) flip_columns: bool,
    /// What was assumed.
    pub(super) notes: Notes,
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
        FileError::malformed(&variable.path, reason)
    };
    let (x_name, y_name) = (find(Role::X).ok_or_else(|| missing("x"))?, find(Role::Y).ok_or_else(|| missing("y"))?);
    let x = Coordinate::read(file, schema, x_name, &options.limits)?;
    let y = Coordinate::read(file, schema, y_name, &options.limits)?;
    let (cells, limit) =
        ((x.values.len() as u64).saturating_mul(y.values.len() as u64), options.limits.max_cells as u64);
    if cells > limit {
        return Err(FileError::TooLarge { what: "number of cells", got: cells, limit });
    }
    let mut notes = Notes::default();
    let system = reference_system(schema, variable, (&x, &y), options, &mut notes)?;
    let (x, y) = (x.axis(system.as_ref(), &mut notes)?, y.axis(system.as_ref(), &mut notes)?);
    let (flip_rows, flip_columns) = (y.step > 0.0, x.step < 0.0);
    let (proj, wkt) = system.map_or((String::new(), None), |system| (system.plane.proj, system.wkt));
    let grid =
        Grid { proj, wkt, x: if flip_columns { x.reversed() } else { x }, y: if flip_rows { y.reversed() } else { y } };
    Ok(Placement { grid, flip_rows, flip_columns, notes })
}

/// An axis as the file has it.
struct Coordinate {
    name: String,
    values: Vec<f64>,
    unit: AxisUnit,
    units: String,
    /// Whether it is a longitude or a latitude, as far as its unit tells.
    is_place: bool,
    /// Whether it says so itself.
    is_surely_place: bool,
}

impl Coordinate {
    fn read(file: &File, schema: &Schema, name: &str, limits: &Limits) -> Result<Self, FileError> {
        let info =
            schema.variable(name).ok_or_else(|| FileError::malformed(name, "the dimension has no coordinates"))?;
        let values = read_numbers(file, info, limits.max_cells)?;
        let units = info.units().unwrap_or_default().to_owned();
        let (unit, standard_name) = (AxisUnit::parse(Some(&units)), info.standard_name().unwrap_or_default());
        let by_name = matches!(standard_name, "longitude" | "latitude");
        let is_angle = matches!(unit, AxisUnit::Radians(_));
        let other = standard_name.starts_with("grid_") || standard_name.starts_with("projection_");
        let lower = units.to_ascii_lowercase();
        let by_unit = is_angle && ["north", "east", "_n", "_e"].iter().any(|end| lower.ends_with(end));
        Ok(Self {
            name: info.path.clone(),
            values,
            unit,
            units,
            is_place: by_name || (is_angle && !other),
            is_surely_place: by_name || (by_unit && !other),
        })
    }

    /// The axis in metres or degrees.
    fn axis(self, system: Option<&System>, notes: &mut Notes) -> Result<Axis, FileError> {
        let wrong = |reason: String| FileError::malformed(&self.name, reason);
        let mut values = self.values;
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let plane = system.map(|system| (system.plane.proj.as_str(), system.plane.unit));
        let scaling = scaling(self.unit, &self.units, plane, largest).map_err(wrong)?;
        if scaling.factor != 1.0 {
            values.iter_mut().for_each(|value| *value *= scaling.factor);
        }
        let in_degrees = match plane {
            Some((_, unit)) => unit == PlaneUnit::Degrees,
            None => matches!(self.unit, AxisUnit::Radians(_)),
        };
        if in_degrees {
            // A longitude that passes 180 goes on instead of jumping.
            for i in 1..values.len() {
                if (values[i] - values[i - 1]).abs() > 180.0 {
                    values[i] += if values[i] < values[i - 1] { 360.0 } else { -360.0 };
                }
            }
        }
        notes.add("axes", format!("{} in {}", self.name, scaling.said));
        Axis::from_coordinates(&values)
            .ok_or_else(|| wrong("expected at least two evenly spaced coordinates".to_owned()))
    }
}

/// All values of a coordinate variable, unpacked.
pub(super) fn read_numbers(file: &File, info: &VariableInfo, limit: usize) -> Result<Vec<f64>, FileError> {
    let count = info.shape.iter().fold(1u64, |n, len| n.saturating_mul(*len as u64));
    if count > limit as u64 {
        return Err(FileError::TooLarge { what: "number of coordinates", got: count, limit: limit as u64 });
    }
    let variable = file.variable(&info.path).ok_or_else(|| FileError::malformed(&info.path, "it is gone"))?;
    let mut values = variable.get_values::<f64, _>(..).map_err(|e| FileError::malformed(&info.path, e))?;
    let packing = info.packing(&mut Notes::default())?;
    if info.stored != Some(packing.stored) {
        values.iter_mut().for_each(|v| *v = packing.stored.with_bits_of(*v));
    }
    if (packing.scale, packing.offset) != (1.0, 0.0) {
        values.iter_mut().for_each(|v| *v = *v * packing.scale + packing.offset);
    }
    Ok(values)
}

/// A reference system that was found.
struct System {
    plane: Plane,
    wkt: Option<String>,
}

impl System {
    fn geographic() -> Self {
        Self { plane: Plane { proj: "EPSG:4326".to_owned(), unit: PlaneUnit::Degrees }, wkt: None }
    }
}

/// The reference system of a variable; `None` for model output without one, which is usable as a plane and not to be
/// placed on the Earth.
fn reference_system(
    schema: &Schema,
    variable: &VariableInfo,
    (x, y): (&Coordinate, &Coordinate),
    options: &ReadOptions,
    notes: &mut Notes,
) -> Result<Option<System>, FileError> {
    // The extended form of the attribute is `crs: x y`.
    let named = text(&variable.attributes, "grid_mapping").and_then(|t| t.split_whitespace().next());
    let named = named.map(|name| name.trim_end_matches(':'));
    let is_mapping =
        |v: &&VariableInfo| ["grid_mapping_name", "crs_wkt"].iter().any(|key| v.attributes.contains_key(*key));
    let mapping = named
        .and_then(|name| schema.variable(name))
        .or_else(|| schema.variables.iter().map(AsRef::as_ref).find(is_mapping));
    let axis_metres = if let AxisUnit::Metres(metres) = x.unit { metres } else { 1.0 };
    let found = mapping.map(|mapping| (mapping, cf::read_grid_mapping(&for_crs(&mapping.attributes), axis_metres)));
    let (by_axes, by_axes_surely) = (x.is_place && y.is_place, x.is_surely_place && y.is_surely_place);
    match found {
        Some((mapping, Ok(found))) => {
            if by_axes_surely && found.unit != PlaneUnit::Degrees {
                let reason = "is of a plane, the axes are longitude and latitude: they are taken as these";
                notes.add("crs", format!("the grid mapping {} {reason}", mapping.path));
                return Ok(Some(System::geographic()));
            }
            notes.add("crs", format!("by {} of {}", found.source, mapping.path));
            Ok(Some(System { plane: Plane { proj: found.proj, unit: found.unit }, wkt: found.well_known }))
        }
        Some((mapping, Err(error))) if by_axes => {
            notes.add("crs", format!("by the axes, longitude and latitude; {} cannot be read: {error}", mapping.path));
            Ok(Some(System::geographic()))
        }
        Some((_, Err(error))) if options.crs.is_none() => Err(error.into()),
        None if by_axes => {
            notes.add("crs", "by the axes, longitude and latitude");
            Ok(Some(System::geographic()))
        }
        _ => match &options.crs {
            Some(crs) => {
                notes.add("crs", "by the configuration: the file has none that can be read");
                Ok(Some(System { plane: Plane::parse(crs)?, wkt: None }))
            }
            None => {
                notes.add("crs", "none: a plane that has no place on the Earth");
                Ok(None)
            }
        },
    }
}
