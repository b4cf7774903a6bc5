//! `squall verify` and `squall backtest` as a scientist runs them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use squall_connectors::netcdf::{Storage, WriteOptions, write_frames};
use squall_fields::Variable;
use squall_models::simulate::StormSettings;
use squall_pipeline::commands::simulate::frames;

fn squall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT").args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    squall(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn storm(folder: &Path, name: &str, frames: &str, seed: &str) -> String {
    let path = folder.join(name).display().to_string();
    let size = ["--size", "64x72", "--variables", "rain"];
    stdout(&[&["simulate", "--output", &path, "--frames", frames, "--seed", seed][..], &size].concat());
    path
}

const CONFIG: &str = r#"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[streams]]
name = "extrapolation"
source = "radar"
window_frames = 4
leads = 3
members = 1
model = { name = "extrapolation" }
thresholds = [1.0]
"#;

fn scores(json: &Value) -> &[Value] {
    json["scores"].as_array().unwrap()
}

/// The value and count of a score at a lead.
fn score(json: &Value, model: &str, lead: f64, name: &str) -> (Option<f64>, f64) {
    let wanted = |row: &&Value| {
        row["model"] == model && row["lead_minutes"] == lead && row["score"] == name && row["event"] == "all"
    };
    let row = scores(json).iter().find(wanted).unwrap_or_else(|| panic!("no {name} of {model} at {lead} in {json:#}"));
    (row["value"].as_f64(), row["count"].as_f64().unwrap())
}

fn read(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_forecast_file_has_the_scores_that_a_backtest_of_its_issue_time_has() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let storm = storm(folder.path(), "storm.nc", "7", "3");
    std::fs::write(at("c.toml"), CONFIG).unwrap();
    let time = ["--at", "2016-09-28T12:15:00Z", "--output", &at("out")];
    let made = stdout(&[&["forecast", &at("c.toml"), "--input", &storm][..], &time].concat());
    let verify = ["verify", "--forecast", made.trim(), "--observation", &storm, "--thresholds", "1", "--scales", "3"];
    let verified: Value = serde_json::from_str(&stdout(&[&verify[..], &["--format", "json"]].concat())).unwrap();
    for key in ["model", "lead_minutes", "score", "threshold", "scale", "value", "count"] {
        assert!(scores(&verified).iter().all(|row| row.get(key).is_some()), "{key}");
    }
    let one = ["--every", "10", "--thresholds", "1", "--scales", "3"];
    stdout(&[&["backtest", &at("c.toml"), "--input", &storm, "--report", &at("b")][..], &one].concat());
    let backtest = read(&folder.path().join("b"));
    for lead in [5.0, 10.0, 15.0] {
        for (name, tolerance) in [("crps", 0.005), ("mae", 0.005), ("csi", 0.01), ("fss", 0.01)] {
            let (file, own) =
                (score(&verified, "extrapolation", lead, name), score(&backtest, "extrapolation", lead, name));
            assert_eq!(file.1, own.1, "{name} at {lead}");
            // Files hold rain in steps of 0.01 mm/h.
            assert!((file.0.unwrap() - own.0.unwrap()).abs() < tolerance, "{name} at {lead}: {file:?} {own:?}");
        }
    }
    let table = stdout(&verify);
    assert!(table.starts_with("lead (min)") && table.contains("fss >=1 window 3"), "{table}");
    let csv = stdout(&[&verify[..], &["--format", "csv"]].concat());
    assert!(csv.lines().count() > 20 && csv.lines().all(|line| line.split(',').count() == 10), "{csv}");
}

#[test]
fn what_cannot_be_verified_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path(), "storm.nc", "4", "3");
    let small = folder.path().join("small.nc").display().to_string();
    stdout(&["simulate", "--output", &small, "--frames", "4", "--size", "32x32", "--variables", "rain"]);
    let time = "2016-09-28T12:00:00Z";
    for (arguments, words) in [
        (&["--forecast", &storm, "--observation", &storm][..], "--issue-time"),
        (&["--forecast", &small, "--observation", &storm, "--issue-time", time], "expected one grid"),
        (&["--forecast", &storm, "--observation", &storm, "--issue-time", time, "--scores", "luck"], "there are crps"),
        (&["--forecast", &storm, "--observation", &storm, "--issue-time", time, "--scales", "0"], "at least one cell"),
        (
            &["--forecast", &storm, "--observation", &storm, "--issue-time", time, "--thresholds", "nan"],
            "expected numbers",
        ),
    ] {
        let output = run(&[&["verify"][..], arguments].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains(words), "{arguments:?}: {errors}");
    }
}

/// Arguments of a backtest of STEPS, which draws noise.
fn backtest<'a>(inputs: &[&'a str], report: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let models = ["--models", "persistence,extrapolation,steps:4", "--leads", "4", "--thresholds", "0.5,2"];
    [&["backtest", "--input"][..], inputs, &models, &["--scales", "1,5", "--report", report], more].concat()
}

