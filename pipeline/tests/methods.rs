//! Every configuration in `configs/methods/` as a person runs it, with simulated storms in place of its radars: it
//! learns, and leaves a model that says what the method is and that forecasts.

#[path = "support/training.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use squall_models::training::stages::Stage;
use squall_pipeline::config::Layers;
use squall_pipeline::training::{DataFile, RunConfig};
use support::{column, inspected, rows, squall, storm, told};

/// Steps of each training.
const STEPS: u64 = 60;
/// Leads of each model, 5 minutes apart.
const LEADS: usize = 3;

/// What is expected of a configuration.
struct Method {
    /// Name of its file, without the ending.
    name: &'static str,
    /// The method whose model it starts from; its row stands before.
    from: Option<&'static str>,
    /// What is said where it starts from nothing, of a method that cannot.
    refusal: Option<&'static str>,
    /// What makes it smaller, beside what makes all of them smaller.
    changes: &'static [&'static str],
    /// Entries of what its model says about itself, and a part of each.
    says: &'static [(&'static str, &'static str)],
    /// What other models lie beside `model.safetensors`: `model-NAME.safetensors`.
    beside: &'static [&'static str],
    /// How its loss runs.
    loss: Loss,
}

/// How the loss of the denoiser runs.
enum Loss {
    /// It falls.
    Falls,
    /// It is that of the model that it starts from, and lower from the start.
    GoesOn,
    /// It is of other noise than that of the model that it starts from, and need not fall in so few steps.
    Other,
}

const PLAIN: Method = Method {
    name: "plain",
    from: None,
    refusal: None,
    changes: &[],
    says: &[("/spec/process/kind", "\"plain\"")],
    beside: &[],
    loss: Loss::Falls,
};

const METHODS: [Method; 9] = [
    PLAIN,
    Method { name: "flow-matching", says: &[("/spec/process/kind", "\"flow\"")], ..PLAIN },
    Method {
        name: "pfgm++",
        says: &[("/spec/process/kind", "\"poisson\""), ("/spec/process/dimensions", "128")],
        ..PLAIN
    },
    Method {
        name: "diff-tuning",
        from: Some("plain"),
        refusal: Some("tuning needs the weights of a trained model to start from (squall train --from)"),
        changes: &["training.tuning.bank=6"],
        says: &[("/training", "from rain-plain, ")],
        loss: Loss::Other,
        ..PLAIN
    },
    Method { name: "d-train", beside: &["fmi", "mch"], ..PLAIN },
    Method {
        name: "beta-average",
        from: Some("plain"),
        says: &[("/training", "from rain-plain, "), ("/training", "Beta average 0.5")],
        loss: Loss::GoesOn,
        ..PLAIN
    },
    Method { name: "forediff", says: &[("/spec/predictor/out_channels", "1")], beside: &["mean"], ..PLAIN },
    Method {
        name: "latent",
        // At full resolution an autoencoder is what takes the time.
        changes: &["training.stages.autoencoder=0.2"],
        says: &[("/spec/autoencoder/latent_channels", "4"), ("/spec/network/out_channels", "4")],
        ..PLAIN
    },
    Method { name: "history-channels", says: &[("/spec/history", "\"channels\"")], ..PLAIN },
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/methods")
}

