//! A file of an archive, or a topic, as an event that is forecast.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use squall_connectors::options::ReadOptions;
use squall_fields::{Cadence, Frame, Grid, IssueTime, ValidTime};
use squall_operators::window::Fired;

use super::topic::TopicEvent;
use super::truth::Truth;
use crate::archive::Archive;
use crate::config::StreamConfig;
use crate::demo::event::{cut, cut_grid, wettest};
use crate::frames::Frames;
use crate::publish::Arrivals;
use crate::training::DataFile;
use crate::verify::stem;

/// What an event is read from.
#[derive(Clone)]
pub enum Input {
    /// A file, every frame of which counts as known when it arrives: at its slot, or a delay after it.
    File(DataFile),
    /// A topic, whose frames are known when the timestamps of its records say.
    Topic(Arc<TopicEvent>),
}

impl Input {
    /// The name of the event: that of the file without its ending, or of the source.
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::File(part) => stem(&part.file).into(),
            Self::Topic(topic) => topic.name.clone(),
        }
    }

    /// Where it lies, for people.
    pub fn place(&self) -> String {
        match self {
            Self::File(part) => part.file.display().to_string(),
            Self::Topic(topic) => format!("topic {}", topic.topic),
        }
    }

    /// What tells it from what it was before: another has other results.
    ///
    /// # Errors
    /// The file is not there.
    pub fn identity(&self) -> anyhow::Result<String> {
        match self {
            Self::File(part) => {
                let path = part.find()?;
                let file = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
                Ok(format!("{:?}", (file.len(), file.modified().ok(), part.from, part.until)))
            }
            Self::Topic(topic) => Ok(topic.identity.clone()),
        }
    }

    /// Opens it; of a large field the square of `side` cells is forecast where it rains most in the middle of the event. A
    /// file whose frames are not all delayed alike is read once, for the windows of the streams.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(
        &self,
        options: &ReadOptions,
        side: Option<usize>,
        arrivals: &Arrivals,
        streams: &[StreamConfig],
    ) -> anyhow::Result<Event> {
        match self {
            Self::File(part) if arrivals.jitter.is_zero() => Event::open(part, options, side),
            Self::File(part) => {
                let (name, archive, places) = archive(part, options)?;
                let arrived = TopicEvent::of_archive(name.clone(), archive, &places, arrivals, streams)?;
                let arrived = Arc::new(arrived);
                Event::of(name, arrived.clone(), arrived.newest.clone(), side, Some(arrived))
            }
            Self::Topic(topic) => {
                Event::of(topic.name.clone(), topic.clone(), topic.newest.clone(), side, Some(topic.clone()))
            }
        }
    }
}

/// A file with the places of the slots that count, and what it is called.
fn archive(part: &DataFile, options: &ReadOptions) -> anyhow::Result<(Arc<str>, Archive, BTreeMap<ValidTime, usize>)> {
    let path = &part.find()?;
    let archive = Archive::open(&[path], options)?.without_duplicates();
    let slots = archive.slots().enumerate().filter(|(_, slot)| part.holds(*slot));
    let places = slots.map(|(place, slot)| (slot, place)).collect();
    Ok((stem(path).into(), archive, places))
}

/// Frames of a file or a topic, read as they are needed. Clones read by themselves.
#[derive(Clone)]
pub struct Event {
    /// What it is called.
    pub name: Arc<str>,
    frames: Arc<dyn Frames>,
    /// The frame of each slot: of several the newest.
    places: BTreeMap<ValidTime, usize>,
    /// When windows fired, of a topic, or of a file whose frames are not all delayed alike.
    topic: Option<Arc<TopicEvent>>,
    /// The part of the grid that is forecast, and where it begins.
    part: Option<(Arc<Grid>, (usize, usize))>,
    /// Frames that were read and may be needed again.
    kept: BTreeMap<(ValidTime, usize), Arc<Frame>>,
    /// What forecasts are compared with, if not these frames.
    truth: Option<Truth>,
    /// Frames of it that were read and may be needed again.
    compared: BTreeMap<ValidTime, Arc<Frame>>,
}

impl Event {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(file: &DataFile, options: &ReadOptions, side: Option<usize>) -> anyhow::Result<Self> {
        let (name, archive, places) = archive(file, options)?;
        Self::of(name, Arc::new(archive), places, side, None)
    }