#[test]
fn a_backtest_that_was_killed_goes_on_and_says_the_same_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let storms = [storm(folder.path(), "a.nc", "20", "3"), storm(folder.path(), "b.nc", "14", "8")];
    let inputs: Vec<&str> = storms.iter().map(String::as_str).collect();
    stdout(&backtest(&inputs, &at("whole"), &["--jobs", "2"]));
    let whole = std::fs::read(folder.path().join("whole/report.json")).unwrap();

    let killed = at("killed");
    let mut child = squall(&backtest(&inputs, &killed, &[])).spawn().unwrap();
    let state = PathBuf::from(&killed).join("state/a.jsonl");
    let lines = || std::fs::read_to_string(&state).unwrap_or_default().lines().count();
    let started = Instant::now();
    while lines() < 4 && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(120), "the backtest gets on");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!Path::new(&killed).join("report.json").exists(), "it was killed before its end");
    let before = std::fs::read_to_string(&state).unwrap();
    stdout(&backtest(&inputs, &killed, &[]));
    let after = std::fs::read_to_string(&state).unwrap();
    let kept = before.lines().count() - 1;
    assert!(kept >= 3 && after.lines().take(kept).eq(before.lines().take(kept)), "what was done is not done again");
    assert_eq!(std::fs::read(Path::new(&killed).join("report.json")).unwrap(), whole, "to the byte");

    let report = read(&folder.path().join("whole"));
    let count = |event: &str| scores(&report).iter().filter(|row| row["event"] == event).count();
    assert!(count("a") > 0 && count("a") == count("b") && count("a") == count("all"));
    assert!(report["verdicts"].as_array().unwrap().iter().any(|v| v["model"] == "steps-4"), "{}", report["verdicts"]);
    let page = std::fs::read_to_string(folder.path().join("whole/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("steps-4") && page.contains("data:image/png;base64,"));
}

#[test]
fn a_lead_that_has_passed_when_the_forecast_is_published_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path(), "a.nc", "12", "3");
    let report = folder.path().join("late").display().to_string();
    stdout(&backtest(&[&storm], &report, &["--delay", "10 min", "--scores", "crps"]));
    let leads = |json: &Value| {
        let mut leads: Vec<_> = scores(json).iter().map(|row| row["lead_minutes"].as_f64().unwrap() as i64).collect();
        leads.sort_unstable();
        leads.dedup();
        leads
    };
    assert_eq!(leads(&read(Path::new(&report))), [15, 20]);
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let twin = inner.join("a.nc").display().to_string();
    std::fs::copy(&storm, &twin).unwrap();
    let output = run(&backtest(&[&storm, &twin], &report, &[]));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && errors.contains("events of one name"), "{errors}");
    // Another backtest in the same folder begins anew.
    stdout(&backtest(&[&storm], &report, &["--scores", "crps"]));
    assert_eq!(leads(&read(Path::new(&report))), [5, 10, 15, 20]);
}

/// Leading dimension of the members, if any, and what each member is everywhere, at one time.
struct Made<'a> {
    name: &'a str,
    member: Option<(&'a str, &'a str)>,
    values: &'a [f32],
    variable: &'a str,
    unit: &'a str,
    time: (f64, &'a str),
    reference: Option<f64>,
}

const SINCE_1970: &str = "seconds since 1970-01-01 00:00:00";
const ISSUED: f64 = 1_475_064_000.0;

/// Writes fields of 6 x 8 cells, the first of which is missing.
fn make(folder: &Path, made: &Made<'_>) -> String {
    let path = folder.join(made.name);
    let mut file = netcdf::create(&path).unwrap();
    let mut dimensions = Vec::new();
    if let Some((dimension, standard)) = made.member {
        file.add_dimension(dimension, made.values.len()).unwrap();
        let mut variable = file.add_variable::<i32>(dimension, &[dimension]).unwrap();
        let numbers: Vec<i32> = (1..=made.values.len() as i32).collect();
        variable.put_values(&numbers, ..).unwrap();
        variable.put_attribute("standard_name", standard).unwrap();
        dimensions.push(dimension);
    }
    file.add_dimension("time", 1).unwrap();
    let mut time = file.add_variable::<f64>("time", &["time"]).unwrap();
    time.put_values(&[made.time.0], ..).unwrap();
    time.put_attribute("standard_name", "time").unwrap();
    time.put_attribute("units", made.time.1).unwrap();
    if let Some(reference) = made.reference {
        let mut variable = file.add_variable::<f64>("forecast_reference_time", &[]).unwrap();
        variable.put_values(&[reference], ..).unwrap();
        variable.put_attribute("standard_name", "forecast_reference_time").unwrap();
        variable.put_attribute("units", SINCE_1970).unwrap();
    }
    for (axis, len) in [("y", 6), ("x", 8)] {
        file.add_dimension(axis, len).unwrap();
        let mut variable = file.add_variable::<f64>(axis, &[axis]).unwrap();
        let step = if axis == "y" { -1000.0 } else { 1000.0 };
        variable.put_values(&(0..len).map(|i| step * i as f64).collect::<Vec<_>>(), ..).unwrap();
        variable.put_attribute("standard_name", format!("projection_{axis}_coordinate")).unwrap();
        variable.put_attribute("units", "m").unwrap();
    }
    let mut crs = file.add_variable::<i32>("crs", &[]).unwrap();
    crs.put_attribute("proj4", "+proj=laea +lat_0=60 +lon_0=25 +ellps=WGS84 +units=m").unwrap();
    dimensions.extend(["time", "y", "x"]);
    let mut rain = file.add_variable::<f32>(made.variable, &dimensions).unwrap();
    rain.set_fill_value(f32::NAN).unwrap();
    rain.put_attribute("units", made.unit).unwrap();
    rain.put_attribute("grid_mapping", "crs").unwrap();
    let mut values: Vec<f32> = made.values.iter().flat_map(|value| [*value; 48]).collect();
    values[0] = f32::NAN;
    rain.put_values(&values, ..).unwrap();
    path.display().to_string()
}

#[test]
fn ensembles_of_pysteps_and_improver_are_read_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let observed = Made {
        name: "observed.nc",
        member: None,
        values: &[1.0],
        variable: "rainfall_rate",
        unit: "mm h-1",
        time: (ISSUED + 600.0, SINCE_1970),
        reference: None,
    };
    let (name, member) = ("pysteps.nc", Some(("ens_number", "realization")));
    let time = (600.0, "seconds since 2016-09-28 12:00:00");
    let pysteps = Made { name, member, values: &[0.0, 1.0], variable: "precip_intensity", time, ..observed };
    // Metres per second: 0 and 1 mm/h.
    let (name, member, values) = ("improver.nc", Some(("realization", "realization")), &[0.0, 1.0 / 3.6e6][..]);
    let improver = Made { name, member, values, unit: "m s-1", reference: Some(ISSUED), ..observed };
    let observed = make(folder.path(), &observed);
    for made in [pysteps, improver] {
        let forecast = make(folder.path(), &made);
        let more = ["--thresholds", "0.4", "--scales", "3", "--format", "json"];
        let json = stdout(&[&["verify", "--forecast", &forecast, "--observation", &observed][..], &more].concat());
        assert!(json.contains("\"threshold\": 0.4,"), "as it was given: {json}");
        let json: Value = serde_json::from_str(&json).unwrap();
        let of = |name: &str| score(&json, made.name.strip_suffix(".nc").unwrap(), 10.0, name);
        let near = |name: &str, value: f64| {
            let (found, count) = of(name);
            assert!(
                (found.unwrap() - value).abs() < 1e-6 && count == 47.0,
                "{}: {name} {found:?} of {count}",
                made.name
            );
        };
        for (name, value) in [("crps", 0.25), ("crps_fair", 0.0), ("brier", 0.25), ("mae", 0.5), ("csi", 1.0)] {
            near(name, value);
        }
        let [bins, ranks] = ["reliability", "ranks"].map(|list| json[list].as_array().unwrap());
        assert!(bins.len() == 1 && bins[0]["lead_minutes"] == 10.0 && bins[0]["threshold"] == 0.4, "{bins:?}");
        assert_eq!(bins[0]["points"], json!([{ "x": 0.5, "y": 1.0, "count": 47.0 }]));
        // The observation lies above the first member and is about the second.
        let counts: Vec<f64> = ranks[0]["ranks"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert!(ranks[0]["members"] == 2 && counts.len() == 3 && counts[0] == 0.0, "{ranks:?}");
        assert_eq!(counts.iter().sum::<f64>(), 47.0);
        // What came everywhere is no question.
        assert_eq!((&json["roc"], &json["economic_value"]), (&json!([]), &json!([])));
    }
}

