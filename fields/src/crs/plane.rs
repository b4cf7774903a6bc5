//! The plane of a projection, brought to metres.
//!
//! A PROJ string may count its plane in kilometres in two ways: by `+units=km` (or `+to_meter`), or by an ellipsoid whose
//! axes are given in kilometres, as KNMI writes it. Inside Squall a plane is always in metres, so that a length means
//! the same whatever file it came from.

use super::{CrsError, Projection, params::Params, proj};

/// A reference system whose plane is in metres or degrees, and what its coordinates were counted in before.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// The PROJ string, as it came where its plane was in metres or degrees already.
    pub proj: String,
    /// What a coordinate counts where its file names no unit of its own.
    pub unit: PlaneUnit,
}

/// What coordinates count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlaneUnit {
    /// So many metres.
    Metres(f64),
    /// Degrees of a true or of a rotated sphere.
    Degrees,
}

/// Semi-axes below it are in kilometres: the Earth's are 6,378 km.
const KILOMETRES_BELOW: f64 = 20_000.0;
/// Heights of a satellite below it are in kilometres: geostationary ones are 35,786 km.
const HEIGHT_IN_KILOMETRES_BELOW: f64 = 100_000.0;

impl Plane {
    /// Reads a PROJ string or an `EPSG:` code.
    ///
    /// ```
    /// use squall_fields::crs::{Plane, PlaneUnit};
    /// let knmi = Plane::parse("+proj=stere +lat_0=90 +lon_0=0 +lat_ts=60 +a=6378.14 +b=6356.75 +x_0=0 +y_0=0")?;
    /// assert_eq!(knmi.unit, PlaneUnit::Metres(1000.0));
    /// assert!(knmi.proj.contains("+a=6378140 +b=6356750"));
    /// # Ok::<(), squall_fields::crs::CrsError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Projection::parse`].
    pub fn parse(text: &str) -> Result<Self, CrsError> {
        if Projection::parse(text)?.is_angular() {
            return Ok(Self { proj: text.to_owned(), unit: PlaneUnit::Degrees });
        }
        let params = Params::parse(text)?;
        let in_kilometres = |key: &str| params.number(key).is_some_and(|axis| axis > 0.0 && axis < KILOMETRES_BELOW);
        if in_kilometres("a") || in_kilometres("R") {
            // Both `+units=km` and such an ellipsoid say the same thing twice.
            let proj = kilometres_to_metres(params).without("to_meter").with("units", "m").to_text();
            Projection::parse(&proj)?;
            return Ok(Self { proj, unit: PlaneUnit::Metres(1000.0) });
        }
        let metres = proj(&params.to_text())?.to_meter();
        if metres == 1.0 {
            return Ok(Self { proj: text.to_owned(), unit: PlaneUnit::Metres(1.0) });
        }
        let proj = params.without("to_meter").with("units", "m").to_text();
        Ok(Self { proj, unit: PlaneUnit::Metres(metres) })
    }
}

/// All lengths of a projection whose ellipsoid is in kilometres.
fn kilometres_to_metres(mut params: Params) -> Params {
    for key in ["a", "b", "R", "x_0", "y_0", "h"] {
        let Some(length) = params.number(key) else { continue };
        if key != "h" || length < HEIGHT_IN_KILOMETRES_BELOW {
            params = params.with(key, in_metres(length));
        }
    }
    params
}

/// Kilometres in metres, to a micrometre: 6378.137 km are 6378137 m and not 6378137.000000001 m.
pub(super) fn in_metres(kilometres: f64) -> f64 {
    (kilometres * 1e9).round() / 1e6
}

/// A length of an ellipsoid or a height of a satellite in metres, whichever unit it came in.
pub(super) fn axis_in_metres(axis: f64) -> f64 {
    if axis < KILOMETRES_BELOW { in_metres(axis) } else { axis }
}

/// As [`axis_in_metres`], for the height of a satellite.
pub(super) fn height_in_metres(height: f64) -> f64 {
    if height < HEIGHT_IN_KILOMETRES_BELOW { in_metres(height) } else { height }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STERE: &str = "+proj=stere +lat_0=90 +lon_0=0 +lat_ts=60";

    #[test]
    fn planes_in_kilometres_are_those_in_metres() {
        let metres = Projection::parse(&format!("{STERE} +a=6378140 +b=6356750 +x_0=5000 +units=m")).unwrap();
        let expected = metres.to_xy(52.0, 5.0).unwrap();
        for text in [
            "+a=6378140 +b=6356750 +x_0=5000 +units=km",
            "+a=6378140 +b=6356750 +x_0=5000 +to_meter=1000",
            "+a=6378.14 +b=6356.75 +x_0=5",
            "+a=6378.14 +b=6356.75 +x_0=5 +units=km",
            "+a=6378.14 +b=6356.75 +x_0=5 y_0=0 +units=m",
        ] {
            let plane = Plane::parse(&format!("{STERE} {text}")).unwrap();
            assert_eq!(plane.unit, PlaneUnit::Metres(1000.0), "{text}");
            let (x, y) = Projection::parse(&plane.proj).unwrap().to_xy(52.0, 5.0).unwrap();
            assert!((x - expected.0).abs() < 1e-3 && (y - expected.1).abs() < 1e-3, "{text}: {x} {y}");
        }
    }

    #[test]
    fn what_is_in_metres_or_degrees_stays_as_it_is_spelled() {
        for (text, unit) in [
            ("+proj=stere  +lat_0=90 +R=6371000", PlaneUnit::Metres(1.0)),
            ("EPSG:3067", PlaneUnit::Metres(1.0)),
            ("+proj=latlong +a=6378.14 +b=6356.75", PlaneUnit::Degrees),
            ("+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +lon_0=18 +to_meter=0.0174532925", PlaneUnit::Degrees),
        ] {
            assert_eq!(Plane::parse(text).unwrap(), Plane { proj: text.to_owned(), unit });
        }
        let feet = Plane::parse("+proj=tmerc +lat_0=0 +lon_0=15 +ellps=GRS80 +units=us-ft").unwrap();
        assert!(
            matches!(feet.unit, PlaneUnit::Metres(m) if (m - 0.304_800_6).abs() < 1e-6)
                && feet.proj.contains("+units=m")
        );
    }
}