/// The names of the files of the folder, without the ending.
fn found() -> BTreeSet<String> {
    let paths = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let configurations = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    configurations.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

impl Method {
    /// What is changed so that it trains in seconds.
    fn settings(&self, output: &Path) -> Vec<String> {
        let mut settings = vec![
            format!("output={}", output.display()),
            "threads=1".to_owned(),
            format!("model.leads={LEADS}"),
            format!("training.steps={STEPS}"),
            "training.crop.size=32".to_owned(),
            "training.crop.stride=8".to_owned(),
            "training.optimizer.learning_rate=2e-3".to_owned(),
            "training.optimizer.warm_up=5".to_owned(),
            "validation={ every = 0, cases = 1, size = 32, members = 2 }".to_owned(),
        ];
        settings.extend(self.changes.iter().map(|change| (*change).to_owned()));
        settings
    }

    /// Its configuration, with changes.
    fn run(&self, settings: &[String]) -> RunConfig {
        let layers = Layers::from_file(&folder().join(format!("{}.toml", self.name))).unwrap();
        let layers = settings.iter().fold(layers, |layers, setting| layers.set(setting.as_str()));
        RunConfig::load(&layers).unwrap_or_else(|faults| panic!("{}: {faults}", self.name))
    }

    /// Trains it with changes; `more` are further arguments.
    fn train(&self, data: &Path, settings: &[String], more: &[&str]) -> (Option<i32>, String) {
        let mut command = squall();
        command.env("SQUALL_DATA", data).args(["train", &format!("configs/methods/{}.toml", self.name)]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting])).args(more);
        told(&command.output().unwrap())
    }
}

#[test]
fn each_file_has_a_row_that_says_what_is_expected_and_a_header_with_its_command() {
    let found = found();
    for name in &found {
        let has_row = METHODS.iter().any(|method| method.name == name);
        assert!(has_row, "configs/methods/{name}.toml has no row in METHODS of pipeline/tests/methods.rs: add one");
    }
    for method in METHODS {
        let name = method.name;
        assert!(found.contains(name), "there is no configs/methods/{name}.toml");
        let text = std::fs::read_to_string(folder().join(format!("{name}.toml"))).unwrap();
        let command = format!("#   squall train configs/methods/{name}.toml");
        let output = |of: &str| format!("out/training/methods/{of}");
        let from = method.from.map(|parent| format!(" --from {}/model.safetensors", output(parent)));
        let command = command + &from.unwrap_or_default();
        assert!(text.lines().any(|line| line == command), "{name}: its header lacks the line\n{command}");
        let run = method.run(&[]);
        assert_eq!(run.output, Path::new(&output(name)), "{name}");
        assert!(run.data.events.is_some(), "{name}: nothing checks that it learns from no event for the test");
    }
}

#[test]
fn each_method_trains_and_says_what_it_is_and_forecasts() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, storms) = (scratch.path().join("data"), scratch.path().join("storms"));
    [&data, &storms].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let (learnt, judged) = (storms.join("learnt.nc"), storms.join("judged.nc"));
    storm(&learnt, "14", "64x64", "1");
    storm(&judged, "8", "48x48", "2");
    for method in &METHODS {
        let output = scratch.path().join(method.name);
        let settings = method.settings(&output);
        let run = method.run(&settings);
        stand_in(&learnt, &run.data.train, &data);
        stand_in(&judged, &run.data.validation, &data);
        if let Some(refusal) = method.refusal {
            let (code, said) = method.train(&data, &settings, &[]);
            assert!(code == Some(2) && said.contains(refusal), "{}: {code:?}: {said}", method.name);
        }
        let parent = method.from.map(|parent| scratch.path().join(parent));
        let weights = parent.as_ref().map(|parent| parent.join("model.safetensors").display().to_string());
        let from: Vec<&str> = weights.iter().flat_map(|weights| ["--from", weights]).collect();
        let (code, said) = method.train(&data, &settings, &from);
        assert_eq!(code, Some(0), "{}: {said}", method.name);
        learns(method, &run, &output, parent.as_deref());
        says_what_it_is(method, &run, &output);
        forecasts(method, &output.join("model.safetensors"), &judged);
    }
}

/// Puts a storm in the place of each file.
fn stand_in(storm: &Path, files: &[DataFile], folder: &Path) {
    for file in files {
        std::fs::copy(storm, folder.join(&file.file)).unwrap();
    }
}