/// A file of one station at the centre of the storm's grid that measured so much at each of some slots.
fn station(folder: &Path, name: &str, slots: &[f64], mm_h: f64) -> String {
    let path = folder.join(name);
    let mut file = netcdf::create(&path).unwrap();
    file.add_dimension("station", 1).unwrap();
    file.add_dimension("time", slots.len()).unwrap();
    let mut id = file.add_string_variable("station_id", &["station"]).unwrap();
    id.put_attribute("cf_role", "timeseries_id").unwrap();
    id.put_string("centre", 0).unwrap();
    for (name, degrees) in [("lat", 60.0), ("lon", 25.0)] {
        file.add_variable::<f64>(name, &["station"]).unwrap().put_values(&[degrees], ..).unwrap();
    }
    let mut time = file.add_variable::<f64>("time", &["time"]).unwrap();
    time.put_values(slots, ..).unwrap();
    time.put_attribute("standard_name", "time").unwrap();
    time.put_attribute("units", SINCE_1970).unwrap();
    let mut rain = file.add_variable::<f64>("rain", &["station", "time"]).unwrap();
    rain.put_values(&vec![mm_h; slots.len()], ..).unwrap();
    rain.put_attribute("standard_name", "rainfall_rate").unwrap();
    rain.put_attribute("units", "mm h-1").unwrap();
    path.display().to_string()
}

#[test]
fn regions_and_stations_are_scored_beside_the_whole_grid() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path(), "a.nc", "10", "3");
    // Slots of the last frames, all but one.
    let slots: Vec<f64> = (4..9).map(|slot| ISSUED + 300.0 * f64::from(slot)).collect();
    let readings = station(folder.path(), "stations.nc", &slots, 150.0);
    let report = folder.path().join("b").display().to_string();
    let places = ["--region", "all=0,40,50,80", "--region", "west=0,40,25,80", "--region", "nowhere=-60,0,-50,10"];
    let places = [&places[..], &["--stations", &readings, "--scores", "crps,mae,fss"]].concat();
    stdout(&backtest(&[&storm], &report, &places));
    let json = read(Path::new(&report));
    let row = |region: &str, model: &str, name: &str, lead: f64| {
        let wanted = |row: &&Value| {
            let of_region = row["region"] == region && row["event"] == "all";
            of_region && row["model"] == model && row["score"] == name && row["lead_minutes"] == lead
        };
        scores(&json).iter().find(wanted).map(|row| (row["value"].as_f64(), row["count"].as_f64().unwrap()))
    };
    for name in ["crps", "mae", "fss"] {
        let whole = row("domain", "steps-4", name, 10.0);
        assert!(whole.is_some() && whole == row("all", "steps-4", name, 10.0), "{name}");
    }
    let (whole, west) = (row("domain", "persistence", "mae", 5.0), row("west", "persistence", "mae", 5.0));
    let share = west.unwrap().1 / whole.unwrap().1;
    assert!((0.4..0.6).contains(&share) && west.unwrap().0 != whole.unwrap().0, "{share}");
    assert_eq!(row("nowhere", "persistence", "mae", 5.0), None);
    // Issue times are slots 3 to 8, readings of slots 4 to 8.
    for (lead, cases) in [(5.0, 5.0), (10.0, 4.0), (15.0, 3.0), (20.0, 2.0)] {
        let (bias, count) = row("stations", "persistence", "bias", lead).unwrap();
        assert!(count == cases && (-150.0..-50.0).contains(&bias.unwrap()), "{lead}: {bias:?} of {count}");
    }
    assert_eq!(row("stations", "persistence", "fss", 5.0), None, "a place has no neighbours");
    let notes = json["notes"].to_string();
    assert!(notes.contains("all, nowhere, west, stations"), "{notes}");
    let page = std::fs::read_to_string(Path::new(&report).join("report.html")).unwrap();
    assert!(page.contains("steps-4"));
    let wrong = [&places[..], &["--region", "west=0,40,24,80"]].concat();
    let output = run(&backtest(&[&storm], &report, &wrong));
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("two meanings"));
}

#[test]
fn events_on_several_devices_say_what_they_say_on_one() {
    let folder = tempfile::tempdir().unwrap();
    let storms = [storm(folder.path(), "a.nc", "6", "3"), storm(folder.path(), "b.nc", "6", "8")];
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights/cogdpm-rain.safetensors");
    let models = format!("extrapolation,{}:2", weights.display());
    let report = |name: &str, more: &[&str]| {
        let path = folder.path().join(name).display().to_string();
        let files: Vec<&str> = storms.iter().map(String::as_str).collect();
        let models = ["--models", &models, "--leads", "2", "--every", "9", "--scores", "crps"];
        stdout(&[&["backtest", "--input"][..], &files, &models, &["--report", &path], more].concat());
        std::fs::read(Path::new(&path).join("report.json")).unwrap()
    };
    let one = report("one", &[]);
    assert_eq!(report("two", &["--devices", "cpu,cpu:1"]), one, "to the byte");
    let json: Value = serde_json::from_slice(&one).unwrap();
    assert!(scores(&json).iter().any(|row| row["model"] == "cogdpm-rain-2" && row["value"].is_number()), "{json:#}");
    let path = folder.path().join("none").display().to_string();
    let output = run(&backtest(&[&storms[0]], &path, &["--devices", "cpu,abacus"]));
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("cuda"));
}

