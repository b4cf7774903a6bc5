//! Files as other programs write them, made here: each reads as it is meant, or is refused.

use ::netcdf::{AttributeValue, GroupMut};
use squall_fields::{Unit, Variable};

use super::Reader;
use super::create::to_bytes;
use crate::error::FileError;
use crate::options::ReadOptions;

/// Attributes of a variable.
type Attributes<'a> = &'a [(&'a str, AttributeValue)];

fn text(value: &str) -> AttributeValue {
    AttributeValue::Str(value.to_owned())
}

fn put<T: ::netcdf::NcTypeDescriptor>(
    group: &mut GroupMut<'_>,
    name: &str,
    dimensions: &[&str],
    values: &[T],
    attributes: Attributes<'_>,
) {
    let mut variable = group.add_variable::<T>(name, dimensions).unwrap();
    for (key, value) in attributes {
        variable.put_attribute(key, value.clone()).unwrap();
    }
    variable.put_values(values, ..).unwrap();
}

fn axis(group: &mut GroupMut<'_>, name: &str, values: &[f64], attributes: Attributes<'_>) {
    group.add_dimension(name, values.len()).unwrap();
    put(group, name, &[name], values, attributes);
}

fn bytes(build: impl FnOnce(&mut GroupMut<'_>)) -> Vec<u8> {
    to_bytes(|draft| {
        build(&mut draft.file.root_mut().unwrap());
        Ok(())
    })
    .unwrap()
}

const SECONDS: &str = "seconds since 1970-01-01";
const NOON: f64 = 1_475_064_000.0;

/// Two slots, five minutes apart, of two rows and three columns.
fn plane(group: &mut GroupMut<'_>, x_units: &str, step: f64) {
    axis(group, "time", &[NOON, NOON + 300.0], &[("units", text(SECONDS))]);
    let units = ("units", text(x_units));
    let y: Attributes<'_> = &[units.clone(), ("standard_name", text("projection_y_coordinate"))];
    axis(group, "y", &[5.0 * step, 4.0 * step], y);
    axis(group, "x", &[1.0 * step, 2.0 * step, 3.0 * step], &[units, ("axis", text("X"))]);
}

const RAIN: [f32; 12] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];

fn rain(group: &mut GroupMut<'_>, units: &str, attributes: Attributes<'_>) {
    let mut all = vec![("units", text(units))];
    all.extend_from_slice(attributes);
    put(group, "rain", &["time", "y", "x"], &RAIN, &all);
}

fn read(bytes: &[u8]) -> Result<Vec<Vec<f32>>, FileError> {
    let reader = Reader::from_bytes(bytes, &ReadOptions::of(&[Variable::RainRate]))?;
    (0..reader.len()).map(|index| Ok(reader.frame(index)?.values.iter().copied().collect())).collect()
}

fn noted(bytes: &[u8]) -> String {
    let reader = Reader::from_bytes(bytes, &ReadOptions::of(&[Variable::RainRate])).unwrap();
    reader.notes().iter().map(|note| format!("{note}\n")).collect()
}

#[test]
fn imerg_as_it_comes() {
    let file = bytes(|root| {
        let mut grid = root.add_group("Grid").unwrap();
        let degrees = |name: &str, unit: &str| [("standard_name", text(name)), ("units", text(unit))];
        grid.add_dimension("time", 1).unwrap();
        let time = [("units", text("seconds since 1970-01-01 00:00:00 UTC")), ("calendar", text("julian"))];
        put(&mut grid, "time", &["time"], &[NOON as i32], &time);
        axis(&mut grid, "lon", &[-179.95, -179.85, -179.75], &degrees("longitude", "degrees_east"));
        axis(&mut grid, "lat", &[10.05, 10.15], &degrees("latitude", "degrees_north"));
        let attributes = [("units", text("mm/hr")), ("_FillValue", AttributeValue::Float(-9999.9))];
        let values = [1f32, 2.0, 3.0, 4.0, 5.0, -9999.9];
        put(&mut grid, "precipitation", &["time", "lon", "lat"], &values, &attributes);
        let mut inner = grid.add_group("Intermediate").unwrap();
        put(&mut inner, "MWprecipitation", &["time", "lon", "lat"], &[9f32; 6], &attributes);
    });
    let reader = Reader::from_bytes(&file, &ReadOptions::of(&[Variable::RainRate])).unwrap();
    assert_eq!(reader.slots()[0].to_rfc3339(), "2016-09-28T12:00:00Z");
    let frame = reader.frame(0).unwrap();
    // North first: latitude 10.15 before 10.05.
    let values: Vec<f32> = frame.values.iter().copied().collect();
    assert!(values[..2] == [2.0, 4.0] && values[2].is_nan() && values[3..] == [1.0, 3.0, 5.0], "{values:?}");
    let (latitude, longitude) = frame.grid.lat_lon(0.0, 0.0).unwrap();
    assert!((latitude - 10.15).abs() < 1e-9 && (longitude + 179.95).abs() < 1e-9);
    let notes = noted(&file);
    assert!(notes.contains("group: the variables are read from the group Grid") && notes.contains("julian"), "{notes}");
}

#[test]
fn a_group_sees_what_is_around_it() {
    let file = bytes(|root| {
        plane(root, "m", 1000.0);
        let mapping = [("proj4", text("+proj=stere +lat_0=90 +lon_0=0 +R=6371000"))];
        put(root, "crs", &[], &[0i32], &mapping);
        let mut inner = root.add_group("a/b").unwrap();
        rain(&mut inner, "mm/h", &[("grid_mapping", text("/crs"))]);
    });
    assert_eq!(read(&file).unwrap()[1], RAIN[6..]);
    assert!(noted(&file).contains("by the PROJ string `proj4` of crs"));
    let nothing = bytes(|root| {
        let mut group = root.add_group("empty").unwrap();
        put(&mut group, "n", &[], &[1i32], &[]);
    });
    assert!(read(&nothing).unwrap_err().to_string().contains("empty/n"));
}

#[test]
fn each_frame_has_the_interval_of_its_own_bounds() {
    let amounts = |bounds: Option<&[f64]>, named: &str| {
        bytes(|root| {
            plane(root, "m", 1000.0);
            root.variable_mut("time").unwrap().put_attribute("bounds", named).unwrap();
            if let Some(bounds) = bounds {
                root.add_dimension("nv", bounds.len() / 2).unwrap();
                put(root, "time_bnds", &["time", "nv"], bounds, &[]);
            }
            rain(root, "kg m-2", &[("standard_name", text("precipitation_amount"))]);
        })
    };
    let both = amounts(Some(&[NOON - 900.0, NOON, NOON + 300.0, NOON - 3300.0]), "time_bnds");
    let values = read(&both).unwrap();
    assert_eq!((values[0][0], values[1][0]), (4.0, 7.0), "a quarter of an hour, and an hour that is given backwards");
    assert!(noted(&both).contains("15 min, 1 h by the time bounds time_bnds"), "{}", noted(&both));
    for broken in [amounts(None, "nowhere"), amounts(Some(&[0.0; 6]), "time_bnds")] {
        assert_eq!(read(&broken).unwrap()[0][0], 12.0, "since the slot before");
        assert!(noted(&broken).contains("skipped: the time bounds"), "{}", noted(&broken));
    }
    let options = ReadOptions { amount_interval_seconds: Some(600.0), ..ReadOptions::of(&[Variable::RainRate]) };
    let cadence = |file: &[u8]| Reader::from_bytes(file, &options).unwrap().frame(0).unwrap().values[[0, 0, 0]];
    assert_eq!((cadence(&both), cadence(&amounts(None, ""))), (4.0, 6.0), "bounds before the cadence");
}

#[test]
fn units_that_name_their_interval() {
    for (units, factor) in [("mm/5min", 12.0), ("mm/15min", 4.0), ("0.1 mm h-1", 0.1), ("kg m-2 s-1", 3600.0)] {
        let file = bytes(|root| {
            plane(root, "m", 1000.0);
            rain(root, units, &[("standard_name", text("precipitation_amount"))]);
        });
        let value = read(&file).unwrap()[0][0];
        assert!((value / factor - 1.0).abs() < 1e-6, "{units}: {value}");
    }
}

#[test]
fn a_quality_that_cannot_be_read_costs_the_quality() {
    let with = |attributes: Attributes<'_>, dimensions: &[&str], values: &[u8]| {
        bytes(|root| {
            plane(root, "m", 1000.0);
            rain(root, "mm/h", &[]);
            put(root, "quality_index", dimensions, values, attributes);
        })
    };
    let scale = ("scale_factor", AttributeValue::Double(0.1));
    let quality = |file: &[u8]| Reader::from_bytes(file, &ReadOptions::default()).unwrap().frame(0).unwrap().quality;
    let good = with(&[scale], &["time", "y", "x"], &[5; 12]);
    assert_eq!(quality(&good).unwrap()[[0, 0]], 0.5);
    for bad in [with(&[("scale_factor", text("half"))], &["time", "y", "x"], &[5; 12]), with(&[], &["y", "x"], &[5; 6])]
    {
        assert!(quality(&bad).is_none() && read(&bad).unwrap()[0] == RAIN[..6]);
        assert!(noted(&bad).contains("skipped: quality_index"), "{}", noted(&bad));
    }
}

#[test]
fn axes_are_in_the_unit_of_the_file_or_of_the_projection() {
    let stere = "+proj=stere +lat_0=90 +lon_0=0 +lat_ts=60";
    let first = |units: &str, step: f64, proj: &str| {
        let file = bytes(|root| {
            plane(root, units, step);
            put(root, "crs", &[], &[0i32], &[("proj4", text(proj))]);
            rain(root, "mm/h", &[("grid_mapping", text("crs"))]);
        });
        let reader = Reader::from_bytes(&file, &ReadOptions::default())?;
        Ok::<_, FileError>((reader.grid().x.first, reader.grid().x.step))
    };
    for (units, step, proj) in [
        ("m", 1000.0, format!("{stere} +R=6371000")),
        ("km", 1.0, format!("{stere} +R=6371000")),
        ("km", 1.0, format!("{stere} +R=6371 +units=km")),
        ("", 1.0, format!("{stere} +R=6371000 +units=km")),
        ("", 1.0, format!("{stere} +R=6371")),
        ("m", 1000.0, format!("{stere} +R=6371")),
        ("1", 1000.0, format!("{stere} +R=6371000")),
    ] {
        assert_eq!(first(units, step, &proj).unwrap(), (1000.0, 1000.0), "{units} {proj}");
    }
    for (units, proj) in [("m", "+proj=longlat +datum=WGS84"), ("degrees", stere), ("pixel", stere)] {
        let error = first(units, 1.0, proj).unwrap_err().to_string();
        assert!(error.contains(units), "{error}");
    }
}

#[test]
fn longitude_and_latitude_beside_the_mapping_of_a_plane() {
    let file = bytes(|root| {
        axis(root, "time", &[NOON], &[("units", text(SECONDS))]);
        axis(root, "lat", &[50.0, 49.0], &[("units", text("degrees_north"))]);
        axis(root, "lon", &[179.0, -180.0, -179.0], &[("units", text("degrees_east"))]);
        put(root, "crs", &[], &[0i32], &[("proj4", text("+proj=stere +lat_0=90 +R=6371000"))]);
        let attributes = [("units", text("mm/h")), ("grid_mapping", text("crs"))];
        put(root, "rain", &["time", "lat", "lon"], &RAIN[..6], &attributes);
    });
    let reader = Reader::from_bytes(&file, &ReadOptions::default()).unwrap();
    assert_eq!((reader.grid().proj.as_str(), reader.grid().x.step), ("EPSG:4326", 1.0));
}

#[test]
fn angles_of_a_satellite_packed_in_integers() {
    let file = bytes(|root| {
        axis(root, "time", &[NOON], &[("units", text(SECONDS))]);
        let packed = |name: &str| {
            [
                ("units", text("rad")),
                ("standard_name", text(name)),
                ("scale_factor", AttributeValue::Float(5.6e-5)),
                ("add_offset", AttributeValue::Float(-0.02)),
            ]
        };
        for (name, standard, len) in [("y", "projection_y_coordinate", 2), ("x", "projection_x_coordinate", 3)] {
            root.add_dimension(name, len).unwrap();
            let values: Vec<i16> = (0..len as i16).map(|i| if name == "y" { 10 - i } else { i }).collect();
            put(root, name, &[name], &values, &packed(standard));
        }
        let mapping = [
            ("grid_mapping_name", text("geostationary")),
            ("perspective_point_height", AttributeValue::Double(35_786_023.0)),
            ("longitude_of_projection_origin", AttributeValue::Double(-75.0)),
            ("sweep_angle_axis", text("x")),
        ];
        put(root, "goes", &[], &[0i32], &mapping);
        let attributes = [("units", text("mm/h")), ("grid_mapping", text("goes"))];
        put(root, "RRQPE", &["time", "y", "x"], &RAIN[..6], &attributes);
    });
    let reader = Reader::from_bytes(&file, &ReadOptions::default()).unwrap();
    let grid = reader.grid();
    assert!((grid.x.first + 0.02 * 35_786_023.0).abs() < 1.0 && (grid.x.step - 2004.017).abs() < 0.01, "{grid:?}");
    assert!(grid.proj.contains("+sweep=x"), "{}", grid.proj);
}

#[test]
fn an_amount_that_is_wanted_is_one_of_a_step() {
    let file = bytes(|root| {
        plane(root, "m", 1000.0);
        root.variable_mut("time").unwrap().put_attribute("bounds", "b").unwrap();
        root.add_dimension("nv", 2).unwrap();
        put(root, "b", &["time", "nv"], &[NOON - 900.0, NOON, NOON - 600.0, NOON + 300.0], &[]);
        rain(root, Unit::KilogramsPerSquareMetre.symbol(), &[]);
    });
    let wanted = ReadOptions::of(&[Variable::PrecipitationAmount]);
    let first = |options: &ReadOptions| Reader::from_bytes(&file, options).unwrap().frame(0).unwrap().values[[0, 0, 2]];
    assert_eq!(first(&wanted), 3.0);
    assert_eq!(first(&ReadOptions { amount_interval_seconds: Some(300.0), ..wanted }), 1.0);
}

#[test]
fn steps_are_unpacked_in_the_type_of_scale_factor() {
    let packed = |units: &str, scale: AttributeValue| {
        let file = bytes(|root| {
            plane(root, "m", 1000.0);
            let values: Vec<i16> = (5..17).collect();
            put(root, "rain", &["time", "y", "x"], &values, &[("units", text(units)), ("scale_factor", scale)]);
        });
        read(&file).unwrap()[0][5]
    };
    assert_eq!(packed("mm/h", AttributeValue::Double(0.01)), 0.1);
    assert_eq!(packed("mm/h", AttributeValue::Float(0.01)), 0.099_999_994);
    assert_eq!(packed("mm/5min", AttributeValue::Double(0.01)), 1.2);
    assert_eq!(packed("0.01 mm/h", AttributeValue::Double(1.0)), 0.1);
}
