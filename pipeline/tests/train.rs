//! `squall train` as a person uses it: a small model from a simulated storm, runs that are stopped and go on, and what
//! is said when something is wrong.

#[path = "support/training.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use squall_models::device::has_native_bf16;
use squall_models::training::Checkpoint;
use squall_pipeline::config::Layers;
use squall_pipeline::training::RunConfig;
use support::{column, inspected, rows, squall, storm, told};

/// Steps of the small configuration, and from one validation to the next.
const STEPS: usize = 60;
const EVERY: usize = 20;
/// How long one condition may take to hold on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Two simulated storms in a folder, and configurations of runs that learn from the first and are judged by the second.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let setting = Self { folder: tempfile::tempdir().unwrap() };
        for (name, frames, size, seed) in [("storm.nc", "14", "64x64", "1"), ("validation.nc", "8", "48x48", "2")] {
            storm(&setting.path(name), frames, size, seed);
        }
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration of a run whose output goes to a folder of that name, with changes to its text.
    fn config(&self, output: &str, changes: &[(&str, &str)]) -> String {
        let mut text = include_str!("small-training.toml").to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        for (word, name) in [("OUT", output), ("STORM", "storm.nc"), ("VALIDATION", "validation.nc")] {
            text = text.replace(&format!("\"{word}\""), &format!("\"{}\"", self.path(name).display()));
        }
        let path = self.path(&format!("{}.toml", output.replace('/', "-")));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn checkpoint(&self, output: &str) -> String {
        self.path(output).join("checkpoint.safetensors").display().to_string()
    }
}

fn train(arguments: &[&str]) -> (Option<i32>, String) {
    told(&squall().arg("train").args(arguments).output().unwrap())
}

/// Steps that a checkpoint has done.
fn steps_done(config: &str, checkpoint: &str) -> usize {
    let run = RunConfig::load(&Layers::from_file(Path::new(config)).unwrap()).unwrap();
    Checkpoint::load(Path::new(checkpoint), &run.model).expect("a whole checkpoint").step as usize
}

/// A training on its way. Dropping it kills it.
struct Training(Child);

