//! Forecasts every issue time of every event by every model, and scores what was observed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ndarray::{Array2, ArrayView3, Axis};
use squall_connectors::options::ReadOptions;
use squall_fields::{Chain, Degradation, Forecast, Frame, IssueTime, LeadTime};
use squall_models::scores::{AnyScore, Field, common};

use super::contestants::Contestants;
use super::event::Event;
use super::outcome::Outcome;
use super::report::MapImage;
use super::state::{Done, DoneModel, State};
use crate::commands::Usage;
use crate::dashboard::Dashboard;
use crate::maps;
use crate::once::Once;
use crate::signals::Stop;
use crate::verify::files::add_fields;
use crate::verify::tally::Subject;
use crate::verify::{Tally, stem};

/// How a backtest runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// An event each.
    pub inputs: Vec<PathBuf>,
    /// How the files are read.
    pub read: ReadOptions,
    /// Side of the square that is forecast, in cells; `None` forecasts all.
    pub side: Option<usize>,
    /// Every so many slots is an issue time.
    pub every: usize,
    /// From a slot to the arrival of its frame.
    pub delay: Duration,
    /// Events that run beside each other.
    pub jobs: usize,
    /// Where the report goes, and what has been done.
    pub folder: PathBuf,
}

/// A backtest.
pub struct Engine {
    contestants: Contestants,
    options: Options,
    empty: Vec<Box<dyn AnyScore>>,
}

impl Engine {
    /// Of models, with empty scores.
    pub fn new(contestants: Contestants, options: Options, empty: Vec<Box<dyn AnyScore>>) -> Self {
        Self { contestants, options, empty }
    }

