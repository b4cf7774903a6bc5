//! Forecasts every issue time of every event by every model, and scores what was observed.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use squall_connectors::options::ReadOptions;
use squall_fields::{Chain, Degradation, Forecast, Frame, Grid, IssueTime, LeadTime};
use squall_models::scores::AnyScore;
use squall_operators::window::Fired;

use super::contestants::Contestants;
use super::event::{Event, Input};
use super::judge::{Areas, Judge};
use super::outcome::{self, Outcome};
use super::report::MapImage;
use super::state::{Done, DoneModel, State};
use super::truth::Truth;
use crate::commands::Usage;
use crate::config::StreamConfig;
use crate::dashboard::{Dashboard, Task};
use crate::maps;
use crate::once::{self, Once};
use crate::publish::Arrivals;
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
    /// When the frames of a file arrive.
    pub arrivals: Arrivals,
    /// From when all windows of an issue time are known to the publication of its forecasts: given, not measured, so that
    /// the report does not depend on the machine.
    pub publish_after: Duration,
    /// Parts of events that run beside each other.
    pub jobs: usize,
    /// Devices of the models, of which each of the parts that run beside each other has the next one; none leaves the
    /// models on those that they are set to.
    pub devices: Vec<Arc<str>>,
    /// Where forecasts are judged, besides on the whole grid.
    pub areas: Areas,
    /// What forecasts are compared with, if not what they are made of.
    pub truth: Option<Truth>,
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
            Self::Fired(fired) => {
                let fired = fired.as_ref().context("the window had not fired")?;
                // A topic has its wind already.
                let Some(wind) = once.wind(time)? else { return once.forecast_fired(fired) };
                let window = squall_fields::Window { steering: Some(wind), ..(*fired.window).clone() };
                once.forecast_fired(&Fired { window: window.into(), ..fired.clone() })
            }
        }
    }
}

/// Issue times that one job does before it takes the next ones, where there are several jobs. Each part reads the frames
/// around its ends again; more parts keep all jobs busy to the end.
const PART: usize = 24;

/// An event that was opened, and what of it is done.
struct Opened<'a> {
    event: Event,
    grid: Arc<Grid>,
    judge: Judge<'a>,
    /// All issue times, and those that are left.
    times: Vec<IssueTime>,
    left: Vec<IssueTime>,
    state: Mutex<State>,
}

