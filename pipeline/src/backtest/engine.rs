//! Forecasts every issue time of every event by every model, and scores what was observed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use squall_connectors::options::ReadOptions;
use squall_fields::{Chain, Degradation, Forecast, Frame, IssueTime, LeadTime};
use squall_models::scores::AnyScore;
use squall_operators::window::Fired;

use super::contestants::Contestants;
use super::event::{Event, Input};
use super::judge::{Areas, Judge};
use super::outcome::Outcome;
use super::report::MapImage;
use super::state::{Done, DoneModel, State};
use crate::commands::Usage;
use crate::config::StreamConfig;
use crate::dashboard::Dashboard;
use crate::maps;
use crate::once::{self, Once};
use crate::signals::Stop;

/// How a backtest runs.
#[derive(Clone)]
pub struct Options {
    /// An event each.
    pub inputs: Vec<Input>,
    /// How the files are read.
    pub read: ReadOptions,
    /// Side of the square that is forecast, in cells; `None` forecasts all.
    pub side: Option<usize>,
    /// Every so many slots is an issue time.
    pub every: usize,
    /// From a slot to the arrival of its frame, in a file.
    pub delay: Duration,
    /// Events that run beside each other.
    pub jobs: usize,
    /// Devices of the models, of which each of the events that run beside each other has the next one; none leaves the
    /// models on those that they are set to.
    pub devices: Vec<Arc<str>>,
    /// Where forecasts are judged, besides on the whole grid.
    pub areas: Areas,
    /// Files with the wind that steers the streams that are steered, for events that are files; a topic has its own.
    pub steering: Vec<PathBuf>,
    /// Where the report goes, and what has been done.
    pub folder: PathBuf,
}

/// A backtest.
pub struct Engine {
    contestants: Contestants,
    options: Options,
    empty: Vec<Box<dyn AnyScore>>,
}

/// What a forecast is made of.
enum Window {
    /// Frames of a file, of which quality control is yet to judge.
    Frames(Vec<Arc<Frame>>),
    /// A window of a topic as it fired, if it did.
    Fired(Option<Fired>),
}