    /// Runs until all is done, or until it is told to stop: then what is done is kept, and `None` is given.
    ///
    /// # Errors
    /// A file or a model cannot be read, or the folder cannot be written to.
    pub fn run(&self, dashboard: &Dashboard, stop: &Stop) -> anyhow::Result<Option<Outcome>> {
        self.check_names()?;
        let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(input) = self.options.inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.event(input, dashboard, stop);
                let failed = result.is_err();
                results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                if failed || stop.is_set() {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            (1..self.options.jobs.clamp(1, self.options.inputs.len().max(1))).for_each(|_| {
                scope.spawn(work);
            });
            work();
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut events = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        if stop.is_set() || events.iter().any(Option::is_none) {
            return Ok(None);
        }
        events.sort_by(|a, b| a.as_ref().map(|event| &event.name).cmp(&b.as_ref().map(|event| &event.name)));
        let events = events.into_iter().flatten().collect();
        Ok(Some(Outcome::new(&self.contestants, self.options.delay, self.empty.clone(), events)))
    }

    /// Events go by the names of their files.
    fn check_names(&self) -> Result<(), Usage> {
        let inputs = &self.options.inputs;
        for (i, input) in inputs.iter().enumerate() {
            if let Some(other) = inputs[..i].iter().find(|other| stem(other) == stem(input)) {
                let names = (other.display(), input.display());
                return Err(Usage(format!("--input: {} and {} make events of one name", names.0, names.1)));
            }
        }
        Ok(())
    }

    /// One event; `None` if it was told to stop.
    fn event(&self, input: &Path, dashboard: &Dashboard, stop: &Stop) -> anyhow::Result<Option<super::outcome::Event>> {
        let mut event = Event::open(input, &self.options.read, self.options.side)?;
        let streams = self.contestants.streams();
        let cadence = streams[0].source.cadence;
        let window = self.contestants.longest_window();
        let times = event.issue_times(cadence, window, self.contestants.leads(), self.options.every);
        anyhow::ensure!(
            !times.is_empty(),
            "{}: there is no issue time with {window} frames of context and a lead that was observed",
            input.display()
        );
        let mut state = State::open(&self.options.folder.join("state"), &event.name, &self.description(input)?)?;
        let task = dashboard.task(&event.name, times.len() as u64);
        let mut models = None;
        for time in &times {
            if state.done.iter().any(|done| done.issue_time == time.unix_seconds()) {
                task.step(format!("{time}, done before"));
                continue;
            }
            if stop.is_set() {
                return Ok(None);
            }
            // Loaded only once something is left to do.
            let models = match &mut models {
                Some(models) => models,
                none => none.insert(streams.iter().map(Once::new).collect::<anyhow::Result<Vec<_>>>()?),
            };
            state.add(self.issue_time(&mut event, models, *time)?)?;
            event.forget_before(cadence.step(time.slot(), 1 - window as i64));
            task.step(time.to_string());
        }
        task.end("");
        let first = event.frame(times[0].slot())?.context("the first issue time has a frame")?;
        let period = event.period().context("an event has slots")?;
        let known: Vec<Done> = times
            .iter()
            .filter_map(|time| state.done.iter().find(|done| done.issue_time == time.unix_seconds()).cloned())
            .collect();
        Ok(Some(super::outcome::Event { name: event.name.clone(), period, grid: first.grid.clone(), done: known }))
    }

    /// Maps of the best, the middle and the worst forecast of the last model, by the CRPS over all leads.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn maps(&self, outcome: &Outcome) -> anyhow::Result<Vec<MapImage>> {
        let ranked = outcome.ranked();
        let mut chosen = match ranked.len() {
            0 => Vec::new(),
            n => vec![("Best", 0), ("Middle", n / 2), ("Worst", n - 1)],
        };
        chosen.dedup_by_key(|(_, place)| *place);
        let streams = self.contestants.streams();
        let mut models = streams.iter().map(Once::new).collect::<anyhow::Result<Vec<_>>>()?;
        let mut maps = Vec::new();
        for (title, place) in chosen {
            let (name, time, crps) = &ranked[place];
            let of = |input: &&PathBuf| *stem(input) == **name;
            let input = self.options.inputs.iter().find(of).context("a ranked event is an input")?;
            let mut event = Event::open(input, &self.options.read, self.options.side)?;
            let window = self.window(&mut event, *time)?;
            let forecasts = models.iter_mut().map(|once| once.forecast_from(window.iter().cloned().map(Ok), *time));
            let forecasts = forecasts.collect::<anyhow::Result<Vec<_>>>()?;
            // Persistence is on every map.
            let shown: Vec<&Forecast> = forecasts.iter().filter(|f| f.provenance.model != "persistence").collect();
            let shown = if shown.is_empty() { forecasts.iter().collect() } else { shown };
            let event = Mutex::new(event);
            let observed = |slot| {
                event.lock().unwrap_or_else(PoisonError::into_inner).frame(slot).unwrap_or_else(|error| {
                    tracing::warn!("a map has no observation: {}", Chain(error.as_ref()));
                    None
                })
            };
            maps.push(MapImage {
                title: format!("{title} case of {}", streams[streams.len() - 1].name),
                caption: format!("{name}, issued {time}: CRPS {crps:.3} over all leads"),
                png_base64: STANDARD.encode(maps::comparison::page(&shown, &observed)?),
            });
        }
        Ok(maps)
    }

    /// The frames that the longest window of an issue time has.
    fn window(&self, event: &mut Event, time: IssueTime) -> anyhow::Result<Vec<Arc<Frame>>> {
        let cadence = self.contestants.streams()[0].source.cadence;
        let steps = 1 - self.contestants.longest_window() as i64..=0;
        let frames = steps.filter_map(|step| event.frame(cadence.step(time.slot(), step)).transpose());
        frames.collect()
    }

    /// Whatever decides the result, so that what another backtest has done is not taken for this one's.
    fn description(&self, input: &Path) -> anyhow::Result<String> {
        let file = std::fs::metadata(input).with_context(|| format!("cannot read {}", input.display()))?;
        let streams = serde_json::to_string(self.contestants.streams())?;
        let scores: Vec<_> = self
            .empty
            .iter()
            .map(|score| format!("{}{:?}{:?}", score.name(), score.threshold(), score.scale()))
            .collect();
        let Options { side, every, delay, .. } = &self.options;
        let file = (file.len(), file.modified().ok());
        Ok(format!("{} {streams} {scores:?} {side:?} {every} {delay:?} {file:?}", env!("CARGO_PKG_VERSION")))
    }

