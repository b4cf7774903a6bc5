//! The rotated pole of limited-area models (`+proj=ob_tran +o_proj=longlat`), which proj4rs lacks.

use super::{CrsError, params::Params};

/// A sphere whose north pole was moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotatedPole {
    /// Latitude of the new north pole in degrees.
    pub pole_latitude: f64,
    /// Longitude of the new north pole in degrees.
    pub pole_longitude: f64,
    /// Longitude of the true north pole in the rotated system, in degrees (mostly 0).
    pub north_pole_grid_longitude: f64,
}

impl RotatedPole {
    /// From `+o_lat_p`, `+o_lon_p` and `+lon_0`, as PROJ and the CF conventions relate them:
    /// the pole's longitude is `lon_0 - 180`, and `o_lon_p` is `north_pole_grid_longitude`.
    ///
    /// # Errors
    /// [`CrsError::Syntax`] if a parameter is missing or the rotated system is no `longlat`.
    pub fn from_params(params: &Params) -> Result<Self, CrsError> {
        let wrong = |reason: &str| CrsError::Syntax { text: params.to_text(), reason: reason.to_owned() };
        if !matches!(params.text("o_proj"), Some("longlat" | "latlong" | "lonlat" | "latlon")) {
            return Err(wrong("`ob_tran` is supported with `+o_proj=longlat` only"));
        }
        Ok(Self {
            pole_latitude: params.number("o_lat_p").ok_or_else(|| wrong("`+o_lat_p` is missing"))?,
            pole_longitude: params.number("lon_0").unwrap_or(0.0) - 180.0,
            north_pole_grid_longitude: params.number("o_lon_p").unwrap_or(0.0),
        })
    }

    /// Rotated longitude and latitude (x, y) of a true latitude and longitude, all in degrees.
    pub fn to_xy(&self, latitude: f64, longitude: f64) -> (f64, f64) {
        let (sin_pole, cos_pole) = self.pole_latitude.to_radians().sin_cos();
        let (sin_lat, cos_lat) = latitude.to_radians().sin_cos();
        let (sin_lon, cos_lon) = (longitude - self.pole_longitude).to_radians().sin_cos();
        let y = (sin_pole * sin_lat + cos_pole * cos_lat * cos_lon).clamp(-1.0, 1.0).asin();
        let x = (-cos_lat * sin_lon).atan2(cos_pole * sin_lat - sin_pole * cos_lat * cos_lon);
        (wrap(x.to_degrees() + self.north_pole_grid_longitude), y.to_degrees())
    }

    /// True latitude and longitude of a rotated longitude and latitude (x, y), all in degrees.
    pub fn to_lat_lon(&self, x: f64, y: f64) -> (f64, f64) {
        let (sin_pole, cos_pole) = self.pole_latitude.to_radians().sin_cos();
        let (sin_y, cos_y) = y.to_radians().sin_cos();
        let (sin_x, cos_x) = (x - self.north_pole_grid_longitude).to_radians().sin_cos();
        let latitude = (sin_pole * sin_y + cos_pole * cos_y * cos_x).clamp(-1.0, 1.0).asin();
        let longitude = (-cos_y * sin_x).atan2(cos_pole * sin_y - sin_pole * cos_y * cos_x);
        (latitude.to_degrees(), wrap(longitude.to_degrees() + self.pole_longitude))
    }
}

/// Into [-180, 180).
fn wrap(degrees: f64) -> f64 {
    (degrees + 180.0).rem_euclid(360.0) - 180.0
}
