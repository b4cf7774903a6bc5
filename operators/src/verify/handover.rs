//! What a stream tells its verification: which forecasts are committed, where their files lie, and how far it has come.
//!
//! Both are dataflows of one process with ledgers of their own, so that verification never holds up a forecast. It learns
//! of a forecast once that is committed, at the knowledge time of the forecast, and its own time never passes what the
//! stream has committed. So a crash of either loses nothing: what was committed and not yet judged lies, as
//! [`Whereabouts`], on the topic of progress.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use squall_fields::{Forecast, IssueTime, KnowledgeTime};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::SyncActivator;

use crate::Tick;
use crate::kept;
use crate::local::Local;
use crate::ports::Outgoing;
use crate::sink::Sent;
use crate::stream::StreamContext;

/// Where the file of a published forecast lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// Issue time.
    pub issue_time: IssueTime,
    /// Revision.
    pub revision: u32,
    /// When the input that completed it became known.
    pub known_at: KnowledgeTime,
    /// URL in the store.
    pub url: String,
}

impl PublishedFile {
    /// Of a forecast whose file was stored.
    pub fn of(forecast: &Forecast, url: String) -> Self {
        let (issue_time, revision) = (forecast.id.issue_time, forecast.id.revision);
        Self { issue_time, revision, known_at: forecast.known_at, url }
    }
}

/// Where a stream keeps the whereabouts of its forecasts, until they are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    topic: Arc<str>,
    prefix: String,
}

impl Whereabouts {
    /// Of a stream of an instance, on the topic of progress.
    pub fn new(topic: impl Into<Arc<str>>, instance: &str, stream: &str) -> Self {
        Self { topic: topic.into(), prefix: format!("{instance}/{stream}/published/") }
    }

    /// What the keys of its records begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key(&self, issue_time: IssueTime, revision: u32) -> String {
        format!("{}{}/{revision}", self.prefix, issue_time.unix_seconds())
    }

    /// The record that says where a file lies.
    pub fn record(&self, file: &PublishedFile) -> Outgoing {
        kept::record(&self.topic, self.key(file.issue_time, file.revision), Some(file))
    }

    /// The record that forgets it.
    pub fn forget(&self, issue_time: IssueTime, revision: u32) -> Outgoing {
        kept::record(&self.topic, self.key(issue_time, revision), None::<&()>)
    }
}

/// How far a stream has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Everything before this time, and it goes on.
    Time(Tick),
    /// Everything before this time; the rest is for the next start.
    Stopped(Tick),
    /// All that there is.
    End,
}

#[derive(Debug)]
struct State {
    reached: Reached,
    files: Vec<PublishedFile>,
    waker: Option<SyncActivator>,
}

/// Between the sink of a stream and its verification.
#[derive(Debug)]
pub struct Handover(Mutex<State>);

impl Handover {
    /// Of a stream that had committed everything before a time, and these files that are not judged yet.
    pub fn new(committed: KnowledgeTime, files: Vec<PublishedFile>) -> Self {
        Self(Mutex::new(State { reached: Reached::Time(committed.unix_ms()), files, waker: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These forecasts are committed.
    pub fn publish(&self, forecasts: &[Sent]) {
        self.state().files.extend(forecasts.iter().map(|sent| sent.file.clone()));
    }

    /// Everything before a time is committed.
    pub fn reach(&self, time: Tick) {
        self.change(|reached| match reached {
            Reached::Time(before) if time > before => Reached::Time(time),
            other => other,
        });
    }

    /// The stream ends: with its log, or before.
    pub fn end(&self, of_log: bool) {
        self.change(|reached| match reached {
            Reached::Time(_) if of_log => Reached::End,
            Reached::Time(time) => Reached::Stopped(time),
            other => other,
        });
    }

    fn change(&self, to: impl FnOnce(Reached) -> Reached) {
        let mut state = self.state();
        let before = state.reached;
        state.reached = to(before);
        if state.reached != before
            && let Some(waker) = &state.waker
        {
            let _ = waker.activate(); // a worker that is gone needs no waking
        }
    }

    fn wake(&self, waker: SyncActivator) {
        self.state().waker = Some(waker);
    }

    /// The files since the last call, and how far the stream has come with them.
    fn take(&self) -> (Vec<PublishedFile>, Reached) {
        let mut state = self.state();
        (std::mem::take(&mut state.files), state.reached)
    }
}

/// Brings what a stream has committed into the dataflow of its verification, on its home worker.
pub fn published<'scope>(
    scope: Scope<'scope, Tick>,
    handover: Option<Arc<Handover>>,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<PublishedFile>> {
    // A holder of time besides the source workers: see `SinkConfig::holders`.
    let holder = scope.peers();
    source(scope, "Published", move |root, info| {
        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let mut open: Option<(Capability<Tick>, Arc<Handover>)> = handover.map(|handover| {
            handover.wake(waker());
            (root, handover)
        });
        move |output| {
            if stream.control.is_done() {
                open = None;
            }
            let Some((capability, handover)) = &mut open else { return };
            let (files, reached) = handover.take();
            // In the order of their times; each is known no earlier than what was committed before it.
            let mut by_time: BTreeMap<Tick, Vec<PublishedFile>> = BTreeMap::new();
            for file in files {
                by_time.entry(file.known_at.unix_ms().max(*capability.time())).or_default().push(file);
            }
            for (time, files) in by_time {
                output.session(&capability.delayed(&time)).give_iterator(files.into_iter().map(Local));
            }
            let (time, is_over) = match reached {
                Reached::Time(time) => (Some(time), false),
                Reached::Stopped(time) => (Some(time), true),
                Reached::End => (None, true),
            };
            if let Some(time) = time.filter(|time| time > capability.time()) {
                capability.downgrade(&time);
            }
            if is_over {
                stream.control.hold(holder, time);
            }
            if time.is_none() {
                open = None;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_never_goes_back_and_ends_once() {
        let handover = Handover::new(KnowledgeTime::at(100), Vec::new());
        handover.reach(200);
        handover.reach(150);
        assert_eq!(handover.take().1, Reached::Time(200));
        handover.end(false);
        handover.reach(300);
        handover.end(true);
        assert_eq!(handover.take().1, Reached::Stopped(200));
    }

    #[test]
    fn whereabouts_are_kept_by_issue_time_and_revision_and_forgotten() {
        let whereabouts = Whereabouts::new("progress", "squall", "rain");
        let (issue_time, known_at) = (IssueTime::from_unix_seconds(300), KnowledgeTime::at(310_000));
        let file = PublishedFile { issue_time, revision: 1, known_at, url: "file:///x.nc".into() };
        let (kept, forgotten) = (whereabouts.record(&file), whereabouts.forget(file.issue_time, 1));
        assert_eq!(kept.key.as_deref(), Some(&b"squall/rain/published/300/1"[..]));
        assert_eq!((kept.key, forgotten.value), (forgotten.key, None));
        assert_eq!(serde_json::from_slice::<PublishedFile>(&kept.value.unwrap()).unwrap(), file);
    }
}
