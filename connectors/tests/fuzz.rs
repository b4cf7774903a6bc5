//! Every decoder on damaged input: a value or an error, never a panic and never a hang.
//!
//! Each test damages what it is given for `SQUALL_FUZZ_SECONDS` (3 if it is not set). What goes through the C libraries
//! goes through helper processes, as in the program. Those libraries crash on some files, and HDF5 1.10 loops for ever on
//! others: that costs the file, and no more time than the decoder's patience. A panic of ours fails the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use squall_connectors::gridded::{Attribute, Notes, NumberType, Packing};
use squall_connectors::isolate::{Format, IsolatedDecoder, run_if_helper};
use squall_connectors::options::{Limits, ReadOptions};
use squall_connectors::station::{StationDecoder, reports_json};
use squall_fields::crs::{Plane, wkt};
use squall_fields::time_units::TimeUnits;
use squall_fields::{InputRef, ScaledUnit, Verdict};
use squall_operators::ports::{FrameDecoder, ReportDecoder};

/// Not a test: what the helper processes of the tests below run, in this test binary.
#[test]
fn helper() {
    run_if_helper();
}

/// One change of bytes.
#[derive(Clone, Debug)]
enum Damage {
    Overwrite(Index, u8),
    Flip(Index, u8),
    /// Four bytes that look like a count, a length or an offset.
    Count(Index, u32),
    Cut(Index),
    Remove(Index, u8),
    Repeat(Index, u8),
}

impl Damage {
    fn strategy() -> impl Strategy<Value = Self> {
        let count = prop_oneof![Just(0), Just(1), Just(u32::MAX), Just(1 << 31), any::<u32>()];
        prop_oneof![
            4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Self::Overwrite(at, value)),
            4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            2 => (any::<Index>(), count).prop_map(|(at, count)| Self::Count(at, count)),
            1 => any::<Index>().prop_map(Self::Cut),
            1 => (any::<Index>(), 1..16u8).prop_map(|(at, len)| Self::Remove(at, len)),
            1 => (any::<Index>(), 1..16u8).prop_map(|(at, len)| Self::Repeat(at, len)),
        ]
    }

    /// `reach` is how far from the beginning the change lies.
    fn apply(&self, bytes: &mut Vec<u8>, reach: usize) {
        let reach = reach.min(bytes.len());
        if reach == 0 {
            return;
        }
        let span = |at: usize, len: u8, bytes: &[u8]| at..(at + usize::from(len)).min(bytes.len());
        match self {
            Self::Overwrite(at, value) => bytes[at.index(reach)] = *value,
            Self::Flip(at, bit) => bytes[at.index(reach)] ^= 1 << bit,
            Self::Count(at, count) => {
                let at = at.index(reach);
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&count.to_be_bytes()[..end - at]);
            }
            Self::Cut(at) => bytes.truncate(at.index(reach)),
            Self::Remove(at, len) => {
                bytes.drain(span(at.index(reach), *len, bytes));
            }
            Self::Repeat(at, len) => {
                let at = at.index(reach);
                let part = bytes[span(at, *len, bytes)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

/// Calls `one` with values of a strategy until the time is over; how many there were.
fn for_a_while<S: Strategy>(strategy: &S, mut one: impl FnMut(S::Value)) -> usize {
    let seconds = std::env::var("SQUALL_FUZZ_SECONDS").map_or(3.0, |text| text.parse().expect("seconds, as a number"));
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut runner = TestRunner::deterministic();
    let mut count = 0;
    while count < 10 || Instant::now() < until {
        one(strategy.new_tree(&mut runner).expect("the strategy rejects nothing").current());
        count += 1;
    }
    count
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases")
}

/// Files of the cases, by an ending and by how they begin.
fn files(ending: &str, magic: &[u8]) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder()).expect("tests/cases is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a case can be read");
        (bytes.starts_with(magic) && path.extension()? == ending).then(|| (path.display().to_string(), bytes))
    };
    let mut files: Vec<_> = paths.filter_map(read).collect();
    files.sort();
    assert!(!files.is_empty(), "no {ending} in {}", folder().display());
    files
}

