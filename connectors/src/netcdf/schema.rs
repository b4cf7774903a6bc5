//! What is in a CF-NetCDF file: groups, and their variables by their meaning.

use std::sync::Arc;

use ::netcdf::types::{FloatType, IntType, NcVariableType};
use ::netcdf::{File, Group, Variable as NcVariable};

pub use super::attributes::Attributes;
use super::attributes::{self, text};
use crate::error::FileError;
use crate::gridded::{Notes, NumberType, Packing};

/// Groups at which a file is given up.
const MAX_GROUPS: usize = 256;
/// Depth of groups at which a file is given up.
const MAX_DEPTH: usize = 8;

/// A variable: its name, its dimensions and its attributes.
#[derive(Clone, Debug)]
pub struct VariableInfo {
    /// Name in its group.
    pub name: String,
    /// Name with the groups around it: `Grid/precipitation`.
    pub path: String,
    /// Names of its dimensions.
    pub dimensions: Vec<String>,
    /// Lengths of its dimensions.
    pub shape: Vec<usize>,
    /// Its attributes.
    pub attributes: Attributes,
    /// The type of its numbers, if it has numbers.
    pub stored: Option<NumberType>,
}

impl VariableInfo {
    fn of(variable: &NcVariable<'_>, group: &str) -> Self {
        let name = variable.name();
        Self {
            path: join(group, &name),
            name,
            dimensions: variable.dimensions().iter().map(::netcdf::Dimension::name).collect(),
            shape: variable.dimensions().iter().map(::netcdf::Dimension::len).collect(),
            attributes: attributes::collect(variable.attributes()),
            stored: number_type(&variable.vartype()),
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

    /// How its numbers are to be understood.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it has no numbers, or an attribute cannot be understood.
    pub fn packing(&self, notes: &mut Notes) -> Result<Packing, FileError> {
        let stored = self.stored.ok_or_else(|| FileError::malformed(&self.path, "expected numbers"))?;
        Packing::of_cf(&self.path, stored, |key| self.attributes.get(key), notes)
    }
}

fn number_type(kind: &NcVariableType) -> Option<NumberType> {
    Some(match kind {
        NcVariableType::Int(IntType::I8) => NumberType::I8,
        NcVariableType::Int(IntType::U8) => NumberType::U8,
        NcVariableType::Int(IntType::I16) => NumberType::I16,
        NcVariableType::Int(IntType::U16) => NumberType::U16,
        NcVariableType::Int(IntType::I32) => NumberType::I32,
        NcVariableType::Int(IntType::U32) => NumberType::U32,
        NcVariableType::Int(IntType::I64) => NumberType::I64,
        NcVariableType::Int(IntType::U64) => NumberType::U64,
        NcVariableType::Float(FloatType::F32) => NumberType::F32,
        NcVariableType::Float(FloatType::F64) => NumberType::F64,
        _ => return None,
    })
}

fn join(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{group}/{name}") }
}

/// What a dimension counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    X,
    Y,
    Time,
    /// Members of an ensemble: `realization` in CF.
    Member,
    Other,
}

/// Everything but the dense values, as it is seen from one group (CF 2.7): its own variables, then those of the groups
/// around it.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Path of the group; empty for the root.
    pub group: String,
    /// What can be named from the group, the nearest first.
    pub variables: Vec<Arc<VariableInfo>>,
    /// Variables of other groups, which are found by their path, coordinates by their name too.
    elsewhere: Vec<Arc<VariableInfo>>,
    /// Attributes of the file.
    pub attributes: Attributes,
}

/// A group and its variables.
struct Level {
    path: String,
    variables: Vec<Arc<VariableInfo>>,
}

impl Level {
    /// A group and the groups in it.
    fn walk(group: &Group<'_>, outer: &str, depth: usize, levels: &mut Vec<Self>) -> Result<(), FileError> {
        if levels.len() >= MAX_GROUPS || depth > MAX_DEPTH {
            return Err(FileError::TooLarge {
                what: "number of groups",
                got: levels.len() as u64,
                limit: MAX_GROUPS as u64,
            });
        }
        let path = join(outer, &group.name());
        levels.push(Self { variables: infos(group.variables(), &path), path: path.clone() });
        group.groups().try_for_each(|inner| Self::walk(&inner, &path, depth + 1, levels))
    }
}

impl Schema {
    /// The root group of a file.
    pub fn of(file: &File) -> Self {
        let level = Level { path: String::new(), variables: infos(file.variables(), "") };
        Self::seen_from(&level, &[], attributes::collect(file.attributes()))
    }

