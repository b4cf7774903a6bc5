//! CF grid mappings (CF conventions, appendix F), read into PROJ strings and written from them.

use std::collections::BTreeMap;

use super::{CrsError, Projection, params::Params, proj, wkt};

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
const MAPPINGS: [(&str, &str, &[Pair]); 11] = [
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
];

/// The PROJ string of a grid mapping, and its well-known text if the file has one.
///
/// Looked at in this order: an explicit PROJ string (`proj4`, `proj4_params`, `proj4text`,
/// `proj4_string`), the CF parameters, well-known text (`crs_wkt`, `spatial_ref`). The first is
/// exact, the second standard, the third the hardest to read.
///
/// # Errors
/// [`CrsError::GridMapping`] with what the mapping lacks.
pub fn read_grid_mapping(attributes: &CfAttributes) -> Result<(String, Option<String>), CrsError> {
    let text = |key: &str| match attributes.get(key) {
        Some(CfValue::Text(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    };
    let well_known = text("crs_wkt").or_else(|| text("spatial_ref"));
    for key in ["proj4", "proj4_params", "proj4text", "proj4_string"] {
        if let Some(candidate) = text(key).filter(|candidate| Projection::parse(candidate).is_ok()) {
            return Ok((candidate, well_known));
        }
    }
    let from_parameters = match text("grid_mapping_name") {
        Some(name) => from_cf(&name, attributes),
        None => {
            Err(CrsError::GridMapping { name: "(none)".to_owned(), reason: "it has no grid_mapping_name".to_owned() })
        }
    };
    match (from_parameters, &well_known) {
        (Ok(proj), _) => Ok((proj, well_known)),
        (Err(error), Some(text)) => wkt::proj_string(text).map(|proj| (proj, well_known)).map_err(|_| error),
        (Err(error), None) => Err(error),
    }
}

fn numbers<'a>(attributes: &'a CfAttributes, key: &str) -> Option<&'a [f64]> {
    match attributes.get(key) {
        Some(CfValue::Numbers(numbers)) if !numbers.is_empty() => Some(numbers),
        _ => None,
    }
}

fn from_cf(name: &str, attributes: &CfAttributes) -> Result<String, CrsError> {
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

/// The figure of the Earth; WGS 84 where nothing is said.
fn earth(attributes: &CfAttributes) -> String {
    let number = |key: &str| numbers(attributes, key).map(|numbers| numbers[0]).filter(|v| *v > 0.0);
    let axes = match (number("semi_major_axis"), number("semi_minor_axis"), number("inverse_flattening")) {
        (Some(a), Some(b), _) => format!("+a={a} +b={b}"),
        (Some(a), None, Some(rf)) => format!("+a={a} +rf={rf}"),
        (Some(a), None, None) => format!("+a={a} +b={a}"),
        _ => match number("earth_radius") {
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

/// The attributes of a grid mapping variable for a PROJ string.
///
/// The PROJ string itself is kept as `proj4` (an extension that GDAL, pyproj and xarray users know),
/// so that a file is read back with exactly the grid that was written.
///
/// # Errors
/// [`CrsError::GridMapping`] for a projection that the CF conventions have no name for.
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
    let name = params.text("proj").unwrap_or_default();
    let mapping = match name {
        "ob_tran" => {
            let pole = super::rotated::RotatedPole::from_params(&params)?;
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
        _ => write_parameters(name, &params, &mut set)?,
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
    out.insert("grid_mapping_name".to_owned(), CfValue::Text(mapping.to_owned()));
    Ok(out)
}

/// Writes the parameters that correspond one to one, with PROJ's defaults; returns the mapping's name.
fn write_parameters(name: &str, params: &Params, set: &mut impl FnMut(&str, &[f64])) -> Result<&'static str, CrsError> {
    let unknown = || CrsError::GridMapping { name: name.to_owned(), reason: "CF has no name for it".to_owned() };
    let name = if matches!(name, "latlong" | "lonlat" | "latlon") { "longlat" } else { name };
    let polar = params.number("lat_0").is_some_and(|lat| (lat.abs() - 90.0).abs() < 1e-9);
    let wanted = |cf: &str| name != "stere" || (cf == "polar_stereographic") == polar;
    let (cf_name, _, pairs) =
        MAPPINGS.iter().find(|(cf, projection, _)| *projection == name && wanted(cf)).ok_or_else(unknown)?;
    if *cf_name == "latitude_longitude" {
        return Ok(cf_name);
    }
    let scaled = params.has("k") || params.has("k_0");
    for (cf, parameter) in pairs.iter().chain(&EASTING) {
        match (params.number(parameter).or_else(|| params.number(parameter.trim_end_matches("_0"))), *parameter) {
            (Some(value), _) => set(cf, &[value]),
            (None, "lat_ts") if !scaled && *cf_name == "mercator" => set(cf, &[0.0]),
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
    Ok(cf_name)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(proj: &str) -> (f64, f64) {
        Projection::parse(proj).unwrap().to_xy(60.0, 24.0).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_without_the_proj4_attribute() {
        for proj in [
            "+proj=stere +lon_0=25 +lat_0=90 +lat_ts=60 +a=6371288 +b=6371288 +x_0=380886.310 +y_0=3395677.920 +units=m",
            "+proj=stere +lat_ts=60 +ellps=bessel +lon_0=14 +lat_0=90 +units=m",
            "+proj=lcc +lat_1=35 +lat_2=65 +lat_0=52 +lon_0=10 +ellps=GRS80",
            "+proj=lcc +lat_1=63 +lat_0=63 +lon_0=15 +R=6371000",
            "+proj=laea +lat_0=55 +lon_0=10 +x_0=1950000 +y_0=-2100000 +units=m +ellps=WGS84",
            "+proj=tmerc +lat_0=49 +lon_0=-2 +k=0.9996012717 +x_0=400000 +y_0=-100000 +ellps=airy",
            "+proj=somerc +lon_0=7.43958333333333 +lat_0=46.9524055555556 +k_0=1 +x_0=600000 +y_0=200000 +ellps=bessel \
             +towgs84=674.374,15.056,405.346,0,0,0,0 +units=m",
            "+proj=merc +lat_ts=40 +lon_0=5 +datum=WGS84",
            "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18",
            "EPSG:3067",
            "EPSG:4326",
        ] {
            let mut attributes = write_grid_mapping(proj, None).unwrap();
            let exact = read_grid_mapping(&attributes).unwrap().0;
            assert_eq!(exact, proj);
            attributes.remove("proj4");
            let (back, _) = read_grid_mapping(&attributes).unwrap();
            let (a, b) = (place(proj), place(&back));
            assert!((a.0 - b.0).abs() < 1e-3 && (a.1 - b.1).abs() < 1e-3, "{proj} -> {back}: {a:?} {b:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut attributes = CfAttributes::new();
        assert!(read_grid_mapping(&attributes).unwrap_err().to_string().contains("grid_mapping_name"));
        attributes.insert("grid_mapping_name".into(), CfValue::Text("lambert_conformal_conic".into()));
        assert!(read_grid_mapping(&attributes).unwrap_err().to_string().contains("standard_parallel"));
        attributes.insert("grid_mapping_name".into(), CfValue::Text("healpix".into()));
        assert!(read_grid_mapping(&attributes).unwrap_err().to_string().contains("healpix"));
    }
}
