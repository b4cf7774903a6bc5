//! Grid mappings of files, read into PROJ strings.

use super::{CfAttributes, CfValue, EASTING, MAPPINGS};
use crate::crs::{CrsError, Plane, PlaneUnit, Projection, codes, plane, wkt};

/// A grid mapping that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct GridMapping {
    /// The PROJ string, its plane in metres or degrees.
    pub proj: String,
    /// The same as well-known text, if the file has it and its plane is in the same unit.
    pub well_known: Option<String>,
    /// What a coordinate counts that names no unit of its own.
    pub unit: PlaneUnit,
    /// Where the PROJ string was taken from, for a person.
    pub source: String,
}

/// Reads the attributes of a grid mapping variable.
///
/// Looked at in this order: an explicit PROJ string (`proj4`, `proj4_params`, `proj4text`,
/// `proj4_string`), the CF parameters, well-known text (`crs_wkt`, `spatial_ref`), an EPSG code. The first is
/// exact, the second standard, the third the hardest to read.
///
/// `axis_metres` is the unit of the projection coordinates, in which CF has `false_easting` and `false_northing`.
///
/// # Errors
/// [`CrsError::GridMapping`] with what the mapping lacks.
pub fn read_grid_mapping(attributes: &CfAttributes, axis_metres: f64) -> Result<GridMapping, CrsError> {
    let text = |key: &str| match attributes.get(key) {
        Some(CfValue::Text(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    };
    let well_known = text("crs_wkt").or_else(|| text("spatial_ref"));
    let found = |proj: &str, source: String| {
        let Plane { proj, unit } = Plane::parse(proj)?;
        let in_metres = |text: &String| {
            wkt::proj_string(text).and_then(|proj| Plane::parse(&proj)).is_ok_and(|plane| plane.unit == unit_read(unit))
        };
        // One in kilometres would contradict the axes, which are in metres here; one that cannot be read says nothing.
        let well_known = well_known.clone().filter(|text| wkt::proj_string(text).is_err() || in_metres(text));
        Ok(GridMapping { proj, well_known, unit, source })
    };
    for key in ["proj4", "proj4_params", "proj4text", "proj4_string"] {
        if let Some(candidate) = text(key).filter(|candidate| Projection::parse(candidate).is_ok()) {
            return found(&candidate, format!("the PROJ string `{key}`"));
        }
    }
    let from_parameters = match text("grid_mapping_name") {
        Some(name) => from_cf(&name, attributes, axis_metres),
        None => {
            Err(CrsError::GridMapping { name: "(none)".to_owned(), reason: "it has no grid_mapping_name".to_owned() })
        }
    };
    let error = match from_parameters {
        Ok(proj) => return found(&proj, "the CF parameters".to_owned()),
        Err(error) => error,
    };
    let by_text = well_known.as_ref().map(|text| wkt::proj_string(text));
    if let Some(Ok(proj)) = &by_text {
        return found(proj, "the well-known text".to_owned());
    }
    let code = ["epsg_code", "EPSG_code", "spatial_epsg"].iter().find_map(|key| {
        let number = || numbers(attributes, key).map(|numbers| numbers[0] as u32);
        text(key).and_then(|text| codes::parse_code(&text).or_else(|| text.parse().ok())).or_else(number)
    });
    match code.and_then(codes::proj_string) {
        Some(proj) => found(&proj, "the EPSG code".to_owned()),
        // Of a mapping that has nothing else, what is wrong with its text says more.
        None => Err(by_text.and_then(Result::err).filter(|_| text("grid_mapping_name").is_none()).unwrap_or(error)),
    }
}

/// The unit that a well-known text must have to say the same as a PROJ string that was brought to metres.
const fn unit_read(unit: PlaneUnit) -> PlaneUnit {
    match unit {
        PlaneUnit::Metres(_) => PlaneUnit::Metres(1.0),
        PlaneUnit::Degrees => PlaneUnit::Degrees,
    }
}

fn numbers<'a>(attributes: &'a CfAttributes, key: &str) -> Option<&'a [f64]> {
    match attributes.get(key) {
        Some(CfValue::Numbers(numbers)) if !numbers.is_empty() => Some(numbers),
        _ => None,
    }
}