    fn issue_time(&self, event: &mut Event, models: &mut [Once<'_>], time: IssueTime) -> anyhow::Result<Done> {
        let left_out =
            |reason: String| Done { issue_time: time.unix_seconds(), models: Vec::new(), left_out: Some(reason) };
        let cadence = self.contestants.streams()[0].source.cadence;
        let window = self.window(event, time)?;
        let (mut forecasts, mut seconds) = (Vec::new(), Vec::new());
        for (once, stream) in models.iter_mut().zip(self.contestants.streams()) {
            let started = Instant::now();
            let forecast = match once.forecast_from(window.iter().cloned().map(Ok), time) {
                Ok(forecast) => forecast,
                Err(error) => return Ok(left_out(format!("{}: {}", stream.name, Chain(error.as_ref())))),
            };
            let of_model = |reason: &&Degradation| !matches!(reason, Degradation::MissingFrames { .. });
            if let Some(reason) = forecast.provenance.degraded.iter().find(of_model) {
                return Ok(left_out(format!("{}: {reason:?}", stream.name)));
            }
            forecasts.push(forecast);
            seconds.push(started.elapsed().as_secs_f64());
        }
        let mut tallies = vec![Tally::new(self.empty.clone()); forecasts.len()];
        for step in 1..=self.contestants.leads() as i64 {
            let lead = LeadTime::from_seconds(step * cadence.step_seconds());
            // What was not ahead any more when it could be published is no forecast.
            if lead.seconds() as f64 <= self.options.delay.as_secs_f64() {
                continue;
            }
            let Some(observed) = event.frame(cadence.step(time.slot(), step))? else { continue };
            judge(&mut tallies, &forecasts, lead, &observed);
        }
        let models = forecasts.iter().zip(seconds).zip(tallies).map(|((forecast, seconds), tally)| DoneModel {
            digest: forecast.id.model_digest.to_string(),
            seconds,
            statistics: tally
                .into_statistics()
                .map(|(subject, sums)| (subject.variable.to_string(), subject.lead.seconds(), sums))
                .collect(),
        });
        Ok(Done { issue_time: time.unix_seconds(), models: models.collect(), left_out: None })
    }
}

/// Scores all models that have a lead on the cells that all of them have.
fn judge(tallies: &mut [Tally], forecasts: &[Forecast], lead: LeadTime, observed: &Frame) {
    let variables: Vec<_> = forecasts[0].ensembles.iter().map(|ensemble| ensemble.variable).collect();
    let with_lead: Vec<(usize, usize)> = forecasts
        .iter()
        .enumerate()
        .filter_map(|(model, forecast)| Some((model, forecast.leads.iter().position(|own| *own == lead)?)))
        .collect();
    let members = |(model, index): (usize, usize), variable: usize| -> Option<ArrayView3<'_, f32>> {
        Some(forecasts[model].ensembles.get(variable)?.values.index_axis(Axis(1), index))
    };
    let planes: Option<Vec<Array2<f32>>> = (0..variables.len())
        .map(|v| {
            let of: Option<Vec<_>> = with_lead.iter().map(|at| members(*at, v)).collect();
            Some(common(observed.plane(variables[v])?, of?.into_iter()))
        })
        .collect();
    let Some(planes) = planes else { return };
    for (model, index) in with_lead {
        let fields: Option<Vec<_>> = variables
            .iter()
            .zip(&planes)
            .enumerate()
            .map(|(v, (variable, came))| {
                let members = members((model, index), v)?;
                Some(Field { variable: *variable, members, observed: came.view() })
            })
            .collect();
        let subject = |variable: &str| Subject {
            event: Arc::from(""),
            model: forecasts[model].id.stream.clone(),
            variable: variable.into(),
            lead,
        };
        add_fields(&mut tallies[model], subject, &fields.unwrap_or_default());
    }
}
