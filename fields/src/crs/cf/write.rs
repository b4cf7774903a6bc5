//! Grid mappings for files, written from PROJ strings.

use super::{CfAttributes, CfValue, EASTING, MAPPINGS};
use crate::crs::params::Params;
use crate::crs::rotated::RotatedPole;
use crate::crs::{CrsError, proj};

/// The attributes of a grid mapping variable for a PROJ string.
///
/// The PROJ string itself is kept as `proj4` (an extension that GDAL, pyproj and xarray users know),
/// so that a file is read back with exactly the grid that was written. A projection that the CF conventions have no
/// name for is written with that and the well-known text alone, without `grid_mapping_name`: the file then needs
/// the latitude and longitude of every cell.
///
/// # Errors
/// [`CrsError::Syntax`] for a text that is no PROJ string.
pub fn write_grid_mapping(proj: &str, well_known: Option<&str>) -> Result<CfAttributes, CrsError> {
    let params = Params::parse(proj)?;
    let mut out = CfAttributes::new();
    if let Some(text) = well_known {
        out.insert("crs_wkt".to_owned(), CfValue::Text(text.to_owned()));
    }
    out.insert("proj4".to_owned(), CfValue::Text(proj.trim().to_owned()));
    let mut set = |key: &str, values: &[f64]| {
        out.insert(key.to_owned(), CfValue::Numbers(values.to_vec()));
    };
    let name = params.projection();
    let mapping = match name {
        "ob_tran" => {
            let pole = RotatedPole::from_params(&params)?;
            set("grid_north_pole_latitude", &[pole.pole_latitude]);
            set("grid_north_pole_longitude", &[pole.pole_longitude]);
            set("north_pole_grid_longitude", &[pole.north_pole_grid_longitude]);
            "rotated_latitude_longitude"
        }
        "utm" => {
            let zone = params.number("zone").unwrap_or(31.0);
            set("longitude_of_central_meridian", &[zone * 6.0 - 183.0]);
            set("latitude_of_projection_origin", &[0.0]);
            set("scale_factor_at_central_meridian", &[0.9996]);
            set("false_easting", &[500_000.0]);
            set("false_northing", &[if params.has("south") { 10_000_000.0 } else { 0.0 }]);
            "transverse_mercator"
        }
        _ => match write_parameters(name, &params, &mut set) {
            Some(mapping) => mapping,
            None => return Ok(out),
        },
    };
    if let Some((a, b)) = axes(&params)? {
        set("semi_major_axis", &[a]);
        set("semi_minor_axis", &[b]);
        set("inverse_flattening", &[if a > b { a / (a - b) } else { 0.0 }]);
    }
    let shift = params.text("towgs84").map(|text| text.split(',').filter_map(|v| v.parse().ok()).collect::<Vec<f64>>());
    if let Some(shift) = shift.filter(|shift| shift.len() == 3 || shift.len() == 7) {
        set("towgs84", &shift);
    }
    if mapping == "geostationary" {
        let sweep = if params.text("sweep") == Some("x") { "x" } else { "y" };
        out.insert("sweep_angle_axis".to_owned(), CfValue::Text(sweep.to_owned()));
    }
    out.insert("grid_mapping_name".to_owned(), CfValue::Text(mapping.to_owned()));
    Ok(out)
}

/// Writes the parameters that correspond one to one, with PROJ's defaults; returns the mapping's name, if CF has one.
fn write_parameters(name: &str, params: &Params, set: &mut impl FnMut(&str, &[f64])) -> Option<&'static str> {
    let name = if matches!(name, "latlong" | "lonlat" | "latlon") { "longlat" } else { name };
    let polar = params.number("lat_0").is_some_and(|lat| (lat.abs() - 90.0).abs() < 1e-9);
    let wanted = |cf: &str| name != "stere" || (cf == "polar_stereographic") == polar;
    let (cf_name, _, pairs) = MAPPINGS.iter().find(|(cf, projection, _)| *projection == name && wanted(cf))?;
    if *cf_name == "latitude_longitude" {
        return Some(cf_name);
    }
    let scaled = params.has("k") || params.has("k_0");
    for (cf, parameter) in pairs.iter().chain(&EASTING) {
        match (params.number(parameter).or_else(|| params.number(parameter.trim_end_matches("_0"))), *parameter) {
            (Some(value), _) => set(cf, &[value]),
            (None, "lat_ts") if !scaled && matches!(*cf_name, "mercator" | "lambert_cylindrical_equal_area") => {
                set(cf, &[0.0]);
            }
            (None, "lat_ts") => {}
            // A polar stereographic mapping has either a standard parallel or a scale factor.
            (None, "k_0") if params.has("lat_ts") || *cf_name == "mercator" => {}
            (None, "k_0") => set(cf, &[1.0]),
            (None, _) => set(cf, &[0.0]),
        }
    }
    match *cf_name {
        "lambert_conformal_conic" | "albers_conical_equal_area" => {
            let first = params.number("lat_1").or_else(|| params.number("lat_0")).unwrap_or(0.0);
            let second = params.number("lat_2").unwrap_or(first);
            let parallels = [first, second];
            set("standard_parallel", if first == second { &parallels[..1] } else { &parallels });
        }
        "oblique_mercator" => {
            set("azimuth_of_central_line", &[90.0]);
            // compliance-checker asks for the attribute under this name.
            set("azimuth", &[90.0]);
        }
        _ => {}
    }
    Some(cf_name)
}

/// Semi-axes in metres, if the string says anything about the Earth.
fn axes(params: &Params) -> Result<Option<(f64, f64)>, CrsError> {
    if !["a", "R", "ellps", "datum"].iter().any(|key| params.has(key)) {
        return Ok(None);
    }
    let mut text = String::from("+proj=longlat");
    for key in ["a", "b", "R", "rf", "f", "ellps", "datum"] {
        if let Some(value) = params.text(key) {
            text.push_str(&format!(" +{key}={value}"));
        }
    }
    Ok(Some(proj(&text)?.ellipse_parameters()))
}
