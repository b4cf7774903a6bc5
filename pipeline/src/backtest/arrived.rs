//! A file whose frames come late by chance, as the topic that `squall publish` fills with it.
//!
//! Which windows are complete when they fire, and which wait for their patience, the cores of a stream decide then, from
//! the times at which the frames arrive. The frames themselves stay in the file, and are read again when they are needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::time::TICK_MS;
use squall_fields::{Frame, IssueTime, KnowledgeTime, ValidTime};
use squall_operators::knowledge::PartitionClock;
use squall_operators::quality::{CleanFrame, Cleaner, Quality};
use squall_operators::source::Origin;
use squall_operators::window::{Fired, Fresh, WindowBuffer};

use super::topic::{FirstFired, TopicEvent};
use crate::archive::Archive;
use crate::config::StreamConfig;
use crate::frames::Frames;
use crate::graph;
use crate::publish::Arrivals;

/// Frames of an archive as quality control lets them through.
pub(super) struct Cleaned {
    pub(super) archive: Archive,
    pub(super) cleaner: Cleaner,
}

impl Frames for Cleaned {
    fn frame(&self, place: usize) -> anyhow::Result<Frame> {
        let frame = Frames::frame(&self.archive, place)?;
        Ok(Arc::unwrap_or_clone(self.cleaner.clean(frame.into()).frame))
    }
}

/// The windows of one stream, in the order of a log.
struct Gate<'a> {
    quality: Quality,
    windows: WindowBuffer,
    places: &'a BTreeMap<ValidTime, usize>,
    /// What is known at the time that is being taken.
    fresh: Vec<Fresh>,
    first: BTreeMap<IssueTime, FirstFired>,
}

impl<'a> Gate<'a> {
    fn new(stream: &StreamConfig, places: &'a BTreeMap<ValidTime, usize>) -> Self {
        Self {
            quality: Quality::new(graph::quality_config(stream)),
            windows: WindowBuffer::new(graph::window_config(stream)),
            places,
            fresh: Vec::new(),
            first: BTreeMap::new(),
        }
    }

    /// Takes a frame, known at a time, if it is used; why not, if not.
    fn take(&mut self, known_at: KnowledgeTime, frame: CleanFrame) -> Result<(), String> {
        let (frame, _) =
            self.quality.check(frame, known_at).map_err(|(reason, detail)| format!("{reason}, {detail}"))?;
        self.fresh.push(Fresh { frame, origin: Origin::default(), read_at_us: 0 });
        Ok(())
    }

    /// All that is known at a time was taken.
    fn finish(&mut self, known_at: KnowledgeTime) {
        if self.fresh.is_empty() {
            return;
        }
        let due = self.windows.advance(known_at);
        let (fired, _) = self.windows.push(known_at, std::mem::take(&mut self.fresh));
        self.note(due.into_iter().chain(fired));
    }

    /// Time ends with the newest record, as in a topic that was read to its end.
    fn end(&mut self, known_at: KnowledgeTime) {
        self.finish(known_at);
        let due = self.windows.advance(KnowledgeTime::at(known_at.unix_ms() + TICK_MS));
        self.note(due.into_iter());
    }

    fn note(&mut self, fired: impl Iterator<Item = Fired>) {
        for Fired { window, known_at, .. } in fired.filter(|fired| fired.revision == 0) {
            let place = |frame: &Option<Arc<Frame>>| self.places.get(&frame.as_ref()?.slot).copied();
            let frames = window.frames.iter().map(place).collect();
            let first = FirstFired { known_at, frames, steering: None };
            self.first.entry(window.issue_time).or_insert(first);
        }
    }
}

