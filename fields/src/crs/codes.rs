//! The EPSG codes that Squall knows without a database.
//!
//! The whole register is a database of many megabytes; the grids of this field use a dozen codes.
//! Any other system is given by its PROJ string.

/// The number of `EPSG:3067`, `epsg:3067` or `urn:ogc:def:crs:EPSG::3067`.
pub fn parse_code(text: &str) -> Option<u32> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if !lower.starts_with("epsg:") && !lower.starts_with("urn:ogc:def:crs:epsg:") && !lower.starts_with("+init=epsg:") {
        return None;
    }
    lower.rsplit(':').next()?.split_whitespace().next()?.parse().ok()
}

/// The PROJ string of a code, if it is on the list.
///
/// ```
/// assert!(squall_fields::crs::codes::proj_string(3067).unwrap().contains("+zone=35"));
/// assert_eq!(squall_fields::crs::codes::proj_string(1), None);
/// ```
pub fn proj_string(code: u32) -> Option<String> {
    let fixed = match code {
        4326 | 4979 => "+proj=longlat +datum=WGS84",
        4258 | 4269 => "+proj=longlat +ellps=GRS80 +towgs84=0,0,0,0,0,0,0",
        // World Mercator of web maps: a sphere that is given WGS 84 coordinates.
        3857 => "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +k=1 +nadgrids=@null +units=m",
        // ETRS89 / LAEA Europe.
        3035 => "+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80 +towgs84=0,0,0,0,0,0,0 +units=m",
        // ETRS89 / LCC Europe.
        3034 => {
            "+proj=lcc +lat_0=52 +lon_0=10 +lat_1=35 +lat_2=65 +x_0=4000000 +y_0=2800000 +ellps=GRS80 \
             +towgs84=0,0,0,0,0,0,0 +units=m"
        }
        // Finland (TM35FIN) and Sweden (SWEREF99 TM).
        3067 => "+proj=utm +zone=35 +ellps=GRS80 +towgs84=0,0,0,0,0,0,0 +units=m",
        3006 => "+proj=utm +zone=33 +ellps=GRS80 +towgs84=0,0,0,0,0,0,0 +units=m",
        // Switzerland: LV95 and LV03.
        2056 => {
            "+proj=somerc +lat_0=46.9524055555556 +lon_0=7.43958333333333 +k_0=1 +x_0=2600000 +y_0=1200000 \
             +ellps=bessel +towgs84=674.374,15.056,405.346,0,0,0,0 +units=m"
        }
        21781 => {
            "+proj=somerc +lat_0=46.9524055555556 +lon_0=7.43958333333333 +k_0=1 +x_0=600000 +y_0=200000 \
             +ellps=bessel +towgs84=674.374,15.056,405.346,0,0,0,0 +units=m"
        }
        // United Kingdom.
        27700 => {
            "+proj=tmerc +lat_0=49 +lon_0=-2 +k=0.9996012717 +x_0=400000 +y_0=-100000 +ellps=airy \
             +towgs84=446.448,-125.157,542.06,0.15,0.247,0.842,-20.489 +units=m"
        }
        // Netherlands, Austria, France.
        28992 => {
            "+proj=sterea +lat_0=52.1561605555556 +lon_0=5.38763888888889 +k=0.9999079 +x_0=155000 +y_0=463000 \
             +ellps=bessel +towgs84=565.4171,50.3319,465.5524,-0.398957,0.343988,-1.8774,4.0725 +units=m"
        }
        31287 => {
            "+proj=lcc +lat_0=47.5 +lon_0=13.3333333333333 +lat_1=49 +lat_2=46 +x_0=400000 +y_0=400000 +ellps=bessel \
             +towgs84=577.326,90.129,463.919,5.137,1.474,5.297,2.4232 +units=m"
        }
        2154 => {
            "+proj=lcc +lat_0=46.5 +lon_0=3 +lat_1=49 +lat_2=44 +x_0=700000 +y_0=6600000 +ellps=GRS80 \
             +towgs84=0,0,0,0,0,0,0 +units=m"
        }
        // Polar stereographic: north (sea ice, Arctic) and south.
        3413 => "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +x_0=0 +y_0=0 +datum=WGS84 +units=m",
        3995 => "+proj=stere +lat_0=90 +lat_ts=71 +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m",
        3031 => "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m",
        _ => return utm(code),
    };
    Some(fixed.to_owned())
}

/// UTM on WGS 84 (north, south) and on ETRS89.
fn utm(code: u32) -> Option<String> {
    match code {
        32601..=32660 => Some(format!("+proj=utm +zone={} +datum=WGS84 +units=m", code - 32600)),
        32701..=32760 => Some(format!("+proj=utm +zone={} +south +datum=WGS84 +units=m", code - 32700)),
        25828..=25838 => Some(format!("+proj=utm +zone={} +ellps=GRS80 +towgs84=0,0,0,0,0,0,0 +units=m", code - 25800)),
        _ => None,
    }
}