impl Opened<'_> {
    /// What is left of it, in parts for so many jobs.
    fn parts(&self, jobs: usize) -> impl Iterator<Item = (&Self, &[IssueTime])> {
        let length = if jobs > 1 { PART } else { self.left.len().max(1) };
        self.left.chunks(length).map(move |times| (self, times))
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
        let description = self.description()?;
        let (inputs, mut opened) = (&self.options.inputs, Vec::new());
        // Files are read for it.
        let is_long = !self.options.arrivals.jitter.is_zero();
        let arriving = is_long.then(|| dashboard.long_task("arrivals", inputs.len() as u64, 0));
        for input in inputs {
            if stop.is_set() {
                return Ok(None);
            }
            opened.push(self.open(input, &description)?);
            arriving.iter().for_each(|task| task.step(input.name().to_string()));
        }
        arriving.iter().for_each(|task| task.end(""));
        let jobs = self.options.jobs.max(1);
        let parts: Vec<(&Opened<'_>, &[IssueTime])> = opened.iter().flat_map(|event| event.parts(jobs)).collect();
        let steps = |times: fn(&Opened<'_>) -> usize| opened.iter().map(times).sum::<usize>() as u64;
        let (all, left) = (steps(|event| event.times.len()), steps(|event| event.left.len()));
        let task = dashboard.long_task("backtest", all, all - left);
        let (next, failed, failures) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(BTreeMap::new()));
        let is_over = || stop.is_set() || failed.load(Ordering::Relaxed);
        let work = |job: usize| {
            let streams = self.streams(job);
            let mut models = None;
            while !is_over() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((event, times)) = parts.get(number) else { break };
                let mut part = || {
                    let models = match &mut models {
                        Some(models) => models,
                        none => none.insert(self.models(&streams)?),
                    };
                    self.part(event, times, (models, &streams), &task, &is_over)
                };
                if let Err(error) = part() {
                    failed.store(true, Ordering::Relaxed);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).insert(number, error);
                }
            }
        };
        std::thread::scope(|scope| {
            let work = &work;
            (1..jobs.min(parts.len())).for_each(|job| {
                scope.spawn(move || work(job));
            });
            work(0);
        });
        task.end("");
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = failures.into_iter().next() {
            return Err(error);
        }
        if stop.is_set() {
            return Ok(None);
        }
        let mut events = opened.into_iter().map(|event| self.done(event)).collect::<anyhow::Result<Vec<_>>>()?;
        events.sort_by(|a, b| a.name.cmp(&b.name));
        let outcome = Outcome::new(&self.contestants, self.options.areas.names(), self.empty.clone(), events);
        let truth = self.options.truth.as_ref().map(|truth| truth.name.clone());
        Ok(Some(outcome.published_after(self.options.publish_after).compared_with(truth)))
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

    /// Opens an event with what of it was done before, by a backtest that this describes.
    fn open(&self, input: &Input, description: &str) -> anyhow::Result<Opened<'_>> {
        let mut event = self.read(input)?;
        let cadence = self.contestants.streams()[0].source.cadence;
        let window = self.contestants.longest_window();
        let times = event.issue_times(cadence, window, self.contestants.leads(), self.options.every);
        anyhow::ensure!(
            !times.is_empty(),
            "{}: there is no issue time with {window} frames of context and a lead that was observed",
            input.place()
        );
        let first = event.frame(times[0].slot())?.context("the first issue time has a frame")?;
        event.forget_before(cadence.step(times[0].slot(), 1));
        let grid = first.grid.clone();
        let judge = Judge::new(&self.empty, &self.options.areas, grid.clone());
        let description = format!("{description} {}", input.identity()?);
        let state = State::open(&self.options.folder.join("state"), &event.name, &description)?;
        let done: HashSet<i64> = state.done.iter().map(|done| done.issue_time).collect();
        let left = times.iter().copied().filter(|time| !done.contains(&time.unix_seconds())).collect();
        Ok(Opened { event, grid, judge, times, left, state: Mutex::new(state) })
    }

    fn read(&self, input: &Input) -> anyhow::Result<Event> {
        let Options { read, side, arrivals, truth, .. } = &self.options;
        let event = input.open(read, *side, arrivals, self.contestants.streams())?;
        event.compared_with(truth.clone())
    }

    /// Some issue times of an event, as many as there are until it is over.
    fn part(
        &self,
        of: &Opened<'_>,
        times: &[IssueTime],
        (models, streams): (&mut [Once<'_>], &[StreamConfig]),
        task: &Task,
        is_over: &dyn Fn() -> bool,
    ) -> anyhow::Result<()> {
        let (mut event, cadence) = (of.event.clone(), streams[0].source.cadence);
        for time in times {
            if is_over() {
                break;
            }
            let done = self.issue_time(&mut event, (&mut *models, streams), &of.judge, *time)?;
            of.state.lock().unwrap_or_else(PoisonError::into_inner).add(done)?;
            event.forget_before(cadence.step(time.slot(), 1 - self.contestants.longest_window() as i64));
            task.step(format!("{} {time}", event.name));
        }
        Ok(())
    }

    /// An event of which all is done, in the order of its issue times, whoever did them when.
    fn done(&self, opened: Opened<'_>) -> anyhow::Result<outcome::Event> {
        let Opened { event, grid, times, state, .. } = opened;
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut done: BTreeMap<i64, Done> = state.done.into_iter().map(|done| (done.issue_time, done)).collect();
        let done = times.iter().filter_map(|time| done.remove(&time.unix_seconds())).collect();
        let delay = self.options.arrivals.delay;
        let delays_ms = times.iter().filter_map(|time| event.delay_ms(*time, delay)).collect();
        let period = event.period().context("an event has slots")?;
        Ok(outcome::Event { name: event.name, period, grid, delays_ms, done })
    }

    /// Maps of the best, the middle and the worst forecast of the last model, by the score of a whole forecast ([`Outcome::ranked_by`]).
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
            let (name, time, score) = &ranked[place];
            let of = |input: &&Input| input.name() == *name;
            let input = self.options.inputs.iter().find(of).context("a ranked event is an input")?;
            let mut event = self.read(input)?;
            let mut forecasts = Vec::new();
            for (number, once) in models.iter_mut().enumerate() {
                forecasts.push(self.context(&mut event, number, *time)?.forecast(once, *time)?);
            }
            // Persistence is on every map.
            let shown: Vec<&Forecast> = forecasts.iter().filter(|f| f.provenance.model != "persistence").collect();
            let shown = if shown.is_empty() { forecasts.iter().collect() } else { shown };
            let event = Mutex::new(event);
            let observed = |slot| {
                event.lock().unwrap_or_else(PoisonError::into_inner).observed(slot).unwrap_or_else(|error| {
                    tracing::warn!("a map has no observation: {}", Chain(error.as_ref()));
                    None
                })
            };
            maps.push(MapImage {
                title: format!("{title} case of {}", streams[streams.len() - 1].name),
                caption: format!("{name}, issued {time}: {} {score:.3} over all leads", outcome.ranked_by()),
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

    /// Whatever decides the results besides the event, so that what another backtest has done is not taken for this one's.
    fn description(&self) -> anyhow::Result<String> {
        let streams = serde_json::to_string(self.contestants.streams())?;
        let models = self.contestants.digests()?;
        // With all that they are set to.
        let scores: Vec<_> = self.empty.iter().map(|score| format!("{} {score:?}", score.name())).collect();
        let Options { side, every, arrivals, publish_after, devices, areas, truth, steering, .. } = &self.options;
        let truth = truth.as_ref().map(|truth| (&truth.name, &truth.identity));
        let Areas { regions, identity: stations, .. } = areas;
        let identity_of = |path: &PathBuf| Input::File(path.clone().into()).identity();
        let steering = steering.iter().map(identity_of).collect::<anyhow::Result<Vec<_>>>()?;
        // Another build may forecast otherwise under the same version.
        let program = std::env::current_exe().ok().and_then(|path| identity_of(&path).ok()).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        let times = format!("{every} {arrivals:?} {publish_after:?}");
        let settings = format!("{side:?} {times} {devices:?} {regions:?} {stations} {truth:?} {steering:?}");
        Ok(format!("{version} {program} {streams} {models:?} {scores:?} {settings}"))
    }

    fn issue_time(
        &self,
        event: &mut Event,
        (models, streams): (&mut [Once<'_>], &[StreamConfig]),
        judge: &Judge<'_>,
        time: IssueTime,
    ) -> anyhow::Result<Done> {
        let left_out = |failed: Vec<usize>, reason: String| Done {
            issue_time: time.unix_seconds(),
            models: Vec::new(),
            failed,
            left_out: Some(reason),
        };
        let cadence = streams[0].source.cadence;
        let Some(delay_ms) = event.delay_ms(time, self.options.arrivals.delay) else {
            return Ok(left_out(Vec::new(), "a window had not fired".to_owned()));
        };
        let (mut forecasts, mut seconds, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (once, stream)) in models.iter_mut().zip(streams).enumerate() {
            let context = self.context(event, number, time)?;
            let started = Instant::now();
            match context.forecast(once, time) {
                Ok(forecast) => {
                    forecasts.push(forecast);
                    seconds.push(started.elapsed().as_secs_f64());
                }
                Err(error) => failures.push((number, format!("{}: {}", stream.name, Chain(error.as_ref())))),
            }
        }
        // A running stream publishes nothing then, and without one of the models there is nothing to compare.
        if let Some((_, reason)) = failures.first() {
            return Ok(left_out(failures.iter().map(|(number, _)| *number).collect(), reason.clone()));
        }
        let published_ms = delay_ms.saturating_add(self.options.publish_after.as_millis() as i64);
        let mut sums = vec![Vec::new(); forecasts.len()];
        for step in 1..=self.contestants.leads() as i64 {
            let lead = LeadTime::from_seconds(step * cadence.step_seconds());
            // What was not ahead any more when it was published is no forecast.
            if lead.seconds() * 1000 <= published_ms {
                continue;
            }
            let observed = event.observed(cadence.step(time.slot(), step))?;
            let scored = judge.scores(&forecasts, lead, observed.as_deref());
            sums.iter_mut().zip(scored).for_each(|(sums, more)| sums.extend(more));
        }
        let models = forecasts.iter().zip(seconds).zip(sums).map(|((forecast, seconds), statistics)| DoneModel {
            digest: forecast.id.model_digest.to_string(),
            seconds,
            fallback: fallback(forecast),
            statistics,
        });
        Ok(Done { issue_time: time.unix_seconds(), models: models.collect(), failed: Vec::new(), left_out: None })
    }
}

/// Why the fallback of its stream answered in place of a model, if it did: that is what a running stream publishes, too.
fn fallback(forecast: &Forecast) -> Option<String> {
    forecast.provenance.degraded.iter().find_map(|reason| match reason {
        Degradation::MissingFrames { .. } => None,
        Degradation::ModelFailed { message } => Some(message.clone()),
        other => Some(format!("{other:?}")),
    })
}
