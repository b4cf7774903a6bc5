//! Starting is easy; this is how a dataflow ends.
//!
//! A stream ends in one of three ways. Its log ends (a replay): time moves to the newest knowledge time of all
//! partitions, what is due by then fires, everything is committed. Or it is asked to stop: sources stop reading but
//! *hold* their time, so that nothing fires merely because the program ends; what is in flight drains, is committed,
//! and only then everything is dropped. Or it fails: everything is dropped at once and nothing more is committed.

mod frontiers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use squall_fields::{Chain, Failure};
use timely::scheduling::SyncActivator;

pub use self::frontiers::Frontiers;
use crate::Tick;

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const DONE: u8 = 2;

/// The phase of one stream: running, stopping, done. Shared by its operators on all workers of the process and by its
/// threads; what other processes of a cluster must know is told to them ([`Control::tell`], [`Control::apply`]).
#[derive(Default)]
pub struct Control {
    phase: AtomicU8,
    shared: Mutex<Shared>,
    changed: Condvar,
    outside: OnceLock<Box<Tell>>,
}

/// Tells the other processes of a cluster what has changed in this one.
pub type Tell = dyn Fn(Change) + Send + Sync;

/// What the processes of a cluster tell each other about a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was asked to stop.
    Stop,
    /// It failed, for a reason that is told in words.
    Fail(String),
    /// Everything that will be committed is committed.
    Finish,
    /// A source worker holds a time since the stream was asked to stop, or none.
    Hold(usize, Option<Tick>),
}

#[derive(Debug, Default)]
struct Shared {
    /// When it was asked to stop.
    stopping: Option<Instant>,
    /// Time that each source worker still holds since it was asked to stop; `None` if it holds none.
    held: BTreeMap<usize, Option<Tick>>,
    failure: Option<Failure>,
    wakers: Vec<SyncActivator>,
    /// Other streams of the program, which stop when this one fails.
    others: Vec<Weak<Control>>,
}

impl Control {
    /// A stream that runs.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to stop after committing what is in flight. Returns at once.
    pub fn stop(&self) {
        if self.begin_stop() {
            self.tell_others(Change::Stop);
        }
    }

    /// Begins to stop; whether it did not before.
    fn begin_stop(&self) -> bool {
        let begins = self.phase.compare_exchange(RUNNING, STOPPING, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        self.shared().stopping.get_or_insert_with(Instant::now);
        self.wake();
        begins
    }

    /// Drops everything; the first failure given is the reason. Linked streams are asked to stop.
    pub fn fail(&self, failure: Failure) {
        let reason = Chain(&failure).to_string();
        if self.end_by(failure) {
            self.tell_others(Change::Fail(reason));
        }
    }

    /// Ends by a failure; whether it had not ended before.
    fn end_by(&self, failure: Failure) -> bool {
        let others = {
            let mut shared = self.shared();
            if shared.failure.is_none() {
                tracing::error!(kind = %failure.kind(), failure = %Chain(&failure), "a stream fails");
                shared.failure = Some(failure);
            }
            shared.others.clone()
        };
        let ends = self.end();
        for other in others.iter().filter_map(Weak::upgrade) {
            other.stop();
        }
        ends
    }

    /// Streams that are asked to stop when this one fails.
    pub fn link(&self, others: Vec<Weak<Control>>) {
        self.shared().others = others;
    }

    /// Everything that will be committed is committed: operators drop what they hold.
    pub fn finish(&self) {
        if self.end() {
            self.tell_others(Change::Finish);
        }
    }

    /// Has operators drop what they hold; whether they were not told before.
    fn end(&self) -> bool {
        let before = self.phase.swap(DONE, Ordering::SeqCst);
        self.wake();
        before != DONE
    }

    /// Who is told what changes here; to be given before the stream runs.
    pub fn tell(&self, outside: Box<Tell>) {
        let _ = self.outside.set(outside); // the first one stays
    }

    fn tell_others(&self, change: Change) {
        if let Some(tell) = self.outside.get() {
            tell(change);
        }
    }

    /// Takes over what has changed in another process, of which a failure is made here.
    pub fn apply(&self, change: Change, failed: impl FnOnce(String) -> Failure) {
        match change {
            Change::Stop => self.begin_stop(),
            Change::Fail(reason) => self.end_by(failed(reason)),
            Change::Finish => self.end(),
            Change::Hold(worker, oldest) => self.hold_of(worker, oldest),
        };
    }

    /// Whether sources may read.
    pub fn is_running(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == RUNNING
    }

    /// Whether sources hold their time while the rest drains.
    pub fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == STOPPING
    }