fn from_cf(name: &str, attributes: &CfAttributes, axis_metres: f64) -> Result<String, CrsError> {
    let number = |key: &str| numbers(attributes, key).map(|numbers| numbers[0]);
    let wrong = |reason: String| CrsError::GridMapping { name: name.to_owned(), reason };
    if name == "rotated_latitude_longitude" {
        let lat = number("grid_north_pole_latitude").ok_or_else(|| wrong("no grid_north_pole_latitude".into()))?;
        let lon = number("grid_north_pole_longitude").ok_or_else(|| wrong("no grid_north_pole_longitude".into()))?;
        let pole = number("north_pole_grid_longitude").unwrap_or(0.0);
        return Ok(format!("+proj=ob_tran +o_proj=longlat +o_lat_p={lat} +o_lon_p={pole} +lon_0={}", lon + 180.0));
    }
    let (_, projection, pairs) =
        MAPPINGS.iter().find(|(cf, ..)| *cf == name).ok_or_else(|| wrong("it is not supported".into()))?;
    let mut words = vec![format!("+proj={projection}")];
    for (cf, parameter) in pairs.iter().chain(if *projection == "longlat" { &[] } else { &EASTING[..] }) {
        if let Some(value) = number(cf) {
            let value = match *parameter {
                "x_0" | "y_0" => false_origin(value, axis_metres),
                "h" => plane::height_in_metres(value),
                _ => value,
            };
            words.push(format!("+{parameter}={value}"));
        }
    }
    let has = |words: &[String], key: &str| words.iter().any(|word| word.starts_with(key));
    match name {
        "polar_stereographic" if !has(&words, "+lat_0") => {
            let south = number("standard_parallel").is_some_and(|parallel| parallel < 0.0);
            words.push(format!("+lat_0={}", if south { -90 } else { 90 }));
        }
        "lambert_conformal_conic" | "albers_conical_equal_area" => {
            let parallels =
                numbers(attributes, "standard_parallel").ok_or_else(|| wrong("no standard_parallel".into()))?;
            words.push(format!("+lat_1={} +lat_2={}", parallels[0], parallels.last().unwrap_or(&parallels[0])));
        }
        "geostationary" => words.push(format!("+sweep={}", sweep(attributes))),
        "oblique_mercator"
            if number("azimuth_of_central_line").is_some_and(|azimuth| (azimuth - 90.0).abs() > 1e-9) =>
        {
            return Err(wrong("only an azimuth of 90 degrees is supported".into()));
        }
        _ => {}
    }
    if *projection != "longlat" && !has(&words, "+lon_0") {
        return Err(wrong("it has no central longitude".into()));
    }
    words.push(earth(attributes));
    if *projection != "longlat" {
        words.push("+units=m".to_owned());
    }
    let text = words.join(" ");
    Projection::parse(&text)?;
    Ok(text)
}

/// A false easting or northing in metres. CF has it in the unit of the axes; what would lie beyond the Earth then was
/// given in metres all the same.
fn false_origin(value: f64, axis_metres: f64) -> f64 {
    const BEYOND_THE_EARTH: f64 = 1e8;
    let metres = if axis_metres == 1000.0 { plane::in_metres(value) } else { value * axis_metres };
    if metres.abs() < BEYOND_THE_EARTH { metres } else { value }
}

/// The axis about which a geostationary instrument sweeps: PROJ's default `y`, as Meteosat, unless the file says `x`,
/// as GOES.
fn sweep(attributes: &CfAttributes) -> char {
    let axis = |key: &str| match attributes.get(key) {
        Some(CfValue::Text(text)) => text.trim().to_ascii_lowercase().chars().next().filter(|c| matches!(c, 'x' | 'y')),
        _ => None,
    };
    let other = |fixed| if fixed == 'x' { 'y' } else { 'x' };
    axis("sweep_angle_axis").or_else(|| axis("fixed_angle_axis").map(other)).unwrap_or('y')
}

/// The figure of the Earth; WGS 84 where nothing is said.
fn earth(attributes: &CfAttributes) -> String {
    let number = |key: &str| numbers(attributes, key).map(|numbers| numbers[0]).filter(|v| *v > 0.0);
    let length = |key: &str| number(key).map(plane::axis_in_metres);
    let axes = match (length("semi_major_axis"), length("semi_minor_axis"), number("inverse_flattening")) {
        (Some(a), Some(b), _) => format!("+a={a} +b={b}"),
        (Some(a), None, Some(rf)) => format!("+a={a} +rf={rf}"),
        (Some(a), None, None) => format!("+a={a} +b={a}"),
        _ => match length("earth_radius") {
            Some(radius) => format!("+a={radius} +b={radius}"),
            None => return "+datum=WGS84".to_owned(),
        },
    };
    match numbers(attributes, "towgs84") {
        Some(shift) if shift.len() == 3 || shift.len() == 7 => {
            let shift: Vec<String> = shift.iter().map(f64::to_string).collect();
            format!("{axes} +towgs84={}", shift.join(","))
        }
        _ => axes,
    }
}
