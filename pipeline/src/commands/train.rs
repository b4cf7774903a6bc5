//! `squall train`: a configuration and data in, a model out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use squall_fields::{Chain, LeadTime};
use squall_models::Forecaster;
use squall_models::baselines::{Extrapolation, Persistence};
use squall_models::device::{ComputeDevice, Precision, has_native_bf16};
use squall_models::diffusion::forecaster::{DiffusionForecaster, Options};
use squall_models::scores::{AnyScore, Scoreboard, list};
use squall_models::training;
use squall_models::training::distill;
use squall_models::training::report::{self, LossLog};
use squall_models::training::stages::Stage;
use squall_models::training::validate::{self, Case, Comparison, Contestant};
use squall_models::training::{Archive, Checkpoint, Event, Parent, Task, Trainer, TrainingConfig};
use squall_models::weights::{self, Metadata};

use super::{ConfigFile, Usage, print};
use crate::signals::Stop;
use crate::training::{DataFile, RunConfig, plot, resume};

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall train configs/train-cogdpm-rain.toml
  squall train configs/train-cogdpm-rain.toml --set training.steps=500 --set device=cuda
  squall train configs/train-crps-rain.toml --from models/weights/cogdpm-rain.safetensors
  squall train configs/train-cogdpm-rain.toml --resume out/training/cogdpm-rain/checkpoint.safetensors

The output folder then holds checkpoint.safetensors, losses.csv, scores.csv, losses.png, scores.png and
model.safetensors, which a stream names as model = { file = \"...\" }. The first SIGINT or SIGTERM writes a checkpoint
and exits 0; a second one exits at once. A run that is stopped and resumed gives the losses of one that was not.";

/// What a training is judged by, in the order of its board: the CRPS first, spread and skill last.
const SCORES: [&str; 3] = ["crps", "csi", "spread-skill"];
/// Its place on the board.
const CRPS: usize = 0;

/// Arguments of `squall train`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Go on from a checkpoint. CONFIG may ask for other steps, optimizer and average; the rest must be the same.
    #[arg(long, value_name = "CHECKPOINT")]
    resume: Option<PathBuf>,
    /// Start from the weights of a model whose network has the same sizes, such as models/weights/cogdpm-rain.safetensors. An
    /// empty residual.factor is that of the model then.
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Stop after so many minutes, with a checkpoint and a model.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let run = RunConfig::load(&self.config.layers()?)?;
        run.check_files()?;
        run.make_output()?;
        let device = ComputeDevice::select(&run.device, Precision::F32)?.device;
        if run.training.precision == training::config::Precision::Bf16 && !device.is_cuda() && !has_native_bf16() {
            let slow = "this processor does not compute in bf16 and would take many times longer";
            let text = format!("training.precision is bf16, {slow}: --set training.precision=f32");
            return Err(Usage(text).into());
        }
        if run.threads > 0 {
            tch::set_num_threads(i32::try_from(run.threads).unwrap_or(i32::MAX));
        }
        let checkpoint = self.resume.as_deref().map(|path| Checkpoint::load(path, &run.model)).transpose()?;
        let mut task = match (&checkpoint, &self.resume) {
            (Some(checkpoint), Some(path)) => resume::task(&run.task(), checkpoint, path)?,
            _ => run.task(),
        };
        let start = self.from.as_deref().map(weights::read).transpose()?;
        if let Some((metadata, _)) = &start {
            resume::take_scale(&mut task.model, &metadata.spec);
            let differ = distill::differences(&task.model, &metadata.spec);
            if task.training.distill.is_some() && !differ.is_empty() {
                return Err(Usage(differ.join("; ")).into());
            }
        }
        eprintln!("reading events and making first guesses");
        let train = Archive::new(events(&run, &run.data.train)?, &task, run.data.clip_every)?;
        let judged = events(&run, &run.data.validation)?;
        let (context, leads) = (task.model.context, task.model.leads);
        let cases = validate::cases(&judged, context, leads, run.validation.size, run.validation.cases)?;
        let held_out = Archive::new(judged, &task, 8 * run.data.clip_every)?;
        let mut trainer = match checkpoint {
            Some(mut checkpoint) => {
                checkpoint.task = task;
                Trainer::resume(&checkpoint, &train, device)?
            }
            None => Trainer::new(task, &train, device)?,
        };
        if let Some((Metadata { spec, training_data, .. }, parameters)) = start {
            trainer.start_from(&parameters)?;
            trainer.descends_from(Parent { name: spec.name, training_data });
        }
        let file = self.config.path();
        let course = Course { file, run: &run, train: &train, held_out: &held_out, cases: &cases };
        course.follow(&mut trainer, self.minutes.map(|m| Duration::from_secs_f64(60.0 * m)))
    }
}

/// The events of files.
pub(super) fn events(run: &RunConfig, files: &[DataFile]) -> anyhow::Result<Vec<Event>> {
    let least = run.model.frames();
    let mut events = Vec::new();
    for file in files {
        events.extend(file.events(&run.model.inputs(), run.cadence(), least)?);
    }
    if events.is_empty() {
        return Err(Usage(format!("no file holds {least} frames without a gap")).into());
    }
    Ok(events)
}

