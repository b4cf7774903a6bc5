//! Where a station stands.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ErrorKind;

/// Mean radius of the Earth in metres.
const EARTH_RADIUS_M: f64 = 6_371_009.0;
/// Lowest and highest elevation that a station may have, in metres.
const ELEVATIONS_M: std::ops::RangeInclusive<f64> = -500.0..=9000.0;

/// Latitude, longitude and elevation, in whole numbers so that places can be compared: 1e-6 degrees are 11 cm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    latitude_microdegrees: i32,
    longitude_microdegrees: i32,
    elevation_cm: Option<i32>,
}

/// Why numbers are no place on the Earth.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("expected {what} from {from} to {to}, got {got}")]
pub struct PlaceError {
    what: &'static str,
    from: f64,
    to: f64,
    got: f64,
}

impl PlaceError {
    /// Whoever made the report can help.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }

    /// The same numbers fail again.
    pub const fn is_retriable(&self) -> bool {
        false
    }
}

impl Place {
    /// A place by its latitude (-90 to 90) and longitude (-180 to 360) in degrees, and its elevation in metres.
    ///
    /// ```
    /// use squall_fields::Place;
    /// let place = Place::new(-33.9, 359.5, None).expect("on the Earth");
    /// assert_eq!((place.latitude(), place.longitude()), (-33.9, -0.5));
    /// assert!(Place::new(91.0, 0.0, None).is_err());
    /// ```
    ///
    /// # Errors
    /// [`PlaceError`] names the number that is none of a place on the Earth.
    pub fn new(latitude: f64, longitude: f64, elevation_m: Option<f64>) -> Result<Self, PlaceError> {
        let within = |what, got: f64, from: f64, to: f64| {
            if (from..=to).contains(&got) { Ok(got) } else { Err(PlaceError { what, from, to, got }) }
        };
        let latitude = within("a latitude", latitude, -90.0, 90.0)?;
        let longitude = within("a longitude", longitude, -180.0, 360.0)?;
        let (lowest, highest) = ELEVATIONS_M.into_inner();
        let elevation =
            elevation_m.map(|metres| within("an elevation in metres", metres, lowest, highest)).transpose()?;
        let micro = |degrees: f64| (degrees * 1e6).round() as i32;
        let longitude = micro(if longitude >= 180.0 { longitude - 360.0 } else { longitude });
        Ok(Self {
            latitude_microdegrees: micro(latitude),
            longitude_microdegrees: longitude,
            elevation_cm: elevation.map(|metres| (metres * 100.0).round() as i32),
        })
    }

    /// Degrees north.
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude_microdegrees) / 1e6
    }

    /// Degrees east, -180 to 180.
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude_microdegrees) / 1e6
    }

    /// Metres above the sea, if it is known.
    pub fn elevation_m(self) -> Option<f64> {
        self.elevation_cm.map(|cm| f64::from(cm) / 100.0)
    }

    /// Metres to another place along the surface of a sphere.
    ///
    /// ```
    /// use squall_fields::Place;
    /// let at = |latitude, longitude| Place::new(latitude, longitude, None).expect("on the Earth");
    /// assert!((at(60.0, 179.5).distance_m(at(60.0, -179.5)) - 55_597.0).abs() < 5.0);
    /// ```
    pub fn distance_m(self, other: Self) -> f64 {
        let (north, other_north) = (self.latitude().to_radians(), other.latitude().to_radians());
        let half = |radians: f64| (radians / 2.0).sin().powi(2);
        let east = (self.longitude() - other.longitude()).to_radians();
        let haversine = half(north - other_north) + north.cos() * other_north.cos() * half(east);
        2.0 * EARTH_RADIUS_M * haversine.min(1.0).sqrt().asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_is_refused() {
        let error =
            |latitude, longitude, elevation| Place::new(latitude, longitude, elevation).unwrap_err().to_string();
        assert_eq!(error(-90.1, 0.0, None), "expected a latitude from -90 to 90, got -90.1");
        assert!(error(0.0, 361.0, None).contains("a longitude"));
        assert!(error(0.0, -181.0, None).contains("a longitude"));
        assert!(error(f64::NAN, 0.0, None).contains("NaN"));
        assert!(error(0.0, 0.0, Some(f64::INFINITY)).contains("an elevation"));
    }

    #[test]
    fn one_meridian_has_one_longitude() {
        let at = |longitude| Place::new(10.0, longitude, None).unwrap();
        assert_eq!(at(180.0), at(-180.0));
        assert_eq!(at(360.0), at(0.0));
        assert_eq!(at(180.0).longitude(), -180.0);
        assert_eq!(at(0.0).distance_m(at(0.0)), 0.0);
        let pole = Place::new(90.0, 0.0, None).unwrap();
        assert!((pole.distance_m(Place::new(-90.0, 0.0, None).unwrap()) - 20_015_115.0).abs() < 1.0);
    }
}