/// How long a helper may take for a file of a few kilobytes, and to start, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Damages files and has them decoded in a helper process.
fn decode(format: Format, files: &[(String, Vec<u8>)]) {
    let limits = Limits { max_cells: 1 << 20, max_fields: 1000, max_bytes: 4 << 20 };
    let options = ReadOptions { limits, amount_interval_seconds: Some(300.0), ..ReadOptions::default() };
    let decoder = IsolatedDecoder::with_command(format, options, || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "helper", "--nocapture", "--test-threads=1"]);
        Ok(command)
    })
    .with_patience(PATIENCE);
    let input = InputRef { topic: Arc::from("t"), partition: 0, offset: 0, digest: Arc::from("") };
    let (mut read, mut refused, mut broke) = (0, 0, 0);
    let strategy = (any::<Index>(), any::<bool>(), prop::collection::vec(Damage::strategy(), 1..6));
    let count = for_a_while(&strategy, |(index, near, damage)| {
        let (name, bytes) = &files[index.index(files.len())];
        let mut damaged = bytes.clone();
        // Half of the damage goes where structure is denser than data.
        let reach = if near { 2048 } else { damaged.len() };
        damage.iter().for_each(|damage| damage.apply(&mut damaged, reach));
        let (damaged, started) = (Bytes::from(damaged), Instant::now());
        match decoder.decode(&damaged, &input) {
            Ok(frames) => {
                assert!(frames.iter().all(|f| (f.values.dim().1, f.values.dim().2) == f.grid.shape()), "{name}");
                read += 1;
            }
            Err(error) => {
                let error = error.to_string();
                // 101 is how a test process ends that panicked; a helper is started and asked within two patiences.
                let is_ours = error.contains("exit status: 101") || started.elapsed() > 3 * PATIENCE;
                if is_ours {
                    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-failure");
                    std::fs::write(&kept, &damaged).expect("the damaged file can be kept");
                    panic!("{} is kept: {name}, damaged by {damage:?}: {error}", kept.display());
                }
                if error.contains("broke") { broke += 1 } else { refused += 1 }
            }
        }
    });
    eprintln!("{format:?}: {count} files, {read} read, {refused} refused, {broke} broke the library");
    let (name, whole) = files.last().expect("there is a file");
    assert!(decoder.decode(&Bytes::from(whole.clone()), &input).is_ok(), "{name} is read after all that");
    assert!(refused > 0, "nothing was refused");
}

#[test]
fn netcdf_classic() {
    let mut files = files("nc", b"CDF");
    files.retain(|(name, _)| !name.ends_with("cut3.nc"));
    decode(Format::Netcdf, &files);
}

#[test]
fn netcdf_4() {
    let mut files = files("nc", b"\x89HDF");
    files.retain(|(name, _)| !name.ends_with("cut4.nc"));
    decode(Format::Netcdf, &files);
}

#[test]
fn odim() {
    decode(Format::Odim, &files("h5", b"\x89HDF"));
}

/// Damaged texts: seeds, changed, as text again.
fn texts(seeds: &'static [&'static str]) -> impl Strategy<Value = String> {
    let damage = prop::collection::vec(Damage::strategy(), 0..5);
    (prop::sample::select(seeds), damage).prop_map(|(seed, damage)| {
        let mut bytes = seed.as_bytes().to_vec();
        damage.iter().for_each(|damage| damage.apply(&mut bytes, usize::MAX));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[test]
fn station_reports() {
    let seeds: &[&str] = &[
        r#"{"station": {"id": "a", "name": "\u00c5s", "latitude": 57.72, "longitude": -12.04, "elevation_m": 20.5},
        "time": "2015-08-27T14:05:00.5+02:00", "readings": [
        {"standard_name": "precipitation_amount", "value": 0.2, "units": "kg m-2", "period_seconds": 600},
        {"standard_name": "wind_speed", "value": 1e1, "units": "knot", "quality": "suspect"},
        {"standard_name": "wind_from_direction", "value": null, "units": "degree"}]}"#,
        r#"[{"station": {"id": "b"}, "time": "2019-02-17T06:00:00Z", "readings": [
        {"standard_name": "eastward_wind", "value": -3.25, "units": "m s-1"}, {"standard_name": "x", "value": [{}]}]},
        {"station": {"id": "c", "latitude": -90, "longitude": 360}, "time": "0001-01-01T00:00:00Z", "readings": [
        {"standard_name": "rainfall_flux", "value": 123456789e-10, "units": "kg m-2 s-1"}]}]"#,
    ];
    let decoder = StationDecoder::default();
    let input = InputRef { topic: Arc::from("t"), partition: 0, offset: 0, digest: Arc::from("") };
    let (mut read, mut refused, mut broken) = (0, 0, 0);
    let strategy = (prop::sample::select(seeds), prop::collection::vec(Damage::strategy(), 0..4));
    let count = for_a_while(&strategy, |(seed, damage)| {
        let mut bytes = seed.as_bytes().to_vec();
        damage.iter().for_each(|damage| damage.apply(&mut bytes, usize::MAX));
        let Ok(reports) = decoder.decode(&bytes.clone().into(), &input) else {
            broken += 1;
            return;
        };
        let text = String::from_utf8_lossy(&bytes);
        (read, refused) = (read + reports.reports.len(), refused + reports.refused.len());
        for report in &reports.reports {
            let is_sound = |r: &squall_fields::Reading| r.value.is_finite() || r.flags.overall() == Verdict::Missing;
            assert!(report.readings.iter().all(is_sound) && !report.readings.is_empty(), "{text}");
        }
        let again = decoder.decode(&reports_json(&reports.reports).into(), &input).expect("what is written is JSON");
        assert_eq!(again.reports, reports.reports, "{text}");
    });
    eprintln!("{count} records: {read} reports read, {refused} refused, {broken} records refused whole");
    assert!(read > 0 && refused > 0 && broken > 0, "the damage is neither nothing nor everything");
}