/// A run on its way.
struct Course<'a> {
    file: &'a Path,
    run: &'a RunConfig,
    train: &'a Archive,
    held_out: &'a Archive,
    cases: &'a [Case],
}

impl Course<'_> {
    fn follow(&self, trainer: &mut Trainer, limit: Option<Duration>) -> anyhow::Result<()> {
        let steps = trainer.task().training.steps;
        let bar = ProgressBar::new(steps)
            .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {per_sec}, {eta} left, {msg}")?);
        bar.set_position(trainer.steps_done());
        bar.reset_eta();
        let path = self.run.output.join("losses.csv");
        let mut log =
            LossLog::open(&path, trainer.steps_done()).with_context(|| format!("cannot write {}", path.display()))?;
        let (start, mut saved, mut mean) = (Instant::now(), Instant::now(), None);
        let checkpoint = self.run.output.join("checkpoint.safetensors");
        // Until here a signal ends the process at once: there is nothing to save.
        let stop = Stop::on_signal()?;
        while trainer.steps_done() < steps && !stop.is_set() && limit.is_none_or(|limit| start.elapsed() < limit) {
            let report = trainer.step(self.train)?;
            let smooth = mean.map_or(report.loss, |m: f64| m + 0.02 * (report.loss - m));
            mean = Some(smooth);
            let every = self.run.validation.every;
            let due = every > 0 && trainer.steps_done().is_multiple_of(every);
            let held_out = due.then(|| trainer.validation_loss(self.held_out, self.run.validation.batches));
            log.add(&report, held_out)?;
            bar.inc(1);
            bar.set_message(format!("loss {smooth:.4}"));
            // Before the scores: they take minutes, and whoever cannot wait for them loses no step.
            if due || saved.elapsed() >= self.run.checkpoint_every {
                trainer.checkpoint().save(&checkpoint)?;
                saved = Instant::now();
            }
            if due && trainer.steps_done() < steps && !stop.is_set() {
                bar.suspend(|| self.judge(trainer))?;
            }
        }
        trainer.checkpoint().save(&checkpoint)?;
        if trainer.steps_done() == steps {
            bar.finish();
        } else {
            bar.abandon();
            let (done, file) = (trainer.steps_done(), self.file.display());
            eprintln!("{done} of {steps} steps done; go on: squall train {file} --resume {}", checkpoint.display());
        }
        if stop.is_set() { Ok(()) } else { self.judge(trainer) }
    }

    /// Writes the model, scores it and draws the curves. Until the denoiser is trained the mean of the predictive stream is what
    /// there is to score, and before that nothing.
    fn judge(&self, trainer: &Trainer) -> anyhow::Result<()> {
        let stage = trainer.stage();
        if stage == Stage::Autoencoder {
            return Ok(());
        }
        let (run, output) = (self.run, &self.run.output);
        let Task { model, training: config } = trainer.task();
        let own = self.train.events().iter().map(|event| event.name.clone());
        let training_data = with_those_of(trainer.parent(), own);
        let training = in_words(trainer.parent(), trainer.steps_done(), config);
        let path = output.join("model.safetensors");
        let metadata = Metadata { training_data, training, ..Metadata::of(model.clone()) };
        weights::save(&path, &metadata, &trainer.averaged(), tch::Kind::BFloat16)?;
        for (domain, weights) in trainer.averaged_by_domain() {
            let mut own = metadata.clone();
            own.spec.name = format!("{}-{domain}", model.name);
            weights::save(&output.join(format!("model-{domain}.safetensors")), &own, &weights, tch::Kind::BFloat16)?;
        }
        let mut path = path;
        if model.predictor.is_some() {
            let mut mean = metadata.clone();
            mean.spec.name = format!("{}-mean", model.name);
            mean.spec.sampler.mean = true;
            let of_mean = output.join("model-mean.safetensors");
            weights::save(&of_mean, &mean, &trainer.averaged(), tch::Kind::BFloat16)?;
            if stage == Stage::Predictor {
                path = of_mean;
            }
        }
        let scores = list::start(&SCORES, &run.validation.thresholds.clone().into())?;
        let options = Options::default();
        let board = compare(&path, &options, self.cases, model.leads, run.validation.members, scores)?.board;
        print(&board.markdown());
        // What is drawn can be drawn again; hours of training cannot be had again.
        record(output, trainer.steps_done(), &board)?;
        if let Err(error) = draw(output, &board) {
            tracing::warn!("no plots in {}: {}", output.display(), Chain(error.as_ref()));
        }
        Ok(())
    }
}

/// The events that a model has learnt from: those of the model that it started from, then its own.
fn with_those_of(parent: Option<&Parent>, own: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = parent.map_or_else(Vec::new, |parent| parent.training_data.clone());
    for event in own {
        if !all.contains(&event) {
            all.push(event);
        }
    }
    all
}

