//! Texts of other programs.

use proptest::prelude::*;

use super::*;

fn wkt1(projection: &str, parameters: &str, unit: &str) -> String {
    format!(
        r#"PROJCS["x",GEOGCS["g",DATUM["d",SPHEROID["GRS 1980",6378137,298.257222101]],PRIMEM["Greenwich",0],
        UNIT["degree",0.0174532925199433]],PROJECTION["{projection}"],{parameters}{unit}]"#
    )
}

#[test]
fn planes_in_kilometres_and_feet() {
    let parameters =
        r#"PARAMETER["central_meridian",27],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500],"#;
    let proj = proj_string(&wkt1("Transverse_Mercator", parameters, r#"UNIT["kilometre",1000]"#)).unwrap();
    assert!(proj.contains("+x_0=500000 ") && proj.ends_with("+to_meter=1000"), "{proj}");
    let metres = proj_string(&wkt1("Transverse_Mercator", parameters, r#"UNIT["metre",1]"#)).unwrap();
    assert!(metres.contains("+x_0=500 ") && !metres.contains("to_meter"), "{metres}");
}

#[test]
fn methods_without_a_name_in_cf() {
    for (method, parameters, expected) in [
        ("Gnomonic", r#"PARAMETER["latitude_of_origin",47.5],PARAMETER["central_meridian",19],"#, "+proj=gnom"),
        ("Double_Stereographic", r#"PARAMETER["central_meridian",5],"#, "+proj=sterea"),
        (
            "Geostationary_Satellite",
            r#"PARAMETER["central_meridian",0],PARAMETER["satellite_height",35785831],"#,
            "+proj=geos +lon_0=0 +h=35785831",
        ),
    ] {
        let proj = proj_string(&wkt1(method, parameters, r#"UNIT["metre",1]"#)).unwrap();
        assert!(proj.contains(expected), "{proj}");
    }
    let oblique = r#"PARAMETER["azimuth",45],PARAMETER["longitude_of_center",10],"#;
    let error = proj_string(&wkt1("Hotine_Oblique_Mercator_Azimuth_Center", oblique, "")).unwrap_err();
    assert!(error.to_string().contains("azimuth is 45"), "{error}");
}

#[test]
fn the_sphere_of_web_maps() {
    let wgs84 = wkt1("Popular Visualisation Pseudo Mercator", "", r#"UNIT["metre",1]"#);
    assert!(proj_string(&wgs84).unwrap().contains("+a=6378137 +b=6378137"));
    let proj4 = r#"EXTENSION["PROJ4","+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +units=m"],"#;
    assert!(proj_string(&wkt1("Mercator_1SP", proj4, "")).unwrap().starts_with("+proj=merc +a=6378137 +b=6378137"));
}

#[test]
fn the_shift_of_a_bound_system() {
    let bound = |method: &str, rotations: &str| {
        let parameters = r#"PARAMETER["central_meridian",27],"#;
        let source = wkt1("Transverse_Mercator", parameters, r#"UNIT["kilometre",1000]"#);
        format!(
            r#"BOUNDCRS[SOURCECRS[{source}],TARGETCRS[GEOGCRS["WGS 84",ELLIPSOID["WGS 84",6378137,298.257223563]]],
            ABRIDGEDTRANSFORMATION["t",METHOD["{method}"],PARAMETER["X-axis translation",1.5],
            PARAMETER["Y-axis translation",2],PARAMETER["Z-axis translation",3]{rotations}]]"#
        )
    };
    let three = proj_string(&bound("Geocentric translations (geog2D domain)", "")).unwrap();
    assert!(three.contains("+towgs84=1.5,2,3 ") && three.ends_with("+to_meter=1000"), "{three}");
    let rotations = r#",PARAMETER["X-axis rotation",0.1],PARAMETER["Y-axis rotation",-0.2],
        PARAMETER["Z-axis rotation",0.3],PARAMETER["Scale difference",1.0000040725]"#;
    let seven = proj_string(&bound("Position Vector transformation (geog2D domain)", rotations)).unwrap();
    assert!(seven.contains("+towgs84=1.5,2,3,0.1,-0.2,0.3,4.0725"), "{seven}");
    let frame = proj_string(&bound("Coordinate Frame rotation (geog2D domain)", rotations)).unwrap();
    assert!(frame.contains("+towgs84=1.5,2,3,-0.1,0.2,-0.3,4.0725"), "{frame}");
}

/// (5 E, 52 N) by PROJ 9 with its database.
#[test]
fn the_datum_shift_of_a_known_code() {
    let text = r#"PROJCRS["Amersfoort / RD New",BASEGEOGCRS["Amersfoort",DATUM["Amersfoort",
        ELLIPSOID["Bessel 1841",6377397.155,299.1528128,LENGTHUNIT["metre",1]]],
        PRIMEM["Greenwich",0,ANGLEUNIT["degree",0.0174532925199433]],ID["EPSG",4289]],
        CONVERSION["RD New",METHOD["Oblique Stereographic",ID["EPSG",9809]],
        PARAMETER["Latitude of natural origin",52.1561605555556,ANGLEUNIT["degree",0.0174532925199433]],
        PARAMETER["Longitude of natural origin",5.38763888888889,ANGLEUNIT["degree",0.0174532925199433]],
        PARAMETER["Scale factor at natural origin",0.9999079,SCALEUNIT["unity",1]],
        PARAMETER["False easting",155000,LENGTHUNIT["metre",1]],
        PARAMETER["False northing",463000,LENGTHUNIT["metre",1]]],CS[Cartesian,2],
        AXIS["easting (X)",east,ORDER[1],LENGTHUNIT["metre",1]],ID["EPSG",28992]]"#;
    let proj = proj_string(text).unwrap();
    let (lat, lon) = Projection::parse(&proj).unwrap().to_lat_lon(128_410.085_37, 445_806.508_83).unwrap();
    assert!((lat - 52.0).abs() < 1e-5 && (lon - 5.0).abs() < 1e-5, "{proj}: {lat} {lon}");
}

proptest! {
    #[test]
    fn any_text_is_a_system_or_an_error(text in r#"[A-Z]{0,6}(\[|\()?["A-Za-z0-9,.\[\]()]{0,60}"#) {
        let _ = proj_string(&text);
    }
}