#[test]
fn parts_of_one_event_beside_each_other_say_what_the_whole_says_even_after_a_break() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (days, size) = (at("days.nc"), ["--size", "48x48", "--variables", "rain"]);
    stdout(&[&["simulate", "--output", &days, "--frames", "64", "--cadence", "30 min"][..], &size].concat());
    let report = |name: &str, jobs: &str| {
        let models = ["--models", "persistence,steps:2", "--leads", "3", "--thresholds", "0.5", "--scores", "crps,csi"];
        stdout(&[&["backtest", "--input", &days, "--report", &at(name), "--jobs", jobs][..], &models].concat());
        std::fs::read(folder.path().join(name).join("report.json")).unwrap()
    };
    let one = report("one", "1");
    assert!(report("two", "2") == one, "to the byte");
    let state = folder.path().join("two/state/days.jsonl");
    let lines = std::fs::read_to_string(&state).unwrap();
    // A head, and 60 issue times in three parts.
    assert_eq!(lines.lines().count(), 61);
    let kept: Vec<&str> = lines.lines().take(17).collect();
    std::fs::write(&state, kept.join("\n") + "\n").unwrap();
    assert!(report("two", "3") == one, "to the byte");
    let after = std::fs::read_to_string(&state).unwrap();
    assert!(after.lines().count() == 61 && after.lines().zip(kept).all(|(after, kept)| after == kept), "gone on");
    let json: Value = serde_json::from_slice(&one).unwrap();
    assert!(scores(&json).iter().any(|row| row["model"] == "steps-2" && row["value"].is_number()), "{json:#}");

    let mixed = ["--models", "persistence", "--devices", "cpu,cuda", "--report", &at("mixed")];
    let output = run(&[&["backtest", "--input", &days][..], &mixed].concat());
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("one kind"));
}

#[test]
fn a_model_that_changes_under_its_name_is_not_taken_for_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path(), "a.nc", "9", "3");
    let model = folder.path().join("mine.toml");
    let write = |factor: &str| {
        let growth = format!("{{ factor = {factor}, exponent = 0.23, offset = -7.68 }}");
        let text = format!("[model]\nname = \"extrapolation\"\nperturbation.parallel = {growth}\n");
        std::fs::write(&model, text).unwrap();
    };
    let report = |name: &str| {
        let path = folder.path().join(name).display().to_string();
        let models = format!("{}:3", model.display());
        let more = ["--leads", "2", "--scores", "crps", "--report", &path];
        stdout(&[&["backtest", "--input", &storm, "--models", &models][..], &more].concat());
        std::fs::read_to_string(Path::new(&path).join("report.json")).unwrap()
    };
    write("10.88");
    let before = report("same");
    write("40.0");
    let after = report("same");
    assert_ne!(after, before);
    assert_eq!(after, report("fresh"), "to the byte");
}

#[test]
fn frames_that_come_late_by_chance_leave_windows_incomplete_and_publication_takes_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path(), "a.nc", "24", "3");
    let report = |name: &str, more: &[&str]| {
        let path = folder.path().join(name).display().to_string();
        let models = ["--models", "persistence,extrapolation", "--leads", "4", "--scores", "crps"];
        stdout(&[&["backtest", "--input", &storm, "--report", &path][..], &models, more].concat());
        std::fs::read_to_string(Path::new(&path).join("report.json")).unwrap()
    };
    let parsed = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let even = report("even", &["--delay", "1 min"]);
    let late = ["--delay", "1 min", "--jitter", "9 min", "--seed", "4"];
    let late = [report("late", &late), report("again", &[&late[..], &["--jobs", "2"]].concat())];
    assert_eq!(late[0], late[1], "to the byte");
    assert_ne!(late[0], report("other", &["--delay", "1 min", "--jitter", "9 min", "--seed", "5"]));
    let crps = |text: &str, lead: f64| score(&parsed(text), "persistence", lead, "crps");
    assert!(crps(&late[0], 20.0).1 > 0.0);
    assert!(crps(&late[0], 5.0).1 < crps(&even, 5.0).1, "some were known too late for the first lead");

    // 1 min until the frames are known, 9 min 30 s until the forecasts are there.
    let slow = report("slow", &["--delay", "1 min", "--publish-after", "570 s"]);
    let of_lead = |text: &str, lead: f64| scores(&parsed(text)).iter().any(|row| row["lead_minutes"] == lead);
    assert!(!of_lead(&slow, 10.0) && crps(&slow, 15.0) == crps(&even, 15.0));
    assert!(slow.contains("570 s later"), "{}", parsed(&slow)["notes"]);
}

/// A row of a region at a lead: its value and count.
fn row_of(json: &Value, region: &str, lead: f64, name: &str) -> Option<(Option<f64>, f64)> {
    let wanted = |row: &&Value| {
        let is_one = row["region"] == region && row["lead_minutes"] == lead && row["score"] == name;
        is_one && row["event"] == "all"
    };
    scores(json).iter().find(wanted).map(|row| (row["value"].as_f64(), row["count"].as_f64().unwrap()))
}