/// How a model was trained, as its file says it.
fn in_words(parent: Option<&Parent>, steps: u64, config: &TrainingConfig) -> String {
    let taken = if config.distill.is_some() { "distilled from" } else { "from" };
    let from = parent.map_or_else(String::new, |parent| format!("{taken} {}, ", parent.name));
    let average = match config.beta_average {
        Some(beta) => format!("Beta average {beta}"),
        None => format!("average {}", config.ema),
    };
    format!(
        "{from}{steps} steps of {} crops of {} cells, AdamW to {:e}, {average}",
        config.batch * config.accumulate,
        config.crop.size,
        config.optimizer.learning_rate
    )
}

/// Scores a model beside the baselines of its variable.
pub(super) fn compare(
    path: &Path,
    options: &Options,
    cases: &[Case],
    leads: usize,
    members: usize,
    scores: Vec<Box<dyn AnyScore>>,
) -> anyhow::Result<Comparison> {
    let mut model = DiffusionForecaster::open(path, options)?;
    model.warm_up();
    let rain = model.metadata().spec.variables.contains(&squall_fields::Variable::RainRate);
    let name = model.metadata().spec.name.clone();
    let (mut persistence, mut extrapolation, mut perturbed) =
        (Persistence::default(), Extrapolation::default(), Extrapolation::default());
    let entry = |name: &str, model, members| Contestant { name: name.to_owned(), model, members };
    let mut contestants =
        vec![entry(&name, &mut model as &mut dyn Forecaster, members), entry("persistence", &mut persistence, 1)];
    if rain {
        contestants.push(entry("extrapolation", &mut extrapolation, 1));
        contestants.push(entry("perturbed extrapolation", &mut perturbed, members));
    }
    let bar = ProgressBar::new((cases.len() * contestants.len()) as u64)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} forecasts scored")?);
    let comparison = validate::score(&mut contestants, cases, leads, scores, || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(comparison)
}

/// Adds scores to `scores.csv`.
fn record(output: &Path, step: u64, board: &Scoreboard) -> anyhow::Result<()> {
    let path = output.join("scores.csv");
    let mut table = report::kept(&path, "step,model,lead,crps,spread_skill", step.checked_sub(1));
    for (model, name) in board.models().enumerate() {
        for (row, lead) in board.leads().into_iter().enumerate() {
            let number = |score| board.value(model, lead, score).map_or_else(String::new, |v| format!("{v:.6}"));
            table += &format!("{step},{name},{},{},{}\n", row + 1, number(CRPS), number(board.scores().len() - 1));
        }
    }
    std::fs::write(&path, table).with_context(|| format!("cannot write {}", path.display()))
}

/// Draws the scores by lead, and the losses.
fn draw(output: &Path, board: &Scoreboard) -> anyhow::Result<()> {
    let by_lead = |(model, name): (usize, &str)| {
        let point = |(row, lead): (usize, LeadTime)| Some(((row + 1) as f64, board.value(model, lead, CRPS)?));
        (name.to_owned(), board.leads().into_iter().enumerate().filter_map(point).collect())
    };
    let lines: Vec<plot::Line> = board.models().enumerate().map(by_lead).collect();
    plot::lines(&output.join("scores.png"), "CRPS on the validation events", "lead (steps)", "CRPS", &lines)?;
    let losses = output.join("losses.csv");
    let losses = std::fs::read_to_string(&losses).with_context(|| format!("cannot read {}", losses.display()))?;
    let column = |index: usize| {
        let row = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            Some((cells.first()?.parse().ok()?, cells.get(index)?.parse().ok()?))
        };
        losses.lines().skip(1).filter_map(row).collect::<Vec<(f64, f64)>>()
    };
    let lines = [("training".to_owned(), smoothed(column(1))), ("validation".to_owned(), column(4))];
    plot::lines(&output.join("losses.png"), "Loss", "step", "loss", &lines)
}

/// A running mean over the points before.
fn smoothed(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut mean = None;
    let step = |(x, y): (f64, f64)| {
        let next = mean.map_or(y, |m: f64| m + 0.05 * (y - m));
        mean = Some(next);
        (x, next)
    };
    points.into_iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_learnt_from_and_by_which_average() {
        let of = |more: &str| {
            let text = format!(r#"{{"steps": 9, "batch": 2, "accumulate": 3, "crop": {{"size": 32}}{more}}}"#);
            serde_json::from_str::<TrainingConfig>(&text).unwrap()
        };
        let parent = Parent { name: "old".to_owned(), training_data: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(in_words(None, 9, &of("")), "9 steps of 6 crops of 32 cells, AdamW to 1e-4, average 0.9999");
        let words = in_words(Some(&parent), 9, &of(r#", "beta_average": 0.5"#));
        assert_eq!(words, "from old, 9 steps of 6 crops of 32 cells, AdamW to 1e-4, Beta average 0.5");
        let words = in_words(Some(&parent), 9, &of(r#", "distill": {}"#));
        assert!(words.starts_with("distilled from old, 9 steps"), "{words}");
        let own = || ["b", "c"].map(str::to_owned).into_iter();
        assert_eq!(with_those_of(Some(&parent), own()), ["a", "b", "c"]);
        assert_eq!(with_those_of(None, own()), ["b", "c"]);
    }
}
