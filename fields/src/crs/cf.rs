//! CF grid mappings (CF conventions, appendix F), read into PROJ strings and written from them.

use std::collections::BTreeMap;

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{GridMapping, read_grid_mapping};
pub use write::write_grid_mapping;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum CfValue {
    /// Text.
    Text(String),
    /// One number or more.
    Numbers(Vec<f64>),
}

/// Attributes of a grid mapping variable by name.
pub type CfAttributes = BTreeMap<String, CfValue>;

/// A CF parameter and the PROJ parameter that means the same.
type Pair = (&'static str, &'static str);

const EASTING: [Pair; 2] = [("false_easting", "x_0"), ("false_northing", "y_0")];

/// `grid_mapping_name`, PROJ's name, and the parameters that correspond one to one.
const MAPPINGS: [(&str, &str, &[Pair]); 14] = [
    ("latitude_longitude", "longlat", &[]),
    (
        "polar_stereographic",
        "stere",
        &[
            ("straight_vertical_longitude_from_pole", "lon_0"),
            ("latitude_of_projection_origin", "lat_0"),
            ("standard_parallel", "lat_ts"),
            ("scale_factor_at_projection_origin", "k_0"),
        ],
    ),
    (
        "stereographic",
        "stere",
        &[
            ("longitude_of_projection_origin", "lon_0"),
            ("latitude_of_projection_origin", "lat_0"),
            ("scale_factor_at_projection_origin", "k_0"),
        ],
    ),
    (
        "lambert_conformal_conic",
        "lcc",
        &[("longitude_of_central_meridian", "lon_0"), ("latitude_of_projection_origin", "lat_0")],
    ),
    (
        "albers_conical_equal_area",
        "aea",
        &[("longitude_of_central_meridian", "lon_0"), ("latitude_of_projection_origin", "lat_0")],
    ),
    (
        "lambert_azimuthal_equal_area",
        "laea",
        &[("longitude_of_projection_origin", "lon_0"), ("latitude_of_projection_origin", "lat_0")],
    ),
    (
        "azimuthal_equidistant",
        "aeqd",
        &[("longitude_of_projection_origin", "lon_0"), ("latitude_of_projection_origin", "lat_0")],
    ),
    (
        "transverse_mercator",
        "tmerc",
        &[
            ("longitude_of_central_meridian", "lon_0"),
            ("latitude_of_projection_origin", "lat_0"),
            ("scale_factor_at_central_meridian", "k_0"),
        ],
    ),
    (
        "mercator",
        "merc",
        &[
            ("longitude_of_projection_origin", "lon_0"),
            ("standard_parallel", "lat_ts"),
            ("scale_factor_at_projection_origin", "k_0"),
        ],
    ),
    (
        "oblique_mercator",
        "somerc",
        &[
            ("longitude_of_projection_origin", "lon_0"),
            ("latitude_of_projection_origin", "lat_0"),
            ("scale_factor_at_projection_origin", "k_0"),
        ],
    ),
    ("geostationary", "geos", &[("longitude_of_projection_origin", "lon_0"), ("perspective_point_height", "h")]),
    (
        "lambert_cylindrical_equal_area",
        "cea",
        &[("longitude_of_central_meridian", "lon_0"), ("standard_parallel", "lat_ts")],
    ),
    (
        "orthographic",
        "ortho",
        &[("longitude_of_projection_origin", "lon_0"), ("latitude_of_projection_origin", "lat_0")],
    ),
    ("sinusoidal", "sinu", &[("longitude_of_projection_origin", "lon_0")]),
];