#[test]
fn files_are_scored_in_regions_and_at_stations_as_a_backtest_scores_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let storm = storm(folder.path(), "storm.nc", "7", "3");
    std::fs::write(at("c.toml"), CONFIG).unwrap();
    let time = ["--at", "2016-09-28T12:15:00Z", "--output", &at("out")];
    let made = stdout(&[&["forecast", &at("c.toml"), "--input", &storm][..], &time].concat());
    let slots: Vec<f64> = (4..7).map(|slot| ISSUED + 300.0 * f64::from(slot)).collect();
    let readings = station(folder.path(), "stations.nc", &slots, 150.0);
    let more = ["--region", "west=0,40,25,80", "--region", "nowhere=-60,0,-50,10", "--stations", &readings];
    let more = [&more[..], &["--thresholds", "1", "--scales", "3", "--scores", "mae,fss"]].concat();
    let files = ["verify", "--forecast", made.trim(), "--observation", &storm, "--format", "json"];
    let verified: Value = serde_json::from_str(&stdout(&[&files[..], &more].concat())).unwrap();
    let report = ["backtest", &at("c.toml"), "--input", &storm, "--report", &at("b"), "--every", "10"];
    stdout(&[&report[..], &more].concat());
    let backtest = read(&folder.path().join("b"));
    for (region, names) in [("domain", &["mae", "fss"][..]), ("west", &["mae", "fss"]), ("stations", &["mae"])] {
        for (name, lead) in names.iter().flat_map(|name| [5.0, 10.0, 15.0].map(|lead| (*name, lead))) {
            let (file, own) = (row_of(&verified, region, lead, name), row_of(&backtest, region, lead, name));
            let (file, own) = (file.unwrap(), own.unwrap());
            assert!(file.1 == own.1 && file.1 > 0.0, "{region} {name} at {lead}: {file:?} {own:?}");
            // Files hold rain in steps of 0.01 mm/h.
            assert!((file.0.unwrap() - own.0.unwrap()).abs() < 0.01, "{region} {name} at {lead}: {file:?} {own:?}");
        }
    }
    assert_eq!(row_of(&verified, "nowhere", 5.0, "mae"), None);
    assert_eq!(row_of(&verified, "stations", 5.0, "fss"), None, "a place has no neighbours");
    let [whole, west] = ["domain", "west"].map(|region| row_of(&verified, region, 5.0, "fss").unwrap());
    assert!(west.1 < 0.7 * whole.1, "windows beyond the region do not count: {west:?} of {whole:?}");
    let output = run(&[&files[..], &more, &["--region", "west=0,40,24,80"]].concat());
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("two meanings"));
}

#[test]
fn windows_and_events_of_the_fractions_skill_score_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made {
        name: "observed.nc",
        member: None,
        values: &[1.0],
        variable: "rainfall_rate",
        unit: "mm h-1",
        time: (ISSUED + 600.0, SINCE_1970),
        reference: None,
    };
    let observed = make(folder.path(), &made);
    let forecast = make(folder.path(), &Made { name: "forecast.nc", reference: Some(ISSUED), ..made });
    let files = ["verify", "--forecast", &forecast, "--observation", &observed, "--thresholds", "1", "--scales", "1,3"];
    let of = |more: &[&str]| -> Vec<(Option<f64>, f64)> {
        let json = stdout(&[&files[..], &["--scores", "fss", "--format", "json"], more].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        scores(&json).iter().map(|row| (row["value"].as_f64(), row["count"].as_f64().unwrap())).collect()
    };
    // 6 x 8 cells, of which one in a corner is missing; every value is the threshold.
    assert_eq!(of(&[]), [(Some(1.0), 47.0), (Some(1.0), 48.0)]);
    assert_eq!(of(&["--fss-border", "no-event", "--fss-operator", "at-least"]), of(&[]));
    assert_eq!(of(&["--fss-border", "interior"]), [(Some(1.0), 47.0), (Some(1.0), 24.0)]);
    assert_eq!(of(&["--fss-operator", "above"]), [(None, 47.0), (None, 48.0)]);
    let output = run(&[&files[..], &["--fss-border", "outside"]].concat());
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("interior"));
}

/// Cases of two members at places: station, hours of the lead, members. All were issued at one time.
fn cases(folder: &Path, name: &str, cases: &[(i32, f64, [f32; 2])]) -> String {
    let path = folder.join(name);
    let mut file = netcdf::create(&path).unwrap();
    file.add_dimension("case", cases.len()).unwrap();
    file.add_dimension("member", 2).unwrap();
    let stations: Vec<i32> = cases.iter().map(|(station, ..)| *station).collect();
    file.add_variable::<i32>("station_id", &["case"]).unwrap().put_values(&stations, ..).unwrap();
    let issued = vec![ISSUED; cases.len()];
    let valid: Vec<f64> = cases.iter().map(|(_, hours, _)| ISSUED + 3600.0 * hours).collect();
    for (name, times) in [("reference_time", issued), ("valid_time", valid)] {
        let mut variable = file.add_variable::<f64>(name, &["case"]).unwrap();
        variable.put_values(&times, ..).unwrap();
        variable.put_attribute("units", SINCE_1970).unwrap();
    }
    let mut forecast = file.add_variable::<f32>("forecast", &["case", "member"]).unwrap();
    let members: Vec<f32> = cases.iter().flat_map(|(.., members)| *members).collect();
    forecast.put_values(&members, ..).unwrap();
    forecast.put_attribute("standard_name", "wind_speed").unwrap();
    forecast.put_attribute("units", "m s-1").unwrap();
    path.display().to_string()
}

/// Series of wind speeds: a station with its values one, two and three hours after the issue time.
fn winds(folder: &Path, name: &str, stations: &[(&str, [f32; 3])]) -> String {
    let path = folder.join(name);
    let mut file = netcdf::create(&path).unwrap();
    file.add_dimension("station", stations.len()).unwrap();
    file.add_dimension("time", 3).unwrap();
    let mut id = file.add_string_variable("station_id", &["station"]).unwrap();
    id.put_attribute("cf_role", "timeseries_id").unwrap();
    for (place, (station, _)) in stations.iter().enumerate() {
        id.put_string(station, place).unwrap();
    }
    let mut time = file.add_variable::<f64>("time", &["time"]).unwrap();
    time.put_values(&[ISSUED + 3600.0, ISSUED + 7200.0, ISSUED + 10800.0], ..).unwrap();
    time.put_attribute("standard_name", "time").unwrap();
    time.put_attribute("units", SINCE_1970).unwrap();
    let mut speed = file.add_variable::<f32>("wind_speed", &["station", "time"]).unwrap();
    let values: Vec<f32> = stations.iter().flat_map(|(_, values)| *values).collect();
    speed.put_values(&values, ..).unwrap();
    speed.put_attribute("standard_name", "wind_speed").unwrap();
    speed.put_attribute("units", "m s-1").unwrap();
    path.display().to_string()
}

