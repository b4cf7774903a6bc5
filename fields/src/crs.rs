//! Coordinate reference systems: PROJ strings, EPSG codes, CF grid mappings and well-known text.
//!
//! Inside Squall a reference system is a PROJ string (or an `EPSG:` code of the short list in
//! [`codes`]), because that is the one form that every gridded format of the field can be brought to:
//! ODIM_H5 carries it as it is, CF-NetCDF as attributes ([`cf`]) or as well-known text ([`wkt`]).
//! The arithmetic is proj4rs'; only the rotated pole ([`rotated`]), which it lacks, is done here.

pub mod cf;
pub mod codes;
pub mod params;
pub mod plane;
pub mod rotated;
pub mod wkt;

use proj4rs::Proj;
use thiserror::Error;

pub use cf::{CfAttributes, CfValue, GridMapping};
use params::Params;
pub use plane::{Plane, PlaneUnit};
use rotated::RotatedPole;

use crate::ErrorKind;

/// Why a reference system could not be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CrsError {
    /// There is none.
    #[error("the grid has no coordinate reference system: expected a PROJ string, an EPSG code or a CF grid mapping")]
    Missing,
    /// The text is no PROJ string.
    #[error("expected a PROJ string such as `+proj=stere +lat_0=90 ...` or an EPSG code, got `{text}`: {reason}")]
    Syntax {
        /// What came.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An EPSG code outside the short list.
    #[error("EPSG:{code} is not on Squall's list; give the PROJ string of the system instead")]
    UnknownCode {
        /// The code.
        code: u32,
    },
    /// A CF grid mapping without what it needs, or one that is not supported.
    #[error("grid mapping `{name}`: {reason}")]
    GridMapping {
        /// `grid_mapping_name`, or what came in its place.
        name: String,
        /// What was expected.
        reason: String,
    },
    /// A place that the projection does not reach.
    #[error("({first}, {second}) cannot be projected: {reason}")]
    Outside {
        /// x or latitude.
        first: f64,
        /// y or longitude.
        second: f64,
        /// What the projection says.
        reason: String,
    },
}

impl CrsError {
    /// A reference system comes with the data.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }

    /// The same text fails again.
    pub const fn is_retriable(&self) -> bool {
        false
    }
}

/// A reference system made ready to compute with.
///
/// ```
/// use squall_fields::crs::Projection;
/// let laea = Projection::parse("+proj=laea +lat_0=55 +lon_0=10 +x_0=1950000 +y_0=-2100000 +ellps=WGS84")?;
/// let (lat, lon) = laea.to_lat_lon(1_950_000.0, -2_100_000.0)?;
/// assert!((lat - 55.0).abs() < 1e-9 && (lon - 10.0).abs() < 1e-9);
/// # Ok::<(), squall_fields::crs::CrsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Projection {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Geographic,
    Rotated(RotatedPole),
    Projected {
        system: Box<Proj>,
        wgs84: Box<Proj>,
        /// Whether a datum shift lies between them. It is three-dimensional, and a field has no
        /// heights: going there and back at height 0 misses by a millimetre unless corrected.
        shifted: bool,
    },
}

impl Projection {
    /// Makes a PROJ string or an `EPSG:` code ready.
    ///
    /// # Errors
    /// [`CrsError::Syntax`], [`CrsError::UnknownCode`], or [`CrsError::Missing`] for an empty text.
    pub fn parse(text: &str) -> Result<Self, CrsError> {
        let params = Params::parse(text)?;
        let form = match params.projection() {
            "longlat" | "latlong" | "lonlat" | "latlon" => Form::Geographic,
            "ob_tran" => Form::Rotated(RotatedPole::from_params(&params)?),
            _ => Form::Projected {
                system: Box::new(proj(&params.clone().without("title").to_text())?),
                wgs84: Box::new(proj(WGS84)?),
                shifted: params.text("towgs84").is_some_and(|shift| shift.contains(|c| matches!(c, '1'..='9'))),
            },
        };
        Ok(Self { form })
    }

    /// Whether x is a true longitude and y a true latitude in degrees.
    pub const fn is_geographic(&self) -> bool {
        matches!(self.form, Form::Geographic)
    }

    /// Whether coordinates are in degrees (of a true or a rotated sphere) and not in metres.
    pub const fn is_angular(&self) -> bool {
        matches!(self.form, Form::Geographic | Form::Rotated(_))
    }

