//! Which stations a file has, and where they stand.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::netcdf::File;
use ::netcdf::types::NcVariableType;
use squall_fields::{Place, Station};

use super::super::attributes::text;
use super::super::schema::{Schema, VariableInfo};
use super::coordinates;
use crate::error::FileError;
use crate::gridded::Notes;
use crate::options::Limits;

/// Most bytes of an identifier or a name; in a message there may not be more.
const MAX_TEXT: usize = 256;

/// The variable that identifies stations: by its role, else by its name.
fn identifier(schema: &Schema) -> Option<&VariableInfo> {
    let has_role = |info: &&VariableInfo| text(&info.attributes, "cf_role") == Some("timeseries_id");
    let named = |info: &&VariableInfo| ["station_id", "platform_id", "wigos_id"].contains(&info.name.as_str());
    schema.own().find(has_role).or_else(|| schema.own().find(named)).filter(|info| !info.dimensions.is_empty())
}

/// The dimension that counts stations.
pub(super) fn station_dimension(schema: &Schema) -> Result<String, FileError> {
    if let Some(info) = identifier(schema) {
        return Ok(info.dimensions[0].clone());
    }
    let mut dimensions = schema.own().flat_map(|info| &info.dimensions);
    let named = dimensions.find(|d| ["station", "stations", "id"].contains(&d.to_lowercase().as_str()));
    named.cloned().ok_or_else(|| {
        let wanted = "stations: a variable with cf_role timeseries_id, or a dimension station";
        FileError::NoVariable { wanted: wanted.to_owned(), found: schema.summary() }
    })
}

/// The stations, in the order of the file.
pub(super) fn stations(
    file: &File,
    schema: &Schema,
    dimension: &str,
    limits: &Limits,
    notes: &mut Notes,
) -> Result<Vec<Arc<Station>>, FileError> {
    let length = |info: &VariableInfo| info.dimensions.iter().position(|d| d == dimension).map(|at| info.shape[at]);
    let count = schema.own().find_map(length).unwrap_or(0);
    if count > limits.max_fields {
        let (got, limit) = (count as u64, limits.max_fields as u64);
        return Err(FileError::TooLarge { what: "number of stations", got, limit });
    }
    let ids = match identifier(schema) {
        Some(info) => texts(file, info, count)?,
        None => {
            notes.add("names", "stations have no identifiers: they are numbered from 0");
            (0..count).map(|place| place.to_string()).collect()
        }
    };
    if let Some(at) = ids.iter().position(String::is_empty) {
        return Err(FileError::malformed(
            dimension,
            format!("expected an identifier of each station, number {at} has none"),
        ));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = ids.iter().find(|id| !seen.insert(id.as_str())) {
        return Err(FileError::malformed(
            dimension,
            format!("expected one station of each identifier, got {twice:?} twice"),
        ));
    }
    let names = by(schema, dimension, &["platform_name"], &["station_name", "name"]);
    let names = names.map(|info| texts(file, info, count)).transpose()?;
    let places = places(file, schema, dimension, count, limits, notes)?;
    let station = |(at, id): (usize, String)| {
        let name = names.as_ref().map(|names| names[at].as_str()).filter(|name| !name.is_empty());
        Arc::new(Station { id: id.into(), name: name.map(Arc::from), place: places[at] })
    };
    Ok(ids.into_iter().enumerate().map(station).collect())
}

/// A variable of stations alone, by its standard name or else by its name.
fn by<'s>(schema: &'s Schema, dimension: &str, standard: &[&str], names: &[&str]) -> Option<&'s VariableInfo> {
    let own = || schema.own().filter(|info| info.dimensions.first().is_some_and(|first| first == dimension));
    let has_standard = |info: &&VariableInfo| info.standard_name().is_some_and(|name| standard.contains(&name));
    own().find(has_standard).or_else(|| own().find(|info| names.contains(&info.name.to_lowercase().as_str())))
}

fn places(
    file: &File,
    schema: &Schema,
    dimension: &str,
    count: usize,
    limits: &Limits,
    notes: &mut Notes,
) -> Result<Vec<Option<Place>>, FileError> {
    let of =
        |standard: &[&str], names: &[&str]| coordinates(file, by(schema, dimension, standard, names), count, limits);
    let latitudes = of(&["latitude"], &["lat", "latitude"])?;
    let longitudes = of(&["longitude"], &["lon", "longitude"])?;
    let heights = ["surface_altitude", "altitude", "height_above_mean_sea_level"];
    let elevations = of(&heights, &["elev", "elevation", "alt", "altitude"])?;
    let place = |at: usize| {
        let (latitude, longitude) = (latitudes.as_ref()?[at], longitudes.as_ref()?[at]);
        let elevation = elevations.as_ref().map(|elevations| elevations[at]).filter(|metres| metres.is_finite());
        // Where the elevation is none, the place is one all the same.
        Place::new(latitude, longitude, elevation).or_else(|_| Place::new(latitude, longitude, None)).ok()
    };
    let places: Vec<_> = (0..count).map(place).collect();
    let without = places.iter().filter(|place| place.is_none()).count();
    if without > 0 {
        notes.add("places", format!("{without} of {count} stations have no place: they are compared with nothing"));
    }
    Ok(places)
}

/// Texts, as strings or as rows of characters; numbers as they are written.
fn texts(file: &File, info: &VariableInfo, count: usize) -> Result<Vec<String>, FileError> {
    let failed = |error| FileError::malformed(&info.path, error);
    let variable = file.variable(&info.path).ok_or_else(|| FileError::malformed(&info.path, "it is gone"))?;
    let texts: Vec<String> = match (variable.vartype(), info.shape.as_slice()) {
        (NcVariableType::Char, [stations, length]) if (1..=MAX_TEXT).contains(length) && *stations == count => {
            let bytes = variable.get_raw_values(..).map_err(failed)?;
            bytes.chunks_exact(*length).map(|row| String::from_utf8_lossy(row).into_owned()).collect()
        }
        (NcVariableType::String, [_]) => {
            let one = |at: usize| variable.get_string(at);
            (0..count).map(one).collect::<Result<_, _>>().map_err(failed)?
        }
        (_, [_]) if info.stored.is_some() => {
            let numbers = variable.get_values::<i64, _>(..).map_err(failed)?;
            numbers.into_iter().map(|number| number.to_string()).collect()
        }
        (kind, shape) => {
            let reason =
                format!("expected a text or a whole number for each of {count} stations, got {kind:?} {shape:?}");
            return Err(FileError::malformed(&info.path, reason));
        }
    };
    let tidy = |text: String| text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
    let texts: Vec<String> = texts.into_iter().map(tidy).collect();
    let is_bad = |text: &&String| text.len() > MAX_TEXT || text.chars().any(char::is_control);
    if let Some(bad) = texts.iter().find(is_bad) {
        let shown: String = bad.chars().take(40).collect();
        return Err(FileError::malformed(&info.path, format!("expected printable texts, got {shown:?}")));
    }
    Ok(texts)
}
