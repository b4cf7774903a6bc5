//! What a person reads when a training configuration is wrong, and what a right one means.

use std::path::{Path, PathBuf};

use super::RunConfig;
use crate::config::Layers;

const SMALL: &str = include_str!("../../tests/small-training.toml");

fn faults(text: &str) -> String {
    RunConfig::load(&Layers::from_text("x.toml", text)).map_or_else(|faults| faults.to_string(), |_| String::new())
}

/// The configurations of training runs that come with the program.
fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("[training]"))).collect()
}

#[test]
fn a_training_configuration_of_the_folder_is_what_it_prints() {
    let small = Layers::from_text("small-training.toml", SMALL);
    let shipped = shipped().into_iter().map(|path| Layers::from_file(&path).unwrap());
    let all: Vec<Layers> = shipped.chain([small]).collect();
    assert!(all.len() >= 3);
    for layers in all {
        let run = RunConfig::load(&layers).unwrap_or_else(|faults| panic!("{faults}"));
        let printed = run.to_toml();
        let again = RunConfig::load(&Layers::from_text("printed.toml", &printed));
        assert_eq!(again.unwrap_or_else(|faults| panic!("{faults}\n{printed}")), run);
    }
}

#[test]
fn later_layers_win_and_only_the_variables_of_training_count() {
    let variables = [("SQUALL_TRAIN__TRAINING__STEPS", "7"), ("SQUALL__LOG__PROPERTIES__SASL_PASSWORD", "hunter2")];
    let layers = Layers::from_text("small-training.toml", SMALL)
        .environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .set("training.crop.size=16")
        .set("data.train=[{ file = \"other.nc\", from = \"2018-10-13T09:00:00Z\", cadence = \"10 min\" }]");
    let run = RunConfig::load(&layers).unwrap();
    assert_eq!((run.training.steps, run.training.crop.size, run.training.crop.stride), (7, 16, 8));
    assert_eq!(run.data.train[0].cadence.map(|cadence| cadence.step_seconds()), Some(600));
    let run = Layers::from_text("x.toml", SMALL).environment([("SQUALL_TRAIN__DEVICE".into(), "gpu".into())]);
    insta::assert_snapshot!(RunConfig::load(&run.set("training.network.heads=two")).unwrap_err(), @r#""#);
}

#[test]
fn every_fault_of_a_training_is_reported_at_once_with_its_line() {
    let text = r#"
device = "gpu"
checkpoint_seconds = 180
[model]
name = "small"
variables = ["rain"]
cadence = 300
spacing_m = [900.0]
tiling = { tile = [48, "48"], overlap = 8 }
[model.sampler]
solver = { method = "dpm3", steps = 2 }
guidance = { precision = { strenght = 1.0 } }
[data]
train = [
    { file = "a.nc", from = "yesterday" },
    { fil = "b.nc" },
]
validation = []
[validation]
cases = 0
[training]
steps = -1
context = 2
transforms = [{ rain = { dry_below_mm_h = "0.05" } }, { scale = {} }, "rain"]
first_gues = "extrapolation"
target = "speed"
crop = 32
[training.network]
in_channels = 4
mult = [1, 1.5]
"#;
    insta::assert_snapshot!(faults(text), @r#""#);
}

#[test]
fn what_does_not_fit_together_is_said() {
    let bad = SMALL.replace("crop = { size = 32", "crop = { size = 31").replace("mult = [1, 1]", "mult = []");
    insta::assert_snapshot!(faults(&bad), @r#""#);
    let bad = SMALL.replace("[48, 48]", "[50, 48]").replace("[\"rain_rate\"]", "[\"x_wind\", \"y_wind\"]");
    insta::assert_snapshot!(faults(&bad), @r#""#);
}

#[test]
fn an_empty_training_configuration_says_what_is_needed() {
    insta::assert_snapshot!(faults(""), @r#""#);
}