#[test]
fn time_units() {
    let seeds = &[
        "seconds since 1970-01-01 00:00:00 UTC",
        "1e-3 s since 20160928T140000Z",
        "hours since 1-1-1 00:00:0.0",
        "days since -4713-01-01 12:00 +03:00",
    ];
    let calendars = prop::sample::select(vec![None, Some("standard"), Some("julian"), Some("proleptic_gregorian")]);
    for_a_while(&(texts(seeds), calendars, any::<f64>()), |(text, calendar, value)| {
        if let Ok(units) = TimeUnits::parse(&text, calendar) {
            let slot = units.decode(value);
            assert!(slot.is_err() || value.is_finite(), "{text}: {value}");
        }
    });
}

#[test]
fn units() {
    let seeds = &["mm/5min", "0.1 mm h-1", "kg/(m^2 s)", "kg m**-2 s**-1", "1e-2 mm", "dBZ", "mm\u{b7}h\u{207b}\u{b9}"];
    for_a_while(&texts(seeds), |text| {
        if let Ok(unit) = ScaledUnit::parse(&text) {
            assert!(unit.factor > 0.0 && unit.factor.is_finite(), "{text}: {unit:?}");
        }
    });
}

#[test]
fn reference_systems() {
    let seeds = &[
        r#"PROJCRS["RD",BASEGEOGCRS["A",DATUM["A",ELLIPSOID["Bessel 1841",6377397.155,299.1528128,LENGTHUNIT["metre",1]]]],
        CONVERSION["RD New",METHOD["Oblique Stereographic"],PARAMETER["Latitude of natural origin",52.15],
        PARAMETER["False easting",155000,LENGTHUNIT["metre",1]]],CS[Cartesian,2],ID["EPSG",28992]]"#,
        r#"PROJCS["x",GEOGCS["g",DATUM["d",SPHEROID["s",6378137,298.25]],UNIT["degree",0.0174532925199433]],
        PROJECTION["Lambert_Conformal_Conic_2SP"],PARAMETER["standard_parallel_1",33],UNIT["kilometre",1000]]"#,
    ];
    let proj = &[
        "+proj=stere +lat_0=90 +lon_0=0 +lat_ts=60 +a=6378.14 +b=6356.75 +units=km",
        "EPSG:28992",
        "+proj=geos +h=35785831",
    ];
    for_a_while(&(texts(seeds), texts(proj)), |(text, proj)| {
        let found = wkt::proj_string(&text).ok();
        for proj in found.iter().chain([&proj]) {
            if let Ok(plane) = Plane::parse(proj) {
                assert!(Plane::parse(&plane.proj).is_ok(), "{proj} became {}", plane.proj);
            }
        }
    });
}

#[test]
fn packing_of_cf() {
    use NumberType::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    const TYPES: [NumberType; 10] = [I8, U8, I16, U16, I32, U32, I64, U64, F32, F64];
    const KEYS: [&str; 8] = [
        "_FillValue",
        "missing_value",
        "scale_factor",
        "add_offset",
        "valid_range",
        "valid_min",
        "valid_max",
        "_Unsigned",
    ];
    let kind = || prop::sample::select(&TYPES[..]);
    let numbers = (prop::collection::vec(prop_oneof![any::<f64>(), (-300..300i32).prop_map(f64::from)], 0..3), kind());
    let attribute = prop_oneof![
        numbers.prop_map(|(numbers, kind)| Attribute::Numbers(numbers, kind)),
        texts(&["0.01", "true", "0, 100", "-9999"]).prop_map(Attribute::Text),
    ];
    let attributes = prop::collection::btree_map(prop::sample::select(&KEYS[..]), attribute, 0..6);
    for_a_while(&(kind(), attributes), |(stored, attributes)| {
        let mut notes = Notes::default();
        if let Ok(packing) = Packing::of_cf("rain", stored, |key| attributes.get(key), &mut notes) {
            assert!(packing.scale.is_finite() && packing.scale != 0.0 && packing.offset.is_finite());
            assert!(packing.valid.0 <= packing.valid.1, "{attributes:?}: {packing:?}");
            assert!(packing.missing.iter().all(|missing| packing.stored.hold(missing.value).is_some()), "{packing:?}");
        }
    });
}
