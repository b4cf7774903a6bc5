//! `squall series` as a person uses it: a small model of simulated stations, its forecasts and their scores, and what is said
//! when something is wrong.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use squall_fields::random::Philox;

/// 2019-01-01T00:00:00Z.
const START: f64 = 1_546_300_800.0;
/// Hours of a file.
const HOURS: usize = 240;

fn squall(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.current_dir(root).env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT").env_remove("SQUALL_DATA");
    command.args(arguments).output().unwrap()
}

/// Exit code, stdout, stderr.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What is said of arguments that are refused as wrong.
fn refused(arguments: &[&str]) -> String {
    let (code, _, errors) = told(&squall(arguments));
    assert_eq!(code, Some(2), "{arguments:?}\n{errors}");
    errors
}

/// Variables of strings are made by several calls of a library that bears one thread alone.
static WRITING: Mutex<()> = Mutex::new(());

/// Hourly readings of stations: of each a daily course with a phase and a size of its own, and noise.
fn stations(path: &Path, variable: [&str; 3], count: usize, hours: usize, seed: u64) -> String {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = netcdf::create(path).unwrap();
    file.add_dimension("station", count).unwrap();
    file.add_dimension("time", hours).unwrap();
    let mut id = file.add_string_variable("station_id", &["station"]).unwrap();
    id.put_attribute("cf_role", "timeseries_id").unwrap();
    for place in 0..count {
        id.put_string(&format!("s{place}"), place).unwrap();
    }
    let mut time = file.add_variable::<f64>("time", &["time"]).unwrap();
    let times: Vec<f64> = (0..hours).map(|hour| START + 3600.0 * hour as f64).collect();
    time.put_values(&times, ..).unwrap();
    time.put_attribute("standard_name", "time").unwrap();
    time.put_attribute("units", "seconds since 1970-01-01 00:00:00").unwrap();
    let mut values = Vec::new();
    for place in 0..count {
        let random = Philox::new(seed, place as u64);
        let (phase, size) = (TAU * random.uniform(0), 1.5 + 1.5 * random.uniform(1));
        values.extend((0..hours).map(|hour| {
            let noise = 0.2 * f64::from(random.normal(2 + hour as u64)[0]);
            (6.0 + size * (TAU * hour as f64 / 24.0 + phase).sin() + noise) as f32
        }));
    }
    let [name, standard_name, units] = variable;
    let mut speed = file.add_variable::<f32>(name, &["station", "time"]).unwrap();
    speed.put_values(&values, ..).unwrap();
    speed.put_attribute("standard_name", standard_name).unwrap();
    speed.put_attribute("units", units).unwrap();
    path.display().to_string()
}

const WIND: [&str; 3] = ["wind_speed", "wind_speed", "m s-1"];
const RAIN: [&str; 3] = ["rain", "rainfall_rate", "mm h-1"];