impl Training {
    fn start(arguments: &[&str]) -> Self {
        let mut command = squall();
        command.arg("train").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits until so many steps are in the table and a checkpoint is there.
    fn until(&mut self, output: &Path, steps: usize) {
        let start = Instant::now();
        let (losses, checkpoint) = (output.join("losses.csv"), output.join("checkpoint.safetensors"));
        while rows(&losses).len() < steps || !checkpoint.exists() {
            assert!(self.0.try_wait().unwrap().is_none(), "it ended before step {steps}");
            assert!(start.elapsed() < LIMIT, "step {steps} is not reached");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal and waits for the end.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        }
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_model_learns_and_a_stopped_run_ends_bit_for_bit_like_one_that_was_not() {
    let setting = Setting::new();
    let (whole, stopped) = (setting.config("whole", &[]), setting.config("stopped", &[]));
    let (code, said) = train(&[&whole]);
    assert_eq!(code, Some(0), "{said}");
    learned(&setting.path("whole"));

    let (output, checkpoint) = (setting.path("stopped"), setting.checkpoint("stopped"));
    let resume = [stopped.as_str(), "--resume", &checkpoint];
    let mut running = Training::start(&[&stopped]);
    running.until(&output, 7);
    assert_eq!(running.end("KILL").0, None, "ended by the signal");
    let steps = steps_done(&stopped, &checkpoint);
    let logged = rows(&output.join("losses.csv")).len();
    assert!((6..STEPS).contains(&steps) && logged.abs_diff(steps) <= 1, "{logged} rows, {steps} steps");

    for (signal, after) in [("INT", 22), ("TERM", 42)] {
        let mut running = Training::start(&resume);
        running.until(&output, after);
        let (code, said) = running.end(signal);
        let steps = steps_done(&stopped, &checkpoint);
        assert_eq!(code, Some(0), "{signal}: {said}");
        let go_on = format!("{steps} of {STEPS} steps done; go on: squall train {stopped} --resume {checkpoint}\n");
        assert!(said.ends_with(&go_on), "{signal}: {said}");
        assert_eq!(rows(&output.join("losses.csv")).len(), steps, "{signal}: no step is lost");
    }
    let (code, said) = train(&resume);
    assert_eq!(code, Some(0), "{said}");
    let read = |output: &str, file: &str| std::fs::read(setting.path(output).join(file)).unwrap();
    for file in ["losses.csv", "model.safetensors"] {
        assert!(read("whole", file) == read("stopped", file), "{file} differs");
    }
    let tensors = |output| tensors(&read(output, "checkpoint.safetensors"));
    assert!(tensors("whole") == tensors("stopped"), "the state of the optimizer differs");
    assert!(!output.join("checkpoint.partial").exists());
}

/// The numbers of a safetensors file: what follows its header, whose entries have no order.
fn tensors(file: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    assert!(file.len() > 8 + header);
    file[8 + header..].to_vec()
}

/// Checks what a run leaves behind.
fn learned(output: &Path) {
    let losses = rows(&output.join("losses.csv"));
    assert_eq!(column(&losses, 0), (0..STEPS).map(|step| step as f64).collect::<Vec<_>>(), "each step once");
    let validation = column(&losses, 4);
    assert_eq!(validation.len(), STEPS / EVERY);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let training = column(&losses, 1);
    let (before, after) = (mean(&training[..10]), mean(&training[STEPS - 10..]));
    assert!(after < 0.95 * before, "training loss {before} -> {after}");
    assert!(validation.last() < validation.first(), "validation loss {validation:?}");

    let scores = rows(&output.join("scores.csv"));
    let models = ["small-a", "persistence", "extrapolation", "perturbed extrapolation"];
    assert_eq!(scores.len(), STEPS / EVERY * models.len() * 3, "each model at each of 3 leads");
    assert!(models.iter().all(|model| scores.iter().any(|row| row.contains(model))), "{scores:?}");
    assert_eq!(column(&scores, 3).len(), scores.len(), "every CRPS is a number");
    for name in ["losses.png", "scores.png"] {
        let image = std::fs::read(output.join(name)).unwrap();
        assert!(image.starts_with(b"\x89PNG") && image.len() > 5_000, "{name}");
    }
    let model = output.join("model.safetensors").display().to_string();
    let inspected = squall().args(["model", "inspect", &model]).output().unwrap();
    let text = String::from_utf8_lossy(&inspected.stdout);
    for part in ["small-a", "rain_rate (mm h-1)", "cadence       300 s", "60 steps of 2 crops of 32 cells", "BF16"] {
        assert!(inspected.status.success() && text.contains(part), "{part} is not in\n{text}");
    }
}

/// One step of each configuration in `configs/`, on simulated data.
#[test]
fn the_shipped_configurations_train() {
    let setting = Setting::new();
    for (name, size, more) in [
        ("train-cogdpm-rain", "112x112", ["--variables", "rain", "--frames", "18"]),
        ("train-crps-rain", "112x112", ["--variables", "rain", "--frames", "18"]),
        ("train-dydiff-wind", "80x80", ["--variables", "wind", "--frames", "14"]),
    ] {
        let data = setting.path(&format!("{name}.nc")).display().to_string();
        let grid = if name.ends_with("wind") { ["100", "3 h"] } else { ["1", "5 min"] };
        let arguments = ["simulate", "-o", &data, "--size", size, "--spacing", grid[0], "--cadence", grid[1]];
        let made = squall().args(arguments).args(more).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let files = format!("[{{ file = \"{data}\", domain = \"ours\" }}]");
        let output = setting.path(name);
        let changes = [
            format!("output={}", output.display()),
            format!("data.train={files}"),
            format!("data.validation={files}"),
            "training.steps=1".to_owned(),
            "training.batch=1".to_owned(),
            "training.precision=f32".to_owned(),
            "validation={ every = 0, cases = 1, size = 64, members = 1 }".to_owned(),
        ];
        let config = format!("configs/{name}.toml");
        let mut set: Vec<&str> = changes.iter().flat_map(|change| ["--set", change]).collect();
        let from: &[&str] = match name {
            "train-crps-rain" => {
                set.extend(["--set", "training.domains={ heads_from = 0.0, heads_alone_from = 1.0 }"]);
                &["--from", "models/weights/cogdpm-rain.safetensors"]
            }
            _ => &[],
        };
        let (code, said) = train(&[&[config.as_str()], &set[..], from].concat());
        assert_eq!(code, Some(0), "{name}: {said}");
        if name == "train-crps-rain" {
            let checkpoint = output.join("checkpoint.safetensors").display().to_string();
            let more = ["--set", "training.steps=2", "--resume", &checkpoint];
            let (code, said) = train(&[&[config.as_str()], &set[..], &more].concat());
            let reason = "training.steps is 2, training.domains parted heads for 1";
            assert!(code == Some(2) && said.contains(reason), "{code:?}: {said}");
        }
        assert_eq!(output.join("model-ours.safetensors").is_file(), name == "train-crps-rain");
        assert!(output.join("model.safetensors").is_file() && !rows(&output.join("scores.csv")).is_empty(), "{name}");
    }
}

/// The files of a short run of several networks, with what its scores are of after 4 and 8 steps.
fn staged(setting: &Setting, name: &str, changes: &[(&str, &str)], stages: &str) -> [Vec<String>; 2] {
    let short = [("steps = 60", "steps = 8"), ("every = 20", "every = 4")];
    let config = setting.config(name, &[&short, changes].concat());
    let set = format!("training.stages={stages}");
    let (code, said) = train(&[&config, "--set", &set]);
    assert_eq!(code, Some(0), "{said}");
    let rows = rows(&setting.path(name).join("scores.csv"));
    let models = |step: &str| {
        let of_step = rows.iter().filter(|row| row.starts_with(step));
        let mut names: Vec<String> = of_step.filter_map(|row| Some(row.split(',').nth(1)?.to_owned())).collect();
        names.dedup();
        names
    };
    [models("4,"), models("8,")]
}

#[test]
fn networks_beside_the_denoiser_are_trained_first_and_stand_in_its_file() {
    let setting = Setting::new();
    let sizes = "channels = 32\nmult = [1, 1]\nres_blocks = 1\n";
    let unet = format!("in_channels = 3\nout_channels = 1\n{sizes}attention = []\nheads = 2\npatch = 4\n");
    let predictor = format!("[model.predictor]\n{unet}\n[model.sampler.solver]");
    let changes = [("in_channels = 4", "in_channels = 7"), ("[model.sampler.solver]", predictor.as_str())];
    let [first, second] = staged(&setting, "foresight", &changes, "{ predictor = 0.5 }");
    assert!(first[0] == "small-a-mean" && second[0] == "small-a", "{first:?} {second:?}");
    for (file, name) in [("model.safetensors", "small-a"), ("model-mean.safetensors", "small-a-mean")] {
        let path = setting.path("foresight").join(file).display().to_string();
        let inspected = squall().args(["model", "inspect", &path]).output().unwrap();
        let text = String::from_utf8_lossy(&inspected.stdout);
        assert!(inspected.status.success() && text.contains(&format!("{name}\n")), "{text}");
        assert!(text.contains("predictor     {") && text.contains("past seen as  \"frames\""), "{text}");
    }

    let autoencoder =
        format!("[model.autoencoder]\nin_channels = 1\nlatent_channels = 1\n{sizes}\n[model.sampler.solver]");
    let residual = "residual = { factor = [], local = { floor = 0.05, radius = 2.0, growth = 1.0 }, limit = 5.0 }";
    let changes = [
        (residual, "missing_guess = \"zero\""),
        ("tile = [48, 48], overlap = 8", "tile = [24, 24], overlap = 4"),
        ("[model.sampler.solver]", autoencoder.as_str()),
    ];
    let [first, second] = staged(&setting, "latent", &changes, "{ autoencoder = 0.5 }");
    assert!(first.is_empty() && second[0] == "small-a", "{first:?} {second:?}");
    let config = setting.path("latent.toml").display().to_string();
    let more = ["--set", "training.stages={ autoencoder = 0.5 }", "--resume", &setting.checkpoint("latent")];
    let (code, said) = train(&[&[config.as_str()], &more[..]].concat());
    assert_eq!(code, Some(0), "the scale that was fitted is no other configuration: {said}");
    let (code, said) = train(&[&[config.as_str()], &more[..], &["--set", "training.steps=9"]].concat());
    assert!(code == Some(2) && said.contains("its stages are shares of 8"), "{code:?} {said}");
}

#[test]
fn what_a_model_has_learnt_from_is_handed_down_and_scores_there_are_no_evidence() {
    let setting = Setting::new();
    let short = [("steps = 60", "steps = 1"), ("every = 20", "every = 0"), ("members = 2", "members = 1")];
    let first = setting.config("first", &short);
    let (code, said) = train(&[&first]);
    assert_eq!(code, Some(0), "{said}");
    let other = [("train = [{ file = \"STORM\" }]", "train = [{ file = \"VALIDATION\" }]")];
    let second = setting.config("second", &[&short[..], &other].concat());
    let weights = |name: &str| setting.path(name).join("model.safetensors").display().to_string();
    let checkpoint = setting.checkpoint("second");
    let beta = ["--set", "training.beta_average=0.5"];
    for start in [["--from", &weights("first")], ["--resume", &checkpoint]] {
        let (code, said) = train(&[&[second.as_str()], &beta[..], &start].concat());
        assert_eq!(code, Some(0), "{said}");
        let json = inspected(Path::new(&weights("second")));
        let learnt: Vec<&str> = json["training_data"].as_array().unwrap().iter().filter_map(|e| e.as_str()).collect();
        let is_of = |index: usize, stem: &str| learnt.get(index).is_some_and(|name| name.starts_with(stem));
        assert!(learnt.len() == 2 && is_of(0, "storm from ") && is_of(1, "validation from "), "{learnt:?}");
        let words = json["training"].as_str().unwrap();
        assert!(words.starts_with("from small-a, 1 steps") && words.ends_with("Beta average 0.5"), "{words}");
        if start[0] == "--from" {
            std::fs::remove_file(weights("second")).unwrap();
        }
    }
    for (model, data, is_known) in [
        ("first", "storm", true),
        ("first", "validation", false),
        ("second", "storm", true),
        ("second", "validation", true),
    ] {
        let (file, weights) = (setting.path(&format!("{data}.nc")).display().to_string(), weights(model));
        let score = ["model", "score", &weights, "--against", "persistence", "--members", "1", "--data", &file];
        let (code, said) = told(&squall().args(score).args(["--cases", "1", "--size", "32"]).output().unwrap());
        assert_eq!(code, Some(0), "{said}");
        let warning = format!("warning: model-1 was trained on {data}: its scores there are no evidence");
        assert_eq!(said.contains(&warning), is_known, "{model} {data}: {said}");
    }
}

#[test]
fn what_cannot_be_trained_is_said_before_it_starts() {
    let setting = Setting::new();
    if !has_native_bf16() {
        let (code, said) = train(&[&setting.config("slow", &[]), "--set", "training.precision=bf16"]);
        assert!(code == Some(2) && said.contains("--set training.precision=f32"), "{code:?} {said}");
    }
    let tiny = [("steps = 60", "steps = 1"), ("every = 20", "every = 0"), ("members = 2", "members = 1")];
    let config = setting.config("one", &tiny);
    let (code, said) = train(&[&config]);
    assert_eq!(code, Some(0), "{said}");

    let missing = setting.config("missing", &[("\"STORM\"", "\"no/storm.nc\""), ("\"VALIDATION\"", "\"no/other.nc\"")]);
    let (code, said) = told(&squall().args(["train", &missing]).env_remove("SQUALL_DATA").output().unwrap());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no/storm.nc does not exist") && said.contains("no/other.nc does not exist"), "{said}");
    assert!(!setting.path("missing").exists(), "nothing is made");

    let unknown = setting.config("unknown", &[("augment = true", "augmented = true"), ("steps = 60", "steps = 0.5")]);
    let (code, said) = train(&[&unknown]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        ": training.steps: expected a whole number of at least 0, got 0.5\n",
        ": training.augmented: there is no such setting; did you mean \"augment\"?\n",
        "error: 2 faults in the configuration\n",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }

    let other =
        setting.config("other", &[("size = 32, stride = 8", "size = 48, stride = 8"), ("batch = 2", "batch = 4")]);
    let (code, said) = train(&[&other, "--resume", &setting.checkpoint("one")]);
    assert_eq!(code, Some(2), "{said}");
    for part in
        ["is the checkpoint of another run", "training.batch is 4, the checkpoint has 2", "training.crop.size is 48"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let weights = setting.path("one").join("model.safetensors").display().to_string();
    let (code, said) = train(&[&config, "--resume", &weights]);
    assert!(code == Some(2) && said.contains(&weights) && said.contains("is it a checkpoint?"), "{code:?} {said}");

    // Below a file no folder can be made, and a folder cannot be replaced by a checkpoint.
    let below = setting.config("storm.nc/below", &[]);
    let (code, said) = train(&[&below]);
    assert!(code == Some(1) && said.starts_with("error: cannot make the output "), "{code:?} {said}");
    std::fs::create_dir_all(setting.path("full/checkpoint.partial/x")).unwrap();
    let (code, said) = train(&[&setting.config("full", &[])]);
    assert!(code == Some(1) && said.starts_with("error: cannot write to the output "), "{code:?} {said}");
}
