//! `squall demo`: a storm through the whole pipeline, while someone watches.
//!
//! Nothing is faked. Frames are published to a log (the one in memory, or a real Kafka), the runtime that `squall run`
//! starts makes forecasts of them, and the demo is a consumer like any other: it reads the index topic, fetches each
//! forecast from the store, draws it and scores it.

pub mod board;
pub mod compare;
pub mod event;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use squall_connectors::netcdf::forecast_from_bytes;
use squall_connectors::options::Limits;
use squall_fields::{Failure, Forecast, IssueTime};
use squall_operators::ports::{Connect, FieldStore, LogReader, Record};

use crate::commands::publish::Speed;
use crate::commands::write_file;
use crate::config::{Config, StreamConfig};
use crate::dashboard::{Dashboard, Task};
use crate::maps;
use crate::publish::{Arrivals, Format, Spread, end_of_log, record};
use crate::runtime::{Handle, Runtime};
use crate::signals::Stop;
use crate::topics;
use board::Board;
use event::Event;

/// Most bytes of one forecast's file.
const LARGEST: u64 = 1 << 30;
/// Rates from which on rain counts as an event of the scores.
const EVENT_MM_H: f32 = 1.0;
/// How long the last records are waited for after the runtime has ended.
const LAST: Duration = Duration::from_secs(30);

/// A demo that is about to be played.
pub struct Demo {
    /// The configuration, as it is run.
    pub config: Config,
    /// What is played.
    pub event: Event,
    /// How fast.
    pub speed: Speed,
    /// Where maps go.
    pub output: PathBuf,
    /// The log.
    pub connect: Arc<dyn Connect>,
    /// The store.
    pub store: Arc<dyn FieldStore>,
}

/// What a demo has made.
#[derive(Debug)]
pub struct Outcome {
    /// Scores of all forecasts.
    pub board: Board,
    /// Name of the model.
    pub model: String,
    /// Where the forecast of each issue time is in the store.
    pub files: BTreeMap<IssueTime, String>,
    /// Maps that were drawn.
    pub maps: usize,
    /// How long it took.
    pub took: Duration,
}

impl Demo {
    /// Plays it to its end, or until the stop.
    ///
    /// # Errors
    /// The log, the store or a stream failed.
    pub fn play(&self, dashboard: &Dashboard, stop: &Stop) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        topics::ensure(&self.config, &*self.connect)?;
        let stream = self.config.streams.first().context("the demo has a stream")?;
        let frames = self.event.frames.len();
        let forecasts = (frames + 1).saturating_sub(stream.window_frames) as u64;
        let (publishing, forecasting) =
            (dashboard.task("published", frames as u64), dashboard.task("forecasts", forecasts));
        let handle = Runtime::start(&self.config, self.connect.clone(), self.store.clone())?;
        let mut watcher = Watcher::new(self, stream, dashboard, &forecasting)?;
        let published = std::thread::scope(|scope| {
            let publisher = self.publisher(scope, &publishing, stop)?;
            let watched = watcher.until_end(&handle, stop);
            let published = publisher.join().map_err(|panic| Failure::panicked("the publisher", &*panic))?;
            published.and(watched)
        });
        if published.is_err() {
            handle.stop();
        }
        let ended = handle.join();
        published?;
        ended?;
        watcher.rest()?;
        publishing.end("");
        forecasting.end("");
        let Watcher { board, model, files, maps, .. } = watcher;
        Ok(Outcome { board, model, files, maps, took: started.elapsed() })
    }

    /// A forecast from the store.
    fn fetch(&self, href: &str) -> anyhow::Result<Forecast> {
        let bytes = self.store.get(href, LARGEST)?;
        let limits = Limits { max_bytes: LARGEST as usize, ..Limits::default() };
        let (forecast, _) = forecast_from_bytes(&bytes, &limits).with_context(|| href.to_owned())?;
        Ok(forecast)
    }

    /// Writes a map of an issue time and says where.
    fn write_map(&self, name: &str, issue_time: IssueTime, page: &[u8]) -> anyhow::Result<PathBuf> {
        let time = issue_time.to_rfc3339().replace([':', '-'], "");
        let path = self.output.join("maps").join(format!("{name}-{time}.png"));
        write_file(&path, page)?;
        Ok(path)
    }

    /// Publishes the event on a thread of its own.
    fn publisher<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        task: &'s Task,
        stop: &'s Stop,
    ) -> anyhow::Result<ScopedJoinHandle<'s, anyhow::Result<()>>> {
        let publish = move || {
            let source = &*self.config.streams.first().context("the demo has a stream")?.source;
            let mut writer = self.connect.writer()?;
            let order = Arrivals::default().order(self.event.frames.iter().map(|frame| frame.slot));
            let (started, first) = (Instant::now(), order.first().map_or(0, |(_, arrival)| *arrival));
            let mut last = first;
            for (place, arrival) in order {
                if !self.speed.wait(started, arrival - first, stop) {
                    break;
                }
                let frame = &self.event.frames[place];
                let partition = Spread::Slot.partition(frame.slot, source, source.partitions);
                writer.send(record(&self.config, source, frame, arrival, partition, Format::Netcdf)?)?;
                task.step(frame.slot.to_string());
                last = arrival;
            }
            for partition in 0..source.partitions {
                writer.send(end_of_log(source, partition, last))?;
            }
            writer.flush(Duration::from_secs(60))?;
            Ok(())
        };
        Ok(std::thread::Builder::new().name("publisher".into()).spawn_scoped(scope, publish)?)
    }
}

/// Reads the index topic and looks at each forecast.
struct Watcher<'a> {
    demo: &'a Demo,
    stream: &'a StreamConfig,
    dashboard: &'a Dashboard,
    task: &'a Task,
    reader: Box<dyn LogReader>,
    board: Board,
    model: String,
    files: BTreeMap<IssueTime, String>,
    maps: usize,
}

