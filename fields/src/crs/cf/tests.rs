//! What is written is read back, and files of others too.

use super::*;
use crate::crs::{PlaneUnit, Projection};

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
        "+proj=geos +lon_0=0 +h=35785831 +datum=WGS84",
        "+proj=geos +lon_0=10 +h=35786023 +sweep=x +ellps=GRS80",
        "+proj=cea +lon_0=20 +lat_ts=30 +datum=WGS84",
        "+proj=ortho +lon_0=20 +lat_0=55 +R=6371000",
        "+proj=sinu +lon_0=20 +R=6371007.181",
        "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18",
        "EPSG:3067",
        "EPSG:4326",
    ] {
        let mut attributes = write_grid_mapping(proj, None).unwrap();
        let exact = read_grid_mapping(&attributes, 1.0).unwrap().proj;
        assert_eq!(exact, proj);
        attributes.remove("proj4");
        let back = read_grid_mapping(&attributes, 1.0).unwrap().proj;
        let (a, b) = (place(proj), place(&back));
        assert!((a.0 - b.0).abs() < 1e-3 && (a.1 - b.1).abs() < 1e-3, "{proj} -> {back}: {a:?} {b:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut attributes = CfAttributes::new();
    assert!(read_grid_mapping(&attributes, 1.0).unwrap_err().to_string().contains("grid_mapping_name"));
    attributes.insert("grid_mapping_name".into(), CfValue::Text("lambert_conformal_conic".into()));
    assert!(read_grid_mapping(&attributes, 1.0).unwrap_err().to_string().contains("standard_parallel"));
    attributes.insert("grid_mapping_name".into(), CfValue::Text("healpix".into()));
    assert!(read_grid_mapping(&attributes, 1.0).unwrap_err().to_string().contains("healpix"));
}

fn text(value: &str) -> CfValue {
    CfValue::Text(value.to_owned())
}

fn number(value: f64) -> CfValue {
    CfValue::Numbers(vec![value])
}

#[test]
fn a_projection_without_a_name_keeps_its_proj_string() {
    for proj in ["+proj=gnom +lat_0=47.5 +lon_0=19 +R=6371000 +units=m", "EPSG:28992", "+proj=eqc +datum=WGS84"] {
        let attributes = write_grid_mapping(proj, Some("PROJCRS[]")).unwrap();
        assert!(!attributes.contains_key("grid_mapping_name") && attributes.contains_key("crs_wkt"), "{proj}");
        let back = read_grid_mapping(&attributes, 1.0).unwrap();
        assert_eq!((back.proj.as_str(), back.well_known.as_deref()), (proj, Some("PROJCRS[]")));
    }
}

#[test]
fn lengths_in_kilometres() {
    let mut attributes = write_grid_mapping("+proj=tmerc +lon_0=27 +k=0.9996 +a=6378137 +b=6356752", None).unwrap();
    attributes.remove("proj4");
    attributes.insert("false_easting".into(), number(500.0));
    let in_kilometres = read_grid_mapping(&attributes, 1000.0).unwrap().proj;
    assert!(in_kilometres.contains("+x_0=500000 "), "{in_kilometres}");
    attributes.insert("false_easting".into(), number(500_000.0));
    assert_eq!(read_grid_mapping(&attributes, 1000.0).unwrap().proj, in_kilometres, "in metres all the same");
    attributes.insert("semi_major_axis".into(), number(6378.137));
    attributes.insert("semi_minor_axis".into(), number(6356.752));
    assert_eq!(read_grid_mapping(&attributes, 1000.0).unwrap().proj, in_kilometres);
    attributes.insert("proj4_params".into(), text("+proj=stere +lat_0=90 +a=6378.14 +b=6356.75 +x_0=0 y_0=0"));
    let knmi = read_grid_mapping(&attributes, 1000.0).unwrap();
    assert_eq!(knmi.unit, PlaneUnit::Metres(1000.0));
    assert!(knmi.proj.contains("+a=6378140 ") && knmi.source.contains("proj4_params"), "{knmi:?}");
}

#[test]
fn the_sweep_of_a_geostationary_view() {
    let of = |key: &str, axis: &str| {
        let attributes = CfAttributes::from([
            ("grid_mapping_name".to_owned(), text("geostationary")),
            ("longitude_of_projection_origin".to_owned(), number(-75.0)),
            ("perspective_point_height".to_owned(), number(35_786.023)),
            (key.to_owned(), text(axis)),
        ]);
        read_grid_mapping(&attributes, 1.0).unwrap().proj
    };
    for (key, axis, sweep) in [
        ("sweep_angle_axis", "x", "+sweep=x"),
        ("sweep_angle_axis", "y", "+sweep=y"),
        ("fixed_angle_axis", "y", "+sweep=x"),
        ("comment", "", "+sweep=y"),
    ] {
        let proj = of(key, axis);
        assert!(proj.contains(sweep) && proj.contains("+h=35786023 "), "{key}={axis}: {proj}");
    }
}