    /// Latitude and longitude in degrees of a coordinate in the system's unit (m, or degrees).
    ///
    /// # Errors
    /// [`CrsError::Outside`] where the inverse projection has no answer.
    pub fn to_lat_lon(&self, x: f64, y: f64) -> Result<(f64, f64), CrsError> {
        match &self.form {
            Form::Geographic => Ok((y, x)),
            Form::Rotated(pole) => Ok(pole.to_lat_lon(x, y)),
            Form::Projected { system, wgs84, shifted } => {
                let outside = |reason| CrsError::Outside { first: x, second: y, reason };
                let mut place = (x, y, 0.0);
                transform(system, wgs84, &mut place).map_err(outside)?;
                if *shifted {
                    let mut there = (place.0, place.1, 0.0);
                    transform(wgs84, system, &mut there).map_err(outside)?;
                    let mut again = (2.0 * x - there.0, 2.0 * y - there.1, 0.0);
                    transform(system, wgs84, &mut again).map_err(outside)?;
                    place = again;
                }
                Ok((place.1.to_degrees(), place.0.to_degrees()))
            }
        }
    }

    /// Coordinate in the system's unit of a latitude and a longitude in degrees.
    ///
    /// # Errors
    /// [`CrsError::Outside`] where the projection has no answer.
    pub fn to_xy(&self, latitude: f64, longitude: f64) -> Result<(f64, f64), CrsError> {
        match &self.form {
            Form::Geographic => Ok((longitude, latitude)),
            Form::Rotated(pole) => Ok(pole.to_xy(latitude, longitude)),
            Form::Projected { system, wgs84, .. } => {
                let mut point = (longitude.to_radians(), latitude.to_radians(), 0.0);
                transform(wgs84, system, &mut point).map_err(|reason| CrsError::Outside {
                    first: latitude,
                    second: longitude,
                    reason,
                })?;
                Ok((point.0, point.1))
            }
        }
    }
}

const WGS84: &str = "+proj=longlat +datum=WGS84 +no_defs";

/// proj4rs takes apart angles by bytes, and panics inside a letter of several; PROJ strings have none.
fn proj(text: &str) -> Result<Proj, CrsError> {
    let wrong = |reason: String| CrsError::Syntax { text: text.to_owned(), reason };
    if let Some(letter) = text.chars().find(|c| !c.is_ascii()) {
        return Err(wrong(format!("`{letter}` is no ASCII character")));
    }
    Proj::from_proj_string(text).map_err(|error| wrong(error.to_string()))
}

fn transform(from: &Proj, to: &Proj, point: &mut (f64, f64, f64)) -> Result<(), String> {
    proj4rs::transform::transform(from, to, point).map_err(|error| error.to_string())?;
    if point.0.is_finite() && point.1.is_finite() { Ok(()) } else { Err("the result is not finite".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latitude, longitude, x, y by PROJ 9 (pyproj, `always_xy`).
    #[test]
    fn agrees_with_proj() {
        for (text, lat, lon, x, y) in include!("crs/golden.in") {
            let projection = Projection::parse(text).unwrap();
            let (px, py) = projection.to_xy(lat, lon).unwrap();
            let tolerance = if projection.is_angular() { 1e-8 } else { 0.01 };
            assert!((px - x).abs() < tolerance && (py - y).abs() < tolerance, "{text}: ({px}, {py}) for ({x}, {y})");
            let (back_lat, back_lon) = projection.to_lat_lon(x, y).unwrap();
            assert!((back_lat - lat).abs() < 1e-7 && (back_lon - lon).abs() < 1e-7, "{text}: {back_lat}, {back_lon}");
        }
    }

    #[test]
    fn a_title_is_in_any_language() {
        let titled = Projection::parse("+proj=stere +lat_0=90 +title=Übersicht").unwrap();
        assert_eq!(titled.to_xy(60.0, 0.0), Projection::parse("+proj=stere +lat_0=90").unwrap().to_xy(60.0, 0.0));
    }

    #[test]
    fn errors_say_what_was_expected() {
        assert!(Projection::parse("").unwrap_err().to_string().contains("PROJ string"));
        assert!(Projection::parse("EPSG:999999").unwrap_err().to_string().contains("999999"));
        assert!(Projection::parse("+proj=nonsense").unwrap_err().to_string().contains("nonsense"));
        assert!(Projection::parse("stere").unwrap_err().to_string().contains("+proj="));
        let degrees = Projection::parse("+proj=stere +lat_0=90 +lon_0=10°30'").unwrap_err().to_string();
        assert!(degrees.contains("`°` is no ASCII character"), "{degrees}");
    }
}
