//! `squall backtest`: models against each other over an archive.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use squall_connectors::options::ReadOptions;

use super::verify::ScoreArguments;
use super::{Overrides, Usage, duration, print, write_file};
use crate::archive::read_options;
use crate::backtest::report::html;
use crate::backtest::{Contestants, Engine, Event, Options};
use crate::dashboard::Dashboard;
use crate::signals::Stop;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall backtest --input may.nc june.nc --models persistence,extrapolation,steps:24 --leads 12 --report out/backtest
  squall backtest --input event.nc --models steps:24,models/weights/cogdpm-rain.safetensors --side 256 --report out/b
  squall backtest configs/rain.toml --input event.nc --delay '2 min' --report out/backtest

Every file is an event. Writes report.html, for people, and report.json, with all scores. A backtest that was killed or
stopped goes on when the same command is given again; what it has done lies in the folder state of the report.";

/// Arguments of `squall backtest`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration whose streams are compared, all of one source.
    #[arg(value_name = "CONFIG", required_unless_present = "models", conflicts_with_all = ["models", "leads"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Files with observations; an event each.
    #[arg(short, long, required = true, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Models: baselines by name and weights by file, with members behind a colon, such as steps:24.
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    models: Vec<String>,
    /// Leads, a step of the cadence apart.
    #[arg(long, default_value_t = 12)]
    leads: usize,
    /// Folder to write to.
    #[arg(short, long, value_name = "DIR")]
    report: PathBuf,
    /// Forecast the square of so many cells a side where it rains most in the middle of an event.
    #[arg(long, value_name = "CELLS")]
    side: Option<usize>,
    /// Issue a forecast every so many slots.
    #[arg(long, default_value_t = 1, value_name = "SLOTS")]
    every: usize,
    /// From a slot to the arrival of its frame; what lies before that is no forecast.
    #[arg(long, default_value = "0 s", value_name = "DURATION", value_parser = duration)]
    delay: Duration,
    /// Events that run beside each other.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    scores: ScoreArguments,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.side != Some(0), Usage("--side: a square has at least one cell".to_owned()));
        let (contestants, read) = self.contestants()?;
        let unit = contestants.streams()[0].source.variables[0].unit();
        let scores = self.scores.start(unit, true)?;
        let options = Options {
            inputs: self.input.clone(),
            read,
            side: self.side,
            every: self.every,
            delay: self.delay,
            jobs: self.jobs,
            folder: self.report.clone(),
        };
        let engine = Engine::new(contestants, options, scores);
        let (stop, dashboard) = (Stop::on_signal().context("cannot listen to signals")?, Dashboard::new());
        let done = engine.run(&dashboard, &stop)?;
        let outcome = done.context("stopped before the end: the same command goes on from here")?;
        let (mut report, json) = outcome.report();
        report.maps = engine.maps(&outcome)?;
        write_file(&self.report.join("report.json"), format!("{}\n", json?).as_bytes())?;
        let page = self.report.join("report.html");
        write_file(&page, html(&report).as_bytes())?;
        print(&format!("{}\n", page.display()));
        Ok(())
    }

    fn contestants(&self) -> anyhow::Result<(Contestants, ReadOptions)> {
        if let Some(path) = &self.config {
            let contestants = Contestants::of_config(self.overrides.load(path)?)?;
            let read = read_options(&contestants.streams()[0].source);
            return Ok((contestants, read));
        }
        let read = ReadOptions::default();
        let mut first = Event::open(&self.input[0], &read, None)?;
        let cadence = first.cadence().with_context(|| format!("{}: expected two slots", self.input[0].display()))?;
        let (slot, _) = first.period().context("an event has slots")?;
        let frame = first.frame(slot)?.context("the first slot has a frame")?;
        let thresholds = self.scores.thresholds_of(frame.variables[0].unit())?;
        let contestants = Contestants::of_names(&self.models, &frame.variables, cadence, self.leads, &thresholds)?;
        let read = read_options(&contestants.streams()[0].source);
        Ok((contestants, read))
    }
}