    /// Every group of a file, the root first, then by depth.
    ///
    /// # Errors
    /// [`FileError::TooLarge`].
    pub fn of_groups(file: &File) -> Result<Vec<Self>, FileError> {
        let mut levels = vec![Level { path: String::new(), variables: infos(file.variables(), "") }];
        // A classic file has no groups, and says so by an error.
        if let Ok(groups) = file.groups() {
            groups.into_iter().try_for_each(|group| Level::walk(&group, "", 1, &mut levels))?;
        }
        levels.sort_by_key(|level| (!level.path.is_empty(), level.path.matches('/').count()));
        let attributes = attributes::collect(file.attributes());
        Ok(levels.iter().map(|level| Self::seen_from(level, &levels, attributes.clone())).collect())
    }

    fn seen_from(level: &Level, levels: &[Level], attributes: Attributes) -> Self {
        let is_around = |other: &&Level| {
            let rest = level.path.strip_prefix(&other.path);
            rest.is_some_and(|rest| !rest.is_empty() && (other.path.is_empty() || rest.starts_with('/')))
        };
        let mut around: Vec<&Level> = levels.iter().filter(is_around).collect();
        around.sort_by_key(|other| std::cmp::Reverse(other.path.len()));
        let outer = around.iter().flat_map(|other| &other.variables);
        let variables: Vec<_> = level.variables.iter().chain(outer).cloned().collect();
        let others = levels.iter().filter(|other| other.path != level.path && !is_around(other));
        let elsewhere = others.flat_map(|other| &other.variables).cloned().collect();
        Self { group: level.path.clone(), variables, elsewhere, attributes }
    }

    /// The group's own variables.
    pub fn own(&self) -> impl Iterator<Item = &VariableInfo> {
        self.variables.iter().map(Arc::as_ref).filter(|variable| join(&self.group, &variable.name) == variable.path)
    }

    /// A variable by name or by path, absolute or from the group.
    pub fn variable(&self, name: &str) -> Option<&VariableInfo> {
        let mut all = self.variables.iter().chain(&self.elsewhere).map(Arc::as_ref);
        if name.contains('/') {
            let path = name.strip_prefix('/').map_or_else(|| join(&self.group, name), str::to_owned);
            return all.find(|variable| variable.path == path);
        }
        let near = self.variables.iter().map(Arc::as_ref).find(|variable| variable.name == name);
        near.or_else(|| all.find(|variable| variable.name == name && variable.dimensions == [name]))
    }

    /// Names, standard names and units of all variables, for a message.
    pub fn summary(&self) -> String {
        let describe = |v: &VariableInfo| {
            format!("{} ({}, `{}`)", v.path, v.standard_name().unwrap_or("no standard name"), v.units().unwrap_or(""))
        };
        let every = || self.variables.iter().chain(&self.elsewhere);
        let mut all: Vec<String> = every().take(12).map(|variable| describe(variable)).collect();
        if every().count() > 12 {
            all.push(format!("and {} more", every().count() - 12));
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
                ("realization", ..) => return Role::Member,
                (_, _, units) if units.to_ascii_lowercase().contains(" since ") => return Role::Time,
                _ => {}
            }
        }
        match dimension.to_ascii_lowercase().as_str() {
            "x" | "lon" | "longitude" | "xc" | "easting" | "rlon" => Role::X,
            "y" | "lat" | "latitude" | "yc" | "northing" | "rlat" => Role::Y,
            "time" | "t" => Role::Time,
            "realization" | "ens_number" | "member" | "number" => Role::Member,
            _ => Role::Other,
        }
    }

    /// The scalar or one-dimensional time coordinate of a variable.
    pub(super) fn time_variable(&self, of: &VariableInfo) -> Option<&VariableInfo> {
        let by_dimension = of.dimensions.iter().find(|d| self.role(d) == Role::Time).and_then(|d| self.variable(d));
        let scalar = |v: &&VariableInfo| {
            v.shape.iter().product::<usize>() == 1 && v.standard_name().unwrap_or(v.name.as_str()) == "time"
        };
        by_dimension.or_else(|| self.variables.iter().map(Arc::as_ref).find(scalar))
    }
}

fn infos<'f>(variables: impl Iterator<Item = NcVariable<'f>>, group: &str) -> Vec<Arc<VariableInfo>> {
    variables.map(|variable| Arc::new(VariableInfo::of(&variable, group))).collect()
}