impl<'a> Watcher<'a> {
    fn new(demo: &'a Demo, stream: &'a StreamConfig, dashboard: &'a Dashboard, task: &'a Task) -> anyhow::Result<Self> {
        let mut reader = demo.connect.reader(1 << 20)?;
        let partitions = reader.partitions(&stream.topics.index)?;
        let start: Vec<_> = partitions.into_iter().map(|partition| (partition, 0)).collect();
        reader.assign(&start)?;
        let (board, model, files) = (Board::new(EVENT_MM_H)?, String::new(), BTreeMap::new());
        Ok(Self { demo, stream, dashboard, task, reader, board, model, files, maps: 0 })
    }

    /// Until the runtime has ended; a stop ends it.
    fn until_end(&mut self, handle: &Handle, stop: &Stop) -> anyhow::Result<()> {
        let mut asked = false;
        while !handle.is_finished() {
            if stop.is_set() && !asked {
                handle.stop();
                asked = true;
            }
            if let Some(record) = self.reader.poll(Duration::from_millis(50))?
                && !asked
            {
                self.look(&record)?;
            }
        }
        Ok(())
    }

    /// What was committed last, after the end.
    fn rest(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LAST;
        for partition in self.reader.partitions(&self.stream.topics.index)? {
            let end = self.reader.end_offset(&partition)?;
            while self.reader.position(&partition)? < end && Instant::now() < deadline {
                if let Some(record) = self.reader.poll(Duration::from_millis(50))? {
                    self.look(&record)?;
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, record: &Record) -> anyhow::Result<()> {
        let Some(value) = &record.value else { return Ok(()) };
        let index: serde_json::Value = serde_json::from_slice(value).context("an index record is JSON")?;
        let href = index["links"][0]["href"].as_str().context("an index record points at a file")?;
        let forecast = self.demo.fetch(href)?;
        self.files.insert(forecast.id.issue_time, href.to_owned());
        self.board.add(&forecast, |time| self.demo.event.frames.iter().find(|f| f.slot == time).map(|f| &**f));
        let map = self.draw(&forecast)?;
        self.model.clone_from(&forecast.provenance.model);
        let issued = forecast.id.issue_time;
        let (members, leads) = (forecast.members(), forecast.leads.len());
        let degraded = if forecast.is_degraded() { ", degraded" } else { "" };
        let line = format!("{issued}  {members} members x {leads} leads{degraded}  {}", map.display());
        self.dashboard.line(&line);
        self.task.step(issued.to_string());
        Ok(())
    }

    fn draw(&mut self, forecast: &Forecast) -> anyhow::Result<PathBuf> {
        let observed = |time| self.demo.event.at(time);
        let page = maps::forecast::page(forecast, self.stream, &observed)?;
        self.maps += 1;
        self.demo.write_map(&forecast.id.stream, forecast.id.issue_time, &page)
    }
}

impl Outcome {
    /// The last words: scores, what they say, and where everything lies.
    pub fn summary(&self, output: &Path) -> String {
        let mut text = String::from("\n");
        if let Some((model, persistence)) = self.board.crps() {
            let gain = 100.0 * (1.0 - model / persistence);
            let verdict = if gain >= 0.0 { format!("{gain:.0} % less") } else { format!("{:.0} % more", -gain) };
            text += &self.board.table();
            text += &format!("\nThe error (CRPS) of {} is {verdict} than that of persistence.\n", self.model);
        } else {
            text += "No forecast could be scored.\n";
        }
        let (count, seconds) = (self.board.forecasts(), self.took.as_secs_f64());
        text += &format!(
            "{count} forecasts in {seconds:.0} s; {} maps and every forecast are in {}\n",
            self.maps,
            output.display()
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Product};
    use squall_connectors::memory::MemoryLog;

    /// The demo's own configuration on a small storm.
    fn demo(folder: &Path, frames: usize) -> Demo {
        let text = include_str!("../../../configs/demo.toml");
        let layers = Layers::from_text("configs/demo.toml", text)
            .set(format!("store.url={}", folder.join("forecasts").display()))
            .set("streams.rain.leads=3")
            .set("streams.rain.members=2");
        let config = layers.load().unwrap();
        let store = crate::connect::store(&config).unwrap();
        let connect = Arc::new(MemoryLog::new());
        let event = Event::choose(None, frames, 256).unwrap();
        Demo { config, event, speed: Speed::Max, output: folder.to_owned(), connect, store }
    }

    #[test]
    fn one_forecast_a_full_window_drawn_and_scored() {
        let folder = tempfile::tempdir().unwrap();
        let demo = demo(folder.path(), 6);
        assert!(demo.config.streams[0].wants(Product::Ensemble));
        let (stop, _stopper) = Stop::by_hand();
        let outcome = demo.play(&Dashboard::silent(), &stop).unwrap();
        assert_eq!((outcome.board.forecasts(), outcome.maps), (4, 4));
        let summary = outcome.summary(folder.path());
        assert!(summary.contains("+15 min") && summary.contains("4 forecasts"), "{summary}");
        let (model, persistence) = outcome.board.crps().unwrap();
        assert!(model < persistence, "a storm that moves: {model} {persistence}");
    }

    #[test]
    fn a_stop_ends_it_early_and_cleanly() {
        let folder = tempfile::tempdir().unwrap();
        let mut demo = demo(folder.path(), 200);
        demo.speed = Speed::Times(60.0);
        let (stop, stopper) = Stop::by_hand();
        drop(stopper);
        let outcome = demo.play(&Dashboard::silent(), &stop).unwrap();
        assert!(outcome.board.forecasts() < 197);
    }
}
