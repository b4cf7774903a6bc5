//! `squall model calibrate` and `squall model score` as a person runs them: a file is fitted, and stands for its model
//! wherever a model is named.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use squall_models::baselines::{Baseline, DampedParams};
use squall_pipeline::config::{Layers, ModelConfig};
use squall_pipeline::devices;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Exit code, stdout, stderr.
fn squall(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.current_dir(root()).env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT");
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn stdout(arguments: &[&str]) -> String {
    let (code, text, errors) = squall(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    text
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn simulated(&self, name: &str, more: &[&str]) -> String {
        let path = self.path(name);
        stdout(&[&["simulate", "--output", &path, "--size", "64x72"][..], more].concat());
        path
    }
}

#[test]
fn a_fitted_file_stands_for_its_model_and_scores_no_worse_on_what_it_was_fitted_to() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let storm = folder.simulated("storm.nc", &["--frames", "24", "--seed", "3", "--variables", "rain"]);
    let (fitted, leads) = (folder.path("fitted.toml"), ["--cases", "6", "--leads", "3"]);
    let fit = ["model", "calibrate", "--model", "extrapolation:6", "--data", &storm, "--output", &fitted];
    let told = stdout(&[&fit[..], &leads, &["--every", "1"]].concat());
    assert!(told.lines().filter(|line| line.starts_with("rain_rate")).count() == 3 && told.contains(" -> "), "{told}");

    let score = ["model", "score", &fitted, "--against", "extrapolation:6", "--data", &storm, "--members", "6"];
    let json: Value = serde_json::from_str(&stdout(&[&score[..], &leads, &["--format", "json"]].concat())).unwrap();
    let crps = |model: &str| {
        let of = |row: &&Value| row["model"] == model && row["lead_minutes"].is_null() && row["score"] == "crps";
        json["scores"].as_array().unwrap().iter().find(of).and_then(|row| row["value"].as_f64()).unwrap()
    };
    assert!(crps("fitted-calibrated-6") < crps("extrapolation-6"), "{json:#}");
    for name in
        ["crps_fair", "frequency_bias", "spread_skill", "rank_reliability_index", "rapsd_ratio_log", "wet_area_ratio"]
    {
        assert!(json["scores"].as_array().unwrap().iter().any(|row| row["score"] == name), "{name}");
    }
    assert!(json["differences"].as_array().unwrap().iter().all(|row| row["rival"] == "extrapolation-6"));

    let table = stdout(&[&score[..], &leads].concat());
    for part in
        ["| lead (min) | fitted-calibrated-6 CRPS |", "Over all leads:", "unevenness of ranks", "so few decide nothing"]
    {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let report = folder.path("report");
    let models = format!("{fitted}:4,persistence");
    stdout(&["backtest", "--input", &storm, "--models", &models, "--leads", "2", "--every", "8", "--report", &report]);
}

#[test]
fn what_to_fit_to_must_be_said() {
    for arguments in [["score", "persistence"].as_slice(), &["calibrate", "--model", "steps:3", "--output", "x.toml"]] {
        let (code, _, errors) = squall(&[&["model"], arguments].concat());
        assert!(code == Some(2) && errors.contains("expected --data FILE or --events LIST"), "{code:?} {errors}");
    }
    let fit = ["model", "calibrate", "--model", "steps:3", "--output", "x.toml", "--events", "configs/events.toml"];
    let (code, _, errors) = squall(&[&fit[..], &["--split", "test"]].concat());
    assert!(code == Some(2) && errors.contains("nothing is fitted to test events"), "{code:?} {errors}");
    let both = ["model", "calibrate", "--model", "steps:3", "--config", "configs/radar.toml", "--output", "x.toml"];
    let (code, _, errors) = squall(&both);
    assert!(code == Some(2) && errors.contains("cannot be used with"), "{code:?} {errors}");
    let (code, _, errors) = squall(&["model", "calibrate", "--output", "x.toml"]);
    assert!(code == Some(2) && errors.contains("--model"), "{code:?} {errors}");
    let memory = ["model", "calibrate", "--config", "configs/demo.toml", "--output", "x.toml"];
    let (code, _, errors) = squall(&memory);
    assert!(code == Some(2) && errors.contains("its topics are gone with the process"), "{code:?} {errors}");
}

#[test]
fn a_file_that_was_fitted_for_another_model_is_refused() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let storm = folder.simulated("storm.nc", &["--frames", "10", "--seed", "3", "--variables", "rain"]);
    let fitted = folder.path("fitted.toml");
    let fit = ["model", "calibrate", "--model", "extrapolation:3", "--data", &storm, "--output", &fitted];
    stdout(&[&fit[..], &["--cases", "1", "--leads", "1"]].concat());
    let other = std::fs::read_to_string(&fitted).unwrap().replace("corners = 1000", "corners = 900");
    std::fs::write(folder.path("other.toml"), other).unwrap();
    let (code, _, errors) = squall(&["model", "score", &folder.path("other.toml"), "--data", &storm, "--leads", "1"]);
    assert!(code == Some(2) && errors.contains("fit it anew with squall model calibrate"), "{code:?} {errors}");

    let faulty = std::fs::read_to_string(&fitted).unwrap().replace("spread = [", "spread = [1.0, ");
    std::fs::write(folder.path("faulty.toml"), faulty).unwrap();
    let text = "[[sources]]\nname = \"radar\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n[[streams]]\n\
                name = \"rain\"\nsource = \"radar\"\nthresholds = [1.0]\nmodel = { calibrated = \"faulty.toml\" }\n";
    std::fs::write(folder.path("squall.toml"), text).unwrap();
    let (code, _, errors) = squall(&["inspect", "config", &folder.path("squall.toml")]);
    assert!(code == Some(2) && errors.contains("level and spread must have 1 numbers each"), "{errors}");
    let (code, _, errors) = squall(&[
        "model",
        "calibrate",
        "--model",
        "persistence",
        "--data",
        &storm,
        "--output",
        "x.toml",
        "--leads",
        "1",
    ]);
    assert!(code == Some(2) && errors.contains("one member has no spread to correct"), "{errors}");
}

#[test]
fn damped_persistence_is_fitted_to_wind_and_beats_persistence_there() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let more = ["--frames", "24", "--seed", "5", "--variables", "wind", "--spacing", "100", "--cadence", "3 h"];
    let wind = folder.simulated("wind.nc", &more);
    let (fitted, leads) = (folder.path("wind.toml"), ["--cases", "30", "--leads", "4"]);
    let fit = ["model", "calibrate", "--model", "damped-persistence", "--data", &wind, "--output", &fitted];
    stdout(&[&fit[..], &leads].concat());
    let score = ["model", "score", &fitted, "--against", "persistence", "--data", &wind, "--format", "json"];
    let json: Value = serde_json::from_str(&stdout(&[&score[..], &leads].concat())).unwrap();
    let all = |row: &&Value| row["lead_minutes"].is_null() && row["score"] == "crps";
    let difference = json["differences"].as_array().unwrap().iter().find(all).unwrap();
    assert!(difference["difference"].as_f64().unwrap() < 0.0, "{difference}");
}