/// Checks the losses that a training leaves behind.
fn learns(method: &Method, run: &RunConfig, output: &Path, parent: Option<&Path>) {
    let name = method.name;
    let losses = column(&rows(&output.join("losses.csv")), 1);
    assert_eq!(losses.len() as u64, STEPS, "{name}: each step has a loss");
    let is_of_denoiser = |step: &u64| run.training.stages.of(&run.model, *step, STEPS) == Stage::Denoiser;
    let first = (0..STEPS).find(is_of_denoiser).expect("the last stage is that of the denoiser") as usize;
    let (early, late) = quarters(&losses[first..]);
    match (&method.loss, parent) {
        (Loss::Falls, _) => assert!(late < early, "{name}: the loss goes from {early} to {late}"),
        (Loss::GoesOn, Some(parent)) => {
            let before = quarters(&column(&rows(&parent.join("losses.csv")), 1)).0;
            assert!(early < before && late < before, "{name}: {before} at first, then {early} and {late}");
        }
        (Loss::GoesOn, None) => panic!("{name} starts from nothing"),
        (Loss::Other, _) => assert!(losses.iter().all(|loss| *loss > 0.0), "{name}: {losses:?}"),
    }
    if let Some(tuning) = &run.training.tuning {
        let clips = clips_of_bank(&output.join("checkpoint.safetensors"));
        assert_eq!(clips, Some(tuning.bank as u64), "{name}: samples of the model as it was");
    }
}

/// The means of the first and of the last quarter.
fn quarters(losses: &[f64]) -> (f64, f64) {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let count = losses.len() / 4;
    (mean(&losses[..count]), mean(&losses[losses.len() - count..]))
}

/// How many samples a checkpoint holds of the model that a tuning started from.
fn clips_of_bank(checkpoint: &Path) -> Option<u64> {
    let bytes = std::fs::read(checkpoint).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header["bank/clips"]["shape"][0].as_u64()
}

/// Checks which models there are, and what they say about themselves.
fn says_what_it_is(method: &Method, run: &RunConfig, output: &Path) {
    let name = method.name;
    let json = inspected(&output.join("model.safetensors"));
    assert_eq!(json["spec"]["name"], run.model.name.as_str(), "{name}");
    for (entry, part) in method.says {
        let entry_says = json.pointer(entry).map(ToString::to_string).unwrap_or_default();
        assert!(entry_says.contains(part), "{name}: {part} is not in {entry}: {entry_says}");
    }
    let files = std::fs::read_dir(output).unwrap().map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    let models: BTreeSet<String> = files.filter(|file| file.starts_with("model")).collect();
    let beside = method.beside.iter().map(|other| format!("model-{other}.safetensors"));
    let expected: BTreeSet<String> = beside.chain(["model.safetensors".to_owned()]).collect();
    assert_eq!(models, expected, "{name}");
    for other in method.beside {
        let json = inspected(&output.join(format!("model-{other}.safetensors")));
        assert_eq!(json["spec"]["name"], format!("{}-{other}", run.model.name).as_str(), "{name}");
    }
}

/// Checks that a model has a score at every lead of a storm that it has not seen.
fn forecasts(method: &Method, weights: &Path, observed: &Path) {
    let name = method.name;
    let mut command = squall();
    command.args(["model", "score"]).arg(weights).arg("--data").arg(observed);
    command.args(["--cases", "1", "--size", "32", "--members", "2", "--against", "persistence", "--format", "json"]);
    let output = command.output().unwrap();
    let (code, said) = told(&output);
    assert_eq!(code, Some(0), "{name}: {said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let own = &json["models"][0]["name"];
    let is_crps = |row: &&serde_json::Value| row["model"] == *own && row["score"] == "crps" && row["value"].is_f64();
    let crps: Vec<_> = json["scores"].as_array().unwrap().iter().filter(is_crps).collect();
    for lead in 1..=LEADS {
        let has_lead = crps.iter().any(|row| row["lead_minutes"].as_f64() == Some(5.0 * lead as f64));
        assert!(has_lead, "{name}: lead {lead} has no CRPS: {crps:?}");
    }
}
