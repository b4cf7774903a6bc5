//! The observations of a topic as an event: which windows fired when, and what came then. A file whose frames come late by
//! chance is one, too ([`TopicEvent::of_archive`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use sha2::{Digest, Sha256};
use squall_fields::{Cadence, Frame, IssueTime, KnowledgeTime, ValidTime, Window};
use squall_operators::window::{Fired, Windowed};

use super::contestants::Contestants;
use crate::frames::{FrameFile, Frames};
use crate::runtime::{Parts, read_to_end};

/// What a topic held when it was read.
pub struct TopicEvent {
    /// Name of the source.
    pub name: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The newest frame of each slot.
    pub newest: BTreeMap<ValidTime, usize>,
    /// The windows of each stream, as they fired first.
    pub windows: Vec<BTreeMap<IssueTime, FirstFired>>,
    /// Tells it from what the topic holds later.
    pub identity: String,
    pub(super) frames: Box<dyn Frames>,
}

/// A window as it fired first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstFired {
    /// When it did.
    pub known_at: KnowledgeTime,
    /// Oldest first.
    pub frames: Vec<Option<usize>>,
    /// The wind that steers it.
    pub steering: Option<usize>,
}

impl FirstFired {
    /// The same with its frames and its wind.
    pub fn fired(
        &self,
        issue_time: IssueTime,
        cadence: Cadence,
        frames: Vec<Option<Arc<Frame>>>,
        steering: Option<Arc<Frame>>,
    ) -> Fired {
        let window = Window { issue_time, cadence, frames, steering }.into();
        Fired { window, revision: 0, known_at: self.known_at, read_at_us: 0, trace: None }
    }
}

impl Frames for TopicEvent {
    fn frame(&self, place: usize) -> anyhow::Result<Frame> {
        self.frames.frame(place)
    }
}

/// A frame of a record: partition, offset, slot.
type Id = (i32, i64, ValidTime);

struct Gathering {
    frames: FrameFile,
    places: HashMap<Id, usize>,
    winds: HashMap<(Arc<str>, Id), usize>,
    newest: BTreeMap<ValidTime, usize>,
    windows: Vec<BTreeMap<IssueTime, FirstFired>>,
    identity: Sha256,
}

fn id(frame: &Frame) -> Id {
    (frame.input.partition, frame.input.offset, frame.slot)
}

impl Gathering {
    fn take(&mut self, stream: usize, known_at: KnowledgeTime, windowed: &Windowed) -> anyhow::Result<()> {
        match windowed {
            Windowed::Observed(observed) => {
                let frame = &observed.frame;
                let place = match self.places.get(&id(frame)) {
                    Some(place) => *place,
                    None => {
                        let place = self.frames.keep(frame)?;
                        self.places.insert(id(frame), place);
                        place
                    }
                };
                if stream == 0 {
                    self.newest.insert(frame.slot, place);
                    let topic = observed.origin.topic_id.as_deref().unwrap_or_default();
                    let what = format!("{topic} {:?} {} {}\n", id(frame), known_at.unix_ms(), frame.input.digest);
                    self.identity.update(what);
                }
            }
            Windowed::Fired(fired) if fired.revision == 0 => {
                let place = |frame: &Option<Arc<Frame>>| frame.as_ref().and_then(|f| self.places.get(&id(f)).copied());
                let frames = fired.window.frames.iter().map(place).collect();
                let steering = fired.window.steering.as_ref().map(|wind| self.wind(wind)).transpose()?;
                let first = FirstFired { known_at: fired.known_at, frames, steering };
                self.windows[stream].entry(fired.window.issue_time).or_insert(first);
            }
            Windowed::Fired(_) | Windowed::Dead(_) | Windowed::Mark(_) => {}
        }
        Ok(())
    }

    /// Where a wind lies.
    fn wind(&mut self, wind: &Frame) -> anyhow::Result<usize> {
        let key = (wind.input.topic.clone(), id(wind));
        if let Some(place) = self.winds.get(&key) {
            return Ok(*place);
        }
        let place = self.frames.keep(wind)?;
        self.winds.insert(key, place);
        Ok(place)
    }

    /// Takes note of which wind steers which window, in an order that does not depend on who was read first.
    fn note_steering(&mut self) {
        let winds: HashMap<usize, &(Arc<str>, Id)> = self.winds.iter().map(|(key, place)| (*place, key)).collect();
        for (stream, windows) in self.windows.iter().enumerate() {
            for (time, first) in windows {
                if let Some(wind) = first.steering.and_then(|place| winds.get(&place)) {
                    self.identity.update(format!("{stream} {time} steered by {wind:?}\n"));
                }
            }
        }
    }
}

impl TopicEvent {
    /// Reads the topic of the source of all contestants.
    ///
    /// # Errors
    /// The topic cannot be read, or has no frame that can be used.
    pub fn read(contestants: &Contestants, parts: &Parts) -> anyhow::Result<Self> {
        let (config, streams) = (&contestants.config, contestants.streams());
        let source = &streams[0].source;
        let gathering = Gathering {
            frames: FrameFile::new(&config.store.scratch_folder())?,
            places: HashMap::new(),
            winds: HashMap::new(),
            newest: BTreeMap::new(),
            windows: vec![BTreeMap::new(); streams.len()],
            identity: Sha256::new(),
        };
        let gathering = Arc::new(Mutex::new(gathering));
        let of_each = gathering.clone();
        read_to_end(config, parts, streams, move |stream, known_at, windowed| {
            of_each.lock().unwrap_or_else(PoisonError::into_inner).take(stream, known_at, &windowed)
        })?;
        let gathering = Arc::into_inner(gathering).context("the reading of a topic that has ended")?;
        let mut gathering = gathering.into_inner().unwrap_or_else(PoisonError::into_inner);
        gathering.note_steering();
        let Gathering { frames, newest, windows, identity, .. } = gathering;
        anyhow::ensure!(!newest.is_empty(), "topic {} has no frame that can be used", source.topic);
        Ok(Self {
            name: source.name.clone(),
            topic: source.topic.clone(),
            newest,
            windows,
            identity: hex::encode(identity.finalize()),
            frames: Box::new(frames),
        })
    }

    /// How long after its issue time the last of all streams had its window; `None` if one of them never had.
    pub fn delay_ms(&self, time: IssueTime) -> Option<i64> {
        let known = self.windows.iter().map(|windows| windows.get(&time).map(|first| first.known_at.unix_ms()));
        let last = known.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        Some(last as i64 - time.unix_seconds() * 1000)
    }
}
