//! `squall series train`: series of stations in, a model out.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use squall_fields::Cadence;
use squall_models::device::{ComputeDevice, Precision};
use squall_models::series::{SeriesMetadata, SeriesModel, SeriesTrainer, Windows, file};
use squall_models::training::report::LossLog;

use crate::commands::{ConfigFile, Usage, print};
use crate::series::config::cadence;
use crate::series::{Case, Readings, SeriesFile, SeriesRun, data, judge};
use crate::signals::Stop;

/// Examples that `--help` shows.
pub(super) const EXAMPLES: &str = "Examples:
  SQUALL_DATA=/path/to/archives squall series train configs/train-gpd-wind.toml
  squall series train configs/train-gpd-wind.toml --set training.steps=500 --set series.sampler.repeats=1

The output folder then holds losses.csv and model.safetensors, which `squall series forecast` takes. At the end the model is
scored on the validation files. The first SIGINT or SIGTERM ends the training, and the model is that of the steps done.";

/// Arguments of `squall series train`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let run = SeriesRun::load(&self.config.layers()?)?;
        run.check_files()?;
        let (spec, step) = (&run.series, cadence(&run.series));
        let validation = &run.validation;
        if !judge::fits(validation.issue_every, step) {
            return Err(Usage("validation.issue_every is no multiple of series.cadence".to_owned()).into());
        }
        let device = ComputeDevice::select(&run.device, Precision::F32)?.device;
        if run.threads > 0 {
            tch::set_num_threads(i32::try_from(run.threads).unwrap_or(i32::MAX));
        }
        eprintln!("reading stations");
        let (learnt, train) = windows(&run, "data.train", &run.data.train, step)?;
        let (judged, held_out) = windows(&run, "data.validation", &run.data.validation, step)?;
        let cases = data::thinned(judged.cases(spec, step, validation.issue_every), validation.cases);
        run.make_output()?;
        let mut trainer = SeriesTrainer::new(spec.clone(), run.training.clone(), device)?;
        follow(&run, &mut trainer, &train, &held_out)?;
        let path = run.output.join("model.safetensors");
        let (steps, batch) = (trainer.steps_done(), run.training.batch);
        let training = format!("{steps} steps of {batch} of {} stretches, average {}", train.len(), run.training.ema);
        let metadata =
            SeriesMetadata { spec: spec.clone(), training_data: learnt.names, training, code_version: String::new() };
        file::save(&path, &metadata, trainer.averaged())?;
        print(&format!("{}\n", path.display()));
        score(&path, &run, &cases)
    }
}

/// Trains, writing a row of losses for each step.
fn follow(run: &SeriesRun, trainer: &mut SeriesTrainer, train: &Windows, held_out: &Windows) -> anyhow::Result<()> {
    let (steps, every) = (run.training.steps, run.validation.every);
    let bar = ProgressBar::new(steps)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {per_sec}, {eta} left, {msg}")?);
    let path = run.output.join("losses.csv");
    let mut log = LossLog::open(&path, 0).with_context(|| format!("cannot write {}", path.display()))?;
    let stop = Stop::on_signal()?;
    let mut mean = None;
    while trainer.steps_done() < steps && !stop.is_set() {
        let report = trainer.step(train)?;
        let smooth = mean.map_or(report.loss, |m: f64| m + 0.02 * (report.loss - m));
        mean = Some(smooth);
        let due = every > 0 && trainer.steps_done().is_multiple_of(every);
        let loss = due.then(|| trainer.validation_loss(held_out, run.validation.batches)).transpose()?;
        log.add(&report, loss).with_context(|| format!("cannot write {}", path.display()))?;
        bar.inc(1);
        bar.set_message(format!("loss {smooth:.4}"));
    }
    if trainer.steps_done() == steps {
        bar.finish();
    } else {
        bar.abandon();
        eprintln!("{} of {steps} steps done", trainer.steps_done());
    }
    Ok(())
}

/// The readings of files, and their stretches.
fn windows(run: &SeriesRun, setting: &str, files: &[SeriesFile], step: Cadence) -> anyhow::Result<(Readings, Windows)> {
    let length = run.series.length();
    let readings = Readings::of(files, run.series.quantity, step)?;
    let windows = Windows::new(readings.series(), length);
    if windows.is_empty() {
        let longest = readings.longest();
        let text = format!(
            "{setting}: the longest series without a gap has {longest} values; expected the {length} of context and leads"
        );
        return Err(Usage(text).into());
    }
    Ok((readings, windows))
}

/// Prints how good the model is on the cases of the validation.
fn score(path: &Path, run: &SeriesRun, cases: &[Case]) -> anyhow::Result<()> {
    if cases.is_empty() {
        eprintln!("no slot of validation.issue_every has its past and future: nothing is scored");
        return Ok(());
    }
    let device = ComputeDevice::select(&run.device, Precision::F32)?.device;
    let model = SeriesModel::open(path, device)?;
    let quantity = run.series.quantity;
    let bar = ProgressBar::new(cases.len() as u64)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} forecasts scored")?);
    let board = judge::judge(&model, cases, quantity, run.validation.members, |done| bar.inc(done as u64))?;
    bar.finish_and_clear();
    print(&board.text(quantity.unit(), run.series.leads));
    Ok(())
}