/// Every file that comes with the program fits the model that comes with it.
#[test]
fn the_shipped_files_fit_their_models() {
    let folder = root().join("configs/calibrated");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_wind = path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("damped"));
        let (variables, cadence) = match is_wind {
            true => ("[\"eastward_wind\", \"northward_wind\"]", "3 h"),
            false => ("[\"rain_rate\"]", "5 min"),
        };
        let text = format!(
            "[[sources]]\nname = \"in\"\nvariables = {variables}\ncadence = \"{cadence}\"\n[[streams]]\nname = \"out\"\n\
             source = \"in\"\nwindow_frames = 4\nleads = 6\nmembers = 4\nthresholds = [1.0]\nmodel = {{ calibrated = {path:?} }}\n"
        );
        let config = Layers::from_text("t.toml", &text).load().unwrap_or_else(|faults| panic!("{faults}"));
        assert!(matches!(config.streams[0].model, ModelConfig::Calibrated { .. }));
        let model = devices::model(&config.streams[0]).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
        model.check(&config.streams[0].context()).unwrap();
        if let ModelConfig::Named(Baseline::DampedPersistence(params)) = config.streams[0].model.base() {
            assert_eq!(params, &DampedParams::default(), "the defaults are what was fitted");
        }
        let again =
            Layers::from_text("again.toml", &config.to_toml()).load().unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(again, config);
        count += 1;
    }
    assert!(count >= 3, "{count}");
}