#[test]
fn cases_at_places_are_compared_with_series_of_stations_that_pass_the_checks() {
    let folder = tempfile::tempdir().unwrap();
    let forecast = [
        (7, 1.0, [4.0, 6.0]),
        (10, 1.0, [4.0, 4.0]),
        (8, 1.0, [3.0, 3.0]),
        (9, 1.0, [1.0, 1.0]),
        (7, 2.0, [5.0, 5.0]),
        (8, 2.0, [9.0, 9.0]),
    ];
    let forecast = cases(folder.path(), "ensemble.nc", &forecast);
    // 99 m/s cannot be; a station without a number has no case; the times of no case are of no use.
    let observed =
        [("0000007", [5.0, 6.0, 1.0]), ("10", [2.0, 2.5, 3.0]), ("8", [99.0, 7.0, 8.0]), ("north", [1.0, 2.0, 3.0])];
    let observed = winds(folder.path(), "stations.nc", &observed);
    let files = |forecast: &str, observation: &str| {
        let scores = ["--scores", "mae,crps", "--format", "json"].map(str::to_owned);
        let files = ["verify", "--forecast", forecast, "--observation", observation].map(str::to_owned);
        [files.to_vec(), scores.to_vec()].concat()
    };
    let refused = |forecast: &str, observation: &str| {
        let arguments = files(forecast, observation);
        let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let arguments = files(&forecast, &observed);
    let json = stdout(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(score(&json, "ensemble", 60.0, "mae"), (Some(1.0), 2.0), "errors of 0 and 2");
    assert_eq!(score(&json, "ensemble", 60.0, "crps"), (Some(1.25), 2.0), "0.5 and 2");
    assert_eq!(score(&json, "ensemble", 120.0, "mae"), (Some(1.5), 2.0), "errors of 1 and 2");
    assert!(scores(&json).iter().all(|row| row["region"] == "stations"));
    let storm = storm(folder.path(), "storm.nc", "4", "3");
    let said = refused(&forecast, &storm);
    assert!(said.contains("series of stations"), "{said}");
}

/// Values of a variable of a real file, as `f64`.
fn column(file: &netcdf::File, name: &str) -> Vec<f64> {
    file.variable(name).unwrap().get_values::<f64, _>(..).unwrap()
}

#[test]
fn synop_stations_give_a_real_ensemble_the_scores_that_its_own_observations_give_it() {
    let Some(data) = std::env::var_os("SQUALL_DATA") else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let path = |name: &str| Path::new(&data).join(name);
    let (meps, synop) = (path("ens_meps_wind10m_20190217.nc"), path("stations_synop_20190217_20190220.nc"));
    let (forecast, observation) = (meps.display().to_string(), synop.display().to_string());
    let files = ["verify", "--forecast", &forecast, "--observation", &observation, "--scores", "mae"];
    let json: Value = serde_json::from_str(&stdout(&[&files[..], &["--format", "json"]].concat())).unwrap();
    // The mean of the members against what the file itself has observed, at the stations that the reports have.
    let file = netcdf::open(&synop).unwrap();
    let ids = file.variable("station_id").unwrap();
    let width = ids.dimensions()[1].len();
    let ids: Vec<i64> = ids
        .get_raw_values(..)
        .unwrap()
        .chunks_exact(width)
        .map(|id| String::from_utf8_lossy(id).trim_matches(['\0', ' ']).parse().unwrap())
        .collect();
    let file = netcdf::open(&meps).unwrap();
    let [stations, leads, members, observed] =
        ["station_id", "lead_hours", "forecast", "observed"].map(|name| column(&file, name));
    let size = members.len() / stations.len();
    let mut all = 0.0;
    for (hours, cases) in [(0.0, 2394.0), (3.0, 2552.0), (6.0, 2385.0), (9.0, 2551.0), (12.0, 2413.0)] {
        let errors: Vec<f64> = (0..stations.len())
            .filter(|case| leads[*case] == hours && ids.contains(&(stations[*case] as i64)))
            .map(|case| members[case * size..(case + 1) * size].iter().sum::<f64>() / size as f64 - observed[case])
            .collect();
        let count = errors.len() as f64;
        let mean = |of: fn(f64) -> f64| errors.iter().map(|error| of(*error)).sum::<f64>() / count;
        assert_eq!(count, cases, "{hours} h");
        for (name, expected) in [("mae", mean(f64::abs)), ("bias", mean(|error| error))] {
            let (value, counted) = row_of(&json, "stations", 60.0 * hours, name).unwrap();
            assert!(counted == count, "{name} at {hours} h: {counted} of {count}");
            assert!((value.unwrap() - expected).abs() < 2e-6, "{name} at {hours} h: {value:?} {expected}");
        }
        all += count;
    }
    assert_eq!(all, 12_295.0);
}

#[test]
fn wind_is_judged_as_a_vector_and_by_its_speed_and_all_numbers_say_of_which_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let files = ["a", "b"].map(|name| at(&format!("{name}.nc")));
    for (file, seed) in files.iter().zip(["7", "8"]) {
        let size = ["--size", "16x16", "--variables", "wind", "--cadence", "1h", "--frames", "12"];
        stdout(&[&["simulate", "--output", file, "--seed", seed][..], &size].concat());
    }
    let models = ["--models", "persistence,damped-persistence:4,damped-persistence:8", "--leads", "3"];
    let scores_of = ["--thresholds", "11", "--scales", "3", "--report", &at("r")];
    stdout(&[&["backtest", "--input", &files[0], &files[1]][..], &models, &scores_of].concat());
    let json = read(&folder.path().join("r"));
    let of = |list: &str, keys: &[&str]| -> BTreeSet<String> {
        let text = |row: &Value| keys.iter().map(|key| row[key].to_string()).collect::<Vec<_>>().join(" ");
        json[list].as_array().unwrap().iter().map(|row| text(row).replace('"', "")).collect()
    };
    let judged = ["wind energy", "wind energy_fair", "wind vector_rmse", "wind_speed crps", "wind_speed crps_fair"];
    assert_eq!(of("verdicts", &["variable", "score"]), BTreeSet::from(judged.map(str::to_owned)));
    // One member has no fair score.
    let fair = of("verdicts", &["score", "model", "against"]).into_iter().filter(|of| of.starts_with("energy_fair"));
    assert_eq!(fair.collect::<Vec<_>>(), ["energy_fair damped-persistence-8 damped-persistence-4"]);
    let intervals = of("intervals", &["event", "variable", "score", "threshold", "scale"]);
    for event in ["all", "a", "b"] {
        for rest in ["wind energy null null", "wind_speed crps_fair null null", "wind_speed brier 11.0 null"] {
            assert!(intervals.contains(&format!("{event} {rest}")), "{event} {rest}: {intervals:?}");
        }
        assert!(intervals.contains(&format!("{event} wind_speed fss 11.0 3.0")), "{intervals:?}");
    }
    for list in ["reliability", "economic_value", "roc"] {
        let curves = ["wind_speed null", "wind_speed 60.0", "wind_speed 120.0", "wind_speed 180.0"];
        assert_eq!(of(list, &["variable", "lead_minutes"]), BTreeSet::from(curves.map(str::to_owned)), "{list}");
    }
    assert!(of("ranks", &["variable"]).len() == 3 && of("spectra", &["variable"]).len() == 3);
    let costs = json["economic_value"][0]["points"].as_array().unwrap();
    assert!(costs[0]["x"].as_f64().unwrap() <= 0.001 && costs.len() > 30, "{costs:?}");
    let page = std::fs::read_to_string(folder.path().join("r/report.html")).unwrap();
    for text in ["models: wind<", "energy score of wind", "CRPS of wind speed", "MAE of eastward wind", "<details>"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("Energy score of each event") && page.contains("seconds from knowledge to forecast"));
    assert!(page.contains(": energy score of wind "), "maps say what they are ranked by");
}

/// A stream that is verified, with a companion.
const VERIFIED: &str = r#"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[sources]]
name = "adjusted"
variables = ["rain_rate"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "radar"
window_frames = 4
leads = 3
members = 1
model = { name = "extrapolation" }
thresholds = [1.0]
[streams.companions.still]
model = { name = "persistence" }
[streams.verification]
scores = ["mae", "fss"]
thresholds = [0.5]
scales = [3]
"#;

/// What a list of scores has under a key.
fn all_of(json: &Value, key: &str) -> BTreeSet<String> {
    scores(json).iter().map(|row| row[key].to_string().replace('"', "")).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_backtest_has_the_companions_and_the_scores_of_its_configuration_unless_it_is_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let storm = storm(folder.path(), "storm.nc", "9", "3");
    std::fs::write(at("c.toml"), VERIFIED).unwrap();
    let report = |name: &str, more: &[&str]| {
        let arguments = ["backtest", &at("c.toml"), "--input", &storm, "--report", &at(name)];
        stdout(&[&arguments[..], more].concat());
        read(&folder.path().join(name))
    };
    let own = report("own", &[]);
    assert_eq!(all_of(&own, "model"), set(&["rain", "rain/still"]));
    assert_eq!(all_of(&own, "score"), set(&["mae", "rmse", "bias", "fss"]));
    assert_eq!((all_of(&own, "threshold"), all_of(&own, "scale")), (set(&["null", "0.5"]), set(&["null", "3.0"])));
    // The stream stands last, and is judged against its companion.
    let verdicts = own["verdicts"].as_array().unwrap();
    assert!(verdicts.iter().all(|of| of["model"] == "rain" && of["against"] == "rain/still"), "{verdicts:?}");
    let fss = |json: &Value| score(json, "rain/still", 5.0, "fss").0;
    let inside = report("inside", &["--set", "streams.rain.verification.fss_border=interior"]);
    assert!(fss(&own).is_some() && fss(&inside).is_some() && fss(&own) != fss(&inside), "windows of the configuration");
    assert_eq!(fss(&report("asked-inside", &["--fss-border", "interior"])), fss(&inside));

    let asked = report("asked", &["--scores", "mae,csi", "--thresholds", "2", "--without-companions"]);
    assert_eq!(all_of(&asked, "model"), set(&["rain"]));
    assert!(all_of(&asked, "score").contains("csi") && !all_of(&asked, "score").contains("fss"));
    assert_eq!(all_of(&asked, "threshold"), set(&["null", "2.0"]));

    let other = "[[streams]]\nname = \"other\"\nsource = \"radar\"\nmodel = { name = \"persistence\" }\n\
                 thresholds = [1.0]\n[streams.verification]\nscores = [\"crps\"]\nthresholds = [0.5]\nscales = [3]\n";
    std::fs::write(at("two.toml"), format!("{VERIFIED}{other}")).unwrap();
    let two = ["backtest", &at("two.toml"), "--input", &storm, "--report", &at("two")];
    let output = run(&two);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && errors.contains("verification.scores: say --scores"), "{errors}");
    stdout(&[&two[..], &["--scores", "mae"]].concat());
    assert_eq!(all_of(&read(&folder.path().join("two")), "model"), set(&["rain", "rain/still", "other"]));
}

#[test]
fn another_truth_is_given_by_file_and_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let [own, other] = [("own.nc", "3"), ("other.nc", "8")].map(|(name, seed)| storm(folder.path(), name, "9", seed));
    std::fs::write(at("own.toml"), VERIFIED).unwrap();
    std::fs::write(at("c.toml"), format!("{VERIFIED}[streams.inputs]\ntruth = \"adjusted\"\n")).unwrap();
    let arguments = |config: &str, name: &str, more: &[&str]| -> Vec<String> {
        let all = ["backtest", &at(config), "--input", &own, "--report", &at(name), "--scores", "mae"];
        all.iter().chain(more).map(|text| (*text).to_owned()).collect()
    };
    let report = |config: &str, name: &str, more: &[&str]| {
        let arguments = arguments(config, name, more);
        stdout(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        read(&folder.path().join(name))
    };
    let alone = report("own.toml", "alone", &[]);
    let same = report("c.toml", "same", &["--truth", &own]);
    assert_eq!(scores(&same), scores(&alone));
    let adjusted = report("c.toml", "adjusted", &["--truth", &other]);
    let mae = |json: &Value| score(json, "rain/still", 5.0, "mae").0.unwrap();
    assert!((mae(&adjusted) - mae(&alone)).abs() > 0.01, "{} {}", mae(&adjusted), mae(&alone));
    assert!(adjusted["notes"].to_string().contains("compared with other"), "{}", adjusted["notes"]);

    stdout(&["simulate", "--output", &at("small.nc"), "--frames", "9", "--size", "32x32", "--variables", "rain"]);
    let small = at("small.nc");
    let refused: [(&[&str], &str); 2] =
        [(&[], "give its files by --truth"), (&["--truth", &small], "expected one grid")];
    for (more, words) in refused {
        let arguments = arguments("c.toml", "refused", more);
        let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains(words), "{errors}");
    }
}

