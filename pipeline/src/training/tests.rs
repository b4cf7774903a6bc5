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
    // Those of series have a reader, and tests, of their own.
    let is_ours = |text: String| text.contains("[training]") && !text.contains("[series]");
    entries.filter(|path| std::fs::read_to_string(path).is_ok_and(is_ours)).collect()
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
    insta::assert_snapshot!(RunConfig::load(&run.set("model.network.heads=two")).unwrap_err(), @r#"
SQUALL_TRAIN__DEVICE: device: expected "cpu", "cpu:N", "cuda" or "cuda:N", got "gpu"
--set model.network.heads: model.network.heads: expected a whole number, got "two"
"#);
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
context = 2
transforms = [{ rain = { dry_below_mm_h = "0.05" } }, { scale = {} }, "rain"]
first_gues = "extrapolation"
target = "speed"
tiling = { tile = [48, "48"], overlap = 8 }
[model.network]
in_channels = 4
mult = [1, 1.5]
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
network = {}
crop = 32
"#;
    insta::assert_snapshot!(faults(text), @r#"
x.toml:1: output is missing: expected output = "..."
x.toml:2: device: expected "cpu", "cpu:N", "cuda" or "cuda:N", got "gpu"
x.toml:3: checkpoint_seconds: there is no such setting; it is written like checkpoint_every = "3 min" now
x.toml:4: model: leads is missing: expected leads = 1
x.toml:6: model.variables: expected one of "rain_rate", "reflectivity", "precipitation_amount", "eastward_wind", "northward_wind", "x_wind", "y_wind", "wind_speed", got "rain"
x.toml:7: model.cadence: expected a duration such as "5 min", got 300
x.toml:8: model.spacing_m: expected a list of 2, got [900.0]
x.toml:10: model.transforms[0].rain.dry_below_mm_h: expected a finite number, got "0.05"
x.toml:10: model.transforms[1].scale: by is missing
x.toml:10: model.transforms[2]: expected { rain = ... }, got "rain"
x.toml:11: model.first_gues: there is no such setting; did you mean "first_guess"?
x.toml:12: model.target: expected one of "noise", "velocity", got "speed"
x.toml:13: model.tiling.tile[1]: expected a whole number of at least 0, got "48"
x.toml:14: model.network: out_channels is missing
x.toml:14: model.network: channels is missing
x.toml:14: model.network: res_blocks is missing
x.toml:14: model.network: attention is missing
x.toml:14: model.network: heads is missing
x.toml:16: model.network.mult[1]: expected a whole number, got 1.5
x.toml:18: model.sampler.solver.method: expected one of "ddim", "dpm2m", "dpm2m-steady", "ghvb", "evodiff", got "dpm3"; did you mean "dpm2m"?
x.toml:18: model.sampler.solver: grid is missing
x.toml:19: model.sampler.guidance.precision.strenght: there is no such setting; did you mean "strength"?
x.toml:22: data.train[0].from: expected a time such as 2018-10-13T09:00:00Z, got "yesterday"
x.toml:23: data.train[1]: file is missing: expected file = "..."
x.toml:23: data.train[1].fil: there is no such setting; did you mean "file"?
x.toml:25: data.validation: expected at least one file
x.toml:27: validation.cases: expected a whole number from 1 to 1000000, got 0
x.toml:29: training.steps: expected a whole number of at least 0, got -1
x.toml:30: training.network: there is no such setting; there are "accumulate", "augment", "batch", "beta_average", "condition_dropout", "crop", "distill", "domains", "ema", "loss", "optimizer", "precision", "seed", "stages", "steps", "tuning"
x.toml:31: training.crop: expected a table, got 32
"#);
}

#[test]
fn what_does_not_fit_together_is_said() {
    let bad = SMALL.replace("crop = { size = 32", "crop = { size = 31").replace("mult = [1, 1]", "mult = []");
    insta::assert_snapshot!(faults(&bad), @r#"
x.toml:8: model: a network needs at least one level, one residual block a level and one channel
x.toml:48: training: a crop of 31 is no multiple of the network's stride 4
"#);
    let bad = SMALL.replace("[48, 48]", "[50, 48]").replace("[\"rain_rate\"]", "[\"x_wind\", \"y_wind\"]");
    insta::assert_snapshot!(faults(&bad), @r#"
x.toml:8: model: frames of 2 channels need 6 channels in and 2 out, the network has 4 and 1
x.toml:8: model: 2 variables have 1 transforms
x.toml:8: model: a tile of 50 x 48 is no multiple of the network's stride 8
"#);
}

#[test]
fn an_empty_training_configuration_says_what_is_needed() {
    insta::assert_snapshot!(faults(""), @r#"
x.toml:1: output is missing: expected output = "..."
x.toml:1: model: expected [model] with name, variables, cadence, context, leads, transforms, network, ...
x.toml:1: data: train is missing: expected train = [{ file = "..." }]
x.toml:1: data: validation is missing: expected validation = [{ file = "..." }]
x.toml:1: training is missing: expected training = { steps = ..., ... }
"#);
}

#[test]
fn what_is_listed_for_the_test_is_neither_learnt_from_nor_validated_on() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/events.toml");
    let layers = |train: &str, validation: &str| {
        Layers::from_text("x.toml", SMALL)
            .set(format!("data.events={}", list.display()))
            .set(format!("data.train=[{{ file = \"{train}\" }}]"))
            .set(format!("data.validation=[{{ file = \"{validation}\" }}]"))
    };
    assert!(RunConfig::load(&layers("radar_fmi_20160928.nc", "radar_fmi_20170509.nc")).is_ok());
    assert!(RunConfig::load(&layers("unlisted.nc", "other.nc")).is_ok());
    let refused = layers("radar_openmrg_20150827.nc", "radar_dwd_ry_20210823.nc");
    insta::assert_snapshot!(RunConfig::load(&refused).unwrap_err(), @r#"
--set data.train: data.train[0].file: radar_openmrg_20150827.nc is listed as a test event: it must not be used to train
--set data.validation: data.validation[0].file: radar_dwd_ry_20210823.nc is listed as a test event: it must not be used to tune
"#);
    assert!(RunConfig::load(&layers("radar_mch_20150515.nc", "other.nc")).is_err(), "a tune event");
}