/// Two files of stations in a folder, and a small configuration that learns from the first and is judged by the second.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let setting = Self { folder: tempfile::tempdir().unwrap() };
        for (name, count, seed) in [("train.nc", 24, 1), ("validation.nc", 4, 2)] {
            stations(&setting.path(name), WIND, count, HOURS, seed);
        }
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn config(&self) -> String {
        let text = format!(
            r#"
output = "{}"
[series]
name = "small"
variable = "wind_speed"
cadence = "1 h"
context = 24
leads = 6
least_scale = 0.2
target = "velocity"
network = {{ width = 64, layers = 2 }}
sampler = {{ steps = 20, repeats = 4 }}
[data]
train = [{{ file = "{}" }}]
validation = [{{ file = "{}" }}]
[validation]
every = 200
batches = 4
issue_every = "12 h"
cases = 40
members = 10
[training]
steps = 600
batch = 64
ema = 0.98
optimizer = {{ learning_rate = 3e-3, warm_up = 20, final_share = 0.05 }}
"#,
            self.text("out"),
            self.text("train.nc"),
            self.text("validation.nc")
        );
        let path = self.path("series.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// Means of a column of a table over its first and its last 50 rows.
fn ends(table: &Path, column: usize) -> (f64, f64) {
    let text = std::fs::read_to_string(table).unwrap();
    let cells: Vec<f64> =
        text.lines().skip(1).map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
    let mean = |cells: &[f64]| cells.iter().sum::<f64>() / cells.len() as f64;
    (mean(&cells[..50]), mean(&cells[cells.len() - 50..]))
}

fn value(report: &Value, model: &str, score: &str, lead: f64) -> Option<f64> {
    let rows = report["scores"].as_array().unwrap();
    let is_it = |row: &&Value| row["model"] == model && row["score"] == score && row["lead_minutes"] == lead;
    rows.iter().find(is_it).unwrap_or_else(|| panic!("no {score} of {model} at {lead}"))["value"].as_f64()
}

#[test]
fn a_small_model_learns_and_beats_climatology_at_stations_that_it_has_not_seen() {
    let setting = Setting::new();
    let config = setting.config();
    let (code, table, errors) = told(&squall(&["series", "train", &config]));
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        table.contains("model.safetensors") && table.contains("climatology") && table.contains("fair CRPS"),
        "{table}"
    );
    let losses = setting.path("out").join("losses.csv");
    let (first, last) = ends(&losses, 1);
    assert!(last < 0.7 * first, "{first} to {last}");

    let (weights, data) = (setting.text("out/model.safetensors"), setting.text("validation.nc"));
    let arguments = ["series", "forecast", &weights, "--data", &data, "--every", "12 h", "--members", "10"];
    let json = |more: &[&str]| -> Value {
        let (code, text, errors) = told(&squall(&[&arguments[..], &["--json"], more].concat()));
        assert_eq!(code, Some(0), "{errors}");
        serde_json::from_str(&text).unwrap()
    };
    let report = json(&[]);
    assert_eq!((&report["variable"], &report["unit"]), (&"wind_speed".into(), &"m s-1".into()));
    assert_eq!((&report["evaluations"], &report["cases"]), (&(19 * 4 + 1).into(), &report["of"]));
    for hour in 1..=6 {
        let crps = |model: &str| value(&report, model, "crps", 60.0 * f64::from(hour)).unwrap();
        let (own, climatology) = (crps("small"), crps("climatology"));
        assert!(own < climatology, "{own} is not below {climatology} at {hour} h");
        assert!(value(&report, "small", "crps_fair", 60.0 * f64::from(hour)).unwrap() <= own);
        assert_eq!(value(&report, "persistence", "spread", 60.0 * f64::from(hour)), None, "one member has no spread");
    }
    assert!(json(&["--cases", "5"])["cases"] == 5 && json(&["--repeats", "1"])["evaluations"] == 20);
    let east = json(&["--stations", "s1,s3"]);
    assert!(east["cases"].as_u64().unwrap() * 2 == report["cases"].as_u64().unwrap(), "{}", east["cases"]);

    let at = ["series", "forecast", &weights, "--data", &data, "--members", "10", "--at", "2019-01-10T23:00:00Z"];
    let (code, text, errors) = told(&squall(&at));
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!((text.lines().next(), text.lines().count()), (Some("station,lead_minutes,mean,p10,p50,p90"), 1 + 4 * 6));
    let (_, text, _) = told(&squall(&[&at[..], &["--json"]].concat()));
    let report: Value = serde_json::from_str(&text).unwrap();
    let members = report["forecasts"][3]["members"].as_array().unwrap();
    assert!(report["forecasts"][3]["station"] == "s3" && members.len() == 10, "{report}");
    assert!(members.iter().all(|member| member.as_array().is_some_and(|values| values.len() == 6)), "{members:?}");

    let (_, _, errors) =
        told(&squall(&["series", "forecast", &weights, "--data", &setting.text("train.nc"), "--cases", "5"]));
    assert!(errors.contains("was trained on a part of"), "{errors}");
    let said = refused(&["model", "inspect", &weights]);
    assert!(said.contains("a model of series at places"), "{said}");
    let (code, printed, _) = told(&squall(&["inspect", "config", &config]));
    assert!(code == Some(0) && printed.contains("variable = \"wind_speed\""), "{printed}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_trained() {
    let setting = Setting::new();
    let config = setting.config();
    let train = |set: &str| refused(&["series", "train", &config, "--set", set]);
    let said = train("series.contxt=3");
    assert!(said.contains("series.contxt: there is no such setting; did you mean \"context\"?"), "{said}");
    let said = train("series.context=300");
    assert!(said.contains("has 240 values; expected the 306 of context and leads"), "{said}");
    let said = train("series.variable=eastward_wind");
    assert!(said.contains("has no eastward_wind"), "{said}");
    let said = train("data.train=[{ file = \"nowhere.nc\" }]");
    assert!(said.contains("nowhere.nc"), "{said}");
    let said = train("validation.issue_every=90 min");
    assert!(said.contains("no multiple of series.cadence"), "{said}");
    let rain = stations(&setting.path("rain.nc"), RAIN, 2, HOURS, 3);
    let said = train(&format!("data.validation=[{{ file = \"{rain}\" }}]"));
    assert!(said.contains("has no wind_speed"), "{said}");
    let said =
        train(&format!("data.train=[{{ file = \"{}\", stations = [\"s1\", \"x9\"] }}]", setting.text("train.nc")));
    assert!(said.contains("\"x9\""), "{said}");
    assert!(!setting.path("out").exists(), "nothing was trained");

    let data = setting.text("validation.nc");
    let said = refused(&["series", "forecast", "models/weights/dydiff-wind.safetensors", "--data", &data]);
    assert!(said.contains("it holds a model of fields; expected one of series"), "{said}");
    let said = refused(&["series", "forecast", &data, "--data", &data]);
    assert!(said.contains("validation.nc"), "{said}");
}

#[test]
fn a_forecast_needs_a_past_of_the_variable() {
    let setting = Setting::new();
    let config = setting.config();
    let quick = ["--set", "training.steps=3", "--set", "validation.every=0", "--set", "validation.cases=1"];
    let (code, _, errors) = told(&squall(&[&["series", "train", &config][..], &quick].concat()));
    assert_eq!(code, Some(0), "{errors}");
    let weights = setting.text("out/model.safetensors");
    let forecast = |more: &[&str]| refused(&[&["series", "forecast", &weights][..], more].concat());
    let short = stations(&setting.path("short.nc"), WIND, 2, 20, 4);
    let said = forecast(&["--data", &short]);
    assert!(said.contains("30 values without a gap") && said.contains("has 20"), "{said}");
    let said = forecast(&["--data", &short, "--at", "2019-01-01T19:00:00Z"]);
    assert!(said.contains("24 values without a gap"), "{said}");
    let data = setting.text("validation.nc");
    let said = forecast(&["--data", &data, "--variable", "rain_rate"]);
    assert!(said.contains("has no rain_rate"), "{said}");
    let said = forecast(&["--data", &data, "--variable", "wind_from_direction"]);
    assert!(said.contains("expected wind_speed, eastward_wind"), "{said}");
    let said = forecast(&["--data", &data, "--every", "90 min"]);
    assert!(said.contains("a multiple of the model's cadence"), "{said}");
}