#[test]
fn a_model_that_fails_at_a_gap_is_scored_by_its_fallback_and_the_report_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StormSettings { rows: 64, columns: 64, ..StormSettings::default() };
    let mut storm = frames(settings, 14, &[Variable::RainRate]);
    storm.remove(6);
    let path = folder.path().join("gap.nc");
    let exact = WriteOptions { storage: Storage::Float, ..WriteOptions::default() };
    write_frames(&path, &storm, "storm", &exact).unwrap();
    let (input, report) = (path.display().to_string(), folder.path().join("b").display().to_string());
    let models = ["--models", "persistence,steps:4", "--leads", "3", "--scores", "crps"];
    stdout(&[&["backtest", "--input", &input, "--report", &report][..], &models].concat());
    let json = read(Path::new(&report));
    // STEPS needs three frames in a row: not those of the two slots after the gap.
    let counts = |key: &str| -> Vec<u64> {
        json["models"].as_array().unwrap().iter().map(|model| model[key].as_u64().unwrap()).collect()
    };
    assert_eq!((counts("fallbacks"), counts("failures")), (vec![0, 2], vec![0, 0]));
    // Slots 3 to 12, but for the gap; that before it has no truth at the first lead.
    assert_eq!(json["events"][0]["forecasts"], 9);
    let state = std::fs::read_to_string(Path::new(&report).join("state/gap.jsonl")).unwrap();
    let done: Vec<Value> = state.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(done.len(), 9);
    let fallbacks: Vec<&Value> = done.iter().filter(|done| !done["models"][1]["fallback"].is_null()).collect();
    assert_eq!(fallbacks.len(), 2);
    for done in &fallbacks {
        let of = |model: usize| done["models"][model]["statistics"].as_array().unwrap().len();
        assert!(of(1) == 3 && of(0) == 3, "what was published is scored: {done}");
    }
    let notes = json["notes"].to_string();
    assert!(notes.contains("steps-4: at 2 issue times its fallback answered"), "{notes}");
    let page = std::fs::read_to_string(Path::new(&report).join("report.html")).unwrap();
    assert!(page.contains("by its fallback") && page.contains("steps-4: at 2 issue times"));
    let digest = json["models"][1]["digest"].as_str().unwrap();
    assert!(!digest.is_empty() && done[0]["models"][1]["digest"] == digest, "of the model, not of its fallback");
}