    /// Whether operators must drop what they hold.
    pub fn is_done(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == DONE
    }

    /// How long ago it was asked to stop, if it was.
    pub fn stopping_for(&self) -> Option<Duration> {
        self.shared().stopping.map(|since| since.elapsed())
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.shared().failure.clone()
    }

    /// Activates an operator whenever the phase changes.
    pub fn register(&self, waker: SyncActivator) {
        self.shared().wakers.push(waker);
    }

    fn wake(&self) {
        let shared = self.shared();
        self.changed.notify_all();
        for waker in &shared.wakers {
            let _ = waker.activate(); // a worker that is gone needs no waking
        }
    }

    /// Waits on a thread of the stream for as long as it runs, at most this long; whether it still runs.
    pub fn pause_while_running(&self, limit: Duration) -> bool {
        self.pause(limit, Self::is_running)
    }

    /// Waits on a thread of the stream until it is done, at most this long; whether it goes on.
    pub fn pause_until_done(&self, limit: Duration) -> bool {
        self.pause(limit, |control| !control.is_done())
    }

    fn pause(&self, limit: Duration, goes_on: impl Fn(&Self) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.shared(), limit, |_| goes_on(self));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        goes_on(self)
    }

    /// A source worker says what it holds since it was asked to stop.
    pub fn hold(&self, worker: usize, oldest: Option<Tick>) {
        if self.hold_of(worker, oldest) {
            self.tell_others(Change::Hold(worker, oldest));
        }
    }

    fn hold_of(&self, worker: usize, oldest: Option<Tick>) -> bool {
        let fresh = self.shared().held.insert(worker, oldest) != Some(oldest);
        if fresh {
            self.wake();
        }
        fresh
    }

    /// The oldest time held by any source once all `workers` have said so: `Some(None)` if none is held.
    pub fn held(&self, workers: usize) -> Option<Option<Tick>> {
        let shared = self.shared();
        (shared.held.len() == workers).then(|| shared.held.values().flatten().min().copied())
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { phase, shared, .. } = self;
        f.debug_struct("Control").field("phase", phase).field("shared", shared).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_fields::ErrorKind;

    #[test]
    fn stops_once_every_worker_has_said_what_it_holds() {
        let control = Control::new();
        assert!(control.is_running() && control.stopping_for().is_none());
        control.stop();
        assert!(control.is_stopping() && control.stopping_for().is_some());
        control.hold(0, Some(200));
        assert_eq!(control.held(2), None);
        control.hold(1, None);
        assert_eq!(control.held(2), Some(Some(200)));
        control.finish();
        control.stop();
        assert!(control.is_done(), "a late stop does not revive it");
    }

    #[test]
    fn keeps_the_first_failure() {
        let control = Control::new();
        control.fail(Failure::new(ErrorKind::Fenced, "fenced"));
        control.fail(Failure::new(ErrorKind::Internal, "later"));
        assert_eq!(control.failure().map(|failure| failure.kind()), Some(ErrorKind::Fenced));
        assert!(control.is_done());
    }

    #[test]
    fn what_changes_is_told_once_and_what_others_told_is_not_told_back() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (control, of_tell) = (Control::new(), told.clone());
        control.tell(Box::new(move |change| of_tell.lock().unwrap().push(change)));
        let peer = |reason| Failure::new(ErrorKind::Internal, reason);
        control.apply(Change::Hold(1, Some(200)), peer);
        control.apply(Change::Stop, peer);
        control.stop();
        control.hold(0, None);
        control.hold(0, None);
        assert_eq!(control.held(2), Some(Some(200)));
        control.fail(Failure::new(ErrorKind::Fenced, "fenced").because("by a newer one"));
        control.apply(Change::Fail("process 1 failed".into()), peer);
        assert_eq!(*told.lock().unwrap(), [Change::Hold(0, None), Change::Fail("fenced: by a newer one".into())]);
        assert_eq!(control.failure().map(|failure| failure.kind()), Some(ErrorKind::Fenced));
    }

    #[test]
    fn a_pause_ends_with_the_stream() {
        let control = Control::new();
        let long = Duration::from_secs(600);
        assert!(control.pause_while_running(Duration::from_millis(1)));
        let (ending, begun) = (control.clone(), Instant::now());
        let thread = std::thread::spawn(move || ending.stop());
        assert!(!control.pause_while_running(long));
        assert!(control.pause_until_done(Duration::from_millis(1)), "it is stopping, not done");
        thread.join().unwrap();
        control.finish();
        assert!(!control.pause_until_done(long) && begun.elapsed() < long / 10);
    }
}