impl TopicEvent {
    /// Reads every frame of an archive, of which the places of some slots count, in the order of arrival.
    ///
    /// # Errors
    /// A frame cannot be read, or none can be used.
    pub fn of_archive(
        name: Arc<str>,
        archive: Archive,
        places: &BTreeMap<ValidTime, usize>,
        arrivals: &Arrivals,
        streams: &[StreamConfig],
    ) -> anyhow::Result<Self> {
        let source = &streams[0].source;
        let cleaner = Cleaner::new(&graph::quality_config(&streams[0]));
        let mut gates: Vec<Gate<'_>> = streams.iter().map(|stream| Gate::new(stream, places)).collect();
        let (mut clock, mut newest) = (PartitionClock::default(), BTreeMap::new());
        let taken: Vec<(ValidTime, usize)> = places.iter().map(|(slot, place)| (*slot, *place)).collect();
        for (number, arrival) in arrivals.order(taken.iter().map(|(slot, _)| *slot)) {
            let (slot, place) = taken[number];
            let before = clock.newest();
            let known_at = clock.stamp(arrival, 0);
            if known_at != before {
                gates.iter_mut().for_each(|gate| gate.finish(before));
            }
            let frame = cleaner.clean(Arc::new(Frames::frame(&archive, place)?));
            for (stream, gate) in gates.iter_mut().enumerate() {
                match gate.take(known_at, frame.clone()) {
                    Ok(()) if stream == 0 => drop(newest.insert(slot, place)),
                    Err(reason) if stream == 0 => tracing::warn!("{name}: frame refused: {slot}: {reason}"),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        gates.iter_mut().for_each(|gate| gate.end(clock.newest()));
        anyhow::ensure!(!newest.is_empty(), "{name} has no frame that can be used");
        let windows = gates.into_iter().map(|gate| gate.first).collect();
        let (topic, frames) = (source.topic.clone(), Box::new(Cleaned { archive, cleaner }));
        // What it is follows from the file and the settings, which whoever compares knows.
        Ok(Self { name, topic, newest, windows, identity: String::new(), frames })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use squall_connectors::netcdf::{Storage, WriteOptions, write_frames};
    use squall_fields::Variable;
    use squall_models::simulate::StormSettings;

    use super::*;
    use crate::archive::read_options;
    use crate::commands::simulate::frames;
    use crate::config::Layers;

    const CONFIG: &str = r#"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "radar"
window_frames = 3
patience = "3 min"
leads = 2
members = 1
thresholds = [1.0]
model = { name = "persistence" }
"#;

    #[test]
    fn a_window_holds_what_had_arrived_when_it_fired_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StormSettings { rows: 32, columns: 32, ..StormSettings::default() };
        let path = folder.path().join("storm.nc");
        let exact = WriteOptions { storage: Storage::Float, ..WriteOptions::default() };
        write_frames(&path, &frames(settings, 40, &[Variable::RainRate]), "storm", &exact).unwrap();
        let config = Layers::from_text("t.toml", CONFIG).load().unwrap();
        let stream = &config.streams[0];
        let of = |jitter: Duration| {
            let arrivals = Arrivals { delay: Duration::from_secs(60), jitter, seed: 5 };
            let archive = Archive::open(&[&path], &read_options(&stream.source)).unwrap();
            let places: BTreeMap<_, _> = archive.slots().enumerate().map(|(place, slot)| (slot, place)).collect();
            let event = TopicEvent::of_archive("storm".into(), archive, &places, &arrivals, &config.streams).unwrap();
            assert_eq!(event.newest, places);
            (event, arrivals, places)
        };
        let (even, _, places) = of(Duration::ZERO);
        assert_eq!(even.windows[0].len(), 38);
        let slots: Vec<ValidTime> = places.keys().copied().collect();
        for (issue_time, window) in &even.windows[0] {
            assert_eq!(even.delay_ms(*issue_time), Some(60_000));
            assert!(window.frames.iter().all(Option::is_some), "{issue_time}");
        }

        let (late, arrivals, _) = of(Duration::from_secs(900));
        let mut incomplete = 0;
        for (issue_time, window) in &late.windows[0] {
            let newest = slots.iter().position(|slot| *slot == issue_time.slot()).unwrap();
            for (slot, frame) in slots[newest - 2..=newest].iter().zip(&window.frames) {
                // Arrivals are known in ticks.
                let arrived = KnowledgeTime::from_unix_ms(arrivals.of(*slot)) <= window.known_at;
                assert_eq!(frame.is_some(), arrived, "{slot} in the window of {issue_time}");
            }
            incomplete += usize::from(window.frames.iter().any(Option::is_none));
        }
        assert!(incomplete > 0, "frames overtake others");
        let (again, ..) = of(Duration::from_secs(900));
        assert_eq!(again.windows, late.windows);
    }
}