/// The difference, the ends of its interval and the number of blocks in a sentence of the page.
fn numbers(sentence: &str) -> Vec<f64> {
    let (_, numbers) = sentence.split_once(" at all leads together: ").unwrap();
    let (difference, rest) = numbers.split_once(" (95 % interval ").unwrap();
    let (low, rest) = rest.split_once(" to ").unwrap();
    let (high, rest) = rest.split_once(", ").unwrap();
    let texts = [difference, low, high, rest].map(|text| text.split(' ').next().unwrap());
    texts.into_iter().map(|text| text.parse().unwrap_or_else(|_| panic!("{text} in {sentence}"))).collect()
}

#[test]
fn the_page_of_a_backtest_stands_alone_fits_screen_and_paper_and_says_what_its_json_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (input, size) = (at("days.nc"), ["--size", "64x64", "--variables", "rain"]);
    stdout(&[&["simulate", "--output", &input, "--frames", "24", "--cadence", "30 min"][..], &size].concat());
    let models = ["--models", "persistence,extrapolation,steps:2", "--leads", "2", "--thresholds", "0.5"];
    let scored = ["--scores", "crps,csi,probability,rank", "--report", &at("b")];
    stdout(&[&["backtest", "--input", &input][..], &models, &scored].concat());
    let (json, page) = (read(&folder.path().join("b")), std::fs::read_to_string(at("b/report.html")).unwrap());

    for outside in ["http:", "https:", "<link", "<script", "<iframe", "<object", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let values = |attribute: &str| -> Vec<&str> {
        page.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    };
    let (pictures, links) = (values(" src=\""), values(" href=\""));
    assert!(!pictures.is_empty() && pictures.iter().all(|src| src.starts_with("data:image/png;base64,")));
    assert!(!links.is_empty());
    for link in links {
        let target = link.strip_prefix('#').unwrap_or_else(|| panic!("{link} leads elsewhere"));
        assert!(page.contains(&format!(" id=\"{target}\"")), "{link} leads nowhere");
    }
    let meta = "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";
    for part in [meta, "@media (max-width: 600px)", "@media print"] {
        assert!(page.contains(part), "{part}");
    }
    for tag in ["svg", "section", "figure", "table", "tr", "td", "ul", "li", "details", "text", "div", "span", "p"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(page.matches("<svg ").count() > 5);

    // On the page stand the verdicts over all leads, those of each pair of models together.
    let all = json["verdicts"].as_array().unwrap();
    let mut verdicts: Vec<&Value> = all.iter().filter(|verdict| verdict["lead_minutes"].is_null()).collect();
    let pair = |verdict: &Value| (verdict["model"].to_string(), verdict["against"].to_string());
    let pairs: Vec<(String, String)> = verdicts.iter().map(|verdict| pair(verdict)).collect();
    verdicts.sort_by_key(|verdict| pairs.iter().position(|other| *other == pair(verdict)));
    let items: Vec<&str> = page.split("<li class=\"").skip(1).map(|item| item.split("</li>").next().unwrap()).collect();
    assert!(items.len() == verdicts.len() && items.len() >= 3, "{} of {}", items.len(), verdicts.len());
    for (item, verdict) in items.into_iter().zip(verdicts) {
        let of = |key: &str| verdict[key].as_str().unwrap();
        let is_said = item.starts_with(of("verdict")) && item.contains(of("model")) && item.contains(of("against"));
        assert!(is_said, "{item}: {verdict}");
        for (said, key) in numbers(item).into_iter().zip(["difference", "low", "high", "blocks"]) {
            let value = verdict[key].as_f64().unwrap();
            // Three digits, the last of them rounded.
            assert!((said - value).abs() <= 0.005 * value.abs(), "{key} {said}: {verdict}");
        }
    }
}