impl Window {
    fn forecast(&self, once: &mut Once<'_>, time: IssueTime) -> anyhow::Result<Forecast> {
        match self {
            Self::Frames(frames) => once.forecast_from(frames.iter().cloned().map(Ok), time),
            Self::Fired(fired) => once.forecast_fired(fired.as_ref().context("the window had not fired")?),
        }
    }
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
        let work = |job: usize| {
            let streams = self.streams(job);
            while let Some(input) = self.options.inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.event(input, &streams, dashboard, stop);
                let failed = result.is_err();
                results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                if failed || stop.is_set() {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            (1..self.options.jobs.clamp(1, self.options.inputs.len().max(1))).for_each(|job| {
                scope.spawn(move || work(job));
            });
            work(0);
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut events = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        if stop.is_set() || events.iter().any(Option::is_none) {
            return Ok(None);
        }
        events.sort_by(|a, b| a.as_ref().map(|event| &event.name).cmp(&b.as_ref().map(|event| &event.name)));
        let events = events.into_iter().flatten().collect();
        Ok(Some(Outcome::new(&self.contestants, self.options.areas.names(), self.empty.clone(), events)))
    }

    /// The streams with their models on the device of one of the jobs.
    fn streams(&self, job: usize) -> Vec<StreamConfig> {
        let devices = &self.options.devices;
        match devices.len() {
            0 => self.contestants.streams().to_vec(),
            count => self.contestants.on(&devices[job % count]),
        }
    }

    /// The models of streams, loaded, each with the wind that steers it.
    fn models<'a>(&self, streams: &'a [StreamConfig]) -> anyhow::Result<Vec<Once<'a>>> {
        let steered = |stream: &'a StreamConfig| {
            let files = if stream.inputs.steering.is_some() { &self.options.steering[..] } else { &[] };
            let winds = if files.is_empty() { None } else { once::winds(stream, files)? };
            Ok(Once::new(stream)?.steered_by(winds))
        };
        streams.iter().map(steered).collect()
    }

    /// Events go by the names of their files.
    fn check_names(&self) -> Result<(), Usage> {
        let inputs = &self.options.inputs;
        for (i, input) in inputs.iter().enumerate() {
            if let Some(other) = inputs[..i].iter().find(|other| other.name() == input.name()) {
                let names = (other.place(), input.place());
                return Err(Usage(format!("--input: {} and {} make events of one name", names.0, names.1)));
            }
        }
        Ok(())
    }

    /// One event; `None` if it was told to stop.
    fn event(
        &self,
        input: &Input,
        streams: &[StreamConfig],
        dashboard: &Dashboard,
        stop: &Stop,
    ) -> anyhow::Result<Option<super::outcome::Event>> {
        let mut event = input.open(&self.options.read, self.options.side)?;
        let cadence = streams[0].source.cadence;
        let window = self.contestants.longest_window();
        let times = event.issue_times(cadence, window, self.contestants.leads(), self.options.every);
        anyhow::ensure!(
            !times.is_empty(),
            "{}: there is no issue time with {window} frames of context and a lead that was observed",
            input.place()
        );
        let first = event.frame(times[0].slot())?.context("the first issue time has a frame")?;
        let judge = Judge::new(&self.empty, &self.options.areas, first.grid.clone());
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
                none => none.insert(self.models(streams)?),
            };
            state.add(self.issue_time(&mut event, input, (models, streams), &judge, *time)?)?;
            event.forget_before(cadence.step(time.slot(), 1 - window as i64));
            task.step(time.to_string());
        }
        task.end("");
        let period = event.period().context("an event has slots")?;
        let known: Vec<Done> = times
            .iter()
            .filter_map(|time| state.done.iter().find(|done| done.issue_time == time.unix_seconds()).cloned())
            .collect();
        let delays_ms = times.iter().filter_map(|time| self.delay_ms(input, *time)).collect();
        let (name, grid) = (event.name.clone(), first.grid.clone());
        Ok(Some(super::outcome::Event { name, period, grid, delays_ms, done: known }))
    }

    /// How long after an issue time its windows are known; `None` if one of them never was.
    fn delay_ms(&self, input: &Input, time: IssueTime) -> Option<i64> {
        match input {
            Input::File(_) => Some(self.options.delay.as_millis() as i64),
            Input::Topic(topic) => topic.delay_ms(time),
        }
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
        let streams = self.streams(0);
        let mut models = self.models(&streams)?;
        let mut maps = Vec::new();
        for (title, place) in chosen {
            let (name, time, crps) = &ranked[place];
            let of = |input: &&Input| input.name() == *name;
            let input = self.options.inputs.iter().find(of).context("a ranked event is an input")?;
            let mut event = input.open(&self.options.read, self.options.side)?;
            let mut forecasts = Vec::new();
            for (number, once) in models.iter_mut().enumerate() {
                forecasts.push(self.context(&mut event, number, *time)?.forecast(once, *time)?);
            }
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

    /// What a stream, by its number, forecasts from: of a file the frames that the longest window of an issue time has.
    fn context(&self, event: &mut Event, stream: usize, time: IssueTime) -> anyhow::Result<Window> {
        let cadence = self.contestants.streams()[0].source.cadence;
        if event.is_of_topic() {
            return Ok(Window::Fired(event.fired(stream, time, cadence)?));
        }
        let steps = 1 - self.contestants.longest_window() as i64..=0;
        let frames = steps.filter_map(|step| event.frame(cadence.step(time.slot(), step)).transpose());
        Ok(Window::Frames(frames.collect::<anyhow::Result<_>>()?))
    }

    /// Whatever decides the result, so that what another backtest has done is not taken for this one's.
    fn description(&self, input: &Input) -> anyhow::Result<String> {
        let identity = input.identity()?;
        let streams = serde_json::to_string(self.contestants.streams())?;
        let scores: Vec<_> = self
            .empty
            .iter()
            .map(|score| format!("{}{:?}{:?}", score.name(), score.threshold(), score.scale()))
            .collect();
        let Options { side, every, delay, devices, areas: Areas { regions, identity: stations, .. }, steering, .. } =
            &self.options;
        let identity_of = |path: &PathBuf| Input::File(path.clone().into()).identity();
        let steering = steering.iter().map(identity_of).collect::<anyhow::Result<Vec<_>>>()?;
        let version = env!("CARGO_PKG_VERSION");
        let settings = format!("{side:?} {every} {delay:?} {devices:?} {regions:?} {stations} {steering:?}");
        Ok(format!("{version} {streams} {scores:?} {settings} {identity}"))
    }

    fn issue_time(
        &self,
        event: &mut Event,
        input: &Input,
        (models, streams): (&mut [Once<'_>], &[StreamConfig]),
        judge: &Judge<'_>,
        time: IssueTime,
    ) -> anyhow::Result<Done> {
        let left_out =
            |reason: String| Done { issue_time: time.unix_seconds(), models: Vec::new(), left_out: Some(reason) };
        let cadence = streams[0].source.cadence;
        let Some(delay_ms) = self.delay_ms(input, time) else {
            return Ok(left_out("a window had not fired".to_owned()));
        };
        let (mut forecasts, mut seconds) = (Vec::new(), Vec::new());
        for (number, (once, stream)) in models.iter_mut().zip(streams).enumerate() {
            let context = self.context(event, number, time)?;
            let started = Instant::now();
            let forecast = match context.forecast(once, time) {
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
        let mut sums = vec![Vec::new(); forecasts.len()];
        for step in 1..=self.contestants.leads() as i64 {
            let lead = LeadTime::from_seconds(step * cadence.step_seconds());
            // What was not ahead any more when it could be published is no forecast.
            if lead.seconds() * 1000 <= delay_ms {
                continue;
            }
            let observed = event.frame(cadence.step(time.slot(), step))?;
            let scored = judge.scores(&forecasts, lead, observed.as_deref());
            sums.iter_mut().zip(scored).for_each(|(sums, more)| sums.extend(more));
        }
        let models = forecasts.iter().zip(seconds).zip(sums).map(|((forecast, seconds), statistics)| DoneModel {
            digest: forecast.id.model_digest.to_string(),
            seconds,
            statistics,
        });
        Ok(Done { issue_time: time.unix_seconds(), models: models.collect(), left_out: None })
    }
}