    fn of(
        name: Arc<str>,
        frames: Arc<dyn Frames>,
        places: BTreeMap<ValidTime, usize>,
        side: Option<usize>,
        topic: Option<Arc<TopicEvent>>,
    ) -> anyhow::Result<Self> {
        let middle = places.values().nth(places.len() / 2).context("there is no frame")?;
        let part = match side {
            Some(side) => {
                let middle = frames.frame(*middle)?;
                let corner = wettest(&middle, side);
                Some((Arc::new(cut_grid(&middle.grid, corner, side)), corner))
            }
            None => None,
        };
        let (kept, compared) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { name, frames, places, topic, part, kept, truth: None, compared })
    }

    /// Has forecasts compared with other frames than these.
    ///
    /// # Errors
    /// They lie on another grid, or cannot be read.
    pub fn compared_with(self, truth: Option<Truth>) -> anyhow::Result<Self> {
        if let Some(truth) = &truth {
            let first = self.places.values().next().context("there is no frame")?;
            truth.check(&self.frames.frame(*first)?.grid)?;
        }
        Ok(Self { truth, ..self })
    }

    /// The cadence of its slots: the least step between two.
    pub fn cadence(&self) -> Option<Cadence> {
        let slots: Vec<i64> = self.places.keys().map(|slot| slot.unix_seconds()).collect();
        let step = slots.windows(2).map(|pair| pair[1] - pair[0]).min()?;
        Cadence::every_seconds(u32::try_from(step).ok()?)
    }

    /// Issue times whose windows do not reach back before the first slot and of which a lead was observed, every so
    /// many slots.
    pub fn issue_times(&self, cadence: Cadence, window: usize, leads: usize, every: usize) -> Vec<IssueTime> {
        let Some(first) = self.places.keys().next() else { return Vec::new() };
        let oldest = cadence.step(*first, window as i64 - 1);
        let observed = |slot: &ValidTime| (1..=leads as i64).any(|lead| self.is_observed(cadence.step(*slot, lead)));
        let slots = self.places.keys().filter(|slot| **slot >= oldest && observed(slot));
        slots.step_by(every.max(1)).map(|slot| IssueTime::from(*slot)).collect()
    }

    /// Whether there is a frame of a slot.
    pub fn has(&self, slot: ValidTime) -> bool {
        self.places.contains_key(&slot)
    }

    /// Whether there is something to compare forecasts of a slot with.
    fn is_observed(&self, slot: ValidTime) -> bool {
        self.truth.as_ref().map_or_else(|| self.has(slot), |truth| truth.has(slot))
    }

    /// The first and the last slot.
    pub fn period(&self) -> Option<(ValidTime, ValidTime)> {
        Some((*self.places.keys().next()?, *self.places.keys().next_back()?))
    }

    /// The frame of a slot, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn frame(&mut self, slot: ValidTime) -> anyhow::Result<Option<Arc<Frame>>> {
        let Some(place) = self.places.get(&slot) else { return Ok(None) };
        self.at(slot, *place).map(Some)
    }

    /// What forecasts of a slot are compared with, if there is anything.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn observed(&mut self, slot: ValidTime) -> anyhow::Result<Option<Arc<Frame>>> {
        let Some(truth) = &self.truth else { return self.frame(slot) };
        if let Some(frame) = self.compared.get(&slot) {
            return Ok(Some(frame.clone()));
        }
        let Some(frame) = truth.frame(slot)? else { return Ok(None) };
        let frame = Arc::new(self.part_of(frame));
        self.compared.insert(slot, frame.clone());
        Ok(Some(frame))
    }

    /// The part of a frame that is forecast.
    fn part_of(&self, frame: Frame) -> Frame {
        match &self.part {
            Some((grid, corner)) => cut(frame, grid, *corner),
            None => frame,
        }
    }

    fn at(&mut self, slot: ValidTime, place: usize) -> anyhow::Result<Arc<Frame>> {
        if let Some(frame) = self.kept.get(&(slot, place)) {
            return Ok(frame.clone());
        }
        let frame = self.frames.frame(place).with_context(|| format!("cannot read {slot} of {}", self.name))?;
        let frame = Arc::new(self.part_of(frame));
        self.kept.insert((slot, place), frame.clone());
        Ok(frame)
    }

    /// Whether windows fire when its records say, and not a delay after their issue time.
    pub fn is_of_topic(&self) -> bool {
        self.topic.is_some()
    }

    /// How long after an issue time its windows are known, in milliseconds, where frames come with this delay unless their
    /// records say when; `None` if one of the windows never was.
    pub fn delay_ms(&self, time: IssueTime, delay: Duration) -> Option<i64> {
        match &self.topic {
            Some(topic) => topic.delay_ms(time),
            None => Some(delay.as_millis() as i64),
        }
    }

    /// The window of a stream, by its number, as it fired first; of a file none does.
    ///
    /// # Errors
    /// A frame cannot be read.
    pub fn fired(&mut self, stream: usize, time: IssueTime, cadence: Cadence) -> anyhow::Result<Option<Fired>> {
        let Some(topic) = self.topic.clone() else { return Ok(None) };
        let Some(window) = topic.windows.get(stream).and_then(|windows| windows.get(&time)) else { return Ok(None) };
        let count = window.frames.len() as i64;
        let mut frames = Vec::new();
        for (step, place) in (1 - count..=0).zip(&window.frames) {
            frames.push(place.map(|place| self.at(cadence.step(time.slot(), step), place)).transpose()?);
        }
        // A wind has a grid of its own, of which nothing is cut.
        let steering = window.steering.map(|place| topic.frame(place).map(Arc::new)).transpose()?;
        Ok(Some(window.fired(time, cadence, frames, steering)))
    }

    /// Forgets the frames before a slot.
    pub fn forget_before(&mut self, slot: ValidTime) {
        self.kept = self.kept.split_off(&(slot, 0));
        self.compared = self.compared.split_off(&slot);
    }
}
